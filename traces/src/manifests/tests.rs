//! Tests of the whole reader: small dumps, and what is wrong with others.

use cell::kube::{Amounts, HostPort, InclusionPolicy, Objects, Operator, PreemptionPolicy};
use cell::{Cell, Constraint, Host, MachineId, Predicate, Strength, TaskState};

use crate::testing::{LENIENT, STRICT, folder_with, message};
use crate::{FindingKind, ReadOptions, Trace, load};

/// Two nodes, each a document.
const NODES: &str = "\
apiVersion: v1
kind: Node
metadata: {name: n0, labels: {kubernetes.io/hostname: n0, topology.kubernetes.io/zone: a, disk: ssd}}
status: {allocatable: {cpu: 4, memory: 8Gi, pods: 20, ephemeral-storage: 10G}}
---
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {kubernetes.io/hostname: n1, topology.kubernetes.io/zone: b}}
spec: {taints: [{key: own, value: x, effect: NoSchedule}]}
status: {capacity: {cpu: 3999500u, memory: '4.5', nvidia.com/gpu: 2}}
";

/// A pod with this in its metadata and its spec.
fn pod(name: &str, metadata: &str, spec: &str) -> String {
    let metadata = if metadata.is_empty() { String::new() } else { format!(", {metadata}") };
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}{metadata}}}\nspec:\n  \
         containers: [{{name: c, resources: {{requests: {{cpu: 1}}}}}}]\n{spec}"
    )
}

/// A controller of the group `apps`.
fn app(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n  \
         selector: {{matchLabels: {{app: {name}}}}}\n  \
         template:\n    metadata: {{labels: {{app: {name}}}}}\n    \
         spec: {{containers: [{{name: c, resources: {{requests: {{cpu: 1}}}}}}]}}\n{spec}"
    )
}

/// What a pod's metadata says of its controller.
fn owned(kind: &str, name: &str) -> String {
    format!(
        "ownerReferences: [{{apiVersion: apps/v1, kind: {kind}, name: {name}, uid: '', controller: true}}]"
    )
}

fn load_files(files: &[(&str, &[u8])], options: ReadOptions) -> Result<Trace, String> {
    let folder = folder_with(files);
    load(&format!("manifests:{}", folder.path().display()), options).map_err(|error| {
        message(&error, folder.path()).replace(folder.path().to_str().unwrap(), "DIR")
    })
}

/// The two nodes and these documents, one file.
fn read(documents: &[String]) -> Trace {
    let text = format!("{NODES}---\n{}", documents.join("\n---\n"));
    load_files(&[("a.yaml", text.as_bytes())], STRICT).unwrap()
}

fn kube(cell: &Cell) -> &Objects {
    cell.kube.as_ref().unwrap()
}

/// Each job's name with its tasks: the machine's number, `-` for pending, `?` for out of sight.
fn jobs(cell: &Cell) -> Vec<String> {
    assert_eq!(cell.jobs.len(), kube(cell).pods.len());
    let place = |task: &cell::Task| match task.state {
        TaskState::Pending => "-".to_owned(),
        TaskState::Running { on: Some(Host::Machine(MachineId(machine))) } => machine.to_string(),
        TaskState::Running { .. } => "?".to_owned(),
    };
    let all = |job: &cell::Job| job.tasks.iter().map(place).collect::<Vec<_>>().concat();
    cell.jobs.iter().map(|job| format!("{} {}", job.name, all(job))).collect()
}

fn hard(attribute: &str, predicate: Predicate) -> Constraint {
    Constraint { attribute: attribute.to_owned(), predicate, strength: Strength::Hard }
}

#[test]
fn nodes_are_machines() {
    let trace = read(&[pod("p", "", "")]);
    let (cell, kube) = (&trace.cell, kube(&trace.cell));
    let [n0, n1] = cell.machines.as_slice() else { panic!("{:?}", cell.machines) };
    assert_eq!((n0.capacity.cpu.0, n0.capacity.ram.0), (4000, 8 << 30));
    assert_eq!(n0.capacity.disk.map(|disk| disk.0), Some(10_000_000_000));
    assert_eq!((n0.power.as_deref(), n0.rack.as_deref()), (Some("a"), None));
    assert_eq!(n0.attributes["disk"], "ssd");
    assert_eq!(n0.attributes["metadata.name"], "n0");
    // Capacity where there is no allocatable; 3999.5 milli-cores and 4.5 bytes are rounded up.
    assert_eq!((n1.capacity.cpu.0, n1.capacity.ram.0, n1.capacity.disk), (4000, 5, None));
    assert_eq!(n1.capacity.gpu_count, 2);
    assert_eq!((kube.nodes[0].pods, kube.nodes[1].pods), (20, 110));
    assert_eq!(kube.nodes[1].allocatable.scalar["nvidia.com/gpu"], 2);
    assert_eq!(kube.nodes[1].taints[0].key, "own");
    assert_eq!(trace.doctor.count(FindingKind::UnseenTaint), 1);
    assert_eq!(trace.doctor.row_count(), 3);
    assert_eq!(kube.namespaces["default"]["kubernetes.io/metadata.name"], "default");
}

