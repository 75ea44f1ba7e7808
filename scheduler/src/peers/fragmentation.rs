//! Fragmentation: how much of a node's free GPU the tasks that usually come could not use.
//!
//! For a node `n` and a typical task `m` that asks for `c` devices, `g` milli-GPU of each:
//!
//! ```text
//! F_n(m) = all that is free on n's devices     if n has too little CPU, too few devices with g free, or
//!                                              GPUs of another type; or if m asks for no GPU
//!        = what is free on devices with less than g free, summed     otherwise
//! F_n(M) = Σ p_m · F_n(m)                      in milli-GPU, 0 ..= what is free on n's devices
//! ```
//!
//! To a task without GPUs all free GPU is a fragment: none of it serves the task. `p_m` is the share of
//! `m` among the typical tasks: those of the kinds (CPU, GPUs, hard constraints) that are most frequent
//! in the cell's jobs, as many kinds as make up 95 % of the tasks. RAM does not count, as in the paper's
//! simulator.
//! Source: Weng et al. (ATC '23) §4; its simulator's `frag.go`, with the settings of its experiments.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use cell::{Cell, Constraint, GpuRequest, JobKind, MachineId};

use super::gpu_host::{GpuHost, WHOLE};
use crate::score::HostView;
use crate::snapshot::{Snapshot, exact};

/// The share of tasks that the typical ones make up, in percent (`podPopularityThreshold`).
const POPULAR_PERCENT: usize = 95;

/// The typical tasks of a cell, and what of a machine's free GPU is a fragment to them.
#[derive(Clone, Debug)]
pub struct Fragmentation {
    /// For each set of typical tasks that some machine's attributes allow, what they ask for.
    workloads: Vec<Workload>,
    /// Index among the workloads by machine.
    workload_of: Vec<usize>,
}

/// Typical tasks, as a machine sees them that its attributes let run some.
#[derive(Clone, Debug, PartialEq)]
struct Workload {
    /// Share of the tasks that ask for no GPU, or may not run here.
    without: f64,
    groups: Vec<Group>,
}

/// Typical tasks that ask for the same GPUs.
#[derive(Clone, Debug, PartialEq)]
struct Group {
    count: usize,
    /// Of each device.
    milli: u16,
    /// By ascending CPU: the CPU, and the share of all tasks that ask for at most that and these GPUs.
    up_to_cpu: Vec<(f64, f64)>,
}

impl Group {
    /// The share of tasks whose CPU fits, and of all tasks of the group.
    fn shares(&self, free_cpu: f64) -> (f64, f64) {
        let fitting = self.up_to_cpu.partition_point(|&(cpu, _)| cpu <= free_cpu);
        let fits = if fitting == 0 { 0.0 } else { self.up_to_cpu[fitting - 1].1 };
        (fits, self.up_to_cpu.last().map_or(0.0, |&(_, share)| share))
    }
}

/// A kind of task: CPU, GPUs, hard constraints.
type Kind = (i64, GpuRequest, Vec<Constraint>);

impl Fragmentation {
    /// By the tasks of a snapshot's cell, whether they are placed or not; those tied to a machine do not
    /// count.
    #[must_use]
    pub fn of(snapshot: &Snapshot<'_>) -> Self {
        let typical = typical(snapshot);
        let cell = snapshot.cell();
        let mut workloads: Vec<Workload> = Vec::new();
        let mut index_of: BTreeMap<Vec<bool>, usize> = BTreeMap::new();
        let workload_of = (0..cell.machines.len())
            .map(MachineId::from_index)
            .map(|machine| {
                let allowed = allowed(cell, &typical, machine);
                *index_of.entry(allowed).or_insert_with_key(|allowed| {
                    workloads.push(Workload::of(&typical, allowed));
                    workloads.len() - 1
                })
            })
            .collect();
        Self { workloads, workload_of }
    }

