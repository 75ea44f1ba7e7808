//! The fields of a `KubeSchedulerConfiguration`, `kubescheduler.config.k8s.io/v1`. A field that is null is
//! absent, and one that is not listed here is an error.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

/// What may be said of anything that has no influence on where pods go.
type Ignored = Option<IgnoredAny>;

/// The file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Configuration {
    pub api_version: String,
    pub kind: String,
    pub profiles: Option<Vec<Profile>>,
    pub percentage_of_nodes_to_score: Option<i64>,
    pub pod_initial_backoff_seconds: Option<i64>,
    pub pod_max_backoff_seconds: Option<i64>,
    pub extenders: Option<Vec<IgnoredAny>>,
    pub parallelism: Option<i64>,
    #[serde(rename = "leaderElection")]
    _leader_election: Option<LeaderElection>,
    #[serde(rename = "clientConnection")]
    _client_connection: Option<ClientConnection>,
    #[serde(rename = "enableProfiling")]
    _enable_profiling: Option<bool>,
    #[serde(rename = "enableContentionProfiling")]
    _enable_contention_profiling: Option<bool>,
    #[serde(rename = "delayCacheUntilActive")]
    _delay_cache_until_active: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LeaderElection {
    #[serde(rename = "leaderElect")]
    _elect: Ignored,
    #[serde(rename = "leaseDuration")]
    _lease: Ignored,
    #[serde(rename = "renewDeadline")]
    _renew: Ignored,
    #[serde(rename = "retryPeriod")]
    _retry: Ignored,
    #[serde(rename = "resourceLock")]
    _lock: Ignored,
    #[serde(rename = "resourceName")]
    _name: Ignored,
    #[serde(rename = "resourceNamespace")]
    _namespace: Ignored,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ClientConnection {
    #[serde(rename = "kubeconfig")]
    _kubeconfig: Ignored,
    #[serde(rename = "acceptContentTypes")]
    _accept: Ignored,
    #[serde(rename = "contentType")]
    _content: Ignored,
    #[serde(rename = "qps")]
    _qps: Ignored,
    #[serde(rename = "burst")]
    _burst: Ignored,
}

/// A profile.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Profile {
    pub scheduler_name: Option<String>,
    pub percentage_of_nodes_to_score: Option<i64>,
    pub plugins: Option<Plugins>,
    pub plugin_config: Option<Vec<PluginConfig>>,
}

/// Plugins by extension point.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Plugins {
    pub pre_enqueue: Option<PluginSet>,
    pub queue_sort: Option<PluginSet>,
    pub pre_filter: Option<PluginSet>,
    pub filter: Option<PluginSet>,
    pub post_filter: Option<PluginSet>,
    pub pre_score: Option<PluginSet>,
    pub score: Option<PluginSet>,
    pub reserve: Option<PluginSet>,
    pub permit: Option<PluginSet>,
    pub pre_bind: Option<PluginSet>,
    pub bind: Option<PluginSet>,
    pub post_bind: Option<PluginSet>,
    pub multi_point: Option<PluginSet>,
}

/// What is enabled and disabled at an extension point.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PluginSet {
    pub enabled: Option<Vec<PluginEntry>>,
    pub disabled: Option<Vec<PluginEntry>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PluginEntry {
    pub name: String,
    pub weight: Option<i64>,
}

/// A plugin's arguments; their fields depend on its name.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PluginConfig {
    pub name: String,
    pub args: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct DefaultPreemptionArgs {
    pub min_candidate_nodes_percentage: Option<i64>,
    pub min_candidate_nodes_absolute: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct InterPodAffinityArgs {
    pub hard_pod_affinity_weight: Option<i64>,
    pub ignore_preferred_terms_of_existing_pods: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NodeAffinityArgs {
    pub added_affinity: Option<NodeAffinity>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NodeAffinity {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    pub required: Option<NodeSelector>,
    #[serde(rename = "preferredDuringSchedulingIgnoredDuringExecution")]
    pub preferred: Option<Vec<PreferredTerm>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NodeSelector {
    pub node_selector_terms: Vec<NodeTerm>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PreferredTerm {
    pub weight: i64,
    pub preference: NodeTerm,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NodeTerm {
    pub match_expressions: Option<Vec<Requirement>>,
    pub match_fields: Option<Vec<Requirement>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Requirement {
    pub key: String,
    pub operator: String,
    pub values: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct BalancedAllocationArgs {
    pub resources: Option<Vec<Resource>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct FitArgs {
    pub ignored_resources: Option<Vec<String>>,
    pub ignored_resource_groups: Option<Vec<String>>,
    pub scoring_strategy: Option<ScoringStrategy>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ScoringStrategy {
    #[serde(rename = "type")]
    pub kind: StrategyType,
    pub resources: Option<Vec<Resource>>,
    pub requested_to_capacity_ratio: Option<CapacityRatio>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum StrategyType {
    LeastAllocated,
    MostAllocated,
    RequestedToCapacityRatio,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CapacityRatio {
    pub shape: Option<Vec<Point>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Point {
    pub utilization: i64,
    pub score: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Resource {
    pub name: String,
    pub weight: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TopologySpreadArgs {
    pub default_constraints: Option<Vec<Constraint>>,
    pub defaulting_type: Option<DefaultingType>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) enum DefaultingType {
    #[default]
    System,
    List,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Constraint {
    pub max_skew: i64,
    pub topology_key: String,
    pub when_unsatisfiable: Action,
    pub label_selector: Option<IgnoredAny>,
    pub min_domains: Option<i64>,
    pub node_affinity_policy: Option<Inclusion>,
    pub node_taints_policy: Option<Inclusion>,
    pub match_label_keys: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum Action {
    DoNotSchedule,
    ScheduleAnyway,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum Inclusion {
    Honor,
    Ignore,
}

/// Of plugins that are not modelled: their fields, without effect.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct VolumeBindingArgs {
    #[serde(rename = "bindTimeoutSeconds")]
    _bind_timeout: Ignored,
    #[serde(rename = "shape")]
    _shape: Option<Vec<Point>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct DynamicResourcesArgs {
    #[serde(rename = "filterTimeout")]
    _filter_timeout: Ignored,
    #[serde(rename = "bindingTimeout")]
    _binding_timeout: Ignored,
}
