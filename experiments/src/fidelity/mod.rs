//! How true is the simulation? One small workload on a real local cell, and in a cell under a virtual clock.
//!
//! Both run the master's code; what differs is what the simulation leaves out: commits and messages take no time, and
//! tasks do exactly what is said of them. So the difference is what a simulated figure is off by, as far as the
//! workload goes.
//!
//! In: a [`Workload`]. Out: a [`Report`]: for each job how long its tasks took to start, what they used, how often
//! they were evicted, and when the job was done, on both sides. The real side needs root ([`real`]).

pub mod real;

use std::collections::{BTreeMap, BTreeSet};

use borglet_agent::fake::{Behaviour, OnSigterm};
use cell::borglet::{ExitCause, Usage};
use cell::live::{Event, Op, Settings, TaskStep, What};
use cell::spec::{JobSpec, MachineSpec};
use cell::{Bytes, MilliCpu};
use comfy_table::{CellAlignment, Table, presets};
use fauxmaster::live::virtual_cell::VirtualCell;
use serde::{Deserialize, Serialize};

/// The workload that comes with the program.
pub const WORKLOAD: &str = include_str!("workload.yaml");

/// What tasks use is looked at so often, in milliseconds.
pub const SAMPLE_EVERY_MS: u64 = 500;

/// A workload that takes longer has failed.
const LONGEST_MS: u64 = 600_000;

/// What is run, and on what.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// The machines.
    pub machines: Machines,
    /// The jobs; all of them have to end by themselves.
    pub jobs: Vec<Job>,
}

/// Machines that are alike.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machines {
    /// How many, 1..=64.
    pub count: u16,
    /// What each gives.
    pub cpu: MilliCpu,
    /// What each gives.
    pub ram: Bytes,
}

/// A job, when it is submitted, and what its tasks do.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// After the beginning.
    pub at_ms: u64,
    /// As `borgcfg submit` takes it.
    pub job: JobSpec,
    /// What each of its tasks is taken to do in the simulation.
    pub does: Does,
}

/// What a task is taken to do.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Does {
    /// How long it runs; then it is finished.
    pub runtime_ms: u64,
    /// What it uses all the time.
    #[serde(default)]
    pub cpu: MilliCpu,
    /// What it uses all the time.
    #[serde(default)]
    pub ram: Bytes,
}

/// How the simulation is set.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// From the order to start a task to its program running, in milliseconds.
    pub start_up_ms: u64,
    /// Seeds ties.
    pub seed: u64,
}

/// Something that happened to a job or to one of its tasks, on either side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// When, by the cell's clock, in milliseconds.
    pub at_ms: u64,
    /// As `borgcfg events` calls it.
    pub what: String,
    /// The job.
    pub job: String,
    /// JOB/INDEX, where it is about a task.
    pub task: Option<String>,
}

/// What a job's tasks that ran used at some moment, all of them together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Used {
    /// The job.
    pub job: String,
    /// How many there were.
    pub task_count: u64,
    /// In milli-cores.
    pub cpu_milli: u64,
    /// In bytes.
    pub ram_bytes: u64,
}

/// One side's run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Side {
    /// What happened.
    pub moments: Vec<Moment>,
    /// What was used.
    pub used: Vec<Used>,
}

/// What is compared of a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// From the job's submission to each task's first start, the median of tasks.
    pub start_ms: f64,
    /// The latest.
    pub last_start_ms: f64,
    /// Of a task, on average while it ran, in milli-cores.
    pub cpu_milli: f64,
    /// Of a task, on average while it ran, in MiB.
    pub ram_mib: f64,
    /// Of tasks.
    pub evictions: f64,
    /// From the job's submission to its end.
    pub completion_ms: f64,
}

/// Both sides of a job.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobReport {
    /// Its name.
    pub job: String,
    /// In the simulation.
    pub simulated: Figures,
    /// On the real cell, a run each.
    pub real: Vec<Figures>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The jobs, in the order of the workload.
    pub jobs: Vec<JobReport>,
    /// What happened in the simulation.
    pub simulated: Side,
    /// What happened on the real cell, a run each.
    pub real: Vec<Side>,
}

