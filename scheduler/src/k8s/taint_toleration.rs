//! `TaintToleration`: keeps pods off taints that they do not tolerate, and prefers nodes with fewer
//! taints that would rather be avoided.
//!
//! A toleration covers a taint if its effect and its key are the taint's or empty, and it either asks
//! only for existence or has the taint's value. The raw score is the number of `PreferNoSchedule` taints
//! that no toleration for that effect covers; it is normalised in reverse.

use cell::kube::{Node, Pod, Taint, TaintEffect, Toleration, TolerationOperator};

use super::status::Rejection;

/// Whether a toleration covers a taint.
#[must_use]
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let same_value = match toleration.operator {
        TolerationOperator::Exists => true,
        TolerationOperator::Equal => toleration.value == taint.value,
    };
    toleration.effect.is_none_or(|effect| effect == taint.effect)
        && (toleration.key.is_empty() || toleration.key == taint.key)
        && same_value
}

fn is_hard(taint: &Taint) -> bool {
    match taint.effect {
        TaintEffect::NoSchedule | TaintEffect::NoExecute => true,
        TaintEffect::PreferNoSchedule => false,
    }
}

/// The first taint that keeps the pod away.
#[must_use]
pub fn untolerated<'n>(pod: &Pod, node: &'n Node) -> Option<&'n Taint> {
    node.taints
        .iter()
        .filter(|taint| is_hard(taint))
        .find(|taint| !pod.tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}

/// The filter.
#[must_use]
pub fn filter(pod: &Pod, node: &Node) -> Option<Rejection> {
    untolerated(pod, node)
        .map(|taint| Rejection::Taint { key: taint.key.clone(), value: taint.value.clone() })
}

/// The raw score, at least 0; less is better.
#[must_use]
pub fn raw_score(pod: &Pod, node: &Node) -> i64 {
    let is_for_soft = |toleration: &&Toleration| {
        toleration.effect.is_none_or(|effect| effect == TaintEffect::PreferNoSchedule)
    };
    let avoided = node.taints.iter().filter(|taint| {
        !is_hard(taint)
            && !pod
                .tolerations
                .iter()
                .filter(is_for_soft)
                .any(|toleration| tolerates(toleration, taint))
    });
    i64::try_from(avoided.count()).expect("a few taints")
}
