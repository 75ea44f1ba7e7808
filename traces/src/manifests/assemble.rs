//! From the objects of a dump to a cell: what is owned by another object of the dump is counted once.
//!
//! - An object whose controller is in the dump (same name, and same unique id where both have one) is
//!   counted by that one, or by whatever controls it in turn; a ReplicaSet of a Deployment counts nothing.
//!   A pod of a ReplicaSet that is not in the dump belongs to the Deployment whose name the ReplicaSet's
//!   is with the pod's `pod-template-hash` behind it.
//! - A controller is a job of as many tasks as it wants or has live pods, whichever is more (during a
//!   rolling update there are more). Live pods fill its tasks, in the order of their names, or by their
//!   ordinals in a StatefulSet. All tasks are as the template says: a live pod gives its place only.
//! - A DaemonSet is a job of one task a node, `DaemonSet/NAMESPACE/NAME@NODE`, for the nodes that its
//!   controller would choose, each pinned by an affinity to the node's name, and tied to its machine.
//! - A pod that nobody in the dump owns is a job of one task. One that a kubelet runs by itself is tied to
//!   its machine, with its node's name and a toleration of everything, since no scheduler is asked.
//! - Finished pods and gated ones do not count; one that is being deleted counts as long as it is bound.

use std::collections::{BTreeMap, BTreeSet};

use cell::kube::{
    DisruptionBudget, Labels, NODE_NAME_FIELD, Node, NodeTerm, Objects, Pod, Requirement, Selector,
    TaintEffect, Toleration, TolerationOperator,
};
use cell::{Cell, Host, Job, JobKind, MachineId, Task, TaskState, UserId};

use super::borg::{InBorg, LabelFacts, in_borg, priorities};
use super::budget::{Health, allowed};
use super::dump::{Controller, Dump, Identity, Kind, LivePod, Maker, Origin, Shape};
use super::fault::Fault;
use super::node::{keeps_away, machine, other_resources};
use super::pod::Template;
use super::selector::equal_to;
use crate::doctor::{Examiner, FindingKind};
use crate::error::{TraceError, quoted};
use crate::input::Place;

/// The most tasks in all, as in `cell_folder`.
const TASK_COUNT_MAX: u64 = 10_000_000;
/// How far a chain of controllers is followed: a pod, its ReplicaSet, its Deployment, and two to spare.
const OWNERS_MAX: usize = 4;
/// The label by which a namespace can be selected by its name; the API server sets it.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
/// The label that tells a Deployment's revisions apart.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// An error about an object, where it stands.
pub(super) fn entry(place: &Place, line: u64, identity: &Identity, fault: &Fault) -> TraceError {
    let name = match identity.namespace.as_str() {
        "" => identity.name.clone(),
        namespace => format!("{namespace}/{}", identity.name),
    };
    TraceError::Entry {
        file: place.file.to_string(),
        line,
        entry: crate::error::one_line(&format!("{} {name}", identity.kind.name())),
        field: fault.field(),
        problem: fault.problem.clone(),
    }
}

