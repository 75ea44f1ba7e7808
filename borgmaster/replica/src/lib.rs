//! A replica of the master: the log by raft-rs, and the core on top of it.
//!
//! Everything here is stepped by its owner: it has no sockets, no disk, no clock and no randomness of its own,
//! so that the daemon and the simulation run the same code. [`node`] is the log, [`engine`] what it is kept
//! in, [`server`] the log and the core together.
//!
//! Source: Ongaro and Ousterhout, "In search of an understandable consensus algorithm" (ATC '14); Ongaro,
//! "Consensus: bridging theory and practice" (2014).

pub mod engine;
pub mod node;
pub mod server;

/// How a replica joins its cell again, in the errors that leave nothing else.
pub(crate) const JOIN_AGAIN: &str = "under a number that it never had (`borgcfg replicas remove`, `borgmaster --join`, \
                                     `borgcfg replicas add`)";

mod checkpoint;
mod hashes;
mod log;
mod past;
mod transfer;
mod types;
mod wire;

pub use checkpoint::{CheckpointError, CheckpointRequest, Checkpointed};
pub use past::{Past, PastError};
pub use types::{Entry, EntryKind, HardState, Loaded, Members, Snapshot, Write};
pub use wire::{MESSAGE_BYTE_COUNT_MAX, WireError, check as check_message};
