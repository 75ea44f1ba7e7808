//! Cell compaction on small cells with known answers. Borg §5.1.

use fauxmaster::report::CompactReport;
use fauxmaster::{CompactError, CompactOptions, PackOptions, compact, pack};
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};
use scheduler::{Policy, Slot, policies};
use serde_json::{Value, json};
use traces::Trace;

use crate::small::{job, machines, trace, with};

fn options(policy: Policy, allowance: f64) -> CompactOptions {
    CompactOptions { trials: 4, pending_allowance: allowance, ..CompactOptions::new(policy, 1) }
}

/// Compacts under every policy; the seconds are left out of the report.
fn reports(trace: &Trace, allowance: f64) -> Vec<CompactReport> {
    policies().into_iter().map(|policy| report(trace, &options(policy, allowance))).collect()
}

fn report(trace: &Trace, options: &CompactOptions) -> CompactReport {
    let report = compact(trace, options, &|_| ()).unwrap();
    CompactReport { seconds: 0.0, ..report }
}

/// Every policy needs so many machines in each trial, which is the bound besides.
fn check(machines: &[Value], jobs: &[Value], allowance: f64, expected: usize, clones: usize) {
    for report in reports(&trace(machines, jobs), allowance) {
        let name = &report.policy;
        assert_eq!(report.machines_by_trial, [expected; 4], "{name}");
        assert_eq!(report.lower_bound, expected, "{name}");
        assert_eq!(report.clones, clones, "{name}");
        assert_eq!([report.machines_min, report.machines_max], [expected; 2], "{name}");
        assert_eq!([report.machines_median, report.machines_p90], [expected; 2], "{name}");
    }
}

#[test]
fn a_workload_that_fills_machines_needs_its_volume() {
    check(&[machines(10)], &[job("j", 9, 4)], 0.0, 9, 1); // one a machine
    check(&[machines(10)], &[job("j", 9, 2)], 0.0, 5, 1); // two a machine
    check(&[machines(10)], &[job("j", 10, 4)], 0.0, 10, 1);
    check(&[machines(1)], &[job("j", 1, 1)], 0.0, 1, 1);
}

#[test]
fn a_workload_that_asks_for_nothing_needs_a_machine() {
    check(&[machines(5)], &[job("j", 3, 0)], 0.0, 1, 1);
}

#[test]
fn the_cell_is_cloned_where_the_workload_needs_more() {
    check(&[machines(10)], &[job("j", 11, 4)], 0.0, 11, 2);
    check(&[machines(10)], &[job("j", 25, 4)], 0.0, 25, 3);
}

#[test]
fn the_allowance_leaves_tasks_pending() {
    // 501 tasks of 1 CPU, four a machine. 0.2 % of 501 is one: 500 tasks need 125 machines, 501 need 126.
    let (cell, jobs) = ([machines(130)], [job("j", 501, 1)]);
    check(&cell, &jobs, 0.0, 126, 1);
    check(&cell, &jobs, 0.002, 125, 1);
    for report in reports(&trace(&cell, &jobs), 0.002) {
        assert_eq!((report.pending_allowed, report.pending_only_picky), (1, false));
        assert_eq!(report.task_count, 501);
    }
}

#[test]
fn only_picky_tasks_stay_pending_where_there_are_any() {
    // One machine of 201 is special, and one task asks for it: 1 · 100 < 201, so it is picky. The others
    // come first and take 4 CPU each: 200 machines, though 5 % of 201 tasks could stay pending.
    let special = with(machines(1), json!({"name": "s", "attributes": {"special": 1}}));
    let picky = with(
        job("picky", 1, 1),
        json!({"priority": 0, "constraints": [{"attribute": "special", "op": "exists"}]}),
    );
    let cell = [machines(200), special];
    let jobs = [job("j", 200, 4), picky];
    for report in reports(&trace(&cell, &jobs), 0.05) {
        assert!(report.pending_only_picky);
        assert_eq!(report.pending_allowed, 10); // 201 · 0.05 = 10.05
        assert_eq!(report.machines_by_trial, [200; 4], "{}", report.policy);
        assert_eq!(report.lower_bound, 200);
    }
    // Without the picky one, any of them may: 200 tasks, 10 of which stay pending.
    check(&cell, &jobs[..1], 0.05, 190, 1);
}

