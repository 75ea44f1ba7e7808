//! The scheduler: takes pods from the queue one at a time, finds each a node or makes room for it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::cluster::{Cluster, NodeIndex, PodIndex, TemplateIndex};
use super::default_preemption::{self, Candidate};
use super::framework;
use super::inter_pod_affinity;
use super::lane::{Lane, NodeRow, Statics, StaticsKey, statics_key};
use super::profile::{Plugin, Profile};
use super::queue::{Event, Queue};
use super::sampling::feasible_limit;
use super::status::Verdict;
use super::topology_spread::{self, Constraints};
use crate::equivalence::mix;
use crate::pass::Speed;

/// The most memory that kept lanes may take. Our choice, as for the score cache of the other policies.
const LANE_BYTES_MAX: usize = 64 << 20;

/// What one scheduling attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The pod was bound to this node.
    Bound(NodeIndex),
    /// No node will do now; this one will when the victims, the most important first, are gone. It
    /// awaits the pod.
    Nominated(Candidate),
    /// No node will do.
    Unschedulable,
}

/// A scheduler with its cluster.
#[derive(Debug)]
pub struct Scheduler {
    profile: Profile,
    cluster: Cluster,
    seed: u64,
    speed: Speed,
    queue: Queue,
    /// Where the next search for feasible nodes starts.
    start: usize,
    attempt_count: u64,
    rows: Vec<NodeRow>,
    /// How much of the cluster's journal the rows have seen.
    rows_seen: usize,
    lanes: BTreeMap<TemplateIndex, (u64, Box<Lane>)>,
    lanes_by_use: BTreeMap<u64, TemplateIndex>,
    lane_use_count: u64,
    lane_bytes: usize,
    statics: BTreeMap<StaticsKey, Rc<Statics>>,
    /// The plugins that rejected the pod of the last attempt.
    rejected_by: BTreeSet<Plugin>,
}

