//! Reservations: what each task is expected to use, so that the rest of its limit can be lent.
//!
//! The estimate starts at the limit, stays there for the hold time (300 s), then decays slowly towards usage
//! and a margin, and jumps up at once where usage exceeds it. Source: Borg (EuroSys '15) §5.5.

use std::collections::BTreeMap;
use std::ops::Bound;

use cell::borglet::{Incarnation, TaskKey};
use cell::live::{Op, Phase, State, Timestamp};
use cell::{Bytes, MilliCpu, Resources};

use crate::{Core, Output, UsageSample};

/// How often each estimate is compared with the state at most, in milliseconds.
const EVERY_MS: u64 = 1_000;

/// So many are compared in one step, so that a large cell's leader is not held up: the others follow in the
/// next steps. With 100,000 tasks that takes a second too.
const COMPARED_COUNT_MAX: usize = 8_192;

/// The time in which the estimate makes up most of its way down, in milliseconds. Our guess; Borg says
/// "slowly".
const DECAY_MS: u64 = 300_000;

/// A reservation changes in the log only if by at least so many thousandths of the limit: every change is
/// replicated.
const STEP_PERMILLE: u64 = 50;

/// So many reservations go into one entry.
const RESERVATION_COUNT_MAX: usize = 256;

/// Estimates of the tasks that run, by incarnation.
#[derive(Debug, Default)]
pub(crate) struct Estimates {
    of: BTreeMap<Incarnation, Estimate>,
    /// The last that was compared in the sweep under way; `None`: it is over.
    compared: Option<Incarnation>,
}

#[derive(Clone, Copy, Debug)]
struct Estimate {
    key: TaskKey,
    cpu: u64,
    ram: u64,
    at: Timestamp,
}

impl Estimates {
    /// Takes in samples of usage.
    pub(crate) fn sample(&mut self, state: &State, now: Timestamp, samples: &[UsageSample]) {
        let (hold, margin) = (
            state.settings().reservation_hold_ms,
            u64::from(state.settings().reservation_margin_permille),
        );
        for &(key, incarnation, usage, age_ms) in samples {
            let Some(id) = state.task_id(key) else { continue };
            let record = state.record(id);
            let Phase::Running { place, .. } = record.phase else { continue };
            if place.incarnation != incarnation {
                continue;
            }
            let limit = record.limit;
            let known = record.reservation.unwrap_or(limit);
            let fresh = Estimate { key, cpu: known.cpu.0, ram: known.ram.0, at: now };
            let estimate = self.of.entry(incarnation).or_insert(fresh);
            let elapsed = now.since_ms(estimate.at);
            estimate.at = now;
            let next = |current: u64, used: u64, limit: u64| {
                let wanted = used.saturating_add(used.saturating_mul(margin) / 1000).min(limit);
                if age_ms < hold { limit } else { towards(current, wanted, elapsed) }
            };
            estimate.cpu = next(estimate.cpu, usage.cpu_milli, limit.cpu.0);
            estimate.ram = next(estimate.ram, usage.ram_bytes, limit.ram.0);
        }
    }
}

/// Up at once; down by the share of the way that the time makes up.
fn towards(current: u64, wanted: u64, elapsed_ms: u64) -> u64 {
    if wanted >= current {
        return wanted;
    }
    let way = u128::from(current - wanted);
    let made = way * u128::from(elapsed_ms.min(DECAY_MS)) / u128::from(DECAY_MS);
    current - u64::try_from(made).expect("no more than the whole way")
}

impl Estimate {
    /// The reservation that is to be changed to, where that is far enough from the one there is; an error if
    /// the task no longer runs there.
    fn change(&self, state: &State, incarnation: Incarnation) -> Result<Option<Resources>, Ended> {
        let record = state.task_id(self.key).map(|id| state.record(id)).ok_or(Ended)?;
        match record.phase {
            Phase::Running { place, .. } if place.incarnation == incarnation => {}
            Phase::Running { .. }
            | Phase::Assigned(_)
            | Phase::Waiting { .. }
            | Phase::Stopping { .. }
            | Phase::Dead { .. } => return Err(Ended),
        }
        let known = record.reservation.unwrap_or(record.limit);
        let is_far = |estimate: u64, known: u64, limit: u64| {
            let distance = u128::from(estimate.abs_diff(known)) * 1000;
            distance > 0 && distance >= u128::from(limit) * u128::from(STEP_PERMILLE)
        };
        // Upwards every bit counts: the task uses it already.
        let is_above = self.cpu > known.cpu.0 || self.ram > known.ram.0;
        let is_due = is_above
            || is_far(self.cpu, known.cpu.0, record.limit.cpu.0)
            || is_far(self.ram, known.ram.0, record.limit.ram.0);
        Ok(is_due.then_some(Resources {
            cpu: MilliCpu(self.cpu),
            ram: Bytes(self.ram),
            ..record.limit
        }))
    }
}

/// A task no longer runs where it was estimated.
struct Ended;

impl Core {
    pub(crate) fn reclaim_round(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let state = &self.state;
        let Some(leader) = &mut self.leader else { return };
        let estimates = &mut leader.estimates;
        if estimates.compared.is_none() {
            if now.since_ms(leader.rounds.reclaim) < EVERY_MS {
                return;
            }
            leader.rounds.reclaim = now;
        }
        let from = estimates.compared.map_or(Bound::Unbounded, Bound::Excluded);
        let mut changed: Vec<(TaskKey, Incarnation, Resources)> = Vec::new();
        let mut ended = Vec::new();
        let mut last = None;
        let compared = estimates.of.range((from, Bound::Unbounded)).take(COMPARED_COUNT_MAX);
        for (count, (&incarnation, estimate)) in (1..).zip(compared) {
            match estimate.change(state, incarnation) {
                Ok(None) => {}
                Ok(Some(reservation)) => changed.push((estimate.key, incarnation, reservation)),
                Err(Ended) => ended.push(incarnation),
            }
            last = (count == COMPARED_COUNT_MAX).then_some(incarnation);
        }
        estimates.compared = last;
        for incarnation in ended {
            estimates.of.remove(&incarnation);
        }
        for reservations in changed.chunks(RESERVATION_COUNT_MAX) {
            self.propose(now, Op::Reserve { reservations: reservations.to_vec() }, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_jump_up_and_decay_down() {
        assert_eq!(towards(100, 150, 0), 150);
        assert_eq!(towards(100, 40, 0), 100);
        assert_eq!(towards(100, 40, DECAY_MS / 2), 70); // half of the way of 60
        assert_eq!(towards(100, 40, 10 * DECAY_MS), 40);
    }
}
