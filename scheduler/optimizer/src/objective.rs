//! What a plan is worth: the objective, its weights and their units, all in this one place.
//!
//! Plans are compared level by level; what differs first decides, so that no number of best-effort tasks
//! outweighs a production task:
//!
//! 1. *running*: for each band from the top, the [worth](Objective::worth) of its tasks that run in the
//!    end. A victim that found no other place is a loss in its own band.
//! 2. *lost*: for each band from the top, the [work lost](Objective::lost) by tasks that were evicted,
//!    wherever they run then. Less is better.
//! 3. *victims*: how many were evicted. Fewer is better.
//! 4. *preference*: soft constraints, packages and spread of what was placed, see [`Draft::preference`].
//!
//! | figure | of a task | unit |
//! |---|---|---|
//! | share | the largest part that its charge is of the mean machine, over the resources | 1/1000 machine, at least 1 |
//! | worth | (share + 10) × (100 + 100 × place in its band), the place from 0 for the band's lowest priority to below 1 | 1/100 of a share |
//! | lost | share × seconds that it has run; an hour where that is not known | 1/1000 machine second |
//! | cost of a move | share: what has to be started again elsewhere | 1/1000 machine |
//!
//! The 10 are what a task is worth by itself, however small it is, a hundredth of a machine: without them ten
//! small victims would be as good as a large one, and nobody thinks so. The mean machine has the mean of what the cell's machines have of each resource. Inside a band a larger
//! priority counts up to twice as much, so that there size and priority are weighed against each other; the
//! paper gives no weights, these are ours.

use cell::{Band, Cell, Priority, TaskId};
use scheduler::{Accounting, Draft, Snapshot};

/// Seconds that a task is taken to have run where that is not known.
pub const RAN_SECONDS_UNKNOWN: u64 = 3600;

/// The largest share, so that sums stay in their range: 16,777 mean machines.
pub const SHARE_MAX: u64 = 1 << 24;

/// What a task is worth by itself, in thousandths of a machine. Our choice.
pub const WORTH_OF_A_TASK: u64 = 10;

/// Number of bands.
pub const BAND_COUNT: usize = Band::ALL.len();

/// An amount for each band, the highest band first.
pub type ByBand = [u64; BAND_COUNT];

/// Position of a priority's band, 0 for the highest.
#[must_use]
pub fn level(priority: Priority) -> usize {
    let band = priority.band();
    Band::ALL.iter().rev().position(|&other| other == band).unwrap_or(BAND_COUNT - 1)
}

/// Weighs the tasks of a cell.
#[derive(Clone, Debug)]
pub struct Objective<'c> {
    cell: &'c Cell,
    accounting: Accounting,
    /// CPU, RAM, disk, GPU of the mean machine; 0 where machines have or state none.
    mean: [f64; 4],
    /// What a share counts, by priority.
    weights: Vec<u64>,
}

impl<'c> Objective<'c> {
    /// For tasks of this cell, charged by this accounting.
    #[must_use]
    pub fn of(cell: &'c Cell, accounting: Accounting) -> Self {
        let mut sums = [0.0; 4];
        for machine in &cell.machines {
            let capacity = &machine.capacity;
            let amounts = [
                capacity.cpu.0,
                capacity.ram.0,
                capacity.disk.map_or(0, |disk| disk.0),
                u64::from(capacity.gpu_count) * cell::GPU_DEVICE.0,
            ];
            for (sum, amount) in sums.iter_mut().zip(amounts) {
                *sum += float(amount);
            }
        }
        let count = float(cell.machines.len().max(1) as u64);
        let priorities = (0..=Priority::MAX.get()).filter_map(Priority::new);
        let weights = priorities.map(weight_percent).collect();
        Self { cell, accounting, mean: sums.map(|sum| sum / count), weights }
    }

    /// The largest part that a task's charge is of the mean machine, in thousandths, rounded up; 1 to
    /// [`SHARE_MAX`].
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    pub fn share(&self, task: TaskId) -> u64 {
        let charge = self.accounting.charge(self.cell.task(task));
        let amounts = [charge.cpu.0, charge.ram.0, charge.disk.0, charge.gpu.total().0];
        let parts = amounts.iter().zip(self.mean).filter(|&(_, mean)| mean > 0.0);
        let largest = parts.map(|(&amount, mean)| float(amount) / mean).fold(0.0, f64::max);
        ((largest * 1000.0).ceil() as u64).clamp(1, SHARE_MAX)
    }

    /// CPU, RAM, disk and GPU of the mean machine, in the units of [`scheduler::Rooms::free`]; 0 where machines have or
    /// state none.
    #[must_use]
    pub fn mean(&self) -> [f64; 4] {
        self.mean
    }

    /// The priority of a task.
    #[must_use]
    pub fn priority(&self, task: TaskId) -> Priority {
        self.cell.job(task.job).priority
    }

    /// What it is worth that a task runs; compared inside its band alone.
    #[must_use]
    pub fn worth(&self, task: TaskId) -> u64 {
        let priority = self.cell.job(task.job).priority;
        (self.share(task) + WORTH_OF_A_TASK) * self.weights[usize::from(priority.get())]
    }

