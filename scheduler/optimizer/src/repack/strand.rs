//! Fewer stranded resources: one move after another, each the one that sets most free.
//!
//! A machine's stranded resources are the free fraction of each above the least free fraction of any
//! (as in [`fauxmaster::stranding`]), times what it has of the resource, counted in mean machines. What a
//! move gains is what leaving takes off its machine plus what coming takes off the other: two terms, each
//! of one machine, so that tasks of one shape share a short list of the best machines to go to, and keep a
//! sorted list of where they gain most by leaving. Only the lists of two machines change with each move.

use std::collections::{BTreeMap, BTreeSet};

use cell::TaskId;

use super::Limit;
use super::board::{Board, float, has_room};
use crate::model::RESOURCE_COUNT;

/// Gains are whole numbers of these parts of the mean machine, so that they are sorted exactly.
pub(crate) const PARTS: f64 = 1e9;

/// A move that gains less is not worth it: a millionth of a machine. Our guess.
const GAIN_MIN: i64 = 1000;

/// Length of a shape's list of machines to go to. More only makes it longer to keep.
const LISTED: usize = 16;

/// How many of a shape's tasks are looked at for one move.
const TASKS_TRIED: usize = 8;

/// The stranded resources of a machine, in parts of the mean machine.
pub(crate) fn stranded(board: &Board<'_>, row: usize) -> i64 {
    stranded_with(board, row, board.free(row))
}

fn stranded_with(board: &Board<'_>, row: usize, free: &[i64; RESOURCE_COUNT]) -> i64 {
    let capacity = board.capacity(row);
    let mut fractions = [0.0; 4];
    let mut least = 1.0_f64;
    for r in 0..4 {
        if capacity[r] > 0.0 {
            fractions[r] = (float(free[r]) / capacity[r]).clamp(0.0, 1.0);
            least = least.min(fractions[r]);
        }
    }
    let per_mean = board.per_mean();
    let sum: f64 = (0..4)
        .filter(|&r| capacity[r] > 0.0)
        .map(|r| (fractions[r] - least) * capacity[r] * per_mean[r])
        .sum();
    parts(sum)
}

/// What a machine's stranded resources change by if its free room changes by a task.
fn gain(board: &Board<'_>, row: usize, demand: &[i64; RESOURCE_COUNT], is_leaving: bool) -> i64 {
    let mut free = *board.free(row);
    for r in 0..RESOURCE_COUNT {
        if free[r] != i64::MAX {
            free[r] += if is_leaving { demand[r] } else { -demand[r] };
        }
    }
    stranded(board, row) - stranded_with(board, row, &free)
}

/// A shape of tasks: where they are, and where they would go.
struct Shape {
    demand: [i64; RESOURCE_COUNT],
    /// Tasks by what leaving gains.
    sources: BTreeSet<(i64, TaskId)>,
    /// The machines where coming gains most, best first.
    targets: Vec<(i64, usize)>,
    /// No machine that is not listed gains more than this.
    rest: i64,
}

/// Moves tasks while that sets resources free and the limit lasts; returns what each move gained, in parts
/// of the mean machine.
pub(crate) fn descend(board: &mut Board<'_>) -> Vec<i64> {
    let mut shapes: Vec<Shape> = board
        .model
        .tasks
        .iter()
        .map(|task| Shape {
            demand: task.demand.map(|amount| i64::try_from(amount).unwrap_or(i64::MAX)),
            sources: BTreeSet::new(),
            targets: Vec::new(),
            rest: i64::MIN,
        })
        .collect();
    let mut leaving: BTreeMap<TaskId, i64> = BTreeMap::new();
    for row in 0..board.row_count() {
        list_sources(board, &mut shapes, &mut leaving, row);
    }
    for (number, shape) in shapes.iter_mut().enumerate() {
        list_targets(board, number, shape);
    }
    let mut gains = Vec::new();
    while let Some((task, to)) = best_move(board, &mut shapes) {
        let from = board.snapshot().placement(task).map_or(to, |placement| placement.row);
        let before = stranded(board, from) + stranded(board, to);
        board.go(task, to);
        gains.push(before - stranded(board, from) - stranded(board, to));
        for row in [from, to] {
            list_sources(board, &mut shapes, &mut leaving, row);
            for (number, shape) in shapes.iter_mut().enumerate() {
                renew_target(board, number, shape, row);
            }
        }
        if let Some(gain) = leaving.remove(&task) {
            shapes[board.info(task).shape].sources.remove(&(gain, task));
        }
    }
    gains
}

