//! `NodeResourcesBalancedAllocation`: prefers nodes whose resources are used to the same degree.
//!
//! With `f` the used fraction of each resource, at most 1, by the formula of v1.36:
//!
//! ```text
//! deviation = |f_1 - f_2| / 2 of two resources, else their standard deviation; 0 of one or none
//! balance   = trunc((1 - deviation) · 100)
//! score     = 50 + (50 + balance with the pod - balance without) div 2                50..=100
//! ```
//!
//! 75: the pod changes nothing. Requests are plain, without defaults; a pod that asks for none of the
//! resources is skipped (0 for every node). Up to v1.35 the score was the balance with the pod; in v1.20
//! that is `trunc((1 - |f_cpu - f_memory|) · 100)`, 0 where a fraction reaches 1, over requests with
//! defaults.

use super::cluster::{Cluster, NodeIndex, Template};
use super::fit::{self, Load, Part, ResourceWeight};
use super::profile::{Profile, Version};
use super::truncate;

/// Whether the plugin has nothing to say about a pod.
pub(crate) fn skips(profile: &Profile, cluster: &Cluster, template: &Template) -> bool {
    profile.version == Version::V1_36
        && profile.balanced_resources.iter().all(|ResourceWeight { name, .. }| {
            let asked = match name.as_str() {
                "cpu" => template.cpu,
                "memory" => template.memory,
                "ephemeral-storage" => template.ephemeral,
                scalar => cluster
                    .known_scalar(scalar)
                    .and_then(|index| template.scalar.iter().find(|&&(own, _)| own == index))
                    .map_or(0, |&(_, asked)| asked),
            };
            asked == 0
        })
}

/// The score of a node for a pod that is not skipped, 0..=100.
pub(crate) fn score(
    profile: &Profile,
    cluster: &Cluster,
    template: &Template,
    node: NodeIndex,
    load: &Load,
) -> i64 {
    let resources = &profile.balanced_resources;
    let with_defaults = profile.version == Version::V1_20;
    let parts = fit::parts(cluster, template, node, load, resources, with_defaults);
    match profile.version {
        Version::V1_20 => {
            let used: Vec<f64> = parts.iter().map(|part| fraction(part.after, part)).collect();
            integer(match used.as_slice() {
                // A resource that the node does not have counts as full.
                &[cpu, memory] => balance_v1_20([cpu, memory]),
                _ => 0.0,
            })
        }
        Version::V1_36 => {
            let balance = |used: fn(&Part) -> i64| {
                let fractions: Vec<f64> =
                    parts.iter().map(|part| fraction(used(part), part).min(1.0)).collect();
                truncate((1.0 - deviation(&fractions)) * 100.0)
            };
            integer(relative(balance(|part| part.after), balance(|part| part.before)))
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "as upstream computes it")]
fn fraction(used: i64, part: &Part) -> f64 {
    used as f64 / part.allocatable as f64
}

#[expect(clippy::cast_possible_truncation, reason = "a whole number in 0..=100")]
fn integer(score: f64) -> i64 {
    score as i64
}

fn deviation(fractions: &[f64]) -> f64 {
    match fractions {
        [] | [_] => 0.0,
        [one, other] => (one - other).abs() / 2.0,
        more => {
            #[expect(clippy::cast_precision_loss, reason = "a few resources")]
            let count = more.len() as f64;
            let mean = more.iter().sum::<f64>() / count;
            let squares = more.iter().map(|f| (f - mean) * (f - mean)).sum::<f64>();
            (squares / count).sqrt()
        }
    }
}

/// The score of v1.20 from the used fractions with the pod, a whole number in 0..=100.
#[inline(always)]
pub(crate) fn balance_v1_20(used: [f64; 2]) -> f64 {
    if used[0] >= 1.0 || used[1] >= 1.0 {
        return 0.0;
    }
    truncate((1.0 - (used[0] - used[1]).abs()) * 100.0)
}

/// The balance of CPU and memory, a whole number in 50..=100, from what is used and what is allocatable.
#[inline(always)]
pub(crate) fn balance_two(used: [f64; 2], capacity: [f64; 2]) -> f64 {
    if capacity[0] == 0.0 || capacity[1] == 0.0 {
        return 100.0;
    }
    let fraction = |r: usize| (used[r] / capacity[r]).min(1.0);
    let deviation = (fraction(0) - fraction(1)).abs() / 2.0;
    truncate((1.0 - deviation) * 100.0)
}

/// The score of v1.36, a whole number in 50..=100 (0..=100 of more than two resources), from the balance
/// with and without the pod.
#[inline(always)]
pub(crate) fn relative(after: f64, before: f64) -> f64 {
    // Balances are 50..=100, so that the dividend is not negative.
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
            let value = relative(balance_two(with, capacity), balance_two(used, capacity));
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
        assert_eq!(balance_two([5.0, 0.0], [10.0, 0.0]), 100.0);
    }

    #[test]
    fn of_three_resources_it_is_the_standard_deviation() {
        // Mean 0.5, squares 0.25, 0, 0.25: sqrt(0.5 / 3).
        let expected = (0.5_f64 / 3.0).sqrt();
        assert!((deviation(&[0.0, 0.5, 1.0]) - expected).abs() < 1e-15);
        assert_eq!(deviation(&[0.3]), 0.0);
    }
}
