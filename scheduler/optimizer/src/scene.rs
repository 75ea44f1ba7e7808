//! The running cell that a batch meets.
//!
//! Either as recorded, with what waits there; or packed: tasks drawn at random from the workload until they
//! take up a share of the machines, placed by greedy, and of the rest the next ones arrive.

use anyhow::ensure;
use cell::{JobId, JobKind, TaskId};
use fauxmaster::workload::{Purpose, from_scratch, generator, waiting};
use fauxmaster::{PackOptions, Start, slots};
use rand::seq::SliceRandom;
use scheduler::{Snapshot, pass};
use traces::Trace;

/// A cell in which something runs, and what arrives there.
#[derive(Clone, Debug)]
pub struct Scene<'t> {
    /// What runs.
    pub running: Snapshot<'t>,
    /// What arrives, in the order of submission.
    pub arriving: Vec<TaskId>,
}

/// What a cell is packed with before a batch arrives.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    /// The share of the scarcest resource that what runs is charged, 0..=1.
    pub share: f64,
    /// Number of tasks that arrive.
    pub arriving: usize,
}

impl Default for Fill {
    fn default() -> Self {
        Self { share: 0.97, arriving: 1000 }
    }
}

/// The recorded state. Without `jobs` everything that waits arrives.
///
/// # Errors
/// If the options ask for machines that are not there.
pub fn recorded<'t>(
    trace: &'t Trace,
    options: &PackOptions,
    jobs: Option<&[JobId]>,
) -> anyhow::Result<Scene<'t>> {
    let slots = slots(trace, options)?;
    let running = Snapshot::recorded(&trace.cell, &slots, options.accounting);
    let arriving = match jobs {
        Some(jobs) => tasks_of(trace, jobs),
        None => waiting(&running),
    };
    Ok(Scene { running, arriving })
}

/// A packed cell, the `number`-th that is drawn. Without `jobs` the next tasks that were drawn arrive.
///
/// # Errors
/// If the options ask for machines that are not there, or the share is out of its range.
pub fn packed<'t>(
    trace: &'t Trace,
    options: &PackOptions,
    fill: Fill,
    jobs: Option<&[JobId]>,
    number: u64,
) -> anyhow::Result<Scene<'t>> {
    ensure!((0.0..=1.0).contains(&fill.share), "a fill of {} is not in 0..=1", fill.share);
    let slots = slots(trace, options)?;
    let empty = Snapshot::empty(&trace.cell, &slots, options.accounting);
    let mut drawn: Vec<TaskId> = from_scratch(trace);
    let arrives = |task: &TaskId| jobs.is_some_and(|jobs| jobs.contains(&task.job));
    drawn.retain(|task| !arrives(task) && trace.cell.job(task.job).kind == JobKind::Job);
    drawn.retain(|task| trace.cell.job(task.job).alloc_set.is_none());
    drawn.shuffle(&mut generator(options.seed, Purpose::Batch, number));
    let mut have = [0_i128; 4];
    for row in 0..empty.machine_count() {
        for (sum, free) in have.iter_mut().zip(empty.free(row)).filter(|&(_, free)| free < i64::MAX)
        {
            *sum += i128::from(free);
        }
    }
    let mut used = [0_i128; 4];
    let is_within = |used: &[i128; 4]| {
        // A disk that no machine states has no capacity to fill.
        used.iter()
            .zip(&have)
            .all(|(&used, &have)| have == 0 || float(used) <= fill.share * float(have))
    };
    let mut count = 0;
    for &task in &drawn {
        for (sum, charge) in used.iter_mut().zip(empty.charged(task)) {
            *sum += i128::from(charge);
        }
        if !is_within(&used) {
            break;
        }
        count += 1;
    }
    let (runs, rest) = drawn.split_at(count);
    let mut runs = runs.to_vec();
    runs.sort_unstable();
    let plan = pass(&empty, &runs, &options.pass(options.seed));
    let arriving = match jobs {
        Some(jobs) => tasks_of(trace, jobs),
        None => {
            let mut next: Vec<TaskId> = rest.iter().copied().take(fill.arriving).collect();
            next.sort_unstable();
            next
        }
    };
    Ok(Scene { running: plan.end, arriving })
}

/// The scene that options ask for: recorded, or packed.
///
/// # Errors
/// As [`recorded`] and [`packed`]; if nothing arrives; or if a fill is given for the recorded state.
pub fn scene<'t>(
    trace: &'t Trace,
    options: &PackOptions,
    fill: Option<Fill>,
    jobs: Option<&[JobId]>,
    number: u64,
) -> anyhow::Result<Scene<'t>> {
    match options.start {
        Start::Recorded => {
            ensure!(
                fill.is_none(),
                "the recorded state is as full as it is: give no --fill, no --tasks"
            );
            let scene = recorded(trace, options, jobs)?;
            ensure!(
                !scene.arriving.is_empty(),
                "nothing arrives: no task waits in the recorded state"
            );
            Ok(scene)
        }
        Start::Empty => {
            let fill = fill.unwrap_or_default();
            let scene = packed(trace, options, fill, jobs, number)?;
            ensure!(
                !scene.arriving.is_empty(),
                "nothing arrives: all tasks that could run before fit into a fill of {}; give a smaller \
                 --fill or fewer --machines, or start from the recorded state",
                fill.share
            );
            Ok(scene)
        }
    }
}

fn tasks_of(trace: &Trace, jobs: &[JobId]) -> Vec<TaskId> {
    let of = |&job: &JobId| {
        let positions = (0..).take(trace.cell.job(job).tasks.len());
        positions.map(move |position| TaskId { job, position })
    };
    jobs.iter().flat_map(of).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a share of a cell")]
fn float(amount: i128) -> f64 {
    amount as f64
}
