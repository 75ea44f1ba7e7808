//! What is replicated: the operations that change a cell, and the requests that they come from.
//!
//! An operation holds everything that is not a function of the state. Its time is chosen by the leader; the
//! state's own time never goes back.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::blob::Blob;
use super::quota::{Capability, Quota};
use super::settings::Settings;
use crate::borglet::{ExitCause, Incarnation, TaskKey};
use crate::id::MachineId;
use crate::resources::Resources;
use crate::spec::{JobSpec, MachineSpec};

/// A time, in milliseconds since 1970.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// So many milliseconds later.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds since an earlier time; 0 where that is later.
    #[must_use]
    pub const fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// One entry of the log: operations that were proposed together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When the leader proposed it.
    pub at: Timestamp,
    /// In this order.
    pub commands: Vec<Command>,
}

/// An operation, and for whom it is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The client's request; `None`: the master's own doing.
    pub request: Option<Request>,
    /// What is done.
    pub op: Op,
}

/// Names a client's request, so that it is carried out exactly once (Ongaro, "Consensus", §6.3).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Request {
    /// Who asks. Until there is authentication this is what the client claims.
    pub user: String,
    /// The session; 0 where it is only being opened.
    pub session: u64,
    /// The number of the request in its session, ascending from 1.
    pub sequence: u64,
    /// The client has the answers to all requests below this number.
    pub answered_below: u64,
}

/// What can be done to a cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Opens a session; its number is the answer.
    OpenSession,
    /// Submits a job or an alloc set.
    Submit {
        /// The job.
        #[serde(with = "super::text")]
        spec: Box<JobSpec>,
        /// Whether it is an alloc set.
        is_alloc_set: bool,
    },
    /// Gives a job another spec.
    Update {
        /// The new spec, under the job's name.
        #[serde(with = "super::text")]
        spec: Box<JobSpec>,
    },
    /// Goes back to the spec before the last update.
    Undo {
        /// The job's name.
        job: String,
    },
    /// Ends a job, or some of its tasks.
    Kill {
        /// The job's name.
        job: String,
        /// The tasks' indexes; `None`: all.
        indexes: Option<BTreeSet<u32>>,
    },
    /// Grants quota, in place of what was granted to that user in that band.
    SetQuota(Quota),
    /// Gives a user exactly these capabilities.
    SetCapabilities {
        /// The user.
        user: String,
        /// The capabilities.
        capabilities: BTreeSet<Capability>,
    },
    /// Adds machines, or changes those of the same name.
    AddMachines {
        /// Each with its address, `HOST:PORT` of its borglet.
        #[serde(with = "super::text")]
        machines: Vec<(MachineSpec, String)>,
    },
    /// Takes a machine out of service: nothing is placed there, and what runs there is moved away within
    /// the limits on disruption.
    Drain {
        /// The machine's name.
        machine: String,
    },
    /// Puts a drained machine back into service.
    Repair {
        /// The machine's name.
        machine: String,
    },
    /// Removes a machine on which nothing runs.
    RemoveMachine {
        /// The machine's name.
        machine: String,
    },
    /// Changes the settings.
    Configure(Settings),
    /// Places tasks.
    Assign {
        /// In this order.
        assignments: Vec<Assignment>,
    },
    /// What borglets reported.
    Observe {
        /// In this order.
        observations: Vec<Observation>,
    },
    /// Machines that fell silent, or are heard again.
    Health {
        /// Which, and whether each is up.
        machines: Vec<(MachineId, bool)>,
    },
    /// Takes tasks off their machines.
    Evict {
        /// Which.
        tasks: Vec<(TaskKey, Incarnation)>,
        /// Why.
        cause: EvictCause,
    },
    /// Changes what tasks are expected to use.
    Reserve {
        /// The new reservations, none above its task's limit.
        reservations: Vec<(TaskKey, Incarnation, Resources)>,
    },
    /// Ends sessions that were idle for too long, and drops jobs that ended long ago.
    Expire,
    /// Brings in a part of a saved state that is to take the place of this one.
    RestorePart {
        /// Names the restore. One at a time: another begins in its place.
        restore: u64,
        /// Where in the saved state it belongs; parts come in order, and the one at 0 begins anew.
        offset: u64,
        /// The part, at most [`RESTORE_PART_BYTES_MAX`](super::RESTORE_PART_BYTES_MAX).
        data: Blob,
    },
    /// Puts the saved state whose parts came in, in place of this one. Once: the parts are gone then, whatever
    /// came of it.
    RestoreFinish {
        /// The restore.
        restore: u64,
        /// The length of all parts together.
        length: u64,
        /// Their checksum, [`restore_checksum`](super::restore_checksum).
        checksum: u64,
    },
}

/// A task and where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The task.
    pub task: TaskKey,
    /// What it is placed on.
    pub on: Target,
    /// The GPU devices that it gets, one bit each.
    pub gpu_devices: u16,
    /// Tasks that have to make room.
    pub victims: Vec<(TaskKey, Incarnation)>,
}

/// What a task is placed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Target {
    /// A machine.
    Machine(MachineId),
    /// An alloc.
    Alloc(TaskKey),
}

/// What a borglet reported of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// The task.
    pub task: TaskKey,
    /// Which of its placements.
    pub incarnation: Incarnation,
    /// What was seen.
    pub seen: Seen,
}

/// What was seen of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seen {
    /// It runs.
    Started,
    /// It answers its health check, or no longer.
    Health(bool),
    /// It ended.
    Exited(ExitCause),
}

/// Why a task was taken off its machine (the causes of Borg's Fig. 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvictCause {
    /// A task of higher priority needed the room.
    Preempted,
    /// Its machine fell silent.
    MachineLost,
    /// Its machine is taken out of service.
    MachineDrained,
    /// The machine ran out of what it had reserved.
    OutOfResources,
    /// Its job was updated.
    Updated,
    /// The alloc that it was in ended.
    AllocEnded,
}

impl EvictCause {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Preempted => "preempted",
            Self::MachineLost => "machine lost",
            Self::MachineDrained => "machine drained",
            Self::OutOfResources => "out of resources",
            Self::Updated => "updated",
            Self::AllocEnded => "alloc ended",
        }
    }
}
