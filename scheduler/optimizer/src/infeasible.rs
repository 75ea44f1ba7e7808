//! What is to blame where a workload cannot be held: a group of constraints that, were it lifted, would let
//! it be.
//!
//! In: a task and a state of its cell; or a workload, and a test whether one like it is held. Out: the
//! groups of constraints to blame. Each group is lifted by itself: those that are enough are to blame, each
//! of them. Where none is enough, all are lifted, and put back one by one as long as the rest is enough:
//! what is left is to blame together, and none of it could be put back.
//!
//! Lifting a resource means that no task asks for any of it; lifting production's limits, that reservations
//! alone must fit; lifting the pending allowance, that as many tasks may stay pending as in the paper
//! ([`PENDING_ALLOWANCE`]), because any workload is held if enough of it may wait. What a Kubernetes cluster
//! says beyond Borg's rules (taints, affinities) is not lifted.
//!
//! Source: Borg (EuroSys '15) §2.6 ("why pending?"); the deletion filter for irreducible infeasible
//! subsystems (Chinneck and Dravnieks 1991), here over what is lifted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use cell::{Attributes, Capacity, Cell, GpuRequest, Job, JobId, MilliCpu, TaskId};
use fauxmaster::{CompactError, CompactOptions, Compaction, PENDING_ALLOWANCE};
use scheduler::feasible::Infeasible;
use scheduler::{Accounting, Slot, Snapshot, why};
use traces::Trace;

use crate::model::{Model, RESOURCE_COUNT};
use crate::proof::model_of;

/// So many constraints on attributes are lifted one by one; more are one group. Each costs a packing.
const CONSTRAINTS_MAX: usize = 16;

/// So many jobs and constraints are named.
const NAMED_MAX: usize = 3;

/// A group of constraints.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Too few tasks may stay pending: fewer than in the paper.
    PendingAllowance,
    /// Tasks have to run in their alloc sets.
    Allocs,
    /// CPU.
    Cpu,
    /// RAM.
    Ram,
    /// Disk.
    Disk,
    /// GPUs.
    Gpu,
    /// The limits of production, where reservations would fit (Borg §5.5).
    ProductionLimits,
    /// Tasks of a job that want different machines.
    DifferentMachines,
    /// At most so many tasks of a job in a failure domain.
    Spread,
    /// Hard constraints on attributes, in words.
    Attributes(Vec<String>),
    /// Machines that tasks crashed on.
    Avoided,
    /// Machines that take nothing new. Compaction knows none.
    Closed,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PendingAllowance => {
                write!(f, "a pending allowance below {} %", PENDING_ALLOWANCE * 100.0)
            }
            Self::Allocs => f.write_str("allocs"),
            Self::Cpu => f.write_str("CPU"),
            Self::Ram => f.write_str("RAM"),
            Self::Disk => f.write_str("disk"),
            Self::Gpu => f.write_str("GPU"),
            Self::ProductionLimits => f.write_str("production's limits"),
            Self::DifferentMachines => f.write_str("different machines"),
            Self::Spread => f.write_str("spread over failure domains"),
            Self::Avoided => f.write_str("machines that tasks crashed on"),
            Self::Closed => f.write_str("machines that take nothing new"),
            Self::Attributes(constraints) => {
                let named = &constraints[..constraints.len().min(NAMED_MAX)];
                f.write_str(&named.join(", "))?;
                match constraints.len() - named.len() {
                    0 => Ok(()),
                    more => write!(f, " and {more} more constraints"),
                }
            }
        }
    }
}

impl Group {
    /// The group of a reason why a host cannot run a task.
    #[must_use]
    pub fn of(reason: &Infeasible) -> Self {
        match reason {
            Infeasible::Closed => Self::Closed,
            Infeasible::Avoided => Self::Avoided,
            Infeasible::Constraint(text) => Self::Attributes(vec![text.clone()]),
            Infeasible::DifferentMachines => Self::DifferentMachines,
            Infeasible::Spread(_) => Self::Spread,
            Infeasible::Gpu => Self::Gpu,
            Infeasible::Cpu => Self::Cpu,
            Infeasible::Ram => Self::Ram,
            Infeasible::Disk => Self::Disk,
            Infeasible::ProductionCpu | Infeasible::ProductionRam => Self::ProductionLimits,
        }
    }

