//! How long it takes to read the bundled trace: Google's cell of May 2011 at time 0.

use criterion::{Criterion, criterion_group, criterion_main};
use traces::{ReadOptions, load};

const TRACE: &str = "google-2011-t0";

/// Machines and tasks in that trace (`traces/data/google-2011-t0/README.md`).
const MACHINE_COUNT: usize = 12_477;
const TASK_COUNT: usize = 144_339;

fn load_bundled(criterion: &mut Criterion) {
    let read = || load(TRACE, ReadOptions::default()).expect("the bundled trace is sound");
    let cell = read().cell;
    assert_eq!(cell.machines.len(), MACHINE_COUNT);
    assert_eq!(cell.task_count(|_, _| true), TASK_COUNT);

    let mut group = criterion.benchmark_group("load");
    group.sample_size(10);
    group.bench_function(TRACE, |bencher| bencher.iter_with_large_drop(read));
    group.finish();
}

criterion_group!(benches, load_bundled);
criterion_main!(benches);
