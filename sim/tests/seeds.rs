//! Whole cells under faults: every invariant holds for these seeds, and known bugs are found.

use rayon::prelude::*;
use sim::coverage::Coverage;
use sim::{Fault, Options, Summary, run};

/// Runs some seeds, holds each to what a run has to have met, and all together to having met every fault and
/// every cell of the coverage matrix that does not say why it is empty.
fn hold(seeds: std::ops::Range<u64>) {
    let summaries: Vec<Summary> = seeds
        .into_par_iter()
        .map(|seed| match run(&Options::new(seed)) {
            Ok(summary) => {
                assert!(summary.virtual_ms >= 600_000, "seed {seed}: {} ms", summary.virtual_ms);
                let count = summary.acknowledged_count;
                assert!(count >= 1_000, "seed {seed}: {count} operations");
                let count = summary.leader_count;
                assert!(count >= 3, "seed {seed}: {count} leaders");
                summary
            }
            Err(failure) => panic!("{failure}; again: cargo run -p sim -- --seed {seed} --trace"),
        })
        .collect();
    let mut coverage = Coverage::default();
    for summary in &summaries {
        coverage.add(&summary.coverage);
    }
    for fault in Fault::ALL {
        let is_met = |summary: &Summary| summary.faults.get(&fault).is_some_and(|&count| count > 0);
        assert!(summaries.iter().any(is_met), "no seed met {}", fault.name());
    }
    let restored: u64 = summaries.iter().map(|summary| summary.restored_count).sum();
    assert!(restored > 0, "no seed restored its cell");
    let (_, empty) = coverage.table();
    assert!(empty.is_empty(), "never met: {empty:?}");
}

#[test]
fn invariants_hold_for_seeds_1_to_100_and_they_meet_everything() {
    hold(1..101);
}

#[test]
fn invariants_hold_for_seeds_101_to_200_and_they_meet_everything() {
    hold(101..201);
}

#[test]
fn the_same_seed_gives_the_same_trace_byte_for_byte() {
    let options = Options { faulty_ms: 120_000, operation_count: 100, ..Options::new(7) };
    let options = Options { keeps_trace: true, ..options };
    let one = run(&options).expect("every invariant holds");
    let other = run(&options).expect("every invariant holds");
    let trace = one.trace.clone().unwrap_or_default();
    assert!(trace.lines().count() > 100, "{trace}");
    assert_eq!(one, other);
    let another = run(&Options { seed: 8, ..options }).expect("every invariant holds");
    assert_ne!(another.digest, one.digest);
}

/// Bugs exist in test builds alone.
#[cfg(debug_assertions)]
#[test]
fn known_bugs_are_found() {
    for name in sim::Mutations::NAMES {
        let mutations = sim::Mutations::named(name).expect("it is in the list");
        let found = (1..=1_000).find_map(|seed| {
            let options = Options { mutations: mutations.clone(), ..Options::new(seed) };
            run(&options).err()
        });
        assert!(found.is_some(), "{name} was not found in 1,000 seeds");
    }
}
