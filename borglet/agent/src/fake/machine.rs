//! A machine made of nothing: it starts, runs and ends tasks by the clock that it is told.
//!
//! In: an agent's actions. Out: the events of containers, when they are due, and what a restarted borglet
//! finds. As a real one does, it keeps a record of each started incarnation until it may forget it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cell::borglet::{ExitCause, Incarnation, Usage, WantedTask};

use crate::input::{Action, Found, FoundState, Input, TaskEvent};

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// What a task does once it is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// From the order to start to its program running.
    pub start_up_ms: u64,
    /// How long it runs if it is let; `None`: for ever. With 0 it is never seen running.
    pub runtime_ms: Option<u64>,
    /// How it ends then. With [`ExitCause::StartFailed`] it ends after `start_up_ms` and never runs.
    pub exit: ExitCause,
    /// What it uses, all the time.
    pub usage: Usage,
    /// Whether it passes its health check, all the time.
    pub is_healthy: bool,
    /// What it makes of SIGTERM.
    pub on_sigterm: OnSigterm,
}

/// What a task makes of SIGTERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnSigterm {
    /// It ends, after a while.
    Ends {
        /// How long that takes.
        after_ms: u64,
    },
    /// Nothing.
    Ignores,
}

/// The container side of a borglet, without containers.
#[derive(Clone, Debug, Default)]
pub struct FakeMachine {
    records: BTreeMap<Incarnation, Record>,
    /// When something happens next to a task; one entry for each that something will happen to.
    due: BTreeSet<(u64, Incarnation)>,
}

#[derive(Clone, Debug)]
struct Record {
    task: Arc<WantedTask>,
    usage: Usage,
    is_healthy: bool,
    on_sigterm: OnSigterm,
    state: State,
    /// When the program runs, if it is let.
    runs_at_ms: u64,
    /// When and how it ends, as things stand.
    end: Option<(u64, ExitCause)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Starting,
    Running,
    Exited(ExitCause),
}

impl Record {
    fn due_ms(&self) -> Option<u64> {
        let end_ms = self.end.as_ref().map(|(end_ms, _)| *end_ms);
        match self.state {
            State::Starting => {
                Some(end_ms.map_or(self.runs_at_ms, |end_ms| end_ms.min(self.runs_at_ms)))
            }
            State::Running => end_ms,
            State::Exited(_) => None,
        }
    }
}

impl FakeMachine {
    /// Carries out an action; those that are no concern of containers do nothing. `behaviour` is asked
    /// once for each task that is started.
    ///
    /// # Panics
    /// If an incarnation is started of which there is a record: the agent has broken its word.
    pub fn act(
        &mut self,
        now_ms: u64,
        action: &Action,
        behaviour: &dyn Fn(&WantedTask) -> Behaviour,
    ) {
        match action {
            Action::Start(task) => self.start(now_ms, task, behaviour(task)),
            Action::Adjust(task) => {
                if let Some(record) = self.records.get_mut(&task.incarnation) {
                    record.task = Arc::clone(task);
                }
            }
            Action::Terminate(incarnation) => {
                let Some(record) = self.records.get(incarnation) else { return };
                match record.on_sigterm {
                    OnSigterm::Ends { after_ms } => {
                        self.end(*incarnation, now_ms.saturating_add(after_ms), SIGTERM);
                    }
                    OnSigterm::Ignores => {}
                }
            }
            Action::Kill(incarnation) => self.end(*incarnation, now_ms, SIGKILL),
            Action::Forget(incarnation) => {
                if let Some(record) = self.records.remove(incarnation)
                    && let Some(due_ms) = record.due_ms()
                {
                    self.due.remove(&(due_ms, *incarnation));
                }
            }
            Action::Persist(_) | Action::Reply(_) | Action::Refuse(_) => {}
        }
    }

