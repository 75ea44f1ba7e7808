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
use cell::live::{Applied, Assignment, Change, Entry, Op, QueuePlace, State, Target, Timestamp};
use cell::{Cell, Host, TaskId};
use scheduler::{PassOptions, Policy, QueueOrder, Rooms, Snapshot, Speed, pass_on};

use crate::rooms::LiveRooms;
use crate::{Core, Output, PROPOSE_AGAIN_MS};

/// So many assignments go into one entry: a millisecond's work for each replica, which answers no question
/// meanwhile.
const ASSIGNMENT_COUNT_MAX: usize = 128;

/// So many places of the queue are looked at in one pass at most, half of them the most important, so that a
/// long queue does not hold up what comes after it. Our guess: half a second of work for tasks that are all
/// different.
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
    /// By scheduler.
    turns: BTreeMap<u32, Turns>,
    /// Counts the changes that may let more of what waits be placed.
    news_count: u64,
    pass_count: u64,
}

/// What one scheduler has looked at, and what it is to look at.
///
/// What found no place will find none before there is more room: until then new tasks are looked at alone, and
/// the queue once more now and then.
#[derive(Debug, Default)]
struct Turns {
    /// The number of the pass that it plans now.
    planning: Option<u64>,
    /// When it last looked at the queue, and at which count of news; `None`: not yet.
    looked: Option<(Timestamp, u64)>,
    /// Tasks that it has not looked at since they came, or came back.
    fresh: BTreeSet<TaskKey>,
    /// Up to where it has looked at a queue that is longer than a pass.
    after: Option<QueuePlace>,
    /// So many places of the queue are to be looked at soon, since there may be room for them.
    left: usize,
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

impl Turns {
    /// Whether the queue is to be looked at again.
    fn is_queue_due(&self, now: Timestamp, news_count: u64, is_proposed: bool) -> bool {
        let Some((at, seen)) = self.looked else { return true };
        seen != news_count || now.since_ms(at) >= AGAIN_MS || (self.left > 0 && !is_proposed)
    }

    /// The places of the queue whose turn it is, at most so many: all of them, or the most important, and then
    /// those behind where it stopped the last time.
    fn take(
        &mut self,
        state: &State,
        now: Timestamp,
        news_count: u64,
        most: usize,
    ) -> Vec<TaskKey> {
        let count = state.waiting_count();
        if self.looked.is_none_or(|(_, seen)| seen != news_count) {
            self.left = count.saturating_sub(most / 2);
        }
        self.looked = Some((now, news_count));
        if count <= most {
            (self.after, self.left) = (None, 0);
            return state.waiting().collect();
        }
        let mut places: Vec<QueuePlace> = state.queue_after(None).take(most / 2).collect();
        let on = self.after.max(places.last().copied());
        let head = places.len();
        places.extend(state.queue_after(on).take(most - head));
        self.left = self.left.saturating_sub(places.len() - head);
        let is_end = places.len() < most;
        self.after = places.last().copied().filter(|_| !is_end);
        places.into_iter().map(|place| place.task).collect()
    }
}

impl Planner {
    /// Another leads, or this one does: nothing is under way any more.
    pub(crate) fn forget(&mut self) {
        self.proposed.clear();
        self.turns.clear();
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
    /// is new or was refused is to be looked at.
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
        let changed = applied.changes.iter().filter_map(|change| match *change {
            Change::Job(slot) => Some(slot),
            Change::JobGone(_)
            | Change::Placed(_)
            | Change::Removed(_)
            | Change::Recharged(_)
            | Change::Machines
            | Change::Open(..)
            | Change::Wanted(..)
            | Change::Restored => None,
        });
        let present = changed.filter(|&job| state.has_task(TaskId { job, position: 0 }));
        let new = present.flat_map(|slot| state.waiting_of(slot));
        let refused = applied.refused.iter().map(|&(task, _)| task);
        for task in new.chain(refused) {
            self.turns.entry(scheduler_of(task, scheduler_count)).or_default().fresh.insert(task);
        }
    }
}

/// Which of several schedulers looks at a task.
fn scheduler_of(task: TaskKey, count: u32) -> u32 {
    u32::try_from(task.job % u64::from(count)).expect("less than the count")
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
        for scheduler in 0..self.scheduler_count() {
            self.plan_one(now, scheduler, out);
        }
    }

    /// How many schedulers plan at once.
    pub(crate) fn scheduler_count(&self) -> u32 {
        self.config.scheduler_count.max(1)
    }

    fn plan_one(&mut self, now: Timestamp, scheduler: u32, out: &mut Vec<Output>) {
        let count = self.scheduler_count();
        let (state, planner) = (&self.state, &mut self.planner);
        let turns = planner.turns.entry(scheduler).or_default();
        let is_queue_due =
            turns.is_queue_due(now, planner.news_count, !planner.proposed.is_empty());
        if turns.planning.is_some() || (!is_queue_due && turns.fresh.is_empty()) {
            return;
        }
        let rest = turns.fresh.iter().nth(PASS_TASK_COUNT_MAX).copied();
        let rest = rest.map(|first| turns.fresh.split_off(&first)).unwrap_or_default();
        let mut keys = std::mem::replace(&mut turns.fresh, rest);
        if is_queue_due {
            keys.extend(turns.take(state, now, planner.news_count, PASS_TASK_COUNT_MAX));
        }
        keys.retain(|key| {
            scheduler_of(*key, count) == scheduler
                && !planner.proposed.contains_key(key)
                && state.is_eligible(*key, now)
        });
        if keys.is_empty() {
            return;
        }
        planner.pass_count += 1;
        turns.planning = Some(planner.pass_count);
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
        let (Some(leader), Some(turns)) = (&mut self.leader, planner.turns.get_mut(&scheduler))
        else {
            return;
        };
        if turns.planning != Some(origin.pass) {
            return; // Planned for an earlier leader.
        }
        turns.planning = None;
        leader.stats.count_pass(examined_count, state.index().saturating_sub(origin.index));
        let mut assignments = Vec::with_capacity(planned.len());
        for Planned { task, on, gpu_devices, victims } in planned {
            let Some(task) = origin.key(state, task) else { continue };
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
                _ => drop(turns.fresh.insert(task)),
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
        let mut turns = Turns::default();
        let mut turn = |news| {
            let keys = turns.take(&state, Timestamp(1), news, 3);
            let name = |key: &TaskKey| state.task_name(state.task_id(*key).expect("it waits"));
            (keys.iter().map(name).collect::<Vec<_>>(), turns.left)
        };
        let first = ["job-2/0", "job-2/1", "job-1/0"].map(str::to_owned).to_vec();
        assert_eq!(turn(1), (first.clone(), 3));
        assert_eq!(turn(1), (["job-2/0", "job-1/1", "job-3/0"].map(str::to_owned).to_vec(), 1));
        assert_eq!(turn(1), (["job-2/0", "job-3/1"].map(str::to_owned).to_vec(), 0));
        assert_eq!(turn(1), (first, 0), "from the head again");
        let second = ["job-2/0", "job-1/1", "job-3/0"].map(str::to_owned).to_vec();
        assert_eq!(
            turn(2),
            (second, 3),
            "with more room all are to be looked at, from where it was"
        );
    }
}
