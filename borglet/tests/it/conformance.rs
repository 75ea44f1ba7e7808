//! What holds for containers of every kind: one suite, run against each.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use borglet_agent::fake::{Behaviour, FakeBorglet, OnSigterm};
use borglet_agent::{Config, Input};
use cell::Resources;
use cell::borglet::{
    ExitCause, Fence, Incarnation, MachineCapacity, ReportedState, Stop, TaskKey, Usage, Wanted,
    WantedTask,
};
use cell::live::DeathCause;
use cell::live::view::describe_death;
use serde_json::{Value, json};

use crate::address::free_address;
use crate::cell::{Cell, SILENT_AFTER_MS, can, can_run, is_alive, said, until};

/// A kind of container: what a job says of it, and what its borglet is started with.
struct Kind {
    container: Value,
    arguments: Vec<String>,
}

/// Programs that end by themselves, by their jobs' names, and how that is told: the same of every kind, the one that
/// is made of nothing too.
const ENDS: [(&str, &str, &str); 3] = [
    ("says", "echo out $BORG_TASK $MODE $PORT_WEB; echo err >&2; exit 6", "exit code 6"),
    ("finishes", "true", "finished"),
    // A shell can hold as much as it likes in a variable.
    ("eats", "x=0123456789abcdef; while true; do x=$x$x; done", "out of memory"),
];

/// Everything that a container has to do, whatever it is made of. All it needs in there is a shell.
fn conforms(kind: &Kind) {
    let mut cell = Cell::of(vec![[free_address(), free_address()]], Vec::new(), SILENT_AFTER_MS);
    let arguments: Vec<&str> = kind.arguments.iter().map(String::as_str).collect();
    cell.add_machine(&free_address(), &arguments, Vec::new());
    cell.wait_for_machines();
    let submit = |name: &str, script: &str, restart: &str, more: Value| {
        let mut container = kind.container.clone();
        for (key, value) in more.as_object().unwrap() {
            container[key] = value.clone();
        }
        cell.submit(&json!({
            "name": name, "container": container, "limit": { "cpu": "500m", "ram": "64MiB" },
            "run": { "command": ["/bin/sh", "-c", script], "restart": restart, "grace_seconds": 1 }
        }));
    };

    // How it ends is known: its limit of memory kills it, too.
    let more = json!({ "env": { "MODE": "m" }, "ports": { "web": 0 } });
    for (name, script, how) in ENDS {
        submit(name, script, "never", more.clone());
        let phase = if how == "finished" { how } else { "failed" };
        let told = cell.wait(name, phase)[0]["last_cause"].as_str().map(str::to_owned);
        assert!(how == phase || told.as_deref().is_some_and(|it| it.contains(how)), "{told:?}");
    }

    // What it writes is kept, and what it finds is there.
    let logs = cell.borgcfg(&["logs", "says/0"]);
    let words: Vec<&str> = logs.out.split_whitespace().collect();
    assert_eq!(words[..3], ["out", "says/0", "m"], "{logs:?}");
    assert!(words[3].parse::<u16>().is_ok(), "{logs:?}");
    assert_eq!(logs.err.trim(), "err");
    // In some kinds it is the first process of its namespace, which no signal of its own ends.
    submit("signalled", "/bin/sh -c 'kill -9 $$'; exit $?", "never", json!({}));
    let cause = cell.cause("signalled");
    assert!(cause.contains("signal 9") || cause.contains("exit code 137"), "{cause}");

    // It can be entered, it is told to end, and what it started goes with it.
    let stays = "echo $$ > /tmp/own; trap 'echo asked; exit 0' TERM; \
                 sleep 100000 & while true; do sleep 0.05; done";
    submit("stays", stays, "always", json!({}));
    cell.wait("stays", "running");
    let pid = cell.pid("stays/0");
    until("it can be entered", || {
        let inside =
            cell.borgcfg(&["exec", "stays/0", "--", "/bin/sh", "-c", "cat /tmp/own; exit 4"]);
        (inside.code == Some(4) && !inside.out.trim().is_empty()).then_some(())
    });

    // A borglet that is started again finds it as it is.
    cell.machines[0].kill();
    cell.machines[0].start();
    until("it is told of still", || (cell.usage("stays/0")?["pid"] == pid).then_some(()));
    cell.borgcfg(&["kill", "stays"]).out();
    cell.wait("stays", "killed");
    assert!(!is_alive(pid));
    assert!(cell.borgcfg(&["logs", "stays/0"]).out().contains("asked"));

    // And one that does not listen is made to.
    let stubborn = "trap '' TERM; while true; do sleep 0.05; done";
    let submit = |name: &str, script: &str| {
        cell.submit(&json!({
            "name": name, "container": kind.container, "limit": { "cpu": "500m", "ram": "64MiB" },
            "run": { "command": ["/bin/sh", "-c", script], "restart": "always", "grace_seconds": 1 }
        }));
    };
    submit("stubborn", stubborn);
    cell.wait("stubborn", "running");
    let pid = cell.pid("stubborn/0");
    cell.borgcfg(&["kill", "stubborn"]).out();
    cell.wait("stubborn", "killed");
    assert!(!is_alive(pid));

    cell.wait_for_no_groups();
}

