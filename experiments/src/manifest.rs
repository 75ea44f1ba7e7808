//! The manifest of a report: everything needed to run it again and to tell whether it came out the same.
//!
//! It is the last file written to a report's folder, and the only one that `verify` needs to trust.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::output::{MANIFEST, Output, json};
use crate::plan::CompareFlags;
use crate::trace_facts::TraceFacts;

/// Version of the manifest's keys; an unknown one is refused.
pub const MANIFEST_VERSION: u32 = 1;

/// The commit that this program was built from, with `-dirty` where the code differed from it, or
/// `unknown`.
pub const COMMIT: &str = env!("COMMIT");

/// An experiment of this program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Experiment {
    /// [`crate::compare`].
    #[default]
    Compare,
    /// [`crate::gpu`].
    Gpu,
}

/// A manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest<F = CompareFlags> {
    /// [`MANIFEST_VERSION`].
    pub schema_version: u32,
    /// Which experiment it is of.
    #[serde(default)]
    pub experiment: Experiment,
    /// What was packed.
    pub trace: TraceEntry,
    /// [`COMMIT`].
    pub commit: String,
    /// The flags that decide the results.
    pub flags: F,
    /// Where random numbers come from.
    pub seeds: Seeds,
    /// Threads that the run used; they do not change the results.
    pub thread_count: usize,
    /// What it ran on.
    pub host: Host,
    /// When it began, in UTC.
    pub started: String,
    /// How long it took, without writing the files.
    pub wall_seconds: f64,
    /// The other files of the report.
    pub outputs: Vec<OutputEntry>,
}

/// The trace of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceEntry {
    /// As the flags name it; a path is relative to the folder that the command was run in.
    pub source: String,
    /// SHA-256 of what was read.
    pub sha256: String,
    /// What the trace doctor counted, by kind.
    pub doctor: BTreeMap<String, u64>,
}

/// The seeds of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seeds {
    /// The seed given.
    pub base: u64,
    /// The trials' numbers; the base and a number decide the order of machines and the ties of a trial.
    pub trials: Vec<usize>,
}

/// A file of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputEntry {
    /// Its name in the folder.
    pub name: String,
    /// How long it is.
    pub bytes: usize,
    /// SHA-256 of it.
    pub sha256: String,
    /// Whether every run with the same flags gives the same bytes.
    pub deterministic: bool,
}

impl From<&Output> for OutputEntry {
    fn from(output: &Output) -> Self {
        Self {
            name: output.name.clone(),
            bytes: output.bytes.len(),
            sha256: output.sha256(),
            deterministic: output.deterministic,
        }
    }
}

