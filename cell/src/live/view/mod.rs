//! What users see of a cell: plain structs, made from the state.
//!
//! In: a [`State`](super::State), a [`Filter`] and a [`Paging`]. Out: one struct a job, task, machine, quota
//! or cell, and [`Page`]s of them in the order of their names. Changes nothing, and shows nothing that a
//! reader of the log could not work out. [`describe`] puts an event into words.
//!
//! They serialise to JSON under the names of their fields: times are milliseconds since 1970, resources
//! have their unit in their name, enums are words. Programs read that, so a name once given stays.

mod ask;
mod describe;
mod json;
mod list;

pub use ask::{Answer, Question};
pub use describe::{describe, describe_death, describe_exit, describe_left};

use serde::Serialize;

use super::op::Timestamp;
use super::quota::Amounts;
use super::record::{DeathCause, Health, JobEnd, Phase};
use super::settings::Settings;
use crate::band::{Band, Priority};
use crate::borglet::Incarnation;
use crate::job::JobKind;
use crate::resources::Resources;

/// The phases of a task, as users tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PhaseKind {
    /// Waits for a place.
    Pending,
    /// Its place is chosen, and not free yet.
    Assigned,
    /// Told to start.
    Starting,
    /// Runs.
    Running,
    /// Told to stop.
    Stopping,
    /// Did its work.
    Finished,
    /// Ended otherwise, for good.
    Failed,
    /// Ended by a user.
    Killed,
}

impl PhaseKind {
    /// All of them, in the order of a task's life.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Assigned,
        Self::Starting,
        Self::Running,
        Self::Stopping,
        Self::Finished,
        Self::Failed,
        Self::Killed,
    ];

    /// The kind of this phase.
    #[must_use]
    pub const fn of(phase: &Phase) -> Self {
        match phase {
            Phase::Waiting { .. } => Self::Pending,
            Phase::Assigned(_) => Self::Assigned,
            Phase::Running { started_at: None, .. } => Self::Starting,
            Phase::Running { .. } => Self::Running,
            Phase::Stopping { .. } => Self::Stopping,
            Phase::Dead { cause: DeathCause::Finished, .. } => Self::Finished,
            Phase::Dead { cause: DeathCause::Failed(_), .. } => Self::Failed,
            Phase::Dead { cause: DeathCause::Killed, .. } => Self::Killed,
        }
    }

    /// Its name, that of [`Phase::name`].
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Assigned => "assigned",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Killed => "killed",
        }
    }

    /// The phase of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// How many tasks are in each phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PhaseCounts {
    /// In the order of [`PhaseKind::ALL`].
    pub counts: [u32; PhaseKind::ALL.len()],
}

impl PhaseCounts {
    /// How many are in this phase.
    #[must_use]
    pub const fn get(&self, kind: PhaseKind) -> u32 {
        self.counts[kind as usize]
    }

    /// Counts one more in this phase.
    pub fn count(&mut self, kind: PhaseKind) {
        self.counts[kind as usize] += 1;
    }

    /// How many there are in all.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.counts.iter().sum()
    }
}

/// A job or an alloc set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobStatus {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u64,
    /// Who owns it.
    pub user: String,
    /// Its priority.
    pub priority: Priority,
    /// Job or alloc set.
    #[serde(serialize_with = "json::kind")]
    pub kind: JobKind,
    /// Counts the specs it had, from 1.
    pub version: u32,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// Its tasks, by phase.
    pub counts: PhaseCounts,
    /// When and how it ended; `None`: it has not.
    #[serde(serialize_with = "json::ended")]
    pub ended: Option<(Timestamp, JobEnd)>,
    /// How far an update is; `None`: none is under way.
    pub rollout: Option<Rollout>,
    /// Names of the jobs that have to finish before its tasks may start.
    pub waits_for: Vec<String>,
}

impl JobStatus {
    /// The band that its priority falls into.
    #[must_use]
    pub const fn band(&self) -> Band {
        self.priority.band()
    }
}

/// How far an update is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rollout {
    /// Tasks that run as the update wants them.
    pub done: u32,
    /// Tasks that have not ended.
    pub total: u32,
}

/// A task or an alloc.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TaskStatus {
    /// `JOB/INDEX`.
    pub name: String,
    /// Where it is in its life.
    pub phase: PhaseKind,
    /// Since when: it waits, has its place, is dead; for a task that runs, since its borglet said so.
    pub since: Timestamp,
    /// The machine that it has a place on.
    pub machine: Option<String>,
    /// The alloc that it has a place in.
    pub alloc: Option<String>,
    /// The number of its placement.
    pub incarnation: Option<Incarnation>,
    /// Of which version of its job's spec it is.
    pub version: u32,
    /// Whether it passes its health check; true where it does not run.
    pub is_healthy: bool,
    /// What took it off its last machine, or ended it.
    pub last_cause: Option<String>,
    /// How often it failed since it last ran well.
    pub failures: u32,
    /// How often it was placed.
    pub placed_count: u32,
    /// Until when it backs off; only where that is after its last change.
    pub not_before: Option<Timestamp>,
    /// When it is killed if it has not stopped by then.
    pub deadline: Option<Timestamp>,
    /// The most it may use.
    #[serde(serialize_with = "json::resources")]
    pub limit: Resources,
    /// What it is expected to use; `None`: its limit.
    #[serde(serialize_with = "json::resources_if")]
    pub reservation: Option<Resources>,
}

