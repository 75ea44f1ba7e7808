//! The `experiments` program: `compare` and `gpu` write reports, `verify` checks that one can be made
//! again.
//!
//! Exit codes: 0 done; 1 the report cannot be made again; 2 bad input, said in one line on standard error,
//! and nothing written.
#![expect(clippy::print_stderr, reason = "a program's output is its job")]

use std::io::{IsTerminal, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::Instant;

use anyhow::Context;
use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use scheduler::Policy;

use experiments::ablation::{AblationOptions, ablation};
use experiments::compare::{compare, load};
use experiments::fidelity::real::LocalCell;
use experiments::fidelity::{self, Model, Workload};
use experiments::gpu::report::GpuReport;
use experiments::gpu::results::{GpuResults, Over};
use experiments::gpu::{GpuFlags, GpuPlan};
use experiments::host::utc_now;
use experiments::manifest::{COMMIT, Experiment, Manifest, OutputEntry, Seeds, experiment};
use experiments::number;
use experiments::output::{self, Output, PAGE};
use experiments::page::page;
use experiments::plan::{CompareFlags, Plan, TableKind};
use experiments::plot::{arrivals, figures, row_name};
use experiments::results::Results;
use experiments::run::Run;
use experiments::verify::{Finding, check_trace, verify};
use experiments::{folder, gpu, results};
use fauxmaster::args::TraceArgs;

/// Experiments in the style of the Borg paper: how many machines does a workload need under each policy?
#[derive(Debug, Parser)]
#[command(name = "experiments", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compares policies by cell compaction and writes a report: a page, figures, tables, a manifest
    #[command(after_help = "Example:\n  experiments compare --trace google-2011-t0 \
        --policies borg-hybrid,best-fit,kube-default \\\n    --systems borg-hybrid,kube-default \
        --trials 5 --out out/demo")]
    Compare(CompareCommand),
    /// Lets tasks arrive until a cell's GPUs are used up, by each policy: what is allocated, what is a
    /// fragment
    #[command(
        after_help = "Example:\n  experiments gpu --trace openb:nodes.csv,pods.csv --seeds 10 \
        --out out/gpu"
    )]
    Gpu(GpuCommand),
    /// Packs a cell without each of the scheduler's speed-ups, and without any (Borg §3.4)
    #[command(after_help = "Example:\n  experiments ablation --trace google-2011-t0 --runs 5")]
    Ablation(AblationCommand),
    /// Runs one small workload on a real local cell and in a simulated one, and says how far they are apart
    ///
    /// As root: tasks are real. The cell is one of its own and gone afterwards. borgmaster, borgcfg, borglet and
    /// borglet-init have to be beside this program.
    #[command(after_help = "Example:\n  experiments fidelity --runs 3")]
    Fidelity(FidelityCommand),
    /// Runs a report's flags again and compares its deterministic files, byte for byte
    ///
    /// Run it in the folder that `compare` was run in, if the trace is a relative path.
    #[command(
        after_help = "Example:\n  experiments verify out/demo\n\nExit code 0: all the same; \
        1: some are not; 2: there is no manifest, or the trace has changed"
    )]
    Verify(VerifyCommand),
}

