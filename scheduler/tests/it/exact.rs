//! The best host is the exact one: each assignment is compared with a full scan that scores every host
//! by the documented formulas, from the placements alone.

use std::collections::{BTreeMap, BTreeSet};

use cell::{Cell, DomainKind, Strength, TaskId};
use proptest::prelude::{TestCaseError, any, prop_assert, proptest};
use scheduler::score::hybrid::FIT;
use scheduler::{Accounting, Base, Examine, Plan, Policy, Slot, Snapshot, pass, policies};

use crate::cells::{ACCOUNTINGS, SMALL, all_tasks, cases, cells, is_borgs, options};
use crate::model;

/// Packages that came to machines with tasks, by machine; they stay when a task leaves.
type Installed = BTreeMap<Slot, BTreeSet<String>>;

#[expect(clippy::cast_precision_loss, reason = "small amounts")]
fn float(amount: u64) -> f64 {
    amount as f64
}

/// Used fractions of the resources that a host has, without and with the task: CPU, RAM, disk, GPU.
fn fractions(snapshot: &Snapshot<'_>, task: TaskId, row: usize) -> Vec<(f64, f64)> {
    let (has, used) = (model::has(snapshot, row), model::used(snapshot, row, &[]));
    let charge = model::charge(snapshot, task);
    let mut parts: Vec<(u64, u64, u64)> =
        (0..3).filter_map(|r| Some((used.amounts[r], charge[r], has.amounts[r]?))).collect();
    if model::is_promised(snapshot, task) {
        // Production fills up the account of its limits.
        let limit = &snapshot.cell().task(task).limit;
        for (r, asked) in [limit.cpu.0, limit.ram.0].into_iter().enumerate() {
            parts[r] = (used.promised[r], asked, has.promised[r]);
        }
    }
    let gpu = snapshot.cell().task(task).limit.gpu.total().0;
    parts.push((used.devices.iter().sum(), gpu, u64::from(has.devices) * 1000));
    parts
        .into_iter()
        .filter(|&(_, _, capacity)| capacity > 0)
        .map(|(used, asked, capacity)| {
            (float(used) / float(capacity), float(used + asked) / float(capacity))
        })
        .collect()
}

fn base(policy: &Policy, snapshot: &Snapshot<'_>, task: TaskId, row: usize) -> f64 {
    let parts = fractions(snapshot, task, row);
    let count = f64::from(u32::try_from(parts.len()).unwrap());
    let mean_left = parts.iter().map(|(_, after)| 1.0 - after).sum::<f64>() / count;
    match policy.base {
        Base::BestFit => 1.0 - mean_left,
        Base::Hybrid => {
            let least = parts.iter().map(|(_, after)| 1.0 - after).fold(1.0, f64::min);
            let others = count - 1.0;
            let stranded = if others > 0.0 { (mean_left - least) * count / others } else { 0.0 };
            1.0 - (stranded + FIT * mean_left) / (1.0 + FIT)
        }
        Base::EPvm => {
            let n = f64::from(u32::try_from(snapshot.machine_count()).unwrap());
            if n == 1.0 {
                return 1.0;
            }
            let growth: f64 =
                parts.iter().map(|(before, after)| n.powf(*after) - n.powf(*before)).sum();
            1.0 - growth / (count * (n - 1.0))
        }
        Base::Kube(_) | Base::Peer(_) => panic!("not Borg's"),
    }
}

