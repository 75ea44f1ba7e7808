//! `NodeName`: a pod that names a node runs on no other.

use cell::kube::{Node, Pod};

use super::status::Rejection;

/// The filter.
#[must_use]
pub fn filter(pod: &Pod, node: &Node) -> Option<Rejection> {
    let names_other = pod.node_name.as_ref().is_some_and(|name| *name != node.name);
    names_other.then_some(Rejection::OtherNode)
}