    fn start(&mut self, now_ms: u64, task: &Arc<WantedTask>, behaviour: Behaviour) {
        let Behaviour { start_up_ms, runtime_ms, exit, usage, is_healthy, on_sigterm } = behaviour;
        let runs_at_ms = now_ms.saturating_add(start_up_ms);
        let runtime_ms = match &exit {
            ExitCause::StartFailed { .. } => Some(0),
            ExitCause::Finished
            | ExitCause::Failed { .. }
            | ExitCause::Signal { .. }
            | ExitCause::OutOfMemory
            | ExitCause::Unhealthy
            | ExitCause::Stopped
            | ExitCause::Disconnected
            | ExitCause::Lost => runtime_ms,
        };
        let end = runtime_ms.map(|runtime_ms| (runs_at_ms.saturating_add(runtime_ms), exit));
        let record = Record {
            task: Arc::clone(task),
            usage,
            is_healthy,
            on_sigterm,
            state: State::Starting,
            runs_at_ms,
            end,
        };
        self.due.extend(record.due_ms().map(|due_ms| (due_ms, task.incarnation)));
        let before = self.records.insert(task.incarnation, record);
        assert!(before.is_none(), "{:?} was started twice", task.incarnation);
    }

    /// Has a task end by a signal, unless it ends before.
    fn end(&mut self, incarnation: Incarnation, at_ms: u64, signal: i32) {
        let Some(record) = self.records.get_mut(&incarnation) else { return };
        if record.end.as_ref().is_some_and(|(end_ms, _)| *end_ms <= at_ms) {
            return;
        }
        if let Some(due_ms) = record.due_ms() {
            self.due.remove(&(due_ms, incarnation));
        }
        record.end = Some((at_ms, ExitCause::Signal { signal }));
        self.due.extend(record.due_ms().map(|due_ms| (due_ms, incarnation)));
    }

    /// When something happens next.
    #[must_use]
    pub fn next_event_ms(&self) -> Option<u64> {
        self.due.first().map(|&(due_ms, _)| due_ms)
    }

    /// What has happened to one task by `now_ms`, in order of time; empty if nothing has.
    pub fn next_events(&mut self, now_ms: u64) -> Vec<Input> {
        if self.next_event_ms().is_none_or(|due_ms| due_ms > now_ms) {
            return Vec::new();
        }
        let Some((due_ms, incarnation)) = self.due.pop_first() else { return Vec::new() };
        let Some(record) = self.records.get_mut(&incarnation) else { return Vec::new() };
        let events = match record.end.take_if(|(end_ms, _)| *end_ms <= due_ms) {
            Some((_, cause)) => {
                record.state = State::Exited(cause.clone());
                vec![TaskEvent::Exited(cause)]
            }
            None => {
                record.state = State::Running;
                let mut events = vec![TaskEvent::Started, TaskEvent::Sampled(record.usage)];
                if !record.is_healthy {
                    events.push(TaskEvent::Health { healthy: false });
                }
                events
            }
        };
        self.due.extend(record.due_ms().map(|due_ms| (due_ms, incarnation)));
        events.into_iter().map(|event| Input::Task(incarnation, event)).collect()
    }

    /// The machine goes down and comes up again: no task survives, and nobody saw how it ended.
    pub fn reboot(&mut self) {
        self.due.clear();
        for record in self.records.values_mut() {
            record.end = None;
            match record.state {
                State::Starting | State::Running => record.state = State::Exited(ExitCause::Lost),
                State::Exited(_) => {}
            }
        }
    }

    /// What a borglet that is started now finds. A task that was still being set up is lost with the
    /// borglet that did so.
    pub fn found(&mut self, now_ms: u64) -> Vec<Found> {
        let mut found = Vec::with_capacity(self.records.len());
        for (&incarnation, record) in &mut self.records {
            let state = match &record.state {
                State::Running => {
                    FoundState::Running { age_ms: now_ms.saturating_sub(record.runs_at_ms) }
                }
                State::Exited(cause) => FoundState::Exited(cause.clone()),
                State::Starting => {
                    if let Some(due_ms) = record.due_ms() {
                        self.due.remove(&(due_ms, incarnation));
                    }
                    record.end = None;
                    record.state = State::Exited(ExitCause::Lost);
                    FoundState::Exited(ExitCause::Lost)
                }
            };
            found.push(Found { task: Arc::clone(&record.task), state });
        }
        found
    }

    /// The incarnations that run or are being started.
    pub fn alive(&self) -> impl Iterator<Item = &WantedTask> {
        self.records.values().filter_map(|record| match record.state {
            State::Starting | State::Running => Some(&*record.task),
            State::Exited(_) => None,
        })
    }
}
