//! What the scheduler knows of a cluster: its nodes and the pods on them, with sums kept up to date.
//!
//! Pods that differ in nothing a placement reads share a [`Template`]. Nodes stand in the order in which
//! kube-scheduler lists them (§2.1): zone by zone in turn. Everything that changes is written to journals
//! (one for the cluster, one for each template), by which indexes catch up.

use std::collections::{BTreeMap, BTreeSet};

use cell::kube::{DisruptionBudget, Labels, Node, Operator, Pod, REGION, Selector, ZONE};

use super::requests;
use crate::equivalence::mix;

/// A position in the list of nodes.
pub type NodeIndex = usize;
/// A pod, by its number in order of creation.
pub type PodIndex = usize;
/// A template, by its number.
pub type TemplateIndex = usize;
/// A rule about nodes that is no Kubernetes affinity, by its number.
pub(crate) type RuleIndex = usize;
/// The name of a scalar resource, by its number.
pub(crate) type ScalarIndex = usize;

/// Amounts by resource, dense.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Vector {
    pub cpu: i64,
    pub memory: i64,
    pub ephemeral: i64,
    /// By [`ScalarIndex`]; what is beyond the end is 0.
    pub scalar: Vec<i64>,
}

impl Vector {
    pub(crate) fn scalar(&self, index: ScalarIndex) -> i64 {
        self.scalar.get(index).copied().unwrap_or(0)
    }

    pub(crate) fn change(&mut self, template: &Template, sign: i64) {
        self.cpu += sign * template.cpu;
        self.memory += sign * template.memory;
        self.ephemeral += sign * template.ephemeral;
        for &(index, amount) in &template.scalar {
            if self.scalar.len() <= index {
                self.scalar.resize(index + 1, 0);
            }
            self.scalar[index] += sign * amount;
        }
    }
}

/// What pods that are alike have in common.
#[derive(Clone, Debug)]
pub struct Template {
    /// What was asked for.
    pub pod: Pod,
    /// Whether these are being deleted.
    pub is_terminating: bool,
    /// A rule beyond node affinity that they are under.
    pub(crate) rule: Option<RuleIndex>,
    pub(crate) cpu: i64,
    pub(crate) memory: i64,
    pub(crate) ephemeral: i64,
    /// Every scalar resource that is mentioned, if as 0.
    pub(crate) scalar: Vec<(ScalarIndex, i64)>,
    /// CPU and memory with the scores' defaults.
    pub(crate) non_zero: [i64; 2],
    /// How many of its pods are on each node.
    pub(crate) on_node: BTreeMap<NodeIndex, u32>,
    /// The nodes that its pods came to and went from, in order: +1 and -1.
    pub(crate) journal: Vec<(NodeIndex, i64)>,
}

/// A node and what is on it.
#[derive(Clone, Debug)]
pub(crate) struct NodeState {
    pub node: Node,
    pub allocatable: Vector,
    /// Sum of plain requests.
    pub used: Vector,
    /// Sum of CPU and memory with the scores' defaults.
    pub used_non_zero: [i64; 2],
    /// In kube-scheduler's order, see [`Cluster::unbind`].
    pub pods: Vec<PodIndex>,
    /// Pods that await this node after a preemption.
    pub nominated: Vec<PodIndex>,
    /// Its place in the list that the cluster was made from.
    pub source: usize,
    /// Seeds the ties of this node: of its name, not of its place in the list.
    pub tie: u64,
}

/// A pod.
#[derive(Clone, Debug)]
pub struct PodState {
    /// Its name.
    pub name: String,
    /// What it is like.
    pub template: TemplateIndex,
    /// Where it runs.
    pub node: Option<NodeIndex>,
    /// Which node awaits it after a preemption.
    pub nominated: Option<NodeIndex>,
    /// When it started; larger is later; `None`: it has not.
    pub start: Option<i64>,
    /// Whether it is being deleted because of a preemption.
    pub is_terminating_by_preemption: bool,
}

/// The values of a node label: which nodes are together.
#[derive(Clone, Debug)]
pub(crate) struct Topology {
    /// By node: the number of its value, or [`NO_DOMAIN`].
    pub domain_of: Vec<u32>,
    pub domain_count: usize,
    /// Whether no two nodes share a value.
    pub is_single: bool,
}

/// Stands for the domain of a node without the label.
pub(crate) const NO_DOMAIN: u32 = u32::MAX;

