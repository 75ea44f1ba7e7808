//! Bounds and improved packings of trials, against brute force and against each other.

use fauxmaster::workload::{Purpose, generator};
use fauxmaster::{CompactError, CompactOptions, Compaction, compact};
use optimizer::bound::Effort;
use optimizer::budget::Budget;
use optimizer::proof::{Proof, Proofs, model_of};
use optimizer::shrink::{Held, HeldCount, Problem, shrink};
use proptest::prelude::{ProptestConfig, TestCaseError, prop_assert, prop_assert_eq};
use proptest::test_runner::RngSeed;
use proptest::{prop_assume, proptest};
use scheduler::{Policy, Slot};
use traces::Trace;

use crate::small::{admits, cases, fewest, trace, traces};
use serde_json::json;

fn options(pending_allowance: f64, clones: Option<usize>) -> CompactOptions {
    CompactOptions {
        pending_allowance,
        trials: 2,
        clones,
        ..CompactOptions::new(Policy::by_name("borg-hybrid").unwrap(), 1)
    }
}

/// Checks a small cell's trials: every bound at most the truth, the search between the truth and greedy,
/// and its packing what it says. Returns how far the search ended from the truth, in sum.
fn check_trials(trace: &Trace, pending_allowance: f64) -> Result<Option<usize>, TestCaseError> {
    let greedy = match compact(trace, &options(pending_allowance, None), &|_| {}) {
        Ok(report) => report,
        // Jobs that want more different machines than there are, and the like.
        Err(CompactError::DoesNotFit { .. }) => return Ok(None),
        Err(error) => return Err(TestCaseError::fail(error.to_string())),
    };
    let options = options(pending_allowance, Some(greedy.clones));
    let compaction = Compaction::new(trace, &options).unwrap();
    let (model, may_wait) = model_of(&compaction, options.accounting);
    let proofs = Proofs::search(&model, Effort::default());
    prop_assert_eq!(&proofs.failures, &Vec::<String>::new());
    let mut off = 0;
    for trial in 0..2 {
        let order = compaction.order(greedy.clones, trial);
        // A job whose rules were softened is packed by other rules than the brute force knows.
        let cell = compaction.cell();
        let Some(truth) = fewest(cell, &order, compaction.pending_allowed()) else {
            return Err(TestCaseError::fail("greedy packed what cannot be packed"));
        };
        for proof in &proofs.all {
            let bound =
                proof.verified.machines_needed(order.iter().map(|&slot| model.machine_shape(slot)));
            let method = &proof.certificate.method;
            prop_assert!(bound.is_some_and(|n| n <= truth), "{} {:?} {}", method, bound, truth);
        }
        let greedy_machines = greedy.machines_by_trial[usize::try_from(trial).unwrap()];
        let machines = &order[..greedy_machines];
        let plan = compaction.plan(machines, trial);
        let prices = proofs.prices().unwrap();
        let problem =
            Problem::new(cell, compaction.tasks(), options.accounting, &model, prices, &may_wait);
        let mut meter = Budget::Steps(3000).start();
        let mut random = generator(1, Purpose::Search, trial);
        let end = shrink(&problem, &plan.end, machines, 0, &mut meter, &mut random).end;
        let found = end.machine_count();
        prop_assert!(truth <= found && found <= greedy_machines);
        prop_assert_eq!(end.check_sums(), None);
        let pending = compaction.tasks().iter().filter(|&&task| end.placement(task).is_none());
        prop_assert!(pending.count() <= compaction.pending_allowed());
        for row in 0..found {
            let on = end.tasks_on(row);
            for index in 0..on.len() {
                prop_assert!(admits(cell, end.slot(row), &on[..index], on[index]));
            }
        }
        off += found - truth;
    }
    Ok(Some(off))
}

proptest! {
    // The same cells each time: a search may miss what is there, on a cell that nobody has seen yet.
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(4), ..cases(400) })]

    #[test]
    fn bounds_stay_below_and_searches_reach_what_trying_everything_finds(trace in traces()) {
        let off = check_trials(&trace, 0.0)?;
        prop_assume!(off.is_some());
        // On cells this small the search is as good as trying everything.
        prop_assert_eq!(off, Some(0));
    }

    #[test]
    fn the_same_with_a_quarter_of_the_tasks_pending(trace in traces()) {
        let off = check_trials(&trace, 0.25)?;
        prop_assume!(off.is_some());
    }
}

#[test]
fn the_search_finds_what_greedy_does_not() {
    // Two machines hold 5 + 3 and 4 + 2 + 2; best fit in the order of submission needs three.
    let machines = [json!({"name": "m", "count": 6, "cpu": 8, "ram": 8})];
    let job = |name: &str, cpu: u64, count: u64| {
        json!({"name": name, "user": "u", "priority": 200, "count": count,
            "limit": {"cpu": cpu, "ram": 0}})
    };
    let jobs = [job("a", 4, 1), job("b", 3, 1), job("c", 2, 2), job("d", 5, 1)];
    let trace = trace(&machines, &jobs);
    let greedy = compact(&trace, &options(0.0, Some(1)), &|_| {}).unwrap();
    assert_eq!(greedy.machines_by_trial, [3, 3]);
    assert_eq!(check_trials(&trace, 0.0).unwrap(), Some(0));
}

