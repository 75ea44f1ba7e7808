//! Cell compaction: how few machines does a workload need under a policy?
//!
//! One snapshot of the running tasks is packed from scratch again and again: machines are removed at
//! random, which keeps their mix, until the workload no longer fits. A trial draws one random order of the
//! machines and searches for the shortest prefix of it that holds the workload (a packing is not strictly
//! monotone in the number of machines; the search takes the boundary that it meets). Up to a share of the
//! tasks may stay pending, and only picky ones; tasks tied to a machine are dropped; jobs larger than half
//! the cell get soft constraints instead of hard ones; where the workload needs more than the cell, the
//! cell's machines are cloned first. The result is the 90th percentile over the trials.
//!
//! Source: Borg (EuroSys '15) §5.1; Verma et al., "Evaluating job packing in warehouse-scale computing"
//! (CLUSTER 2014).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Instant;

use cell::{Attributes, Capacity, Cell, JobKind, Strength, TaskId};
use rayon::prelude::*;
use scheduler::{Accounting, PassOptions, PendingLimit, Plan, Policy, Slot, Snapshot, Speed, pass};
use traces::Trace;

use crate::bound::Volume;
use crate::pack::QueueChoice;
use crate::report::CompactReport;
use crate::workload::{self, machine_order, pass_seed};

/// The share of tasks that may stay pending (Borg §5.1: 0.2 %).
pub const PENDING_ALLOWANCE: f64 = 0.002;

/// A task is picky if fewer than one machine in so many could run it when empty. Our reading of the
/// paper's "a handful of machines".
const PICKY_ONE_IN: usize = 100;

/// The most copies of a cell's machines that are tried before we say that a workload fits nowhere.
const CLONES_MAX: usize = 64;

/// The first guess is the lower bound and one in so many machines more. Chosen so that the best policy
/// on the 2011 cell, which needs 1.3 % more than the bound, is bracketed in two steps.
const FIRST_STEP_ONE_IN: usize = 100;

/// How to compact.
#[derive(Clone, Debug)]
pub struct CompactOptions {
    /// The policy.
    pub policy: Policy,
    /// What a task is charged for.
    pub accounting: Accounting,
    /// The order of the queue.
    pub queue: QueueChoice,
    /// Each trial's seed is derived from this one.
    pub seed: u64,
    /// Number of trials, at least 1.
    pub trials: usize,
    /// How many copies of the cell's machines to draw from; `None`: as many as are needed.
    pub clones: Option<usize>,
    /// The share of tasks that may stay pending, 0..1.
    pub pending_allowance: f64,
    /// How to go about a packing.
    pub speed: Speed,
}

impl CompactOptions {
    /// By a policy, with everything else as in the paper: 11 trials, 0.2 % pending, limits.
    #[must_use]
    pub fn new(policy: Policy, seed: u64) -> Self {
        Self {
            policy,
            accounting: Accounting::Limits,
            queue: QueueChoice::Policy,
            seed,
            trials: 11,
            clones: None,
            pending_allowance: PENDING_ALLOWANCE,
            speed: Speed::default(),
        }
    }
}

/// Why a cell cannot be compacted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CompactError {
    /// The workload does not fit on so many copies of the cell's machines.
    #[error(
        "the workload does not fit on {clones} {} of the cell's machines under {policy}: \
         {pending} pending when it ended, {allowed} allowed",
        if *.clones == 1 { "copy" } else { "copies" }
    )]
    DoesNotFit {
        /// The policy.
        policy: String,
        /// How many copies were tried.
        clones: usize,
        /// Tasks that were pending when the last packing ended (it ends early).
        pending: usize,
        /// How many may be.
        allowed: usize,
    },
    /// No trial, or no task to pack.
    #[error("at least one trial and one task are needed")]
    Nothing,
    /// An allowance that is no share.
    #[error("a pending allowance of {0} is not in 0..1")]
    Allowance(f64),
}

/// One trial's result.
#[derive(Clone, Copy, Debug)]
struct Trial {
    machines: usize,
    lower_bound: usize,
    packings: usize,
}

