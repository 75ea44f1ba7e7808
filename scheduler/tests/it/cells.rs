//! Cells for tests: from JSON texts, and at random.

use cell::spec::{CellBuilder, JobSpec, MachineSpec};
use cell::{Bytes, Cell, MachineId, MilliCpu, Resources, TaskId};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof};
use proptest::sample::{Index, select};
use scheduler::{
    Accounting, PassOptions, Plan, Policy, Slot, Snapshot, Speed, UsageRatio, pass, policies,
};
use serde_json::{Value, json};

/// A cell from machines, alloc sets and jobs in the schema of `cell::spec`. What every job needs is
/// filled in: `user` is `u`, `priority` 200.
pub(crate) fn build(machines: &[Value], alloc_sets: &[Value], jobs: &[Value]) -> Cell {
    let mut builder = CellBuilder::default();
    for machine in machines {
        let spec: MachineSpec = serde_json::from_value(machine.clone()).unwrap();
        builder.add_machine(&spec).unwrap();
    }
    let with_defaults = |job: &Value| -> JobSpec {
        let mut job = job.clone();
        for (field, value) in [("user", json!("u")), ("priority", json!(200))] {
            if job.get(field).is_none() {
                job[field] = value;
            }
        }
        serde_json::from_value(job).unwrap()
    };
    for set in alloc_sets {
        builder.add_alloc_set(&with_defaults(set)).unwrap();
    }
    for job in jobs {
        builder.add_job(&with_defaults(job)).unwrap();
    }
    builder.finish()
}

/// All tasks and allocs of a cell.
pub(crate) fn all_tasks(cell: &Cell) -> Vec<TaskId> {
    cell.tasks().map(|(id, _, _)| id).collect()
}

pub(crate) fn options(policy: Policy, seed: u64) -> PassOptions<'static> {
    PassOptions { queue: policy.queue, policy, seed, speed: Speed::default(), pending_limit: None }
}

pub(crate) fn policy(name: &str) -> Policy {
    Policy::by_name(name).unwrap()
}

/// Whether a policy is Borg's, with Borg's weighted terms.
pub(crate) fn is_borgs(policy: &Policy) -> bool {
    !policy.is_kubernetes() && !policy.is_peer()
}

/// Packs all of a cell from scratch, by limits.
pub(crate) fn pack<'c>(cell: &'c Cell, policy_name: &str, seed: u64) -> Plan<'c> {
    let snapshot = Snapshot::empty(cell, &Slot::all(cell), Accounting::Limits);
    pass(&snapshot, &all_tasks(cell), &options(policy(policy_name), seed))
}

/// Packs the waiting tasks of a cell onto its recorded state.
pub(crate) fn pack_recorded<'c>(cell: &'c Cell, policy_name: &str, seed: u64) -> Plan<'c> {
    let snapshot = Snapshot::recorded(cell, &Slot::all(cell), Accounting::Limits);
    let waiting: Vec<TaskId> =
        all_tasks(cell).into_iter().filter(|&id| snapshot.placement(id).is_none()).collect();
    pass(&snapshot, &waiting, &options(policy(policy_name), seed))
}

/// The policies that preempt by Borg's rules and share GPUs; Kubernetes' have tests of their own.
pub(crate) fn borg_policies() -> Vec<Policy> {
    policies().into_iter().filter(|policy| !policy.is_kubernetes()).collect()
}

/// The name of the machine (or of the alloc) that a task of this name is on, or `-`.
pub(crate) fn host_of(plan: &Plan<'_>, task: &str) -> String {
    let cell = plan.end.cell();
    let id = cell.find_task(task).unwrap();
    plan.end.placement(id).map_or_else(
        || "-".to_owned(),
        |placement| match plan.end.alloc(placement.row) {
            Some(alloc) => cell.task_name(alloc),
            None => cell.machine(plan.end.slot(placement.row).machine).name.clone(),
        },
    )
}

/// So many random cases. Proptest prints a failing case; it writes no file beside the sources.
pub(crate) fn cases(count: u32) -> ProptestConfig {
    ProptestConfig { cases: count, failure_persistence: None, ..ProptestConfig::default() }
}

/// The accountings; in the second and third a task is charged half of its CPU and 0.7 of its RAM.
pub(crate) const ACCOUNTINGS: [Accounting; 4] = [
    Accounting::Limits,
    Accounting::Reclaimed(UsageRatio { cpu_permille: 500, ram_permille: 700 }),
    Accounting::RightSized(UsageRatio { cpu_permille: 500, ram_permille: 700 }),
    Accounting::Recorded,
];

