//! The link shard: between the master and the borglets of some machines.
//!
//! It polls each machine in turn and sends changes of its wanted state at once, as differences to what the
//! machine holds; a borglet's full state comes up, and only what differs from its last report goes on to
//! the core. Pure: the shell, or the simulation, carries the messages.
//!
//! Source: Borg (EuroSys '15) §3.3: "Each Borgmaster replica runs a stateless link shard … for resiliency,
//! the Borglet always reports its full state, but the link shards aggregate and compress this information
//! by reporting only differences to the state machines".

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use cell::MachineId;
use cell::borglet::{
    ExitCause, Fence, Incarnation, Poll, Refusal, RefusalReason, Report, ReportedState, TaskKey,
    TaskReport, Wanted, WantedTask,
};
use cell::live::{Observation, Phase, Seen, State, Timestamp};

use crate::{UsageSample, WantedSet};

/// What a machine reported that the core has not heard yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The machine.
    pub machine: MachineId,
    /// Tasks that are not as they were last reported.
    pub changed: Vec<TaskReport>,
    /// Tasks that the machine was told of, and does not have.
    pub missing: Vec<(TaskKey, Incarnation)>,
    /// What the tasks use, with their age in milliseconds.
    pub usages: Vec<UsageSample>,
}

/// What can happen to a link shard.
#[derive(Debug)]
pub enum ShardInput {
    /// What a machine is to run.
    Wanted(WantedSet),
    /// A machine's report came.
    Report(MachineId, Report),
    /// A machine refused a message.
    Refused(MachineId, Refusal),
    /// The stream to a machine's borglet broke, and what was sent may be lost.
    Broken(MachineId),
    /// Time passed.
    Tick,
}

/// What a link shard wants done.
#[derive(Debug)]
pub enum ShardOutput {
    /// To the machine.
    Poll(MachineId, Poll),
    /// To the machine.
    Wanted(MachineId, Wanted),
    /// To the core.
    Heard(Heard),
    /// A borglet has heard of a later term: this master has been deposed.
    Deposed {
        /// The later term.
        term: u64,
    },
}

/// The links to some machines, under one leader.
#[derive(Debug)]
pub struct LinkShard {
    term: u64,
    poll_interval_ms: u64,
    links: BTreeMap<MachineId, Link>,
}

#[derive(Debug)]
struct Link {
    /// What the machine is to run, as of this generation.
    generation: u64,
    tasks: BTreeMap<Incarnation, WantedTask>,
    /// What the machine was last sent, if it is known to build on it.
    sent: Option<Sent>,
    /// When it was last sent something whole that was not confirmed.
    whole_at: Option<Timestamp>,
    polled_at: Option<Timestamp>,
    reported: BTreeMap<Incarnation, (ReportedState, bool)>,
}

#[derive(Debug)]
struct Sent {
    at: Timestamp,
    generation: u64,
    /// What is otherwise by now, and whether it was among what was sent.
    stale: BTreeMap<Incarnation, bool>,
}

/// What a machine was sent so long ago and does not hold is taken as lost. Our guess: a few times the time
/// that a message and its answer take.
const SENT_AGAIN_MS: u64 = 1_000;

/// A whole state that was not confirmed is sent again after so long.
const WHOLE_AGAIN_MS: u64 = 1_000;

impl LinkShard {
    /// A shard without links.
    #[must_use]
    pub fn new(term: u64, poll_interval_ms: u64) -> Self {
        Self { term, poll_interval_ms, links: BTreeMap::new() }
    }

    /// Polls each machine so often from now on.
    pub const fn poll_every(&mut self, interval_ms: u64) {
        self.poll_interval_ms = interval_ms;
    }

    /// Gives up the link to a machine.
    pub fn forget(&mut self, machine: MachineId) {
        self.links.remove(&machine);
    }

    /// Advances by one input.
    pub fn step(&mut self, now: Timestamp, input: ShardInput) -> Vec<ShardOutput> {
        let mut out = Vec::new();
        match input {
            ShardInput::Wanted(wanted) => self.wanted(now, wanted, &mut out),
            ShardInput::Report(machine, report) => self.report(now, machine, report, &mut out),
            ShardInput::Refused(machine, refusal) => self.refused(machine, &refusal, &mut out),
            ShardInput::Broken(machine) => {
                if let Some(link) = self.links.get_mut(&machine) {
                    link.sent = None;
                    link.whole_at = None;
                    link.polled_at = None;
                }
            }
            ShardInput::Tick => self.tick(now, &mut out),
        }
        out
    }