/// Makes the cell.
pub(super) fn assemble(mut dump: Dump, examiner: &mut Examiner) -> Result<Cell, TraceError> {
    let mut cell = Cell::default();
    let mut kube = Objects::default();
    let mut places = Vec::new();
    for (place, node) in std::mem::take(&mut dump.nodes) {
        let (machine, is_clipped) = machine(&node);
        let describe = || format!("Node {}", node.name);
        if is_clipped {
            examiner.note(FindingKind::ClippedValue, &place, || format!("{}: GPUs", describe()));
        }
        if node.allocatable.cpu.is_none() || node.allocatable.memory.is_none() {
            examiner.note(FindingKind::MissingValue, &place, || {
                format!("{}: no allocatable CPU or memory", describe())
            });
        }
        if keeps_away(&node) {
            examiner.note(FindingKind::UnseenTaint, &place, describe);
        }
        for name in other_resources(&node.allocatable) {
            examiner.note(FindingKind::UnseenResource, &place, || {
                format!("{}: {}", describe(), quoted(name))
            });
        }
        cell.machines.push(machine);
        kube.nodes.push(node);
        places.push(place);
    }
    let machine_ids: BTreeMap<String, MachineId> = cell
        .machines
        .iter()
        .enumerate()
        .map(|(index, machine)| (machine.name.clone(), MachineId::from_index(index)))
        .collect();
    let owners = Owners::of(&dump);
    let mut assembly = Assembly {
        facts: LabelFacts::of(&kube.nodes),
        dump: &dump,
        machine_ids,
        cell,
        kube,
        task_count: 0,
        examiner,
    };
    let mut pods_of: Vec<Vec<&LivePod>> = dump.controllers.iter().map(|_| Vec::new()).collect();
    let mut gated_of = vec![0_u32; dump.controllers.len()];
    let mut alone: BTreeSet<usize> = BTreeSet::new();
    for (index, pod) in dump.pods.iter().enumerate() {
        let owner = owners.of_pod(pod);
        if !assembly.is_live(pod) {
            if let Some(owner) = owner.filter(|_| pod.template.is_gated && !pod.is_finished) {
                gated_of[owner] += 1;
            }
            continue;
        }
        match owner {
            Some(owner) => pods_of[owner].push(pod),
            None => {
                alone.insert(index);
            }
        }
    }
    for pods in &mut pods_of {
        pods.sort_by(|a, b| a.origin.identity.cmp(&b.origin.identity));
    }
    let healths = healths(&dump, &owners, &pods_of, &alone);
    for maker in &dump.makers {
        let (origin, made) = match maker {
            Maker::Controller(index) if owners.is_owned(*index) => continue,
            Maker::Controller(index) => {
                let controller = &dump.controllers[*index];
                let made = assembly.controller(controller, &pods_of[*index], gated_of[*index]);
                (&controller.origin, made)
            }
            Maker::Pod(index) if !alone.contains(index) => continue,
            Maker::Pod(index) => (&dump.pods[*index].origin, assembly.single(&dump.pods[*index])),
        };
        let made =
            made.map_err(|fault| entry(&origin.place, origin.place.line, &origin.identity, &fault));
        assembly.examiner.excuse(made)?;
    }
    let Assembly { mut cell, mut kube, .. } = assembly;
    set_bands(&mut cell, &kube);
    kube.namespaces = namespaces(&dump, &kube.pods);
    kube.budgets = dump
        .budgets
        .into_iter()
        .zip(healths)
        .map(|(budget, health)| DisruptionBudget {
            namespace: budget.namespace,
            selector: budget.selector,
            allowed: allowed(&budget.protection, health),
            disrupted: budget.disrupted,
        })
        .collect();
    cell.kube = Some(Box::new(kube));
    Ok(cell)
}

/// Who counts for whom.
struct Owners<'d> {
    dump: &'d Dump,
    by_identity: BTreeMap<&'d Identity, usize>,
}

impl<'d> Owners<'d> {
    fn of(dump: &'d Dump) -> Self {
        let identities = dump.controllers.iter().map(|controller| &controller.origin.identity);
        Self { dump, by_identity: identities.zip(0..).collect() }
    }

    /// The controller of an object, if it is in the dump.
    fn parent(&self, origin: &Origin) -> Option<usize> {
        let (identity, uid) = origin.controller.as_ref()?;
        let index = *self.by_identity.get(identity)?;
        let known = self.dump.controllers[index].origin.uid.as_ref();
        // One of the same name that has been made anew is another.
        known.is_none_or(|known| uid.is_empty() || known == uid).then_some(index)
    }

    /// Whether another object counts for this controller.
    fn is_owned(&self, index: usize) -> bool {
        self.top(index) != index
    }

    /// The object that counts for a controller, itself or another. In a circle each counts for itself.
    fn top(&self, index: usize) -> usize {
        let mut at = index;
        for _ in 0..OWNERS_MAX {
            match self.parent(&self.dump.controllers[at].origin) {
                None => return at,
                Some(parent) => at = parent,
            }
        }
        index
    }

    /// The controller that counts for a pod.
    fn of_pod(&self, pod: &LivePod) -> Option<usize> {
        if let Some(index) = self.parent(&pod.origin) {
            return Some(self.top(index));
        }
        let (set, _) = pod.origin.controller.as_ref()?;
        if set.kind != Kind::ReplicaSet || self.by_identity.contains_key(set) {
            return None;
        }
        let hash = pod.template.pod.labels.get(TEMPLATE_HASH)?;
        let name = set.name.strip_suffix(hash.as_str())?.strip_suffix('-')?.to_owned();
        let deployment =
            Identity { kind: Kind::Deployment, namespace: set.namespace.clone(), name };
        self.by_identity.get(&deployment).map(|&index| self.top(index))
    }
}

