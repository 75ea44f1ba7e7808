//! The Kubernetes model against the real thing: cases with expected outcomes, and recorded decisions.

mod case;
pub mod check;
pub mod decisions;