#[test]
fn what_is_owned_is_counted_once() {
    let check = |documents: &[String], expected: &[&str]| {
        assert_eq!(jobs(&read(documents).cell), expected, "{documents:#?}");
    };
    let deployment = || app("Deployment", "web", "  replicas: 2\n");
    let set = || {
        app("ReplicaSet", "web-5f", "  replicas: 2\n")
            .replace("{name: web-5f}", &format!("{{name: web-5f, {}}}", owned("Deployment", "web")))
    };
    let of_set = |name: &str, node: &str| {
        let metadata =
            format!("labels: {{pod-template-hash: 5f}}, {}", owned("ReplicaSet", "web-5f"));
        pod(name, &metadata, &format!("  nodeName: {node}\n"))
    };
    check(&[deployment()], &["Deployment/default/web --"]);
    check(&[deployment(), set()], &["Deployment/default/web --"]);
    check(&[set()], &["ReplicaSet/default/web-5f --"]);
    check(&[set(), of_set("p", "n1"), deployment()], &["Deployment/default/web 1-"]);
    // Without the ReplicaSet its name and the hash tell whose the pod is.
    check(&[deployment(), of_set("p", "n0")], &["Deployment/default/web 0-"]);
    check(&[of_set("p", "n0")], &["Pod/default/p 0"]);
    // A rolling update has more pods than replicas; they are in the order of their names.
    check(
        &[deployment(), set(), of_set("c", "n0"), of_set("a", "n1"), of_set("b", "n1")],
        &["Deployment/default/web 110"],
    );
    // Of the same name, but in another namespace, or made anew.
    let elsewhere = of_set("p", "n0").replace("{name: p", "{name: p, namespace: other");
    check(&[deployment(), set(), elsewhere], &["Deployment/default/web --", "Pod/other/p 0"]);
    let other = of_set("p", "n0").replace("uid: ''", "uid: u2");
    let known = set().replace("{name: web-5f,", "{name: web-5f, uid: u1,");
    check(&[known, other], &["ReplicaSet/default/web-5f --", "Pod/default/p 0"]);
    // An owner that is no controller, or of a kind that is not read, does not count for it.
    let owned_by_map = pod("p", &owned("Widget", "w"), "");
    check(&[owned_by_map], &["Pod/default/p -"]);
    let loose = of_set("p", "n0").replace("controller: true", "controller: false");
    check(&[set(), loose], &["ReplicaSet/default/web-5f --", "Pod/default/p 0"]);
    // A circle of owners ends.
    let circle = |name: &str, of: &str| {
        app("ReplicaSet", name, "").replace(
            &format!("{{name: {name}}}"),
            &format!("{{name: {name}, {}}}", owned("ReplicaSet", of)),
        )
    };
    check(
        &[circle("a", "b"), circle("b", "a")],
        &["ReplicaSet/default/a -", "ReplicaSet/default/b -"],
    );
}

#[test]
fn finished_gated_and_terminating_pods() {
    let trace = read(&[
        pod("done", "", "  nodeName: n0\nstatus: {phase: Succeeded}"),
        pod("failed", "", "status: {phase: Failed}"),
        pod("gated", "", "  schedulingGates: [{name: g}]"),
        pod("going", "deletionTimestamp: '2026-01-01T00:00:00Z'", "  nodeName: n1"),
        pod("gone", "deletionTimestamp: '2026-01-01T00:00:00Z'", ""),
        pod("lost", "", "  nodeName: n9"),
        app("StatefulSet", "none", "  replicas: 0"),
        app("Deployment", "gates", "  replicas: 2")
            .replace("spec: {", "spec: {schedulingGates: [{name: g}], "),
    ]);
    assert_eq!(jobs(&trace.cell), ["Pod/default/going 1", "Pod/default/lost ?"]);
    let counts = [FindingKind::GatedPod, FindingKind::TerminatingPod, FindingKind::OrphanMachine]
        .map(|kind| trace.doctor.count(kind));
    assert_eq!(counts, [2, 2, 1]);
}