/// The kind that simulations have: what of the suite is about the life of a task holds for it as well.
#[test]
fn a_machine_made_of_nothing() {
    let does = |task: &WantedTask| {
        let job = task.name.trim_end_matches("/0");
        Behaviour {
            start_up_ms: 5,
            runtime_ms: ENDS.iter().any(|(name, ..)| *name == job).then_some(20),
            exit: match job {
                "says" => ExitCause::Failed { code: 6 },
                "eats" => ExitCause::OutOfMemory,
                _ => ExitCause::Finished,
            },
            usage: Usage::default(),
            is_healthy: true,
            on_sigterm: match job {
                "stubborn" => OnSigterm::Ignores,
                _ => OnSigterm::Ends { after_ms: 10 },
            },
        }
    };
    let names = ENDS.map(|(name, ..)| name).into_iter().chain(["stays", "stubborn"]);
    let mut tasks: Vec<WantedTask> = names
        .zip(1..)
        .map(|(name, number)| WantedTask {
            key: TaskKey { job: number, index: 0 },
            incarnation: Incarnation(number),
            name: format!("{name}/0"),
            priority: 50,
            limit: Resources::default(),
            gpu_devices: 0,
            user: "ann".to_owned(),
            command: Vec::new(),
            grace_ms: 1_000,
            latency_sensitive: false,
            stop_after_disconnect_ms: None,
            container: None,
            stop: None,
        })
        .collect();
    let capacity =
        MachineCapacity { cpu_milli: 1_000, ram_bytes: 1 << 30, disk_bytes: 0, gpu_count: 0 };
    let mut borglet = FakeBorglet::new(Config { machine: "m".to_owned(), capacity }, 0);
    let states = |borglet: &FakeBorglet| {
        let tasks = borglet.agent().report().tasks.into_iter();
        tasks.map(|task| task.state).collect::<Vec<_>>()
    };
    let mut generation = 0;
    let mut want = |borglet: &mut FakeBorglet, now_ms: u64, tasks: &[WantedTask]| {
        generation += 1;
        let fence = Fence { term: 1, generation };
        let tasks = tasks.to_vec();
        let wanted = Wanted { fence, base: None, tasks, gone: Vec::new() };
        borglet.input(now_ms, Input::Wanted(wanted), &does);
    };
    want(&mut borglet, 0, &tasks);
    assert!(states(&borglet).iter().all(|state| *state == ReportedState::Starting));
    borglet.advance(5, &does);
    assert!(states(&borglet).iter().all(|state| *state == ReportedState::Running));
    borglet.advance(100, &does);
    for ((_, _, how), state) in ENDS.iter().zip(states(&borglet)) {
        let ReportedState::Exited(cause) = state else { panic!("{state:?}") };
        let is_finished = cause == ExitCause::Finished;
        let death = if is_finished { DeathCause::Finished } else { DeathCause::Failed(cause) };
        let told = describe_death(&death);
        assert!(told.contains(how), "{told}");
    }
    // A borglet that is started again finds them as they are.
    let before = states(&borglet);
    borglet.restart(200);
    want(&mut borglet, 200, &tasks);
    assert_eq!(states(&borglet), before);
    assert_eq!(before[3..], [ReportedState::Running, ReportedState::Running]);
    // One ends when it is told to, and the other one is made to.
    for task in &mut tasks[3..] {
        task.stop = Some(Stop { deadline_in_ms: 1_000 });
    }
    want(&mut borglet, 300, &tasks);
    borglet.advance(310, &does);
    let stopped = ReportedState::Exited(ExitCause::Stopped);
    assert_eq!(states(&borglet)[3..], [stopped.clone(), ReportedState::Stopping]);
    borglet.advance(1_299, &does);
    assert_eq!(states(&borglet)[4], ReportedState::Stopping);
    borglet.advance(1_300, &does);
    assert_eq!(states(&borglet)[4], stopped);
    // Nothing is left of those that nobody wants.
    want(&mut borglet, 1_400, &[]);
    assert_eq!(states(&borglet), []);
    assert_eq!(borglet.machine().clone().found(1_400).len(), 0);
}

