//! What borglets report, evictions, and reservations.

use std::collections::BTreeMap;

use super::{Context, Tally, is_voluntary};
use crate::borglet::{ExitCause, Incarnation, TaskKey};
use crate::id::{JobId, MachineId, TaskId};
use crate::job::{Host, JobKind, TaskState};
use crate::live::State;
use crate::live::op::{EvictCause, Observation, Seen};
use crate::live::outcome::{Change, Outcome, TaskStep};
use crate::live::record::{AfterStop, DeathCause, Left, Phase, Place, TaskRecord};
use crate::resources::Resources;
use crate::spec::RestartPolicy;

/// So many machines on which a task failed are remembered. Our own limit.
const FAILED_ON_COUNT_MAX: usize = 8;

impl State {
    pub(super) fn observe(
        &mut self,
        context: &mut Context,
        observations: &[Observation],
    ) -> Outcome {
        let mut tally = Tally::default();
        for Observation { task, incarnation, seen } in observations {
            let id = self.task_id(*task);
            // An alloc is no process: nobody can have seen it.
            let is_current = |id: &TaskId| {
                let place = self.record(*id).phase.place();
                place.is_some_and(|p| p.incarnation == *incarnation) && self.is_task(*id)
            };
            match id.filter(is_current) {
                // An old copy: what is wanted of its machine will end it.
                None => tally.count(false),
                Some(id) => {
                    self.see(context, id, seen);
                    tally.count(true);
                }
            }
        }
        tally.outcome()
    }

    fn see(&mut self, context: &mut Context, id: TaskId, seen: &Seen) {
        match (self.record(id).phase.clone(), seen) {
            (Phase::Running { place, started_at: None, is_healthy }, Seen::Started) => {
                let started_at = Some(self.now);
                self.change_task(id, |record| {
                    record.phase = Phase::Running { place, started_at, is_healthy };
                });
                self.set_disrupted(id, false);
                self.task_event(context, id, TaskStep::Started);
            }
            (Phase::Running { place, started_at, is_healthy }, Seen::Health(is_now)) => {
                if is_healthy != *is_now {
                    self.change_task(id, |record| {
                        record.phase = Phase::Running { place, started_at, is_healthy: *is_now };
                    });
                    self.task_event(context, id, TaskStep::Health(*is_now));
                }
            }
            (Phase::Running { place, started_at, .. }, Seen::Exited(cause)) => {
                let ran_ms = started_at.map_or(0, |at| self.now.since_ms(at));
                self.leave(context, id, place, true);
                self.exited(context, id, place, cause, ran_ms);
                self.left(context, place);
            }
            (Phase::Stopping { .. }, Seen::Exited(_)) => self.finish_stop(context, id),
            (Phase::Stopping { .. }, Seen::Started | Seen::Health(_))
            | (Phase::Running { started_at: Some(_), .. }, Seen::Started)
            | (Phase::Assigned(_) | Phase::Waiting { .. } | Phase::Dead { .. }, _) => {}
        }
    }

