//! Compaction: from greedy's packing on the first machines of an order to one on fewer.
//!
//! The last machine is emptied, and refills go on until everything has a place again; then the next.
//! Tasks that may stay pending are set aside first, the dearest of them. What no refill may move (allocs
//! and what is in them, limits on spread, daemons) stays where greedy put it, and so do the machines
//! that it is on.

use std::collections::BTreeMap;

use cell::{Cell, JobKind, TaskId};
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use scheduler::{Accounting, Slot, Snapshot};
use serde::Serialize;

use crate::budget::Meter;
use crate::certificate::Certificate;
use crate::model::{Model, RESOURCE_COUNT, UNLIMITED};
use crate::objective::{Objective, level};
use crate::refill::{Bin, Board, Item, Reach};

/// Waiting tasks in a refill. Measured on the 2011 cell: more only makes the search longer.
pub(crate) const REACH: Reach = Reach { waiting: 10, nodes: 300, withheld_one_in: 8 };

/// Where tasks are compared by worth, one refill in so many fills machines by it.
const BY_WORTH_ONE_IN: u32 = 4;

/// Machines with room are listed anew after so many refills.
const LISTED_FOR: u64 = 2000;

/// The roomiest of so many random machines is refilled last, so that room gathers there.
const SINK_AMONG: usize = 64;

/// A packing on fewer machines.
#[derive(Clone, Debug)]
pub struct Shrunk<'c> {
    /// The packing; its machines are the first of the order.
    pub end: Snapshot<'c>,
    /// Each packing on fewer machines than the one before, in the order in which they were found.
    pub path: Vec<Waypoint>,
}

/// When a packing was found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Waypoint {
    /// Steps taken until then.
    pub steps: u64,
    /// Seconds of the search until then.
    pub seconds: f64,
    /// Its machines.
    pub machines: usize,
}

/// Tries to do with fewer machines than `greedy`, a complete packing of `tasks` on the machines of
/// `slots` in this order. It stops at `bound` machines, which no packing can do without.
///
/// # Panics
/// If `greedy` is not a packing of the problem's tasks on these machines.
#[must_use]
pub fn shrink<'c>(
    problem: &Problem<'_, 'c>,
    greedy: &Snapshot<'c>,
    slots: &[Slot],
    bound: usize,
    meter: &mut Meter,
    random: &mut impl Rng,
) -> Shrunk<'c> {
    let mut board = problem.board(greedy, slots);
    problem.set_aside(&mut board);
    let mut count = slots.len();
    let mut best: Option<(usize, Vec<Bin>)> = None;
    let mut path = Vec::new();
    let mut search = Search::default();
    'budget: while count > bound.max(1) && problem.is_free(greedy, count - 1) {
        count -= 1;
        board.empty(count);
        while !board.waiting.is_empty() {
            if !meter.step() {
                break 'budget;
            }
            let bins = search.bins(&board, count, meter.steps(), random);
            board.refill(&bins, REACH, random);
        }
        let seconds = meter.elapsed().as_secs_f64();
        path.push(Waypoint { steps: meter.steps(), seconds, machines: count });
        best = Some((count, board.bins[..count].to_vec()));
    }
    let end = match best {
        Some((count, on)) => problem.rebuild(greedy, &slots[..count], &on),
        None => greedy.clone(),
    };
    Shrunk { end, path }
}

/// Which machines are refilled next.
#[derive(Debug, Default)]
pub(crate) struct Search {
    /// Machines with room, as they were when listed.
    roomy: Vec<usize>,
    listed_at: Option<u64>,
}

impl Search {
    pub(crate) fn bins(
        &mut self,
        board: &Board,
        count: usize,
        step: u64,
        random: &mut impl Rng,
    ) -> Vec<usize> {
        if self.listed_at.is_none_or(|at| step - at >= LISTED_FOR) {
            self.listed_at = Some(step);
            self.roomy = (0..count).filter(|&bin| board.free_worth(bin) > 0.0).collect();
        }
        self.roomy.retain(|&bin| bin < count);
        let mut bins: Vec<usize> = (0..2)
            .map(|_| match self.roomy.as_slice() {
                roomy if !roomy.is_empty() && random.random_range(0..2) == 0 => {
                    roomy[random.random_range(0..roomy.len())]
                }
                _ => random.random_range(0..count),
            })
            .collect();
        if !self.roomy.is_empty() && random.random_range(0..2) == 0 {
            let draws =
                (0..SINK_AMONG).map(|_| self.roomy[random.random_range(0..self.roomy.len())]);
            let room = |&a: &usize, &b: &usize| {
                board.free_worth(a).total_cmp(&board.free_worth(b)).then(a.cmp(&b))
            };
            bins.extend(draws.max_by(room));
        }
        bins.shuffle(random);
        bins.sort_by(|&a, &b| board.free_worth(a).total_cmp(&board.free_worth(b)).then(a.cmp(&b)));
        bins.dedup();
        bins
    }
}

