//! What a master's link shard and the borglets of a process say to each other.
//!
//! A message that is wrong concerns one machine, so those of a batch are read one by one
//! ([`read_from_master`], [`read_from_borglet`]).

use cell::borglet::{
    ExitCause, Fence, Incarnation, MachineCapacity, Poll, Refusal, RefusalReason, Report,
    ReportedState, Stop, TaskKey, TaskReport, Usage, Wanted, WantedTask,
};
use cell::{GPU_DEVICE_COUNT_MAX, Priority};

use crate::error::{Inside, WireError, optional, part, required};
use crate::limits::{
    AMOUNT_MAX, ARGUMENT_BYTES_MAX, COMMAND_COUNT_MAX, LINK_BATCH_BYTES_MAX, LINK_BATCH_COUNT_MAX,
    MACHINE_TASK_COUNT_MAX, NAME_BYTES_MAX, at_most, list, name, plain_list, sized, text,
};
use crate::parts::{Coded, coded, decode, read_container, write_container};
use crate::wire;

/// To one of the machines at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToMachine {
    /// The machine's name.
    pub machine: String,
    /// What it is told.
    pub message: MasterMessage,
}

/// What a master tells a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MasterMessage {
    /// What it should run.
    Wanted(Wanted),
    /// To report.
    Poll(Poll),
}

/// From one of the machines of a process; it says by itself which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromMachine {
    /// Its full state.
    Report(Report),
    /// It did not act on a message.
    Refusal(Refusal),
}

/// The messages of a batch, each by itself.
///
/// # Errors
/// If there are too many.
pub fn read_from_master(
    batch: wire::FromMaster,
) -> Result<Vec<Result<ToMachine, WireError>>, WireError> {
    list("messages", batch.messages, LINK_BATCH_COUNT_MAX, |message| {
        Ok(ToMachine::try_from(message))
    })
}

/// The messages of a batch, each by itself.
///
/// # Errors
/// If there are too many.
pub fn read_from_borglet(
    batch: wire::FromBorglet,
) -> Result<Vec<Result<FromMachine, WireError>>, WireError> {
    list("messages", batch.messages, LINK_BATCH_COUNT_MAX, |message| {
        Ok(FromMachine::try_from(message))
    })
}

/// Cuts messages into batches that can be sent, in their order.
#[must_use]
pub fn batches<M: prost::Message>(messages: Vec<M>) -> Vec<Vec<M>> {
    let mut batches: Vec<Vec<M>> = Vec::new();
    let mut byte_count = 0;
    for message in messages {
        // With its tag and length.
        let more = message.encoded_len() + 11;
        match batches.last_mut() {
            Some(batch)
                if batch.len() < LINK_BATCH_COUNT_MAX
                    && byte_count + more <= LINK_BATCH_BYTES_MAX =>
            {
                byte_count += more;
                batch.push(message);
            }
            _ => {
                byte_count = more;
                batches.push(vec![message]);
            }
        }
    }
    batches
}

coded!(RefusalReason = wire::refusal::Reason {
    Older = Older,
    Busy = Busy,
    NotPersisted = NotPersisted,
    TooManyTasks = TooManyTasks,
    Malformed = Malformed,
});

impl TryFrom<ToMachine> for wire::ToMachine {
    type Error = WireError;

    fn try_from(own: ToMachine) -> Result<Self, WireError> {
        use wire::to_machine::Message;
        let message = match own.message {
            MasterMessage::Wanted(wanted) => {
                Message::Wanted(wire::Wanted::try_from(wanted).inside("wanted")?)
            }
            MasterMessage::Poll(poll) => Message::Poll(poll.into()),
        };
        let machine = name("machine", own.machine)?;
        sized("wanted", Self { machine, message: Some(message) })
    }
}

impl TryFrom<wire::ToMachine> for ToMachine {
    type Error = WireError;

    fn try_from(message: wire::ToMachine) -> Result<Self, WireError> {
        use wire::to_machine::Message;
        let machine = name("machine", message.machine)?;
        let message = match required("message", message.message)? {
            Message::Wanted(wanted) => {
                MasterMessage::Wanted(Wanted::try_from(wanted).inside("wanted")?)
            }
            Message::Poll(poll) => MasterMessage::Poll(poll.into()),
        };
        Ok(Self { machine, message })
    }
}

impl TryFrom<FromMachine> for wire::FromMachine {
    type Error = WireError;

    fn try_from(own: FromMachine) -> Result<Self, WireError> {
        use wire::from_machine::Message;
        let message = match own {
            FromMachine::Report(report) => {
                Message::Report(wire::Report::try_from(report).inside("report")?)
            }
            FromMachine::Refusal(refusal) => {
                Message::Refusal(wire::Refusal::try_from(refusal).inside("refusal")?)
            }
        };
        sized("report", Self { message: Some(message) })
    }
}

