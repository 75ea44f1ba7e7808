//! Which machines to empty, and where their tasks go: greedily, then better.
//!
//! Greedy takes machines in the order of what emptying them costs, and moves each one's tasks, the largest
//! first, to the fullest machine that takes them: all or nothing. The search begins with greedy once more,
//! which now also makes room by moving one task on. It then takes a few emptied machines back and empties
//! others instead, in turn by a small integer program ([`super::milp`]) and by greedy in another order. A plan is kept if it frees more
//! machines, or as many for no more of the limit. All placements are checked on the exact state.

use std::collections::BTreeSet;

use cell::TaskId;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, RngExt};

use super::Limit;
use super::board::{Board, has_room};
use super::milp::{self, Neighbourhood};
use crate::budget::{Budget, Meter};

/// At most so many emptied machines are taken back in a step. Our guess, with the next ones.
const BACK_MAX: usize = 6;

/// At most so many machines are offered to a step's integer program, those taken back among them. On
/// cells of no more machines the program is of the whole cell.
const CANDIDATES: usize = 16;

/// At most so many machines are tried in a step of the other kind.
const TRIED: usize = 24;

/// At most so many ways are looked at to make room for a task by moving one on.
const CHAINS_TRIED: usize = 12;

/// A machine that a plan empties, with the moves that do.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub row: usize,
    /// What the moves take of the limit.
    pub weight: u64,
    pub moves: Vec<(TaskId, usize)>,
}

/// Whether a task may be moved on to make room for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Chains {
    None,
    OfOne,
}

/// Machines that may be emptied by themselves, with what each takes of the limit; the cheapest first.
pub(crate) fn candidates(board: &mut Board<'_>) -> Vec<(u64, usize)> {
    let mut found = Vec::new();
    for row in 0..board.row_count() {
        if is_candidate(board, row) {
            found.push((board.weight_of_row(row), row));
        }
    }
    found.sort_unstable();
    found
}

/// Whether everything on a machine may move at once.
fn is_candidate(board: &Board<'_>, row: usize) -> bool {
    let tasks = board.snapshot().tasks_on(row);
    !tasks.is_empty()
        && tasks.iter().all(|&task| !board.is_fixed(task) && !board.is_moved(task))
        && board.may_disrupt(tasks)
}

/// Moves everything off a machine: to where `hints` say if that fits, else to the fullest that will do.
///
/// # Errors
/// The first task without a place; what was moved before it stays moved.
pub(crate) fn evacuate(
    board: &mut Board<'_>,
    row: usize,
    hints: &[(TaskId, usize)],
    chains: Chains,
) -> Result<(), TaskId> {
    for task in board.largest_first(row) {
        if !board.may_move(task) {
            return Err(task);
        }
        let hint = hints.iter().find(|&&(hinted, _)| hinted == task).map(|&(_, to)| to);
        let hint = hint.filter(|&to| to != row && board.is_in_use(to) && board.takes(task, to));
        let to = hint.or_else(|| board.best_fit(task, &|_, to| to != row));
        match to {
            Some(to) => board.go(task, to),
            None if chains == Chains::OfOne && make_room(board, task, row) => {}
            None => return Err(task),
        }
    }
    Ok(())
}

/// Moves one task of another machine on, and the given one into the room that it leaves. Returns whether
/// that could be done.
fn make_room(board: &mut Board<'_>, task: TaskId, row: usize) -> bool {
    let info = *board.info(task);
    let mut ways: Vec<(u64, f64, usize, TaskId)> = Vec::new();
    for via in (0..board.row_count()).filter(|&via| via != row) {
        if !board.is_in_use(via) || !board.obeys(info.shape, via) {
            continue;
        }
        for &other in board.snapshot().tasks_on(via) {
            let theirs = &board.info(other).demand;
            let mut free = *board.free(via);
            (0..free.len()).for_each(|r| free[r] = free[r].saturating_add(theirs[r]));
            if has_room(&info.demand, &free) && board.may_move(other) {
                ways.push((board.weight(other), board.info(other).size, via, other));
            }
        }
    }
    // Of those that take as little of the limit, small tasks find another place more often.
    ways.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then((a.2, a.3).cmp(&(b.2, b.3))));
    let count = board.steps().len();
    for (_, _, via, other) in ways.into_iter().take(CHAINS_TRIED) {
        if !board.takes_without(task, via, other) {
            continue;
        }
        let Some(to) = board.best_fit(other, &|_, to| to != row && to != via) else { continue };
        board.go(other, to);
        if board.may_move(task) && board.takes(task, via) {
            board.go(task, via);
            return true;
        }
        board.undo_to(count);
    }
    false
}

