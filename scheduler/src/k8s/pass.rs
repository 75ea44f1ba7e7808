//! A scheduling pass under a Kubernetes profile: the cell as a cluster, the scheduler until nothing moves.

use std::collections::BTreeMap;

use cell::kube::{
    AffinityTerm, Amounts, Container, HOSTNAME, InclusionPolicy, Node, Pod, Requirement, Selector,
    SpreadConstraint, UnsatisfiableAction, ZONE,
};
use cell::{
    Cell, Constraint, DomainKind, Job, JobId, JobKind, Machine, MachineId, Strength, TaskId,
};

use super::cluster::{Cluster, PodIndex, RuleIndex, TemplateIndex};
use super::profile::Profile;
use super::scheduler::{Outcome, Scheduler};
use crate::accounting::Accounting;
use crate::feasible;
use crate::pass::{Assignment, PassOptions, Picky, Plan};
use crate::queue::Queue;
use crate::snapshot::{DISK_UNSTATED, Demand, Slot, Snapshot};

/// The extended resource that stands for a cell's GPUs.
const GPU: &str = "nvidia.com/gpu";
/// The label by which the pods of a job with rules of its own know each other.
const JOB_LABEL: &str = "cell/job";
/// The labels that name a machine's failure domains.
const RACK: &str = "cell/rack";
const POWER: &str = "cell/power";
/// Production's limits, where they are accounted apart (Borg §5.5): resources of their own.
const PROD: [&str; 2] = ["cell/production-cpu", "cell/production-memory"];

/// Plans the tasks as kube-scheduler would.
pub(crate) fn run<'c>(
    profile: &Profile,
    snapshot: Snapshot<'c>,
    tasks: &[TaskId],
    options: &PassOptions<'_>,
) -> Plan<'c> {
    let cell = snapshot.cell;
    let picky = Picky::of(cell, options);
    let mut world = World::new(profile, snapshot, options);
    // Kubernetes knows the order of submission; another order inside a priority is one of submission.
    let mut order = Queue::new(cell, tasks, options.queue);
    while let Some(task) = order.pop() {
        world.enqueue(task);
    }
    let mut assignments = Vec::with_capacity(tasks.len());
    let mut is_complete = true;
    let mut inner_pending: Vec<TaskId> = Vec::new();
    while let Some(pod) = world.scheduler.pop(0) {
        let task = world.task_of[pod];
        if let Some(alloc_set) = cell.job(task.job).alloc_set {
            // What runs in an alloc is no pod: it takes the first alloc with room.
            world.scheduler.settle(pod, &Outcome::Bound(0), 0);
            match first_alloc(&world.snapshot, alloc_set, task) {
                Some(row) => {
                    world.snapshot.place_recorded(task, row, None);
                    assignments.push(world.assignment(task, row, Vec::new()));
                }
                None => inner_pending.push(task),
            }
            continue;
        }
        let outcome = world.scheduler.attempt(pod);
        world.scheduler.settle(pod, &outcome, 0);
        match outcome {
            Outcome::Bound(node) => {
                let row = world.scheduler.cluster().source(node);
                world.started_count += 1;
                world.scheduler.cluster_mut().set_start(pod, Some(world.started_count));
                world.snapshot.place_recorded(task, row, None);
                let victims = world.victims_for.remove(&pod).unwrap_or_default();
                assignments.push(world.assignment(task, row, victims));
                if cell.job(task.job).kind == JobKind::AllocSet {
                    for inner in std::mem::take(&mut inner_pending) {
                        world.enqueue(inner);
                    }
                }
            }
            Outcome::Nominated(candidate) => {
                let mut victims = Vec::new();
                for victim in candidate.victims.into_iter().rev() {
                    let victim_task = world.task_of[victim];
                    for lost in world.snapshot.remove(victim_task) {
                        if lost == victim_task {
                            world.scheduler.evict(victim, 0);
                        }
                        victims.push(lost);
                        world.enqueue(lost);
                    }
                }
                world.victims_for.entry(pod).or_default().extend(victims);
            }
            Outcome::Unschedulable => {}
        }
        if let Some(limit) = options.pending_limit {
            let waiting = world.scheduler.queue().unschedulable_count() + inner_pending.len();
            let is_hopeless = waiting > limit.max
                || picky.as_ref().is_some_and(|picky| {
                    world.snapshot.placement(task).is_none()
                        && !picky.is_picky(task)
                        && world.scheduler.cluster().pod(pod).nominated.is_none()
                });
            if is_hopeless {
                is_complete = false;
                break;
            }
        }
    }
    let mut waiting: Vec<PodIndex> = world.scheduler.queue().unschedulable().collect();
    waiting.sort_by_key(|&pod| {
        let priority = world.scheduler.cluster().template_of(pod).pod.priority;
        (std::cmp::Reverse(priority), pod)
    });
    let mut pending: Vec<TaskId> = waiting.into_iter().map(|pod| world.task_of[pod]).collect();
    pending.extend(inner_pending);
    Plan { assignments, pending, is_complete, end: world.snapshot }
}

