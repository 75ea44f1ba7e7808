//! Certificates that were tampered with are rejected.

use optimizer::bound::Effort;
use optimizer::certificate::{Certificate, Flaw, Knapsack, verify};
use optimizer::model::Model;
use optimizer::proof::Proofs;
use proptest::prelude::{any, prop_assert, prop_assert_eq};
use proptest::{prop_assume, proptest};
use scheduler::Accounting;
use serde_json::json;
use traces::Trace;

use crate::small::{cases, trace, traces};

fn model(trace: &Trace) -> Model {
    let tasks: Vec<cell::TaskId> = trace.cell.tasks().map(|(id, _, _)| id).collect();
    Model::of(&trace.cell, &tasks, Accounting::Limits, 0, &|_| true)
}

fn small() -> Model {
    let machines = [
        json!({"name": "big", "count": 2, "cpu": 8, "ram": 4}),
        json!({"name": "small", "count": 2, "cpu": 4, "ram": 4}),
    ];
    let job = |name: &str, cpu: u64, ram: u64| {
        json!({"name": name, "user": "u", "priority": 200, "count": 3,
            "limit": {"cpu": cpu, "ram": ram}})
    };
    model(&trace(&machines, &[job("a", 3, 1), job("b", 1, 2)]))
}

fn transport(model: &Model) -> Certificate {
    let proofs = Proofs::search(model, Effort::default());
    let found = proofs.all.iter().find(|proof| proof.certificate.method == "transport").unwrap();
    found.certificate.clone()
}

#[test]
fn a_lowered_value_is_found_out() {
    let model = small();
    let mut certificate = transport(&model);
    assert!(verify(&model, &certificate).is_ok());
    certificate.machines[1].value -= 1;
    let flaw = verify(&model, &certificate).unwrap_err();
    assert!(matches!(flaw, Flaw::Value { shape: 1, .. }), "{flaw}");
}

#[test]
fn a_raised_price_is_found_out() {
    let model = small();
    let mut certificate = transport(&model);
    for task in &mut certificate.tasks {
        task.price += task.price / 1000 + 1;
    }
    let flaw = verify(&model, &certificate).unwrap_err();
    assert!(matches!(flaw, Flaw::Value { .. }), "{flaw}");
}

#[test]
fn lowered_multipliers_are_found_out() {
    let model = small();
    let mut certificate = transport(&model);
    for multiplier in &mut certificate.machines[0].multipliers {
        *multiplier -= *multiplier / 1000;
    }
    let flaw = verify(&model, &certificate).unwrap_err();
    assert!(matches!(flaw, Flaw::Value { shape: 0, .. }), "{flaw}");
}

#[test]
fn another_workload_is_found_out() {
    let model = small();
    let certificate = transport(&model);
    let mut other = certificate.clone();
    other.tasks[0].demand[0] += 1;
    assert!(matches!(verify(&model, &other), Err(Flaw::OtherModel(_))));
    let mut other = certificate.clone();
    other.tasks[0].constraints.push("kind = first".to_owned());
    assert!(matches!(verify(&model, &other), Err(Flaw::OtherModel(_))));
    let mut other = certificate.clone();
    other.machines[0].capacity[1] = None;
    assert!(matches!(verify(&model, &other), Err(Flaw::OtherModel(_))));
    let mut other = certificate.clone();
    other.machines.pop();
    assert!(matches!(verify(&model, &other), Err(Flaw::OtherModel(_))));
    let mut other = certificate;
    other.tasks.pop();
    assert!(matches!(verify(&model, &other), Err(Flaw::OtherModel(_))));
}

#[test]
fn numbers_out_of_range_are_found_out() {
    let model = small();
    let certificate = transport(&model);
    let check = |change: &dyn Fn(&mut Certificate)| {
        let mut other = certificate.clone();
        change(&mut other);
        let flaw = verify(&model, &other).unwrap_err();
        assert!(matches!(flaw, Flaw::Range(_)), "{flaw}");
    };
    check(&|other| other.denominator_log2 = 63);
    check(&|other| other.tasks[0].price = u64::MAX);
    check(&|other| other.machines[0].multipliers[0] = u64::MAX);
    // A machine that states no disk has any amount of it.
    check(&|other| other.machines[0].multipliers[2] = 1);
    check(&|other| other.machines[0].knapsack = Some(Knapsack { resource: 6, unit: 1 }));
    check(&|other| other.machines[0].knapsack = Some(Knapsack { resource: 0, unit: 0 }));
    check(&|other| other.machines[0].knapsack = Some(Knapsack { resource: 2, unit: 1 }));
}

proptest! {
    #![proptest_config(cases(200))]

    /// Whatever the prices, a value that the verifier lets pass is no less than the dearest set of tasks
    /// that fits on the machine, by trying every set.
    #[test]
    fn what_passes_is_true(
        trace in traces(),
        prices in proptest::collection::vec(0..20_u64, 9),
        multipliers in proptest::collection::vec(0..3_u64, 18),
        knapsacks in proptest::collection::vec(any::<Option<bool>>(), 3),
    ) {
        let model = model(&trace);
        let mut certificates = optimizer::bound::volume(&model);
        // No task asks for anything.
        prop_assume!(!certificates.is_empty());
        let mut certificate = certificates.remove(0);
        certificate.tasks.iter_mut().zip(prices).for_each(|(task, price)| task.price = price * 1000);
        for (machine, (of, knapsack)) in
            certificate.machines.iter_mut().zip(multipliers.chunks(6).zip(knapsacks))
        {
            // Disk is not stated, and no GPU is there.
            machine.multipliers = [of[0], of[1] * 1000, 0, of[3], of[4], of[5]];
            machine.knapsack = knapsack.map(|is_ram| Knapsack {
                resource: usize::from(is_ram),
                unit: if is_ram { 1 } else { 700 },
            });
        }
        for shape in 0..model.machines.len() {
            let truth = dearest(&model, &certificate, shape);
            certificate.machines[shape].value = truth;
            // The truth may be more than the certificate can prove, and then it is refused; one less
            // than the truth must always be.
            if truth > 0 {
                let mut wrong = certificate.clone();
                wrong.machines[shape].value = truth - 1;
                let refused = match verify(&model, &wrong) {
                    Err(Flaw::Value { shape: at, proven, .. }) => at != shape || proven >= truth,
                    Err(_) | Ok(_) => false,
                };
                prop_assert!(refused, "shape {}", shape);
            }
            certificate.machines[shape].value = u64::MAX;
        }
        prop_assert_eq!(verify(&model, &certificate).err(), None);
    }
}

/// The dearest set of tasks on an empty machine, by trying every set.
fn dearest(model: &Model, certificate: &Certificate, shape: usize) -> u64 {
    fn most(
        model: &Model,
        certificate: &Certificate,
        shape: usize,
        task: usize,
        free: [u64; 6],
    ) -> u64 {
        if task == model.tasks.len() {
            return 0;
        }
        let mut best = 0;
        let mut free = free;
        for count in 0..=model.tasks[task].count {
            let price = certificate.tasks[task].price * count;
            best = best.max(price + most(model, certificate, shape, task + 1, free));
            let demand = model.tasks[task].demand;
            if !model.fits(task, shape) || (0..6).any(|r| demand[r] > free[r]) {
                break;
            }
            (0..6).for_each(|r| free[r] -= demand[r]);
        }
        best
    }
    most(model, certificate, shape, 0, model.machines[shape].capacity)
}
