//! Best fit as the GPU paper compares with it: the least of CPU and GPU left over.
//!
//! ```text
//! left  = ((free CPU - CPU asked) / 128 cores + (free GPU - GPU asked) / 8 GPUs) / 2
//! score = 1 - left                                               0..=1; at least 0 on larger nodes
//! ```
//!
//! Named apart from `best-fit`, which it is not: that one takes fractions of each host's own capacity and
//! counts RAM, this one amounts, of CPU and GPU alone. So a small node is a better fit than a large one
//! that is as full.
//! Source: Weng et al. (ATC '23) §6.1 (after Protean, OSDI '20); the weights, that RAM does not count, and
//! the normalisation by the largest node are those of its simulator's `best_fit_score.go`. That rounds
//! scores to hundredths, and has more ties.

use super::gpu_host::{CPU_MAX, GPU_MAX, GpuAsk, GpuHost};
use crate::score::{Ask, HostView, RowScore};

/// Best fit by CPU and GPU.
#[derive(Clone, Copy, Debug, Default)]
pub struct GpuBestFit;

impl RowScore for GpuBestFit {
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
        let left =
            (host.free_cpu - task.cpu) / CPU_MAX * 0.5 + (host.free_gpu - task.gpu) / GPU_MAX * 0.5;
        (1.0 - left).clamp(0.0, 1.0)
    }

    fn score_wide(&self, task: &GpuAsk, _ask: &Ask, host: &HostView) -> f64 {
        self.score(task, &GpuHost::of(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::gpu_host::tests::{ask, view};

    #[test]
    fn the_least_left_over_is_best() {
        let check = |free_cpu, devices: &[u16], task: Ask, expected: f64| {
            let host = view(free_cpu, devices);
            let score = GpuBestFit.score_wide(&GpuBestFit.class(&task, &[]), &task, &host);
            assert!((score - expected).abs() < 1e-12, "{score} is not {expected}");
        };
        check(128_000.0, &[1000; 8], ask(0.0, 0, 0), 0.0);
        // 1 - ((64 - 32) / 128 + (2.5 - 0.5) / 8) / 2 = 1 - (0.25 + 0.25) / 2
        check(64_000.0, &[1000, 1000, 500], ask(32_000.0, 1, 500), 0.75);
        check(32_000.0, &[500], ask(32_000.0, 1, 500), 1.0);
        // 1 - (32 / 128 + 0) / 2: a node without GPUs
        check(64_000.0, &[], ask(32_000.0, 0, 0), 0.875);
        check(512_000.0, &[1000; 16], ask(0.0, 0, 0), 0.0);
    }
}
