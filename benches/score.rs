//! How long it takes to score every machine of the bundled cell for one equivalence class.
//!
//! It is the arithmetic alone: what a score reads of a machine and of a class is prepared before, and
//! scores are written to memory as a pass does it.

use std::hint::black_box;
use std::time::Duration;

use cell::{Cell, Resources, TaskId};
use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use fauxmaster::{PackOptions, pack, workload};
use scheduler::score::best_fit::BestFit;
use scheduler::score::e_pvm::EPvm;
use scheduler::score::hybrid::Hybrid;
use scheduler::score::{Ask, HostView, RowScore};
use scheduler::{Policy, Snapshot};
use traces::{ReadOptions, load};

fn score_every_machine(criterion: &mut Criterion) {
    let trace = load("google-2011-t0", ReadOptions::default()).expect("the bundled trace is sound");
    let machine_count = trace.cell.machines.len();
    // Twice the machines and the policy that spreads: no machine is full, and no two classes of
    // machines are equally loaded.
    let spread = Policy::by_name("e-pvm").expect("one of ours");
    let options = PackOptions { clones: 2, ..PackOptions::new(spread, 7) };
    let packing = pack(&trace, &options).expect("there are machines");
    let cell_views = Views::of(&packing.plan.end, machine_count);
    let ask = commonest_ask(&trace.cell, &workload::from_scratch(&trace));
    assert_eq!(cell_views.hosts.len(), machine_count);
    let fits = |host: &HostView| host.free[0] >= ask.cpu && host.free[1] >= ask.ram;
    assert!(cell_views.hosts.iter().all(fits), "a score is defined where the task fits");

    let mut group = criterion.benchmark_group("score");
    // A run takes microseconds: a second holds thousands of them.
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Elements(machine_count as u64));
    bench(&mut group, "hybrid", &Hybrid, &ask, &cell_views);
    bench(&mut group, "best-fit", &BestFit, &ask, &cell_views);
    bench(&mut group, "e-pvm", &EPvm::new(machine_count), &ask, &cell_views);
    group.finish();
}

fn bench<S: RowScore>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    score: &S,
    ask: &Ask,
    views: &Views,
) {
    let class = score.class(ask, &views.shapes);
    let columns: Vec<S::Columns> = views.hosts.iter().map(|host| score.columns(host)).collect();
    let mut scores = vec![f64::NAN; columns.len()];
    let mut run = || {
        for (slot, columns) in scores.iter_mut().zip(&columns) {
            *slot = score.score(black_box(&class), columns);
        }
        black_box(&mut scores);
    };

    run();
    group.bench_function(name, |bencher| bencher.iter(&mut run));
    assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)), "{name} is out of range");
    assert!(scores.iter().sum::<f64>() > 0.0, "{name} scored nothing");
    assert!(scores.iter().any(|&score| score != scores[0]), "{name} prefers no machine");
}

/// What scores read of machines.
#[derive(Debug)]
struct Views {
    hosts: Vec<HostView>,
    /// Distinct capacities (CPU, RAM), which a view's shape is an index of.
    shapes: Vec<(f64, f64)>,
}

impl Views {
    /// Of the snapshot's first so many machines.
    fn of(snapshot: &Snapshot<'_>, machine_count: usize) -> Self {
        let (mut hosts, mut shapes) = (Vec::with_capacity(machine_count), Vec::new());
        for row in 0..machine_count {
            let capacity = snapshot.capacities(row);
            let fractions = snapshot.free_fractions(row).map(Option::unwrap_or_default);
            let free = std::array::from_fn(|r| (fractions[r] * capacity[r]).round());
            let wanted = (capacity[0], capacity[1]);
            let known = shapes.iter().position(|&shape| shape == wanted);
            let shape = known.unwrap_or_else(|| {
                shapes.push(wanted);
                shapes.len() - 1
            });
            let shape = u32::try_from(shape).expect("fewer shapes than machines");
            hosts.push(HostView { free, capacity, shape, ..HostView::default() });
        }
        Self { hosts, shapes }
    }
}

/// What the largest number of tasks asks for.
fn commonest_ask(cell: &Cell, tasks: &[TaskId]) -> Ask {
    let mut limits: Vec<Resources> = tasks.iter().map(|&task| cell.task(task).limit).collect();
    limits.sort();
    let commonest =
        limits.chunk_by(PartialEq::eq).max_by_key(|equal| equal.len()).expect("there are tasks")[0];
    #[expect(clippy::cast_precision_loss, reason = "quantities are below 2^53")]
    let exact = |amount: u64| amount as f64;
    Ask {
        cpu: exact(commonest.cpu.0),
        ram: exact(commonest.ram.0),
        disk: exact(commonest.disk.0),
        ..Ask::default()
    }
}

criterion_group!(benches, score_every_machine);
criterion_main!(benches);
