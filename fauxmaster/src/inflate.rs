//! Monte-Carlo workload inflation: tasks drawn from a trace arrive one by one until they ask for more GPU
//! than the cell has, and nothing ever leaves.
//!
//! In: a trace, a policy, a seed. Out: for each percent of the cell's GPU capacity that has been asked
//! for, how much of it is allocated and how much of what is free is a fragment. Tasks are drawn with
//! replacement, are served in the order in which they come, and all have one priority, so that none is
//! preempted. The same seed draws the same tasks for every policy.
//!
//! Source: Weng et al., "Beware of Fragmentation" (USENIX ATC '23) §6.1.

use std::collections::BTreeSet;

use cell::{Cell, GPU_DEVICE, Job, JobKind, Priority, Task, TaskId, UserId};
use rand::RngExt;
use scheduler::peers::fragmentation::Fragmentation;
use scheduler::{Accounting, PassOptions, Policy, QueueOrder, Slot, Snapshot, Speed, pass};
use traces::Trace;

use crate::workload::{self, Purpose};

/// The priority that every task gets: production's, which is never preempted.
const PRIORITY: u16 = 200;

/// What arrives, and how it is placed.
#[derive(Clone, Debug)]
pub struct InflateOptions {
    /// The policy; its queue does not matter.
    pub policy: Policy,
    /// Seeds the draws, ties and samples.
    pub seed: u64,
    /// Arrivals end once they ask for so much of the cell's GPU capacity.
    pub until_percent: u32,
}

/// The state when so much has arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct InflationPoint {
    /// Tasks that have arrived.
    pub arrived_count: usize,
    /// Of these, tasks that have a place.
    pub placed_count: usize,
    /// GPU allocated over the cell's capacity, 0..=1.
    pub allocated: f64,
    /// Fragments of the free GPU over the cell's capacity, 0..=1.
    pub fragments: f64,
    /// Fragments over the free GPU, 0..=1; 0 once nothing is free.
    pub fragment_rate: f64,
}

/// Why a workload cannot be inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// No machine has a GPU.
    #[error("the cell has no GPU")]
    NoGpu,
    /// No task asks for one.
    #[error("no task of the workload asks for a GPU")]
    NoDemand,
}

/// The state at 0 %, 1 % and so on up to [`InflateOptions::until_percent`] of the cell's GPU capacity
/// asked for, each taken at the first arrival that reaches it.
///
/// # Errors
/// If the cell has no GPU, or no task asks for one.
pub fn inflate(
    trace: &Trace,
    options: &InflateOptions,
) -> Result<Vec<InflationPoint>, InflateError> {
    let capacity = gpu_capacity(trace)?;
    let cell = drawn(trace, options.seed, capacity, options.until_percent)?;
    let slots = Slot::all(&cell);
    let empty = Snapshot::empty(&cell, &slots, Accounting::Limits);
    let tasks: Vec<TaskId> = cell.tasks().map(|(id, _, _)| id).collect();
    let plan = pass(
        &empty,
        &tasks,
        &PassOptions {
            policy: options.policy.clone(),
            queue: QueueOrder::Fifo,
            seed: workload::pass_seed(options.seed, 0),
            speed: Speed::default(),
            pending_limit: None,
        },
    );
    // What is typical is measured on the trace itself, so that every seed and policy has one measure.
    let of_trace = Snapshot::empty(&trace.cell, &[], Accounting::Limits);
    let fragmentation = Fragmentation::of(&of_trace);
    Ok(replay(empty, &plan.end, &tasks, &fragmentation, capacity, options.until_percent))
}

/// What arrives until `percent` of the cell's GPU capacity is asked for, as a trace whose tasks wait in the
/// order of their arrival: the same arrivals as in [`inflate`] with this seed.
///
/// # Errors
/// If the cell has no GPU, or no task asks for one.
pub fn arrivals(trace: &Trace, seed: u64, percent: u32) -> Result<Trace, InflateError> {
    let cell = drawn(trace, seed, gpu_capacity(trace)?, percent)?;
    Ok(Trace { cell, workload: traces::Workload::All, ..trace.clone() })
}

