//! Certificates of lower bounds, and the verifier that believes nothing else.
//!
//! Each task shape has a price, and each machine shape a value that no set of tasks on one such machine
//! can exceed in price. So machines whose values add up to less than the prices of all tasks cannot hold
//! them: the machines needed are at least as many as it takes, in their order, for the values to reach
//! the prices. Tasks that may stay pending are left out of the prices, the dearest first, so that the
//! bound holds whichever they are. This is weak duality of the configuration LP (Gilmore and Gomory
//! 1961), with any prices.
//!
//! That a machine's value is no smaller than any packing's price is shown by multipliers, a price for
//! each unit of each resource, that turn the knapsack over all resources into one over a single resource
//! in a coarse grid, which the verifier solves by dynamic programming. Where the multipliers cover every
//! task's price by themselves, nothing is left to solve. All of it is in integers.

use serde::{Deserialize, Serialize};

use crate::model::{Amounts, Model, RESOURCE_COUNT, RESOURCES, UNLIMITED, WorthClass};

/// A proof that a workload needs so many machines. Prices are in a unit of the certificate's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// How the prices were found.
    pub method: String,
    /// Multipliers are in units of 2^-denominator_log2 of a price.
    pub denominator_log2: u32,
    /// What each task is worth.
    pub tasks: Vec<TaskPrice>,
    /// What each machine can hold at most.
    pub machines: Vec<MachineValue>,
}

/// The price of tasks of one shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskPrice {
    /// What each is charged, by resource: milli-cores, bytes, bytes, milli-GPU, and production's
    /// milli-cores and bytes.
    pub demand: Amounts,
    /// Their hard constraints, in words.
    pub constraints: Vec<String>,
    /// The price of one.
    pub price: u64,
}

/// What a machine of one shape can hold at most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineValue {
    /// What it has, by resource; `null`: not stated.
    pub capacity: [Option<u64>; RESOURCE_COUNT],
    /// The claim: no set of tasks that fits has a higher price.
    pub value: u64,
    /// A price for each unit of each resource, in units of 2^-denominator_log2.
    pub multipliers: Amounts,
    /// The one resource that is kept a knapsack; `None` where the multipliers suffice.
    pub knapsack: Option<Knapsack>,
}

/// A knapsack over one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knapsack {
    /// Position of the resource, 0..6.
    pub resource: usize,
    /// Amounts are counted in these units, rounded down, which only loosens the bound.
    pub unit: u64,
}

/// The most units that a knapsack may have. Our choice: 8 MB of table.
pub const KNAPSACK_UNITS_MAX: u64 = 1 << 20;

/// The largest price that there may be.
pub(crate) const PRICE_MAX: u64 = 1 << 53;

/// Certificates of what can be placed at most have prices in units of 2^-WORTH_LOG2 of a worth.
pub const WORTH_LOG2: u32 = 12;

/// What is wrong with a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It is of another workload or another cell.
    #[error("the certificate is not of this workload: {0}")]
    OtherModel(String),
    /// A number is outside its range.
    #[error("the certificate's {0} is out of range")]
    Range(String),
    /// The claim about a machine shape does not hold.
    #[error(
        "machine shape {shape}: the certificate claims that at most {claimed} fit, and proves {proven}"
    )]
    Value {
        /// Position of the shape.
        shape: usize,
        /// The value that it claims.
        claimed: u64,
        /// The value that its multipliers and knapsack prove.
        proven: u64,
    },
}

/// A certificate that was found to be right.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Price of the tasks that may not stay pending.
    total: u128,
    /// Value of each machine shape.
    values: Vec<u64>,
}

impl Verified {
    /// How many of these machines, given by their shapes and taken in order, are needed at least;
    /// `None`: more than there are.
    #[must_use]
    pub fn machines_needed(&self, shapes: impl Iterator<Item = usize>) -> Option<usize> {
        let mut have = 0_u128;
        let mut count = 0;
        for shape in shapes {
            if have >= self.total {
                break;
            }
            have += u128::from(self.values[shape]);
            count += 1;
        }
        (have >= self.total).then_some(count)
    }

