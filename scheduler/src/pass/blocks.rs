//! The pass's part in finding the exact best host by [`bounds`]: how machines are laid out
//! in blocks, what no machine of a block exceeds, and the keys that follow for a class.
//!
//! In: the rows of a pass, and word of each that changed. Out: a class's bounds, begun, renewed, and the best
//! host of them.

use std::rc::Rc;

use super::{ClassNeeds, Pass};
use crate::bounds::{self, Bounds, Layout, Span};
use crate::equivalence::{Class, ClassIndex};
use crate::score::RowScore;
use crate::score::best_fit::Fractions;
use crate::score::terms::Mixing;
use crate::snapshot::{Amounts, exact};
use crate::table::{Best, Key, key};

/// A layout of the machines, and what is true of its blocks.
#[derive(Debug)]
pub(super) struct Blocks {
    layout: Rc<Layout>,
    facts: Vec<BlockFacts>,
    /// How long the journal of rows that changed was when this was worked out.
    made_at: usize,
}

/// What no machine of a block exceeds.
#[derive(Clone, Copy, Debug)]
struct BlockFacts {
    free_cpu: f64,
    free_ram: f64,
    prod_free_cpu: f64,
    prod_free_ram: f64,
    mixing: Mixing,
    span: Span,
    /// The same in the account of production's limits, where these are kept apart.
    promised: Span,
}

/// A layout is made anew once changes are as many as one in so many machines. Measured on eight copies of
/// the 2011 cell.
const LAYOUT_AGE_ONE_IN: usize = 12;

/// Room for errors of rounding in upper bounds of scores, which keys keep to 2^-39.
const ROUNDING: f64 = 1e-9;

impl BlockFacts {
    const NOTHING: Self = Self {
        free_cpu: f64::NEG_INFINITY,
        free_ram: f64::NEG_INFINITY,
        prod_free_cpu: f64::NEG_INFINITY,
        prod_free_ram: f64::NEG_INFINITY,
        mixing: Mixing { for_prod: 0.0, for_others: 0.0 },
        span: Span::NOTHING,
        promised: Span::NOTHING,
    };
}

impl<S: RowScore> Pass<'_, '_, S> {
    /// Whether so much changed since the machines were laid out that a class had better begin with a new
    /// layout.
    pub(super) fn layout_is_old(&self) -> bool {
        let changes = self.blocks.as_ref().map_or(0, |blocks| self.journal.len() - blocks.made_at);
        changes > self.snapshot.machine_count() / LAYOUT_AGE_ONE_IN
    }

    /// Bounds for a class from what is true of the blocks.
    pub(super) fn begin(&self, class: ClassIndex, bounds: &mut Bounds) {
        let blocks = self.blocks.as_ref().expect("laid out where blocks are kept");
        let of_class = &self.classes.all[class];
        let layout = Rc::clone(&blocks.layout);
        if self.needs_care(of_class) {
            bounds.begin_exact(layout, |row| self.key(class, row));
        } else {
            let needs = &self.needs[class];
            bounds.begin(layout, blocks.facts.iter().map(|of| self.upper_key(of_class, needs, of)));
        }
    }

    /// A key that no machine of a block exceeds, for a class as in [`Pass::plain_key`].
    fn upper_key(&self, class: &Class, needs: &ClassNeeds<S::Class>, block: &BlockFacts) -> Key {
        let fits = (block.free_cpu >= needs.cpu)
            & (block.free_ram >= needs.ram)
            & (block.prod_free_cpu >= needs.prod_cpu)
            & (block.prod_free_ram >= needs.prod_ram);
        if !fits {
            return 0;
        }
        let span = if class.demand.prod_limit.is_some() { &block.promised } else { &block.span };
        let (cpu, ram) = span.after(&class.ask);
        let base = self.score.upper(cpu, ram) + ROUNDING;
        let mixing =
            if class.demand.is_prod { block.mixing.for_prod } else { block.mixing.for_others };
        key(self.plain_total(base, mixing), bounds::TIE)
    }