struct Assembly<'d, 'e> {
    dump: &'d Dump,
    facts: LabelFacts,
    machine_ids: BTreeMap<String, MachineId>,
    cell: Cell,
    kube: Objects,
    task_count: u64,
    examiner: &'e mut Examiner,
}

impl Assembly<'_, '_> {
    /// Whether a pod counts; tells the doctor why not.
    fn is_live(&mut self, pod: &LivePod) -> bool {
        let Origin { place, identity, .. } = &pod.origin;
        if pod.is_finished {
            return false;
        }
        if pod.template.is_gated {
            self.examiner.note(FindingKind::GatedPod, place, || identity.path());
            return false;
        }
        if pod.is_terminating {
            self.examiner.note(FindingKind::TerminatingPod, place, || identity.path());
        }
        !pod.is_terminating || pod.node.is_some()
    }

    /// Adds what a controller makes.
    fn controller(
        &mut self,
        controller: &Controller,
        pods: &[&LivePod],
        gated: u32,
    ) -> Result<(), Fault> {
        let origin = &controller.origin;
        let template = &controller.template;
        let mut pod = self.finished(template, Some(controller))?;
        let wanted = |count: u32| if template.is_gated { 0 } else { count.saturating_sub(gated) };
        if template.is_gated {
            self.examiner.note(FindingKind::GatedPod, &origin.place, || origin.identity.path());
        }
        for live in pods {
            self.compare(live, template, &pod);
        }
        let name = origin.identity.path();
        match controller.shape {
            Shape::Replicas(count) => {
                let tasks = self.in_order(wanted(count), pods);
                self.push(origin, name, pod, tasks, false, template)
            }
            Shape::AsMany => {
                let tasks = self.in_order(0, pods);
                self.push(origin, name, pod, tasks, false, template)
            }
            Shape::Ordinals { first, count } => {
                let tasks = self.by_ordinal(first, wanted(count), pods, &origin.identity.name);
                self.push(origin, name, pod, tasks, false, template)
            }
            Shape::EachNode => {
                pod.tolerations.extend(daemon_tolerations(template.on_host_network));
                self.on_each_node(controller, &pod, pods)
            }
        }
    }

    /// Adds a pod that counts for itself.
    fn single(&mut self, live: &LivePod) -> Result<(), Fault> {
        let mut pod = self.finished(&live.template, None)?;
        if live.is_mirror
            && let Some(node) = &live.node
        {
            pod.node_name = Some(node.clone());
            pod.tolerations =
                vec![Toleration { operator: TolerationOperator::Exists, ..Toleration::default() }];
        }
        let tasks = self.in_order(1, &[live]);
        let name = live.origin.identity.path();
        self.push(&live.origin, name, pod, tasks, live.is_mirror, &live.template)
    }

    /// A template's pod with all that is looked up elsewhere.
    fn finished(&self, template: &Template, owner: Option<&Controller>) -> Result<Pod, Fault> {
        let mut pod = template.pod.clone();
        let class = match &template.priority_class {
            Some(name) => match (self.dump.classes.get(name), name.as_str(), template.priority) {
                (Some(class), ..) => Some(*class),
                (None, "system-cluster-critical", _) => Some(system_class(2_000_000_000)),
                (None, "system-node-critical", _) => Some(system_class(2_000_001_000)),
                // Resolved already, and the dump does not tell by what.
                (None, _, Some(_)) => None,
                (None, _, None) => {
                    let path = match owner {
                        Some(_) => "spec.template.spec.priorityClassName",
                        None => "spec.priorityClassName",
                    };
                    let problem = format!("no PriorityClass is called {}", quoted(name));
                    return Err(Fault::of(path, problem));
                }
            },
            None => self.dump.default_class,
        };
        pod.priority = template.priority.or(class.map(|class| class.value)).unwrap_or(0);
        pod.preemption =
            template.preemption.or(class.map(|class| class.preemption)).unwrap_or_default();
        pod.owner_selector = self.owner_selector(&pod, owner);
        Ok(pod)
    }

