//! A pod's spec, or that of a template, as far as placing goes.
//!
//! What the API server fills in is filled in, since templates in a dump are not defaulted: requests from
//! limits, host ports of pods in the host's network, the defaults of spread constraints, the labels that
//! `matchLabelKeys` name. What only a live pod has stays absent in a template: `pod-template-hash`,
//! `controller-revision-hash`, `statefulset.kubernetes.io/pod-name`, `apps.kubernetes.io/pod-index`, the
//! tolerations of admission plugins and the containers that webhooks add.

use std::collections::BTreeMap;

use cell::kube::{
    Affinity, AffinityTerm, Amounts, Container, HostPort, InclusionPolicy, InitContainer, Labels,
    NodeAffinity, Operator, Pod, PreemptionPolicy, SpreadConstraint, TaintEffect, Toleration,
    TolerationOperator, UnsatisfiableAction, Weighted, sum_of_containers,
};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::fault::{Fault, each};
use super::quantity;
use super::selector::{label_selector, merge_label_keys, node_term};
use crate::error::quoted;

/// The scheduler that places pods which name none.
const DEFAULT_SCHEDULER: &str = "default-scheduler";
/// All addresses of a host.
const ALL_ADDRESSES: &str = "0.0.0.0";

/// A pod, and what its spec says besides where it may go.
#[derive(Clone, Debug)]
pub(super) struct Template {
    /// The pod; its priority and its owner's selector are yet to be filled in, and its node's name is.
    pub(super) pod: Pod,
    /// The priority, where it is resolved.
    pub(super) priority: Option<i32>,
    /// The name of its priority class.
    pub(super) priority_class: Option<String>,
    /// Whether it may preempt, where it says so itself.
    pub(super) preemption: Option<PreemptionPolicy>,
    /// Whether a scheduling gate holds it back.
    pub(super) is_gated: bool,
    /// Another scheduler that it wants.
    pub(super) other_scheduler: Option<String>,
    /// How many resource claims it has.
    pub(super) claim_count: usize,
    /// Whether it is in its host's network.
    pub(super) on_host_network: bool,
}

/// Reads a pod's spec; the labels are those that its pods will have.
pub(super) fn template(
    spec: &core::PodSpec,
    labels: &Labels,
    namespace: &str,
) -> Result<Template, Fault> {
    if spec.containers.is_empty() {
        return Err(Fault::of("containers", "a pod has at least one"));
    }
    let on_host = spec.host_network == Some(true);
    let containers =
        each("containers", &spec.containers, |container| read_container(container, on_host))?;
    let init_containers = each("initContainers", spec.init_containers.iter().flatten(), |init| {
        let restart_always = init.restart_policy.as_deref() == Some("Always");
        let mut container = read_container(init, on_host)?;
        if !restart_always {
            // Its ports are free again when the pod's own containers start.
            container.host_ports.clear();
        }
        Ok(InitContainer { container, restart_always })
    })?;
    let pod_level = match &spec.resources {
        None => Amounts::default(),
        Some(resources) => read_pod_level(resources, &containers, &init_containers)
            .map_err(|fault| fault.within("resources"))?,
    };
    let affinity = spec.affinity.as_ref();
    let volumes = || spec.volumes.iter().flatten();
    let pod = Pod {
        namespace: namespace.to_owned(),
        labels: labels.clone(),
        priority: 0,
        preemption: PreemptionPolicy::default(),
        containers,
        init_containers,
        volume_images: volumes()
            .filter_map(|volume| volume.image.as_ref()?.reference.clone())
            .collect(),
        overhead: amounts(spec.overhead.as_ref()).map_err(|fault| fault.within("overhead"))?,
        pod_level,
        node_name: spec.node_name.clone().filter(|name| !name.is_empty()),
        node_selector: spec.node_selector.clone().unwrap_or_default(),
        node_affinity: match affinity.and_then(|affinity| affinity.node_affinity.as_ref()) {
            None => NodeAffinity::default(),
            Some(of) => node_affinity(of).map_err(|fault| fault.within("affinity.nodeAffinity"))?,
        },
        tolerations: each("tolerations", spec.tolerations.iter().flatten(), toleration)?,
        affinity: match affinity.and_then(|affinity| affinity.pod_affinity.as_ref()) {
            None => Affinity::default(),
            Some(of) => pod_affinity(
                of.required_during_scheduling_ignored_during_execution.as_deref(),
                of.preferred_during_scheduling_ignored_during_execution.as_deref(),
                labels,
            )
            .map_err(|fault| fault.within("affinity.podAffinity"))?,
        },
        anti_affinity: match affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref()) {
            None => Affinity::default(),
            Some(of) => pod_affinity(
                of.required_during_scheduling_ignored_during_execution.as_deref(),
                of.preferred_during_scheduling_ignored_during_execution.as_deref(),
                labels,
            )
            .map_err(|fault| fault.within("affinity.podAntiAffinity"))?,
        },
        spread: each(
            "topologySpreadConstraints",
            spec.topology_spread_constraints.iter().flatten(),
            spread,
        )?,
        owner_selector: cell::kube::Selector::default(),
        volume_count: u32::try_from(volumes().filter(|volume| is_looked_at(volume)).count())
            .unwrap_or(u32::MAX),
    };
    Ok(Template {
        pod,
        priority: spec.priority,
        priority_class: spec.priority_class_name.clone().filter(|name| !name.is_empty()),
        preemption: match &spec.preemption_policy {
            None => None,
            Some(name) => Some(preemption(name).map_err(|fault| fault.within("preemptionPolicy"))?),
        },
        is_gated: spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()),
        other_scheduler: spec
            .scheduler_name
            .clone()
            .filter(|name| !name.is_empty() && name != DEFAULT_SCHEDULER),
        claim_count: spec.resource_claims.as_ref().map_or(0, Vec::len),
        on_host_network: on_host,
    })
}

