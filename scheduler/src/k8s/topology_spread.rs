//! `PodTopologySpread`: keeps the pods of a group even over domains such as zones and hosts.
//!
//! A domain is a value of the constraint's node label. With `cnt(n, c)` the pods on node `n`, of the
//! incoming pod's namespace and not being deleted, that constraint `c` selects (0 where its selector is
//! empty or absent), and `elig(n, c)` whether the pod's affinity and the node's taints let the node
//! count, by the constraint's two policies:
//!
//! - **Filter** (hard constraints). Over all nodes that have the labels of all hard constraints, each
//!   constraint has a table: `table[value] += cnt` where `elig`. `low` is the least entry, or 0 with fewer
//!   entries than `minDomains`. A node is out if it lacks the label (unresolvable), or if
//!   `table[its value] + [the pod selects itself] - low > maxSkew`.
//! - **Score** (soft constraints). `raw = round(sum of count · ln(size + 2) + (maxSkew - 1))`, where
//!   `count` is the table's entry (for host names `cnt` itself, without `elig`) and `size` the number of
//!   values among feasible nodes; then `(100 · (hi + lo - raw)) div hi`, 100 if `hi` is 0. Feasible nodes
//!   that lack a label get 0, unless the constraints are the built-in defaults.
//!
//! Written down here plainly, a recount each time; `lane` keeps the same counts current.

use std::collections::{BTreeMap, BTreeSet};

use cell::kube::{
    HOSTNAME, InclusionPolicy, Pod, Requirement, Selector, SpreadConstraint, UnsatisfiableAction,
    ZONE,
};

use super::cluster::{Cluster, NodeIndex, Template};
use super::normalize::SCORE_MAX;
use super::profile::{Profile, SpreadDefaults};
use super::status::Rejection;
use super::{node_affinity, taint_toleration};

/// The constraints that bear on a pod, with `matchLabelKeys` merged in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Constraints {
    pub hard: Vec<SpreadConstraint>,
    pub soft: Vec<SpreadConstraint>,
    /// Whether a node without a soft constraint's label is left out of the scores.
    pub is_strict: bool,
}

impl Constraints {
    pub(crate) fn of(profile: &Profile, pod: &Pod) -> Self {
        let (constraints, is_strict) = if !pod.spread.is_empty() {
            let merged = pod.spread.iter().map(|constraint| merge_label_keys(constraint, pod));
            (merged.collect(), true)
        } else if pod.owner_selector.is_empty() {
            (Vec::new(), true)
        } else {
            match &profile.spread_defaults {
                SpreadDefaults::System => (system_defaults(), false),
                SpreadDefaults::List(list) => (list.clone(), true),
            }
        };
        let mut sorted = Self { is_strict, ..Self::default() };
        for mut constraint in constraints {
            if pod.spread.is_empty() {
                constraint.selector = Some(pod.owner_selector.clone());
            }
            match constraint.when_unsatisfiable {
                UnsatisfiableAction::DoNotSchedule => sorted.hard.push(constraint),
                UnsatisfiableAction::ScheduleAnyway => sorted.soft.push(constraint),
            }
        }
        sorted
    }
}

fn merge_label_keys(constraint: &SpreadConstraint, pod: &Pod) -> SpreadConstraint {
    let mut merged = constraint.clone();
    if let Some(selector) = &mut merged.selector {
        for key in &constraint.match_label_keys {
            if let Some(value) = pod.labels.get(key) {
                selector.0.push(Requirement::is_in(key, [value.as_str()]));
            }
        }
    }
    merged
}

fn system_defaults() -> Vec<SpreadConstraint> {
    [(3, HOSTNAME), (5, ZONE)]
        .map(|(skew, key)| {
            SpreadConstraint::new(skew, key, UnsatisfiableAction::ScheduleAnyway, None)
        })
        .into()
}

/// Whether the constraint counts pods of a template, for an incoming pod of this namespace.
pub(crate) fn counts(constraint: &SpreadConstraint, namespace: &str, other: &Template) -> bool {
    !other.is_terminating
        && other.pod.namespace == namespace
        && counted_selector(constraint).is_some_and(|selector| selector.matches(&other.pod.labels))
}

/// The selector, if it counts anything: one without requirements does not.
fn counted_selector(constraint: &SpreadConstraint) -> Option<&Selector> {
    constraint.selector.as_ref().filter(|selector| !selector.is_empty())
}

/// Whether the incoming pod is itself one of those that are spread.
pub(crate) fn selects_itself(constraint: &SpreadConstraint, pod: &Pod) -> bool {
    constraint.selector.as_ref().is_some_and(|selector| selector.matches(&pod.labels))
}

/// Whether a node counts for a constraint.
pub(crate) fn is_eligible(
    cluster: &Cluster,
    constraint: &SpreadConstraint,
    pod: &Pod,
    node: NodeIndex,
) -> bool {
    let honors = |policy| policy == InclusionPolicy::Honor;
    let node = cluster.node(node);
    (!honors(constraint.node_affinity_policy) || node_affinity::matches(pod, node))
        && (!honors(constraint.node_taints_policy)
            || taint_toleration::untolerated(pod, node).is_none())
}

fn value<'c>(cluster: &'c Cluster, node: NodeIndex, key: &str) -> Option<&'c str> {
    cluster.node(node).labels.get(key).map(String::as_str)
}

/// Whether a node has the labels of all these constraints.
pub(crate) fn has_all_keys(
    cluster: &Cluster,
    node: NodeIndex,
    constraints: &[SpreadConstraint],
) -> bool {
    constraints.iter().all(|constraint| value(cluster, node, &constraint.topology_key).is_some())
}

