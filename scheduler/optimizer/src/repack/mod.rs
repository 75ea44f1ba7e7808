//! Defragmentation of a running cell: which migrations free the most whole machines, or set the most
//! stranded resources free.
//!
//! In: a state of a cell (recorded, or packed from scratch), a limit on moves or on their cost. Out: moves
//! in an order in which every step fits while the task is still at its old place, so that it may be
//! started at the new one first; and bounds on what any plan could gain. No task moves twice, limits on
//! disruption count the whole plan as one moment, and a machine on which nothing runs takes nothing.
//! Allocs, what runs in them, tasks tied to their machine and tasks out of sight stay. A recorded state may
//! be over-committed: machines may be emptied all the same, and take only what fits.
//!
//! A cluster of Kubernetes' objects is moved by Borg's terms: capacity, hard constraints on attributes,
//! disruption budgets. Affinities and taints beyond these are not looked at.

mod blocked;
mod board;
mod bound;
mod empty;
mod milp;
mod strand;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, ensure};
use cell::{JobKind, TaskId};
use fauxmaster::workload::{Purpose, generator};
use fauxmaster::{PackOptions, pack, stranding};
use rand::seq::SliceRandom;
use scheduler::{Draft, Slot, Snapshot};
use traces::Trace;

use crate::budget::Budget;
use crate::report::{MoveReport, RepackReport, StateReport};
use board::Board;

/// What moves are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Whole machines that host nothing afterwards, beside those that did not before.
    Machines,
    /// Less that is stranded: on each machine what is free of a resource above the least free fraction.
    Stranded,
}

impl Goal {
    /// Its name: `machines` or `stranded`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Machines => "machines",
            Self::Stranded => "stranded",
        }
    }
}

/// How much may be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// So many moves.
    Moves(usize),
    /// Moves of so much cost in sum, in thousandths of the mean machine: a move costs the task's
    /// [`share`](crate::objective::Objective::share).
    Cost(u64),
}

impl Limit {
    fn amount(self) -> u64 {
        match self {
            Self::Moves(moves) => moves as u64,
            Self::Cost(cost) => cost,
        }
    }
}

/// The state to start from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Start {
    /// Every task where it is recorded to run.
    Recorded,
    /// Packed from scratch by the policy, then this share of the tasks (0..1, drawn at random) taken away.
    Packed {
        /// The share.
        churn: f64,
    },
}

/// What to repack, and how.
#[derive(Clone, Debug)]
pub struct RepackOptions {
    /// How to pack, where the start is packed; accounting and seed in any case.
    pub pack: PackOptions,
    /// The state to start from.
    pub start: Start,
    /// What moves are for.
    pub goal: Goal,
    /// How much may be moved.
    pub limit: Limit,
    /// What the search may spend that improves greedy's plan.
    pub budget: Budget,
}

/// The state that a repacking starts from.
///
/// # Errors
/// If there are no machines, or the share of churn is not in 0..1.
pub fn start<'t>(trace: &'t Trace, options: &RepackOptions) -> anyhow::Result<Snapshot<'t>> {
    match options.start {
        Start::Recorded => {
            ensure!(!trace.cell.machines.is_empty(), "at least one machine is needed");
            let slots = Slot::all(&trace.cell);
            Ok(Snapshot::recorded(&trace.cell, &slots, options.pack.accounting))
        }
        Start::Packed { churn } => {
            ensure!((0.0..1.0).contains(&churn), "--churn {churn} is not in 0..1");
            let mut state = pack(trace, &options.pack)?.plan.end;
            let mut placed: Vec<TaskId> = trace
                .cell
                .tasks()
                .filter(|(id, job, _)| job.kind == JobKind::Job && state.placement(*id).is_some())
                .map(|(id, _, _)| id)
                .collect();
            let gone = share_of(churn, placed.len());
            let mut random = generator(options.pack.seed, Purpose::Churn, 0);
            let (gone, _) = placed.partial_shuffle(&mut random, gone);
            for &mut task in gone {
                state.remove(task);
            }
            Ok(state)
        }
    }
}

