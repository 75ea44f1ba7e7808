//! Packing once: greedy, then improved.
//!
//! Onto a running cell, what waits is planned as a batch ([`crate::batch`]).
//! From scratch every task may go anywhere, so the search refills machines and counts what is left waiting
//! by its worth, level by level ([`crate::objective`]). The proven bound beside it is of worth: no packing on
//! these machines places more.

use std::cmp::Reverse;
use std::path::Path;
use std::time::Instant;

use cell::{Band, TaskId};
use fauxmaster::report::ByResource;
use fauxmaster::workload::{Purpose, generator};
use fauxmaster::{PackOptions, Packing, Start};
use rand::Rng;
use scheduler::{Assignment, Plan, Slot, Snapshot, pass};
use traces::Trace;

use crate::batch::{self, BatchOptions, BatchPlan};
use crate::bound::{self, classes};
use crate::budget::{Budget, Meter};
use crate::certificate::{Certificate, verify};
use crate::model::{Model, RESOURCES, WorthClass};
use crate::objective::{BAND_COUNT, ByBand, Objective, Score};
use crate::proof::save;
use crate::report::{LevelGap, PackedReport};
use crate::shrink::{Problem, REACH, Search};
use crate::trade::net_bound;

/// A packing that was improved.
#[derive(Debug)]
pub struct Improved<'t> {
    /// What came out.
    pub packing: Packing<'t>,
    /// What is said of it.
    pub report: PackedReport,
}

/// Packs by greedy, then improves within the budget; saves the certificates of the bound.
///
/// # Errors
/// If there are too few machines for what is asked, or the certificates cannot be written.
///
/// # Panics
/// If the search made the plan worse, which would be a bug.
pub fn pack<'t>(
    trace: &'t Trace,
    options: &PackOptions,
    budget: Budget,
    certificate: &Path,
) -> anyhow::Result<Improved<'t>> {
    let began = Instant::now();
    let greedy = fauxmaster::pack(trace, options)?;
    let cell = &trace.cell;
    let objective = Objective::of(cell, options.accounting);
    let slots: Vec<Slot> =
        (0..greedy.plan.end.machine_count()).map(|row| greedy.plan.end.slot(row)).collect();
    let greedy_report = greedy.report.clone();
    let greedy_unplaced = unplaced(&greedy);
    let mut random = generator(options.seed, Purpose::Search, 0);
    let mut found = match options.start {
        Start::Empty => from_scratch(&greedy, &slots, &objective, options, budget, &mut random),
        Start::Recorded => onto_running(&greedy, &slots, &objective, options, budget, &mut random),
    };
    let packing = match found.plan.take() {
        Some(plan) => greedy.with_plan(trace, options, plan, began.elapsed().as_secs_f64()),
        None => greedy,
    };
    save(&found.certificates, certificate)?;
    let last = found.gaps.last();
    let report = PackedReport {
        pack: packing.report.clone(),
        gap: last.map(|level| level.gap),
        greedy_gap: last.map(|level| level.greedy_gap),
        gap_by_level: found.gaps,
        unplaced: unplaced(&packing),
        greedy_unplaced,
        greedy: greedy_report,
        budget: budget.to_string(),
        steps: found.steps,
        search_seconds: found.seconds,
        certificate: certificate.display().to_string(),
        failures: found.failures,
    };
    Ok(Improved { packing, report })
}

/// What a search found.
#[derive(Default)]
struct Found<'c> {
    /// A plan that is better than greedy's; `None`: greedy's stands.
    plan: Option<Plan<'c>>,
    gaps: Vec<LevelGap>,
    certificates: Vec<Certificate>,
    steps: u64,
    seconds: f64,
    failures: Vec<String>,
}