/// A preemption policy by its name.
pub(super) fn preemption(name: &str) -> Result<PreemptionPolicy, Fault> {
    match name {
        "" | "PreemptLowerPriority" => Ok(PreemptionPolicy::LowerPriority),
        "Never" => Ok(PreemptionPolicy::Never),
        _ => Err(unknown(name, "PreemptLowerPriority or Never")),
    }
}

/// Amounts by the resource's name: CPU in milli-cores, others in whole units. Names that kube-scheduler
/// does not count (`pods`, `storage`) are left out.
pub(super) fn amounts(quantities: Option<&BTreeMap<String, Quantity>>) -> Result<Amounts, Fault> {
    let mut amounts = Amounts::default();
    for (name, Quantity(text)) in quantities.into_iter().flatten() {
        let read = if name == "cpu" { quantity::milli(text) } else { quantity::whole(text) };
        let amount = read.map_err(|fault| fault.under(name))?;
        match name.as_str() {
            "cpu" => amounts.cpu = Some(amount),
            "memory" => amounts.memory = Some(amount),
            "ephemeral-storage" => amounts.ephemeral = Some(amount),
            _ if name.contains('/')
                || name.starts_with("hugepages-")
                || name.starts_with("attachable-volumes-") =>
            {
                amounts.scalar.insert(name.clone(), amount);
            }
            _ => {}
        }
    }
    Ok(amounts)
}

/// A taint's effect by its name.
pub(super) fn taint_effect(name: &str) -> Result<TaintEffect, Fault> {
    TaintEffect::by_name(name)
        .ok_or_else(|| unknown(name, "NoSchedule, PreferNoSchedule or NoExecute").within("effect"))
}

fn unknown(found: &str, expected: &str) -> Fault {
    Fault::new(format_args!("{} is not {expected}", quoted(found)))
}

/// What is requested; where only a limit is stated, that much.
fn requests(resources: &core::ResourceRequirements) -> Result<(Amounts, Amounts), Fault> {
    let requests = amounts(resources.requests.as_ref()).map_err(|f| f.within("requests"))?;
    let limits = amounts(resources.limits.as_ref()).map_err(|f| f.within("limits"))?;
    Ok((requests, limits))
}

fn or(amounts: Amounts, others: Amounts) -> Amounts {
    let mut scalar = others.scalar;
    scalar.extend(amounts.scalar);
    Amounts {
        cpu: amounts.cpu.or(others.cpu),
        memory: amounts.memory.or(others.memory),
        ephemeral: amounts.ephemeral.or(others.ephemeral),
        scalar,
    }
}

