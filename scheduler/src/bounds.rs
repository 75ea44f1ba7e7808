//! The best host of one equivalence class without a key for each machine.
//!
//! Machines are laid out by what they are and what is free on them, so that a block of neighbours is much
//! alike, and what is true of a block ([`Span`]) bounds the score of all of it. A class keeps one key a
//! block that none of the block exceeds: at first from the span, exact once the block's machines have been
//! scored, which happens when the block looks like the winner. A change of one machine raises the bound or
//! leaves it; where the best itself got worse the bound is only marked stale. So a new class scores a few
//! blocks instead of every machine, takes 16 bytes for 32 machines instead of 8 for each, and thousands of
//! classes stay in the cache.
//!
//! Layouts age as machines fill up. A new one is made now and then for classes to come; a class keeps the
//! one that it began with.

use std::rc::Rc;

use crate::score::Ask;
use crate::score::best_fit::Fractions;
use crate::table::{Best, Key};

/// Machines in a block. Measured on the 2011 cell and on eight copies of it.
const BLOCK: usize = 32;

/// Blocks in a group, which has a bound of its own.
const GROUP: usize = 32;

/// Stands for the row of a bound that may be above all keys of its block.
const STALE: u32 = u32::MAX;

/// The bits of a key that break ties.
pub(crate) const TIE: Key = 0xff_ffff;

/// Where the best bound is stale, those up to so far below it are made exact with it, as they would soon be
/// looked at: 2^-12 of score. Measured on eight copies of the 2011 cell: 12.0 s with this, 12.9 with an eighth
/// of it, 13.0 with four times as much, 14.3 with none.
const AT_ONCE: Key = 1 << 51;

/// An order of the machines.
#[derive(Debug)]
pub(crate) struct Layout {
    /// The row at each position.
    row_at: Vec<u32>,
    /// The position of each row.
    position_of: Vec<u32>,
}

impl Layout {
    /// By ascending `rank`, then by row.
    pub(crate) fn by(row_count: usize, rank: impl Fn(usize) -> u64) -> Self {
        let mut ranked: Vec<(u64, u32)> =
            (0_u32..).take(row_count).map(|row| (rank(row as usize), row)).collect();
        ranked.sort_unstable();
        let row_at: Vec<u32> = ranked.into_iter().map(|(_, row)| row).collect();
        let mut position_of = vec![0; row_count];
        for (position, &row) in (0_u32..).zip(&row_at) {
            position_of[row as usize] = position;
        }
        Self { row_at, position_of }
    }

    /// The rows of each block.
    pub(crate) fn blocks(&self) -> std::slice::Chunks<'_, u32> {
        self.row_at.chunks(BLOCK)
    }

    fn block(&self, block: usize) -> &[u32] {
        let start = block * BLOCK;
        &self.row_at[start..(start + BLOCK).min(self.row_at.len())]
    }

    /// The block that a row is in.
    #[inline]
    pub(crate) fn block_of(&self, row: usize) -> usize {
        self.position_of[row] as usize / BLOCK
    }
}

/// Least and most of a value.
#[derive(Clone, Copy, Debug)]
struct Between {
    least: f64,
    most: f64,
}

impl Between {
    const NOTHING: Self = Self { least: f64::INFINITY, most: f64::NEG_INFINITY };

    fn widen(&mut self, value: f64) {
        self.least = self.least.min(value);
        self.most = self.most.max(value);
    }
}

/// What is true of the free fractions of all machines of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    cpu: Between,
    ram: Between,
    per_cpu: Between,
    per_ram: Between,
}

impl Span {
    pub(crate) const NOTHING: Self = Self {
        cpu: Between::NOTHING,
        ram: Between::NOTHING,
        per_cpu: Between::NOTHING,
        per_ram: Between::NOTHING,
    };

    pub(crate) fn widen(&mut self, of: &Fractions) {
        self.cpu.widen(of.free_cpu);
        self.ram.widen(of.free_ram);
        self.per_cpu.widen(of.per_cpu);
        self.per_ram.widen(of.per_ram);
    }

    /// Free fractions of CPU and RAM after a task was placed where it fits, least and most.
    pub(crate) fn after(&self, ask: &Ask) -> ([f64; 2], [f64; 2]) {
        let after = |free: &Between, per: &Between, asked: f64| {
            [free.least - asked * per.most, free.most - asked * per.least].map(|left| left.max(0.0))
        };
        (after(&self.cpu, &self.per_cpu, ask.cpu), after(&self.ram, &self.per_ram, ask.ram))
    }
}

