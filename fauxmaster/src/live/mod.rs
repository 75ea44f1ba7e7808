//! Questions about a live cell, asked of its cell file: how it stood, why a task waited, how many more tasks
//! would have fit, how it packs, and how another policy would have done.
//!
//! In: a [`CellFile`], and an index that it holds. Out: reports that serialise to JSON, and tables.

mod fits;
mod fork;
mod status;
mod tables;
pub mod virtual_cell;
mod why;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::Context;
use borgmaster_core::LiveRooms;
use cell::file::CellFile;
use cell::live::State;
use flate2::bufread::MultiGzDecoder;
use scheduler::Snapshot;
use traces::{Doctor, Trace, Workload};

pub use fits::{FitsReport, find_job, fits};
pub use fork::{ForkError, ForkOptions, ForkReport, Sample, SideReport, Waits, fork};
pub use status::{JobStatus, MachineStatus, StatusReport, status};
pub use tables::{of_fits, of_fork, of_status, of_why};
pub use why::{WhyReport, why};

/// Reads a cell file, compressed by gzip or not.
///
/// # Errors
/// If it cannot be read or is no whole cell file; the message names the file, and the line and the field.
pub fn open(path: &Path) -> anyhow::Result<CellFile> {
    let name = || path.display().to_string();
    let mut input = BufReader::new(File::open(path).with_context(name)?);
    let is_compressed = match input.fill_buf() {
        Ok(bytes) => bytes.starts_with(&[0x1f, 0x8b]),
        // A folder opens, but does not read.
        Err(error) => return Err(error).with_context(name),
    };
    if is_compressed {
        let input = BufReader::new(MultiGzDecoder::new(input));
        return CellFile::read(input).with_context(name);
    }
    CellFile::read(input).with_context(name)
}

/// Asks a question of the state's snapshot as the cell's own schedulers see it: machines that take no tasks
/// are closed.
fn with_snapshot<T>(state: &State, ask: impl FnOnce(&Snapshot<'_>) -> T) -> T {
    let rooms = scheduler::Rooms::clone(LiveRooms::default().get(state));
    ask(&Snapshot::resume(state.cell(), rooms))
}

/// The state as a trace, to pack or to compact: what lives of it, see [`State::export`].
#[must_use]
pub fn as_trace(source: &str, state: &State, workload: Workload) -> Trace {
    Trace {
        source: source.to_owned(),
        cell: state.export(),
        workload,
        doctor: Doctor::default(),
        sha256: String::new(),
    }
}

/// Milliseconds as seconds.
#[expect(clippy::cast_precision_loss, reason = "to be shown")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
