//! `exec`: a command inside a running task, with the streams and the exit code of this program.

use cell::borglet::ExitCause;
use cell::live::view::describe_exit;
use clap::Args;
use proto::node::{ExecInput, ExecOutput, LogStream};
use proto::wire;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::logs::write;
use crate::args::Options;
use crate::client::Client;
use crate::failure::Failure;
use crate::node;

/// So much is read of the standard input at once.
const PIECE_BYTES: usize = 16 << 10;

#[derive(Args, Debug)]
pub(crate) struct ExecArgs {
    /// The task
    #[arg(value_name = "JOB/INDEX")]
    task: String,
    /// Program and arguments
    #[arg(value_name = "COMMAND", required = true, last = true)]
    command: Vec<String>,
}

pub(crate) async fn run(
    args: ExecArgs,
    options: &Options,
    client: &mut Client,
) -> Result<(), Failure> {
    let ExecArgs { task, command } = args;
    let machine = node::machine_of(client, &task).await?;
    let mut borglet = node::connect(&machine).await?;
    let start = ExecInput::Start { user: options.user()?.to_owned(), task, command };
    let (sender, inputs) = mpsc::channel(4);
    let first = wire::ExecInput::try_from(start)?;
    tokio::spawn(async move {
        if sender.send(first).await.is_ok() {
            feed(sender).await;
        }
    });
    let outputs = borglet.exec(ReceiverStream::new(inputs)).await;
    let mut outputs = outputs.map_err(|status| node::failure(&machine.name, &status))?.into_inner();
    loop {
        let output = outputs.message().await.map_err(|it| node::failure(&machine.name, &it))?;
        let Some(output) = output else {
            return Err(Failure::Failed("the command was broken off: the task ended?".to_owned()));
        };
        match output.try_into()? {
            ExecOutput::Stdout(data) => write(LogStream::Stdout, &data)?,
            ExecOutput::Stderr(data) => write(LogStream::Stderr, &data)?,
            // As the command ended, so does this program; at once, as somebody may sit at its standard input.
            ExecOutput::Exit(ExitCause::Finished) => std::process::exit(0),
            ExecOutput::Exit(ExitCause::Failed { code }) => std::process::exit(code),
            ExecOutput::Exit(cause) => return Err(Failure::Failed(describe_exit(&cause))),
        }
    }
}

/// Passes the standard input on. The stream stays open after its end, or the command would be given up.
async fn feed(sender: mpsc::Sender<wire::ExecInput>) {
    let mut stdin = tokio::io::stdin();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = stdin.read(&mut piece).await.unwrap_or(0);
        let input = match count {
            0 => ExecInput::StdinEnds,
            _ => ExecInput::Stdin(piece[..count].to_vec()),
        };
        let Ok(input) = wire::ExecInput::try_from(input) else { return };
        if sender.send(input).await.is_err() {
            return;
        }
        if count == 0 {
            return sender.closed().await;
        }
    }
}
