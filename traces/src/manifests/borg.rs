//! A pod in Borg's terms, as far as they go: limits, hard constraints, different machines, bands.
//!
//! - The limit is what kube-scheduler would count (`request`), GPUs of either make as devices.
//! - The node selector and a required node affinity of one term become hard constraints on the machine's
//!   attributes, where a predicate says the same thing about every node of the dump.
//! - Required anti-affinity of a pod to its own kind becomes "different machines" on the host, and at most
//!   one in a power domain on the zone; so do host ports on the host. What it forbids towards other jobs
//!   is lost.
//! - All else (affinity, preferences, spread constraints, tolerations) Borg's policies do not see.
//! - Priorities below 0 are in the free band, 0 is best-effort batch, above 0 production, and from
//!   2,000,000,000 on (the system's classes) monitoring. Inside a band the cell's priorities keep their
//!   order, from the band's lowest number on; where a band has fewer numbers than there are priorities,
//!   neighbours share one.

use std::collections::{BTreeMap, BTreeSet};

use cell::kube::{
    AffinityTerm, HOSTNAME, NODE_NAME_FIELD, Node, NodeTerm, Operator, Pod, Requirement, ZONE,
};
use cell::{
    Bytes, Constraint, DomainKind, GPU_DEVICE, GpuRequest, MilliCpu, MilliGpu, Predicate, Priority,
    Resources, Spread, Strength, Unstated,
};

use super::fault::Fault;
use super::node::{gpu_count, other_resources, unsigned};
use super::quantity::AMOUNT_END;

/// What a job's pods are to Borg.
#[derive(Debug)]
pub(super) struct InBorg {
    /// The limit of each task.
    pub(super) limit: Resources,
    /// Hard constraints.
    pub(super) constraints: Vec<Constraint>,
    /// At most one of them on a machine.
    pub(super) different_machines: bool,
    /// Limits on the spread.
    pub(super) spread: Vec<Spread>,
    /// What of the pod's rules Borg's policies do not see.
    pub(super) unseen_rules: Vec<&'static str>,
    /// Resources that they do not count.
    pub(super) unseen_resources: Vec<String>,
    /// Whether it asks for more GPUs than a machine may have.
    pub(super) gpus_clipped: bool,
}

/// What the labels of all nodes say about which constraints are exact.
#[derive(Debug, Default)]
pub(super) struct LabelFacts {
    /// Keys that some node has with an empty value, which a constraint cannot tell from absence.
    empty_somewhere: BTreeSet<String>,
}

impl LabelFacts {
    pub(super) fn of(nodes: &[Node]) -> Self {
        let labels = nodes.iter().flat_map(|node| &node.labels);
        let empty = labels.filter(|(_, value)| value.is_empty());
        Self { empty_somewhere: empty.map(|(key, _)| key.clone()).collect() }
    }
}

