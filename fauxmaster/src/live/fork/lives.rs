//! How tasks behaved in the recording, and so behave in the fork.
//!
//! A task that ended by itself after running for so long does so in the fork too: its first such run there
//! takes as long as its first one here, and ends alike; a run that is cut off by an eviction is begun anew. A
//! task of which no such end is known runs until it is evicted or killed; so a recording that ends soon after
//! the fork begins makes short tasks seem endless: give it longer than they run. Starting and stopping take
//! as long as they did for that task, one after the other; where that is not known, the recording's median.

use std::collections::{BTreeMap, VecDeque};

use cell::borglet::{ExitCause, Incarnation, TaskKey};
use cell::live::{DeathCause, Done, Entry, Op, Outcome, State, TaskStep, Timestamp, What};

use super::clock::{Begun, Watch};
use super::side::Side;

/// How one task behaved.
#[derive(Clone, Debug, Default)]
struct Life {
    /// How long each start took, in milliseconds.
    starts: VecDeque<u64>,
    /// How long each run took that ended by itself, and how it ended.
    runs: VecDeque<(u64, ExitCause)>,
    /// How long each stop took.
    stops: VecDeque<u64>,
}

/// How all tasks behaved. What is asked for is used up.
#[derive(Clone, Debug, Default)]
pub(super) struct Lives {
    tasks: BTreeMap<TaskKey, Life>,
    median_start_ms: u64,
    median_stop_ms: u64,
}

impl Lives {
    fn life(&mut self, task: TaskKey) -> &mut Life {
        self.tasks.entry(task).or_default()
    }

    /// How long the task's next start takes.
    pub(super) fn next_start(&mut self, task: TaskKey) -> u64 {
        let own = self.tasks.get_mut(&task).and_then(|life| life.starts.pop_front());
        own.unwrap_or(self.median_start_ms)
    }

    /// How long the task's next stop takes.
    pub(super) fn next_stop(&mut self, task: TaskKey) -> u64 {
        let own = self.tasks.get_mut(&task).and_then(|life| life.stops.pop_front());
        own.unwrap_or(self.median_stop_ms)
    }

    /// How long the task runs, and how it ends; `None`: it runs on. It stays the next one until
    /// [`Lives::has_run`].
    pub(super) fn next_run(&self, task: TaskKey) -> Option<&(u64, ExitCause)> {
        self.tasks.get(&task)?.runs.front()
    }

    /// The task has ended by itself.
    pub(super) fn has_run(&mut self, task: TaskKey) {
        if let Some(life) = self.tasks.get_mut(&task) {
            life.runs.pop_front();
        }
    }
}

/// What the recording tells.
#[derive(Debug)]
pub(super) struct Recording {
    pub side: Side,
    pub lives: Lives,
    /// The answers to the commands of each entry, but for what only the master does.
    pub answers: BTreeMap<u64, Vec<Option<Outcome>>>,
}

/// The time of the state; in a cell as it was founded, which has none yet, that of the first entry.
fn begin_of(state: &State, log: &[(u64, Option<Entry>)]) -> Timestamp {
    let times = log.iter().filter_map(|(_, entry)| Some(entry.as_ref()?.at));
    let mut times = std::iter::once(state.now()).chain(times);
    times.find(|at| *at > Timestamp(0)).unwrap_or_default()
}

/// The time of the last entry.
fn end_of(state: &State, log: &[(u64, Option<Entry>)]) -> Timestamp {
    let times = log.iter().filter_map(|(_, entry)| Some(entry.as_ref()?.at));
    times.fold(state.now(), Timestamp::max)
}

impl Recording {
    /// Replays the recording.
    pub(super) fn of(start: &State, log: &[(u64, Option<Entry>)]) -> Self {
        let mut side = Side::new(start.clone(), begin_of(start, log), end_of(start, log));
        let mut lives = Lives::default();
        let mut answers = BTreeMap::new();
        let mut watch = Watch::default();
        let mut pending = Pending::default();
        pending.note(watch.begin(&side.state), start.now());
        // Runs that began before are known by their start.
        for (_, machine) in start.machines() {
            for &(incarnation, id) in machine.tasks() {
                if let cell::live::Phase::Running { started_at: Some(at), .. } =
                    start.record(id).phase
                {
                    pending.running.insert((start.key(id), incarnation), at);
                }
            }
        }
        for (index, entry) in log {
            let Some(entry) = entry else {
                side.state.skip(*index);
                continue;
            };
            let applied = side.apply(*index, entry);
            let kept = applied.answers.iter().zip(&entry.commands);
            let kept: Vec<Option<Outcome>> = kept
                .map(|((_, outcome), command)| {
                    is_from_outside(&command.op).then(|| outcome.clone())
                })
                .collect();
            if kept.iter().any(Option::is_some) {
                answers.insert(*index, kept);
            }
            for event in &applied.events {
                if let What::Task { task, incarnation: Some(incarnation), step, .. } = &event.what {
                    pending.step((*task, *incarnation), step, event.at, &mut lives);
                }
            }
            let begun = watch.follow(&side.state, &applied.changes);
            pending.note(begun, side.state.now());
        }
        side.finish();
        let median = |pick: &dyn Fn(&Life) -> &VecDeque<u64>| {
            let mut all: Vec<u64> =
                lives.tasks.values().flat_map(|life| pick(life).iter().copied()).collect();
            all.sort_unstable();
            all.get(all.len() / 2).copied().unwrap_or(0)
        };
        lives.median_start_ms = median(&|life| &life.starts);
        lives.median_stop_ms = median(&|life| &life.stops);
        Self { side, lives, answers }
    }
}

