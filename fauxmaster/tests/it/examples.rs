//! Each folder of `examples/` gives the outcome that its header says, under every policy.

use std::collections::BTreeMap;
use std::path::PathBuf;

use fauxmaster::kube::config::policy_by_name;
use fauxmaster::{PackOptions, Start, outcome_by_job, pack};
use scheduler::{Placement, Plan, Policy, policies};
use traces::{ReadOptions, Trace, load};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

fn example(name: &str) -> Trace {
    let format = if name == "manifests" { "manifests" } else { "cell" };
    let source = format!("{format}:{}", folder().join(name).display());
    load(&source, ReadOptions::default()).unwrap()
}

/// The name of the machine that a task is on, through its alloc if it is in one.
fn machine_of(plan: &Plan<'_>, task: &str) -> String {
    let cell = plan.end.cell();
    let Placement { row, .. } = plan.end.placement(cell.find_task(task).unwrap()).unwrap();
    cell.machine(plan.end.slot(row).machine).name.clone()
}

/// Packs an example under every policy, and compares placed and pending by job; `more` looks closer.
fn check(
    name: &str,
    start: Start,
    expected: &[(&str, usize, usize)],
    more: impl Fn(&str, &Plan<'_>),
) {
    check_under(|_| true, name, start, expected, more);
}

/// The same under some policies alone.
fn check_under(
    is_meant: impl Fn(&Policy) -> bool,
    name: &str,
    start: Start,
    expected: &[(&str, usize, usize)],
    more: impl Fn(&str, &Plan<'_>),
) {
    let trace = example(name);
    let expected: BTreeMap<String, (usize, usize)> = expected
        .iter()
        .map(|(job, placed, pending)| ((*job).to_owned(), (*placed, *pending)))
        .collect();
    for policy in policies().into_iter().filter(is_meant) {
        for seed in [1, 2, 3] {
            let mut options = PackOptions::new(policy.clone(), seed);
            options.start = start;
            let packing = pack(&trace, &options).unwrap();
            assert_eq!(outcome_by_job(&packing.plan), expected, "{name}, {}", policy.name());
            assert_eq!(packing.plan.end.check_sums(), None);
            more(policy.name(), &packing.plan);
        }
    }
}

/// Whether a policy weighs soft constraints and packages, as Borg's do.
fn has_borgs_terms(policy: &str) -> bool {
    let policy = Policy::by_name(policy).unwrap();
    !policy.is_kubernetes() && !policy.is_peer()
}

fn nothing_more(_: &str, _: &Plan<'_>) {}

/// An example that is added is to be tested here.
#[test]
fn every_example_is_tested() {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    let tested = [
        "alloc-sets",
        "cell-file",
        "constraints",
        "different-machines",
        "disk",
        "disruption",
        "gpus",
        "hello",
        "kube-scheduler",
        "manifests",
        "master",
        "packages",
        "preemption",
        "spread",
        "tied",
    ];
    assert_eq!(names, tested);
}

#[test]
fn hello() {
    check("hello", Start::Empty, &[("hello", 2, 0)], nothing_more);
}

#[test]
fn configurations_of_kube_scheduler() {
    let trace = example("hello");
    let file = folder().join("kube-scheduler/bin-packing.yaml");
    for scheduler in ["", "#gpu"] {
        let policy = policy_by_name(&format!("kube:{}{scheduler}", file.display())).unwrap();
        let packing = pack(&trace, &PackOptions::new(policy, 1)).unwrap();
        assert_eq!(outcome_by_job(&packing.plan), [("hello".to_owned(), (2, 0))].into());
    }
}

#[test]
fn alloc_sets() {
    let expected = [("envelope", 2, 0), ("server", 4, 0), ("too-large", 0, 1), ("batch", 2, 1)];
    check("alloc-sets", Start::Empty, &expected, |policy, plan| {
        let cell = plan.end.cell();
        for index in 0..4 {
            let server = cell.find_task(&format!("server/{index}")).unwrap();
            let row = plan.end.placement(server).unwrap().row;
            assert!(plan.end.alloc(row).is_some(), "{policy}");
        }
    });
}

#[test]
fn constraints() {
    let jobs =
        ["equal", "not-equal", "less", "greater", "exists", "in", "absent", "soft", "soft-nowhere"];
    let mut expected: Vec<(&str, usize, usize)> = jobs.iter().map(|job| (*job, 1, 0)).collect();
    expected.push(("nowhere", 0, 1));
    check("constraints", Start::Empty, &expected, |policy, plan| {
        let is_on = |task: &str, machines: &[&str]| {
            let machine = machine_of(plan, task);
            assert!(machines.contains(&machine.as_str()), "{policy}: {task} is on {machine}");
        };
        is_on("equal/0", &["old"]);
        is_on("not-equal/0", &["new", "bare"]);
        is_on("less/0", &["old"]);
        is_on("greater/0", &["new"]);
        is_on("exists/0", &["new"]);
        is_on("in/0", &["old", "new"]);
        is_on("absent/0", &["bare"]);
        if has_borgs_terms(policy) {
            is_on("soft/0", &["new"]);
        }
    });
}

#[test]
fn different_machines() {
    let expected = [("replicas", 3, 1), ("workers", 6, 0)];
    check("different-machines", Start::Empty, &expected, nothing_more);
}

#[test]
fn disk() {
    let expected = [("anywhere", 1, 0), ("store", 1, 1), ("cache", 1, 0), ("stateless", 1, 0)];
    check("disk", Start::Empty, &expected, |policy, plan| {
        assert_eq!(machine_of(plan, "anywhere/0"), "unknown", "{policy}");
        assert_eq!(machine_of(plan, "cache/0"), "large", "{policy}");
    });
}

#[test]
fn disruption() {
    let expected = [("crunch", 2, 2), ("sweep", 0, 2), ("web", 3, 1)];
    let is_borg = |policy: &Policy| !policy.is_kubernetes();
    check_under(is_borg, "disruption", Start::Recorded, &expected, |policy, plan| {
        let victims: usize = plan.assignments.iter().map(|made| made.victims.len()).sum();
        assert_eq!(victims, 4, "{policy}");
    });
    // Kubernetes has disruption budgets instead, which are objects of their own.
    let expected = [("crunch", 0, 4), ("sweep", 2, 0), ("web", 4, 0)];
    check_under(Policy::is_kubernetes, "disruption", Start::Recorded, &expected, nothing_more);
    check("disruption", Start::Empty, &expected, nothing_more);
}

#[test]
fn gpus() {
    let expected = [("shares", 2, 1), ("rests", 2, 0), ("pair", 1, 0), ("late", 0, 1)];
    let is_borg = |policy: &Policy| !policy.is_kubernetes();
    check_under(is_borg, "gpus", Start::Empty, &expected, nothing_more);
    // Kubernetes counts whole devices: a share takes one.
    let expected = [("shares", 2, 1), ("rests", 0, 2), ("pair", 1, 0), ("late", 0, 1)];
    check_under(Policy::is_kubernetes, "gpus", Start::Empty, &expected, nothing_more);
}

#[test]
fn packages() {
    let expected = [("leaf", 1, 0), ("root", 1, 0), ("other", 3, 0)];
    check("packages", Start::Empty, &expected, |policy, plan| {
        if has_borgs_terms(policy) {
            assert_eq!(machine_of(plan, "leaf/0"), "warm", "{policy}");
        }
    });
}

#[test]
fn preemption_from_the_current_placements() {
    let expected = [("crunch", 0, 6), ("frontend", 1, 0), ("web", 2, 1), ("watch", 1, 0)];
    let is_borg = |policy: &Policy| !policy.is_kubernetes();
    check_under(is_borg, "preemption", Start::Recorded, &expected, |policy, plan| {
        assert_eq!(machine_of(plan, "frontend/0"), "m-3", "{policy}");
        let victims: usize = plan.assignments.iter().map(|made| made.victims.len()).sum();
        assert_eq!(victims, 6, "{policy}");
    });
    // In Kubernetes whoever has the lower priority goes, production or not.
    let expected = [("crunch", 0, 6), ("frontend", 0, 1), ("web", 3, 0), ("watch", 1, 0)];
    check_under(Policy::is_kubernetes, "preemption", Start::Recorded, &expected, nothing_more);
}

#[test]
fn preemption_from_scratch() {
    let expected = [("crunch", 0, 6), ("frontend", 0, 1), ("web", 3, 0), ("watch", 1, 0)];
    check("preemption", Start::Empty, &expected, nothing_more);
}

#[test]
fn spread() {
    check(
        "spread",
        Start::Empty,
        &[("quorum", 3, 2), ("pairs", 4, 1), ("loose", 6, 0)],
        nothing_more,
    );
}

#[test]
fn tied() {
    // Tied tasks are not packed from scratch; they run where they are recorded.
    check("tied", Start::Empty, &[("daemon", 0, 3), ("web", 3, 0)], nothing_more);
    check("tied", Start::Recorded, &[("daemon", 3, 0), ("web", 3, 0)], nothing_more);
    let trace = example("tied");
    for policy in policies() {
        let report = pack(&trace, &PackOptions::new(policy, 1)).unwrap().report;
        assert_eq!((report.task_count, report.placed_count, report.pending_count), (3, 3, 0));
    }
}

/// A Kubernetes cluster. What Borg's policies see of it is enough for all of it to find a place, daemons on
/// the nodes that they are for.
#[test]
fn manifests() {
    let daemons = ["control-0", "worker-a0", "worker-a1", "worker-b0", "worker-b1", "gpu-b0"]
        .map(|node| format!("DaemonSet/kube-system/agent@{node}"));
    let mut expected: Vec<(&str, usize, usize)> =
        daemons.iter().map(|daemon| (daemon.as_str(), 1, 0)).collect();
    expected.extend([
        ("Deployment/shop/web", 6, 0),
        ("StatefulSet/shop/db", 3, 0),
        ("Job/research/train", 3, 0),
        ("Pod/research/notebook", 1, 0),
    ]);
    for start in [Start::Empty, Start::Recorded] {
        check("manifests", start, &expected, |policy, plan| {
            for daemon in &daemons {
                let node = daemon.rsplit('@').next().unwrap();
                assert_eq!(machine_of(plan, &format!("{daemon}/0")), node, "{policy}");
            }
            let on: std::collections::BTreeSet<String> =
                (0..3).map(|i| machine_of(plan, &format!("StatefulSet/shop/db/{i}"))).collect();
            assert_eq!(on.len(), 3, "{policy}: {on:?}");
        });
    }
}

#[test]
fn daemons_of_manifests_are_left_out_where_some_of_their_nodes_are() {
    let trace = example("manifests");
    let count = |machines| {
        let mut options = PackOptions::new(policies()[0].clone(), 1);
        options.machines = machines;
        pack(&trace, &options).unwrap().report.task_count
    };
    assert_eq!(count(None), 19); // 6 daemons, 6 web, 3 db, 3 train, 1 notebook
    assert_eq!(count(Some(6)), 19);
    assert_eq!(count(Some(5)), 13);
}
