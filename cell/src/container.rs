//! What surrounds the program of a task on a real machine: the part of a [`JobSpec`](crate::spec::JobSpec)
//! that only borglets read.
//!
//! In: the types below, as serde fills them from a job's file or from a master's message. Out: the same, or
//! a [`SpecError`] that names the field. Master and scheduler carry it along unread, but for the names of
//! packages, which placement takes into account.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::resources::Bytes;
use crate::spec::{SpecError, check_name};

/// How many processes and threads a task may have if its job does not say.
pub const PROCESSES_DEFAULT: u32 = 1024;

/// How many files a process of a task may have open if its job does not say.
pub const FILES_DEFAULT: u32 = 4096;

/// The most ports, variables or packages of a task. Our own limit.
pub const PARTS_COUNT_MAX: usize = 256;

/// The container of each task of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ContainerSpec {
    /// An OCI bundle: the folder on the machine that holds `config.json`. The job's command, where it has
    /// one, takes the place of the bundle's. With neither this nor `image` the program is one of the
    /// machine's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
    /// An image, by the name under which the machine's container runtime (CRI) has it or pulls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Variables of its environment, beside those that every task has.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Ports by name: a number, or 0 for one of the machine's range. The program finds the port of `web` in
    /// `PORT_WEB`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<String, u16>,
    /// Packages by name. The program finds the folder of `tools` in `PACKAGE_TOOLS`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub packages: BTreeMap<String, PackageSpec>,
    /// How its health is checked; left out: it is healthy while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthSpec>,
    /// How many processes and threads it may have, 1..=1000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes_max: Option<u32>,
    /// How many files each of its processes may have open, 8..=1000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files_max: Option<u32>,
    /// Above so much RAM it is slowed down and its memory reclaimed, before its limit kills it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ram_high: Option<Bytes>,
    /// So much of its RAM is reclaimed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ram_low: Option<Bytes>,
    /// Whether it has CPUs of its own, as many as its limit (whole ones): for latency-sensitive tasks.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub own_cpus: bool,
    /// Its share of disks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io: Option<IoSpec>,
    /// Controls without which it is not to run; the others are best effort.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub require: BTreeSet<Control>,
}

/// A package: files that a task needs, the same on every machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageSpec {
    /// A tarball (plain, or compressed with gzip) or a folder, by its absolute path on the machine.
    pub from: String,
    /// The SHA-256 of the tarball, or of the folder as `borgcfg package` works it out, in hexadecimal.
    pub sha256: String,
}

/// How the health of a task is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthSpec {
    /// Tried from the start until it passes once; the task is unhealthy until then, and is killed if it
    /// fails too often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_up: Option<ProbeSpec>,
    /// Tried from then on, as long as the task runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<ProbeSpec>,
}

/// One check: exactly one of `http`, `tcp` and `command`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeSpec {
    /// Passes if a GET is answered with a status of 200..=399.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpProbeSpec>,
    /// Passes if this one of the task's ports takes a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<String>,
    /// Passes if this ends with exit code 0, run inside the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// From one try to the next in milliseconds, 10..=3600000.
    #[serde(default = "every_ms")]
    pub every_ms: u32,
    /// A try that takes longer has failed, in milliseconds, 1..=3600000.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u32,
    /// So many failures in a row kill the task, 1..=1000000.
    #[serde(default = "failures_max")]
    pub failures_max: u32,
}

const fn every_ms() -> u32 {
    5_000
}

const fn timeout_ms() -> u32 {
    1_000
}

const fn failures_max() -> u32 {
    3
}

/// What is asked for by HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpProbeSpec {
    /// One of the task's ports.
    pub port: String,
    /// The path, from `/` on.
    #[serde(default = "root")]
    pub path: String,
}

fn root() -> String {
    "/".to_owned()
}

/// A share of disks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IoSpec {
    /// Its weight against others', 1..=10000; 100 is usual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// The most it may read of each disk, in bytes a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_per_second: Option<Bytes>,
    /// The most it may write to each disk, in bytes a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_per_second: Option<Bytes>,
}

/// A control of the kernel that is best effort unless a job requires it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Control {
    /// [`ContainerSpec::ram_high`] and [`ContainerSpec::ram_low`].
    RamHigh,
    /// [`ContainerSpec::own_cpus`].
    OwnCpus,
    /// [`ContainerSpec::io`].
    Io,
}

