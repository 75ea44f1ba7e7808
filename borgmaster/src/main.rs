//! The daemon: one replica of a cell's master.
//!
//! A thread owns the replica ([`replica`]); others write ([`disk`]), plan ([`planners`]) and make checkpoints
//! ([`checkpoints`]); tokio carries what is said between replicas ([`peers`]), with clients ([`rpc`]) and with
//! borglets ([`links`]). What is decided is decided in `borgmaster-replica` and `borgmaster-core`.

mod checkpoints;
mod config;
mod disk;
mod identity;
mod links;
mod peers;
mod planners;
mod priority;
mod replica;
mod rpc;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use borgmaster_replica::engine::Engine;
use borgmaster_replica::node;
use borgmaster_replica::server::{Server, first_write};
use borgmaster_store::RocksEngine;
use clap::Parser;
use proto::limits::MESSAGE_BYTES_MAX;
use proto::operate::{ReplicaChange, ReplicaList, ReplicasQuery};
use proto::reply::Reply;
use proto::status::{Consistency, StatusQuery};
use proto::wire;
use proto::wire::cell_client::CellClient;
use proto::wire::cell_server::CellServer;
use proto::wire::replica_server::ReplicaServer;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tonic::transport::server::TcpIncoming;

use crate::config::{Args, Config, Place};
use crate::identity::Identity;
use crate::links::Links;
use crate::peers::Peers;
use crate::replica::{Message, Replica, Surroundings};

/// Bad input, as of the command line.
const BAD_INPUT: u8 = 2;

fn main() -> ExitCode {
    let args = Args::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let config = match Config::new(args, std::env::var("USER").ok()) {
        Ok(config) => config,
        Err(error) => return fail(&error, BAD_INPUT),
    };
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

#[allow(clippy::print_stderr, reason = "what a person at a terminal reads")]
fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    eprintln!("borgmaster: {error:#}");
    ExitCode::from(code)
}

fn run(config: Config) -> anyhow::Result<()> {
    let Config { id, data, replicas, place, join, settings, scheduler_count } = config;
    std::fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
    let mut engine = RocksEngine::open(&data.join("db"))?;
    let sync = disk::measure_sync(&data).with_context(|| format!("{}", data.display()))?;
    tracing::info!(folder = %data.display(), sync_us = sync.as_micros(), "measured the disk");
    let texts = |places: &BTreeMap<u64, Place>| -> BTreeMap<u64, String> {
        places.iter().map(|(&id, place)| (id, place.to_text())).collect()
    };
    let mut loaded = engine.load()?;
    let folder = data.join("db");
    let kept = Identity::read(&folder)?;
    if loaded.is_empty() && join.is_none() && kept.is_none() {
        engine.write(&first_write(&texts(&replicas)))?;
        engine.sync()?;
        loaded = engine.load()?;
    }
    let is_empty = loaded.is_empty();
    ensure!(
        !is_empty || join.is_some(),
        "{} holds no log yet: start replica {id} with --join and the address of another one",
        data.display()
    );
    let seed = RandomState::new().hash_one(id);
    let core = borgmaster_core::Config { seed, scheduler_count, ..Default::default() };
    let server = Server::new(node::Config::new(id, seed), core, loaded)
        .with_context(|| format!("{}", data.display()))?;

    let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
    let links = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(links::SHARD_COUNT)
        .thread_name("links")
        .on_thread_start(priority::step_back)
        .build()
        .context("cannot start threads")?;
    let (cell, known) = match join {
        Some(address) if is_empty || server.addresses().is_empty() => {
            runtime.block_on(ask_about(&address))?
        }
        Some(_) => {
            (kept.map_or_else(|| settings.cell_name.clone(), |kept| kept.cell), BTreeMap::new())
        }
        None => (settings.cell_name.clone(), texts(&replicas)),
    };
    Identity { cell: cell.clone(), id }.keep(&folder)?;
    // Before another thread has the engine: whoever ends while one has it may not end in order.
    let listeners = runtime.block_on(Listeners::bind(&place))?;
    let (to_replica, messages) = crossbeam_channel::unbounded();
    let (to_hear, heard) = crossbeam_channel::unbounded();
    let (to_disk, writes) = crossbeam_channel::unbounded();
    let (to_planners, requests) = crossbeam_channel::unbounded();
    planners::start(scheduler_count, &requests, &to_replica)?;
    let (to_checkpoints, requests) = crossbeam_channel::unbounded();
    checkpoints::start(requests, to_replica.clone())?;
    let surroundings = Surroundings {
        peers: Peers::new(cell.clone(), id, runtime.handle().clone()),
        links: Links::new(links.handle().clone(), to_hear, to_replica.clone()),
        disk: to_disk,
        planners: to_planners,
        checkpoints: to_checkpoints,
        known,
        settings: Some(settings),
    };
    let replica = Replica::new(server, surroundings);
    let disk = {
        let to_replica = to_replica.clone();
        thread::Builder::new()
            .name("disk".to_owned())
            .spawn(move || disk::run(engine, &writes, &to_replica))?
    };

    let peers = peers::Service::new(cell.clone(), id, to_replica.clone());
    let clients = rpc::Service::new(to_replica.clone());
    listeners.serve(runtime.handle(), clients, peers);
    tracing::info!(cell, id, clients = place.client, peers = place.peer, "listens");

    let ended = thread::Builder::new()
        .name("replica".to_owned())
        .spawn(move || replica.run(&messages, &heard))?;
    runtime.spawn(async move {
        if let Err(error) = wait_for_signal().await {
            tracing::error!(%error, "signals are not heard");
            return;
        }
        tracing::info!("asked to stop");
        // If it is not taken, the replica has ended.
        let _ = to_replica.send(Message::Stop);
    });
    let ended =
        ended.join().map_err(|_| anyhow::anyhow!("a bug: the replica's thread panicked"))?;
    links.shutdown_background();
    runtime.shutdown_timeout(Duration::from_millis(200));
    // Its queue ended with the replica; what was in it goes to the disk.
    disk.join().map_err(|_| anyhow::anyhow!("a bug: the disk's thread panicked"))?;
    ended.map_err(|reason| anyhow::anyhow!("{}: {reason}", data.display()))?;
    tracing::info!("stopped");
    Ok(())
}

