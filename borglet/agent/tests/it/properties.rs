//! Any order of messages, losses, repetitions, restarts and full disks.
//!
//! The model: masters that share a history of wanted states, one a generation, as the replicated log gives
//! it to them; and a network that repeats, reorders and loses what they say. A leader says nothing before
//! it has applied what was committed in earlier terms, and knows nothing of what later ones commit.

use std::collections::{BTreeMap, BTreeSet};

use borglet_agent::fake::{Behaviour, FakeBorglet, OnSigterm};
use borglet_agent::{Action, Input};
use cell::borglet::{
    ExitCause, Fence, GIVEN_UP_MS_MAX, Incarnation, Poll, ReportedState, Stop, TaskKey, Wanted,
    WantedTask,
};
use proptest::prelude::*;

use crate::{config, fence, serves, started, task};

type State = BTreeMap<Incarnation, WantedTask>;

#[derive(Clone, Debug)]
enum Op {
    /// A new incarnation of a task; an older one is given up.
    Place(u32),
    Stop(u32, u64),
    Drop(u32),
    Adjust(u32),
    /// The master hears the borglet's report and wants no more of what has exited.
    Acknowledge,
    /// The leader, or one of this many terms ago, sends a state this many generations old, whole or as
    /// differences to one older still.
    Send {
        terms_ago: u64,
        ago: usize,
        base_ago: Option<usize>,
    },
    Poll {
        terms_ago: u64,
    },
    NewLeader,
    Deliver {
        which: usize,
        again: bool,
    },
    Lose(usize),
    Restart,
    Reboot,
    Disk {
        full: bool,
    },
    Advance(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let index = 0..4_u32;
    prop_oneof![
        4 => index.clone().prop_map(Op::Place),
        2 => (index.clone(), 0..20_000_u64).prop_map(|(index, ms)| Op::Stop(index, ms)),
        1 => index.clone().prop_map(Op::Drop),
        1 => index.prop_map(Op::Adjust),
        2 => Just(Op::Acknowledge),
        8 => (0..3_u64, 0..3_usize, prop::option::of(1..3_usize)).prop_map(
            |(terms_ago, ago, base_ago)| Op::Send {
                terms_ago: terms_ago.saturating_sub(1),
                ago: ago.saturating_sub(1),
                base_ago,
            }
        ),
        1 => (0..2_u64).prop_map(|terms_ago| Op::Poll { terms_ago }),
        1 => Just(Op::NewLeader),
        10 => (any::<usize>(), any::<bool>()).prop_map(|(which, again)| Op::Deliver { which, again }),
        1 => any::<usize>().prop_map(Op::Lose),
        1 => Just(Op::Restart),
        1 => Just(Op::Reboot),
        1 => prop::bool::weighted(0.3).prop_map(|full| Op::Disk { full }),
        6 => prop_oneof![1..200_u64, 1_000..15_000_u64].prop_map(Op::Advance),
    ]
}

/// Depends on the incarnation alone, and makes every kind of task.
fn behaviour(task: &WantedTask) -> Behaviour {
    let n = task.incarnation.0;
    let exit = match n % 5 {
        0 => ExitCause::OutOfMemory,
        1 => ExitCause::StartFailed { reason: "no such program".to_owned() },
        2 => ExitCause::Failed { code: 1 },
        _ => ExitCause::Finished,
    };
    Behaviour {
        start_up_ms: n % 4 * 100,
        runtime_ms: n.is_multiple_of(3).then_some(n % 7 * 1_000),
        exit,
        is_healthy: true,
        on_sigterm: match n % 4 {
            0 => OnSigterm::Ignores,
            _ => OnSigterm::Ends { after_ms: n % 6 * 900 },
        },
        ..serves(task)
    }
}

struct World {
    now_ms: u64,
    term: u64,
    /// The generation with which each term began; terms before the first ended with it.
    term_starts: BTreeMap<u64, usize>,
    /// By generation; those before the first message are empty.
    history: Vec<State>,
    placed_count: u64,
    network: Vec<Input>,
    borglet: FakeBorglet,
    disk_is_full: bool,
    started: BTreeSet<u64>,
    /// Since when the borglet has known that a running task is not wanted.
    given_up: BTreeMap<Incarnation, u64>,
}

impl World {
    fn new() -> Self {
        Self {
            now_ms: 0,
            term: 3,
            term_starts: BTreeMap::from([(3, 0)]),
            history: vec![State::new()],
            placed_count: 0,
            network: Vec::new(),
            borglet: FakeBorglet::new(config(), 0),
            disk_is_full: false,
            started: BTreeSet::new(),
            given_up: BTreeMap::new(),
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut State)) {
        let mut state = self.history[self.generation(0)].clone();
        change(&mut state);
        self.history.push(state);
    }

    fn generation(&self, ago: usize) -> usize {
        (self.history.len() - 1).saturating_sub(ago)
    }

