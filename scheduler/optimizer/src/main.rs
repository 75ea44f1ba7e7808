//! `optimizer`: proven bounds, and plans better than greedy's.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{bail, ensure};
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use fauxmaster::args::{CompactShape, PackShape, PolicyArgs, TraceArgs, up_to};
use fauxmaster::cli::{self, complain, json, say};
use fauxmaster::kube::config::policy_by_name;
use fauxmaster::{CompactOptions, PackOptions, QueueChoice, arrivals};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use optimizer::batches::{self, BatchesOptions};
use optimizer::bound::Effort;
use optimizer::budget::Budget;
use optimizer::compact::Trades;
use optimizer::infeasible::CannotBeHeld;
use optimizer::repack::{Goal, Limit, RepackOptions, Start};
use optimizer::report::BoundReport;
use optimizer::scene::{self, Fill};
use optimizer::{against, compact, pack, preempt, repack, table};
use scheduler::{Policy, QueueOrder};
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
    /// Check certificates that `bound`, `compact` or `pareto` saved, and say what they prove.
    ///
    /// Example: optimizer verify --trace google-2011-t0 --certificate out/bound/certificate.json
    Verify(VerifyArgs),
    /// Find out how few machines a workload needs: greedy first, then improved.
    ///
    /// Example: optimizer compact --policy borg-hybrid --pending-allowance 0 --budget 10s
    Compact(CompactArgs),
    /// Place batches of tasks into a running cell: greedy, and better within a budget.
    ///
    /// Example: optimizer batch --machines 12000 --fill 0.97 --tasks 1000 --budget 500ms --batches 5
    Batch(BatchArgs),
    /// Pack a workload once: greedy first, then improved.
    ///
    /// Example: optimizer pack --policy borg-hybrid --budget 10s
    Pack(PackArgs),
    /// Machines needed against what is spent: for greedy, each budget, and the bound.
    ///
    /// Example: optimizer pareto --pending-allowance 0 --trials 3 --budgets 1s,5s,20s
    Pareto(ParetoArgs),
    /// Let jobs arrive in a running cell: greedy preemption against the best that a search finds.
    ///
    /// Example: optimizer preempt --accounting reclaimed --start recorded --arrive examples/arrivals.yaml
    Preempt(PreemptArgs),
    /// Plan the moves that free the most machines of a running cell, or the most stranded resources.
    ///
    /// Example: optimizer repack --start packed --churn 0.1 --max-moves 500
    Repack(RepackArgs),
}

#[derive(Args, Debug)]
#[command(group(ArgGroup::new("limit").required(true).args(["max_moves", "max_move_cost"])))]
struct RepackArgs {
    #[command(flatten)]
    trace: TraceArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    /// Move at most so many tasks.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    max_moves: Option<usize>,
    /// Let moves cost at most so much in sum, in mean machines, as in 12.5. A move costs the largest part
    /// that the task's charge is of the mean machine, in thousandths rounded up.
    #[arg(long, value_name = "C", allow_negative_numbers = true, value_parser = thousandths)]
    max_move_cost: Option<u64>,
    /// What moves are for.
    #[arg(long, value_enum, default_value_t = GoalName::Machines)]
    goal: GoalName,
    /// The state to start from.
    #[arg(long, value_enum, default_value_t = RepackStartName::Recorded)]
    start: RepackStartName,
    /// With --start packed: take this share of the tasks away first, 0..1, so that the cell is fragmented
    /// as a running one is.
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    churn: Option<f64>,
    /// What the search may spend to improve greedy's plan: 10s, 500ms, or work, as in 200steps, which
    /// gives the same result everywhere; 0 for greedy's plan.
    #[arg(long, value_name = "BUDGET", default_value = "10s")]
    budget: Budget,
    /// Write all moves to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// What moves are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum GoalName {
    /// Machines that host nothing afterwards.
    Machines,
    /// Less that is free of one resource where another is used up.
    Stranded,
}

/// The state that a repacking starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RepackStartName {
    /// Every task where it is recorded to run.
    Recorded,
    /// Packed from scratch by the policy.
    Packed,
}

/// A cost in thousandths of a machine, rounded down.
fn thousandths(text: &str) -> Result<u64, String> {
    let machines = cell::quantity::decimal(text).map_err(|error| error.to_string())?;
    let whole = machines.checked_mul(1000_u64.into()).map(|thousandths| thousandths.floor());
    let whole = whole.ok_or_else(|| "too many machines".to_owned())?;
    cell::quantity::scaled_up(whole, 1).map_err(|error| error.to_string())
}

