//! A pod, as far as placing it goes.

use super::{Amounts, Labels, NodeTerm, Selector, TaintEffect};
use std::collections::BTreeSet;

/// What a pod of a template asks for. Pods of one template differ in nothing that a placement reads but
/// name, age and place.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its labels.
    pub labels: Labels,
    /// Its priority; larger goes first.
    pub priority: i32,
    /// Whether it may preempt.
    pub preemption: PreemptionPolicy,
    /// Its containers.
    pub containers: Vec<Container>,
    /// Its init containers, in order; sidecars are among them.
    pub init_containers: Vec<InitContainer>,
    /// Images of its image volumes.
    pub volume_images: Vec<String>,
    /// What its runtime adds (`spec.overhead`).
    pub overhead: Amounts,
    /// Requests at the level of the pod (`spec.resources`).
    pub pod_level: Amounts,
    /// `spec.nodeName`: the one node it may run on.
    pub node_name: Option<String>,
    /// `spec.nodeSelector`.
    pub node_selector: Labels,
    /// Node affinity.
    pub node_affinity: NodeAffinity,
    /// What taints it tolerates.
    pub tolerations: Vec<Toleration>,
    /// Affinity to other pods.
    pub affinity: Affinity,
    /// Anti-affinity to other pods.
    pub anti_affinity: Affinity,
    /// Topology spread constraints.
    pub spread: Vec<SpreadConstraint>,
    /// For default spreading: the selectors of the services that select it and of the controller that
    /// owns it, in one.
    pub owner_selector: Selector,
    /// How many volumes it has that the volume plugins would look at; they are not modelled.
    pub volume_count: u32,
}

/// Whether a pod may preempt others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PreemptionPolicy {
    /// Those of lower priority.
    #[default]
    LowerPriority,
    /// None.
    Never,
}

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Container {
    /// Its image.
    pub image: Option<String>,
    /// What it requests.
    pub requests: Amounts,
    /// Ports of the host that it wants.
    pub host_ports: Vec<HostPort>,
}

/// A container that runs before the others, or, as a sidecar, from then on beside them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct InitContainer {
    /// The container.
    pub container: Container,
    /// Whether it is a sidecar (`restartPolicy: Always`).
    pub restart_always: bool,
}

/// A port of the host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// The address it is bound to; `0.0.0.0` for all.
    pub ip: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The port, 1..=65535.
    pub port: u16,
}

impl HostPort {
    /// Whether two pods cannot have both: same protocol and port, and same address or one for all.
    #[must_use]
    pub fn conflicts(&self, other: &Self) -> bool {
        const ALL: &str = "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || self.ip == ALL || other.ip == ALL)
    }
}

/// A preference and how much it counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weighted<T> {
    /// 1..=100.
    pub weight: i64,
    /// What is preferred.
    pub term: T,
}

/// Required and preferred properties of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeAffinity {
    /// At least one of these must match; an empty list matches no node.
    pub required: Option<Vec<NodeTerm>>,
    /// Preferred.
    pub preferred: Vec<Weighted<NodeTerm>>,
}

/// Required and preferred company, or with anti-affinity the company to be avoided.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Affinity {
    /// All of these are required.
    pub required: Vec<AffinityTerm>,
    /// Preferred.
    pub preferred: Vec<Weighted<AffinityTerm>>,
}

/// Some pods, and in what topology near or far is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct AffinityTerm {
    /// The node label whose value says which nodes are together.
    pub topology_key: String,
    /// Which pods; absent: none. `matchLabelKeys` are merged in by whoever makes the term.
    pub selector: Option<Selector>,
    /// Namespaces by name.
    pub namespaces: BTreeSet<String>,
    /// Namespaces by their labels; empty: all; absent (and none by name): the pod's own.
    pub namespace_selector: Option<Selector>,
}

/// How a toleration compares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TolerationOperator {
    /// The value is the same.
    #[default]
    Equal,
    /// Whatever the value.
    Exists,
}

/// A toleration of taints.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Toleration {
    /// Of taints with this key; empty: any.
    pub key: String,
    /// How it compares.
    pub operator: TolerationOperator,
    /// What it compares with.
    pub value: String,
    /// Of taints with this effect; absent: any.
    pub effect: Option<TaintEffect>,
}

/// What happens where a spread constraint cannot be met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnsatisfiableAction {
    /// The pod does not go there.
    DoNotSchedule,
    /// It would rather not.
    ScheduleAnyway,
}

/// Whether nodes that the pod could not use anyhow count in spreading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InclusionPolicy {
    /// They are left out.
    Honor,
    /// They count.
    Ignore,
}

/// A topology spread constraint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpreadConstraint {
    /// By how many pods domains may differ, at least 1.
    pub max_skew: i64,
    /// The node label whose value names the domain.
    pub topology_key: String,
    /// Hard or soft.
    pub when_unsatisfiable: UnsatisfiableAction,
    /// Which pods are spread; absent: none.
    pub selector: Option<Selector>,
    /// With fewer domains than this the least count is taken as 0.
    pub min_domains: i64,
    /// Nodes that the pod's selector and affinity exclude.
    pub node_affinity_policy: InclusionPolicy,
    /// Nodes with taints that it does not tolerate.
    pub node_taints_policy: InclusionPolicy,
    /// Labels of the pod that are added to the selector.
    pub match_label_keys: Vec<String>,
}

impl SpreadConstraint {
    /// A constraint with the API's defaults.
    #[must_use]
    pub fn new(
        max_skew: i64,
        topology_key: &str,
        when_unsatisfiable: UnsatisfiableAction,
        selector: Option<Selector>,
    ) -> Self {
        Self {
            max_skew,
            topology_key: topology_key.to_owned(),
            when_unsatisfiable,
            selector,
            min_domains: 1,
            node_affinity_policy: InclusionPolicy::Honor,
            node_taints_policy: InclusionPolicy::Ignore,
            match_label_keys: Vec::new(),
        }
    }
}
