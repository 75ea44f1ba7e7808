//! Where one task costs least: on the tightest machine that has room for it, or, where none has, on the one
//! where the tasks that have to leave matter least.
//!
//! A task's worth is no less than any of its charges is of the mean machine, so that what a machine lacks of
//! a resource bounds from below what has to leave it. Machines are looked at in the order of that bound, and
//! only as long as one could be better than the best so far; so the best of them all is found by looking at a
//! few. On a machine the victims are the best of three choices: one or two or three that do by themselves, or
//! all of lower priority less those that can be spared, the most important spared first.

use cell::TaskId;

use crate::objective::level;
use crate::state::{Signed, State, fits, give_back, take};

/// A place for a task, and who leaves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Insertion {
    pub row: usize,
    pub victims: Vec<TaskId>,
    pub cost: Cost,
}

/// What an insertion costs; compared from the first field on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cost {
    /// Worth of the victims by level, 40 bits each, the highest in front.
    worth: u128,
    /// Work that they lose.
    lost: u64,
    victims: usize,
    /// What is left of the machine, in millionths of the mean one.
    leftover: u64,
}

/// Machines at which the search for victims looks at most, of those where the bound promises most.
const LOOKS_MAX: usize = 300;

/// Pairs and triples of victims are tried among so many.
const PAIRS_AMONG: usize = 40;
const TRIPLES_AMONG: usize = 14;

/// The places for a task that cost least, at most `most` of them, the best first.
pub(crate) fn insertions(
    state: &mut State<'_, '_>,
    task: TaskId,
    most: usize,
    may_evict: bool,
) -> Vec<Insertion> {
    let charge = state.charged(task);
    let mean = state.objective.mean();
    let mut found: Vec<Insertion> = Vec::new();
    // By room alone: a scan, then the rules of the tightest.
    let mut tight: Vec<(u64, usize)> = state
        .rooms()
        .enumerate()
        .filter(|(_, (room, _))| fits(&charge, room))
        .map(|(row, (room, _))| (leftover(&charge, room, &mean), row))
        .collect();
    tight.sort_unstable();
    for (leftover, row) in tight {
        if found.len() == most {
            break;
        }
        if state.has_room(task, row, &[]) && state.obeys_rules(task, row) {
            let cost = Cost { leftover, ..Cost::default() };
            found.push(Insertion { row, victims: Vec::new(), cost });
        }
    }
    if found.len() == most || !may_evict {
        return found;
    }
    let mut bounds: Vec<(u64, usize)> = state
        .rooms()
        .enumerate()
        .filter(|(_, (room, evictable))| {
            let mut at_most = **room;
            give_back(&mut at_most, evictable);
            fits(&charge, &at_most) && !fits(&charge, room)
        })
        .map(|(row, (room, _))| (lacking(&charge, room, &mean), row))
        .collect();
    if bounds.len() > LOOKS_MAX {
        bounds.select_nth_unstable(LOOKS_MAX);
        bounds.truncate(LOOKS_MAX);
    }
    bounds.sort_unstable();
    for (bound, row) in bounds {
        let is_full = found.len() == most;
        if is_full && found.last().is_some_and(|worst| worst.cost.worth < u128::from(bound)) {
            break;
        }
        let Some((victims, cost)) = victims_on(state, task, &charge, row) else { continue };
        if is_full && found.last().is_some_and(|worst| worst.cost <= cost) {
            continue;
        }
        // Victims are of lower priority, so of other jobs: the rules of the task's own do not see them.
        if state.has_room(task, row, &victims) && state.obeys_rules(task, row) {
            let at = found.partition_point(|other| other.cost <= cost);
            found.insert(at, Insertion { row, victims, cost });
            found.truncate(most);
        }
    }
    found
}

