//! A lower bound on the machines that a workload needs: its volume, resource by resource.
//!
//! For machines taken in a given order, no packing of the workload fits on fewer than the first `k` whose
//! capacity covers, in each resource by itself, what the tasks are charged; and a job that wants different
//! machines needs as many as it has tasks. Tasks that may stay pending are left out, for each resource the
//! largest in that resource, so that the bound holds whichever they are.

use std::collections::BTreeMap;

use cell::{Cell, GpuRequest, JobId, Resources, TaskId};
use scheduler::{Accounting, Slot};

/// What a workload asks for in sum, after leaving out what may stay pending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Volume {
    /// CPU, RAM, disk and GPU charged in the account that all tasks share.
    charged: [u128; 4],
    /// CPU and RAM of production's limits, where these are kept apart.
    prod_limits: [u128; 2],
    /// Machines that one job needs for itself.
    machine_count: usize,
}

impl Volume {
    /// Of these tasks and allocs, of which `allowed` may stay pending: any, or those marked in `picky`
    /// (parallel to `tasks`).
    pub(crate) fn of(
        cell: &Cell,
        tasks: &[TaskId],
        accounting: Accounting,
        allowed: usize,
        picky: Option<&[bool]>,
    ) -> Self {
        let mut charges: Vec<[u64; 4]> = Vec::with_capacity(tasks.len());
        let mut prod: Vec<[u64; 2]> = Vec::with_capacity(tasks.len());
        let mut on_different: BTreeMap<JobId, usize> = BTreeMap::new();
        for &id in tasks {
            let job = cell.job(id.job);
            let limit = cell.task(id).limit;
            // What runs in an alloc draws on the alloc.
            let on_machine = job.alloc_set.is_none();
            charges.push(if on_machine {
                amounts(accounting.charge(cell.task(id)))
            } else {
                [0; 4]
            });
            let apart = accounting.keeps_limits_apart();
            let promised = on_machine && apart && job.priority.band().is_prod();
            prod.push(if promised { [limit.cpu.0, limit.ram.0] } else { [0; 2] });
            if job.different_machines && on_machine {
                *on_different.entry(id.job).or_default() += 1;
            }
        }
        let may_wait = |index: usize| picky.is_none_or(|picky| picky[index]);
        let sum = |amount: &dyn Fn(usize) -> u64| -> u128 {
            let all: u128 = (0..tasks.len()).map(|i| u128::from(amount(i))).sum();
            let mut waiting: Vec<u64> =
                (0..tasks.len()).filter(|&i| may_wait(i)).map(amount).collect();
            waiting.sort_unstable_by(|a, b| b.cmp(a));
            all - waiting.iter().take(allowed).map(|&amount| u128::from(amount)).sum::<u128>()
        };
        Self {
            charged: [0, 1, 2, 3].map(|r| sum(&|i| charges[i][r])),
            prod_limits: [0, 1].map(|r| sum(&|i| prod[i][r])),
            machine_count: on_different
                .values()
                .map(|count| count.saturating_sub(allowed))
                .max()
                .unwrap_or(0),
        }
    }

    /// How many of these machines, taken in order, the volume needs at least; `None`: more than there are.
    pub(crate) fn machines_needed(&self, cell: &Cell, order: &[Slot]) -> Option<usize> {
        let mut have = [0_u128; 4];
        for (index, slot) in order.iter().enumerate() {
            if self.is_covered(have) && index >= self.machine_count.max(1) {
                return Some(index);
            }
            let capacity = &cell.machine(slot.machine).capacity;
            have[0] += u128::from(capacity.cpu.0);
            have[1] += u128::from(capacity.ram.0);
            // A machine that states no disk holds any amount of it.
            have[2] += capacity.disk.map_or(u128::from(u64::MAX), |disk| u128::from(disk.0));
            have[3] += u128::from(capacity.gpu_count) * u128::from(cell::GPU_DEVICE.0);
        }
        (self.is_covered(have) && order.len() >= self.machine_count).then_some(order.len())
    }

    fn is_covered(&self, have: [u128; 4]) -> bool {
        (0..4).all(|r| have[r] >= self.charged[r]) && (0..2).all(|r| have[r] >= self.prod_limits[r])
    }
}

fn amounts(resources: Resources) -> [u64; 4] {
    let gpu: GpuRequest = resources.gpu;
    [resources.cpu.0, resources.ram.0, resources.disk.0, gpu.total().0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use cell::spec::{CellBuilder, JobSpec, MachineSpec};

    fn cell(jobs: &[&str]) -> Cell {
        let mut builder = CellBuilder::default();
        let machine: MachineSpec =
            serde_json::from_str(r#"{"name": "m", "count": 10, "cpu": 4, "ram": 100}"#).unwrap();
        builder.add_machine(&machine).unwrap();
        for (index, job) in jobs.iter().enumerate() {
            let text = format!(r#"{{"name": "j{index}", "user": "u", "priority": 200, {job}}}"#);
            let spec: JobSpec = serde_json::from_str(&text).unwrap();
            builder.add_job(&spec).unwrap();
        }
        builder.finish()
    }

    fn check(jobs: &[&str], allowed: usize, expected: Option<usize>) {
        let cell = cell(jobs);
        let tasks: Vec<TaskId> = cell.tasks().map(|(id, _, _)| id).collect();
        let volume = Volume::of(&cell, &tasks, Accounting::Limits, allowed, None);
        assert_eq!(volume.machines_needed(&cell, &Slot::all(&cell)), expected, "{jobs:?}");
    }

    #[test]
    fn the_scarcer_resource_decides() {
        // 9 CPU on machines of 4; 90 RAM on machines of 100.
        check(&[r#""count": 9, "limit": {"cpu": 1, "ram": 10}"#], 0, Some(3));
        // 9 CPU; 450 RAM.
        check(&[r#""count": 9, "limit": {"cpu": 1, "ram": 50}"#], 0, Some(5));
        // 44 CPU on 40.
        check(&[r#""count": 11, "limit": {"cpu": 4, "ram": 1}"#], 0, None);
    }

    #[test]
    fn what_may_wait_is_left_out_largest_first() {
        let jobs = [
            r#""count": 4, "limit": {"cpu": 1, "ram": 1}"#,
            r#""count": 2, "limit": {"cpu": 4, "ram": 1}"#,
        ];
        check(&jobs, 0, Some(3)); // 12 CPU
        check(&jobs, 1, Some(2)); // 8 CPU
        check(&jobs, 2, Some(1));
    }

    #[test]
    fn different_machines_count_by_themselves() {
        let job = r#""count": 7, "limit": {"cpu": "1m", "ram": 1}, "different_machines": true"#;
        check(&[job], 0, Some(7));
        check(&[job], 2, Some(5));
    }
}
