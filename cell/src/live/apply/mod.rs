//! Applying entries of the log: one command after the other, each checked against the state as it is.

mod assign;
mod job;
mod machine;
mod observe;
mod restore;
mod task;
mod user;

use super::op::{Command, Entry, EvictCause, Op, Request, Timestamp};
use super::outcome::{Applied, Change, Done, Event, Outcome, Rejected, What};
use super::record::Place;
use super::session::Session;
use super::staged::check_part;
use super::{Capability, State};
use crate::id::TaskId;
use crate::spec::SpecError;

/// What an entry comes to, while it is being applied.
pub(super) struct Context {
    applied: Applied,
    index: u64,
}

impl Context {
    fn event(&mut self, at: Timestamp, what: What) {
        self.applied.events.push(Event { index: self.index, at, what });
    }

    fn change(&mut self, change: Change) {
        self.applied.changes.push(change);
    }
}

impl State {
    /// Applies the entry of the log at `index`.
    ///
    /// # Panics
    /// If `index` is not the one after the last.
    pub fn apply(&mut self, index: u64, entry: &Entry) -> Applied {
        assert!(index > self.index, "entry {index} after entry {}", self.index);
        self.index = index;
        self.now = self.now.max(entry.at);
        let mut context = Context { applied: Applied::default(), index };
        for Command { request, op } in &entry.commands {
            let outcome = match request {
                Some(request) => self.request(&mut context, request, op),
                None => self.operate(&mut context, None, op),
            };
            context.applied.answers.push((request.clone(), outcome));
        }
        context.applied
    }

    /// Takes note of an entry that holds nothing for the cell, such as a change of replicas.
    pub fn skip(&mut self, index: u64) {
        assert!(index > self.index, "entry {index} after entry {}", self.index);
        self.index = index;
    }

    /// The answer to a request that need not be replicated: it was carried out before, or is malformed. What
    /// depends on the state goes through the log, because a replica that leads no longer may not know it yet.
    /// `None`: it is for the log.
    #[must_use]
    pub fn answer_now(&self, request: &Request, op: &Op) -> Option<Outcome> {
        let session = self.sessions.get(&request.session).filter(|_| *op != Op::OpenSession);
        let earlier = session.and_then(|session| session.earlier(request));
        #[cfg(debug_assertions)]
        let earlier = earlier.filter(|_| !self.is_mutated(super::Mutation::ApplyTwice));
        earlier.or_else(|| check_form(&request.user, op).err().map(Err))
    }

    fn check_request(&self, user: &str, op: &Op) -> Result<(), Rejected> {
        check_form(user, op)?;
        let user = Some(user);
        let machine = |name: &str| match self.machine(name) {
            Some(_) => Ok(()),
            None => Err(Rejected::Unknown { kind: "machine".to_owned(), name: name.to_owned() }),
        };
        match op {
            Op::OpenSession => Ok(()),
            Op::Submit { spec, is_alloc_set } => {
                self.check_submit(user, spec, *is_alloc_set).map(|_| ())
            }
            Op::Update { spec } => self.check_update(user, spec).map(|_| ()),
            Op::Undo { job } => self.check_change(user, job).map(|_| ()),
            Op::Kill { job, indexes } => self.check_kill(user, job, indexes.as_ref()).map(|_| ()),
            Op::SetQuota(quota) => {
                self.require(user, Capability::Quota)?;
                self.check_quota(quota)
            }
            Op::SetCapabilities { user: whose, .. } => {
                self.require(user, Capability::Quota)?;
                Ok(crate::spec::check_name("user", whose)?)
            }
            Op::AddMachines { machines } => {
                self.require(user, Capability::Machines)?;
                self.check_machines(machines)
            }
            Op::Drain { machine: name }
            | Op::Repair { machine: name }
            | Op::RemoveMachine { machine: name } => {
                self.require(user, Capability::Machines)?;
                machine(name)
            }
            Op::Configure(settings) => {
                self.require(user, Capability::Machines)?;
                if settings.cell_name != self.settings.cell_name {
                    let problem = format!("a cell keeps its name, {:?}", self.settings.cell_name);
                    return Err(SpecError::new("settings.cell_name", problem).into());
                }
                Ok(settings.check()?)
            }
            Op::RestorePart { .. } | Op::RestoreFinish { .. } => {
                self.require(user, Capability::Machines)
            }
            Op::Assign { .. }
            | Op::Observe { .. }
            | Op::Health { .. }
            | Op::Evict { .. }
            | Op::Reserve { .. }
            | Op::Expire => Ok(()),
        }
    }

