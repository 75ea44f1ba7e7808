//! What an administrator does about the cell's past: takes a cell file now and then, and later brings a state
//! that one holds back through the log, part by part, as the daemon does.
//!
//! In some seeds only, so that the others show what holds without. Not every restore is a good one: some are
//! given up on the way, some are damaged, and must change nothing.

use std::collections::VecDeque;

use borgmaster_replica::Past;
use cell::file::CellFile;
use cell::live::{Blob, Op, RESTORE_PART_BYTES_MAX, State, restore_checksum};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::faults::Fault;

/// One seed of so many restores its cell.
const SEED_SHARE: u32 = 4;

/// So many files are kept: the oldest may be some minutes old.
const FILE_COUNT_MAX: usize = 6;

#[derive(Debug)]
pub(crate) struct Restores {
    pub random: ChaCha8Rng,
    /// Whether this seed restores its cell.
    pub is_on: bool,
    /// States that were taken from cell files, as bytes.
    states: VecDeque<Vec<u8>>,
    /// A fault that begins when an operation of this row is next asked for.
    pub waiting: Option<(&'static str, Fault)>,
}

impl Restores {
    pub(crate) fn new(mut random: ChaCha8Rng) -> Self {
        let is_on = random.random_range(0..SEED_SHARE) == 0;
        Self { random, is_on, states: VecDeque::new(), waiting: None }
    }

    /// Whether a state is taken next, and not brought back.
    pub(crate) fn takes_next(&mut self) -> bool {
        self.states.is_empty() || self.random.random_range(0..2) == 0
    }

    /// Keeps a state that a replica holds, at some index: by way of a cell file, as users have it.
    pub(crate) fn take(&mut self, past: Past) -> Result<State, String> {
        let indexes = past.indexes();
        let index = self.random.random_range(indexes.clone());
        let mut text = Vec::new();
        past.write(*indexes.end(), &mut text).map_err(|error| error.to_string())?;
        let file = CellFile::read(&text[..]).map_err(|error| error.to_string())?;
        let state = file.state_at(index).map_err(|error| error.to_string())?;
        self.states.push_back(state.to_bytes());
        if self.states.len() > FILE_COUNT_MAX {
            self.states.pop_front();
        }
        Ok(state)
    }

    /// The operations that bring a state back; `None`: there is none.
    pub(crate) fn operations(&mut self) -> Option<Vec<Op>> {
        let count = self.states.len();
        if count == 0 {
            return None;
        }
        let bytes = &self.states[self.random.random_range(0..count)];
        let part_count = self.random.random_range(1..6);
        let size = bytes.len().div_ceil(part_count).min(RESTORE_PART_BYTES_MAX);
        let restore = self.random.random_range(1..u64::MAX);
        let mut ops = Vec::new();
        let mut offset = 0;
        for data in bytes.chunks(size) {
            ops.push(Op::RestorePart { restore, offset, data: Blob::from(data) });
            offset += data.len() as u64;
        }
        let checksum = restore_checksum(bytes);
        let finish = |checksum| Op::RestoreFinish { restore, length: offset, checksum };
        let which = self.random.random_range(0..ops.len());
        match self.random.random_range(0..10) {
            // Given up.
            0 => ops.truncate(which + 1),
            // A part got lost.
            1 => {
                ops.remove(which);
                ops.push(finish(checksum));
            }
            // Damaged.
            2 => ops.push(finish(checksum ^ 1)),
            _ => ops.push(finish(checksum)),
        }
        Some(ops)
    }
}