/// A list of templates: those that may matter to a pod for the same reason.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ListName {
    /// All of them.
    All,
    /// Those with this label.
    WithLabel(String, String),
    /// Those with an affinity term that selects nothing without this label.
    SelectingLabel(String, String),
    /// Those with affinity terms that are in no list of the kind above.
    Selecting,
}

/// The number of a list.
pub(crate) type ListIndex = usize;

/// A label without which a selector selects nothing.
pub(crate) fn required_label(selector: &Selector) -> Option<(String, String)> {
    selector.0.iter().find_map(|requirement| match requirement.values.as_slice() {
        [value] if requirement.operator == Operator::In => {
            Some((requirement.key.clone(), value.clone()))
        }
        _ => None,
    })
}

/// Nodes, pods, and what they sum up to.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub(crate) nodes: Vec<NodeState>,
    pub(crate) templates: Vec<Template>,
    pub(crate) pods: Vec<PodState>,
    pub(crate) namespaces: BTreeMap<String, Labels>,
    pub(crate) budgets: Vec<DisruptionBudget>,
    by_content: BTreeMap<(Pod, bool, Option<RuleIndex>), TemplateIndex>,
    /// By rule, and by node: whether it may be used, and how much it is preferred.
    pub(crate) rules: Vec<Vec<(bool, i64)>>,
    /// How many pods that run have each priority.
    bound_priorities: BTreeMap<i32, usize>,
    node_by_name: BTreeMap<String, NodeIndex>,
    scalars: BTreeMap<String, ScalarIndex>,
    scalar_names: Vec<String>,
    topologies: Vec<Topology>,
    topology_by_key: BTreeMap<String, usize>,
    /// How many nodes have each image.
    image_counts: BTreeMap<String, usize>,
    /// Nodes on which something changed, in order.
    pub(crate) journal: Vec<u32>,
    /// The pods of each template that some node awaits.
    pub(crate) nominated: BTreeMap<TemplateIndex, BTreeSet<PodIndex>>,
    /// Lists of templates, in order of their coming, by which lanes find those that concern them.
    lists: Vec<Vec<TemplateIndex>>,
    list_numbers: BTreeMap<ListName, ListIndex>,
}

impl Cluster {
    /// An empty cluster of these nodes.
    #[must_use]
    pub fn new(nodes: Vec<Node>, namespaces: BTreeMap<String, Labels>) -> Self {
        let order = listing_order(&nodes);
        let mut cluster = Self {
            nodes: Vec::with_capacity(nodes.len()),
            templates: Vec::new(),
            pods: Vec::new(),
            namespaces,
            budgets: Vec::new(),
            by_content: BTreeMap::new(),
            rules: Vec::new(),
            bound_priorities: BTreeMap::new(),
            node_by_name: BTreeMap::new(),
            scalars: BTreeMap::new(),
            scalar_names: Vec::new(),
            topologies: Vec::new(),
            topology_by_key: BTreeMap::new(),
            image_counts: BTreeMap::new(),
            journal: Vec::new(),
            nominated: BTreeMap::new(),
            lists: Vec::new(),
            list_numbers: BTreeMap::new(),
        };
        let mut nodes: Vec<Option<Node>> = nodes.into_iter().map(Some).collect();
        for source in order {
            let node = nodes[source].take().expect("each is listed once");
            let mut allocatable = Vector {
                cpu: node.allocatable.cpu.unwrap_or(0),
                memory: node.allocatable.memory.unwrap_or(0),
                ephemeral: node.allocatable.ephemeral.unwrap_or(0),
                scalar: Vec::new(),
            };
            for (name, &amount) in &node.allocatable.scalar {
                let index = cluster.scalar_index(name);
                if allocatable.scalar.len() <= index {
                    allocatable.scalar.resize(index + 1, 0);
                }
                allocatable.scalar[index] = amount;
            }
            for image in node.images.keys() {
                *cluster.image_counts.entry(image.clone()).or_default() += 1;
            }
            let tie = node.name.bytes().fold(0, |hash, byte| mix(hash ^ u64::from(byte)));
            cluster.node_by_name.insert(node.name.clone(), cluster.nodes.len());
            cluster.nodes.push(NodeState {
                node,
                allocatable,
                used: Vector::default(),
                used_non_zero: [0; 2],
                pods: Vec::new(),
                nominated: Vec::new(),
                source,
                tie,
            });
        }
        cluster
    }

