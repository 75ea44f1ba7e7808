//! The master: what it decides, and nothing else.
//!
//! In: clients' requests, what borglets report, entries of the log as they are committed, finished plans, and
//! the time ([`Input`]). Out: entries to propose, answers, what machines are to run, passes to be planned
//! ([`Output`]). It does no I/O, reads no clock and draws no random number; the simulation and the daemon
//! run the same code.
//!
//! Every replica applies committed entries; only the one that leads decides. What a leader keeps beside the
//! replicated state (who was heard when, what is under way) is lost with it and found again by its
//! successor: every loop here compares what is with what should be, and acts on the difference.
//!
//! Source: Borg (EuroSys '15) §3.1 to §3.4, §4 and §5.5.

mod alone;
mod clock;
mod codec;
mod drain;
mod evictions;
mod fits;
mod health;
mod link;
mod plan;
mod reclaim;
mod request;
mod rollout;
mod rooms;
mod seen;
mod stats;
mod turns;
mod wanted;

use std::collections::BTreeMap;

use cell::borglet::{Incarnation, TaskKey, TaskReport, Usage, WantedTask};
use cell::live::{
    Change, Command, Entry, Event, Health, Observation, Op, Outcome, Request, State, Timestamp,
};
use cell::{MachineId, TaskId};

pub use alone::{Alone, Machines};
pub use codec::{EntryError, decode, encode};
pub use evictions::evictions;
pub use fits::{FitsCounts, FitsRequest};
pub use link::{Heard, LinkShard, ShardInput, ShardOutput};
pub use plan::{PlanRequest, PlanResult, Planned};
pub use request::check_settings;
pub use rooms::LiveRooms;
pub use stats::Stats;

use self::clock::Clock;
use self::health::Contacts;
use self::plan::Planner;
use self::reclaim::Estimates;
use self::seen::SeenTasks;

/// Names a client's request towards the shell that it came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(pub u64);

/// What can happen to a master.
#[derive(Debug)]
pub enum Input {
    /// This replica leads from now on, and has applied all that earlier leaders committed.
    Elected {
        /// Its term.
        term: u64,
    },
    /// This replica no longer leads.
    Deposed,
    /// A client asks for something.
    Request {
        /// For the answer.
        token: Token,
        /// Names the request.
        request: Request,
        /// What is asked for.
        op: Op,
    },
    /// The request's proposal was refused or lost by the log; the shell tells its client.
    Dropped {
        /// The request.
        token: Token,
    },
    /// An entry was committed.
    Committed {
        /// Its index.
        index: u64,
        /// What it holds; empty: nothing for the cell.
        data: Vec<u8>,
    },
    /// The state was replaced by a snapshot.
    Restored(Box<State>),
    /// A machine's report differs from its last one, or came at all.
    Heard(Heard),
    /// A pass was planned.
    Planned(PlanResult),
    /// Something is to be done in the master's own name; lost unless it leads.
    Own(Op),
    /// Time passed. To be given at least every [`TICK_MS_MAX`].
    Tick,
}

/// Ticks should come at least so often.
pub const TICK_MS_MAX: u64 = 100;

/// What a master wants done.
#[derive(Debug)]
pub enum Output {
    /// To be proposed to the log.
    Propose {
        /// The client's request that it is for; `None`: the master's own doing, which is done again if it
        /// comes to nothing.
        token: Option<Token>,
        /// The entry, encoded.
        data: Vec<u8>,
    },
    /// A client's answer.
    Answer {
        /// Whose.
        token: Token,
        /// The answer.
        outcome: Outcome,
    },
    /// Something happened; from every replica.
    Event(Event),
    /// What a machine is to run.
    Wanted(WantedSet),
    /// A pass to be planned ([`PlanRequest::run`]), wherever there is time, and given back.
    Plan(Box<PlanRequest>),
    /// Machines were added, changed or removed, or are to be polled more or less often, so that other links are
    /// needed.
    Machines,
    /// This replica must stop: it cannot go on without going wrong.
    Stop {
        /// Why, and what to do.
        reason: String,
    },
}

/// All that a machine is to run, or what of that is otherwise than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedSet {
    /// The machine.
    pub machine: MachineId,
    /// Who says so.
    pub term: u64,
    /// Rises with each change.
    pub generation: u64,
    /// Whether `tasks` are all; else they are what is new or changed.
    pub is_whole: bool,
    /// What it is to run, by ascending incarnation.
    pub tasks: Vec<WantedTask>,
    /// What it is to run no more, where `tasks` are not all.
    pub gone: Vec<Incarnation>,
}

/// A master.
#[derive(Debug)]
pub struct Core {
    state: State,
    planner: Planner,
    leader: Option<Leader>,
    config: Config,
}

