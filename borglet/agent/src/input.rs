//! What goes into an agent and what comes out: all of it on one page.

use std::sync::Arc;

use cell::borglet::{
    ExitCause, Fence, Incarnation, Poll, Refusal, Report, Usage, Wanted, WantedTask,
};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A master says what is wanted.
    Wanted(Wanted),
    /// A master asks for a report.
    Poll(Poll),
    /// What [`Action::Persist`] asked for is on disk, synced.
    Persisted(Fence),
    /// It is not, and may or may not be found there after a restart.
    PersistFailed(Fence),
    /// Something happened to a task.
    Task(Incarnation, TaskEvent),
    /// Time has passed. Due at [`Agent::next_deadline_ms`](crate::Agent::next_deadline_ms).
    Tick,
}

/// What happens to a task's container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskEvent {
    /// Its program runs.
    Started,
    /// It is gone with all its processes, or could not be started.
    Exited(ExitCause),
    /// What it used.
    Sampled(Usage),
    /// What its health check said. A container that must not live on is killed by whoever checks, and
    /// then exits as [`ExitCause::Unhealthy`].
    Health {
        /// Whether it passed.
        healthy: bool,
    },
}

/// Something for the shell to do. Actions of one step are carried out in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write this to disk and sync it, then say [`Input::Persisted`] or [`Input::PersistFailed`].
    Persist(Fence),
    /// Record the incarnation durably, then start it. A record without a process is an exited task: after
    /// a restart it is [`Found`] as such, and so never started again. The outcome comes back as a
    /// [`TaskEvent`].
    Start(Arc<WantedTask>),
    /// Put a started task under these limits and settings instead.
    Adjust(Arc<WantedTask>),
    /// SIGTERM. May come before the task's program runs.
    Terminate(Incarnation),
    /// SIGKILL to all its processes. May come before the task's program runs, and again and again.
    Kill(Incarnation),
    /// Drop the record of an exited incarnation: no master wants to hear of it again.
    Forget(Incarnation),
    /// Answer the master.
    Reply(Report),
    /// Answer the master that its message was not acted on.
    Refuse(Refusal),
}

impl Action {
    /// What of it is for the master to hear: the full state, or that its message was not acted on.
    #[must_use]
    pub fn answer(self) -> Option<Result<Report, Refusal>> {
        match self {
            Self::Reply(report) => Some(Ok(report)),
            Self::Refuse(refusal) => Some(Err(refusal)),
            Self::Persist(_)
            | Self::Start(_)
            | Self::Adjust(_)
            | Self::Terminate(_)
            | Self::Kill(_)
            | Self::Forget(_) => None,
        }
    }
}

/// A task of which a restarted borglet found the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The task as it was started, or last adjusted.
    pub task: Arc<WantedTask>,
    /// What has become of it.
    pub state: FoundState,
}

/// What has become of a task while its borglet was away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundState {
    /// It runs.
    Running {
        /// For how long.
        age_ms: u64,
    },
    /// It does not; [`ExitCause::Lost`] if its end left no trace.
    Exited(ExitCause),
}
