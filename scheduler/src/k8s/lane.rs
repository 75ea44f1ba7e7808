//! A lane: everything about placing one template's pods that is worth keeping from one to the next.
//!
//! A score of kube-scheduler's depends on the feasible nodes as a whole: raw scores of taints, affinity,
//! spreading and company are normalised over them. What keeps a decision from looking at every node is
//! that these raw scores take few distinct values. A lane therefore holds
//!
//! - for each node a **local key**: whether ports and resources are there, and the weighted sum of the
//!   scores that depend on that node alone (fit, balance, images), with the tie-break below it;
//! - **tables** of how many relevant pods each domain holds, one for each spread constraint, and for each
//!   node label that affinity terms use; they are brought up to date from the templates' journals;
//! - **groups** of nodes that agree in everything else: raw score of taints and of node affinity, and for
//!   each table the domain, or, where each node is a domain of its own, the count.
//!
//! Filters and normalised scores are worked out once a group; inside a group the best node is the one with
//! the best local key. The plugins as written, node by node, are in [`super::framework`]; tests hold the
//! two together.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::rc::Rc;

use cell::kube::{HOSTNAME, Pod, SpreadConstraint};

use super::cluster::{
    Cluster, ListIndex, ListName, NO_DOMAIN, NodeIndex, NodeState, PodIndex, RuleIndex,
    ScalarIndex, Template, TemplateIndex, required_label,
};
use super::default_preemption::{self, Candidate};
use super::fit::{self, Load, ResourceWeight, Strategy};
use super::profile::{Plugin, Profile, Version};
use super::status::{Rejection, Verdict};
use super::topology_spread::{self, Constraints};
use super::{
    balanced_allocation, image_locality, inter_pod_affinity, node_affinity, node_name, node_ports,
    node_unschedulable, normalize, taint_toleration,
};
use crate::equivalence::mix;
use crate::table::{self, Key};

/// Bits of a local key below the score.
const TIE_BITS: u32 = 24;

/// The part of a key that is the score, which is kept one higher so that 0 can mean infeasible.
fn local_key(score: i64, tie: u64) -> Key {
    let score = u64::try_from(score).expect("scores are not negative");
    (score + 1) << TIE_BITS | (tie & ((1 << TIE_BITS) - 1))
}

/// A key raised by what the group adds.
fn raised(key: Key, bonus: i64) -> Key {
    key + (u64::try_from(bonus).expect("scores are not negative") << TIE_BITS)
}

/// The weighted sum of scores in a key.
fn score_of(key: Key) -> i64 {
    i64::try_from(key >> TIE_BITS).expect("scores are small") - 1
}

/// What the quick local key reads of a node; amounts are exact integers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeRow {
    pods_left: f64,
    free: [f64; 2],
    /// Allocatable minus what is used with the scores' defaults.
    left_non_zero: [f64; 2],
    capacity: [f64; 2],
    balance_before: f64,
    has_nominated: bool,
    /// Seeds the ties of this node.
    tie: u64,
}

impl NodeRow {
    #[expect(clippy::cast_precision_loss, reason = "quantities are below 2^53")]
    pub(crate) fn of(cluster: &Cluster, node: NodeIndex) -> Self {
        let state = &cluster.nodes[node];
        let capacity = [state.allocatable.cpu as f64, state.allocatable.memory as f64];
        let used = [state.used.cpu as f64, state.used.memory as f64];
        Self {
            pods_left: state.node.pods as f64 - state.pods.len() as f64,
            free: [capacity[0] - used[0], capacity[1] - used[1]],
            left_non_zero: [0, 1].map(|r| capacity[r] - state.used_non_zero[r] as f64),
            capacity,
            balance_before: balanced_allocation::balance_two(used, capacity),
            has_nominated: !state.nominated.is_empty(),
            tie: state.tie,
        }
    }
}

/// How a template's local key is worked out.
#[derive(Clone, Debug)]
struct Local {
    /// Whether rows say enough: default resources, `LeastAllocated` or `MostAllocated`, no ports, no
    /// images, no amounts beyond what floats hold exactly.
    is_quick: bool,
    is_most: bool,
    version: Version,
    needs: [f64; 2],
    plain: [f64; 2],
    non_zero: [f64; 2],
    skips_balance: bool,
    fit_weight: f64,
    balance_weight: f64,
    has_fit_filter: bool,
    /// Ephemeral storage asked for.
    ephemeral: i64,
    /// Scalar resources asked for, without those that the filter ignores.
    scalar: Vec<(ScalarIndex, i64)>,
    images: Vec<String>,
    wants_ports: bool,
}

/// What of a template's placement never changes, by node; shared by the templates that agree in it.
#[derive(Debug)]
pub(crate) struct Statics {
    /// Why a node is out for good, by node.
    out: Vec<Option<Rejection>>,
    /// Raw scores of taints and node affinity, by node.
    raw: Vec<(i64, i64)>,
    /// The nodes that the pod's affinity narrows the search to.
    narrowed: Option<Vec<NodeIndex>>,
    is_uniform: bool,
    /// The plugins that `out` is from.
    rejected_by: BTreeSet<Plugin>,
}

/// What [`Statics`] depend on.
pub(crate) type StaticsKey = (Pod, Option<RuleIndex>);

/// The part of a template that [`Statics`] read, and nothing else.
pub(crate) fn statics_key(template: &Template) -> StaticsKey {
    let pod = Pod {
        node_name: template.pod.node_name.clone(),
        node_selector: template.pod.node_selector.clone(),
        node_affinity: template.pod.node_affinity.clone(),
        tolerations: template.pod.tolerations.clone(),
        ..Pod::default()
    };
    (pod, template.rule)
}

impl Statics {
    pub(crate) fn of(profile: &Profile, cluster: &Cluster, (pod, rule): &StaticsKey) -> Self {
        let under = |node: NodeIndex| rule.map_or((true, 0), |rule| cluster.rules[rule][node]);
        let added = &profile.added_affinity;
        let narrowed = profile
            .has_filter(Plugin::NodeAffinity)
            .then(|| node_affinity::narrowed(pod))
            .flatten()
            .map(|names| {
                let mut nodes: Vec<NodeIndex> =
                    names.iter().filter_map(|name| cluster.node_by_name(name)).collect();
                nodes.sort_unstable();
                nodes
            });
        let out: Vec<Option<Rejection>> = (0..cluster.node_count())
            .map(|index| {
                if narrowed.as_ref().is_some_and(|nodes| nodes.binary_search(&index).is_err()) {
                    return Some(Rejection::Narrowed);
                }
                let rejection = static_rejection(profile, pod, cluster.node(index));
                rejection.or_else(|| (!under(index).0).then_some(Rejection::NodeAffinity))
            })
            .collect();
        let raw: Vec<(i64, i64)> = (0..cluster.node_count())
            .map(|index| {
                let node = cluster.node(index);
                let taints = taint_toleration::raw_score(pod, node);
                (taints, node_affinity::raw_score(added, pod, node) + under(index).1)
            })
            .collect();
        let is_uniform = narrowed.is_none()
            && out.iter().all(Option::is_none)
            && raw.windows(2).all(|pair| pair[0] == pair[1]);
        let rejected_by = out.iter().flatten().map(Rejection::plugin).collect();
        Self { out, raw, narrowed, is_uniform, rejected_by }
    }

    /// Why a node is out for good.
    pub(crate) fn rejection(&self, node: NodeIndex) -> Option<&Rejection> {
        self.out[node].as_ref()
    }

    /// The raw scores of taints and of node affinity.
    pub(crate) fn raw(&self, node: NodeIndex) -> (i64, i64) {
        self.raw[node]
    }

    /// The nodes that the search is narrowed to, if it is.
    pub(crate) fn narrowed_to(&self) -> &[NodeIndex] {
        self.narrowed.as_deref().unwrap_or(&[])
    }
}

