//! `borgcfg dev`: a cell by one command, and nothing of it left by another.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::cell::{Said, can_run, is_alive, machine_name, program, said};

struct Local {
    folder: TempDir,
    port: u16,
}

impl Local {
    fn borgcfg(&self, words: &[&str]) -> Said {
        let state = self.folder.path();
        let mut command = Command::new(program("borgcfg"));
        command
            .args(words)
            .env("XDG_STATE_HOME", state)
            .env("USER", "ann")
            .env_remove("BORGCFG_CELL");
        said(&mut command)
    }

    fn dev_file(&self) -> Value {
        let file = self.folder.path().join("cell-manager/dev/dev.json");
        serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
    }

    fn pid(&self, name: &str) -> u64 {
        let file = self.dev_file();
        let processes = file["processes"].as_array().unwrap();
        processes.iter().find(|it| it["name"] == name).unwrap()["pid"].as_u64().unwrap()
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.borgcfg(&["dev", "down"]);
    }
}

#[test]
fn a_local_cell_comes_up_bears_losses_and_leaves_nothing() {
    if !can_run() {
        return;
    }
    // Not where a cell of the user's own may be, nor where the kernel takes ports for connections.
    let bases = (11_000..19_000).step_by(10).cycle();
    let mut bases = bases.skip(usize::try_from(std::process::id()).unwrap() % 800).take(100);
    let is_free = |base: &u16| {
        let ports = [0, 1, 2, 100, 101, 102, 200, 201].map(|offset| base + offset);
        ports.iter().all(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
    };
    let port = bases.find(is_free).unwrap();
    let local = Local { folder: TempDir::new().unwrap(), port };
    let port = local.port.to_string();
    let prefix = machine_name();
    let up =
        ["dev", "up", "--masters", "3", "--borglets", "2", "--port", &port, "--prefix", &prefix];
    let told = local.borgcfg(&up).out();
    assert!(told.contains("borgcfg submit examples/hello.yaml"), "{told}");
    let again = local.borgcfg(&up);
    assert!(again.code == Some(1) && again.err.contains("runs already"), "{again:?}");
    let example = format!("{}/../examples/hello.yaml", env!("CARGO_MANIFEST_DIR"));
    local.borgcfg(&["submit", &example, "--wait"]).out();
    let pid = |task: &str| {
        let top = local.borgcfg(&["top", "--json"]).json();
        let tasks = top["tasks"].as_array().unwrap();
        tasks.iter().find(|it| it["name"] == task).and_then(|it| it["pid"].as_u64())
    };
    let before: Vec<Option<u64>> = ["hello/0", "hello/1", "hello/2"].map(pid).to_vec();
    assert!(before.iter().all(Option::is_some), "{before:?}");
    // A master and a borglet are lost, and started again.
    let lost = [local.pid("master-1"), local.pid(&format!("{prefix}-0"))];
    for lost in lost {
        assert_eq!(said(Command::new("kill").args(["-9", &lost.to_string()])).code, Some(0));
    }
    local.borgcfg(&["status", "hello"]).out();
    local.borgcfg(&up).out();
    assert_eq!(["hello/0", "hello/1", "hello/2"].map(pid).to_vec(), before);
    local.borgcfg(&["dev", "down"]).out();
    for pid in before.into_iter().flatten() {
        assert!(!is_alive(pid), "{pid}");
    }
    assert!(!local.folder.path().join("cell-manager/dev").exists());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(local.folder.path().to_str().unwrap()));
    let down = local.borgcfg(&["dev", "down"]);
    assert!(down.code == Some(1) && down.err.contains("no local cell"), "{down:?}");
}
