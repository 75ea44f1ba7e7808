//! A snapshot that is changed by trial: what fits where, by room and by the rules of each job.
//!
//! For searches that place, remove and place again. In: a [`Snapshot`]. Out: the same, changed. Every
//! placement is checked for room, save where [`Draft::restore`] takes a trial back; rules are asked for with
//! [`Draft::obeys_rules`].

use std::collections::BTreeMap;

use cell::{JobId, TaskId};

use crate::feasible;
use crate::job_state::{self, JobState};
use crate::preempt;
use crate::snapshot::{Placement, Snapshot};

/// A snapshot, and what each job has placed in it as far as its own rules ask.
#[derive(Clone, Debug)]
pub struct Draft<'c> {
    snapshot: Snapshot<'c>,
    states: BTreeMap<JobId, JobState>,
}

impl<'c> Draft<'c> {
    /// Starts from a snapshot.
    #[must_use]
    pub fn of(snapshot: Snapshot<'c>) -> Self {
        Self { snapshot, states: BTreeMap::new() }
    }

    /// As it is now.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot<'c> {
        &self.snapshot
    }

    /// As it is now, to keep.
    #[must_use]
    pub fn into_snapshot(self) -> Snapshot<'c> {
        self.snapshot
    }

    /// Whether a host takes something new and keeps the hard rules of a task: machines that it avoids, and of
    /// its job constraints on attributes, different machines, limits on spread, the alloc set it runs in.
    /// Says nothing about room.
    pub fn obeys_rules(&mut self, task: TaskId, row: usize) -> bool {
        let cell = self.snapshot.cell;
        let job = cell.job(task.job);
        let host = &self.snapshot.hosts[row];
        if host.alloc.map(|alloc| alloc.job) != job.alloc_set {
            return false;
        }
        if !feasible::takes(&self.snapshot, &cell.task(task).avoid, row) {
            return false;
        }
        let machine = cell.machine(host.slot.machine);
        let hard = job.constraints.iter().filter(|constraint| constraint.is_hard());
        if !hard.into_iter().all(|constraint| constraint.holds(&machine.attributes)) {
            return false;
        }
        if !job_state::is_kept_for(job) {
            return true;
        }
        let snapshot = &self.snapshot;
        let state = self.states.entry(task.job).or_insert_with(|| JobState::of(snapshot, task.job));
        !state.rules_out(snapshot, job, row)
    }

    /// Whether a host has room for a task once others are gone from it.
    #[must_use]
    pub fn has_room(&self, task: TaskId, row: usize, without: &[TaskId]) -> bool {
        preempt::fits_without(&self.snapshot, &self.snapshot.demand(task), row, without)
    }

    /// What a job would rather have of a host: [`Snapshot::preference`], and few of its tasks in one failure
    /// domain where it asks for spread; 0..=3, larger is better.
    pub fn preference(&mut self, task: TaskId, row: usize) -> f64 {
        let of_machine = self.snapshot.preference(task, row);
        let job = self.snapshot.cell.job(task.job);
        if job.spread.is_empty() {
            return of_machine + 1.0;
        }
        let snapshot = &self.snapshot;
        let state = self.states.entry(task.job).or_insert_with(|| JobState::of(snapshot, task.job));
        of_machine + state.spread_term(snapshot, job, row)
    }

    /// Places a task.
    ///
    /// # Panics
    /// If it has a place already or does not fit.
    pub fn place(&mut self, task: TaskId, row: usize) {
        self.snapshot.place(task, row);
        self.note_placed(task, row);
    }

    /// Places a task on these GPU devices, one bit each.
    ///
    /// # Panics
    /// If it has a place already or does not fit there.
    pub fn place_on(&mut self, task: TaskId, row: usize, gpu_devices: u16) {
        self.snapshot.place_on(task, row, Some(gpu_devices));
        self.note_placed(task, row);
    }

    /// Puts a task back where it was before a trial, on the same GPU devices. A recorded state may be
    /// over-committed, so this does not ask whether it fits.
    ///
    /// # Panics
    /// If it has a place, or others took its GPU devices meanwhile.
    pub fn restore(&mut self, task: TaskId, placement: Placement) {
        self.snapshot.restore(task, placement);
        self.note_placed(task, placement.row);
    }

    /// Takes a task off its host, and with an alloc everything in it: returned, the given one last.
    ///
    /// # Panics
    /// If it has no place.
    pub fn remove(&mut self, task: TaskId) -> Vec<TaskId> {
        let row = self.snapshot.placement(task).map(|placement| placement.row);
        let removed = self.snapshot.remove(task);
        for &gone in &removed {
            match (gone == task, row, self.states.get_mut(&gone.job)) {
                (true, Some(row), Some(state)) => {
                    state.remove(&self.snapshot, self.snapshot.cell.job(gone.job), row);
                }
                // What ran in an alloc: the job's books start anew.
                (_, _, Some(_)) => {
                    self.states.remove(&gone.job);
                }
                (_, _, None) => {}
            }
        }
        removed
    }

    fn note_placed(&mut self, task: TaskId, row: usize) {
        if let Some(state) = self.states.get_mut(&task.job) {
            state.add(&self.snapshot, self.snapshot.cell.job(task.job), row);
        }
    }
}

