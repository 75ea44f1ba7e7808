//! A restored cell is the saved one, and what cannot go back stays: jobs, quota, capabilities, settings and
//! drained machines are those that were saved; the cell's name and administrators, sessions, numbers, time, and
//! what machines are stay; a task runs on just where it runs, or is pending, and no placement of before comes
//! back. A restore is carried out if all its parts came in, in their order and undamaged, and changes nothing
//! otherwise.
//!
//! Followed from the operations alone: the parts are put together here once more.

use cell::borglet::TaskKey;
use cell::live::{
    AfterStop, DeathCause, Entry, Health, JobRecord, Left, Op, Phase, Rejected, Settings, State,
    TaskRecord, What, restore_checksum,
};
use cell::{Host, Priority};

use super::{Invariant, Step};

/// What came in.
#[derive(Debug, Default)]
pub struct Restore {
    /// The restore's number and its parts so far.
    staged: Option<(u64, Vec<u8>)>,
    /// The state before the entry, where that may restore another.
    before: Option<State>,
    /// Whether the entry holds a request that was carried out before.
    is_repeated: bool,
}

impl Restore {
    /// What came in whole, if it is what the operation says.
    fn whole(&mut self, restore: u64, length: u64, checksum: u64) -> Option<Vec<u8>> {
        let (_, bytes) = self.staged.take_if(|(number, _)| *number == restore)?;
        (bytes.len() as u64 == length && restore_checksum(&bytes) == checksum).then_some(bytes)
    }

    /// Takes in a part, if it follows.
    fn part(&mut self, restore: u64, offset: u64, data: &[u8]) -> bool {
        if offset == 0 {
            self.staged = Some((restore, data.to_vec()));
            return true;
        }
        let staged = self.staged.as_mut();
        let bytes = staged
            .filter(|(number, bytes)| *number == restore && bytes.len() as u64 == offset)
            .map(|(_, bytes)| bytes);
        bytes.map(|bytes| bytes.extend_from_slice(data)).is_some()
    }
}

impl Invariant for Restore {
    fn name(&self) -> &'static str {
        "a restored cell is the saved one"
    }

    fn prepare(&mut self, entry: &Entry, state: &State) {
        let mut finishes = false;
        self.is_repeated = false;
        for command in &entry.commands {
            let is_finish = matches!(command.op, Op::RestoreFinish { .. });
            if is_finish || matches!(command.op, Op::RestorePart { .. }) {
                finishes |= is_finish;
                let request = command.request.as_ref();
                self.is_repeated |=
                    request.is_some_and(|request| state.answer_now(request, &command.op).is_some());
            }
        }
        self.before = finishes.then(|| state.clone());
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        let Some(entry) = step.entry else { return Ok(()) };
        for (command, (_, outcome)) in entry.commands.iter().zip(&step.applied.answers) {
            let was_not_carried_out = self.is_repeated
                || matches!(
                    outcome,
                    Err(Rejected::Answered(_)
                        | Rejected::NoSession(_)
                        | Rejected::TooManyAnswers(_))
                );
            if was_not_carried_out {
                continue;
            }
            if let Op::RestorePart { restore, offset, data } = &command.op {
                let follows = self.part(*restore, *offset, data.bytes());
                if follows != outcome.is_ok() {
                    return Err(format!(
                        "the part from {offset} on of restore {restore} {}, and was answered {outcome:?}",
                        if follows { "follows" } else { "does not follow" }
                    ));
                }
            }
            let Op::RestoreFinish { restore, length, checksum } = &command.op else { continue };
            let restored = self.whole(*restore, *length, *checksum);
            if entry.commands.len() > 1 {
                return Err(
                    "a restore shares its entry: what was before it is not known".to_owned()
                );
            }
            match (restored, outcome, self.before.take()) {
                (Some(bytes), Ok(_), Some(before)) => {
                    let saved = State::from_bytes(&bytes).map_err(|error| error.to_string())?;
                    compare(&before, &saved, step)?;
                }
                (None, Err(_), _) => {}
                (restored, outcome, _) => {
                    let came = restored.map(|bytes| bytes.len());
                    return Err(format!("{came:?} bytes came in whole, and led to {outcome:?}"));
                }
            }
        }
        let is_told = |what: &What| matches!(what, What::Restored { .. });
        let was_restored = step.applied.events.iter().any(|event| is_told(&event.what));
        let may_be = |op: &Op| matches!(op, Op::RestoreFinish { .. });
        if was_restored && !entry.commands.iter().any(|command| may_be(&command.op)) {
            return Err("the cell was restored by something else".to_owned());
        }
        Ok(())
    }
}