impl Workload {
    /// Reads a workload.
    ///
    /// # Errors
    /// If it is no workload; the message names the line and the field.
    pub fn parse(text: &str) -> Result<Self, String> {
        let workload: Self = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        let Machines { count, .. } = workload.machines;
        if !(1..=64).contains(&count) {
            return Err(format!("field `machines.count`: {count} is not in 1..=64"));
        }
        let mut names = BTreeSet::new();
        for job in &workload.jobs {
            if !names.insert(&job.job.name) {
                return Err(format!("field `jobs`: {:?} is there twice", job.job.name));
            }
        }
        if names.is_empty() {
            return Err("field `jobs`: there is none".to_owned());
        }
        Ok(workload)
    }

    /// The jobs by the time of their submission.
    fn in_order(&self) -> Vec<&Job> {
        let mut jobs: Vec<&Job> = self.jobs.iter().collect();
        jobs.sort_by_key(|job| job.at_ms);
        jobs
    }
}

/// Runs a workload under a virtual clock. The same input gives the same side.
///
/// # Errors
/// If the cell refuses a job, or a job does not end.
pub fn simulate(workload: &Workload, model: Model) -> Result<Side, String> {
    let Machines { count, cpu, ram } = workload.machines;
    let machine = |number| MachineSpec {
        name: format!("m-{number}"),
        count: None,
        cpu,
        ram,
        disk: None,
        gpus: 0,
        attributes: BTreeMap::new(),
        rack: None,
        power: None,
        packages: BTreeSet::new(),
    };
    let machines: Vec<MachineSpec> = (0..count).map(machine).collect();
    let does: BTreeMap<String, Does> =
        workload.jobs.iter().map(|job| (job.job.name.clone(), job.does)).collect();
    let behaviour = move |task: &cell::borglet::WantedTask| {
        let job = task.name.rsplit_once('/').map_or("", |(job, _)| job);
        let does = does.get(job);
        Behaviour {
            start_up_ms: model.start_up_ms,
            runtime_ms: does.map(|does| does.runtime_ms),
            exit: ExitCause::Finished,
            usage: Usage {
                cpu_milli: does.map_or(0, |does| does.cpu.0),
                ram_bytes: does.map_or(0, |does| does.ram.0),
            },
            is_healthy: true,
            on_sigterm: OnSigterm::Ends { after_ms: 1 },
        }
    };
    let settings = Settings::default();
    let mut cell =
        VirtualCell::new(settings, &machines, real::USER, model.seed, Box::new(behaviour))?;
    let begin = cell.now_ms();
    let mut waiting = workload.in_order().into_iter().peekable();
    let mut side = Side::default();
    let mut next_sample = begin + SAMPLE_EVERY_MS;
    loop {
        let due = waiting.peek().map(|job| begin + job.at_ms);
        cell.advance(due.map_or(next_sample, |due| due.min(next_sample)));
        while let Some(job) = waiting.next_if(|job| begin + job.at_ms <= cell.now_ms()) {
            let mut spec = Box::new(job.job.clone());
            real::USER.clone_into(&mut spec.user);
            let asked = cell.ask(Op::Submit { spec, is_alloc_set: false });
            asked.map_err(|rejected| format!("job {:?}: {rejected}", job.job.name))?;
        }
        if cell.now_ms() >= next_sample {
            next_sample += SAMPLE_EVERY_MS;
            side.used.extend(used(&cell));
        }
        let ended = cell.events().iter().filter(|it| matches!(it.what, What::Ended { .. })).count();
        if ended == workload.jobs.len() {
            break;
        }
        if cell.now_ms() - begin > LONGEST_MS {
            return Err(format!("after {} s not all jobs have ended", LONGEST_MS / 1000));
        }
    }
    side.moments = cell.events().iter().filter_map(moment).collect();
    Ok(side)
}

fn used(cell: &VirtualCell) -> Vec<Used> {
    let mut names = BTreeMap::new();
    for event in cell.events() {
        if let What::Submitted { job, uid } = &event.what {
            names.insert(*uid, job.to_string());
        }
    }
    let running = cell.running().filter_map(|task| {
        let job = names.get(&task.key.job)?.clone();
        Some((job, task.usage.cpu_milli, task.usage.ram_bytes))
    });
    together(running)
}

