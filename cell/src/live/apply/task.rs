//! The steps of a task's life, each with its part in accounts, queues and hashes.

use std::collections::BTreeSet;

use super::Context;
use super::user::{band_of, charge_of};
use crate::borglet::Incarnation;
use crate::id::{MachineId, TaskId};
use crate::job::{Host, JobKind, TaskState};
use crate::live::op::EvictCause;
use crate::live::outcome::{Change, TaskStep, What};
use crate::live::record::{AfterStop, DeathCause, JobEnd, Left, Phase, Place};
use crate::live::{Envelope, State, has_own_rules};

impl State {
    pub(super) fn task_event(&self, context: &mut Context, id: TaskId, step: TaskStep) {
        let place = self.record(id).phase.place().copied();
        self.task_event_at(context, id, place, step);
    }

    fn task_event_at(
        &self,
        context: &mut Context,
        id: TaskId,
        place: Option<Place>,
        step: TaskStep,
    ) {
        let job = self.job_at(id.job);
        let what = What::Task {
            job: job.name.clone(),
            task: self.key(id),
            incarnation: place.map(|place| place.incarnation),
            machine: place.map(|place| place.machine),
            step,
        };
        context.event(self.now, what);
    }

    /// Gives a waiting task a place that was checked.
    pub(super) fn place(&mut self, context: &mut Context, id: TaskId, on: Host, gpu_devices: u16) {
        let machine = match on {
            Host::Machine(machine) => machine,
            Host::Alloc(alloc) => self.record(alloc).phase.place().expect("checked").machine,
        };
        let incarnation = Incarnation(self.next_incarnation);
        self.next_incarnation += 1;
        let place = Place { on, machine, gpu_devices, incarnation, since: self.now };
        self.change_task(id, |record| {
            record.phase = Phase::Assigned(place);
            record.placed_count += 1;
        });
        self.waiting.remove(&self.queue_place(id));
        let need = self.need(id, gpu_devices);
        self.accounts_mut(on).1.add(&need);
        self.machines[machine.index()].tasks.push((incarnation, id));
        if let Host::Alloc(alloc) = on {
            self.envelopes.get_mut(&alloc).expect("checked").tasks.insert(id);
        }
        if self.job_at(id.job).kind == JobKind::AllocSet {
            self.envelopes.insert(id, Envelope::default());
        }
        self.count_on_machine(id, machine, 1);
        self.view(id, TaskState::Running { on: Some(on) });
        context.change(Change::Placed(id));
        self.task_event(context, id, TaskStep::Scheduled);
        self.promote(context, id);
    }

    /// Starts a task whose place is chosen, if there is room for it by now.
    fn promote(&mut self, context: &mut Context, id: TaskId) {
        let Phase::Assigned(place) = self.record(id).phase else { return };
        if let Host::Alloc(alloc) = place.on
            && !matches!(self.record(alloc).phase, Phase::Running { .. })
        {
            return;
        }
        let need = self.need(id, place.gpu_devices);
        let size = self.size(place.on);
        let (present, _) = self.accounts(place.on).expect("the host is there");
        let lacks = present.lacks(&need, &size);
        #[cfg(debug_assertions)]
        let lacks = lacks.filter(|_| !self.is_mutated(crate::live::Mutation::SkipRoomCheck));
        if lacks.is_some() {
            return;
        }
        self.accounts_mut(place.on).0.add(&need);
        let is_alloc = self.job_at(id.job).kind == JobKind::AllocSet;
        // An alloc is an envelope: there is nothing to start.
        let started_at = is_alloc.then_some(self.now);
        self.change_task(id, |record| {
            record.phase = Phase::Running { place, started_at, is_healthy: true };
        });
        if is_alloc {
            self.set_disrupted(id, false);
            self.task_event(context, id, TaskStep::Started);
            let inner: Vec<TaskId> = self.envelopes[&id].tasks.iter().copied().collect();
            for task in inner {
                self.promote(context, task);
            }
        } else {
            self.running_count += 1;
            self.touch(context, id, &place);
        }
    }

    /// Starts what waits for room on a machine, in the order in which it was placed there.
    pub(super) fn promote_all(&mut self, context: &mut Context, machine: MachineId) {
        let record = &self.machines[machine.index()];
        // What waits for room on the machine itself is in one of the accounts alone.
        if self.envelopes.is_empty() && record.present == record.future {
            return;
        }
        let waiting: Vec<TaskId> = record
            .tasks
            .iter()
            .map(|&(_, id)| id)
            .filter(|&id| matches!(self.record(id).phase, Phase::Assigned(_)))
            .collect();
        for id in waiting {
            self.promote(context, id);
        }
    }