/// Why there is no manifest to go by.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is not there, or cannot be read.
    #[error("cannot read `{path}`")]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not a manifest.
    #[error("`{path}` is no manifest")]
    Garbled {
        /// Its path.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// It was written by another version of this program.
    #[error("`{path}` has schema version {found}; this program knows {MANIFEST_VERSION}")]
    Version {
        /// Its path.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
}

impl<F: Clone + Serialize + DeserializeOwned> Manifest<F> {
    /// The manifest of a run that began at `started`; its outputs are still to be listed.
    #[must_use]
    pub fn new(
        experiment: Experiment,
        trace: &TraceFacts,
        flags: &F,
        seeds: Seeds,
        thread_count: usize,
        started: String,
    ) -> Self {
        let doctor = trace.doctor.iter().map(|found| (found.kind.clone(), found.count)).collect();
        Self {
            schema_version: MANIFEST_VERSION,
            experiment,
            trace: TraceEntry {
                source: trace.source.clone(),
                sha256: trace.sha256.clone(),
                doctor,
            },
            commit: COMMIT.to_owned(),
            flags: flags.clone(),
            seeds,
            thread_count,
            host: Host::here(),
            started,
            wall_seconds: 0.0,
            outputs: Vec::new(),
        }
    }

    /// Reads the manifest of the report in `folder`.
    ///
    /// # Errors
    /// If it is missing, garbled, or of another version.
    pub fn read(folder: &Path) -> Result<Self, ManifestError> {
        let (path, text, _) = raw(folder)?;
        // From the text again, which gives errors their line.
        serde_json::from_slice(&text).map_err(|source| ManifestError::Garbled { path, source })
    }

    /// The manifest as the file of a report.
    #[must_use]
    pub fn output(&self) -> Output {
        Output { name: MANIFEST.to_owned(), bytes: json(self), deterministic: false }
    }
}

/// Which experiment the report in `folder` is of.
///
/// # Errors
/// If its manifest is missing, garbled, or of another version.
pub fn experiment(folder: &Path) -> Result<Experiment, ManifestError> {
    let (path, _, value) = raw(folder)?;
    match value.get("experiment") {
        None => Ok(Experiment::default()),
        Some(name) => {
            Experiment::deserialize(name).map_err(|source| ManifestError::Garbled { path, source })
        }
    }
}

/// A manifest's path, text, and value, of a version that this program knows.
fn raw(folder: &Path) -> Result<(PathBuf, Vec<u8>, serde_json::Value), ManifestError> {
    let path = folder.join(MANIFEST);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(source) => return Err(ManifestError::Unreadable { path, source }),
    };
    let value: serde_json::Value = match serde_json::from_slice(&text) {
        Ok(value) => value,
        Err(source) => return Err(ManifestError::Garbled { path, source }),
    };
    // The version first, as it decides what the other keys mean.
    match value["schema_version"].as_u64() {
        Some(found) if found != u64::from(MANIFEST_VERSION) => {
            Err(ManifestError::Version { path, found })
        }
        _ => Ok((path, text, value)),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::plan::tests::flags;
    use crate::run::example;

    pub(crate) fn manifest() -> Manifest {
        let seeds = Seeds { base: 1, trials: (0..5).collect() };
        let mut manifest = Manifest::new(
            Experiment::Compare,
            &example::facts(),
            &flags(),
            seeds,
            2,
            "2026-04-14T12:00:00Z".to_owned(),
        );
        manifest.wall_seconds = 123.4;
        let output =
            Output { name: "results.json".to_owned(), bytes: vec![1, 2, 3], deterministic: true };
        manifest.outputs.push(OutputEntry::from(&output));
        manifest
    }

    #[test]
    fn a_manifest_is_read_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = manifest();
        fs::write(folder.path().join(MANIFEST), manifest.output().bytes).unwrap();
        assert_eq!(Manifest::<CompareFlags>::read(folder.path()).unwrap(), manifest);
        assert_eq!(experiment(folder.path()).unwrap(), Experiment::Compare);
        assert_eq!(manifest.trace.doctor["orphan_machine"], 13);
        assert_eq!(manifest.seeds.trials, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn what_is_no_manifest_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(MANIFEST);
        let error = Manifest::<CompareFlags>::read(folder.path()).unwrap_err();
        assert!(matches!(error, ManifestError::Unreadable { .. }));
        let good = String::from_utf8(manifest().output().bytes).unwrap();
        let check = |text: &str, expected: fn(&ManifestError) -> bool| {
            fs::write(&path, text).unwrap();
            let error = Manifest::<CompareFlags>::read(folder.path()).unwrap_err();
            assert!(expected(&error), "{error}");
        };
        check("", |error| matches!(error, ManifestError::Garbled { .. }));
        check("[]", |error| matches!(error, ManifestError::Garbled { .. }));
        check(&good[..good.len() / 2], |error| matches!(error, ManifestError::Garbled { .. }));
        let newer = good.replace("\"schema_version\": 1", "\"schema_version\": 9");
        check(&newer, |error| matches!(error, ManifestError::Version { found: 9, .. }));
        let odd = good.replace("cpu=0.27,", "cpu=2,");
        check(&odd, |error| matches!(error, ManifestError::Garbled { .. }));
    }

    #[test]
    fn the_commit_is_a_hash_or_unknown() {
        let hash = COMMIT.trim_end_matches("-dirty");
        let is_hash = hash.len() == 40 && hash.chars().all(|c| c.is_ascii_hexdigit());
        assert!(COMMIT == "unknown" || is_hash, "{COMMIT}");
    }
}
