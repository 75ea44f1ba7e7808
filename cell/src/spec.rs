//! The schema in which machines, jobs and alloc sets are written down, in YAML or JSON.
//!
//! In: the `*Spec` types below, as serde fills them from a file. Out: a [`Cell`], or the first
//! [`SpecError`], which names the field. Reading files, and knowing their lines, is the caller's.
//! The same job texts are submitted to a live master.
//!
//! An example of each part is in `examples/`; the fields' documentation here is the reference.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use crate::band::Priority;
use crate::constraint::{Constraint, Predicate, Strength};
use crate::container::ContainerSpec;
use crate::id::{JobId, MachineId, TaskId, UserId};
use crate::job::{Host, Job, JobKind, Spread, Task, TaskState};
use crate::machine::{DomainKind, Machine};
use crate::quantity::Scalar;
use crate::resources::{
    Bytes, Capacity, GPU_DEVICE, GPU_DEVICE_COUNT_MAX, GpuRequest, MilliCpu, MilliGpu, Resources,
    Unstated,
};
use crate::state::Cell;

/// The version of the schema that this code reads and writes.
pub const SPEC_VERSION: u32 = 1;

/// The most tasks one job may have. Our own limit: fifty times the largest job of the 2011 trace.
pub const JOB_TASK_COUNT_MAX: u32 = 1_000_000;

/// The most machines that one entry may make. Our own limit: ten times the largest cell that anyone has
/// written about.
pub const MACHINE_COUNT_MAX: u32 = 1_000_000;

/// The longest that a task may have run, in seconds. Our own limit: 136 years.
pub const RAN_SECONDS_MAX: u64 = 1 << 32;

/// One machine, or `count` machines alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineSpec {
    /// Its name. With `count`, the machines are called `NAME-0`, `NAME-1`, and so on.
    pub name: String,
    /// Makes so many machines alike; without it there is one, called `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// CPU: cores (`16`, `0.5`) or milli-cores (`"500m"`).
    #[serde(serialize_with = "write_cpu")]
    pub cpu: MilliCpu,
    /// RAM: bytes, or a size (`"64GiB"`).
    pub ram: Bytes,
    /// Local disk; left out: disk constrains nothing on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Bytes>,
    /// Number of GPU devices, 0..=16.
    #[serde(default)]
    pub gpus: u32,
    /// Attributes that constraints look at.
    #[serde(default)]
    pub attributes: BTreeMap<String, Scalar>,
    /// The rack it stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<String>,
    /// The power domain it hangs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<String>,
    /// Packages that are installed on it.
    #[serde(default)]
    pub packages: BTreeSet<String>,
}

/// A task's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitSpec {
    /// CPU: cores or milli-cores; left out: none, and not stated (see [`Unstated`]).
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "write_stated_cpu")]
    pub cpu: Option<MilliCpu>,
    /// RAM; left out: none, and not stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ram: Option<Bytes>,
    /// Local disk; none if left out.
    #[serde(default)]
    pub disk: Bytes,
    /// GPUs; none if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuSpec>,
}

/// GPUs that a task asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuSpec {
    /// Number of devices, 1..=16.
    pub count: u32,
    /// Share of the device in thousandths, 1..=1000; below 1000 only where `count` is 1.
    #[serde(default = "whole_device")]
    pub milli: u32,
}

fn whole_device() -> u32 {
    1000
}

/// The operator of a constraint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperatorSpec {
    /// Equal as strings.
    #[serde(rename = "=")]
    Equal,
    /// Not equal as strings.
    #[serde(rename = "!=")]
    NotEqual,
    /// An integer below.
    #[serde(rename = "<")]
    Less,
    /// An integer above.
    #[serde(rename = ">")]
    Greater,
    /// Present.
    #[serde(rename = "exists")]
    Exists,
    /// One of several strings.
    #[serde(rename = "in")]
    In,
}

/// A constraint on a machine's attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConstraintSpec {
    /// The attribute's name.
    pub attribute: String,
    /// `=`, `!=`, `<`, `>`, `exists` or `in`.
    pub op: OperatorSpec,
    /// What it is compared with; not for `exists` and `in`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Scalar>,
    /// For `in`: the values allowed, at least one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<Scalar>,
    /// Makes it soft, with this weight (1..=1000) against the job's other soft constraints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft: Option<u32>,
}

