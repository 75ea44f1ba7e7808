//! A replica with its master: the log below, the cell's state and decisions above.
//!
//! In: messages of other replicas, clients' requests, what borglets report, finished writes and plans, time.
//! Out: what has to be written, sent, answered and planned. The daemon and the simulation carry it out; this
//! module alone knows how the log and the core fit together: what is proposed when, what is applied when a
//! read may be answered, when a checkpoint is taken, and that the replicas agree.
//!
//! Every 256 entries a replica tells the others the hash of its state; one that finds itself in
//! the minority stops (`hashes`).

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;

use borgmaster_core::{
    Core, Heard, Input as CoreInput, Output as CoreOutput, PlanRequest, PlanResult, Token,
    WantedSet,
};
use cell::live::{Event, Op, Outcome, Request, State, Timestamp};

use crate::JOIN_AGAIN;
use crate::checkpoint::{Checkpoint, CheckpointError, CheckpointRequest, Checkpointed};
use crate::hashes::{HASH_EVERY, Hashes};
use crate::node::{self, Arrived, Node, Refused};
use crate::past::Past;
use crate::types::{Entry, EntryKind, Loaded, Write};

/// What can happen to a replica.
#[derive(Debug)]
pub enum Input {
    /// Time passed; in steps of the log's tick.
    Tick,
    /// Another replica sent this.
    Message {
        /// Which.
        from: u64,
        /// The message.
        bytes: Vec<u8>,
    },
    /// A client wants something done.
    Mutate {
        /// For the answer.
        token: Token,
        /// Names the request.
        request: Request,
        /// What is wanted.
        op: Op,
    },
    /// A client wants to read a state that holds all that was acknowledged before.
    Read {
        /// For the answer.
        token: Token,
    },
    /// The set of replicas is to change.
    Membership {
        /// For the answer.
        token: Token,
        /// How.
        change: node::Membership,
    },
    /// Another replica should lead.
    Transfer {
        /// Which.
        to: u64,
    },
    /// A write is on the disk.
    Persisted {
        /// Its number.
        number: u64,
    },
    /// A write failed, and nothing of it is on the disk.
    PersistFailed {
        /// Its number.
        number: u64,
    },
    /// A machine was heard.
    Heard(Heard),
    /// A pass was planned.
    Planned(PlanResult),
    /// Something is to be done in the master's own name; lost unless this one leads.
    Own(Op),
    /// A borglet has heard of a later term.
    Outranked {
        /// That term.
        term: u64,
    },
    /// A checkpoint was made.
    Checkpointed(Checkpointed),
}

/// What a replica wants done.
#[derive(Debug)]
pub enum Output {
    /// To be written, then told as [`Input::Persisted`] or [`Input::PersistFailed`].
    Persist(Write),
    /// To be sent to another replica; may be lost.
    Send {
        /// Which.
        to: u64,
        /// The message.
        bytes: Vec<u8>,
    },
    /// A client's answer.
    Answer {
        /// Whose.
        token: Token,
        /// The answer.
        answer: Answer,
    },
    /// Something happened in the cell.
    Event(Event),
    /// A machine is to run this; only from the one that leads.
    Wanted(WantedSet),
    /// A pass to be planned, and given back as [`Input::Planned`].
    Plan(Box<PlanRequest>),
    /// A checkpoint to be made, and given back as [`Input::Checkpointed`].
    Checkpoint(Box<CheckpointRequest>),
    /// This replica leads from now on, in this term, or no longer does.
    Leads(Option<u64>),
    /// Other links to machines are needed.
    Machines,
    /// The replica must stop.
    Stop {
        /// Why, and what to do.
        reason: String,
    },
}

/// The answer to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The operation was done, or rejected.
    Outcome(Outcome),
    /// The state may be read now: [`Server::state`] holds all that was acknowledged when the read began.
    Readable,
    /// The set of replicas changes as asked.
    Membership,
    /// The change of replicas makes no sense now.
    Refused(&'static str),
    /// Another replica leads; `None`: nobody that is known.
    NotLeader {
        /// Which.
        leader: Option<u64>,
    },
    /// Too much is under way: try again later.
    Busy,
    /// There is no room on the disk for writes.
    NoSpace,
    /// A change of leader came in between: whether it was done is not known. Ask again under the same number.
    Unknown,
}

