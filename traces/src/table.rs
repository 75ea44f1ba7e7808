//! Tables: csv files, plain or gzip, with or without a header.
//!
//! In: a file, and the names of the columns wanted. Out: its rows one by one, each field on request,
//! and errors that name the file, the line and the field. Knows no trace format.

use std::io::Read;
use std::str::{self, FromStr};

use csv::{ByteRecord, Terminator};

use crate::error::{TraceError, one_line, quoted};
use crate::input::{InputFile, Place};

/// Where a table's column names stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// On the first line, in any order, perhaps among others.
    FirstLine,
    /// Nowhere: the columns are these, in this order, and there are no others.
    None,
}

/// A table that is being read. Columns are named by their position in the list that it was opened
/// with.
pub(crate) struct Table<'a> {
    file: &'a InputFile,
    reader: csv::Reader<Box<dyn Read + 'a>>,
    names: &'static [&'static str],
    /// The position in the file of each column; `None` where an optional one is absent.
    positions: Vec<Option<usize>>,
    /// How many fields each row must have.
    width: usize,
    record: ByteRecord,
    /// The line on which the record begins; from 1.
    line: u64,
    /// Set after an error from which reading cannot go on.
    ended: bool,
}

impl<'a> Table<'a> {
    /// Opens a table. The first `required` columns must be there; the rest may all be absent, or none
    /// of them.
    pub(crate) fn open(
        file: &'a InputFile,
        header: Header,
        names: &'static [&'static str],
        required: usize,
    ) -> Result<Self, TraceError> {
        // The last line, too, ends in a line feed: `advance` relies on it. One more is a blank line.
        let text: Box<dyn Read + 'a> = Box::new(file.text().chain(&b"\n"[..]));
        let reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            // A carriage return before it is trimmed with the field. The default terminator takes it for
            // the end of the line, and then counts the lines wrong.
            .terminator(Terminator::Any(b'\n'))
            .from_reader(text);
        let mut table = Self {
            file,
            reader,
            names,
            positions: (0..names.len()).map(Some).collect(),
            width: names.len(),
            record: ByteRecord::new(),
            line: 0,
            ended: false,
        };
        if header == Header::FirstLine {
            table.read_header(required)?;
        }
        Ok(table)
    }

    fn read_header(&mut self, required: usize) -> Result<(), TraceError> {
        self.advance()?;
        let place = Place { file: self.file.label.clone(), line: self.line.max(1) };
        let mut found: Vec<&[u8]> = self.record.iter().map(<[u8]>::trim_ascii).collect();
        if let Some(first) = found.first_mut() {
            *first = first.strip_prefix("\u{feff}".as_bytes()).unwrap_or(first);
        }
        self.width = found.len();
        let find = |name: &str| found.iter().position(|have| *have == name.as_bytes());
        self.positions = self.names.iter().map(|name| find(name)).collect();
        let optional_absent = self.positions[required..].iter().all(Option::is_none);
        for (column, (name, position)) in self.names.iter().zip(&self.positions).enumerate() {
            if position.is_none() && (column < required || !optional_absent) {
                return Err(place.field(*name, "there is no such column in the header"));
            }
            if found.iter().filter(|have| **have == name.as_bytes()).count() > 1 {
                return Err(place.field(*name, "this column is there twice"));
            }
        }
        Ok(())
    }

    /// The next row, or `None` after the last. A wrong row is an error after which the next can be
    /// read; after a broken-off file there is no next.
    pub(crate) fn next_row(&mut self) -> Option<Result<Row<'_>, TraceError>> {
        if self.ended {
            return None;
        }
        match self.advance() {
            Err(error) => Some(Err(error)),
            Ok(false) => None,
            Ok(true) => Some(self.row()),
        }
    }

    /// Reads the next record that is not a blank line; `false` at the end.
    fn advance(&mut self) -> Result<bool, TraceError> {
        loop {
            let more = self.reader.read_byte_record(&mut self.record);
            self.ended = !matches!(more, Ok(true));
            if !more.map_err(|error| self.broken_off(&error))? {
                return Ok(false);
            }
            // The record's own position is that of the blank lines before it, so count from its end.
            let after = self.reader.position().line();
            let inner = self.record.as_slice().iter().filter(|byte| **byte == b'\n').count() as u64;
            self.line = after.saturating_sub(inner + 1).max(1);
            if self.record.len() != 1 || !self.record[0].trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }

    fn broken_off(&self, error: &csv::Error) -> TraceError {
        let problem = if let csv::ErrorKind::Io(error) = error.kind() {
            format!("damaged, or ends early: {error}")
        } else {
            error.to_string()
        };
        TraceError::BrokenOff {
            file: self.file.label.to_string(),
            line: self.reader.position().line(),
            problem: one_line(&problem),
        }
    }

    fn row(&self) -> Result<Row<'_>, TraceError> {
        let line = self.line;
        let row = Row { table: self, place: Place { file: self.file.label.clone(), line } };
        let count = self.record.len();
        if count < self.width {
            let is_missing = |position: &Option<usize>| position.is_some_and(|at| at >= count);
            if let Some(column) = self.positions.iter().position(is_missing) {
                let problem = format!("missing: the row has {count} of {} fields", self.width);
                return Err(row.error(column, problem));
            }
        }
        if count != self.width {
            let problem = format!("the row has {count} fields instead of {}", self.width);
            return Err(TraceError::Row { file: row.place.file.to_string(), line, problem });
        }
        Ok(row)
    }
}

