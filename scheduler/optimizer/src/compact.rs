//! Bounds for a compaction's trials, and compaction by greedy and search.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, ensure};
use fauxmaster::workload::{Purpose, generator};
use fauxmaster::{CompactOptions, Compaction, compact, nearest_rank};
use rayon::prelude::*;
use traces::Trace;

use crate::bound::Effort;
use crate::budget::Budget;
use crate::certificate::verify;
use crate::infeasible::{CannotBeHeld, blame, check_fits, of_greedy};
use crate::model::Model;
use crate::proof::{CertificateFile, Proof, Proofs, model_of};
use crate::report::{
    BoundReport, ImprovedReport, MachinesLowerBound, MethodReport, ParetoPoint, ParetoReport,
};

use crate::shrink::{Problem, Waypoint, shrink};
use crate::table;
use crate::trade;

/// The most copies of a cell that a bound is asked for, as in compaction.
const CLONES_MAX: usize = 64;

/// Proves how many machines each trial of a compaction needs at least, and saves the certificates.
///
/// # Errors
/// If the options make no sense, no number of copies of the cell is enough ([`CannotBeHeld`]), or the file
/// cannot be written.
pub fn bound(
    trace: &Trace,
    options: &CompactOptions,
    effort: Effort,
    certificate: &Path,
) -> anyhow::Result<BoundReport> {
    let began = Instant::now();
    let compaction = Compaction::new(trace, options)?;
    let (model, _) = model_of(&compaction, options.accounting);
    check_fits(trace, options, &compaction, &model)?;
    let proofs = Proofs::search(&model, effort);
    proofs.save(certificate)?;
    report(&compaction, options, &model, proofs, certificate, began)
        .map_err(|none| none.blamed(trace, options, effort))
}

/// Checks saved certificates against a trace, and says what they prove.
///
/// # Errors
/// If a certificate is wrong or of another workload; or as in [`bound`].
pub fn check(
    trace: &Trace,
    options: &CompactOptions,
    certificate: &Path,
) -> anyhow::Result<BoundReport> {
    let began = Instant::now();
    let file = CertificateFile::read(certificate)?;
    let compaction = Compaction::new(trace, options)?;
    let (model, _) = model_of(&compaction, options.accounting);
    let mut proofs = Proofs { all: Vec::new(), failures: Vec::new() };
    for certificate_found in file.certificates {
        ensure!(
            !certificate_found.method.starts_with("worth"),
            "{}: it says how much can be placed, not how many machines are needed; `pack` proves that anew",
            certificate.display()
        );
        let began = Instant::now();
        let verified = verify(&model, &certificate_found)
            .with_context(|| format!("{}: {}", certificate.display(), certificate_found.method))?;
        let seconds = began.elapsed().as_secs_f64();
        proofs.all.push(Proof { certificate: certificate_found, verified, seconds });
    }
    check_fits(trace, options, &compaction, &model)?;
    // The certificates are of this workload alone: whether a lifted one is held, others must say.
    let effort = Effort { rounds: 0, ..Effort::default() };
    report(&compaction, options, &model, proofs, certificate, began)
        .map_err(|none| none.blamed(trace, options, effort))
}

/// Some trial's bound is more than all of so many copies of the cell's machines.
#[derive(Debug)]
struct NotEnough {
    clones: usize,
}

impl NotEnough {
    /// With what is to blame, as far as bounds of this effort see it.
    fn blamed(&self, trace: &Trace, options: &CompactOptions, effort: Effort) -> anyhow::Error {
        let held = |trace: &Trace, options: &CompactOptions| {
            let Ok(compaction) = Compaction::new(trace, options) else { return Ok(()) };
            let (model, _) = model_of(&compaction, options.accounting);
            let proofs = Proofs::search(&model, effort);
            let is_within = bounds_on(&compaction, options, &model, &proofs, self.clones).is_some();
            if is_within { Ok(()) } else { Err(Vec::new()) }
        };
        let clones = table::copies(self.clones);
        let what = format!("the workload needs more than {clones} of the cell's machines");
        CannotBeHeld { what, blame: blame(trace, options, &held) }.into()
    }
}

