//! Fake machines that a daemon reaches over gRPC.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use borglet_agent::fake::{Behaviour, FakeBorglet, OnSigterm};
use borglet_agent::{Action, Config, Input};
use cell::borglet::{ExitCause, MachineCapacity, Usage, WantedTask};
use cell::live::Op;
use proto::link::{FromMachine, MasterMessage, ToMachine, batches, read_from_master};
use proto::wire;
use proto::wire::borglet_server::{Borglet, BorgletServer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use crate::client::Session;

/// Tasks run for ever, and end soon after they are told to.
fn behaviour(_: &WantedTask) -> Behaviour {
    Behaviour {
        start_up_ms: 0,
        runtime_ms: None,
        exit: ExitCause::Finished,
        usage: Usage::default(),
        is_healthy: true,
        on_sigterm: OnSigterm::Ends { after_ms: 10 },
    }
}

/// Machines called `m-0` and so on, with 4 cores and 4 GiB each.
#[derive(Clone)]
pub(crate) struct Machines {
    begin: Instant,
    borglets: Arc<Mutex<BTreeMap<String, FakeBorglet>>>,
}

impl Machines {
    /// Serves so many machines, and registers them as the session's user.
    pub(crate) async fn start(count: u32, session: &mut Session, master: &str) -> Self {
        let capacity =
            MachineCapacity { cpu_milli: 4_000, ram_bytes: 4 << 30, disk_bytes: 0, gpu_count: 0 };
        let names = || (0..count).map(|number| format!("m-{number}"));
        let borglet =
            |machine: String| (machine.clone(), FakeBorglet::new(Config { machine, capacity }, 0));
        let borglets = Arc::new(Mutex::new(names().map(borglet).collect()));
        let machines = Self { begin: Instant::now(), borglets };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tonic::transport::Server::builder()
            .add_service(BorgletServer::new(machines.clone()))
            .serve_with_incoming(TcpIncoming::from(listener));
        tokio::spawn(server);
        tokio::spawn(machines.clone().advance());
        let spec = |name| {
            let text = format!(r#"{{"name": "{name}", "cpu": 4, "ram": "4Gi"}}"#);
            (serde_json::from_str(&text).unwrap(), address.clone())
        };
        let machines_of = names().map(spec).collect();
        session.ask(master, Op::AddMachines { machines: machines_of }).await.unwrap();
        machines
    }

    /// The names of all tasks that run or are starting, sorted.
    pub(crate) fn alive(&self) -> Vec<String> {
        let borglets = self.borglets.lock().unwrap();
        let alive = borglets.values().flat_map(|borglet| borglet.machine().alive());
        let mut names: Vec<String> = alive.map(|task| task.name.clone()).collect();
        names.sort_unstable();
        names
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap()
    }

    async fn advance(self) {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        loop {
            ticks.tick().await;
            let now_ms = self.now_ms();
            for borglet in self.borglets.lock().unwrap().values_mut() {
                borglet.advance(now_ms, &behaviour);
            }
        }
    }

    fn answer(&self, batch: wire::FromMaster) -> Vec<wire::FromBorglet> {
        let now_ms = self.now_ms();
        let mut borglets = self.borglets.lock().unwrap();
        let mut said = Vec::new();
        for message in read_from_master(batch).unwrap() {
            let ToMachine { machine, message } = message.unwrap();
            let Some(borglet) = borglets.get_mut(&machine) else { continue };
            let input = match message {
                MasterMessage::Wanted(wanted) => Input::Wanted(wanted),
                MasterMessage::Poll(poll) => Input::Poll(poll),
            };
            let mut actions = borglet.advance(now_ms, &behaviour);
            actions.extend(borglet.input(now_ms, input, &behaviour));
            let answers = actions.into_iter().filter_map(Action::answer);
            said.extend(
                answers.map(|it| it.map_or_else(FromMachine::Refusal, FromMachine::Report)),
            );
        }
        let said = said.into_iter().map(|it| wire::FromMachine::try_from(it).unwrap()).collect();
        batches(said).into_iter().map(|messages| wire::FromBorglet { messages }).collect()
    }
}

#[tonic::async_trait]
impl Borglet for Machines {
    type LinkStream = Pin<Box<dyn Stream<Item = Result<wire::FromBorglet, Status>> + Send>>;

    async fn link(
        &self,
        request: Request<Streaming<wire::FromMaster>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let mut batches = request.into_inner();
        let (sender, receiver) = mpsc::channel(16);
        let machines = self.clone();
        tokio::spawn(async move {
            while let Some(Ok(batch)) = batches.next().await {
                for reply in machines.answer(batch) {
                    if sender.send(Ok(reply)).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
