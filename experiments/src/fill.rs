//! How full machines are after a packing: the data of the two figures at the cell's own size.
//!
//! In: the charged fractions of every machine. Out: for each resource the share of machines at or below
//! each utilisation, and a grid that counts machines by what is left free on them.

use fauxmaster::report::MachineFill;

/// Utilisation is told in steps of 1/200, which is finer than a figure can show.
pub const CDF_STEPS: usize = 200;

/// What is free is counted in 50 × 50 cells, of 2 % each: the figure stays small, and a machine with all
/// its RAM taken still stands apart from one with 2 % left.
pub const BIN_COUNT: usize = 50;

/// What the figures show of a packing's machines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fill {
    /// Share of machines whose CPU is charged to at most `i / CDF_STEPS`, by `i`.
    pub cdf_cpu: Vec<f64>,
    /// The same for RAM.
    pub cdf_ram: Vec<f64>,
    /// Machines by what is free, only cells that hold any, in ascending order.
    pub bins: Vec<Bin>,
}

/// Machines that have about the same free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bin {
    /// Free CPU over capacity is in `cpu_index / BIN_COUNT ..`, and 1 in the last cell.
    pub cpu_index: usize,
    /// Likewise for RAM.
    pub ram_index: usize,
    /// How many machines.
    pub machine_count: usize,
}

impl Fill {
    /// What the figures show of these machines.
    #[must_use]
    pub fn of(machines: &[MachineFill]) -> Self {
        let mut counts = vec![0; BIN_COUNT * BIN_COUNT];
        for machine in machines {
            counts[bin(1.0 - machine.cpu) * BIN_COUNT + bin(1.0 - machine.ram)] += 1;
        }
        let bins = counts
            .into_iter()
            .enumerate()
            .filter(|&(_, machine_count)| machine_count > 0)
            .map(|(index, machine_count)| Bin {
                cpu_index: index / BIN_COUNT,
                ram_index: index % BIN_COUNT,
                machine_count,
            })
            .collect();
        Self {
            cdf_cpu: cdf(machines.iter().map(|machine| machine.cpu)),
            cdf_ram: cdf(machines.iter().map(|machine| machine.ram)),
            bins,
        }
    }
}

/// The share of values at or below `i / CDF_STEPS`, for each `i` up to [`CDF_STEPS`]; zeros where there
/// are no values. The last is 1: what rounding puts above capacity counts as full.
fn cdf(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.map(|value| value.min(1.0)).collect();
    sorted.sort_by(f64::total_cmp);
    (0..=CDF_STEPS)
        .map(|step| {
            let most = step as f64 / CDF_STEPS as f64;
            let below = sorted.partition_point(|&value| value <= most);
            if sorted.is_empty() { 0.0 } else { below as f64 / sorted.len() as f64 }
        })
        .collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=1 before, so the product is in 0..=BIN_COUNT"
)]
fn bin(free: f64) -> usize {
    // 1 − 0.98 is a hair above 0.02 and 1 − 0.94 a hair below 0.06: without the nudge, machines with the
    // same free share could fall on both sides of a cell's edge.
    let nudged = free.clamp(0.0, 1.0) * BIN_COUNT as f64 + 1e-9;
    (nudged as usize).min(BIN_COUNT - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cdf_counts_machines_at_or_below() {
        let fills: Vec<MachineFill> = [0.0, 0.5, 0.5, 1.0]
            .into_iter()
            .map(|cpu| MachineFill { cpu, ram: 1.0 + 1e-12 })
            .collect();
        let fill = Fill::of(&fills);
        assert_eq!(fill.cdf_cpu.len(), CDF_STEPS + 1);
        assert_eq!(fill.cdf_cpu[0], 0.25);
        assert_eq!(fill.cdf_cpu[99], 0.25);
        assert_eq!(fill.cdf_cpu[100], 0.75); // 0.5 itself
        assert_eq!(fill.cdf_cpu[CDF_STEPS], 1.0);
        assert_eq!(fill.cdf_ram[CDF_STEPS], 1.0);
        assert_eq!(Fill::of(&[]).cdf_cpu[CDF_STEPS], 0.0);
    }

    #[test]
    fn bins_hold_every_machine_once() {
        let check = |cpu, ram, expected| {
            let fill = Fill::of(&[MachineFill { cpu, ram }]);
            let bin = fill.bins[0];
            assert_eq!((bin.cpu_index, bin.ram_index), expected, "{cpu} {ram}");
            assert_eq!(bin.machine_count, 1);
        };
        check(1.0, 1.0, (0, 0));
        check(0.0, 0.0, (49, 49));
        check(0.98, 0.94, (1, 3)); // 0.02 and 0.06 free: edges belong to the cell above
        check(0.981, 1.001, (0, 0));
        let many = Fill::of(&[MachineFill { cpu: 0.3, ram: 0.3 }; 7]);
        assert_eq!(many.bins.len(), 1);
        assert_eq!(many.bins[0].machine_count, 7);
    }
}
