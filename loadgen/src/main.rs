//! Load for a master, over the same gRPC as real borglets and clients.
//!
//! `loadgen borglets` is any number of machines in one process, without containers; `loadgen clients` asks for
//! changes as fast as they are answered, and measures; `loadgen measure` starts a whole cell and puts it to
//! experiments.

mod borglets;
mod client;
mod clients;
mod fleet;
mod measure;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(version, about = "Fake borglets and measuring clients for a master")]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Serve fake machines, and register them with a master
    Borglets(borglets::Args),
    /// Ask for changes as fast as they are answered, and measure
    Clients(clients::Args),
    /// Start a cell of real processes, measure it, and print a table
    Measure(measure::Args),
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Args::parse().what {
        What::Borglets(args) => borglets::run(args).await,
        What::Clients(args) => clients::run(args).await,
        What::Measure(args) => measure::run(args).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[allow(clippy::print_stderr, reason = "what a person at a terminal reads")]
            {
                eprintln!("loadgen: {error:#}");
            }
            if error.is::<borglets::BadInput>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}
