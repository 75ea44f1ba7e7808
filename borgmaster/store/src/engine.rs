//! The engine.
//!
//! Families: `log` has the entries by index; `state` the number of the format, the hard state, and the index
//! and size of the newest snapshot; `snapshot` its parts. The parts of a new snapshot are written beside the
//! old ones, and the write that makes it the newest takes the old ones away.

use std::path::{Path, PathBuf};

use borgmaster_replica::engine::record::{self, FORMAT, assemble, open, seal};
use borgmaster_replica::engine::{Engine, StorageError};
use borgmaster_replica::{Entry, HardState, Loaded, Members, Snapshot, Write};
use rocksdb::{ColumnFamily, ColumnFamilyDescriptor, DB, Direction, IteratorMode, WriteBatch};
use serde::{Deserialize, Serialize};

use crate::fault::classify;
use crate::options::{self, FAMILIES, LOG, SNAPSHOT, STATE};

/// The size of a part of a snapshot.
const PART_BYTE_COUNT: usize = 1 << 20;

const FORMAT_KEY: &str = "format";
const HARD_STATE_KEY: &str = "hard state";
const SNAPSHOT_KEY: &str = "snapshot";

/// What there is to know of the newest snapshot without its data.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Meta {
    index: u64,
    term: u64,
    members: Members,
    part_count: u32,
    byte_count: u64,
}

/// A replica's storage in RocksDB.
#[derive(Debug)]
pub struct RocksEngine {
    folder: PathBuf,
    /// `None`: it failed, and is opened again with the next write.
    open: Option<Open>,
}

/// What is kept of an open database.
#[derive(Debug)]
struct Open {
    db: DB,
    /// The first and the last entry of the log.
    bounds: Option<(u64, u64)>,
    /// The index of the newest snapshot.
    snapshot: Option<u64>,
}

fn part_key(index: u64, part: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&index.to_be_bytes());
    key[8..].copy_from_slice(&part.to_be_bytes());
    key
}

impl RocksEngine {
    /// Opens the storage in a folder; makes it where there is none.
    ///
    /// # Errors
    /// If it is in use, damaged, of a newer version, or the disk fails.
    pub fn open(folder: &Path) -> Result<Self, StorageError> {
        let open = Open::new(folder)?;
        Ok(Self { folder: folder.to_owned(), open: Some(open) })
    }

    fn ready(&mut self) -> Result<&mut Open, StorageError> {
        let open = match self.open.take() {
            Some(open) => open,
            None => Open::new(&self.folder)?,
        };
        Ok(self.open.insert(open))
    }

    /// RocksDB refuses everything after a failed write; it is closed, and opened again when there is
    /// something to write.
    fn settle<T>(&mut self, result: Result<T, rocksdb::Error>) -> Result<T, StorageError> {
        result.map_err(|error| {
            self.open = None;
            classify(&self.folder, &error)
        })
    }
}

impl Engine for RocksEngine {
    fn load(&mut self) -> Result<Loaded, StorageError> {
        let folder = self.folder.clone();
        self.ready()?.load(&folder)
    }

    fn write(&mut self, write: &Write) -> Result<(), StorageError> {
        let result = self.ready()?.write(write);
        self.settle(result)
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        let result = self.ready()?.db.flush_wal(true);
        self.settle(result)
    }
}

