//! Rolling updates: tasks of an older version are started anew, a few at a time, and only as long as those of
//! the new version do well.
//!
//! Source: Borg (EuroSys '15) §2.3: updates are "generally done in a rolling fashion", with a limit on the
//! number of tasks disrupted.

use cell::JobId;
use cell::borglet::{Incarnation, TaskKey};
use cell::live::{EvictCause, Op, Phase, State, Timestamp};

use crate::{Core, Output};

/// How often the round is made, in milliseconds.
const EVERY_MS: u64 = 500;

impl Core {
    pub(crate) fn rollout_round(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let Some(leader) = &mut self.leader else { return };
        if now.since_ms(leader.rounds.rollout) < EVERY_MS {
            return;
        }
        leader.rounds.rollout = now;
        for tasks in outdated_tasks(&self.state, now) {
            self.propose(now, Op::Evict { tasks, cause: EvictCause::Updated }, out);
        }
    }
}

/// For each job that is being updated its tasks to be started anew now, where there are any.
pub(crate) fn outdated_tasks(state: &State, now: Timestamp) -> Vec<Vec<(TaskKey, Incarnation)>> {
    let updating = state.jobs().filter(|(_, job)| job.restart_below > 1 && job.ended.is_none());
    let tasks = updating.map(|(slot, _)| next_tasks(state, slot, now));
    tasks.filter(|tasks| !tasks.is_empty()).collect()
}

/// The tasks of a job to be started anew now, first those that do not do well: that costs nothing.
fn next_tasks(state: &State, slot: JobId, now: Timestamp) -> Vec<(TaskKey, Incarnation)> {
    let job = state.job_at(slot);
    let mut old = Vec::new();
    for (task, index) in job.tasks.iter().zip(0..job.spec.count) {
        if let Phase::Running { place, started_at, is_healthy } = &task.phase
            && job.is_outdated(task)
        {
            let does_well = *is_healthy && started_at.is_some();
            old.push((does_well, TaskKey { job: job.uid, index }, place.incarnation));
        }
    }
    if old.is_empty() {
        return Vec::new();
    }
    let allowed = state.rollout_left(slot, now);
    let allowed = state.disruptions_left(slot).map_or(allowed, |left| allowed.min(left));
    old.sort_unstable();
    old.truncate(allowed as usize);
    old.into_iter().map(|(_, key, incarnation)| (key, incarnation)).collect()
}
