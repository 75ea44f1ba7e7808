//! `borglet-init enter`: a command in a container that is there.
//!
//! Its standard streams are the command's, its exit code is the command's (128 and the signal's number where that
//! ended it, as shells have it), and on SIGTERM the command is killed.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use borglet_init::Enter;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;

use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::run::{At, Step, as_code, command, enter_groups};
use crate::seccomp;
use crate::signals::Signals;

/// What shells say of a command that cannot be run.
const NOT_RUN: u8 = 127;

pub(crate) fn enter(what: &str) -> ExitCode {
    match serde_json::from_str(what).at("reading what to do").and_then(|it| attempt(&it)) {
        Ok(code) => ExitCode::from(code),
        Err(why) => {
            crate::complain(&why);
            ExitCode::from(NOT_RUN)
        }
    }
}

/// Whatever it is run as has no more rights than what runs in the container.
fn limit_rights(allowed: u64) -> Step<()> {
    // What it takes to become another user; that leaves none.
    let own = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::KILL;
    let all = CapabilitySet::from_bits_retain(allowed);
    for capability in CapabilitySet::all().iter().filter(|it| !all.contains(*it)) {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // Kernels know fewer than there are names for.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error).at("capabilities"),
        }
    }
    let kept = (all | own) & rustix::thread::capabilities(None).at("capabilities")?.permitted;
    let sets =
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).at("capabilities")
}

fn attempt(enter: &Enter) -> Step<u8> {
    enter_groups(&enter.cgroups)?;
    let namespace = |name: &str| File::open(format!("/proc/{}/ns/{name}", enter.pid)).at(name);
    // All of them before the first is entered: with that of mounts this /proc may be gone.
    let mut spaces = Vec::new();
    if enter.ids.is_none() {
        spaces.push((namespace("user")?, CloneFlags::CLONE_NEWUSER));
    }
    for (name, flag) in [
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("cgroup", CloneFlags::CLONE_NEWCGROUP),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("mnt", CloneFlags::CLONE_NEWNS),
    ] {
        spaces.push((namespace(name)?, flag));
    }
    for (space, flag) in &spaces {
        setns(space, *flag).at("joining the container")?;
    }
    let mut command: Command = command(&enter.command, &enter.env)?;
    command.current_dir(&enter.folder);
    if let Some((uid, gid)) = enter.ids {
        command.uid(uid).gid(gid);
    }
    rustix::thread::set_no_new_privs(true).at("no_new_privs")?;
    limit_rights(enter.capabilities)?;
    seccomp::apply()?;
    let signals = Signals::block().at("signals")?;
    signals.unblock_in(&mut command);
    let mut child = command.spawn().at(&enter.command[0])?;
    loop {
        if let Some(status) = child.try_wait().at("waiting for the command")? {
            return Ok(as_code(status));
        }
        let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).at("waiting for the command"),
        }
        if signals.pending().contains(&Signal::SIGTERM) {
            child.kill().at("ending the command")?;
        }
    }
}
