//! `InterPodAffinity`: required and preferred company of other pods, both ways.
//!
//! A term of pod `o` selects pod `y` if `y`'s namespace is listed, or its labels match the term's namespace
//! selector, or neither is given and it is `o`'s; and `y`'s labels match the selector. Nodes are together
//! where they share the value of the term's node label.
//!
//! - **Filter.** Each required affinity term needs, where the node is, a pod that *all* of the pod's
//!   required affinity terms select; or, if the cluster has no such pod anywhere with any of the labels,
//!   the pod itself, and a node with the labels (unresolvable). No required anti-affinity term may select a
//!   pod where the node is, nor one of a pod there the incoming pod.
//! - **Score.** Every pod in the cluster adds to the nodes that are with it: the weights of the incoming
//!   pod's preferred terms that select it (anti-affinity subtracts), of its own preferred terms that select
//!   the incoming pod, and `hardPodAffinityWeight` for each of its required affinity terms that do.
//!   Normalised: `trunc(100 · ((raw - lo) / (hi - lo)))` over feasible nodes, 0 if all are the same.
//!
//! Pods that are being deleted count. Written down here plainly, a recount each time; `lane`
//! keeps the same sums current.

use std::collections::BTreeMap;

use cell::kube::{AffinityTerm, Labels, Pod};

use super::cluster::{Cluster, NodeIndex};
use super::profile::Profile;
use super::status::Rejection;

/// Whether a term of pod `owner` selects pod `other`.
pub(crate) fn selects(
    term: &AffinityTerm,
    owner: &Pod,
    other: &Pod,
    namespaces: &BTreeMap<String, Labels>,
) -> bool {
    let selector_holds = || {
        term.namespace_selector.as_ref().is_some_and(|selector| {
            let none = Labels::new();
            selector.matches(namespaces.get(&other.namespace).unwrap_or(&none))
        })
    };
    let is_own = term.namespaces.is_empty()
        && term.namespace_selector.is_none()
        && owner.namespace == other.namespace;
    (is_own || term.namespaces.contains(&other.namespace) || selector_holds())
        && term.selector.as_ref().is_some_and(|selector| selector.matches(&other.labels))
}

/// Whether all required affinity terms of a pod select another; false if it has none.
pub(crate) fn all_required_select(
    pod: &Pod,
    other: &Pod,
    namespaces: &BTreeMap<String, Labels>,
) -> bool {
    let required = &pod.affinity.required;
    !required.is_empty() && required.iter().all(|term| selects(term, pod, other, namespaces))
}

/// Whether a required anti-affinity term of a pod selects another.
pub(crate) fn shuns(pod: &Pod, other: &Pod, namespaces: &BTreeMap<String, Labels>) -> bool {
    pod.anti_affinity.required.iter().any(|term| selects(term, pod, other, namespaces))
}

/// Sums by node label and value.
type Sums<'c> = BTreeMap<(&'c str, &'c str), i64>;

fn value<'c>(cluster: &'c Cluster, node: NodeIndex, key: &str) -> Option<&'c str> {
    cluster.node(node).labels.get(key).map(String::as_str)
}

/// The filter, of every node.
#[must_use]
pub fn filter<'c>(cluster: &'c Cluster, pod: &Pod) -> Vec<Option<Rejection>> {
    let namespaces = &cluster.namespaces;
    let (mut near, mut far, mut existing) = (Sums::new(), Sums::new(), Sums::new());
    for node in 0..cluster.node_count() {
        for &other in cluster.pods_on(node) {
            let other = &cluster.template_of(other).pod;
            let labels = &cluster.node(node).labels;
            let add = |sums: &mut Sums<'c>, term: &AffinityTerm| {
                if let Some((key, value)) = labels.get_key_value(&term.topology_key) {
                    *sums.entry((key, value)).or_insert(0) += 1;
                }
            };
            if all_required_select(pod, other, namespaces) {
                pod.affinity.required.iter().for_each(|term| add(&mut near, term));
            }
            for term in &pod.anti_affinity.required {
                if selects(term, pod, other, namespaces) {
                    add(&mut far, term);
                }
            }
            for term in &other.anti_affinity.required {
                if selects(term, other, pod, namespaces) {
                    add(&mut existing, term);
                }
            }
        }
    }
    let is_first = near.is_empty() && all_required_select(pod, pod, namespaces);
    let check = |node: NodeIndex| {
        let mut is_near = true;
        for term in &pod.affinity.required {
            match value(cluster, node, &term.topology_key) {
                None => return Some(Rejection::PodAffinity),
                Some(value) => is_near &= near.contains_key(&(term.topology_key.as_str(), value)),
            }
        }
        if !is_near && !is_first {
            return Some(Rejection::PodAffinity);
        }
        let is_far = pod.anti_affinity.required.iter().all(|term| {
            value(cluster, node, &term.topology_key)
                .is_none_or(|value| !far.contains_key(&(term.topology_key.as_str(), value)))
        });
        if !is_far {
            return Some(Rejection::PodAntiAffinity);
        }
        let labels = &cluster.node(node).labels;
        let is_unwelcome =
            labels.iter().any(|(key, value)| existing.contains_key(&(key.as_str(), value)));
        is_unwelcome.then_some(Rejection::ExistingAntiAffinity)
    };
    (0..cluster.node_count()).map(check).collect()
}

