//! Where answers and complaints go.

use std::io::{self, ErrorKind, Write};

use serde::Serialize;

use crate::failure::Failure;

/// Prints an answer: as JSON, or as the text that is made of it.
pub(crate) fn answer<T: Serialize>(
    is_json: bool,
    answer: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    if is_json {
        let json = serde_json::to_string_pretty(answer);
        return say(&json.map_err(|error| Failure::Failed(error.to_string()))?);
    }
    say(&text(answer))
}

/// Prints a line, or several. A reader that has seen enough and closed the pipe ends the program, and is no
/// failure.
pub(crate) fn say(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::Failed(format!("cannot write the answer: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// Says something that is no part of the answer.
#[expect(clippy::print_stderr, reason = "this is where a note for people goes")]
pub(crate) fn note(text: &str) {
    eprintln!("borgcfg: {text}");
}

/// Prints what went wrong, on one line.
pub(crate) fn complain(failure: &Failure) {
    let text = failure.to_string();
    let words: Vec<&str> = text.lines().map(str::trim).collect();
    note(&words.join("; "));
}
