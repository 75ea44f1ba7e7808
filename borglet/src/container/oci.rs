//! OCI bundles, by a runtime such as `runc` or `crun`.
//!
//! In: a task, and the bundle that its job names. Out: a bundle of the task's own, in its folder, and how the runtime
//! is to be called. The job's bundle is read, never written to; but a runtime makes the folders that it mounts
//! something at, where the root filesystem has none.
//!
//! Whoever made a bundle need not be trusted with the machine, on which runtimes do as root what a configuration says.
//! So the task's own one is made anew, of what is known to do no harm. What a container cannot do without is refused
//! where it would do harm; hooks, annotations, resources and the network, which are the machine's to say, are left out.
//!
//! Sources: the OCI runtime specification, `config.md`, `config-linux.md` and `runtime.md`; capabilities(7).

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use cell::borglet::WantedTask;
use cell::container::{FILES_DEFAULT, variable};
use oci_spec::runtime::{
    Capabilities, Capability, Linux, LinuxCapabilities, LinuxDeviceCgroup, LinuxNamespace,
    LinuxNamespaceType, LinuxResources, Mount, PosixRlimit, PosixRlimitBuilder, PosixRlimitType,
    Process, Root, Spec, get_default_maskedpaths, get_default_mounts, get_default_readonly_paths,
};

use super::Contained;
use super::shim::oom_score_adj;
use crate::cgroup::Group;
use crate::folder;

/// The group of the container, in the task's.
const CONTAINER_GROUP: &str = "box";

/// The group of the first process, in the task's. Version 2 only: a group with groups in it holds no processes.
const SHIM_GROUP: &str = "shim";

/// Where runtimes take control groups to be mounted, whatever is mounted elsewhere.
const CGROUPS: &str = "/sys/fs/cgroup";

/// No `config.json` is longer, in bytes. Our guess: that of `runc spec` has 2 600.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// The folder of packages, in the container.
const PACKAGES: &str = "/packages";

/// What a bundle may keep: what Docker gives by default (its documentation, "Runtime privilege and Linux
/// capabilities"), but for NET_RAW, because the network is the machine's.
const KEPT_CAPABILITIES: [Capability; 13] = [
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Mknod,
    Capability::NetBindService,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// What can be set for a container without setting it for the machine: what a namespace has (ipc_namespaces(7),
/// mq_overview(7), uts_namespaces(7)).
const OWN_SYSCTLS: [&str; 14] = [
    "fs.mqueue.msg_default",
    "fs.mqueue.msg_max",
    "fs.mqueue.msgsize_default",
    "fs.mqueue.msgsize_max",
    "fs.mqueue.queues_max",
    "kernel.domainname",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];

/// Of what every task has in its environment, that which a bundle knows better.
const LEFT_TO_BUNDLE: [&str; 4] = ["PATH", "HOME", "TMPDIR", "USER"];

/// How a runtime is to be called.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Where it writes the process id of the program.
    pub pid_file: PathBuf,
    /// It ends once the program runs.
    pub command: Vec<String>,
    /// Where the first process has to enter itself.
    pub cgroups: Vec<PathBuf>,
}

/// Makes the task's own bundle.
///
/// # Errors
/// What is wrong with the bundle, or keeps the machine from running any.
pub(super) fn prepare(task: &Contained, bundle: &Path, runtime: &Path) -> Result<Prepared, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("a bundle is run by a borglet that is root only".to_owned());
    }
    let named = |problem: String| format!("bundle {}: {problem}", bundle.display());
    let own = own_bundle(task);
    let groups = Groups::of(&task.group).map_err(|error| format!("{error:#}"))?;
    let tmp = absolute(&task.folder).join("home/tmp");
    let packages = task.packages.iter().map(|(name, from)| (name.clone(), absolute(from)));
    let packages: Vec<_> = packages.collect();
    let additions = Additions {
        task: &task.record.task,
        env: &task.env,
        packages: &packages,
        tmp: &tmp,
        cgroup: &groups.path.join(CONTAINER_GROUP),
    };
    let spec = read(bundle, &additions).map_err(named)?;

    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| format!("{path}: {error}")
    };
    fs::create_dir_all(&own).map_err(failed(&own))?;
    fs::set_permissions(&own, fs::Permissions::from_mode(0o700)).map_err(failed(&own))?;
    let config = own.join("config.json");
    let written = serde_json::to_vec(&spec).map_err(|error| error.to_string())?;
    fs::write(&config, written).map_err(failed(&config))?;
    make_tmp(&tmp).map_err(failed(&tmp))?;
    let cgroups = groups.make().map_err(|error| error.to_string())?;

    let pid_file = own.join("pid");
    let mut command = call(task, runtime);
    command.extend(words(&["run", "--detach", "--pid-file"]));
    command.extend([text(&pid_file), "--bundle".to_owned(), text(&own), id(task)]);
    Ok(Prepared { pid_file, command, cgroups })
}

/// Removes what the runtime keeps of the container, and what was made for it. Its processes are gone.
///
/// # Errors
/// If some of it stays.
pub(super) fn clean(task: &Contained, runtime: &Path) -> anyhow::Result<()> {
    let state = state(task);
    // Where it is not there, the runtime never got as far as the container.
    let deleted = if state.join(id(task)).exists() { delete(task, runtime) } else { Ok(()) };
    folder::remove(&state)?;
    folder::remove(&own_bundle(task))?;
    remove_groups(&task.group)?;
    deleted
}

