//! The highest fence that was accepted, kept so that raising it costs one write to the disk.
//!
//! A file of two slots, each as large as a disk's largest sectors: term, generation and their checksum, eight bytes each, little-endian. A fence goes
//! where the lower one is. The file keeps its size, so there is nothing else to be synced; and where the machine dies
//! in the middle of it, the other slot holds the fence before, which was not acknowledged to be passed.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, ensure};
use cell::borglet::Fence;
use xxhash_rust::xxh3::xxh3_64;

const SLOT: usize = 4096;

/// The file.
#[derive(Debug)]
pub(crate) struct FenceFile {
    path: PathBuf,
    file: File,
    slots: Mutex<[Fence; 2]>,
}

fn encode(fence: Fence) -> [u8; SLOT] {
    let mut slot = [0; SLOT];
    slot[..8].copy_from_slice(&fence.term.to_le_bytes());
    slot[8..16].copy_from_slice(&fence.generation.to_le_bytes());
    let checksum = xxh3_64(&slot[..16]);
    slot[16..24].copy_from_slice(&checksum.to_le_bytes());
    slot
}

/// `None` if it was written in part only.
fn decode(slot: &[u8]) -> Option<Fence> {
    let number = |at: usize| Some(u64::from_le_bytes(slot.get(at..at + 8)?.try_into().ok()?));
    let fence = Fence { term: number(0)?, generation: number(8)? };
    (slot == encode(fence)).then_some(fence)
}

impl FenceFile {
    /// Opens it, or makes it; the folder that it is in is to be synced then.
    ///
    /// # Errors
    /// If it is damaged: what was accepted is not known then.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let words = || format!("{}", path.display());
        if !path.try_exists().with_context(words)? {
            let draft = path.with_extension("draft");
            let mut file = File::create(&draft).with_context(words)?;
            file.write_all(&encode(Fence::default()).repeat(2)).with_context(words)?;
            file.sync_all().with_context(words)?;
            std::fs::rename(&draft, path).with_context(words)?;
        }
        let bytes = std::fs::read(path).with_context(words)?;
        ensure!(bytes.len() == 2 * SLOT, "{} is damaged: its size is not its own", path.display());
        let found = [decode(&bytes[..SLOT]), decode(&bytes[SLOT..])];
        ensure!(
            found.iter().any(Option::is_some),
            "{} is damaged: which masters were heard is not known. If none of this machine's tasks runs any more, \
             move the folder away and start anew",
            path.display()
        );
        let file = File::options().write(true).open(path).with_context(words)?;
        let slots = Mutex::new(found.map(Option::unwrap_or_default));
        Ok(Self { path: path.to_owned(), file, slots })
    }

    /// The highest.
    pub(crate) fn highest(&self) -> Fence {
        let [a, b] = *self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        a.max(b)
    }

    /// Keeps a fence, if it is higher than what is kept. Where this fails, the highest before is kept still.
    pub(crate) fn keep(&self, fence: Fence) -> anyhow::Result<()> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if fence <= slots[0].max(slots[1]) {
            return Ok(());
        }
        let lower = usize::from(slots[1] < slots[0]);
        let at = if lower == 0 { 0 } else { SLOT as u64 };
        let kept = self.file.write_all_at(&encode(fence), at).and_then(|()| self.file.sync_data());
        kept.with_context(|| format!("{}", self.path.display()))?;
        slots[lower] = fence;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn fence(term: u64, generation: u64) -> Fence {
        Fence { term, generation }
    }

    #[test]
    fn the_highest_is_found_again_whatever_was_torn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fence");
        let file = FenceFile::open(&path).unwrap();
        assert_eq!(file.highest(), fence(0, 0));
        for kept in [fence(1, 5), fence(2, 1), fence(1, 9), fence(2, 1)] {
            file.keep(kept).unwrap();
        }
        assert_eq!(FenceFile::open(&path).unwrap().highest(), fence(2, 1));
        // The machine dies while the next one is written, at any byte of it.
        let before = std::fs::read(&path).unwrap();
        file.keep(fence(3, 1 << 40)).unwrap();
        let after = std::fs::read(&path).unwrap();
        let same = |slot: usize| before[slot * SLOT..][..SLOT] == after[slot * SLOT..][..SLOT];
        assert!(same(0) != same(1), "one slot is written");
        for whole in (0..=before.len()).step_by(7) {
            let torn = [&after[..whole], &before[whole..]].concat();
            std::fs::write(&path, torn).unwrap();
            let found = FenceFile::open(&path).unwrap().highest();
            assert!([fence(2, 1), fence(3, 1 << 40)].contains(&found), "{whole}: {found:?}");
        }
        std::fs::write(&path, vec![7; 2 * SLOT]).unwrap();
        let said = format!("{:#}", FenceFile::open(&path).unwrap_err());
        assert!(said.contains("damaged") && said.contains("start anew"), "{said}");
    }
}
