//! The borglet: runs the tasks of a machine.
//!
//! What is done about what a master wants is decided by `borglet-agent`; here it is carried out. [`machine`] owns the
//! agent, [`container`] starts and watches programs, [`cgroup`] holds them to their limits, [`service`] is what
//! masters and users talk to, and [`folder`] is what a restart finds.

mod cgroup;
mod config;
mod container;
mod enter;
mod folder;
mod given;
mod health;
mod journal;
mod life;
mod machine;
mod oom;
mod packages;
mod register;
mod service;

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use cell::spec::MachineSpec;
use cell::{Bytes, MilliCpu};
use clap::Parser;
use proto::limits::MESSAGE_BYTES_MAX;
use proto::wire::borglet_server::BorgletServer;
use proto::wire::node_server::NodeServer;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tonic::transport::server::TcpIncoming;

use crate::cgroup::{Hierarchy, Unusable};
use crate::config::{Cli, Command, Place, RunArgs};
use crate::container::{Cri, SOCKET_DEFAULT, Settings, Shim, Spares};
use crate::folder::Folder;
use crate::given::Giver;
use crate::machine::{Machine, Surroundings};
use crate::packages::Packages;
use crate::register::Registration;
use crate::service::Service;

/// Bad input, as of the command line.
const BAD_INPUT: u8 = 2;

/// So many containers are set up at once: it is mostly the kernel's work, and holds up those that run.
const SETUP_COUNT_MAX: usize = 4;

/// Logs of so many tasks that ended are kept at most.
const ENDED_COUNT_MAX: usize = 1_000;

/// How often logs that were kept for long enough are looked for.
const LOGS_EVERY: Duration = Duration::from_secs(60);

/// So long after one was taken, others are made.
const SPARES_AFTER: Duration = Duration::from_millis(10);

