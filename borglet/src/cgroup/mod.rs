//! Control groups: what a task may use, what it uses, and its end as a whole.
//!
//! Version 2 where it has the controllers, else version 1 (which hosts in hybrid mode mount for them). A borglet has
//! a group of its own, limited to what the machine gives it, and in that one for each task:
//! `cell-manager/MACHINE/INCARNATION`.
//!
//! Compressible resources are throttled, others kill. CPU: weights by what a task's limit is, ten times as much for
//! latency-sensitive ones, and the idle class for best effort (Borg, EuroSys '15, §6.2); the limit is a hard one.
//! Sources: the kernel's `admin-guide/cgroup-v2` and `admin-guide/cgroup-v1`.

mod files;
mod mounts;
mod v1;
mod v2;

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cell::container::{Control, IoSpec};

/// The least CPU that a task can be limited to, in milli-cores: the kernel's least quota is 1 ms of each 100 ms.
pub(crate) const CPU_MILLI_MIN: u64 = 10;

/// The least RAM that a task can be limited to: its first process and a program that does nothing need some of it.
pub(crate) const RAM_BYTES_MIN: u64 = 4 << 20;

/// The period of CPU quotas, in microseconds: the kernel's usual one.
const PERIOD_US: u64 = 100_000;

/// Who goes first in the competition for CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Appetite {
    /// Answers to people.
    LatencySensitive,
    /// Work that is to be done.
    Batch,
    /// Only what nobody else wants.
    BestEffort,
}

/// What a task may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// In milli-cores; `None`: whatever is left.
    pub cpu_milli: Option<u64>,
    /// `None`: whatever the machine has.
    pub ram_bytes: Option<u64>,
    pub processes_max: u32,
    pub appetite: Appetite,
    pub ram_high: Option<u64>,
    pub ram_low: Option<u64>,
    /// CPUs that it has for itself.
    pub own_cpus: Option<BTreeSet<u32>>,
    /// CPUs that it may use because nobody has them for themselves; `None`: it is not said.
    pub shared_cpus: Option<BTreeSet<u32>>,
    pub io: Option<IoSpec>,
}

/// What a group used so far, and uses now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    pub cpu_us: u64,
    pub throttled_us: u64,
    /// How often it was held back because its CPU was used up.
    pub throttled_count: u64,
    /// Without what of the page cache was not used lately, which can be had back at any time.
    pub ram_bytes: u64,
    pub process_count: u64,
    pub major_fault_count: u64,
    pub oom_kill_count: u64,
    pub pressure: Pressure,
}

/// PSI ("some", over ten seconds) in thousandths, where the kernel tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pressure {
    pub cpu_permille: Option<u32>,
    pub memory_permille: Option<u32>,
    pub io_permille: Option<u32>,
}

/// Why a machine runs no tasks.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// A control that every task needs is not there.
    #[error(
        "the kernel offers no control of {0} here, and no task runs without: as root, mount the cgroup controller; \
         without root, start it in a delegated group (systemd: Delegate=yes)"
    )]
    Missing(String),
    /// Another borglet has the groups.
    #[error(
        "another borglet runs as machine {0:?} on this host: --name gives this one another name"
    )]
    Taken(String),
    /// It is there and does not do as it is told.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The groups of a borglet.
#[derive(Debug)]
pub(crate) struct Hierarchy {
    kind: Of,
    /// Held for as long as this is: whatever is in the groups and not known would be taken for what is left over.
    _lock: File,
}

#[derive(Debug)]
enum Of {
    V1(v1::V1),
    V2(v2::V2),
}

/// The group of a task.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    V1(v1::Group),
    V2(v2::Group),
}

impl Hierarchy {
    /// Makes the borglet's own group.
    ///
    /// `parent` is where, relative to the top of each hierarchy; `None`: at the top for root, else in the group that
    /// this process is in, which then has to be delegated to it.
    pub(crate) fn open(
        machine: &str,
        parent: Option<&str>,
        capacity: (u64, u64),
    ) -> Result<Self, Unusable> {
        let mounts = mounts::Mounts::read()?;
        let kind = match v2::V2::open(&mounts, machine, parent)? {
            Some(v2) => Of::V2(v2),
            None => Of::V1(v1::V1::open(&mounts, machine, parent)?),
        };
        let lock = File::open(kind.folder())?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Unusable::Taken(machine.to_owned())),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let (cpu_milli, ram_bytes) = capacity;
        match &kind {
            Of::V1(v1) => v1.limit_machine(cpu_milli, ram_bytes)?,
            Of::V2(v2) => v2.limit_machine(cpu_milli, ram_bytes)?,
        }
        Ok(Self { kind, _lock: lock })
    }

    /// Which version it is.
    pub(crate) const fn version(&self) -> u8 {
        match &self.kind {
            Of::V1(_) => 1,
            Of::V2(_) => 2,
        }
    }

    /// Whether a control that is best effort is there.
    pub(crate) fn has(&self, control: Control) -> bool {
        match &self.kind {
            Of::V1(v1) => v1.has(control),
            Of::V2(v2) => v2.has(control),
        }
    }

    /// A task's group, whether it exists or not.
    pub(crate) fn group(&self, name: &str) -> Group {
        let kind = match &self.kind {
            Of::V1(v1) => Kind::V1(v1.group(name)),
            Of::V2(v2) => Kind::V2(v2.group(name)),
        };
        Group { kind }
    }

    /// How much RAM all tasks together use, in bytes, without what of the page cache can be had back.
    pub(crate) fn ram_used(&self) -> io::Result<u64> {
        match &self.kind {
            Of::V1(v1) => v1.machine().ram_used(),
            Of::V2(v2) => v2.machine().ram_used(),
        }
    }

    /// The names of the groups that are there.
    pub(crate) fn names(&self) -> io::Result<BTreeSet<String>> {
        match &self.kind {
            Of::V1(v1) => v1.names(),
            Of::V2(v2) => files::children(v2.folder()),
        }
    }

    /// Removes the borglet's own groups, which hold no task any more.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match &self.kind {
            Of::V1(v1) => v1.remove(),
            Of::V2(v2) => v2.remove(),
        }
    }
}