    /// Tells a task to stop, and with an alloc what is in it. It keeps its room until it has gone; what
    /// never started, and what is on a machine that is down, goes at once.
    pub(super) fn stop(&mut self, context: &mut Context, id: TaskId, then: AfterStop) {
        match self.record(id).phase.clone() {
            Phase::Waiting { .. } => {
                if then == AfterStop::Die {
                    self.die(context, id, DeathCause::Killed);
                }
            }
            Phase::Dead { .. } => {}
            Phase::Assigned(place) => {
                self.stop_inside(context, id, then);
                self.leave(context, id, place, false);
                self.after_stop(context, id, place, then, false);
            }
            Phase::Running { place, .. } => {
                self.stop_inside(context, id, then);
                let grace = self.job_at(id.job).spec.run.grace_seconds;
                let deadline = self.now.plus_ms(u64::from(grace) * 1000);
                let need = self.need(id, place.gpu_devices);
                self.accounts_mut(place.on).1.remove(&need);
                self.change_task(id, |record| {
                    record.phase = Phase::Stopping { place, deadline, then };
                });
                // Who is to die is not disrupted, even if it was and did not run again yet.
                self.set_disrupted(id, matches!(then, AfterStop::Requeue(_)));
                self.view(id, TaskState::Pending);
                context.change(Change::Removed(id));
                if let AfterStop::Requeue(cause) = then {
                    self.task_event(context, id, TaskStep::Notified(cause));
                }
                self.touch(context, id, &place);
                let is_alloc = self.job_at(id.job).kind == JobKind::AllocSet;
                if self.machines[place.machine.index()].is_down() || is_alloc {
                    self.finish_stop(context, id);
                }
            }
            Phase::Stopping { place, deadline, .. } => {
                // A kill overrides an eviction under way.
                if then == AfterStop::Die {
                    self.change_task(id, |record| {
                        record.phase = Phase::Stopping { place, deadline, then };
                    });
                    self.set_disrupted(id, false);
                }
            }
        }
    }

    /// Tells what is in an alloc to stop.
    fn stop_inside(&mut self, context: &mut Context, alloc: TaskId, then: AfterStop) {
        let Some(envelope) = self.envelopes.get(&alloc) else { return };
        let cause = match then {
            AfterStop::Requeue(cause) => cause,
            AfterStop::Die => EvictCause::AllocEnded,
        };
        let inner: Vec<TaskId> = envelope.tasks.iter().copied().collect();
        for task in inner {
            self.stop(context, task, AfterStop::Requeue(cause));
        }
    }

    /// A stopping task has gone.
    pub(super) fn finish_stop(&mut self, context: &mut Context, id: TaskId) {
        let Phase::Stopping { place, then, .. } = self.record(id).phase else { return };
        if self.envelopes.get(&id).is_some_and(|envelope| !envelope.tasks.is_empty()) {
            return; // What is in the alloc goes first.
        }
        let need = self.need(id, place.gpu_devices);
        self.accounts_mut(place.on).0.remove(&need);
        self.forget_place(context, id, place);
        self.after_stop(context, id, place, then, true);
        self.promote_all(context, place.machine);
        if let Host::Alloc(alloc) = place.on {
            self.finish_stop(context, alloc);
        }
    }

    fn after_stop(
        &mut self,
        context: &mut Context,
        id: TaskId,
        place: Place,
        then: AfterStop,
        has_run: bool,
    ) {
        match then {
            AfterStop::Die => self.die_at(context, id, Some(place), DeathCause::Killed),
            AfterStop::Requeue(cause) if has_run => {
                // Whether it is disrupted was said as it was told to stop. One that is a new task by now, as
                // its job has shrunk and grown again, is not.
                self.requeue(context, id, Left::Evicted(cause), 0, false);
                self.task_event_at(context, id, Some(place), TaskStep::Evicted(cause));
            }
            AfterStop::Requeue(_) => {
                self.requeue(context, id, Left::NotStarted, 0, false);
                self.task_event_at(context, id, Some(place), TaskStep::Unassigned);
            }
        }
    }

    /// Takes a task that runs, or was about to, off its place at once: it ended, or its machine is lost.
    pub(super) fn leave(
        &mut self,
        context: &mut Context,
        id: TaskId,
        place: Place,
        is_present: bool,
    ) {
        let need = self.need(id, place.gpu_devices);
        let (present, future) = self.accounts_mut(place.on);
        if is_present {
            present.remove(&need);
        }
        future.remove(&need);
        self.view(id, TaskState::Pending);
        context.change(Change::Removed(id));
        self.forget_place(context, id, place);
    }

    /// After a task that left: whoever waits for its room.
    pub(super) fn left(&mut self, context: &mut Context, place: Place) {
        self.promote_all(context, place.machine);
        if let Host::Alloc(alloc) = place.on {
            self.finish_stop(context, alloc);
        }
    }

    fn forget_place(&mut self, context: &mut Context, id: TaskId, place: Place) {
        let tasks = &mut self.machines[place.machine.index()].tasks;
        if let Ok(at) = tasks.binary_search_by_key(&place.incarnation, |&(other, _)| other) {
            tasks.remove(at);
        }
        if let Host::Alloc(alloc) = place.on
            && let Some(envelope) = self.envelopes.get_mut(&alloc)
        {
            envelope.tasks.remove(&id);
        }
        self.envelopes.remove(&id);
        self.count_on_machine(id, place.machine, -1);
        let was_started = !matches!(self.record(id).phase, Phase::Assigned(_));
        if was_started && self.job_at(id.job).kind == JobKind::Job {
            self.running_count -= 1;
            self.touch(context, id, &place);
        }
    }