/// How tasks spread over the failure domains of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpreadSpec {
    /// `machine`, `rack` or `power`.
    pub domain: DomainKind,
    /// At most so many tasks of the job in one domain, at least 1; left out: only a preference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_per_domain: Option<u32>,
}

/// What is particular to one task of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskSpec {
    /// Its index, below the job's `count`; each index at most once.
    pub index: u32,
    /// A limit of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<LimitSpec>,
    /// The machine it runs on now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// For a job in an alloc set: the index of the alloc it runs in now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alloc: Option<u32>,
    /// For how many seconds it has run; only for a task that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ran_seconds: Option<u64>,
}

/// A job; or an alloc set, which has the same fields, its "tasks" being its allocs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// Its name, unique among the cell's jobs and alloc sets; without white space and `/`.
    pub name: String,
    /// Who owns it. Who submits a job to a live cell may leave it out: the job is theirs.
    #[serde(default)]
    pub user: String,
    /// 0..=450: free 0–99, batch 100–115, mid 116–119, production 120–359, monitoring 360–450.
    pub priority: u16,
    /// Number of tasks, 1 if left out.
    #[serde(default = "one")]
    pub count: u32,
    /// The limit of each task.
    pub limit: LimitSpec,
    /// Constraints on the machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<ConstraintSpec>,
    /// At most one task on a machine.
    #[serde(default)]
    pub different_machines: bool,
    /// Spread over failure domains, each kind at most once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spread: Vec<SpreadSpec>,
    /// Packages that the tasks need on their machine.
    #[serde(default)]
    pub packages: BTreeSet<String>,
    /// The alloc set that its tasks run in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alloc_set: Option<String>,
    /// Whether each task belongs to its machine (a daemon), and is left out of compaction.
    #[serde(default)]
    pub tied_to_machines: bool,
    /// At most so many of its tasks may be disrupted at once, 0 for none; left out: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_disrupted: Option<u32>,
    /// Tasks that differ, or that run already.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskSpec>,
    /// How its tasks are run: for a live cell alone.
    #[serde(default)]
    pub run: RunSpec,
    /// What surrounds its program: for a live cell alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Arc<ContainerSpec>>,
}

/// How a live cell runs a job's tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunSpec {
    /// The program and its arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Whether a task that ended is started again.
    pub restart: RestartPolicy,
    /// A task that failed so many times is not started again; left out: always.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures_max: Option<u32>,
    /// From the notice (SIGTERM) to the kill (SIGKILL) where a task is preempted, updated or killed, in
    /// seconds, 0..=3600.
    pub grace_seconds: u32,
    /// Jobs that have to finish before this one's tasks may start (Borg §2.3).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub start_after: Vec<String>,
    /// How many tasks an update may have down at once, at least 1; `max_disrupted` bounds it too.
    pub update_max_down: u32,
    /// How long a task has to run well before an update goes on to the next, in seconds, 0..=86400.
    pub healthy_seconds: u32,
    /// Whether it is latency-sensitive: its threads come before those of batch.
    pub latency_sensitive: bool,
    /// A machine that has heard from no master for so many seconds, 1..=86400, and for two poll intervals
    /// of the cell, stops the task by itself; left out: it runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_after_disconnect_seconds: Option<u32>,
}

impl Default for RunSpec {
    fn default() -> Self {
        Self {
            command: Vec::new(),
            restart: RestartPolicy::OnFailure,
            failures_max: None,
            grace_seconds: 10,
            start_after: Vec::new(),
            update_max_down: 1,
            healthy_seconds: 0,
            latency_sensitive: false,
            stop_after_disconnect_seconds: None,
        }
    }
}

/// Whether a task that ended by itself is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Whatever its exit: a service.
    Always,
    /// Unless it finished with exit code 0: a batch job.
    #[default]
    OnFailure,
    /// Never.
    Never,
}

fn one() -> u32 {
    1
}

/// CPU as it is read back: a plain number would be cores.
fn write_cpu<S: Serializer>(cpu: &MilliCpu, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{}m", cpu.0))
}

fn write_stated_cpu<S: Serializer>(
    cpu: &Option<MilliCpu>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match cpu {
        Some(cpu) => write_cpu(cpu, serializer),
        None => serializer.serialize_none(),
    }
}

