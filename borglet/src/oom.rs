//! Whom it hits when the tasks of a machine together need more memory than it gives.
//!
//! A task over its own limit is the kernel's, and dies first of all. Then: the lowest priority first, among those of
//! the same the one that is furthest over its reservation (Borg, EuroSys '15, §6.2).

use cell::borglet::Incarnation;

/// Above so much of what the machine gives somebody has to go, in thousandths: below that the kernel, which knows
/// nothing of reservations, finds one by itself.
pub(crate) const FULL_PERMILLE: u64 = 970;

/// A task that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub incarnation: Incarnation,
    pub priority: u16,
    /// In bytes.
    pub used: u64,
    /// What it was expected to use, in bytes.
    pub reserved: u64,
}

/// Who has to go, if anybody.
pub(crate) fn victim(used: u64, capacity: u64, candidates: &[Candidate]) -> Option<Incarnation> {
    if used.saturating_mul(1000) <= capacity.saturating_mul(FULL_PERMILLE) {
        return None;
    }
    let order = |it: &&Candidate| {
        let over = i128::from(it.used) - i128::from(it.reserved);
        // Of two that are alike the younger has less to lose.
        (it.priority, std::cmp::Reverse(over), std::cmp::Reverse(it.incarnation))
    };
    candidates.iter().min_by_key(order).map(|it| it.incarnation)
}

/// What a task is expected to use, as far as its machine knows: what it used lately, which is forgotten slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    bytes: u64,
}

/// After so long most of a peak is forgotten, in milliseconds: as the master has it for reservations (Borg, §5.5).
const DECAY_MS: u64 = 300_000;

impl Expected {
    /// From the start all of the limit is expected.
    pub(crate) const fn new(limit: u64) -> Self {
        Self { bytes: limit }
    }

    /// So much was used, so long after the last time.
    pub(crate) fn sample(&mut self, used: u64, elapsed_ms: u64) {
        if used >= self.bytes {
            self.bytes = used;
            return;
        }
        let way = u128::from(self.bytes - used);
        let made = way * u128::from(elapsed_ms.min(DECAY_MS)) / u128::from(DECAY_MS);
        self.bytes -= u64::try_from(made).unwrap_or(0);
    }

    pub(crate) const fn bytes(self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(number: u64, priority: u16, used: u64, reserved: u64) -> Candidate {
        Candidate { incarnation: Incarnation(number), priority, used, reserved }
    }

    #[test]
    fn nobody_goes_while_there_is_room() {
        assert_eq!(victim(970, 1000, &[candidate(1, 0, 970, 1)]), None);
        assert_eq!(victim(971, 1000, &[]), None);
    }

    #[test]
    fn the_lowest_priority_goes_first_and_then_who_is_furthest_over() {
        let all = [
            candidate(1, 200, 900, 100),
            candidate(2, 50, 10, 100),
            candidate(3, 50, 60, 50),
            candidate(4, 50, 500, 495),
        ];
        assert_eq!(victim(1000, 1000, &all), Some(Incarnation(3)));
        assert_eq!(victim(1000, 1000, &all[..2]), Some(Incarnation(2)));
        let alike = [candidate(1, 50, 10, 5), candidate(2, 50, 10, 5)];
        assert_eq!(victim(1000, 1000, &alike), Some(Incarnation(2)));
    }

    #[test]
    fn what_is_expected_comes_down_slowly_and_goes_up_at_once() {
        let mut expected = Expected::new(1000);
        expected.sample(400, 30_000);
        assert_eq!(expected.bytes(), 940);
        expected.sample(990, 1);
        assert_eq!(expected.bytes(), 990);
        expected.sample(0, 1_000_000);
        assert_eq!(expected.bytes(), 0);
    }
}
