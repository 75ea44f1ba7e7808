//! A file that a stream is kept in, and its older parts.
//!
//! What cannot be written is dropped: a full disk stops no task.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags};

/// The log of a stream.
pub(crate) struct Log {
    /// The folder, by descriptor: in a container its path may lead elsewhere.
    folder: OwnedFd,
    name: &'static str,
    file: Option<File>,
    byte_count: u64,
    bytes_max: u64,
    file_count: u32,
}

fn create(folder: &OwnedFd, name: &str) -> io::Result<File> {
    let flags = OFlags::CREATE | OFlags::APPEND | OFlags::WRONLY | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o600))?))
}

impl Log {
    pub(crate) fn open(
        folder: &OwnedFd,
        name: &'static str,
        bytes_max: u64,
        file_count: u32,
    ) -> io::Result<Self> {
        let file = create(folder, name)?;
        let byte_count = file.metadata()?.len();
        let folder = folder.try_clone()?;
        Ok(Self { folder, name, file: Some(file), byte_count, bytes_max, file_count })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        if self.byte_count > 0 && self.byte_count + bytes.len() as u64 > self.bytes_max {
            self.rotate();
        }
        let Some(file) = &mut self.file else { return };
        if file.write_all(bytes).is_ok() {
            self.byte_count += bytes.len() as u64;
        }
    }

    /// `stdout` becomes `stdout.1`, that `stdout.2`, and the last one goes.
    fn rotate(&mut self) {
        let name = |number: u32| match number {
            0 => self.name.to_owned(),
            _ => format!("{}.{number}", self.name),
        };
        let last = self.file_count.saturating_sub(1);
        let _ = rustix::fs::unlinkat(&self.folder, name(last), AtFlags::empty());
        for number in (0..last).rev() {
            let _ =
                rustix::fs::renameat(&self.folder, name(number), &self.folder, name(number + 1));
        }
        self.file = create(&self.folder, self.name).ok();
        self.byte_count = 0;
    }
}
