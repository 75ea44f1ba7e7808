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

mod bundle;
mod groups;

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use self::bundle::{Additions, words};
use self::groups::{CONTAINER_GROUP, Groups};
use super::Contained;
use crate::cgroup::Group;
use crate::folder;

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
    let spec = bundle::read(bundle, &additions).map_err(named)?;

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