async fn wait_for_signal() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        done = tokio::signal::ctrl_c() => done,
    }
}

/// Where a replica listens.
struct Listeners {
    clients: TcpIncoming,
    /// `None`: where clients ask as well.
    peers: Option<TcpIncoming>,
}

impl Listeners {
    async fn bind(place: &Place) -> anyhow::Result<Self> {
        let peers = match place.peer == place.client {
            true => None,
            false => Some(bind(&place.peer).await?),
        };
        Ok(Self { clients: bind(&place.client).await?, peers })
    }

    /// Answers clients and the other replicas.
    fn serve(self, runtime: &Handle, clients: rpc::Service, peers: peers::Service) {
        let clients = CellServer::new(clients)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let peers = ReplicaServer::new(peers).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let server = || {
            let ping = Some(Duration::from_secs(10));
            tonic::transport::Server::builder().http2_keepalive_interval(ping)
        };
        let first = server().add_service(clients);
        let first = match self.peers {
            None => first.add_service(peers),
            Some(at) => {
                runtime.spawn(server().add_service(peers).serve_with_incoming(at));
                first
            }
        };
        runtime.spawn(first.serve_with_incoming(self.clients));
    }
}

async fn bind(address: &str) -> anyhow::Result<TcpIncoming> {
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("cannot listen at {address}"))?;
    Ok(TcpIncoming::from(listener).with_nodelay(Some(true)))
}

/// The name of a running cell, and where its replicas are.
async fn ask_about(address: &str) -> anyhow::Result<(String, BTreeMap<u64, String>)> {
    let cannot = || format!("cannot ask {address} about the cell");
    let mut client = CellClient::connect(format!("http://{address}")).await.with_context(cannot)?;
    let question = cell::live::view::Question::Cell;
    let query = StatusQuery { consistency: Consistency::Linearizable, question };
    let reply = client.status(wire::StatusRequest::try_from(query)?).await.with_context(cannot)?;
    let reply: Reply<proto::status::Status> = reply.into_inner().try_into()?;
    let answer = reply.with_context(cannot)?.with_context(cannot)?.answer;
    let cell::live::view::Answer::Cell(status) = answer else {
        anyhow::bail!("{address} gave another answer than was asked for");
    };
    let query = ReplicasQuery { user: "replica".to_owned(), change: ReplicaChange::List };
    let request = wire::ReplicasRequest::try_from(query)?;
    let reply = client.replicas(request).await.with_context(cannot)?;
    let reply: Reply<ReplicaList> = reply.into_inner().try_into()?;
    let list = reply.with_context(cannot)?.with_context(cannot)?;
    let places = list.replicas.into_iter().map(|replica| {
        let place = Place { client: replica.client_address, peer: replica.address };
        (replica.id, place.to_text())
    });
    Ok((status.name, places.collect()))
}
