//! The statistics of a comparison: differences that are paired by trial.
//!
//! In: machines needed by two rows, trial by trial. Out: the mean difference with its confidence interval,
//! and the verdict that follows from it. Draws nothing and rounds nothing.
//!
//! Pairing: trial `t` of every row removes machines in the same order, so most of what varies between
//! trials varies in both rows alike and cancels in the difference. The interval is Student's for the
//! mean of the differences. As each table tests every pair of its rows, a winner must also survive
//! Holm's correction over these pairs (Holm, "A simple sequentially rejective multiple test procedure",
//! 1979); the intervals themselves are each pair's own and are not corrected.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// The confidence of every interval, and one minus the error that Holm's correction keeps to.
pub const CONFIDENCE: f64 = 0.95;

/// The interval of a mean difference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Interval {
    /// Whether zero lies in it, ends included.
    #[must_use]
    pub fn spans_zero(self) -> bool {
        self.low <= 0.0 && 0.0 <= self.high
    }
}

/// A paired difference of two rows, first minus second, in machines or in per cent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// Number of trials.
    pub trials: usize,
    /// The mean over trials.
    pub mean: f64,
    /// The confidence interval of the mean; `None` below two trials, which say nothing of the spread.
    pub interval: Option<Interval>,
    /// Two-sided p of the paired t test, 0..=1; 1 below two trials.
    pub p: f64,
    /// Whether all trials differ by the same number: the interval then has no width.
    pub constant: bool,
}

/// The difference of two rows whose trials are paired, first minus second.
///
/// Where all trials differ by the same number, the interval is that number, and `p` is 0 (or 1 where
/// the number is 0).
///
/// # Panics
/// If the rows have no trials, or not the same number of them.
#[must_use]
pub fn paired_difference(first: &[usize], second: &[usize]) -> Difference {
    assert_eq!(first.len(), second.len(), "trials are paired");
    let differences: Vec<f64> =
        first.iter().zip(second).map(|(&a, &b)| a as f64 - b as f64).collect();
    difference_of(&differences)
}

/// By how many per cent of the second row's machines the first row needs fewer, paired by trial: each
/// trial's difference over its own machines of the second row. Negative where it needs more.
///
/// # Panics
/// As [`paired_difference`]; or if the second row needs no machine in some trial.
#[must_use]
pub fn fewer_percent(first: &[usize], second: &[usize]) -> Difference {
    assert_eq!(first.len(), second.len(), "trials are paired");
    assert!(second.iter().all(|&machines| machines > 0), "a workload needs machines");
    let share = |(&a, &b): (&usize, &usize)| 100.0 * (b as f64 - a as f64) / b as f64;
    let differences: Vec<f64> = first.iter().zip(second).map(share).collect();
    difference_of(&differences)
}

/// Of the differences of each trial.
fn difference_of(differences: &[f64]) -> Difference {
    assert!(!differences.is_empty(), "a row has at least one trial");
    let trials = differences.len();
    let count = trials as f64;
    let mean = differences.iter().sum::<f64>() / count;
    let constant = differences.iter().all(|&difference| difference == differences[0]);
    if trials < 2 {
        return Difference { trials, mean, interval: None, p: 1.0, constant };
    }
    if constant {
        let interval = Some(Interval { low: differences[0], high: differences[0] });
        let p = if differences[0] == 0.0 { 1.0 } else { 0.0 };
        return Difference { trials, mean: differences[0], interval, p, constant };
    }
    let squares: f64 = differences.iter().map(|difference| (difference - mean).powi(2)).sum();
    let standard_error = (squares / (count - 1.0) / count).sqrt();
    let student =
        StudentsT::new(0.0, 1.0, count - 1.0).expect("at least one degree of freedom, see above");
    let half_width = student.inverse_cdf(0.5 + CONFIDENCE / 2.0) * standard_error;
    Difference {
        trials,
        mean,
        interval: Some(Interval { low: mean - half_width, high: mean + half_width }),
        p: (2.0 * student.cdf(-(mean / standard_error).abs())).min(1.0),
        constant,
    }
}

/// Holm's correction: for each p its adjusted value, in the order given.
///
/// The k-th smallest of m is multiplied by m − k + 1, is at least the one before it, and at most 1.
#[must_use]
pub fn holm(ps: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..ps.len()).collect();
    order.sort_by(|&a, &b| ps[a].total_cmp(&ps[b]));
    let mut adjusted = vec![1.0; ps.len()];
    let mut least = 0.0_f64;
    for (rank, &index) in order.iter().enumerate() {
        least = least.max(ps[index] * (ps.len() - rank) as f64).min(1.0);
        adjusted[index] = least;
    }
    adjusted
}

/// What a paired difference allows one to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The first row needs fewer machines.
    FirstNeedsFewer,
    /// The second row needs fewer machines.
    SecondNeedsFewer,
    /// No winner: one trial says nothing of the spread.
    TooFewTrials,
    /// No winner: the rows need the same number of machines in every trial.
    NoDifference,
    /// No winner: the interval spans 0.
    IntervalSpansZero,
    /// No winner: the interval alone excludes 0, but not after the correction for the number of pairs.
    NotAfterCorrection,
}

impl Verdict {
    /// The verdict on a difference, given its `p` after [`holm`]'s correction over all pairs of a table.
    #[must_use]
    pub fn of(difference: &Difference, p_corrected: f64) -> Self {
        let Some(interval) = difference.interval else {
            return Self::TooFewTrials;
        };
        if difference.constant && difference.mean == 0.0 {
            Self::NoDifference
        } else if interval.spans_zero() {
            Self::IntervalSpansZero
        } else if p_corrected >= 1.0 - CONFIDENCE {
            Self::NotAfterCorrection
        } else if difference.mean < 0.0 {
            Self::FirstNeedsFewer
        } else {
            Self::SecondNeedsFewer
        }
    }

