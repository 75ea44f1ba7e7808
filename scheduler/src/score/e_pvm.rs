//! E-PVM: place where the cost rises least, which spreads the load.
//!
//! The cost of a host is the sum over its resources of `n^utilisation`, with `n` the number of machines;
//! a task goes where the sum grows least. `score = 1 - growth / (2 · (n - 1))`, range 0..=1 for two
//! resources: 1 for a task of no size, 0 where it fills an empty host in both. With `n = 1` the cost
//! never grows and every host scores 1.
//!
//! Source: Amir, Awerbuch, Barak, Borgstrom, Keren, "An opportunity cost approach for job assignment in
//! a scalable computing cluster" (IEEE TPDS 2000); Borg (EuroSys '15) §3.2 ("E-PVM ends up spreading
//! load", sometimes called worst fit).

use super::{Ask, HostView, RowScore, inverse};

/// E-PVM for a cell of `n` machines.
#[derive(Clone, Copy, Debug)]
pub struct EPvm {
    ln_n: f64,
    /// 1 / (n - 1), or 0 for one machine.
    inverse_range: f64,
}

impl EPvm {
    /// For a cell with so many machines.
    #[must_use]
    pub fn new(machine_count: usize) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a count of machines")]
        let n = machine_count.max(1) as f64;
        // libm and not the platform's own: the same bytes everywhere.
        Self { ln_n: libm::log(n), inverse_range: inverse(n - 1.0) }
    }

    /// `n^fraction`.
    fn power(&self, fraction: f64) -> f64 {
        libm::exp(self.ln_n * fraction)
    }
}

/// `n^utilisation` of a host's CPU and RAM, and its shape.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    cpu: f64,
    ram: f64,
    shape: u32,
}

impl RowScore for EPvm {
    type Columns = Costs;
    /// For each shape, `n^(ask / capacity) - 1` for CPU and RAM.
    type Class = Vec<(f64, f64)>;

    fn columns(&self, host: &HostView) -> Costs {
        let cost = |r: usize| {
            let capacity = host.capacity[r];
            self.power((capacity - host.free[r]) * inverse(capacity))
        };
        Costs { cpu: cost(0), ram: cost(1), shape: host.shape }
    }

    fn class(&self, ask: &Ask, shapes: &[(f64, f64)]) -> Vec<(f64, f64)> {
        shapes
            .iter()
            .map(|&(cpu, ram)| {
                let growth = |asked: f64, capacity: f64| {
                    self.power((asked * inverse(capacity)).min(1.0)) - 1.0
                };
                (growth(ask.cpu, cpu), growth(ask.ram, ram))
            })
            .collect()
    }

    #[inline(always)]
    fn score(&self, class: &Vec<(f64, f64)>, columns: &Costs) -> f64 {
        let (cpu, ram) = class[columns.shape as usize];
        1.0 - (columns.cpu * cpu + columns.ram * ram) * (0.5 * self.inverse_range)
    }

    fn score_wide(&self, _class: &Vec<(f64, f64)>, ask: &Ask, host: &HostView) -> f64 {
        let asked = [ask.cpu, ask.ram, ask.disk, ask.gpu];
        let (mut growth, mut count) = (0.0, 0.0);
        for ((capacity, free), asked) in host.capacity.into_iter().zip(host.free).zip(asked) {
            if capacity > 0.0 {
                let before = (capacity - free) / capacity;
                let after = before + asked / capacity;
                growth += self.power(after) - self.power(before);
                count += 1.0;
            }
        }
        1.0 - growth * self.inverse_range / f64::max(count, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(n: usize, used: [f64; 2], ask: [f64; 2], expected: f64) {
        let host = HostView {
            free: [1000.0 - used[0], 1000.0 - used[1], 0.0, 0.0],
            capacity: [1000.0, 1000.0, 0.0, 0.0],
            ..HostView::default()
        };
        let ask = Ask { cpu: ask[0], ram: ask[1], ..Ask::default() };
        let policy = EPvm::new(n);
        let class = policy.class(&ask, &[(1000.0, 1000.0)]);
        for score in
            [policy.score(&class, &policy.columns(&host)), policy.score_wide(&class, &ask, &host)]
        {
            assert!((score - expected).abs() < 1e-9, "{score} is not {expected}");
        }
    }

    #[test]
    fn cost_grows_with_what_is_there() {
        check(100, [0.0, 0.0], [0.0, 0.0], 1.0);
        // An empty host, filled: (100^1 - 100^0) · 2 / (2 · 99) = 1.
        check(100, [0.0, 0.0], [1000.0, 1000.0], 0.0);
        // Half of an empty one: (10 - 1) · 2 / 198 = 1/11.
        check(100, [0.0, 0.0], [500.0, 500.0], 1.0 - 1.0 / 11.0);
        // The other half: (100 - 10) · 2 / 198 = 10/11.
        check(100, [500.0, 500.0], [500.0, 500.0], 1.0 - 10.0 / 11.0);
        // CPU alone: (10 - 1) / 198.
        check(100, [0.0, 700.0], [500.0, 0.0], 1.0 - 9.0 / 198.0);
        check(1, [0.0, 0.0], [500.0, 500.0], 1.0);
    }
}
