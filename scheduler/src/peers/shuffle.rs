//! Machines in a random order: visited until enough were feasible, each decision in an order of its own.
//!
//! No table of scores is kept: so few machines are looked at that scoring them is cheaper.

use std::collections::BTreeSet;

use cell::{JobId, TaskId};

use crate::equivalence::{ClassIndex, mix};
use crate::feasible::soft_satisfied;
use crate::pass::Pass;
use crate::peers::nomad;
use crate::score::RowScore;
use crate::table::{Best, score_of};

/// How many feasible machines are enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The first one.
    First,
    /// As many as Nomad looks at, with its final score and its skipping, see [`super::nomad`].
    Nomad,
}

/// Of the machines that Nomad visits, so many with a score of 0 or less are set aside (`maxSkip`).
const SKIP_MAX: usize = 3;

/// Draws machines without putting them back. A new draw need not restore the order: what is drawn from
/// any order by chance alone is as random as from the first.
#[derive(Clone, Debug)]
pub(crate) struct Shuffle {
    rows: Vec<usize>,
    drawn_count: usize,
    state: u64,
    /// Classes that found no feasible machine; until something leaves, they will find none.
    barren: BTreeSet<ClassIndex>,
}

impl Shuffle {
    pub(crate) fn of(machine_count: usize) -> Self {
        Self {
            rows: (0..machine_count).collect(),
            drawn_count: 0,
            state: 0,
            barren: BTreeSet::new(),
        }
    }

    /// To be told when a task leaves a machine.
    pub(crate) fn something_left(&mut self) {
        self.barren.clear();
    }

    /// Puts all machines back, and draws by this seed from now on.
    fn begin(&mut self, seed: u64) {
        (self.drawn_count, self.state) = (0, seed);
    }

    /// The next machine; `None` once all were drawn.
    fn next(&mut self) -> Option<usize> {
        let at = self.drawn_count;
        let left = self.rows.len() - at;
        if left == 0 {
            return None;
        }
        self.state = mix(self.state);
        // The modulus prefers low numbers by less than 2^-49 for 2^15 machines.
        let offset = usize::try_from(self.state % left as u64).unwrap_or(0);
        self.rows.swap(at, at + offset);
        self.drawn_count += 1;
        Some(self.rows[at])
    }
}

/// The host for a task, among the machines that its policy looks at.
pub(crate) fn choose<S: RowScore>(
    pass: &mut Pass<'_, '_, S>,
    class: ClassIndex,
    task: TaskId,
    limit: Limit,
) -> Option<Best> {
    if pass.shuffle.barren.contains(&class) {
        return None;
    }
    let seed = pass.draw();
    let mut shuffle = std::mem::replace(&mut pass.shuffle, Shuffle::of(0));
    shuffle.begin(seed);
    let mut feasible = std::iter::from_fn(|| shuffle.next())
        .map(|row| Best { row, key: pass.key(class, row) })
        .filter(|best| best.key != 0);
    let best = match limit {
        Limit::First => feasible.next(),
        Limit::Nomad => by_nomad(pass, class, task.job, feasible),
    };
    if best.is_none() {
        shuffle.barren.insert(class);
    }
    pass.shuffle = shuffle;
    best
}

fn by_nomad<S: RowScore>(
    pass: &Pass<'_, '_, S>,
    class: ClassIndex,
    id: JobId,
    feasible: impl Iterator<Item = Best>,
) -> Option<Best> {
    let of_class = pass.class(class);
    let job = pass.snapshot.cell.job(id);
    let has_affinities = job.constraints.iter().any(|constraint| !constraint.is_hard());
    let is_wide = has_affinities || !job.spread.is_empty();
    let enough = nomad::limit(
        pass.snapshot.machine_count(),
        of_class.demand.is_prod,
        is_wide.then_some(job.tasks.len()),
    );
    let scored = feasible.map(|best| {
        let host = &pass.snapshot.hosts[best.row];
        let collision_count = host.tasks.iter().filter(|task| task.job == id).count();
        let machine = pass.snapshot.cell.machine(host.slot.machine);
        let affinity = if has_affinities {
            soft_satisfied(&job.constraints, &machine.attributes)
        } else {
            0.0
        };
        let fit = score_of(best.key);
        (nomad::final_score(fit, collision_count, job.tasks.len(), affinity), best)
    });
    best_of(scored, enough).map(|(_, best)| best)
}

/// The first of the best among so many options. Up to [`SKIP_MAX`] options that score 0 or less are set
/// aside at first, and fill what is missing when the others have run out.
fn best_of<T: Copy>(options: impl Iterator<Item = (f64, T)>, enough: usize) -> Option<(f64, T)> {
    let mut skipped: Vec<(f64, T)> = Vec::new();
    let mut best: Option<(f64, T)> = None;
    let mut seen_count = 0;
    let take = |option: (f64, T), best: &mut Option<(f64, T)>| {
        if best.is_none_or(|(score, _)| option.0 > score) {
            *best = Some(option);
        }
    };
    for option in options {
        if option.0 <= 0.0 && skipped.len() < SKIP_MAX {
            skipped.push(option);
            continue;
        }
        take(option, &mut best);
        seen_count += 1;
        if seen_count == enough {
            return best;
        }
    }
    for option in skipped.into_iter().take(enough - seen_count) {
        take(option, &mut best);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_is_drawn_once_and_by_the_seed_alone() {
        let draw = |shuffle: &mut Shuffle, seed| {
            shuffle.begin(seed);
            std::iter::from_fn(|| shuffle.next()).collect::<Vec<_>>()
        };
        let mut shuffle = Shuffle::of(100);
        let first = draw(&mut shuffle, 7);
        let second = draw(&mut shuffle, 8);
        assert_ne!(first, second);
        for mut rows in [first.clone(), second] {
            rows.sort_unstable();
            assert_eq!(rows, (0..100).collect::<Vec<_>>());
        }
        assert_eq!(draw(&mut Shuffle::of(100), 7), first);
        assert!(draw(&mut Shuffle::of(0), 7).is_empty());
    }

    #[test]
    fn each_machine_is_as_likely_to_be_the_first() {
        let mut counts = [0; 5];
        let mut shuffle = Shuffle::of(5);
        for seed in 0..10_000 {
            shuffle.begin(mix(seed));
            counts[shuffle.next().unwrap()] += 1;
        }
        // 2,000 expected, standard deviation √(10,000 · 0.2 · 0.8) = 40.
        assert!(counts.iter().all(|count| (1800..2200).contains(count)), "{counts:?}");
    }

    #[test]
    fn poor_options_are_set_aside_until_the_others_run_out() {
        let check = |scores: &[f64], enough, expected: Option<usize>| {
            let options = scores.iter().copied().zip(0..);
            assert_eq!(best_of(options, enough).map(|(_, at)| at), expected, "{scores:?}");
        };
        check(&[0.5, 0.7, 0.9], 2, Some(1)); // the third is not looked at
        check(&[0.5, 0.5], 2, Some(0)); // the first of equals
        check(&[-0.1, 0.0, -0.2, 0.3, 0.2], 2, Some(3)); // three set aside
        check(&[-0.1, 0.0, -0.2, -0.3, 0.2], 2, Some(4)); // the fourth counts
        check(&[-0.1, 0.0, -0.2, -0.3, -0.4, 0.2], 2, Some(3)); // and so does the fifth
        check(&[-0.2, -0.1], 2, Some(1)); // they come back
        check(&[-0.2, -0.1], 1, Some(0)); // as many as are enough
        check(&[-0.2, 0.1], 2, Some(1));
        check(&[], 2, None);
    }
}
