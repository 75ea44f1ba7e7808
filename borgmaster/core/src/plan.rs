//! Scheduling: when a pass is planned, on what, and what becomes of its plan.
//!
//! A pass reads an immutable snapshot and returns a plan, wherever there is time to run it; the plan is
//! proposed, and each assignment is checked again where it is applied. Several schedulers may plan at once,
//! each for the jobs that fall to it. The snapshot is kept current by the changes of each entry applied.
//!
//! Source: Borg (EuroSys '15) §3.2 and §3.4; Omega (EuroSys '13).

use std::collections::BTreeMap;
use std::sync::Arc;

use cell::borglet::TaskKey;
use cell::live::{Applied, Assignment, Change, Entry, Op, Refusal, State, Target, Timestamp};
use cell::{Cell, Host, TaskId};
use scheduler::{PassOptions, Policy, QueueOrder, Rooms, Snapshot, Speed, pass_on};

use crate::rooms::LiveRooms;
use crate::turns::Turns;
use crate::{Core, Output, PROPOSE_AGAIN_MS};

/// So many assignments go into one entry: a millisecond's work for each replica, which answers no question
/// meanwhile.
const ASSIGNMENT_COUNT_MAX: usize = 128;

/// So many tasks of the queue are looked at in one pass at most, and as many that are new, so that a long queue
/// does not hold up what comes after it. Our guess: half a second of work for as many that are all different.
pub(crate) const PASS_TASK_COUNT_MAX: usize = 20_000;

/// What a master keeps for its schedulers.
#[derive(Debug, Default)]
pub(crate) struct Planner {
    rooms: LiveRooms,
    /// Assignments that were proposed, and when.
    proposed: BTreeMap<TaskKey, Timestamp>,
    /// By scheduler: what it is to look at.
    turns: BTreeMap<u32, Turns>,
    /// By scheduler: the number of the pass that it plans now.
    planning: BTreeMap<u32, u64>,
    /// Counts the changes that may let more of what waits be placed.
    news_count: u64,
    pass_count: u64,
}

/// A pass to be planned.
#[derive(Debug)]
pub struct PlanRequest {
    scheduler: u32,
    cell: Cell,
    rooms: Arc<Rooms>,
    queue: Vec<TaskId>,
    policy: Policy,
    seed: u64,
    origin: Origin,
}

/// What state a pass was planned on.
#[derive(Clone, Copy, Debug)]
struct Origin {
    /// The number of the pass.
    pass: u64,
    index: u64,
    next_incarnation: u64,
    next_uid: u64,
}

/// A plan.
#[derive(Debug)]
pub struct PlanResult {
    scheduler: u32,
    origin: Origin,
    examined_count: usize,
    planned: Vec<Planned>,
}

/// One assignment of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    task: TaskId,
    on: Host,
    gpu_devices: u16,
    victims: Vec<TaskId>,
}

impl PlanRequest {
    /// Plans. The same request gives the same plan.
    #[must_use]
    pub fn run(self) -> PlanResult {
        let snapshot = Snapshot::resume(&self.cell, Arc::unwrap_or_clone(self.rooms));
        let options = PassOptions {
            policy: self.policy,
            queue: QueueOrder::RoundRobin,
            seed: self.seed,
            speed: Speed::default(),
            pending_limit: None,
        };
        let plan = pass_on(snapshot, &self.queue, &options);
        let planned = plan.assignments.into_iter().map(|assignment| Planned {
            task: assignment.task,
            on: match plan.end.alloc(assignment.row) {
                Some(alloc) => Host::Alloc(alloc),
                None => Host::Machine(plan.end.slot(assignment.row).machine),
            },
            gpu_devices: assignment.gpu_devices,
            victims: assignment.victims,
        });
        PlanResult {
            scheduler: self.scheduler,
            origin: self.origin,
            examined_count: self.queue.len(),
            planned: planned.collect(),
        }
    }
}

impl Origin {
    /// The task that was there then; `None`: it has gone since, and another may be in its place.
    fn key(&self, state: &State, id: TaskId) -> Option<TaskKey> {
        let key = state.has_task(id).then(|| state.key(id))?;
        (key.job < self.next_uid).then_some(key)
    }
}

impl Planner {
    /// Another leads, or this one does: nothing is under way any more.
    pub(crate) fn forget(&mut self) {
        self.proposed.clear();
        self.turns.clear();
        self.planning.clear();
    }

    /// Another state has come to follow.
    pub(crate) fn start_over(&mut self) {
        // A pass that is under way is not taken for one to come.
        *self = Self { pass_count: self.pass_count, ..Self::default() };
    }

