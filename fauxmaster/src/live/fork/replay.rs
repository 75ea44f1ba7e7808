//! The fork itself: what others did is done again, what the master did is done afresh.

use std::collections::{BTreeMap, BTreeSet};

use borgmaster_core::{LiveRooms, evictions};
use cell::borglet::{ExitCause, Incarnation, TaskKey};
use cell::live::{
    Applied, Assignment, Change, Command, DeathCause, Done, Entry, MachineStep, Observation, Op,
    Outcome, Phase, Rejected, Request, Seen, State, Target, TaskStep, Timestamp, What,
};
use cell::spec::MachineSpec;
use cell::{JobKind, MachineId, TaskId};
use scheduler::{PassOptions, Snapshot, Speed, pass};

use super::ForkOptions;
use super::clock::{Begun, Watch};
use super::lives::{Lives, Recording, is_from_outside, number_of};
use super::side::Side;

/// A pass is made so long after something that may let more be placed, unless the recording makes one
/// before. Our guess at how long a master takes to plan.
const PASS_AFTER_MS: u64 = 100;

/// How often evictions are looked for, in milliseconds; as a master does.
const ROUND_EVERY_MS: u64 = 500;

/// Something that a borglet sees.
#[derive(Clone, Debug)]
struct Sight {
    task: TaskKey,
    incarnation: Incarnation,
    seen: Seen,
}

/// A fork under way.
#[derive(Debug)]
pub(super) struct Replay<'a> {
    pub side: Side,
    pub refused_operations: usize,
    options: &'a ForkOptions,
    rooms: LiveRooms,
    lives: Lives,
    watch: Watch,
    /// What will be seen, and when; in the order in which it was foreseen.
    due: BTreeMap<(Timestamp, u64), Sight>,
    foreseen_count: u64,
    /// What was not told because the machine was down.
    unheard: BTreeMap<MachineId, Vec<Sight>>,
    /// When a pass is to be made at the latest.
    passes: BTreeSet<Timestamp>,
    pass_count: u64,
    last_round: Timestamp,
    /// Numbers of sessions and jobs, of the recording in the fork and back.
    to_fork: BTreeMap<u64, u64>,
    to_recorded: BTreeMap<u64, u64>,
    /// Names of machines, by their numbers in the recording.
    machine_names: Vec<String>,
    /// Machines that were removed in the recording, and still hold tasks in the fork.
    leaving: BTreeSet<String>,
}

impl<'a> Replay<'a> {
    /// Replays the log from this state on.
    pub(super) fn run(
        start: State,
        log: &[(u64, Option<Entry>)],
        recording: &Recording,
        options: &'a ForkOptions,
    ) -> Self {
        let (begin, end) = (recording.side.begin, recording.side.state.now());
        let mut replay = Self {
            refused_operations: 0,
            options,
            rooms: LiveRooms::default(),
            lives: recording.lives.clone(),
            watch: Watch::default(),
            due: BTreeMap::new(),
            foreseen_count: 0,
            unheard: BTreeMap::new(),
            passes: BTreeSet::new(),
            pass_count: 0,
            last_round: begin,
            // Until here both are the same, and so are their numbers.
            to_fork: BTreeMap::new(),
            to_recorded: BTreeMap::new(),
            machine_names: start.machines().map(|(_, m)| m.spec.name.clone()).collect(),
            leaving: BTreeSet::new(),
            side: Side::new(start, begin, end),
        };
        replay.begin();
        for (index, entry) in log {
            let Some(entry) = entry else { continue };
            let at = entry.at.max(replay.state().now());
            replay.run_until(at);
            replay.entry(at, entry, recording.answers.get(index));
        }
        replay.run_until(end);
        replay.side.finish();
        replay
    }

    const fn state(&self) -> &State {
        &self.side.state
    }

    /// Foresees what comes of the state at the beginning.
    fn begin(&mut self) {
        let now = self.side.begin;
        let (_, next_number) = self.state().next_numbers();
        for number in 0..next_number {
            self.to_fork.insert(number, number);
            self.to_recorded.insert(number, number);
        }
        let begun = self.watch.begin(&self.side.state);
        self.foresee(begun);
        let mut running = Vec::new();
        for (_, machine) in self.state().machines() {
            for &(incarnation, id) in machine.tasks() {
                if let Phase::Running { started_at: Some(at), .. } = self.state().record(id).phase {
                    running.push((self.state().key(id), incarnation, at));
                }
            }
        }
        for (key, incarnation, at) in running {
            self.foresee_end(key, incarnation, at);
        }
        self.passes.insert(now.plus_ms(PASS_AFTER_MS));
        let state = &self.side.state;
        let back_offs = state.waiting().filter_map(|key| not_before(state, key));
        self.passes.extend(back_offs.filter(|&at| at > now));
    }