/// Each proof's bound for each trial, on so many copies of the cell's machines; `None` where one of them
/// is more than there are.
fn bounds_on(
    compaction: &Compaction<'_>,
    options: &CompactOptions,
    model: &Model,
    proofs: &Proofs,
    clones: usize,
) -> Option<Vec<Vec<usize>>> {
    let orders: Vec<_> =
        (0..options.trials as u64).map(|trial| compaction.order(clones, trial)).collect();
    let by_trial = |proof: &Proof| -> Option<Vec<usize>> {
        let needed = |order: &Vec<scheduler::Slot>| {
            proof.verified.machines_needed(order.iter().map(|&slot| model.machine_shape(slot)))
        };
        orders.iter().map(needed).collect()
    };
    proofs.all.iter().map(by_trial).collect()
}

fn report(
    compaction: &Compaction<'_>,
    options: &CompactOptions,
    model: &Model,
    proofs: Proofs,
    certificate: &Path,
    began: Instant,
) -> Result<BoundReport, NotEnough> {
    let mut clones = options.clones.map_or(1..=CLONES_MAX, |clones| clones..=clones);
    let most = NotEnough { clones: *clones.end() };
    let on = |clones| Some((clones, bounds_on(compaction, options, model, &proofs, clones)?));
    let (clones, all) = clones.find_map(on).ok_or(most)?;
    let best_by_trial: Vec<usize> = (0..options.trials)
        .map(|trial| all.iter().map(|by_trial| by_trial[trial]).max().unwrap_or(0))
        .collect();
    let methods: Vec<MethodReport> = proofs
        .all
        .iter()
        .zip(all)
        .map(|(proof, by_trial)| MethodReport {
            method: proof.certificate.method.clone(),
            machines_lower_bound: MachinesLowerBound::of(by_trial),
            seconds: proof.seconds,
        })
        .collect();
    let bound = MachinesLowerBound::of(best_by_trial);
    #[expect(clippy::cast_precision_loss, reason = "counts of machines")]
    let cell_fraction_lower_bound = bound.median as f64 / compaction.cell().machines.len() as f64;
    Ok(BoundReport {
        accounting: options.accounting.name(),
        seed: options.seed,
        clones,
        task_count: compaction.task_count(),
        pending_allowed: compaction.pending_allowed(),
        method: best_method(&methods),
        machines_lower_bound: bound,
        cell_fraction_lower_bound,
        methods,
        seconds: began.elapsed().as_secs_f64(),
        certificate: certificate.display().to_string(),
        failures: proofs.failures,
    })
}

/// The method with the largest sum over the trials, the simplest of equals.
fn best_method(methods: &[MethodReport]) -> String {
    let sum = |method: &MethodReport| method.machines_lower_bound.by_trial.iter().sum::<usize>();
    let most = methods.iter().map(sum).max().unwrap_or(0);
    let best = methods.iter().find(|method| sum(method) == most);
    best.map_or_else(|| "none".to_owned(), |method| method.method.clone())
}

impl MachinesLowerBound {
    fn of(by_trial: Vec<usize>) -> Self {
        let mut sorted = by_trial.clone();
        sorted.sort_unstable();
        Self { by_trial, median: nearest_rank(&sorted, 50) }
    }
}

/// One trial, improved.
struct Trial {
    machines: usize,
    steps: u64,
    seconds: f64,
    path: Vec<Waypoint>,
}

