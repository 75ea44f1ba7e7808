//! Limits on disruption: no task is told to go for preemption, a drain or an update while as many of its job
//! are down as may be. Counted from the events alone.

use std::collections::{BTreeMap, BTreeSet};

use cell::borglet::TaskKey;
use cell::live::{AfterStop, EvictCause, Phase, State, TaskStep, What};

use super::{Invariant, Step};

/// Tasks that are down because they were disrupted, by job.
#[derive(Debug, Default)]
pub struct Disruption {
    down: BTreeMap<u64, BTreeSet<TaskKey>>,
}

/// Who is to die anyway is no longer disrupted.
fn is_dying(state: &State, task: TaskKey) -> bool {
    state.task_id(task).is_some_and(|id| {
        matches!(state.record(id).phase, Phase::Stopping { then: AfterStop::Die, .. })
    })
}

impl Invariant for Disruption {
    fn name(&self) -> &'static str {
        "limits on disruption hold"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        let mut touched = BTreeSet::new();
        for event in &step.applied.events {
            if matches!(event.what, What::Restored { .. }) {
                // Who was down as it was saved is down again, and who ran then and does not go on is so too:
                // [`super::restore`] sees to that.
                self.down.clear();
                for (_, job) in step.state.jobs() {
                    let down = (0..).zip(&job.tasks).filter(|(_, task)| task.is_disrupted);
                    let down = down.map(|(index, _)| TaskKey { job: job.uid, index });
                    self.down.insert(job.uid, down.collect());
                    touched.insert(job.uid);
                }
            }
            let What::Task { job, task, step: what, .. } = &event.what else { continue };
            touched.insert(task.job);
            let down = self.down.entry(task.job).or_default();
            match what {
                TaskStep::Notified(cause) => {
                    down.insert(*task);
                    let is_voluntary = matches!(
                        cause,
                        EvictCause::Preempted | EvictCause::MachineDrained | EvictCause::Updated
                    );
                    let max = step.state.job_of(task.job).and_then(|job| job.spec.max_disrupted);
                    let count = down.iter().filter(|task| !is_dying(step.state, **task)).count();
                    if is_voluntary && max.is_some_and(|max| count > max as usize) {
                        return Err(format!(
                            "{job}/{} was told to go ({}) as number {} of at most {max:?}: {:?}",
                            task.index,
                            cause.name(),
                            count,
                            down.iter()
                                .filter_map(|task| step.state.task_id(*task))
                                .map(|id| (id.position, step.state.record(id)))
                                .collect::<Vec<_>>()
                        ));
                    }
                }
                TaskStep::Evicted(EvictCause::MachineLost) => drop(down.insert(*task)),
                TaskStep::Started | TaskStep::Died(_) => drop(down.remove(task)),
                TaskStep::Scheduled
                | TaskStep::Evicted(_)
                | TaskStep::Exited(_)
                | TaskStep::Health(_)
                | TaskStep::Unassigned => {}
            }
        }
        for tasks in self.down.values_mut() {
            tasks.retain(|task| !is_dying(step.state, *task));
        }
        // The state counts the same, and a restore goes by that.
        for uid in touched {
            let Some(job) = step.state.job_of(uid) else { continue };
            let counted = self.down.get(&uid).map_or(0, BTreeSet::len);
            if counted != job.disrupted() as usize {
                let said = job.disrupted();
                return Err(format!("{counted} tasks of {} are disrupted, not {said}", job.name()));
            }
        }
        self.down.retain(|_, tasks| !tasks.is_empty());
        Ok(())
    }
}