/// By what waiting tasks are compared.
#[derive(Clone, Copy, Debug)]
enum Worth<'a, 'c> {
    /// By their prices: all have to be placed, and little room is missing where little waits.
    Price,
    /// By what they are worth, which is not the same as the room that they take.
    Of(&'a Objective<'c>),
}

/// Why the search leaves a task where greedy put it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Held {
    /// The cell is of Kubernetes' objects, whose rules the search does not know.
    Kubernetes,
    /// It is an alloc, or runs in one.
    Allocs,
    /// It belongs to its machine.
    Tied,
    /// Its job limits how many tasks a failure domain may have.
    Spread,
    /// It crashed on some machine.
    Avoiding,
}

/// How many tasks and allocs the search leaves where greedy put them, each by its first reason in the order
/// of [`Held`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HeldCount {
    /// For limits on their spread.
    pub spread: usize,
    /// Allocs, and what runs in them.
    pub allocs: usize,
    /// That belong to their machine; compaction leaves them out.
    pub tied: usize,
    /// In a cell of Kubernetes' objects: all.
    pub kubernetes: usize,
    /// That crashed on some machine; none in a trace.
    #[serde(skip_serializing_if = "is_none")]
    pub avoiding: usize,
}

fn is_none(count: &usize) -> bool {
    *count == 0
}

/// What the search for a packing knows of the workload.
#[derive(Debug)]
pub struct Problem<'a, 'c> {
    /// The cell.
    pub cell: &'c Cell,
    /// The tasks to pack.
    pub tasks: &'a [TaskId],
    /// What they are charged.
    pub accounting: Accounting,
    /// The same by shapes.
    pub model: &'a Model,
    /// Weighs the resources.
    pub prices: &'a Certificate,
    /// Which tasks may stay pending, parallel to `tasks`.
    pub may_wait: &'a [bool],
    worth: Worth<'a, 'c>,
    index: BTreeMap<TaskId, u32>,
}

impl<'a, 'c> Problem<'a, 'c> {
    /// Of these tasks; `model` and `prices` must be of them, and `may_wait` parallel to them.
    #[must_use]
    pub fn new(
        cell: &'c Cell,
        tasks: &'a [TaskId],
        accounting: Accounting,
        model: &'a Model,
        prices: &'a Certificate,
        may_wait: &'a [bool],
    ) -> Self {
        let index = tasks.iter().copied().zip(0..).collect();
        Self { cell, tasks, accounting, model, prices, may_wait, worth: Worth::Price, index }
    }

    /// The same, with what waits compared by what it is worth.
    #[must_use]
    pub fn by_worth(self, objective: &'a Objective<'c>) -> Self {
        Self { worth: Worth::Of(objective), ..self }
    }

    /// Why no refill may move a task: the first reason in the order of [`Held`]; `None` if one may.
    #[must_use]
    pub fn held(&self, task: TaskId) -> Option<Held> {
        let job = self.cell.job(task.job);
        let is_limited = job.spread.iter().any(|spread| spread.max_per_domain.is_some());
        [
            (self.cell.kube.is_some(), Held::Kubernetes),
            (job.kind == JobKind::AllocSet || job.alloc_set.is_some(), Held::Allocs),
            (job.tied_to_machines, Held::Tied),
            (is_limited, Held::Spread),
            (!self.cell.task(task).avoid.is_empty(), Held::Avoiding),
        ]
        .into_iter()
        .find_map(|(is_held, why)| is_held.then_some(why))
    }

    /// Whether a refill may move a task.
    pub(crate) fn is_movable(&self, task: TaskId) -> bool {
        self.held(task).is_none()
    }

    /// How many of the tasks no refill may move.
    #[must_use]
    pub fn held_count(&self) -> HeldCount {
        let mut count = HeldCount::default();
        for held in self.tasks.iter().filter_map(|&task| self.held(task)) {
            *match held {
                Held::Kubernetes => &mut count.kubernetes,
                Held::Allocs => &mut count.allocs,
                Held::Tied => &mut count.tied,
                Held::Spread => &mut count.spread,
                Held::Avoiding => &mut count.avoiding,
            } += 1;
        }
        count
    }

    /// Whether everything on a row may move.
    fn is_free(&self, snapshot: &Snapshot<'_>, row: usize) -> bool {
        snapshot.tasks_on(row).iter().all(|&task| self.is_movable(task))
    }

