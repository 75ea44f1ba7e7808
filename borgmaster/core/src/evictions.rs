//! What a master takes off its machines, as far as that follows from the state alone.

use cell::live::{EvictCause, Op, State, Timestamp};

use crate::drain::drained_tasks;
use crate::health::lost_tasks;
use crate::rollout::outdated_tasks;

/// The evictions that a master would propose now: off machines that are down or drained, and of jobs that
/// are being updated.
#[must_use]
pub fn evictions(state: &State, now: Timestamp) -> Vec<Op> {
    let off = |tasks, cause| Op::Evict { tasks, cause };
    let mut all = vec![
        off(lost_tasks(state, now), EvictCause::MachineLost),
        off(drained_tasks(state), EvictCause::MachineDrained),
    ];
    let updated = outdated_tasks(state, now).into_iter();
    all.extend(updated.map(|tasks| off(tasks, EvictCause::Updated)));
    all.retain(|op| !matches!(op, Op::Evict { tasks, .. } if tasks.is_empty()));
    all
}
