//! The files of the GPU experiment that every run with the same flags gives byte for byte.

use serde::Serialize;

use super::GpuRun;
use super::results::GpuResults;
use crate::number::rounded;
use crate::output::{Output, RESULTS_CSV, RESULTS_JSON, csv, json};
use crate::plot::Figure;

/// A row of `results.csv`: the state under a policy with a seed at one percent.
#[derive(Debug, Serialize)]
struct CsvRow<'a> {
    policy: &'a str,
    seed: u64,
    arrived_percent: usize,
    arrived_count: usize,
    placed_count: usize,
    allocated: f64,
    fragments: f64,
    fragment_rate: f64,
}

/// Results as JSON and CSV, and the figures.
#[must_use]
pub fn deterministic(run: &GpuRun, results: &GpuResults, figures: &[Figure]) -> Vec<Output> {
    let output = |name: &str, bytes| Output { name: name.to_owned(), bytes, deterministic: true };
    let mut outputs =
        vec![output(RESULTS_JSON, json(results)), output(RESULTS_CSV, csv(&csv_rows(run)))];
    outputs
        .extend(figures.iter().map(|figure| output(&figure.name, figure.svg.clone().into_bytes())));
    outputs
}

fn csv_rows(run: &GpuRun) -> Vec<CsvRow<'_>> {
    let mut rows = Vec::new();
    for row in &run.rows {
        for (index, points) in row.by_seed.iter().enumerate() {
            rows.extend(points.iter().enumerate().map(|(percent, point)| CsvRow {
                policy: &row.policy,
                seed: run.flags.seed.wrapping_add(index as u64),
                arrived_percent: percent,
                arrived_count: point.arrived_count,
                placed_count: point.placed_count,
                allocated: rounded(point.allocated, 6),
                fragments: rounded(point.fragments, 6),
                fragment_rate: rounded(point.fragment_rate, 6),
            }));
        }
    }
    rows
}
