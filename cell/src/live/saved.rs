//! A state written down: as bytes for a replica's snapshot, and as JSON for a cell file.
//!
//! Only what does not follow from the rest is written. What is read is checked: the hash of the state that
//! comes out has to be the one that was written.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::account::Account;
use super::op::Timestamp;
use super::quota::{Capability, Quota};
use super::record::{JobRecord, MachineRecord, Phase};
use super::session::Session;
use super::settings::Settings;
use super::staged::Staged;
use super::{Envelope, State};
use crate::id::{JobId, MachineId, TaskId};
use crate::job::{Host, JobKind, TaskState};
use crate::spec::{read_job, read_machine};

/// The number of the format that this version writes; it reads this one and the one before, where there is
/// one.
pub(super) const FORMAT: u32 = 1;

/// A state as it is read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Saved {
    pub(crate) settings: Settings,
    pub(crate) now: Timestamp,
    pub(crate) index: u64,
    pub(crate) next_uid: u64,
    pub(crate) next_incarnation: u64,
    pub(crate) slot_count: u32,
    pub(crate) jobs: Vec<(JobId, JobRecord)>,
    pub(crate) machines: Vec<MachineRecord>,
    pub(crate) quotas: Vec<Quota>,
    pub(crate) capabilities: Vec<(String, std::collections::BTreeSet<Capability>)>,
    pub(crate) sessions: Vec<(u64, Session)>,
    pub(crate) allowance: (u64, Timestamp),
    /// In hexadecimal.
    pub(crate) hash: String,
    #[serde(default)]
    pub(crate) staged: Option<Staged>,
}

/// The same, as it is written: borrowed from the state.
#[derive(Serialize)]
pub(crate) struct Saving<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) now: Timestamp,
    pub(crate) index: u64,
    pub(crate) next_uid: u64,
    pub(crate) next_incarnation: u64,
    pub(crate) slot_count: u32,
    pub(crate) jobs: Vec<(JobId, &'a JobRecord)>,
    pub(crate) machines: &'a [MachineRecord],
    pub(crate) quotas: Vec<&'a Quota>,
    pub(crate) capabilities: Vec<(&'a String, &'a std::collections::BTreeSet<Capability>)>,
    pub(crate) sessions: Vec<(u64, &'a Session)>,
    pub(crate) allowance: (u64, Timestamp),
    pub(crate) hash: String,
    pub(crate) staged: Option<&'a Staged>,
}

/// Why a state cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// A newer version wrote it.
    #[error(
        "format {found} is newer than {FORMAT}, the newest that this version reads: use a newer version"
    )]
    TooNew {
        /// The format found.
        found: u32,
    },
    /// It is cut short or damaged.
    #[error("not a saved state")]
    Malformed(#[source] postcard::Error),
    /// A part of it contradicts another.
    #[error("the saved state contradicts itself: {0}")]
    Contradiction(String),
}

/// What of a state is saved. Without what follows from it, it is copied in less time than the state.
#[derive(Debug)]
pub struct Records(State);

impl Records {
    /// The index of the last entry applied.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.0.index()
    }

    /// The state as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes()
    }
}

impl State {
    /// A copy of what of it is saved.
    #[must_use]
    pub fn records(&self) -> Records {
        // Whoever adds a field has to say whether it is saved.
        let Self {
            settings,
            now,
            index,
            next_uid,
            next_incarnation,
            jobs,
            machines,
            quotas,
            capabilities,
            sessions,
            allowance,
            staged,
            sum,
            cell: _,
            slots: _,
            job_names: _,
            machine_names: _,
            user_names: _,
            free_slots: _,
            waiting: _,
            dead: _,
            dependents: _,
            quota_used: _,
            envelopes: _,
            down_count: _,
            machine_count: _,
            running_count: _,
            #[cfg(debug_assertions)]
                mutations: _,
        } = self;
        Records(Self {
            now: *now,
            index: *index,
            next_uid: *next_uid,
            next_incarnation: *next_incarnation,
            jobs: jobs.clone(),
            machines: machines.iter().map(MachineRecord::without_tasks).collect(),
            quotas: quotas.clone(),
            capabilities: capabilities.clone(),
            sessions: sessions.clone(),
            allowance: *allowance,
            staged: staged.clone(),
            sum: *sum,
            ..Self::new(settings.clone())
        })
    }