    fn wanted(&self, term: u64, generation: usize, base: Option<usize>) -> Wanted {
        let state = &self.history[generation];
        let fence = fence(term, generation as u64);
        let Some(base) = base else {
            let tasks = state.values().cloned().collect();
            return Wanted { fence, base: None, tasks, gone: Vec::new() };
        };
        let (new, gone) = differences(&self.history[base], state);
        Wanted { fence, base: Some(base as u64), tasks: new, gone }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Place(index) => {
                self.placed_count += 1;
                let n = self.placed_count;
                let fragile = (index == 0).then_some(20_000);
                let new = WantedTask { stop_after_disconnect_ms: fragile, ..task(index, n) };
                self.change(|state| {
                    state.retain(|_, old| old.key.index != index);
                    state.insert(new.incarnation, new);
                });
            }
            Op::Stop(index, deadline_in_ms) => self.change(|state| {
                for task in state.values_mut().filter(|task| task.key.index == index) {
                    task.stop = Some(Stop { deadline_in_ms });
                }
            }),
            Op::Drop(index) => self.change(|state| state.retain(|_, old| old.key.index != index)),
            Op::Adjust(index) => self.change(|state| {
                for task in state.values_mut().filter(|task| task.key.index == index) {
                    task.priority = if task.priority == 200 { 201 } else { 200 };
                }
            }),
            Op::Acknowledge => {
                let report = self.borglet.agent().report();
                self.change(|state| {
                    for task in report.tasks {
                        if matches!(task.state, ReportedState::Exited(_)) {
                            state.remove(&task.incarnation);
                        }
                    }
                });
            }
            Op::Send { terms_ago, ago, base_ago } => {
                let term = self.term - terms_ago.min(2);
                let first = self.term_starts.get(&term).copied().unwrap_or(0);
                let last = self.term_starts.get(&(term + 1)).copied().unwrap_or(self.generation(0));
                let generation = last.saturating_sub(ago).max(first);
                let base = base_ago.map(|base_ago| generation.saturating_sub(base_ago));
                let wanted = self.wanted(term, generation, base);
                self.network.push(Input::Wanted(wanted));
            }
            Op::Poll { terms_ago } => {
                let fence = fence(self.term - terms_ago.min(2), self.generation(0) as u64);
                self.network.push(Input::Poll(Poll { fence }));
            }
            Op::NewLeader => {
                self.term += 1;
                self.term_starts.insert(self.term, self.generation(0));
            }
            Op::Deliver { which, again } => {
                if !self.network.is_empty() {
                    let which = which % self.network.len();
                    let message = if again {
                        self.network[which].clone()
                    } else {
                        self.network.remove(which)
                    };
                    self.deliver(message);
                }
            }
            Op::Lose(which) => {
                if !self.network.is_empty() {
                    let which = which % self.network.len();
                    self.network.remove(which);
                }
            }
            Op::Restart => self.borglet.restart(self.now_ms),
            Op::Reboot => self.borglet.reboot(self.now_ms),
            Op::Disk { full } => {
                self.disk_is_full = full;
                self.borglet.disk_is_full = full;
            }
            Op::Advance(ms) => {
                let until_ms = self.now_ms + ms;
                while let Some(at_ms) = self.borglet.next_ms().filter(|&at_ms| at_ms <= until_ms) {
                    self.now_ms = self.now_ms.max(at_ms);
                    let actions = self.borglet.advance(at_ms, &behaviour);
                    self.check(&actions);
                }
                self.now_ms = until_ms;
            }
        }
        self.check(&[]);
    }

    fn deliver(&mut self, message: Input) {
        let ticked = self.borglet.input(self.now_ms, Input::Tick, &behaviour);
        self.check(&ticked);
        let before = self.borglet.agent().clone();
        let (older, higher) = match &message {
            Input::Wanted(wanted) => (wanted.fence < before.fence(), wanted.fence > before.fence()),
            Input::Poll(poll) => {
                let (asks, highest) = (poll.fence.term, before.fence().term);
                (asks < highest, asks > highest)
            }
            Input::Persisted(_) | Input::PersistFailed(_) | Input::Task(..) | Input::Tick => {
                unreachable!("not sent by masters")
            }
        };
        let actions = self.borglet.input(self.now_ms, message, &behaviour);
        if older {
            assert!(matches!(&actions[..], [Action::Refuse(_)]), "{actions:?}");
            assert_eq!(self.borglet.agent(), &before, "an older fence changed something");
        }
        let persisted = actions.iter().position(|action| matches!(action, Action::Persist(_)));
        if self.disk_is_full && persisted.is_some() {
            assert!(matches!(&actions[..], [Action::Persist(_), Action::Refuse(_)]), "{actions:?}");
            assert_eq!(self.borglet.agent().report().tasks, before.report().tasks);
        }
        if higher && !started(&actions).is_empty() {
            assert_eq!(persisted, Some(0), "acted before the fence was on disk");
        }
        self.check(&actions);
    }

