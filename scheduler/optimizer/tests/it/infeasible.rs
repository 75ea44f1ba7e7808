//! What is to blame where a workload cannot be held.

use cell::spec::{CellBuilder, JobSpec, MachineSpec};
use cell::{Cell, JobId, TaskId};
use fauxmaster::{CompactOptions, Compaction};
use optimizer::bound::{Effort, transport};
use optimizer::budget::Budget;
use optimizer::compact;
use optimizer::infeasible::{Blame, CannotBeHeld, Group, rules_out};
use optimizer::proof::model_of;
use scheduler::{Accounting, Policy, Slot, Snapshot, UsageRatio};
use serde_json::{Value, json};
use traces::{Doctor, Trace, Workload};

/// As `small::trace`, with alloc sets.
pub(crate) fn trace(machines: &[Value], alloc_sets: &[Value], jobs: &[Value]) -> Trace {
    let mut builder = CellBuilder::default();
    for machine in machines {
        builder
            .add_machine(&serde_json::from_value::<MachineSpec>(machine.clone()).unwrap())
            .unwrap();
    }
    let job = |job: &Value| -> JobSpec { serde_json::from_value(job.clone()).unwrap() };
    alloc_sets.iter().for_each(|set| builder.add_alloc_set(&job(set)).unwrap());
    jobs.iter().for_each(|spec| builder.add_job(&job(spec)).unwrap());
    Trace {
        source: "test".to_owned(),
        cell: builder.finish(),
        workload: Workload::All,
        doctor: Doctor::default(),
        sha256: String::new(),
    }
}

const RECLAIMED: Accounting = Accounting::Reclaimed(UsageRatio::GOOGLE_2011_SAMPLE);

/// Six machines of 8 CPU and 8 bytes of everything, three on each of two racks; each has one GPU.
fn machines() -> [Value; 2] {
    ["r0", "r1"].map(|rack| {
        json!({"name": rack, "count": 3, "cpu": 8, "ram": 8, "disk": 8, "gpus": 1, "rack": rack,
            "attributes": {"kernel": "6"}})
    })
}

/// A job of production with so many tasks that ask for 1 CPU and 1 byte, and what `more` says.
fn job(name: &str, count: u64, more: Value) -> Value {
    let mut job = json!({"name": name, "user": "u", "priority": 200, "count": count,
        "limit": {"cpu": 1, "ram": 1}});
    for (key, value) in more.as_object().unwrap() {
        job[key] = value.clone();
    }
    job
}

fn kernel(version: &str) -> Value {
    json!([{"attribute": "kernel", "op": "=", "value": version}])
}

fn attribute(text: &str) -> Group {
    Group::Attributes(vec![text.to_owned()])
}

fn first_task(cell: &Cell, job: &str) -> TaskId {
    let index = cell.jobs.iter().position(|of| of.name == job).unwrap();
    TaskId { job: JobId::from_index(index), position: 0 }
}

/// What rules a task out on empty machines.
fn check_task(more: Value, accounting: Accounting, expected: &[Group]) {
    let trace = trace(&machines(), &[], &[job("j", 1, more)]);
    let cell = &trace.cell;
    assert_eq!(rules_out(cell, accounting, first_task(cell, "j"), None), expected);
}

#[test]
fn each_group_by_itself_rules_a_task_out() {
    let limits = Accounting::Limits;
    check_task(json!({}), limits, &[]);
    check_task(json!({"limit": {"cpu": 9}}), limits, &[Group::Cpu]);
    check_task(json!({"limit": {"ram": 9}}), limits, &[Group::Ram]);
    check_task(json!({"limit": {"disk": 9}}), limits, &[Group::Disk]);
    check_task(json!({"limit": {"gpu": {"count": 2}}}), limits, &[Group::Gpu]);
    check_task(json!({"constraints": kernel("7")}), limits, &[attribute("kernel = 7")]);
    // 9 · 0.27 CPU are reserved.
    check_task(json!({"limit": {"cpu": 9}}), RECLAIMED, &[Group::ProductionLimits]);
    check_task(json!({"limit": {"cpu": 9}, "priority": 100}), RECLAIMED, &[]);
    let two = json!({"limit": {"cpu": 9}, "constraints": kernel("7")});
    check_task(two, limits, &[Group::Cpu, attribute("kernel = 7")]);
}

