//! Google's trace of 2011 (clusterdata-2011-2, format v2.1): one Borg cell over 29 days.
//!
//! In: the original tables `machine_events` and `task_events` of a folder, gzip or plain, any number of
//! parts. Out: the cell as it stood at time 0 ("before the trace"), and what the doctor finds in *all*
//! rows. The tables are read as a stream of typed events ([`event`]), which [`audit`] checks and
//! [`time_zero`] folds into a state. `job_events` says nothing that the task events do not, and is not
//! read.
//!
//! [`t0`] reads the same state from two files that were derived from the tables.
//!
//! Source: `ClusterData2011_2.md` of `google/cluster-data`; traps as in the README of the bundled
//! data and at [`time_zero`].

mod audit;
mod event;
mod scale;
mod snapshot;
pub(crate) mod t0;
mod time_zero;

use std::path::{Path, PathBuf};

use cell::Cell;

use self::audit::Audit;
use self::time_zero::TimeZero;
use crate::doctor::Examiner;
use crate::error::TraceError;
use crate::input::{InputFile, InputHash, files_in, label};

/// The tables read, each a folder of parts, in the order in which they are read and hashed.
const MACHINE_EVENTS: &str = "machine_events";
const TASK_EVENTS: &str = "task_events";

/// Reads the folder that holds the tables' folders.
pub(crate) fn read(
    folder: &Path,
    examiner: &mut Examiner,
    hash: &mut InputHash,
) -> Result<Cell, TraceError> {
    let machine_parts = parts(folder, MACHINE_EVENTS)?;
    let task_parts = parts(folder, TASK_EVENTS)?;
    let mut machine_events = Vec::new();
    for (name, path) in machine_parts {
        let file = InputFile::read(&path)?;
        hash.add(&name, &file);
        examiner.open(&file.label);
        for event in event::machine_events(&file)? {
            machine_events.extend(examiner.admit(event)?);
        }
    }
    let mut time_zero = TimeZero::default();
    for event in &machine_events {
        time_zero.apply_machine(event);
    }
    let mut audit = Audit::new(machine_events, examiner);
    for (name, path) in task_parts {
        let file = InputFile::read(&path)?;
        hash.add(&name, &file);
        examiner.open(&file.label);
        for event in event::task_events(&file)? {
            let Some(event) = examiner.admit(event)? else { continue };
            audit.check_task(&event, examiner);
            let applied = time_zero.apply_task(event);
            examiner.excuse(applied)?;
        }
    }
    time_zero.cell(examiner)
}

/// A table's parts in order, with the names under which they are hashed.
fn parts(folder: &Path, table: &str) -> Result<Vec<(String, PathBuf)>, TraceError> {
    let table_folder = folder.join(table);
    let is_part = |name: &str| {
        name.starts_with("part-") && (name.ends_with(".csv") || name.ends_with(".csv.gz"))
    };
    let parts = files_in(&table_folder, is_part)?;
    if parts.is_empty() {
        let problem = "holds no `part-*.csv.gz` and no `part-*.csv`".to_owned();
        return Err(TraceError::Unreadable { file: label(&table_folder), problem });
    }
    Ok(parts.into_iter().map(|(name, path)| (format!("{table}/{name}"), path)).collect())
}

#[cfg(test)]
mod tests;
