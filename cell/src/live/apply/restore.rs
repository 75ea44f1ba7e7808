//! A saved state takes the place of the one there is.
//!
//! Of the saved state are jobs, tasks, quota, capabilities, settings, and which machines are drained. Of the
//! state there is are the index and the time, sessions with their answers (so that every request is still
//! carried out once), and what machines are: their ids, specs, addresses and health. Numbers of jobs and of
//! placements go on from the higher of both, so that none is ever given twice.
//!
//! A task that still runs just where the saved state has it goes on undisturbed. What else that state has
//! placed is pending again, as nobody knows what became of it; what runs and is not in it is no longer
//! wanted, and ends.
//!
//! Source: Borg (EuroSys '15) §3.1: a checkpoint is there for "restoring a Borgmaster's state to an arbitrary
//! point in the past".

use std::collections::BTreeSet;
use std::error::Error;

use super::Context;
use crate::borglet::TaskKey;
use crate::id::{JobId, MachineId, TaskId};
use crate::job::{Host, JobKind};
use crate::live::Settings;
use crate::live::outcome::{Change, Done, Outcome, Rejected, What};
use crate::live::record::{
    AfterStop, DeathCause, Health, JobEnd, JobRecord, Left, MachineRecord, Phase, Place, TaskRecord,
};
use crate::live::staged::invalid;
use crate::live::{SavedError, State};
use crate::spec::read_machine;

/// How many tasks of the saved state go on, and how many do not.
#[derive(Default)]
struct Tally {
    kept: u32,
    pending: u32,
}

/// The machines of the saved state here, by their ids there; `None`: not here, and not needed.
type MachineOf = [Option<MachineId>];

impl State {
    pub(super) fn restore(
        &mut self,
        context: &mut Context,
        restore: u64,
        length: u64,
        checksum: u64,
    ) -> Outcome {
        let bytes = self.unstage(restore, length, checksum)?;
        let saved = Self::from_bytes(&bytes).map_err(|error| unusable(&error))?;
        drop(bytes);
        let from_index = saved.index;
        let (state, tally) =
            self.replaced_by(context.index, saved).map_err(|error| unusable(&error))?;
        // Nothing that could be read so far should lead to one; a state that contradicts itself is not taken.
        if let Some(fault) = state.faults().into_iter().next() {
            return Err(unusable(&fault));
        }
        *self = state;
        let Tally { kept: kept_count, pending: pending_count } = tally;
        context.change(Change::Restored);
        context.event(self.now, What::Restored { from_index, kept_count, pending_count });
        Ok(Done::Done)
    }

    /// The state once the saved one has taken its place, by the entry at this index.
    fn replaced_by(&self, index: u64, saved: Self) -> Result<(Self, Tally), SavedError> {
        // Which cell this is, and who runs it, is not for a saved state to say: it may be of another cell, or
        // of a time when nobody was named yet.
        let Settings { cell_name, admins, .. } = self.settings.clone();
        let mut state = Self::new(Settings { cell_name, admins, ..saved.settings });
        state.index = index;
        state.now = self.now.max(saved.now);
        state.next_uid = self.next_uid.max(saved.next_uid);
        state.next_incarnation = self.next_incarnation.max(saved.next_incarnation);
        state.allowance = self.allowance;
        #[cfg(debug_assertions)]
        {
            state.set_mutations(self.mutations.clone());
            if self.is_mutated(crate::live::Mutation::RestoreNumbers) {
                state.next_incarnation = saved.next_incarnation;
            }
        }
        for (&id, session) in &self.sessions {
            state.change_session(id, |entry| *entry = Some(session.clone()));
        }
        for quota in saved.quotas.into_values() {
            state.put_quota(quota);
        }
        for (user, capabilities) in saved.capabilities {
            state.put_capabilities(user, capabilities);
        }
        let (machines, machine_of) = self.merged_machines(index, &saved.machines);
        for (number, record) in machines.into_iter().enumerate() {
            let machine = read_machine(&record.spec)
                .map_err(|error| SavedError::Contradiction(format!("machine: {error}")))?;
            state.machines.push(record);
            state.count_machine(MachineId::from_index(number), machine);
        }

        let slot_count = saved.jobs.len();
        let slots = (0..slot_count).map(JobId::from_index).zip(&saved.jobs);
        let mut jobs: Vec<(JobId, JobRecord)> =
            slots.filter_map(|(slot, job)| Some((slot, job.clone()?))).collect();
        let mut tally = Tally::default();
        let mut kept_allocs = BTreeSet::new();
        // Allocs before what is in them.
        for kind in [JobKind::AllocSet, JobKind::Job] {
            for (slot, job) in jobs.iter_mut().filter(|(_, job)| job.kind == kind) {
                self.settle_job(*slot, job, &machine_of, &mut kept_allocs, &mut tally)?;
            }
        }
        self.settle_ends(&mut jobs);
        state.enter_jobs(slot_count, jobs)?;
        state.enter_places()?;
        Ok((state, tally))
    }

    /// The machines there are, then those of the saved state that are not here: they are down until they are
    /// heard.
    fn merged_machines(
        &self,
        index: u64,
        saved: &[MachineRecord],
    ) -> (Vec<MachineRecord>, Vec<Option<MachineId>>) {
        let down = Health::Down { since: self.now };
        let mut machines: Vec<MachineRecord> =
            self.machines.iter().map(MachineRecord::without_tasks).collect();
        let mut machine_of = Vec::with_capacity(saved.len());
        for record in saved {
            let own = self.machine_names.get(&record.spec.name).copied();
            machine_of.push(match own {
                Some(id) if !record.is_removed => {
                    let machine = &mut machines[id.index()];
                    if machine.is_removed {
                        *machine = MachineRecord { health: down, ..record.without_tasks() };
                    }
                    machine.is_drained = record.is_drained;
                    Some(id)
                }
                None if !record.is_removed => {
                    let record = MachineRecord { health: down, ..record.without_tasks() };
                    machines.push(record);
                    Some(MachineId::from_index(machines.len() - 1))
                }
                Some(_) | None => own,
            });
        }
        for machine in machines.iter_mut().filter(|machine| !machine.is_removed) {
            machine.generation = index;
        }
        (machines, machine_of)
    }