/// Which field of a spec is wrong, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}`: {problem}")]
pub struct SpecError {
    /// Path of the field within its machine or job, e.g. `constraints[1].value`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl SpecError {
    /// An error of a field.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// Builds a [`Cell`] from specs: machines first, then alloc sets, then jobs.
#[derive(Clone, Debug, Default)]
pub struct CellBuilder {
    cell: Cell,
    machine_ids: BTreeMap<String, MachineId>,
    user_ids: BTreeMap<String, UserId>,
    job_ids: BTreeMap<String, JobId>,
}

impl CellBuilder {
    /// Adds to a cell that is there already.
    #[must_use]
    pub fn onto(cell: Cell) -> Self {
        let ids = 0..;
        let machine_ids = cell.machines.iter().zip(ids.clone());
        let machine_ids =
            machine_ids.map(|(m, i)| (m.name.clone(), MachineId::from_index(i))).collect();
        let user_ids = cell.users.iter().zip(ids.clone());
        let user_ids = user_ids.map(|(user, i)| (user.clone(), UserId::from_index(i))).collect();
        let job_ids = cell.jobs.iter().zip(ids);
        let job_ids = job_ids.map(|(job, i)| (job.name.clone(), JobId::from_index(i))).collect();
        Self { cell, machine_ids, user_ids, job_ids }
    }

    /// Adds one machine, or as many as its `count` says.
    ///
    /// # Errors
    /// If a field is out of range or a name is taken.
    pub fn add_machine(&mut self, spec: &MachineSpec) -> Result<(), SpecError> {
        let machine = read_machine(spec)?;
        if let Some(count) = spec.count
            && !(1..=MACHINE_COUNT_MAX).contains(&count)
        {
            let problem = format!("{count} is not in 1..={MACHINE_COUNT_MAX}");
            return Err(SpecError::new("count", problem));
        }
        let names: Vec<String> = match spec.count {
            None => vec![spec.name.clone()],
            Some(count) => (0..count).map(|i| format!("{}-{i}", spec.name)).collect(),
        };
        if let Some(name) = names.iter().find(|name| self.machine_ids.contains_key(*name)) {
            return Err(SpecError::new("name", format!("machine {name:?} is there twice")));
        }
        for name in names {
            let id = MachineId::from_index(self.cell.machines.len());
            self.machine_ids.insert(name.clone(), id);
            self.cell.machines.push(Machine { name, ..machine.clone() });
        }
        Ok(())
    }

    /// Adds an alloc set.
    ///
    /// # Errors
    /// If a field is out of range, a name is taken or unknown, or a task index is there twice.
    pub fn add_alloc_set(&mut self, spec: &JobSpec) -> Result<(), SpecError> {
        if spec.alloc_set.is_some() {
            return Err(SpecError::new("alloc_set", "an alloc set cannot run in another"));
        }
        self.add(spec, JobKind::AllocSet)
    }

    /// Adds a job.
    ///
    /// # Errors
    /// If a field is out of range, a name is taken or unknown, or a task index is there twice.
    pub fn add_job(&mut self, spec: &JobSpec) -> Result<(), SpecError> {
        self.add(spec, JobKind::Job)
    }

    /// The cell.
    #[must_use]
    pub fn finish(self) -> Cell {
        self.cell
    }

    fn add(&mut self, spec: &JobSpec, kind: JobKind) -> Result<(), SpecError> {
        if self.job_ids.contains_key(&spec.name) {
            return Err(SpecError::new("name", format!("job {:?} is there twice", spec.name)));
        }
        let alloc_set = spec.alloc_set.as_ref().map(|name| self.alloc_set(name)).transpose()?;
        let next_user = UserId::from_index(self.cell.users.len());
        let user = self.user_ids.get(&spec.user).copied().unwrap_or(next_user);
        let mut job = read_job(spec, kind, user, alloc_set)?;
        for (i, task) in spec.tasks.iter().enumerate() {
            let field = |name: &str| format!("tasks[{i}].{name}");
            let slot = &mut job.tasks[task.index as usize];
            slot.state = self.task_state(task, alloc_set, field)?;
            if task.ran_seconds.is_some() && !slot.is_running() {
                return Err(SpecError::new(field("ran_seconds"), "the task does not run"));
            }
            if let Some(seconds) = task.ran_seconds.filter(|&seconds| seconds > RAN_SECONDS_MAX) {
                let problem = format!("{seconds} is above {RAN_SECONDS_MAX}");
                return Err(SpecError::new(field("ran_seconds"), problem));
            }
            slot.ran_seconds = task.ran_seconds;
        }
        if user == next_user {
            self.user_ids.insert(spec.user.clone(), user);
            self.cell.users.push(spec.user.clone());
        }
        self.job_ids.insert(spec.name.clone(), JobId::from_index(self.cell.jobs.len()));
        self.cell.jobs.push(job);
        Ok(())
    }

