//! The dearest filling of one machine: a knapsack over all resources, with bounded counts.
//!
//! Two ways at it. A relaxation keeps one resource a knapsack and pays for the others by multipliers; it is
//! solved by dynamic programming in a grid and gives an upper bound, and at times the filling itself. And
//! a search over fillings, depth first in the order of worth for size, which is exact where it ends before
//! its nodes are spent.

use crate::certificate::Knapsack;
use crate::model::{Amounts, Model, RESOURCE_COUNT, UNLIMITED};

/// Units of a grid, at most. Our choice: a milli-core for the machines of the 2011 cell.
const UNITS_MAX: u64 = 1 << 15;

/// Steps of the search for a multiplier; each takes a third off its interval.
const TERNARY_STEPS: u32 = 60;

/// What fits on one machine: task shapes with how many of each.
pub(crate) type Filling = Vec<(usize, u64)>;

/// An upper bound on what a machine's filling is worth, and how it is proven.
#[derive(Clone, Debug)]
pub(crate) struct Relaxed {
    /// The bound, with room for errors of rounding left to the certificate.
    pub worth: f64,
    /// Multipliers by resource; that of the knapsack's resource is 0.
    pub multipliers: [f64; RESOURCE_COUNT],
    pub knapsack: Option<Knapsack>,
    /// The relaxation's solution, where it fits in every resource.
    pub filling: Option<Filling>,
    /// Multipliers of all resources, as in the LP relaxation.
    pub weights: [f64; RESOURCE_COUNT],
}

/// Task shapes that fit on a machine of this shape and are worth something, with what one is worth.
fn candidates(model: &Model, shape: usize, prices: &[f64]) -> Vec<usize> {
    (0..model.tasks.len()).filter(|&task| prices[task] > 0.0 && model.fits(task, shape)).collect()
}

/// The upper bound for a machine shape at these prices.
pub(crate) fn relax(model: &Model, shape: usize, prices: &[f64]) -> Relaxed {
    let capacity = model.machines[shape].capacity;
    let tasks = candidates(model, shape, prices);
    let is_scarce = |r: &usize| {
        capacity[*r] != UNLIMITED
            && capacity[*r] > 0
            && tasks.iter().any(|&task| model.tasks[task].demand[*r] > 0)
    };
    let resources: Vec<usize> = (0..RESOURCE_COUNT).filter(is_scarce).collect();
    let mut multipliers = [0.0; RESOURCE_COUNT];
    let mut best: Option<(f64, usize, [f64; RESOURCE_COUNT])> = None;
    for &kept in &resources {
        multipliers = [0.0; RESOURCE_COUNT];
        for _ in 0..2 {
            for &other in resources.iter().filter(|&&other| other != kept) {
                improve(model, shape, prices, &tasks, kept, other, &mut multipliers);
            }
        }
        let fractional = fractional(model, shape, prices, &tasks, kept, &multipliers);
        if best.is_none_or(|(least, _, _)| fractional < least) {
            best = Some((fractional, kept, multipliers));
        }
    }
    let Some((_, kept, chosen)) = best else {
        // Nothing is scarce: everything fits.
        let filling: Filling = tasks.iter().map(|&task| (task, model.tasks[task].count)).collect();
        let worth = filling.iter().map(|&(task, count)| prices[task] * float(count)).sum();
        let weights = multipliers;
        return Relaxed { worth, multipliers, knapsack: None, filling: Some(filling), weights };
    };
    let mut weights = chosen;
    weights[kept] = tasks
        .iter()
        .filter(|&&task| model.tasks[task].demand[kept] > 0)
        .map(|&task| reduced(model, prices, task, &chosen) / float(model.tasks[task].demand[kept]))
        .fold(0.0, f64::max);
    let demands = tasks.iter().map(|&task| model.tasks[task].demand[kept]);
    let common = demands.fold(capacity[kept], gcd);
    let unit = common.max(capacity[kept].div_ceil(UNITS_MAX)).max(1);
    let (most, filling) = fill_grid(model, shape, prices, &tasks, kept, unit, &chosen);
    let paid: f64 = resources.iter().map(|&r| chosen[r] * float(capacity[r])).sum();
    Relaxed {
        worth: paid + most,
        multipliers: chosen,
        knapsack: Some(Knapsack { resource: kept, unit }),
        filling: fits(model, shape, &filling).then_some(filling),
        weights,
    }
}

