//! Runs a plan: every row's compaction and packing, with trials that stay paired.
//!
//! In: a [`Plan`], and a [`Runner`] that packs and compacts one row. Out: a [`Run`], the reports of all
//! rows in the order of the plan. Rows run one after the other, so that a packing has the machine to
//! itself while it is timed; the trials of one compaction run in parallel.
//!
//! Trials are paired only where all rows of a table draw from the same number of copies of the cell.
//! The first row finds out how many it needs; a row that does not fit on so many finds out its own, and
//! the rows before it run again on that many.

use fauxmaster::report::{CompactReport, MachineFill, PackReport};

use crate::agreement::Agreement;
use crate::fill::Fill;
use crate::plan::{Plan, Ratio, Row, TableKind};
use crate::trace_facts::TraceFacts;

/// The reports of all rows.
#[derive(Clone, Debug)]
pub struct Run {
    /// What was run.
    pub plan: Plan,
    /// On what.
    pub trace: TraceFacts,
    /// The tables.
    pub tables: Vec<TableRun>,
    /// The sweep's points beyond the table of systems.
    pub sweep: Vec<SweepRun>,
    /// How the Kubernetes model agrees with the real scheduler, where that was asked.
    pub agreement: Option<Agreement>,
}

/// The reports of a table.
#[derive(Clone, Debug)]
pub struct TableRun {
    /// Which one.
    pub kind: TableKind,
    /// Its rows.
    pub rows: Vec<RowRun>,
}

/// The reports of a row.
#[derive(Clone, Debug)]
pub struct RowRun {
    /// The row.
    pub row: Row,
    /// Its compaction.
    pub compact: CompactReport,
    /// Its packing at the cell's own size.
    pub pack: PackReport,
    /// How full that packing left the machines.
    pub fill: Fill,
}

/// The reports at a point of the sweep.
#[derive(Clone, Debug)]
pub struct SweepRun {
    /// The usage ratio.
    pub ratio: Ratio,
    /// Its rows and their compactions.
    pub rows: Vec<(Row, CompactReport)>,
}

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Trials and packings that are done. Goes back where rows must run again on more copies.
    pub done: usize,
    /// Trials and packings in all.
    pub total: usize,
    /// The row at work.
    pub row: &'a str,
}

/// What a [`Runner`] could not do, and why.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Why a row could not be compacted.
#[derive(Debug, thiserror::Error)]
pub enum CompactFailure {
    /// It needs more copies of the cell than it was given.
    #[error("{why}")]
    DoesNotFit {
        /// How many it was given.
        clones: usize,
        /// In the runner's words.
        why: Failure,
    },
    /// Anything else.
    #[error("{0}")]
    Other(Failure),
}

/// Why a run ended without results.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A compaction failed.
    #[error("compacting {row}")]
    Compact {
        /// Which row.
        row: String,
        /// Why.
        source: CompactFailure,
    },
    /// A packing failed.
    #[error("packing {row}")]
    Pack {
        /// Which row.
        row: String,
        /// Why.
        source: Failure,
    },
}

/// What packs and compacts a row: the fauxmaster, or made-up reports in tests.
pub trait Runner: Sync {
    /// Compacts the cell under a row's policy, `None` on as many copies of the cell as it needs.
    /// `on_trial` is told how many trials are done.
    ///
    /// # Errors
    /// If the workload does not fit on so many copies, or cannot be compacted at all.
    fn compact(
        &self,
        row: &Row,
        clones: Option<usize>,
        on_trial: &(dyn Fn(usize) + Sync),
    ) -> Result<CompactReport, CompactFailure>;

    /// Packs the cell at its own size.
    ///
    /// # Errors
    /// If the policy cannot pack this cell.
    fn pack(&self, row: &Row) -> Result<(PackReport, Vec<MachineFill>), Failure>;
}

