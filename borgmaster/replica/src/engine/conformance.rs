//! What every engine must do, as functions that take one: both engines' tests run them all.

use super::{Engine, StorageError};
use crate::types::{Entry, EntryKind, HardState, Loaded, Members, Snapshot, Write};

/// An engine under test.
pub trait Subject {
    /// The engine.
    type Engine: Engine;
    /// An engine on the same storage; the one before is closed.
    fn reopen(&mut self) -> Result<(), StorageError>;
    /// The engine that is open.
    fn engine(&mut self) -> &mut Self::Engine;
}

fn entry(index: u64, term: u64) -> Entry {
    let data = vec![u8::try_from(index % 251).unwrap_or_default(); 20];
    Entry { index, term, kind: EntryKind::Normal, data, context: Vec::new() }
}

fn entries(range: std::ops::RangeInclusive<u64>, term: u64) -> Vec<Entry> {
    range.map(|index| entry(index, term)).collect()
}

fn snapshot(index: u64, term: u64, byte_count: usize) -> Snapshot {
    let members = Members { voters: vec![1, 2, 3], ..Members::default() };
    let bytes = (0..byte_count).map(|i| u8::try_from(i % 241).unwrap_or_default());
    Snapshot { index, term, members, data: bytes.collect() }
}

fn put<S: Subject>(subject: &mut S, write: &Write) {
    subject.engine().write(write).expect("it is written");
    subject.engine().sync().expect("it is synced");
}

fn load<S: Subject>(subject: &mut S) -> Loaded {
    let here = subject.engine().load().expect("it loads");
    subject.reopen().expect("it opens again");
    let again = subject.engine().load().expect("it loads after it was opened again");
    assert_eq!(here, again);
    again
}

/// A new engine holds nothing.
pub fn begins_empty<S: Subject>(subject: &mut S) {
    assert!(load(subject).is_empty());
}

/// What is appended is there, in order, with the hard state; a later append replaces a suffix.
pub fn appends_and_overwrites<S: Subject>(subject: &mut S) {
    let hard_state = HardState { term: 2, vote: 1, commit: 3 };
    let write = Write {
        entries: entries(1..=9, 1),
        hard_state: Some(hard_state),
        must_sync: true,
        ..Write::default()
    };
    put(subject, &write);
    assert_eq!(load(subject).entries, entries(1..=9, 1));
    put(subject, &Write { entries: entries(5..=6, 2), ..Write::default() });
    let loaded = load(subject);
    let expected: Vec<Entry> = entries(1..=4, 1).into_iter().chain(entries(5..=6, 2)).collect();
    assert_eq!((loaded.entries, loaded.hard_state), (expected, hard_state));
}

/// A checkpoint takes the place of the log before it; entries after it stay, and so does a kept suffix.
pub fn checkpoints_compact<S: Subject>(subject: &mut S) {
    let hard_state = Some(HardState { term: 1, vote: 0, commit: 20 });
    put(subject, &Write { entries: entries(1..=20, 1), hard_state, ..Write::default() });
    let checkpoint = snapshot(15, 1, 3_000_000);
    let write = Write {
        snapshot: Some(checkpoint.clone()),
        compact_below: Some(11),
        must_sync: true,
        ..Write::default()
    };
    put(subject, &write);
    let loaded = load(subject);
    assert_eq!(loaded.entries, entries(11..=20, 1));
    assert_eq!(loaded.snapshot, checkpoint);
}

/// A snapshot from elsewhere, beyond the log, replaces it whole.
pub fn installed_snapshots_replace_the_log<S: Subject>(subject: &mut S) {
    put(subject, &Write { entries: entries(1..=5, 1), ..Write::default() });
    let installed = snapshot(50, 3, 10);
    let write = Write {
        snapshot: Some(installed.clone()),
        hard_state: Some(HardState { term: 3, vote: 0, commit: 50 }),
        compact_below: Some(51),
        must_sync: true,
        ..Write::default()
    };
    put(subject, &write);
    put(subject, &Write { entries: entries(51..=52, 3), ..Write::default() });
    let loaded = load(subject);
    assert_eq!((loaded.snapshot, loaded.entries), (installed, entries(51..=52, 3)));
}

/// Many snapshots, one after the other, leave the newest.
pub fn the_newest_snapshot_counts<S: Subject>(subject: &mut S) {
    let hard_state = Some(HardState { term: 1, vote: 0, commit: 40 });
    put(subject, &Write { entries: entries(1..=40, 1), hard_state, ..Write::default() });
    for index in [10, 20, 30] {
        let size = usize::try_from(40 - index).unwrap_or_default() * 100_000;
        let snapshot = Some(snapshot(index, 1, size));
        put(subject, &Write { snapshot, compact_below: Some(index + 1), ..Write::default() });
    }
    let loaded = load(subject);
    assert_eq!(loaded.snapshot, snapshot(30, 1, 1_000_000));
    assert_eq!(loaded.entries, entries(31..=40, 1));
}

/// A log with a gap is refused.
pub fn gaps_are_refused<S: Subject>(subject: &mut S) {
    put(subject, &Write { entries: entries(1..=3, 1), ..Write::default() });
    put(subject, &Write { entries: entries(5..=6, 1), ..Write::default() });
    let error = subject.engine().load().expect_err("there is a gap");
    assert!(matches!(error, StorageError::Corrupt { .. }), "{error}");
}

/// A log that ends before what was committed is refused: something was lost.
pub fn lost_ends_are_refused<S: Subject>(subject: &mut S) {
    let hard_state = Some(HardState { term: 1, vote: 0, commit: 7 });
    put(subject, &Write { entries: entries(1..=3, 1), hard_state, ..Write::default() });
    let error = subject.engine().load().expect_err("entries are missing");
    assert!(matches!(error, StorageError::Corrupt { .. }), "{error}");
}
