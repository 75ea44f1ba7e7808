//! Readers of cluster traces and cell files.
//!
//! In: a source, `FORMAT:PATH` or the name of a bundled trace. Out: a [`Trace`]: the [`cell::Cell`] as it
//! stood at one moment, a hash over what was read, and what the [`Doctor`] found. Reading is strict: the
//! first wrong row is an error that names file, line and field; a lenient reader skips and counts it.
//! Nothing here schedules, and nothing panics, whatever the input.
//!
//! One format a file (or folder). Formats and their traps: [`FORMATS`], and each module's head.

mod cell_folder;
mod doctor;
mod error;
mod google_2011;
mod input;
mod manifests;
mod openb;
mod scaled;
mod table;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::path::Path;

use cell::{Cell, JobId, JobKind};
use serde::Serialize;

pub use doctor::{Doctor, Example, FileRows, Finding, FindingKind};
pub use error::TraceError;

use doctor::Examiner;
use input::{InputFile, InputHash};

/// Each format's name, and one line of help.
pub const FORMATS: &[(&str, &str)] = &[
    (
        "google-2011-t0",
        "Google's cell of May 2011 at time 0, bundled; with :DIR, from cell_t0_machines.csv[.gz] and \
         cell_t0_tasks.csv[.gz] there",
    ),
    (
        "google-2011",
        "google-2011:DIR: the tables of clusterdata-2011-2 (machine_events/ and task_events/, each \
         part-*.csv[.gz]), as of time 0",
    ),
    ("openb", "openb:NODES,PODS: Alibaba's GPU cluster of 2023, a node and a pod list, csv[.gz]"),
    ("cell", "cell:DIR: machines, alloc sets and jobs from all *.yaml, *.yml and *.json there"),
    (
        "manifests",
        "manifests:DIR: a Kubernetes cluster from all *.yaml, *.yml and *.json there and below, as \
         `kubectl get -o yaml` writes them",
    ),
    (
        "scaled",
        "scaled:N:TRACE: N copies of another trace's cell as one, with the copies' limits perturbed",
    ),
];

/// Which tasks a packing from scratch takes unless told otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// Those that run: what waits at that moment may have waited for a reason that the trace hides.
    Running,
    /// All.
    All,
}

/// How to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Skips wrong rows and entries, and reads a broken-off file as far as it goes; the doctor counts
    /// both. Otherwise the first of them is an error.
    pub lenient: bool,
}

/// A trace that was read.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The source as given.
    pub source: String,
    /// The cell at that moment; it has at least one machine and one task.
    pub cell: Cell,
    /// Which tasks a packing from scratch takes unless told otherwise.
    pub workload: Workload,
    /// What is odd about the trace.
    pub doctor: Doctor,
    /// SHA-256 in hexadecimal over the input files' names and bytes, in a fixed order. The same for a
    /// copy in another folder.
    pub sha256: String,
}