/// What tasks use, by their jobs.
fn together(running: impl Iterator<Item = (String, u64, u64)>) -> Vec<Used> {
    let mut by_job: BTreeMap<String, Used> = BTreeMap::new();
    for (job, cpu_milli, ram_bytes) in running {
        let none = Used { job: job.clone(), task_count: 0, cpu_milli: 0, ram_bytes: 0 };
        let used = by_job.entry(job).or_insert(none);
        used.task_count += 1;
        used.cpu_milli += cpu_milli;
        used.ram_bytes += ram_bytes;
    }
    by_job.into_values().collect()
}

fn moment(event: &Event) -> Option<Moment> {
    let (what, job, index) = match &event.what {
        What::Submitted { job, .. } => ("submitted", job, None),
        What::Ended { job, .. } => (ENDED, job, None),
        What::Task { job, task, step, .. } => {
            let what = match step {
                TaskStep::Scheduled => "scheduled",
                TaskStep::Started => "started",
                TaskStep::Evicted(_) => "evicted",
                TaskStep::Exited(_) => "exited",
                TaskStep::Died(_) => "died",
                TaskStep::Notified(_) | TaskStep::Health(_) | TaskStep::Unassigned => return None,
            };
            (what, job, Some(task.index))
        }
        What::Updated { .. } | What::Machine { .. } | What::Restored { .. } => return None,
    };
    let task = index.map(|index| format!("{job}/{index}"));
    Some(Moment { at_ms: event.at.0, what: what.to_owned(), job: job.to_string(), task })
}

/// Of a job, however it ended.
const ENDED: &str = "job-ended";

impl Side {
    /// What is compared of a job.
    ///
    /// # Errors
    /// If it was not submitted, did not start, or did not end.
    pub fn figures(&self, job: &str) -> Result<Figures, String> {
        let of_job = || self.moments.iter().filter(|moment| moment.job == job);
        let find = |what: &str| {
            let moment = of_job().find(|moment| moment.what == what);
            moment.map(|it| it.at_ms).ok_or_else(|| format!("job {job:?} was never {what}"))
        };
        let (submitted, ended) = (find("submitted")?, find(ENDED)?);
        let mut first: BTreeMap<&str, u64> = BTreeMap::new();
        for moment in of_job().filter(|moment| moment.what == "started") {
            let task = moment.task.as_deref().unwrap_or_default();
            first.entry(task).or_insert(moment.at_ms.saturating_sub(submitted));
        }
        let mut starts: Vec<f64> = first.into_values().map(|ms| ms as f64).collect();
        if starts.is_empty() {
            return Err(format!("no task of job {job:?} was seen running"));
        }
        starts.sort_by(f64::total_cmp);
        let used = || self.used.iter().filter(|used| used.job == job);
        let count = used().map(|it| it.task_count).sum::<u64>().max(1) as f64;
        Ok(Figures {
            start_ms: median(&starts),
            last_start_ms: starts[starts.len() - 1],
            cpu_milli: used().map(|it| it.cpu_milli).sum::<u64>() as f64 / count,
            ram_mib: used().map(|it| it.ram_bytes).sum::<u64>() as f64 / count / f64::from(1 << 20),
            evictions: of_job().filter(|moment| moment.what == "evicted").count() as f64,
            completion_ms: ended.saturating_sub(submitted) as f64,
        })
    }
}

/// Of values in ascending order, at least one.
fn median(sorted: &[f64]) -> f64 {
    f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2])
}

/// A figure's name and unit, and how to get it.
type Measure = (&'static str, &'static str, fn(&Figures) -> f64);

const MEASURES: [Measure; 6] = [
    ("submitted → started, median of tasks", "ms", |it| it.start_ms),
    ("submitted → started, last task", "ms", |it| it.last_start_ms),
    ("CPU of a task", "m", |it| it.cpu_milli),
    ("RAM of a task", "MiB", |it| it.ram_mib),
    ("evictions", "", |it| it.evictions),
    ("submitted → job ended", "ms", |it| it.completion_ms),
];

