//! A cell cloned: machines, users and jobs several times over, with the shapes of the copies perturbed so
//! that they are not the same few again.
//!
//! In: a trace, and how many copies to make of it. Out: one that is so many times as large; the first copy
//! is the trace itself. In every other copy each job's limits are scaled by a factor of its own for CPU,
//! RAM and disk, drawn from 0.9..=1.1 in thousandths by a hash of copy, job and resource, and rounded up;
//! machines keep their capacity, so that a limit is never raised above what the largest machine has. What
//! runs in an alloc, allocs, and jobs with GPUs keep their limits. Tasks that run do so on the copy's
//! machines.

use cell::{Bytes, Cell, Host, Job, JobId, MachineId, MilliCpu, TaskId, TaskState, UserId};

use crate::Trace;

/// The most copies. Our own limit: twice the largest cell that we measure.
pub(crate) const COPIES_MAX: usize = 16;

/// Factors in thousandths.
const LEAST: u64 = 900;
const SPAN: u64 = 201;

/// `copies` of the trace's cell as one.
pub(crate) fn scale(trace: Trace, copies: usize) -> Trace {
    let Trace { cell: one, .. } = &trace;
    let mut cell = Cell::default();
    let largest = one.machines.iter().fold((MilliCpu(0), Bytes(0), Bytes(0)), |most, machine| {
        let of = &machine.capacity;
        (most.0.max(of.cpu), most.1.max(of.ram), most.2.max(of.disk.unwrap_or_default()))
    });
    for copy in 0..copies {
        let name = |name: &str| if copy == 0 { name.to_owned() } else { format!("{name}~{copy}") };
        let from = (cell.machines.len(), cell.users.len(), cell.jobs.len());
        for machine in &one.machines {
            let mut machine = machine.clone();
            machine.name = name(&machine.name);
            machine.rack = machine.rack.as_deref().map(name);
            machine.power = machine.power.as_deref().map(name);
            cell.machines.push(machine);
        }
        cell.users.extend(one.users.iter().map(|user| name(user)));
        for (number, job) in one.jobs.iter().enumerate() {
            let mut job = job.clone();
            job.name = name(&job.name);
            job.user = UserId::from_index(from.1 + job.user.index());
            job.alloc_set = job.alloc_set.map(|id| JobId::from_index(from.2 + id.index()));
            for task in &mut job.tasks {
                if let TaskState::Running { on: Some(host) } = &mut task.state {
                    *host = moved(*host, from.0, from.2);
                }
            }
            if copy > 0 {
                perturb(&mut job, copy, number, largest);
            }
            cell.jobs.push(job);
        }
    }
    Trace { cell, ..trace }
}

fn moved(host: Host, machines: usize, jobs: usize) -> Host {
    match host {
        Host::Machine(id) => Host::Machine(MachineId::from_index(machines + id.index())),
        Host::Alloc(id) => {
            Host::Alloc(TaskId { job: JobId::from_index(jobs + id.job.index()), ..id })
        }
    }
}

fn perturb(job: &mut Job, copy: usize, number: usize, largest: (MilliCpu, Bytes, Bytes)) {
    if job.kind == cell::JobKind::AllocSet || job.alloc_set.is_some() {
        return;
    }
    let factor = |resource: u64| {
        let of = (copy as u64) << 40 | (number as u64) << 2 | resource;
        LEAST + scatter(of) % SPAN
    };
    let (cpu, ram, disk) = (factor(0), factor(1), factor(2));
    let scaled = |amount: u64, factor: u64, most: u64| {
        let scaled = (u128::from(amount) * u128::from(factor)).div_ceil(1000);
        u64::try_from(scaled).unwrap_or(u64::MAX).min(most.max(amount))
    };
    for task in &mut job.tasks {
        let limit = &mut task.limit;
        if limit.gpu.count == 0 {
            limit.cpu = MilliCpu(scaled(limit.cpu.0, cpu, largest.0.0));
            limit.ram = Bytes(scaled(limit.ram.0, ram, largest.1.0));
            limit.disk = Bytes(scaled(limit.disk.0, disk, largest.2.0));
        }
    }
}

/// Scatters 64 bits (the finaliser of splitmix64, Steele et al. 2014).
fn scatter(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ReadOptions, load};

    #[test]
    fn copies_are_apart_and_their_limits_perturbed() {
        let one = load("google-2011-t0", ReadOptions::default()).unwrap().cell;
        let trace = load("scaled:3:google-2011-t0", ReadOptions::default()).unwrap();
        let cell = &trace.cell;
        assert_eq!(trace.source, "scaled:3:google-2011-t0");
        assert_eq!(cell.machines.len(), 3 * one.machines.len());
        assert_eq!(cell.jobs.len(), 3 * one.jobs.len());
        assert!(cell.jobs.iter().take(one.jobs.len()).eq(&one.jobs));
        let names: std::collections::BTreeSet<&str> =
            cell.jobs.iter().map(|job| job.name.as_str()).collect();
        assert_eq!(names.len(), cell.jobs.len());
        let mut changed = 0;
        for (index, (id, job, task)) in cell.tasks().enumerate() {
            let original =
                one.task(TaskId { job: JobId::from_index(id.job.index() % one.jobs.len()), ..id });
            let [was, is] = [original, task].map(|task| task.limit.cpu.0);
            assert!(is * 1000 >= was * 900 && is * 1000 < was * 1100 + 1000, "task {index}");
            changed += u64::from(was != is);
            let copy = id.job.index() / one.jobs.len();
            assert_eq!(job.user.index() / one.users.len(), copy);
            if let TaskState::Running { on: Some(Host::Machine(machine)) } = task.state {
                assert_eq!(machine.index() / one.machines.len(), copy);
            }
        }
        assert!(changed > 200_000, "{changed}");
    }

    #[test]
    fn what_is_no_scale_is_refused() {
        let check = |source: &str, part: &str| {
            let error = load(source, ReadOptions::default()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        check("scaled:google-2011-t0", "scaled:N:TRACE");
        check("scaled:0:google-2011-t0", "1..=16");
        check("scaled:17:google-2011-t0", "1..=16");
        check("scaled:2:nowhere", "nowhere");
        check("scaled:2:scaled:2:nowhere", "nowhere");
    }
}
