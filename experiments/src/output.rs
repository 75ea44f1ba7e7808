//! The files of a report, as bytes: which there are, and which must be the same on every run.
//!
//! In: results, figures, timings. Out: [`Output`]s; the folder they go to is [`crate::folder`]'s.

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::fill::{BIN_COUNT, CDF_STEPS};
use crate::plot::{Figure, FigureKind};
use crate::results::{Pair, Results, RowResult, SweepPoint, Table};
use crate::run::{RowRun, Run};

/// The page.
pub const PAGE: &str = "index.html";
/// The manifest, which lists all others.
pub const MANIFEST: &str = "manifest.json";
pub(crate) const RESULTS_JSON: &str = "results.json";
pub(crate) const RESULTS_CSV: &str = "results.csv";
const UTILISATION_CSV: &str = "utilisation.csv";
const FREE_CSV: &str = "free.csv";
const TIMINGS_CSV: &str = "timings.csv";

/// A file of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub bytes: Vec<u8>,
    /// Whether every run with the same flags gives the same bytes.
    pub deterministic: bool,
}

impl Output {
    /// SHA-256 of its bytes, in hexadecimal.
    #[must_use]
    pub fn sha256(&self) -> String {
        sha256(&self.bytes)
    }
}

/// SHA-256 in hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All names that a report's files can have, the manifest first.
#[must_use]
pub fn names() -> Vec<String> {
    let fixed = [MANIFEST, PAGE, RESULTS_JSON, RESULTS_CSV, UTILISATION_CSV, FREE_CSV, TIMINGS_CSV];
    let figures = FigureKind::ALL.iter().map(|kind| kind.file_name());
    let of_gpu = crate::plot::arrivals::Measure::ALL.iter().map(|measure| measure.file_name());
    fixed.into_iter().map(str::to_owned).chain(figures).chain(of_gpu).collect()
}

/// The files that every run with the same flags gives byte for byte.
#[must_use]
pub fn deterministic(results: &Results, figures: &[Figure]) -> Vec<Output> {
    let output = |name: &str, bytes| Output { name: name.to_owned(), bytes, deterministic: true };
    let mut outputs = vec![
        output(RESULTS_JSON, json(results)),
        output(RESULTS_CSV, csv(&results_rows(results))),
        output(UTILISATION_CSV, csv(&utilisation_rows(results))),
        output(FREE_CSV, csv(&free_rows(results))),
    ];
    outputs
        .extend(figures.iter().map(|figure| output(&figure.name, figure.svg.clone().into_bytes())));
    outputs
}

/// What was measured, and differs from run to run.
#[must_use]
pub fn timings(run: &Run) -> Output {
    let bytes = csv(&timing_rows(run));
    Output { name: TIMINGS_CSV.to_owned(), bytes, deterministic: false }
}

/// Indented JSON with a line feed at its end.
#[must_use]
pub fn json<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes =
        serde_json::to_vec_pretty(value).expect("keys are strings, and no value refuses");
    bytes.push(b'\n');
    bytes
}

pub(crate) fn csv<R: Serialize>(rows: &[R]) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row).expect("rows are flat, and memory does not refuse");
    }
    writer.into_inner().expect("memory does not refuse")
}

/// A row of `results.csv`: one number.
#[derive(Debug, PartialEq, Serialize)]
struct Cell {
    table: String,
    row: String,
    metric: String,
    trial: Option<usize>,
    /// As a text, which writes counts without a point.
    value: String,
}

/// Collects the numbers of one row of a table.
struct Cells<'a> {
    cells: &'a mut Vec<Cell>,
    table: &'a str,
    row: &'a str,
}

impl Cells<'_> {
    fn add(&mut self, metric: impl Into<String>, value: f64) {
        self.push(metric.into(), None, value);
    }

    fn count(&mut self, metric: impl Into<String>, value: usize) {
        self.push(metric.into(), None, value as f64);
    }

    /// Trials count from 1.
    fn by_trial(&mut self, metric: &str, values: &[usize]) {
        for (index, &value) in values.iter().enumerate() {
            self.push(metric.to_owned(), Some(index + 1), value as f64);
        }
    }

    fn push(&mut self, metric: String, trial: Option<usize>, value: f64) {
        let (table, row) = (self.table.to_owned(), self.row.to_owned());
        self.cells.push(Cell { table, row, metric, trial, value: value.to_string() });
    }
}

