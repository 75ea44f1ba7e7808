//! The engine in memory does what every engine must.

use borgmaster_replica::engine::memory::MemoryEngine;
use borgmaster_replica::engine::{Engine, StorageError, conformance};
use borgmaster_replica::{Entry, Write};

#[derive(Default)]
struct Memory(MemoryEngine);

impl conformance::Subject for Memory {
    type Engine = MemoryEngine;

    fn reopen(&mut self) -> Result<(), StorageError> {
        self.0.crash(0);
        Ok(())
    }

    fn engine(&mut self) -> &mut MemoryEngine {
        &mut self.0
    }
}

#[test]
fn the_memory_engine_conforms() {
    conformance::begins_empty(&mut Memory::default());
    conformance::appends_and_overwrites(&mut Memory::default());
    conformance::checkpoints_compact(&mut Memory::default());
    conformance::installed_snapshots_replace_the_log(&mut Memory::default());
    conformance::the_newest_snapshot_counts(&mut Memory::default());
    conformance::gaps_are_refused(&mut Memory::default());
    conformance::lost_ends_are_refused(&mut Memory::default());
}

fn entries(indexes: &[u64]) -> Write {
    let entry = |&index: &u64| Entry { index, term: 1, ..Entry::default() };
    Write { entries: indexes.iter().map(entry).collect(), ..Write::default() }
}

#[test]
fn a_crash_loses_what_was_not_synced_and_a_full_disk_nothing() {
    let mut engine = MemoryEngine::default();
    engine.write(&entries(&[1])).unwrap();
    engine.sync().unwrap();
    engine.write(&entries(&[2])).unwrap();
    engine.write(&entries(&[3])).unwrap();
    engine.crash(1);
    assert_eq!(engine.load().unwrap().entries.len(), 2);
    engine.is_full = true;
    assert!(matches!(engine.write(&entries(&[3])), Err(StorageError::Full { .. })));
    engine.is_full = false;
    assert_eq!(engine.load().unwrap().entries.len(), 2);
    assert!(engine.rot(2));
    let error = engine.load().unwrap_err().to_string();
    assert!(error.contains("entry 2") && error.contains("replicas add"), "{error}");
}
