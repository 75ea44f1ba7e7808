//! The replicated state of a live cell.
//!
//! In: entries of the log. Out: answers, events, and what changed ([`Applied`]). [`State::apply`] is the only
//! way it changes; it checks each operation against the state as it is, whoever proposed it, so that what
//! holds here (quota, room, disruption limits, one placement a task) holds whatever a scheduler planned.
//! Deterministic: time, ids and choices are in the entry; nothing is iterated in hash order; the same
//! entries give the same state, event for event, and the same [`State::hash`].
//!
//! Source: Borg (EuroSys '15) §2 and §3.1.

pub mod account;
mod apply;
mod blob;
mod check;
mod disruption;
mod export;
mod hash;
mod op;
mod outcome;
mod quota;
mod record;
mod saved;
mod session;
mod settings;
mod staged;
mod text;
pub mod view;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

pub use blob::Blob;
pub use check::{Fault, KnownSpecs};
pub use disruption::DisruptionsLeft;
pub use op::{
    Assignment, Command, Entry, EvictCause, Observation, Op, Request, Seen, Target, Timestamp,
};
pub use outcome::{
    Applied, Change, Done, Event, MachineStep, Outcome, Refusal, Rejected, TaskStep, What,
};
pub use quota::{Amounts, Capability, Quota};
pub use record::{
    AfterStop, DeathCause, Health, JobEnd, JobRecord, Left, MachineRecord, Phase, Place, TaskRecord,
};
pub(crate) use saved::Saving;
pub use saved::{Records, Saved, SavedError};
pub use settings::Settings;
pub use staged::{RESTORE_BYTES_MAX, RESTORE_PART_BYTES_MAX, restore_checksum};

use self::account::{Account, Need, Size};
use self::hash::Sum;
pub(crate) use self::session::Session;
use self::staged::Staged;
use crate::band::{Band, Priority};
use crate::borglet::TaskKey;
use crate::cow::{CowChunks, CowVec};
use crate::id::{JobId, MachineId, TaskId, UserId};
use crate::job::{Host, Job, JobKind};
use crate::state::Cell;

/// A bug that can be switched on by name, to show that the simulation finds it. Exists in test builds alone.
#[cfg(debug_assertions)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutation {
    /// A request that was carried out before is carried out again.
    ApplyTwice,
    /// An update is not held to quota.
    ForgetQuotaOnUpdate,
    /// An assignment is not checked for room.
    SkipRoomCheck,
    /// Limits on disruption are not looked at.
    ForgetDisruption,
    /// A restore gives numbers of placements again that were given since.
    RestoreNumbers,
}

/// The state of a live cell.
#[derive(Clone, Debug)]
pub struct State {
    settings: Settings,
    /// Never goes back.
    now: Timestamp,
    /// The last entry applied.
    index: u64,
    next_uid: u64,
    next_incarnation: u64,
    /// By slot, as `cell.jobs`.
    jobs: CowChunks<Option<JobRecord>>,
    /// By [`MachineId`], as `cell.machines`.
    machines: Vec<MachineRecord>,
    quotas: BTreeMap<(String, Band), Quota>,
    capabilities: BTreeMap<String, BTreeSet<Capability>>,
    sessions: BTreeMap<u64, Session>,
    /// What may still be evicted from lost machines, in thousandths of a task, and as of when.
    allowance: (u64, Timestamp),
    /// A saved state that is coming in to take the place of this one.
    staged: Option<Staged>,

    // What follows from the above.
    cell: Cell,
    slots: BTreeMap<u64, JobId>,
    job_names: BTreeMap<String, JobId>,
    machine_names: BTreeMap<String, MachineId>,
    user_names: BTreeMap<String, UserId>,
    free_slots: BTreeSet<JobId>,
    waiting: BTreeSet<QueuePlace>,
    dead: BTreeSet<(Timestamp, u64)>,
    dependents: BTreeMap<u64, BTreeSet<u64>>,
    quota_used: BTreeMap<(String, Band), Amounts>,
    envelopes: BTreeMap<TaskId, Envelope>,
    /// Machines that are down, removed ones not counted, and all that are not removed.
    down_count: u32,
    machine_count: u32,
    running_count: u64,
    sum: Sum,
    #[cfg(debug_assertions)]
    mutations: BTreeSet<Mutation>,
}

