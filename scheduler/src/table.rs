//! The score table of one equivalence class, or of one lane: a key for each host, and an index over blocks
//! of them that finds the best without a full scan.
//!
//! A key orders hosts: 0 is infeasible; otherwise 39 bits of score, then 24 bits of tie-break, larger is
//! better; of equal keys the lower row wins. The index keeps an upper bound for each block of
//! [`BLOCK`] keys. When a block's best key gets worse its bound is only marked stale, and recomputed when
//! the block next looks like the winner: most stale blocks never do.

/// Keys in a block. Measured on the 12,477-machine cell: 32 and 128 were no faster.
pub(crate) const BLOCK: usize = 64;

/// A host's rank for a class; 0: it cannot run the class's tasks.
pub(crate) type Key = u64;

/// The key of a feasible host.
///
/// The score, 0..=1, becomes the mantissa of `1 + score / 2`, whose order is the score's own; 12 bits of
/// the mantissa make room for the tie. So scores that differ by less than 2^-39 are ties.
#[inline(always)]
pub(crate) fn key(score: f64, tie: u64) -> Key {
    let bits = (1.0 + score * 0.5).to_bits();
    (bits << 12) & !0xff_ffff | (tie & 0xff_ffff) | 1
}

/// The score of a key that is not 0, to within the 2^-39 that a key keeps.
pub(crate) fn score_of(key: Key) -> f64 {
    let mantissa = (key & !0xff_ffff) >> 12;
    (f64::from_bits(1.0_f64.to_bits() | mantissa) - 1.0) * 2.0
}

/// The best host of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Best {
    pub row: usize,
    pub key: Key,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    keys: Vec<Key>,
    /// For each block, a key that none of the block exceeds.
    bounds: Vec<Key>,
    /// Whether the bound may exceed all of the block's keys.
    stale: Vec<bool>,
    /// Feasible hosts in each block.
    feasible_counts: Vec<u32>,
}

impl Table {
    /// Refills the table, one key a machine.
    pub(crate) fn fill(&mut self, keys: impl Iterator<Item = Key>) {
        self.keys.clear();
        self.keys.extend(keys);
        self.index();
    }

    fn index(&mut self) {
        self.bounds.clear();
        self.feasible_counts.clear();
        for block in self.keys.chunks(BLOCK) {
            let mut bound = 0;
            let mut count = 0;
            for &key in block {
                bound = key.max(bound);
                count += u32::from(key != 0);
            }
            self.bounds.push(bound);
            self.feasible_counts.push(count);
        }
        self.stale.clear();
        self.stale.resize(self.bounds.len(), false);
    }

