//! Why a task is pending: reasons whose counts add up, and the smallest change, proven by making it.

use cell::{Cell, Strength, TaskId};
use proptest::prelude::{TestCaseError, any, prop_assert, prop_assert_eq, proptest};
use scheduler::feasible::Infeasible;
use scheduler::why::{Change, Explanation, Remedy, explain, waits_for_alloc};
use scheduler::{Accounting, Plan, Slot, Snapshot, UsageRatio, pass};
use serde_json::{Value, json};

use crate::cells::{
    ACCOUNTINGS, SMALL, all_tasks, borg_policies, build, cases, cells, options, pack_recorded,
};
use crate::model;

/// What is said of `j/0`, which waits beside what is recorded.
fn explained(machines: &[Value], jobs: &[Value]) -> Explanation {
    let cell = build(machines, &[], jobs);
    let plan = pack_recorded(&cell, "borg-hybrid", 1);
    explain(&plan.end, cell.find_task("j/0").unwrap())
}

fn check(
    machines: &[Value],
    job: &Value,
    ruled_out: &[(Infeasible, usize)],
    changes: &[(Remedy, usize)],
) {
    let explanation = explained(machines, std::slice::from_ref(job));
    assert_eq!(explanation.ruled_out, ruled_out);
    assert_eq!(explanation.feasible_count, 0);
    assert_eq!(ruled_out.iter().map(|(_, count)| count).sum::<usize>(), explanation.host_count);
    let found: Vec<(Remedy, usize)> = explanation
        .changes
        .into_iter()
        .map(|Change { what, host_count }| (what, host_count))
        .collect();
    assert_eq!(found, changes);
}

fn job(fields: Value) -> Value {
    let mut job = json!({"name": "j", "limit": {"cpu": 1, "ram": 10}});
    for (field, value) in fields.as_object().unwrap() {
        job[field] = value.clone();
    }
    job
}

#[test]
fn each_resource_is_a_reason_and_the_least_of_it_a_change() {
    let machines = [
        json!({"name": "a", "count": 2, "cpu": 4, "ram": 90, "disk": 50}),
        json!({"name": "b", "cpu": 3, "ram": 200, "disk": 50}),
    ];
    // 100 of RAM on machines of 90: 10 less opens both; b has it.
    check(
        &machines[..1],
        &job(json!({"limit": {"cpu": 1, "ram": 100}})),
        &[(Infeasible::Ram, 2)],
        &[(Remedy::LessRam(10), 2)],
    );
    // 4 CPU: b lacks one of them, a 10 of 100 bytes. A tenth is less than a quarter.
    check(
        &machines,
        &job(json!({"limit": {"cpu": 4, "ram": 100}})),
        &[(Infeasible::Cpu, 1), (Infeasible::Ram, 2)],
        &[(Remedy::LessRam(10), 2), (Remedy::LessCpu(1000), 1)],
    );
    check(
        &machines,
        &job(json!({"limit": {"cpu": 1, "ram": 1, "disk": 60}})),
        &[(Infeasible::Disk, 3)],
        &[(Remedy::LessDisk(10), 3)],
    );
    // Too much of everything: the first reason counts, and no single change helps.
    check(
        &machines,
        &job(json!({"limit": {"cpu": 9, "ram": 900, "disk": 900}})),
        &[(Infeasible::Cpu, 3)],
        &[],
    );
}

#[test]
fn gpus_are_a_reason_by_the_device() {
    let machines = [
        json!({"name": "a", "cpu": 8, "ram": 100, "gpus": 2}),
        json!({"name": "b", "cpu": 8, "ram": 100}),
    ];
    // Of a's two devices, one is free: `used` has 600 of the other.
    let used = json!({"name": "used", "limit": {"cpu": 1, "ram": 1, "gpu": {"count": 1, "milli": 600}},
        "tasks": [{"index": 0, "machine": "a"}]});
    let both = job(json!({"limit": {"cpu": 1, "ram": 1, "gpu": {"count": 2}}}));
    let explanation = explained(&machines, &[used.clone(), both]);
    assert_eq!(explanation.ruled_out, [(Infeasible::Gpu, 2)]);
    assert_eq!(explanation.changes, [Change { what: Remedy::GpuDevices(1), host_count: 1 }]);
    // With the second taken, 400 and 300 are left.
    let taken = json!({"name": "taken", "limit": {"cpu": 1, "ram": 1, "gpu": {"count": 1, "milli": 700}},
        "tasks": [{"index": 0, "machine": "a"}]});
    let share = job(json!({"limit": {"cpu": 1, "ram": 1, "gpu": {"count": 1, "milli": 500}}}));
    let explanation = explained(&machines, &[used, taken, share]);
    assert_eq!(explanation.ruled_out, [(Infeasible::Gpu, 2)]);
    assert_eq!(explanation.changes, [Change { what: Remedy::GpuShare(400), host_count: 1 }]);
}

