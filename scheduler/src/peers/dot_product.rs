//! Dot product: the node where what is asked times what is free is least.
//!
//! ```text
//! dot   = (free CPU · CPU asked / 128² cores² + free GPU · GPU asked / 8² GPUs²) / 2
//! score = 1 - dot                                                0..=1; at least 0 on larger nodes
//! ```
//!
//! Tetris (Grandl et al., SIGCOMM '14) takes the *largest* product, to use what there is most of; the GPU
//! paper's text and simulator take the smallest, and so does this.
//! Source: Weng et al. (ATC '23) §6.1; its simulator's `dot_product_score.go` with the settings of its
//! experiments, `merge` (all devices are one amount) and `max` (by the largest node). That rounds scores
//! to hundredths, and has more ties.

use super::gpu_host::{CPU_MAX, GPU_MAX, GpuAsk, GpuHost};
use crate::score::{Ask, HostView, RowScore};

/// Dot product.
#[derive(Clone, Copy, Debug, Default)]
pub struct DotProduct;

impl RowScore for DotProduct {
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
        let cpu = (host.free_cpu / CPU_MAX) * (task.cpu / CPU_MAX);
        let gpu = (host.free_gpu / GPU_MAX) * (task.gpu / GPU_MAX);
        (1.0 - (cpu + gpu) * 0.5).clamp(0.0, 1.0)
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
    fn the_least_product_is_best() {
        let check = |free_cpu, devices: &[u16], task: Ask, expected: f64| {
            let host = view(free_cpu, devices);
            let score = DotProduct.score_wide(&DotProduct.class(&task, &[]), &task, &host);
            assert!((score - expected).abs() < 1e-12, "{score} is not {expected}");
        };
        // 1 - (0.5 · 0.25 + 0.25 · 0.125) / 2 = 1 - 0.15625 / 2
        check(64_000.0, &[1000, 1000], ask(32_000.0, 1, 1000), 0.921_875);
        // 1 - (1 · 1 + 1 · 1) / 2
        check(128_000.0, &[1000; 8], ask(128_000.0, 8, 1000), 0.0);
        check(128_000.0, &[1000; 8], ask(0.0, 0, 0), 1.0);
    }
}
