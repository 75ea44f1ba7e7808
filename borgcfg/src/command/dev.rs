//! `dev`: a cell on this machine alone, for trying things out: replicas of a master, and borglets that share the machine.
//!
//! Everything of it is in one folder, and `dev.json` there says which processes it has. `dev up` starts those that do not
//! run, `dev down` ends them all, and nothing else: a process is the cell's own if it is one of our daemons and its
//! command line names the cell's folder.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use cell::live::Health;
use cell::{Bytes, MilliCpu};
use clap::{Args, Subcommand};
use proto::status::Consistency;
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::args::Options;
use crate::client::{Client, Config};
use crate::failure::Failure;
use crate::node;
use crate::output::{answer, say};

/// The cell is not up after so long: it has failed.
const UP_MAX: Duration = Duration::from_secs(60);

/// A process that was told to end is killed after so long.
const END_MAX: Duration = Duration::from_secs(10);

/// Between two looks.
const AGAIN: Duration = Duration::from_millis(50);

#[derive(Args, Debug)]
pub(crate) struct DevArgs {
    #[command(subcommand)]
    command: DevCommand,
}

#[derive(Debug, Subcommand)]
enum DevCommand {
    /// Start a local cell; or, where there is one, those of its processes that have ended
    ///
    /// Example: borgcfg dev up --masters 3 --borglets 4
    Up(UpArgs),
    /// Stop the local cell and all its tasks, and leave nothing of it behind
    ///
    /// Example: borgcfg dev down
    Down(Where),
}

#[derive(Args, Debug)]
struct Where {
    /// The folder of all that the cell keeps [default: cell-manager/dev in $XDG_STATE_HOME]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct UpArgs {
    #[command(flatten)]
    at: Where,
    /// Replicas of the master
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=5))]
    masters: u16,
    /// Borglets, each with its share of this machine
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    borglets: u16,
    /// The first port of replicas for clients; those for each other begin 100 above it, borglets 200
    #[arg(long, value_name = "PORT", default_value_t = 7100, value_parser = clap::value_parser!(u16).range(1024..=60000))]
    port: u16,
    /// CPU that each borglet gives, in cores [default: this machine's, shared out evenly]
    #[arg(long, value_name = "CORES", value_parser = cpu)]
    cpu: Option<MilliCpu>,
    /// RAM that each borglet gives, such as 4GiB [default: as of CPU]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    ram: Option<Bytes>,
    /// Borglets sample usage every so many milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    sample_ms: u64,
    /// Machines are called NAME-0 and so on; two local cells at a time must not have the same
    #[arg(long, value_name = "NAME", default_value = "m")]
    prefix: String,
}

fn cpu(text: &str) -> Result<MilliCpu, String> {
    MilliCpu::parse(text).map_err(|error| error.to_string())
}

fn bytes(text: &str) -> Result<Bytes, String> {
    Bytes::parse(text).map_err(|error| error.to_string())
}

/// What a local cell consists of.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Local {
    /// Where its replicas are.
    masters: Vec<String>,
    borglets: Vec<Machine>,
    processes: Vec<Process>,
}

/// A machine of a local cell.
#[derive(Debug, Serialize, Deserialize)]
struct Machine {
    name: String,
    address: String,
    data: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
struct Process {
    name: String,
    pid: i32,
    /// Program and arguments.
    command: Vec<String>,
}

pub(crate) async fn run(args: DevArgs, options: &Options) -> Result<(), Failure> {
    match args.command {
        DevCommand::Up(args) => up(args, options).await,
        DevCommand::Down(at) => down(&at.folder()?, options).await,
    }
}

fn failed(what: impl std::fmt::Display) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure::Failed(format!("{what}: {error}"))
}

impl Where {
    fn folder(&self) -> Result<PathBuf, Failure> {
        if let Some(folder) = &self.folder {
            return std::path::absolute(folder).map_err(failed(folder.display()));
        }
        let home =
            |name: &str| std::env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
        let state = home("XDG_STATE_HOME").or_else(|| Some(home("HOME")?.join(".local/state")));
        state.map(|state| state.join("cell-manager/dev")).ok_or_else(|| {
            Failure::BadInput(
                "neither $XDG_STATE_HOME nor $HOME is set: say --folder DIR".to_owned(),
            )
        })
    }
}

