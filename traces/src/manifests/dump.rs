//! The objects of a dump, each read by itself: what it says, before anything is looked up elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use cell::kube::{Labels, Node, PreemptionPolicy, Selector};
use k8s_openapi::api::{apps::v1 as apps, batch::v1 as batch, core::v1 as core};
use k8s_openapi::api::{policy::v1 as policy, scheduling::v1 as scheduling};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::fault::Fault;
use super::node::node;
use super::pod::{Template, preemption, template};
use super::selector::{equal_to, label_selector};
use super::tree::Spot;
use crate::error::quoted;
use crate::input::Place;

/// The most tasks that one object may stand for, as in `cell::spec`.
const REPLICAS_MAX: u32 = cell::spec::JOB_TASK_COUNT_MAX;
/// The annotation of a pod that a kubelet runs by itself, and only shows to the API server.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// A kind that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Node,
    Pod,
    Service,
    Namespace,
    ReplicationController,
    Deployment,
    ReplicaSet,
    StatefulSet,
    DaemonSet,
    Job,
    PriorityClass,
    PodDisruptionBudget,
}

/// The API version of each kind that is read, its name, and whether it lives in a namespace.
const KINDS: [(&str, &str, Kind, bool); 12] = [
    ("v1", "Node", Kind::Node, false),
    ("v1", "Pod", Kind::Pod, true),
    ("v1", "Service", Kind::Service, true),
    ("v1", "Namespace", Kind::Namespace, false),
    ("v1", "ReplicationController", Kind::ReplicationController, true),
    ("apps/v1", "Deployment", Kind::Deployment, true),
    ("apps/v1", "ReplicaSet", Kind::ReplicaSet, true),
    ("apps/v1", "StatefulSet", Kind::StatefulSet, true),
    ("apps/v1", "DaemonSet", Kind::DaemonSet, true),
    ("batch/v1", "Job", Kind::Job, true),
    ("scheduling.k8s.io/v1", "PriorityClass", Kind::PriorityClass, false),
    ("policy/v1", "PodDisruptionBudget", Kind::PodDisruptionBudget, true),
];

impl Kind {
    /// The kind of this API version and name, if it is read.
    pub(super) fn of(api_version: &str, name: &str) -> Option<Self> {
        KINDS.iter().find(|kind| (kind.0, kind.1) == (api_version, name)).map(|kind| kind.2)
    }

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        KINDS.iter().find(|kind| kind.2 == self).map_or("", |kind| kind.1)
    }

    fn is_namespaced(self) -> bool {
        KINDS.iter().any(|kind| kind.2 == self && kind.3)
    }
}

/// What tells an object from others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity {
    /// Its kind.
    pub(super) kind: Kind,
    /// Its namespace; empty for kinds without one.
    pub(super) namespace: String,
    /// Its name.
    pub(super) name: String,
}

impl Identity {
    /// `Kind/namespace/name`, or `Kind/name`.
    pub(super) fn path(&self) -> String {
        match self.namespace.as_str() {
            "" => format!("{}/{}", self.kind.name(), self.name),
            namespace => format!("{}/{namespace}/{}", self.kind.name(), self.name),
        }
    }
}

/// Where an object is from, and whose it is.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// What it is.
    pub(super) identity: Identity,
    /// Where it stands.
    pub(super) place: Place,
    /// Its unique id, where it has one.
    pub(super) uid: Option<String>,
    /// Its controller, of a kind that is read, and that one's unique id.
    pub(super) controller: Option<(Identity, String)>,
}

/// A pod of the dump.
#[derive(Debug)]
pub(super) struct LivePod {
    /// Where it is from.
    pub(super) origin: Origin,
    /// What it asks for.
    pub(super) template: Template,
    /// The node it is bound to.
    pub(super) node: Option<String>,
    /// Whether it has come to its end.
    pub(super) is_finished: bool,
    /// Whether it is being deleted.
    pub(super) is_terminating: bool,
    /// Whether it says that it is ready; `None` where it says nothing.
    pub(super) is_ready: Option<bool>,
    /// Whether a kubelet runs it by itself.
    pub(super) is_mirror: bool,
}

/// How many pods a controller wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// So many.
    Replicas(u32),
    /// So many, with numbers in their names from the first on.
    Ordinals { first: u32, count: u32 },
    /// One on each node that will do.
    EachNode,
    /// Only those that run: a work queue that drains.
    AsMany,
}

/// An object that makes pods.
#[derive(Debug)]
pub(super) struct Controller {
    /// Where it is from.
    pub(super) origin: Origin,
    /// How many pods it wants.
    pub(super) shape: Shape,
    /// What they are like.
    pub(super) template: Template,
    /// The selector that default spreading takes from it.
    pub(super) selector: Option<Selector>,
}

