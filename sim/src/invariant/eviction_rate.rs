//! Tasks of lost machines are given up at the limited rate, and not at all when too many machines are down.

use std::collections::VecDeque;

use cell::live::{EvictCause, TaskStep, Timestamp, What};

use super::{Invariant, Step};

/// When tasks were given up, of late.
#[derive(Debug, Default)]
pub struct EvictionRate {
    recent: VecDeque<Timestamp>,
}

impl Invariant for EvictionRate {
    fn name(&self) -> &'static str {
        "lost machines lose their tasks at the limited rate"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        let rate = step.state.settings().lost_evictions_per_second as usize;
        for event in &step.applied.events {
            let What::Task { job, step: TaskStep::Evicted(EvictCause::MachineLost), .. } =
                &event.what
            else {
                continue;
            };
            if step.before.is_mass_loss {
                return Err(format!(
                    "{job} was given up while {:?} machines are down",
                    step.before.machines
                ));
            }
            self.recent.push_back(event.at);
            while self.recent.front().is_some_and(|first| event.at.since_ms(*first) >= 1000) {
                self.recent.pop_front();
            }
            // What one second brings may have been saved up; an alloc takes its tasks along.
            if self.recent.len() > 2 * rate + 8 {
                return Err(format!("{} tasks were given up in a second", self.recent.len()));
            }
        }
        Ok(())
    }
}