/// Looks for the moves that gain most.
///
/// # Errors
/// As [`start`].
///
/// # Panics
/// If a plan were wrong: each is replayed on the state that it starts from.
pub fn repack(trace: &Trace, options: &RepackOptions) -> anyhow::Result<RepackReport> {
    let began = Instant::now();
    let start = start(trace, options)?;
    let mut report = describe(&start, options);
    let mut board = Board::new(start.clone(), options.limit);
    let gains = match options.goal {
        Goal::Machines => free_machines(&mut board, options, &mut report),
        Goal::Stranded => {
            let most = machines(strand::most_to_gain(&board));
            let gains = strand::descend(&mut board);
            report.gain = machines(gains.iter().sum());
            report.greedy_gain = report.gain;
            report.upper_bounds.insert("stranded where moves end", most);
            gains.into_iter().map(machines).collect()
        }
    };
    check(&start, &board);
    let end = board.snapshot();
    report.after = state(end);
    report.upper_bound = report.upper_bounds.values().copied().fold(f64::INFINITY, f64::min);
    report.gap =
        if report.upper_bound > 0.0 { 1.0 - report.gain / report.upper_bound } else { 0.0 };
    report.moves = board
        .steps()
        .iter()
        .zip(gains)
        .map(|(step, gain)| MoveReport {
            task: trace.cell.task_name(step.task),
            from: name(end, step.from.row),
            to: name(end, step.to),
            cost: thousandths(board.info(step.task).cost),
            gain,
        })
        .collect();
    report.move_count = report.moves.len();
    report.cost = thousandths(board.cost());
    report.gain_per_move = report.gain / count(report.move_count.max(1));
    if options.goal == Goal::Machines {
        report.blocked = blocked::blocked(&mut board);
    }
    if report.moves.is_empty() {
        let groups = match options.goal {
            Goal::Machines => report.blocked.clone(),
            Goal::Stranded => blocked::blocked_tasks(&board),
        };
        report.reason = Some(reason(options.goal, groups));
    }
    report.seconds = began.elapsed().as_secs_f64();
    Ok(report)
}

/// Frees machines; returns what each move gains.
fn free_machines(
    board: &mut Board<'_>,
    options: &RepackOptions,
    report: &mut RepackReport,
) -> Vec<f64> {
    let candidates = empty::candidates(board);
    let bounds = bound::bounds(board, &candidates);
    let greedy = empty::greedy(board, &candidates);
    let greedy_count = greedy.len();
    let mut meter = options.budget.start();
    let mut random = generator(options.pack.seed, Purpose::Search, 0);
    let most = bounds.least();
    let found =
        empty::improve(board, greedy, &candidates, most, options.budget, &mut meter, &mut random);
    assert!(found.groups.len() >= greedy_count, "a plan worse than greedy's was kept");
    assert!(found.groups.len() <= most, "more machines are free than a bound allows");
    report.steps = meter.steps();
    report.failures = bounds.failures.clone();
    report.failures.extend(found.failures);
    report.greedy_gain = count(greedy_count);
    report.gain = count(found.groups.len());
    report.upper_bounds.insert("moves", count(bounds.by_moves));
    let others = [("volume", bounds.by_volume), ("prices", bounds.by_prices)];
    for (name, bound) in others {
        report.upper_bounds.extend(bound.map(|bound| (name, count(bound))));
    }
    let mut gains = Vec::with_capacity(board.steps().len());
    for group in &found.groups {
        gains.extend(std::iter::repeat_n(0.0, group.moves.len().saturating_sub(1)));
        gains.extend((!group.moves.is_empty()).then_some(1.0));
    }
    gains
}

/// Replays a plan on the state that it starts from: every step fits and keeps the rules while the task is
/// still where it was, no task moves twice, and what it leads to is what the search has.
fn check(start: &Snapshot<'_>, board: &Board<'_>) {
    let mut draft = Draft::of(start.clone());
    let mut moved = std::collections::BTreeSet::new();
    for step in board.steps() {
        assert!(moved.insert(step.task), "a task moves twice");
        assert!(draft.has_room(step.task, step.to, &[]), "a step does not fit");
        assert!(draft.obeys_rules(step.task, step.to), "a step breaks a rule");
        draft.remove(step.task);
        draft.place(step.task, step.to);
    }
    for (task, _, _) in start.cell().tasks() {
        let row = |of: &Snapshot<'_>| of.placement(task).map(|placement| placement.row);
        assert_eq!(row(draft.snapshot()), row(board.snapshot()), "the plan leads elsewhere");
    }
}

