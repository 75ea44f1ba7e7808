//! What a master and a borglet say to each other.
//!
//! The master says what is wanted of a machine ([`Wanted`]) and asks how it stands ([`Poll`]); the borglet
//! answers with its full state ([`Report`]) or refuses ([`Refusal`]). Plain data, without behaviour: what a
//! borglet does about it is `borglet-agent`'s, and how it travels is the shells'. Times are durations in
//! milliseconds, never instants, because no two machines' clocks agree.
//!
//! Rules of the conversation:
//! - Every message of a master carries a [`Fence`]. A borglet persists the highest that it has accepted
//!   and refuses older ones.
//! - A master says only what is committed, and as a new leader nothing before it has applied all that
//!   earlier leaders committed. So a generation names one wanted state of a machine, whoever says it.
//! - To end a task in an orderly way it stays wanted, with [`WantedTask::stop`], until its exit is reported.
//!   A running task that vanishes from the wanted state is one that the master has given up, and which may
//!   run elsewhere by now: it is killed within [`GIVEN_UP_MS_MAX`].
//! - An exited task stays in reports until the master wants it no longer, so that a lost report loses no
//!   exit.
//!
//! Source: Borg (EuroSys '15) §3.3; fencing by tokens as in Kleppmann, "How to do distributed locking".

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::container::ContainerSpec;
use crate::resources::{Bytes, Capacity, MilliCpu, Resources};

/// The longest that a running task outlives the moment at which its borglet hears that it is no longer
/// wanted, whatever its grace period. Our choice: it bounds how long two copies of a task may run after a
/// network has healed, and is half of the silence after which a machine is usually given up.
pub const GIVEN_UP_MS_MAX: u64 = 5_000;

/// Which task: the job by its unique number, and the index in the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskKey {
    /// The job's uid; unique for ever in a cell.
    pub job: u64,
    /// The task's index in the job.
    pub index: u32,
}

/// One placement of a task; never used again in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

/// By which masters' messages are told from those of deposed ones; ordered by term, then generation.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Fence {
    /// The term of the leader that speaks.
    pub term: u64,
    /// The generation of the machine's wanted state: rises with each change of it.
    pub generation: u64,
}

/// A task that a machine should run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedTask {
    /// Which task.
    pub key: TaskKey,
    /// Which placement of it.
    pub incarnation: Incarnation,
    /// `JOB/INDEX`, for people.
    pub name: String,
    /// Priority, 0..=450.
    pub priority: u16,
    /// The most that it may use.
    pub limit: Resources,
    /// Which GPU devices it has, a bit a device.
    pub gpu_devices: u16,
    /// Whose job it is of.
    pub user: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// From SIGTERM to SIGKILL.
    pub grace_ms: u64,
    /// Whether it answers to people, and so goes before batch work in the competition for CPU.
    pub latency_sensitive: bool,
    /// If no master is heard for this long, the borglet stops the task by itself; `None`: never.
    pub stop_after_disconnect_ms: Option<u64>,
    /// What surrounds the program; `None`: nothing that its job asked for.
    pub container: Option<Arc<ContainerSpec>>,
    /// Set once the task should end.
    pub stop: Option<Stop>,
}

/// A request to end: SIGTERM now, SIGKILL at the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// SIGKILL this long after the borglet first heard of it. Said again, it never moves the deadline back.
    pub deadline_in_ms: u64,
}

/// Master to borglet: what the machine should run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Who says so, and the generation of the state that this leads to.
    pub fence: Fence,
    /// `None`: this is the whole wanted state. `Some(generation)`: only differences to that generation; a
    /// borglet that holds another answers with a report that says [`Report::needs_whole`].
    pub base: Option<u64>,
    /// New or changed tasks; all of them in a whole state. No incarnation occurs twice.
    pub tasks: Vec<WantedTask>,
    /// Tasks of the base that are no longer wanted; empty in a whole state.
    pub gone: Vec<Incarnation>,
}

/// Master to borglet: report your state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poll {
    /// Who asks. Only the term counts: a report is true whatever generation the asker thinks of.
    pub fence: Fence,
}

/// Borglet to master: its full state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The machine's name.
    pub machine: String,
    /// The highest term that it has heard.
    pub term: u64,
    /// The generation of the wanted state that it holds; 0 if it holds none.
    pub generation: u64,
    /// Whether it can make nothing of differences, and must be sent the whole wanted state.
    pub needs_whole: bool,
    /// What the machine has to give.
    pub capacity: MachineCapacity,
    /// Every task that it knows, by incarnation.
    pub tasks: Vec<TaskReport>,
}

/// What a machine has to give, as its borglet found it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineCapacity {
    /// CPU in milli-cores.
    pub cpu_milli: u64,
    /// RAM in bytes.
    pub ram_bytes: u64,
    /// Local disk in bytes.
    pub disk_bytes: u64,
    /// Number of GPU devices.
    pub gpu_count: u16,
}

