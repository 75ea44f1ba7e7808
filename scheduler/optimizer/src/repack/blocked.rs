//! Why machines could not be emptied.

use std::collections::BTreeMap;

use cell::TaskId;

use super::Limit;
use super::board::Board;
use super::empty::{Chains, evacuate};
use crate::model::RESOURCE_COUNT;

/// The resources whose lack is named, as in [`crate::model::RESOURCES`].
const LACK: [&str; RESOURCE_COUNT] = [
    "no room (cpu)",
    "no room (ram)",
    "no room (disk)",
    "no room (gpu)",
    "no room (production cpu)",
    "no room (production ram)",
];

/// How many machines that still host something each group of constraints keeps from being emptied, after
/// the plan. A machine counts for the first that holds, in this order: allocs and tied tasks, tasks that
/// the plan moved there, disruption limits, the place that its largest task without one lacks, and then
/// the limit on moves or their cost.
pub(crate) fn blocked(board: &mut Board<'_>) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for row in 0..board.row_count() {
        if board.is_in_use(row) {
            *counts.entry(reason(board, row)).or_default() += 1;
        }
    }
    counts
}

/// The same for stranded resources, task by task: what cannot move at all, and what gains nothing by it.
pub(crate) fn blocked_tasks(board: &Board<'_>) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for row in 0..board.row_count() {
        for &task in board.snapshot().tasks_on(row) {
            let group = if board.is_fixed(task) {
                "allocs and tied tasks"
            } else if board.disruptions().left(task.job) == 0 {
                "disruption limits"
            } else if board.weight(task) > board.limit_left() {
                "the limit"
            } else {
                "no room where anything is gained"
            };
            *counts.entry(group).or_default() += 1;
        }
    }
    counts
}

fn reason(board: &mut Board<'_>, row: usize) -> &'static str {
    let tasks = board.snapshot().tasks_on(row).to_vec();
    if tasks.iter().any(|&task| board.is_fixed(task)) {
        return "allocs and tied tasks";
    }
    if tasks.iter().any(|&task| board.is_moved(task)) {
        return "tasks that the plan moved there";
    }
    if !board.may_disrupt(&tasks) {
        return "disruption limits";
    }
    let limit = board.limit();
    board.set_limit(Limit::Moves(usize::MAX));
    let count = board.steps().len();
    let is_free = spread_out(board, row);
    board.undo_to(count);
    let stuck = if is_free { None } else { evacuate(board, row, &[], Chains::None).err() };
    let reason = stuck.map(|task| lack(board, task, row));
    board.undo_to(count);
    board.set_limit(limit);
    reason.unwrap_or(match limit {
        Limit::Moves(_) => "the limit on moves",
        Limit::Cost(_) => "the limit on their cost",
    })
}

/// Moves everything off a machine to the first that takes it; returns whether that went well. Quicker than
/// looking for the fullest, for the many machines that only the limit keeps in use.
fn spread_out(board: &mut Board<'_>, from: usize) -> bool {
    for task in board.largest_first(from) {
        let info = *board.info(task);
        let to = (0..board.row_count()).find(|&row| {
            row != from
                && board.may_fit(&info, row)
                && board.is_in_use(row)
                && board.takes(task, row)
        });
        let Some(to) = to else { return false };
        board.go(task, to);
    }
    true
}

/// What keeps every other machine in use from taking a task.
fn lack(board: &mut Board<'_>, task: TaskId, from: usize) -> &'static str {
    let info = *board.info(task);
    let mut short = [0_usize; RESOURCE_COUNT];
    let (mut others, mut obeying, mut roomy) = (0_usize, 0_usize, 0_usize);
    for row in (0..board.row_count()).filter(|&row| row != from && board.is_in_use(row)) {
        others += 1;
        if !board.obeys(info.shape, row) {
            continue;
        }
        obeying += 1;
        let free = board.free(row);
        let lacks = (0..RESOURCE_COUNT).find(|&r| info.demand[r] > 0 && info.demand[r] > free[r]);
        match lacks {
            Some(r) => short[r] += 1,
            None => roomy += 1,
        }
    }
    let job = board.cell.job(task.job);
    if others == 0 {
        "no other machine in use"
    } else if obeying == 0 {
        "constraints on attributes"
    } else if roomy > 0 && job.different_machines {
        "different machines"
    } else if roomy > 0 && !board.cell.task(task).avoid.is_empty() {
        "machines it crashed on"
    } else if roomy > 0 && !job.spread.is_empty() {
        "limits on spread"
    } else {
        // The scarcest; where devices are too scattered amounts say nothing, and it is GPUs.
        let most = (0..RESOURCE_COUNT).max_by_key(|&r| (short[r], std::cmp::Reverse(r)));
        LACK[if roomy > 0 { 3 } else { most.unwrap_or(0) }]
    }
}