impl Snapshot<'_> {
    /// What a job would rather have of a machine: the part of its soft constraints that hold there, by
    /// weight, and the part of its packages that are installed; 0..=2, 1 for each of which it asks nothing.
    #[must_use]
    pub fn preference(&self, task: TaskId, row: usize) -> f64 {
        let job = self.cell.job(task.job);
        let machine = self.cell.machine(self.hosts[row].slot.machine);
        let soft = feasible::soft_satisfied(&job.constraints, &machine.attributes);
        let here =
            job.packages.iter().filter(|package| machine.packages.contains(*package)).count();
        #[expect(clippy::cast_precision_loss, reason = "a few packages")]
        let part =
            if job.packages.is_empty() { 1.0 } else { here as f64 / job.packages.len() as f64 };
        soft + part
    }
}

#[cfg(test)]
mod tests {
    use cell::spec::CellBuilder;

    use super::*;
    use crate::{Accounting, Slot};

    #[test]
    fn rules_of_a_job_follow_what_is_placed_and_removed() {
        let mut builder = CellBuilder::default();
        let machine = r#"{"name": "m", "count": 2, "cpu": 8, "ram": 8, "rack": "r"}"#;
        builder.add_machine(&serde_json::from_str(machine).unwrap()).unwrap();
        let apart = r#"{"name": "apart", "user": "u", "priority": 200, "count": 2,
            "limit": {"cpu": 1, "ram": 1}, "different_machines": true}"#;
        let spread = r#"{"name": "spread", "user": "u", "priority": 200, "count": 2,
            "limit": {"cpu": 1, "ram": 1}, "spread": [{"domain": "rack", "max_per_domain": 1}]}"#;
        for job in [apart, spread] {
            builder.add_job(&serde_json::from_str(job).unwrap()).unwrap();
        }
        let cell = builder.finish();
        let empty = Snapshot::empty(&cell, &Slot::all(&cell), Accounting::Limits);
        let mut draft = Draft::of(empty);
        let task = |name: &str| cell.find_task(name).unwrap();
        assert!(draft.obeys_rules(task("apart/1"), 0));
        draft.place(task("apart/0"), 0);
        assert!(!draft.obeys_rules(task("apart/1"), 0));
        assert!(draft.obeys_rules(task("apart/1"), 1));
        draft.place(task("spread/0"), 0);
        assert!(!draft.obeys_rules(task("spread/1"), 1), "one rack");
        assert_eq!(draft.remove(task("spread/0")), [task("spread/0")]);
        draft.remove(task("apart/0"));
        assert!(draft.obeys_rules(task("spread/1"), 1) && draft.obeys_rules(task("apart/1"), 0));
        assert!(draft.has_room(task("apart/0"), 0, &[]));
    }

    #[test]
    fn a_trial_is_taken_back_where_its_host_is_over_committed() {
        let mut builder = CellBuilder::default();
        let machine = r#"{"name": "m", "count": 2, "cpu": 8, "ram": 8}"#;
        builder.add_machine(&serde_json::from_str(machine).unwrap()).unwrap();
        let job = r#"{"name": "j", "user": "u", "priority": 200, "different_machines": true,
            "limit": {"cpu": 6, "ram": 1}, "tasks": [{"index": 0, "machine": "m-0"}]}"#;
        let other = r#"{"name": "other", "user": "u", "priority": 200,
            "limit": {"cpu": 6, "ram": 1}, "tasks": [{"index": 0, "machine": "m-0"}]}"#;
        for job in [job, other] {
            builder.add_job(&serde_json::from_str(job).unwrap()).unwrap();
        }
        let cell = builder.finish();
        let recorded = Snapshot::recorded(&cell, &Slot::all(&cell), Accounting::Limits);
        let mut draft = Draft::of(recorded);
        let task = cell.find_task("j/0").unwrap();
        let from = draft.snapshot().placement(task).unwrap();
        assert!(draft.snapshot().free(from.row)[0] < 0 && draft.obeys_rules(task, 1));
        draft.remove(task);
        draft.place(task, 1);
        draft.remove(task);
        draft.restore(task, from);
        assert_eq!(draft.snapshot().placement(task), Some(from));
        assert_eq!(draft.snapshot().free(from.row)[0], -4000);
        assert_eq!(draft.snapshot().check_sums(), None);
        assert!(!draft.obeys_rules(task, from.row), "its job is there again");
    }
}
