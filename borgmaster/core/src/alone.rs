//! A master that is the whole cell: one replica, which leads, and its link shard. What it proposes is committed at
//! once, what it wants planned is planned at once, and what is sent is heard at once. For simulation and tests.

use std::collections::VecDeque;

use cell::live::{Done, Event, Op, Outcome, Request, Settings, State, Timestamp};

use crate::{Config, Core, Input, LinkShard, Output, ShardInput, ShardOutput, Token};

/// The machines of a cell of [`Alone`].
pub trait Machines {
    /// One of them hears a [`ShardOutput::Poll`] or a [`ShardOutput::Wanted`]: what it says to that.
    fn hear(&mut self, now: Timestamp, told: ShardOutput) -> Vec<ShardInput>;
}

/// The master.
#[derive(Debug)]
pub struct Alone {
    /// What decides.
    pub core: Core,
    shard: LinkShard,
    user: String,
    session: u64,
    sequence: u64,
    ahead_ms: i64,
    events: Vec<Event>,
    answers: Vec<(Token, Outcome)>,
}

impl Alone {
    /// It leads a cell without machines, which obeys `user`.
    ///
    /// # Panics
    /// If it does not open a session, as every master that leads does.
    #[must_use]
    pub fn new(settings: Settings, config: Config, user: &str, now: Timestamp) -> Self {
        struct None;
        impl Machines for None {
            fn hear(&mut self, _: Timestamp, told: ShardOutput) -> Vec<ShardInput> {
                unreachable!("there are no machines: {told:?}")
            }
        }
        let settings = Settings { admins: vec![user.to_owned()], ..settings };
        let mut own = Self {
            shard: LinkShard::new(1, settings.poll_interval_ms),
            core: Core::new(State::new(settings), config),
            user: user.to_owned(),
            session: 0,
            sequence: 0,
            ahead_ms: 0,
            events: Vec::new(),
            answers: Vec::new(),
        };
        own.take(now, Input::Elected { term: 1 }, &mut None);
        match own.ask(now, Op::OpenSession, &mut None) {
            Ok(Done::Session(session)) => own.session = session,
            other => unreachable!("a session is opened: {other:?}"),
        }
        own
    }

    /// All that has happened.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// From now on the clock of who leads is so far ahead of that of the machines, in milliseconds.
    pub const fn set_ahead_ms(&mut self, ahead_ms: i64) {
        self.ahead_ms = ahead_ms;
    }

    /// It is deposed, and leads in another term.
    pub fn lead(&mut self, now: Timestamp, term: u64, machines: &mut impl Machines) {
        self.shard = LinkShard::new(term, self.core.state().settings().poll_interval_ms);
        self.take(now, Input::Deposed, machines);
        self.take(now, Input::Elected { term }, machines);
    }

    /// Asks for something as the cell's user.
    ///
    /// # Panics
    /// If there is no answer: a master that leads always gives one.
    pub fn ask(&mut self, now: Timestamp, op: Op, machines: &mut impl Machines) -> Outcome {
        self.sequence += 1;
        let request = Request {
            user: self.user.clone(),
            session: self.session,
            sequence: self.sequence,
            answered_below: self.sequence,
        };
        let token = Token(self.sequence);
        self.take(now, Input::Request { token, request, op }, machines);
        let at = self.answers.iter().position(|(other, _)| *other == token);
        self.answers.swap_remove(at.expect("a master that leads answers")).1
    }

    /// The master takes in something, and all that follows from it.
    ///
    /// # Panics
    /// If the replica finds that it is not like the others, of which there are none.
    pub fn take(&mut self, now: Timestamp, input: Input, machines: &mut impl Machines) {
        let clock = Timestamp(now.0.saturating_add_signed(self.ahead_ms));
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for output in self.core.step(clock, input) {
                match output {
                    Output::Propose { data, .. } => {
                        // The index after all entries that are already on their way.
                        let is_entry = |it: &&Input| matches!(it, Input::Committed { .. });
                        let under_way = inputs.iter().filter(is_entry).count() as u64;
                        let index = self.core.state().index() + 1 + under_way;
                        inputs.push_back(Input::Committed { index, data });
                    }
                    Output::Answer { token, outcome } => self.answers.push((token, outcome)),
                    Output::Event(event) => self.events.push(event),
                    Output::Wanted(wanted) => {
                        inputs.extend(self.converse(now, ShardInput::Wanted(wanted), machines));
                    }
                    Output::Plan(request) => inputs.push_back(Input::Planned(request.run())),
                    Output::Machines => {}
                    Output::Stop { reason } => unreachable!("a replica alone agrees: {reason}"),
                }
            }
        }
    }

    /// The link shard takes in something, and all that follows from it.
    pub fn take_shard(&mut self, now: Timestamp, input: ShardInput, machines: &mut impl Machines) {
        for heard in self.converse(now, input, machines) {
            self.take(now, heard, machines);
        }
    }

    /// What of it is the master's to hear.
    fn converse(
        &mut self,
        now: Timestamp,
        input: ShardInput,
        machines: &mut impl Machines,
    ) -> Vec<Input> {
        let mut heard = Vec::new();
        let mut outputs = VecDeque::from(self.shard.step(now, input));
        while let Some(output) = outputs.pop_front() {
            match output {
                ShardOutput::Heard(news) => heard.push(Input::Heard(news)),
                ShardOutput::Deposed { term } => unreachable!("nobody else leads in {term}"),
                told @ (ShardOutput::Poll(..) | ShardOutput::Wanted(..)) => {
                    for back in machines.hear(now, told) {
                        outputs.extend(self.shard.step(now, back));
                    }
                }
            }
        }
        heard
    }
}
