//! Whether a report can be made again: its deterministic files against those of a new run.
//!
//! In: a report's folder and manifest, and the deterministic outputs of a run with the same flags. Out: a
//! finding for each file. Writes nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;

use crate::manifest::Manifest;
use crate::output::{Output, sha256};

/// What came of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The file is what the new run gives.
    Same,
    /// The file is not what the manifest says: it was changed after the report was written.
    Changed,
    /// The file is as it was written, and the new run gives another.
    Differs,
    /// The report does not have it.
    Missing,
    /// The manifest lists it as deterministic, and the new run does not make it.
    NotMade,
    /// The file is what the new run gives, and the manifest does not say so.
    NotListed,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Same => "same",
            Self::Changed => "CHANGED since the report was written",
            Self::Differs => "DIFFERS from the new run",
            Self::Missing => "MISSING",
            Self::NotMade => "NOT MADE by the new run",
            Self::NotListed => "NOT LISTED in the manifest with this hash",
        })
    }
}

/// A file and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFinding {
    /// The file's name.
    pub name: String,
    /// What came of it.
    pub finding: Finding,
}

/// The trace is not the one that the report was made from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("trace {trace} has changed: its SHA-256 is {found}, and {listed} in the manifest")]
pub struct TraceChanged {
    /// The trace's source.
    pub trace: String,
    /// The manifest's hash.
    pub listed: String,
    /// The hash of what is there now.
    pub found: String,
}

/// Checks that a trace with this hash is the one of the manifest.
///
/// # Errors
/// If it is not.
pub fn check_trace<F>(manifest: &Manifest<F>, found: &str) -> Result<(), TraceChanged> {
    if manifest.trace.sha256 == found {
        return Ok(());
    }
    Err(TraceChanged {
        trace: manifest.trace.source.clone(),
        listed: manifest.trace.sha256.clone(),
        found: found.to_owned(),
    })
}

/// Compares the report in `folder` with the deterministic outputs of a new run, byte for byte.
#[must_use]
pub fn verify<F>(folder: &Path, manifest: &Manifest<F>, outputs: &[Output]) -> Vec<FileFinding> {
    let mut findings: Vec<FileFinding> = outputs
        .iter()
        .map(|output| FileFinding {
            name: output.name.clone(),
            finding: compare(folder, manifest, output),
        })
        .collect();
    let made: BTreeSet<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
    findings.extend(
        manifest
            .outputs
            .iter()
            .filter(|entry| entry.deterministic && !made.contains(entry.name.as_str()))
            .map(|entry| FileFinding { name: entry.name.clone(), finding: Finding::NotMade }),
    );
    findings
}

fn compare<F>(folder: &Path, manifest: &Manifest<F>, output: &Output) -> Finding {
    let Ok(bytes) = fs::read(folder.join(&output.name)) else {
        return Finding::Missing;
    };
    let listed = manifest.outputs.iter().find(|entry| entry.name == output.name);
    let is_listed = listed.is_some_and(|entry| entry.sha256 == sha256(&bytes));
    match (bytes == output.bytes, is_listed) {
        (true, true) => Finding::Same,
        (true, false) => Finding::NotListed,
        (false, true) => Finding::Differs,
        (false, false) => Finding::Changed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::OutputEntry;

    fn output(name: &str, text: &str) -> Output {
        Output { name: name.to_owned(), bytes: text.as_bytes().to_vec(), deterministic: true }
    }

    #[test]
    fn every_way_to_differ_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let reported = [output("a", "1"), output("b", "1"), output("c", "1"), output("d", "1")];
        let mut manifest = crate::manifest::tests::manifest();
        manifest.outputs = reported.iter().map(OutputEntry::from).collect();
        for output in &reported {
            fs::write(folder.path().join(&output.name), &output.bytes).unwrap();
        }
        fs::write(folder.path().join("b"), "x").unwrap();
        fs::remove_file(folder.path().join("c")).unwrap();
        fs::write(folder.path().join("e"), "2").unwrap();
        let again = [
            output("a", "1"),
            output("b", "1"),
            output("c", "1"),
            output("d", "2"),
            output("e", "2"),
        ];
        let findings: Vec<Finding> =
            verify(folder.path(), &manifest, &again).into_iter().map(|file| file.finding).collect();
        let expected = [
            Finding::Same,
            Finding::Changed,
            Finding::Missing,
            Finding::Differs,
            Finding::NotListed,
        ];
        assert_eq!(findings, expected);
        let findings = verify(folder.path(), &manifest, &again[..3]);
        assert_eq!(findings[3], FileFinding { name: "d".to_owned(), finding: Finding::NotMade });
    }

    #[test]
    fn another_trace_is_refused() {
        let manifest = crate::manifest::tests::manifest();
        check_trace(&manifest, &manifest.trace.sha256).unwrap();
        let error = check_trace(&manifest, "abc").unwrap_err();
        assert!(error.to_string().contains("google-2011-t0"));
    }
}
