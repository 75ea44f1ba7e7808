//! Reading a cell file.

use std::io::{self, BufRead, Read};

use serde::Deserialize;
use xxhash_rust::xxh3::Xxh3;

use super::{CellFile, End, FORMAT, Header};
use crate::JobId;
use crate::live::{Entry, JobRecord, MachineRecord, Saved, SavedError, Session, State};

/// So many bytes are in a line at most. Many times what the largest job takes; what is
/// longer is no cell file, and is not held in memory to find that out.
const LINE_BYTE_COUNT_MAX: u64 = 1 << 30;

/// How a cell file begins.
const NAME: &[u8] = br#"{"cell_file""#;

/// A line after the header, as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    State(Box<Saved>),
    Machine(Box<MachineRecord>),
    Job(JobId, Box<JobRecord>),
    Session(u64, Session),
    Entry(u64, Option<Entry>),
    End(End),
}

/// Why a cell file cannot be read. Lines are counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum CellFileError {
    /// It could not be read.
    #[error("line {line}: cannot be read")]
    Io {
        /// The line.
        line: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is something else.
    #[error("line 1: not a cell file: it does not begin with {{\"cell_file\": …}}")]
    NotACellFile,
    /// A newer version wrote it.
    #[error(
        "line 1: field `cell_file`: format {found} is newer than {FORMAT}, the newest that this version \
         reads: use a newer version"
    )]
    TooNew {
        /// The format found.
        found: u64,
    },
    /// It ends too early.
    #[error("line {line}: the file is cut short here: it has no `end`; copy it again")]
    Truncated {
        /// The line at which something is missing.
        line: u64,
    },
    /// A line is no record, or a field of it is wrong.
    #[error("line {line}: field `{field}`: {problem}; the file is damaged")]
    Malformed {
        /// The line.
        line: u64,
        /// The field; `.` where the line is no record at all.
        field: String,
        /// What is wrong.
        problem: String,
    },
    /// A record is where it does not belong.
    #[error("line {line}: {problem}; the file is damaged")]
    Misplaced {
        /// The line.
        line: u64,
        /// What is wrong.
        problem: String,
    },
    /// An entry of the log is missing, or is there twice.
    #[error("line {line}: entry {found} of the log comes where {expected} is expected")]
    Gap {
        /// The line.
        line: u64,
        /// The index that should be there.
        expected: u64,
        /// The one that is.
        found: u64,
    },
    /// Its checksum is wrong.
    #[error(
        "line {line}: field `xxh3`: the checksum is {found}, not {stated}: the file is damaged; copy it again"
    )]
    Checksum {
        /// The last line.
        line: u64,
        /// The checksum of the bytes.
        found: String,
        /// The one in the file.
        stated: String,
    },
    /// Its counts are wrong.
    #[error("line {line}: there are {found} {what}, not {stated}; the file is damaged")]
    Count {
        /// The last line.
        line: u64,
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there should be.
        stated: usize,
    },
    /// The state contradicts itself.
    #[error("line 2: the state cannot be used")]
    State(#[source] SavedError),
}

/// Lines, their number, and the checksum over them.
struct Source<R> {
    input: R,
    line: u64,
    sum: Xxh3,
    buffer: Vec<u8>,
}

impl<R: BufRead> Source<R> {
    /// Reads the next line, if there is one. It is not in the checksum yet.
    fn next(&mut self) -> Result<bool, CellFileError> {
        self.line += 1;
        let line = self.line;
        self.buffer.clear();
        let mut limited = self.input.by_ref().take(LINE_BYTE_COUNT_MAX);
        limited.read_until(b'\n', &mut self.buffer).map_err(|source| {
            // A compressed file that is cut short.
            if source.kind() == io::ErrorKind::UnexpectedEof {
                return CellFileError::Truncated { line };
            }
            CellFileError::Io { line, source }
        })?;
        match self.buffer.last() {
            None => Ok(false),
            Some(b'\n') => Ok(true),
            Some(_) if self.buffer.len() as u64 == LINE_BYTE_COUNT_MAX => {
                let problem = format!("it is longer than {LINE_BYTE_COUNT_MAX} bytes");
                Err(CellFileError::Misplaced { line, problem })
            }
            Some(_) => Err(CellFileError::Truncated { line }),
        }
    }

    /// Takes the line that was just read into the checksum.
    fn count(&mut self) {
        self.sum.update(&self.buffer);
    }

    fn record(&mut self) -> Result<Option<Line>, CellFileError> {
        Ok(if self.next()? { Some(parse(self.line, &self.buffer)?) } else { None })
    }

