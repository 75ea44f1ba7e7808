use std::path::PathBuf;

use proptest::prelude::*;
use scheduler::k8s::Plugin;
use scheduler::k8s::fit::Strategy as Scoring;
use scheduler::k8s::profile::SpreadDefaults;

use super::*;

const EXAMPLE: &str = include_str!("../../../../examples/kube-scheduler/bin-packing.yaml");

fn example_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/kube-scheduler/bin-packing.yaml")
}

fn configuration(rest: &str) -> String {
    format!("apiVersion: {API_VERSION}\nkind: {KIND}\n{rest}\n")
}

/// The only profile of a configuration with these fields.
fn only(rest: &str) -> Profile {
    let profiles = parse("f.yaml", configuration(rest).as_bytes());
    let [only] = <[NamedProfile; 1]>::try_from(profiles.unwrap()).unwrap();
    only.profile
}

fn with_plugins(plugins: &str) -> Profile {
    only(&format!("profiles: [{{plugins: {plugins}}}]"))
}

fn with_args(plugin: &str, args: &str) -> Profile {
    only(&format!("profiles: [{{pluginConfig: [{{name: {plugin}, args: {args}}}]}}]"))
}

/// That a configuration with these fields is refused, on a line that names file and field.
fn check_refused(rest: &str, parts: &[&str]) {
    check_wrong(&configuration(rest), parts);
}

