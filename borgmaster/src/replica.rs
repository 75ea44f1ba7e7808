//! The thread that owns the replica: it takes in whatever has come, lets follow what follows, and carries it
//! out.
//!
//! In: [`Message`]s from everywhere. Out: writes to the disk, messages to peers, requests to planners and for
//! checkpoints, what machines are to run, answers. Everything here is done by this thread alone, so nothing is
//! locked.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use borgmaster_core::{Heard, PlanRequest, Token};
use borgmaster_replica::node::Membership;
use borgmaster_replica::server::{Answer, Input, Output, Server};
use borgmaster_replica::{CheckpointRequest, Write};
use cell::live::{Event, Op, Request, Settings, Timestamp};
use crossbeam_channel::{Receiver, Select, Sender, TryRecvError};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use crate::links::Links;
use crate::peers::Peers;

/// The log's tick. An election takes 10 to 20 of them.
const TICK: Duration = Duration::from_millis(50);

/// So many messages are taken in before what follows from them is done.
const BATCH_COUNT_MAX: usize = 4_096;

/// So many reports of machines are taken in after each of those batches: what replicas, the disk and clients
/// say never waits behind all machines of a cell.
const HEARD_COUNT_MAX: usize = 64;

/// So many events are kept for whoever asks.
const EVENT_COUNT_MAX: usize = 100_000;

/// A replica that leads waits so long for another to take over before it stops.
const HAND_OVER_MAX: Duration = Duration::from_secs(2);

/// A new cell's settings are those of its configuration as long as its log is no longer than this.
const NEW_INDEX_MAX: u64 = 100;

/// Ticks between two looks at learners that may vote by now.
const PROMOTE_TICKS: u32 = 20;

/// Asks the replica something, or gets the reason why it cannot be asked.
pub(crate) type Question = Box<dyn FnOnce(Result<&mut Replica, Answer>) + Send>;

/// A place in a queue, which may be asked from more than once.
pub(crate) type Held = Arc<OwnedSemaphorePermit>;

/// What the thread takes in.
pub(crate) enum Message {
    /// For the replica as it is.
    Input(Input),
    /// From another replica; its place in the queue goes with it.
    Peer { from: u64, messages: Vec<Vec<u8>>, _permit: OwnedSemaphorePermit },
    /// A client's request; its place in the queue goes with it, whether or not the client still waits.
    Mutate { request: Request, op: Op, reply: oneshot::Sender<Answer>, _permit: Held },
    /// The replicas are to change.
    Membership { change: Membership, reply: oneshot::Sender<Answer>, _permit: Held },
    /// A question to a state that holds all that was acknowledged before.
    Read(Question),
    /// A question to the state as it is.
    Peek(Question),
    /// To hand over, and end.
    Stop,
    /// To end at once: it cannot go on, for this reason.
    Broken(String),
}

/// Who waits for an answer.
enum Waiting {
    Answer(oneshot::Sender<Answer>),
    Read(Question),
    Nobody,
}

/// The replica, with what it has to do with.
pub(crate) struct Replica {
    pub server: Server,
    pub events: Events,
    /// Where replicas listen, as far as the log does not say.
    pub known: BTreeMap<u64, String>,
    settings: Option<Settings>,
    waiting: BTreeMap<Token, Waiting>,
    next_token: u64,
    peers: Peers,
    links: Links,
    disk: Sender<Write>,
    planners: Sender<Box<PlanRequest>>,
    checkpoints: Sender<Box<CheckpointRequest>>,
    addresses: BTreeMap<u64, String>,
    promote_ticks: u32,
    /// Of which voter a learner takes the place once it has the log; forgotten where this one leads no longer.
    replacing: BTreeMap<u64, u64>,
    /// The last entry that was applied when outputs were followed last.
    applied: u64,
}

/// Events of late, in order.
#[derive(Debug)]
pub(crate) struct Events {
    events: VecDeque<Event>,
    /// Events of entries before this index are not kept.
    from: u64,
    newest: watch::Sender<u64>,
}

