//! The command line.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use cell::borglet::MachineCapacity;
use cell::{Bytes, MilliCpu};
use clap::{Args, Parser, Subcommand};

/// Runs the tasks of a machine, as the master of a cell wants them.
///
/// As root it takes what root can do to set containers up; without root it runs in a delegated control group
/// (systemd: Delegate=yes). Tasks go on when it ends, and are found again when it is started with the same --data.
///
/// Exit codes: 0 done, 1 it cannot go on, 2 bad input.
///
/// Example: borglet --data /var/lib/borglet --master 127.0.0.1:7100
#[derive(Debug, Parser)]
#[command(
    name = "borglet",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// End every task of a machine whose borglet does not run, and remove its control groups
    ///
    /// Example: borglet clean --data /var/lib/borglet
    Clean(Place),
    /// Print the SHA-256 of a package: a tarball or a folder
    ///
    /// Example: borglet hash tools.tar.gz
    Hash {
        /// The tarball or the folder
        path: PathBuf,
    },
}

/// Which machine.
#[derive(Args, Clone, Debug)]
pub(crate) struct Place {
    /// The folder of what has to be found again
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// The machine's name [default: the host's]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Where its control groups are to be, from the top of the hierarchy [default: the top for root, else the group
    /// that it is started in]
    #[arg(long, value_name = "PATH")]
    pub cgroup_parent: Option<String>,
}

/// What a borglet is started with.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// The folder of what has to be found again; needed
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The machine's name [default: the host's]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Where its control groups are to be, from the top of the hierarchy [default: the top for root, else the group
    /// that it is started in]
    #[arg(long, value_name = "PATH")]
    cgroup_parent: Option<String>,
    /// Replicas of the master, where the machine is registered; without any it has to be registered by hand
    /// (borgcfg machines add)
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',')]
    pub master: Vec<String>,
    /// Where it listens; port 0 for any
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:7300")]
    pub listen: SocketAddr,
    /// Where the master finds it [default: where it listens]
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<String>,
    /// Listen beyond this machine, although nobody is authenticated
    #[arg(long)]
    pub insecure: bool,
    /// Who registers the machine, who must be allowed to; may see and enter everybody's tasks
    #[arg(long, value_name = "NAME", default_value = "admin")]
    pub user: String,
    /// CPU that it gives, in cores [default: all]
    #[arg(long, value_name = "CORES", value_parser = cpu)]
    pub cpu: Option<MilliCpu>,
    /// RAM that it gives, such as 64GiB [default: all but a sixteenth]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub ram: Option<Bytes>,
    /// Disk that it gives [default: it is not looked at]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub disk: Option<Bytes>,
    /// Attributes for constraints, NAME=VALUE
    #[arg(long, value_name = "NAME=VALUE", value_parser = attribute)]
    pub attribute: Vec<(String, String)>,
    /// The rack it stands in
    #[arg(long, value_name = "NAME")]
    pub rack: Option<String>,
    /// The power domain it hangs on
    #[arg(long, value_name = "NAME")]
    pub power: Option<String>,
    /// Ports that it gives to tasks that ask for any
    #[arg(long, value_name = "FROM-TO", default_value = "20000-23999", value_parser = range::<u16>)]
    pub ports: RangeInclusive<u16>,
    /// Users that tasks run as, one each; each is its own group. Without root all run as the borglet's user
    #[arg(long, value_name = "FROM-TO", default_value = "200000-204095", value_parser = range::<u32>)]
    pub uids: RangeInclusive<u32>,
    /// A log is rotated at this size
    #[arg(long, value_name = "BYTES", default_value = "10MiB", value_parser = bytes)]
    pub log_size: Bytes,
    /// So many files are kept of each stream of a task
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub log_files: u32,
    /// Logs of tasks that ended are kept for so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600)]
    pub log_keep_seconds: u64,
    /// Usage is sampled every so many milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    pub sample_ms: u64,
    /// So many containers are begun before they are needed, so that tasks start sooner; a process each
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u16).range(0..=256))]
    pub spares: u16,
    /// The program that sets containers up [default: borglet-init beside this program]
    #[arg(long, value_name = "FILE")]
    pub init: Option<PathBuf>,
    /// The OCI runtime [default: runc, or crun, from the PATH]
    #[arg(long, value_name = "FILE")]
    pub oci_runtime: Option<PathBuf>,
    /// The socket of the container runtime that has images (CRI) [default: that of containerd]
    #[arg(long, value_name = "SOCKET")]
    pub cri: Option<PathBuf>,
}

fn cpu(text: &str) -> Result<MilliCpu, String> {
    MilliCpu::parse(text).map_err(|error| error.to_string())
}

fn bytes(text: &str) -> Result<Bytes, String> {
    Bytes::parse(text).map_err(|error| error.to_string())
}

fn attribute(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE is expected")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn range<T: std::str::FromStr + PartialOrd>(text: &str) -> Result<RangeInclusive<T>, String> {
    let (from, to) = text.split_once('-').ok_or("FROM-TO is expected")?;
    let read = |text: &str| text.parse::<T>().map_err(|_| format!("{text:?} is no such number"));
    let (from, to) = (read(from)?, read(to)?);
    if from > to {
        return Err("FROM is above TO".to_owned());
    }
    Ok(from..=to)
}

impl Place {
    /// The machine's name.
    pub(crate) fn machine(&self) -> anyhow::Result<String> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        };
        cell::spec::check_name("name", &name)?;
        ensure!(name != "." && name != "..", "no machine is called {name:?}");
        Ok(name)
    }
}

impl RunArgs {
    /// Which machine.
    pub(crate) fn place(&self) -> anyhow::Result<Place> {
        let data = self.data.clone();
        Ok(Place {
            data: data.context("--data DIR is needed: where it keeps what it has to find again")?,
            name: self.name.clone(),
            cgroup_parent: self.cgroup_parent.clone(),
        })
    }

    /// Whether it may listen there.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.listen.ip().is_loopback() || self.insecure,
            "{} can be reached from elsewhere, and nobody is authenticated: use a loopback address, or --insecure if \
             you mean it",
            self.listen
        );
        Ok(())
    }

    /// What the machine gives.
    pub(crate) fn capacity(&self) -> anyhow::Result<MachineCapacity> {
        let cpu = match self.cpu {
            Some(cpu) => cpu.0,
            None => std::thread::available_parallelism().context("CPUs")?.get() as u64 * 1000,
        };
        let ram = match self.ram {
            Some(ram) => ram.0,
            None => total_ram().context("/proc/meminfo")? / 16 * 15,
        };
        Ok(MachineCapacity {
            cpu_milli: cpu,
            ram_bytes: ram,
            disk_bytes: self.disk.map_or(0, |disk| disk.0),
            gpu_count: 0,
        })
    }

    pub(crate) fn sample_every(&self) -> Duration {
        Duration::from_millis(self.sample_ms)
    }
}

fn total_ram() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line =
        text.lines().find_map(|line| line.strip_prefix("MemTotal:")).context("no MemTotal")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}
