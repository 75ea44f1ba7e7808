//! Policies: a score with its weights, how many hosts it looks at, and the order of its queue.
//!
//! Adding a policy is adding a line to [`policies`].

use std::borrow::Cow;

use crate::k8s::Profile;
use crate::k8s::fit::Strategy;
use crate::peers::shuffle::Limit;
use crate::peers::{self, Peer};
use crate::queue::QueueOrder;
use crate::score::terms::Weights;

/// The score proper of a policy.
#[derive(Clone, Debug, PartialEq)]
pub enum Base {
    /// [`crate::score::hybrid`].
    Hybrid,
    /// [`crate::score::best_fit`].
    BestFit,
    /// [`crate::score::e_pvm`].
    EPvm,
    /// [`crate::k8s`], with this profile.
    Kube(Box<Profile>),
    /// [`crate::peers`].
    Peer(Peer),
}

/// Which of the feasible hosts are scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Examine {
    /// All of them: the best is exact.
    All,
    /// Relaxed randomization (Borg §3.4): hosts from a random start on, until so many were feasible.
    Relaxed {
        /// How many feasible hosts are enough, at least 1.
        enough: usize,
    },
    /// Machines in a random order of each decision's own, see [`crate::peers::shuffle`].
    Shuffled(Limit),
}

/// A policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    name: Cow<'static, str>,
    about: &'static str,
    /// The score proper.
    pub base: Base,
    /// Weights of the score and of the terms beside it.
    pub weights: Weights,
    /// Which hosts it looks at.
    pub examine: Examine,
    /// The order of its queue.
    pub queue: QueueOrder,
}

/// A name that no policy has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown policy {name:?}; known are {known}")]
pub struct UnknownPolicy {
    name: String,
    known: String,
}

/// All policies.
#[must_use]
pub fn policies() -> Vec<Policy> {
    let borg = |name, about, base| Policy {
        name: Cow::Borrowed(name),
        about,
        base,
        weights: Weights::BORG,
        examine: Examine::All,
        queue: QueueOrder::RoundRobin,
    };
    let kube = |name, about, profile| Policy { about, ..Policy::kubernetes(name, profile) };
    let default = Profile::v1_36;
    let mut all = vec![
        borg("borg-hybrid", "Borg's hybrid, which reduces stranded resources", Base::Hybrid),
        borg("best-fit", "best fit: fill machines up", Base::BestFit),
        borg("e-pvm", "E-PVM: spread the load (worst fit)", Base::EPvm),
        kube("kube-default", "kube-scheduler v1.36, its default profile, sampled nodes", default()),
        kube(
            "kube-default-all-nodes",
            "the same with percentageOfNodesToScore 100",
            Profile { percentage_of_nodes_to_score: 100, ..default() },
        ),
        kube(
            "kube-most-allocated",
            "the same packing bins: NodeResourcesFit by MostAllocated, sampled nodes",
            Profile { strategy: Strategy::MostAllocated, ..default() },
        ),
        kube(
            "kube-1.20",
            "kube-scheduler v1.20, its default profile, sampled nodes",
            Profile::v1_20(),
        ),
    ];
    all.extend(peers::policies());
    all
}

impl Policy {
    /// Kubernetes' placement under a profile.
    #[must_use]
    pub fn kubernetes(name: impl Into<Cow<'static, str>>, profile: Profile) -> Self {
        Self {
            name: name.into(),
            about: "kube-scheduler under a profile of its own",
            base: Base::Kube(Box::new(profile)),
            weights: Weights::BASE_ONLY,
            examine: Examine::All,
            queue: QueueOrder::Fifo,
        }
    }

    /// A policy of [`crate::peers`], whose queue is first-in-first-out inside a priority.
    pub(crate) fn peer(
        name: &'static str,
        about: &'static str,
        peer: Peer,
        examine: Examine,
    ) -> Self {
        Self {
            name: Cow::Borrowed(name),
            about,
            base: Base::Peer(peer),
            weights: Weights::BASE_ONLY,
            examine,
            queue: QueueOrder::Fifo,
        }
    }

    /// The policy called `name`.
    ///
    /// # Errors
    /// If there is none; the error lists those that there are.
    pub fn by_name(name: &str) -> Result<Self, UnknownPolicy> {
        let all = policies();
        let known = || all.iter().map(Self::name).collect::<Vec<_>>().join(", ");
        let unknown = || UnknownPolicy { name: name.to_owned(), known: known() };
        all.iter().find(|policy| policy.name() == name).cloned().ok_or_else(unknown)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is, in a line.
    #[must_use]
    pub fn about(&self) -> &'static str {
        self.about
    }

    /// Whether it models Kubernetes.
    #[must_use]
    pub fn is_kubernetes(&self) -> bool {
        matches!(self.base, Base::Kube(_))
    }

    /// Whether it is another system's or paper's, and neither Borg's nor Kubernetes'.
    #[must_use]
    pub fn is_peer(&self) -> bool {
        matches!(self.base, Base::Peer(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_found_by_name_and_the_error_lists_them() {
        for policy in policies() {
            assert_eq!(Policy::by_name(policy.name()).unwrap(), policy);
        }
        let error = Policy::by_name("borg").unwrap_err().to_string();
        assert!(error.starts_with("unknown policy \"borg\"; known are borg-hybrid, "), "{error}");
    }
}
