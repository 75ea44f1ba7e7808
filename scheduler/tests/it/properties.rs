//! Properties of a pass on random small cells, for every policy and accounting.

use std::collections::BTreeSet;

use cell::{Cell, TaskId};
use proptest::prelude::{TestCaseError, any, prop_assert, prop_assert_eq, proptest};
use proptest::prop_assume;
use proptest::sample::select;
use scheduler::{
    Accounting, Assignment, Examine, PassOptions, Plan, Policy, Slot, Snapshot, Speed, pass,
    policies,
};
use serde_json::json;

use crate::cells::{
    ACCOUNTINGS, SMALL, Size, all_tasks, borg_policies, build, cases, cells, options, part, policy,
};
use crate::model;

/// Every policy of Borg's, and some of their variants that look at fewer hosts.
fn variants() -> Vec<Policy> {
    let mut all = borg_policies();
    for enough in [1, 3] {
        all.push(relaxed("borg-hybrid", enough));
    }
    all
}

fn relaxed(name: &str, enough: usize) -> Policy {
    let mut policy = policy(name);
    policy.examine = Examine::Relaxed { enough };
    policy
}

/// A plan from scratch, and one for the tasks of a first half with the rest placed on top of it: the
/// second preempts.
fn plan_in_two_steps<'c>(
    cell: &'c Cell,
    accounting: Accounting,
    options: &PassOptions<'_>,
) -> (Plan<'c>, Plan<'c>) {
    let empty = Snapshot::empty(cell, &Slot::all(cell), accounting);
    let (second, first): (Vec<TaskId>, Vec<TaskId>) =
        all_tasks(cell).into_iter().partition(|id| !is_in_first_half(*id));
    let first = pass(&empty, &first, options);
    let second = pass(&first.end, &second, options);
    (first, second)
}

/// Alloc sets, so that jobs find their envelopes, and every second job.
fn is_in_first_half(id: TaskId) -> bool {
    id.job.0.is_multiple_of(2)
}

fn outcome(plan: &Plan<'_>) -> (Vec<Assignment>, Vec<TaskId>, Vec<Option<scheduler::Placement>>) {
    let placements = plan.end.cell().tasks().map(|(id, _, _)| plan.end.placement(id)).collect();
    (plan.assignments.clone(), plan.pending.clone(), placements)
}

fn check_plan(plan: &Plan<'_>, queued: &BTreeSet<TaskId>) -> Result<(), TestCaseError> {
    let wrong = model::violations(&plan.end);
    prop_assert!(wrong.is_empty(), "{:?}", wrong);
    prop_assert_eq!(plan.end.check_sums(), None);
    prop_assert!(plan.is_complete);
    // Each task waits, or has a place, and not both; what is placed was there or was assigned.
    let pending: BTreeSet<TaskId> = plan.pending.iter().copied().collect();
    prop_assert_eq!(pending.len(), plan.pending.len(), "a task is pending twice");
    let evicted: BTreeSet<TaskId> =
        plan.assignments.iter().flat_map(|assignment| &assignment.victims).copied().collect();
    for &task in queued.iter().chain(&evicted) {
        prop_assert_ne(plan.end.placement(task).is_some(), pending.contains(&task))?;
    }
    // Without preemption, each task at most once.
    if evicted.is_empty() {
        let assigned: BTreeSet<TaskId> =
            plan.assignments.iter().map(|assignment| assignment.task).collect();
        prop_assert_eq!(assigned.len(), plan.assignments.len());
        prop_assert_eq!(assigned.len() + pending.len(), queued.len());
    }
    Ok(())
}

fn prop_assert_ne(placed: bool, pending: bool) -> Result<(), TestCaseError> {
    prop_assert!(placed != pending, "placed: {}, pending: {}", placed, pending);
    Ok(())
}

