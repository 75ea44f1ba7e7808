//! At most one accepted placement of a task: numbers of placements ascend, and a task gets a place only while
//! it has none.

use std::collections::BTreeMap;

use cell::borglet::{Incarnation, TaskKey};
use cell::live::{State, TaskStep, What};

use super::{Invariant, Step};

/// Who has a place, and the last number given.
#[derive(Debug, Default)]
pub struct OnePlacement {
    placed: BTreeMap<TaskKey, Incarnation>,
    last: Option<Incarnation>,
}

impl OnePlacement {
    /// Another state took the place of the one there was: who has a place in it had it just before.
    fn restored(&mut self, state: &State) -> Result<(), String> {
        let mut placed = BTreeMap::new();
        for (_, job) in state.jobs() {
            for (index, task) in (0..).zip(&job.tasks) {
                let Some(place) = task.phase.place() else { continue };
                let key = TaskKey { job: job.uid, index };
                if self.placed.get(&key) != Some(&place.incarnation) {
                    return Err(format!(
                        "{}/{index} has placement {:?} again, and had {:?}",
                        job.name(),
                        place.incarnation,
                        self.placed.get(&key)
                    ));
                }
                placed.insert(key, place.incarnation);
            }
        }
        self.placed = placed;
        Ok(())
    }
}

impl Invariant for OnePlacement {
    fn name(&self) -> &'static str {
        "at most one placement of a task"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for event in &step.applied.events {
            if matches!(event.what, What::Restored { .. }) {
                self.restored(step.state)?;
            }
            let What::Task { job, task, incarnation, step: what, .. } = &event.what else {
                continue;
            };
            match what {
                TaskStep::Scheduled => {
                    let Some(incarnation) = *incarnation else {
                        return Err(format!("{job}/{} was placed without a number", task.index));
                    };
                    if self.last.is_some_and(|last| incarnation <= last) {
                        return Err(format!("placement {incarnation:?} after {:?}", self.last));
                    }
                    self.last = Some(incarnation);
                    if let Some(other) = self.placed.insert(*task, incarnation) {
                        return Err(format!(
                            "{job}/{} was placed as {incarnation:?} while it was {other:?}",
                            task.index
                        ));
                    }
                }
                TaskStep::Evicted(_)
                | TaskStep::Exited(_)
                | TaskStep::Died(_)
                | TaskStep::Unassigned => drop(self.placed.remove(task)),
                TaskStep::Started | TaskStep::Notified(_) | TaskStep::Health(_) => {
                    if self.placed.get(task) != incarnation.as_ref() {
                        return Err(format!("{job}/{} has no such placement", task.index));
                    }
                }
            }
        }
        Ok(())
    }
}
