//! How a cell stood: its jobs, its queue, its machines.

use cell::JobKind;
use cell::live::{Health, JobEnd, Phase, State};
use serde::Serialize;

use super::{seconds, with_snapshot};
use crate::pack::{allocation, stranding};
use crate::report::ByResource;

/// How a cell stood at an index of its log.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StatusReport {
    /// The cell's name.
    pub cell: String,
    /// The index.
    pub index: u64,
    /// The time then, in milliseconds since 1970.
    pub at_ms: u64,
    /// Jobs and alloc sets, in the order of their submission.
    pub jobs: Vec<JobStatus>,
    /// Machines that are not removed.
    pub machines: Vec<MachineStatus>,
    /// Tasks that run, start or stop.
    pub running_count: u64,
    /// Tasks and allocs that wait for a place.
    pub pending_count: usize,
    /// What is charged on machines over their capacity, 0..=1.
    pub allocation: ByResource,
    /// What is free but stranded, 0..=1.
    pub stranding: ByResource,
}

/// A job or an alloc set, and how many of its tasks are where in their lives.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct JobStatus {
    /// Its name.
    pub name: String,
    /// `job` or `alloc-set`.
    pub kind: &'static str,
    /// Its user.
    pub user: String,
    /// Its priority.
    pub priority: u16,
    /// `living`, `finished`, `failed` or `killed`.
    pub state: &'static str,
    /// Tasks that run or start.
    pub running: usize,
    /// Tasks that have a place and wait for victims there to go.
    pub assigned: usize,
    /// Tasks that were told to stop.
    pub stopping: usize,
    /// Tasks that wait for a place; of these so many…
    pub pending: usize,
    /// …back off after a failure, …
    pub backing_off: usize,
    /// …and so many cannot be placed yet: their job waits for others.
    pub held: usize,
    /// Tasks that ended.
    pub dead: usize,
    /// For how long the first of those that wait has waited.
    pub longest_wait_seconds: f64,
}

/// A machine, and what is on it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MachineStatus {
    /// Its name.
    pub name: String,
    /// `up`, `down`, `drained` or `unknown` (not heard yet).
    pub state: &'static str,
    /// Tasks and allocs on it.
    pub tasks: usize,
    /// What is charged over capacity, 0..=1; 0 where there is none.
    pub cpu: f64,
    /// The same of RAM.
    pub ram: f64,
}

/// How the cell stands.
#[must_use]
pub fn status(state: &State) -> StatusReport {
    let mut jobs: Vec<(u64, JobStatus)> = state
        .jobs()
        .map(|(slot, record)| {
            let job = state.cell().job(slot);
            let mut status = JobStatus {
                name: record.spec.name.clone(),
                kind: match record.kind {
                    JobKind::Job => "job",
                    JobKind::AllocSet => "alloc-set",
                },
                user: record.spec.user.clone(),
                priority: job.priority.get(),
                state: match record.ended {
                    None => "living",
                    Some((_, JobEnd::Finished)) => "finished",
                    Some((_, JobEnd::Failed)) => "failed",
                    Some((_, JobEnd::Killed)) => "killed",
                },
                ..JobStatus::default()
            };
            for task in &record.tasks {
                match &task.phase {
                    Phase::Waiting { since, not_before, .. } => {
                        status.pending += 1;
                        status.backing_off += usize::from(*not_before > state.now());
                        status.held += usize::from(!record.waits_for.is_empty());
                        let wait = seconds(state.now().since_ms(*since));
                        status.longest_wait_seconds = status.longest_wait_seconds.max(wait);
                    }
                    Phase::Assigned(_) => status.assigned += 1,
                    Phase::Running { .. } => status.running += 1,
                    Phase::Stopping { .. } => status.stopping += 1,
                    Phase::Dead { .. } => status.dead += 1,
                }
            }
            (record.uid, status)
        })
        .collect();
    jobs.sort_by_key(|(uid, _)| *uid);
    let (machines, allocation, stranding) = with_snapshot(state, |snapshot| {
        let used = |free: Option<f64>| 1.0 - free.unwrap_or(1.0).clamp(0.0, 1.0);
        let there = state.machines().filter(|(_, record)| !record.is_removed);
        let machines = there.map(|(id, record)| {
            let [cpu, ram, _, _] = snapshot.free_fractions(id.index());
            MachineStatus {
                name: record.spec.name.clone(),
                state: match record.health {
                    Health::Down { .. } => "down",
                    Health::Unknown => "unknown",
                    Health::Up if record.is_drained => "drained",
                    Health::Up => "up",
                },
                tasks: record.tasks().len(),
                cpu: used(cpu),
                ram: used(ram),
            }
        });
        (machines.collect(), allocation(snapshot), stranding(snapshot))
    });
    StatusReport {
        cell: state.settings().cell_name.clone(),
        index: state.index(),
        at_ms: state.now().0,
        jobs: jobs.into_iter().map(|(_, status)| status).collect(),
        machines,
        running_count: state.running_count(),
        pending_count: state.waiting_count(),
        allocation,
        stranding,
    }
}
