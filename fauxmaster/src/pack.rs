//! Packing a workload once, from scratch or on top of the recorded state.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

use cell::{JobKind, TaskId};
use scheduler::{Accounting, PassOptions, Plan, Policy, QueueOrder, Slot, Snapshot, Speed, pass};
use sha2::{Digest, Sha256};
use traces::Trace;

use crate::report::{ByBand, ByResource, MachineFill, PackReport};
use crate::workload::{self, Tied};

/// The order of the queue inside a priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueChoice {
    /// The policy's own.
    #[default]
    Policy,
    /// This one, whatever the policy.
    Order(QueueOrder),
}

impl QueueChoice {
    pub(crate) fn for_policy(self, policy: &Policy) -> QueueOrder {
        match self {
            Self::Policy => policy.queue,
            Self::Order(order) => order,
        }
    }
}

/// What a packing starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Empty machines: everything is packed from scratch.
    #[default]
    Empty,
    /// The recorded state: running tasks stay, waiting ones are placed, preempting if need be.
    Recorded,
}

/// How to pack.
#[derive(Clone, Debug)]
pub struct PackOptions {
    /// The policy.
    pub policy: Policy,
    /// What a task is charged for.
    pub accounting: Accounting,
    /// The order of the queue.
    pub queue: QueueChoice,
    /// Seeds ties, samples, and the choice of machines.
    pub seed: u64,
    /// How many machines to use; `None`: all, in the trace's order. Fewer are drawn at random.
    pub machines: Option<usize>,
    /// How many copies of the cell's machines there are to draw from, at least 1.
    pub clones: usize,
    /// Empty machines, or the recorded state (then all machines are used, once).
    pub start: Start,
    /// How to go about it.
    pub speed: Speed,
}

impl PackOptions {
    /// By a policy, with everything else as it usually is: limits, the policy's own queue, all machines,
    /// from scratch.
    #[must_use]
    pub fn new(policy: Policy, seed: u64) -> Self {
        Self {
            policy,
            accounting: Accounting::Limits,
            queue: QueueChoice::Policy,
            seed,
            machines: None,
            clones: 1,
            start: Start::Empty,
            speed: Speed::default(),
        }
    }

    /// A pass by these options, with this seed.
    #[must_use]
    pub fn pass(&self, seed: u64) -> PassOptions<'static> {
        PassOptions {
            policy: self.policy.clone(),
            queue: self.queue.for_policy(&self.policy),
            seed,
            speed: self.speed,
            pending_limit: None,
        }
    }

    /// Whether each of the cell's machines is used once.
    fn is_whole(&self, trace: &Trace) -> bool {
        let have = trace.cell.machines.len();
        self.clones == 1 && self.machines.is_none_or(|wanted| wanted == have)
    }
}

/// Why a packing cannot start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// More machines are wanted than there are.
    #[error("{wanted} machines are wanted and {have} are there; clone the cell (--clone {enough})")]
    TooFewMachines {
        /// How many are wanted.
        wanted: usize,
        /// How many there are with the clones given.
        have: usize,
        /// How many clones would do.
        enough: usize,
    },
    /// No machine, or no copy of them.
    #[error("at least one machine is needed")]
    NoMachines,
    /// The recorded state needs its own machines.
    #[error("the recorded state is of all machines: give neither a number of machines nor clones")]
    RecordedNeedsAll,
}

/// A packing: its report, how full each machine is, and the plan itself.
#[derive(Clone, Debug)]
pub struct Packing<'t> {
    /// The figures.
    pub report: PackReport,
    /// How full each machine is, in the order in which machines were used.
    pub machines: Vec<MachineFill>,
    /// The plan, with the state that it leads to.
    pub plan: Plan<'t>,
    /// The tasks that waited, in the order of their submission.
    pub tasks: Vec<TaskId>,
}

