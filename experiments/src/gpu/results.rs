//! The results of the GPU experiment: means and ranges over seeds, at every percent.
//!
//! Floats are rounded, so that the last bit of a sum never shows.

use fauxmaster::InflationPoint;
use serde::{Deserialize, Serialize};

use super::{GpuRow, GpuRun, UNTIL_PERCENT};
use crate::number::rounded;
use crate::trace_facts::TraceFacts;

/// Version of the keys of `results.json`.
pub const GPU_RESULTS_VERSION: u32 = 1;

const DECIMALS: i32 = 6;

/// All results.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GpuResults {
    /// [`GPU_RESULTS_VERSION`].
    pub schema_version: u32,
    /// What arrived where.
    pub trace: TraceFacts,
    /// How.
    pub method: Method,
    /// In the order of the flags.
    pub rows: Vec<Row>,
}

/// The numbers that define the experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Method {
    /// How many seeds.
    pub seeds: usize,
    /// The first.
    pub seed: u64,
    /// Tasks arrived until they asked for so much of the GPUs.
    pub until_percent: u32,
    /// GPUs of the cell.
    pub gpu_count: u64,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its name.
    pub policy: String,
    /// The state at every percent asked for, from 0 on.
    pub points: Vec<Point>,
}

/// The state once so much of the GPUs was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// So much, in percent.
    pub arrived_percent: usize,
    /// GPU allocated over capacity.
    pub allocated: Over,
    /// Fragments over capacity.
    pub fragments: Over,
    /// Fragments over free GPU.
    pub fragment_rate: Over,
}

/// A number over the seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Over {
    /// Mean.
    pub mean: f64,
    /// Least.
    pub min: f64,
    /// Most.
    pub max: f64,
}

impl Over {
    fn of(values: &[f64]) -> Self {
        let sum: f64 = values.iter().sum();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Self {
            mean: rounded(sum / values.len().max(1) as f64, DECIMALS),
            min: rounded(least, DECIMALS),
            max: rounded(most, DECIMALS),
        }
    }
}

impl GpuResults {
    /// The results of a run.
    #[must_use]
    pub fn of(run: &GpuRun) -> Self {
        Self {
            schema_version: GPU_RESULTS_VERSION,
            trace: run.trace.clone(),
            method: Method {
                seeds: run.flags.seeds,
                seed: run.flags.seed,
                until_percent: UNTIL_PERCENT,
                gpu_count: run.gpu_count,
            },
            rows: run.rows.iter().map(Row::of).collect(),
        }
    }
}

impl Row {
    fn of(row: &GpuRow) -> Self {
        let points = (0..=UNTIL_PERCENT as usize).map(|percent| {
            let over = |of: fn(&InflationPoint) -> f64| {
                let values: Vec<f64> =
                    row.by_seed.iter().map(|points| of(&points[percent])).collect();
                Over::of(&values)
            };
            Point {
                arrived_percent: percent,
                allocated: over(|point| point.allocated),
                fragments: over(|point| point.fragments),
                fragment_rate: over(|point| point.fragment_rate),
            }
        });
        Self { policy: row.policy.clone(), points: points.collect() }
    }

    /// The state once so much of the GPUs was asked for.
    #[must_use]
    pub fn at(&self, percent: usize) -> &Point {
        &self.points[percent]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_and_ranges_over_seeds() {
        let seed = |allocated| vec![InflationPoint { allocated, ..InflationPoint::default() }; 131];
        let row = GpuRow { policy: "fgd".to_owned(), by_seed: vec![seed(0.25), seed(0.75)] };
        let row = Row::of(&row);
        assert_eq!(row.at(100).allocated, Over { mean: 0.5, min: 0.25, max: 0.75 });
        assert_eq!((row.at(130).arrived_percent, row.points.len()), (130, 131));
    }
}