#[test]
fn what_a_job_has_placed_rules_a_task_out() {
    let check = |more: Value, rows: &[usize], expected: &[Group]| {
        let trace = trace(&machines(), &[], &[job("other", 1, json!({})), job("j", 7, more)]);
        let cell = &trace.cell;
        let mut snapshot = Snapshot::empty(cell, &Slot::all(cell), Accounting::Limits);
        let job = first_task(cell, "j").job;
        (1..).zip(rows).for_each(|(position, &row)| snapshot.place(TaskId { job, position }, row));
        let task = first_task(cell, "j");
        assert_eq!(rules_out(cell, Accounting::Limits, task, Some(&snapshot)), expected);
    };
    let apart = json!({"different_machines": true});
    check(apart.clone(), &[0, 1, 2, 3, 4, 5], &[Group::DifferentMachines]);
    check(apart, &[0, 1, 2, 3, 4], &[]);
    let spread = json!({"spread": [{"domain": "rack", "max_per_domain": 1}]});
    check(spread.clone(), &[0, 3], &[Group::Spread]);
    check(spread, &[0], &[]);
}

#[test]
fn a_task_in_an_alloc_set_waits_for_an_alloc() {
    let sets = [job("set", 1, json!({}))];
    let trace = trace(&machines(), &sets, &[job("j", 1, json!({"alloc_set": "set"}))]);
    let cell = &trace.cell;
    let task = first_task(cell, "j");
    assert_eq!(rules_out(cell, Accounting::Limits, task, None), [Group::Allocs]);
    let mut snapshot = Snapshot::empty(cell, &Slot::all(cell), Accounting::Limits);
    snapshot.place(first_task(cell, "set"), 0);
    assert_eq!(rules_out(cell, Accounting::Limits, task, Some(&snapshot)), []);
}

fn options(accounting: Accounting, pending_allowance: f64) -> CompactOptions {
    CompactOptions {
        accounting,
        pending_allowance,
        trials: 2,
        clones: Some(1),
        ..CompactOptions::new(Policy::by_name("borg-hybrid").unwrap(), 1)
    }
}

/// What is to blame by the error of a greedy compaction, and of a bound where that ends as well.
fn blamed(trace: &Trace, options: &CompactOptions) -> (Blame, Option<Blame>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("certificate.json");
    let effort = Effort { rounds: 0, ..Effort::default() };
    let of = |error: anyhow::Error| {
        let error: CannotBeHeld = error.downcast().unwrap();
        assert_eq!(error.to_string().lines().count(), 1);
        error.blame.unwrap()
    };
    let greedy = compact::improve(trace, options, effort, Budget::ZERO, &file, &|_| {});
    let bound = compact::bound(trace, options, effort, &file);
    (of(greedy.unwrap_err()), bound.err().map(of))
}

fn check(trace: &Trace, accounting: Accounting, expected: &[Group], is_together: bool) {
    let (greedy, bound) = blamed(trace, &options(accounting, 0.0));
    assert_eq!((greedy.groups.as_slice(), greedy.is_together), (expected, is_together));
    if let Some(bound) = bound {
        assert_eq!(bound, greedy);
    }
}

#[test]
fn each_group_by_itself_is_named_where_a_workload_cannot_be_held() {
    let limits = Accounting::Limits;
    let of = |more: Value, accounting: Accounting, expected: &[Group]| {
        let jobs = [job("fits", 2, json!({})), job("j", 3, more)];
        let trace = trace(&machines(), &[], &jobs);
        check(&trace, accounting, expected, false);
        let (greedy, _) = blamed(&trace, &options(accounting, 0.0));
        assert_eq!(greedy.jobs, ["j"]);
    };
    of(json!({"limit": {"cpu": 9}}), limits, &[Group::Cpu]);
    of(json!({"limit": {"ram": 9}}), limits, &[Group::Ram]);
    of(json!({"limit": {"disk": 9}}), limits, &[Group::Disk]);
    of(json!({"limit": {"gpu": {"count": 2}}}), limits, &[Group::Gpu]);
    of(json!({"constraints": kernel("7")}), limits, &[attribute("kernel = 7")]);
    of(json!({"limit": {"cpu": 9}}), RECLAIMED, &[Group::ProductionLimits]);
    // Three tasks, and two racks.
    let spread = json!({"spread": [{"domain": "rack", "max_per_domain": 1}]});
    of(spread, limits, &[Group::Spread]);
}

