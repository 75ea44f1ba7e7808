//! `NodeUnschedulable`: a cordoned node takes only pods that tolerate the taint
//! `node.kubernetes.io/unschedulable:NoSchedule`.

use cell::kube::{Node, Pod, Taint, TaintEffect};

use super::status::Rejection;
use super::taint_toleration::tolerates;

/// The filter.
#[must_use]
pub fn filter(pod: &Pod, node: &Node) -> Option<Rejection> {
    if !node.unschedulable {
        return None;
    }
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        value: String::new(),
        effect: TaintEffect::NoSchedule,
    };
    let is_tolerated = pod.tolerations.iter().any(|toleration| tolerates(toleration, &taint));
    (!is_tolerated).then_some(Rejection::Cordoned)
}
