//! What is true of a snapshot, recomputed from its placements alone, the slow and obvious way.

use std::collections::{BTreeMap, BTreeSet};

use cell::{Cell, DomainKind, JobKind, Predicate, Task, TaskId};
use scheduler::{Accounting, Slot, Snapshot};

/// CPU, RAM and disk.
pub(crate) type Triple = [u64; 3];

/// What a task is charged in the account that all share.
pub(crate) fn charge(snapshot: &Snapshot<'_>, task: TaskId) -> Triple {
    charge_of(snapshot.accounting(), snapshot.cell().task(task))
}

fn charge_of(accounting: Accounting, task: &Task) -> Triple {
    let limit = &task.limit;
    let (cpu, ram) = match accounting {
        Accounting::Limits => (1000, 1000),
        Accounting::Reclaimed(ratio) | Accounting::RightSized(ratio) => {
            (ratio.cpu_permille, ratio.ram_permille)
        }
        Accounting::Recorded => {
            let reserved = task.reservation.as_ref().unwrap_or(limit);
            return [
                reserved.cpu.0.min(limit.cpu.0),
                reserved.ram.0.min(limit.ram.0),
                limit.disk.0,
            ];
        }
    };
    let part = |amount: u64, permille: u32| (amount * u64::from(permille)).div_ceil(1000);
    [part(limit.cpu.0, cpu), part(limit.ram.0, ram), limit.disk.0]
}

pub(crate) fn is_prod(cell: &Cell, task: TaskId) -> bool {
    cell.job(task.job).priority.get() >= 120
}

/// Whether a task's limit, too, has to fit beside those of production (Borg §5.5).
pub(crate) fn is_promised(snapshot: &Snapshot<'_>, task: TaskId) -> bool {
    keeps_limits_apart(snapshot) && is_prod(snapshot.cell(), task)
}

fn keeps_limits_apart(snapshot: &Snapshot<'_>) -> bool {
    matches!(snapshot.accounting(), Accounting::Reclaimed(_) | Accounting::Recorded)
}

/// What a host has: CPU, RAM and disk (no disk: not stated), and a number of GPU devices.
#[derive(Clone, Debug)]
pub(crate) struct Has {
    pub amounts: [Option<u64>; 3],
    /// What production's limits may add up to.
    pub promised: [u64; 2],
    pub devices: u32,
}

pub(crate) fn has(snapshot: &Snapshot<'_>, row: usize) -> Has {
    let cell = snapshot.cell();
    match snapshot.alloc(row) {
        None => {
            let capacity = &cell.machine(snapshot.slot(row).machine).capacity;
            Has {
                amounts: [
                    Some(capacity.cpu.0),
                    Some(capacity.ram.0),
                    capacity.disk.map(|disk| disk.0),
                ],
                promised: [capacity.cpu.0, capacity.ram.0],
                devices: capacity.gpu_count,
            }
        }
        Some(alloc) => {
            let limit = &cell.task(alloc).limit;
            let charged = charge(snapshot, alloc);
            let promised = if is_prod(cell, alloc) {
                [limit.cpu.0, limit.ram.0]
            } else {
                [charged[0], charged[1]]
            };
            let is_whole = limit.gpu.milli_each.0 == 1000;
            Has {
                amounts: charged.map(Some),
                promised,
                devices: if is_whole { limit.gpu.count } else { 0 },
            }
        }
    }
}

/// What the tasks on a row are charged; the limits of production among them; milli-GPU by device.
#[derive(Clone, Debug, Default)]
pub(crate) struct Used {
    pub amounts: Triple,
    pub charged_prod: Triple,
    pub promised: [u64; 2],
    pub devices: [u64; 16],
}