/// Improves a packing from scratch.
fn from_scratch<'c>(
    greedy: &Packing<'c>,
    slots: &[Slot],
    objective: &Objective<'c>,
    options: &PackOptions,
    budget: Budget,
    random: &mut impl Rng,
) -> Found<'c> {
    let tasks = &greedy.tasks;
    let end = &greedy.plan.end;
    let (cell, accounting) = (end.cell(), options.accounting);
    let model = Model::of(cell, tasks, accounting, 0, &|_| false);
    let mix = model.mix(slots);
    let (of_classes, in_allocs) = classes(&model, objective, tasks);
    let mut meter = budget.start();
    let mut found = Found::default();
    let start = Snapshot::empty(cell, slots, accounting);
    let had = objective.score(&start, end, tasks, &[]);
    let mut has = had.clone();
    match bound::worth(&model, &mix, &of_classes, true) {
        Ok(prices) => {
            let may_wait = vec![true; tasks.len()];
            let problem = Problem::new(cell, tasks, accounting, &model, &prices, &may_wait)
                .by_worth(objective);
            let end = refill(&problem, end, slots, &mut meter, random);
            let plan = fill_up(&end, tasks, options);
            let score = objective.score(&start, &plan.end, tasks, &[]);
            if score > had {
                has = score;
                found.plan = Some(plan);
            }
        }
        Err(error) => found.failures.push(error.to_string()),
    }
    assert!(has >= had, "a search that makes the plan worse");
    (found.gaps, found.certificates) =
        gaps(&model, &mix, &of_classes, in_allocs, [&has, &had], &mut found.failures);
    found.steps = meter.steps();
    found.seconds = meter.elapsed().as_secs_f64();
    found
}

/// Improves a plan for what waits in the recorded state: running tasks stay unless they are preempted.
fn onto_running<'c>(
    greedy: &Packing<'c>,
    slots: &[Slot],
    objective: &Objective<'c>,
    options: &PackOptions,
    budget: Budget,
    random: &mut impl Rng,
) -> Found<'c> {
    let tasks = &greedy.tasks;
    let start = Snapshot::recorded(greedy.plan.end.cell(), slots, options.accounting);
    let of = BatchOptions { pass: options.pass(options.seed), budget, max_victims: None };
    let batched = batch::plan(&start, tasks, objective, &of, random);
    let mut found = Found {
        steps: batched.steps,
        seconds: batched.seconds,
        failures: batched.failures,
        ..Found::default()
    };
    match net_bound(&start, tasks, objective, true) {
        Ok((most, certificate)) => {
            let net = |score: &Score| u64::try_from(score.net.iter().sum::<i128>()).ok();
            let both = net(&batched.plan.score).zip(net(&batched.greedy.score));
            // Where more is evicted than placed, or nothing waits, a share says nothing.
            if let Some(((placed, greedy_placed), most)) = both.zip(u64::try_from(most).ok())
                && most > 0
            {
                found.gaps.push(LevelGap {
                    down_to: Band::ALL[0].name(),
                    placed,
                    greedy_placed,
                    placed_upper_bound: most,
                    gap: missing(placed, most),
                    greedy_gap: missing(greedy_placed, most),
                });
            }
            found.certificates.push(certificate);
        }
        Err(error) => found.failures.push(error.to_string()),
    }
    if batched.plan.score > batched.greedy.score {
        let BatchPlan { end, victims, .. } = batched.plan;
        let all: Vec<TaskId> = tasks.iter().chain(&victims).copied().collect();
        let mut assignments = assignments(&end, &all);
        for &victim in &victims {
            let home = start.placement(victim).map(|at| at.row);
            let priority = objective.priority(victim);
            let rank = |of: &Assignment| {
                let is_there = Some(of.row) == home;
                (is_there && objective.priority(of.task) > priority, is_there)
            };
            // Who took its place; without one (rules, devices) any that was placed.
            let best = (0..assignments.len()).max_by_key(|&i| (rank(&assignments[i]), Reverse(i)));
            if let Some(by) = best {
                assignments[by].victims.push(victim);
            }
        }
        let waits = |task: &TaskId| end.placement(*task).is_none();
        let pending = all.into_iter().filter(waits).collect();
        found.plan = Some(Plan { assignments, pending, is_complete: true, end });
    }
    found
}

/// Every task that has a place as an assignment.
fn assignments(end: &Snapshot<'_>, tasks: &[TaskId]) -> Vec<Assignment> {
    let place = |&task: &TaskId| {
        let at = end.placement(task)?;
        let (row, gpu_devices) = (at.row, at.gpu_devices);
        Some(Assignment { task, row, gpu_devices, victims: Vec::new() })
    };
    tasks.iter().filter_map(place).collect()
}

