//! A scheduling pass: takes a snapshot and a queue, returns a plan.
//!
//! In: an immutable [`Snapshot`], the tasks that wait, a [`Policy`], a seed. Out: a [`Plan`] of
//! assignments with their victims, the tasks left pending, and the snapshot as it would be. For each task
//! in the order of the queue: feasible, then score, then choose, then, if nothing was feasible, preempt.
//! The same input gives the same plan; the switches of [`Speed`] change how long it takes and nothing
//! else.
//!
//! Source: Borg (EuroSys '15) §3.2 (queue, feasibility, scoring, preemption) and §3.4 (score caching,
//! equivalence classes, relaxed randomization).

mod blocks;

use std::collections::BTreeMap;

use cell::{Cell, Job, JobId, TaskId};

use self::blocks::Blocks;
use crate::equivalence::{Class, ClassIndex, Classes, mix};
use crate::feasible;
use crate::job_state::JobState;
use crate::peers::{self, shuffle::Shuffle};
use crate::policy::{Base, Examine, Policy};
use crate::preempt;
use crate::queue::{Queue, QueueOrder};
use crate::score::best_fit::BestFit;
use crate::score::e_pvm::EPvm;
use crate::score::hybrid::Hybrid;
use crate::score::terms::{Mixing, Weights};
use crate::score::{HostView, RowScore, inverse};
use crate::snapshot::{Snapshot, exact};
use crate::table::{Best, Key, Table, key};
use crate::tables::{ClassTable, Fresh, Scores, Tables};

/// How a pass goes about its work. No switch changes the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speed {
    /// Tasks of an equivalence class share one table of scores; off: each task is scored afresh.
    pub equivalence: bool,
    /// Tables of scores are kept, and only hosts that changed are scored again; off: a table lasts as
    /// long as the queue brings tasks of its class one after the other.
    pub cache: bool,
    /// The best host is found through an index; off: by looking at every score.
    pub index: bool,
}

impl Default for Speed {
    fn default() -> Self {
        Self { equivalence: true, cache: true, index: true }
    }
}

/// When a pass gives up: cell compaction asks only whether a workload fits.
#[derive(Clone, Copy, Debug)]
pub struct PendingLimit<'a> {
    /// More pending tasks than this end the pass.
    pub max: usize,
    /// If given, a pending task that is not picky ends it too (one flag for each task of the cell, in
    /// the order of [`cell::Cell::tasks`]).
    pub picky: Option<&'a [bool]>,
}

/// Which tasks are picky, see [`PendingLimit::picky`].
#[derive(Debug)]
pub(crate) struct Picky<'a> {
    flags: &'a [bool],
    /// Where the flags of each job start.
    offsets: Vec<usize>,
}

impl<'a> Picky<'a> {
    /// `None` where it does not matter.
    pub(crate) fn of(cell: &Cell, options: &PassOptions<'a>) -> Option<Self> {
        let flags = options.pending_limit?.picky?;
        let mut task_count = 0;
        let start = |job: &Job| {
            task_count += job.tasks.len();
            task_count - job.tasks.len()
        };
        Some(Self { flags, offsets: cell.jobs.iter().map(start).collect() })
    }

    pub(crate) fn is_picky(&self, task: TaskId) -> bool {
        self.flags[self.offsets[task.job.index()] + task.position as usize]
    }
}

/// What a pass is asked to do.
#[derive(Clone, Debug)]
pub struct PassOptions<'a> {
    /// The policy.
    pub policy: Policy,
    /// The order of the queue inside a priority.
    pub queue: QueueOrder,
    /// Seeds ties and samples.
    pub seed: u64,
    /// How to go about it.
    pub speed: Speed,
    /// When to give up; `None`: never.
    pub pending_limit: Option<PendingLimit<'a>>,
}

/// One task and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The task.
    pub task: TaskId,
    /// The row of its host in [`Plan::end`].
    pub row: usize,
    /// The GPU devices it gets there, one bit each.
    pub gpu_devices: u16,
    /// Tasks that are preempted to make room, lowest priority first.
    pub victims: Vec<TaskId>,
}

