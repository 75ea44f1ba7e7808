//! The hash of a state, kept as it changes.
//!
//! A sum, modulo 2^128, of one hash for each record, so that a change costs what changed; replicas compare
//! it. Against mistakes, not against an adversary: the hash is xxh3.

use postcard::ser_flavors::Flavor;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_128;

use super::{JobRecord, State, TaskRecord};
use crate::id::{MachineId, TaskId};

/// A sum of hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum(u128);

impl Sum {
    pub(super) fn add(&mut self, hash: u128) {
        self.0 = self.0.wrapping_add(hash);
    }

    pub(super) fn remove(&mut self, hash: u128) {
        self.0 = self.0.wrapping_sub(hash);
    }
}

/// What a record is, so that equal bytes of different kinds count differently.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Scalars,
    Job,
    Task,
    Machine,
    Quota,
    Capabilities,
    Session,
    Staged,
}

fn of(kind: Kind, record: &impl Serialize) -> u128 {
    let mut buffer = Buffer { bytes: [0; 256], len: 0 };
    let record = (kind as u8, record);
    match postcard::serialize_with_flavor(&record, &mut buffer) {
        Ok(()) => xxh3_128(&buffer.bytes[..buffer.len]),
        Err(_) => {
            xxh3_128(&postcard::to_allocvec(&record).expect("records of a state can be written"))
        }
    }
}

/// Where a small record is written to be hashed. Most of its fields are a few bytes long, which a call for
/// each would take longer to copy.
struct Buffer {
    bytes: [u8; 256],
    len: usize,
}

impl Flavor for &mut Buffer {
    type Output = ();

    #[inline]
    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        let full = postcard::Error::SerializeBufferFull;
        let to = self.bytes.get_mut(self.len..self.len + data.len()).ok_or(full)?;
        if data.len() <= 10 {
            for (to, from) in to.iter_mut().zip(data) {
                *to = *from;
            }
        } else {
            to.copy_from_slice(data);
        }
        self.len += data.len();
        Ok(())
    }

    #[inline]
    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        let full = postcard::Error::SerializeBufferFull;
        *self.bytes.get_mut(self.len).ok_or(full)? = data;
        self.len += 1;
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

pub(super) fn of_task(uid: u64, index: u32, record: &TaskRecord) -> u128 {
    of(Kind::Task, &(uid, index, record))
}

/// The job without its tasks, and its spec by its own hash.
pub(super) fn of_job(job: &JobRecord) -> u128 {
    let JobRecord {
        uid,
        kind,
        alloc_set,
        version,
        restart_below,
        submitted_at,
        waits_for,
        is_killed,
        ended,
        spec_hash,
        ..
    } = job;
    let fixed = (uid, kind, alloc_set, version, restart_below, submitted_at);
    of(Kind::Job, &(fixed, waits_for, is_killed, ended, spec_hash, job.tasks.len()))
}

/// A part of a state that is coming in, or what is known beside the parts.
pub(super) fn of_staged(record: &impl Serialize) -> u128 {
    of(Kind::Staged, record)
}

/// The hash of a job's specs.
pub(super) fn of_specs(job: &JobRecord) -> u64 {
    let text = serde_json::to_vec(&(&job.spec, &job.previous)).expect("a spec can be written");
    xxhash_rust::xxh3::xxh3_64(&text)
}

/// The hash of a machine's spec.
pub(super) fn of_machine_spec(spec: &crate::spec::MachineSpec) -> u64 {
    xxhash_rust::xxh3::xxh3_64(&serde_json::to_vec(spec).expect("a spec can be written"))
}

impl State {
    /// The hash of the state: equal after the same entries on every replica.
    #[must_use]
    pub fn hash(&self) -> u128 {
        let Self { settings, now, index, next_uid, next_incarnation, allowance, .. } = self;
        let scalars = (settings, now, index, next_uid, next_incarnation, allowance);
        let mut sum = self.sum;
        sum.add(of(Kind::Scalars, &(scalars, self.jobs.len())));
        sum.0
    }

