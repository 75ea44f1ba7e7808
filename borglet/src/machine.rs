//! The machine: a task that owns the agent, takes in what happened, and carries out what follows.
//!
//! Whatever takes time is done elsewhere, and comes back as an [`Event`]: writing a fence, setting a container up,
//! waiting for its end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use borglet_agent::{Action, Agent, Config, Found, FoundState, Input, TaskEvent};
use borglet_init::Exit;
use cell::borglet::{ExitCause, Incarnation, MachineCapacity, Usage, WantedTask};
use cell::container::PROCESSES_DEFAULT;
use proto::link::{FromMachine, MasterMessage};
use proto::node::{MachineUsage, TaskUsage};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, spawn_blocking};

use crate::cgroup::{Appetite, CPU_MILLI_MIN, Group, Hierarchy, Limits, RAM_BYTES_MIN, Sample};
use crate::container::{self, Contained, Containers, Spares};
use crate::folder::{Folder, Given, Record};
use crate::given::{Giver, is_port_free};
use crate::life::{Start, cause, end, terminate, watch};
use crate::oom::{self, Candidate, Expected};
use crate::packages::Packages;

/// Between two reports that nobody asked for.
const REPORT_PAUSE: Duration = Duration::from_millis(50);

/// How often it is looked whether memory runs out.
const MEMORY_EVERY: Duration = Duration::from_millis(250);

/// Something that happened.
pub(crate) enum Event {
    /// A master says something.
    Master(MasterMessage),
    /// Somebody wants to hear what the machine says.
    Listen(mpsc::Sender<FromMachine>),
    /// Something for the agent.
    Agent(Input),
    /// A task has a container, if no program in it yet.
    Made(Arc<Contained>),
    /// Its program runs.
    Started(Incarnation),
    /// The program of a task has ended.
    Ended(Incarnation, Option<Exit>),
    /// A task has to go, and this is why.
    Condemned(Incarnation, ExitCause),
    /// What was sampled.
    Sampled(Instant, Vec<(Incarnation, Sample)>),
    /// What all tasks together use, in bytes of RAM.
    MemoryUsed(u64),
    /// A question, to be answered with what there is now.
    Ask(Box<dyn FnOnce(&Machine) + Send>),
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Event")
    }
}

/// Something to be written, in its turn.
type Write = Box<dyn FnOnce(&Folder) + Send>;

/// How events come in.
pub(crate) type Events = mpsc::UnboundedSender<Event>;

/// What the machine works with.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub folder: Folder,
    pub hierarchy: Hierarchy,
    pub containers: Arc<dyn Containers>,
    /// Those from images, where the machine has a runtime for them.
    pub cri: Arc<dyn Containers>,
    pub packages: Packages,
    pub name: String,
    pub capacity: MachineCapacity,
    pub sample_every: Duration,
    /// The program `borglet-init`.
    pub init: PathBuf,
    pub spares: Spares,
    /// So many containers are set up at once.
    pub setups: tokio::sync::Semaphore,
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Machine {
    around: Arc<Surroundings>,
    agent: Agent,
    giver: Giver,
    live: BTreeMap<Incarnation, Live>,
    writes: std::sync::mpsc::Sender<Write>,
    listeners: Vec<mpsc::Sender<FromMachine>>,
    events: Events,
    began: Instant,
    /// Whether something changed that masters have not been told.
    is_news: bool,
    told_at: Option<Instant>,
    memory_used: u64,
}

/// A task that is being started, runs, or is being removed.
#[derive(Debug)]
struct Live {
    record: Arc<Record>,
    group: Group,
    /// There once it is made.
    contained: Option<Arc<Contained>>,
    /// Set where it is to end: what is being set up is not started any more.
    is_over: Arc<AtomicBool>,
    /// What watches it.
    task: AbortHandle,
    /// Why it was condemned.
    verdict: Option<ExitCause>,
    is_running: bool,
    /// It ran when this borglet was started.
    is_found: bool,
    /// It has changed since it began to be started.
    is_adjusted: bool,
    /// So have its limits.
    is_limited_anew: bool,
    is_healthy: bool,
    since: Instant,
    sampled: Option<(Instant, Sample)>,
    usage: Usage,
    expected: Expected,
}

