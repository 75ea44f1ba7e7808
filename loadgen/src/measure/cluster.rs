//! The processes: three replicas of a master, and borglets. They end with what holds them.

use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::ask;

/// Whatever takes longer has failed.
pub(super) const DEADLINE: Duration = Duration::from_secs(120);

/// The user of all that is asked, an admin.
pub(super) const USER: &str = "admin";

/// A process, killed when it is dropped.
#[derive(Debug)]
pub(super) struct Process(Child);

impl Process {
    pub(super) fn start(command: &mut Command) -> anyhow::Result<Self> {
        let program = command.get_program().to_owned();
        let child = command.stdin(Stdio::null()).spawn();
        child.map(Self).with_context(|| format!("cannot start {}", program.display()))
    }

    /// As `kill -9` does.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        self.0.kill().context("cannot kill a process")?;
        self.0.wait().context("cannot wait for a process").map(drop)
    }

    /// Its resident memory and the most that it ever was, in bytes.
    pub(super) fn memory(&self) -> anyhow::Result<(u64, u64)> {
        let path = format!("/proc/{}/status", self.0.id());
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let of = |field: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(field));
            let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            kib.map(|kib| kib << 10).with_context(|| format!("{path} has no {field}"))
        };
        Ok((of("VmRSS:")?, of("VmHWM:")?))
    }

    /// How much time of a core it has used.
    pub(super) fn cpu_time(&self) -> anyhow::Result<Duration> {
        let path = format!("/proc/{}/stat", self.0.id());
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        // After the name in brackets, which may hold anything; utime and stime are fields 14 and 15.
        let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).filter_map(|it| it.parse::<u64>().ok()).sum();
        // Linux has told times in hundredths of a second since for ever.
        Ok(Duration::from_millis(ticks * 10))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Addresses at which nobody listens, for clients of three replicas and for their peers.
pub(super) fn free_addresses() -> anyhow::Result<[Vec<String>; 2]> {
    let listen = || TcpListener::bind("127.0.0.1:0");
    // All at once, so that none is chosen twice.
    let taken = (0..6).map(|_| listen()).collect::<io::Result<Vec<_>>>();
    let taken = taken.context("there is no free port")?;
    let address = |listener: &TcpListener| Ok(listener.local_addr()?.to_string());
    let mut clients = taken.iter().map(address).collect::<io::Result<Vec<_>>>()?;
    let peers = clients.split_off(3);
    Ok([clients, peers])
}

/// Three replicas.
#[derive(Debug)]
pub(super) struct Cluster {
    folder: PathBuf,
    program: PathBuf,
    /// Where clients ask, by replica.
    pub addresses: Vec<String>,
    pub replicas: Vec<Process>,
    borglets: Option<Process>,
}

impl Cluster {
    /// Starts three replicas in a folder, and waits for a leader.
    pub(super) async fn start(folder: &Path) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("this program's own path is not known")?;
        let program = own.with_file_name("borgmaster");
        if !program.exists() {
            bail!("{} is not there: build it (-p borgmaster)", program.display());
        }
        let [addresses, peers] = free_addresses()?;
        let mut text = format!("data = {folder:?}\n[cell]\nname = \"load\"\nadmins = [{USER:?}]\n");
        for (id, (client, peer)) in (1..).zip(addresses.iter().zip(peers)) {
            writeln!(text, "[[replica]]\nid = {id}\nclient = {client:?}\npeer = {peer:?}")?;
        }
        std::fs::write(folder.join("cell.toml"), text).context("cannot write cell.toml")?;
        let mut cluster = Self {
            folder: folder.to_owned(),
            program,
            addresses,
            replicas: Vec::new(),
            borglets: None,
        };
        for number in 0..3 {
            let replica = cluster.replica(number)?;
            cluster.replicas.push(replica);
        }
        cluster.leader().await?;
        Ok(cluster)
    }

    fn log(&self, name: &str) -> anyhow::Result<File> {
        let path = self.folder.join(format!("{name}.log"));
        File::options().append(true).create(true).open(path).context("cannot write a log")
    }

    fn replica(&self, number: usize) -> anyhow::Result<Process> {
        let id = (number + 1).to_string();
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(self.folder.join("cell.toml")).args(["--replica", &id]);
        command.stderr(self.log(&format!("replica-{id}"))?).stdout(Stdio::null());
        Process::start(&mut command)
    }

    /// Starts a replica again that was killed.
    pub(super) fn restart(&mut self, number: usize) -> anyhow::Result<()> {
        self.replicas[number] = self.replica(number)?;
        Ok(())
    }

    /// The replica that leads, as the others agree.
    pub(super) async fn leader(&self) -> anyhow::Result<usize> {
        let give_up = Instant::now() + DEADLINE;
        loop {
            for address in &self.addresses {
                if let Some(leader) = ask::leader(address).await
                    && let Some(number) = self.addresses.iter().position(|it| *it == leader)
                {
                    return Ok(number);
                }
            }
            if Instant::now() > give_up {
                bail!("there is no leader within {DEADLINE:?}; logs are in {:?}", self.folder);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts borglets of so many machines, registers them, and waits until all are up.
    pub(super) async fn add_machines(&mut self, count: usize) -> anyhow::Result<()> {
        let own = std::env::current_exe().context("this program's own path is not known")?;
        let mut command = Command::new(own);
        command.args(["borglets", "--listen", "127.0.0.1:0", "--user", USER]);
        command.args(["--count", &count.to_string(), "--master", &self.addresses.join(",")]);
        command.stderr(self.log("borglets")?).stdout(Stdio::piped());
        let mut borglets = Process::start(&mut command)?;
        let said = borglets.0.stdout.take().context("nothing is heard of the borglets")?;
        self.borglets = Some(borglets);
        let registered = tokio::task::spawn_blocking(move || {
            let mut lines = BufReader::new(said).lines().map_while(Result::ok);
            lines.any(|line| line.starts_with("registered"))
        });
        if !registered.await? {
            bail!("the machines were not registered; logs are in {}", self.folder.display());
        }
        let leader = self.leader().await?;
        let mut asker = ask::Asker::new(&self.addresses[leader])?;
        let give_up = Instant::now() + DEADLINE;
        while asker.machines_not_up().await? > 0 {
            if Instant::now() > give_up {
                bail!("machines are not up within {DEADLINE:?}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// The time of a core that replicas and borglets have used.
    pub(super) fn cpu_times(&self) -> anyhow::Result<Vec<Duration>> {
        self.replicas.iter().chain(&self.borglets).map(Process::cpu_time).collect()
    }
}
