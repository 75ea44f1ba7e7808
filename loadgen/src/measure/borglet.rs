//! One real borglet: how fast it starts tasks, what it costs, and how exactly limits hold.
//!
//! This plays the master, so that nothing is measured but the borglet. Needs root, and for the comparison `runc` and
//! a static `busybox`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use cell::borglet::{
    ExitCause, Fence, Incarnation, Poll, ReportedState, TaskKey, TaskReport, Wanted, WantedTask,
};
use cell::{Bytes, MilliCpu, Resources};
use proto::limits::MESSAGE_BYTES_MAX;
use proto::link::{FromMachine, MasterMessage, ToMachine, batches, read_from_borglet};
use proto::wire;
use proto::wire::borglet_client::BorgletClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::Args;
use super::cluster::{DEADLINE, Process};
use super::report::{Bar, Report, Times};

const MACHINE: &str = "measured";

/// So many are started one after the other, after some to warm up.
const START_COUNT: u64 = 200;
const WARM_UP_COUNT: u64 = 20;

/// So many run at once.
const TOGETHER_COUNT: u64 = 500;

/// How long a borglet that has nothing to do is watched, and a task that does all it can.
const IDLE: Duration = Duration::from_secs(30);
const BUSY: Duration = Duration::from_secs(20);

/// As often as a master does.
const POLL_EVERY: Duration = Duration::from_secs(2);

pub(super) async fn run(_: &Args, folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "only root can give tasks users of their own");
    let own = std::env::current_exe().context("this program's own path is not known")?;
    let program = own.with_file_name("borglet");
    if !program.exists() {
        bail!("{} is not there: build it (-p borglet -p borglet-init)", program.display());
    }
    let data = folder.join("data");
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let mut command = Command::new(&program);
    command.arg("--data").arg(&data).args(["--name", MACHINE, "--listen", &address]);
    command.args(["--cpu", "64", "--ram", "64GiB"]);
    command.stderr(std::fs::File::create(folder.join("borglet.log"))?).stdout(Stdio::null());
    let process = Process::start(&mut command)?;
    let cleaned = Cleaned { program, data: data.clone() };
    let mut machine = Link::open(&address).await?;
    starts(&mut machine, folder, report).await?;
    together(&mut machine, &process, report).await?;
    limits(&mut machine, &data, report).await?;
    drop(process);
    drop(cleaned);
    Ok(())
}

/// Ends what the borglet leaves running.
struct Cleaned {
    program: PathBuf,
    data: PathBuf,
}

impl Drop for Cleaned {
    fn drop(&mut self) {
        let mut clean = Command::new(&self.program);
        clean.args(["clean", "--name", MACHINE, "--data"]).arg(&self.data);
        let _ = clean.stdin(Stdio::null()).output();
    }
}

/// The master's end of a link to the borglet.
struct Link {
    sender: mpsc::Sender<wire::FromMaster>,
    heard: Streaming<wire::FromBorglet>,
    generation: u64,
    next: u64,
    wanted: BTreeSet<u64>,
}