/// One row of a table.
pub(crate) struct Row<'a> {
    table: &'a Table<'a>,
    place: Place,
}

impl Row<'_> {
    /// Its file and line.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Whether the file has this column.
    pub(crate) fn has(&self, column: usize) -> bool {
        self.table.positions[column].is_some()
    }

    /// An error about one of its fields.
    pub(crate) fn error(&self, column: usize, problem: impl Into<String>) -> TraceError {
        self.place.field(self.table.names[column], problem)
    }

    /// A field's text; `None` where it is empty or the column is absent.
    pub(crate) fn optional(&self, column: usize) -> Result<Option<&str>, TraceError> {
        let bytes = self.table.positions[column].and_then(|at| self.table.record.get(at));
        match bytes.map(<[u8]>::trim_ascii) {
            None | Some([]) => Ok(None),
            Some(bytes) => str::from_utf8(bytes)
                .map(Some)
                .map_err(|_| self.error(column, format!("not UTF-8: {}", lossy(bytes)))),
        }
    }

    /// A field's text, which must not be empty.
    pub(crate) fn required(&self, column: usize) -> Result<&str, TraceError> {
        self.optional(column)?.ok_or_else(|| self.error(column, "is empty"))
    }

    /// A field that `parse` understands, which must not be empty; `expected` completes "is not …".
    pub(crate) fn parsed<T>(
        &self,
        column: usize,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, TraceError> {
        let text = self.required(column)?;
        parse(text).ok_or_else(|| self.error(column, format!("{} is not {expected}", quoted(text))))
    }

    /// An unsigned integer.
    pub(crate) fn integer<T: FromStr>(&self, column: usize) -> Result<T, TraceError> {
        self.parsed(column, "an unsigned integer (of the size that fits here)", |text| {
            text.parse().ok()
        })
    }
}

fn lossy(bytes: &[u8]) -> String {
    quoted(&String::from_utf8_lossy(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &[&str] = &["a", "b", "c"];

    /// The rows of a table as `LINE:A,C`, and errors as their message; or why it cannot be opened.
    fn read(text: &'static str, header: Header) -> Result<Vec<String>, String> {
        let file = InputFile::embedded("f.csv", text.as_bytes());
        let mut table = Table::open(&file, header, NAMES, 2).map_err(|error| error.to_string())?;
        let mut rows = Vec::new();
        while let Some(row) = table.next_row() {
            let text = row.and_then(|row| {
                let c = row.optional(2)?.unwrap_or("-").to_owned();
                Ok(format!("{}:{},{c}", row.place().line, row.required(0)?))
            });
            rows.push(text.unwrap_or_else(|error| error.to_string()));
        }
        Ok(rows)
    }

    #[test]
    fn rows_have_their_lines_whatever_ends_them() {
        let check = |text, expected: &[&str]| {
            assert_eq!(read(text, Header::None).unwrap(), expected, "{text:?}");
        };
        check("1,2,3\n4,5,6\n", &["1:1,3", "2:4,6"]);
        check("1,2,3\r\n4,5,6", &["1:1,3", "2:4,6"]);
        check("1,2,3\n\n\n4,5,\n", &["1:1,3", "4:4,-"]); // blank lines are no rows
        check("\r\n1,2,3\r\n\r\n4,5,6\r\n", &["2:1,3", "4:4,6"]);
        check("\"1\",2,\"3,\n4\"\n5,6,7\n", &["1:1,3,\n4", "3:5,7"]);
        check("", &[]);
    }

    #[test]
    fn a_wrong_row_does_not_end_the_table() {
        let rows = read("1,2,3\n4,5\n6,7,8,9\n,2,3\n1,2,3\n", Header::None).unwrap();
        assert_eq!(
            rows,
            [
                "1:1,3",
                "f.csv:2: field `c`: missing: the row has 2 of 3 fields",
                "f.csv:3: the row has 4 fields instead of 3",
                "f.csv:4: field `a`: is empty",
                "5:1,3"
            ]
        );
    }

    #[test]
    fn columns_stand_in_any_order_under_a_header() {
        let check = |text, expected: Result<&[&str], &str>| {
            let expected = expected
                .map(|rows| rows.iter().map(|row| (*row).to_owned()).collect::<Vec<_>>())
                .map_err(str::to_owned);
            assert_eq!(read(text, Header::FirstLine), expected, "{text:?}");
        };
        check("x,c,a,b\n0,3,1,2\n", Ok(&["2:1,3"]));
        check("\u{feff}a, b\n1,2\n", Ok(&["2:1,-"])); // the optional one is absent
        check("a,c\n", Err("f.csv:1: field `b`: there is no such column in the header"));
        check("a,b,a\n", Err("f.csv:1: field `a`: this column is there twice"));
        check("", Err("f.csv:1: field `a`: there is no such column in the header"));
    }
}