    fn header(&mut self) -> Result<Header, CellFileError> {
        /// What every version's header has.
        #[derive(Deserialize)]
        struct Any {
            cell_file: u64,
        }
        let is_there = self.next();
        match is_there {
            Ok(true) => {}
            Err(CellFileError::Truncated { .. }) if self.buffer.starts_with(NAME) => {
                return Err(CellFileError::Truncated { line: 1 });
            }
            Ok(false) | Err(CellFileError::Truncated { .. }) => {
                return Err(CellFileError::NotACellFile);
            }
            Err(error) => return Err(error),
        }
        let Any { cell_file: found } =
            serde_json::from_slice(&self.buffer).map_err(|_| CellFileError::NotACellFile)?;
        if found > FORMAT {
            return Err(CellFileError::TooNew { found });
        }
        if found < FORMAT {
            let (field, problem) = ("cell_file".to_owned(), format!("there is no format {found}"));
            return Err(CellFileError::Malformed { line: 1, field, problem });
        }
        let header = parse(1, &self.buffer)?;
        self.count();
        Ok(header)
    }
}

/// The record in a line; an error names the field.
fn parse<T: for<'de> Deserialize<'de>>(line: u64, bytes: &[u8]) -> Result<T, CellFileError> {
    serde_json::from_slice(bytes).map_err(|error| {
        // Only now: to know the field costs time.
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let problem = |error: &serde_json::Error| {
            let text = error.to_string();
            // The line is the file's, not that of the text.
            let at = format!(" at line {} column {}", error.line(), error.column());
            match text.strip_suffix(&at) {
                Some(text) if error.column() > 0 => format!("{text} at column {}", error.column()),
                _ => text,
            }
        };
        match serde_path_to_error::deserialize::<_, T>(&mut json) {
            Err(at) => CellFileError::Malformed {
                line,
                field: at.path().to_string(),
                problem: problem(at.inner()),
            },
            // What is wrong comes after the record.
            Ok(_) => {
                CellFileError::Malformed { line, field: ".".to_owned(), problem: problem(&error) }
            }
        }
    })
}

impl CellFile {
    /// Reads a cell file, all of it.
    ///
    /// # Errors
    /// If it is none, of a newer version, cut short or damaged; the message names line and field.
    pub fn read(input: impl BufRead) -> Result<Self, CellFileError> {
        let mut source = Source { input, line: 0, sum: Xxh3::new(), buffer: Vec::new() };
        let header = source.header()?;
        let mut saved: Option<Box<Saved>> = None;
        let mut log: Vec<(u64, Option<Entry>)> = Vec::new();
        let mut expected = header.first_index.saturating_add(1);
        let end = loop {
            let record = source.record()?;
            let line = source.line;
            let misplaced =
                |problem: &str| Err(CellFileError::Misplaced { line, problem: problem.to_owned() });
            let Some(record) = record else { return Err(CellFileError::Truncated { line }) };
            let Some(state) = &mut saved else {
                let Line::State(head) = record else {
                    return misplaced("the state has to come first");
                };
                if head.index != header.first_index {
                    return misplaced("the state is of another index than the header says");
                }
                saved = Some(head);
                source.count();
                continue;
            };
            match record {
                Line::End(end) => break end,
                Line::State(_) => return misplaced("a second state"),
                Line::Entry(found, _) if found != expected => {
                    return Err(CellFileError::Gap { line, expected, found });
                }
                Line::Entry(index, entry) => {
                    log.push((index, entry));
                    expected = expected.saturating_add(1);
                }
                Line::Machine(_) | Line::Job(..) | Line::Session(..) if !log.is_empty() => {
                    return misplaced("a part of the state comes after the log has begun");
                }
                Line::Machine(machine) => state.machines.push(*machine),
                Line::Job(slot, job) => state.jobs.push((slot, *job)),
                Line::Session(id, session) => state.sessions.push((id, session)),
            }
            source.count();
        };
        let line = source.line;
        let found = format!("{:016x}", source.sum.digest());
        if source.next()? {
            let problem = "something follows the end".to_owned();
            return Err(CellFileError::Misplaced { line: source.line, problem });
        }
        let Some(saved) = saved else { return Err(CellFileError::Truncated { line }) };
        if found != end.xxh3 {
            return Err(CellFileError::Checksum { line, found, stated: end.xxh3 });
        }
        for (what, found, stated) in [
            ("machines", saved.machines.len(), end.machines),
            ("jobs", saved.jobs.len(), end.jobs),
            ("sessions", saved.sessions.len(), end.sessions),
            ("entries", log.len(), end.entries),
        ] {
            if found != stated {
                return Err(CellFileError::Count { line, what, found, stated });
            }
        }
        if expected != header.last_index.saturating_add(1) {
            return Err(CellFileError::Gap {
                line,
                expected: header.last_index,
                found: expected.saturating_sub(1),
            });
        }
        let state = State::from_saved(*saved).map_err(CellFileError::State)?;
        Ok(Self { state, log })
    }
}