    /// The services' selectors in one, and the controller's own, as kube-scheduler's default spreading
    /// takes them. A Deployment stands for its ReplicaSets, whose hash a template does not have.
    fn owner_selector(&self, pod: &Pod, owner: Option<&Controller>) -> Selector {
        let services = self.dump.services.get(&pod.namespace).into_iter().flatten();
        let mut merged = Labels::new();
        for selector in services {
            if selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value)) {
                merged.extend(selector.clone());
            }
        }
        let mut requirements = equal_to(&merged);
        for requirement in owner.and_then(|owner| owner.selector.as_ref()).iter().flat_map(|s| &s.0)
        {
            if !requirements.contains(requirement) {
                requirements.push(requirement.clone());
            }
        }
        Selector(requirements)
    }

    /// Counts a live pod that differs from what stands for it.
    fn compare(&mut self, live: &LivePod, template: &Template, pod: &Pod) {
        let is_alike = live.template.pod.requests() == template.pod.requests()
            && live.template.priority.is_none_or(|priority| priority == pod.priority);
        if !is_alike {
            let Origin { place, identity, .. } = &live.origin;
            self.examiner.note(FindingKind::UnlikeTemplate, place, || identity.path());
        }
    }

    /// Where a pod is.
    fn state(&mut self, live: &LivePod) -> TaskState {
        let Some(node) = &live.node else { return TaskState::Pending };
        let on = self.machine_ids.get(node).map(|&id| Host::Machine(id));
        if on.is_none() {
            let Origin { place, identity, .. } = &live.origin;
            self.examiner.note(FindingKind::OrphanMachine, place, || {
                format!("{} is on node {}", identity.path(), quoted(node))
            });
        }
        TaskState::Running { on }
    }

    /// At least `wanted` tasks, the first of them the live pods.
    fn in_order(&mut self, wanted: u32, pods: &[&LivePod]) -> Vec<(u32, TaskState)> {
        let mut tasks: Vec<(u32, TaskState)> =
            (0..).zip(pods).map(|(index, live)| (index, self.state(live))).collect();
        let from = u32::try_from(tasks.len()).unwrap_or(u32::MAX);
        tasks.extend((from..wanted).map(|index| (index, TaskState::Pending)));
        tasks
    }

    /// The tasks from `first` on, and a live pod at the place that its name says.
    fn by_ordinal(
        &mut self,
        first: u32,
        count: u32,
        pods: &[&LivePod],
        name: &str,
    ) -> Vec<(u32, TaskState)> {
        let ordinals = first..first.saturating_add(count);
        let mut tasks: BTreeMap<u32, TaskState> =
            ordinals.map(|index| (index, TaskState::Pending)).collect();
        for live in pods {
            let state = self.state(live);
            let suffix = live.origin.identity.name.strip_prefix(name);
            let ordinal = suffix.and_then(|suffix| suffix.strip_prefix('-')?.parse().ok());
            let index = ordinal
                .filter(|index| tasks.get(index).is_none_or(|old| *old == TaskState::Pending))
                .or_else(|| {
                    tasks.last_key_value().map_or(Some(0), |(last, _)| last.checked_add(1))
                });
            if let Some(index) = index {
                tasks.insert(index, state);
            }
        }
        tasks.into_iter().collect()
    }

    fn on_each_node(
        &mut self,
        controller: &Controller,
        pod: &Pod,
        pods: &[&LivePod],
    ) -> Result<(), Fault> {
        let mut on: BTreeMap<&str, Vec<&LivePod>> = BTreeMap::new();
        for live in pods {
            if let Some(node) = live.node.as_deref().or_else(|| pinned_to(&live.template.pod)) {
                on.entry(node).or_default().push(live);
            }
        }
        let nodes = self.kube.nodes.iter();
        let mut names: Vec<String> = nodes
            .filter(|node| on.contains_key(node.name.as_str()) || may_run(pod, node))
            .map(|node| node.name.clone())
            .collect();
        let unknown = on.keys().filter(|name| !self.machine_ids.contains_key(**name));
        names.extend(unknown.map(|name| (*name).to_owned()));
        for node in names {
            let live = on.get(node.as_str()).map_or(&[][..], Vec::as_slice);
            let wanted = u32::from(!controller.template.is_gated);
            let tasks = self.in_order(wanted, live);
            let mut pinned = pod.clone();
            let name = Requirement::is_in(NODE_NAME_FIELD, [node.clone()]);
            pinned.node_affinity.required =
                Some(vec![NodeTerm { fields: vec![name], ..NodeTerm::default() }]);
            let name = format!("{}@{node}", controller.origin.identity.path());
            self.push(&controller.origin, name, pinned, tasks, true, &controller.template)?;
        }
        Ok(())
    }

    /// Adds a job, unless it has no task.
    fn push(
        &mut self,
        origin: &Origin,
        name: String,
        pod: Pod,
        tasks: Vec<(u32, TaskState)>,
        tied_to_machines: bool,
        template: &Template,
    ) -> Result<(), Fault> {
        if tasks.is_empty() {
            return Ok(());
        }
        self.task_count = self.task_count.saturating_add(tasks.len() as u64);
        if self.task_count > TASK_COUNT_MAX {
            return Err(Fault::of("spec", format!("above {TASK_COUNT_MAX} tasks in all")));
        }
        let is_pod = origin.identity.kind == Kind::Pod;
        let path = if is_pod { "spec" } else { "spec.template.spec" };
        let borg = in_borg(&pod, &self.facts).map_err(|fault| fault.within(path))?;
        self.tell(origin, &name, &pod, &borg, template);
        let next = UserId::from_index(self.cell.users.len());
        let known = self.cell.users.iter().position(|user| *user == pod.namespace);
        let user = known.map_or(next, UserId::from_index);
        if known.is_none() {
            self.cell.users.push(pod.namespace.clone());
        }
        self.cell.jobs.push(Job {
            name,
            kind: JobKind::Job,
            user,
            // Set when all are known.
            priority: cell::Priority::MAX,
            constraints: borg.constraints,
            different_machines: borg.different_machines,
            spread: borg.spread,
            packages: BTreeSet::new(),
            alloc_set: None,
            tied_to_machines,
            // Budgets are about pods of any job: `cell::kube::Objects::budgets`.
            max_disrupted: None,
            tasks: tasks
                .into_iter()
                .map(|(index, state)| Task { state, ..Task::new(index, borg.limit) })
                .collect(),
        });
        self.kube.pods.push(pod);
        Ok(())
    }

    /// Tells the doctor what of a job is not seen or not modelled.
    fn tell(&mut self, origin: &Origin, name: &str, pod: &Pod, borg: &InBorg, template: &Template) {
        let place = &origin.place;
        let mut note = |kind, detail: &dyn Fn() -> String| {
            self.examiner.note(kind, place, || format!("{name}: {}", detail()));
        };
        if !borg.unseen_rules.is_empty() {
            note(FindingKind::UnseenRule, &|| borg.unseen_rules.join(", "));
        }
        if !borg.unseen_resources.is_empty() {
            note(FindingKind::UnseenResource, &|| borg.unseen_resources.join(", "));
        }
        if borg.gpus_clipped {
            note(FindingKind::ClippedValue, &|| "GPUs".to_owned());
        }
        if pod.volume_count > 0 {
            note(FindingKind::UnmodelledVolume, &|| format!("{} volumes", pod.volume_count));
        }
        if template.claim_count > 0 {
            note(FindingKind::UnmodelledClaim, &|| format!("{} claims", template.claim_count));
        }
        if let Some(scheduler) = &template.other_scheduler {
            note(FindingKind::OtherScheduler, &|| quoted(scheduler));
        }
    }
}

