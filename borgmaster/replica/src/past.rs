//! What a replica holds of its cell's past: the newest checkpoint and the log after it, as a cell file.
//!
//! Taken from a replica at once, as it shares what the log holds; written out wherever there is time.

use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::sync::Arc;

use borgmaster_core::EntryError;
use cell::file::WriteError;
use cell::live;
use raft::eraftpb;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::node::Node;
use crate::types::{Entry, EntryKind};

/// The past of a cell.
#[derive(Debug)]
pub struct Past {
    index: u64,
    checkpoint: Arc<Vec<u8>>,
    /// Contiguous, from the index after the checkpoint's.
    entries: Vec<eraftpb::Entry>,
}

/// Why a past cannot be written as a cell file.
#[derive(Debug, thiserror::Error)]
pub enum PastError {
    /// Its checkpoint cannot be read.
    #[error("the checkpoint cannot be read")]
    Checkpoint(#[source] CheckpointError),
    /// An entry of the log cannot be read.
    #[error("entry {index} of the log cannot be read")]
    Entry {
        /// Its index.
        index: u64,
        /// Why.
        source: EntryError,
    },
    /// It cannot be written out.
    #[error("the cell file cannot be written")]
    Write(#[source] WriteError),
}

impl PastError {
    /// Whether whoever takes the file in has gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Write(WriteError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl Past {
    pub(crate) fn new(node: &Node) -> Self {
        let (index, checkpoint) = node.newest_checkpoint();
        Self { index, checkpoint, entries: node.since_checkpoint() }
    }

    /// The indexes at which the state can be had.
    #[must_use]
    pub fn indexes(&self) -> RangeInclusive<u64> {
        self.index..=self.entries.last().map_or(self.index, |entry| entry.index)
    }

    /// Writes the cell file that holds the state at every index from the checkpoint's to this one.
    ///
    /// # Errors
    /// If something is damaged, or it cannot be written out; or if the index is not one of
    /// [`Past::indexes`].
    pub fn write(self, until: u64, out: &mut impl Write) -> Result<(), PastError> {
        let (_, state) =
            Checkpoint::read(self.index, &self.checkpoint).map_err(PastError::Checkpoint)?;
        // The bytes are not needed beside the state.
        drop(self.checkpoint);
        let mut broken = None;
        let entries = self.entries.into_iter().take_while(|raw| raw.index <= until);
        let log = entries.map_while(|raw| match read(&raw) {
            Ok(entry) => Some((raw.index, entry)),
            Err(source) => {
                broken = Some(PastError::Entry { index: raw.index, source });
                None
            }
        });
        let written = cell::file::write(out, &state, log, until).map_err(PastError::Write);
        broken.map_or(written, Err)
    }
}

/// What an entry of the log holds for the cell, if anything.
fn read(raw: &eraftpb::Entry) -> Result<Option<live::Entry>, EntryError> {
    let Entry { kind, data, .. } = Entry::from(raw);
    match kind {
        EntryKind::Normal if !data.is_empty() => borgmaster_core::decode(&data).map(Some),
        EntryKind::Normal | EntryKind::Membership => Ok(None),
    }
}
