//! The doctor: what is odd about a trace, counted while it is read.
//!
//! A finding is no error. It says where the data was repaired, completed or left unexplained, so that
//! a figure computed from it can be judged. The order of findings is fixed: by kind.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::ReadOptions;
use crate::error::{TraceError, one_line};
use crate::input::Place;

/// A kind of finding, in the order in which they are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// A task starts or runs on a machine that is not in the cell then.
    OrphanMachine,
    /// An event of a task that was never submitted.
    OrphanTask,
    /// An event of a machine that is not there, or an addition of one that is.
    OrphanMachineEvent,
    /// A constraint that no machine of the cell can satisfy.
    OrphanConstraint,
    /// An event that the task's state does not allow, such as the eviction of a waiting task.
    ImpossibleEvent,
    /// A time before that of the row above, or an end before its beginning.
    TimeReversal,
    /// A row that the trace's authors say they put in for a lost one.
    ImputedRow,
    /// A row that leaves out a capacity or a request; another row may give it.
    MissingValue,
    /// A value that no row gives, and that the reader set.
    ImputedValue,
    /// A value out of its range, brought to the nearest that is in it.
    ClippedValue,
    /// A job whose tasks differ in priority: read as one job a priority.
    SplitJob,
    /// A job whose tasks differ in the different-machines flag: it holds for all of them.
    MixedFlag,
    /// A Kubernetes pod, or a template of pods, that a scheduling gate holds back: not counted.
    GatedPod,
    /// A Kubernetes pod that is being deleted: counted where it runs, not where it waits.
    TerminatingPod,
    /// A pod whose requests or priority are not those of its controller's template, which count.
    UnlikeTemplate,
    /// A node that is cordoned or keeps pods away by taints, which Borg's policies do not see.
    UnseenTaint,
    /// Placement rules of pods that Borg's policies do not see.
    UnseenRule,
    /// Resources that Borg's policies do not count.
    UnseenResource,
    /// Pods with volumes; no policy models the volume plugins.
    UnmodelledVolume,
    /// Pods with resource claims; no policy models dynamic allocation.
    UnmodelledClaim,
    /// Pods that want another scheduler: counted like all others.
    OtherScheduler,
    /// A Kubernetes object of a kind that is not read; [`Doctor::unread_kinds`] counts them by kind.
    UnreadKind,
    /// A row or an entry left out because it is wrong (lenient reading only).
    SkippedRow,
    /// A file read only as far as it goes (lenient reading only).
    BrokenOffFile,
}

impl FindingKind {
    /// What a finding of this kind means.
    #[must_use]
    pub const fn note(self) -> &'static str {
        match self {
            Self::OrphanMachine => "tasks on a machine that is not in the cell then",
            Self::OrphanTask => "events of a task that was never submitted",
            Self::OrphanMachineEvent => "events of a machine that do not follow from its state",
            Self::OrphanConstraint => "constraints that no machine can satisfy",
            Self::ImpossibleEvent => "events that the task's state does not allow",
            Self::TimeReversal => "times that run backwards",
            Self::ImputedRow => "rows that the trace's authors put in for lost ones",
            Self::MissingValue => "rows that leave out a capacity or a request",
            Self::ImputedValue => "values that no row gives, set by the reader",
            Self::ClippedValue => "values out of range, brought to the nearest in it",
            Self::SplitJob => "jobs with tasks of several priorities, read as a job a priority",
            Self::MixedFlag => "jobs whose tasks differ in the different-machines flag; it holds",
            Self::GatedPod => "pods held back by scheduling gates, not counted",
            Self::TerminatingPod => "pods being deleted, counted where they run",
            Self::UnlikeTemplate => {
                "pods that ask for something else than their template, which counts"
            }
            Self::UnseenTaint => "nodes with taints or cordons, which Borg's policies do not see",
            Self::UnseenRule => "jobs with placement rules that Borg's policies do not see",
            Self::UnseenResource => "resources that Borg's policies do not count",
            Self::UnmodelledVolume => "jobs with volumes; volume plugins are not modelled",
            Self::UnmodelledClaim => "jobs with resource claims, which are not modelled",
            Self::OtherScheduler => "jobs for another scheduler, counted like all others",
            Self::UnreadKind => "objects of kinds that are not read",
            Self::SkippedRow => "wrong rows or entries, left out",
            Self::BrokenOffFile => "files that are damaged or end early, read as far as they go",
        }
    }

    /// Its name, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OrphanMachine => "orphan_machine",
            Self::OrphanTask => "orphan_task",
            Self::OrphanMachineEvent => "orphan_machine_event",
            Self::OrphanConstraint => "orphan_constraint",
            Self::ImpossibleEvent => "impossible_event",
            Self::TimeReversal => "time_reversal",
            Self::ImputedRow => "imputed_row",
            Self::MissingValue => "missing_value",
            Self::ImputedValue => "imputed_value",
            Self::ClippedValue => "clipped_value",
            Self::SplitJob => "split_job",
            Self::MixedFlag => "mixed_flag",
            Self::GatedPod => "gated_pod",
            Self::TerminatingPod => "terminating_pod",
            Self::UnlikeTemplate => "unlike_template",
            Self::UnseenTaint => "unseen_taint",
            Self::UnseenRule => "unseen_rule",
            Self::UnseenResource => "unseen_resource",
            Self::UnmodelledVolume => "unmodelled_volume",
            Self::UnmodelledClaim => "unmodelled_claim",
            Self::OtherScheduler => "other_scheduler",
            Self::UnreadKind => "unread_kind",
            Self::SkippedRow => "skipped_row",
            Self::BrokenOffFile => "broken_off_file",
        }
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The first place where a kind of finding was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Example {
    /// The file.
    pub file: String,
    /// The line; from 1.
    pub line: u64,
    /// What was seen there, on one line.
    pub detail: String,
}

