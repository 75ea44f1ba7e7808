//! `fauxmaster`: pack a trace's workload, compact its cell, or ask why a task is pending.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};
use fauxmaster::args::{PolicyArgs, TraceArgs, usage_line};
use fauxmaster::{
    CompactOptions, PENDING_ALLOWANCE, PackOptions, Packing, Start, compact, kube, pack, table,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use scheduler::why::{explain, in_kubernetes_words};
use serde::Serialize;
use traces::{FindingKind, Trace};

/// The scheduler under a trace: packs, compacts, explains.
///
/// Exit codes: 0 done, 1 the answer is no, 2 bad input.
#[derive(Debug, Parser)]
#[command(name = "fauxmaster", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Pack the workload from scratch.
    ///
    /// Example: fauxmaster pack --trace google-2011-t0 --policy borg-hybrid --seed 7
    Pack(PackArgs),
    /// Find out how few machines the workload needs (cell compaction).
    ///
    /// Example: fauxmaster compact --trace google-2011-t0 --policy kube-default --trials 11 --seed 1
    Compact(CompactArgs),
    /// Say why a task is pending after packing, and what would place it.
    ///
    /// Example: fauxmaster why --trace cell:examples/constraints --task nowhere/0
    Why(WhyArgs),
    /// List the policies.
    Policies,
    /// Run cases with known outcomes through the Kubernetes plugins, and count what agrees.
    ///
    /// Example: fauxmaster kube-check cases/kubernetes
    KubeCheck(KubeArgs),
    /// Follow a recorded run of the real kube-scheduler, and compare each decision.
    ///
    /// The folder holds nodes.csv, pods.csv, assignments.csv, preemptions.csv and run.json.
    KubeDecisions(KubeArgs),
}

#[derive(Args, Debug)]
struct KubeArgs {
    /// The folder.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// What a packing starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StartName {
    /// Empty machines.
    Empty,
    /// The recorded state: running tasks stay, waiting ones are placed, preempting if need be.
    Recorded,
}

#[derive(Args, Debug)]
struct PackShape {
    #[command(flatten)]
    trace: TraceArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    /// Use so many machines, drawn at random.
    #[arg(long, value_name = "N")]
    machines: Option<usize>,
    /// Draw from so many copies of the cell's machines; the workload stays one.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = up_to::<64>)]
    clone: usize,
    /// What to start from.
    #[arg(long, value_enum, default_value_t = StartName::Empty)]
    start: StartName,
}

#[derive(Args, Debug)]
struct PackArgs {
    #[command(flatten)]
    shape: PackShape,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct CompactArgs {
    #[command(flatten)]
    trace: TraceArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    /// Number of trials, each with its own random order of machines.
    #[arg(long, default_value_t = 11, value_parser = up_to::<1100>)]
    trials: usize,
    /// The share of tasks that may stay pending; 0 for none.
    #[arg(long, value_name = "SHARE", default_value_t = PENDING_ALLOWANCE)]
    pending_allowance: f64,
    /// Draw from so many copies of the cell's machines; without it from as many as are needed.
    #[arg(long, value_name = "N", value_parser = up_to::<64>)]
    clone: Option<usize>,
    /// Number of threads; without it one for each core. The result is the same.
    #[arg(long, value_name = "N", value_parser = up_to::<256>)]
    threads: Option<usize>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct WhyArgs {
    #[command(flatten)]
    shape: PackShape,
    /// The task, as JOB/INDEX.
    #[arg(long, value_name = "JOB/INDEX")]
    task: String,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// The JSON of `why`.
#[derive(Debug, Serialize)]
struct WhyJson<'a> {
    task: &'a str,
    pending: bool,
    machine: Option<&'a str>,
    host_count: usize,
    feasible_count: usize,
    ruled_out: Vec<(String, usize)>,
    changes: Vec<(String, usize)>,
    /// What kube-scheduler would say, under its policies.
    #[serde(skip_serializing_if = "Option::is_none")]
    kubernetes: Option<String>,
}

/// A count in 1..=MAX.
fn up_to<const MAX: usize>(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=MAX).contains(&count) => Ok(count),
        _ => Err(format!("not a whole number in 1..={MAX}")),
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
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
            complain(&anyhow::anyhow!(usage_line(&error)));
            return ExitCode::from(2);
        }
    };
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Pack(args) => run_pack(&args),
        Command::Compact(args) => run_compact(&args),
        Command::Why(args) => run_why(&args),
        Command::Policies => {
            for policy in scheduler::policies() {
                say(&format!("{:<24}{}", policy.name(), policy.about()));
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::KubeCheck(args) => run_kube_check(&args),
        Command::KubeDecisions(args) => run_kube_decisions(&args),
    }
}

fn run_kube_check(args: &KubeArgs) -> anyhow::Result<ExitCode> {
    let report = kube::check::check_folder(&args.folder)?;
    say(&if args.json { json(&report)? } else { table::of_kube_check(&report) });
    Ok(ExitCode::from(u8::from(report.total().failed > 0)))
}

fn run_kube_decisions(args: &KubeArgs) -> anyhow::Result<ExitCode> {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} pods, {elapsed}")?);
    let report = kube::decisions::follow(&args.folder, &|done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    say(&if args.json { json(&report)? } else { table::of_kube_decisions(&report) });
    Ok(ExitCode::from(u8::from(!report.agrees())))
}

