//! The container of a program with the machine's files: namespaces, a home of its own, and no way to more rights.
//!
//! Sources: namespaces(7), user_namespaces(7), pid_namespaces(7), prctl(2) `PR_SET_NO_NEW_PRIVS`.

use std::fs;
use std::path::Path;

use borglet_init::Process;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::Pid;
use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::run::{At, Step};
use crate::seccomp;

/// Leaves the machine's namespaces; the next child is the first process of the new ones. Without a user of its own it
/// gets a namespace of users too.
pub(crate) fn leave(has_user: bool) -> Step<()> {
    let mut flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    if has_user {
        return unshare(flags).at("namespaces");
    }
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    flags |= CloneFlags::CLONE_NEWUSER;
    unshare(flags).at("namespaces (of users too, without root)")?;
    fs::write("/proc/self/setgroups", "deny").at("/proc/self/setgroups")?;
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1")).at("/proc/self/uid_map")?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1")).at("/proc/self/gid_map")
}

const NO_DEVICES: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);

/// Makes the new namespaces the program's, as their first process; the program is in them, waiting.
pub(crate) fn enter(process: &Process, program: Pid) -> Step<()> {
    let none = None::<&str>;
    // What is mounted in here is seen in here alone; what the machine mounts is seen.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none).at("mounts")?;
    let packages = process.home.join("packages");
    for (name, from) in &process.packages {
        let to = packages.join(name);
        fs::create_dir_all(&to).at(&to.to_string_lossy())?;
        bind(from, &to)?;
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | NO_DEVICES;
        mount(none, &to, none, flags, none).at(&to.to_string_lossy())?;
    }
    bind(&process.home, Path::new("/tmp"))?;
    for shared in ["/var/tmp", "/dev/shm"] {
        if Path::new(shared).is_dir() {
            mount(Some("tmpfs"), shared, Some("tmpfs"), NO_DEVICES, Some("size=64m,mode=1777"))
                .at(shared)?;
        }
    }
    let flags = NO_DEVICES | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, none).at("/proc")?;
    let files_max = Some(process.files_max);
    let limit = Rlimit { current: files_max, maximum: files_max };
    let program = rustix::process::Pid::from_raw(program.as_raw());
    rustix::process::prlimit(program, Resource::Nofile, limit).at("files_max").map(drop)
}

/// Keeps, as the first process, what it takes to end the program, which has a user of its own.
pub(crate) fn stay() -> Step<()> {
    drop_rights(CapabilitySet::KILL)
}

/// What holds for both, before there are two.
pub(crate) fn begin() -> Step<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none).at("core files")?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    rustix::thread::set_no_new_privs(true).at("no_new_privs")
}

/// Gives up, as the process that the program is to be, what the program is not to have. `has_user`: it becomes another
/// user still.
pub(crate) fn restrict(has_user: bool) -> Step<()> {
    drop_rights(if has_user {
        CapabilitySet::SETUID | CapabilitySet::SETGID
    } else {
        CapabilitySet::empty()
    })?;
    seccomp::apply()
}

/// A folder, and what is mounted in it, at another place too.
fn bind(from: &Path, to: &Path) -> Step<()> {
    let none = None::<&str>;
    mount(Some(from), to, none, MsFlags::MS_BIND | MsFlags::MS_REC, none).at(&format!(
        "{} at {}",
        from.display(),
        to.display()
    ))
}

/// From now on there are these rights at most.
fn drop_rights(kept: CapabilitySet) -> Step<()> {
    let sets =
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).at("capabilities")
}
