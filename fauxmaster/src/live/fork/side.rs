//! One side of a comparison: a state, and the figures of what became of it.

use std::collections::BTreeMap;

use cell::borglet::TaskKey;
use cell::live::{Applied, DeathCause, Entry, Op, Phase, State, TaskStep, Timestamp, What};
use cell::{JobKind, TaskId};
use serde::Serialize;

use crate::compact::nearest_rank;
use crate::live::{seconds, with_snapshot};
use crate::pack::{allocation, stranding};
use crate::report::ByResource;

/// At so many times the tasks are counted, evenly from the beginning to the end.
const SAMPLE_COUNT: u64 = 20;

/// How one side did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SideReport {
    /// Tasks that have a place and that wait, over time.
    pub over_time: Vec<Sample>,
    /// How long tasks waited for a place.
    pub waits: Waits,
    /// Tasks that still wait at the end, and how long they have by then.
    pub still_waiting: Waits,
    /// Tasks evicted, by cause.
    pub evictions: BTreeMap<&'static str, usize>,
    /// Tasks that finished their work.
    pub finished: usize,
    /// Tasks that ended by themselves, but are to be started again, or failed for good.
    pub failed: usize,
    /// Machines with a task or an alloc at the end.
    pub machines_used: usize,
    /// What is charged on machines over their capacity at the end, 0..=1.
    pub allocation: ByResource,
    /// What is free but stranded at the end, 0..=1.
    pub stranding: ByResource,
}

/// How many tasks have a place and wait, at a time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// Since the beginning.
    pub seconds: f64,
    /// Tasks that have a place; allocs are not counted.
    pub placed: usize,
    /// Tasks that wait for one.
    pub pending: usize,
}

/// Times that tasks waited, in seconds, from when they might have been placed (were submitted, came off a
/// machine, or had backed off) to when they were.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Waits {
    /// How many.
    pub count: usize,
    /// Mean.
    pub mean: f64,
    /// Median (nearest rank).
    pub p50: f64,
    /// 90th percentile (nearest rank).
    pub p90: f64,
}

impl Waits {
    fn of(mut waits_ms: Vec<usize>) -> Self {
        if waits_ms.is_empty() {
            return Self::default();
        }
        waits_ms.sort_unstable();
        let rank = |percent| seconds(nearest_rank(&waits_ms, percent) as u64);
        let sum: u64 = waits_ms.iter().map(|&ms| ms as u64).sum();
        #[expect(clippy::cast_precision_loss, reason = "a count of tasks")]
        let mean = seconds(sum) / waits_ms.len() as f64;
        Self { count: waits_ms.len(), mean, p50: rank(50), p90: rank(90) }
    }
}

/// A state and its figures.
#[derive(Debug)]
pub(super) struct Side {
    pub state: State,
    pub begin: Timestamp,
    end: Timestamp,
    samples: Vec<Sample>,
    waits_ms: Vec<usize>,
    evictions: BTreeMap<&'static str, usize>,
    finished: usize,
    failed: usize,
    pub refused_assignments: usize,
}

impl Side {
    /// A side that begins with this state, at one time, and ends at another.
    pub(super) fn new(state: State, begin: Timestamp, end: Timestamp) -> Self {
        Self {
            begin,
            end,
            state,
            samples: Vec::new(),
            waits_ms: Vec::new(),
            evictions: BTreeMap::new(),
            finished: 0,
            failed: 0,
            refused_assignments: 0,
        }
    }

    /// When the next sample is taken; `None`: all were.
    fn next_sample(&self) -> Option<Timestamp> {
        let number = self.samples.len() as u64;
        let span = self.end.since_ms(self.begin);
        let at = self.begin.plus_ms(span.saturating_mul(number) / SAMPLE_COUNT);
        (number <= SAMPLE_COUNT).then_some(at)
    }