fn system_class(value: i32) -> super::dump::PriorityClass {
    super::dump::PriorityClass { value, preemption: cell::kube::PreemptionPolicy::default() }
}

/// The node that a DaemonSet's controller has pinned a pod to.
fn pinned_to(pod: &Pod) -> Option<&str> {
    let [term] = pod.node_affinity.required.as_deref()? else { return None };
    term.names()?.first().copied()
}

/// What a DaemonSet's controller lets its pods tolerate.
///
/// Source: `pkg/controller/daemon/util.AddOrUpdateDaemonPodTolerations`, v1.36.
fn daemon_tolerations(on_host_network: bool) -> Vec<Toleration> {
    let toleration = |key: &str, effect| Toleration {
        key: format!("node.kubernetes.io/{key}"),
        operator: TolerationOperator::Exists,
        value: String::new(),
        effect: Some(effect),
    };
    let mut tolerations = vec![
        toleration("not-ready", TaintEffect::NoExecute),
        toleration("unreachable", TaintEffect::NoExecute),
        toleration("disk-pressure", TaintEffect::NoSchedule),
        toleration("memory-pressure", TaintEffect::NoSchedule),
        toleration("pid-pressure", TaintEffect::NoSchedule),
        toleration("unschedulable", TaintEffect::NoSchedule),
    ];
    if on_host_network {
        tolerations.push(toleration("network-unavailable", TaintEffect::NoSchedule));
    }
    tolerations
}

