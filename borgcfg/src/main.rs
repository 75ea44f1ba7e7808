//! `borgcfg`: what a cell's users and operators type.
//!
//! In: a command line, job files. Out: answers of a cell as tables or JSON, and one line for what went wrong.
//! All it knows of the cell it asks of a replica ([`client`]); nothing is decided here.

mod args;
mod client;
mod command;
mod document;
mod failure;
mod nearest;
mod node;
mod output;
mod show;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Cli;
use crate::client::Client;
use crate::failure::Failure;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(error) => Err(Failure::Failed(format!("cannot start: {error}"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::complain(&failure);
            failure.exit_code()
        }
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let Cli { options, command } = cli;
    let mut client = Client::new(options.config());
    match command::run(command, &options, &mut client).await {
        Err(Failure::Rejected(rejected)) => Err(nearest::hint(rejected, &mut client).await),
        done => done,
    }
}
