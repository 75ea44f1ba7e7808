//! `NodeResourcesFit`: what is requested must fit what is allocatable, and three ways to score how full a
//! node would be.
//!
//! The filter: a node takes so many pods; a positive request must fit `allocatable - used`, and one of 0
//! is never checked. With `q` what is used with the pod (requests with defaults for CPU and memory), `a`
//! what is allocatable, `w` a resource's weight, and `div` the integer division:
//!
//! ```text
//! LeastAllocated:            s = 0 if q > a, else ((a - q) · 100) div a
//! MostAllocated:             s = (min(q, a) · 100) div a
//!   score = (sum of w·s) div (sum of w), 0 if no resource counts                       0..=100
//! RequestedToCapacityRatio:  s = g(100) if q > a, else g((q · 100) div a)
//!   score = round(sum of w·s / sum of w) over the resources with s > 0, else 0         0..=100
//! ```
//!
//! `g` is piecewise linear through the shape's points, whose scores count ten times. A resource that the
//! node does not have counts in nothing, nor does a scalar one that the pod does not request.

use super::cluster::{Cluster, NodeIndex, Template, Vector};
use super::profile::{Profile, Version};
use super::status::Rejection;
use super::truncate;

/// A resource and how much it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceWeight {
    /// Its name: `cpu`, `memory`, `ephemeral-storage` or a scalar resource's.
    pub name: String,
    /// 1..=100.
    pub weight: i64,
}

impl ResourceWeight {
    /// CPU and memory, each of weight 1: the default everywhere.
    #[must_use]
    pub fn cpu_and_memory() -> Vec<Self> {
        ["cpu", "memory"].map(|name| Self { name: name.to_owned(), weight: 1 }).into()
    }

    /// Whether these are CPU and memory, each of weight 1.
    pub(crate) fn are_default(resources: &[Self]) -> bool {
        resources.len() == 2
            && resources
                .iter()
                .zip(["cpu", "memory"])
                .all(|(resource, name)| resource.name == name && resource.weight == 1)
    }
}

/// The scoring strategy of `NodeResourcesFit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Prefers the emptier node.
    LeastAllocated,
    /// Prefers the fuller node.
    MostAllocated,
    /// Prefers nodes as full as the shape says.
    RequestedToCapacityRatio(Shape),
}

/// A piecewise linear function of utilisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape(pub Vec<ShapePoint>);

/// What a point of score 1 counts: shapes go to 10, scores to 100.
const SHAPE_SCORE_FACTOR: i64 = 10;

/// A point of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShapePoint {
    /// In percent, 0..=100, increasing.
    pub utilization: i64,
    /// The value there, for scoring 0..=10.
    pub score: i64,
}

impl Shape {
    /// The value at `p` percent. Divisions truncate toward zero.
    #[must_use]
    pub fn at(&self, p: i64) -> i64 {
        self.times(1, p)
    }

    /// The value at `p` percent of the shape whose scores are `factor` times these.
    fn times(&self, factor: i64, p: i64) -> i64 {
        let Some(first) = self.0.first() else { return 0 };
        if p <= first.utilization {
            return factor * first.score;
        }
        for pair in self.0.windows(2) {
            let [from, to] = pair else { continue };
            if p <= to.utilization {
                let rise = factor * (to.score - from.score) * (p - from.utilization);
                return factor * from.score + rise / (to.utilization - from.utilization);
            }
        }
        self.0.last().map_or(0, |last| factor * last.score)
    }
}

/// A list of resources that cannot be scored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResourcesError {
    /// A weight is out of range.
    #[error("weight {weight} of {name} is not in 1..=100")]
    Weight {
        /// The resource.
        name: String,
        /// Its weight.
        weight: i64,
    },
    /// There are none.
    #[error("no resources to score")]
    Empty,
}

/// Whether a list of resources can be scored.
///
/// # Errors
/// If it is empty or a weight is out of range.
pub fn check_resources(resources: &[ResourceWeight]) -> Result<(), ResourcesError> {
    if resources.is_empty() {
        return Err(ResourcesError::Empty);
    }
    match resources.iter().find(|resource| !(1..=100).contains(&resource.weight)) {
        Some(ResourceWeight { name, weight }) => {
            Err(ResourcesError::Weight { name: name.clone(), weight: *weight })
        }
        None => Ok(()),
    }
}

/// What is on a node, or would be.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub pod_count: i64,
    pub used: Vector,
    pub used_non_zero: [i64; 2],
}

impl Load {
    pub(crate) fn of(cluster: &Cluster, node: NodeIndex) -> Self {
        let state = &cluster.nodes[node];
        Self {
            pod_count: i64::try_from(state.pods.len()).expect("few pods on a node"),
            used: state.used.clone(),
            used_non_zero: state.used_non_zero,
        }
    }
}

