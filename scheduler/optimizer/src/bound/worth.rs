//! The worth bound: how much of what waits can be placed at most, on given machines.
//!
//! maximise what is placed by worth, where x(s, t) tasks of shape s go to machines of shape t as fluids,
//! and no more of a class of tasks is placed than there is. A shape's price is the dual of its row: what
//! the room for one of its tasks is worth. Any prices give a bound: no packing places more than what all
//! tasks are worth above their prices, and what all machines can hold at these prices. Source: weak duality;
//! [`Verified::most_worth`](crate::certificate::Verified::most_worth) adds it up in integers.

use std::collections::BTreeMap;

use cell::TaskId;
use good_lp::{
    DualValues, Expression, ProblemVariables, Solution, SolutionWithDual, SolverModel, constraint,
    solvers::highs::highs, variable,
};

use super::BoundError;
use super::round::{Prices, certificate_in};
use super::transport::constrained;
use crate::certificate::{Certificate, WORTH_LOG2};
use crate::model::{Model, RESOURCE_COUNT, WorthClass};
use crate::objective::{BAND_COUNT, Objective, level};

/// The classes of these tasks, which are those that the model is of; and by level what the tasks are worth
/// that run in allocs, of which the model knows nothing.
#[must_use]
pub fn classes(
    model: &Model,
    objective: &Objective<'_>,
    tasks: &[TaskId],
) -> (Vec<WorthClass>, [u64; BAND_COUNT]) {
    let mut counts: BTreeMap<(usize, usize, u64), u64> = BTreeMap::new();
    let mut in_allocs = [0; BAND_COUNT];
    for (&task, shape) in tasks.iter().zip(&model.shape_of_task) {
        let level = level(objective.priority(task));
        let worth = objective.worth(task);
        match shape {
            Some(shape) => *counts.entry((*shape, level, worth)).or_default() += 1,
            None => in_allocs[level] += worth,
        }
    }
    let class = |((shape, level, worth), count)| WorthClass { shape, level, worth, count };
    (counts.into_iter().map(class).collect(), in_allocs)
}

/// Each level counts so many times as much as the next in the prices that a search goes by. Our choice:
/// as much as the solver's floats bear for the bands that a cell has.
const LEVEL_FACTOR: f64 = 1000.0;

/// Prices for a mix of machines, in units of 2^-[`WORTH_LOG2`] of a worth. With `is_weighted` a level
/// outweighs those below it, so that the prices are those of the room that the last level that fits
/// competes for; without, all levels count alike, which is what a bound of their sum wants.
///
/// # Errors
/// If the solver fails.
pub fn worth(
    model: &Model,
    mix: &[u64],
    classes: &[WorthClass],
    is_weighted: bool,
) -> Result<Certificate, BoundError> {
    let machines: Vec<usize> = (0..mix.len()).filter(|&t| mix[t] > 0).collect();
    let lowest = classes.iter().map(|class| class.level).max().unwrap_or(0);
    let value = |class: &WorthClass| {
        let above = i32::try_from(lowest - class.level).unwrap_or(0);
        let factor = if is_weighted { LEVEL_FACTOR.powi(above) } else { 1.0 };
        factor * float(class.worth)
    };
    let most = classes.iter().map(value).fold(1.0, f64::max);
    let mut variables = ProblemVariables::new();
    // What is placed of each class less what there is room for, by shape, in shares of the shape.
    let mut placed: Vec<Expression> = vec![Expression::default(); model.tasks.len()];
    let mut total = Expression::default();
    for class in classes {
        let share = variables.add(variable().min(0).max(1));
        let of_shape = float(class.count) / float(model.tasks[class.shape].count);
        placed[class.shape].add_mul(of_shape, share);
        total.add_mul(float(class.count) * value(class) / most, share);
    }
    let mut used: Vec<[Expression; RESOURCE_COUNT]> =
        mix.iter().map(|_| std::array::from_fn(|_| Expression::default())).collect();
    for (s, task) in model.tasks.iter().enumerate() {
        for &t in machines.iter().filter(|&&t| model.fits(s, t)) {
            let share = variables.add(variable().min(0));
            placed[s].add_mul(-1.0, share);
            for r in constrained(model, t) {
                let amount = float(task.demand[r]) * float(task.count);
                let have = float(model.machines[t].capacity[r]) * float(mix[t]);
                if amount > 0.0 {
                    used[t][r].add_mul(amount / have, share);
                }
            }
        }
    }
    let mut problem = variables.maximise(total).using(highs).set_threads(1);
    let rows: Vec<_> =
        placed.into_iter().map(|row| problem.add_constraint(constraint!(row <= 0))).collect();
    let mut capacities = Vec::new();
    for &t in &machines {
        for r in constrained(model, t) {
            let used = std::mem::take(&mut used[t][r]);
            capacities.push((t, r, problem.add_constraint(constraint!(used <= 1))));
        }
    }
    let solved = problem.solve();
    let mut solution = solved.map_err(|source| BoundError::Solver { what: "worth", source })?;
    let _ = solution.eval(0.0);
    let duals = solution.compute_dual();
    let mut prices = Prices {
        tasks: rows
            .into_iter()
            .zip(&model.tasks)
            .map(|(row, task)| duals.dual(row).abs() * most / float(task.count))
            .collect(),
        multipliers: vec![[0.0; RESOURCE_COUNT]; mix.len()],
        knapsacks: vec![None; mix.len()],
    };
    for (t, r, row) in capacities {
        let have = float(model.machines[t].capacity[r]) * float(mix[t]);
        prices.multipliers[t][r] = duals.dual(row).abs() * most / have;
    }
    Ok(certificate_in(model, "worth", &prices, f64::from(1 << WORTH_LOG2)))
}

#[expect(clippy::cast_precision_loss, reason = "a solver computes in floats")]
fn float(amount: u64) -> f64 {
    amount as f64
}