fn check_wrong(text: &str, parts: &[&str]) {
    let message = parse("f.yaml", text.as_bytes()).unwrap_err().to_string();
    assert!(message.starts_with("f.yaml: ") && !message.contains('\n'), "{message}");
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

#[test]
fn a_file_that_says_nothing_is_the_default_profile() {
    assert_eq!(only(""), Profile::v1_36());
    assert_eq!(only("profiles: null"), Profile::v1_36());
    assert_eq!(only("profiles: [{}]"), Profile::v1_36());
    assert_eq!(with_plugins("{multiPoint: {}, score: {enabled: []}}"), Profile::v1_36());
    assert_eq!(with_args("NodeResourcesFit", "null"), Profile::v1_36());
    let json = format!(r#"{{"apiVersion":"{API_VERSION}","kind":"{KIND}"}}"#);
    assert_eq!(parse("f.json", json.as_bytes()).unwrap()[0].profile, Profile::v1_36());
}

#[test]
fn what_does_not_decide_where_pods_go_is_accepted() {
    let profile = only(
        "parallelism: 16\nleaderElection: {leaderElect: true, leaseDuration: 15s}\n\
         clientConnection: {kubeconfig: /etc/kubernetes/scheduler.conf, qps: 50}\n\
         enableProfiling: true\nenableContentionProfiling: true\ndelayCacheUntilActive: false\n\
         extenders: []\nprofiles: [{pluginConfig: [{name: VolumeBinding, args: \
         {apiVersion: kubescheduler.config.k8s.io/v1, kind: VolumeBindingArgs, bindTimeoutSeconds: 600}}]}]",
    );
    assert_eq!(profile, Profile::v1_36());
}

#[test]
fn the_example_is_read_field_by_field() {
    let [packing, gpu] = <[NamedProfile; 2]>::try_from(load(&example_path()).unwrap()).unwrap();
    let names = [&packing.scheduler_name, &gpu.scheduler_name];
    assert_eq!(names, ["default-scheduler", "gpu"]);
    let (packing, gpu) = (packing.profile, gpu.profile);
    assert_eq!([packing.percentage_of_nodes_to_score, gpu.percentage_of_nodes_to_score], [100; 2]);
    assert_eq!(packing.weight(Plugin::NodeResourcesBalancedAllocation), 0);
    assert_eq!(packing.weight(Plugin::NodeResourcesFit), 5);
    assert_eq!(packing.weight(Plugin::PodTopologySpread), 1);
    assert_eq!(packing.weight(Plugin::TaintToleration), 3);
    assert_eq!(packing.filters, Profile::v1_36().filters);
    let Scoring::RequestedToCapacityRatio(shape) = &packing.strategy else { panic!() };
    let points: Vec<_> = shape.0.iter().map(|point| (point.utilization, point.score)).collect();
    assert_eq!(points, [(0, 0), (90, 10), (100, 10)]);
    assert_eq!(packing.fit_resources[0].weight, 3);
    let SpreadDefaults::List(constraints) = &packing.spread_defaults else { panic!() };
    assert_eq!((constraints.len(), constraints[0].max_skew), (1, 2));
    assert_eq!(gpu.strategy, Scoring::MostAllocated);
    assert_eq!(gpu.fit_resources.len(), 3);
    assert_eq!(gpu.weights, Profile::v1_36().weights);
}

#[test]
fn a_policy_is_a_profile_of_a_file() {
    let path = example_path();
    let policy = |suffix: &str| policy_by_name(&format!("kube:{}{suffix}", path.display()));
    let profiles = load(&path).unwrap();
    for (suffix, profile) in [("", 0), ("#default-scheduler", 0), ("#gpu", 1)] {
        let policy = policy(suffix).unwrap();
        assert!(policy.is_kubernetes() && policy.name().ends_with(suffix));
        let expected =
            Policy::kubernetes(policy.name().to_owned(), profiles[profile].profile.clone());
        assert_eq!(policy, expected);
    }
    let message = policy("#other").unwrap_err().to_string();
    assert!(
        message.contains("\"other\"") && message.contains("default-scheduler, gpu"),
        "{message}"
    );
    let message = format!("{:#}", policy_by_name("kube:/no/such/file").unwrap_err());
    assert!(message.contains("cannot read /no/such/file"), "{message}");
    assert!(policy_by_name("kube-default").unwrap().is_kubernetes());
    assert!(policy_by_name("kub").unwrap_err().to_string().contains("unknown policy"));
}

#[test]
fn multi_point_changes_every_point_and_a_point_overrides_it() {
    let fit = Plugin::NodeResourcesFit;
    let taints = Plugin::TaintToleration;
    let profile = with_plugins("{multiPoint: {enabled: [{name: NodeResourcesFit, weight: 7}]}}");
    assert_eq!((profile.weight(fit), profile.has_filter(fit)), (7, true));
    assert_eq!(profile.weight(taints), 3);
    let profile = with_plugins("{multiPoint: {disabled: [{name: TaintToleration}]}}");
    assert_eq!((profile.weight(taints), profile.has_filter(taints)), (0, false));
    let profile = with_plugins(
        "{multiPoint: {disabled: [{name: TaintToleration}]}, filter: {enabled: [{name: TaintToleration}]}}",
    );
    assert_eq!((profile.weight(taints), profile.has_filter(taints)), (0, true));
    let profile = with_plugins(
        "{multiPoint: {enabled: [{name: NodeResourcesFit, weight: 7}]}, \
         score: {enabled: [{name: NodeResourcesFit, weight: 4}]}}",
    );
    assert_eq!(profile.weight(fit), 4);
    // No weight is 1, wherever it is.
    assert_eq!(with_plugins("{score: {enabled: [{name: TaintToleration}]}}").weight(taints), 1);
    let profile = with_plugins("{multiPoint: {enabled: [{name: TaintToleration, weight: 0}]}}");
    assert_eq!(profile.weight(taints), 1);
    let profile = with_plugins(
        "{multiPoint: {disabled: [{name: '*'}], enabled: [{name: PrioritySort}, {name: DefaultBinder}, \
         {name: NodeResourcesFit}]}}",
    );
    assert_eq!(profile.filters, [fit].into());
    assert_eq!(profile.weights, [(fit, 1)].into());
    assert_eq!(profile.preemption, None);
    let profile = with_plugins(
        "{score: {disabled: [{name: '*'}], enabled: [{name: ImageLocality, weight: 2}]}}",
    );
    assert_eq!(profile.weights, [(Plugin::ImageLocality, 2)].into());
    assert_eq!(profile.filters, Profile::v1_36().filters);
    let profile = with_plugins("{postFilter: {disabled: [{name: DefaultPreemption}]}}");
    assert_eq!(profile.preemption, None);
    let profile = with_plugins(
        "{filter: {disabled: [{name: NodePorts}]}, preFilter: {disabled: [{name: NodePorts}]}}",
    );
    assert!(!profile.has_filter(Plugin::NodePorts));
}

#[test]
fn numbers_and_arguments_reach_the_profile() {
    let profile = only(
        "percentageOfNodesToScore: 30\npodInitialBackoffSeconds: 2\npodMaxBackoffSeconds: 60\n\
         profiles: [{schedulerName: a}]",
    );
    assert_eq!(profile.percentage_of_nodes_to_score, 30);
    assert_eq!((profile.backoff.initial_ms, profile.backoff.max_ms), (2000, 60_000));
    let profile = only("percentageOfNodesToScore: 30\nprofiles: [{percentageOfNodesToScore: 0}]");
    assert_eq!(profile.percentage_of_nodes_to_score, 0);
    let profile = with_args(
        "InterPodAffinity",
        "{hardPodAffinityWeight: 0, ignorePreferredTermsOfExistingPods: true}",
    );
    assert_eq!(profile.hard_pod_affinity_weight, 0);
    assert!(profile.ignore_preferred_terms_of_existing_pods);
    let profile = with_args("DefaultPreemption", "{minCandidateNodesPercentage: 0}");
    let preemption = profile.preemption.unwrap();
    assert_eq!(preemption.min_candidate_nodes_percentage, 0);
    assert_eq!(preemption.min_candidate_nodes_absolute, 100);
    let profile = with_args(
        "NodeResourcesFit",
        "{ignoredResources: [example.com/foo], ignoredResourceGroups: [example.org]}",
    );
    assert_eq!(profile.ignored_resources, ["example.com/foo".to_owned()].into());
    assert_eq!(profile.ignored_resource_groups, ["example.org".to_owned()].into());
    let profile = with_args(
        "NodeResourcesBalancedAllocation",
        "{resources: [{name: cpu}, {name: nvidia.com/gpu, weight: 1}]}",
    );
    assert_eq!(profile.balanced_resources.len(), 2);
    let profile = with_args(
        "NodeAffinity",
        "{addedAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: \
         [{matchExpressions: [{key: pool, operator: In, values: [a]}]}]}, \
         preferredDuringSchedulingIgnoredDuringExecution: [{weight: 5, preference: \
         {matchFields: [{key: metadata.name, operator: NotIn, values: [node-1]}]}}]}}",
    );
    assert_eq!(profile.added_affinity.required.unwrap()[0].expressions[0].key, "pool");
    assert_eq!(profile.added_affinity.preferred[0].weight, 5);
}

#[test]
fn unknown_fields_and_plugins_are_named() {
    check_refused("percentageOfNodesToScores: 5", &["percentageOfNodesToScores", "line 3"]);
    check_refused("leaderElection: {elect: true}", &["elect"]);
    check_refused("profiles: [{name: a}]", &["unknown field `name`"]);
    check_refused("profiles: [{plugins: {scores: {}}}]", &["scores"]);
    check_refused("profiles: [{plugins: {score: {enable: []}}}]", &["enable"]);
    let score = |list: &str| format!("profiles: [{{plugins: {{score: {list}}}}}]");
    check_refused(
        &score("{enabled: [{name: NodeResourcesFit}, {name: Nope}]}"),
        &["profiles[0].plugins.score.enabled[1].name: unknown plugin \"Nope\"", "ImageLocality"],
    );
    check_refused(&score("{disabled: [{name: Nope}]}"), &["score.disabled[0].name", "\"Nope\""]);
    check_refused(
        "profiles: [{pluginConfig: [{name: NodeName, args: {}}]}]",
        &["profiles[0].pluginConfig[0].name", "\"NodeName\" is no plugin that takes arguments"],
    );
    let args = |plugin: &str, args: &str| {
        format!("profiles: [{{pluginConfig: [{{name: {plugin}, args: {args}}}]}}]")
    };
    for plugin in [
        "NodeResourcesFit",
        "NodeResourcesBalancedAllocation",
        "NodeAffinity",
        "PodTopologySpread",
        "InterPodAffinity",
        "DefaultPreemption",
        "VolumeBinding",
        "DynamicResources",
    ] {
        let place = "profiles[0].pluginConfig[0].args: unknown field `weigth`";
        check_refused(&args(plugin, "{weigth: 1}"), &[place]);
        check_refused(&args(plugin, "{kind: OtherArgs}"), &["args.kind", plugin]);
    }
    check_refused(
        &args("NodeResourcesFit", "{scoringStrategy: {type: LeastAllocated, points: []}}"),
        &["unknown field `points`"],
    );
}

#[test]
fn what_kube_scheduler_refuses_is_refused() {
    check_wrong("", &["f.yaml"]);
    check_wrong("[]", &["f.yaml"]);
    check_wrong("kind: KubeSchedulerConfiguration", &["apiVersion"]);
    check_wrong("apiVersion: kubescheduler.config.k8s.io/v1beta3\nkind: x", &["v1beta3"]);
    check_wrong(&format!("apiVersion: {API_VERSION}\nkind: Pod"), &["kind: \"Pod\""]);
    check_refused("kind: KubeSchedulerConfiguration", &["kind"]);
    check_refused("--- {}", &["f.yaml"]);
    check_refused(
        "percentageOfNodesToScore: 101",
        &["percentageOfNodesToScore: 101 is not in 0..=100"],
    );
    check_refused(
        "profiles: [{percentageOfNodesToScore: -1}]",
        &["profiles[0].percentageOfNodesToScore"],
    );
    check_refused("parallelism: 0", &["parallelism"]);
    check_refused("podInitialBackoffSeconds: 0", &["podInitialBackoffSeconds"]);
    check_refused("podMaxBackoffSeconds: 0", &["podMaxBackoffSeconds: 0 is not in 1..="]);
    check_refused("podInitialBackoffSeconds: 20", &["podMaxBackoffSeconds: 10 is not in 20..="]);
    check_refused("extenders: [{urlPrefix: 'http://127.0.0.1'}]", &["extenders are not modelled"]);
    check_refused("profiles: [{schedulerName: ''}]", &["schedulerName"]);
    check_refused("profiles: [{}, {}]", &["profiles[1]: default-scheduler was there before"]);
    let plugins = |plugins: &str| format!("profiles: [{{plugins: {plugins}}}]");
    for (list, part) in [
        ("{score: {enabled: [{name: NodeName}]}}", "NodeName does not extend score"),
        ("{filter: {enabled: [{name: ImageLocality}]}}", "ImageLocality does not extend filter"),
        ("{score: {enabled: [{name: NodeResourcesFit, weight: -1}]}}", "enabled[0].weight: -1"),
        ("{score: {enabled: [{name: ImageLocality}, {name: ImageLocality}]}}", "was there before"),
        ("{queueSort: {disabled: [{name: '*'}]}}", "no plugin sorts the queue"),
        ("{multiPoint: {disabled: [{name: '*'}]}}", "no plugin sorts the queue"),
        ("{bind: {disabled: [{name: DefaultBinder}]}}", "no plugin binds"),
        ("{preFilter: {disabled: [{name: InterPodAffinity}]}}", "InterPodAffinity cannot filter"),
        ("{preScore: {disabled: [{name: '*'}]}}", "cannot score"),
    ] {
        check_refused(&plugins(list), &["profiles[0].plugins.", part]);
    }
    let fit = |strategy: &str| format!("{{scoringStrategy: {strategy}}}");
    let ratio = |points: &str| {
        fit(&format!(
            "{{type: RequestedToCapacityRatio, requestedToCapacityRatio: {{shape: {points}}}}}"
        ))
    };
    let spread = |of: &str| format!("{{defaultingType: List, defaultConstraints: [{of}]}}");
    let added = |of: &str| format!("{{addedAffinity: {of}}}");
    for (plugin, args, part) in [
        ("NodeResourcesFit", fit("{type: Best}"), "Best"),
        ("NodeResourcesFit", fit("{}"), "type"),
        (
            "NodeResourcesFit",
            fit("{type: LeastAllocated, resources: [{name: cpu, weight: 101}]}"),
            "scoringStrategy.resources[0].weight: 101",
        ),
        (
            "NodeResourcesFit",
            fit("{type: LeastAllocated, resources: [{name: cpu}, {name: cpu}]}"),
            "resources[1]: cpu was there before",
        ),
        ("NodeResourcesFit", fit("{type: RequestedToCapacityRatio}"), "shape: it has no point"),
        ("NodeResourcesFit", ratio("[{utilization: 0, score: 11}]"), "shape[0].score: 11"),
        ("NodeResourcesFit", ratio("[{utilization: 101, score: 1}]"), "shape[0].utilization: 101"),
        (
            "NodeResourcesFit",
            ratio("[{utilization: 5, score: 1}, {utilization: 5, score: 2}]"),
            "shape[1].utilization: 5 is not above",
        ),
        ("NodeResourcesFit", "{ignoredResources: ['a b']}".to_owned(), "ignoredResources[0]"),
        ("NodeResourcesFit", "{ignoredResourceGroups: [a/b]}".to_owned(), "ignoredResourceGroups[0]"),
        (
            "NodeResourcesBalancedAllocation",
            "{resources: [{name: cpu, weight: 2}]}".to_owned(),
            "args.resources[0].weight: 2 is not in 1..=1",
        ),
        (
            "PodTopologySpread",
            "{defaultConstraints: [{maxSkew: 1, topologyKey: z, whenUnsatisfiable: ScheduleAnyway}]}"
                .to_owned(),
            "defaultingType: List",
        ),
        (
            "PodTopologySpread",
            spread("{maxSkew: 0, topologyKey: z, whenUnsatisfiable: ScheduleAnyway}"),
            "defaultConstraints[0].maxSkew: 0",
        ),
        (
            "PodTopologySpread",
            spread("{maxSkew: 1, topologyKey: '', whenUnsatisfiable: ScheduleAnyway}"),
            "topologyKey",
        ),
        ("PodTopologySpread", spread("{maxSkew: 1, topologyKey: z, whenUnsatisfiable: Never}"), "Never"),
        (
            "PodTopologySpread",
            spread("{maxSkew: 1, topologyKey: z, whenUnsatisfiable: DoNotSchedule, labelSelector: {}}"),
            "labelSelector",
        ),
        (
            "PodTopologySpread",
            spread("{maxSkew: 1, topologyKey: z, whenUnsatisfiable: ScheduleAnyway, minDomains: 2}"),
            "minDomains",
        ),
        ("InterPodAffinity", "{hardPodAffinityWeight: 101}".to_owned(), "hardPodAffinityWeight: 101"),
        (
            "DefaultPreemption",
            "{minCandidateNodesPercentage: 0, minCandidateNodesAbsolute: 0}".to_owned(),
            "cannot both be 0",
        ),
        ("DefaultPreemption", "{minCandidateNodesAbsolute: -1}".to_owned(), "is not in 0..="),
        (
            "NodeAffinity",
            added("{requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: []}}"),
            "nodeSelectorTerms: it has no term",
        ),
        (
            "NodeAffinity",
            added(
                "{requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: \
                 [{matchExpressions: [{key: a, operator: Eq, values: [b]}]}]}}",
            ),
            "nodeSelectorTerms[0].matchExpressions[0].operator: \"Eq\"",
        ),
        (
            "NodeAffinity",
            added(
                "{preferredDuringSchedulingIgnoredDuringExecution: [{weight: 101, preference: {}}]}",
            ),
            "addedAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: 101",
        ),
        (
            "NodeAffinity",
            added(
                "{preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, preference: \
                 {matchFields: [{key: metadata.uid, operator: In, values: [b]}]}}]}",
            ),
            "preference.matchFields[0].key",
        ),
    ] {
        check_refused(
            &format!("profiles: [{{pluginConfig: [{{name: {plugin}, args: {args}}}]}}]"),
            &["profiles[0].pluginConfig[0].", part],
        );
    }
    check_refused(
        "profiles: [{pluginConfig: [{name: NodeAffinity}, {name: NodeAffinity}]}]",
        &["pluginConfig[1]: NodeAffinity was there before"],
    );
}

#[test]
fn a_file_that_is_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.yaml");
    fs::write(&path, b"#".repeat((1 << 20) + 1)).unwrap();
    let message = load(&path).unwrap_err().to_string();
    assert!(message.contains("large.yaml: 1048577 bytes"), "{message}");
    assert!(parse("f", b"\xff").unwrap_err().to_string().contains("UTF-8"));
}

/// What `fuzz/fuzz_targets/kube_config.rs` demands of any bytes.
fn check_any(bytes: &[u8]) -> Result<(), TestCaseError> {
    match parse("f.yaml", bytes) {
        Ok(profiles) => prop_assert!(!profiles.is_empty()),
        Err(error) => {
            let message = error.to_string();
            prop_assert!(message.starts_with("f.yaml: "), "{}", message);
            prop_assert!(!message.contains(char::is_control), "{:?}", message);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        check_any(&bytes)?;
    }

    #[test]
    fn other_values_and_missing_lines_never_panic(
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), prop_oneof![
                Just(None),
                "[ -~]{0,12}".prop_map(Some),
                "-?[0-9]{1,20}".prop_map(Some),
                Just(Some("null".to_owned())),
                Just(Some("[{}]".to_owned())),
            ]),
            1..4,
        ),
    ) {
        let mut lines: Vec<String> = EXAMPLE.lines().map(str::to_owned).collect();
        for (at, value) in edits {
            let at = at.index(lines.len());
            match (value, lines[at].clone().split_once(": ")) {
                (None, _) => drop(lines.remove(at)),
                (Some(value), Some((key, _))) => lines[at] = format!("{key}: {value}"),
                (Some(_), None) => {}
            }
        }
        check_any(lines.join("\n").as_bytes())?;
    }
}
