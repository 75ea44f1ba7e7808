//! Kubernetes' placement, a file a plugin, by the rules and roundings of kube-scheduler v1.36.
//!
//! Here so far: `NodeResourcesFit` with the strategies `LeastAllocated` and `MostAllocated` ([`fit`]),
//! `NodeResourcesBalancedAllocation` ([`balanced_allocation`]), default requests ([`requests`]), and
//! how many nodes are examined ([`sampling`]). Required node affinity and node capacity are the
//! feasibility that all policies share. Not here yet, and so not scored: `TaintToleration`, preferred
//! `NodeAffinity`, `NodePorts`, `PodTopologySpread`, `InterPodAffinity`, `ImageLocality`,
//! `DefaultPreemption`. On a cell without taints, ports, affinities and images these plugins give every
//! node the same score.
//!
//! Scores are Kubernetes' integers. [`KubeScore`] computes them in floats, which is exact here (each
//! file says why) and several times faster than integer division; tests hold the two together.

pub mod balanced_allocation;
pub mod fit;
pub mod requests;
pub mod sampling;

use crate::score::{Ask, HostView, RowScore};
use fit::Strategy;

/// The sum of `NodeResourcesFit` and `NodeResourcesBalancedAllocation`, each of weight 1, over CPU and
/// RAM: 0..=200.
#[derive(Clone, Copy, Debug)]
pub struct KubeScore {
    /// The strategy of `NodeResourcesFit`.
    pub strategy: Strategy,
}

/// A power of two above any total, so that dividing by it is exact.
const SCALE: f64 = 2048.0;

/// What the plugins read of a node.
#[derive(Clone, Copy, Debug)]
pub struct NodeColumns {
    free: [f64; 2],
    capacity: [f64; 2],
    /// Added to what is in use, for the scores of `NodeResourcesFit` alone.
    defaults: [f64; 2],
    /// Balance of the node as it is.
    balance_before: f64,
}

/// What the plugins read of a pod.
#[derive(Clone, Copy, Debug)]
pub struct PodAsk {
    plain: [f64; 2],
    with_defaults: [f64; 2],
    /// `NodeResourcesBalancedAllocation` skips a pod that asks for nothing.
    skips_balance: bool,
}

impl RowScore for KubeScore {
    type Columns = NodeColumns;
    type Class = PodAsk;

    fn columns(&self, host: &HostView) -> NodeColumns {
        let free = [host.free[0], host.free[1]];
        let capacity = [host.capacity[0], host.capacity[1]];
        NodeColumns {
            free,
            capacity,
            defaults: host.defaults,
            balance_before: balanced_allocation::balance(
                [capacity[0] - free[0], capacity[1] - free[1]],
                capacity,
            ),
        }
    }

    fn class(&self, ask: &Ask, _shapes: &[(f64, f64)]) -> PodAsk {
        PodAsk {
            plain: [ask.cpu, ask.ram],
            with_defaults: [ask.cpu + ask.defaults[0], ask.ram + ask.defaults[1]],
            skips_balance: ask.cpu == 0.0 && ask.ram == 0.0,
        }
    }

    #[inline(always)]
    fn score(&self, pod: &PodAsk, node: &NodeColumns) -> f64 {
        let left = |r: usize| node.free[r] - node.defaults[r] - pod.with_defaults[r];
        let fit = self.strategy.score([left(0), left(1)], node.capacity);
        let balance = if pod.skips_balance {
            0.0
        } else {
            let used = |r: usize| node.capacity[r] - node.free[r] + pod.plain[r];
            let after = balanced_allocation::balance([used(0), used(1)], node.capacity);
            balanced_allocation::score(after, node.balance_before)
        };
        (fit + balance) / SCALE
    }

    fn score_wide(&self, pod: &PodAsk, _ask: &Ask, host: &HostView) -> f64 {
        // The default profile scores CPU and RAM alone, whatever else a node has.
        self.score(pod, &self.columns(host))
    }
}

/// The larger integer not above a float in 0..2^31, as a float.
#[inline(always)]
pub(crate) fn truncate(value: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, reason = "scores are at most 1200")]
    f64::from(value as i32)
}
