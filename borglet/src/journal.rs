//! What a borglet finds again even where the machine died: the highest fence that it accepted, and the tasks that it
//! was about to start, each kept by one write to the disk.
//!
//! A file of lines, `CHECKSUM ENTRY`, with room behind them: as it keeps its size, nothing but what is written has to
//! be synced. First comes what held when the file was written; each entry after that begins a block of its own, and is
//! on the disk before the next is written. So where the machine dies in the middle of a write, all but the last entry
//! are whole.
//!
//! Where there is no room left, where a write failed, and whenever it is opened, all that holds is written to another
//! file, and the two change their names. That one has its place on the disk too, so that a full disk is no reason not
//! to hear of a master that something has to end.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, bail};
use cell::borglet::{Fence, Incarnation};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::folder::{Record, sync_folder};

/// Its size, in bytes, at least: room for about 300 tasks that are started and forgotten.
const BYTES_MIN: usize = 4 << 20;

/// The size of the largest sectors that disks have, in bytes: what is in one may be lost with what is written to it.
const BLOCK: usize = 4096;

/// What is behind all entries.
static ROOM: [u8; 64 << 10] = [0; 64 << 10];

/// The journal.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    kept: Mutex<Kept>,
}

/// What holds, and the file that says so.
#[derive(Debug)]
struct Kept {
    fence: Fence,
    records: BTreeMap<Incarnation, Arc<Record>>,
    /// `None`: it is to be written anew before anything else.
    file: Option<Room>,
}

/// A file with room from `at` on.
#[derive(Debug)]
struct Room {
    file: File,
    at: usize,
    byte_count: usize,
}

#[derive(Serialize, Deserialize)]
enum Entry {
    Fence(Fence),
    Record(Arc<Record>),
    Forgotten(Incarnation),
}

/// Of a line: its checksum in 16 hexadecimal digits and a blank.
const CHECKSUM_BYTES: usize = 17;

impl Entry {
    fn line(&self) -> anyhow::Result<Vec<u8>> {
        let text = serde_json::to_string(self)?;
        Ok(format!("{:016x} {text}\n", xxh3_64(text.as_bytes())).into_bytes())
    }
}

/// The text of the line that is there, and the byte after it; `None` if no whole one is.
fn line_at(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let rest = bytes.get(at..)?;
    let length = rest.iter().position(|&byte| byte == b'\n')?;
    let (checksum, text) = rest[..length].split_at_checked(CHECKSUM_BYTES)?;
    let is_whole = checksum == format!("{:016x} ", xxh3_64(text)).as_bytes();
    is_whole.then_some((text, at + length + 1))
}

/// Whether there may be what is left of one line, the only one that was not on the disk yet, and nothing else.
fn is_torn(rest: &[u8]) -> bool {
    let end = rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |at| at + 1);
    rest[end..].iter().all(|&byte| byte == 0)
}

