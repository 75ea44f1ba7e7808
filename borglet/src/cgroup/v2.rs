//! Control groups, version 2. Source: the kernel's `admin-guide/cgroup-v2`.

use std::io;
use std::path::{Path, PathBuf};

use cell::container::Control;
use rustix::fs::{Access, access};

use super::files::{read, remove, value, write, write_if};
use super::mounts::Mounts;
use super::{
    Appetite, Limits, PERIOD_US, Pressure, Sample, Unusable, cpu_list, quota_us, weight_permille,
};
use crate::cgroup::files;

/// What every task needs.
const NEEDED: [&str; 3] = ["cpu", "memory", "pids"];
const WANTED: [&str; 2] = ["cpuset", "io"];

/// Where the processes of a delegated group are, the borglet's own among them.
const LEAF: &str = "borglet";

/// The groups of a borglet.
#[derive(Debug)]
pub(crate) struct V2 {
    folder: PathBuf,
    controllers: Vec<String>,
    /// The groups that were made for it: removed with it.
    own: Vec<PathBuf>,
}

/// The group of a task.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    folder: PathBuf,
    controllers: Vec<String>,
}

fn words(folder: &Path, name: &str) -> io::Result<Vec<String>> {
    Ok(read(folder, name)?.split_whitespace().map(str::to_owned).collect())
}

/// Lets the groups in a group have controllers, as far as it has them itself.
fn hand_down(folder: &Path) -> io::Result<Vec<String>> {
    let available = words(folder, "cgroup.controllers")?;
    for controller in NEEDED.iter().chain(&WANTED) {
        if available.iter().any(|it| it == controller) {
            write(folder, "cgroup.subtree_control", format!("+{controller}"))?;
        }
    }
    words(folder, "cgroup.subtree_control")
}

impl V2 {
    /// `None` where version 2 does not have the controllers.
    pub(super) fn open(
        mounts: &Mounts,
        machine: &str,
        parent: Option<&str>,
    ) -> Result<Option<Self>, Unusable> {
        let Some(top) = &mounts.v2 else { return Ok(None) };
        let mut base = mounts.base("", top, parent);
        // The group that this process is in, and is not the top of all: that one alone has no type.
        let is_delegated = parent.is_none() && base.join("cgroup.type").exists();
        // Put there at an earlier start, or by systemd (DelegateSubgroup=): the groups are beside it.
        let above = base.parent().map(|above| above.join("cgroup.procs"));
        if is_delegated
            && base.ends_with(LEAF)
            && above.is_some_and(|file| access(file, Access::WRITE_OK).is_ok())
        {
            base.pop();
        }
        std::fs::create_dir_all(&base).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", base.display()))
        })?;
        let available = words(&base, "cgroup.controllers")?;
        let is_there = |controller: &&&str| available.iter().any(|it| it == **controller);
        let missing: Vec<_> = NEEDED.iter().filter(|it| !is_there(it)).copied().collect();
        if !missing.is_empty() {
            if mounts.v1.contains_key("memory") {
                return Ok(None);
            }
            return Err(Unusable::Missing(missing.join(" and ")));
        }
        // A group that hands controllers down holds no processes itself.
        if is_delegated {
            let leaf = base.join(LEAF);
            std::fs::create_dir_all(&leaf)?;
            write(&leaf, "cgroup.procs", "0")?;
            for pid in words(&base, "cgroup.procs")? {
                // Who ended meanwhile, or may not be moved, is told of below.
                let _ = write(&leaf, "cgroup.procs", pid);
            }
        }
        hand_down(&base)?;
        let cell = base.join("cell-manager");
        std::fs::create_dir_all(&cell)?;
        hand_down(&cell)?;
        let folder = cell.join(machine);
        std::fs::create_dir_all(&folder)?;
        let controllers = hand_down(&folder)?;
        Ok(Some(Self { own: vec![folder.clone(), cell], folder, controllers }))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn has(&self, control: Control) -> bool {
        let has = |name: &str| self.controllers.iter().any(|it| it == name);
        match control {
            Control::RamHigh => has("memory"),
            Control::OwnCpus => has("cpuset"),
            Control::Io => has("io"),
        }
    }

    pub(super) fn limit_machine(&self, cpu_milli: u64, ram_bytes: u64) -> io::Result<()> {
        let quota = format!("{} {PERIOD_US}", quota_us(cpu_milli));
        write(&self.folder, "cpu.max", quota)?;
        write(&self.folder, "memory.max", ram_bytes.to_string())?;
        write_if(&self.folder, "memory.swap.max", "0").map(drop)
    }

    pub(super) fn machine(&self) -> Group {
        Group { folder: self.folder.clone(), controllers: self.controllers.clone() }
    }

    pub(super) fn group(&self, name: &str) -> Group {
        Group { folder: self.folder.join(name), controllers: self.controllers.clone() }
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        for folder in &self.own {
            match remove_empty(folder) {
                // Another borglet's groups are in there.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ResourceBusy | io::ErrorKind::DirectoryNotEmpty
                    ) => {}
                other => other?,
            }
        }
        Ok(())
    }
}