/// A cell to compact: what all trials share.
#[derive(Clone, Debug)]
pub struct Compaction<'a> {
    cell: Cow<'a, Cell>,
    tasks: Vec<TaskId>,
    options: &'a CompactOptions,
    volume: Volume,
    allowed: usize,
    /// By dense position among all tasks of the cell; `None`: any task may stay pending.
    picky: Option<Vec<bool>>,
    /// Tasks that no machine of the cell could run were it empty.
    hopeless: usize,
    jobs_softened: usize,
}

/// Compacts the trace's cell. `progress` is called after each trial with the number of trials that are
/// done; trials run on rayon's current threads, and come out the same on any number of them.
///
/// # Errors
/// If the options make no sense, or the workload does not fit on any number of machines.
pub fn compact(
    trace: &Trace,
    options: &CompactOptions,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<CompactReport, CompactError> {
    let began = Instant::now();
    let problem = Compaction::new(trace, options)?;
    let (clones, trials) = match options.clones {
        Some(clones) => (clones, problem.trials(clones, progress)?),
        None => problem.trials_on_enough(progress)?,
    };
    let mut machines: Vec<usize> = trials.iter().map(|trial| trial.machines).collect();
    let machines_by_trial = machines.clone();
    machines.sort_unstable();
    let lower_bound_by_trial: Vec<usize> = trials.iter().map(|trial| trial.lower_bound).collect();
    Ok(CompactReport {
        policy: options.policy.name().to_owned(),
        accounting: options.accounting.name(),
        seed: options.seed,
        trials: options.trials,
        machines_p90: nearest_rank(&machines, 90),
        machines_median: nearest_rank(&machines, 50),
        machines_min: machines[0],
        machines_max: machines[machines.len() - 1],
        machines_by_trial,
        lower_bound: lower_bound_by_trial.iter().copied().min().unwrap_or(0),
        lower_bound_by_trial,
        clones,
        task_count: problem.task_count(),
        pending_allowed: problem.allowed,
        pending_only_picky: problem.picky.is_some(),
        jobs_softened: problem.jobs_softened,
        packings: trials.iter().map(|trial| trial.packings).sum(),
        seconds: began.elapsed().as_secs_f64(),
    })
}

/// The smallest value that at least `percent` of the values do not exceed (nearest rank).
///
/// # Panics
/// If there are no values. They must be sorted.
#[must_use]
pub fn nearest_rank(sorted: &[usize], percent: usize) -> usize {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted[rank - 1]
}

impl<'a> Compaction<'a> {
    /// Of the trace's tasks that run, without those tied to a machine.
    ///
    /// # Errors
    /// If there is nothing to compact, or the options make no sense.
    pub fn new(trace: &'a Trace, options: &'a CompactOptions) -> Result<Self, CompactError> {
        let tasks = workload::from_scratch(trace);
        if tasks.is_empty() || options.trials == 0 {
            return Err(CompactError::Nothing);
        }
        if !(0.0..1.0).contains(&options.pending_allowance) {
            return Err(CompactError::Allowance(options.pending_allowance));
        }
        let (cell, jobs_softened) = soften_large_jobs(&trace.cell, &tasks);
        let task_count = count_tasks(&cell, &tasks);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a count of tasks"
        )]
        let allowed = (task_count as f64 * options.pending_allowance).floor() as usize;
        let fitting = fitting_machines(&cell, &tasks);
        let hopeless = fitting.iter().filter(|&&machines| machines == 0).count();
        let is_picky = |machines: &usize| machines * PICKY_ONE_IN < cell.machines.len();
        let picky_tasks: Vec<bool> = fitting.iter().map(is_picky).collect();
        let has_picky = picky_tasks.contains(&true);
        let volume = Volume::of(
            &cell,
            &tasks,
            options.accounting,
            allowed,
            has_picky.then_some(picky_tasks.as_slice()),
        );
        let picky = has_picky.then(|| {
            let wanted: BTreeMap<TaskId, bool> = tasks.iter().copied().zip(picky_tasks).collect();
            cell.tasks().map(|(id, _, _)| wanted.get(&id).copied().unwrap_or(false)).collect()
        });
        Ok(Self { cell, tasks, options, volume, allowed, picky, hopeless, jobs_softened })
    }

    /// The cell, with the hard constraints of jobs larger than half of it made soft.
    #[must_use]
    pub fn cell(&self) -> &Cell {
        &self.cell
    }

    /// The tasks and allocs to pack, in the order of their submission.
    #[must_use]
    pub fn tasks(&self) -> &[TaskId] {
        &self.tasks
    }

    /// How many tasks may stay pending.
    #[must_use]
    pub fn pending_allowed(&self) -> usize {
        self.allowed
    }

    /// Which tasks may stay pending, one flag for each task of the cell in the order of
    /// [`Cell::tasks`]; `None`: any.
    #[must_use]
    pub fn picky(&self) -> Option<&[bool]> {
        self.picky.as_deref()
    }

    /// The order in which a trial takes machines, from so many copies of the cell's.
    #[must_use]
    pub fn order(&self, clones: usize, trial: u64) -> Vec<Slot> {
        machine_order(&self.cell, clones, self.options.seed, trial)
    }

    /// The packing of a trial onto these machines, given up as soon as more are pending than may be.
    #[must_use]
    pub fn plan(&self, machines: &[Slot], trial: u64) -> Plan<'_> {
        let options = self.options;
        let snapshot = Snapshot::empty(&self.cell, machines, options.accounting);
        pass(
            &snapshot,
            &self.tasks,
            &PassOptions {
                policy: options.policy.clone(),
                queue: options.queue.for_policy(&options.policy),
                seed: pass_seed(options.seed, trial),
                speed: options.speed,
                pending_limit: Some(PendingLimit {
                    max: self.allowed,
                    picky: self.picky.as_deref(),
                }),
            },
        )
    }

    /// How many tasks there are, allocs not counted.
    #[must_use]
    pub fn task_count(&self) -> usize {
        count_tasks(&self.cell, &self.tasks)
    }

    /// All trials on the smallest number of copies on which each of them fits.
    fn trials_on_enough(
        &self,
        progress: &(dyn Fn(usize) + Sync),
    ) -> Result<(usize, Vec<Trial>), CompactError> {
        let mut clones = 1;
        if self.hopeless > self.allowed {
            // More copies of the same machines would not help.
            return Err(self.does_not_fit(clones, self.hopeless));
        }
        loop {
            match self.trials(clones, progress) {
                Ok(trials) => return Ok((clones, trials)),
                Err(error) if clones >= CLONES_MAX => return Err(error),
                Err(_) => clones += 1,
            }
        }
    }

    fn trials(
        &self,
        clones: usize,
        progress: &(dyn Fn(usize) + Sync),
    ) -> Result<Vec<Trial>, CompactError> {
        let done = std::sync::atomic::AtomicUsize::new(0);
        // The volume is cheap to look at; so is the first trial's largest packing, which saves running all
        // trials on too few machines.
        let order = self.order(clones, 0);
        self.volume
            .machines_needed(&self.cell, &order)
            .ok_or(self.does_not_fit(clones, self.tasks.len()))?;
        self.fits(&order, 0).map_err(|pending| self.does_not_fit(clones, pending))?;
        (0..self.options.trials as u64)
            .into_par_iter()
            .map(|number| {
                let trial = self.trial(clones, number);
                let done = done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
                progress(done);
                trial
            })
            .collect()
    }

    fn trial(&self, clones: usize, number: u64) -> Result<Trial, CompactError> {
        let order = self.order(clones, number);
        let lower_bound = self
            .volume
            .machines_needed(&self.cell, &order)
            .ok_or(self.does_not_fit(clones, self.tasks.len()))?;
        let mut packings = 0;
        let mut holds = |machines: usize| {
            packings += 1;
            self.fits(&order[..machines], number)
        };
        // Brackets the boundary from the bound upwards, in steps that double.
        let (mut too_few, mut step) = (lower_bound - 1, lower_bound.div_ceil(FIRST_STEP_ONE_IN));
        let mut enough = loop {
            let guess = (lower_bound + step).min(order.len());
            match holds(guess) {
                Ok(()) => break guess,
                Err(pending) if guess == order.len() => {
                    return Err(self.does_not_fit(clones, pending));
                }
                Err(_) => too_few = guess,
            }
            step *= 2;
        };
        while enough - too_few > 1 {
            let middle = too_few + (enough - too_few) / 2;
            match holds(middle) {
                Ok(()) => enough = middle,
                Err(_) => too_few = middle,
            }
        }
        Ok(Trial { machines: enough, lower_bound, packings })
    }

    /// Whether the workload fits on these machines; if not, how many tasks were pending when that was
    /// clear.
    fn fits(&self, machines: &[Slot], trial: u64) -> Result<(), usize> {
        let plan = self.plan(machines, trial);
        if plan.is_complete { Ok(()) } else { Err(plan.pending.len()) }
    }

    fn does_not_fit(&self, clones: usize, pending: usize) -> CompactError {
        CompactError::DoesNotFit {
            policy: self.options.policy.name().to_owned(),
            clones,
            pending,
            allowed: self.allowed,
        }
    }
}