/// The first of the filters that look at nothing but the node itself to reject it.
fn static_rejection(profile: &Profile, pod: &Pod, node: &cell::kube::Node) -> Option<Rejection> {
    let run = |plugin: Plugin, filter: &dyn Fn() -> Option<Rejection>| {
        profile.has_filter(plugin).then(filter).flatten()
    };
    run(Plugin::NodeUnschedulable, &|| node_unschedulable::filter(pod, node))
        .or_else(|| run(Plugin::NodeName, &|| node_name::filter(pod, node)))
        .or_else(|| run(Plugin::TaintToleration, &|| taint_toleration::filter(pod, node)))
        .or_else(|| {
            run(Plugin::NodeAffinity, &|| node_affinity::filter(&profile.added_affinity, pod, node))
        })
}

/// What a table is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    /// The hard spread constraint of this number.
    Hard(usize),
    /// The soft spread constraint of this number.
    Soft(usize),
    /// Pods that the required affinity asks for.
    Near,
    /// Pods that the required anti-affinity shuns.
    Far,
    /// Pods whose required anti-affinity shuns the incoming pod.
    Existing,
    /// Weights of preferences, both ways.
    Pull,
}

/// How many pods, or how much weight of them, each domain of a node label holds.
#[derive(Debug)]
struct Counts {
    role: Role,
    key: String,
    /// By node: its domain, [`NO_DOMAIN`] if it has none.
    domain_of: Vec<u32>,
    /// Whether each node is a domain of its own, so that groups go by the sum.
    is_single: bool,
    /// Which nodes count, if not all.
    mask: Option<Vec<bool>>,
    sums: Vec<i64>,
    /// Of a hard spread constraint: how many of the domains that count have each sum.
    histogram: BTreeMap<i64, u32>,
    is_in_histogram: Vec<bool>,
    total: i64,
}

/// A domain that a node does not have, in a signature.
const NONE: i64 = i64::MIN;

impl Counts {
    fn new(
        cluster: &mut Cluster,
        role: Role,
        key: &str,
        mask: Option<Vec<bool>>,
        is_by_node: bool,
    ) -> Self {
        let (domain_of, domain_count, is_single) = if is_by_node {
            // Each node by itself, whatever its label says.
            let count = cluster.node_count();
            let number = |node: usize| u32::try_from(node).expect("fewer nodes than 2^32");
            let of = |node: usize| match cluster.node(node).labels.contains_key(key) {
                true => number(node),
                false => NO_DOMAIN,
            };
            ((0..count).map(of).collect(), count, true)
        } else {
            let index = cluster.topology_index(key);
            let topology = cluster.topology(index);
            (topology.domain_of.clone(), topology.domain_count, topology.is_single)
        };
        let mut counts = Self {
            role,
            key: key.to_owned(),
            is_single,
            sums: vec![0; domain_count],
            histogram: BTreeMap::new(),
            is_in_histogram: vec![false; domain_count],
            mask,
            domain_of,
            total: 0,
        };
        if let Role::Hard(_) = role {
            for node in 0..counts.domain_of.len() {
                if let Some(domain) = counts.domain(node).filter(|_| counts.is_counted(node)) {
                    counts.is_in_histogram[domain] = true;
                }
            }
            let in_use = counts.is_in_histogram.iter().filter(|&&is_in| is_in).count();
            if in_use > 0 {
                let in_use = u32::try_from(in_use).expect("fewer domains than nodes");
                counts.histogram.insert(0, in_use);
            }
        }
        counts
    }

    fn domain(&self, node: NodeIndex) -> Option<usize> {
        let domain = self.domain_of[node];
        (domain != NO_DOMAIN).then_some(domain as usize)
    }

    fn is_counted(&self, node: NodeIndex) -> bool {
        self.mask.as_ref().is_none_or(|mask| mask[node])
    }

    /// Adds to a node's domain. Returns whether the node's signature changes by it.
    fn add(&mut self, node: NodeIndex, amount: i64) -> bool {
        let Some(domain) = self.domain(node).filter(|_| self.is_counted(node)) else {
            return false;
        };
        let old = self.sums[domain];
        self.sums[domain] += amount;
        self.total += amount;
        if self.is_in_histogram[domain] {
            let left = self.histogram.get_mut(&old).expect("every domain is counted");
            *left -= 1;
            if *left == 0 {
                self.histogram.remove(&old);
            }
            *self.histogram.entry(old + amount).or_insert(0) += 1;
        }
        self.is_single
    }

    /// What a signature says of a node.
    fn mark(&self, node: NodeIndex) -> i64 {
        match self.domain(node) {
            None => NONE,
            Some(domain) if self.is_single => match self.role {
                Role::Near | Role::Far | Role::Existing => i64::from(self.sums[domain] > 0),
                Role::Hard(_) | Role::Soft(_) | Role::Pull => self.sums[domain],
            },
            Some(domain) => i64::try_from(domain).expect("fewer domains than nodes"),
        }
    }

    /// The sum that a mark stands for, `None` without the label.
    fn sum(&self, mark: i64) -> Option<i64> {
        if mark == NONE {
            None
        } else if self.is_single {
            Some(mark)
        } else {
            Some(self.sums[usize::try_from(mark).expect("a domain")])
        }
    }

    /// The least sum of a domain that counts, of at least `min_domains` of them.
    fn low(&self, min_domains: i64) -> i64 {
        let domains: u32 = self.histogram.values().sum();
        if i64::from(domains) < min_domains {
            return 0;
        }
        self.histogram.first_key_value().map_or(0, |(&low, _)| low)
    }

    /// The same, if a node's sum were changed.
    fn low_with(&self, min_domains: i64, node: NodeIndex, change: i64) -> i64 {
        let domain = self.domain(node).filter(|&domain| self.is_in_histogram[domain]);
        let Some(domain) = domain.filter(|_| change != 0) else { return self.low(min_domains) };
        let domains: u32 = self.histogram.values().sum();
        if i64::from(domains) < min_domains {
            return 0;
        }
        let own = self.sums[domain];
        let others = self
            .histogram
            .iter()
            .find(|&(&sum, &count)| sum != own || count > 1)
            .map_or(i64::MAX, |(&sum, _)| sum);
        others.min(own + change)
    }
}

/// Nodes that only their local keys tell apart.
#[derive(Debug)]
struct Group {
    taint_raw: i64,
    affinity_raw: i64,
    /// Whether it lacks a label of a soft constraint.
    is_ignored: bool,
    /// For each table, what [`Counts::mark`] says.
    marks: Vec<i64>,
    /// How many of its nodes have a local key.
    live: u32,
    /// Local keys of its nodes; those that changed since stay until they come up.
    heap: BinaryHeap<(Key, Reverse<u32>)>,
}

/// Stands for the group of a node that is out for good.
const NO_GROUP: u32 = u32::MAX;

/// A template whose pods some tables count.
#[derive(Debug)]
struct Followed {
    /// How much of its journal has been seen.
    seen: usize,
    /// What a pod of it adds, by table.
    effects: Vec<(usize, i64)>,
}

/// What a group comes to in one decision.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    count: u32,
    best: Option<(Key, NodeIndex)>,
    spread_raw: i64,
    pull_raw: i64,
    bonus: i64,
}

