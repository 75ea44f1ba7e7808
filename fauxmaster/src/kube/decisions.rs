//! `kube-decisions`: follows a recorded run of the real kube-scheduler, and asks of each decision whether
//! the model would have allowed it.
//!
//! In: a folder with `nodes.csv`, `pods.csv`, `assignments.csv`, `preemptions.csv` and `run.json`, and if
//! it is there `scores.jsonl.gz`. Pods are taken in order; after each comparison the recorded decision is
//! carried out, so that one difference does not make others. Ties are broken at random in the real
//! program, and preemption starts its search at a random node: a recorded node agrees if it is in the set
//! of best ones, of some start.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, anyhow, bail, ensure};
use cell::kube::{Amounts, Container, Node, Pod};
use scheduler::k8s::default_preemption::{self, Candidate};
use scheduler::k8s::{
    Cluster, NodeIndex, Plugin, PodIndex, Profile, Scheduler, Version, framework,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A count of agreements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Agreement {
    /// Comparisons that agree.
    pub agreeing: usize,
    /// Comparisons made.
    pub compared: usize,
}

impl Agreement {
    fn add(&mut self, agrees: bool) {
        self.agreeing += usize::from(agrees);
        self.compared += 1;
    }

    /// Whether all agree.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.agreeing == self.compared
    }
}

/// A decision that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its place in the order of pods.
    pub order: usize,
    /// The pod.
    pub pod: String,
    /// In what way.
    pub found: String,
}

/// How a recorded run compares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DecisionsReport {
    /// The version that was recorded.
    pub kube_scheduler: String,
    /// Its `percentageOfNodesToScore`.
    pub percentage_of_nodes_to_score: usize,
    /// Nodes.
    pub node_count: usize,
    /// Pods.
    pub pod_count: usize,
    /// Recorded nodes that are among our best ones.
    pub placements: Agreement,
    /// Pods that were left unschedulable, and are so by our rules.
    pub unschedulable: Agreement,
    /// What the scheduler said of them, word for word.
    pub messages: Agreement,
    /// Preemptions with the same victims on a node that our rules may choose.
    pub preemptions: Agreement,
    /// Scores of a pod's feasible nodes that are ours, by plugin (weighted) and in `total`; one comparison a
    /// pod.
    pub scores: BTreeMap<String, Agreement>,
    /// The decisions that differ.
    pub differences: Vec<Difference>,
}

impl DecisionsReport {
    /// Whether everything agrees.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.differences.is_empty()
    }
}

#[derive(Debug, Deserialize)]
struct Run {
    kube_scheduler: String,
    percentage_of_nodes_to_score: usize,
    pods_per_node: i64,
    #[serde(default = "gpu_resource")]
    gpu_resource: String,
}

fn gpu_resource() -> String {
    "nvidia.com/gpu".to_owned()
}

#[derive(Debug, Deserialize)]
struct NodeRow {
    name: String,
    cpu_milli: i64,
    memory_mib: i64,
    #[serde(default)]
    gpu: i64,
}

#[derive(Debug, Deserialize)]
struct PodRow {
    name: String,
    cpu_milli: i64,
    memory_mib: i64,
    #[serde(default)]
    num_gpu: i64,
    #[serde(default)]
    priority: i32,
}

#[derive(Debug, Deserialize)]
struct AssignmentRow {
    order: usize,
    pod: String,
    node: String,
    /// The node that awaited the pod; of an unschedulable one what was said of it.
    #[serde(default)]
    nominated_first: String,
}

#[derive(Debug, Deserialize)]
struct PreemptionRow {
    victim: String,
    node: String,
    preemptor: String,
    at_order: usize,
}

#[derive(Debug, Deserialize)]
struct ScoreRow {
    order: usize,
    total: BTreeMap<String, i64>,
    #[serde(default)]
    plugins: BTreeMap<String, BTreeMap<String, i64>>,
}

const UNSCHEDULABLE: &str = "UNSCHEDULABLE";
const MIB: i64 = 1 << 20;

fn open(folder: &Path, name: &str) -> anyhow::Result<File> {
    let path = folder.join(name);
    File::open(&path).with_context(|| format!("cannot read {}", path.display()))
}

fn rows<T: DeserializeOwned>(folder: &Path, name: &str) -> anyhow::Result<Vec<T>> {
    let mut reader = csv::Reader::from_reader(open(folder, name)?);
    let path = folder.join(name);
    reader.deserialize().map(|row| row.with_context(|| path.display().to_string())).collect()
}