/// Runs the whole plan on a trace.
///
/// # Errors
/// If a row cannot be packed or compacted.
pub fn run(
    plan: Plan,
    trace: TraceFacts,
    runner: &dyn Runner,
    progress: &(dyn Fn(Progress<'_>) + Sync),
) -> Result<Run, RunError> {
    let trials = plan.flags.trials;
    let pack_count: usize = plan.tables.iter().map(|table| table.rows.len()).sum();
    let total = plan.row_count() * trials + pack_count;
    let mut done = 0;
    let mut tables = Vec::new();
    for table in &plan.tables {
        let compacted = compact_paired(&table.rows, None, runner, &|row, trials_done| {
            progress(Progress { done: done + trials_done, total, row });
        })?;
        done += table.rows.len() * trials;
        let mut rows = Vec::new();
        for (row, compact) in table.rows.iter().zip(compacted) {
            let id = row.id();
            progress(Progress { done, total, row: &id });
            let (pack, machines) =
                runner.pack(row).map_err(|source| RunError::Pack { row: id, source })?;
            done += 1;
            rows.push(RowRun { row: row.clone(), compact, pack, fill: Fill::of(&machines) });
        }
        tables.push(TableRun { kind: table.kind, rows });
    }
    // The sweep draws from the same copies as the table of systems, so that its points are paired too.
    let systems = tables.iter().find(|table: &&TableRun| table.kind == TableKind::Reclaimed);
    let clones = systems.and_then(|table| table.rows.first()).map(|row| row.compact.clones);
    let mut sweep = Vec::new();
    for point in &plan.sweep {
        let compacted = compact_paired(&point.rows, clones, runner, &|row, trials_done| {
            progress(Progress { done: done + trials_done, total, row });
        })?;
        done += point.rows.len() * trials;
        let rows = point.rows.iter().cloned().zip(compacted).collect();
        sweep.push(SweepRun { ratio: point.ratio, rows });
    }
    Ok(Run { plan, trace, tables, sweep, agreement: None })
}

/// Compacts every row on the same number of copies of the cell: `clones`, or the fewest on which all fit
/// where that is `None` or too few.
///
/// Rows that charge most come first, as they need most copies, so that few rows have to run again.
fn compact_paired(
    rows: &[Row],
    mut clones: Option<usize>,
    runner: &dyn Runner,
    progress: &(dyn Fn(&str, usize) + Sync),
) -> Result<Vec<CompactReport>, RunError> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&index| rows[index].accounting); // limits are first
    let mut reports: Vec<Option<CompactReport>> = vec![None; rows.len()];
    let is_done = |report: &Option<CompactReport>, clones: Option<usize>| {
        report.as_ref().is_some_and(|report| Some(report.clones) == clones)
    };
    // Ends: each round either adds a report on so many copies, or raises their number, at most to what
    // the greediest row needs.
    while let Some(&index) = order.iter().find(|&&index| !is_done(&reports[index], clones)) {
        let row = &rows[index];
        let id = row.id();
        let done = reports.iter().filter(|report| is_done(report, clones)).flatten();
        let trials_before: usize = done.map(|report| report.trials).sum();
        let on_trial = |trials: usize| progress(&id, trials_before + trials);
        on_trial(0);
        let failed = |source| RunError::Compact { row: id.clone(), source };
        let (report, at_least) = match runner.compact(row, clones, &on_trial) {
            Ok(report) => (report, 1),
            // One more than were too few, so that this cannot go round for ever.
            Err(CompactFailure::DoesNotFit { clones: too_few, .. }) if clones.is_some() => {
                (runner.compact(row, None, &on_trial).map_err(failed)?, too_few + 1)
            }
            Err(source) => return Err(failed(source)),
        };
        clones = Some(report.clones.max(at_least));
        reports[index] = Some(report);
    }
    Ok(reports.into_iter().flatten().collect())
}

#[cfg(test)]
pub(crate) mod example {
    //! A made-up run with numbers like those of the Google cell.

    use std::collections::BTreeMap;

    use fauxmaster::nearest_rank;

