//! Scheduling: when a pass is planned, on what, and what becomes of its plan.
//!
//! A pass reads an immutable snapshot and returns a plan, wherever there is time to run it; the plan is
//! proposed, and each assignment is checked again where it is applied. Several schedulers may plan at once,
//! each for the jobs that fall to it. The snapshot is kept current by the changes of each entry applied.
//!
//! Source: Borg (EuroSys '15) §3.2 and §3.4; Omega (EuroSys '13).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cell::borglet::TaskKey;
use cell::live::{Assignment, Change, Entry, Op, Phase, State, Target, Timestamp};
use cell::{Cell, JobId, TaskId};
use scheduler::{PassOptions, Policy, QueueOrder, Rooms, Snapshot, Speed, pass_on};

use crate::rooms::LiveRooms;
use crate::{Core, Output, PROPOSE_AGAIN_MS};

/// So many assignments go into one entry: a millisecond's work for each replica, which answers no question
/// meanwhile.
const ASSIGNMENT_COUNT_MAX: usize = 128;

/// So many tasks are looked at in one pass at most, the most important first, so that a long queue does not
/// hold up what comes after it; the rest has its turn in that and the passes after it. Our guess: half a second of work for tasks that are all different.
const PASS_TASK_COUNT_MAX: usize = 20_000;

/// A pass that left tasks pending is made again at the latest after so long: back-offs end, and what is in
/// the way may have gone.
const AGAIN_MS: u64 = 1_000;

/// What a master keeps for its schedulers.
#[derive(Debug, Default)]
pub(crate) struct Planner {
    rooms: LiveRooms,
    /// Assignments that were proposed, and when.
    proposed: BTreeMap<TaskKey, Timestamp>,
    /// By scheduler: what it plans now.
    planning: BTreeMap<u32, BTreeSet<TaskKey>>,
    /// By scheduler: when it last looked, and at which count of news.
    last: BTreeMap<u32, (Timestamp, u64)>,
    /// By scheduler, while more wait than it looks at in one pass: those whose turn was already.
    had_turn: BTreeMap<u32, BTreeSet<TaskKey>>,
    /// Counts the changes that may let more be placed.
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
    /// The number of the job in each slot; 0: none.
    uids: Vec<u64>,
    policy: Policy,
    seed: u64,
    index: u64,
    next_incarnation: u64,
}

/// A plan.
#[derive(Debug)]
pub struct PlanResult {
    scheduler: u32,
    index: u64,
    next_incarnation: u64,
    examined_count: usize,
    planned: Vec<Planned>,
}

/// One assignment of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    task: TaskKey,
    on: Target,
    gpu_devices: u16,
    victims: Vec<TaskKey>,
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
        let key = |id: TaskId| TaskKey { job: self.uids[id.job.index()], index: id.position };
        let planned = plan.assignments.iter().map(|assignment| Planned {
            task: key(assignment.task),
            on: match plan.end.alloc(assignment.row) {
                Some(alloc) => Target::Alloc(key(alloc)),
                None => Target::Machine(plan.end.slot(assignment.row).machine),
            },
            gpu_devices: assignment.gpu_devices,
            victims: assignment.victims.iter().map(|&victim| key(victim)).collect(),
        });
        PlanResult {
            scheduler: self.scheduler,
            index: self.index,
            next_incarnation: self.next_incarnation,
            examined_count: self.queue.len(),
            planned: planned.collect(),
        }
    }
}

impl Planner {
    /// Another leads, or this one does: nothing is under way any more.
    pub(crate) fn forget(&mut self) {
        self.proposed.clear();
        self.planning.clear();
        self.last.clear();
        self.had_turn.clear();
    }

    /// The rooms of the state that was followed.
    pub(crate) fn rooms(&mut self, state: &State) -> &Arc<Rooms> {
        self.rooms.get(state)
    }

    /// Follows the changes of an entry.
    pub(crate) fn follow(&mut self, state: &State, changes: &[Change]) {
        self.news_count += u64::from(self.rooms.follow(state, changes));
    }

    /// An entry was applied: what of it was proposed from here is no longer under way.
    pub(crate) fn came_back(&mut self, entry: &Entry) {
        for command in &entry.commands {
            if let Op::Assign { assignments } = &command.op {
                for assignment in assignments {
                    self.proposed.remove(&assignment.task);
                    // Should it wait again, it has a turn again.
                    for had_turn in self.had_turn.values_mut() {
                        had_turn.remove(&assignment.task);
                    }
                }
            }
        }
    }
}

/// Leaves at most so many: half of them the most important, and then those who had no turn yet, so that what has
/// no place does not keep the rest from being looked at. False: with these all had their turn.
fn take_turns(
    state: &State,
    keys: &mut Vec<TaskKey>,
    had_turn: &mut BTreeSet<TaskKey>,
    most: usize,
) -> bool {
    if keys.len() <= most {
        return false;
    }
    // Stable, so that within a priority the order of submission stays.
    keys.sort_by_key(|key| {
        let id = state.task_id(*key).expect("it waits");
        std::cmp::Reverse(state.cell().job(id.job).priority)
    });
    let mut rest = keys.split_off(most / 2);
    rest.retain(|key| !had_turn.contains(key));
    let room = most - keys.len();
    let has_more = rest.len() > room;
    rest.truncate(room);
    had_turn.extend(rest.iter().copied());
    keys.append(&mut rest);
    has_more
}