#[test]
fn jobs_larger_than_half_the_cell_get_soft_constraints() {
    let replicas = |count| with(job("j", count, 1), json!({"different_machines": true}));
    // 5 of 10 are half: the rule is hard, and 5 tasks need 5 machines.
    check(&[machines(10)], &[replicas(5)], 0.0, 5, 1);
    // 6 are more than half: they share, four a machine.
    check(&[machines(10)], &[replicas(6)], 0.0, 2, 1);
    let spread = json!({"spread": [{"domain": "machine", "max_per_domain": 1}]});
    check(&[machines(10)], &[with(job("j", 6, 1), spread)], 0.0, 2, 1);
    let nowhere = json!({"constraints": [{"attribute": "special", "op": "exists"}]});
    check(&[machines(10)], &[with(job("j", 6, 1), nowhere.clone())], 0.0, 2, 1);
    let softened = |job| {
        let report = &reports(&trace(&[machines(10)], &[job]), 0.0)[0];
        report.jobs_softened
    };
    assert_eq!(softened(replicas(5)), 0);
    assert_eq!(softened(replicas(6)), 1);
    assert_eq!(softened(job("j", 6, 1)), 0); // no rule, nothing to soften
    // At half of the cell the constraint stays hard, and no number of copies helps.
    let hard = trace(&[machines(10)], &[with(job("j", 5, 1), nowhere)]);
    assert!(compact(&hard, &options(policies().remove(0), 0.0), &|_| ()).is_err());
}

#[test]
fn tasks_tied_to_machines_are_left_out() {
    let daemon = with(job("daemon", 10, 4), json!({"tied_to_machines": true}));
    check(&[machines(10)], &[job("j", 3, 4), daemon], 0.0, 3, 1);
}

#[test]
fn a_task_that_fits_no_machine_is_told() {
    let trace = trace(&[machines(3)], &[job("j", 2, 1), job("large", 1, 8)]);
    for policy in policies() {
        let check = |clones, expected| {
            let options = CompactOptions { clones, ..options(policy.clone(), 0.0) };
            match compact(&trace, &options, &|_| ()).unwrap_err() {
                CompactError::DoesNotFit { clones, pending, allowed, .. } => {
                    assert_eq!((clones, pending, allowed), expected);
                }
                other @ (CompactError::Nothing | CompactError::Allowance(_)) => panic!("{other}"),
            }
        };
        check(Some(1), (1, 1, 0));
        check(Some(2), (2, 1, 0));
        check(None, (1, 1, 0));
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let trace = trace(&[machines(3)], &[job("j", 2, 1)]);
    let check = |change: &dyn Fn(&mut CompactOptions), expected: CompactError| {
        let mut options = options(policies().remove(0), 0.0);
        change(&mut options);
        assert_eq!(compact(&trace, &options, &|_| ()).unwrap_err(), expected);
    };
    check(&|options| options.trials = 0, CompactError::Nothing);
    check(&|options| options.pending_allowance = 1.0, CompactError::Allowance(1.0));
    check(&|options| options.pending_allowance = -0.1, CompactError::Allowance(-0.1));
    let nan = CompactOptions { pending_allowance: f64::NAN, ..options(policies().remove(0), 0.0) };
    assert!(matches!(compact(&trace, &nan, &|_| ()), Err(CompactError::Allowance(_))));
}

/// Machines and tasks of several sizes, so that policies differ.
fn mixed() -> Trace {
    let machine = |name: &str, count: u32, cpu: u32, ram: u32| json!({"name": name, "count": count, "cpu": cpu, "ram": ram});
    let job = |name: &str, count: u32, cpu: &str, ram: u32, user: &str| json!({"name": name, "count": count, "user": user, "limit": {"cpu": cpu, "ram": ram}});
    trace(
        &[machine("a", 60, 4, 100), machine("b", 50, 8, 100), machine("c", 40, 8, 300)],
        &[
            job("a", 90, "1500m", 9, "ann"),
            job("b", 90, "300m", 40, "bob"),
            job("c", 120, "1100m", 33, "ann"),
            job("d", 30, "3700m", 70, "eve"),
            job("e", 200, "250m", 7, "bob"),
        ],
    )
}

fn on_threads<T: Send>(threads: usize, run: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run)
}

