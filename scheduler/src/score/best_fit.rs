//! Best fit: fill machines up, leave the least behind.
//!
//! `score = 1 - mean of the free fractions after placing`, over the resources that the host has. Range
//! 0..=1: 1 where the task fills the host to the brim, 0 for a task of no size on an empty host.
//! Source: Borg (EuroSys '15) §3.2, which calls it the opposite end of the spectrum from E-PVM.

use super::{Ask, HostView, RowScore, inverse};

/// Best fit.
#[derive(Clone, Copy, Debug, Default)]
pub struct BestFit;

/// Free fractions, and what one unit asked takes of them.
#[derive(Clone, Copy, Debug)]
pub struct Fractions {
    pub(crate) free_cpu: f64,
    pub(crate) free_ram: f64,
    pub(crate) per_cpu: f64,
    pub(crate) per_ram: f64,
}

impl Fractions {
    pub(crate) fn of(host: &HostView) -> Self {
        let [cpu, ram, ..] = host.free;
        Self::from_free([cpu, ram], [host.capacity[0], host.capacity[1]])
    }

    /// From what is free of CPU and RAM, and the capacities.
    pub(crate) fn from_free(free: [f64; 2], capacity: [f64; 2]) -> Self {
        let [per_cpu, per_ram] = capacity.map(inverse);
        // Over-committed counts as full, or the score would leave its range.
        Self {
            free_cpu: free[0].max(0.0) * per_cpu,
            free_ram: free[1].max(0.0) * per_ram,
            per_cpu,
            per_ram,
        }
    }

    /// Free fractions of CPU and RAM after the task.
    #[inline(always)]
    pub(crate) fn after(&self, ask: &Ask) -> (f64, f64) {
        (self.free_cpu - ask.cpu * self.per_cpu, self.free_ram - ask.ram * self.per_ram)
    }
}

impl RowScore for BestFit {
    type Columns = Fractions;
    type Class = Ask;

    fn columns(&self, host: &HostView) -> Fractions {
        Fractions::of(host)
    }

    fn class(&self, ask: &Ask, _shapes: &[(f64, f64)]) -> Ask {
        *ask
    }

    #[inline(always)]
    fn score(&self, ask: &Ask, columns: &Fractions) -> f64 {
        let (cpu, ram) = columns.after(ask);
        1.0 - (cpu + ram) * 0.5
    }

    const HAS_UPPER: bool = true;

    fn upper(&self, cpu: [f64; 2], ram: [f64; 2]) -> f64 {
        1.0 - (cpu[0] + ram[0]) * 0.5
    }

    fn score_wide(&self, _class: &Ask, ask: &Ask, host: &HostView) -> f64 {
        let (mut sum, mut count) = (0.0, 0.0);
        for after in host.free_after(ask) {
            sum += after;
            count += 1.0;
        }
        1.0 - sum / f64::max(count, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(free: [f64; 2], ask: [f64; 2], expected: f64) {
        let host = HostView {
            free: [free[0], free[1], 0.0, 0.0],
            capacity: [1000.0, 4000.0, 0.0, 0.0],
            ..HostView::default()
        };
        let ask = Ask { cpu: ask[0], ram: ask[1], ..Ask::default() };
        let class = BestFit.class(&ask, &[]);
        let narrow = BestFit.score(&class, &BestFit.columns(&host));
        assert!((narrow - expected).abs() < 1e-12, "{narrow} is not {expected}");
        let wide = BestFit.score_wide(&class, &ask, &host);
        assert!((wide - expected).abs() < 1e-12, "wide: {wide} is not {expected}");
    }

    #[test]
    fn fuller_is_better() {
        check([1000.0, 4000.0], [0.0, 0.0], 0.0); // nothing on an empty machine
        check([1000.0, 4000.0], [500.0, 1000.0], 0.375); // 1 - (0.5 + 0.75) / 2
        check([500.0, 1000.0], [500.0, 1000.0], 1.0); // to the brim
        check([500.0, 4000.0], [250.0, 0.0], 0.375); // 1 - (0.25 + 1) / 2
    }
}
