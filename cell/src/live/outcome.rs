//! What comes of an operation: an answer for its client, events for whoever watches, changes for whoever
//! keeps a view.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::op::{EvictCause, Request, Timestamp};
use super::record::{DeathCause, JobEnd};
use crate::borglet::{ExitCause, Incarnation, TaskKey};
use crate::id::{JobId, MachineId, TaskId};

/// The answer to an operation.
pub type Outcome = Result<Done, Rejected>;

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Done {
    /// As asked.
    Done,
    /// A session was opened; its number.
    Session(u64),
    /// A job was submitted or updated.
    Job {
        /// Its number.
        uid: u64,
        /// The version of its spec.
        version: u32,
    },
    /// Of several things so many were done, the others no longer applied.
    Some {
        /// How many were done.
        done: u32,
        /// How many were not.
        rejected: u32,
    },
}

/// Why an operation was not done. Nothing of it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejected {
    /// A field of the request is wrong.
    #[error("field `{field}`: {problem}")]
    Invalid {
        /// The field.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// There is no such thing.
    #[error("there is no {kind} called {name:?}")]
    Unknown {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The name is taken.
    #[error(
        "a job called {0:?} is there already; `borgcfg update` changes it, `borgcfg kill` ends it"
    )]
    NameTaken(String),
    /// The job has ended.
    #[error("job {0:?} has ended")]
    Ended(String),
    /// Too little quota.
    #[error(
        "user {user:?} has too little {resource} quota in the {band} band: {asked} is asked for, \
         {granted} granted, {used} used; `borgcfg quota set` grants more, a priority below 100 needs none"
    )]
    Quota {
        /// The user.
        user: String,
        /// The band.
        band: String,
        /// The first resource of which there is too little.
        resource: String,
        /// What is asked for beyond what is used, in the resource's unit.
        asked: u64,
        /// What is granted.
        granted: u64,
        /// What is used.
        used: u64,
    },
    /// More production quota than the cell has.
    #[error("production quota of {asked} {resource} in all is more than the cell's {capacity}")]
    MoreThanTheCell {
        /// The first resource of which there is too little.
        resource: String,
        /// All grants together.
        asked: u64,
        /// What the cell has.
        capacity: u64,
    },
    /// The user may not.
    #[error("user {user:?} may not do this: it takes the capability `{capability}`")]
    Forbidden {
        /// The user.
        user: String,
        /// What it takes.
        capability: String,
    },
    /// Tasks still run there.
    #[error("{count} tasks are on machine {machine:?}; `borgcfg machines drain` moves them away")]
    InUse {
        /// The machine.
        machine: String,
        /// How many.
        count: u32,
    },
    /// There is nothing to undo.
    #[error("job {0:?} was never updated")]
    NothingToUndo(String),
    /// The session was closed, or never opened.
    #[error(
        "session {0} has ended; open another, but first see whether the request was carried out"
    )]
    NoSession(u64),
    /// The client said that it has the answer.
    #[error("request {0} was answered before")]
    Answered(u64),
    /// Too many requests of the session wait for the client to take their answers.
    #[error("session {0} has too many answers that the client has not acknowledged")]
    TooManyAnswers(u64),
}

impl From<crate::spec::SpecError> for Rejected {
    fn from(error: crate::spec::SpecError) -> Self {
        Self::Invalid { field: error.field, problem: error.problem }
    }
}

/// What an entry of the log came to.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// An answer for each command, in their order, with the request it is for.
    pub answers: Vec<(Option<Request>, Outcome)>,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// What changed for a view of the cell, in order.
    pub changes: Vec<Change>,
    /// Assignments that no longer applied, and why.
    pub refused: Vec<(TaskKey, Refusal)>,
}

/// Why an assignment was not carried out: the state had moved on since it was planned. An ordinary outcome
/// (Borg §3.4: the master rejects what is "inappropriate (e.g., because they are based on out of date
/// state)"; Omega calls it a conflict).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// The task does not wait any more.
    NotPending,
    /// The task backs off, or waits for another job.
    NotYet,
    /// The machine or the alloc is gone, down or drained.
    HostClosed,
    /// The machine does not satisfy the job's constraints.
    Constraint,
    /// The job's other tasks forbid the machine.
    Spread,
    /// The task failed there before.
    Avoided,
    /// There is no room, even without the victims.
    NoRoom,
    /// A victim is gone, or is not to be preempted by this task.
    Victim,
    /// A victim's job cannot bear it.
    DisruptionBudget,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The log entry that it comes from.
    pub index: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: What,
}

/// What happened (the transitions of Borg's Fig. 2, and those of machines).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A job was submitted.
    Submitted {
        /// Its name.
        job: Arc<str>,
        /// Its number.
        uid: u64,
    },
    /// A job got another spec.
    Updated {
        /// Its name.
        job: Arc<str>,
        /// The version it has now.
        version: u32,
    },
    /// A job ended.
    Ended {
        /// Its name.
        job: Arc<str>,
        /// How.
        end: JobEnd,
    },
    /// Something happened to a task.
    Task {
        /// Its job's name.
        job: Arc<str>,
        /// The task.
        task: TaskKey,
        /// Of which placement; `None` for a task that had none.
        incarnation: Option<Incarnation>,
        /// The machine, where there is one.
        machine: Option<MachineId>,
        /// What happened.
        step: TaskStep,
    },
    /// Something happened to a machine.
    Machine {
        /// Which.
        machine: MachineId,
        /// What.
        step: MachineStep,
    },
    /// A saved state took the place of the one there was.
    Restored {
        /// The index of the log that it is of.
        from_index: u64,
        /// So many of its tasks still were where they had been, and go on undisturbed.
        kept_count: u32,
        /// So many were not, and are pending again.
        pending_count: u32,
    },
}

/// What happened to a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskStep {
    /// It was given a place.
    Scheduled,
    /// Its borglet runs it.
    Started,
    /// It was told to stop.
    Notified(EvictCause),
    /// It is off its machine, and pending again.
    Evicted(EvictCause),
    /// It ended by itself, and is to be started again.
    Exited(ExitCause),
    /// It is dead.
    Died(DeathCause),
    /// It passes its health check, or no longer.
    Health(bool),
    /// The place that was chosen for it came to nothing.
    Unassigned,
}

/// What happened to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineStep {
    /// It was added, or changed.
    Added,
    /// It is heard.
    Up,
    /// It fell silent.
    Down,
    /// It is being taken out of service.
    Drained,
    /// It is back in service.
    Repaired,
    /// It was removed.
    Removed,
}

/// What changed for a view of the cell that is kept current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A job has this slot now, has other tasks than before, or waits for fewer others.
    Job(JobId),
    /// The slot is empty.
    JobGone(JobId),
    /// A task took a place.
    Placed(TaskId),
    /// A task lost its place; with an alloc what is in it was removed before.
    Removed(TaskId),
    /// A task's reservation changed; true: some of it is less than before.
    Recharged(TaskId, bool),
    /// A task waits for a place again.
    Waits(TaskId),
    /// Machines were added or changed.
    Machines,
    /// A machine takes new tasks, or no longer.
    Open(MachineId, bool),
    /// What a machine is to run of this task, as placed with this number, is otherwise than before.
    Wanted(MachineId, Incarnation, TaskId),
    /// Everything may be otherwise, also what machines are to run: another state took the place of this one.
    /// Machines kept their ids; ids of jobs and tasks from before mean nothing any more.
    Restored,
}