fn results_rows(results: &Results) -> Vec<Cell> {
    let mut cells = Vec::new();
    for table in &results.tables {
        for row in &table.rows {
            let name = table.kind.name();
            let mut cells = Cells { cells: &mut cells, table: name, row: &row.id };
            compaction_cells(&mut cells, table, row);
            packing_cells(&mut cells, row);
            for other in &table.rows {
                if let Some(pair) = table.pair(&row.id, &other.id) {
                    difference_cells(&mut cells, &pair);
                }
            }
        }
    }
    for point in &results.sweep {
        sweep_cells(&mut cells, point);
    }
    cells
}

fn compaction_cells(cells: &mut Cells<'_>, table: &Table, row: &RowResult) {
    cells.by_trial("machines_needed", &row.machines.by_trial);
    cells.count("machines_p90", row.machines.p90);
    cells.count("machines_median", row.machines.median);
    cells.count("machines_min", row.machines.min);
    cells.count("machines_max", row.machines.max);
    cells.by_trial("lower_bound", &row.lower_bound.by_trial);
    cells.count("lower_bound_p90", row.lower_bound.p90);
    cells.count("lower_bound_min", row.lower_bound.min);
    cells.add("overhead_over_best", row.overhead_over_best);
    cells.add("gap_to_bound", row.gap_to_bound);
    cells.count("clones", table.clones);
    cells.count("compaction_task_count", row.compaction.task_count);
    cells.count("compaction_pending_allowed", row.compaction.pending_allowed);
    cells.count("compaction_jobs_softened", row.compaction.jobs_softened);
    cells.count("compaction_packings", row.compaction.packings);
}

fn packing_cells(cells: &mut Cells<'_>, row: &RowResult) {
    let pack = &row.pack;
    cells.count("machine_count", pack.machine_count);
    cells.count("task_count", pack.task_count);
    cells.count("placed_count", pack.placed_count);
    cells.count("pending_count", pack.pending_count);
    for (band, &count) in &pack.placed_by_band {
        cells.count(format!("placed_{band}"), count);
    }
    for (band, &count) in &pack.pending_by_band {
        cells.count(format!("pending_{band}"), count);
    }
    for (resource, &share) in &pack.allocation {
        cells.add(format!("allocation_{resource}"), share);
    }
    for (resource, &share) in &pack.stranding {
        cells.add(format!("stranding_{resource}"), share);
    }
    cells.count("machines_empty", pack.machines_empty);
}

fn difference_cells(cells: &mut Cells<'_>, pair: &Pair) {
    let metric = |name: &str| format!("{name}:{}", pair.second);
    cells.add(metric("difference_mean"), pair.mean_difference);
    if let Some(interval) = pair.interval {
        cells.add(metric("difference_low"), interval.low);
        cells.add(metric("difference_high"), interval.high);
    }
    cells.add(metric("difference_p"), pair.p);
    cells.add(metric("difference_p_holm"), pair.p_holm);
}

fn sweep_cells(cells: &mut Vec<Cell>, point: &SweepPoint) {
    let table = format!("sweep cpu={} ram={}", point.usage_ratio_cpu, point.usage_ratio_ram);
    for row in &point.rows {
        let mut cells = Cells { cells, table: &table, row: &row.id };
        cells.by_trial("machines_needed", &row.machines.by_trial);
        cells.count("machines_p90", row.machines.p90);
        cells.count("machines_median", row.machines.median);
        cells.count("machines_min", row.machines.min);
        cells.count("machines_max", row.machines.max);
        cells.by_trial("lower_bound", &row.lower_bound.by_trial);
        cells.count("lower_bound_p90", row.lower_bound.p90);
        cells.count("clones", point.clones);
    }
}

/// A point of the figure of utilisation.
#[derive(Debug, Serialize)]
struct UtilisationRow<'a> {
    table: &'a str,
    row: &'a str,
    resource: &'static str,
    utilisation: f64,
    share_of_machines_at_or_below: f64,
}

fn utilisation_rows(results: &Results) -> Vec<UtilisationRow<'_>> {
    let mut rows = Vec::new();
    for table in &results.tables {
        for row in &table.rows {
            for (resource, cdf) in [("cpu", &row.fill.cdf_cpu), ("ram", &row.fill.cdf_ram)] {
                rows.extend(cdf.iter().enumerate().map(|(step, &share)| UtilisationRow {
                    table: table.kind.name(),
                    row: &row.id,
                    resource,
                    utilisation: step as f64 / CDF_STEPS as f64,
                    share_of_machines_at_or_below: share,
                }));
            }
        }
    }
    rows
}

