//! `top`: what tasks and machines use, against limits and reservations.
//!
//! Limits and reservations are the master's, usage is asked of each machine.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use cell::live::view::{Answer, Filter, MachineStatus, Question, TaskStatus};
use clap::Args;
use proto::node::{MachineUsage, TaskUsage, UsageQuery};
use proto::wire;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::args::{Options, duration};
use crate::client::Client;
use crate::failure::Failure;
use crate::node;
use crate::output::{answer, say};
use crate::show::{self, Column, table};

/// So many machines are asked at once.
const ASKED_COUNT_MAX: usize = 64;

#[derive(Args, Debug)]
pub(crate) struct TopArgs {
    /// Only tasks of this job
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
    /// Only this machine
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,
    /// Print it once, also on a terminal
    #[arg(long)]
    once: bool,
    /// From one time to the next
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    every: Duration,
}

/// A task, in JSON.
#[derive(Debug, Serialize)]
struct Task {
    name: String,
    machine: String,
    incarnation: u64,
    pid: u32,
    healthy: bool,
    age_ms: u64,
    cpu_milli: u64,
    cpu_reservation_milli: u64,
    cpu_limit_milli: u64,
    ram_bytes: u64,
    ram_reservation_bytes: u64,
    ram_limit_bytes: u64,
    process_count: u64,
    throttled_ms: u64,
    major_fault_count: u64,
    oom_kill_count: u64,
    cpu_pressure_permille: Option<u32>,
    memory_pressure_permille: Option<u32>,
    io_pressure_permille: Option<u32>,
}

/// A machine, in JSON.
#[derive(Debug, Serialize)]
struct Machine {
    name: String,
    task_count: usize,
    cpu_milli: u64,
    cpu_capacity_milli: u64,
    ram_bytes: u64,
    ram_capacity_bytes: u64,
}

/// All of it, in JSON.
#[derive(Debug, Default, Serialize)]
struct Top {
    machines: Vec<Machine>,
    tasks: Vec<Task>,
    /// Machines that do not answer, and why.
    silent: Vec<(String, String)>,
}

pub(crate) async fn run(
    args: &TopArgs,
    options: &Options,
    client: &mut Client,
) -> Result<(), Failure> {
    let is_watched = !args.once && !options.json && std::io::stdout().is_terminal();
    loop {
        let top = look(args, options, client).await?;
        if !is_watched {
            return answer(options.json, &top, of_top);
        }
        // From the top left of an empty screen.
        say(&format!("\x1b[H\x1b[2J{}", of_top(&top)))?;
        tokio::time::sleep(args.every).await;
    }
}

async fn look(args: &TopArgs, options: &Options, client: &mut Client) -> Result<Top, Failure> {
    let user = options.user()?.to_owned();
    let filter = Filter { job: args.job.clone(), ..Filter::default() };
    if let Some(job) = &args.job {
        client.job(job).await?;
    }
    let question = |paging| Question::Tasks(filter.clone(), paging);
    let read = |answer| if let Answer::Tasks(page) = answer { Some(page) } else { None };
    let (tasks, _) = client.list(usize::MAX, question, read).await?;
    let known: BTreeMap<(String, u64), TaskStatus> = tasks
        .into_iter()
        .filter_map(|task| Some(((task.name.clone(), task.incarnation?.0), task)))
        .collect();
    let mut machines = node::machines(client).await?;
    if let Some(wanted) = &args.machine {
        machines.retain(|machine| machine.name == *wanted);
        if machines.is_empty() {
            return Err(Failure::Failed(format!(
                "no machine {wanted:?} is heard; `borgcfg machines` lists all"
            )));
        }
    }
    let mut top = Top::default();
    for some in machines.chunks(ASKED_COUNT_MAX) {
        let mut asked = JoinSet::new();
        for machine in some {
            asked.spawn(ask(machine.clone(), user.clone()));
        }
        while let Some(done) = asked.join_next().await {
            let (name, usage) = done.map_err(|error| Failure::Failed(error.to_string()))?;
            match usage {
                Ok(usage) => top.add(usage, &known, args.job.as_deref()),
                Err(failure) => top.silent.push((name, failure.to_string())),
            }
        }
    }
    top.machines.sort_by(|a, b| a.name.cmp(&b.name));
    top.tasks.sort_by(|a, b| b.cpu_milli.cmp(&a.cpu_milli).then_with(|| a.name.cmp(&b.name)));
    top.silent.sort();
    Ok(top)
}

async fn ask(machine: MachineStatus, user: String) -> (String, Result<MachineUsage, Failure>) {
    let usage = async {
        let mut borglet = node::connect(&machine).await?;
        let request = wire::UsageRequest::try_from(UsageQuery { user })?;
        let reply = borglet.usage(request).await;
        let reply = reply.map_err(|status| node::failure(&machine.name, &status))?;
        Ok(MachineUsage::try_from(reply.into_inner())?)
    };
    let usage = usage.await;
    (machine.name, usage)
}