impl Machine {
    /// A machine as it is found: what runs goes on.
    pub(crate) async fn recover(
        around: Surroundings,
        giver: Giver,
        events: Events,
    ) -> anyhow::Result<Self> {
        let around = Arc::new(around);
        let began = Instant::now();
        let fence = around.folder.journal.fence();
        let config = Config { machine: around.name.clone(), capacity: around.capacity };
        let (writes, to_write) = std::sync::mpsc::channel::<Write>();
        let written = Arc::clone(&around);
        std::thread::Builder::new()
            .name("writes".to_owned())
            .spawn(move || to_write.iter().for_each(|write| write(&written.folder)))?;
        let mut machine = Self {
            agent: Agent::new(config.clone(), 0),
            around: Arc::clone(&around),
            giver,
            live: BTreeMap::new(),
            writes,
            listeners: Vec::new(),
            events,
            began,
            is_news: false,
            told_at: None,
            memory_used: 0,
        };
        let mut found = Vec::new();
        for record in around.folder.records()? {
            found.push(machine.find(record).await?);
        }
        // What has no record is nobody's: it was being removed when the borglet ended, or waited for a program.
        let known: BTreeSet<&String> = machine.live.values().map(|it| &it.record.group).collect();
        for name in around.hierarchy.names()? {
            if !known.contains(&name) {
                let group = around.hierarchy.group(&name);
                group.end()?;
                container::remove_groups(&group)?;
            }
        }
        for live in machine.live.values() {
            // A borglet may have ended between a start and its limit of CPU; and one that is gone needs none.
            if let Err(error) = live.group.adjust(&machine.limits(&live.record)) {
                tracing::warn!(task = live.record.task.name, %error, "its limits cannot be set");
            }
        }
        let running = machine.live.len();
        tracing::info!(running, known = found.len(), term = fence.term, "found its tasks");
        machine.agent = Agent::recover(config, 0, fence, found);
        Ok(machine)
    }

    /// What has become of a task.
    async fn find(&mut self, record: Arc<Record>) -> anyhow::Result<Found> {
        let around = Arc::clone(&self.around);
        let incarnation = record.task.incarnation;
        let task = Arc::new(record.task.clone());
        if let Some(cause) = around.folder.end(incarnation)? {
            return Ok(Found { task, state: FoundState::Exited(cause) });
        }
        let group = around.hierarchy.group(&record.group);
        let contained = around.contained(&record, &group, Vec::new());
        match around.containers_of(&contained).find(Arc::clone(&contained)).await? {
            container::Found::Running { age_ms } => {
                self.giver.found(incarnation, record.given.clone());
                let watched = tokio::spawn(watch(
                    Arc::clone(&around),
                    Arc::clone(&contained),
                    self.events.clone(),
                ));
                let mut live = Live::new(record, group, watched.abort_handle());
                live.contained = Some(contained);
                live.is_running = true;
                live.is_found = true;
                live.since =
                    self.began.checked_sub(Duration::from_millis(age_ms)).unwrap_or(self.began);
                self.live.insert(incarnation, live);
                Ok(Found { task, state: FoundState::Running { age_ms } })
            }
            container::Found::Exited(exit) => {
                let cause = match exit {
                    Some(_) => cause(None, exit, group.oom_kill_count()),
                    None if group.oom_kill_count() > 0 => ExitCause::OutOfMemory,
                    None => ExitCause::Lost,
                };
                group.end()?;
                around.containers_of(&contained).clean(Arc::clone(&contained)).await?;
                around.folder.keep_end(incarnation, &cause)?;
                Ok(Found { task, state: FoundState::Exited(cause) })
            }
        }
    }

    /// What it works with.
    pub(crate) fn around(&self) -> Arc<Surroundings> {
        Arc::clone(&self.around)
    }