/// A square of the figure of what is free.
#[derive(Debug, Serialize)]
struct FreeRow<'a> {
    table: &'a str,
    row: &'a str,
    cpu_free_from: f64,
    ram_free_from: f64,
    machine_count: usize,
}

fn free_rows(results: &Results) -> Vec<FreeRow<'_>> {
    let from = |index: usize| index as f64 / BIN_COUNT as f64;
    let mut rows = Vec::new();
    for table in &results.tables {
        for row in &table.rows {
            rows.extend(row.fill.bins.iter().map(|bin| FreeRow {
                table: table.kind.name(),
                row: &row.id,
                cpu_free_from: from(bin.cpu_index),
                ram_free_from: from(bin.ram_index),
                machine_count: bin.machine_count,
            }));
        }
    }
    rows
}

/// A row of `timings.csv`.
#[derive(Debug, Serialize)]
struct TimingRow {
    table: String,
    row: String,
    metric: &'static str,
    value: String,
}

fn timing_rows(run: &Run) -> Vec<TimingRow> {
    let mut rows = Vec::new();
    for table in &run.tables {
        for row in &table.rows {
            let times = row_times(row);
            rows.extend(times.into_iter().map(|(metric, value)| TimingRow {
                table: table.kind.name().to_owned(),
                row: row.row.id(),
                metric,
                value: value.to_string(),
            }));
        }
    }
    for point in &run.sweep {
        rows.extend(point.rows.iter().map(|(row, report)| TimingRow {
            table: format!("sweep cpu={} ram={}", point.ratio.cpu(), point.ratio.ram()),
            row: row.id(),
            metric: "compact_seconds",
            value: report.seconds.to_string(),
        }));
    }
    rows
}

fn row_times(run: &RowRun) -> Vec<(&'static str, f64)> {
    let mut times = vec![
        ("compact_seconds", run.compact.seconds),
        ("pack_seconds", run.pack.seconds),
        ("pack_decisions_per_second", run.pack.decisions_per_second),
    ];
    times.extend(run.pack.peak_memory_bytes.map(|bytes| ("peak_memory_bytes", bytes as f64)));
    times
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::figures;
    use crate::run::example;

    fn text(outputs: &[Output], name: &str) -> String {
        let output = outputs.iter().find(|output| output.name == name).expect(name);
        String::from_utf8(output.bytes.clone()).unwrap()
    }

    #[test]
    fn the_tidy_table_has_every_trial_and_the_numbers_of_the_page() {
        let results = Results::of(&example::run());
        let outputs = deterministic(&results, &figures(&results));
        let csv = text(&outputs, RESULTS_CSV);
        assert!(csv.starts_with("table,row,metric,trial,value\n"));
        let borg = &results.tables[0].rows[0];
        for (index, machines) in borg.machines.by_trial.iter().enumerate() {
            let line =
                format!("limits,borg-hybrid/limits,machines_needed,{},{machines}\n", index + 1);
            assert!(csv.contains(&line), "{line}");
        }
        let line = format!("limits,borg-hybrid/limits,machines_p90,,{}\n", borg.machines.p90);
        assert!(csv.contains(&line), "{line}");
        assert!(csv.contains("difference_mean:kube-default/limits"));
        assert!(csv.contains("sweep cpu=1 ram=1"));
    }

    #[test]
    fn every_output_has_a_known_name_and_only_timings_differ() {
        let run = example::run();
        let results = Results::of(&run);
        let mut outputs = deterministic(&results, &figures(&results));
        assert_eq!(outputs, deterministic(&results, &figures(&results)));
        assert!(outputs.iter().all(|output| output.deterministic));
        outputs.push(timings(&run));
        let names = names();
        assert!(outputs.iter().all(|output| names.contains(&output.name)));
        assert!(text(&outputs, TIMINGS_CSV).contains("pack_decisions_per_second,307358.5"));
    }

    #[test]
    fn machines_of_the_free_figure_add_up() {
        let results = Results::of(&example::run());
        let count: usize = free_rows(&results)
            .iter()
            .filter(|row| row.table == "limits" && row.row == "best-fit/limits")
            .map(|row| row.machine_count)
            .sum();
        assert_eq!(count, 12_477);
    }

    #[test]
    fn hashes_are_hexadecimal() {
        // Of the empty input, from FIPS 180.
        let expected = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256(b""), expected);
    }
}
