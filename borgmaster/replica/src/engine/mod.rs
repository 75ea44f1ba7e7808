//! What a replica is kept in: a small trait, the engine in memory for simulation, and what both engines have
//! in common. RocksDB's is a crate of its own.

pub mod conformance;
pub mod memory;
pub mod record;

use crate::types::{Loaded, Write};

/// Keeps the log, the hard state and the newest snapshot of one replica.
pub trait Engine {
    /// Everything that is kept, checked.
    ///
    /// # Errors
    /// If it is damaged, of a newer version, or cannot be read.
    fn load(&mut self) -> Result<Loaded, StorageError>;

    /// Writes, as a whole or not at all. Not on disk before [`Engine::sync`].
    ///
    /// # Errors
    /// If there is no space, or the disk fails; nothing of it is kept then.
    fn write(&mut self, write: &Write) -> Result<(), StorageError>;

    /// All writes so far are on disk when this returns.
    ///
    /// # Errors
    /// If they may not be.
    fn sync(&mut self) -> Result<(), StorageError>;
}

/// Why a replica's storage does not work.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// What is kept is damaged.
    #[error(
        "{place} is damaged: {what}; remove that folder, all of it, and let the replica join the cell again, \
         {how}: it gets the state from the others",
        how = crate::JOIN_AGAIN
    )]
    Corrupt {
        /// The folder. A part of it alone must not be removed.
        place: String,
        /// What is wrong with which record or file.
        what: String,
    },
    /// A newer version wrote it.
    #[error(
        "{place} is of format {found}, and this version reads up to {supported}: use a newer version"
    )]
    TooNew {
        /// The file or the folder.
        place: String,
        /// The format found.
        found: u32,
        /// The newest format that is read.
        supported: u32,
    },
    /// There is no space.
    #[error("no space is left on the disk of {place}")]
    Full {
        /// The file or the folder.
        place: String,
    },
    /// Another process uses it.
    #[error("{place} is in use by another process")]
    Locked {
        /// The folder.
        place: String,
    },
    /// The disk fails.
    #[error("{place}: {what}")]
    Io {
        /// The file or the folder.
        place: String,
        /// What the system says.
        what: String,
    },
}
