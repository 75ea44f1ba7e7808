//! `fauxmaster load`: questions about a live cell, asked of its cell file.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use cell::file::CellFile;
use cell::live::State;
use clap::{Args, Subcommand, ValueEnum};
use fauxmaster::args::up_to;
use fauxmaster::cli::{json, say};
use fauxmaster::kube::config::policy_by_name;
use fauxmaster::live::{
    ForkOptions, as_trace, find_job, fits, fork, of_fits, of_fork, of_status, of_why, open, status,
    why,
};
use fauxmaster::{CompactOptions, PackOptions, Start, pack, table};
use scheduler::{Accounting, Policy};
use traces::Workload;

use crate::NAME;

#[derive(Args, Debug)]
pub(crate) struct LoadArgs {
    /// The cell file, as it is or compressed by gzip.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Ask about the cell as it was once the log entry at INDEX was applied; without it, the last one.
    #[arg(long, value_name = "INDEX", global = true)]
    until: Option<u64>,
    /// Print JSON instead of a table.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    question: Question,
}

#[derive(Debug, Subcommand)]
enum Question {
    /// How the cell stood: jobs, the queue, machines.
    ///
    /// Example: fauxmaster load examples/cell-file/small.cell --until 20 status
    Status,
    /// Why a task was pending.
    ///
    /// Example: fauxmaster load examples/cell-file/small.cell why huge/0
    Why {
        /// The task.
        #[arg(value_name = "JOB/INDEX")]
        task: String,
        #[command(flatten)]
        policy: PolicyArgs,
    },
    /// Pack what lived in the cell from scratch onto the machines that took tasks.
    ///
    /// Example: fauxmaster load examples/cell-file/small.cell pack --policy best-fit
    Pack {
        #[command(flatten)]
        policy: PolicyArgs,
        /// Leave what ran where it ran, and place what waited.
        #[arg(long)]
        recorded: bool,
        /// What a task is charged for.
        #[arg(long, value_enum, default_value_t = Charge::Reservations)]
        charge: Charge,
    },
    /// Find out how few machines what ran in the cell needs (cell compaction).
    ///
    /// Example: fauxmaster load examples/cell-file/small.cell compact --trials 5
    Compact {
        #[command(flatten)]
        policy: PolicyArgs,
        /// Number of trials, each with its own random order of machines.
        #[arg(long, default_value_t = 11, value_parser = up_to::<1100>)]
        trials: usize,
        /// Number of threads; without it one for each core. The result is the same.
        #[arg(long, value_name = "N", value_parser = up_to::<256>)]
        threads: Option<usize>,
        /// What a task is charged for.
        #[arg(long, value_enum, default_value_t = Charge::Reservations)]
        charge: Charge,
    },
    /// Find out how many more tasks of a job would have fitted.
    ///
    /// Example: fauxmaster load examples/cell-file/small.cell fits examples/cell-file/more.yaml
    Fits {
        /// A job that the cell has, or a file with one job in YAML or JSON; its count is not looked at.
        #[arg(value_name = "JOB|JOB.yaml")]
        job: String,
        #[command(flatten)]
        policy: PolicyArgs,
    },
    /// Replay the rest of the log under another policy, and show the difference.
    ///
    /// What users and machines did is done again at its time; where tasks go is up to the policy. A task
    /// that ended by itself runs for as long as it did in the recording.
    ///
    /// Example: fauxmaster load examples/cell-file/small.cell fork --policy best-fit --seed 1
    Fork {
        /// One of those that `fauxmaster policies` lists, or kube:PATH.
        #[arg(long, value_name = "POLICY")]
        policy: String,
        /// Seeds everything random.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Fork after the log entry at INDEX; without it, at the first that the file holds.
        #[arg(long, value_name = "INDEX")]
        from: Option<u64>,
    },
}

#[derive(Args, Debug)]
struct PolicyArgs {
    /// One of those that `fauxmaster policies` lists, or kube:PATH; without it the cell's own.
    #[arg(long, value_name = "POLICY")]
    policy: Option<String>,
    /// Seeds everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl PolicyArgs {
    fn policy(&self, state: &State) -> anyhow::Result<Policy> {
        match &self.policy {
            Some(name) => policy_by_name(name),
            None => policy_by_name(&state.settings().policy)
                .context("the cell's own policy is not known here: give one with --policy"),
        }
    }
}

/// What a task is charged for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Charge {
    /// As in the live cell: production's limits fit, and everyone's reservations fit.
    Reservations,
    /// All limits must fit.
    Limits,
}

impl Charge {
    const fn accounting(self) -> Accounting {
        match self {
            Self::Reservations => Accounting::Recorded,
            Self::Limits => Accounting::Limits,
        }
    }
}

pub(crate) fn run(args: &LoadArgs) -> anyhow::Result<ExitCode> {
    let file = open(&args.file)?;
    let until = args.until.unwrap_or_else(|| file.last_index());
    let name = || args.file.display().to_string();
    if let Question::Fork { policy, seed, from } = &args.question {
        let from = from.unwrap_or_else(|| file.first_index());
        let options = ForkOptions { policy: policy_by_name(policy)?, seed: *seed };
        return run_fork(args, &file, from, until, &options);
    }
    let state = file.state_at(until).with_context(name)?;
    drop(file);
    answer(args, &state)
}

fn run_fork(
    args: &LoadArgs,
    file: &CellFile,
    from: u64,
    until: u64,
    options: &ForkOptions,
) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(from <= until, "--from {from} comes after --until {until}");
    let report =
        fork(file, from, until, options).with_context(|| args.file.display().to_string())?;
    say(NAME, &if args.json { json(&report)? } else { of_fork(&report) });
    Ok(ExitCode::SUCCESS)
}

fn answer(args: &LoadArgs, state: &State) -> anyhow::Result<ExitCode> {
    let source = args.file.display().to_string();
    match &args.question {
        Question::Status => {
            let report = status(state);
            say(NAME, &if args.json { json(&report)? } else { of_status(&report) });
        }
        Question::Why { task, policy } => {
            let report = why(state, task, &policy.policy(state)?, policy.seed)?;
            say(NAME, &if args.json { json(&report)? } else { of_why(&report) });
            return Ok(ExitCode::from(u8::from(!report.pending)));
        }
        Question::Pack { policy, recorded, charge } => {
            let trace = as_trace(&source, state, Workload::All);
            let mut options = PackOptions::new(policy.policy(state)?, policy.seed);
            options.accounting = charge.accounting();
            options.start = if *recorded { Start::Recorded } else { Start::Empty };
            let report = pack(&trace, &options)?.report;
            say(NAME, &if args.json { json(&report)? } else { table::of_pack(&report) });
        }
        Question::Compact { policy, trials, threads, charge } => {
            let trace = as_trace(&source, state, Workload::Running);
            let mut options = CompactOptions::new(policy.policy(state)?, policy.seed);
            options.accounting = charge.accounting();
            options.trials = *trials;
            return crate::answer_compact(&trace, &options, *threads, args.json);
        }
        Question::Fits { job, policy } => {
            let (spec, kind) = find_job(state, job)?;
            let report = fits(state, &spec, kind, &policy.policy(state)?, policy.seed)
                .with_context(|| job.clone())?;
            say(NAME, &if args.json { json(&report)? } else { of_fits(&report) });
        }
        // It asks about two states, and was answered before.
        Question::Fork { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}
