//! From the log that a container runtime writes to the files of a task's output.
//!
//! In: [`LOG_FILE`] in the task's folder, a line `TIME STREAM TAGS TEXT` each; what is tagged `P` is the beginning of
//! a line of the program, `F` its end. Out: [`STDOUT_FILE`] and [`STDERR_FILE`] there, rotated as those of other
//! tasks. How far it came is in a file, so that a borglet may end at any time: what was written and not noted is
//! written again, and nothing is lost. What was taken over is cut out of the runtime's log, which else would grow for
//! as long as the task runs.
//!
//! Source: Kubernetes' `kubelet-cri-logging` design.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use borglet_init::{STDERR_FILE, STDOUT_FILE};
use rustix::fs::FallocateFlags;
use serde::{Deserialize, Serialize};

/// What the runtime writes; in the task's folder.
pub(super) const LOG_FILE: &str = "cri.log";

/// How far it was taken over; in the task's folder.
const PLACE_FILE: &str = "cri.json";

/// So much is taken over before that is noted. Our guess: little to be done twice, and few notes.
const PASS_BYTES_MAX: u64 = 4 << 20;

/// A longer line is taken for several. Runtimes break lines of programs at some 16 KiB.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// File systems free whole blocks, of which none is larger.
const BLOCK_BYTES_MAX: u64 = 64 << 10;

/// How large files become, and how many of each stream are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub bytes_max: u64,
    pub file_count: u32,
}

/// How far the log was taken over: where it is read on, and how long the files of the streams were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    read: u64,
    stdout: u64,
    stderr: u64,
}

/// The log of one task.
#[derive(Clone, Debug)]
pub(super) struct Log {
    folder: PathBuf,
    limits: Limits,
    place: Place,
}

