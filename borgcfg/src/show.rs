//! Numbers, times and tables as people read them.

use std::io::{self, IsTerminal};

use cell::live::{Amounts, Timestamp};
use comfy_table::{CellAlignment, Table, presets};

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Column {
    /// Of words.
    Words(&'static str),
    /// Of numbers, which stand right.
    Numbers(&'static str),
}

/// A table: with lines on a terminal, plain for a pipe.
pub(crate) fn table(columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    draw(columns, rows, io::stdout().is_terminal())
}

fn draw(
    columns: &[Column],
    rows: impl IntoIterator<Item = Vec<String>>,
    is_terminal: bool,
) -> String {
    let mut table = Table::new();
    table.load_style(if is_terminal { presets::UTF8_FULL_CONDENSED } else { presets::NOTHING });
    table.set_header(columns.iter().map(|column| match column {
        Column::Words(name) | Column::Numbers(name) => *name,
    }));
    for (column, made) in columns.iter().zip(table.column_iter_mut()) {
        if matches!(column, Column::Numbers(_)) {
            made.set_cell_alignment(CellAlignment::Right);
        }
        if !is_terminal {
            made.set_padding((0, 2));
        }
    }
    for row in rows {
        table.add_row(row);
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// `n` with groups of thousands: `126,442`.
pub(crate) fn grouped(n: impl Into<u64>) -> String {
    indicatif::HumanCount(n.into()).to_string()
}

/// A number of things: `1 task`, `1,200 tasks`.
pub(crate) fn count(n: impl Into<u64>, noun: &str) -> String {
    let n = n.into();
    format!("{} {noun}{}", grouped(n), if n == 1 { "" } else { "s" })
}

/// So many thousandths of a thing, without needless zeros: `0.5 cores`, `16 cores`.
fn thousandths(n: u64, noun: &str) -> String {
    let text = format!("{}.{:03}", n / 1000, n % 1000);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text} {noun}{}", if n == 1000 { "" } else { "s" })
}

/// Bytes in the largest unit of which there is one, to a hundredth.
pub(crate) fn bytes(amount: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let Some((unit, shift)) = units.into_iter().find(|(_, shift)| amount >> shift > 0) else {
        return format!("{amount} B");
    };
    let hundredths = ((u128::from(amount) * 100) >> shift) % 100;
    let text = format!("{}.{hundredths:02}", amount >> shift);
    format!("{} {unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// An amount of a resource, by its name in a rejection.
pub(crate) fn amount(resource: &str, amount: u64) -> String {
    match resource {
        "cpu" => thousandths(amount, "core"),
        "gpu" => thousandths(amount, "GPU"),
        _ => bytes(amount),
    }
}

/// Amounts of all resources that there are any of.
pub(crate) fn amounts(amounts: &Amounts) -> String {
    let Amounts { cpu_milli, ram_bytes, disk_bytes, gpu_milli } = *amounts;
    let all = [("cpu", cpu_milli), ("ram", ram_bytes), ("disk", disk_bytes), ("gpu", gpu_milli)];
    let some: Vec<String> = all
        .into_iter()
        .filter(|(_, n)| *n > 0)
        .map(|(resource, n)| match resource {
            "cpu" | "gpu" => amount(resource, n),
            _ => format!("{} {resource}", bytes(n)),
        })
        .collect();
    if some.is_empty() { "none".to_owned() } else { some.join(", ") }
}

/// A time, in UTC.
pub(crate) fn time(at: Timestamp) -> String {
    let ms = i64::try_from(at.0).ok();
    match ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()) {
        Some(time) => format!("{time:.3}"),
        None => format!("{} ms", at.0),
    }
}

/// The time now, in milliseconds since 1970.
pub(crate) fn now() -> Timestamp {
    Timestamp(u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0))
}

/// How long ago something was, roughly: `3 min`.
pub(crate) fn since(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.since_ms(at) / 1000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(grouped(126_442_u32), "126,442");
        assert_eq!(count(1_u32, "task"), "1 task");
        let cores = |milli| amount("cpu", milli);
        assert_eq!([cores(500), cores(1_000), cores(0)], ["0.5 cores", "1 core", "0 cores"]);
        assert_eq!(
            [bytes(3 << 29), bytes(64 << 30), bytes(5), bytes(u64::MAX)],
            ["1.5 GiB", "64 GiB", "5 B", "16777215.99 TiB"]
        );
        assert_eq!(time(Timestamp(1_700_000_000_123)), "2023-11-14T22:13:20.123Z");
        assert_eq!(since(Timestamp(0), Timestamp(7_200_000)), "2 h");
    }

    #[test]
    fn a_pipe_gets_a_plain_table() {
        let rows =
            || [vec!["web".to_owned(), "3".to_owned()], vec!["b".to_owned(), "12".to_owned()]];
        let columns = [Column::Words("job"), Column::Numbers("tasks")];
        assert_eq!(draw(&columns, rows(), false), "job  tasks\nweb      3\nb       12");
        assert!(draw(&columns, rows(), true).contains('│'));
    }
}