    /// Sets the disruption budgets.
    pub fn set_budgets(&mut self, budgets: Vec<DisruptionBudget>) {
        self.budgets = budgets;
    }

    /// The disruption budgets.
    #[must_use]
    pub fn budgets(&self) -> &[DisruptionBudget] {
        &self.budgets
    }

    /// Number of nodes.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// A node.
    ///
    /// # Panics
    /// If there is none of that number.
    #[must_use]
    pub fn node(&self, index: NodeIndex) -> &Node {
        &self.nodes[index].node
    }

    /// Where in the list that the cluster was made from a node stood.
    ///
    /// # Panics
    /// If there is no such node.
    #[must_use]
    pub fn source(&self, index: NodeIndex) -> usize {
        self.nodes[index].source
    }

    /// The node of this name.
    #[must_use]
    pub fn node_by_name(&self, name: &str) -> Option<NodeIndex> {
        self.node_by_name.get(name).copied()
    }

    /// The pods on a node, in order of their coming, save that the last takes the place of one that goes.
    ///
    /// # Panics
    /// If there is no such node.
    #[must_use]
    pub fn pods_on(&self, index: NodeIndex) -> &[PodIndex] {
        &self.nodes[index].pods
    }

    /// A pod.
    ///
    /// # Panics
    /// If there is none of that number.
    #[must_use]
    pub fn pod(&self, index: PodIndex) -> &PodState {
        &self.pods[index]
    }

    /// The template of a pod.
    ///
    /// # Panics
    /// If there is no such pod.
    #[must_use]
    pub fn template_of(&self, pod: PodIndex) -> &Template {
        &self.templates[self.pods[pod].template]
    }

    /// The template for pods like this one.
    pub fn template(&mut self, pod: &Pod, is_terminating: bool) -> TemplateIndex {
        self.template_under(pod, is_terminating, None)
    }

    /// A rule about nodes beside Kubernetes' own: by node, whether it may be used, and how much more it is
    /// preferred, at least 0. It counts as node affinity.
    pub(crate) fn add_rule(&mut self, by_node: Vec<(bool, i64)>) -> RuleIndex {
        self.rules.push(by_node);
        self.rules.len() - 1
    }

    pub(crate) fn template_under(
        &mut self,
        pod: &Pod,
        is_terminating: bool,
        rule: Option<RuleIndex>,
    ) -> TemplateIndex {
        let key = (pod.clone(), is_terminating, rule);
        if let Some(&known) = self.by_content.get(&key) {
            return known;
        }
        let total = pod.requests();
        let scalar: Vec<(ScalarIndex, i64)> =
            total.scalar.iter().map(|(name, &amount)| (self.scalar_index(name), amount)).collect();
        let index = self.templates.len();
        for name in list_names(pod) {
            let list = self.list_index(name);
            self.lists[list].push(index);
        }
        self.templates.push(Template {
            pod: key.0.clone(),
            is_terminating,
            rule,
            cpu: total.cpu.unwrap_or(0),
            memory: total.memory.unwrap_or(0),
            ephemeral: total.ephemeral.unwrap_or(0),
            scalar,
            non_zero: requests::non_zero(pod),
            on_node: BTreeMap::new(),
            journal: Vec::new(),
        });
        self.by_content.insert(key, index);
        index
    }

    /// A new pod, which waits.
    ///
    /// # Panics
    /// If there is no such template.
    pub fn create(&mut self, name: &str, template: TemplateIndex, start: Option<i64>) -> PodIndex {
        assert!(template < self.templates.len(), "the template is known");
        self.pods.push(PodState {
            name: name.to_owned(),
            template,
            node: None,
            nominated: None,
            start,
            is_terminating_by_preemption: false,
        });
        self.pods.len() - 1
    }

    /// Marks a pod as being deleted because of a preemption.
    pub fn mark_preempted(&mut self, pod: PodIndex) {
        self.pods[pod].is_terminating_by_preemption = true;
    }

    /// Puts a pod on a node, fitting or not; its nomination, if it has one, ends.
    ///
    /// # Panics
    /// If it is on one already.
    pub fn bind(&mut self, pod: PodIndex, node: NodeIndex) {
        assert!(self.pods[pod].node.is_none(), "{} runs already", self.pods[pod].name);
        self.clear_nomination(pod);
        self.pods[pod].node = Some(node);
        self.nodes[node].pods.push(pod);
        self.change(pod, node, 1);
    }