impl Kept {
    /// From what is in a file.
    fn read(bytes: &[u8]) -> anyhow::Result<Self> {
        let mut kept = Self { fence: Fence::default(), records: BTreeMap::new(), file: None };
        let mut at = 0;
        while let Some((text, end)) = line_at(bytes, at) {
            let entry = serde_json::from_slice(text);
            kept.take(entry.context("this version cannot read it, though it is whole")?);
            // What held is written in one go, and what followed block by block.
            at = if bytes.get(end) == Some(&0) { end.next_multiple_of(BLOCK) } else { end };
        }
        // Of the first line there is nothing before that could be relied upon.
        if at == 0 || !is_torn(bytes.get(at..).unwrap_or_default()) {
            bail!(
                "it is damaged: which masters were heard is not known. If none of this machine's tasks runs any more, \
                 move the folder that it is in away and start anew"
            );
        }
        Ok(kept)
    }

    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Fence(fence) => self.fence = self.fence.max(fence),
            Entry::Record(record) => {
                self.records.insert(record.task.incarnation, record);
            }
            Entry::Forgotten(incarnation) => drop(self.records.remove(&incarnation)),
        }
    }

    /// Writes all that holds to the other file, which takes the name of this one.
    fn write(&mut self, path: &Path) -> anyhow::Result<()> {
        let other = path.with_extension("next");
        let words = || format!("{}", other.display());
        let mut bytes = Entry::Fence(self.fence).line()?;
        for record in self.records.values() {
            bytes.extend(Entry::Record(Arc::clone(record)).line()?);
        }
        let at = bytes.len().next_multiple_of(BLOCK);
        bytes.resize(at, 0);
        // Nobody but the borglet is to read what tasks have in their environment.
        let file =
            File::options().write(true).create(true).truncate(false).mode(0o600).open(&other);
        let file = file.with_context(words)?;
        let length = usize::try_from(file.metadata().with_context(words)?.len())?;
        let byte_count = (2 * at).max(BYTES_MIN).max(length).next_multiple_of(BLOCK);
        file.write_all_at(&bytes, 0).with_context(words)?;
        for room in (at..byte_count).step_by(ROOM.len()) {
            let part = &ROOM[..ROOM.len().min(byte_count - room)];
            file.write_all_at(part, room as u64).with_context(words)?;
        }
        file.sync_all().with_context(words)?;
        match renameat_with(CWD, &other, CWD, path, RenameFlags::EXCHANGE) {
            Ok(()) => {}
            // There is none yet, or the file system knows nothing of it, and the other one is made anew each time.
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                fs::rename(&other, path).with_context(words)?;
            }
            Err(error) => return Err(error).with_context(words),
        }
        sync_folder(path.parent().unwrap_or(path))?;
        self.file = Some(Room { file, at, byte_count });
        Ok(())
    }

    /// Writes an entry after the others, or all that holds where there is no room, which has the entry in it.
    fn keep(&mut self, path: &Path, entry: &Entry) -> anyhow::Result<()> {
        let mut line = entry.line()?;
        // What is in the rest of a block has not to be read for that.
        line.resize(line.len().next_multiple_of(BLOCK), 0);
        // Where this fails it is not known what is there.
        let room = self.file.take().filter(|room| room.at + line.len() <= room.byte_count);
        let Some(mut room) = room else { return self.write(path) };
        let words = || format!("{}", path.display());
        room.file.write_all_at(&line, room.at as u64).with_context(words)?;
        room.file.sync_data().with_context(words)?;
        room.at += line.len();
        self.file = Some(room);
        Ok(())
    }
}

