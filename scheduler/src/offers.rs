//! What each machine has to offer to a task that would preempt there, kept by equivalence class and
//! priority, as scores are.
//!
//! Of most machines a rank is known that is no worse than theirs, and cheap to have; it is made exact once it
//! is the best of all. So a class finds the best machine by choosing victims on a few.

use std::collections::BTreeMap;

use cell::Priority;

use crate::equivalence::ClassIndex;
use crate::tables::Fresh;

/// How much a preemption somewhere matters; lower is better.
pub(crate) type Rank = u64;

/// Stands for the rank of a machine where none is possible.
pub(crate) const NO_OFFER: Rank = Rank::MAX;

/// Machines in a block, of which the best rank is kept. Our choice: near the root of 5,000.
const BLOCK: usize = 64;

/// The most memory that kept offers may take. Our choice: 590 classes on 12,500 machines, where the 2011 cell
/// has 450 live at a time.
const BYTES_MAX: usize = 64 << 20;

/// What is kept of a machine.
const BYTES_EACH: usize = size_of::<Rank>() + size_of::<bool>();

/// Up to where of the journals offers have seen the changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub changes: Fresh,
    /// Of the journal of limits on disruption.
    pub disruptions: usize,
}

/// The rank of each machine or one that is no worse, and up to where of the journals they are true.
#[derive(Clone, Debug)]
pub(crate) struct Offers {
    pub seen: Option<Seen>,
    ranks: Vec<Rank>,
    is_exact: Vec<bool>,
    /// The best rank of each block.
    best: Vec<Rank>,
}

impl Offers {
    pub(crate) fn none(machine_count: usize) -> Self {
        Self {
            seen: None,
            ranks: vec![NO_OFFER; machine_count],
            is_exact: vec![true; machine_count],
            best: vec![NO_OFFER; machine_count.div_ceil(BLOCK)],
        }
    }

    /// A rank that is no worse than a machine's own.
    pub(crate) fn bound(&mut self, row: usize, rank: Rank) {
        self.is_exact[row] = rank == NO_OFFER;
        self.set(row, rank);
    }

    fn set(&mut self, row: usize, rank: Rank) {
        let was = std::mem::replace(&mut self.ranks[row], rank);
        let block = row / BLOCK;
        let best = &mut self.best[block];
        if rank <= *best {
            *best = rank;
        } else if was == *best {
            let rows = block * BLOCK..((block + 1) * BLOCK).min(self.ranks.len());
            *best = self.ranks[rows].iter().copied().min().unwrap_or(NO_OFFER);
        }
    }

    /// The row of the best rank, of equal ones the lowest. `rank` is the exact one of a row.
    pub(crate) fn best(&mut self, mut rank: impl FnMut(usize) -> Rank) -> Option<usize> {
        loop {
            let best = self.best.iter().copied().min().filter(|&rank| rank != NO_OFFER)?;
            let block = self.best.iter().position(|&rank| rank == best)?;
            let rows = &self.ranks[block * BLOCK..];
            let row = block * BLOCK + rows.iter().position(|&rank| rank == best)?;
            if self.is_exact[row] {
                return Some(row);
            }
            self.is_exact[row] = true;
            self.set(row, rank(row));
        }
    }
}

/// Offers of classes, the least recently used of which make room.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeptOffers {
    kept: BTreeMap<(ClassIndex, Priority), (u64, Offers)>,
    /// Keys by when they were last used.
    by_use: BTreeMap<u64, (ClassIndex, Priority)>,
    use_count: u64,
}

impl KeptOffers {
    /// The offers to a class, to be put back after use.
    pub(crate) fn take(&mut self, class: ClassIndex, priority: Priority) -> Option<Offers> {
        let (used, offers) = self.kept.remove(&(class, priority))?;
        self.by_use.remove(&used);
        Some(offers)
    }

    pub(crate) fn put_back(&mut self, class: ClassIndex, priority: Priority, offers: Offers) {
        let bytes = offers.ranks.len() * BYTES_EACH;
        let count_max = (BYTES_MAX / bytes.max(1)).max(1);
        self.use_count += 1;
        self.kept.insert((class, priority), (self.use_count, offers));
        self.by_use.insert(self.use_count, (class, priority));
        while self.kept.len() > count_max {
            let (_, oldest) = self.by_use.pop_first().expect("as many as are kept");
            self.kept.remove(&oldest);
        }
    }

    /// Drops what is known of every class.
    pub(crate) fn forget_all(&mut self) {
        self.kept.clear();
        self.by_use.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn blocks_and_bounds_find_what_a_scan_finds(
            count in 1_usize..300,
            changes in proptest::collection::vec(
                (any::<prop::sample::Index>(), 0_u64..9, 0_u64..4, any::<bool>()),
                0..400,
            ),
        ) {
            let mut offers = Offers::none(count);
            let mut ranks = vec![NO_OFFER; count];
            for (at, rank, less, is_asked) in changes {
                let row = at.index(count);
                // The largest stands for none.
                ranks[row] = if rank == 8 { NO_OFFER } else { rank };
                offers.bound(row, ranks[row].saturating_sub(less));
                if is_asked {
                    let best = ranks.iter().copied().zip(0..).min();
                    let expected = best.filter(|&(rank, _)| rank != NO_OFFER).map(|(_, row)| row);
                    prop_assert_eq!(offers.best(|row| ranks[row]), expected);
                }
            }
        }
    }

    #[test]
    fn the_least_recently_used_make_room() {
        let priority = Priority::MAX;
        let machine_count = BYTES_MAX / BYTES_EACH / 2;
        let mut kept = KeptOffers::default();
        kept.put_back(0, priority, Offers::none(machine_count));
        kept.put_back(1, priority, Offers::none(machine_count));
        let used = kept.take(0, priority).unwrap();
        kept.put_back(0, priority, used);
        kept.put_back(2, priority, Offers::none(machine_count));
        assert!(kept.take(1, priority).is_none());
        assert!(kept.take(0, priority).is_some() && kept.take(2, priority).is_some());
    }
}