pub(crate) fn used(snapshot: &Snapshot<'_>, row: usize, without: &[TaskId]) -> Used {
    let cell = snapshot.cell();
    let mut used = Used::default();
    for (id, _, task) in cell.tasks() {
        let Some(placement) = snapshot.placement(id) else { continue };
        if placement.row != row || without.contains(&id) {
            continue;
        }
        let charged = charge(snapshot, id);
        for (sum, charge) in used.amounts.iter_mut().zip(charged) {
            *sum += charge;
        }
        if is_prod(cell, id) {
            for (sum, charge) in used.charged_prod.iter_mut().zip(charged) {
                *sum += charge;
            }
        }
        if is_prod(cell, id) {
            used.promised[0] += task.limit.cpu.0;
            used.promised[1] += task.limit.ram.0;
        }
        for (device, milli) in used.devices.iter_mut().enumerate() {
            if placement.gpu_devices & (1 << device) != 0 {
                *milli += task.limit.gpu.milli_each.0;
            }
        }
    }
    used
}

/// Whether a task has room on a row once some others are gone.
pub(crate) fn has_room(
    snapshot: &Snapshot<'_>,
    task: TaskId,
    row: usize,
    without: &[TaskId],
) -> bool {
    let cell = snapshot.cell();
    let (has, used) = (has(snapshot, row), used(snapshot, row, without));
    let charged = charge(snapshot, task);
    let shared = (0..3).all(|r| {
        charged[r] == 0
            || has.amounts[r].is_none_or(|amount| used.amounts[r] + charged[r] <= amount)
    });
    let limit = &cell.task(task).limit;
    let limits = [limit.cpu.0, limit.ram.0];
    let promised = !is_promised(snapshot, task)
        || (0..2).all(|r| limits[r] == 0 || used.promised[r] + limits[r] <= has.promised[r]);
    let free_devices = used.devices[..has.devices as usize]
        .iter()
        .filter(|&&milli| milli + limit.gpu.milli_each.0 <= 1000)
        .count();
    shared && promised && free_devices >= limit.gpu.count as usize
}

/// Whether a row's machine takes something new and is none that the task crashed on, and keeps the hard rules
/// of the task's job, counting its other tasks.
pub(crate) fn keeps_rules(snapshot: &Snapshot<'_>, task: TaskId, row: usize) -> bool {
    let cell = snapshot.cell();
    let job = cell.job(task.job);
    let hard = job
        .constraints
        .iter()
        .filter(|constraint| constraint.is_hard())
        .all(|constraint| holds(snapshot, constraint, row));
    let there = machines_of_job(snapshot, task);
    let different = !job.different_machines || !there.contains(&snapshot.slot(row));
    let spread = job.spread.iter().all(|spread| {
        let count = count_in_domain(snapshot, task, spread.domain, row);
        spread.max_per_domain.is_none_or(|max| count.is_none_or(|count| count < max))
    });
    let crashed = cell.task(task).avoid.contains(&snapshot.slot(row).machine);
    hard && different && spread && !crashed && !snapshot.is_closed(row)
}

/// Whether the machine of a row satisfies a constraint.
pub(crate) fn holds(snapshot: &Snapshot<'_>, constraint: &cell::Constraint, row: usize) -> bool {
    let machine = snapshot.cell().machine(snapshot.slot(row).machine);
    let value = machine.attributes.get(&constraint.attribute);
    let number = value.and_then(|value| value.parse::<i64>().ok());
    let text = value.cloned().unwrap_or_default();
    match &constraint.predicate {
        Predicate::Equal(wanted) => text == *wanted,
        Predicate::NotEqual(unwanted) => text != *unwanted,
        Predicate::Less(bound) => number.is_some_and(|number| number < *bound),
        Predicate::Greater(bound) => number.is_some_and(|number| number > *bound),
        Predicate::Exists => value.is_some(),
        Predicate::In(wanted) => wanted.contains(&text),
    }
}

/// The slots of the machines on which the job of a task has others.
fn machines_of_job(snapshot: &Snapshot<'_>, task: TaskId) -> Vec<Slot> {
    let cell = snapshot.cell();
    cell.tasks()
        .filter(|(id, _, _)| id.job == task.job && *id != task)
        .filter_map(|(id, _, _)| snapshot.placement(id))
        .map(|placement| snapshot.slot(placement.row))
        .collect()
}