    fn request(&mut self, context: &mut Context, request: &Request, op: &Op) -> Outcome {
        if *op == Op::OpenSession {
            let id = self.next_uid;
            self.next_uid += 1;
            let session = Session::new(self.now);
            self.change_session(id, |entry| *entry = Some(session));
            return Ok(Done::Session(id));
        }
        let Some(session) = self.sessions.get(&request.session) else {
            return Err(Rejected::NoSession(request.session));
        };
        let earlier = session.earlier(request);
        #[cfg(debug_assertions)]
        let earlier = earlier.filter(|_| !self.is_mutated(super::Mutation::ApplyTwice));
        if let Some(outcome) = earlier {
            return outcome;
        }
        let checked = self.check_request(&request.user, op);
        let outcome = checked.and_then(|()| self.operate(context, Some(&request.user), op));
        let (now, answer) = (self.now, outcome.clone());
        self.change_session(request.session, |entry| {
            if let Some(session) = entry {
                session.used_at = now;
                session.answers.insert(request.sequence, answer);
                session.acknowledge(request.answered_below.min(request.sequence));
            }
        });
        outcome
    }

    fn operate(&mut self, context: &mut Context, user: Option<&str>, op: &Op) -> Outcome {
        match op {
            Op::OpenSession => Err(Rejected::NoSession(0)),
            Op::Submit { spec, is_alloc_set } => self.submit(context, user, spec, *is_alloc_set),
            Op::Update { spec } => self.update(context, user, spec),
            Op::Undo { job } => self.undo(context, user, job),
            Op::Kill { job, indexes } => self.kill(context, user, job, indexes.as_ref()),
            Op::SetQuota(quota) => {
                self.require(user, Capability::Quota)?;
                self.set_quota(quota)
            }
            Op::SetCapabilities { user: whose, capabilities } => {
                self.require(user, Capability::Quota)?;
                crate::spec::check_name("user", whose)?;
                self.put_capabilities(whose.clone(), capabilities.clone());
                Ok(Done::Done)
            }
            Op::AddMachines { machines } => {
                self.require(user, Capability::Machines)?;
                self.add_machines(context, machines)
            }
            Op::Drain { machine } => {
                self.require(user, Capability::Machines)?;
                self.set_drained(context, machine, true)
            }
            Op::Repair { machine } => {
                self.require(user, Capability::Machines)?;
                self.set_drained(context, machine, false)
            }
            Op::RemoveMachine { machine } => {
                self.require(user, Capability::Machines)?;
                self.remove_machine(context, machine)
            }
            Op::Configure(settings) => {
                self.require(user, Capability::Machines)?;
                settings.check()?;
                self.settings = settings.clone();
                Ok(Done::Done)
            }
            Op::Assign { assignments } => self.assign(context, assignments),
            Op::Observe { observations } => self.observe(context, observations),
            Op::Health { machines } => self.set_health(context, machines),
            Op::Evict { tasks, cause } => self.evict(context, tasks, *cause),
            Op::Reserve { reservations } => self.reserve(context, reservations),
            Op::Expire => {
                self.expire(context);
                Ok(Done::Done)
            }
            Op::RestorePart { restore, offset, data } => {
                self.require(user, Capability::Machines)?;
                check_part(*offset, data)?;
                self.stage(*restore, *offset, data)?;
                Ok(Done::Done)
            }
            Op::RestoreFinish { restore, length, checksum } => {
                self.require(user, Capability::Machines)?;
                self.restore(context, *restore, *length, *checksum)
            }
        }
    }