/// A priority class.
#[derive(Clone, Copy, Debug)]
pub(super) struct PriorityClass {
    /// Its value.
    pub(super) value: i32,
    /// Whether its pods may preempt.
    pub(super) preemption: PreemptionPolicy,
}

/// How many pods a budget protects.
#[derive(Clone, Debug)]
pub(super) enum Protection {
    /// The status says how many may go.
    Allowed(i64),
    /// At least so many stay.
    MinAvailable(IntOrString),
    /// At most so many are away.
    MaxUnavailable(IntOrString),
    /// It does not say, and allows none.
    Unsaid,
}

/// A disruption budget.
#[derive(Debug)]
pub(super) struct Budget {
    /// Its namespace.
    pub(super) namespace: String,
    /// Which pods.
    pub(super) selector: Option<Selector>,
    /// How many.
    pub(super) protection: Protection,
    /// Those that are counted as disrupted already.
    pub(super) disrupted: BTreeSet<String>,
}

/// What makes a job.
#[derive(Debug)]
pub(super) enum Maker {
    /// A controller, by its position.
    Controller(usize),
    /// A pod, by its position.
    Pod(usize),
}

/// All objects that were read.
#[derive(Debug, Default)]
pub(super) struct Dump {
    /// Nodes, with their places.
    pub(super) nodes: Vec<(Place, Node)>,
    /// Pods.
    pub(super) pods: Vec<LivePod>,
    /// Controllers.
    pub(super) controllers: Vec<Controller>,
    /// Pods and controllers in the order of reading.
    pub(super) makers: Vec<Maker>,
    /// Priority classes by name.
    pub(super) classes: BTreeMap<String, PriorityClass>,
    /// The class of pods that name none.
    pub(super) default_class: Option<PriorityClass>,
    /// Selectors of services, by namespace.
    pub(super) services: BTreeMap<String, Vec<Labels>>,
    /// Labels of namespaces.
    pub(super) namespaces: BTreeMap<String, Labels>,
    /// Disruption budgets.
    pub(super) budgets: Vec<Budget>,
    seen: BTreeSet<Identity>,
}

/// What an object is called, before it is read any further.
pub(super) fn identity(kind: Kind, spot: &Spot) -> Result<Identity, Fault> {
    let metadata = spot.get("metadata");
    let text = |key: &str| metadata.and_then(|spot| spot.text(key)).filter(|s| !s.is_empty());
    let name = text("name").ok_or_else(|| Fault::of("metadata.name", "missing"))?;
    for (key, text) in [("metadata.name", Some(name)), ("metadata.namespace", text("namespace"))] {
        // More than any kind's names may have, which is enough to keep tasks' names apart.
        let is_odd = |c: char| c.is_whitespace() || c.is_control() || c == '/' || c == '@';
        if let Some(text) = text.filter(|text| text.contains(is_odd)) {
            return Err(Fault::of(key, format_args!("{} is not a name", quoted(text))));
        }
    }
    let namespace = if kind.is_namespaced() { text("namespace").unwrap_or("default") } else { "" };
    Ok(Identity { kind, namespace: namespace.to_owned(), name: name.to_owned() })
}

impl Dump {
    /// Adds an object. Nothing of a wrong one is kept.
    pub(super) fn add(
        &mut self,
        identity: Identity,
        spot: &Spot,
        place: Place,
    ) -> Result<(), Fault> {
        if self.seen.contains(&identity) {
            return Err(Fault::of(
                "metadata.name",
                "an object of this kind and name is there twice",
            ));
        }
        let seen = identity.clone();
        self.add_new(identity, spot, place)?;
        self.seen.insert(seen);
        Ok(())
    }