/// Empties a machine or leaves everything as it was.
fn empty(
    board: &mut Board<'_>,
    row: usize,
    hints: &[(TaskId, usize)],
    chains: Chains,
) -> Option<Group> {
    let count = board.steps().len();
    if !is_candidate(board, row) || board.weight_of_row(row) > board.limit_left() {
        return None;
    }
    if evacuate(board, row, hints, chains).is_err() {
        board.undo_to(count);
        return None;
    }
    let steps = &board.steps()[count..];
    let weight = steps.iter().map(|step| board.weight(step.task)).sum();
    let moves = steps.iter().map(|step| (step.task, step.to)).collect();
    Some(Group { row, weight, moves })
}

/// Empties machines in this order, so far as they can be.
pub(crate) fn greedy(board: &mut Board<'_>, candidates: &[(u64, usize)]) -> Vec<Group> {
    let mut groups = Vec::new();
    for &(weight, row) in candidates {
        if weight > board.limit_left() {
            // All that follow cost as much or more.
            break;
        }
        groups.extend(empty(board, row, &[], Chains::None));
    }
    groups
}

/// As [`greedy`], but a machine that cannot be emptied at once is tried again, by then with room made by
/// moving tasks on, when machines that take as much of the limit come up.
fn greedy_with_chains(board: &mut Board<'_>, candidates: &[(u64, usize)]) -> Vec<Group> {
    let mut queue: BTreeSet<(u64, Chains, usize)> =
        candidates.iter().map(|&(weight, row)| (weight, Chains::None, row)).collect();
    let mut groups = Vec::new();
    while let Some((weight, chains, row)) = queue.pop_first() {
        if weight > board.limit_left() {
            break;
        }
        match (empty(board, row, &[], chains), chains) {
            (Some(group), _) => groups.push(group),
            (None, Chains::None) => {
                // One move more; or, where costs count, one of half of the machine's own. Our guess.
                let more = match board.limit() {
                    Limit::Moves(_) => 1,
                    Limit::Cost(_) => weight / 2 + 1,
                };
                queue.insert((weight + more, Chains::OfOne, row));
            }
            (None, Chains::OfOne) => {}
        }
    }
    groups
}

/// What a search found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Improvement {
    pub groups: Vec<Group>,
    pub failures: Vec<String>,
}

/// Improves greedy's plan, which the board is left with; the board ends with the better plan. Ends early
/// at `bound` machines.
pub(crate) fn improve(
    board: &mut Board<'_>,
    greedy: Vec<Group>,
    candidates: &[(u64, usize)],
    bound: usize,
    budget: Budget,
    meter: &mut Meter,
    random: &mut impl Rng,
) -> Improvement {
    let mut best = Improvement { groups: greedy, failures: Vec::new() };
    let mut best_left = board.limit_left();
    let mut solver = Solver { failures: 0, timeouts: 0, message: String::new() };
    while best.groups.len() < bound && meter.step() {
        let is_small = board.row_count() <= CANDIDATES;
        let back = take_back(&best.groups, if is_small { usize::MAX } else { BACK_MAX }, random);
        let mut groups = if meter.steps() == 1 {
            board.undo_to(0);
            greedy_with_chains(board, candidates)
        } else {
            replay(board, &best.groups, &back)
        };
        // Where the limit is used up, only machines that take less of it than those taken back help.
        let dearest = back.iter().map(|&position| best.groups[position].weight).max();
        let dearest = dearest.filter(|&dearest| best_left < dearest).unwrap_or(u64::MAX);
        let open: Vec<(u64, usize)> =
            candidates.iter().copied().take_while(|&(weight, _)| weight <= dearest).collect();
        if meter.steps().is_multiple_of(2) && solver.failures == 0 {
            let seconds = match budget {
                Budget::Steps(_) => None,
                Budget::Time(time) => Some(time.saturating_sub(meter.elapsed()).as_secs_f64()),
            };
            program(board, &mut groups, &best.groups, &back, &open, seconds, &mut solver, random);
        }
        fill(board, &mut groups, &best.groups, &back, &open, random);
        let left = board.limit_left();
        if (groups.len(), left) >= (best.groups.len(), best_left) {
            best_left = left;
            best.groups = groups;
        } else {
            // The plan that stood is made again, move by move in its order.
            board.undo_to(0);
            for &(task, to) in best.groups.iter().flat_map(|group| &group.moves) {
                board.go(task, to);
            }
        }
    }
    if solver.failures > 0 {
        best.failures.push(format!("the solver failed on a sub-problem: {}", solver.message));
    }
    if solver.timeouts > 0 {
        best.failures.push(format!("{} sub-problems ran out of time", solver.timeouts));
    }
    best
}