    /// Whether a user may; the master itself may do anything.
    fn require(&self, user: Option<&str>, capability: Capability) -> Result<(), Rejected> {
        match user {
            Some(user) if !self.capabilities(user).contains(&capability) => {
                Err(Rejected::Forbidden {
                    user: user.to_owned(),
                    capability: capability.name().to_owned(),
                })
            }
            _ => Ok(()),
        }
    }

    fn expire(&mut self, context: &mut Context) {
        let (now, keep) = (self.now, self.settings.session_keep_ms);
        let idle: Vec<u64> = self
            .sessions
            .iter()
            .filter(|(_, session)| now.since_ms(session.used_at) > keep)
            .map(|(&id, _)| id)
            .collect();
        for id in idle {
            self.change_session(id, |entry| *entry = None);
        }
        if self.staged.as_ref().is_some_and(|staged| now.since_ms(staged.at) > keep) {
            self.put_staged(None);
        }
        self.drop_dead_jobs(context);
    }

    /// What is wanted of a machine changed, as far as this task goes, which has or had this place there.
    fn touch(&mut self, context: &mut Context, task: TaskId, place: &Place) {
        let index = context.index;
        if self.machines[place.machine.index()].generation != index {
            self.change_machine(place.machine, |machine| machine.generation = index);
        }
        context.change(Change::Wanted(place.machine, place.incarnation, task));
    }
}

/// Whether a request is well formed, whatever the state.
fn check_form(user: &str, op: &Op) -> Result<(), Rejected> {
    use crate::spec::{check_name, read_job, read_machine};
    check_name("user", user)?;
    let job = |spec, kind| read_job(spec, kind, crate::UserId(0), None).map(|_| ());
    match op {
        Op::OpenSession => Ok(()),
        Op::Submit { spec, is_alloc_set: false } | Op::Update { spec } => {
            Ok(job(spec, crate::JobKind::Job)?)
        }
        Op::Submit { spec, is_alloc_set: true } => Ok(job(spec, crate::JobKind::AllocSet)?),
        Op::Undo { job } | Op::Kill { job, .. } => Ok(check_name("job", job)?),
        Op::SetQuota(quota) => Ok(check_name("user", &quota.user)?),
        Op::SetCapabilities { user, .. } => Ok(check_name("user", user)?),
        Op::AddMachines { machines } => {
            for (i, (spec, _)) in machines.iter().enumerate() {
                read_machine(spec).map_err(|error| {
                    crate::spec::SpecError::new(
                        format!("machines[{i}].{}", error.field),
                        error.problem,
                    )
                })?;
            }
            Ok(())
        }
        Op::Drain { machine } | Op::Repair { machine } | Op::RemoveMachine { machine } => {
            Ok(check_name("machine", machine)?)
        }
        Op::Configure(settings) => Ok(settings.check()?),
        Op::RestorePart { offset, data, .. } => check_part(*offset, data),
        Op::RestoreFinish { .. } => Ok(()),
        // No client may do what is the master's.
        Op::Assign { .. }
        | Op::Observe { .. }
        | Op::Health { .. }
        | Op::Evict { .. }
        | Op::Reserve { .. }
        | Op::Expire => {
            Err(Rejected::Forbidden { user: user.to_owned(), capability: "master".to_owned() })
        }
    }
}

/// How many of several things were done.
#[derive(Default)]
struct Tally {
    done: u32,
    rejected: u32,
}

impl Tally {
    fn count(&mut self, is_done: bool) {
        *(if is_done { &mut self.done } else { &mut self.rejected }) += 1;
    }

    fn outcome(self) -> Outcome {
        Ok(Done::Some { done: self.done, rejected: self.rejected })
    }
}

/// Whether an eviction counts against the job's limit on disruption beforehand. Nobody asks a lost machine.
const fn is_voluntary(cause: EvictCause) -> bool {
    match cause {
        EvictCause::Preempted | EvictCause::MachineDrained | EvictCause::Updated => true,
        EvictCause::MachineLost | EvictCause::OutOfResources | EvictCause::AllocEnded => false,
    }
}