#[derive(Debug, clap::Args)]
struct CompareCommand {
    #[command(flatten)]
    flags: CompareFlags,
    #[command(flatten)]
    report: ReportArgs,
    /// Show this report of the GPU experiment on the page
    #[arg(long, value_name = "DIR")]
    gpu_report: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct GpuCommand {
    #[command(flatten)]
    flags: GpuFlags,
    #[command(flatten)]
    report: ReportArgs,
    /// A page that this one points to, as a link from its folder
    #[arg(long, value_name = "LINK")]
    related: Option<String>,
}

#[derive(Debug, clap::Args)]
struct FidelityCommand {
    /// Runs on the real cell
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    runs: u16,
    /// What is run; without it a workload that comes with the program
    #[arg(long, value_name = "FILE")]
    workload: Option<PathBuf>,
    /// How long a simulated borglet takes to start a task, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 4)]
    start_up_ms: u64,
    /// Seeds the simulation
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The first of the ports of the real cell
    #[arg(long, value_name = "PORT", default_value_t = 7600, value_parser = clap::value_parser!(u16).range(1024..=60000))]
    port: u16,
    /// Print JSON, with all that happened on both sides
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct AblationCommand {
    #[command(flatten)]
    trace: TraceArgs,
    /// The policy: one of Borg's
    #[arg(long, value_name = "NAME", default_value = "borg-hybrid")]
    policy: String,
    /// Where hosts are sampled, look at machines until so many are feasible
    #[arg(long, value_name = "N", default_value = "50")]
    sample: NonZeroUsize,
    /// Runs of each row
    #[arg(long, value_name = "N", default_value = "3")]
    runs: NonZeroUsize,
    /// Seeds ties and samples
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// What decides nothing about the results.
#[derive(Debug, clap::Args)]
struct ReportArgs {
    /// Threads to run trials on; they do not change the results [default: one a core]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Folder to write to: a new one, an empty one, or that of a former report
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print the results as JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct VerifyCommand {
    /// The report's folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Threads to run trials on; they do not change the results [default: one a core]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let done = match cli.command {
        Command::Compare(command) => run_compare(command),
        Command::Gpu(command) => run_gpu(command),
        Command::Ablation(command) => run_ablation(&command),
        Command::Fidelity(command) => run_fidelity(&command),
        Command::Verify(command) => run_verify(&command),
    };
    done.unwrap_or_else(|error| {
        let chain: Vec<String> = error.chain().map(|cause| one_line(&cause.to_string())).collect();
        eprintln!("experiments: {}", chain.join(": "));
        ExitCode::from(2)
    })
}

/// Prints help as it is, and an error of the command line in one line.
fn usage(error: &clap::Error) -> ExitCode {
    let kind = error.kind();
    if matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        error.exit();
    }
    if kind == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        eprint!("{error}");
        return ExitCode::from(2);
    }
    eprintln!("experiments: {}", fauxmaster::args::usage_line(error));
    ExitCode::from(2)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn run_compare(command: CompareCommand) -> anyhow::Result<ExitCode> {
    let CompareCommand { flags, report: ReportArgs { threads, out, json }, gpu_report } = command;
    let (began, started) = (Instant::now(), utc_now());
    let plan = Plan::new(flags)?;
    folder::check(&out)?;
    let gpu_report = gpu_report.map(|report| GpuReport::read(&report, &out)).transpose()?;
    let trace = load(&plan.flags)?;
    let run =
        with_progress("trials and packings", |progress| compare(plan, &trace, threads, progress))?;
    let results = Results::of(&run);
    let figures = figures(&results);
    let mut outputs = output::deterministic(&results, &figures);
    outputs.push(output::timings(&run));
    let flags = &run.plan.flags;
    let seeds = Seeds { base: flags.seed, trials: (0..flags.trials).collect() };
    let mut manifest = Manifest::new(
        Experiment::Compare,
        &run.trace,
        flags,
        seeds,
        thread_count(threads),
        started,
    );
    manifest.outputs = outputs.iter().map(OutputEntry::from).collect();
    manifest.wall_seconds = number::rounded(began.elapsed().as_secs_f64(), 3);
    let folder_name = out.to_string_lossy();
    let page = page(&run, &results, &figures, &manifest, &folder_name, gpu_report.as_ref());
    let page = Output { name: PAGE.to_owned(), bytes: page.into_bytes(), deterministic: false };
    manifest.outputs.push(OutputEntry::from(&page));
    outputs.push(page);
    outputs.push(manifest.output());
    folder::write(&out, &outputs)?;
    if json {
        print(&output::json(&results))?;
    } else {
        print(summary(&run, &results, &out, manifest.wall_seconds).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn run_gpu(command: GpuCommand) -> anyhow::Result<ExitCode> {
    let GpuCommand { flags, report: ReportArgs { threads, out, json }, related } = command;
    let (began, started) = (Instant::now(), utc_now());
    let plan = GpuPlan::new(flags)?;
    folder::check(&out)?;
    let trace = gpu::load(&plan.flags)?;
    let run = with_progress("inflations", |progress| gpu::run(&plan, &trace, threads, progress))?;
    let results = GpuResults::of(&run);
    let figures = arrivals::figures(&results);
    let mut outputs = gpu::output::deterministic(&run, &results, &figures);
    let mut manifest = Manifest::new(
        Experiment::Gpu,
        &run.trace,
        &run.flags,
        plan.seeds(),
        thread_count(threads),
        started,
    );
    manifest.outputs = outputs.iter().map(OutputEntry::from).collect();
    manifest.wall_seconds = number::rounded(began.elapsed().as_secs_f64(), 3);
    let folder_name = out.to_string_lossy();
    let page = gpu::page::page(&results, &figures, &manifest, &folder_name, related.as_deref());
    let page = Output { name: PAGE.to_owned(), bytes: page.into_bytes(), deterministic: false };
    manifest.outputs.push(OutputEntry::from(&page));
    outputs.push(page);
    outputs.push(manifest.output());
    folder::write(&out, &outputs)?;
    if json {
        print(&output::json(&results))?;
    } else {
        print(gpu_summary(&results, &out, manifest.wall_seconds).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn run_ablation(command: &AblationCommand) -> anyhow::Result<ExitCode> {
    let options = AblationOptions {
        policy: Policy::by_name(&command.policy).context("--policy")?,
        sample: command.sample,
        runs: command.runs,
        seed: command.seed,
    };
    let trace = command.trace.load_aloud("experiments")?;
    let report =
        with_progress("packings", |progress| ablation(&trace, &options, &|at| progress(at)))?;
    let text = if command.json {
        output::json(&report)
    } else {
        format!("{}\n", report.table()).into_bytes()
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn run_fidelity(command: &FidelityCommand) -> anyhow::Result<ExitCode> {
    let text = match &command.workload {
        Some(path) => std::fs::read_to_string(path).with_context(|| path.display().to_string())?,
        None => fidelity::WORKLOAD.to_owned(),
    };
    let workload = Workload::parse(&text).map_err(anyhow::Error::msg).context("workload")?;
    let model = Model { start_up_ms: command.start_up_ms, seed: command.seed };
    let simulated = fidelity::simulate(&workload, model).map_err(anyhow::Error::msg)?;
    let mut real = Vec::new();
    for run in 0..command.runs {
        let cell = LocalCell::start(&workload, command.port)?;
        if std::io::stderr().is_terminal() {
            eprintln!("real run {} of {}", run + 1, command.runs);
        }
        real.push(cell.run(&workload)?);
    }
    let report = fidelity::Report::new(&workload, simulated, real).map_err(anyhow::Error::msg)?;
    let text = if command.json {
        output::json(&report)
    } else {
        format!("{}\n", report.table()).into_bytes()
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn thread_count(threads: Option<NonZeroUsize>) -> usize {
    threads.or(available_parallelism().ok()).map_or(1, NonZeroUsize::get)
}

fn run_verify(command: &VerifyCommand) -> anyhow::Result<ExitCode> {
    match experiment(&command.folder)? {
        Experiment::Compare => verify_compare(command),
        Experiment::Gpu => verify_gpu(command),
    }
}

fn verify_gpu(command: &VerifyCommand) -> anyhow::Result<ExitCode> {
    let manifest: Manifest<GpuFlags> = Manifest::read(&command.folder)?;
    let plan = GpuPlan::new(manifest.flags.clone()).context("flags of the manifest")?;
    let trace = gpu::load(&plan.flags)?;
    check_trace(&manifest, &trace.sha256)?;
    note_commit(&manifest);
    let run =
        with_progress("inflations", |progress| gpu::run(&plan, &trace, command.threads, progress))?;
    let results = GpuResults::of(&run);
    let outputs = gpu::output::deterministic(&run, &results, &arrivals::figures(&results));
    judge(command, &manifest, &outputs)
}

fn verify_compare(command: &VerifyCommand) -> anyhow::Result<ExitCode> {
    let manifest: Manifest = Manifest::read(&command.folder)?;
    let plan = Plan::new(manifest.flags.clone()).context("flags of the manifest")?;
    let trace = load(&plan.flags)?;
    check_trace(&manifest, &trace.sha256)?;
    note_commit(&manifest);
    let run = with_progress("trials and packings", |progress| {
        compare(plan, &trace, command.threads, progress)
    })?;
    let results = Results::of(&run);
    let outputs = output::deterministic(&results, &figures(&results));
    judge(command, &manifest, &outputs)
}

fn note_commit<F>(manifest: &Manifest<F>) {
    if manifest.commit != COMMIT {
        eprintln!("note: made by commit {}, compared with {COMMIT}", manifest.commit);
    }
}

/// Compares a report with what a new run gives, and says what came of each file.
fn judge<F>(
    command: &VerifyCommand,
    manifest: &Manifest<F>,
    outputs: &[Output],
) -> anyhow::Result<ExitCode> {
    let findings = verify(&command.folder, manifest, outputs);
    let mut text = String::new();
    for file in &findings {
        text.push_str(&format!("{:<26} {}\n", file.name, file.finding));
    }
    let failed = findings.iter().filter(|file| file.finding != Finding::Same).count();
    let of = number::counted(findings.len(), "file");
    let folder = command.folder.display();
    text.push_str(&match failed {
        0 => format!("{folder}: {of}, all the same\n"),
        failed => format!("{folder}: {of}, {failed} not the same\n"),
    });
    print(text.as_bytes())?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Runs with a progress bar where someone looks at it.
fn with_progress<T>(
    what: &str,
    work: impl FnOnce(&(dyn Fn(experiments::run::Progress<'_>) + Sync)) -> T,
) -> T {
    if !std::io::stderr().is_terminal() {
        return work(&|_| ());
    }
    let template =
        format!("{{bar:30}} {{pos}}/{{len}} {what}, {{elapsed}}, about {{eta}} left: {{msg}}");
    let style = ProgressStyle::with_template(&template).expect("a constant but for a noun");
    let bar = ProgressBar::new(0).with_style(style);
    let result = work(&|progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
        if bar.message() != progress.row {
            bar.set_message(progress.row.to_owned());
        }
    });
    bar.finish_and_clear();
    result
}

/// Prints to standard output; a reader that has gone away is no error.
fn print(bytes: &[u8]) -> anyhow::Result<()> {
    match std::io::stdout().write_all(bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

/// What a terminal shows of the GPU experiment.
fn gpu_summary(results: &GpuResults, out: &Path, seconds: f64) -> String {
    let mut shown = Table::new();
    shown.load_style(presets::UTF8_FULL_CONDENSED);
    let until = results.method.until_percent;
    shown.set_header([
        "policy".to_owned(),
        "allocated at 100 %".to_owned(),
        "fragments of free".to_owned(),
        format!("allocated at {until} %"),
        "fragments of free".to_owned(),
    ]);
    let text = |over: Over| {
        let [mean, min, max] = [over.mean, over.min, over.max].map(|v| number::percent(v, 1));
        format!("{mean} ({min} to {max})")
    };
    for row in &results.rows {
        let (full, end) = (row.at(100), row.at(until as usize));
        let mut cells = vec![row.policy.clone()];
        let numbers =
            [full.allocated, full.fragment_rate, end.allocated, end.fragment_rate].map(text);
        cells.extend(numbers);
        shown.add_row(cells);
    }
    for column in shown.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!(
        "{shown}\n\nMean over {} (least to most), {} s; the page: {}\n",
        number::counted(results.method.seeds, "seed"),
        number::decimal(seconds, 1),
        out.join(PAGE).display()
    )
}

/// What a terminal shows of the results.
fn summary(run: &Run, results: &Results, out: &Path, seconds: f64) -> String {
    let mut text = String::new();
    for (table, measured) in results.tables.iter().zip(&run.tables) {
        let title = match table.kind {
            TableKind::Limits => "By limits, one queue for all: the scores alone",
            TableKind::Reclaimed => "By their own rules: the systems",
        };
        text.push_str(&format!("{title}\n{}\n\n", summary_table(table, measured)));
    }
    for answer in &results.answers {
        text.push_str(&format!("{}\n", answer.sentence));
    }
    text.push_str(&format!(
        "\n{} a row, seed {}, {} s; the page: {}\n",
        number::counted(results.method.trials, "trial"),
        results.method.seed,
        number::decimal(seconds, 1),
        out.join(PAGE).display()
    ));
    text
}

fn summary_table(table: &results::Table, measured: &experiments::run::TableRun) -> Table {
    let mut shown = Table::new();
    shown.load_style(presets::UTF8_FULL_CONDENSED);
    shown.set_header([
        "policy",
        "machines",
        "over best",
        "over bound",
        "pending",
        "stranded CPU",
        "RAM",
        "decisions/s",
    ]);
    for (row, measured) in table.rows.iter().zip(&measured.rows) {
        let stranded = |resource| {
            row.pack
                .stranding
                .get(resource)
                .map_or("–".to_owned(), |&share| number::percent(share, 1))
        };
        shown.add_row([
            row_name(table, row),
            number::count(row.machines.p90),
            number::signed_percent(row.overhead_over_best, 1),
            number::signed_percent(row.gap_to_bound, 1),
            number::count(row.pack.pending_count),
            stranded("cpu"),
            stranded("ram"),
            number::decimal(measured.pack.decisions_per_second, 0),
        ]);
    }
    for column in shown.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    shown
}
