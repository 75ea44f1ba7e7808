//! `NodeAffinity`: the node selector, required and preferred affinity to nodes, and the profile's own.
//!
//! A node passes if it has every label of the selector and, where affinity is required, at least one term
//! matches; the profile's added affinity must match too. The raw score is the sum of the weights of the
//! preferred terms that match, the pod's and the profile's; it is normalised.

use std::collections::BTreeSet;

use cell::kube::{Node, NodeAffinity, NodeTerm, Pod, Weighted};

use super::status::Rejection;

/// Whether a node meets the pod's own selector and required affinity.
#[must_use]
pub fn matches(pod: &Pod, node: &Node) -> bool {
    pod.node_selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
        && any_matches(pod.node_affinity.required.as_deref(), node)
}

fn any_matches(required: Option<&[NodeTerm]>, node: &Node) -> bool {
    required.is_none_or(|terms| terms.iter().any(|term| term.matches(&node.name, &node.labels)))
}

/// The filter.
#[must_use]
pub fn filter(added: &NodeAffinity, pod: &Pod, node: &Node) -> Option<Rejection> {
    if !any_matches(added.required.as_deref(), node) {
        return Some(Rejection::AddedAffinity);
    }
    (!matches(pod, node)).then_some(Rejection::NodeAffinity)
}

/// The only nodes worth looking at, where every required term names some: the union over the terms of
/// the intersection inside a term. Empty: the pod can run nowhere.
#[must_use]
pub fn narrowed(pod: &Pod) -> Option<BTreeSet<&str>> {
    let terms = pod.node_affinity.required.as_ref()?;
    if terms.is_empty() {
        return None;
    }
    let each: Option<Vec<BTreeSet<&str>>> = terms.iter().map(NodeTerm::names).collect();
    Some(each?.into_iter().flatten().collect())
}

/// Whether any preference is there to be scored.
#[must_use]
pub fn has_preferences(added: &NodeAffinity, pod: &Pod) -> bool {
    !(added.preferred.is_empty() && pod.node_affinity.preferred.is_empty())
}

/// The raw score, at least 0; more is better.
#[must_use]
pub fn raw_score(added: &NodeAffinity, pod: &Pod, node: &Node) -> i64 {
    let preferred = added.preferred.iter().chain(&pod.node_affinity.preferred);
    preferred
        .filter(|preference: &&Weighted<NodeTerm>| {
            preference.term.matches(&node.name, &node.labels)
        })
        .map(|preference| preference.weight)
        .sum()
}
