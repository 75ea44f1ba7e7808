//! One replica of the log: raft-rs's Ready loop, in its documented order, with asynchronous appends.
//!
//! In: ticks, messages of other replicas, proposals, finished writes. Out, by [`Node::drain`]: what to write,
//! what to send, what is committed. Payloads are bytes. Deterministic: the same inputs give the same outputs;
//! election time-outs, which raft-rs draws by itself, are set from the seed.
//!
//! A leader's messages go out before its own write is done; a follower's only after (Ongaro, "Consensus",
//! §10.2.1). Nothing is given out as committed that a majority has not on disk.

mod members;
#[cfg(test)]
mod tests;
mod writes;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use protobuf::Message as _;
use raft::eraftpb::{self, ConfChangeV2, MessageType};
use raft::{RawNode, ReadOnlyOption, SnapshotStatus, StateRole};
use xxhash_rust::xxh3::xxh3_64;

pub use self::members::Membership;
use self::writes::{Failed, WRITE_AGAIN_TICKS};
use crate::log::Log;
use crate::transfer::{Incoming, Outgoing, Progress, Taken};
use crate::types::{Entry, HardState, Loaded, Members, Snapshot, Write};
use crate::wire::{Chunk, Envelope, WireError};

/// How a node goes about its work.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its number, from 1.
    pub id: u64,
    /// Seeds election time-outs. Another one at each start: it also tells answers to the reads of this start
    /// from answers to those of an earlier one.
    pub seed: u64,
    /// A follower that heard no leader for at least so many ticks stands for election.
    pub election_ticks: usize,
    /// A leader makes itself heard every so many ticks.
    pub heartbeat_ticks: usize,
    /// So many bytes of entries go into one message.
    pub append_byte_count_max: u64,
    /// So many bytes of entries may be proposed and not committed.
    pub uncommitted_byte_count_max: u64,
    /// A checkpoint is due once the log has so many bytes, and no fewer than the last checkpoint: what is
    /// written twice is never more than what is written once.
    pub log_byte_count_max: usize,
    /// So many entries before a checkpoint are kept for followers that are behind.
    pub kept_entry_count: u64,
    /// The size of the parts in which a snapshot is sent, in bytes; at least one.
    pub part_byte_count: usize,
    /// Bugs that are switched on.
    #[cfg(debug_assertions)]
    pub mutations: std::collections::BTreeSet<Mutation>,
}

impl Config {
    /// The usual values.
    #[must_use]
    pub fn new(id: u64, seed: u64) -> Self {
        Self {
            id,
            seed,
            election_ticks: 10,
            heartbeat_ticks: 2,
            append_byte_count_max: 1 << 20,
            uncommitted_byte_count_max: 16 << 20,
            log_byte_count_max: 16 << 20,
            kept_entry_count: 1_000,
            part_byte_count: 256 << 10,
            #[cfg(debug_assertions)]
            mutations: std::collections::BTreeSet::new(),
        }
    }
}

/// A bug that can be switched on by name, to show that the simulation finds it. Exists in test builds alone.
#[cfg(debug_assertions)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutation {
    /// A write counts as on disk at once.
    IgnoreFsync,
}

/// Why something was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Another leads.
    #[error("replica {leader:?} leads")]
    NotLeader {
        /// Who, if that is known.
        leader: Option<u64>,
    },
    /// Too much is under way.
    #[error("too much is under way")]
    Busy,
    /// The disk takes no writes.
    #[error("no space is left on the disk")]
    NoSpace,
    /// Another change of replicas is under way, or this one makes no sense.
    #[error("{0}")]
    Membership(&'static str),
}

/// What a node wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// To be written, then told by [`Node::persisted`] or [`Node::persist_failed`].
    Persist(Write),
    /// To be sent to another replica; may be lost.
    Send {
        /// Which.
        to: u64,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Committed, in order, each once.
    Commit(Entry),
    /// The state as of an index, in place of the entries up to it.
    Restore(Snapshot),
    /// A read may be answered once this index is applied.
    ReadReady {
        /// The read.
        token: u64,
        /// The index.
        index: u64,
    },
    /// It leads from now on, and has given out all that earlier leaders committed.
    Leads {
        /// Its term.
        term: u64,
    },
    /// It follows from now on.
    Follows {
        /// Whom, if that is known.
        leader: Option<u64>,
    },
    /// The one that leads counts on entries that this replica acknowledged and no longer has: it must stop.
    Lost {
        /// Up to where the leader counts on it.
        acknowledged: u64,
        /// Up to where it has the log.
        last_index: u64,
    },
    /// Another replica's owner sent this.
    Owner {
        /// Which.
        from: u64,
        /// What.
        bytes: Vec<u8>,
    },
}