    /// Does what is due until a time.
    fn run_until(&mut self, until: Timestamp) {
        loop {
            let sight = self.due.first_key_value().map(|(&(at, _), _)| at);
            let pass = self.passes.first().copied();
            match (sight, pass) {
                (Some(at), pass) if at <= until && pass.is_none_or(|pass| at <= pass) => {
                    if let Some((_, sight)) = self.due.pop_first() {
                        self.see(at, sight);
                    }
                }
                (_, Some(at)) if at <= until => self.pass(at),
                _ => return,
            }
        }
    }

    fn see(&mut self, at: Timestamp, sight: Sight) {
        let state = self.state();
        let place =
            state.task_id(sight.task).and_then(|id| state.record(id).phase.place().copied());
        let Some(place) = place.filter(|place| place.incarnation == sight.incarnation) else {
            return; // It is not there any more.
        };
        if state.machine_at(place.machine).is_down() {
            self.unheard.entry(place.machine).or_default().push(sight);
            return;
        }
        let Sight { task, incarnation, seen } = sight;
        let observations = vec![Observation { task, incarnation, seen }];
        self.apply(at, vec![ours(Op::Observe { observations })]);
    }

    /// Applies an entry, and foresees what comes of it.
    fn apply(&mut self, at: Timestamp, commands: Vec<Command>) -> Applied {
        let index = self.state().index() + 1;
        let applied = self.side.apply(index, &Entry { at, commands });
        let now = self.state().now();
        let waits = |change: &Change| matches!(change, Change::Job(_) | Change::Waits(_));
        if self.rooms.follow(&self.side.state, &applied.changes)
            || applied.changes.iter().any(waits)
        {
            self.passes.insert(now.plus_ms(PASS_AFTER_MS));
        }
        for event in &applied.events {
            match &event.what {
                What::Task { task, incarnation: Some(incarnation), step, .. } => match step {
                    TaskStep::Started => self.foresee_end(*task, *incarnation, now),
                    TaskStep::Exited(_)
                    | TaskStep::Died(DeathCause::Finished | DeathCause::Failed(_)) => {
                        if let Some(recorded) = self.recorded(*task) {
                            self.lives.has_run(recorded);
                        }
                        let back_off = not_before(&self.side.state, *task);
                        self.passes.extend(back_off.filter(|&at| at > now));
                    }
                    TaskStep::Scheduled
                    | TaskStep::Notified(_)
                    | TaskStep::Evicted(_)
                    | TaskStep::Died(DeathCause::Killed)
                    | TaskStep::Health(_)
                    | TaskStep::Unassigned => {}
                },
                What::Machine { machine, step: MachineStep::Up } => {
                    for sight in self.unheard.remove(machine).unwrap_or_default() {
                        self.put(now, sight);
                    }
                }
                What::Task { .. }
                | What::Machine { .. }
                | What::Submitted { .. }
                | What::Updated { .. }
                | What::Ended { .. }
                | What::Restored { .. } => {}
            }
        }
        let begun = self.watch.follow(&self.side.state, &applied.changes);
        self.foresee(begun);
        applied
    }

    fn put(&mut self, at: Timestamp, sight: Sight) {
        self.foreseen_count += 1;
        self.due.insert((at, self.foreseen_count), sight);
    }

    fn foresee(&mut self, begun: Vec<Begun>) {
        let now = self.state().now();
        for begun in begun {
            match begun {
                Begun::Starting(task, incarnation) => {
                    let ms = self.recorded(task).map_or(0, |task| self.lives.next_start(task));
                    self.put(now.plus_ms(ms), Sight { task, incarnation, seen: Seen::Started });
                }
                Begun::Stopping(task, incarnation) => {
                    let ms = self.recorded(task).map_or(0, |task| self.lives.next_stop(task));
                    let seen = Seen::Exited(ExitCause::Stopped);
                    self.put(now.plus_ms(ms), Sight { task, incarnation, seen });
                }
            }
        }
    }