impl Open {
    fn new(folder: &Path) -> Result<Self, StorageError> {
        let fault = |error: rocksdb::Error| classify(folder, &error);
        let options = options::of_database();
        let is_new = !folder.join("CURRENT").exists();
        let mut names: Vec<String> = FAMILIES.iter().map(ToString::to_string).collect();
        if !is_new {
            // A newer version may have more: it is refused below, by its format.
            for name in DB::list_cf(&options, folder).map_err(fault)? {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        let families =
            names.iter().map(|name| ColumnFamilyDescriptor::new(name, options::of_family(name)));
        let db = DB::open_cf_descriptors(&options, folder, families).map_err(fault)?;
        let mut open = Self { db, bounds: None, snapshot: None };
        open.check_format(folder)?;
        open.survey(folder)?;
        Ok(open)
    }

    fn family(&self, name: &str) -> &ColumnFamily {
        self.db.cf_handle(name).expect("it was opened with all families")
    }

    fn check_format(&self, folder: &Path) -> Result<(), StorageError> {
        let fault = |error: rocksdb::Error| classify(folder, &error);
        let place = folder.display().to_string();
        let state = self.family(STATE);
        match self.db.get_cf(state, FORMAT_KEY).map_err(fault)? {
            Some(bytes) => {
                let bytes = bytes.as_slice().try_into().map_err(|_| StorageError::Corrupt {
                    place: place.clone(),
                    what: "the number of the format is not one".to_owned(),
                })?;
                let found = u32::from_le_bytes(bytes);
                if found > FORMAT {
                    return Err(StorageError::TooNew { place, found, supported: FORMAT });
                }
                Ok(())
            }
            None => {
                self.db.put_cf(state, FORMAT_KEY, FORMAT.to_le_bytes()).map_err(fault)?;
                self.db.flush_wal(true).map_err(fault)
            }
        }
    }

    /// Finds the ends of the log, and drops parts of snapshots that never became the newest.
    fn survey(&mut self, folder: &Path) -> Result<(), StorageError> {
        let fault = |error: rocksdb::Error| classify(folder, &error);
        let end = |mode| -> Result<Option<u64>, StorageError> {
            let Some(item) = self.db.iterator_cf(self.family(LOG), mode).next() else {
                return Ok(None);
            };
            let (key, _) = item.map_err(fault)?;
            Ok(Some(index_of(folder, &key)?))
        };
        self.bounds = end(IteratorMode::Start)?.zip(end(IteratorMode::End)?);
        let meta = self.meta(folder)?;
        let parts = self.family(SNAPSHOT);
        let mut batch = WriteBatch::default();
        let index = meta.as_ref().map_or(0, |meta| meta.index);
        batch.delete_range_cf(parts, part_key(0, 0), part_key(index, 0));
        batch.delete_range_cf(parts, part_key(index + 1, 0), part_key(u64::MAX, u32::MAX));
        let mut orphans = self.db.iterator_cf(parts, IteratorMode::Start).filter_map(Result::ok);
        if orphans.any(|(key, _)| !key.starts_with(&index.to_be_bytes())) {
            self.db.write(batch).map_err(fault)?;
        }
        self.snapshot = meta.map(|meta| meta.index);
        Ok(())
    }

    fn meta(&self, folder: &Path) -> Result<Option<Meta>, StorageError> {
        self.record(folder, SNAPSHOT_KEY)
    }

    fn record<T: serde::de::DeserializeOwned>(
        &self,
        folder: &Path,
        key: &str,
    ) -> Result<Option<T>, StorageError> {
        let bytes = self.db.get_cf(self.family(STATE), key);
        let bytes = bytes.map_err(|error| classify(folder, &error))?;
        bytes
            .as_deref()
            .map(record::open)
            .transpose()
            .map_err(|what| corrupt(folder, format!("the {key}: {what}")))
    }

    fn load(&self, folder: &Path) -> Result<Loaded, StorageError> {
        let fault = |error: rocksdb::Error| classify(folder, &error);
        let hard_state: Option<HardState> = self.record(folder, HARD_STATE_KEY)?;
        let snapshot = match self.meta(folder)? {
            Some(meta) => Some(self.snapshot(folder, meta)?),
            None => None,
        };
        let mut entries: Vec<Entry> = Vec::new();
        // From the first one that is there: before it may be many that are deleted and not yet gone.
        let first = self.bounds.map_or(0, |(first, _)| first).to_be_bytes();
        let mode = IteratorMode::From(&first, Direction::Forward);
        for item in self.db.iterator_cf(self.family(LOG), mode) {
            let (key, value) = item.map_err(fault)?;
            let index = index_of(folder, &key)?;
            let entry: Entry =
                open(&value).map_err(|what| corrupt(folder, format!("entry {index}: {what}")))?;
            if entry.index != index {
                let what = format!("entry {index}: it says that it is entry {}", entry.index);
                return Err(corrupt(folder, what));
            }
            entries.push(entry);
        }
        assemble(&folder.display().to_string(), hard_state, snapshot, entries)
    }

    fn snapshot(&self, folder: &Path, meta: Meta) -> Result<Snapshot, StorageError> {
        let Meta { index, term, members, part_count, byte_count } = meta;
        let family = self.family(SNAPSHOT);
        let mut data = Vec::with_capacity(usize::try_from(byte_count).unwrap_or_default());
        for number in 0..part_count {
            let part = self.db.get_cf(family, part_key(index, number));
            let part = part.map_err(|error| classify(folder, &error))?;
            let wrong = |what: &str| {
                let what = format!("part {number} of the snapshot at {index}: {what}");
                corrupt(folder, what)
            };
            let part = part.ok_or_else(|| wrong("it is missing"))?;
            let part: Vec<u8> = open(&part).map_err(|what| wrong(&what))?;
            data.extend(part);
        }
        if data.len() as u64 != byte_count {
            let what = format!("the snapshot at {index} has {} bytes", data.len());
            return Err(corrupt(folder, format!("{what}, not {byte_count}")));
        }
        Ok(Snapshot { index, term, members, data })
    }

    fn write(&mut self, write: &Write) -> Result<(), rocksdb::Error> {
        let Write { number: _, snapshot, entries, hard_state, compact_below, must_sync: _ } = write;
        let (log, state) = (self.family(LOG), self.family(STATE));
        let mut batch = WriteBatch::default();
        let mut bounds = self.bounds;
        let drop_range = |batch: &mut WriteBatch, from: u64, to: u64| {
            batch.delete_range_cf(log, from.to_be_bytes(), to.to_be_bytes());
        };
        if let Some(snapshot) = snapshot {
            self.write_snapshot(&mut batch, snapshot)?;
            // A snapshot that the log does not reach replaces it.
            if let Some((first, last)) = bounds
                && !(first..=last).contains(&snapshot.index)
            {
                drop_range(&mut batch, first, last + 1);
                bounds = None;
            }
        }
        if let (Some(new), Some((first, last))) = (entries.first(), bounds)
            && new.index <= last
        {
            drop_range(&mut batch, new.index, last + 1);
            bounds = (new.index > first).then(|| (first, new.index - 1));
        }
        for entry in entries {
            batch.put_cf(log, entry.index.to_be_bytes(), seal(entry));
            let first = bounds.map_or(entry.index, |(first, _)| first);
            bounds = Some((first, entry.index));
        }
        if let Some(hard_state) = hard_state {
            batch.put_cf(state, HARD_STATE_KEY, seal(hard_state));
        }
        if let (Some(below), Some((first, last))) = (*compact_below, bounds)
            && below > first
        {
            drop_range(&mut batch, first, below.min(last + 1));
            bounds = (below <= last).then_some((below, last));
        }
        self.db.write(batch)?;
        self.bounds = bounds;
        if let Some(snapshot) = snapshot {
            self.snapshot = Some(snapshot.index);
        }
        Ok(())
    }

    /// Writes the parts beside those of the snapshot before; the batch puts them in its place.
    fn write_snapshot(
        &self,
        batch: &mut WriteBatch,
        snapshot: &Snapshot,
    ) -> Result<(), rocksdb::Error> {
        let family = self.family(SNAPSHOT);
        let is_beside = self.snapshot != Some(snapshot.index);
        let mut part_count = 0;
        for part in snapshot.data.chunks(PART_BYTE_COUNT) {
            let key = part_key(snapshot.index, part_count);
            if is_beside {
                self.db.put_cf(family, key, seal(&part))?;
            } else {
                batch.put_cf(family, key, seal(&part));
            }
            part_count += 1;
        }
        let meta = Meta {
            index: snapshot.index,
            term: snapshot.term,
            members: snapshot.members.clone(),
            part_count,
            byte_count: snapshot.data.len() as u64,
        };
        batch.put_cf(self.family(STATE), SNAPSHOT_KEY, seal(&meta));
        if let Some(old) = self.snapshot.filter(|_| is_beside) {
            batch.delete_range_cf(family, part_key(old, 0), part_key(old + 1, 0));
        }
        Ok(())
    }
}

fn corrupt(folder: &Path, what: String) -> StorageError {
    StorageError::Corrupt { place: folder.display().to_string(), what }
}

fn index_of(folder: &Path, key: &[u8]) -> Result<u64, StorageError> {
    let key = key.try_into().map_err(|_| corrupt(folder, "a key of the log".to_owned()))?;
    Ok(u64::from_be_bytes(key))
}