/// Compacts the trace's cell by greedy, then improves each trial within the budget; saves the certificates
/// of the bounds. `progress` is called after each trial with the number of trials that are done.
///
/// # Errors
/// As in [`fauxmaster::compact`], but [`CannotBeHeld`] where the workload does not fit; or if the
/// certificates cannot be written.
pub fn improve(
    trace: &Trace,
    options: &CompactOptions,
    effort: Effort,
    budget: Budget,
    certificate: &Path,
    progress: &(dyn Fn(usize) + Sync),
) -> anyhow::Result<ImprovedReport> {
    let began = Instant::now();
    let greedy =
        compact(trace, options, &|_| {}).map_err(|error| of_greedy(trace, options, error))?;
    improve_greedy(trace, options, greedy, began, effort, budget, certificate, progress)
}

/// As [`improve`], from greedy's compaction of the same trials.
#[expect(clippy::too_many_arguments, reason = "those of `improve`, and what it has worked out")]
pub(crate) fn improve_greedy(
    trace: &Trace,
    options: &CompactOptions,
    greedy: fauxmaster::report::CompactReport,
    began: Instant,
    effort: Effort,
    budget: Budget,
    certificate: &Path,
    progress: &(dyn Fn(usize) + Sync),
) -> anyhow::Result<ImprovedReport> {
    let options = CompactOptions { clones: Some(greedy.clones), ..options.clone() };
    let compaction = Compaction::new(trace, &options)?;
    let (model, may_wait) = model_of(&compaction, options.accounting);
    let proofs = Proofs::search(&model, effort);
    proofs.save(certificate)?;
    let proven = report(&compaction, &options, &model, proofs.clone(), certificate, Instant::now())
        .map_err(|none| none.blamed(trace, &options, effort))?;
    let prices = proofs.prices().context("no bound, and so no prices")?;
    let problem = Problem::new(
        compaction.cell(),
        compaction.tasks(),
        options.accounting,
        &model,
        prices,
        &may_wait,
    );
    let done = std::sync::atomic::AtomicUsize::new(0);
    let trials: Vec<Trial> = (0..options.trials)
        .into_par_iter()
        .map(|number| {
            let trial = number as u64;
            let mut order = compaction.order(greedy.clones, trial);
            order.truncate(greedy.machines_by_trial[number]);
            let plan = compaction.plan(&order, trial);
            let mut random = generator(options.seed, Purpose::Search, trial);
            let mut meter = budget.start();
            let bound = proven.machines_lower_bound.by_trial[number];
            let found = shrink(&problem, &plan.end, &order, bound, &mut meter, &mut random);
            let machines = found.end.machine_count();
            progress(done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1);
            let (steps, seconds) = (meter.steps(), meter.elapsed().as_secs_f64());
            Trial { machines, steps, seconds, path: found.path }
        })
        .collect();
    let machines_by_trial: Vec<usize> = trials.iter().map(|trial| trial.machines).collect();
    let mut sorted = machines_by_trial.clone();
    sorted.sort_unstable();
    let lower_bound_by_trial = proven.machines_lower_bound.by_trial;
    let gap_by_trial: Vec<f64> = machines_by_trial
        .iter()
        .zip(&lower_bound_by_trial)
        .map(|(&n, &bound)| gap(n, bound))
        .collect();
    let mut gaps = gap_by_trial.clone();
    gaps.sort_by(f64::total_cmp);
    Ok(ImprovedReport {
        greedy_by_trial: greedy.machines_by_trial.clone(),
        compact: fauxmaster::report::CompactReport {
            machines_p90: nearest_rank(&sorted, 90),
            machines_median: nearest_rank(&sorted, 50),
            machines_min: sorted[0],
            machines_max: sorted[sorted.len() - 1],
            machines_by_trial,
            lower_bound: lower_bound_by_trial.iter().copied().min().unwrap_or(0),
            lower_bound_by_trial,
            seconds: began.elapsed().as_secs_f64(),
            ..greedy
        },
        gap: gaps[(gaps.len() - 1) / 2],
        gap_by_trial,
        budget: budget.to_string(),
        steps_by_trial: trials.iter().map(|trial| trial.steps).collect(),
        search_seconds_by_trial: trials.iter().map(|trial| trial.seconds).collect(),
        path_by_trial: trials.into_iter().map(|trial| trial.path).collect(),
        method: proven.method,
        certificate: proven.certificate,
        failures: proven.failures,
        held: problem.held_count(),
        against: None,
    })
}