/// What is known of a block.
#[derive(Clone, Copy, Debug)]
struct Block {
    /// A key that none of the block exceeds.
    bound: Key,
    /// The lowest row with that key, or [`STALE`].
    row: u32,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Bounds {
    layout: Option<Rc<Layout>>,
    blocks: Vec<Block>,
    /// For each group of blocks, a key that none of its bounds exceeds.
    groups: Vec<Key>,
}

impl Bounds {
    /// What this takes for so many machines.
    pub(crate) fn bytes(machine_count: usize) -> usize {
        machine_count.div_ceil(BLOCK) * size_of::<Block>()
    }

    /// Starts anew, with bounds that are to be made exact when they matter.
    pub(crate) fn begin(&mut self, layout: Rc<Layout>, bounds: impl Iterator<Item = Key>) {
        self.blocks.clear();
        self.blocks.extend(bounds.map(|bound| Block { bound, row: STALE }));
        self.layout = Some(layout);
        self.group();
    }

    /// Starts anew, with exact bounds.
    pub(crate) fn begin_exact(&mut self, layout: Rc<Layout>, key: impl Fn(usize) -> Key) {
        self.blocks.clear();
        self.blocks.extend(layout.blocks().map(|rows| best_of(rows, &key, &|_| true)));
        self.layout = Some(layout);
        self.group();
    }

    fn group(&mut self) {
        self.groups.clear();
        self.groups.extend(self.blocks.chunks(GROUP).map(most));
    }

    /// Takes in the key of a row that may have changed. A row that is not `allowed` counts as infeasible.
    #[inline]
    pub(crate) fn set(&mut self, row: usize, key: Key, allowed: impl Fn() -> bool) {
        let number = self.layout.as_deref().expect("begun before use").block_of(row);
        let at = u32::try_from(row).unwrap_or(STALE);
        let block = &mut self.blocks[number];
        let is_better =
            key > block.bound || (key == block.bound && at < block.row && block.row != STALE);
        if is_better && allowed() {
            *block = Block { bound: key, row: at };
            let group = &mut self.groups[number / GROUP];
            *group = key.max(*group);
        } else if block.row == at && (key < block.bound || !allowed()) {
            block.row = STALE;
        }
    }

    /// The best row, of equal ones the lowest. `key` gives the key of a row as it is now; a row that is
    /// not `allowed` counts as infeasible.
    pub(crate) fn best(
        &mut self,
        key: impl Fn(usize) -> Key,
        allowed: impl Fn(usize) -> bool,
    ) -> Option<Best> {
        let layout = Rc::clone(self.layout.as_ref().expect("begun before use"));
        loop {
            let bound = self.groups.iter().copied().fold(0, Key::max);
            if bound == 0 {
                return None;
            }
            let mut first = STALE;
            let mut is_stale = false;
            for group in 0..self.groups.len() {
                if self.groups[group] != bound {
                    continue;
                }
                let blocks = group * GROUP..((group + 1) * GROUP).min(self.blocks.len());
                self.groups[group] = most(&self.blocks[blocks.clone()]);
                for block in self.blocks[blocks].iter().filter(|block| block.bound == bound) {
                    is_stale |= block.row == STALE;
                    first = first.min(block.row);
                }
            }
            if is_stale {
                self.make_exact(
                    &layout,
                    (bound & !TIE).saturating_sub(AT_ONCE).max(1),
                    &key,
                    &allowed,
                );
            } else if first != STALE {
                return Some(Best { row: first as usize, key: bound });
            }
        }
    }