fn scores(folder: &Path) -> anyhow::Result<BTreeMap<usize, ScoreRow>> {
    const NAME: &str = "scores.jsonl.gz";
    if !folder.join(NAME).exists() {
        return Ok(BTreeMap::new());
    }
    let reader = BufReader::new(flate2::read::GzDecoder::new(open(folder, NAME)?));
    let mut scores = BTreeMap::new();
    for (number, line) in reader.lines().enumerate() {
        let at = || format!("{}:{}", folder.join(NAME).display(), number + 1);
        let row: ScoreRow = serde_json::from_str(&line.with_context(at)?).with_context(at)?;
        scores.insert(row.order, row);
    }
    Ok(scores)
}

fn profile(run: &Run) -> anyhow::Result<Profile> {
    let version = run.kube_scheduler.trim_start_matches('v');
    let minor: Option<u32> = version
        .strip_prefix("1.")
        .and_then(|rest| rest.split('.').next())
        .and_then(|minor| minor.parse().ok());
    let profile = match minor {
        Some(20) => Profile::v1_20(),
        Some(36) => Profile::v1_36(),
        _ => bail!(
            "run.json: kube_scheduler {:?} is not modelled; 1.20 and 1.36 are",
            run.kube_scheduler
        ),
    };
    ensure!(
        run.percentage_of_nodes_to_score <= 100,
        "run.json: percentage_of_nodes_to_score {} is above 100",
        run.percentage_of_nodes_to_score
    );
    Ok(Profile { percentage_of_nodes_to_score: run.percentage_of_nodes_to_score, ..profile })
}

/// Follows the recorded run in a folder. `progress` is told the number of pods done.
///
/// # Errors
/// If the folder holds no recorded run, or one that contradicts itself.
pub fn follow(folder: &Path, progress: &dyn Fn(usize, usize)) -> anyhow::Result<DecisionsReport> {
    let path = folder.join("run.json");
    let run: Run = serde_json::from_reader(BufReader::new(open(folder, "run.json")?))
        .with_context(|| path.display().to_string())?;
    // A remark may follow the name.
    let gpu_resource = run.gpu_resource.split([',', ' ']).next().unwrap_or_default().to_owned();
    let run = Run { gpu_resource, ..run };
    let nodes: Vec<NodeRow> = rows(folder, "nodes.csv")?;
    let pods: Vec<PodRow> = rows(folder, "pods.csv")?;
    let assignments: Vec<AssignmentRow> = rows(folder, "assignments.csv")?;
    let preemptions: Vec<PreemptionRow> = rows(folder, "preemptions.csv")?;
    let scores = scores(folder)?;
    let profile = profile(&run)?;
    let mut report = DecisionsReport {
        kube_scheduler: run.kube_scheduler.clone(),
        percentage_of_nodes_to_score: run.percentage_of_nodes_to_score,
        node_count: nodes.len(),
        pod_count: pods.len(),
        ..DecisionsReport::default()
    };
    let cluster = Cluster::new(nodes.iter().map(|row| node(row, &run)).collect(), BTreeMap::new());
    let mut replay = Replay {
        scheduler: Scheduler::new(profile, cluster, 0, scheduler::Speed::default()),
        by_name: BTreeMap::new(),
        report: &mut report,
    };
    let mut by_order: BTreeMap<usize, Vec<&PreemptionRow>> = BTreeMap::new();
    for row in &preemptions {
        ensure!(
            pods.get(row.at_order).is_some_and(|pod| pod.name == row.preemptor),
            "preemptions.csv: preemptor {:?} is not pod number {}",
            row.preemptor,
            row.at_order
        );
        by_order.entry(row.at_order).or_default().push(row);
    }
    for (done, assignment) in assignments.iter().enumerate() {
        let pod = pods.get(assignment.order).filter(|pod| pod.name == assignment.pod).ok_or_else(
            || {
                anyhow!(
                    "assignments.csv: pod {:?} is not number {} of pods.csv",
                    assignment.pod,
                    assignment.order
                )
            },
        )?;
        let victims = by_order.remove(&assignment.order).unwrap_or_default();
        replay
            .decide(pod, assignment, &victims, scores.get(&assignment.order), &run)
            .with_context(|| format!("assignments.csv: order {}", assignment.order))?;
        progress(done + 1, assignments.len());
    }
    Ok(report)
}

fn node(row: &NodeRow, run: &Run) -> Node {
    let mut allocatable = Amounts {
        cpu: Some(row.cpu_milli),
        memory: Some(row.memory_mib * MIB),
        ..Amounts::default()
    };
    if row.gpu > 0 {
        allocatable.scalar.insert(run.gpu_resource.clone(), row.gpu);
    }
    Node { name: row.name.clone(), allocatable, pods: run.pods_per_node, ..Node::default() }
}

