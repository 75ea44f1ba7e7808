//! Processes of tests: those that go on, and those that say something and end. Used by tests of other crates, too.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::NamedTempFile;

/// Whatever takes longer has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A process that is killed when it is dropped. What it said is shown then if the test failed, or with `SHOW_LOGS` set.
#[derive(Debug)]
pub(crate) struct Process {
    pub child: Child,
    log: NamedTempFile,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        let log = NamedTempFile::new().unwrap();
        let child = command.stdin(Stdio::null()).stderr(log.reopen().unwrap()).spawn().unwrap();
        Self { child, log }
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    #[allow(clippy::print_stderr, reason = "a failure is looked into")]
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() || std::env::var_os("SHOW_LOGS").is_some() {
            eprintln!("{}", std::fs::read_to_string(self.log.path()).unwrap_or_default());
        }
    }
}

/// What a program said.
#[derive(Debug)]
pub(crate) struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    /// What it said on success.
    pub(crate) fn out(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.out()).unwrap()
    }
}

/// Runs a command to its end.
pub(crate) fn said(command: &mut Command) -> Said {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Tries until it succeeds.
pub(crate) fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < give_up, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
