//! Random fit: any node on which the task fits, each as likely as the others, and on it any GPU device.
//!
//! Source: Weng et al. (ATC '23) §6.1; its simulator's `random_score.go` and its way to choose devices,
//! `random`. Whole devices are the first that are free, as in every policy.

use super::gpu_host::{GpuAsk, GpuHost, WHOLE};
use crate::score::{Ask, HostView, RowScore};

/// Random fit: a score that says nothing; [`super::shuffle`] does the rest.
#[derive(Clone, Copy, Debug, Default)]
pub struct RandomFit;

impl RowScore for RandomFit {
    type Columns = ();
    type Class = GpuAsk;

    fn columns(&self, _host: &HostView) {}

    fn class(&self, ask: &Ask, _shapes: &[(f64, f64)]) -> GpuAsk {
        GpuAsk::of(ask)
    }

    fn score(&self, _task: &GpuAsk, (): &()) -> f64 {
        0.0
    }

    fn score_wide(&self, _task: &GpuAsk, _ask: &Ask, _host: &HostView) -> f64 {
        0.0
    }

    fn devices(&self, task: &GpuAsk, host: &HostView, draw: u64) -> Option<u16> {
        if task.request.count != 1 || task.milli == WHOLE {
            return None;
        }
        let host = GpuHost::of(host);
        let fitting: Vec<usize> =
            (0..host.count).filter(|&device| host.free[device] >= task.milli).collect();
        let nth = usize::try_from(draw % fitting.len().max(1) as u64).unwrap_or(0);
        fitting.get(nth).map(|device| 1 << device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::gpu_host::tests::{ask, view};

    #[test]
    fn any_device_that_fits_is_drawn() {
        let host = view(1000.0, &[400, 600, 1000, 100]);
        let devices = |task: Ask, draw| RandomFit.devices(&GpuAsk::of(&task), &host, draw);
        assert_eq!(devices(ask(0.0, 1, 500), 0), Some(0b010));
        assert_eq!(devices(ask(0.0, 1, 500), 1), Some(0b100));
        assert_eq!(devices(ask(0.0, 1, 400), 3), Some(0b001));
        assert_eq!(devices(ask(0.0, 1, 1000), 1), None);
        assert_eq!(devices(ask(0.0, 0, 0), 1), None);
    }
}
