//! `events`: what happened in the cell, and what happens.
//!
//! One line an event; in JSON one object a line. Followed across replicas: each of them keeps events from its
//! own start on, and where none has them any more that is said.

use std::time::Duration;

use cell::live::view::{describe_death, describe_exit};
use cell::live::{JobEnd, MachineStep, TaskStep, What};
use clap::Args;
use proto::event::{Events, Told, Watch};
use proto::reply::Unserved;
use proto::wire;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::args::Options;
use crate::client::{Client, Repeat};
use crate::failure::Failure;
use crate::output::{note, say};
use crate::show;

/// Between two attempts to go on after a break.
const AGAIN: Duration = Duration::from_millis(100);

#[derive(Args, Debug)]
pub(crate) struct EventsArgs {
    /// Go on with what happens
    #[arg(long)]
    follow: bool,
    /// Begin at this index of the log; without it at the oldest that the replica keeps
    #[arg(long, value_name = "INDEX")]
    from: Option<u64>,
}

/// An event in JSON.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Line {
    /// The log entry that it comes from.
    index: u64,
    /// When, in milliseconds since 1970.
    at: u64,
    /// What happened, in a word.
    what: &'static str,
    /// To which job.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<String>,
    /// To which task, `JOB/INDEX`.
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<String>,
    /// To which of its placements.
    #[serde(skip_serializing_if = "Option::is_none")]
    incarnation: Option<u64>,
    /// On which machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    machine: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    /// The event for people.
    text: String,
}

pub(crate) async fn run(
    args: &EventsArgs,
    options: &Options,
    client: &mut Client,
) -> Result<(), Failure> {
    let mut teller = Teller { is_json: options.json, told: (0, 0), seen: (0, 0) };
    let mut from_index = args.from.unwrap_or(0);
    let mut is_resumed = false;
    let mut behind_since: Option<Instant> = None;
    loop {
        let watch = Watch { from_index, follow: args.follow };
        let stream = client.ask(Repeat::Freely, |mut service| async move {
            let stream = service.events(wire::EventsRequest::from(watch)).await?;
            Ok(stream.into_inner())
        });
        let mut stream = match stream.await {
            Ok(stream) => stream,
            Err(Failure::NotInLog(Unserved::NotInLog { oldest_index, .. }))
                if is_resumed && from_index < oldest_index =>
            {
                let last = oldest_index - 1;
                note(&format!("events of the log's entries {from_index} to {last} are lost"));
                from_index = oldest_index;
                continue;
            }
            // It has not caught up with the one that was asked before.
            Err(failure @ Failure::NotInLog(_)) if is_resumed => {
                if behind_since.get_or_insert_with(Instant::now).elapsed() > client.patience() {
                    return Err(failure);
                }
                sleep(AGAIN).await;
                client.go_on();
                continue;
            }
            Err(Failure::NotInLog(it)) => {
                return Err(Failure::Failed(format!("{it}; --from takes one of these")));
            }
            Err(failure) => return Err(failure),
        };
        (is_resumed, behind_since) = (true, None);
        teller.seen = (0, 0);
        loop {
            match stream.message().await {
                Ok(Some(reply)) => {
                    let Events { events, next_index } =
                        Events::try_from(reply).map_err(|error| {
                            Failure::Failed(format!("the answer cannot be read: {error}"))
                        })?;
                    events.into_iter().try_for_each(|told| teller.tell(told))?;
                    from_index = next_index;
                }
                Ok(None) if !args.follow => return Ok(()),
                // Another replica goes on.
                Ok(None) | Err(_) => break,
            }
        }
        client.go_on();
        sleep(AGAIN).await;
    }
}

/// Prints events, each once: a stream that was broken off within an entry begins with that entry again. What
/// came of an entry is the same on every replica.
struct Teller {
    is_json: bool,
    /// The last entry of which something was told, and how many of its events.
    told: (u64, u64),
    /// The same of what the present stream brought.
    seen: (u64, u64),
}

impl Teller {
    fn is_new(&mut self, index: u64) -> bool {
        let count = if self.seen.0 == index { self.seen.1 + 1 } else { 1 };
        self.seen = (index, count);
        let is_new = self.seen > self.told;
        self.told = self.told.max(self.seen);
        is_new
    }

    fn tell(&mut self, told: Told) -> Result<(), Failure> {
        if !self.is_new(told.event.index) {
            return Ok(());
        }
        if self.is_json {
            let json = serde_json::to_string(&Line::of(told));
            return say(&json.map_err(|error| Failure::Failed(error.to_string()))?);
        }
        say(&format!("{} {} {}", told.event.index, show::time(told.event.at), told.text))
    }
}

impl Line {
    fn of(told: Told) -> Self {
        let Told { event, machine, text } = told;
        let mut line = Self {
            index: event.index,
            at: event.at.0,
            what: "",
            job: None,
            task: None,
            incarnation: None,
            machine,
            cause: None,
            text,
        };
        match event.what {
            What::Submitted { job, .. } => {
                line.what = "submitted";
                line.job = Some(job.to_string());
            }
            What::Updated { job, .. } => {
                line.what = "updated";
                line.job = Some(job.to_string());
            }
            What::Ended { job, end } => {
                line.what = match end {
                    JobEnd::Finished => "job-finished",
                    JobEnd::Failed => "job-failed",
                    JobEnd::Killed => "job-killed",
                };
                line.job = Some(job.to_string());
            }
            What::Task { job, task, incarnation, step, .. } => {
                line.task = Some(format!("{job}/{}", task.index));
                line.job = Some(job.to_string());
                line.incarnation = incarnation.map(|incarnation| incarnation.0);
                (line.what, line.cause) = of_step(&step);
            }
            What::Machine { step, .. } => {
                line.what = match step {
                    MachineStep::Added => "machine-added",
                    MachineStep::Up => "machine-up",
                    MachineStep::Down => "machine-down",
                    MachineStep::Drained => "machine-drained",
                    MachineStep::Repaired => "machine-repaired",
                    MachineStep::Removed => "machine-removed",
                };
            }
            What::Restored { .. } => line.what = "restored",
        }
        line
    }
}

fn of_step(step: &TaskStep) -> (&'static str, Option<String>) {
    match step {
        TaskStep::Scheduled => ("scheduled", None),
        TaskStep::Started => ("started", None),
        TaskStep::Notified(cause) => ("notified", Some(cause.name().to_owned())),
        TaskStep::Evicted(cause) => ("evicted", Some(cause.name().to_owned())),
        TaskStep::Exited(cause) => ("exited", Some(describe_exit(cause))),
        TaskStep::Died(cause) => ("died", Some(describe_death(cause))),
        TaskStep::Health(true) => ("healthy", None),
        TaskStep::Health(false) => ("unhealthy", None),
        TaskStep::Unassigned => ("unassigned", None),
    }
}

#[cfg(test)]
mod tests {
    use super::Teller;

    #[test]
    fn an_event_is_told_once_although_its_entry_is_told_again() {
        let mut teller = Teller { is_json: false, told: (0, 0), seen: (0, 0) };
        let mut read = |indexes: &[u64]| {
            teller.seen = (0, 0);
            indexes.iter().map(|index| teller.is_new(*index)).collect::<Vec<bool>>()
        };
        assert_eq!(read(&[4, 4, 5]), [true, true, true]);
        // Of entry 5 three events were on their way when the stream broke off.
        assert_eq!(read(&[5, 5, 5, 6]), [false, true, true, true]);
        assert_eq!(read(&[6, 7]), [false, true]);
    }
}