/// After so long it is tried again to make a container that waits.
const SPARES_AGAIN: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let done = match &cli.command {
        Some(Command::Hash { path }) => packages::hash(path).map(|hash| say(&hash)),
        Some(Command::Clean(place)) => clean(place),
        None => match cli.run.check().and_then(|()| cli.run.place()) {
            Ok(place) => run(cli.run, place),
            Err(error) => return fail(&error, BAD_INPUT),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

#[allow(clippy::print_stdout, reason = "what was asked for")]
fn say(what: &str) {
    println!("{what}");
}

#[allow(clippy::print_stderr, reason = "what a person at a terminal reads")]
fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    eprintln!("borglet: {error:#}");
    ExitCode::from(code)
}

/// Ends every task of a machine, and removes its control groups.
fn clean(place: &Place) -> anyhow::Result<()> {
    let machine = place.machine()?;
    let folder = Folder::open(&place.data, &machine)?;
    let opened = Hierarchy::open(&machine, place.cgroup_parent.as_deref(), (1_000, 1 << 30));
    let hierarchy = match opened {
        // One that never came up, as another has its name.
        Err(Unusable::Taken(_)) if folder.records()?.is_empty() => return Ok(()),
        opened => opened?,
    };
    for name in hierarchy.names()? {
        let group = hierarchy.group(&name);
        group.end()?;
        container::remove_groups(&group)?;
    }
    hierarchy.remove()?;
    for record in folder.records()? {
        folder.forget(record.task.incarnation)?;
    }
    Ok(())
}

fn init(args: &RunArgs) -> anyhow::Result<PathBuf> {
    let init = match &args.init {
        Some(init) => init.clone(),
        None => std::env::current_exe()?.with_file_name("borglet-init"),
    };
    ensure!(
        init.is_file(),
        "{} is not there: it is built with the borglet, and --init names another place",
        init.display()
    );
    Ok(init)
}

/// The first of these programs that is in the `PATH`.
fn in_path(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let candidates = names.iter().flat_map(|name| {
        std::env::split_paths(&path).map(|folder| folder.join(name)).collect::<Vec<_>>()
    });
    candidates.into_iter().find(|it| it.is_file())
}

fn run(args: RunArgs, place: Place) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(1)
        .max_blocking_threads(8)
        .build()
        .context("cannot start threads")?;
    let done = runtime.block_on(serve(args, place));
    // What is left to be done for tasks is done again by the next borglet.
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

async fn serve(args: RunArgs, place: Place) -> anyhow::Result<()> {
    let name = place.machine()?;
    let capacity = args.capacity()?;
    let folder = Folder::open(&place.data, &name)?;
    let hierarchy = Hierarchy::open(
        &name,
        place.cgroup_parent.as_deref(),
        (capacity.cpu_milli, capacity.ram_bytes),
    )?;
    let init = init(&args)?;
    let is_root = rustix::process::geteuid().is_root();
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen at {}", args.listen))?;
    let address = match &args.address {
        Some(address) => address.clone(),
        None => listener.local_addr()?.to_string(),
    };
    let settings = Settings {
        init: init.clone(),
        oci_runtime: args.oci_runtime.clone().or_else(|| in_path(&["runc", "crun"])),
        log_bytes_max: args.log_size.0,
        log_file_count: args.log_files,
    };
    // It may be there only later.
    let socket = args.cri.clone().unwrap_or_else(|| PathBuf::from(SOCKET_DEFAULT));
    let packages = Packages::open(folder.packages())?;
    let package_names = packages.names();
    let cpus: BTreeSet<u32> =
        (0..u32::try_from(std::thread::available_parallelism()?.get())?).collect();
    let giver = Giver::new(args.ports.clone(), is_root.then(|| args.uids.clone()), cpus);
    let (events, receiver) = mpsc::unbounded_channel();
    let spares = Spares::new(args.spares.into(), is_root, &hierarchy)?;
    let surroundings = Surroundings {
        hierarchy,
        spares,
        cri: Arc::new(Cri::new(&socket, &name, &settings)?),
        containers: Arc::new(Shim::new(settings)),
        packages,
        name: name.clone(),
        capacity,
        sample_every: args.sample_every(),
        init,
        setups: Semaphore::new(SETUP_COUNT_MAX),
        folder,
    };
    let machine = Machine::recover(surroundings, giver, events.clone()).await?;
    let around = machine.around();
    tracing::info!(
        machine = name,
        address,
        cgroups = around.hierarchy.version(),
        cpu_milli = capacity.cpu_milli,
        ram_bytes = capacity.ram_bytes,
        "listens"
    );
    let service = Service::new(events, Arc::clone(&around), args.user.clone());
    tokio::spawn(machine.run(receiver));
    let keep = Duration::from_secs(args.log_keep_seconds);
    tokio::spawn(drop_old_logs(Arc::clone(&around), keep));
    tokio::spawn(keep_spares(Arc::clone(&around)));
    if !args.master.is_empty() {
        let spec = MachineSpec {
            name,
            count: None,
            cpu: MilliCpu(capacity.cpu_milli),
            ram: Bytes(capacity.ram_bytes),
            disk: args.disk,
            gpus: 0,
            attributes: args
                .attribute
                .iter()
                .map(|(name, value)| (name.clone(), cell::quantity::Scalar(value.clone())))
                .collect(),
            rack: args.rack.clone(),
            power: args.power.clone(),
            packages: BTreeSet::new(),
        };
        let registration =
            Registration { masters: args.master.clone(), user: args.user.clone(), spec, address };
        tokio::spawn(register::keep(registration, package_names));
    }
    let links = BorgletServer::new(service.clone())
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let server = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .add_service(links)
        .add_service(NodeServer::new(service))
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        done = server => done.context("the server ended"),
        _ = terminated.recv() => Ok(()),
        done = tokio::signal::ctrl_c() => done.context("signals are not heard"),
    }
}

/// Has containers wait for programs. While starts are in the queue they come first.
async fn keep_spares(around: Arc<Surroundings>) {
    loop {
        let Ok(permit) = around.setups.acquire().await else { return };
        let own = Arc::clone(&around);
        let made = spawn_blocking(move || own.spares.refill(&own.init, &own.hierarchy)).await;
        drop(permit);
        match made {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => {
                around.spares.taken.notified().await;
                // The task that took it comes first in the use of the machine too.
                tokio::time::sleep(SPARES_AFTER).await;
            }
            Ok(Err(error)) => {
                tracing::warn!(error = format!("{error:#}"), "no container waits for programs");
                tokio::time::sleep(SPARES_AGAIN).await;
            }
            Err(_) => return,
        }
    }
}

async fn drop_old_logs(around: Arc<Surroundings>, keep: Duration) {
    let mut ticks = tokio::time::interval(LOGS_EVERY);
    loop {
        ticks.tick().await;
        let around = Arc::clone(&around);
        let dropped = spawn_blocking(move || around.folder.drop_old_logs(keep, ENDED_COUNT_MAX));
        if let Ok(Err(error)) = dropped.await {
            tracing::warn!(%error, "old logs are not dropped");
        }
    }
}