/// What a pass decided.
#[derive(Clone, Debug)]
pub struct Plan<'c> {
    /// Assignments, in the order in which they were decided. A task that is preempted later in the pass
    /// stays listed here; [`Plan::end`] has the outcome.
    pub assignments: Vec<Assignment>,
    /// Tasks that found no place, in the order of the queue.
    pub pending: Vec<TaskId>,
    /// Whether the queue was worked off; false where [`PendingLimit`] ended the pass.
    pub is_complete: bool,
    /// The snapshot with the plan carried out.
    pub end: Snapshot<'c>,
}

/// Plans the tasks in `queue` (in the order of their submission) onto the snapshot's hosts.
///
/// # Panics
/// If a task has a place already.
#[must_use]
pub fn pass<'c>(snapshot: &Snapshot<'c>, tasks: &[TaskId], options: &PassOptions<'_>) -> Plan<'c> {
    // What the clone would have to work out is worked out once for the next pass too.
    let spread = tasks.iter().flat_map(|task| &snapshot.cell.job(task.job).spread);
    spread.for_each(|spread| snapshot.domains.make(snapshot, spread.domain));
    pass_on(snapshot.clone(), tasks, options)
}

/// As [`pass`], on a snapshot that nobody else needs: it becomes [`Plan::end`].
///
/// # Panics
/// If a task has a place already.
#[must_use]
pub fn pass_on<'c>(
    snapshot: Snapshot<'c>,
    tasks: &[TaskId],
    options: &PassOptions<'_>,
) -> Plan<'c> {
    match &options.policy.base {
        Base::Hybrid => Pass::new(Hybrid, snapshot, options).run(tasks),
        Base::BestFit => Pass::new(BestFit, snapshot, options).run(tasks),
        Base::EPvm => {
            let score = EPvm::new(snapshot.machine_count());
            Pass::new(score, snapshot, options).run(tasks)
        }
        Base::Kube(profile) => crate::k8s::pass::run(profile, snapshot, tasks, options),
        Base::Peer(peer) => peers::pass(*peer, snapshot, tasks, options),
    }
}

/// The columns that every class reads of a machine, in one place: amounts are exact integers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<C> {
    /// Not a number where the machine is closed, so that nothing fits.
    free_cpu: f64,
    free_ram: f64,
    /// Infinite where limits are not kept apart from charges.
    prod_free_cpu: f64,
    prod_free_ram: f64,
    mixing: Mixing,
    columns: C,
}

/// What a class asks of a row. A request of zero is never checked: its threshold is minus infinity.
#[derive(Clone, Debug)]
pub(crate) struct ClassNeeds<C> {
    cpu: f64,
    ram: f64,
    prod_cpu: f64,
    prod_ram: f64,
    score: C,
}

/// A pass in progress.
pub(crate) struct Pass<'a, 'c, S: RowScore> {
    pub(crate) score: S,
    pub(crate) snapshot: Snapshot<'c>,
    options: &'a PassOptions<'a>,
    weights: Weights,
    inverse_weights: f64,
    rows: Vec<Row<S::Columns>>,
    /// The columns of the account of production's limits, by row; empty where limits are not kept apart.
    promised: Vec<S::Columns>,
    /// Tie-break seed of each row: of the machine, not of its place in the order.
    row_ties: Vec<u64>,
    shapes: Vec<(f64, f64)>,
    classes: Classes,
    needs: Vec<ClassNeeds<S::Class>>,
    /// For each class, how many of its tasks are still in the queue.
    waiting: Vec<usize>,
    tables: Tables,
    pub(crate) job_states: BTreeMap<JobId, JobState>,
    /// How machines are laid out in blocks for classes to come; `None` where tables are kept instead.
    blocks: Option<Blocks>,
    /// Rows that changed, in order.
    journal: Vec<usize>,
    decision_count: u64,
    /// The random order in which [`Examine::Shuffled`] visits machines.
    pub(crate) shuffle: Shuffle,
    /// What each machine has installed beyond its own list, by row.
    installed: BTreeMap<usize, std::collections::BTreeSet<&'c str>>,
    /// Begun when the first task finds no room.
    evictions: Option<preempt::Ledger>,
    picky: Option<Picky<'a>>,
}

