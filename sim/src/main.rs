//! `sim`: runs the simulation for many seeds and says what it met.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use rayon::prelude::*;
use sim::coverage::Coverage;
use sim::{Failure, Fault, Options, Summary, run};

/// Simulates whole cells under faults, each seed another one.
///
/// Exit codes: 0 every invariant held, 1 a seed failed, 2 bad input.
///
/// Example: sim --seeds 1000
#[derive(Debug, Parser)]
#[command(name = "sim", version)]
struct Cli {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    start: u64,
    /// Runs one seed only.
    #[arg(long)]
    seed: Option<u64>,
    /// Prints the trace of that seed.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Switches a bug on by its name (test builds only), to see that it is found.
    #[arg(long)]
    mutation: Option<String>,
    /// Prints JSON instead of tables.
    #[arg(long)]
    json: bool,
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program's answers")]
fn main() -> ExitCode {
    let cli = Cli::parse();
    let mutations = match mutations(cli.mutation.as_deref()) {
        Ok(mutations) => mutations,
        Err(problem) => {
            eprintln!("sim: {problem}");
            return ExitCode::from(2);
        }
    };
    let options = |seed| Options {
        keeps_trace: cli.trace,
        mutations: mutations.clone(),
        ..Options::new(seed)
    };
    let seeds: Vec<u64> = match cli.seed {
        Some(seed) => vec![seed],
        None => (cli.start..cli.start + cli.seeds).collect(),
    };
    let done = AtomicU64::new(0);
    let results: Vec<Result<Summary, Failure>> = seeds
        .par_iter()
        .map(|&seed| {
            let result = run(&options(seed));
            let count = done.fetch_add(1, Ordering::Relaxed) + 1;
            if count.is_multiple_of(500) {
                eprintln!("{count} of {} seeds", seeds.len());
            }
            result
        })
        .collect();
    let mut total = Summary::default();
    let mut coverage = Coverage::default();
    let mut failures = Vec::new();
    let mut fewest = (u64::MAX, u64::MAX);
    for result in &results {
        match result {
            Ok(summary) => {
                if let Some(trace) = &summary.trace {
                    print!("{trace}");
                }
                fewest.0 = fewest.0.min(summary.acknowledged_count);
                fewest.1 = fewest.1.min(summary.leader_count);
                add(&mut total, summary);
                coverage.add(&summary.coverage);
            }
            Err(failure) => {
                if let Some(trace) = &failure.trace {
                    print!("{trace}");
                }
                failures.push(failure);
            }
        }
    }
    if cli.json {
        let value = serde_json::json!({
            "seeds": seeds.len(),
            "failures": failures.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "virtual_ms": total.virtual_ms,
            "operations": total.acknowledged_count,
            "reads": total.read_count,
            "entries": total.entry_count,
            "leaders": total.leader_count,
            "placed": total.placed_count,
            "restored": total.restored_count,
            "digest": format!("{:016x}", total.digest),
        });
        println!("{value:#}");
    } else {
        report(&seeds, &total, &coverage, fewest);
    }
    for failure in &failures {
        let mutation = cli.mutation.as_ref().map(|name| format!(" --mutation {name}"));
        eprintln!("{failure}");
        eprintln!(
            "  again: cargo run -p sim -- --seed {} --trace{}",
            failure.seed,
            mutation.unwrap_or_default()
        );
    }
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

#[cfg(debug_assertions)]
fn mutations(name: Option<&str>) -> Result<sim::Mutations, String> {
    let Some(name) = name else { return Ok(sim::Mutations::default()) };
    sim::Mutations::named(name).ok_or_else(|| {
        format!("no bug is called {name:?}; there are {}", sim::Mutations::NAMES.join(", "))
    })
}

#[cfg(not(debug_assertions))]
fn mutations(name: Option<&str>) -> Result<sim::Mutations, String> {
    match name {
        None => Ok(sim::Mutations::default()),
        Some(_) => Err("bugs do not exist in a release build: run without --release".to_owned()),
    }
}

fn add(total: &mut Summary, one: &Summary) {
    total.digest = total.digest.rotate_left(1) ^ one.digest;
    total.virtual_ms += one.virtual_ms;
    total.acknowledged_count += one.acknowledged_count;
    total.read_count += one.read_count;
    total.entry_count += one.entry_count;
    total.leader_count += one.leader_count;
    total.placed_count += one.placed_count;
    total.restored_count += one.restored_count;
    for (fault, count) in &one.faults {
        *total.faults.entry(*fault).or_default() += count;
    }
    for (op, count) in &one.ops {
        *total.ops.entry(op).or_default() += count;
    }
}

#[expect(clippy::print_stdout, reason = "a program's answer")]
fn report(seeds: &[u64], total: &Summary, coverage: &Coverage, fewest: (u64, u64)) {
    println!(
        "{} seeds, {} h of virtual time: {} operations and {} reads of clients (at least {} operations a seed), \
         {} log entries, {} changes of leader (at least {} a seed), {} placements, {} restores",
        seeds.len(),
        total.virtual_ms / 3_600_000,
        total.acknowledged_count,
        total.read_count,
        fewest.0,
        total.entry_count,
        total.leader_count,
        fewest.1,
        total.placed_count,
        total.restored_count
    );
    println!("digest of all traces: {:016x}", total.digest);
    println!("\nfaults met:");
    for fault in Fault::ALL {
        println!("  {:<30} {}", fault.name(), total.faults.get(&fault).copied().unwrap_or(0));
    }
    println!("\noperations applied:");
    for (op, count) in &total.ops {
        println!("  {op:<30} {count}");
    }
    let (table, empty) = coverage.table();
    println!("\ncoverage:\n{table}");
    for cell in empty {
        println!("never met: {cell}");
    }
}
