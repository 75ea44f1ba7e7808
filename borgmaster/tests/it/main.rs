//! The daemon as a process: what a user starts, kills and asks.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "tests")]

mod address;
mod client;
mod cluster;
mod damage;
mod disagreement;
mod files;
mod fits;
mod full_disk;
mod machines;
#[path = "../../store/tests/mount/mod.rs"]
mod mount;
mod nonsense;
mod raw;
mod replicas;
mod start;
mod watch;
