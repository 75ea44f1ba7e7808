//! A full cell under a steady load: jobs come and are placed as fast as others finish, while every machine
//! reports. At that size also: reads beside the load, memory, a leader that is killed, a restart from disk.
//!
//! Half of the tasks run on, and the other half are of jobs that end after as long as it takes to submit that
//! half anew at the rate that is asked for, so that as many finish as start.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use cell::live::view::PhaseKind;
use proto::status::Consistency;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use super::Args;
use super::ask::{self, Asker};
use super::cluster::{Cluster, DEADLINE, USER};
use super::failover;
use super::report::{Bar, Report, Times, tell};
use client::Client;

/// How often a job is looked at until all of it is placed.
const LOOK: Duration = Duration::from_millis(50);

/// How often each reader asks.
const READ: Duration = Duration::from_millis(20);

/// So many jobs may be under way; what would be more waits, and the rate falls.
const UNDER_WAY_MAX: usize = 256;

pub(super) async fn run(args: &Args, folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    let mut cluster = Cluster::start(folder).await?;
    cluster.add_machines(args.machines).await?;
    let leader = cluster.leader().await?;
    fill(&cluster.addresses[leader], "base", args.running / 2, args).await?;
    load(args, &cluster, leader, report).await?;
    failover::run(args, &mut cluster, report).await
}

/// Submits jobs that run on, until so many tasks have a place.
pub(super) async fn fill(
    leader: &str,
    name: &str,
    task_count: u32,
    args: &Args,
) -> anyhow::Result<()> {
    let mut client = Client::open(&[leader.to_owned()], USER).await?;
    let mut asker = Asker::new(leader)?;
    let begin = Instant::now();
    let (mut left, mut number) = (task_count, 0);
    while left > 0 {
        let count = left.min(args.job_tasks);
        let job = format!("{name}-{number}");
        submit_and_wait(&mut client, &mut asker, &job, count).await?;
        left -= count;
        number += 1;
    }
    tell(&format!("{task_count} tasks placed in {:?}", begin.elapsed()));
    Ok(())
}

async fn submit_and_wait(
    client: &mut Client,
    asker: &mut Asker,
    job: &str,
    count: u32,
) -> anyhow::Result<()> {
    if let Err(rejected) = client.ask(ask::job(job, count)?).await? {
        bail!("{job} was rejected: {rejected}");
    }
    let begin = Instant::now();
    while asker.job(Consistency::Stale, job).await?.counts.get(PhaseKind::Pending) > 0 {
        ensure!(begin.elapsed() < DEADLINE, "{job} is not placed after {DEADLINE:?}");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// What goes on until the end of the load.
#[derive(Debug, Default)]
struct Ongoing {
    placed: AtomicU64,
    is_over: AtomicBool,
}

async fn load(
    args: &Args,
    cluster: &Cluster,
    leader: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    let address = cluster.addresses[leader].clone();
    let follower = cluster.addresses[(leader + 1) % 3].clone();
    let ongoing = Arc::new(Ongoing::default());
    let submitter = tokio::spawn(submit_steadily(args.clone(), address.clone(), ongoing.clone()));
    // Until as many finish as start.
    let runtime = runtime(args);
    let warm_up = runtime * 2 + Duration::from_secs(2);
    tokio::time::sleep(warm_up).await;
    let stale = reader(follower.clone(), Consistency::Stale, ongoing.clone());
    let fresh = reader(follower, Consistency::Linearizable, ongoing.clone());
    let mut asker = Asker::new(&address)?;
    let (begin, placed, busy) =
        (Instant::now(), ongoing.placed.load(Ordering::Relaxed), cluster.cpu_times()?);
    let mut running = Vec::new();
    while begin.elapsed() < Duration::from_secs(args.seconds) {
        let remaining = Duration::from_secs(args.seconds).saturating_sub(begin.elapsed());
        tokio::time::sleep(remaining.min(Duration::from_secs(5))).await;
        let counts = asker.cell().await?.tasks;
        let alive = counts.get(PhaseKind::Running) + counts.get(PhaseKind::Starting);
        running.push(f64::from(alive));
        let now = ongoing.placed.load(Ordering::Relaxed) - placed;
        tell(&format!("after {:?}: {now} placed, {alive} run", begin.elapsed()));
    }
    let elapsed = begin.elapsed().as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "a rate")]
    let rate = (ongoing.placed.load(Ordering::Relaxed) - placed) as f64 / elapsed;
    let used = cluster.cpu_times()?;
    ongoing.is_over.store(true, Ordering::Relaxed);
    let (stale, fresh) = (Times::new(stale.await??)?, Times::new(fresh.await??)?);
    let latencies = Times::new(submitter.await??)?;

    let at = format!("{} machines, {:.0} s", args.machines, elapsed);
    let bar = Some(Bar::AtLeast(10_000.0));
    report.row(format!("submit to placed, sustained ({at})"), rate, "tasks/s", bar);
    let mean = running.iter().sum::<f64>() / f64::from(u32::try_from(running.len())?.max(1));
    let bar = Some(Bar::AtLeast(f64::from(args.running)));
    report.row("tasks that ran meanwhile, mean", mean, "tasks", bar);
    report.row("a job's submit to all placed, p50", latencies.median_ms(), "ms", None);
    report.row("a job's submit to all placed, p99", latencies.p99_ms(), "ms", None);
    let names = ["replica 1", "replica 2", "replica 3", "borglets"];
    for (number, (name, (before, after))) in names.iter().zip(busy.iter().zip(&used)).enumerate() {
        let share = (*after - *before).as_secs_f64() / elapsed;
        let what = if number == leader { " (leads)" } else { "" };
        report.row(format!("cores used by {name}{what}"), share, "cores", None);
    }
    let bar = |most| Some(Bar::AtMost(most));
    report.row("linearizable status of a follower, p50", fresh.median_ms(), "ms", None);
    report.row("linearizable status of a follower, p99", fresh.p99_ms(), "ms", bar(20.0));
    report.row("stale status of a follower, p50", stale.median_ms(), "ms", None);
    report.row("stale status of a follower, p99", stale.p99_ms(), "ms", bar(5.0));
    for (name, replica) in names.iter().zip(&cluster.replicas) {
        let (now, peak) = replica.memory()?;
        #[allow(clippy::cast_precision_loss, reason = "printed")]
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        report.row(format!("resident memory of {name}"), mib(now), "MiB", None);
        report.row(format!("resident memory of {name}, peak"), mib(peak), "MiB", bar(1024.0));
    }
    Ok(())
}

