//! Machines that are taken out of service: what runs there is moved away, within the limits of its jobs on
//! disruption and not all at once.

use std::collections::BTreeMap;

use cell::JobId;
use cell::borglet::{Incarnation, TaskKey};
use cell::live::{Phase, State};

/// So many tasks are moved off in one round at most; our guess, so that a drain does not flood the queue.
const EVICTION_COUNT_MAX: usize = 500;

/// Tasks to be moved off drained machines now.
pub(crate) fn drained_tasks(state: &State) -> Vec<(TaskKey, Incarnation)> {
    let mut evicted = Vec::new();
    let mut of_job: BTreeMap<JobId, u32> = BTreeMap::new();
    for (_, machine) in state.machines().filter(|(_, machine)| machine.is_drained) {
        if machine.is_down() {
            continue;
        }
        for &(incarnation, id) in machine.tasks() {
            let is_inside = state.cell().job(id.job).alloc_set.is_some();
            let is_there =
                matches!(state.record(id).phase, Phase::Running { .. } | Phase::Assigned(_));
            if !is_there || is_inside || evicted.len() >= EVICTION_COUNT_MAX {
                continue;
            }
            let count = of_job.entry(id.job).or_default();
            if state.disruptions_left(id.job).is_none_or(|left| *count < left) {
                *count += 1;
                evicted.push((state.key(id), incarnation));
            }
        }
    }
    evicted
}
