//! Why is my task pending? For each reason the number of hosts it rules out first, and the smallest
//! single change of the task that would place it.
//!
//! In: a snapshot and a task without a place. Out: an [`Explanation`]. Source: Borg (EuroSys '15) §2.6.

use std::collections::BTreeMap;
use std::fmt;

use cell::{DomainKind, JobKind, TaskId};

use crate::accounting::Accounting;
use crate::feasible::{Infeasible, reasons};
use crate::job_state::JobState;
use crate::policy::{Base, Policy};
use crate::snapshot::Snapshot;

/// Why a task has no place.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// How many hosts there are: machines, or for a job in an alloc set the allocs that have a place.
    pub host_count: usize,
    /// Hosts on which the task fits as things are.
    pub feasible_count: usize,
    /// For each reason the hosts it rules out first, in the order in which reasons are looked for.
    /// Together with `feasible_count` they add up to `host_count`.
    pub ruled_out: Vec<(Infeasible, usize)>,
    /// Single changes that would place it, the smallest first.
    pub changes: Vec<Change>,
}

/// What kube-scheduler would say of a task without a place, under a policy that models it:
/// `0/20 nodes are available: 3 Insufficient cpu, …`. `None` under other policies, and for a task in an
/// alloc set, which Kubernetes knows nothing of.
#[must_use]
pub fn in_kubernetes_words(
    policy: &Policy,
    snapshot: &Snapshot<'_>,
    task: TaskId,
) -> Option<String> {
    match &policy.base {
        Base::Kube(profile) => crate::k8s::pass::fit_error(profile, snapshot, task),
        Base::Hybrid | Base::BestFit | Base::EPvm | Base::Peer(_) => None,
    }
}

/// A single change of a task or its job, after which some hosts could run it.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What to change.
    pub what: Remedy,
    /// Hosts that the change makes feasible.
    pub host_count: usize,
}

/// What to change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remedy {
    /// Ask for so many milli-cores less.
    LessCpu(i64),
    /// Ask for so many bytes of RAM less.
    LessRam(i64),
    /// Ask for so many bytes of disk less.
    LessDisk(i64),
    /// Ask for less GPU: for this share of one device in milli-GPU, or for so many whole devices.
    GpuShare(u64),
    /// Ask for so many whole GPU devices instead.
    GpuDevices(u32),
    /// Drop this constraint.
    DropConstraint(String),
    /// Let tasks of the job share a machine.
    AllowSameMachine,
    /// Let one more task of the job into a domain of this kind.
    RaiseSpread(DomainKind),
}

/// In words. Bytes are rounded up: asking for that much less is enough.
impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LessCpu(milli) => {
                #[expect(clippy::cast_precision_loss, reason = "to be shown")]
                let cores = *milli as f64 / 1000.0;
                write!(f, "{cores} cores less CPU")
            }
            Self::LessRam(amount) => write!(f, "{} less RAM", bytes(*amount)),
            Self::LessDisk(amount) => write!(f, "{} less disk", bytes(*amount)),
            Self::GpuShare(milli) => write!(f, "{milli} milli-GPU of one device at most"),
            Self::GpuDevices(count) => write!(f, "{count} GPU devices at most"),
            Self::DropConstraint(text) => write!(f, "without the constraint {text}"),
            Self::AllowSameMachine => f.write_str("without different_machines"),
            Self::RaiseSpread(kind) => {
                write!(f, "with a higher max_per_domain for {}", kind.name())
            }
        }
    }
}

/// Bytes in a readable unit, exact enough to act on, rounded up.
fn bytes(amount: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "to be shown")]
    let amount = amount as f64;
    let [gib, mib] = [amount / f64::from(1 << 30), amount / f64::from(1 << 20)];
    let up = |value: f64| (value * 1000.0).ceil() / 1000.0;
    if gib >= 0.1 { format!("{} GiB", up(gib)) } else { format!("{} MiB", up(mib)) }
}

