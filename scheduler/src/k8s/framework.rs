//! One scheduling attempt as kube-scheduler's framework runs it: every plugin, on every node, counted
//! afresh.
//!
//! Slow and plain. It is what the recorded cases are checked against, what explains a pending pod, and
//! what the index in `lane` must agree with.

use std::collections::BTreeMap;

use super::cluster::{Cluster, NodeIndex, PodIndex, TemplateIndex};
use super::fit::{self, Load};
use super::lane::{Statics, statics_key};
use super::normalize::normalize;
use super::profile::{Plugin, Profile, Version};
use super::status::Rejection;
use super::{
    balanced_allocation, image_locality, inter_pod_affinity, node_affinity, node_ports,
    topology_spread,
};

/// For every node what the first filter that rejects it says; nothing where the pod could go.
///
/// `pod` is left out of the pods that wait for a node after a preemption.
#[must_use]
pub fn filter(
    profile: &Profile,
    cluster: &Cluster,
    template: TemplateIndex,
    pod: Option<PodIndex>,
) -> Vec<Vec<Rejection>> {
    let priority = cluster.templates[template].pod.priority;
    let mut verdicts = filter_once(profile, cluster, template);
    for (node, verdict) in verdicts.iter_mut().enumerate() {
        let waiting: Vec<PodIndex> = cluster.nominated_before(node, priority, pod).collect();
        if waiting.is_empty() {
            continue;
        }
        // Both with the pods that wait for the node and without them (§2.2).
        let mut as_if = cluster.clone();
        for other in waiting {
            as_if.bind(other, node);
        }
        let with = filter_once(profile, &as_if, template).swap_remove(node);
        if !with.is_empty() {
            *verdict = with;
        }
    }
    verdicts
}

fn filter_once(
    profile: &Profile,
    cluster: &Cluster,
    template: TemplateIndex,
) -> Vec<Vec<Rejection>> {
    let template = &cluster.templates[template];
    let pod = &template.pod;
    let statics = Statics::of(profile, cluster, &statics_key(template));
    let spread = profile
        .has_filter(Plugin::PodTopologySpread)
        .then(|| topology_spread::filter(profile, cluster, pod));
    let company = profile
        .has_filter(Plugin::InterPodAffinity)
        .then(|| inter_pod_affinity::filter(cluster, pod));
    let check = |node: NodeIndex| -> Vec<Rejection> {
        if let Some(rejection) = statics.rejection(node) {
            return vec![rejection.clone()];
        }
        if profile.has_filter(Plugin::NodePorts) {
            let taken =
                |&other: &PodIndex| node_ports::conflict(pod, &cluster.template_of(other).pod);
            if cluster.pods_on(node).iter().any(taken) {
                return vec![Rejection::Ports];
            }
        }
        if profile.has_filter(Plugin::NodeResourcesFit) {
            let load = Load::of(cluster, node);
            let violated = fit::filter(profile, cluster, template, node, &load);
            if !violated.is_empty() {
                return violated;
            }
        }
        let of = |verdicts: &Option<Vec<Option<Rejection>>>| {
            verdicts.as_ref().and_then(|verdicts| verdicts[node].clone())
        };
        of(&spread).or_else(|| of(&company)).into_iter().collect()
    };
    (0..cluster.node_count()).map(check).collect()
}

/// The normalised scores of each plugin for the feasible nodes, in their order, before weights. A plugin
/// that has nothing to say about the pod is not listed.
#[must_use]
pub fn scores(
    profile: &Profile,
    cluster: &Cluster,
    template: TemplateIndex,
    feasible: &[NodeIndex],
) -> BTreeMap<Plugin, Vec<i64>> {
    let of = &cluster.templates[template];
    let pod = &of.pod;
    let statics = Statics::of(profile, cluster, &statics_key(of));
    let mut scores = BTreeMap::new();
    for &plugin in profile.weights.keys() {
        let each = |score: &dyn Fn(NodeIndex) -> i64| -> Option<Vec<i64>> {
            Some(feasible.iter().map(|&node| score(node)).collect())
        };
        let normalized = |raw: &dyn Fn(NodeIndex) -> i64, is_reversed: bool| {
            let raws: Vec<i64> = feasible.iter().map(|&node| raw(node)).collect();
            let max = raws.iter().copied().max().unwrap_or(0);
            Some(raws.into_iter().map(|raw| normalize(raw, max, is_reversed)).collect())
        };
        let scored = match plugin {
            Plugin::TaintToleration => normalized(&|node| statics.raw(node).0, true),
            Plugin::NodeAffinity => {
                let added = &profile.added_affinity;
                if node_affinity::has_preferences(added, pod) || of.rule.is_some() {
                    normalized(&|node| statics.raw(node).1, false)
                } else {
                    None
                }
            }
            Plugin::NodeResourcesFit => {
                each(&|node| fit::score(profile, cluster, of, node, &Load::of(cluster, node)))
            }
            Plugin::NodeResourcesBalancedAllocation => {
                if balanced_allocation::skips(profile, cluster, of) {
                    None
                } else {
                    each(&|node| {
                        let load = Load::of(cluster, node);
                        balanced_allocation::score(profile, cluster, of, node, &load)
                    })
                }
            }
            Plugin::PodTopologySpread => {
                let scored = topology_spread::scores(profile, cluster, pod, feasible);
                match profile.version {
                    Version::V1_20 => scored.or_else(|| each(&|_| 100)),
                    Version::V1_36 => scored,
                }
            }
            Plugin::InterPodAffinity => inter_pod_affinity::scores(profile, cluster, pod, feasible),
            Plugin::ImageLocality => {
                let images = image_locality::images(pod);
                each(&|node| image_locality::score(cluster, &images, node))
            }
            Plugin::NodePreferAvoidPods => each(&|_| 100),
            Plugin::NodeUnschedulable
            | Plugin::NodeName
            | Plugin::NodePorts
            | Plugin::DefaultPreemption => None,
        };
        if let Some(scored) = scored {
            scores.insert(plugin, scored);
        }
    }
    scores
}

/// The weighted sum of all scores, by feasible node in their order.
#[must_use]
pub fn totals(
    profile: &Profile,
    cluster: &Cluster,
    template: TemplateIndex,
    feasible: &[NodeIndex],
) -> Vec<i64> {
    let mut totals = vec![0; feasible.len()];
    for (plugin, scores) in scores(profile, cluster, template, feasible) {
        for (total, score) in totals.iter_mut().zip(scores) {
            *total += profile.weight(plugin) * score;
        }
    }
    totals
}

/// What kube-scheduler says of a pod that fits nowhere: `0/20 nodes are available: 3 Insufficient cpu, …`,
/// reasons in alphabetical order, each with the number of nodes that it holds for.
#[must_use]
pub fn fit_error(verdicts: &[Vec<Rejection>]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for rejection in verdicts.iter().flatten() {
        *counts.entry(rejection.to_string()).or_default() += 1;
    }
    let mut reasons: Vec<String> =
        counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    // Sorted as text, counts included, as kube-scheduler does.
    reasons.sort();
    let available = format!("0/{} nodes are available", verdicts.len());
    if reasons.is_empty() {
        return format!("{available}.");
    }
    format!("{available}: {}.", reasons.join(", "))
}