/// A replica with its master.
#[derive(Debug)]
pub struct Server {
    node: Node,
    core: Core,
    /// What each client's proposal stands for, by its index in the log.
    changes: BTreeMap<u64, Token>,
    /// Operations that were proposed and have no answer yet.
    asked: BTreeSet<Token>,
    /// Reads under way in the log, with the ticks since they were asked for.
    reads: BTreeMap<u64, (Token, u32)>,
    next_read: u64,
    /// Reads that wait until so much is applied.
    readable: Vec<(u64, Token)>,
    /// Where replicas listen, as far as the log says.
    addresses: BTreeMap<u64, String>,
    hashes: Hashes,
    /// What a snapshot holds that raft has taken and not given out yet: where replicas listen, and the state.
    restored: Option<(BTreeMap<u64, String>, State)>,
    /// Whether replicas may have been added since the last checkpoint.
    has_joined: bool,
    /// Whether a checkpoint is being made.
    is_checkpointing: bool,
    is_stopped: bool,
}

/// So many operations of clients may be under way.
const ASKED_COUNT_MAX: usize = 8_192;

/// So many reads may be under way.
const READ_COUNT_MAX: usize = 8_192;

/// A read that got no answer from the log is asked for again after so many ticks, and given up after three
/// times as many.
const READ_AGAIN_TICKS: u32 = 10;

/// Why a server cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The newest checkpoint cannot be used.
    #[error(transparent)]
    Checkpoint(CheckpointError),
    /// The newest checkpoint is not of its index, and the log after it does not follow on it.
    #[error(
        "{0}. Keep the folder for whoever looks into it, and let the replica join again with an empty one, {how}",
        how = crate::JOIN_AGAIN
    )]
    OtherIndex(CheckpointError),
    /// The log cannot be used.
    #[error("the log cannot be used: {0}")]
    Log(String),
}

/// What an engine of a new cell is to hold at first. Every replica that the cell begins with is given the
/// same.
#[must_use]
pub fn first_write(replicas: &BTreeMap<u64, String>) -> crate::Write {
    let data = Checkpoint::of_new_cell(replicas.clone()).to_bytes();
    let voters: Vec<u64> = replicas.keys().copied().collect();
    Node::first(&voters, data)
}

impl From<CheckpointError> for StartError {
    fn from(error: CheckpointError) -> Self {
        if matches!(error, CheckpointError::OtherIndex { .. }) {
            Self::OtherIndex(error)
        } else {
            Self::Checkpoint(error)
        }
    }
}

impl Server {
    /// A replica with what its engine holds.
    ///
    /// # Errors
    /// If that cannot be used.
    pub fn new(
        config: node::Config,
        core: borgmaster_core::Config,
        loaded: Loaded,
    ) -> Result<Self, StartError> {
        let index = loaded.snapshot.index;
        let (addresses, state) = Checkpoint::read(index, &loaded.snapshot.data)?;
        let node = Node::new(config, loaded).map_err(|error| StartError::Log(error.to_string()))?;
        Ok(Self {
            node,
            core: Core::new(state, core),
            changes: BTreeMap::new(),
            asked: BTreeSet::new(),
            reads: BTreeMap::new(),
            next_read: 1,
            readable: Vec::new(),
            addresses,
            hashes: Hashes::default(),
            restored: None,
            has_joined: false,
            is_checkpointing: false,
            is_stopped: false,
        })
    }

    /// The cell's state as far as it is applied here.
    #[must_use]
    pub const fn state(&self) -> &State {
        self.core.state()
    }

    /// The master.
    #[must_use]
    pub const fn core(&self) -> &Core {
        &self.core
    }

    /// The master, for questions that need its snapshot.
    pub const fn core_mut(&mut self) -> &mut Core {
        &mut self.core
    }

    /// The log.
    #[must_use]
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// Where replicas listen.
    #[must_use]
    pub const fn addresses(&self) -> &BTreeMap<u64, String> {
        &self.addresses
    }

