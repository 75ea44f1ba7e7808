//! What programs of this workspace do alike: one line for an error, exit codes 0 (done), 1 (the answer is
//! no) and 2 (bad input), and answers on stdout.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use serde::Serialize;

use crate::args::usage_line;

/// Runs the program called `name`.
pub fn run<C: Parser>(name: &str, work: impl FnOnce(C) -> anyhow::Result<ExitCode>) -> ExitCode {
    let cli = match C::try_parse() {
        Ok(cli) => cli,
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::DisplayHelp
                    | ErrorKind::DisplayVersion
                    | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            ) =>
        {
            error.exit()
        }
        Err(error) => {
            complain(name, &anyhow::anyhow!(usage_line(&error)));
            return ExitCode::from(2);
        }
    };
    work(cli).unwrap_or_else(|error| {
        complain(name, &error);
        ExitCode::from(2)
    })
}

/// A value as JSON, indented.
///
/// # Errors
/// If it cannot be written as JSON.
pub fn json(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)?)
}

/// Prints an answer. A reader that has seen enough and closed the pipe is no error; any other failure
/// ends the program.
pub fn say(name: &str, text: &str) {
    if let Err(error) = writeln!(std::io::stdout(), "{text}")
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        complain(name, &anyhow::Error::new(error).context("cannot write the answer"));
        std::process::exit(2);
    }
}

/// Prints an error with its causes, on one line.
#[expect(clippy::print_stderr, reason = "this is where errors go")]
pub fn complain(name: &str, error: &anyhow::Error) {
    eprintln!("{name}: {error:#}");
}