    /// Brings the tasks of a job of the saved state to where they are now.
    fn settle_job(
        &self,
        slot: JobId,
        job: &mut JobRecord,
        machine_of: &MachineOf,
        kept_allocs: &mut BTreeSet<TaskId>,
        tally: &mut Tally,
    ) -> Result<(), SavedError> {
        job.on_machine.clear();
        let here = |id: MachineId| machine_of.get(id.index()).copied().flatten();
        for position in 0..job.tasks.len() {
            let index = u32::try_from(position).expect("fewer than 2^32 tasks");
            let kept = self.still_running(job, index, machine_of, kept_allocs);
            let version = job.version;
            let limit = crate::spec::task_limit(&job.spec, index);
            let task = &mut job.tasks[position];
            task.failed_on = std::mem::take(&mut task.failed_on)
                .into_iter()
                .filter_map(|(id, count)| Some((here(id)?, count)))
                .collect();
            task.avoid = task.avoid.iter().filter_map(|&id| here(id)).collect();
            task.avoid.sort_unstable();
            let was_running = matches!(task.phase, Phase::Running { .. });
            match &task.phase {
                Phase::Waiting { .. } | Phase::Dead { .. } => {}
                Phase::Stopping { then: AfterStop::Die, .. } => {
                    task.phase = Phase::Dead { at: self.now, cause: DeathCause::Killed };
                    task.is_disrupted = false;
                }
                Phase::Assigned(_) | Phase::Running { .. } | Phase::Stopping { .. } => {
                    if let Some(kept) = kept {
                        task.phase = kept.phase.clone();
                        task.reservation = kept.reservation;
                        task.is_disrupted = kept.is_disrupted;
                        if job.kind == JobKind::AllocSet {
                            kept_allocs.insert(TaskId { job: slot, position: index });
                        }
                        tally.kept += 1;
                        continue;
                    }
                    task.phase = Phase::Waiting {
                        since: self.now,
                        not_before: self.now,
                        after: Some(Left::Restored),
                    };
                    task.version = version;
                    task.limit =
                        limit.map_err(|error| SavedError::Contradiction(error.to_string()))?;
                    task.reservation = None;
                    task.is_disrupted |= was_running;
                    tally.pending += 1;
                }
            }
        }
        Ok(())
    }

    /// A task of the saved state that runs here just as it did there, as it is to go on.
    fn still_running(
        &self,
        job: &JobRecord,
        index: u32,
        machine_of: &MachineOf,
        kept_allocs: &BTreeSet<TaskId>,
    ) -> Option<TaskRecord> {
        let there = &job.tasks[index as usize];
        let then = there.phase.place()?;
        if matches!(there.phase, Phase::Stopping { .. }) {
            return None;
        }
        let id = self.task_id(TaskKey { job: job.uid, index })?;
        let (record, own) = (self.record(id), self.job_at(id.job));
        let Phase::Running { place, started_at, is_healthy } = record.phase else { return None };
        let on = match (then.on, place.on) {
            (Host::Machine(_), Host::Machine(machine)) => Host::Machine(machine),
            (Host::Alloc(alloc), Host::Alloc(own))
                if kept_allocs.contains(&alloc)
                    && alloc.position == own.position
                    && job.alloc_set == Some(self.job_at(own.job).uid) =>
            {
                Host::Alloc(alloc)
            }
            (Host::Machine(_) | Host::Alloc(_), _) => return None,
        };
        let is_prod = |spec| super::user::band_of(spec).is_prod();
        let is_same = machine_of.get(then.machine.index()).copied().flatten()
            == Some(place.machine)
            && (then.incarnation, then.since, then.gpu_devices)
                == (place.incarnation, place.since, place.gpu_devices)
            // Numbers alone may be those of another cell.
            && (job.name(), job.kind) == (own.name(), own.kind)
            // What it needs of its host is what it has there.
            && there.limit == record.limit
            && is_prod(&job.spec) == is_prod(&own.spec);
        let phase = Phase::Running { place: Place { on, ..place }, started_at, is_healthy };
        is_same.then(|| TaskRecord { phase, ..record.clone() })
    }

    /// A job whose last tasks were about to die has ended by now; who waited for that waits no longer.
    fn settle_ends(&self, jobs: &mut [(JobId, JobRecord)]) {
        let mut finished = BTreeSet::new();
        for (_, job) in jobs.iter_mut().filter(|(_, job)| job.ended.is_none()) {
            if job.tasks.iter().all(|task| matches!(task.phase, Phase::Dead { .. })) {
                let end = job.end();
                job.ended = Some((self.now, end));
                if end == JobEnd::Finished {
                    finished.insert(job.uid);
                }
            }
        }
        for (_, job) in jobs {
            job.waits_for.retain(|uid| !finished.contains(uid));
        }
    }
}

fn unusable(error: &dyn Error) -> Rejected {
    let source = error.source().map_or_else(String::new, |source| format!(": {source}"));
    invalid("state", format!("{error}{source}"))
}

#[cfg(test)]
mod tests;
