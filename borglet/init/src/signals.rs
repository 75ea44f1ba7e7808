//! Signals, as something to be read: the first process of a container passes them on.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Those that concern it.
const HEARD: [Signal; 7] = [
    Signal::SIGCHLD,
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// What waits to be read.
pub(crate) struct Signals {
    set: SigSet,
    fd: SignalFd,
}

impl Signals {
    /// From now on they wait.
    pub(crate) fn block() -> nix::Result<Self> {
        let set: SigSet = HEARD.into_iter().collect();
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { set, fd })
    }

    /// Has a command begin with the usual signals, and not with those of this process, as a child has them.
    pub(crate) fn unblock_in(&self, command: &mut Command) {
        let set = self.set;
        // SAFETY: all it does is one system call, which may be made between fork and exec.
        #[allow(unsafe_code, reason = "see above")]
        unsafe {
            command.pre_exec(move || Ok(set.thread_unblock()?));
        }
    }

    /// Those that came.
    pub(crate) fn pending(&self) -> Vec<Signal> {
        let mut came = Vec::new();
        while let Ok(Some(info)) = self.fd.read_signal() {
            came.extend(
                i32::try_from(info.ssi_signo).ok().and_then(|it| Signal::try_from(it).ok()),
            );
        }
        came
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