    /// The most that can be placed by worth on a mix of machines, given by shapes: what tasks are worth above
    /// their prices, and what the machines can hold at these prices. `certificate` is the one that was
    /// verified, with prices in units of 2^-[`WORTH_LOG2`].
    #[must_use]
    pub fn most_worth(
        &self,
        certificate: &Certificate,
        classes: &[WorthClass],
        mix: &[u64],
    ) -> u64 {
        let above = classes.iter().map(|class| {
            let worth = u128::from(class.worth) << WORTH_LOG2;
            let price = u128::from(certificate.tasks[class.shape].price);
            u128::from(class.count) * worth.saturating_sub(price)
        });
        let held =
            mix.iter().zip(&self.values).map(|(&n, &value)| u128::from(n) * u128::from(value));
        let most = (above.sum::<u128>() + held.sum::<u128>()) >> WORTH_LOG2;
        let all: u128 =
            classes.iter().map(|class| u128::from(class.count) * u128::from(class.worth)).sum();
        u64::try_from(most.min(all)).unwrap_or(u64::MAX)
    }

    /// The price of all tasks over the value of a mix of machines: a lower bound on how much of such a
    /// mix is needed, 1.0 being all of it. Infinite where the machines hold nothing of any price.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio to be shown or searched by")]
    pub fn ratio(&self, mix: &[u64]) -> f64 {
        let have: u128 = mix
            .iter()
            .zip(&self.values)
            .map(|(&n, &value)| u128::from(n) * u128::from(value))
            .sum();
        if self.total == 0 { 0.0 } else { self.total as f64 / have as f64 }
    }
}

/// Checks a certificate against a workload, reading nothing but the two.
///
/// # Errors
/// The first flaw found.
pub fn verify(model: &Model, certificate: &Certificate) -> Result<Verified, Flaw> {
    same_model(model, certificate)?;
    if certificate.denominator_log2 > 62 {
        return Err(Flaw::Range("denominator_log2".to_owned()));
    }
    let values = certificate
        .machines
        .iter()
        .enumerate()
        .map(|(shape, machine)| {
            let proven = proven_value(model, certificate, shape)?;
            if machine.value < proven {
                return Err(Flaw::Value { shape, claimed: machine.value, proven });
            }
            Ok(machine.value)
        })
        .collect::<Result<_, Flaw>>()?;
    let prices = || model.tasks.iter().zip(&certificate.tasks);
    let all: u128 = prices().map(|(task, of)| u128::from(task.count) * u128::from(of.price)).sum();
    // Whichever tasks stay pending, they are worth no more than the dearest of those that may.
    let mut waiting: Vec<(u64, u64)> =
        prices().map(|(task, of)| (of.price, task.picky_count)).collect();
    waiting.sort_unstable_by(|a, b| b.cmp(a));
    let (mut left_out, mut allowed) = (0_u128, model.pending_allowed);
    for (price, count) in waiting {
        let taken = count.min(allowed);
        left_out += u128::from(price) * u128::from(taken);
        allowed -= taken;
    }
    Ok(Verified { total: all - left_out, values })
}

fn same_model(model: &Model, certificate: &Certificate) -> Result<(), Flaw> {
    let other = |what: &str| Err(Flaw::OtherModel(format!("its {what} differ")));
    if model.tasks.len() != certificate.tasks.len() {
        return other("task shapes");
    }
    for (shape, price) in model.tasks.iter().zip(&certificate.tasks) {
        if shape.demand != price.demand || constraints(model, shape.rules) != price.constraints {
            return other("task shapes");
        }
    }
    if model.machines.len() != certificate.machines.len() {
        return other("machine shapes");
    }
    for (shape, value) in model.machines.iter().zip(&certificate.machines) {
        if capacity(shape.capacity) != value.capacity {
            return other("machine shapes");
        }
    }
    Ok(())
}

