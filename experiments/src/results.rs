//! The results of a comparison: every number that does not depend on the clock or the host.
//!
//! In: what the runs reported. Out: [`Results`], which `results.json` holds as it is, and from which the
//! page, the figures and the tables are made. The same inputs give the same bytes on any number of
//! threads: floats are rounded, so that the last bit of a `libm` never shows.

use std::collections::BTreeMap;

use fauxmaster::nearest_rank;
use fauxmaster::report::{CompactReport, PackReport};
use fauxmaster::stats::{CONFIDENCE, Interval, Verdict, holm, paired_difference};
use serde::Serialize;

use crate::agreement::Agreement;
use crate::answer::Answer;
use crate::fill::Fill;
use crate::number::rounded;
use crate::plan::{Queue, Row, System, TableKind};
use crate::run::{RowRun, Run};
use crate::trace_facts::TraceFacts;

/// Version of the keys of `results.json`.
pub const RESULTS_VERSION: u32 = 1;

/// Decimals kept of fractions, and of means of machine counts.
const DECIMALS: i32 = 6;

/// All results.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Results {
    /// [`RESULTS_VERSION`].
    pub schema_version: u32,
    /// What was packed.
    pub trace: TraceFacts,
    /// How.
    pub method: Method,
    /// The question's answer, for each table.
    pub answers: Vec<Answer>,
    /// The tables.
    pub tables: Vec<Table>,
    /// Points of the sweep; empty without `--sweep`.
    pub sweep: Vec<SweepPoint>,
    /// How the Kubernetes model agrees with the real scheduler, where that was asked.
    pub agreement: Option<Agreement>,
}

/// The numbers that define the experiment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Method {
    /// Trials a row.
    pub trials: usize,
    /// The seed of everything random.
    pub seed: u64,
    /// Reservation over limit for CPU.
    pub usage_ratio_cpu: f64,
    /// Reservation over limit for RAM.
    pub usage_ratio_ram: f64,
    /// Share of tasks that may stay pending in a compacted cell.
    pub pending_allowance: f64,
    /// Confidence of the intervals.
    pub confidence: f64,
}

/// One table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    /// Which one.
    #[serde(rename = "table")]
    pub kind: TableKind,
    /// Copies of the cell's machines that every row's trials drew from.
    pub clones: usize,
    /// The row that needs the fewest machines (90th percentile; the first of several).
    pub best: String,
    /// Its rows.
    pub rows: Vec<RowResult>,
    /// Every pair of rows.
    pub pairs: Vec<Pair>,
}

/// One row of a table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RowResult {
    /// Its name, unique in the table.
    #[serde(rename = "row")]
    pub id: String,
    /// Name of the policy.
    pub policy: String,
    /// Whose it is.
    pub system: System,
    /// Name of the accounting.
    pub accounting: &'static str,
    /// In which order tasks were packed.
    pub queue: Queue,
    /// Machines needed.
    pub machines: Machines,
    /// What no packing can go below.
    pub lower_bound: LowerBound,
    /// 90th percentile over that of the best row, minus 1.
    pub overhead_over_best: f64,
    /// 90th percentile over that of the lower bound, minus 1.
    pub gap_to_bound: f64,
    /// More about the compaction.
    pub compaction: Compaction,
    /// Packing at the cell's own size.
    pub pack: Pack,
    /// The machines after that packing; told in files of their own.
    #[serde(skip)]
    pub fill: Fill,
}

/// Machines needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machines {
    /// 90th percentile over trials: the result.
    pub p90: usize,
    /// Median over trials.
    pub median: usize,
    /// Fewest.
    pub min: usize,
    /// Most.
    pub max: usize,
    /// Trial by trial.
    pub by_trial: Vec<usize>,
}

impl Machines {
    fn of(report: &CompactReport) -> Self {
        Self {
            p90: report.machines_p90,
            median: report.machines_median,
            min: report.machines_min,
            max: report.machines_max,
            by_trial: report.machines_by_trial.clone(),
        }
    }
}

/// Volume bound on the machines needed, on each trial's own order of machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LowerBound {
    /// 90th percentile over trials; nowhere above that of the machines needed.
    pub p90: usize,
    /// The least: no packing in any of the trials can need fewer.
    pub min: usize,
    /// Trial by trial.
    pub by_trial: Vec<usize>,
}

