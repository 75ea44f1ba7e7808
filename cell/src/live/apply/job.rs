//! Jobs: submitted, updated, undone, killed, and dropped long after their end.
//!
//! Source: Borg (EuroSys '15) §2.3 and §2.5.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::user::{band_of, charge_of, charge_of_living};
use super::{Capability, Context};
use crate::band::Band;
use crate::borglet::TaskKey;
use crate::id::{JobId, TaskId, UserId};
use crate::job::{Job, JobKind, TaskState};
use crate::live::outcome::{Change, Done, Outcome, Rejected, What};
use crate::live::quota::Amounts;
use crate::live::record::{AfterStop, JobEnd, JobRecord, Phase, Place, TaskRecord};
use crate::live::{EvictCause, QueuePlace, State, hash};
use crate::resources::Resources;
use crate::spec::{JobSpec, SpecError, read_job, task_limit};

/// A job that ended is dropped once jobs that ended later have so many tasks. Our own limit: it bounds what a
/// master keeps of the past to a fraction of what a large cell runs.
const DEAD_TASK_COUNT_MAX: usize = 200_000;

impl State {
    pub(super) fn submit(
        &mut self,
        context: &mut Context,
        user: Option<&str>,
        spec: &JobSpec,
        is_alloc_set: bool,
    ) -> Outcome {
        let (job, waits_for, asked) = self.check_submit(user, spec, is_alloc_set)?;
        let kind = job.kind;
        let job = Job { user: self.user_id(&spec.user), ..job };
        let band = band_of(spec);

        // An ended job of the same name gives way.
        if let Some(slot) = self.job_names.get(&spec.name).copied() {
            self.drop_job(context, slot);
        }
        let uid = self.next_uid;
        self.next_uid += 1;
        let tasks = job.tasks.iter().map(|task| self.new_task(task.limit, 1)).collect();
        let alloc_set = job.alloc_set.map(|set| self.job_at(set).uid);
        let slot = self.free_slots.pop_first().unwrap_or_else(|| {
            self.jobs.push(None);
            self.cell.jobs.push(Self::empty_job());
            JobId::from_index(self.jobs.len() - 1)
        });
        let record = JobRecord {
            uid,
            kind,
            alloc_set,
            spec: Arc::new(spec.clone()),
            previous: None,
            version: 1,
            restart_below: 1,
            submitted_at: self.now,
            waits_for,
            is_killed: false,
            ended: None,
            tasks,
            name: Arc::from(spec.name.as_str()),
            disrupted: 0,
            alive: spec.count,
            on_machine: BTreeMap::new(),
            spec_hash: 0,
        };
        self.use_quota(&spec.user, band, asked);
        self.enter(slot, record, job);
        context.change(Change::Job(slot));
        context.event(self.now, What::Submitted { job: Arc::from(spec.name.as_str()), uid });
        Ok(Done::Job { uid, version: 1 })
    }

    /// Whether a job could be submitted: the job, the jobs that it waits for, and what it asks for.
    pub(super) fn check_submit(
        &self,
        user: Option<&str>,
        spec: &JobSpec,
        is_alloc_set: bool,
    ) -> Result<(Job, BTreeSet<u64>, Amounts), Rejected> {
        let kind = if is_alloc_set { JobKind::AllocSet } else { JobKind::Job };
        let job = self.read(spec, kind)?;
        if let Some(taken) = self.job(&spec.name)
            && (taken.ended.is_none() || self.dependents.contains_key(&taken.uid))
        {
            return Err(Rejected::NameTaken(spec.name.clone()));
        }
        self.may_change(user, &spec.user)?;
        self.may_use_band(user, spec)?;
        let mut waits_for = BTreeSet::new();
        for (i, name) in spec.run.start_after.iter().enumerate() {
            // Not after one of the same name that ended, either: it gives way to this one.
            if *name == spec.name {
                let problem = "a job cannot start after itself";
                return Err(SpecError::new(format!("run.start_after[{i}]"), problem).into());
            }
            let Some(before) = self.job(name) else {
                let problem = format!("no job is called {name:?}");
                return Err(SpecError::new(format!("run.start_after[{i}]"), problem).into());
            };
            if before.ended.is_none_or(|(_, end)| end != JobEnd::Finished) {
                waits_for.insert(before.uid);
            }
        }
        let asked = job
            .tasks
            .iter()
            .fold(Amounts::default(), |sum, task| sum.plus(Amounts::of(&task.limit)));
        let band = band_of(spec);
        self.is_within_quota(&spec.user, band, asked)?;
        Ok((job, waits_for, asked))
    }