impl TryFrom<wire::FromMachine> for FromMachine {
    type Error = WireError;

    fn try_from(message: wire::FromMachine) -> Result<Self, WireError> {
        use wire::from_machine::Message;
        Ok(match required("message", message.message)? {
            Message::Report(report) => Self::Report(Report::try_from(report).inside("report")?),
            Message::Refusal(refusal) => {
                Self::Refusal(Refusal::try_from(refusal).inside("refusal")?)
            }
        })
    }
}

impl From<Poll> for wire::Poll {
    fn from(own: Poll) -> Self {
        Self { term: own.fence.term, generation: own.fence.generation }
    }
}

impl From<wire::Poll> for Poll {
    fn from(message: wire::Poll) -> Self {
        Self { fence: Fence { term: message.term, generation: message.generation } }
    }
}

impl TryFrom<Wanted> for wire::Wanted {
    type Error = WireError;

    fn try_from(own: Wanted) -> Result<Self, WireError> {
        Ok(Self {
            term: own.fence.term,
            generation: own.fence.generation,
            base: own.base,
            tasks: list("tasks", own.tasks, MACHINE_TASK_COUNT_MAX, TryFrom::try_from)?,
            gone: list("gone", own.gone, MACHINE_TASK_COUNT_MAX, |gone| Ok(gone.0))?,
        })
    }
}

impl TryFrom<wire::Wanted> for Wanted {
    type Error = WireError;

    fn try_from(message: wire::Wanted) -> Result<Self, WireError> {
        Ok(Self {
            fence: Fence { term: message.term, generation: message.generation },
            base: message.base,
            tasks: list("tasks", message.tasks, MACHINE_TASK_COUNT_MAX, TryFrom::try_from)?,
            gone: list("gone", message.gone, MACHINE_TASK_COUNT_MAX, |gone| Ok(Incarnation(gone)))?,
        })
    }
}

fn command(command: Vec<String>) -> Result<Vec<String>, WireError> {
    plain_list("command", command, COMMAND_COUNT_MAX, |field, argument| {
        text(field, argument, ARGUMENT_BYTES_MAX)
    })
}

impl TryFrom<WantedTask> for wire::WantedTask {
    type Error = WireError;

    fn try_from(own: WantedTask) -> Result<Self, WireError> {
        Ok(Self {
            job: own.key.job,
            index: own.key.index,
            incarnation: own.incarnation.0,
            name: name("name", own.name)?,
            priority: at_most("priority", own.priority.into(), Priority::MAX.get().into())?,
            limit: Some(wire::Resources::try_from(own.limit).inside("limit")?),
            gpu_devices: own.gpu_devices.into(),
            command: command(own.command)?,
            grace_ms: own.grace_ms,
            latency_sensitive: own.latency_sensitive,
            stop_after_disconnect_ms: own.stop_after_disconnect_ms,
            stop_deadline_in_ms: own.stop.map(|stop| stop.deadline_in_ms),
            container: own.container.map(|it| write_container("container", &it)).transpose()?,
            user: text("user", own.user, NAME_BYTES_MAX)?,
        })
    }
}

impl TryFrom<wire::WantedTask> for WantedTask {
    type Error = WireError;

    fn try_from(message: wire::WantedTask) -> Result<Self, WireError> {
        let devices = message.gpu_devices;
        Ok(Self {
            key: TaskKey { job: message.job, index: message.index },
            incarnation: Incarnation(message.incarnation),
            name: name("name", message.name)?,
            priority: at_most("priority", message.priority.into(), Priority::MAX.get().into())?,
            limit: part("limit", message.limit)?,
            gpu_devices: at_most("gpu_devices", devices.into(), u16::MAX.into())?,
            user: text("user", message.user, NAME_BYTES_MAX)?,
            command: command(message.command)?,
            grace_ms: message.grace_ms,
            latency_sensitive: message.latency_sensitive,
            stop_after_disconnect_ms: message.stop_after_disconnect_ms,
            container: message.container.map(|it| read_container("container", it)).transpose()?,
            stop: message.stop_deadline_in_ms.map(|deadline_in_ms| Stop { deadline_in_ms }),
        })
    }
}

impl TryFrom<Report> for wire::Report {
    type Error = WireError;

    fn try_from(own: Report) -> Result<Self, WireError> {
        Ok(Self {
            machine: name("machine", own.machine)?,
            term: own.term,
            generation: own.generation,
            needs_whole: own.needs_whole,
            capacity: Some(wire::MachineCapacity::try_from(own.capacity).inside("capacity")?),
            tasks: list("tasks", own.tasks, MACHINE_TASK_COUNT_MAX, TryFrom::try_from)?,
        })
    }
}

