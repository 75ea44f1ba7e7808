//! The network: messages are delayed, lost, repeated and overtaken; links are cut, one way or both.

use std::collections::BTreeSet;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Somebody who sends and receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// A replica of the master.
    Master(u64),
    /// A machine.
    Machine(u32),
    /// A client.
    Client(u32),
}

#[derive(Debug)]
pub(crate) struct Network {
    random: ChaCha8Rng,
    /// Cut links: from, to.
    pub cut: BTreeSet<(Place, Place)>,
    /// Of a thousand messages so many are lost, repeated, and held up.
    pub loss: u32,
    pub repeat: u32,
    pub hold_up: u32,
    pub counts: Counts,
}

/// How many messages met what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub lost: u64,
    pub repeated: u64,
    pub held_up: u64,
    pub cut: u64,
}

impl Network {
    pub(crate) fn new(random: ChaCha8Rng) -> Self {
        let cut = BTreeSet::new();
        Self { random, cut, loss: 0, repeat: 0, hold_up: 0, counts: Counts::default() }
    }

    /// After how many milliseconds each copy of a message arrives; none: it is lost. A copy that is held up
    /// is overtaken by what is sent after it.
    pub(crate) fn deliver(&mut self, from: Place, to: Place) -> Vec<u64> {
        if self.cut.contains(&(from, to)) {
            self.counts.cut += 1;
            return Vec::new();
        }
        let roll = |random: &mut ChaCha8Rng, permille: u32| {
            permille > 0 && random.random_range(0..1000) < permille
        };
        if roll(&mut self.random, self.loss) {
            self.counts.lost += 1;
            return Vec::new();
        }
        let mut copies = 1;
        if roll(&mut self.random, self.repeat) {
            self.counts.repeated += 1;
            copies = 2;
        }
        (0..copies)
            .map(|_| {
                if roll(&mut self.random, self.hold_up) {
                    self.counts.held_up += 1;
                    self.random.random_range(50..3_000)
                } else {
                    self.random.random_range(1..5)
                }
            })
            .collect()
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
        self.loss = 0;
        self.repeat = 0;
        self.hold_up = 0;
    }
}