impl Log {
    /// The log of the task with this folder, as far as it was taken over.
    pub(super) fn open(folder: &Path, limits: Limits) -> io::Result<Self> {
        let place = match std::fs::read(folder.join(PLACE_FILE)) {
            // It is not synced, so that it may hold anything after the machine went down. Then rather twice than not.
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or(Place {
                read: 0,
                stdout: u64::MAX,
                stderr: u64::MAX,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Place::default(),
            Err(error) => return Err(error),
        };
        Ok(Self { folder: folder.to_owned(), limits, place })
    }

    /// Whether there is something to be taken over.
    pub(super) fn is_behind(&self) -> bool {
        let found = std::fs::metadata(self.folder.join(LOG_FILE));
        found.is_ok_and(|found| found.len() > self.place.read)
    }

    /// Takes over what is there, in whole lines.
    pub(super) fn catch_up(&mut self) -> io::Result<()> {
        let path = self.folder.join(LOG_FILE);
        let log = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(log) => log,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        while self.pass(&log)? {}
        Ok(())
    }

    /// Takes over a part of it; `false` if there was none.
    fn pass(&mut self, log: &File) -> io::Result<bool> {
        let Place { read: begin, stdout, stderr } = self.place;
        let mut lines = BufReader::new(log);
        lines.seek(SeekFrom::Start(begin))?;
        let mut read = begin;
        let mut stdout = Stream::open(&self.folder, STDOUT_FILE, stdout, self.limits)?;
        let mut stderr = Stream::open(&self.folder, STDERR_FILE, stderr, self.limits)?;
        let mut line = Vec::new();
        while read - begin < PASS_BYTES_MAX {
            line.clear();
            let count = lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? as u64;
            if !line.ends_with(b"\n") && count < LINE_BYTES_MAX {
                break;
            }
            read += count;
            let Piece { is_stderr, text, is_end } = piece(&line);
            let stream = if is_stderr { &mut stderr } else { &mut stdout };
            stream.write(text)?;
            if is_end {
                stream.write(b"\n")?;
            }
        }
        if read == begin {
            return Ok(false);
        }
        self.place = Place { read, stdout: stdout.end()?, stderr: stderr.end()? };
        self.note()?;
        // Not all file systems can; then it is there until the task has ended.
        let from = begin / BLOCK_BYTES_MAX * BLOCK_BYTES_MAX;
        let cut = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let _ = rustix::fs::fallocate(log, cut, from, read - from);
        Ok(true)
    }

    fn note(&self) -> io::Result<()> {
        let path = self.folder.join(PLACE_FILE);
        let draft = path.with_extension("draft");
        std::fs::write(&draft, serde_json::to_vec(&self.place)?)?;
        std::fs::rename(draft, path)
    }

    /// Takes over what is left, and removes the log, to which nobody writes any more.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.catch_up()?;
        for name in [LOG_FILE, PLACE_FILE] {
            match std::fs::remove_file(self.folder.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece<'a> {
    is_stderr: bool,
    text: &'a [u8],
    /// Whether a line of the program ends with it.
    is_end: bool,
}

/// Reads a line. One that does not look like one is kept as it is, for whoever wonders.
fn piece(line: &[u8]) -> Piece<'_> {
    let (line, is_whole) = match line.strip_suffix(b"\n") {
        Some(line) => (line, true),
        None => (line, false),
    };
    // What was cut out reads as zeros.
    let begin = line.iter().position(|&byte| byte != 0).unwrap_or(line.len());
    let line = &line[begin..];
    let mut words = line.splitn(4, |&byte| byte == b' ');
    let (_time, stream, tags) = (words.next(), words.next(), words.next());
    let text = words.next().unwrap_or_default();
    let tag = tags.and_then(|tags| tags.split(|&byte| byte == b':').next());
    match (stream, tag) {
        (Some(stream @ (b"stdout" | b"stderr")), Some(tag @ (b"P" | b"F"))) => {
            Piece { is_stderr: stream == b"stderr", text, is_end: is_whole && tag == b"F" }
        }
        _ => Piece { is_stderr: false, text: line, is_end: is_whole },
    }
}

/// The files of a stream, of which the newest is written to.
struct Stream {
    path: PathBuf,
    file: BufWriter<File>,
    byte_count: u64,
    limits: Limits,
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

impl Stream {
    /// What is beyond this length was written and not noted: it comes again.
    fn open(folder: &Path, name: &str, noted: u64, limits: Limits) -> io::Result<Self> {
        let path = folder.join(name);
        let file = append(&path)?;
        let mut byte_count = file.metadata()?.len();
        if byte_count > noted {
            file.set_len(noted)?;
            byte_count = noted;
        }
        Ok(Self { path, file: BufWriter::new(file), byte_count, limits })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let count = bytes.len() as u64;
        if self.byte_count > 0 && self.byte_count + count > self.limits.bytes_max {
            self.rotate()?;
        }
        self.byte_count += count;
        self.file.write_all(bytes)
    }

    /// `stdout` becomes `stdout.1`, that `stdout.2`, and the last one goes.
    fn rotate(&mut self) -> io::Result<()> {
        self.file.flush()?;
        let name = |number: u32| match number {
            0 => self.path.clone(),
            _ => self.path.with_extension(number.to_string()),
        };
        let last = self.limits.file_count.saturating_sub(1);
        let mut done = vec![std::fs::remove_file(name(last))];
        done.extend((0..last).rev().map(|number| std::fs::rename(name(number), name(number + 1))));
        for done in done {
            match done {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.file = BufWriter::new(append(&self.path)?);
        self.byte_count = 0;
        Ok(())
    }

    /// Writes what is not written yet; how long the newest file is.
    fn end(mut self) -> io::Result<u64> {
        self.file.flush()?;
        Ok(self.byte_count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { bytes_max: 1000, file_count: 3 };

    fn add(folder: &Path, text: &str) {
        append(&folder.join(LOG_FILE)).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn both(folder: &Path) -> (String, String) {
        let read = |name| std::fs::read_to_string(folder.join(name)).unwrap();
        (read(STDOUT_FILE), read(STDERR_FILE))
    }

    fn line(number: u32) -> String {
        format!("2026-01-02T03:04:05.678901234Z stdout F line {number}\n")
    }

    #[test]
    fn a_line_is_told_by_its_stream_and_tag() {
        let check = |line: &str, is_stderr, text: &str, is_end| {
            let expected = Piece { is_stderr, text: text.as_bytes(), is_end };
            assert_eq!(piece(line.as_bytes()), expected, "{line:?}");
        };
        check("T stdout F a  b \n", false, "a  b ", true);
        check("T stderr F \n", true, "", true);
        check("T stderr F\n", true, "", true);
        check("T stdout P:more part\n", false, "part", false);
        check("\0\0T stderr F x\n", true, "x", true);
        check("T stdin F x\n", false, "T stdin F x", true);
        check("torn\n", false, "torn", true);
        check("\n", false, "", true);
        check("T stdout F too long", false, "too long", false);
    }

    #[test]
    fn streams_are_told_apart_and_parts_put_together() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::open(folder.path(), LIMITS).unwrap();
        log.catch_up().unwrap();
        assert!(!log.is_behind());
        add(folder.path(), "T stdout P on\nT stderr F err\nT stdout F e\nT std");
        assert!(log.is_behind());
        log.catch_up().unwrap();
        assert_eq!(both(folder.path()), ("one\n".to_owned(), "err\n".to_owned()));
        add(folder.path(), "out F two\n");
        log.catch_up().unwrap();
        assert!(!log.is_behind());
        assert_eq!(both(folder.path()).0, "one\ntwo\n");
        log.finish().unwrap();
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[test]
    fn what_was_written_and_not_noted_is_not_there_twice() {
        let folder = tempfile::tempdir().unwrap();
        add(folder.path(), &line(1));
        Log::open(folder.path(), LIMITS).unwrap().catch_up().unwrap();
        add(folder.path(), &line(2));
        // As if it had ended before it noted that.
        append(&folder.path().join(STDOUT_FILE)).unwrap().write_all(b"line 2\n").unwrap();
        Log::open(folder.path(), LIMITS).unwrap().catch_up().unwrap();
        assert_eq!(both(folder.path()).0, "line 1\nline 2\n");
        // As if the machine had lost the note, and what was cut out with it.
        std::fs::write(folder.path().join(PLACE_FILE), "").unwrap();
        add(folder.path(), &line(3));
        Log::open(folder.path(), LIMITS).unwrap().finish().unwrap();
        let stdout = both(folder.path()).0;
        assert!(stdout.starts_with("line 1\nline 2\n"), "{stdout}");
        assert!(stdout.ends_with("line 3\n"), "{stdout}");
    }

    #[test]
    fn files_are_rotated_and_the_log_is_cut() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::open(folder.path(), LIMITS).unwrap();
        let mut number = 0;
        for _ in 0..30 {
            let lines: String = (number..number + 200).map(line).collect();
            number += 200;
            add(folder.path(), &lines);
            log.catch_up().unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let kept = [read("stdout.2"), read("stdout.1"), read("stdout")];
        assert!(kept.iter().all(|text| text.len() <= 1000 && text.starts_with("line ")));
        assert!(!folder.path().join("stdout.3").exists());
        let all = kept.concat();
        let last: Vec<String> = (0..number).map(|number| format!("line {number}\n")).collect();
        assert!(last.concat().ends_with(&all));
        let found = std::fs::metadata(folder.path().join(LOG_FILE)).unwrap();
        assert!(found.len() > 250_000, "{}", found.len());
        assert!(found.blocks() * 512 <= 2 * BLOCK_BYTES_MAX, "{}", found.blocks());
    }
}