#[test]
fn each_controller_wants_its_number_of_pods() {
    let check = |documents: &[String], expected: &[&str]| {
        assert_eq!(jobs(&read(documents).cell), expected, "{documents:#?}");
    };
    let of = |kind: &str, owner: &str, name: &str, node: &str| {
        pod(name, &owned(kind, owner), &format!("  nodeName: {node}\n"))
    };
    let job = |rest: &str| {
        vec![
            format!(
                "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: j}}\nspec:\n  \
                 template: {{spec: {{containers: [{{name: c}}]}}}}\n  {rest}"
            ),
            pod("alone", "", ""),
        ]
    };
    check(&[app("Deployment", "d", "")], &["Deployment/default/d -"]);
    let set = app("StatefulSet", "s", "  replicas: 3\n");
    check(
        &[set.clone(), of("StatefulSet", "s", "s-2", "n1"), of("StatefulSet", "s", "s-0", "n0")],
        &["StatefulSet/default/s 0-1"],
    );
    let from_five = app("StatefulSet", "s", "  replicas: 2\n  ordinals: {start: 5}\n");
    let trace = read(&[
        from_five,
        of("StatefulSet", "s", "s-6", "n0"),
        of("StatefulSet", "s", "odd", "n0"),
    ]);
    let indices: Vec<u32> = trace.cell.jobs[0].tasks.iter().map(|task| task.index).collect();
    assert_eq!(indices, [5, 6, 7]);
    assert_eq!(jobs(&trace.cell), ["StatefulSet/default/s -00"]);
    check(&job("parallelism: 3"), &["Job/default/j ---", "Pod/default/alone -"]);
    check(&job("parallelism: 3\n  completions: 2"), &["Job/default/j --", "Pod/default/alone -"]);
    check(
        &job("completions: 9\n  parallelism: 3\nstatus: {succeeded: 8}"),
        &["Job/default/j -", "Pod/default/alone -"],
    );
    check(&job("parallelism: 3\nstatus: {succeeded: 1}"), &["Pod/default/alone -"]);
    check(&job("parallelism: 3\n  suspend: true"), &["Pod/default/alone -"]);
    check(
        &job("parallelism: 3\nstatus: {conditions: [{type: Complete, status: 'True'}]}"),
        &["Pod/default/alone -"],
    );
    check(
        &["apiVersion: v1\nkind: ReplicationController\nmetadata: {name: r}\nspec: {replicas: 2, \
           template: {spec: {containers: [{name: c}]}}}"
            .to_owned()],
        &["ReplicationController/default/r --"],
    );
}

#[test]
fn a_daemon_set_has_a_job_for_each_node_that_it_may_run_on() {
    let check = |spec: &str, pods: &[String], expected: &[&str]| {
        let set = app("DaemonSet", "d", "")
            .replace("spec: {containers", &format!("spec: {{{spec}containers"));
        let documents = [&[set], pods].concat();
        assert_eq!(jobs(&read(&documents).cell), expected, "{spec}");
    };
    let on = |name: &str, node: &str| {
        pod(name, &owned("DaemonSet", "d"), &format!("  nodeName: {node}\n"))
    };
    let (n0, n1) = ("DaemonSet/default/d@n0", "DaemonSet/default/d@n1");
    // n1's taint is not tolerated; but what runs there runs there.
    check("", &[], &[&format!("{n0} -")]);
    check("", &[on("x", "n1")], &[&format!("{n0} -"), &format!("{n1} 1")]);
    check("", &[on("x", "n9")], &[&format!("{n0} -"), "DaemonSet/default/d@n9 ?"]);
    let tolerant = "tolerations: [{key: own, value: x}], ";
    check(tolerant, &[on("x", "n1")], &[&format!("{n0} -"), &format!("{n1} 1")]);
    check("nodeSelector: {disk: ssd}, ", &[], &[&format!("{n0} -")]);
    let pinned = "  affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: \
        {nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [n0]}]}]}}}\n";
    check("", &[pod("x", &owned("DaemonSet", "d"), pinned)], &[&format!("{n0} -")]);

    let cordoned = NODES.replace("spec: {taints: [{key: own, value: x, effect: NoSchedule}]}",
        "spec: {unschedulable: true, taints: [{key: node.kubernetes.io/unschedulable, effect: NoSchedule}]}");
    let text = format!("{cordoned}---\n{}", app("DaemonSet", "d", ""));
    let trace = load_files(&[("a.yaml", text.as_bytes())], STRICT).unwrap();
    assert_eq!(jobs(&trace.cell), [format!("{n0} -"), format!("{n1} -")]);
    let kube = kube(&trace.cell);
    let required = kube.pods[1].node_affinity.required.as_ref().unwrap();
    assert_eq!(required[0].names(), Some(["n1"].into()));
    assert_eq!(kube.pods[1].tolerations.len(), 6);
    assert!(trace.cell.jobs[1].tied_to_machines);
    let name = Predicate::Equal("n1".to_owned());
    assert_eq!(trace.cell.jobs[1].constraints, [hard("metadata.name", name)]);
}

#[test]
fn a_mirror_pod_is_tied_to_its_node() {
    let annotations = "annotations: {kubernetes.io/config.mirror: abc}, \
        ownerReferences: [{apiVersion: v1, kind: Node, name: n1, uid: u, controller: true}]";
    let trace = read(&[pod("api-n1", annotations, "  nodeName: n1")]);
    assert_eq!(jobs(&trace.cell), ["Pod/default/api-n1 1"]);
    assert!(trace.cell.jobs[0].tied_to_machines);
    let pod = &kube(&trace.cell).pods[0];
    assert_eq!(pod.node_name.as_deref(), Some("n1"));
    assert_eq!(pod.tolerations[0].operator, cell::kube::TolerationOperator::Exists);
}

