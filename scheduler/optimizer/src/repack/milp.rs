//! Which of a few machines to empty, and where their tasks go: an integer program by kinds of tasks.
//!
//! e(m) is 1 where machine m is emptied, and y(k, h) is how many tasks of kind k go to machine h:
//!
//! - all or nothing: for each kind, the y(k, h) sum up to what the emptied machines have of it;
//! - room: what goes to h fits into what is free there; nothing does if h itself is emptied;
//! - different machines: of each such job at most one task goes to h;
//! - the limit on moves or their cost, and limits on disruption, over all that is emptied.
//!
//! The most machines, and of equals those that take the least of the limit. Each kind is offered a handful
//! of machines, so that the program stays small. What it answers is tried on the exact state, which also
//! knows GPU devices and spread.

use std::collections::{BTreeMap, BTreeSet};

use cell::{JobId, TaskId};
use good_lp::{
    Expression, ProblemVariables, ResolutionError, Solution, SolutionStatus, SolverModel, Variable,
    constraint, solvers::highs::highs, variable,
};
use rand::{Rng, RngExt};

use super::board::{Board, float};
use super::empty::Group;
use crate::model::RESOURCE_COUNT;

/// The fullest machines that will do, for each kind. Our guess, with the next.
const FULLEST: usize = 5;

/// Random machines that will do, for each kind.
const RANDOM: usize = 3;

/// Nodes of the branch and bound: work, so that the answer is the same everywhere.
const NODES: i32 = 200;

/// What a program is of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neighbourhood<'a> {
    /// Machines that may be emptied, ascending.
    pub rows: &'a [usize],
    /// Machines that every kind is offered if they will do.
    pub hosts: &'a [usize],
    /// Wall time at most; `None`: as long as it takes.
    pub seconds: Option<f64>,
}

/// What to empty and how, to be tried.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub groups: Vec<Group>,
    /// Whether the solver stopped before it was sure.
    pub is_cut_short: bool,
}

/// Tasks that the program does not tell apart: of one shape, and of one job where rules of the job or
/// limits on disruption tell jobs apart.
type Kind = (usize, Option<JobId>);

