//! Why a trace could not be read: always one line, naming the file, the line and the field.

use crate::FORMATS;

/// Why a trace could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// The source names no format that we know.
    #[error("unknown trace format in {given:?}; known are {}", known_formats())]
    UnknownFormat {
        /// The source as given.
        given: String,
    },
    /// The source names a format, but not what the format needs.
    #[error("trace {given:?}: {problem}")]
    BadSource {
        /// The source as given.
        given: String,
        /// What it should look like.
        problem: String,
    },
    /// A file or folder cannot be read at all.
    #[error("{file}: {problem}")]
    Unreadable {
        /// The file or folder.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file cannot be read any further: it is damaged, or ends early.
    #[error("{file}:{line}: {problem}")]
    BrokenOff {
        /// The file.
        file: String,
        /// Where reading stopped; from 1.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// One line, row or entry is wrong.
    #[error("{file}:{line}: {problem}")]
    Row {
        /// The file.
        file: String,
        /// The line; from 1.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// One field is wrong.
    #[error("{file}:{line}: field `{field}`: {problem}")]
    Field {
        /// The file.
        file: String,
        /// The line; from 1.
        line: u64,
        /// The field's name.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// One field of a named machine, alloc set or job is wrong.
    #[error("{file}:{line}: {entry}: field `{field}`: {problem}")]
    Entry {
        /// The file.
        file: String,
        /// The line; from 1.
        line: u64,
        /// The entry: its kind and name.
        entry: String,
        /// The field's path in the entry.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// There is nothing to pack.
    #[error("trace {given:?} is empty: it has no {what}")]
    Empty {
        /// The source as given.
        given: String,
        /// What there is none of.
        what: &'static str,
    },
}

fn known_formats() -> String {
    let names: Vec<String> = FORMATS.iter().map(|(name, _)| format!("`{name}`")).collect();
    names.join(", ")
}

/// The longest text from a file that a message repeats. Our guess at what still reads well.
const QUOTED_CHARS_MAX: usize = 60;

/// A text from a file, quoted, escaped to one line and cut to a length that reads well.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        None => format!("{text:?}"),
        Some((at, _)) => format!("{:?}…", &text[..at]),
    }
}

/// A text on one line: control characters, which file names and parsers' messages may hold, become
/// blanks.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_format_lists_the_known_ones() {
        let message = TraceError::UnknownFormat { given: "swf:x".to_owned() }.to_string();
        for (name, _) in FORMATS {
            assert!(message.contains(&format!("`{name}`")), "{message}");
        }
    }

    #[test]
    fn quoted_texts_stay_short_and_on_one_line() {
        let check = |text: &str, expected: &str| assert_eq!(quoted(text), expected);
        check("-0.5", r#""-0.5""#);
        check("a\nb", r#""a\nb""#);
        assert_eq!(quoted(&"ä".repeat(1000)).chars().count(), QUOTED_CHARS_MAX + 3);
        assert_eq!(one_line("a\r\nb"), "a  b");
    }
}
