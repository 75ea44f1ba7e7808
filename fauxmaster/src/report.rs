//! What `pack` and `compact` report; the keys of their `--json` output.

use std::collections::BTreeMap;

use serde::Serialize;

/// A figure for each resource: `cpu`, `ram`, and, where machines state them, `disk` and `gpu`.
pub type ByResource = BTreeMap<&'static str, f64>;

/// Task counts for each priority band that has tasks, by the band's name.
pub type ByBand = BTreeMap<&'static str, usize>;

/// The outcome of packing a workload onto machines once.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PackReport {
    /// Name of the policy.
    pub policy: String,
    /// Name of the accounting: `limits`, `reclaimed` or `right-sized`.
    pub accounting: &'static str,
    /// The seed of everything random.
    pub seed: u64,
    /// Number of machines.
    pub machine_count: usize,
    /// Number of tasks; allocs are not counted.
    pub task_count: usize,
    /// Tasks that have a place.
    pub placed_count: usize,
    /// Tasks that have none.
    pub pending_count: usize,
    /// Placed tasks by band.
    pub placed_by_band: ByBand,
    /// Pending tasks by band.
    pub pending_by_band: ByBand,
    /// Running tasks that were preempted; 0 when packing from scratch.
    pub preempted_count: usize,
    /// What is charged on the machines over their capacity, 0..=1.
    pub allocation: ByResource,
    /// What is free but stranded over capacity, 0..=1: on each machine, the free fraction of a resource
    /// above the smallest free fraction of the machine's resources.
    pub stranding: ByResource,
    /// Machines with no task and no alloc.
    pub machines_empty: usize,
    /// Wall time of the packing, without reading the trace.
    pub seconds: f64,
    /// Tasks decided (placed or found to fit nowhere) per second.
    pub decisions_per_second: f64,
    /// Peak resident memory of the process so far; `None` where the system does not tell.
    pub peak_memory_bytes: Option<u64>,
    /// SHA-256 over `TASK HOST` lines in task order.
    pub assignment_hash: String,
}

/// The outcome of cell compaction.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CompactReport {
    /// Name of the policy.
    pub policy: String,
    /// Name of the accounting.
    pub accounting: &'static str,
    /// The seed from which each trial's own is derived.
    pub seed: u64,
    /// Number of trials.
    pub trials: usize,
    /// The result: 90th percentile (nearest rank) of the machines needed.
    pub machines_p90: usize,
    /// Median (nearest rank).
    pub machines_median: usize,
    /// Fewest in any trial.
    pub machines_min: usize,
    /// Most in any trial.
    pub machines_max: usize,
    /// Machines needed, trial by trial. Trials with the same seed and number remove machines in the
    /// same order whatever the policy, as long as `clones` is the same.
    pub machines_by_trial: Vec<usize>,
    /// No packing in any of these trials can need fewer: the least of `lower_bound_by_trial`.
    pub lower_bound: usize,
    /// Volume bound on each trial's own order of machines, with the same pending allowance.
    pub lower_bound_by_trial: Vec<usize>,
    /// How many copies of the cell's machines the trials drew from.
    pub clones: usize,
    /// Number of tasks packed.
    pub task_count: usize,
    /// Tasks that may stay pending.
    pub pending_allowed: usize,
    /// Whether only picky tasks may stay pending; if not, the workload has none, and any may.
    pub pending_only_picky: bool,
    /// Jobs whose hard constraints were made soft, being larger than half the cell.
    pub jobs_softened: usize,
    /// Packings made, over all trials.
    pub packings: usize,
    /// Wall time.
    pub seconds: f64,
}

/// How full one machine is after a packing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MachineFill {
    /// Fraction of CPU charged, 0..=1.
    pub cpu: f64,
    /// Fraction of RAM charged, 0..=1.
    pub ram: f64,
}