/// Reads the trace that `source` names: a bundled one, or `FORMAT:PATH` ([`FORMATS`]).
///
/// # Errors
/// If the source names no format, a file cannot be read, a row or an entry is wrong (not in lenient
/// reading), or there is no machine or no task. The message is one line.
pub fn load(source: &str, options: ReadOptions) -> Result<Trace, TraceError> {
    if let Some(scaled) = source.strip_prefix("scaled:") {
        return load_scaled(source, scaled, options);
    }
    let mut examiner = Examiner::new(options);
    let mut hash = InputHash::default();
    let (format, path) = match source.split_once(':') {
        Some((format, path)) => (format, Some(path)),
        None => (source, None),
    };
    let bad_source =
        |problem: &str| TraceError::BadSource { given: source.to_owned(), problem: problem.into() };
    let folder = || {
        let path = path.filter(|path| !path.is_empty());
        path.map(Path::new).ok_or_else(|| bad_source(&format!("write `{format}:DIR`")))
    };
    let (cell, workload) = match format {
        "google-2011-t0" if path.is_none() => {
            (google_2011::t0::read_bundled(&mut examiner, &mut hash)?, Workload::Running)
        }
        "google-2011-t0" => {
            (google_2011::t0::read(folder()?, &mut examiner, &mut hash)?, Workload::Running)
        }
        "google-2011" => {
            (google_2011::read(folder()?, &mut examiner, &mut hash)?, Workload::Running)
        }
        "openb" => {
            let (nodes, pods) = path
                .and_then(|path| path.split_once(','))
                .filter(|(nodes, pods)| !nodes.is_empty() && !pods.is_empty())
                .ok_or_else(|| bad_source("write `openb:NODES,PODS`"))?;
            let (nodes, pods) = (Path::new(nodes), Path::new(pods));
            (openb::read(nodes, pods, &mut examiner, &mut hash)?, Workload::All)
        }
        "cell" => (cell_folder::read(folder()?, &mut examiner, &mut hash)?, Workload::All),
        "manifests" => (manifests::read(folder()?, &mut examiner, &mut hash)?, Workload::All),
        _ => return Err(TraceError::UnknownFormat { given: source.to_owned() }),
    };
    finish(source, cell, workload, examiner, hash)
}

/// `N:TRACE`, which `source` names.
fn load_scaled(source: &str, text: &str, options: ReadOptions) -> Result<Trace, TraceError> {
    let bad_source = |problem: String| TraceError::BadSource { given: source.to_owned(), problem };
    let (copies, of) = text.split_once(':').ok_or_else(|| {
        bad_source("write `scaled:N:TRACE`, as in scaled:8:google-2011-t0".into())
    })?;
    let copies = copies.parse().ok().filter(|copies| (1..=scaled::COPIES_MAX).contains(copies));
    let copies = copies
        .ok_or_else(|| bad_source(format!("the copies are not in 1..={}", scaled::COPIES_MAX)))?;
    let trace = load(of, options)?;
    if trace.cell.kube.is_some() {
        return Err(bad_source("a cluster of Kubernetes' objects is not copied".into()));
    }
    Ok(Trace { source: source.to_owned(), ..scaled::scale(trace, copies) })
}

/// Adds the jobs of a file in the schema of `cell:DIR`, as they arrive in the trace's cell: none of them runs.
/// Returns their ids too.
///
/// # Errors
/// If the file cannot be read or is not such a file, if a job's name is taken or a task runs already, or if
/// the cell is of Kubernetes' objects. The message is one line.
pub fn with_arrivals(trace: Trace, path: &Path) -> Result<(Trace, Vec<JobId>), TraceError> {
    if trace.cell.kube.is_some() {
        let problem = "jobs arrive in Borg's cells, not in a Kubernetes cluster".to_owned();
        return Err(TraceError::BadSource { given: trace.source, problem });
    }
    let (cell, jobs) = cell_folder::arrive(trace.cell, path)?;
    Ok((Trace { cell, ..trace }, jobs))
}

/// Reads a Kubernetes cluster from one file of manifests that is in memory; messages name it by `label`.
///
/// # Errors
/// As [`load`].
pub fn load_manifest(label: &str, bytes: &[u8], options: ReadOptions) -> Result<Trace, TraceError> {
    let mut examiner = Examiner::new(options);
    let mut hash = InputHash::default();
    let file = InputFile::of(label, bytes);
    let cell = manifests::read_file(&file, &mut examiner, &mut hash)?;
    finish(&file.label, cell, Workload::All, examiner, hash)
}

fn finish(
    source: &str,
    cell: Cell,
    workload: Workload,
    examiner: Examiner,
    hash: InputHash,
) -> Result<Trace, TraceError> {
    let empty = |what| Err(TraceError::Empty { given: source.to_owned(), what });
    if cell.machines.is_empty() {
        return empty("machine");
    }
    if !cell.jobs.iter().any(|job| job.kind == JobKind::Job) {
        return empty("job");
    }
    let doctor = examiner.finish();
    Ok(Trace { source: source.to_owned(), cell, workload, doctor, sha256: hash.finish() })
}
