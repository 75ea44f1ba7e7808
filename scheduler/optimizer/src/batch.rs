//! The online pass: a batch of waiting tasks against a running cell.
//!
//! In: a snapshot of what runs, the tasks that wait, a budget. Out: a plan that is never worse than greedy's
//! by [`crate::objective`]. Greedy goes first. Then large-neighbourhood search: a few tasks of the batch are
//! taken off their machines and placed again, one after the other where it costs least (`insert`);
//! and, for tasks that get in each other's way, all at once by a MILP (`milp`) over the machines where
//! each of them costs least. What comes out is kept if the exact objective is better.
//!
//! Running tasks stay where they are unless they are preempted: by a task of higher priority on their
//! machine, never if they are production's, within the limits on disruption, and only as far as nobody can
//! be spared. Allocs, and tasks that run in allocs, stay as greedy decided.

use std::collections::{BTreeMap, BTreeSet};

use cell::TaskId;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use rayon::prelude::*;
use scheduler::{Draft, PassOptions, Plan, Snapshot, pass};

use crate::budget::{Budget, Meter};
use crate::insert::insertions;
use crate::milp::{DomainLimit, Evictable, Item, Part, Proposal, SolveLimit};
use crate::objective::{Objective, Score, level};
use crate::state::State;

/// How to plan a batch.
#[derive(Clone, Debug)]
pub struct BatchOptions {
    /// Greedy's pass.
    pub pass: PassOptions<'static>,
    /// What greedy and the search may spend together; as work, a step is one part solved.
    pub budget: Budget,
    /// At most so many running tasks are evicted; `None`: any number.
    pub max_victims: Option<usize>,
}

/// What becomes of a batch.
#[derive(Clone, Debug)]
pub struct BatchPlan<'c> {
    /// The cell with the plan carried out.
    pub end: Snapshot<'c>,
    /// Running tasks that lose their place, by id; some of them have another in the end.
    pub victims: Vec<TaskId>,
    /// What it is worth.
    pub score: Score,
}

/// Greedy's plan and a better one.
#[derive(Clone, Debug)]
pub struct Batched<'c> {
    /// The plan.
    pub plan: BatchPlan<'c>,
    /// Greedy's.
    pub greedy: BatchPlan<'c>,
    /// As greedy's pass went: with every eviction, cascades included.
    pub greedy_pass: Plan<'c>,
    /// Seconds that greedy took.
    pub greedy_seconds: f64,
    /// Seconds in all.
    pub seconds: f64,
    /// Steps of the budget.
    pub steps: u64,
    /// Parts solved.
    pub solves: u64,
    /// Parts for which the solver found nothing within its limit.
    pub unsolved: u64,
    /// Trials that made the plan better, those of parts included.
    pub improvements: u64,
    /// What the solver said where it failed.
    pub failures: Vec<String>,
}

/// Tasks that one trial takes off and places again, at most. Measured on the 2011 cell at 99 %.
const RUIN_MAX: usize = 6;

/// Tasks of one MILP, and machines for each of them.
const TASKS_A_PART: usize = 5;
const MACHINES_A_TASK: usize = 4;

/// Parts that are solved at the same time, on however many threads.
const PARTS_A_ROUND: usize = 2;

/// One round in so many is of MILPs.
const PARTS_ONE_IN: usize = 64;

/// Nodes of one solve, and the time that it may take.
const NODES: i32 = 100;
const SOLVE_SECONDS: f64 = 0.05;

/// Trials without any gain, for each task that there is something to gain from, after which a search ends.
const FRUITLESS_A_TASK: usize = 40;

/// Plans a batch: greedy, then better.
///
/// # Panics
/// If a task has a place already; or if the search made the plan worse, which would be a bug.
#[must_use]
pub fn plan<'c>(
    start: &Snapshot<'c>,
    tasks: &[TaskId],
    objective: &Objective<'c>,
    options: &BatchOptions,
    random: &mut impl Rng,
) -> Batched<'c> {
    let mut meter = options.budget.start();
    let greedy_pass = pass(start, tasks, &options.pass);
    let greedy_end = match options.max_victims {
        Some(max) => carried_out(start, &greedy_pass, max),
        None => greedy_pass.end.clone(),
    };
    let greedy_seconds = meter.elapsed().as_secs_f64();
    let mut search = Search::new(start, tasks, objective, greedy_end);
    let greedy = search.plan();
    if options.budget.is_zero() {
        let seconds = meter.elapsed().as_secs_f64();
        return Batched {
            plan: greedy.clone(),
            greedy,
            greedy_pass,
            greedy_seconds,
            seconds,
            steps: 0,
            solves: 0,
            unsolved: 0,
            improvements: 0,
            failures: Vec::new(),
        };
    }
    search.state.spare(None);
    search.run(&mut meter, options, random);
    let mut plan = search.plan();
    let Search { solves, unsolved, improvements, failures, .. } = search;
    // Each trial was better by its own tasks. What others prefer of their machines may have changed with
    // them (spread), so that the whole is compared once more.
    let mut failures = failures;
    if plan.score < greedy.score {
        failures
            .push("the search made spread worse and nothing better: greedy's plan stands".into());
        plan = greedy.clone();
    }
    assert!(plan.score >= greedy.score, "a search that makes the plan worse");
    let seconds = meter.elapsed().as_secs_f64();
    let steps = meter.steps();
    Batched {
        plan,
        greedy,
        greedy_pass,
        greedy_seconds,
        seconds,
        steps,
        solves,
        unsolved,
        improvements,
        failures,
    }
}

