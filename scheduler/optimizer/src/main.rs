//! `optimizer`: proven bounds, and plans better than greedy's.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use fauxmaster::CompactOptions;
use fauxmaster::args::{CompactShape, up_to};
use fauxmaster::cli::{self, complain, json, say};
use fauxmaster::kube::config::policy_by_name;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use optimizer::bound::Effort;
use optimizer::budget::Budget;
use optimizer::infeasible::CannotBeHeld;
use optimizer::report::BoundReport;
use optimizer::{against, compact, table};
use scheduler::Policy;
use traces::Trace;

/// The optimising scheduler: lower bounds with proofs, and plans that are better than greedy's and never
/// worse.
///
/// Exit codes: 0 done, 1 the answer is no, 2 bad input.
#[derive(Debug, Parser)]
#[command(name = "optimizer", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prove how many machines a workload needs at least.
    ///
    /// Example: optimizer bound --trace google-2011-t0 --pending-allowance 0 --trials 11 --seed 1
    Bound(BoundArgs),
    /// Check certificates that `bound`, `compact` or `pack` saved, and say what they prove.
    ///
    /// Example: optimizer verify --trace google-2011-t0 --certificate out/bound/certificate.json
    Verify(VerifyArgs),
    /// Find out how few machines a workload needs: greedy first, then improved.
    ///
    /// Example: optimizer compact --policy borg-hybrid --pending-allowance 0 --budget 10s
    Compact(CompactArgs),
    /// Machines needed against what is spent: for greedy, each budget, and the bound.
    ///
    /// Example: optimizer pareto --pending-allowance 0 --trials 3 --budgets 1s,5s,20s
    Pareto(ParetoArgs),
}

#[derive(Args, Debug)]
struct ParetoArgs {
    #[command(flatten)]
    search: SearchArgs,
    /// What the search may spend on each trial, all as time or all as work.
    #[arg(long, value_name = "BUDGETS", value_delimiter = ',', default_value = "1s,2s,5s,10s,20s")]
    budgets: Vec<Budget>,
}

#[derive(Args, Debug)]
struct BoundArgs {
    #[command(flatten)]
    verify: VerifyArgs,
    /// Rounds of column generation at most; 0: without the configuration bound.
    #[arg(long, value_name = "N", default_value_t = 60)]
    rounds: usize,
}

