//! Questions about a cell, and their answers.

use cell::borglet::Incarnation;
use cell::live::view::{
    Answer, CellStatus, Filter, JobStatus, MachineStatus, Page, Paging, PhaseCounts, PhaseKind,
    PlanningStatus, Question, QuotaStatus, Rollout, Room, TaskStatus,
};
use cell::live::{Health, Timestamp};
use cell::{Priority, live};

use crate::error::{Inside, WireError, optional, part, required};
use crate::limits::{
    LIST_COUNT_MAX, PAGE_COUNT_MAX, at_most, cut, list, name, name_if, plain_list, words,
};
use crate::parts::{
    Coded, coded, decode, read_hash, read_job, read_settings, write_job, write_settings,
};
use crate::reply::reply;
use crate::wire;

/// How recent an answer has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Everything that was acknowledged before the question is in it.
    Linearizable,
    /// As the asked replica has it.
    Stale,
}

coded!(Consistency = wire::Consistency { Linearizable = Linearizable, Stale = Stale });

/// A question about a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusQuery {
    /// How recent the answer has to be.
    pub consistency: Consistency,
    /// What is asked.
    pub question: Question,
}

/// The answer to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The index of the log that the cell was read at.
    pub index: u64,
    /// The answer.
    pub answer: Answer,
}

reply!(StatusReply, wire::status_reply::Result { Status, "status" }, Status);

impl TryFrom<StatusQuery> for wire::StatusRequest {
    type Error = WireError;

    fn try_from(own: StatusQuery) -> Result<Self, WireError> {
        use wire::status_request::{Cell, Job, What};
        let list = |field: &str, filter, paging| write_list(filter, paging).inside(field);
        let what = match own.question {
            Question::Jobs(filter, paging) => What::Jobs(list("jobs", filter, paging)?),
            Question::Job(job) => What::Job(Job { name: name("job.name", job)? }),
            Question::Tasks(filter, paging) => What::Tasks(list("tasks", filter, paging)?),
            Question::Machines(filter, paging) => What::Machines(list("machines", filter, paging)?),
            Question::Quotas(filter, paging) => What::Quota(list("quota", filter, paging)?),
            Question::Cell => What::Cell(Cell {}),
            Question::Spec(job) => What::Spec(Job { name: name("spec.name", job)? }),
        };
        Ok(Self { consistency: own.consistency.code(), what: Some(what) })
    }
}

impl TryFrom<wire::StatusRequest> for StatusQuery {
    type Error = WireError;

    fn try_from(message: wire::StatusRequest) -> Result<Self, WireError> {
        use wire::status_request::What;
        let consistency = decode("consistency", message.consistency)?;
        let list = |field: &str, list| read_list(list).inside(field);
        let question = match required("what", message.what)? {
            What::Jobs(it) => {
                list("jobs", it).map(|(filter, paging)| Question::Jobs(filter, paging))?
            }
            What::Job(it) => Question::Job(name("job.name", it.name)?),
            What::Tasks(it) => {
                list("tasks", it).map(|(filter, paging)| Question::Tasks(filter, paging))?
            }
            What::Machines(it) => {
                list("machines", it).map(|(filter, paging)| Question::Machines(filter, paging))?
            }
            What::Quota(it) => {
                list("quota", it).map(|(filter, paging)| Question::Quotas(filter, paging))?
            }
            What::Cell(_) => Question::Cell,
            What::Spec(it) => Question::Spec(name("spec.name", it.name)?),
        };
        Ok(Self { consistency, question })
    }
}

fn write_list(filter: Filter, paging: Paging) -> Result<wire::status_request::List, WireError> {
    let filter = wire::Filter {
        job: name_if("filter.job", filter.job)?,
        user: name_if("filter.user", filter.user)?,
        phase: filter.phase.map_or(wire::Phase::Unspecified.into(), Coded::code),
        machine: name_if("filter.machine", filter.machine)?,
    };
    let paging =
        wire::Paging { limit: limit(paging.limit)?, after: name_if("paging.after", paging.after)? };
    Ok(wire::status_request::List { filter: Some(filter), paging: Some(paging) })
}

/// A filter may be missing; a page's size is always said.
fn read_list(message: wire::status_request::List) -> Result<(Filter, Paging), WireError> {
    let filter = message.filter.unwrap_or_default();
    let phase = match filter.phase {
        0 => None,
        code => Some(decode("filter.phase", code)?),
    };
    let filter = Filter {
        job: name_if("filter.job", filter.job)?,
        user: name_if("filter.user", filter.user)?,
        phase,
        machine: name_if("filter.machine", filter.machine)?,
    };
    let paging = required("paging", message.paging)?;
    let after = name_if("paging.after", paging.after)?;
    Ok((filter, Paging { limit: limit(paging.limit)?, after }))
}

