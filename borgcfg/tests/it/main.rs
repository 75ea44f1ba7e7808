//! The program as users run it: against a real master with fake machines, and against a master that answers by
//! a script.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../../borgmaster/tests/it/address.rs"]
mod address;
mod cell;
mod fake;
mod input;
mod life;
mod process;
mod replicas;
mod retries;
