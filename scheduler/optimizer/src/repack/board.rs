//! The state under repacking: what may still move, where it would fit, and the moves made so far.
//!
//! Every move is checked by the exact [`Draft`] while the task is still where it came from, so that it may
//! be started at its new place before it is stopped at the old one. Moves are taken back last first, so
//! that each state on the way is one that was there before.

use std::collections::BTreeMap;

use cell::{Cell, JobKind, TaskId};
use scheduler::{Accounting, Draft, Placement, Snapshot};

use super::Limit;
use crate::disruption::Disruptions;
use crate::model::{Model, RESOURCE_COUNT};
use crate::objective::Objective;

/// What a search asks about a task.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Info {
    /// What it is charged, in the order of [`crate::model::RESOURCES`].
    pub demand: [i64; RESOURCE_COUNT],
    /// Its task shape in [`Board::model`].
    pub shape: usize,
    /// Cost of moving it, in thousandths of a machine.
    pub cost: u64,
    /// Its charge in sum over the resources, as a part of the mean machine: large tasks go first.
    pub size: f64,
    /// Whether it stays whatever the limits: allocs, what runs in one, what is tied to its machine.
    is_fixed: bool,
    is_moved: bool,
}

/// One move that was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub task: TaskId,
    pub from: Placement,
    pub to: usize,
}

/// The state, with what it takes to change it.
#[derive(Clone, Debug)]
pub(crate) struct Board<'c> {
    pub cell: &'c Cell,
    pub model: Model,
    draft: Draft<'c>,
    infos: Vec<Option<Info>>,
    /// Where the tasks of each job start in `infos`.
    offsets: Vec<usize>,
    /// Free on each machine, as [`scheduler::Rooms::free`] says.
    free: Vec<[i64; RESOURCE_COUNT]>,
    /// The same in sum, each as a part of the mean machine.
    left: Vec<f64>,
    /// What each machine has, as [`scheduler::Rooms::capacities`] says.
    capacities: Vec<[f64; 4]>,
    shape_of_row: Vec<usize>,
    /// One over what the mean machine has; 0 where machines have or state none.
    per_mean: [f64; RESOURCE_COUNT],
    disruptions: Disruptions,
    limit: Limit,
    steps: Vec<Step>,
    cost: u64,
}

impl<'c> Board<'c> {
    pub(crate) fn new(start: Snapshot<'c>, limit: Limit) -> Self {
        let cell = start.cell();
        let accounting = start.accounting();
        let placed: Vec<TaskId> = cell
            .tasks()
            .map(|(id, _, _)| id)
            .filter(|&task| start.placement(task).is_some())
            .collect();
        let model = Model::of(cell, &placed, accounting, 0, &|_| false);
        let mut offsets = Vec::with_capacity(cell.jobs.len());
        let mut count = 0;
        for job in &cell.jobs {
            offsets.push(count);
            count += job.tasks.len();
        }
        let rows = start.machine_count();
        let mut board = Self {
            cell,
            infos: vec![None; count],
            offsets,
            free: (0..rows).map(|row| start.free(row)).collect(),
            left: vec![0.0; rows],
            capacities: (0..rows).map(|row| start.capacities(row)).collect(),
            shape_of_row: (0..rows).map(|row| model.machine_shape(start.slot(row))).collect(),
            per_mean: per_mean(&start),
            disruptions: Disruptions::of(cell),
            limit,
            steps: Vec::new(),
            cost: 0,
            model,
            draft: Draft::of(start),
        };
        board.describe(&placed, accounting);
        (0..rows).for_each(|row| board.refresh(row));
        board
    }

    fn describe(&mut self, placed: &[TaskId], accounting: Accounting) {
        let objective = Objective::of(self.cell, accounting);
        for (index, &task) in placed.iter().enumerate() {
            let job = self.cell.job(task.job);
            let demand = self.snapshot().charged(task);
            let shape = self.model.shape_of_task[index];
            let info = Info {
                demand,
                cost: objective.share(task),
                size: (0..4).map(|r| float(demand[r]) * self.per_mean[r]).sum(),
                is_fixed: shape.is_none() || job.kind == JobKind::AllocSet || job.tied_to_machines,
                shape: shape.unwrap_or(0),
                is_moved: false,
            };
            let dense = self.dense(task);
            self.infos[dense] = Some(info);
        }
    }