    /// What of the free GPU of a row is a fragment, in milli-GPU: `F_n(M)`.
    ///
    /// # Panics
    /// If there is no such row, or if its machine is not of the cell that this was made of.
    #[must_use]
    pub fn milli(&self, snapshot: &Snapshot<'_>, row: usize) -> f64 {
        let host = GpuHost::of(&HostView::of(&snapshot.hosts[row]));
        self.fragments(host.machine, host.free_cpu, host.devices())
    }

    /// The same for a machine with so much free CPU in milli-cores, and so much free on each device.
    pub(super) fn fragments(&self, machine: MachineId, free_cpu: f64, devices: &[u16]) -> f64 {
        let total: f64 = devices.iter().map(|&free| f64::from(free)).sum();
        if total == 0.0 {
            return 0.0;
        }
        let workload = &self.workloads[self.workload_of[machine.index()]];
        let mut lost_share = workload.without;
        let mut small = 0.0;
        for group in &workload.groups {
            let (fits, all) = group.shares(free_cpu);
            let (mut fitting_count, mut too_small) = (0, 0_u32);
            for &free in devices {
                if free >= group.milli {
                    fitting_count += 1;
                } else {
                    too_small += u32::from(free);
                }
            }
            if fitting_count >= group.count {
                small += fits * f64::from(too_small);
                lost_share += all - fits;
            } else {
                lost_share += all;
            }
        }
        lost_share * total + small
    }
}

/// The typical tasks with their shares, which add up to 1; none for a cell without tasks.
fn typical(snapshot: &Snapshot<'_>) -> Vec<(Kind, f64)> {
    let mut counts: BTreeMap<Kind, usize> = BTreeMap::new();
    for (id, job, _) in snapshot.cell().tasks() {
        if job.kind == JobKind::Job && !job.tied_to_machines {
            let demand = snapshot.demand(id);
            let hard = job.constraints.iter().filter(|constraint| constraint.is_hard());
            let kind = (demand.charge.cpu, demand.gpu, hard.cloned().collect());
            *counts.entry(kind).or_default() += 1;
        }
    }
    let total: usize = counts.values().sum();
    let mut by_count: Vec<(Kind, usize)> = counts.into_iter().collect();
    // Of kinds that are as frequent the larger come first, as in the simulator.
    by_count.sort_by_key(|(kind, count)| Reverse((*count, kind.clone())));
    let mut kept_count = 0;
    let mut kept: Vec<(Kind, usize)> = Vec::new();
    for (kind, count) in by_count {
        if kept_count * 100 >= total * POPULAR_PERCENT {
            break;
        }
        kept_count += count;
        kept.push((kind, count));
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    kept.into_iter().map(|(kind, count)| (kind, count as f64 / kept_count as f64)).collect()
}

/// Which of the typical tasks a machine's attributes let run.
fn allowed(cell: &Cell, typical: &[(Kind, f64)], machine: MachineId) -> Vec<bool> {
    let attributes = &cell.machine(machine).attributes;
    let holds = |constraint: &Constraint| constraint.holds(attributes);
    typical.iter().map(|((_, _, constraints), _)| constraints.iter().all(holds)).collect()
}

impl Workload {
    fn of(typical: &[(Kind, f64)], allowed: &[bool]) -> Self {
        let mut without = 0.0;
        let mut by_gpu: BTreeMap<GpuRequest, BTreeMap<i64, f64>> = BTreeMap::new();
        for (((cpu, gpu, _), share), allowed) in typical.iter().zip(allowed) {
            if gpu.count == 0 || !allowed {
                without += share;
            } else {
                *by_gpu.entry(*gpu).or_default().entry(*cpu).or_default() += share;
            }
        }
        let groups = by_gpu
            .into_iter()
            .map(|(gpu, by_cpu)| {
                let mut sum = 0.0;
                let up_to_cpu = by_cpu.into_iter().map(|(cpu, share)| {
                    sum += share;
                    (exact(cpu), sum)
                });
                Group {
                    count: gpu.count as usize,
                    milli: u16::try_from(gpu.milli_each.0).unwrap_or(WHOLE),
                    up_to_cpu: up_to_cpu.collect(),
                }
            })
            .collect();
        Self { without, groups }
    }
}
