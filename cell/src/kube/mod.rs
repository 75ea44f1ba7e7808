//! What Kubernetes' objects say beyond Borg's terms: labels, taints, affinities, spreading, budgets.
//!
//! Plain data, as kube-scheduler reads it: a reader of manifests fills it in, the scheduler's Kubernetes
//! policies place by it, and other policies ignore it. Amounts are integers in kube-scheduler's units:
//! CPU in milli-cores, memory and ephemeral storage in bytes, anything else in whole units, each rounded
//! up.
//!
//! Source: the Kubernetes API (`core/v1`, `policy/v1`) as of v1.36.

mod pod;
mod requests;
mod selector;

use std::collections::{BTreeMap, BTreeSet};

pub use pod::{
    Affinity, AffinityTerm, Container, HostPort, InclusionPolicy, InitContainer, NodeAffinity, Pod,
    PreemptionPolicy, SpreadConstraint, Toleration, TolerationOperator, UnsatisfiableAction,
    Weighted,
};
pub use requests::sum_of_containers;
pub use selector::{
    NODE_NAME_FIELD, NodeTerm, Operator, Requirement, Selector, is_label_key, is_label_value,
};

/// The label that names a node.
pub const HOSTNAME: &str = "kubernetes.io/hostname";
/// The label that names a node's zone.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// The label that names a node's region.
pub const REGION: &str = "topology.kubernetes.io/region";
/// How many pods a node takes that does not say: kubelet's default.
pub const PODS_DEFAULT: i64 = 110;

/// Labels, by key.
pub type Labels = BTreeMap<String, String>;

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TaintEffect {
    /// Keeps them away.
    NoSchedule,
    /// Is avoided where possible.
    PreferNoSchedule,
    /// Keeps them away, and (outside the scheduler) throws running ones out.
    NoExecute,
}

impl TaintEffect {
    /// The effect of this name, as the API spells it.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            "NoSchedule" => Some(Self::NoSchedule),
            "PreferNoSchedule" => Some(Self::PreferNoSchedule),
            "NoExecute" => Some(Self::NoExecute),
            _ => None,
        }
    }
}

/// A taint of a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value, perhaps empty.
    pub value: String,
    /// What it does.
    pub effect: TaintEffect,
}

/// Amounts of resources. In a request an absent one is not stated (which is not the same as 0 in the
/// scores); in a node's allocatable it is 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amounts {
    /// CPU in milli-cores.
    pub cpu: Option<i64>,
    /// Memory in bytes.
    pub memory: Option<i64>,
    /// Ephemeral storage in bytes.
    pub ephemeral: Option<i64>,
    /// Everything else by name: extended resources, huge pages (bytes), attachable volumes.
    pub scalar: BTreeMap<String, i64>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// Whether it is cordoned.
    pub unschedulable: bool,
    /// What pods may ask for in sum.
    pub allocatable: Amounts,
    /// How many pods it takes.
    pub pods: i64,
    /// Images it has, with their sizes in bytes.
    pub images: BTreeMap<String, i64>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            name: String::new(),
            labels: Labels::new(),
            taints: Vec::new(),
            unschedulable: false,
            allocatable: Amounts::default(),
            pods: PODS_DEFAULT,
            images: BTreeMap::new(),
        }
    }
}

/// A `PodDisruptionBudget`, as preemption sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisruptionBudget {
    /// Its namespace.
    pub namespace: String,
    /// Which pods it is about; one that is empty or absent protects none from preemption.
    pub selector: Option<Selector>,
    /// How many more may be disrupted (`status.disruptionsAllowed`).
    pub allowed: i64,
    /// Pods that are counted as disrupted already, by name.
    pub disrupted: BTreeSet<String>,
}

/// The Kubernetes side of a cell: beside each machine a node, beside each job the template of its pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    /// One for each machine of the cell, in its order.
    pub nodes: Vec<Node>,
    /// One for each job of the cell, in its order.
    pub pods: Vec<Pod>,
    /// Labels of the namespaces.
    pub namespaces: BTreeMap<String, Labels>,
    /// Disruption budgets.
    pub budgets: Vec<DisruptionBudget>,
}
