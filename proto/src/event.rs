//! Events, as they are told to whoever watches.

use std::sync::Arc;

use cell::borglet::Incarnation;
use cell::live::view::describe;
use cell::live::{DeathCause, Event, State, TaskStep, Timestamp, What};
use cell::{MachineId, live};

use crate::error::{Inside, WireError, part, required};
use crate::limits::{EVENT_COUNT_MAX, cut, list, name, name_if, sized, words};
use crate::parts::{Coded, decode};
use crate::wire;

/// An event with what only the state knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The event.
    pub event: Event,
    /// The name of its machine, where it has one.
    pub machine: Option<String>,
    /// The event for people.
    pub text: String,
}

/// What of the events is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The first index of the log; 0: the oldest there is.
    pub from_index: u64,
    /// Whether to wait for what happens next.
    pub follow: bool,
}

/// Events in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// At most [`EVENT_COUNT_MAX`].
    pub events: Vec<Told>,
    /// Where to go on after a break: events of earlier indexes have all been told.
    pub next_index: u64,
}

impl Told {
    /// The event with what this state, at its index or later, knows of it.
    #[must_use]
    pub fn new(state: &State, event: Event) -> Self {
        let machine = match &event.what {
            What::Task { machine, .. } => *machine,
            What::Machine { machine, .. } => Some(*machine),
            What::Submitted { .. }
            | What::Updated { .. }
            | What::Ended { .. }
            | What::Restored { .. } => None,
        };
        let known = |id: MachineId| state.cell().machines.get(id.index());
        let machine = machine.and_then(known).map(|machine| machine.name.clone());
        let text = describe(state, &event);
        Self { event, machine, text }
    }
}

impl From<Watch> for wire::EventsRequest {
    fn from(own: Watch) -> Self {
        Self { from_index: own.from_index, follow: own.follow }
    }
}

impl From<wire::EventsRequest> for Watch {
    fn from(message: wire::EventsRequest) -> Self {
        Self { from_index: message.from_index, follow: message.follow }
    }
}

impl TryFrom<Events> for wire::EventsReply {
    type Error = WireError;

    fn try_from(own: Events) -> Result<Self, WireError> {
        let events = list("events", own.events, EVENT_COUNT_MAX, TryFrom::try_from)?;
        sized("events", Self { events, next_index: own.next_index })
    }
}

impl TryFrom<wire::EventsReply> for Events {
    type Error = WireError;

    fn try_from(message: wire::EventsReply) -> Result<Self, WireError> {
        let events = list("events", message.events, EVENT_COUNT_MAX, TryFrom::try_from)?;
        Ok(Self { events, next_index: message.next_index })
    }
}

impl TryFrom<Told> for wire::Event {
    type Error = WireError;

    fn try_from(own: Told) -> Result<Self, WireError> {
        use wire::event as to;
        use wire::event::What as To;
        let job_name = |field: &str, job: Arc<str>| name(field, job.as_ref().to_owned());
        let what = match own.event.what {
            What::Submitted { job, uid } => {
                To::Submitted(to::Submitted { job: job_name("submitted.job", job)?, uid })
            }
            What::Updated { job, version } => {
                To::Updated(to::Updated { job: job_name("updated.job", job)?, version })
            }
            What::Ended { job, end } => {
                To::Ended(to::Ended { job: job_name("ended.job", job)?, end: end.code() })
            }
            What::Task { job, task, incarnation, machine, step } => To::Task(to::Task {
                job: job_name("task.job", job)?,
                task: Some(task.into()),
                incarnation: incarnation.map(|incarnation| incarnation.0),
                machine: machine.map(|machine| machine.0),
                step: Some(step.into()),
            }),
            What::Machine { machine, step } => {
                To::Machine(to::Machine { machine: machine.0, step: step.code() })
            }
            What::Restored { from_index, kept_count, pending_count } => {
                To::Restored(to::Restored { from_index, kept_count, pending_count })
            }
        };
        Ok(Self {
            index: own.event.index,
            at_ms: own.event.at.0,
            what: Some(what),
            machine_name: name_if("machine_name", own.machine)?,
            text: cut(own.text),
        })
    }
}

