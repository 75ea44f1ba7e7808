//! How many decisions a second the Kubernetes model makes, with constraints of each kind in play, and
//! how long it takes to preempt its way into a full cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use cell::kube::{
    AffinityTerm, Amounts, Container, HOSTNAME, Node, NodeTerm, Pod, Requirement, Selector,
    SpreadConstraint, Taint, TaintEffect, Toleration, UnsatisfiableAction, Weighted, ZONE,
};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use scheduler::Speed;
use scheduler::k8s::{Cluster, Outcome, Profile, Scheduler};

const NODE_COUNT: usize = 5000;
const POD_COUNT: usize = 10_000;
/// Pods of one group, as in a deployment.
const GROUP_SIZE: usize = 1000;

fn node(index: usize, is_tainted: bool) -> Node {
    let label = |key: &str, value: String| (key.to_owned(), value);
    let taint = Taint {
        key: "dedicated".to_owned(),
        value: "batch".to_owned(),
        effect: TaintEffect::NoSchedule,
    };
    Node {
        name: format!("node-{index}"),
        labels: [
            label(HOSTNAME, format!("node-{index}")),
            label(ZONE, format!("zone-{}", index % 10)),
            label("disk", if index.is_multiple_of(2) { "ssd" } else { "hdd" }.to_owned()),
        ]
        .into(),
        taints: (is_tainted && index.is_multiple_of(7)).then_some(taint).into_iter().collect(),
        allocatable: Amounts { cpu: Some(4000), memory: Some(32 << 30), ..Amounts::default() },
        ..Node::default()
    }
}

fn pod(cpu: i64, memory: i64, priority: i32) -> Pod {
    let requests = Amounts { cpu: Some(cpu), memory: Some(memory), ..Amounts::default() };
    Pod {
        priority,
        containers: vec![Container { requests, ..Container::default() }],
        ..Pod::default()
    }
}

/// The pod of a group, before a constraint is added.
fn grouped(group: usize) -> Pod {
    let labels = [("app".to_owned(), format!("app-{group}"))].into();
    Pod { labels, ..pod(100, 500 << 20, 0) }
}

fn own_group(pod: &Pod) -> Option<Selector> {
    Some(Selector(vec![Requirement::is_in("app", [pod.labels["app"].as_str()])]))
}

fn term(pod: &Pod, key: &str) -> AffinityTerm {
    AffinityTerm {
        topology_key: key.to_owned(),
        selector: own_group(pod),
        ..AffinityTerm::default()
    }
}

type Constrain = fn(&mut Pod);

const KINDS: [(&str, Constrain); 5] = [
    ("unconstrained", |_| ()),
    ("required-anti-affinity", |pod| {
        let term = term(pod, HOSTNAME);
        pod.anti_affinity.required.push(term);
    }),
    ("hard-spread", |pod| {
        let selector = own_group(pod);
        let action = UnsatisfiableAction::DoNotSchedule;
        pod.spread.push(SpreadConstraint::new(5, ZONE, action, selector));
    }),
    ("preferred-affinity", |pod| {
        let term = term(pod, HOSTNAME);
        pod.affinity.preferred.push(Weighted { weight: 1, term });
    }),
    ("node-affinity-and-taints", |pod| {
        let expressions = vec![Requirement::is_in("disk", ["ssd"])];
        pod.node_affinity.required = Some(vec![NodeTerm { expressions, fields: Vec::new() }]);
        pod.tolerations.push(Toleration {
            key: "dedicated".to_owned(),
            value: "batch".to_owned(),
            ..Toleration::default()
        });
    }),
];

fn place(profile: &Profile, constrain: Constrain) -> usize {
    let nodes = (0..NODE_COUNT).map(|index| node(index, true)).collect();
    let cluster = Cluster::new(nodes, BTreeMap::new());
    let mut scheduler = Scheduler::new(profile.clone(), cluster, 7, Speed::default());
    for index in 0..POD_COUNT {
        let mut pod = grouped(index / GROUP_SIZE);
        constrain(&mut pod);
        let template = scheduler.cluster_mut().template(&pod, false);
        let pod = scheduler.cluster_mut().create("", template, None);
        scheduler.enqueue(pod, 0);
    }
    let mut placed = 0;
    while let Some((_, outcome)) = scheduler.step(0) {
        placed += usize::from(matches!(outcome, Outcome::Bound(_)));
    }
    placed
}

fn decisions(criterion: &mut Criterion) {
    let sampled = Profile::v1_36();
    let all = Profile { percentage_of_nodes_to_score: 100, ..Profile::v1_36() };
    for (name, profile) in [("all-nodes", all), ("sampled", sampled)] {
        let mut group = criterion.benchmark_group(format!("kube-5000-{name}"));
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
        group.throughput(Throughput::Elements(POD_COUNT as u64));
        for (kind, constrain) in KINDS {
            assert_eq!(place(&profile, constrain), POD_COUNT, "{kind}");
            group.bench_function(kind, |bencher| bencher.iter(|| place(&profile, constrain)));
        }
        group.finish();
    }
}

/// 5,000 nodes full with 20,000 pods of low priority, and 5,000 of high priority arrive.
fn preempt() -> usize {
    let nodes = (0..NODE_COUNT).map(|index| node(index, false)).collect();
    let mut cluster = Cluster::new(nodes, BTreeMap::new());
    let low = cluster.template(&pod(900, 500 << 20, 0), false);
    for index in 0..4 * NODE_COUNT {
        let pod = cluster.create("", low, Some(i64::try_from(index).expect("small")));
        cluster.bind(pod, index % NODE_COUNT);
    }
    let high = cluster.template(&pod(3000, 500 << 20, 10), false);
    let mut scheduler = Scheduler::new(Profile::v1_36(), cluster, 7, Speed::default());
    for _ in 0..NODE_COUNT {
        let pod = scheduler.cluster_mut().create("", high, None);
        scheduler.enqueue(pod, 0);
    }
    let mut placed = 0;
    while let Some((_, outcome)) = scheduler.step(0) {
        match outcome {
            Outcome::Bound(_) => placed += 1,
            Outcome::Nominated(candidate) => {
                candidate.victims.into_iter().for_each(|victim| scheduler.evict(victim, 0));
            }
            Outcome::Unschedulable => {}
        }
    }
    placed
}

fn preemption(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("kube-preemption");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(5));
    group.throughput(Throughput::Elements(NODE_COUNT as u64));
    assert_eq!(preempt(), NODE_COUNT);
    group.bench_function("5000-preemptors", |bencher| bencher.iter(preempt));
    group.finish();
}

criterion_group!(benches, decisions, preemption);
criterion_main!(benches);