impl LowerBound {
    fn of(report: &CompactReport) -> Self {
        let mut sorted = report.lower_bound_by_trial.clone();
        sorted.sort_unstable();
        Self {
            p90: nearest_rank(&sorted, 90),
            min: report.lower_bound,
            by_trial: report.lower_bound_by_trial.clone(),
        }
    }
}

/// What else a compaction tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Compaction {
    /// Tasks packed.
    pub task_count: usize,
    /// Tasks that may stay pending.
    pub pending_allowed: usize,
    /// Whether only picky tasks may.
    pub pending_only_picky: bool,
    /// Jobs whose constraints were made soft, being larger than half the cell.
    pub jobs_softened: usize,
    /// Packings made, over all trials.
    pub packings: usize,
}

/// A packing at the cell's own size.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pack {
    /// Number of machines.
    pub machine_count: usize,
    /// Number of tasks.
    pub task_count: usize,
    /// Tasks that have a place.
    pub placed_count: usize,
    /// Tasks that have none.
    pub pending_count: usize,
    /// Placed tasks by band.
    pub placed_by_band: BTreeMap<&'static str, usize>,
    /// Pending tasks by band.
    pub pending_by_band: BTreeMap<&'static str, usize>,
    /// What is charged over capacity, by resource.
    pub allocation: BTreeMap<&'static str, f64>,
    /// What is free but stranded over capacity, by resource.
    pub stranding: BTreeMap<&'static str, f64>,
    /// Machines with nothing on them.
    pub machines_empty: usize,
    /// SHA-256 of the assignment.
    pub assignment_hash: String,
}

impl Pack {
    fn of(report: &PackReport) -> Self {
        let round = |figures: &BTreeMap<&'static str, f64>| {
            figures.iter().map(|(&name, &value)| (name, rounded(value, DECIMALS))).collect()
        };
        Self {
            machine_count: report.machine_count,
            task_count: report.task_count,
            placed_count: report.placed_count,
            pending_count: report.pending_count,
            placed_by_band: report.placed_by_band.clone(),
            pending_by_band: report.pending_by_band.clone(),
            allocation: round(&report.allocation),
            stranding: round(&report.stranding),
            machines_empty: report.machines_empty,
            assignment_hash: report.assignment_hash.clone(),
        }
    }
}

/// Two rows, paired by trial; differences are first minus second, in machines.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pair {
    /// The first row.
    pub first: String,
    /// The second row.
    pub second: String,
    /// Mean over trials.
    pub mean_difference: f64,
    /// Confidence interval of the mean, this pair's own; null with one trial.
    pub interval: Option<Interval>,
    /// Whether all trials differ by the same number, so that the interval has no width.
    pub constant: bool,
    /// Two-sided p of the paired t test.
    pub p: f64,
    /// The same after Holm's correction over the table's pairs.
    pub p_holm: f64,
    /// What may be said.
    pub verdict: Verdict,
}

impl Pair {
    /// The same pair seen from the second row.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self {
            first: self.second.clone(),
            second: self.first.clone(),
            mean_difference: 0.0 - self.mean_difference,
            interval: self
                .interval
                .map(|interval| Interval { low: 0.0 - interval.high, high: 0.0 - interval.low }),
            verdict: self.verdict.reversed(),
            ..*self
        }
    }
}

/// The systems at another usage ratio.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SweepPoint {
    /// Reservation over limit for CPU.
    pub usage_ratio_cpu: f64,
    /// Reservation over limit for RAM.
    pub usage_ratio_ram: f64,
    /// Copies of the cell's machines that the trials drew from.
    pub clones: usize,
    /// Rows, in the order of the table.
    pub rows: Vec<SweepRow>,
}

/// A row at a point of the sweep.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SweepRow {
    /// Its name.
    #[serde(rename = "row")]
    pub id: String,
    /// Name of the policy.
    pub policy: String,
    /// Name of the accounting.
    pub accounting: &'static str,
    /// Machines needed.
    pub machines: Machines,
    /// What no packing can go below.
    pub lower_bound: LowerBound,
}

impl SweepRow {
    fn of(row: &Row, report: &CompactReport) -> Self {
        Self {
            id: row.id(),
            policy: row.policy.clone(),
            accounting: row.accounting.name(),
            machines: Machines::of(report),
            lower_bound: LowerBound::of(report),
        }
    }
}

