//! The tasks of a machine: what is wanted of each, how far it is, and what has to be done about it.
//!
//! In: accepted wanted states, containers' events, the time. Out: actions. Knows nothing of masters and
//! fences.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cell::borglet::{
    ExitCause, GIVEN_UP_MS_MAX, Incarnation, RefusalReason, ReportedState, TaskKey, TaskReport,
    Usage, Wanted, WantedTask,
};

use crate::input::{Action, Found, FoundState, TaskEvent};

/// The most tasks that a borglet keeps: wanted ones, those still to end, and exits not yet acknowledged.
/// Our guess, eight times what a machine is meant to run.
pub const TASK_COUNT_MAX: usize = 4096;

/// How long after SIGKILL it is sent again, to a task that is still there.
pub const KILL_RETRY_MS: u64 = 1_000;

/// What is kept of [`GIVEN_UP_MS_MAX`] for the kill itself and for a tick that comes late.
pub const GIVEN_UP_MARGIN_MS: u64 = 500;

const _: () = assert!(GIVEN_UP_MARGIN_MS < GIVEN_UP_MS_MAX);

/// All tasks that a borglet knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tasks {
    known: BTreeMap<Incarnation, Known>,
    /// Which incarnation of each task is alive: the one that others of the same task wait for.
    alive: BTreeMap<TaskKey, Incarnation>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    /// As last wanted, but without its `stop`, which is in `stopping`; so is whatever is started.
    task: Arc<WantedTask>,
    /// Whether the master wants it still, were it only to hear how it ended.
    wanted: bool,
    phase: Phase,
    usage: Usage,
    healthy: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// For the end of another incarnation. Nothing of it exists yet.
    Waiting,
    Alive {
        /// `None` while it is being started.
        running_since_ms: Option<u64>,
        stopping: Option<Stopping>,
    },
    Exited {
        cause: ExitCause,
        age_ms: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Stopping {
    /// When SIGKILL is due, or due again.
    kill_at_ms: u64,
    /// As what an end by this counts.
    cause: ExitCause,
}

impl Tasks {
    pub(crate) fn found(now_ms: u64, found: Vec<Found>) -> Self {
        let mut tasks = Self::default();
        for Found { task, state } in found {
            let phase = match state {
                FoundState::Running { age_ms } => {
                    tasks.alive.insert(task.key, task.incarnation);
                    let running_since_ms = Some(now_ms.saturating_sub(age_ms));
                    Phase::Alive { running_since_ms, stopping: None }
                }
                FoundState::Exited(cause) => Phase::Exited { cause, age_ms: 0 },
            };
            let incarnation = task.incarnation;
            // Wanted until the whole wanted state says otherwise.
            let known = Known { task, wanted: true, phase, usage: Usage::default(), healthy: true };
            tasks.known.insert(incarnation, known);
        }
        tasks
    }

    /// Whether a wanted state can be applied.
    pub(crate) fn check(&self, wanted: &Wanted) -> Result<(), RefusalReason> {
        let mut said: BTreeSet<Incarnation> = BTreeSet::new();
        let mut new_count = 0;
        for task in &wanted.tasks {
            match self.known.get(&task.incarnation) {
                Some(known) if known.task.key != task.key => return Err(RefusalReason::Malformed),
                Some(_) => {}
                None => new_count += 1,
            }
            if !said.insert(task.incarnation) {
                return Err(RefusalReason::Malformed);
            }
        }
        if wanted.gone.iter().any(|gone| said.contains(gone)) {
            return Err(RefusalReason::Malformed);
        }
        let gone: BTreeSet<Incarnation> = wanted.gone.iter().copied().collect();
        let kept = |(incarnation, known): &(&Incarnation, &Known)| {
            let stays = match wanted.base {
                None => said.contains(incarnation),
                Some(_) => !gone.contains(incarnation),
            };
            stays || matches!(known.phase, Phase::Alive { .. })
        };
        if self.known.iter().filter(kept).count() + new_count > TASK_COUNT_MAX {
            return Err(RefusalReason::TooManyTasks);
        }
        Ok(())
    }

    /// Makes a wanted state, which has passed [`Self::check`], the one to converge to.
    pub(crate) fn apply(&mut self, now_ms: u64, wanted: Wanted, out: &mut Vec<Action>) {
        let dropped: Vec<Incarnation> = match wanted.base {
            Some(_) => wanted.gone,
            None => {
                let said: BTreeSet<_> = wanted.tasks.iter().map(|task| task.incarnation).collect();
                self.known.keys().filter(|known| !said.contains(known)).copied().collect()
            }
        };
        for incarnation in dropped {
            self.drop_wish(now_ms, incarnation, out);
        }
        for task in wanted.tasks {
            self.want(now_ms, task, out);
        }
        self.start_waiting(out);
    }

    /// The master wants this one no longer, and perhaps has it run elsewhere.
    fn drop_wish(&mut self, now_ms: u64, incarnation: Incarnation, out: &mut Vec<Action>) {
        let Some(known) = self.known.get_mut(&incarnation) else { return };
        match known.phase {
            Phase::Waiting => {
                self.known.remove(&incarnation);
            }
            Phase::Exited { .. } => {
                self.known.remove(&incarnation);
                out.push(Action::Forget(incarnation));
            }
            Phase::Alive { .. } if known.wanted => {
                known.wanted = false;
                let grace_ms = known.task.grace_ms.min(GIVEN_UP_MS_MAX - GIVEN_UP_MARGIN_MS);
                known.stop(now_ms, grace_ms, ExitCause::Stopped, out);
            }
            // Given up before: its time is running.
            Phase::Alive { .. } => {}
        }
    }

    fn want(&mut self, now_ms: u64, mut task: WantedTask, out: &mut Vec<Action>) {
        let stop = task.stop.take();
        let incarnation = task.incarnation;
        let known = self.known.entry(incarnation).or_insert_with(|| Known {
            task: Arc::new(task.clone()),
            wanted: true,
            phase: Phase::Waiting,
            usage: Usage::default(),
            healthy: true,
        });
        known.wanted = true;
        if *known.task != task {
            known.task = Arc::new(task);
            if matches!(known.phase, Phase::Alive { .. }) {
                out.push(Action::Adjust(Arc::clone(&known.task)));
            }
        }
        if let Some(stop) = stop {
            known.stop(now_ms, stop.deadline_in_ms, ExitCause::Stopped, out);
        }
    }

    fn start_waiting(&mut self, out: &mut Vec<Action>) {
        for (&incarnation, known) in &mut self.known {
            if known.phase == Phase::Waiting && !self.alive.contains_key(&known.task.key) {
                self.alive.insert(known.task.key, incarnation);
                known.phase = Phase::Alive { running_since_ms: None, stopping: None };
                out.push(Action::Start(Arc::clone(&known.task)));
            }
        }
    }

    /// Takes in what happened to a task. What is said of one that is unknown, or has ended, is late.
    pub(crate) fn event(
        &mut self,
        now_ms: u64,
        incarnation: Incarnation,
        event: TaskEvent,
        out: &mut Vec<Action>,
    ) {
        let Some(known) = self.known.get_mut(&incarnation) else { return };
        let Phase::Alive { running_since_ms, stopping } = &mut known.phase else { return };
        match event {
            TaskEvent::Started => {
                running_since_ms.get_or_insert(now_ms);
            }
            TaskEvent::Sampled(usage) => known.usage = usage,
            TaskEvent::Health { healthy } => known.healthy = healthy,
            TaskEvent::Exited(cause) => {
                let age_ms = running_since_ms.map_or(0, |since_ms| now_ms.saturating_sub(since_ms));
                let cause = match stopping {
                    Some(stopping) if explained_by_stop(&cause) => stopping.cause.clone(),
                    _ => cause,
                };
                known.phase = Phase::Exited { cause, age_ms };
                known.usage = Usage::default();
                self.alive.remove(&known.task.key);
                if !known.wanted {
                    self.known.remove(&incarnation);
                    out.push(Action::Forget(incarnation));
                }
                self.start_waiting(out);
            }
        }
    }

    /// Does what has become due.
    pub(crate) fn tick(&mut self, now_ms: u64, contact_ms: u64, out: &mut Vec<Action>) {
        for (&incarnation, known) in &mut self.known {
            if known.disconnected_at_ms(contact_ms).is_some_and(|at_ms| at_ms <= now_ms) {
                known.stop(now_ms, known.task.grace_ms, ExitCause::Disconnected, out);
            }
            if let Phase::Alive { stopping: Some(stopping), .. } = &mut known.phase
                && stopping.kill_at_ms <= now_ms
            {
                stopping.kill_at_ms = now_ms + KILL_RETRY_MS;
                out.push(Action::Kill(incarnation));
            }
        }
    }

    /// The earliest time at which [`Self::tick`] has something to do.
    pub(crate) fn next_deadline_ms(&self, contact_ms: u64) -> Option<u64> {
        let deadline = |known: &Known| match &known.phase {
            Phase::Alive { stopping: Some(stopping), .. } => Some(stopping.kill_at_ms),
            Phase::Alive { .. } | Phase::Waiting => known.disconnected_at_ms(contact_ms),
            Phase::Exited { .. } => None,
        };
        self.known.values().filter_map(deadline).min()
    }

    pub(crate) fn reports(&self, now_ms: u64) -> Vec<TaskReport> {
        let report = |(&incarnation, known): (&Incarnation, &Known)| {
            let (state, age_ms) = match &known.phase {
                Phase::Waiting => (ReportedState::Starting, 0),
                Phase::Alive { running_since_ms, stopping } => {
                    let state = match (stopping, running_since_ms) {
                        (Some(_), _) => ReportedState::Stopping,
                        (None, Some(_)) => ReportedState::Running,
                        (None, None) => ReportedState::Starting,
                    };
                    (state, running_since_ms.map_or(0, |since_ms| now_ms.saturating_sub(since_ms)))
                }
                Phase::Exited { cause, age_ms } => (ReportedState::Exited(cause.clone()), *age_ms),
            };
            let Known { task, usage, healthy, .. } = known;
            TaskReport {
                key: task.key,
                incarnation,
                state,
                usage: *usage,
                healthy: *healthy,
                age_ms,
            }
        };
        self.known.iter().map(report).collect()
    }
}

impl Known {
    /// When no master has been heard for too long for this task, if it is not ending anyway.
    fn disconnected_at_ms(&self, contact_ms: u64) -> Option<u64> {
        match self.phase {
            Phase::Waiting | Phase::Alive { stopping: None, .. } => self
                .task
                .stop_after_disconnect_ms
                .map(|after_ms| contact_ms.saturating_add(after_ms)),
            Phase::Alive { stopping: Some(_), .. } | Phase::Exited { .. } => None,
        }
    }

    /// SIGTERM, unless it has been sent; SIGKILL after `grace_ms`, or when it was due before, if that is
    /// earlier. What waits to be started never will be.
    fn stop(&mut self, now_ms: u64, grace_ms: u64, cause: ExitCause, out: &mut Vec<Action>) {
        let kill_at_ms = now_ms.saturating_add(grace_ms);
        match &mut self.phase {
            Phase::Waiting => self.phase = Phase::Exited { cause, age_ms: 0 },
            Phase::Alive { stopping: Some(stopping), .. } => {
                stopping.kill_at_ms = stopping.kill_at_ms.min(kill_at_ms);
            }
            Phase::Alive { stopping, .. } => {
                *stopping = Some(Stopping { kill_at_ms, cause });
                out.push(Action::Terminate(self.task.incarnation));
            }
            Phase::Exited { .. } => {}
        }
    }
}

/// Whether a task that was told to end and ended like this did as it was told.
fn explained_by_stop(cause: &ExitCause) -> bool {
    match cause {
        ExitCause::Finished
        | ExitCause::Failed { .. }
        | ExitCause::Signal { .. }
        | ExitCause::Stopped
        | ExitCause::Disconnected => true,
        ExitCause::OutOfMemory
        | ExitCause::Unhealthy
        | ExitCause::StartFailed { .. }
        | ExitCause::Lost => false,
    }
}