/// What a pod that is there adds to the scores of an incoming pod, by node label.
pub(crate) fn pulls(
    profile: &Profile,
    cluster: &Cluster,
    pod: &Pod,
    other: &Pod,
) -> BTreeMap<String, i64> {
    let namespaces = &cluster.namespaces;
    let mut by_key: BTreeMap<String, i64> = BTreeMap::new();
    let mut add = |term: &AffinityTerm, weight: i64| {
        *by_key.entry(term.topology_key.clone()).or_default() += weight;
    };
    for (terms, sign) in [(&pod.affinity.preferred, 1), (&pod.anti_affinity.preferred, -1)] {
        for preference in terms {
            if selects(&preference.term, pod, other, namespaces) {
                add(&preference.term, sign * preference.weight);
            }
        }
    }
    let hard = profile.hard_pod_affinity_weight;
    for term in other.affinity.required.iter().filter(|_| hard > 0) {
        if selects(term, other, pod, namespaces) {
            add(term, hard);
        }
    }
    for (terms, sign) in [(&other.affinity.preferred, 1), (&other.anti_affinity.preferred, -1)] {
        for preference in terms {
            if selects(&preference.term, other, pod, namespaces) {
                add(&preference.term, sign * preference.weight);
            }
        }
    }
    by_key
}

/// Whether the plugin scores a pod at all.
pub(crate) fn is_scored(profile: &Profile, pod: &Pod) -> bool {
    let has_preferences =
        !(pod.affinity.preferred.is_empty() && pod.anti_affinity.preferred.is_empty());
    has_preferences || !profile.ignore_preferred_terms_of_existing_pods
}

/// The normalised score, 0..=100.
pub(crate) fn normalize(raw: i64, lowest: i64, highest: i64) -> i64 {
    if highest == lowest {
        return 0;
    }
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "as upstream computes it"
    )]
    {
        (100.0 * ((raw - lowest) as f64 / (highest - lowest) as f64)) as i64
    }
}

/// The scores of the feasible nodes, in their order; `None` where the plugin has nothing to say.
#[must_use]
pub fn scores(
    profile: &Profile,
    cluster: &Cluster,
    pod: &Pod,
    feasible: &[NodeIndex],
) -> Option<Vec<i64>> {
    if !is_scored(profile, pod) {
        return None;
    }
    let mut sums: BTreeMap<String, BTreeMap<&str, i64>> = BTreeMap::new();
    for node in 0..cluster.node_count() {
        for &other in cluster.pods_on(node) {
            for (key, weight) in pulls(profile, cluster, pod, &cluster.template_of(other).pod) {
                if let Some(value) = value(cluster, node, &key) {
                    *sums.entry(key).or_default().entry(value).or_insert(0) += weight;
                }
            }
        }
    }
    if sums.is_empty() {
        return None;
    }
    let raw = |&node: &NodeIndex| -> i64 {
        sums.iter().filter_map(|(key, by_value)| by_value.get(value(cluster, node, key)?)).sum()
    };
    let raws: Vec<i64> = feasible.iter().map(raw).collect();
    let lowest = raws.iter().copied().min().unwrap_or(0);
    let highest = raws.iter().copied().max().unwrap_or(0);
    Some(raws.into_iter().map(|raw| normalize(raw, lowest, highest)).collect())
}
