//! What a replica makes of a snapshot that does not hold what it says.

#![allow(clippy::unwrap_used, reason = "tests")]

use protobuf::Message as _;
use raft::eraftpb;

use super::*;
use crate::types::{HardState, Members};
use crate::wire::{Chunk, Envelope};

/// A replica of three that has nothing but what the cell began with.
fn new_server() -> Server {
    let replicas = (1..=3).map(|id| (id, format!("replica {id}"))).collect();
    let write = first_write(&replicas);
    let loaded = Loaded {
        hard_state: write.hard_state.unwrap(),
        snapshot: write.snapshot.unwrap(),
        entries: Vec::new(),
    };
    Server::new(node::Config::new(3, 7), borgmaster_core::Config::default(), loaded).unwrap()
}

/// A checkpoint of the state at an index.
fn checkpoint_at(index: u64) -> Vec<u8> {
    let mut state = State::default();
    state.skip(index);
    let (addresses, members) = (BTreeMap::new(), Members::default());
    CheckpointRequest { addresses, members, records: state.records() }.run().data
}

/// What follows from a snapshot that one sends as of an index.
fn outputs_of_snapshot(server: &mut Server, index: u64, data: Vec<u8>) -> Vec<Output> {
    let mut message = eraftpb::Message { from: 1, to: 3, term: 4, ..Default::default() };
    message.set_msg_type(eraftpb::MessageType::MsgSnapshot);
    let meta = message.mut_snapshot().mut_metadata();
    (meta.index, meta.term) = (index, 4);
    let members = Members { voters: vec![1, 2, 3], ..Members::default() };
    meta.set_conf_state((&members).into());
    let chunk = Chunk {
        message: message.write_to_bytes().unwrap(),
        index,
        number: 0,
        count: 1,
        checksum: xxhash_rust::xxh3::xxh3_64(&data),
        data,
    };
    let bytes = Envelope::Chunk(chunk).to_bytes();
    let mut out = Vec::new();
    server.input(Timestamp(1_000), Input::Message { from: 1, bytes }, &mut out);
    server.drain(Timestamp(1_000), &mut out);
    out
}

fn is_persisted(out: &[Output]) -> bool {
    out.iter().any(|out| matches!(out, Output::Persist(write) if write.snapshot.is_some()))
}

fn reason_in(out: &[Output]) -> Option<&str> {
    out.iter()
        .find_map(|out| if let Output::Stop { reason } = out { Some(&**reason) } else { None })
}

#[test]
fn a_snapshot_of_its_index_is_taken() {
    let mut server = new_server();
    let out = outputs_of_snapshot(&mut server, 100, checkpoint_at(100));
    assert!(is_persisted(&out));
    assert_eq!(reason_in(&out), None);
    assert_eq!(server.state().index(), 100);
}

#[test]
fn a_snapshot_of_another_index_is_refused_before_it_is_written() {
    let mut server = new_server();
    let out = outputs_of_snapshot(&mut server, 100, checkpoint_at(200));
    assert!(!is_persisted(&out));
    let reason = reason_in(&out).unwrap();
    assert!(reason.contains("the snapshot at index 100 holds the state at index 200"), "{reason}");
    assert_eq!(server.state().index(), 1);
}

#[test]
fn a_snapshot_that_cannot_be_read_is_refused_before_it_is_written() {
    let mut server = new_server();
    let out = outputs_of_snapshot(&mut server, 100, vec![255; 3]);
    assert!(!is_persisted(&out));
    let reason = reason_in(&out).unwrap();
    assert!(reason.contains("the snapshot at index 100 is damaged"), "{reason}");
}

#[test]
fn a_folder_with_a_snapshot_of_another_index_is_an_error() {
    let snapshot = crate::Snapshot {
        index: 100,
        term: 4,
        members: Members { voters: vec![1, 2, 3], ..Members::default() },
        data: checkpoint_at(200),
    };
    let hard_state = HardState { term: 4, vote: 0, commit: 100 };
    let loaded = Loaded { hard_state, snapshot, entries: Vec::new() };
    let config = node::Config::new(3, 7);
    let error = Server::new(config, borgmaster_core::Config::default(), loaded).unwrap_err();
    assert!(error.to_string().contains("holds the state at index 200"), "{error}");
}