impl Journal {
    /// Opens it, or makes it.
    ///
    /// # Errors
    /// If it is damaged: what was accepted is not known then.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let words = || format!("{}", path.display());
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Entry::Fence(Fence::default()).line()?
            }
            Err(error) => return Err(error).with_context(words),
        };
        let mut kept = Kept::read(&bytes).with_context(words)?;
        kept.write(path)?;
        if !path.with_extension("next").try_exists().with_context(words)? {
            kept.write(path)?;
        }
        Ok(Self { path: path.to_owned(), kept: Mutex::new(kept) })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The highest fence.
    pub(crate) fn fence(&self) -> Fence {
        self.kept().fence
    }

    /// Tasks that were to be started and are not forgotten.
    pub(crate) fn records(&self) -> Vec<Arc<Record>> {
        self.kept().records.values().cloned().collect()
    }

    /// Keeps a fence, if it is higher than what is kept.
    pub(crate) fn keep_fence(&self, fence: Fence) -> anyhow::Result<()> {
        let mut kept = self.kept();
        let before = kept.fence;
        if fence <= before {
            return Ok(());
        }
        kept.fence = fence;
        let done = kept.keep(&self.path, &Entry::Fence(fence));
        if done.is_err() {
            kept.fence = before;
        }
        done
    }

    /// Keeps what is to be started.
    pub(crate) fn keep(&self, record: Arc<Record>) -> anyhow::Result<()> {
        let mut kept = self.kept();
        kept.records.insert(record.task.incarnation, Arc::clone(&record));
        kept.keep(&self.path, &Entry::Record(record))
    }

    /// Drops what was to be started.
    pub(crate) fn forget(&self, incarnation: Incarnation) -> anyhow::Result<()> {
        let mut kept = self.kept();
        match kept.records.remove(&incarnation) {
            Some(_) => kept.keep(&self.path, &Entry::Forgotten(incarnation)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use cell::Resources;
    use cell::borglet::{TaskKey, WantedTask};
    use tempfile::TempDir;

    use super::*;
    use crate::folder::Given;

    const fn fence(term: u64, generation: u64) -> Fence {
        Fence { term, generation }
    }

    fn record(number: u64, argument: &str) -> Arc<Record> {
        let task = WantedTask {
            key: TaskKey { job: number, index: 0 },
            incarnation: Incarnation(number),
            name: format!("job-{number}/0"),
            priority: 200,
            limit: Resources::default(),
            gpu_devices: 0,
            user: "ann".to_owned(),
            command: vec!["echo".to_owned(), argument.to_owned()],
            grace_ms: 0,
            latency_sensitive: false,
            stop_after_disconnect_ms: None,
            container: None,
            stop: None,
        };
        Arc::new(Record { task, given: Given::default(), group: number.to_string() })
    }

    fn opened(folder: &TempDir) -> Journal {
        Journal::open(&folder.path().join("journal")).unwrap()
    }

    #[test]
    fn what_was_kept_is_found_again() {
        let folder = TempDir::new().unwrap();
        let journal = opened(&folder);
        assert_eq!((journal.fence(), journal.records()), (fence(0, 0), vec![]));
        for kept in [fence(1, 5), fence(2, 1), fence(1, 9), fence(2, 1)] {
            journal.keep_fence(kept).unwrap();
        }
        let (first, second, adjusted) = (record(1, "1"), record(2, "a\nb"), record(1, "2"));
        for kept in [&first, &second, &adjusted] {
            journal.keep(Arc::clone(kept)).unwrap();
        }
        journal.keep(record(3, "3")).unwrap();
        journal.forget(Incarnation(3)).unwrap();
        journal.forget(Incarnation(4)).unwrap();
        // What follows goes into the file that was written anew as it was opened.
        for _ in 0..2 {
            let found = opened(&folder);
            assert_eq!(found.fence(), fence(2, 1));
            assert_eq!(found.records(), [Arc::clone(&adjusted), Arc::clone(&second)]);
        }
    }

    #[test]
    fn nobody_else_reads_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = TempDir::new().unwrap();
        opened(&folder).keep(record(1, "secret")).unwrap();
        for name in ["journal", "journal.next"] {
            let mode = fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn where_there_is_no_room_it_is_written_anew() {
        let folder = TempDir::new().unwrap();
        let journal = opened(&folder);
        let long = "x".repeat(200_000);
        for number in 0..50 {
            journal.keep(record(number, &long)).unwrap();
            if number >= 3 {
                journal.forget(Incarnation(number - 3)).unwrap();
            }
        }
        let size = std::fs::metadata(folder.path().join("journal")).unwrap().len();
        assert_eq!(size, BYTES_MIN as u64);
        let other = fs::metadata(folder.path().join("journal.next")).unwrap().len();
        assert_eq!(other, size);
        assert_eq!(opened(&folder).records(), [47, 48, 49].map(|number| record(number, &long)));
        // Some do not fit into the usual room.
        let long = record(50, &"x".repeat(2 * BYTES_MIN));
        journal.keep(Arc::clone(&long)).unwrap();
        journal.keep_fence(fence(3, 3)).unwrap();
        let found = opened(&folder);
        assert_eq!((found.records().last(), found.fence()), (Some(&long), fence(3, 3)));
    }

    #[test]
    fn what_cannot_be_kept_is_kept_with_what_can_be() {
        let folder = TempDir::new().unwrap();
        let own = folder.path().join("own");
        fs::create_dir(&own).unwrap();
        let path = own.join("journal");
        let journal = Journal::open(&path).unwrap();
        let away = folder.path().join("away");
        fs::rename(&own, &away).unwrap();
        // Entries go where they always go, until there is no room.
        let long = "x".repeat(BYTES_MIN / 2);
        journal.keep(record(1, &long)).unwrap();
        journal.keep_fence(fence(1, 1)).unwrap();
        let said = format!("{:#}", journal.keep(record(2, &long)).unwrap_err());
        assert!(said.contains("journal.next"), "{said}");
        journal.keep_fence(fence(1, 2)).unwrap_err();
        assert_eq!(journal.fence(), fence(1, 1));
        fs::rename(&away, &own).unwrap();
        journal.keep_fence(fence(1, 2)).unwrap();
        let found = Journal::open(&path).unwrap();
        assert_eq!(found.fence(), fence(1, 2));
        assert_eq!(found.records(), [record(1, &long), record(2, &long)]);
    }

    #[test]
    fn the_entry_that_was_being_written_as_the_machine_died_was_not_kept() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("journal");
        let journal = opened(&folder);
        journal.keep_fence(fence(2, 1)).unwrap();
        let begin = fs::read(&path).unwrap();
        // Longer than a block.
        let kept = record(1, &"word ".repeat(1_200));
        journal.keep(Arc::clone(&kept)).unwrap();
        let end = fs::read(&path).unwrap();
        let (from, to) = {
            let mut differing = (0..end.len()).filter(|&at| begin[at] != end[at]);
            (differing.next().unwrap(), differing.next_back().unwrap() + 1)
        };
        assert!(to - from > BLOCK && from.is_multiple_of(BLOCK));
        for at in (from..to).step_by(397).chain([from + 1, to - 1, to]) {
            // What comes first on the disk may come last, too.
            for torn in [[&end[..at], &begin[at..]].concat(), [&begin[..at], &end[at..]].concat()] {
                fs::write(&path, &torn).unwrap();
                let found = opened(&folder);
                assert_eq!(found.fence(), fence(2, 1));
                let is_whole = torn == end;
                assert_eq!(found.records().len(), usize::from(is_whole), "{at} in {from}..{to}");
                found.keep(record(2, "2")).unwrap();
                let found = opened(&folder).records().into_iter().map(|it| it.task.incarnation.0);
                assert_eq!(found.last(), Some(2));
            }
        }
    }

    #[test]
    fn where_the_machine_died_while_all_was_written_anew_what_was_before_holds() {
        let folder = TempDir::new().unwrap();
        opened(&folder).keep(record(1, "1")).unwrap();
        fs::write(folder.path().join("journal.next"), "half of").unwrap();
        assert_eq!(opened(&folder).records(), [record(1, "1")]);
        fs::remove_file(folder.path().join("journal.next")).unwrap();
        assert_eq!(opened(&folder).records(), [record(1, "1")]);
        assert!(folder.path().join("journal.next").exists());
    }

    #[test]
    fn damage_is_no_torn_entry() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("journal");
        let journal = opened(&folder);
        for number in 1..4 {
            journal.keep(record(number, "1")).unwrap();
        }
        journal.keep_fence(fence(2, 1)).unwrap();
        let whole = fs::read(&path).unwrap();
        let refused = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            format!("{:#}", Journal::open(&path).unwrap_err())
        };
        let last = 4 * BLOCK;
        for at in (0..last).filter(|&at| whole[at] != 0).step_by(29) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            let said = refused(&bytes);
            assert!(said.contains("damaged") && said.contains("start anew"), "{at}: {said}");
        }
        // Also where it is the last ones, all of them.
        let mut bytes = whole.clone();
        for block in 2..5 {
            bytes[block * BLOCK + 30] ^= 1;
        }
        assert!(refused(&bytes).contains("damaged"));
        for bytes in [Vec::new(), vec![0; 4096]] {
            assert!(refused(&bytes).contains("damaged"));
        }
        let of_another = r#"{"Weather":"fine"}"#;
        let line = format!("{:016x} {of_another}\n", xxh3_64(of_another.as_bytes()));
        let said = refused(&[&whole[..5 * BLOCK], line.as_bytes()].concat());
        assert!(said.contains("this version cannot read it"), "{said}");
    }
}
