//! What `bound`, `compact` and `pack` report; the keys of their `--json` output.

use std::collections::BTreeMap;

use fauxmaster::report::{ByResource, CompactReport, PackReport};
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
    /// Packing against evictions; the budgets are `trade_budgets`.
    pub evictions: Vec<EvictionPoint>,
    /// Packing against moves.
    pub moves: Vec<MovePoint>,
    /// The budgets of `evictions` and `moves`.
    pub trade_budgets: Vec<String>,
    /// The search that they are of.
    #[serde(flatten)]
    pub improved: ImprovedReport,
}

/// What so many evictions buy a batch that arrives in a full cell.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EvictionPoint {
    /// How many running tasks may be evicted; `None`: any number.
    pub max_victims: Option<usize>,
    /// What greedy places less what it evicts, by worth, in mean machines.
    pub greedy_net_worth: f64,
    /// Tasks that it evicts.
    pub greedy_victims: usize,
    /// The same of the search, budget by budget.
    pub net_worth_by_budget: Vec<f64>,
    /// Tasks that it evicts.
    pub victims_by_budget: Vec<usize>,
    /// No plan has more, all bands together, where none or any number may be evicted; `None` where the solver
    /// failed.
    pub net_worth_upper_bound: Option<f64>,
}

/// How many machines so many moves free.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MovePoint {
    /// How many tasks may be moved.
    pub max_moves: usize,
    /// Machines that greedy frees.
    pub greedy_freed: f64,
    /// The same of the search, budget by budget.
    pub freed_by_budget: Vec<f64>,
    /// No plan frees more.
    pub freed_upper_bound: f64,
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

/// A packing, improved.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PackedReport {
    /// As [`PackReport`], of the improved plan; `seconds` are those of everything.
    #[serde(flatten)]
    pub pack: PackReport,
    /// The part of the worth that any packing on these machines could place at most, by the proven bound,
    /// and that this one does not place: 0..=1, all bands together; `None` where there is no bound.
    pub gap: Option<f64>,
    /// The same of greedy's plan.
    pub greedy_gap: Option<f64>,
    /// The same for the highest band alone, then for the two highest together, and so on.
    pub gap_by_level: Vec<LevelGap>,
    /// What tasks ask for that have no place, over what all tasks ask for, 0..=1.
    pub unplaced: ByResource,
    /// The same of greedy's plan.
    pub greedy_unplaced: ByResource,
    /// Greedy's plan.
    pub greedy: PackReport,
    /// The budget of the search.
    pub budget: String,
    /// Steps taken.
    pub steps: u64,
    /// Seconds of the search.
    pub search_seconds: f64,
    /// The file with the certificates.
    pub certificate: String,
    /// What failed, and why; what was found without it stands.
    pub failures: Vec<String>,
}

/// How much of their worth the tasks of the highest bands have a place for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LevelGap {
    /// The lowest of these bands.
    pub down_to: &'static str,
    /// Worth of what is placed, in 1/100 of 1/1000 machine.
    pub placed: u64,
    /// What greedy placed.
    pub greedy_placed: u64,
    /// No packing on these machines places more.
    pub placed_upper_bound: u64,
    /// What is missing of that, 0..=1.
    pub gap: f64,
    /// The same of greedy's plan.
    pub greedy_gap: f64,
}

/// Batches placed into a running cell.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BatchesReport {
    /// Name of the policy that greedy follows.
    pub policy: String,
    /// Name of the accounting.
    pub accounting: &'static str,
    /// The seed of everything random.
    pub seed: u64,
    /// Number of machines.
    pub machine_count: usize,
    /// The budget of each batch.
    pub budget: String,
    /// Batch by batch.
    pub batches: Vec<BatchReport>,
    /// Batches whose plan is better than greedy's by the objective; none is worse.
    pub better_count: usize,
    /// What failed, and why; what was found without it stands.
    pub failures: Vec<String>,
}

/// One batch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BatchReport {
    /// Number of tasks that arrived.
    pub task_count: usize,
    /// What was charged before, over capacity, 0..=1, by resource.
    pub allocation_before: ByResource,
    /// Greedy's plan.
    pub greedy: PlanReport,
    /// The better one.
    pub plan: PlanReport,
    /// Whether it is better by the objective.
    pub is_better: bool,
    /// Seconds that greedy took.
    pub greedy_seconds: f64,
    /// Seconds in all, greedy's included.
    pub seconds: f64,
    /// Parts that were given to the solver.
    pub solves: u64,
    /// Parts for which it found nothing within its limit.
    pub unsolved: u64,
    /// Trials that made the plan better, those of parts included.
    pub improvements: u64,
}

/// A plan for tasks that arrive.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanReport {
    /// Tasks of the batch that have a place.
    pub placed_count: usize,
    /// Those that have none.
    pub pending_count: usize,
    /// Running tasks that are evicted, each once.
    pub victim_count: usize,
    /// Of these, those that have another place.
    pub placed_again_count: usize,
    /// What the placed tasks are worth less what the evicted ones were that have no place, by band, in 1/100
    /// of 1/1000 machine; see `optimizer::objective`.
    pub net_worth: BTreeMap<&'static str, i128>,
    /// Their sum, in mean machines.
    pub net_worth_machines: f64,
    /// Work lost by evictions, in machine hours.
    pub work_lost_machine_hours: f64,
}