/// Removes what a runtime made in hierarchies that the borglet has no use for. Nobody is in there any more.
///
/// # Errors
/// If some of it stays.
pub(crate) fn remove_groups(group: &Group) -> anyhow::Result<()> {
    Groups::of(group)?.remove().context("control group")
}

fn delete(task: &Contained, runtime: &Path) -> anyhow::Result<()> {
    let words = call(task, runtime);
    let output = Command::new(runtime)
        .args(&words[1..])
        .args(["delete", "--force", &id(task)])
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{}", runtime.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} delete: {}", runtime.display(), said.trim());
    Ok(())
}

/// The runtime, and what every call of it says.
fn call(task: &Contained, runtime: &Path) -> Vec<String> {
    let mut words = vec![text(runtime), "--root".to_owned(), text(&state(task))];
    let name = runtime.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with("crun") {
        // Others go without systemd by default, and know no such word.
        words.push("--cgroup-manager=cgroupfs".to_owned());
    } else if name.starts_with("runc") {
        // Then what it writes to standard error is the reason alone, for people.
        words.extend(["--log".to_owned(), text(&own_bundle(task).join("log"))]);
    }
    words
}

fn id(task: &Contained) -> String {
    format!("cell-{}", task.record.task.incarnation.0)
}

/// A runtime takes what is not absolute from its bundle on.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn own_bundle(task: &Contained) -> PathBuf {
    absolute(&task.folder).join("bundle")
}

/// Where the runtime keeps what it knows of the container.
fn state(task: &Contained) -> PathBuf {
    absolute(&task.folder).join("runtime")
}

/// Configurations are text: a path that is none was refused with the one that it is in.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// What is the container's `/tmp`. In there the task may be root, and make files that nobody else is to get at:
/// so the folder that it is in is closed to all others.
fn make_tmp(tmp: &Path) -> io::Result<()> {
    let home = tmp.parent().unwrap_or(tmp);
    chown(home, Some(0), Some(0))?;
    fs::set_permissions(home, fs::Permissions::from_mode(0o700))?;
    fs::create_dir_all(tmp)?;
    fs::set_permissions(tmp, fs::Permissions::from_mode(0o1777))
}

/// Reads the configuration of a bundle, and makes the task's of it.
fn read(bundle: &Path, additions: &Additions<'_>) -> Result<Spec, String> {
    let bundle = &bundle.canonicalize().map_err(|error| {
        let is_missing = error.kind() == io::ErrorKind::NotFound;
        if is_missing { "there is no such folder".to_owned() } else { error.to_string() }
    })?;
    let find = |path: &Path| find(bundle, path);
    let config = find(Path::new("config.json"))?;
    let failed = |error: io::Error| format!("config.json: {error}");
    if !fs::metadata(&config).map_err(failed)?.is_file() {
        return Err("config.json is no file".to_owned());
    }
    let mut text = Vec::new();
    let file = fs::File::open(&config).map_err(failed)?;
    file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > CONFIG_BYTES_MAX {
        return Err(format!("config.json is longer than {CONFIG_BYTES_MAX} bytes"));
    }
    let given = serde_json::from_slice(&text).map_err(|error| format!("config.json: {error}"))?;
    let spec = translate(&given, additions, &find)?;
    match spec.root() {
        Some(root) if !root.path().is_dir() => {
            Err(format!("root.path: {} is no folder", root.path().display()))
        }
        Some(_) | None => Ok(spec),
    }
}

/// What a path of a bundle leads to, which has to be in the bundle: the machine's other files are not everybody's.
fn find(bundle: &Path, path: &Path) -> Result<PathBuf, String> {
    let found = bundle.join(path).canonicalize().map_err(|error| {
        let path = path.display();
        let is_missing = error.kind() == io::ErrorKind::NotFound;
        if is_missing { format!("there is no {path}") } else { format!("{path}: {error}") }
    })?;
    if !found.starts_with(bundle) {
        return Err(format!("{} is not in the bundle", path.display()));
    }
    Ok(found)
}

/// What a task's configuration has that is not its bundle's.
#[derive(Clone, Copy, Debug)]
struct Additions<'a> {
    task: &'a WantedTask,
    env: &'a [(String, String)],
    packages: &'a [(String, PathBuf)],
    /// The folder that is the container's `/tmp`.
    tmp: &'a Path,
    /// The group of the container, from where control groups are mounted.
    cgroup: &'a Path,
}

/// Makes the task's configuration of its bundle's. `find` says what a path of the bundle leads to.
///
/// # Errors
/// The path of a field, from the top of `config.json` on, and what is wrong with it.
fn translate(
    given: &Spec,
    additions: &Additions<'_>,
    find: &dyn Fn(&Path) -> Result<PathBuf, String>,
) -> Result<Spec, String> {
    let root = given.root().as_ref().ok_or("root: is missing")?;
    let mut own_root = Root::default();
    own_root.set_path(find(root.path()).map_err(|problem| format!("root.path: {problem}"))?);
    // Other tasks have the same files.
    own_root.set_readonly(Some(true));

    let process = given.process().as_ref().ok_or("process: is missing")?;
    let mut spec = Spec::default();
    spec.set_version(given.version().clone());
    spec.set_hostname(given.hostname().clone());
    spec.set_domainname(given.domainname().clone());
    spec.set_root(Some(own_root));
    spec.set_process(Some(own_process(process, additions)?));
    spec.set_mounts(Some(own_mounts(given.mounts().as_deref().unwrap_or(&[]), additions, find)?));
    spec.set_linux(Some(own_linux(given.linux().as_ref(), additions)?));
    // Some tell a runtime to write files, or to load programs (crun's `run.oci.*`).
    spec.set_annotations(None);
    spec.set_hooks(None);
    Ok(spec)
}