/// Milli-GPU of all machines.
fn gpu_capacity(trace: &Trace) -> Result<u64, InflateError> {
    let of = |machine: &cell::Machine| u64::from(machine.capacity.gpu_count) * GPU_DEVICE.0;
    match trace.cell.machines.iter().map(of).sum() {
        0 => Err(InflateError::NoGpu),
        capacity => Ok(capacity),
    }
}

/// A cell with the trace's machines, and a job for each task drawn.
fn drawn(
    trace: &Trace,
    seed: u64,
    capacity: u64,
    until_percent: u32,
) -> Result<Cell, InflateError> {
    let of = workload::from_scratch(trace);
    let of: Vec<TaskId> =
        of.into_iter().filter(|id| trace.cell.job(id.job).kind == JobKind::Job).collect();
    if of.iter().all(|&id| trace.cell.task(id).limit.gpu.count == 0) {
        return Err(InflateError::NoDemand);
    }
    let mut generator = workload::generator(seed, Purpose::Arrivals, 0);
    let mut jobs = Vec::new();
    let mut asked = 0;
    // Ends: each draw asks for a GPU with a chance above 0.
    while asked * 100 < capacity * u64::from(until_percent) {
        let id = of[generator.random_range(0..of.len())];
        let limit = trace.cell.task(id).limit;
        asked += limit.gpu.total().0;
        jobs.push(Job {
            name: format!("{}#{}", trace.cell.task_name(id), jobs.len()),
            kind: JobKind::Job,
            user: UserId(0),
            priority: Priority::new(PRIORITY).expect("production's"),
            constraints: trace.cell.job(id.job).constraints.clone(),
            different_machines: false,
            spread: Vec::new(),
            packages: BTreeSet::new(),
            alloc_set: None,
            tied_to_machines: false,
            max_disrupted: None,
            tasks: vec![Task::new(0, limit)].into(),
        });
    }
    let users = vec!["inflation".to_owned()];
    Ok(Cell {
        machines: trace.cell.machines.clone(),
        users: users.into(),
        jobs: jobs.into(),
        ..Cell::default()
    })
}