fn count_tasks(cell: &Cell, tasks: &[TaskId]) -> usize {
    tasks.iter().filter(|task| cell.job(task.job).kind == JobKind::Job).count()
}

/// Makes the hard rules of jobs larger than half the cell soft (Borg §5.1); and how many jobs that are.
fn soften_large_jobs<'a>(cell: &'a Cell, tasks: &[TaskId]) -> (Cow<'a, Cell>, usize) {
    let mut packed: BTreeMap<cell::JobId, usize> = BTreeMap::new();
    for task in tasks {
        *packed.entry(task.job).or_default() += 1;
    }
    let mut cell = Cow::Borrowed(cell);
    let mut count = 0;
    for (id, task_count) in packed {
        let job = cell.job(id);
        let is_bound = job.different_machines
            || job.constraints.iter().any(cell::Constraint::is_hard)
            || job.spread.iter().any(|spread| spread.max_per_domain.is_some());
        if task_count * 2 <= cell.machines.len() || !is_bound {
            continue;
        }
        count += 1;
        let job = &mut cell.to_mut().jobs[id.index()];
        for constraint in &mut job.constraints {
            if constraint.is_hard() {
                constraint.strength = Strength::Soft { weight: 1 };
            }
        }
        for spread in &mut job.spread {
            spread.max_per_domain = None;
        }
        if std::mem::take(&mut job.different_machines)
            && !job.spread.iter().any(|spread| spread.domain == cell::DomainKind::Machine)
        {
            let domain = cell::DomainKind::Machine;
            job.spread.push(cell::Spread { domain, max_per_domain: None });
        }
    }
    (cell, count)
}