/// Whether an operation comes from a user or an operator, and not from the master.
pub(super) const fn is_from_outside(op: &Op) -> bool {
    match op {
        Op::OpenSession
        | Op::Submit { .. }
        | Op::Update { .. }
        | Op::Undo { .. }
        | Op::Kill { .. }
        | Op::SetQuota(_)
        | Op::SetCapabilities { .. }
        | Op::AddMachines { .. }
        | Op::Drain { .. }
        | Op::Repair { .. }
        | Op::RemoveMachine { .. }
        | Op::Configure(_)
        | Op::RestorePart { .. }
        | Op::RestoreFinish { .. } => true,
        Op::Assign { .. }
        | Op::Observe { .. }
        | Op::Health { .. }
        | Op::Evict { .. }
        | Op::Reserve { .. }
        | Op::Expire => false,
    }
}

/// The number that an answer gave out.
pub(super) const fn number_of(outcome: &Outcome) -> Option<u64> {
    match outcome {
        Ok(Done::Session(number) | Done::Job { uid: number, .. }) => Some(*number),
        Ok(Done::Done | Done::Some { .. }) | Err(_) => None,
    }
}

/// What has begun and not ended, by placement.
#[derive(Debug, Default)]
struct Pending {
    starting: BTreeMap<(TaskKey, Incarnation), Timestamp>,
    running: BTreeMap<(TaskKey, Incarnation), Timestamp>,
    stopping: BTreeMap<(TaskKey, Incarnation), Timestamp>,
}

impl Pending {
    fn note(&mut self, begun: Vec<Begun>, now: Timestamp) {
        for begun in begun {
            match begun {
                Begun::Starting(key, incarnation) => {
                    self.starting.entry((key, incarnation)).or_insert(now);
                }
                Begun::Stopping(key, incarnation) => {
                    self.running.remove(&(key, incarnation));
                    self.stopping.entry((key, incarnation)).or_insert(now);
                }
            }
        }
    }

    fn step(
        &mut self,
        at: (TaskKey, Incarnation),
        step: &TaskStep,
        now: Timestamp,
        lives: &mut Lives,
    ) {
        match step {
            TaskStep::Started => {
                if let Some(began) = self.starting.remove(&at) {
                    lives.life(at.0).starts.push_back(now.since_ms(began));
                }
                self.running.insert(at, now);
            }
            TaskStep::Exited(cause) | TaskStep::Died(DeathCause::Failed(cause)) => {
                self.ended(at, cause, now, lives.life(at.0));
            }
            TaskStep::Died(DeathCause::Finished) => {
                self.ended(at, &ExitCause::Finished, now, lives.life(at.0));
            }
            TaskStep::Evicted(cell::live::EvictCause::MachineLost) => self.forget(at),
            TaskStep::Evicted(_) | TaskStep::Died(DeathCause::Killed) => {
                if let Some(began) = self.stopping.remove(&at) {
                    lives.life(at.0).stops.push_back(now.since_ms(began));
                }
                self.forget(at);
            }
            TaskStep::Unassigned => self.forget(at),
            TaskStep::Scheduled | TaskStep::Notified(_) | TaskStep::Health(_) => {}
        }
    }

    /// It ended by itself; one that never ran ended at once.
    fn ended(
        &mut self,
        at: (TaskKey, Incarnation),
        cause: &ExitCause,
        now: Timestamp,
        life: &mut Life,
    ) {
        let ran = self.running.get(&at).map_or(0, |&began| now.since_ms(began));
        if let Some(began) = self.starting.get(&at) {
            life.starts.push_back(now.since_ms(*began));
        }
        life.runs.push_back((ran, cause.clone()));
        self.forget(at);
    }

    fn forget(&mut self, at: (TaskKey, Incarnation)) {
        self.starting.remove(&at);
        self.running.remove(&at);
        self.stopping.remove(&at);
    }
}