/// How large a random cell is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub machines: usize,
    pub jobs: usize,
    pub tasks_per_job: u32,
}

pub(crate) const SMALL: Size = Size { machines: 8, jobs: 12, tasks_per_job: 5 };

/// A cell as texts, so that a failure prints something to read.
#[derive(Clone)]
pub(crate) struct CellText {
    machines: Vec<Value>,
    alloc_sets: Vec<Value>,
    jobs: Vec<Value>,
    /// Of so many tasks, what a live cell learns of them.
    learnt: Vec<(Index, Learnt)>,
}

/// What a live cell learns of a task.
#[derive(Clone, Debug)]
enum Learnt {
    /// It uses so much of its limit, in thousandths.
    Uses(u64),
    /// It crashes on this machine.
    Crashes(Index),
}

impl CellText {
    pub(crate) fn build(&self) -> Cell {
        let mut cell = build(&self.machines, &self.alloc_sets, &self.jobs);
        let ids = all_tasks(&cell);
        for (task, learnt) in &self.learnt {
            let id = task.get(&ids);
            let task = &mut cell.jobs[id.job.index()].tasks[id.position as usize];
            match learnt {
                Learnt::Uses(permille) => task.reservation = Some(part(task.limit, *permille)),
                Learnt::Crashes(machine) => {
                    let machine = MachineId::from_index(machine.index(cell.machines.len()));
                    task.avoid.push(machine);
                    task.avoid.sort_unstable();
                    task.avoid.dedup();
                }
            }
        }
        cell
    }
}

/// So many thousandths of CPU and RAM, rounded down.
pub(crate) fn part(limit: Resources, permille: u64) -> Resources {
    let part = |amount: u64| amount * permille / 1000;
    Resources { cpu: MilliCpu(part(limit.cpu.0)), ram: Bytes(part(limit.ram.0)), ..limit }
}

fn learnt() -> impl Strategy<Value = Vec<(Index, Learnt)>> {
    let of_task = prop_oneof![
        (0_u64..=1000).prop_map(Learnt::Uses),
        any::<Index>().prop_map(Learnt::Crashes),
    ];
    vec((any::<Index>(), of_task), 0..20)
}

impl std::fmt::Debug for CellText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (kind, texts) in
            [("machine", &self.machines), ("alloc set", &self.alloc_sets), ("job", &self.jobs)]
        {
            for text in texts {
                writeln!(f, "{kind} {text}")?;
            }
        }
        writeln!(f, "learnt {:?}", self.learnt)
    }
}

/// A random cell with every feature of the model. Jobs in an alloc set have at most its priority.
pub(crate) fn cells(size: Size) -> impl Strategy<Value = CellText> {
    let plain = prop_oneof![3 => Just(true), 1 => Just(false)];
    (
        // Some cells state neither disks nor GPUs: the scheduler has a shorter way for those.
        plain,
        vec(machine(), 1..=size.machines),
        vec(job(3), 0..=2),
        vec((job(size.tasks_per_job), option::weighted(0.3, 0_usize..2)), 1..=size.jobs),
        learnt(),
    )
        .prop_map(|(is_wide, mut machines, mut sets, jobs, learnt)| {
            for (index, machine) in machines.iter_mut().enumerate() {
                machine["name"] = json!(format!("m{index}"));
                if !is_wide {
                    machine["disk"] = Value::Null;
                    machine["gpus"] = json!(0);
                }
            }
            for (index, set) in sets.iter_mut().enumerate() {
                set["name"] = json!(format!("set{index}"));
                // An envelope with something in it.
                set["tasks"] = json!([]);
                set["limit"]["cpu"] = json!(2 + index);
                set["limit"]["ram"] = json!(300);
            }
            let mut named = Vec::new();
            for (index, (mut job, set)) in jobs.into_iter().enumerate() {
                job["name"] = json!(format!("j{index}"));
                if let Some(set) = set.and_then(|set| sets.get(set)) {
                    job["alloc_set"] = set["name"].clone();
                    let priority = |of: &Value| of["priority"].as_u64().unwrap();
                    job["priority"] = json!(priority(&job).min(priority(set)));
                }
                named.push(job);
            }
            CellText { machines, alloc_sets: sets, jobs: named, learnt }
        })
}