    /// Puts a job into a free slot.
    pub(in crate::live) fn enter(&mut self, slot: JobId, mut record: JobRecord, job: Job) {
        record.spec_hash = hash::of_specs(&record);
        let uid = record.uid;
        self.sum.add(hash::of_job(&record));
        for (task, index) in record.tasks.iter_mut().zip(0..) {
            task.hash = hash::of_task(uid, index, task);
            self.sum.add(task.hash);
            if matches!(task.phase, Phase::Waiting { .. }) {
                let task = TaskKey { job: uid, index };
                self.waiting.insert(QueuePlace { rank: Reverse(job.priority), task });
            }
        }
        for before in record.waits_for.iter().chain(&record.alloc_set) {
            self.dependents.entry(*before).or_default().insert(uid);
        }
        self.slots.insert(uid, slot);
        self.job_names.insert(job.name.clone(), slot);
        if let Some((at, _)) = record.ended {
            self.dead.insert((at, uid));
        }
        self.jobs[slot.index()] = Some(record);
        self.cell.jobs[slot.index()] = job;
    }

    fn new_task(&self, limit: Resources, version: u32) -> TaskRecord {
        TaskRecord {
            phase: Phase::Waiting { since: self.now, not_before: self.now, after: None },
            version,
            limit,
            reservation: None,
            failures: 0,
            failed_on: Vec::new(),
            avoid: Vec::new(),
            is_disrupted: false,
            placed_count: 0,
            hash: 0,
        }
    }

    /// The job that a spec describes, as schedulers see it, save for its user.
    fn read(&self, spec: &JobSpec, kind: JobKind) -> Result<Job, SpecError> {
        for (i, task) in spec.tasks.iter().enumerate() {
            let given = [
                ("machine", task.machine.is_some()),
                ("alloc", task.alloc.is_some()),
                ("ran_seconds", task.ran_seconds.is_some()),
            ];
            if let Some((name, _)) = given.iter().find(|(_, is_given)| *is_given) {
                let problem = "a submitted task has no place yet";
                return Err(SpecError::new(format!("tasks[{i}].{name}"), problem));
            }
        }
        let alloc_set = match &spec.alloc_set {
            None => None,
            Some(_) if kind == JobKind::AllocSet => {
                return Err(SpecError::new("alloc_set", "an alloc set cannot run in another"));
            }
            Some(name) => {
                let slot = self.job_names.get(name).copied();
                let slot = slot.filter(|&slot| {
                    let set = self.job_at(slot);
                    set.kind == JobKind::AllocSet && set.ended.is_none()
                });
                let unknown = || format!("no alloc set is called {name:?}");
                let slot = slot.ok_or_else(|| SpecError::new("alloc_set", unknown()))?;
                // With an alloc goes what is in it, and production does not have to go.
                if band_of(spec).is_prod() && !band_of(&self.job_at(slot).spec).is_prod() {
                    let problem = format!(
                        "{name:?} is below production and may be preempted: production cannot run in it"
                    );
                    return Err(SpecError::new("alloc_set", problem));
                }
                Some(slot)
            }
        };
        read_job(spec, kind, UserId(0), alloc_set)
    }

    pub(in crate::live) fn user_id(&mut self, name: &str) -> UserId {
        if let Some(&user) = self.user_names.get(name) {
            return user;
        }
        let user = UserId::from_index(self.cell.users.len());
        self.cell.users.push(name.to_owned());
        self.user_names.insert(name.to_owned(), user);
        user
    }

    /// Whether a user may change jobs of an owner.
    fn may_change(&self, user: Option<&str>, owner: &str) -> Result<(), Rejected> {
        match user {
            Some(user) if user != owner => self.require(Some(user), Capability::AnyJob),
            _ => Ok(()),
        }
    }

    fn may_use_band(&self, user: Option<&str>, spec: &JobSpec) -> Result<(), Rejected> {
        match band_of(spec) {
            Band::Monitoring => self.require(user, Capability::Monitoring),
            Band::Free | Band::Batch | Band::Mid | Band::Production => Ok(()),
        }
    }

    /// The slot of a job that has not ended.
    fn living(&self, name: &str) -> Result<JobId, Rejected> {
        let unknown = || Rejected::Unknown { kind: "job".to_owned(), name: name.to_owned() };
        let slot = *self.job_names.get(name).ok_or_else(unknown)?;
        match self.job_at(slot).ended {
            None => Ok(slot),
            Some(_) => Err(Rejected::Ended(name.to_owned())),
        }
    }

