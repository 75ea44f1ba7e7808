//! Google's units into ours: normalised resources and renumbered priorities.
//!
//! Resources are divided by the largest capacity of the cell, for each kind apart. We take that machine
//! to have 32 cores, 128 GiB of RAM and 128 GiB of disk, and round up, in decimal arithmetic: the value
//! as a float would turn 0.1 · 32000 into a limit of 3201.

use cell::{Bytes, MilliCpu, Priority, Resources, Unstated};

use crate::error::TraceError;
use crate::table::Row;

/// CPU that the normalised value 1 stands for. Our choice (`design.md`): 32 cores.
const CPU_OF_ONE: u64 = 32_000;

/// RAM, and disk, that the normalised value 1 stands for. Our choice (`design.md`): 128 GiB.
const BYTES_OF_ONE: u64 = 128 << 30;

/// The largest priority of the trace.
const PRIORITY_MAX: u8 = 11;

/// The priority of the three jobs that run a daemon on every second machine.
pub(super) const PRIORITY_MONITORING: u8 = PRIORITY_MAX;

/// Amounts as a row gives them, each perhaps missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amounts {
    pub(super) cpu: Option<MilliCpu>,
    pub(super) ram: Option<Bytes>,
    pub(super) disk: Option<Bytes>,
    /// How many of them were above 1, which stands for the largest machine, and were set to 1.
    pub(super) clipped_count: u32,
}

impl Amounts {
    /// Reads the fields in these columns.
    pub(super) fn read(
        row: &Row<'_>,
        cpu: usize,
        ram: usize,
        disk: Option<usize>,
    ) -> Result<Self, TraceError> {
        let mut amounts = Self::default();
        let mut read = |column, of_one| {
            let amount = normalised(row, column, of_one)?;
            amounts.clipped_count += u32::from(amount.is_some_and(|amount| amount > of_one));
            Ok(amount.map(|amount| amount.min(of_one)))
        };
        let cpu = read(cpu, CPU_OF_ONE)?;
        let ram = read(ram, BYTES_OF_ONE)?;
        let disk = disk.map_or(Ok(None), |disk| read(disk, BYTES_OF_ONE))?;
        amounts.cpu = cpu.map(MilliCpu);
        amounts.ram = ram.map(Bytes);
        amounts.disk = disk.map(Bytes);
        Ok(amounts)
    }

    /// Whether none of a request's three is missing.
    pub(super) fn is_complete_request(self) -> bool {
        self.cpu.is_some() && self.ram.is_some() && self.disk.is_some()
    }

    /// As a limit; what is missing is zero, and marked as not stated.
    pub(super) fn limit(self) -> Resources {
        Resources {
            cpu: self.cpu.unwrap_or_default(),
            ram: self.ram.unwrap_or_default(),
            disk: self.disk.unwrap_or_default(),
            unstated: Unstated { cpu: self.cpu.is_none(), ram: self.ram.is_none() },
            ..Resources::default()
        }
    }
}

fn normalised(row: &Row<'_>, column: usize, of_one: u64) -> Result<Option<u64>, TraceError> {
    row.optional(column)?
        .map(|text| {
            cell::quantity::decimal(text)
                .and_then(|number| cell::quantity::scaled_up(number, of_one))
                .map_err(|error| row.error(column, crate::error::one_line(&error.to_string())))
        })
        .transpose()
}

/// Reads a priority as the trace numbers them, 0..=11.
pub(super) fn read_priority(row: &Row<'_>, column: usize) -> Result<u8, TraceError> {
    row.parsed(column, "a priority, 0 to 11", |text| {
        text.parse().ok().filter(|priority| *priority <= PRIORITY_MAX)
    })
}

