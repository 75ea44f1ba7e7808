//! The control groups that a container runtime makes inside of a task's.
//!
//! The runtime is told the task's group by its path, and makes one in it for each container, in every hierarchy that
//! there is: in version 1 also in those that the borglet itself has no use for, such as `devices`.
//!
//! Sources: the OCI runtime specification, `config-linux.md` (`cgroupsPath`); the kernel's `admin-guide/cgroup-v1`.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// So often it is tried to take all processes of a container in: those that are made meanwhile come the next time.
const TRIES_MAX: usize = 100;

/// Where the hierarchy of a group is mounted, whether or not the group is there.
fn top(folder: &Path) -> io::Result<PathBuf> {
    let device = |path: &Path| std::fs::metadata(path).map(|found| found.dev());
    let mut paths = folder.ancestors().skip_while(|path| !path.exists()).peekable();
    let own = device(paths.peek().copied().unwrap_or(folder))?;
    let inside = paths.take_while(|path| device(path).is_ok_and(|found| found == own));
    Ok(inside.last().unwrap_or(folder).to_owned())
}

/// The path of a group from the top of each of its hierarchies.
///
/// # Errors
/// If it is not the same everywhere: runtimes take one alone.
pub(super) fn path(folders: &[PathBuf]) -> Result<String, String> {
    let mut found: Option<String> = None;
    for folder in folders {
        let top = top(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let path = folder.strip_prefix(&top).unwrap_or(folder);
        let path = format!("/{}", path.to_string_lossy());
        match &found {
            Some(found) if *found != path => {
                return Err(format!(
                    "containers from images need the same control group in each hierarchy, and this borglet has \
                     {found} and {path}: start it as root, or with --cgroup-parent"
                ));
            }
            Some(_) | None => found = Some(path),
        }
    }
    found.ok_or_else(|| "the task has no control group".to_owned())
}

/// Whether a process is in a group, or in one in it, by what `/proc/PID/cgroup` says.
pub(super) fn holds(path: &str, groups: &str) -> bool {
    // NUMBER:CONTROLLERS:PATH
    groups.lines().filter_map(|line| line.splitn(3, ':').nth(2)).any(|own| {
        own.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// The folder of a group whose kernel counts those that it killed for want of memory in the very group that they were
/// in, and in none above it: version 1.
pub(super) fn counted_alone(folders: &[PathBuf]) -> Option<&PathBuf> {
    folders.iter().find(|folder| folder.join("memory.oom_control").exists())
}

/// Moves the processes of a container from the runtime's own group, which is removed with all counts before anybody
/// hears of the end, to the task's.
pub(super) fn take_in(folder: &Path, container: &str) -> io::Result<()> {
    for _ in 0..TRIES_MAX {
        let inner = match std::fs::read_to_string(folder.join(container).join("cgroup.procs")) {
            Ok(inner) => inner,
            // Not yet, or not any more: of one that is being removed the kernel says ENODEV.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) =>
            {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if inner.is_empty() {
            return Ok(());
        }
        for pid in inner.lines() {
            match std::fs::write(folder.join("cgroup.procs"), pid) {
                // It has ended.
                Err(error)
                    if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {}
                done => done?,
            }
        }
    }
    Ok(())
}

/// The groups of a task in hierarchies that the borglet has no use for, whether or not they are there.
fn others(folders: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let Some(folder) = folders.first() else { return Ok(Vec::new()) };
    let top = top(folder)?;
    let (Ok(path), Some(hierarchies)) = (folder.strip_prefix(&top), top.parent()) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for hierarchy in std::fs::read_dir(hierarchies)? {
        let hierarchy = hierarchy?;
        // Links are other names of the same.
        let is_one =
            hierarchy.file_type()?.is_dir() && hierarchy.path().join("cgroup.procs").exists();
        let other = hierarchy.path().join(path);
        if is_one && !folders.contains(&other) {
            found.push(other);
        }
    }
    Ok(found)
}

/// Makes those that the runtime would make: what is around them, which the end of another task may be taking away,
/// then stays.
pub(super) fn make_others(folders: &[PathBuf]) -> io::Result<()> {
    for other in others(folders)? {
        let mut left = TRIES_MAX;
        loop {
            left -= 1;
            match std::fs::create_dir_all(&other) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && left > 0 => {}
                Err(error) => {
                    let path = other.display();
                    return Err(io::Error::new(error.kind(), format!("{path}: {error}")));
                }
                Ok(()) => break,
            }
        }
    }
    Ok(())
}

/// Removes them, with what the runtime left in there.
pub(super) fn remove_others(folders: &[PathBuf]) -> io::Result<()> {
    for other in others(folders)? {
        remove_empty(&other)?;
        // That of the machine, and that of all machines: the last task takes them away.
        for around in other.ancestors().skip(1).take(2) {
            if std::fs::remove_dir(around).is_err() {
                break;
            }
        }
    }
    Ok(())
}

fn remove_empty(folder: &Path) -> io::Result<()> {
    let Ok(inner) = std::fs::read_dir(folder) else { return Ok(()) };
    for entry in inner {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_empty(&entry.path())?;
        }
    }
    match std::fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_in_a_group_or_in_one_in_it() {
        let groups =
            "9:name=systemd:/\n4:memory:/cell-manager/m/71\n1:cpu:/cell-manager/m/7/abc\n0::/\n";
        assert!(holds("/cell-manager/m/7", groups));
        assert!(holds("/cell-manager/m/71", groups));
        assert!(!holds("/cell-manager/m/70", groups));
        assert!(!holds("/cell-manager/n", groups));
        assert!(!holds("/cell-manager/m/7/a", groups));
    }
}
