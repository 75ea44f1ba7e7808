//! The first process of a task's container.
//!
//! `borglet-init run` sets a container up, runs a program in it, keeps what it writes, and notes how it ended;
//! `borglet-init wait` does so in two steps; `borglet-init enter JSON` runs a command in a container that is there.
//! Small and with one thread, as each task has one: what can be decided outside of it is decided by the borglet.

mod enter;
mod logs;
mod run;
mod seccomp;
mod setup;
mod signals;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Err(error) = close_inherited() {
        complain(&format!("what else was open: {error}"));
        return ExitCode::from(2);
    }
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("run"), None) => run::run(),
        (Some("wait"), None) => run::wait(),
        (Some("enter"), Some(what)) => enter::enter(&what),
        (Some("--version"), None) => {
            say(concat!("borglet-init ", env!("CARGO_PKG_VERSION")));
            ExitCode::SUCCESS
        }
        _ => {
            complain("borglet-init is started by borglet, not by people");
            ExitCode::from(2)
        }
    }
}

/// Whatever whoever started the borglet had open is no concern of a task (close_range(2), of Linux 5.9; some runtimes of
/// containers refuse it).
fn close_inherited() -> std::io::Result<()> {
    // SAFETY: at the beginning nothing is open but the three streams that nobody owns a descriptor of beyond these.
    #[allow(unsafe_code, reason = "see above")]
    match unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) } {
        0 => Ok(()),
        _ => {
            let entries = std::fs::read_dir("/proc/self/fd")?.flatten();
            let open: Vec<i32> =
                entries.filter_map(|it| it.file_name().to_str()?.parse().ok()).collect();
            for fd in open.into_iter().filter(|&fd| fd > 2) {
                // SAFETY: as above; that of the folder itself is closed already.
                #[allow(unsafe_code, reason = "see above")]
                unsafe {
                    libc::close(fd);
                }
            }
            Ok(())
        }
    }
}

#[allow(clippy::print_stdout, reason = "what was asked for")]
fn say(what: &str) {
    println!("{what}");
}

#[allow(clippy::print_stderr, reason = "whoever started it reads this")]
fn complain(what: &str) {
    eprintln!("borglet-init: {what}");
}
