//! `kube-check`: runs every case file of a folder, and counts what agrees, by plugin.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail, ensure};
use cell::kube::{Node, NodeAffinity};
use scheduler::k8s::default_preemption::{self, Candidate};
use scheduler::k8s::fit::{
    ResourceWeight, ResourcesError, Shape, ShapePoint, Strategy, check_resources,
};
use scheduler::k8s::profile::{Backoff, PreemptionArgs, SpreadDefaults};
use scheduler::k8s::status::worst;
use scheduler::k8s::{
    Cluster, NodeIndex, Plugin, PodIndex, Profile, Rejection, Scheduler, TemplateIndex, Verdict,
    framework, node_affinity, normalize, queue, sampling,
};
use serde::Serialize;

use super::case::{Args, Case, CasePoint, Expected, ExpectedCandidate, File, selector};

/// How the cases of one plugin went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PluginResult {
    /// Cases that came out as expected.
    pub passed: usize,
    /// Cases that did not.
    pub failed: usize,
    /// Cases of kinds that are not modelled yet.
    pub not_run: usize,
}

/// A case that did not come out as expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Its plugin.
    pub plugin: String,
    /// Its id.
    pub id: String,
    /// What was found instead.
    pub found: String,
}

/// How all cases of a folder went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// By plugin, as the files name it.
    pub plugins: BTreeMap<String, PluginResult>,
    /// The cases that failed, in the order of files and cases.
    pub failures: Vec<Failure>,
}

impl CheckReport {
    /// Sums over the plugins.
    #[must_use]
    pub fn total(&self) -> PluginResult {
        let mut total = PluginResult::default();
        for result in self.plugins.values() {
            total.passed += result.passed;
            total.failed += result.failed;
            total.not_run += result.not_run;
        }
        total
    }
}

