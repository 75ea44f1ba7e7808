//! The weighted terms beside the score proper, each where all else is equal, through a pass.

use scheduler::policies;
use serde_json::{Value, json};

use crate::cells::{build, host_of, is_borgs, pack, pack_recorded};

/// Under every Borg policy and several seeds (which break ties), `j/0` goes to `expected`.
fn check(machines: &[Value], jobs: &[Value], expected: &str) {
    let cell = build(machines, &[], jobs);
    for policy in policies().into_iter().filter(is_borgs) {
        for seed in 0..8 {
            let plan = pack_recorded(&cell, policy.name(), seed);
            assert_eq!(host_of(&plan, "j/0"), expected, "{} with seed {seed}", policy.name());
        }
    }
}

fn machine(name: &str) -> Value {
    json!({"name": name, "cpu": 8, "ram": 100, "rack": format!("rack-{name}")})
}

fn with(mut object: Value, fields: Value) -> Value {
    for (field, value) in fields.as_object().unwrap() {
        object[field] = value.clone();
    }
    object
}

fn job(fields: Value) -> Value {
    with(json!({"name": "j", "limit": {"cpu": 1, "ram": 10}}), fields)
}

/// A task that runs on a machine.
fn running(name: &str, priority: u16, machine: &str) -> Value {
    json!({"name": name, "priority": priority, "limit": {"cpu": 2, "ram": 25},
        "tasks": [{"index": 0, "machine": machine}]})
}

#[test]
fn packages_that_are_there_decide_between_equal_machines() {
    let warm = with(machine("b"), json!({"packages": ["web", "base"]}));
    let luke = with(machine("c"), json!({"packages": ["base"]}));
    let j = job(json!({"packages": ["base", "web"]}));
    check(&[machine("a"), warm.clone(), luke.clone()], std::slice::from_ref(&j), "b"); // 2 of 2
    check(&[machine("a"), luke], &[j], "c"); // 1 of 2
    // What came with a task stays useful: `other` brought the package to b.
    let with_package = |machine| with(running("other", 200, machine), json!({"packages": ["web"]}));
    let plain = with(running("plain", 200, "a"), json!({}));
    let j = job(json!({"packages": ["web"]}));
    check(&[machine("a"), machine("b")], &[with_package("b"), plain, j], "b");
}

#[test]
fn soft_constraints_are_weighed_and_rule_nothing_out() {
    let with_ssd = with(machine("b"), json!({"attributes": {"ssd": true}}));
    let with_gen = with(machine("c"), json!({"attributes": {"gen": 3}}));
    let machines = [machine("a"), with_ssd, with_gen];
    let soft = |ssd: u32, generation: u32| {
        job(json!({"constraints": [
            {"attribute": "ssd", "op": "exists", "soft": ssd},
            {"attribute": "gen", "op": ">", "value": 2, "soft": generation}]}))
    };
    check(&machines, &[soft(2, 1)], "b");
    check(&machines, &[soft(1, 2)], "c");
    // Nothing holds anywhere: it runs all the same.
    check(&machines[..1], &[soft(1, 2)], "a");
    // A soft constraint outweighs the fit: b holds it, though a is the better fit or the emptier.
    let other = |on| running("other", 200, on);
    check(&machines[..2], &[other("a"), soft(1, 1)], "b");
    check(&machines[..2], &[other("b"), soft(1, 1)], "b");
}

#[test]
fn a_job_prefers_domains_where_it_has_fewer() {
    // Two racks; one task of the job runs in rack-a. The next goes to rack-b, best fit or not.
    let j = job(json!({"name": "j", "count": 2, "spread": [{"domain": "rack"}],
        "tasks": [{"index": 1, "machine": "a"}]}));
    check(&[machine("a"), machine("b")], std::slice::from_ref(&j), "b");
    // Also where the other machine is fuller.
    check(&[machine("a"), machine("b")], &[j.clone(), running("other", 200, "b")], "b");
    // No rack counts as a rack with none of the job in it.
    let bare = json!({"name": "b", "cpu": 8, "ram": 100});
    check(&[machine("a"), bare], &[j], "b");
}

#[test]
fn production_and_the_rest_mix() {
    // a runs a batch task, b production of the same size: the fit is equal, the neighbour is not.
    let there = [running("batch", 100, "a"), running("web", 200, "b")];
    let machines = [machine("a"), machine("b")];
    let next = |priority: u16| {
        let mut jobs = there.to_vec();
        jobs.push(job(json!({"priority": priority})));
        jobs
    };
    for production in [120, 200, 359, 360, 450] {
        check(&machines, &next(production), "a");
    }
    for other in [0, 100, 119] {
        check(&machines, &next(other), "b");
    }
}

/// Hard maxima, which no term outweighs: one a rack, and the third of three racks is full.
#[test]
fn spread_maxima_rule_out() {
    let machines = [machine("a"), machine("b")];
    let jobs = [json!({"name": "j", "count": 3, "limit": {"cpu": 1, "ram": 1},
        "spread": [{"domain": "rack", "max_per_domain": 1}]})];
    let cell = build(&machines, &[], &jobs);
    for policy in policies() {
        let plan = pack(&cell, policy.name(), 5);
        assert_eq!((plan.assignments.len(), plan.pending.len()), (2, 1), "{}", policy.name());
    }
}
