//! The agent: the conversation with masters, and the fence that every word of it has to pass.
//!
//! In: [`Input`]s. Out: [`Action`]s. What becomes of tasks is the concern of `tasks`; here is only who may
//! say something, and when it may be acted on.

use std::collections::VecDeque;

use cell::borglet::{Fence, MachineCapacity, Poll, Refusal, RefusalReason, Report, Wanted};

use crate::input::{Action, Found, Input};
use crate::tasks::Tasks;

/// How many messages may wait for the disk, the one that it is busy with included. Our guess: a master
/// has one poll and a few changes on the way at a time.
pub const MESSAGE_COUNT_MAX: usize = 16;

/// What an agent knows of its machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The machine's name.
    pub machine: String,
    /// What it has to give.
    pub capacity: MachineCapacity,
}

/// A borglet's mind.
///
/// - A message with an older fence than was ever accepted changes nothing and is refused.
/// - A higher fence is persisted before anything that came with it is acted on; if that fails, the message
///   is refused and nothing has changed.
/// - Each incarnation is started at most once, also across restarts, and at most one incarnation of a task
///   runs: a new one waits for the end of the old one.
/// - A running task is left alone until the master sets its `stop`, or no longer wants it, or no master is
///   heard for as long as the task itself says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    config: Config,
    /// The highest fence that is on disk.
    fence: Fence,
    /// The generation of the wanted state that was applied; `None` before the first.
    held: Option<u64>,
    /// Whether differences came that build on another generation.
    missed: bool,
    /// Messages not yet acted on. While `persisting`, the first one waits for the disk.
    queue: VecDeque<Message>,
    persisting: Option<Fence>,
    tasks: Tasks,
    now_ms: u64,
    /// When a master that is not deposed was last heard; the start if none was.
    contact_ms: u64,
    /// A bug that is switched on; see [`Agent::skip_term_check`].
    #[cfg(debug_assertions)]
    skips_term_check: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Message {
    Wanted(Wanted),
    Poll(Poll),
}

impl Message {
    fn fence(&self) -> Fence {
        match self {
            Self::Wanted(wanted) => wanted.fence,
            Self::Poll(poll) => poll.fence,
        }
    }
}

impl Agent {
    /// An agent on a machine that has never been told anything.
    #[must_use]
    pub fn new(config: Config, now_ms: u64) -> Self {
        Self::recover(config, now_ms, Fence::default(), Vec::new())
    }

    /// An agent that was started again: with the fence that is on disk, and with every task that has a
    /// record there. What runs is left alone until a master says otherwise.
    ///
    /// The silence after which some tasks are stopped is counted anew, from `now_ms`.
    #[must_use]
    pub fn recover(config: Config, now_ms: u64, fence: Fence, found: Vec<Found>) -> Self {
        Self {
            config,
            fence,
            held: None,
            missed: false,
            queue: VecDeque::new(),
            persisting: None,
            tasks: Tasks::found(now_ms, found),
            now_ms,
            contact_ms: now_ms,
            #[cfg(debug_assertions)]
            skips_term_check: false,
        }
    }

    /// Switches a bug on, to show that the simulation finds it: it does what a master says that was deposed.
    /// Exists in test builds alone.
    #[cfg(debug_assertions)]
    pub fn skip_term_check(&mut self) {
        self.skips_term_check = true;
    }

    /// Whether a message comes from before what was accepted.
    fn is_older(&self, fence: Fence) -> bool {
        #[cfg(debug_assertions)]
        if self.skips_term_check && fence.term != self.fence.term {
            return false;
        }
        fence < self.fence
    }