fn count_on(cluster: &Cluster, constraint: &SpreadConstraint, pod: &Pod, node: NodeIndex) -> i64 {
    let selected = cluster
        .pods_on(node)
        .iter()
        .filter(|&&other| counts(constraint, &pod.namespace, cluster.template_of(other)));
    i64::try_from(selected.count()).expect("few pods on a node")
}

/// The filter, of every node.
#[must_use]
pub fn filter(profile: &Profile, cluster: &Cluster, pod: &Pod) -> Vec<Option<Rejection>> {
    let constraints = Constraints::of(profile, pod).hard;
    let nodes = 0..cluster.node_count();
    let tables: Vec<BTreeMap<&str, i64>> = constraints
        .iter()
        .map(|constraint| {
            let mut table = BTreeMap::new();
            for node in nodes.clone() {
                if has_all_keys(cluster, node, &constraints)
                    && is_eligible(cluster, constraint, pod, node)
                    && let Some(value) = value(cluster, node, &constraint.topology_key)
                {
                    *table.entry(value).or_insert(0) += count_on(cluster, constraint, pod, node);
                }
            }
            table
        })
        .collect();
    let check = |node: NodeIndex| {
        constraints.iter().zip(&tables).find_map(|(constraint, table)| {
            let Some(value) = value(cluster, node, &constraint.topology_key) else {
                return Some(Rejection::SpreadLabelMissing);
            };
            let domains = i64::try_from(table.len()).expect("fewer domains than nodes");
            let low = if domains < constraint.min_domains {
                0
            } else {
                table.values().copied().min().unwrap_or(0)
            };
            let own = i64::from(selects_itself(constraint, pod));
            let count = table.get(value).copied().unwrap_or(0);
            (count + own - low > constraint.max_skew).then_some(Rejection::Spread)
        })
    };
    nodes.map(check).collect()
}

/// The raw score from each soft constraint's count and size (`None`: the node has no such label).
pub(crate) fn raw_score(
    constraints: &[SpreadConstraint],
    of_constraint: impl Fn(usize) -> Option<(i64, f64)>,
) -> i64 {
    let mut sum = 0.0;
    for (index, constraint) in constraints.iter().enumerate() {
        if let Some((count, weight)) = of_constraint(index) {
            #[expect(clippy::cast_precision_loss, reason = "a count of pods")]
            {
                sum += count as f64 * weight + (constraint.max_skew - 1) as f64;
            }
        }
    }
    // `round` takes halves away from zero.
    #[expect(clippy::cast_possible_truncation, reason = "a count of pods times a small weight")]
    {
        sum.round() as i64
    }
}

/// How much a count in one of so many domains weighs.
#[expect(clippy::cast_precision_loss, reason = "a number of nodes")]
pub(crate) fn domain_weight(size: usize) -> f64 {
    libm::log((size + 2) as f64)
}

/// The normalised score, 0..=100.
pub(crate) fn normalize(raw: i64, lowest: i64, highest: i64) -> i64 {
    if highest == 0 { SCORE_MAX } else { SCORE_MAX * (highest + lowest - raw) / highest }
}

/// The scores of the feasible nodes, in their order; `None` where the plugin has nothing to say.
#[must_use]
pub fn scores(
    profile: &Profile,
    cluster: &Cluster,
    pod: &Pod,
    feasible: &[NodeIndex],
) -> Option<Vec<i64>> {
    let Constraints { soft, is_strict, .. } = Constraints::of(profile, pod);
    if soft.is_empty() {
        return None;
    }
    let is_scored = |node: NodeIndex| !is_strict || has_all_keys(cluster, node, &soft);
    let scored: Vec<NodeIndex> = feasible.iter().copied().filter(|&node| is_scored(node)).collect();
    let tables: Vec<(f64, BTreeMap<&str, i64>)> = soft
        .iter()
        .map(|constraint| {
            let key = &constraint.topology_key;
            if key == HOSTNAME {
                return (domain_weight(scored.len()), BTreeMap::new());
            }
            let values: BTreeSet<&str> =
                scored.iter().map(|&node| value(cluster, node, key).unwrap_or_default()).collect();
            let mut table = BTreeMap::new();
            for node in 0..cluster.node_count() {
                if is_scored(node)
                    && is_eligible(cluster, constraint, pod, node)
                    && let Some(value) = value(cluster, node, key)
                    && values.contains(value)
                {
                    *table.entry(value).or_insert(0) += count_on(cluster, constraint, pod, node);
                }
            }
            (domain_weight(values.len()), table)
        })
        .collect();
    let raw = |node: NodeIndex| {
        raw_score(&soft, |index| {
            let constraint = &soft[index];
            let value = value(cluster, node, &constraint.topology_key)?;
            let (weight, table) = &tables[index];
            let count = if constraint.topology_key == HOSTNAME {
                count_on(cluster, constraint, pod, node)
            } else {
                table.get(value).copied().unwrap_or(0)
            };
            Some((count, *weight))
        })
    };
    let raws: Vec<Option<i64>> =
        feasible.iter().map(|&node| is_scored(node).then(|| raw(node))).collect();
    let highest = raws.iter().flatten().copied().max().unwrap_or(0);
    let lowest = raws.iter().flatten().copied().min().unwrap_or(0);
    Some(raws.into_iter().map(|raw| raw.map_or(0, |raw| normalize(raw, lowest, highest))).collect())
}
