//! Kubernetes' placement against a naive one, in integers, from `reference/kube-scheduler.md`: §2.1
//! (sampling), §7.3 (`LeastAllocated`), §7.4 (`MostAllocated`), §7.6 (`BalancedAllocation`).

use cell::TaskId;
use proptest::prelude::{TestCaseError, any, prop_assert, prop_assert_eq, proptest};
use scheduler::k8s::fit::Strategy;
use scheduler::{Accounting, Base, Examine, Plan, Policy, Slot, Snapshot, pass, policies};
use serde_json::json;

use crate::cells::{ACCOUNTINGS, SMALL, Size, all_tasks, build, cases, cells, options, policy};
use crate::model;

/// §2.1.
fn sample_limit(nodes: usize, percentage: usize) -> usize {
    if nodes < 100 {
        return nodes;
    }
    let q = if percentage > 0 { percentage } else { 5.max(50_usize.saturating_sub(nodes / 125)) };
    100.max(nodes * q / 100)
}

/// CPU and RAM that are used with defaults for pods that do not state them (§1.1).
fn non_zero(snapshot: &Snapshot<'_>, task: TaskId) -> [u64; 2] {
    let unstated = snapshot.cell().task(task).limit.unstated;
    let charge = model::charge(snapshot, task);
    [if unstated.cpu { 100 } else { charge[0] }, if unstated.ram { 209_715_200 } else { charge[1] }]
}

fn total(strategy: Strategy, snapshot: &Snapshot<'_>, task: TaskId, row: usize) -> u64 {
    let allocatable = model::has(snapshot, row).amounts.map(Option::unwrap_or_default);
    let pod = non_zero(snapshot, task);
    let (mut sum, mut count) = (0, 0);
    for r in 0..2 {
        let a = allocatable[r];
        let others: u64 = snapshot.tasks_on(row).iter().map(|&id| non_zero(snapshot, id)[r]).sum();
        let q = others + pod[r];
        if a == 0 {
            continue;
        }
        count += 1;
        sum += match strategy {
            Strategy::LeastAllocated => a.saturating_sub(q) * 100 / a,
            Strategy::MostAllocated => q.min(a) * 100 / a,
        };
    }
    let fit = sum / count.max(1);
    let plain = model::charge(snapshot, task);
    if plain[0] == 0 && plain[1] == 0 {
        return fit;
    }
    let used = model::used(snapshot, row, &[]).amounts;
    let before = balance([used[0], used[1]], allocatable);
    let after = balance([used[0] + plain[0], used[1] + plain[1]], allocatable);
    fit + 50 + (50 + after - before) / 2
}

/// §7.6: trunc((1 - |f_1 - f_2| / 2) · 100), in floats as upstream computes it.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small amounts, and a result in 50..=100"
)]
fn balance(z: [u64; 2], a: [u64; 3]) -> u64 {
    if a[0] == 0 || a[1] == 0 {
        return 100;
    }
    let f = |r: usize| (z[r] as f64 / a[r] as f64).min(1.0);
    ((1.0 - (f(0) - f(1)).abs() / 2.0) * 100.0) as u64
}

/// Replays a plan from scratch, and compares each choice with the set of the best of the sampled nodes.
/// Returns the assignments for which fewer than all feasible nodes were looked at.
fn check(policy: &Policy, start: &Snapshot<'_>, plan: &Plan<'_>) -> Result<usize, TestCaseError> {
    let (Base::Kube(strategy), Examine::Kube { percentage }) = (policy.base, policy.examine) else {
        panic!("not Kubernetes'");
    };
    let cell = start.cell();
    let nodes = start.machine_count();
    let limit = sample_limit(nodes, percentage);
    let mut now = start.clone();
    let (mut first, mut sampled) = (0, 0);
    // An attempt that finds no node visits all of them, and the start comes back to where it was; so
    // pods that stay pending do not matter here.
    for assignment in &plan.assignments {
        let task = assignment.task;
        prop_assert_eq!(assignment.victims.len(), 0);
        let mut feasible = model::feasible_rows(&now, task);
        if cell.job(task.job).alloc_set.is_none() {
            feasible.sort_by_key(|row| (row + nodes - first) % nodes);
            if feasible.len() > limit {
                sampled += 1;
                first = feasible[limit];
                feasible.truncate(limit);
            }
        }
        let scores: Vec<(usize, u64)> =
            feasible.iter().map(|&row| (row, total(strategy, &now, task, row))).collect();
        let best = scores.iter().map(|(_, score)| *score).max();
        let of = scores.iter().find(|(row, _)| *row == assignment.row).map(|(_, score)| *score);
        prop_assert!(of.is_some(), "{} is not sampled", cell.task_name(task));
        prop_assert_eq!(of, best, "{} on {} of {:?}", cell.task_name(task), assignment.row, scores);
        now.place(task, assignment.row);
    }
    Ok(sampled)
}

