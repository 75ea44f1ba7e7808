//! The faults: what there is, and when each begins and ends.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Messages are lost.
    Loss,
    /// Messages are held up, and so overtaken by others.
    Delay,
    /// Messages come twice.
    Repeat,
    /// A replica is cut off from the rest.
    Partition,
    /// A replica is heard and hears nothing, or the other way round.
    OneWayPartition,
    /// The leader and a minority are cut off from the rest, clients and machines with them.
    SplitBrain,
    /// A replica dies and is started again; unsynced writes are lost.
    Crash,
    /// The same, and the last write before was torn.
    TornWrite,
    /// All replicas die at once.
    PowerCut,
    /// Writes take long.
    SlowDisk,
    /// Writes fail.
    FullDisk,
    /// A replica's clock is wrong.
    ClockSkew,
    /// The leader stands still for a while, and then goes on as if nothing had happened.
    FrozenLeader,
    /// The leader hands over.
    Transfer,
    /// A machine is cut off.
    MachineCutOff,
    /// A machine goes down and comes up again.
    MachineReboot,
    /// A borglet is started again, its tasks run on.
    BorgletRestart,
    /// A borglet's disk is full.
    BorgletDiskFull,
    /// A client dies, and comes back without its session and what it asked for.
    ClientRestart,
    /// Most machines are cut off at once.
    MassLoss,
    /// A checkpoint is taken, so that who is behind needs it.
    Checkpoint,
    /// A replica is replaced by a new one, with an empty disk.
    Replacement,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::Loss,
        Self::Delay,
        Self::Repeat,
        Self::Partition,
        Self::OneWayPartition,
        Self::SplitBrain,
        Self::Crash,
        Self::TornWrite,
        Self::PowerCut,
        Self::SlowDisk,
        Self::FullDisk,
        Self::ClockSkew,
        Self::FrozenLeader,
        Self::Transfer,
        Self::MachineCutOff,
        Self::MachineReboot,
        Self::BorgletRestart,
        Self::BorgletDiskFull,
        Self::ClientRestart,
        Self::MassLoss,
        Self::Checkpoint,
        Self::Replacement,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loss => "message loss",
            Self::Delay => "delay and reordering",
            Self::Repeat => "duplication",
            Self::Partition => "partition",
            Self::OneWayPartition => "one-way partition",
            Self::SplitBrain => "leader cut off with clients",
            Self::Crash => "crash, unsynced writes lost",
            Self::TornWrite => "crash, last write torn",
            Self::PowerCut => "all replicas crash",
            Self::SlowDisk => "slow disk",
            Self::FullDisk => "full disk",
            Self::ClockSkew => "clock skew",
            Self::FrozenLeader => "frozen leader",
            Self::Transfer => "leadership transfer",
            Self::MachineCutOff => "machine lost",
            Self::MachineReboot => "machine reboot",
            Self::BorgletRestart => "borglet restart",
            Self::BorgletDiskFull => "borglet disk full",
            Self::ClientRestart => "client restart",
            Self::MassLoss => "mass machine loss",
            Self::Checkpoint => "checkpoint",
            Self::Replacement => "replica replaced",
        }
    }

    /// The next fault, and how long it lasts, in milliseconds.
    pub(crate) fn draw(random: &mut ChaCha8Rng) -> (Self, u64) {
        let fault = Self::ALL[random.random_range(0..Self::ALL.len())];
        (fault, random.random_range(500..25_000))
    }
}
