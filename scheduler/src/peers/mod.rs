//! Peers: what other systems and papers do, a file a policy, for comparison with Borg and Kubernetes.
//!
//! - HashiCorp Nomad's placement ([`nomad`]), which looks at a few machines in a shuffled order
//!   ([`shuffle`]).
//! - The GPU policies of Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with
//!   Fragmentation Gradient Descent" (USENIX ATC '23): [`fgd`] by their measure of [`fragmentation`], and
//!   the policies that they compare it with: [`gpu_best_fit`], [`dot_product`], [`gpu_packing`],
//!   [`gpu_clustering`], [`random_fit`].
//!
//! The paper leaves details open; they are taken from its simulator
//! (`hkust-adsl/kubernetes-scheduler-simulator`), among them that of machines with the same score the
//! first wins. Preemption is the pass's own, as for every policy.

pub mod dot_product;
pub mod fgd;
pub mod fragmentation;
pub mod gpu_best_fit;
pub mod gpu_clustering;
pub mod gpu_packing;
pub mod nomad;
pub mod random_fit;
pub mod shuffle;

mod gpu_host;

use cell::TaskId;

use crate::pass::{Pass, PassOptions, Plan};
use crate::policy::{Examine, Policy};
use crate::snapshot::Snapshot;
use fgd::Descent;
use fragmentation::Fragmentation;
use nomad::Fit;
use shuffle::Limit;

/// Whose score a policy of this module has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// [`nomad`].
    Nomad(Fit),
    /// [`fgd`].
    Fgd(Descent),
    /// [`gpu_best_fit`].
    GpuBestFit,
    /// [`dot_product`].
    DotProduct,
    /// [`gpu_packing`].
    GpuPacking,
    /// [`gpu_clustering`].
    GpuClustering,
    /// [`random_fit`].
    RandomFit,
}

/// The policies of this module.
pub(crate) fn policies() -> Vec<Policy> {
    let nomad = |name, about, fit| {
        Policy::peer(name, about, Peer::Nomad(fit), Examine::Shuffled(Limit::Nomad))
    };
    let gpu = |name, about, peer| Policy::peer(name, about, peer, Examine::All);
    vec![
        nomad("nomad-binpack", "Nomad's bin packing: best of a few shuffled nodes", Fit::BinPack),
        nomad("nomad-spread", "Nomad's spreading: emptiest of a few shuffled nodes", Fit::Spread),
        gpu(
            "fgd",
            "fragmentation gradient descent: keep free GPUs usable (ATC '23)",
            Peer::Fgd(Descent::Hundredths),
        ),
        gpu(
            "fgd-exact",
            "the same without rounding scores as the paper's simulator does",
            Peer::Fgd(Descent::Exact),
        ),
        gpu("gpu-best-fit", "least CPU and GPU left over on the node (ATC '23)", Peer::GpuBestFit),
        gpu("dot-product", "least demand times what is free (ATC '23, Tetris)", Peer::DotProduct),
        gpu("gpu-packing", "GPUs in use first, then nodes in use (ATC '23)", Peer::GpuPacking),
        gpu("gpu-clustering", "nodes with tasks of as many GPUs (ATC '23)", Peer::GpuClustering),
        Policy::peer(
            "random-fit",
            "any node that fits, at random (ATC '23)",
            Peer::RandomFit,
            Examine::Shuffled(Limit::First),
        ),
    ]
}

/// A pass by a peer's score.
pub(crate) fn pass<'c>(
    peer: Peer,
    snapshot: Snapshot<'c>,
    tasks: &[TaskId],
    options: &PassOptions<'_>,
) -> Plan<'c> {
    match peer {
        Peer::Nomad(fit) => Pass::new(nomad::Nomad { fit }, snapshot, options).run(tasks),
        Peer::Fgd(descent) => {
            let fgd = fgd::Fgd { fragmentation: Fragmentation::of(&snapshot), descent };
            Pass::new(fgd, snapshot, options).run(tasks)
        }
        Peer::GpuBestFit => Pass::new(gpu_best_fit::GpuBestFit, snapshot, options).run(tasks),
        Peer::DotProduct => Pass::new(dot_product::DotProduct, snapshot, options).run(tasks),
        Peer::GpuPacking => Pass::new(gpu_packing::GpuPacking, snapshot, options).run(tasks),
        Peer::GpuClustering => {
            Pass::new(gpu_clustering::GpuClustering, snapshot, options).run(tasks)
        }
        Peer::RandomFit => Pass::new(random_fit::RandomFit, snapshot, options).run(tasks),
    }
}
