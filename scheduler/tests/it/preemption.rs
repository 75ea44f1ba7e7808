//! Preemption: minimal, lowest priority first, never production, and within each job's limit on disruption.
//! Borg §2.5, §3.2, §4.

use std::collections::{BTreeMap, BTreeSet};

use cell::{JobId, TaskId};
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

/// How many tasks of each job were evicted so far.
type Evicted = BTreeMap<JobId, u32>;

/// Counts an alloc or a task, and what runs in it.
fn count_evicted(now: &Snapshot<'_>, task: TaskId, evicted: &mut Evicted) {
    for (id, _, _) in now.cell().tasks() {
        let row = now.placement(id).map(|placement| placement.row);
        if id == task || row.is_some_and(|row| now.alloc(row) == Some(task)) {
            *evicted.entry(id.job).or_default() += 1;
        }
    }
}

/// Whether these may leave as well, by the limits of all jobs.
fn is_within_limits(now: &Snapshot<'_>, leaving: &[TaskId], evicted: &Evicted) -> bool {
    let mut evicted = evicted.clone();
    leaving.iter().for_each(|&task| count_evicted(now, task, &mut evicted));
    keeps_limits(now, &evicted)
}

fn keeps_limits(now: &Snapshot<'_>, evicted: &Evicted) -> bool {
    evicted
        .iter()
        .all(|(&job, &count)| now.cell().job(job).max_disrupted.is_none_or(|max| count <= max))
}

/// More tasks with a limit than this on a host are not tried in every combination.
const TRIED_MAX: usize = 8;

/// Whether some of the candidates that may leave make room; `None`: too many combinations to tell.
fn some_make_room(
    now: &Snapshot<'_>,
    task: TaskId,
    row: usize,
    candidates: &[TaskId],
    evicted: &Evicted,
) -> Option<bool> {
    if !model::has_room(now, task, row, candidates) {
        return Some(false);
    }
    if is_within_limits(now, candidates, evicted) {
        return Some(true);
    }
    let has_limit = |id: &TaskId| {
        let mut disrupted = Evicted::new();
        count_evicted(now, *id, &mut disrupted);
        disrupted.keys().any(|&job| now.cell().job(job).max_disrupted.is_some())
    };
    let (limited, others): (Vec<TaskId>, Vec<TaskId>) =
        candidates.iter().copied().partition(has_limit);
    (limited.len() <= TRIED_MAX).then(|| {
        (0_u32..1 << limited.len()).any(|chosen| {
            let of_limited = limited.iter().zip(0..).filter(|(_, bit)| chosen >> bit & 1 == 1);
            let leaving: Vec<TaskId> =
                others.iter().copied().chain(of_limited.map(|(&id, _)| id)).collect();
            is_within_limits(now, &leaving, evicted) && model::has_room(now, task, row, &leaving)
        })
    })
}

/// The lowest priority up to which tasks have to leave a row to make room, [`u16::MAX`]: that is not enough.
/// `None`: too many combinations to tell.
fn threshold(now: &Snapshot<'_>, task: TaskId, row: usize, evicted: &Evicted) -> Option<u16> {
    let priority = now.cell().job(task.job).priority.get();
    let candidates = evictable(now, row, priority);
    let levels: BTreeSet<u16> = candidates.iter().map(|&id| importance(now, id)).collect();
    for level in levels {
        let leaving: Vec<TaskId> =
            candidates.iter().copied().filter(|&id| importance(now, id) <= level).collect();
        if some_make_room(now, task, row, &leaving, evicted)? {
            return Some(level);
        }
    }
    Some(u16::MAX)
}

/// What came of a plan.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    victims: usize,
    /// Jobs that lost as many tasks as they may, and at least one.
    at_limit: usize,
}