    /// Whether a task has constraints of this group.
    fn concerns(&self, cell: &Cell, task: TaskId, accounting: Accounting) -> bool {
        let job = cell.job(task.job);
        let limit = cell.task(task).limit;
        match self {
            Self::PendingAllowance => true,
            Self::Allocs => job.alloc_set.is_some(),
            Self::Cpu => limit.cpu.0 > 0,
            Self::Ram => limit.ram.0 > 0,
            Self::Disk => limit.disk.0 > 0,
            Self::Gpu => limit.gpu.count > 0,
            Self::ProductionLimits => {
                accounting.keeps_limits_apart() && job.priority.band().is_prod()
            }
            Self::DifferentMachines => job.different_machines,
            Self::Spread => job.spread.iter().any(|spread| spread.max_per_domain.is_some()),
            Self::Avoided => !cell.task(task).avoid.is_empty(),
            Self::Closed => false,
            Self::Attributes(texts) => hard(job).any(|text| texts.contains(&text)),
        }
    }

    /// Takes the group's constraints off a workload.
    fn lift(&self, cell: &mut Cell, options: &mut CompactOptions) {
        let limits = |cell: &mut Cell, change: &dyn Fn(&mut cell::Resources)| {
            let tasks = cell.jobs.iter_mut().flat_map(|job| &mut job.tasks);
            tasks.for_each(|task| change(&mut task.limit));
        };
        match self {
            Self::PendingAllowance => {
                options.pending_allowance = options.pending_allowance.max(PENDING_ALLOWANCE);
            }
            Self::Allocs => cell.jobs.iter_mut().for_each(|job| job.alloc_set = None),
            Self::Cpu => limits(cell, &|limit| limit.cpu = MilliCpu::ZERO),
            Self::Ram => limits(cell, &|limit| limit.ram = cell::Bytes::ZERO),
            Self::Disk => limits(cell, &|limit| limit.disk = cell::Bytes::ZERO),
            Self::Gpu => limits(cell, &|limit| limit.gpu = GpuRequest::NONE),
            Self::ProductionLimits => match options.accounting {
                Accounting::Reclaimed(ratio) => options.accounting = Accounting::RightSized(ratio),
                // Nothing but what is recorded.
                Accounting::Recorded => {
                    for task in cell.jobs.iter_mut().flat_map(|job| &mut job.tasks) {
                        task.limit = Accounting::Recorded.charge(task);
                    }
                    options.accounting = Accounting::Limits;
                }
                Accounting::Limits | Accounting::RightSized(_) => {}
            },
            Self::Avoided => {
                let tasks = cell.jobs.iter_mut().flat_map(|job| &mut job.tasks);
                tasks.for_each(|task| task.avoid.clear());
            }
            Self::Closed => {}
            Self::DifferentMachines => {
                cell.jobs.iter_mut().for_each(|job| job.different_machines = false);
            }
            Self::Spread => {
                let spreads = cell.jobs.iter_mut().flat_map(|job| &mut job.spread);
                spreads.for_each(|spread| spread.max_per_domain = None);
            }
            Self::Attributes(texts) => cell.jobs.iter_mut().for_each(|job| {
                job.constraints.retain(|c| !c.is_hard() || !texts.contains(&c.to_string()));
            }),
        }
    }
}

/// A job's hard constraints, in words.
fn hard(job: &Job) -> impl Iterator<Item = String> {
    job.constraints.iter().filter(|c| c.is_hard()).map(ToString::to_string)
}

