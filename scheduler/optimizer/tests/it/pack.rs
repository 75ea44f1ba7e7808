//! Packing once: never worse than greedy, never more than the bound, and as good as trying everything.

use cell::TaskId;
use fauxmaster::{PackOptions, Start};
use optimizer::budget::Budget;
use optimizer::objective::{BAND_COUNT, Objective, Score};
use optimizer::pack::pack;
use optimizer::report::PackedReport;
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy};
use proptest::test_runner::RngSeed;
use proptest::{prop_assert, prop_assert_eq, proptest};
use scheduler::{Accounting, Draft, Policy, Slot, Snapshot};
use serde_json::{Value, json};
use traces::Trace;

use crate::small::{cases, trace};

const PRIORITIES: [u16; 4] = [0, 50, 105, 200];

/// Cells of up to 3 machines, some with GPUs, and up to 6 tasks of several bands; too many tasks as a rule.
fn traces() -> impl Strategy<Value = Trace> {
    let machine = (2..8_u64, 2..8_u64, 0..3_u64);
    let job = (0..6_u64, 0..6_u64, 1..3_u64, 0..4_usize, 0..5_usize);
    (vec(machine, 1..4), vec(job, 1..4)).prop_map(|(machines, jobs)| {
        let machines: Vec<Value> = machines
            .iter()
            .enumerate()
            .map(|(index, (cpu, ram, gpus))| {
                json!({"name": format!("m{index}"), "cpu": cpu, "ram": ram, "gpus": gpus})
            })
            .collect();
        let jobs: Vec<Value> = jobs
            .iter()
            .enumerate()
            .map(|(index, (cpu, ram, count, priority, gpu))| {
                let gpu = match gpu {
                    1 => json!({"count": 1, "milli": 400}),
                    2 => json!({"count": 1, "milli": 600}),
                    3 => json!({"count": 1}),
                    4 => json!({"count": 2}),
                    _ => Value::Null,
                };
                json!({"name": format!("j{index}"), "user": "u",
                    "priority": PRIORITIES[*priority], "count": count,
                    "different_machines": (index == 1), "limit": {"cpu": cpu, "ram": ram, "gpu": gpu}})
            })
            .collect();
        trace(&machines, &jobs)
    })
}

fn options() -> PackOptions {
    PackOptions::new(Policy::by_name("borg-hybrid").unwrap(), 1)
}

fn packed(trace: &Trace, options: &PackOptions, budget: Budget) -> (PackedReport, Score) {
    let folder = tempfile::tempdir().unwrap();
    let improved = pack(trace, options, budget, &folder.path().join("c.json")).unwrap();
    let end = &improved.packing.plan.end;
    assert_eq!(end.check_sums(), None);
    let objective = Objective::of(&trace.cell, Accounting::Limits);
    let empty = Snapshot::empty(&trace.cell, &Slot::all(&trace.cell), Accounting::Limits);
    (improved.report, objective.score(&empty, end, &improved.packing.tasks, &[]))
}

/// The best score of any packing, and the most that the highest bands can have in sum.
fn best(trace: &Trace) -> (Score, [u64; BAND_COUNT]) {
    let cell = &trace.cell;
    let empty = Snapshot::empty(cell, &Slot::all(cell), Accounting::Limits);
    let tasks: Vec<TaskId> = cell.tasks().map(|(id, _, _)| id).collect();
    let objective = Objective::of(cell, Accounting::Limits);
    let mut found = (Score::default(), [0; BAND_COUNT]);
    every(&mut Draft::of(empty.clone()), &tasks, &mut |end| {
        let score = objective.score(&empty, end, &tasks, &[]);
        let mut sum = 0;
        for (most, worth) in found.1.iter_mut().zip(score.running) {
            sum += worth;
            *most = (*most).max(sum);
        }
        if score.running > found.0.running {
            found.0 = score;
        }
    });
    found
}

