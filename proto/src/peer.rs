//! What replicas say to each other: consensus messages, which are opaque here, with for whom they are.
//!
//! Whether the cell's name and the numbers are those of the receiver is for the receiver to check.

use crate::error::WireError;
use crate::limits::{ENVELOPE_COUNT_MAX, MESSAGE_BYTES_MAX, bytes, name, plain_list, sized};
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
