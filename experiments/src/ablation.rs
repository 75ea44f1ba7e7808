//! What each of the scheduler's speed-ups is worth: a cell is packed from scratch with all of them, without
//! each of them by itself, and without any.
//!
//! In: a trace and a policy that scores hosts one by one. Out: an [`AblationReport`]. The same plan must
//! come out of all rows that look at the same hosts: equivalence, cache and index change how long a pass
//! takes and nothing else, sampling changes the plan too. Runs take turns, so that what else the machine
//! does falls on all rows alike.
//!
//! Source: Borg (EuroSys '15) §3.4: packing a cell from scratch "typically took a few hundred seconds, but
//! did not finish after more than 3 days when the above techniques were disabled"; its techniques are
//! score caching, equivalence classes and relaxed randomization. The index is ours.

use std::num::NonZeroUsize;

use comfy_table::{CellAlignment, Table, presets};
use fauxmaster::{PackError, PackOptions, nearest_rank, pack};
use scheduler::{Examine, Policy, Speed};
use serde::Serialize;
use traces::Trace;

use crate::run::Progress;

/// How to take speed-ups away.
#[derive(Clone, Debug)]
pub struct AblationOptions {
    /// The policy, looking at all hosts.
    pub policy: Policy,
    /// Feasible machines at which sampling ends.
    pub sample: NonZeroUsize,
    /// Runs of each row.
    pub runs: NonZeroUsize,
    /// Seeds ties and samples.
    pub seed: u64,
}

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
pub enum AblationError {
    /// The policy has none of the speed-ups.
    #[error(
        "{0} keeps no scores of hosts one by one, so there is nothing to take away; policies with a score of Borg's do"
    )]
    Policy(String),
    /// A plan that should be the same is not.
    #[error(
        "{row} gives another plan: {found} instead of {wanted}; this is an error of the scheduler"
    )]
    OtherPlan {
        /// The row.
        row: &'static str,
        /// Hash of its assignments.
        found: String,
        /// Hash of the first row's that looks at the same hosts.
        wanted: String,
    },
    /// The cell cannot be packed.
    #[error(transparent)]
    Pack(#[from] PackError),
}

/// The table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AblationReport {
    /// The trace as given.
    pub trace: String,
    /// SHA-256 of the trace.
    pub trace_sha256: String,
    /// Name of the policy.
    pub policy: String,
    /// Feasible machines at which sampling ends.
    pub sample: usize,
    /// Runs of each row.
    pub runs: usize,
    /// The seed.
    pub seed: u64,
    /// Machines.
    pub machine_count: usize,
    /// Tasks to place.
    pub task_count: usize,
    /// The rows.
    pub rows: Vec<AblationRow>,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AblationRow {
    /// What is switched off.
    pub off: &'static str,
    /// Seconds of each packing, in the order of the runs.
    pub seconds: Vec<f64>,
    /// Their median (nearest rank).
    pub seconds_median: f64,
    /// Median over that of the row with everything on.
    pub slower: f64,
    /// Tasks placed.
    pub placed_count: usize,
    /// Hash of the assignments.
    pub assignment_hash: String,
}

const ON: Speed = Speed { equivalence: true, cache: true, index: true };

/// Rows: what is off, the switches, and whether hosts are sampled.
const ROWS: [(&str, Speed, bool); 6] = [
    ("nothing", ON, true),
    ("equivalence classes", Speed { equivalence: false, ..ON }, true),
    ("score cache", Speed { cache: false, ..ON }, true),
    ("index", Speed { index: false, ..ON }, true),
    ("sampling", ON, false),
    ("all four", Speed { equivalence: false, cache: false, index: false }, false),
];

