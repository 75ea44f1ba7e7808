//! What holds for containers of every kind: one suite, run against each.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::address::free_address;
use crate::cell::{Cell, SILENT_AFTER_MS, can, can_run, is_alive, said, until};

/// A kind of container: what a job says of it, and what its borglet is started with.
struct Kind {
    container: Value,
    arguments: Vec<String>,
}

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

    // What it writes is kept, what it finds is there, and how it ends is known.
    let script = "echo out $BORG_TASK $MODE $PORT_WEB; echo err >&2; exit 6";
    submit("says", script, "never", json!({ "env": { "MODE": "m" }, "ports": { "web": 0 } }));
    assert_eq!(cell.cause("says"), "failed: exit code 6");
    let logs = cell.borgcfg(&["logs", "says/0"]);
    let words: Vec<&str> = logs.out.split_whitespace().collect();
    assert_eq!(words[..3], ["out", "says/0", "m"], "{logs:?}");
    assert!(words[3].parse::<u16>().is_ok(), "{logs:?}");
    assert_eq!(logs.err.trim(), "err");
    submit("finishes", "true", "never", json!({}));
    cell.wait("finishes", "finished");
    // In some kinds it is the first process of its namespace, which no signal of its own ends.
    submit("signalled", "/bin/sh -c 'kill -9 $$'; exit $?", "never", json!({}));
    let cause = cell.cause("signalled");
    assert!(cause.contains("signal 9") || cause.contains("exit code 137"), "{cause}");

    // Its limit of memory kills it: a shell can hold as much as it likes in a variable.
    let eat = "x=0123456789abcdef; while true; do x=$x$x; done";
    submit("eats", eat, "never", json!({}));
    assert!(cell.cause("eats").contains("out of memory"), "{}", cell.cause("eats"));

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