    pub(crate) fn board(&self, snapshot: &Snapshot<'_>, slots: &[Slot]) -> Board {
        let mut kinds = BTreeMap::new();
        let items: Vec<Item> = self
            .tasks
            .iter()
            .zip(&self.model.shape_of_task)
            .map(|(task, shape)| {
                let shape = shape.unwrap_or(0);
                let job = self.cell.job(task.job);
                let apart = job.different_machines.then_some(task.job.0);
                let of = &self.model.tasks[shape];
                // What has no price must not be left behind either.
                let price = self.prices.tasks[shape].price.max(1);
                let (level, worth) = match self.worth {
                    Worth::Price => (0, price),
                    Worth::Of(objective) => (level(job.priority), objective.worth(*task)),
                };
                let next = kinds.len();
                let kind = *kinds.entry((shape, apart, level, worth)).or_insert(next);
                let gpu = self.cell.task(*task).limit.gpu;
                Item { demand: of.demand, gpu, price, level, worth, rules: of.rules, apart, kind }
            })
            .collect();
        let bins = slots
            .iter()
            .enumerate()
            .map(|(row, &slot)| {
                let shape = self.model.machine_shape(slot);
                let mut room = self.model.machines[shape].capacity;
                let gpus = snapshot.gpus(row);
                let (mut on, mut devices, mut gpu_room) = (Vec::new(), Vec::new(), gpus);
                for task in snapshot.tasks_on(row) {
                    let item = self.index[task];
                    let Item { demand, gpu, .. } = &items[item as usize];
                    if self.is_movable(*task) {
                        let has = snapshot.placement(*task).map_or(0, |at| at.gpu_devices);
                        gpu_room.give_back(has, *gpu);
                        devices.push(has);
                        on.push(item);
                    } else {
                        subtract(&mut room, demand);
                    }
                }
                let mut bin = Bin { room, free: room, gpu_room, gpus, devices, shape, items: on };
                bin.settle(&items);
                bin
            })
            .collect();
        let waits = |task: &TaskId| snapshot.placement(*task).is_none() && self.is_movable(*task);
        let unit = f64::from(2).powi(-i32::try_from(self.prices.denominator_log2).unwrap_or(0));
        Board {
            items,
            bins,
            waiting: (0..)
                .zip(self.tasks)
                .filter(|(_, task)| waits(task))
                .map(|(i, _)| i)
                .collect(),
            obeys: (0..self.model.rules.len())
                .map(|rules| self.model.machines.iter().map(|m| m.obeys[rules]).collect())
                .collect(),
            by_worth_one_in: match self.worth {
                Worth::Price => None,
                Worth::Of(_) => Some(BY_WORTH_ONE_IN),
            },
            multipliers: self
                .prices
                .machines
                .iter()
                .map(|machine| machine.multipliers.map(|m| float(m) * unit))
                .collect(),
        }
    }

    /// Takes the dearest tasks that may stay pending off the board, as many as may. What waits and may
    /// not stay pending is left waiting.
    fn set_aside(&self, board: &mut Board) {
        let allowed = usize::try_from(self.model.pending_allowed).unwrap_or(usize::MAX);
        let mut candidates: Vec<u32> = (0..)
            .zip(self.tasks)
            .filter(|&(item, &task)| self.may_wait[item as usize] && self.is_movable(task))
            .map(|(item, _)| item)
            .collect();
        candidates.sort_by_key(|&item| (std::cmp::Reverse(board.items[item as usize].price), item));
        candidates.truncate(allowed);
        let aside: std::collections::BTreeSet<u32> = candidates.iter().copied().collect();
        if !aside.is_empty() {
            board.waiting.retain(|item| !aside.contains(item));
            for bin in &mut board.bins {
                bin.retain(&board.items, |item| !aside.contains(&item));
            }
        }
    }

    /// The packing as a snapshot: what may not move as in `greedy`, the rest as on the board. Every
    /// placement is checked again.
    pub(crate) fn rebuild(
        &self,
        greedy: &Snapshot<'c>,
        slots: &[Slot],
        bins: &[Bin],
    ) -> Snapshot<'c> {
        let mut end = Snapshot::empty(self.cell, slots, self.accounting);
        // Allocs first, so that what runs in them finds its host.
        for kind in [JobKind::AllocSet, JobKind::Job] {
            for &task in self.tasks {
                let job = self.cell.job(task.job);
                if job.kind != kind || self.is_movable(task) {
                    continue;
                }
                let Some(at) = greedy.placement(task) else { continue };
                let row = match greedy.alloc(at.row) {
                    Some(alloc) => end.row_of_alloc(alloc).expect("allocs are placed first"),
                    None => at.row,
                };
                end.place_on(task, row, Some(at.gpu_devices));
            }
        }
        for (row, bin) in bins.iter().enumerate() {
            let mut apart = std::collections::BTreeSet::new();
            for (&item, &devices) in bin.items.iter().zip(&bin.devices) {
                let task = self.tasks[item as usize];
                let job = self.cell.job(task.job);
                assert!(!job.different_machines || apart.insert(task.job), "different machines");
                end.place_on(task, row, Some(devices));
            }
        }
        end
    }
}

fn subtract(amounts: &mut crate::model::Amounts, demand: &crate::model::Amounts) {
    for r in 0..RESOURCE_COUNT {
        if amounts[r] != UNLIMITED {
            amounts[r] = amounts[r].saturating_sub(demand[r]);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "weights for a search")]
fn float(amount: u64) -> f64 {
    amount as f64
}
