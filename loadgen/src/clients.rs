//! Clients that ask for changes as fast as they are answered.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use cell::Band;
use cell::live::{Amounts, Op, Quota};

use client::Client;

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

/// What clients ask for.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum What {
    /// Grant quota: the state does not grow
    Quota,
    /// Submit a job of the free band
    Submit,
}

/// What each of several clients asks for.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub what: What,
    pub tasks: u32,
    pub prefix: String,
    pub user: String,
}

impl Wish {
    pub(crate) fn op(&self, client: u32, number: u64) -> anyhow::Result<Op> {
        let Self { what, tasks, prefix, user } = self;
        Ok(match what {
            What::Quota => {
                let amounts = Amounts { cpu_milli: number, ..Amounts::default() };
                let user = format!("{prefix}-{client}");
                Op::SetQuota(Quota { user, band: Band::Batch, amounts, until: None })
            }
            What::Submit => {
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

/// Something that asks for one thing at a time.
pub(crate) trait Asks: Send + 'static {
    /// Asks for the thing of this number, and waits for the answer.
    fn ask_one(&mut self, number: u64) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// A client of a master.
#[derive(Debug)]
pub(crate) struct Wisher {
    client: Client,
    wish: Wish,
    number: u32,
}

impl Asks for Wisher {
    async fn ask_one(&mut self, number: u64) -> anyhow::Result<()> {
        let op = self.wish.op(self.number, number)?;
        match self.client.ask(op).await? {
            Ok(_) => Ok(()),
            Err(rejected) => bail!("rejected: {rejected}"),
        }
    }
}

/// Clients with sessions: of the leader, or of the masters in turn.
pub(crate) async fn open(
    masters: &[String],
    count: u32,
    wish: &Wish,
    any: bool,
) -> anyhow::Result<Vec<Wisher>> {
    let mut clients = Vec::new();
    for number in 0..count {
        let mut masters = masters.to_vec();
        let turn = number as usize % masters.len();
        masters.rotate_left(turn);
        let mut client = Client::open(&masters, &wish.user).await?;
        if !any {
            client.go_to_leader().await.context("cannot find the leader")?;
        }
        clients.push(Wisher { client, wish: wish.clone(), number });
    }
    Ok(clients)
}

/// Has all ask at once, for so long; how long each answer took, and how long all of it.
pub(crate) async fn drive(
    clients: Vec<impl Asks>,
    length: Duration,
) -> anyhow::Result<(Vec<Duration>, Duration)> {
    let begin = Instant::now();
    let mut asking = tokio::task::JoinSet::new();
    for mut client in clients {
        asking.spawn(async move {
            let mut times = Vec::new();
            while begin.elapsed() < length {
                let asked = Instant::now();
                client.ask_one(times.len() as u64 + 1).await?;
                times.push(asked.elapsed());
            }
            Ok::<_, anyhow::Error>(times)
        });
    }
    let mut times = Vec::new();
    while let Some(done) = asking.join_next().await {
        times.extend(done??);
    }
    Ok((times, begin.elapsed()))
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let Args { masters, clients, seconds, op: what, tasks, prefix, user, any } = args;
    let wish = Wish { what, tasks, prefix, user };
    let clients = open(&masters, clients, &wish, any).await?;
    let (mut times, elapsed) = drive(clients, Duration::from_secs(seconds)).await?;
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
