//! What is kept of each job, task and machine beyond what a scheduler reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::account::Account;
use super::op::{EvictCause, Timestamp};
use crate::borglet::{ExitCause, Incarnation};
use crate::cow::CowVec;
use crate::id::{MachineId, TaskId};
use crate::job::{Host, JobKind};
use crate::resources::Resources;
use crate::spec::{JobSpec, MachineSpec};

/// A job or an alloc set of a live cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its number, never used again for another.
    pub uid: u64,
    /// Job or alloc set.
    pub kind: JobKind,
    /// The number of the alloc set that its tasks run in.
    pub alloc_set: Option<u64>,
    /// What is wanted of it.
    #[serde(with = "super::text")]
    pub spec: Arc<JobSpec>,
    /// The spec before the last update; `None`: never updated.
    #[serde(with = "super::text")]
    pub previous: Option<Arc<JobSpec>>,
    /// Counts the specs it had, from 1.
    pub version: u32,
    /// Every task of a version below this one has to be started anew to be as wanted.
    pub restart_below: u32,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// The jobs that have to finish before it may start, as far as they have not.
    pub waits_for: BTreeSet<u64>,
    /// Whether a user asked for its end.
    pub is_killed: bool,
    /// When and how it ended.
    pub ended: Option<(Timestamp, JobEnd)>,
    /// Its tasks, by index.
    pub tasks: CowVec<TaskRecord>,
    /// Its name, for events.
    #[serde(skip)]
    pub(super) name: Arc<str>,
    /// How many of its tasks are down because they were disrupted.
    #[serde(skip)]
    pub(super) disrupted: u32,
    /// How many of its tasks have not ended.
    #[serde(skip)]
    pub(super) alive: u32,
    /// How many of its tasks each machine holds, where its rules ask.
    #[serde(skip)]
    pub(super) on_machine: BTreeMap<MachineId, u32>,
    /// The share of the state's hash that its spec has.
    #[serde(skip)]
    pub(super) spec_hash: u64,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobEnd {
    /// All its tasks finished.
    Finished,
    /// A task failed for good.
    Failed,
    /// A user ended it.
    Killed,
}

/// A task or an alloc of a live cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// Where it is in its life.
    pub phase: Phase,
    /// Of which version of its job's spec it is, or will be once it is placed.
    pub version: u32,
    /// The most it may use, by that version.
    pub limit: Resources,
    /// What it is expected to use; `None`: its limit.
    pub reservation: Option<Resources>,
    /// How often it failed since it last ran well.
    pub failures: u32,
    /// On which machines it failed, and how often.
    pub failed_on: Vec<(MachineId, u32)>,
    /// Machines that it is not placed on again.
    pub avoid: Vec<MachineId>,
    /// Whether it is down because it was disrupted: from the notice until it runs again.
    pub is_disrupted: bool,
    /// How often it was placed.
    pub placed_count: u32,
    /// Its share of the state's hash.
    #[serde(skip)]
    pub(super) hash: u128,
}

/// Where a task is in its life (Borg §2.3, Fig. 2: pending, running, dead).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Pending.
    Waiting {
        /// Since when.
        since: Timestamp,
        /// It is not placed before this time: it backs off.
        not_before: Timestamp,
        /// What took it off its last machine; `None`: it was never placed.
        after: Option<Left>,
    },
    /// Pending still, but its place is chosen; victims there have not gone yet.
    Assigned(Place),
    /// Running, or told to start.
    Running {
        /// Where.
        place: Place,
        /// When its borglet said so; `None`: not yet.
        started_at: Option<Timestamp>,
        /// Whether it passes its health check.
        is_healthy: bool,
    },
    /// Told to stop; its room is not free yet.
    Stopping {
        /// Where.
        place: Place,
        /// When it is killed if it has not gone by then.
        deadline: Timestamp,
        /// What becomes of it.
        then: AfterStop,
    },
    /// Dead.
    Dead {
        /// Since when.
        at: Timestamp,
        /// Why.
        cause: DeathCause,
    },
}

/// A place that a task has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The machine or the alloc.
    pub on: Host,
    /// The machine in the end.
    pub machine: MachineId,
    /// The GPU devices, one bit each.
    pub gpu_devices: u16,
    /// The number of this placement.
    pub incarnation: Incarnation,
    /// Since when it has it.
    pub since: Timestamp,
}

/// What took a task off a machine, so that it is pending again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Left {
    /// It was evicted.
    Evicted(EvictCause),
    /// It ended by itself, and is to be started again.
    Exited(ExitCause),
    /// The place that was chosen for it came to nothing.
    NotStarted,
    /// The cell was restored from an earlier state, and it was no longer where it had been then.
    Restored,
}