impl<'t> Packing<'t> {
    /// The same workload packed by another plan, with the figures of that one; `seconds` is the wall time
    /// that it took.
    #[must_use]
    pub fn with_plan(
        self,
        trace: &Trace,
        options: &PackOptions,
        plan: Plan<'t>,
        seconds: f64,
    ) -> Self {
        let machines = machine_fills(&plan.end);
        let report = report(trace, options, &plan, &self.tasks, seconds);
        Self { report, machines, plan, tasks: self.tasks }
    }
}

/// Packs the trace's workload.
///
/// # Errors
/// If there are too few machines for what is asked.
pub fn pack<'t>(trace: &'t Trace, options: &PackOptions) -> Result<Packing<'t>, PackError> {
    let slots = slots(trace, options)?;
    let (snapshot, tasks) = match options.start {
        Start::Empty => (
            Snapshot::empty(&trace.cell, &slots, options.accounting),
            workload::from_scratch_with(trace, Tied::on(&trace.cell, options.is_whole(trace))),
        ),
        Start::Recorded => {
            let recorded = Snapshot::recorded(&trace.cell, &slots, options.accounting);
            let waiting = workload::waiting(&recorded);
            (recorded, waiting)
        }
    };
    let began = Instant::now();
    let plan = pass(&snapshot, &tasks, &options.pass(options.seed));
    let seconds = began.elapsed().as_secs_f64();
    let machines = machine_fills(&plan.end);
    let report = report(trace, options, &plan, &tasks, seconds);
    Ok(Packing { report, machines, plan, tasks })
}

/// The machines that options ask for, in the order in which they are used.
///
/// # Errors
/// If there are not so many.
pub fn slots(trace: &Trace, options: &PackOptions) -> Result<Vec<Slot>, PackError> {
    let cell = &trace.cell;
    let have = cell.machines.len() * options.clones;
    let wanted = options.machines.unwrap_or(have);
    if options.start == Start::Recorded && (options.clones != 1 || options.machines.is_some()) {
        return Err(PackError::RecordedNeedsAll);
    }
    if wanted == 0 || have == 0 {
        return Err(PackError::NoMachines);
    }
    if wanted > have {
        let enough = wanted.div_ceil(cell.machines.len());
        return Err(PackError::TooFewMachines { wanted, have, enough });
    }
    if options.clones == 1 && wanted == have {
        return Ok(Slot::all(cell));
    }
    let mut slots = workload::machine_order(cell, options.clones, options.seed, 0);
    slots.truncate(wanted);
    Ok(slots)
}

fn report(
    trace: &Trace,
    options: &PackOptions,
    plan: &Plan<'_>,
    tasks: &[TaskId],
    seconds: f64,
) -> PackReport {
    let cell = &trace.cell;
    let end = &plan.end;
    let (mut placed_by_band, mut pending_by_band) = (ByBand::new(), ByBand::new());
    for &task in tasks.iter().filter(|task| cell.job(task.job).kind == JobKind::Job) {
        let by_band =
            if end.placement(task).is_some() { &mut placed_by_band } else { &mut pending_by_band };
        *by_band.entry(cell.job(task.job).priority.band().name()).or_default() += 1;
    }
    let preempted_count = plan.assignments.iter().map(|assignment| assignment.victims.len()).sum();
    if options.start == Start::Recorded {
        // Victims that found no other place wait as well.
        for (id, job, task) in cell.tasks() {
            if task.is_running() && end.placement(id).is_none() && plan.pending.contains(&id) {
                *pending_by_band.entry(job.priority.band().name()).or_default() += 1;
            }
        }
    }
    let placed_count = placed_by_band.values().sum();
    let pending_count = pending_by_band.values().sum();
    let rows = 0..end.machine_count();
    #[expect(clippy::cast_precision_loss, reason = "a count of tasks")]
    let decisions = plan.assignments.len().saturating_add(plan.pending.len()) as f64;
    PackReport {
        policy: options.policy.name().to_owned(),
        accounting: options.accounting.name(),
        seed: options.seed,
        machine_count: end.machine_count(),
        task_count: placed_count + pending_count,
        placed_count,
        pending_count,
        placed_by_band,
        pending_by_band,
        preempted_count,
        allocation: allocation(end),
        stranding: stranding(end),
        machines_empty: rows.filter(|&row| end.tasks_on(row).is_empty()).count(),
        seconds,
        decisions_per_second: decisions / seconds.max(1e-9),
        peak_memory_bytes: peak_memory_bytes(),
        assignment_hash: assignment_hash(end),
    }
}