/// A snapshot that another replica sent, of which all parts are there.
#[derive(Debug)]
#[must_use = "raft has it only by `Node::restore`"]
pub struct Arrived {
    message: eraftpb::Message,
}

impl Arrived {
    /// The last index that it is said to hold.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.message.get_snapshot().get_metadata().index
    }

    /// The state.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        self.message.get_snapshot().get_data()
    }
}

/// A replica of the log.
pub struct Node {
    raw: RawNode<Log>,
    config: Config,
    out: Vec<Output>,
    /// Writes that are not known to be on disk, with the messages that wait for them.
    writes: VecDeque<(Write, Vec<eraftpb::Message>)>,
    /// The last write that was given out.
    handed: u64,
    /// Since when the disk takes no writes; `None`: it does.
    failed: Option<Failed>,
    outgoing: BTreeMap<u64, Outgoing>,
    incoming: Incoming,
    /// The term in which it said that it leads.
    leads: Option<u64>,
    leader: Option<u64>,
    timeout_of: (u64, StateRole),
    /// Committed entries that were not given out yet.
    committed: VecDeque<eraftpb::Entry>,
    /// Whether committed entries come next.
    is_commits_turn: bool,
    /// The last entry that was given out.
    applied: u64,
    compact: Option<Write>,
    number: u64,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("id", &self.config.id)
            .field("term", &self.raw.raft.term)
            .field("leads", &self.leads)
            .field("applied", &self.applied)
            .finish_non_exhaustive()
    }
}

/// So many bytes of committed entries are given out at once, or one entry: about a millisecond's work for their
/// owner.
const COMMITTED_BYTE_COUNT_MAX: usize = 4 << 10;

/// A term that is so much later than the own one is not believed: terms must not run out.
const TERM_LEAP_MAX: u64 = 1 << 32;

impl Node {
    /// A node with what its engine holds. One that holds nothing waits to be added to others.
    ///
    /// # Errors
    /// If raft makes nothing of it.
    pub fn new(config: Config, loaded: Loaded) -> Result<Self, raft::Error> {
        let applied = loaded.snapshot.index;
        let raft_config = raft::Config {
            id: config.id,
            election_tick: config.election_ticks,
            heartbeat_tick: config.heartbeat_ticks,
            applied,
            max_size_per_msg: config.append_byte_count_max,
            max_inflight_msgs: 256,
            check_quorum: true,
            pre_vote: true,
            min_election_tick: config.election_ticks,
            max_election_tick: config.election_ticks * 2,
            read_only_option: ReadOnlyOption::Safe,
            skip_bcast_commit: false,
            batch_append: true,
            priority: 0,
            max_uncommitted_size: config.uncommitted_byte_count_max,
            max_committed_size_per_ready: 1 << 20,
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&raft_config, Log::new(loaded), &logger)?;
        let mut node = Self {
            raw,
            config,
            out: Vec::new(),
            writes: VecDeque::new(),
            handed: 0,
            failed: None,
            outgoing: BTreeMap::new(),
            incoming: Incoming::default(),
            leads: None,
            leader: None,
            timeout_of: (u64::MAX, StateRole::Follower),
            committed: VecDeque::new(),
            is_commits_turn: false,
            applied,
            compact: None,
            number: 0,
        };
        node.settle_timeout();
        Ok(node)
    }

    /// What an engine of a new cell holds at first: a snapshot of nothing, at index 1, with its voters. Every
    /// voter begins with the same.
    #[must_use]
    pub fn first(voters: &[u64], data: Vec<u8>) -> Write {
        let members = Members { voters: voters.to_vec(), ..Members::default() };
        let snapshot = Snapshot { index: 1, term: 1, members, data };
        let hard_state = Some(HardState { term: 1, vote: 0, commit: 1 });
        Write { snapshot: Some(snapshot), hard_state, must_sync: true, ..Write::default() }
    }

