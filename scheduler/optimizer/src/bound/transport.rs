//! The transport bound: task shapes spread over machine shapes as fluids.
//!
//! minimise z, where x(s, t) tasks of shape s go to machines of shape t: all tasks of s go somewhere they
//! could run, and what goes to t takes at most z times what the machines of t have, resource by resource.

use good_lp::{
    Constraint, DualValues, Expression, ProblemVariables, Solution, SolutionWithDual, SolverModel,
    constraint, solvers::highs::highs, variable,
};

use super::BoundError;
use super::round::{Prices, certificate};
use crate::certificate::Certificate;
use crate::model::{Model, RESOURCE_COUNT, UNLIMITED};

/// The certificate for a mix of machines (how many of each shape). It is best for this mix and holds for
/// any.
///
/// # Errors
/// If the solver fails; so it does where a task fits on no machine of the mix.
pub fn transport(model: &Model, mix: &[u64]) -> Result<Certificate, BoundError> {
    let mut variables = ProblemVariables::new();
    let z = variables.add(variable().min(0));
    let machines: Vec<usize> = (0..mix.len()).filter(|&t| mix[t] > 0).collect();
    let mut placed: Vec<Expression> = vec![Expression::default(); model.tasks.len()];
    let mut used: Vec<[Expression; RESOURCE_COUNT]> =
        mix.iter().map(|_| std::array::from_fn(|_| Expression::default())).collect();
    // Amounts are counted in what the machines of a shape have, tasks by shapes: all near 1.
    for (s, task) in model.tasks.iter().enumerate() {
        for &t in machines.iter().filter(|&&t| model.fits(s, t)) {
            let share = variables.add(variable().min(0));
            placed[s].add_mul(1.0, share);
            for r in constrained(model, t) {
                let amount = float(task.demand[r]) * float(task.count);
                let have = float(model.machines[t].capacity[r]) * float(mix[t]);
                if amount > 0.0 {
                    used[t][r].add_mul(amount / have, share);
                }
            }
        }
    }
    let mut problem = variables.minimise(z).using(highs).set_threads(1);
    let all_placed: Vec<_> =
        placed.into_iter().map(|shares| problem.add_constraint(constraint!(shares >= 1))).collect();
    let mut capacities = Vec::new();
    for &t in &machines {
        for r in constrained(model, t) {
            let within: Constraint = constraint!(std::mem::take(&mut used[t][r]) <= z);
            capacities.push((t, r, problem.add_constraint(within)));
        }
    }
    let solved = problem.solve();
    let mut solution = solved.map_err(|source| BoundError::of(model, mix, "transport", source))?;
    let _ = solution.value(z);
    let duals = solution.compute_dual();
    let mut prices = Prices {
        tasks: all_placed
            .into_iter()
            .zip(&model.tasks)
            .map(|(row, task)| duals.dual(row) / float(task.count))
            .collect(),
        multipliers: vec![[0.0; RESOURCE_COUNT]; mix.len()],
        knapsacks: vec![None; mix.len()],
    };
    for (t, r, row) in capacities {
        let have = float(model.machines[t].capacity[r]) * float(mix[t]);
        // A capacity's dual is not positive in a minimisation.
        prices.multipliers[t][r] = -duals.dual(row) / have;
    }
    price_absent(model, mix, &mut prices);
    Ok(certificate(model, "transport", &prices))
}

/// The resources that a machine shape has a stated, positive amount of.
pub(super) fn constrained(model: &Model, machine: usize) -> impl Iterator<Item = usize> {
    let capacity = model.machines[machine].capacity;
    (0..RESOURCE_COUNT).filter(move |&r| capacity[r] != UNLIMITED && capacity[r] > 0)
}

/// Multipliers for machine shapes that the mix has none of, so that the certificate speaks of any order:
/// for each resource the most that any task of the mix's prices asks for a unit of its scarcest.
fn price_absent(model: &Model, mix: &[u64], prices: &mut Prices) {
    for t in (0..mix.len()).filter(|&t| mix[t] == 0) {
        for (s, task) in model.tasks.iter().enumerate().filter(|&(s, _)| model.fits(s, t)) {
            let dearest = constrained(model, t).filter(|&r| task.demand[r] > 0).max_by(|&a, &b| {
                let part = |r: usize| float(task.demand[r]) / float(model.machines[t].capacity[r]);
                part(a).total_cmp(&part(b))
            });
            if let Some(r) = dearest {
                let unit = prices.tasks[s] / float(task.demand[r]);
                prices.multipliers[t][r] = prices.multipliers[t][r].max(unit);
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a solver computes in floats")]
fn float(amount: u64) -> f64 {
    amount as f64
}
