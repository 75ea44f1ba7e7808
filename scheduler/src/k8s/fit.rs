//! `NodeResourcesFit`: the scores of its strategies `LeastAllocated` (the default) and `MostAllocated`,
//! over CPU and RAM with weight 1 each.
//!
//! With `q` what is used with the pod (default requests included) and `a` what is allocatable, and `div`
//! the integer division:
//!
//! ```text
//! least: s = 0 if q > a, else ((a - q) · 100) div a        most: s = (min(q, a) · 100) div a
//! score  = (sum of s) div (number of resources with a > 0), 0 if there are none            0..=100
//! ```
//!
//! Its filter is [`crate::feasible`]: a request that is positive must fit what is left.

use super::truncate;

/// The scoring strategy of `NodeResourcesFit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Prefers the emptier node.
    LeastAllocated,
    /// Prefers the fuller node.
    MostAllocated,
}

impl Strategy {
    /// The plugin's score, an integer in 0..=100, from what is left of each resource with the pod
    /// counted (negative where default requests exceed the node) and its capacity, both whole numbers
    /// below 2^46.
    ///
    /// Exact in floats: the product by 100 is below 2^53. A quotient below an integer `k` is below it
    /// by at least `1/a > 2^-46`, which is more than half the spacing of floats at 100, so that it is
    /// never rounded up to `k`.
    #[inline(always)]
    pub(crate) fn score(self, left: [f64; 2], capacity: [f64; 2]) -> f64 {
        let each = |r: usize| {
            if capacity[r] == 0.0 {
                return 0.0;
            }
            let part = match self {
                Self::LeastAllocated => left[r].max(0.0),
                Self::MostAllocated => (capacity[r] - left[r]).min(capacity[r]),
            };
            truncate(part * 100.0 / capacity[r])
        };
        let sum = each(0) + each(1);
        let both = capacity[0] != 0.0 && capacity[1] != 0.0;
        if both { truncate(sum * 0.5) } else { sum }
    }
}

#[cfg(test)]
mod tests {
    use super::Strategy;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    /// The formula in integers, for used amounts `q` and allocatable ones `a`.
    fn by_integers(strategy: Strategy, q: [i64; 2], a: [i64; 2]) -> i64 {
        let (mut sum, mut count) = (0, 0);
        for r in 0..2 {
            if a[r] > 0 {
                count += 1;
                sum += match strategy {
                    Strategy::LeastAllocated if q[r] > a[r] => 0,
                    Strategy::LeastAllocated => (a[r] - q[r]) * 100 / a[r],
                    Strategy::MostAllocated => q[r].min(a[r]) * 100 / a[r],
                };
            }
        }
        if count == 0 { 0 } else { sum / count }
    }

    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "small")]
    fn check(strategy: Strategy, q: [i64; 2], a: [i64; 2], expected: i64) {
        assert_eq!(by_integers(strategy, q, a), expected);
        let left = [(a[0] - q[0]) as f64, (a[1] - q[1]) as f64];
        let score = strategy.score(left, [a[0] as f64, a[1] as f64]);
        assert_eq!(score as i64, expected, "{strategy:?} {q:?} of {a:?}");
    }

    #[test]
    fn scores_of_the_strategies() {
        use Strategy::{LeastAllocated, MostAllocated};
        check(LeastAllocated, [0, 0], [4000, 10_000], 100);
        // CPU (4000 - 3000) · 100 / 4000 = 25, RAM (10000 - 5000) · 100 / 10000 = 50; 75 div 2 = 37.
        check(LeastAllocated, [3000, 5000], [4000, 10_000], 37);
        check(LeastAllocated, [5000, 5000], [4000, 10_000], 25); // CPU over: 0; 50 div 2
        check(MostAllocated, [3000, 5000], [4000, 10_000], 62); // (75 + 50) div 2
        check(MostAllocated, [5000, 5000], [4000, 10_000], 75); // CPU over counts as full
        check(LeastAllocated, [0, 5000], [0, 10_000], 50); // no CPU to allocate: RAM alone
        check(LeastAllocated, [0, 0], [0, 0], 0);
    }

    proptest! {
        #[test]
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "below 2^46")]
        fn floats_agree_with_integers(
            a in [1_i64..1 << 46, 1_i64..1 << 46],
            part in [0.0_f64..1.2, 0.0_f64..1.2],
            near in [-2_i64..=2, -2_i64..=2],
            most in any::<bool>(),
        ) {
            let strategy = if most { Strategy::MostAllocated } else { Strategy::LeastAllocated };
            // Close to where the quotient is an integer, which is where rounding could hurt.
            let q = [0, 1].map(|r| {
                let hundredth = (part[r] * 100.0) as i64;
                (a[r] / 100 * hundredth + near[r]).max(0)
            });
            let left = [0, 1].map(|r| (a[r] - q[r]) as f64);
            let score = strategy.score(left, [a[0] as f64, a[1] as f64]);
            prop_assert_eq!(score as i64, by_integers(strategy, q, a));
        }
    }
}