/// What is not replicated: how this master goes about its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Seeds the passes.
    pub seed: u64,
    /// How many schedulers plan at once (Omega, EuroSys '13); at least 1.
    pub scheduler_count: u32,
    /// So many tasks of the queue are looked at in one pass at most, and as many that are new; at least 2.
    pub pass_task_count_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { seed: 1, scheduler_count: 1, pass_task_count_max: plan::PASS_TASK_COUNT_MAX }
    }
}

/// What a leader keeps beside the state.
#[derive(Debug)]
struct Leader {
    term: u64,
    clock: Clock,
    /// Requests that were proposed and have no answer yet.
    asked: BTreeMap<(u64, u64), Vec<Token>>,
    contacts: Contacts,
    estimates: Estimates,
    seen: SeenTasks,
    /// When each of the leader's rounds was last made.
    rounds: Rounds,
    stats: Stats,
}

/// When each of a leader's rounds was last made.
#[derive(Debug, Default)]
struct Rounds {
    health: Timestamp,
    rollout: Timestamp,
    reclaim: Timestamp,
    expire: Timestamp,
    seen: Timestamp,
}

/// What was proposed and has not come back is proposed again after so long. Our guess: well above the time
/// that a commit takes, so that it happens only where a proposal was lost.
const PROPOSE_AGAIN_MS: u64 = 2_000;

/// So many observations go into one entry: a millisecond's work for each replica, which answers no question
/// meanwhile.
const OBSERVATION_COUNT_MAX: usize = 256;

/// So many observations are proposed at once, and do not wait for the next tick: replicas work better in small
/// steps than in large ones all at the same time.
const OBSERVATION_COUNT_DUE: usize = 128;

impl Core {
    /// A master of this state.
    #[must_use]
    pub fn new(state: State, config: Config) -> Self {
        Self { state, planner: Planner::default(), leader: None, config }
    }

    /// The replicated state as far as it is applied.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Mutations of the state, for the mutation check.
    #[cfg(debug_assertions)]
    pub fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    /// The term in which it leads; `None`: it does not.
    #[must_use]
    pub fn term(&self) -> Option<u64> {
        self.leader.as_ref().map(|leader| leader.term)
    }

    /// What it has counted since it leads.
    #[must_use]
    pub fn stats(&self) -> Option<&Stats> {
        self.leader.as_ref().map(|leader| &leader.stats)
    }

    /// Advances by one input. `now` is what this machine's clock says, and the only time there is.
    pub fn step(&mut self, now: Timestamp, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        let logged = self.state.now();
        let now = self.leader.as_mut().map_or(now, |leader| leader.clock.read(now, logged));
        match input {
            Input::Elected { term } => self.elected(now, term, &mut out),
            Input::Deposed => {
                self.leader = None;
                self.planner.forget();
            }
            Input::Request { token, request, op } => self.ask(now, token, request, op, &mut out),
            Input::Dropped { token } => self.forget_token(token),
            Input::Committed { index, data } => self.committed(index, &data, &mut out),
            Input::Restored(state) => {
                self.state = *state;
                self.planner.start_over();
                out.push(Output::Machines);
            }
            Input::Heard(heard) => self.heard(now, heard, &mut out),
            Input::Planned(result) => self.planned(now, result, &mut out),
            Input::Own(op) if self.leader.is_some() => self.propose(now, op, &mut out),
            Input::Own(_) => {}
            Input::Tick => self.tick(now, &mut out),
        }
        out
    }

    fn elected(&mut self, now: Timestamp, term: u64, out: &mut Vec<Output>) {
        let clock = Clock::new(now, self.state.now());
        let now = now.max(self.state.now());
        self.leader = Some(Leader {
            term,
            clock,
            asked: BTreeMap::new(),
            contacts: Contacts::new(now, self.state.cell().machines.len()),
            estimates: Estimates::default(),
            seen: SeenTasks::default(),
            rounds: Rounds::default(),
            stats: Stats::default(),
        });
        self.planner.forget();
        out.push(Output::Machines);
        for (id, machine) in self.state.machines() {
            if !machine.is_removed {
                out.push(Output::Wanted(wanted::of(&self.state, id, term)));
            }
        }
    }

    fn tick(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        if self.leader.is_none() {
            return;
        }
        self.propose_seen(now, out);
        self.plan(now, out);
        self.health_round(now, out);
        self.rollout_round(now, out);
        self.reclaim_round(now, out);
        self.expire_round(now, out);
    }

    fn expire_round(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        const EVERY_MS: u64 = 10_000;
        let Some(leader) = &mut self.leader else { return };
        if now.since_ms(leader.rounds.expire) >= EVERY_MS {
            leader.rounds.expire = now;
            self.propose(now, Op::Expire, out);
        }
    }

