//! The configuration bound: whole fillings of a machine, by column generation.
//!
//! minimise z, where x(t, f) machines of shape t are filled by f: all tasks are in some filling, and of each
//! machine shape at most z times those of the mix are filled. Columns are found by pricing: the dearest
//! filling at the duals (Gilmore and Gomory 1961), by [`knapsack`](crate::knapsack). Prices between the best
//! so far and the duals are priced (Wentges 1997), which keeps them from swinging. Any prices give a bound,
//! so the search may end whenever it likes.

use std::collections::BTreeSet;

use good_lp::{
    DualValues, Expression, ProblemVariables, Solution, SolutionWithDual, SolverModel, constraint,
    solvers::highs::highs, variable,
};

use super::BoundError;
use super::round::{Prices, certificate};
use crate::certificate::Certificate;
use crate::knapsack::{Filling, Relaxed, relax, search};
use crate::model::{Model, RESOURCE_COUNT};

/// How long to search for prices.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Rounds of column generation at most.
    pub rounds: usize,
    /// Nodes of each search for a filling.
    pub nodes: u32,
    /// Ends the search once fillings are known that need no more than this share above the bound.
    pub tolerance: f64,
}

impl Default for Effort {
    fn default() -> Self {
        Self { rounds: 60, nodes: 20_000, tolerance: 1e-4 }
    }
}

/// Fillings found in one round for each machine shape.
const FILLINGS_A_ROUND: usize = 8;

/// Columns that the master keeps; those that cost most at the duals go first.
const COLUMNS_MAX: usize = 8000;

/// One filling of machines of one shape.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Column {
    shape: usize,
    filling: Filling,
}

/// Duals of the master: prices by task shape, values by machine shape, and what it all costs.
struct Duals {
    prices: Vec<f64>,
    values: Vec<f64>,
    z: f64,
}

/// The certificate for a mix of machines, never worse than what the prices of `start` prove.
///
/// # Errors
/// If the solver fails; so it does where a task fits on no machine of the mix.
pub fn configuration(
    model: &Model,
    mix: &[u64],
    start: &Certificate,
    effort: Effort,
) -> Result<Certificate, BoundError> {
    let shapes: Vec<usize> = (0..mix.len()).filter(|&shape| mix[shape] > 0).collect();
    let dearest = start.tasks.iter().map(|task| task.price).max().unwrap_or(1).max(1);
    let mut best_prices: Vec<f64> =
        start.tasks.iter().map(|task| float(task.price) / float(dearest)).collect();
    let mut best = evaluate(model, mix, &best_prices);
    let mut columns = first_columns(model, &shapes);
    add_fillings(model, &shapes, &best_prices, &best.relaxed, effort, &mut columns);
    let mut share_of_best = 0.5;
    for _ in 0..effort.rounds {
        let duals = master(model, mix, &columns)?;
        if duals.z <= best.ratio * (1.0 + effort.tolerance) {
            break;
        }
        let of_best: f64 = total(model, &best_prices);
        let of_duals: f64 = total(model, &duals.prices);
        let prices: Vec<f64> = best_prices
            .iter()
            .zip(&duals.prices)
            // Both scaled to the same worth of all tasks.
            .map(|(old, new)| {
                share_of_best * old / of_best.max(f64::MIN_POSITIVE)
                    + (1.0 - share_of_best) * new / of_duals.max(f64::MIN_POSITIVE)
            })
            .collect();
        let found = evaluate(model, mix, &prices);
        let count = columns.len();
        add_fillings(model, &shapes, &prices, &found.relaxed, effort, &mut columns);
        if columns.len() == count && share_of_best == 0.0 {
            break;
        }
        if found.ratio > best.ratio {
            (best, best_prices, share_of_best) = (found, prices, 0.5);
        } else {
            // Nearer to the duals, and at them in the end.
            share_of_best = if share_of_best < 0.05 { 0.0 } else { share_of_best / 2.0 };
        }
        thin_out(&mut columns, &duals);
    }
    let prices = Prices {
        tasks: best_prices,
        multipliers: best.relaxed.iter().map(|relaxed| relaxed.multipliers).collect(),
        knapsacks: best.relaxed.into_iter().map(|relaxed| relaxed.knapsack).collect(),
    };
    let found = certificate(model, "configuration", &prices);
    // A knapsack in a coarse grid may be looser than the multipliers that the search began with.
    if ratio(model, mix, &found) >= ratio(model, mix, start) {
        Ok(found)
    } else {
        Ok(Certificate { method: found.method, ..start.clone() })
    }
}

/// How much of a mix of machines a certificate says is needed at least.
fn ratio(model: &Model, mix: &[u64], certificate: &Certificate) -> f64 {
    let prices = model.tasks.iter().zip(&certificate.tasks);
    let total: f64 = prices.map(|(task, of)| float(task.count) * float(of.price)).sum();
    let values = certificate.machines.iter().zip(mix);
    let have: f64 = values.map(|(machine, &count)| float(machine.value) * float(count)).sum();
    if have > 0.0 { total / have } else { 0.0 }
}

/// What prices prove for a mix.
struct Evaluated {
    /// By machine shape.
    relaxed: Vec<Relaxed>,
    /// How much of the mix is needed at least.
    ratio: f64,
}