#[derive(Args, Debug)]
struct VerifyArgs {
    #[command(flatten)]
    shape: CompactShape,
    #[command(flatten)]
    certificate: CertificateArgs,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct CertificateArgs {
    /// The file of certificates.
    #[arg(long, value_name = "FILE", default_value = "out/bound/certificate.json")]
    certificate: PathBuf,
}

#[derive(Args, Debug)]
struct CompactArgs {
    #[command(flatten)]
    search: SearchArgs,
    /// What the search may spend on each trial: 10s, 500ms, or work, as in 20000steps, which gives the
    /// same result everywhere; 0 for greedy's plan.
    #[arg(long, value_name = "BUDGET", default_value = "10s")]
    budget: Budget,
    /// Other policies to compact by on the same trials, by their names; --sample is not for them.
    #[arg(long, value_name = "POLICIES", value_delimiter = ',')]
    against: Vec<String>,
}

/// What a search for a packing is of.
#[derive(Args, Debug)]
struct SearchArgs {
    #[command(flatten)]
    shape: CompactShape,
    #[command(flatten)]
    certificate: CertificateArgs,
    /// Rounds of column generation for the bound; 0: without the configuration bound.
    #[arg(long, value_name = "N", default_value_t = 0)]
    rounds: usize,
    /// Number of threads; without it one for each core.
    #[arg(long, value_name = "N", value_parser = up_to::<256>)]
    threads: Option<usize>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

const NAME: &str = "optimizer";

fn main() -> ExitCode {
    cli::run(NAME, |cli: Cli| match cli.command {
        Command::Bound(args) => run_bound(&args.verify, |trace, options, certificate| {
            compact::bound(trace, options, effort(args.rounds), certificate)
        }),
        Command::Verify(args) => run_bound(&args, compact::check),
        Command::Compact(args) => run_compact(&args),
        Command::Pareto(args) => run_pareto(&args),
    })
}

fn effort(rounds: usize) -> Effort {
    Effort { rounds, ..Effort::default() }
}

fn run_bound(
    args: &VerifyArgs,
    prove: impl Fn(&Trace, &CompactOptions, &Path) -> anyhow::Result<BoundReport>,
) -> anyhow::Result<ExitCode> {
    let options = args.shape.options()?;
    let trace = args.shape.trace.load_aloud(NAME)?;
    let bar = spinner("proving")?;
    let report = prove(&trace, &options, &args.certificate.certificate);
    bar.finish_and_clear();
    let report = match report {
        Ok(report) => report,
        Err(error) => return no(error),
    };
    tell_failures(&report.failures);
    say(NAME, &if args.json { json(&report)? } else { table::of_bound(&report) });
    Ok(ExitCode::SUCCESS)
}

fn run_compact(args: &CompactArgs) -> anyhow::Result<ExitCode> {
    let policies: Vec<Policy> =
        args.against.iter().map(|name| policy_by_name(name)).collect::<Result<_, _>>()?;
    run_search(&args.search, |trace, options, progress| {
        let SearchArgs { rounds, certificate, json: is_json, .. } = &args.search;
        let file = &certificate.certificate;
        let report = against::improve(
            trace,
            options,
            &policies,
            effort(*rounds),
            args.budget,
            file,
            progress,
        )?;
        let text = if *is_json { json(&report)? } else { table::of_improved(&report) };
        Ok((text, report.failures))
    })
}

fn run_pareto(args: &ParetoArgs) -> anyhow::Result<ExitCode> {
    run_search(&args.search, |trace, options, progress| {
        let SearchArgs { rounds, certificate, json: is_json, .. } = &args.search;
        let file = &certificate.certificate;
        let report =
            compact::pareto(trace, options, effort(*rounds), &args.budgets, file, progress)?;
        let text = if *is_json { json(&report)? } else { table::of_pareto(&report) };
        Ok((text, report.improved.failures))
    })
}

/// Runs a search, which returns what to say and which solvers failed.
fn run_search(
    args: &SearchArgs,
    search: impl FnOnce(
        &Trace,
        &CompactOptions,
        &(dyn Fn(usize) + Sync),
    ) -> anyhow::Result<(String, Vec<String>)>
    + Send,
) -> anyhow::Result<ExitCode> {
    let options = args.shape.options()?;
    let trace = args.shape.trace.load_aloud(NAME)?;
    let bar = spinner("trials")?;
    let threads = rayon::ThreadPoolBuilder::new().num_threads(args.threads.unwrap_or(0)).build()?;
    let result = threads.install(|| {
        let progress = |done: usize| bar.set_message(format!("{done}/{} trials", options.trials));
        search(&trace, &options, &progress)
    });
    bar.finish_and_clear();
    let (text, failures) = match result {
        Ok(done) => done,
        Err(error) => return no(error),
    };
    tell_failures(&failures);
    say(NAME, &text);
    Ok(ExitCode::SUCCESS)
}

/// Exit code 1 where the workload cannot be held; any other error stands.
fn no(error: anyhow::Error) -> anyhow::Result<ExitCode> {
    if error.is::<CannotBeHeld>() {
        complain(NAME, &error);
        return Ok(ExitCode::from(1));
    }
    Err(error)
}

/// Says which solvers failed; what was found without them stands.
fn tell_failures(failures: &[String]) {
    for failure in failures {
        complain(NAME, &anyhow::anyhow!("{failure}"));
    }
}

/// A spinner with the time that has passed; drawn only where stderr is a terminal.
fn spinner(what: &str) -> anyhow::Result<ProgressBar> {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::with_template("{spinner} {msg}, {elapsed}")?);
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    Ok(bar)
}