fn total(
    policy: &Policy,
    snapshot: &Snapshot<'_>,
    installed: &Installed,
    task: TaskId,
    row: usize,
) -> f64 {
    let cell = snapshot.cell();
    let job = cell.job(task.job);
    let weights = &policy.weights;
    let (has, used) = (model::has(snapshot, row), model::used(snapshot, row, &[]));
    let mixing = (0..2)
        .map(|r| {
            let prod = used.charged_prod[r];
            let other = used.amounts[r] - prod;
            let charged = if model::is_prod(cell, task) { other } else { prod };
            has.amounts[r].filter(|&has| has > 0).map_or(0.0, |has| float(charged) / float(has))
        })
        .sum::<f64>()
        / 2.0;
    let machine = cell.machine(snapshot.slot(row).machine);
    let there = installed.get(&snapshot.slot(row));
    let here = job.packages.iter().filter(|&package| {
        machine.packages.contains(package) || there.is_some_and(|there| there.contains(package))
    });
    let share = |part: usize, all: usize| {
        let count = |count: usize| f64::from(u32::try_from(count).unwrap());
        if all == 0 { 1.0 } else { count(part) / count(all) }
    };
    let locality = share(here.count(), job.packages.len());
    let (mut held, mut asked) = (0, 0);
    for constraint in &job.constraints {
        if let Strength::Soft { weight } = constraint.strength {
            asked += weight as usize;
            held += if model::holds(snapshot, constraint, row) { weight as usize } else { 0 };
        }
    }
    let soft = share(held, asked);
    let crowd = |kind: DomainKind| {
        let others = model::count_in_domain(snapshot, task, kind, row).unwrap_or(0);
        1.0 / (1.0 + f64::from(others))
    };
    let kinds = f64::from(u32::try_from(job.spread.len()).unwrap());
    let spread = if job.spread.is_empty() {
        1.0
    } else {
        job.spread.iter().map(|spread| crowd(spread.domain)).sum::<f64>() / kinds
    };
    (weights.base * base(policy, snapshot, task, row)
        + weights.mixing * mixing
        + weights.locality * locality
        + weights.soft * soft
        + weights.spread * spread)
        / weights.sum()
}

fn install(installed: &mut Installed, cell: &Cell, task: TaskId, slot: Slot) {
    let packages = cell.job(task.job).packages.iter().cloned();
    installed.entry(slot).or_default().extend(packages);
}

/// Replays a plan from scratch, and compares each choice with the best of all hosts.
fn check(policy: &Policy, start: &Snapshot<'_>, plan: &Plan<'_>) -> Result<(), TestCaseError> {
    let cell = start.cell();
    let mut now = start.clone();
    let mut installed = Installed::new();
    for assignment in &plan.assignments {
        let task = assignment.task;
        let feasible = model::feasible_rows(&now, task);
        prop_assert!(feasible.contains(&assignment.row), "{} does not fit", cell.task_name(task));
        let scored: Vec<(usize, f64)> = feasible
            .into_iter()
            .map(|row| (row, total(policy, &now, &installed, task, row)))
            .collect();
        let of = |wanted: usize| scored.iter().find(|(row, _)| *row == wanted).unwrap().1;
        let best = scored.iter().map(|(_, score)| *score).fold(f64::MIN, f64::max);
        prop_assert!((0.0..=1.0 + 1e-12).contains(&best), "{} is out of range", best);
        // Scores are compared by 39 bits.
        prop_assert!(
            of(assignment.row) >= best - 2.0 / (1_u64 << 39) as f64,
            "{} went to row {}, of {:?}",
            cell.task_name(task),
            assignment.row,
            scored
        );
        now.place(task, assignment.row);
        install(&mut installed, cell, task, now.slot(assignment.row));
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn borg_policies_choose_the_best_of_all_hosts(
        text in cells(SMALL),
        seed in any::<u64>(),
        accounting in proptest::sample::select(ACCOUNTINGS.to_vec()),
    ) {
        let cell = text.build();
        for policy in policies().into_iter().filter(is_borgs) {
            let empty = Snapshot::empty(&cell, &Slot::all(&cell), accounting);
            let plan = pass(&empty, &all_tasks(&cell), &options(policy.clone(), seed));
            check(&policy, &empty, &plan)?;
        }
    }
}

/// Equal machines tie for every task: the seed decides, and each of them is chosen by some seed.
#[test]
fn ties_are_broken_by_the_seed() {
    let cell = crate::cells::build(
        &[serde_json::json!({"name": "m", "count": 4, "cpu": 4, "ram": 100})],
        &[],
        &[serde_json::json!({"name": "j", "limit": {"cpu": 1, "ram": 10}})],
    );
    for policy in policies() {
        let chosen: BTreeSet<usize> = (0..64)
            .map(|seed| {
                let empty = Snapshot::empty(&cell, &Slot::all(&cell), Accounting::Limits);
                pass(&empty, &all_tasks(&cell), &options(policy.clone(), seed)).assignments[0].row
            })
            .collect();
        // The GPU paper's policies take the first, as its simulator does.
        let first_wins = policy.is_peer() && policy.examine == Examine::All;
        // 4 · (3/4)^64 = 4e-8 for a draw that is fair.
        assert_eq!(chosen.len(), if first_wins { 1 } else { 4 }, "{}", policy.name());
    }
}