fn kube_policies() -> Vec<Policy> {
    policies().into_iter().filter(Policy::is_kubernetes).collect()
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn the_node_is_among_the_best(
        text in cells(SMALL),
        seed in any::<u64>(),
        // Kubernetes knows no limits that are promised beside what is charged.
        accounting in proptest::sample::select(vec![ACCOUNTINGS[0], ACCOUNTINGS[2]]),
    ) {
        let cell = text.build();
        for policy in kube_policies() {
            let empty = Snapshot::empty(&cell, &Slot::all(&cell), accounting);
            let plan = pass(&empty, &all_tasks(&cell), &options(policy.clone(), seed));
            prop_assert_eq!(check(&policy, &empty, &plan)?, 0);
        }
    }
}

proptest! {
    #![proptest_config(cases(6))]

    #[test]
    fn the_node_is_among_the_best_of_the_sampled(
        text in cells(Size { machines: 230, jobs: 12, tasks_per_job: 9 }),
        seed in any::<u64>(),
    ) {
        let cell = text.build();
        for policy in kube_policies() {
            let empty = Snapshot::empty(&cell, &Slot::all(&cell), Accounting::Limits);
            let plan = pass(&empty, &all_tasks(&cell), &options(policy.clone(), seed));
            check(&policy, &empty, &plan)?;
        }
    }
}

/// 250 nodes alike, from node 0: 48 % are 120. Each attempt takes 120 nodes and starts behind the last.
#[test]
fn the_start_of_the_sample_rotates() {
    let cell = build(
        &[json!({"name": "m", "count": 250, "cpu": 4, "ram": 1000})],
        &[],
        &[json!({"name": "j", "count": 40, "limit": {"cpu": 1, "ram": 250}})],
    );
    for policy in kube_policies() {
        let empty = Snapshot::empty(&cell, &Slot::all(&cell), Accounting::Limits);
        let plan = pass(&empty, &all_tasks(&cell), &options(policy.clone(), 3));
        let sampled = check(&policy, &empty, &plan).unwrap();
        let Examine::Kube { percentage } = policy.examine else { panic!("Kubernetes' own") };
        assert_eq!(sampled, if percentage == 100 { 0 } else { 40 }, "{}", policy.name());
        if percentage == 0 {
            // 0..120, 120..240, and 240..250 with 0..110: 250 = 2 · 120 + 10.
            let in_sample = |row: usize, start: usize| (row + 250 - start) % 250 < 120;
            for (attempt, assignment) in plan.assignments.iter().take(3).enumerate() {
                assert!(in_sample(assignment.row, attempt * 120 % 250), "attempt {attempt}");
            }
        }
    }
}

/// §1.1: 100 m and 200 MiB where a pod states neither; a stated zero is zero.
#[test]
fn default_requests_count_in_scores_and_not_in_the_filter() {
    // `small` has 50 m of CPU left, less than the default, and takes the pod if it must.
    let check = |machines: &[&str], limit: serde_json::Value, expected: &str| {
        let machine = |name: &&str| match *name {
            "small" => json!({"name": "small", "cpu": "50m", "ram": "1GiB"}),
            name => json!({"name": name, "cpu": 1, "ram": "1GiB"}),
        };
        let machines: Vec<serde_json::Value> = machines.iter().map(machine).collect();
        let cell = build(&machines, &[], &[json!({"name": "j", "limit": limit})]);
        let plan = crate::cells::pack(&cell, policy("kube-default").name(), 1);
        assert_eq!(crate::cells::host_of(&plan, "j/0"), expected);
    };
    check(&["small"], json!({}), "small");
    // CPU left with the default: small 0, large (1000 - 100) · 100 / 1000 = 90.
    check(&["small", "large"], json!({}), "large");
}