fn remove_empty(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn or_max(amount: Option<u64>) -> String {
    amount.map_or("max".to_owned(), |it| it.to_string())
}

impl Group {
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn create(&self) -> io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        // All of it dies where one of it does: half a task is none.
        write(&self.folder, "memory.oom.group", "1")?;
        write_if(&self.folder, "memory.swap.max", "0").map(drop)
    }

    pub(super) fn limit_cpu(&self, limits: &Limits) -> io::Result<()> {
        let folder = &self.folder;
        let quota = or_max(limits.cpu_milli.map(quota_us));
        write(folder, "cpu.max", format!("{quota} {PERIOD_US}"))?;
        if limits.appetite == Appetite::BestEffort {
            write_if(folder, "cpu.idle", "1").map(drop)
        } else {
            write_if(folder, "cpu.idle", "0")?;
            // 100 is a core of batch.
            let weight = (weight_permille(limits) / 10).clamp(1, 10_000);
            write(folder, "cpu.weight", weight.to_string())
        }
    }

    pub(super) fn limit_all_but_cpu(&self, limits: &Limits) -> io::Result<()> {
        let folder = &self.folder;
        write(folder, "memory.max", or_max(limits.ram_bytes))?;
        write(folder, "memory.high", or_max(limits.ram_high))?;
        write(folder, "memory.low", limits.ram_low.unwrap_or(0).to_string())?;
        write(folder, "pids.max", limits.processes_max.to_string())?;
        if let Some(cpus) = limits.own_cpus.as_ref().or(limits.shared_cpus.as_ref())
            && self.controllers.iter().any(|it| it == "cpuset")
        {
            write(folder, "cpuset.cpus", cpu_list(cpus))?;
        }
        if let Some(io) = &limits.io
            && self.controllers.iter().any(|it| it == "io")
        {
            if let Some(weight) = io.weight {
                write_if(folder, "io.weight", format!("default {weight}"))?;
            }
            let per_second = |bytes: Option<cell::Bytes>| or_max(bytes.map(|it| it.0));
            let (read, written) = (per_second(io.read_per_second), per_second(io.write_per_second));
            if io.read_per_second.is_some() || io.write_per_second.is_some() {
                for disk in super::v1::disks()? {
                    write(folder, "io.max", format!("{disk} rbps={read} wbps={written}"))?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn ram_used(&self) -> io::Result<u64> {
        let cache = value(&read(&self.folder, "memory.stat")?, "inactive_file").unwrap_or(0);
        Ok(files::number(&self.folder, "memory.current")?.saturating_sub(cache))
    }

    pub(super) fn sample(&self) -> io::Result<Sample> {
        let folder = &self.folder;
        let cpu = read(folder, "cpu.stat")?;
        let memory = read(folder, "memory.stat")?;
        let pressure = |name| some10_permille(&read(folder, name).ok()?);
        Ok(Sample {
            cpu_us: value(&cpu, "usage_usec").unwrap_or(0),
            throttled_us: value(&cpu, "throttled_usec").unwrap_or(0),
            throttled_count: value(&cpu, "nr_throttled").unwrap_or(0),
            ram_bytes: self.ram_used()?,
            process_count: files::number(folder, "pids.current")?,
            major_fault_count: value(&memory, "pgmajfault").unwrap_or(0),
            oom_kill_count: self.oom_kill_count()?,
            pressure: Pressure {
                cpu_permille: pressure("cpu.pressure"),
                memory_permille: pressure("memory.pressure"),
                io_permille: pressure("io.pressure"),
            },
        })
    }

    pub(super) fn oom_kill_count(&self) -> io::Result<u64> {
        Ok(value(&read(&self.folder, "memory.events")?, "oom_kill").unwrap_or(0))
    }

    pub(super) fn kill(&self) -> io::Result<()> {
        if write_if(&self.folder, "cgroup.kill", "1")? {
            return Ok(());
        }
        files::kill_each(&self.folder)
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        remove(&self.folder)
    }
}

/// `some avg10=1.23 …` as thousandths. Source: the kernel's `accounting/psi`.
fn some10_permille(text: &str) -> Option<u32> {
    let line = text.lines().find(|line| line.starts_with("some "))?;
    let share: f64 =
        line.split_whitespace().find_map(|it| it.strip_prefix("avg10="))?.parse().ok()?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..=1000")]
    Some((share * 10.0).round().clamp(0.0, 1000.0) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read_as_thousandths() {
        let text = "some avg10=12.34 avg60=0.00 avg300=0.00 total=1\nfull avg10=99.00 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!(some10_permille(text), Some(123));
        assert_eq!(some10_permille(""), None);
    }
}
