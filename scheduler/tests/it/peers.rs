//! Nomad's placement and the GPU policies, seen from outside; fragments by their definition.

use cell::{Cell, TaskId};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Strategy, any, prop_assert, proptest};
use proptest::sample::select;
use scheduler::peers::fragmentation::Fragmentation;
use scheduler::{Accounting, Policy, Slot, Snapshot, pass, policies};
use serde_json::{Value, json};

use crate::cells::{all_tasks, build, cases, host_of, options, pack, policy};
use crate::model;

/// `F_n(M)` in milli-GPU by its definition: each task of the cell counts the same, so that all must be
/// typical (no more than 19 kinds of the same frequency are: the rarest are left out beyond 95 %).
#[expect(clippy::cast_precision_loss, reason = "small amounts")]
fn fragments(snapshot: &Snapshot<'_>, row: usize, extra: Option<(TaskId, u16)>) -> f64 {
    let cell = snapshot.cell();
    let (has, used) = (model::has(snapshot, row), model::used(snapshot, row, &[]));
    let mut cpu = has.amounts[0].unwrap() - used.amounts[0];
    let mut free: Vec<u64> =
        used.devices[..has.devices as usize].iter().map(|used| 1000 - used).collect();
    if let Some((task, devices)) = extra {
        let limit = cell.task(task).limit;
        cpu -= limit.cpu.0;
        for (device, free) in free.iter_mut().enumerate() {
            *free -= if devices & (1 << device) != 0 { limit.gpu.milli_each.0 } else { 0 };
        }
    }
    let total: u64 = free.iter().sum();
    let tasks = all_tasks(cell);
    let of = |&id: &TaskId| -> u64 {
        let (limit, job) = (cell.task(id).limit, cell.job(id.job));
        let fitting = free.iter().filter(|&&free| free >= limit.gpu.milli_each.0).count();
        let runs = limit.gpu.count > 0
            && cpu >= limit.cpu.0
            && fitting >= limit.gpu.count as usize
            && job.constraints.iter().all(|constraint| model::holds(snapshot, constraint, row));
        if runs { free.iter().filter(|&&free| free < limit.gpu.milli_each.0).sum() } else { total }
    };
    tasks.iter().map(of).sum::<u64>() as f64 / tasks.len() as f64
}

/// Cells with GPUs and with so many jobs that all their tasks are typical.
fn gpu_cells() -> impl Strategy<Value = Cell> {
    let machine = (select(vec![4, 8, 16]), 0..5_u32, any::<bool>());
    let job = (0..9_u32, select(vec![(0, 0), (1, 250), (1, 500), (1, 700), (1, 1000), (2, 1000)]))
        .prop_flat_map(|(cpu, gpu)| {
            option::weighted(0.3, any::<bool>()).prop_map(move |model| (cpu, gpu, model))
        });
    (vec(machine, 1..5), vec(job, 1..7), 1..4_u32).prop_map(|(machines, jobs, count)| {
        let model = |is_new: bool| if is_new { "A100" } else { "T4" };
        let machines: Vec<Value> = machines
            .into_iter()
            .enumerate()
            .map(|(index, (cpu, gpus, is_new))| {
                json!({"name": format!("m{index}"), "cpu": cpu, "ram": 1000, "gpus": gpus,
                    "attributes": {"model": model(is_new)}})
            })
            .collect();
        let jobs: Vec<Value> = jobs
            .into_iter()
            .enumerate()
            .map(|(index, (cpu, (gpus, milli), wanted))| {
                let mut limit = json!({"cpu": cpu, "ram": 1});
                if gpus > 0 {
                    limit["gpu"] = json!({"count": gpus, "milli": milli});
                }
                let mut job = json!({"name": format!("j{index}"), "count": count, "limit": limit});
                if let Some(is_new) = wanted {
                    job["constraints"] =
                        json!([{"attribute": "model", "op": "=", "value": model(is_new)}]);
                }
                job
            })
            .collect();
        build(&machines, &[], &jobs)
    })
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn the_exact_descent_takes_the_least_increase_of_all_nodes_and_devices(
        cell in gpu_cells(),
        seed in any::<u64>(),
    ) {
        let empty = Snapshot::empty(&cell, &Slot::all(&cell), Accounting::Limits);
        let fragmentation = Fragmentation::of(&empty);
        let tasks = all_tasks(&cell);
        let plan = pass(&empty, &tasks, &options(policy("fgd-exact"), seed));
        let mut now = empty.clone();
        for assignment in &plan.assignments {
            let task = assignment.task;
            let increase = |now: &Snapshot<'_>, row, devices| {
                fragments(now, row, Some((task, devices))) - fragments(now, row, None)
            };
            let chosen = increase(&now, assignment.row, assignment.gpu_devices);
            let count = cell.task(task).limit.gpu.count;
            for row in model::feasible_rows(&now, task) {
                let used = model::used(&now, row, &[]);
                let devices = model::has(&now, row).devices;
                let milli = cell.task(task).limit.gpu.milli_each.0;
                for bits in (0..1_u16 << devices).filter(|bits| bits.count_ones() == count) {
                    let fits = |device: u32| {
                        bits & (1 << device) == 0 || used.devices[device as usize] + milli <= 1000
                    };
                    if (0..devices).all(fits) {
                        let other = increase(&now, row, bits);
                        prop_assert!(chosen <= other + 1e-6, "{chosen} and {other} on {row}");
                    }
                }
            }
            now.place_on(task, assignment.row, Some(assignment.gpu_devices));
            // What is derived by groups and sums is what the definition says.
            let row = assignment.row;
            let (by_groups, defined) = (fragmentation.milli(&now, row), fragments(&now, row, None));
            prop_assert!((by_groups - defined).abs() < 1e-6, "{by_groups} and {defined}");
        }
    }
}

