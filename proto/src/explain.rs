//! Why a task is pending, and how many more would fit.

use cell::live::view::{Fits, Reason, Why};
use cell::spec::JobSpec;

use crate::error::WireError;
use crate::limits::{LIST_COUNT_MAX, cut, list, name, words};
use crate::parts::{Coded, decode, read_job, write_job};
use crate::reply::reply;
use crate::status::Consistency;
use crate::wire;

/// Why is this task where it is?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhyQuery {
    /// `JOB/INDEX`.
    pub task: String,
    /// How recent the answer has to be.
    pub consistency: Consistency,
}

/// How many more tasks of this job would fit?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FitsQuery {
    /// The job.
    pub spec: Box<JobSpec>,
    /// Whether it is an alloc set.
    pub is_alloc_set: bool,
    /// How recent the answer has to be.
    pub consistency: Consistency,
}

reply!(WhyReply, wire::why_reply::Result { Why, "why" }, Why);
reply!(FitsReply, wire::fits_reply::Result { Fits, "fits" }, Fits);

impl TryFrom<WhyQuery> for wire::WhyRequest {
    type Error = WireError;

    fn try_from(own: WhyQuery) -> Result<Self, WireError> {
        Ok(Self { task: name("task", own.task)?, consistency: own.consistency.code() })
    }
}

impl TryFrom<wire::WhyRequest> for WhyQuery {
    type Error = WireError;

    fn try_from(message: wire::WhyRequest) -> Result<Self, WireError> {
        let consistency = decode("consistency", message.consistency)?;
        Ok(Self { task: name("task", message.task)?, consistency })
    }
}

impl TryFrom<FitsQuery> for wire::FitsRequest {
    type Error = WireError;

    fn try_from(own: FitsQuery) -> Result<Self, WireError> {
        Ok(Self {
            spec: write_job("spec", &own.spec)?,
            is_alloc_set: own.is_alloc_set,
            consistency: own.consistency.code(),
        })
    }
}

impl TryFrom<wire::FitsRequest> for FitsQuery {
    type Error = WireError;

    fn try_from(message: wire::FitsRequest) -> Result<Self, WireError> {
        Ok(Self {
            spec: read_job("spec", message.spec)?,
            is_alloc_set: message.is_alloc_set,
            consistency: decode("consistency", message.consistency)?,
        })
    }
}

fn write_reasons(field: &str, reasons: Vec<Reason>) -> Result<Vec<wire::Reason>, WireError> {
    list(field, reasons, LIST_COUNT_MAX, |reason| {
        Ok(wire::Reason { text: cut(reason.text), host_count: reason.host_count })
    })
}

fn read_reasons(field: &str, reasons: Vec<wire::Reason>) -> Result<Vec<Reason>, WireError> {
    list(field, reasons, LIST_COUNT_MAX, |reason| {
        Ok(Reason { text: words("text", reason.text)?, host_count: reason.host_count })
    })
}

impl TryFrom<Why> for wire::Why {
    type Error = WireError;

    fn try_from(own: Why) -> Result<Self, WireError> {
        Ok(Self {
            task: name("task", own.task)?,
            phase: own.phase.code(),
            text: cut(own.text),
            host_count: own.host_count,
            feasible_count: own.feasible_count,
            ruled_out: write_reasons("ruled_out", own.ruled_out)?,
            changes: write_reasons("changes", own.changes)?,
            index: own.index,
        })
    }
}

impl TryFrom<wire::Why> for Why {
    type Error = WireError;

    fn try_from(message: wire::Why) -> Result<Self, WireError> {
        Ok(Self {
            task: name("task", message.task)?,
            phase: decode("phase", message.phase)?,
            text: words("text", message.text)?,
            host_count: message.host_count,
            feasible_count: message.feasible_count,
            ruled_out: read_reasons("ruled_out", message.ruled_out)?,
            changes: read_reasons("changes", message.changes)?,
            index: message.index,
        })
    }
}

impl TryFrom<Fits> for wire::Fits {
    type Error = WireError;

    fn try_from(own: Fits) -> Result<Self, WireError> {
        Ok(Self {
            count: own.count,
            free_count: own.free_count,
            victim_count: own.victim_count,
            is_at_least: own.is_at_least,
            stopped_by: write_reasons("stopped_by", own.stopped_by)?,
            index: own.index,
        })
    }
}

impl TryFrom<wire::Fits> for Fits {
    type Error = WireError;

    fn try_from(message: wire::Fits) -> Result<Self, WireError> {
        Ok(Self {
            count: message.count,
            free_count: message.free_count,
            victim_count: message.victim_count,
            is_at_least: message.is_at_least,
            stopped_by: read_reasons("stopped_by", message.stopped_by)?,
            index: message.index,
        })
    }
}
