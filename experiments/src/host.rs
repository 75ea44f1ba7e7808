//! The host and the clock, for the manifest: the only place that looks at either.

use std::fs;
use std::thread::available_parallelism;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// What a report was made on. A text is `unknown` where the system does not tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The processor's model.
    pub cpu_model: String,
    /// Cores that this process may use.
    pub core_count: usize,
    /// Name and version of the operating system, and of its kernel.
    pub os: String,
}

impl Host {
    /// This host.
    #[must_use]
    pub fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpu_model = field(&read("/proc/cpuinfo"), "model name", ':');
        let name = field(&read("/etc/os-release"), "PRETTY_NAME", '=');
        let name = name.unwrap_or_else(|| std::env::consts::OS.to_owned());
        let kernel = read("/proc/sys/kernel/osrelease");
        let kernel = kernel.trim();
        Self {
            cpu_model: cpu_model.unwrap_or_else(|| "unknown".to_owned()),
            core_count: available_parallelism().map_or(1, usize::from),
            os: if kernel.is_empty() { name } else { format!("{name}, kernel {kernel}") },
        }
    }
}

/// The value of the first line `name SEPARATOR value`, without quotes; `None` where there is none.
fn field(text: &str, name: &str, separator: char) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once(separator))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().trim_matches('"').to_owned())
}

/// The time now, as `2026-04-14T12:30:05Z`.
#[must_use]
pub fn utc_now() -> String {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    utc(since_epoch.map_or(0, |elapsed| elapsed.as_secs()))
}

/// Seconds since 1970 as a date and a time of day in UTC. Days to dates as in Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`: years begin in March, so that the
/// leap day is the last one of a year.
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let days = days + 719_468; // since 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_dates() {
        let check = |seconds, expected| assert_eq!(utc(seconds), expected);
        check(0, "1970-01-01T00:00:00Z");
        check(951_782_400, "2000-02-29T00:00:00Z");
        check(951_868_800, "2000-03-01T00:00:00Z");
        check(1_304_276_400, "2011-05-01T19:00:00Z");
        check(1_767_225_599, "2025-12-31T23:59:59Z");
        check(4_107_542_400, "2100-03-01T00:00:00Z"); // 2100 is no leap year
    }

    #[test]
    fn fields_are_found_with_their_quotes_off() {
        let text = "processor\t: 0\nmodel name\t: Some CPU: fast\n";
        assert_eq!(field(text, "model name", ':').as_deref(), Some("Some CPU: fast"));
        let text = "ID=x\nPRETTY_NAME=\"A System 12\"\n";
        assert_eq!(field(text, "PRETTY_NAME", '=').as_deref(), Some("A System 12"));
        assert_eq!(field("", "x", '='), None);
    }
}
