//! What a leader counts of its own work: how often plans came too late, and why.
//!
//! Source: Omega (EuroSys '13) §4: conflict fraction and wasted work.

use std::collections::BTreeMap;

use cell::live::{Applied, Entry, Op, Refusal};

/// Counts since the leader leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Assignments that were carried out.
    pub placed_count: u64,
    /// Assignments that were refused, by reason: the state had moved on.
    pub refused: BTreeMap<Refusal, u64>,
    /// Passes planned.
    pub pass_count: u64,
    /// Tasks that passes looked at, placed or not.
    pub examined_count: u64,
    /// Of the passes, how many log entries came between the snapshot and the plan: the sum.
    pub staleness_entries_sum: u64,
    /// The most of them.
    pub staleness_entries_max: u64,
    /// Entries of assignments, of which a pass makes one or several, where at least one was refused.
    pub conflicted_count: u64,
}

impl Stats {
    /// The share of assignments that were planned in vain, 0..=1; 0 where none were planned.
    #[must_use]
    pub fn wasted(&self) -> f64 {
        let refused: u64 = self.refused.values().sum();
        let all = refused + self.placed_count;
        if all == 0 {
            return 0.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        {
            refused as f64 / all as f64
        }
    }

    pub(crate) fn count(&mut self, entry: &Entry, applied: &Applied, _index: u64) {
        for (command, (_, outcome)) in entry.commands.iter().zip(&applied.answers) {
            if let (Op::Assign { .. }, Ok(cell::live::Done::Some { done, rejected })) =
                (&command.op, outcome)
            {
                self.placed_count += u64::from(*done);
                self.conflicted_count += u64::from(*rejected > 0);
            }
        }
        for (_, refusal) in &applied.refused {
            *self.refused.entry(*refusal).or_default() += 1;
        }
    }

    pub(crate) fn count_pass(&mut self, examined: usize, staleness: u64) {
        self.pass_count += 1;
        self.examined_count += examined as u64;
        self.staleness_entries_sum += staleness;
        self.staleness_entries_max = self.staleness_entries_max.max(staleness);
    }
}
