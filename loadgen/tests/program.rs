//! The program as it is started. That there is a test of it has it built with the tests of the workspace, of
//! which those of `borgcfg` use it.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

#[test]
fn fake_machines_listen_at_a_free_port_and_say_which() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["borglets", "--count", "2", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim_end().strip_prefix("serves 2 machines at ").unwrap_or_default();
    let reached = std::net::TcpStream::connect(address);
    child.kill().unwrap();
    child.wait().unwrap();
    reached.unwrap();
}
