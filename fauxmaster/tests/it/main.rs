//! Tests of fauxmaster as a library: the bundled cell, small cells with known answers, the examples.

#![expect(clippy::unwrap_used, reason = "tests, but for their helpers, may anyway")]

mod compaction;
mod examples;
mod google;
mod kube;
mod openb;
mod regressions;
mod small;
