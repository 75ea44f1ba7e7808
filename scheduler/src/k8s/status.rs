//! What a filter says of a node.

use std::fmt;

/// The verdict of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The node will do.
    Success,
    /// It will not; it might if pods were removed.
    Unschedulable,
    /// It will not, whatever is removed.
    UnschedulableAndUnresolvable,
}

impl Verdict {
    /// Its name, as Kubernetes spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "Success",
            Self::Unschedulable => "Unschedulable",
            Self::UnschedulableAndUnresolvable => "UnschedulableAndUnresolvable",
        }
    }
}

/// Why a filter rejects a node, in kube-scheduler's words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rejection {
    /// `NodeUnschedulable`: it is cordoned.
    Cordoned,
    /// `NodeName`: the pod names another.
    OtherNode,
    /// `TaintToleration`: this taint is not tolerated.
    Taint {
        /// Its key.
        key: String,
        /// Its value.
        value: String,
    },
    /// `NodeAffinity`: the pod's selector or affinity.
    NodeAffinity,
    /// `NodeAffinity`: the profile's added affinity.
    AddedAffinity,
    /// `NodeAffinity`: the pod's affinity names other nodes.
    Narrowed,
    /// `NodePorts`.
    Ports,
    /// `NodeResourcesFit`: the node takes no more pods.
    TooManyPods,
    /// `NodeResourcesFit`: too little of a resource is left.
    Insufficient {
        /// Its name.
        resource: String,
        /// Whether even the empty node has too little.
        is_beyond_node: bool,
    },
    /// `PodTopologySpread`: the label is missing.
    SpreadLabelMissing,
    /// `PodTopologySpread`: the skew would be too large.
    Spread,
    /// `InterPodAffinity`: required affinity.
    PodAffinity,
    /// `InterPodAffinity`: the pod's anti-affinity.
    PodAntiAffinity,
    /// `InterPodAffinity`: the anti-affinity of a pod that is there.
    ExistingAntiAffinity,
}

impl Rejection {
    /// Whether removing pods might help.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Ports
            | Self::TooManyPods
            | Self::Insufficient { is_beyond_node: false, .. }
            | Self::Spread
            | Self::PodAntiAffinity
            | Self::ExistingAntiAffinity => Verdict::Unschedulable,
            Self::Cordoned
            | Self::OtherNode
            | Self::Taint { .. }
            | Self::NodeAffinity
            | Self::AddedAffinity
            | Self::Narrowed
            | Self::Insufficient { is_beyond_node: true, .. }
            | Self::SpreadLabelMissing
            | Self::PodAffinity => Verdict::UnschedulableAndUnresolvable,
        }
    }

    /// The plugin that says so.
    #[must_use]
    pub fn plugin(&self) -> super::Plugin {
        use super::Plugin;
        match self {
            Self::Cordoned => Plugin::NodeUnschedulable,
            Self::OtherNode => Plugin::NodeName,
            Self::Taint { .. } => Plugin::TaintToleration,
            Self::NodeAffinity | Self::AddedAffinity | Self::Narrowed => Plugin::NodeAffinity,
            Self::Ports => Plugin::NodePorts,
            Self::TooManyPods | Self::Insufficient { .. } => Plugin::NodeResourcesFit,
            Self::SpreadLabelMissing | Self::Spread => Plugin::PodTopologySpread,
            Self::PodAffinity | Self::PodAntiAffinity | Self::ExistingAntiAffinity => {
                Plugin::InterPodAffinity
            }
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cordoned => write!(f, "node(s) were unschedulable"),
            Self::OtherNode => write!(f, "node(s) didn't match the requested node name"),
            Self::Taint { key, value } => {
                write!(f, "node(s) had untolerated taint {{{key}: {value}}}")
            }
            Self::NodeAffinity => write!(f, "node(s) didn't match Pod's node affinity/selector"),
            Self::AddedAffinity => {
                write!(f, "node(s) didn't match scheduler-enforced node affinity")
            }
            Self::Narrowed => write!(f, "node(s) didn't satisfy plugin(s) [NodeAffinity]"),
            Self::Ports => {
                write!(f, "node(s) didn't have free ports for the requested pod ports")
            }
            Self::TooManyPods => write!(f, "Too many pods"),
            Self::Insufficient { resource, .. } => write!(f, "Insufficient {resource}"),
            Self::SpreadLabelMissing => write!(
                f,
                "node(s) didn't match pod topology spread constraints (missing required label)"
            ),
            Self::Spread => write!(f, "node(s) didn't match pod topology spread constraints"),
            Self::PodAffinity => write!(f, "node(s) didn't match pod affinity rules"),
            Self::PodAntiAffinity => write!(f, "node(s) didn't match pod anti-affinity rules"),
            Self::ExistingAntiAffinity => {
                write!(f, "node(s) didn't satisfy existing pods anti-affinity rules")
            }
        }
    }
}

/// The verdict over all that a filter found: unresolvable if any is.
#[must_use]
pub fn worst(rejections: &[Rejection]) -> Verdict {
    rejections.iter().map(Rejection::verdict).max().unwrap_or(Verdict::Success)
}
