//! What `bound`, `compact` and `pack` report; the keys of their `--json` output.

use fauxmaster::report::CompactReport;
use serde::Serialize;

use crate::shrink::{HeldCount, Waypoint};

/// A proven lower bound on the machines that a workload needs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BoundReport {
    /// Name of the accounting.
    pub accounting: &'static str,
    /// The seed from which each trial's order of machines is drawn.
    pub seed: u64,
    /// How many copies of the cell's machines the trials draw from.
    pub clones: usize,
    /// Number of tasks, allocs not counted.
    pub task_count: usize,
    /// How many of them may stay pending.
    pub pending_allowed: usize,
    /// The bounds.
    pub machines_lower_bound: MachinesLowerBound,
    /// The same over the machines of the cell, each counted once: the fraction of the cell that is needed.
    pub cell_fraction_lower_bound: f64,
    /// The method that is best in most trials.
    pub method: String,
    /// Every method by itself, in the order in which they were tried.
    pub methods: Vec<MethodReport>,
    /// Wall time, without reading the trace.
    pub seconds: f64,
    /// The file with the certificates.
    pub certificate: String,
    /// Methods that failed, and why.
    pub failures: Vec<String>,
}

/// A bound for each trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MachinesLowerBound {
    /// Trial by trial.
    pub by_trial: Vec<usize>,
    /// Their median (nearest rank).
    pub median: usize,
}

/// One method's bound.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MethodReport {
    /// Its name; volume bounds name their resource.
    pub method: String,
    /// Its bound for each trial.
    pub machines_lower_bound: MachinesLowerBound,
    /// Wall time of the search.
    pub seconds: f64,
}

/// A compaction, improved.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ImprovedReport {
    /// As [`CompactReport`], with the machines of the improved packings; `lower_bound` is the proven one.
    #[serde(flatten)]
    pub compact: CompactReport,
    /// Machines that greedy needed, trial by trial.
    pub greedy_by_trial: Vec<usize>,
    /// Machines over the trial's lower bound, less 1: trial by trial.
    pub gap_by_trial: Vec<f64>,
    /// Their median (nearest rank).
    pub gap: f64,
    /// The budget of each trial.
    pub budget: String,
    /// Steps taken, trial by trial.
    pub steps_by_trial: Vec<u64>,
    /// Seconds of the search, trial by trial; the search ends early where it meets the bound.
    pub search_seconds_by_trial: Vec<f64>,
    /// When each packing on fewer machines was found, trial by trial.
    pub path_by_trial: Vec<Vec<Waypoint>>,
    /// The method whose bound is best in most trials.
    pub method: String,
    /// The file with the certificates.
    pub certificate: String,
    /// Methods that failed, and why.
    pub failures: Vec<String>,
    /// How many tasks the search left where greedy put them, by reason.
    pub held: HeldCount,
    /// Other policies on the same trials, where some were asked for.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub against: Option<AgainstReport>,
}

/// Greedy and the improved packings against other policies, on the same trials.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AgainstReport {
    /// The policy that needs as many copies of the cell as all trials draw from; `None` where their number
    /// was given.
    pub clones_needed_by: Option<String>,
    /// The other policies, in the order in which they were named.
    pub against: Vec<PolicyReport>,
}

/// One other policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PolicyReport {
    /// Its name.
    pub policy: String,
    /// Machines that it needs, trial by trial.
    pub machines_by_trial: Vec<usize>,
    /// Their median (nearest rank).
    pub machines_median: usize,
    /// By how much fewer the improved packings need.
    pub fewer_percent: Fewer,
    /// By how much fewer greedy's need.
    pub greedy_fewer_percent: Fewer,
}

/// A paired difference in per cent of the other policy's machines, each trial's of its own; negative where
/// more are needed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Fewer {
    /// The mean over the trials.
    pub mean: f64,
    /// Lower end of its 95 % confidence interval (Student's); `None` below two trials.
    pub low: Option<f64>,
    /// The upper end.
    pub high: Option<f64>,
}

/// Machines needed against what was spent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ParetoReport {
    /// Greedy, each budget in ascending order, the bound.
    pub points: Vec<ParetoPoint>,
    /// The search that they are of.
    #[serde(flatten)]
    pub improved: ImprovedReport,
}

/// One budget.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ParetoPoint {
    /// `greedy`, the budget, or the bound and its method.
    pub name: String,
    /// Machines, trial by trial.
    pub machines_by_trial: Vec<usize>,
    /// Their median (nearest rank).
    pub machines_median: usize,
    /// Machines over the trial's bound, less 1: the median over the trials.
    pub gap: f64,
}