/// The outcome of looking for a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// The best node, if any is feasible.
    pub node: Option<NodeIndex>,
    /// How many nodes were looked at.
    pub visited: usize,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Lane {
    template: TemplateIndex,
    priority: i32,
    statics: Rc<Statics>,
    local: Local,
    constraints: Constraints,
    selects_itself: Vec<bool>,
    selects_itself_near: bool,
    counts: Vec<Counts>,
    followed: BTreeMap<TemplateIndex, Followed>,
    /// The lists of templates that may add something, and how much of each has been seen.
    lists: Vec<(ListIndex, usize)>,
    /// The templates that were looked at for what they add.
    met: BTreeSet<TemplateIndex>,
    keys: table::Table,
    group_of: Vec<u32>,
    groups: Vec<Group>,
    group_by_marks: BTreeMap<(i64, i64, bool, Vec<i64>), u32>,
    standings: Vec<Standing>,
    /// How much of the cluster's journal has been seen.
    seen: usize,
    /// Nodes to be looked at again, whatever the journal says.
    dirty: Vec<NodeIndex>,
    is_filled: bool,
    /// By node, once a dry run of preemption was made there: what came of it, while the node is as it was.
    offers: Vec<Option<Option<Rc<Candidate>>>>,
    uses_heaps: bool,
    tie: u64,
}

impl Lane {
    pub(crate) fn new(
        profile: &Profile,
        cluster: &mut Cluster,
        template: TemplateIndex,
        statics: Rc<Statics>,
        seed: u64,
        uses_heaps: bool,
    ) -> Self {
        let pod = cluster.templates[template].pod.clone();
        let constraints = Constraints::of(profile, &pod);
        let constraints = Constraints {
            hard: if profile.has_filter(Plugin::PodTopologySpread) {
                constraints.hard
            } else {
                Vec::new()
            },
            soft: if profile.weight(Plugin::PodTopologySpread) > 0 {
                constraints.soft
            } else {
                Vec::new()
            },
            ..constraints
        };
        let mut lane = Self {
            template,
            priority: pod.priority,
            local: Local::of(profile, cluster, template),
            selects_itself: constraints
                .hard
                .iter()
                .map(|constraint| topology_spread::selects_itself(constraint, &pod))
                .collect(),
            selects_itself_near: inter_pod_affinity::all_required_select(
                &pod,
                &pod,
                &cluster.namespaces,
            ),
            statics,
            counts: Vec::new(),
            followed: BTreeMap::new(),
            lists: lists_for(cluster, &pod, &constraints),
            met: BTreeSet::new(),
            keys: table::Table::default(),
            group_of: Vec::new(),
            groups: Vec::new(),
            group_by_marks: BTreeMap::new(),
            standings: Vec::new(),
            seen: 0,
            dirty: Vec::new(),
            is_filled: false,
            offers: Vec::new(),
            uses_heaps,
            tie: tie_of(&pod, seed),
            constraints,
        };
        lane.add_own_tables(profile, cluster, &pod);
        lane
    }

    fn add_own_tables(&mut self, profile: &Profile, cluster: &mut Cluster, pod: &Pod) {
        let masked =
            |cluster: &Cluster, constraint: &SpreadConstraint, with: &[SpreadConstraint]| {
                (0..cluster.node_count())
                    .map(|node| {
                        topology_spread::has_all_keys(cluster, node, with)
                            && topology_spread::is_eligible(cluster, constraint, pod, node)
                    })
                    .collect::<Vec<bool>>()
            };
        for (index, constraint) in self.constraints.hard.iter().enumerate() {
            let mask = masked(cluster, constraint, &self.constraints.hard);
            let key = &constraint.topology_key;
            self.counts.push(Counts::new(cluster, Role::Hard(index), key, Some(mask), false));
        }
        for (index, constraint) in self.constraints.soft.iter().enumerate() {
            let key = &constraint.topology_key;
            let counts = if key == HOSTNAME {
                Counts::new(cluster, Role::Soft(index), key, None, true)
            } else {
                let with: &[SpreadConstraint] =
                    if self.constraints.is_strict { &self.constraints.soft } else { &[] };
                let mask = masked(cluster, constraint, with);
                Counts::new(cluster, Role::Soft(index), key, Some(mask), false)
            };
            self.counts.push(counts);
        }
        if profile.has_filter(Plugin::InterPodAffinity) {
            for (terms, role) in
                [(&pod.affinity.required, Role::Near), (&pod.anti_affinity.required, Role::Far)]
            {
                let keys: BTreeSet<&str> =
                    terms.iter().map(|term| term.topology_key.as_str()).collect();
                for key in keys {
                    self.counts.push(Counts::new(cluster, role, key, None, false));
                }
            }
        }
    }

    /// What a pod of another template adds to the tables, which are made where they are missing.
    fn effects(
        &mut self,
        profile: &Profile,
        cluster: &mut Cluster,
        other: TemplateIndex,
    ) -> Vec<(usize, i64)> {
        let mut effects: Vec<(usize, i64)> = Vec::new();
        let mut missing: Vec<(Role, String, i64)> = Vec::new();
        {
            let pod = &cluster.templates[self.template].pod;
            let other_template = &cluster.templates[other];
            let other_pod = &other_template.pod;
            let namespaces = &cluster.namespaces;
            for (index, counts) in self.counts.iter().enumerate() {
                let constraint = match counts.role {
                    Role::Hard(number) => &self.constraints.hard[number],
                    Role::Soft(number) => &self.constraints.soft[number],
                    Role::Near | Role::Far | Role::Existing | Role::Pull => continue,
                };
                if topology_spread::counts(constraint, &pod.namespace, other_template) {
                    effects.push((index, 1));
                }
            }
            let mut by_role: BTreeMap<(Role, String), i64> = BTreeMap::new();
            let mut add = |role: Role, key: &str, weight: i64| {
                *by_role.entry((role, key.to_owned())).or_insert(0) += weight;
            };
            if profile.has_filter(Plugin::InterPodAffinity) {
                if inter_pod_affinity::all_required_select(pod, other_pod, namespaces) {
                    for term in &pod.affinity.required {
                        add(Role::Near, &term.topology_key, 1);
                    }
                }
                for term in &pod.anti_affinity.required {
                    if inter_pod_affinity::selects(term, pod, other_pod, namespaces) {
                        add(Role::Far, &term.topology_key, 1);
                    }
                }
                for term in &other_pod.anti_affinity.required {
                    if inter_pod_affinity::selects(term, other_pod, pod, namespaces) {
                        add(Role::Existing, &term.topology_key, 1);
                    }
                }
            }
            if profile.weight(Plugin::InterPodAffinity) > 0
                && inter_pod_affinity::is_scored(profile, pod)
            {
                for (key, weight) in inter_pod_affinity::pulls(profile, cluster, pod, other_pod) {
                    add(Role::Pull, &key, weight);
                }
            }
            for ((role, key), weight) in by_role {
                if weight == 0 {
                    continue;
                }
                match self.counts.iter().position(|table| table.role == role && table.key == key) {
                    Some(index) => effects.push((index, weight)),
                    None => missing.push((role, key, weight)),
                }
            }
        }
        for (role, key, weight) in missing {
            effects.push((self.counts.len(), weight));
            self.counts.push(Counts::new(cluster, role, &key, None, false));
            // Signatures have one mark more from now on.
            self.is_filled = false;
        }
        effects
    }

    /// Brings everything up to date with the cluster.
    pub(crate) fn sync(&mut self, profile: &Profile, cluster: &mut Cluster, rows: &[NodeRow]) {
        let mut regroup: Vec<NodeIndex> = Vec::new();
        self.meet_new_templates(profile, cluster, &mut regroup);
        for (&other, followed) in &mut self.followed {
            let journal = &cluster.templates[other].journal;
            for &(node, change) in &journal[followed.seen..] {
                let mut moves = false;
                for &(index, weight) in &followed.effects {
                    moves |= self.counts[index].add(node, weight * change);
                }
                if moves {
                    regroup.push(node);
                }
            }
            followed.seen = journal.len();
        }
        let node_count = cluster.node_count();
        let changed = cluster.journal.len() - self.seen;
        if !self.is_filled || changed > node_count / 2 {
            self.fill(cluster, profile, rows);
        } else {
            for index in self.seen..cluster.journal.len() {
                let node = cluster.journal[index] as usize;
                self.renew(profile, cluster, rows, node);
            }
            for node in std::mem::take(&mut self.dirty) {
                self.renew(profile, cluster, rows, node);
            }
            for node in regroup {
                self.regroup(node);
            }
        }
        self.dirty.clear();
        self.seen = cluster.journal.len();
    }

