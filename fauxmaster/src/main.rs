//! `fauxmaster`: pack a trace's workload, compact its cell, or ask why a task is pending; and ask the same of
//! a live cell's file.

mod load;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use fauxmaster::args::{CompactShape, PackShape, up_to};
use fauxmaster::cli::{self, complain, json, say};
use fauxmaster::{CompactOptions, compact, kube, pack, table};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use scheduler::why::{explain, in_kubernetes_words};
use serde::Serialize;
use traces::Trace;

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
    /// Open a cell file of `borgcfg checkpoint` and ask about the cell at any index that it holds.
    ///
    /// Example: fauxmaster load examples/cell-file/small.cell why huge/0
    ///
    /// Example: fauxmaster load examples/cell-file/small.cell fork --policy best-fit --seed 1
    Load(load::LoadArgs),
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
    shape: CompactShape,
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

const NAME: &str = "fauxmaster";

fn main() -> ExitCode {
    cli::run(NAME, |cli: Cli| run(cli.command))
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Pack(args) => run_pack(&args),
        Command::Compact(args) => run_compact(&args),
        Command::Why(args) => run_why(&args),
        Command::Load(args) => load::run(&args),
        Command::Policies => {
            for policy in scheduler::policies() {
                say(NAME, &format!("{:<24}{}", policy.name(), policy.about()));
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::KubeCheck(args) => run_kube_check(&args),
        Command::KubeDecisions(args) => run_kube_decisions(&args),
    }
}

fn run_kube_check(args: &KubeArgs) -> anyhow::Result<ExitCode> {
    let report = kube::check::check_folder(&args.folder)?;
    say(NAME, &if args.json { json(&report)? } else { table::of_kube_check(&report) });
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
    say(NAME, &if args.json { json(&report)? } else { table::of_kube_decisions(&report) });
    Ok(ExitCode::from(u8::from(!report.agrees())))
}

fn run_pack(args: &PackArgs) -> anyhow::Result<ExitCode> {
    let options = args.shape.options()?;
    let trace = args.shape.trace.load_aloud(NAME)?;
    let report = pack(&trace, &options)?.report;
    say(NAME, &if args.json { json(&report)? } else { table::of_pack(&report) });
    Ok(ExitCode::SUCCESS)
}

fn run_compact(args: &CompactArgs) -> anyhow::Result<ExitCode> {
    let options = args.shape.options()?;
    let trace = args.shape.trace.load_aloud(NAME)?;
    answer_compact(&trace, &options, args.threads, args.json)
}

/// Compacts, and prints what came of it.
fn answer_compact(
    trace: &Trace,
    options: &CompactOptions,
    threads: Option<usize>,
    is_json: bool,
) -> anyhow::Result<ExitCode> {
    let bar = ProgressBar::with_draw_target(
        Some(options.trials as u64),
        // Draws nothing unless stderr is a terminal.
        ProgressDrawTarget::stderr(),
    );
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} trials, {elapsed}")?);
    let threads = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0)).build()?;
    let result = threads.install(|| compact(trace, options, &|done| bar.set_position(done as u64)));
    bar.finish_and_clear();
    let report = match result {
        Ok(report) => report,
        Err(error @ fauxmaster::CompactError::DoesNotFit { .. }) => {
            complain(NAME, &error.into());
            return Ok(ExitCode::from(1));
        }
        Err(error) => return Err(error.into()),
    };
    say(NAME, &if is_json { json(&report)? } else { table::of_compact(&report) });
    Ok(ExitCode::SUCCESS)
}

fn run_why(args: &WhyArgs) -> anyhow::Result<ExitCode> {
    let options = args.shape.options()?;
    let trace = args.shape.trace.load_aloud(NAME)?;
    let task = trace
        .cell
        .find_task(&args.task)
        .with_context(|| format!("the trace has no task {:?}; a task is JOB/INDEX", args.task))?;
    let packing = pack(&trace, &options)?;
    let end = &packing.plan.end;
    if let Some(placement) = end.placement(task) {
        let machine = trace.cell.machine(end.slot(placement.row).machine);
        say(
            NAME,
            &if args.json {
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
            },
        );
        return Ok(ExitCode::from(1));
    }
    let explanation = explain(end, task);
    let kubernetes = in_kubernetes_words(&options.policy, end, task);
    let is_in_alloc = trace.cell.job(task.job).alloc_set.is_some();
    say(
        NAME,
        &if args.json {
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
                    .map(|change| (change.what.to_string(), change.host_count))
                    .collect(),
                kubernetes,
            })?
        } else {
            let mut text = table::of_why(&args.task, &explanation, is_in_alloc);
            if let Some(said) = kubernetes {
                text.push_str(&format!("\nkube-scheduler would say: {said}"));
            }
            text
        },
    );
    Ok(ExitCode::SUCCESS)
}
