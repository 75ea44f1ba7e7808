//! Rolling updates: no more tasks are started anew for one than `update_max_down` leaves, those counted that are
//! down already or are new and do not do well, and none that is as wanted.

use std::collections::{BTreeMap, BTreeSet};

use cell::borglet::TaskKey;
use cell::live::{Entry, EvictCause, JobRecord, Op, Phase, State, TaskStep, Timestamp, What};

use super::{Invariant, Step};

/// What an update may do to a job.
#[derive(Debug)]
struct Allowed {
    outdated: BTreeSet<u32>,
    count: usize,
}

/// What may be started anew by the entry, by job.
#[derive(Debug, Default)]
pub struct Rollout {
    allowed: BTreeMap<u64, Allowed>,
}

fn allowed(job: &JobRecord, now: Timestamp) -> Allowed {
    let healthy_ms = u64::from(job.spec.run.healthy_seconds) * 1000;
    let (mut outdated, mut down) = (BTreeSet::new(), 0);
    for (index, task) in (0..job.spec.count).zip(&job.tasks) {
        let is_old = task.version < job.restart_below;
        match task.phase {
            Phase::Dead { .. } => {}
            Phase::Running { .. } if is_old => drop(outdated.insert(index)),
            Phase::Running { started_at: Some(at), is_healthy: true, .. }
                if now.since_ms(at) >= healthy_ms => {}
            Phase::Assigned(_) if is_old => {
                outdated.insert(index);
                down += 1;
            }
            Phase::Waiting { .. }
            | Phase::Assigned(_)
            | Phase::Running { .. }
            | Phase::Stopping { .. } => down += 1,
        }
    }
    Allowed { outdated, count: (job.spec.run.update_max_down as usize).saturating_sub(down) }
}

impl Invariant for Rollout {
    fn name(&self) -> &'static str {
        "updates disrupt no more tasks than they may"
    }

    fn prepare(&mut self, entry: &Entry, state: &State) {
        self.allowed.clear();
        // What else an entry does may leave more or less.
        let [command] = &entry.commands[..] else { return };
        let Op::Evict { tasks, cause: EvictCause::Updated } = &command.op else { return };
        let now = entry.at.max(state.now());
        for &(TaskKey { job, .. }, _) in tasks {
            let record = state.job_of(job);
            self.allowed.extend(record.map(|record| (job, allowed(record, now))));
        }
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for event in &step.applied.events {
            let What::Task { job, task, step: TaskStep::Notified(EvictCause::Updated), .. } =
                &event.what
            else {
                continue;
            };
            // An update of an alloc set takes what is in its allocs along.
            let Some(allowed) = self.allowed.get_mut(&task.job) else { continue };
            if !allowed.outdated.contains(&task.index) {
                return Err(format!("{job}/{} is started anew, and is as wanted", task.index));
            }
            if allowed.count == 0 {
                return Err(format!("{job}/{} is one too many to be started anew", task.index));
            }
            allowed.count -= 1;
        }
        Ok(())
    }
}