    fn meet_new_templates(
        &mut self,
        profile: &Profile,
        cluster: &mut Cluster,
        regroup: &mut Vec<NodeIndex>,
    ) {
        let mut new: Vec<TemplateIndex> = Vec::new();
        for (list, seen) in &mut self.lists {
            let list = cluster.list(*list);
            new.extend(list[*seen..].iter().filter(|&&other| self.met.insert(other)));
            *seen = list.len();
        }
        for other in new {
            let effects = self.effects(profile, cluster, other);
            if effects.is_empty() {
                continue;
            }
            let template = &cluster.templates[other];
            for (&node, &count) in &template.on_node {
                for &(index, weight) in &effects {
                    if self.counts[index].add(node, weight * i64::from(count)) {
                        regroup.push(node);
                    }
                }
            }
            self.followed.insert(other, Followed { seen: template.journal.len(), effects });
        }
    }

    fn fill(&mut self, cluster: &Cluster, profile: &Profile, rows: &[NodeRow]) {
        self.offers.clear();
        let node_count = cluster.node_count();
        let local = &self.local;
        let statics = &self.statics;
        if local.is_quick && statics.is_uniform && cluster.nominated.is_empty() {
            let tie = self.tie;
            self.keys.fill((0..node_count).map(|node| {
                let row = &rows[node];
                if local.fits(row) && local.has_more(cluster, node) {
                    local_key(local.score(row), tie_with(tie, row.tie))
                } else {
                    0
                }
            }));
        } else {
            let keys = (0..node_count).map(|node| self.key(profile, cluster, rows, node));
            let keys: Vec<Key> = keys.collect();
            self.keys.fill(keys.into_iter());
        }
        self.groups.clear();
        self.group_by_marks.clear();
        self.group_of.clear();
        if self.statics.is_uniform && self.counts.is_empty() {
            // One group; nobody asks who is in it.
            let (taint_raw, affinity_raw) = self.statics.raw.first().copied().unwrap_or_default();
            self.groups.push(Group {
                taint_raw,
                affinity_raw,
                is_ignored: false,
                marks: Vec::new(),
                live: 0,
                heap: BinaryHeap::new(),
            });
        } else {
            for node in 0..node_count {
                let group = self.find_group(node);
                self.group_of.push(group);
                let key = self.keys.get(node);
                if group != NO_GROUP && key > 0 {
                    self.groups[group as usize].live += 1;
                }
            }
            if self.uses_heaps {
                let mut members: Vec<Vec<(Key, Reverse<u32>)>> =
                    vec![Vec::new(); self.groups.len()];
                for node in 0..node_count {
                    let (group, key) = (self.group_of[node], self.keys.get(node));
                    if group != NO_GROUP && key > 0 {
                        let node = u32::try_from(node).expect("fewer nodes than 2^32");
                        members[group as usize].push((key, Reverse(node)));
                    }
                }
                for (group, members) in self.groups.iter_mut().zip(members) {
                    group.heap = members.into();
                }
            }
        }
        self.is_filled = true;
    }

    fn is_one_group(&self) -> bool {
        self.group_of.is_empty()
    }

    fn find_group(&mut self, node: NodeIndex) -> u32 {
        if self.statics.out[node].is_some() {
            return NO_GROUP;
        }
        let (taint_raw, affinity_raw) = self.statics.raw[node];
        let marks: Vec<i64> = self.counts.iter().map(|counts| counts.mark(node)).collect();
        let is_ignored = self.constraints.is_strict
            && self
                .counts
                .iter()
                .zip(&marks)
                .any(|(counts, &mark)| matches!(counts.role, Role::Soft(_)) && mark == NONE);
        let key = (taint_raw, affinity_raw, is_ignored, marks);
        if let Some(&known) = self.group_by_marks.get(&key) {
            return known;
        }
        let index = u32::try_from(self.groups.len()).expect("fewer groups than nodes");
        self.groups.push(Group {
            taint_raw,
            affinity_raw,
            is_ignored,
            marks: key.3.clone(),
            live: 0,
            heap: BinaryHeap::new(),
        });
        self.group_by_marks.insert(key, index);
        index
    }

    /// Works out a node's local key again.
    fn renew(&mut self, profile: &Profile, cluster: &Cluster, rows: &[NodeRow], node: NodeIndex) {
        let key = self.key(profile, cluster, rows, node);
        self.set_key(node, key);
        if let Some(offer) = self.offers.get_mut(node) {
            *offer = None;
        }
    }

    /// The dry run of a pod's preemption on a node; one that depends on that node alone is remembered.
    pub(crate) fn offer(
        &mut self,
        profile: &Profile,
        cluster: &Cluster,
        pod: PodIndex,
        node: NodeIndex,
    ) -> Option<Rc<Candidate>> {
        let depends_on_more = self.has_social_filters()
            || !cluster.budgets.is_empty()
            || cluster.pods[pod].nominated == Some(node);
        if depends_on_more {
            return self.dry_run(profile, cluster, pod, node).map(Rc::new);
        }
        if self.offers.is_empty() {
            self.offers.resize(cluster.node_count(), None);
        }
        if self.offers[node].is_none() {
            self.offers[node] = Some(self.dry_run(profile, cluster, pod, node).map(Rc::new));
        }
        self.offers[node].clone().flatten()
    }

    /// The dry run of a pod's preemption on a node.
    pub(crate) fn dry_run(
        &self,
        profile: &Profile,
        cluster: &Cluster,
        pod: PodIndex,
        node: NodeIndex,
    ) -> Option<Candidate> {
        let lower =
            default_preemption::lower_by_importance(cluster, profile.version, node, self.priority);
        default_preemption::dry_run(cluster, &cluster.budgets, node, &lower, |removed| {
            self.check(profile, cluster, node, Some(pod), removed) == Verdict::Success
        })
    }

    fn set_key(&mut self, node: NodeIndex, key: Key) {
        let old = self.keys.get(node);
        if old == key {
            return;
        }
        self.keys.set(node, key);
        if self.is_one_group() {
            return;
        }
        let group = self.group_of[node];
        if group == NO_GROUP {
            return;
        }
        let group = &mut self.groups[group as usize];
        group.live += u32::from(key > 0);
        group.live -= u32::from(old > 0);
        self.push(node, key);
    }

    fn push(&mut self, node: NodeIndex, key: Key) {
        if key == 0 || !self.uses_heaps {
            return;
        }
        let index = self.group_of[node] as usize;
        let group = &mut self.groups[index];
        group.heap.push((key, Reverse(u32::try_from(node).expect("fewer nodes than 2^32"))));
        if group.heap.len() > 4 * group.live as usize + 64 {
            let mut kept: Vec<(Key, Reverse<u32>)> = std::mem::take(&mut group.heap).into_vec();
            kept.retain(|&(key, Reverse(node))| {
                let node = node as usize;
                self.keys.get(node) == key && self.group_of[node] as usize == index
            });
            kept.sort_unstable();
            kept.dedup();
            self.groups[index].heap = kept.into();
        }
    }

    /// Puts a node whose marks changed where it belongs now.
    fn regroup(&mut self, node: NodeIndex) {
        let old = self.group_of[node];
        let new = self.find_group(node);
        if old == new {
            return;
        }
        self.group_of[node] = new;
        let key = self.keys.get(node);
        if key > 0 {
            if old != NO_GROUP {
                self.groups[old as usize].live -= 1;
            }
            if new != NO_GROUP {
                self.groups[new as usize].live += 1;
                self.push(node, key);
            }
        }
    }