impl TryFrom<wire::Report> for Report {
    type Error = WireError;

    fn try_from(message: wire::Report) -> Result<Self, WireError> {
        Ok(Self {
            machine: name("machine", message.machine)?,
            term: message.term,
            generation: message.generation,
            needs_whole: message.needs_whole,
            capacity: part("capacity", message.capacity)?,
            tasks: list("tasks", message.tasks, MACHINE_TASK_COUNT_MAX, TryFrom::try_from)?,
        })
    }
}

impl TryFrom<MachineCapacity> for wire::MachineCapacity {
    type Error = WireError;

    fn try_from(own: MachineCapacity) -> Result<Self, WireError> {
        let message = Self {
            cpu_milli: own.cpu_milli,
            ram_bytes: own.ram_bytes,
            disk_bytes: own.disk_bytes,
            gpu_count: own.gpu_count.into(),
        };
        MachineCapacity::try_from(message)?;
        Ok(message)
    }
}

impl TryFrom<wire::MachineCapacity> for MachineCapacity {
    type Error = WireError;

    fn try_from(message: wire::MachineCapacity) -> Result<Self, WireError> {
        let gpu_count = message.gpu_count.into();
        Ok(Self {
            cpu_milli: at_most("cpu_milli", message.cpu_milli, AMOUNT_MAX)?,
            ram_bytes: at_most("ram_bytes", message.ram_bytes, AMOUNT_MAX)?,
            disk_bytes: at_most("disk_bytes", message.disk_bytes, AMOUNT_MAX)?,
            gpu_count: at_most("gpu_count", gpu_count, GPU_DEVICE_COUNT_MAX as u64)?,
        })
    }
}

impl TryFrom<TaskReport> for wire::TaskReport {
    type Error = WireError;

    fn try_from(own: TaskReport) -> Result<Self, WireError> {
        use wire::task_report::State;
        let (state, exit) = match own.state {
            ReportedState::Starting => (State::Starting, None),
            ReportedState::Running => (State::Running, None),
            ReportedState::Stopping => (State::Stopping, None),
            ReportedState::Exited(cause) => (State::Exited, Some(cause.into())),
        };
        Ok(Self {
            job: own.key.job,
            index: own.key.index,
            incarnation: own.incarnation.0,
            state: state.into(),
            cpu_milli: at_most("cpu_milli", own.usage.cpu_milli, AMOUNT_MAX)?,
            ram_bytes: at_most("ram_bytes", own.usage.ram_bytes, AMOUNT_MAX)?,
            unhealthy: !own.healthy,
            age_ms: own.age_ms,
            exit,
        })
    }
}

impl TryFrom<wire::TaskReport> for TaskReport {
    type Error = WireError;

    fn try_from(message: wire::TaskReport) -> Result<Self, WireError> {
        use wire::task_report::State;
        let unknown = |_| WireError::new("state", format!("{} is not known", message.state));
        let exit: Option<ExitCause> = optional("exit", message.exit)?;
        let state = match (State::try_from(message.state).map_err(unknown)?, exit) {
            (State::Unspecified, _) => return Err(WireError::missing("state")),
            (State::Exited, None) => return Err(WireError::missing("exit")),
            (State::Exited, Some(cause)) => ReportedState::Exited(cause),
            (_, Some(_)) => return Err(WireError::new("exit", "the task has not exited")),
            (State::Starting, None) => ReportedState::Starting,
            (State::Running, None) => ReportedState::Running,
            (State::Stopping, None) => ReportedState::Stopping,
        };
        Ok(Self {
            key: TaskKey { job: message.job, index: message.index },
            incarnation: Incarnation(message.incarnation),
            state,
            usage: Usage {
                cpu_milli: at_most("cpu_milli", message.cpu_milli, AMOUNT_MAX)?,
                ram_bytes: at_most("ram_bytes", message.ram_bytes, AMOUNT_MAX)?,
            },
            healthy: !message.unhealthy,
            age_ms: message.age_ms,
        })
    }
}

impl TryFrom<Refusal> for wire::Refusal {
    type Error = WireError;

    fn try_from(own: Refusal) -> Result<Self, WireError> {
        Ok(Self {
            machine: name("machine", own.machine)?,
            highest_term: own.highest.term,
            highest_generation: own.highest.generation,
            reason: own.reason.code(),
        })
    }
}

impl TryFrom<wire::Refusal> for Refusal {
    type Error = WireError;

    fn try_from(message: wire::Refusal) -> Result<Self, WireError> {
        Ok(Self {
            machine: name("machine", message.machine)?,
            highest: Fence { term: message.highest_term, generation: message.highest_generation },
            reason: decode("reason", message.reason)?,
        })
    }
}