/// All findings of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The kind.
    pub kind: FindingKind,
    /// How often it was seen; at least 1.
    pub count: u64,
    /// What the kind means.
    pub note: &'static str,
    /// Where it was seen first.
    pub example: Example,
}

/// How much of a file was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileRows {
    /// The file.
    pub file: String,
    /// Rows (or entries) read from it, wrong ones included, its header not.
    pub row_count: u64,
}

/// What was read, and what is odd about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Doctor {
    /// The files, in the order of reading.
    pub files: Vec<FileRows>,
    /// Findings by ascending kind, none with a count of zero.
    pub findings: Vec<Finding>,
    /// How many Kubernetes objects there are of each kind that is not read.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unread_kinds: BTreeMap<String, u64>,
}

impl Doctor {
    /// Rows read from all files.
    #[must_use]
    pub fn row_count(&self) -> u64 {
        self.files.iter().map(|file| file.row_count).sum()
    }

    /// How often a kind of finding was seen.
    #[must_use]
    pub fn count(&self, kind: FindingKind) -> u64 {
        self.findings.iter().find(|finding| finding.kind == kind).map_or(0, |f| f.count)
    }
}

/// Examines rows while they are read: counts findings, and decides what becomes of a wrong row.
#[derive(Debug)]
pub(crate) struct Examiner {
    options: ReadOptions,
    doctor: Doctor,
}

impl Examiner {
    pub(crate) fn new(options: ReadOptions) -> Self {
        Self { options, doctor: Doctor::default() }
    }

    /// The rows that [`admit`](Self::admit) counts from now on are this file's.
    pub(crate) fn open(&mut self, file: &str) {
        self.doctor.files.push(FileRows { file: file.to_owned(), row_count: 0 });
    }

    /// Counts a row. A wrong one is an error; in lenient reading, a finding and `None`.
    pub(crate) fn admit<T>(&mut self, row: Result<T, TraceError>) -> Result<Option<T>, TraceError> {
        // A file that breaks off has no row there to count.
        if !matches!(row, Err(TraceError::BrokenOff { .. }))
            && let Some(file) = self.doctor.files.last_mut()
        {
            file.row_count += 1;
        }
        self.excuse(row)
    }

    /// As [`admit`](Self::admit), for what is not a row or has been counted as one.
    pub(crate) fn excuse<T>(
        &mut self,
        row: Result<T, TraceError>,
    ) -> Result<Option<T>, TraceError> {
        match row {
            Ok(value) => Ok(Some(value)),
            Err(error) if !self.options.lenient => Err(error),
            Err(error) => self.skip(error).map(|()| None),
        }
    }