/// What becomes of a task that was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AfterStop {
    /// It is pending again.
    Requeue(EvictCause),
    /// It is dead.
    Die,
}

/// Why a task is dead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeathCause {
    /// It did its work.
    Finished,
    /// It ended otherwise, and is not started again.
    Failed(ExitCause),
    /// A user ended it, or its job shrank.
    Killed,
}

/// A machine of a live cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineRecord {
    /// What it is.
    #[serde(with = "super::text")]
    pub spec: Arc<MachineSpec>,
    /// Where its borglet listens.
    pub address: String,
    /// Whether it is heard.
    pub health: Health,
    /// Whether it is being taken out of service, or is out of it.
    pub is_drained: bool,
    /// Whether it was removed; its number is not used for another.
    pub is_removed: bool,
    /// Changes with what is wanted of it: the index of the log entry that last changed that.
    pub generation: u64,
    /// The share of the state's hash that its spec has.
    #[serde(skip)]
    pub(super) spec_hash: u64,
    /// Its share of the state's hash.
    #[serde(skip)]
    pub(super) hash: u128,
    /// What is placed on it, allocs included, by ascending incarnation.
    #[serde(skip)]
    pub(super) tasks: Vec<(Incarnation, TaskId)>,
    /// What those need that run or stop there.
    #[serde(skip)]
    pub(super) present: Account,
    /// What those need that will be there once the stopping have gone.
    #[serde(skip)]
    pub(super) future: Account,
}

/// Whether a machine is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Health {
    /// It was added, and has not been heard yet.
    Unknown,
    /// It reports.
    Up,
    /// It fell silent.
    Down {
        /// When that was noticed.
        since: Timestamp,
    },
}

impl Phase {
    /// The place it has, whether it runs there yet or still.
    #[must_use]
    pub const fn place(&self) -> Option<&Place> {
        match self {
            Self::Assigned(place) | Self::Running { place, .. } | Self::Stopping { place, .. } => {
                Some(place)
            }
            Self::Waiting { .. } | Self::Dead { .. } => None,
        }
    }

    /// Its name for people.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "pending",
            Self::Assigned(_) => "assigned",
            Self::Running { started_at: None, .. } => "starting",
            Self::Running { .. } => "running",
            Self::Stopping { .. } => "stopping",
            Self::Dead { cause: DeathCause::Finished, .. } => "finished",
            Self::Dead { cause: DeathCause::Failed(_), .. } => "failed",
            Self::Dead { cause: DeathCause::Killed, .. } => "killed",
        }
    }
}

impl JobRecord {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many of its tasks are down because they were disrupted.
    #[must_use]
    pub const fn disrupted(&self) -> u32 {
        self.disrupted
    }

    /// Whether one of its tasks has to be started anew to be as the newest spec wants it.
    #[must_use]
    pub const fn is_outdated(&self, task: &TaskRecord) -> bool {
        task.version < self.restart_below
    }

    /// How it ended, once all its tasks have.
    pub(super) fn end(&self) -> JobEnd {
        let has_failed = self
            .tasks
            .iter()
            .any(|task| matches!(task.phase, Phase::Dead { cause: DeathCause::Failed(_), .. }));
        match (self.is_killed, has_failed) {
            (true, _) => JobEnd::Killed,
            (false, true) => JobEnd::Failed,
            (false, false) => JobEnd::Finished,
        }
    }

    /// How many of its tasks have not ended.
    #[must_use]
    pub const fn alive(&self) -> u32 {
        self.alive
    }
}

impl MachineRecord {
    /// The machine as it is entered into a state.
    pub(super) fn without_tasks(&self) -> Self {
        Self {
            spec: Arc::clone(&self.spec),
            address: self.address.clone(),
            health: self.health,
            is_drained: self.is_drained,
            is_removed: self.is_removed,
            generation: self.generation,
            spec_hash: self.spec_hash,
            hash: self.hash,
            tasks: Vec::new(),
            present: Account::default(),
            future: Account::default(),
        }
    }

    /// What is placed on it, allocs included, by ascending incarnation.
    #[must_use]
    pub fn tasks(&self) -> &[(Incarnation, TaskId)] {
        &self.tasks
    }

    /// Whether new tasks may be placed on it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.health == Health::Up && !self.is_drained && !self.is_removed
    }

    /// Whether it is down.
    #[must_use]
    pub const fn is_down(&self) -> bool {
        matches!(self.health, Health::Down { .. })
    }

    /// What the tasks that run or stop there need.
    #[must_use]
    pub const fn present(&self) -> &Account {
        &self.present
    }

    /// What will be needed once the stopping have gone.
    #[must_use]
    pub const fn future(&self) -> &Account {
        &self.future
    }
}