    /// A node's local key.
    fn key(&self, profile: &Profile, cluster: &Cluster, rows: &[NodeRow], node: NodeIndex) -> Key {
        if self.statics.out[node].is_some() {
            return 0;
        }
        let row = &rows[node];
        let template = &cluster.templates[self.template];
        if self.local.is_quick && !row.has_nominated {
            if !(self.local.fits(row) && self.local.has_more(cluster, node)) {
                return 0;
            }
            return local_key(self.local.score(row), tie_with(self.tie, row.tie));
        }
        // What waits for the node counts as if it were there (§2.2): of resources and ports that only
        // takes away.
        let awaiting: Vec<PodIndex> = cluster.nominated_before(node, self.priority, None).collect();
        let ports_taken = || {
            let others = || awaiting.iter().map(|&other| &cluster.template_of(other).pod);
            self.local.wants_ports && others().any(|pod| node_ports::conflict(&template.pod, pod))
        };
        let fits = (!self.local.has_fit_filter
            || self.fits_with(profile, cluster, node, &[], &awaiting))
            && !self.ports_conflict(cluster, node, &[])
            && !ports_taken();
        if !fits {
            return 0;
        }
        let load = Load::of(cluster, node);
        let score = self.local.score_slow(profile, cluster, template, node, &load);
        local_key(score, tie_with(self.tie, row.tie))
    }

    fn ports_conflict(&self, cluster: &Cluster, node: NodeIndex, removed: &[PodIndex]) -> bool {
        let template = &cluster.templates[self.template];
        self.local.wants_ports
            && cluster.pods_on(node).iter().any(|other| {
                !removed.contains(other)
                    && node_ports::conflict(&template.pod, &cluster.template_of(*other).pod)
            })
    }

    /// The plugins that rejected nodes, of a pod that no node can take.
    pub(crate) fn rejected_by(&self) -> BTreeSet<Plugin> {
        let mut plugins = self.statics.rejected_by.clone();
        let is_full =
            |node: NodeIndex| self.statics.out[node].is_none() && self.keys.get(node) == 0;
        if (0..self.keys.len()).any(is_full) {
            plugins.insert(Plugin::NodeResourcesFit);
            if self.local.wants_ports {
                plugins.insert(Plugin::NodePorts);
            }
        }
        let failing = self.groups.iter().filter(|group| group.live > 0);
        plugins.extend(failing.filter_map(|group| Some(self.group_rejection(group)?.plugin())));
        plugins
    }

    /// Whether filters look at other pods than those on the node.
    pub(crate) fn has_social_filters(&self) -> bool {
        self.counts.iter().any(|counts| counts.role.is_filter())
    }

    /// Takes nodes out of this decision that the pods which wait for them spoil by their company.
    pub(crate) fn heed_nominations(&mut self, profile: &Profile, cluster: &Cluster) {
        if !self.has_social_filters() {
            return;
        }
        let mut nodes: BTreeSet<NodeIndex> = BTreeSet::new();
        for (template, pods) in &cluster.nominated {
            let is_relevant = self.followed.get(template).is_some_and(|followed| {
                followed.effects.iter().any(|&(index, _)| self.counts[index].role.is_filter())
            });
            if is_relevant {
                nodes.extend(pods.iter().filter_map(|&pod| cluster.pods[pod].nominated));
            }
        }
        for node in nodes {
            if self.keys.get(node) > 0
                && self.check(profile, cluster, node, None, &[]) != Verdict::Success
            {
                self.set_key(node, 0);
                self.dirty.push(node);
            }
        }
    }

    /// Whether a group passes the filters that look at other pods.
    fn group_rejection(&self, group: &Group) -> Option<Rejection> {
        for role in [Plugin::PodTopologySpread, Plugin::InterPodAffinity] {
            for (counts, &mark) in self.counts.iter().zip(&group.marks) {
                if counts.role.plugin() != role {
                    continue;
                }
                let sum = counts.sum(mark);
                if let Some(rejection) = self.role_rejection(counts, sum, None) {
                    return Some(rejection);
                }
            }
        }
        None
    }

    fn role_rejection(
        &self,
        counts: &Counts,
        sum: Option<i64>,
        with: Option<(NodeIndex, i64, i64)>,
    ) -> Option<Rejection> {
        match counts.role {
            Role::Hard(number) => {
                let constraint = &self.constraints.hard[number];
                let Some(sum) = sum else { return Some(Rejection::SpreadLabelMissing) };
                let low = match with {
                    Some((node, change, _)) => {
                        counts.low_with(constraint.min_domains, node, change)
                    }
                    None => counts.low(constraint.min_domains),
                };
                let own = i64::from(self.selects_itself[number]);
                (sum + own - low > constraint.max_skew).then_some(Rejection::Spread)
            }
            Role::Near => {
                let Some(sum) = sum else { return Some(Rejection::PodAffinity) };
                let near_change = with.map_or(0, |(_, _, near)| near);
                (sum <= 0 && !self.may_be_first(near_change)).then_some(Rejection::PodAffinity)
            }
            Role::Far => sum.is_some_and(|sum| sum > 0).then_some(Rejection::PodAntiAffinity),
            Role::Existing => {
                sum.is_some_and(|sum| sum > 0).then_some(Rejection::ExistingAntiAffinity)
            }
            Role::Soft(_) | Role::Pull => None,
        }
    }

    /// Whether nobody in the cluster is what the pod must be near to, and it is so itself.
    fn may_be_first(&self, change: i64) -> bool {
        let near = self.counts.iter().filter(|counts| counts.role == Role::Near);
        self.selects_itself_near && near.map(|counts| counts.total).sum::<i64>() + change == 0
    }

    /// Looks for the best node, among all.
    pub(crate) fn best_of_all(&mut self, profile: &Profile, by_index: bool) -> Found {
        let visited = self.keys.len();
        if self.is_one_group() {
            let best = if by_index { self.keys.best() } else { self.keys.best_by_scan() };
            return Found { node: best.map(|best| best.row), visited };
        }
        self.standings.clear();
        self.standings.resize(self.groups.len(), Standing::default());
        if by_index && self.uses_heaps {
            for index in 0..self.groups.len() {
                if self.groups[index].live > 0
                    && self.group_rejection(&self.groups[index]).is_none()
                {
                    self.standings[index].count = self.groups[index].live;
                    self.standings[index].best = self.top(index);
                }
            }
        } else {
            let passes: Vec<bool> =
                self.groups.iter().map(|group| self.group_rejection(group).is_none()).collect();
            for node in 0..visited {
                self.stand(node, &passes);
            }
        }
        Found { node: self.winner(profile), visited }
    }

    /// Counts a node in; returns whether it is feasible.
    fn stand(&mut self, node: NodeIndex, passes: &[bool]) -> bool {
        let (key, group) = (self.keys.get(node), self.group_of[node]);
        if key == 0 || group == NO_GROUP || !passes[group as usize] {
            return false;
        }
        let standing = &mut self.standings[group as usize];
        standing.count += 1;
        if standing.best.is_none_or(|(best, _)| key > best) {
            standing.best = Some((key, node));
        }
        true
    }

    /// The best node of a group.
    fn top(&mut self, index: usize) -> Option<(Key, NodeIndex)> {
        while let Some(&(key, Reverse(node))) = self.groups[index].heap.peek() {
            let node = node as usize;
            if self.keys.get(node) == key && self.group_of[node] as usize == index {
                return Some((key, node));
            }
            self.groups[index].heap.pop();
        }
        None
    }

