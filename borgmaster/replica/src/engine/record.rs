//! Records as both engines keep them: a checksum, then the record in postcard's encoding.

use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::xxh3_64;

use super::StorageError;
use crate::types::{Entry, HardState, Loaded, Snapshot};

/// The number of the format that this version writes.
pub const FORMAT: u32 = 1;

/// A record with its checksum before it.
///
/// # Panics
/// Never: every record can be written.
#[must_use]
pub fn seal(record: &impl Serialize) -> Vec<u8> {
    let mut bytes = postcard::to_extend(record, vec![0; 8]).expect("a record can be written");
    let checksum = xxh3_64(&bytes[8..]);
    bytes[..8].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The record, if its checksum holds.
///
/// # Errors
/// What is wrong with it.
pub fn open<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let (checksum, record) = bytes.split_first_chunk().ok_or("it is cut short")?;
    if u64::from_le_bytes(*checksum) != xxh3_64(record) {
        return Err("its checksum does not hold".to_owned());
    }
    postcard::from_bytes(record).map_err(|error| error.to_string())
}

/// Puts together what was found, and checks that it is whole: entries follow each other without a gap, begin
/// no later than after the snapshot, and reach as far as is known to be committed.
///
/// # Errors
/// If it is not.
pub fn assemble(
    place: &str,
    hard_state: Option<HardState>,
    snapshot: Option<Snapshot>,
    entries: Vec<Entry>,
) -> Result<Loaded, StorageError> {
    let corrupt = |what: String| StorageError::Corrupt { place: place.to_owned(), what };
    let snapshot = snapshot.unwrap_or_default();
    let hard_state = hard_state.unwrap_or_default();
    let pairs = entries.iter().zip(entries.iter().skip(1));
    for (entry, next) in pairs {
        if next.index != entry.index + 1 {
            return Err(corrupt(format!("entry {} follows entry {}", next.index, entry.index)));
        }
        if next.term < entry.term {
            return Err(corrupt(format!("the term falls at entry {}", next.index)));
        }
    }
    if let Some(first) = entries.first().filter(|first| first.index > snapshot.index + 1) {
        let what = format!("entry {} follows the snapshot at {}", first.index, snapshot.index);
        return Err(corrupt(what));
    }
    let last = entries.last().map_or(snapshot.index, |entry| entry.index.max(snapshot.index));
    if last < hard_state.commit {
        let what = format!("the log ends at {last}, but was committed up to {}", hard_state.commit);
        return Err(corrupt(what));
    }
    Ok(Loaded { hard_state, snapshot, entries })
}