/// What is pending fits nowhere: nothing that is decided after it, which is of its priority or below,
/// leaves more room for it than there was, counting what it could have preempted.
fn check_pending(plan: &Plan<'_>) -> Result<(), TestCaseError> {
    for &task in &plan.pending {
        let explanation = scheduler::why::explain(&plan.end, task);
        let ruled_out: usize = explanation.ruled_out.iter().map(|(_, count)| count).sum();
        prop_assert_eq!(ruled_out + explanation.feasible_count, explanation.host_count);
        prop_assert_eq!(explanation.host_count, model::host_rows(&plan.end, task).len());
        let feasible = model::feasible_rows(&plan.end, task);
        prop_assert_eq!(explanation.feasible_count, feasible.len());
        let name = plan.end.cell().task_name(task);
        prop_assert!(feasible.is_empty(), "{} would fit on {:?}", name, feasible);
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(250))]

    #[test]
    fn a_plan_keeps_every_rule(text in cells(SMALL), seed in any::<u64>()) {
        let cell = text.build();
        let queued: BTreeSet<TaskId> = all_tasks(&cell).into_iter().collect();
        for accounting in ACCOUNTINGS {
            for policy in variants() {
                let options = options(policy, seed);
                let empty = Snapshot::empty(&cell, &Slot::all(&cell), accounting);
                let plan = pass(&empty, &all_tasks(&cell), &options);
                check_plan(&plan, &queued)?;
                check_pending(&plan)?;
                prop_assert_eq!(outcome(&plan), outcome(&pass(&empty, &all_tasks(&cell), &options)));
            }
        }
    }

    #[test]
    fn a_plan_that_preempts_keeps_every_rule(
        text in cells(SMALL),
        seed in any::<u64>(),
        accounting in select(ACCOUNTINGS.to_vec()),
    ) {
        let cell = text.build();
        let later: BTreeSet<TaskId> =
            all_tasks(&cell).into_iter().filter(|&id| !is_in_first_half(id)).collect();
        for policy in variants() {
            let options = options(policy, seed);
            let (_, plan) = plan_in_two_steps(&cell, accounting, &options);
            check_plan(&plan, &later)?;
            check_pending(&plan)?;
        }
    }

    #[test]
    fn switches_of_speed_change_nothing(
        text in cells(SMALL),
        seed in any::<u64>(),
        accounting in select(ACCOUNTINGS.to_vec()),
    ) {
        let cell = text.build();
        for policy in variants() {
            check_switches(&cell, accounting, policy, seed)?;
        }
    }
}

/// The model of these tests looked for its row without end: an alloc that is charged nothing has no free fraction.
#[test]
fn a_plan_of_allocs_that_use_nothing_keeps_every_rule() {
    let mut cell = build(
        &[json!({"name": "m0", "cpu": 1, "ram": 100})],
        &[json!({"name": "set", "priority": 0, "count": 3, "limit": {"cpu": 2, "ram": 300}})],
        &[json!({"name": "j", "priority": 0, "count": 3, "limit": {}, "alloc_set": "set"})],
    );
    let tasks = all_tasks(&cell);
    for &id in &tasks {
        let task = &mut cell.jobs[id.job.index()].tasks[id.position as usize];
        task.reservation = Some(part(task.limit, 0));
    }
    for accounting in ACCOUNTINGS {
        for policy in variants() {
            let empty = Snapshot::empty(&cell, &Slot::all(&cell), accounting);
            let plan = pass(&empty, &tasks, &options(policy, 0));
            check_plan(&plan, &tasks.iter().copied().collect()).unwrap();
            check_pending(&plan).unwrap();
        }
    }
}

fn check_switches(
    cell: &Cell,
    accounting: Accounting,
    policy: Policy,
    seed: u64,
) -> Result<(), TestCaseError> {
    let mut options = options(policy, seed);
    let (first, second) = plan_in_two_steps(cell, accounting, &options);
    for switches in 0..7_u8 {
        options.speed = Speed {
            equivalence: switches & 1 != 0,
            cache: switches & 2 != 0,
            index: switches & 4 != 0,
        };
        let (slow_first, slow_second) = plan_in_two_steps(cell, accounting, &options);
        prop_assert_eq!(outcome(&first), outcome(&slow_first), "{:?}", options.speed);
        prop_assert_eq!(outcome(&second), outcome(&slow_second), "{:?}", options.speed);
    }
    Ok(())
}

/// Above 100 machines Kubernetes samples, and tables have more than one block.
const LARGE: Size = Size { machines: 260, jobs: 40, tasks_per_job: 30 };

proptest! {
    #![proptest_config(cases(6))]

    #[test]
    fn switches_of_speed_change_nothing_where_hosts_are_sampled(
        text in cells(LARGE),
        seed in any::<u64>(),
        accounting in select(ACCOUNTINGS.to_vec()),
    ) {
        let cell = text.build();
        prop_assume!(cell.machines.len() > 110);
        let sampled = [1, 20, 90].map(|enough| relaxed("best-fit", enough));
        for policy in policies().into_iter().chain(sampled) {
            check_switches(&cell, accounting, policy, seed)?;
        }
    }
}
