//! Checks a state against itself: everything that is kept beside the records is worked out from them anew.
//!
//! As slow as it is simple: for tests, for the simulation, and for a state that came from elsewhere.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::account::{Account, Size};
use super::record::{JobRecord, Phase};
use super::{QueuePlace, State, hash};
use crate::borglet::TaskKey;
use crate::job::{Host, JobKind, TaskState};
use crate::spec::JobSpec;

/// What is wrong with a state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fault(pub String);

/// The specs of jobs with their hashes, as they were worked out for the state before: who checks one state
/// after the other need not hash a spec again that is the same.
#[derive(Debug, Default)]
pub struct KnownSpecs {
    /// By job: the spec, the one before it, and the hash of both.
    of: BTreeMap<u64, (JobSpec, Option<JobSpec>, u64)>,
}

impl KnownSpecs {
    /// The hash of a job's specs.
    fn hash(&mut self, job: &JobRecord) -> u64 {
        let (spec, previous) = (&*job.spec, job.previous.as_deref());
        match self.of.get(&job.uid) {
            Some((known, before, hash)) if (known, before.as_ref()) == (spec, previous) => *hash,
            Some(_) | None => {
                let hash = hash::of_specs(job);
                self.of.insert(job.uid, (spec.clone(), previous.cloned(), hash));
                hash
            }
        }
    }
}