/// Says in Borg's terms what a pod asks for.
pub(super) fn in_borg(pod: &Pod, facts: &LabelFacts) -> Result<InBorg, Fault> {
    let request = pod.requests();
    for (name, amount) in
        [("cpu", request.cpu), ("memory", request.memory), ("ephemeral-storage", request.ephemeral)]
    {
        if amount.is_some_and(|amount| amount >= AMOUNT_END) {
            return Err(Fault::of("containers", format_args!("their {name} in sum is too large")));
        }
    }
    let (gpu_count, gpus_clipped) = gpu_count(&request);
    let gpu = match gpu_count {
        0 => GpuRequest::NONE,
        count => GpuRequest { count, milli_each: GPU_DEVICE },
    };
    debug_assert!(gpu.milli_each <= MilliGpu(1000));
    let mut unseen = Vec::new();
    let mut constraints = Vec::new();
    for (key, value) in &pod.node_selector {
        constraints
            .extend(hard(&Requirement::is_in(key, [value.clone()]), facts).into_iter().flatten());
    }
    match pod.node_affinity.required.as_deref() {
        None => {}
        Some([term]) => match of_term(term, facts) {
            Some(more) => constraints.extend(more),
            None => unseen.push("node affinity"),
        },
        Some(_) => unseen.push("node affinity"),
    }
    if let Some(name) = &pod.node_name {
        constraints.extend(
            hard(&Requirement::is_in(NODE_NAME_FIELD, [name.clone()]), facts).into_iter().flatten(),
        );
    }
    constraints.sort();
    constraints.dedup();
    let on_ports = pod
        .containers
        .iter()
        .chain(pod.init_containers.iter().map(|init| &init.container))
        .any(|container| !container.host_ports.is_empty());
    let apart_by = |key: &str| {
        pod.anti_affinity.required.iter().any(|term| term.topology_key == key && is_own(term, pod))
    };
    if on_ports {
        unseen.push("host ports");
    }
    if !pod.node_affinity.preferred.is_empty() {
        unseen.push("preferred node affinity");
    }
    if !pod.affinity.required.is_empty() || !pod.affinity.preferred.is_empty() {
        unseen.push("pod affinity");
    }
    let is_said = |term: &AffinityTerm| {
        (term.topology_key == HOSTNAME || term.topology_key == ZONE) && is_own(term, pod)
    };
    if !pod.anti_affinity.required.iter().all(is_said) || !pod.anti_affinity.preferred.is_empty() {
        unseen.push("pod anti-affinity");
    }
    if !pod.spread.is_empty() {
        unseen.push("topology spread constraints");
    }
    Ok(InBorg {
        limit: Resources {
            cpu: MilliCpu(unsigned(request.cpu)),
            ram: Bytes(unsigned(request.memory)),
            disk: Bytes(unsigned(request.ephemeral)),
            gpu,
            unstated: Unstated { cpu: request.cpu.is_none(), ram: request.memory.is_none() },
        },
        constraints,
        different_machines: on_ports || apart_by(HOSTNAME),
        spread: if apart_by(ZONE) {
            vec![Spread { domain: DomainKind::Power, max_per_domain: Some(1) }]
        } else {
            Vec::new()
        },
        unseen_rules: unseen,
        unseen_resources: other_resources(&request).map(str::to_owned).collect(),
        gpus_clipped,
    })
}

/// Whether a term is about the pod's own kind.
fn is_own(term: &AffinityTerm, pod: &Pod) -> bool {
    let in_namespace = term.namespaces.contains(&pod.namespace)
        || (term.namespaces.is_empty() && term.namespace_selector.is_none());
    in_namespace && term.selector.as_ref().is_some_and(|selector| selector.matches(&pod.labels))
}

fn of_term(term: &NodeTerm, facts: &LabelFacts) -> Option<Vec<Constraint>> {
    // A term that says nothing matches no node, which no constraint says.
    if term.is_empty() || !term.expressions.iter().all(Requirement::is_valid) {
        return None;
    }
    let all = term.expressions.iter().chain(&term.fields);
    let constraints: Option<Vec<_>> = all.map(|requirement| hard(requirement, facts)).collect();
    constraints.map(|constraints| constraints.into_iter().flatten().collect())
}

/// The constraints that hold where a requirement is met; `None` where there are none such. To a
/// constraint an absent attribute is an empty text, and to a requirement it is not.
fn hard(requirement: &Requirement, facts: &LabelFacts) -> Option<Vec<Constraint>> {
    let values = || requirement.values.iter();
    let has_empty = values().any(String::is_empty);
    let bound = || requirement.values.first()?.parse::<i64>().ok();
    let predicates = match requirement.operator {
        Operator::In => {
            let listed = match requirement.values.as_slice() {
                [value] => Predicate::Equal(value.clone()),
                _ => Predicate::In(values().cloned().collect()),
            };
            if has_empty { vec![Predicate::Exists, listed] } else { vec![listed] }
        }
        Operator::NotIn if has_empty && facts.empty_somewhere.contains(&requirement.key) => {
            return None;
        }
        // An empty value that no node has need not be excluded.
        Operator::NotIn => {
            values().filter(|v| !v.is_empty()).cloned().map(Predicate::NotEqual).collect()
        }
        Operator::Exists => vec![Predicate::Exists],
        Operator::DoesNotExist if facts.empty_somewhere.contains(&requirement.key) => return None,
        Operator::DoesNotExist => vec![Predicate::Equal(String::new())],
        Operator::Gt => vec![Predicate::Greater(bound()?)],
        Operator::Lt => vec![Predicate::Less(bound()?)],
    };
    let constraint = |predicate| Constraint {
        attribute: requirement.key.clone(),
        predicate,
        strength: Strength::Hard,
    };
    Some(predicates.into_iter().map(constraint).collect())
}