/// For each task, on how many machines of the cell it would fit were they empty, its job's hard
/// constraints included. What runs in an alloc set is judged by its alloc set: it fits everywhere.
fn fitting_machines(cell: &Cell, tasks: &[TaskId]) -> Vec<usize> {
    let mut kinds: BTreeMap<(&Capacity, &Attributes), usize> = BTreeMap::new();
    for machine in &cell.machines {
        *kinds.entry((&machine.capacity, &machine.attributes)).or_default() += 1;
    }
    let mut known: BTreeMap<(cell::JobId, cell::Resources), usize> = BTreeMap::new();
    let mut judge = |task: &TaskId| {
        let job = cell.job(task.job);
        let limit = cell.task(*task).limit;
        *known.entry((task.job, limit)).or_insert_with(|| {
            if job.alloc_set.is_some() {
                return cell.machines.len();
            }
            kinds
                .iter()
                .filter(|((capacity, attributes), _)| {
                    limit.cpu <= capacity.cpu
                        && limit.ram <= capacity.ram
                        && capacity.disk.is_none_or(|disk| limit.disk <= disk)
                        && limit.gpu.count <= capacity.gpu_count
                        && job.constraints.iter().all(|c| !c.is_hard() || c.holds(attributes))
                })
                .map(|(_, count)| count)
                .sum()
        })
    };
    tasks.iter().map(&mut judge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let eleven: Vec<usize> = (1..=11).collect();
        assert_eq!(nearest_rank(&eleven, 90), 10); // ceil(9.9)
        assert_eq!(nearest_rank(&eleven, 50), 6); // ceil(5.5)
        assert_eq!(nearest_rank(&[7], 90), 7);
        assert_eq!(nearest_rank(&[1, 2, 3, 4, 5], 90), 5);
    }
}
