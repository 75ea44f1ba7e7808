//! How many more tasks of a job would fit?
//!
//! A pass is made with more and more of them waiting, until some find no place. What fits into free room is
//! placed before anything is preempted, as all tasks of the job are alike.
//!
//! In: a state with its rooms, and a spec. Out: a question that stands by itself ([`FitsRequest`]), to be
//! worked out wherever there is time; then the counts.

use cell::live::State;
use cell::live::view::{Fits, Reason};
use cell::spec::{JobSpec, SpecError, read_job};
use cell::{Cell, JobId, JobKind, Resources, Task, TaskId, UserId};
use scheduler::feasible::Infeasible;
use scheduler::why::explain;
use scheduler::{PassOptions, Policy, Rooms, Snapshot, Speed, pass};

use crate::Core;

/// The first number of copies that is tried.
const COPY_COUNT_FIRST: u32 = 1_000;

/// Each number of copies that is tried is so many times the one before.
const COPY_GROWTH: u32 = 8;

/// The question.
#[derive(Debug)]
pub struct FitsRequest {
    cell: Cell,
    rooms: Rooms,
    slot: JobId,
    /// The position of the first copy.
    first: usize,
    limit: Resources,
    present_count: u32,
    index: u64,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FitsCounts {
    /// Tasks of the job that are there already, and count for its rules on spread.
    pub present_count: u32,
    /// How many more would fit into free room.
    pub free_count: usize,
    /// How many more would fit if tasks of lower priority were preempted.
    pub preempting_count: usize,
    /// How many tasks would be preempted for these.
    pub victim_count: usize,
    /// Whether even more might fit: no more were tried.
    pub is_at_least: bool,
    /// What keeps the next one off each host.
    pub stopped_by: Vec<Reason>,
    /// The index of the log that it was worked out at.
    pub index: u64,
}

impl FitsRequest {
    /// Asks it of a state and its rooms, of tasks like the first of this job. A job of its name that lives is
    /// taken to grow; its tasks count for the rules of the job.
    ///
    /// # Errors
    /// If a field of the spec is wrong, or its alloc set is not there.
    pub fn new(
        state: &State,
        rooms: Rooms,
        spec: &JobSpec,
        kind: JobKind,
    ) -> Result<Self, SpecError> {
        let living = |name: &str, kind: JobKind| {
            let is_it = |job: &cell::live::JobRecord| job.kind == kind && job.ended.is_none();
            let uid = state.job(name).filter(|job| is_it(job)).map(|job| job.uid)?;
            state.jobs().find(|(_, job)| job.uid == uid)
        };
        let alloc_set = match &spec.alloc_set {
            None => None,
            Some(name) => {
                let unknown = || {
                    let problem =
                        format!("there is no alloc set {name:?} at index {}", state.index());
                    SpecError::new("alloc_set", problem)
                };
                Some(living(name, JobKind::AllocSet).ok_or_else(unknown)?.0)
            }
        };
        let wanted = read_job(spec, kind, UserId(0), alloc_set)?;
        let first = wanted.tasks.first();
        let limit = first.ok_or_else(|| SpecError::new("count", "the job has no tasks"))?.limit;
        let there = living(&spec.name, kind);
        let mut cell = state.cell().clone();
        let (slot, first) = match there {
            Some((slot, _)) => {
                let present = &mut cell.jobs[slot.index()];
                let (user, tasks) = (present.user, std::mem::take(&mut present.tasks));
                let first = tasks.len();
                *present = cell::Job { user, tasks, ..wanted };
                (slot, first)
            }
            None => {
                cell.jobs.push(cell::Job { tasks: cell::CowVec::default(), ..wanted });
                (JobId::from_index(cell.jobs.len() - 1), 0)
            }
        };
        let present_count = there.map_or(0, |(_, job)| job.alive());
        Ok(Self { cell, rooms, slot, first, limit, present_count, index: state.index() })
    }

    /// Works it out. Not more than so many copies are tried. The same request gives the same answer.
    #[must_use]
    pub fn run(mut self, policy: &Policy, seed: u64, copy_count_max: u32) -> FitsCounts {
        let options = PassOptions {
            policy: policy.clone(),
            queue: policy.queue,
            seed,
            speed: Speed::default(),
            pending_limit: None,
        };
        let mut copies = COPY_COUNT_FIRST.min(copy_count_max);
        loop {
            let tasks = self.queue(copies);
            let snapshot = Snapshot::resume(&self.cell, self.rooms.clone());
            let plan = pass(&snapshot, &tasks, &options);
            let without = tasks.iter().copied().find(|&id| plan.end.placement(id).is_none());
            if without.is_none() && copies < copy_count_max {
                copies = copies.saturating_mul(COPY_GROWTH).min(copy_count_max);
                continue;
            }
            let placed = tasks.iter().filter(|&&id| plan.end.placement(id).is_some());
            let free = plan.assignments.iter().take_while(|found| found.victims.is_empty());
            let free = free.filter(|found| found.task.job == self.slot);
            let stopped_by = without.map_or_else(Vec::new, |task| {
                let reasons = explain(&plan.end, task).ruled_out.into_iter();
                let reason = |(why, hosts): (Infeasible, usize)| Reason {
                    text: why.to_string(),
                    host_count: u32::try_from(hosts).unwrap_or(u32::MAX),
                };
                reasons.map(reason).collect()
            });
            return FitsCounts {
                present_count: self.present_count,
                free_count: free.count(),
                preempting_count: placed.count(),
                victim_count: plan.assignments.iter().map(|found| found.victims.len()).sum(),
                is_at_least: without.is_none(),
                stopped_by,
                index: self.index,
            };
        }
    }

    /// Gives the job so many more tasks that wait; their ids.
    fn queue(&mut self, copies: u32) -> Vec<TaskId> {
        let job = self.slot;
        let tasks = &mut self.cell.jobs[job.index()].tasks;
        tasks.truncate(self.first);
        let first = u32::try_from(self.first).unwrap_or(u32::MAX);
        let positions = first..first.saturating_add(copies);
        tasks.extend(positions.clone().map(|index| Task::new(index, self.limit)));
        positions.map(|position| TaskId { job, position }).collect()
    }
}

impl From<FitsCounts> for Fits {
    fn from(counts: FitsCounts) -> Self {
        let FitsCounts { free_count, preempting_count, victim_count, .. } = counts;
        Self {
            count: preempting_count as u64,
            free_count: free_count as u64,
            victim_count: victim_count as u64,
            is_at_least: counts.is_at_least,
            stopped_by: counts.stopped_by,
            index: counts.index,
        }
    }
}

impl Core {
    /// The question of the state as it is now, and the policy and the seed to work it out by.
    ///
    /// # Errors
    /// If a field of the spec is wrong, or its alloc set is not there.
    pub fn fits(
        &mut self,
        spec: &JobSpec,
        kind: JobKind,
    ) -> Result<(FitsRequest, Policy, u64), SpecError> {
        let rooms = Rooms::clone(self.planner.rooms(&self.state));
        let request = FitsRequest::new(&self.state, rooms, spec, kind)?;
        Ok((request, self.policy(), self.config.seed))
    }
}