#[test]
fn rules_come_before_resources() {
    let machines = [
        json!({"name": "a", "count": 3, "cpu": 4, "ram": 100, "rack": "r1",
            "attributes": {"os": 5}}),
        json!({"name": "b", "cpu": 4, "ram": 100, "rack": "r2", "attributes": {"os": 6}}),
    ];
    let newer = json!({"attribute": "os", "op": ">", "value": 6});
    check(
        &machines,
        &job(json!({"constraints": [newer]})),
        &[(Infeasible::Constraint("os > 6".into()), 4)],
        &[(Remedy::DropConstraint("os > 6".into()), 4)],
    );
    let both = [
        json!({"attribute": "os", "op": "=", "value": 5}),
        json!({"attribute": "os", "op": "=", "value": 6}),
    ];
    // Each machine breaks one of the two.
    check(
        &machines,
        &job(json!({"constraints": both})),
        &[
            (Infeasible::Constraint("os = 5".into()), 1),
            (Infeasible::Constraint("os = 6".into()), 3),
        ],
        &[
            (Remedy::DropConstraint("os = 6".into()), 3),
            (Remedy::DropConstraint("os = 5".into()), 1),
        ],
    );
    let there = |fields: Value| {
        let mut job = job(fields);
        job["count"] = json!(2);
        job["tasks"] = json!([{"index": 1, "machine": "b"}]);
        job
    };
    check(
        &machines[1..],
        &there(json!({"different_machines": true})),
        &[(Infeasible::DifferentMachines, 1)],
        &[(Remedy::AllowSameMachine, 1)],
    );
    check(
        &machines[1..],
        &there(json!({"spread": [{"domain": "rack", "max_per_domain": 1}]})),
        &[(Infeasible::Spread(cell::DomainKind::Rack), 1)],
        &[(Remedy::RaiseSpread(cell::DomainKind::Rack), 1)],
    );
    // A rule and too little CPU: no single change.
    check(
        &machines[1..],
        &there(json!({"different_machines": true, "limit": {"cpu": 3, "ram": 1}})),
        &[(Infeasible::DifferentMachines, 1)],
        &[],
    );
}

/// Borg §5.5: reservations fit, and production's limits do not.
#[test]
fn limits_of_production_are_a_reason_of_their_own() {
    let cell = build(
        &[json!({"name": "m", "cpu": 8, "ram": 100})],
        &[],
        &[
            json!({"name": "web", "limit": {"cpu": 6, "ram": 60},
                "tasks": [{"index": 0, "machine": "m"}]}),
            json!({"name": "cpu", "limit": {"cpu": 3, "ram": 10}}),
            json!({"name": "ram", "limit": {"cpu": 1, "ram": 50}}),
            json!({"name": "batch", "priority": 100, "limit": {"cpu": 3, "ram": 50}}),
        ],
    );
    let half = Accounting::Reclaimed(UsageRatio { cpu_permille: 500, ram_permille: 500 });
    let snapshot = Snapshot::recorded(&cell, &Slot::all(&cell), half);
    let check = |task, reason, remedy| {
        let explanation = explain(&snapshot, cell.find_task(task).unwrap());
        assert_eq!(explanation.ruled_out, [(reason, 1)], "{task}");
        assert_eq!(explanation.changes, [Change { what: remedy, host_count: 1 }], "{task}");
    };
    check("cpu/0", Infeasible::ProductionCpu, Remedy::LessCpu(1000)); // 6 + 3 of 8
    check("ram/0", Infeasible::ProductionRam, Remedy::LessRam(10)); // 60 + 50 of 100
    // 3 + 1.5 of 8, 30 + 25 of 100.
    assert_eq!(explain(&snapshot, cell.find_task("batch/0").unwrap()).feasible_count, 1);
}

