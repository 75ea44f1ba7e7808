//! Equal log index means equal state: the hash of every replica at an index is that of the first to reach it.

use std::collections::BTreeMap;

use cell::live::State;

/// Hashes by index.
#[derive(Debug, Default)]
pub struct Agreement {
    hashes: BTreeMap<u64, u128>,
    /// Where each replica was when it was last compared.
    compared: BTreeMap<u64, u64>,
}

impl Agreement {
    /// The first replica reached an index.
    pub fn first(&mut self, index: u64, hash: u128) {
        self.hashes.insert(index, hash);
    }

    /// The hash at an index, if anybody was there.
    #[must_use]
    pub fn at(&self, index: u64) -> Option<u128> {
        self.hashes.get(&index).copied()
    }

    /// A replica begins anew.
    pub fn begins(&mut self, replica: u64) {
        self.compared.remove(&replica);
    }

    /// A replica is at an index. A state changes with its index alone, so that it is compared once at each.
    ///
    /// # Errors
    /// If its state is another than the first one's there.
    pub fn check(&mut self, replica: u64, state: &State) -> Result<(), String> {
        let index = state.index();
        if self.compared.insert(replica, index) == Some(index) {
            return Ok(());
        }
        match self.hashes.get(&index) {
            Some(first) if *first != state.hash() => {
                Err(format!("replica {replica} has another state than the first at index {index}"))
            }
            None | Some(_) => Ok(()),
        }
    }
}
