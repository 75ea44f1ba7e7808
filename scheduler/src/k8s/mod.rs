//! Kubernetes' placement, decision by decision, a file a plugin, by the rules and roundings of
//! kube-scheduler v1.36 (and, where they differ, of v1.20).
//!
//! - What there is: [`cluster`] (nodes, pods, sums), [`requests`] (what the scores assume that it asks for).
//! - The plugins as written: [`node_unschedulable`], [`node_name`], [`taint_toleration`],
//!   [`node_affinity`], [`node_ports`], [`fit`], [`topology_spread`], [`inter_pod_affinity`],
//!   [`balanced_allocation`], [`image_locality`], [`default_preemption`]; [`profile`] says which of them run
//!   with which weights, [`framework`] runs them all.
//! - The scheduler: [`queue`], [`sampling`], and [`scheduler`], which decides by an index (`lane`) that
//!   tests hold to what the plugins say.
//!
//! A cell that does not come from Kubernetes is translated (`pass`): a machine is a node that takes 110
//! pods, a task a pod, a limit a request; a share of a GPU is a whole one; constraints are node affinity,
//! different machines are required anti-affinity, spread is a spread constraint. Alloc sets have no like
//! in Kubernetes: an alloc is a pod, and what runs in it takes the first alloc with room.
//!
//! Three things are random or depend on time in the real program and are fixed here: ties go to the node
//! with the largest hash of seed, template and node name, so that two pods of a template break them alike;
//! preemption's offset comes from the seed; and no time passes between attempts.
//!
//! Volumes, claims and devices are not modelled ([`profile::NOT_MODELLED`]); nor are extenders, gang
//! scheduling, and several profiles at once.

pub mod balanced_allocation;
pub mod cluster;
pub mod default_preemption;
pub mod fit;
pub mod framework;
mod go_sort;
pub mod image_locality;
pub mod inter_pod_affinity;
mod lane;
pub mod node_affinity;
pub mod node_name;
pub mod node_ports;
pub mod node_unschedulable;
pub mod normalize;
pub(crate) mod pass;
pub mod profile;
pub mod queue;
pub mod requests;
pub mod sampling;
pub mod scheduler;
pub mod status;
pub mod taint_toleration;
pub mod topology_spread;

pub use cluster::{Cluster, NodeIndex, PodIndex, TemplateIndex};
pub use profile::{Plugin, Profile, Version};
pub use scheduler::{Outcome, Scheduler};
pub use status::{Rejection, Verdict};

/// The larger integer not above a float in 0..2^31, as a float.
#[inline(always)]
pub(crate) fn truncate(value: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, reason = "scores are at most 1200")]
    f64::from(value as i32)
}
