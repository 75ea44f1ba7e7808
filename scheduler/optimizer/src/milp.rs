//! One part of the online pass as a MILP: which of a few tasks go to which of some machines, and who leaves.
//!
//! Binary x(i, m): task i is placed on machine m, of a handful of candidates for each task. Binary z(v):
//! task v, which is on one of these machines, leaves.
//!
//! - *room*: on each machine, what is placed less what is evicted takes no more than is free, resource by
//!   resource.
//! - *different machines, spread*: at most one task of such a job on a machine, at most so many in a domain.
//! - *priority*: z(v) is at most the number of tasks of higher priority that are placed on its machine.
//! - *disruption*: of each limit no more is evicted than is left; and no more in all than is allowed.
//!
//! The objective is that of [`crate::objective`], with weights that floats can bear; what comes out is a
//! proposal, which the caller carries out with exact checks and keeps only if the exact objective is better.

use std::collections::BTreeMap;

use cell::{JobId, TaskId};
use good_lp::{
    Expression, ProblemVariables, ResolutionError, Solution, SolverModel, Variable, constraint,
    solvers::highs::{HighsSolverType, highs},
    variable,
};

use crate::objective::{BAND_COUNT, ByBand};
use crate::state::Signed;

/// A task that is placed anew.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub task: TaskId,
    pub charge: Signed,
    pub level: usize,
    pub worth: u64,
    pub priority: u16,
    /// Machines that it may go to, with how much it would rather be there: 0..=3.
    pub candidates: Vec<(usize, f64)>,
    /// Where it is now, if it is anywhere.
    pub now: Option<usize>,
    /// The job, where its tasks must be on different machines.
    pub apart: Option<JobId>,
}

/// A running task that may be evicted.
#[derive(Clone, Debug)]
pub(crate) struct Evictable {
    pub task: TaskId,
    pub row: usize,
    pub charge: Signed,
    pub level: usize,
    pub worth: u64,
    pub lost: u64,
    pub priority: u16,
    /// Limits on disruption that it counts for.
    pub limits: Vec<usize>,
}

/// At most so many of these tasks in one failure domain.
#[derive(Clone, Debug)]
pub(crate) struct DomainLimit {
    pub left: u32,
    /// Positions of items, and the machines of the domain.
    pub items: Vec<usize>,
    pub rows: Vec<usize>,
}

/// A part.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    pub items: Vec<Item>,
    pub evictable: Vec<Evictable>,
    /// What is free on each machine that is a candidate, once the items are off it.
    pub room: BTreeMap<usize, Signed>,
    pub domains: Vec<DomainLimit>,
    /// What is left of each limit on disruption.
    pub disruptions: BTreeMap<usize, u64>,
    /// Evictions that may be added in all.
    pub evictions_left: Option<u64>,
}

/// What the solver proposes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proposal {
    /// Where each item goes, parallel to the part's items; `None`: it waits.
    pub rows: Vec<Option<usize>>,
    pub evicted: Vec<TaskId>,
}

/// What a solve may spend.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SolveLimit {
    /// Nodes of branch and bound: the same everywhere.
    pub nodes: i32,
    /// Seconds; `None`: no limit of time.
    pub seconds: Option<f64>,
}

/// Each level counts at most so many times as much as the next: what the solver's floats bear.
const LEVEL_FACTOR_MAX: f64 = 1e4;

impl Part {
    /// What each level counts: enough to outweigh all that the levels below can add up to, as far as floats
    /// bear it.
    fn level_weights(&self) -> [f64; BAND_COUNT] {
        let mut sums = ByBand::default();
        let mut least = [u64::MAX; BAND_COUNT];
        let items = self.items.iter().map(|item| (item.level, item.worth));
        let evictable = self.evictable.iter().map(|of| (of.level, of.worth));
        for (level, worth) in items.chain(evictable) {
            sums[level] += worth;
            least[level] = least[level].min(worth);
        }
        let mut weights = [0.0; BAND_COUNT];
        let mut weight = 1.0;
        let mut below: Option<u64> = None;
        for level in (0..BAND_COUNT).rev().filter(|&level| sums[level] > 0) {
            if let Some(below) = below {
                let wanted = 1.0 + float(below) / float(least[level].max(1));
                weight *= wanted.min(LEVEL_FACTOR_MAX);
            }
            weights[level] = weight;
            below = Some(sums[level]);
        }
        weights
    }

