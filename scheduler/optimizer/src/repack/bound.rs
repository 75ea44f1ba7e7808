//! The most machines that any plan could free.
//!
//! - *moves*: the machines that cost least to empty, as many as the limit pays for.
//! - *volume*: the machines in use, less those that the running tasks need at least by a certificate of
//!   [`crate::bound`]. Where the state is over-committed it proves nothing and is left out.
//! - *prices*: emptying the machines of a set E takes w(m) of the limit L for each, and what ran there must
//!   fit into what is free on the others, whatever else moves between these: for each resource r the sum
//!   over E of a(m, r) is at most F(r), where F(r) is what is free on all machines in use and a(m, r) what
//!   is used or free on m. So for any prices p ≥ 0 the size of E is at most
//!   p(0) L + Σ p(r) F(r) + Σ over machines of max(0, 1 − p(0) w(m) − Σ p(r) a(m, r)).
//!   The prices are an LP's duals; the figure is worked out from them in integers, and holds whatever the
//!   solver said.

use good_lp::{
    DualValues, Expression, ProblemVariables, SolutionWithDual, SolverModel, constraint,
    solvers::highs::highs, variable,
};
use scheduler::Slot;

use super::board::Board;
use crate::bound::{BoundError, volume};
use crate::certificate::verify;
use crate::model::RESOURCE_COUNT;

/// A price of 1 is 2^SCALE_LOG2: a machine's sum stays far below 2^127 where amounts are below 2^63.
const SCALE_LOG2: u32 = 60;

/// Bounds on the machines freed.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    pub by_moves: usize,
    pub by_volume: Option<usize>,
    pub by_prices: Option<usize>,
    pub failures: Vec<String>,
}

impl Bounds {
    /// The smallest.
    pub(crate) fn least(&self) -> usize {
        let others = [self.by_volume, self.by_prices];
        others.into_iter().flatten().fold(self.by_moves, usize::min)
    }
}

/// Bounds for a board on which nothing has moved; `candidates` are the machines that may be emptied at all,
/// with what each takes of the limit, cheapest first.
pub(crate) fn bounds(board: &Board<'_>, candidates: &[(u64, usize)]) -> Bounds {
    let mut left = u128::from(board.limit_left());
    let by_moves = candidates
        .iter()
        .take_while(|&&(weight, _)| {
            let fits = u128::from(weight) <= left;
            left = left.saturating_sub(u128::from(weight));
            fits
        })
        .count();
    let mut failures = Vec::new();
    let by_prices = by_prices(board, candidates).map_or_else(
        |error| {
            failures.push(error.to_string());
            None
        },
        Some,
    );
    Bounds { by_moves, by_volume: by_volume(board), by_prices, failures }
}

fn by_volume(board: &Board<'_>) -> Option<usize> {
    let rows = 0..board.row_count();
    if rows.clone().any(|row| board.free(row).iter().any(|&free| free < 0)) {
        return None;
    }
    let in_use = rows.filter(|&row| board.is_in_use(row)).count();
    let model = &board.model;
    let needed = volume(model).into_iter().filter_map(|certificate| {
        let verified = verify(model, &certificate).ok()?;
        let mut order: Vec<usize> =
            Slot::all(board.cell).iter().map(|&slot| model.machine_shape(slot)).collect();
        // Whichever machines are kept: the most capable first.
        order.sort_by_key(|&shape| std::cmp::Reverse(certificate.machines[shape].value));
        verified.machines_needed(order.into_iter())
    });
    Some(in_use.saturating_sub(needed.max().unwrap_or(0)))
}

/// A row of the LP: an amount for each candidate, and the sum that they may reach.
struct Row {
    amounts: Vec<u64>,
    most: u128,
}