    fn alloc_set(&self, name: &str) -> Result<JobId, SpecError> {
        let unknown = || SpecError::new("alloc_set", format!("no alloc set is called {name:?}"));
        let id = *self.job_ids.get(name).ok_or_else(unknown)?;
        match self.cell.job(id).kind {
            JobKind::AllocSet => Ok(id),
            JobKind::Job => Err(SpecError::new("alloc_set", format!("{name:?} is a job"))),
        }
    }

    fn task_state(
        &self,
        task: &TaskSpec,
        alloc_set: Option<JobId>,
        field: impl Fn(&str) -> String,
    ) -> Result<TaskState, SpecError> {
        match (&task.machine, task.alloc, alloc_set) {
            (None, None, _) => Ok(TaskState::Pending),
            (Some(name), None, None) => match self.machine_ids.get(name) {
                Some(&id) => Ok(TaskState::Running { on: Some(Host::Machine(id)) }),
                None => {
                    let problem = format!("no machine is called {name:?}");
                    Err(SpecError::new(field("machine"), problem))
                }
            },
            (None, Some(index), Some(set)) => {
                if index as usize >= self.cell.job(set).tasks.len() {
                    let problem = format!("the alloc set has no alloc {index}");
                    return Err(SpecError::new(field("alloc"), problem));
                }
                let alloc = TaskId { job: set, position: index };
                Ok(TaskState::Running { on: Some(Host::Alloc(alloc)) })
            }
            (Some(_), _, Some(_)) => Err(SpecError::new(
                field("machine"),
                "a task of a job in an alloc set runs in an alloc: give `alloc`",
            )),
            (_, Some(_), None) => {
                Err(SpecError::new(field("alloc"), "the job names no `alloc_set`"))
            }
        }
    }
}

/// A job as its spec says, with all its tasks pending. Of [`JobSpec::tasks`] only the limits are read.
///
/// # Errors
/// If a field is out of range, or a task index is there twice.
pub fn read_job(
    spec: &JobSpec,
    kind: JobKind,
    user: UserId,
    alloc_set: Option<JobId>,
) -> Result<Job, SpecError> {
    check_name("name", &spec.name)?;
    check_name("user", &spec.user)?;
    let priority = Priority::new(spec.priority).ok_or_else(|| {
        let problem = format!("{} is above {}", spec.priority, Priority::MAX.get());
        SpecError::new("priority", problem)
    })?;
    if !(1..=JOB_TASK_COUNT_MAX).contains(&spec.count) {
        let problem = format!("{} is not in 1..={JOB_TASK_COUNT_MAX}", spec.count);
        return Err(SpecError::new("count", problem));
    }
    let limit = resources("limit", &spec.limit)?;
    let constraints = spec.constraints.iter().enumerate();
    let constraints = constraints
        .map(|(i, constraint)| read_constraint(&format!("constraints[{i}]"), constraint))
        .collect::<Result<_, _>>()?;
    let spread = read_spread(&spec.spread)?;
    let mut tasks: Vec<Task> = (0..spec.count).map(|index| Task::new(index, limit)).collect();
    let mut seen = BTreeSet::new();
    for (i, task) in spec.tasks.iter().enumerate() {
        let field = |name: &str| format!("tasks[{i}].{name}");
        let Some(slot) = tasks.get_mut(task.index as usize) else {
            let problem = format!("{} is not below the count {}", task.index, spec.count);
            return Err(SpecError::new(field("index"), problem));
        };
        if !seen.insert(task.index) {
            let problem = format!("index {} is there twice", task.index);
            return Err(SpecError::new(field("index"), problem));
        }
        if let Some(limit) = &task.limit {
            slot.limit = resources(&field("limit"), limit)?;
        }
    }
    spec.run.check()?;
    let mut packages = spec.packages.clone();
    if let Some(container) = &spec.container {
        if kind == JobKind::AllocSet {
            return Err(SpecError::new("container", "an alloc runs no program of its own"));
        }
        container.check()?;
        packages.extend(container.package_names());
    }
    Ok(Job {
        name: spec.name.clone(),
        kind,
        user,
        priority,
        constraints,
        different_machines: spec.different_machines,
        spread,
        packages,
        alloc_set,
        tied_to_machines: spec.tied_to_machines,
        max_disrupted: spec.max_disrupted,
        tasks: tasks.into(),
    })
}

/// The limit of one task of a job whose spec was read before.
///
/// # Errors
/// If the limit is out of range.
pub fn task_limit(spec: &JobSpec, index: u32) -> Result<Resources, SpecError> {
    let own =
        spec.tasks.iter().find(|task| task.index == index).and_then(|task| task.limit.as_ref());
    resources("limit", own.unwrap_or(&spec.limit))
}

impl RunSpec {
    fn check(&self) -> Result<(), SpecError> {
        let in_range = |field: &str, value: u32, range: std::ops::RangeInclusive<u32>| {
            if range.contains(&value) {
                return Ok(());
            }
            let problem = format!("{value} is not in {}..={}", range.start(), range.end());
            Err(SpecError::new(format!("run.{field}"), problem))
        };
        in_range("grace_seconds", self.grace_seconds, 0..=3600)?;
        in_range("update_max_down", self.update_max_down, 1..=JOB_TASK_COUNT_MAX)?;
        in_range("healthy_seconds", self.healthy_seconds, 0..=86_400)?;
        if let Some(seconds) = self.stop_after_disconnect_seconds {
            in_range("stop_after_disconnect_seconds", seconds, 1..=86_400)?;
        }
        if let Some(max) = self.failures_max {
            in_range("failures_max", max, 1..=1_000_000)?;
        }
        for (i, name) in self.start_after.iter().enumerate() {
            check_name(&format!("run.start_after[{i}]"), name)?;
        }
        Ok(())
    }
}

/// A machine as its spec says; of [`MachineSpec::count`] nothing is read.
///
/// # Errors
/// If a field is out of range.
pub fn read_machine(spec: &MachineSpec) -> Result<Machine, SpecError> {
    check_name("name", &spec.name)?;
    if spec.gpus as usize > GPU_DEVICE_COUNT_MAX {
        let problem = format!("{} devices; at most {GPU_DEVICE_COUNT_MAX}", spec.gpus);
        return Err(SpecError::new("gpus", problem));
    }
    let attributes = spec.attributes.iter();
    Ok(Machine {
        name: spec.name.clone(),
        capacity: Capacity { cpu: spec.cpu, ram: spec.ram, disk: spec.disk, gpu_count: spec.gpus },
        attributes: attributes.map(|(name, value)| (name.clone(), value.0.clone())).collect(),
        rack: spec.rack.clone(),
        power: spec.power.clone(),
        packages: spec.packages.clone(),
    })
}

/// Whether a text may name a job, a user or a machine: not empty, without white space, control
/// characters and `/`.
///
/// # Errors
/// If it may not, with this field's name.
pub fn check_name(field: &str, name: &str) -> Result<(), SpecError> {
    if name.is_empty() {
        return Err(SpecError::new(field, "must not be empty"));
    }
    if name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/') {
        return Err(SpecError::new(field, format!("{name:?} has white space or a `/` in it")));
    }
    Ok(())
}

