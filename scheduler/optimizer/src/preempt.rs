//! Preemption for a batch of arriving jobs: greedy's against the search's, and a bound on the work that has
//! to be lost.
//!
//! Greedy preempts for one task after the other; its victims go back to the queue and may preempt others in
//! turn, a cascade. The search ([`crate::batch`]) starts from that, evicts each victim once and places it again only where
//! there is room.
//!
//! The bound is Lagrange's. Give each shape of arriving tasks a price. Whatever plan places all of them, on
//! each machine the prices of those that it puts there, less the work lost there, are at most the largest
//! such difference that any set of arriving tasks has on this machine. So the work lost is at least what
//! all arriving tasks are worth at these prices, less the sum of these differences over the machines. The
//! work that a set costs on a machine is bounded from below resource by resource: victims that lose least
//! for what they free go first, the last of them in part. All of it in integers, so that any prices prove
//! what they prove; a subgradient search makes them good ones.

use std::collections::BTreeMap;

use anyhow::ensure;
use cell::{Band, TaskId};
use fauxmaster::PackOptions;
use fauxmaster::workload::{Purpose, generator};
use scheduler::{Plan, Snapshot};
use traces::Trace;

use crate::batch::{BatchOptions, BatchPlan, plan};
use crate::batches::plan_report;
use crate::budget::Budget;
use crate::infeasible::rules_out;
use crate::objective::Objective;
use crate::report::{PreemptPlanReport, PreemptReport};
use crate::scene::Scene;
use crate::state::{Signed, fits, give_back, take};

/// Sets of arriving tasks that one machine may be given, at most; with more the bound is not worked out.
const SETS_MAX: usize = 4000;

/// Rounds of the search for prices.
const ROUNDS: u32 = 120;

/// Compares greedy and better preemption for what arrives in a scene.
///
/// # Errors
/// If nothing arrives.
pub fn compare(
    trace: &Trace,
    options: &PackOptions,
    scene: &Scene<'_>,
    budget: Budget,
) -> anyhow::Result<PreemptReport> {
    ensure!(!scene.arriving.is_empty(), "nothing arrives");
    let cell = &trace.cell;
    let objective = Objective::of(cell, options.accounting);
    let mut random = generator(options.seed, Purpose::Search, 0);
    let batch_options =
        BatchOptions { pass: options.pass(options.seed), budget, max_victims: None };
    let found = plan(&scene.running, &scene.arriving, &objective, &batch_options, &mut random);
    let figures = |plan: &BatchPlan<'_>, evictions: usize, cascade_depth: usize| {
        let mut victims_by_band: BTreeMap<&'static str, usize> = BTreeMap::new();
        for &victim in &plan.victims {
            let band: Band = cell.job(victim.job).priority.band();
            *victims_by_band.entry(band.name()).or_default() += 1;
        }
        PreemptPlanReport {
            plan: plan_report(&scene.running, plan, &scene.arriving),
            victims_by_band,
            eviction_count: evictions,
            cascade_depth,
        }
    };
    let (evictions, greedy_depth) = cascade(&found.greedy_pass);
    let victims = found.plan.victims.len();
    let improved_depth = depth(&scene.running, &found.plan, &objective);
    let is_improved = found.plan.score > found.greedy.score;
    let greedy = figures(&found.greedy, evictions, greedy_depth);
    let improved = if is_improved {
        figures(&found.plan, victims, improved_depth)
    } else {
        figures(&found.plan, evictions, greedy_depth)
    };
    let places_all = greedy.plan.pending_count == 0 && improved.plan.pending_count == 0;
    let least = if places_all { least_lost(scene, &objective) } else { None };
    let lost = found.plan.score.lost.iter().fold(0, |sum: u64, &of| sum.saturating_add(of));
    let mut why_pending: BTreeMap<String, usize> = BTreeMap::new();
    for &task in &scene.arriving {
        if found.plan.end.placement(task).is_none() {
            let groups = rules_out(cell, options.accounting, task, Some(&found.plan.end));
            let names: Vec<String> = groups.iter().map(ToString::to_string).collect();
            *why_pending.entry(names.join(" and ")).or_default() += 1;
        }
    }
    Ok(PreemptReport {
        policy: options.policy.name().to_owned(),
        accounting: options.accounting.name(),
        seed: options.seed,
        machine_count: scene.running.machine_count(),
        task_count: scene.arriving.len(),
        budget: budget.to_string(),
        greedy,
        improved,
        is_improved,
        work_lost_lower_bound: least.map(machine_hours),
        gap: least.filter(|&least| least > 0).map(|least| ratio(lost, least) - 1.0),
        why_pending,
        greedy_seconds: found.greedy_seconds,
        seconds: found.seconds,
        failures: found.failures,
    })
}

