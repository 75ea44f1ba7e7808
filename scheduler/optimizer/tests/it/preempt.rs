//! Preemption for arriving jobs: the bound, the comparison, and the program.

use std::path::Path;
use std::process::{Command, Output};

use fauxmaster::{PackOptions, Start};
use optimizer::budget::Budget;
use optimizer::preempt::compare;
use optimizer::scene::scene;
use proptest::collection::vec;
use proptest::prelude::Strategy;
use proptest::{prop_assert, proptest};
use scheduler::Policy;
use serde_json::{Value, json};
use traces::Trace;

use crate::small::{cases, trace, trace_with_allocs};

const PRIORITIES: [u16; 2] = [200, 110];

/// A full cell of free and batch tasks on up to 4 machines, and tasks of production and batch that
/// arrive.
fn traces() -> impl Strategy<Value = Trace> {
    let machine = vec((1..5_u64, 1..5_u64, 0..2_u64), 1..5);
    (vec(machine, 1..5), vec((2..8_u64, 1..8_u64, 1..3_u64), 1..3)).prop_map(|(on, arriving)| {
        let mut jobs = Vec::new();
        for (row, tasks) in on.iter().enumerate() {
            let (mut cpu, mut ram) = (10, 10);
            for (number, (task_cpu, task_ram, band)) in tasks.iter().enumerate() {
                if *task_cpu <= cpu && *task_ram <= ram {
                    (cpu, ram) = (cpu - task_cpu, ram - task_ram);
                    jobs.push(json!({"name": format!("r{row}-{number}"), "user": "u",
                        "priority": 100 * band, "limit": {"cpu": task_cpu, "ram": task_ram},
                        "tasks": [{"index": 0, "machine": format!("m{row}"),
                            "ran_seconds": 60 * (number + 1)}]}));
                }
            }
        }
        for (number, (cpu, ram, count)) in arriving.iter().enumerate() {
            jobs.push(json!({"name": format!("a{number}"), "user": "u",
                "priority": PRIORITIES[number % 2], "count": count, "limit": {"cpu": cpu, "ram": ram}}));
        }
        let machine = |row: usize| json!({"name": format!("m{row}"), "cpu": 10, "ram": 10});
        trace(&(0..on.len()).map(machine).collect::<Vec<Value>>(), &jobs)
    })
}

