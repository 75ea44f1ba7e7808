//! Batches, one after the other, each met by a cell of its own; for figures.

use std::collections::BTreeMap;

use anyhow::ensure;
use cell::Band;
use fauxmaster::workload::{Purpose, generator};
use fauxmaster::{PackOptions, Start, allocation};
use scheduler::Snapshot;
use traces::Trace;

use crate::batch::{BatchOptions, BatchPlan, plan};
use crate::budget::Budget;
use crate::objective::{BAND_COUNT, Objective};
use crate::report::{BatchReport, BatchesReport, PlanReport};
use crate::scene::{Fill, scene};

/// Which batches.
#[derive(Clone, Copy, Debug)]
pub struct BatchesOptions {
    /// What runs and how much arrives, where the cell is packed.
    pub fill: Option<Fill>,
    /// Number of batches.
    pub batches: usize,
    /// What may be spent on each.
    pub budget: Budget,
    /// At most so many running tasks are evicted in a batch.
    pub max_victims: Option<usize>,
}

/// Plans every batch. `progress` is called after each with the number that are done.
///
/// # Errors
/// If there is no such cell, or nothing arrives.
pub fn run(
    trace: &Trace,
    options: &PackOptions,
    of: &BatchesOptions,
    progress: &(dyn Fn(usize) + Sync),
) -> anyhow::Result<BatchesReport> {
    ensure!(
        of.max_victims.is_none() || trace.cell.kube.is_none(),
        "--max-victims is not for a Kubernetes cluster: part of a plan may break its rules"
    );
    let is_recorded = options.start == Start::Recorded;
    ensure!(!is_recorded || of.batches == 1, "the recorded state is one: give no --batches");
    let objective = Objective::of(&trace.cell, options.accounting);
    let mut batches = Vec::with_capacity(of.batches);
    let mut failures = Vec::new();
    let mut machine_count = 0;
    for number in 0..of.batches as u64 {
        let scene = scene(trace, options, of.fill, None, number)?;
        machine_count = scene.running.machine_count();
        let mut random = generator(options.seed, Purpose::Search, number);
        let batch_options = BatchOptions {
            pass: options.pass(options.seed),
            budget: of.budget,
            max_victims: of.max_victims,
        };
        let found = plan(&scene.running, &scene.arriving, &objective, &batch_options, &mut random);
        let figures = |plan: &BatchPlan<'_>| plan_report(&scene.running, plan, &scene.arriving);
        batches.push(BatchReport {
            task_count: scene.arriving.len(),
            allocation_before: allocation(&scene.running),
            greedy: figures(&found.greedy),
            plan: figures(&found.plan),
            is_better: found.plan.score > found.greedy.score,
            greedy_seconds: found.greedy_seconds,
            seconds: found.seconds,
            solves: found.solves,
            unsolved: found.unsolved,
            improvements: found.improvements,
        });
        failures.extend(found.failures);
        progress(batches.len());
    }
    failures.dedup();
    Ok(BatchesReport {
        policy: options.policy.name().to_owned(),
        accounting: options.accounting.name(),
        seed: options.seed,
        machine_count,
        budget: of.budget.to_string(),
        better_count: batches.iter().filter(|batch| batch.is_better).count(),
        batches,
        failures,
    })
}

/// The figures of one plan.
pub(crate) fn plan_report(
    start: &Snapshot<'_>,
    plan: &BatchPlan<'_>,
    tasks: &[cell::TaskId],
) -> PlanReport {
    let has_place = |task: &&cell::TaskId| plan.end.placement(**task).is_some();
    let placed_count = tasks.iter().filter(has_place).count();
    let name = |level: usize| Band::ALL[BAND_COUNT - 1 - level].name();
    let mut net_worth: BTreeMap<&'static str, i128> = BTreeMap::new();
    for (level, &net) in plan.score.net.iter().enumerate().filter(|&(_, &net)| net != 0) {
        net_worth.insert(name(level), net);
    }
    debug_assert!(plan.victims.iter().all(|&victim| start.placement(victim).is_some()));
    PlanReport {
        placed_count,
        pending_count: tasks.len() - placed_count,
        victim_count: plan.victims.len(),
        placed_again_count: plan.victims.iter().filter(has_place).count(),
        net_worth,
        net_worth_machines: machines(plan.score.net.iter().sum::<i128>()) / 100.0,
        work_lost_machine_hours: machines(
            plan.score.lost.iter().map(|&lost| i128::from(lost)).sum(),
        ) / 3600.0,
    }
}

/// From thousandths of a machine.
#[expect(clippy::cast_precision_loss, reason = "to be shown")]
fn machines(thousandths: i128) -> f64 {
    thousandths as f64 / 1000.0
}