/// What is to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blame {
    /// The groups; at least one.
    pub groups: Vec<Group>,
    /// Whether all of them would have to be lifted; if not, any one of them would be enough.
    pub is_together: bool,
    /// Up to three jobs that have such constraints.
    pub jobs: Vec<String>,
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.groups.iter().map(ToString::to_string).collect();
        match names.as_slice() {
            [one] => write!(f, "because of {one}")?,
            all if self.is_together => write!(f, "because of {} together", listed(all, "and"))?,
            all => write!(f, "because of {}, each of which is enough", listed(all, "or"))?,
        }
        match self.jobs.as_slice() {
            [] => Ok(()),
            [one] => write!(f, " (for example job {one})"),
            all => write!(f, " (for example jobs {})", listed(all, "and")),
        }
    }
}

fn listed(all: &[String], word: &str) -> String {
    match all {
        [rest @ .., last] if !rest.is_empty() => format!("{} {word} {last}", rest.join(", ")),
        _ => all.join(", "),
    }
}

/// A workload cannot be held: the answer is no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}{}", .blame.as_ref().map(|blame| format!(", {blame}")).unwrap_or_default())]
pub struct CannotBeHeld {
    /// What does not fit, in words.
    pub what: String,
    /// Why; `None` where lifting every group at once is not enough.
    pub blame: Option<Blame>,
}

/// The smallest set of groups of constraints that rules a task out everywhere: were they lifted, some host
/// could run it. Of several such sets that which opens most hosts, then the first. Empty where a host can
/// run it as things are.
///
/// `snapshot` is the state of the task's cell, with no place for the task; without it all machines are
/// empty.
///
/// # Panics
/// If the task has a place in the snapshot.
#[must_use]
pub fn rules_out(
    cell: &Cell,
    accounting: Accounting,
    task: TaskId,
    snapshot: Option<&Snapshot<'_>>,
) -> Vec<Group> {
    let hosts = match snapshot {
        Some(snapshot) => why::reasons_by_host(snapshot, task),
        None => {
            let slots = one_of_each_kind(cell);
            why::reasons_by_host(&Snapshot::empty(cell, &slots, accounting), task)
        }
    };
    if hosts.is_empty() && cell.job(task.job).alloc_set.is_some() {
        return vec![Group::Allocs];
    }
    let mut opened: BTreeMap<BTreeSet<Group>, usize> = BTreeMap::new();
    for (reasons, count) in hosts {
        *opened.entry(reasons.iter().map(Group::of).collect()).or_default() += count;
    }
    let best =
        opened.into_iter().min_by_key(|(groups, count)| (groups.len(), std::cmp::Reverse(*count)));
    best.map(|(groups, _)| groups.into_iter().collect()).unwrap_or_default()
}

/// A slot for each kind of machine: empty ones of a kind are alike.
fn one_of_each_kind(cell: &Cell) -> Vec<Slot> {
    let mut seen: BTreeSet<(&Capacity, &Attributes)> = BTreeSet::new();
    Slot::all(cell)
        .into_iter()
        .filter(|slot| {
            let machine = cell.machine(slot.machine);
            seen.insert((&machine.capacity, &machine.attributes))
        })
        .collect()
}

/// Whether a workload is held; if not, the tasks that were left over, as far as they are known.
pub type Fits = Result<(), Vec<TaskId>>;

/// What is to blame that a compaction's workload is not held. `None` if it is, or if it is not with every
/// group lifted. `held` is asked of the workload as it is, and then with groups lifted.
#[must_use]
pub fn blame(
    trace: &Trace,
    options: &CompactOptions,
    held: &dyn Fn(&Trace, &CompactOptions) -> Fits,
) -> Option<Blame> {
    let left_over = held(trace, options).err()?;
    let packed = fauxmaster::workload::from_scratch(trace);
    let concerned = if left_over.is_empty() { &packed } else { &left_over };
    let is_enough = |groups: &[Group]| {
        let (mut trace, mut options) = (trace.clone(), options.clone());
        groups.iter().for_each(|group| group.lift(&mut trace.cell, &mut options));
        held(&trace, &options).is_ok()
    };
    let cell = &trace.cell;
    let (groups, is_together) = search(candidates(cell, options, &packed, concerned), &is_enough)?;
    let is_blamed =
        |task: &TaskId| groups.iter().any(|group| group.concerns(cell, *task, options.accounting));
    let mut jobs: Vec<JobId> = Vec::new();
    for job in concerned.iter().filter(|task| is_blamed(task)).map(|task| task.job) {
        if jobs.len() < NAMED_MAX && !jobs.contains(&job) {
            jobs.push(job);
        }
    }
    let jobs = jobs.into_iter().map(|job| cell.job(job).name.clone()).collect();
    Some(Blame { groups, is_together, jobs })
}