struct Solver {
    failures: usize,
    timeouts: usize,
    message: String,
}

/// Which groups to take back, by position in the plan, ascending.
fn take_back(groups: &[Group], most: usize, random: &mut impl Rng) -> Vec<usize> {
    let most = most.min(groups.len());
    let count =
        if most == 0 || most == groups.len() { most } else { random.random_range(1..=most) };
    let mut back: Vec<usize> = rand::seq::index::sample(random, groups.len(), count).into_vec();
    back.sort_unstable();
    back
}

/// Makes a plan anew without some of its groups. Groups that relied on these are dropped as well.
fn replay(board: &mut Board<'_>, groups: &[Group], back: &[usize]) -> Vec<Group> {
    board.undo_to(0);
    let mut kept = Vec::with_capacity(groups.len());
    for (position, group) in groups.iter().enumerate() {
        if back.binary_search(&position).is_ok() {
            continue;
        }
        let count = board.steps().len();
        let mut is_whole = true;
        for &(task, to) in &group.moves {
            is_whole = board.may_move(task) && board.is_in_use(to) && board.takes(task, to);
            if !is_whole {
                board.undo_to(count);
                break;
            }
            board.go(task, to);
        }
        if is_whole {
            kept.push(group.clone());
        }
    }
    kept
}

/// One step by the integer program: some machines that were taken back, and some that never were emptied.
#[expect(clippy::too_many_arguments, reason = "one call, of the search's whole state")]
fn program(
    board: &mut Board<'_>,
    groups: &mut Vec<Group>,
    best: &[Group],
    back: &[usize],
    candidates: &[(u64, usize)],
    seconds: Option<f64>,
    solver: &mut Solver,
    random: &mut impl Rng,
) {
    let mut rows: Vec<usize> = back.iter().map(|&position| best[position].row).collect();
    rows.truncate(CANDIDATES);
    let hosts = back.iter().flat_map(|&position| &best[position].moves).map(|&(_, to)| to);
    let hosts: Vec<usize> = hosts.collect();
    let open = open(board, candidates, &rows);
    while rows.len() < CANDIDATES {
        let Some(row) = near_the_front(&open, &rows, random) else { break };
        rows.push(row);
    }
    rows.sort_unstable();
    let neighbourhood = Neighbourhood { rows: &rows, hosts: &hosts, seconds };
    match milp::solve(board, &neighbourhood, random) {
        Ok(choice) => {
            solver.timeouts += usize::from(choice.is_cut_short);
            for chosen in choice.groups {
                groups.extend(empty(board, chosen.row, &chosen.moves, Chains::OfOne));
            }
        }
        Err(error) => {
            solver.failures += 1;
            solver.message = error.to_string();
        }
    }
}

/// Empties more machines while the limit lasts: those never emptied before those taken back.
fn fill(
    board: &mut Board<'_>,
    groups: &mut Vec<Group>,
    best: &[Group],
    back: &[usize],
    candidates: &[(u64, usize)],
    random: &mut impl Rng,
) {
    let mut again: Vec<usize> = back.iter().map(|&position| best[position].row).collect();
    again.shuffle(random);
    let open = open(board, candidates, &again);
    let mut tried: Vec<usize> = Vec::new();
    while tried.len() < TRIED {
        let Some(row) = near_the_front(&open, &tried, random) else { break };
        tried.push(row);
        groups.extend(empty(board, row, &[], Chains::OfOne));
    }
    for row in again {
        groups.extend(empty(board, row, &[], Chains::OfOne));
    }
}

/// Candidates, cheapest first, that are in use, not among these, and within what is left of the limit.
fn open(board: &Board<'_>, candidates: &[(u64, usize)], without: &[usize]) -> Vec<usize> {
    let left = board.limit_left();
    candidates
        .iter()
        .take_while(|&&(weight, _)| weight <= left)
        .map(|&(_, row)| row)
        .filter(|row| board.is_in_use(*row) && !without.contains(row))
        .collect()
}

/// A random one of those not chosen yet: cheap machines more often.
fn near_the_front(open: &[usize], chosen: &[usize], random: &mut impl Rng) -> Option<usize> {
    for _ in 0..8 {
        let depth = random.random_range(1..=open.len().max(1));
        let row = *open.get(..depth.min(open.len()))?.choose(random)?;
        if !chosen.contains(&row) {
            return Some(row);
        }
    }
    open.iter().copied().find(|row| !chosen.contains(row))
}
