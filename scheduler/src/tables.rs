//! The score cache: which classes' tables are kept between tasks, and how fresh they are.
//!
//! Source: Borg (EuroSys '15) §3.4, score caching.

use std::collections::BTreeMap;

use crate::bounds::Bounds;
use crate::equivalence::ClassIndex;
use crate::pass::Speed;
use crate::table::{Key, Table};

/// The most memory that kept tables may take. Our choice: room for 1,200 full tables on 13,000 machines, where
/// the 2011 cell has at most 450 classes live at a time, and for 2,600 of blocks on 100,000, where eight copies
/// of it have 3,600.
const BYTES_MAX: usize = 128 << 20;

/// Up to where of the journals a table has seen the changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fresh {
    /// Of the journal of all rows that changed.
    pub all: usize,
    /// Of the journal of the class's own job.
    pub own: usize,
}

/// What is kept of a class's scores.
#[derive(Debug)]
pub(crate) enum Scores {
    /// A key for each machine: for sampling, and for looking at every key.
    Each(Table),
    /// The best of each block, which is all that finding the exact best needs.
    Blocks(Bounds),
}

/// A class's table, and how fresh it is; `None`: it holds nothing yet.
#[derive(Debug)]
pub(crate) struct ClassTable {
    pub scores: Scores,
    pub fresh_until: Option<Fresh>,
}

/// Tables of classes, the least recently used of which make room.
#[derive(Debug)]
pub(crate) struct Tables {
    speed: Speed,
    /// Whether blocks are kept instead of tables.
    by_blocks: bool,
    count_max: usize,
    kept: BTreeMap<ClassIndex, (u64, ClassTable)>,
    /// Classes by when they were last used.
    by_use: BTreeMap<u64, ClassIndex>,
    use_count: u64,
    /// Tables to fill again, so that their memory is asked for once.
    spare: Vec<Scores>,
}

impl Tables {
    /// `by_blocks`: only the exact best is asked for, of scores that have an upper bound.
    pub(crate) fn new(speed: Speed, by_blocks: bool, machine_count: usize) -> Self {
        let bytes_each = match by_blocks {
            false => (machine_count * size_of::<Key>()).max(1),
            true => Bounds::bytes(machine_count).max(1),
        };
        let count_max = match speed {
            Speed { equivalence: false, .. } => 0,
            Speed { cache: false, .. } => 1,
            Speed { .. } => (BYTES_MAX / bytes_each).max(1),
        };
        Self {
            speed,
            by_blocks,
            count_max,
            kept: BTreeMap::new(),
            by_use: BTreeMap::new(),
            use_count: 0,
            spare: Vec::new(),
        }
    }

    fn empty(&self) -> Scores {
        match self.by_blocks {
            true => Scores::Blocks(Bounds::default()),
            false => Scores::Each(Table::default()),
        }
    }

    /// The table of a class, to be put back after use.
    pub(crate) fn take(&mut self, class: ClassIndex) -> ClassTable {
        match self.kept.remove(&class) {
            Some((used, table)) => {
                self.by_use.remove(&used);
                table
            }
            None => {
                let spare = self.spare.pop();
                let scores = spare.unwrap_or_else(|| self.empty());
                ClassTable { scores, fresh_until: None }
            }
        }
    }

    /// Takes a table back; one that is not wanted again makes room at once.
    pub(crate) fn put_back(&mut self, class: ClassIndex, table: ClassTable, is_wanted: bool) {
        if !is_wanted {
            self.spare.push(table.scores);
            return;
        }
        self.use_count += 1;
        self.kept.insert(class, (self.use_count, table));
        self.by_use.insert(self.use_count, class);
        while self.kept.len() > self.count_max {
            let (_, oldest) = self.by_use.pop_first().expect("as many as are kept");
            if let Some((_, table)) = self.kept.remove(&oldest) {
                self.spare.push(table.scores);
            }
        }
    }

    /// Drops what is known of every class.
    pub(crate) fn forget_all(&mut self) {
        *self = Self {
            count_max: self.count_max,
            spare: std::mem::take(&mut self.spare),
            ..Self::new(self.speed, self.by_blocks, 0)
        };
    }
}
