//! What an operator may set of a cell. Part of the replicated state, so that every replica decides alike.

use serde::{Deserialize, Serialize};

use crate::spec::SpecError;

/// The settings of a cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The name of the cell.
    pub cell_name: String,
    /// Users with every capability from the start. Without one nobody could give any.
    pub admins: Vec<String>,
    /// Whether jobs above the free band need quota.
    pub needs_quota: bool,
    /// How often each machine is asked for its report, in milliseconds, 100..=600000.
    pub poll_interval_ms: u64,
    /// A machine that was silent for so long is down, in milliseconds; at least twice the poll interval.
    pub silent_after_ms: u64,
    /// At most so many tasks of lost machines are rescheduled in a second (Borg §4: "rate-limits finding
    /// new places for tasks from machines that become unreachable").
    pub lost_evictions_per_second: u32,
    /// If more than so many of a thousand machines are down, no task is taken from any of them: it is more
    /// likely our network.
    pub mass_loss_permille: u32,
    /// The first back-off of a task that failed, in milliseconds; doubled with each further failure.
    pub back_off_first_ms: u64,
    /// The longest back-off, in milliseconds.
    pub back_off_max_ms: u64,
    /// After so many failures on a machine a task is not placed there again.
    pub failures_per_machine: u32,
    /// A reservation stays at the limit for so long after the start (Borg §5.5: 300 s), in milliseconds.
    pub reservation_hold_ms: u64,
    /// The margin of a reservation above usage, in thousandths of the usage.
    pub reservation_margin_permille: u32,
    /// What has ended is kept for so long, in milliseconds.
    pub dead_job_keep_ms: u64,
    /// At most so many ended jobs are kept.
    pub dead_job_count_max: u32,
    /// A client's session ends after so long without a request, in milliseconds.
    pub session_keep_ms: u64,
    /// The placement policy, by its name.
    pub policy: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cell_name: "cell".to_owned(),
            admins: Vec::new(),
            needs_quota: true,
            // Borg §3.3 polls "every few seconds".
            poll_interval_ms: 2_000,
            silent_after_ms: 10_000,
            lost_evictions_per_second: 1_000,
            mass_loss_permille: 300,
            back_off_first_ms: 1_000,
            back_off_max_ms: 300_000,
            failures_per_machine: 2,
            reservation_hold_ms: 300_000,
            reservation_margin_permille: 150,
            dead_job_keep_ms: 3_600_000,
            dead_job_count_max: 10_000,
            session_keep_ms: 3_600_000,
            policy: "borg-hybrid".to_owned(),
        }
    }
}

impl Settings {
    /// Whether each setting is in its range.
    ///
    /// # Errors
    /// With the first that is not.
    pub fn check(&self) -> Result<(), SpecError> {
        let in_range = |field: &str, value: u64, least: u64, most: u64| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(SpecError::new(
                format!("settings.{field}"),
                format!("{value} is not in {least}..={most}"),
            ))
        };
        crate::spec::check_name("settings.cell_name", &self.cell_name)?;
        for (i, admin) in self.admins.iter().enumerate() {
            crate::spec::check_name(&format!("settings.admins[{i}]"), admin)?;
        }
        let day = 86_400_000;
        in_range("poll_interval_ms", self.poll_interval_ms, 100, 600_000)?;
        in_range("silent_after_ms", self.silent_after_ms, 2 * self.poll_interval_ms, day)?;
        in_range("lost_evictions_per_second", self.lost_evictions_per_second.into(), 1, 1_000_000)?;
        in_range("mass_loss_permille", self.mass_loss_permille.into(), 1, 1000)?;
        in_range("back_off_first_ms", self.back_off_first_ms, 1, day)?;
        in_range("back_off_max_ms", self.back_off_max_ms, self.back_off_first_ms, day)?;
        in_range("failures_per_machine", self.failures_per_machine.into(), 1, 1_000_000)?;
        in_range("reservation_hold_ms", self.reservation_hold_ms, 0, day)?;
        let margin = self.reservation_margin_permille.into();
        in_range("reservation_margin_permille", margin, 0, 10_000)?;
        in_range("dead_job_keep_ms", self.dead_job_keep_ms, 0, 365 * day)?;
        in_range("dead_job_count_max", self.dead_job_count_max.into(), 0, 1_000_000)?;
        in_range("session_keep_ms", self.session_keep_ms, 1_000, 365 * day)
    }
}