    /// The work lost by evicting a task.
    #[must_use]
    pub fn lost(&self, task: TaskId) -> u64 {
        let ran = self.cell.task(task).ran_seconds.unwrap_or(RAN_SECONDS_UNKNOWN);
        self.share(task).saturating_mul(ran)
    }

    /// What a plan is worth that leads from `start` to `end` and evicted `victims` on the way (a task as
    /// often as it was evicted). `tasks` are those that waited: what they got is compared.
    #[must_use]
    pub fn score(
        &self,
        start: &Snapshot<'c>,
        end: &Snapshot<'c>,
        tasks: &[TaskId],
        victims: &[TaskId],
    ) -> Score {
        let mut score = Score::default();
        let mut gone = vec![0_u64; BAND_COUNT];
        let level = |task: TaskId| level(self.cell.job(task.job).priority);
        let ran = |task: &&TaskId| end.placement(**task).is_some();
        for &task in tasks.iter().filter(ran) {
            score.running[level(task)] += self.worth(task);
        }
        let mut evicted: Vec<TaskId> = victims.to_vec();
        evicted.sort_unstable();
        for &task in &evicted {
            let lost = &mut score.lost[level(task)];
            *lost = lost.saturating_add(self.lost(task));
        }
        score.victim_count = evicted.len();
        evicted.dedup();
        for &task in &evicted {
            if start.placement(task).is_some() && end.placement(task).is_none() {
                gone[level(task)] += self.worth(task);
            }
        }
        for (level, gone) in gone.into_iter().enumerate() {
            score.net[level] = i128::from(score.running[level]) - i128::from(gone);
        }
        let mut draft = Draft::of(end.clone());
        for &task in tasks {
            if let Some(placement) = end.placement(task) {
                score.preference += millionths(draft.preference(task, placement.row));
            }
        }
        score
    }
}

/// A place in the band: 100 for its lowest priority, below 200 for its highest.
fn weight_percent(priority: Priority) -> u64 {
    let band = priority.band();
    let in_band = |value: &u16| Priority::new(*value).is_some_and(|other| other.band() == band);
    let (lowest, count) = (0..=Priority::MAX.get())
        .filter(in_band)
        .fold((None, 0), |(lowest, count), value| (lowest.or(Some(value)), count + 1));
    let place = u64::from(priority.get() - lowest.unwrap_or(0));
    100 + 100 * place / count.max(1)
}

/// How good a plan is. Larger is better, level by level.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// Worth of the tasks that waited and run in the end, highest band first.
    pub running: ByBand,
    /// The same, less the worth of tasks that ran and run no longer.
    pub net: [i128; BAND_COUNT],
    /// Work lost, highest band first.
    pub lost: ByBand,
    /// Number of evictions.
    pub victim_count: usize,
    /// Preferences of what was placed, in millionths.
    pub preference: u64,
}

impl Score {
    /// Adds what other tasks make up.
    pub(crate) fn add(&mut self, other: &Self) {
        for level in 0..BAND_COUNT {
            self.running[level] += other.running[level];
            self.net[level] += other.net[level];
            self.lost[level] = self.lost[level].saturating_add(other.lost[level]);
        }
        self.victim_count += other.victim_count;
        self.preference += other.preference;
    }
}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.net
            .cmp(&other.net)
            .then_with(|| other.lost.cmp(&self.lost))
            .then_with(|| other.victim_count.cmp(&self.victim_count))
            .then_with(|| self.preference.cmp(&other.preference))
            .then_with(|| self.running.cmp(&other.running))
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..=3")]
pub(crate) fn millionths(preference: f64) -> u64 {
    (preference * 1e6).round() as u64
}

#[expect(clippy::cast_precision_loss, reason = "a part of a machine")]
fn float(amount: u64) -> f64 {
    amount as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_priority_counts_up_to_twice_as_much_inside_its_band() {
        let check = |value, percent| {
            assert_eq!(weight_percent(Priority::new(value).unwrap()), percent, "{value}");
        };
        check(0, 100);
        check(99, 199); // 100 + 100 · 99 / 100
        check(100, 100);
        check(108, 150); // 100 + 100 · 8 / 16
        check(120, 100);
        check(359, 199); // 100 + 100 · 239 / 240 = 199.58
    }

    #[test]
    fn bands_are_compared_before_everything_else() {
        let score = |net: [i128; BAND_COUNT], lost, victim_count| Score {
            net,
            lost: [0, 0, 0, lost, 0],
            victim_count,
            ..Score::default()
        };
        let prod = score([0, 1, 0, 0, -1_000_000], 9, 9);
        assert!(prod > score([0, 0, 1_000_000, 1_000_000, 1_000_000], 0, 0));
        assert!(score([0, 1, 0, 0, 0], 5, 9) > score([0, 1, 0, 0, 0], 6, 0));
        assert!(score([0, 1, 0, 0, 0], 5, 1) > score([0, 1, 0, 0, 0], 5, 2));
        assert_eq!(level(Priority::new(450).unwrap()), 0);
        assert_eq!(level(Priority::new(0).unwrap()), 4);
    }
}