    /// Takes in one input. What follows from it is given out by [`Server::drain`], so that several inputs
    /// share one write.
    pub fn input(&mut self, now: Timestamp, input: Input, out: &mut Vec<Output>) {
        if self.is_stopped {
            return;
        }
        match input {
            Input::Tick => {
                self.node.tick();
                self.tick_reads(out);
                self.tick_doubt(out);
                self.step(now, CoreInput::Tick, out);
                if self.node.wants_checkpoint() && !self.is_checkpointing {
                    self.begin_checkpoint(out);
                }
            }
            Input::Message { from, bytes } => {
                // What is not understood is lost, as messages may be.
                if let Ok(Some(arrived)) = self.node.receive(from, &bytes) {
                    self.arrived(from, arrived, out);
                }
            }
            Input::Mutate { token, request, op } => self.mutate(now, token, request, op, out),
            Input::Read { token } => self.read(token, out),
            Input::Membership { token, change } => match self.node.propose_membership(&change) {
                Ok(index) => drop(self.changes.insert(index, token)),
                Err(refused) => out.push(answer(token, refusal(refused))),
            },
            Input::Transfer { to } => self.node.transfer(to),
            Input::Persisted { number } => self.node.persisted(number),
            Input::PersistFailed { number } => self.node.persist_failed(number),
            Input::Heard(heard) => self.step(now, CoreInput::Heard(heard), out),
            Input::Planned(plan) => self.step(now, CoreInput::Planned(plan), out),
            Input::Own(op) => self.step(now, CoreInput::Own(op), out),
            Input::Outranked { term } => self.node.outranked(term),
            Input::Checkpointed(made) => {
                self.is_checkpointing = false;
                self.checkpointed(made);
            }
        }
    }

    /// Everything that is to be done by now.
    pub fn drain(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        while self.advance(now, out) {}
    }

    /// What is to be done next, a few milliseconds' work; whether there may be more.
    pub fn advance(&mut self, now: Timestamp, out: &mut Vec<Output>) -> bool {
        if self.is_stopped {
            return false;
        }
        let outputs = self.node.advance();
        if outputs.is_empty() {
            // Raft takes no snapshot by which its receiver is no member: a new replica needs one of after its
            // addition.
            if self.has_joined && !self.is_checkpointing {
                self.has_joined = false;
                self.begin_checkpoint(out);
            }
            return false;
        }
        for output in outputs {
            self.follow(now, output, out);
        }
        true
    }

    fn follow(&mut self, now: Timestamp, output: node::Output, out: &mut Vec<Output>) {
        match output {
            node::Output::Persist(write) => out.push(Output::Persist(write)),
            node::Output::Send { to, bytes } => out.push(Output::Send { to, bytes }),
            node::Output::Commit(entry) => self.committed(now, entry, out),
            node::Output::Restore(_) => {
                let (addresses, state) =
                    self.restored.take().expect("a snapshot is read before raft takes it");
                self.addresses = addresses;
                self.step(now, CoreInput::Restored(Box::new(state)), out);
                self.settle_reads(out);
            }
            node::Output::ReadReady { token, index } => {
                if let Some((token, _)) = self.reads.remove(&token) {
                    self.readable.push((index, token));
                    self.settle_reads(out);
                }
            }
            node::Output::Leads { term } => {
                out.push(Output::Leads(Some(term)));
                self.step(now, CoreInput::Elected { term }, out);
            }
            node::Output::Follows { .. } => {
                if self.core.term().is_some() {
                    self.step(now, CoreInput::Deposed, out);
                    out.push(Output::Leads(None));
                }
                // What was proposed may yet be committed, or not.
                for token in std::mem::take(&mut self.asked) {
                    out.push(answer(token, Answer::Unknown));
                }
                for (_, token) in std::mem::take(&mut self.changes) {
                    out.push(answer(token, Answer::Unknown));
                }
            }
            node::Output::Lost { acknowledged, last_index } => {
                let reason = format!(
                    "the log ends at index {last_index}, but this replica had it up to {acknowledged} and said \
                     so: its disk lost something. Remove its folder, and let it join again {JOIN_AGAIN}"
                );
                self.stop(reason, out);
            }
            node::Output::Owner { from, bytes } => {
                // Whoever does not vote is no part of a majority.
                let votes = self.node.members().voters.contains(&from);
                if let Some((index, hash)) = postcard::from_bytes(&bytes).ok().filter(|_| votes) {
                    self.hashes.hear(from, index, hash);
                    self.compare(out);
                }
            }
        }
    }