/// Greedy's plan as far as it evicts no more than `max` running tasks.
fn carried_out<'c>(start: &Snapshot<'c>, plan: &Plan<'c>, max: usize) -> Snapshot<'c> {
    let mut draft = Draft::of(start.clone());
    let mut victims: BTreeSet<TaskId> = BTreeSet::new();
    for assignment in &plan.assignments {
        let task = assignment.task;
        // With an alloc everything in it leaves.
        let inside = |alloc: &TaskId| {
            let row = draft.snapshot().row_of_alloc(*alloc);
            row.map_or(&[][..], |row| draft.snapshot().tasks_on(row))
        };
        let leaves =
            |victim: &TaskId| start.placement(*victim).is_some() && !victims.contains(victim);
        let leaving: BTreeSet<TaskId> = assignment
            .victims
            .iter()
            .flat_map(|victim| inside(victim).iter().chain([victim]))
            .copied()
            .filter(leaves)
            .collect();
        let new = leaving.len();
        // Rows of allocs are numbered as they are placed; where one is missing the plan no longer fits.
        if victims.len() + new > max || assignment.row >= start.machine_count() {
            continue;
        }
        let gone = assignment.victims.iter().filter(|v| draft.snapshot().placement(**v).is_some());
        let gone: Vec<TaskId> = gone.copied().collect();
        if draft.snapshot().placement(task).is_some()
            || !draft.has_room(task, assignment.row, &gone)
            || !draft.obeys_rules(task, assignment.row)
        {
            continue;
        }
        for victim in gone {
            let left = draft.remove(victim);
            victims.extend(left.iter().filter(|task| start.placement(**task).is_some()));
        }
        draft.place(task, assignment.row);
    }
    draft.into_snapshot()
}

/// A plan that is being improved.
struct Search<'a, 'c> {
    state: State<'a, 'c>,
    tasks: &'a [TaskId],
    solves: u64,
    unsolved: u64,
    improvements: u64,
    failures: Vec<String>,
}

impl<'a, 'c> Search<'a, 'c> {
    fn new(
        start: &'a Snapshot<'c>,
        tasks: &'a [TaskId],
        objective: &'a Objective<'c>,
        end: Snapshot<'c>,
    ) -> Self {
        let state = State::new(start, objective, end);
        Self { state, tasks, solves: 0, unsolved: 0, improvements: 0, failures: Vec::new() }
    }