/// Solves the program of a neighbourhood.
///
/// # Errors
/// If the solver fails.
pub(crate) fn solve(
    board: &mut Board<'_>,
    of: &Neighbourhood<'_>,
    random: &mut impl Rng,
) -> Result<Choice, ResolutionError> {
    let mut tasks: BTreeMap<Kind, BTreeMap<usize, Vec<TaskId>>> = BTreeMap::new();
    for &row in of.rows {
        let mut on = board.snapshot().tasks_on(row).to_vec();
        on.sort_unstable();
        for task in on {
            let by_row = tasks.entry(kind(board, task)).or_default();
            by_row.entry(row).or_default().push(task);
        }
    }
    let mut variables = ProblemVariables::new();
    let emptied: BTreeMap<usize, Variable> =
        of.rows.iter().map(|&row| (row, variables.add(variable().binary()))).collect();
    let mut flows: BTreeMap<(Kind, usize), Variable> = BTreeMap::new();
    for (&kind, by_row) in &tasks {
        let count: usize = by_row.values().map(Vec::len).sum();
        let Some(&task) = by_row.values().flatten().next() else { continue };
        for host in hosts(board, task, of, random) {
            let is_alone = by_row.len() == 1 && by_row.contains_key(&host);
            if !is_alone {
                let most = if is_apart(board, task) { 1 } else { count };
                let most = float(i64::try_from(most).unwrap_or(i64::MAX));
                let flow = variables.add(variable().integer().min(0).max(most));
                flows.insert((kind, host), flow);
            }
        }
    }
    let weights: BTreeMap<usize, u64> =
        of.rows.iter().map(|&row| (row, board.weight_of_row(row))).collect();
    // All weights together count for less than a machine.
    let part = 0.5 / unsigned(weights.values().sum::<u64>() + 1);
    let mut objective = Expression::default();
    for (row, &emptied) in &emptied {
        objective.add_mul(1.0 - part * unsigned(weights[row]), emptied);
    }
    let mut problem = variables
        .maximise(objective)
        .using(highs)
        .set_threads(1)
        .set_option("mip_max_nodes", NODES)
        .set_option("random_seed", 1);
    if let Some(seconds) = of.seconds {
        problem = problem.set_time_limit(seconds.max(0.01));
    }

    for (&kind, by_row) in &tasks {
        let mut balance = Expression::default();
        for (row, on) in by_row {
            balance.add_mul(-unsigned(on.len() as u64), emptied[row]);
        }
        for (_, &flow) in flows.range((kind, 0)..=(kind, usize::MAX)) {
            balance.add_mul(1.0, flow);
        }
        problem.add_constraint(constraint!(balance == 0));
    }
    add_room(board, &mut problem, &tasks, &flows, &emptied);
    let mut spent = Expression::default();
    // The limit may be far larger than all that is asked of it.
    let all: u64 = weights.values().sum::<u64>().max(1);
    for (row, &weight) in &weights {
        spent.add_mul(unsigned(weight) / unsigned(all), emptied[row]);
    }
    let most = unsigned(board.limit_left().min(all)) / unsigned(all);
    problem.add_constraint(constraint!(spent <= most + 1e-9));
    add_disruptions(board, &mut problem, of.rows, &emptied);

    let solution = problem.solve()?;
    let chosen: Vec<usize> = emptied
        .iter()
        .filter(|&(_, &emptied)| solution.value(emptied) > 0.5)
        .map(|(&row, _)| row)
        .collect();
    let mut groups: Vec<Group> =
        chosen.iter().map(|&row| Group { row, weight: weights[&row], moves: Vec::new() }).collect();
    for (&kind, by_row) in &tasks {
        let mut targets =
            flows.range((kind, 0)..=(kind, usize::MAX)).flat_map(|(&(_, host), &flow)| {
                let mut count = solution.value(flow).round();
                std::iter::from_fn(move || {
                    count -= 1.0;
                    (count >= 0.0).then_some(host)
                })
            });
        for group in &mut groups {
            for &task in by_row.get(&group.row).map_or(&[][..], Vec::as_slice) {
                group.moves.extend(targets.next().map(|to| (task, to)));
            }
        }
    }
    Ok(Choice { groups, is_cut_short: matches!(solution.status(), SolutionStatus::TimeLimit) })
}

/// Room on each machine that is offered, and that it keeps its tasks if it takes some.
fn add_room(
    board: &Board<'_>,
    problem: &mut impl SolverModel,
    tasks: &BTreeMap<Kind, BTreeMap<usize, Vec<TaskId>>>,
    flows: &BTreeMap<(Kind, usize), Variable>,
    emptied: &BTreeMap<usize, Variable>,
) {
    let mut by_host: BTreeMap<usize, Vec<(Kind, Variable)>> = BTreeMap::new();
    for (&(kind, host), &flow) in flows {
        by_host.entry(host).or_default().push((kind, flow));
    }
    for (host, of) in by_host {
        for r in 0..RESOURCE_COUNT {
            let free = board.free(host)[r];
            let mut used = Expression::default();
            let mut is_asked = false;
            for &(kind, flow) in &of {
                let demand = board.model.tasks[kind.0].demand[r];
                if demand > 0 && free > 0 && free < i64::MAX {
                    used.add_mul(unsigned(demand) / float(free), flow);
                    is_asked = true;
                }
            }
            if is_asked {
                problem.add_constraint(constraint!(used <= 1));
            }
        }
        let count = |kind: &Kind| tasks[kind].values().map(Vec::len).sum::<usize>() as u64;
        if let Some(&emptied) = emptied.get(&host) {
            let all: u64 = of.iter().map(|(kind, _)| count(kind)).sum::<u64>().max(1);
            let mut sum = Expression::default();
            of.iter().for_each(|&(_, flow)| sum.add_mul(1.0 / unsigned(all), flow));
            sum.add_mul(1.0, emptied);
            problem.add_constraint(constraint!(sum <= 1));
        }
        let mut of_job: BTreeMap<JobId, Expression> = BTreeMap::new();
        for &(kind, flow) in &of {
            if let Some(job) = kind.1.filter(|&job| board.cell.job(job).different_machines) {
                of_job.entry(job).or_default().add_mul(1.0, flow);
            }
        }
        for (_, sum) in of_job {
            problem.add_constraint(constraint!(sum <= 1));
        }
    }
}