    fn wanted(&mut self, now: Timestamp, wanted: WantedSet, out: &mut Vec<ShardOutput>) {
        if wanted.term != self.term {
            return; // Of a time when another led.
        }
        let machine = wanted.machine;
        let link = match self.links.entry(machine) {
            Entry::Occupied(link) => link.into_mut(),
            // What changed makes no sense without what it changes.
            Entry::Vacant(_) if !wanted.is_whole => return,
            Entry::Vacant(place) => place.insert(Link {
                generation: wanted.generation,
                tasks: BTreeMap::new(),
                sent: None,
                whole_at: None,
                polled_at: None,
                reported: BTreeMap::new(),
            }),
        };
        if wanted.generation >= link.generation {
            link.take(wanted);
        }
        link.bring_up_to_date(machine, self.term, now, out);
    }

    fn tick(&mut self, now: Timestamp, out: &mut Vec<ShardOutput>) {
        for (&machine, link) in &mut self.links {
            let is_due = link.polled_at.is_none_or(|at| now.since_ms(at) >= self.poll_interval_ms);
            if is_due {
                // Polls are spread over the interval by the machine's number.
                let spread = u64::from(machine.0).wrapping_mul(7919) % self.poll_interval_ms;
                link.polled_at = Some(match link.polled_at {
                    None => Timestamp(now.0.saturating_sub(spread)),
                    Some(_) => now,
                });
                let fence = Fence { term: self.term, generation: link.generation };
                out.push(ShardOutput::Poll(machine, Poll { fence }));
            }
            link.bring_up_to_date(machine, self.term, now, out);
        }
    }

    fn refused(&mut self, machine: MachineId, refusal: &Refusal, out: &mut Vec<ShardOutput>) {
        let Some(link) = self.links.get_mut(&machine) else { return };
        match refusal.reason {
            RefusalReason::Older if refusal.highest.term > self.term => {
                out.push(ShardOutput::Deposed { term: refusal.highest.term });
            }
            RefusalReason::Older
            | RefusalReason::Busy
            | RefusalReason::NotPersisted
            | RefusalReason::TooManyTasks
            | RefusalReason::Malformed => {
                // What is held there is not known for certain: the whole state, after a while.
                link.sent = None;
            }
        }
    }

    fn report(
        &mut self,
        now: Timestamp,
        machine: MachineId,
        report: Report,
        out: &mut Vec<ShardOutput>,
    ) {
        let Some(link) = self.links.get_mut(&machine) else { return };
        if report.term > self.term {
            out.push(ShardOutput::Deposed { term: report.term });
            return;
        }
        let (changed, missing, usages) = (Vec::new(), Vec::new(), Vec::new());
        let mut heard = Heard { machine, changed, missing, usages };
        let before = std::mem::take(&mut link.reported);
        for task in &report.tasks {
            if task.state == ReportedState::Running {
                heard.usages.push((task.key, task.incarnation, task.usage, task.age_ms));
            }
            let seen = (task.state.clone(), task.healthy);
            if before.get(&task.incarnation) != Some(&seen) {
                heard.changed.push(task.clone());
            }
            link.reported.insert(task.incarnation, seen);
        }
        let is_current = report.term == self.term && report.generation == link.generation;
        if is_current && !report.needs_whole {
            let missing = |task: &&WantedTask| !link.reported.contains_key(&task.incarnation);
            let tasks = link.tasks.values().filter(missing);
            heard.missing = tasks.map(|task| (task.key, task.incarnation)).collect();
            link.whole_at = None;
        }
        // What was sent a while ago and is not there was lost.
        let is_behind = !is_current
            && link.sent.as_ref().is_some_and(|sent| now.since_ms(sent.at) >= SENT_AGAIN_MS);
        if report.needs_whole || is_behind {
            link.sent = None;
        }
        out.push(ShardOutput::Heard(heard));
        link.bring_up_to_date(machine, self.term, now, out);
    }
}