    /// Lays the machines out anew: by shape, then by what is free on them, so that neighbours in both CPU
    /// and RAM are near each other (in the order of Morton's curve).
    pub(super) fn lay_out(&mut self) {
        let rank = |row: usize| {
            let host = &self.snapshot.hosts[row];
            let (free, have) = (&self.rows[row], host.capacity);
            let of = Fractions::from_free(
                [free.free_cpu, free.free_ram],
                [exact(have.cpu), exact(have.ram)],
            );
            u64::from(host.shape) << 32 | interleaved(part(of.free_cpu), part(of.free_ram))
        };
        let layout = Rc::new(Layout::by(self.snapshot.machine_count(), rank));
        let facts = layout
            .blocks()
            .map(|rows| {
                let mut facts = BlockFacts::NOTHING;
                rows.iter().for_each(|&row| self.widen(&mut facts, row as usize));
                facts
            })
            .collect();
        self.blocks = Some(Blocks { layout, facts, made_at: self.journal.len() });
    }

    fn widen(&self, facts: &mut BlockFacts, row: usize) {
        let of = &self.rows[row];
        if of.free_cpu.is_nan() {
            return;
        }
        let host = &self.snapshot.hosts[row];
        facts.free_cpu = facts.free_cpu.max(of.free_cpu);
        facts.free_ram = facts.free_ram.max(of.free_ram);
        facts.prod_free_cpu = facts.prod_free_cpu.max(of.prod_free_cpu);
        facts.prod_free_ram = facts.prod_free_ram.max(of.prod_free_ram);
        facts.mixing.for_prod = facts.mixing.for_prod.max(of.mixing.for_prod);
        facts.mixing.for_others = facts.mixing.for_others.max(of.mixing.for_others);
        let fractions = |free: [f64; 2], capacity: Amounts| {
            Fractions::from_free(free, [exact(capacity.cpu), exact(capacity.ram)])
        };
        facts.span.widen(&fractions([of.free_cpu, of.free_ram], host.capacity));
        if self.keeps_limits_apart() {
            let free = [of.prod_free_cpu, of.prod_free_ram];
            facts.promised.widen(&fractions(free, host.prod_capacity));
        }
    }

    /// Takes a changed row into what is true of its block.
    pub(super) fn widen_block(&mut self, row: usize) {
        if let Some(mut blocks) = self.blocks.take() {
            if row < self.snapshot.machine_count() {
                let block = blocks.layout.block_of(row);
                self.widen(&mut blocks.facts[block], row);
            }
            self.blocks = Some(blocks);
        }
    }

    pub(super) fn renew_blocks(
        &self,
        class: ClassIndex,
        bounds: &mut Bounds,
        rows: impl Iterator<Item = usize>,
    ) {
        let of_class = &self.classes.all[class];
        if self.needs_care(of_class) {
            rows.for_each(|row| bounds.set(row, self.key(class, row), || true));
            return;
        }
        let key = self.plain_keys(class);
        let own = of_class.is_own.then(|| &self.job_states[&of_class.job]);
        // Machines stand on rows of their own.
        let allowed = |row: usize| own.is_none_or(|state| !state.uses_machine(row));
        rows.for_each(|row| bounds.set(row, key(row), || allowed(row)));
    }

    /// The key of a machine's row for a class that needs no care, but for the rows that its job uses.
    fn plain_keys(&self, class: ClassIndex) -> impl Fn(usize) -> Key {
        let (of_class, needs) = (&self.classes.all[class], &self.needs[class]);
        move |row| {
            let (of, tie) = (&self.rows[row], self.row_ties[row]);
            self.plain_key(of_class, needs, of, self.columns_for(of_class, row), tie)
        }
    }

    pub(super) fn best_of_blocks(&self, class: ClassIndex, bounds: &mut Bounds) -> Option<Best> {
        let of_class = &self.classes.all[class];
        if self.needs_care(of_class) {
            return bounds.best(|row| self.key(class, row), |_| true);
        }
        let key = self.plain_keys(class);
        if of_class.is_own {
            let state = &self.job_states[&of_class.job];
            // Machines stand on rows of their own.
            bounds.best(key, |row| !state.uses_machine(row))
        } else {
            bounds.best(key, |_| true)
        }
    }
}

/// A fraction, 0..=1, in 16 bits.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn part(fraction: f64) -> u16 {
    (fraction * f64::from(u16::MAX)) as u16
}

/// The bits of two numbers, one of each in turn.
fn interleaved(a: u16, b: u16) -> u64 {
    let spread = |value: u16| {
        (0..16).fold(0_u64, |bits, bit| bits | u64::from(value >> bit & 1) << (2 * bit))
    };
    spread(a) << 1 | spread(b)
}