    /// Takes in a snapshot if it is what it says. Otherwise nothing of it is written, so that the replica can
    /// be started again as it was.
    fn arrived(&mut self, from: u64, arrived: Arrived, out: &mut Vec<Output>) {
        match Checkpoint::read(arrived.index(), arrived.data()) {
            Ok(read) => {
                if self.node.restore(arrived) {
                    self.restored = Some(read);
                }
            }
            Err(error) => {
                let why = error.source().map_or_else(String::new, |source| format!(" ({source})"));
                let reason = format!(
                    "{error}{why}: replica {from} sent it, and nothing of it was kept. Start this replica \
                     again and it asks for another one; if that cannot be used either, let all replicas run \
                     the same version, and another one lead (`borgcfg replicas transfer`)"
                );
                self.stop(reason, out);
            }
        }
    }

    fn committed(&mut self, now: Timestamp, entry: Entry, out: &mut Vec<Output>) {
        let index = entry.index;
        let data = match entry.kind {
            EntryKind::Normal => entry.data,
            EntryKind::Membership => {
                if let Ok((id, address)) = postcard::from_bytes(&entry.context) {
                    self.addresses.insert(id, address);
                    self.has_joined = true;
                }
                let members = self.node.members().clone();
                self.addresses.retain(|id, _| members.contains(*id));
                if let Some(token) = self.changes.remove(&index) {
                    out.push(answer(token, Answer::Membership));
                }
                Vec::new()
            }
        };
        self.step(now, CoreInput::Committed { index, data }, out);
        self.settle_reads(out);
        if index.is_multiple_of(HASH_EVERY) {
            let hash = self.state().hash();
            self.hashes.have(index, hash);
            let bytes = postcard::to_allocvec(&(index, hash)).expect("a hash can be written");
            for to in self.node.members().voters.clone() {
                if to != self.node.id() {
                    self.node.tell(to, bytes.clone());
                }
            }
            self.compare(out);
        }
    }

    /// A replica whose state a majority contradicts stops.
    fn compare(&mut self, out: &mut Vec<Output>) {
        let voter_count = self.node.members().voters.len();
        if let Some(index) = self.hashes.outvoted_at(voter_count) {
            let reason = format!(
                "the state at index {index} is not that of the other replicas: this replica stops. Keep its \
                 folder for whoever looks into it, and let it join again with an empty one, {JOIN_AGAIN}"
            );
            self.stop(reason, out);
        }
    }

    /// One whose state is contradicted, and by how many is not known, stops too after a while.
    fn tick_doubt(&mut self, out: &mut Vec<Output>) {
        let voter_count = self.node.members().voters.len();
        if let Some((index, who)) = self.hashes.tick(voter_count) {
            let who: Vec<String> = who.iter().map(u64::to_string).collect();
            let reason = format!(
                "the state at index {index} is not that of replica {}, and too few others are heard to know which \
                 is right: this replica stops. Start it again together with those that are missing: who is in the \
                 minority then stops by itself",
                who.join(" and ")
            );
            self.stop(reason, out);
        }
    }

    fn stop(&mut self, reason: String, out: &mut Vec<Output>) {
        self.is_stopped = true;
        out.push(Output::Stop { reason });
    }

    fn step(&mut self, now: Timestamp, input: CoreInput, out: &mut Vec<Output>) {
        for output in self.core.step(now, input) {
            match output {
                CoreOutput::Propose { token, data } => match (self.node.propose(data), token) {
                    (Err(refused), Some(token)) => {
                        let dropped = CoreInput::Dropped { token };
                        self.core.step(now, dropped);
                        self.asked.remove(&token);
                        out.push(answer(token, refusal(refused)));
                    }
                    // The master's own doing is done again if it comes to nothing.
                    (Ok(_), Some(_)) | (Ok(_) | Err(_), None) => {}
                },
                CoreOutput::Answer { token, outcome } => {
                    self.asked.remove(&token);
                    out.push(answer(token, Answer::Outcome(outcome)));
                }
                CoreOutput::Event(event) => out.push(Output::Event(event)),
                CoreOutput::Wanted(wanted) => out.push(Output::Wanted(wanted)),
                CoreOutput::Plan(request) => out.push(Output::Plan(request)),
                CoreOutput::Machines => out.push(Output::Machines),
                CoreOutput::Stop { reason } => self.stop(reason, out),
            }
        }
    }