impl Remedy {
    /// How large the change is against what is asked, 0..=1; dropping a rule counts as 1.
    fn size(&self, snapshot: &Snapshot<'_>, task: TaskId) -> f64 {
        let limit = snapshot.cell.task(task).limit;
        #[expect(clippy::cast_precision_loss, reason = "only compared")]
        let part = |less: i64, asked: u64| less as f64 / asked.max(1) as f64;
        match self {
            Self::LessCpu(less) => part(*less, limit.cpu.0),
            Self::LessRam(less) => part(*less, limit.ram.0),
            Self::LessDisk(less) => part(*less, limit.disk.0),
            Self::GpuShare(milli) => {
                let less = limit.gpu.total().0.saturating_sub(*milli);
                part(i64::try_from(less).unwrap_or(i64::MAX), limit.gpu.total().0)
            }
            Self::GpuDevices(count) => {
                let less = i64::from(limit.gpu.count) - i64::from(*count);
                part(less, u64::from(limit.gpu.count))
            }
            Self::DropConstraint(_) | Self::AllowSameMachine | Self::RaiseSpread(_) => 1.0,
        }
    }
}

/// Explains why `task`, which has no place in `snapshot`, has none.
///
/// # Panics
/// If the task has a place.
#[must_use]
pub fn explain(snapshot: &Snapshot<'_>, task: TaskId) -> Explanation {
    assert!(snapshot.placement(task).is_none(), "the task has a place");
    let job_state = JobState::of(snapshot, task.job);
    let rows = rows(snapshot, task);
    let mut ruled_out: BTreeMap<Infeasible, usize> = BTreeMap::new();
    let mut feasible_count = 0;
    // Rows that one change alone would open, with how much of it they need.
    let mut openings: BTreeMap<Kind, Vec<i64>> = BTreeMap::new();
    for &row in &rows {
        let why_not = reasons(snapshot, &job_state, task, row);
        let Some(first) = why_not.first() else {
            feasible_count += 1;
            continue;
        };
        *ruled_out.entry(first.clone()).or_default() += 1;
        if let Some((kind, amount)) = single_change(snapshot, task, row, &why_not) {
            openings.entry(kind).or_default().push(amount);
        }
    }
    let mut changes: Vec<Change> =
        openings.into_iter().filter_map(|(kind, amounts)| change(kind, &amounts)).collect();
    let size = |change: &Change| change.what.size(snapshot, task);
    changes.sort_by(|a, b| {
        size(a)
            .total_cmp(&size(b))
            .then(b.host_count.cmp(&a.host_count))
            .then_with(|| a.what.cmp(&b.what))
    });
    Explanation {
        host_count: rows.len(),
        feasible_count,
        ruled_out: ruled_out.into_iter().collect(),
        changes,
    }
}

/// For each list of reasons that keep `task`, which has no place in `snapshot`, off some host, the number
/// of hosts that it is kept off for just these, in the order of [`Infeasible`]. An empty list is of hosts
/// on which it fits. The numbers add up to all its hosts: machines, or for a job in an alloc set the allocs
/// that have a place.
///
/// # Panics
/// If the task has a place.
#[must_use]
pub fn reasons_by_host(snapshot: &Snapshot<'_>, task: TaskId) -> BTreeMap<Vec<Infeasible>, usize> {
    assert!(snapshot.placement(task).is_none(), "the task has a place");
    let job_state = JobState::of(snapshot, task.job);
    let mut hosts: BTreeMap<Vec<Infeasible>, usize> = BTreeMap::new();
    for row in rows(snapshot, task) {
        *hosts.entry(reasons(snapshot, &job_state, task, row)).or_default() += 1;
    }
    hosts
}

/// The hosts that a task may be placed on at all.
fn rows(snapshot: &Snapshot<'_>, task: TaskId) -> Vec<usize> {
    match snapshot.cell.job(task.job).alloc_set {
        Some(alloc_set) => snapshot.alloc_rows(alloc_set).to_vec(),
        None => (0..snapshot.machine_count()).collect(),
    }
}

/// A kind of single change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Cpu,
    Ram,
    Disk,
    GpuShare,
    GpuDevices,
    Constraint(String),
    SameMachine,
    Spread(DomainKind),
}

