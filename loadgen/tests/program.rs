//! The program as it is started. That there is a test of it has it built with the tests of the workspace, of
//! which those of `borgcfg` use it.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use proto::limits::{LINK_BATCH_COUNT_MAX, MESSAGE_BYTES_MAX};
use proto::wire;
use proto::wire::borglet_client::BorgletClient;
use tonic::{Code, Status};

/// Whatever takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(60);

fn borglets(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(["borglets", "--count", "2"]).args(arguments);
    command
}

/// Fake machines, which end with the test.
struct Borglets {
    process: Child,
    address: String,
}

impl Borglets {
    fn start(arguments: &[&str]) -> Self {
        let mut process = borglets(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("serves 2 machines at ").unwrap_or_default();
        Self { process, address: address.to_owned() }
    }

    /// What is answered to one batch.
    async fn answer(&self, batch: wire::FromMaster) -> Result<wire::FromBorglet, Status> {
        let mut client = BorgletClient::connect(format!("http://{}", self.address)).await.unwrap();
        let answer = async {
            let mut stream = client.link(tokio_stream::iter([batch])).await?.into_inner();
            Ok(stream.message().await?.unwrap_or_default())
        };
        tokio::time::timeout(DEADLINE, answer).await.expect("an answer in time")
    }
}

impl Drop for Borglets {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn fake_machines_listen_at_a_free_port_and_say_which() {
    let borglets = Borglets::start(&["--listen", "127.0.0.1:0"]);
    std::net::TcpStream::connect(&borglets.address).unwrap();
}

#[test]
fn beyond_loopback_they_listen_only_if_that_is_meant() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        let out = borglets(&["--listen", address]).output().unwrap();
        assert_eq!(out.status.code(), Some(2));
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(said.contains(address) && said.contains("--insecure"), "{said}");
        assert_eq!((said.lines().count(), out.stdout.len()), (1, 0), "{said}");
    }
    let borglets = Borglets::start(&["--listen", "0.0.0.0:0", "--insecure"]);
    let port = borglets.address.strip_prefix("0.0.0.0:").unwrap();
    std::net::TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
}

#[test]
fn a_rate_is_not_measured_in_memory() {
    let memory = std::path::Path::new("/dev/shm");
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    if !mounts.lines().any(|line| line.split(' ').skip(1).take(2).eq(["/dev/shm", "tmpfs"])) {
        return;
    }
    let folder = tempfile::TempDir::new_in(memory).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    let out = command.args(["measure", "rate", "--folder"]).arg(folder.path()).output().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains("is on tmpfs") && said.contains("with --folder"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[tokio::test]
async fn what_no_master_says_is_refused_by_its_field() {
    let borglets = Borglets::start(&["--listen", "127.0.0.1:0"]);
    let poll = |machine: &str| wire::ToMachine {
        machine: machine.to_owned(),
        message: Some(wire::to_machine::Message::Poll(wire::Poll { term: 1, generation: 0 })),
    };
    let wanted = wire::Wanted { tasks: vec![wire::WantedTask::default()], ..Default::default() };
    let wanted = wire::to_machine::Message::Wanted(wanted);
    let bad = [
        (vec![poll("")], "field `machine`: is missing"),
        (vec![wire::ToMachine { message: None, ..poll("m-0") }], "field `message`: is missing"),
        (vec![wire::ToMachine { message: Some(wanted), ..poll("m-0") }], "field `wanted.tasks[0]."),
        (vec![poll("m-0"); LINK_BATCH_COUNT_MAX + 1], "field `messages`: has 1001 items"),
    ];
    for (messages, words) in bad {
        let status = borglets.answer(wire::FromMaster { messages }).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(words), "{words:?} is not in {status}");
    }
    let large = poll(&"m".repeat(MESSAGE_BYTES_MAX));
    let batch = wire::FromMaster { messages: vec![large] };
    assert_eq!(borglets.answer(batch).await.unwrap_err().code(), Code::OutOfRange);
    let batch = wire::FromMaster { messages: vec![poll("m-0"), poll("m-7")] };
    let said = borglets.answer(batch).await.unwrap();
    assert_eq!(said.messages.len(), 1, "there is no m-7");
}
