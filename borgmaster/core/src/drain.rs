//! Machines that are taken out of service: what runs there is moved away, within the limits of its jobs on
//! disruption and not all at once.

use cell::borglet::{Incarnation, TaskKey};
use cell::live::{DisruptionsLeft, Phase, State};

/// So many tasks are moved off in one round at most; our guess, so that a drain does not flood the queue.
const EVICTION_COUNT_MAX: usize = 500;

/// Tasks to be moved off drained machines now.
pub(crate) fn drained_tasks(state: &State) -> Vec<(TaskKey, Incarnation)> {
    let mut evicted = Vec::new();
    let mut left = DisruptionsLeft::new(state);
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
            if left.take(id) {
                evicted.push((state.key(id), incarnation));
            }
        }
    }
    evicted
}
