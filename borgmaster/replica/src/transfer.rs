//! Snapshots on their way to slow or new replicas, in parts of bounded size.
//!
//! Raft's own message carries the metadata alone. Parts may be lost, repeated or come in any order; each is
//! acknowledged, and sent again if its acknowledgement does not come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::wire::Chunk;

/// So many parts are under way at once.
const WINDOW: usize = 8;

/// A part that was not acknowledged is sent again after so many ticks.
const AGAIN_TICKS: u32 = 10;

/// A transfer without any progress is given up after so many ticks.
const GIVE_UP_TICKS: u32 = 300;

/// A snapshot on its way out.
#[derive(Debug)]
pub(crate) struct Outgoing {
    message: Vec<u8>,
    pub index: u64,
    data: Arc<Vec<u8>>,
    checksum: u64,
    part_byte_count: usize,
    count: u32,
    next: u32,
    /// Parts sent and not acknowledged, with the ticks since.
    open: BTreeMap<u32, u32>,
    idle_ticks: u32,
}

/// What became of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    UnderWay,
    Done,
    GivenUp,
}

impl Outgoing {
    pub(crate) fn new(
        message: Vec<u8>,
        index: u64,
        data: Arc<Vec<u8>>,
        part_byte_count: usize,
    ) -> Self {
        let part_byte_count = part_byte_count.max(1);
        let parts = data.len().div_ceil(part_byte_count).max(1);
        let count = u32::try_from(parts).expect("fewer than 2^32 parts");
        let checksum = xxh3_64(&data);
        let (next, open, idle_ticks) = (0, BTreeMap::new(), 0);
        Self { message, index, data, checksum, part_byte_count, count, next, open, idle_ticks }
    }

    /// The next parts, as far as the window is open.
    pub(crate) fn more(&mut self) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        while self.next < self.count && self.open.len() < WINDOW {
            self.open.insert(self.next, 0);
            chunks.push(self.chunk(self.next));
            self.next += 1;
        }
        chunks
    }

    fn chunk(&self, number: u32) -> Chunk {
        let start = number as usize * self.part_byte_count;
        let end = (start + self.part_byte_count).min(self.data.len());
        Chunk {
            message: self.message.clone(),
            index: self.index,
            number,
            count: self.count,
            checksum: self.checksum,
            data: self.data[start..end].to_vec(),
        }
    }

    pub(crate) fn got(&mut self, number: u32) -> Progress {
        if self.open.remove(&number).is_some() {
            self.idle_ticks = 0;
        }
        let is_done = self.next == self.count && self.open.is_empty();
        if is_done { Progress::Done } else { Progress::UnderWay }
    }

    /// Parts to be sent again.
    pub(crate) fn tick(&mut self) -> (Progress, Vec<Chunk>) {
        self.idle_ticks += 1;
        if self.idle_ticks >= GIVE_UP_TICKS {
            return (Progress::GivenUp, Vec::new());
        }
        let mut again = Vec::new();
        for (&number, ticks) in &mut self.open {
            *ticks += 1;
            if *ticks >= AGAIN_TICKS {
                *ticks = 0;
                again.push(number);
            }
        }
        (Progress::UnderWay, again.into_iter().map(|number| self.chunk(number)).collect())
    }
}

/// A snapshot on its way in. A newer one takes the place of an older one.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    key: (u64, u64),
    parts: BTreeMap<u32, Vec<u8>>,
    /// Those that were completed, so that a repeated part begins nothing anew.
    done: BTreeSet<(u64, u64)>,
}

impl Incoming {
    /// Takes in a part; the raft message and the data once all are there. Parts that do not fit together are
    /// forgotten, and the transfer begins anew.
    pub(crate) fn take(&mut self, chunk: Chunk) -> Option<(Vec<u8>, Vec<u8>)> {
        let key = (chunk.index, chunk.checksum);
        if self.done.contains(&key) || chunk.number >= chunk.count || key.0 < self.key.0 {
            return None;
        }
        if self.key != key {
            self.key = key;
            self.parts.clear();
        }
        self.parts.insert(chunk.number, chunk.data);
        if self.parts.len() < chunk.count as usize {
            return None;
        }
        let data: Vec<u8> = std::mem::take(&mut self.parts).into_values().flatten().collect();
        (xxh3_64(&data) == chunk.checksum).then_some((chunk.message, data))
    }

    /// The snapshot was taken in: what else comes of it is not looked at.
    pub(crate) fn finished(&mut self, index: u64) {
        self.done = self.done.iter().copied().filter(|&(other, _)| other >= index).collect();
        if self.key.0 == index {
            self.done.insert(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_through_in_any_order_with_loss_and_repetition() {
        let data: Vec<u8> = (0..3_000_000u32).map(|i| i.to_le_bytes()[i as usize % 3]).collect();
        let mut outgoing = Outgoing::new(vec![7], 9, Arc::new(data.clone()), 256 << 10);
        let mut incoming = Incoming::default();
        let mut result = None;
        let mut on_the_way = outgoing.more();
        for round in 0..1000 {
            on_the_way.reverse();
            let mut next = Vec::new();
            for (i, chunk) in on_the_way.drain(..).enumerate() {
                if (i + round) % 3 == 0 {
                    continue; // lost
                }
                let number = chunk.number;
                let again = chunk.clone();
                result = incoming.take(chunk).or(result);
                assert_eq!(incoming.take(again), None);
                if outgoing.got(number) == Progress::Done {
                    assert_eq!(result.unwrap(), (vec![7], data));
                    return;
                }
                next.extend(outgoing.more());
            }
            next.extend(outgoing.tick().1);
            on_the_way = next;
        }
        panic!("it never came through");
    }
}