    /// Makes a task that has left its place pending again.
    pub(super) fn requeue(
        &mut self,
        context: &mut Context,
        id: TaskId,
        after: Left,
        wait_ms: u64,
        is_disrupted: bool,
    ) {
        let phase = Phase::Waiting {
            since: self.now,
            not_before: self.now.plus_ms(wait_ms),
            after: Some(after),
        };
        // The newest spec holds from the next start on, which begins with its reservation at the limit.
        let job = self.job_at(id.job);
        let version = job.version;
        let limit = crate::spec::task_limit(&job.spec, id.position).expect("admitted");
        self.change_task(id, |record| {
            record.phase = phase;
            record.version = version;
            record.limit = limit;
            record.reservation = None;
        });
        if is_disrupted {
            self.set_disrupted(id, true);
        }
        self.view(id, TaskState::Pending);
        self.waiting.insert(self.queue_place(id));
        context.change(Change::Waits(id));
    }

    fn die(&mut self, context: &mut Context, id: TaskId, cause: DeathCause) {
        self.die_at(context, id, None, cause);
    }

    /// Ends a task that has left its place.
    pub(super) fn die_at(
        &mut self,
        context: &mut Context,
        id: TaskId,
        place: Option<Place>,
        cause: DeathCause,
    ) {
        let at = self.now;
        let died = cause.clone();
        self.change_task(id, |record| record.phase = Phase::Dead { at, cause: died });
        self.set_disrupted(id, false);
        self.view(id, TaskState::Pending);
        self.waiting.remove(&self.queue_place(id));
        let spec = &self.job_at(id.job).spec;
        let (user, band) = (spec.user.clone(), band_of(spec));
        let charge = charge_of(spec, id.position);
        self.free_quota(&user, band, charge);
        self.task_event_at(context, id, place, TaskStep::Died(cause));
        let job = self.jobs[id.job.index()].as_mut().expect("it has a job");
        job.alive -= 1;
        if job.alive == 0 {
            self.end_job(context, id.job);
        }
    }

    fn end_job(&mut self, context: &mut Context, slot: crate::id::JobId) {
        let at = self.now;
        let job = self.job_at(slot);
        let end = job.end();
        let (uid, name) = (job.uid, job.name.clone());
        self.change_job(slot, |job| job.ended = Some((at, end)));
        self.dead.insert((at, uid));
        context.event(at, What::Ended { job: name, end });
        if end == JobEnd::Finished {
            let mut inside = BTreeSet::new();
            for dependent in self.dependents.remove(&uid).unwrap_or_default() {
                let Some(&slot) = self.slots.get(&dependent) else { continue };
                self.change_job(slot, |job| job.waits_for.remove(&uid));
                context.change(Change::Job(slot));
                // A job in an alloc set names it for as long as there is a record of the job.
                if self.job_at(slot).alloc_set == Some(uid) {
                    inside.insert(dependent);
                }
            }
            if !inside.is_empty() {
                self.dependents.insert(uid, inside);
            }
        }
    }

    /// Brings what schedulers see of a task up to date.
    pub(in crate::live) fn view(&mut self, id: TaskId, state: TaskState) {
        let record =
            &self.jobs[id.job.index()].as_ref().expect("it has a job").tasks[id.position as usize];
        let (limit, reservation) = (record.limit, record.reservation);
        let avoid = record.avoid.clone();
        let task = &mut self.cell.jobs[id.job.index()].tasks[id.position as usize];
        task.state = state;
        task.limit = limit;
        task.reservation = reservation;
        task.avoid = avoid;
    }

    /// Says whether a task is down because it was disrupted, and tells schedulers what is left of its job's
    /// limit.
    pub(super) fn set_disrupted(&mut self, id: TaskId, is_disrupted: bool) {
        if self.record(id).is_disrupted == is_disrupted {
            return;
        }
        self.change_task(id, |record| record.is_disrupted = is_disrupted);
        let job = self.jobs[id.job.index()].as_mut().expect("it has a job");
        job.disrupted = if is_disrupted { job.disrupted + 1 } else { job.disrupted - 1 };
        let left = job.spec.max_disrupted.map(|max| max.saturating_sub(job.disrupted));
        self.cell.jobs[id.job.index()].max_disrupted = left;
    }

    pub(in crate::live) fn count_on_machine(&mut self, id: TaskId, machine: MachineId, by: i32) {
        if !has_own_rules(&self.cell.jobs[id.job.index()]) {
            return;
        }
        let job = self.jobs[id.job.index()].as_mut().expect("it has a job");
        let count = job.on_machine.entry(machine).or_default();
        *count = count.saturating_add_signed(by);
        if *count == 0 {
            job.on_machine.remove(&machine);
        }
    }
}