    /// Takes a pod off its node.
    ///
    /// # Panics
    /// If it is on none.
    pub fn unbind(&mut self, pod: PodIndex) {
        let node = self.pods[pod].node.take().expect("the pod runs");
        let pods = &mut self.nodes[node].pods;
        let position = pods.iter().position(|&other| other == pod).expect("it is listed");
        // As kube-scheduler keeps its list: the last takes the place of the one that goes.
        pods.swap_remove(position);
        self.change(pod, node, -1);
    }

    fn change(&mut self, pod: PodIndex, node: NodeIndex, sign: i64) {
        let template = &mut self.templates[self.pods[pod].template];
        let count = template.on_node.entry(node).or_insert(0);
        *count = if sign > 0 { *count + 1 } else { *count - 1 };
        if *count == 0 {
            template.on_node.remove(&node);
        }
        template.journal.push((node, sign));
        let running = self.bound_priorities.entry(template.pod.priority).or_default();
        *running = if sign > 0 { *running + 1 } else { *running - 1 };
        if *running == 0 {
            self.bound_priorities.remove(&template.pod.priority);
        }
        let state = &mut self.nodes[node];
        state.used.change(template, sign);
        for r in 0..2 {
            state.used_non_zero[r] += sign * template.non_zero[r];
        }
        self.note(node);
    }

    fn note(&mut self, node: NodeIndex) {
        self.journal.push(u32::try_from(node).expect("fewer nodes than 2^32"));
    }

    /// Sets when a pod started.
    pub fn set_start(&mut self, pod: PodIndex, start: Option<i64>) {
        self.pods[pod].start = start;
    }

    /// Whether any pod of a lower priority runs.
    pub(crate) fn has_below(&self, priority: i32) -> bool {
        self.bound_priorities.first_key_value().is_some_and(|(&lowest, _)| lowest < priority)
    }

    /// Lets a node await a pod.
    pub fn nominate(&mut self, pod: PodIndex, node: NodeIndex) {
        self.clear_nomination(pod);
        self.pods[pod].nominated = Some(node);
        self.nodes[node].nominated.push(pod);
        self.nominated.entry(self.pods[pod].template).or_default().insert(pod);
        self.note(node);
    }

    /// Lets no node await a pod.
    pub fn clear_nomination(&mut self, pod: PodIndex) {
        if let Some(node) = self.pods[pod].nominated.take() {
            self.nodes[node].nominated.retain(|&other| other != pod);
            let template = self.pods[pod].template;
            if let Some(pods) = self.nominated.get_mut(&template) {
                pods.remove(&pod);
                if pods.is_empty() {
                    self.nominated.remove(&template);
                }
            }
            self.note(node);
        }
    }

