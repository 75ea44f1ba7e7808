//! Preemption: minimal, lowest priority first, never production. Borg §2.5, §3.2.

use std::collections::BTreeSet;

use cell::TaskId;
use proptest::prelude::{TestCaseError, any, prop_assert, prop_assert_eq, proptest};
use scheduler::{Plan, Slot, Snapshot, pass, policies};
use serde_json::{Value, json};

use crate::cells::{
    ACCOUNTINGS, SMALL, all_tasks, borg_policies, build, cases, cells, host_of, options,
    pack_recorded,
};
use crate::model;

/// The priority that counts for a victim: of an alloc, the highest of it and of what runs in it.
fn importance(now: &Snapshot<'_>, task: TaskId) -> u16 {
    let cell = now.cell();
    let of = |id: TaskId| cell.job(id.job).priority.get();
    let inside = cell.tasks().filter(|(id, _, _)| {
        let placement = now.placement(*id);
        placement.is_some_and(|placement| now.alloc(placement.row) == Some(task))
    });
    inside.map(|(id, _, _)| of(id)).fold(of(task), u16::max)
}

/// The tasks on a row that may be preempted by one of this priority.
fn evictable(now: &Snapshot<'_>, row: usize, priority: u16) -> Vec<TaskId> {
    let may = |id: &&TaskId| importance(now, **id) < priority.min(120);
    now.tasks_on(row).iter().filter(may).copied().collect()
}

/// The lowest priority up to which tasks have to leave a row to make room; `None`: that is not enough.
fn threshold(now: &Snapshot<'_>, task: TaskId, row: usize) -> Option<u16> {
    let priority = now.cell().job(task.job).priority.get();
    let candidates = evictable(now, row, priority);
    let levels: BTreeSet<u16> = candidates.iter().map(|&id| importance(now, id)).collect();
    levels.into_iter().find(|&level| {
        let leaving: Vec<TaskId> =
            candidates.iter().copied().filter(|&id| importance(now, id) <= level).collect();
        model::has_room(now, task, row, &leaving)
    })
}

/// Replays a plan, and checks the victims of each assignment. Returns how many there were.
fn check(start: &Snapshot<'_>, plan: &Plan<'_>) -> Result<usize, TestCaseError> {
    let cell = start.cell();
    let mut now = start.clone();
    let mut count = 0;
    for assignment in &plan.assignments {
        let (task, row, victims) = (assignment.task, assignment.row, &assignment.victims);
        let priority = cell.job(task.job).priority.get();
        prop_assert!(model::keeps_rules(&now, task, row));
        prop_assert!(model::has_room(&now, task, row, victims));
        if !victims.is_empty() {
            count += victims.len();
            prop_assert!(model::feasible_rows(&now, task).is_empty(), "it had room elsewhere");
            for victim in victims {
                prop_assert!(importance(&now, *victim) < priority);
                prop_assert!(importance(&now, *victim) < 120, "a victim is production");
                prop_assert_eq!(now.placement(*victim).map(|placement| placement.row), Some(row));
                let others: Vec<TaskId> =
                    victims.iter().copied().filter(|other| other != victim).collect();
                prop_assert!(!model::has_room(&now, task, row, &others), "a victim can be spared");
            }
            let of = |id: &TaskId| importance(&now, *id);
            prop_assert!(victims.is_sorted_by_key(of), "not lowest first");
            // No other host would have let it off with victims that matter less.
            let rows = model::host_rows(&now, task);
            let least = rows
                .into_iter()
                .filter(|&row| model::keeps_rules(&now, task, row))
                .filter_map(|row| threshold(&now, task, row))
                .min();
            prop_assert_eq!(victims.iter().map(of).max(), least);
            for victim in victims {
                now.remove(*victim);
            }
        }
        now.place_on(task, row, Some(assignment.gpu_devices));
    }
    for (id, _, _) in cell.tasks() {
        prop_assert_eq!(now.placement(id), plan.end.placement(id));
    }
    Ok(count)
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn victims_are_few_and_matter_least(
        text in cells(SMALL),
        seed in any::<u64>(),
        accounting in proptest::sample::select(ACCOUNTINGS.to_vec()),
    ) {
        let cell = text.build();
        for policy in borg_policies() {
            let options = options(policy, seed);
            let empty = Snapshot::empty(&cell, &Slot::all(&cell), accounting);
            // What matters less first, so that the rest has something to preempt.
            let (first, second): (Vec<TaskId>, Vec<TaskId>) = all_tasks(&cell)
                .into_iter()
                .partition(|id| cell.job(id.job).priority.get() < 117);
            let before = pass(&empty, &first, &options);
            let after = pass(&before.end, &second, &options);
            check(&empty, &before)?;
            check(&before.end, &after)?;
        }
    }
}