/// Where Debian has them.
fn installed(name: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/bin"]
        .iter()
        .map(|it| Path::new(it).join(name))
        .find(|it| it.exists())
}

/// Files of a container: a static `busybox` under the names that are needed.
fn root_files(to: &Path) {
    for folder in ["bin", "tmp", "proc", "sys", "dev", "etc", "packages"] {
        fs::create_dir_all(to.join(folder)).unwrap();
    }
    let busybox = installed("busybox").unwrap();
    fs::copy(busybox, to.join("bin/busybox")).unwrap();
    for name in ["sh", "sleep", "cat", "true", "env", "ls"] {
        symlink("busybox", to.join("bin").join(name)).unwrap();
    }
}

#[test]
fn the_machines_own_programs() {
    if can_run() {
        conforms(&Kind { container: json!({}), arguments: Vec::new() });
    }
}

fn bundles(runtime: &str) {
    if !can_run() {
        return;
    }
    let runtime = installed(runtime);
    let is_there =
        runtime.is_some() && installed("runc").is_some() && installed("busybox").is_some();
    if !can("an OCI runtime and a static busybox", is_there) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    root_files(&folder.path().join("rootfs"));
    let made =
        said(Command::new(installed("runc").unwrap()).arg("spec").current_dir(folder.path()));
    assert_eq!(made.code, Some(0), "{made:?}");
    conforms(&Kind {
        container: json!({ "bundle": folder.path() }),
        arguments: vec!["--oci-runtime".to_owned(), runtime.unwrap().to_str().unwrap().to_owned()],
    });
}

#[test]
fn bundles_by_runc() {
    bundles("runc");
}

/// Whether version 2 has controllers beside those of version 1, which crun refuses to work with.
fn is_hybrid() -> bool {
    let controllers = fs::read_to_string("/sys/fs/cgroup/unified/cgroup.controllers");
    controllers.is_ok_and(|it| !it.trim().is_empty())
}

#[test]
#[allow(clippy::print_stderr, reason = "whoever runs the tests reads it")]
fn bundles_by_crun() {
    if is_hybrid() {
        eprintln!("skipped: crun works with no mixture of control groups of versions 1 and 2");
        return;
    }
    bundles("crun");
}

/// A containerd of the test's own, and its image.
struct Containerd {
    folder: tempfile::TempDir,
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let pid = fs::read_to_string(self.folder.path().join("containerd.pid")).unwrap_or_default();
        said(Command::new("kill").arg(pid.trim()));
        until("it has ended", || (!pid.trim().parse().is_ok_and(is_alive)).then_some(()));
        // What is mounted in its folder keeps that from being removed.
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let own = self.folder.path().to_str().unwrap();
        for mount in
            mounts.lines().filter_map(|it| it.split(' ').nth(1)).filter(|it| it.starts_with(own))
        {
            said(Command::new("umount").args(["-l", mount]));
        }
    }
}

#[test]
fn images_by_containerd() {
    if !can_run() {
        return;
    }
    let needed = ["containerd", "ctr", "runc", "busybox", "python3"];
    let is_there = needed.iter().all(|it| installed(it).is_some());
    if !can("containerd, runc and a static busybox", is_there) {
        return;
    }
    let containerd = Containerd { folder: tempfile::tempdir().unwrap() };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/containerd.sh");
    let log = fs::File::create(containerd.folder.path().join("up.log")).unwrap();
    let mut up = Command::new("sh");
    up.arg(script).arg(containerd.folder.path()).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    // What it starts keeps its streams.
    let status = up.stdout(log.try_clone().unwrap()).stderr(log).status().unwrap();
    assert!(
        status.success(),
        "{}",
        fs::read_to_string(containerd.folder.path().join("up.log")).unwrap()
    );
    let socket = containerd.folder.path().join("containerd.sock");
    conforms(&Kind {
        container: json!({ "image": "local/busybox:1" }),
        arguments: vec!["--cri".to_owned(), socket.to_str().unwrap().to_owned()],
    });
}