fn own_process(given: &Process, additions: &Additions<'_>) -> Result<Process, String> {
    let task = additions.task;
    let args = match given.args() {
        _ if !task.command.is_empty() => task.command.clone(),
        Some(args) if !args.is_empty() => args.clone(),
        Some(_) | None => {
            let fields = "neither the job's `run.command` nor the bundle's `process.args`";
            return Err(format!("{fields} says what is to be run"));
        }
    };
    let mut process = Process::default();
    process.set_terminal(Some(false));
    process.set_user(given.user().clone());
    process.set_args(Some(args));
    process.set_env(Some(environment(given.env().as_deref().unwrap_or(&[]), additions)));
    process.set_cwd(given.cwd().clone());
    process.set_capabilities(Some(capabilities(given.capabilities().as_ref())));
    process.set_rlimits(Some(rlimits(given.rlimits().as_deref().unwrap_or(&[]), task)?));
    process.set_no_new_privileges(Some(true));
    process.set_apparmor_profile(given.apparmor_profile().clone());
    process.set_selinux_label(given.selinux_label().clone());
    process.set_oom_score_adj(Some(oom_score_adj(task.priority)));
    Ok(process)
}

/// The bundle's, and over it the task's.
fn environment(given: &[String], additions: &Additions<'_>) -> Vec<String> {
    let mut env: BTreeMap<&str, String> = given
        .iter()
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name, value.to_owned()))
        .collect();
    let jobs = additions.task.container.as_deref().map(|it| &it.env);
    let is_jobs = |name: &str| jobs.is_some_and(|it| it.contains_key(name));
    for (name, value) in additions.env {
        let is_left = LEFT_TO_BUNDLE.contains(&name.as_str()) && !is_jobs(name);
        if !(is_left && env.contains_key(name.as_str())) {
            env.insert(name, value.clone());
        }
    }
    let packages = additions.packages.iter().map(|(name, _)| name);
    let places: Vec<_> = packages
        .map(|name| (variable("PACKAGE", name), format!("{PACKAGES}/{name}")))
        .filter(|(name, _)| !is_jobs(name))
        .collect();
    for (name, place) in &places {
        env.insert(name, place.clone());
    }
    env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// At most [`KEPT_CAPABILITIES`], also for root; none where none are given.
fn capabilities(given: Option<&LinuxCapabilities>) -> LinuxCapabilities {
    let kept = |set: Option<&Option<Capabilities>>| -> Option<Capabilities> {
        let set = set.and_then(Option::as_ref);
        Some(
            KEPT_CAPABILITIES
                .into_iter()
                .filter(|it| set.is_some_and(|set| set.contains(it)))
                .collect(),
        )
    };
    let mut own = LinuxCapabilities::default();
    own.set_bounding(kept(given.map(LinuxCapabilities::bounding)));
    own.set_effective(kept(given.map(LinuxCapabilities::effective)));
    own.set_inheritable(kept(given.map(LinuxCapabilities::inheritable)));
    own.set_permitted(kept(given.map(LinuxCapabilities::permitted)));
    own.set_ambient(kept(given.map(LinuxCapabilities::ambient)));
    own
}

fn rlimits(given: &[PosixRlimit], task: &WantedTask) -> Result<Vec<PosixRlimit>, String> {
    use PosixRlimitType::{RlimitNice, RlimitNofile, RlimitRtprio};
    let files_max = task.container.as_ref().and_then(|it| it.files_max);
    let mut limits: Vec<PosixRlimit> = given
        .iter()
        // Who goes before whom is not for a task to say.
        .filter(|limit| !matches!(limit.typ(), RlimitNice | RlimitRtprio))
        .filter(|limit| files_max.is_none() || limit.typ() != RlimitNofile)
        .copied()
        .collect();
    if limits.iter().all(|limit| limit.typ() != RlimitNofile) {
        let files_max = u64::from(files_max.unwrap_or(FILES_DEFAULT));
        let builder = PosixRlimitBuilder::default().typ(RlimitNofile);
        let limit = builder.soft(files_max).hard(files_max).build();
        limits.push(limit.map_err(|error| format!("process.rlimits: {error}"))?);
    }
    Ok(limits)
}

fn own_mounts(
    given: &[Mount],
    additions: &Additions<'_>,
    find: &dyn Fn(&Path) -> Result<PathBuf, String>,
) -> Result<Vec<Mount>, String> {
    let mut mounts = Vec::new();
    let is_given = |at: &str| given.iter().any(|mount| mount.destination() == Path::new(at));
    if !is_given("/dev") {
        // Else the runtime makes devices in the bundle.
        mounts.extend(get_default_mounts().into_iter().filter(|it| it.destination() == "/dev"));
    }
    for (i, mount) in given.iter().enumerate() {
        mounts.push(own_mount(mount, find).map_err(|problem| format!("mounts[{i}]{problem}"))?);
    }
    if !is_given("/tmp") {
        mounts.push(bind(additions.tmp.to_owned(), "/tmp".into(), &["rw"]));
    }
    for (name, from) in additions.packages {
        mounts.push(bind(from.clone(), Path::new(PACKAGES).join(name), &["ro"]));
    }
    Ok(mounts)
}

