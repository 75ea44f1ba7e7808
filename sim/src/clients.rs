//! Clients: each asks one thing after the other, of whatever replica it thinks leads, and asks again under
//! the same number until it is answered.

use borgmaster_replica::server::Answer;
use cell::live::{Done, Op, Request};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::machines;
use crate::tasks;

#[derive(Debug)]
pub(crate) struct Client {
    pub number: u32,
    pub user: &'static str,
    session: Option<u64>,
    sequence: u64,
    pub current: Option<Current>,
    /// Whom it asks.
    pub master: u64,
    pub attempt: u64,
    random: ChaCha8Rng,
    /// The operations it begins with.
    script: Vec<Op>,
    /// Operations of an administrator that may be repeated at any time.
    again: Vec<Op>,
}

/// What a client asks for.
#[derive(Clone, Debug)]
pub(crate) struct Current {
    pub ask: Ask,
    /// What was acknowledged before it first asked.
    pub floor: u64,
}

/// A mutation or a read.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Mutate(Request, Op),
    Read,
}

/// What a client does with an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It has its answer.
    Done,
    /// It asks again at once.
    Again,
    /// It asks again after a while.
    Later,
}

impl Client {
    pub(crate) fn new(number: u32, random: ChaCha8Rng, script: Vec<Op>, again: Vec<Op>) -> Self {
        let user = match number {
            0 => tasks::USERS[0],
            _ => tasks::USERS[1 + number as usize % 2],
        };
        Self {
            number,
            user,
            session: None,
            sequence: 0,
            current: None,
            master: 1,
            attempt: 0,
            random,
            script: script.into_iter().rev().collect(),
            again,
        }
    }

    /// How long it thinks before it asks for the next thing, in milliseconds.
    pub(crate) fn thinks_ms(&mut self) -> u64 {
        if self.script.is_empty() { self.random.random_range(100..6_000) } else { 50 }
    }

    /// Whom it asks next after it heard nothing.
    pub(crate) fn turn(&mut self, masters: &[u64]) {
        self.master = masters[self.random.random_range(0..masters.len())];
    }

    /// What it asks for next.
    pub(crate) fn next(&mut self, floor: u64, machine_count: u32) {
        let request = |client: &mut Self, session| {
            client.sequence += 1;
            Request {
                user: client.user.to_owned(),
                session,
                sequence: client.sequence,
                answered_below: client.sequence,
            }
        };
        let ask = match self.session {
            None => {
                // As every client asks: nothing tells it from others that ask for one.
                self.sequence = 0;
                Ask::Mutate(request(self, 0), Op::OpenSession)
            }
            Some(session) => match self.draw(machine_count) {
                Some(op) => Ask::Mutate(request(self, session), op),
                None => Ask::Read,
            },
        };
        self.current = Some(Current { ask, floor });
    }

    fn draw(&mut self, machine_count: u32) -> Option<Op> {
        if let Some(op) = self.script.pop() {
            return Some(op);
        }
        let names = tasks::names(self.number);
        let name = names[self.random.random_range(0..names.len())].clone();
        let is_admin = self.number == 0;
        let machine = machines::name(self.random.random_range(0..machine_count));
        match self.random.random_range(0..100) {
            0..=34 => {
                let mut spec = tasks::spec(&mut self.random, &name, self.user);
                if name.starts_with("in") && self.random.random_range(0..2) == 0 {
                    spec.alloc_set = Some(names[1].clone());
                }
                let is_alloc_set = name.starts_with("service") && is_admin;
                if is_alloc_set {
                    spec.count = spec.count.min(2);
                }
                if self.random.random_range(0..8) == 0 {
                    spec.run.start_after = vec![names[0].clone()];
                }
                Some(Op::Submit { spec: Box::new(spec), is_alloc_set })
            }
            35..=49 => {
                let spec = tasks::spec(&mut self.random, &name, self.user);
                Some(Op::Update { spec: Box::new(spec) })
            }
            50..=54 => Some(Op::Undo { job: name }),
            55..=71 => {
                let indexes = (self.random.random_range(0..4) == 0)
                    .then(|| std::iter::once(self.random.random_range(0..3)).collect());
                Some(Op::Kill { job: name, indexes })
            }
            72..=76 if is_admin => Some(tasks::quota(&mut self.random)),
            77..=79 if is_admin => Some(Op::Drain { machine }),
            80..=85 if is_admin => Some(Op::Repair { machine }),
            86..=88 if is_admin => Some(Op::SetCapabilities {
                user: "bob".to_owned(),
                capabilities: std::iter::once(cell::live::Capability::AnyJob).collect(),
            }),
            89..=91 if is_admin => Some(Op::RemoveMachine { machine }),
            // What is there already may be said again.
            92..=94 if is_admin => {
                let count = self.again.len();
                Some(self.again[self.random.random_range(0..count)].clone())
            }
            _ => None,
        }
    }

    /// It dies: what it asked for may be carried out or not, and it begins with a new session.
    pub(crate) fn restart(&mut self) {
        self.current = None;
        self.session = None;
        self.attempt += 1;
    }

    /// Whether it has something to say that it was told to.
    pub(crate) fn has_script(&self) -> bool {
        !self.script.is_empty()
    }

    /// What it is to say next, one thing after the other.
    pub(crate) fn follows(&mut self, ops: Vec<Op>) {
        self.script = ops.into_iter().rev().collect();
    }

    /// Whether it has nothing more to say of what it was told to.
    pub(crate) fn is_through(&self) -> bool {
        self.script.is_empty() && self.current.is_none()
    }

    /// An answer came.
    pub(crate) fn answered(&mut self, answer: &Answer) -> Next {
        match answer {
            Answer::Outcome(outcome) => {
                if self.session.is_none()
                    && let Ok(Done::Session(session)) = outcome
                {
                    self.session = Some(*session);
                    self.sequence = 0;
                }
                self.current = None;
                Next::Done
            }
            Answer::Readable | Answer::Membership => {
                self.current = None;
                Next::Done
            }
            Answer::NotLeader { leader: Some(leader) } => {
                self.master = *leader;
                Next::Again
            }
            Answer::NotLeader { leader: None }
            | Answer::Busy
            | Answer::NoSpace
            | Answer::Unknown
            | Answer::Refused(_) => Next::Later,
        }
    }
}