impl TryFrom<wire::Event> for Told {
    type Error = WireError;

    fn try_from(message: wire::Event) -> Result<Self, WireError> {
        use wire::event::What as From;
        let job_name = |field: &str, job| name(field, job).map(Arc::from);
        let what = match required("what", message.what)? {
            From::Submitted(it) => {
                What::Submitted { job: job_name("submitted.job", it.job)?, uid: it.uid }
            }
            From::Updated(it) => {
                What::Updated { job: job_name("updated.job", it.job)?, version: it.version }
            }
            From::Ended(it) => What::Ended {
                job: job_name("ended.job", it.job)?,
                end: decode("ended.end", it.end)?,
            },
            From::Task(it) => What::Task {
                job: job_name("task.job", it.job)?,
                task: required("task.task", it.task)?.into(),
                incarnation: it.incarnation.map(Incarnation),
                machine: it.machine.map(MachineId),
                step: part("step", it.step).inside("task")?,
            },
            From::Machine(it) => What::Machine {
                machine: MachineId(it.machine),
                step: decode("machine.step", it.step)?,
            },
            From::Restored(it) => What::Restored {
                from_index: it.from_index,
                kept_count: it.kept_count,
                pending_count: it.pending_count,
            },
        };
        let event = Event { index: message.index, at: Timestamp(message.at_ms), what };
        let machine = name_if("machine_name", message.machine_name)?;
        Ok(Self { event, machine, text: words("text", message.text)? })
    }
}

impl From<TaskStep> for wire::event::task::Step {
    fn from(own: TaskStep) -> Self {
        use wire::event::Plain;
        match own {
            TaskStep::Scheduled => Self::Scheduled(Plain {}),
            TaskStep::Started => Self::Started(Plain {}),
            TaskStep::Notified(cause) => Self::Notified(cause.code()),
            TaskStep::Evicted(cause) => Self::Evicted(cause.code()),
            TaskStep::Exited(cause) => Self::Exited(cause.into()),
            TaskStep::Died(cause) => Self::Died(cause.into()),
            TaskStep::Health(is_healthy) => Self::Health(is_healthy),
            TaskStep::Unassigned => Self::Unassigned(Plain {}),
        }
    }
}

impl TryFrom<wire::event::task::Step> for TaskStep {
    type Error = WireError;

    fn try_from(message: wire::event::task::Step) -> Result<Self, WireError> {
        use wire::event::task::Step;
        Ok(match message {
            Step::Scheduled(_) => Self::Scheduled,
            Step::Started(_) => Self::Started,
            Step::Notified(cause) => Self::Notified(decode("notified", cause)?),
            Step::Evicted(cause) => Self::Evicted(decode("evicted", cause)?),
            Step::Exited(cause) => Self::Exited(cause.try_into().inside("exited")?),
            Step::Died(cause) => Self::Died(cause.try_into().inside("died")?),
            Step::Health(is_healthy) => Self::Health(is_healthy),
            Step::Unassigned(_) => Self::Unassigned,
        })
    }
}

impl From<DeathCause> for wire::event::Death {
    fn from(own: DeathCause) -> Self {
        use wire::event::{Plain, death::Cause};
        let cause = match own {
            DeathCause::Finished => Cause::Finished(Plain {}),
            DeathCause::Failed(exit) => Cause::Failed(exit.into()),
            DeathCause::Killed => Cause::Killed(Plain {}),
        };
        Self { cause: Some(cause) }
    }
}

impl TryFrom<wire::event::Death> for DeathCause {
    type Error = WireError;

    fn try_from(message: wire::event::Death) -> Result<Self, WireError> {
        use wire::event::death::Cause;
        Ok(match required("cause", message.cause)? {
            Cause::Finished(_) => Self::Finished,
            Cause::Failed(exit) => live::DeathCause::Failed(exit.try_into().inside("failed")?),
            Cause::Killed(_) => Self::Killed,
        })
    }
}