fn resources(field: &str, spec: &LimitSpec) -> Result<Resources, SpecError> {
    let gpu = match spec.gpu {
        None => GpuRequest::NONE,
        Some(gpu) => {
            if !(1..=GPU_DEVICE_COUNT_MAX).contains(&(gpu.count as usize)) {
                let problem = format!("{} is not in 1..={GPU_DEVICE_COUNT_MAX}", gpu.count);
                return Err(SpecError::new(format!("{field}.gpu.count"), problem));
            }
            let milli = u64::from(gpu.milli);
            let whole = GPU_DEVICE.0;
            if !(1..=whole).contains(&milli) || (gpu.count > 1 && milli != whole) {
                let problem = "must be 1..=1000, and 1000 where `count` is above 1";
                return Err(SpecError::new(format!("{field}.gpu.milli"), problem));
            }
            GpuRequest { count: gpu.count, milli_each: MilliGpu(milli) }
        }
    };
    Ok(Resources {
        cpu: spec.cpu.unwrap_or_default(),
        ram: spec.ram.unwrap_or_default(),
        disk: spec.disk,
        gpu,
        unstated: Unstated { cpu: spec.cpu.is_none(), ram: spec.ram.is_none() },
    })
}

fn read_constraint(field: &str, spec: &ConstraintSpec) -> Result<Constraint, SpecError> {
    let one_value = || match (&spec.value, spec.values.is_empty()) {
        (Some(value), true) => Ok(value.0.clone()),
        _ => Err(SpecError::new(format!("{field}.value"), "this operator takes one `value`")),
    };
    let integer = || {
        let text = one_value()?;
        text.parse::<i64>().map_err(|_| {
            SpecError::new(format!("{field}.value"), format!("{text:?} is no integer"))
        })
    };
    let predicate = match spec.op {
        OperatorSpec::Equal => Predicate::Equal(one_value()?),
        OperatorSpec::NotEqual => Predicate::NotEqual(one_value()?),
        OperatorSpec::Less => Predicate::Less(integer()?),
        OperatorSpec::Greater => Predicate::Greater(integer()?),
        OperatorSpec::Exists => match (&spec.value, spec.values.is_empty()) {
            (None, true) => Predicate::Exists,
            _ => return Err(SpecError::new(format!("{field}.value"), "`exists` takes no value")),
        },
        OperatorSpec::In => match (&spec.value, spec.values.is_empty()) {
            (None, false) => Predicate::In(spec.values.iter().map(|v| v.0.clone()).collect()),
            _ => {
                let problem = "`in` takes `values`, at least one, and no `value`";
                return Err(SpecError::new(format!("{field}.values"), problem));
            }
        },
    };
    if spec.attribute.is_empty() {
        return Err(SpecError::new(format!("{field}.attribute"), "must not be empty"));
    }
    let strength = match spec.soft {
        None => Strength::Hard,
        Some(weight @ 1..=1000) => Strength::Soft { weight },
        Some(weight) => {
            let problem = format!("weight {weight} is not in 1..=1000");
            return Err(SpecError::new(format!("{field}.soft"), problem));
        }
    };
    Ok(Constraint { attribute: spec.attribute.clone(), predicate, strength })
}