fn every<'c>(draft: &mut Draft<'c>, tasks: &[TaskId], look: &mut dyn FnMut(&Snapshot<'c>)) {
    let Some((&task, rest)) = tasks.split_first() else { return look(draft.snapshot()) };
    every(draft, rest, look);
    let request = draft.snapshot().cell().task(task).limit.gpu;
    for row in 0..draft.snapshot().machine_count() {
        if !draft.has_room(task, row, &[]) || !draft.obeys_rules(task, row) {
            continue;
        }
        // Every choice of devices for a share; whole ones are alike.
        let of = draft.snapshot().gpus(row);
        let devices: Vec<u16> = match request.count {
            1 => (0..of.devices().len())
                .filter(|&device| u64::from(of.devices()[device]) >= request.milli_each.0)
                .map(|device| 1 << device)
                .collect(),
            _ => of.choose(request).into_iter().collect(),
        };
        for devices in devices {
            draft.place_on(task, row, devices);
            every(draft, rest, look);
            draft.remove(task);
        }
    }
}

proptest! {
    // The same cells each time: a search may miss what is there, on a cell that nobody has seen yet.
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(3), ..cases(250) })]

    #[test]
    fn packings_reach_what_trying_everything_finds_and_bounds_stay_above(trace in traces()) {
        let (truth, most) = best(&trace);
        let (report, score) = packed(&trace, &options(), Budget::Steps(400));
        prop_assert_eq!(&report.failures, &Vec::<String>::new());
        prop_assert!(score.running <= truth.running, "{:?} beats {:?}", score, truth);
        prop_assert_eq!(score.running, truth.running);
        for level in &report.gap_by_level {
            let band = cell::Band::ALL.iter().rev().position(|band| band.name() == level.down_to);
            let proven = level.placed_upper_bound;
            prop_assert!(most[band.unwrap()] <= proven, "{most:?} {report:?}");
            prop_assert!(level.placed <= proven && level.greedy_placed <= proven);
        }
    }
}

#[test]
fn a_budget_of_zero_is_greedys_plan() {
    let machines = [json!({"name": "m", "cpu": 8, "ram": 8})];
    let job = |name: &str, cpu: u64| json!({"name": name, "user": "u", "priority": 0, "limit": {"cpu": cpu, "ram": 1}});
    // First come first served leaves 3 of 8 cores free; 4 + 4 leaves none.
    let trace = trace(&machines, &[job("a", 5), job("b", 4), job("c", 4)]);
    let (greedy, _) = packed(&trace, &options(), Budget::ZERO);
    assert_eq!(greedy.pack.assignment_hash, greedy.greedy.assignment_hash);
    assert_eq!((greedy.pack.placed_count, greedy.steps), (1, 0));
    let (better, _) = packed(&trace, &options(), Budget::Steps(50));
    assert_eq!((better.pack.placed_count, better.greedy.placed_count), (2, 1));
    assert!((better.unplaced["cpu"] - 5.0 / 13.0).abs() < 1e-9);
}

#[test]
fn onto_a_running_cell_running_tasks_stay() {
    let machines = [json!({"name": "m", "count": 2, "cpu": 8, "ram": 8})];
    let runs = json!([{"index": 0, "machine": "m-0"}, {"index": 1, "machine": "m-1"}]);
    let jobs = [
        json!({"name": "runs", "user": "u", "priority": 0, "count": 2,
            "limit": {"cpu": 3, "ram": 1}, "tasks": runs}),
        json!({"name": "waits", "user": "u", "priority": 0, "count": 2,
            "limit": {"cpu": 5, "ram": 1}}),
    ];
    let trace = trace(&machines, &jobs);
    let recorded = PackOptions { start: Start::Recorded, ..options() };
    let (report, _) = packed(&trace, &recorded, Budget::Steps(50));
    assert_eq!((report.pack.placed_count, report.pack.preempted_count), (2, 0));
    assert_eq!(report.gap, Some(0.0));
}