/// A plan of moves, and what it gains.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RepackReport {
    /// What moves are for: `machines` or `stranded`.
    pub goal: &'static str,
    /// The state that the plan starts from: `recorded` or `packed`.
    pub start: &'static str,
    /// Name of the policy by which it was packed.
    pub policy: String,
    /// The share of the packed tasks that was taken away first.
    pub churn: Option<f64>,
    /// Name of the accounting.
    pub accounting: &'static str,
    /// The seed of everything random.
    pub seed: u64,
    /// The most moves.
    pub max_moves: Option<usize>,
    /// The most that moves may cost in sum, in mean machines.
    pub max_move_cost: Option<f64>,
    /// What the search might spend.
    pub budget: String,
    /// Number of machines.
    pub machine_count: usize,
    /// Machines that are charged more than they have at the start.
    pub machines_overcommitted: usize,
    /// Tasks that have a place, allocs not counted.
    pub task_count: usize,
    /// The state before.
    pub before: StateReport,
    /// The state after all moves.
    pub after: StateReport,
    /// Number of moves.
    pub move_count: usize,
    /// What they cost in sum, in mean machines.
    pub cost: f64,
    /// What they gain: machines freed, or the mean machine's worth of stranded resources set free, all
    /// resources in sum.
    pub gain: f64,
    /// The same for each move; 0 where there is none.
    pub gain_per_move: f64,
    /// What greedy's plan gains.
    pub greedy_gain: f64,
    /// The most that any plan within the limit could gain: the least of `upper_bounds`.
    pub upper_bound: f64,
    /// Bounds by method.
    pub upper_bounds: BTreeMap<&'static str, f64>,
    /// The part of the upper bound that is not gained, 0..=1.
    pub gap: f64,
    /// How many machines still host something, by the first group of constraints that keeps each from
    /// being emptied; for `machines` only.
    pub blocked: BTreeMap<&'static str, usize>,
    /// Why nothing moves, if nothing does.
    pub reason: Option<String>,
    /// The moves, in an order in which every step fits.
    pub moves: Vec<MoveReport>,
    /// Steps of the search.
    pub steps: u64,
    /// Wall time, without reading the trace.
    pub seconds: f64,
    /// Solvers that failed or ran out of time; what was found without them stands.
    pub failures: Vec<String>,
}

/// A state of a cell, as far as repacking changes it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StateReport {
    /// Machines that host nothing.
    pub machines_empty: usize,
    /// What is free but stranded over capacity, 0..=1, by resource.
    pub stranding: ByResource,
}

/// One move: the task is started at its new place and then stopped at its old one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MoveReport {
    /// Name of the task.
    pub task: String,
    /// The machine that it leaves.
    pub from: String,
    /// The machine that it goes to.
    pub to: String,
    /// What it costs, in mean machines.
    pub cost: f64,
    /// What it gains: 1 on the move that leaves its machine empty; or stranded resources set free, in mean
    /// machines.
    pub gain: f64,
}

/// Preemption for arriving jobs, greedy's and better.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PreemptReport {
    /// Name of the policy that greedy follows.
    pub policy: String,
    /// Name of the accounting.
    pub accounting: &'static str,
    /// The seed of everything random.
    pub seed: u64,
    /// Number of machines.
    pub machine_count: usize,
    /// Number of tasks that arrive.
    pub task_count: usize,
    /// The budget.
    pub budget: String,
    /// Greedy's plan.
    pub greedy: PreemptPlanReport,
    /// The search's, or greedy's where that is as good.
    pub improved: PreemptPlanReport,
    /// Whether it is better by the objective.
    pub is_improved: bool,
    /// No plan that places all of the arriving tasks loses less work, in machine hours; `None` where some of
    /// them have no place, or they are of too many kinds for the bound.
    pub work_lost_lower_bound: Option<f64>,
    /// Work lost over that bound, less 1.
    pub gap: Option<f64>,
    /// Arriving tasks that have no place, by the constraints that are to blame.
    pub why_pending: BTreeMap<String, usize>,
    /// Seconds that greedy took.
    pub greedy_seconds: f64,
    /// Seconds in all, without the bound.
    pub seconds: f64,
    /// What failed, and why; what was found without it stands.
    pub failures: Vec<String>,
}

/// A plan with its preemptions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PreemptPlanReport {
    /// What it places, and what that costs.
    #[serde(flatten)]
    pub plan: PlanReport,
    /// Victims by band.
    pub victims_by_band: BTreeMap<&'static str, usize>,
    /// Evictions on the way to the plan, a task as often as it is evicted.
    pub eviction_count: usize,
    /// 0: nobody is evicted; 1: by arriving tasks alone; more: victims evict others in turn.
    pub cascade_depth: usize,
}
