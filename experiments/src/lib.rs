//! Experiments in the style of the Borg paper: method, statistics, figures, report, manifest.
//!
//! In: a trace and the flags of a comparison ([`plan`]). Out: the files of a report ([`output`], [`page`],
//! [`manifest`]) that answer how many machines the workload needs under each policy, and whether the
//! difference between two can be told from chance ([`fauxmaster::stats`]). The packing itself is the
//! fauxmaster's ([`compare`]). Everything but the page and the timings is the same, byte for byte, on every
//! run and any number of threads; [`verify`] checks that.
//!
//! [`gpu`] is another experiment, in the same manner: GPU policies while tasks arrive until a cell's GPUs
//! are used up.
//!
//! Source: Borg (EuroSys '15) §5.1 (cell compaction, 11 trials, 90th percentile).

pub mod ablation;
pub mod agreement;
pub mod answer;
pub mod compare;
pub mod fidelity;
pub mod fill;
pub mod folder;
pub mod gpu;
pub mod host;
pub mod manifest;
pub mod number;
pub mod output;
pub mod page;
pub mod plan;
pub mod plot;
pub mod results;
pub mod run;
pub mod svg;
pub mod trace_facts;
pub mod verify;
