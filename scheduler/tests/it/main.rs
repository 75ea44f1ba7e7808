//! Tests of the scheduler as its users see it: cells built from specs, packed by `pass`.
//!
//! [`cells`] builds cells, at random or from JSON texts; [`model`] recomputes, slowly and from the
//! placements alone, what the scheduler keeps in tables. Everything else compares the two.

#![expect(clippy::unwrap_used, reason = "tests, but for their helpers, may anyway")]

mod cells;
mod exact;
mod kube;
mod live;
mod model;
mod peers;
mod preemption;
mod properties;
mod regressions;
mod scores;
mod terms;
mod why;