    /// What holds always.
    fn check(&mut self, actions: &[Action]) {
        for incarnation in started(actions) {
            assert!(self.started.insert(incarnation), "{incarnation} started twice");
        }
        let mut keys: BTreeSet<TaskKey> = BTreeSet::new();
        for task in self.borglet.machine().alive() {
            assert!(keys.insert(task.key), "two incarnations of {:?}", task.key);
        }
        let report = self.borglet.agent().report();
        if report.needs_whole {
            // It may know of nothing, or only of what was before.
            self.given_up.clear();
            return;
        }
        let held = usize::try_from(report.generation).expect("of this history");
        let held = &self.history[held];
        let unwanted = |task: &&WantedTask| !held.contains_key(&task.incarnation);
        let alive: BTreeSet<Incarnation> =
            self.borglet.machine().alive().filter(unwanted).map(|task| task.incarnation).collect();
        self.given_up.retain(|incarnation, _| alive.contains(incarnation));
        for incarnation in alive {
            let since_ms = *self.given_up.entry(incarnation).or_insert(self.now_ms);
            assert!(
                self.now_ms <= since_ms + GIVEN_UP_MS_MAX,
                "{incarnation:?} outlives the bound"
            );
        }
    }

    /// The faults end, and the leader says once what it wants.
    fn converge(&mut self) {
        self.run(Op::Disk { full: false });
        self.network.clear();
        self.run(Op::NewLeader);
        let generation = self.generation(0);
        self.deliver(Input::Wanted(self.wanted(self.term, generation, None)));
        self.run(Op::Advance(600_000));

        let report = self.borglet.agent().report();
        let wanted = &self.history[generation];
        assert_eq!(
            Fence { term: report.term, generation: report.generation },
            fence(self.term, generation as u64)
        );
        assert!(!report.needs_whole);
        let known: Vec<Incarnation> = report.tasks.iter().map(|task| task.incarnation).collect();
        assert_eq!(known, wanted.keys().copied().collect::<Vec<_>>());
        let mut running = Vec::new();
        for task in report.tasks {
            let wanted = &wanted[&task.incarnation];
            match task.state {
                ReportedState::Running => {
                    assert_eq!(wanted.stop, None, "{wanted:?} should have ended");
                    running.push(wanted.incarnation);
                }
                ReportedState::Exited(_) => {
                    let prevented =
                        wanted.stop.is_some() || wanted.stop_after_disconnect_ms.is_some();
                    assert!(prevented || self.started.contains(&wanted.incarnation.0));
                }
                ReportedState::Starting | ReportedState::Stopping => {
                    panic!("{wanted:?} is {:?}", task.state)
                }
            }
        }
        let alive: Vec<Incarnation> =
            self.borglet.machine().alive().map(|task| task.incarnation).collect();
        assert_eq!(alive, running);
    }
}

/// New or changed tasks, and those that are gone.
fn differences(base: &State, state: &State) -> (Vec<WantedTask>, Vec<Incarnation>) {
    let new = state.values().filter(|task| base.get(&task.incarnation) != Some(task)).cloned();
    let gone = base.keys().filter(|incarnation| !state.contains_key(incarnation)).copied();
    (new.collect(), gone.collect())
}

proptest! {
    // Some thousands take half a second.
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn under_any_faults_nothing_runs_twice_and_in_the_end_what_is_wanted_runs(
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let mut world = World::new();
        for op in ops {
            world.run(op);
        }
        world.converge();
    }

    #[test]
    fn differences_lead_to_the_same_as_whole_states(
        ops in prop::collection::vec(op(), 1..60),
    ) {
        let mut world = World::new();
        let mut other = FakeBorglet::new(config(), 0);
        for op in ops {
            let changes_wishes = match op {
                Op::Place(_) | Op::Stop(..) | Op::Drop(_) | Op::Adjust(_) | Op::Acknowledge => true,
                Op::Advance(_) => false,
                Op::Send { .. } | Op::Poll { .. } | Op::NewLeader | Op::Deliver { .. }
                | Op::Lose(_) | Op::Restart | Op::Reboot | Op::Disk { .. } => continue,
            };
            world.run(op);
            if changes_wishes {
                let generation = world.generation(0);
                let base = (generation > 1).then(|| generation - 1);
                let by_difference = Input::Wanted(world.wanted(3, generation, base));
                let by_whole = Input::Wanted(world.wanted(3, generation, None));
                world.borglet.input(world.now_ms, by_difference, &behaviour);
                other.input(world.now_ms, by_whole, &behaviour);
            } else {
                other.advance(world.now_ms, &behaviour);
            }
            prop_assert_eq!(world.borglet.agent(), other.agent());
        }
    }
}