fn read_spread(specs: &[SpreadSpec]) -> Result<Vec<Spread>, SpecError> {
    let mut kinds = BTreeSet::new();
    let mut spread = Vec::new();
    for (i, spec) in specs.iter().enumerate() {
        if spec.max_per_domain == Some(0) {
            let field = format!("spread[{i}].max_per_domain");
            return Err(SpecError::new(field, "must be at least 1"));
        }
        if !kinds.insert(spec.domain) {
            let problem = format!("`{}` is there twice", spec.domain.name());
            return Err(SpecError::new(format!("spread[{i}].domain"), problem));
        }
        spread.push(Spread { domain: spec.domain, max_per_domain: spec.max_per_domain });
    }
    Ok(spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: &str = r#"{"name": "m", "cpu": 16, "ram": "64GiB", "gpus": 2, "rack": "r1",
        "attributes": {"platform": "B", "cores": 16, "ssd": true}}"#;
    const ALLOC_SET: &str = r#"{"name": "envelope", "user": "ann", "priority": 200, "count": 2,
        "limit": {"cpu": 4, "ram": "8GiB"}, "tasks": [{"index": 0, "machine": "m", "ran_seconds": 90}],
        "max_disrupted": 1}"#;
    const JOB: &str = r#"{"name": "web", "user": "ann", "priority": 200, "count": 3,
        "limit": {"cpu": "500m", "ram": 1024, "gpu": {"count": 1, "milli": 460}}}"#;

    fn build(job: &str) -> Result<Cell, SpecError> {
        let mut builder = CellBuilder::default();
        builder.add_machine(&serde_json::from_str(MACHINE).unwrap())?;
        builder.add_alloc_set(&serde_json::from_str(ALLOC_SET).unwrap())?;
        builder.add_job(&serde_json::from_str(job).unwrap())?;
        Ok(builder.finish())
    }

    #[test]
    fn a_cell_comes_out_as_it_was_written() {
        let cell = build(JOB).unwrap();
        assert_eq!(cell.machines[0].attributes["cores"], "16");
        assert_eq!(cell.machines[0].attributes["ssd"], "true");
        assert_eq!(*cell.users, ["ann"]);
        let web = &cell.jobs[1];
        assert_eq!(web.tasks.len(), 3);
        assert_eq!(web.tasks[2].limit.cpu, MilliCpu(500));
        assert_eq!(web.tasks[2].limit.gpu.total(), MilliGpu(460));
        let on = Some(Host::Machine(MachineId(0)));
        assert_eq!(cell.jobs[0].tasks[0].state, TaskState::Running { on });
        assert_eq!(cell.jobs[0].tasks[0].ran_seconds, Some(90));
        assert_eq!((cell.jobs[0].max_disrupted, web.max_disrupted), (Some(1), None));
        let task = cell.find_task("web/2").unwrap();
        assert_eq!(cell.task_name(task), "web/2");
        assert_eq!(cell.find_task("web/3"), None);
    }

    #[test]
    fn each_bad_field_is_named() {
        let check = |change: (&str, &str), field: &str| {
            let mut job: serde_json::Value = serde_json::from_str(JOB).unwrap();
            job[change.0] = serde_json::from_str(change.1).unwrap();
            let error = build(&job.to_string()).unwrap_err();
            assert_eq!(error.field, field, "{error}");
        };
        check(("name", r#""a b""#), "name");
        check(("name", r#""envelope""#), "name"); // taken
        check(("user", r#""""#), "user");
        check(("priority", "451"), "priority");
        check(("count", "0"), "count");
        check(("alloc_set", r#""nowhere""#), "alloc_set");
        check(("limit", r#"{"cpu": 1, "ram": 1, "gpu": {"count": 17}}"#), "limit.gpu.count");
        check(
            ("limit", r#"{"cpu": 1, "ram": 1, "gpu": {"count": 2, "milli": 5}}"#),
            "limit.gpu.milli",
        );
        check(("tasks", r#"[{"index": 3}]"#), "tasks[0].index");
        check(("tasks", r#"[{"index": 1}, {"index": 1}]"#), "tasks[1].index");
        check(("tasks", r#"[{"index": 1, "machine": "x"}]"#), "tasks[0].machine");
        check(("tasks", r#"[{"index": 1, "alloc": 0}]"#), "tasks[0].alloc");
        check(("tasks", r#"[{"index": 1, "ran_seconds": 5}]"#), "tasks[0].ran_seconds");
        check(("spread", r#"[{"domain": "rack"}, {"domain": "rack"}]"#), "spread[1].domain");
        check(
            ("spread", r#"[{"domain": "rack", "max_per_domain": 0}]"#),
            "spread[0].max_per_domain",
        );
        let constraint = |text: &str, field: &str| {
            check(("constraints", &format!("[{text}]")), &format!("constraints[0].{field}"));
        };
        constraint(r#"{"attribute": "a", "op": "="}"#, "value");
        constraint(r#"{"attribute": "a", "op": "<", "value": "x"}"#, "value");
        constraint(r#"{"attribute": "a", "op": "exists", "value": 1}"#, "value");
        constraint(r#"{"attribute": "a", "op": "in", "value": 1}"#, "values");
        constraint(r#"{"attribute": "", "op": "exists"}"#, "attribute");
        constraint(r#"{"attribute": "a", "op": "exists", "soft": 0}"#, "soft");
    }

    #[test]
    fn unknown_fields_and_negative_requests_are_refused() {
        let unknown = JOB.replace(r#""count": 3"#, r#""cuont": 3"#);
        assert!(serde_json::from_str::<JobSpec>(&unknown).is_err());
        let negative = JOB.replace(r#""500m""#, "-1");
        let error = serde_json::from_str::<JobSpec>(&negative).unwrap_err();
        assert!(error.to_string().contains("negative"), "{error}");
    }
}