    pub(super) fn update(
        &mut self,
        context: &mut Context,
        user: Option<&str>,
        spec: &JobSpec,
    ) -> Outcome {
        let (slot, job) = self.check_update(user, spec)?;
        self.change_spec(context, slot, spec, job)
    }

    pub(super) fn check_update(
        &self,
        user: Option<&str>,
        spec: &JobSpec,
    ) -> Result<(JobId, Job), Rejected> {
        let slot = self.check_change(user, &spec.name)?;
        Ok((slot, self.check_spec(user, slot, spec)?))
    }

    /// The job that a user wants to change.
    pub(super) fn check_change(&self, user: Option<&str>, name: &str) -> Result<JobId, Rejected> {
        let slot = self.living(name)?;
        self.may_change(user, &self.job_at(slot).spec.user)?;
        Ok(slot)
    }

    pub(super) fn undo(
        &mut self,
        context: &mut Context,
        user: Option<&str>,
        name: &str,
    ) -> Outcome {
        let slot = self.check_change(user, name)?;
        let previous = self.job_at(slot).previous.clone();
        let previous = previous.ok_or_else(|| Rejected::NothingToUndo(name.to_owned()))?;
        let job = self.check_spec(user, slot, &previous)?;
        self.change_spec(context, slot, &previous, job)
    }

    /// Whether a job could be given another spec; the job as it would be.
    fn check_spec(&self, user: Option<&str>, slot: JobId, spec: &JobSpec) -> Result<Job, Rejected> {
        let kind = self.job_at(slot).kind;
        let old = &self.job_at(slot).spec;
        let job = self.read(spec, kind)?;
        let fixed = [
            ("user", spec.user == old.user),
            ("alloc_set", spec.alloc_set == old.alloc_set),
            ("run.start_after", spec.run.start_after == old.run.start_after),
            ("different_machines", spec.different_machines == old.different_machines),
            ("spread", spec.spread == old.spread),
        ];
        if let Some((field, _)) = fixed.iter().find(|(_, is_same)| !is_same) {
            let problem = "an update cannot change it: submit another job";
            return Err(SpecError::new(*field, problem).into());
        }
        let (band, old_band) = (band_of(spec), band_of(old));
        if band.is_prod() != old_band.is_prod() {
            let problem = "an update cannot move a job into production or out of it";
            return Err(SpecError::new("priority", problem).into());
        }
        if kind == JobKind::AllocSet && (spec.count < old.count || spec.limit != old.limit) {
            let problem = "allocs cannot be removed or resized by an update";
            return Err(SpecError::new("count", problem).into());
        }
        self.may_use_band(user, spec)?;
        let before = charge_of_living(self.job_at(slot));
        let after = self.charge_after(slot, spec);
        let more = if band == old_band { after.minus(before) } else { after };
        let admitted = self.is_within_quota(&spec.user, band, more);
        #[cfg(debug_assertions)]
        let admitted = match self.is_mutated(crate::live::Mutation::ForgetQuotaOnUpdate) {
            true => Ok(()),
            false => admitted,
        };
        admitted.map(|()| job)
    }

