//! Making the structs that users see, one by one and in pages.

use std::ops::Bound::{Excluded, Included, Unbounded};

use super::{
    CellStatus, Filter, JobStatus, MachineStatus, Page, Paging, PhaseCounts, PhaseKind,
    QuotaStatus, Rollout, Room, TaskStatus, describe_death, describe_left,
};
use crate::band::Band;
use crate::id::{JobId, MachineId, TaskId};
use crate::job::{Host, JobKind};
use crate::live::account::Account;
use crate::live::{AfterStop, JobRecord, Phase, State};
use crate::resources::GPU_DEVICE;

impl State {
    /// The job or alloc set of this name, ended or not.
    #[must_use]
    pub fn job_status(&self, name: &str) -> Option<JobStatus> {
        self.job_names.get(name).map(|&slot| self.status_of_job(slot))
    }

    /// Jobs and alloc sets, by name, those that ended and are still kept among them.
    #[must_use]
    pub fn list_jobs(&self, filter: &Filter, paging: &Paging) -> Page<JobStatus> {
        let from = paging.after.as_deref();
        let jobs = self.jobs_from(filter.job.as_deref(), from.map_or(Unbounded, Excluded));
        let machine = match self.wanted_machine(filter) {
            Ok(machine) => machine,
            Err(NoSuchMachine) => return Page::empty(),
        };
        let is_wanted = |task: TaskId| self.is_wanted_task(task, filter.phase, machine);
        let wanted = jobs
            .filter(|&(_, slot)| self.is_wanted_user(slot, filter))
            .filter(|&(_, slot)| {
                (filter.phase.is_none() && machine.is_none()) || self.tasks_of(slot).any(is_wanted)
            })
            .map(|(name, slot)| (name.to_owned(), slot));
        page(wanted, paging, |slot| self.status_of_job(slot))
    }

    /// The task or alloc called `JOB/INDEX`.
    #[must_use]
    pub fn task_status(&self, name: &str) -> Option<TaskStatus> {
        self.task_named(name).map(|id| self.status_of_task(id))
    }

    /// The task or alloc called `JOB/INDEX`.
    #[must_use]
    pub fn task_named(&self, name: &str) -> Option<TaskId> {
        let (job, position) = read_task_name(name)?;
        let slot = *self.job_names.get(job)?;
        let count = self.job_at(slot).tasks.len();
        ((position as usize) < count).then_some(TaskId { job: slot, position })
    }

    /// Tasks and allocs, by their job's name and their index.
    #[must_use]
    pub fn list_tasks(&self, filter: &Filter, paging: &Paging) -> Page<TaskStatus> {
        let after = paging.after.as_deref().map(|name| {
            // A job that is gone by now still has its place in the order.
            read_task_name(name).unwrap_or((name, u32::MAX))
        });
        let machine = match self.wanted_machine(filter) {
            Ok(machine) => machine,
            Err(NoSuchMachine) => return Page::empty(),
        };
        let from = after.map_or(Unbounded, |(job, _)| Included(job));
        let tasks = self
            .jobs_from(filter.job.as_deref(), from)
            .filter(|&(_, slot)| self.is_wanted_user(slot, filter))
            .flat_map(|(name, slot)| {
                let first = match after {
                    Some((job, index)) if job == name => u64::from(index) + 1,
                    _ => 0,
                };
                self.tasks_of(slot).filter(move |id| u64::from(id.position) >= first)
            })
            .filter(|&id| self.is_wanted_task(id, filter.phase, machine))
            .map(|id| (self.task_name(id), id));
        page(tasks, paging, |id| self.status_of_task(id))
    }

    /// The machine of this name.
    #[must_use]
    pub fn machine_status(&self, name: &str) -> Option<MachineStatus> {
        self.machine(name).map(|id| self.status_of_machine(id))
    }

    /// Machines that were not removed, by name. Of the filter only the machine counts.
    #[must_use]
    pub fn list_machines(&self, filter: &Filter, paging: &Paging) -> Page<MachineStatus> {
        let from = paging.after.as_deref().map_or(Unbounded, Excluded);
        let wanted = self
            .machine_names
            .range::<str, _>((from, Unbounded))
            .filter(|(name, _)| filter.machine.as_ref().is_none_or(|wanted| wanted == *name))
            .filter(|&(_, &id)| !self.machine_at(id).is_removed)
            .map(|(name, &id)| (name.clone(), id));
        page(wanted, paging, |id| self.status_of_machine(id))
    }