/// A place in the queue of waiting tasks: the most important first, and of one priority in the order of their
/// submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueuePlace {
    rank: Reverse<Priority>,
    /// The task.
    pub task: TaskKey,
}

/// An alloc that has a place, and what is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Envelope {
    tasks: BTreeSet<TaskId>,
    present: Account,
    future: Account,
}

impl Default for State {
    fn default() -> Self {
        Self::new(Settings::default())
    }
}

impl State {
    /// A cell with nothing in it.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            now: Timestamp(0),
            index: 0,
            next_uid: 1,
            next_incarnation: 1,
            jobs: CowChunks::default(),
            machines: Vec::new(),
            quotas: BTreeMap::new(),
            capabilities: BTreeMap::new(),
            sessions: BTreeMap::new(),
            allowance: (0, Timestamp(0)),
            staged: None,
            cell: Cell::default(),
            slots: BTreeMap::new(),
            job_names: BTreeMap::new(),
            machine_names: BTreeMap::new(),
            user_names: BTreeMap::new(),
            free_slots: BTreeSet::new(),
            waiting: BTreeSet::new(),
            dead: BTreeSet::new(),
            dependents: BTreeMap::new(),
            quota_used: BTreeMap::new(),
            envelopes: BTreeMap::new(),
            down_count: 0,
            machine_count: 0,
            running_count: 0,
            sum: Sum::default(),
            #[cfg(debug_assertions)]
            mutations: BTreeSet::new(),
        }
    }

    /// Switches bugs on.
    #[cfg(debug_assertions)]
    pub fn set_mutations(&mut self, mutations: BTreeSet<Mutation>) {
        self.mutations = mutations;
    }

    #[cfg(debug_assertions)]
    fn is_mutated(&self, mutation: Mutation) -> bool {
        self.mutations.contains(&mutation)
    }

    /// The settings.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The time of the last entry; never goes back.
    #[must_use]
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// The index of the last entry applied; 0 before the first.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// The cell as schedulers read it: machines by their ids, jobs by slot. A slot that no job has holds an
    /// empty one. A task is running there if a place is chosen for it, and pending otherwise, also where it
    /// stops or is dead: who waits is told by [`State::waiting`]. A job's `max_disrupted` is what is left of
    /// its limit.
    #[must_use]
    pub const fn cell(&self) -> &Cell {
        &self.cell
    }

    /// The tasks that wait for a place, in the order of the queue, back-off or not.
    pub fn waiting(&self) -> impl Iterator<Item = TaskKey> + '_ {
        self.waiting.iter().map(|place| place.task)
    }

    /// The queue behind a place in it; `None`: from its head.
    pub fn queue_after(&self, place: Option<QueuePlace>) -> impl Iterator<Item = QueuePlace> + '_ {
        let from = place.map_or(Bound::Unbounded, Bound::Excluded);
        self.waiting.range((from, Bound::Unbounded)).copied()
    }

    /// The places in the queue of a job's tasks.
    ///
    /// # Panics
    /// If no job has the slot.
    pub fn waiting_of(&self, slot: JobId) -> impl Iterator<Item = QueuePlace> + '_ {
        let place = |position| self.queue_place(TaskId { job: slot, position });
        self.waiting.range(place(0)..=place(u32::MAX)).copied()
    }

    /// The place in the queue that a task has while it waits.
    ///
    /// # Panics
    /// If no job has the slot.
    #[must_use]
    pub fn queue_place(&self, id: TaskId) -> QueuePlace {
        QueuePlace { rank: Reverse(self.cell.job(id.job).priority), task: self.key(id) }
    }

    /// How many tasks wait for a place.
    #[must_use]
    pub fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// How many tasks run, are starting or stopping; allocs are not counted.
    #[must_use]
    pub const fn running_count(&self) -> u64 {
        self.running_count
    }

    /// Whether a waiting task may be placed at this time: it does not back off, and its job waits for no
    /// other.
    #[must_use]
    pub fn is_eligible(&self, key: TaskKey, now: Timestamp) -> bool {
        self.task_id(key).is_some_and(|id| {
            let job = self.job_at(id.job);
            let alloc_has_place = || {
                self.cell.job(id.job).alloc_set.is_none_or(|set| {
                    self.jobs[set.index()].as_ref().is_some_and(|set| set.ended.is_none())
                })
            };
            job.waits_for.is_empty()
                && alloc_has_place()
                && matches!(self.record(id).phase,
                    Phase::Waiting { not_before, .. } if not_before <= now)
        })
    }

    /// The job in a slot.
    ///
    /// # Panics
    /// If no job has the slot.
    #[must_use]
    pub fn job_at(&self, slot: JobId) -> &JobRecord {
        self.jobs[slot.index()].as_ref().expect("a job has the slot")
    }

    /// The job with this name, ended or not.
    #[must_use]
    pub fn job(&self, name: &str) -> Option<&JobRecord> {
        self.job_names.get(name).map(|&slot| self.job_at(slot))
    }

    /// The job with this number, ended or not.
    #[must_use]
    pub fn job_of(&self, uid: u64) -> Option<&JobRecord> {
        self.slots.get(&uid).map(|&slot| self.job_at(slot))
    }

    /// All jobs and alloc sets with their slots, ended ones that are still kept among them.
    pub fn jobs(&self) -> impl Iterator<Item = (JobId, &JobRecord)> {
        let slots = self.jobs.iter().enumerate();
        slots.filter_map(|(slot, job)| Some((JobId::from_index(slot), job.as_ref()?)))
    }

    /// The machine with this name, unless it was removed.
    #[must_use]
    pub fn machine(&self, name: &str) -> Option<MachineId> {
        let id = *self.machine_names.get(name)?;
        (!self.machine_at(id).is_removed).then_some(id)
    }

    /// The machine with this id.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn machine_at(&self, id: MachineId) -> &MachineRecord {
        &self.machines[id.index()]
    }

    /// All machines, removed ones among them.
    pub fn machines(&self) -> impl Iterator<Item = (MachineId, &MachineRecord)> {
        let machines = self.machines.iter().enumerate();
        machines.map(|(index, machine)| (MachineId::from_index(index), machine))
    }

    /// How many machines there are and how many of them are down; removed ones are not counted.
    #[must_use]
    pub const fn machine_counts(&self) -> (u32, u32) {
        (self.machine_count, self.down_count)
    }

    /// How many more tasks of a job may be disrupted; `None`: any number.
    ///
    /// # Panics
    /// If no job has the slot.
    #[must_use]
    pub fn disruptions_left(&self, slot: JobId) -> Option<u32> {
        let job = self.job_at(slot);
        job.spec.max_disrupted.map(|max| max.saturating_sub(job.disrupted))
    }

    /// The number that the next placement will have, and the next job: what is at or above was not there
    /// yet.
    #[must_use]
    pub const fn next_numbers(&self) -> (u64, u64) {
        (self.next_incarnation, self.next_uid)
    }

    /// Whether so many machines are down that no task is taken from any of them.
    #[must_use]
    pub fn is_mass_loss(&self) -> bool {
        u64::from(self.down_count) * 1000
            > u64::from(self.machine_count) * u64::from(self.settings.mass_loss_permille)
            && self.down_count > 1
    }

    /// Whether the tasks of a machine may be given up at this time, as far as that depends on it: it has been
    /// down for as long as it takes to ask all machines once more, so that those that fell silent together are
    /// all known to be down ([`State::is_mass_loss`]).
    ///
    /// # Panics
    /// If there is no such machine.
    #[must_use]
    pub fn is_given_up(&self, id: MachineId, now: Timestamp) -> bool {
        match self.machine_at(id).health {
            Health::Down { since } => now.since_ms(since) > self.settings.poll_interval_ms,
            Health::Unknown | Health::Up => false,
        }
    }

    /// How many more tasks of a job may be started anew for its update at this time: its `update_max_down` less
    /// those that are down already, or are of the new version and do not do well (yet).
    ///
    /// # Panics
    /// If no job has the slot.
    #[must_use]
    pub fn rollout_left(&self, slot: JobId, now: Timestamp) -> u32 {
        let job = self.job_at(slot);
        let healthy_ms = u64::from(job.spec.run.healthy_seconds) * 1000;
        let is_down = |task: &TaskRecord| match &task.phase {
            Phase::Running { started_at, is_healthy, .. } => {
                let does_well =
                    *is_healthy && started_at.is_some_and(|at| now.since_ms(at) >= healthy_ms);
                !job.is_outdated(task) && !does_well
            }
            Phase::Waiting { .. } | Phase::Assigned(_) | Phase::Stopping { .. } => true,
            Phase::Dead { .. } => false,
        };
        let tasks = job.tasks.iter().take(job.spec.count as usize);
        let down = u32::try_from(tasks.filter(|task| is_down(task)).count()).unwrap_or(u32::MAX);
        job.spec.run.update_max_down.saturating_sub(down)
    }

    /// The task's position; `None` where its job is gone or has no such task.
    #[must_use]
    pub fn task_id(&self, key: TaskKey) -> Option<TaskId> {
        let slot = *self.slots.get(&key.job)?;
        let tasks = &self.job_at(slot).tasks;
        ((key.index as usize) < tasks.len()).then_some(TaskId { job: slot, position: key.index })
    }

    /// Whether a job has the slot, and so many tasks.
    #[must_use]
    pub fn has_task(&self, id: TaskId) -> bool {
        let job = self.jobs.get(id.job.index()).and_then(Option::as_ref);
        job.is_some_and(|job| (id.position as usize) < job.tasks.len())
    }

    /// The task's key.
    ///
    /// # Panics
    /// If no job has the slot.
    #[must_use]
    pub fn key(&self, id: TaskId) -> TaskKey {
        TaskKey { job: self.job_at(id.job).uid, index: id.position }
    }

    /// What is kept of a task.
    ///
    /// # Panics
    /// If there is no such task.
    #[must_use]
    pub fn record(&self, id: TaskId) -> &TaskRecord {
        &self.job_at(id.job).tasks[id.position as usize]
    }

    /// The place that a task has or is to have, where schedulers count it; what stops has none.
    ///
    /// # Panics
    /// If there is no such task.
    #[must_use]
    pub fn task_place(&self, id: TaskId) -> Option<Place> {
        match self.record(id).phase {
            Phase::Assigned(place) | Phase::Running { place, .. } => Some(place),
            Phase::Waiting { .. } | Phase::Stopping { .. } | Phase::Dead { .. } => None,
        }
    }

    /// The name of a task, `JOB/INDEX`.
    ///
    /// # Panics
    /// If there is no such task.
    #[must_use]
    pub fn task_name(&self, id: TaskId) -> String {
        format!("{}/{}", self.job_at(id.job).name, id.position)
    }

    /// Quotas by user and band.
    pub fn quotas(&self) -> impl Iterator<Item = &Quota> {
        self.quotas.values()
    }

    /// What of the quota is used by a user's jobs in a band: the limits of all their tasks that have not
    /// ended, by the newest spec.
    #[must_use]
    pub fn quota_used(&self, user: &str, band: Band) -> Amounts {
        self.quota_used.get(&(user.to_owned(), band)).copied().unwrap_or_default()
    }

    /// All uses of quota, by user and band, those with no grant among them.
    pub fn quota_uses(&self) -> impl Iterator<Item = (&str, Band, &Amounts)> {
        self.quota_used.iter().map(|((user, band), used)| (user.as_str(), *band, used))
    }

    /// A user's capabilities.
    #[must_use]
    pub fn capabilities(&self, user: &str) -> BTreeSet<Capability> {
        if self.settings.admins.iter().any(|admin| admin == user) {
            return Capability::ALL.into();
        }
        self.capabilities.get(user).cloned().unwrap_or_default()
    }

    /// Users who were given capabilities, with them.
    pub fn all_capabilities(&self) -> impl Iterator<Item = (&str, &BTreeSet<Capability>)> {
        self.capabilities.iter().map(|(user, capabilities)| (user.as_str(), capabilities))
    }

    /// Number of open sessions.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// How many tasks may be evicted from lost machines at this time.
    #[must_use]
    pub fn evictions_allowed(&self, now: Timestamp) -> u32 {
        u32::try_from(self.allowance_at(now) / 1000).unwrap_or(u32::MAX)
    }

    fn allowance_at(&self, now: Timestamp) -> u64 {
        let (left, as_of) = self.allowance;
        let rate = u64::from(self.settings.lost_evictions_per_second);
        // Not more than what one second brings is saved up.
        left.saturating_add(now.since_ms(as_of).saturating_mul(rate)).min(rate * 1000)
    }

    /// What a task needs of its host, on these GPU devices.
    #[must_use]
    pub fn need(&self, id: TaskId, gpu_devices: u16) -> Need {
        let record = self.record(id);
        let is_prod = self.cell.job(id.job).priority.band().is_prod();
        Need {
            reservation: record.reservation.unwrap_or(record.limit),
            promise: is_prod.then_some(record.limit),
            gpu_devices,
        }
    }

    /// The size of a host.
    fn size(&self, host: Host) -> Size {
        match host {
            Host::Machine(machine) => Size::of_machine(&self.cell.machine(machine).capacity),
            Host::Alloc(alloc) => Size::of_alloc(&self.record(alloc).limit),
        }
    }

    /// A host's accounts: of what is there now, and of what will be once the stopping have gone.
    fn accounts(&self, host: Host) -> Option<(&Account, &Account)> {
        match host {
            Host::Machine(id) => {
                let machine = &self.machines[id.index()];
                Some((&machine.present, &machine.future))
            }
            Host::Alloc(id) => {
                self.envelopes.get(&id).map(|envelope| (&envelope.present, &envelope.future))
            }
        }
    }

    fn accounts_mut(&mut self, host: Host) -> (&mut Account, &mut Account) {
        match host {
            Host::Machine(id) => {
                let machine = &mut self.machines[id.index()];
                (&mut machine.present, &mut machine.future)
            }
            Host::Alloc(id) => {
                let envelope = self.envelopes.get_mut(&id).expect("the alloc has a place");
                (&mut envelope.present, &mut envelope.future)
            }
        }
    }

    /// A job that is in no slot: what schedulers see of a free one.
    fn empty_job() -> Job {
        Job {
            name: String::new(),
            kind: JobKind::Job,
            user: UserId(0),
            priority: Priority::new(0).expect("0 is a priority"),
            constraints: Vec::new(),
            different_machines: false,
            spread: Vec::new(),
            packages: BTreeSet::new(),
            alloc_set: None,
            tied_to_machines: false,
            max_disrupted: None,
            tasks: CowVec::default(),
        }
    }
}

/// Whether a job's own placements bear on where its next task may go.
fn has_own_rules(job: &Job) -> bool {
    job.different_machines || job.spread.iter().any(|spread| spread.max_per_domain.is_some())
}

#[cfg(test)]
pub(crate) mod tests;
