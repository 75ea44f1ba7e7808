//! Clients that ask for changes as fast as they are answered.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use cell::Band;
use cell::live::{Amounts, Op, Quota};

use crate::client::Client;

/// `loadgen clients`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The masters, HOST:PORT with commas
    #[arg(long, value_delimiter = ',', required = true)]
    masters: Vec<String>,
    /// How many clients ask at once, each one thing at a time
    #[arg(long, default_value_t = 64)]
    clients: u32,
    /// How long
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// What each asks for
    #[arg(long, value_enum, default_value_t = What::Quota)]
    op: What,
    /// Tasks of each job that is submitted
    #[arg(long, default_value_t = 1)]
    tasks: u32,
    /// Jobs are called PREFIX-CLIENT-NUMBER
    #[arg(long, default_value = "load")]
    prefix: String,
    /// The user who asks, who must be allowed to
    #[arg(long, default_value = "admin")]
    user: String,
    /// Ask the masters in turn, and not the leader alone
    #[arg(long)]
    any: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum What {
    /// Grant quota: the state does not grow
    Quota,
    /// Submit a job of the free band
    Submit,
}

impl What {
    fn op(
        self,
        prefix: &str,
        client: u32,
        number: u64,
        tasks: u32,
        user: &str,
    ) -> anyhow::Result<Op> {
        Ok(match self {
            Self::Quota => {
                let amounts = Amounts { cpu_milli: number, ..Amounts::default() };
                let user = format!("{prefix}-{client}");
                Op::SetQuota(Quota { user, band: Band::Batch, amounts, until: None })
            }
            Self::Submit => {
                let spec = serde_json::json!({
                    "name": format!("{prefix}-{client}-{number}"),
                    "user": user,
                    "priority": 50,
                    "count": tasks,
                    "limit": { "cpu": "100m", "ram": 1 << 26 },
                });
                Op::Submit { spec: serde_json::from_value(spec)?, is_alloc_set: false }
            }
        })
    }
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let Args { masters, clients, seconds, op, tasks, prefix, user, any } = args;
    let mut ready = Vec::new();
    for number in 0..clients {
        let mut masters = masters.clone();
        let turn = number as usize % masters.len();
        masters.rotate_left(turn);
        let mut client = Client::open(&masters, &user).await?;
        if !any {
            client.go_to_leader().await.context("cannot find the leader")?;
        }
        ready.push(client);
    }
    let begin = Instant::now();
    let end = begin + Duration::from_secs(seconds);
    let mut asking = tokio::task::JoinSet::new();
    for (number, mut client) in (0..).zip(ready) {
        let (prefix, user) = (prefix.clone(), user.clone());
        asking.spawn(async move {
            let mut times = Vec::new();
            while Instant::now() < end {
                let op = op.op(&prefix, number, times.len() as u64 + 1, tasks, &user)?;
                let asked = Instant::now();
                if let Err(rejected) = client.ask(op).await? {
                    bail!("rejected: {rejected}");
                }
                times.push(asked.elapsed());
            }
            Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(done) = asking.join_next().await {
        times.extend(done??);
    }
    let elapsed = begin.elapsed();
    times.sort_unstable();
    report(&times, elapsed)
}

#[allow(clippy::print_stdout, reason = "what a person at a terminal reads")]
fn report(times: &[Duration], elapsed: Duration) -> anyhow::Result<()> {
    let last = times.len().checked_sub(1).context("nothing was answered")?;
    #[allow(clippy::cast_precision_loss, reason = "printed")]
    let rate = times.len() as f64 / elapsed.as_secs_f64();
    println!("mutations {}", times.len());
    println!("per second {rate:.0}");
    for (name, at) in [("p50", last / 2), ("p99", last * 99 / 100), ("max", last)] {
        println!("{name} ms {:.2}", times[at].as_secs_f64() * 1000.0);
    }
    Ok(())
}
