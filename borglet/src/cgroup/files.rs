//! The files of a control group.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Writes a value; the error names the file.
pub(super) fn write(folder: &Path, name: &str, value: impl AsRef<[u8]>) -> io::Result<()> {
    let path = folder.join(name);
    std::fs::write(&path, value).map_err(|error| named(&path, error))
}

/// Writes a value where the file is there.
pub(super) fn write_if(folder: &Path, name: &str, value: impl AsRef<[u8]>) -> io::Result<bool> {
    match write(folder, name, value) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        // Without the right to create files the kernel says so of those that do not exist.
        Err(error)
            if error.kind() == io::ErrorKind::PermissionDenied && !folder.join(name).exists() =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Reads a file; the error names it.
pub(super) fn read(folder: &Path, name: &str) -> io::Result<String> {
    let path = folder.join(name);
    std::fs::read_to_string(&path).map_err(|error| named(&path, error))
}

/// A file that is one number.
pub(super) fn number(folder: &Path, name: &str) -> io::Result<u64> {
    let text = read(folder, name)?;
    text.trim().parse().map_err(|_| io::Error::other(format!("{name} holds no number")))
}

/// The value of a line `NAME VALUE`.
pub(super) fn value(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        (key == name).then(|| value.trim().parse().ok()).flatten()
    })
}

/// The groups in a group.
pub(super) fn children(folder: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).map_err(|error| named(folder, error))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// The group that holds a process: this one, or one in it.
pub(super) fn holding(folder: &Path, pid: i32) -> io::Result<Option<PathBuf>> {
    let is_here = read(folder, "cgroup.procs")?.lines().any(|line| line.parse() == Ok(pid));
    if is_here {
        return Ok(Some(folder.to_owned()));
    }
    for name in children(folder)? {
        if let Some(found) = holding(&folder.join(name), pid)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Removes a group and all groups in it; it is no error if there is none.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    let gone = |error: io::Error| {
        if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
    };
    let names = match children(folder) {
        Ok(names) => names,
        Err(error) => return gone(error),
    };
    for name in names {
        remove(&folder.join(name))?;
    }
    std::fs::remove_dir(folder).or_else(gone)
}

/// Sends SIGKILL to all processes of a group and of those in it.
pub(super) fn kill_each(folder: &Path) -> io::Result<()> {
    let text = match read(folder, "cgroup.procs") {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for pid in text.lines().filter_map(|line| line.trim().parse().ok()) {
        // 0 is a process of another namespace.
        if let Some(pid) = rustix::process::Pid::from_raw(pid) {
            match rustix::process::kill_process(pid, rustix::process::Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    for name in children(folder)? {
        kill_each(&folder.join(name))?;
    }
    Ok(())
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