/// Requests at the level of the pod. As the API server's defaulting has it, a resource with only a limit
/// there is requested by the pod's containers' sum if any of them states it, else by that limit. Only
/// CPU, memory and huge pages can be stated there.
fn read_pod_level(
    resources: &core::ResourceRequirements,
    containers: &[Container],
    init_containers: &[InitContainer],
) -> Result<Amounts, Fault> {
    let (stated_there, mut limits) = requests(resources)?;
    let sum = sum_of_containers(containers, init_containers, |one| one.requests.clone());
    limits.cpu = limits.cpu.filter(|_| sum.cpu.is_none());
    limits.memory = limits.memory.filter(|_| sum.memory.is_none());
    limits.scalar.retain(|name, _| !sum.scalar.contains_key(name));
    let mut pod_level = or(stated_there, limits);
    pod_level.ephemeral = None;
    pod_level.scalar.retain(|name, _| name.starts_with("hugepages-"));
    Ok(pod_level)
}

fn read_container(container: &core::Container, on_host: bool) -> Result<Container, Fault> {
    let requests = match &container.resources {
        None => Amounts::default(),
        Some(resources) => {
            let (requests, limits) =
                requests(resources).map_err(|fault| fault.within("resources"))?;
            or(requests, limits)
        }
    };
    let ports = each("ports", container.ports.iter().flatten(), |port| host_port(port, on_host))?;
    let image = container.image.clone().filter(|image| !image.is_empty());
    Ok(Container { image, requests, host_ports: ports.into_iter().flatten().collect() })
}

fn host_port(port: &core::ContainerPort, on_host: bool) -> Result<Option<HostPort>, Fault> {
    let (key, wanted) = match port.host_port {
        Some(number) if number != 0 => ("hostPort", number),
        _ if on_host => ("containerPort", port.container_port),
        _ => return Ok(None),
    };
    let number = u16::try_from(wanted)
        .ok()
        .filter(|&number| number != 0)
        .ok_or_else(|| Fault::of(key, format_args!("{wanted} is not in 1..=65535")))?;
    let protocol = match port.protocol.as_deref() {
        None | Some("") => "TCP",
        Some(name @ ("TCP" | "UDP" | "SCTP")) => name,
        Some(other) => return Err(unknown(other, "TCP, UDP or SCTP").within("protocol")),
    };
    let ip = port.host_ip.as_deref().filter(|ip| !ip.is_empty()).unwrap_or(ALL_ADDRESSES);
    Ok(Some(HostPort { ip: ip.to_owned(), protocol: protocol.to_owned(), port: number }))
}

fn node_affinity(affinity: &core::NodeAffinity) -> Result<NodeAffinity, Fault> {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let required = match &affinity.required_during_scheduling_ignored_during_execution {
        None => None,
        Some(selector) => Some(
            each("nodeSelectorTerms", &selector.node_selector_terms, node_term)
                .map_err(|fault| fault.within(REQUIRED))?,
        ),
    };
    let preferred = affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten();
    let preferred = each(PREFERRED, preferred, |preferred| {
        let term = node_term(&preferred.preference).map_err(|fault| fault.within("preference"))?;
        Ok(Weighted { weight: weight(preferred.weight)?, term })
    })?;
    Ok(NodeAffinity { required, preferred })
}

fn pod_affinity(
    required: Option<&[core::PodAffinityTerm]>,
    preferred: Option<&[core::WeightedPodAffinityTerm]>,
    labels: &Labels,
) -> Result<Affinity, Fault> {
    let required = each(
        "requiredDuringSchedulingIgnoredDuringExecution",
        required.into_iter().flatten(),
        |term| affinity_term(term, labels),
    )?;
    let preferred = each(
        "preferredDuringSchedulingIgnoredDuringExecution",
        preferred.into_iter().flatten(),
        |preferred| {
            let term = affinity_term(&preferred.pod_affinity_term, labels)
                .map_err(|fault| fault.within("podAffinityTerm"))?;
            Ok(Weighted { weight: weight(preferred.weight)?, term })
        },
    )?;
    Ok(Affinity { required, preferred })
}