    /// Looks for the best of the first `limit` feasible nodes from `start` on (§2.1).
    pub(crate) fn best_of_sample(
        &mut self,
        profile: &Profile,
        start: usize,
        limit: usize,
        by_index: bool,
    ) -> Found {
        if self.is_one_group() {
            let (best, visited) = self.keys.best_of_sample(start, limit, by_index);
            return Found { node: best.map(|best| best.row), visited };
        }
        self.standings.clear();
        self.standings.resize(self.groups.len(), Standing::default());
        let passes: Vec<bool> =
            self.groups.iter().map(|group| self.group_rejection(group).is_none()).collect();
        let count = self.keys.len();
        let (mut visited, mut feasible) = (0, 0);
        while visited < count {
            let node = (start + visited) % count;
            if let Some(skipped) = self.keys.empty_block(node, count - visited) {
                visited += skipped;
                continue;
            }
            let (key, group) = (self.keys.get(node), self.group_of[node]);
            if key > 0 && group != NO_GROUP && passes[group as usize] {
                if feasible == limit {
                    break;
                }
                feasible += 1;
                self.stand(node, &passes);
            }
            visited += 1;
        }
        Found { node: self.winner(profile), visited }
    }

    /// Looks for the best of the nodes that the pod's affinity narrows the search to.
    pub(crate) fn best_of_few(
        &mut self,
        profile: &Profile,
        nodes: &[NodeIndex],
        start: usize,
        limit: usize,
    ) -> Found {
        self.standings.clear();
        self.standings.resize(self.groups.len(), Standing::default());
        let passes: Vec<bool> =
            self.groups.iter().map(|group| self.group_rejection(group).is_none()).collect();
        let (mut visited, mut feasible) = (0, 0);
        while visited < nodes.len() {
            let node = nodes[(start + visited) % nodes.len()];
            let (key, group) = (self.keys.get(node), self.group_of[node]);
            if key > 0 && group != NO_GROUP && passes[group as usize] {
                if feasible == limit {
                    break;
                }
                feasible += 1;
                self.stand(node, &passes);
            }
            visited += 1;
        }
        Found { node: self.winner(profile), visited }
    }

    /// The nodes that the search is narrowed to, if it is.
    pub(crate) fn narrowed(&self) -> Option<Rc<Statics>> {
        self.statics.narrowed.is_some().then(|| Rc::clone(&self.statics))
    }

    /// Fills in what each group with feasible nodes adds to its nodes' local scores.
    fn add_bonuses(&mut self, profile: &Profile) {
        let mut standings = std::mem::take(&mut self.standings);
        let standing: Vec<usize> =
            (0..standings.len()).filter(|&index| standings[index].count > 0).collect();
        let max = |raw: &dyn Fn(&Group) -> i64| {
            standing.iter().map(|&index| raw(&self.groups[index])).max().unwrap_or(0)
        };
        let taint_max = max(&|group| group.taint_raw);
        let affinity_max = max(&|group| group.affinity_raw);
        let soft = &self.constraints.soft;
        let (mut spread_low, mut spread_high) = (i64::MAX, i64::MIN);
        if !soft.is_empty() {
            let weights = self.spread_weights(&standings, &standing);
            let tables: Vec<usize> = (0..soft.len())
                .map(|number| {
                    let role = Role::Soft(number);
                    let at = self.counts.iter().position(|counts| counts.role == role);
                    at.expect("each soft constraint has its table")
                })
                .collect();
            for &index in &standing {
                let group = &self.groups[index];
                if group.is_ignored {
                    continue;
                }
                let raw = topology_spread::raw_score(soft, |number| {
                    let table = tables[number];
                    let sum = self.counts[table].sum(group.marks[table])?;
                    Some((sum, weights[number]))
                });
                standings[index].spread_raw = raw;
                spread_low = spread_low.min(raw);
                spread_high = spread_high.max(raw);
            }
        }
        let (mut pull_low, mut pull_high) = (i64::MAX, i64::MIN);
        let pulls: Vec<usize> =
            (0..self.counts.len()).filter(|&t| self.counts[t].role == Role::Pull).collect();
        for &index in &standing {
            let marks = &self.groups[index].marks;
            let raw = pulls.iter().filter_map(|&t| self.counts[t].sum(marks[t])).sum();
            standings[index].pull_raw = raw;
            pull_low = pull_low.min(raw);
            pull_high = pull_high.max(raw);
        }
        for &index in &standing {
            let group = &self.groups[index];
            let standing = &mut standings[index];
            let mut bonus = profile.weight(Plugin::TaintToleration)
                * normalize::normalize(group.taint_raw, taint_max, true);
            bonus += profile.weight(Plugin::NodeAffinity)
                * normalize::normalize(group.affinity_raw, affinity_max, false);
            if !soft.is_empty() && !group.is_ignored {
                bonus += profile.weight(Plugin::PodTopologySpread)
                    * topology_spread::normalize(standing.spread_raw, spread_low, spread_high);
            }
            if !pulls.is_empty() {
                bonus += profile.weight(Plugin::InterPodAffinity)
                    * inter_pod_affinity::normalize(standing.pull_raw, pull_low, pull_high);
            }
            standing.bonus = bonus;
        }
        self.standings = standings;
    }

    /// The weight of each soft constraint's counts: by how many values there are among feasible nodes.
    fn spread_weights(&self, standings: &[Standing], standing: &[usize]) -> Vec<f64> {
        let scored = || standing.iter().filter(|&&index| !self.groups[index].is_ignored);
        self.constraints
            .soft
            .iter()
            .enumerate()
            .map(|(number, constraint)| {
                let nodes: usize = scored().map(|&index| standings[index].count as usize).sum();
                if constraint.topology_key == HOSTNAME {
                    return topology_spread::domain_weight(nodes);
                }
                let role = Role::Soft(number);
                let table = self.counts.iter().position(|counts| counts.role == role);
                let table = table.expect("each soft constraint has its table");
                let has_bare = scored().any(|&index| self.groups[index].marks[table] == NONE);
                let size = if self.counts[table].is_single {
                    let labelled = scored().filter(|&&i| self.groups[i].marks[table] != NONE);
                    labelled.map(|&i| standings[i].count as usize).sum::<usize>()
                        + usize::from(has_bare)
                } else {
                    // Nodes without the label count as one value more.
                    let values: BTreeSet<i64> =
                        scored().map(|&index| self.groups[index].marks[table]).collect();
                    values.len()
                };
                topology_spread::domain_weight(size)
            })
            .collect()
    }

    /// The best node over the groups that have feasible nodes.
    fn winner(&mut self, profile: &Profile) -> Option<NodeIndex> {
        self.add_bonuses(profile);
        let mut best: Option<(Key, Reverse<NodeIndex>)> = None;
        for standing in self.standings.iter().filter(|standing| standing.count > 0) {
            if let Some((key, node)) = standing.best {
                best = best.max(Some((raised(key, standing.bonus), Reverse(node))));
            }
        }
        best.map(|(_, Reverse(node))| node)
    }

    /// The totals of all feasible nodes, in the nodes' order.
    pub(crate) fn totals(&mut self, profile: &Profile) -> Vec<(NodeIndex, i64)> {
        if self.is_one_group() {
            self.group_of.resize(self.keys.len(), 0);
        }
        self.standings.clear();
        self.standings.resize(self.groups.len(), Standing::default());
        let passes: Vec<bool> =
            self.groups.iter().map(|group| self.group_rejection(group).is_none()).collect();
        let feasible: Vec<NodeIndex> =
            (0..self.keys.len()).filter(|&node| self.stand(node, &passes)).collect();
        self.add_bonuses(profile);
        let of = |node: NodeIndex| {
            let bonus = self.standings[self.group_of[node] as usize].bonus;
            (node, score_of(self.keys.get(node)) + bonus + constant(profile, self))
        };
        let totals = feasible.into_iter().map(of).collect();
        // Filled afresh next time: with one group nobody keeps who is in it.
        self.is_filled = false;
        totals
    }