    use super::*;
    use crate::plan::{CompareFlags, System, tests::flags};
    use crate::trace_facts::Finding;
    use scheduler::Accounting;
    use traces::Workload;

    /// Machines needed: a base by policy and accounting, and a spread that all rows share by trial.
    #[derive(Debug)]
    pub(crate) struct MadeUp {
        pub(crate) trials: usize,
        /// Copies of the cell that Kubernetes' rows need; the others need one less.
        pub(crate) clones_kubernetes: usize,
    }

    impl Runner for MadeUp {
        fn compact(
            &self,
            row: &Row,
            clones: Option<usize>,
            on_trial: &(dyn Fn(usize) + Sync),
        ) -> Result<CompactReport, CompactFailure> {
            let needs = match row.system {
                System::Borg => self.clones_kubernetes - 1,
                System::Kubernetes | System::Peer => self.clones_kubernetes,
            };
            let clones = clones.unwrap_or(needs);
            if clones < needs {
                return Err(CompactFailure::DoesNotFit { clones, why: "does not fit".into() });
            }
            let (bound, over) = made_up_need(row);
            let bounds: Vec<usize> = (0..self.trials).map(|t| bound + t * 37 % 53).collect();
            let salt = row.id().len();
            let needed: Vec<usize> = bounds
                .iter()
                .enumerate()
                .map(|(t, bound)| bound + over + t * salt * 5 % 17)
                .collect();
            on_trial(self.trials);
            let mut sorted = needed.clone();
            sorted.sort_unstable();
            Ok(CompactReport {
                policy: row.policy.clone(),
                accounting: row.accounting.name(),
                seed: 1,
                trials: self.trials,
                machines_p90: nearest_rank(&sorted, 90),
                machines_median: nearest_rank(&sorted, 50),
                machines_min: sorted[0],
                machines_max: sorted[sorted.len() - 1],
                machines_by_trial: needed,
                lower_bound: bounds.iter().copied().min().unwrap(),
                lower_bound_by_trial: bounds,
                clones,
                task_count: 126_017,
                pending_allowed: 252,
                pending_only_picky: false,
                jobs_softened: 0,
                packings: self.trials * 14,
                seconds: 21.5,
            })
        }

        fn pack(&self, row: &Row) -> Result<(PackReport, Vec<MachineFill>), Failure> {
            let slack = made_up_need(row).1 as f64 / 14_000.0;
            // A spread of fills that needs no randomness: golden-ratio steps.
            let machines = (0..12_477)
                .map(|i| {
                    let x = f64::from(i) * 0.618_034 % 1.0;
                    let y = f64::from(i) * 0.754_878 % 1.0;
                    MachineFill {
                        cpu: 1.0 - slack * 1.5 * x * x * x,
                        ram: (1.0 - 0.8 * slack - 1.2 * slack * y * y).clamp(0.0, 1.0),
                    }
                })
                .collect();
            let report = PackReport {
                policy: row.policy.clone(),
                accounting: row.accounting.name(),
                seed: 1,
                machine_count: 12_477,
                task_count: 126_017,
                placed_count: 120_017,
                pending_count: 6_000,
                placed_by_band: BTreeMap::from([("batch", 80_017), ("production", 40_000)]),
                pending_by_band: BTreeMap::from([("batch", 2_000), ("free", 4_000)]),
                preempted_count: 0,
                allocation: BTreeMap::from([("cpu", 0.985), ("ram", 0.87)]),
                stranding: BTreeMap::from([("cpu", slack / 7.0), ("ram", 0.11 + slack)]),
                machines_empty: 3,
                seconds: 0.41,
                decisions_per_second: 307_358.5,
                peak_memory_bytes: Some(187_654_144),
                assignment_hash: "0123456789abcdef".repeat(4),
            };
            Ok((report, machines))
        }
    }