    fn mutate(
        &mut self,
        now: Timestamp,
        token: Token,
        request: Request,
        op: Op,
        out: &mut Vec<Output>,
    ) {
        if self.core.term().is_none() || self.node.leads().is_none() {
            out.push(answer(token, self.not_leader()));
        } else if self.asked.len() >= ASKED_COUNT_MAX {
            out.push(answer(token, Answer::Busy));
        } else {
            // A retry of what is under way is not proposed, and waits as well.
            self.asked.insert(token);
            self.step(now, CoreInput::Request { token, request, op }, out);
        }
    }

    /// Why this replica does not serve what only the one that leads can.
    #[must_use]
    pub fn not_leader(&self) -> Answer {
        let leader = self.node.leader().filter(|&id| id != self.node.id());
        // With a full disk it may be that it would lead, and cannot.
        match leader {
            None if self.node.has_no_space() => Answer::NoSpace,
            leader => Answer::NotLeader { leader },
        }
    }

    fn read(&mut self, token: Token, out: &mut Vec<Output>) {
        if self.reads.len() + self.readable.len() >= READ_COUNT_MAX {
            out.push(answer(token, Answer::Busy));
            return;
        }
        let number = self.next_read;
        self.next_read += 1;
        self.reads.insert(number, (token, 0));
        self.node.read(number);
    }

    /// Reads whose question or answer got lost are asked again, and in the end given up.
    fn tick_reads(&mut self, out: &mut Vec<Output>) {
        let mut again = Vec::new();
        let mut given_up = Vec::new();
        for (&number, (token, ticks)) in &mut self.reads {
            *ticks += 1;
            if *ticks >= 3 * READ_AGAIN_TICKS {
                given_up.push((number, *token));
            } else if ticks.is_multiple_of(READ_AGAIN_TICKS) {
                again.push(number);
            }
        }
        for number in again {
            self.node.read(number);
        }
        for (number, token) in given_up {
            self.reads.remove(&number);
            out.push(answer(token, self.not_leader()));
        }
    }

    fn settle_reads(&mut self, out: &mut Vec<Output>) {
        let applied = self.state().index();
        self.readable.retain(|&(index, token)| {
            if index <= applied {
                out.push(answer(token, Answer::Readable));
            }
            index > applied
        });
    }

    /// The newest checkpoint and the log after it, as far as it is applied.
    #[must_use]
    pub fn past(&self) -> Past {
        Past::new(&self.node)
    }

    /// Takes a checkpoint of the state as it is, at once.
    pub fn checkpoint(&mut self) {
        let made = self.checkpoint_request().run();
        self.checkpointed(made);
    }

    fn begin_checkpoint(&mut self, out: &mut Vec<Output>) {
        self.is_checkpointing = true;
        out.push(Output::Checkpoint(Box::new(self.checkpoint_request())));
    }

    fn checkpoint_request(&self) -> CheckpointRequest {
        CheckpointRequest {
            addresses: self.addresses.clone(),
            members: self.node.members().clone(),
            records: self.state().records(),
        }
    }

    fn checkpointed(&mut self, made: Checkpointed) {
        let Checkpointed { index, members, data } = made;
        // The log takes one with those who take part by now: after a change of them it is made anew.
        if members == *self.node.members() {
            self.node.checkpoint(index, data);
        } else {
            self.has_joined = true;
        }
    }
}

const fn answer(token: Token, answer: Answer) -> Output {
    Output::Answer { token, answer }
}

const fn refusal(refused: Refused) -> Answer {
    match refused {
        Refused::NotLeader { leader } => Answer::NotLeader { leader },
        Refused::Busy => Answer::Busy,
        Refused::NoSpace => Answer::NoSpace,
        Refused::Membership(why) => Answer::Refused(why),
    }
}
