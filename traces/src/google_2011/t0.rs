//! The cell of Google's 2011 trace at time 0, from two small files derived from its tables.
//!
//! In: `cell_t0_machines.csv` and `cell_t0_tasks.csv`, gzip or plain, with a header. Out: a cell equal
//! to the one that the tables give. A copy of Google's cell is bundled.

use std::path::Path;

use cell::Cell;

use super::scale::{Amounts, read_flag, read_priority};
use super::snapshot::{self, SnapshotMachine, SnapshotTask};
use crate::doctor::{Examiner, FindingKind};
use crate::error::TraceError;
use crate::input::{InputFile, InputHash, Place, label};
use crate::table::{Header, Row, Table};

const MACHINES: &str = "cell_t0_machines.csv";
const TASKS: &str = "cell_t0_tasks.csv";

const MACHINE_COLUMNS: &[&str] = &["machine_id", "platform", "cpu_capacity", "memory_capacity"];
const TASK_COLUMNS: &[&str] = &[
    "job_id",
    "task_index",
    "machine_id",
    "state",
    "priority",
    "scheduling_class",
    "user_no",
    "cpu_request",
    "memory_request",
    "disk_request",
    "different_machines",
];

/// Reads the bundled files.
pub(crate) fn read_bundled(
    examiner: &mut Examiner,
    hash: &mut InputHash,
) -> Result<Cell, TraceError> {
    const MACHINES_GZ: &[u8] = include_bytes!("../../data/google-2011-t0/cell_t0_machines.csv.gz");
    const TASKS_GZ: &[u8] = include_bytes!("../../data/google-2011-t0/cell_t0_tasks.csv.gz");
    let bundled = |name, bytes| InputFile::embedded(&format!("google-2011-t0/{name}.gz"), bytes);
    read_files(&bundled(MACHINES, MACHINES_GZ), &bundled(TASKS, TASKS_GZ), examiner, hash)
}

/// Reads the files of a folder.
pub(crate) fn read(
    folder: &Path,
    examiner: &mut Examiner,
    hash: &mut InputHash,
) -> Result<Cell, TraceError> {
    let file = |name: &str| {
        let zipped = folder.join(format!("{name}.gz"));
        let plain = folder.join(name);
        match (zipped.is_file(), plain.is_file()) {
            (true, false) => InputFile::read(&zipped),
            (false, true) => InputFile::read(&plain),
            (true, true) => Err(TraceError::Unreadable {
                file: label(folder),
                problem: format!("holds both `{name}.gz` and `{name}`"),
            }),
            (false, false) => Err(TraceError::Unreadable {
                file: label(folder),
                problem: format!("holds neither `{name}.gz` nor `{name}`"),
            }),
        }
    };
    read_files(&file(MACHINES)?, &file(TASKS)?, examiner, hash)
}

fn read_files(
    machines_file: &InputFile,
    tasks_file: &InputFile,
    examiner: &mut Examiner,
    hash: &mut InputHash,
) -> Result<Cell, TraceError> {
    for file in [machines_file, tasks_file] {
        hash.add(file.name(), file);
    }
    let machines = read_table(machines_file, MACHINE_COLUMNS, examiner, read_machine)?;
    for SnapshotMachine { place, id, capacity, .. } in &machines {
        note_clipped(place, &format_args!("machine {id}"), *capacity, examiner);
    }
    let tasks = read_table(tasks_file, TASK_COLUMNS, examiner, read_task)?;
    for SnapshotTask { place, job, index, request, .. } in &tasks {
        note_clipped(place, &format_args!("task {job}/{index}"), *request, examiner);
    }
    snapshot::build("user_no", machines, tasks, examiner)
}

fn read_table<T>(
    file: &InputFile,
    columns: &'static [&'static str],
    examiner: &mut Examiner,
    read: impl Fn(&Row<'_>) -> Result<T, TraceError>,
) -> Result<Vec<T>, TraceError> {
    let mut table = Table::open(file, Header::FirstLine, columns, columns.len())?;
    examiner.open(&file.label);
    let mut rows = Vec::new();
    while let Some(row) = table.next_row() {
        rows.extend(examiner.admit(row.and_then(|row| read(&row)))?);
    }
    Ok(rows)
}

fn read_machine(row: &Row<'_>) -> Result<SnapshotMachine, TraceError> {
    Ok(SnapshotMachine {
        place: row.place().clone(),
        id: row.integer(0)?,
        platform: row.required(1)?.to_owned(),
        capacity: Amounts::read(row, 2, 3, None)?,
    })
}

fn read_task(row: &Row<'_>) -> Result<SnapshotTask, TraceError> {
    row.parsed(5, "a scheduling class, 0 to 3", |text| {
        matches!(text, "0" | "1" | "2" | "3").then_some(())
    })?;
    Ok(SnapshotTask {
        place: row.place().clone(),
        job: row.integer(0)?,
        index: row.integer(1)?,
        machine: row.optional(2)?.map(|_| row.integer(2)).transpose()?,
        is_running: row.parsed(3, "`running` or `pending`", |text| match text {
            "running" => Some(true),
            "pending" => Some(false),
            _ => None,
        })?,
        priority: read_priority(row, 4)?,
        user: row.integer(6)?,
        request: Amounts::read(row, 7, 8, Some(9))?,
        different_machines: read_flag(row, 10)?,
    })
}

fn note_clipped(
    place: &Place,
    of: &dyn std::fmt::Display,
    amounts: Amounts,
    examiner: &mut Examiner,
) {
    for _ in 0..amounts.clipped_count {
        examiner.note(FindingKind::ClippedValue, place, || {
            format!("{of} has an amount above the largest machine: taken as 1")
        });
    }
}
