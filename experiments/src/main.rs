//! The `experiments` program: `compare` writes a report, `verify` checks that it can be made again.
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

use experiments::compare::{compare, load};
use experiments::host::utc_now;
use experiments::manifest::{COMMIT, Manifest, OutputEntry};
use experiments::number;
use experiments::output::{self, Output, PAGE};
use experiments::page::page;
use experiments::plan::{CompareFlags, Plan, TableKind};
use experiments::plot::{figures, row_name};
use experiments::results::Results;
use experiments::run::Run;
use experiments::verify::{Finding, check_trace, verify};
use experiments::{folder, results};

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
    let CompareCommand { flags, threads, out, json } = command;
    let (began, started) = (Instant::now(), utc_now());
    let plan = Plan::new(flags)?;
    folder::check(&out)?;
    let trace = load(&plan.flags)?;
    let run = with_progress(|progress| compare(plan, &trace, threads, progress))?;
    let results = Results::of(&run);
    let figures = figures(&results);
    let mut outputs = output::deterministic(&results, &figures);
    outputs.push(output::timings(&run));
    let thread_count = threads.or(available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let mut manifest = Manifest::new(&run.trace, &run.plan.flags, thread_count, started);
    manifest.outputs = outputs.iter().map(OutputEntry::from).collect();
    manifest.wall_seconds = number::rounded(began.elapsed().as_secs_f64(), 3);
    let page = page(&run, &results, &figures, &manifest, &out.to_string_lossy());
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

fn run_verify(command: &VerifyCommand) -> anyhow::Result<ExitCode> {
    let manifest = Manifest::read(&command.folder)?;
    let plan = Plan::new(manifest.flags.clone()).context("flags of the manifest")?;
    let trace = load(&plan.flags)?;
    check_trace(&manifest, &trace.sha256)?;
    if manifest.commit != COMMIT {
        eprintln!("note: made by commit {}, compared with {COMMIT}", manifest.commit);
    }
    let run = with_progress(|progress| compare(plan, &trace, command.threads, progress))?;
    let results = Results::of(&run);
    let outputs = output::deterministic(&results, &figures(&results));
    let findings = verify(&command.folder, &manifest, &outputs);
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
fn with_progress<T>(work: impl FnOnce(&(dyn Fn(experiments::run::Progress<'_>) + Sync)) -> T) -> T {
    if !std::io::stderr().is_terminal() {
        return work(&|_| ());
    }
    let style = ProgressStyle::with_template(
        "{bar:30} {pos}/{len} trials and packings, {elapsed}, about {eta} left: {msg}",
    )
    .expect("the template is a constant");
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