/// The first alloc of a set with room for a task, in the order in which allocs were placed.
fn first_alloc(snapshot: &Snapshot<'_>, alloc_set: JobId, task: TaskId) -> Option<usize> {
    let demand = snapshot.demand(task);
    let rows = snapshot.alloc_rows(alloc_set).iter().copied();
    rows.filter(|&row| {
        let cell = snapshot.cell;
        let job = cell.job(task.job);
        let machine = cell.machine(snapshot.slot(row).machine);
        let obeys = |constraint: &Constraint| {
            !constraint.is_hard() || constraint.holds(&machine.attributes)
        };
        feasible::takes(snapshot, &cell.task(task).avoid, row)
            && job.constraints.iter().all(obeys)
            && !(job.different_machines && shares_machine(snapshot, task, row))
    })
    .find(|&row| feasible::fits(snapshot, &demand, row))
}

fn shares_machine(snapshot: &Snapshot<'_>, task: TaskId, row: usize) -> bool {
    let machine_row = snapshot.hosts[row].machine_row;
    let job = snapshot.cell.job(task.job);
    (0..).zip(&job.tasks).any(|(position, _)| {
        let other = TaskId { job: task.job, position };
        snapshot
            .placement(other)
            .is_some_and(|placement| snapshot.hosts[placement.row].machine_row == machine_row)
    })
}

/// What kube-scheduler would say of a task without a place: `0/20 nodes are available: …`. `None` for one
/// in an alloc set, which Kubernetes knows nothing of.
pub(crate) fn fit_error(
    profile: &Profile,
    snapshot: &Snapshot<'_>,
    task: TaskId,
) -> Option<String> {
    if snapshot.cell.job(task.job).alloc_set.is_some() {
        return None;
    }
    let options = PassOptions {
        policy: crate::Policy::kubernetes("kubernetes", profile.clone()),
        queue: crate::QueueOrder::Fifo,
        seed: 0,
        speed: crate::Speed::default(),
        pending_limit: None,
    };
    let mut world = World::new(profile, snapshot.clone(), &options);
    let pod = world.pod(task);
    Some(world.scheduler.fit_error(pod))
}

struct World<'c> {
    scheduler: Scheduler,
    snapshot: Snapshot<'c>,
    translation: Translation<'c>,
    task_of: Vec<TaskId>,
    pod_of: BTreeMap<TaskId, PodIndex>,
    /// What each nominated pod preempted.
    victims_for: BTreeMap<PodIndex, Vec<TaskId>>,
    started_count: i64,
}

impl<'c> World<'c> {
    fn new(profile: &Profile, snapshot: Snapshot<'c>, options: &PassOptions<'_>) -> Self {
        let cell = snapshot.cell;
        let translation = Translation::new(cell);
        let nodes = (0..snapshot.machine_count())
            .map(|row| translation.node(snapshot.slot(row), &snapshot, row))
            .collect();
        let namespaces =
            cell.kube.as_ref().map_or_else(BTreeMap::new, |kube| kube.namespaces.clone());
        let mut cluster = Cluster::new(nodes, namespaces);
        cluster.set_budgets(cell.kube.as_ref().map_or_else(Vec::new, |kube| kube.budgets.clone()));
        let mut world = Self {
            scheduler: Scheduler::new(profile.clone(), cluster, options.seed, options.speed),
            snapshot,
            translation,
            task_of: Vec::new(),
            pod_of: BTreeMap::new(),
            victims_for: BTreeMap::new(),
            started_count: 0,
        };
        let node_of_row: BTreeMap<usize, usize> = (0..world.snapshot.machine_count())
            .map(|node| (world.scheduler.cluster().source(node), node))
            .collect();
        for (task, _, _) in cell.tasks() {
            let Some(placement) = world.snapshot.placement(task) else { continue };
            if let Some(&node) = node_of_row.get(&placement.row) {
                let pod = world.pod(task);
                // It runs since before anything that is decided here.
                world.scheduler.cluster_mut().set_start(pod, Some(0));
                world.scheduler.cluster_mut().bind(pod, node);
            }
        }
        world
    }

    /// A task that has its place, and what went for it.
    fn assignment(&self, task: TaskId, row: usize, victims: Vec<TaskId>) -> Assignment {
        let placement = self.snapshot.placement(task);
        let gpu_devices = placement.map_or(0, |placement| placement.gpu_devices);
        Assignment { task, row, gpu_devices, victims }
    }