/// Whether a DaemonSet's controller would run a pod on a node: its name, its labels, its taints. A cordon
/// is tolerated, since the controller says so.
fn may_run(pod: &Pod, node: &Node) -> bool {
    let is_named = pod.node_name.as_ref().is_none_or(|name| *name == node.name);
    let is_selected =
        pod.node_selector.iter().all(|(key, value)| node.labels.get(key) == Some(value));
    let is_liked = pod
        .node_affinity
        .required
        .as_ref()
        .is_none_or(|terms| terms.iter().any(|term| term.matches(&node.name, &node.labels)));
    let is_tolerated = node.taints.iter().all(|taint| {
        taint.effect == TaintEffect::PreferNoSchedule
            || pod.tolerations.iter().any(|toleration| {
                toleration.effect.is_none_or(|effect| effect == taint.effect)
                    && (toleration.key.is_empty() || toleration.key == taint.key)
                    && match toleration.operator {
                        TolerationOperator::Exists => true,
                        TolerationOperator::Equal => toleration.value == taint.value,
                    }
            })
    });
    is_named && is_selected && is_liked && is_tolerated
}

/// Borg's priorities, when all of Kubernetes' are known.
fn set_bands(cell: &mut Cell, kube: &Objects) {
    let priorities = priorities(&kube.pods.iter().map(|pod| pod.priority).collect());
    for (job, pod) in cell.jobs.iter_mut().zip(&kube.pods) {
        job.priority = priorities[&pod.priority];
    }
}

/// Labels of the namespaces that are in the dump or that a pod is in, each with its name among them.
fn namespaces(dump: &Dump, pods: &[Pod]) -> BTreeMap<String, Labels> {
    let mut namespaces = dump.namespaces.clone();
    for pod in pods {
        if !namespaces.contains_key(&pod.namespace) {
            namespaces.insert(pod.namespace.clone(), Labels::new());
        }
    }
    for (name, labels) in &mut namespaces {
        labels.insert(NAMESPACE_NAME.to_owned(), name.clone());
    }
    namespaces
}

/// What each budget's pods are like.
fn healths(
    dump: &Dump,
    owners: &Owners<'_>,
    pods_of: &[Vec<&LivePod>],
    alone: &BTreeSet<usize>,
) -> Vec<Health> {
    let live = pods_of.iter().flatten().copied().chain(alone.iter().map(|&at| &dump.pods[at]));
    let mut by_namespace: BTreeMap<&str, Vec<&LivePod>> = BTreeMap::new();
    for pod in live {
        by_namespace.entry(pod.origin.identity.namespace.as_str()).or_default().push(pod);
    }
    let health = |budget: &super::dump::Budget| {
        let mut health = Health::default();
        let mut controllers = BTreeSet::new();
        let Some(selector) = &budget.selector else { return health };
        let pods = by_namespace.get(budget.namespace.as_str()).into_iter().flatten();
        for pod in pods.filter(|pod| selector.matches(&pod.template.pod.labels)) {
            let is_healthy =
                pod.node.is_some() && !pod.is_terminating && pod.is_ready != Some(false);
            health.healthy += i64::from(is_healthy);
            match owners.of_pod(pod) {
                None => health.expected += 1,
                Some(owner) => {
                    controllers.insert(owner);
                }
            }
        }
        for owner in controllers {
            let live = pods_of[owner].len();
            health.expected += match dump.controllers[owner].shape {
                Shape::Replicas(count) | Shape::Ordinals { count, .. } => i64::from(count),
                Shape::EachNode | Shape::AsMany => i64::try_from(live).unwrap_or(i64::MAX),
            };
        }
        health
    };
    dump.budgets.iter().map(health).collect()
}
