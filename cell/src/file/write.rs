//! Writing a cell file.

use std::borrow::Borrow;
use std::io::{self, Write};

use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

use super::{End, FORMAT, Header};
use crate::live::{Entry, JobRecord, MachineRecord, Saving, Session, State};

/// A line after the header, as it is written.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum Line<'a> {
    State(&'a Saving<'a>),
    Machine(&'a MachineRecord),
    Job(crate::JobId, &'a JobRecord),
    Session(u64, &'a Session),
    Entry(u64, Option<&'a Entry>),
    End(&'a End),
}

/// Why a cell file cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It could not be written out.
    #[error("cannot write the cell file")]
    Io(#[from] io::Error),
    /// The log that was given has a hole, or does not begin after the state.
    #[error("entry {found} of the log comes where {expected} is expected")]
    Gap {
        /// The index that should have been there.
        expected: u64,
        /// The one that was.
        found: u64,
    },
    /// The log that was given is shorter or longer than was said.
    #[error("the log ends at {found}, not at {expected}")]
    Short {
        /// The last index as it was said.
        expected: u64,
        /// The last index of the log.
        found: u64,
    },
}

/// What is written, and the checksum over it.
struct Sink<'w, W> {
    out: &'w mut W,
    sum: Xxh3,
    line: Vec<u8>,
}

impl<W: Write> Sink<'_, W> {
    fn put(&mut self, record: &impl Serialize) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, record)?;
        self.line.push(b'\n');
        self.sum.update(&self.line);
        self.out.write_all(&self.line)
    }
}

/// Writes a state and the log after it, up to `last_index`. An entry that holds nothing for the cell is
/// `None`. Entries are taken one by one, so that they need not be in memory all at once.
///
/// # Errors
/// If it cannot be written, or the log does not go from the state to `last_index` without a hole.
pub fn write<E: Borrow<Entry>>(
    out: &mut impl Write,
    state: &State,
    log: impl IntoIterator<Item = (u64, Option<E>)>,
    last_index: u64,
) -> Result<(), WriteError> {
    let mut sink = Sink { out, sum: Xxh3::new(), line: Vec::new() };
    sink.put(&Header {
        cell_file: FORMAT,
        cell: state.settings().cell_name.clone(),
        first_index: state.index(),
        last_index,
    })?;
    let mut head = state.saving();
    let machines = std::mem::take(&mut head.machines);
    let jobs = std::mem::take(&mut head.jobs);
    let sessions = std::mem::take(&mut head.sessions);
    sink.put(&Line::State(&head))?;
    let counts = (machines.len(), jobs.len(), sessions.len());
    for machine in machines {
        sink.put(&Line::Machine(machine))?;
    }
    for (slot, job) in jobs {
        sink.put(&Line::Job(slot, job))?;
    }
    for (id, session) in sessions {
        sink.put(&Line::Session(id, session))?;
    }
    let mut at = state.index();
    let mut entries = 0;
    for (index, entry) in log {
        if index != at + 1 {
            return Err(WriteError::Gap { expected: at + 1, found: index });
        }
        sink.put(&Line::Entry(index, entry.as_ref().map(Borrow::borrow)))?;
        at = index;
        entries += 1;
    }
    if at != last_index {
        return Err(WriteError::Short { expected: last_index, found: at });
    }
    let (machines, jobs, sessions) = counts;
    let xxh3 = format!("{:016x}", sink.sum.digest());
    sink.put(&Line::End(&End { machines, jobs, sessions, entries, xxh3 }))?;
    Ok(())
}