/// How many evictions a pass decided on, and how deep they go: 1 for the victims of tasks that waited, one
/// more for the victims of victims.
fn cascade(plan: &Plan<'_>) -> (usize, usize) {
    let mut depth_of: BTreeMap<TaskId, usize> = BTreeMap::new();
    let (mut count, mut deepest) = (0, 0);
    for assignment in &plan.assignments {
        let depth = depth_of.get(&assignment.task).copied().unwrap_or(0) + 1;
        for &victim in &assignment.victims {
            count += 1;
            deepest = deepest.max(depth);
            depth_of.insert(victim, depth);
        }
    }
    (count, deepest)
}

/// How deep the evictions of a plan go that is carried out at once: 1 where a victim could not stay even if
/// no other victim had come to its machine; else one more than the deepest of those.
fn depth(start: &Snapshot<'_>, plan: &BatchPlan<'_>, objective: &Objective<'_>) -> usize {
    let home = |task: TaskId| start.placement(task).map(|at| at.row);
    // Who takes a place is of higher priority, so the highest are known first.
    let mut victims = plan.victims.clone();
    victims.sort_by_key(|&victim| std::cmp::Reverse(objective.priority(victim)));
    let mut depth_of: BTreeMap<TaskId, usize> = BTreeMap::new();
    for &victim in &victims {
        let Some(row) = home(victim) else { continue };
        let mut room = plan.end.free(row);
        let mut deepest = 0;
        for &other in plan.end.tasks_on(row) {
            if let Some(&depth) = depth_of.get(&other).filter(|_| home(other) != Some(row)) {
                deepest = deepest.max(depth);
                give_back(&mut room, &plan.end.charged(other));
            }
        }
        let is_their_doing = fits(&plan.end.charged(victim), &room);
        depth_of.insert(victim, if is_their_doing { deepest + 1 } else { 1 });
    }
    depth_of.into_values().max().unwrap_or(0)
}

/// Arriving tasks that are alike.
struct Shape {
    charge: Signed,
    priority: u16,
    count: u64,
}

/// What machines with the same running tasks, as far as they matter, offer.
struct Offer {
    /// For each set of arriving tasks that could be there the least work that is lost by it.
    costs: Vec<(usize, u64)>,
    /// How many machines are like that.
    count: u64,
}

/// A lower bound on the work that any plan loses that places everything that arrives, in the unit of
/// [`Objective::lost`]; `None` where there are too many sets of tasks to look at.
fn least_lost(scene: &Scene<'_>, objective: &Objective<'_>) -> Option<u64> {
    let running = &scene.running;
    let mut by_shape: BTreeMap<(Signed, u16), u64> = BTreeMap::new();
    // What runs in an alloc takes nothing of a machine; without it the bound is lower and still one.
    let on_machines = |task: &&TaskId| running.cell().job(task.job).alloc_set.is_none();
    for &task in scene.arriving.iter().filter(on_machines) {
        let priority = objective.priority(task).get();
        *by_shape.entry((running.charged(task), priority)).or_default() += 1;
    }
    let shapes: Vec<Shape> = by_shape
        .into_iter()
        .map(|((charge, priority), count)| Shape { charge, priority, count })
        .collect();
    let sets = sets(running, &shapes)?;
    let offers = offers(running, objective, &shapes, &sets);
    // Prices start at what one task of the shape costs at least; then towards what is missing.
    let mut prices: Vec<u64> = (0..shapes.len())
        .map(|shape| {
            let alone = |set: &Vec<u64>| set.iter().sum::<u64>() == 1 && set[shape] == 1;
            let costs = offers.iter().flat_map(|offer| &offer.costs);
            costs.filter(|(set, _)| alone(&sets[*set])).map(|&(_, cost)| cost).min().unwrap_or(0)
        })
        .collect();
    let mut best = 0;
    let most = offers.iter().flat_map(|offer| &offer.costs).map(|&(_, cost)| cost).max()?;
    let mut step = most / 2;
    for _ in 0..ROUNDS {
        let (proven, placed) = proves(&offers, &sets, &shapes, &prices);
        best = best.max(proven);
        for ((price, shape), placed) in prices.iter_mut().zip(&shapes).zip(placed) {
            let is_short = placed < shape.count;
            *price = if is_short { price.saturating_add(step) } else { price.saturating_sub(step) };
        }
        step = (step / 10 * 9).max(1);
    }
    Some(best)
}

/// What prices prove, and how many tasks of each shape the machines would take at them.
fn proves(
    offers: &[Offer],
    sets: &[Vec<u64>],
    shapes: &[Shape],
    prices: &[u64],
) -> (u64, Vec<u64>) {
    let worth: Vec<u128> = sets
        .iter()
        .map(|set| {
            let each = set.iter().zip(prices).map(|(&n, &p)| u128::from(n) * u128::from(p));
            each.sum()
        })
        .collect();
    let mut placed = vec![0; shapes.len()];
    let mut taken = 0_u128;
    for offer in offers {
        let mut most = 0_u128;
        let mut chosen = None;
        for &(set, cost) in &offer.costs {
            let gain = worth[set].saturating_sub(u128::from(cost));
            if gain > most {
                (most, chosen) = (gain, Some(set));
            }
        }
        taken += most * u128::from(offer.count);
        if let Some(set) = chosen {
            for (placed, &n) in placed.iter_mut().zip(&sets[set]) {
                *placed += n * offer.count;
            }
        }
    }
    let all: u128 =
        shapes.iter().zip(prices).map(|(s, &p)| u128::from(s.count) * u128::from(p)).sum();
    (u64::try_from(all.saturating_sub(taken)).unwrap_or(u64::MAX), placed)
}