    /// Its number.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.config.id
    }

    /// Who leads, as far as it knows.
    #[must_use]
    pub const fn leader(&self) -> Option<u64> {
        self.leader
    }

    /// The term in which it leads.
    #[must_use]
    pub const fn leads(&self) -> Option<u64> {
        self.leads
    }

    /// Its term.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.raw.raft.term
    }

    /// Who takes part.
    #[must_use]
    pub fn members(&self) -> &Members {
        self.raw.raft.store().members()
    }

    /// Of another replica, as the one that leads sees it: up to where it has the log, and whether it was heard
    /// lately.
    #[must_use]
    pub fn progress(&self, id: u64) -> Option<(u64, bool)> {
        let progress = self.raw.raft.prs().get(id)?;
        Some((progress.matched, progress.recent_active))
    }

    /// The last index that is known to be committed.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.raw.raft.raft_log.committed
    }

    /// The last index of its log, committed or not.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.raw.raft.raft_log.last_index()
    }

    /// Whether the disk takes no writes.
    #[must_use]
    pub const fn has_no_space(&self) -> bool {
        self.failed.is_some()
    }

    /// Whether it sends a snapshot to another replica.
    #[must_use]
    pub fn is_sending_snapshot(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether the log has grown so much that a checkpoint is due.
    #[must_use]
    pub fn wants_checkpoint(&self) -> bool {
        let log = self.raw.raft.store();
        let most = self.config.log_byte_count_max.max(log.data().len());
        self.applied > log.snapshot_index() && log.byte_count() > most
    }

    /// A tick has passed.
    pub fn tick(&mut self) {
        if self.may_stand() {
            self.raw.tick();
        }
        self.settle_timeout();
        if let Some(Failed::Since(ticks)) = &mut self.failed {
            *ticks += 1;
            if *ticks >= WRITE_AGAIN_TICKS {
                self.failed = Some(Failed::Again);
                self.hand_out_after(0);
            }
        }
        let mut given_up = Vec::new();
        for (&to, outgoing) in &mut self.outgoing {
            let (progress, chunks) = outgoing.tick();
            if progress == Progress::GivenUp {
                given_up.push(to);
            }
            for chunk in chunks {
                self.out.push(Output::Send { to, bytes: Envelope::Chunk(chunk).to_bytes() });
            }
        }
        for to in given_up {
            self.outgoing.remove(&to);
            self.raw.report_snapshot(to, SnapshotStatus::Failure);
        }
    }

    /// Another replica sent something. A snapshot of which all parts are there is given back: its owner looks
    /// into it, and has it taken in by [`Node::restore`] if it is what it says.
    ///
    /// # Errors
    /// If it is not understood; then nothing has changed.
    pub fn receive(&mut self, from: u64, bytes: &[u8]) -> Result<Option<Arrived>, WireError> {
        match Envelope::from_bytes(bytes)? {
            Envelope::Raft(bytes) => {
                let message = eraftpb::Message::parse_from_bytes(&bytes);
                let message = message.map_err(|_| WireError::Malformed)?;
                if message.from != from || message.get_msg_type() == MessageType::MsgSnapshot {
                    return Err(WireError::Malformed);
                }
                self.step(message);
            }
            Envelope::Chunk(chunk) => return self.receive_part(from, chunk),
            Envelope::Got { index, number } => {
                let Some(outgoing) = self.outgoing.get_mut(&from) else { return Ok(None) };
                if outgoing.index != index {
                    return Ok(None);
                }
                if outgoing.got(number) == Progress::Done {
                    self.outgoing.remove(&from);
                    self.raw.report_snapshot(from, SnapshotStatus::Finish);
                } else {
                    for chunk in outgoing.more() {
                        let bytes = Envelope::Chunk(chunk).to_bytes();
                        self.out.push(Output::Send { to: from, bytes });
                    }
                }
            }
            Envelope::Owner(bytes) => self.out.push(Output::Owner { from, bytes }),
        }
        Ok(None)
    }

    /// Takes in a part of a snapshot, and acknowledges it if it is of use to its sender: what raft would not
    /// take is not, and what is committed here already is.
    fn receive_part(&mut self, from: u64, chunk: Chunk) -> Result<Option<Arrived>, WireError> {
        let message = eraftpb::Message::parse_from_bytes(&chunk.message);
        let mut message = message.map_err(|_| WireError::Malformed)?;
        let is_of_snapshot = message.get_msg_type() == MessageType::MsgSnapshot
            && message.get_snapshot().get_metadata().index == chunk.index;
        if message.from != from || !is_of_snapshot {
            return Err(WireError::Malformed);
        }
        if message.term < self.raw.raft.term {
            return Ok(None);
        }
        let got = Envelope::Got { index: chunk.index, number: chunk.number };
        let mut arrived = None;
        if chunk.index > self.committed() {
            match self.incoming.take(message.term, chunk) {
                Taken::Refused => return Ok(None),
                Taken::Kept => {}
                Taken::Whole(data) => {
                    message.mut_snapshot().data = data.into();
                    arrived = Some(Arrived { message });
                }
            }
        }
        self.out.push(Output::Send { to: from, bytes: got.to_bytes() });
        Ok(arrived)
    }

    /// Takes in a snapshot that has arrived; whether raft takes it, so that [`Output::Restore`] follows. What
    /// it does not take may be sent again.
    pub fn restore(&mut self, arrived: Arrived) -> bool {
        let index = arrived.index();
        self.step(arrived.message);
        let taken = self.raw.raft.raft_log.unstable_snapshot();
        taken.as_ref().is_some_and(|snapshot| snapshot.get_metadata().index == index)
    }

    fn step(&mut self, message: eraftpb::Message) {
        // A leader tells nobody of commits beyond what that one acknowledged. raft-rs panics on it.
        let is_lost = message.get_msg_type() == MessageType::MsgHeartbeat
            && message.term >= self.raw.raft.term
            && message.commit > self.last_index();
        if is_lost {
            let (acknowledged, last_index) = (message.commit, self.last_index());
            self.out.push(Output::Lost { acknowledged, last_index });
            return;
        }
        // What raft does not take is of a replica that is no member, or too old: it is lost.
        let _ = self.raw.step(message);
        self.incoming.settle(self.raw.raft.term, self.committed());
        self.settle_timeout();
    }

    /// A message to another replica's owner; may be lost.
    pub fn tell(&mut self, to: u64, bytes: Vec<u8>) {
        self.out.push(Output::Send { to, bytes: Envelope::Owner(bytes).to_bytes() });
    }

    /// Proposes an entry; its index, if it is committed in this term.
    ///
    /// # Errors
    /// If this one does not lead, too much is under way, or the disk is full.
    pub fn propose(&mut self, data: Vec<u8>) -> Result<u64, Refused> {
        self.may_propose()?;
        self.raw.propose(Vec::new(), data).map_err(|_| Refused::Busy)?;
        Ok(self.last_index())
    }

    fn may_propose(&self) -> Result<(), Refused> {
        if self.failed.is_some() {
            return Err(Refused::NoSpace);
        }
        if self.leads.is_none() {
            return Err(Refused::NotLeader {
                leader: self.leader.filter(|&id| id != self.config.id),
            });
        }
        // While leadership is handed over raft drops proposals.
        if self.raw.raft.lead_transferee.is_some() {
            return Err(Refused::Busy);
        }
        Ok(())
    }

    /// Asks for the index that a linearizable read has to wait for; the answer may get lost.
    pub fn read(&mut self, token: u64) {
        self.raw.read_index(self.read_context(token));
    }

    /// What raft-rs knows a read by. It has to differ from that of any other read that may be under way, of
    /// other replicas and of earlier starts too.
    fn read_context(&self, token: u64) -> Vec<u8> {
        [self.config.id, self.config.seed, token].iter().flat_map(|n| n.to_le_bytes()).collect()
    }

    /// The entries of the log in memory from an index on, as far as they were given out.
    #[must_use]
    pub fn entries_from(&self, index: u64) -> Vec<Entry> {
        let log = self.raw.raft.store();
        let from = index.max(log.first());
        log.range(from, self.applied + 1).map(Entry::from).collect()
    }

    /// The newest checkpoint: its index and what it holds.
    pub(crate) fn newest_checkpoint(&self) -> (u64, Arc<Vec<u8>>) {
        let log = self.raw.raft.store();
        (log.snapshot_index(), log.data())
    }

    /// The entries after the newest checkpoint, as far as they were given out. They share their payloads with
    /// the log.
    pub(crate) fn since_checkpoint(&self) -> Vec<eraftpb::Entry> {
        let log = self.raw.raft.store();
        log.range(log.snapshot_index() + 1, self.applied + 1).cloned().collect()
    }

    /// The entries of the log that are not committed, as far as is known here.
    #[must_use]
    pub fn uncommitted(&self) -> Vec<Entry> {
        let log = self.raw.raft.store();
        log.range(self.raw.raft.raft_log.committed + 1, u64::MAX).map(Entry::from).collect()
    }

    /// Machines have heard of a later term, and do nothing that this one says: it takes part in that term, and
    /// may lead in the next. Such a term is of another leader of this cell, or of the cell whose saved state
    /// this one took over with its machines. (Raft holds whatever makes a term rise.)
    pub fn outranked(&mut self, term: u64) {
        let own = self.raw.raft.term;
        if self.leads.is_some() && (own + 1..own + TERM_LEAP_MAX).contains(&term) {
            self.raw.raft.become_follower(term, raft::INVALID_ID);
        }
    }

    /// Hands leadership over; for the replica that leads.
    pub fn transfer(&mut self, to: u64) {
        self.raw.transfer_leader(to);
    }

    /// The state as of an index that was given out, in place of the log up to it.
    pub fn checkpoint(&mut self, index: u64, data: Vec<u8>) {
        let log = self.raw.raft.store();
        assert!(index <= self.applied, "only what was given out can be in a checkpoint");
        let Some(term) = log.term_of(index).filter(|_| index > log.snapshot_index()) else {
            return;
        };
        let snapshot = Snapshot { index, term, members: log.members().clone(), data };
        let below = (index + 1).saturating_sub(self.config.kept_entry_count).max(log.first());
        self.raw.raft.mut_store().compact(&snapshot, below);
        let compact_below = Some(below);
        self.compact = Some(Write { snapshot: Some(snapshot), compact_below, ..Write::default() });
    }

    /// What is to be done next; nothing if there is nothing left to do. What is to be sent and written, which
    /// others wait for, takes turns with committed entries, a few at a time, so that the owner gets to other
    /// things in between.
    pub fn advance(&mut self) -> Vec<Output> {
        while self.out.is_empty() {
            let has_ready = self.raw.has_ready() || self.compact.is_some();
            let has_committed = !self.committed.is_empty();
            if has_ready && !(has_committed && self.is_commits_turn) {
                self.ready();
                self.is_commits_turn = true;
            } else if has_committed {
                self.give_out();
                self.is_commits_turn = false;
            } else {
                break;
            }
        }
        std::mem::take(&mut self.out)
    }

    /// Everything that is to be done by now.
    pub fn drain(&mut self) -> Vec<Output> {
        let mut all = Vec::new();
        loop {
            let next = self.advance();
            if next.is_empty() {
                return all;
            }
            all.extend(next);
        }
    }

    fn ready(&mut self) {
        let mut ready = self.raw.ready();
        self.number = ready.number();
        if let Some(soft) = ready.ss() {
            let leader = (soft.leader_id != 0).then_some(soft.leader_id);
            if soft.raft_state != StateRole::Leader {
                self.outgoing.clear();
            }
            if self.leads.is_some() && soft.raft_state != StateRole::Leader {
                self.leads = None;
                self.out.push(Output::Follows { leader });
            } else if leader != self.leader && soft.raft_state != StateRole::Leader {
                self.out.push(Output::Follows { leader });
            }
            self.leader = leader;
        }
        let messages = ready.take_messages();
        self.send(messages);
        for state in ready.take_read_states() {
            let token = state.request_ctx.get(16..24).and_then(|token| token.try_into().ok());
            let token = token.map(u64::from_le_bytes);
            if let Some(token) =
                token.filter(|&token| state.request_ctx == self.read_context(token))
            {
                self.out.push(Output::ReadReady { token, index: state.index });
            }
        }
        let mut write = self.compact.take().unwrap_or_default();
        write.number = ready.number();
        if !ready.snapshot().is_empty() {
            let raw = ready.snapshot();
            let meta = raw.get_metadata();
            let snapshot = Snapshot {
                index: meta.index,
                term: meta.term,
                members: meta.get_conf_state().into(),
                data: raw.data.to_vec(),
            };
            self.raw.raft.mut_store().reset(&snapshot);
            // It holds what was not given out yet.
            self.committed.clear();
            self.applied = snapshot.index;
            self.out.push(Output::Restore(snapshot.clone()));
            write.compact_below = Some(snapshot.index + 1);
            write.snapshot = Some(snapshot);
        }
        self.committed.extend(ready.take_committed_entries());
        let entries = ready.take_entries();
        self.raw.raft.mut_store().append(&entries);
        write.entries = entries.iter().map(Into::into).collect();
        if let Some(hard_state) = ready.hs() {
            let hard_state = hard_state.into();
            self.raw.raft.mut_store().set_hard_state(hard_state);
            write.hard_state = Some(hard_state);
        }
        write.must_sync = ready.must_sync() || write.snapshot.is_some();
        let waiting = ready.take_persisted_messages();
        self.raw.advance_append_async(ready);
        self.write(write, waiting);
        self.settle_timeout();
        self.take_the_lead();
    }

    /// Gives out the next few committed entries.
    fn give_out(&mut self) {
        let mut byte_count = 0;
        while byte_count < COMMITTED_BYTE_COUNT_MAX
            && let Some(raw) = self.committed.pop_front()
        {
            let entry = Entry::from(&raw);
            if entry.kind == crate::types::EntryKind::Membership {
                let change = ConfChangeV2::parse_from_bytes(&entry.data).unwrap_or_default();
                if let Ok(members) = self.raw.apply_conf_change(&change) {
                    self.raw.raft.mut_store().set_members((&members).into());
                    self.step_down_if_removed();
                }
            }
            self.applied = entry.index;
            byte_count += entry.data.len();
            self.out.push(Output::Commit(entry));
        }
        self.raw.advance_apply_to(self.applied);
        self.take_the_lead();
    }

    /// Says that it leads once an entry of its own term has been given out.
    fn take_the_lead(&mut self) {
        let raft = &self.raw.raft;
        let is_ready = raft.state == StateRole::Leader
            && self.raw.raft.store().term_of(self.applied) == Some(raft.term);
        if is_ready && self.leads.is_none() {
            let term = raft.term;
            self.leads = Some(term);
            self.out.push(Output::Leads { term });
        }
    }

    fn send(&mut self, messages: Vec<eraftpb::Message>) {
        for message in messages {
            let to = message.to;
            if message.get_msg_type() == MessageType::MsgSnapshot {
                self.send_snapshot(&message);
                continue;
            }
            let bytes = message.write_to_bytes().expect("a message can be written");
            self.out.push(Output::Send { to, bytes: Envelope::Raft(bytes).to_bytes() });
        }
    }

    /// Sends the newest checkpoint, if it is the one that raft meant. Another one may have been finished since
    /// raft made up its message: then raft hears that it failed, and sends the newer one in its turn.
    fn send_snapshot(&mut self, message: &eraftpb::Message) {
        // It leads no longer, and nobody would take it.
        if self.raw.raft.state != StateRole::Leader || message.term != self.raw.raft.term {
            return;
        }
        let (to, index) = (message.to, message.get_snapshot().get_metadata().index);
        let (newest, data) = self.newest_checkpoint();
        if newest != index {
            self.raw.report_snapshot(to, SnapshotStatus::Failure);
            return;
        }
        let message = message.write_to_bytes().expect("a message can be written");
        let mut outgoing = Outgoing::new(message, index, data, self.config.part_byte_count);
        for chunk in outgoing.more() {
            self.out.push(Output::Send { to, bytes: Envelope::Chunk(chunk).to_bytes() });
        }
        self.outgoing.insert(to, outgoing);
    }

    /// raft-rs draws a new election time-out at each reset, from a generator of its own: put one of the seed
    /// in its place.
    fn settle_timeout(&mut self) {
        let now = (self.raw.raft.term, self.raw.raft.state);
        if now == self.timeout_of {
            return;
        }
        self.timeout_of = now;
        let (term, state) = now;
        let mut text = [0; 32];
        text[..8].copy_from_slice(&self.config.seed.to_le_bytes());
        text[8..16].copy_from_slice(&self.config.id.to_le_bytes());
        text[16..24].copy_from_slice(&term.to_le_bytes());
        text[24] = state as u8;
        let range = self.config.election_ticks as u64;
        let extra = usize::try_from(xxh3_64(&text) % range).expect("below the range");
        self.raw.raft.set_randomized_election_timeout(self.config.election_ticks + extra);
    }
}
