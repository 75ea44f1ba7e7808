//! From a solver's prices, which are floats, to a certificate's, which are integers.

use crate::certificate::{
    Certificate, Knapsack, MachineValue, PRICE_MAX, TaskPrice, capacity, constraints, proven_value,
};
use crate::model::{Amounts, Model, RESOURCE_COUNT, UNLIMITED};

/// The dearest task's price is scaled to 2^PRICE_LOG2.
const PRICE_LOG2: u32 = 36;

/// Multipliers are in units of 2^-DENOMINATOR_LOG2.
const DENOMINATOR_LOG2: u32 = 30;

/// Prices by task shape and multipliers by machine shape, before rounding.
#[derive(Clone, Debug)]
pub(crate) struct Prices {
    /// One price a task shape, not negative.
    pub tasks: Vec<f64>,
    /// For each machine shape a price for each unit of each resource, not negative.
    pub multipliers: Vec<[f64; RESOURCE_COUNT]>,
    /// What stays a knapsack, by machine shape.
    pub knapsacks: Vec<Option<Knapsack>>,
}

/// Rounds prices, and states the values that follow from them. Where no knapsack is left to solve, each
/// price is lowered to what the multipliers cover.
pub(crate) fn certificate(model: &Model, method: &str, prices: &Prices) -> Certificate {
    let dearest = prices.tasks.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    debug_assert_eq!(PRICE_LOG2, 36);
    certificate_in(model, method, prices, f64::from(2_u32).powi(36) / dearest)
}

/// The same with prices multiplied by `scale`.
pub(crate) fn certificate_in(
    model: &Model,
    method: &str,
    prices: &Prices,
    scale: f64,
) -> Certificate {
    let unit = f64::from(1 << DENOMINATOR_LOG2);
    let multipliers: Vec<Amounts> = model
        .machines
        .iter()
        .zip(&prices.multipliers)
        .map(|(machine, of)| {
            let mut rounded = [0; RESOURCE_COUNT];
            for r in 0..RESOURCE_COUNT {
                if machine.capacity[r] != UNLIMITED {
                    rounded[r] = whole(of[r].max(0.0) * scale * unit).min(1 << 62);
                }
            }
            rounded
        })
        .collect();
    let mut certificate = Certificate {
        method: method.to_owned(),
        denominator_log2: DENOMINATOR_LOG2,
        tasks: model
            .tasks
            .iter()
            .zip(&prices.tasks)
            .map(|(task, price)| TaskPrice {
                demand: task.demand,
                constraints: constraints(model, task.rules),
                price: whole(price.max(0.0) * scale).min(PRICE_MAX),
            })
            .collect(),
        machines: model
            .machines
            .iter()
            .zip(multipliers)
            .zip(&prices.knapsacks)
            .map(|((machine, multipliers), knapsack)| MachineValue {
                capacity: capacity(machine.capacity),
                value: u64::MAX,
                multipliers,
                knapsack: knapsack.clone(),
            })
            .collect(),
    };
    for (shape, knapsack) in prices.knapsacks.iter().enumerate() {
        if knapsack.is_none() {
            lower_prices(model, &mut certificate, shape);
        }
    }
    for shape in 0..model.machines.len() {
        certificate.machines[shape].value =
            proven_value(model, &certificate, shape).expect("rounded to its ranges");
    }
    certificate
}

/// Lowers prices to what the multipliers of a machine shape cover.
fn lower_prices(model: &Model, certificate: &mut Certificate, shape: usize) {
    let multipliers = certificate.machines[shape].multipliers;
    for task in (0..model.tasks.len()).filter(|&task| model.fits(task, shape)) {
        let demand = model.tasks[task].demand;
        let covered: u128 =
            (0..RESOURCE_COUNT).map(|r| u128::from(multipliers[r]) * u128::from(demand[r])).sum();
        let most = u64::try_from(covered >> DENOMINATOR_LOG2).unwrap_or(u64::MAX);
        let price = &mut certificate.tasks[task].price;
        *price = (*price).min(most);
    }
}

/// The whole part of a float that is not negative.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn whole(value: f64) -> u64 {
    value as u64
}