/// Refills machines until nothing waits or the budget is spent.
fn refill<'c>(
    problem: &Problem<'_, 'c>,
    greedy: &Snapshot<'c>,
    slots: &[Slot],
    meter: &mut Meter,
    random: &mut impl Rng,
) -> Snapshot<'c> {
    let mut board = problem.board(greedy, slots);
    let mut search = Search::default();
    while !board.waiting.is_empty() && meter.step() {
        let bins = search.bins(&board, slots.len(), meter.steps(), random);
        board.refill(&bins, REACH, random);
    }
    problem.rebuild(greedy, slots, &board.bins)
}

/// Places by the policy what still waits, where it fits.
fn fill_up<'c>(end: &Snapshot<'c>, tasks: &[TaskId], options: &PackOptions) -> Plan<'c> {
    let waits = |task: &TaskId| end.placement(*task).is_none();
    let waiting: Vec<TaskId> = tasks.iter().copied().filter(waits).collect();
    let mut plan = pass(end, &waiting, &options.pass(options.seed));
    // What was placed before belongs to the plan too.
    plan.assignments = assignments(&plan.end, tasks);
    plan
}

/// How much could be placed at most, and how much is missing of it: for the highest band that has tasks,
/// for the two highest, and so on. `scores` are those of the plan and of greedy's.
fn gaps(
    model: &Model,
    mix: &[u64],
    classes: &[WorthClass],
    in_allocs: ByBand,
    scores: [&Score; 2],
    failures: &mut Vec<String>,
) -> (Vec<LevelGap>, Vec<Certificate>) {
    let (mut gaps, mut certificates) = (Vec::new(), Vec::new());
    for level in 0..BAND_COUNT {
        let of_level: Vec<WorthClass> =
            classes.iter().copied().filter(|class| class.level <= level).collect();
        if !of_level.iter().any(|class| class.level == level) && in_allocs[level] == 0 {
            continue;
        }
        let down_to = Band::ALL[BAND_COUNT - 1 - level].name();
        let proven = bound::worth(model, mix, &of_level, false)
            .map_err(|e| e.to_string())
            .and_then(|mut certificate| {
                certificate.method = format!("worth, down to {down_to}");
                let verified = verify(model, &certificate).map_err(|flaw| flaw.to_string())?;
                Ok((verified.most_worth(&certificate, &of_level, mix), certificate))
            });
        match proven {
            Err(failure) => failures.push(failure),
            Ok((most, certificate)) => {
                let most = most + in_allocs[..=level].iter().sum::<u64>();
                let [placed, greedy_placed] =
                    scores.map(|score| score.running[..=level].iter().sum::<u64>());
                gaps.push(LevelGap {
                    down_to,
                    placed,
                    greedy_placed,
                    placed_upper_bound: most,
                    gap: missing(placed, most),
                    greedy_gap: missing(greedy_placed, most),
                });
                certificates.push(certificate);
            }
        }
    }
    (gaps, certificates)
}

#[expect(clippy::cast_precision_loss, reason = "a part, to be shown")]
fn missing(placed: u64, most: u64) -> f64 {
    1.0 - placed as f64 / most.max(1) as f64
}

/// What is asked for without a place over what is asked for, by resource.
fn unplaced(packing: &Packing<'_>) -> ByResource {
    let end = &packing.plan.end;
    let (mut waiting, mut all) = ([0_u64; 4], [0_u64; 4]);
    for &task in &packing.tasks {
        let limit = end.cell().task(task).limit;
        let asked = [limit.cpu.0, limit.ram.0, limit.disk.0, limit.gpu.total().0];
        for r in 0..asked.len() {
            all[r] += asked[r];
            waiting[r] += if end.placement(task).is_none() { asked[r] } else { 0 };
        }
    }
    let part = |r: usize| 1.0 - missing(waiting[r], all[r]);
    (0..4).filter(|&r| all[r] > 0).map(|r| (RESOURCES[r], part(r))).collect()
}
