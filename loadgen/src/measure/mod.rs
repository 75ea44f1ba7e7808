//! `loadgen measure`: starts a cell of real processes, puts it to each experiment, and prints one table.
//!
//! In: sizes. Out: rows, each a figure with the bar that it is held to, where there is one. It starts
//! everything itself, the programs beside its own, on loopback and in a folder of its own, and ends it.
//! An experiment a file; what they share is `cluster`, `ask` and `disk`.

mod ask;
mod borglet;
mod cluster;
mod disk;
mod etcd;
mod failover;
mod rate;
mod report;
mod submit;
mod sustain;

use std::path::PathBuf;

use anyhow::Context;

use self::report::Report;

/// `loadgen measure`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Which experiments; all of them where none is named
    #[arg(value_enum)]
    what: Vec<What>,
    /// Where the replicas keep their data; a folder on a real disk
    #[arg(long)]
    folder: Option<PathBuf>,
    /// How many machines
    #[arg(long, default_value_t = 10_000)]
    machines: usize,
    /// Tasks of the job that is submitted as one
    #[arg(long, default_value_t = 10_000)]
    tasks: u32,
    /// Clients that ask at once
    #[arg(long, default_value_t = 64)]
    clients: u32,
    /// How often what can be repeated is repeated
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// How long a load is kept up; the rounds of a comparison take ten seconds at most
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Tasks that are to run while the cell is under its steady load
    #[arg(long, default_value_t = 130_000)]
    running: u32,
    /// Tasks a second that are submitted then
    #[arg(long, default_value_t = 10_500)]
    rate: u32,
    /// Tasks of each job then
    #[arg(long, default_value_t = 500)]
    job_tasks: u32,
    /// How often the leader is killed
    #[arg(long, default_value_t = 7)]
    kills: u32,
    /// Print JSON, and no table
    #[arg(long)]
    json: bool,
}

/// An experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Mutations a second, beside etcd's puts
    Rate,
    /// One large job, until all of it is placed
    Submit,
    /// A full cell under a steady load; reads, memory, failover and restart at that size
    Sustain,
    /// A real borglet: starts of tasks, its cost, and how limits hold. Needs root, and has to be named
    Borglet,
}

const ALL: [What; 3] = [What::Rate, What::Submit, What::Sustain];

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let folder = match &args.folder {
        Some(folder) => {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
            tempfile::TempDir::new_in(folder)
        }
        None => tempfile::TempDir::new(),
    };
    let folder = folder.context("cannot make a temporary folder")?;
    let mut report = Report::default();
    let whats = if args.what.is_empty() { ALL.to_vec() } else { args.what.clone() };
    disk::describe(folder.path(), &whats, &mut report)?;
    for what in whats {
        let folder = folder.path().join(format!("{what:?}").to_lowercase());
        std::fs::create_dir(&folder).context("cannot make a folder")?;
        match what {
            What::Rate => rate::run(&args, &folder, &mut report).await,
            What::Submit => submit::run(&args, &folder, &mut report).await,
            What::Borglet => borglet::run(&args, &folder, &mut report).await,
            What::Sustain => sustain::run(&args, &folder, &mut report).await,
        }
        .with_context(|| format!("{what:?}").to_lowercase())?;
    }
    if args.json { report.print_json() } else { report.print_table() }?;
    report.check()
}