#[test]
fn requests_are_defaulted_from_limits_and_aggregated() {
    let trace = read(&["apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  hostNetwork: true
  overhead: {cpu: 10m, memory: 1Mi}
  initContainers:
  - {name: i, image: i, ports: [{containerPort: 1}], resources: {requests: {cpu: 700m}}}
  - {name: s, restartPolicy: Always, ports: [{containerPort: 2, protocol: UDP}], resources: {limits: {cpu: 0.2}}}
  containers:
  - {name: a, image: x, ports: [{containerPort: 3}], resources: {limits: {cpu: 300m, memory: 1Gi, nvidia.com/gpu: 1}, requests: {memory: 512Mi}}}
  - {name: b, ports: [{containerPort: 4, hostPort: 4, hostIP: 10.0.0.1}], resources: {requests: {ephemeral-storage: 1k, hugepages-2Mi: 4Mi}}}
  volumes:
  - {name: v, persistentVolumeClaim: {claimName: v}}
  - {name: w, emptyDir: {}}
  - {name: x, image: {reference: img}}
"
    .to_owned()]);
    let pod = &kube(&trace.cell).pods[0];
    let a = &pod.containers[0].requests;
    assert_eq!((a.cpu, a.memory), (Some(300), Some(512 << 20)));
    let port = |port, protocol: &str, ip: &str| HostPort {
        ip: ip.into(),
        protocol: protocol.into(),
        port,
    };
    assert_eq!(pod.containers[0].host_ports, [port(3, "TCP", "0.0.0.0")]);
    assert_eq!(pod.containers[1].host_ports, [port(4, "TCP", "10.0.0.1")]);
    assert_eq!(pod.init_containers[0].container.host_ports, []);
    assert_eq!(pod.init_containers[1].container.host_ports, [port(2, "UDP", "0.0.0.0")]);
    assert_eq!((pod.volume_count, pod.volume_images.as_slice()), (1, &["img".to_owned()][..]));
    let limit = trace.cell.jobs[0].tasks[0].limit;
    assert_eq!(limit.cpu.0, 710); // max(300 + 200, 700) + 10
    assert_eq!(limit.ram.0, 513 << 20);
    assert_eq!((limit.disk.0, limit.gpu.count), (1000, 1));
    assert!(!limit.unstated.cpu && !limit.unstated.ram);
    assert!(trace.cell.jobs[0].different_machines);
    let count = |kind| trace.doctor.count(kind);
    assert_eq!(count(FindingKind::UnmodelledVolume), 1);
    assert_eq!(count(FindingKind::UnseenResource), 1); // huge pages
    assert_eq!(count(FindingKind::UnseenRule), 1); // host ports

    let nothing = read(&[pod_without_requests()]);
    let limit = nothing.cell.jobs[0].tasks[0].limit;
    assert!(limit.unstated.cpu && limit.unstated.ram);
    assert_eq!(kube(&nothing.cell).pods[0].containers[0].requests, Amounts::default());
}

fn pod_without_requests() -> String {
    pod("p", "", "").replace(", resources: {requests: {cpu: 1}}", "")
}

#[test]
fn requests_of_the_pod_as_a_whole_are_defaulted() {
    let level = |resources: &str| {
        let spec = format!("  resources: {{{resources}}}\n");
        let trace = read(&[pod("p", "", &spec)]);
        let pod = kube(&trace.cell).pods[0].clone();
        (pod.pod_level.cpu, pod.pod_level.memory, trace.cell.jobs[0].tasks[0].limit.cpu.0)
    };
    assert_eq!(level("requests: {cpu: 2, memory: 1k}"), (Some(2000), Some(1000), 2000));
    // A container states CPU and none states memory: the one is the containers' sum, the other the limit.
    assert_eq!(level("limits: {cpu: 3, memory: 2k}"), (None, Some(2000), 1000));
}

#[test]
fn priorities_come_from_the_pod_its_class_or_the_default_class() {
    let class = |name: &str, value: i32, rest: &str| {
        format!(
            "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {{name: {name}}}\nvalue: {value}\n{rest}"
        )
    };
    let trace = read(&[
        pod("none", "", ""),
        pod("own", "", "  priority: 7\n  priorityClassName: gone"),
        pod("high", "", "  priorityClassName: high"),
        pod("polite", "", "  priorityClassName: polite"),
        pod("system", "", "  priorityClassName: system-node-critical"),
        class("high", 500, ""),
        class("polite", -5, "preemptionPolicy: Never"),
        class("usual", 3, "globalDefault: true"),
    ]);
    let pods = &kube(&trace.cell).pods;
    let priorities: Vec<i32> = pods.iter().map(|pod| pod.priority).collect();
    assert_eq!(priorities, [3, 7, 500, -5, 2_000_001_000]);
    assert_eq!(pods[3].preemption, PreemptionPolicy::Never);
    assert_eq!(pods[2].preemption, PreemptionPolicy::LowerPriority);
    let bands: Vec<u16> = trace.cell.jobs.iter().map(|job| job.priority.get()).collect();
    assert_eq!(bands, [120, 121, 122, 0, 360]);
}