fn recorded() -> PackOptions {
    PackOptions {
        start: Start::Recorded,
        ..PackOptions::new(Policy::by_name("borg-hybrid").unwrap(), 1)
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn no_plan_loses_less_than_the_bound(trace in traces()) {
        let options = recorded();
        let scene = scene(&trace, &options, None, None, 0).unwrap();
        let report = compare(&trace, &options, &scene, Budget::Steps(100)).unwrap();
        if let Some(least) = report.work_lost_lower_bound {
            for plan in [&report.greedy, &report.improved] {
                let lost = plan.plan.work_lost_machine_hours;
                prop_assert!(least <= lost + 1e-9, "{least} {report:?}");
            }
        }
        let pending: usize = report.why_pending.values().sum();
        prop_assert!(pending == report.improved.plan.pending_count);
        prop_assert!(!report.why_pending.contains_key(""), "{report:?}");
    }
}

#[test]
fn the_bound_is_what_has_to_be_lost_where_victims_fit_exactly() {
    // Each arriving task takes the place of one running task; the cheapest two have run for 1 and 2 hours.
    let machines = [json!({"name": "m", "count": 3, "cpu": 8, "ram": 8})];
    let runs = |index: u64, hours: u64| json!({"index": index, "machine": format!("m-{index}"), "ran_seconds": hours * 3600});
    let jobs = [
        json!({"name": "runs", "user": "u", "priority": 0, "count": 3, "limit": {"cpu": 8, "ram": 8},
            "tasks": [runs(0, 5), runs(1, 1), runs(2, 2)]}),
        json!({"name": "web", "user": "u", "priority": 200, "count": 2,
            "limit": {"cpu": 8, "ram": 8}}),
    ];
    let trace = trace(&machines, &jobs);
    let options = recorded();
    let scene = scene(&trace, &options, None, None, 0).unwrap();
    let report = compare(&trace, &options, &scene, Budget::Steps(100)).unwrap();
    assert_eq!(report.improved.plan.work_lost_machine_hours, 3.0);
    assert!(report.work_lost_lower_bound.unwrap() > 2.9, "{report:?}");
    assert_eq!(report.improved.victims_by_band["free"], 2);
    assert_eq!(report.improved.cascade_depth, 1);
}

/// The bound of a recorded state with what arrives there, and the least that a plan was found to lose.
fn bound(machines: &[Value], sets: &[Value], jobs: &[Value]) -> (Option<f64>, f64) {
    let trace = trace_with_allocs(machines, sets, jobs);
    let options = recorded();
    let scene = scene(&trace, &options, None, None, 0).unwrap();
    let report = compare(&trace, &options, &scene, Budget::Steps(100)).unwrap();
    let lost = |plan: &optimizer::report::PreemptPlanReport| plan.plan.work_lost_machine_hours;
    (report.work_lost_lower_bound, lost(&report.greedy).min(lost(&report.improved)))
}

#[test]
fn the_bound_knows_that_victims_preempt_in_turn() {
    // t drives v out, v drives w out, and the batch task takes what that leaves.
    let machines =
        [json!({"name": "a", "cpu": 4, "ram": 32}), json!({"name": "b", "cpu": 6, "ram": 16})];
    let job = |name: &str, priority: u64, cpu: u64, ram: u64, on: &str| {
        let tasks = if on.is_empty() { json!([]) } else { json!([{"index": 0, "machine": on}]) };
        json!({"name": name, "user": "u", "priority": priority, "limit": {"cpu": cpu, "ram": ram},
            "tasks": tasks})
    };
    let jobs = [
        job("v", 118, 4, 1, "a"),
        job("w", 110, 6, 1, "b"),
        job("t", 200, 4, 30, ""),
        job("a2", 105, 2, 1, ""),
    ];
    let (least, lost) = bound(&machines, &[], &jobs);
    assert!(least.is_none_or(|least| least <= lost + 1e-9), "{least:?} {lost}");
}

#[test]
fn what_arrives_in_an_alloc_costs_its_machine_nothing() {
    let machines = [json!({"name": "m", "cpu": 8, "ram": 8})];
    let sets =
        [json!({"name": "envelope", "user": "u", "priority": 200, "limit": {"cpu": 6, "ram": 6},
        "tasks": [{"index": 0, "machine": "m"}]})];
    let jobs = [
        json!({"name": "fills", "user": "u", "priority": 0, "limit": {"cpu": 2, "ram": 2},
            "tasks": [{"index": 0, "machine": "m"}]}),
        json!({"name": "inside", "user": "u", "priority": 200, "count": 2, "alloc_set": "envelope",
            "limit": {"cpu": 3, "ram": 3}}),
    ];
    let (least, lost) = bound(&machines, &sets, &jobs);
    assert_eq!((least.unwrap_or(0.0), lost), (0.0, 0.0));
}

fn optimizer(args: &[&str], folder: &Path) -> Output {
    let program = Command::new(env!("CARGO_BIN_EXE_optimizer"));
    { program }.args(args).current_dir(folder).output().unwrap()
}

fn repository(path: &str) -> String {
    format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_program_compares_and_refuses_bad_arrivals_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let arrivals = repository("examples/arrivals.yaml");
    let full =
        ["preempt", "--fill", "0.995", "--budget", "200steps", "--json", "--arrive", &arrivals];
    let output = optimizer(&full, folder.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    for plan in ["greedy", "improved"] {
        for key in ["placed_count", "victim_count", "work_lost_machine_hours", "cascade_depth"] {
            assert!(report[plan][key].is_number(), "{plan} {key}");
        }
    }
    let lost = |plan: &str| report[plan]["work_lost_machine_hours"].as_f64().unwrap();
    assert!(report["is_improved"].as_bool().unwrap() && lost("improved") < lost("greedy"));
    assert!(report["work_lost_lower_bound"].as_f64().unwrap() <= lost("improved"));

    let refused = |text: &str, part: &str| {
        std::fs::write(folder.path().join("jobs.yaml"), text).unwrap();
        let output = optimizer(&["preempt", "--arrive", "jobs.yaml"], folder.path());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(part) && said.lines().count() == 1, "{said}");
    };
    let job = "version: 1\njobs:\n- {name: a, user: u, priority: 200, limit: {cpu: 1, ram: 1GiB}";
    refused(
        "version: 1\nmachines:\n- {name: m, cpu: 1, ram: 1GiB}\n",
        "jobs.yaml:3: field `machines`",
    );
    refused(&format!("{job}, count: 0}}\n"), "jobs.yaml:3: field `count`");
    refused(&format!("{job}, tasks: [{{index: 0, machine: m}}]}}\n"), "does not run yet");
    refused(
        &job.replace("name: a", "name: '515042969'").replace("GiB}", "GiB}}"),
        "is there twice",
    );
    let missing = optimizer(&["preempt", "--arrive", "missing.yaml"], folder.path());
    assert!(String::from_utf8_lossy(&missing.stderr).contains("missing.yaml"));
    let overfull = optimizer(&["preempt", "--fill", "1.5", "--arrive", &arrivals], folder.path());
    assert!(String::from_utf8_lossy(&overfull.stderr).contains("not in 0..=1"));
    assert_eq!((missing.status.code(), overfull.status.code()), (Some(2), Some(2)));
}
