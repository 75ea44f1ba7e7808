//! Parts that the services have in common: enums, resources, causes, specs.

use std::sync::Arc;

use cell::borglet::{ExitCause, TaskKey};
use cell::container::ContainerSpec;
use cell::live::view::PhaseKind;
use cell::live::{Amounts, Capability, EvictCause, JobEnd, MachineStep, Settings};
use cell::spec::{JobSpec, MachineSpec};
use cell::{
    Band, Bytes, GPU_DEVICE, GPU_DEVICE_COUNT_MAX, GpuRequest, JobKind, MilliCpu, MilliGpu,
    Resources, Unstated,
};

use crate::error::WireError;
use crate::limits::{
    AMOUNT_MAX, SPEC_BYTES_MAX, SPEC_NAME_BYTES_MAX, at_most, cut, plain_list, text, words,
};
use crate::wire;

/// An enum of ours that has a number on the wire.
pub(crate) trait Coded: Sized {
    /// The number.
    fn code(self) -> i32;
    /// What the number stands for.
    fn of_code(code: i32) -> Option<Self>;
}

macro_rules! coded {
    ($own:ty = $wire:ty { $($a:ident = $b:ident),+ $(,)? }) => {
        impl crate::parts::Coded for $own {
            fn code(self) -> i32 {
                let code = match self { $(Self::$a => <$wire>::$b,)+ };
                code as i32
            }

            fn of_code(code: i32) -> Option<Self> {
                match <$wire>::try_from(code) {
                    $(Ok(<$wire>::$b) => Some(Self::$a),)+
                    Ok(<$wire>::Unspecified) | Err(_) => None,
                }
            }
        }
    };
}
pub(crate) use coded;

/// What a number on the wire stands for.
pub(crate) fn decode<T: Coded>(field: &str, code: i32) -> Result<T, WireError> {
    T::of_code(code).ok_or_else(|| match code {
        0 => WireError::missing(field),
        _ => WireError::new(field, format!("{code} is not known: a newer version may know it")),
    })
}

coded!(Band = wire::Band {
    Free = Free,
    Batch = Batch,
    Mid = Mid,
    Production = Production,
    Monitoring = Monitoring,
});
coded!(Capability = wire::Capability {
    AnyJob = AnyJob,
    Quota = Quota,
    Machines = Machines,
    Monitoring = Monitoring,
});
coded!(PhaseKind = wire::Phase {
    Pending = Pending,
    Assigned = Assigned,
    Starting = Starting,
    Running = Running,
    Stopping = Stopping,
    Finished = Finished,
    Failed = Failed,
    Killed = Killed,
});
coded!(JobKind = wire::JobKind { Job = Job, AllocSet = AllocSet });
coded!(JobEnd = wire::JobEnd { Finished = Finished, Failed = Failed, Killed = Killed });
coded!(EvictCause = wire::EvictCause {
    Preempted = Preempted,
    MachineLost = MachineLost,
    MachineDrained = MachineDrained,
    OutOfResources = OutOfResources,
    Updated = Updated,
    AllocEnded = AllocEnded,
});
coded!(MachineStep = wire::event::machine::Step {
    Added = Added,
    Up = Up,
    Down = Down,
    Drained = Drained,
    Repaired = Repaired,
    Removed = Removed,
});

impl From<TaskKey> for wire::TaskKey {
    fn from(key: TaskKey) -> Self {
        Self { job: key.job, index: key.index }
    }
}

impl From<wire::TaskKey> for TaskKey {
    fn from(key: wire::TaskKey) -> Self {
        Self { job: key.job, index: key.index }
    }
}

impl From<Amounts> for wire::Amounts {
    fn from(amounts: Amounts) -> Self {
        let Amounts { cpu_milli, ram_bytes, disk_bytes, gpu_milli } = amounts;
        Self { cpu_milli, ram_bytes, disk_bytes, gpu_milli }
    }
}