    /// The rooms of the state that was followed.
    pub(crate) fn rooms(&mut self, state: &State) -> &Arc<Rooms> {
        self.rooms.get(state)
    }

    /// Follows the changes of an entry.
    pub(crate) fn follow(&mut self, state: &State, changes: &[Change]) {
        self.news_count += u64::from(self.rooms.follow(state, changes));
    }

    /// An entry was applied where it leads: what of it was proposed from here is no longer under way, and what
    /// waits by now is to be looked at.
    pub(crate) fn came_back(
        &mut self,
        state: &State,
        entry: &Entry,
        applied: &Applied,
        scheduler_count: u32,
    ) {
        for command in &entry.commands {
            if let Op::Assign { assignments } = &command.op {
                for assignment in assignments {
                    self.proposed.remove(&assignment.task);
                }
            }
        }
        for change in &applied.changes {
            match *change {
                Change::Job(slot) if state.has_task(TaskId { job: slot, position: 0 }) => {
                    let job = state.job_at(slot);
                    // An update of what runs may leave more to others.
                    self.news_count += u64::from(job.version > 1);
                    let turns = self.turns_of(job.uid, scheduler_count);
                    for place in state.waiting_of(slot) {
                        turns.add(state, TaskId { job: slot, position: place.task.index });
                    }
                }
                Change::Waits(id) if state.has_task(id) => {
                    let uid = state.key(id).job;
                    self.turns_of(uid, scheduler_count).add(state, id);
                }
                Change::Job(_)
                | Change::Waits(_)
                | Change::JobGone(_)
                | Change::Placed(_)
                | Change::Removed(_)
                | Change::Recharged(..)
                | Change::Machines
                | Change::Open(..)
                | Change::Wanted(..)
                | Change::Restored => {}
            }
        }
        for (task, why) in &applied.refused {
            // Of one that has gone the others may have what it was to have.
            self.news_count += u64::from(*why == Refusal::NotPending);
            self.refused(state, *task, scheduler_count);
        }
    }

    /// A task that was to be placed was not.
    fn refused(&mut self, state: &State, task: TaskKey, scheduler_count: u32) {
        if let Some(id) = state.task_id(task) {
            self.turns_of(task.job, scheduler_count).refuse(state, id);
        }
    }

    /// The turns of the scheduler that looks at a job.
    fn turns_of(&mut self, job: u64, scheduler_count: u32) -> &mut Turns {
        self.turns.entry(scheduler_of(job, scheduler_count)).or_default()
    }
}

/// Which of several schedulers looks at a job.
fn scheduler_of(job: u64, count: u32) -> u32 {
    u32::try_from(job % u64::from(count)).expect("less than the count")
}