#[test]
fn the_report_is_the_same_on_any_number_of_threads() {
    let trace = mixed();
    for policy in policies() {
        let options = CompactOptions { trials: 7, ..options(policy, 0.002) };
        let one = on_threads(1, || report(&trace, &options));
        assert_eq!(one, on_threads(2, || report(&trace, &options)));
        assert_eq!(one, on_threads(5, || report(&trace, &options)));
        let other = CompactOptions { seed: 2, ..options };
        assert_ne!(one.machines_by_trial, report(&trace, &other).machines_by_trial);
    }
}

#[test]
fn progress_is_told_once_a_trial() {
    let told = std::sync::Mutex::new(Vec::new());
    let options = options(policies().remove(0), 0.0);
    compact(&mixed(), &options, &|done| told.lock().unwrap().push(done)).unwrap();
    let mut told = told.into_inner().unwrap();
    told.sort_unstable();
    assert_eq!(told, [1, 2, 3, 4]);
}

/// Trials are pairs across policies: with one seed, the same machines in the same order.
#[test]
fn policies_are_given_the_same_machines() {
    let trace = mixed();
    let bounds: Vec<Vec<usize>> =
        reports(&trace, 0.0).into_iter().map(|report| report.lower_bound_by_trial).collect();
    assert!(bounds.iter().all(|bound| *bound == bounds[0]), "{bounds:?}");
    // Orders differ from trial to trial, and so do bounds, the machines being of three sizes.
    assert!(bounds[0].iter().any(|&bound| bound != bounds[0][0]), "{bounds:?}");
    let slots = |policy: Policy, seed: u64| -> Vec<Slot> {
        let mut options = PackOptions::new(policy, seed);
        (options.machines, options.clones) = (Some(170), 2);
        let packing = pack(&trace, &options).unwrap();
        (0..170).map(|row| packing.plan.end.slot(row)).collect()
    };
    let expected = slots(policies().remove(0), 7);
    for policy in policies() {
        assert_eq!(slots(policy, 7), expected);
    }
    assert_ne!(slots(policies().remove(0), 8), expected);
    // Each copy of a machine at most once.
    let distinct: std::collections::BTreeSet<&Slot> = expected.iter().collect();
    assert_eq!(distinct.len(), 170);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_packing_beats_the_bound(
        sizes in proptest::collection::vec((1_u32..9, 1_u32..9), 1..6),
        tasks in proptest::collection::vec((1_u32..20, 0_u32..5, 0_u32..5, any::<bool>()), 1..6),
        seed in any::<u64>(),
        allowance in proptest::sample::select(vec![0.0, 0.05]),
    ) {
        let cell: Vec<Value> = sizes
            .iter()
            .enumerate()
            .map(|(index, (cpu, ram))| {
                json!({"name": format!("m{index}"), "count": 5, "cpu": cpu + 4, "ram": ram + 4})
            })
            .collect();
        let jobs: Vec<Value> = tasks
            .iter()
            .enumerate()
            .map(|(index, (count, cpu, ram, different))| {
                json!({"name": format!("j{index}"), "count": count, "different_machines": different,
                    "limit": {"cpu": cpu, "ram": ram}})
            })
            .collect();
        let trace = trace(&cell, &jobs);
        for policy in policies() {
            let options = CompactOptions { seed, ..options(policy, allowance) };
            let report = report(&trace, &options);
            for (needed, bound) in
                report.machines_by_trial.iter().zip(&report.lower_bound_by_trial)
            {
                prop_assert!(needed >= bound, "{:?}", report);
                prop_assert!(*needed <= cell.len() * 5 * report.clones);
            }
            prop_assert_eq!(report.lower_bound, *report.lower_bound_by_trial.iter().min().unwrap());
            prop_assert!(report.lower_bound <= report.machines_min);
            prop_assert!(report.machines_min <= report.machines_median);
            prop_assert!(report.machines_median <= report.machines_p90);
            prop_assert!(report.machines_p90 <= report.machines_max);
        }
    }
}
