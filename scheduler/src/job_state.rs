//! What a job has placed so far, as far as its own constraints ask: which machines, and how many tasks
//! in each failure domain.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use cell::{Cell, DomainKind, Job, JobId, Spread, TaskId};

use crate::snapshot::{HostInfo, Snapshot};

/// Failure domains of all rows, numbered densely; of each kind made when it is first asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Domains {
    rack: OnceLock<DomainsOfKind>,
    power: OnceLock<DomainsOfKind>,
    machine: OnceLock<DomainsOfKind>,
}

#[derive(Clone, Debug, Default)]
struct DomainsOfKind {
    /// Domain of each row; `None` where the machine is in none.
    of_row: Vec<Option<usize>>,
    /// Rows of each domain, ascending.
    rows: Vec<Vec<usize>>,
}

impl Domains {
    /// Makes a kind's domains now.
    pub(crate) fn make(&self, snapshot: &Snapshot<'_>, kind: DomainKind) {
        self.get(snapshot, kind);
    }

    /// `snapshot` is the one that these are of.
    fn get(&self, snapshot: &Snapshot<'_>, kind: DomainKind) -> &DomainsOfKind {
        let of_kind = match kind {
            DomainKind::Machine => &self.machine,
            DomainKind::Rack => &self.rack,
            DomainKind::Power => &self.power,
        };
        of_kind.get_or_init(|| DomainsOfKind::new(snapshot.cell, &snapshot.hosts, kind))
    }

    /// Adds the row of an alloc, which is in its machine's domains.
    pub(crate) fn push_alloc(&mut self, row: usize, machine_row: usize) {
        for of_kind in [&mut self.rack, &mut self.power, &mut self.machine] {
            if let Some(of_kind) = of_kind.get_mut() {
                let domain = of_kind.of_row[machine_row];
                of_kind.push(row, domain);
            }
        }
    }
}

impl DomainsOfKind {
    /// The domains of all hosts. Copies of a machine share no domain; an alloc is in its machine's.
    fn new(cell: &Cell, hosts: &[HostInfo], kind: DomainKind) -> Self {
        let mut numbers: BTreeMap<(u32, &str), usize> = BTreeMap::new();
        let mut of_kind = Self::default();
        for (row, host) in hosts.iter().enumerate() {
            let domain = cell.machine(host.slot.machine).domain(kind).map(|name| {
                let next = numbers.len();
                *numbers.entry((host.slot.clone, name)).or_insert(next)
            });
            of_kind.push(row, domain);
        }
        of_kind
    }

    fn push(&mut self, row: usize, domain: Option<usize>) {
        self.of_row.push(domain);
        if let Some(domain) = domain {
            if domain >= self.rows.len() {
                self.rows.resize(domain + 1, Vec::new());
            }
            self.rows[domain].push(row);
        }
    }
}

/// What one job has placed so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct JobState {
    /// Tasks of the job on each machine row.
    on_machine: BTreeMap<usize, u32>,
    /// Tasks of the job in each domain.
    in_domain: BTreeMap<(DomainKind, usize), u32>,
    /// Rows that its own placements made better or worse for it, in order; with repeats.
    pub journal: Vec<usize>,
}

/// Whether the job's own placements bear on where its next task may go.
pub(crate) fn is_kept_for(job: &Job) -> bool {
    job.different_machines || !job.spread.is_empty()
}

impl JobState {
    /// What `job` has placed in this snapshot.
    pub(crate) fn of(snapshot: &Snapshot<'_>, id: JobId) -> Self {
        let mut state = Self::default();
        let job = snapshot.cell.job(id);
        if is_kept_for(job) {
            for position in (0..).take(job.tasks.len()) {
                if let Some(placement) = snapshot.placement(TaskId { job: id, position }) {
                    state.add(snapshot, job, placement.row);
                }
            }
        }
        state
    }

    pub(crate) fn add(&mut self, snapshot: &Snapshot<'_>, job: &Job, row: usize) {
        self.change(snapshot, job, row, |count| *count += 1);
    }

    pub(crate) fn remove(&mut self, snapshot: &Snapshot<'_>, job: &Job, row: usize) {
        self.change(snapshot, job, row, |count| *count -= 1);
    }

    fn change(
        &mut self,
        snapshot: &Snapshot<'_>,
        job: &Job,
        row: usize,
        by_one: impl Fn(&mut u32),
    ) {
        let HostInfo { machine_row, .. } = snapshot.hosts[row];
        by_one(self.on_machine.entry(machine_row).or_default());
        self.journal.push(row);
        for &Spread { domain: kind, .. } in &job.spread {
            let of_kind = snapshot.domains.get(snapshot, kind);
            if let Some(domain) = of_kind.of_row[row] {
                by_one(self.in_domain.entry((kind, domain)).or_default());
                self.journal.extend(&of_kind.rows[domain]);
            }
        }
    }

    pub(crate) fn uses_machine(&self, machine_row: usize) -> bool {
        self.on_machine.get(&machine_row).is_some_and(|&count| count > 0)
    }

    /// Machine rows that hold tasks of the job, ascending.
    pub(crate) fn machine_rows(&self) -> impl Iterator<Item = usize> {
        self.on_machine.iter().filter(|&(_, &count)| count > 0).map(|(&row, _)| row)
    }

    fn domain_count(&self, snapshot: &Snapshot<'_>, row: usize, kind: DomainKind) -> Option<u32> {
        let domain = snapshot.domains.get(snapshot, kind).of_row[row]?;
        Some(self.in_domain.get(&(kind, domain)).copied().unwrap_or(0))
    }

    /// Whether the row's domain holds as many of the job's tasks as it may; never where the machine is
    /// in no domain of the kind.
    pub(crate) fn domain_is_full(
        &self,
        snapshot: &Snapshot<'_>,
        row: usize,
        spread: &Spread,
    ) -> bool {
        let count = self.domain_count(snapshot, row, spread.domain);
        spread.max_per_domain.is_some_and(|max| count.is_some_and(|count| count >= max))
    }

    /// Which of the job's hard rules about its own tasks a row breaks: the first, if any.
    pub(crate) fn rules_out(&self, snapshot: &Snapshot<'_>, job: &Job, row: usize) -> bool {
        (job.different_machines && self.uses_machine(snapshot.hosts[row].machine_row))
            || job.spread.iter().any(|spread| self.domain_is_full(snapshot, row, spread))
    }

    /// The spread term of a row, averaged over the kinds of domain that the job names: 1 / (1 + tasks of
    /// the job in the row's domain), so in (0, 1]; 1 where the job names none.
    pub(crate) fn spread_term(&self, snapshot: &Snapshot<'_>, job: &Job, row: usize) -> f64 {
        let (mut sum, mut kinds) = (0.0, 0.0);
        for spread in &job.spread {
            let count = self.domain_count(snapshot, row, spread.domain).unwrap_or(0);
            sum += 1.0 / (1.0 + f64::from(count));
            kinds += 1.0;
        }
        if kinds == 0.0 { 1.0 } else { sum / kinds }
    }
}
