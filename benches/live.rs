//! What a scheduling pass costs a master whose cell is running: 12,477 machines and 140,000 tasks of the
//! bundled cell, of which 1,000, drawn at random, lose their place and are scheduled again.
//!
//! - `given`: on rooms that are kept from pass to pass and given away to the pass.
//! - `copied`: the same on a copy, so that the plan stays a proposal.
//! - `anew`: on a snapshot made from the cell, with no rooms kept.
//! - `clone`, `deltas`: parts of these: the copy; the thousand removals and a thousand other tasks charged by a
//!   new reservation.

use std::time::Duration;

use cell::{Cell, Resources, TaskId};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use fauxmaster::workload::{self, Purpose};
use rand::seq::SliceRandom;
use scheduler::{Accounting, PassOptions, Policy, Rooms, Slot, Snapshot, Speed, pass, pass_on};
use traces::{ReadOptions, load};

const MOVED_COUNT: usize = 1000;

fn options() -> PassOptions<'static> {
    let policy = Policy::by_name("borg-hybrid").expect("one of ours");
    PassOptions {
        queue: policy.queue,
        policy,
        seed: 7,
        speed: Speed::default(),
        pending_limit: None,
    }
}

/// Tasks that lose their place, and others that are recharged.
struct Deltas {
    moved: Vec<TaskId>,
    recharged: Vec<TaskId>,
}

impl Deltas {
    fn of(rooms: &Rooms, cell: &Cell) -> Self {
        let ids = cell.tasks().map(|(id, _, _)| id);
        let mut moved: Vec<TaskId> = ids.filter(|&id| rooms.placement(id).is_some()).collect();
        moved.shuffle(&mut workload::generator(1, Purpose::Arrivals, 0));
        let recharged = moved.split_off(MOVED_COUNT).into_iter().take(MOVED_COUNT).collect();
        moved.sort_unstable();
        Self { moved, recharged }
    }

    fn happen(&self, rooms: &mut Rooms, cell: &Cell) {
        for &task in &self.moved {
            if rooms.placement(task).is_some() {
                rooms.remove(task);
            }
        }
        for &task in &self.recharged {
            if rooms.placement(task).is_some() {
                rooms.recharge(cell, task);
            }
        }
    }
}

/// Everyone is expected to use 60 to 89 % of the limit.
fn reserve(cell: &mut Cell) {
    let tasks = cell.jobs.iter_mut().flat_map(|job| &mut job.tasks);
    for (task, permille) in tasks.zip((600..900).cycle()) {
        let Resources { mut cpu, mut ram, .. } = task.limit;
        cpu.0 = cpu.0 * permille / 1000;
        ram.0 = ram.0 * permille / 1000;
        task.reservation = Some(Resources { cpu, ram, ..task.limit });
    }
}

fn live(criterion: &mut Criterion) {
    let trace = load("google-2011-t0", ReadOptions::default()).expect("the bundled trace is sound");
    let mut cell = trace.cell;
    let slots = Slot::all(&cell);
    let deltas = Deltas::of(&Snapshot::recorded(&cell, &slots, Accounting::Limits), &cell);
    reserve(&mut cell);
    // What starts again has no record yet.
    for task in &deltas.moved {
        cell.jobs[task.job.index()].tasks[task.position as usize].reservation = None;
    }
    let recorded = || Snapshot::recorded(&cell, &slots, Accounting::Recorded);
    let start = recorded().into_rooms();
    let (moved, options) = (&deltas.moved, options());

    let mut group = criterion.benchmark_group("live");
    group.sample_size(20).measurement_time(Duration::from_secs(5));
    let mut kept = Some(start.clone());
    group.bench_function("given", |bencher| {
        bencher.iter(|| {
            let mut rooms = kept.take().expect("put back below");
            deltas.happen(&mut rooms, &cell);
            let plan = pass_on(Snapshot::resume(&cell, rooms), moved, &options);
            assert!(plan.assignments.len() > MOVED_COUNT / 2);
            kept = Some(plan.end.into_rooms());
        });
    });
    let mut rooms = start.clone();
    deltas.happen(&mut rooms, &cell);
    let mut kept = Some(rooms);
    group.bench_function("copied", |bencher| {
        bencher.iter(|| {
            let snapshot = Snapshot::resume(&cell, kept.take().expect("put back below"));
            let plan = pass(&snapshot, moved, &options);
            kept = Some(snapshot.into_rooms());
            plan.assignments.len()
        });
    });
    group.bench_function("anew", |bencher| {
        bencher.iter(|| {
            let mut snapshot = recorded();
            moved.iter().for_each(|&task| drop(snapshot.remove(task)));
            pass_on(snapshot, moved, &options).assignments.len()
        });
    });
    group.bench_function("clone", |bencher| {
        bencher.iter_with_large_drop(|| start.clone());
    });
    group.bench_function("deltas", |bencher| {
        let happen = |mut rooms: Rooms| {
            deltas.happen(&mut rooms, &cell);
            rooms
        };
        bencher.iter_batched(|| start.clone(), happen, BatchSize::LargeInput);
    });
    group.finish();
}

criterion_group!(benches, live);
criterion_main!(benches);
