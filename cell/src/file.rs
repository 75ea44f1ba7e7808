//! The cell file: a state of a live cell and the entries of the log after it, as plain text.
//!
//! One JSON record a line: a header, the state (its head, then one line a machine, a job and a session), one
//! line for each entry of the log, and a last line with counts and a checksum over all bytes before it. So
//! it can be looked at with the tools for text, no line holds more than one thing, and a file that is cut
//! short or damaged is told from a whole one.
//!
//! In: a [`State`] and the log after it, or bytes. Out: bytes, or a [`CellFile`] that gives the state at any
//! index it holds. Opens no file. Source: Borg (EuroSys '15) §3.1: the checkpoint, "a periodic snapshot plus
//! a change log", which is there to restore a state "to an arbitrary point in the past" and for Fauxmaster.

mod read;
mod write;

use serde::{Deserialize, Serialize};

pub use read::CellFileError;
pub use write::{WriteError, write};

use crate::live::{Entry, State};

/// The number of the format that this version writes, and the newest that it reads.
const FORMAT: u64 = 1;

/// A cell file as it was read.
#[derive(Clone, Debug)]
pub struct CellFile {
    state: State,
    /// Contiguous, from the index after the state's.
    log: Vec<(u64, Option<Entry>)>,
}

/// An index that a cell file does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("index {index} is not in the cell file, which holds {first}..={last}")]
pub struct NotHeld {
    index: u64,
    first: u64,
    last: u64,
}

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    cell_file: u64,
    cell: String,
    first_index: u64,
    last_index: u64,
}

/// The last line.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct End {
    machines: usize,
    jobs: usize,
    sessions: usize,
    entries: usize,
    /// In hexadecimal.
    xxh3: String,
}

impl CellFile {
    /// The name of the cell.
    #[must_use]
    pub fn cell_name(&self) -> &str {
        &self.state.settings().cell_name
    }

    /// The state at the first index.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The entries after the first index; `None` is an entry that holds nothing for the cell.
    #[must_use]
    pub fn log(&self) -> &[(u64, Option<Entry>)] {
        &self.log
    }

    /// The first index at which the state can be had.
    #[must_use]
    pub const fn first_index(&self) -> u64 {
        self.state.index()
    }

    /// The last index at which the state can be had.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.log.last().map_or(self.state.index(), |&(index, _)| index)
    }

    /// The state as it was once the entry at `index` was applied.
    ///
    /// # Errors
    /// If the file does not hold the index.
    pub fn state_at(&self, index: u64) -> Result<State, NotHeld> {
        let mut state = self.state.clone();
        for (at, entry) in self.log_between(self.first_index(), index)? {
            follow(&mut state, *at, entry.as_ref());
        }
        Ok(state)
    }

    /// The entries after the index `from`, up to `to`.
    ///
    /// # Errors
    /// If the file does not hold one of them.
    pub fn log_between(&self, from: u64, to: u64) -> Result<&[(u64, Option<Entry>)], NotHeld> {
        let (first, last) = (self.first_index(), self.last_index());
        for index in [from, to] {
            if !(first..=last).contains(&index) {
                return Err(NotHeld { index, first, last });
            }
        }
        let from = self.log.partition_point(|&(index, _)| index <= from);
        let to = self.log.partition_point(|&(index, _)| index <= to);
        Ok(self.log.get(from..to).unwrap_or_default())
    }
}

/// Applies an entry, or takes note that there is nothing in it.
fn follow(state: &mut State, index: u64, entry: Option<&Entry>) {
    match entry {
        Some(entry) => drop(state.apply(index, entry)),
        None => state.skip(index),
    }
}

#[cfg(test)]
mod tests;
