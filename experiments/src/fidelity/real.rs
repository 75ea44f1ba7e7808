//! The real side: a local cell that is started for the purpose by `borgcfg dev up`, asked by `borgcfg`, and gone after.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use tempfile::{NamedTempFile, TempDir};

use super::{ENDED, Moment, SAMPLE_EVERY_MS, Side, Workload, together};

/// Who submits.
pub const USER: &str = "fidelity";

/// A cell that runs for as long as this is there.
#[derive(Debug)]
pub struct LocalCell {
    borgcfg: PathBuf,
    folder: TempDir,
    /// Where its replicas are.
    masters: String,
}

#[derive(Deserialize)]
struct Up {
    masters: Vec<String>,
}

#[derive(Deserialize)]
struct Line {
    at: u64,
    what: String,
    job: Option<String>,
    task: Option<String>,
}

#[derive(Deserialize)]
struct Top {
    tasks: Vec<Task>,
}

#[derive(Deserialize)]
struct Task {
    name: String,
    pid: u32,
    cpu_milli: u64,
    ram_bytes: u64,
    /// 0 until it was sampled first.
    process_count: u64,
}

impl LocalCell {
    /// Starts a cell of one master and the workload's machines, on ports from `port` on.
    ///
    /// # Errors
    /// If the programs are not there, or the cell does not come up; the message says why.
    pub fn start(workload: &Workload, port: u16) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("this program's own path is not known")?;
        let borgcfg = own.with_file_name("borgcfg");
        ensure!(
            borgcfg.is_file(),
            "{} is not there: `cargo build --release -p borgmaster -p borgcfg -p borglet -p borglet-init` builds what a \
             real cell takes",
            borgcfg.display()
        );
        let folder = tempfile::tempdir().context("there is no folder for the cell")?;
        let mut cell = Self { borgcfg, folder, masters: String::new() };
        let machines = workload.machines;
        let mut up = Command::new(&cell.borgcfg);
        // So that its machines are no other cell's.
        let prefix = format!("fidelity-{}", std::process::id());
        up.args(["--json", "--user", USER, "dev", "up", "--masters", "1", "--prefix", &prefix]);
        up.arg("--folder").arg(cell.folder.path().join("cell"));
        up.args(["--port", &port.to_string(), "--borglets", &machines.count.to_string()]);
        up.args(["--cpu", &format!("{}m", machines.cpu.0), "--ram", &machines.ram.0.to_string()]);
        up.args(["--sample-ms", &SAMPLE_EVERY_MS.to_string()]);
        let said: Up = serde_json::from_str(&said(&mut up)?).context("borgcfg dev up")?;
        cell.masters = said.masters.join(",");
        Ok(cell)
    }

    fn borgcfg(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(&self.borgcfg);
        command.args(["--cell", &self.masters, "--user", USER, "--json"]).args(arguments);
        said(&mut command)
    }

    fn moments(&self) -> anyhow::Result<Vec<Moment>> {
        let text = self.borgcfg(&["events"])?;
        let mut moments = Vec::new();
        for line in text.lines() {
            let line: Line = serde_json::from_str(line).context("borgcfg events")?;
            let Some(job) = line.job else { continue };
            let what = if line.what.starts_with("job-") { ENDED.to_owned() } else { line.what };
            moments.push(Moment { at_ms: line.at, what, job, task: line.task });
        }
        Ok(moments)
    }

    /// Runs a workload on it, once.
    ///
    /// # Errors
    /// If a job is refused, or does not end within ten minutes.
    pub fn run(&self, workload: &Workload) -> anyhow::Result<Side> {
        let begin = Instant::now();
        let mut waiting = workload.in_order().into_iter().peekable();
        let mut side = Side::default();
        let every = Duration::from_millis(SAMPLE_EVERY_MS);
        let mut next_sample = begin + every;
        loop {
            let due = waiting.peek().map(|job| begin + Duration::from_millis(job.at_ms));
            let next = due.map_or(next_sample, |due| due.min(next_sample));
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            while let Some(job) =
                waiting.next_if(|job| begin.elapsed() >= Duration::from_millis(job.at_ms))
            {
                let mut file = NamedTempFile::with_suffix(".json")?;
                file.write_all(&serde_json::to_vec(&job.job)?)?;
                let path = file.path().to_str().context("a path that is no text")?;
                self.borgcfg(&["submit", path]).with_context(|| job.job.name.clone())?;
            }
            if Instant::now() < next_sample {
                continue;
            }
            let top: Top = serde_json::from_str(&self.borgcfg(&["top"])?).context("borgcfg top")?;
            let sampled = |task: &Task| task.pid != 0 && task.process_count > 0;
            let running = top.tasks.into_iter().filter(sampled);
            side.used.extend(together(running.filter_map(|task| {
                let (job, _) = task.name.rsplit_once('/')?;
                Some((job.to_owned(), task.cpu_milli, task.ram_bytes))
            })));
            side.moments = self.moments()?;
            let ended = side.moments.iter().filter(|moment| moment.what == ENDED).count();
            if ended == workload.jobs.len() {
                return Ok(side);
            }
            ensure!(
                begin.elapsed() < Duration::from_millis(super::LONGEST_MS),
                "after {} s not all jobs have ended",
                super::LONGEST_MS / 1000
            );
            next_sample = (next_sample + every).max(Instant::now());
        }
    }
}

impl Drop for LocalCell {
    #[expect(clippy::print_stderr, reason = "nobody else can be told")]
    fn drop(&mut self) {
        let mut down = Command::new(&self.borgcfg);
        down.args(["dev", "down", "--folder"]).arg(self.folder.path().join("cell"));
        // One that did not come up is gone already.
        if let Err(error) = said(&mut down)
            && !self.masters.is_empty()
        {
            // What is left of it has to be found.
            self.folder.disable_cleanup(true);
            let folder = self.folder.path().join("cell");
            let folder = folder.display();
            eprintln!("experiments: {error:#}: `borgcfg dev down --folder {folder}` ends the cell");
        }
    }
}

/// What a command said, if it succeeded.
fn said(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output().with_context(|| program.clone())?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| program)
}
