//! What users ask of a machine's borglet: usage, logs, and commands inside tasks.

use cell::borglet::{ExitCause, Incarnation};

use crate::error::{Inside, WireError, part, required};
use crate::limits::{
    AMOUNT_MAX, ARGUMENT_BYTES_MAX, CHUNK_BYTES_MAX, COMMAND_COUNT_MAX, MACHINE_TASK_COUNT_MAX,
    NAME_BYTES_MAX, at_most, bytes, list, name, plain_list, text,
};
use crate::parts::{Coded, coded, decode};
use crate::wire;

/// What does everything use?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageQuery {
    /// Who asks.
    pub user: String,
}

/// What a machine and its tasks use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineUsage {
    /// The machine's name.
    pub machine: String,
    /// What it has to give: CPU in milli-cores.
    pub cpu_capacity_milli: u64,
    /// What it has to give: RAM in bytes.
    pub ram_capacity_bytes: u64,
    /// Its tasks that run, by name.
    pub tasks: Vec<TaskUsage>,
}

/// What a task uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskUsage {
    /// `JOB/INDEX`.
    pub name: String,
    /// Which placement of it.
    pub incarnation: u64,
    /// The process of its program, as the machine knows it; 0 while there is none.
    pub pid: u32,
    /// For how long it has run.
    pub age_ms: u64,
    /// CPU in milli-cores, over the last time between two samples.
    pub cpu_milli: u64,
    /// RAM in bytes.
    pub ram_bytes: u64,
    /// The most CPU it may use.
    pub cpu_limit_milli: u64,
    /// The most RAM it may use.
    pub ram_limit_bytes: u64,
    /// Its processes and threads.
    pub process_count: u64,
    /// For how long it was held back, since it started, because it used up its CPU.
    pub throttled_ms: u64,
    /// Page faults that needed a disk, since it started.
    pub major_fault_count: u64,
    /// How often the kernel killed one of its processes because it was out of memory.
    pub oom_kill_count: u64,
    /// Pressure (PSI, "some", over ten seconds) in thousandths, where the kernel tells: of CPU.
    pub cpu_pressure_permille: Option<u32>,
    /// Of memory.
    pub memory_pressure_permille: Option<u32>,
    /// Of disks.
    pub io_pressure_permille: Option<u32>,
    /// Whether its health check passes.
    pub is_healthy: bool,
}

/// What did a task write?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogsQuery {
    /// Who asks.
    pub user: String,
    /// `JOB/INDEX`.
    pub task: String,
    /// An earlier incarnation; `None`: the newest that the machine knows.
    pub incarnation: Option<Incarnation>,
    /// Whether the answer goes on until the task ends.
    pub follow: bool,
    /// Only so many bytes of the end of each stream.
    pub tail_bytes: Option<u64>,
}

/// Which of a program's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

coded!(LogStream = wire::logs_piece::Stream { Stdout = Stdout, Stderr = Stderr });

/// A piece of what a task wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogsPiece {
    /// Where it wrote it.
    pub stream: LogStream,
    /// At most [`CHUNK_BYTES_MAX`] of it.
    pub data: Vec<u8>,
}

/// To a command inside a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecInput {
    /// What is to be run; the first message, and no other.
    Start {
        /// Who asks.
        user: String,
        /// `JOB/INDEX`.
        task: String,
        /// Program and arguments; at least the program.
        command: Vec<String>,
    },
    /// Some of its standard input.
    Stdin(Vec<u8>),
    /// There is no more of that.
    StdinEnds,
}

/// From a command inside a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecOutput {
    /// Some of its standard output.
    Stdout(Vec<u8>),
    /// Some of its standard error.
    Stderr(Vec<u8>),
    /// How it ended; the last message.
    Exit(ExitCause),
}

impl TryFrom<UsageQuery> for wire::UsageRequest {
    type Error = WireError;

    fn try_from(own: UsageQuery) -> Result<Self, WireError> {
        Ok(Self { user: name("user", own.user)? })
    }
}

impl TryFrom<wire::UsageRequest> for UsageQuery {
    type Error = WireError;

    fn try_from(message: wire::UsageRequest) -> Result<Self, WireError> {
        Ok(Self { user: name("user", message.user)? })
    }
}

