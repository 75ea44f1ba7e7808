//! What a borglet finds again even where the machine died: the highest fence that it accepted, and the tasks that it
//! was about to start, each kept by one write to the disk.
//!
//! A file of lines, `CHECKSUM ENTRY`, with room behind them: as it keeps its size, nothing but what is written has to
//! be synced. Where there is no room left, and whenever it is opened, it is written anew with what holds. Each entry is
//! on disk before the next is written, so that all but the last are whole where the machine dies.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, ensure};
use cell::borglet::{Fence, Incarnation};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::folder::{Record, sync_folder};

/// The room for entries, at least; about 2,000 starts.
const BYTES_MIN: usize = 1 << 20;

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

impl Entry {
    fn line(&self) -> anyhow::Result<Vec<u8>> {
        let text = serde_json::to_string(self)?;
        Ok(format!("{:016x} {text}\n", xxh3_64(text.as_bytes())).into_bytes())
    }

    /// `None` if it was written in part only.
    fn read(line: &[u8]) -> Option<Self> {
        let (checksum, text) = line.split_at_checked(17)?;
        let is_whole = checksum == format!("{:016x} ", xxh3_64(text)).as_bytes();
        is_whole.then(|| serde_json::from_slice(text).ok()).flatten()
    }
}

impl Kept {
    /// From what is in a file; `None` if anything but its last entry is damaged.
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut kept = Self { fence: Fence::default(), records: BTreeMap::new(), file: None };
        let mut is_first = true;
        let mut is_torn = false;
        for line in bytes.split(|&byte| byte == b'\n') {
            match Entry::read(line) {
                Some(_) if is_torn => return None,
                Some(entry) => kept.take(entry),
                // Of the first there is nothing before that could be relied upon.
                None if is_first => return None,
                None => is_torn = true,
            }
            is_first = false;
        }
        Some(kept)
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

    /// Writes the file anew.
    fn write(&mut self, path: &Path) -> anyhow::Result<()> {
        let words = || format!("{}", path.display());
        let mut bytes = Entry::Fence(self.fence).line()?;
        for record in self.records.values() {
            bytes.extend(Entry::Record(Arc::clone(record)).line()?);
        }
        let at = bytes.len();
        bytes.resize((2 * at).max(BYTES_MIN), 0);
        let draft = path.with_extension("draft");
        let mut file = File::create(&draft).with_context(words)?;
        file.write_all(&bytes).with_context(words)?;
        file.sync_all().with_context(words)?;
        std::fs::rename(&draft, path).with_context(words)?;
        sync_folder(path.parent().unwrap_or(path))?;
        self.file = Some(Room { file, at, byte_count: bytes.len() });
        Ok(())
    }

    /// Writes an entry after the others, or all that holds where there is no room, which has the entry in it.
    fn keep(&mut self, path: &Path, entry: &Entry) -> anyhow::Result<()> {
        let line = entry.line()?;
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
        let found = if path.try_exists().with_context(words)? {
            Kept::read(&std::fs::read(path).with_context(words)?)
        } else {
            Kept::read(&Entry::Fence(Fence::default()).line()?)
        };
        ensure!(
            found.is_some(),
            "{} is damaged: which masters were heard is not known. If none of this machine's tasks runs any more, \
             move the folder that it is in away and start anew",
            path.display()
        );
        let mut kept = found.with_context(words)?;
        kept.write(path)?;
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
    fn where_there_is_no_room_it_is_written_anew() {
        let folder = TempDir::new().unwrap();
        let journal = opened(&folder);
        let long = "x".repeat(100_000);
        for number in 0..50 {
            journal.keep(record(number, &long)).unwrap();
            if number >= 3 {
                journal.forget(Incarnation(number - 3)).unwrap();
            }
        }
        let size = std::fs::metadata(folder.path().join("journal")).unwrap().len();
        assert_eq!(size, BYTES_MIN as u64);
        assert_eq!(opened(&folder).records(), [47, 48, 49].map(|number| record(number, &long)));
        // Some do not fit into the usual room.
        let whole = record(50, &"x".repeat(2 * BYTES_MIN));
        journal.keep(Arc::clone(&whole)).unwrap();
        journal.keep_fence(fence(3, 3)).unwrap();
        let found = opened(&folder);
        assert_eq!((found.records().last(), found.fence()), (Some(&whole), fence(3, 3)));
    }

    #[test]
    fn the_entry_that_was_being_written_as_the_machine_died_was_not_kept() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("journal");
        let journal = opened(&folder);
        journal.keep_fence(fence(2, 1)).unwrap();
        let begin = std::fs::read(&path).unwrap();
        journal.keep(record(1, "1")).unwrap();
        let end = std::fs::read(&path).unwrap();
        let (from, to) = {
            let mut differing = (0..end.len()).filter(|&at| begin[at] != end[at]);
            (differing.next().unwrap(), differing.next_back().unwrap() + 1)
        };
        for at in (from..to).step_by(7).chain([to]) {
            // What comes first on the disk may come last, too.
            for torn in [[&end[..at], &begin[at..]].concat(), [&begin[..at], &end[at..]].concat()] {
                std::fs::write(&path, &torn).unwrap();
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
    fn damage_is_no_torn_entry() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("journal");
        let journal = opened(&folder);
        journal.keep(record(1, "1")).unwrap();
        journal.keep_fence(fence(2, 1)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let lines = whole.iter().enumerate().filter(|&(_, &byte)| byte == b'\n');
        let ends: Vec<usize> = lines.map(|(at, _)| at).collect();
        assert_eq!(ends.len(), 3);
        for at in (0..ends[1]).step_by(9) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            let said = format!("{:#}", Journal::open(&path).unwrap_err());
            assert!(said.contains("damaged") && said.contains("start anew"), "{at}: {said}");
        }
        for bytes in [Vec::new(), vec![0; 4096]] {
            std::fs::write(&path, bytes).unwrap();
            Journal::open(&path).unwrap_err();
        }
    }
}
