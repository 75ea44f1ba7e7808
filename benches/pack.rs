//! How long a pass takes that packs the bundled cell's workload from scratch, by each policy.
//!
//! It is the pass alone, as `fauxmaster pack` reports its seconds: no reading, no report. Machines are
//! the cell's own, by limits more tasks than fit, so that what finds no place is decided as well.

use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use fauxmaster::workload;
use scheduler::{Accounting, PassOptions, Slot, Snapshot, Speed, pass, policies};
use traces::{ReadOptions, load};

/// Running tasks of the bundled trace that are tied to no machine: those below priority 11.
const TASK_COUNT: usize = 126_442;

fn pack_by_policy(criterion: &mut Criterion) {
    let trace = load("google-2011-t0", ReadOptions::default()).expect("the bundled trace is sound");
    let tasks = workload::from_scratch(&trace);
    assert_eq!(tasks.len(), TASK_COUNT);
    let snapshot = Snapshot::empty(&trace.cell, &Slot::all(&trace.cell), Accounting::Limits);

    let mut group = criterion.benchmark_group("pack");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).warm_up_time(Duration::from_secs(1));
    group.throughput(Throughput::Elements(TASK_COUNT as u64));
    for policy in policies() {
        let name = policy.name().to_owned();
        let options = PassOptions {
            queue: policy.queue,
            policy,
            seed: 7,
            speed: Speed::default(),
            pending_limit: None,
        };
        let run = || pass(&snapshot, &tasks, &options);

        let plan = run();
        assert!(plan.is_complete, "{name} gave up");
        let placed_count = tasks.iter().filter(|&&task| plan.end.placement(task).is_some()).count();
        assert_eq!(placed_count + plan.pending.len(), TASK_COUNT, "{name} lost a task");
        // Best fit, which strands the most, places 70 % of them on this cell (measured).
        assert!(placed_count > TASK_COUNT / 2, "{name} placed only {placed_count}");
        drop(plan);

        group.bench_function(name, |bencher| bencher.iter_with_large_drop(run));
    }
    group.finish();
}

criterion_group!(benches, pack_by_policy);
criterion_main!(benches);
