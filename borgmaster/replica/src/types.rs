//! What a replica keeps and writes: plain data, without raft's own types.

use raft::eraftpb;
use serde::{Deserialize, Serialize};

/// An entry of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its index, from 1.
    pub index: u64,
    /// The term in which it was proposed.
    pub term: u64,
    /// What it is.
    pub kind: EntryKind,
    /// What it holds; empty for the entry with which a leader begins.
    pub data: Vec<u8>,
    /// For a change of replicas: their addresses, as the proposer gave them.
    pub context: Vec<u8>,
}

/// What an entry of the log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// For the state machine.
    #[default]
    Normal,
    /// A change of replicas.
    Membership,
}

/// What a replica must not forget beside its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardState {
    /// The highest term that it has seen.
    pub term: u64,
    /// Whom it voted for in that term; 0: nobody.
    pub vote: u64,
    /// Up to where the log is known to be committed.
    pub commit: u64,
}

/// Who takes part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// Who votes.
    pub voters: Vec<u64>,
    /// Who gets the log and does not vote.
    pub learners: Vec<u64>,
    /// During a joint change: who voted before.
    pub voters_outgoing: Vec<u64>,
    /// During a joint change: who will be a learner.
    pub learners_next: Vec<u64>,
    /// Whether a joint change ends by itself.
    pub auto_leave: bool,
}

impl Members {
    /// Whether a replica takes part.
    #[must_use]
    pub fn contains(&self, id: u64) -> bool {
        let Self { voters, learners, voters_outgoing, learners_next, .. } = self;
        [voters, learners, voters_outgoing, learners_next].iter().any(|ids| ids.contains(&id))
    }
}

/// A state of the state machine, in place of the log up to an index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The last index that it holds; 0: there is none.
    pub index: u64,
    /// The term of the entry there.
    pub term: u64,
    /// Who takes part as of then.
    pub members: Members,
    /// The state.
    pub data: Vec<u8>,
}

/// Something to be written, as a whole or not at all. Writes are numbered and go to disk in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Write {
    /// Its number.
    pub number: u64,
    /// Replaces the log up to its index, and all of it where it does not connect.
    pub snapshot: Option<Snapshot>,
    /// Replace everything in the log from the first one's index on.
    pub entries: Vec<Entry>,
    /// Replaces the one before.
    pub hard_state: Option<HardState>,
    /// Entries below this index may be dropped.
    pub compact_below: Option<u64>,
    /// Whether it has to be synced before anybody hears of it.
    pub must_sync: bool,
}

/// What an engine holds when it is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The hard state.
    pub hard_state: HardState,
    /// The newest snapshot; index 0: none.
    pub snapshot: Snapshot,
    /// The log, contiguous; it begins at or before the index after the snapshot.
    pub entries: Vec<Entry>,
}

impl Loaded {
    /// Whether nothing was ever written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl From<&eraftpb::Entry> for Entry {
    fn from(entry: &eraftpb::Entry) -> Self {
        let kind = match entry.get_entry_type() {
            eraftpb::EntryType::EntryNormal => EntryKind::Normal,
            eraftpb::EntryType::EntryConfChange | eraftpb::EntryType::EntryConfChangeV2 => {
                EntryKind::Membership
            }
        };
        Self {
            index: entry.index,
            term: entry.term,
            kind,
            data: entry.data.to_vec(),
            context: entry.context.to_vec(),
        }
    }
}

impl From<&Entry> for eraftpb::Entry {
    fn from(entry: &Entry) -> Self {
        let mut raw = Self::default();
        raw.set_entry_type(match entry.kind {
            EntryKind::Normal => eraftpb::EntryType::EntryNormal,
            EntryKind::Membership => eraftpb::EntryType::EntryConfChangeV2,
        });
        raw.index = entry.index;
        raw.term = entry.term;
        raw.data = entry.data.clone().into();
        raw.context = entry.context.clone().into();
        raw
    }
}

impl From<&eraftpb::HardState> for HardState {
    fn from(raw: &eraftpb::HardState) -> Self {
        Self { term: raw.term, vote: raw.vote, commit: raw.commit }
    }
}

impl From<&HardState> for eraftpb::HardState {
    fn from(state: &HardState) -> Self {
        let HardState { term, vote, commit } = *state;
        Self { term, vote, commit, ..Self::default() }
    }
}

impl From<&eraftpb::ConfState> for Members {
    fn from(raw: &eraftpb::ConfState) -> Self {
        // raft-rs gathers them in hash order.
        let sorted = |ids: &[u64]| {
            let mut ids = ids.to_vec();
            ids.sort_unstable();
            ids
        };
        Self {
            voters: sorted(&raw.voters),
            learners: sorted(&raw.learners),
            voters_outgoing: sorted(&raw.voters_outgoing),
            learners_next: sorted(&raw.learners_next),
            auto_leave: raw.auto_leave,
        }
    }
}

impl From<&Members> for eraftpb::ConfState {
    fn from(members: &Members) -> Self {
        let mut raw = Self::default();
        raw.voters.clone_from(&members.voters);
        raw.learners.clone_from(&members.learners);
        raw.voters_outgoing.clone_from(&members.voters_outgoing);
        raw.learners_next.clone_from(&members.learners_next);
        raw.auto_leave = members.auto_leave;
        raw
    }
}
