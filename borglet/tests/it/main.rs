//! Cells of real processes: masters, borglets, and tasks under control groups.
//!
//! Where the kernel does not allow it a test is skipped and says so; with `CI=true` that is a failure.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../../borgmaster/tests/it/address.rs"]
mod address;
mod cell;
mod conformance;
mod dev;
mod guest;
mod limits;
mod partition;
#[path = "../../../borgcfg/tests/it/process.rs"]
mod process;
mod restart;
mod rootless;
mod tasks;
