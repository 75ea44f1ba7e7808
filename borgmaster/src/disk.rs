//! The disk: a thread that writes in order, and syncs once for all that waits (group commit).
//!
//! In: writes. Out: up to which one all are on disk, or which one failed. After a failure it skips what comes
//! until that one comes again. What is damaged or of another version is no such failure: the replica ends.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use borgmaster_replica::Write;
use borgmaster_replica::engine::{Engine, StorageError};
use borgmaster_replica::server::Input;
use crossbeam_channel::{Receiver, Sender};

use crate::replica::Message;

/// Writes until there is nobody left to write for.
pub(crate) fn run(mut engine: impl Engine, writes: &Receiver<Write>, replica: &Sender<Message>) {
    let mut disk = Disk::default();
    while let Ok(first) = writes.recv() {
        let batch = std::iter::once(first).chain(writes.try_iter()).collect();
        let inputs = match disk.take(&mut engine, batch) {
            Ok(inputs) => inputs,
            Err(error) => {
                let _ = replica.send(Message::Broken(error.to_string()));
                // What still comes is for nobody, until the replica has ended.
                for _ in writes {}
                return;
            }
        };
        for input in inputs {
            if replica.send(Message::Input(input)).is_err() {
                return;
            }
        }
    }
}

#[derive(Debug, Default)]
struct Disk {
    /// The last write that is on disk.
    done: u64,
    /// After a failure: the write that has to come again first.
    missing: Option<u64>,
    /// Whether it was said that writes fail.
    is_failing: bool,
}

impl Disk {
    fn take(
        &mut self,
        engine: &mut impl Engine,
        batch: Vec<Write>,
    ) -> Result<Vec<Input>, StorageError> {
        let (mut first, mut last, mut must_sync, mut failed) = (None, None, false, None);
        for write in batch {
            let number = write.number;
            let is_due = self.missing.is_none_or(|missing| missing == number);
            // What came again although it is on disk must not undo what came after it.
            if !is_due || number <= self.done {
                continue;
            }
            if let Err(error) = engine.write(&write) {
                self.fail(number, error)?;
                failed = Some(number);
                break;
            }
            self.missing = None;
            first.get_or_insert(number);
            last = Some(number);
            must_sync |= write.must_sync;
        }
        let mut inputs = Vec::new();
        if let (Some(first), Some(last)) = (first, last) {
            let synced = if must_sync { engine.sync() } else { Ok(()) };
            if let Err(error) = synced {
                self.fail(first, error)?;
                return Ok(vec![Input::PersistFailed { number: first }]);
            }
            if failed.is_none() && std::mem::take(&mut self.is_failing) {
                tracing::info!("the disk takes writes again");
            }
            self.done = last;
            inputs.push(Input::Persisted { number: last });
        }
        inputs.extend(failed.map(|number| Input::PersistFailed { number }));
        Ok(inputs)
    }

    /// Takes note of a write that failed, and says so once: it is tried again several times a second.
    fn fail(&mut self, number: u64, error: StorageError) -> Result<(), StorageError> {
        match error {
            StorageError::Corrupt { .. } | StorageError::TooNew { .. } => return Err(error),
            StorageError::Full { .. } | StorageError::Locked { .. } | StorageError::Io { .. } => {}
        }
        self.missing = Some(number);
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::error!(%error, "the disk takes no writes: this replica takes none either until it does");
        }
        Ok(())
    }
}

/// The median time that a sync of a small write takes in this folder.
///
/// # Errors
/// If the disk fails.
pub(crate) fn measure_sync(folder: &Path) -> std::io::Result<Duration> {
    const COUNT: usize = 9;
    let path = folder.join("sync-probe");
    let mut file = File::create(&path)?;
    let mut times = Vec::with_capacity(COUNT);
    for _ in 0..COUNT {
        file.write_all(&[0; 4096])?;
        let begin = Instant::now();
        file.sync_data()?;
        times.push(begin.elapsed());
    }
    drop(file);
    std::fs::remove_file(path)?;
    times.sort_unstable();
    Ok(times[COUNT / 2])
}

#[cfg(test)]
mod tests {
    use borgmaster_replica::Entry;
    use borgmaster_replica::engine::memory::MemoryEngine;

    use super::*;

    fn write(number: u64) -> Write {
        let entry = Entry { index: number, term: 1, ..Entry::default() };
        Write { number, entries: vec![entry], must_sync: true, ..Write::default() }
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "a disk says nothing else")]
    fn told(inputs: &Result<Vec<Input>, StorageError>) -> Vec<(bool, u64)> {
        let one = |input: &Input| match input {
            Input::Persisted { number } => (true, *number),
            Input::PersistFailed { number } => (false, *number),
            other => panic!("{other:?}"),
        };
        inputs.as_ref().unwrap().iter().map(one).collect()
    }

    #[test]
    fn a_batch_is_told_once() {
        let (mut disk, mut engine) = (Disk::default(), MemoryEngine::default());
        let inputs = disk.take(&mut engine, vec![write(1), write(2), write(3)]);
        assert_eq!(told(&inputs), [(true, 3)]);
        assert_eq!(engine.unsynced_count(), 0);
    }

    #[test]
    fn after_a_failure_writes_wait_for_the_one_that_failed() {
        let (mut disk, mut engine) = (Disk::default(), MemoryEngine::default());
        assert_eq!(told(&disk.take(&mut engine, vec![write(1)])), [(true, 1)]);
        engine.is_full = true;
        assert_eq!(told(&disk.take(&mut engine, vec![write(2), write(3)])), [(false, 2)]);
        engine.is_full = false;
        assert_eq!(told(&disk.take(&mut engine, vec![write(3)])), []);
        assert_eq!(told(&disk.take(&mut engine, vec![write(2), write(3)])), [(true, 3)]);
        assert_eq!(told(&disk.take(&mut engine, vec![write(2)])), [], "3 stays as it is");
        assert_eq!(engine.load().unwrap().entries.len(), 3);
    }
}
