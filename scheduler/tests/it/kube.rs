//! Kubernetes' placement: the index against the plugins as written, on random clusters with every plugin
//! in play; and the properties of its preemption and queue.

use std::collections::{BTreeMap, BTreeSet};

use cell::kube::{
    Affinity, AffinityTerm, Amounts, Container, DisruptionBudget, HOSTNAME, HostPort,
    InclusionPolicy, InitContainer, Labels, Node, NodeAffinity, NodeTerm, Operator, Pod,
    PreemptionPolicy, Requirement, Selector, SpreadConstraint, Taint, TaintEffect, Toleration,
    TolerationOperator, UnsatisfiableAction, Weighted, ZONE,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::{
    Just, Strategy, TestCaseError, any, prop_assert, prop_assert_eq, prop_oneof, proptest,
};
use proptest::sample::select;
use scheduler::Speed;
use scheduler::k8s::default_preemption::{self, Candidate};
use scheduler::k8s::fit::Strategy as FitStrategy;
use scheduler::k8s::status::worst;
use scheduler::k8s::{
    Cluster, NodeIndex, Outcome, PodIndex, Profile, Scheduler, Verdict, framework,
};

use crate::cells::cases;

fn text(text: &str) -> String {
    text.to_owned()
}

fn labels() -> impl Strategy<Value = Labels> {
    btree_map(select(vec![text("app"), text("tier")]), select(vec![text("a"), text("b")]), 0..=2)
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let values = prop_oneof![
        Just(vec![text("a")]),
        Just(vec![text("b")]),
        Just(vec![text("a"), text("b")]),
    ];
    let key = select(vec![text("app"), text("tier")]);
    (
        key,
        select(vec![Operator::In, Operator::NotIn, Operator::Exists, Operator::DoesNotExist]),
        values,
    )
        .prop_map(|(key, operator, values)| {
            let is_bare = matches!(operator, Operator::Exists | Operator::DoesNotExist);
            Requirement { key, operator, values: if is_bare { Vec::new() } else { values } }
        })
}

fn selector() -> impl Strategy<Value = Option<Selector>> {
    option::weighted(0.9, vec(requirement(), 0..=2).prop_map(Selector))
}

fn topology_key() -> impl Strategy<Value = String> {
    select(vec![text(ZONE), text(HOSTNAME), text("rack")])
}

fn affinity_term() -> impl Strategy<Value = AffinityTerm> {
    (
        topology_key(),
        selector(),
        prop_oneof![3 => Just(BTreeSet::new()), 1 => Just(BTreeSet::from([text("n1")]))],
        option::weighted(0.2, vec(requirement(), 0..=1).prop_map(Selector)),
    )
        .prop_map(|(topology_key, selector, namespaces, namespace_selector)| AffinityTerm {
            topology_key,
            selector,
            namespaces,
            namespace_selector,
        })
}

fn affinity() -> impl Strategy<Value = Affinity> {
    let preferred =
        (1_i64..=100, affinity_term()).prop_map(|(weight, term)| Weighted { weight, term });
    prop_oneof![
        3 => Just(Affinity::default()),
        2 => (vec(affinity_term(), 0..=2), vec(preferred, 0..=2))
            .prop_map(|(required, preferred)| Affinity { required, preferred }),
    ]
}

fn spread() -> impl Strategy<Value = SpreadConstraint> {
    let policy = || select(vec![InclusionPolicy::Honor, InclusionPolicy::Ignore]);
    let action =
        select(vec![UnsatisfiableAction::DoNotSchedule, UnsatisfiableAction::ScheduleAnyway]);
    (
        (1_i64..=3, topology_key(), action, selector()),
        (prop_oneof![3 => Just(1_i64), 1 => 2_i64..=4], policy(), policy()),
        prop_oneof![3 => Just(Vec::new()), 1 => Just(vec![text("tier")])],
    )
        .prop_map(|((skew, key, action, selector), (min_domains, affinity, taints), keys)| {
            SpreadConstraint {
                min_domains,
                node_affinity_policy: affinity,
                node_taints_policy: taints,
                match_label_keys: keys,
                ..SpreadConstraint::new(skew, &key, action, selector)
            }
        })
}

fn taint() -> impl Strategy<Value = Taint> {
    let effect = select(vec![
        TaintEffect::NoSchedule,
        TaintEffect::PreferNoSchedule,
        TaintEffect::PreferNoSchedule,
        TaintEffect::NoExecute,
    ]);
    (select(vec![text("k1"), text("k2")]), select(vec![text(""), text("v")]), effect)
        .prop_map(|(key, value, effect)| Taint { key, value, effect })
}

fn toleration() -> impl Strategy<Value = Toleration> {
    let effect = option::of(select(vec![TaintEffect::NoSchedule, TaintEffect::PreferNoSchedule]));
    let operator = select(vec![TolerationOperator::Equal, TolerationOperator::Exists]);
    (
        select(vec![text(""), text("k1"), text("k2")]),
        operator,
        select(vec![text(""), text("v")]),
        effect,
    )
        .prop_map(|(key, operator, value, effect)| Toleration { key, operator, value, effect })
}

fn node_term() -> impl Strategy<Value = NodeTerm> {
    let field = select(vec![text("node0"), text("node1"), text("node2")])
        .prop_map(|name| vec![Requirement::is_in("metadata.name", [name])]);
    prop_oneof![
        4 => vec(requirement(), 0..=2)
            .prop_map(|expressions| NodeTerm { expressions, fields: Vec::new() }),
        1 => field.prop_map(|fields| NodeTerm { expressions: Vec::new(), fields }),
    ]
}

fn amounts() -> impl Strategy<Value = Amounts> {
    let stated = |most: i64| prop_oneof![1 => Just(None), 1 => Just(Some(0)), 6 => (1..=most).prop_map(Some)];
    (
        stated(1500),
        stated(900 << 20),
        option::weighted(0.2, 1_i64..=4),
        btree_map(select(vec![text("x.io/gpu"), text("hugepages-2Mi")]), 0_i64..=2, 0..=1),
    )
        .prop_map(|(cpu, memory, ephemeral, scalar)| Amounts {
            cpu,
            memory,
            ephemeral,
            scalar,
        })
}

fn node() -> impl Strategy<Value = Node> {
    (
        (
            option::weighted(0.8, select(vec![text("z0"), text("z1"), text("z2")])),
            option::weighted(0.8, select(vec![text("r0"), text("r1"), text("r2"), text("r3")])),
            option::weighted(0.9, Just(())),
            labels(),
        ),
        vec(taint(), 0..=1),
        proptest::bool::weighted(0.05),
        (0_i64..=4000, 0_i64..=4 << 30, 0_i64..=8, 0_i64..=4),
        prop_oneof![1 => 1_i64..=3, 4 => Just(110_i64)],
        btree_map(select(vec![text("i:1"), text("j:latest")]), 1_i64..=900 << 20, 0..=2),
    )
        .prop_map(
            |((zone, rack, host, mut labels), taints, unschedulable, has, pods, images)| {
                for (key, value) in [(ZONE, zone), ("rack", rack)] {
                    if let Some(value) = value {
                        labels.insert(text(key), value);
                    }
                }
                if host.is_some() {
                    labels.insert(text(HOSTNAME), String::new());
                }
                let (cpu, memory, ephemeral, gpu) = has;
                let mut allocatable = Amounts {
                    cpu: Some(cpu),
                    memory: Some(memory),
                    ephemeral: Some(ephemeral),
                    ..Amounts::default()
                };
                allocatable.scalar.insert(text("x.io/gpu"), gpu);
                Node { labels, taints, unschedulable, allocatable, pods, images, ..Node::default() }
            },
        )
}

fn pod() -> impl Strategy<Value = Pod> {
    let preferred = (1_i64..=100, node_term()).prop_map(|(weight, term)| Weighted { weight, term });
    let node_affinity = prop_oneof![
        3 => Just(NodeAffinity::default()),
        1 => (option::weighted(0.6, vec(node_term(), 0..=2)), vec(preferred, 0..=2))
            .prop_map(|(required, preferred)| NodeAffinity { required, preferred }),
    ];
    let port = prop_oneof![
        5 => Just(Vec::new()),
        1 => select(vec![text("0.0.0.0"), text("10.0.0.1")]).prop_map(|ip| {
            vec![HostPort { ip, protocol: text("TCP"), port: 80 }]
        }),
    ];
    let image = option::weighted(0.3, select(vec![text("i:1"), text("j"), text("k")]));
    let container = (amounts(), port, image).prop_map(|(requests, host_ports, image)| Container {
        image,
        requests,
        host_ports,
    });
    let init = (amounts(), any::<bool>()).prop_map(|(requests, restart_always)| InitContainer {
        container: Container { requests, ..Container::default() },
        restart_always,
    });
    (
        (select(vec![text("n0"), text("n1")]), labels(), select(vec![0, 0, 5, 10])),
        (vec(container, 1..=2), prop_oneof![3 => Just(Vec::new()), 1 => vec(init, 1..=2)]),
        (
            prop_oneof![5 => Just(Labels::new()), 1 => Just(Labels::from([(text("app"), text("a"))]))],
            node_affinity,
            vec(toleration(), 0..=2),
        ),
        (affinity(), affinity()),
        prop_oneof![2 => Just(Vec::new()), 1 => vec(spread(), 1..=2)],
        prop_oneof![
            3 => Just(Selector::default()),
            1 => vec(requirement(), 1..=2).prop_map(Selector),
        ],
    )
        .prop_map(
            |(
                (namespace, labels, priority),
                (containers, init_containers),
                (node_selector, node_affinity, tolerations),
                (affinity, anti_affinity),
                spread,
                owner_selector,
            )| Pod {
                namespace,
                labels,
                priority,
                containers,
                init_containers,
                node_selector,
                node_affinity,
                tolerations,
                affinity,
                anti_affinity,
                spread,
                owner_selector,
                ..Pod::default()
            },
        )
}

fn profile() -> impl Strategy<Value = Profile> {
    (any::<bool>(), any::<bool>(), select(vec![0_i64, 1, 7]), any::<bool>()).prop_map(
        |(is_old, is_most, hard, ignores)| {
            let base = if is_old { Profile::v1_20() } else { Profile::v1_36() };
            let strategy =
                if is_most { FitStrategy::MostAllocated } else { FitStrategy::LeastAllocated };
            Profile {
                strategy,
                hard_pod_affinity_weight: hard,
                ignore_preferred_terms_of_existing_pods: ignores,
                ..base
            }
        },
    )
}

/// What happens in a cluster: a pod of one of the templates comes, or one that runs goes.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Comes(usize),
    Goes(usize),
}