#[test]
fn fragments_of_a_node_by_hand() {
    let cell = build(
        &[json!({"name": "m", "cpu": 10, "ram": 100, "gpus": 2})],
        &[],
        &[
            json!({"name": "half", "limit": {"cpu": 2, "ram": 1, "gpu": {"count": 1, "milli": 500}}}),
            json!({"name": "most", "limit": {"cpu": 2, "ram": 1, "gpu": {"count": 1, "milli": 700}}}),
            json!({"name": "two", "limit": {"cpu": 7, "ram": 1, "gpu": {"count": 2}}}),
            json!({"name": "none", "limit": {"cpu": 1, "ram": 1}}),
        ],
    );
    let mut now = Snapshot::empty(&cell, &Slot::all(&cell), Accounting::Limits);
    let fragmentation = Fragmentation::of(&now);
    let check = |now: &Snapshot<'_>, expected: f64| {
        let milli = fragmentation.milli(now, 0);
        assert!((milli - expected).abs() < 1e-9, "{milli} is not {expected}");
    };
    // All 2000 to the task without GPUs, nothing to the others: 2000 / 4.
    check(&now, 500.0);
    now.place_on(cell.find_task("half/0").unwrap(), 0, Some(0b01));
    // Free 500 and 1000. half: both will do, 0; most: 500; two: cannot run, 1500; none: 1500. 3500 / 4.
    check(&now, 875.0);
    now.place_on(cell.find_task("most/0").unwrap(), 0, Some(0b10));
    // Free 500 and 300. half: 300; most, two, none: 800 each. 2700 / 4.
    check(&now, 675.0);
    now.place(cell.find_task("none/0").unwrap(), 0);
    check(&now, 675.0);
}

#[test]
fn kinds_beyond_95_percent_are_not_typical() {
    // 19 of 20 tasks are alike: to them nothing of two free devices is a fragment.
    let share = |name: &str, count: u32, milli: u32| {
        json!({"name": name, "count": count,
            "limit": {"cpu": 0, "ram": 0, "gpu": {"count": 1, "milli": milli}}})
    };
    let check = |others: u32, expected: f64| {
        let cell = build(
            &[json!({"name": "m", "cpu": 10, "ram": 100, "gpus": 1})],
            &[],
            &[
                share("whole", 19, 1000),
                json!({"name": "cpu", "count": others,
                "limit": {"cpu": 0, "ram": 0}}),
            ],
        );
        let now = Snapshot::empty(&cell, &Slot::all(&cell), Accounting::Limits);
        let milli = Fragmentation::of(&now).milli(&now, 0);
        assert!((milli - expected).abs() < 1e-9, "{milli} is not {expected}");
    };
    check(1, 0.0);
    check(19, 500.0);
}

#[test]
fn a_share_goes_to_the_device_that_the_policy_chooses() {
    // A task of 0.8 and one of 0.5; then one of 0.2, for which best fit takes the 0.2 that is left.
    let share = |name: &str, milli: u32| {
        json!({"name": name,
            "limit": {"cpu": 1, "ram": 1, "gpu": {"count": 1, "milli": milli}}})
    };
    let cell = build(
        &[json!({"name": "m", "cpu": 10, "ram": 100, "gpus": 2})],
        &[],
        &[share("a", 800), share("b", 500), share("c", 200)],
    );
    for name in ["gpu-best-fit", "gpu-packing", "gpu-clustering", "dot-product", "fgd-exact"] {
        let plan = pack(&cell, name, 1);
        let devices =
            |task: &str| plan.end.placement(cell.find_task(task).unwrap()).unwrap().gpu_devices;
        assert_eq!((devices("a/0"), devices("b/0"), devices("c/0")), (1, 2, 1), "{name}");
    }
}

#[test]
fn nomad_avoids_a_machine_that_the_job_is_on() {
    // Of two machines both are looked at. The second task of the job scores (fit - 2 / 2) / 2 < 0 where
    // the first is, and its fit, above 0, on the empty machine.
    let cell = build(
        &[json!({"name": "m", "count": 2, "cpu": 10, "ram": 100})],
        &[],
        &[json!({"name": "j", "count": 2, "limit": {"cpu": 1, "ram": 10}})],
    );
    for seed in 0..20 {
        let plan = pack(&cell, "nomad-binpack", seed);
        assert_ne!(host_of(&plan, "j/0"), host_of(&plan, "j/1"), "{seed}");
    }
}

#[test]
fn nomad_fills_up_or_spreads_the_tasks_of_different_jobs() {
    let jobs: Vec<Value> = (0..4)
        .map(|index| json!({"name": format!("j{index}"), "limit": {"cpu": 1, "ram": 10}}))
        .collect();
    let cell = build(&[json!({"name": "m", "count": 2, "cpu": 10, "ram": 100})], &[], &jobs);
    let used = |name: &str, seed| {
        let plan = pack(&cell, name, seed);
        (0..2).filter(|&row| !plan.end.tasks_on(row).is_empty()).count()
    };
    for seed in 0..20 {
        assert_eq!(used("nomad-binpack", seed), 1, "{seed}");
        assert_eq!(used("nomad-spread", seed), 2, "{seed}");
    }
}

#[test]
fn peers_are_neither_borgs_nor_kubernetes() {
    let peers: Vec<Policy> = policies().into_iter().filter(Policy::is_peer).collect();
    assert_eq!(peers.len(), 9);
    assert!(peers.iter().all(|policy| !policy.is_kubernetes()));
}
