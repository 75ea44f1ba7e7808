//! Control groups, version 1. Source: the kernel's `admin-guide/cgroup-v1` and `scheduler/sched-bwc`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use cell::container::Control;

use super::files::{self, number, read, value, write, write_if};
use super::mounts::Mounts;
use super::{
    Appetite, Limits, PERIOD_US, Pressure, Sample, Unusable, cpu_list, quota_us, weight_permille,
};

/// What every task needs.
const NEEDED: [&str; 4] = ["memory", "cpu", "cpuacct", "pids"];
const WANTED: [&str; 2] = ["cpuset", "blkio"];

/// The folder of each controller; two may have the same.
type Folders = BTreeMap<&'static str, PathBuf>;

/// The groups of a borglet.
#[derive(Debug)]
pub(crate) struct V1 {
    folders: Folders,
}

/// The group of a task.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    folders: Folders,
}

impl V1 {
    pub(super) fn open(
        mounts: &Mounts,
        machine: &str,
        parent: Option<&str>,
    ) -> Result<Self, Unusable> {
        let missing: Vec<_> =
            NEEDED.iter().filter(|it| !mounts.v1.contains_key(**it)).copied().collect();
        if !missing.is_empty() {
            return Err(Unusable::Missing(missing.join(" and ")));
        }
        let mut folders = Folders::new();
        for controller in NEEDED.into_iter().chain(WANTED) {
            let Some(top) = mounts.v1.get(controller) else { continue };
            let base = mounts.base(controller, top, parent);
            let cell = base.join("cell-manager");
            let folder = cell.join(machine);
            std::fs::create_dir_all(&folder).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", folder.display()))
            })?;
            if controller == "cpuset" {
                // A group has no CPUs until it is given some.
                let mut above = top.clone();
                for part in folder.strip_prefix(top).unwrap_or(Path::new("")).components() {
                    let below = above.join(part);
                    for name in ["cpuset.cpus", "cpuset.mems"] {
                        if read(&below, name)?.trim().is_empty() {
                            write(&below, name, read(&above, name)?.trim())?;
                        }
                    }
                    above = below;
                }
            }
            folders.insert(controller, folder);
        }
        // Limits of a group hold for those in it too: always so by now, and to be asked for before Linux 5.11.
        write_if(&folders["memory"], "memory.use_hierarchy", "1").or_else(|error| {
            match read(&folders["memory"], "memory.use_hierarchy")?.trim() {
                "1" => Ok(true),
                _ => Err(error),
            }
        })?;
        Ok(Self { folders })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folders["memory"]
    }

    /// Those of any controller: a borglet may have ended while it made one.
    pub(super) fn names(&self) -> io::Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for folder in self.folders.values() {
            names.extend(files::children(folder)?);
        }
        Ok(names)
    }

    pub(super) fn has(&self, control: Control) -> bool {
        match control {
            // There is a soft limit, which does not hold anybody up.
            Control::RamHigh => false,
            Control::OwnCpus => self.folders.contains_key("cpuset"),
            Control::Io => self.folders.contains_key("blkio"),
        }
    }

    pub(super) fn limit_machine(&self, cpu_milli: u64, ram_bytes: u64) -> io::Result<()> {
        write(&self.folders["cpu"], "cpu.cfs_period_us", PERIOD_US.to_string())?;
        write(&self.folders["cpu"], "cpu.cfs_quota_us", quota_us(cpu_milli).to_string())?;
        limit_memory(&self.folders["memory"], Some(ram_bytes))
    }

    pub(super) fn machine(&self) -> Group {
        Group { folders: self.folders.clone() }
    }

    pub(super) fn group(&self, name: &str) -> Group {
        let folders = self.folders.iter().map(|(&controller, it)| (controller, it.join(name)));
        Group { folders: folders.collect() }
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        for folder in self.folders.values() {
            for own in [Some(folder.as_path()), folder.parent()].into_iter().flatten() {
                match std::fs::remove_dir(own) {
                    Ok(()) => {}
                    Err(error)
                        if matches!(
                            error.kind(),
                            // Another borglet's groups are in there.
                            io::ErrorKind::NotFound
                                | io::ErrorKind::ResourceBusy
                                | io::ErrorKind::DirectoryNotEmpty
                        ) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

/// The limit with swap is never below that without, so what comes first depends on which way it goes.
fn limit_memory(folder: &Path, bytes: Option<u64>) -> io::Result<()> {
    let text = bytes.map_or("-1".to_owned(), |it| it.to_string());
    let both = || -> io::Result<()> {
        write(folder, "memory.limit_in_bytes", &text)?;
        write_if(folder, "memory.memsw.limit_in_bytes", &text).map(drop)
    };
    both().or_else(|_| {
        write_if(folder, "memory.memsw.limit_in_bytes", &text)?;
        write(folder, "memory.limit_in_bytes", &text)
    })
}

impl Group {
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> = self.folders.values().cloned().collect();
        folders.dedup();
        folders
    }

    pub(super) fn create(&self) -> io::Result<()> {
        for (controller, folder) in &self.folders {
            std::fs::create_dir_all(folder)?;
            if *controller == "cpuset" {
                let above = folder.parent().unwrap_or(folder);
                for name in ["cpuset.cpus", "cpuset.mems"] {
                    write(folder, name, read(above, name)?.trim())?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn limit_cpu(&self, limits: &Limits) -> io::Result<()> {
        let cpu = &self.folders["cpu"];
        let quota = limits.cpu_milli.map_or("-1".to_owned(), |milli| quota_us(milli).to_string());
        write(cpu, "cpu.cfs_period_us", PERIOD_US.to_string())?;
        write(cpu, "cpu.cfs_quota_us", quota)?;
        let is_idle = limits.appetite == Appetite::BestEffort;
        let is_known = write_if(cpu, "cpu.idle", if is_idle { "1" } else { "0" })?;
        if !is_idle || !is_known {
            // 1024 is a core of batch.
            let shares = (weight_permille(limits) * 1024 / 1000).clamp(2, 262_144);
            write(cpu, "cpu.shares", shares.to_string())?;
        }
        Ok(())
    }

    pub(super) fn limit_all_but_cpu(&self, limits: &Limits) -> io::Result<()> {
        let memory = &self.folders["memory"];
        limit_memory(memory, limits.ram_bytes)?;
        if let Some(low) = limits.ram_low {
            write_if(memory, "memory.soft_limit_in_bytes", low.to_string())?;
        }
        write(&self.folders["pids"], "pids.max", limits.processes_max.to_string())?;
        if let Some(cpus) = limits.own_cpus.as_ref().or(limits.shared_cpus.as_ref())
            && let Some(folder) = self.folders.get("cpuset")
        {
            set_cpus(folder, &cpu_list(cpus))?;
        }
        if let Some(io) = &limits.io
            && let Some(folder) = self.folders.get("blkio")
        {
            if let Some(weight) = io.weight {
                let weight = u32::from(weight).clamp(10, 1000).to_string();
                if !write_if(folder, "blkio.weight", &weight)? {
                    write_if(folder, "blkio.bfq.weight", &weight)?;
                }
            }
            for (name, bytes) in [
                ("blkio.throttle.read_bps_device", io.read_per_second),
                ("blkio.throttle.write_bps_device", io.write_per_second),
            ] {
                let Some(bytes) = bytes else { continue };
                for disk in disks()? {
                    write(folder, name, format!("{disk} {}", bytes.0))?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn ram_used(&self) -> io::Result<u64> {
        let memory = &self.folders["memory"];
        let cache = value(&read(memory, "memory.stat")?, "total_inactive_file").unwrap_or(0);
        Ok(number(memory, "memory.usage_in_bytes")?.saturating_sub(cache))
    }

    pub(super) fn sample(&self) -> io::Result<Sample> {
        let stat = read(&self.folders["cpu"], "cpu.stat")?;
        let memory_stat = read(&self.folders["memory"], "memory.stat")?;
        Ok(Sample {
            cpu_us: number(&self.folders["cpuacct"], "cpuacct.usage")? / 1000,
            throttled_us: value(&stat, "throttled_time").unwrap_or(0) / 1000,
            throttled_count: value(&stat, "nr_throttled").unwrap_or(0),
            ram_bytes: self.ram_used()?,
            process_count: number(&self.folders["pids"], "pids.current")?,
            major_fault_count: value(&memory_stat, "total_pgmajfault").unwrap_or(0),
            oom_kill_count: self.oom_kill_count()?,
            // The kernel tells it of the groups of version 2 alone.
            pressure: Pressure::default(),
        })
    }

    /// Those of the group itself; of the groups in it each keeps its own count.
    pub(super) fn oom_kill_count(&self) -> io::Result<u64> {
        fn count(folder: &Path) -> io::Result<u64> {
            let own = value(&read(folder, "memory.oom_control")?, "oom_kill").unwrap_or(0);
            let inner = files::children(folder)?;
            inner.iter().try_fold(own, |sum, name| Ok(sum + count(&folder.join(name))?))
        }
        count(&self.folders["memory"])
    }

    pub(super) fn kill(&self) -> io::Result<()> {
        files::kill_each(&self.folders["memory"])?;
        files::kill_each(&self.folders["pids"])
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        self.folders.values().try_for_each(|folder| files::remove(folder))
    }
}

/// A group's CPUs are among those of the group that it is in: so those inside go first where there are fewer from now
/// on, and last where there are more.
fn set_cpus(folder: &Path, cpus: &str) -> io::Result<()> {
    let inside: Vec<PathBuf> = files::children(folder)?.iter().map(|it| folder.join(it)).collect();
    let set_inside = || inside.iter().try_for_each(|it| set_cpus(it, cpus));
    let is_done = set_inside().is_ok();
    write(folder, "cpuset.cpus", cpus)?;
    if is_done { Ok(()) } else { set_inside() }
}

/// The machine's disks, as `MAJOR:MINOR`; without those made of memory or files.
pub(super) fn disks() -> io::Result<Vec<String>> {
    let mut disks = Vec::new();
    for entry in std::fs::read_dir("/sys/block")? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !["loop", "ram", "zram", "sr", "fd"].iter().any(|made| name.starts_with(made)) {
            disks.push(std::fs::read_to_string(entry.path().join("dev"))?.trim().to_owned());
        }
    }
    disks.sort();
    Ok(disks)
}