    fn enqueue(&mut self, task: TaskId) {
        let pod = self.pod(task);
        self.scheduler.cluster_mut().set_start(pod, None);
        self.scheduler.enqueue(pod, 0);
    }

    fn pod(&mut self, task: TaskId) -> PodIndex {
        if let Some(&known) = self.pod_of.get(&task) {
            return known;
        }
        let template = self.template(task);
        let pod = self.scheduler.cluster_mut().create("", template, None);
        self.task_of.push(task);
        self.pod_of.insert(task, pod);
        pod
    }

    fn template(&mut self, task: TaskId) -> TemplateIndex {
        let demand = self.snapshot.demand(task);
        let (snapshot, cluster) = (&self.snapshot, self.scheduler.cluster_mut());
        self.translation.template(snapshot, cluster, task, &demand)
    }
}

/// How a cell's terms are said in Kubernetes'.
struct Translation<'c> {
    cell: &'c Cell,
    /// Templates that were made, by job and demand.
    by_job: BTreeMap<(JobId, Demand, &'c [MachineId]), TemplateIndex>,
    /// Rules that were made, by constraints and machines to avoid.
    rules: BTreeMap<(&'c [Constraint], &'c [MachineId]), RuleIndex>,
    /// Of an alloc set, the highest priority of what will run in it.
    highest_inside: BTreeMap<JobId, i32>,
}

impl<'c> Translation<'c> {
    fn new(cell: &'c Cell) -> Self {
        let mut highest_inside: BTreeMap<JobId, i32> = BTreeMap::new();
        for job in &cell.jobs {
            if let Some(alloc_set) = job.alloc_set {
                let highest = highest_inside.entry(alloc_set).or_insert(i32::MIN);
                *highest = i32::from(job.priority.get()).max(*highest);
            }
        }
        Self { cell, by_job: BTreeMap::new(), rules: BTreeMap::new(), highest_inside }
    }

    fn node(&self, slot: Slot, snapshot: &Snapshot<'_>, row: usize) -> Node {
        let machine = self.cell.machine(slot.machine);
        let host = &snapshot.hosts[row];
        let mut node = match &self.cell.kube {
            Some(kube) => kube.nodes[slot.machine.index()].clone(),
            None => node_of(machine, host.gpus.count),
        };
        if self.cell.kube.is_none() {
            // What a machine does not state it has enough of.
            node.allocatable.ephemeral = Some(host.capacity.disk.min(DISK_UNSTATED));
        }
        // Pods that tolerate it go there still, as Kubernetes has it.
        node.unschedulable |= snapshot.is_closed(row);
        if snapshot.accounting.keeps_limits_apart() {
            let limits = [host.prod_capacity.cpu, host.prod_capacity.ram];
            for (name, limit) in PROD.iter().zip(limits) {
                node.allocatable.scalar.insert((*name).to_owned(), limit);
            }
        }
        if slot.clone > 0 {
            // Copies of a machine share no failure domain.
            let suffix = format!("#{}", slot.clone);
            node.name.push_str(&suffix);
            for key in [HOSTNAME, ZONE, RACK, POWER] {
                if let Some(value) = node.labels.get_mut(key) {
                    value.push_str(&suffix);
                }
            }
        }
        node
    }

    fn template(
        &mut self,
        snapshot: &Snapshot<'_>,
        cluster: &mut Cluster,
        task: TaskId,
        demand: &Demand,
    ) -> TemplateIndex {
        let avoid = self.cell.task(task).avoid.as_slice();
        if let Some(&known) = self.by_job.get(&(task.job, *demand, avoid)) {
            return known;
        }
        let job = self.cell.job(task.job);
        let pod = match &self.cell.kube {
            Some(kube) => {
                let pod = kube.pods[task.job.index()].clone();
                match snapshot.accounting {
                    Accounting::Limits => pod,
                    Accounting::Reclaimed(_) | Accounting::RightSized(_) | Accounting::Recorded => {
                        let scalar = pod.requests().scalar;
                        Pod { containers: vec![container(demand, scalar)], ..without_requests(pod) }
                    }
                }
            }
            None => {
                let priority = self.highest_inside.get(&task.job).copied().unwrap_or(i32::MIN);
                Pod { priority: priority.max(i32::from(job.priority.get())), ..pod_of(job, demand) }
            }
        };
        let constraints = if self.cell.kube.is_none() { job.constraints.as_slice() } else { &[] };
        let rule = (!constraints.is_empty() || !avoid.is_empty())
            .then(|| self.rule(snapshot, cluster, constraints, avoid));
        let template = cluster.template_under(&pod, false, rule);
        self.by_job.insert((task.job, *demand, avoid), template);
        template
    }