    /// Counts the tasks at the times before this one, for which the state is the last.
    fn sample_before(&mut self, now: Timestamp) {
        while let Some(at) = self.next_sample().filter(|&at| at < now) {
            self.sample(at);
        }
    }

    fn sample(&mut self, at: Timestamp) {
        let (mut placed, mut pending) = (0, 0);
        for (_, job) in self.state.jobs() {
            if job.kind == JobKind::AllocSet || job.ended.is_some() {
                continue;
            }
            for task in &job.tasks {
                match task.phase {
                    Phase::Waiting { .. } => pending += 1,
                    Phase::Assigned(_) | Phase::Running { .. } => placed += 1,
                    Phase::Stopping { .. } | Phase::Dead { .. } => {}
                }
            }
        }
        let seconds = seconds(at.since_ms(self.begin));
        self.samples.push(Sample { seconds, placed, pending });
    }

    /// Applies an entry and counts what it comes to.
    pub(super) fn apply(&mut self, index: u64, entry: &Entry) -> Applied {
        self.sample_before(entry.at);
        let mut since: BTreeMap<TaskKey, Timestamp> = BTreeMap::new();
        for command in &entry.commands {
            let Op::Assign { assignments } = &command.op else { continue };
            for task in assignments.iter().map(|assignment| assignment.task) {
                if let Some(at) = self.task(task).and_then(|id| self.waits_since(id)) {
                    since.insert(task, at);
                }
            }
        }
        let applied = self.state.apply(index, entry);
        for event in &applied.events {
            let What::Task { task, step, .. } = &event.what else { continue };
            match step {
                TaskStep::Scheduled => {
                    if let Some(&since) = since.get(task) {
                        let ms = event.at.since_ms(since);
                        self.waits_ms.push(usize::try_from(ms).unwrap_or(usize::MAX));
                    }
                }
                TaskStep::Evicted(cause) => {
                    *self.evictions.entry(cause.name()).or_default() += 1;
                }
                TaskStep::Exited(cell::borglet::ExitCause::Finished)
                | TaskStep::Died(DeathCause::Finished) => self.finished += 1,
                TaskStep::Exited(_) | TaskStep::Died(DeathCause::Failed(_)) => self.failed += 1,
                TaskStep::Started
                | TaskStep::Notified(_)
                | TaskStep::Died(DeathCause::Killed)
                | TaskStep::Health(_)
                | TaskStep::Unassigned => {}
            }
        }
        self.refused_assignments += applied.refused.len();
        applied
    }

    /// The last times are counted.
    pub(super) fn finish(&mut self) {
        while let Some(at) = self.next_sample() {
            self.sample(at);
        }
    }

    /// A task, unless it is an alloc.
    fn task(&self, key: TaskKey) -> Option<TaskId> {
        let id = self.state.task_id(key)?;
        (self.state.job_at(id.job).kind == JobKind::Job).then_some(id)
    }

    fn waits_since(&self, id: TaskId) -> Option<Timestamp> {
        match self.state.record(id).phase {
            Phase::Waiting { since, not_before, .. } => Some(since.max(not_before)),
            Phase::Assigned(_)
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::Dead { .. } => None,
        }
    }

    pub(super) fn report(&self) -> SideReport {
        let state = &self.state;
        let waiting = state.waiting().filter_map(|key| self.waits_since(self.task(key)?));
        let still = waiting
            .map(|since| usize::try_from(self.end.since_ms(since)).unwrap_or(usize::MAX))
            .collect();
        let (allocation, stranding) =
            with_snapshot(state, |snapshot| (allocation(snapshot), stranding(snapshot)));
        SideReport {
            over_time: self.samples.clone(),
            waits: Waits::of(self.waits_ms.clone()),
            still_waiting: Waits::of(still),
            evictions: self.evictions.clone(),
            finished: self.finished,
            failed: self.failed,
            machines_used: state.machines().filter(|(_, m)| !m.tasks().is_empty()).count(),
            allocation,
            stranding,
        }
    }
}
