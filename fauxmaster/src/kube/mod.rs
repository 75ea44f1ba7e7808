//! The Kubernetes model against the real thing: cases with expected outcomes, recorded decisions, and
//! configuration files.

mod case;
pub mod check;
pub mod config;
pub mod decisions;