/// What else a Pareto report weighs against packing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trades {
    /// Evictions, see [`trade::evictions`].
    pub evictions: bool,
    /// Moves, see [`trade::moves`].
    pub moves: bool,
}

/// Machines needed against what was spent, from one search with the largest of these budgets: for greedy,
/// each budget in ascending order, and the bound.
///
/// # Errors
/// As [`improve`]; or if there is no budget, or some are work and some are time.
pub fn pareto(
    trace: &Trace,
    options: &CompactOptions,
    effort: Effort,
    budgets: &[Budget],
    trades: Trades,
    certificate: &Path,
    progress: &(dyn Fn(usize) + Sync),
) -> anyhow::Result<ParetoReport> {
    let kind = |budget: &Budget| matches!(budget, Budget::Time(_));
    ensure!(
        budgets.iter().all(|budget| kind(budget) == kind(&budgets[0])),
        "budgets are all work or all time"
    );
    let mut budgets = budgets.to_vec();
    budgets.sort_by_key(|budget| match budget {
        Budget::Steps(steps) => u128::from(*steps),
        Budget::Time(time) => time.as_nanos(),
    });
    let largest = budgets.last().copied().context("no budget")?;
    let improved = improve(trace, options, effort, largest, certificate, progress)?;
    let point = |name: String, budget: Budget| {
        let by_trial: Vec<usize> = improved
            .path_by_trial
            .iter()
            .zip(&improved.greedy_by_trial)
            .map(|(path, &greedy)| {
                let in_time = |at: &&Waypoint| match budget {
                    Budget::Steps(steps) => at.steps <= steps,
                    Budget::Time(time) => at.seconds <= time.as_secs_f64(),
                };
                path.iter().rfind(in_time).map_or(greedy, |at| at.machines)
            })
            .collect();
        let mut gaps: Vec<f64> = by_trial
            .iter()
            .zip(&improved.compact.lower_bound_by_trial)
            .map(|(&machines, &bound)| gap(machines, bound))
            .collect();
        gaps.sort_by(f64::total_cmp);
        let machines = MachinesLowerBound::of(by_trial);
        ParetoPoint {
            name,
            machines_by_trial: machines.by_trial,
            machines_median: machines.median,
            gap: gaps[(gaps.len() - 1) / 2],
        }
    };
    let mut points = vec![point("greedy".to_owned(), Budget::ZERO)];
    points.extend(budgets.iter().map(|&budget| point(budget.to_string(), budget)));
    let bound = MachinesLowerBound::of(improved.compact.lower_bound_by_trial.clone());
    points.push(ParetoPoint {
        name: format!("bound ({})", improved.method),
        machines_by_trial: bound.by_trial,
        machines_median: bound.median,
        gap: 0.0,
    });
    // The other two searches take the least budget and the middle one.
    let mut trade_budgets = vec![budgets[0], budgets[budgets.len() / 2]];
    trade_budgets.dedup();
    let mut failures = Vec::new();
    let (mut evictions, mut moves) = (Vec::new(), Vec::new());
    if trades.evictions {
        evictions = trade::evictions(trace, options, &trade_budgets, &mut failures)?;
    }
    if trades.moves {
        moves = trade::moves(trace, options, &trade_budgets, &mut failures)?;
    }
    failures.sort_unstable();
    failures.dedup();
    let mut improved = improved;
    improved.failures.extend(failures);
    let trade_budgets = trade_budgets.iter().map(ToString::to_string).collect();
    Ok(ParetoReport { points, evictions, moves, trade_budgets, improved })
}

#[expect(clippy::cast_precision_loss, reason = "counts of machines")]
fn gap(machines: usize, bound: usize) -> f64 {
    machines as f64 / bound.max(1) as f64 - 1.0
}