/// A mount that reaches nothing of the machine.
fn own_mount(
    given: &Mount,
    find: &dyn Fn(&Path) -> Result<PathBuf, String>,
) -> Result<Mount, String> {
    let typ = given.typ().as_deref().unwrap_or_default();
    let options = given.options().as_deref().unwrap_or(&[]);
    let says = |option: &str| options.iter().any(|it| it == option);
    if says("remount") {
        // It changes a filesystem, for all who have it.
        return Err(".options: `remount` is not for a bundle to say".to_owned());
    }
    if typ == "bind" || says("bind") || says("rbind") {
        let source = given.source().as_ref().ok_or(".source: is missing")?;
        let source = find(source).map_err(|problem| format!(".source: {problem}"))?;
        let more: &[&str] = if says("noexec") { &["ro", "noexec"] } else { &["ro"] };
        return Ok(bind(source, given.destination().clone(), more));
    }
    let options = match typ {
        // What in there is the machine's is hidden by path, so that it must be nowhere else.
        "proc" if given.destination() == Path::new("/proc") => words(&NO_PROGRAMS),
        "proc" => return Err(".destination: `proc` is at /proc only".to_owned()),
        // Root needs no capability to write to the machine's settings in there.
        "sysfs" | "cgroup" | "cgroup2" => [words(&NO_PROGRAMS), words(&["ro"])].concat(),
        "tmpfs" | "devpts" | "mqueue" => options.to_vec(),
        _ => {
            let known = "bind, proc, sysfs, cgroup, cgroup2, tmpfs, devpts and mqueue";
            return Err(format!(".type: is {typ:?}, and a bundle may mount {known} only"));
        }
    };
    let mut own = Mount::default();
    own.set_destination(given.destination().clone());
    own.set_typ(Some(typ.to_owned()));
    own.set_source(given.source().clone());
    own.set_options(Some(options));
    Ok(own)
}

const NO_PROGRAMS: [&str; 3] = ["nosuid", "noexec", "nodev"];

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn bind(source: PathBuf, destination: PathBuf, options: &[&str]) -> Mount {
    let mut own = Mount::default();
    own.set_destination(destination);
    own.set_typ(Some("bind".to_owned()));
    own.set_source(Some(source));
    // Without what is mounted in there: of that nothing is known.
    own.set_options(Some([words(&["bind", "nosuid", "nodev"]), words(options)].concat()));
    own
}

fn own_linux(given: Option<&Linux>, additions: &Additions<'_>) -> Result<Linux, String> {
    let mut own = Linux::default();
    own.set_cgroups_path(Some(additions.cgroup.to_owned()));
    own.set_namespaces(Some(namespaces(given.and_then(|it| it.namespaces().as_deref()))?));
    // The limits are those of the group around; and no devices, but those that every container has.
    let mut all = LinuxDeviceCgroup::default();
    all.set_allow(false);
    all.set_access(Some("rwm".to_owned()));
    let mut resources = LinuxResources::default();
    resources.set_devices(Some(vec![all]));
    own.set_resources(Some(resources));
    // Hidden whatever the bundle says: root needs no capability to write to the machine's settings in there.
    let with = |default: Vec<String>, more: Option<&Vec<String>>| {
        let more = more.into_iter().flatten().filter(|it| !default.contains(it)).cloned();
        let more: Vec<String> = more.collect();
        Some([default, more].concat())
    };
    let masked = given.and_then(|it| it.masked_paths().as_ref());
    own.set_masked_paths(with(get_default_maskedpaths(), masked));
    let readonly = given.and_then(|it| it.readonly_paths().as_ref());
    own.set_readonly_paths(with(get_default_readonly_paths(), readonly));
    let Some(given) = given else { return Ok(own) };

    if given.devices().as_ref().is_some_and(|devices| !devices.is_empty()) {
        return Err(
            "linux.devices[0]: the machine's devices are not for a bundle to take".to_owned()
        );
    }
    let sysctls = given.sysctl().iter().flat_map(|it| it.keys());
    if let Some(name) = sysctls.filter(|name| !OWN_SYSCTLS.contains(&name.as_str())).min() {
        return Err(format!("linux.sysctl.{name}: would be set for the whole machine"));
    }
    let listener = given.seccomp().as_ref().and_then(|it| it.listener_path().as_ref());
    if listener.is_some() {
        let problem = "a program of the machine has no say in a task's system calls";
        return Err(format!("linux.seccomp.listenerPath: {problem}"));
    }
    own.set_sysctl(given.sysctl().clone());
    own.set_seccomp(given.seccomp().clone());
    own.set_mount_label(given.mount_label().clone());
    own.set_personality(given.personality().clone());
    own.set_time_offsets(given.time_offsets().clone());
    Ok(own)
}

/// New ones of all kinds but that of the network, which is the machine's: so are the ports that a task is given.
fn namespaces(given: Option<&[LinuxNamespace]>) -> Result<Vec<LinuxNamespace>, String> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, Time, User, Uts};
    let mut kinds = vec![Pid, Mount, Ipc, Uts, Cgroup];
    for (i, namespace) in given.unwrap_or_default().iter().enumerate() {
        let kind = namespace.typ();
        if kind == User {
            let problem = "one of users has no right to the machine's network, which tasks share";
            return Err(format!("linux.namespaces[{i}]: {problem}"));
        }
        if kind != Network && namespace.path().is_some() {
            let problem = "it is someone else's, and a task joins nobody";
            return Err(format!("linux.namespaces[{i}].path: {problem}"));
        }
        if kind == Time {
            kinds.push(Time);
        }
    }
    let new = |kind| {
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(kind);
        namespace
    };
    Ok(kinds.into_iter().map(new).collect())
}

