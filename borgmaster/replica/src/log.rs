//! The log in memory, as raft reads it. While a replica runs this is the only source: the engine is read
//! when it starts.

use std::collections::VecDeque;
use std::sync::Arc;

use raft::eraftpb;
use raft::{GetEntriesContext, RaftState, Storage};

use crate::types::{HardState, Loaded, Members, Snapshot};

/// The log after the snapshot, and some of it before.
#[derive(Debug)]
pub(crate) struct Log {
    hard_state: HardState,
    members: Members,
    /// Without its data.
    snapshot: Snapshot,
    data: Arc<Vec<u8>>,
    /// Index and term of the entry before the first.
    before: (u64, u64),
    entries: VecDeque<eraftpb::Entry>,
    /// The size of the entries after the snapshot.
    byte_count: usize,
}

impl Log {
    pub(crate) fn new(loaded: Loaded) -> Self {
        let Loaded { hard_state, mut snapshot, entries } = loaded;
        let data = Arc::new(std::mem::take(&mut snapshot.data));
        let mut log = Self {
            hard_state,
            members: snapshot.members.clone(),
            before: (snapshot.index, snapshot.term),
            snapshot,
            data,
            entries: VecDeque::new(),
            byte_count: 0,
        };
        // What an engine kept below its snapshot is not needed for anything but slow followers.
        let entries: Vec<eraftpb::Entry> =
            entries.iter().filter(|entry| entry.index > log.before.0).map(Into::into).collect();
        log.append(&entries);
        log
    }

    pub(crate) fn members(&self) -> &Members {
        &self.members
    }

    pub(crate) fn set_members(&mut self, members: Members) {
        self.members = members;
    }

    pub(crate) fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    pub(crate) fn first(&self) -> u64 {
        self.before.0 + 1
    }

    pub(crate) fn last(&self) -> u64 {
        self.before.0 + self.entries.len() as u64
    }

    /// The size of the entries after the snapshot.
    pub(crate) fn byte_count(&self) -> usize {
        self.byte_count
    }

    pub(crate) fn snapshot_index(&self) -> u64 {
        self.snapshot.index
    }

    /// The newest snapshot's data.
    pub(crate) fn data(&self) -> Arc<Vec<u8>> {
        Arc::clone(&self.data)
    }

    /// Appends entries, in place of those from the first one's index on.
    pub(crate) fn append(&mut self, entries: &[eraftpb::Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(first.index >= self.first(), "entries below the snapshot never change");
        assert!(first.index <= self.last() + 1, "the log has no gap");
        while self.last() >= first.index {
            let dropped = self.entries.pop_back().expect("there is one");
            self.byte_count -= size(&dropped);
        }
        self.byte_count += entries.iter().map(size).sum::<usize>();
        self.entries.extend(entries.iter().cloned());
    }

    /// Replaces everything by a snapshot.
    pub(crate) fn reset(&mut self, snapshot: &Snapshot) {
        self.data = Arc::new(snapshot.data.clone());
        self.snapshot = Snapshot { data: Vec::new(), ..snapshot.clone() };
        self.members = snapshot.members.clone();
        self.before = (snapshot.index, snapshot.term);
        self.entries.clear();
        self.byte_count = 0;
        self.hard_state.commit = self.hard_state.commit.max(snapshot.index);
    }

    /// Takes a snapshot of what was applied up to an index, and forgets entries below another.
    pub(crate) fn compact(&mut self, snapshot: &Snapshot, below: u64) {
        self.data = Arc::new(snapshot.data.clone());
        self.snapshot = Snapshot { data: Vec::new(), ..snapshot.clone() };
        while self.first() < below {
            let Some(dropped) = self.entries.pop_front() else { break };
            self.before = (dropped.index, dropped.term);
        }
        self.byte_count = self.range(snapshot.index + 1, u64::MAX).map(size).sum();
    }

    /// The entries in a range of indexes, as far as they are there.
    pub(crate) fn range(&self, from: u64, to: u64) -> impl Iterator<Item = &eraftpb::Entry> {
        let skipped = usize::try_from(from.saturating_sub(self.first())).unwrap_or(usize::MAX);
        let entries = self.entries.iter().skip(skipped);
        entries.take_while(move |entry| entry.index < to)
    }

    pub(crate) fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.before.0 {
            return Some(self.before.1);
        }
        if index == self.snapshot.index {
            return Some(self.snapshot.term);
        }
        let at = index.checked_sub(self.first())?;
        self.entries.get(usize::try_from(at).ok()?).map(|entry| entry.term)
    }
}

fn size(entry: &eraftpb::Entry) -> usize {
    // What an entry takes beside its payload.
    64 + entry.data.len() + entry.context.len()
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState { hard_state: (&self.hard_state).into(), conf_state: (&self.members).into() })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<eraftpb::Entry>> {
        if low < self.first() {
            return Err(raft::Error::Store(raft::StorageError::Compacted));
        }
        assert!(high <= self.last() + 1, "entries up to {high}, there are {}", self.last());
        let skipped = usize::try_from(low - self.first()).expect("it is in memory");
        let count = usize::try_from(high - low).expect("it is in memory");
        let entries = self.entries.iter().skip(skipped).take(count);
        let Some(max) = max_size.into() else { return Ok(entries.cloned().collect()) };
        let mut taken = Vec::new();
        let mut sum = 0;
        for entry in entries {
            sum += size(entry) as u64;
            if sum > max && !taken.is_empty() {
                break;
            }
            taken.push(entry.clone());
        }
        Ok(taken)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let missing = if index < self.first() {
            raft::StorageError::Compacted
        } else {
            raft::StorageError::Unavailable
        };
        self.term_of(index).ok_or(raft::Error::Store(missing))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    /// Without its data, which travels by itself. Who joined after it was taken would not take it.
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<eraftpb::Snapshot> {
        if self.snapshot.index < request_index || !self.snapshot.members.contains(to) {
            return Err(raft::Error::Store(raft::StorageError::SnapshotTemporarilyUnavailable));
        }
        let mut raw = eraftpb::Snapshot::default();
        let meta = raw.mut_metadata();
        meta.index = self.snapshot.index;
        meta.term = self.snapshot.term;
        meta.set_conf_state((&self.snapshot.members).into());
        Ok(raw)
    }
}