impl Of {
    fn folder(&self) -> &Path {
        match self {
            Self::V1(v1) => v1.folder(),
            Self::V2(v2) => v2.folder(),
        }
    }
}

/// After so long without a process a group that cannot be removed is left.
const REMOVE_MAX: Duration = Duration::from_secs(2);

impl Group {
    /// Makes it, without limits.
    pub(crate) fn create(&self) -> io::Result<()> {
        match &self.kind {
            Kind::V1(group) => group.create(),
            Kind::V2(group) => group.create(),
        }
    }

    /// Gives it its limits but that of CPU: making a container is not the work of the program in it, and with little CPU
    /// would take many periods of it.
    pub(crate) fn limit_all_but_cpu(&self, limits: &Limits) -> io::Result<()> {
        match &self.kind {
            Kind::V1(group) => group.limit_all_but_cpu(limits),
            Kind::V2(group) => group.limit_all_but_cpu(limits),
        }
    }

    /// Limits its CPU, and says how it competes for it.
    pub(crate) fn limit_cpu(&self, limits: &Limits) -> io::Result<()> {
        match &self.kind {
            Kind::V1(group) => group.limit_cpu(limits),
            Kind::V2(group) => group.limit_cpu(limits),
        }
    }

    /// Gives it other limits.
    pub(crate) fn adjust(&self, limits: &Limits) -> io::Result<()> {
        self.limit_all_but_cpu(limits)?;
        self.limit_cpu(limits)
    }

    /// Where a process has to enter itself.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        match &self.kind {
            Kind::V1(group) => group.folders(),
            Kind::V2(group) => vec![group.folder().to_owned()],
        }
    }

    /// Where a process has to enter itself to be beside another one of the group.
    pub(crate) fn folders_of(&self, pid: i32) -> io::Result<Vec<PathBuf>> {
        match &self.kind {
            Kind::V1(group) => Ok(group.folders()),
            Kind::V2(group) => Ok(files::holding(group.folder(), pid)?.into_iter().collect()),
        }
    }

    /// What it uses.
    pub(crate) fn sample(&self) -> io::Result<Sample> {
        match &self.kind {
            Kind::V1(group) => group.sample(),
            Kind::V2(group) => group.sample(),
        }
    }

    /// How often the kernel killed one of its processes because it was out of memory; 0 if there is no such group.
    pub(crate) fn oom_kill_count(&self) -> u64 {
        match &self.kind {
            Kind::V1(group) => group.oom_kill_count(),
            Kind::V2(group) => group.oom_kill_count(),
        }
        .unwrap_or(0)
    }

    /// Kills every process in it, and waits until there is none; then removes it.
    pub(crate) fn end(&self) -> io::Result<()> {
        let give_up = Instant::now() + REMOVE_MAX;
        loop {
            match &self.kind {
                Kind::V1(group) => group.kill()?,
                Kind::V2(group) => group.kill()?,
            }
            let removed = match &self.kind {
                Kind::V1(group) => group.remove(),
                Kind::V2(group) => group.remove(),
            };
            match removed {
                Ok(()) => return Ok(()),
                // Those that were killed have not gone yet.
                Err(error)
                    if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < give_up =>
                {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Kills every process in it.
    pub(crate) fn kill(&self) -> io::Result<()> {
        match &self.kind {
            Kind::V1(group) => group.kill(),
            Kind::V2(group) => group.kill(),
        }
    }
}

/// The weight of a task in the competition for CPU, in thousandths of what a core of batch has.
const fn weight_permille(limits: &Limits) -> u64 {
    let cpu = match limits.cpu_milli {
        Some(cpu) => cpu,
        None => CPU_MILLI_MIN,
    };
    match limits.appetite {
        Appetite::LatencySensitive => cpu * 10,
        Appetite::Batch => cpu,
        Appetite::BestEffort => 0,
    }
}

fn quota_us(cpu_milli: u64) -> u64 {
    (cpu_milli * PERIOD_US / 1000).max(1_000)
}

fn cpu_list(cpus: &BTreeSet<u32>) -> String {
    cpus.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}
