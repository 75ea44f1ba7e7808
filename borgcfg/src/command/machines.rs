//! `machines`: which there are and what is free there; and their service.

use std::path::PathBuf;

use cell::live::view::{Answer, Filter, MachineStatus, Question, Room};
use cell::live::{Health, Op};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::status::{COUNT_SHOWN, more};
use crate::args::{Options, address};
use crate::client::{Client, Session};
use crate::document::read_machines;
use crate::failure::Failure;
use crate::output::answer;
use crate::show::{self, Column, table};

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct MachinesArgs {
    #[command(subcommand)]
    change: Option<Change>,
    /// List so many at most; without it 50, in JSON all
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

#[derive(Debug, Subcommand)]
enum Change {
    /// Add machines, or change those of the same names
    ///
    /// Example: borgcfg machines add machines.yaml --address 127.0.0.1:7300
    Add {
        /// A list `machines`, as in `cell:DIR`, in YAML or JSON; - is the standard input
        #[arg(value_name = "MACHINES.yaml")]
        file: PathBuf,
        /// Where their borglet listens
        #[arg(long, value_name = "HOST:PORT", value_parser = address)]
        address: String,
    },
    /// Take machines out of service: their tasks move away within the limits on disruption
    ///
    /// Example: borgcfg machines drain m-3 m-4
    Drain {
        /// The machines
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
    /// Put machines back into service
    ///
    /// Example: borgcfg machines open m-3
    Open {
        /// The machines
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
    /// Remove machines on which nothing runs
    ///
    /// Example: borgcfg machines remove m-3
    Remove {
        /// The machines
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
}

/// What was done to a machine, in JSON.
#[derive(Debug, Serialize)]
struct Changed {
    name: String,
    change: &'static str,
}

/// The list, in JSON.
#[derive(Debug, Serialize)]
struct Machines {
    machines: Vec<MachineStatus>,
    /// Whether there are more than were asked for.
    has_more: bool,
}

pub(crate) async fn run(
    args: MachinesArgs,
    options: &Options,
    client: &mut Client,
) -> Result<(), Failure> {
    let MachinesArgs { change, limit } = args;
    let (names, word, op): (_, _, fn(String) -> Op) = match change {
        None => {
            let limit = limit.unwrap_or(if options.json { usize::MAX } else { COUNT_SHOWN });
            let question = |paging| Question::Machines(Filter::default(), paging);
            let read = |answer| if let Answer::Machines(page) = answer { Some(page) } else { None };
            let (machines, has_more) = client.list(limit, question, read).await?;
            return answer(options.json, &Machines { machines, has_more }, of_machines);
        }
        Some(Change::Add { file, address }) => return add(file, &address, options, client).await,
        Some(Change::Drain { names }) => (names, "drained", |machine| Op::Drain { machine }),
        Some(Change::Open { names }) => (names, "open", |machine| Op::Repair { machine }),
        Some(Change::Remove { names }) => {
            (names, "removed", |machine| Op::RemoveMachine { machine })
        }
    };
    let mut session = Session::open(client, options.user()?).await?;
    let mut done = Vec::new();
    let mut failed = Ok(());
    for name in names {
        match session.change(op(name.clone())).await {
            Ok(_) => done.push(Changed { name, change: word }),
            Err(failure) => {
                failed = Err(failure);
                break;
            }
        }
    }
    tell(&done, options)?;
    failed
}

async fn add(
    file: PathBuf,
    address: &str,
    options: &Options,
    client: &mut Client,
) -> Result<(), Failure> {
    let user = options.user()?;
    let machines = read_machines(&file)?;
    if let Some(machine) = machines.iter().find(|machine| machine.count.is_some()) {
        return Err(Failure::BadInput(format!(
            "{}: machine {}: field `count`: in a live cell each machine is named by itself",
            file.display(),
            machine.name
        )));
    }
    let done =
        machines.iter().map(|machine| Changed { name: machine.name.clone(), change: "added" });
    let done: Vec<Changed> = done.collect();
    let machines = machines.into_iter().map(|machine| (machine, address.to_owned())).collect();
    Session::open(client, user).await?.change(Op::AddMachines { machines }).await?;
    tell(&done, options)
}

fn tell(done: &Vec<Changed>, options: &Options) -> Result<(), Failure> {
    if done.is_empty() && !options.json {
        return Ok(());
    }
    answer(options.json, done, |done| {
        let lines = done.iter().map(|Changed { name, change }| match *change {
            "drained" => format!(
                "{name}: drained; its tasks move away, `borgcfg machines` shows how many are left"
            ),
            change => format!("{name}: {change}"),
        });
        lines.collect::<Vec<String>>().join("\n")
    })
}

fn of_machines(list: &Machines) -> String {
    let Machines { machines, has_more } = list;
    if machines.is_empty() {
        return "no machines: `borgcfg machines add` adds some".to_owned();
    }
    let columns = [
        Column::Words("machine"),
        Column::Words("state"),
        Column::Numbers("tasks"),
        Column::Words("has"),
        Column::Words("free for production"),
        Column::Words("free for the rest"),
        Column::Words("address"),
    ];
    let now = show::now();
    let rows = machines.iter().map(|machine| {
        let [limits, reservations] = [&machine.free_by_limits, &machine.free_by_reservations];
        vec![
            machine.name.clone(),
            state(machine, now),
            show::grouped(machine.task_count),
            room(&machine.capacity),
            room(&least(limits, reservations)),
            room(reservations),
            machine.address.clone(),
        ]
    });
    format!("{}{}", table(&columns, rows), more(*has_more))
}

fn state(machine: &MachineStatus, now: cell::live::Timestamp) -> String {
    match (machine.health, machine.is_drained) {
        (Health::Down { since }, _) => format!("down for {}", show::since(since, now)),
        (Health::Unknown, _) => "not heard yet".to_owned(),
        (Health::Up, true) if machine.task_count > 0 => "draining".to_owned(),
        (Health::Up, true) => "drained".to_owned(),
        (Health::Up, false) => "up".to_owned(),
    }
}

/// Production has to fit by its limits, and beside the reservations of all (Borg §5.5).
fn least(a: &Room, b: &Room) -> Room {
    Room {
        cpu_milli: a.cpu_milli.min(b.cpu_milli),
        ram_bytes: a.ram_bytes.min(b.ram_bytes),
        disk_bytes: a.disk_bytes.min(b.disk_bytes),
        gpu_milli: a.gpu_milli.min(b.gpu_milli),
    }
}

fn room(room: &Room) -> String {
    let mut parts = vec![show::amount("cpu", room.cpu_milli), show::bytes(room.ram_bytes)];
    parts.extend(room.disk_bytes.map(|disk| format!("{} disk", show::bytes(disk))));
    if room.gpu_milli > 0 {
        parts.push(show::amount("gpu", room.gpu_milli));
    }
    parts.join(", ")
}