/// How long the tasks run that come and go.
fn runtime(args: &Args) -> Duration {
    Duration::from_millis(u64::from(args.running / 2) * 1000 / u64::from(args.rate.max(1)))
}

/// Submits jobs at the rate that is asked for, or as fast as they are placed; how long each took until all
/// of it had a place.
async fn submit_steadily(
    args: Args,
    leader: String,
    ongoing: Arc<Ongoing>,
) -> anyhow::Result<Vec<Duration>> {
    let every = Duration::from_secs_f64(f64::from(args.job_tasks) / f64::from(args.rate.max(1)));
    let runtime_ms = runtime(&args).as_millis();
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut idle = Vec::new();
    let mut under_way = JoinSet::new();
    let mut times = Vec::new();
    let mut number = 0_u64;
    while !ongoing.is_over.load(Ordering::Relaxed) {
        ticks.tick().await;
        while let Some(done) = match under_way.len() < UNDER_WAY_MAX {
            true => under_way.try_join_next(),
            false => under_way.join_next().await,
        } {
            let (client, took) = done??;
            idle.push(client);
            times.push(took);
        }
        let (mut client, mut asker) = match idle.pop() {
            Some(client) => client,
            None => {
                (Client::open(std::slice::from_ref(&leader), USER).await?, Asker::new(&leader)?)
            }
        };
        number += 1;
        let job = format!("churn-{number}-{runtime_ms}ms");
        let (count, ongoing) = (args.job_tasks, Arc::clone(&ongoing));
        under_way.spawn(async move {
            let begin = Instant::now();
            submit_and_wait(&mut client, &mut asker, &job, count).await.context(job)?;
            ongoing.placed.fetch_add(count.into(), Ordering::Relaxed);
            Ok::<_, anyhow::Error>(((client, asker), begin.elapsed()))
        });
    }
    while let Some(done) = under_way.join_next().await {
        times.push(done??.1);
    }
    Ok(times)
}

/// Reads in a thread of its own, so that an answer does not wait for the clients that submit.
fn reader(
    address: String,
    consistency: Consistency,
    ongoing: Arc<Ongoing>,
) -> JoinHandle<anyhow::Result<Vec<Duration>>> {
    tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(read(address, consistency, ongoing))
    })
}

/// Asks for a job's status again and again; how long each answer took.
async fn read(
    address: String,
    consistency: Consistency,
    ongoing: Arc<Ongoing>,
) -> anyhow::Result<Vec<Duration>> {
    let mut asker = Asker::new(&address)?;
    let mut ticks = tokio::time::interval(READ);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut times = Vec::new();
    while !ongoing.is_over.load(Ordering::Relaxed) {
        ticks.tick().await;
        let begin = Instant::now();
        asker.job(consistency, "base-0").await?;
        times.push(begin.elapsed());
    }
    Ok(times)
}