    /// Runs for as long as anybody has [`Events`].
    pub(crate) async fn run(mut self, mut events: mpsc::UnboundedReceiver<Event>) {
        let mut samples = tokio::time::interval(self.around.sample_every);
        let mut memory = tokio::time::interval(MEMORY_EVERY);
        for timer in [&mut samples, &mut memory] {
            timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        }
        let mut batch = Vec::new();
        self.step(Input::Tick);
        loop {
            let due = self.due();
            tokio::select! {
                count = events.recv_many(&mut batch, 256) => {
                    if count == 0 {
                        return;
                    }
                    for event in batch.drain(..) {
                        self.take(event);
                    }
                }
                () = tokio::time::sleep_until(due.into()) => self.step(Input::Tick),
                _ = samples.tick() => self.sample(),
                _ = memory.tick() => self.look_at_memory(),
            }
            self.tell_news();
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// When something has to be done without anything happening.
    fn due(&self) -> Instant {
        let agent = self.agent.next_deadline_ms().map(|ms| self.began + Duration::from_millis(ms));
        let news = self.is_news.then(|| self.told_at.map_or(self.began, |at| at + REPORT_PAUSE));
        let later = Instant::now() + Duration::from_secs(3_600);
        [agent, news].into_iter().flatten().min().unwrap_or(later)
    }

    /// Masters hear of what changed without asking, so that nobody waits for the next poll.
    fn tell_news(&mut self) {
        let may = self.told_at.is_none_or(|at| at.elapsed() >= REPORT_PAUSE);
        if self.is_news && may {
            self.is_news = false;
            self.told_at = Some(Instant::now());
            self.say(&FromMachine::Report(self.agent.report()));
        }
    }

    fn say(&mut self, what: &FromMachine) {
        // Whoever cannot keep up hears of it at the next poll.
        self.listeners.retain(|listener| {
            !matches!(listener.try_send(what.clone()), Err(mpsc::error::TrySendError::Closed(_)))
        });
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Master(MasterMessage::Wanted(wanted)) => self.step(Input::Wanted(wanted)),
            Event::Master(MasterMessage::Poll(poll)) => self.step(Input::Poll(poll)),
            Event::Listen(listener) => self.listeners.push(listener),
            Event::Agent(input) => self.step(input),
            Event::Made(contained) => self.made(contained),
            Event::Started(incarnation) => self.started(incarnation),
            Event::Ended(incarnation, exit) => self.ended(incarnation, exit),
            Event::Condemned(incarnation, cause) => self.condemn(incarnation, cause),
            Event::Sampled(at, samples) => self.sampled(at, samples),
            Event::MemoryUsed(bytes) => self.memory_used(bytes),
            Event::Ask(question) => question(self),
        }
    }

    fn step(&mut self, input: Input) {
        if let Input::Task(incarnation, event) = &input {
            self.is_news |= !matches!(event, TaskEvent::Sampled(_));
            match event {
                TaskEvent::Health { healthy } => {
                    if let Some(live) = self.live.get_mut(incarnation) {
                        live.is_healthy = *healthy;
                    }
                }
                TaskEvent::Exited(cause) => {
                    tracing::info!(incarnation = incarnation.0, ?cause, "ended");
                    self.live.remove(incarnation);
                    self.giver.take_back(*incarnation);
                    self.share_cpus();
                }
                TaskEvent::Started | TaskEvent::Sampled(_) => {}
            }
        }
        for action in self.agent.step(self.now_ms(), input) {
            match action {
                Action::Persist(fence) => {
                    let around = Arc::clone(&self.around);
                    let events = self.events.clone();
                    spawn_blocking(move || {
                        let input = match around.folder.journal.keep_fence(fence) {
                            Ok(()) => Input::Persisted(fence),
                            Err(error) => {
                                tracing::error!(%error, "a fence cannot be kept");
                                Input::PersistFailed(fence)
                            }
                        };
                        let _ = events.send(Event::Agent(input));
                    });
                }
                Action::Start(task) => self.start(&task),
                Action::Adjust(task) => self.adjust(&task),
                Action::Terminate(incarnation) => self.terminate(incarnation),
                Action::Kill(incarnation) => self.kill(incarnation),
                Action::Forget(incarnation) => self.forget(incarnation),
                Action::Reply(report) => {
                    self.told_at = Some(Instant::now());
                    self.is_news = false;
                    self.say(&FromMachine::Report(report));
                }
                Action::Refuse(refusal) => self.say(&FromMachine::Refusal(refusal)),
            }
        }
    }

    fn start(&mut self, task: &WantedTask) {
        let incarnation = task.incarnation;
        let given = self.giver.give(task, is_port_free);
        let (given, refusal) = match given {
            Ok(given) => (given, self.unfit(task).err()),
            Err(why) => (Given::default(), Some(why)),
        };
        let spare = if refusal.is_none() && container::may_be_spare(task) {
            self.around.spares.take()
        } else {
            None
        };
        let name =
            spare.as_ref().map_or_else(|| incarnation.0.to_string(), |it| it.name().to_owned());
        let group = self.around.hierarchy.group(&name);
        let record = Arc::new(Record { task: task.clone(), given, group: name });
        let is_over = Arc::new(AtomicBool::new(false));
        let start = Start {
            around: Arc::clone(&self.around),
            record: Arc::clone(&record),
            limits: self.limits(&record),
            group: group.clone(),
            refusal,
            spare,
            is_over: Arc::clone(&is_over),
            events: self.events.clone(),
        };
        let task = tokio::spawn(start.run());
        let mut live = Live::new(record, group, task.abort_handle());
        live.is_over = is_over;
        self.live.insert(incarnation, live);
        self.share_cpus();
    }

    /// What keeps a task from running here.
    fn unfit(&self, task: &WantedTask) -> Result<(), String> {
        let limit = &task.limit;
        if !limit.unstated.cpu && limit.cpu.0 < CPU_MILLI_MIN {
            return Err(format!(
                "limit.cpu of {}m is below the least, {CPU_MILLI_MIN}m",
                limit.cpu.0
            ));
        }
        if !limit.unstated.ram && limit.ram.0 < RAM_BYTES_MIN {
            return Err(format!(
                "limit.ram of {} bytes is below the least, {RAM_BYTES_MIN}",
                limit.ram.0
            ));
        }
        let required = task.container.as_ref().map(|it| it.require.clone()).unwrap_or_default();
        for control in required {
            if !self.around.hierarchy.has(control) {
                return Err(format!(
                    "the job requires `{}`, which cgroup version {} does not offer here",
                    control.name(),
                    self.around.hierarchy.version()
                ));
            }
        }
        Ok(())
    }

    fn limits(&self, record: &Record) -> Limits {
        let Record { task, given, .. } = record;
        let container = task.container.as_deref();
        let appetite = if task.latency_sensitive {
            Appetite::LatencySensitive
        } else if task.priority < 100 {
            Appetite::BestEffort
        } else {
            Appetite::Batch
        };
        let limit = &task.limit;
        Limits {
            cpu_milli: (!limit.unstated.cpu).then_some(limit.cpu.0),
            ram_bytes: (!limit.unstated.ram).then_some(limit.ram.0),
            processes_max: container.and_then(|it| it.processes_max).unwrap_or(PROCESSES_DEFAULT),
            appetite,
            ram_high: container.and_then(|it| it.ram_high).map(|it| it.0),
            ram_low: container.and_then(|it| it.ram_low).map(|it| it.0),
            own_cpus: given.cpus.clone(),
            shared_cpus: self.giver.shared_cpus(),
            io: container.and_then(|it| it.io.clone()),
        }
    }

    /// Where CPUs were given or taken back, all others have to make do with the rest.
    fn share_cpus(&mut self) {
        if self.giver.shared_cpus().is_none() {
            return;
        }
        for live in self.live.values_mut() {
            live.is_limited_anew = true;
        }
        for live in self.live.values().filter(|live| live.is_running) {
            self.limit(live);
        }
    }

    fn limit(&self, live: &Live) {
        let (group, limits) = (live.group.clone(), self.limits(&live.record));
        let name = live.record.task.name.clone();
        spawn_blocking(move || {
            if let Err(error) = group.adjust(&limits) {
                tracing::warn!(task = name, %error, "its limits cannot be changed");
            }
        });
    }

    fn adjust(&mut self, task: &WantedTask) {
        let Some(live) = self.live.get_mut(&task.incarnation) else { return };
        live.record = Arc::new(Record { task: task.clone(), ..(*live.record).clone() });
        (live.is_adjusted, live.is_limited_anew) = (true, true);
        // What is being started may be about to be kept, and limited, as it was.
        if live.is_running {
            self.settle(task.incarnation);
        }
    }

    /// Has what has changed hold, and be known after a restart.
    fn settle(&mut self, incarnation: Incarnation) {
        let Some(live) = self.live.get_mut(&incarnation) else { return };
        let is_adjusted = std::mem::take(&mut live.is_adjusted);
        let is_limited_anew = std::mem::take(&mut live.is_limited_anew);
        if let Some(live) = self.live.get(&incarnation).filter(|_| is_limited_anew) {
            self.limit(live);
        }
        if let Some(live) = self.live.get(&incarnation).filter(|_| is_adjusted) {
            let record = Arc::clone(&live.record);
            self.write(move |folder| {
                if let Err(error) = folder.keep(&record) {
                    tracing::error!(task = record.task.name, %error, "what was adjusted cannot be kept");
                }
            });
        }
    }

    /// Has something written after all that was to be written before: the last that is said of a task holds.
    fn write(&self, what: impl FnOnce(&Folder) + Send + 'static) {
        // It is there for as long as the machine is.
        let _ = self.writes.send(Box::new(what));
    }

    fn terminate(&mut self, incarnation: Incarnation) {
        let Some(live) = self.live.get(&incarnation) else { return };
        live.is_over.store(true, Ordering::Release);
        if let Some(contained) = live.contained.clone() {
            let around = Arc::clone(&self.around);
            tokio::spawn(async move { terminate(&around, contained).await });
        }
    }

    fn kill(&mut self, incarnation: Incarnation) {
        let Some(live) = self.live.get(&incarnation) else { return };
        live.is_over.store(true, Ordering::Release);
        let (group, name) = (live.group.clone(), live.record.task.name.clone());
        spawn_blocking(move || {
            if let Err(error) = group.kill() {
                tracing::error!(task = name, %error, "it cannot be killed");
            }
        });
    }

    fn condemn(&mut self, incarnation: Incarnation, cause: ExitCause) {
        if let Some(live) = self.live.get_mut(&incarnation) {
            live.verdict.get_or_insert(cause);
            self.kill(incarnation);
        }
    }

    fn forget(&mut self, incarnation: Incarnation) {
        self.write(move |folder| {
            if let Err(error) = folder.forget(incarnation) {
                tracing::error!(incarnation = incarnation.0, %error, "its record cannot be dropped");
            }
        });
    }

    /// The program is gone. The rest of it goes too, and then that is told.
    fn ended(&mut self, incarnation: Incarnation, exit: Option<Exit>) {
        let Some(live) = self.live.get_mut(&incarnation) else { return };
        live.is_running = false;
        let Some(contained) = live.contained.take() else { return };
        let (verdict, is_found) = (live.verdict.clone(), live.is_found);
        let (around, events) = (Arc::clone(&self.around), self.events.clone());
        tokio::spawn(async move {
            let killed = contained.group.oom_kill_count();
            let cause = match (&verdict, exit, killed) {
                // Its first process may have waited for the borglet before to say that the program may run.
                (None, None, 0) if is_found => ExitCause::Lost,
                _ => cause(verdict, exit, killed),
            };
            end(&around, &contained, &cause).await;
            let _ = events.send(Event::Agent(Input::Task(incarnation, TaskEvent::Exited(cause))));
        });
    }

    fn sample(&self) {
        let groups: Vec<(Incarnation, Group)> = self
            .live
            .iter()
            .filter(|(_, live)| live.is_running)
            .map(|(&incarnation, live)| (incarnation, live.group.clone()))
            .collect();
        let events = self.events.clone();
        spawn_blocking(move || {
            let samples = groups.into_iter().filter_map(|(incarnation, group)| {
                // One that has just ended has no group any more.
                group.sample().ok().map(|sample| (incarnation, sample))
            });
            let _ = events.send(Event::Sampled(Instant::now(), samples.collect()));
        });
    }

    fn sampled(&mut self, at: Instant, samples: Vec<(Incarnation, Sample)>) {
        for (incarnation, sample) in samples {
            let Some(live) = self.live.get_mut(&incarnation).filter(|live| live.is_running) else {
                continue;
            };
            let before = live.sampled.replace((at, sample));
            let (since, used_us) = match before {
                Some((since, before)) => (since, sample.cpu_us.saturating_sub(before.cpu_us)),
                None => (live.since, sample.cpu_us),
            };
            let elapsed = at.saturating_duration_since(since);
            let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX).max(1);
            live.usage = Usage {
                cpu_milli: used_us.saturating_mul(1000) / elapsed_us,
                ram_bytes: sample.ram_bytes,
            };
            live.expected.sample(sample.ram_bytes, elapsed_us / 1000);
            // Where the kernel killed a part of it (version 1 has no killing of groups), the rest goes too.
            let lost = before.map_or(0, |(_, before)| before.oom_kill_count);
            let is_half_dead = sample.oom_kill_count > lost;
            let usage = live.usage;
            if is_half_dead {
                self.condemn(incarnation, ExitCause::OutOfMemory);
            }
            self.step(Input::Task(incarnation, TaskEvent::Sampled(usage)));
        }
    }

