//! Who takes part: changes of replicas, as far as they make sense, and who leads next.

use raft::StateRole;
use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2};

use super::{Node, Refused};

/// A change of replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Membership {
    /// Gets the log, and does not vote yet.
    AddLearner {
        /// Its number.
        id: u64,
        /// Where it listens.
        address: String,
    },
    /// A learner that has the log votes from now on.
    Promote {
        /// Its number.
        id: u64,
    },
    /// Takes part no longer.
    Remove {
        /// Its number.
        id: u64,
    },
    /// A learner takes the place of a voter, in one joint change.
    Replace {
        /// The learner.
        new: u64,
        /// The voter.
        old: u64,
    },
}

/// A learner may vote once it is no further behind than so many entries.
const CAUGHT_UP_ENTRY_COUNT: u64 = 100;

impl Node {
    /// Proposes a change of replicas; its index, if it is committed in this term.
    ///
    /// # Errors
    /// As [`Node::propose`]; and if the change makes no sense now.
    pub fn propose_membership(&mut self, membership: &Membership) -> Result<u64, Refused> {
        self.may_propose()?;
        if self.raw.raft.has_pending_conf() {
            return Err(Refused::Membership("another change of replicas is under way: try again"));
        }
        let members = self.members().clone();
        let mut change = ConfChangeV2::default();
        let mut context = Vec::new();
        let single = |id: u64, kind| {
            let mut single = ConfChangeSingle { node_id: id, ..ConfChangeSingle::default() };
            single.set_change_type(kind);
            single
        };
        let changes = match membership {
            Membership::AddLearner { id, address } => {
                if members.contains(*id) || *id == 0 {
                    return Err(Refused::Membership("that replica takes part already"));
                }
                context = postcard::to_allocvec(&(id, address)).expect("it can be written");
                vec![single(*id, ConfChangeType::AddLearnerNode)]
            }
            Membership::Promote { id } => {
                self.may_vote(*id)?;
                vec![single(*id, ConfChangeType::AddNode)]
            }
            Membership::Remove { id } => {
                if !members.contains(*id) {
                    return Err(Refused::Membership("no such replica takes part"));
                }
                if members.voters == [*id] {
                    return Err(Refused::Membership("the last voter cannot be removed"));
                }
                self.may_lose(*id)?;
                vec![single(*id, ConfChangeType::RemoveNode)]
            }
            Membership::Replace { new, old } => {
                self.may_vote(*new)?;
                if !members.voters.contains(old) {
                    return Err(Refused::Membership("the replica to be replaced is no voter"));
                }
                vec![
                    single(*new, ConfChangeType::AddNode),
                    single(*old, ConfChangeType::RemoveNode),
                ]
            }
        };
        change.set_changes(changes.into());
        self.raw.propose_conf_change(context, change).map_err(|_| Refused::Busy)?;
        Ok(self.last_index())
    }

    /// Whether the voters that were heard lately are a majority without this replica too.
    fn may_lose(&self, id: u64) -> Result<(), Refused> {
        let rest: Vec<u64> =
            self.members().voters.iter().copied().filter(|&voter| voter != id).collect();
        let is_there = |voter: &&u64| {
            **voter == self.config.id
                || self.raw.raft.prs().get(**voter).is_some_and(|progress| progress.recent_active)
        };
        if rest.iter().filter(is_there).count() * 2 <= rest.len() {
            return Err(Refused::Membership(
                "of the voters that would be left too few were heard lately: bring them back first",
            ));
        }
        Ok(())
    }

    /// Whether a learner has the log, so that it may vote.
    fn may_vote(&self, id: u64) -> Result<(), Refused> {
        if !self.members().learners.contains(&id) {
            return Err(Refused::Membership("that replica is no learner: add it first"));
        }
        let matched = self.raw.raft.prs().get(id).map_or(0, |progress| progress.matched);
        // One that has nothing yet could hold up everything, however short the log is.
        if matched == 0 || matched + CAUGHT_UP_ENTRY_COUNT < self.last_index() {
            return Err(Refused::Membership("the learner has not caught up yet: try again later"));
        }
        Ok(())
    }

    /// The voter that should lead next if this one goes: the one with most of the log.
    #[must_use]
    pub fn successor(&self) -> Option<u64> {
        let voters = self.members().voters.iter().filter(|&&id| id != self.config.id);
        voters.copied().max_by_key(|&id| {
            let matched = self.raw.raft.prs().get(id).map_or(0, |progress| progress.matched);
            (matched, std::cmp::Reverse(id))
        })
    }

    /// One that takes part no longer leads no longer; raft-rs leaves that to its owner, and panics on the next
    /// commit of a leader that is no member.
    pub(super) fn step_down_if_removed(&mut self) {
        let raft = &mut self.raw.raft;
        if raft.state == StateRole::Leader && !raft.prs().conf().voters().contains(self.config.id) {
            raft.become_follower(raft.term, raft::INVALID_ID);
        }
    }
}