    /// Quotas that were granted or are used, by user and band. Of the filter only the user counts.
    #[must_use]
    pub fn list_quotas(&self, filter: &Filter, paging: &Paging) -> Page<QuotaStatus> {
        let mut keys: Vec<&(String, Band)> =
            self.quotas.keys().chain(self.quota_used.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        let after = paging.after.as_deref().map(|name| {
            let (user, band) = name.rsplit_once('/').unwrap_or((name, ""));
            (user, Band::ALL.into_iter().find(|known| known.name() == band))
        });
        let wanted = keys
            .into_iter()
            .filter(|(user, _)| filter.user.as_ref().is_none_or(|wanted| wanted == user))
            .filter(|(user, band)| {
                after.is_none_or(|(after, last)| (user.as_str(), Some(*band)) > (after, last))
            })
            .map(|key| (format!("{}/{}", key.0, key.1.name()), key));
        page(wanted, paging, |key| {
            let quota = self.quotas.get(key);
            QuotaStatus {
                user: key.0.clone(),
                band: key.1,
                granted: quota.map(|quota| quota.amounts),
                used: self.quota_used.get(key).copied().unwrap_or_default(),
                until: quota.and_then(|quota| quota.until),
            }
        })
    }

    /// The cell as a whole.
    #[must_use]
    pub fn cell_status(&self) -> CellStatus {
        let is_drained = |id: &MachineId| {
            let machine = self.machine_at(*id);
            machine.is_drained && !machine.is_removed
        };
        let (machine_count, machine_down_count) = self.machine_counts();
        let mut status = CellStatus {
            name: self.settings.cell_name.clone(),
            now: self.now,
            index: self.index,
            hash: self.hash(),
            machine_count,
            machine_down_count,
            machine_drained_count: count(self.machine_names.values().filter(|id| is_drained(id))),
            is_mass_loss: self.is_mass_loss(),
            job_count: 0,
            alloc_set_count: 0,
            ended_count: 0,
            tasks: PhaseCounts::default(),
            session_count: count(self.sessions.iter()),
            settings: self.settings.clone(),
            planning: None,
        };
        for (_, job) in self.jobs() {
            match (job.ended, job.kind) {
                (Some(_), _) => status.ended_count += 1,
                (None, JobKind::Job) => status.job_count += 1,
                (None, JobKind::AllocSet) => status.alloc_set_count += 1,
            }
            if job.kind == JobKind::Job {
                job.tasks.iter().for_each(|task| status.tasks.count(PhaseKind::of(&task.phase)));
            }
        }
        status
    }

    /// Jobs from a name on, or only the one of this name if that is in there.
    fn jobs_from<'a>(
        &'a self,
        only: Option<&'a str>,
        from: std::ops::Bound<&str>,
    ) -> impl Iterator<Item = (&'a str, JobId)> + 'a {
        let from = match (only, from) {
            (Some(only), Unbounded) => Included(only.to_owned()),
            (Some(only), Included(name)) => Included(only.max(name).to_owned()),
            (Some(only), Excluded(name)) if name < only => Included(only.to_owned()),
            (_, Included(name)) => Included(name.to_owned()),
            (_, Excluded(name)) => Excluded(name.to_owned()),
            (None, Unbounded) => Unbounded,
        };
        self.job_names
            .range::<String, _>((from, Unbounded))
            .map(|(name, &slot)| (name.as_str(), slot))
            .take_while(move |&(name, _)| only.is_none_or(|only| name == only))
    }

    fn tasks_of(&self, slot: JobId) -> impl Iterator<Item = TaskId> + '_ {
        (0..)
            .take(self.job_at(slot).tasks.len())
            .map(move |position| TaskId { job: slot, position })
    }

    fn is_wanted_user(&self, slot: JobId, filter: &Filter) -> bool {
        filter.user.as_ref().is_none_or(|user| *user == self.job_at(slot).spec.user)
    }

    fn is_wanted_task(
        &self,
        id: TaskId,
        phase: Option<PhaseKind>,
        machine: Option<MachineId>,
    ) -> bool {
        let record = self.record(id);
        phase.is_none_or(|wanted| wanted == PhaseKind::of(&record.phase))
            && machine.is_none_or(|wanted| {
                record.phase.place().is_some_and(|place| place.machine == wanted)
            })
    }

    fn wanted_machine(&self, filter: &Filter) -> Result<Option<MachineId>, NoSuchMachine> {
        let Some(name) = &filter.machine else { return Ok(None) };
        self.machine(name).map(Some).ok_or(NoSuchMachine)
    }

    fn status_of_job(&self, slot: JobId) -> JobStatus {
        let job = self.job_at(slot);
        let mut counts = PhaseCounts::default();
        job.tasks.iter().for_each(|task| counts.count(PhaseKind::of(&task.phase)));
        let waits_for = job.waits_for.iter().filter_map(|&uid| self.job_of(uid));
        JobStatus {
            name: job.name().to_owned(),
            uid: job.uid,
            user: job.spec.user.clone(),
            priority: self.cell.job(slot).priority,
            kind: job.kind,
            version: job.version,
            submitted_at: job.submitted_at,
            counts,
            ended: job.ended,
            rollout: rollout(job),
            waits_for: waits_for.map(|job| job.name().to_owned()).collect(),
        }
    }