/// The groups that some task has constraints of; attributes as far as what is `concerned` names them.
fn candidates(
    cell: &Cell,
    options: &CompactOptions,
    packed: &[TaskId],
    concerned: &[TaskId],
) -> Vec<Group> {
    let mut all: Vec<Group> = [
        Group::PendingAllowance,
        Group::Allocs,
        Group::Cpu,
        Group::Ram,
        Group::Disk,
        Group::Gpu,
        Group::ProductionLimits,
        Group::DifferentMachines,
        Group::Spread,
        Group::Avoided,
    ]
    .into_iter()
    .filter(|group| packed.iter().any(|&task| group.concerns(cell, task, options.accounting)))
    .collect();
    if options.pending_allowance >= PENDING_ALLOWANCE {
        all.retain(|group| *group != Group::PendingAllowance);
    }
    let jobs: BTreeSet<JobId> = concerned.iter().map(|task| task.job).collect();
    let texts: BTreeSet<String> = jobs.iter().flat_map(|&job| hard(cell.job(job))).collect();
    if texts.len() > CONSTRAINTS_MAX {
        all.push(Group::Attributes(texts.into_iter().collect()));
    } else {
        all.extend(texts.into_iter().map(|text| Group::Attributes(vec![text])));
    }
    all
}

/// The groups each of which is enough; or else a set of which none can be put back, and `true`. `None`
/// where all are not enough.
fn search(all: Vec<Group>, is_enough: &dyn Fn(&[Group]) -> bool) -> Option<(Vec<Group>, bool)> {
    let mut single: Vec<Group> =
        all.iter().filter(|group| is_enough(std::slice::from_ref(group))).cloned().collect();
    if single.contains(&Group::ProductionLimits) {
        // Whoever asks for nothing has no limit either: what is less is to blame.
        single.retain(|group| !matches!(group, Group::Cpu | Group::Ram));
    }
    if !single.is_empty() {
        return Some((single, false));
    }
    if !is_enough(&all) {
        return None;
    }
    let mut lifted = all;
    let mut index = 0;
    while index < lifted.len() {
        let mut rest = lifted.clone();
        rest.remove(index);
        if is_enough(&rest) {
            lifted = rest;
        } else {
            index += 1;
        }
    }
    let is_together = lifted.len() > 1;
    Some((lifted, is_together))
}

/// What is to blame that some tasks of a model fit on no machine of a mix (how many of each shape); `None`
/// if all fit on some.
#[must_use]
pub fn of_model(model: &Model, mix: &[u64]) -> Option<Blame> {
    let machines: Vec<usize> = (0..mix.len()).filter(|&machine| mix[machine] > 0).collect();
    let hopeless: Vec<(usize, Vec<BTreeSet<Group>>)> = (0..model.tasks.len())
        .filter(|&task| machines.iter().all(|&machine| !model.fits(task, machine)))
        .map(|task| (task, machines.iter().map(|&of| misfit(model, task, of)).collect()))
        .collect();
    if hopeless.is_empty() {
        return None;
    }
    let misfits = hopeless.iter().flat_map(|(_, hosts)| hosts).flatten();
    let all: BTreeSet<Group> = misfits.cloned().collect();
    let is_enough = |groups: &[Group]| {
        let fits = |host: &BTreeSet<Group>| host.iter().all(|group| groups.contains(group));
        hopeless.iter().all(|(_, hosts)| hosts.iter().any(fits))
    };
    let (groups, is_together) = search(all.into_iter().collect(), &is_enough)?;
    let mut jobs: Vec<String> = Vec::new();
    for (task, _) in &hopeless {
        let name = &model.job_names[*task];
        if jobs.len() < NAMED_MAX && !jobs.contains(name) {
            jobs.push(name.clone());
        }
    }
    Some(Blame { groups, is_together, jobs })
}