    fn foresee_end(&mut self, task: TaskKey, incarnation: Incarnation, started_at: Timestamp) {
        let run = self.recorded(task).and_then(|task| self.lives.next_run(task));
        if let Some((ms, cause)) = run {
            let seen = Seen::Exited(cause.clone());
            let at = started_at.plus_ms(*ms).max(self.state().now());
            self.put(at, Sight { task, incarnation, seen });
        }
    }

    /// The task as the recording knows it.
    fn recorded(&self, task: TaskKey) -> Option<TaskKey> {
        let job = *self.to_recorded.get(&task.job)?;
        Some(TaskKey { job, ..task })
    }

    /// A task of the recording that runs in the fork: the key, and its placement there.
    fn running(&self, task: TaskKey) -> Option<(TaskKey, Incarnation)> {
        let task = TaskKey { job: *self.to_fork.get(&task.job)?, ..task };
        match self.state().record(self.state().task_id(task)?).phase {
            Phase::Running { place, .. } => Some((task, place.incarnation)),
            Phase::Waiting { .. }
            | Phase::Assigned(_)
            | Phase::Stopping { .. }
            | Phase::Dead { .. } => None,
        }
    }

    /// Does again what others did in an entry of the recording.
    fn entry(&mut self, at: Timestamp, entry: &Entry, answers: Option<&Vec<Option<Outcome>>>) {
        let mut makes_pass = false;
        for (number, command) in entry.commands.iter().enumerate() {
            let answer = answers.and_then(|answers| answers.get(number)?.as_ref());
            if is_from_outside(&command.op) {
                if let Some(answer @ Ok(_)) = answer {
                    self.redo(at, command, answer);
                }
                continue;
            }
            makes_pass |= matches!(command.op, Op::Assign { .. });
            if let Some(op) = self.translated(&command.op) {
                self.apply(at, vec![ours(op)]);
            }
        }
        if at.since_ms(self.last_round) >= ROUND_EVERY_MS {
            self.last_round = at;
            self.round(at);
        }
        if makes_pass {
            self.pass(at);
        }
    }

    /// What machines did, in the fork's terms; `None`: nothing of it is done again.
    fn translated(&self, op: &Op) -> Option<Op> {
        match op {
            Op::Observe { observations } => {
                let seen = observations.iter().filter_map(|observation| match observation.seen {
                    Seen::Health(is_healthy) => {
                        let (task, incarnation) = self.running(observation.task)?;
                        Some(Observation { task, incarnation, seen: Seen::Health(is_healthy) })
                    }
                    // Foreseen from how long they took.
                    Seen::Started | Seen::Exited(_) => None,
                });
                let observations: Vec<Observation> = seen.collect();
                (!observations.is_empty()).then_some(Op::Observe { observations })
            }
            Op::Health { machines } => {
                let machines = machines.iter().filter_map(|&(id, is_up)| {
                    let name = self.machine_names.get(id.index())?;
                    Some((self.state().machine(name)?, is_up))
                });
                Some(Op::Health { machines: machines.collect() })
            }
            Op::Reserve { reservations } => {
                let reservations = reservations.iter().filter_map(|&(task, _, reservation)| {
                    let (task, incarnation) = self.running(task)?;
                    Some((task, incarnation, reservation))
                });
                let reservations: Vec<_> = reservations.collect();
                (!reservations.is_empty()).then_some(Op::Reserve { reservations })
            }
            Op::Expire => Some(Op::Expire),
            // The first is done by passes, the second by rounds; the rest does not come from machines.
            Op::Assign { .. }
            | Op::Evict { .. }
            | Op::OpenSession
            | Op::Submit { .. }
            | Op::Update { .. }
            | Op::Undo { .. }
            | Op::Kill { .. }
            | Op::SetQuota(_)
            | Op::SetCapabilities { .. }
            | Op::AddMachines { .. }
            | Op::Drain { .. }
            | Op::Repair { .. }
            | Op::RemoveMachine { .. }
            | Op::Configure(_)
            | Op::RestorePart { .. }
            | Op::RestoreFinish { .. } => None,
        }
    }