/// How many others of the task's job are in the row's domain of a kind; `None`: it is in none.
pub(crate) fn count_in_domain(
    snapshot: &Snapshot<'_>,
    task: TaskId,
    kind: DomainKind,
    row: usize,
) -> Option<u32> {
    let domain = |slot: Slot| {
        let name = snapshot.cell().machine(slot.machine).domain(kind)?;
        Some((slot.clone, name.to_owned()))
    };
    let here = domain(snapshot.slot(row))?;
    let same = |slot: &&Slot| domain(**slot).as_ref() == Some(&here);
    u32::try_from(machines_of_job(snapshot, task).iter().filter(same).count()).ok()
}

/// The rows that could host a task at all: machines, or the placed allocs of its alloc set.
pub(crate) fn host_rows(snapshot: &Snapshot<'_>, task: TaskId) -> Vec<usize> {
    let cell = snapshot.cell();
    match cell.job(task.job).alloc_set {
        None => (0..snapshot.machine_count()).collect(),
        Some(set) => alloc_rows(snapshot)
            .into_iter()
            .filter(|(alloc, _)| alloc.job == set)
            .map(|(_, row)| row)
            .collect(),
    }
}

/// Rows of the allocs that have a place, each its alloc's own.
fn alloc_rows(snapshot: &Snapshot<'_>) -> BTreeMap<TaskId, usize> {
    let cell = snapshot.cell();
    let allocs = cell.tasks().filter(|(_, job, _)| job.kind == JobKind::AllocSet);
    let placed = allocs.filter(|(id, _, _)| snapshot.placement(*id).is_some());
    placed
        .map(|(id, _, _)| {
            let row = snapshot.row_of_alloc(id).expect("it has a place");
            assert_eq!(snapshot.alloc(row), Some(id));
            (id, row)
        })
        .collect()
}

/// The rows on which a task fits as things are.
pub(crate) fn feasible_rows(snapshot: &Snapshot<'_>, task: TaskId) -> Vec<usize> {
    host_rows(snapshot, task)
        .into_iter()
        .filter(|&row| keeps_rules(snapshot, task, row) && has_room(snapshot, task, row, &[]))
        .collect()
}

/// What is wrong with a snapshot that was packed from scratch; empty if nothing is.
pub(crate) fn violations(snapshot: &Snapshot<'_>) -> Vec<String> {
    let cell = snapshot.cell();
    let mut wrong = Vec::new();
    let mut rows: BTreeSet<usize> = (0..snapshot.machine_count()).collect();
    for (id, _, task) in cell.tasks() {
        let Some(placement) = snapshot.placement(id) else { continue };
        rows.insert(placement.row);
        let name = cell.task_name(id);
        if placement.gpu_devices.count_ones() != task.limit.gpu.count {
            wrong.push(format!("{name} has {:b} of the GPU devices", placement.gpu_devices));
        }
        if !host_rows(snapshot, id).contains(&placement.row) {
            wrong.push(format!("{name} is on a row that is not for its job"));
        }
        if !keeps_rules(snapshot, id, placement.row) {
            wrong.push(format!("{name} breaks a rule of its job"));
        }
    }
    for row in rows {
        let (has, used) = (has(snapshot, row), used(snapshot, row, &[]));
        for r in 0..3 {
            if has.amounts[r].is_some_and(|amount| used.amounts[r] > amount) {
                wrong.push(format!("row {row}: resource {r} is over its capacity"));
            }
        }
        if keeps_limits_apart(snapshot) && (0..2).any(|r| used.promised[r] > has.promised[r]) {
            wrong.push(format!("row {row}: more is promised to production than there is"));
        }
        let devices = has.devices as usize;
        if used.devices[..devices].iter().any(|&milli| milli > 1000)
            || used.devices[devices..].iter().any(|&milli| milli > 0)
        {
            wrong.push(format!("row {row}: GPU devices {:?} of {devices}", used.devices));
        }
    }
    wrong
}
