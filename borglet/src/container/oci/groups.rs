//! Where a runtime finds a task's control groups, and those that it makes beside them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::cgroup::Group;

/// The group of the container, in the task's.
pub(super) const CONTAINER_GROUP: &str = "box";

/// The group of the first process, in the task's. Version 2 only: a group with groups in it holds no processes.
const SHIM_GROUP: &str = "shim";

/// Where runtimes take control groups to be mounted, whatever is mounted elsewhere.
const CGROUPS: &str = "/sys/fs/cgroup";

/// The control groups of a task, as runtimes see them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Groups {
    /// From where the hierarchies are mounted: the same in each.
    pub path: PathBuf,
    /// Those that the borglet made.
    own: Vec<PathBuf>,
    is_v2: bool,
    /// Version 1: those in hierarchies that the borglet has no use for, such as `devices`, and runtimes have.
    others: Vec<PathBuf>,
}

/// So often a group is tried to be made whose surroundings another task takes away. Our guess: once is rare.
const ATTEMPT_COUNT_MAX: usize = 8;

impl Groups {
    pub(super) fn of(group: &Group) -> anyhow::Result<Self> {
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
    pub(super) fn make(&self) -> io::Result<Vec<PathBuf>> {
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
    pub(super) fn remove(&self) -> io::Result<()> {
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
    use super::*;

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