    /// Proposes something of the master's own.
    fn propose(&self, now: Timestamp, op: Op, out: &mut Vec<Output>) {
        out.push(self.proposal(now, None, None, op));
    }

    fn proposal(
        &self,
        now: Timestamp,
        token: Option<Token>,
        request: Option<Request>,
        op: Op,
    ) -> Output {
        let entry = Entry { at: now, commands: vec![Command { request, op }] };
        Output::Propose { token, data: encode(&entry) }
    }

    fn committed(&mut self, index: u64, data: &[u8], out: &mut Vec<Output>) {
        if data.is_empty() {
            self.state.skip(index);
            return;
        }
        let entry = match decode(data) {
            Ok(entry) => entry,
            Err(error) => {
                out.push(Output::Stop { reason: format!("log entry {index}: {error}") });
                return;
            }
        };
        let applied = self.state.apply(index, &entry);
        self.planner.follow(&self.state, &applied.changes);
        if let Some(leader) = &mut self.leader {
            leader.stats.count(&entry, &applied, index);
            for (request, outcome) in &applied.answers {
                let Some(request) = request else { continue };
                let tokens = leader.asked.remove(&(request.session, request.sequence));
                for token in tokens.unwrap_or_default() {
                    out.push(Output::Answer { token, outcome: outcome.clone() });
                }
            }
            let count = self.config.scheduler_count.max(1);
            self.planner.came_back(&self.state, &entry, &applied, count);
            leader.seen.came_back(&entry);
        }
        let is_configured = |command: &Command| matches!(command.op, Op::Configure(_));
        let mut has_machines = entry.commands.iter().any(is_configured);
        let mut is_restored = false;
        let mut touched: BTreeMap<MachineId, BTreeMap<Incarnation, TaskId>> = BTreeMap::new();
        for change in &applied.changes {
            match *change {
                Change::Wanted(machine, incarnation, task) => {
                    touched.entry(machine).or_default().insert(incarnation, task);
                }
                Change::Machines => has_machines = true,
                Change::Open(id, _) => has_machines |= self.state.machine_at(id).is_removed,
                Change::Restored => {
                    // What was planned is of another state.
                    self.planner.forget();
                    is_restored = true;
                    has_machines = true;
                }
                Change::Job(_)
                | Change::JobGone(_)
                | Change::Placed(_)
                | Change::Removed(_)
                | Change::Recharged(..)
                | Change::Waits(_) => {}
            }
        }
        if let Some(term) = self.term() {
            for (machine, touched) in touched {
                let wanted = wanted::changed(&self.state, machine, term, &touched);
                out.push(Output::Wanted(wanted));
            }
        }
        if has_machines {
            if let Some(leader) = &mut self.leader {
                leader.contacts.grow(self.state.now(), self.state.cell().machines.len());
                let term = leader.term;
                for (id, machine) in self.state.machines() {
                    let is_new = machine.health == Health::Unknown;
                    if (is_new || is_restored) && !machine.is_removed {
                        out.push(Output::Wanted(wanted::of(&self.state, id, term)));
                    }
                }
            }
            out.push(Output::Machines);
        }
        out.extend(applied.events.into_iter().map(Output::Event));
    }

    /// Takes in what a machine reported.
    fn heard(&mut self, now: Timestamp, heard: Heard, out: &mut Vec<Output>) {
        let Some(leader) = &mut self.leader else { return };
        let Heard { machine, changed, missing, usages } = heard;
        if machine.index() >= self.state.cell().machines.len() {
            return;
        }
        leader.contacts.heard(machine, now);
        for TaskReport { key, incarnation, state, healthy, .. } in changed {
            for observation in link::observations(key, incarnation, &state, healthy) {
                leader.seen.note(&self.state, observation);
            }
        }
        for (task, incarnation) in missing {
            let observation = Observation { task, incarnation, seen: link::lost() };
            leader.seen.note(&self.state, observation);
        }
        leader.estimates.sample(&self.state, now, &usages);
        if leader.seen.new_count() >= OBSERVATION_COUNT_DUE {
            self.propose_seen(now, out);
        }
    }

    /// Proposes what was seen since the last time, and now and then what was proposed long ago and did not
    /// come to anything.
    fn propose_seen(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let Some(leader) = &mut self.leader else { return };
        let mut due = leader.seen.take_new(&self.state, now);
        if now.since_ms(leader.rounds.seen) >= PROPOSE_AGAIN_MS {
            leader.rounds.seen = now;
            due.extend(leader.seen.take_lost(&self.state, now));
        }
        for observations in due.chunks(OBSERVATION_COUNT_MAX) {
            self.propose(now, Op::Observe { observations: observations.to_vec() }, out);
        }
    }
}

/// What a task was using when it was last sampled.
pub type UsageSample = (TaskKey, Incarnation, Usage, u64);