    pub(crate) fn snapshot(&self) -> &Snapshot<'c> {
        self.draft.snapshot()
    }

    pub(crate) fn row_count(&self) -> usize {
        self.free.len()
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Cost of the moves so far, in thousandths of a machine.
    pub(crate) fn cost(&self) -> u64 {
        self.cost
    }

    pub(crate) fn disruptions(&self) -> &Disruptions {
        &self.disruptions
    }

    pub(crate) fn limit(&self) -> Limit {
        self.limit
    }

    /// For asking what could be done without a limit.
    pub(crate) fn set_limit(&mut self, limit: Limit) {
        self.limit = limit;
    }

    /// What is left of the limit: moves, or thousandths of a machine.
    pub(crate) fn limit_left(&self) -> u64 {
        let spent = match self.limit {
            Limit::Moves(_) => self.steps.len() as u64,
            Limit::Cost(_) => self.cost,
        };
        self.limit.amount().saturating_sub(spent)
    }

    /// What moving a task takes of the limit.
    pub(crate) fn weight(&self, task: TaskId) -> u64 {
        match self.limit {
            Limit::Moves(_) => 1,
            Limit::Cost(_) => self.info(task).cost,
        }
    }

    /// What emptying a machine takes of the limit.
    pub(crate) fn weight_of_row(&self, row: usize) -> u64 {
        self.snapshot().tasks_on(row).iter().map(|&task| self.weight(task)).sum()
    }

    /// # Panics
    /// If the task had no place at the start.
    pub(crate) fn info(&self, task: TaskId) -> &Info {
        self.infos[self.dense(task)].as_ref().expect("only tasks with a place are asked for")
    }

    pub(crate) fn is_fixed(&self, task: TaskId) -> bool {
        self.info(task).is_fixed
    }

    pub(crate) fn is_moved(&self, task: TaskId) -> bool {
        self.info(task).is_moved
    }

    /// Whether a task may move by itself and by the limits.
    pub(crate) fn may_move(&self, task: TaskId) -> bool {
        let info = self.info(task);
        !info.is_fixed
            && !info.is_moved
            && self.disruptions.left(task.job) > 0
            && self.weight(task) <= self.limit_left()
    }

    /// Whether the limits on disruption let all of these move.
    pub(crate) fn may_disrupt(&self, tasks: &[TaskId]) -> bool {
        let mut counts: BTreeMap<usize, u64> = BTreeMap::new();
        let limits = tasks.iter().flat_map(|task| self.disruptions.limits(task.job));
        limits.for_each(|&limit| *counts.entry(limit).or_default() += 1);
        counts.into_iter().all(|(limit, count)| count <= self.disruptions.all_left()[limit])
    }

    /// Whether something is on a machine: those with nothing on them take nothing, so that none that is
    /// whole is broken.
    pub(crate) fn is_in_use(&self, row: usize) -> bool {
        !self.snapshot().tasks_on(row).is_empty()
    }

    pub(crate) fn free(&self, row: usize) -> &[i64; RESOURCE_COUNT] {
        &self.free[row]
    }

    /// What a machine has of CPU, RAM, disk and GPU; 0 where it has none or does not state it.
    pub(crate) fn capacity(&self, row: usize) -> &[f64; 4] {
        &self.capacities[row]
    }

    /// Free on a machine in sum, each resource as a part of the mean machine.
    pub(crate) fn left(&self, row: usize) -> f64 {
        self.left[row]
    }

    /// One over what the mean machine has of each resource; 0 where machines have or state none.
    pub(crate) fn per_mean(&self) -> &[f64; RESOURCE_COUNT] {
        &self.per_mean
    }

    /// Whether the hard constraints on attributes hold.
    pub(crate) fn obeys(&self, shape: usize, row: usize) -> bool {
        self.model.machines[self.shape_of_row[row]].obeys[self.model.tasks[shape].rules]
    }

    /// Whether room and attributes will do, so far as amounts tell; devices and the job's other tasks are
    /// asked for with [`Board::takes`].
    pub(crate) fn may_fit(&self, info: &Info, row: usize) -> bool {
        has_room(&info.demand, &self.free[row]) && self.obeys(info.shape, row)
    }

    /// Whether a machine takes a task that runs elsewhere: exactly.
    pub(crate) fn takes(&mut self, task: TaskId, row: usize) -> bool {
        let from = self.snapshot().placement(task).map(|placement| placement.row);
        from != Some(row)
            && self.draft.has_room(task, row, &[])
            && self.draft.obeys_rules(task, row)
    }

    /// Whether a machine would take a task once another is gone from it.
    pub(crate) fn takes_without(&mut self, task: TaskId, row: usize, without: TaskId) -> bool {
        self.draft.has_room(task, row, &[without]) && self.draft.obeys_rules(task, row)
    }

    /// The fullest machine in use that takes a task and is wanted; the first of equals.
    pub(crate) fn best_fit(
        &mut self,
        task: TaskId,
        is_wanted: &dyn Fn(&Self, usize) -> bool,
    ) -> Option<usize> {
        let info = *self.info(task);
        let mut best: Option<usize> = None;
        for row in 0..self.row_count() {
            if best.is_none_or(|best| self.left[row] < self.left[best])
                && self.may_fit(&info, row)
                && self.is_in_use(row)
                && is_wanted(self, row)
                && self.takes(task, row)
            {
                best = Some(row);
            }
        }
        best
    }

    /// Moves a task to a machine that takes it.
    ///
    /// # Panics
    /// If it may not move or does not fit.
    pub(crate) fn go(&mut self, task: TaskId, to: usize) {
        assert!(self.may_move(task), "{} may not move", self.cell.task_name(task));
        let from = self.snapshot().placement(task).expect("what moves has a place");
        assert!(self.disruptions.take(task.job), "asked above");
        self.draft.remove(task);
        self.draft.place(task, to);
        self.note(task, true);
        self.cost += self.info(task).cost;
        self.steps.push(Step { task, from, to });
        self.refresh(from.row);
        self.refresh(to);
    }

    /// Takes moves back, last first, until so many are left.
    pub(crate) fn undo_to(&mut self, count: usize) {
        while self.steps.len() > count {
            let Some(Step { task, from, to }) = self.steps.pop() else { return };
            self.draft.remove(task);
            self.draft.restore(task, from);
            self.disruptions.give_back(task.job);
            self.note(task, false);
            self.cost -= self.info(task).cost;
            self.refresh(from.row);
            self.refresh(to);
        }
    }

    /// Tasks on a machine, the largest first.
    pub(crate) fn largest_first(&self, row: usize) -> Vec<TaskId> {
        let mut tasks = self.snapshot().tasks_on(row).to_vec();
        tasks.sort_by(|&a, &b| {
            self.info(b).size.total_cmp(&self.info(a).size).then_with(|| a.cmp(&b))
        });
        tasks
    }

    fn note(&mut self, task: TaskId, is_moved: bool) {
        let dense = self.dense(task);
        if let Some(info) = &mut self.infos[dense] {
            info.is_moved = is_moved;
        }
    }

    fn refresh(&mut self, row: usize) {
        let free = self.snapshot().free(row);
        self.free[row] = free;
        self.left[row] = (0..4).map(|r| float(free[r]) * self.per_mean[r]).sum();
    }

    fn dense(&self, task: TaskId) -> usize {
        self.offsets[task.job.index()] + task.position as usize
    }
}