/// A program of ours: beside this one, or in the `PATH`.
fn program(name: &str) -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().map_err(failed("this program"))?.with_file_name(name);
    if own.is_file() {
        return Ok(own);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|it| it.join(name)).find(|it| it.is_file());
    found.ok_or_else(|| {
        let problem = format!(
            "there is no {name} beside borgcfg or in the PATH: `make cell` builds all it takes"
        );
        Failure::Failed(problem)
    })
}

async fn up(args: UpArgs, options: &Options) -> Result<(), Failure> {
    let &UpArgs { masters, borglets, port, .. } = &args;
    let folder = args.at.folder()?;
    if let Some(local) = Local::read(&folder)? {
        return up_again(&folder, local, options).await;
    }
    for first in [port, port + 100, port + 200] {
        let count = if first == port + 200 { borglets } else { masters };
        for port in first..first + count {
            TcpListener::bind(("127.0.0.1", port)).map_err(|error| {
                Failure::Failed(format!("port {port}: {error}; --port says where to begin instead"))
            })?;
        }
    }
    let programs = [program("borgmaster")?, program("borglet")?];
    program("borglet-init")?;
    fs::create_dir_all(folder.join("logs")).map_err(failed(folder.display()))?;
    let mut local = Local::default();
    let user = options.user()?;
    let started = local.start(&folder, user, &programs, &args);
    let ready = match started {
        Ok(()) => local.wait(borglets.into()).await,
        Err(failure) => Err(failure),
    };
    if let Err(failure) = ready {
        let said = local.last_words(&folder);
        let _ = end(&folder, &local).await;
        return Err(failure.and(&said));
    }
    answer(options.json, &local, |local| local.describe(&folder))
}

/// Starts what of a local cell has ended.
async fn up_again(folder: &Path, mut local: Local, options: &Options) -> Result<(), Failure> {
    let missing: Vec<usize> =
        (0..local.processes.len()).filter(|&i| !local.processes[i].is_alive(folder)).collect();
    if missing.is_empty() {
        let folder = folder.display();
        return Err(Failure::Failed(format!(
            "a local cell runs already ({folder}): `borgcfg dev down` ends it"
        )));
    }
    for i in missing {
        let Process { name, command, .. } = local.processes.remove(i);
        let (program, arguments) = command.split_first().ok_or_else(|| {
            Failure::Failed(format!("{}: {name} has no command", folder.join("dev.json").display()))
        })?;
        let mut command = Command::new(program);
        command.args(arguments);
        local.spawn(folder, i, &name, command)?;
    }
    local.wait(local.borglets.len()).await.map_err(|it| it.and(&local.last_words(folder)))?;
    answer(options.json, &local, |local| local.describe(folder))
}

/// Where the replicas of the local cell are, if there is one at the usual place.
pub(crate) fn masters() -> Option<Vec<String>> {
    let folder = Where { folder: None }.folder().ok()?;
    Local::read(&folder).ok().flatten().map(|local| local.masters)
}

async fn down(folder: &Path, options: &Options) -> Result<(), Failure> {
    let Some(local) = Local::read(folder)? else {
        return Err(Failure::Failed(format!(
            "no local cell is at {}: `borgcfg dev up` starts one, --folder says where it is",
            folder.display()
        )));
    };
    end(folder, &local).await?;
    if options.json { Ok(()) } else { say("the local cell is gone, with all its tasks") }
}

impl Local {
    /// What is to be known of it, and what to type next.
    fn describe(&self, folder: &Path) -> String {
        let masters = self.masters.join(",");
        let borglets: Vec<String> =
            self.borglets.iter().map(|it| format!("{} at {}", it.name, it.address)).collect();
        let usual = Where { folder: None }.folder();
        let is_usual = usual.is_ok_and(|usual| usual == folder);
        let export =
            if is_usual { String::new() } else { format!("export BORGCFG_CELL={masters}\n") };
        format!(
            "a local cell runs: masters at {masters}\nmachines: {}\nlogs: {}\nnext:\n{export}borgcfg submit \
             examples/hello.yaml --wait\nborgcfg top\nborgcfg dev down",
            borglets.join(", "),
            folder.join("logs").display()
        )
    }

