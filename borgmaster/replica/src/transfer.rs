//! Snapshots on their way to slow or new replicas, in parts of bounded size.
//!
//! Raft's own message carries the metadata alone. Parts may be lost, repeated or come in any order; each is
//! acknowledged, and sent again if its acknowledgement does not come.

use std::collections::BTreeMap;
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

    /// All parts, whatever became of them.
    #[cfg(test)]
    pub(crate) fn all(&self) -> Vec<Chunk> {
        (0..self.count).map(|number| self.chunk(number)).collect()
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

/// A snapshot on its way in: one at a time, of the latest leader that sends one, and of that one's newest.
#[derive(Debug, Default)]
pub(crate) struct Incoming(Option<Partial>);

/// A snapshot of which some parts have come.
#[derive(Debug)]
struct Partial {
    /// The term of the leader that sends it, which has no equal in that term.
    term: u64,
    index: u64,
    checksum: u64,
    count: u32,
    parts: BTreeMap<u32, Vec<u8>>,
}

/// What became of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is of a snapshot that a later one has taken the place of, or of none; not to be acknowledged.
    Refused,
    /// It is kept, and more are to come.
    Kept,
    /// It was the last one; the data.
    Whole(Vec<u8>),
}

impl Incoming {
    /// Takes in a part of a snapshot that the leader of a term sends. One of a later term, or of the same term
    /// and a later index, takes the place of what there is. Parts that do not fit together are forgotten, and
    /// the transfer begins anew.
    pub(crate) fn take(&mut self, term: u64, chunk: Chunk) -> Taken {
        let Chunk { index, number, count, checksum, data, .. } = chunk;
        let is_late = |partial: &Partial| (term, index) < (partial.term, partial.index);
        if number >= count || self.0.as_ref().is_some_and(is_late) {
            return Taken::Refused;
        }
        let is_of = |partial: &Partial| {
            let Partial { term: of, index: at, checksum: sum, count: all, .. } = *partial;
            (of, at, sum, all) == (term, index, checksum, count)
        };
        let same = self.0.take().filter(is_of);
        let begun = || Partial { term, index, checksum, count, parts: BTreeMap::new() };
        let mut partial = same.unwrap_or_else(begun);
        partial.parts.insert(number, data);
        if partial.parts.len() < count as usize {
            self.0 = Some(partial);
            return Taken::Kept;
        }
        let data: Vec<u8> = partial.parts.into_values().flatten().collect();
        if xxh3_64(&data) == checksum { Taken::Whole(data) } else { Taken::Kept }
    }

    /// Forgets what can be of no use: that of a leader of an earlier term than this one, and what is committed
    /// here by now.
    pub(crate) fn settle(&mut self, term: u64, committed: u64) {
        let is_of_use = |partial: &Partial| partial.term >= term && partial.index > committed;
        self.0 = self.0.take().filter(is_of_use);
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
                assert_eq!(chunk.message, [7]);
                if let Taken::Whole(whole) = incoming.take(4, chunk) {
                    result = Some(whole);
                }
                assert_eq!(incoming.take(4, again), Taken::Kept);
                if outgoing.got(number) == Progress::Done {
                    assert_eq!(result.unwrap(), data);
                    return;
                }
                next.extend(outgoing.more());
            }
            next.extend(outgoing.tick().1);
            on_the_way = next;
        }
        panic!("it never came through");
    }

    /// The parts of a snapshot of three.
    fn parts(index: u64, byte: u8) -> (Vec<u8>, Vec<Chunk>) {
        let data = vec![byte; 30];
        (data.clone(), Outgoing::new(vec![7], index, Arc::new(data), 10).more())
    }

    #[test]
    fn a_later_leader_comes_first_and_then_a_newer_snapshot() {
        let (older, newer) = (parts(400, 1), parts(500, 2));
        let mut incoming = Incoming::default();
        let mut take = |term, chunk: &Chunk| incoming.take(term, chunk.clone());
        assert_eq!(take(3, &older.1[0]), Taken::Kept);
        assert_eq!(take(3, &newer.1[0]), Taken::Kept);
        assert_eq!(take(3, &older.1[1]), Taken::Refused);
        assert_eq!(take(3, &newer.1[1]), Taken::Kept);
        // The next leader has an older one: what comes late of the first leader's is nothing to it.
        assert_eq!(take(4, &older.1[2]), Taken::Kept);
        assert_eq!(take(3, &newer.1[2]), Taken::Refused);
        assert_eq!(take(4, &older.1[2]), Taken::Kept);
        assert_eq!(take(4, &older.1[0]), Taken::Kept);
        assert_eq!(take(3, &older.1[1]), Taken::Refused);
        assert_eq!(take(4, &older.1[1]), Taken::Whole(older.0));
    }

    #[test]
    fn what_is_of_no_use_is_forgotten() {
        let (_, chunks) = parts(400, 1);
        let mut incoming = Incoming::default();
        for (term, committed, is_kept) in [(3, 399, true), (4, 399, false), (3, 400, false)] {
            assert_eq!(incoming.take(3, chunks[0].clone()), Taken::Kept);
            incoming.settle(term, committed);
            assert_eq!(incoming.0.is_some(), is_kept);
        }
    }
}