    /// A bound, and how many machines are needed above it.
    fn made_up_need(row: &Row) -> (usize, usize) {
        let bound = match row.accounting {
            // No row goes by what is recorded.
            Accounting::Limits | Accounting::Recorded => 13_314,
            Accounting::Reclaimed(ratio) => 9_000 + 4 * (ratio.cpu_permille as usize),
            Accounting::RightSized(ratio) => 8_500 + 4 * (ratio.cpu_permille as usize),
        };
        let over = match row.policy.as_str() {
            "borg-hybrid" => 130,
            "best-fit" => 1_900,
            _ => 1_240,
        };
        (bound, over)
    }

    pub(crate) fn facts() -> TraceFacts {
        let finding = |kind: &str, count, note: &str| Finding {
            kind: kind.to_owned(),
            count,
            note: note.to_owned(),
        };
        TraceFacts {
            source: "google-2011-t0".to_owned(),
            sha256: "feedc0de".repeat(8),
            workload: Workload::Running,
            machine_count: 12_477,
            job_count: 3_976,
            alloc_set_count: 0,
            user_count: 421,
            task_count: 144_339,
            running_count: 132_982,
            tied_count: 6_965,
            tied_priorities: vec![360],
            packed_count: 126_017,
            limits_over_capacity_cpu: 1.065,
            limits_over_capacity_ram: 0.913,
            row_count: 156_816,
            doctor: vec![
                finding("orphan_machine", 13, "tasks on a machine that is not in the cell then"),
                finding("imputed_value", 1_291, "missing values, set by the reader"),
            ],
        }
    }

    pub(crate) fn run_with(flags: CompareFlags) -> Run {
        let runner = MadeUp { trials: flags.trials, clones_kubernetes: 2 };
        super::run(Plan::new(flags).unwrap(), facts(), &runner, &|_| ()).unwrap()
    }

    pub(crate) fn run() -> Run {
        let mut flags = flags();
        flags.policies = ["borg-hybrid", "best-fit", "kube-default"].map(str::to_owned).to_vec();
        flags.systems = Some(["borg-hybrid", "kube-default"].map(str::to_owned).to_vec());
        run_with(flags)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::plan::tests::flags;

    #[test]
    fn all_rows_of_a_table_draw_from_the_same_copies() {
        let runner = example::MadeUp { trials: 5, clones_kubernetes: 3 };
        let plan = Plan::new(flags()).unwrap();
        let steps = Mutex::new(Vec::new());
        let run = run(plan, example::facts(), &runner, &|progress| {
            steps.lock().unwrap().push((progress.done, progress.total));
        })
        .unwrap();
        // Borg's rows fit on two and Kubernetes' do not, so that Borg's by limits ran again.
        for table in &run.tables {
            assert!(table.rows.iter().all(|row| row.compact.clones == 3));
        }
        for point in &run.sweep {
            assert!(point.rows.iter().all(|(_, report)| report.clones == 3));
        }
        let steps = steps.into_inner().unwrap();
        let total = (2 + 3 + 4 * 2) * 5 + 5;
        assert!(steps.iter().all(|&(done, of)| of == total && done <= total));
        assert_eq!(steps.last(), Some(&(total, total)));
    }

    #[test]
    fn a_row_that_fits_nowhere_ends_the_run_by_name() {
        struct Never;
        impl Runner for Never {
            fn compact(
                &self,
                _: &Row,
                _: Option<usize>,
                _: &(dyn Fn(usize) + Sync),
            ) -> Result<CompactReport, CompactFailure> {
                Err(CompactFailure::DoesNotFit { clones: 64, why: "does not fit".into() })
            }
            fn pack(&self, _: &Row) -> Result<(PackReport, Vec<MachineFill>), Failure> {
                Err("unreachable: compaction comes first".into())
            }
        }
        let plan = Plan::new(flags()).unwrap();
        let error = run(plan, example::facts(), &Never, &|_| ()).unwrap_err();
        assert_eq!(error.to_string(), "compacting borg-hybrid/limits");
    }
}