#[test]
fn affinities_and_spread_constraints_are_read_with_their_defaults() {
    let spec = "  nodeSelector: {disk: ssd}
  affinity:
    nodeAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        nodeSelectorTerms:
        - matchExpressions: [{key: size, operator: Gt, values: ['3']}, {key: old, operator: DoesNotExist}]
      preferredDuringSchedulingIgnoredDuringExecution:
      - {weight: 5, preference: {matchExpressions: [{key: k, operator: Exists}]}}
    podAntiAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector: {matchExpressions: [{key: app, operator: In, values: [p]}]}
        matchLabelKeys: [app, absent]
      - topologyKey: topology.kubernetes.io/zone
        labelSelector: {matchLabels: {app: p}}
    podAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm: {topologyKey: z, namespaces: [x], namespaceSelector: {}, matchLabelKeys: [app]}
      - {weight: 1, podAffinityTerm: {topologyKey: z, labelSelector: {}, mismatchLabelKeys: [tier]}}
  topologySpreadConstraints:
  - {maxSkew: 2, topologyKey: z, whenUnsatisfiable: DoNotSchedule, matchLabelKeys: [app]}
  - {maxSkew: 1, topologyKey: z, whenUnsatisfiable: ScheduleAnyway, labelSelector: {}, nodeAffinityPolicy: Ignore, nodeTaintsPolicy: Honor}
";
    let trace = read(&[pod("p", "labels: {app: p, tier: t}", spec)]);
    let pod = &kube(&trace.cell).pods[0];
    let job = &trace.cell.jobs[0];
    assert_eq!(
        job.constraints,
        [
            hard("disk", Predicate::Equal("ssd".to_owned())),
            hard("old", Predicate::Equal(String::new())),
            hard("size", Predicate::Greater(3)),
        ]
    );
    assert!(job.different_machines);
    assert_eq!(job.spread.len(), 1);
    let said = |term: &cell::kube::AffinityTerm| {
        let requirements = term.selector.iter().flat_map(|selector| &selector.0);
        requirements.map(|r| (r.key.clone(), r.operator, r.values.concat())).collect::<Vec<_>>()
    };
    let app = ("app".to_owned(), Operator::In, "p".to_owned());
    assert_eq!(said(&pod.anti_affinity.required[0]), [app]);
    let tier = ("tier".to_owned(), Operator::NotIn, "t".to_owned());
    assert_eq!(said(&pod.affinity.preferred[1].term), [tier]);
    let far = &pod.affinity.preferred[0];
    assert_eq!((far.weight, &far.term.selector), (100, &None));
    assert!(far.term.namespaces.contains("x"));
    assert_eq!(far.term.namespace_selector, Some(cell::kube::Selector::default()));
    let [hard, soft] = pod.spread.as_slice() else { panic!("{:?}", pod.spread) };
    assert_eq!((hard.max_skew, hard.min_domains, &hard.selector), (2, 1, &None));
    assert_eq!(hard.node_affinity_policy, InclusionPolicy::Honor);
    assert_eq!(hard.node_taints_policy, InclusionPolicy::Ignore);
    assert_eq!(hard.match_label_keys, ["app"]);
    assert_eq!(soft.node_affinity_policy, InclusionPolicy::Ignore);
    assert_eq!(soft.node_taints_policy, InclusionPolicy::Honor);
    assert_eq!(soft.selector, Some(cell::kube::Selector::default()));
    let unseen = trace.doctor.findings.iter().find(|f| f.kind == FindingKind::UnseenRule).unwrap();
    assert_eq!(
        unseen.example.detail,
        "Pod/default/p: preferred node affinity, pod affinity, topology spread constraints"
    );
}

#[test]
fn the_owners_selector_is_that_of_services_and_controller() {
    let service = |name: &str, namespace: &str, selector: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{selector: {selector}}}"
        )
    };
    let trace = read(&[
        service("a", "default", "{app: d}"),
        service("b", "default", "{app: other}"),
        service("c", "elsewhere", "{app: d}"),
        service("e", "default", "{}"),
        app("Deployment", "d", "").replace(
            "matchLabels: {app: d}",
            "matchLabels: {app: d}, matchExpressions: [{key: app, operator: Exists}]",
        ),
        app("DaemonSet", "d", ""),
        pod("p", "", ""),
    ]);
    let said = |index: usize| {
        let pod: &cell::kube::Pod = &kube(&trace.cell).pods[index];
        let said = pod.owner_selector.0.iter();
        said.map(|r| (r.key.clone(), r.operator)).collect::<Vec<_>>()
    };
    let app = || "app".to_owned();
    assert_eq!(said(0), [(app(), Operator::In), (app(), Operator::Exists)]);
    assert_eq!(said(1), [(app(), Operator::In)]);
    assert_eq!(said(2), []);
}