/// Replays a plan, and checks the victims of each assignment.
fn check(start: &Snapshot<'_>, plan: &Plan<'_>) -> Result<Tally, TestCaseError> {
    let cell = start.cell();
    let mut now = start.clone();
    let mut tally = Tally::default();
    let mut evicted = Evicted::new();
    for assignment in &plan.assignments {
        let (task, row, victims) = (assignment.task, assignment.row, &assignment.victims);
        let priority = cell.job(task.job).priority.get();
        prop_assert!(model::keeps_rules(&now, task, row));
        prop_assert!(model::has_room(&now, task, row, victims));
        if !victims.is_empty() {
            tally.victims += victims.len();
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
            let thresholds: Option<Vec<u16>> = rows
                .into_iter()
                .filter(|&row| model::keeps_rules(&now, task, row))
                .map(|row| threshold(&now, task, row, &evicted))
                .collect();
            if let Some(thresholds) = thresholds {
                prop_assert_eq!(victims.iter().map(of).max(), thresholds.into_iter().min());
            }
            for victim in victims {
                count_evicted(&now, *victim, &mut evicted);
                now.remove(*victim);
            }
            prop_assert!(keeps_limits(&now, &evicted), "more of a job than may be disrupted");
        }
        now.place_on(task, row, Some(assignment.gpu_devices));
    }
    for (id, _, _) in cell.tasks() {
        prop_assert_eq!(now.placement(id), plan.end.placement(id));
    }
    tally.at_limit = evicted
        .iter()
        .filter(|&(&job, &count)| count > 0 && cell.job(job).max_disrupted == Some(count))
        .count();
    Ok(tally)
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
    let (mut victims, mut at_limit) = (0, 0);
    for _ in 0..40 {
        let cell = cells(SMALL).new_tree(&mut runner).unwrap().current().build();
        let empty = Snapshot::empty(&cell, &Slot::all(&cell), ACCOUNTINGS[0]);
        let options = options(policies().remove(0), 1);
        let (first, second): (Vec<TaskId>, Vec<TaskId>) =
            all_tasks(&cell).into_iter().partition(|id| cell.job(id.job).priority.get() < 117);
        let before = pass(&empty, &first, &options);
        let tally = check(&before.end, &pass(&before.end, &second, &options)).unwrap();
        victims += tally.victims;
        at_limit += tally.at_limit;
    }
    assert!(victims > 20 && at_limit > 5, "{victims} victims, {at_limit} jobs at their limit");
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

/// Machines `m-0`, `m-1`, … of 8 CPU, where the jobs' tasks run as they say, and tasks of production of so
/// many CPU arrive. Says who lost its place, as `JOB/INDEX`.
fn check_limits(machine_count: u32, running: &[Value], waiting: &[u32], expected: &[&str]) {
    let mut jobs = running.to_vec();
    for (index, cpu) in waiting.iter().enumerate() {
        jobs.push(json!({"name": format!("web{index}"), "limit": {"cpu": cpu, "ram": 1}}));
    }
    let machines = json!({"name": "m", "count": machine_count, "cpu": 8, "ram": 100});
    let cell = build(&[machines], &[], &jobs);
    for policy in borg_policies() {
        let plan = pack_recorded(&cell, policy.name(), 1);
        let evicted: BTreeSet<String> = plan
            .assignments
            .iter()
            .flat_map(|made| &made.victims)
            .map(|&id| cell.task_name(id))
            .collect();
        let evicted: Vec<&str> = evicted.iter().map(String::as_str).collect();
        assert_eq!(evicted, expected, "{}", policy.name());
    }
}

#[test]
fn a_job_loses_no_more_tasks_than_it_may() {
    let running = |max: Value| {
        json!({"name": "batch", "priority": 100, "count": 2, "limit": {"cpu": 4, "ram": 1},
            "max_disrupted": max,
            "tasks": [{"index": 0, "machine": "m-0"}, {"index": 1, "machine": "m-0"}]})
    };
    let check = |max: Value, waiting: &[u32], expected: &[&str]| {
        check_limits(2, &[running(max), filler()], waiting, expected);
    };
    // `m-1` is full of production.
    check(json!(null), &[8], &["batch/0", "batch/1"]);
    check(json!(2), &[8], &["batch/0", "batch/1"]);
    check(json!(1), &[8], &[]);
    check(json!(1), &[4], &["batch/0"]);
    check(json!(1), &[4, 4], &["batch/0"]);
    check(json!(0), &[4], &[]);
}

fn filler() -> Value {
    json!({"name": "prod", "priority": 130, "limit": {"cpu": 8, "ram": 1},
        "tasks": [{"index": 0, "machine": "m-1"}]})
}

#[test]
fn where_a_limit_is_used_up_more_important_jobs_have_to_leave() {
    let batch = |max: u32| {
        json!({"name": "batch", "priority": 100, "count": 2, "limit": {"cpu": 8, "ram": 1},
            "max_disrupted": max,
            "tasks": [{"index": 0, "machine": "m-0"}, {"index": 1, "machine": "m-1"}]})
    };
    let mid = json!({"name": "mid", "priority": 117, "limit": {"cpu": 8, "ram": 1},
        "tasks": [{"index": 0, "machine": "m-2"}]});
    check_limits(3, &[batch(2), mid.clone()], &[8, 8], &["batch/0", "batch/1"]);
    check_limits(3, &[batch(0), mid.clone()], &[8, 8], &["mid/0"]);
}

#[test]
fn which_of_a_job_may_leave_is_searched_for() {
    // 6 of RAM are missing, and one may leave. The one with more CPU would go first, and has 1 of RAM.
    let batch = json!({"name": "batch", "priority": 100, "count": 2, "limit": {"cpu": 2, "ram": 1},
        "max_disrupted": 1,
        "tasks": [{"index": 0, "machine": "m"}, {"index": 1, "machine": "m",
            "limit": {"cpu": 1, "ram": 10}}]});
    let web = json!({"name": "web", "limit": {"cpu": 1, "ram": 10}});
    let cell = build(&[json!({"name": "m", "cpu": 8, "ram": 15})], &[], &[batch, web]);
    for policy in borg_policies() {
        let plan = pack_recorded(&cell, policy.name(), 1);
        assert_eq!(host_of(&plan, "web/0"), "m", "{}", policy.name());
        assert_eq!(plan.assignments[0].victims, [cell.find_task("batch/1").unwrap()]);
    }
}

#[test]
fn an_alloc_counts_for_its_set_and_what_runs_in_it_for_its_job() {
    let outcome = |of_set: Value, of_job: Value| {
        let set = json!({"name": "set", "priority": 100, "limit": {"cpu": 8, "ram": 50},
            "max_disrupted": of_set, "tasks": [{"index": 0, "machine": "m"}]});
        let inside = json!({"name": "inside", "priority": 100, "count": 2, "alloc_set": "set",
            "limit": {"cpu": 1, "ram": 1}, "max_disrupted": of_job,
            "tasks": [{"index": 0, "alloc": 0}, {"index": 1, "alloc": 0}]});
        let web = json!({"name": "web", "limit": {"cpu": 8, "ram": 1}});
        let cell = build(&[json!({"name": "m", "cpu": 8, "ram": 100})], &[set], &[inside, web]);
        let plan = pack_recorded(&cell, "borg-hybrid", 1);
        host_of(&plan, "web/0")
    };
    assert_eq!(outcome(json!(null), json!(null)), "m");
    assert_eq!(outcome(json!(1), json!(2)), "m");
    assert_eq!(outcome(json!(0), json!(2)), "-");
    assert_eq!(outcome(json!(1), json!(1)), "-");
}
