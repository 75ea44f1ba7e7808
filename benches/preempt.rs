//! How long a pass takes that preempts its way into a full cell. Victims go back to the queue.
//!
//! - `equal` and `unequal`: 5,000 machines full of batch and free tasks, and 5,000 production tasks that
//!   arrive. Machines, victims and arrivals are all alike in one; in the other they are of several shapes and
//!   of many jobs and priorities, and victims look for victims of their own.
//! - `mixed`: 12,000 machines of the bundled cell full of its workload, and 1,000 other tasks of it, drawn at
//!   random, that arrive: hardly two of them alike.

use std::collections::BTreeSet;
use std::time::Duration;

use cell::{
    Bytes, Capacity, Cell, Job, JobId, JobKind, Machine, MilliCpu, Priority, Resources, Task,
    TaskId, UserId,
};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use fauxmaster::workload::{self, Purpose};
use rand::seq::SliceRandom;
use scheduler::{Accounting, Assignment, PassOptions, Plan, Policy, Slot, Snapshot, Speed, pass};
use traces::{ReadOptions, Trace, load};

const MACHINE_COUNT: usize = 5000;
const ARRIVAL_COUNT: usize = 5000;
/// Of the bundled cell.
const MIXED_MACHINE_COUNT: usize = 12_000;
const MIXED_ARRIVAL_COUNT: usize = 1000;

const USER_COUNT: u32 = 10;
const GIB: u64 = 1 << 30;

fn machine(index: usize, cores: u64, ram_gib: u64) -> Machine {
    Machine {
        name: format!("machine-{index}"),
        capacity: Capacity {
            cpu: MilliCpu(cores * 1000),
            ram: Bytes(ram_gib * GIB),
            ..Capacity::default()
        },
        ..Machine::default()
    }
}

fn job(index: usize, priority: u16, milli_cpu: u64, ram_gib: u64, task_count: u32) -> Job {
    let limit =
        Resources { cpu: MilliCpu(milli_cpu), ram: Bytes(ram_gib * GIB), ..Resources::default() };
    let task = |index| Task::new(index, limit);
    Job {
        name: format!("job-{index}"),
        kind: JobKind::Job,
        user: UserId(u32::try_from(index).expect("small") % USER_COUNT),
        priority: Priority::new(priority).expect("in range"),
        constraints: Vec::new(),
        different_machines: false,
        spread: Vec::new(),
        packages: BTreeSet::new(),
        alloc_set: None,
        tied_to_machines: false,
        max_disrupted: None,
        tasks: (0..task_count).map(task).collect(),
    }
}

fn cell_of(machines: Vec<Machine>, jobs: Vec<Job>) -> Cell {
    let users = (0..USER_COUNT).map(|index| format!("user-{index}")).collect();
    Cell { machines: machines.into(), users, jobs: jobs.into(), ..Cell::default() }
}

/// A machine has 4 cores and runs four batch tasks of 0.9; an arrival asks for 3.
fn equal() -> Cell {
    let machines = (0..MACHINE_COUNT).map(|index| machine(index, 4, 32)).collect();
    let mut jobs: Vec<Job> =
        (0..20).map(|index| job(index, if index < 10 { 0 } else { 100 }, 900, 1, 1000)).collect();
    jobs.extend((20..25).map(|index| job(index, 200, 3000, 1, 1000)));
    cell_of(machines, jobs)
}

/// Numbers that look random (splitmix64, Steele et al. 2014).
struct Scattered(u64);

impl Scattered {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        let count = u64::try_from(list.len()).expect("short");
        list[usize::try_from(self.below(count)).expect("short")]
    }
}

/// 600 jobs of batch and free, each with a limit of its own, and 250 of production.
fn unequal() -> Cell {
    let mut numbers = Scattered(1);
    let shapes = [(8, 32), (16, 32), (16, 64), (32, 64)];
    let machines = (0..MACHINE_COUNT).map(|index| {
        let (cores, ram_gib) = numbers.of(&shapes);
        machine(index, cores, ram_gib)
    });
    let machines = machines.collect();
    let mut jobs: Vec<Job> = Vec::new();
    for index in 0..600 {
        let priority = numbers.of(&[0, 50, 100, 115]);
        let (milli_cpu, ram_gib) = (1000 + 100 * numbers.below(60), 2 + numbers.below(14));
        jobs.push(job(index, priority, milli_cpu, ram_gib, 40));
    }
    for index in 600..850 {
        let priority = numbers.of(&[120, 200, 300, 360]);
        let (milli_cpu, ram_gib) = (2000 + 100 * numbers.below(60), 3 + numbers.below(20));
        jobs.push(job(index, priority, milli_cpu, ram_gib, 20));
    }
    cell_of(machines, jobs)
}

fn is_arrival(cell: &Cell, task: TaskId) -> bool {
    cell.job(task.job).priority.band().is_prod()
}