    /// Makes the stale bounds from `level` on exact.
    fn make_exact(
        &mut self,
        layout: &Layout,
        level: Key,
        key: &impl Fn(usize) -> Key,
        allowed: &impl Fn(usize) -> bool,
    ) {
        for group in 0..self.groups.len() {
            if self.groups[group] < level {
                continue;
            }
            let blocks = group * GROUP..((group + 1) * GROUP).min(self.blocks.len());
            for number in blocks.clone() {
                let block = &mut self.blocks[number];
                if block.bound >= level && block.row == STALE {
                    *block = best_of(layout.block(number), key, allowed);
                }
            }
            self.groups[group] = most(&self.blocks[blocks]);
        }
    }
}

fn most(blocks: &[Block]) -> Key {
    blocks.iter().map(|block| block.bound).fold(0, Key::max)
}

/// A block of these rows, exact.
#[inline]
fn best_of(rows: &[u32], key: &impl Fn(usize) -> Key, allowed: &impl Fn(usize) -> bool) -> Block {
    let mut best = Block { bound: 0, row: 0 };
    for &row in rows {
        let key = key(row as usize);
        let is_better = key > best.bound || (key == best.bound && key > 0 && row < best.row);
        if is_better && allowed(row as usize) {
            best = Block { bound: key, row };
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::RowScore;
    use crate::score::best_fit::BestFit;
    use crate::score::hybrid::Hybrid;
    use crate::table::Table;
    use proptest::prelude::*;

    fn keys() -> impl Strategy<Value = Vec<Key>> {
        proptest::collection::vec(
            prop_oneof![Just(0), 1_u64..50, (1_u64..4).prop_map(|k| k << 24)],
            1..400,
        )
    }

    proptest! {
        #[test]
        fn blocks_find_what_a_scan_finds(
            start in keys(),
            ranks in proptest::collection::vec(0_u64..9, 400),
            slack in proptest::collection::vec(0_u64..90_000_000, 400 / BLOCK + 1),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), 0_u64..60), 0..80),
            asked in proptest::collection::vec(any::<bool>(), 80),
        ) {
            let mut table = Table::default();
            table.fill(start.iter().copied());
            let layout = Rc::new(Layout::by(start.len(), |row| ranks[row]));
            let mut bounds = Bounds::default();
            let most = |rows: &[u32]| rows.iter().map(|&row| start[row as usize]).max().unwrap_or(0);
            let upper: Vec<Key> =
                layout.blocks().zip(&slack).map(|(rows, slack)| most(rows) + slack).collect();
            bounds.begin(Rc::clone(&layout), upper.into_iter());
            for ((at, key), asked) in changes.into_iter().zip(asked) {
                let row = at.index(start.len());
                table.set(row, key);
                bounds.set(row, key, || true);
                if asked {
                    prop_assert_eq!(bounds.best(|row| table.get(row), |_| true), table.best_by_scan());
                }
            }
            prop_assert_eq!(bounds.best(|row| table.get(row), |_| true), table.best_by_scan());
        }
    }

    fn check_upper(
        score: &impl RowScore<Columns = Fractions, Class = Ask>,
        hosts: &[[f64; 4]],
        ask: &Ask,
    ) {
        let mut span = Span::NOTHING;
        let of = |host: &[f64; 4]| Fractions::from_free([host[0], host[1]], [host[2], host[3]]);
        hosts.iter().for_each(|host| span.widen(&of(host)));
        let (cpu, ram) = span.after(ask);
        for host in hosts.iter().filter(|host| host[0] >= ask.cpu && host[1] >= ask.ram) {
            let (found, upper) = (score.score(ask, &of(host)), score.upper(cpu, ram));
            assert!(found <= upper + 1e-12, "{found} of {host:?} is above {upper}");
        }
    }

    proptest! {
        #[test]
        fn no_host_of_a_block_scores_above_its_upper_bound(
            hosts in proptest::collection::vec((0_u32..=8, 0_u32..=8, 1_u32..=8, 1_u32..=8), 1..9),
            ask in (0_u32..5, 0_u32..5),
        ) {
            let hosts: Vec<[f64; 4]> = hosts
                .iter()
                .map(|&(cpu, ram, most_cpu, most_ram)| {
                    [cpu.min(most_cpu), ram.min(most_ram), most_cpu, most_ram].map(f64::from)
                })
                .collect();
            let ask = Ask { cpu: f64::from(ask.0), ram: f64::from(ask.1), ..Ask::default() };
            check_upper(&Hybrid, &hosts, &ask);
            check_upper(&BestFit, &hosts, &ask);
        }
    }

    #[test]
    fn a_layout_is_by_rank_and_then_by_row() {
        let layout = Layout::by(4, |row| [2, 1, 2, 0][row]);
        assert_eq!(layout.row_at, [3, 1, 0, 2]);
        assert_eq!(layout.position_of, [2, 1, 3, 0]);
    }
}