    /// Replaces the key of one row.
    #[inline]
    pub(crate) fn set(&mut self, row: usize, key: Key) {
        let old = std::mem::replace(&mut self.keys[row], key);
        if old == key {
            return;
        }
        let block = row / BLOCK;
        self.feasible_counts[block] += u32::from(key != 0);
        self.feasible_counts[block] -= u32::from(old != 0);
        if key >= self.bounds[block] {
            self.bounds[block] = key;
            self.stale[block] = false;
        } else if old == self.bounds[block] {
            self.stale[block] = true;
        }
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The key of a row.
    #[inline(always)]
    pub(crate) fn get(&self, row: usize) -> Key {
        self.keys[row]
    }

    /// How many rows from `row` on, at most `limit`, are in a block without any feasible row; `None` if
    /// the row's block has one.
    #[inline(always)]
    pub(crate) fn empty_block(&self, row: usize, limit: usize) -> Option<usize> {
        let block = row / BLOCK;
        let end = ((block + 1) * BLOCK).min(self.keys.len());
        (self.feasible_counts[block] == 0).then_some((end - row).min(limit))
    }

    /// The best row, by the index.
    pub(crate) fn best(&mut self) -> Option<Best> {
        loop {
            let mut block = 0;
            let mut bound = 0;
            for (index, &candidate) in self.bounds.iter().enumerate() {
                if candidate > bound {
                    (block, bound) = (index, candidate);
                }
            }
            if bound == 0 {
                return None;
            }
            if self.tighten(block) == bound {
                return self.best_in(block * BLOCK..(block + 1) * BLOCK);
            }
        }
    }

    /// The best row, by looking at every key.
    pub(crate) fn best_by_scan(&self) -> Option<Best> {
        self.best_in(0..self.keys.len())
    }

    /// Makes a block's bound exact, and returns it.
    fn tighten(&mut self, block: usize) -> Key {
        if self.stale[block] {
            let end = ((block + 1) * BLOCK).min(self.keys.len());
            let keys = &self.keys[block * BLOCK..end];
            self.bounds[block] = keys.iter().copied().max().unwrap_or(0);
            self.stale[block] = false;
        }
        self.bounds[block]
    }

    fn best_in(&self, rows: std::ops::Range<usize>) -> Option<Best> {
        let start = rows.start;
        let end = rows.end.min(self.keys.len());
        let mut best = Best { row: 0, key: 0 };
        for (offset, &key) in self.keys[start..end].iter().enumerate() {
            if key > best.key {
                best = Best { row: start + offset, key };
            }
        }
        (best.key > 0).then_some(best)
    }

    /// The best of the first `limit` feasible rows from `start` on, going round; and how many rows were
    /// visited. The visit that finds feasible row number `limit + 1` ends the search and does not count.
    pub(crate) fn best_of_sample(
        &mut self,
        start: usize,
        limit: usize,
        by_blocks: bool,
    ) -> (Option<Best>, usize) {
        let rows = self.keys.len();
        let mut sample = Sample { left: limit, best: Best { row: 0, key: 0 } };
        let mut visited = 0;
        while visited < rows {
            let row = (start + visited) % rows;
            let block = row / BLOCK;
            let block_len = BLOCK.min(rows - block * BLOCK);
            let whole_block = row.is_multiple_of(BLOCK) && visited + block_len <= rows;
            let feasible = self.feasible_counts[block] as usize;
            if by_blocks && whole_block && feasible <= sample.left {
                sample.left -= feasible;
                // A bound that does not beat the best needs no tightening.
                if self.bounds[block] > sample.best.key && self.tighten(block) > sample.best.key {
                    let range = block * BLOCK..block * BLOCK + block_len;
                    sample.best = self.best_in(range).unwrap_or(sample.best);
                }
                visited += block_len;
            } else {
                if !sample.visit(row, self.keys[row]) {
                    break;
                }
                visited += 1;
            }
        }
        ((sample.best.key > 0).then_some(sample.best), visited)
    }
}

struct Sample {
    left: usize,
    best: Best,
}

impl Sample {
    /// Takes one row; false if it is one feasible row too many.
    fn visit(&mut self, row: usize, key: Key) -> bool {
        if key == 0 {
            return true;
        }
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        if key > self.best.key {
            self.best = Best { row, key };
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_order_by_score_and_then_by_tie() {
        assert!(key(0.5, 0) > key(0.499_999, 0xff_ffff));
        assert!(key(0.5, 4) > key(0.5, 2));
        assert!(key(0.0, 0) > 0);
        assert!(key(1.0, 0) > key(0.999, 0xff_ffff));
        // Kubernetes' totals are multiples of 1/2048, far apart.
        assert!(key(151.0 / 2048.0, 0) > key(150.0 / 2048.0, 0xff_ffff));
    }

    #[test]
    fn a_key_keeps_its_score() {
        for score in [0.0, 0.25, 1.0 / 3.0, 17.0 / 18.0, 1.0 - 1e-9] {
            let kept = score_of(key(score, 0xabc));
            assert!(kept <= score && score - kept < 4e-12, "{kept} of {score}");
        }
    }

    fn keys() -> impl Strategy<Value = Vec<Key>> {
        proptest::collection::vec(prop_oneof![Just(0), 1_u64..50], 1..400)
    }

    proptest! {
        #[test]
        fn the_index_finds_what_a_scan_finds(
            start in keys(),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), 0_u64..60), 0..80),
        ) {
            let mut table = Table::default();
            table.fill(start.iter().copied());
            for (at, key) in changes {
                table.set(at.index(start.len()), key);
                prop_assert_eq!(table.best(), table.best_by_scan());
            }
        }

        #[test]
        fn blocks_sample_as_single_visits_do(
            start in keys(),
            from in any::<prop::sample::Index>(),
            limit in 1_usize..300,
            changes in proptest::collection::vec((any::<prop::sample::Index>(), 0_u64..60), 0..20),
        ) {
            let mut table = Table::default();
            table.fill(start.iter().copied());
            for (at, key) in changes {
                table.set(at.index(start.len()), key);
            }
            let from = from.index(start.len());
            let fast = table.best_of_sample(from, limit, true);
            prop_assert_eq!(fast, table.best_of_sample(from, limit, false));
            // At most `limit` feasible rows were seen, and if fewer, all rows were.
            let feasible = |visited| {
                (0..visited).filter(|v| table.keys[(from + v) % start.len()] != 0).count()
            };
            prop_assert!(feasible(fast.1) <= limit);
            prop_assert!(fast.1 == start.len() || feasible(fast.1) == limit);
        }
    }
}