impl Top {
    fn add(
        &mut self,
        usage: MachineUsage,
        known: &BTreeMap<(String, u64), TaskStatus>,
        job: Option<&str>,
    ) {
        let MachineUsage { machine, cpu_capacity_milli, ram_capacity_bytes, tasks } = usage;
        self.machines.push(Machine {
            task_count: tasks.len(),
            cpu_milli: tasks.iter().map(|task| task.cpu_milli).sum(),
            cpu_capacity_milli,
            ram_bytes: tasks.iter().map(|task| task.ram_bytes).sum(),
            ram_capacity_bytes,
            name: machine.clone(),
        });
        let is_of_job = |task: &TaskUsage| {
            job.is_none_or(|job| task.name.rsplit_once('/').is_some_and(|(of, _)| of == job))
        };
        for task in tasks.into_iter().filter(is_of_job) {
            let reservation = known
                .get(&(task.name.clone(), task.incarnation))
                .and_then(|known| known.reservation);
            let expected =
                |of: fn(&cell::Resources) -> u64, limit| reservation.map_or(limit, |it| of(&it));
            self.tasks.push(Task {
                machine: machine.clone(),
                incarnation: task.incarnation,
                pid: task.pid,
                healthy: task.is_healthy,
                age_ms: task.age_ms,
                cpu_milli: task.cpu_milli,
                cpu_reservation_milli: expected(|it| it.cpu.0, task.cpu_limit_milli),
                cpu_limit_milli: task.cpu_limit_milli,
                ram_bytes: task.ram_bytes,
                ram_reservation_bytes: expected(|it| it.ram.0, task.ram_limit_bytes),
                ram_limit_bytes: task.ram_limit_bytes,
                process_count: task.process_count,
                throttled_ms: task.throttled_ms,
                major_fault_count: task.major_fault_count,
                oom_kill_count: task.oom_kill_count,
                cpu_pressure_permille: task.cpu_pressure_permille,
                memory_pressure_permille: task.memory_pressure_permille,
                io_pressure_permille: task.io_pressure_permille,
                name: task.name,
            });
        }
    }
}

fn of_top(top: &Top) -> String {
    let columns = [
        Column::Words("machine"),
        Column::Numbers("tasks"),
        Column::Numbers("cpu"),
        Column::Numbers("of"),
        Column::Numbers("ram"),
        Column::Numbers("of"),
    ];
    let rows = top.machines.iter().map(|it| {
        vec![
            it.name.clone(),
            show::grouped(it.task_count as u64),
            milli(it.cpu_milli),
            milli(it.cpu_capacity_milli),
            show::bytes(it.ram_bytes),
            show::bytes(it.ram_capacity_bytes),
        ]
    });
    let mut text = table(&columns, rows);
    let columns = [
        Column::Words("task"),
        Column::Words("machine"),
        Column::Numbers("cpu"),
        Column::Numbers("reserved"),
        Column::Numbers("limit"),
        Column::Numbers("ram"),
        Column::Numbers("reserved"),
        Column::Numbers("limit"),
        Column::Numbers("procs"),
        Column::Numbers("held back"),
        Column::Words("remarks"),
    ];
    let rows = top.tasks.iter().map(|it| {
        vec![
            it.name.clone(),
            it.machine.clone(),
            milli(it.cpu_milli),
            milli(it.cpu_reservation_milli),
            milli(it.cpu_limit_milli),
            show::bytes(it.ram_bytes),
            show::bytes(it.ram_reservation_bytes),
            show::bytes(it.ram_limit_bytes),
            show::grouped(it.process_count),
            format!("{}.{} s", it.throttled_ms / 1000, it.throttled_ms % 1000 / 100),
            remarks(it),
        ]
    });
    text.push_str("\n\n");
    text.push_str(&table(&columns, rows));
    for (machine, why) in &top.silent {
        text.push_str(&format!("\n{machine}: {why}"));
    }
    text
}

/// Milli-cores as cores.
fn milli(amount: u64) -> String {
    format!("{}.{:03}", amount / 1000, amount % 1000)
}

fn remarks(task: &Task) -> String {
    let mut remarks = Vec::new();
    if !task.healthy {
        remarks.push("not healthy".to_owned());
    }
    for (what, pressure) in [
        ("cpu", task.cpu_pressure_permille),
        ("memory", task.memory_pressure_permille),
        ("disk", task.io_pressure_permille),
    ] {
        if let Some(permille @ 50..) = pressure {
            remarks.push(format!("waits for {what} {} % of the time", permille / 10));
        }
    }
    if task.oom_kill_count > 0 {
        remarks.push(format!(
            "lost {} to lack of memory",
            show::count(task.oom_kill_count, "process")
        ));
    }
    remarks.join(", ")
}
