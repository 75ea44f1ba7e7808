//! Whether machines are heard, and what becomes of the tasks of those that are not.
//!
//! A machine that was silent for long is marked down; once all machines were asked once more its tasks are
//! given up at a limited rate, highest priority first. If too large a share of machines falls silent at once nothing is given up: it is more
//! likely our network. Source: Borg (EuroSys '15) §3.3 and §4.

use cell::MachineId;
use cell::live::{EvictCause, Health, Op, Phase, State, Timestamp};

use crate::drain::drained_tasks;
use crate::{Core, Output};

/// How often the round is made, in milliseconds.
const EVERY_MS: u64 = 500;

/// So many tasks are given up in one round at most, whatever the rate allows.
const EVICTION_COUNT_MAX: usize = 2_000;

/// When each machine was last heard by this leader.
#[derive(Debug)]
pub(crate) struct Contacts {
    heard_at: Vec<Timestamp>,
    /// Whether it was heard since this leader leads: only then it is up for certain.
    is_heard: Vec<bool>,
}

impl Contacts {
    /// A new leader gives every machine the time to be heard.
    pub(crate) fn new(now: Timestamp, machine_count: usize) -> Self {
        Self { heard_at: vec![now; machine_count], is_heard: vec![false; machine_count] }
    }

    pub(crate) fn grow(&mut self, now: Timestamp, machine_count: usize) {
        self.heard_at.resize(machine_count, now);
        self.is_heard.resize(machine_count, false);
    }

    pub(crate) fn heard(&mut self, machine: MachineId, now: Timestamp) {
        if let Some(at) = self.heard_at.get_mut(machine.index()) {
            *at = (*at).max(now);
            self.is_heard[machine.index()] = true;
        }
    }
}

impl Core {
    pub(crate) fn health_round(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let Some(leader) = &mut self.leader else { return };
        if now.since_ms(leader.rounds.health) < EVERY_MS {
            return;
        }
        leader.rounds.health = now;
        let silent_after = self.state.settings().silent_after_ms;
        let mut changed = Vec::new();
        for (id, machine) in self.state.machines() {
            if machine.is_removed {
                continue;
            }
            let is_silent = now.since_ms(leader.contacts.heard_at[id.index()]) > silent_after;
            let is_heard = leader.contacts.is_heard[id.index()] && !is_silent;
            match machine.health {
                Health::Up if is_silent => changed.push((id, false)),
                Health::Unknown | Health::Down { .. } if is_heard => changed.push((id, true)),
                Health::Up | Health::Unknown | Health::Down { .. } => {}
            }
        }
        if !changed.is_empty() {
            self.propose(now, Op::Health { machines: changed }, out);
        }
        let lost = lost_tasks(&self.state, now);
        if !lost.is_empty() {
            self.propose(now, Op::Evict { tasks: lost, cause: EvictCause::MachineLost }, out);
        }
        let drained = drained_tasks(&self.state);
        if !drained.is_empty() {
            self.propose(now, Op::Evict { tasks: drained, cause: EvictCause::MachineDrained }, out);
        }
    }
}

/// Tasks that are given up now because their machines are down: the most important first.
pub(crate) fn lost_tasks(
    state: &State,
    now: Timestamp,
) -> Vec<(cell::borglet::TaskKey, cell::borglet::Incarnation)> {
    let allowed = (state.evictions_allowed(now) as usize).min(EVICTION_COUNT_MAX);
    if state.is_mass_loss() || allowed == 0 || state.machine_counts().1 == 0 {
        return Vec::new();
    }
    let mut lost = Vec::new();
    for (_, machine) in state.machines().filter(|&(id, _)| state.is_given_up(id, now)) {
        for &(incarnation, id) in machine.tasks() {
            // What is in an alloc goes with it.
            let is_inside = state.cell().job(id.job).alloc_set.is_some();
            if matches!(state.record(id).phase, Phase::Running { .. }) && !is_inside {
                let priority = state.cell().job(id.job).priority;
                lost.push((std::cmp::Reverse(priority), incarnation, state.key(id)));
            }
        }
    }
    lost.sort_unstable();
    lost.truncate(allowed);
    lost.into_iter().map(|(_, incarnation, key)| (key, incarnation)).collect()
}