    fn add_new(&mut self, identity: Identity, spot: &Spot, place: Place) -> Result<(), Fault> {
        let namespace = identity.namespace.clone();
        let controller = |metadata: &ObjectMeta, identity: Identity, shape, pods: &_, selector| {
            let template = of_template(pods, &namespace)?;
            let origin = origin(metadata, identity, place.clone());
            Ok(Controller { origin, shape, template, selector })
        };
        match identity.kind {
            Kind::Node => {
                let node = node(&spot.decode()?, &identity.name)?;
                self.nodes.push((place, node));
            }
            Kind::Pod => {
                let pod = live_pod(&spot.decode()?, identity, place)?;
                self.makers.push(Maker::Pod(self.pods.len()));
                self.pods.push(pod);
            }
            Kind::Service => {
                let service: core::Service = spot.decode()?;
                let selector = service.spec.and_then(|spec| spec.selector).unwrap_or_default();
                if !selector.is_empty() {
                    self.services.entry(namespace).or_default().push(selector);
                }
            }
            Kind::Namespace => {
                let of: core::Namespace = spot.decode()?;
                self.namespaces.insert(identity.name, of.metadata.labels.unwrap_or_default());
            }
            Kind::ReplicationController => {
                let of: core::ReplicationController = spot.decode()?;
                let spec = of.spec.ok_or_else(|| Fault::of("spec", "missing"))?;
                let template = spec.template.unwrap_or_default();
                let labels =
                    template.metadata.as_ref().and_then(|metadata| metadata.labels.clone());
                let selector = spec.selector.or(labels).unwrap_or_default();
                let shape = Shape::Replicas(count("replicas", spec.replicas)?);
                let selector = Some(Selector(equal_to(&selector)));
                self.push(controller(&of.metadata, identity, shape, &template, selector)?);
            }
            Kind::Deployment => {
                let of: apps::Deployment = spot.decode()?;
                let spec = of.spec.ok_or_else(|| Fault::of("spec", "missing"))?;
                let shape = Shape::Replicas(count("replicas", spec.replicas)?);
                let selector = Some(selector(&spec.selector)?);
                self.push(controller(&of.metadata, identity, shape, &spec.template, selector)?);
            }
            Kind::ReplicaSet => {
                let of: apps::ReplicaSet = spot.decode()?;
                let spec = of.spec.ok_or_else(|| Fault::of("spec", "missing"))?;
                let shape = Shape::Replicas(count("replicas", spec.replicas)?);
                let selector = Some(selector(&spec.selector)?);
                let template = spec.template.unwrap_or_default();
                self.push(controller(&of.metadata, identity, shape, &template, selector)?);
            }
            Kind::StatefulSet => {
                let of: apps::StatefulSet = spot.decode()?;
                let spec = of.spec.ok_or_else(|| Fault::of("spec", "missing"))?;
                let first = spec.ordinals.and_then(|ordinals| ordinals.start).unwrap_or(0);
                let first = u32::try_from(first).map_err(|_| {
                    Fault::of("spec.ordinals.start", format!("{first} is negative"))
                })?;
                let shape = Shape::Ordinals { first, count: count("replicas", spec.replicas)? };
                let selector = Some(selector(&spec.selector)?);
                let claims = spec.volume_claim_templates.map_or(0, |claims| claims.len());
                let mut set = controller(&of.metadata, identity, shape, &spec.template, selector)?;
                let pod = &mut set.template.pod;
                pod.volume_count =
                    pod.volume_count.saturating_add(u32::try_from(claims).unwrap_or(u32::MAX));
                self.push(set);
            }
            Kind::DaemonSet => {
                let of: apps::DaemonSet = spot.decode()?;
                let spec = of.spec.ok_or_else(|| Fault::of("spec", "missing"))?;
                selector(&spec.selector)?;
                self.push(controller(
                    &of.metadata,
                    identity,
                    Shape::EachNode,
                    &spec.template,
                    None,
                )?);
            }
            Kind::Job => {
                let of: batch::Job = spot.decode()?;
                let spec = of.spec.as_ref().ok_or_else(|| Fault::of("spec", "missing"))?;
                let shape = of_job(spec, of.status.as_ref())?;
                self.push(controller(&of.metadata, identity, shape, &spec.template, None)?);
            }
            Kind::PriorityClass => {
                let of: scheduling::PriorityClass = spot.decode()?;
                let value = of.value.ok_or_else(|| Fault::of("value", "missing"))?;
                let policy = of.preemption_policy.as_deref().unwrap_or_default();
                let preemption = preemption(policy).map_err(|f| f.within("preemptionPolicy"))?;
                let class = PriorityClass { value, preemption };
                self.classes.insert(identity.name, class);
                // As the API server: of several, the one of the least value.
                if of.global_default == Some(true)
                    && self.default_class.is_none_or(|other| value < other.value)
                {
                    self.default_class = Some(class);
                }
            }
            Kind::PodDisruptionBudget => {
                let budget = budget(&spot.decode()?, namespace)?;
                self.budgets.push(budget);
            }
        }
        Ok(())
    }

    fn push(&mut self, controller: Controller) {
        self.makers.push(Maker::Controller(self.controllers.len()));
        self.controllers.push(controller);
    }
}

fn selector(
    selector: &k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector,
) -> Result<Selector, Fault> {
    label_selector(selector).map_err(|fault| fault.within("spec.selector"))
}

fn of_template(of: &core::PodTemplateSpec, namespace: &str) -> Result<Template, Fault> {
    let labels = of.metadata.as_ref().and_then(|metadata| metadata.labels.clone());
    let spec = of.spec.as_ref().ok_or_else(|| Fault::of("spec.template.spec", "missing"))?;
    template(spec, &labels.unwrap_or_default(), namespace)
        .map_err(|fault| fault.within("spec.template.spec"))
}

