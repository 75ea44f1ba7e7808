//! GPU policies while tasks arrive: how much of a cell's GPUs each gets allocated before what is free is
//! of no use to anyone.
//!
//! In: [`GpuFlags`] and the trace they name. Out: a [`GpuRun`], from which [`results`], the figures
//! ([`crate::plot::arrivals`]) and the page ([`page`]) are made. Runs on any number of threads and comes
//! out the same.
//!
//! Source: Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation
//! Gradient Descent" (USENIX ATC '23), figures 7 and 9a; the arrivals are [`fauxmaster::inflate`].

pub mod output;
pub mod page;
pub mod report;
pub mod results;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

use fauxmaster::{InflateError, InflateOptions, InflationPoint, inflate};
use rayon::prelude::*;
use scheduler::{Policy, UnknownPolicy};
use serde::{Deserialize, Serialize};
use traces::{ReadOptions, Trace, TraceError};

use crate::manifest::Seeds;
use crate::run::Progress;
use crate::trace_facts::TraceFacts;

/// Tasks arrive until they ask for so much of the cell's GPUs, in percent: the paper's `tune` of 1.3.
pub const UNTIL_PERCENT: u32 = 130;

/// Seeds in the paper.
pub const SEEDS_OF_THE_PAPER: usize = 10;

/// The most seeds. Our own limit: ten times the paper's.
pub const SEEDS_MAX: usize = 100;

/// The paper's policies, and one of Borg's and of Kubernetes'.
const POLICIES: &str =
    "random-fit,dot-product,gpu-clustering,gpu-packing,gpu-best-fit,fgd,borg-hybrid,kube-default";

/// The flags that decide the results; `verify` reads them back from the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct GpuFlags {
    /// The trace: a cell with GPUs, as openb:NODES,PODS
    #[arg(long, value_name = "TRACE")]
    pub trace: String,
    /// Policies to run
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = POLICIES)]
    pub policies: Vec<String>,
    /// How many seeds, each with arrivals of its own; the paper has 10
    #[arg(long, value_name = "N", default_value_t = SEEDS_OF_THE_PAPER)]
    pub seeds: usize,
    /// The first seed; the others follow it
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Skip and count bad rows of the trace instead of refusing it
    #[arg(long)]
    pub lenient: bool,
}

/// Why there are no results.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// No seeds, or too many.
    #[error("--seeds {0} is not in 1..={SEEDS_MAX}")]
    Seeds(usize),
    /// A policy that does not exist.
    #[error("--policies")]
    UnknownPolicy(#[from] UnknownPolicy),
    /// A policy named twice.
    #[error("--policies names {0} twice")]
    Twice(String),
    /// There are no threads to run on.
    #[error("cannot start threads")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// The trace is not for this.
    #[error(transparent)]
    Inflate(#[from] InflateError),
}

/// Flags that were checked.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuPlan {
    /// The flags.
    pub flags: GpuFlags,
    policies: Vec<Policy>,
}

impl GpuPlan {
    /// The plan for these flags.
    ///
    /// # Errors
    /// If there are no seeds or too many, or a policy is unknown or named twice.
    pub fn new(flags: GpuFlags) -> Result<Self, GpuError> {
        if !(1..=SEEDS_MAX).contains(&flags.seeds) {
            return Err(GpuError::Seeds(flags.seeds));
        }
        let mut seen = BTreeSet::new();
        let mut policies = Vec::new();
        for name in &flags.policies {
            policies.push(Policy::by_name(name)?);
            if !seen.insert(name) {
                return Err(GpuError::Twice(name.clone()));
            }
        }
        Ok(Self { flags, policies })
    }

    /// The seeds, as a manifest lists them.
    #[must_use]
    pub fn seeds(&self) -> Seeds {
        Seeds { base: self.flags.seed, trials: (0..self.flags.seeds).collect() }
    }
}

/// What came out.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuRun {
    /// The flags it follows from.
    pub flags: GpuFlags,
    /// On what.
    pub trace: TraceFacts,
    /// GPUs of the cell.
    pub gpu_count: u64,
    /// In the order of the flags.
    pub rows: Vec<GpuRow>,
}

/// What came out for a policy.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuRow {
    /// Its name.
    pub policy: String,
    /// For each seed the state at every percent.
    pub by_seed: Vec<Vec<InflationPoint>>,
}

/// Reads the trace that these flags name.
///
/// # Errors
/// If it cannot be read, or is wrong and `--lenient` is not given.
pub fn load(flags: &GpuFlags) -> Result<Trace, TraceError> {
    traces::load(&flags.trace, ReadOptions { lenient: flags.lenient })
}

/// Runs every policy with every seed, on so many threads, or one a core.
///
/// # Errors
/// If the trace has no GPUs, or no tasks that ask for any.
pub fn run(
    plan: &GpuPlan,
    trace: &Trace,
    threads: Option<NonZeroUsize>,
    progress: &(dyn Fn(Progress<'_>) + Sync),
) -> Result<GpuRun, GpuError> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads.map_or(0, NonZeroUsize::get)) // 0: one a core
        .build()?;
    let seeds = (0..plan.flags.seeds as u64).map(|n| plan.flags.seed.wrapping_add(n));
    let seeds: Vec<u64> = seeds.collect();
    let (done, total) = (AtomicUsize::new(0), plan.policies.len() * seeds.len());
    let one = |policy: &Policy, seed: u64| {
        let options = InflateOptions { policy: policy.clone(), seed, until_percent: UNTIL_PERCENT };
        let points = inflate(trace, &options)?;
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        progress(Progress { done, total, row: policy.name() });
        Ok(points)
    };
    let rows: Result<Vec<GpuRow>, InflateError> = pool.install(|| {
        plan.policies
            .par_iter()
            .map(|policy| {
                let by_seed: Result<Vec<_>, InflateError> =
                    seeds.par_iter().map(|&seed| one(policy, seed)).collect();
                Ok(GpuRow { policy: policy.name().to_owned(), by_seed: by_seed? })
            })
            .collect()
    });
    let gpus = trace.cell.machines.iter().map(|machine| u64::from(machine.capacity.gpu_count));
    Ok(GpuRun {
        flags: plan.flags.clone(),
        trace: TraceFacts::of(trace),
        gpu_count: gpus.sum(),
        rows: rows?,
    })
}
