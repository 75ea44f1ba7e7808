//! How many more tasks of a job would fit?

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail};
use borgmaster_core::{FitsRequest, LiveRooms};
use cell::JobKind;
use cell::live::State;
use cell::spec::JobSpec;
use scheduler::Policy;
use serde::Serialize;

/// The most copies that are tried; then the answer is "at least so many".
const COPY_COUNT_MAX: u32 = 1_000_000;

/// The longest job file in bytes: some files have no end. As in `borgcfg`.
const JOB_BYTES_MAX: u64 = 64 << 20;

/// How many more tasks of a job would fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FitsReport {
    /// The job.
    pub job: String,
    /// The index of the log.
    pub index: u64,
    /// The policy.
    pub policy: String,
    /// Tasks of the job that are there already, and count for its rules on spread.
    pub present_count: usize,
    /// How many more would fit into free room.
    pub free_count: usize,
    /// How many more would fit if tasks of lower priority were preempted.
    pub preempting_count: usize,
    /// How many tasks would be preempted for these.
    pub victim_count: usize,
    /// Whether more than that would fit: not more than a million are tried.
    pub is_at_least: bool,
}

/// The spec and the kind of a job: of the one with that name in the cell, else from a file.
///
/// # Errors
/// If there is neither, or the file cannot be read.
pub fn find_job(state: &State, job: &str) -> anyhow::Result<(JobSpec, JobKind)> {
    if let Some(record) = state.job(job) {
        return Ok((JobSpec::clone(&record.spec), record.kind));
    }
    let path = Path::new(job);
    // Names of jobs have no `/`, and seldom an ending.
    let is_name = path.extension().is_none() && !job.contains('/');
    if is_name && !path.exists() {
        bail!("there is no job {job:?} at index {}, and no such file", state.index());
    }
    Ok((read_job_file(path)?, JobKind::Job))
}

/// How many more tasks like the first of this job would fit. A job of its name that lives is taken to grow;
/// its tasks count for the rules of the job.
///
/// # Errors
/// If a field of the spec is wrong, or its alloc set is not there.
pub fn fits(
    state: &State,
    spec: &JobSpec,
    kind: JobKind,
    policy: &Policy,
    seed: u64,
) -> anyhow::Result<FitsReport> {
    let rooms = scheduler::Rooms::clone(LiveRooms::default().get(state));
    let request = FitsRequest::new(state, rooms, spec, kind)?;
    let counts = request.run(policy, seed, COPY_COUNT_MAX);
    Ok(FitsReport {
        job: spec.name.clone(),
        index: counts.index,
        policy: policy.name().to_owned(),
        present_count: counts.present_count as usize,
        free_count: counts.free_count,
        preempting_count: counts.preempting_count,
        victim_count: counts.victim_count,
        is_at_least: counts.is_at_least,
    })
}

/// A job's spec, from a file in YAML or JSON. Where it names no user it is nobody's: whose it is does not matter
/// for whether it fits.
fn read_job_file(path: &Path) -> anyhow::Result<JobSpec> {
    let name = || path.display().to_string();
    let mut text = String::new();
    let mut input = File::open(path).with_context(name)?.take(JOB_BYTES_MAX + 1);
    input.read_to_string(&mut text).with_context(name)?;
    if text.len() as u64 > JOB_BYTES_MAX {
        bail!("{}: it is longer than {} MiB", name(), JOB_BYTES_MAX >> 20);
    }
    let spec: Result<JobSpec, _> = serde_saphyr::from_str(&text).map_err(|error| {
        let said = error.to_string();
        let said = said.trim_start_matches("error: ");
        let words: Vec<&str> = said.lines().next().unwrap_or_default().split_whitespace().collect();
        anyhow::anyhow!("{}", words.join(" "))
    });
    let mut spec = spec.with_context(name)?;
    if spec.user.is_empty() {
        "nobody".clone_into(&mut spec.user);
    }
    Ok(spec)
}