    /// Does again what a user or an operator did, and was answered with success.
    fn redo(&mut self, at: Timestamp, command: &Command, recorded: &Outcome) {
        let request = command.request.as_ref().map(|request| {
            let session = self.to_fork.get(&request.session).copied();
            Request { session: session.unwrap_or(request.session), ..request.clone() }
        });
        let command = Command { request, op: command.op.clone() };
        let op = command.op.clone();
        let outcome = self.apply(at, vec![command]).answers.pop().map(|(_, outcome)| outcome);
        if let (Some(from), Some(to)) = (number_of(recorded), outcome.as_ref().and_then(number_of))
        {
            self.to_fork.insert(from, to);
            self.to_recorded.insert(to, from);
        }
        let is_refused = matches!(outcome, Some(Err(_)));
        if let Op::AddMachines { machines } = op {
            self.added(at, machines, is_refused);
        } else if let Op::RemoveMachine { machine } = op
            && matches!(outcome, Some(Err(Rejected::InUse { .. })))
        {
            self.apply(at, vec![ours(Op::Drain { machine: machine.clone() })]);
            self.leaving.insert(machine);
        } else {
            self.refused_operations += usize::from(is_refused);
        }
    }

    /// Machines were added in the recording; and in the fork, unless that was refused there.
    fn added(&mut self, at: Timestamp, machines: Vec<(MachineSpec, String)>, is_refused: bool) {
        for (spec, address) in machines {
            if !self.machine_names.contains(&spec.name) {
                self.machine_names.push(spec.name.clone());
            }
            if self.leaving.remove(&spec.name) {
                self.apply(at, vec![ours(Op::Repair { machine: spec.name.clone() })]);
            }
            // One that its tasks do not let shrink holds up no other.
            if is_refused {
                let op = Op::AddMachines { machines: vec![(spec, address)] };
                let applied = self.apply(at, vec![ours(op)]);
                let refused = applied.answers.iter().filter(|(_, answer)| answer.is_err());
                self.refused_operations += refused.count();
            }
        }
    }

    /// Evicts as a master would, and removes machines once they are empty.
    fn round(&mut self, at: Timestamp) {
        for op in evictions(&self.side.state, at) {
            self.apply(at, vec![ours(op)]);
        }
        for machine in self.leaving.clone() {
            let op = Op::RemoveMachine { machine: machine.clone() };
            let applied = self.apply(at, vec![ours(op)]);
            if applied.answers.iter().all(|(_, answer)| *answer == Ok(Done::Done)) {
                self.leaving.remove(&machine);
            }
        }
    }

    /// Places what waits, as far as the policy finds room.
    fn pass(&mut self, at: Timestamp) {
        self.passes.retain(|&wanted| wanted > at);
        let state = &self.side.state;
        let now = at.max(state.now());
        let waiting = state.waiting().filter(|&key| state.is_eligible(key, now));
        let queue: Vec<TaskId> = waiting.filter_map(|key| state.task_id(key)).collect();
        if queue.is_empty() {
            return;
        }
        self.pass_count += 1;
        let options = PassOptions {
            policy: self.options.policy.clone(),
            queue: self.options.policy.queue,
            seed: scheduler::mix(self.options.seed ^ self.pass_count),
            speed: Speed::default(),
            pending_limit: None,
        };
        let snapshot =
            Snapshot::resume(state.cell(), scheduler::Rooms::clone(self.rooms.get(state)));
        let plan = pass(&snapshot, &queue, &options);
        let assignments = plan.assignments.iter().filter_map(|found| {
            let victims = found.victims.iter().map(|&victim| {
                // One that this very plan placed has no number yet: its place waits for the next pass.
                Some((state.key(victim), state.task_place(victim)?.incarnation))
            });
            Some(Assignment {
                task: state.key(found.task),
                on: match plan.end.alloc(found.row) {
                    Some(alloc) => Target::Alloc(state.key(alloc)),
                    None => Target::Machine(plan.end.slot(found.row).machine),
                },
                gpu_devices: found.gpu_devices,
                victims: victims.collect::<Option<_>>()?,
            })
        });
        let assignments: Vec<Assignment> = assignments.collect();
        if !assignments.is_empty() {
            self.apply(at, vec![ours(Op::Assign { assignments })]);
        }
    }
}

/// An operation of the master's own.
const fn ours(op: Op) -> Command {
    Command { request: None, op }
}

/// Until when a waiting task backs off.
fn not_before(state: &State, key: TaskKey) -> Option<Timestamp> {
    let id = state.task_id(key)?;
    match state.record(id).phase {
        Phase::Waiting { not_before, .. } if state.job_at(id.job).kind == JobKind::Job => {
            Some(not_before)
        }
        Phase::Waiting { .. }
        | Phase::Assigned(_)
        | Phase::Running { .. }
        | Phase::Stopping { .. }
        | Phase::Dead { .. } => None,
    }
}
