//! The first process of a task's container.
//!
//! `borglet-init run` sets a container up, runs a program in it, keeps what it writes, and notes how it ended;
//! `borglet-init wait` does so in two steps; `borglet-init enter JSON` runs a command in a container that is there. Small and with one thread, as each task
//! has one: what can be decided outside of it is decided by the borglet.

mod enter;
mod logs;
mod run;
mod seccomp;
mod setup;
mod signals;

use std::process::ExitCode;

fn main() -> ExitCode {
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

#[allow(clippy::print_stdout, reason = "what was asked for")]
fn say(what: &str) {
    println!("{what}");
}

#[allow(clippy::print_stderr, reason = "whoever started it reads this")]
fn complain(what: &str) {
    eprintln!("borglet-init: {what}");
}