impl State {
    /// Everything that is wrong: sums that are not those of their tasks, hosts that hold more than they
    /// have, lists that contradict each other. Empty for any state that [`State::apply`] led to.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        self.faults_since(&mut KnownSpecs::default())
    }

    /// The same, where the state before was checked.
    #[must_use]
    pub fn faults_since(&self, known: &mut KnownSpecs) -> Vec<Fault> {
        let mut faults = Vec::new();
        self.check_hosts(&mut faults);
        self.check_jobs(known, &mut faults);
        known.of.retain(|uid, _| self.slots.contains_key(uid));
        if self.quota_used_afresh() != self.quota_used {
            faults.push(Fault("quota in use is not that of the jobs".to_owned()));
        }
        let mut dependents: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        for (_, job) in self.jobs() {
            for &before in job.waits_for.iter().chain(&job.alloc_set) {
                dependents.entry(before).or_default().insert(job.uid);
                if !self.slots.contains_key(&before) {
                    faults.push(Fault(format!("{} names a job that is not there", job.name)));
                }
            }
        }
        if dependents != self.dependents {
            faults.push(Fault("who depends on whom is not as the jobs say".to_owned()));
        }
        if self.sum_afresh() != self.sum {
            faults.push(Fault("the hash is not that of the records".to_owned()));
        }
        faults
    }

    fn check_hosts(&self, faults: &mut Vec<Fault>) {
        let mut sums: BTreeMap<Host, (Account, Account)> = BTreeMap::new();
        let mut running = 0;
        for (slot, job) in self.jobs() {
            for (task, position) in job.tasks.iter().zip(0..) {
                let id = crate::TaskId { job: slot, position };
                let Some(place) = task.phase.place() else { continue };
                let need = self.need(id, place.gpu_devices);
                let (present, future) = sums.entry(place.on).or_default();
                if matches!(task.phase, Phase::Running { .. } | Phase::Stopping { .. }) {
                    present.add(&need);
                    running += u64::from(job.kind == JobKind::Job);
                }
                if matches!(task.phase, Phase::Running { .. } | Phase::Assigned(_)) {
                    future.add(&need);
                }
                let listed = &self.machines[place.machine.index()].tasks;
                if !listed.contains(&(place.incarnation, id)) {
                    faults.push(Fault(format!(
                        "{} is not in its machine's list",
                        self.task_name(id)
                    )));
                }
            }
        }
        if running != self.running_count {
            faults.push(Fault(format!("{running} tasks run, not {}", self.running_count)));
        }
        for (id, machine) in self.machines() {
            let host = Host::Machine(id);
            let (present, future) = sums.remove(&host).unwrap_or_default();
            let name = &machine.spec.name;
            if (&present, &future) != (&machine.present, &machine.future) {
                faults
                    .push(Fault(format!("the sums of machine {name} are not those of its tasks")));
            }
            let size = Size::of_machine(&self.cell.machine(id).capacity);
            if let Some(resource) = present.over(&size).filter(|_| !self.is_over_by_usage(id)) {
                faults.push(Fault(format!("machine {name} holds more {resource} than it has")));
            }
            if let Some(resource) = future.over(&size) {
                faults.push(Fault(format!("machine {name} will hold more {resource} than it has")));
            }
            let placed = machine.tasks.iter().filter(|(incarnation, task)| {
                self.record(*task).phase.place().is_some_and(|p| p.incarnation == *incarnation)
            });
            if placed.count() != machine.tasks.len() {
                faults.push(Fault(format!("machine {name} lists tasks that are not there")));
            }
        }
        for (alloc, envelope) in &self.envelopes {
            let (present, future) = sums.remove(&Host::Alloc(*alloc)).unwrap_or_default();
            if (&present, &future) != (&envelope.present, &envelope.future) {
                let name = self.task_name(*alloc);
                faults.push(Fault(format!("the sums of alloc {name} are not those of its tasks")));
            }
        }
        if let Some(host) = sums.keys().next() {
            faults.push(Fault(format!("tasks are on {host:?}, which is not there")));
        }
    }

    /// Whether a machine is over what it has because of tasks that are on their way out: reservations rose,
    /// and who has to go for it is told, but has not gone yet.
    fn is_over_by_usage(&self, id: crate::MachineId) -> bool {
        let tasks = &self.machines[id.index()].tasks;
        tasks.iter().any(|&(_, task)| matches!(self.record(task).phase, Phase::Stopping { .. }))
    }

    fn check_jobs(&self, known: &mut KnownSpecs, faults: &mut Vec<Fault>) {
        let mut waiting = BTreeSet::new();
        for (slot, job) in self.jobs() {
            let view = self.cell.job(slot);
            let is_alike = view.name == *job.name && view.priority.get() == job.spec.priority;
            if view.tasks.len() != job.tasks.len() || !is_alike {
                faults.push(Fault(format!("job {} is not as schedulers see it", job.name)));
                continue;
            }
            let count = |test: &dyn Fn(&super::TaskRecord) -> bool| {
                u32::try_from(job.tasks.iter().filter(|task| test(task)).count())
                    .unwrap_or(u32::MAX)
            };
            if count(&|task| !matches!(task.phase, Phase::Dead { .. })) != job.alive {
                faults.push(Fault(format!("job {} counts its living tasks wrongly", job.name)));
            }
            if count(&|task| task.is_disrupted) != job.disrupted {
                faults.push(Fault(format!("job {} counts its disrupted tasks wrongly", job.name)));
            }
            if (job.alive == 0) != job.ended.is_some() {
                faults
                    .push(Fault(format!("job {} has ended, or not, against its tasks", job.name)));
            }
            if known.hash(job) != job.spec_hash {
                faults.push(Fault(format!("job {} has another spec than it was", job.name)));
            }
            for ((task, position), seen) in job.tasks.iter().zip(0..).zip(&view.tasks) {
                let id = crate::TaskId { job: slot, position };
                let state = match task.phase {
                    Phase::Running { place, .. } | Phase::Assigned(place) => {
                        TaskState::Running { on: Some(place.on) }
                    }
                    Phase::Waiting { .. } | Phase::Stopping { .. } | Phase::Dead { .. } => {
                        TaskState::Pending
                    }
                };
                if seen.state != state
                    || (seen.reservation, &seen.avoid) != (task.reservation, &task.avoid)
                    || (seen.limit != task.limit
                        && job.ended.is_none()
                        && position < job.spec.count)
                {
                    let name = self.task_name(id);
                    faults.push(Fault(format!("{name} is {task:?}, and schedulers see {seen:?}")));
                }
                if matches!(task.phase, Phase::Waiting { .. }) {
                    waiting.insert(QueuePlace {
                        rank: Reverse(view.priority),
                        task: TaskKey { job: job.uid, index: position },
                    });
                }
            }
        }
        if waiting != self.waiting {
            faults.push(Fault("the queue is not of the tasks that wait".to_owned()));
        }
    }
}