#[test]
fn a_task_may_wait_for_an_alloc() {
    let cell = build(
        &[json!({"name": "m", "cpu": 4, "ram": 100})],
        &[json!({"name": "set", "limit": {"cpu": 8, "ram": 10}})],
        &[json!({"name": "j", "limit": {"cpu": 1, "ram": 1}, "alloc_set": "set"})],
    );
    let plan = pack_recorded(&cell, "borg-hybrid", 1);
    let task = cell.find_task("j/0").unwrap();
    assert!(waits_for_alloc(&plan.end, task));
    assert_eq!(explain(&plan.end, task).host_count, 0);
    assert!(!waits_for_alloc(&plan.end, cell.find_task("set/0").unwrap()));
}

/// The cell with a change made, or with one that is smaller by `one_less`.
fn changed(cell: &Cell, task: TaskId, what: &Remedy, one_less: u64) -> Cell {
    let mut cell = cell.clone();
    let job = &mut cell.jobs[task.job.index()];
    let limit = &mut job.tasks[task.position as usize].limit;
    let less = |amount: &mut u64, less: i64| {
        *amount -= u64::try_from(less).unwrap() - one_less;
    };
    match what {
        Remedy::LessCpu(by) => less(&mut limit.cpu.0, *by),
        Remedy::LessRam(by) => less(&mut limit.ram.0, *by),
        Remedy::LessDisk(by) => less(&mut limit.disk.0, *by),
        Remedy::GpuShare(milli) => limit.gpu.milli_each.0 = milli + one_less,
        Remedy::GpuDevices(count) => limit.gpu.count = count + u32::try_from(one_less).unwrap(),
        Remedy::DropConstraint(text) => {
            job.constraints.retain(|constraint| {
                constraint.strength != Strength::Hard || constraint.to_string() != *text
            });
        }
        Remedy::AllowSameMachine => job.different_machines = false,
        Remedy::RaiseSpread(domain) => {
            for spread in job.spread.iter_mut().filter(|spread| spread.domain == *domain) {
                spread.max_per_domain = spread.max_per_domain.map(|max| max + 1);
            }
        }
    }
    cell
}

/// Hosts that could run the task in the state that a plan from scratch leads to, but for `cell`.
fn feasible_in(cell: &Cell, plan: &Plan<'_>, task: TaskId) -> usize {
    let mut snapshot = Snapshot::empty(cell, &Slot::all(cell), plan.end.accounting());
    for assignment in &plan.assignments {
        snapshot.place_on(assignment.task, assignment.row, Some(assignment.gpu_devices));
    }
    model::feasible_rows(&snapshot, task).len()
}

fn check_changes(plan: &Plan<'_>, task: TaskId) -> Result<(), TestCaseError> {
    let cell = plan.end.cell();
    let explanation = explain(&plan.end, task);
    let ruled_out: usize = explanation.ruled_out.iter().map(|(_, count)| count).sum();
    prop_assert_eq!(ruled_out + explanation.feasible_count, explanation.host_count);
    prop_assert!(explanation.ruled_out.is_sorted_by_key(|(reason, _)| reason));
    for Change { what, host_count } in &explanation.changes {
        let opened = feasible_in(&changed(cell, task, what, 0), plan, task);
        prop_assert_eq!(opened, *host_count, "{} with {:?}", cell.task_name(task), what);
        let is_amount = !matches!(
            what,
            Remedy::DropConstraint(_) | Remedy::AllowSameMachine | Remedy::RaiseSpread(_)
        );
        if is_amount {
            let opened = feasible_in(&changed(cell, task, what, 1), plan, task);
            prop_assert_eq!(opened, 0, "{}: less than {:?}", cell.task_name(task), what);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn a_change_places_the_task_and_none_smaller_of_its_kind_does(
        text in cells(SMALL),
        seed in any::<u64>(),
        accounting in proptest::sample::select(ACCOUNTINGS.to_vec()),
    ) {
        let cell = text.build();
        for policy in borg_policies() {
            let empty = Snapshot::empty(&cell, &Slot::all(&cell), accounting);
            let plan = pass(&empty, &all_tasks(&cell), &options(policy, seed));
            for &task in &plan.pending {
                check_changes(&plan, task)?;
            }
        }
    }
}
