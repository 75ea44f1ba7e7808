//! Links to borglets, while this replica leads: shards of machines, each a task with streams of its own.
//!
//! In: what machines are to run, and which machines there are. Out: what they reported, as far as it is new.
//! What is polled and sent when is [`LinkShard`]'s.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use borgmaster_core::{Heard, LinkShard, ShardInput, ShardOutput, WantedSet};
use borgmaster_replica::server::Input;
use cell::MachineId;
use cell::live::{State, Timestamp};
use crossbeam_channel::Sender;
use proto::link::{FromMachine, MasterMessage, ToMachine, batches, read_from_borglet};
use proto::wire;
use proto::wire::borglet_client::BorgletClient;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

use crate::replica::{Message, now};

/// So many shards. Two cores keep them busy; the tasks are cheap.
pub(crate) const SHARD_COUNT: usize = 2;

/// How often a shard looks for polls that are due.
const TICK: Duration = Duration::from_millis(25);

/// So many batches wait for a stream.
const QUEUE_COUNT_MAX: usize = 256;

const CONNECT_MAX: Duration = Duration::from_secs(1);
const BACK_OFF_FIRST: Duration = Duration::from_millis(50);
const BACK_OFF_MAX: Duration = Duration::from_secs(2);

/// All links.
#[derive(Debug)]
pub(crate) struct Links {
    runtime: Handle,
    replica: Sender<Heard>,
    outranked: Sender<Message>,
    shards: Vec<Shard>,
}

#[derive(Debug)]
struct Shard {
    inputs: mpsc::UnboundedSender<ToShard>,
    task: JoinHandle<()>,
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Machines with their names and addresses.
type Machines = BTreeMap<MachineId, (String, String)>;

#[derive(Debug)]
enum ToShard {
    Machines { machines: Arc<Machines>, poll_interval_ms: u64 },
    Wanted(WantedSet),
    Said { address: String, messages: Vec<FromMachine> },
    Broken { address: String },
}

const fn shard_of(machine: MachineId) -> usize {
    machine.0 as usize % SHARD_COUNT
}

impl Links {
    pub(crate) const fn new(
        runtime: Handle,
        replica: Sender<Heard>,
        outranked: Sender<Message>,
    ) -> Self {
        Self { runtime, replica, outranked, shards: Vec::new() }
    }

    /// This replica leads now.
    pub(crate) fn lead(&mut self, term: u64, state: &State) {
        self.stop();
        for number in 0..SHARD_COUNT {
            let (inputs, receiver) = mpsc::unbounded_channel();
            let task = Task {
                number,
                term,
                began: (now(), Instant::now()),
                later_term: term,
                shard: LinkShard::new(term, state.settings().poll_interval_ms),
                replica: self.replica.clone(),
                outranked: self.outranked.clone(),
                inputs: inputs.clone(),
                machines: Arc::default(),
                ids: BTreeMap::new(),
                streams: BTreeMap::new(),
                out: BTreeMap::new(),
            };
            let task = self.runtime.spawn(task.run(receiver));
            self.shards.push(Shard { inputs, task });
        }
        self.machines(state);
    }

    /// It no longer does.
    pub(crate) fn stop(&mut self) {
        self.shards.clear();
    }

    /// The machines are others now.
    pub(crate) fn machines(&self, state: &State) {
        if self.shards.is_empty() {
            return;
        }
        let machines = state.machines().filter(|(_, machine)| !machine.is_removed);
        let machines: Machines = machines
            .map(|(id, machine)| {
                (id, (state.cell().machine(id).name.clone(), machine.address.clone()))
            })
            .collect();
        let machines = Arc::new(machines);
        for shard in &self.shards {
            let machines = Arc::clone(&machines);
            let poll_interval_ms = state.settings().poll_interval_ms;
            let _ = shard.inputs.send(ToShard::Machines { machines, poll_interval_ms });
        }
    }