/// Runs every `*.json` file of a folder.
///
/// # Errors
/// If the folder holds no such file, or one is no file of cases. A single case that cannot be read fails.
pub fn check_folder(folder: &Path) -> anyhow::Result<CheckReport> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read folder {}", folder.display()))?;
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in entries {
        let path =
            entry.with_context(|| format!("cannot read folder {}", folder.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    ensure!(!paths.is_empty(), "{}: no case files (*.json)", folder.display());
    paths.sort();
    let mut report = CheckReport::default();
    for path in paths {
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        check_text(&text, &mut report).with_context(|| path.display().to_string())?;
    }
    Ok(report)
}

/// Runs one file of cases.
///
/// # Errors
/// If it is none.
pub fn check_text(text: &str, report: &mut CheckReport) -> anyhow::Result<()> {
    let file: File = serde_json::from_str(text).context("not a file of cases")?;
    ensure!(file.schema_version == 1, "schema version {} is not 1", file.schema_version);
    for (number, value) in file.cases.into_iter().enumerate() {
        let text_of = |key: &str| value.get(key).and_then(serde_json::Value::as_str);
        let id = text_of("id").map_or_else(|| format!("case {}", number + 1), str::to_owned);
        let result = report.plugins.entry(file.plugin.clone()).or_default();
        if text_of("kind").is_some_and(|kind| kind.starts_with("hpa_")) {
            result.not_run += 1;
            continue;
        }
        let outcome = serde_json::from_value::<Case>(value)
            .context("cannot be read")
            .and_then(|case| run(&case));
        match outcome {
            Ok(()) => result.passed += 1,
            Err(error) => {
                result.failed += 1;
                let plugin = file.plugin.clone();
                report.failures.push(Failure { plugin, id, found: format!("{error:#}") });
            }
        }
    }
    Ok(())
}

/// Runs a case; an error says how it differs.
fn run(case: &Case) -> anyhow::Result<()> {
    match case.kind.as_str() {
        "resource_score" => resource_score(case),
        "shape_function" => shape_function(case),
        "fit_filter" => fit_filter(case),
        "taint_filter" => one_status(case, Plugin::TaintToleration),
        "node_affinity_filter" => node_affinity_filter(case),
        "taint_score" => scores(case, Plugin::TaintToleration),
        "node_affinity_score" => scores(case, Plugin::NodeAffinity),
        "spread_score" => scores(case, Plugin::PodTopologySpread),
        "interpod_score" => scores(case, Plugin::InterPodAffinity),
        "image_score" => scores(case, Plugin::ImageLocality),
        "spread_filter" => status_by_node(case, Plugin::PodTopologySpread),
        "interpod_filter" => status_by_node(case, Plugin::InterPodAffinity),
        "preemption_dry_run" => preemption_dry_run(case),
        "preemption_pick" => preemption_pick(case),
        "preemption_eligible" => preemption_eligible(case),
        "num_feasible_nodes" => num_feasible_nodes(case),
        "backoff" => backoff(case),
        "normalize" => normalized(case),
        other => bail!("kind {other:?} is not known"),
    }
}

/// A case's cluster, with the pod that is to be placed.
struct World {
    profile: Profile,
    cluster: Cluster,
    pod: PodIndex,
    template: TemplateIndex,
    /// Nodes that may be scored.
    feasible: Vec<NodeIndex>,
}

fn world(case: &Case, profile: Profile) -> anyhow::Result<World> {
    let nodes: Vec<Node> =
        case.nodes.iter().map(|node| Ok(node.read()?)).collect::<anyhow::Result<_>>()?;
    let mut cluster = Cluster::new(nodes, case.namespaces.clone());
    let budgets = case.pdbs.iter().map(|budget| Ok(budget.read()?));
    cluster.set_budgets(budgets.collect::<anyhow::Result<_>>()?);
    for (number, existing) in case.existing_pods.iter().enumerate() {
        let node = existing.node.as_ref().context("an existing pod has no node")?;
        let index = cluster.node_by_name(node).with_context(|| format!("no node {node:?}"))?;
        let is_terminating = existing.terminating || existing.terminating_by_preemption;
        let template = cluster.template(&existing.read()?, is_terminating);
        let name = existing.name.clone().unwrap_or_else(|| format!("pod {}", number + 1));
        let pod = cluster.create(&name, template, existing.start_time);
        cluster.bind(pod, index);
        if existing.terminating_by_preemption {
            cluster.mark_preempted(pod);
        }
    }
    let mut own = case.pod.read()?;
    if let Some(owner) = selector(case.args.owner_selector.as_ref())? {
        own.owner_selector = owner;
    }
    let template = cluster.template(&own, case.pod.terminating);
    let name = case.pod.name.clone().unwrap_or_else(|| "incoming".to_owned());
    let pod = cluster.create(&name, template, case.pod.start_time);
    if let Some(node) = &case.pod.nominated_node {
        let index = cluster.node_by_name(node).with_context(|| format!("no node {node:?}"))?;
        cluster.nominate(pod, index);
    }
    let out: BTreeSet<&str> =
        case.nodes.iter().filter(|node| node.filtered_out).map(|node| node.name.as_str()).collect();
    let feasible = (0..cluster.node_count())
        .filter(|&node| !out.contains(cluster.node(node).name.as_str()))
        .collect();
    Ok(World { profile, cluster, pod, template, feasible })
}

/// The default profile, with the arguments of a case and one plugin alone.
fn profile(args: &Args, plugin: Plugin) -> anyhow::Result<Profile> {
    let mut profile = Profile {
        filters: plugin.filters().then_some(plugin).into_iter().collect(),
        weights: plugin.scores().then_some((plugin, 1)).into_iter().collect(),
        ignored_resources: args.ignored_resources.clone(),
        ignored_resource_groups: args.ignored_resource_groups.clone(),
        added_affinity: match &args.added_affinity {
            Some(added) => added.read()?,
            None => NodeAffinity::default(),
        },
        ignore_preferred_terms_of_existing_pods: args.ignore_preferred_terms_of_existing_pods,
        ..Profile::v1_36()
    };
    if let Some(weight) = args.hard_pod_affinity_weight {
        profile.hard_pod_affinity_weight = weight;
    }
    if args.system_default == Some(false) || args.default_constraints.is_some() {
        let constraints = args.default_constraints.as_deref().unwrap_or(&[]);
        profile.spread_defaults = SpreadDefaults::List(
            constraints.iter().map(|c| Ok(c.read()?)).collect::<anyhow::Result<_>>()?,
        );
    }
    Ok(profile)
}

fn points(points: &[CasePoint]) -> Shape {
    let point =
        |point: &CasePoint| ShapePoint { utilization: point.utilization, score: point.score };
    Shape(points.iter().map(point).collect())
}

fn expect<T: PartialEq + std::fmt::Debug>(
    what: &str,
    found: &T,
    expected: &T,
) -> anyhow::Result<()> {
    ensure!(found == expected, "{what} {found:?} instead of {expected:?}");
    Ok(())
}

fn expected_scores(expected: &Expected) -> anyhow::Result<BTreeMap<String, i64>> {
    let scores = expected.scores.clone().context("no scores are expected")?;
    serde_json::from_value(scores).context("scores by node are expected")
}

fn compare_scores(world: &World, plugin: Plugin, expected: &Expected) -> anyhow::Result<()> {
    let mut scored =
        framework::scores(&world.profile, &world.cluster, world.template, &world.feasible);
    let Some(scores) = scored.remove(&plugin) else {
        ensure!(expected.skip, "the plugin has nothing to say");
        return Ok(());
    };
    ensure!(!expected.skip, "the plugin scores {scores:?} instead of skipping the pod");
    let names = world.feasible.iter().map(|&node| world.cluster.node(node).name.clone());
    let found: BTreeMap<String, i64> = names.zip(scores).collect();
    expect("scores", &found, &expected_scores(expected)?)
}

fn scores(case: &Case, plugin: Plugin) -> anyhow::Result<()> {
    let world = world(case, profile(&case.args, plugin)?)?;
    compare_scores(&world, plugin, &case.expected)
}

fn resource_score(case: &Case) -> anyhow::Result<()> {
    let strategy = case.args.strategy.as_deref().context("no strategy is given")?;
    let resources: Vec<ResourceWeight> = match &case.args.resources {
        None => ResourceWeight::cpu_and_memory(),
        Some(list) => list
            .iter()
            .map(|resource| ResourceWeight { name: resource.name.clone(), weight: resource.weight })
            .collect(),
    };
    if let Err(error) = check_resources(&resources) {
        let found = match error {
            ResourcesError::Weight { .. } => "invalid_weight",
            ResourcesError::Empty => "empty",
        };
        let expected = case.expected.error.as_deref();
        let agrees = match error {
            ResourcesError::Weight { .. } => expected == Some(found),
            // Whatever the error is called.
            ResourcesError::Empty => expected.is_some(),
        };
        ensure!(agrees, "error {error} instead of {expected:?}");
        return Ok(());
    }
    if let Some(error) = &case.expected.error {
        bail!("no error instead of {error:?}");
    }
    if strategy == "BalancedAllocation" {
        let plugin = Plugin::NodeResourcesBalancedAllocation;
        let profile = Profile { balanced_resources: resources, ..profile(&case.args, plugin)? };
        return compare_scores(&world(case, profile)?, plugin, &case.expected);
    }
    let plugin = Plugin::NodeResourcesFit;
    let strategy = match strategy {
        "LeastAllocated" => Strategy::LeastAllocated,
        "MostAllocated" => Strategy::MostAllocated,
        "RequestedToCapacityRatio" => {
            let shape = case.args.shape.as_deref().context("no shape is given")?;
            Strategy::RequestedToCapacityRatio(points(shape))
        }
        other => bail!("strategy {other:?} is not known"),
    };
    let profile = Profile { strategy, fit_resources: resources, ..profile(&case.args, plugin)? };
    compare_scores(&world(case, profile)?, plugin, &case.expected)
}

fn shape_function(case: &Case) -> anyhow::Result<()> {
    let shape = points(case.args.points.as_deref().context("no points are given")?);
    for &(at, expected) in case.expected.values.as_ref().context("no values are expected")? {
        expect(&format!("value at {at}"), &shape.at(at), &expected)?;
    }
    Ok(())
}

fn insufficient(rejection: &Rejection) -> Option<String> {
    match rejection {
        Rejection::TooManyPods => Some("pods".to_owned()),
        Rejection::Insufficient { resource, .. } => Some(resource.clone()),
        Rejection::Cordoned
        | Rejection::OtherNode
        | Rejection::Taint { .. }
        | Rejection::NodeAffinity
        | Rejection::AddedAffinity
        | Rejection::Narrowed
        | Rejection::Ports
        | Rejection::SpreadLabelMissing
        | Rejection::Spread
        | Rejection::PodAffinity
        | Rejection::PodAntiAffinity
        | Rejection::ExistingAntiAffinity => None,
    }
}

fn verdicts(world: &World) -> Vec<Vec<Rejection>> {
    framework::filter(&world.profile, &world.cluster, world.template, Some(world.pod))
}

fn status(expected: &Expected) -> anyhow::Result<&str> {
    expected.status.as_deref().context("no status is expected")
}

fn one_status(case: &Case, plugin: Plugin) -> anyhow::Result<()> {
    let world = world(case, profile(&case.args, plugin)?)?;
    let verdicts = verdicts(&world);
    let verdict = verdicts.first().context("there is no node")?;
    expect("status", &worst(verdict).name(), &status(&case.expected)?)
}

fn fit_filter(case: &Case) -> anyhow::Result<()> {
    let plugin = Plugin::NodeResourcesFit;
    let world = world(case, profile(&case.args, plugin)?)?;
    let verdicts = verdicts(&world);
    let verdict = verdicts.first().context("there is no node")?;
    expect("status", &worst(verdict).name(), &status(&case.expected)?)?;
    let found: BTreeSet<String> = verdict.iter().filter_map(insufficient).collect();
    match &case.expected.insufficient {
        Some(expected) => expect("insufficient", &found, expected),
        None => Ok(()),
    }
}

fn node_affinity_filter(case: &Case) -> anyhow::Result<()> {
    one_status(case, Plugin::NodeAffinity)?;
    let pod = case.pod.read()?;
    let narrowed = node_affinity::narrowed(&pod);
    let is_nowhere = narrowed.as_ref().is_some_and(BTreeSet::is_empty);
    let found = is_nowhere.then(|| Verdict::UnschedulableAndUnresolvable.name().to_owned());
    expect("status up front", &found, &case.expected.prefilter_status)?;
    if let Some(expected) = &case.expected.prefilter_nodes {
        let names = narrowed.filter(|_| !is_nowhere);
        let found: Option<BTreeSet<String>> =
            names.map(|names| names.into_iter().map(str::to_owned).collect());
        expect("narrowed nodes", &found, expected)?;
    }
    Ok(())
}

fn status_by_node(case: &Case, plugin: Plugin) -> anyhow::Result<()> {
    let world = world(case, profile(&case.args, plugin)?)?;
    let names = (0..world.cluster.node_count()).map(|node| world.cluster.node(node).name.clone());
    let found: BTreeMap<String, String> = names
        .zip(verdicts(&world).iter().map(|verdict| worst(verdict).name().to_owned()))
        .collect();
    let expected = case.expected.status_by_node.as_ref().context("no status is expected")?;
    expect("status", &found, expected)
}

/// The candidates that the scheduler finds, in the order in which it finds them.
fn candidates(case: &Case) -> anyhow::Result<(Scheduler, Vec<Candidate>)> {
    let args = &case.args;
    let filters = args.filters.as_ref().context("no filters are given")?;
    let filters = filters.iter().map(|name| {
        let known = Plugin::ALL.into_iter().find(|plugin| plugin.name() == name);
        known.ok_or_else(|| anyhow!("filter {name:?} is not known"))
    });
    let preemption = PreemptionArgs {
        min_candidate_nodes_percentage: args.min_candidate_nodes_percentage.unwrap_or(10),
        min_candidate_nodes_absolute: args.min_candidate_nodes_absolute.unwrap_or(100),
    };
    let profile = Profile {
        filters: filters.collect::<anyhow::Result<_>>()?,
        preemption: Some(preemption),
        ..Profile::v1_36()
    };
    let World { profile, cluster, pod, .. } = world(case, profile)?;
    let mut scheduler = Scheduler::new(profile, cluster, 0, scheduler::Speed::default());
    let all = scheduler.all_candidates(pod);
    let potential: Vec<NodeIndex> = all.iter().map(|(node, _)| *node).collect();
    let offset = args.offset.unwrap_or(0) % potential.len().max(1);
    let mut by_node: BTreeMap<NodeIndex, Option<Candidate>> = all.into_iter().collect();
    let found = default_preemption::candidates(preemption, &potential, offset, |node| {
        by_node.get_mut(&node).and_then(Option::take)
    });
    Ok((scheduler, found))
}

fn names(cluster: &Cluster, pods: &[PodIndex]) -> BTreeSet<String> {
    pods.iter().map(|&pod| cluster.pod(pod).name.clone()).collect()
}

fn preemption_dry_run(case: &Case) -> anyhow::Result<()> {
    let (scheduler, candidates) = candidates(case)?;
    let cluster = scheduler.cluster();
    let found: BTreeMap<String, ExpectedCandidate> = candidates
        .iter()
        .map(|candidate| {
            let name = cluster.node(candidate.node).name.clone();
            let victims = names(cluster, &candidate.victims);
            (name, ExpectedCandidate { victims, pdb_violations: candidate.violation_count })
        })
        .collect();
    let expected = case.expected.candidates.as_ref().context("no candidates are expected")?;
    expect("candidates", &found, expected)
}

fn preemption_pick(case: &Case) -> anyhow::Result<()> {
    let (scheduler, candidates) = candidates(case)?;
    let cluster = scheduler.cluster();
    let best = default_preemption::best(cluster, &candidates);
    let expected = case.expected.node_any_of.as_ref().context("no node is expected")?;
    let found: BTreeSet<String> =
        best.iter().map(|candidate| cluster.node(candidate.node).name.clone()).collect();
    // Which of the best is chosen is left open on both sides.
    ensure!(
        !found.is_empty() && found.is_subset(expected),
        "best nodes {found:?} instead of any of {expected:?}"
    );
    match &case.expected.victims {
        Some(expected) => best.iter().try_for_each(|candidate| {
            expect("victims", &names(cluster, &candidate.victims), expected)
        }),
        None => Ok(()),
    }
}

fn preemption_eligible(case: &Case) -> anyhow::Result<()> {
    let world = world(case, Profile::v1_36())?;
    let verdict = match case.args.nominated_node_status.as_deref() {
        None | Some("Success") => Verdict::Success,
        Some("Unschedulable") => Verdict::Unschedulable,
        Some("UnschedulableAndUnresolvable") => Verdict::UnschedulableAndUnresolvable,
        Some(other) => bail!("status {other:?} is not known"),
    };
    let found = default_preemption::is_eligible(&world.cluster, world.pod, verdict);
    expect("eligible", &Some(found), &case.expected.eligible)
}

fn num_feasible_nodes(case: &Case) -> anyhow::Result<()> {
    let nodes = case.args.nodes.context("no number of nodes is given")?;
    let found = sampling::feasible_limit(nodes, case.args.percentage.unwrap_or(0));
    expect("limit", &Some(found), &case.expected.limit)
}

fn backoff(case: &Case) -> anyhow::Result<()> {
    let default = Profile::v1_36().backoff;
    let backoff = Backoff {
        initial_ms: case.args.initial_ms.unwrap_or(default.initial_ms),
        max_ms: case.args.max_ms.unwrap_or(default.max_ms),
    };
    let found = queue::backoff_ms(backoff, case.args.count.context("no count is given")?);
    expect("back-off", &Some(found), &case.expected.backoff_ms)
}

fn normalized(case: &Case) -> anyhow::Result<()> {
    let raw = case.args.scores.as_ref().context("no scores are given")?;
    let max = raw.iter().copied().max().unwrap_or(0);
    let is_reversed = case.args.reverse.unwrap_or(false);
    let found: Vec<i64> =
        raw.iter().map(|&raw| normalize::normalize(raw, max, is_reversed)).collect();
    let expected = case.expected.scores.clone().context("no scores are expected")?;
    let expected: Vec<i64> = serde_json::from_value(expected).context("a list is expected")?;
    expect("scores", &found, &expected)
}
