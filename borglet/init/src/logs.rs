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

    pub(crate) fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.bytes_max.saturating_sub(self.byte_count);
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            let count = if bytes.len() <= room {
                bytes.len()
            } else if let Some(at) = bytes[..room].iter().rposition(|&byte| byte == b'\n') {
                // A line stays whole, if it can.
                at + 1
            } else if self.byte_count > 0 {
                0
            } else {
                room.max(1)
            };
            let (now, later) = bytes.split_at(count);
            if let Some(file) = &mut self.file
                && file.write_all(now).is_ok()
            {
                self.byte_count += now.len() as u64;
            }
            bytes = later;
            if !bytes.is_empty() {
                self.rotate();
            }
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn no_file_is_longer_than_it_may_be_and_lines_stay_whole() {
        let folder = std::env::temp_dir().join(format!("borglet-init-logs-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&folder, flags, Mode::empty()).unwrap();
        let mut log = Log::open(&opened, "stdout", 10, 3).unwrap();
        // At once and bit by bit; the line in the middle is longer than a file.
        log.write(b"one\ntwo\nthree\n0123456789abcdef\n");
        log.write(b"x\n");
        log.write(b"last\n");
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        let kept = ["stdout.2", "stdout.1", "stdout"].map(read);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(kept, ["0123456789", "abcdef\nx\n", "last\n"]);
    }
}