impl Events {
    fn new(from: u64) -> Self {
        Self { events: VecDeque::new(), from, newest: watch::Sender::new(from) }
    }

    fn push(&mut self, event: Event) {
        self.events.push_back(event);
        while self.events.len() > EVENT_COUNT_MAX {
            let Some(gone) = self.events.pop_front() else { return };
            // The rest of what came of the same entry goes too.
            self.from = gone.index + 1;
            while self.events.front().is_some_and(|event| event.index < self.from) {
                self.events.pop_front();
            }
        }
    }

    /// Forgets everything: of entries before this index no events were seen.
    fn begin_at(&mut self, index: u64) {
        self.events.clear();
        self.from = index;
    }

    /// The first index whose events are all kept.
    pub(crate) const fn oldest(&self) -> u64 {
        self.from
    }

    /// The events of entries from an index on; those of one entry are never torn apart, so that a reader can
    /// go on at the next index.
    pub(crate) fn since(&self, index: u64, count_max: usize) -> Vec<Event> {
        let begin = self.events.partition_point(|event| event.index < index);
        let mut found: Vec<Event> = Vec::new();
        for event in self.events.range(begin..) {
            if found.len() >= count_max && found.last().is_some_and(|it| it.index != event.index) {
                break;
            }
            found.push(event.clone());
        }
        found
    }

    /// Tells the last index that was applied.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }
}

/// The time, in milliseconds since 1970.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// What a replica works with.
pub(crate) struct Surroundings {
    pub peers: Peers,
    pub links: Links,
    pub disk: Sender<Write>,
    pub planners: Sender<Box<PlanRequest>>,
    pub checkpoints: Sender<Box<CheckpointRequest>>,
    pub known: BTreeMap<u64, String>,
    pub settings: Option<Settings>,
}

impl Replica {
    pub(crate) fn new(server: Server, surroundings: Surroundings) -> Self {
        let Surroundings { peers, links, disk, planners, checkpoints, known, settings } =
            surroundings;
        let applied = server.state().index();
        let events = Events::new(applied + 1);
        Self {
            server,
            events,
            known,
            settings,
            waiting: BTreeMap::new(),
            next_token: 1,
            peers,
            links,
            disk,
            planners,
            checkpoints,
            addresses: BTreeMap::new(),
            promote_ticks: 0,
            replacing: BTreeMap::new(),
            applied,
        }
    }

