//! GPU clustering: tasks with as many GPUs on the same nodes, so that each node keeps room for its kind.
//!
//! Tasks are of one kind if they all have a share of a device, or all one device, or all two, and so on.
//! In hundredths, with `div` the integer division:
//!
//! ```text
//! score = band + (25 · (8 GPUs - free GPU)) div 8 GPUs
//! band  = 75: only tasks of the same kind are there    50: such tasks and others
//!         25: no task with GPUs is there                0: only tasks of other kinds
//! a task without GPUs: 0 everywhere
//! ```
//!
//! Source: Weng et al. (ATC '23) §6.1 (after Gandiva, OSDI '18); the numbers are those of its simulator's
//! `gpu_clustering_score.go`. A node with more than 8 GPUs free counts as one with 8.

use super::gpu_host::{GPU_MAX, GpuAsk, GpuHost};
use crate::score::{Ask, HostView, RowScore};

/// GPU clustering.
#[derive(Clone, Copy, Debug, Default)]
pub struct GpuClustering;

impl RowScore for GpuClustering {
    type Columns = GpuHost;
    type Class = GpuAsk;
    const FIRST_WINS_TIES: bool = true;

    fn columns(&self, host: &HostView) -> GpuHost {
        GpuHost::of(host)
    }

    fn class(&self, ask: &Ask, _shapes: &[(f64, f64)]) -> GpuAsk {
        GpuAsk::of(ask)
    }

    fn score(&self, task: &GpuAsk, host: &GpuHost) -> f64 {
        if task.request.count == 0 {
            return 0.0;
        }
        let band = match (host.tasks.like(task.request), host.tasks.kind_count()) {
            (0, 0) => 25.0,
            (0, _) => 0.0,
            (_, 1) => 75.0,
            (_, _) => 50.0,
        };
        // Milli-GPU are whole numbers, so that the quotient is exact enough to be cut.
        let used = (GPU_MAX - host.free_gpu).max(0.0);
        (band + (25.0 * used / GPU_MAX).floor()) / 100.0
    }

    fn score_wide(&self, task: &GpuAsk, _ask: &Ask, host: &HostView) -> f64 {
        self.score(task, &GpuHost::of(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::gpu_host::tests::{ask, view};
    use crate::snapshot::GpuTally;

    #[test]
    fn its_own_kind_comes_before_idle_nodes_before_others() {
        let share = GpuTally { shares: 2, ..GpuTally::default() };
        let mut two = GpuTally::default();
        two.whole[1] = 1;
        let both = GpuTally { shares: 1, ..two };
        let check = |devices: &[u16], gpu_tasks: GpuTally, task: Ask, expected: f64| {
            let host = HostView { gpu_tasks, ..view(1000.0, devices) };
            let class = GpuClustering.class(&task, &[]);
            let score = GpuClustering.score_wide(&class, &task, &host);
            assert!((score - expected).abs() < 1e-12, "{score} is not {expected}");
        };
        // 75 + 25 · (8000 - 2500) div 8000 = 75 + 17
        check(&[500, 1000, 1000], share, ask(0.0, 1, 300), 0.92);
        check(&[500, 1000, 1000], both, ask(0.0, 1, 300), 0.67);
        check(&[500, 1000, 1000], GpuTally::default(), ask(0.0, 1, 300), 0.42);
        check(&[500, 1000, 1000], two, ask(0.0, 1, 300), 0.17);
        check(&[500, 1000, 1000], two, ask(0.0, 2, 1000), 0.92);
        // One whole device is another kind than a share, and than two.
        check(&[500, 1000, 1000], both, ask(0.0, 1, 1000), 0.17);
        check(&[1000; 8], GpuTally::default(), ask(0.0, 1, 300), 0.25);
        check(&[1000; 8], share, ask(0.0, 0, 0), 0.0);
    }
}
