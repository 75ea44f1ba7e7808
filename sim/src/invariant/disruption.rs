//! Limits on disruption: no task is told to go for preemption, a drain or an update while as many of its job
//! are down as may be. Counted from the events alone.

use std::collections::{BTreeMap, BTreeSet};

use cell::borglet::TaskKey;
use cell::live::{AfterStop, EvictCause, Phase, TaskStep, What};

use super::{Invariant, Step};

/// Tasks that are down because they were disrupted, by job.
#[derive(Debug, Default)]
pub struct Disruption {
    down: BTreeMap<u64, BTreeSet<TaskKey>>,
}

impl Invariant for Disruption {
    fn name(&self) -> &'static str {
        "limits on disruption hold"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for event in &step.applied.events {
            let What::Task { job, task, step: what, .. } = &event.what else { continue };
            let down = self.down.entry(task.job).or_default();
            match what {
                TaskStep::Notified(cause) => {
                    down.insert(*task);
                    let is_voluntary = matches!(
                        cause,
                        EvictCause::Preempted | EvictCause::MachineDrained | EvictCause::Updated
                    );
                    let max = step.state.job_of(task.job).and_then(|job| job.spec.max_disrupted);
                    // Who is to die anyway is no longer disrupted.
                    let is_dying = |task: &&TaskKey| {
                        step.state.task_id(**task).is_some_and(|id| {
                            let phase = &step.state.record(id).phase;
                            matches!(phase, Phase::Stopping { then: AfterStop::Die, .. })
                        })
                    };
                    let count = down.iter().filter(|task| !is_dying(task)).count();
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
        self.down.retain(|_, tasks| !tasks.is_empty());
        Ok(())
    }
}