    fn read(folder: &Path) -> Result<Option<Self>, Failure> {
        let file = folder.join("dev.json");
        match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                Failure::Failed(format!(
                    "{}: {error}: it is no file of a local cell",
                    file.display()
                ))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(file.display())(error)),
        }
    }

    fn write(&self, folder: &Path) -> Result<(), Failure> {
        let (file, draft) = (folder.join("dev.json"), folder.join("dev.json.draft"));
        let text = serde_json::to_vec_pretty(self).map_err(|it| Failure::Failed(it.to_string()))?;
        let done = fs::write(&draft, text).and_then(|()| fs::rename(&draft, &file));
        done.map_err(failed(file.display()))
    }

    fn start(
        &mut self,
        folder: &Path,
        user: &str,
        [borgmaster, borglet]: &[PathBuf; 2],
        args: &UpArgs,
    ) -> Result<(), Failure> {
        let &UpArgs { masters, borglets, port, .. } = args;
        let mut text = format!(
            "data = {:?}\n[cell]\nname = \"dev\"\nadmins = {:?}\n",
            folder.join("masters"),
            if user == "admin" { vec!["admin"] } else { vec!["admin", user] }
        );
        for id in 0..masters {
            let (client, peer) = (port + id, port + 100 + id);
            let _ = write!(
                text,
                "[[replica]]\nid = {}\nclient = \"127.0.0.1:{client}\"\npeer = \"127.0.0.1:{peer}\"\n",
                id + 1
            );
            self.masters.push(format!("127.0.0.1:{client}"));
        }
        let config = folder.join("cell.toml");
        fs::write(&config, text).map_err(failed(config.display()))?;
        for id in 1..=masters {
            let mut command = Command::new(borgmaster);
            command.arg("--config").arg(&config).args(["--replica", &id.to_string()]);
            self.spawn(folder, self.processes.len(), &format!("master-{id}"), command)?;
        }
        let (cpu_milli, ram_bytes) = machine()?;
        let cpu_milli = args.cpu.map_or(cpu_milli / u64::from(borglets), |it| it.0);
        let ram_bytes = args.ram.map_or(ram_bytes / u64::from(borglets), |it| it.0);
        for number in 0..borglets {
            let name = format!("{}-{number}", args.prefix);
            let data = folder.join(&name);
            let address = format!("127.0.0.1:{}", port + 200 + number);
            let (uid, task_port) = (200_000 + u32::from(number) * 1024, 20_000 + number * 512);
            let mut command = Command::new(borglet);
            command.arg("--data").arg(&data).args(["--name", &name, "--listen", &address]);
            command.args(["--master", &self.masters.join(",")]);
            command.args(["--cpu", &format!("{cpu_milli}m"), "--ram", &ram_bytes.to_string()]);
            command.args(["--sample-ms", &args.sample_ms.to_string()]);
            command.args(["--uids", &format!("{uid}-{}", uid + 1023)]);
            command.args(["--ports", &format!("{task_port}-{}", task_port + 511)]);
            self.borglets.push(Machine { name: name.clone(), address, data });
            self.spawn(folder, self.processes.len(), &name, command)?;
        }
        Ok(())
    }

    /// Starts a process, as the one at this place of the list.
    fn spawn(
        &mut self,
        folder: &Path,
        at: usize,
        name: &str,
        mut command: Command,
    ) -> Result<(), Failure> {
        let log = folder.join("logs").join(format!("{name}.log"));
        let log =
            File::options().append(true).create(true).open(&log).map_err(failed(log.display()))?;
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<String> = words.map(|it| it.to_string_lossy().into_owned()).collect();
        let program = words[0].clone();
        // In a group of its own, so that ctrl-c is not for it.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        let child = command.spawn().map_err(failed(program))?;
        let pid = i32::try_from(child.id()).map_err(|it| Failure::Failed(it.to_string()))?;
        self.processes.insert(at, Process { name: name.to_owned(), pid, command: words });
        self.write(folder)
    }

    /// Waits until all machines are up.
    async fn wait(&self, count: usize) -> Result<(), Failure> {
        let (cell, timeout) = (self.masters.clone(), Duration::from_secs(5));
        let mut client =
            Client::new(Config { cell, consistency: Consistency::Linearizable, timeout });
        let give_up = Instant::now() + UP_MAX;
        loop {
            let up = match node::machines(&mut client).await {
                Ok(machines) => machines.iter().filter(|it| it.health == Health::Up).count(),
                Err(_) => 0,
            };
            if up == count {
                return Ok(());
            }
            let gone = self.processes.iter().find(|it| !it.is_there());
            if let Some(gone) = gone {
                return Err(Failure::Failed(format!("{} ended at once", gone.name)));
            }
            if Instant::now() >= give_up {
                return Err(Failure::Failed(format!(
                    "after {UP_MAX:?} {up} of {count} machines are up"
                )));
            }
            sleep(AGAIN).await;
        }
    }

    /// The last line of the first that is not there.
    fn last_words(&self, folder: &Path) -> String {
        let gone = self.processes.iter().find(|it| !it.is_there());
        let Some(Process { name, .. }) = gone else { return "nothing is left of it".to_owned() };
        let log = fs::read_to_string(folder.join("logs").join(format!("{name}.log")));
        let log = log.unwrap_or_default();
        log.lines().next_back().unwrap_or("it said nothing").to_owned()
    }
}

