//! What replicas say to each other, as bytes.

use serde::{Deserialize, Serialize};

/// The number of the format; a replica of another one is not understood.
const FORMAT: u8 = 1;

/// The largest message, in bytes. Appends are cut far below it.
pub const MESSAGE_BYTE_COUNT_MAX: usize = 16 << 20;

/// A message between two replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Envelope {
    /// One of raft's own.
    Raft(Vec<u8>),
    /// A part of a snapshot.
    Chunk(Chunk),
    /// A part of a snapshot has come.
    Got {
        /// The snapshot's index.
        index: u64,
        /// The part's number.
        number: u32,
    },
    /// For whoever owns the node.
    Owner(Vec<u8>),
}

/// A part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chunk {
    /// Raft's message, without the data.
    pub message: Vec<u8>,
    /// The snapshot's index.
    pub index: u64,
    /// Which part, from 0.
    pub number: u32,
    /// How many there are.
    pub count: u32,
    /// xxh3 of all the data.
    pub checksum: u64,
    /// The part.
    pub data: Vec<u8>,
}

/// Why a message is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It is of another version.
    #[error("message format {0}, and this version speaks {FORMAT}")]
    Format(u8),
    /// It is too long.
    #[error("message of {0} bytes; at most {MESSAGE_BYTE_COUNT_MAX}")]
    TooLong(usize),
    /// It is damaged.
    #[error("not a message between replicas")]
    Malformed,
}

impl Envelope {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![FORMAT]).expect("a message can be written")
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        postcard::from_bytes(body(bytes)?).map_err(|_| WireError::Malformed)
    }
}

/// Whether these bytes may be a message: a sender of another version is told so at once.
///
/// # Errors
/// If they are of another version, too many, or none.
pub fn check(bytes: &[u8]) -> Result<(), WireError> {
    body(bytes).map(|_| ())
}

fn body(bytes: &[u8]) -> Result<&[u8], WireError> {
    if bytes.len() > MESSAGE_BYTE_COUNT_MAX {
        return Err(WireError::TooLong(bytes.len()));
    }
    match bytes.split_first() {
        Some((&FORMAT, rest)) => Ok(rest),
        Some((&format, _)) => Err(WireError::Format(format)),
        None => Err(WireError::Malformed),
    }
}
