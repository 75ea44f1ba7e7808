//! The bundled cell: Google's of May 2011 at time 0, 12,477 machines.

use std::sync::LazyLock;

use fauxmaster::{CompactOptions, PackError, PackOptions, Start, compact, pack};
use scheduler::{Accounting, Policy, Speed, UsageRatio, policies};
use traces::{ReadOptions, Trace, load};

static TRACE: LazyLock<Trace> =
    LazyLock::new(|| load("google-2011-t0", ReadOptions::default()).unwrap());

/// Running tasks below priority 11, counted in the trace.
const TASK_COUNT: usize = 126_442;

fn check_pack(options: &PackOptions) {
    let packing = pack(&TRACE, options).unwrap();
    let report = &packing.report;
    let name = &report.policy;
    assert_eq!(report.task_count, TASK_COUNT, "{name}");
    assert_eq!(report.placed_count + report.pending_count, TASK_COUNT, "{name}");
    let sum = |by_band: &fauxmaster::report::ByBand| by_band.values().sum::<usize>();
    assert_eq!(sum(&report.placed_by_band), report.placed_count, "{name}");
    assert_eq!(sum(&report.pending_by_band), report.pending_count, "{name}");
    assert_eq!(packing.plan.pending.len(), report.pending_count, "{name}");
    for shares in [&report.allocation, &report.stranding] {
        assert_eq!(shares.keys().copied().collect::<Vec<_>>(), ["cpu", "ram"], "{name}");
        assert!(shares.values().all(|share| (0.0..=1.0).contains(share)), "{name}: {shares:?}");
    }
    for (resource, allocation) in &report.allocation {
        // What is stranded is free.
        assert!(allocation + report.stranding[resource] <= 1.0 + 1e-9, "{name}");
    }
    assert_eq!(packing.machines.len(), report.machine_count);
    let in_range = |fill: &fauxmaster::report::MachineFill| {
        (0.0..=1.0).contains(&fill.cpu) && (0.0..=1.0).contains(&fill.ram)
    };
    assert!(packing.machines.iter().all(in_range), "{name}");
    assert_eq!(packing.plan.end.check_sums(), None, "{name}");
    // No machine holds more than it has.
    let end = &packing.plan.end;
    for row in 0..end.machine_count() {
        let free = end.free_fractions(row);
        assert!(free.iter().flatten().all(|&free| free >= 0.0), "{name}, row {row}: {free:?}");
    }
}

#[test]
fn every_policy_packs_the_whole_cell() {
    for policy in policies() {
        check_pack(&PackOptions::new(policy, 7));
    }
}

#[test]
fn every_accounting_packs_the_whole_cell() {
    let ratio = UsageRatio::GOOGLE_2011_SAMPLE;
    for (policy, accounting) in [
        ("borg-hybrid", Accounting::Reclaimed(ratio)),
        ("e-pvm", Accounting::Reclaimed(ratio)),
        ("kube-default", Accounting::RightSized(ratio)),
    ] {
        let mut options = PackOptions::new(Policy::by_name(policy).unwrap(), 7);
        options.accounting = accounting;
        check_pack(&options);
    }
}

#[test]
fn a_seed_decides_everything() {
    let policy = Policy::by_name("kube-default").unwrap();
    let hash = |seed| {
        let mut options = PackOptions::new(policy.clone(), seed);
        options.machines = Some(1000);
        pack(&TRACE, &options).unwrap().report.assignment_hash
    };
    assert_eq!(hash(7), hash(7));
    assert_ne!(hash(7), hash(8));
}

#[test]
fn switches_of_speed_give_the_same_assignments() {
    let on = Speed::default();
    let switches = [
        Speed { equivalence: false, ..on },
        Speed { cache: false, ..on },
        Speed { index: false, ..on },
        Speed { equivalence: false, cache: false, index: false },
    ];
    for policy in policies() {
        let hash = |speed| {
            let mut options = PackOptions::new(policy.clone(), 7);
            // The whole cell takes several seconds with all switches off.
            options.machines = Some(600);
            options.speed = speed;
            pack(&TRACE, &options).unwrap().report.assignment_hash
        };
        let expected = hash(on);
        for speed in switches {
            assert_eq!(hash(speed), expected, "{} with {speed:?}", policy.name());
        }
    }
}

#[test]
fn fewer_machines_and_more_copies() {
    let pack_on = |machines, clones| {
        let mut options = PackOptions::new(Policy::by_name("best-fit").unwrap(), 7);
        (options.machines, options.clones) = (machines, clones);
        pack(&TRACE, &options).map(|packing| packing.report)
    };
    assert_eq!(pack_on(Some(500), 1).unwrap().machine_count, 500);
    assert_eq!(pack_on(Some(0), 1).unwrap_err(), PackError::NoMachines);
    assert_eq!(pack_on(None, 0).unwrap_err(), PackError::NoMachines);
    let too_few = PackError::TooFewMachines { wanted: 25_000, have: 12_477, enough: 3 };
    assert_eq!(pack_on(Some(25_000), 1).unwrap_err(), too_few);
    // The cell's machines are too few by limits (the bound is above 13,000), and twice as many are enough.
    let twice = pack_on(None, 2).unwrap();
    assert_eq!((twice.machine_count, twice.pending_count), (24_954, 0));
}

#[test]
fn the_recorded_state_is_of_all_machines() {
    let mut options = PackOptions::new(Policy::by_name("borg-hybrid").unwrap(), 7);
    options.start = Start::Recorded;
    options.machines = Some(5);
    assert_eq!(pack(&TRACE, &options).unwrap_err(), PackError::RecordedNeedsAll);
    (options.machines, options.clones) = (None, 2);
    assert_eq!(pack(&TRACE, &options).unwrap_err(), PackError::RecordedNeedsAll);
}

/// The bar of the first issue, which is for the median of 11 trials.
#[test]
fn the_hybrid_needs_at_most_13_500_machines() {
    let options = CompactOptions {
        trials: 2,
        ..CompactOptions::new(Policy::by_name("borg-hybrid").unwrap(), 1)
    };
    let report = compact(&TRACE, &options, &|_| ()).unwrap();
    assert_eq!(report.task_count, TASK_COUNT);
    assert_eq!(report.pending_allowed, 252); // 0.2 % of 126,442 is 252.9
    assert!(!report.pending_only_picky); // this trace has no picky tasks
    assert!(report.machines_by_trial.iter().zip(&report.lower_bound_by_trial).all(|(n, b)| n >= b));
    assert!(report.machines_max <= 13_500, "{report:?}");
}