impl Link {
    async fn open(address: &str) -> anyhow::Result<Self> {
        let give_up = Instant::now() + DEADLINE;
        let mut client = loop {
            match BorgletClient::connect(format!("http://{address}")).await {
                Ok(client) => break client.max_decoding_message_size(MESSAGE_BYTES_MAX),
                Err(error) if Instant::now() > give_up => {
                    return Err(error).context("the borglet does not answer");
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let (sender, receiver) = mpsc::channel(64);
        let heard = client.link(ReceiverStream::new(receiver)).await?.into_inner();
        let mut link = Self { sender, heard, generation: 0, next: 1, wanted: BTreeSet::new() };
        link.tell(None, Vec::new(), Vec::new()).await?;
        Ok(link)
    }

    async fn send(&self, message: MasterMessage) -> anyhow::Result<()> {
        let message = ToMachine { machine: MACHINE.to_owned(), message };
        for messages in batches(vec![wire::ToMachine::try_from(message)?]) {
            self.sender.send(wire::FromMaster { messages }).await?;
        }
        Ok(())
    }

    async fn tell(
        &mut self,
        base: Option<u64>,
        tasks: Vec<WantedTask>,
        gone: Vec<Incarnation>,
    ) -> anyhow::Result<()> {
        self.generation += 1;
        let fence = Fence { term: 1, generation: self.generation };
        self.send(MasterMessage::Wanted(Wanted { fence, base, tasks, gone })).await
    }

    async fn poll(&self) -> anyhow::Result<()> {
        let fence = Fence { term: 1, generation: self.generation };
        self.send(MasterMessage::Poll(Poll { fence })).await
    }

    /// Has so many tasks alike started; their numbers.
    async fn start(
        &mut self,
        count: u64,
        command: &[&str],
        cpu_milli: u64,
        ram_bytes: u64,
    ) -> anyhow::Result<Vec<u64>> {
        let numbers: Vec<u64> = (self.next..self.next + count).collect();
        self.next += count;
        let task = |&number: &u64| WantedTask {
            key: TaskKey { job: number, index: 0 },
            incarnation: Incarnation(number),
            name: format!("job-{number}/0"),
            priority: 200,
            limit: Resources {
                cpu: MilliCpu(cpu_milli),
                ram: Bytes(ram_bytes),
                ..Resources::default()
            },
            gpu_devices: 0,
            user: "ann".to_owned(),
            command: command.iter().map(|&it| it.to_owned()).collect(),
            grace_ms: 0,
            latency_sensitive: false,
            stop_after_disconnect_ms: None,
            container: None,
            stop: None,
        };
        let tasks = numbers.iter().map(task).collect();
        self.wanted.extend(&numbers);
        self.tell(Some(self.generation), tasks, Vec::new()).await?;
        Ok(numbers)
    }

    /// Gives up all tasks, and waits until none is known.
    async fn end_all(&mut self) -> anyhow::Result<()> {
        let gone = std::mem::take(&mut self.wanted).into_iter().map(Incarnation).collect();
        self.tell(Some(self.generation), Vec::new(), gone).await?;
        loop {
            self.poll().await?;
            if self.report().await?.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The next report.
    async fn report(&mut self) -> anyhow::Result<Vec<TaskReport>> {
        loop {
            let batch = tokio::time::timeout(DEADLINE, self.heard.message()).await;
            let batch = batch.context("nothing is heard")??.context("the borglet hung up")?;
            let mut newest = None;
            for message in read_from_borglet(batch)? {
                match message? {
                    FromMachine::Report(report) => newest = Some(report.tasks),
                    FromMachine::Refusal(refusal) => bail!("refused: {refusal:?}"),
                }
            }
            if let Some(tasks) = newest {
                return Ok(tasks);
            }
        }
    }

    /// Waits until all of these run.
    async fn wait_running(&mut self, numbers: &[u64]) -> anyhow::Result<()> {
        loop {
            let tasks = self.report().await?;
            let mut running = 0;
            for task in tasks.iter().filter(|task| numbers.contains(&task.incarnation.0)) {
                match &task.state {
                    ReportedState::Running => running += 1,
                    ReportedState::Exited(cause) => bail!("a task ended: {cause:?}"),
                    ReportedState::Starting | ReportedState::Stopping => {}
                }
            }
            if running == numbers.len() {
                return Ok(());
            }
        }
    }
}

/// What starts and then does nothing.
const SLEEPER: [&str; 2] = ["sleep", "infinity"];

async fn starts(machine: &mut Link, folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    let bundle = Bundle::make(folder)?;
    let (mut own, mut runc) = (Vec::new(), Vec::new());
    for number in 0..START_COUNT + WARM_UP_COUNT {
        let told = Instant::now();
        let numbers = machine.start(1, &SLEEPER, 100, 64 << 20).await?;
        machine.wait_running(&numbers).await?;
        let took = told.elapsed();
        machine.end_all().await?;
        if number >= WARM_UP_COUNT {
            own.push(took);
            if let Some(bundle) = bundle.as_ref().filter(|_| number % 4 == 0) {
                runc.push(bundle.run()?);
            }
        }
        // A borglet tells of what changed by itself at most every 50 ms.
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    let own = Times::new(own)?;
    let what = format!("start of a task, told to heard that it runs, {START_COUNT} times");
    report.row(format!("{what}, p50"), own.median_ms(), "ms", Some(Bar::AtMost(5.0)));
    report.row(format!("{what}, p99"), own.p99_ms(), "ms", Some(Bar::AtMost(20.0)));
    match Times::new(runc) {
        Ok(runc) => {
            report.row("runc run --detach of the same, p50", runc.median_ms(), "ms", None);
            report.row("runc run --detach of the same, p99", runc.p99_ms(), "ms", None);
        }
        Err(_) => report.note("runc or busybox is not there: no comparison"),
    }
    Ok(())
}

async fn together(
    machine: &mut Link,
    process: &Process,
    report: &mut Report,
) -> anyhow::Result<()> {
    let told = Instant::now();
    let numbers = machine.start(TOGETHER_COUNT, &SLEEPER, 10, 16 << 20).await?;
    machine.wait_running(&numbers).await?;
    let took = told.elapsed().as_secs_f64();
    report.row(
        format!("{TOGETHER_COUNT} tasks started at once"),
        took,
        "s",
        Some(Bar::AtMost(5.0)),
    );
    let before = process.cpu_time()?;
    let begin = Instant::now();
    while begin.elapsed() < IDLE {
        machine.poll().await?;
        machine.report().await?;
        tokio::time::sleep(POLL_EVERY).await;
    }
    let used = (process.cpu_time()? - before).as_secs_f64() / begin.elapsed().as_secs_f64();
    let (resident, most) = process.memory()?;
    let mib = |bytes: u64| (bytes >> 10) as f64 / 1024.0;
    let with = format!("borglet with {TOGETHER_COUNT} tasks");
    report.row(format!("{with}, resident"), mib(resident), "MiB", Some(Bar::AtMost(50.0)));
    report.row(format!("{with}, most that it ever was"), mib(most), "MiB", None);
    report.row(format!("{with}, of a core"), used * 100.0, "%", Some(Bar::AtMost(3.0)));
    let told = Instant::now();
    machine.end_all().await?;
    report.row(format!("{TOGETHER_COUNT} tasks ended"), told.elapsed().as_secs_f64(), "s", None);
    Ok(())
}

async fn limits(machine: &mut Link, data: &Path, report: &mut Report) -> anyhow::Result<()> {
    for cpu_milli in [100, 500] {
        let spin = ["sh", "-c", "while true; do :; done"];
        let numbers = machine.start(1, &spin, cpu_milli, 64 << 20).await?;
        machine.wait_running(&numbers).await?;
        let used = |it: &[TaskReport]| it.iter().map(|task| task.usage.cpu_milli).sum::<u64>();
        let (begin, mut samples) = (Instant::now(), Vec::new());
        while begin.elapsed() < BUSY {
            tokio::time::sleep(POLL_EVERY).await;
            machine.poll().await?;
            let cpu = used(&machine.report().await?);
            // The first samples are of its start.
            if begin.elapsed() > BUSY / 2 {
                samples.push(cpu as f64);
            }
        }
        let mean = samples.iter().sum::<f64>() / samples.len().max(1) as f64;
        let off = (mean / cpu_milli as f64 - 1.0).abs() * 100.0;
        let what = format!("CPU of a task that takes all it can, off its limit of {cpu_milli}m");
        report.row(what, off, "%", Some(Bar::AtMost(5.0)));
        machine.end_all().await?;
    }
    // It says how much it has before it takes more; the last that it says is what it could have.
    let eat = "import resource\nkept=[]\nwhile True:\n kept.append(b'x' * (1 << 20))\n \
               print(int(open('/proc/self/statm').read().split()[1]) * 4096, flush=True)";
    let limit: u64 = 256 << 20;
    let numbers = machine.start(1, &["python3", "-c", eat], 1_000, limit).await?;
    let cause = loop {
        machine.poll().await?;
        let ended = machine.report().await?.into_iter().find_map(|task| match task.state {
            ReportedState::Exited(cause) => Some(cause),
            ReportedState::Starting | ReportedState::Running | ReportedState::Stopping => None,
        });
        match ended {
            Some(cause) => break cause,
            None => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    ensure!(cause == ExitCause::OutOfMemory, "a task over its memory limit ended as {cause:?}");
    let log = data.join("tasks").join(numbers[0].to_string()).join("stdout");
    let said = std::fs::read_to_string(&log).with_context(|| format!("{}", log.display()))?;
    let last: f64 = said.lines().next_back().context("it said nothing")?.parse()?;
    let off = (last / limit as f64 - 1.0).abs() * 100.0;
    let what = "RAM of a task when it is killed for it, off its limit of 256 MiB";
    report.row(what, off, "%", Some(Bar::AtMost(5.0)));
    machine.end_all().await
}

/// An OCI bundle with the same program.
struct Bundle {
    folder: PathBuf,
    count: std::cell::Cell<u32>,
}

impl Bundle {
    /// `None` where it cannot be had.
    fn make(folder: &Path) -> anyhow::Result<Option<Self>> {
        let folder = folder.join("bundle");
        let binaries = folder.join("rootfs/bin");
        std::fs::create_dir_all(&binaries)?;
        let spec = Command::new("runc").arg("spec").current_dir(&folder).output();
        let busybox = Path::new("/bin/busybox");
        if !spec.is_ok_and(|it| it.status.success()) || !busybox.exists() {
            return Ok(None);
        }
        std::fs::copy(busybox, binaries.join("sleep"))?;
        let config = folder.join("config.json");
        let mut spec: serde_json::Value = serde_json::from_slice(&std::fs::read(&config)?)?;
        spec["process"]["terminal"] = false.into();
        spec["process"]["args"] = serde_json::json!(["/bin/sleep", "1000000"]);
        std::fs::write(&config, spec.to_string())?;
        Ok(Some(Self { folder, count: std::cell::Cell::new(0) }))
    }

    /// From the call to a program that runs.
    fn run(&self) -> anyhow::Result<Duration> {
        let number = self.count.get();
        self.count.set(number + 1);
        let name = format!("measured-{}-{number}", std::process::id());
        let begin = Instant::now();
        let mut run = Command::new("runc");
        run.args(["run", "--detach", &name]).current_dir(&self.folder);
        let status =
            run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        let took = begin.elapsed();
        ensure!(status.success(), "runc run failed");
        Command::new("runc").args(["delete", "--force", &name]).output()?;
        Ok(took)
    }
}
