//! What a container runtime says of a container.

use std::collections::BTreeMap;
use std::io;

use borglet_init::{Exit, Run, boot_id, process_start};
use serde::Deserialize;

use super::wire::{ContainerState, ContainerStatus};

/// Signals that programs are ended by; of higher numbers an exit code is the likelier meaning.
const SIGNAL_MAX: i32 = 31;

/// How far a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It is there, and was never started.
    Created,
    Running {
        pid: Option<i32>,
    },
    /// `None`: the runtime has lost sight of it.
    Exited(Option<Exit>),
}

impl Seen {
    pub(super) fn read(status: &ContainerStatus, verbose: &Verbose) -> Self {
        match status.state() {
            ContainerState::ContainerCreated => Self::Created,
            ContainerState::ContainerRunning => Self::Running { pid: verbose.pid() },
            ContainerState::ContainerExited => Self::Exited(exit(status.exit_code, &status.reason)),
            ContainerState::ContainerUnknown => Self::Exited(None),
        }
    }
}

/// How a program ended, from what runtimes say: they tell the death by a signal as shells do.
fn exit(code: i32, reason: &str) -> Option<Exit> {
    match code - 128 {
        // It was lost, as by a machine that went down.
        _ if reason == "Unknown" => None,
        signal @ 1..=SIGNAL_MAX => Some(Exit::Signal(signal)),
        _ => Some(Exit::Code(code)),
    }
}

/// What a runtime tells beside if it is to be verbose; containerd and CRI-O name it alike.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Verbose {
    pid: i32,
    runtime_spec: Option<RuntimeSpec>,
}

#[derive(Debug, Deserialize)]
struct RuntimeSpec {
    process: SpecProcess,
}

#[derive(Debug, Deserialize)]
struct SpecProcess {
    user: SpecUser,
}

#[derive(Debug, Deserialize)]
struct SpecUser {
    uid: u32,
    gid: u32,
}

impl Verbose {
    pub(super) fn read(info: &BTreeMap<String, String>) -> Self {
        info.get("info").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// The process, as the machine has it.
    pub(super) fn pid(&self) -> Option<i32> {
        Some(self.pid).filter(|&pid| pid > 0)
    }

    /// User and group of the program.
    pub(super) fn ids(&self) -> Option<(u32, u32)> {
        let user = &self.runtime_spec.as_ref()?.process.user;
        Some((user.uid, user.gid))
    }
}

/// The process with this id, as long as it is the same; `None` if it has ended.
pub(super) fn run_of(pid: i32) -> io::Result<Option<Run>> {
    let Some(start) = process_start(pid)? else { return Ok(None) };
    Ok(Some(Run { pid, start, boot: boot_id()? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_by_signal_is_told_from_an_exit_code() {
        assert_eq!(exit(0, "Completed"), Some(Exit::Code(0)));
        assert_eq!(exit(4, "Error"), Some(Exit::Code(4)));
        assert_eq!(exit(127, "Error"), Some(Exit::Code(127)));
        assert_eq!(exit(128, "StartError"), Some(Exit::Code(128)));
        assert_eq!(exit(137, "Error"), Some(Exit::Signal(9)));
        assert_eq!(exit(137, "OOMKilled"), Some(Exit::Signal(9)));
        assert_eq!(exit(143, "Error"), Some(Exit::Signal(15)));
        assert_eq!(exit(159, "Error"), Some(Exit::Signal(31)));
        assert_eq!(exit(160, "Error"), Some(Exit::Code(160)));
        assert_eq!(exit(255, "Error"), Some(Exit::Code(255)));
        assert_eq!(exit(255, "Unknown"), None);
        assert_eq!(exit(-1, ""), Some(Exit::Code(-1)));
    }

    #[test]
    fn process_and_user_are_read_where_they_are_told() {
        let check = |text: &str, pid, ids| {
            let info = BTreeMap::from([("info".to_owned(), text.to_owned())]);
            let found = Verbose::read(&info);
            assert_eq!((found.pid(), found.ids()), (pid, ids), "{text}");
        };
        check(r#"{"sandboxID": "a", "pid": 12, "removing": false}"#, Some(12), None);
        let spec = r#"{"pid": 0, "runtimeSpec": {"process": {"user": {"uid": 7, "gid": 8}}}}"#;
        check(spec, None, Some((7, 8)));
        check(r#"{"pid": 3, "runtimeSpec": null}"#, Some(3), None);
        check("{}", None, None);
        check("", None, None);
        assert_eq!(Verbose::read(&BTreeMap::new()).pid(), None);
    }
}