/// The filter: everything that is violated.
pub(crate) fn filter(
    profile: &Profile,
    cluster: &Cluster,
    template: &Template,
    node: NodeIndex,
    load: &Load,
) -> Vec<Rejection> {
    let state = &cluster.nodes[node];
    let mut rejections = Vec::new();
    if load.pod_count + 1 > state.node.pods {
        rejections.push(Rejection::TooManyPods);
    }
    let asks_nothing = template.cpu <= 0
        && template.memory <= 0
        && template.ephemeral <= 0
        && template.scalar.is_empty();
    if asks_nothing {
        return rejections;
    }
    let mut check = |name: &str, asked: i64, has: i64, used: i64| {
        if asked > has - used {
            let is_beyond_node = asked > has && profile.version != Version::V1_20;
            rejections.push(Rejection::Insufficient { resource: name.to_owned(), is_beyond_node });
        }
    };
    let fixed = [
        ("cpu", template.cpu, state.allocatable.cpu, load.used.cpu),
        ("memory", template.memory, state.allocatable.memory, load.used.memory),
        ("ephemeral-storage", template.ephemeral, state.allocatable.ephemeral, load.used.ephemeral),
    ];
    for (name, asked, has, used) in fixed {
        if asked > 0 {
            check(name, asked, has, used);
        }
    }
    for &(index, asked) in &template.scalar {
        let name = cluster.scalar_name(index);
        if asked != 0 && !is_ignored(profile, name) {
            check(name, asked, state.allocatable.scalar(index), load.used.scalar(index));
        }
    }
    rejections
}

/// Whether the profile leaves an extended resource to others.
pub(crate) fn is_ignored(profile: &Profile, name: &str) -> bool {
    let Some((group, _)) = name.split_once('/') else { return false };
    // Resources of Kubernetes' own domain are not extended ones.
    let is_native = group == "kubernetes.io" || group.ends_with(".kubernetes.io");
    !is_native
        && (profile.ignored_resources.contains(name)
            || profile.ignored_resource_groups.contains(group))
}

/// What one resource brings to a score.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub weight: i64,
    pub allocatable: i64,
    /// Used without the pod.
    pub before: i64,
    /// Used with it.
    pub after: i64,
}

/// The parts of a score: of the resources that the node has and, if scalar, the pod asks for.
pub(crate) fn parts(
    cluster: &Cluster,
    template: &Template,
    node: NodeIndex,
    load: &Load,
    resources: &[ResourceWeight],
    with_defaults: bool,
) -> Vec<Part> {
    let has = &cluster.nodes[node].allocatable;
    let used = &load.used;
    resources
        .iter()
        .filter_map(|resource| {
            let (allocatable, before, asked) = match resource.name.as_str() {
                "cpu" if with_defaults => (has.cpu, load.used_non_zero[0], template.non_zero[0]),
                "cpu" => (has.cpu, used.cpu, template.cpu),
                "memory" if with_defaults => {
                    (has.memory, load.used_non_zero[1], template.non_zero[1])
                }
                "memory" => (has.memory, used.memory, template.memory),
                "ephemeral-storage" => (has.ephemeral, used.ephemeral, template.ephemeral),
                name => {
                    let index = cluster.known_scalar(name)?;
                    let asked = template.scalar.iter().find(|&&(scalar, _)| scalar == index);
                    let &(_, asked) = asked.filter(|&&(_, asked)| asked != 0)?;
                    (has.scalar(index), used.scalar(index), asked)
                }
            };
            (allocatable != 0).then_some(Part {
                weight: resource.weight,
                allocatable,
                before,
                after: before + asked,
            })
        })
        .collect()
}

/// The score of a node, 0..=100.
pub(crate) fn score(
    profile: &Profile,
    cluster: &Cluster,
    template: &Template,
    node: NodeIndex,
    load: &Load,
) -> i64 {
    let parts = parts(cluster, template, node, load, &profile.fit_resources, true);
    profile.strategy.score(&parts)
}

/// `(part · 100) div whole`, of amounts as large as bytes come.
fn percent(part: i64, whole: i64) -> i64 {
    i64::try_from(i128::from(part) * 100 / i128::from(whole))
        .expect("at most a few hundred percent")
}

