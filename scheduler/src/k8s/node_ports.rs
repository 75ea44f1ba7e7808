//! `NodePorts`: a port of the host is one pod's at a time.

use cell::kube::{HostPort, Pod};

/// The ports of the host that a pod wants: those of its containers and of its sidecars.
pub fn wanted(pod: &Pod) -> impl Iterator<Item = &HostPort> {
    let sidecars = pod.init_containers.iter().filter(|init| init.restart_always);
    let containers = pod.containers.iter().chain(sidecars.map(|init| &init.container));
    containers.flat_map(|container| &container.host_ports)
}

/// Whether a pod wants any.
#[must_use]
pub fn wants_any(pod: &Pod) -> bool {
    wanted(pod).next().is_some()
}

/// Whether two pods cannot share a node.
#[must_use]
pub fn conflict(pod: &Pod, other: &Pod) -> bool {
    wanted(pod).any(|port| wanted(other).any(|taken| port.conflicts(taken)))
}