/// What each method proves of a trace without pending tasks, on its machines in their order.
fn bounds(trace: &Trace) -> Vec<(String, Option<usize>)> {
    let options = options(0.0, Some(1));
    let compaction = Compaction::new(trace, &options).unwrap();
    let (model, _) = model_of(&compaction, options.accounting);
    let order = Slot::all(compaction.cell());
    let proofs = Proofs::search(&model, Effort::default());
    assert_eq!(proofs.failures, Vec::<String>::new());
    let needed = |proof: &Proof| {
        proof.verified.machines_needed(order.iter().map(|&slot| model.machine_shape(slot)))
    };
    proofs.all.iter().map(|proof| (proof.certificate.method.clone(), needed(proof))).collect()
}

#[test]
fn each_method_sees_what_the_one_before_does_not() {
    let job = |name: &str, cpu: u64, ram: u64, count: u64| {
        json!({"name": name, "user": "u", "priority": 200, "count": count,
            "limit": {"cpu": cpu, "ram": ram}})
    };
    let of = |bounds: &[(String, Option<usize>)], wanted: &str| {
        bounds.iter().find(|(method, _)| method == wanted).unwrap().1
    };
    // 4 tasks of 5 CPU on machines of 8: 20 / 8 machines by volume, one each in truth.
    let machines = [json!({"name": "m", "count": 9, "cpu": 8, "ram": 8})];
    let found = bounds(&trace(&machines, &[job("a", 5, 0, 4)]));
    assert_eq!(of(&found, "volume-cpu"), Some(3));
    assert_eq!(of(&found, "transport"), Some(3));
    assert_eq!(of(&found, "configuration"), Some(4));
    // Machines with little RAM take none of the tasks that need much: half of the CPU lies idle.
    let machines = [
        json!({"name": "lean", "count": 4, "cpu": 8, "ram": 1}),
        json!({"name": "rich", "count": 4, "cpu": 8, "ram": 8}),
    ];
    let found = bounds(&trace(&machines, &[job("a", 2, 2, 16)]));
    assert_eq!(of(&found, "volume-cpu"), Some(4));
    assert_eq!(of(&found, "transport"), Some(8));
    assert_eq!(of(&found, "configuration"), Some(8));
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn configurations_prove_no_less_than_fluids(trace in traces()) {
        // Of the cell's mix, which is what both are searched for; for one order of machines either may
        // prove more.
        let options = options(0.0, Some(1));
        let compaction = Compaction::new(&trace, &options).unwrap();
        let (model, _) = model_of(&compaction, options.accounting);
        let mix: Vec<u64> = model.machines.iter().map(|machine| machine.count).collect();
        let proofs = Proofs::search(&model, Effort::default());
        let ratio = |wanted: &str| {
            let proof = proofs.all.iter().find(|proof| proof.certificate.method == wanted);
            proof.map(|proof| proof.verified.ratio(&mix))
        };
        if let Some((found, start)) = ratio("configuration").zip(ratio("transport")) {
            // Up to rounding to a certificate's integers.
            prop_assert!(found >= start * (1.0 - 1e-6), "{found} {start}");
        }
    }
}

#[test]
fn the_search_leaves_tasks_for_reasons_that_are_counted() {
    let machines = [json!({"name": "m", "count": 20, "cpu": 8, "ram": 8, "gpus": 2})];
    let job = |name: &str, more: serde_json::Value| {
        let mut job = json!({"name": name, "user": "u", "priority": 200, "count": 2,
            "limit": {"cpu": 1}});
        more.as_object().unwrap().iter().for_each(|(key, value)| job[key] = value.clone());
        job
    };
    let sets = [job("set", json!({}))];
    let jobs = [
        job("free", json!({"different_machines": true, "spread": [{"domain": "rack"}]})),
        job("spread", json!({"spread": [{"domain": "rack", "max_per_domain": 2}]})),
        job("in-allocs", json!({"alloc_set": "set"})),
        job("tied", json!({"tied_to_machines": true})),
        job("gpu", json!({"limit": {"cpu": 1, "gpu": {"count": 1, "milli": 500}}})),
    ];
    let trace = crate::infeasible::trace(&machines, &sets, &jobs);
    let options = options(0.0, Some(1));
    let compaction = Compaction::new(&trace, &options).unwrap();
    let (model, may_wait) = model_of(&compaction, options.accounting);
    let proofs = Proofs::search(&model, Effort::default());
    let (tasks, prices) = (compaction.tasks(), proofs.prices().unwrap());
    let cell = compaction.cell();
    let problem = Problem::new(cell, tasks, options.accounting, &model, prices, &may_wait);
    // What is tied is left out of the compaction.
    let expected = HeldCount { spread: 2, allocs: 4, ..HeldCount::default() };
    assert_eq!(problem.held_count(), expected);
    let held: Vec<(&str, Option<Held>)> = cell
        .tasks()
        .filter(|(task, ..)| task.position == 0)
        .map(|(task, job, _)| (job.name.as_str(), problem.held(task)))
        .collect();
    let expected = [
        ("set", Some(Held::Allocs)),
        ("free", None),
        ("spread", Some(Held::Spread)),
        ("in-allocs", Some(Held::Allocs)),
        ("tied", Some(Held::Tied)),
        ("gpu", None),
    ];
    assert_eq!(held, expected);
}