#[test]
fn budgets_say_how_many_pods_may_go_or_it_is_counted() {
    let budget = |name: &str, rest: &str| {
        format!(
            "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {{name: {name}}}\n{rest}"
        )
    };
    let of_set = |name: &str, rest: &str| {
        pod(name, &format!("labels: {{app: s}}, {}", owned("StatefulSet", "s")), rest)
    };
    let trace = read(&[
        budget(
            "said",
            "spec: {selector: {matchLabels: {app: s}}}\nstatus: {disruptionsAllowed: 4, disruptedPods: {x: '2026-01-01T00:00:00Z'}}",
        ),
        budget("min", "spec: {minAvailable: 1, selector: {matchLabels: {app: s}}}"),
        budget("max", "spec: {maxUnavailable: 50%, selector: {matchLabels: {app: s}}}"),
        budget("none", "spec: {maxUnavailable: 1}"),
        app("StatefulSet", "s", "  replicas: 4\n"),
        of_set("s-0", "  nodeName: n0"),
        of_set("s-1", "  nodeName: n0"),
        of_set("s-2", "  nodeName: n0"),
        of_set("s-3", "  nodeName: n0\nstatus: {conditions: [{type: Ready, status: 'False'}]}"),
    ]);
    let budgets = &kube(&trace.cell).budgets;
    let allowed: Vec<i64> = budgets.iter().map(|budget| budget.allowed).collect();
    assert_eq!(allowed, [4, 2, 1, 0]); // said; 3 - 1; 3 - (4 - 2); nothing is selected
    assert!(budgets[0].disrupted.contains("x"));
    assert_eq!(budgets[3].selector, None);
}

#[test]
fn a_pod_unlike_its_template_is_counted() {
    let set = app("StatefulSet", "s", "  replicas: 3\n");
    let like = pod("s-0", &owned("StatefulSet", "s"), "");
    let unlike = pod("s-1", &owned("StatefulSet", "s"), "").replace("cpu: 1", "cpu: 2");
    let trace = read(&[set, like, unlike]);
    assert_eq!(trace.doctor.count(FindingKind::UnlikeTemplate), 1);
}

#[test]
fn what_borgs_terms_cannot_say_exactly_is_not_said() {
    let check = |expression: &str, constraints: usize, unseen: u64| {
        let spec = format!(
            "  affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: \
             {{nodeSelectorTerms: [{{matchExpressions: [{expression}]}}]}}}}}}\n"
        );
        let node = NODES.replace("disk: ssd", "disk: ssd, master: ''");
        let text = format!("{node}---\n{}", pod("p", "", &spec));
        let trace = load_files(&[("a.yaml", text.as_bytes())], STRICT).unwrap();
        assert_eq!(trace.cell.jobs[0].constraints.len(), constraints, "{expression}");
        assert_eq!(trace.doctor.count(FindingKind::UnseenRule), unseen, "{expression}");
    };
    check("{key: disk, operator: NotIn, values: [a, b]}", 2, 0);
    check("{key: disk, operator: DoesNotExist}", 1, 0);
    // A node has this label with an empty value.
    check("{key: master, operator: DoesNotExist}", 0, 1);
    check("{key: master, operator: Exists}", 1, 0);
    check("{key: disk, operator: In, values: ['not a value!']}", 0, 1);
    check("", 0, 1);
    check("{key: disk, operator: Exists}]}, {matchExpressions: [{key: x, operator: Exists}", 0, 1);
}

#[test]
fn lists_documents_folders_and_json_are_read_in_order() {
    let typed = "{\"apiVersion\": \"v1\", \"kind\": \"PodList\", \"items\": [\n\t{\"metadata\": {\"name\": \"j\"}, \
        \"spec\": {\"containers\": [{\"name\": \"c\"}]}}, {\"metadata\": {\"name\": \"k\"}, \
        \"spec\": {\"containers\": [{\"name\": \"c\"}]}}]}";
    let nested = format!(
        "apiVersion: v1\nkind: List\nitems:\n- {}\n- {{apiVersion: v1, kind: List, items: null}}\n",
        pod("in-list", "", "").replace('\n', "\n  ")
    );
    let several = format!("# first\n---\n---\n{}\n---\n{}\n", pod("z", "", ""), pod("a", "", ""));
    let trace = load_files(
        &[
            ("b/deep/x.json", typed.as_bytes()),
            ("c.yml", nested.as_bytes()),
            ("a.yaml", several.as_bytes()),
            ("nodes.yaml", NODES.as_bytes()),
            (".hidden/x.yaml", b"not read"),
            ("b/readme.txt", b"not read"),
        ],
        STRICT,
    )
    .unwrap();
    let names: Vec<&str> =
        trace.cell.jobs.iter().map(|job| job.name.trim_start_matches("Pod/default/")).collect();
    assert_eq!(names, ["z", "a", "j", "k", "in-list"]);
    assert_eq!(trace.doctor.row_count(), 7);
}

#[test]
fn objects_of_other_kinds_are_counted_by_kind() {
    let other = |version: &str, kind: &str, name: &str| {
        format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: [odd, {{1: 2}}]"
        )
    };
    let trace = read(&[
        pod("p", "", ""),
        other("v1", "ConfigMap", "a"),
        other("v1", "ConfigMap", "b"),
        // The same name in another group is another kind.
        other("serving.knative.dev/v1", "Service", "c"),
        other("apps/v1beta1", "Deployment", "d"),
        other("example.org/v1", "GuestList", "e"),
    ]);
    let kinds: Vec<(&str, u64)> =
        trace.doctor.unread_kinds.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
    assert_eq!(kinds, [("ConfigMap", 2), ("Deployment", 1), ("GuestList", 1), ("Service", 1)]);
    assert_eq!(trace.doctor.count(FindingKind::UnreadKind), 5);
}

