//! A job's bundle, and the task's own configuration that is made of it.
//!
//! In: `config.json`, and what of the task is not its bundle's. Out: what a runtime is given, or the field that is in the
//! way. What may be kept, and what is refused, is said here.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use cell::borglet::WantedTask;
use cell::container::{FILES_DEFAULT, variable};
use oci_spec::runtime::{
    Capabilities, Capability, Linux, LinuxCapabilities, LinuxDeviceCgroup, LinuxNamespace,
    LinuxNamespaceType, LinuxResources, Mount, PosixRlimit, PosixRlimitBuilder, PosixRlimitType,
    Process, Root, Spec, get_default_maskedpaths, get_default_mounts, get_default_readonly_paths,
};

use crate::container::shim::oom_score_adj;

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

/// Reads the configuration of a bundle, and makes the task's of it.
///
/// # Errors
/// What is wrong with the bundle.
pub(super) fn read(bundle: &Path, additions: &Additions<'_>) -> Result<Spec, String> {
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
pub(super) struct Additions<'a> {
    pub task: &'a WantedTask,
    pub env: &'a [(String, String)],
    pub packages: &'a [(String, PathBuf)],
    /// The folder that is the container's `/tmp`.
    pub tmp: &'a Path,
    /// The group of the container, from where control groups are mounted.
    pub cgroup: &'a Path,
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

pub(super) fn words(words: &[&str]) -> Vec<String> {
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
}
