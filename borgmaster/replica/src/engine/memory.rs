//! The engine in memory, with faults: what was not synced can be lost, the disk can be full, bytes can rot.

use std::collections::BTreeMap;

use super::record::{assemble, open, seal};
use super::{Engine, StorageError};
use crate::types::{Entry, HardState, Loaded, Snapshot, Write};

/// A disk in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryEngine {
    /// What a crash leaves for certain.
    synced: Records,
    /// What is read, and written so far.
    current: Records,
    /// Each write since the last sync.
    since: Vec<Write>,
    /// Whether there is no space.
    pub is_full: bool,
}

#[derive(Clone, Debug, Default)]
struct Records {
    hard_state: Option<Vec<u8>>,
    snapshot: Option<Vec<u8>>,
    entries: BTreeMap<u64, Vec<u8>>,
}

impl Records {
    fn write(&mut self, write: &Write) {
        if let Some(snapshot) = &write.snapshot {
            // A snapshot that the log does not reach replaces it.
            if !self.entries.contains_key(&snapshot.index) {
                self.entries.clear();
            }
            self.snapshot = Some(seal(snapshot));
        }
        if let Some(first) = write.entries.first() {
            self.entries.split_off(&first.index);
        }
        for entry in &write.entries {
            self.entries.insert(entry.index, seal(entry));
        }
        if let Some(hard_state) = &write.hard_state {
            self.hard_state = Some(seal(hard_state));
        }
        if let Some(below) = write.compact_below {
            self.entries = self.entries.split_off(&below);
        }
    }
}

const PLACE: &str = "memory";

impl MemoryEngine {
    /// The process dies with the machine: of the writes since the last sync only so many are left, from the
    /// oldest on.
    pub fn crash(&mut self, surviving: usize) {
        for write in self.since.drain(..).take(surviving) {
            self.synced.write(&write);
        }
        self.current = self.synced.clone();
    }

    /// Number of writes since the last sync.
    #[must_use]
    pub fn unsynced_count(&self) -> usize {
        self.since.len()
    }

    /// Flips a bit in the record of an entry. False: there is no such entry.
    pub fn rot(&mut self, index: u64) -> bool {
        let mut is_there = false;
        for records in [&mut self.current, &mut self.synced] {
            if let Some(record) = records.entries.get_mut(&index) {
                let middle = record.len() / 2;
                record[middle] ^= 1;
                is_there = true;
            }
        }
        is_there
    }
}

impl Engine for MemoryEngine {
    fn load(&mut self) -> Result<Loaded, StorageError> {
        let corrupt = |what: String| StorageError::Corrupt { place: PLACE.to_owned(), what };
        let hard_state: Option<HardState> = self
            .current
            .hard_state
            .as_deref()
            .map(open)
            .transpose()
            .map_err(|what| corrupt(format!("the hard state: {what}")))?;
        let snapshot: Option<Snapshot> = self
            .current
            .snapshot
            .as_deref()
            .map(open)
            .transpose()
            .map_err(|what| corrupt(format!("the snapshot: {what}")))?;
        let mut entries: Vec<Entry> = Vec::new();
        for (index, record) in &self.current.entries {
            let entry = open(record).map_err(|what| corrupt(format!("entry {index}: {what}")))?;
            entries.push(entry);
        }
        assemble(PLACE, hard_state, snapshot, entries)
    }

    fn write(&mut self, write: &Write) -> Result<(), StorageError> {
        if self.is_full {
            return Err(StorageError::Full { place: PLACE.to_owned() });
        }
        self.current.write(write);
        self.since.push(write.clone());
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        for write in self.since.drain(..) {
            self.synced.write(&write);
        }
        Ok(())
    }
}