impl Control {
    /// Its name, as in a job's file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RamHigh => "ram-high",
            Self::OwnCpus => "own-cpus",
            Self::Io => "io",
        }
    }
}

impl ContainerSpec {
    /// Whether everything in it is in range.
    ///
    /// # Errors
    /// If not: the path of the field, from `container` on.
    pub fn check(&self) -> Result<(), SpecError> {
        if self.bundle.is_some() && self.image.is_some() {
            return Err(SpecError::new("container.image", "give `bundle` or `image`, not both"));
        }
        if let Some(bundle) = &self.bundle {
            absolute("container.bundle", bundle)?;
        }
        if self.image.as_ref().is_some_and(String::is_empty) {
            return Err(SpecError::new("container.image", "must not be empty"));
        }
        let sizes = [
            ("container.env", self.env.len()),
            ("container.ports", self.ports.len()),
            ("container.packages", self.packages.len()),
        ];
        for (field, count) in sizes {
            in_range(field, count as u64, 0, PARTS_COUNT_MAX as u64)?;
        }
        for (name, value) in &self.env {
            let field = format!("container.env.{name}");
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(SpecError::new(field, "no variable has such a name or value"));
            }
        }
        let mut ports = BTreeSet::new();
        for (name, &port) in &self.ports {
            let field = format!("container.ports.{name}");
            variable_part(&field, name)?;
            if port != 0 && !ports.insert(port) {
                return Err(SpecError::new(field, format!("port {port} is there twice")));
            }
        }
        for (name, package) in &self.packages {
            let field = format!("container.packages.{name}");
            variable_part(&field, name)?;
            absolute(&format!("{field}.from"), &package.from)?;
            let hash = &package.sha256;
            if hash.len() != 64 || !hash.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                let problem = "is no SHA-256: 64 hexadecimal digits";
                return Err(SpecError::new(format!("{field}.sha256"), problem));
            }
        }
        if let Some(HealthSpec { start_up, live }) = &self.health {
            if start_up.is_none() && live.is_none() {
                let problem = "says neither `start_up` nor `live`";
                return Err(SpecError::new("container.health", problem));
            }
            for (name, probe) in [("start_up", start_up), ("live", live)] {
                if let Some(probe) = probe {
                    self.check_probe(&format!("container.health.{name}"), probe)?;
                }
            }
        }
        if let Some(max) = self.processes_max {
            in_range("container.processes_max", max.into(), 1, 1_000_000)?;
        }
        if let Some(max) = self.files_max {
            in_range("container.files_max", max.into(), 8, 1_000_000)?;
        }
        if let Some(weight) = self.io.as_ref().and_then(|io| io.weight) {
            in_range("container.io.weight", weight.into(), 1, 10_000)?;
        }
        Ok(())
    }

    fn check_probe(&self, field: &str, probe: &ProbeSpec) -> Result<(), SpecError> {
        let ProbeSpec { http, tcp, command, every_ms, timeout_ms, failures_max } = probe;
        let count = [http.is_some(), tcp.is_some(), !command.is_empty()];
        if count.into_iter().filter(|&is_there| is_there).count() != 1 {
            return Err(SpecError::new(field, "needs one of `http`, `tcp` and `command`"));
        }
        let http_port = http.as_ref().map(|http| ("http.port", &http.port));
        for (part, port) in http_port.into_iter().chain(tcp.as_ref().map(|port| ("tcp", port))) {
            if !self.ports.contains_key(port) {
                let problem = format!("the container has no port called {port:?}");
                return Err(SpecError::new(format!("{field}.{part}"), problem));
            }
        }
        if let Some(path) = http.as_ref().map(|http| &http.path)
            && (!path.starts_with('/') || path.contains(|c: char| c.is_control() || c == ' '))
        {
            let problem = "must begin with `/`, and have neither spaces nor control characters";
            return Err(SpecError::new(format!("{field}.http.path"), problem));
        }
        in_range(&format!("{field}.every_ms"), (*every_ms).into(), 10, 3_600_000)?;
        in_range(&format!("{field}.timeout_ms"), (*timeout_ms).into(), 1, 3_600_000)?;
        in_range(&format!("{field}.failures_max"), (*failures_max).into(), 1, 1_000_000)
    }

    /// What placement knows its packages by: the name and the first digits of the hash, so that a machine
    /// that has another version of one does not count as having it.
    pub fn package_names(&self) -> impl Iterator<Item = String> + '_ {
        self.packages.iter().map(|(name, package)| package.name_in_cell(name))
    }
}

