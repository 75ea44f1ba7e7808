//! What a container runtime is asked for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cell::container::variable;

use super::{logs, wire};
use crate::container::Contained;
use crate::container::shim::oom_score_adj;

/// The namespace of pods; no Kubernetes namespace of that name is in the way, as no kubelet shares a runtime.
const NAMESPACE: &str = "cell-manager";
pub(super) const MACHINE_LABEL: &str = "cell-manager/machine";
const INCARNATION_LABEL: &str = "cell-manager/incarnation";
/// The task's folder: too long for a label.
pub(super) const FOLDER_ANNOTATION: &str = "cell-manager/folder";

/// Variables that an image has its own of.
const OF_THE_IMAGE: [&str; 4] = ["PATH", "HOME", "TMPDIR", "USER"];

/// By which what is of a task is found.
pub(super) fn labels(machine: &str, task: &Contained) -> BTreeMap<String, String> {
    BTreeMap::from([
        (MACHINE_LABEL.to_owned(), machine.to_owned()),
        (INCARNATION_LABEL.to_owned(), task.record.task.incarnation.0.to_string()),
    ])
}

/// The pod of a task, in its control group.
pub(super) fn pod(
    machine: &str,
    task: &Contained,
    group: &str,
) -> Result<wire::PodSandboxConfig, String> {
    let folder = text(&task.folder)?;
    let incarnation = task.record.task.incarnation.0.to_string();
    Ok(wire::PodSandboxConfig {
        metadata: Some(wire::PodSandboxMetadata {
            // Two machines of a test may share a runtime, and two cells their numbers.
            uid: format!("{}.{incarnation}", machine),
            name: incarnation,
            namespace: NAMESPACE.to_owned(),
            attempt: 0,
        }),
        labels: labels(machine, task),
        annotations: BTreeMap::from([(FOLDER_ANNOTATION.to_owned(), folder.clone())]),
        log_directory: folder,
        linux: Some(wire::LinuxPodSandboxConfig {
            cgroup_parent: group.to_owned(),
            security_context: Some(wire::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces()),
                seccomp: Some(wire::SecurityProfile::default()),
            }),
        }),
    })
}

/// The container of a task, from an image by its id.
pub(super) fn container(
    machine: &str,
    task: &Contained,
    image: &str,
) -> Result<wire::ContainerConfig, String> {
    let wanted = &task.record.task;
    let own_env = wanted.container.as_ref().map(|it| it.env.clone()).unwrap_or_default();
    let home = (task.folder.join("home"), "/tmp".to_owned(), false);
    let packages = task.packages.iter();
    let packages = packages.map(|(name, from)| (from.clone(), package_folder(name), true));
    let mounts = std::iter::once(home).chain(packages).map(|(from, to, readonly)| {
        Ok(wire::Mount { container_path: to, host_path: text(&from)?, readonly })
    });
    Ok(wire::ContainerConfig {
        metadata: Some(wire::ContainerMetadata { name: "task".to_owned(), attempt: 0 }),
        image: Some(wire::ImageSpec { image: image.to_owned() }),
        command: wanted.command.clone(),
        envs: envs(&task.env, &own_env, &task.packages),
        mounts: mounts.collect::<Result<_, String>>()?,
        labels: labels(machine, task),
        log_path: logs::LOG_FILE.to_owned(),
        linux: Some(wire::LinuxContainerConfig {
            resources: Some(wire::LinuxContainerResources {
                oom_score_adj: oom_score_adj(wanted.priority).into(),
            }),
            security_context: Some(wire::LinuxContainerSecurityContext {
                privileged: false,
                namespace_options: Some(namespaces()),
                no_new_privs: true,
                seccomp: Some(wire::SecurityProfile::default()),
            }),
        }),
    })
}

/// The network is the machine's, where tasks have their ports; all else is the pod's own.
fn namespaces() -> wire::NamespaceOption {
    wire::NamespaceOption {
        network: wire::NamespaceMode::Node.into(),
        pid: wire::NamespaceMode::Pod.into(),
        ipc: wire::NamespaceMode::Pod.into(),
    }
}

/// The environment of a program from an image: `all` of the task's, of which its job said `own`.
fn envs(
    all: &[(String, String)],
    own: &BTreeMap<String, String>,
    packages: &[(String, PathBuf)],
) -> Vec<wire::KeyValue> {
    let mut env: BTreeMap<String, String> = all.iter().cloned().collect();
    for (name, _) in packages {
        env.insert(variable("PACKAGE", name), package_folder(name));
    }
    env.retain(|name, _| !OF_THE_IMAGE.contains(&name.as_str()));
    // What the job says goes before.
    env.extend(own.clone());
    env.into_iter().map(|(key, value)| wire::KeyValue { key, value }).collect()
}

/// Where a package is seen.
fn package_folder(name: &str) -> String {
    format!("/packages/{name}")
}

pub(super) fn text(path: &Path) -> Result<String, String> {
    let path = std::path::absolute(path).map_err(|error| error.to_string())?;
    path.into_os_string().into_string().map_err(|path| format!("{}: is no UTF-8", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_keeps_its_own_variables_unless_the_job_says_otherwise() {
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let packages = [("big-tools".to_owned(), PathBuf::from("/p"))];
        let all = pairs(&[
            ("BORG_JOB", "b"),
            ("HOME", "/home/ann"),
            ("PACKAGE_BIG_TOOLS", "/tmp/packages/big-tools"),
            ("PATH", "/usr/bin"),
            ("TMPDIR", "/tmp"),
            ("USER", "ann"),
        ]);
        let check = |own: &[(&str, &str)], expected: &[(&str, &str)]| {
            let found = envs(&all, &pairs(own).into_iter().collect(), &packages);
            let found: Vec<_> = found.into_iter().map(|it| (it.key, it.value)).collect();
            assert_eq!(found, pairs(expected));
        };
        let tools = ("PACKAGE_BIG_TOOLS", "/packages/big-tools");
        check(&[], &[("BORG_JOB", "b"), tools]);
        check(&[("HOME", "/home/ann")], &[("BORG_JOB", "b"), ("HOME", "/home/ann"), tools]);
        let elsewhere = ("PACKAGE_BIG_TOOLS", "/x");
        check(&[elsewhere], &[("BORG_JOB", "b"), elsewhere]);
    }
}