impl Report {
    /// Puts both sides together.
    ///
    /// # Errors
    /// As of [`Side::figures`].
    pub fn new(workload: &Workload, simulated: Side, real: Vec<Side>) -> Result<Self, String> {
        let report = |job: &Job| {
            let name = &job.job.name;
            let real = real.iter().map(|side| side.figures(name)).collect::<Result<_, _>>()?;
            Ok(JobReport { job: name.clone(), simulated: simulated.figures(name)?, real })
        };
        let jobs = workload.jobs.iter().map(report).collect::<Result<_, String>>()?;
        Ok(Self { jobs, simulated, real })
    }

    /// For people: a row for each figure of each job.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        let heads = ["job", "what", "simulated", "real, median", "real, range", "real − simulated"];
        table.set_header(heads);
        for job in &self.jobs {
            for (what, unit, of) in MEASURES {
                let mut real: Vec<f64> = job.real.iter().map(of).collect();
                real.sort_by(f64::total_cmp);
                let (Some(least), Some(most)) = (real.first(), real.last()) else { continue };
                let (simulated, middle) = (of(&job.simulated), median(&real));
                let number = |value: f64| format!("{value:.0} {unit}").trim_end().to_owned();
                table.add_row([
                    job.job.clone(),
                    what.to_owned(),
                    number(simulated),
                    number(middle),
                    format!("{least:.0} to {most:.0}"),
                    format!("{:+.0} {unit}", middle - simulated).trim_end().to_owned(),
                ]);
            }
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: Model = Model { start_up_ms: 4, seed: 1 };

    #[test]
    fn the_workload_that_comes_with_it_does_what_it_is_for() {
        let workload = Workload::parse(WORKLOAD).unwrap();
        let side = simulate(&workload, MODEL).unwrap();
        assert_eq!(side, simulate(&workload, MODEL).unwrap());
        let of = |job: &str| side.figures(job).unwrap();
        for job in &workload.jobs {
            let figures = of(&job.job.name);
            assert!(figures.start_ms >= 4.0, "{figures:?}");
            assert!(figures.completion_ms >= job.does.runtime_ms as f64, "{figures:?}");
            assert!((figures.cpu_milli - job.does.cpu.0 as f64).abs() < 0.5, "{figures:?}");
        }
        // Each machine has room for one urgent task once two tasks of the filler have left.
        assert!(of("filler").evictions >= 4.0, "{:?}", of("filler"));
        assert!(["urgent", "burner", "holder", "short"].iter().all(|job| of(job).evictions < 1.0));
        // Those begin again when the urgent ones are done, and so end later than they would have.
        assert!(of("filler").completion_ms > 14_000.0 + 3_000.0 + 3_000.0);
    }

    #[test]
    fn a_workload_that_cannot_be_run_is_refused() {
        for (from, to, problem) in [
            ("count: 2, cpu: 1", "count: 0, cpu: 1", "field `machines.count`: 0 is not in 1..=64"),
            ("name: short", "name: urgent", "\"urgent\" is there twice"),
            ("runtime_ms: 12000", "runs_ms: 12000", "runs_ms"),
        ] {
            let said = Workload::parse(&WORKLOAD.replace(from, to)).unwrap_err();
            assert!(said.contains(problem), "{said}");
        }
        let huge = WORKLOAD.replace("cpu: 600m", "cpu: 2");
        let said = simulate(&Workload::parse(&huge).unwrap(), MODEL).unwrap_err();
        assert!(said.contains("not all jobs have ended"), "{said}");
    }

    #[test]
    fn both_sides_are_in_the_table() {
        let workload = Workload::parse(WORKLOAD).unwrap();
        let side = simulate(&workload, MODEL).unwrap();
        let slower = simulate(&workload, Model { start_up_ms: 104, ..MODEL }).unwrap();
        let report = Report::new(&workload, side.clone(), vec![slower, side]).unwrap();
        assert_eq!(report.jobs.len(), 5);
        let urgent = report.jobs.iter().find(|job| job.job == "urgent").unwrap();
        assert!(urgent.real[0].start_ms >= urgent.simulated.start_ms + 50.0);
        assert_eq!(urgent.real[1], urgent.simulated);
        let table = report.table().to_string();
        assert!(table.contains("real − simulated") && table.contains("| urgent"), "{table}");
    }
}
