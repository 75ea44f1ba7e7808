//! The volume bound: one resource at a time.

use crate::certificate::{Certificate, MachineValue, TaskPrice, capacity, constraints};
use crate::model::{Model, RESOURCE_COUNT, RESOURCES, UNLIMITED};

/// Certificates by volume, one for each resource that some task asks for and every machine states.
#[must_use]
pub fn volume(model: &Model) -> Vec<Certificate> {
    let is_asked = |r: &usize| model.tasks.iter().any(|task| task.demand[*r] > 0);
    let is_stated = |r: &usize| model.machines.iter().all(|m| m.capacity[*r] != UNLIMITED);
    (0..RESOURCE_COUNT).filter(is_asked).filter(is_stated).map(|r| of_resource(model, r)).collect()
}

fn of_resource(model: &Model, resource: usize) -> Certificate {
    let mut multipliers = [0; RESOURCE_COUNT];
    multipliers[resource] = 1;
    Certificate {
        method: format!("volume-{}", RESOURCES[resource].replace(' ', "-")),
        denominator_log2: 0,
        tasks: model
            .tasks
            .iter()
            .map(|task| TaskPrice {
                demand: task.demand,
                constraints: constraints(model, task.rules),
                price: task.demand[resource],
            })
            .collect(),
        machines: model
            .machines
            .iter()
            .map(|machine| MachineValue {
                capacity: capacity(machine.capacity),
                value: machine.capacity[resource],
                multipliers,
                knapsack: None,
            })
            .collect(),
    }
}
