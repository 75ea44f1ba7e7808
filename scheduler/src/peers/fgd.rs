//! Fragmentation gradient descent: the node, and on it the GPU device, where the placement makes the
//! least of the free GPU useless.
//!
//! ```text
//! Δ(n, d) = F_n(M) with the task on device d  -  F_n(M) without it         F: super::fragmentation
//! score   = (1 - min over d of Δ / 16 GPUs) / 2          0..=1; above 1/2 where fragments become fewer
//! ```
//!
//! A share may go to any device that has room; whole devices are all alike, and the first free ones are
//! taken. Of devices with the same Δ the first wins. What is typical is derived from the jobs of the cell.
//! Source: Weng et al. (ATC '23) §5; its simulator's `fgd_score.go`. That passes Δ through a sigmoid and
//! rounds to hundredths, so that what differs by less than about 0.04 GPU is a tie; here, as in the
//! paper, the least Δ wins.

use cell::GPU_DEVICE_COUNT_MAX;

use super::fragmentation::Fragmentation;
use super::gpu_host::{GpuAsk, GpuHost, WHOLE};
use crate::score::{Ask, HostView, RowScore};

/// Fragmentation gradient descent.
#[derive(Clone, Debug)]
pub struct Fgd {
    /// What is a fragment.
    pub fragmentation: Fragmentation,
}

impl RowScore for Fgd {
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
        #[expect(clippy::cast_precision_loss, reason = "16 devices")]
        let most = GPU_DEVICE_COUNT_MAX as f64 * f64::from(WHOLE);
        let increase = self.best(task, host).map_or(0.0, |(_, increase)| increase);
        (0.5 - increase / most * 0.5).clamp(0.0, 1.0)
    }

    fn score_wide(&self, task: &GpuAsk, _ask: &Ask, host: &HostView) -> f64 {
        self.score(task, &GpuHost::of(host))
    }

    fn devices(&self, task: &GpuAsk, host: &HostView, _draw: u64) -> Option<u16> {
        self.best(task, &GpuHost::of(host)).map(|(devices, _)| devices)
    }
}

impl Fgd {
    /// The devices with the least increase of fragments, one bit each, and the increase in milli-GPU;
    /// `None` where there are too few with room.
    fn best(&self, task: &GpuAsk, host: &GpuHost) -> Option<(u16, f64)> {
        let fragments =
            |free: &[u16], cpu: f64| self.fragmentation.fragments(host.machine, cpu, free);
        let before = fragments(host.devices(), host.free_cpu);
        let after = |devices: u16| {
            let mut free = host.free;
            let taken = (0..host.count).filter(|device| devices & (1 << device) != 0);
            taken.for_each(|device| free[device] -= task.milli);
            fragments(&free[..host.count], host.free_cpu - task.cpu)
        };
        let fits = |device: &usize| host.free[*device] >= task.milli;
        if task.request.count == 1 {
            let mut best: Option<(u16, f64)> = None;
            for device in (0..host.count).filter(fits) {
                // Devices with as much free make no difference, and the first of them wins.
                if host.free[..device].contains(&host.free[device]) {
                    continue;
                }
                let increase = after(1 << device) - before;
                if best.is_none_or(|(_, least)| increase < least) {
                    best = Some((1 << device, increase));
                }
            }
            return best;
        }
        let count = task.request.count as usize;
        let taken = (0..host.count).filter(fits).take(count);
        let devices = taken.fold(0_u16, |bits, device| bits | 1 << device);
        (devices.count_ones() == task.request.count).then(|| (devices, after(devices) - before))
    }
}