#[derive(Args, Debug)]
struct PackArgs {
    #[command(flatten)]
    shape: PackShape,
    #[command(flatten)]
    certificate: CertificateArgs,
    /// What the search may spend: 10s, 500ms, or work, as in 20000steps, which gives the same result
    /// everywhere; 0 for greedy's plan.
    #[arg(long, value_name = "BUDGET", default_value = "10s")]
    budget: Budget,
    /// Instead of the trace's tasks pack what arrives until so many per cent of the cell's GPUs are asked
    /// for: tasks drawn from the trace, as in `experiments gpu`.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=1000))]
    arrivals: Option<u32>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct PreemptArgs {
    #[command(flatten)]
    shape: PackShape,
    #[command(flatten)]
    fill: FillArgs,
    /// A file of jobs in the schema of cell:DIR; none of their tasks runs yet.
    #[arg(long, value_name = "FILE")]
    arrive: PathBuf,
    /// What greedy and the search may spend: 10s, 500ms, or work, as in 2000steps (trials), which gives the
    /// same result everywhere; 0 for greedy's plan.
    #[arg(long, value_name = "BUDGET", default_value = "10s")]
    budget: Budget,
    /// Number of threads; without it one for each core.
    #[arg(long, value_name = "N", value_parser = up_to::<256>)]
    threads: Option<usize>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct BatchArgs {
    #[command(flatten)]
    shape: PackShape,
    #[command(flatten)]
    fill: FillArgs,
    /// Number of tasks that arrive in a batch, where the cell is packed (--start empty): 1000 if not given.
    #[arg(long, value_name = "N", value_parser = up_to::<100_000>)]
    tasks: Option<usize>,
    /// Number of batches, each met by a cell of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = up_to::<1000>)]
    batches: usize,
    /// What greedy and the search may spend on a batch: time, or work as in 2000steps (trials), which
    /// gives the same result everywhere; 0 for greedy's plan.
    #[arg(long, value_name = "BUDGET", default_value = "500ms")]
    budget: Budget,
    /// Evict at most so many running tasks.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    max_victims: Option<usize>,
    /// Number of threads; without it one for each core.
    #[arg(long, value_name = "N", value_parser = up_to::<256>)]
    threads: Option<usize>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// How full a packed cell is before something arrives.
#[derive(Args, Debug)]
struct FillArgs {
    /// The share of the scarcest resource that running tasks are charged, drawn at random from the trace;
    /// where the cell is packed (--start empty): 0.97 if not given.
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    fill: Option<f64>,
}

impl FillArgs {
    /// What was asked for, if anything was; the rest as it usually is.
    fn fill(&self, tasks: Option<usize>) -> Option<Fill> {
        let usual = Fill::default();
        let is_given = self.fill.is_some() || tasks.is_some();
        is_given.then(|| Fill {
            share: self.fill.unwrap_or(usual.share),
            arriving: tasks.unwrap_or(usual.arriving),
        })
    }
}

#[derive(Args, Debug)]
struct ParetoArgs {
    #[command(flatten)]
    search: SearchArgs,
    /// What the search may spend on each trial, all as time or all as work.
    #[arg(long, value_name = "BUDGETS", value_delimiter = ',', default_value = "1s,2s,5s,10s,20s")]
    budgets: Vec<Budget>,
    /// What else is weighed against packing; none for machines against seconds alone.
    #[arg(
        long,
        value_enum,
        value_name = "WHAT",
        value_delimiter = ',',
        default_values_t = [TradeName::Evictions, TradeName::Moves]
    )]
    trade: Vec<TradeName>,
}

/// What is weighed against packing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TradeName {
    /// Running tasks that are evicted for a batch that arrives.
    Evictions,
    /// Moves that free machines.
    Moves,
    /// Nothing.
    None,
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
        Command::Batch(args) => run_batch(&args),
        Command::Pack(args) => run_pack(&args),
        Command::Pareto(args) => run_pareto(&args),
        Command::Preempt(args) => run_preempt(&args),
        Command::Repack(args) => run_repack(&args),
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

fn run_preempt(args: &PreemptArgs) -> anyhow::Result<ExitCode> {
    let options = args.shape.options()?;
    let trace = args.shape.trace.load_aloud(NAME)?;
    let (trace, jobs) = traces::with_arrivals(trace, &args.arrive)?;
    let bar = spinner("preempting")?;
    let threads = rayon::ThreadPoolBuilder::new().num_threads(args.threads.unwrap_or(0)).build()?;
    let fill = args.fill.fill(None);
    let report = threads.install(|| {
        let scene = scene::scene(&trace, &options, fill, Some(&jobs), 0)?;
        preempt::compare(&trace, &options, &scene, args.budget)
    });
    bar.finish_and_clear();
    let report = report?;
    tell_failures(&report.failures);
    say(NAME, &if args.json { json(&report)? } else { table::of_preempt(&report) });
    Ok(ExitCode::SUCCESS)
}

fn run_batch(args: &BatchArgs) -> anyhow::Result<ExitCode> {
    let options = args.shape.options()?;
    let trace = args.shape.trace.load_aloud(NAME)?;
    let bar = spinner("batches")?;
    let threads = rayon::ThreadPoolBuilder::new().num_threads(args.threads.unwrap_or(0)).build()?;
    let of = BatchesOptions {
        fill: args.fill.fill(args.tasks),
        batches: args.batches,
        budget: args.budget,
        max_victims: args.max_victims,
    };
    let progress = |done: usize| bar.set_message(format!("{done}/{} batches", args.batches));
    let report = threads.install(|| batches::run(&trace, &options, &of, &progress));
    bar.finish_and_clear();
    let report = report?;
    tell_failures(&report.failures);
    say(NAME, &if args.json { json(&report)? } else { table::of_batches(&report) });
    Ok(ExitCode::SUCCESS)
}

fn run_pack(args: &PackArgs) -> anyhow::Result<ExitCode> {
    let mut options = args.shape.options()?;
    let mut trace = args.shape.trace.load_aloud(NAME)?;
    if let Some(percent) = args.arrivals {
        trace = arrivals(&trace, options.seed, percent)?;
        options.queue = QueueChoice::Order(QueueOrder::Fifo);
    }
    let bar = spinner("packing")?;
    let improved = pack::pack(&trace, &options, args.budget, &args.certificate.certificate);
    bar.finish_and_clear();
    let report = improved?.report;
    tell_failures(&report.failures);
    say(NAME, &if args.json { json(&report)? } else { table::of_packed(&report) });
    Ok(ExitCode::SUCCESS)
}

fn run_pareto(args: &ParetoArgs) -> anyhow::Result<ExitCode> {
    let is_none = args.trade.contains(&TradeName::None);
    ensure!(!is_none || args.trade.len() == 1, "--trade none goes with no other");
    let trades = Trades {
        evictions: args.trade.contains(&TradeName::Evictions),
        moves: args.trade.contains(&TradeName::Moves),
    };
    run_search(&args.search, |trace, options, progress| {
        let SearchArgs { rounds, certificate, json: is_json, .. } = &args.search;
        let file = &certificate.certificate;
        let report = compact::pareto(
            trace,
            options,
            effort(*rounds),
            &args.budgets,
            trades,
            file,
            progress,
        )?;
        let text = if *is_json { json(&report)? } else { table::of_pareto(&report) };
        Ok((text, report.improved.failures))
    })
}

fn run_repack(args: &RepackArgs) -> anyhow::Result<ExitCode> {
    let start = match (args.start, args.churn) {
        (RepackStartName::Recorded, None) => Start::Recorded,
        (RepackStartName::Recorded, Some(_)) => bail!("--churn goes with --start packed only"),
        (RepackStartName::Packed, churn) => Start::Packed { churn: churn.unwrap_or(0.0) },
    };
    let limit = match (args.max_moves, args.max_move_cost) {
        (Some(moves), None) => Limit::Moves(moves),
        (None, Some(cost)) => Limit::Cost(cost),
        _ => bail!("either --max-moves or --max-move-cost is needed"),
    };
    if let Start::Packed { churn } = start {
        ensure!((0.0..1.0).contains(&churn), "--churn {churn} is not in 0..1");
    }
    let pack = PackOptions {
        accounting: args.policy.accounting(),
        queue: args.policy.queue(),
        speed: args.policy.speed(),
        ..PackOptions::new(args.policy.policy()?, args.policy.seed)
    };
    let goal = match args.goal {
        GoalName::Machines => Goal::Machines,
        GoalName::Stranded => Goal::Stranded,
    };
    let options = RepackOptions { pack, start, goal, limit, budget: args.budget };
    let trace = args.trace.load_aloud(NAME)?;
    let bar = spinner("repacking")?;
    let report = repack::repack(&trace, &options);
    bar.finish_and_clear();
    let report = report?;
    if let Some(path) = &args.plan {
        repack::save_plan(&report.moves, path)?;
    }
    tell_failures(&report.failures);
    say(NAME, &if args.json { json(&report)? } else { table::of_repack(&report) });
    if let Some(reason) = &report.reason {
        complain(NAME, &anyhow::anyhow!("{reason}"));
        return Ok(ExitCode::from(1));
    }
    Ok(ExitCode::SUCCESS)
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