/// Lists what leaving gains for each task on a machine that may move.
fn list_sources(
    board: &Board<'_>,
    shapes: &mut [Shape],
    leaving: &mut BTreeMap<TaskId, i64>,
    row: usize,
) {
    for &task in board.snapshot().tasks_on(row) {
        let info = board.info(task);
        if board.is_fixed(task) || board.is_moved(task) {
            continue;
        }
        let shape = &mut shapes[info.shape];
        let now = gain(board, row, &info.demand, true);
        if let Some(was) = leaving.insert(task, now) {
            shape.sources.remove(&(was, task));
        }
        shape.sources.insert((now, task));
    }
}

/// What coming to a machine gains, if it has room and is in use.
fn coming(board: &Board<'_>, number: usize, shape: &Shape, row: usize) -> Option<i64> {
    let takes = has_room(&shape.demand, board.free(row))
        && board.is_in_use(row)
        && board.obeys(number, row);
    takes.then(|| gain(board, row, &shape.demand, false))
}

fn list_targets(board: &Board<'_>, number: usize, shape: &mut Shape) {
    let mut all: Vec<(i64, usize)> = (0..board.row_count())
        .filter_map(|row| coming(board, number, shape, row).map(|gain| (gain, row)))
        .collect();
    let best_first = |a: &(i64, usize), b: &(i64, usize)| b.0.cmp(&a.0).then(a.1.cmp(&b.1));
    shape.rest = i64::MIN;
    if all.len() > LISTED {
        all.select_nth_unstable_by(LISTED, best_first);
        shape.rest = all[LISTED].0;
        all.truncate(LISTED);
    }
    all.sort_unstable_by(best_first);
    shape.targets = all;
}

fn renew_target(board: &Board<'_>, number: usize, shape: &mut Shape, row: usize) {
    if shape.sources.is_empty() {
        return;
    }
    shape.targets.retain(|&(_, listed)| listed != row);
    if let Some(gain) = coming(board, number, shape, row)
        && gain >= shape.rest
    {
        let at = shape.targets.partition_point(|&(g, r)| (g, row) > (gain, r));
        shape.targets.insert(at, (gain, row));
    }
    if shape.targets.is_empty() && shape.rest > i64::MIN {
        list_targets(board, number, shape);
    }
}

/// The move that gains most, or under a limit on cost most for what it costs; the first of equals.
fn best_move(board: &mut Board<'_>, shapes: &mut [Shape]) -> Option<(TaskId, usize)> {
    let mut best: Option<(i128, u64, TaskId, usize)> = None;
    for shape in shapes.iter() {
        let Some(&(most, first)) = shape.sources.last() else { continue };
        let Some(&(target, _)) = shape.targets.first() else { continue };
        let weight = board.weight(first);
        // Gains compared over weights, crosswise.
        let is_more = |gain: i64, best: &Option<(i128, u64, TaskId, usize)>| {
            best.as_ref().is_none_or(|&(than, than_weight, _, _)| {
                i128::from(gain) * i128::from(than_weight) > than * i128::from(weight)
            })
        };
        if most + target < GAIN_MIN || !is_more(most + target, &best) {
            continue;
        }
        for &(leaving, task) in shape.sources.iter().rev().take(TASKS_TRIED) {
            if leaving + target < GAIN_MIN || !is_more(leaving + target, &best) {
                break;
            }
            if !board.may_move(task) {
                continue;
            }
            let found = shape
                .targets
                .iter()
                .take_while(|&&(coming, _)| leaving + coming >= GAIN_MIN)
                .find(|&&(_, row)| board.takes(task, row));
            if let Some(&(coming, row)) = found
                && is_more(leaving + coming, &best)
            {
                best = Some((i128::from(leaving + coming), weight, task, row));
            }
        }
    }
    best.map(|(_, _, task, row)| (task, row))
}

/// The most that so many moves could set free, in parts of the mean machine: each changes two machines,
/// and can do no more than leave nothing stranded there.
pub(crate) fn most_to_gain(board: &Board<'_>) -> i64 {
    let mut all: Vec<i64> = (0..board.row_count()).map(|row| stranded(board, row)).collect();
    all.sort_unstable_by(|a, b| b.cmp(a));
    let cheapest = || {
        let tasks = (0..board.row_count()).flat_map(|row| board.snapshot().tasks_on(row));
        tasks.map(|&task| board.info(task).cost).min().unwrap_or(1)
    };
    let moves = match board.limit() {
        Limit::Moves(moves) => moves,
        Limit::Cost(cost) => usize::try_from(cost / cheapest()).unwrap_or(usize::MAX),
    };
    all.into_iter().take(moves.saturating_mul(2)).sum()
}

#[expect(clippy::cast_possible_truncation, reason = "a few machines, in billionths")]
fn parts(machines: f64) -> i64 {
    (machines * PARTS).round() as i64
}