fn describe(start: &Snapshot<'_>, options: &RepackOptions) -> RepackReport {
    let (max_moves, max_move_cost) = match options.limit {
        Limit::Moves(moves) => (Some(moves), None),
        Limit::Cost(cost) => (None, Some(thousandths(cost))),
    };
    let (start_name, churn) = match options.start {
        Start::Recorded => ("recorded", None),
        Start::Packed { churn } => ("packed", Some(churn)),
    };
    let rows = 0..start.machine_count();
    let is_over = |row: &usize| start.free(*row).iter().any(|&free| free < 0);
    let is_placed = |id: TaskId| start.placement(id).is_some();
    let jobs = start.cell().tasks().filter(|(_, job, _)| job.kind == JobKind::Job);
    RepackReport {
        goal: options.goal.name(),
        start: start_name,
        policy: options.pack.policy.name().to_owned(),
        churn,
        accounting: options.pack.accounting.name(),
        seed: options.pack.seed,
        max_moves,
        max_move_cost,
        budget: options.budget.to_string(),
        machine_count: start.machine_count(),
        machines_overcommitted: rows.filter(is_over).count(),
        task_count: jobs.filter(|&(id, _, _)| is_placed(id)).count(),
        before: state(start),
        after: state(start),
        move_count: 0,
        cost: 0.0,
        gain: 0.0,
        gain_per_move: 0.0,
        greedy_gain: 0.0,
        upper_bound: 0.0,
        upper_bounds: BTreeMap::new(),
        gap: 0.0,
        blocked: BTreeMap::new(),
        reason: None,
        moves: Vec::new(),
        steps: 0,
        seconds: 0.0,
        failures: Vec::new(),
    }
}

fn state(of: &Snapshot<'_>) -> StateReport {
    let rows = 0..of.machine_count();
    StateReport {
        machines_empty: rows.filter(|&row| of.tasks_on(row).is_empty()).count(),
        stranding: stranding(of),
    }
}

/// Why there is no plan, on one line: the groups of constraints with what each holds back, the largest
/// first.
fn reason(goal: Goal, groups: BTreeMap<&'static str, usize>) -> String {
    let (goal, what) = match goal {
        Goal::Machines => ("no machine can be freed", "machines in use"),
        Goal::Stranded => ("no move sets stranded resources free", "tasks that run"),
    };
    if groups.is_empty() {
        return format!("{goal}: nothing runs");
    }
    let mut groups: Vec<(&str, usize)> = groups.into_iter().collect();
    groups.sort_by_key(|&(group, count)| (std::cmp::Reverse(count), group));
    let said: Vec<String> =
        groups.iter().map(|(group, count)| format!("{count} blocked by {group}")).collect();
    format!("{goal}: of the {what}, {}", said.join(", "))
}

/// Writes the moves of a plan as JSON: to a temporary file first, which is then renamed.
///
/// # Errors
/// If the file cannot be written.
pub fn save_plan(moves: &[MoveReport], path: &Path) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).with_context(failed)?;
    let mut temporary = tempfile::NamedTempFile::new_in(folder).with_context(failed)?;
    serde_json::to_writer_pretty(&mut temporary, moves).with_context(failed)?;
    temporary.persist(path).with_context(failed)?;
    Ok(())
}

fn name(of: &Snapshot<'_>, row: usize) -> String {
    of.cell().machine(of.slot(row).machine).name.clone()
}

#[expect(clippy::cast_precision_loss, reason = "a count of tasks or machines")]
fn count(count: usize) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "a few machines")]
fn thousandths(cost: u64) -> f64 {
    cost as f64 / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "a few machines")]
fn machines(parts: i64) -> f64 {
    parts as f64 / strand::PARTS
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..=count")]
fn share_of(share: f64, of: usize) -> usize {
    (share * count(of)).floor() as usize
}