    fn skip(&mut self, error: TraceError) -> Result<(), TraceError> {
        let kind = match &error {
            TraceError::BrokenOff { .. } => FindingKind::BrokenOffFile,
            TraceError::Row { .. } | TraceError::Field { .. } | TraceError::Entry { .. } => {
                FindingKind::SkippedRow
            }
            // These concern no single row, so there is nothing to skip.
            TraceError::UnknownFormat { .. }
            | TraceError::BadSource { .. }
            | TraceError::Unreadable { .. }
            | TraceError::Empty { .. } => return Err(error),
        };
        let detail = error.to_string();
        match error {
            TraceError::BrokenOff { file, line, .. }
            | TraceError::Row { file, line, .. }
            | TraceError::Field { file, line, .. }
            | TraceError::Entry { file, line, .. } => self.record(kind, &file, line, || detail),
            TraceError::UnknownFormat { .. }
            | TraceError::BadSource { .. }
            | TraceError::Unreadable { .. }
            | TraceError::Empty { .. } => {}
        }
        Ok(())
    }

    /// Counts a finding; `detail` is asked only for the first of its kind.
    pub(crate) fn note(
        &mut self,
        kind: FindingKind,
        place: &Place,
        detail: impl FnOnce() -> String,
    ) {
        self.record(kind, &place.file, place.line, detail);
    }

    /// Counts a Kubernetes object of a kind that is not read.
    pub(crate) fn note_unread(&mut self, kind: &str, api_version: &str, place: &Place) {
        let kind = one_line(kind);
        self.note(FindingKind::UnreadKind, place, || format!("{kind} of {api_version}"));
        *self.doctor.unread_kinds.entry(kind).or_default() += 1;
    }

    fn record(
        &mut self,
        kind: FindingKind,
        file: &str,
        line: u64,
        detail: impl FnOnce() -> String,
    ) {
        match self.doctor.findings.binary_search_by_key(&kind, |finding| finding.kind) {
            Ok(at) => self.doctor.findings[at].count += 1,
            Err(at) => {
                let detail = one_line(&detail());
                let example = Example { file: file.to_owned(), line, detail };
                let finding = Finding { kind, count: 1, note: kind.note(), example };
                self.doctor.findings.insert(at, finding);
            }
        }
    }

    pub(crate) fn finish(self) -> Doctor {
        self.doctor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(line: u64) -> Place {
        Place { file: "f.csv".into(), line }
    }

    fn wrong_row(line: u64) -> Result<(), TraceError> {
        Err(TraceError::Row { file: "f.csv".to_owned(), line, problem: "wrong".to_owned() })
    }

    #[test]
    fn findings_are_ordered_by_kind_and_keep_their_first_example() {
        let mut examiner = Examiner::new(ReadOptions::default());
        examiner.note(FindingKind::ClippedValue, &place(7), || "seven".to_owned());
        examiner.note(FindingKind::OrphanMachine, &place(8), || "eight".to_owned());
        examiner.note(FindingKind::ClippedValue, &place(9), || unreachable!("only the first"));
        let doctor = examiner.finish();
        let kinds: Vec<_> = doctor.findings.iter().map(|f| (f.kind, f.count)).collect();
        assert_eq!(kinds, [(FindingKind::OrphanMachine, 1), (FindingKind::ClippedValue, 2)]);
        assert_eq!(doctor.findings[1].example.line, 7);
        assert_eq!(doctor.count(FindingKind::ClippedValue), 2);
        assert_eq!(doctor.count(FindingKind::SkippedRow), 0);
    }

    #[test]
    fn a_wrong_row_is_an_error_or_in_lenient_reading_a_finding() {
        let mut strict = Examiner::new(ReadOptions { lenient: false });
        assert!(strict.admit(wrong_row(3)).is_err());
        let mut lenient = Examiner::new(ReadOptions { lenient: true });
        lenient.open("f.csv");
        assert_eq!(lenient.admit(Ok(1)), Ok(Some(1)));
        assert_eq!(lenient.admit(wrong_row(3)), Ok(None));
        let doctor = lenient.finish();
        assert_eq!(doctor.row_count(), 2);
        assert_eq!(doctor.count(FindingKind::SkippedRow), 1);
        assert_eq!(doctor.findings[0].example.detail, "f.csv:3: wrong");
    }

    #[test]
    fn a_kinds_name_is_the_one_in_json() {
        for kind in [FindingKind::OrphanMachine, FindingKind::BrokenOffFile, FindingKind::SplitJob]
        {
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(json, format!("\"{}\"", kind.name()));
        }
    }
}