impl<'a, 'c, S: RowScore> Pass<'a, 'c, S> {
    pub(crate) fn new(score: S, snapshot: Snapshot<'c>, options: &'a PassOptions<'a>) -> Self {
        let weights = options.policy.weights;
        let is_exact = options.policy.examine == Examine::All && options.speed.index;
        let by_blocks = is_exact && S::HAS_UPPER;
        let mut pass = Self {
            rows: Vec::with_capacity(snapshot.hosts.len()),
            promised: Vec::new(),
            row_ties: Vec::with_capacity(snapshot.hosts.len()),
            shapes: Vec::new(),
            classes: Classes::new(&snapshot),
            needs: Vec::new(),
            waiting: Vec::new(),
            tables: Tables::new(options.speed, by_blocks, snapshot.machine_count()),
            job_states: BTreeMap::new(),
            blocks: None,
            journal: Vec::new(),
            decision_count: 0,
            shuffle: Shuffle::of(snapshot.machine_count()),
            installed: BTreeMap::new(),
            evictions: None,
            picky: Picky::of(snapshot.cell, options),
            inverse_weights: 1.0 / weights.sum(),
            score,
            snapshot,
            options,
            weights,
        };
        pass.shapes =
            pass.snapshot.shapes.iter().map(|&(cpu, ram)| (exact(cpu), exact(ram))).collect();
        for row in 0..pass.snapshot.hosts.len() {
            pass.push_row(row);
        }
        pass.install_all();
        if by_blocks {
            pass.lay_out();
        }
        pass
    }