/// The property above would hold of a scheduler that never preempts.
#[test]
fn random_cells_do_preempt() {
    use proptest::strategy::{Strategy, ValueTree};
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut victims = 0;
    for _ in 0..20 {
        let cell = cells(SMALL).new_tree(&mut runner).unwrap().current().build();
        let empty = Snapshot::empty(&cell, &Slot::all(&cell), ACCOUNTINGS[0]);
        let options = options(policies().remove(0), 1);
        let (first, second): (Vec<TaskId>, Vec<TaskId>) =
            all_tasks(&cell).into_iter().partition(|id| cell.job(id.job).priority.get() < 117);
        let before = pass(&empty, &first, &options);
        victims += check(&before.end, &pass(&before.end, &second, &options)).unwrap();
    }
    assert!(victims > 20, "{victims}");
}

/// A machine of 8 CPU where tasks of (name, priority, CPU) run, and one of 8 CPU that waits. Says who
/// lost its place.
fn check_victims(running: &[(&str, u16, u32)], waiting: (u16, u32), expected: &[&str]) {
    let job = |name: &str, priority: u16, cpu: u32, tasks: Value| {
        json!({"name": name, "priority": priority, "limit": {"cpu": cpu, "ram": 1},
            "tasks": tasks})
    };
    let mut jobs: Vec<Value> = running
        .iter()
        .map(|(name, priority, cpu)| {
            job(name, *priority, *cpu, json!([{"index": 0, "machine": "m"}]))
        })
        .collect();
    jobs.push(job("wants", waiting.0, waiting.1, json!([])));
    let cell = build(&[json!({"name": "m", "cpu": 8, "ram": 100})], &[], &jobs);
    for policy in borg_policies() {
        let plan = pack_recorded(&cell, policy.name(), 1);
        let gone: Vec<&str> = running
            .iter()
            .map(|(name, _, _)| *name)
            .filter(|name| host_of(&plan, &format!("{name}/0")) == "-")
            .collect();
        assert_eq!(gone, expected, "{}", policy.name());
        let placed = host_of(&plan, "wants/0") == "m";
        assert_eq!(placed, !expected.is_empty(), "{}", policy.name());
    }
}

#[test]
fn the_lowest_band_goes_first() {
    check_victims(&[("batch", 100, 4), ("free", 0, 4)], (200, 4), &["free"]);
    check_victims(&[("mid", 117, 4), ("batch", 100, 4)], (360, 4), &["batch"]);
    check_victims(&[("batch", 100, 4), ("free", 0, 4)], (200, 5), &["batch", "free"]);
}

#[test]
fn of_equal_priority_few_large_ones_go() {
    check_victims(&[("small", 100, 1), ("large", 100, 4), ("tiny", 100, 1)], (200, 6), &["large"]);
}

#[test]
fn who_can_be_spared_is_spared() {
    // 8 used. 5 wanted: `free` (1) and then `batch` (6) would leave; `batch` alone is enough.
    check_victims(&[("free", 0, 1), ("batch", 100, 6), ("web", 200, 1)], (200, 5), &["batch"]);
}

#[test]
fn production_never_preempts_production() {
    // Borg §2.5: so that there are no cascades.
    check_victims(&[("web", 130, 8)], (200, 8), &[]);
    check_victims(&[("web", 120, 8)], (360, 8), &[]);
    check_victims(&[("watch", 360, 8)], (450, 8), &[]);
    // The 4 beside production are not enough for 5, and are enough for 4.
    check_victims(&[("web", 120, 4), ("batch", 115, 4)], (450, 5), &[]);
    check_victims(&[("web", 120, 4), ("batch", 115, 4)], (450, 4), &["batch"]);
}

#[test]
fn equal_and_higher_priority_is_safe() {
    check_victims(&[("batch", 100, 8)], (100, 8), &[]);
    check_victims(&[("batch", 101, 8)], (100, 8), &[]);
    check_victims(&[("batch", 100, 8)], (101, 8), &["batch"]);
}

#[test]
fn a_victim_goes_back_to_the_queue_and_may_be_placed_elsewhere() {
    // Only `a` has the disk that `web` asks for; `batch` moves to `b`, and chases `free` from there.
    let cell = build(
        &[
            json!({"name": "a", "cpu": 8, "ram": 100, "disk": 10}),
            json!({"name": "b", "cpu": 8, "ram": 100, "disk": 1}),
        ],
        &[],
        &[
            json!({"name": "batch", "priority": 100, "limit": {"cpu": 8, "ram": 1},
                "tasks": [{"index": 0, "machine": "a"}]}),
            json!({"name": "free", "priority": 0, "limit": {"cpu": 1, "ram": 1},
                "tasks": [{"index": 0, "machine": "b"}]}),
            json!({"name": "web", "limit": {"cpu": 8, "ram": 1, "disk": 10}}),
        ],
    );
    for policy in policies() {
        let plan = pack_recorded(&cell, policy.name(), 1);
        let hosts = ["web/0", "batch/0", "free/0"].map(|task| host_of(&plan, task));
        assert_eq!(hosts, ["a", "b", "-"], "{}", policy.name());
        assert_eq!(plan.pending, [cell.find_task("free/0").unwrap()]);
    }
}