/// Who has to leave a row, and what that costs.
fn victims_on(
    state: &State<'_, '_>,
    task: TaskId,
    charge: &Signed,
    row: usize,
) -> Option<(Vec<TaskId>, Cost)> {
    let priority = state.priority(task);
    let mut candidates: Vec<(TaskId, Signed, Cost)> = state
        .snapshot()
        .tasks_on(row)
        .iter()
        .filter(|&&other| state.may_evict(other, priority))
        .map(|&other| (other, state.charged(other), cost_of(state, other)))
        .collect();
    let room = *state.room(row);
    let mut at_most = room;
    candidates.iter().for_each(|(_, charge, _)| give_back(&mut at_most, charge));
    if !fits(charge, &at_most) {
        return None;
    }
    // The most important in front.
    candidates.sort_unstable_by(|a, b| b.2.cmp(&a.2).then(a.0.cmp(&b.0)));
    let mut best: Option<(Vec<usize>, Cost)> = None;
    let mut consider = |positions: &[usize]| {
        let mut cost = Cost::default();
        positions.iter().for_each(|&position| cost.add(&candidates[position].2));
        if best.as_ref().is_none_or(|(_, least)| cost < *least) {
            best = Some((positions.to_vec(), cost));
        }
    };
    let with = |room: &Signed, position: usize| {
        let mut room = *room;
        give_back(&mut room, &candidates[position].1);
        room
    };
    let mut spared = at_most;
    let mut leaving = Vec::new();
    for (position, (_, theirs, _)) in candidates.iter().enumerate() {
        let mut kept = spared;
        take(&mut kept, theirs);
        if fits(charge, &kept) { spared = kept } else { leaving.push(position) }
    }
    consider(&leaving);
    for a in 0..candidates.len() {
        let one = with(&room, a);
        if fits(charge, &one) {
            consider(&[a]);
        } else if candidates.len() <= PAIRS_AMONG {
            for b in a + 1..candidates.len() {
                let two = with(&one, b);
                if fits(charge, &two) {
                    consider(&[a, b]);
                } else if candidates.len() <= TRIPLES_AMONG {
                    for c in b + 1..candidates.len() {
                        if fits(charge, &with(&two, c)) {
                            consider(&[a, b, c]);
                        }
                    }
                }
            }
        }
    }
    let (positions, cost) = best?;
    let mut of_job: std::collections::BTreeMap<cell::JobId, u64> =
        std::collections::BTreeMap::new();
    for &position in &positions {
        let victim = candidates[position].0;
        if state.is_at_home(victim) {
            let count = of_job.entry(victim.job).or_default();
            *count += 1;
            if *count > state.disruptions().left(victim.job) {
                return None;
            }
        }
    }
    Some((positions.into_iter().map(|position| candidates[position].0).collect(), cost))
}

fn cost_of(state: &State<'_, '_>, victim: TaskId) -> Cost {
    let is_at_home = state.is_at_home(victim);
    let level = u32::try_from(level(state.objective.priority(victim))).unwrap_or(4).max(2);
    Cost {
        worth: u128::from(state.objective.worth(victim)) << (40 * (4 - level)),
        lost: if is_at_home { state.objective.lost(victim) } else { 0 },
        victims: usize::from(is_at_home),
        leftover: 0,
    }
}

impl Cost {
    fn add(&mut self, other: &Self) {
        self.worth += other.worth;
        self.lost = self.lost.saturating_add(other.lost);
        self.victims += other.victims;
    }
}

/// The least that tasks are worth whose leaving makes up for what a machine lacks.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a machine")]
#[expect(clippy::cast_precision_loss, reason = "a bound, with room for rounding")]
fn lacking(charge: &Signed, room: &Signed, mean: &[f64; 4]) -> u64 {
    let of = |r: usize| {
        if charge[r] > 0 && mean[r] > 0.0 && room[r] != i64::MAX {
            ((charge[r] - room[r]) as f64 / mean[r]).max(0.0)
        } else {
            0.0
        }
    };
    // 1/100 of 1/1000 machine; a task's share is rounded up.
    let most = (0..4).map(of).fold(0.0, f64::max) * 100_000.0;
    most as u64
}

/// What is left of a machine's CPU, RAM and GPU once a task is there, in millionths of the mean machine.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a machine")]
#[expect(clippy::cast_precision_loss, reason = "to rank machines")]
fn leftover(charge: &Signed, room: &Signed, mean: &[f64; 4]) -> u64 {
    let of = |r: usize| {
        if mean[r] > 0.0 { (room[r] - charge[r]).max(0) as f64 / mean[r] } else { 0.0 }
    };
    ((of(0) + of(1) + of(3)) * 1e6) as u64
}