impl TryFrom<MachineUsage> for wire::UsageReply {
    type Error = WireError;

    fn try_from(own: MachineUsage) -> Result<Self, WireError> {
        Ok(Self {
            machine: name("machine", own.machine)?,
            cpu_capacity_milli: at_most("cpu_capacity_milli", own.cpu_capacity_milli, AMOUNT_MAX)?,
            ram_capacity_bytes: at_most("ram_capacity_bytes", own.ram_capacity_bytes, AMOUNT_MAX)?,
            tasks: list("tasks", own.tasks, MACHINE_TASK_COUNT_MAX, TryFrom::try_from)?,
        })
    }
}

impl TryFrom<wire::UsageReply> for MachineUsage {
    type Error = WireError;

    fn try_from(message: wire::UsageReply) -> Result<Self, WireError> {
        let wire::UsageReply { machine, cpu_capacity_milli, ram_capacity_bytes, tasks } = message;
        Ok(Self {
            machine: name("machine", machine)?,
            cpu_capacity_milli: at_most("cpu_capacity_milli", cpu_capacity_milli, AMOUNT_MAX)?,
            ram_capacity_bytes: at_most("ram_capacity_bytes", ram_capacity_bytes, AMOUNT_MAX)?,
            tasks: list("tasks", tasks, MACHINE_TASK_COUNT_MAX, TryFrom::try_from)?,
        })
    }
}

impl TryFrom<TaskUsage> for wire::TaskUsage {
    type Error = WireError;

    fn try_from(own: TaskUsage) -> Result<Self, WireError> {
        Ok(Self {
            name: name("name", own.name)?,
            incarnation: own.incarnation,
            pid: own.pid,
            age_ms: own.age_ms,
            cpu_milli: at_most("cpu_milli", own.cpu_milli, AMOUNT_MAX)?,
            ram_bytes: at_most("ram_bytes", own.ram_bytes, AMOUNT_MAX)?,
            cpu_limit_milli: at_most("cpu_limit_milli", own.cpu_limit_milli, AMOUNT_MAX)?,
            ram_limit_bytes: at_most("ram_limit_bytes", own.ram_limit_bytes, AMOUNT_MAX)?,
            process_count: own.process_count,
            throttled_ms: own.throttled_ms,
            major_fault_count: own.major_fault_count,
            oom_kill_count: own.oom_kill_count,
            cpu_pressure_permille: own.cpu_pressure_permille,
            memory_pressure_permille: own.memory_pressure_permille,
            io_pressure_permille: own.io_pressure_permille,
            unhealthy: !own.is_healthy,
        })
    }
}

impl TryFrom<wire::TaskUsage> for TaskUsage {
    type Error = WireError;

    fn try_from(message: wire::TaskUsage) -> Result<Self, WireError> {
        Ok(Self {
            name: name("name", message.name)?,
            incarnation: message.incarnation,
            pid: message.pid,
            age_ms: message.age_ms,
            cpu_milli: at_most("cpu_milli", message.cpu_milli, AMOUNT_MAX)?,
            ram_bytes: at_most("ram_bytes", message.ram_bytes, AMOUNT_MAX)?,
            cpu_limit_milli: at_most("cpu_limit_milli", message.cpu_limit_milli, AMOUNT_MAX)?,
            ram_limit_bytes: at_most("ram_limit_bytes", message.ram_limit_bytes, AMOUNT_MAX)?,
            process_count: message.process_count,
            throttled_ms: message.throttled_ms,
            major_fault_count: message.major_fault_count,
            oom_kill_count: message.oom_kill_count,
            cpu_pressure_permille: message.cpu_pressure_permille,
            memory_pressure_permille: message.memory_pressure_permille,
            io_pressure_permille: message.io_pressure_permille,
            is_healthy: !message.unhealthy,
        })
    }
}

impl TryFrom<LogsQuery> for wire::LogsRequest {
    type Error = WireError;

    fn try_from(own: LogsQuery) -> Result<Self, WireError> {
        Ok(Self {
            user: name("user", own.user)?,
            task: name("task", own.task)?,
            incarnation: own.incarnation.map(|it| it.0),
            follow: own.follow,
            tail_bytes: own.tail_bytes,
        })
    }
}