fn limit(limit: u32) -> Result<u32, WireError> {
    if (1..=PAGE_COUNT_MAX).contains(&limit) {
        return Ok(limit);
    }
    Err(WireError::new("paging.limit", format!("{limit} is not in 1..={PAGE_COUNT_MAX}")))
}

fn page<A, B: TryFrom<A>>(page: Page<A>) -> Result<(Vec<B>, Option<String>), WireError>
where
    WireError: From<B::Error>,
{
    let items = list("items", page.items, PAGE_COUNT_MAX as usize, |item| {
        B::try_from(item).map_err(WireError::from)
    })?;
    Ok((items, name_if("next", page.next)?))
}

impl TryFrom<Status> for wire::Status {
    type Error = WireError;

    fn try_from(own: Status) -> Result<Self, WireError> {
        use wire::status::{self as to, What};
        let what = match own.answer {
            Answer::Jobs(it) => {
                let (items, next) = page(it).inside("jobs")?;
                What::Jobs(to::Jobs { items, next })
            }
            Answer::Job(it) => What::Job(it.try_into().inside("job")?),
            Answer::Tasks(it) => {
                let (items, next) = page(it).inside("tasks")?;
                What::Tasks(to::Tasks { items, next })
            }
            Answer::Machines(it) => {
                let (items, next) = page(it).inside("machines")?;
                What::Machines(to::Machines { items, next })
            }
            Answer::Quotas(it) => {
                let (items, next) = page(it).inside("quota")?;
                What::Quota(to::Quotas { items, next })
            }
            Answer::Cell(it) => What::Cell((*it).try_into().inside("cell")?),
            Answer::Spec(it) => What::Spec(write_job("spec", &it)?),
        };
        Ok(Self { index: own.index, what: Some(what) })
    }
}

impl TryFrom<wire::Status> for Status {
    type Error = WireError;

    fn try_from(message: wire::Status) -> Result<Self, WireError> {
        use wire::status::What;
        let answer = match required("what", message.what)? {
            What::Jobs(it) => {
                let (items, next) = page(Page { items: it.items, next: it.next }).inside("jobs")?;
                Answer::Jobs(Page { items, next })
            }
            What::Job(it) => Answer::Job(it.try_into().inside("job")?),
            What::Tasks(it) => {
                let (items, next) =
                    page(Page { items: it.items, next: it.next }).inside("tasks")?;
                Answer::Tasks(Page { items, next })
            }
            What::Machines(it) => {
                let from = Page { items: it.items, next: it.next };
                let (items, next) = page(from).inside("machines")?;
                Answer::Machines(Page { items, next })
            }
            What::Quota(it) => {
                let (items, next) =
                    page(Page { items: it.items, next: it.next }).inside("quota")?;
                Answer::Quotas(Page { items, next })
            }
            What::Cell(it) => Answer::Cell(Box::new(it.try_into().inside("cell")?)),
            What::Spec(it) => Answer::Spec(read_job("spec", it)?),
        };
        Ok(Self { index: message.index, answer })
    }
}

impl From<PhaseCounts> for wire::PhaseCounts {
    fn from(own: PhaseCounts) -> Self {
        let [pending, assigned, starting, running, stopping, finished, failed, killed] =
            PhaseKind::ALL.map(|kind| own.get(kind));
        Self { pending, assigned, starting, running, stopping, finished, failed, killed }
    }
}

impl From<wire::PhaseCounts> for PhaseCounts {
    fn from(message: wire::PhaseCounts) -> Self {
        let wire::PhaseCounts {
            pending,
            assigned,
            starting,
            running,
            stopping,
            finished,
            failed,
            killed,
        } = message;
        // In the order of `PhaseKind::ALL`.
        Self { counts: [pending, assigned, starting, running, stopping, finished, failed, killed] }
    }
}

impl TryFrom<JobStatus> for wire::JobStatus {
    type Error = WireError;

    fn try_from(own: JobStatus) -> Result<Self, WireError> {
        use wire::job_status::{End, Rollout};
        Ok(Self {
            name: name("name", own.name)?,
            uid: own.uid,
            user: name("user", own.user)?,
            priority: own.priority.get().into(),
            kind: own.kind.code(),
            version: own.version,
            submitted_at_ms: own.submitted_at.0,
            counts: Some(own.counts.into()),
            end: own.ended.map(|(at, how)| End { at_ms: at.0, how: how.code() }),
            rollout: own.rollout.map(|it| Rollout { done: it.done, total: it.total }),
            waits_for: plain_list("waits_for", own.waits_for, LIST_COUNT_MAX, name)?,
        })
    }
}