/// The one change that would open a row, and how much of it; `None` where more than one is needed, or
/// where no change of the task helps.
fn single_change(
    snapshot: &Snapshot<'_>,
    task: TaskId,
    row: usize,
    why_not: &[Infeasible],
) -> Option<(Kind, i64)> {
    let host = &snapshot.hosts[row];
    let demand = snapshot.demand(task);
    let limit = crate::snapshot::Amounts::of(&snapshot.cell.task(task).limit);
    let (cpu_permille, ram_permille) = match snapshot.accounting {
        // Nothing is reserved above the limit, so lowering that far enough lowers the charge.
        Accounting::Limits | Accounting::Recorded => (1000, 1000),
        Accounting::Reclaimed(ratio) | Accounting::RightSized(ratio) => {
            (ratio.cpu_permille, ratio.ram_permille)
        }
    };
    // By how much a limit exceeds the largest one whose charge, rounded up, fits what is free. On a host
    // that is over-committed that is all of it: a request of zero is never checked.
    let excess = |limit: i64, free: i64, permille: u32| {
        let largest = i128::from(free.max(0)) * 1000 / i128::from(permille.max(1));
        limit - i64::try_from(largest).unwrap_or(limit).min(limit)
    };
    let mut kinds: BTreeMap<Kind, i64> = BTreeMap::new();
    for reason in why_not {
        let (kind, amount) = match reason {
            Infeasible::Closed | Infeasible::Avoided => return None,
            Infeasible::Cpu => (Kind::Cpu, excess(limit.cpu, host.free.cpu, cpu_permille)),
            Infeasible::Ram => (Kind::Ram, excess(limit.ram, host.free.ram, ram_permille)),
            Infeasible::Disk => (Kind::Disk, excess(limit.disk, host.free.disk, 1000)),
            Infeasible::ProductionCpu => (Kind::Cpu, excess(limit.cpu, host.prod_free.cpu, 1000)),
            Infeasible::ProductionRam => (Kind::Ram, excess(limit.ram, host.prod_free.ram, 1000)),
            Infeasible::Gpu if demand.gpu.count == 1 => {
                let largest = host.gpus.devices().iter().copied().max().unwrap_or(0);
                (Kind::GpuShare, i64::from(largest))
            }
            Infeasible::Gpu => {
                let whole = host.gpus.devices().iter().filter(|&&free| free == 1000).count();
                (Kind::GpuDevices, i64::try_from(whole).unwrap_or(0))
            }
            Infeasible::Constraint(text) => (Kind::Constraint(text.clone()), 0),
            Infeasible::DifferentMachines => (Kind::SameMachine, 0),
            Infeasible::Spread(domain) => (Kind::Spread(*domain), 0),
        };
        let entry = kinds.entry(kind).or_insert(amount);
        *entry = amount.max(*entry);
    }
    let (kind, amount) = kinds.pop_first()?;
    // No GPU at all on the host is not a smaller request.
    let helps = !(matches!(kind, Kind::GpuShare | Kind::GpuDevices) && amount == 0);
    (kinds.is_empty() && helps).then_some((kind, amount))
}

/// The smallest change of a kind, and how many hosts it opens.
fn change(kind: Kind, amounts: &[i64]) -> Option<Change> {
    let fewest = *amounts.iter().min()?;
    let most = *amounts.iter().max()?;
    let opened_by = |amount: i64| amounts.iter().filter(|&&needed| needed <= amount).count();
    let with_at_least = |amount: i64| amounts.iter().filter(|&&free| free >= amount).count();
    let (what, host_count) = match kind {
        Kind::Cpu => (Remedy::LessCpu(fewest), opened_by(fewest)),
        Kind::Ram => (Remedy::LessRam(fewest), opened_by(fewest)),
        Kind::Disk => (Remedy::LessDisk(fewest), opened_by(fewest)),
        Kind::GpuShare => (Remedy::GpuShare(u64::try_from(most).ok()?), with_at_least(most)),
        Kind::GpuDevices => (Remedy::GpuDevices(u32::try_from(most).ok()?), with_at_least(most)),
        Kind::Constraint(text) => (Remedy::DropConstraint(text), amounts.len()),
        Kind::SameMachine => (Remedy::AllowSameMachine, amounts.len()),
        Kind::Spread(domain) => (Remedy::RaiseSpread(domain), amounts.len()),
    };
    Some(Change { what, host_count })
}

/// Whether a task waits for an alloc: its job is in an alloc set none of whose allocs has a place.
#[must_use]
pub fn waits_for_alloc(snapshot: &Snapshot<'_>, task: TaskId) -> bool {
    let job = snapshot.cell.job(task.job);
    job.kind == JobKind::Job
        && job.alloc_set.is_some_and(|alloc_set| snapshot.alloc_rows(alloc_set).is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_rounded_up() {
        assert_eq!(bytes(429_496_730), "0.401 GiB"); // 0.4 GiB and a fraction of a byte
        assert_eq!(bytes(1_048_576), "1 MiB");
    }
}