fn origin(metadata: &ObjectMeta, identity: Identity, place: Place) -> Origin {
    let owners = metadata.owner_references.iter().flatten();
    let controller = owners.filter(|owner| owner.controller == Some(true)).find_map(|owner| {
        let kind = Kind::of(&owner.api_version, &owner.kind)?;
        let namespace =
            if kind.is_namespaced() { identity.namespace.clone() } else { String::new() };
        Some((Identity { kind, namespace, name: owner.name.clone() }, owner.uid.clone()))
    });
    let uid = metadata.uid.clone().filter(|uid| !uid.is_empty());
    Origin { identity, place, uid, controller }
}

fn live_pod(pod: &core::Pod, identity: Identity, place: Place) -> Result<LivePod, Fault> {
    let spec = pod.spec.as_ref().ok_or_else(|| Fault::of("spec", "missing"))?;
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let mut template =
        template(spec, &labels, &identity.namespace).map_err(|fault| fault.within("spec"))?;
    // Where it runs, and not where alone it may.
    let node = template.pod.node_name.take();
    template.is_gated &= node.is_none();
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let annotations = pod.metadata.annotations.iter().flatten();
    Ok(LivePod {
        template,
        node,
        is_finished: matches!(phase, Some("Succeeded" | "Failed")),
        is_terminating: pod.metadata.deletion_timestamp.is_some(),
        is_ready: conditions
            .filter(|condition| condition.type_ == "Ready")
            .map(|condition| condition.status == "True")
            .next(),
        is_mirror: annotations.clone().any(|(key, _)| key == MIRROR),
        origin: origin(&pod.metadata, identity, place),
    })
}

/// A number of pods; 1 where it is left out, as the API server has it.
fn count(key: &str, number: Option<i32>) -> Result<u32, Fault> {
    let number = number.unwrap_or(1);
    let problem = || {
        Fault::new(format_args!("{number} is not in 0..={REPLICAS_MAX}")).within(key).within("spec")
    };
    u32::try_from(number).ok().filter(|&count| count <= REPLICAS_MAX).ok_or_else(problem)
}

/// As many as run side by side, but not more than are still to be completed. Without a number of
/// completions the first success says that there is no more work to take up.
fn of_job(spec: &batch::JobSpec, status: Option<&batch::JobStatus>) -> Result<Shape, Fault> {
    let parallelism = count("parallelism", spec.parallelism)?;
    let succeeded = status.and_then(|status| status.succeeded).unwrap_or(0).max(0);
    let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let is_over = conditions
        .filter(|condition| condition.status == "True")
        .any(|condition| matches!(condition.type_.as_str(), "Complete" | "Failed"));
    if is_over || spec.suspend == Some(true) {
        return Ok(Shape::AsMany);
    }
    Ok(match (spec.completions, spec.parallelism) {
        (None, Some(_)) if succeeded > 0 => Shape::AsMany,
        (None, Some(_)) => Shape::Replicas(parallelism),
        (completions, _) => {
            let left = count("completions", completions)?.saturating_sub(succeeded.unsigned_abs());
            Shape::Replicas(parallelism.min(left))
        }
    })
}

fn budget(of: &policy::PodDisruptionBudget, namespace: String) -> Result<Budget, Fault> {
    let spec = of.spec.as_ref();
    let selector = spec.and_then(|spec| spec.selector.as_ref()).map(label_selector).transpose();
    let status = of.status.as_ref();
    let allowed = status.and_then(|status| status.disruptions_allowed);
    let min = spec.and_then(|spec| spec.min_available.clone());
    let max = spec.and_then(|spec| spec.max_unavailable.clone());
    for (key, bound) in [("minAvailable", &min), ("maxUnavailable", &max)] {
        if let Some(bound) = bound {
            super::budget::scaled(bound, 0).map_err(|fault| fault.within(key).within("spec"))?;
        }
    }
    let protection = match (allowed, min, max) {
        (Some(allowed), ..) => Protection::Allowed(i64::from(allowed)),
        (None, Some(min), _) => Protection::MinAvailable(min),
        (None, None, Some(max)) => Protection::MaxUnavailable(max),
        (None, None, None) => Protection::Unsaid,
    };
    let disrupted = status.and_then(|status| status.disrupted_pods.as_ref()).into_iter().flatten();
    Ok(Budget {
        namespace,
        selector: selector.map_err(|fault| fault.within("spec.selector"))?,
        protection,
        disrupted: disrupted.map(|(name, _)| name.clone()).collect(),
    })
}