impl Scheduler {
    /// A scheduler for a cluster. The seed decides ties and where preemption starts to look.
    #[must_use]
    pub fn new(profile: Profile, cluster: Cluster, seed: u64, speed: Speed) -> Self {
        Self {
            queue: Queue::new(profile.backoff),
            rows: (0..cluster.node_count()).map(|node| NodeRow::of(&cluster, node)).collect(),
            rows_seen: cluster.journal.len(),
            profile,
            cluster,
            seed,
            speed,
            start: 0,
            attempt_count: 0,
            lanes: BTreeMap::new(),
            lanes_by_use: BTreeMap::new(),
            lane_use_count: 0,
            lane_bytes: 0,
            statics: BTreeMap::new(),
            rejected_by: BTreeSet::new(),
        }
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The cluster, to change what goes on in it beside this scheduler.
    pub fn cluster_mut(&mut self) -> &mut Cluster {
        &mut self.cluster
    }

    /// The profile.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The queue.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Queues a pod.
    pub fn enqueue(&mut self, pod: PodIndex, now_ms: u64) {
        let template = self.cluster.pod(pod).template;
        let priority = self.cluster.templates[template].pod.priority;
        self.queue.add(pod, template, priority, now_ms);
    }

    /// Tries the next pod of the queue, if there is one. A pod that fits is bound at once; the victims of a
    /// preemption are named, and gone when the caller says so ([`Scheduler::evict`]).
    pub fn step(&mut self, now_ms: u64) -> Option<(PodIndex, Outcome)> {
        let pod = self.pop(now_ms)?;
        let outcome = self.attempt(pod);
        self.settle(pod, &outcome, now_ms);
        Some((pod, outcome))
    }

    /// Takes the next pod off the queue, to be attempted and settled.
    pub fn pop(&mut self, now_ms: u64) -> Option<PodIndex> {
        self.queue.pop(now_ms)
    }

    /// Tells the queue what became of a pod.
    pub fn settle(&mut self, pod: PodIndex, outcome: &Outcome, now_ms: u64) {
        match outcome {
            Outcome::Bound(_) => {
                self.queue.forget(pod);
                self.react(Event::PodBound, pod, now_ms);
            }
            Outcome::Nominated(_) | Outcome::Unschedulable => {
                let rejected_by = std::mem::take(&mut self.rejected_by);
                self.queue.put_back(pod, rejected_by, now_ms);
            }
        }
    }

    /// Takes a pod off its node.
    ///
    /// # Panics
    /// If it is on none.
    pub fn evict(&mut self, pod: PodIndex, now_ms: u64) {
        self.cluster.unbind(pod);
        self.react(Event::PodDeleted, pod, now_ms);
    }

    /// Lets the queue react to a pod's coming or going.
    fn react(&mut self, event: Event, pod: PodIndex, now_ms: u64) {
        let (profile, cluster) = (&self.profile, &self.cluster);
        let moved = cluster.template_of(pod);
        let namespaces = &cluster.namespaces;
        self.queue.react(event, now_ms, |waiting, plugin| {
            let waiting = &cluster.templates[waiting].pod;
            match plugin {
                Plugin::InterPodAffinity => match event {
                    Event::PodBound => {
                        inter_pod_affinity::all_required_select(waiting, &moved.pod, namespaces)
                    }
                    Event::PodDeleted => {
                        inter_pod_affinity::shuns(waiting, &moved.pod, namespaces)
                            || inter_pod_affinity::shuns(&moved.pod, waiting, namespaces)
                    }
                },
                Plugin::PodTopologySpread => {
                    let hard = Constraints::of(profile, waiting).hard;
                    hard.iter().any(|constraint| {
                        topology_spread::counts(constraint, &waiting.namespace, moved)
                    })
                }
                Plugin::NodeUnschedulable
                | Plugin::NodeName
                | Plugin::TaintToleration
                | Plugin::NodeAffinity
                | Plugin::NodePorts
                | Plugin::NodeResourcesFit
                | Plugin::NodeResourcesBalancedAllocation
                | Plugin::ImageLocality
                | Plugin::NodePreferAvoidPods
                | Plugin::DefaultPreemption => true,
            }
        });
    }

    /// One attempt to place a pod (§2).
    pub fn attempt(&mut self, pod: PodIndex) -> Outcome {
        self.attempt_count += 1;
        let template = self.cluster.pod(pod).template;
        let mut lane = self.take_lane(template);
        let outcome = self.attempt_in(&mut lane, pod);
        self.put_lane_back(template, lane);
        outcome
    }

    fn attempt_in(&mut self, lane: &mut Lane, pod: PodIndex) -> Outcome {
        if let Some(node) = self.cluster.pod(pod).nominated
            && lane.check(&self.profile, &self.cluster, node, Some(pod), &[]) == Verdict::Success
        {
            self.cluster.bind(pod, node);
            return Outcome::Bound(node);
        }
        if let Some(node) = self.find(lane) {
            self.cluster.bind(pod, node);
            return Outcome::Bound(node);
        }
        self.rejected_by = lane.rejected_by();
        match self.preempt(lane, pod) {
            Some(candidate) => {
                self.nominate(pod, candidate.node);
                Outcome::Nominated(candidate)
            }
            None => {
                self.cluster.clear_nomination(pod);
                Outcome::Unschedulable
            }
        }
    }

    /// The best node, of those that are looked at.
    fn find(&mut self, lane: &mut Lane) -> Option<NodeIndex> {
        lane.heed_nominations(&self.profile, &self.cluster);
        let by_index = self.speed.index;
        let percentage = self.profile.percentage_of_nodes_to_score;
        let node_count = self.cluster.node_count();
        let found = if let Some(statics) = lane.narrowed() {
            let nodes = statics.narrowed_to();
            let limit = feasible_limit(nodes.len(), percentage);
            lane.best_of_few(&self.profile, nodes, self.start, limit)
        } else {
            let limit = feasible_limit(node_count, percentage);
            if limit >= node_count {
                lane.best_of_all(&self.profile, by_index)
            } else {
                lane.best_of_sample(&self.profile, self.start, limit, by_index)
            }
        };
        self.start = (self.start + found.visited) % node_count.max(1);
        found.node
    }

    /// The nodes where preemption might help a pod that fits nowhere, in the nodes' order.
    fn potential(&self, lane: &Lane, pod: PodIndex) -> Vec<NodeIndex> {
        (0..self.cluster.node_count())
            .filter(|&node| lane.may_be_resolved(&self.profile, &self.cluster, node, Some(pod)))
            .collect()
    }

    fn preempt(&mut self, lane: &mut Lane, pod: PodIndex) -> Option<Candidate> {
        let args = self.profile.preemption?;
        let verdict = self.cluster.pod(pod).nominated.map_or(Verdict::Success, |node| {
            lane.check(&self.profile, &self.cluster, node, Some(pod), &[])
        });
        if !default_preemption::is_eligible(&self.cluster, pod, verdict) {
            return None;
        }
        let priority = self.cluster.template_of(pod).pod.priority;
        if !self.cluster.has_below(priority) {
            return None;
        }
        let potential = self.potential(lane, pod);
        if potential.is_empty() {
            return None;
        }
        let draw = mix(mix(self.seed) ^ self.attempt_count) % potential.len() as u64;
        let offset = usize::try_from(draw).expect("a position");
        let candidates = default_preemption::candidates(args, &potential, offset, |node| {
            lane.offer(&self.profile, &self.cluster, pod, node)
        });
        default_preemption::best(&self.cluster, &candidates).first().map(|&best| best.clone())
    }

    /// Lets a node await a pod; pods of lower priority that awaited it do so no longer (§11.6).
    fn nominate(&mut self, pod: PodIndex, node: NodeIndex) {
        let priority = self.cluster.template_of(pod).pod.priority;
        let lower: Vec<PodIndex> = self.cluster.nodes[node]
            .nominated
            .iter()
            .copied()
            .filter(|&other| self.cluster.template_of(other).pod.priority < priority)
            .collect();
        for other in lower {
            self.cluster.clear_nomination(other);
        }
        self.cluster.nominate(pod, node);
    }

    /// The totals of all feasible nodes for a pod, in the nodes' order, whatever the sampling.
    pub fn totals(&mut self, pod: PodIndex) -> Vec<(NodeIndex, i64)> {
        let template = self.cluster.pod(pod).template;
        let mut lane = self.take_lane(template);
        lane.heed_nominations(&self.profile, &self.cluster);
        let totals = lane.totals(&self.profile);
        self.put_lane_back(template, lane);
        totals
    }

    /// Every node's candidate for a pod's preemption, whatever the sampling; `None` where there is none.
    /// Listed are the nodes where preemption might help, in the nodes' order.
    pub fn all_candidates(&mut self, pod: PodIndex) -> Vec<(NodeIndex, Option<Candidate>)> {
        let template = self.cluster.pod(pod).template;
        let lane = self.take_lane(template);
        let potential = self.potential(&lane, pod).into_iter();
        let dry_run = |node| lane.dry_run(&self.profile, &self.cluster, pod, node);
        let candidates = potential.map(|node| (node, dry_run(node))).collect();
        self.put_lane_back(template, lane);
        candidates
    }

    /// What kube-scheduler says of a pod that fits nowhere.
    #[must_use]
    pub fn fit_error(&self, pod: PodIndex) -> String {
        let template = self.cluster.pod(pod).template;
        let verdicts = framework::filter(&self.profile, &self.cluster, template, Some(pod));
        framework::fit_error(&verdicts)
    }

    /// What lanes keep against a recount: `None` where all agree. For tests.
    #[must_use]
    pub fn check_counts(&mut self) -> Option<String> {
        let templates: Vec<TemplateIndex> = self.lanes.keys().copied().collect();
        templates.into_iter().find_map(|template| {
            let lane = self.take_lane(template);
            let difference = lane.check_counts(&self.cluster);
            self.put_lane_back(template, lane);
            difference
        })
    }

    fn take_lane(&mut self, template: TemplateIndex) -> Box<Lane> {
        for index in self.rows_seen..self.cluster.journal.len() {
            let node = self.cluster.journal[index] as usize;
            self.rows[node] = NodeRow::of(&self.cluster, node);
        }
        self.rows_seen = self.cluster.journal.len();
        let mut lane = match self.lanes.remove(&template) {
            Some((used, lane)) => {
                self.lanes_by_use.remove(&used);
                self.lane_bytes -= lane.bytes();
                lane
            }
            None => {
                let key = statics_key(&self.cluster.templates[template]);
                let statics = match self.statics.get(&key) {
                    Some(known) => Rc::clone(known),
                    None => {
                        let new = Rc::new(Statics::of(&self.profile, &self.cluster, &key));
                        self.statics.insert(key, Rc::clone(&new));
                        new
                    }
                };
                let percentage = self.profile.percentage_of_nodes_to_score;
                let node_count = self.cluster.node_count();
                let uses_heaps =
                    self.speed.index && feasible_limit(node_count, percentage) >= node_count;
                let (profile, cluster) = (&self.profile, &mut self.cluster);
                Box::new(Lane::new(profile, cluster, template, statics, self.seed, uses_heaps))
            }
        };
        lane.sync(&self.profile, &mut self.cluster, &self.rows);
        lane
    }

    fn put_lane_back(&mut self, template: TemplateIndex, lane: Box<Lane>) {
        if !self.speed.equivalence {
            return;
        }
        if !self.speed.cache {
            self.lanes.clear();
            self.lanes_by_use.clear();
            self.lane_bytes = 0;
        }
        self.lane_use_count += 1;
        self.lane_bytes += lane.bytes();
        self.lanes.insert(template, (self.lane_use_count, lane));
        self.lanes_by_use.insert(self.lane_use_count, template);
        while self.lane_bytes > LANE_BYTES_MAX && self.lanes.len() > 1 {
            let (_, oldest) = self.lanes_by_use.pop_first().expect("as many as lanes");
            if let Some((_, lane)) = self.lanes.remove(&oldest) {
                self.lane_bytes -= lane.bytes();
            }
        }
    }

    /// Forgets what is kept for a template: no pod of it will come again.
    pub fn forget(&mut self, template: TemplateIndex) {
        if let Some((used, lane)) = self.lanes.remove(&template) {
            self.lanes_by_use.remove(&used);
            self.lane_bytes -= lane.bytes();
        }
    }
}