impl Process {
    fn is_there(&self) -> bool {
        let state = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        // After the name, in brackets: one that has ended and was not waited for is a Z.
        state.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    }

    /// Whether it is this cell's still, and not another process with its number.
    fn is_alive(&self, folder: &Path) -> bool {
        self.is_there() && is_own(self.pid, folder)
    }
}

/// Whether a process is a daemon of ours that keeps its things in the folder.
fn is_own(pid: i32, folder: &Path) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = line.split(|&byte| byte == 0).map(|it| Path::new(OsStr::from_bytes(it)));
    let name = words.next().and_then(Path::file_name).unwrap_or_default();
    (name == "borgmaster" || name == "borglet") && words.any(|word| word.starts_with(folder))
}

/// The daemons of ours that keep their things in the folder, whoever started them.
fn own(folder: &Path) -> Result<Vec<Pid>, Failure> {
    let mut own = Vec::new();
    for entry in fs::read_dir("/proc").map_err(failed("/proc"))? {
        let entry = entry.map_err(failed("/proc"))?;
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        if is_own(pid, folder) {
            own.extend(Pid::from_raw(pid));
        }
    }
    Ok(own)
}

fn signal_all(pids: Vec<Pid>, signal: Signal) {
    for pid in pids {
        // It may have ended just now.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Ends every process of a local cell and every task, and removes its folder.
async fn end(folder: &Path, local: &Local) -> Result<(), Failure> {
    signal_all(own(folder)?, Signal::TERM);
    let give_up = Instant::now() + END_MAX;
    loop {
        let left = own(folder)?;
        if left.is_empty() {
            break;
        }
        if Instant::now() >= give_up {
            signal_all(left, Signal::KILL);
        }
        sleep(AGAIN).await;
    }
    let borglet = program("borglet")?;
    for Machine { name, data, .. } in local.borglets.iter().filter(|it| it.data.exists()) {
        let output = Command::new(&borglet)
            .args(["clean", "--name", name, "--data"])
            .arg(data)
            .stdin(Stdio::null())
            .output()
            .map_err(failed(borglet.display()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Failure::Failed(format!("machine {name}: {}", said.trim())));
        }
    }
    fs::remove_dir_all(folder).map_err(failed(folder.display()))
}

/// What this machine has: CPU in milli-cores and RAM in bytes, of which a sixteenth is left to itself.
fn machine() -> Result<(u64, u64), Failure> {
    let cpus = std::thread::available_parallelism().map_err(failed("CPUs"))?;
    let text = fs::read_to_string("/proc/meminfo").map_err(failed("/proc/meminfo"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: Option<u64> = line.and_then(|it| it.trim().trim_end_matches("kB").trim().parse().ok());
    let kib = kib.ok_or_else(|| Failure::Failed("/proc/meminfo has no MemTotal".to_owned()))?;
    Ok((cpus.get() as u64 * 1000, kib * 1024 / 16 * 15))
}
