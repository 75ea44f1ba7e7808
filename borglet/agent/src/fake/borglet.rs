//! A whole borglet: an agent, a fake machine, and a disk that holds one fence.
//!
//! In: masters' messages, the time, and faults. Out: every action that the agent took, already carried out
//! but for its answers, which are for the caller to send.

use std::collections::VecDeque;

use cell::borglet::{Fence, WantedTask};

use crate::agent::{Agent, Config};
use crate::fake::machine::{Behaviour, FakeMachine};
use crate::input::{Action, Input};

/// A borglet in virtual time.
#[derive(Clone, Debug)]
pub struct FakeBorglet {
    agent: Agent,
    machine: FakeMachine,
    /// What is on disk.
    fence: Fence,
    /// Whether the disk takes no writes: a fault to be switched on and off.
    pub disk_is_full: bool,
    config: Config,
    #[cfg(debug_assertions)]
    skips_term_check: bool,
}

impl FakeBorglet {
    /// A borglet on a new machine.
    #[must_use]
    pub fn new(config: Config, now_ms: u64) -> Self {
        Self {
            agent: Agent::new(config.clone(), now_ms),
            machine: FakeMachine::default(),
            fence: Fence::default(),
            disk_is_full: false,
            config,
            #[cfg(debug_assertions)]
            skips_term_check: false,
        }
    }

    /// As [`Agent::skip_term_check`], over restarts too.
    #[cfg(debug_assertions)]
    pub fn skip_term_check(&mut self) {
        self.skips_term_check = true;
        self.agent.skip_term_check();
    }

    /// Takes in a message and all that follows from it at once.
    pub fn input(
        &mut self,
        now_ms: u64,
        input: Input,
        behaviour: &dyn Fn(&WantedTask) -> Behaviour,
    ) -> Vec<Action> {
        let mut done = Vec::new();
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for action in self.agent.step(now_ms, input) {
                match action {
                    Action::Persist(fence) if self.disk_is_full => {
                        inputs.push_back(Input::PersistFailed(fence));
                    }
                    Action::Persist(fence) => {
                        self.fence = fence;
                        inputs.push_back(Input::Persisted(fence));
                    }
                    Action::Start(_)
                    | Action::Adjust(_)
                    | Action::Terminate(_)
                    | Action::Kill(_)
                    | Action::Forget(_) => self.machine.act(now_ms, &action, behaviour),
                    Action::Reply(_) | Action::Refuse(_) => {}
                }
                done.push(action);
            }
        }
        done
    }

    /// When [`Self::advance`] has something to do next.
    #[must_use]
    pub fn next_ms(&self) -> Option<u64> {
        [self.machine.next_event_ms(), self.agent.next_deadline_ms()].into_iter().flatten().min()
    }

    /// Lets happen all that is due up to `now_ms`, each thing at its own time.
    pub fn advance(
        &mut self,
        now_ms: u64,
        behaviour: &dyn Fn(&WantedTask) -> Behaviour,
    ) -> Vec<Action> {
        let mut done = Vec::new();
        while let Some(due_ms) = self.next_ms().filter(|&due_ms| due_ms <= now_ms) {
            let events = self.machine.next_events(due_ms);
            let inputs = if events.is_empty() { vec![Input::Tick] } else { events };
            for input in inputs {
                done.extend(self.input(due_ms, input, behaviour));
            }
        }
        done
    }

    /// The borglet, but none of its tasks, dies and is started again.
    pub fn restart(&mut self, now_ms: u64) {
        let found = self.machine.found(now_ms);
        self.agent = Agent::recover(self.config.clone(), now_ms, self.fence, found);
        #[cfg(debug_assertions)]
        if self.skips_term_check {
            self.agent.skip_term_check();
        }
    }

    /// The machine goes down and comes up again.
    pub fn reboot(&mut self, now_ms: u64) {
        self.machine.reboot();
        self.restart(now_ms);
    }

    /// The agent as it is.
    #[must_use]
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// The machine as it is.
    #[must_use]
    pub fn machine(&self) -> &FakeMachine {
        &self.machine
    }
}