/// Limits on disruption, over what is emptied.
fn add_disruptions(
    board: &Board<'_>,
    problem: &mut impl SolverModel,
    rows: &[usize],
    emptied: &BTreeMap<usize, Variable>,
) {
    let mut by_limit: BTreeMap<usize, BTreeMap<usize, u64>> = BTreeMap::new();
    for &row in rows {
        for task in board.snapshot().tasks_on(row) {
            for &limit in board.disruptions().limits(task.job) {
                *by_limit.entry(limit).or_default().entry(row).or_default() += 1;
            }
        }
    }
    for (limit, by_row) in by_limit {
        let mut sum = Expression::default();
        let all: u64 = by_row.values().sum();
        by_row.iter().for_each(|(row, &count)| sum.add_mul(unsigned(count), emptied[row]));
        let left = unsigned(board.disruptions().all_left()[limit].min(all));
        problem.add_constraint(constraint!(sum <= left));
    }
}

fn kind(board: &Board<'_>, task: TaskId) -> Kind {
    let is_alike = !is_apart(board, task)
        && board.cell.job(task.job).spread.is_empty()
        && board.disruptions().limits(task.job).is_empty();
    (board.info(task).shape, (!is_alike).then_some(task.job))
}

fn is_apart(board: &Board<'_>, task: TaskId) -> bool {
    board.cell.job(task.job).different_machines
}

/// The machines that a kind is offered, ascending: given the first of its tasks.
fn hosts(
    board: &mut Board<'_>,
    task: TaskId,
    of: &Neighbourhood<'_>,
    random: &mut impl Rng,
) -> BTreeSet<usize> {
    let info = *board.info(task);
    let from = board.snapshot().placement(task).map(|placement| placement.row);
    let mut will_do: Vec<usize> = (0..board.row_count())
        .filter(|&row| board.may_fit(&info, row) && board.is_in_use(row))
        .collect();
    // Where the first of its tasks runs, another of them may go, unless they keep apart.
    let is_alike = !is_apart(board, task);
    let takes = |board: &mut Board<'_>, row: usize| {
        (from == Some(row) && is_alike) || board.takes(task, row)
    };
    if will_do.len() <= 2 * (FULLEST + RANDOM) {
        will_do.retain(|&row| takes(board, row));
        return will_do.into_iter().collect();
    }
    let mut chosen: BTreeSet<usize> = BTreeSet::new();
    for &host in of.hosts {
        if board.may_fit(&info, host) && board.is_in_use(host) && takes(board, host) {
            chosen.insert(host);
        }
    }
    let offered = |row: &usize| of.rows.binary_search(row).is_err();
    will_do.retain(offered);
    for _ in 0..RANDOM {
        if will_do.is_empty() {
            break;
        }
        let row = will_do[random.random_range(0..will_do.len())];
        if takes(board, row) {
            chosen.insert(row);
        }
    }
    will_do.sort_by(|&a, &b| board.left(a).total_cmp(&board.left(b)).then_with(|| a.cmp(&b)));
    let mut found = 0;
    for row in will_do {
        if found == FULLEST {
            break;
        }
        if takes(board, row) {
            found += usize::from(chosen.insert(row));
        }
    }
    chosen
}

#[expect(clippy::cast_precision_loss, reason = "a solver computes in floats")]
fn unsigned(amount: u64) -> f64 {
    amount as f64
}