    /// Whether it names a winner.
    #[must_use]
    pub const fn has_winner(self) -> bool {
        match self {
            Self::FirstNeedsFewer | Self::SecondNeedsFewer => true,
            Self::TooFewTrials
            | Self::NoDifference
            | Self::IntervalSpansZero
            | Self::NotAfterCorrection => false,
        }
    }

    /// The verdict when the two rows change places.
    #[must_use]
    pub const fn reversed(self) -> Self {
        match self {
            Self::FirstNeedsFewer => Self::SecondNeedsFewer,
            Self::SecondNeedsFewer => Self::FirstNeedsFewer,
            Self::TooFewTrials
            | Self::NoDifference
            | Self::IntervalSpansZero
            | Self::NotAfterCorrection => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance, "{a} is not {b}");
    }

    #[test]
    fn interval_of_a_paired_difference_is_students() {
        // Differences −2, −4, −6, −4, −4: mean −4, sum of squares 8, variance 8/4 = 2,
        // standard error √(2/5) = 0.632456, t(4; 0.975) = 2.776445, half width 1.755976.
        let difference = paired_difference(&[98, 96, 94, 96, 96], &[100, 100, 100, 100, 100]);
        close(difference.mean, -4.0, 1e-12);
        let interval = difference.interval.unwrap();
        close(interval.low, -5.755_976, 1e-5);
        close(interval.high, -2.244_024, 1e-5);
        // t = 4/0.632456 = 6.324555; p(4 degrees) = 0.003198.
        close(difference.p, 0.003_198, 1e-5);
        assert!(!difference.constant);
        assert_eq!(Verdict::of(&difference, difference.p), Verdict::FirstNeedsFewer);
    }

    #[test]
    fn two_trials_have_one_degree_of_freedom() {
        // Differences 1, 3: mean 2, variance 2, standard error 1, t(1; 0.975) = 12.7062; p = 0.295167.
        let difference = paired_difference(&[11, 13], &[10, 10]);
        close(difference.interval.unwrap().high, 14.7062, 1e-3);
        close(difference.p, 0.295_167, 1e-5);
        assert_eq!(Verdict::of(&difference, difference.p), Verdict::IntervalSpansZero);
    }

    #[test]
    fn no_winner_where_the_data_does_not_name_one() {
        let check = |first: &[usize], second: &[usize], expected| {
            let difference = paired_difference(first, second);
            let verdict = Verdict::of(&difference, difference.p);
            assert_eq!(verdict, expected, "{difference:?}");
            let back = paired_difference(second, first);
            assert_eq!(Verdict::of(&back, back.p), expected.reversed());
        };
        check(&[10], &[20], Verdict::TooFewTrials);
        check(&[10, 11, 12], &[10, 11, 12], Verdict::NoDifference);
        check(&[10, 12, 10], &[11, 11, 11], Verdict::IntervalSpansZero);
        check(&[20, 21, 22], &[10, 11, 12], Verdict::SecondNeedsFewer); // 10 in each: no width
        check(&[10, 11, 10, 11], &[19, 20, 20, 20], Verdict::FirstNeedsFewer);
    }

    #[test]
    fn percentages_are_of_each_trials_own_machines() {
        // 10 of 100, 30 of 150, 24 of 160 fewer: 10, 20, 15 %; mean 15, variance 25, standard error
        // 5/√3 = 2.886751, t(2; 0.975) = 4.302653, half width 12.420690.
        let fewer = fewer_percent(&[90, 120, 136], &[100, 150, 160]);
        close(fewer.mean, 15.0, 1e-12);
        let interval = fewer.interval.unwrap();
        close(interval.low, 15.0 - 12.420_690, 1e-5);
        close(interval.high, 15.0 + 12.420_690, 1e-5);
        close(fewer_percent(&[110], &[100]).mean, -10.0, 1e-12);
        assert_eq!(fewer_percent(&[90], &[100]).interval, None);
    }

    #[test]
    fn equal_differences_have_an_interval_without_width() {
        let difference = paired_difference(&[20, 21], &[10, 11]);
        assert!(difference.constant);
        assert_eq!(difference.interval, Some(Interval { low: 10.0, high: 10.0 }));
        assert_eq!(difference.p, 0.0);
    }

    #[test]
    fn a_winner_must_survive_the_correction() {
        let difference = paired_difference(&[10, 12, 11, 12], &[14, 13, 13, 15]);
        assert!(!difference.interval.unwrap().spans_zero(), "{difference:?}");
        assert_eq!(Verdict::of(&difference, difference.p), Verdict::FirstNeedsFewer);
        assert_eq!(Verdict::of(&difference, 0.051), Verdict::NotAfterCorrection);
    }

    #[test]
    fn holm_multiplies_the_smallest_most_and_keeps_the_order() {
        // Sorted: 0.01·4 = 0.04; 0.02·3 = 0.06; 0.03·2 = 0.06; 0.04·1 = 0.04, but at least 0.06.
        let adjusted = holm(&[0.04, 0.01, 0.03, 0.02]);
        for (got, expected) in adjusted.into_iter().zip([0.06, 0.04, 0.06, 0.06]) {
            close(got, expected, 1e-12);
        }
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
        assert!(holm(&[]).is_empty());
    }
}
