//! Restores in the world: when, and under which faults.

use super::*;

/// The faults that come with a restore: so that what is rare meets them too.
const FAULTS: [Fault; 7] = [
    Fault::Delay,
    Fault::Delay,
    Fault::Repeat,
    Fault::Repeat,
    Fault::SplitBrain,
    Fault::OneWayPartition,
    Fault::FrozenLeader,
];

const ROWS: [&str; 3] = ["op restore part", "op restore finish", "op restore finish"];

impl World {
    /// A cell file is taken, or a restore begins.
    pub(super) fn restoring(&mut self) -> Result<(), String> {
        if self.is_healing {
            return Ok(());
        }
        let wait = self.restores.random.random_range(8_000..40_000);
        self.push(wait, Event::Restoring);
        if self.restores.takes_next() {
            return self.take_file();
        }
        // One thing after the other.
        if !self.clients[0].has_script()
            && let Some(ops) = self.restores.operations()
        {
            self.trace.note(self.now, format_args!("a restore of {} operations", ops.len()));
            self.clients[0].follows(ops);
            let random = &mut self.restores.random;
            let row = ROWS[random.random_range(0..ROWS.len())];
            match random.random_range(0..8) {
                0..=3 => {
                    let fault = FAULTS[random.random_range(0..FAULTS.len())];
                    self.restores.waiting = Some((row, fault));
                }
                4..=6 => self.arm_for(row),
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes a cell file from any replica that runs: what it says of the past has to be what was.
    fn take_file(&mut self) -> Result<(), String> {
        let running: Vec<u64> = self
            .masters
            .iter()
            .filter(|(_, master)| master.server.is_some())
            .map(|(&id, _)| id)
            .collect();
        if running.is_empty() {
            return Ok(());
        }
        let id = running[self.restores.random.random_range(0..running.len())];
        let server = self.masters.get(&id).and_then(|master| master.server.as_ref());
        let Some(server) = server else { return Ok(()) };
        let state = self.restores.take(server.past())?;
        self.trace.note(
            self.now,
            format_args!("replica {id} gives a cell file, of which {} is kept", state.index()),
        );
        self.oracle.was(&state)
    }

    /// An operation is asked for: the fault that waits for it begins.
    pub(super) fn meet_restore(&mut self, op: &Op) -> Result<(), String> {
        let Some((row, fault)) = self.restores.waiting else { return Ok(()) };
        if row == crate::coverage::op_row(op) {
            self.restores.waiting = None;
            let lasts = self.restores.random.random_range(500..10_000);
            self.start_fault(fault, lasts)?;
        }
        Ok(())
    }
}