#[test]
fn different_machines_are_to_blame_where_too_few_could_run_the_job() {
    // Of nine machines two are large and new. On one of them two of the three tasks fit.
    let machines = [
        json!({"name": "new", "count": 2, "cpu": 8, "ram": 8, "attributes": {"kernel": "7"}}),
        json!({"name": "old", "count": 7, "cpu": 2, "ram": 8, "attributes": {"kernel": "6"}}),
    ];
    let more = json!({"limit": {"cpu": 3}, "constraints": kernel("7"), "different_machines": true});
    let trace = trace(&machines, &[], &[job("j", 3, more)]);
    check(&trace, Accounting::Limits, &[Group::DifferentMachines], false);
}

#[test]
fn allocs_are_to_blame_where_the_machines_would_do() {
    let sets = [job("set", 1, json!({"limit": {"cpu": 1, "ram": 1, "disk": 1}}))];
    let more = json!({"limit": {"cpu": 2, "disk": 2}, "alloc_set": "set"});
    let trace = trace(&machines(), &sets, &[job("j", 1, more)]);
    check(&trace, Accounting::Limits, &[Group::Allocs], false);
}

#[test]
fn the_pending_allowance_is_to_blame_where_two_tasks_in_a_thousand_fit_nowhere() {
    let jobs = [
        job("small", 998, json!({"limit": {"ram": 0}})),
        job("large", 1, json!({"limit": {"cpu": 9}})),
        job("picky", 1, json!({"constraints": kernel("7")})),
    ];
    let trace = trace(&machines(), &[], &jobs);
    check(&trace, Accounting::Limits, &[Group::PendingAllowance], false);
    assert_eq!(Group::PendingAllowance.to_string(), "a pending allowance below 0.2 %");
}

#[test]
fn groups_that_only_do_together_are_named_together() {
    let more = json!({"limit": {"cpu": 9, "disk": 1}, "constraints": kernel("7")});
    let jobs = [job("a", 1, more.clone()), job("b", 1, more.clone()), job("c", 1, more.clone())];
    let trace = trace(&machines(), &[], &[&jobs[..], &[job("d", 1, more)]].concat());
    check(&trace, Accounting::Limits, &[Group::Cpu, attribute("kernel = 7")], true);
    let (greedy, _) = blamed(&trace, &options(Accounting::Limits, 0.0));
    let said = "because of CPU and kernel = 7 together (for example jobs a, b and c)";
    assert_eq!(greedy.to_string(), said);
}

#[test]
fn a_bound_above_all_machines_blames_what_there_is_too_little_of() {
    let trace = trace(&machines(), &[], &[job("j", 7, json!({"limit": {"cpu": 7}}))]);
    let (greedy, bound) = blamed(&trace, &options(Accounting::Limits, 0.0));
    assert_eq!(greedy.groups, [Group::Cpu]);
    // 7 · 7 CPU on 6 · 8.
    assert_eq!(bound, Some(greedy));
}

#[test]
fn an_lp_without_a_solution_names_what_keeps_tasks_off() {
    let machines = [
        json!({"name": "small", "count": 2, "cpu": 2, "ram": 8}),
        json!({"name": "large", "count": 2, "cpu": 8, "ram": 8}),
    ];
    let trace = trace(&machines, &[], &[job("j", 2, json!({"limit": {"cpu": 3}}))]);
    let options = options(Accounting::Limits, 0.0);
    let compaction = Compaction::new(&trace, &options).unwrap();
    let (model, _) = model_of(&compaction, options.accounting);
    let count_of = |of: &dyn Fn(u64) -> bool| -> Vec<u64> {
        model.machines.iter().map(|m| if of(m.capacity[0]) { m.count } else { 0 }).collect()
    };
    assert!(transport(&model, &count_of(&|_| true)).is_ok());
    let error = transport(&model, &count_of(&|cpu| cpu == 2000)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no prices for the transport bound, as some tasks fit on no machine: because of CPU \
         (for example job j)"
    );
}