/// Hard constraints in words, as they stand in a certificate.
#[must_use]
pub(crate) fn constraints(model: &Model, rules: usize) -> Vec<String> {
    model.rules[rules].iter().map(ToString::to_string).collect()
}

/// A capacity as it stands in a certificate.
#[must_use]
pub(crate) fn capacity(amounts: Amounts) -> [Option<u64>; RESOURCE_COUNT] {
    amounts.map(|amount| (amount != UNLIMITED).then_some(amount))
}

/// The most that tasks on one machine of this shape can be worth, as far as the certificate proves it.
pub(crate) fn proven_value(
    model: &Model,
    certificate: &Certificate,
    shape: usize,
) -> Result<u64, Flaw> {
    let machine = &certificate.machines[shape];
    let have = model.machines[shape].capacity;
    let mut covered = 0_i128;
    for resource in 0..RESOURCE_COUNT {
        let multiplier = machine.multipliers[resource];
        if multiplier == 0 {
            continue;
        }
        if have[resource] == UNLIMITED || multiplier > 1 << 62 {
            return Err(Flaw::Range(format!("multiplier of {}", RESOURCES[resource])));
        }
        // At most 2^53 of a resource and 2^62 for each: the sum stays below 2^118.
        covered += i128::from(multiplier) * i128::from(have[resource]);
    }
    let mut left: Vec<(u64, i128, u64)> = Vec::new();
    for (task, (of, price)) in model.tasks.iter().zip(&certificate.tasks).enumerate() {
        if !model.fits(task, shape) {
            continue;
        }
        if price.price > PRICE_MAX {
            return Err(Flaw::Range("price".to_owned()));
        }
        let resources = (0..RESOURCE_COUNT)
            .map(|r| i128::from(machine.multipliers[r]) * i128::from(of.demand[r]));
        let reduced =
            (i128::from(price.price) << certificate.denominator_log2) - resources.sum::<i128>();
        if reduced > 0 {
            let size = match &machine.knapsack {
                Some(Knapsack { resource, unit }) if *resource < RESOURCE_COUNT && *unit > 0 => {
                    of.demand[*resource] / unit
                }
                _ => 0,
            };
            left.push((size, reduced, of.count));
        }
    }
    let units = match &machine.knapsack {
        Some(Knapsack { resource, unit }) => {
            let units = have.get(*resource).and_then(|amount| amount.checked_div(*unit));
            units.filter(|&units| units <= KNAPSACK_UNITS_MAX)
        }
        None => Some(0),
    };
    let units = units.ok_or_else(|| Flaw::Range("knapsack".to_owned()))?;
    let most = covered + best_fill(units, &left);
    let proven = most >> certificate.denominator_log2;
    u64::try_from(proven).map_err(|_| Flaw::Range("value".to_owned()))
}

/// The most that items `(size, worth, count)` are worth in a knapsack of `units`.
fn best_fill(units: u64, items: &[(u64, i128, u64)]) -> i128 {
    let mut weightless = 0;
    let mut best = vec![0_i128; usize::try_from(units).expect("below KNAPSACK_UNITS_MAX") + 1];
    for &(size, worth, count) in items {
        if size == 0 {
            weightless += worth * i128::from(count);
            continue;
        }
        // No more than fit, in bundles of 1, 2, 4 and so on, of which any number can be made.
        let mut left = count.min(units / size);
        let mut bundle = 1;
        while left > 0 {
            let of = bundle.min(left);
            let width = usize::try_from(size * of).expect("at most so many units");
            for have in (width..best.len()).rev() {
                best[have] = best[have].max(best[have - width] + worth * i128::from(of));
            }
            left -= of;
            bundle *= 2;
        }
    }
    weightless + best.last().copied().unwrap_or(0)
}
