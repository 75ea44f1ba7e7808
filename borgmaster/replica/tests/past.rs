//! Checkpoints of a replica, and its past as a cell file.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "tests")]

use std::collections::BTreeMap;

use borgmaster_replica::engine::Engine;
use borgmaster_replica::engine::memory::MemoryEngine;
use borgmaster_replica::node::Config;
use borgmaster_replica::server::{Input, Output, Server, first_write};
use borgmaster_replica::{CheckpointRequest, Past};
use cell::file::CellFile;
use cell::live::{Op, Settings, Timestamp};

/// A replica without others.
struct Alone {
    server: Server,
    engine: MemoryEngine,
    now: u64,
    checkpoints: Vec<CheckpointRequest>,
}

impl Alone {
    fn new(log_byte_count_max: usize) -> Self {
        let mut engine = MemoryEngine::default();
        engine.write(&first_write(&BTreeMap::from([(1, "here".to_owned())]))).unwrap();
        engine.sync().unwrap();
        let mut alone = Self::open(engine, log_byte_count_max);
        for _ in 0..100 {
            alone.input(Input::Tick);
        }
        assert!(alone.server.node().leads().is_some());
        alone
    }

    fn open(mut engine: MemoryEngine, log_byte_count_max: usize) -> Self {
        let config = Config { log_byte_count_max, ..Config::new(1, 7) };
        let loaded = engine.load().unwrap();
        let server = Server::new(config, borgmaster_core::Config::default(), loaded).unwrap();
        Self { server, engine, now: 1_000, checkpoints: Vec::new() }
    }

    fn input(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            self.now += 50;
            let mut out = Vec::new();
            self.server.input(Timestamp(self.now), input, &mut out);
            self.server.drain(Timestamp(self.now), &mut out);
            for output in out {
                match output {
                    Output::Persist(write) => {
                        self.engine.write(&write).unwrap();
                        self.engine.sync().unwrap();
                        inputs.insert(0, Input::Persisted { number: write.number });
                    }
                    Output::Checkpoint(request) => self.checkpoints.push(*request),
                    Output::Stop { reason } => panic!("{reason}"),
                    _ => {}
                }
            }
        }
    }

    /// Names the cell; the hash of the state after it, and its index.
    fn rename(&mut self, name: &str) -> (u64, u128) {
        let settings = Settings { cell_name: name.to_owned(), ..Settings::default() };
        self.input(Input::Own(Op::Configure(settings)));
        assert_eq!(self.server.state().settings().cell_name, name);
        (self.server.state().index(), self.server.state().hash())
    }
}

fn read(past: Past, until: u64) -> CellFile {
    let mut bytes = Vec::new();
    past.write(until, &mut bytes).unwrap();
    CellFile::read(&bytes[..]).unwrap()
}

#[test]
fn the_past_holds_the_state_at_every_index_since_the_checkpoint() {
    let mut alone = Alone::new(usize::MAX);
    let mut seen: Vec<(u64, u128)> = ["a", "b"].map(|name| alone.rename(name)).into();
    // From the beginning of the cell.
    let file = read(alone.server.past(), seen[1].0);
    assert_eq!((file.first_index(), file.last_index()), (1, seen[1].0));

    alone.server.checkpoint();
    alone.input(Input::Tick);
    seen.extend(["c", "d", "e"].map(|name| alone.rename(name)));
    let past = alone.server.past();
    assert_eq!(past.indexes(), seen[1].0..=seen[4].0);
    let file = read(past, seen[4].0);
    for &(index, hash) in &seen[1..] {
        assert_eq!(file.state_at(index).unwrap().hash(), hash, "at {index}");
    }
    let file = read(alone.server.past(), seen[3].0);
    assert_eq!(file.last_index(), seen[3].0);
    assert_eq!(file.state_at(seen[3].0).unwrap().hash(), seen[3].1);
    let beyond = seen[4].0 + 1;
    assert!(alone.server.past().write(beyond, &mut Vec::new()).is_err());
}

#[test]
fn a_checkpoint_is_asked_for_once_and_taken_in_later() {
    let mut alone = Alone::new(500);
    let first = alone.rename("first");
    let long = "n".repeat(150);
    for _ in 0..3 {
        alone.rename(&long);
        alone.rename("back");
    }
    alone.input(Input::Tick);
    alone.input(Input::Tick);
    let request = alone.checkpoints.pop().unwrap();
    assert!(alone.checkpoints.is_empty(), "one at a time");
    // The replica goes on while it is made.
    let last = alone.rename("last");
    assert_eq!(*alone.server.past().indexes().start(), 1);
    alone.input(Input::Checkpointed(request.run()));
    let past = alone.server.past();
    let start = *past.indexes().start();
    assert!(first.0 < start && start < last.0, "{start}");
    let file = read(past, last.0);
    assert_eq!(file.state_at(last.0).unwrap().hash(), last.1);

    // And it is on the disk.
    let again = Alone::open(alone.engine, usize::MAX);
    assert_eq!(*again.server.past().indexes().start(), start);
}