    /// A task ended by itself and has left its place: it is started again, after a while where it failed, or
    /// is dead.
    fn exited(
        &mut self,
        context: &mut Context,
        id: TaskId,
        place: Place,
        cause: &ExitCause,
        ran_ms: u64,
    ) {
        let run = &self.job_at(id.job).spec.run;
        let (policy, failures_max) = (run.restart, run.failures_max);
        let is_success = *cause == ExitCause::Finished;
        let is_again = match policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => !is_success,
            RestartPolicy::Never => false,
        };
        let failures = if is_success {
            0
        } else {
            let (per_machine, long) =
                (self.settings.failures_per_machine, self.settings.back_off_max_ms);
            // Some machine has to be left.
            let most = FAILED_ON_COUNT_MAX.min((self.machine_count as usize).saturating_sub(1));
            self.change_task(id, |record| {
                // Who ran for longer than the longest back-off has not been in a loop of crashes.
                record.failures = if ran_ms > long { 1 } else { record.failures.saturating_add(1) };
                note_failure(record, place.machine, per_machine, most);
                record.failures
            })
        };
        if !is_again {
            let cause =
                if is_success { DeathCause::Finished } else { DeathCause::Failed(cause.clone()) };
            self.die_at(context, id, Some(place), cause);
        } else if failures_max.is_some_and(|max| failures >= max) {
            self.die_at(context, id, Some(place), DeathCause::Failed(cause.clone()));
        } else {
            let wait = if is_success { 0 } else { self.back_off_ms(failures) };
            self.requeue(context, id, Left::Exited(cause.clone()), wait, false);
            let key = self.key(id);
            let what = crate::live::What::Task {
                job: self.job_at(id.job).name.clone(),
                task: key,
                incarnation: Some(place.incarnation),
                machine: Some(place.machine),
                step: TaskStep::Exited(cause.clone()),
            };
            context.event(self.now, what);
        }
    }

    /// How long a task waits after so many failures, in milliseconds.
    fn back_off_ms(&self, failures: u32) -> u64 {
        let doublings = failures.saturating_sub(1).min(40);
        let wait = self.settings.back_off_first_ms.saturating_mul(1 << doublings);
        wait.min(self.settings.back_off_max_ms)
    }

    pub(super) fn evict(
        &mut self,
        context: &mut Context,
        tasks: &[(TaskKey, Incarnation)],
        cause: EvictCause,
    ) -> Outcome {
        let mut tally = Tally::default();
        // By job: how many more may be started anew for its update.
        let mut rollouts: BTreeMap<JobId, u32> = BTreeMap::new();
        for &(key, incarnation) in tasks {
            let id = self.task_id(key).filter(|&id| {
                self.record(id).phase.place().is_some_and(|p| p.incarnation == incarnation)
            });
            tally.count(id.is_some_and(|id| self.evict_one(context, id, cause, &mut rollouts)));
        }
        tally.outcome()
    }

    fn evict_one(
        &mut self,
        context: &mut Context,
        id: TaskId,
        cause: EvictCause,
        rollouts: &mut BTreeMap<JobId, u32>,
    ) -> bool {
        let (Phase::Running { place, .. } | Phase::Assigned(place)) = self.record(id).phase else {
            return false;
        };
        // What the leader saw when it proposed this may be otherwise by now.
        let is_due = match cause {
            EvictCause::MachineLost => return self.evict_lost(context, id, place),
            EvictCause::MachineDrained => {
                let machine = &self.machines[place.machine.index()];
                machine.is_drained && !machine.is_down()
            }
            EvictCause::Updated => {
                let left = || self.rollout_left(id.job, self.now);
                let left = *rollouts.entry(id.job).or_insert_with(left);
                self.job_at(id.job).is_outdated(self.record(id)) && left > 0
            }
            EvictCause::Preempted | EvictCause::OutOfResources | EvictCause::AllocEnded => true,
        };
        if !is_due || (is_voluntary(cause) && !self.can_disrupt(&[id])) {
            return false;
        }
        if cause == EvictCause::Updated
            && let Some(left) = rollouts.get_mut(&id.job)
        {
            *left -= 1;
        }
        self.stop(context, id, AfterStop::Requeue(cause));
        true
    }

    /// Takes a task off a machine that is down, at the limited rate, unless too many machines are.
    fn evict_lost(&mut self, context: &mut Context, id: TaskId, place: Place) -> bool {
        let count = 1 + self.envelopes.get(&id).map_or(0, |envelope| envelope.tasks.len() as u64);
        let allowed = self.allowance_at(self.now);
        // An alloc goes with all that is in it, once there is any allowance at all.
        let is_given_up = self.is_given_up(place.machine, self.now);
        if !is_given_up || self.is_mass_loss() || allowed < 1000 {
            return false;
        }
        self.allowance = (allowed.saturating_sub(count * 1000), self.now);
        let inner = self.envelopes.get(&id).map(|envelope| envelope.tasks.clone());
        for task in inner.unwrap_or_default() {
            let place = *self.record(task).phase.place().expect("it is in the alloc");
            self.lose(context, task, place);
        }
        self.lose(context, id, place);
        true
    }

    fn lose(&mut self, context: &mut Context, id: TaskId, place: Place) {
        match self.record(id).phase {
            Phase::Running { .. } => {
                self.leave(context, id, place, true);
                self.requeue(context, id, Left::Evicted(EvictCause::MachineLost), 0, true);
                let what = crate::live::What::Task {
                    job: self.job_at(id.job).name.clone(),
                    task: self.key(id),
                    incarnation: Some(place.incarnation),
                    machine: Some(place.machine),
                    step: TaskStep::Evicted(EvictCause::MachineLost),
                };
                context.event(self.now, what);
                self.left(context, place);
            }
            Phase::Assigned(_) | Phase::Stopping { .. } => {
                self.stop(context, id, AfterStop::Requeue(EvictCause::MachineLost));
                self.finish_stop(context, id);
            }
            Phase::Waiting { .. } | Phase::Dead { .. } => {}
        }
    }

    pub(super) fn reserve(
        &mut self,
        context: &mut Context,
        reservations: &[(TaskKey, Incarnation, Resources)],
    ) -> Outcome {
        let mut tally = Tally::default();
        let mut raised: Vec<MachineId> = Vec::new();
        for &(key, incarnation, reservation) in reservations {
            let id = self.task_id(key);
            let place = id.and_then(|id| match self.record(id).phase {
                Phase::Running { place, .. } => Some((id, place)),
                Phase::Assigned(_)
                | Phase::Waiting { .. }
                | Phase::Stopping { .. }
                | Phase::Dead { .. } => None,
            });
            let place = place.filter(|&(id, place)| {
                let limit = &self.record(id).limit;
                let is_below = reservation.cpu <= limit.cpu && reservation.ram <= limit.ram;
                // Disk and GPUs are never reclaimed, nor is an alloc.
                let rest = (reservation.disk, reservation.gpu) == (limit.disk, limit.gpu);
                place.incarnation == incarnation && is_below && rest && self.is_task(id)
            });
            let Some((id, place)) = place else {
                tally.count(false);
                continue;
            };
            let before = self.need(id, place.gpu_devices);
            self.change_task(id, |record| record.reservation = Some(reservation));
            let after = self.need(id, place.gpu_devices);
            let (present, future) = self.accounts_mut(place.on);
            for account in [present, future] {
                account.remove(&before);
                account.add(&after);
            }
            self.view(id, TaskState::Running { on: Some(place.on) });
            let (before, after) = (before.reservation, after.reservation);
            let is_less = after.cpu < before.cpu || after.ram < before.ram;
            context.change(Change::Recharged(id, is_less));
            raised.push(place.machine);
            tally.count(true);
        }
        raised.sort_unstable();
        raised.dedup();
        for machine in raised {
            self.make_room(context, machine);
            self.promote_all(context, machine);
        }
        tally.outcome()
    }

    /// Evicts, lowest priority and youngest first, until the reservations on a machine fit it again: who
    /// runs in reclaimed resources has to go when they are needed (Borg §5.5). Production never has to: its
    /// limits fit.
    fn make_room(&mut self, context: &mut Context, machine: MachineId) {
        let mut hosts: Vec<Host> = vec![Host::Machine(machine)];
        let on_machine = &self.machines[machine.index()].tasks;
        hosts.extend(
            on_machine
                .iter()
                .map(|&(_, id)| id)
                .filter(|id| self.envelopes.contains_key(id))
                .map(Host::Alloc),
        );
        for host in hosts {
            while self
                .accounts(host)
                .is_some_and(|(_, future)| future.over(&self.size(host)).is_some())
            {
                let tasks = self.machines[machine.index()].tasks.iter().rev();
                let candidates = tasks.filter(|&&(_, id)| {
                    let record = self.record(id);
                    let is_there = matches!(record.phase,
                        Phase::Running { place, .. } | Phase::Assigned(place) if place.on == host);
                    is_there && !self.cell.job(id.job).priority.band().is_prod()
                });
                let victim = candidates.min_by_key(|&&(_, id)| self.cell.job(id.job).priority);
                let Some(&(_, victim)) = victim else { break };
                let then = AfterStop::Requeue(EvictCause::OutOfResources);
                self.stop(context, victim, then);
            }
        }
    }

    /// Number of tasks on a machine that run or are starting, allocs not counted.
    pub(super) fn task_count_on(&self, machine: MachineId) -> u32 {
        let tasks = self.machines[machine.index()].tasks.iter();
        let count = tasks.filter(|&&(_, id)| self.job_at(id.job).kind == JobKind::Job).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}

/// Notes that a task failed on a machine; after so many failures it is not placed there again. So many
/// machines are avoided at most.
fn note_failure(record: &mut TaskRecord, machine: MachineId, per_machine: u32, most: usize) {
    let failed_on = &mut record.failed_on;
    let count = match failed_on.iter().position(|&(other, _)| other == machine) {
        Some(at) => failed_on.remove(at).1 + 1,
        None => 1,
    };
    if count < per_machine || most == 0 {
        failed_on.push((machine, count));
        if failed_on.len() > FAILED_ON_COUNT_MAX {
            failed_on.remove(0);
        }
    } else if !record.avoid.contains(&machine) {
        record.avoid.truncate(most - 1);
        record.avoid.push(machine);
        record.avoid.sort_unstable();
    }
}
