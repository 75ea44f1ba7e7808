//! Feasibility: which hosts could run a task, and the first reason why one could not.
//!
//! In: a task, a snapshot, and what its job has placed so far. Out: whether a host will do; and for one
//! that will not, the first [`Infeasible`] reason in the order in which that enum lists them. Never
//! looks at scores, and never changes the snapshot.
//!
//! A request of zero is never checked, even on a host that is over-committed in that resource: it
//! takes nothing. Source: Borg (EuroSys '15) §3.2, §5.5.

use std::fmt;

use cell::{Constraint, DomainKind, MachineId, TaskId};

use crate::job_state::JobState;
use crate::snapshot::{Amounts, DISK_UNSTATED, Demand, Slot, Snapshot};

/// Why a host cannot run a task: the first reason, in this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Infeasible {
    /// The machine takes nothing new: it is down, or being drained.
    Closed,
    /// The machine breaks a hard constraint of the job.
    Constraint(String),
    /// The task may not be placed on this machine again: it crashed there.
    Avoided,
    /// The job wants different machines, and has a task there.
    DifferentMachines,
    /// The job has as many tasks as it allows in the host's failure domain.
    Spread(DomainKind),
    /// Too little GPU is free on the devices: asked and free, in milli-GPU.
    Gpu,
    /// Too little CPU is free.
    Cpu,
    /// Too little RAM is free.
    Ram,
    /// Too little disk is free.
    Disk,
    /// The limits of production leave too little CPU (Borg §5.5; reclaimed accounting).
    ProductionCpu,
    /// The limits of production leave too little RAM.
    ProductionRam,
}

impl fmt::Display for Infeasible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the machine takes nothing new"),
            Self::Avoided => f.write_str("the task crashed on this machine"),
            Self::Constraint(constraint) => write!(f, "constraint not met: {constraint}"),
            Self::DifferentMachines => f.write_str("another task of the job is there"),
            Self::Spread(kind) => {
                write!(f, "the job's tasks in this {} are at their maximum", kind.name())
            }
            Self::Gpu => f.write_str("too little GPU free on one device"),
            Self::Cpu => f.write_str("too little CPU free"),
            Self::Ram => f.write_str("too little RAM free"),
            Self::Disk => f.write_str("too little disk free"),
            Self::ProductionCpu => f.write_str("production's limits leave too little CPU"),
            Self::ProductionRam => f.write_str("production's limits leave too little RAM"),
        }
    }
}

/// By how much a request exceeds what is free; 0 where it fits.
fn excess(asked: i64, free: i64) -> i64 {
    if asked > 0 { (asked - free).max(0) } else { 0 }
}

/// By how much each divisible resource falls short.
pub(crate) fn shortfall(asked: Amounts, free: Amounts) -> Amounts {
    Amounts {
        cpu: excess(asked.cpu, free.cpu),
        ram: excess(asked.ram, free.ram),
        // Where no disk is stated, none is missing.
        disk: if free.disk > DISK_UNSTATED / 2 { 0 } else { excess(asked.disk, free.disk) },
    }
}

/// Whether a host takes a task at all: its machine takes something new, and is none that the task avoids.
pub(crate) fn takes(snapshot: &Snapshot<'_>, avoid: &[MachineId], row: usize) -> bool {
    !snapshot.is_closed(row) && !avoids(avoid, snapshot.slot(row))
}

/// A copy of a machine is avoided with it.
fn avoids(avoid: &[MachineId], slot: Slot) -> bool {
    avoid.binary_search(&slot.machine).is_ok()
}

/// Whether a host takes something new and has room for it, whatever the constraints.
pub(crate) fn fits(snapshot: &Snapshot<'_>, demand: &Demand, row: usize) -> bool {
    let host = &snapshot.hosts[row];
    !snapshot.is_closed(row)
        && shortfall(demand.charge, host.free) == Amounts::default()
        && demand.prod_limit.is_none_or(|limit| {
            let short = shortfall(limit, host.prod_free);
            (short.cpu, short.ram) == (0, 0)
        })
        && host.gpus.choose(demand.gpu).is_some()
}

/// All reasons why a host cannot run a task, in the order of [`Infeasible`]; empty where it can.
///
/// `job_state` is what the task's job has placed so far.
pub(crate) fn reasons(
    snapshot: &Snapshot<'_>,
    job_state: &JobState,
    task: TaskId,
    row: usize,
) -> Vec<Infeasible> {
    let mut reasons = Vec::new();
    let job = snapshot.cell.job(task.job);
    let host = &snapshot.hosts[row];
    let machine = snapshot.cell.machine(host.slot.machine);
    if snapshot.is_closed(row) {
        reasons.push(Infeasible::Closed);
    }
    for constraint in job.constraints.iter().filter(|constraint| constraint.is_hard()) {
        if !constraint.holds(&machine.attributes) {
            reasons.push(Infeasible::Constraint(constraint.to_string()));
        }
    }
    if avoids(&snapshot.cell.task(task).avoid, host.slot) {
        reasons.push(Infeasible::Avoided);
    }
    if job.different_machines && job_state.uses_machine(host.machine_row) {
        reasons.push(Infeasible::DifferentMachines);
    }
    for spread in &job.spread {
        if job_state.domain_is_full(snapshot, row, spread) {
            reasons.push(Infeasible::Spread(spread.domain));
        }
    }
    let demand = snapshot.demand(task);
    if host.gpus.choose(demand.gpu).is_none() {
        reasons.push(Infeasible::Gpu);
    }
    let short = shortfall(demand.charge, host.free);
    for (missing, reason) in
        [(short.cpu, Infeasible::Cpu), (short.ram, Infeasible::Ram), (short.disk, Infeasible::Disk)]
    {
        if missing > 0 {
            reasons.push(reason);
        }
    }
    if let Some(limit) = demand.prod_limit {
        let short = shortfall(limit, host.prod_free);
        if short.cpu > 0 {
            reasons.push(Infeasible::ProductionCpu);
        }
        if short.ram > 0 {
            reasons.push(Infeasible::ProductionRam);
        }
    }
    reasons
}

/// The weight of the soft constraints that hold over the weight of all, 0..=1; 1 where there are none.
pub(crate) fn soft_satisfied(constraints: &[Constraint], attributes: &cell::Attributes) -> f64 {
    let (mut held, mut all) = (0_u32, 0_u32);
    for constraint in constraints {
        if let cell::Strength::Soft { weight } = constraint.strength {
            all += weight;
            held += if constraint.holds(attributes) { weight } else { 0 };
        }
    }
    if all == 0 { 1.0 } else { f64::from(held) / f64::from(all) }
}