    fn look_at_memory(&self) {
        let (around, events) = (Arc::clone(&self.around), self.events.clone());
        if self.live.is_empty() {
            return;
        }
        spawn_blocking(move || {
            if let Ok(bytes) = around.hierarchy.ram_used() {
                let _ = events.send(Event::MemoryUsed(bytes));
            }
        });
    }

    fn memory_used(&mut self, bytes: u64) {
        self.memory_used = bytes;
        let is_somebody_going = self.live.values().any(|live| live.verdict.is_some());
        if is_somebody_going {
            return;
        }
        let running = self.live.iter().filter(|(_, live)| live.is_running);
        let candidates: Vec<Candidate> = running
            .map(|(&incarnation, live)| Candidate {
                incarnation,
                priority: live.record.task.priority,
                used: live.usage.ram_bytes,
                reserved: live.expected.bytes(),
            })
            .collect();
        if let Some(victim) = oom::victim(bytes, self.around.capacity.ram_bytes, &candidates) {
            let name = self.live.get(&victim).map(|live| live.record.task.name.clone());
            tracing::warn!(task = name, bytes, "memory runs out: it has to go");
            self.condemn(victim, ExitCause::OutOfMemory);
        }
    }

    /// What the machine and its tasks use: a user's own, or all of them for the administrator.
    pub(crate) fn usage(&self, user: &str, admin: &str) -> MachineUsage {
        let mut tasks: Vec<TaskUsage> = self
            .live
            .iter()
            .filter(|(_, live)| user == admin || live.record.task.user == user)
            .map(|(&incarnation, live)| {
                let sample = live.sampled.map(|(_, sample)| sample).unwrap_or_default();
                let task = &live.record.task;
                TaskUsage {
                    name: task.name.clone(),
                    incarnation: incarnation.0,
                    pid: 0,
                    age_ms: u64::try_from(live.since.elapsed().as_millis()).unwrap_or(u64::MAX),
                    cpu_milli: live.usage.cpu_milli,
                    ram_bytes: live.usage.ram_bytes,
                    cpu_limit_milli: task.limit.cpu.0,
                    ram_limit_bytes: task.limit.ram.0,
                    process_count: sample.process_count,
                    throttled_ms: sample.throttled_us / 1000,
                    major_fault_count: sample.major_fault_count,
                    oom_kill_count: sample.oom_kill_count,
                    cpu_pressure_permille: sample.pressure.cpu_permille,
                    memory_pressure_permille: sample.pressure.memory_permille,
                    io_pressure_permille: sample.pressure.io_permille,
                    is_healthy: live.is_healthy,
                }
            })
            .collect();
        tasks.sort_by(|a, b| (&a.name, a.incarnation).cmp(&(&b.name, b.incarnation)));
        MachineUsage {
            machine: self.around.name.clone(),
            cpu_capacity_milli: self.around.capacity.cpu_milli,
            ram_capacity_bytes: self.around.capacity.ram_bytes,
            tasks,
        }
    }

