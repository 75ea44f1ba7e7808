//! The cell's time, as a leader tells it.
//!
//! What is in the log says when it was decided, and later entries are never earlier. A leader whose machine's
//! clock is behind what the log says, because another leader's was ahead or its own was set back, cannot wait
//! for it: back-offs and deadlines would stand still. It goes on from the log's time, a little slower than
//! its clock, until the clock has caught up.

use cell::live::Timestamp;

/// While it is ahead, the cell's time loses one of so many milliseconds.
const SLOWED_BY: u64 = 10;

/// More than so many milliseconds at once are no time that passed, while the clock was behind: it was put right.
const STEP_MS_MAX: u64 = 5_000;

/// A leader's reckoning.
#[derive(Debug)]
pub(crate) struct Clock {
    /// What the machine's clock said last.
    machine: Timestamp,
    cell: Timestamp,
    /// Milliseconds that passed while it was ahead, of which none was lost yet; below [`SLOWED_BY`].
    slowed_ms: u64,
}

impl Clock {
    /// For who leads from now on; `logged` is the time of the last entry.
    pub(crate) fn new(machine: Timestamp, logged: Timestamp) -> Self {
        Self { machine, cell: machine.max(logged), slowed_ms: 0 }
    }

    /// The cell's time when the machine's clock says this; never before the last.
    pub(crate) fn read(&mut self, machine: Timestamp, logged: Timestamp) -> Timestamp {
        let passed_ms = machine.since_ms(self.machine);
        self.machine = machine;
        let mut ahead_ms = self.cell.since_ms(Timestamp(machine.0 - passed_ms));
        if ahead_ms > 0 {
            self.slowed_ms += passed_ms.min(STEP_MS_MAX);
            let lost_ms = self.slowed_ms / SLOWED_BY + passed_ms.saturating_sub(STEP_MS_MAX);
            ahead_ms = ahead_ms.saturating_sub(lost_ms);
            self.slowed_ms %= SLOWED_BY;
        }
        self.cell = machine.plus_ms(ahead_ms).max(logged);
        self.cell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_right_is_followed() {
        let mut clock = Clock::new(Timestamp(1_000), Timestamp(400));
        for at in [1_000, 1_001, 1_100, 9_000] {
            assert_eq!(clock.read(Timestamp(at), Timestamp(900)), Timestamp(at));
        }
    }

    #[test]
    fn time_goes_on_behind_a_clock_that_was_ahead_and_comes_back() {
        let hour = 3_600_000;
        let mut clock = Clock::new(Timestamp(1_000), Timestamp(hour));
        let mut last = Timestamp(hour);
        for ms in 1..=1_000 {
            let now = clock.read(Timestamp(1_000 + ms), Timestamp(hour));
            assert!(now >= last);
            last = now;
        }
        assert_eq!(last, Timestamp(hour + 900), "nine tenths of a second");
        // A tenth of the time makes up for the hour.
        assert_eq!(clock.read(Timestamp(20 * hour), last), Timestamp(20 * hour));
    }

    #[test]
    fn a_clock_that_is_set_back_stops_nothing() {
        let mut clock = Clock::new(Timestamp(100_000), Timestamp(0));
        assert_eq!(clock.read(Timestamp(40_000), Timestamp(0)), Timestamp(100_000));
        assert_eq!(clock.read(Timestamp(41_000), Timestamp(0)), Timestamp(100_900));
        // And put right: no minute has passed.
        let now = clock.read(Timestamp(101_500), Timestamp(0));
        assert!((100_900..=106_000).contains(&now.0), "{now:?}");
        assert_eq!(clock.read(Timestamp(120_000), now), Timestamp(120_000));
    }
}