impl Link {
    fn take(&mut self, wanted: WantedSet) {
        let WantedSet { machine: _, term: _, generation, is_whole, tasks, mut gone } = wanted;
        self.generation = generation;
        if is_whole {
            let is_wanted = |incarnation: &&Incarnation| {
                tasks.binary_search_by_key(*incarnation, |task| task.incarnation).is_err()
            };
            gone = self.tasks.keys().filter(is_wanted).copied().collect();
        }
        for task in tasks {
            let incarnation = task.incarnation;
            let before = self.tasks.get(&incarnation);
            if before == Some(&task) {
                continue;
            }
            if let Some(sent) = &mut self.sent {
                sent.stale.entry(incarnation).or_insert(before.is_some());
            }
            self.tasks.insert(incarnation, task);
        }
        for incarnation in gone {
            let was_there = self.tasks.remove(&incarnation).is_some();
            let Some(sent) = &mut self.sent else { continue };
            // What came and went in between concerns nobody.
            if !*sent.stale.entry(incarnation).or_insert(was_there) {
                sent.stale.remove(&incarnation);
            }
        }
    }

    /// Sends what the machine lacks: differences where it is known what they build on, else everything.
    fn bring_up_to_date(
        &mut self,
        machine: MachineId,
        term: u64,
        now: Timestamp,
        out: &mut Vec<ShardOutput>,
    ) {
        let generation = self.generation;
        let fence = Fence { term, generation };
        let message = match &self.sent {
            Some(sent) if sent.generation == generation => return,
            Some(sent) => {
                let stale = || sent.stale.keys();
                let tasks = stale().filter_map(|incarnation| self.tasks.get(incarnation).cloned());
                let gone = stale().filter(|incarnation| !self.tasks.contains_key(incarnation));
                let (tasks, gone) = (tasks.collect(), gone.copied().collect());
                Wanted { fence, base: Some(sent.generation), tasks, gone }
            }
            None => {
                if self.whole_at.is_some_and(|at| now.since_ms(at) < WHOLE_AGAIN_MS) {
                    return;
                }
                self.whole_at = Some(now);
                let tasks = self.tasks.values().cloned().collect();
                Wanted { fence, base: None, tasks, gone: Vec::new() }
            }
        };
        self.sent = Some(Sent { at: now, generation, stale: BTreeMap::new() });
        out.push(ShardOutput::Wanted(machine, message));
    }
}

/// What a task's report says.
pub(crate) fn observations(
    task: TaskKey,
    incarnation: Incarnation,
    reported: &ReportedState,
    is_healthy: bool,
) -> Vec<Observation> {
    let seen = match reported {
        ReportedState::Starting | ReportedState::Stopping => return Vec::new(),
        ReportedState::Running => vec![Seen::Started, Seen::Health(is_healthy)],
        ReportedState::Exited(cause) => vec![Seen::Exited(cause.clone())],
    };
    seen.into_iter().map(|seen| Observation { task, incarnation, seen }).collect()
}

/// Which of the things that can be seen of a task this is: one of each is kept.
pub(crate) const fn kind(seen: &Seen) -> u8 {
    match seen {
        Seen::Started => 0,
        Seen::Health(_) => 1,
        Seen::Exited(_) => 2,
    }
}

/// Whether the state does not know this yet.
pub(crate) fn is_news(state: &State, observation: &Observation) -> bool {
    let Observation { task, incarnation, seen } = observation;
    let Some(id) = state.task_id(*task) else { return false };
    match &state.record(id).phase {
        Phase::Running { place, started_at, is_healthy } if place.incarnation == *incarnation => {
            match seen {
                Seen::Started => started_at.is_none(),
                Seen::Health(is_now) => is_now != is_healthy,
                Seen::Exited(_) => true,
            }
        }
        Phase::Stopping { place, .. } if place.incarnation == *incarnation => {
            matches!(seen, Seen::Exited(_))
        }
        Phase::Running { .. }
        | Phase::Stopping { .. }
        | Phase::Assigned(_)
        | Phase::Waiting { .. }
        | Phase::Dead { .. } => false,
    }
}

/// An exit that nobody saw.
pub(crate) const fn lost() -> Seen {
    Seen::Exited(ExitCause::Lost)
}