impl Strategy {
    pub(crate) fn score(&self, parts: &[Part]) -> i64 {
        let each = |part: &Part| {
            let Part { allocatable, after, .. } = *part;
            match self {
                Self::LeastAllocated if after > allocatable => 0,
                Self::LeastAllocated => percent(allocatable - after, allocatable),
                Self::MostAllocated => percent(after.min(allocatable), allocatable),
                Self::RequestedToCapacityRatio(shape) => {
                    let at = if after > allocatable { 100 } else { percent(after, allocatable) };
                    shape.times(SHAPE_SCORE_FACTOR, at)
                }
            }
        };
        match self {
            Self::LeastAllocated | Self::MostAllocated => {
                let weights: i64 = parts.iter().map(|part| part.weight).sum();
                let sum: i64 = parts.iter().map(|part| part.weight * each(part)).sum();
                if weights == 0 { 0 } else { sum / weights }
            }
            Self::RequestedToCapacityRatio(_) => {
                let (mut sum, mut weights) = (0, 0);
                for part in parts {
                    let score = each(part);
                    if score > 0 {
                        sum += part.weight * score;
                        weights += part.weight;
                    }
                }
                // Halves are rounded up, of numbers that are not negative.
                if weights == 0 { 0 } else { (2 * sum + weights) / (2 * weights) }
            }
        }
    }

    /// The score of `LeastAllocated` (or of `MostAllocated`) over CPU and memory, from what is left of
    /// each with the pod counted and what is allocatable, both whole numbers below 2^46.
    ///
    /// Exact in floats: the product by 100 is below 2^53. A quotient below an integer `k` is below it
    /// by at least `1/a > 2^-46`, which is more than half the spacing of floats at 100, so that it is
    /// never rounded up to `k`.
    #[inline(always)]
    pub(crate) fn score_two(is_most: bool, left: [f64; 2], capacity: [f64; 2]) -> f64 {
        let each = |r: usize| {
            if capacity[r] == 0.0 {
                return 0.0;
            }
            let part =
                if is_most { (capacity[r] - left[r]).min(capacity[r]) } else { left[r].max(0.0) };
            truncate(part * 100.0 / capacity[r])
        };
        let sum = each(0) + each(1);
        let both = capacity[0] != 0.0 && capacity[1] != 0.0;
        if both { truncate(sum * 0.5) } else { sum }
    }
}

#[cfg(test)]
mod tests {
    use super::{Part, Strategy};
    use proptest::prelude::{any, prop_assert_eq, proptest};

    fn by_integers(is_most: bool, q: [i64; 2], a: [i64; 2]) -> i64 {
        let parts: Vec<Part> = (0..2)
            .filter(|&r| a[r] != 0)
            .map(|r| Part { weight: 1, allocatable: a[r], before: 0, after: q[r] })
            .collect();
        let strategy = if is_most { Strategy::MostAllocated } else { Strategy::LeastAllocated };
        strategy.score(&parts)
    }

    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "small")]
    fn check(is_most: bool, q: [i64; 2], a: [i64; 2], expected: i64) {
        assert_eq!(by_integers(is_most, q, a), expected);
        let left = [(a[0] - q[0]) as f64, (a[1] - q[1]) as f64];
        let score = Strategy::score_two(is_most, left, [a[0] as f64, a[1] as f64]);
        assert_eq!(score as i64, expected, "{q:?} of {a:?}");
    }

    #[test]
    fn scores_of_the_strategies() {
        check(false, [0, 0], [4000, 10_000], 100);
        // CPU (4000 - 3000) · 100 / 4000 = 25, RAM (10000 - 5000) · 100 / 10000 = 50; 75 div 2 = 37.
        check(false, [3000, 5000], [4000, 10_000], 37);
        check(false, [5000, 5000], [4000, 10_000], 25); // CPU over: 0; 50 div 2
        check(true, [3000, 5000], [4000, 10_000], 62); // (75 + 50) div 2
        check(true, [5000, 5000], [4000, 10_000], 75); // CPU over counts as full
        check(false, [0, 5000], [0, 10_000], 50); // no CPU to allocate: RAM alone
        check(false, [0, 0], [0, 0], 0);
    }

    proptest! {
        #[test]
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "below 2^46")]
        fn floats_agree_with_integers(
            a in [1_i64..1 << 46, 1_i64..1 << 46],
            part in [0.0_f64..1.2, 0.0_f64..1.2],
            near in [-2_i64..=2, -2_i64..=2],
            is_most in any::<bool>(),
        ) {
            // Close to where the quotient is an integer, which is where rounding could hurt.
            let q = [0, 1].map(|r| {
                let hundredth = (part[r] * 100.0) as i64;
                (a[r] / 100 * hundredth + near[r]).max(0)
            });
            let left = [0, 1].map(|r| (a[r] - q[r]) as f64);
            let score = Strategy::score_two(is_most, left, [a[0] as f64, a[1] as f64]);
            prop_assert_eq!(score as i64, by_integers(is_most, q, a));
        }
    }
}