impl PackageSpec {
    /// What placement knows it by.
    #[must_use]
    pub fn name_in_cell(&self, name: &str) -> String {
        let digits = self.sha256.get(..12).unwrap_or(&self.sha256).to_ascii_lowercase();
        format!("{name}@{digits}")
    }
}

/// The name of a variable that is made of a name in a job's file: `web-ui` of `PORT` is `PORT_WEB_UI`.
#[must_use]
pub fn variable(prefix: &str, name: &str) -> String {
    format!("{prefix}_{}", name.to_ascii_uppercase().replace('-', "_"))
}

fn variable_part(field: &str, name: &str) -> Result<(), SpecError> {
    check_name(field, name)?;
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if !name.chars().all(is_plain) {
        return Err(SpecError::new(field, "names have a-z, 0-9, `-` and `_` alone"));
    }
    Ok(())
}

fn absolute(field: &str, path: &str) -> Result<(), SpecError> {
    if !path.starts_with('/') || path.contains('\0') {
        return Err(SpecError::new(field, format!("{path:?} is no absolute path")));
    }
    Ok(())
}

fn in_range(field: &str, value: u64, min: u64, max: u64) -> Result<(), SpecError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(SpecError::new(field, format!("{value} is not in {min}..={max}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{
        "env": {"MODE": "test"}, "ports": {"web-ui": 0, "admin": 8080},
        "packages": {"tools": {"from": "/srv/tools.tar.gz", "sha256":
            "E3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}},
        "health": {"start_up": {"command": ["true"], "every_ms": 100},
            "live": {"http": {"port": "web-ui"}}},
        "processes_max": 10, "ram_high": "64MiB", "require": ["ram-high"]}"#;

    fn read(text: &str) -> Result<ContainerSpec, String> {
        let spec: ContainerSpec = serde_json::from_str(text).map_err(|error| error.to_string())?;
        spec.check().map_err(|error| error.field).map(|()| spec)
    }

    #[test]
    fn a_container_reads_back_and_names_its_parts() {
        let spec = read(GOOD).unwrap();
        let live = spec.health.as_ref().unwrap().live.as_ref().unwrap();
        assert_eq!((live.every_ms, live.timeout_ms, live.failures_max), (5_000, 1_000, 3));
        assert_eq!(live.http.as_ref().unwrap().path, "/");
        assert_eq!(spec.package_names().collect::<Vec<_>>(), ["tools@e3b0c44298fc"]);
        assert_eq!(variable("PORT", "web-ui"), "PORT_WEB_UI");
        assert_eq!(read(&serde_json::to_string(&spec).unwrap()).unwrap(), spec);
        assert_eq!(serde_json::to_string(&ContainerSpec::default()).unwrap(), "{}");
    }

    #[test]
    fn each_bad_field_is_named() {
        let check = |text: &str, field: &str| {
            assert_eq!(read(text).unwrap_err(), field, "{text}");
        };
        check(r#"{"bundle": "here"}"#, "container.bundle");
        check(r#"{"bundle": "/b", "image": "busybox"}"#, "container.image");
        check(r#"{"env": {"A=B": "x"}}"#, "container.env.A=B");
        check(r#"{"ports": {"Web": 1}}"#, "container.ports.Web");
        check(r#"{"ports": {"a": 80, "b": 80}}"#, "container.ports.b");
        let package = r#"{"packages": {"p": {"from": "FROM", "sha256": "12"}}}"#;
        check(package, "container.packages.p.from");
        check(&package.replace("FROM", "/p"), "container.packages.p.sha256");
        check(r#"{"health": {}}"#, "container.health");
        check(r#"{"health": {"live": {}}}"#, "container.health.live");
        check(r#"{"health": {"live": {"tcp": "web"}}}"#, "container.health.live.tcp");
        let probe = r#"{"ports": {"web": 0}, "health": {"live": {"http": {"port": "web", "path": "x y"}}}}"#;
        check(probe, "container.health.live.http.path");
        let probe = r#"{"health": {"start_up": {"command": ["true"], "every_ms": 1}}}"#;
        check(probe, "container.health.start_up.every_ms");
        check(r#"{"processes_max": 0}"#, "container.processes_max");
        check(r#"{"io": {"weight": 0}}"#, "container.io.weight");
        assert!(read(r#"{"prots": {}}"#).unwrap_err().contains("prots"));
    }
}