#[cfg(test)]
mod tests {
    use cell::Resources;

    use super::*;

    const MACHINE: MachineId = MachineId(3);

    fn task(incarnation: u64, grace_ms: u64) -> WantedTask {
        WantedTask {
            key: TaskKey { job: 1, index: 0 },
            incarnation: Incarnation(incarnation),
            name: "web/0".to_owned(),
            priority: 0,
            limit: Resources::default(),
            gpu_devices: 0,
            user: String::new(),
            command: Vec::new(),
            grace_ms,
            latency_sensitive: false,
            stop_after_disconnect_ms: None,
            container: None,
            stop: None,
        }
    }

    fn whole(generation: u64, tasks: Vec<WantedTask>) -> WantedSet {
        let (machine, term, gone) = (MACHINE, 1, Vec::new());
        WantedSet { machine, term, generation, is_whole: true, tasks, gone }
    }

    fn changed(generation: u64, tasks: Vec<WantedTask>, gone: &[u64]) -> WantedSet {
        let gone = gone.iter().map(|&number| Incarnation(number)).collect();
        WantedSet { is_whole: false, gone, ..whole(generation, tasks) }
    }

    /// What is sent: what it builds on, the placements that are new or changed, and those that are gone.
    type Sent = (Option<u64>, Vec<u64>, Vec<u64>);

    fn sent(outputs: Vec<ShardOutput>) -> Vec<Sent> {
        let numbers = |of: Vec<Incarnation>| of.into_iter().map(|it| it.0).collect();
        let one = |output| match output {
            ShardOutput::Wanted(MACHINE, Wanted { base, tasks, gone, .. }) => {
                Some((base, numbers(tasks.iter().map(|t| t.incarnation).collect()), numbers(gone)))
            }
            ShardOutput::Wanted(..)
            | ShardOutput::Poll(..)
            | ShardOutput::Heard(_)
            | ShardOutput::Deposed { .. } => None,
        };
        outputs.into_iter().filter_map(one).collect()
    }

    fn shard_with(tasks: Vec<WantedTask>) -> LinkShard {
        let mut shard = LinkShard::new(1, 1_000);
        let first = shard.step(Timestamp(1), ShardInput::Wanted(whole(5, tasks)));
        assert_eq!(sent(first).len(), 1);
        shard
    }

    #[test]
    fn a_machine_is_told_what_changed_since_it_was_last_told() {
        let mut shard = shard_with(vec![task(1, 0), task(2, 0)]);
        let next = changed(6, vec![task(2, 9), task(7, 0)], &[1]);
        let told = sent(shard.step(Timestamp(2), ShardInput::Wanted(next)));
        assert_eq!(told, [(Some(5), vec![2, 7], vec![1])]);
        // As it is already, and what was never there.
        let next = changed(8, vec![task(7, 0)], &[4]);
        let told = sent(shard.step(Timestamp(3), ShardInput::Wanted(next)));
        assert_eq!(told, [(Some(6), vec![], vec![])]);
    }

    #[test]
    fn a_new_whole_is_told_as_what_differs() {
        let mut shard = shard_with(vec![task(1, 0), task(2, 0)]);
        let told = sent(shard.step(Timestamp(2), ShardInput::Wanted(whole(9, vec![task(2, 0)]))));
        assert_eq!(told, [(Some(5), vec![], vec![1])]);
        let told = sent(shard.step(Timestamp(3), ShardInput::Broken(MACHINE)));
        assert_eq!(told, []);
        let told = sent(shard.step(Timestamp(4), ShardInput::Tick));
        assert_eq!(told, [(None, vec![2], vec![])]);
    }

    #[test]
    fn what_is_older_or_has_nothing_to_build_on_is_not_taken() {
        let mut shard = shard_with(vec![task(1, 0)]);
        let old = changed(4, vec![], &[1]);
        assert_eq!(sent(shard.step(Timestamp(2), ShardInput::Wanted(old))), []);
        let mut empty = LinkShard::new(1, 1_000);
        let alone = changed(4, vec![task(1, 0)], &[]);
        assert_eq!(sent(empty.step(Timestamp(2), ShardInput::Wanted(alone))), []);
        assert_eq!(sent(empty.step(Timestamp(3), ShardInput::Tick)), []);
    }
}