impl Results {
    /// The results of a run.
    #[must_use]
    pub fn of(run: &Run) -> Self {
        let flags = &run.plan.flags;
        let tables: Vec<Table> =
            run.tables.iter().map(|table| Table::of(table.kind, &table.rows)).collect();
        Self {
            schema_version: RESULTS_VERSION,
            trace: run.trace.clone(),
            method: Method {
                trials: flags.trials,
                seed: flags.seed,
                usage_ratio_cpu: flags.usage_ratio.cpu(),
                usage_ratio_ram: flags.usage_ratio.ram(),
                pending_allowance: flags.pending_allowance,
                confidence: CONFIDENCE,
            },
            answers: tables.iter().map(Answer::of).collect(),
            sweep: sweep(run),
            agreement: run.agreement.clone(),
            tables,
        }
    }

    /// The names of all policies, in the order of their first row: the order of their colours.
    #[must_use]
    pub fn policies(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for row in self.tables.iter().flat_map(|table| &table.rows) {
            if !names.contains(&row.policy.as_str()) {
                names.push(&row.policy);
            }
        }
        names
    }
}

/// The sweep, led by the table of systems itself, which is its first point. Rows that do not depend on
/// the ratio (requests equal to limits) stand in the first point only.
fn sweep(run: &Run) -> Vec<SweepPoint> {
    if run.sweep.is_empty() {
        return Vec::new();
    }
    let first = run.tables.iter().filter(|table| table.kind == TableKind::Reclaimed).map(|table| {
        (
            run.plan.flags.usage_ratio,
            table.rows.iter().map(|run| (&run.row, &run.compact)).collect(),
        )
    });
    let others = run
        .sweep
        .iter()
        .map(|point| (point.ratio, point.rows.iter().map(|(row, report)| (row, report)).collect()));
    first
        .chain(others)
        .map(|(ratio, rows): (_, Vec<(&Row, &CompactReport)>)| SweepPoint {
            usage_ratio_cpu: ratio.cpu(),
            usage_ratio_ram: ratio.ram(),
            clones: rows.iter().map(|(_, report)| report.clones).max().unwrap_or(1),
            rows: rows.into_iter().map(|(row, report)| SweepRow::of(row, report)).collect(),
        })
        .collect()
}

impl Table {
    /// The table of these rows.
    ///
    /// # Panics
    /// If there are none, or if their trials cannot be paired.
    #[must_use]
    pub fn of(kind: TableKind, runs: &[RowRun]) -> Self {
        let best = runs.iter().min_by_key(|run| run.compact.machines_p90);
        let best = best.expect("a plan has a row in each table");
        let clones = best.compact.clones;
        assert!(runs.iter().all(|run| run.compact.clones == clones), "trials are paired");
        let rows = runs.iter().map(|run| RowResult::of(run, best.compact.machines_p90)).collect();
        Self { kind, clones, best: best.row.id(), pairs: pairs(runs), rows }
    }

    /// The row with this name.
    #[must_use]
    pub fn row(&self, id: &str) -> Option<&RowResult> {
        self.rows.iter().find(|row| row.id == id)
    }

    /// The difference between two rows, `first` minus `second`; `None` where they are the same row or one
    /// is not in the table.
    #[must_use]
    pub fn pair(&self, first: &str, second: &str) -> Option<Pair> {
        self.pairs.iter().find_map(|pair| {
            if pair.first == first && pair.second == second {
                Some(pair.clone())
            } else if pair.first == second && pair.second == first {
                Some(pair.reversed())
            } else {
                None
            }
        })
    }

    /// Every other row against the best.
    #[must_use]
    pub fn against_best(&self) -> Vec<Pair> {
        self.rows.iter().filter_map(|row| self.pair(&row.id, &self.best)).collect()
    }
}