#[test]
fn a_wrong_object_is_one_line_that_names_file_line_object_and_field_or_is_skipped() {
    let check = |object: &str, expected: &str| {
        let text = format!("{}---\n{object}\n", pod("fine", "", ""));
        let files = [("b.yaml", NODES.as_bytes()), ("c.yaml", text.as_bytes())];
        assert_eq!(
            load_files(&files, STRICT).unwrap_err(),
            format!("c.yaml:{expected}"),
            "{object}"
        );
        let trace = load_files(&files, LENIENT).unwrap();
        assert_eq!(trace.doctor.count(FindingKind::SkippedRow), 1, "{object}");
        assert_eq!(jobs(&trace.cell), ["Pod/default/fine -"]);
        assert_eq!(trace.cell.machines.len(), 2);
    };
    // The wrong object begins at line 7.
    let with = |spec: &str| pod("p", "namespace: x", spec);
    check("a: 5", "7: not a Kubernetes object: it has no `kind`");
    check("[1, 2]", "7: not a Kubernetes object: it has no `kind`");
    check("kind: Pod", r#"7: "Pod" has no `apiVersion`"#);
    check("apiVersion: v1\nkind: Pod", "7: Pod: field `metadata.name`: missing");
    check(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a/b",
        r#"10: Pod: field `metadata.name`: "a/b" is not a name"#,
    );
    check(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}",
        "7: Pod default/p: field `spec`: missing",
    );
    check(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {}",
        "10: Pod default/p: field `spec.containers`: a pod has at least one",
    );
    check(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers: 5",
        "11: Pod default/p: field `spec.containers`: integer `5` is not a list",
    );
    check(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {a: 5}}\nspec: {}",
        "9: Pod default/p: field `metadata.labels.a`: integer `5` is not a string",
    );
    check(
        &with("  priority: high"),
        r#"12: Pod x/p: field `spec.priority`: the text "high" is not i32"#,
    );
    check(
        &with("  priority: 3000000000"),
        "12: Pod x/p: field `spec.priority`: invalid value: integer `3000000000`, expected i32",
    );
    check(
        &with("").replace("cpu: 1", "cpu: -1"),
        r#"11: Pod x/p: field `spec.containers[0].resources.requests.cpu`: "-1" is negative"#,
    );
    check(
        &with("").replace("cpu: 1", "cpu: 1GiB"),
        r#"11: Pod x/p: field `spec.containers[0].resources.requests.cpu`: "1GiB" is not a quantity"#,
    );
    check(
        &with("").replace("cpu: 1", "cpu: [1]"),
        "11: Pod x/p: field `spec.containers[0].resources.requests.cpu`: sequence is not Quantity",
    );
    check(
        &with("").replace("cpu: 1", "nvidia.com/gpu: 9Ei"),
        r#"11: Pod x/p: field `spec.containers[0].resources.requests[nvidia.com/gpu]`: "9Ei" is too large"#,
    );
    check(
        &with("  overhead: {memory: 9007199254740991}\n")
            .replace("cpu: 1", "memory: 9007199254740991"),
        "7: Pod x/p: field `spec.containers`: their memory in sum is too large",
    );
    check(
        &with("  priorityClassName: nobody"),
        r#"7: Pod x/p: field `spec.priorityClassName`: no PriorityClass is called "nobody""#,
    );
    check(
        &with("  preemptionPolicy: Sometimes"),
        r#"12: Pod x/p: field `spec.preemptionPolicy`: "Sometimes" is not PreemptLowerPriority or Never"#,
    );
    check(
        &with("  tolerations:\n  - {key: a, operator: In}"),
        r#"13: Pod x/p: field `spec.tolerations[0].operator`: "In" is not Equal or Exists"#,
    );
    check(
        &with(
            "  topologySpreadConstraints:\n  - {maxSkew: 0, topologyKey: z, whenUnsatisfiable: DoNotSchedule}",
        ),
        "13: Pod x/p: field `spec.topologySpreadConstraints[0].maxSkew`: 0 is not above 0",
    );
    check(
        &with(
            "  affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {}}]}}",
        ),
        "12: Pod x/p: field `spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey`: must not be empty",
    );
    check(
        &app("Deployment", "d", "").replace(
            "matchLabels: {app: d}",
            "matchExpressions: [{key: a, operator: Gt, values: ['1']}]",
        ),
        r#"11: Deployment default/d: field `spec.selector.matchExpressions[0].operator`: "Gt" is no operator here"#,
    );
    check(
        &app("Deployment", "d", "")
            .replace("matchLabels: {app: d}", "matchExpressions: [{key: a, operator: In}]"),
        "11: Deployment default/d: field `spec.selector.matchExpressions[0].values`: In and NotIn need values",
    );
    check(
        &app("Deployment", "d", "").replace("matchLabels: {app: d}", "matchLabels: {app: 'a b'}"),
        r#"11: Deployment default/d: field `spec.selector.matchLabels.app`: "a b" is not a label's value"#,
    );
    check(
        &app("Deployment", "d", "  replicas: -1"),
        "15: Deployment default/d: field `spec.replicas`: -1 is not in 0..=1000000",
    );
    check(
        &app("Deployment", "d", "  replicas: 2000000000"),
        "15: Deployment default/d: field `spec.replicas`: 2000000000 is not in 0..=1000000",
    );
    check(
        "apiVersion: v1\nkind: Node\nmetadata: {name: n0}",
        "9: Node n0: field `metadata.name`: an object of this kind and name is there twice",
    );
    check(
        "apiVersion: v1\nkind: Node\nmetadata: {name: m}\nspec: {taints: [{key: k, effect: Never}]}",
        r#"10: Node m: field `spec.taints[0].effect`: "Never" is not NoSchedule, PreferNoSchedule or NoExecute"#,
    );
    check(
        "apiVersion: v1\nkind: Node\nmetadata: {name: m}\nstatus: {allocatable: {pods: lots}}",
        r#"10: Node m: field `status.allocatable.pods`: "lots" is not a quantity"#,
    );
    check(
        "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: b}\nspec: {minAvailable: half}",
        r#"10: PodDisruptionBudget default/b: field `spec.minAvailable`: "half" is no number and no percentage"#,
    );
    check(
        "apiVersion: v1\nkind: List\nitems:\n- {kind: Pod, apiVersion: v1, metadata: {name: q}}",
        "10: Pod default/q: field `spec`: missing",
    );
}