fn affinity_term(term: &core::PodAffinityTerm, labels: &Labels) -> Result<AffinityTerm, Fault> {
    let selector = |key: &str, selector: Option<&_>| {
        selector.map(label_selector).transpose().map_err(|fault| fault.within(key))
    };
    let mut pods = selector("labelSelector", term.label_selector.as_ref())?;
    let keys = |keys: &Option<Vec<String>>| keys.clone().unwrap_or_default();
    merge_label_keys(&mut pods, labels, &keys(&term.match_label_keys), Operator::In);
    merge_label_keys(&mut pods, labels, &keys(&term.mismatch_label_keys), Operator::NotIn);
    Ok(AffinityTerm {
        topology_key: topology_key(&term.topology_key)?,
        selector: pods,
        namespaces: term.namespaces.iter().flatten().cloned().collect(),
        namespace_selector: selector("namespaceSelector", term.namespace_selector.as_ref())?,
    })
}

fn spread(constraint: &core::TopologySpreadConstraint) -> Result<SpreadConstraint, Fault> {
    let selector = constraint.label_selector.as_ref().map(label_selector).transpose();
    let action = match constraint.when_unsatisfiable.as_str() {
        "DoNotSchedule" => UnsatisfiableAction::DoNotSchedule,
        "ScheduleAnyway" => UnsatisfiableAction::ScheduleAnyway,
        other => {
            let expected = "DoNotSchedule or ScheduleAnyway";
            return Err(unknown(other, expected).within("whenUnsatisfiable"));
        }
    };
    let at_least_one = |key: &str, number: i32| match i64::from(number) {
        number @ 1.. => Ok(number),
        other => Err(Fault::of(key, format_args!("{other} is not above 0"))),
    };
    let policy = |key: &str, name: &Option<String>, default| match name.as_deref() {
        None => Ok(default),
        Some("Honor") => Ok(InclusionPolicy::Honor),
        Some("Ignore") => Ok(InclusionPolicy::Ignore),
        Some(other) => Err(unknown(other, "Honor or Ignore").within(key)),
    };
    Ok(SpreadConstraint {
        max_skew: at_least_one("maxSkew", constraint.max_skew)?,
        topology_key: topology_key(&constraint.topology_key)?,
        when_unsatisfiable: action,
        selector: selector.map_err(|fault| fault.within("labelSelector"))?,
        min_domains: at_least_one("minDomains", constraint.min_domains.unwrap_or(1))?,
        node_affinity_policy: policy(
            "nodeAffinityPolicy",
            &constraint.node_affinity_policy,
            InclusionPolicy::Honor,
        )?,
        node_taints_policy: policy(
            "nodeTaintsPolicy",
            &constraint.node_taints_policy,
            InclusionPolicy::Ignore,
        )?,
        match_label_keys: constraint.match_label_keys.clone().unwrap_or_default(),
    })
}

fn topology_key(key: &str) -> Result<String, Fault> {
    if key.is_empty() {
        return Err(Fault::of("topologyKey", "must not be empty"));
    }
    Ok(key.to_owned())
}

fn weight(weight: i32) -> Result<i64, Fault> {
    match weight {
        1..=100 => Ok(i64::from(weight)),
        _ => Err(Fault::of("weight", format_args!("{weight} is not in 1..=100"))),
    }
}

fn toleration(toleration: &core::Toleration) -> Result<Toleration, Fault> {
    let key = toleration.key.clone().unwrap_or_default();
    let operator = match toleration.operator.as_deref() {
        None | Some("" | "Equal") => TolerationOperator::Equal,
        Some("Exists") => TolerationOperator::Exists,
        Some(other) => return Err(unknown(other, "Equal or Exists").within("operator")),
    };
    if key.is_empty() && operator == TolerationOperator::Equal {
        return Err(Fault::of("operator", "a toleration without a key needs Exists"));
    }
    let effect = match toleration.effect.as_deref() {
        None | Some("") => None,
        Some(name) => Some(taint_effect(name)?),
    };
    Ok(Toleration { key, operator, value: toleration.value.clone().unwrap_or_default(), effect })
}

/// Whether one of the volume plugins (VolumeRestrictions, NodeVolumeLimits, VolumeBinding, VolumeZone)
/// would look at it.
fn is_looked_at(volume: &core::Volume) -> bool {
    volume.persistent_volume_claim.is_some()
        || volume.ephemeral.is_some()
        || volume.gce_persistent_disk.is_some()
        || volume.aws_elastic_block_store.is_some()
        || volume.azure_disk.is_some()
        || volume.cinder.is_some()
        || volume.iscsi.is_some()
        || volume.rbd.is_some()
        || volume.portworx_volume.is_some()
        || volume.vsphere_volume.is_some()
}
