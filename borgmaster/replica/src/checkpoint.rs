//! Checkpoints: what a snapshot of the log holds, and the making of one.
//!
//! In: a state. Out: bytes, and back. To write a large state down takes long, so that a replica gives out a
//! [`CheckpointRequest`], goes on, and takes the finished [`Checkpointed`] in later.

use std::collections::BTreeMap;

use cell::live::{Records, SavedError, State};
use serde::{Deserialize, Serialize};

use crate::types::Members;

/// What a snapshot of the log holds.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    /// Where replicas listen.
    addresses: BTreeMap<u64, String>,
    /// Empty: a cell with nothing in it.
    state: Vec<u8>,
}

/// Why a checkpoint cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Its state cannot be used.
    #[error("the snapshot at index {index} cannot be read")]
    State {
        /// Its index.
        index: u64,
        /// Why.
        source: SavedError,
    },
    /// It is damaged.
    #[error("the snapshot at index {index} is damaged: {what}")]
    Malformed {
        /// Its index.
        index: u64,
        /// What is wrong.
        what: String,
    },
    /// It holds the state at another index.
    #[error("the snapshot at index {index} holds the state at index {found}")]
    OtherIndex {
        /// Its index.
        index: u64,
        /// The index of its state.
        found: u64,
    },
}

impl Checkpoint {
    /// Of a cell with nothing in it.
    pub(crate) const fn of_new_cell(addresses: BTreeMap<u64, String>) -> Self {
        Self { addresses, state: Vec::new() }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("a checkpoint can be written")
    }

    /// What the checkpoint at an index holds: where replicas listen, and the state.
    pub(crate) fn read(
        index: u64,
        data: &[u8],
    ) -> Result<(BTreeMap<u64, String>, State), CheckpointError> {
        if data.is_empty() && index == 0 {
            return Ok((BTreeMap::new(), State::default()));
        }
        let Self { addresses, state } = postcard::from_bytes(data)
            .map_err(|error| CheckpointError::Malformed { index, what: error.to_string() })?;
        if state.is_empty() {
            let mut state = State::default();
            state.skip(index);
            return Ok((addresses, state));
        }
        let state =
            State::from_bytes(&state).map_err(|source| CheckpointError::State { index, source })?;
        let found = state.index();
        // The next entry would be that after another one than the log's.
        if found != index {
            return Err(CheckpointError::OtherIndex { index, found });
        }
        Ok((addresses, state))
    }
}

/// A checkpoint to be made ([`CheckpointRequest::run`]), wherever there is time, and given back.
#[derive(Debug)]
pub struct CheckpointRequest {
    pub(crate) addresses: BTreeMap<u64, String>,
    pub(crate) members: Members,
    pub(crate) records: Records,
}

/// A checkpoint that was made.
#[derive(Debug)]
pub struct Checkpointed {
    pub(crate) index: u64,
    /// Who took part as of that index.
    pub(crate) members: Members,
    pub(crate) data: Vec<u8>,
}

impl CheckpointRequest {
    /// Makes it. The same request gives the same checkpoint.
    #[must_use]
    pub fn run(self) -> Checkpointed {
        let Self { addresses, members, records } = self;
        let checkpoint = Checkpoint { addresses, state: records.to_bytes() };
        Checkpointed { index: records.index(), members, data: checkpoint.to_bytes() }
    }
}
