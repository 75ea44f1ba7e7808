//! Terms beside the score proper, each 0..=1, weighted by [`Weights`].
//!
//! `total = Σ weight · term / Σ weight`, so 0..=1. Source: Borg (EuroSys '15) §3.2: user preferences
//! (soft constraints), packages that are there already, spreading over power and failure domains, and
//! mixing high and low priority on a machine.

/// Weights of the terms; each at least 0, the base's above 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// The score proper.
    pub base: f64,
    /// Mixing: for a production task the share of the host that others are charged for, and the other
    /// way round; mean of CPU and RAM. Leaves production room to grow into.
    pub mixing: f64,
    /// Package locality: the share of the job's packages that the machine has; 1 for a job without.
    pub locality: f64,
    /// Failure-domain spread: 1 / (1 + tasks of the job in the domain), mean over the kinds of domain
    /// that the job names.
    pub spread: f64,
    /// Soft constraints: the weight of those that hold over the weight of all; 1 for a job without.
    pub soft: f64,
}

impl Weights {
    /// The weights of Borg's policies. Our own choice: what a user asked for by name (soft constraints,
    /// spread) outweighs how well a task fits; what the system prefers by itself (packages, mixing)
    /// decides only between hosts that fit about as well.
    pub const BORG: Self = Self { base: 1.0, mixing: 0.002, locality: 0.1, spread: 2.0, soft: 4.0 };
    /// Nothing but the score proper.
    pub const BASE_ONLY: Self =
        Self { base: 1.0, mixing: 0.0, locality: 0.0, spread: 0.0, soft: 0.0 };

    /// The sum of all weights.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.base + self.mixing + self.locality + self.spread + self.soft
    }
}

/// The mixing term of a host: how much of it the other kind of task (production, or not) is charged for,
/// as a mean over CPU and RAM, 0..=1.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mixing {
    /// What a production task gains here.
    pub for_prod: f64,
    /// What any other task gains here.
    pub for_others: f64,
}