fn machine() -> impl Strategy<Value = Value> {
    (
        (1_u32..=16, 1_u64..=16, option::of(0_u64..=12), 0_u32..=3),
        option::of(select(vec!["x", "y"])),
        option::of(1_i64..=3),
        (option::of(select(vec!["r0", "r1", "r2"])), option::of(select(vec!["p0", "p1"]))),
        packages(),
    )
        .prop_map(|((cpu, ram, disk, gpus), text, number, (rack, power), packages)| {
            let mut attributes = serde_json::Map::new();
            if let Some(text) = text {
                attributes.insert("text".into(), json!(text));
            }
            if let Some(number) = number {
                attributes.insert("number".into(), json!(number));
            }
            json!({"name": "", "cpu": cpu, "ram": ram * 100, "disk": disk, "gpus": gpus,
                "attributes": attributes, "rack": rack, "power": power, "packages": packages})
        })
}

fn packages() -> impl Strategy<Value = Vec<&'static str>> {
    prop_oneof![
        2 => Just(Vec::new()),
        1 => Just(vec!["red"]),
        1 => Just(vec!["blue"]),
        1 => Just(vec!["blue", "red"]),
    ]
}

fn job(tasks: u32) -> impl Strategy<Value = Value> {
    (
        (select(vec!["ann", "bob", "eve"]), priority(), 1..=tasks),
        limit(),
        vec(constraint(), 0..=2),
        any::<bool>()
            .prop_flat_map(|often| if often { any::<bool>().boxed() } else { Just(false).boxed() }),
        (spread(), packages()),
        (option::weighted(0.4, 0_u32..=3), option::weighted(0.3, limit())),
    )
        .prop_map(
            |(
                (user, priority, count),
                limit,
                constraints,
                different,
                (spread, packages),
                (max_disrupted, of_first),
            )| {
                let tasks: Vec<Value> =
                    of_first.into_iter().map(|limit| json!({"index": 0, "limit": limit})).collect();
                json!({"name": "", "user": user, "priority": priority, "count": count,
                    "limit": limit, "constraints": constraints, "different_machines": different,
                    "spread": spread, "packages": packages, "max_disrupted": max_disrupted,
                    "tasks": tasks})
            },
        )
}

fn priority() -> impl Strategy<Value = u16> {
    // Free, batch, mid, production (twice), monitoring.
    select(vec![0, 50, 100, 110, 117, 130, 200, 200, 360])
}

fn limit() -> impl Strategy<Value = Value> {
    let gpu = prop_oneof![
        4 => Just(Value::Null),
        1 => select(vec![250, 400, 600, 1000])
            .prop_map(|milli| json!({"count": 1, "milli": milli})),
        1 => (1_u32..=3).prop_map(|count| json!({"count": count})),
    ];
    let cpu = prop_oneof![
        1 => Just(Value::Null),
        1 => Just(json!(0)),
        // 101 m and the like: reservations are rounded.
        8 => (1_u32..=6).prop_map(|cpu| json!(format!("{}m", cpu * 1000 - 3 * cpu))),
    ];
    let ram = prop_oneof![
        1 => Just(Value::Null),
        1 => Just(json!(0)),
        8 => (1_u64..=7).prop_map(|ram| json!(ram * 99)),
    ];
    let disk = prop_oneof![2 => Just(0_u64), 1 => 1_u64..=6];
    (cpu, ram, disk, gpu)
        .prop_map(|(cpu, ram, disk, gpu)| json!({"cpu": cpu, "ram": ram, "disk": disk, "gpu": gpu}))
}

fn constraint() -> impl Strategy<Value = Value> {
    let predicate = prop_oneof![
        Just(json!({"attribute": "text", "op": "=", "value": "x"})),
        Just(json!({"attribute": "text", "op": "=", "value": ""})),
        Just(json!({"attribute": "text", "op": "!=", "value": "x"})),
        Just(json!({"attribute": "number", "op": "<", "value": 3})),
        Just(json!({"attribute": "number", "op": ">", "value": 1})),
        Just(json!({"attribute": "text", "op": "<", "value": 3})),
        Just(json!({"attribute": "number", "op": "exists"})),
        Just(json!({"attribute": "text", "op": "in", "values": ["y", ""]})),
    ];
    // Hard ones are rarer, or hardly any task would find a place.
    (predicate, option::weighted(0.7, 1_u32..=9)).prop_map(|(mut predicate, soft)| {
        predicate["soft"] = json!(soft);
        predicate
    })
}

fn spread() -> impl Strategy<Value = Vec<Value>> {
    let of = |domain: &'static str| {
        option::weighted(0.2, option::of(1_u32..=3))
            .prop_map(move |max| max.map(|max| json!({"domain": domain, "max_per_domain": max})))
    };
    (of("rack"), of("power"), of("machine"))
        .prop_map(|(rack, power, machine)| [rack, power, machine].into_iter().flatten().collect())
}
