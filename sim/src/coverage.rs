//! Which operation, message and timer met which fault: the coverage matrix.

use std::collections::BTreeMap;
use std::fmt::Write;

use cell::live::Op;

/// What can happen to something that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    /// Who carries it out died before.
    CrashBefore,
    /// Who carried it out died soon after.
    CrashAfter,
    /// It came twice.
    Duplicate,
    /// It was held up.
    Delay,
    /// It was overtaken by what was sent later.
    Reorder,
    /// It was cut off.
    Partition,
}

impl Column {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::CrashBefore,
        Self::CrashAfter,
        Self::Duplicate,
        Self::Delay,
        Self::Reorder,
        Self::Partition,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::CrashBefore => "crash before",
            Self::CrashAfter => "crash after",
            Self::Duplicate => "duplicate",
            Self::Delay => "delay",
            Self::Reorder => "reorder",
            Self::Partition => "partition",
        }
    }
}

/// How often each row met each column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    met: BTreeMap<(String, Column), u64>,
}

/// Operations of the log, a row each.
pub const OPS: [&str; 20] = [
    "op open session",
    "op submit",
    "op update",
    "op undo",
    "op kill",
    "op set quota",
    "op set capabilities",
    "op add machines",
    "op drain",
    "op repair",
    "op remove machine",
    "op configure",
    "op assign",
    "op observe",
    "op health",
    "op evict",
    "op reserve",
    "op expire",
    "op restore part",
    "op restore finish",
];

/// Messages and timers, a row each.
const OTHERS: [&str; 22] = [
    "rpc mutate",
    "rpc read",
    "rpc answer",
    "rpc raft",
    "rpc poll",
    "rpc wanted",
    "rpc report",
    "rpc refusal",
    "rpc why",
    "rpc fits",
    "rpc events",
    "rpc checkpoint",
    "rpc restore",
    "rpc replicas",
    "timer tick",
    "timer disk",
    "timer plan",
    "timer borglet",
    "timer client",
    "timer transfer",
    "timer restart",
    "timer checkpoint",
];

/// The row of an operation.
pub(crate) const fn op_row(op: &Op) -> &'static str {
    match op {
        Op::OpenSession => "op open session",
        Op::Submit { .. } => "op submit",
        Op::Update { .. } => "op update",
        Op::Undo { .. } => "op undo",
        Op::Kill { .. } => "op kill",
        Op::SetQuota(_) => "op set quota",
        Op::SetCapabilities { .. } => "op set capabilities",
        Op::AddMachines { .. } => "op add machines",
        Op::Drain { .. } => "op drain",
        Op::Repair { .. } => "op repair",
        Op::RemoveMachine { .. } => "op remove machine",
        Op::Configure(_) => "op configure",
        Op::Assign { .. } => "op assign",
        Op::Observe { .. } => "op observe",
        Op::Health { .. } => "op health",
        Op::Evict { .. } => "op evict",
        Op::Reserve { .. } => "op reserve",
        Op::Expire => "op expire",
        Op::RestorePart { .. } => "op restore part",
        Op::RestoreFinish { .. } => "op restore finish",
    }
}

/// The name of a kind of operation.
pub(crate) fn op_name(op: &Op) -> &'static str {
    let row = op_row(op);
    row.strip_prefix("op ").unwrap_or(row)
}

/// Why a row cannot meet a column.
#[must_use]
pub fn reason(row: &str, column: Column) -> Option<&'static str> {
    let is_timer = row.starts_with("timer");
    match row {
        "rpc why" | "rpc fits" | "rpc events" | "rpc checkpoint" => {
            return Some("it is answered by one replica from its own state, and changes nothing");
        }
        "rpc restore" => return Some("it goes through the log as `op restore part` and `finish`"),
        "rpc replicas" => {
            return Some(
                "the simulation asks the replica that leads itself; then it is `rpc raft`",
            );
        }
        _ => {}
    }
    match column {
        Column::Duplicate if is_timer => Some("a timer of one process goes off once"),
        Column::Reorder if is_timer => Some("timers go off in the order of their times"),
        Column::Partition if is_timer => Some("a timer crosses no network"),
        Column::Delay if is_timer && row != "timer tick" && row != "timer disk" => {
            Some("it is late only where the whole process stands still, which `timer tick` counts")
        }
        Column::CrashBefore | Column::CrashAfter if row == "timer restart" => {
            Some("it is what ends a crash")
        }
        Column::CrashBefore
        | Column::CrashAfter
        | Column::Duplicate
        | Column::Delay
        | Column::Reorder
        | Column::Partition => None,
    }
}

impl Coverage {
    /// A row met a column.
    pub fn met(&mut self, row: &str, column: Column) {
        *self.met.entry((row.to_owned(), column)).or_default() += 1;
    }

    /// Adds what another run met.
    pub fn add(&mut self, other: &Self) {
        for (key, count) in &other.met {
            *self.met.entry(key.clone()).or_default() += count;
        }
    }

    /// The matrix as a table, and the cells that are empty without a reason.
    #[must_use]
    pub fn table(&self) -> (String, Vec<String>) {
        let mut text = format!("{:<20}", "");
        for column in Column::ALL {
            write!(text, "{:>14}", column.name()).expect("a string takes everything");
        }
        text.push('\n');
        let mut empty = Vec::new();
        let mut reasons: BTreeMap<&str, ()> = BTreeMap::new();
        for row in OPS.into_iter().chain(OTHERS) {
            write!(text, "{row:<20}").expect("a string takes everything");
            for column in Column::ALL {
                let count = self.met.get(&(row.to_owned(), column)).copied().unwrap_or(0);
                match (count, reason(row, column)) {
                    (0, Some(reason)) => {
                        reasons.insert(reason, ());
                        write!(text, "{:>14}", "-").expect("a string takes everything");
                    }
                    (0, None) => {
                        empty.push(format!("{row} × {}", column.name()));
                        write!(text, "{:>14}", 0).expect("a string takes everything");
                    }
                    (count, _) => {
                        write!(text, "{count:>14}").expect("a string takes everything");
                    }
                }
            }
            text.push('\n');
        }
        for reason in reasons.keys() {
            writeln!(text, "- {reason}").expect("a string takes everything");
        }
        (text, empty)
    }
}