/// Room on a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Room {
    /// CPU in milli-cores.
    pub cpu_milli: u64,
    /// RAM in bytes.
    pub ram_bytes: u64,
    /// Disk in bytes; `None`: not stated, and then disk constrains nothing.
    pub disk_bytes: Option<u64>,
    /// GPU in milli-GPU, over all devices.
    pub gpu_milli: u64,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MachineStatus {
    /// Its name.
    pub name: String,
    /// Where its borglet listens.
    pub address: String,
    /// Whether it is heard.
    #[serde(serialize_with = "json::health")]
    pub health: Health,
    /// Whether it is being taken out of service, or is out of it.
    pub is_drained: bool,
    /// What it has.
    pub capacity: Room,
    /// What is free for limits of production and above, once those that stop have gone.
    pub free_by_limits: Room,
    /// What is free beside the reservations of all, once those that stop have gone.
    pub free_by_reservations: Room,
    /// Tasks and allocs that have a place on it.
    pub task_count: u32,
}

/// Quota of a user in a band, granted or used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QuotaStatus {
    /// The user.
    pub user: String,
    /// The band.
    pub band: Band,
    /// What was granted; `None`: nothing was. In the free band nothing needs to be.
    pub granted: Option<Amounts>,
    /// What the user's jobs use of it.
    pub used: Amounts,
    /// Until when it is granted; `None`: until that is changed.
    pub until: Option<Timestamp>,
}

/// The cell as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CellStatus {
    /// Its name.
    pub name: String,
    /// The time of the last entry of the log.
    pub now: Timestamp,
    /// The index of that entry.
    pub index: u64,
    /// The hash of its state.
    #[serde(serialize_with = "json::hash")]
    pub hash: u128,
    /// Machines.
    pub machine_count: u32,
    /// Those of them that are down.
    pub machine_down_count: u32,
    /// Those of them that are out of service, or on the way.
    pub machine_drained_count: u32,
    /// Whether so many are down that no task is taken from any of them.
    pub is_mass_loss: bool,
    /// Jobs that have not ended.
    pub job_count: u32,
    /// Alloc sets that have not ended.
    pub alloc_set_count: u32,
    /// Jobs and alloc sets that ended and are still kept.
    pub ended_count: u32,
    /// Tasks by phase, allocs not counted.
    pub tasks: PhaseCounts,
    /// Sessions of clients.
    pub session_count: u32,
    /// Its settings.
    pub settings: Settings,
    /// What was counted of its passes; `None`: whoever answers does not lead, and counts nothing.
    pub planning: Option<PlanningStatus>,
}

/// What a replica that leads has counted of its passes since it leads: how often plans came too late (Omega,
/// EuroSys '13, §4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PlanningStatus {
    /// Which replica.
    pub replica: u64,
    /// Since when it leads.
    pub term: u64,
    /// Passes planned.
    pub pass_count: u64,
    /// Proposals of passes from which at least one assignment was refused.
    pub conflicted_count: u64,
    /// Tasks that passes looked at, placed or not.
    pub examined_count: u64,
    /// Assignments that were carried out.
    pub placed_count: u64,
    /// Assignments that were refused, as the state had moved on: the work on them was wasted.
    pub refused_count: u64,
    /// How many entries the log went on by while a pass was planned: the sum over all passes.
    pub staleness_entries_sum: u64,
    /// The most that it was.
    pub staleness_entries_max: u64,
}

/// Narrows a list down; what is `None` does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this job alone, by its name.
    pub job: Option<String>,
    /// Of this user alone.
    pub user: Option<String>,
    /// Tasks in this phase; jobs that have such tasks.
    pub phase: Option<PhaseKind>,
    /// Tasks with a place on this machine; jobs that have such tasks; this machine.
    pub machine: Option<String>,
}

/// Which part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paging {
    /// At most so many; 0 counts as 1, so that a reader gets on.
    pub limit: u32,
    /// What [`Page::next`] of the page before said; `None`: from the start.
    pub after: Option<String>,
}

/// A part of a list, in the order of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the next page goes on; `None`: this is the last.
    pub next: Option<String>,
}

/// A number of hosts with what they have in common: what keeps a task off them, or what would open them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// For people.
    pub text: String,
    /// How many hosts.
    pub host_count: u32,
}

/// Why a task is where it is, or has no place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Why {
    /// `JOB/INDEX`.
    pub task: String,
    /// Where it is in its life.
    pub phase: PhaseKind,
    /// The whole answer for people.
    pub text: String,
    /// How many hosts there are for it.
    pub host_count: u32,
    /// On how many of them it fits as things are.
    pub feasible_count: u32,
    /// What rules out the others, each by what does so first.
    pub ruled_out: Vec<Reason>,
    /// Single changes that would place it, the smallest first.
    pub changes: Vec<Reason>,
    /// The index of the log that it was worked out at.
    pub index: u64,
}

/// How many more tasks of a job would fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fits {
    /// So many that a pass would place, preempting where it may.
    pub count: u64,
    /// So many of them without preempting anyone.
    pub free_count: u64,
    /// So many tasks would be preempted for the others.
    pub victim_count: u64,
    /// Whether counting stopped there, so that more might fit.
    pub is_at_least: bool,
    /// What keeps the next one off each host.
    pub stopped_by: Vec<Reason>,
    /// The index of the log that it was worked out at.
    pub index: u64,
}

#[cfg(test)]
mod tests;
