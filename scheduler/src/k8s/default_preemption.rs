//! `DefaultPreemption`: which pods of lower priority make room for one that fits nowhere.
//!
//! Where removing pods might help, and on so many such nodes from an offset on as the profile says, a dry
//! run: take away every pod of lower priority; if the pod fits then, put them back one at a time while it
//! still fits, first those whose going would violate a disruption budget, the more important before the
//! less; what cannot be put back is a victim. Among the nodes, in turn: fewest violations, lowest priority
//! of the most important victim, least sum of priorities (each shifted to be positive), fewest victims,
//! latest start of the longest running victim of the highest priority; then whichever.

use std::borrow::Borrow;

use cell::kube::{DisruptionBudget, PreemptionPolicy};

use super::cluster::{Cluster, NodeIndex, PodIndex};
use super::go_sort;
use super::profile::{PreemptionArgs, Version};
use super::status::Verdict;

/// A node and what would have to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub node: NodeIndex,
    /// The pods that have to go, the most important first.
    pub victims: Vec<PodIndex>,
    /// How many of them violate a disruption budget.
    pub violation_count: usize,
}

/// Whether a pod may preempt (again): not while pods that it preempted are still leaving the node that
/// awaits it. `nominated_verdict` is the filters' verdict on that node in this attempt.
#[must_use]
pub fn is_eligible(cluster: &Cluster, pod: PodIndex, nominated_verdict: Verdict) -> bool {
    let own = &cluster.template_of(pod).pod;
    if own.preemption == PreemptionPolicy::Never {
        return false;
    }
    let Some(node) = cluster.pod(pod).nominated else { return true };
    if nominated_verdict == Verdict::UnschedulableAndUnresolvable {
        return true;
    }
    !cluster.pods_on(node).iter().any(|&other| {
        cluster.pod(other).is_terminating_by_preemption
            && cluster.template_of(other).pod.priority < own.priority
    })
}

/// How many candidates are wanted of so many nodes.
#[must_use]
pub fn wanted(args: PreemptionArgs, potential_count: usize) -> usize {
    let share = potential_count * args.min_candidate_nodes_percentage / 100;
    share.max(args.min_candidate_nodes_absolute).min(potential_count)
}

/// The pods on a node of lower priority than this, the most important first.
///
/// More important: of higher priority, then of earlier start. A pod that has not started counts as
/// starting now. kube-scheduler asks for the time once for each of two pods that it compares, so that of
/// two that have not started whichever it names first comes first; which that is, its sort decides. v1.20
/// was built with a sort that is followed step by step here (`go_sort`); for later versions the
/// last in the node's list comes first, as it does there with up to twelve pods.
#[must_use]
pub fn lower_by_importance(
    cluster: &Cluster,
    version: Version,
    node: NodeIndex,
    priority: i32,
) -> Vec<PodIndex> {
    let mut lower: Vec<PodIndex> = cluster
        .pods_on(node)
        .iter()
        .copied()
        .filter(|&pod| cluster.template_of(pod).pod.priority < priority)
        .collect();
    let rank = |pod: PodIndex| {
        let priority = std::cmp::Reverse(cluster.template_of(pod).pod.priority);
        (priority, cluster.pod(pod).start.unwrap_or(i64::MAX))
    };
    match version {
        Version::V1_20 => go_sort::sort(&mut lower, |&a, &b| {
            let both_wait = cluster.pod(a).start.is_none() && cluster.pod(b).start.is_none();
            rank(a) < rank(b) || rank(a) == rank(b) && both_wait
        }),
        Version::V1_36 => {
            lower.reverse();
            lower.sort_by_key(|&pod| rank(pod));
        }
    }
    lower
}

