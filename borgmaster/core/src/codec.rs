//! Entries of the log as bytes: the number of the format, then the entry in postcard's encoding.
//!
//! Variants and fields are only ever added at the end; a change beyond that is another format, and this
//! version goes on reading the one before.

use cell::live::Entry;

/// The number of the format that this version writes.
const FORMAT: u8 = 1;

/// Why an entry of the log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// A newer version wrote it.
    #[error(
        "format {0} is newer than {FORMAT}, the newest that this version reads: run a newer version on every replica"
    )]
    TooNew(u8),
    /// It is damaged, although its checksum held.
    #[error("not an entry: {0}; this is a bug, please report it")]
    Malformed(String),
}

/// An entry as bytes.
///
/// # Panics
/// Never: every entry can be written.
#[must_use]
pub fn encode(entry: &Entry) -> Vec<u8> {
    postcard::to_extend(entry, vec![FORMAT]).expect("an entry can be written")
}

/// The entry that these bytes are of.
///
/// # Errors
/// If a newer version wrote it, or it is damaged.
pub fn decode(bytes: &[u8]) -> Result<Entry, EntryError> {
    match bytes.split_first() {
        Some((&FORMAT, rest)) => {
            postcard::from_bytes(rest).map_err(|error| EntryError::Malformed(error.to_string()))
        }
        Some((&format, _)) if format > FORMAT => Err(EntryError::TooNew(format)),
        _ => Err(EntryError::Malformed("it has no format number".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use cell::live::{Command, Op, Timestamp};

    use super::*;

    #[test]
    fn entries_come_back_and_newer_ones_are_refused() {
        let command = Command { request: None, op: Op::Expire };
        let entry = Entry { at: Timestamp(7), commands: vec![command] };
        let mut bytes = encode(&entry);
        assert_eq!(decode(&bytes).unwrap(), entry);
        bytes[0] = FORMAT + 1;
        assert!(matches!(decode(&bytes), Err(EntryError::TooNew(2))));
        assert!(matches!(decode(&bytes[..0]), Err(EntryError::Malformed(_))));
    }
}
