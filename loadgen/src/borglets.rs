//! Serves the borglets' service for a fleet, and registers its machines.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use cell::borglet::MachineCapacity;
use cell::live::Op;
use cell::spec::MachineSpec;
use proto::limits::MESSAGE_BYTES_MAX;
use proto::link::{batches, read_from_master};
use proto::wire;
use proto::wire::borglet_server::{Borglet, BorgletServer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use crate::fleet::Fleet;
use client::Client;

/// So many machines go into one request.
const BATCH_COUNT: usize = 1_000;

/// How often the fleet looks for what is due.
const TICK: Duration = Duration::from_millis(20);

/// `loadgen borglets`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many machines
    #[arg(long)]
    count: usize,
    /// Where their borglets listen, IP:PORT; for all of them the same
    #[arg(long)]
    listen: SocketAddr,
    /// Register them there, HOST:PORT; several with commas
    #[arg(long, value_delimiter = ',')]
    master: Vec<String>,
    /// The user who registers them, who must be allowed to
    #[arg(long, default_value = "admin")]
    user: String,
    /// The machines are called PREFIX-0 and so on
    #[arg(long, default_value = "m")]
    prefix: String,
    /// CPUs of each
    #[arg(long, default_value_t = 32)]
    cpus: u32,
    /// RAM of each, in GiB
    #[arg(long, default_value_t = 128)]
    ram_gib: u32,
    /// Listen beyond this machine, although nobody is authenticated
    #[arg(long)]
    insecure: bool,
    /// Tasks end after so long; without it only those of jobs called NAME-500ms, after that
    #[arg(long)]
    runtime_ms: Option<u64>,
}

/// What the user has to put right; nothing was done.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadInput(pub String);

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let Args { count, listen, master, user, prefix, cpus, ram_gib, insecure, runtime_ms } = args;
    if !listen.ip().is_loopback() && !insecure {
        return Err(BadInput(format!(
            "{listen} can be reached from elsewhere, and nobody is authenticated: \
             use a loopback address, or --insecure if you mean it"
        ))
        .into());
    }
    let ram_bytes = u64::from(ram_gib) << 30;
    let capacity = MachineCapacity {
        cpu_milli: u64::from(cpus) * 1000,
        ram_bytes,
        disk_bytes: 0,
        gpu_count: 0,
    };
    let names: Vec<String> = (0..count).map(|number| format!("{prefix}-{number}")).collect();
    let service = Service::new(Fleet::new(names.clone(), capacity, runtime_ms, 0));
    let listener =
        TcpListener::bind(listen).await.with_context(|| format!("cannot listen at {listen}"))?;
    let address = listener.local_addr()?.to_string();
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tokio::spawn(service.clone().advance());
    let server = BorgletServer::new(service.clone())
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let server = tokio::spawn(
        tonic::transport::Server::builder().add_service(server).serve_with_incoming(incoming),
    );
    say(&format!("serves {count} machines at {address}"));
    if !master.is_empty() {
        register(&master, &user, &names, (cpus, ram_bytes), &address).await?;
        say(&format!("registered {count} machines"));
    }
    tokio::select! {
        done = server => done?.context("the server ended"),
        done = tokio::signal::ctrl_c() => {
            say(&format!("{} tasks were alive at the end", service.fleet().alive_count()));
            done.context("signals are not heard")
        }
    }
}

#[allow(clippy::print_stdout, reason = "what a person at a terminal reads")]
fn say(what: &str) {
    println!("{what}");
}

async fn register(
    masters: &[String],
    user: &str,
    names: &[String],
    (cpus, ram_bytes): (u32, u64),
    address: &str,
) -> anyhow::Result<()> {
    let mut client = Client::open(masters, user).await?;
    for names in names.chunks(BATCH_COUNT) {
        let machines: Result<Vec<(MachineSpec, String)>, serde_json::Error> = names
            .iter()
            .map(|name| {
                let spec = serde_json::json!({ "name": name, "cpu": cpus, "ram": ram_bytes });
                Ok((serde_json::from_value(spec)?, address.to_owned()))
            })
            .collect();
        if let Err(rejected) = client.ask(Op::AddMachines { machines: machines? }).await? {
            bail!("the machines are not taken: {rejected}");
        }
    }
    Ok(())
}

#[derive(Clone, Debug)]
struct Service {
    begin: Instant,
    fleet: Arc<Mutex<Fleet>>,
}

impl Service {
    fn new(fleet: Fleet) -> Self {
        Self { begin: Instant::now(), fleet: Arc::new(Mutex::new(fleet)) }
    }

    fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn advance(self) {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            ticks.tick().await;
            self.fleet().advance(self.now_ms());
        }
    }

    /// What the machines of a batch say.
    fn answer(&self, batch: wire::FromMaster) -> Result<Vec<wire::FromBorglet>, Status> {
        let refused = |error: proto::WireError| Status::invalid_argument(error.to_string());
        let mut said = Vec::with_capacity(batch.messages.len());
        {
            let now_ms = self.now_ms();
            let mut fleet = self.fleet();
            for message in read_from_master(batch).map_err(refused)? {
                said.extend(fleet.tell(now_ms, message.map_err(refused)?));
            }
        }
        let messages: Result<Vec<wire::FromMachine>, _> =
            said.into_iter().map(wire::FromMachine::try_from).collect();
        let batches = batches(messages.map_err(refused)?);
        Ok(batches.into_iter().map(|messages| wire::FromBorglet { messages }).collect())
    }
}

#[tonic::async_trait]
impl Borglet for Service {
    type LinkStream = Pin<Box<dyn Stream<Item = Result<wire::FromBorglet, Status>> + Send>>;

    async fn link(
        &self,
        request: Request<Streaming<wire::FromMaster>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let mut batches = request.into_inner();
        let (sender, receiver) = mpsc::channel(64);
        let service = self.clone();
        tokio::spawn(async move {
            loop {
                let replies = match batches.message().await {
                    Ok(Some(batch)) => service.answer(batch),
                    Ok(None) => return,
                    Err(status) => Err(status),
                };
                let replies = match replies {
                    Ok(replies) => replies,
                    Err(status) => return drop(sender.send(Err(status)).await),
                };
                for reply in replies {
                    if sender.send(Ok(reply)).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