/// Why a task of a shape does not fit on an empty machine of a shape.
fn misfit(model: &Model, task: usize, machine: usize) -> BTreeSet<Group> {
    const OF_RESOURCE: [Group; RESOURCE_COUNT] = [
        Group::Cpu,
        Group::Ram,
        Group::Disk,
        Group::Gpu,
        Group::ProductionLimits,
        Group::ProductionLimits,
    ];
    let (task, machine) = (&model.tasks[task], &model.machines[machine]);
    let is_short = |r: &usize| task.demand[*r] > machine.capacity[*r];
    let mut groups: BTreeSet<Group> =
        (0..RESOURCE_COUNT).filter(is_short).map(|r| OF_RESOURCE[r].clone()).collect();
    if !machine.obeys[task.rules] {
        let texts = model.rules[task.rules].iter().map(ToString::to_string).collect();
        groups.insert(Group::Attributes(texts));
    }
    groups
}

/// No number of machines is enough for a task that fits on none. `model` is of the compaction.
///
/// # Errors
/// If more tasks fit on no machine of the cell than may stay pending.
pub fn check_fits(
    trace: &Trace,
    options: &CompactOptions,
    compaction: &Compaction<'_>,
    model: &Model,
) -> Result<(), CannotBeHeld> {
    let Err(hopeless) = fits_somewhere(compaction, model) else { return Ok(()) };
    let what = format!(
        "{} tasks fit on no machine of the cell, and {} may stay pending",
        hopeless.len(),
        model.pending_allowed
    );
    Err(CannotBeHeld { what, blame: blame(trace, options, &held_by_any_number) })
}

/// Tasks that fit on no machine of the cell are left over, where there are more than may stay pending.
fn fits_somewhere(compaction: &Compaction<'_>, model: &Model) -> Fits {
    let hopeless: Vec<bool> = (0..model.tasks.len())
        .map(|task| (0..model.machines.len()).all(|machine| !model.fits(task, machine)))
        .collect();
    let left_over: Vec<TaskId> = compaction
        .tasks()
        .iter()
        .zip(&model.shape_of_task)
        .filter(|(_, shape)| shape.is_some_and(|shape| hopeless[shape]))
        .map(|(&task, _)| task)
        .collect();
    if left_over.len() as u64 <= model.pending_allowed { Ok(()) } else { Err(left_over) }
}

/// Whether each task fits on some machine of the cell, but for those that may stay pending.
fn held_by_any_number(trace: &Trace, options: &CompactOptions) -> Fits {
    let Ok(compaction) = Compaction::new(trace, options) else { return Ok(()) };
    fits_somewhere(&compaction, &model_of(&compaction, options.accounting).0)
}

/// An error of a greedy compaction with these options; where the workload does not fit, with what is to
/// blame for that.
#[must_use]
pub(crate) fn of_greedy(
    trace: &Trace,
    options: &CompactOptions,
    error: CompactError,
) -> anyhow::Error {
    let CompactError::DoesNotFit { clones, .. } = &error else { return error.into() };
    let clones = *clones;
    // Of one trial alone, the first that does not fit: each group lifted costs a packing.
    let in_trial = |trial: u64| {
        move |trace: &Trace, options: &CompactOptions| {
            let Ok(compaction) = Compaction::new(trace, options) else { return Ok(()) };
            let plan = compaction.plan(&compaction.order(clones, trial), trial);
            if plan.is_complete { Ok(()) } else { Err(plan.pending) }
        }
    };
    let blame = blame(trace, options, &held_by_any_number).or_else(|| {
        let failing =
            (0..options.trials as u64).find(|&trial| in_trial(trial)(trace, options).is_err())?;
        blame(trace, options, &in_trial(failing))
    });
    CannotBeHeld { what: error.to_string(), blame }.into()
}