impl TryFrom<wire::LogsRequest> for LogsQuery {
    type Error = WireError;

    fn try_from(message: wire::LogsRequest) -> Result<Self, WireError> {
        Ok(Self {
            user: name("user", message.user)?,
            task: name("task", message.task)?,
            incarnation: message.incarnation.map(Incarnation),
            follow: message.follow,
            tail_bytes: message.tail_bytes,
        })
    }
}

impl TryFrom<LogsPiece> for wire::LogsPiece {
    type Error = WireError;

    fn try_from(own: LogsPiece) -> Result<Self, WireError> {
        let data = bytes("data", own.data, CHUNK_BYTES_MAX)?;
        Ok(Self { stream: own.stream.code(), data })
    }
}

impl TryFrom<wire::LogsPiece> for LogsPiece {
    type Error = WireError;

    fn try_from(message: wire::LogsPiece) -> Result<Self, WireError> {
        Ok(Self {
            stream: decode("stream", message.stream)?,
            data: bytes("data", message.data, CHUNK_BYTES_MAX)?,
        })
    }
}

fn command(command: Vec<String>) -> Result<Vec<String>, WireError> {
    if command.is_empty() {
        return Err(WireError::missing("command"));
    }
    plain_list("command", command, COMMAND_COUNT_MAX, |field, argument| {
        text(field, argument, ARGUMENT_BYTES_MAX)
    })
}

impl TryFrom<ExecInput> for wire::ExecInput {
    type Error = WireError;

    fn try_from(own: ExecInput) -> Result<Self, WireError> {
        use wire::exec_input::{Input, Start};
        let input = match own {
            ExecInput::Start { user, task, command: words } => Input::Start(Start {
                user: text("start.user", user, NAME_BYTES_MAX)?,
                task: name("start.task", task)?,
                command: command(words).inside("start")?,
            }),
            ExecInput::Stdin(data) => Input::Stdin(bytes("stdin", data, CHUNK_BYTES_MAX)?),
            ExecInput::StdinEnds => Input::StdinEnds(true),
        };
        Ok(Self { input: Some(input) })
    }
}

impl TryFrom<wire::ExecInput> for ExecInput {
    type Error = WireError;

    fn try_from(message: wire::ExecInput) -> Result<Self, WireError> {
        use wire::exec_input::Input;
        Ok(match required("input", message.input)? {
            Input::Start(start) => Self::Start {
                user: text("start.user", start.user, NAME_BYTES_MAX)?,
                task: name("start.task", start.task)?,
                command: command(start.command).inside("start")?,
            },
            Input::Stdin(data) => Self::Stdin(bytes("stdin", data, CHUNK_BYTES_MAX)?),
            Input::StdinEnds(true) => Self::StdinEnds,
            Input::StdinEnds(false) => {
                return Err(WireError::new("stdin_ends", "is said where it is so, or not at all"));
            }
        })
    }
}

impl TryFrom<ExecOutput> for wire::ExecOutput {
    type Error = WireError;

    fn try_from(own: ExecOutput) -> Result<Self, WireError> {
        use wire::exec_output::Output;
        let output = match own {
            ExecOutput::Stdout(data) => Output::Stdout(bytes("stdout", data, CHUNK_BYTES_MAX)?),
            ExecOutput::Stderr(data) => Output::Stderr(bytes("stderr", data, CHUNK_BYTES_MAX)?),
            ExecOutput::Exit(cause) => Output::Exit(cause.into()),
        };
        Ok(Self { output: Some(output) })
    }
}

impl TryFrom<wire::ExecOutput> for ExecOutput {
    type Error = WireError;

    fn try_from(message: wire::ExecOutput) -> Result<Self, WireError> {
        use wire::exec_output::Output;
        Ok(match required("output", message.output)? {
            Output::Stdout(data) => Self::Stdout(bytes("stdout", data, CHUNK_BYTES_MAX)?),
            Output::Stderr(data) => Self::Stderr(bytes("stderr", data, CHUNK_BYTES_MAX)?),
            Output::Exit(cause) => Self::Exit(part("exit", Some(cause))?),
        })
    }
}
