//! Cells to try things on.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::DirEntry;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::address::free_address;
pub(crate) use crate::process::{DEADLINE, Process, Said, said, until};

/// Longer than a borglet takes to be started again, also on a machine that is emulated.
pub(crate) const SILENT_AFTER_MS: u64 = 30_000;

/// A program of this workspace, which is built into the same folder.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_borglet")).with_file_name(name);
    assert!(path.exists(), "{} is not built: test with --workspace", path.display());
    path
}

/// Whether this machine lets real tasks be run. What CI's machine can do has to be done there.
pub(crate) fn can_run() -> bool {
    can("tasks of their own users under control groups", rustix::process::geteuid().is_root())
}

/// Whether control groups are of version 2 alone.
pub(crate) fn has_version_2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Whether something can be tried; says so where not.
#[allow(clippy::print_stderr, reason = "whoever runs the tests reads it")]
pub(crate) fn can(what: &str, is_possible: bool) -> bool {
    if !is_possible {
        assert!(std::env::var_os("CI").is_none(), "CI's machine has {what}");
        eprintln!("skipped: this machine has no {what}");
    }
    is_possible
}

/// A machine with its borglet.
#[derive(Debug)]
pub(crate) struct Machine {
    pub name: String,
    pub data: PathBuf,
    arguments: Vec<String>,
    /// What it is started by: nothing, or what puts it into another network.
    before: Vec<String>,
    pub process: Option<Process>,
}

impl Machine {
    /// Starts its borglet, anew if it ran before.
    pub(crate) fn start(&mut self) {
        let borglet = program("borglet");
        // Which it starts.
        program("borglet-init");
        let mut words: Vec<String> = self.before.clone();
        words.push(borglet.to_str().unwrap().to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(&self.arguments);
        self.process = Some(Process::start(&mut command));
    }

    /// Kills its borglet, and not its tasks.
    pub(crate) fn kill(&mut self) {
        self.process.take().unwrap().kill();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.process.take());
        // Whatever was started is ended, also where a test fails.
        let mut clean = Command::new(program("borglet"));
        clean.args(["clean", "--name", &self.name, "--data"]).arg(&self.data);
        let _ = clean.stdin(Stdio::null()).output();
    }
}

/// A cell with its masters and machines.
#[derive(Debug)]
pub(crate) struct Cell {
    pub machines: Vec<Machine>,
    pub masters: Vec<Process>,
    /// Where its replicas are.
    pub addresses: Vec<String>,
    /// What its programs are started by.
    pub before: Vec<String>,
    pub folder: TempDir,
}

/// A name that no other test's machine has, now or in another run.
pub(crate) fn machine_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Users and ports that no other test gives to tasks, as far as there are enough.
fn ranges() -> [String; 2] {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = (std::process::id() * 8 + NEXT.fetch_add(1, Ordering::Relaxed)) % 512;
    let (uid, port) = (300_000 + number * 512, 24_000 + number * 64);
    [format!("{uid}-{}", uid + 511), format!("{port}-{}", port + 63)]
}

impl Cell {
    /// One replica, and so many machines, each with a core and a gibibyte.
    pub(crate) fn new(machine_count: usize) -> Self {
        Self::with_masters(1, machine_count)
    }

    pub(crate) fn with_masters(master_count: usize, machine_count: usize) -> Self {
        let addresses = (0..master_count).map(|_| [free_address(), free_address()]).collect();
        let mut cell = Self::of(addresses, Vec::new(), SILENT_AFTER_MS);
        for _ in 0..machine_count {
            cell.add_machine(&free_address(), &[], Vec::new());
        }
        cell.wait_for_machines();
        cell
    }

    /// Replicas at these addresses, for clients and for each other; a machine that is silent for so long is down.
    pub(crate) fn of(
        addresses: Vec<[String; 2]>,
        before: Vec<String>,
        silent_after_ms: u64,
    ) -> Self {
        let folder = TempDir::new().unwrap();
        let mut text = format!(
            "data = {:?}\n[cell]\nname = \"test\"\nadmins = [\"admin\"]\n[settings]\n\
             poll_interval_ms = 200\nsilent_after_ms = {silent_after_ms}\nback_off_first_ms = 100\nneeds_quota = false\n",
            folder.path().join("masters")
        );
        for (id, [client, peer]) in (1..).zip(&addresses) {
            writeln!(text, "[[replica]]\nid = {id}\nclient = {client:?}\npeer = {peer:?}").unwrap();
        }
        let config = folder.path().join("cell.toml");
        std::fs::write(&config, text).unwrap();
        let mut cell = Self {
            machines: Vec::new(),
            masters: Vec::new(),
            addresses: addresses.into_iter().map(|[client, _]| client).collect(),
            before,
            folder,
        };
        for id in 1..=cell.addresses.len() {
            let mut master = cell.command("borgmaster");
            master.arg("--config").arg(&config).args(["--replica", &id.to_string()]);
            master.arg("--insecure");
            cell.masters.push(Process::start(&mut master));
        }
        until("the cell answers", || (cell.borgcfg(&["status"]).code == Some(0)).then_some(()));
        cell
    }

