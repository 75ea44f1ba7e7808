//! etcd, to compare with: three members on loopback, and a client that puts.
//!
//! The messages are those of etcd's `rpc.proto` (version 3.4) as far as they are needed; what else is in an
//! answer is passed over.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};

use super::cluster::{DEADLINE, Process, free_addresses};
use crate::clients::Asks;

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutResponse {}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

async fn call<Q, A>(channel: &Channel, path: &'static str, request: Q) -> anyhow::Result<A>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    let mut service = Grpc::new(channel.clone());
    service.ready().await?;
    let codec = tonic_prost::ProstCodec::<Q, A>::default();
    let path = PathAndQuery::from_static(path);
    Ok(service.unary(tonic::Request::new(request), path, codec).await?.into_inner())
}

fn channel(address: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    Ok(endpoint.connect_timeout(Duration::from_secs(1)).tcp_nodelay(true).connect_lazy())
}

/// What `etcd --version` says first; `None`: there is none in PATH.
pub(super) fn version() -> Option<String> {
    let output = Command::new("etcd").arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.lines().next()?.to_owned())
}

/// Three members.
#[derive(Debug)]
pub(super) struct Etcd {
    /// Where clients ask the one that leads.
    pub leader: String,
    _members: Vec<Process>,
}

impl Etcd {
    /// Starts them, and waits for a leader.
    pub(super) async fn start(folder: &Path) -> anyhow::Result<Self> {
        let [clients, peers] = free_addresses()?;
        let all: Vec<String> =
            (1..).zip(&peers).map(|(id, peer)| format!("m{id}=http://{peer}")).collect();
        let mut members = Vec::new();
        for (id, (client, peer)) in (1..).zip(clients.iter().zip(&peers)) {
            let (client, peer) = (format!("http://{client}"), format!("http://{peer}"));
            let mut command = Command::new("etcd");
            command.args(["--name", &format!("m{id}"), "--logger", "zap", "--log-level", "error"]);
            command.arg("--data-dir").arg(folder.join(format!("etcd-{id}")));
            command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
            command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
            command.args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"]);
            members.push(Process::start(command.stdout(Stdio::null()).stderr(Stdio::null()))?);
        }
        let give_up = Instant::now() + DEADLINE;
        loop {
            for client in &clients {
                if leads(client).await.unwrap_or(false) {
                    return Ok(Self { leader: client.clone(), _members: members });
                }
            }
            if Instant::now() > give_up {
                bail!("etcd has no leader within {DEADLINE:?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn leads(address: &str) -> anyhow::Result<bool> {
    let path = "/etcdserverpb.Maintenance/Status";
    let status: StatusResponse = call(&channel(address)?, path, StatusRequest {}).await?;
    let header = status.header.context("etcd's status has no header")?;
    Ok(status.leader == header.member_id)
}

/// A client that puts values of one size under a few keys.
#[derive(Debug)]
pub(super) struct Putter {
    channel: Channel,
    number: u32,
    byte_count: usize,
}

impl Putter {
    /// `byte_count` is that of key and value together.
    pub(super) fn new(address: &str, number: u32, byte_count: usize) -> anyhow::Result<Self> {
        Ok(Self { channel: channel(address)?, number, byte_count })
    }
}

impl Asks for Putter {
    async fn ask_one(&mut self, _: u64) -> anyhow::Result<()> {
        let key = format!("load-{}", self.number).into_bytes();
        let value = vec![b'x'; self.byte_count.saturating_sub(key.len())];
        let request = PutRequest { key, value };
        let _: PutResponse = call(&self.channel, "/etcdserverpb.KV/Put", request).await?;
        Ok(())
    }
}
