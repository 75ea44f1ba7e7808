//! Equal log index means equal state: the hash of every replica at an index is that of the first to reach it.

use std::collections::BTreeMap;

/// Hashes by index.
#[derive(Debug, Default)]
pub struct Agreement {
    hashes: BTreeMap<u64, u128>,
}

impl Agreement {
    /// The first replica reached an index.
    pub fn first(&mut self, index: u64, hash: u128) {
        self.hashes.insert(index, hash);
    }

    /// A replica is at an index.
    ///
    /// # Errors
    /// If its state is another than the first one's there.
    pub fn check(&self, replica: u64, index: u64, hash: u128) -> Result<(), String> {
        match self.hashes.get(&index) {
            Some(first) if *first != hash => {
                Err(format!("replica {replica} has another state than the first at index {index}"))
            }
            None | Some(_) => Ok(()),
        }
    }
}