impl From<wire::Amounts> for Amounts {
    fn from(amounts: wire::Amounts) -> Self {
        let wire::Amounts { cpu_milli, ram_bytes, disk_bytes, gpu_milli } = amounts;
        Self { cpu_milli, ram_bytes, disk_bytes, gpu_milli }
    }
}

impl TryFrom<Resources> for wire::Resources {
    type Error = WireError;

    fn try_from(own: Resources) -> Result<Self, WireError> {
        let message = Self {
            cpu_milli: own.cpu.0,
            ram_bytes: own.ram.0,
            disk_bytes: own.disk.0,
            gpu_count: own.gpu.count,
            gpu_milli_each: at_most("gpu_milli_each", own.gpu.milli_each.0, GPU_DEVICE.0)?,
            cpu_unstated: own.unstated.cpu,
            ram_unstated: own.unstated.ram,
        };
        // What we would refuse is not sent either.
        Resources::try_from(message)?;
        Ok(message)
    }
}

impl TryFrom<wire::Resources> for Resources {
    type Error = WireError;

    fn try_from(message: wire::Resources) -> Result<Self, WireError> {
        let count = message.gpu_count;
        at_most::<usize>("gpu_count", count.into(), GPU_DEVICE_COUNT_MAX as u64)?;
        let milli_each = u64::from(message.gpu_milli_each);
        let is_whole = match count {
            0 => milli_each == 0,
            1 => (1..=GPU_DEVICE.0).contains(&milli_each),
            _ => milli_each == GPU_DEVICE.0,
        };
        if !is_whole {
            let problem = "must be 0 for no device, 1..=1000 for one, and 1000 for several";
            return Err(WireError::new("gpu_milli_each", problem));
        }
        Ok(Self {
            cpu: MilliCpu(at_most("cpu_milli", message.cpu_milli, AMOUNT_MAX)?),
            ram: Bytes(at_most("ram_bytes", message.ram_bytes, AMOUNT_MAX)?),
            disk: Bytes(at_most("disk_bytes", message.disk_bytes, AMOUNT_MAX)?),
            gpu: GpuRequest { count, milli_each: MilliGpu(milli_each) },
            unstated: Unstated { cpu: message.cpu_unstated, ram: message.ram_unstated },
        })
    }
}

impl From<ExitCause> for wire::ExitCause {
    fn from(cause: ExitCause) -> Self {
        use wire::exit_cause::Kind;
        let (kind, number, reason) = match cause {
            ExitCause::Finished => (Kind::Finished, 0, String::new()),
            ExitCause::Failed { code } => (Kind::Failed, code, String::new()),
            ExitCause::Signal { signal } => (Kind::Signal, signal, String::new()),
            ExitCause::OutOfMemory => (Kind::OutOfMemory, 0, String::new()),
            ExitCause::Unhealthy => (Kind::Unhealthy, 0, String::new()),
            ExitCause::Stopped => (Kind::Stopped, 0, String::new()),
            ExitCause::Disconnected => (Kind::Disconnected, 0, String::new()),
            ExitCause::StartFailed { reason } => (Kind::StartFailed, 0, cut(reason)),
            ExitCause::Lost => (Kind::Lost, 0, String::new()),
        };
        Self { kind: kind.into(), number, reason }
    }
}

impl TryFrom<wire::ExitCause> for ExitCause {
    type Error = WireError;

