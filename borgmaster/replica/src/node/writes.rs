//! What is on its way to the disk, with the messages that wait for it, and what becomes of both where the disk
//! takes no writes.

use raft::StateRole;
use raft::eraftpb;

#[cfg(debug_assertions)]
use super::Mutation;
use super::{Node, Output};
use crate::types::Write;

/// A disk that takes no writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// So many ticks after it was said.
    Since(u32),
    /// All writes were given out again, and nothing was said about them yet.
    Again,
}

/// A write that failed is tried again after so many ticks.
pub(super) const WRITE_AGAIN_TICKS: u32 = 5;

impl Node {
    /// Whether the log's time goes on. One that cannot write stands for no election: its messages would wait
    /// for the disk. And a single voter elects itself at once, for which raft-rs wants all of the log on disk.
    pub(super) fn may_stand(&self) -> bool {
        let is_alone = self.members().voters == [self.config.id];
        let is_leader = self.raw.raft.state == StateRole::Leader;
        self.failed.is_none() && (is_leader || !is_alone || self.writes.is_empty())
    }

    /// A write is on disk, and with it all before.
    pub fn persisted(&mut self, number: u64) {
        if self.failed.is_some() && self.writes.front().is_some_and(|(w, _)| w.number <= number) {
            self.failed = None;
            // What came up meanwhile was kept back.
            self.hand_out_after(self.handed);
        }
        let mut messages = Vec::new();
        let mut highest_ready = None;
        while self.writes.front().is_some_and(|(write, _)| write.number <= number) {
            let Some((write, waiting)) = self.writes.pop_front() else { break };
            messages.extend(waiting);
            highest_ready = Some(write.number);
        }
        if let Some(number) = highest_ready {
            self.raw.on_persist_ready(number);
            // A snapshot counts as applied once it is on disk; raft-rs is not told by itself, and would look
            // for the entries before it when it stands for election.
            let snapshot_index = self.raw.raft.store().snapshot_index();
            let raft_log = &self.raw.raft.raft_log;
            if raft_log.applied < snapshot_index && snapshot_index <= raft_log.persisted {
                self.raw.advance_apply_to(snapshot_index);
            }
        }
        self.send(messages);
    }

    /// A write failed: nothing of it, nor of any after it, is on disk. The owner skips writes until this one
    /// comes again.
    pub fn persist_failed(&mut self, number: u64) {
        if self.writes.iter().any(|(write, _)| write.number == number) {
            self.failed = Some(Failed::Since(0));
            if self.raw.raft.state == StateRole::Leader {
                let term = self.raw.raft.term;
                self.raw.raft.become_follower(term, raft::INVALID_ID);
            }
        }
    }

    /// Gives out the writes that are not known to be on disk and come after one.
    pub(super) fn hand_out_after(&mut self, number: u64) {
        for (write, _) in self.writes.iter().filter(|(write, _)| write.number > number) {
            self.out.push(Output::Persist(write.clone()));
            self.handed = write.number;
        }
    }

    pub(super) fn write(&mut self, write: Write, waiting: Vec<eraftpb::Message>) {
        #[cfg(debug_assertions)]
        let is_ignored = self.config.mutations.contains(&Mutation::IgnoreFsync);
        #[cfg(not(debug_assertions))]
        let is_ignored = false;
        let is_nothing = write.snapshot.is_none()
            && write.entries.is_empty()
            && write.hard_state.is_none()
            && write.compact_below.is_none();
        // With nothing to write, and nothing before it under way, there is nothing to wait for.
        if is_nothing && self.writes.is_empty() {
            self.raw.on_persist_ready(write.number);
            self.send(waiting);
            return;
        }
        let number = write.number;
        if self.failed.is_none() {
            self.out.push(Output::Persist(write.clone()));
            self.handed = number;
        }
        self.writes.push_back((write, waiting));
        if is_ignored {
            self.persisted(number);
        }
    }
}
