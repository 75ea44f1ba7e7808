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
use crate::tables::Fresh;

/// What a pass knows about what could be preempted, so that it need not look when nothing can.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    /// Placed tasks that may be victims, by priority.
    victims: BTreeMap<Priority, usize>,
    /// What each host had to offer to a class at a priority when that was last looked at.
    offers: BTreeMap<(ClassIndex, Priority), Offers>,
}

/// The most classes for which offers are kept. Our choice: 13 MB on 12,500 machines.
const OFFERS_MAX: usize = 128;

/// For each machine the rank of a preemption there, lower is better; [`NO_OFFER`] where none is possible.
#[derive(Clone, Debug)]
struct Offers {
    seen: Fresh,
    ranks: Vec<u64>,
}

const NO_OFFER: u64 = u64::MAX;

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
        if let Some(count) = self.victims.get_mut(&priority) {
            *count -= 1;
            if *count == 0 {
                self.victims.remove(&priority);
            }
        }
    }

    pub(crate) fn forget_offers(&mut self) {
        self.offers.clear();
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
    let job = pass.snapshot.cell.job(task.job);
    let priority = job.priority;
    if !pass.ledger().has_victims_below(priority) {
        return None;
    }
    let row = match job.alloc_set {
        Some(alloc_set) => {
            let rows = pass.snapshot.alloc_rows(alloc_set).iter().copied();
            best_of(rows.map(|row| (offer(pass, class, priority, row), row)))
        }
        None => {
            let offers = renewed_offers(pass, class, priority);
            let best = best_of(offers.ranks.iter().copied().zip(0..));
            let kept = &mut pass.ledger().offers;
            kept.insert((class, priority), offers);
            if kept.len() > OFFERS_MAX {
                kept.pop_first();
            }
            best
        }
    }?;
    let victims = victims_on(&pass.snapshot, &pass.class(class).demand, priority, row)
        .expect("the offer of a host that did not change since");
    Some(Eviction { row, victims })
}

fn best_of(ranked: impl Iterator<Item = (u64, usize)>) -> Option<usize> {
    ranked.min().filter(|&(rank, _)| rank != NO_OFFER).map(|(_, row)| row)
}

/// The offers of all machines: those kept, with the machines looked at again that changed since.
fn renewed_offers<S: RowScore>(
    pass: &mut Pass<'_, '_, S>,
    class: ClassIndex,
    priority: Priority,
) -> Offers {
    let machine_count = pass.snapshot.machine_count();
    let kept = pass.ledger().offers.remove(&(class, priority));
    let (mut ranks, changed) = match kept {
        Some(Offers { seen, ranks }) => (ranks, pass.changed_since(class, seen)),
        None => (vec![NO_OFFER; machine_count], (0..machine_count).collect()),
    };
    for row in changed.into_iter().filter(|&row| row < machine_count) {
        ranks[row] = offer(pass, class, priority, row);
    }
    Offers { seen: pass.now(class), ranks }
}

/// The rank of a preemption on a host: by the priority of the most important victim, then by their
/// number, then by the tie-break of scores.
fn offer<S: RowScore>(
    pass: &Pass<'_, '_, S>,
    class: ClassIndex,
    priority: Priority,
    row: usize,
) -> u64 {
    let snapshot = &pass.snapshot;
    let of_class = pass.class(class);
    let host = &snapshot.hosts[row];
    // Most hosts are full of what may not leave; one sum tells.
    let mut at_most = host.free;
    at_most.add(host.charged_other);
    if shortfall(of_class.demand.charge, at_most) != Amounts::default()
        || !pass.obeys_rules(of_class, row)
    {
        return NO_OFFER;
    }
    let Some(victims) = victims_on(snapshot, &of_class.demand, priority, row) else {
        return NO_OFFER;
    };
    let highest = victims.iter().map(|&victim| importance(snapshot, victim)).max();
    let highest = u64::from(highest.map_or(0, Priority::get));
    let count = u64::try_from(victims.len()).unwrap_or(u64::MAX).min(0xff_ffff);
    highest << 48 | count << 24 | (0xff_ffff - pass.tie(class, row))
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