    fn command(&self, name: &str) -> Command {
        let mut words = self.before.clone();
        words.push(program(name).to_str().unwrap().to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }

    /// A machine whose borglet listens there; with these arguments beside the usual.
    pub(crate) fn add_machine(&mut self, address: &str, more: &[&str], before: Vec<String>) {
        let name = machine_name();
        let data = self.folder.path().join(&name);
        let [uids, ports] = ranges();
        let mut arguments: Vec<String> = ["--name", &name, "--data", data.to_str().unwrap()]
            .into_iter()
            .chain(["--listen", address, "--insecure", "--master", &self.addresses.join(",")])
            .chain(["--uids", &uids, "--ports", &ports, "--sample-ms", "200"])
            .map(str::to_owned)
            .collect();
        for (usual, value) in [("--cpu", "1"), ("--ram", "1GiB")] {
            if !more.contains(&usual) {
                arguments.extend([usual.to_owned(), value.to_owned()]);
            }
        }
        arguments.extend(more.iter().map(|&it| it.to_owned()));
        let mut machine = Machine { name, data, arguments, before, process: None };
        machine.start();
        self.machines.push(machine);
    }

    pub(crate) fn wait_for_machines(&self) {
        until("all machines are up", || {
            let list = self.borgcfg(&["machines", "--json"]).json();
            let machines = list["machines"].as_array().unwrap();
            let up = machines.iter().filter(|machine| machine["health"]["state"] == "up");
            (up.count() == self.machines.len()).then_some(())
        });
    }

    /// Waits until no control group is left of tasks on the first machine: the four that there are wait for others.
    pub(crate) fn wait_for_no_groups(&self) {
        let name = &self.machines[0].name;
        let waits = |it: &OsString| it.to_str().is_some_and(|it| it.starts_with("spare-"));
        until("all control groups are gone", || {
            let is_left = ["memory/", "pids/", "cpu/", ""].iter().any(|hierarchy| {
                let folder = format!("/sys/fs/cgroup/{hierarchy}cell-manager/{name}");
                let Ok(all) = std::fs::read_dir(folder) else { return false };
                let groups = all.flatten().filter(|it| it.path().is_dir());
                let groups: Vec<_> = groups.collect();
                // In each there are two processes, which wait.
                let is_waiting = |group: &DirEntry| {
                    let processes = std::fs::read_to_string(group.path().join("cgroup.procs"));
                    processes.is_ok_and(|it| it.lines().count() == 2)
                };
                groups.len() > 4
                    || !groups.iter().all(|group| waits(&group.file_name()) && is_waiting(group))
            });
            (!is_left).then_some(())
        });
    }

    pub(crate) fn borgcfg(&self, arguments: &[&str]) -> Said {
        let mut command = self.command("borgcfg");
        command.args(arguments).env("BORGCFG_CELL", self.addresses.join(",")).env("USER", "admin");
        said(&mut command)
    }

    /// Submits a job, in the free band unless it says otherwise.
    pub(crate) fn submit(&self, job: &Value) {
        let name = job["name"].as_str().unwrap();
        let file = self.folder.path().join(format!("{name}.json"));
        let mut spec =
            serde_json::json!({ "priority": 50, "limit": { "cpu": "100m", "ram": "64MiB" } });
        for (key, value) in job.as_object().unwrap() {
            spec[key] = value.clone();
        }
        std::fs::write(&file, spec.to_string()).unwrap();
        self.borgcfg(&["submit", file.to_str().unwrap()]).out();
    }

    /// The tasks of a job, as `status --json` has them.
    pub(crate) fn tasks(&self, job: &str) -> Vec<Value> {
        let status = self.borgcfg(&["status", job, "--json"]).json();
        status["tasks"].as_array().unwrap().clone()
    }

    /// Waits until all tasks of a job are in a phase; and returns them.
    pub(crate) fn wait(&self, job: &str, phase: &str) -> Vec<Value> {
        let mut last = Vec::new();
        let give_up = Instant::now() + DEADLINE;
        loop {
            let tasks = self.tasks(job);
            if !tasks.is_empty() && tasks.iter().all(|task| task["phase"] == phase) {
                return tasks;
            }
            last.clone_from(&tasks);
            assert!(Instant::now() < give_up, "{job} is not {phase} within {DEADLINE:?}: {last:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Why a job's first task ended, once it has failed for good.
    pub(crate) fn cause(&self, job: &str) -> String {
        let tasks = self.wait(job, "failed");
        tasks[0]["last_cause"].as_str().unwrap().to_owned()
    }

    /// A task, as `top --json` has it; `None` while it does not run.
    pub(crate) fn usage(&self, task: &str) -> Option<Value> {
        let top = self.borgcfg(&["top", "--json"]).json();
        let tasks = top["tasks"].as_array().unwrap();
        tasks.iter().find(|it| it["name"] == task && it["pid"] != 0).cloned()
    }

    /// The process of a task's program.
    pub(crate) fn pid(&self, task: &str) -> u64 {
        until("it has a process", || self.usage(task)?["pid"].as_u64())
    }
}

/// Whether a process is there.
pub(crate) fn is_alive(pid: u64) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// A job of one task that is never started again.
pub(crate) fn once(name: &str, command: &[&str]) -> Value {
    serde_json::json!({ "name": name, "run": { "command": command, "restart": "never" } })
}

/// A job of services that run until they are ended.
pub(crate) fn service(name: &str, count: u32) -> Value {
    serde_json::json!({
        "name": name, "count": count,
        "run": { "command": ["sleep", "infinity"], "restart": "always", "grace_seconds": 1 }
    })
}