fn rows(board: &Board<'_>, candidates: &[(u64, usize)]) -> Vec<Row> {
    let mut rows = vec![Row {
        amounts: candidates.iter().map(|&(weight, _)| weight).collect(),
        most: u128::from(board.limit_left()),
    }];
    let in_use: Vec<usize> = (0..board.row_count()).filter(|&row| board.is_in_use(row)).collect();
    for r in 0..RESOURCE_COUNT {
        let free = |row: usize| u64::try_from(board.free(row)[r]).unwrap_or(0);
        // A machine that does not state it takes any amount.
        if in_use.iter().any(|&row| board.free(row)[r] == i64::MAX) {
            continue;
        }
        let used = |row: usize| -> u64 {
            let on = board.snapshot().tasks_on(row).iter();
            on.map(|&task| u64::try_from(board.info(task).demand[r]).unwrap_or(0)).sum()
        };
        if in_use.iter().all(|&row| used(row) == 0) {
            continue;
        }
        rows.push(Row {
            amounts: candidates.iter().map(|&(_, row)| used(row) + free(row)).collect(),
            most: in_use.iter().map(|&row| u128::from(free(row))).sum(),
        });
    }
    rows
}

fn by_prices(board: &Board<'_>, candidates: &[(u64, usize)]) -> Result<usize, BoundError> {
    let rows = rows(board, candidates);
    let mut variables = ProblemVariables::new();
    let emptied: Vec<_> =
        candidates.iter().map(|_| variables.add(variable().min(0).max(1))).collect();
    let all: Expression = emptied.iter().sum();
    let mut problem = variables.maximise(all).using(highs).set_threads(1);
    let mut constraints = Vec::new();
    // Each row is divided by its sum, so that the LP's numbers are near 1.
    for row in &rows {
        let mut sum = Expression::default();
        for (&amount, &emptied) in row.amounts.iter().zip(&emptied) {
            sum.add_mul(float(amount.into()) / float(row.most.max(1)), emptied);
        }
        constraints.push(problem.add_constraint(constraint!(sum <= 1)));
    }
    if candidates.is_empty() {
        return Ok(0);
    }
    let solved = problem.solve();
    let mut solution = solved.map_err(|source| BoundError::Solver { what: "repacking", source })?;
    let duals = solution.compute_dual();
    let prices: Vec<u128> = rows
        .iter()
        .zip(constraints)
        .map(|(row, constraint)| {
            let price = duals.dual(constraint).abs() / float(row.most.max(1));
            whole(price * float(1 << SCALE_LOG2))
        })
        .collect();
    Ok(proven(&rows, &prices, candidates.len()))
}

/// What prices, in units of 2^-SCALE_LOG2, prove.
fn proven(rows: &[Row], prices: &[u128], count: usize) -> usize {
    let one = 1_u128 << SCALE_LOG2;
    let mut sum = rows
        .iter()
        .zip(prices)
        .fold(0_u128, |sum, (row, price)| sum.saturating_add(row.most.saturating_mul(*price)));
    for candidate in 0..count {
        let taken = rows.iter().zip(prices).fold(0_u128, |taken, (row, price)| {
            taken.saturating_add(u128::from(row.amounts[candidate]).saturating_mul(*price))
        });
        sum = sum.saturating_add(one.saturating_sub(taken));
    }
    usize::try_from(sum >> SCALE_LOG2).unwrap_or(usize::MAX).min(count)
}

#[expect(clippy::cast_precision_loss, reason = "a solver computes in floats")]
fn float(amount: u128) -> f64 {
    amount as f64
}

/// The whole part of a float that is not negative.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn whole(value: f64) -> u128 {
    value as u128
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_prove_what_they_cover() {
        // Three machines at 2, 3, 4 of a limit of 5: a price of 1/3 proves 5/3 + 1/3 = 2 of them.
        let rows = [Row { amounts: vec![2, 3, 4], most: 5 }];
        let third = (1_u128 << SCALE_LOG2).div_ceil(3);
        assert_eq!(proven(&rows, &[third], 3), 2);
        // No price: all of them; too high a price: worse, never wrong.
        assert_eq!(proven(&rows, &[0], 3), 3);
        assert_eq!(proven(&rows, &[1 << SCALE_LOG2], 3), 3);
    }
}
