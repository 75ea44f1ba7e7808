//! The default normalisation of raw scores, over the feasible nodes.
//!
//! ```text
//! M = max;  M = 0: 100 for all if reversed, else 0 for all
//! M > 0: t = (100 · raw) div M;  100 - t if reversed, else t
//! ```

/// Best score of a plugin.
pub const SCORE_MAX: i64 = 100;

/// One raw score of at least 0 against the maximum.
#[must_use]
pub fn normalize(raw: i64, max: i64, is_reversed: bool) -> i64 {
    let share = if max == 0 { 0 } else { SCORE_MAX * raw / max };
    if is_reversed { SCORE_MAX - share } else { share }
}
