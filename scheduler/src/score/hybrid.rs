//! The hybrid that reduces stranded resources.
//!
//! A resource is stranded when another resource of its machine is used up first. So what a placement
//! should leave behind is either little, or balanced:
//!
//! ```text
//! imbalance = 4 · variance of the free fractions after placing        0..=1; (a - b)² for two resources
//! left      = mean of the free fractions after placing                0..=1
//! score     = 1 - (imbalance + FIT · left) / (1 + FIT)                0..=1
//! ```
//!
//! over the resources that the host has. 1: the task fills the host to the brim; 0: one resource is used
//! up and the other untouched (two resources). A host with one resource has no imbalance, and there the
//! score is best fit. The quadratic forgives small imbalances, which later tasks mend, and refuses large
//! ones; the linear term only decides between hosts that are about as balanced, so that tasks fill
//! machines in turn.
//!
//! Source: Borg (EuroSys '15) §3.2 and Verma et al. 2014 name such a score and do not print it; this one
//! is derived here. [`FIT`] was chosen by measurement, see its comment.

use super::best_fit::Fractions;
use super::{Ask, HostView, RowScore};

/// Weight of the best-fit term.
pub const FIT: f64 = 0.05;

/// The hybrid score.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hybrid;

impl RowScore for Hybrid {
    type Columns = Fractions;
    type Class = Ask;

    fn columns(&self, host: &HostView) -> Fractions {
        Fractions::of(host)
    }

    fn class(&self, ask: &Ask, _shapes: &[(f64, f64)]) -> Ask {
        *ask
    }

    #[inline(always)]
    fn score(&self, ask: &Ask, columns: &Fractions) -> f64 {
        let (cpu, ram) = columns.after(ask);
        let imbalance = (cpu - ram) * (cpu - ram);
        1.0 - (imbalance + FIT * 0.5 * (cpu + ram)) * (1.0 / (1.0 + FIT))
    }

    fn score_wide(&self, _class: &Ask, ask: &Ask, host: &HostView) -> f64 {
        let (mut sum, mut squares, mut count) = (0.0, 0.0, 0.0);
        for after in host.free_after(ask) {
            sum += after;
            squares += after * after;
            count += 1.0;
        }
        if count == 0.0 {
            return 1.0;
        }
        let mean = sum / count;
        let variance = f64::max(squares / count - mean * mean, 0.0);
        1.0 - (4.0 * variance + FIT * mean) * (1.0 / (1.0 + FIT))
    }
}
