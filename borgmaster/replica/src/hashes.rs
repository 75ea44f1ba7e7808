//! Whether the replicas have the same state: its hash, compared each time that the index is a multiple of
//! [`HASH_EVERY`].
//!
//! A replica that a majority contradicts stops at once. Where states differ and none can be shown to be that of
//! a majority, because too few replicas are heard, those that differ wait a while for the others, and then stop:
//! nobody knows which of them is right.

use std::collections::BTreeMap;

/// The hashes of states are compared each time that the index is a multiple of this.
pub(crate) const HASH_EVERY: u64 = 256;

/// So many hashes are kept for comparison with what comes late.
const HASH_COUNT_MAX: usize = 64;

/// So many ticks a replica waits for those that could tell which of several states is right. Our guess: longer
/// than an election.
const DOUBT_TICKS: u32 = 100;

/// Hashes of states, by index: this replica's own, and what others who vote said.
#[derive(Debug, Default)]
pub(crate) struct Hashes {
    own: BTreeMap<u64, u128>,
    others: BTreeMap<u64, BTreeMap<u64, u128>>,
    /// The last index at which a majority had this replica's state; what was in doubt before is settled.
    agreed_at: u64,
    /// For so many ticks states differ, and it is not known which is right.
    doubt_ticks: u32,
}

/// What the hashes at an index come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// A majority has another state, or every replica was heard and no state is that of a majority.
    Outvoted,
    /// Some have another state, and no majority is known to have this one.
    InDoubt,
}

impl Hashes {
    /// This replica has this state.
    pub(crate) fn have(&mut self, index: u64, hash: u128) {
        self.own.insert(index, hash);
        while self.own.len() > HASH_COUNT_MAX {
            self.own.pop_first();
        }
    }

    /// Another one says that it has this state.
    pub(crate) fn hear(&mut self, from: u64, index: u64, hash: u128) {
        let is_old = self.own.first_key_value().is_some_and(|(&first, _)| index < first);
        if index <= self.agreed_at || (is_old && self.own.len() >= HASH_COUNT_MAX) {
            return;
        }
        self.others.entry(index).or_default().insert(from, hash);
        while self.others.len() > 2 * HASH_COUNT_MAX {
            self.others.pop_first();
        }
    }

    fn agreed_count(&self, index: u64) -> usize {
        let (own, others) = (self.own.get(&index), self.others.get(&index));
        let same = others.into_iter().flat_map(BTreeMap::values).filter(|&hash| Some(hash) == own);
        own.map_or(0, |_| 1 + same.count())
    }

    fn judge(&self, index: u64, voter_count: usize) -> Option<Verdict> {
        let (own, others) = (self.own.get(&index)?, self.others.get(&index)?);
        let is_majority = |count: usize| count * 2 > voter_count;
        let agreed = self.agreed_count(index);
        let mut different: BTreeMap<u128, usize> = BTreeMap::new();
        for hash in others.values().filter(|&hash| hash != own) {
            *different.entry(*hash).or_default() += 1;
        }
        let is_outvoted = different.values().any(|&count| is_majority(count));
        let is_split = others.len() + 1 >= voter_count && !is_majority(agreed);
        if is_outvoted || is_split {
            return Some(Verdict::Outvoted);
        }
        (!different.is_empty() && !is_majority(agreed)).then_some(Verdict::InDoubt)
    }

    /// The index at which a majority has another state, if there is one; what is settled is forgotten.
    pub(crate) fn outvoted_at(&mut self, voter_count: usize) -> Option<u64> {
        let at = |verdict| {
            let mut indexes = self.others.keys().copied();
            indexes.find(|&index| self.judge(index, voter_count) == Some(verdict))
        };
        let outvoted = at(Verdict::Outvoted);
        let mut newest_first = self.others.keys().copied().rev();
        if let Some(index) = newest_first.find(|&index| self.agreed_count(index) * 2 > voter_count)
        {
            self.agreed_at = self.agreed_at.max(index);
            self.others.retain(|&index, _| index > self.agreed_at);
        }
        if let Some((&newest, _)) = self.own.last_key_value() {
            let is_settled = |index: &u64, others: &BTreeMap<u64, u128>| {
                *index <= newest && others.len() + 1 >= voter_count
            };
            self.others.retain(|index, others| !is_settled(index, others));
        }
        outvoted
    }

    /// A tick passed: the index at which states differ for too long, and who has other ones than this replica.
    pub(crate) fn tick(&mut self, voter_count: usize) -> Option<(u64, Vec<u64>)> {
        let mut indexes = self.others.keys().copied();
        let in_doubt =
            indexes.find(|&index| self.judge(index, voter_count) == Some(Verdict::InDoubt));
        let Some(index) = in_doubt else {
            self.doubt_ticks = 0;
            return None;
        };
        self.doubt_ticks += 1;
        let (own, others) = (self.own.get(&index)?, self.others.get(&index)?);
        let who = others.iter().filter(|&(_, hash)| hash != own).map(|(&id, _)| id);
        (self.doubt_ticks >= DOUBT_TICKS).then(|| (index, who.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(own: u128, others: &[(u64, u128)]) -> Hashes {
        let mut hashes = Hashes::default();
        hashes.have(256, own);
        for &(from, hash) in others {
            hashes.hear(from, 256, hash);
        }
        hashes
    }

    /// After how many ticks it stops, and because of whom.
    fn stops(mut hashes: Hashes, voter_count: usize) -> Option<(u32, Vec<u64>)> {
        (1..=2 * DOUBT_TICKS).find_map(|ticks| Some((ticks, hashes.tick(voter_count)?.1)))
    }

    #[test]
    fn a_majority_decides_at_once() {
        assert_eq!(hashes(1, &[(2, 7), (3, 7)]).outvoted_at(3), Some(256));
        assert_eq!(hashes(7, &[(2, 7), (3, 1)]).outvoted_at(3), None);
        assert_eq!(stops(hashes(7, &[(2, 7), (3, 1)]), 3), None);
        assert_eq!(hashes(1, &[(2, 2), (3, 3)]).outvoted_at(3), Some(256), "nobody has a majority");
    }

    #[test]
    fn two_of_three_that_differ_wait_for_the_third_and_then_stop() {
        assert_eq!(hashes(1, &[(2, 7)]).outvoted_at(3), None);
        assert_eq!(stops(hashes(1, &[(2, 7)]), 3), Some((DOUBT_TICKS, vec![2])));
        // The third comes back in time.
        let mut hashes = hashes(1, &[(2, 7)]);
        assert_eq!(hashes.tick(3), None);
        hashes.hear(3, 256, 1);
        assert_eq!(hashes.outvoted_at(3), None);
        assert_eq!(stops(hashes, 3), None);
    }

    #[test]
    fn a_majority_later_settles_what_was_in_doubt() {
        let mut hashes = hashes(1, &[(2, 7)]);
        hashes.have(512, 3);
        hashes.hear(3, 512, 3);
        assert_eq!(hashes.outvoted_at(3), None);
        hashes.hear(2, 256, 7);
        assert_eq!(stops(hashes, 3), None);
    }

    #[test]
    fn who_is_not_heard_is_no_reason_to_stop() {
        assert_eq!(stops(hashes(7, &[]), 3), None);
        assert_eq!(stops(hashes(7, &[(2, 7)]), 5), None);
    }
}