impl PackShape {
    fn pack<'t>(&self, trace: &'t Trace) -> anyhow::Result<Packing<'t>> {
        let options = PackOptions {
            policy: self.policy.policy()?,
            accounting: self.policy.accounting(),
            queue: self.policy.queue(),
            seed: self.policy.seed,
            machines: self.machines,
            clones: self.clone,
            start: match self.start {
                StartName::Empty => Start::Empty,
                StartName::Recorded => Start::Recorded,
            },
            speed: self.policy.speed(),
        };
        Ok(pack(trace, &options)?)
    }
}

fn run_pack(args: &PackArgs) -> anyhow::Result<ExitCode> {
    args.shape.policy.policy()?;
    let trace = load(&args.shape.trace)?;
    let report = args.shape.pack(&trace)?.report;
    say(&if args.json { json(&report)? } else { table::of_pack(&report) });
    Ok(ExitCode::SUCCESS)
}

fn run_compact(args: &CompactArgs) -> anyhow::Result<ExitCode> {
    let options = CompactOptions {
        policy: args.policy.policy()?,
        accounting: args.policy.accounting(),
        queue: args.policy.queue(),
        seed: args.policy.seed,
        trials: args.trials,
        clones: args.clone,
        pending_allowance: args.pending_allowance,
        speed: args.policy.speed(),
    };
    let trace = load(&args.trace)?;
    let bar = ProgressBar::with_draw_target(
        Some(args.trials as u64),
        // Draws nothing unless stderr is a terminal.
        ProgressDrawTarget::stderr(),
    );
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} trials, {elapsed}")?);
    let threads = rayon::ThreadPoolBuilder::new().num_threads(args.threads.unwrap_or(0)).build()?;
    let result =
        threads.install(|| compact(&trace, &options, &|done| bar.set_position(done as u64)));
    bar.finish_and_clear();
    let report = match result {
        Ok(report) => report,
        Err(error @ fauxmaster::CompactError::DoesNotFit { .. }) => {
            complain(&error.into());
            return Ok(ExitCode::from(1));
        }
        Err(error) => return Err(error.into()),
    };
    say(&if args.json { json(&report)? } else { table::of_compact(&report) });
    Ok(ExitCode::SUCCESS)
}

fn run_why(args: &WhyArgs) -> anyhow::Result<ExitCode> {
    let policy = args.shape.policy.policy()?;
    let trace = load(&args.shape.trace)?;
    let task = trace
        .cell
        .find_task(&args.task)
        .with_context(|| format!("the trace has no task {:?}; a task is JOB/INDEX", args.task))?;
    let packing = args.shape.pack(&trace)?;
    let end = &packing.plan.end;
    if let Some(placement) = end.placement(task) {
        let machine = trace.cell.machine(end.slot(placement.row).machine);
        say(&if args.json {
            json(&WhyJson {
                task: &args.task,
                pending: false,
                machine: Some(&machine.name),
                host_count: end.machine_count(),
                feasible_count: 0,
                ruled_out: Vec::new(),
                changes: Vec::new(),
                kubernetes: None,
            })?
        } else {
            table::of_placed(&args.task, end, placement.row)
        });
        return Ok(ExitCode::from(1));
    }
    let explanation = explain(end, task);
    let kubernetes = in_kubernetes_words(&policy, end, task);
    let is_in_alloc = trace.cell.job(task.job).alloc_set.is_some();
    say(&if args.json {
        json(&WhyJson {
            task: &args.task,
            pending: true,
            machine: None,
            host_count: explanation.host_count,
            feasible_count: explanation.feasible_count,
            ruled_out: explanation
                .ruled_out
                .iter()
                .map(|(reason, count)| (reason.to_string(), *count))
                .collect(),
            changes: explanation
                .changes
                .iter()
                .map(|change| (table::remedy(change), change.host_count))
                .collect(),
            kubernetes,
        })?
    } else {
        let mut text = table::of_why(&args.task, &explanation, is_in_alloc);
        if let Some(said) = kubernetes {
            text.push_str(&format!("\nkube-scheduler would say: {said}"));
        }
        text
    });
    Ok(ExitCode::SUCCESS)
}

fn json(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)?)
}

fn say(text: &str) {
    // A reader that has seen enough and closed the pipe is no error of ours.
    if let Err(error) = writeln!(std::io::stdout(), "{text}")
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        complain(&anyhow::Error::new(error).context("cannot write the answer"));
        std::process::exit(2);
    }
}

/// Reads the trace; and says on stderr what of it was skipped (with `--lenient`), and what of a
/// Kubernetes cluster is not read or not seen.
fn load(args: &TraceArgs) -> anyhow::Result<Trace> {
    let trace = args.load()?;
    for finding in &trace.doctor.findings {
        if trace.cell.kube.is_some()
            || matches!(finding.kind, FindingKind::SkippedRow | FindingKind::BrokenOffFile)
        {
            let (count, note) = (finding.count, finding.note);
            complain(&anyhow::anyhow!("{count} {note}, the first {}", finding.example.detail));
        }
    }
    Ok(trace)
}

#[expect(clippy::print_stderr, reason = "this is where errors go")]
fn complain(error: &anyhow::Error) {
    // The whole chain, on one line.
    eprintln!("fauxmaster: {error:#}");
}