    /// Solves it. `None`: the solver found nothing within the limit.
    pub(crate) fn solve(&self, limit: SolveLimit) -> Result<Option<Proposal>, ResolutionError> {
        // HiGHS takes no starting point of a model without variables.
        if self.items.iter().all(|item| item.candidates.is_empty()) {
            return Ok(None);
        }
        let weights = self.level_weights();
        // Work lost and preferences only break ties: all of them together are worth less than the smallest
        // task.
        let lost = self.evictable.iter().fold(0, |sum: u64, of| sum.saturating_add(of.lost));
        let per_lost = 50.0 / float(lost.max(1));
        let per_preference = 10.0 / (3.0 * float(self.items.len().max(1) as u64));
        let mut variables = ProblemVariables::new();
        let mut gain = Expression::default();
        let mut used: BTreeMap<usize, [Expression; 6]> = BTreeMap::new();
        let mut apart: BTreeMap<(JobId, usize), Expression> = BTreeMap::new();
        let mut higher: BTreeMap<usize, Vec<(u16, Variable)>> = BTreeMap::new();
        let mut start: Vec<(Variable, f64)> = Vec::new();
        let mut placed: Vec<Vec<(usize, Variable)>> = Vec::with_capacity(self.items.len());
        for item in &self.items {
            let value = weights[item.level] * float(item.worth);
            let mut of_item = Vec::with_capacity(item.candidates.len());
            for &(row, preference) in &item.candidates {
                let x = variables.add(variable().binary());
                let worth = value + per_preference * preference;
                gain.add_mul(worth, x);
                // What is placed on an over-committed machine has to make up for that too.
                let over = self.room[&row].map(|room| room.min(0));
                let mut charge = item.charge;
                for (amount, over) in charge.iter_mut().zip(over).filter(|(amount, _)| **amount > 0)
                {
                    *amount -= over;
                }
                add_charge(used.entry(row).or_default(), &charge, 1.0, x);
                if let Some(job) = item.apart {
                    apart.entry((job, row)).or_default().add_mul(1.0, x);
                }
                higher.entry(row).or_default().push((item.priority, x));
                start.push((x, if item.now == Some(row) { 1.0 } else { 0.0 }));
                of_item.push((row, x));
            }
            placed.push(of_item);
        }
        let mut evicted = Vec::with_capacity(self.evictable.len());
        for of in &self.evictable {
            let z = variables.add(variable().binary());
            let worth = weights[of.level] * float(of.worth);
            gain.add_mul(-(worth + per_lost * float(of.lost) + EVICTION), z);
            add_charge(used.entry(of.row).or_default(), &of.charge, -1.0, z);
            start.push((z, 0.0));
            evicted.push(z);
        }
        let mut problem = variables
            .maximise(gain)
            .using(highs)
            .set_threads(1)
            .set_solver(HighsSolverType::Choose)
            .set_option("mip_max_nodes", limit.nodes)
            .set_option("random_seed", 1);
        if let Some(seconds) = limit.seconds {
            problem = problem.set_time_limit(seconds.max(0.001));
        }
        let mut problem = good_lp::WithInitialSolution::with_initial_solution(problem, start);
        for of_item in &placed {
            let once: Expression = of_item.iter().map(|&(_, x)| x).sum();
            problem.add_constraint(constraint!(once <= 1));
        }
        for (row, used) in used {
            let room = &self.room[&row];
            for (r, sum) in used.into_iter().enumerate() {
                if room[r] != i64::MAX && !is_empty(&sum) {
                    let unit = float(room[r].unsigned_abs().max(1));
                    let most = signed(room[r].max(0)) / unit;
                    problem.add_constraint(constraint!(sum * (1.0 / unit) <= most));
                }
            }
        }
        for (_, sum) in apart {
            problem.add_constraint(constraint!(sum <= 1));
        }
        for domain in &self.domains {
            let inside = domain.items.iter().flat_map(|&item| &placed[item]);
            let sum: Expression =
                inside.filter(|(row, _)| domain.rows.contains(row)).map(|&(_, x)| x).sum();
            problem.add_constraint(constraint!(sum <= f64::from(domain.left)));
        }
        for (of, &z) in self.evictable.iter().zip(&evicted) {
            let on = higher.get(&of.row).map_or(&[][..], Vec::as_slice);
            let higher: Expression =
                on.iter().filter(|&&(priority, _)| priority > of.priority).map(|&(_, x)| x).sum();
            problem.add_constraint(constraint!(z <= higher));
        }
        for (&limit, &left) in &self.disruptions {
            let all = self.evictable.iter().zip(&evicted);
            let sum: Expression =
                all.filter(|(of, _)| of.limits.contains(&limit)).map(|(_, &z)| z).sum();
            problem.add_constraint(constraint!(sum <= float(left)));
        }
        if let Some(left) = self.evictions_left {
            let sum: Expression = evicted.iter().sum();
            problem.add_constraint(constraint!(sum <= float(left)));
        }
        let solution = match problem.solve() {
            Ok(solution) => solution,
            Err(ResolutionError::Other("NoSolutionFound")) => return Ok(None),
            Err(error) => return Err(error),
        };
        let is_set = |variable: Variable| solution.value(variable) > 0.5;
        Ok(Some(Proposal {
            rows: placed
                .iter()
                .map(|of| of.iter().find(|&&(_, x)| is_set(x)).map(|&(row, _)| row))
                .collect(),
            evicted: self
                .evictable
                .iter()
                .zip(&evicted)
                .filter(|&(_, &z)| is_set(z))
                .map(|(of, _)| of.task)
                .collect(),
        }))
    }
}

/// What one eviction costs beside what is lost by it, in the same unit: a tie-break.
const EVICTION: f64 = 0.1;

fn add_charge(used: &mut [Expression; 6], charge: &Signed, sign: f64, variable: Variable) {
    for (sum, &amount) in used.iter_mut().zip(charge) {
        if amount > 0 {
            sum.add_mul(sign * signed(amount), variable);
        }
    }
}

fn is_empty(sum: &Expression) -> bool {
    good_lp::IntoAffineExpression::linear_coefficients(sum).next().is_none()
}

#[expect(clippy::cast_precision_loss, reason = "a solver computes in floats")]
fn float(amount: u64) -> f64 {
    amount as f64
}

#[expect(clippy::cast_precision_loss, reason = "a solver computes in floats")]
fn signed(amount: i64) -> f64 {
    amount as f64
}