    fn try_from(message: wire::ExitCause) -> Result<Self, WireError> {
        use wire::exit_cause::Kind;
        let unknown = |_| WireError::new("kind", format!("{} is not known", message.kind));
        let kind = Kind::try_from(message.kind).map_err(unknown)?;
        if message.number != 0 && !matches!(kind, Kind::Failed | Kind::Signal) {
            return Err(WireError::new("number", "goes with no exit of this kind"));
        }
        if !message.reason.is_empty() && kind != Kind::StartFailed {
            return Err(WireError::new("reason", "goes with no exit of this kind"));
        }
        Ok(match kind {
            Kind::Unspecified => return Err(WireError::missing("kind")),
            Kind::Finished => Self::Finished,
            Kind::Failed => Self::Failed { code: message.number },
            Kind::Signal => Self::Signal { signal: message.number },
            Kind::OutOfMemory => Self::OutOfMemory,
            Kind::Unhealthy => Self::Unhealthy,
            Kind::Stopped => Self::Stopped,
            Kind::Disconnected => Self::Disconnected,
            Kind::StartFailed => Self::StartFailed { reason: words("reason", message.reason)? },
            Kind::Lost => Self::Lost,
        })
    }
}

/// A spec or settings as text.
fn write_json(field: &str, value: &impl serde::Serialize) -> Result<String, WireError> {
    let json = serde_json::to_string(value)
        .map_err(|error| WireError::new(field, format!("cannot be written: {error}")))?;
    text(field, json, SPEC_BYTES_MAX)
}

fn read_json<T: serde::de::DeserializeOwned>(field: &str, json: String) -> Result<T, WireError> {
    let json = text(field, json, SPEC_BYTES_MAX)?;
    serde_json::from_str(&json).map_err(|error| WireError::new(field, cut(error.to_string())))
}

fn spec_name(field: &str, name: &str) -> Result<(), WireError> {
    text(field, name.to_owned(), SPEC_NAME_BYTES_MAX).map(drop)
}

pub(crate) fn write_job(field: &str, spec: &JobSpec) -> Result<String, WireError> {
    write_json(field, spec)
}

/// Only the form and the length of names are looked at: the rest is for who keeps the cell.
pub(crate) fn read_job(field: &str, json: String) -> Result<Box<JobSpec>, WireError> {
    let spec: Box<JobSpec> = read_json(field, json)?;
    spec_name(&format!("{field}.name"), &spec.name)?;
    spec_name(&format!("{field}.user"), &spec.user)?;
    plain_list(
        &format!("{field}.run.start_after"),
        spec.run.start_after.iter().collect(),
        crate::limits::LIST_COUNT_MAX,
        |field, name| spec_name(field, name),
    )?;
    Ok(spec)
}

pub(crate) fn write_container(field: &str, spec: &ContainerSpec) -> Result<String, WireError> {
    write_json(field, spec)
}

/// Unlike a job's spec this one is acted on as it is, so all of it is looked at.
pub(crate) fn read_container(field: &str, json: String) -> Result<Arc<ContainerSpec>, WireError> {
    let spec: Arc<ContainerSpec> = read_json(field, json)?;
    spec.check().map_err(|error| WireError::new(error.field, error.problem))?;
    Ok(spec)
}

pub(crate) fn write_machine(field: &str, spec: &MachineSpec) -> Result<String, WireError> {
    write_json(field, spec)
}

pub(crate) fn read_machine(field: &str, json: String) -> Result<MachineSpec, WireError> {
    let spec: MachineSpec = read_json(field, json)?;
    spec_name(&format!("{field}.name"), &spec.name)?;
    Ok(spec)
}

pub(crate) fn write_settings(field: &str, settings: &Settings) -> Result<String, WireError> {
    write_json(field, settings)
}

pub(crate) fn read_settings(field: &str, json: String) -> Result<Settings, WireError> {
    let settings: Settings = read_json(field, json)?;
    spec_name(&format!("{field}.cell_name"), &settings.cell_name)?;
    Ok(settings)
}

/// The hash of a state: 16 bytes, the largest first.
pub(crate) fn read_hash(field: &str, bytes: &[u8]) -> Result<u128, WireError> {
    let bytes = bytes
        .try_into()
        .map_err(|_| WireError::new(field, format!("has {} bytes instead of 16", bytes.len())))?;
    Ok(u128::from_be_bytes(bytes))
}