    /// Gives a job another spec. Tasks that wait take it at once; of those that run, those that have to be
    /// started anew for it are evicted by and by, by whoever leads (`EvictCause::Updated`).
    fn change_spec(
        &mut self,
        context: &mut Context,
        slot: JobId,
        spec: &JobSpec,
        job: Job,
    ) -> Outcome {
        let old = self.job_at(slot).spec.clone();
        let job = Job { user: self.user_id(&spec.user), ..job };
        let before = charge_of_living(self.job_at(slot));
        let after = self.charge_after(slot, spec);
        self.free_quota(&spec.user, band_of(&old), before);
        self.use_quota(&spec.user, band_of(spec), after);
        let is_restarted = needs_restart(&old, spec);
        // Tasks that the last update has not come to yet may be what this one wants: it takes that back.
        let is_taken_back = self
            .job_at(slot)
            .previous
            .as_deref()
            .is_some_and(|spec_then| !needs_restart(spec_then, spec));
        let restart_below = self.job_at(slot).restart_below;
        let version = self.change_job(slot, |job| {
            job.version += 1;
            if is_restarted {
                job.restart_below = job.version;
            }
            job.previous = Some(std::mem::replace(&mut job.spec, Arc::new(spec.clone())));
            job.spec_hash = hash::of_specs(job);
            job.version
        });
        self.resize(context, slot, spec, job, version);
        for position in old.count..spec.count {
            self.renew(TaskId { job: slot, position }, version);
        }
        for position in 0..spec.count.min(old.count) {
            let id = TaskId { job: slot, position };
            let record = self.record(id);
            let is_waiting = matches!(record.phase, Phase::Waiting { .. });
            let is_of_before = record.version + 2 == version;
            let is_as_wanted = (!is_restarted && record.version >= restart_below)
                || (is_taken_back && is_of_before);
            if is_waiting || is_as_wanted {
                let limit = task_limit(spec, position)?;
                self.change_task(id, |record| {
                    record.version = version;
                    if is_waiting {
                        record.limit = limit;
                    }
                });
                if is_waiting {
                    self.view(id, TaskState::Pending);
                }
            }
        }
        context.change(Change::Job(slot));
        let name = self.job_at(slot).name.clone();
        context.event(self.now, What::Updated { job: name, version });
        // What is wanted of its machines (grace, priority) may have changed.
        let tasks = self.job_at(slot).tasks.iter().zip(0..);
        let placed: Vec<(TaskId, Place)> = tasks
            .filter_map(|(task, position)| {
                Some((TaskId { job: slot, position }, *task.phase.place()?))
            })
            .collect();
        for (task, place) in placed {
            self.touch(context, task, &place);
        }
        let uid = self.job_at(slot).uid;
        Ok(Done::Job { uid, version })
    }

    /// What the job would be charged under a spec: tasks that ended stay ended, save for those that the job
    /// was too small for.
    fn charge_after(&self, slot: JobId, spec: &JobSpec) -> Amounts {
        let job = self.job_at(slot);
        let is_dead = |index: u32| {
            let task = job.tasks.get(index as usize);
            index < job.spec.count
                && task.is_some_and(|task| matches!(task.phase, Phase::Dead { .. }))
        };
        (0..spec.count)
            .filter(|&index| !is_dead(index))
            .fold(Amounts::default(), |sum, index| sum.plus(charge_of(spec, index)))
    }

    /// Adds tasks, or ends those beyond the new count.
    fn resize(
        &mut self,
        context: &mut Context,
        slot: JobId,
        spec: &JobSpec,
        job: Job,
        version: u32,
    ) {
        let count = self.job_at(slot).tasks.len();
        let wanted = spec.count as usize;
        // Those that wait do so by the new priority.
        let rank = Reverse(job.priority);
        if self.cell.job(slot).priority != job.priority {
            let waiting: Vec<QueuePlace> = self.waiting_of(slot).collect();
            for before in waiting {
                self.waiting.remove(&before);
                self.waiting.insert(QueuePlace { rank, ..before });
            }
        }
        // What schedulers see: the new rules, and the tasks where they are.
        let old = std::mem::replace(&mut self.cell.jobs[slot.index()], job);
        let view = &mut self.cell.jobs[slot.index()];
        let mut tasks = old.tasks;
        tasks.extend(view.tasks.drain(..).skip(count));
        view.tasks = tasks;
        view.max_disrupted = old.max_disrupted;
        if wanted > count {
            let mut new: Vec<TaskRecord> = (count..wanted)
                .map(|index| {
                    let index = u32::try_from(index).expect("checked");
                    self.new_task(task_limit(spec, index).expect("admitted"), version)
                })
                .collect();
            let uid = self.job_at(slot).uid;
            for (task, index) in new.iter_mut().zip(count..) {
                let index = u32::try_from(index).expect("checked");
                task.hash = hash::of_task(uid, index, task);
                self.sum.add(task.hash);
                self.waiting.insert(QueuePlace { rank, task: TaskKey { job: uid, index } });
            }
            let added = spec.count - u32::try_from(count).expect("checked");
            self.change_job(slot, |job| {
                job.tasks.extend(new);
                job.alive += added;
            });
        }
        for position in spec.count..u32::try_from(count).expect("checked") {
            // Its charge went with the new spec.
            let id = TaskId { job: slot, position };
            self.stop(context, id, AfterStop::Die);
        }
        let job = self.job_at(slot);
        let left = job.spec.max_disrupted.map(|max| max.saturating_sub(job.disrupted));
        self.cell.jobs[slot.index()].max_disrupted = left;
    }

