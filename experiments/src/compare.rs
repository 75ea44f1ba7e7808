//! A comparison from end to end: the plan of some flags, run by the fauxmaster on a trace.
//!
//! In: a [`Plan`] and the trace it names. Out: a [`Run`]. Trials run on a pool of threads of their own;
//! the results are the same on any number of them.

use std::num::NonZeroUsize;

use fauxmaster::report::{CompactReport, MachineFill, PackReport};
use fauxmaster::{CompactError, CompactOptions, PackOptions, QueueChoice};
use scheduler::{Policy, QueueOrder, UnknownPolicy};
use traces::{ReadOptions, Trace, TraceError};

use crate::agreement::Agreement;
use crate::plan::{CompareFlags, Plan, Queue, Row};
use crate::run::{CompactFailure, Failure, Progress, Run, RunError, Runner, run};
use crate::trace_facts::TraceFacts;

/// Why a comparison has no results.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// There are no threads to run on.
    #[error("cannot start threads")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// The cases or recordings of kube-scheduler cannot be read.
    #[error("{0:#}")]
    Agreement(#[from] anyhow::Error),
    /// A row failed.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Reads the trace that these flags name.
///
/// # Errors
/// If it cannot be read, or is wrong and `--lenient` is not given.
pub fn load(flags: &CompareFlags) -> Result<Trace, TraceError> {
    traces::load(&flags.trace, ReadOptions { lenient: flags.lenient })
}

/// Runs the plan on the trace, with so many threads, or one a core.
///
/// # Errors
/// If a row cannot be packed or compacted.
pub fn compare(
    plan: Plan,
    trace: &Trace,
    threads: Option<NonZeroUsize>,
    progress: &(dyn Fn(Progress<'_>) + Sync),
) -> Result<Run, CompareError> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads.map_or(0, NonZeroUsize::get)) // 0: one a core
        .build()?;
    let agreement = Agreement::of(&plan.flags.kube_cases, &plan.flags.kube_decisions)?;
    let laboratory = Laboratory { trace, flags: plan.flags.clone() };
    let run = pool.install(|| run(plan, TraceFacts::of(trace), &laboratory, progress))?;
    Ok(Run { agreement, ..run })
}

/// A trace and the flags that hold for all rows.
#[derive(Debug)]
struct Laboratory<'t> {
    trace: &'t Trace,
    flags: CompareFlags,
}

impl Runner for Laboratory<'_> {
    fn compact(
        &self,
        row: &Row,
        clones: Option<usize>,
        on_trial: &(dyn Fn(usize) + Sync),
    ) -> Result<CompactReport, CompactFailure> {
        let policy = policy(row).map_err(|error| CompactFailure::Other(Box::new(error)))?;
        let options = CompactOptions {
            accounting: row.accounting,
            queue: queue(row),
            trials: self.flags.trials,
            clones,
            pending_allowance: self.flags.pending_allowance,
            ..CompactOptions::new(policy, self.flags.seed)
        };
        fauxmaster::compact(self.trace, &options, on_trial).map_err(|error| match error {
            CompactError::DoesNotFit { clones, .. } => {
                CompactFailure::DoesNotFit { clones, why: Box::new(error) }
            }
            CompactError::Nothing | CompactError::Allowance(_) => {
                CompactFailure::Other(Box::new(error))
            }
        })
    }

    fn pack(&self, row: &Row) -> Result<(PackReport, Vec<MachineFill>), Failure> {
        let options = PackOptions {
            accounting: row.accounting,
            queue: queue(row),
            ..PackOptions::new(policy(row)?, self.flags.seed)
        };
        let packing = fauxmaster::pack(self.trace, &options)?;
        Ok((packing.report, packing.machines))
    }
}

fn policy(row: &Row) -> Result<Policy, UnknownPolicy> {
    Policy::by_name(&row.policy)
}

fn queue(row: &Row) -> QueueChoice {
    match row.queue {
        Queue::RoundRobin => QueueChoice::Order(QueueOrder::RoundRobin),
        Queue::Own => QueueChoice::Policy,
    }
}
