//! A scheduler profile: which plugins filter and score, with which weights and arguments.

use std::collections::{BTreeMap, BTreeSet};

use cell::kube::{NodeAffinity, SpreadConstraint};

use super::fit::{ResourceWeight, Strategy};

/// A plugin of kube-scheduler's that this crate models, in the order in which filters run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plugin {
    /// [`super::node_unschedulable`].
    NodeUnschedulable,
    /// [`super::node_name`].
    NodeName,
    /// [`super::taint_toleration`].
    TaintToleration,
    /// [`super::node_affinity`].
    NodeAffinity,
    /// [`super::node_ports`].
    NodePorts,
    /// [`super::fit`].
    NodeResourcesFit,
    /// [`super::topology_spread`].
    PodTopologySpread,
    /// [`super::inter_pod_affinity`].
    InterPodAffinity,
    /// [`super::balanced_allocation`].
    NodeResourcesBalancedAllocation,
    /// [`super::image_locality`].
    ImageLocality,
    /// Of version 1.20: 100 for every node without an annotation that no trace has.
    NodePreferAvoidPods,
    /// [`super::default_preemption`].
    DefaultPreemption,
}

impl Plugin {
    /// All of them, in the order in which they run.
    pub const ALL: [Self; 12] = [
        Self::NodeUnschedulable,
        Self::NodeName,
        Self::TaintToleration,
        Self::NodeAffinity,
        Self::NodePorts,
        Self::NodeResourcesFit,
        Self::PodTopologySpread,
        Self::InterPodAffinity,
        Self::NodeResourcesBalancedAllocation,
        Self::ImageLocality,
        Self::NodePreferAvoidPods,
        Self::DefaultPreemption,
    ];

    /// Its name, as Kubernetes spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NodeUnschedulable => "NodeUnschedulable",
            Self::NodeName => "NodeName",
            Self::TaintToleration => "TaintToleration",
            Self::NodeAffinity => "NodeAffinity",
            Self::NodePorts => "NodePorts",
            Self::NodeResourcesFit => "NodeResourcesFit",
            Self::PodTopologySpread => "PodTopologySpread",
            Self::InterPodAffinity => "InterPodAffinity",
            Self::NodeResourcesBalancedAllocation => "NodeResourcesBalancedAllocation",
            Self::ImageLocality => "ImageLocality",
            Self::NodePreferAvoidPods => "NodePreferAvoidPods",
            Self::DefaultPreemption => "DefaultPreemption",
        }
    }

    /// Whether it filters.
    #[must_use]
    pub const fn filters(self) -> bool {
        match self {
            Self::NodeUnschedulable
            | Self::NodeName
            | Self::TaintToleration
            | Self::NodeAffinity
            | Self::NodePorts
            | Self::NodeResourcesFit
            | Self::PodTopologySpread
            | Self::InterPodAffinity => true,
            Self::NodeResourcesBalancedAllocation
            | Self::ImageLocality
            | Self::NodePreferAvoidPods
            | Self::DefaultPreemption => false,
        }
    }

    /// Whether it scores.
    #[must_use]
    pub const fn scores(self) -> bool {
        match self {
            Self::TaintToleration
            | Self::NodeAffinity
            | Self::NodeResourcesFit
            | Self::PodTopologySpread
            | Self::InterPodAffinity
            | Self::NodeResourcesBalancedAllocation
            | Self::ImageLocality
            | Self::NodePreferAvoidPods => true,
            Self::NodeUnschedulable
            | Self::NodeName
            | Self::NodePorts
            | Self::DefaultPreemption => false,
        }
    }
}

/// Plugins of the default profile that look at volumes, claims and devices, and are not modelled: what
/// pods ask of them is accepted and has no effect.
pub const NOT_MODELLED: [&str; 5] =
    ["VolumeRestrictions", "NodeVolumeLimits", "VolumeBinding", "VolumeZone", "DynamicResources"];

/// Which release's formulas are used where they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// v1.20: `NodeResourcesBalancedAllocation` scores the balance with the pod, over requests with
    /// defaults; a node too small for a pod counts as resolvable; and a skipped `PodTopologySpread`
    /// gives every node 100.
    V1_20,
    /// v1.36.
    V1_36,
}

/// Constraints of `PodTopologySpread` for pods that have none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpreadDefaults {
    /// The built-in ones: soft, skew 3 over hosts and 5 over zones.
    System,
    /// These.
    List(Vec<SpreadConstraint>),
}