    /// Runs until it is told to end, or must: then with the reason.
    ///
    /// # Errors
    /// If it must stop.
    pub(crate) fn run(
        mut self,
        messages: &Receiver<Message>,
        heard: &Receiver<Heard>,
    ) -> Result<(), String> {
        let mut out = Vec::new();
        let mut next_tick = Instant::now() + TICK;
        let mut end_by: Option<Instant> = None;
        let mut has_more = false;
        loop {
            if !has_more {
                let mut ready = Select::new();
                ready.recv(messages);
                ready.recv(heard);
                // Too late is no reason to take nothing in.
                let _ = ready.ready_deadline(next_tick);
            }
            for _ in 0..BATCH_COUNT_MAX {
                match messages.try_recv() {
                    Ok(Message::Stop) => {
                        end_by.get_or_insert_with(|| self.hand_over(&mut out));
                    }
                    Ok(Message::Broken(reason)) => return Err(reason),
                    Ok(message) => self.take(message, &mut out),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            }
            for heard in heard.try_iter().take(HEARD_COUNT_MAX) {
                self.server.input(now(), Input::Heard(heard), &mut out);
            }
            let at = Instant::now();
            if at >= next_tick {
                // Ticks that were missed were nobody's silence but this thread's own.
                next_tick = at + TICK;
                self.server.input(now(), Input::Tick, &mut out);
                self.promote(&mut out);
            }
            has_more = self.server.advance(now(), &mut out);
            self.follow(&mut out)?;
            if end_by.is_some_and(|by| self.server.node().leads().is_none() || at >= by) {
                return Ok(());
            }
        }
    }

    fn hand_over(&mut self, out: &mut Vec<Output>) -> Instant {
        let successor = self.server.node().successor();
        match (self.server.node().leads(), successor) {
            (Some(_), Some(to)) => {
                tracing::info!(to, "hands leadership over");
                self.server.input(now(), Input::Transfer { to }, out);
                Instant::now() + HAND_OVER_MAX
            }
            _ => Instant::now(),
        }
    }

    fn token(&mut self, waiting: Waiting) -> Token {
        let token = Token(self.next_token);
        self.next_token += 1;
        self.waiting.insert(token, waiting);
        token
    }

    fn take(&mut self, message: Message, out: &mut Vec<Output>) {
        let input = match message {
            Message::Input(input) => input,
            Message::Peer { from, messages, _permit } => {
                for bytes in messages {
                    self.server.input(now(), Input::Message { from, bytes }, out);
                }
                return;
            }
            Message::Mutate { request, op, reply, _permit } => {
                let token = self.token(Waiting::Answer(reply));
                Input::Mutate { token, request, op }
            }
            Message::Membership { change, reply, _permit } => {
                Input::Membership { token: self.token(Waiting::Answer(reply)), change }
            }
            Message::Read(question) => Input::Read { token: self.token(Waiting::Read(question)) },
            Message::Peek(question) => return question(Ok(self)),
            Message::Stop | Message::Broken(_) => return,
        };
        self.server.input(now(), input, out);
    }

    /// Whether a snapshot took the place of entries since outputs were followed last: those were not applied
    /// here, so that the log does not go on from there, and nobody knows what came of them.
    fn was_restored(&self, out: &[Output]) -> bool {
        let next = self.applied + 1;
        // Of a state that came as a whole the machines are told anew.
        out.iter().any(|output| matches!(output, Output::Machines))
            && self.server.state().index() >= next
            && self.server.node().entries_from(next).first().is_none_or(|it| it.index != next)
    }

    fn follow(&mut self, out: &mut Vec<Output>) -> Result<(), String> {
        let index = self.server.state().index();
        if self.was_restored(out) {
            self.events.begin_at(index + 1);
        }
        self.applied = index;
        // What machines are to run is said before it is said that this replica leads, and needs the links.
        for output in out.iter() {
            if let Output::Leads(Some(term)) = output {
                self.links.lead(*term, self.server.state());
            }
        }
        for output in out.drain(..) {
            match output {
                Output::Persist(write) => self
                    .disk
                    .send(write)
                    .map_err(|_| "a bug: the disk's thread has ended".to_owned())?,
                Output::Send { to, bytes } => self.peers.send(to, bytes),
                Output::Answer { token, answer } => match self.waiting.remove(&token) {
                    Some(Waiting::Answer(reply)) => drop(reply.send(answer)),
                    Some(Waiting::Read(question)) if answer == Answer::Readable => {
                        question(Ok(self));
                    }
                    Some(Waiting::Read(question)) => question(Err(answer)),
                    Some(Waiting::Nobody) | None => {}
                },
                Output::Event(event) => self.events.push(event),
                Output::Wanted(wanted) => self.links.wanted(wanted),
                Output::Plan(request) => drop(self.planners.send(request)),
                Output::Checkpoint(request) => self
                    .checkpoints
                    .send(request)
                    .map_err(|_| "a bug: the thread that makes checkpoints has ended".to_owned())?,
                Output::Leads(Some(term)) => {
                    tracing::info!(term, index = self.server.state().index(), "leads");
                    self.configure();
                }
                Output::Leads(None) => {
                    tracing::info!("no longer leads");
                    self.replacing.clear();
                    if self.server.node().leads().is_none() {
                        self.links.stop();
                    }
                }
                Output::Machines => self.links.machines(self.server.state()),
                Output::Stop { reason } => return Err(reason),
            }
        }
        self.events.newest.send_if_modified(|newest| std::mem::replace(newest, index) != index);
        self.settle_addresses();
        Ok(())
    }

    /// Where all replicas listen, as far as is known.
    pub(crate) fn places(&self) -> &BTreeMap<u64, String> {
        let logged = self.server.addresses();
        if logged.is_empty() { &self.known } else { logged }
    }

    fn settle_addresses(&mut self) {
        if *self.places() != self.addresses {
            self.addresses = self.places().clone();
            self.peers.update(&self.addresses);
        }
    }

    /// The first leader of a cell gives it the settings of its configuration.
    fn configure(&mut self) {
        let state = self.server.state();
        let is_new = state.index() < NEW_INDEX_MAX && *state.settings() == Settings::default();
        if let Some(settings) = self.settings.take().filter(|_| is_new) {
            let mut out = Vec::new();
            let input = Input::Own(Op::Configure(settings));
            self.server.input(now(), input, &mut out);
            // Nothing but a proposal comes of it, which the log holds.
            debug_assert!(out.is_empty());
        }
    }

    /// A learner votes as soon as it has the log.
    fn promote(&mut self, out: &mut Vec<Output>) {
        self.promote_ticks += 1;
        if self.promote_ticks < PROMOTE_TICKS || self.server.node().leads().is_none() {
            return;
        }
        self.promote_ticks = 0;
        let members = self.server.node().members().clone();
        self.replacing
            .retain(|new, old| members.voters.contains(old) && !members.voters.contains(new));
        for id in members.learners {
            let change = match self.replacing.get(&id) {
                Some(&old) if self.would_hold(old, id) => Membership::Replace { new: id, old },
                // Who was heard is forgotten at every check of the quorum, and that may be at this very tick
                // each time: it is looked at again at the next one.
                Some(_) => {
                    self.promote_ticks = PROMOTE_TICKS;
                    continue;
                }
                None => Membership::Promote { id },
            };
            let token = self.token(Waiting::Nobody);
            self.server.input(now(), Input::Membership { token, change }, out);
        }
    }

    /// Has a replica take the place of a voter once it has the log; whether it is a learner already.
    ///
    /// # Errors
    /// What is in the way: the field of the request, and the problem.
    pub(crate) fn replace(
        &mut self,
        old: u64,
        new: u64,
        place: &str,
    ) -> Result<bool, (&'static str, String)> {
        let members = self.server.node().members();
        let is_learner = members.learners.contains(&new);
        if !members.voters.contains(&old) {
            return Err(("replace.old", "that replica does not vote".to_owned()));
        }
        if members.voters.contains(&new) {
            return Err(("replace.new", "that replica votes already".to_owned()));
        }
        if let Some((other, _)) =
            self.replacing.iter().find(|&(&other, &of)| of == old && other != new)
        {
            let problem = format!(
                "replica {other} is to take its place already: `borgcfg replicas remove {other}` first"
            );
            return Err(("replace.old", problem));
        }
        if let Some(at) = self.places().get(&new).filter(|at| is_learner && *at != place) {
            let problem = format!(
                "replica {new} has joined at {at}: `borgcfg replicas remove {new}` first, or name that address"
            );
            return Err(("replace.address", problem));
        }
        self.replacing.insert(new, old);
        Ok(is_learner)
    }

    /// It did not come to join: nobody takes a place.
    pub(crate) fn forget_replacement(&mut self, new: u64) {
        self.replacing.remove(&new);
    }

    /// Whether, with a learner in the place of a voter, those that were heard lately are a majority.
    fn would_hold(&self, old: u64, new: u64) -> bool {
        let node = self.server.node();
        let voters = &node.members().voters;
        let is_heard =
            |id: &u64| *id == node.id() || node.progress(*id).is_some_and(|(_, is_heard)| is_heard);
        let then = voters.iter().copied().filter(|&id| id != old).chain([new]);
        then.filter(is_heard).count() * 2 > voters.len()
    }
}
