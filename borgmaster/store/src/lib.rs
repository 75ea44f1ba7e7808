//! Keeps a replica's log, hard state and newest snapshot in RocksDB.
//!
//! In: writes of [`borgmaster_replica`]. Out: what was written, checked, when the replica starts again. Each
//! write is one batch of RocksDB's write-ahead log; a sync covers all writes before it. It knows nothing of
//! raft or of cells, and decides nothing.

mod engine;
mod fault;
mod options;

pub use engine::RocksEngine;