const RESOURCES: [&str; 4] = ["cpu", "ram", "disk", "gpu"];

/// What is charged over capacity, 0..=1, for each resource that machines state.
#[must_use]
pub fn allocation(state: &Snapshot<'_>) -> ByResource {
    shares(state, |free, _| 1.0 - free)
}

/// What is free but stranded over capacity, 0..=1, for each resource that machines state: on each machine,
/// the free fraction of a resource above the smallest free fraction of the machine's resources.
#[must_use]
pub fn stranding(state: &Snapshot<'_>) -> ByResource {
    shares(state, |free, least| free - least)
}

/// The share of the cell's capacity that `part` of each machine's free fraction makes up. `part` is given
/// the free fraction of the resource and the least free fraction of the machine's resources.
fn shares(end: &Snapshot<'_>, part: impl Fn(f64, f64) -> f64) -> ByResource {
    let mut sums = [0.0; 4];
    let mut capacities = [0.0; 4];
    // What a closed machine has free is free for nobody.
    for row in (0..end.machine_count()).filter(|&row| !end.is_closed(row)) {
        let free = end.free_fractions(row).map(|free| free.map(|free| free.clamp(0.0, 1.0)));
        let least = free.iter().flatten().copied().fold(1.0, f64::min);
        let capacity = end.capacities(row);
        for r in 0..4 {
            if let Some(free) = free[r] {
                capacities[r] += capacity[r];
                sums[r] += part(free, least) * capacity[r];
            }
        }
    }
    (0..4)
        .filter(|&r| capacities[r] > 0.0)
        .map(|r| (RESOURCES[r], sums[r] / capacities[r]))
        .collect()
}

fn machine_fills(end: &Snapshot<'_>) -> Vec<MachineFill> {
    let used = |free: Option<f64>| 1.0 - free.unwrap_or(1.0).clamp(0.0, 1.0);
    (0..end.machine_count())
        .map(|row| {
            let [cpu, ram, _, _] = end.free_fractions(row);
            MachineFill { cpu: used(cpu), ram: used(ram) }
        })
        .collect()
}

/// SHA-256 over a line for each task of the cell that has a place or is an alloc, in the cell's order:
/// its name, its host, and its GPU devices as bits.
#[must_use]
pub fn assignment_hash(end: &Snapshot<'_>) -> String {
    let cell = end.cell();
    let mut hash = Sha256::new();
    let mut line = String::new();
    let machine = |row: usize| {
        let slot = end.slot(row);
        (cell.machine(slot.machine).name.as_str(), slot.clone)
    };
    for (id, job, task) in cell.tasks() {
        let Some(placement) = end.placement(id) else { continue };
        line.clear();
        let (name, clone) = machine(placement.row);
        let written = match end.alloc(placement.row) {
            None => write!(line, "{}/{} {name}#{clone}", job.name, task.index),
            Some(alloc) => {
                write!(line, "{}/{} {name}#{clone} {}", job.name, task.index, cell.task_name(alloc))
            }
        };
        written.expect("writing to a string cannot fail");
        hash.update(line.as_bytes());
        hash.update(placement.gpu_devices.to_le_bytes());
        hash.update(b"\n");
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Peak resident memory of this process; `None` where the system does not tell.
#[must_use]
pub fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Where each job's tasks went: for each job the placed and the pending, by name. For tests and tables.
#[must_use]
pub fn outcome_by_job(plan: &Plan<'_>) -> BTreeMap<String, (usize, usize)> {
    let mut outcome: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (id, job, _) in plan.end.cell().tasks() {
        let (placed, pending) = outcome.entry(job.name.clone()).or_default();
        if plan.end.placement(id).is_some() {
            *placed += 1;
        } else {
            *pending += 1;
        }
    }
    outcome
}
