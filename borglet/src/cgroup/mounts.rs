//! Where the hierarchies of control groups are mounted, and in which group of each this process is.
//!
//! Sources: proc(5) `mountinfo`, cgroups(7).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// All hierarchies that are mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mounts {
    /// Where version 2 is.
    pub v2: Option<PathBuf>,
    /// Where each controller of version 1 is.
    pub v1: BTreeMap<String, PathBuf>,
    /// The group that this process is in: by controller of version 1, and under the empty name that of version 2.
    pub own: BTreeMap<String, String>,
}

const CONTROLLERS: [&str; 8] =
    ["cpu", "cpuacct", "memory", "pids", "cpuset", "blkio", "devices", "freezer"];

impl Mounts {
    pub(super) fn read() -> io::Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        let own = std::fs::read_to_string("/proc/self/cgroup")?;
        Ok(Self::parse(&mounts, &own))
    }

    fn parse(mounts: &str, own: &str) -> Self {
        let mut found = Self::default();
        for line in mounts.lines() {
            // ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAGS…] - TYPE SOURCE SUPER-OPTIONS
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let Some(point) = before.split(' ').nth(4) else { continue };
            let mut after = after.split(' ');
            let (kind, options) = (after.next(), after.nth(1).unwrap_or_default());
            match kind {
                Some("cgroup2") => found.v2 = Some(PathBuf::from(point)),
                Some("cgroup") => {
                    for controller in options.split(',').filter(|it| CONTROLLERS.contains(it)) {
                        found.v1.insert(controller.to_owned(), PathBuf::from(point));
                    }
                }
                _ => {}
            }
        }
        for line in own.lines() {
            // NUMBER:CONTROLLERS:PATH
            let mut parts = line.splitn(3, ':').skip(1);
            if let (Some(controllers), Some(path)) = (parts.next(), parts.next()) {
                for controller in controllers.split(',') {
                    found.own.insert(controller.to_owned(), path.to_owned());
                }
            }
        }
        found
    }

    /// The folder that a borglet's groups are to be in: `parent` from the top of the hierarchy, else the top for
    /// root, else the group of this process.
    pub(super) fn base(&self, controller: &str, top: &Path, parent: Option<&str>) -> PathBuf {
        let inside = match parent {
            Some(parent) => parent,
            None if rustix::process::geteuid().is_root() => "/",
            None => self.own.get(controller).map_or("/", String::as_str),
        };
        top.join(inside.trim_start_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_host_is_read() {
        let mounts = "\
25 19 0:22 / /sys/fs/cgroup rw,relatime shared:9 - tmpfs tmpfs rw,mode=755
26 25 0:23 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
27 25 0:24 / /sys/fs/cgroup/systemd rw,relatime shared:3 - cgroup cgroup rw,name=systemd
28 25 0:25 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
";
        let own = "9:name=systemd:/\n4:memory:/a/b\n1:cpu,cpuacct:/c\n0::/user:1\n";
        let found = Mounts::parse(mounts, own);
        assert_eq!(found.v2, Some(PathBuf::from("/sys/fs/cgroup/unified")));
        let cpu = PathBuf::from("/sys/fs/cgroup/cpu,cpuacct");
        assert_eq!(found.v1.get("cpu"), Some(&cpu));
        assert_eq!(found.v1.get("cpuacct"), Some(&cpu));
        assert_eq!(found.v1.len(), 2);
        assert_eq!(found.own[""], "/user:1");
        assert_eq!((&*found.own["memory"], &*found.own["cpuacct"]), ("/a/b", "/c"));
        let base = found.base("memory", Path::new("/top"), Some("/given"));
        assert_eq!(base, Path::new("/top/given"));
    }
}