/// Fills the machines with tasks below production, one of each job in turn, each on the next machine that has
/// room.
fn full(cell: &Cell) -> Snapshot<'_> {
    let mut snapshot = Snapshot::empty(cell, &Slot::all(cell), Accounting::Limits);
    let mut row = 0;
    let task_count = cell.jobs.iter().map(|job| job.tasks.len()).max().unwrap_or(0);
    for position in (0..).take(task_count) {
        for (job, of_job) in cell.jobs.iter().enumerate() {
            let task = TaskId { job: JobId::from_index(job), position };
            if is_arrival(cell, task) || position as usize >= of_job.tasks.len() {
                continue;
            }
            let asked = snapshot.charged(task);
            let fits = |row: usize| {
                let free = snapshot.free(row);
                free[0] >= asked[0] && free[1] >= asked[1]
            };
            let rows = (row..MACHINE_COUNT).chain(0..row);
            if let Some(found) = rows.into_iter().find(|&row| fits(row)) {
                snapshot.place(task, found);
                row = (found + 1) % MACHINE_COUNT;
            }
        }
    }
    snapshot
}

struct Case<'c> {
    name: &'static str,
    full: Snapshot<'c>,
    arrivals: Vec<TaskId>,
}

fn case<'c>(name: &'static str, cell: &'c Cell) -> Case<'c> {
    let arrivals = cell.tasks().map(|(id, _, _)| id).filter(|&id| is_arrival(cell, id)).collect();
    Case { name, full: full(cell), arrivals }
}

/// The bundled cell's workload by limits, as much of it as finds a place: 99.5 % of CPU is taken.
fn mixed(trace: &Trace) -> Case<'_> {
    let mut tasks = workload::from_scratch(trace);
    tasks.shuffle(&mut workload::generator(1, Purpose::Arrivals, 0));
    let arrivals = tasks.split_off(tasks.len() - MIXED_ARRIVAL_COUNT);
    tasks.sort_unstable();
    let slots = &Slot::all(&trace.cell)[..MIXED_MACHINE_COUNT];
    let empty = Snapshot::empty(&trace.cell, slots, Accounting::Limits);
    let full = pass(&empty, &tasks, &options()).end;
    Case { name: "mixed", full, arrivals }
}

/// The fraction of all CPU that is taken.
fn cpu_taken(snapshot: &Snapshot<'_>) -> f64 {
    let (mut free, mut all) = (0.0, 0.0);
    for row in 0..snapshot.machine_count() {
        let capacity = snapshot.capacities(row)[0];
        free += capacity * snapshot.free_fractions(row)[0].unwrap_or(0.0);
        all += capacity;
    }
    1.0 - free / all
}

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

fn run<'c>(case: &Case<'c>) -> Plan<'c> {
    pass(&case.full, &case.arrivals, &options())
}

/// Who found victims, of the tasks that arrived and of those that victims are.
fn preemptors<'p>(
    case: &Case<'_>,
    plan: &'p Plan<'_>,
) -> (Vec<&'p Assignment>, Vec<&'p Assignment>) {
    let with_victims = plan.assignments.iter().filter(|made| !made.victims.is_empty());
    with_victims.partition(|made| case.full.placement(made.task).is_none())
}

#[expect(clippy::print_stdout, reason = "says what was measured")]
fn preempt(criterion: &mut Criterion) {
    let trace = load("google-2011-t0", ReadOptions::default()).expect("the bundled trace is sound");
    let (equal, unequal) = (equal(), unequal());
    let mut group = criterion.benchmark_group("preempt");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(5));
    for case in [case("equal", &equal), case("unequal", &unequal), mixed(&trace)] {
        let name = case.name;
        let plan = run(&case);
        assert!(plan.is_complete, "{name} gave up");
        let (arrived, cascaded) = preemptors(&case, &plan);
        let kinds: BTreeSet<_> = arrived
            .iter()
            .chain(&cascaded)
            .map(|made| {
                let job = case.full.cell().job(made.task.job);
                (case.full.charged(made.task), job.priority, &job.constraints)
            })
            .collect();
        let in_place = |id: &&TaskId| plan.end.placement(**id).is_some();
        let placed = case.arrivals.iter().filter(in_place).count();
        println!(
            "preempt/{name}: {} arrive, {placed} placed, {} by preemption; {} victims found victims; {} kinds \
             of tasks did; {:.1} % of CPU was taken",
            case.arrivals.len(),
            arrived.len(),
            cascaded.len(),
            kinds.len(),
            100.0 * cpu_taken(&case.full)
        );
        match name {
            "equal" => assert_eq!(arrived.len(), ARRIVAL_COUNT),
            // Victims leave more room than was asked for, which some arrivals find.
            "unequal" => assert!(arrived.len() > ARRIVAL_COUNT / 2 && placed == ARRIVAL_COUNT),
            _ => assert!(arrived.len() > MIXED_ARRIVAL_COUNT / 10 && cpu_taken(&case.full) > 0.98),
        }
        // What is of the lowest priorities in the bundled cell finds none that matter less.
        assert!(!cascaded.is_empty() || name == "mixed", "{name}: no victim looked for victims");
        drop(plan);
        group.throughput(Throughput::Elements(case.arrivals.len() as u64));
        group.bench_function(name, |bencher| bencher.iter_with_large_drop(|| run(&case)));
    }
    group.finish();
}

criterion_group!(benches, preempt);
criterion_main!(benches);