/// Whether amounts fit; a request of zero is never checked.
pub(crate) fn has_room(demand: &[i64; RESOURCE_COUNT], free: &[i64; RESOURCE_COUNT]) -> bool {
    (0..RESOURCE_COUNT).all(|r| demand[r] == 0 || demand[r] <= free[r])
}

/// One over what the mean machine has of each resource, 0 where some machine does not state it.
fn per_mean(start: &Snapshot<'_>) -> [f64; RESOURCE_COUNT] {
    let rows = start.machine_count();
    let mut sums = [0.0; 4];
    for row in 0..rows {
        let capacities = start.capacities(row);
        (0..4).for_each(|r| sums[r] += capacities[r]);
    }
    let is_stated = (0..rows).all(|row| start.free(row)[2] != i64::MAX);
    let mut per_mean = [0.0; RESOURCE_COUNT];
    for r in (0..4).filter(|&r| sums[r] > 0.0 && (r != 2 || is_stated)) {
        per_mean[r] = float(i64::try_from(rows).unwrap_or(i64::MAX)) / sums[r];
    }
    (per_mean[4], per_mean[5]) = (per_mean[0], per_mean[1]);
    per_mean
}

#[expect(clippy::cast_precision_loss, reason = "to compare fills")]
pub(crate) fn float(amount: i64) -> f64 {
    amount as f64
}