fn happenings(count: usize) -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        6 => (0_usize..64).prop_map(Happening::Comes),
        1 => (0_usize..64).prop_map(Happening::Goes),
    ];
    vec(one, 1..=count)
}

fn budgets() -> impl Strategy<Value = Vec<DisruptionBudget>> {
    let budget = (select(vec![text("n0"), text("n1")]), selector(), -1_i64..=2).prop_map(
        |(namespace, selector, allowed)| DisruptionBudget {
            namespace,
            selector,
            allowed,
            disrupted: BTreeSet::new(),
        },
    );
    vec(budget, 0..=2)
}

fn cluster(nodes: &[Node], budgets: Vec<DisruptionBudget>) -> Cluster {
    let named = nodes.iter().enumerate().map(|(index, node)| {
        let mut node = Node { name: format!("node{index}"), ..node.clone() };
        if let Some(host) = node.labels.get_mut(HOSTNAME) {
            *host = format!("node{index}");
        }
        node
    });
    let namespaces = BTreeMap::from([(text("n1"), Labels::from([(text("app"), text("a"))]))]);
    let mut cluster = Cluster::new(named.collect(), namespaces);
    cluster.set_budgets(budgets);
    cluster
}

/// The nodes that the plugins as written let a pod on.
fn feasible(scheduler: &Scheduler, pod: PodIndex) -> Vec<NodeIndex> {
    let cluster = scheduler.cluster();
    let template = cluster.pod(pod).template;
    let verdicts = framework::filter(scheduler.profile(), cluster, template, Some(pod));
    (0..cluster.node_count()).filter(|&node| verdicts[node].is_empty()).collect()
}