#[test]
fn a_file_that_is_no_yaml_is_an_error_always() {
    let check = |bytes: &[u8], expected: &str| {
        let files = [("a.yaml", NODES.as_bytes()), ("b.yaml", bytes)];
        for options in [STRICT, LENIENT] {
            assert_eq!(load_files(&files, options).unwrap_err(), expected);
        }
    };
    check(b"kind: [\n", "b.yaml:1: unclosed bracket '['");
    check(b"a: 1\na: 2\n", "b.yaml:2: duplicate mapping key `a` is not allowed here");
    check(b"a: 1\nb: \xff\n", "b.yaml:2: not UTF-8");
    let mut bomb = "a: &b0 [1, 1]\n".to_owned();
    for depth in 1..40 {
        let last = depth - 1;
        bomb.push_str(&format!("a{depth}: &b{depth} [*b{last}, *b{last}, *b{last}]\n"));
    }
    let files = [("a.yaml", bomb.as_bytes())];
    assert!(load_files(&files, LENIENT).unwrap_err().starts_with("a.yaml:"));
    let deep = format!("a: {}1{}\n", "[".repeat(100_000), "]".repeat(100_000));
    assert!(
        load_files(&[("a.yaml", deep.as_bytes())], LENIENT).unwrap_err().starts_with("a.yaml:")
    );
    let deep: String = (0..5000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    assert!(
        load_files(&[("a.yaml", deep.as_bytes())], LENIENT).unwrap_err().starts_with("a.yaml:")
    );
}

#[test]
fn empty_files_and_folders_are_errors() {
    let check = |files: &[(&str, &[u8])], expected: &str| {
        assert_eq!(load_files(files, STRICT).unwrap_err(), expected);
    };
    check(&[], r#"trace "manifests:DIR" is empty: it has no machine"#);
    check(&[("readme.md", b"")], r#"trace "manifests:DIR" is empty: it has no machine"#);
    check(&[("a.yaml", b"")], "a.yaml:1: no object in this file");
    check(&[("a.yaml", b"# nothing\n---\n")], "a.yaml:1: no object in this file");
    check(&[("a.yaml", NODES.as_bytes())], r#"trace "manifests:DIR" is empty: it has no job"#);
    let one = pod("p", "", "");
    check(&[("a.yaml", one.as_bytes())], r#"trace "manifests:DIR" is empty: it has no machine"#);
}

#[test]
fn the_example_is_read() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/manifests");
    let trace = load(&format!("manifests:{}", folder.display()), STRICT).unwrap();
    let jobs = jobs(&trace.cell);
    assert_eq!(jobs[..2], ["Pod/research/notebook -", "Deployment/shop/web 13----"]);
    assert_eq!(jobs[2], "StatefulSet/shop/db 2-3");
    assert_eq!(jobs[3..9].len(), 6);
    assert_eq!(jobs[9], "Job/research/train ---");
    assert_eq!(jobs.len(), 10);
    let budget = &kube(&trace.cell).budgets[0];
    assert_eq!(budget.allowed, 0); // two of three are healthy, and one may be away
    assert_eq!(trace.doctor.unread_kinds["ConfigMap"], 1);
    assert_eq!(trace.doctor.count(FindingKind::UnlikeTemplate), 0);
}

#[test]
fn a_cluster_of_twenty_thousand_pods_is_read() {
    let mut text = NODES.to_owned();
    for index in 0..20_000 {
        text.push_str("---\n");
        text.push_str(&pod(&format!("p{index}"), "", "  nodeName: n0\n"));
    }
    let trace = load_files(&[("a.yaml", text.as_bytes())], STRICT).unwrap();
    assert_eq!(trace.cell.jobs.len(), 20_000);
}