    /// The state as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes = FORMAT.to_le_bytes().to_vec();
        postcard::to_extend(&self.saving(), bytes).expect("a state can be written")
    }

    /// The state that these bytes are of.
    ///
    /// # Errors
    /// If they are of a newer version, damaged, or contradict themselves.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SavedError> {
        let (format, rest) = bytes
            .split_first_chunk()
            .ok_or(SavedError::Malformed(postcard::Error::DeserializeUnexpectedEnd))?;
        let found = u32::from_le_bytes(*format);
        if found > FORMAT {
            return Err(SavedError::TooNew { found });
        }
        let saved: Saved = postcard::from_bytes(rest).map_err(SavedError::Malformed)?;
        Self::from_saved(saved)
    }

    /// The state in a form that serialises to text as well.
    #[must_use]
    pub fn to_value(&self) -> impl Serialize + '_ {
        self.saving()
    }

    pub(crate) fn saving(&self) -> Saving<'_> {
        Saving {
            settings: &self.settings,
            now: self.now,
            index: self.index,
            next_uid: self.next_uid,
            next_incarnation: self.next_incarnation,
            slot_count: u32::try_from(self.jobs.len()).expect("fewer than 2^32 jobs"),
            jobs: self.jobs().collect(),
            machines: &self.machines,
            quotas: self.quotas.values().collect(),
            capabilities: self.capabilities.iter().collect(),
            sessions: self.sessions.iter().map(|(&id, session)| (id, session)).collect(),
            allowance: self.allowance,
            hash: format!("{:032x}", self.hash()),
            staged: self.staged.as_ref(),
        }
    }

    /// The state that was saved.
    ///
    /// # Errors
    /// If it contradicts itself.
    pub fn from_saved(saved: Saved) -> Result<Self, SavedError> {
        let wrong = |what: String| SavedError::Contradiction(what);
        saved.settings.check().map_err(|error| wrong(error.to_string()))?;
        let mut state = Self::new(saved.settings);
        state.now = saved.now;
        state.index = saved.index;
        state.next_uid = saved.next_uid;
        state.next_incarnation = saved.next_incarnation;
        state.allowance = saved.allowance;
        for (index, mut record) in saved.machines.into_iter().enumerate() {
            let machine = read_machine(&record.spec).map_err(|e| wrong(format!("machine: {e}")))?;
            record.spec_hash = super::hash::of_machine_spec(&record.spec);
            record.present = Account::default();
            record.future = Account::default();
            state.machines.push(record);
            state.count_machine(MachineId::from_index(index), machine);
        }
        for quota in saved.quotas {
            state.put_quota(quota);
        }
        for (user, capabilities) in saved.capabilities {
            state.put_capabilities(user, capabilities);
        }
        for (id, session) in saved.sessions {
            state.change_session(id, |entry| *entry = Some(session));
        }
        state.put_staged(saved.staged);
        state.enter_jobs(saved.slot_count as usize, saved.jobs)?;
        state.enter_places()?;
        if format!("{:032x}", state.hash()) != saved.hash {
            return Err(wrong(format!("its hash is {:032x}, not {}", state.hash(), saved.hash)));
        }
        Ok(state)
    }

    /// Puts jobs into their slots.
    pub(super) fn enter_jobs(
        &mut self,
        slot_count: usize,
        jobs: Vec<(JobId, JobRecord)>,
    ) -> Result<(), SavedError> {
        let wrong = |what: String| SavedError::Contradiction(what);
        self.jobs = (0..slot_count).map(|_| None).collect();
        self.cell.jobs = (0..slot_count).map(|_| Self::empty_job()).collect();
        self.free_slots = (0..slot_count).map(JobId::from_index).collect();
        let slot_of: BTreeMap<u64, JobId> =
            jobs.iter().map(|(slot, job)| (job.uid, *slot)).collect();
        for (slot, mut record) in jobs {
            if !self.free_slots.remove(&slot) {
                return Err(wrong(format!("job slot {} is there twice or out of range", slot.0)));
            }
            let set = match record.alloc_set {
                None => None,
                Some(uid) => {
                    Some(*slot_of.get(&uid).ok_or_else(|| wrong(format!("no job {uid}")))?)
                }
            };
            let user = self.user_id(&record.spec.user);
            let mut job = read_job(&record.spec, record.kind, user, set)
                .map_err(|e| wrong(format!("job {:?}: {e}", record.spec.name)))?;
            record.name = record.spec.name.as_str().into();
            let is_dead = |phase: &Phase| matches!(phase, Phase::Dead { .. });
            let alive = record.tasks.iter().filter(|task| !is_dead(&task.phase)).count();
            let disrupted = record.tasks.iter().filter(|task| task.is_disrupted).count();
            record.alive = u32::try_from(alive).expect("fewer than 2^32 tasks");
            record.disrupted = u32::try_from(disrupted).expect("fewer than 2^32 tasks");
            job.max_disrupted = job.max_disrupted.map(|max| max.saturating_sub(record.disrupted));
            // A job that shrank keeps its tasks until it ends.
            let mut view =
                job.tasks.first().cloned().ok_or_else(|| wrong("no tasks".to_owned()))?;
            for index in job.tasks.len()..record.tasks.len() {
                view.index = u32::try_from(index).expect("fewer than 2^32 tasks");
                job.tasks.push(view.clone());
            }
            if record.tasks.len() != job.tasks.len() {
                return Err(wrong(format!("job {:?} lacks tasks", record.spec.name)));
            }
            self.enter(slot, record, job);
        }
        Ok(())
    }

    /// Enters the places that tasks have into the accounts of their hosts, and the quota that jobs use.
    pub(super) fn enter_places(&mut self) -> Result<(), SavedError> {
        let mut placed: Vec<TaskId> = Vec::new();
        let mut rest: Vec<TaskId> = Vec::new();
        for (slot, job) in self.jobs() {
            for (task, position) in job.tasks.iter().zip(0..) {
                let id = TaskId { job: slot, position };
                let list = if task.phase.place().is_some() { &mut placed } else { &mut rest };
                list.push(id);
            }
        }
        // Allocs before what is in them.
        placed.sort_by_key(|id| self.job_at(id.job).kind != JobKind::AllocSet);
        for id in rest {
            self.view(id, TaskState::Pending);
        }
        for id in placed {
            let phase = self.record(id).phase.clone();
            let Some(&place) = phase.place() else { continue };
            let kind = self.job_at(id.job).kind;
            let is_host_there = match place.on {
                Host::Machine(machine) => machine.index() < self.machines.len(),
                Host::Alloc(alloc) => self.envelopes.contains_key(&alloc),
            };
            if !is_host_there || place.machine.index() >= self.machines.len() {
                let name = self.task_name(id);
                return Err(SavedError::Contradiction(format!("the host of {name} is not there")));
            }
            let need = self.need(id, place.gpu_devices);
            let (is_present, is_future) = match phase {
                Phase::Assigned(_) => (false, true),
                Phase::Running { .. } => (true, true),
                Phase::Stopping { .. } => (true, false),
                Phase::Waiting { .. } | Phase::Dead { .. } => (false, false),
            };
            let (present, future) = self.accounts_mut(place.on);
            if is_present {
                present.add(&need);
            }
            if is_future {
                future.add(&need);
            }
            if kind == JobKind::AllocSet {
                self.envelopes.insert(id, Envelope::default());
            } else if is_present {
                self.running_count += 1;
            }
            if let Host::Alloc(alloc) = place.on {
                self.envelopes.get_mut(&alloc).expect("checked").tasks.insert(id);
            }
            self.machines[place.machine.index()].tasks.push((place.incarnation, id));
            self.count_on_machine(id, place.machine, 1);
            let on = Some(place.on);
            let state = if is_future { TaskState::Running { on } } else { TaskState::Pending };
            self.view(id, state);
        }
        for machine in &mut self.machines {
            machine.tasks.sort_unstable();
        }
        self.quota_used = self.quota_used_afresh();
        Ok(())
    }
}