/// The trace's priority on our scale: 0, 1 free; 2 to 8 batch; 9, 10 production; 11 monitoring
/// (the reading of Tirmazi, EuroSys '20).
///
/// # Panics
/// If it is above 11.
pub(super) fn priority(of_trace: u8) -> Priority {
    let value = match of_trace {
        0 | 1 => u16::from(of_trace),
        2..=8 => 100 + 2 * (u16::from(of_trace) - 2),
        9 => 200,
        10 => 210,
        PRIORITY_MONITORING => 360,
        12.. => panic!("priority {of_trace} was checked when it was read"),
    };
    Priority::new(value).expect("each of them is at most 360")
}

/// Reads the different-machines flag.
pub(super) fn read_flag(row: &Row<'_>, column: usize) -> Result<Option<bool>, TraceError> {
    match row.optional(column)? {
        None => Ok(None),
        Some("0") => Ok(Some(false)),
        Some("1") => Ok(Some(true)),
        Some(text) => {
            Err(row.error(column, format!("{} is neither 0 nor 1", crate::error::quoted(text))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::InputFile;
    use crate::table::{Header, Table};

    fn read(cpu: &'static str) -> Result<Amounts, TraceError> {
        let file = InputFile::embedded("f.csv", cpu.as_bytes());
        let mut table = Table::open(&file, Header::None, &["cpu", "ram"], 2).unwrap();
        let row = table.next_row().unwrap().unwrap();
        Amounts::read(&row, 0, 1, None)
    }

    #[test]
    fn amounts_are_scaled_exactly_and_rounded_up() {
        let check = |text, cpu, ram| {
            let amounts = read(text).unwrap();
            assert_eq!(amounts.cpu, Some(MilliCpu(cpu)), "{text}");
            assert_eq!(amounts.ram, Some(Bytes(ram)), "{text}");
        };
        check("1,1", 32_000, 137_438_953_472);
        check("0.1,0.5", 3200, 68_719_476_736); // 0.1 · 32000, not a hair more
        check("0.01874,0", 600, 0); // 599.68
        check("0,1.526e-05", 0, 2_097_319); // 1.526e-5 · 2^37 = 2097318.43
        check("0.00001,0.2493", 1, 34_263_531_101); // 0.32; 0.2493 · 2^37 = 34263531100.57
    }

    #[test]
    fn amounts_above_one_are_clipped_and_counted() {
        let amounts = read("1.5,2").unwrap();
        assert_eq!(amounts.cpu, Some(MilliCpu(32_000)));
        assert_eq!(amounts.clipped_count, 2);
    }

    #[test]
    fn a_missing_amount_is_none_and_no_limit() {
        let amounts = read(",0.5").unwrap();
        assert_eq!(amounts.cpu, None);
        assert!(!amounts.is_complete_request());
        assert_eq!(amounts.limit().cpu, MilliCpu(0));
        assert_eq!(amounts.limit().unstated, Unstated { cpu: true, ram: false });
    }

    #[test]
    fn bad_amounts_name_file_line_and_field() {
        let check = |text, message: &str| {
            assert_eq!(read(text).unwrap_err().to_string(), message);
        };
        check("-0.5,1", r#"f.csv:1: field `cpu`: "-0.5" is negative"#);
        check("1,NaN", r#"f.csv:1: field `ram`: "NaN" is not a finite number"#);
        check("inf,1", r#"f.csv:1: field `cpu`: "inf" is not a finite number"#);
        check("1e20,1", r#"f.csv:1: field `cpu`: "100000000000000000000" is too large"#);
    }

    #[test]
    fn priorities_fall_into_tirmazis_bands() {
        let check = |of_trace, ours, band| {
            assert_eq!(priority(of_trace).get(), ours);
            assert_eq!(priority(of_trace).band(), band);
        };
        check(0, 0, cell::Band::Free);
        check(1, 1, cell::Band::Free);
        check(2, 100, cell::Band::Batch);
        check(8, 112, cell::Band::Batch); // 100 + 2 · 6
        check(9, 200, cell::Band::Production);
        check(10, 210, cell::Band::Production);
        check(11, 360, cell::Band::Monitoring);
    }
}
