//! How the parts of a view that are no plain structs look in JSON.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::{PhaseCounts, PhaseKind};
use crate::job::JobKind;
use crate::live::record::{Health, JobEnd};
use crate::live::{Amounts, Timestamp};
use crate::resources::Resources;

impl Serialize for PhaseKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A count for each phase.
impl Serialize for PhaseCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(PhaseKind::ALL.map(|kind| (kind, self.get(kind))))
    }
}

pub(super) fn kind<S: Serializer>(kind: &JobKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match kind {
        JobKind::Job => "job",
        JobKind::AllocSet => "alloc-set",
    })
}

/// `{"at": …, "how": "finished"}`, or null.
pub(super) fn ended<S: Serializer>(
    ended: &Option<(Timestamp, JobEnd)>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Ended {
        at: Timestamp,
        how: JobEnd,
    }
    ended.map(|(at, how)| Ended { at, how }).serialize(serializer)
}

/// `{"state": "down", "since": …}`; since when only where it is down.
pub(super) fn health<S: Serializer>(health: &Health, serializer: S) -> Result<S::Ok, S::Error> {
    let (state, since) = match health {
        Health::Unknown => ("unknown", None),
        Health::Up => ("up", None),
        Health::Down { since } => ("down", Some(since)),
    };
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("state", state)?;
    if let Some(since) = since {
        map.serialize_entry("since", since)?;
    }
    map.end()
}

pub(super) fn resources<S: Serializer>(it: &Resources, serializer: S) -> Result<S::Ok, S::Error> {
    Amounts::of(it).serialize(serializer)
}

pub(super) fn resources_if<S: Serializer>(
    it: &Option<Resources>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    it.as_ref().map(Amounts::of).serialize(serializer)
}

/// 32 hexadecimal digits: few readers of JSON have so large a number.
pub(super) fn hash<S: Serializer>(hash: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{hash:032x}"))
}