    /// A machine is to run this.
    pub(crate) fn wanted(&self, wanted: WantedSet) {
        if let Some(shard) = self.shards.get(shard_of(wanted.machine)) {
            let _ = shard.inputs.send(ToShard::Wanted(wanted));
        }
    }
}

struct Task {
    number: usize,
    term: u64,
    /// When it began by two clocks. A shard measures how long ago something was, and must not stand still because
    /// the clock was set back.
    began: (Timestamp, Instant),
    /// The highest term that a borglet has heard of.
    later_term: u64,
    shard: LinkShard,
    replica: Sender<Heard>,
    outranked: Sender<Message>,
    inputs: mpsc::UnboundedSender<ToShard>,
    machines: Arc<Machines>,
    ids: BTreeMap<String, MachineId>,
    streams: BTreeMap<String, Stream>,
    /// What is to be sent, by address.
    out: BTreeMap<String, Vec<wire::ToMachine>>,
}

#[derive(Debug)]
struct Stream {
    queue: mpsc::Sender<wire::FromMaster>,
    task: JoinHandle<()>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Task {
    async fn run(mut self, mut inputs: mpsc::UnboundedReceiver<ToShard>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    let out = self.shard.step(self.now(), ShardInput::Tick);
                    self.follow(out);
                }
                count = inputs.recv_many(&mut batch, 1_000) => {
                    if count == 0 {
                        return;
                    }
                    for input in batch.drain(..) {
                        self.take(input);
                    }
                }
            }
            self.flush();
        }
    }

    fn now(&self) -> Timestamp {
        let (at, instant) = self.began;
        at.plus_ms(u64::try_from(instant.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn take(&mut self, input: ToShard) {
        match input {
            ToShard::Machines { machines, poll_interval_ms } => {
                self.shard.poll_every(poll_interval_ms);
                self.settle(machines);
            }
            ToShard::Wanted(wanted) => self.step(ShardInput::Wanted(wanted)),
            ToShard::Said { address, messages } => {
                for message in messages {
                    self.said(&address, message);
                }
            }
            ToShard::Broken { address } => {
                for machine in self.at(&address) {
                    self.step(ShardInput::Broken(machine));
                }
            }
        }
    }

    fn said(&mut self, address: &str, message: FromMachine) {
        let name = match &message {
            FromMachine::Report(report) => &report.machine,
            FromMachine::Refusal(refusal) => &refusal.machine,
        };
        // Only a machine's own address speaks for it.
        let Some(&id) = self.ids.get(name) else { return };
        if self.machines.get(&id).is_none_or(|(_, at)| at != address) {
            return;
        }
        self.step(match message {
            FromMachine::Report(report) => ShardInput::Report(id, report),
            FromMachine::Refusal(refusal) => ShardInput::Refused(id, refusal),
        });
    }

    fn step(&mut self, input: ShardInput) {
        let out = self.shard.step(self.now(), input);
        self.follow(out);
    }

    fn follow(&mut self, out: Vec<ShardOutput>) {
        for output in out {
            match output {
                ShardOutput::Poll(machine, poll) => self.tell(machine, MasterMessage::Poll(poll)),
                ShardOutput::Wanted(machine, wanted) => {
                    self.tell(machine, MasterMessage::Wanted(wanted));
                }
                // If it is not taken, the replica has ended.
                ShardOutput::Heard(heard) => {
                    let _ = self.replica.send(heard);
                }
                ShardOutput::Deposed { term } => {
                    if term > self.later_term {
                        self.later_term = term;
                        let _ = self.outranked.send(Message::Input(Input::Outranked { term }));
                        tracing::info!(
                            own = self.term,
                            later = term,
                            "a borglet has heard of a later term"
                        );
                    }
                }
            }
        }
    }

    fn tell(&mut self, machine: MachineId, message: MasterMessage) {
        let Some((name, address)) = self.machines.get(&machine) else { return };
        match wire::ToMachine::try_from(ToMachine { machine: name.clone(), message }) {
            Ok(message) => self.out.entry(address.clone()).or_default().push(message),
            Err(error) => tracing::error!(machine = name, %error, "cannot be told"),
        }
    }

    /// Hands what is to be sent to the streams. What finds no room is lost, and sent again later.
    fn flush(&mut self) {
        for (address, messages) in std::mem::take(&mut self.out) {
            let Some(stream) = self.streams.get(&address) else { continue };
            for messages in batches(messages) {
                let _ = stream.queue.try_send(wire::FromMaster { messages });
            }
        }
    }

    fn at(&self, address: &str) -> Vec<MachineId> {
        let machines = self
            .ids
            .values()
            .filter(|id| self.machines.get(id).is_some_and(|(_, at)| at == address));
        machines.copied().collect()
    }

    fn settle(&mut self, machines: Arc<Machines>) {
        for &machine in self.machines.keys() {
            if !machines.contains_key(&machine) && shard_of(machine) == self.number {
                self.shard.forget(machine);
            }
        }
        self.machines = machines;
        let own = || self.machines.iter().filter(|(machine, _)| shard_of(**machine) == self.number);
        self.ids = own().map(|(&machine, (name, _))| (name.clone(), machine)).collect();
        let mut streams = std::mem::take(&mut self.streams);
        let mut kept = BTreeMap::new();
        for (_, (_, address)) in own() {
            if !kept.contains_key(address) {
                let stream = streams.remove(address);
                let stream = stream.unwrap_or_else(|| open(address, self.inputs.clone()));
                kept.insert(address.clone(), stream);
            }
        }
        self.streams = kept;
    }
}

fn open(address: &str, shard: mpsc::UnboundedSender<ToShard>) -> Stream {
    let (queue, messages) = mpsc::channel(QUEUE_COUNT_MAX);
    let task = tokio::spawn(keep(address.to_owned(), messages, shard));
    Stream { queue, task }
}

/// Keeps a stream to an address open.
async fn keep(
    address: String,
    mut messages: mpsc::Receiver<wire::FromMaster>,
    shard: mpsc::UnboundedSender<ToShard>,
) {
    let mut back_off = BACK_OFF_FIRST;
    loop {
        match stream(&address, &mut messages, &shard).await {
            Ok(true) => back_off = BACK_OFF_FIRST,
            Ok(false) => {}
            Err(error) => tracing::debug!(address, %error, "cannot be reached"),
        }
        // What waited was for the stream before.
        while messages.try_recv().is_ok() {}
        if shard.send(ToShard::Broken { address: address.clone() }).is_err() {
            return;
        }
        tokio::time::sleep(back_off).await;
        back_off = (back_off * 2).min(BACK_OFF_MAX);
    }
}

/// One stream, until it breaks; whether anything was heard on it.
async fn stream(
    address: &str,
    messages: &mut mpsc::Receiver<wire::FromMaster>,
    shard: &mpsc::UnboundedSender<ToShard>,
) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_MAX)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5))
        .tcp_nodelay(true);
    let mut client = BorgletClient::new(endpoint.connect().await?)
        .max_decoding_message_size(proto::limits::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(proto::limits::MESSAGE_BYTES_MAX);
    let (sender, receiver) = mpsc::channel(4);
    let mut heard = client.link(ReceiverStream::new(receiver)).await?.into_inner();
    // What it was told before this stream was there is not known to it.
    shard.send(ToShard::Broken { address: address.to_owned() })?;
    let mut has_heard = false;
    loop {
        tokio::select! {
            batch = messages.recv() => match batch {
                Some(batch) => sender.send(batch).await?,
                None => return Ok(has_heard),
            },
            batch = heard.message() => {
                let Some(batch) = batch? else { return Ok(has_heard) };
                has_heard = true;
                let mut said = Vec::with_capacity(batch.messages.len());
                for message in read_from_borglet(batch)? {
                    match message {
                        Ok(message) => said.push(message),
                        Err(error) => tracing::warn!(address, %error, "said something malformed"),
                    }
                }
                shard.send(ToShard::Said { address: address.to_owned(), messages: said })?;
            }
        }
    }
}
