//! What is left of jobs' limits on disruption, while a list of tasks to be disrupted is put together.

use std::collections::BTreeMap;

use super::State;
use crate::id::{JobId, TaskId};

/// Counts tasks against their jobs' limits. With an alloc goes what is in it, and counts for its own job.
#[derive(Debug)]
pub struct DisruptionsLeft<'a> {
    state: &'a State,
    taken: BTreeMap<JobId, u32>,
}

impl<'a> DisruptionsLeft<'a> {
    /// As the state has them.
    #[must_use]
    pub const fn new(state: &'a State) -> Self {
        Self { state, taken: BTreeMap::new() }
    }

    /// Takes one more task. False: its job, or that of a task in it, cannot bear it; then nothing is taken.
    pub fn take(&mut self, task: TaskId) -> bool {
        let inside = self.state.envelopes.get(&task).into_iter().flat_map(|it| &it.tasks);
        // What is going already counts as disrupted already.
        let is_there = |id: &&TaskId| !self.state.record(**id).is_disrupted;
        let mut more: BTreeMap<JobId, u32> = BTreeMap::new();
        for id in std::iter::once(&task).chain(inside.filter(is_there)) {
            *more.entry(id.job).or_default() += 1;
        }
        let bears = |(job, count): (&JobId, &u32)| {
            let taken = self.taken.get(job).copied().unwrap_or(0);
            self.state.disruptions_left(*job).is_none_or(|left| taken + count <= left)
        };
        if !more.iter().all(bears) {
            return false;
        }
        for (job, count) in more {
            *self.taken.entry(job).or_default() += count;
        }
        true
    }
}
