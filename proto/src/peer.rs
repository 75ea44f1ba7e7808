//! What replicas say to each other: consensus messages, which are opaque here, with for whom they are.
//!
//! Whether the cell's name and the numbers are those of the receiver is for the receiver to check.

use crate::error::WireError;
use crate::limits::{
    CHUNK_BYTES_MAX, ENVELOPE_COUNT_MAX, MESSAGE_BYTES_MAX, bytes, name, plain_list, sized,
};
use crate::wire;

/// From whom and for whom a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The cell's name.
    pub cell: String,
    /// The number of the replica that sends it.
    pub from: u64,
    /// The number of the replica that it is for.
    pub to: u64,
}

/// Consensus messages, in the order in which they were sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// From whom and for whom.
    pub route: Route,
    /// The messages.
    pub messages: Vec<Vec<u8>>,
}

/// A piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotChunk {
    /// From whom and for whom.
    pub route: Route,
    /// The consensus message that carries the snapshot, without its data; empty but for the first piece.
    pub message: Vec<u8>,
    /// Where in the snapshot the data goes.
    pub offset: u64,
    /// The length of the snapshot.
    pub total_bytes: u64,
    /// At most [`CHUNK_BYTES_MAX`].
    pub data: Vec<u8>,
}

fn route(cell: String, from: u64, to: u64) -> Result<Route, WireError> {
    let cell = name("cell", cell)?;
    match (from, to) {
        (0, _) => Err(WireError::missing("from")),
        (_, 0) => Err(WireError::missing("to")),
        (from, to) if from == to => Err(WireError::new("to", "is the sender")),
        (from, to) => Ok(Route { cell, from, to }),
    }
}

fn messages(messages: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, WireError> {
    plain_list("messages", messages, ENVELOPE_COUNT_MAX, |field, message| {
        bytes(field, message, MESSAGE_BYTES_MAX)
    })
}

impl TryFrom<Envelope> for wire::Envelope {
    type Error = WireError;

    fn try_from(own: Envelope) -> Result<Self, WireError> {
        let Route { cell, from, to } = route(own.route.cell, own.route.from, own.route.to)?;
        sized("messages", Self { cell, from, to, messages: messages(own.messages)? })
    }
}

impl TryFrom<wire::Envelope> for Envelope {
    type Error = WireError;

    fn try_from(message: wire::Envelope) -> Result<Self, WireError> {
        let route = route(message.cell, message.from, message.to)?;
        Ok(Self { route, messages: messages(message.messages)? })
    }
}

/// Whether a piece lies within its snapshot.
fn check(chunk: &SnapshotChunk) -> Result<(), WireError> {
    let end = chunk.offset.checked_add(chunk.data.len() as u64);
    if end.is_none_or(|end| end > chunk.total_bytes) {
        let problem =
            format!("the data ends after the {} bytes of the snapshot", chunk.total_bytes);
        return Err(WireError::new("offset", problem));
    }
    if (chunk.offset == 0) == chunk.message.is_empty() {
        return Err(WireError::new("message", "is for the first piece, and for no other"));
    }
    Ok(())
}

impl TryFrom<SnapshotChunk> for wire::SnapshotChunk {
    type Error = WireError;

    fn try_from(own: SnapshotChunk) -> Result<Self, WireError> {
        check(&own)?;
        let Route { cell, from, to } = route(own.route.cell, own.route.from, own.route.to)?;
        Ok(Self {
            cell,
            from,
            to,
            message: bytes("message", own.message, CHUNK_BYTES_MAX)?,
            offset: own.offset,
            total_bytes: own.total_bytes,
            data: bytes("data", own.data, CHUNK_BYTES_MAX)?,
        })
    }
}

impl TryFrom<wire::SnapshotChunk> for SnapshotChunk {
    type Error = WireError;

    fn try_from(message: wire::SnapshotChunk) -> Result<Self, WireError> {
        let own = Self {
            route: route(message.cell, message.from, message.to)?,
            message: bytes("message", message.message, CHUNK_BYTES_MAX)?,
            offset: message.offset,
            total_bytes: message.total_bytes,
            data: bytes("data", message.data, CHUNK_BYTES_MAX)?,
        };
        check(&own)?;
        Ok(own)
    }
}