fn compare(before: &State, saved: &State, step: &Step<'_>) -> Result<(), String> {
    let after = step.state;
    let must = |is_so: bool, what: &str| match is_so {
        true => Ok(()),
        false => Err(format!("restored from {}: {what}", saved.index())),
    };
    let Settings { cell_name, admins, .. } = before.settings().clone();
    let settings = Settings { cell_name, admins, ..saved.settings().clone() };
    must(*after.settings() == settings, "settings are not as saved")?;
    must(after.quotas().eq(saved.quotas()), "quotas are not as saved")?;
    let capabilities_are = after.all_capabilities().eq(saved.all_capabilities());
    must(capabilities_are, "capabilities are not as saved")?;
    must(after.session_count() == before.session_count(), "sessions are not as they were")?;
    must(after.now() >= before.now(), "time goes back")?;
    let (numbers, old) = (before.next_numbers(), saved.next_numbers());
    let highest = (numbers.0.max(old.0), numbers.1.max(old.1));
    must(after.next_numbers() == highest, "numbers are given out again")?;
    compare_machines(before, saved, after)?;

    let slots = |state: &State| state.jobs().map(|(slot, job)| (slot, job.uid)).collect::<Vec<_>>();
    must(slots(after) == slots(saved), "jobs are not those that were saved")?;
    let (mut kept, mut pending) = (0, 0);
    for (_, job) in saved.jobs() {
        let now = after.job_of(job.uid).ok_or("a job is not there")?;
        let is_same = fixed(job) == fixed(now) && job.tasks.len() == now.tasks.len();
        must(is_same, &format!("{} is not as saved", job.name()))?;
        for (index, (then, now)) in (0..).zip(job.tasks.iter().zip(&now.tasks)) {
            let id = before.task_id(TaskKey { job: job.uid, index });
            let own = id.map(|id| (before.job_at(id.job), before.record(id)));
            if !is_settled(job, then, own, now) {
                return Err(format!(
                    "{}/{index} was {:?}, was {then:?} as saved, and is {now:?}",
                    job.name(),
                    own.map(|(_, own)| own)
                ));
            }
            kept += u32::from(matches!(now.phase, Phase::Running { .. }));
            let is_pending = matches!(now.phase, Phase::Waiting { .. });
            pending += u32::from(is_pending && then.phase.place().is_some());
        }
    }
    let told =
        What::Restored { from_index: saved.index(), kept_count: kept, pending_count: pending };
    let events: Vec<&What> = step.applied.events.iter().map(|event| &event.what).collect();
    must(events == [&told], &format!("{events:?} was told, not {told:?}"))
}

/// What of a job a restore brings back as it was.
fn fixed(job: &JobRecord) -> impl PartialEq + '_ {
    (
        (job.kind, job.alloc_set, &job.spec, &job.previous),
        (job.version, job.restart_below, job.submitted_at, job.is_killed),
    )
}

/// Whether a task came to what it has to: it runs on just as it runs, or is as it was saved, or pending.
fn is_settled(
    job: &JobRecord,
    then: &TaskRecord,
    own: Option<(&JobRecord, &TaskRecord)>,
    now: &TaskRecord,
) -> bool {
    let (then_running, place) = match &then.phase {
        Phase::Waiting { .. } | Phase::Dead { .. } => {
            return (&then.phase, then.is_disrupted) == (&now.phase, now.is_disrupted);
        }
        Phase::Stopping { then: AfterStop::Die, .. } => {
            return matches!(now.phase, Phase::Dead { cause: DeathCause::Killed, .. })
                && !now.is_disrupted;
        }
        Phase::Stopping { .. } => (false, None),
        Phase::Assigned(place) => (false, Some(place)),
        Phase::Running { place, .. } => (true, Some(place)),
    };
    // The same placement, which runs here.
    let here = own.and_then(|(own_job, own)| match (&own.phase, place) {
        (Phase::Running { place: here, started_at, is_healthy }, Some(place))
            if (here.incarnation, here.machine) == (place.incarnation, place.machine) =>
        {
            Some((own_job, own, here, started_at, is_healthy))
        }
        _ => None,
    });
    match &now.phase {
        Phase::Running { place, started_at, is_healthy } => {
            here.is_some_and(|(_, own, here, was_started_at, was_healthy)| {
                (place.machine, place.incarnation, place.since)
                    == (here.machine, here.incarnation, here.since)
                    && (started_at, is_healthy) == (was_started_at, was_healthy)
                    && (now.limit, now.is_disrupted) == (own.limit, own.is_disrupted)
            })
        }
        Phase::Waiting { after: Some(Left::Restored), .. } => {
            let is_prod = |job: &JobRecord| {
                Priority::new(job.spec.priority).map(|priority| priority.band().is_prod())
            };
            // Whatever needs of its machine what it has there goes on.
            let goes_on = here.is_some_and(|(own_job, own, here, ..)| {
                matches!(here.on, Host::Machine(_))
                    && own.limit == then.limit
                    && is_prod(own_job) == is_prod(job)
            });
            !goes_on && now.is_disrupted == (then.is_disrupted || then_running)
        }
        Phase::Waiting { .. }
        | Phase::Assigned(_)
        | Phase::Stopping { .. }
        | Phase::Dead { .. } => false,
    }
}

/// Machines are what they are; whether they are drained is as saved, and none that was saved is missing.
fn compare_machines(before: &State, saved: &State, after: &State) -> Result<(), String> {
    let known = |state: &State, name: &str| {
        state.machines().find(|(_, machine)| machine.spec.name == *name).map(|(id, _)| id)
    };
    for (id, own) in before.machines() {
        let now = after.machine_at(id);
        let name = &own.spec.name;
        let there = saved.machine(name).map(|id| saved.machine_at(id));
        let is_same = (&own.spec, &own.address) == (&now.spec, &now.address);
        let is_as_it_must = match there {
            Some(there) if own.is_removed => {
                (&there.spec, &there.address) == (&now.spec, &now.address)
                    && !now.is_removed
                    && now.is_drained == there.is_drained
                    && matches!(now.health, Health::Down { .. })
            }
            Some(there) => {
                is_same
                    && !now.is_removed
                    && now.is_drained == there.is_drained
                    && now.health == own.health
            }
            None => {
                is_same
                    && (now.is_removed, now.is_drained, now.health)
                        == (own.is_removed, own.is_drained, own.health)
            }
        };
        if !is_as_it_must {
            return Err(format!("machine {name} was {own:?}, {there:?} as saved, and is {now:?}"));
        }
    }
    let new = saved
        .machines()
        .filter(|(_, machine)| !machine.is_removed && known(before, &machine.spec.name).is_none());
    if after.machines().count() != before.machines().count() + new.count() {
        return Err("there are machines that neither state has, or one is missing".to_owned());
    }
    Ok(())
}
