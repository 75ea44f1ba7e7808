//! GPU packing: devices in use first, then free devices of nodes in use, then idle nodes.
//!
//! A task takes the fullest devices that will do. In hundredths, `div` the integer division:
//!
//! ```text
//! all devices of the node are free:       max(33 - devices, devices)
//! it takes devices that are all free:     max(50 - how many of them, 33)
//! only devices in use:                    100 - (sum of what is free on them, in hundredths) div 10
//! a task without GPUs:                    0 everywhere
//! ```
//!
//! Source: Weng et al. (ATC '23) §6.1 (after MLaaS in the Wild, NSDI '22); the numbers are those of its
//! simulator's `gpu_packing_score.go`.

use super::gpu_host::{GpuAsk, GpuHost, WHOLE};
use crate::score::{Ask, HostView, RowScore};

/// GPU packing.
#[derive(Clone, Copy, Debug, Default)]
pub struct GpuPacking;

impl RowScore for GpuPacking {
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
        hundredths(task, host) / 100.0
    }

    fn score_wide(&self, task: &GpuAsk, _ask: &Ask, host: &HostView) -> f64 {
        self.score(task, &GpuHost::of(host))
    }
}

fn hundredths(task: &GpuAsk, host: &GpuHost) -> f64 {
    if task.request.count == 0 {
        return 0.0;
    }
    let devices = i32::try_from(host.count).unwrap_or(0);
    let is_idle = host.devices().iter().all(|&free| free == WHOLE);
    if is_idle {
        return f64::from((33 - devices).max(devices));
    }
    let mut fitting = host.free;
    let fitting = &mut fitting[..host.count];
    fitting.sort_unstable();
    let taken = fitting.iter().filter(|&&free| free >= task.milli);
    let (mut whole_count, mut free_hundredths) = (0, 0);
    for &free in taken.take(task.request.count as usize) {
        whole_count += i32::from(free == WHOLE);
        free_hundredths += i32::from(free) / 10;
    }
    if whole_count > 0 {
        f64::from((50 - whole_count).max(33))
    } else {
        f64::from((100 - free_hundredths / 10).max(50))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::gpu_host::tests::{ask, view};

    #[test]
    fn devices_in_use_come_before_nodes_in_use_before_idle_nodes() {
        let check = |devices: &[u16], task: Ask, expected: f64| {
            let host = view(1000.0, devices);
            let score = GpuPacking.score_wide(&GpuPacking.class(&task, &[]), &task, &host);
            assert!((score - expected).abs() < 1e-12, "{score} is not {expected}");
        };
        // Fits on the second, of which 55 hundredths are free: 100 - 55 div 10.
        check(&[400, 555, 1000], ask(0.0, 1, 500), 0.95);
        // Neither of the shared ones will do: 50 - 1.
        check(&[400, 450, 1000], ask(0.0, 1, 500), 0.49);
        check(&[400, 1000, 1000], ask(0.0, 2, 1000), 0.48);
        check(&[1000; 4], ask(0.0, 1, 500), 0.29); // 33 - 4
        check(&[1000; 8], ask(0.0, 1, 500), 0.25);
        check(&[400, 1000], ask(0.0, 0, 0), 0.0);
        // As it is written down; the paper's nodes have at most 8.
        check(&[1000; 16], ask(0.0, 1, 500), 0.17);
    }
}