/// Packs the trace's cell by every row.
///
/// # Errors
/// If the policy has no speed-ups to take away, or a plan differs that must not.
pub fn ablation(
    trace: &Trace,
    options: &AblationOptions,
    progress: &dyn Fn(Progress<'_>),
) -> Result<AblationReport, AblationError> {
    let policy = &options.policy;
    if policy.is_kubernetes() || policy.is_peer() || policy.examine != Examine::All {
        return Err(AblationError::Policy(policy.name().to_owned()));
    }
    let runs = options.runs.get();
    let mut rows: Vec<AblationRow> = Vec::new();
    let (mut machine_count, mut task_count) = (0, 0);
    for run in 0..runs {
        for (index, (off, speed, is_sampled)) in ROWS.into_iter().enumerate() {
            progress(Progress {
                done: run * ROWS.len() + index,
                total: runs * ROWS.len(),
                row: off,
            });
            let mut policy = policy.clone();
            if is_sampled {
                policy.examine = Examine::Relaxed { enough: options.sample.get() };
            }
            let report =
                pack(trace, &PackOptions { speed, ..PackOptions::new(policy, options.seed) })?;
            let report = report.report;
            (machine_count, task_count) = (report.machine_count, report.task_count);
            let alike = ROWS.iter().position(|&(_, _, sampled)| sampled == is_sampled);
            if let Some(first) = alike.and_then(|first| rows.get(first))
                && first.assignment_hash != report.assignment_hash
            {
                return Err(AblationError::OtherPlan {
                    row: off,
                    found: report.assignment_hash,
                    wanted: first.assignment_hash.clone(),
                });
            }
            if run == 0 {
                rows.push(AblationRow {
                    off,
                    seconds: Vec::new(),
                    seconds_median: 0.0,
                    slower: 0.0,
                    placed_count: report.placed_count,
                    assignment_hash: report.assignment_hash,
                });
            }
            rows[index].seconds.push(report.seconds);
        }
    }
    for row in &mut rows {
        let mut sorted = row.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        let ranks: Vec<usize> = (0..sorted.len()).collect();
        row.seconds_median = sorted[nearest_rank(&ranks, 50)];
    }
    let all_on = rows[0].seconds_median;
    for row in &mut rows {
        row.slower = row.seconds_median / all_on;
    }
    Ok(AblationReport {
        trace: trace.source.clone(),
        trace_sha256: trace.sha256.clone(),
        policy: policy.name().to_owned(),
        sample: options.sample.get(),
        runs,
        seed: options.seed,
        machine_count,
        task_count,
        rows,
    })
}

impl AblationReport {
    /// The table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header(["switched off", "seconds (median)", "least to most", "slower", "placed"]);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for row in &self.rows {
            let least = row.seconds.iter().copied().fold(f64::INFINITY, f64::min);
            let most = row.seconds.iter().copied().fold(0.0, f64::max);
            table.add_row([
                row.off.to_owned(),
                format!("{:.3}", row.seconds_median),
                format!("{least:.3} to {most:.3}"),
                format!("{:.2} x", row.slower),
                fauxmaster::table::grouped(row.placed_count),
            ]);
        }
        format!(
            "{policy}: {tasks} tasks on {machines} machines, {runs} runs, sampling until {sample} \
             machines are feasible\n{table}",
            policy = self.policy,
            tasks = fauxmaster::table::grouped(self.task_count),
            machines = fauxmaster::table::grouped(self.machine_count),
            runs = self.runs,
            sample = self.sample,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use traces::{ReadOptions, load};

    fn check(policy: &str) -> Result<AblationReport, AblationError> {
        let folder = concat!("cell:", env!("CARGO_MANIFEST_DIR"), "/../examples/constraints");
        let trace = load(folder, ReadOptions::default()).unwrap();
        let options = AblationOptions {
            policy: Policy::by_name(policy).unwrap(),
            sample: NonZeroUsize::new(2).unwrap(),
            runs: NonZeroUsize::new(2).unwrap(),
            seed: 1,
        };
        ablation(&trace, &options, &|_| {})
    }

    #[test]
    fn every_row_that_looks_at_the_same_hosts_gives_the_same_plan() {
        let report = check("borg-hybrid").unwrap();
        let hashes: Vec<&str> =
            report.rows.iter().map(|row| row.assignment_hash.as_str()).collect();
        assert_eq!(hashes[..4], [hashes[0]; 4]);
        assert_eq!(hashes[4..], [hashes[4]; 2]);
        assert!(report.rows.iter().all(|row| row.seconds.len() == 2));
    }

    #[test]
    fn policies_without_scores_of_single_hosts_are_refused() {
        for policy in ["kube-default", "nomad-binpack"] {
            let error = check(policy).unwrap_err().to_string();
            assert!(error.starts_with(policy), "{error}");
        }
    }
}