/// Every node's candidate by dry runs on copies of the cluster.
fn candidates(scheduler: &Scheduler, pod: PodIndex) -> Vec<(NodeIndex, Option<Candidate>)> {
    let (cluster, profile) = (scheduler.cluster(), scheduler.profile());
    let template = cluster.pod(pod).template;
    let priority = cluster.template_of(pod).pod.priority;
    let verdicts = framework::filter(profile, cluster, template, Some(pod));
    (0..cluster.node_count())
        .filter(|&node| worst(&verdicts[node]) == Verdict::Unschedulable)
        .map(|node| {
            let lower =
                default_preemption::lower_by_importance(cluster, profile.version, node, priority);
            let budgets = cluster.budgets().to_vec();
            let candidate =
                default_preemption::dry_run(cluster, &budgets, node, &lower, |removed| {
                    let mut without = cluster.clone();
                    removed.iter().for_each(|&other| without.unbind(other));
                    framework::filter(profile, &without, template, Some(pod))[node].is_empty()
                });
            (node, candidate)
        })
        .collect()
}

/// Plays the happenings, and compares every decision with the plugins as written.
fn play(
    profile: Profile,
    cluster: Cluster,
    templates: &[Pod],
    happenings: &[Happening],
) -> Result<(), TestCaseError> {
    let mut scheduler = Scheduler::new(profile, cluster, 3, Speed::default());
    let mut running: Vec<PodIndex> = Vec::new();
    let mut waiting: Vec<PodIndex> = Vec::new();
    for (number, &happening) in happenings.iter().enumerate() {
        let pod = match happening {
            Happening::Goes(which) if !running.is_empty() => {
                let pod = running.swap_remove(which % running.len());
                scheduler.evict(pod, 0);
                continue;
            }
            // A pod that awaits a node tries again now and then.
            Happening::Goes(_) => continue,
            Happening::Comes(which) if which % 5 == 0 && !waiting.is_empty() => {
                waiting.swap_remove(which % waiting.len())
            }
            Happening::Comes(which) => {
                let spec = &templates[which % templates.len()];
                let template = scheduler.cluster_mut().template(spec, which % 17 == 16);
                let start = (which % 3 > 0).then_some(i64::try_from(number).unwrap());
                scheduler.cluster_mut().create(&format!("pod{number}"), template, start)
            }
        };
        let template = scheduler.cluster().pod(pod).template;
        let feasible = feasible(&scheduler, pod);
        // An index knows nothing of the pod's own nomination: that is the shortcut's.
        if scheduler.cluster().pod(pod).nominated.is_none() {
            let totals =
                framework::totals(scheduler.profile(), scheduler.cluster(), template, &feasible);
            let expected: Vec<(NodeIndex, i64)> = feasible.iter().copied().zip(totals).collect();
            prop_assert_eq!(scheduler.totals(pod), expected);
        }
        let nominated = scheduler.cluster().pod(pod).nominated;
        let expected = candidates(&scheduler, pod);
        if feasible.is_empty() {
            prop_assert_eq!(scheduler.all_candidates(pod), expected.clone());
        }
        let totals =
            framework::totals(scheduler.profile(), scheduler.cluster(), template, &feasible);
        match scheduler.attempt(pod) {
            Outcome::Bound(node) => {
                let place = feasible.iter().position(|&other| other == node);
                prop_assert!(place.is_some(), "{node} is not feasible");
                let is_best = place.map(|place| totals[place]) == totals.iter().copied().max();
                prop_assert!(is_best || nominated == Some(node));
                running.push(pod);
            }
            Outcome::Nominated(candidate) => {
                prop_assert!(feasible.is_empty());
                let all: Vec<Candidate> = expected.into_iter().filter_map(|(_, c)| c).collect();
                let best = default_preemption::best(scheduler.cluster(), &all);
                prop_assert!(best.contains(&&candidate), "{candidate:?} is not among {best:?}");
                for victim in candidate.victims {
                    running.retain(|&other| other != victim);
                    scheduler.evict(victim, 0);
                }
                waiting.push(pod);
            }
            Outcome::Unschedulable => {
                prop_assert!(feasible.is_empty());
                prop_assert!(expected.iter().all(|(_, candidate)| candidate.is_none()));
            }
        }
        prop_assert_eq!(scheduler.check_counts(), None);
        prop_assert_eq!(scheduler.cluster().check_sums(), None);
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(1500))]

    #[test]
    fn the_index_decides_as_the_plugins_say(
        profile in profile(),
        nodes in vec(node(), 1..=8),
        templates in vec(pod(), 1..=6),
        happenings in happenings(24),
        budgets in budgets(),
    ) {
        play(profile, cluster(&nodes, budgets), &templates, &happenings)?;
    }

    #[test]
    fn sampling_takes_the_best_of_the_nodes_it_saw(
        node in node(),
        other in node(),
        templates in vec(pod(), 1..=3),
        happenings in happenings(6),
        percentage in select(vec![0_usize, 1, 80]),
    ) {
        let nodes: Vec<Node> =
            (0..240).map(|n| if n % 3 == 0 { node.clone() } else { other.clone() }).collect();
        let profile =
            Profile { percentage_of_nodes_to_score: percentage, ..Profile::v1_36() };
        let run = |index: bool| {
            let speed = Speed { index, ..Speed::default() };
            let mut scheduler = Scheduler::new(profile.clone(), cluster(&nodes, Vec::new()), 3, speed);
            let mut outcomes = Vec::new();
            let mut start = 0;
            for happening in &happenings {
                let Happening::Comes(which) = happening else { continue };
                let spec = Pod { preemption: PreemptionPolicy::Never, ..templates[which % templates.len()].clone() };
                let template = scheduler.cluster_mut().template(&spec, false);
                let pod = scheduler.cluster_mut().create("pod", template, None);
                let all = feasible(&scheduler, pod);
                let narrowed = spec.node_affinity.required.iter().flatten().any(|term| !term.fields.is_empty());
                let outcome = scheduler.attempt(pod);
                if !narrowed {
                    // §2.1, node by node.
                    let limit = scheduler::k8s::sampling::feasible_limit(240, percentage);
                    let (mut seen, mut visited) = (Vec::new(), 0);
                    while visited < 240 {
                        let at = (start + visited) % 240;
                        if all.contains(&at) {
                            if seen.len() == limit {
                                break;
                            }
                            seen.push(at);
                        }
                        visited += 1;
                    }
                    start = (start + visited) % 240;
                    seen.sort_unstable();
                    match &outcome {
                        Outcome::Bound(node) => {
                            scheduler.cluster_mut().unbind(pod);
                            let (cluster, profile) = (scheduler.cluster(), scheduler.profile());
                            let totals = framework::totals(profile, cluster, template, &seen);
                            let place = seen.iter().position(|other| other == node);
                            assert!(place.is_some(), "{node} was not looked at");
                            assert_eq!(place.map(|p| totals[p]), totals.iter().copied().max());
                            scheduler.cluster_mut().bind(pod, *node);
                        }
                        Outcome::Nominated(_) | Outcome::Unschedulable => assert!(seen.is_empty()),
                    }
                } else {
                    return outcomes;
                }
                outcomes.push(outcome);
            }
            outcomes
        };
        prop_assert_eq!(run(true), run(false));
    }
}
