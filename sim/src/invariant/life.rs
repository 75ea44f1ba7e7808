//! No task is lost: a job has as many tasks as it was ever to have until it is dropped, it is dropped only
//! after its end, and what is dead stays dead, unless an update gives the job a new task in its place.

use std::collections::{BTreeMap, BTreeSet};

use cell::borglet::TaskKey;
use cell::live::{Phase, TaskStep, What};

use super::{Invariant, Step};

/// What jobs had.
#[derive(Debug, Default)]
pub struct NoTaskLost {
    counts: BTreeMap<u64, (usize, bool)>,
    dead: BTreeSet<TaskKey>,
}

impl Invariant for NoTaskLost {
    fn name(&self) -> &'static str {
        "no task is lost"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for event in &step.applied.events {
            if matches!(event.what, What::Restored { .. }) {
                // What there is now was saved earlier, all of it: [`super::restore`] sees to that.
                self.counts.clear();
                self.dead.clear();
                for (_, job) in step.state.jobs() {
                    let dead = (0..).zip(&job.tasks);
                    let dead = dead.filter(|(_, task)| matches!(task.phase, Phase::Dead { .. }));
                    self.dead.extend(dead.map(|(index, _)| TaskKey { job: job.uid, index }));
                }
            }
            if matches!(event.what, What::Updated { .. }) {
                // A job that has grown again has new tasks in place of those that ended as it shrank.
                let is_dead = |task: &TaskKey| {
                    let id = step.state.task_id(*task);
                    id.is_none_or(|id| matches!(step.state.record(id).phase, Phase::Dead { .. }))
                };
                self.dead.retain(is_dead);
            }
            let What::Task { job, task, step: what, .. } = &event.what else { continue };
            let is_dead = self.dead.contains(task);
            if matches!(what, TaskStep::Died(_)) {
                if !self.dead.insert(*task) {
                    return Err(format!("{job}/{} died twice", task.index));
                }
            } else if is_dead {
                return Err(format!("{job}/{} is dead, and then {what:?}", task.index));
            }
        }
        let mut counts = BTreeMap::new();
        for (_, job) in step.state.jobs() {
            counts.insert(job.uid, (job.tasks.len(), job.ended.is_some()));
            if job.ended.is_none()
                && job.tasks.iter().all(|task| matches!(task.phase, Phase::Dead { .. }))
            {
                return Err(format!("all tasks of {} are dead, and it has not ended", job.name()));
            }
        }
        for (uid, (count, has_ended)) in &self.counts {
            match counts.get(uid) {
                None if !has_ended => return Err(format!("job {uid} is gone before its end")),
                Some((now, _)) if now < count => {
                    return Err(format!("job {uid} had {count} tasks, and has {now}"));
                }
                None | Some(_) => {}
            }
        }
        self.dead.retain(|task| counts.contains_key(&task.job));
        self.counts = counts;
        Ok(())
    }
}