impl Core {
    /// The snapshot as schedulers see it now, for questions.
    pub fn with_snapshot<T>(&mut self, ask: impl FnOnce(&Snapshot<'_>) -> T) -> T {
        let rooms = Rooms::clone(self.planner.rooms.get(&self.state));
        ask(&Snapshot::resume(self.state.cell(), rooms))
    }

    /// Begins passes where there is something to plan.
    pub(crate) fn plan(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        if self.leader.is_none() {
            return;
        }
        let count = self.config.scheduler_count.max(1);
        let planner = &mut self.planner;
        let is_lost = |at: &Timestamp| now.since_ms(*at) >= PROPOSE_AGAIN_MS;
        let lost = planner.proposed.iter().filter(|(_, at)| is_lost(at)).map(|(task, _)| *task);
        for task in lost.collect::<Vec<_>>() {
            planner.proposed.remove(&task);
            planner.refused(&self.state, task, count);
        }
        if self.state.waiting_count() == 0 {
            planner.turns.values_mut().for_each(Turns::clear);
            return;
        }
        for scheduler in 0..count {
            self.plan_one(now, scheduler, count, out);
        }
    }

    fn plan_one(&mut self, now: Timestamp, scheduler: u32, count: u32, out: &mut Vec<Output>) {
        let (state, planner) = (&self.state, &mut self.planner);
        if planner.planning.contains_key(&scheduler) {
            return;
        }
        let is_wanted = |task: TaskKey| {
            scheduler_of(task.job, count) == scheduler
                && !planner.proposed.contains_key(&task)
                && state.is_eligible(task, now)
        };
        let most = self.config.pass_task_count_max.max(2);
        let turns = planner.turns.entry(scheduler).or_default();
        let keys = turns.take(state, now, planner.news_count, most, is_wanted);
        if keys.is_empty() {
            return;
        }
        planner.pass_count += 1;
        planner.planning.insert(scheduler, planner.pass_count);
        let (next_incarnation, next_uid) = state.next_numbers();
        out.push(Output::Plan(Box::new(PlanRequest {
            scheduler,
            cell: state.cell().clone(),
            queue: keys.iter().filter_map(|key| state.task_id(*key)).collect(),
            seed: scheduler::mix(self.config.seed ^ planner.pass_count),
            origin: Origin {
                pass: planner.pass_count,
                index: state.index(),
                next_incarnation,
                next_uid,
            },
            rooms: Arc::clone(planner.rooms.get(state)),
            policy: self.policy(),
        })));
    }

    /// The policy that the settings name; the default where no policy is called so.
    pub(crate) fn policy(&self) -> Policy {
        let wanted = &self.state.settings().policy;
        let named = scheduler::policies().into_iter().find(|policy| policy.name() == wanted);
        named.unwrap_or_else(|| scheduler::policies().swap_remove(0))
    }

    /// Takes in a finished plan: what still makes sense is proposed.
    pub(crate) fn planned(&mut self, now: Timestamp, result: PlanResult, out: &mut Vec<Output>) {
        let PlanResult { scheduler, origin, examined_count, planned } = result;
        let (state, planner) = (&self.state, &mut self.planner);
        let Some(leader) = &mut self.leader else { return };
        if planner.planning.get(&scheduler) != Some(&origin.pass) {
            return; // Planned for an earlier leader.
        }
        planner.planning.remove(&scheduler);
        leader.stats.count_pass(examined_count, state.index().saturating_sub(origin.index));
        let mut assignments = Vec::with_capacity(planned.len());
        for Planned { task, on, gpu_devices, victims } in planned {
            let Some(task) = origin.key(state, task) else {
                // What it was to have is there for others.
                planner.news_count += 1;
                continue;
            };
            let on = match on {
                Host::Machine(machine) => Some(Target::Machine(machine)),
                Host::Alloc(alloc) => origin.key(state, alloc).map(Target::Alloc),
            };
            let victims = victims.into_iter().map(|victim| {
                let key = origin.key(state, victim)?;
                let place = state.task_place(victim)?;
                // Since the snapshot it may have been placed anew: that one was not looked at.
                (place.incarnation.0 < origin.next_incarnation).then_some((key, place.incarnation))
            });
            // A victim that was itself placed by this plan has no number yet; what depends on it waits for
            // the next pass.
            match (on, victims.collect::<Option<Vec<_>>>()) {
                (Some(on), Some(victims)) => {
                    planner.proposed.insert(task, now);
                    assignments.push(Assignment { task, on, gpu_devices, victims });
                }
                _ => planner.refused(state, task, self.config.scheduler_count.max(1)),
            }
        }
        while !assignments.is_empty() {
            let rest = assignments.split_off(assignments.len().min(ASSIGNMENT_COUNT_MAX));
            let chunk = std::mem::replace(&mut assignments, rest);
            self.propose(now, Op::Assign { assignments: chunk }, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use cell::MachineId;
    use cell::live::Settings;

    use super::*;
    use crate::turns::AGAIN_MS;
    use crate::{Config, Input, decode};

    fn submit(name: &str, priority: u16, count: u32) -> Op {
        let text = format!(
            r#"{{"name": "{name}", "user": "ann", "priority": {priority}, "count": {count},
                "limit": {{"cpu": 1, "ram": 1}}}}"#
        );
        let spec = Box::new(serde_json::from_str(&text).expect("a job"));
        Op::Submit { spec, is_alloc_set: false }
    }

    fn settings() -> Settings {
        Settings { needs_quota: false, ..Settings::default() }
    }

    /// A master that leads: what it proposes is committed at once, and its passes are planned when the test says
    /// so.
    struct Master {
        core: Core,
        now: Timestamp,
        passes: Vec<PlanRequest>,
        proposed_count: usize,
    }

    impl Master {
        fn new() -> Self {
            let core = Core::new(State::new(settings()), Config::default());
            let mut master =
                Self { core, now: Timestamp(1_000), passes: Vec::new(), proposed_count: 0 };
            master.input(Input::Elected { term: 1 });
            master
        }

        fn input(&mut self, input: Input) {
            let mut inputs = vec![input];
            while let Some(input) = inputs.pop() {
                for output in self.core.step(self.now, input) {
                    match output {
                        Output::Propose { data, .. } => {
                            decode(&data).expect("an entry");
                            self.proposed_count += 1;
                            let index = self.core.state().index() + 1;
                            inputs.push(Input::Committed { index, data });
                        }
                        Output::Plan(pass) => self.passes.push(*pass),
                        Output::Stop { reason } => panic!("{reason}"),
                        Output::Answer { .. }
                        | Output::Event(_)
                        | Output::Wanted(_)
                        | Output::Machines => {}
                    }
                }
            }
            assert_eq!(self.core.state().faults(), []);
        }

        /// Lets time pass, up to the next tick; how many tasks are looked at in a pass that begins then.
        fn tick_after(&mut self, ms: u64) -> Option<usize> {
            self.now = self.now.plus_ms(ms);
            self.input(Input::Tick);
            self.passes.last().map(|pass| pass.queue.len())
        }

        /// Finishes the pass that is under way.
        fn finish(&mut self) {
            let pass = self.passes.pop().expect("a pass is under way");
            self.input(Input::Planned(pass.run()));
        }

        /// As [`Self::tick_after`], with the pass finished.
        fn pass_after(&mut self, ms: u64) -> Option<usize> {
            let count = self.tick_after(ms);
            count.inspect(|_| self.finish())
        }

        fn open_a_machine(&mut self, name: &str) {
            let spec = format!(r#"{{"name": "{name}", "cpu": 2, "ram": 2}}"#);
            let spec = serde_json::from_str(&spec).expect("a machine");
            let machines = vec![(spec, format!("{name}:1"))];
            self.input(Input::Own(Op::AddMachines { machines }));
            let id = self.core.state().machine(name).expect("it was added");
            self.input(Input::Own(Op::Health { machines: vec![(id, true)] }));
        }
    }

    #[test]
    fn new_tasks_are_looked_at_alone_until_there_is_more_room() {
        let mut master = Master::new();
        master.input(Input::Own(submit("first", 10, 30)));
        assert_eq!(master.pass_after(50), Some(30));
        assert_eq!(master.pass_after(50), None, "nothing is new");
        master.input(Input::Own(submit("second", 10, 1)));
        assert_eq!(master.pass_after(50), Some(1));
        assert_eq!(master.pass_after(AGAIN_MS), Some(31), "now and then all are");
        master.open_a_machine("m");
        assert_eq!(master.pass_after(50), Some(31));
        assert_eq!(master.core.state().waiting_count(), 29);
        assert_eq!(master.pass_after(50), None);
        master.input(Input::Own(submit("third", 10, 1)));
        master.open_a_machine("n");
        assert_eq!(master.pass_after(50), Some(30));
        assert_eq!(master.core.state().waiting_count(), 28);
    }

    #[test]
    fn what_was_refused_is_looked_at_again_at_once() {
        let mut master = Master::new();
        master.open_a_machine("m");
        master.open_a_machine("n");
        master.input(Input::Own(submit("job", 10, 1)));
        assert_eq!(master.tick_after(50), Some(1));
        // Meanwhile the machine that was chosen closes.
        let pass = master.passes.pop().expect("it is under way").run();
        let Host::Machine(chosen) = pass.planned[0].on else { panic!("a machine") };
        master.input(Input::Own(Op::Health { machines: vec![(chosen, false)] }));
        master.input(Input::Planned(pass));
        assert_eq!(master.core.state().waiting_count(), 1);
        assert_eq!(master.pass_after(50), Some(1));
        assert_eq!(master.core.state().waiting_count(), 0);
        let other = MachineId(1 - chosen.0);
        assert_eq!(master.core.state().machine_at(other).tasks().len(), 1);
    }

    #[test]
    fn a_pass_for_an_earlier_leader_is_not_taken_for_one_of_this() {
        let mut master = Master::new();
        master.open_a_machine("m");
        master.input(Input::Own(submit("job", 10, 1)));
        assert_eq!(master.tick_after(50), Some(1));
        let earlier = master.passes.pop().expect("it is under way").run();
        master.input(Input::Deposed);
        master.input(Input::Elected { term: 2 });
        assert_eq!(master.tick_after(50), Some(1));
        let before = master.proposed_count;
        master.input(Input::Planned(earlier));
        assert_eq!(master.proposed_count, before);
        master.finish();
        assert_eq!(master.proposed_count, before + 1);
        assert_eq!(master.core.state().waiting_count(), 0);
    }

    #[test]
    fn a_task_is_who_it_was_when_the_pass_began() {
        let mut master = Master::new();
        master.open_a_machine("m");
        master.input(Input::Own(submit("job", 10, 1)));
        assert_eq!(master.tick_after(50), Some(1));
        // It ends, and another job of the name takes its slot.
        master.input(Input::Own(Op::Kill { job: "job".to_owned(), indexes: None }));
        master.input(Input::Own(submit("job", 10, 1)));
        let before = master.proposed_count;
        master.finish();
        assert_eq!(master.proposed_count, before, "nobody planned for that one");
        assert_eq!(master.pass_after(50), Some(1));
        assert_eq!(master.core.state().waiting_count(), 0);
    }
}