    /// The container of a task that runs, by the task's name.
    pub(crate) fn running(&self, name: &str) -> Option<Arc<Contained>> {
        let mut named = self.live.values().filter(|live| live.record.task.name == name);
        named.rfind(|live| live.is_running).and_then(|live| live.contained.clone())
    }

    /// Whether an incarnation has not ended yet.
    pub(crate) fn is_alive(&self, incarnation: Incarnation) -> bool {
        self.live.contains_key(&incarnation)
    }

    /// A container was made.
    fn made(&mut self, contained: Arc<Contained>) {
        let incarnation = contained.record.task.incarnation;
        if let Some(live) = self.live.get_mut(&incarnation) {
            live.contained = Some(contained);
        }
    }

    /// Its program runs.
    fn started(&mut self, incarnation: Incarnation) {
        if let Some(live) = self.live.get_mut(&incarnation) {
            live.is_running = true;
            live.since = Instant::now();
            if live.is_over.load(Ordering::Acquire)
                && let Some(contained) = live.contained.clone()
            {
                let around = Arc::clone(&self.around);
                tokio::spawn(async move { terminate(&around, contained).await });
            }
        }
        self.settle(incarnation);
        self.step(Input::Task(incarnation, TaskEvent::Started));
    }
}

impl Live {
    fn new(record: Arc<Record>, group: Group, task: AbortHandle) -> Self {
        let expected = Expected::new(record.task.limit.ram.0);
        Self {
            record,
            group,
            contained: None,
            is_over: Arc::default(),
            task,
            verdict: None,
            is_running: false,
            is_found: false,
            is_adjusted: false,
            is_limited_anew: false,
            is_healthy: true,
            since: Instant::now(),
            sampled: None,
            usage: Usage::default(),
            expected,
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.task.abort();
    }
}
