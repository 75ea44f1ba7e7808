//! Fauxmaster: the scheduler under a trace. Packs a workload, compacts its cell, and says why a task is
//! pending; lets tasks arrive until the GPUs of a cell are used up.
//!
//! In: a [`traces::Trace`] and options. Out: the figures of [`report`], from which tables, JSON and the
//! pages of `experiments` are made. Time is read here, for the figures alone; what is decided depends on
//! trace, options and seed.
//!
//! Source: Borg (EuroSys '15) §3.1 ("Fauxmaster"), §5.1 (cell compaction).

pub mod args;
pub mod cli;
pub mod kube;
pub mod live;
pub mod report;
pub mod stats;
pub mod table;
pub mod workload;

mod bound;
mod compact;
mod inflate;
mod pack;

pub use compact::{
    CompactError, CompactOptions, Compaction, PENDING_ALLOWANCE, compact, nearest_rank,
};
pub use inflate::{InflateError, InflateOptions, InflationPoint, arrivals, inflate};
pub use pack::{
    PackError, PackOptions, Packing, QueueChoice, Start, allocation, assignment_hash,
    outcome_by_job, pack, peak_memory_bytes, slots, stranding,
};
