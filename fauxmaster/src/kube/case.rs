//! The schema of kube-scheduler cases: inputs and expected outputs, one file a plugin.

use std::collections::{BTreeMap, BTreeSet};

use cell::kube::{
    Affinity, AffinityTerm, Amounts, Container, DisruptionBudget, InclusionPolicy, InitContainer,
    Labels, Node, NodeAffinity, NodeTerm, Operator, PODS_DEFAULT, Pod, PreemptionPolicy,
    Requirement, Selector, SpreadConstraint, Taint, TaintEffect, Toleration, TolerationOperator,
    UnsatisfiableAction, Weighted,
};
use serde::Deserialize;
use serde_json::Value;

/// A file of cases; each case is read by itself, so that one that cannot be read fails alone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub schema_version: u32,
    pub plugin: String,
    pub cases: Vec<Value>,
}

/// A case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    #[serde(rename = "id")]
    _id: String,
    #[serde(rename = "name")]
    _name: String,
    pub kind: String,
    #[serde(default, rename = "origin")]
    _origin: Option<String>,
    #[serde(default, rename = "note")]
    _note: Option<String>,
    #[serde(default)]
    pub args: Args,
    #[serde(default)]
    pub nodes: Vec<CaseNode>,
    #[serde(default)]
    pub existing_pods: Vec<CasePod>,
    #[serde(default)]
    pub pod: CasePod,
    #[serde(default)]
    pub namespaces: BTreeMap<String, Labels>,
    #[serde(default)]
    pub pdbs: Vec<CaseBudget>,
    pub expected: Expected,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    pub strategy: Option<String>,
    pub resources: Option<Vec<CaseResource>>,
    pub shape: Option<Vec<CasePoint>>,
    pub points: Option<Vec<CasePoint>>,
    #[serde(default)]
    pub ignored_resources: BTreeSet<String>,
    #[serde(default)]
    pub ignored_resource_groups: BTreeSet<String>,
    pub added_affinity: Option<CaseNodeAffinity>,
    pub hard_pod_affinity_weight: Option<i64>,
    #[serde(default)]
    pub ignore_preferred_terms_of_existing_pods: bool,
    pub system_default: Option<bool>,
    pub owner_selector: Option<Vec<CaseRequirement>>,
    pub default_constraints: Option<Vec<CaseSpread>>,
    pub filters: Option<Vec<String>>,
    pub min_candidate_nodes_percentage: Option<usize>,
    pub min_candidate_nodes_absolute: Option<usize>,
    pub offset: Option<usize>,
    pub nominated_node_status: Option<String>,
    pub nodes: Option<usize>,
    pub percentage: Option<usize>,
    pub count: Option<u32>,
    pub initial_ms: Option<u64>,
    pub max_ms: Option<u64>,
    pub scores: Option<Vec<i64>>,
    pub reverse: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CaseResource {
    pub name: String,
    pub weight: i64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CasePoint {
    pub utilization: i64,
    pub score: i64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CaseNode {
    pub name: String,
    #[serde(default)]
    allocatable: CaseAllocatable,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    taints: Vec<CaseTaint>,
    #[serde(default)]
    images: BTreeMap<String, i64>,
    #[serde(default)]
    unschedulable: bool,
    #[serde(default)]
    pub filtered_out: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseAllocatable {
    cpu_milli: Option<i64>,
    memory_bytes: Option<i64>,
    ephemeral_bytes: Option<i64>,
    pods: Option<i64>,
    #[serde(default)]
    scalar: BTreeMap<String, i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseTaint {
    key: String,
    #[serde(default)]
    value: String,
    effect: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CasePod {
    pub name: Option<String>,
    pub node: Option<String>,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    priority: i32,
    pub start_time: Option<i64>,
    #[serde(default)]
    pub terminating: bool,
    #[serde(default)]
    containers: Vec<CaseContainer>,
    #[serde(default)]
    init_containers: Vec<CaseContainer>,
    #[serde(default)]
    images: Vec<String>,
    #[serde(default)]
    overhead: CaseRequests,
    #[serde(default)]
    pod_level_requests: CaseRequests,
    #[serde(default)]
    tolerations: Vec<CaseToleration>,
    #[serde(default)]
    node_selector: Labels,
    #[serde(default)]
    node_name: Option<String>,
    #[serde(default)]
    node_affinity: CaseNodeAffinity,
    #[serde(default)]
    topology_spread: Vec<CaseSpread>,
    #[serde(default)]
    pod_affinity: CaseAffinity,
    #[serde(default)]
    pod_anti_affinity: CaseAffinity,
    pub nominated_node: Option<String>,
    preemption_policy: Option<String>,
    #[serde(default)]
    pub terminating_by_preemption: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseContainer {
    #[serde(default)]
    requests: CaseRequests,
    #[serde(default)]
    restart_always: bool,
    image: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseRequests {
    cpu_milli: Option<i64>,
    memory_bytes: Option<i64>,
    ephemeral_bytes: Option<i64>,
    #[serde(default)]
    scalar: BTreeMap<String, i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseToleration {
    #[serde(default)]
    key: String,
    operator: Option<String>,
    #[serde(default)]
    value: String,
    effect: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CaseRequirement {
    key: String,
    #[serde(alias = "operator")]
    op: String,
    #[serde(default)]
    values: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseNodeTerm {
    #[serde(default)]
    match_expressions: Vec<CaseRequirement>,
    #[serde(default)]
    match_fields: Vec<CaseRequirement>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CasePreferred<T> {
    weight: i64,
    term: T,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CaseNodeAffinity {
    required: Option<Vec<CaseNodeTerm>>,
    #[serde(default)]
    preferred: Vec<CasePreferred<CaseNodeTerm>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseAffinityTerm {
    #[serde(default)]
    topology_key: String,
    selector: Option<Vec<CaseRequirement>>,
    #[serde(default)]
    namespaces: BTreeSet<String>,
    namespace_selector: Option<Vec<CaseRequirement>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseAffinity {
    #[serde(default)]
    required: Vec<CaseAffinityTerm>,
    #[serde(default)]
    preferred: Vec<CasePreferred<CaseAffinityTerm>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CaseSpread {
    max_skew: i64,
    topology_key: String,
    when_unsatisfiable: String,
    selector: Option<Vec<CaseRequirement>>,
    min_domains: Option<i64>,
    node_affinity_policy: Option<String>,
    node_taints_policy: Option<String>,
    #[serde(default)]
    match_label_keys: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CaseBudget {
    #[serde(default)]
    namespace: String,
    selector: Option<Vec<CaseRequirement>>,
    allowed: i64,
    #[serde(default)]
    disrupted_pods: BTreeSet<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expected {
    /// By node, or in order.
    pub scores: Option<Value>,
    #[serde(default)]
    pub skip: bool,
    pub error: Option<String>,
    pub values: Option<Vec<(i64, i64)>>,
    pub status: Option<String>,
    pub insufficient: Option<BTreeSet<String>>,
    #[serde(default, with = "given")]
    pub prefilter_nodes: Option<Option<BTreeSet<String>>>,
    pub prefilter_status: Option<String>,
    pub status_by_node: Option<BTreeMap<String, String>>,
    pub candidates: Option<BTreeMap<String, ExpectedCandidate>>,
    pub node_any_of: Option<BTreeSet<String>>,
    pub victims: Option<BTreeSet<String>>,
    pub eligible: Option<bool>,
    pub limit: Option<usize>,
    pub backoff_ms: Option<u64>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectedCandidate {
    pub victims: BTreeSet<String>,
    pub pdb_violations: usize,
}

/// Tells a null from what is not given.
mod given {
    use serde::{Deserialize, Deserializer};

    pub(super) fn deserialize<'de, D, T>(input: D) -> Result<Option<Option<T>>, D::Error>
    where
        D: Deserializer<'de>,
        T: Deserialize<'de>,
    {
        Option::<T>::deserialize(input).map(Some)
    }
}

/// A word that the schema does not know.
#[derive(Debug, thiserror::Error)]
#[error("{what} {word:?} is not known")]
pub(super) struct UnknownWord {
    what: &'static str,
    word: String,
}

fn unknown(what: &'static str, word: &str) -> UnknownWord {
    UnknownWord { what, word: word.to_owned() }
}

type Read<T> = Result<T, UnknownWord>;

fn effect(name: &str) -> Read<TaintEffect> {
    TaintEffect::by_name(name).ok_or_else(|| unknown("taint effect", name))
}

impl CaseNode {
    pub(super) fn read(&self) -> Read<Node> {
        let has = &self.allocatable;
        let taints = self.taints.iter().map(|taint| {
            Ok(Taint {
                key: taint.key.clone(),
                value: taint.value.clone(),
                effect: effect(&taint.effect)?,
            })
        });
        Ok(Node {
            name: self.name.clone(),
            labels: self.labels.clone(),
            taints: taints.collect::<Read<_>>()?,
            unschedulable: self.unschedulable,
            allocatable: Amounts {
                cpu: has.cpu_milli,
                memory: has.memory_bytes,
                ephemeral: has.ephemeral_bytes,
                scalar: has.scalar.clone(),
            },
            pods: has.pods.unwrap_or(PODS_DEFAULT),
            images: self.images.clone(),
        })
    }
}

impl CaseRequests {
    fn read(&self) -> Amounts {
        Amounts {
            cpu: self.cpu_milli,
            memory: self.memory_bytes,
            ephemeral: self.ephemeral_bytes,
            scalar: self.scalar.clone(),
        }
    }
}

impl CaseRequirement {
    fn read(&self) -> Read<Requirement> {
        Ok(Requirement {
            key: self.key.clone(),
            operator: Operator::by_name(&self.op).ok_or_else(|| unknown("operator", &self.op))?,
            values: self.values.clone(),
        })
    }
}

pub(super) fn selector(requirements: Option<&Vec<CaseRequirement>>) -> Read<Option<Selector>> {
    requirements.map(|list| Ok(Selector(read_all(list)?))).transpose()
}

fn read_all(requirements: &[CaseRequirement]) -> Read<Vec<Requirement>> {
    requirements.iter().map(CaseRequirement::read).collect()
}

impl CaseNodeTerm {
    fn read(&self) -> Read<NodeTerm> {
        Ok(NodeTerm {
            expressions: read_all(&self.match_expressions)?,
            fields: read_all(&self.match_fields)?,
        })
    }
}

impl CaseNodeAffinity {
    pub(super) fn read(&self) -> Read<NodeAffinity> {
        let required = self.required.as_ref();
        let preferred = self.preferred.iter().map(|preference| {
            Ok(Weighted { weight: preference.weight, term: preference.term.read()? })
        });
        Ok(NodeAffinity {
            required: required
                .map(|terms| terms.iter().map(CaseNodeTerm::read).collect::<Read<_>>())
                .transpose()?,
            preferred: preferred.collect::<Read<_>>()?,
        })
    }
}

impl CaseAffinityTerm {
    fn read(&self) -> Read<AffinityTerm> {
        Ok(AffinityTerm {
            topology_key: self.topology_key.clone(),
            selector: selector(self.selector.as_ref())?,
            namespaces: self.namespaces.clone(),
            namespace_selector: selector(self.namespace_selector.as_ref())?,
        })
    }
}

impl CaseAffinity {
    fn read(&self) -> Read<Affinity> {
        let preferred = self.preferred.iter().map(|preference| {
            Ok(Weighted { weight: preference.weight, term: preference.term.read()? })
        });
        Ok(Affinity {
            required: self.required.iter().map(CaseAffinityTerm::read).collect::<Read<_>>()?,
            preferred: preferred.collect::<Read<_>>()?,
        })
    }
}

impl CaseSpread {
    pub(super) fn read(&self) -> Read<SpreadConstraint> {
        let action = match self.when_unsatisfiable.as_str() {
            "DoNotSchedule" => UnsatisfiableAction::DoNotSchedule,
            "ScheduleAnyway" => UnsatisfiableAction::ScheduleAnyway,
            other => return Err(unknown("whenUnsatisfiable", other)),
        };
        let policy = |name: Option<&String>, default| match name.map(String::as_str) {
            None => Ok(default),
            Some("Honor") => Ok(InclusionPolicy::Honor),
            Some("Ignore") => Ok(InclusionPolicy::Ignore),
            Some(other) => Err(unknown("inclusion policy", other)),
        };
        let selector = selector(self.selector.as_ref())?;
        let plain = SpreadConstraint::new(self.max_skew, &self.topology_key, action, selector);
        Ok(SpreadConstraint {
            min_domains: self.min_domains.unwrap_or(plain.min_domains),
            node_affinity_policy: policy(
                self.node_affinity_policy.as_ref(),
                plain.node_affinity_policy,
            )?,
            node_taints_policy: policy(self.node_taints_policy.as_ref(), plain.node_taints_policy)?,
            match_label_keys: self.match_label_keys.clone(),
            ..plain
        })
    }
}

impl CaseBudget {
    pub(super) fn read(&self) -> Read<DisruptionBudget> {
        Ok(DisruptionBudget {
            namespace: self.namespace.clone(),
            selector: selector(self.selector.as_ref())?,
            allowed: self.allowed,
            disrupted: self.disrupted_pods.clone(),
        })
    }
}

impl CasePod {
    pub(super) fn read(&self) -> Read<Pod> {
        let container = |container: &CaseContainer| Container {
            image: container.image.clone(),
            requests: container.requests.read(),
            host_ports: Vec::new(),
        };
        let tolerations = self.tolerations.iter().map(|toleration| {
            Ok(Toleration {
                key: toleration.key.clone(),
                operator: match toleration.operator.as_deref() {
                    None | Some("" | "Equal") => TolerationOperator::Equal,
                    Some("Exists") => TolerationOperator::Exists,
                    Some(other) => return Err(unknown("operator", other)),
                },
                value: toleration.value.clone(),
                effect: match toleration.effect.as_deref() {
                    None | Some("") => None,
                    Some(name) => Some(effect(name)?),
                },
            })
        });
        Ok(Pod {
            namespace: self.namespace.clone(),
            labels: self.labels.clone(),
            priority: self.priority,
            preemption: match self.preemption_policy.as_deref() {
                None | Some("PreemptLowerPriority") => PreemptionPolicy::LowerPriority,
                Some("Never") => PreemptionPolicy::Never,
                Some(other) => return Err(unknown("preemption policy", other)),
            },
            containers: self.containers.iter().map(container).collect(),
            init_containers: self
                .init_containers
                .iter()
                .map(|init| InitContainer {
                    container: container(init),
                    restart_always: init.restart_always,
                })
                .collect(),
            // Where an image comes from makes no difference.
            volume_images: self.images.clone(),
            overhead: self.overhead.read(),
            pod_level: self.pod_level_requests.read(),
            node_name: self.node_name.clone(),
            node_selector: self.node_selector.clone(),
            node_affinity: self.node_affinity.read()?,
            tolerations: tolerations.collect::<Read<_>>()?,
            affinity: self.pod_affinity.read()?,
            anti_affinity: self.pod_anti_affinity.read()?,
            spread: self.topology_spread.iter().map(CaseSpread::read).collect::<Read<_>>()?,
            owner_selector: Selector::default(),
            volume_count: 0,
        })
    }
}
