//! `NodeResourcesBalancedAllocation`, by the formula of v1.36, over CPU and RAM.
//!
//! With `f` the used fraction of each resource, at most 1:
//!
//! ```text
//! balance = trunc((1 - |f_cpu - f_ram| / 2) · 100)               50..=100; 100 with one resource
//! score   = 50 + (50 + balance with the pod - balance without) div 2                50..=100
//! ```
//!
//! 75: the pod changes nothing. Requests are plain, without defaults; a pod that asks for neither is
//! skipped (0 for every node). Up to v1.35 the score was the balance with the pod.

use super::truncate;

/// The balance of a node, an integer in 50..=100, from what is used and what is allocatable.
#[inline(always)]
pub(crate) fn balance(used: [f64; 2], capacity: [f64; 2]) -> f64 {
    if capacity[0] == 0.0 || capacity[1] == 0.0 {
        return 100.0;
    }
    let fraction = |r: usize| (used[r] / capacity[r]).min(1.0);
    let deviation = (fraction(0) - fraction(1)).abs() / 2.0;
    truncate((1.0 - deviation) * 100.0)
}

/// The score, an integer in 50..=100, from the balance with and without the pod.
#[inline(always)]
pub(crate) fn score(after: f64, before: f64) -> f64 {
    // Both are at least 50 and at most 100, so the dividend is not negative.
    50.0 + truncate((50.0 + after - before) * 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_evens_out_scores_above_75() {
        let check = |used: [f64; 2], pod: [f64; 2], expected: f64| {
            let capacity = [1000.0, 1000.0];
            let with = [used[0] + pod[0], used[1] + pod[1]];
            let value = score(balance(with, capacity), balance(used, capacity));
            assert_eq!(value, expected, "{used:?} + {pod:?}");
        };
        // Balanced before and after: 50 + 50 div 2.
        check([0.0, 0.0], [100.0, 100.0], 75.0);
        // Before trunc((1 - 0.3 / 2) · 100) = 85, after 100: 50 + (50 + 15) div 2 = 50 + 32.
        check([400.0, 100.0], [0.0, 300.0], 82.0);
        // Before 100, after trunc((1 - 0.15) · 100) = 85: 50 + 35 div 2 = 67.
        check([100.0, 100.0], [300.0, 0.0], 67.0);
        // Fractions stop at 1: (2, 1) counts as balanced.
        check([1000.0, 1000.0], [1000.0, 0.0], 75.0);
        assert_eq!(balance([5.0, 0.0], [10.0, 0.0]), 100.0);
    }
}