/// The control groups of a task, as runtimes see them.
#[derive(Debug, PartialEq, Eq)]
struct Groups {
    /// From where the hierarchies are mounted: the same in each.
    path: PathBuf,
    /// Those that the borglet made.
    own: Vec<PathBuf>,
    is_v2: bool,
    /// Version 1: those in hierarchies that the borglet has no use for, such as `devices`, and runtimes have.
    others: Vec<PathBuf>,
}

/// So often a group is tried to be made whose surroundings another task takes away. Our guess: once is rare.
const ATTEMPT_COUNT_MAX: usize = 8;

impl Groups {
    fn of(group: &Group) -> anyhow::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo")?;
        Self::parse(group.folders(), &mounts).map_err(anyhow::Error::msg)
    }

    fn parse(own: Vec<PathBuf>, mountinfo: &str) -> Result<Self, String> {
        // ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAGS…] - TYPE SOURCE SUPER-OPTIONS
        let mounts = mountinfo.lines().filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let kind = after.split(' ').next().filter(|kind| kind.starts_with("cgroup"))?;
            Some((Path::new(before.split(' ').nth(4)?), kind == "cgroup2"))
        });
        let mounts: Vec<(&Path, bool)> = mounts.collect();
        let mut found: Option<(PathBuf, bool)> = None;
        for folder in &own {
            let around = mounts.iter().filter(|(point, _)| folder.starts_with(point));
            let &(point, is_v2) = around
                .max_by_key(|(point, _)| point.components().count())
                .ok_or_else(|| format!("{}: nothing is mounted there", folder.display()))?;
            let is_seen = if is_v2 {
                point == Path::new(CGROUPS)
            } else {
                point.parent() == Some(Path::new(CGROUPS))
            };
            if !is_seen {
                let point = point.display();
                return Err(format!("control groups are at {point}: OCI runtimes want {CGROUPS}"));
            }
            let inside = folder.strip_prefix(point).unwrap_or(folder);
            let path = Path::new("/").join(inside);
            match &found {
                Some((other, _)) if *other != path => {
                    return Err(format!(
                        "control groups are at {} and at {}, and an OCI runtime wants one place: choose it with \
                         --cgroup-parent",
                        other.display(),
                        path.display()
                    ));
                }
                Some(_) => {}
                None => found = Some((path, is_v2)),
            }
        }
        let (path, is_v2) = found.ok_or("the task has no control group")?;
        let mut others = Vec::new();
        if !is_v2 {
            let beside =
                mounts.iter().filter(|(point, _)| point.parent() == Some(Path::new(CGROUPS)));
            let places =
                beside.map(|(point, _)| point.join(path.strip_prefix("/").unwrap_or(&path)));
            others.extend(places.filter(|place| !own.contains(place)));
        }
        Ok(Self { path, own, is_v2, others })
    }

    /// Makes what the borglet has not made: where the first process has to enter itself.
    fn make(&self) -> io::Result<Vec<PathBuf>> {
        if self.is_v2 {
            let shim: Vec<PathBuf> = self.own.iter().map(|it| it.join(SHIM_GROUP)).collect();
            shim.iter().try_for_each(fs::create_dir_all)?;
            return Ok(shim);
        }
        // With them what is around them stays, which the end of another task may be taking away.
        self.others.iter().try_for_each(|folder| make(folder))?;
        Ok(self.own.clone())
    }

    /// Removes those that are not the borglet's own, which has done so itself.
    fn remove(&self) -> io::Result<()> {
        for folder in &self.others {
            for inner in [&folder.join(CONTAINER_GROUP), folder] {
                match fs::remove_dir(inner) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    other => other.map_err(|error| named(inner, &error))?,
                }
            }
            // That of the machine, and that of all of them: the last task takes them away.
            for around in folder.ancestors().skip(1).take(2) {
                if fs::remove_dir(around).is_err() {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Makes a group.
fn make(folder: &Path) -> io::Result<()> {
    let mut left = ATTEMPT_COUNT_MAX;
    loop {
        left -= 1;
        match fs::create_dir_all(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && left > 0 => {}
            other => return other.map_err(|error| named(folder, &error)),
        }
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::Arc;

    use cell::Resources;
    use cell::borglet::{Incarnation, TaskKey};
    use serde_json::{Value, json};

    use super::*;

    fn task(command: &[&str], container: Value) -> WantedTask {
        WantedTask {
            key: TaskKey { job: 1, index: 0 },
            incarnation: Incarnation(7),
            name: "web/0".to_owned(),
            priority: 50,
            limit: Resources::default(),
            gpu_devices: 0,
            user: "ann".to_owned(),
            command: words(command),
            grace_ms: 0,
            latency_sensitive: false,
            stop_after_disconnect_ms: None,
            container: Some(Arc::new(serde_json::from_value(container).unwrap())),
            stop: None,
        }
    }

    fn bundle() -> Value {
        json!({
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["serve"]},
        })
    }

    /// The bundle with a value at a place of it, as the task's own.
    fn with(place: &str, value: Value, task: &WantedTask) -> Result<Value, String> {
        let mut given = bundle();
        let mut at = &mut given;
        for part in place.split('.') {
            at = &mut at[part];
        }
        *at = value;
        made(given, task)
    }

    fn made(given: Value, task: &WantedTask) -> Result<Value, String> {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut env: Vec<(String, String)> =
            [("BORG_TASK", "web/0"), ("HOME", "/tmp"), ("PACKAGE_DATA", "/x"), ("PATH", "/ours")]
                .iter()
                .map(pair)
                .collect();
        env.extend(task.container.as_ref().unwrap().env.clone());
        let additions = Additions {
            task,
            env: &env,
            packages: &[("data".to_owned(), "/cell/packages/12".into())],
            tmp: Path::new("/cell/tasks/7/home/tmp"),
            cgroup: Path::new("/cell-manager/m/7/box"),
        };
        let inside = |path: &Path| match path.strip_prefix("/") {
            Ok(_) => Err(format!("{} is not in the bundle", path.display())),
            Err(_) => Ok(Path::new("/b").join(path)),
        };
        let given = serde_json::from_value(given).unwrap();
        translate(&given, &additions, &inside).map(|spec| serde_json::to_value(spec).unwrap())
    }

    fn plain() -> WantedTask {
        task(&[], json!({}))
    }

    #[test]
    fn a_bundle_is_run_with_what_every_task_has() {
        let spec = made(bundle(), &plain()).unwrap();
        assert_eq!(spec["root"], json!({"path": "/b/rootfs", "readonly": true}));
        let process = &spec["process"];
        assert_eq!(process["args"], json!(["serve"]));
        assert_eq!(
            (&process["terminal"], &process["noNewPrivileges"]),
            (&json!(false), &json!(true))
        );
        // The free band: 1000 - 50.
        assert_eq!(process["oomScoreAdj"], json!(950));
        assert_eq!(spec["linux"]["cgroupsPath"], json!("/cell-manager/m/7/box"));
        let denied = json!({"devices": [{"allow": false, "access": "rwm"}]});
        assert_eq!(spec["linux"]["resources"], denied);
        let mounts = spec["mounts"].as_array().unwrap();
        let at: Vec<_> = mounts.iter().map(|it| it["destination"].as_str().unwrap()).collect();
        assert_eq!(at, ["/dev", "/tmp", "/packages/data"]);
        assert_eq!(mounts[1]["source"], json!("/cell/tasks/7/home/tmp"));
        assert_eq!(mounts[1]["options"], json!(["bind", "nosuid", "nodev", "rw"]));
        assert_eq!(mounts[2]["source"], json!("/cell/packages/12"));
        assert_eq!(mounts[2]["options"], json!(["bind", "nosuid", "nodev", "ro"]));
    }

    #[test]
    fn the_command_of_the_job_goes_before_that_of_the_bundle() {
        let spec = made(bundle(), &task(&["sh", "-c", "true"], json!({}))).unwrap();
        assert_eq!(spec["process"]["args"], json!(["sh", "-c", "true"]));
        for none in [json!([]), Value::Null] {
            let error = with("process.args", none, &plain()).unwrap_err();
            assert!(error.contains("`process.args`"), "{error}");
        }
    }

    #[test]
    fn each_variable_comes_from_who_knows_it_best() {
        let job = task(&[], json!({"env": {"USER": "job", "MODE": "job", "PACKAGE_OWN": "job"}}));
        let given = json!(["PATH=/bundle", "USER=bundle", "MODE=bundle", "BORG_TASK=x", "odd"]);
        let spec = with("process.env", given, &job).unwrap();
        let expected = json!([
            "BORG_TASK=web/0",
            "HOME=/tmp",
            "MODE=job",
            "PACKAGE_DATA=/packages/data",
            "PACKAGE_OWN=job",
            "PATH=/bundle",
            "USER=job",
        ]);
        assert_eq!(spec["process"]["env"], expected);
        let job = task(&[], json!({"env": {"PACKAGE_DATA": "/mine"}}));
        let spec = with("process.env", json!([]), &job).unwrap();
        assert!(spec["process"]["env"].as_array().unwrap().contains(&json!("PACKAGE_DATA=/mine")));
    }

    #[test]
    fn root_keeps_no_capability_that_reaches_the_machine() {
        let given = json!({"bounding": ["CAP_SYS_ADMIN", "CAP_KILL", "CAP_NET_RAW"], "permitted": ["CAP_BPF"]});
        let spec = with("process.capabilities", given, &plain()).unwrap();
        let none = json!([]);
        let own = json!({"bounding": ["CAP_KILL"], "effective": none, "inheritable": none, "permitted": none, "ambient": none});
        assert_eq!(spec["process"]["capabilities"], own);
        // Left out, a runtime is not to fill them in.
        let spec = made(bundle(), &plain()).unwrap();
        assert_eq!(spec["process"]["capabilities"]["bounding"], none);
    }

    #[test]
    fn a_job_says_how_many_files_may_be_open() {
        let given = json!([
            {"type": "RLIMIT_NOFILE", "hard": 5, "soft": 5},
            {"type": "RLIMIT_CORE", "hard": 0, "soft": 0},
            {"type": "RLIMIT_RTPRIO", "hard": 99, "soft": 99},
        ]);
        let spec = with("process.rlimits", given.clone(), &plain()).unwrap();
        assert_eq!(spec["process"]["rlimits"], json!([given[0], given[1]]));
        let spec =
            with("process.rlimits", given.clone(), &task(&[], json!({"files_max": 9}))).unwrap();
        let files = json!({"type": "RLIMIT_NOFILE", "hard": 9, "soft": 9});
        assert_eq!(spec["process"]["rlimits"], json!([given[1], files]));
        let spec = made(bundle(), &plain()).unwrap();
        assert_eq!(spec["process"]["rlimits"][0]["hard"], json!(FILES_DEFAULT));
    }

    #[test]
    fn what_is_the_machines_to_say_is_left_out() {
        let check = |place: &str, value: Value| {
            let spec = with(place, value, &plain()).unwrap();
            assert_eq!(spec, made(bundle(), &plain()).unwrap(), "{place}");
        };
        check("hooks", json!({"createRuntime": [{"path": "/bin/sh"}]}));
        check("annotations", json!({"run.oci.hooks.stdout": "/etc/passwd"}));
        check("vm", json!({"kernel": {"path": "/boot/vmlinuz"}}));
        check("process.scheduler", json!({"policy": "SCHED_FIFO", "priority": 99}));
        check("process.ioPriority", json!({"class": "IOPRIO_CLASS_RT", "priority": 0}));
        check("process.terminal", json!(true));
        check("process.noNewPrivileges", json!(false));
        check("process.oomScoreAdj", json!(-1000));
        check("root.readonly", json!(false));
        check(
            "linux.resources",
            json!({
                "devices": [{"allow": true, "access": "rwm"}], "memory": {"limit": 1}, "unified": {"cpu.max": "max"},
            }),
        );
        check("linux.cgroupsPath", json!("/"));
        check("linux.rootfsPropagation", json!("shared"));
        check("linux.maskedPaths", json!([]));
        check("linux.readonlyPaths", json!([]));
        check("linux.netDevices", json!({"eth0": {}}));
        check("linux.intelRdt", json!({"closID": "x"}));
        check("linux.namespaces", json!([{"type": "network"}, {"type": "network", "path": "/n"}]));
    }

    #[test]
    fn namespaces_are_new_but_for_that_of_the_network() {
        let spec =
            with("linux.namespaces", json!([{"type": "pid"}, {"type": "time"}]), &plain()).unwrap();
        let kinds = ["pid", "mount", "ipc", "uts", "cgroup", "time"];
        let expected: Vec<_> = kinds.iter().map(|kind| json!({"type": kind})).collect();
        assert_eq!(spec["linux"]["namespaces"], json!(expected));
    }

    #[test]
    fn mounts_reach_nothing_but_the_bundle() {
        let given = json!([
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["rw"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["rw"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/data", "source": "data", "options": ["rbind", "rw", "noexec"]},
            {"destination": "/tmp/", "type": "tmpfs"},
        ]);
        let spec = with("mounts", given, &plain()).unwrap();
        let mounts = spec["mounts"].as_array().unwrap();
        // The bundle has its own /dev and /tmp; the fifth is that of the package.
        assert_eq!(mounts.len(), 6);
        assert_eq!(mounts[0]["options"], json!(["nosuid", "noexec", "nodev"]));
        assert_eq!(mounts[1]["options"], json!(["nosuid", "noexec", "nodev", "ro"]));
        assert_eq!(mounts[2]["options"], json!(["nosuid", "mode=755"]));
        assert_eq!(mounts[3]["source"], json!("/b/data"));
        assert_eq!(mounts[3]["options"], json!(["bind", "nosuid", "nodev", "ro", "noexec"]));
    }

    #[test]
    fn what_would_reach_the_machine_is_refused_by_its_field() {
        let check = |place: &str, value: Value, field: &str| {
            let error = with(place, value.clone(), &plain()).unwrap_err();
            assert!(error.starts_with(&format!("{field}: ")), "{place} {value}: {error}");
        };
        check("root", Value::Null, "root");
        check("root.path", json!("/"), "root.path");
        check("process", Value::Null, "process");
        let mount = |mount: Value, field: &str| {
            let fine = json!({"destination": "/run", "type": "tmpfs"});
            check("mounts", json!([fine, mount]), &format!("mounts[1].{field}"));
        };
        mount(json!({"destination": "/etc", "type": "bind", "source": "/etc"}), "source");
        mount(json!({"destination": "/etc", "source": "/etc", "options": ["bind"]}), "source");
        mount(
            json!({"destination": "/etc", "type": "tmpfs", "source": "/etc", "options": ["rbind"]}),
            "source",
        );
        mount(json!({"destination": "/etc", "type": "bind"}), "source");
        mount(json!({"destination": "/p", "type": "proc"}), "destination");
        mount(
            json!({"destination": "/", "type": "tmpfs", "options": ["ro", "remount"]}),
            "options",
        );
        mount(json!({"destination": "/disk", "type": "ext4", "source": "/dev/sda"}), "type");
        mount(json!({"destination": "/o", "type": "overlay", "options": ["lowerdir=/"]}), "type");
        mount(json!({"destination": "/o"}), "type");
        let device = json!([{"path": "/dev/sda", "type": "b", "major": 8, "minor": 0}]);
        check("linux.devices", device, "linux.devices[0]");
        let sysctl = json!({"kernel.shmmax": "1", "kernel.core_pattern": "|/x"});
        check("linux.sysctl", sysctl, "linux.sysctl.kernel.core_pattern");
        let seccomp = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/x"});
        check("linux.seccomp", seccomp, "linux.seccomp.listenerPath");
        let joined = json!([{"type": "mount", "path": "/proc/1/ns/mnt"}]);
        check("linux.namespaces", joined, "linux.namespaces[0].path");
        let users = json!([{"type": "pid"}, {"type": "user"}]);
        check("linux.namespaces", users, "linux.namespaces[1]");
    }

    #[test]
    fn a_bundle_that_is_not_whole_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().canonicalize().unwrap();
        let read_it = |bundle: &Path| {
            let (task, nowhere) = (plain(), Path::new("/nowhere"));
            let additions =
                Additions { task: &task, env: &[], packages: &[], tmp: nowhere, cgroup: nowhere };
            read(bundle, &additions).map(|spec| spec.root().clone().unwrap().path().clone())
        };
        let check = |expected: &str| {
            let error = read_it(&place).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        };
        assert_eq!(read_it(&place.join("none")).unwrap_err(), "there is no such folder");
        check("there is no config.json");
        fs::create_dir(place.join("config.json")).unwrap();
        check("config.json is no file");
        fs::remove_dir(place.join("config.json")).unwrap();
        symlink("/etc/passwd", place.join("config.json")).unwrap();
        check("config.json is not in the bundle");
        fs::remove_file(place.join("config.json")).unwrap();
        fs::write(place.join("config.json"), "{\"root\": 1").unwrap();
        check("config.json: ");
        fs::write(place.join("config.json"), vec![b' '; 1 << 21]).unwrap();
        check("config.json is longer than 1048576 bytes");
        fs::write(place.join("config.json"), bundle().to_string()).unwrap();
        check("root.path: there is no rootfs");
        symlink("/etc", place.join("rootfs")).unwrap();
        check("root.path: rootfs is not in the bundle");
        fs::remove_file(place.join("rootfs")).unwrap();
        fs::write(place.join("rootfs"), "").unwrap();
        check("root.path: ");
        fs::remove_file(place.join("rootfs")).unwrap();
        fs::create_dir(place.join("real")).unwrap();
        symlink("real", place.join("rootfs")).unwrap();
        assert_eq!(read_it(&place), Ok(place.join("real")));
    }

    const HYBRID: &str = "\
25 19 0:22 / /sys/fs/cgroup rw shared:9 - tmpfs tmpfs rw,mode=755
26 25 0:23 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
27 25 0:24 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
28 25 0:25 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices
29 25 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
30 25 0:26 / /elsewhere/unified rw - cgroup2 cgroup2 rw
";

    fn paths(paths: &[&str]) -> Vec<PathBuf> {
        paths.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn the_groups_of_version_1_are_at_one_place_in_each_hierarchy() {
        let own = paths(&[
            "/sys/fs/cgroup/cpu,cpuacct/p/cell-manager/m/7",
            "/sys/fs/cgroup/memory/p/cell-manager/m/7",
        ]);
        let groups = Groups::parse(own.clone(), HYBRID).unwrap();
        let others = paths(&[
            "/sys/fs/cgroup/devices/p/cell-manager/m/7",
            "/sys/fs/cgroup/unified/p/cell-manager/m/7",
        ]);
        assert_eq!(
            groups,
            Groups { path: "/p/cell-manager/m/7".into(), own, is_v2: false, others }
        );
        let apart = paths(&["/sys/fs/cgroup/cpu,cpuacct/a/7", "/sys/fs/cgroup/memory/b/7"]);
        let error = Groups::parse(apart, HYBRID).unwrap_err();
        assert!(error.contains("/a/7 and at /b/7"), "{error}");
    }

    #[test]
    fn what_was_made_for_a_runtime_goes_with_the_last_task() {
        let top = tempfile::tempdir().unwrap();
        let of = |number: &str| {
            let others = vec![top.path().join("devices/cell-manager/m").join(number)];
            Groups { path: "/cell-manager/m".into(), own: vec![], is_v2: false, others }
        };
        let (first, second) = (of("1"), of("2"));
        assert_eq!(first.make().unwrap(), Vec::<PathBuf>::new());
        second.make().unwrap();
        fs::create_dir(first.others[0].join(CONTAINER_GROUP)).unwrap();
        first.remove().unwrap();
        assert!(!first.others[0].exists() && second.others[0].exists());
        second.remove().unwrap();
        second.remove().unwrap();
        assert!(fs::read_dir(top.path().join("devices")).unwrap().next().is_none());
    }

    #[test]
    fn the_first_process_has_a_group_of_its_own_in_version_2() {
        let top = tempfile::tempdir().unwrap();
        let own = vec![top.path().to_owned()];
        let groups = Groups { path: "/7".into(), own, is_v2: true, others: vec![] };
        assert_eq!(groups.make().unwrap(), [top.path().join("shim")]);
        assert!(top.path().join("shim").is_dir());
    }

    #[test]
    fn the_group_of_version_2_is_where_runtimes_look() {
        let mounts = "28 25 0:25 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let own = paths(&["/sys/fs/cgroup/cell-manager/m/7"]);
        let groups = Groups::parse(own.clone(), mounts).unwrap();
        assert_eq!(
            groups,
            Groups { path: "/cell-manager/m/7".into(), own, is_v2: true, others: vec![] }
        );
        let error = Groups::parse(paths(&["/elsewhere/unified/m/7"]), HYBRID).unwrap_err();
        assert!(error.starts_with("control groups are at /elsewhere/unified"), "{error}");
        assert!(Groups::parse(paths(&["/cgroups/m/7"]), HYBRID).is_err());
    }
}
