//! The rows of the tables `machine_events` and `task_events` as typed events, in the order of the file.
//!
//! In: one part of a table. Out: an event a row, or what is wrong with the row. Every row is read and
//! checked, whatever its time. Does not know what came before: that is for [`audit`](super::audit).

use std::marker::PhantomData;

use super::scale::{Amounts, read_flag, read_priority};
use crate::error::TraceError;
use crate::input::{InputFile, Place};
use crate::table::{Header, Row, Table};

/// Time in microseconds; 0 is "before the trace", and 2^63 − 1 "after its end".
pub(super) type TimeUs = u64;

/// What happened to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MachineEventKind {
    Add,
    Remove,
    Update,
}

/// A row of `machine_events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MachineEvent {
    pub(super) place: Place,
    pub(super) time: TimeUs,
    pub(super) machine: u64,
    pub(super) kind: MachineEventKind,
    /// A hash that stands for microarchitecture and chipset.
    pub(super) platform: String,
    pub(super) capacity: Amounts,
}

/// What happened to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TaskEventKind {
    Submit,
    Schedule,
    Evict,
    Fail,
    Finish,
    Kill,
    Lost,
    UpdatePending,
    UpdateRunning,
}

/// A task by the trace's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TaskKey {
    pub(super) job: u64,
    pub(super) index: u32,
}

/// A row of `task_events`. The scheduling class is checked when it is read, and not kept: it tells how
/// latency-sensitive a task is on its machine, which nothing here asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TaskEvent {
    pub(super) place: Place,
    pub(super) time: TimeUs,
    /// Whether Google put the row in for one that was lost.
    pub(super) is_imputed: bool,
    pub(super) task: TaskKey,
    pub(super) machine: Option<u64>,
    pub(super) kind: TaskEventKind,
    /// A hash that stands for a user.
    pub(super) user: String,
    /// As the trace numbers them, 0..=11.
    pub(super) priority: u8,
    pub(super) request: Amounts,
    pub(super) different_machines: Option<bool>,
}

/// The events of one part of `machine_events`.
pub(super) fn machine_events(file: &InputFile) -> Result<Events<'_, MachineEvent>, TraceError> {
    const COLUMNS: &[&str] =
        &["time", "machine_id", "event_type", "platform_id", "cpu_capacity", "memory_capacity"];
    Events::open(file, COLUMNS)
}

/// The events of one part of `task_events`.
pub(super) fn task_events(file: &InputFile) -> Result<Events<'_, TaskEvent>, TraceError> {
    const COLUMNS: &[&str] = &[
        "time",
        "missing_info",
        "job_id",
        "task_index",
        "machine_id",
        "event_type",
        "user",
        "scheduling_class",
        "priority",
        "cpu_request",
        "memory_request",
        "disk_request",
        "different_machines",
    ];
    Events::open(file, COLUMNS)
}

/// What a row of a table says.
pub(super) trait Event: Sized {
    /// Reads a row, whose columns are those that the table was opened with.
    fn read(row: &Row<'_>) -> Result<Self, TraceError>;
}

/// A stream of events.
pub(super) struct Events<'a, E> {
    table: Table<'a>,
    event: PhantomData<E>,
}

impl<'a, E> Events<'a, E> {
    fn open(file: &'a InputFile, columns: &'static [&'static str]) -> Result<Self, TraceError> {
        let table = Table::open(file, Header::None, columns, columns.len())?;
        Ok(Self { table, event: PhantomData })
    }
}

impl<E: Event> Iterator for Events<'_, E> {
    type Item = Result<E, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.table.next_row()?.and_then(|row| E::read(&row)))
    }
}

impl Event for MachineEvent {
    fn read(row: &Row<'_>) -> Result<Self, TraceError> {
        Ok(Self {
            place: row.place().clone(),
            time: row.integer(0)?,
            machine: row.integer(1)?,
            kind: row.parsed(2, "a machine event type, 0 to 2", |text| match text {
                "0" => Some(MachineEventKind::Add),
                "1" => Some(MachineEventKind::Remove),
                "2" => Some(MachineEventKind::Update),
                _ => None,
            })?,
            platform: row.required(3)?.to_owned(),
            capacity: Amounts::read(row, 4, 5, None)?,
        })
    }
}

impl Event for TaskEvent {
    fn read(row: &Row<'_>) -> Result<Self, TraceError> {
        let is_imputed = match row.optional(1)? {
            None => false,
            Some("0" | "1" | "2") => true,
            Some(text) => {
                let problem = format!("{} is not 0 to 2, or empty", crate::error::quoted(text));
                return Err(row.error(1, problem));
            }
        };
        let machine = row.optional(4)?.map(|_| row.integer(4)).transpose()?;
        row.parsed(7, "a scheduling class, 0 to 3", |text| {
            matches!(text, "0" | "1" | "2" | "3").then_some(())
        })?;
        Ok(Self {
            place: row.place().clone(),
            time: row.integer(0)?,
            is_imputed,
            task: TaskKey { job: row.integer(2)?, index: row.integer(3)? },
            machine,
            kind: row.parsed(5, "a task event type, 0 to 8", |text| match text {
                "0" => Some(TaskEventKind::Submit),
                "1" => Some(TaskEventKind::Schedule),
                "2" => Some(TaskEventKind::Evict),
                "3" => Some(TaskEventKind::Fail),
                "4" => Some(TaskEventKind::Finish),
                "5" => Some(TaskEventKind::Kill),
                "6" => Some(TaskEventKind::Lost),
                "7" => Some(TaskEventKind::UpdatePending),
                "8" => Some(TaskEventKind::UpdateRunning),
                _ => None,
            })?,
            user: row.required(6)?.to_owned(),
            priority: read_priority(row, 8)?,
            request: Amounts::read(row, 9, 10, Some(11))?,
            different_machines: read_flag(row, 12)?,
        })
    }
}