fn pairs(runs: &[RowRun]) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for (index, first) in runs.iter().enumerate() {
        for second in &runs[index + 1..] {
            let difference = paired_difference(
                &first.compact.machines_by_trial,
                &second.compact.machines_by_trial,
            );
            pairs.push((first.row.id(), second.row.id(), difference));
        }
    }
    let ps: Vec<f64> = pairs.iter().map(|(_, _, difference)| difference.p).collect();
    pairs
        .into_iter()
        .zip(holm(&ps))
        .map(|((first, second, difference), p_holm)| Pair {
            first,
            second,
            mean_difference: rounded(difference.mean, DECIMALS),
            interval: difference.interval.map(|interval| Interval {
                low: rounded(interval.low, DECIMALS),
                high: rounded(interval.high, DECIMALS),
            }),
            constant: difference.constant,
            p: rounded(difference.p, DECIMALS),
            p_holm: rounded(p_holm, DECIMALS),
            verdict: Verdict::of(&difference, p_holm),
        })
        .collect()
}

impl RowResult {
    fn of(run: &RowRun, best_p90: usize) -> Self {
        let machines = Machines::of(&run.compact);
        let lower_bound = LowerBound::of(&run.compact);
        let over = |base: usize| rounded(excess(machines.p90, base), DECIMALS);
        Self {
            id: run.row.id(),
            policy: run.row.policy.clone(),
            system: run.row.system,
            accounting: run.row.accounting.name(),
            queue: run.row.queue,
            overhead_over_best: over(best_p90),
            gap_to_bound: over(lower_bound.p90),
            compaction: Compaction {
                task_count: run.compact.task_count,
                pending_allowed: run.compact.pending_allowed,
                pending_only_picky: run.compact.pending_only_picky,
                jobs_softened: run.compact.jobs_softened,
                packings: run.compact.packings,
            },
            pack: Pack::of(&run.pack),
            fill: run.fill.clone(),
            machines,
            lower_bound,
        }
    }
}

/// How far `value` is above `base`, as a fraction of `base`; 0 where both are 0.
fn excess(value: usize, base: usize) -> f64 {
    if value == base { 0.0 } else { value as f64 / base.max(1) as f64 - 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::example;

    #[test]
    fn overheads_and_gaps_are_over_90th_percentiles() {
        let results = Results::of(&example::run());
        let table = &results.tables[0];
        assert_eq!(table.best, "borg-hybrid/limits");
        let kube = table.row("kube-default/limits").unwrap();
        let borg = table.row("borg-hybrid/limits").unwrap();
        assert_eq!(borg.overhead_over_best, 0.0);
        let expected = kube.machines.p90 as f64 / borg.machines.p90 as f64 - 1.0;
        assert!((kube.overhead_over_best - expected).abs() < 1e-6);
        let expected = kube.machines.p90 as f64 / kube.lower_bound.p90 as f64 - 1.0;
        assert!((kube.gap_to_bound - expected).abs() < 1e-6);
    }

    #[test]
    fn every_pair_is_there_once_and_can_be_read_from_both_sides() {
        let results = Results::of(&example::run());
        let table = &results.tables[0];
        let rows = table.rows.len();
        assert_eq!(table.pairs.len(), rows * (rows - 1) / 2);
        let (a, b) = ("borg-hybrid/limits", "kube-default/limits");
        let forth = table.pair(a, b).unwrap();
        let back = table.pair(b, a).unwrap();
        assert!(forth.mean_difference < 0.0);
        assert_eq!(back.mean_difference, -forth.mean_difference);
        assert_eq!(back.interval.unwrap().low, -forth.interval.unwrap().high);
        assert_eq!(forth.verdict, Verdict::FirstNeedsFewer);
        assert_eq!(back.verdict, Verdict::SecondNeedsFewer);
        assert_eq!(table.pair(a, a), None);
        assert_eq!(table.against_best().len(), rows - 1);
    }

    #[test]
    fn results_hold_neither_time_nor_speed() {
        let text = serde_json::to_string(&Results::of(&example::run())).unwrap();
        for word in ["seconds", "per_second", "memory", "host", "thread", "commit"] {
            assert!(!text.contains(word), "{word}");
        }
    }

    #[test]
    fn the_sweep_begins_with_the_table_itself() {
        let results = Results::of(&example::run());
        assert_eq!(results.sweep.len(), 5);
        assert_eq!(results.sweep[0].usage_ratio_cpu, 0.27);
        assert_eq!(results.sweep[0].rows.len(), 3);
        assert_eq!(results.sweep[4].rows.len(), 2);
        assert_eq!(results.policies(), ["borg-hybrid", "best-fit", "kube-default"]);
    }
}
