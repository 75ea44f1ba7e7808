//! A saved state that is coming in, part by part, to take the place of the one there is.
//!
//! Part of the state, so that every replica has it, and bounded, as it is kept beside the state itself.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::State;
use super::blob::Blob;
use super::hash::of_staged;
use super::op::Timestamp;
use super::outcome::Rejected;

/// So many bytes are in a part at most: one is one entry of the log.
pub const RESTORE_PART_BYTES_MAX: usize = 1 << 20;

/// So many bytes are in a saved state that can be restored at most. Our own limit: several times what a cell
/// of 10,000 machines and 130,000 tasks takes, and a part of what a replica may use.
pub const RESTORE_BYTES_MAX: u64 = 256 << 20;

/// What of a saved state has come in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Staged {
    /// Names the restore.
    restore: u64,
    /// When the last part came.
    pub(super) at: Timestamp,
    /// In their order.
    parts: Vec<Blob>,
}

impl Staged {
    fn length(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes().len() as u64).sum()
    }

    /// Length and checksum of what came in.
    #[cfg(test)]
    pub(super) fn whole(&self) -> (u64, u64) {
        let bytes: Vec<u8> = self.parts.iter().flat_map(|part| part.bytes().to_vec()).collect();
        (self.length(), restore_checksum(&bytes))
    }

    /// The hash of a part.
    fn hash_of(&self, offset: u64, part: &Blob) -> u128 {
        of_staged(&(self.restore, offset, xxh3_128(part.bytes())))
    }

    /// The hash of what is known beside the parts.
    fn hash_of_head(&self) -> u128 {
        of_staged(&(self.restore, self.at))
    }

    /// Its share of the state's hash.
    pub(super) fn hash(&self) -> u128 {
        let mut offset = 0;
        self.parts.iter().fold(self.hash_of_head(), |sum, part| {
            let hash = self.hash_of(offset, part);
            offset += part.bytes().len() as u64;
            sum.wrapping_add(hash)
        })
    }
}

/// The checksum of a saved state that is restored.
#[must_use]
pub fn restore_checksum(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

/// Whether a part could be one, whatever came before.
pub(super) fn check_part(offset: u64, data: &Blob) -> Result<(), Rejected> {
    let length = data.bytes().len();
    if length == 0 || length > RESTORE_PART_BYTES_MAX {
        let problem = format!("{length} bytes are not in 1..={RESTORE_PART_BYTES_MAX}");
        return Err(invalid("data", problem));
    }
    if offset.saturating_add(length as u64) > RESTORE_BYTES_MAX {
        let problem = format!("a saved state has at most {RESTORE_BYTES_MAX} bytes");
        return Err(invalid("offset", problem));
    }
    Ok(())
}

pub(super) fn invalid(field: &str, problem: String) -> Rejected {
    Rejected::Invalid { field: field.to_owned(), problem }
}

/// What came in of this restore.
fn under_way(staged: &mut Option<Staged>, restore: u64) -> Result<&mut Staged, Rejected> {
    let problem = "nothing of this restore is here: it never began, has ended, or another began in \
                   its place; begin again";
    let staged = staged.as_mut().filter(|staged| staged.restore == restore);
    staged.ok_or_else(|| invalid("restore", problem.to_owned()))
}

impl State {
    /// Takes in a part. The first begins anew; the others follow without a gap.
    pub(super) fn stage(&mut self, restore: u64, offset: u64, data: &Blob) -> Result<(), Rejected> {
        let at = self.now;
        if offset == 0 {
            self.put_staged(Some(Staged { restore, at, parts: vec![data.clone()] }));
            return Ok(());
        }
        let staged = under_way(&mut self.staged, restore)?;
        let expected = staged.length();
        if offset != expected {
            let problem = format!("bytes {expected} and on are expected, not {offset}");
            return Err(invalid("offset", problem));
        }
        self.sum.remove(staged.hash_of_head());
        staged.at = at;
        self.sum.add(staged.hash_of_head());
        self.sum.add(staged.hash_of(offset, data));
        staged.parts.push(data.clone());
        Ok(())
    }

    /// Gives out what came in, whole; nothing is left of it, whatever comes of it.
    pub(super) fn unstage(
        &mut self,
        restore: u64,
        length: u64,
        checksum: u64,
    ) -> Result<Vec<u8>, Rejected> {
        under_way(&mut self.staged, restore)?;
        let Some(staged) = self.put_staged(None) else { return Ok(Vec::new()) };
        if staged.length() != length {
            let problem = format!("{} bytes came in, not {length}: begin again", staged.length());
            return Err(invalid("length", problem));
        }
        let mut sum = Xxh3::new();
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        for part in &staged.parts {
            sum.update(part.bytes());
            bytes.extend_from_slice(part.bytes());
        }
        if sum.digest() != checksum {
            let problem =
                format!("is {:016x}, not {checksum:016x}: what came in is damaged", sum.digest());
            return Err(invalid("checksum", problem));
        }
        Ok(bytes)
    }

    /// Puts this in place of what came in; gives out what that was.
    pub(super) fn put_staged(&mut self, staged: Option<Staged>) -> Option<Staged> {
        let before = std::mem::replace(&mut self.staged, staged);
        if let Some(before) = &before {
            self.sum.remove(before.hash());
        }
        if let Some(staged) = &self.staged {
            let hash = staged.hash();
            self.sum.add(hash);
        }
        before
    }
}
