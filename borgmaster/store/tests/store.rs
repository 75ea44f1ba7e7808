//! RocksDB does what every engine must, and says what is wrong where something is.

#![allow(clippy::unwrap_used, reason = "tests")]

mod mount;

use std::fs;
use std::path::{Path, PathBuf};

use borgmaster_replica::engine::{Engine, StorageError, conformance};
use borgmaster_replica::{Entry, HardState, Snapshot, Write};
use borgmaster_store::RocksEngine;
use tempfile::TempDir;

use crate::mount::Mount;

struct OnDisk {
    folder: TempDir,
    engine: Option<RocksEngine>,
}

impl Default for OnDisk {
    fn default() -> Self {
        let folder = TempDir::new().unwrap();
        let engine = RocksEngine::open(folder.path()).unwrap();
        Self { folder, engine: Some(engine) }
    }
}

impl conformance::Subject for OnDisk {
    type Engine = RocksEngine;

    fn reopen(&mut self) -> Result<(), StorageError> {
        self.engine = None;
        self.engine = Some(RocksEngine::open(self.folder.path())?);
        Ok(())
    }

    fn engine(&mut self) -> &mut RocksEngine {
        self.engine.as_mut().unwrap()
    }
}

#[test]
fn rocksdb_conforms() {
    conformance::begins_empty(&mut OnDisk::default());
    conformance::appends_and_overwrites(&mut OnDisk::default());
    conformance::checkpoints_compact(&mut OnDisk::default());
    conformance::installed_snapshots_replace_the_log(&mut OnDisk::default());
    conformance::the_newest_snapshot_counts(&mut OnDisk::default());
    conformance::gaps_are_refused(&mut OnDisk::default());
    conformance::lost_ends_are_refused(&mut OnDisk::default());
}

fn entries(range: std::ops::RangeInclusive<u64>, byte_count: usize) -> Write {
    let mut noise: u32 = 1;
    let entry = |index| {
        let data = (0..byte_count).map(|_| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            noise.to_be_bytes()[0]
        });
        Entry { index, term: 1, data: data.collect(), ..Entry::default() }
    };
    Write { entries: range.map(entry).collect(), ..Write::default() }
}

fn put(engine: &mut RocksEngine, write: &Write) {
    engine.write(write).unwrap();
    engine.sync().unwrap();
}

fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|it| it == end)).collect()
}

#[test]
fn a_damaged_write_ahead_log_is_refused_by_its_name() {
    let folder = TempDir::new().unwrap();
    let mut engine = RocksEngine::open(folder.path()).unwrap();
    for i in 1..=20 {
        put(&mut engine, &entries(i..=i, 10_000));
    }
    drop(engine);
    let logs = files(folder.path(), "log");
    let log = logs.iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(log).unwrap();
    assert!(bytes.len() > 200_000, "the entries are in there");
    bytes[100_000] ^= 1;
    fs::write(log, &bytes).unwrap();
    let error = RocksEngine::open(folder.path()).unwrap_err();
    assert!(matches!(error, StorageError::Corrupt { .. }), "{error}");
    let name = log.file_name().unwrap().to_str().unwrap();
    let text = error.to_string();
    assert!(text.contains(name) && text.contains("replicas add"), "{text} does not name {name}");
    // Nobody is to remove that file alone.
    assert!(text.starts_with(folder.path().to_str().unwrap()), "{text}");
    assert!(!text.starts_with(log.to_str().unwrap()), "{text}");
}

#[test]
fn a_torn_tail_is_dropped() {
    let folder = TempDir::new().unwrap();
    let mut engine = RocksEngine::open(folder.path()).unwrap();
    put(&mut engine, &entries(1..=1, 1_000));
    engine.write(&entries(2..=2, 5_000)).unwrap();
    drop(engine);
    let logs = files(folder.path(), "log");
    let log = logs.iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let length = fs::metadata(log).unwrap().len();
    fs::OpenOptions::new().write(true).open(log).unwrap().set_len(length - 2_500).unwrap();
    let loaded = RocksEngine::open(folder.path()).unwrap().load().unwrap();
    assert_eq!(loaded.entries, entries(1..=1, 1_000).entries);
}

#[test]
fn a_newer_format_is_refused() {
    let folder = TempDir::new().unwrap();
    drop(RocksEngine::open(folder.path()).unwrap());
    let families = ["default", "log", "state", "snapshot"];
    let options = rocksdb::Options::default();
    let db = rocksdb::DB::open_cf(&options, folder.path(), families).unwrap();
    db.put_cf(db.cf_handle("state").unwrap(), "format", 7_u32.to_le_bytes()).unwrap();
    drop(db);
    let error = RocksEngine::open(folder.path()).unwrap_err();
    assert!(matches!(error, StorageError::TooNew { found: 7, .. }), "{error}");
}

#[test]
fn a_folder_in_use_is_refused() {
    let folder = TempDir::new().unwrap();
    let _engine = RocksEngine::open(folder.path()).unwrap();
    let error = RocksEngine::open(folder.path()).unwrap_err();
    assert!(matches!(error, StorageError::Locked { .. }), "{error}");
}

#[test]
fn what_is_dropped_gives_its_room_back() {
    let folder = TempDir::new().unwrap();
    let mut engine = RocksEngine::open(folder.path()).unwrap();
    let mut most = 0;
    // 400 MB of log in all, of which the last 2 MB are kept, and snapshots of 3 MB.
    for round in 0..400_u64 {
        let mut write = entries(round * 10 + 1..=round * 10 + 10, 100_000);
        write.hard_state = Some(HardState { term: 1, vote: 1, commit: round * 10 });
        if round % 20 == 19 {
            let index = round * 10;
            let data = vec![u8::try_from(round % 256).unwrap(); 3_000_000];
            write.snapshot = Some(Snapshot { index, term: 1, data, ..Snapshot::default() });
            write.compact_below = Some(index - 10);
        }
        engine.write(&write).unwrap();
        if round % 20 == 0 {
            let sizes = fs::read_dir(folder.path()).unwrap().filter_map(|entry| {
                // Files come and go meanwhile.
                entry.ok()?.metadata().ok().map(|meta| meta.len())
            });
            most = sizes.sum::<u64>().max(most);
        }
    }
    engine.sync().unwrap();
    assert!(most < 250 << 20, "the folder grew to {most} bytes");
    drop(engine);
    let loaded = RocksEngine::open(folder.path()).unwrap().load().unwrap();
    assert_eq!(loaded.snapshot.index, 3990);
    assert_eq!(loaded.entries.first().map(|entry| entry.index), Some(3980));
}

#[test]
fn a_full_disk_is_told_and_used_again_when_there_is_room() {
    let Some(mount) = Mount::new(48) else { return };
    let path = mount.path();
    let mut engine = RocksEngine::open(&path.join("db")).unwrap();
    put(&mut engine, &entries(1..=10, 1_000));
    mount.fill();
    let mut next = 11;
    let error = loop {
        assert!(next < 10_000, "the disk never gets full");
        let write = entries(next..=next, 100_000);
        match engine.write(&write).and_then(|()| engine.sync()) {
            Ok(()) => next += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StorageError::Full { .. }), "{error}");
    let error = engine.write(&entries(next..=next, 100_000)).and_then(|()| engine.sync());
    assert!(matches!(error, Err(StorageError::Full { .. })), "{error:?}");
    mount.empty();
    put(&mut engine, &entries(next..=next, 100_000));
    drop(engine);
    let loaded = RocksEngine::open(&path.join("db")).unwrap().load().unwrap();
    assert_eq!(loaded.entries.len() as u64, next);
}
