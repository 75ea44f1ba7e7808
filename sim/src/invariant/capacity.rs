//! No machine over capacity: worked out from the tasks alone, without the state's own sums.

use std::collections::BTreeMap;

use cell::live::{Phase, State};
use cell::{Host, JobKind, MachineId};

use super::{Invariant, Step};

/// Limits of production, and reservations of all, fit each machine.
#[derive(Debug)]
pub struct Capacity;

/// CPU and RAM.
type Sum = [u64; 2];

fn sums(state: &State) -> BTreeMap<MachineId, (Sum, Sum)> {
    let mut sums: BTreeMap<MachineId, (Sum, Sum)> = BTreeMap::new();
    for (slot, job) in state.jobs() {
        let is_prod = state.cell().job(slot).priority.band().is_prod();
        for task in &job.tasks {
            let (Phase::Running { place, .. } | Phase::Assigned(place)) = &task.phase else {
                continue;
            };
            let Host::Machine(machine) = place.on else { continue };
            let (reserved, promised) = sums.entry(machine).or_default();
            let reservation = match job.kind {
                JobKind::Job => task.reservation.unwrap_or(task.limit),
                JobKind::AllocSet => task.limit,
            };
            reserved[0] += reservation.cpu.0;
            reserved[1] += reservation.ram.0;
            if is_prod {
                promised[0] += task.limit.cpu.0;
                promised[1] += task.limit.ram.0;
            }
        }
    }
    sums
}

impl Invariant for Capacity {
    fn name(&self) -> &'static str {
        "no machine over capacity"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for (machine, (reserved, promised)) in sums(step.state) {
            let capacity = &step.state.cell().machine(machine).capacity;
            let size = [capacity.cpu.0, capacity.ram.0];
            for i in 0..2 {
                if reserved[i] > size[i] || promised[i] > size[i] {
                    let name = &step.state.cell().machine(machine).name;
                    return Err(format!(
                        "machine {name} of {size:?} holds reservations of {reserved:?} and promises \
                         of {promised:?}"
                    ));
                }
            }
        }
        Ok(())
    }
}