fn evaluate(model: &Model, mix: &[u64], prices: &[f64]) -> Evaluated {
    let relaxed: Vec<Relaxed> = (0..mix.len()).map(|shape| relax(model, shape, prices)).collect();
    let have: f64 = relaxed.iter().zip(mix).map(|(of, &count)| of.worth * float(count)).sum();
    let ratio = if have > 0.0 { total(model, prices) / have } else { 0.0 };
    Evaluated { relaxed, ratio }
}

fn total(model: &Model, prices: &[f64]) -> f64 {
    model.tasks.iter().zip(prices).map(|(task, price)| float(task.count) * price).sum()
}

/// Fillings with one task shape and nothing else, so that the master has a solution.
fn first_columns(model: &Model, shapes: &[usize]) -> BTreeSet<Column> {
    let mut columns = BTreeSet::new();
    for task in 0..model.tasks.len() {
        let of = &model.tasks[task];
        for &shape in shapes.iter().filter(|&&shape| model.fits(task, shape)) {
            let capacity = model.machines[shape].capacity;
            let fit = (0..RESOURCE_COUNT)
                .filter(|&r| of.demand[r] > 0)
                .map(|r| capacity[r] / of.demand[r])
                .min()
                .unwrap_or(of.count);
            columns.insert(Column { shape, filling: vec![(task, fit.min(of.count))] });
        }
    }
    columns
}

/// Adds fillings that are dear at these prices: the relaxation's, where it is one, and several of the
/// search, each without the task shapes of the one before.
fn add_fillings(
    model: &Model,
    shapes: &[usize],
    prices: &[f64],
    relaxed: &[Relaxed],
    effort: Effort,
    columns: &mut BTreeSet<Column>,
) {
    let all: Vec<u64> = model.tasks.iter().map(|task| task.count).collect();
    for &shape in shapes {
        let mut add = |mut filling: Filling| {
            filling.sort_unstable();
            if !filling.is_empty() {
                columns.insert(Column { shape, filling });
            }
        };
        if let Some(filling) = relaxed[shape].filling.clone() {
            add(filling);
        }
        let mut left = all.clone();
        for _ in 0..FILLINGS_A_ROUND {
            let (_, filling) =
                search(model, shape, prices, &left, &relaxed[shape].weights, effort.nodes);
            for &(task, _) in &filling {
                left[task] = 0;
            }
            add(filling);
        }
    }
}

fn master(model: &Model, mix: &[u64], columns: &BTreeSet<Column>) -> Result<Duals, BoundError> {
    let mut variables = ProblemVariables::new();
    let z = variables.add(variable().min(0));
    let mut placed: Vec<Expression> = vec![Expression::default(); model.tasks.len()];
    let mut filled: Vec<Expression> = vec![Expression::default(); mix.len()];
    for Column { shape, filling } in columns {
        // In shares of the machines of that shape.
        let share = variables.add(variable().min(0));
        filled[*shape].add_mul(1.0, share);
        for &(task, count) in filling {
            let of = float(count) * float(mix[*shape]) / float(model.tasks[task].count);
            placed[task].add_mul(of, share);
        }
    }
    let mut problem = variables.minimise(z).using(highs).set_threads(1);
    let placed: Vec<_> =
        placed.into_iter().map(|shares| problem.add_constraint(constraint!(shares >= 1))).collect();
    let filled: Vec<_> =
        filled.into_iter().map(|shares| problem.add_constraint(constraint!(shares <= z))).collect();
    let solved = problem.solve();
    let mut solution =
        solved.map_err(|source| BoundError::of(model, mix, "configuration", source))?;
    let z = solution.value(z);
    let duals = solution.compute_dual();
    Ok(Duals {
        prices: placed
            .into_iter()
            .zip(&model.tasks)
            .map(|(row, task)| duals.dual(row).max(0.0) / float(task.count))
            .collect(),
        values: filled
            .into_iter()
            .zip(mix)
            .map(|(row, &count)| -duals.dual(row) / float(count.max(1)))
            .collect(),
        z,
    })
}

/// Drops the columns that cost most at the duals, if there are too many.
fn thin_out(columns: &mut BTreeSet<Column>, duals: &Duals) {
    if columns.len() <= COLUMNS_MAX {
        return;
    }
    let cost = |column: &Column| {
        let worth: f64 =
            column.filling.iter().map(|&(task, count)| duals.prices[task] * float(count)).sum();
        duals.values[column.shape] - worth
    };
    let mut by_cost: Vec<Column> = std::mem::take(columns).into_iter().collect();
    by_cost.sort_by(|a, b| cost(a).total_cmp(&cost(b)).then_with(|| a.cmp(b)));
    // What has one task shape alone keeps the master solvable.
    let (cheap, dear) = by_cost.split_at(COLUMNS_MAX / 2);
    columns.extend(cheap.iter().cloned());
    columns.extend(dear.iter().filter(|column| column.filling.len() == 1).cloned());
}

#[expect(clippy::cast_precision_loss, reason = "a solver computes in floats")]
fn float(amount: u64) -> f64 {
    amount as f64
}