    pub(crate) fn run(mut self, tasks: &[TaskId]) -> Plan<'c> {
        let cell = self.snapshot.cell;
        let mut queue = Queue::new(cell, tasks, self.options.queue);
        for &task in tasks {
            let class = self.class_of(task);
            self.waiting[class] += 1;
        }
        let mut assignments = Vec::with_capacity(tasks.len());
        let mut pending = Vec::new();
        let mut is_complete = true;
        while let Some(task) = queue.pop() {
            self.decision_count += 1;
            let class = self.class_of(task);
            self.waiting[class] -= 1;
            let (row, victims) = match self.choose(class, task) {
                Some(best) => (best.row, Vec::new()),
                None => match preempt::choose(&mut self, class, task) {
                    Some(eviction) => (eviction.row, eviction.victims),
                    None => {
                        pending.push(task);
                        if self.gives_up(&pending) {
                            is_complete = false;
                            break;
                        }
                        continue;
                    }
                },
            };
            for &victim in &victims {
                for evicted in self.remove(victim) {
                    let class = self.class_of(evicted);
                    self.waiting[class] += 1;
                    queue.push(cell, evicted);
                }
            }
            self.place(task, row);
            let placement = self.snapshot.placement(task);
            let gpu_devices = placement.map_or(0, |placement| placement.gpu_devices);
            assignments.push(Assignment { task, row, gpu_devices, victims });
        }
        Plan { assignments, pending, is_complete, end: self.snapshot }
    }

    fn gives_up(&self, pending: &[TaskId]) -> bool {
        let Some(limit) = self.options.pending_limit else { return false };
        let newest = pending.last().expect("called after a push");
        pending.len() > limit.max
            || self.picky.as_ref().is_some_and(|picky| !picky.is_picky(*newest))
    }

    fn class_of(&mut self, task: TaskId) -> ClassIndex {
        let class = self.classes.of(&self.snapshot, task, self.options.seed);
        if class == self.needs.len() {
            self.waiting.push(0);
            let demand = &self.classes.all[class].demand;
            let at_least = |asked: i64| if asked > 0 { exact(asked) } else { f64::NEG_INFINITY };
            let prod = demand.prod_limit.unwrap_or_default();
            self.needs.push(ClassNeeds {
                cpu: at_least(demand.charge.cpu),
                ram: at_least(demand.charge.ram),
                prod_cpu: at_least(prod.cpu),
                prod_ram: at_least(prod.ram),
                score: self.score.class(&self.classes.all[class].ask, &self.shapes),
            });
        }
        class
    }

    /// The best host for a task of a class, of those that the policy looks at.
    fn choose(&mut self, class: ClassIndex, task: TaskId) -> Option<Best> {
        if self.classes.all[class].is_own {
            let snapshot = &self.snapshot;
            self.job_states.entry(task.job).or_insert_with(|| JobState::of(snapshot, task.job));
        }
        if let Some(alloc_set) = self.snapshot.cell.job(task.job).alloc_set {
            return self.best_alloc(class, alloc_set);
        }
        if let Examine::Shuffled(limit) = self.options.policy.examine {
            return peers::shuffle::choose(self, class, task, limit);
        }
        let mut table = self.tables.take(class);
        if table.fresh_until.is_none() && self.layout_is_old() {
            self.lay_out();
        }
        self.renew(class, &mut table);
        let by_index = self.options.speed.index;
        let best = match (&mut table.scores, self.options.policy.examine) {
            (Scores::Blocks(bounds), _) => self.best_of_blocks(class, bounds),
            (Scores::Each(scores), Examine::Relaxed { enough }) => {
                let draw = self.draw() % self.snapshot.machine_count().max(1) as u64;
                let start = usize::try_from(draw).unwrap_or(0);
                scores.best_of_sample(start, enough, by_index).0
            }
            (Scores::Each(scores), Examine::All | Examine::Shuffled(_)) if by_index => {
                scores.best()
            }
            (Scores::Each(scores), Examine::All | Examine::Shuffled(_)) => scores.best_by_scan(),
        };
        self.tables.put_back(class, table, self.waiting[class] > 0);
        best
    }

    /// A random number for the decision at hand.
    pub(crate) fn draw(&self) -> u64 {
        mix(mix(self.options.seed) ^ self.decision_count)
    }

    /// Brings a class's table up to date with everything that changed since it was last used.
    fn renew(&self, class: ClassIndex, table: &mut ClassTable) {
        let machine_count = self.snapshot.machine_count();
        let changed = table.fresh_until.and_then(|at| {
            let own = &self.own_journal(class)[at.own..];
            // Scoring so many rows one by one costs more than scoring all of them in a row.
            let few = self.journal.len() - at.all + own.len() < machine_count / 2;
            few.then(|| self.journal[at.all..].iter().chain(own))
        });
        match changed {
            Some(rows) => {
                let machines = rows.copied().filter(|&row| row < machine_count);
                match &mut table.scores {
                    Scores::Each(scores) => {
                        machines.for_each(|row| scores.set(row, self.key(class, row)));
                    }
                    Scores::Blocks(bounds) => self.renew_blocks(class, bounds, machines),
                }
            }
            None => match &mut table.scores {
                Scores::Each(scores) => self.fill(class, scores),
                Scores::Blocks(bounds) => self.begin(class, bounds),
            },
        }
        table.fresh_until = Some(self.now(class));
    }

    fn fill(&self, class: ClassIndex, table: &mut Table) {
        let machine_count = self.snapshot.machine_count();
        let of_class = &self.classes.all[class];
        if self.needs_care(of_class) {
            table.fill((0..machine_count).map(|row| self.key(class, row)));
            return;
        }
        let needs = &self.needs[class];
        let rows = self.rows[..machine_count].iter().zip(&self.row_ties);
        if of_class.demand.prod_limit.is_some() {
            let rows = rows.zip(&self.promised);
            table.fill(rows.map(|((row, &tie), of)| self.plain_key(of_class, needs, row, of, tie)));
        } else {
            table.fill(
                rows.map(|(row, &tie)| self.plain_key(of_class, needs, row, &row.columns, tie)),
            );
        }
        if of_class.is_own {
            // Different machines, and nothing else: the few that are in use.
            for row in self.job_states[&of_class.job].machine_rows() {
                table.set(row, 0);
            }
        }
    }

    /// Whether hosts must be looked at one by one: rules, or resources beside CPU and RAM.
    fn needs_care(&self, class: &Class) -> bool {
        class.has_rules
            || self.snapshot.is_wide
            // Asked for where there is none.
            || class.demand.gpu.count > 0
    }

    /// The key of one row for a class.
    pub(crate) fn key(&self, class: ClassIndex, row: usize) -> Key {
        let of_class = &self.classes.all[class];
        let tie = self.row_ties[row];
        // An envelope limits disk, whether or not a machine does, and has a shape of its own.
        let is_alloc = row >= self.snapshot.machine_count();
        if !is_alloc && !self.needs_care(of_class) {
            if of_class.is_own
                && self.job_states[&of_class.job].uses_machine(self.snapshot.hosts[row].machine_row)
            {
                return 0;
            }
            let columns = self.columns_for(of_class, row);
            return self.plain_key(of_class, &self.needs[class], &self.rows[row], columns, tie);
        }
        if !self.obeys_rules(of_class, row)
            || !feasible::fits(&self.snapshot, &of_class.demand, row)
        {
            return 0;
        }
        let base = if is_alloc || self.snapshot.is_wide {
            let host = &self.snapshot.hosts[row];
            let host = match of_class.demand.prod_limit {
                Some(_) => HostView::promised(host),
                None => HostView::of(host),
            };
            self.score.score_wide(&self.needs[class].score, &of_class.ask, &host)
        } else {
            self.score.score(&self.needs[class].score, self.columns_for(of_class, row))
        };
        key(self.total(of_class, base, row), of_class.tie_with(tie))
    }

    /// Whether a row keeps the hard rules of a class: its machine is not closed or avoided, constraints,
    /// different machines, spread.
    pub(crate) fn obeys_rules(&self, class: &Class, row: usize) -> bool {
        let job = self.snapshot.cell.job(class.job);
        let machine = self.snapshot.cell.machine(self.snapshot.hosts[row].slot.machine);
        feasible::takes(&self.snapshot, &class.avoid, row)
            && job
                .constraints
                .iter()
                .all(|constraint| !constraint.is_hard() || constraint.holds(&machine.attributes))
            && !(class.is_own && self.job_states[&class.job].rules_out(&self.snapshot, job, row))
    }

    /// The key of a row for a class that asks for nothing but CPU, RAM and perhaps different machines,
    /// which the caller sees to.
    #[inline(always)]
    fn plain_key(
        &self,
        class: &Class,
        needs: &ClassNeeds<S::Class>,
        row: &Row<S::Columns>,
        columns: &S::Columns,
        tie: u64,
    ) -> Key {
        let fits = (row.free_cpu >= needs.cpu)
            & (row.free_ram >= needs.ram)
            & (row.prod_free_cpu >= needs.prod_cpu)
            & (row.prod_free_ram >= needs.prod_ram);
        if !fits {
            return 0;
        }
        let base = self.score.score(&needs.score, columns);
        let mixing = if class.demand.is_prod { row.mixing.for_prod } else { row.mixing.for_others };
        key(self.plain_total(base, mixing), class.tie_with(tie))
    }

    /// The weighted score for a class without packages, soft constraints and spread: their terms are 1
    /// everywhere.
    #[inline(always)]
    fn plain_total(&self, base: f64, mixing: f64) -> f64 {
        let weights = &self.weights;
        let same_everywhere = weights.locality + weights.soft + weights.spread;
        (weights.base * base + weights.mixing * mixing + same_everywhere) * self.inverse_weights
    }

    /// The weighted score of a row with every term.
    fn total(&self, class: &Class, base: f64, row: usize) -> f64 {
        let job = self.snapshot.cell.job(class.job);
        let machine = self.snapshot.cell.machine(self.snapshot.hosts[row].slot.machine);
        let weights = &self.weights;
        let mixing = self.rows[row].mixing;
        let mixing = if class.demand.is_prod { mixing.for_prod } else { mixing.for_others };
        let spread = self
            .job_states
            .get(&class.job)
            .filter(|_| class.is_own)
            .map_or(1.0, |state| state.spread_term(&self.snapshot, job, row));
        let soft = feasible::soft_satisfied(&job.constraints, &machine.attributes);
        (weights.base * base
            + weights.mixing * mixing
            + weights.locality * self.locality(class, row)
            + weights.soft * soft
            + weights.spread * spread)
            * self.inverse_weights
    }

    /// The share of the job's packages that the machine has, 0..=1.
    fn locality(&self, class: &Class, row: usize) -> f64 {
        let packages = &self.snapshot.cell.job(class.job).packages;
        let host = &self.snapshot.hosts[row];
        let own = &self.snapshot.cell.machine(host.slot.machine).packages;
        let installed = self.installed.get(&host.machine_row);
        let here = packages.iter().filter(|package| {
            own.contains(*package)
                || installed.is_some_and(|installed| installed.contains(package.as_str()))
        });
        if packages.is_empty() {
            return 1.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "a few packages")]
        {
            here.count() as f64 / packages.len() as f64
        }
    }

    /// The best alloc of an alloc set, among those that have a place.
    fn best_alloc(&self, class: ClassIndex, alloc_set: JobId) -> Option<Best> {
        self.snapshot
            .alloc_rows(alloc_set)
            .iter()
            .map(|&row| Best { row, key: self.key(class, row) })
            .filter(|best| best.key > 0)
            .max_by_key(|best| (best.key, std::cmp::Reverse(best.row)))
    }

    fn place(&mut self, task: TaskId, row: usize) {
        let class = self.class_of(task);
        let host = HostView::of(&self.snapshot.hosts[row]);
        let devices = self.score.devices(&self.needs[class].score, &host, self.draw());
        self.snapshot.place_on(task, row, devices);
        self.install(task, row);
        if let Some(ledger) = &mut self.evictions {
            ledger.add(self.snapshot.cell, task, self.snapshot.hosts[row].machine_row);
        }
        if let Some(state) = self.job_states.get_mut(&task.job) {
            state.add(&self.snapshot, self.snapshot.cell.job(task.job), row);
        }
        self.changed(row);
        if self.rows.len() < self.snapshot.hosts.len() {
            // It was an alloc, which is a host now.
            self.push_row(self.rows.len());
        }
    }

    fn remove(&mut self, task: TaskId) -> Vec<TaskId> {
        let rows: BTreeMap<TaskId, usize> = self
            .snapshot
            .placement(task)
            .map(|placement| (task, placement.row))
            .into_iter()
            .collect();
        // What runs in an alloc is on the alloc's machine.
        let machine_row = rows.get(&task).map(|&row| self.snapshot.hosts[row].machine_row);
        let machine_row = machine_row.expect("a victim has a place");
        let removed = self.snapshot.remove(task);
        self.shuffle.something_left();
        for &evicted in &removed {
            let cell = self.snapshot.cell;
            self.ledger_mut().remove(cell, evicted, machine_row);
            // What ran in a removed alloc ran on a row that no longer hosts anything; the jobs of such
            // tasks start their books anew.
            match (rows.get(&evicted), self.job_states.get_mut(&evicted.job)) {
                (Some(&row), Some(state)) => {
                    state.remove(&self.snapshot, self.snapshot.cell.job(evicted.job), row);
                }
                (None, Some(_)) => {
                    self.job_states.remove(&evicted.job);
                    self.tables.forget_all();
                    self.ledger_mut().forget_offers();
                }
                (_, None) => {}
            }
        }
        if let Some(&row) = rows.get(&task) {
            self.changed(row);
        }
        for row in self.snapshot.machine_count()..self.rows.len() {
            self.renew_row(row);
        }
        removed
    }

    /// Installs the packages of all that runs.
    fn install_all(&mut self) {
        for row in 0..self.snapshot.hosts.len() {
            for at in 0..self.snapshot.hosts[row].tasks.len() {
                self.install(self.snapshot.hosts[row].tasks[at], row);
            }
        }
    }

    fn install(&mut self, task: TaskId, row: usize) {
        let packages = &self.snapshot.cell.job(task.job).packages;
        if !packages.is_empty() {
            let machine_row = self.snapshot.hosts[row].machine_row;
            let installed = self.installed.entry(machine_row).or_default();
            installed.extend(packages.iter().map(String::as_str));
            if machine_row != row && machine_row < self.rows.len() {
                self.changed(machine_row);
            }
        }
    }

    /// What a class's score reads of a row: production under Borg's rule is scored in the account of its
    /// limits, which is what it fills up.
    #[inline(always)]
    fn columns_for(&self, class: &Class, row: usize) -> &S::Columns {
        match class.demand.prod_limit {
            Some(_) => &self.promised[row],
            None => &self.rows[row].columns,
        }
    }

    fn keeps_limits_apart(&self) -> bool {
        self.snapshot.accounting.keeps_limits_apart()
    }

    fn changed(&mut self, row: usize) {
        self.renew_row(row);
        self.widen_block(row);
        self.journal.push(row);
        // What runs in an alloc decides how much the alloc matters to its machine as a victim.
        let machine_row = self.snapshot.hosts[row].machine_row;
        if machine_row != row {
            self.journal.push(machine_row);
        }
        if let Some(ledger) = &mut self.evictions {
            ledger.changed(row);
            ledger.changed(machine_row);
        }
    }

    fn push_row(&mut self, row: usize) {
        let slot = self.snapshot.hosts[row].slot;
        let machine = u64::from(slot.machine.0) << 32 | u64::from(slot.clone);
        let alloc = self.snapshot.hosts[row].alloc;
        let alloc = alloc.map_or(0, |id| mix(u64::from(id.job.0) << 32 | u64::from(id.position)));
        let tie = mix(machine ^ mix(self.options.seed) ^ alloc);
        self.row_ties.push(if S::FIRST_WINS_TIES { 0 } else { tie });
        self.rows.push(self.row_of(row));
        if self.keeps_limits_apart() {
            self.promised.push(self.promised_of(row));
        }
    }

    fn renew_row(&mut self, row: usize) {
        self.rows[row] = self.row_of(row);
        if self.keeps_limits_apart() {
            self.promised[row] = self.promised_of(row);
        }
    }

    fn promised_of(&self, row: usize) -> S::Columns {
        self.score.columns(&HostView::promised(&self.snapshot.hosts[row]))
    }

    fn row_of(&self, row: usize) -> Row<S::Columns> {
        let host = &self.snapshot.hosts[row];
        let view = HostView::of(host);
        let kept_apart = self.keeps_limits_apart();
        let prod = |free: i64| if kept_apart { exact(free) } else { f64::INFINITY };
        let (per_cpu, per_ram) = (inverse(view.capacity[0]), inverse(view.capacity[1]));
        let share = |charged: crate::snapshot::Amounts| {
            (0.5 * (exact(charged.cpu) * per_cpu + exact(charged.ram) * per_ram)).min(1.0)
        };
        // No comparison holds with what is no number, not even that of a request of zero.
        let is_closed = self.snapshot.is_closed(row);
        Row {
            free_cpu: if is_closed { f64::NAN } else { view.free[0] },
            free_ram: view.free[1],
            prod_free_cpu: prod(host.prod_free.cpu),
            prod_free_ram: prod(host.prod_free.ram),
            mixing: Mixing {
                for_prod: share(host.charged_other),
                for_others: share(host.charged_prod),
            },
            columns: self.score.columns(&view),
        }
    }

    /// Rows that changed for a class since `seen`, in order; with repeats.
    pub(crate) fn changed_since(&self, class: ClassIndex, seen: Fresh) -> Vec<usize> {
        let own = self.own_journal(class);
        self.journal[seen.all..].iter().chain(&own[seen.own..]).copied().collect()
    }

    /// Up to where the journals that bear on a class go now.
    pub(crate) fn now(&self, class: ClassIndex) -> Fresh {
        Fresh { all: self.journal.len(), own: self.own_journal(class).len() }
    }

    fn own_journal(&self, class: ClassIndex) -> &[usize] {
        self.job_states.get(&self.classes.all[class].job).map_or(&[], |state| &state.journal)
    }

    /// The tie-break of a row for a class; larger wins.
    pub(crate) fn tie(&self, class: ClassIndex, row: usize) -> u64 {
        self.classes.all[class].tie_with(self.row_ties[row])
    }

    pub(crate) fn class(&self, class: ClassIndex) -> &Class {
        &self.classes.all[class]
    }

    /// # Panics
    /// Before [`Pass::ledger_mut`] was asked for.
    pub(crate) fn ledger(&self) -> &preempt::Ledger {
        self.evictions.as_ref().expect("begun by the search for victims")
    }

    pub(crate) fn ledger_mut(&mut self) -> &mut preempt::Ledger {
        self.evictions.get_or_insert_with(|| preempt::Ledger::of(&self.snapshot))
    }
}
