//! Cells to try things on: real masters, fake machines, and the program itself.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::address::free_address;
use crate::process::said;
pub(crate) use crate::process::{DEADLINE, Process, Said, until};

/// A program of this workspace, which is built into the same folder.
fn program(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_borgcfg")).with_file_name(name);
    assert!(
        path.exists(),
        "{} is not built: `cargo build -p borgmaster -p loadgen`, or test with --workspace",
        path.display()
    );
    path
}

impl Said {
    /// The one line that it said of a failure.
    pub(crate) fn failure(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.err.lines().count(), 1, "{self:?}");
        self.err
    }
}

/// `borgcfg`, as ann in a cell at these addresses.
pub(crate) fn command(cell: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_borgcfg"));
    command.args(arguments).env("BORGCFG_CELL", cell).env("USER", "ann").stdin(Stdio::null());
    command
}

pub(crate) fn borgcfg(cell: &str, arguments: &[&str]) -> Said {
    said(&mut command(cell, arguments))
}

/// A cell with its masters, and machines if there are any.
pub(crate) struct Cell {
    folder: TempDir,
    /// Where its replicas are, with commas.
    pub at: String,
    pub addresses: Vec<String>,
    pub masters: Vec<Process>,
    machines: Option<Process>,
}

impl Cell {
    /// One replica.
    pub(crate) fn alone() -> Self {
        let (folder, address) = (TempDir::new().unwrap(), free_address());
        let data = folder.path().join("data");
        let mut master = Command::new(program("borgmaster"));
        master.args(["--data", data.to_str().unwrap(), "--listen", &address]).env("USER", "ann");
        Self {
            folder,
            at: address.clone(),
            addresses: vec![address],
            masters: vec![Process::start(&mut master)],
            machines: None,
        }
        .ready()
    }

    /// Three replicas.
    pub(crate) fn three() -> Self {
        let folder = TempDir::new().unwrap();
        let addresses: Vec<String> = (0..3).map(|_| free_address()).collect();
        let mut text = format!(
            "data = {:?}\n[cell]\nname = \"three\"\nadmins = [\"admin\", \"ann\"]\n",
            folder.path()
        );
        for (id, client) in (1..).zip(&addresses) {
            let peer = free_address();
            writeln!(text, "[[replica]]\nid = {id}\nclient = {client:?}\npeer = {peer:?}").unwrap();
        }
        let config = folder.path().join("cell.toml");
        std::fs::write(&config, text).unwrap();
        let start = |id: u64| {
            let mut master = Command::new(program("borgmaster"));
            master.args(["--config", config.to_str().unwrap(), "--replica", &id.to_string()]);
            Process::start(&mut master)
        };
        let masters = (1..=3).map(start).collect();
        let at = addresses.join(",");
        Self { folder, at, addresses, masters, machines: None }.ready()
    }

    fn ready(self) -> Self {
        until("the cell answers", || (self.borgcfg(&["status"]).code == Some(0)).then_some(()));
        self
    }

    /// The same with so many fake machines, `m-0` and so on, that are up.
    pub(crate) fn with_machines(mut self, count: usize) -> Self {
        let mut fleet = Command::new(program("loadgen"));
        let number = count.to_string();
        fleet.args(["borglets", "--listen", "127.0.0.1:0", "--user", "ann", "--count", &number]);
        fleet.args(["--master", &self.at]).stdout(Stdio::piped());
        let mut process = Process::start(&mut fleet);
        let lines = BufReader::new(process.child.stdout.take().unwrap()).lines();
        let registered = lines.map_while(Result::ok).any(|line| line.contains("registered"));
        assert!(registered, "loadgen ended without registering its machines");
        self.machines = Some(process);
        until("all machines are up", || {
            let list = self.borgcfg(&["machines", "--json"]).json();
            let machines = list["machines"].as_array().unwrap();
            let up = machines.iter().filter(|machine| machine["health"]["state"] == "up");
            (up.count() == count).then_some(())
        });
        self
    }

    pub(crate) fn borgcfg(&self, arguments: &[&str]) -> Said {
        borgcfg(&self.at, arguments)
    }

    /// A file in a folder that lasts as long as the cell.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// An example of this repository.
pub(crate) fn example(name: &str) -> String {
    format!("{}/../examples/{name}", env!("CARGO_MANIFEST_DIR"))
}
