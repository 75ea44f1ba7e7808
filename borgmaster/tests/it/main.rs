//! The daemon as a process: what a user starts, kills and asks.

mod client;
mod cluster;
mod replicas;