    /// The hash worked out from all records.
    pub(super) fn sum_afresh(&self) -> Sum {
        let mut sum = Sum::default();
        for (_, job) in self.jobs() {
            sum.add(of_job(job));
            for (task, index) in job.tasks.iter().zip(0..) {
                sum.add(of_task(job.uid, index, task));
            }
        }
        for (id, _) in self.machines() {
            sum.add(self.machine_hash(id));
        }
        for (key, quota) in &self.quotas {
            sum.add(of(Kind::Quota, &(key, quota)));
        }
        for entry in &self.capabilities {
            sum.add(of(Kind::Capabilities, &entry));
        }
        for entry in &self.sessions {
            sum.add(of(Kind::Session, &entry));
        }
        if let Some(staged) = &self.staged {
            sum.add(staged.hash());
        }
        sum
    }

    pub(super) fn machine_hash(&self, id: MachineId) -> u128 {
        let super::MachineRecord {
            address,
            health,
            is_drained,
            is_removed,
            generation,
            spec_hash,
            ..
        } = &self.machines[id.index()];
        of(Kind::Machine, &(id, address, health, is_drained, is_removed, generation, spec_hash))
    }

    /// Changes a task's record.
    pub(super) fn change_task<T>(
        &mut self,
        id: TaskId,
        change: impl FnOnce(&mut TaskRecord) -> T,
    ) -> T {
        let job = self.jobs[id.job.index()].as_mut().expect("a job has the slot");
        let uid = job.uid;
        let record = &mut job.tasks[id.position as usize];
        self.sum.remove(record.hash);
        let result = change(record);
        record.hash = of_task(uid, id.position, record);
        self.sum.add(record.hash);
        result
    }

    /// Changes a job's record, save for its tasks.
    pub(super) fn change_job<T>(
        &mut self,
        slot: crate::id::JobId,
        change: impl FnOnce(&mut JobRecord) -> T,
    ) -> T {
        let job = self.jobs[slot.index()].as_mut().expect("a job has the slot");
        self.sum.remove(of_job(job));
        let result = change(job);
        self.sum.add(of_job(job));
        result
    }

    /// Changes a machine's record.
    pub(super) fn change_machine<T>(
        &mut self,
        id: MachineId,
        change: impl FnOnce(&mut super::MachineRecord) -> T,
    ) -> T {
        let machine = &mut self.machines[id.index()];
        self.sum.remove(machine.hash);
        let result = change(machine);
        let hash = self.machine_hash(id);
        self.machines[id.index()].hash = hash;
        self.sum.add(hash);
        result
    }

    /// Changes, adds or removes a session.
    pub(super) fn change_session<T>(
        &mut self,
        id: u64,
        change: impl FnOnce(&mut Option<super::Session>) -> T,
    ) -> T {
        let mut entry = self.sessions.remove(&id);
        if let Some(session) = &entry {
            self.sum.remove(of(Kind::Session, &(id, session)));
        }
        let result = change(&mut entry);
        if let Some(session) = entry {
            self.sum.add(of(Kind::Session, &(id, &session)));
            self.sessions.insert(id, session);
        }
        result
    }

    /// Sets or removes a quota.
    pub(super) fn put_quota(&mut self, quota: super::Quota) {
        let key = (quota.user.clone(), quota.band);
        let hash = of(Kind::Quota, &(&key, &quota));
        if let Some(old) = self.quotas.insert(key.clone(), quota) {
            self.sum.remove(of(Kind::Quota, &(&key, &old)));
        }
        self.sum.add(hash);
    }

    /// Sets a user's capabilities.
    pub(super) fn put_capabilities(
        &mut self,
        user: String,
        capabilities: std::collections::BTreeSet<super::Capability>,
    ) {
        if let Some(old) = self.capabilities.remove(&user) {
            self.sum.remove(of(Kind::Capabilities, &(&user, &old)));
        }
        if !capabilities.is_empty() {
            self.sum.add(of(Kind::Capabilities, &(&user, &capabilities)));
            self.capabilities.insert(user, capabilities);
        }
    }
}
