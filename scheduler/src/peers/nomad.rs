//! HashiCorp Nomad's placement: its two fit scores, the penalty for machines that the job is on already,
//! and how many machines it looks at.
//!
//! With `f` the free fraction of CPU and of RAM once the task is there, 0..=1 (0 where a machine has none):
//!
//! ```text
//! total   = 10^f_cpu + 10^f_ram                                   2 (full) ..= 20 (empty)
//! binpack = min(max(20 - total, 0), 18) / 18                      "BestFit v3"
//! spread  = min(max(total - 2, 0), 18) / 18
//! ```
//!
//! The final score of a machine is the mean of those of these that apply:
//!
//! - the fit, always;
//! - where `c > 0` tasks of the job are there: `-(c + 1) / tasks of the job` (job anti-affinity);
//! - where soft constraints of the job hold: their weight over the weight of all (node affinity).
//!
//! Machines are visited in a shuffled order until so many were feasible; the best score of these wins, the
//! first of several:
//!
//! ```text
//! limit = 2                               for a batch job: power of two choices
//!       = max(2, ceil(log2 machines))     for a service job
//!       = max(100, tasks of the job)      for either with affinities or spread
//! ```
//!
//! Of the machines visited, up to 3 with a score of 0 or less are set aside, and count only if nothing
//! better follows ([`super::shuffle`]).
//!
//! What differs here: service jobs are those of production and monitoring, all others are batch jobs,
//! since our traces do not say. A job's tasks are one task group. Each task is an evaluation of its own,
//! with an order of its own; Nomad goes on in one order for all tasks of a job. A preference for spread
//! raises the limit and is not scored, and GPU devices have no affinities.
//! Source: Nomad 1.x, `nomad/structs/funcs.go` (`ScoreFitBinPack`, `ScoreFitSpread`),
//! `scheduler/rank.go`, `scheduler/stack.go`, `scheduler/select.go`.

use crate::score::best_fit::Fractions;
use crate::score::{Ask, HostView, RowScore};

/// Which of Nomad's fit scores, its `scheduler_algorithm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// `binpack`, the default: fill machines up.
    BinPack,
    /// `spread`: the emptiest.
    Spread,
}

/// Nomad's fit as a score.
#[derive(Clone, Copy, Debug)]
pub struct Nomad {
    /// Which fit.
    pub fit: Fit,
}

/// The best fit's score, by which it is normalised.
const FIT_MAX: f64 = 18.0;

impl RowScore for Nomad {
    type Columns = Fractions;
    type Class = Ask;

    fn columns(&self, host: &HostView) -> Fractions {
        Fractions::of(host)
    }

    fn class(&self, ask: &Ask, _shapes: &[(f64, f64)]) -> Ask {
        *ask
    }

    fn score(&self, ask: &Ask, columns: &Fractions) -> f64 {
        let (cpu, ram) = columns.after(ask);
        // libm and not the platform's own: the same bytes everywhere.
        let total = libm::exp10(cpu.max(0.0)) + libm::exp10(ram.max(0.0));
        let fit = match self.fit {
            Fit::BinPack => 20.0 - total,
            Fit::Spread => total - 2.0,
        };
        fit.clamp(0.0, FIT_MAX) / FIT_MAX
    }

    fn score_wide(&self, ask: &Ask, _class: &Ask, host: &HostView) -> f64 {
        // CPU and RAM alone, whatever else a machine has.
        self.score(ask, &self.columns(host))
    }
}

/// The final score, -1..=1, from the fit of a machine, how many tasks of the job are there, how many the
/// job has, and the job's affinity to the machine (0: none).
pub(crate) fn final_score(
    fit: f64,
    collision_count: usize,
    task_count: usize,
    affinity: f64,
) -> f64 {
    let (mut sum, mut count) = (fit, 1.0);
    if collision_count > 0 {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let penalty = (collision_count + 1) as f64 / task_count.max(1) as f64;
        sum -= penalty;
        count += 1.0;
    }
    if affinity > 0.0 {
        sum += affinity;
        count += 1.0;
    }
    sum / count
}

/// How many feasible machines are enough.
pub(crate) fn limit(machine_count: usize, is_service: bool, wide_for: Option<usize>) -> usize {
    // ceil(log2 n), by integers: the bits of n - 1.
    let log2 = machine_count.max(1).next_power_of_two().trailing_zeros() as usize;
    match wide_for {
        Some(task_count) => task_count.max(100),
        None if is_service => log2.max(2),
        None => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_of_the_two_algorithms() {
        let check = |fit, free: [f64; 2], ask: [f64; 2], expected: f64| {
            let host = HostView {
                free: [free[0], free[1], 0.0, 0.0],
                capacity: [4000.0, 1000.0, 0.0, 0.0],
                ..HostView::default()
            };
            let ask = Ask { cpu: ask[0], ram: ask[1], ..Ask::default() };
            let score = Nomad { fit }.score_wide(&ask, &ask, &host);
            assert!((score - expected).abs() < 1e-12, "{score} is not {expected}");
        };
        check(Fit::BinPack, [4000.0, 1000.0], [0.0, 0.0], 0.0); // 20 - 20
        check(Fit::BinPack, [4000.0, 1000.0], [4000.0, 1000.0], 1.0); // (20 - 2) / 18
        check(Fit::Spread, [4000.0, 1000.0], [0.0, 0.0], 1.0); // (20 - 2) / 18
        check(Fit::Spread, [4000.0, 1000.0], [4000.0, 1000.0], 0.0);
        // Half of each is left: 2 · √10 = 6.324555...; (20 - 6.324555) / 18 and (6.324555 - 2) / 18.
        let total = 2.0 * 10.0_f64.sqrt();
        check(Fit::BinPack, [4000.0, 1000.0], [2000.0, 500.0], (20.0 - total) / 18.0);
        check(Fit::Spread, [3000.0, 500.0], [1000.0, 0.0], (total - 2.0) / 18.0);
        // All of the CPU and none of the RAM: 1 + 10 = 11.
        check(Fit::BinPack, [4000.0, 1000.0], [4000.0, 0.0], 0.5);
        check(Fit::Spread, [4000.0, 1000.0], [4000.0, 0.0], 0.5);
    }

    #[test]
    fn scores_are_averaged_over_those_that_apply() {
        assert_eq!(final_score(0.5, 0, 4, 0.0), 0.5);
        assert_eq!(final_score(0.5, 1, 4, 0.0), 0.0); // (0.5 - 2 / 4) / 2
        assert_eq!(final_score(0.5, 0, 4, 1.0), 0.75); // (0.5 + 1) / 2
        assert_eq!(final_score(0.5, 1, 4, 1.0), 1.0 / 3.0); // (0.5 - 0.5 + 1) / 3
        assert_eq!(final_score(0.0, 3, 4, 0.0), -0.5); // (0 - 4 / 4) / 2
    }

    #[test]
    fn limits_of_batch_and_service_jobs() {
        let check = |machines, is_service, wide_for, expected| {
            assert_eq!(limit(machines, is_service, wide_for), expected, "{machines}");
        };
        check(12_477, false, None, 2);
        check(12_477, true, None, 14); // 2^13 = 8,192 < 12,477 ≤ 2^14
        check(8192, true, None, 13);
        check(8193, true, None, 14);
        check(2, true, None, 2);
        check(1, true, None, 2);
        check(12_477, false, Some(3), 100);
        check(12_477, true, Some(250), 250);
    }
}