/// Sets the multiplier of `other` to where the LP relaxation is least.
fn improve(
    model: &Model,
    shape: usize,
    prices: &[f64],
    tasks: &[usize],
    kept: usize,
    other: usize,
    multipliers: &mut [f64; RESOURCE_COUNT],
) {
    let most = tasks
        .iter()
        .filter(|&&task| model.tasks[task].demand[other] > 0)
        .map(|&task| prices[task] / float(model.tasks[task].demand[other]))
        .fold(0.0, f64::max);
    let (mut low, mut high) = (0.0, most);
    let mut at = |value: f64| {
        multipliers[other] = value;
        fractional(model, shape, prices, tasks, kept, multipliers)
    };
    for _ in 0..TERNARY_STEPS {
        let third = (high - low) / 3.0;
        if at(low + third) <= at(high - third) { high -= third } else { low += third }
    }
    // Flat at nothing is the commonest case, and then nothing is best.
    let middle = f64::midpoint(low, high);
    let value = if at(0.0) <= at(middle) { 0.0 } else { middle };
    multipliers[other] = value;
}

/// What the knapsack over `kept` is worth at most if tasks could be divided, with what the multipliers
/// pay for the other resources.
fn fractional(
    model: &Model,
    shape: usize,
    prices: &[f64],
    tasks: &[usize],
    kept: usize,
    multipliers: &[f64; RESOURCE_COUNT],
) -> f64 {
    let capacity = model.machines[shape].capacity;
    let (mut best, mut weightless) = (0.0_f64, 0.0);
    for &task in tasks {
        let worth = reduced(model, prices, task, multipliers);
        if worth <= 0.0 {
            continue;
        }
        match model.tasks[task].demand[kept] {
            0 => weightless += worth * float(model.tasks[task].count),
            size => best = best.max(worth / float(size)),
        }
    }
    let paid: f64 = (0..RESOURCE_COUNT)
        .filter(|&r| multipliers[r] > 0.0)
        .map(|r| multipliers[r] * float(capacity[r]))
        .sum();
    paid + weightless + best * float(capacity[kept])
}

/// A task's price less what the multipliers ask for what it takes.
fn reduced(model: &Model, prices: &[f64], task: usize, multipliers: &[f64; RESOURCE_COUNT]) -> f64 {
    let demand = model.tasks[task].demand;
    prices[task] - (0..RESOURCE_COUNT).map(|r| multipliers[r] * float(demand[r])).sum::<f64>()
}

/// The dearest filling of the grid, by dynamic programming, and what it is worth.
fn fill_grid(
    model: &Model,
    shape: usize,
    prices: &[f64],
    tasks: &[usize],
    kept: usize,
    unit: u64,
    multipliers: &[f64; RESOURCE_COUNT],
) -> (f64, Filling) {
    let units = index(model.machines[shape].capacity[kept] / unit);
    let mut best = vec![0.0_f64; units + 1];
    let mut filling = Vec::new();
    let mut weightless = 0.0;
    // Bundles of a shape (1, 2, 4 and so on of it), and where taking one more is best.
    let mut bundles: Vec<(usize, u64, usize, bool, Vec<u64>)> = Vec::new();
    for &task in tasks {
        let worth = reduced(model, prices, task, multipliers);
        if worth <= 0.0 {
            continue;
        }
        let count = model.tasks[task].count;
        let size = index(model.tasks[task].demand[kept] / unit);
        if size == 0 {
            weightless += worth * float(count);
            filling.push((task, count));
            continue;
        }
        if size > units {
            continue;
        }
        let is_enough = count >= (units / size) as u64;
        let mut left = count;
        let mut bundle = 1;
        while left > 0 {
            let of = if is_enough { 1 } else { bundle.min(left) };
            let width = size.saturating_mul(index(of));
            let mut taken = vec![0_u64; units / 64 + 1];
            let mut try_at = |have: usize| {
                let with = best[have - width] + worth * float(of);
                if with > best[have] {
                    best[have] = with;
                    taken[have / 64] |= 1 << (have % 64);
                }
            };
            if width <= units {
                if is_enough {
                    (width..=units).for_each(&mut try_at);
                } else {
                    (width..=units).rev().for_each(&mut try_at);
                }
                bundles.push((task, of, width, is_enough, taken));
            }
            if is_enough {
                break;
            }
            left -= of;
            bundle *= 2;
        }
    }
    let mut have = units;
    for (task, of, width, is_repeated, taken) in bundles.iter().rev() {
        let is_taken = |have: usize| taken[have / 64] >> (have % 64) & 1 == 1;
        let mut count = 0;
        while is_taken(have) {
            count += of;
            have -= width;
            if !is_repeated {
                break;
            }
        }
        if count > 0 {
            match filling.iter_mut().find(|(other, _)| other == task) {
                Some((_, of)) => *of += count,
                None => filling.push((*task, count)),
            }
        }
    }
    (weightless + best[units], filling)
}

