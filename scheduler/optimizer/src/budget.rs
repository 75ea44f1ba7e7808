//! How long a search may go on: as work, which gives the same result everywhere, or as time.

use std::str::FromStr;
use std::time::{Duration, Instant};

/// The most that a search may spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// So many steps. The result is the same on every machine and any number of threads.
    Steps(u64),
    /// So much wall time.
    Time(Duration),
}

impl Budget {
    /// Nothing: what was there stands.
    pub const ZERO: Self = Self::Steps(0);

    /// Whether nothing may be spent.
    #[must_use]
    pub fn is_zero(self) -> bool {
        matches!(self, Self::Steps(0) | Self::Time(Duration::ZERO))
    }

    /// A meter that runs from now on.
    #[must_use]
    pub fn start(self) -> Meter {
        Meter { budget: self, steps: 0, began: Instant::now() }
    }
}

impl std::fmt::Display for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Steps(steps) => write!(f, "{steps} steps"),
            Self::Time(time) => write!(f, "{} ms", time.as_millis()),
        }
    }
}

impl FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let wrong = || format!("{text:?} is no budget; 10s, 500ms, 20000steps and 0 are");
        let number: u64 = number.parse().map_err(|_| wrong())?;
        match unit.trim() {
            "s" => Ok(Self::Time(Duration::from_secs(number))),
            "ms" => Ok(Self::Time(Duration::from_millis(number))),
            "steps" => Ok(Self::Steps(number)),
            "" if number == 0 => Ok(Self::ZERO),
            _ => Err(wrong()),
        }
    }
}

/// What was spent of a budget.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    budget: Budget,
    steps: u64,
    began: Instant,
}

impl Meter {
    /// Counts a step, if one may still be taken.
    pub fn step(&mut self) -> bool {
        let may = match self.budget {
            Budget::Steps(most) => self.steps < most,
            Budget::Time(most) => self.began.elapsed() < most,
        };
        self.steps += u64::from(may);
        may
    }

    /// Steps taken.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// What is left of a budget of time; `None`: it is one of work.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        match self.budget {
            Budget::Steps(_) => None,
            Budget::Time(most) => Some(most.saturating_sub(self.began.elapsed())),
        }
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_read_with_their_units() {
        assert_eq!("10s".parse(), Ok(Budget::Time(Duration::from_secs(10))));
        assert_eq!("500 ms".parse(), Ok(Budget::Time(Duration::from_millis(500))));
        assert_eq!("20steps".parse(), Ok(Budget::Steps(20)));
        assert_eq!("0".parse(), Ok(Budget::ZERO));
        for wrong in ["", "10", "-1s", "1.5s", "1h", "s"] {
            assert!(wrong.parse::<Budget>().unwrap_err().contains("is no budget"), "{wrong}");
        }
    }

    #[test]
    fn a_meter_counts_no_step_beyond_its_budget() {
        let mut meter = Budget::Steps(2).start();
        assert_eq!([meter.step(), meter.step(), meter.step()], [true, true, false]);
        assert_eq!(meter.steps(), 2);
        assert!(!Budget::Time(Duration::ZERO).start().step());
    }
}