    /// Takes in one input and says what is to be done. Time never runs backwards in here: an earlier
    /// `now_ms` than before counts as the same.
    pub fn step(&mut self, now_ms: u64, input: Input) -> Vec<Action> {
        self.now_ms = self.now_ms.max(now_ms);
        let mut out = Vec::new();
        match input {
            Input::Wanted(wanted) => self.hear(Message::Wanted(wanted), &mut out),
            Input::Poll(poll) => self.hear(Message::Poll(poll), &mut out),
            Input::Persisted(fence) => {
                if self.persisting == Some(fence) {
                    self.persisting = None;
                    self.fence = fence;
                    self.converse(&mut out);
                }
            }
            Input::PersistFailed(fence) => {
                if self.persisting == Some(fence) {
                    self.persisting = None;
                    self.queue.pop_front();
                    out.push(self.refuse(RefusalReason::NotPersisted));
                    self.converse(&mut out);
                }
            }
            Input::Task(incarnation, event) => {
                self.tasks.event(self.now_ms, incarnation, event, &mut out);
            }
            Input::Tick => self.tasks.tick(self.now_ms, self.contact_ms, &mut out),
        }
        out
    }

    /// The full state, as a poll is answered.
    #[must_use]
    pub fn report(&self) -> Report {
        Report {
            machine: self.config.machine.clone(),
            term: self.fence.term,
            generation: self.held.unwrap_or(0),
            needs_whole: self.held.is_none() || self.missed,
            capacity: self.config.capacity,
            tasks: self.tasks.reports(self.now_ms),
        }
    }

    /// When the next [`Input::Tick`] is due: always after one at the present time has been taken in.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.tasks.next_deadline_ms(self.contact_ms)
    }

    /// The highest fence that is on disk.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.fence
    }

    fn hear(&mut self, message: Message, out: &mut Vec<Action>) {
        if self.queue.len() == MESSAGE_COUNT_MAX {
            out.push(self.refuse(RefusalReason::Busy));
            return;
        }
        self.queue.push_back(message);
        self.converse(out);
    }

    /// Acts on messages, until one has to wait for the disk.
    fn converse(&mut self, out: &mut Vec<Action>) {
        while self.persisting.is_none()
            && let Some(message) = self.queue.pop_front()
        {
            match self.judge(&message) {
                Err(reason) => out.push(self.refuse(reason)),
                Ok(fence) if fence > self.fence => {
                    self.contact_ms = self.now_ms;
                    self.persisting = Some(fence);
                    self.queue.push_front(message);
                    out.push(Action::Persist(fence));
                }
                Ok(_) => {
                    self.contact_ms = self.now_ms;
                    self.act(message, out);
                }
            }
        }
    }

    /// The fence that must be on disk before the message is acted on, or why it is not to be.
    fn judge(&self, message: &Message) -> Result<Fence, RefusalReason> {
        let fence = message.fence();
        // A message that brings no wanted state raises the term alone: the generation that comes with it
        // is one that this borglet has still to be told.
        let term_only = Fence { term: fence.term, generation: 0 }.max(self.fence);
        match message {
            Message::Poll(_) if fence.term < self.fence.term && self.is_older(fence) => {
                Err(RefusalReason::Older)
            }
            Message::Poll(_) => Ok(term_only),
            Message::Wanted(_) if self.is_older(fence) => Err(RefusalReason::Older),
            Message::Wanted(wanted) if !self.builds_on_held(wanted) => Ok(term_only),
            Message::Wanted(wanted) => self.tasks.check(wanted).map(|()| fence),
        }
    }

    fn builds_on_held(&self, wanted: &Wanted) -> bool {
        wanted.base.is_none() || wanted.base == self.held
    }

    fn act(&mut self, message: Message, out: &mut Vec<Action>) {
        match message {
            Message::Poll(_) => out.push(Action::Reply(self.report())),
            Message::Wanted(wanted) if self.builds_on_held(&wanted) => {
                self.held = Some(wanted.fence.generation);
                self.missed = false;
                self.tasks.apply(self.now_ms, wanted, out);
            }
            // Said twice.
            Message::Wanted(wanted) if self.held == Some(wanted.fence.generation) => {}
            Message::Wanted(_) => {
                self.missed = true;
                out.push(Action::Reply(self.report()));
            }
        }
    }

    fn refuse(&self, reason: RefusalReason) -> Action {
        Action::Refuse(Refusal {
            machine: self.config.machine.clone(),
            highest: self.fence,
            reason,
        })
    }
}
