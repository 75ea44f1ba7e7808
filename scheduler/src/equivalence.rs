//! Equivalence classes: tasks with the same demand and the same rules are feasible on, and scored for,
//! the same hosts, so one evaluation serves all of them (Borg §3.4).
//!
//! A job whose own placements bear on its next task (different machines, spread) has classes of its own.

use std::collections::{BTreeMap, BTreeSet};

use cell::{Cell, Constraint, Job, JobId, MachineId, TaskId};

use crate::job_state;
use crate::score::Ask;
use crate::snapshot::{Demand, Snapshot, exact};

/// Position of a class among those of a pass.
pub(crate) type ClassIndex = usize;

/// What tasks of a class have in common.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    pub demand: Demand,
    /// What scores read of it.
    pub ask: Ask,
    /// A job of the class, to read its rules from.
    pub job: JobId,
    /// Whether the job's own placements bear on it; then the class is that job's alone.
    pub is_own: bool,
    /// Machines that its tasks may not be placed on, ascending.
    pub avoid: Vec<MachineId>,
    /// Whether hosts differ for it in more than room and score: constraints, machines to avoid, packages,
    /// spread.
    pub has_rules: bool,
    /// Seeds its ties: a hash of what it is, not of the order in which classes were met.
    pub tie: u64,
}

/// The rules of a job, and machines that a task avoids, as far as they tell classes apart.
type Rules = (Vec<Constraint>, BTreeSet<String>, Option<JobId>, Option<JobId>, Vec<MachineId>);

/// The classes of a pass.
#[derive(Clone, Debug, Default)]
pub(crate) struct Classes {
    pub all: Vec<Class>,
    by_key: BTreeMap<(Demand, usize), ClassIndex>,
    rules: BTreeMap<Rules, usize>,
    rules_of_job: Vec<Option<usize>>,
    /// Class of each task, by job and position; of jobs that were asked for.
    of_task: Vec<Vec<Option<ClassIndex>>>,
}

impl Classes {
    pub(crate) fn new(snapshot: &Snapshot<'_>) -> Self {
        Self {
            rules_of_job: vec![None; snapshot.cell.jobs.len()],
            of_task: vec![Vec::new(); snapshot.cell.jobs.len()],
            ..Self::default()
        }
    }

    /// The class of a task.
    pub(crate) fn of(&mut self, snapshot: &Snapshot<'_>, task: TaskId, seed: u64) -> ClassIndex {
        let (job, position) = (task.job.index(), task.position as usize);
        let of_job = &mut self.of_task[job];
        if of_job.is_empty() {
            of_job.resize(snapshot.cell.job(task.job).tasks.len(), None);
        }
        if let Some(class) = of_job[position] {
            return class;
        }
        let rules = match snapshot.cell.task(task).avoid.as_slice() {
            [] => self.rules_of(snapshot.cell, task.job),
            avoid => self.number(snapshot.cell, task.job, avoid),
        };
        let demand = snapshot.demand(task);
        let next = self.all.len();
        let class = *self.by_key.entry((demand, rules)).or_insert(next);
        if class == next {
            self.all.push(Class::new(snapshot, task, demand, seed));
        }
        self.of_task[job][position] = Some(class);
        class
    }

    fn rules_of(&mut self, cell: &Cell, id: JobId) -> usize {
        if let Some(rules) = self.rules_of_job[id.index()] {
            return rules;
        }
        let rules = self.number(cell, id, &[]);
        self.rules_of_job[id.index()] = Some(rules);
        rules
    }

    /// The number of a job's rules together with machines that a task avoids.
    fn number(&mut self, cell: &Cell, id: JobId, avoid: &[MachineId]) -> usize {
        let job = cell.job(id);
        let own = job_state::is_kept_for(job).then_some(id);
        let packages = job.packages.clone();
        let key = (job.constraints.clone(), packages, job.alloc_set, own, avoid.to_vec());
        let next = self.rules.len();
        *self.rules.entry(key).or_insert(next)
    }
}

impl Class {
    /// The tie-break of a row for this class: hash(seed, class, machine), 24 bits. `row_tie` is a hash
    /// already, so one multiplication mixes the two.
    #[inline(always)]
    pub(crate) fn tie_with(&self, row_tie: u64) -> u64 {
        (row_tie ^ self.tie).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40
    }

    fn new(snapshot: &Snapshot<'_>, task: TaskId, demand: Demand, seed: u64) -> Self {
        let job = snapshot.cell.job(task.job);
        let avoid = &snapshot.cell.task(task).avoid;
        #[expect(clippy::cast_precision_loss, reason = "at most 16 devices of 1000")]
        let gpu = demand.gpu.total().0 as f64;
        // Production under Borg's rule is scored by its limit, in the account of limits.
        let scored = demand.prod_limit.unwrap_or(demand.charge);
        Self {
            demand,
            ask: Ask {
                cpu: exact(scored.cpu),
                ram: exact(scored.ram),
                disk: exact(demand.charge.disk),
                gpu,
                gpu_request: demand.gpu,
            },
            job: task.job,
            is_own: job_state::is_kept_for(job),
            has_rules: !(job.constraints.is_empty()
                && avoid.is_empty()
                && job.packages.is_empty()
                && job.spread.is_empty()),
            tie: tie_seed(snapshot.cell, job, &demand, avoid, seed),
            avoid: avoid.clone(),
        }
    }
}

fn tie_seed(cell: &Cell, job: &Job, demand: &Demand, avoid: &[MachineId], seed: u64) -> u64 {
    let mut hash = mix(seed);
    let mut add = |value: u64| hash = mix(hash ^ value);
    for amount in [demand.charge.cpu, demand.charge.ram, demand.charge.disk] {
        add(amount.unsigned_abs());
    }
    add(u64::from(demand.gpu.count) << 32 | demand.gpu.milli_each.0);
    add(u64::from(demand.is_prod));
    avoid.iter().for_each(|machine| add(u64::from(machine.0)));
    let mut add_text = |text: &str| text.bytes().for_each(|byte| add(u64::from(byte)));
    for constraint in &job.constraints {
        add_text(&constraint.to_string());
    }
    job.packages.iter().for_each(|package| add_text(package));
    if let Some(alloc_set) = job.alloc_set {
        add_text(&cell.job(alloc_set).name);
    }
    if job_state::is_kept_for(job) {
        add_text(&job.name);
    }
    hash
}

/// A bijection of 64 bits that scatters them (the finaliser of splitmix64, Steele et al. 2014).
#[must_use]
pub fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
