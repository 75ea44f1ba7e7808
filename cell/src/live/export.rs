//! A live state as a [`Cell`] of its own, for questions that are asked of cells: how would it pack, how few
//! machines does it need?
//!
//! Only what lives is in it: no empty slots, no dead tasks, nor those that are killed and only have to go; no
//! jobs that have ended, and no machines that take no tasks (removed, down, drained, not heard yet). A task that
//! runs on such a machine runs out of sight, as in a trace that does not describe the machine. Tasks keep
//! their reservations and what they avoid, jobs what is left of their limits on disruption.

use std::collections::{BTreeMap, BTreeSet};

use super::State;
use super::record::{AfterStop, Phase};
use crate::id::{JobId, MachineId, TaskId};
use crate::job::{Host, Job, JobKind, Task, TaskState};
use crate::state::Cell;

impl State {
    /// What lives of the state, as a cell with ids of its own.
    #[must_use]
    pub fn export(&self) -> Cell {
        let mut machine_of: BTreeMap<MachineId, MachineId> = BTreeMap::new();
        let mut machines = Vec::new();
        for (id, record) in self.machines() {
            if record.is_open() {
                machine_of.insert(id, MachineId::from_index(machines.len()));
                machines.push(self.cell.machine(id).clone());
            }
        }
        // Allocs first: what is in them needs their new ids.
        let mut job_of: BTreeMap<JobId, JobId> = BTreeMap::new();
        let mut alloc_of: BTreeMap<TaskId, (TaskId, bool)> = BTreeMap::new();
        // A job whose alloc set ended can run nowhere, and must not go onto machines.
        let living = self.jobs().filter(|(_, job)| job.ended.is_none());
        let sets: BTreeSet<JobId> =
            living.filter_map(|(slot, _)| self.cell.job(slot).alloc_set).collect();
        let living = self.jobs().filter(|(slot, job)| job.ended.is_none() || sets.contains(slot));
        let mut order: Vec<(u64, JobId)> = living.map(|(slot, job)| (job.uid, slot)).collect();
        // Slots are used again: the order of submission is that of the numbers.
        order.sort_unstable();
        for (number, &(_, slot)) in order.iter().enumerate() {
            let job = JobId::from_index(number);
            job_of.insert(slot, job);
            if self.cell.job(slot).kind != JobKind::AllocSet {
                continue;
            }
            for (alloc, position) in self.living_tasks(slot).zip(0..) {
                let is_seen = self
                    .task_place(alloc)
                    .is_some_and(|place| machine_of.contains_key(&place.machine));
                alloc_of.insert(alloc, (TaskId { job, position }, is_seen));
            }
        }
        let place = |id: TaskId| match self.task_place(id)?.on {
            Host::Machine(machine) => machine_of.get(&machine).map(|&id| Host::Machine(id)),
            Host::Alloc(alloc) => match alloc_of.get(&alloc) {
                Some(&(alloc, true)) => Some(Host::Alloc(alloc)),
                Some((_, false)) | None => None,
            },
        };
        let task = |id: TaskId| {
            let task = self.cell.task(id);
            let state = match task.state {
                TaskState::Pending => TaskState::Pending,
                TaskState::Running { .. } => TaskState::Running { on: place(id) },
            };
            let avoid = task.avoid.iter().filter_map(|id| machine_of.get(id).copied()).collect();
            Task { state, avoid, ..task.clone() }
        };
        let jobs = order.iter().map(|&(_, slot)| {
            let job = self.cell.job(slot);
            let alloc_set = job.alloc_set.and_then(|set| job_of.get(&set).copied());
            let tasks = self.living_tasks(slot).map(task).collect();
            Job { alloc_set, tasks, ..job.clone() }
        });
        Cell {
            jobs: jobs.collect(),
            machines: machines.into(),
            users: self.cell.users.clone(),
            kube: None,
        }
    }

    /// The tasks of a job that are neither dead nor dying, in their order.
    fn living_tasks(&self, slot: JobId) -> impl Iterator<Item = TaskId> + '_ {
        let tasks = self.job_at(slot).tasks.iter().zip(0..);
        tasks.filter_map(move |(task, position)| match task.phase {
            Phase::Dead { .. } | Phase::Stopping { then: AfterStop::Die, .. } => None,
            Phase::Waiting { .. }
            | Phase::Assigned(_)
            | Phase::Running { .. }
            | Phase::Stopping { then: AfterStop::Requeue(_), .. } => {
                Some(TaskId { job: slot, position })
            }
        })
    }
}