/// The dry run on a node. `fits` says whether the preemptor passes the filters there with these pods
/// removed.
pub fn dry_run(
    cluster: &Cluster,
    budgets: &[DisruptionBudget],
    node: NodeIndex,
    lower: &[PodIndex],
    mut fits: impl FnMut(&[PodIndex]) -> bool,
) -> Option<Candidate> {
    if lower.is_empty() || !fits(lower) {
        return None;
    }
    let (violating, others) = classify(cluster, budgets, lower);
    let mut removed = lower.to_vec();
    let mut victims = Vec::new();
    let mut violation_count = 0;
    let violating_count = violating.len();
    for (number, pod) in violating.into_iter().chain(others).enumerate() {
        let without: Vec<PodIndex> =
            removed.iter().copied().filter(|&other| other != pod).collect();
        if fits(&without) {
            removed = without;
        } else {
            victims.push(pod);
            violation_count += usize::from(number < violating_count);
        }
    }
    if victims.is_empty() {
        return None;
    }
    victims.sort_by_key(|victim| lower.iter().position(|pod| pod == victim));
    Some(Candidate { node, victims, violation_count })
}

/// Those whose going would violate a disruption budget, and the others; each in the given order.
#[must_use]
pub fn classify(
    cluster: &Cluster,
    budgets: &[DisruptionBudget],
    pods: &[PodIndex],
) -> (Vec<PodIndex>, Vec<PodIndex>) {
    let mut left: Vec<i64> = budgets.iter().map(|budget| budget.allowed).collect();
    pods.iter().partition(|&&pod| {
        let state = cluster.pod(pod);
        let own = &cluster.template_of(pod).pod;
        let mut is_violating = false;
        for (budget, left) in budgets.iter().zip(&mut left) {
            let selects = budget.namespace == own.namespace
                && !own.labels.is_empty()
                && budget
                    .selector
                    .as_ref()
                    .is_some_and(|selector| !selector.is_empty() && selector.matches(&own.labels));
            if selects && !budget.disrupted.contains(&state.name) {
                *left -= 1;
                is_violating |= *left < 0;
            }
        }
        is_violating
    })
}

/// Visits the potential nodes from the offset on, round, until enough candidates are found.
pub fn candidates<C: Borrow<Candidate>>(
    args: PreemptionArgs,
    potential: &[NodeIndex],
    offset: usize,
    mut dry_run: impl FnMut(NodeIndex) -> Option<C>,
) -> Vec<C> {
    let wanted = wanted(args, potential.len());
    let (mut peaceful, mut violating) = (Vec::new(), Vec::new());
    for turn in 0..potential.len() {
        let node = potential[(offset + turn) % potential.len()];
        if let Some(candidate) = dry_run(node) {
            let list = if candidate.borrow().violation_count == 0 {
                &mut peaceful
            } else {
                &mut violating
            };
            if list.len() < wanted {
                list.push(candidate);
            }
            if !peaceful.is_empty() && peaceful.len() + violating.len() >= wanted {
                break;
            }
        }
    }
    peaceful.append(&mut violating);
    peaceful
}

/// What candidates are compared by: violations of budgets, the highest priority among the victims, the sum
/// of their priorities, their number, and last how early the first of the most important ones started.
pub type Rank = (usize, i64, i64, usize, std::cmp::Reverse<Option<i64>>);

/// The rank of a candidate; the least is the best.
#[must_use]
pub fn rank(cluster: &Cluster, candidate: &Candidate) -> Rank {
    let priority = |&pod: &PodIndex| i64::from(cluster.template_of(pod).pod.priority);
    let highest = candidate.victims.iter().map(priority).max().unwrap_or(i64::MIN);
    let sum: i64 = candidate.victims.iter().map(|pod| priority(pod) + (1 << 31)).sum();
    let earliest = candidate
        .victims
        .iter()
        .filter(|pod| priority(pod) == highest)
        .map(|&pod| cluster.pod(pod).start.unwrap_or(i64::MAX))
        .min();
    let number = candidate.victims.len();
    (candidate.violation_count, highest, sum, number, std::cmp::Reverse(earliest))
}

/// The best candidates: all that the criteria leave, in their order.
#[must_use]
pub fn best<'c, C: Borrow<Candidate>>(
    cluster: &Cluster,
    candidates: &'c [C],
) -> Vec<&'c Candidate> {
    let ranks: Vec<_> =
        candidates.iter().map(|candidate| rank(cluster, candidate.borrow())).collect();
    let Some(least) = ranks.iter().min() else { return Vec::new() };
    let ranked = candidates.iter().zip(&ranks).filter(|(_, rank)| *rank == least);
    ranked.map(|(candidate, _)| candidate.borrow()).collect()
}
