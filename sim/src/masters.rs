//! The replicas of the master as processes: each with a server, a disk, a clock, and while it leads a link
//! shard.

use std::collections::VecDeque;

use borglet_agent::fake::FakeBorglet;
use borgmaster_core::LinkShard;
use borgmaster_replica::Write;
use borgmaster_replica::engine::Engine;
use borgmaster_replica::engine::memory::MemoryEngine;
use borgmaster_replica::node;
use borgmaster_replica::server::{Server, StartError};
use cell::live::Timestamp;

/// The wall clock at the beginning of a run, in milliseconds: some day in 2026.
pub(crate) const EPOCH_MS: u64 = 1_780_000_000_000;

/// One tick of the log, in milliseconds.
pub(crate) const TICK_MS: u64 = 50;

#[derive(Debug)]
pub(crate) struct Master {
    pub id: u64,
    /// `None`: it is not running.
    pub server: Option<Server>,
    pub engine: MemoryEngine,
    pub shard: Option<LinkShard>,
    /// Counts its starts: what was meant for an earlier one is lost.
    pub start: u64,
    pub disk: Disk,
    /// How far its clock is off, in milliseconds.
    pub skew_ms: i64,
    /// It stands still until then.
    pub frozen_until: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub queue: VecDeque<Write>,
    /// The number of the last write of those that are being synced.
    pub busy: Option<u64>,
    /// A write failed: what comes is skipped until this one comes again.
    pub failed: Option<u64>,
    pub is_slow: bool,
    /// The last write with a checkpoint, while it is not on disk.
    pub checkpoint: Option<u64>,
}

impl Master {
    pub(crate) fn new(id: u64, first: Option<&Write>) -> Self {
        let mut engine = MemoryEngine::default();
        if let Some(first) = first {
            engine.write(first).expect("there is room");
            engine.sync().expect("a new disk works");
        }
        Self {
            id,
            server: None,
            engine,
            shard: None,
            start: 0,
            disk: Disk::default(),
            skew_ms: 0,
            frozen_until: 0,
        }
    }

    pub(crate) fn begin(&mut self, seed: u64, mutations: &Mutations) -> Result<(), String> {
        let loaded = self.engine.load().map_err(|error| error.to_string())?;
        let mut config = node::Config::new(self.id, seed);
        // Small enough that checkpoints, and followers that need one, come up.
        config.log_byte_count_max = 200_000;
        config.kept_entry_count = 50;
        // And that a snapshot has parts enough for crashes and elections in between.
        config.part_byte_count = 2 << 10;
        mutations.switch_node(&mut config);
        let mut core = borgmaster_core::Config {
            seed,
            scheduler_count: 1 + u32::from(seed.is_multiple_of(3)),
            ..borgmaster_core::Config::default()
        };
        if seed.is_multiple_of(2) {
            // Few enough that queues are looked at in parts.
            core.pass_task_count_max = 2 + usize::try_from(seed / 2 % 20).expect("less than 20");
        }
        let server = Server::new(config, core, loaded);
        let mut server = server.map_err(|error: StartError| error.to_string())?;
        mutations.switch_state(&mut server);
        self.server = Some(server);
        self.start += 1;
        self.disk = Disk { is_slow: self.disk.is_slow, ..Disk::default() };
        Ok(())
    }

    /// It dies; of what it wrote and did not sync the oldest writes are left, so many.
    pub(crate) fn crash(&mut self, surviving: usize) {
        self.server = None;
        self.shard = None;
        self.start += 1;
        self.engine.crash(surviving);
        self.disk = Disk { is_slow: self.disk.is_slow, ..Disk::default() };
    }

    /// What its clock says.
    pub(crate) fn clock(&self, now: u64) -> Timestamp {
        Timestamp((EPOCH_MS + now).saturating_add_signed(self.skew_ms))
    }
}

/// The bugs that are switched on, by name; none in a release build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mutations {
    #[cfg(debug_assertions)]
    node: std::collections::BTreeSet<node::Mutation>,
    #[cfg(debug_assertions)]
    state: std::collections::BTreeSet<cell::live::Mutation>,
    #[cfg(debug_assertions)]
    skips_term_check: bool,
}

impl Mutations {
    /// The names of the bugs there are.
    #[cfg(debug_assertions)]
    pub const NAMES: [&'static str; 7] = [
        "ignore-fsync",
        "skip-term-check",
        "apply-twice",
        "forget-quota-on-update",
        "skip-room-check",
        "forget-disruption",
        "restore-numbers",
    ];

    /// The bug of this name; `None`: there is none.
    #[cfg(debug_assertions)]
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let mut mutations = Self::default();
        let _is_new = match name {
            "skip-term-check" => std::mem::replace(&mut mutations.skips_term_check, true),
            "ignore-fsync" => mutations.node.insert(node::Mutation::IgnoreFsync),
            "apply-twice" => mutations.state.insert(cell::live::Mutation::ApplyTwice),
            "forget-quota-on-update" => {
                mutations.state.insert(cell::live::Mutation::ForgetQuotaOnUpdate)
            }
            "skip-room-check" => mutations.state.insert(cell::live::Mutation::SkipRoomCheck),
            "forget-disruption" => mutations.state.insert(cell::live::Mutation::ForgetDisruption),
            "restore-numbers" => mutations.state.insert(cell::live::Mutation::RestoreNumbers),
            _ => return None,
        };
        Some(mutations)
    }

    #[cfg(debug_assertions)]
    fn switch_node(&self, config: &mut node::Config) {
        config.mutations.clone_from(&self.node);
    }

    #[cfg(debug_assertions)]
    fn switch_state(&self, server: &mut Server) {
        self.switch(server.core_mut().state_mut());
    }

    /// Switches a borglet's bugs on.
    #[cfg(debug_assertions)]
    pub(crate) fn switch_borglet(&self, borglet: &mut FakeBorglet) {
        if self.skips_term_check {
            borglet.skip_term_check();
        }
    }

    #[cfg(not(debug_assertions))]
    #[expect(clippy::unused_self, reason = "there are no bugs to be switched on")]
    pub(crate) fn switch_borglet(&self, _: &mut FakeBorglet) {}

    /// Switches the state's bugs on.
    #[cfg(debug_assertions)]
    pub(crate) fn switch(&self, state: &mut cell::live::State) {
        state.set_mutations(self.state.clone());
    }

    #[cfg(not(debug_assertions))]
    fn switch_node(&self, _: &mut node::Config) {}

    #[cfg(not(debug_assertions))]
    fn switch_state(&self, _: &mut Server) {}

    #[cfg(not(debug_assertions))]
    #[expect(clippy::unused_self, reason = "there are no bugs to be switched on")]
    pub(crate) fn switch(&self, _: &mut cell::live::State) {}
}
