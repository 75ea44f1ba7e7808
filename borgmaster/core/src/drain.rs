//! Machines that are taken out of service: what runs there is moved away, within the limits of its jobs on
//! disruption and not all at once.

use std::collections::BTreeMap;

use cell::JobId;
use cell::live::{EvictCause, Op, Phase, Timestamp};

use crate::{Core, Output};

/// So many tasks are moved off in one round at most; our guess, so that a drain does not flood the queue.
const EVICTION_COUNT_MAX: usize = 500;

impl Core {
    pub(crate) fn drain_round(&self, now: Timestamp, out: &mut Vec<Output>) {
        let mut evicted = Vec::new();
        let mut of_job: BTreeMap<JobId, u32> = BTreeMap::new();
        for (_, machine) in self.state.machines().filter(|(_, machine)| machine.is_drained) {
            if machine.is_down() {
                continue;
            }
            for &(incarnation, id) in machine.tasks() {
                let is_inside = self.state.cell().job(id.job).alloc_set.is_some();
                let is_there = matches!(
                    self.state.record(id).phase,
                    Phase::Running { .. } | Phase::Assigned(_)
                );
                if !is_there || is_inside || evicted.len() >= EVICTION_COUNT_MAX {
                    continue;
                }
                let count = of_job.entry(id.job).or_default();
                if self.state.disruptions_left(id.job).is_none_or(|left| *count < left) {
                    *count += 1;
                    evicted.push((self.state.key(id), incarnation));
                }
            }
        }
        if !evicted.is_empty() {
            self.propose(now, Op::Evict { tasks: evicted, cause: EvictCause::MachineDrained }, out);
        }
    }
}