/// Lets the tasks arrive again, each going where the plan put it, and looks at every percent.
fn replay<'c>(
    mut state: Snapshot<'c>,
    end: &Snapshot<'c>,
    tasks: &[TaskId],
    fragmentation: &Fragmentation,
    capacity: u64,
    until_percent: u32,
) -> Vec<InflationPoint> {
    let mut fragments: Vec<f64> =
        (0..state.machine_count()).map(|row| fragmentation.milli(&state, row)).collect();
    let (mut asked, mut allocated, mut placed_count) = (0_u64, 0_u64, 0);
    let mut points = Vec::new();
    #[expect(clippy::cast_precision_loss, reason = "milli-GPU of a cell are far below 2^53")]
    let mut look = |asked: u64, allocated: u64, fragments: &[f64], counts: (usize, usize)| {
        while points.len() <= until_percent as usize
            && asked * 100 >= capacity * points.len() as u64
        {
            // A fresh sum: a running one would drift.
            let sum: f64 = fragments.iter().sum();
            let free = capacity - allocated;
            points.push(InflationPoint {
                arrived_count: counts.0,
                placed_count: counts.1,
                allocated: allocated as f64 / capacity as f64,
                fragments: sum / capacity as f64,
                fragment_rate: if free == 0 { 0.0 } else { sum / free as f64 },
            });
        }
    };
    look(0, 0, &fragments, (0, 0));
    for (index, &task) in tasks.iter().enumerate() {
        let gpu = state.cell().task(task).limit.gpu.total().0;
        asked += gpu;
        if let Some(placement) = end.placement(task) {
            state.place_on(task, placement.row, Some(placement.gpu_devices));
            fragments[placement.row] = fragmentation.milli(&state, placement.row);
            allocated += gpu;
            placed_count += 1;
        }
        look(asked, allocated, &fragments, (index + 1, placed_count));
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use cell::spec::CellBuilder;
    use scheduler::policies;
    use traces::{Doctor, Workload};

    /// Two nodes with two GPUs each; tasks of half a GPU and of one.
    fn trace(jobs: &[&str]) -> Trace {
        let mut builder = CellBuilder::default();
        let machine = r#"{"name": "m", "count": 2, "cpu": 8, "ram": 100, "gpus": 2}"#;
        builder.add_machine(&serde_json::from_str(machine).unwrap()).unwrap();
        for job in jobs {
            builder.add_job(&serde_json::from_str(job).unwrap()).unwrap();
        }
        Trace {
            source: "cell:x".to_owned(),
            cell: builder.finish(),
            workload: Workload::All,
            doctor: Doctor::default(),
            sha256: "0".repeat(64),
        }
    }

    const HALVES: &str = r#"{"name": "half", "user": "u", "priority": 100, "count": 3,
        "limit": {"cpu": 1, "ram": 1, "gpu": {"count": 1, "milli": 500}}}"#;
    const CPU_ONLY: &str = r#"{"name": "cpu", "user": "u", "priority": 0, "count": 2,
        "limit": {"cpu": 1, "ram": 1}}"#;

    fn options(policy: &str, until_percent: u32) -> InflateOptions {
        InflateOptions { policy: Policy::by_name(policy).unwrap(), seed: 1, until_percent }
    }

    #[test]
    fn what_arrives_is_allocated_until_nothing_is_free() {
        let trace = trace(&[HALVES]);
        let points = inflate(&trace, &options("fgd", 130)).unwrap();
        assert_eq!(points.len(), 131);
        assert_eq!(points[0], InflationPoint::default());
        // Each arrival is half of one of 4 GPUs, 12.5 %: 13 % is reached by the second.
        assert_eq!((points[12].arrived_count, points[12].allocated), (1, 0.125));
        assert_eq!((points[13].arrived_count, points[13].allocated), (2, 0.25));
        assert_eq!((points[100].placed_count, points[100].allocated), (8, 1.0));
        // 130 % is reached by the eleventh (137.5 %); the last three found no place.
        assert_eq!((points[130].arrived_count, points[130].placed_count), (11, 8));
        // Every free half can serve the only kind of task that there is.
        assert!(points.iter().all(|point| point.fragments == 0.0));
    }

    #[test]
    fn to_tasks_without_gpu_what_is_free_is_a_fragment() {
        let points = inflate(&trace(&[HALVES, CPU_ONLY]), &options("gpu-packing", 100)).unwrap();
        // 2 of 5 typical tasks ask for no GPU.
        assert!((points[0].fragments - 0.4).abs() < 1e-12, "{:?}", points[0]);
        assert!((points[0].fragment_rate - 0.4).abs() < 1e-12, "{:?}", points[0]);
    }

    #[test]
    fn every_policy_is_given_the_same_arrivals_and_another_seed_draws_others() {
        let trace = trace(&[HALVES, CPU_ONLY]);
        let arrivals = |policy: &str, seed| -> Vec<usize> {
            let options = InflateOptions { seed, ..options(policy, 130) };
            inflate(&trace, &options).unwrap().iter().map(|point| point.arrived_count).collect()
        };
        let expected = arrivals("fgd", 1);
        for policy in policies() {
            assert_eq!(arrivals(policy.name(), 1), expected, "{}", policy.name());
        }
        assert_ne!(arrivals("fgd", 2), expected);
    }

    #[test]
    fn a_cell_or_workload_without_gpus_is_refused() {
        let mut without = trace(&[CPU_ONLY]);
        assert_eq!(inflate(&without, &options("fgd", 130)), Err(InflateError::NoDemand));
        without.cell.machines.iter_mut().for_each(|machine| machine.capacity.gpu_count = 0);
        assert_eq!(inflate(&without, &options("fgd", 130)), Err(InflateError::NoGpu));
    }
}
