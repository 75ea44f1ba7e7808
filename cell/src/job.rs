//! Jobs and their tasks; alloc sets and their allocs.
//!
//! An alloc set is submitted, queued and placed as a job is, and its allocs as tasks are; so both are
//! a [`Job`] here, told apart by [`JobKind`] (the 2019 trace calls the union a *collection*). An alloc
//! is an envelope: what is placed into it draws on the envelope and not on the machine (Borg §2.4).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::band::Priority;
use crate::constraint::Constraint;
use crate::cow::CowVec;
use crate::id::{JobId, MachineId, TaskId, UserId};
use crate::machine::DomainKind;
use crate::resources::Resources;

/// Whether a [`Job`] is one, or an alloc set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum JobKind {
    /// A job: its tasks run processes.
    Job,
    /// An alloc set: its "tasks" are allocs, reservations that tasks of jobs are placed into.
    AllocSet,
}

/// A job, or an alloc set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its name, unique in the cell.
    pub name: String,
    /// Job or alloc set.
    pub kind: JobKind,
    /// Who owns it.
    pub user: UserId,
    /// Its priority, that of all its tasks.
    pub priority: Priority,
    /// Constraints on the machine's attributes.
    pub constraints: Vec<Constraint>,
    /// At most one of its tasks on a machine.
    pub different_machines: bool,
    /// Limits and preferences on its tasks' spread over failure domains; one entry a kind.
    pub spread: Vec<Spread>,
    /// Packages its tasks need on the machine.
    pub packages: BTreeSet<String>,
    /// The alloc set its tasks are placed into; `None`: onto machines.
    pub alloc_set: Option<JobId>,
    /// Whether each task belongs to its machine (a storage or monitoring daemon) and comes and goes
    /// with it. Packing from scratch and cell compaction leave such jobs out; but where the cell is of
    /// Kubernetes' objects and all its machines are used, they are packed with the rest.
    pub tied_to_machines: bool,
    /// At most so many of its tasks may be disrupted at once (Borg §4: "the number of tasks from a job that
    /// can be simultaneously down"); `None`: any number.
    pub max_disrupted: Option<u32>,
    /// Its tasks, by ascending index.
    pub tasks: CowVec<Task>,
}

/// How a job's tasks spread over the domains of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spread {
    /// The kind of domain.
    pub domain: DomainKind,
    /// At most so many of the job's tasks in one domain; `None`: only a preference for few. A machine
    /// that is in no domain of the kind is not limited.
    pub max_per_domain: Option<u32>,
}

/// A task, or an alloc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its index within the job as users and traces know it; unique in the job.
    pub index: u32,
    /// The most it may use.
    pub limit: Resources,
    /// Where it is in its life.
    pub state: TaskState,
    /// For how many seconds it has run; `None` where that is not known, and for what waits.
    pub ran_seconds: Option<u64>,
    /// What it is expected to use, never above its limit; `None`: its limit (Borg §5.5).
    pub reservation: Option<Resources>,
    /// Machines that it may not be placed on, ascending: it crashed there before (Borg §4: "avoids repeating
    /// task::machine pairings that cause task or machine crashes").
    pub avoid: Vec<MachineId>,
}

impl Task {
    /// A task that waits for its first place.
    #[must_use]
    pub fn new(index: u32, limit: Resources) -> Self {
        Self {
            index,
            limit,
            reservation: None,
            avoid: Vec::new(),
            state: TaskState::Pending,
            ran_seconds: None,
        }
    }
}

/// Where a task is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// Waits for a place.
    Pending,
    /// Runs.
    Running {
        /// Where; `None` where the trace names a machine that it does not describe.
        on: Option<Host>,
    },
}

/// What a task is placed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Host {
    /// A machine.
    Machine(MachineId),
    /// An alloc, wherever that is.
    Alloc(TaskId),
}