    fn status_of_task(&self, id: TaskId) -> TaskStatus {
        let record = self.record(id);
        let place = record.phase.place();
        let (mut not_before, mut deadline, mut last_cause, mut is_healthy) =
            (None, None, None, true);
        let since = match &record.phase {
            Phase::Waiting { since, not_before: until, after } => {
                not_before = (until > since).then_some(*until);
                last_cause = after.as_ref().map(describe_left);
                *since
            }
            Phase::Assigned(place) => place.since,
            Phase::Running { place, started_at, is_healthy: passes } => {
                is_healthy = *passes;
                started_at.unwrap_or(place.since)
            }
            Phase::Stopping { place, deadline: until, then } => {
                deadline = Some(*until);
                last_cause = Some(match then {
                    AfterStop::Requeue(cause) => cause.name().to_owned(),
                    AfterStop::Die => "killed".to_owned(),
                });
                place.since
            }
            Phase::Dead { at, cause } => {
                last_cause = Some(describe_death(cause));
                *at
            }
        };
        TaskStatus {
            name: self.task_name(id),
            phase: PhaseKind::of(&record.phase),
            since,
            machine: place.map(|place| self.cell.machine(place.machine).name.clone()),
            alloc: place.and_then(|place| match place.on {
                Host::Machine(_) => None,
                Host::Alloc(alloc) => Some(self.task_name(alloc)),
            }),
            incarnation: place.map(|place| place.incarnation),
            version: record.version,
            is_healthy,
            last_cause,
            failures: record.failures,
            placed_count: record.placed_count,
            not_before,
            deadline,
            limit: record.limit,
            reservation: record.reservation,
        }
    }

    fn status_of_machine(&self, id: MachineId) -> MachineStatus {
        let record = self.machine_at(id);
        let machine = self.cell.machine(id);
        let capacity = Room {
            cpu_milli: machine.capacity.cpu.0,
            ram_bytes: machine.capacity.ram.0,
            disk_bytes: machine.capacity.disk.map(|disk| disk.0),
            gpu_milli: u64::from(machine.capacity.gpu_count) * GPU_DEVICE.0,
        };
        let without = |sums: &[u64; 3], account: &Account| Room {
            cpu_milli: capacity.cpu_milli.saturating_sub(sums[0]),
            ram_bytes: capacity.ram_bytes.saturating_sub(sums[1]),
            disk_bytes: capacity.disk_bytes.map(|disk| disk.saturating_sub(sums[2])),
            gpu_milli: capacity.gpu_milli.saturating_sub(account.gpu.iter().sum()),
        };
        let account = record.future();
        MachineStatus {
            name: machine.name.clone(),
            address: record.address.clone(),
            health: record.health,
            is_drained: record.is_drained,
            capacity,
            free_by_limits: without(&account.promised, account),
            free_by_reservations: without(&account.reserved, account),
            task_count: count(record.tasks().iter()),
        }
    }
}

/// The filter names a machine that there is not, so nothing is on it.
struct NoSuchMachine;

impl<T> Page<T> {
    fn empty() -> Self {
        Self { items: Vec::new(), next: None }
    }
}

/// `JOB/INDEX`.
fn read_task_name(name: &str) -> Option<(&str, u32)> {
    let (job, index) = name.rsplit_once('/')?;
    Some((job, index.parse().ok()?))
}

fn count(things: impl Iterator) -> u32 {
    u32::try_from(things.count()).unwrap_or(u32::MAX)
}

/// An update is under way as long as a task has to be started anew for it.
fn rollout(job: &JobRecord) -> Option<Rollout> {
    let alive = || job.tasks.iter().filter(|task| !matches!(task.phase, Phase::Dead { .. }));
    let is_new = |version: u32| version >= job.restart_below;
    if alive().all(|task| is_new(task.version)) {
        return None;
    }
    let done = alive()
        .filter(|task| is_new(task.version) && PhaseKind::of(&task.phase) == PhaseKind::Running);
    Some(Rollout { done: count(done), total: count(alive()) })
}

/// The first things of a list that begins where the page does; only those shown are made.
fn page<K, T>(
    mut list: impl Iterator<Item = (String, K)>,
    paging: &Paging,
    make: impl Fn(K) -> T,
) -> Page<T> {
    let mut items = Vec::new();
    let mut last = None;
    let limit = paging.limit.max(1) as usize;
    for (name, key) in list.by_ref().take(limit) {
        items.push(make(key));
        last = Some(name);
    }
    let next = if list.next().is_some() { last } else { None };
    Page { items, next }
}