/// Every set of arriving tasks that some machine could hold if nothing else were there, by how many of each
/// shape; `None`: too many.
fn sets(running: &Snapshot<'_>, shapes: &[Shape]) -> Option<Vec<Vec<u64>>> {
    let mut largest = [0_i64; 6];
    for row in 0..running.machine_count() {
        let mut capacity = running.free(row);
        for &task in running.tasks_on(row) {
            give_back(&mut capacity, &running.charged(task));
        }
        for (most, have) in largest.iter_mut().zip(capacity) {
            *most = (*most).max(have);
        }
    }
    let mut all: Vec<(Vec<u64>, Signed)> = vec![(vec![0; shapes.len()], largest)];
    for (index, shape) in shapes.iter().enumerate() {
        // Every set so far, with one more and one more of this shape.
        let known = all.len();
        for position in 0..known {
            let (mut set, mut room) = all[position].clone();
            while set[index] < shape.count && fits(&shape.charge, &room) {
                take(&mut room, &shape.charge);
                set[index] += 1;
                all.push((set.clone(), room));
                if all.len() > SETS_MAX {
                    return None;
                }
            }
        }
    }
    Some(all.into_iter().map(|(set, _)| set).skip(1).collect())
}

/// What each machine offers, alike ones together.
fn offers(
    running: &Snapshot<'_>,
    objective: &Objective<'_>,
    shapes: &[Shape],
    sets: &[Vec<u64>],
) -> Vec<Offer> {
    let cell = running.cell();
    let highest = shapes.iter().map(|shape| shape.priority).max().unwrap_or(0);
    let mut alike: BTreeMap<Vec<(usize, u64)>, u64> = BTreeMap::new();
    for row in 0..running.machine_count() {
        let room = running.free(row);
        let mut victims: Vec<(Signed, u64)> = running
            .tasks_on(row)
            .iter()
            .filter(|task| !cell.job(task.job).priority.band().is_prod())
            .filter(|task| cell.job(task.job).max_disrupted != Some(0))
            // Whoever leaves is of lower priority than some arriving task: than the one that takes the
            // place, or than one that drove out whoever takes it.
            .filter(|&&task| objective.priority(task).get() < highest)
            .map(|&task| (running.charged(task), objective.lost(task)))
            .collect();
        victims.sort_unstable();
        let mut costs = Vec::new();
        for (number, set) in sets.iter().enumerate() {
            let mut charge = [0_i64; 6];
            for (shape, &count) in shapes.iter().zip(set).filter(|&(_, &count)| count > 0) {
                for (sum, of) in charge.iter_mut().zip(shape.charge) {
                    *sum += of * i64::try_from(count).unwrap_or(i64::MAX);
                }
            }
            if let Some(cost) = least_cost(&charge, &room, &victims) {
                costs.push((number, cost));
            }
        }
        if !costs.is_empty() {
            *alike.entry(costs).or_default() += 1;
        }
    }
    alike.into_iter().map(|(costs, count)| Offer { costs, count }).collect()
}

/// The least work lost that makes room for `charge`: the most that any resource by itself asks for.
fn least_cost(charge: &Signed, room: &Signed, victims: &[(Signed, u64)]) -> Option<u64> {
    let mut least = 0;
    for r in 0..charge.len() {
        let lacking = if charge[r] > 0 { charge[r].saturating_sub(room[r]) } else { 0 };
        if lacking <= 0 || room[r] == i64::MAX {
            continue;
        }
        let mut offered: Vec<(i64, u64)> = victims
            .iter()
            .filter(|(theirs, _)| theirs[r] > 0)
            .map(|&(theirs, lost)| (theirs[r], lost))
            .collect();
        // Least lost for what is freed, first.
        offered.sort_unstable_by(|a, b| {
            let left = u128::from(a.1) * b.0.unsigned_abs() as u128;
            let right = u128::from(b.1) * a.0.unsigned_abs() as u128;
            left.cmp(&right).then(a.cmp(b))
        });
        let (mut lacking, mut cost) = (lacking, 0_u64);
        for (frees, lost) in offered {
            if lacking <= 0 {
                break;
            }
            let part = u128::from(lost) * u128::from(frees.min(lacking).unsigned_abs())
                / u128::from(frees.unsigned_abs());
            cost = cost.saturating_add(u64::try_from(part).unwrap_or(u64::MAX));
            lacking -= frees;
        }
        if lacking > 0 {
            return None;
        }
        least = least.max(cost);
    }
    Some(least)
}

#[expect(clippy::cast_precision_loss, reason = "to be shown")]
fn machine_hours(lost: u64) -> f64 {
    lost as f64 / 3_600_000.0
}

#[expect(clippy::cast_precision_loss, reason = "to be shown")]
fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b as f64
}