impl TryFrom<wire::JobStatus> for JobStatus {
    type Error = WireError;

    fn try_from(message: wire::JobStatus) -> Result<Self, WireError> {
        let priority = at_most("priority", message.priority.into(), Priority::MAX.get().into())?;
        let ended = match message.end {
            None => None,
            Some(end) => Some((Timestamp(end.at_ms), decode("end.how", end.how)?)),
        };
        Ok(Self {
            name: name("name", message.name)?,
            uid: message.uid,
            user: name("user", message.user)?,
            priority: required("priority", Priority::new(priority))?,
            kind: decode("kind", message.kind)?,
            version: message.version,
            submitted_at: Timestamp(message.submitted_at_ms),
            counts: required("counts", message.counts)?.into(),
            ended,
            rollout: message.rollout.map(|it| Rollout { done: it.done, total: it.total }),
            waits_for: plain_list("waits_for", message.waits_for, LIST_COUNT_MAX, name)?,
        })
    }
}

impl TryFrom<TaskStatus> for wire::TaskStatus {
    type Error = WireError;

    fn try_from(own: TaskStatus) -> Result<Self, WireError> {
        Ok(Self {
            name: name("name", own.name)?,
            phase: own.phase.code(),
            since_ms: own.since.0,
            machine: name_if("machine", own.machine)?,
            alloc: name_if("alloc", own.alloc)?,
            incarnation: own.incarnation.map(|incarnation| incarnation.0),
            version: own.version,
            unhealthy: !own.is_healthy,
            last_cause: own.last_cause.map(cut),
            failures: own.failures,
            placed_count: own.placed_count,
            not_before_ms: own.not_before.map(|time| time.0),
            deadline_ms: own.deadline.map(|time| time.0),
            limit: Some(own.limit.try_into().inside("limit")?),
            reservation: optional("reservation", own.reservation)?,
        })
    }
}

impl TryFrom<wire::TaskStatus> for TaskStatus {
    type Error = WireError;

    fn try_from(message: wire::TaskStatus) -> Result<Self, WireError> {
        Ok(Self {
            name: name("name", message.name)?,
            phase: decode("phase", message.phase)?,
            since: Timestamp(message.since_ms),
            machine: name_if("machine", message.machine)?,
            alloc: name_if("alloc", message.alloc)?,
            incarnation: message.incarnation.map(Incarnation),
            version: message.version,
            is_healthy: !message.unhealthy,
            last_cause: message.last_cause.map(|it| words("last_cause", it)).transpose()?,
            failures: message.failures,
            placed_count: message.placed_count,
            not_before: message.not_before_ms.map(Timestamp),
            deadline: message.deadline_ms.map(Timestamp),
            limit: part("limit", message.limit)?,
            reservation: optional("reservation", message.reservation)?,
        })
    }
}

impl From<Room> for wire::machine_status::Room {
    fn from(own: Room) -> Self {
        let Room { cpu_milli, ram_bytes, disk_bytes, gpu_milli } = own;
        Self { cpu_milli, ram_bytes, disk_bytes, gpu_milli }
    }
}

impl From<wire::machine_status::Room> for Room {
    fn from(message: wire::machine_status::Room) -> Self {
        let wire::machine_status::Room { cpu_milli, ram_bytes, disk_bytes, gpu_milli } = message;
        Self { cpu_milli, ram_bytes, disk_bytes, gpu_milli }
    }
}

impl TryFrom<MachineStatus> for wire::MachineStatus {
    type Error = WireError;

    fn try_from(own: MachineStatus) -> Result<Self, WireError> {
        use wire::machine_status::Health as To;
        let (health, down_since_ms) = match own.health {
            Health::Unknown => (To::Unknown, None),
            Health::Up => (To::Up, None),
            Health::Down { since } => (To::Down, Some(since.0)),
        };
        Ok(Self {
            name: name("name", own.name)?,
            address: name("address", own.address)?,
            health: health.into(),
            down_since_ms,
            is_drained: own.is_drained,
            capacity: Some(own.capacity.into()),
            free_by_limits: Some(own.free_by_limits.into()),
            free_by_reservations: Some(own.free_by_reservations.into()),
            task_count: own.task_count,
        })
    }
}

impl TryFrom<wire::MachineStatus> for MachineStatus {
    type Error = WireError;