    /// Other pods that await this node and whose priority is at least that of `pod`, which counts as
    /// `priority`.
    pub(crate) fn nominated_before(
        &self,
        node: NodeIndex,
        priority: i32,
        pod: Option<PodIndex>,
    ) -> impl Iterator<Item = PodIndex> + '_ {
        self.nodes[node].nominated.iter().copied().filter(move |&other| {
            Some(other) != pod && self.template_of(other).pod.priority >= priority
        })
    }

    /// The topology of a node label.
    pub(crate) fn topology_index(&mut self, key: &str) -> usize {
        if let Some(&known) = self.topology_by_key.get(key) {
            return known;
        }
        let mut numbers: BTreeMap<&str, u32> = BTreeMap::new();
        let mut domain_of = Vec::with_capacity(self.nodes.len());
        let mut is_single = true;
        for state in &self.nodes {
            domain_of.push(match state.node.labels.get(key) {
                None => NO_DOMAIN,
                Some(value) => {
                    let next = u32::try_from(numbers.len()).expect("fewer values than nodes");
                    let number = *numbers.entry(value).or_insert(next);
                    is_single &= number == next;
                    number
                }
            });
        }
        let topology = Topology { domain_count: numbers.len(), domain_of, is_single };
        self.topologies.push(topology);
        self.topology_by_key.insert(key.to_owned(), self.topologies.len() - 1);
        self.topologies.len() - 1
    }

    pub(crate) fn topology(&self, index: usize) -> &Topology {
        &self.topologies[index]
    }

    /// The number of a list, which is made if need be; made late, it misses nobody.
    pub(crate) fn list_index(&mut self, name: ListName) -> ListIndex {
        let next = self.lists.len();
        let index = *self.list_numbers.entry(name).or_insert(next);
        if index == next {
            self.lists.push(Vec::new());
        }
        index
    }

    pub(crate) fn list(&self, index: ListIndex) -> &[TemplateIndex] {
        &self.lists[index]
    }

    fn scalar_index(&mut self, name: &str) -> ScalarIndex {
        if let Some(&known) = self.scalars.get(name) {
            return known;
        }
        let index = self.scalar_names.len();
        self.scalars.insert(name.to_owned(), index);
        self.scalar_names.push(name.to_owned());
        index
    }

    /// The number of a scalar resource, if any node or pod mentions it.
    pub(crate) fn known_scalar(&self, name: &str) -> Option<ScalarIndex> {
        self.scalars.get(name).copied()
    }

    pub(crate) fn scalar_name(&self, index: ScalarIndex) -> &str {
        &self.scalar_names[index]
    }

    /// How many nodes have an image.
    pub(crate) fn nodes_with_image(&self, image: &str) -> usize {
        self.image_counts.get(image).copied().unwrap_or(0)
    }

    /// Recomputes every sum from the pods, and says what differs: `None` where all agree.
    #[must_use]
    pub fn check_sums(&self) -> Option<String> {
        let mut fresh = Self::new(
            {
                let mut by_source: Vec<&NodeState> = self.nodes.iter().collect();
                by_source.sort_by_key(|state| state.source);
                by_source.into_iter().map(|state| state.node.clone()).collect()
            },
            self.namespaces.clone(),
        );
        for template in &self.templates {
            fresh.template_under(&template.pod, template.is_terminating, template.rule);
        }
        for pod in &self.pods {
            let index = fresh.create(&pod.name, pod.template, pod.start);
            if let Some(node) = pod.node {
                fresh.bind(index, node);
            }
        }
        for (mine, other) in self.nodes.iter().zip(&fresh.nodes) {
            let trim = |vector: &Vector| {
                let mut scalar = vector.scalar.clone();
                while scalar.last() == Some(&0) {
                    scalar.pop();
                }
                (vector.cpu, vector.memory, vector.ephemeral, scalar)
            };
            let same_pods = mine.pods.iter().collect::<BTreeSet<_>>()
                == other.pods.iter().collect::<BTreeSet<_>>();
            if trim(&mine.used) != trim(&other.used)
                || mine.used_non_zero != other.used_non_zero
                || !same_pods
            {
                return Some(format!(
                    "node {}: sums differ from those of its pods",
                    mine.node.name
                ));
            }
        }
        for (mine, other) in self.templates.iter().zip(&fresh.templates) {
            if mine.on_node != other.on_node {
                return Some("a template's counts by node differ from its pods".to_owned());
            }
        }
        None
    }
}

/// The lists that a pod's template belongs to.
fn list_names(pod: &Pod) -> BTreeSet<ListName> {
    let mut names = BTreeSet::from([ListName::All]);
    names.extend(
        pod.labels.iter().map(|(key, value)| ListName::WithLabel(key.clone(), value.clone())),
    );
    for affinity in [&pod.affinity, &pod.anti_affinity] {
        let preferred = affinity.preferred.iter().map(|preference| &preference.term);
        for term in affinity.required.iter().chain(preferred) {
            names.insert(match term.selector.as_ref().and_then(required_label) {
                Some((key, value)) => ListName::SelectingLabel(key, value),
                None => ListName::Selecting,
            });
        }
    }
    names
}

/// kube-scheduler's list of nodes: one of each zone in turn, zones in order of their first node.
fn listing_order(nodes: &[Node]) -> Vec<usize> {
    let zone_of = |node: &Node| {
        let label = |key: &str, old: &str| {
            node.labels.get(key).or_else(|| node.labels.get(old)).cloned().unwrap_or_default()
        };
        (
            label(REGION, "failure-domain.beta.kubernetes.io/region"),
            label(ZONE, "failure-domain.beta.kubernetes.io/zone"),
        )
    };
    let mut zones: Vec<Vec<usize>> = Vec::new();
    let mut number: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (index, node) in nodes.iter().enumerate() {
        let zone = *number.entry(zone_of(node)).or_insert_with(|| {
            zones.push(Vec::new());
            zones.len() - 1
        });
        zones[zone].push(index);
    }
    let longest = zones.iter().map(Vec::len).max().unwrap_or(0);
    (0..longest)
        .flat_map(|turn| zones.iter().filter_map(move |zone| zone.get(turn).copied()))
        .collect()
}
