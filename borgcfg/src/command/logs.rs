//! `logs`: what a task wrote.

use std::io::{ErrorKind, Write};

use cell::borglet::Incarnation;
use clap::Args;
use proto::node::{LogStream, LogsPiece, LogsQuery};
use proto::wire;
use serde::Serialize;
use tonic::{Code, Streaming};

use crate::args::Options;
use crate::client::Client;
use crate::failure::Failure;
use crate::node;
use crate::output::say;

#[derive(Args, Debug)]
pub(crate) struct LogsArgs {
    /// The task
    #[arg(value_name = "JOB/INDEX")]
    task: String,
    /// Go on until the task ends
    #[arg(long, short)]
    follow: bool,
    /// Only so many bytes of the end of each stream
    #[arg(long, value_name = "BYTES")]
    tail: Option<u64>,
    /// Of this placement, and not of the newest
    #[arg(long, value_name = "NUMBER")]
    incarnation: Option<u64>,
}

/// A piece of a log, in JSON: one a line.
#[derive(Debug, Serialize)]
struct Piece<'a> {
    stream: &'static str,
    text: &'a str,
}

pub(crate) async fn run(
    args: &LogsArgs,
    options: &Options,
    client: &mut Client,
) -> Result<(), Failure> {
    let task = node::task(client, &args.task).await?;
    let query = LogsQuery {
        user: options.user()?.to_owned(),
        task: args.task.clone(),
        incarnation: args.incarnation.map(Incarnation),
        follow: args.follow,
        tail_bytes: args.tail,
    };
    let message = wire::LogsRequest::try_from(query)?;
    // Where it is, or else wherever its logs are kept still.
    let mut machines = node::machines(client).await?;
    if let Some(on) = &task.machine {
        machines.retain(|machine| machine.name == *on);
    }
    for machine in &machines {
        let mut borglet = match node::connect(machine).await {
            Ok(borglet) => borglet,
            Err(_) if task.machine.is_none() => continue,
            Err(failure) => return Err(failure),
        };
        match borglet.logs(message.clone()).await {
            Ok(pieces) => return print(pieces.into_inner(), &machine.name, options.json).await,
            Err(status) if status.code() == Code::NotFound || task.machine.is_none() => {}
            Err(status) => return Err(node::failure(&machine.name, &status)),
        }
    }
    Err(Failure::Failed(format!(
        "no machine that is heard has logs of {}: it has not run yet, or they were kept for long enough",
        args.task
    )))
}

async fn print(
    mut pieces: Streaming<wire::LogsPiece>,
    machine: &str,
    is_json: bool,
) -> Result<(), Failure> {
    loop {
        let piece = match pieces.message().await {
            Ok(Some(piece)) => piece,
            Ok(None) => return Ok(()),
            Err(status) => return Err(node::failure(machine, &status)),
        };
        let LogsPiece { stream, data } = piece.try_into()?;
        if is_json {
            let stream = if stream == LogStream::Stdout { "stdout" } else { "stderr" };
            let piece = Piece { stream, text: &String::from_utf8_lossy(&data) };
            say(&serde_json::to_string(&piece).map_err(|it| Failure::Failed(it.to_string()))?)?;
            continue;
        }
        write(stream, &data)?;
    }
}

/// To the stream of the same name.
pub(crate) fn write(stream: LogStream, data: &[u8]) -> Result<(), Failure> {
    fn all(mut to: impl Write, data: &[u8]) -> std::io::Result<()> {
        to.write_all(data)?;
        to.flush()
    }
    let done = match stream {
        LogStream::Stdout => all(std::io::stdout().lock(), data),
        LogStream::Stderr => all(std::io::stderr().lock(), data),
    };
    match done {
        // Whoever read it has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::Failed(format!("cannot write it: {error}"))),
        Ok(()) => Ok(()),
    }
}