    fn rule(
        &mut self,
        snapshot: &Snapshot<'_>,
        cluster: &mut Cluster,
        constraints: &'c [Constraint],
        avoid: &'c [MachineId],
    ) -> RuleIndex {
        if let Some(&known) = self.rules.get(&(constraints, avoid)) {
            return known;
        }
        let by_node = (0..cluster.node_count())
            .map(|node| {
                let slot = snapshot.slot(cluster.source(node));
                let attributes = &self.cell.machine(slot.machine).attributes;
                let mut preference = 0;
                let mut is_kept = avoid.binary_search(&slot.machine).is_err();
                for constraint in constraints {
                    match constraint.strength {
                        Strength::Hard => is_kept &= constraint.holds(attributes),
                        Strength::Soft { weight } if constraint.holds(attributes) => {
                            preference += i64::from(weight);
                        }
                        Strength::Soft { .. } => {}
                    }
                }
                (is_kept, preference)
            })
            .collect();
        let rule = cluster.add_rule(by_node);
        self.rules.insert((constraints, avoid), rule);
        rule
    }
}

fn node_of(machine: &Machine, gpu_count: u32) -> Node {
    let signed = |amount: u64| i64::try_from(amount).expect("quantities are below 2^53");
    let own = || machine.name.clone();
    let mut allocatable = Amounts {
        cpu: Some(signed(machine.capacity.cpu.0)),
        memory: Some(signed(machine.capacity.ram.0)),
        ..Amounts::default()
    };
    if gpu_count > 0 {
        allocatable.scalar.insert(GPU.to_owned(), i64::from(gpu_count));
    }
    Node {
        name: own(),
        labels: [
            (HOSTNAME.to_owned(), own()),
            // A machine in no rack shares none.
            (RACK.to_owned(), machine.rack.clone().unwrap_or_else(own)),
            (POWER.to_owned(), machine.power.clone().unwrap_or_else(own)),
        ]
        .into(),
        allocatable,
        ..Node::default()
    }
}

fn without_requests(pod: Pod) -> Pod {
    Pod {
        init_containers: Vec::new(),
        overhead: Amounts::default(),
        pod_level: Amounts::default(),
        ..pod
    }
}

fn container(demand: &Demand, scalar: BTreeMap<String, i64>) -> Container {
    let charge = &demand.charge;
    let stated = |amount: i64, unstated: bool| (!unstated).then_some(amount);
    let mut requests = Amounts {
        cpu: stated(charge.cpu, demand.unstated.cpu),
        memory: stated(charge.ram, demand.unstated.ram),
        ephemeral: (charge.disk > 0).then_some(charge.disk),
        scalar,
    };
    if let Some(limit) = demand.prod_limit {
        for (name, amount) in PROD.iter().zip([limit.cpu, limit.ram]) {
            requests.scalar.insert((*name).to_owned(), amount);
        }
    }
    Container { requests, ..Container::default() }
}

fn pod_of(job: &Job, demand: &Demand) -> Pod {
    let mut scalar = BTreeMap::new();
    if demand.gpu.count > 0 {
        // Kubernetes counts devices: a share takes a whole one.
        scalar.insert(GPU.to_owned(), i64::from(demand.gpu.count));
    }
    let mut pod = Pod { containers: vec![container(demand, scalar)], ..Pod::default() };
    if !job.different_machines && job.spread.is_empty() {
        return pod;
    }
    pod.labels.insert(JOB_LABEL.to_owned(), job.name.clone());
    let own = || Some(Selector(vec![Requirement::is_in(JOB_LABEL, [job.name.as_str()])]));
    if job.different_machines {
        pod.anti_affinity.required.push(AffinityTerm {
            topology_key: HOSTNAME.to_owned(),
            selector: own(),
            ..AffinityTerm::default()
        });
    }
    for spread in &job.spread {
        let key = match spread.domain {
            DomainKind::Machine => HOSTNAME,
            DomainKind::Rack => RACK,
            DomainKind::Power => POWER,
        };
        pod.spread.push(match spread.max_per_domain {
            // With more domains asked for than there can be the least count is 0, and the skew a maximum.
            Some(most) => SpreadConstraint {
                min_domains: i64::from(i32::MAX),
                node_affinity_policy: InclusionPolicy::Ignore,
                ..SpreadConstraint::new(
                    i64::from(most),
                    key,
                    UnsatisfiableAction::DoNotSchedule,
                    own(),
                )
            },
            None => SpreadConstraint::new(1, key, UnsatisfiableAction::ScheduleAnyway, own()),
        });
    }
    pod
}