    fn try_from(message: wire::MachineStatus) -> Result<Self, WireError> {
        use wire::machine_status::Health as From;
        let unknown = |_| WireError::new("health", format!("{} is not known", message.health));
        let health = From::try_from(message.health).map_err(unknown)?;
        let health = match (health, message.down_since_ms) {
            (From::Unspecified, _) => return Err(WireError::missing("health")),
            (From::Unknown, None) => Health::Unknown,
            (From::Up, None) => Health::Up,
            (From::Down, Some(since)) => live::Health::Down { since: Timestamp(since) },
            (From::Down, None) => return Err(WireError::missing("down_since_ms")),
            (From::Unknown | From::Up, Some(_)) => {
                return Err(WireError::new("down_since_ms", "the machine is not down"));
            }
        };
        let room = |field, room: Option<wire::machine_status::Room>| required(field, room);
        Ok(Self {
            name: name("name", message.name)?,
            address: name("address", message.address)?,
            health,
            is_drained: message.is_drained,
            capacity: room("capacity", message.capacity)?.into(),
            free_by_limits: room("free_by_limits", message.free_by_limits)?.into(),
            free_by_reservations: room("free_by_reservations", message.free_by_reservations)?
                .into(),
            task_count: message.task_count,
        })
    }
}

impl TryFrom<QuotaStatus> for wire::QuotaStatus {
    type Error = WireError;

    fn try_from(own: QuotaStatus) -> Result<Self, WireError> {
        Ok(Self {
            user: name("user", own.user)?,
            band: own.band.code(),
            granted: own.granted.map(Into::into),
            used: Some(own.used.into()),
            until_ms: own.until.map(|until| until.0),
        })
    }
}

impl TryFrom<wire::QuotaStatus> for QuotaStatus {
    type Error = WireError;

    fn try_from(message: wire::QuotaStatus) -> Result<Self, WireError> {
        Ok(Self {
            user: name("user", message.user)?,
            band: decode("band", message.band)?,
            granted: message.granted.map(Into::into),
            used: required("used", message.used)?.into(),
            until: message.until_ms.map(Timestamp),
        })
    }
}

impl From<PlanningStatus> for wire::cell_status::Planning {
    fn from(own: PlanningStatus) -> Self {
        let PlanningStatus {
            replica,
            term,
            pass_count,
            conflicted_count,
            examined_count,
            placed_count,
            refused_count,
            staleness_entries_sum,
            staleness_entries_max,
        } = own;
        Self {
            replica,
            term,
            pass_count,
            conflicted_count,
            examined_count,
            placed_count,
            refused_count,
            staleness_entries_sum,
            staleness_entries_max,
        }
    }
}

impl From<wire::cell_status::Planning> for PlanningStatus {
    fn from(message: wire::cell_status::Planning) -> Self {
        let wire::cell_status::Planning {
            replica,
            term,
            pass_count,
            conflicted_count,
            examined_count,
            placed_count,
            refused_count,
            staleness_entries_sum,
            staleness_entries_max,
        } = message;
        Self {
            replica,
            term,
            pass_count,
            conflicted_count,
            examined_count,
            placed_count,
            refused_count,
            staleness_entries_sum,
            staleness_entries_max,
        }
    }
}

impl TryFrom<CellStatus> for wire::CellStatus {
    type Error = WireError;

    fn try_from(own: CellStatus) -> Result<Self, WireError> {
        Ok(Self {
            name: name("name", own.name)?,
            now_ms: own.now.0,
            index: own.index,
            hash: own.hash.to_be_bytes().to_vec(),
            machine_count: own.machine_count,
            machine_down_count: own.machine_down_count,
            machine_drained_count: own.machine_drained_count,
            is_mass_loss: own.is_mass_loss,
            job_count: own.job_count,
            alloc_set_count: own.alloc_set_count,
            ended_count: own.ended_count,
            tasks: Some(own.tasks.into()),
            session_count: own.session_count,
            settings: write_settings("settings", &own.settings)?,
            planning: own.planning.map(Into::into),
        })
    }
}

impl TryFrom<wire::CellStatus> for CellStatus {
    type Error = WireError;

    fn try_from(message: wire::CellStatus) -> Result<Self, WireError> {
        Ok(Self {
            name: name("name", message.name)?,
            now: Timestamp(message.now_ms),
            index: message.index,
            hash: read_hash("hash", &message.hash)?,
            machine_count: message.machine_count,
            machine_down_count: message.machine_down_count,
            machine_drained_count: message.machine_drained_count,
            is_mass_loss: message.is_mass_loss,
            job_count: message.job_count,
            alloc_set_count: message.alloc_set_count,
            ended_count: message.ended_count,
            tasks: required("tasks", message.tasks)?.into(),
            session_count: message.session_count,
            settings: read_settings("settings", message.settings)?,
            planning: message.planning.map(Into::into),
        })
    }
}