impl From<MachineCapacity> for Capacity {
    fn from(found: MachineCapacity) -> Self {
        Self {
            cpu: MilliCpu(found.cpu_milli),
            ram: Bytes(found.ram_bytes),
            disk: Some(Bytes(found.disk_bytes)),
            gpu_count: u32::from(found.gpu_count),
        }
    }
}

/// One task in a [`Report`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskReport {
    /// Which task.
    pub key: TaskKey,
    /// Which placement of it.
    pub incarnation: Incarnation,
    /// How far it is.
    pub state: ReportedState,
    /// What it used when last sampled; zero before that.
    pub usage: Usage,
    /// What its health check last said; true before that, and for tasks without one.
    pub healthy: bool,
    /// For how long it has run, or did run; 0 before it runs.
    pub age_ms: u64,
}

/// How far a task is on its machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReportedState {
    /// Not yet running: being set up, or waiting for an older incarnation of the same task to end.
    Starting,
    /// Running.
    Running,
    /// Told to end, and still there.
    Stopping,
    /// Ended.
    Exited(ExitCause),
}

/// Why a task ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitCause {
    /// By itself, with exit code 0.
    Finished,
    /// By itself, with another exit code.
    Failed {
        /// The exit code.
        code: i32,
    },
    /// By a signal that the borglet did not send.
    Signal {
        /// The signal's number.
        signal: i32,
    },
    /// It ran out of memory: its own, or the machine's.
    OutOfMemory,
    /// Its health check failed, and it was killed for that.
    Unhealthy,
    /// The master asked for it, by [`WantedTask::stop`].
    Stopped,
    /// No master was heard for [`WantedTask::stop_after_disconnect_ms`].
    Disconnected,
    /// It never ran.
    StartFailed {
        /// Why, in a few words.
        reason: String,
    },
    /// It is gone and nobody saw how: it ended while no borglet watched.
    Lost,
}

/// What a task uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU in milli-cores.
    pub cpu_milli: u64,
    /// RAM in bytes.
    pub ram_bytes: u64,
}

/// Borglet to master: a message was not acted on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The machine's name.
    pub machine: String,
    /// The highest fence that the borglet has accepted.
    pub highest: Fence,
    /// Why.
    pub reason: RefusalReason,
}

/// Why a borglet did not act on a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusalReason {
    /// Its fence is older than the highest. A leader whose term is below the highest has been deposed.
    Older,
    /// Too many messages wait for the borglet's disk: send it again later.
    Busy,
    /// The fence could not be persisted: send it again later.
    NotPersisted,
    /// It leads to more tasks than a borglet keeps.
    TooManyTasks,
    /// It contradicts itself or what is known: an incarnation occurs twice, or with another task.
    Malformed,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::{GPU_DEVICE, GpuRequest};

    #[test]
    fn messages_read_back_from_bytes() {
        let key = TaskKey { job: 1 << 40, index: 3 };
        let limit = Resources {
            cpu: MilliCpu(1500),
            ram: Bytes(1 << 30),
            gpu: GpuRequest { count: 2, milli_each: GPU_DEVICE },
            ..Resources::default()
        };
        let task = WantedTask {
            key,
            incarnation: Incarnation(9),
            name: "search/3".to_owned(),
            priority: 200,
            limit,
            gpu_devices: 0b11,
            user: "ann".to_owned(),
            command: vec!["serve".to_owned(), "--fast".to_owned()],
            grace_ms: 30_000,
            latency_sensitive: true,
            stop_after_disconnect_ms: Some(60_000),
            container: None,
            stop: Some(Stop { deadline_in_ms: 500 }),
        };
        let fence = Fence { term: 2, generation: 77 };
        let wanted =
            Wanted { fence, base: Some(70), tasks: vec![task], gone: vec![Incarnation(8)] };
        let bytes = postcard::to_stdvec(&wanted).unwrap();
        assert_eq!(postcard::from_bytes::<Wanted>(&bytes), Ok(wanted));

        let exit = ExitCause::StartFailed { reason: "no such program".to_owned() };
        let report = |state| TaskReport {
            key,
            incarnation: Incarnation(9),
            state,
            usage: Usage { cpu_milli: 1200, ram_bytes: 1 << 29 },
            healthy: false,
            age_ms: 12,
        };
        let report = Report {
            machine: "m1".to_owned(),
            term: 2,
            generation: 70,
            needs_whole: true,
            capacity: MachineCapacity { cpu_milli: 32_000, ..MachineCapacity::default() },
            tasks: vec![report(ReportedState::Running), report(ReportedState::Exited(exit))],
        };
        let bytes = postcard::to_stdvec(&report).unwrap();
        assert_eq!(postcard::from_bytes::<Report>(&bytes), Ok(report));
    }

    #[test]
    fn a_later_term_goes_before_a_higher_generation() {
        assert!(Fence { term: 3, generation: 0 } > Fence { term: 2, generation: 9 });
        assert!(Fence { term: 3, generation: 1 } > Fence { term: 3, generation: 0 });
    }
}