impl Core {
    /// The snapshot as schedulers see it now, for questions.
    pub fn with_snapshot<T>(&mut self, ask: impl FnOnce(&Snapshot<'_>) -> T) -> T {
        let rooms = Rooms::clone(self.planner.rooms.get(&self.state));
        ask(&Snapshot::resume(self.state.cell(), rooms))
    }

    /// Begins passes where there is something to plan.
    pub(crate) fn plan(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        if self.leader.is_none() || self.state.waiting_count() == 0 {
            return;
        }
        self.planner.proposed.retain(|_, at| now.since_ms(*at) < PROPOSE_AGAIN_MS);
        let count = self.config.scheduler_count.max(1);
        for scheduler in 0..count {
            if self.planner.planning.contains_key(&scheduler) {
                continue;
            }
            let is_due = match self.planner.last.get(&scheduler) {
                None => true,
                Some((at, news_count)) => {
                    *news_count != self.planner.news_count
                        || now.since_ms(*at) >= AGAIN_MS
                        || (self.planner.had_turn.contains_key(&scheduler)
                            && self.planner.proposed.is_empty())
                }
            };
            if is_due {
                self.plan_one(now, scheduler, count, out);
            }
        }
    }

    fn plan_one(&mut self, now: Timestamp, scheduler: u32, count: u32, out: &mut Vec<Output>) {
        let state = &self.state;
        let planner = &mut self.planner;
        let mut keys: Vec<TaskKey> = state
            .waiting()
            .filter(|key| key.job % u64::from(count) == u64::from(scheduler))
            .filter(|key| !planner.proposed.contains_key(key) && state.is_eligible(*key, now))
            .collect();
        planner.last.insert(scheduler, (now, planner.news_count));
        let had_turn = planner.had_turn.entry(scheduler).or_default();
        if !take_turns(state, &mut keys, had_turn, PASS_TASK_COUNT_MAX) {
            planner.had_turn.remove(&scheduler);
        }
        if keys.is_empty() {
            return;
        }
        let queue = keys.iter().filter_map(|key| state.task_id(*key)).collect();
        let rooms = Arc::clone(planner.rooms.get(state));
        planner.pass_count += 1;
        let mut uids = vec![0; state.cell().jobs.len()];
        for (slot, job) in state.jobs() {
            uids[slot.index()] = job.uid;
        }
        planner.planning.insert(scheduler, keys.into_iter().collect());
        out.push(Output::Plan(Box::new(PlanRequest {
            scheduler,
            cell: state.cell().clone(),
            rooms,
            queue,
            uids,
            policy: self.policy(),
            seed: scheduler::mix(self.config.seed ^ self.planner.pass_count),
            index: state.index(),
            next_incarnation: state.next_numbers().0,
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
        let PlanResult { scheduler, index, next_incarnation, examined_count, planned } = result;
        let Some(leader) = &mut self.leader else { return };
        if self.planner.planning.remove(&scheduler).is_none() {
            return; // Planned for an earlier leader.
        }
        leader.stats.count_pass(examined_count, self.state.index().saturating_sub(index));
        let mut assignments = Vec::with_capacity(planned.len());
        for Planned { task, on, gpu_devices, victims } in planned {
            let victims = victims.into_iter().map(|victim| {
                let place = self.state.task_id(victim).and_then(|id| self.state.task_place(id))?;
                // Since the snapshot it may have been placed anew: that one was not looked at.
                (place.incarnation.0 < next_incarnation).then_some((victim, place.incarnation))
            });
            // A victim that was itself placed by this plan has no number yet; what depends on it waits for
            // the next pass.
            if let Some(victims) = victims.collect::<Option<Vec<_>>>() {
                self.planner.proposed.insert(task, now);
                assignments.push(Assignment { task, on, gpu_devices, victims });
            }
        }
        while !assignments.is_empty() {
            let rest = assignments.split_off(assignments.len().min(ASSIGNMENT_COUNT_MAX));
            let chunk = std::mem::replace(&mut assignments, rest);
            self.propose(now, Op::Assign { assignments: chunk }, out);
        }
    }

    /// The slots of a job and its tasks that wait, for questions.
    #[must_use]
    pub fn waiting_of(&self, slot: JobId) -> Vec<TaskId> {
        let tasks = self.state.job_at(slot).tasks.iter().zip(0..);
        tasks
            .filter(|(task, _)| matches!(task.phase, Phase::Waiting { .. }))
            .map(|(_, position)| TaskId { job: slot, position })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use cell::live::{Command, Settings};

    use super::*;

    #[test]
    fn all_have_their_turn_the_most_important_first() {
        let mut state = State::new(Settings { needs_quota: false, ..Settings::default() });
        for (priority, index) in [(10, 1), (90, 2), (10, 3)] {
            let text = format!(
                r#"{{"name": "job-{index}", "user": "ann", "priority": {priority}, "count": 2,
                    "limit": {{"cpu": 1, "ram": 1}}}}"#
            );
            let spec = Box::new(serde_json::from_str(&text).expect("a job"));
            let op = Op::Submit { spec, is_alloc_set: false };
            let commands = vec![Command { request: None, op }];
            state.apply(index, &Entry { at: Timestamp(1), commands });
        }
        let mut had_turn = BTreeSet::new();
        let mut turn = || {
            let mut keys: Vec<TaskKey> = state.waiting().collect();
            let has_more = take_turns(&state, &mut keys, &mut had_turn, 3);
            let name = |key: &TaskKey| state.task_name(state.task_id(*key).expect("it waits"));
            (keys.iter().map(name).collect::<Vec<_>>(), has_more)
        };
        assert_eq!(turn(), (["job-2/0", "job-2/1", "job-1/0"].map(str::to_owned).to_vec(), true));
        assert_eq!(turn(), (["job-2/0", "job-1/1", "job-3/0"].map(str::to_owned).to_vec(), true));
        assert_eq!(turn(), (["job-2/0", "job-3/1"].map(str::to_owned).to_vec(), false));
    }
}
