//! Packing against evictions against moves: what more of one buys of another.
//!
//! *Evictions*: a batch arrives in a cell that is packed to 99 %, and so many running tasks may be evicted
//! for it. *Moves*: a cell that was packed and then lost a tenth of its tasks is repacked with so many
//! moves. Each for greedy, for two budgets, and with the bound.

use anyhow::Context;
use cell::TaskId;
use fauxmaster::workload::{Purpose, generator};
use fauxmaster::{CompactOptions, PackOptions};
use scheduler::Snapshot;
use traces::Trace;

use crate::batch::{BatchOptions, plan};
use crate::bound::{self, classes};
use crate::budget::Budget;
use crate::certificate::{Certificate, verify};
use crate::model::{MachineShape, Model, RESOURCE_COUNT, UNLIMITED};
use crate::objective::Objective;
use crate::repack::{Goal, Limit, RepackOptions, Start, repack};
use crate::report::{EvictionPoint, MovePoint};
use crate::scene::{Fill, packed};

/// How full the cell is that a batch meets, and how many tasks arrive.
const FILL: f64 = 0.99;
const ARRIVING: usize = 1000;

/// Evictions that are allowed.
const EVICTIONS: [Option<usize>; 5] = [Some(0), Some(50), Some(150), Some(400), None];

/// The share of tasks that leave a packed cell before it is repacked.
const CHURN: f64 = 0.1;

/// Moves that are allowed.
const MOVES: [usize; 4] = [100, 300, 1000, 3000];

fn pack_options(options: &CompactOptions) -> PackOptions {
    PackOptions {
        accounting: options.accounting,
        queue: options.queue,
        speed: options.speed,
        ..PackOptions::new(options.policy.clone(), options.seed)
    }
}

/// What evictions buy: one point for each number of them that is allowed. None where nothing arrives.
///
/// # Errors
/// If there is no such cell.
pub fn evictions(
    trace: &Trace,
    options: &CompactOptions,
    budgets: &[Budget],
    failures: &mut Vec<String>,
) -> anyhow::Result<Vec<EvictionPoint>> {
    let options = pack_options(options);
    let scene = packed(trace, &options, Fill { share: FILL, arriving: ARRIVING }, None, 0)?;
    if scene.arriving.is_empty() {
        return Ok(Vec::new());
    }
    let objective = Objective::of(&trace.cell, options.accounting);
    let mut points = Vec::new();
    for max_victims in EVICTIONS {
        let mut point = EvictionPoint { max_victims, ..EvictionPoint::default() };
        for &budget in budgets {
            let mut random = generator(options.seed, Purpose::Search, 0);
            let pass = options.pass(options.seed);
            let of = BatchOptions { pass, budget, max_victims };
            let found = plan(&scene.running, &scene.arriving, &objective, &of, &mut random);
            point.greedy_net_worth = machines(found.greedy.score.net.iter().sum());
            point.greedy_victims = found.greedy.victims.len();
            point.net_worth_by_budget.push(machines(found.plan.score.net.iter().sum()));
            point.victims_by_budget.push(found.plan.victims.len());
            failures.extend(found.failures);
        }
        let may_evict = max_victims != Some(0);
        match net_bound(&scene.running, &scene.arriving, &objective, may_evict) {
            Ok((most, _)) => point.net_worth_upper_bound = Some(machines(most)),
            Err(error) => failures.push(error.to_string()),
        }
        points.push(point);
    }
    Ok(points)
}

/// The most net worth, all bands together, that any plan for a batch could have: what is free on all machines,
/// and what evictable tasks have, as one machine on which tasks are fluids. Its certificate is verified.
pub(crate) fn net_bound(
    running: &Snapshot<'_>,
    arriving: &[TaskId],
    objective: &Objective<'_>,
    may_evict: bool,
) -> anyhow::Result<(i128, Certificate)> {
    let cell = running.cell();
    let mut capacity = [0_i128; RESOURCE_COUNT];
    let mut is_unlimited = [false; RESOURCE_COUNT];
    let mut evictable: Vec<TaskId> = Vec::new();
    for row in 0..running.machine_count() {
        for (r, free) in running.free(row).into_iter().enumerate() {
            is_unlimited[r] |= free == i64::MAX;
            capacity[r] += i128::from(free.max(0));
        }
        if may_evict {
            let may_leave = |task: &&TaskId| !cell.job(task.job).priority.band().is_prod();
            evictable.extend(running.tasks_on(row).iter().filter(may_leave));
        }
    }
    for &task in &evictable {
        for (sum, charge) in capacity.iter_mut().zip(running.charged(task)) {
            *sum += i128::from(charge);
        }
    }
    let tasks: Vec<TaskId> = arriving.iter().chain(&evictable).copied().collect();
    let mut model = Model::of(cell, &tasks, running.accounting(), 0, &|_| false);
    let mut have = [0; RESOURCE_COUNT];
    for r in 0..RESOURCE_COUNT {
        have[r] = match is_unlimited[r] {
            true => UNLIMITED,
            false => u64::try_from(capacity[r]).unwrap_or(UNLIMITED),
        };
    }
    let obeys = vec![true; model.rules.len()];
    model.machines = vec![MachineShape { capacity: have, obeys, count: 1 }];
    let (of_classes, in_allocs) = classes(&model, objective, &tasks);
    let certificate = bound::worth(&model, &[1], &of_classes, false)?;
    let verified = verify(&model, &certificate).context("the bound of a batch")?;
    let most = verified.most_worth(&certificate, &of_classes, &[1]);
    let kept: u64 = evictable.iter().map(|&task| objective.worth(task)).sum();
    let net = i128::from(most) + i128::from(in_allocs.iter().sum::<u64>()) - i128::from(kept);
    Ok((net, certificate))
}

/// What moves buy: one point for each number of them that is allowed.
///
/// # Errors
/// If there is no such cell.
pub fn moves(
    trace: &Trace,
    options: &CompactOptions,
    budgets: &[Budget],
    failures: &mut Vec<String>,
) -> anyhow::Result<Vec<MovePoint>> {
    let pack = pack_options(options);
    let mut points = Vec::new();
    for max_moves in MOVES {
        let mut point = MovePoint { max_moves, ..MovePoint::default() };
        for &budget in budgets {
            let of = RepackOptions {
                pack: pack.clone(),
                start: Start::Packed { churn: CHURN },
                goal: Goal::Machines,
                limit: Limit::Moves(max_moves),
                budget,
            };
            let report = repack(trace, &of)?;
            point.greedy_freed = report.greedy_gain;
            point.freed_by_budget.push(report.gain);
            point.freed_upper_bound = report.upper_bound;
            failures.extend(report.failures);
        }
        points.push(point);
    }
    Ok(points)
}

/// Worths in mean machines.
#[expect(clippy::cast_precision_loss, reason = "to be shown")]
fn machines(worth: i128) -> f64 {
    worth as f64 / 100_000.0
}