    /// The verdict of all filters on a node, as if `removed` were not on it. The pods that wait for the
    /// node are first taken as being there, and then not (§2.2), but never `pod` itself.
    pub(crate) fn check(
        &self,
        profile: &Profile,
        cluster: &Cluster,
        node: NodeIndex,
        pod: Option<PodIndex>,
        removed: &[PodIndex],
    ) -> Verdict {
        let waiting: Vec<PodIndex> = cluster.nominated_before(node, self.priority, pod).collect();
        if !waiting.is_empty() {
            let verdict = self.check_with(profile, cluster, node, removed, &waiting);
            if verdict != Verdict::Success {
                return verdict;
            }
        }
        self.check_with(profile, cluster, node, removed, &[])
    }

    fn check_with(
        &self,
        profile: &Profile,
        cluster: &Cluster,
        node: NodeIndex,
        removed: &[PodIndex],
        added: &[PodIndex],
    ) -> Verdict {
        if let Some(rejection) = &self.statics.out[node] {
            return rejection.verdict();
        }
        let template = &cluster.templates[self.template];
        let added_port = |other: &PodIndex| {
            node_ports::conflict(&template.pod, &cluster.template_of(*other).pod)
        };
        if self.ports_conflict(cluster, node, removed)
            || self.local.wants_ports && added.iter().any(added_port)
        {
            return Verdict::Unschedulable;
        }
        if self.local.has_fit_filter && !self.fits_with(profile, cluster, node, removed, added) {
            return if is_beyond(profile, cluster, self.template, node) {
                Verdict::UnschedulableAndUnresolvable
            } else {
                Verdict::Unschedulable
            };
        }
        self.social_verdict(cluster, node, removed, added)
    }

    fn fits_with(
        &self,
        profile: &Profile,
        cluster: &Cluster,
        node: NodeIndex,
        removed: &[PodIndex],
        added: &[PodIndex],
    ) -> bool {
        let template = &cluster.templates[self.template];
        let state = &cluster.nodes[node];
        let pods = state.pods.len() + added.len() - removed.len();
        if i64::try_from(pods).expect("few pods on a node") + 1 > state.node.pods {
            return false;
        }
        let others = |amount: fn(&Template) -> i64| -> i64 {
            let sum = |pods: &[PodIndex]| -> i64 {
                pods.iter().map(|&pod| amount(cluster.template_of(pod))).sum()
            };
            sum(added) - sum(removed)
        };
        let has = &state.allocatable;
        let used = &state.used;
        let room = |asked: i64, has: i64, used: i64, amount: fn(&Template) -> i64| {
            asked <= 0 || asked <= has - used - others(amount)
        };
        if !(room(template.cpu, has.cpu, used.cpu, |t| t.cpu)
            && room(template.memory, has.memory, used.memory, |t| t.memory)
            && room(template.ephemeral, has.ephemeral, used.ephemeral, |t| t.ephemeral))
        {
            return false;
        }
        template.scalar.iter().all(|&(index, asked)| {
            let of = |pods: &[PodIndex]| -> i64 {
                pods.iter()
                    .flat_map(|&pod| &cluster.template_of(pod).scalar)
                    .filter(|&&(other, _)| other == index)
                    .map(|&(_, amount)| amount)
                    .sum()
            };
            asked == 0
                || fit::is_ignored(profile, cluster.scalar_name(index))
                || asked <= has.scalar(index) - used.scalar(index) - of(added) + of(removed)
        })
    }

    fn social_verdict(
        &self,
        cluster: &Cluster,
        node: NodeIndex,
        removed: &[PodIndex],
        added: &[PodIndex],
    ) -> Verdict {
        let mut changes = vec![0; self.counts.len()];
        for (pods, sign) in [(removed, -1), (added, 1)] {
            for &pod in pods {
                if let Some(followed) = self.followed.get(&cluster.pods[pod].template) {
                    for &(index, weight) in &followed.effects {
                        if self.counts[index].is_counted(node) {
                            changes[index] += sign * weight;
                        }
                    }
                }
            }
        }
        let near: i64 = self
            .counts
            .iter()
            .zip(&changes)
            .filter(|(counts, _)| counts.role == Role::Near && counts.domain(node).is_some())
            .map(|(_, &change)| change)
            .sum();
        for plugin in [Plugin::PodTopologySpread, Plugin::InterPodAffinity] {
            let mut verdict = Verdict::Success;
            for (counts, &change) in self.counts.iter().zip(&changes) {
                if counts.role.plugin() != plugin {
                    continue;
                }
                let sum = counts.domain(node).map(|domain| counts.sums[domain] + change);
                if let Some(rejection) =
                    self.role_rejection(counts, sum, Some((node, change, near)))
                {
                    verdict = rejection.verdict();
                    break;
                }
            }
            if verdict != Verdict::Success {
                return verdict;
            }
        }
        Verdict::Success
    }

    /// Whether preemption might help on a node where the pod does not fit now.
    pub(crate) fn may_be_resolved(
        &self,
        profile: &Profile,
        cluster: &Cluster,
        node: NodeIndex,
        pod: Option<PodIndex>,
    ) -> bool {
        if self.statics.out[node].is_some() {
            return false;
        }
        if !self.has_social_filters() && !self.local.wants_ports {
            return !is_beyond(profile, cluster, self.template, node);
        }
        self.check(profile, cluster, node, pod, &[]) == Verdict::Unschedulable
    }

    /// How many bytes it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        let tables: usize =
            self.counts.iter().map(|c| 4 * c.domain_of.len() + 9 * c.sums.len()).sum();
        self.keys.len() * 9 + self.group_of.len() * if self.uses_heaps { 36 } else { 4 } + tables
    }

    /// What the tables say against a recount: `None` where they agree. For tests.
    pub(crate) fn check_counts(&self, cluster: &Cluster) -> Option<String> {
        for (index, counts) in self.counts.iter().enumerate() {
            let mut sums = vec![0; counts.sums.len()];
            for (&template, followed) in &self.followed {
                let weight: i64 =
                    followed.effects.iter().filter(|e| e.0 == index).map(|e| e.1).sum();
                for (&node, &count) in &cluster.templates[template].on_node {
                    if let Some(domain) = counts.domain(node).filter(|_| counts.is_counted(node)) {
                        sums[domain] += weight * i64::from(count);
                    }
                }
            }
            if sums != counts.sums {
                return Some(format!("{:?} over {}: sums differ", counts.role, counts.key));
            }
            let mut histogram: BTreeMap<i64, u32> = BTreeMap::new();
            for (domain, &sum) in sums.iter().enumerate() {
                if counts.is_in_histogram[domain] {
                    *histogram.entry(sum).or_insert(0) += 1;
                }
            }
            if histogram != counts.histogram {
                return Some(format!("{:?} over {}: minimum differs", counts.role, counts.key));
            }
        }
        None
    }
}

/// What a profile adds to every node alike.
fn constant(profile: &Profile, lane: &Lane) -> i64 {
    let mut constant = 100 * profile.weight(Plugin::NodePreferAvoidPods);
    if profile.version == Version::V1_20 && lane.constraints.soft.is_empty() {
        constant += 100 * profile.weight(Plugin::PodTopologySpread);
    }
    constant
}