    fn plan(&self) -> BatchPlan<'c> {
        let end = self.state.snapshot().clone();
        let victims: Vec<TaskId> = self.state.evicted().keys().copied().collect();
        let State { start, objective, .. } = self.state;
        let score = objective.score(start, &end, self.tasks, &victims);
        BatchPlan { end, victims, score }
    }

    /// Tasks of the batch that wait, or for which somebody had to leave the machine where they are.
    fn costly(&self) -> Vec<TaskId> {
        let is_costly = |task: &TaskId| {
            self.state.is_free(*task)
                && self.state.now(*task).is_none_or(|at| self.state.is_left(at.row))
        };
        self.tasks.iter().copied().filter(is_costly).collect()
    }

    fn run(&mut self, meter: &mut Meter, options: &BatchOptions, random: &mut impl Rng) {
        let mut costly = self.costly();
        let placed: Vec<TaskId> =
            self.tasks.iter().copied().filter(|&task| self.state.is_free(task)).collect();
        // First each by itself, the most important first; then some together.
        costly.sort_by_key(|&task| {
            (std::cmp::Reverse((self.state.priority(task), self.state.objective.share(task))), task)
        });
        for &task in &costly {
            if !meter.step() {
                return;
            }
            self.trial(&[task], options);
        }
        let (mut turn, mut fruitless) = (0_usize, 0_usize);
        loop {
            if turn % FRUITLESS_A_TASK == 0 {
                costly = self.costly();
            }
            if costly.is_empty() || fruitless > FRUITLESS_A_TASK * costly.len() || !meter.step() {
                return;
            }
            turn += 1;
            let has_gained = if turn % PARTS_ONE_IN == 0 && costly.len() > 1 {
                self.solve_parts(&costly, meter, options, random)
            } else {
                let count = random.random_range(1..=RUIN_MAX);
                let mut chosen: Vec<TaskId> = (0..count)
                    .map(|turn| match turn {
                        // Now and then one that costs nothing makes way.
                        3 => placed[random.random_range(0..placed.len())],
                        _ => costly[random.random_range(0..costly.len())],
                    })
                    .collect();
                chosen.sort_unstable();
                chosen.dedup();
                chosen.shuffle(random);
                self.trial(&chosen, options)
            };
            fruitless = if has_gained { 0 } else { fruitless + 1 };
        }
    }

    /// Takes tasks off and places them again in this order, each where it costs least; keeps what is better.
    fn trial(&mut self, tasks: &[TaskId], options: &BatchOptions) -> bool {
        self.state.begin();
        self.ruin(tasks);
        self.recreate(tasks.to_vec());
        self.judge(options)
    }

    fn ruin(&mut self, tasks: &[TaskId]) {
        for &task in tasks {
            let row = self.state.now(task).map(|at| at.row);
            self.state.take_off(task);
            if let Some(row) = row {
                self.state.spare(Some(row));
            }
        }
    }

    /// Places tasks in this order; then whoever had to leave for them, where there is room.
    fn recreate(&mut self, tasks: Vec<TaskId>) {
        let mut gone: Vec<TaskId> = Vec::new();
        for task in tasks {
            let Some(best) = insertions(&mut self.state, task, 1, true).pop() else { continue };
            for &victim in &best.victims {
                if self.state.evict(victim) {
                    gone.push(victim);
                }
            }
            self.state.try_place(task, best.row);
            self.state.spare(Some(best.row));
        }
        gone.sort_by_key(|&task| {
            let first = (self.state.priority(task), self.state.objective.worth(task));
            (std::cmp::Reverse(first), task)
        });
        for task in gone {
            if self.state.now(task).is_none()
                && let Some(place) = insertions(&mut self.state, task, 1, false).pop()
            {
                self.state.try_place(task, place.row);
            }
        }
    }

    /// Keeps the trial if the plan is better for it.
    fn judge(&mut self, options: &BatchOptions) -> bool {
        let (had, has) = self.state.compared();
        let rows = self.state.rows_changed();
        let within = options.max_victims.is_none_or(|max| self.state.evicted().len() <= max);
        let is_better = has > had && within && self.state.unjustified(&rows) == 0;
        if is_better {
            self.state.keep();
            self.improvements += 1;
        } else {
            self.state.take_back();
        }
        is_better
    }

    /// Solves a few parts, each of some tasks that cost something or wait.
    fn solve_parts(
        &mut self,
        costly: &[TaskId],
        meter: &Meter,
        options: &BatchOptions,
        random: &mut impl Rng,
    ) -> bool {
        let mut order: Vec<usize> = (0..costly.len()).collect();
        order.shuffle(random);
        let parts: Vec<Part> = order
            .chunks(TASKS_A_PART)
            .take(PARTS_A_ROUND)
            .map(|chosen| {
                let mut tasks: Vec<TaskId> = chosen.iter().map(|&index| costly[index]).collect();
                tasks.sort_unstable();
                self.part(&tasks, options)
            })
            .collect();
        let limit = SolveLimit {
            nodes: NODES,
            seconds: meter.time_left().map(|left| left.as_secs_f64().min(SOLVE_SECONDS)),
        };
        let proposals: Vec<_> = parts.par_iter().map(|part| part.solve(limit)).collect();
        let mut has_gained = false;
        for (part, proposal) in parts.iter().zip(proposals) {
            self.solves += 1;
            match proposal {
                Ok(None) => self.unsolved += 1,
                Err(error) => self.failures.push(format!("the solver of a part: {error}")),
                Ok(Some(proposal)) => has_gained |= self.carry_out(part, &proposal, options),
            }
        }
        has_gained
    }

    /// The part of these tasks: they are taken off, and each may go to the machines where it costs least.
    fn part(&mut self, tasks: &[TaskId], options: &BatchOptions) -> Part {
        let before: Vec<Option<usize>> =
            tasks.iter().map(|&task| self.state.now(task).map(|at| at.row)).collect();
        self.state.begin();
        self.ruin(tasks);
        let max = options.max_victims;
        let evictions_left = max.map(|max| max.saturating_sub(self.state.evicted().len()) as u64);
        let mut part = Part { evictions_left, ..Part::default() };
        let mut rows: BTreeSet<usize> = BTreeSet::new();
        for (&task, &now) in tasks.iter().zip(&before) {
            let found = insertions(&mut self.state, task, MACHINES_A_TASK, true);
            let mut candidates: BTreeSet<usize> = found.iter().map(|place| place.row).collect();
            candidates.extend(now.filter(|&row| row < self.state.start.machine_count()));
            rows.extend(&candidates);
            let job = self.state.start.cell().job(task.job);
            let snapshot = self.state.snapshot();
            let prefers = |row: usize| (row, snapshot.preference(task, row));
            part.items.push(Item {
                task,
                charge: self.state.charged(task),
                level: level(job.priority),
                worth: self.state.objective.worth(task),
                priority: job.priority.get(),
                candidates: candidates.into_iter().map(prefers).collect(),
                now,
                apart: job.different_machines.then_some(task.job),
            });
        }
        let highest = part.items.iter().map(|item| item.priority).max().unwrap_or(0);
        for &row in &rows {
            part.room.insert(row, *self.state.room(row));
            for &task in self.state.snapshot().tasks_on(row) {
                if !self.state.may_evict(task, highest) {
                    continue;
                }
                let is_at_home = self.state.is_at_home(task);
                let limits = match is_at_home {
                    true => self.state.disruptions().limits(task.job).to_vec(),
                    false => Vec::new(),
                };
                for &limit in &limits {
                    let left = self.state.disruptions().all_left()[limit];
                    part.disruptions.insert(limit, left);
                }
                part.evictable.push(Evictable {
                    task,
                    row,
                    charge: self.state.charged(task),
                    level: level(self.state.objective.priority(task)),
                    worth: self.state.objective.worth(task),
                    lost: if is_at_home { self.state.objective.lost(task) } else { 0 },
                    priority: self.state.priority(task),
                    limits,
                });
            }
        }
        part.domains = self.domains(&part.items, &rows);
        self.state.take_back();
        part
    }

    /// Limits on spread that bind items of a part, which have no place now.
    fn domains(&self, items: &[Item], rows: &BTreeSet<usize>) -> Vec<DomainLimit> {
        let cell = self.state.start.cell();
        let snapshot = self.state.snapshot();
        let mut of_job: BTreeMap<cell::JobId, Vec<usize>> = BTreeMap::new();
        for (position, item) in items.iter().enumerate() {
            of_job.entry(item.task.job).or_default().push(position);
        }
        let mut limits = Vec::new();
        for (id, items) in of_job {
            let job = cell.job(id);
            for spread in &job.spread {
                let Some(max) = spread.max_per_domain else { continue };
                let domain = |row: usize| {
                    let slot = snapshot.slot(row);
                    let name = cell.machine(slot.machine).domain(spread.domain)?;
                    Some((slot.clone, name))
                };
                let mut by_domain: BTreeMap<(u32, &str), Vec<usize>> = BTreeMap::new();
                for &row in rows {
                    if let Some(domain) = domain(row) {
                        by_domain.entry(domain).or_default().push(row);
                    }
                }
                let mut used: BTreeMap<(u32, &str), u32> = BTreeMap::new();
                for position in (0..).take(job.tasks.len()) {
                    let at = self.state.now(TaskId { job: id, position });
                    if let Some(domain) = at.and_then(|at| domain(at.row)) {
                        *used.entry(domain).or_default() += 1;
                    }
                }
                for (domain, rows) in by_domain {
                    let used = used.get(&domain).copied().unwrap_or(0);
                    let left = max.saturating_sub(used);
                    limits.push(DomainLimit { left, items: items.clone(), rows });
                }
            }
        }
        limits
    }

    /// Carries a proposal out as far as it holds, and keeps it if the plan is better for it.
    fn carry_out(&mut self, part: &Part, proposal: &Proposal, options: &BatchOptions) -> bool {
        self.state.begin();
        let tasks: Vec<TaskId> = part.items.iter().map(|item| item.task).collect();
        self.ruin(&tasks);
        let gone: Vec<TaskId> =
            proposal.evicted.iter().copied().filter(|&task| self.state.evict(task)).collect();
        let mut order: Vec<usize> = (0..part.items.len()).collect();
        order.sort_by_key(|&i| {
            let item = &part.items[i];
            (item.level, std::cmp::Reverse(item.worth), item.task)
        });
        for &i in &order {
            if let Some(row) = proposal.rows[i] {
                self.state.try_place(part.items[i].task, row);
            }
        }
        for row in part.room.keys() {
            self.state.spare(Some(*row));
        }
        let waits = |task: &TaskId| self.state.now(*task).is_none();
        let left: Vec<TaskId> = order.iter().map(|&i| tasks[i]).filter(waits).collect();
        let others: Vec<TaskId> = gone.into_iter().filter(waits).collect();
        self.recreate(left);
        for task in others {
            if self.state.now(task).is_none()
                && let Some(place) = insertions(&mut self.state, task, 1, false).pop()
            {
                self.state.try_place(task, place.row);
            }
        }
        self.judge(options)
    }
}