/// The least priority of Kubernetes' system classes, above all that users may define.
const SYSTEM_PRIORITY: i32 = 2_000_000_000;

/// Borg's priorities for these of Kubernetes.
pub(super) fn priorities(of: &BTreeSet<i32>) -> BTreeMap<i32, Priority> {
    let bands: [(Vec<i32>, u16, u16); 4] = [
        (of.range(..0).copied().collect(), 0, 99),
        (of.range(0..=0).copied().collect(), 100, 115),
        (of.range(1..SYSTEM_PRIORITY).copied().collect(), 120, 359),
        (of.range(SYSTEM_PRIORITY..).copied().collect(), 360, 450),
    ];
    let mut priorities = BTreeMap::new();
    for (values, first, last) in bands {
        let width = usize::from(last - first);
        let most = values.len().saturating_sub(1);
        for (rank, value) in values.into_iter().enumerate() {
            let step = if most <= width { rank } else { rank * width / most };
            let number = first + u16::try_from(step).expect("at most the band's width");
            priorities.insert(value, Priority::new(number).expect("inside the band"));
        }
    }
    priorities
}

#[cfg(test)]
mod tests {
    use super::*;
    use cell::Band;
    use proptest::prelude::*;

    #[test]
    fn priorities_fall_into_bands_and_keep_their_order() {
        let of = [-1000, -1, 0, 1, 1000, 1_000_000_000, 2_000_000_000, 2_000_001_000];
        let numbers: Vec<u16> = priorities(&of.into()).values().map(|p| p.get()).collect();
        assert_eq!(numbers, [0, 1, 100, 120, 121, 122, 360, 361]);
    }

    proptest! {
        #[test]
        fn priorities_stay_in_order_and_in_their_bands(of in prop::collection::btree_set(-500..500, 0..700)) {
            let priorities = priorities(&of);
            prop_assert_eq!(priorities.len(), of.len());
            prop_assert!(priorities.values().is_sorted());
            for (value, priority) in priorities {
                let band = match value {
                    ..0 => Band::Free,
                    0 => Band::Batch,
                    _ => Band::Production,
                };
                prop_assert_eq!(priority.band(), band);
            }
        }

        #[test]
        fn a_constraint_says_what_the_requirement_says(
            operator in 0_usize..6,
            values in prop::collection::vec(prop::sample::select(vec!["", "a", "b", "3", "-7"]), 0..3),
            nodes in prop::collection::vec(prop::sample::select(vec![None, Some(""), Some("a"), Some("b"), Some("5")]), 1..4),
        ) {
            let operator = [Operator::In, Operator::NotIn, Operator::Exists, Operator::DoesNotExist,
                Operator::Gt, Operator::Lt][operator];
            let values = values.into_iter().map(str::to_owned).collect();
            let requirement = Requirement { key: "k".to_owned(), operator, values };
            prop_assume!(requirement.is_valid());
            let nodes: Vec<Node> = nodes.into_iter().map(|value: Option<&str>| {
                let labels = value.map(|v| ("k".to_owned(), v.to_owned())).into_iter().collect();
                Node { labels, ..Node::default() }
            }).collect();
            if let Some(constraints) = hard(&requirement, &LabelFacts::of(&nodes)) {
                for node in &nodes {
                    let holds = constraints.iter().all(|constraint| constraint.holds(&node.labels));
                    let met = requirement.is_met(node.labels.get("k").map(String::as_str));
                    prop_assert_eq!(holds, met, "{:?} on {:?}", requirement, node.labels);
                }
            }
        }
    }
}