fn pod(row: &PodRow, run: &Run) -> Pod {
    let stated = |amount: i64| (amount != 0).then_some(amount);
    let mut requests = Amounts {
        cpu: stated(row.cpu_milli),
        memory: stated(row.memory_mib * MIB),
        ..Amounts::default()
    };
    if row.num_gpu > 0 {
        requests.scalar.insert(run.gpu_resource.clone(), row.num_gpu);
    }
    Pod {
        priority: row.priority,
        containers: vec![Container { requests, ..Container::default() }],
        ..Pod::default()
    }
}

struct Replay<'r> {
    scheduler: Scheduler,
    by_name: BTreeMap<String, PodIndex>,
    report: &'r mut DecisionsReport,
}

impl Replay<'_> {
    fn decide(
        &mut self,
        row: &PodRow,
        recorded: &AssignmentRow,
        preempted: &[&PreemptionRow],
        scores: Option<&ScoreRow>,
        run: &Run,
    ) -> anyhow::Result<()> {
        let template = self.scheduler.cluster_mut().template(&pod(row, run), false);
        let pod = self.scheduler.cluster_mut().create(&row.name, template, None);
        self.by_name.insert(row.name.clone(), pod);
        let totals = self.scheduler.totals(pod);
        if let Some(scores) = scores.filter(|_| preempted.is_empty()) {
            self.compare_scores(pod, recorded, &totals, scores);
        }
        let differs = if !preempted.is_empty() {
            let differs = self.compare_preemption(pod, &totals, preempted)?;
            self.report.preemptions.add(differs.is_none());
            differs
        } else if recorded.node == UNSCHEDULABLE {
            let differs = self.compare_unschedulable(pod, &totals, recorded);
            self.report.unschedulable.add(differs.is_none());
            differs
        } else {
            let node = self.node(&recorded.node)?;
            let differs = self.compare_placement(node, &totals);
            self.report.placements.add(differs.is_none());
            differs
        };
        if let Some(found) = differs {
            let (order, pod) = (recorded.order, row.name.clone());
            self.report.differences.push(Difference { order, pod, found });
        }
        self.carry_out(pod, recorded, preempted)
    }

    fn node(&self, name: &str) -> anyhow::Result<NodeIndex> {
        let node = self.scheduler.cluster().node_by_name(name);
        node.with_context(|| format!("no node {name:?} in nodes.csv"))
    }

    fn name(&self, node: NodeIndex) -> &str {
        &self.scheduler.cluster().node(node).name
    }

    fn compare_placement(&self, node: NodeIndex, totals: &[(NodeIndex, i64)]) -> Option<String> {
        let Some(best) = totals.iter().map(|&(_, total)| total).max() else {
            return Some(format!("placed on {}, where no node is feasible", self.name(node)));
        };
        match totals.iter().find(|&&(other, _)| other == node) {
            None => Some(format!("placed on {}, which is not feasible", self.name(node))),
            Some(&(_, total)) if total < best => {
                Some(format!("placed on {} of total {total}; the best is {best}", self.name(node)))
            }
            Some(_) => None,
        }
    }

    fn compare_unschedulable(
        &mut self,
        pod: PodIndex,
        totals: &[(NodeIndex, i64)],
        recorded: &AssignmentRow,
    ) -> Option<String> {
        if !recorded.nominated_first.is_empty() {
            let said = self.scheduler.fit_error(pod);
            self.report.messages.add(said == recorded.nominated_first);
        }
        if let Some(&(node, _)) = totals.first() {
            return Some(format!("unschedulable, where {} is feasible", self.name(node)));
        }
        let candidate = self.scheduler.all_candidates(pod).into_iter().find_map(|(_, c)| c);
        candidate.map(|candidate| {
            let node = self.name(candidate.node);
            format!("unschedulable, where preemption on {node} would help")
        })
    }

    fn compare_preemption(
        &mut self,
        pod: PodIndex,
        totals: &[(NodeIndex, i64)],
        preempted: &[&PreemptionRow],
    ) -> anyhow::Result<Option<String>> {
        if let Some(&(node, _)) = totals.first() {
            return Ok(Some(format!("preempted, where {} is feasible", self.name(node))));
        }
        let node = self.node(&preempted[0].node)?;
        let all = self.scheduler.all_candidates(pod);
        let cluster = self.scheduler.cluster();
        let own = all.iter().find(|(other, _)| *other == node).and_then(|(_, c)| c.as_ref());
        let Some(own) = own else {
            return Ok(Some(format!("preempted on {}, which is no candidate", self.name(node))));
        };
        let ours: BTreeSet<&str> =
            own.victims.iter().map(|&victim| cluster.pod(victim).name.as_str()).collect();
        let theirs: BTreeSet<&str> = preempted.iter().map(|row| row.victim.as_str()).collect();
        if ours != theirs {
            let name = self.name(node);
            return Ok(Some(format!("preempted {theirs:?} on {name} instead of {ours:?}")));
        }
        if !self.may_choose(&all, node) {
            return Ok(Some(format!("preempted on {}, which is never best", self.name(node))));
        }
        Ok(None)
    }

    /// Whether a node may be the best of the candidates that were found before the search ended. The
    /// real program tries nodes in parallel, so that these may be any that are enough.
    fn may_choose(&self, all: &[(NodeIndex, Option<Candidate>)], node: NodeIndex) -> bool {
        let Some(args) = self.scheduler.profile().preemption else { return false };
        let cluster = self.scheduler.cluster();
        let candidates = || all.iter().filter_map(|(_, candidate)| candidate.as_ref());
        let Some(own) = candidates().find(|candidate| candidate.node == node) else { return false };
        let rank = default_preemption::rank(cluster, own);
        let not_better =
            candidates().filter(|other| default_preemption::rank(cluster, other) >= rank).count();
        // Until a candidate is found that violates no budget, the search goes on to the end.
        let wanted = match own.violation_count {
            0 => default_preemption::wanted(args, all.len()),
            _ => usize::MAX,
        };
        not_better >= wanted.min(candidates().count())
    }

    fn compare_scores(
        &mut self,
        pod: PodIndex,
        recorded: &AssignmentRow,
        totals: &[(NodeIndex, i64)],
        scores: &ScoreRow,
    ) {
        let cluster = self.scheduler.cluster();
        let profile = self.scheduler.profile();
        let names: Vec<&str> =
            totals.iter().map(|&(node, _)| cluster.node(node).name.as_str()).collect();
        let feasible: Vec<NodeIndex> = totals.iter().map(|&(node, _)| node).collect();
        let by_name = |values: &mut dyn Iterator<Item = i64>| -> BTreeMap<String, i64> {
            names.iter().map(|&name| name.to_owned()).zip(values).collect()
        };
        let template = cluster.pod(pod).template;
        let own: BTreeMap<Plugin, Vec<i64>> =
            framework::scores(profile, cluster, template, &feasible);
        let mut found: Vec<(String, bool)> = Vec::new();
        let total = by_name(&mut totals.iter().map(|&(_, total)| total));
        found.push(("total".to_owned(), total == scores.total));
        for (name, theirs) in &scores.plugins {
            let plugin = match (name.as_str(), profile.version) {
                ("NodeResourcesLeastAllocated", Version::V1_20) => Some(Plugin::NodeResourcesFit),
                (name, _) => Plugin::ALL.into_iter().find(|plugin| plugin.name() == name),
            };
            let Some(plugin) = plugin else {
                found.push((name.clone(), false));
                continue;
            };
            let weight = profile.weight(plugin);
            let ours = match own.get(&plugin) {
                Some(scores) => by_name(&mut scores.iter().map(|score| weight * score)),
                None => by_name(&mut feasible.iter().map(|_| 0)),
            };
            found.push((name.clone(), ours == *theirs));
        }
        for (name, agrees) in found {
            if !agrees {
                let (order, pod) = (recorded.order, recorded.pod.clone());
                let found = format!("{name} scores differ");
                self.report.differences.push(Difference { order, pod, found });
            }
            self.report.scores.entry(name).or_default().add(agrees);
        }
    }

    /// Does what was recorded.
    fn carry_out(
        &mut self,
        pod: PodIndex,
        recorded: &AssignmentRow,
        preempted: &[&PreemptionRow],
    ) -> anyhow::Result<()> {
        for row in preempted {
            let victim = self.by_name.get(&row.victim).copied();
            let victim =
                victim.filter(|&victim| self.scheduler.cluster().pod(victim).node.is_some());
            let victim = victim.with_context(|| format!("victim {:?} does not run", row.victim))?;
            self.scheduler.cluster_mut().unbind(victim);
        }
        if recorded.node != UNSCHEDULABLE {
            let node = self.node(&recorded.node)?;
            self.scheduler.cluster_mut().bind(pod, node);
        }
        Ok(())
    }
}