/// How many nodes `DefaultPreemption` tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreemptionArgs {
    /// At least this share of the nodes where it might help, 0..=100.
    pub min_candidate_nodes_percentage: usize,
    /// And at least so many.
    pub min_candidate_nodes_absolute: usize,
}

/// Back-off of pods that could not be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure, in milliseconds.
    pub initial_ms: u64,
    /// At most, in milliseconds.
    pub max_ms: u64,
}

/// A profile.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Which formulas.
    pub version: Version,
    /// The plugins that filter.
    pub filters: BTreeSet<Plugin>,
    /// The plugins that score, with their weights, 1..=1,000,000.
    pub weights: BTreeMap<Plugin, i64>,
    /// `percentageOfNodesToScore`, 0..=100; 0 is adaptive.
    pub percentage_of_nodes_to_score: usize,
    /// The scoring strategy of `NodeResourcesFit`.
    pub strategy: Strategy,
    /// The resources that `NodeResourcesFit` scores.
    pub fit_resources: Vec<ResourceWeight>,
    /// Extended resources that its filter ignores, by name.
    pub ignored_resources: BTreeSet<String>,
    /// Extended resources that its filter ignores, by what is before the slash.
    pub ignored_resource_groups: BTreeSet<String>,
    /// The resources that `NodeResourcesBalancedAllocation` scores.
    pub balanced_resources: Vec<ResourceWeight>,
    /// `NodeAffinity`'s own.
    pub added_affinity: NodeAffinity,
    /// `PodTopologySpread`'s for pods without.
    pub spread_defaults: SpreadDefaults,
    /// `hardPodAffinityWeight`, 0..=100.
    pub hard_pod_affinity_weight: i64,
    /// Whether `InterPodAffinity` scores only by the incoming pod's preferences.
    pub ignore_preferred_terms_of_existing_pods: bool,
    /// Preemption; `None`: there is none.
    pub preemption: Option<PreemptionArgs>,
    /// Back-off.
    pub backoff: Backoff,
}

impl Profile {
    /// The default profile of v1.36.
    #[must_use]
    pub fn v1_36() -> Self {
        let weights = [
            (Plugin::TaintToleration, 3),
            (Plugin::NodeAffinity, 2),
            (Plugin::NodeResourcesFit, 1),
            (Plugin::PodTopologySpread, 2),
            (Plugin::InterPodAffinity, 2),
            (Plugin::NodeResourcesBalancedAllocation, 1),
            (Plugin::ImageLocality, 1),
        ];
        Self {
            version: Version::V1_36,
            filters: Plugin::ALL.into_iter().filter(|plugin| plugin.filters()).collect(),
            weights: weights.into(),
            percentage_of_nodes_to_score: 0,
            strategy: Strategy::LeastAllocated,
            fit_resources: ResourceWeight::cpu_and_memory(),
            ignored_resources: BTreeSet::new(),
            ignored_resource_groups: BTreeSet::new(),
            balanced_resources: ResourceWeight::cpu_and_memory(),
            added_affinity: NodeAffinity::default(),
            spread_defaults: SpreadDefaults::System,
            hard_pod_affinity_weight: 1,
            ignore_preferred_terms_of_existing_pods: false,
            preemption: Some(PreemptionArgs {
                min_candidate_nodes_percentage: 10,
                min_candidate_nodes_absolute: 100,
            }),
            backoff: Backoff { initial_ms: 1000, max_ms: 10_000 },
        }
    }

    /// The default profile of v1.20.
    #[must_use]
    pub fn v1_20() -> Self {
        let weights = [
            (Plugin::TaintToleration, 1),
            (Plugin::NodeAffinity, 1),
            (Plugin::NodeResourcesFit, 1),
            (Plugin::PodTopologySpread, 2),
            (Plugin::InterPodAffinity, 1),
            (Plugin::NodeResourcesBalancedAllocation, 1),
            (Plugin::ImageLocality, 1),
            (Plugin::NodePreferAvoidPods, 10_000),
        ];
        Self { version: Version::V1_20, weights: weights.into(), ..Self::v1_36() }
    }

    /// The weight of a plugin's score; 0 where it does not score.
    #[must_use]
    pub fn weight(&self, plugin: Plugin) -> i64 {
        self.weights.get(&plugin).copied().unwrap_or(0)
    }

    /// Whether a plugin filters.
    #[must_use]
    pub fn has_filter(&self, plugin: Plugin) -> bool {
        self.filters.contains(&plugin)
    }
}
