//! Tests of the optimiser: small cells against brute force, certificates that were tampered with, the
//! bundled cell, and the program.

#![expect(clippy::unwrap_used, reason = "tests, but for their helpers, may anyway")]

mod batch;
mod certificates;
mod infeasible;
mod pack;
mod preempt;
mod program;
mod repack;
mod small;
mod trials;
