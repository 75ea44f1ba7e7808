//! The daemon as a process: what a user starts, kills and asks.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "tests")]

mod client;
mod cluster;
mod files;
mod fits;
mod machines;
mod replicas;
mod watch;
