//! Load for a master, over the same gRPC as real borglets and clients.
//!
//! `loadgen borglets` is any number of machines in one process, without containers; `loadgen clients` asks for
//! changes as fast as they are answered, and measures; `loadgen measure` starts a whole cell and puts it to
//! experiments.

mod borglets;
mod clients;
mod fleet;
mod measure;

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

/// Machines are elsewhere: where they share a master's cores they are to keep it from as little as they can.
const NICE_OF_BORGLETS: i32 = 10;

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

fn main() -> ExitCode {
    match run(Args::parse().what) {
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

fn run(what: What) -> anyhow::Result<()> {
    if let What::Borglets(_) = what {
        // Threads that are started later inherit it.
        rustix::process::setpriority_process(None, NICE_OF_BORGLETS)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("threads cannot be started")?.block_on(async {
        match what {
            What::Borglets(args) => borglets::run(args).await,
            What::Clients(args) => clients::run(args).await,
            What::Measure(args) => measure::run(args).await,
        }
    })
}