    /// A task that ended as its job shrank is a new one now that the job has grown again; one that has not
    /// gone yet is once it has.
    fn renew(&mut self, id: TaskId, version: u32) {
        match self.record(id).phase {
            Phase::Dead { .. } => {
                let limit = task_limit(&self.job_at(id.job).spec, id.position).expect("admitted");
                let new = self.new_task(limit, version);
                self.change_task(id, |record| *record = new);
                self.change_job(id.job, |job| job.alive += 1);
                self.waiting.insert(self.queue_place(id));
                self.view(id, TaskState::Pending);
            }
            Phase::Stopping { place, deadline, then: AfterStop::Die } => {
                let then = AfterStop::Requeue(EvictCause::Updated);
                self.change_task(id, |record| {
                    record.phase = Phase::Stopping { place, deadline, then };
                    record.failures = 0;
                    record.failed_on.clear();
                    record.avoid.clear();
                });
                self.view(id, TaskState::Pending);
            }
            // It was added just now.
            Phase::Waiting { .. }
            | Phase::Assigned(_)
            | Phase::Running { .. }
            | Phase::Stopping { .. } => {}
        }
    }

    pub(super) fn kill(
        &mut self,
        context: &mut Context,
        user: Option<&str>,
        name: &str,
        indexes: Option<&BTreeSet<u32>>,
    ) -> Outcome {
        let (slot, count) = self.check_kill(user, name, indexes)?;
        if indexes.is_none() {
            self.change_job(slot, |job| job.is_killed = true);
        }
        for position in 0..count {
            if indexes.is_none_or(|indexes| indexes.contains(&position)) {
                self.stop(context, TaskId { job: slot, position }, AfterStop::Die);
            }
        }
        Ok(Done::Done)
    }

    /// The job that a user wants to end, and how many tasks it has.
    pub(super) fn check_kill(
        &self,
        user: Option<&str>,
        name: &str,
        indexes: Option<&BTreeSet<u32>>,
    ) -> Result<(JobId, u32), Rejected> {
        let slot = self.check_change(user, name)?;
        let count = self.job_at(slot).tasks.len();
        let count = u32::try_from(count).expect("a job has fewer than 2^32 tasks");
        if let Some(index) = indexes.into_iter().flatten().find(|&&index| index >= count) {
            let name = format!("{name}/{index}");
            return Err(Rejected::Unknown { kind: "task".to_owned(), name });
        }
        Ok((slot, count))
    }

    /// Drops jobs that ended long ago, and those that ended before too many others or before others with too
    /// many tasks, but for those that others wait for.
    pub(super) fn drop_dead_jobs(&mut self, context: &mut Context) {
        let (keep, most) =
            (self.settings.dead_job_keep_ms, self.settings.dead_job_count_max as usize);
        let (mut later_count, mut later_task_count) = (0, 0);
        let mut dropped = Vec::new();
        for &(at, uid) in self.dead.iter().rev() {
            let slot = self.slots[&uid];
            let is_old = self.now.since_ms(at) > keep;
            let is_over = later_count >= most || later_task_count >= DEAD_TASK_COUNT_MAX;
            if (is_old || is_over) && !self.dependents.contains_key(&uid) {
                dropped.push(slot);
            }
            later_count += 1;
            later_task_count += self.job_at(slot).tasks.len();
        }
        dropped.reverse();
        for slot in dropped {
            self.drop_job(context, slot);
        }
    }

    fn drop_job(&mut self, context: &mut Context, slot: JobId) {
        let Some(job) = self.jobs[slot.index()].take() else { return };
        self.sum.remove(hash::of_job(&job));
        for task in &job.tasks {
            self.sum.remove(task.hash);
        }
        if let Some((at, _)) = job.ended {
            self.dead.remove(&(at, job.uid));
        }
        for before in job.waits_for.iter().chain(&job.alloc_set) {
            if let Some(dependents) = self.dependents.get_mut(before) {
                dependents.remove(&job.uid);
                if dependents.is_empty() {
                    self.dependents.remove(before);
                }
            }
        }
        self.slots.remove(&job.uid);
        self.job_names.remove(&*job.name);
        self.cell.jobs[slot.index()] = Self::empty_job();
        self.free_slots.insert(slot);
        context.change(Change::JobGone(slot));
    }
}

/// Whether a task has to be started anew to be as the new spec wants it.
fn needs_restart(old: &JobSpec, new: &JobSpec) -> bool {
    let of = |spec: &JobSpec| {
        let limits: Vec<_> = spec.tasks.iter().map(|task| (task.index, task.limit)).collect();
        (
            spec.limit,
            limits,
            spec.constraints.clone(),
            spec.packages.clone(),
            spec.run.command.clone(),
            spec.run.latency_sensitive,
            spec.container.clone(),
        )
    };
    of(old) != of(new)
}
