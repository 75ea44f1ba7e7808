//! Deterministic simulation of a whole cell in one thread: replicas of the master, borglets, clients, the
//! network between them and the disks under them, with faults, under a virtual clock and one seed.
//!
//! In: a seed. Out: whether every invariant held after every step, what was met (faults, operations, changes
//! of leader), and a trace that is the same byte for byte for the same seed. The code under test is the
//! daemon's: [`borgmaster_replica::server::Server`], the link shard, the borglet's agent. Only network, disk,
//! clock and processes are simulated.
//!
//! A run has two phases: under faults, then healed, where everything has to converge. Invariants are in
//! [`invariant`], a file each.

pub mod coverage;
pub mod invariant;

mod behaviour;
mod clients;
mod faults;
mod history;
mod machines;
mod masters;
mod network;
mod oracle;
mod queue;
mod restores;
mod tasks;
mod trace;
mod world;

pub use faults::Fault;
pub use masters::Mutations;
pub use world::{Failure, Options, Summary, run};

/// What a stream of random numbers is for. Each purpose has its own, so that a draw more in one shifts no
/// other.
#[derive(Clone, Copy, Debug)]
enum Stream {
    Network = 1,
    Disk,
    Faults,
    Clients,
    Restores,
}

fn stream(seed: u64, purpose: Stream) -> rand_chacha::ChaCha8Rng {
    use rand::SeedableRng;
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8] = purpose as u8;
    rand_chacha::ChaCha8Rng::from_seed(bytes)
}
