//! How many more tasks of a job would fit?
//!
//! A pass is made with more and more of them waiting, until some find no place. What fits into free room is
//! placed before anything is preempted, as all tasks of the job are alike.

use std::path::Path;

use anyhow::{Context, bail};
use cell::live::State;
use cell::spec::{JobSpec, read_job};
use cell::{Cell, JobId, JobKind, Task, TaskId, UserId};
use scheduler::{PassOptions, Policy, Snapshot, Speed, pass};
use serde::Serialize;

use super::with_snapshot;

/// The first number of copies that is tried.
const COPY_COUNT_FIRST: u32 = 1_000;

/// The most copies that are tried; then the answer is "at least so many".
const COPY_COUNT_MAX: u32 = 1_000_000;

/// How many more tasks of a job would fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FitsReport {
    /// The job.
    pub job: String,
    /// The index of the log.
    pub index: u64,
    /// The policy.
    pub policy: String,
    /// Tasks of the job that are there already, and count for its rules on spread.
    pub present_count: usize,
    /// How many more would fit into free room.
    pub free_count: usize,
    /// How many more would fit if tasks of lower priority were preempted.
    pub preempting_count: usize,
    /// How many tasks would be preempted for these.
    pub victim_count: usize,
    /// Whether more than that would fit: not more than a million are tried.
    pub is_at_least: bool,
}

/// A job's spec, from a file in YAML or JSON.
///
/// # Errors
/// If it cannot be read, or a field is wrong; the message names file, line and field.
pub fn read_job_file(path: &Path) -> anyhow::Result<JobSpec> {
    let name = || path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(name)?;
    let spec = serde_saphyr::from_str(&text).map_err(|error| {
        let said = error.to_string();
        let said = said.trim_start_matches("error: ");
        let words: Vec<&str> = said.lines().next().unwrap_or_default().split_whitespace().collect();
        anyhow::anyhow!("{}", words.join(" "))
    });
    spec.with_context(name)
}

/// How many more tasks like the first of this job would fit. A job of its name that lives is taken to grow;
/// its tasks count for the rules of the job.
///
/// # Errors
/// If a field of the spec is wrong, or its alloc set is not there.
pub fn fits(
    state: &State,
    spec: &JobSpec,
    policy: &Policy,
    seed: u64,
) -> anyhow::Result<FitsReport> {
    let alloc_set = match &spec.alloc_set {
        None => None,
        Some(name) => {
            let mut sets = state.jobs().filter(|(_, job)| {
                job.kind == JobKind::AllocSet && job.ended.is_none() && job.spec.name == *name
            });
            let Some((slot, _)) = sets.next() else {
                bail!(
                    "field `alloc_set`: there is no alloc set {name:?} at index {}",
                    state.index()
                )
            };
            Some(slot)
        }
    };
    let wanted = read_job(spec, JobKind::Job, UserId(0), alloc_set)?;
    let limit = wanted.tasks.first().context("field `count`: the job has no tasks")?.limit;
    let there = state.jobs().find(|(_, job)| {
        job.kind == JobKind::Job && job.ended.is_none() && job.spec.name == spec.name
    });
    let rooms = with_snapshot(state, |snapshot| snapshot.clone().into_rooms());
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
            cell.jobs.push(cell::Job { tasks: Vec::new(), ..wanted });
            (JobId::from_index(cell.jobs.len() - 1), 0)
        }
    };
    let options = PassOptions {
        policy: policy.clone(),
        queue: policy.queue,
        seed,
        speed: Speed::default(),
        pending_limit: None,
    };
    let mut copies = COPY_COUNT_FIRST;
    loop {
        let tasks = queue(&mut cell, slot, first, copies, limit);
        let snapshot = Snapshot::resume(&cell, rooms.clone());
        let plan = pass(&snapshot, &tasks, &options);
        let placed = tasks.iter().filter(|&&id| plan.end.placement(id).is_some()).count();
        let is_ours = |id: TaskId| id.job == slot;
        let free = plan
            .assignments
            .iter()
            .take_while(|assignment| assignment.victims.is_empty())
            .filter(|assignment| is_ours(assignment.task))
            .count();
        if placed == tasks.len() && copies < COPY_COUNT_MAX {
            copies = copies.saturating_mul(8).min(COPY_COUNT_MAX);
            continue;
        }
        return Ok(FitsReport {
            job: spec.name.clone(),
            index: state.index(),
            policy: policy.name().to_owned(),
            present_count: there.map_or(0, |(_, job)| job.alive() as usize),
            free_count: free,
            preempting_count: placed,
            victim_count: plan.assignments.iter().map(|found| found.victims.len()).sum(),
            is_at_least: placed == tasks.len(),
        });
    }
}

/// Gives the job so many more tasks that wait; their ids.
fn queue(
    cell: &mut Cell,
    slot: JobId,
    first: usize,
    copies: u32,
    limit: cell::Resources,
) -> Vec<TaskId> {
    let tasks = &mut cell.jobs[slot.index()].tasks;
    tasks.truncate(first);
    let first = u32::try_from(first).unwrap_or(u32::MAX);
    let positions = first..first.saturating_add(copies);
    tasks.extend(positions.clone().map(|index| Task::new(index, limit)));
    positions.map(|position| TaskId { job: slot, position }).collect()
}