/// Whether a filling fits on a machine.
pub(crate) fn fits(model: &Model, shape: usize, filling: &Filling) -> bool {
    let capacity = model.machines[shape].capacity;
    (0..RESOURCE_COUNT).all(|r| {
        let used = filling
            .iter()
            .map(|&(task, count)| u128::from(model.tasks[task].demand[r]) * u128::from(count));
        used.sum::<u128>() <= u128::from(capacity[r])
    }) && filling
        .iter()
        .all(|&(task, count)| count <= model.tasks[task].count && model.fits(task, shape))
}

/// The search for the dearest filling of a machine, with at most `left` of each task shape.
///
/// `weights` are multipliers of all resources, as [`relax`] gives them: they order the tasks and bound the
/// search. Returns the filling and its worth; exact if fewer than `nodes` were needed and the weights cover
/// every price.
pub(crate) fn search(
    model: &Model,
    shape: usize,
    prices: &[f64],
    left: &[u64],
    weights: &[f64; RESOURCE_COUNT],
    nodes: u32,
) -> (f64, Filling) {
    let mut tasks: Vec<(f64, usize)> = candidates(model, shape, prices)
        .into_iter()
        .filter(|&task| left[task] > 0)
        .map(|task| {
            let demand = model.tasks[task].demand;
            let size: f64 = (0..RESOURCE_COUNT).map(|r| weights[r] * float(demand[r])).sum();
            (if size > 0.0 { prices[task] / size } else { f64::INFINITY }, task)
        })
        .collect();
    tasks.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let capacity = model.machines[shape].capacity;
    let mut search = Search {
        model,
        prices,
        left,
        weights,
        tasks,
        nodes_left: nodes,
        chosen: Vec::new(),
        worth: 0.0,
        best: (0.0, Vec::new()),
    };
    search.run(0, capacity);
    search.best
}

struct Search<'a> {
    model: &'a Model,
    prices: &'a [f64],
    left: &'a [u64],
    weights: &'a [f64; RESOURCE_COUNT],
    /// With what each is worth for its size, the dearest first.
    tasks: Vec<(f64, usize)>,
    nodes_left: u32,
    chosen: Filling,
    worth: f64,
    best: (f64, Filling),
}

impl Search<'_> {
    fn run(&mut self, from: usize, free: Amounts) {
        if self.worth > self.best.0 {
            self.best = (self.worth, self.chosen.clone());
        }
        let room: f64 = (0..RESOURCE_COUNT)
            .filter(|&r| self.weights[r] > 0.0)
            .map(|r| self.weights[r] * float(free[r]))
            .sum();
        for position in from..self.tasks.len() {
            let (value, task) = self.tasks[position];
            let is_hopeless =
                value.is_finite() && self.worth + value * room <= self.best.0 * (1.0 + 1e-9);
            if self.nodes_left == 0 || is_hopeless {
                return;
            }
            let demand = self.model.tasks[task].demand;
            let fit = (0..RESOURCE_COUNT)
                .filter(|&r| demand[r] > 0)
                .map(|r| free[r] / demand[r])
                .min()
                .unwrap_or(u64::MAX)
                .min(self.left[task]);
            for count in (1..=fit).rev() {
                self.nodes_left = self.nodes_left.saturating_sub(1);
                let mut rest = free;
                (0..RESOURCE_COUNT).for_each(|r| rest[r] -= demand[r] * count);
                self.chosen.push((task, count));
                self.worth += self.prices[task] * float(count);
                self.run(position + 1, rest);
                self.worth -= self.prices[task] * float(count);
                self.chosen.pop();
                if self.nodes_left == 0 {
                    return;
                }
            }
        }
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn index(units: u64) -> usize {
    usize::try_from(units).unwrap_or(usize::MAX)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a relaxation in floats; certificates are in integers"
)]
fn float(amount: u64) -> f64 {
    amount as f64
}
