//! Preemption: which tasks of lower priority make room for one that found none.
//!
//! On each host whose rules allow the task, victims are taken from the lowest priority up (of equal
//! priority the largest first, so that they are few) until the task fits; then, from the highest
//! priority down, each that can be spared is spared, so that the set is minimal. Production and
//! monitoring are never victims. The host is the one whose most important victim matters least; then the
//! one with the fewest victims; then by the tie-break of scores.
//!
//! An alloc is a victim as a whole, with what runs in it, and counts as the most important of that. Source: Borg (EuroSys '15) §2.5, §3.2.

use std::collections::BTreeMap;

use cell::{Cell, Priority, TaskId};

use crate::equivalence::ClassIndex;
use crate::feasible::shortfall;
use crate::pass::Pass;
use crate::score::RowScore;
use crate::snapshot::{Amounts, Demand, Snapshot};

/// What a pass knows about what could be preempted, so that it need not look when nothing can.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    /// Placed tasks that may be victims, by priority.
    victims: BTreeMap<Priority, usize>,
    /// For each class, the highest priority at which no host had victims enough, and the number of
    /// changes then.
    hopeless: BTreeMap<(ClassIndex, Priority), u64>,
    change_count: u64,
}

impl Ledger {
    pub(crate) fn of(snapshot: &Snapshot<'_>) -> Self {
        let mut ledger = Self::default();
        for (id, _, _) in snapshot.cell.tasks() {
            if snapshot.placement(id).is_some() {
                ledger.add(snapshot.cell, id);
            }
        }
        ledger
    }

    pub(crate) fn add(&mut self, cell: &Cell, task: TaskId) {
        let priority = cell.job(task.job).priority;
        if !priority.band().is_prod() {
            *self.victims.entry(priority).or_default() += 1;
        }
    }

    pub(crate) fn remove(&mut self, cell: &Cell, task: TaskId) {
        let priority = cell.job(task.job).priority;
        self.change_count += 1;
        if let Some(count) = self.victims.get_mut(&priority) {
            *count -= 1;
            if *count == 0 {
                self.victims.remove(&priority);
            }
        }
    }

    fn has_victims_below(&self, priority: Priority) -> bool {
        self.victims.first_key_value().is_some_and(|(&lowest, _)| lowest < priority)
    }
}

/// A host, and the tasks that have to leave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Eviction {
    pub row: usize,
    /// Lowest priority first.
    pub victims: Vec<TaskId>,
}

/// The best host to preempt on for a task of a class, if there is any.
pub(crate) fn choose<S: RowScore>(
    pass: &mut Pass<'_, '_, S>,
    class: ClassIndex,
    task: TaskId,
) -> Option<Eviction> {
    let cell = pass.snapshot.cell;
    let priority = cell.job(task.job).priority;
    let ledger = pass.ledger();
    let changes = ledger.change_count;
    if !ledger.has_victims_below(priority)
        || ledger.hopeless.get(&(class, priority)) == Some(&changes)
    {
        return None;
    }
    let machines: Vec<usize>;
    let rows: &[usize] = match cell.job(task.job).alloc_set {
        Some(alloc_set) => {
            machines = pass.snapshot.alloc_rows(alloc_set).to_vec();
            &machines
        }
        None => {
            machines = (0..pass.snapshot.machine_count()).collect();
            &machines
        }
    };
    let of_class = pass.class(class);
    let chosen = rows
        .iter()
        .filter(|&&row| pass.obeys_rules(of_class, row))
        .filter_map(|&row| {
            let victims = victims_on(&pass.snapshot, &of_class.demand, priority, row)?;
            Some(Eviction { row, victims })
        })
        .min_by_key(|eviction| {
            let highest =
                eviction.victims.iter().map(|&victim| importance(&pass.snapshot, victim)).max();
            (highest, eviction.victims.len(), std::cmp::Reverse(pass.tie(class, eviction.row)))
        });
    if chosen.is_none() {
        pass.ledger().hopeless.insert((class, priority), changes);
    }
    chosen
}

/// A minimal set of victims on a host that makes room for `demand`, lowest priority first; `None` where
/// all that may leave do not make enough. Never empty: the task did not fit before.
pub(crate) fn victims_on(
    snapshot: &Snapshot<'_>,
    demand: &Demand,
    priority: Priority,
    row: usize,
) -> Option<Vec<TaskId>> {
    let of = |task: &TaskId| importance(snapshot, *task);
    let mut candidates: Vec<TaskId> = snapshot
        .tasks_on(row)
        .iter()
        .copied()
        .filter(|task| of(task) < priority && !of(task).band().is_prod())
        .collect();
    let size = |task: &TaskId| {
        let charge = snapshot.demand(*task).charge;
        (charge.cpu, charge.ram)
    };
    candidates.sort_by_key(|task| (of(task), std::cmp::Reverse(size(task)), *task));
    let mut victims = Vec::new();
    for task in candidates {
        if fits_without(snapshot, demand, row, &victims) {
            break;
        }
        victims.push(task);
    }
    if victims.is_empty() || !fits_without(snapshot, demand, row, &victims) {
        return None;
    }
    for position in (0..victims.len()).rev() {
        let spared = victims.remove(position);
        if !fits_without(snapshot, demand, row, &victims) {
            victims.insert(position, spared);
        }
    }
    Some(victims)
}

/// The priority of a task; of an alloc, the highest of its own and of what runs in it.
fn importance(snapshot: &Snapshot<'_>, task: TaskId) -> Priority {
    let of = |task: TaskId| snapshot.cell.job(task.job).priority;
    snapshot.tasks_in(task).iter().map(|&inner| of(inner)).fold(of(task), Priority::max)
}

/// Whether a demand fits on a host once the victims are gone.
pub(crate) fn fits_without(
    snapshot: &Snapshot<'_>,
    demand: &Demand,
    row: usize,
    victims: &[TaskId],
) -> bool {
    let host = &snapshot.hosts[row];
    let mut free = host.free;
    let mut prod_free = host.prod_free;
    let mut gpus = host.gpus;
    for &victim in victims {
        let theirs = snapshot.demand(victim);
        free.add(theirs.charge);
        if let Some(limit) = theirs.prod_limit {
            prod_free.add(limit);
        }
        if let Some(placement) = snapshot.placement(victim) {
            gpus.give_back(placement.gpu_devices, theirs.gpu);
        }
    }
    let prod_fits = demand.prod_limit.is_none_or(|limit| {
        let short = shortfall(limit, prod_free);
        (short.cpu, short.ram) == (0, 0)
    });
    prod_fits
        && shortfall(demand.charge, free) == Amounts::default()
        && gpus.choose(demand.gpu).is_some()
}