/// The lists of templates that may add to the tables of a pod.
fn lists_for(
    cluster: &mut Cluster,
    pod: &Pod,
    constraints: &Constraints,
) -> Vec<(ListIndex, usize)> {
    let mut names = BTreeSet::from([ListName::Selecting]);
    names.extend(
        pod.labels.iter().map(|(key, value)| ListName::SelectingLabel(key.clone(), value.clone())),
    );
    let of_spread = constraints.hard.iter().chain(&constraints.soft).map(|c| &c.selector);
    let of_terms = [&pod.affinity, &pod.anti_affinity].into_iter().flat_map(|affinity| {
        let preferred = affinity.preferred.iter().map(|preference| &preference.term);
        affinity.required.iter().chain(preferred).map(|term| &term.selector)
    });
    for selector in of_spread.chain(of_terms).flatten() {
        names.insert(match required_label(selector) {
            Some((key, value)) => ListName::WithLabel(key, value),
            None => ListName::All,
        });
    }
    names.into_iter().map(|name| (cluster.list_index(name), 0)).collect()
}

impl Role {
    fn is_filter(self) -> bool {
        match self {
            Self::Hard(_) | Self::Near | Self::Far | Self::Existing => true,
            Self::Soft(_) | Self::Pull => false,
        }
    }

    fn plugin(self) -> Plugin {
        match self {
            Self::Hard(_) | Self::Soft(_) => Plugin::PodTopologySpread,
            Self::Near | Self::Far | Self::Existing | Self::Pull => Plugin::InterPodAffinity,
        }
    }
}

impl Local {
    #[expect(clippy::cast_precision_loss, reason = "quantities are below 2^53")]
    fn of(profile: &Profile, cluster: &Cluster, template: TemplateIndex) -> Self {
        let template = &cluster.templates[template];
        let pod = &template.pod;
        let images = if profile.weight(Plugin::ImageLocality) > 0 {
            let known = |image: &String| cluster.nodes_with_image(image) > 0;
            let images = image_locality::images(pod);
            // Images that no node has leave the score at 0 everywhere.
            if images.iter().any(known) { images } else { Vec::new() }
        } else {
            Vec::new()
        };
        let wants_ports = profile.has_filter(Plugin::NodePorts) && node_ports::wants_any(pod);
        // Products by 100 must be below 2^53.
        const EXACT: i64 = 1 << 46;
        let is_small = cluster
            .nodes
            .iter()
            .all(|node| node.allocatable.memory < EXACT && node.allocatable.cpu < EXACT);
        let is_two = matches!(profile.strategy, Strategy::LeastAllocated | Strategy::MostAllocated);
        let has_fit_filter = profile.has_filter(Plugin::NodeResourcesFit);
        let at_least =
            |asked: i64| if asked > 0 && has_fit_filter { asked as f64 } else { f64::NEG_INFINITY };
        Self {
            is_quick: !wants_ports
                && images.is_empty()
                && is_small
                && is_two
                && ResourceWeight::are_default(&profile.fit_resources)
                && ResourceWeight::are_default(&profile.balanced_resources),
            is_most: profile.strategy == Strategy::MostAllocated,
            version: profile.version,
            needs: [at_least(template.cpu), at_least(template.memory)],
            plain: [template.cpu as f64, template.memory as f64],
            non_zero: [template.non_zero[0] as f64, template.non_zero[1] as f64],
            skips_balance: balanced_allocation::skips(profile, cluster, template),
            fit_weight: profile.weight(Plugin::NodeResourcesFit) as f64,
            balance_weight: profile.weight(Plugin::NodeResourcesBalancedAllocation) as f64,
            has_fit_filter,
            ephemeral: if has_fit_filter { template.ephemeral } else { 0 },
            scalar: template
                .scalar
                .iter()
                .copied()
                .filter(|&(index, asked)| {
                    let name = cluster.scalar_name(index);
                    has_fit_filter && asked != 0 && !fit::is_ignored(profile, name)
                })
                .collect(),
            images,
            wants_ports,
        }
    }

    #[inline(always)]
    fn fits(&self, row: &NodeRow) -> bool {
        (row.pods_left >= 1.0 || !self.has_fit_filter)
            & (row.free[0] >= self.needs[0])
            & (row.free[1] >= self.needs[1])
    }

    /// Whether resources beside CPU and memory are there.
    #[inline(always)]
    fn has_more(&self, cluster: &Cluster, node: NodeIndex) -> bool {
        if self.ephemeral <= 0 && self.scalar.is_empty() {
            return true;
        }
        let NodeState { allocatable, used, .. } = &cluster.nodes[node];
        (self.ephemeral <= 0 || self.ephemeral <= allocatable.ephemeral - used.ephemeral)
            && self
                .scalar
                .iter()
                .all(|&(index, asked)| asked <= allocatable.scalar(index) - used.scalar(index))
    }

    #[inline(always)]
    fn score(&self, row: &NodeRow) -> i64 {
        let left = [0, 1].map(|r| row.left_non_zero[r] - self.non_zero[r]);
        let fit = Strategy::score_two(self.is_most, left, row.capacity);
        let balance = match self.version {
            Version::V1_36 if self.skips_balance => 0.0,
            Version::V1_36 => {
                let used = [0, 1].map(|r| row.capacity[r] - row.free[r] + self.plain[r]);
                let after = balanced_allocation::balance_two(used, row.capacity);
                balanced_allocation::relative(after, row.balance_before)
            }
            Version::V1_20 => {
                if row.capacity[0] == 0.0 || row.capacity[1] == 0.0 {
                    0.0
                } else {
                    let used = [0, 1].map(|r| (row.capacity[r] - left[r]) / row.capacity[r]);
                    balanced_allocation::balance_v1_20(used)
                }
            }
        };
        #[expect(clippy::cast_possible_truncation, reason = "whole numbers below 2^40")]
        {
            (self.fit_weight * fit + self.balance_weight * balance) as i64
        }
    }

    fn score_slow(
        &self,
        profile: &Profile,
        cluster: &Cluster,
        template: &Template,
        node: NodeIndex,
        load: &Load,
    ) -> i64 {
        let mut score = 0;
        let fit_weight = profile.weight(Plugin::NodeResourcesFit);
        if fit_weight > 0 {
            score += fit_weight * fit::score(profile, cluster, template, node, load);
        }
        let balance_weight = profile.weight(Plugin::NodeResourcesBalancedAllocation);
        if balance_weight > 0 && !self.skips_balance {
            score +=
                balance_weight * balanced_allocation::score(profile, cluster, template, node, load);
        }
        let image_weight = profile.weight(Plugin::ImageLocality);
        score + image_weight * image_locality::score(cluster, &self.images, node)
    }
}

/// Whether even the empty node is too small.
fn is_beyond(
    profile: &Profile,
    cluster: &Cluster,
    template: TemplateIndex,
    node: NodeIndex,
) -> bool {
    let template = &cluster.templates[template];
    let has = &cluster.nodes[node].allocatable;
    profile.version != Version::V1_20
        && profile.has_filter(Plugin::NodeResourcesFit)
        && (template.cpu > has.cpu.max(0)
            || template.memory > has.memory.max(0)
            || template.ephemeral > has.ephemeral.max(0)
            || template.scalar.iter().any(|&(index, asked)| {
                asked > has.scalar(index) && !fit::is_ignored(profile, cluster.scalar_name(index))
            }))
}

#[inline(always)]
fn tie_with(tie: u64, of_node: u64) -> u64 {
    (tie ^ of_node).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40
}

/// Seeds the ties of a template's pods.
fn tie_of(pod: &Pod, seed: u64) -> u64 {
    let mut hash = mix(seed);
    let mut add = |value: u64| hash = mix(hash ^ value);
    for (key, value) in &pod.labels {
        key.bytes().chain(value.bytes()).for_each(|byte| add(u64::from(byte)));
    }
    for container in &pod.containers {
        add(container.requests.cpu.unwrap_or(-1).unsigned_abs());
        add(container.requests.memory.unwrap_or(-1).unsigned_abs());
    }
    hash
}
