//! Production never preempts production, and nobody preempts what is as important.

use cell::live::{EvictCause, Op, TaskStep, What};

use super::{Invariant, Step};

/// See the module.
#[derive(Debug)]
pub struct Preemption;

impl Invariant for Preemption {
    fn name(&self) -> &'static str {
        "production is never preempted"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for event in &step.applied.events {
            let What::Task { job, step: TaskStep::Notified(EvictCause::Preempted), .. } =
                &event.what
            else {
                continue;
            };
            let Some(victim) = step.state.job(job) else { continue };
            if victim.spec.priority >= 120 {
                return Err(format!("{job} of priority {} was preempted", victim.spec.priority));
            }
            let placed = step.entry.into_iter().flat_map(|entry| &entry.commands);
            let highest = placed
                .filter_map(|command| {
                    let Op::Assign { assignments } = &command.op else { return None };
                    Some(assignments)
                })
                .flatten()
                .filter_map(|assignment| step.state.job_of(assignment.task.job))
                .map(|job| job.spec.priority)
                .max();
            if highest.is_none_or(|highest| highest <= victim.spec.priority) {
                return Err(format!(
                    "{job} of priority {} was preempted for {highest:?}",
                    victim.spec.priority
                ));
            }
        }
        Ok(())
    }
}
