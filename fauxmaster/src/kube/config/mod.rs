//! `KubeSchedulerConfiguration` files: profiles of kube-scheduler's as policies.
//!
//! In: a file of `kubescheduler.config.k8s.io/v1`, YAML or JSON. Out: its profiles, each the default one
//! of v1.36 with what the file changes. All fields of v1 are known; those about connections, leader
//! election, profiling and parallelism have no influence on where pods go. What is not modelled
//! (extenders) and what kube-scheduler would refuse is an error that names the field.
//!
//! Source: Kubernetes' reference of the API group `kubescheduler.config.k8s.io/v1`.

mod args;
mod fault;
mod plugins;
mod schema;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::Path;

use scheduler::Policy;
use scheduler::k8s::Profile;
use scheduler::k8s::profile::Backoff;
use serde_saphyr::UserMessageFormatter;

use fault::{Fault, Read, check_distinct, each, in_range};

const API_VERSION: &str = "kubescheduler.config.k8s.io/v1";
const KIND: &str = "KubeSchedulerConfiguration";
/// The scheduler of pods that name none.
const DEFAULT_SCHEDULER: &str = "default-scheduler";
/// What a policy's name begins with that is read from a file.
const PREFIX: &str = "kube:";
/// Configurations are small; a larger file is something else.
const BYTES_MAX: u64 = 1 << 20;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {file}")]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is no configuration.
    #[error("{file}: {problem}")]
    Wrong {
        /// The file.
        file: String,
        /// The field, and what is wrong with it.
        problem: String,
    },
}

/// A profile and the name of the scheduler that has it.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedProfile {
    /// `schedulerName`.
    pub scheduler_name: String,
    /// The profile.
    pub profile: Profile,
}

/// The policy called `name`: one of [`scheduler::policies`], or `kube:PATH` or `kube:PATH#SCHEDULER` for a
/// profile of a configuration file. Without a scheduler's name it is the file's only profile, or that of
/// `default-scheduler`.
///
/// # Errors
/// If there is no such policy, or the file is wrong; the message names the field.
pub fn policy_by_name(name: &str) -> anyhow::Result<Policy> {
    let Some(place) = name.strip_prefix(PREFIX) else { return Ok(Policy::by_name(name)?) };
    // A file whose own name has a `#` is still found.
    let (path, scheduler_name) = match place.rsplit_once('#') {
        Some((path, scheduler_name)) if !Path::new(place).exists() => (path, Some(scheduler_name)),
        _ => (place, None),
    };
    let profiles = load(Path::new(path))?;
    let names = || {
        let names = profiles.iter().map(|profile| profile.scheduler_name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    let wanted = match (&*profiles, scheduler_name) {
        ([only], None) => only.scheduler_name.as_str(),
        (_, None) => DEFAULT_SCHEDULER,
        (_, Some(name)) => name,
    };
    match profiles.iter().find(|profile| profile.scheduler_name == wanted) {
        Some(found) => Ok(Policy::kubernetes(name.to_owned(), found.profile.clone())),
        None => anyhow::bail!(
            "{path}: no profile of {wanted:?}; name one as {PREFIX}{path}#NAME, of {}",
            names()
        ),
    }
}

/// Reads a configuration file.
///
/// # Errors
/// If it cannot be read or is wrong.
pub fn load(path: &Path) -> Result<Vec<NamedProfile>, ConfigError> {
    let file = path.display().to_string();
    let unreadable = |source| ConfigError::Unreadable { file: file.clone(), source };
    let length = fs::metadata(path).map_err(unreadable)?.len();
    if length > BYTES_MAX {
        let problem = format!("{length} bytes are no configuration: at most {BYTES_MAX} are read");
        return Err(ConfigError::Wrong { file, problem });
    }
    parse(&file, &fs::read(path).map_err(unreadable)?)
}

/// Reads a configuration; `file` is what errors call it.
///
/// # Errors
/// If it is wrong.
pub fn parse(file: &str, bytes: &[u8]) -> Result<Vec<NamedProfile>, ConfigError> {
    let wrong = |problem| ConfigError::Wrong { file: file.to_owned(), problem };
    let text = std::str::from_utf8(bytes).map_err(|_| wrong("not UTF-8".to_owned()))?;
    let options = serde_saphyr::options! { with_snippet: false };
    let configuration: schema::Configuration = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| {
        let said = error.without_snippet().render_with_formatter(&UserMessageFormatter);
        wrong(said.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
    })?;
    read(configuration).map_err(|fault| wrong(fault.to_string()))
}

fn read(configuration: schema::Configuration) -> Read<Vec<NamedProfile>> {
    let version = &configuration.api_version;
    if version != API_VERSION {
        return Err(Fault::new("apiVersion", format!("{version:?} is not {API_VERSION}")));
    }
    if configuration.kind != KIND {
        return Err(Fault::new("kind", format!("{:?} is not {KIND}", configuration.kind)));
    }
    if configuration.extenders.is_some_and(|extenders| !extenders.is_empty()) {
        return Err(Fault::new("extenders", "extenders are not modelled"));
    }
    if let Some(parallelism) = configuration.parallelism {
        in_range("parallelism", parallelism, 1..=i64::from(i32::MAX))?;
    }
    let percentage = percentage(configuration.percentage_of_nodes_to_score)?;
    let initial = configuration.pod_initial_backoff_seconds.unwrap_or(1);
    let initial = in_range("podInitialBackoffSeconds", initial, 1..=SECONDS_MAX)?;
    let max = configuration.pod_max_backoff_seconds.unwrap_or(10);
    let max = in_range("podMaxBackoffSeconds", max, initial..=SECONDS_MAX)?;
    let base = Profile {
        percentage_of_nodes_to_score: percentage.unwrap_or(0),
        backoff: Backoff {
            initial_ms: 1000 * initial.unsigned_abs(),
            max_ms: 1000 * max.unsigned_abs(),
        },
        ..Profile::v1_36()
    };
    let mut given = configuration.profiles.unwrap_or_default();
    if given.is_empty() {
        given.push(schema::Profile::default());
    }
    let profiles = each("profiles", Some(given), |profile| read_profile(profile, base.clone()))?;
    check_distinct("profiles", profiles.iter().map(|profile| &profile.scheduler_name))?;
    Ok(profiles)
}

/// A day: pods are not tried less often.
const SECONDS_MAX: i64 = 86_400;

fn percentage(given: Option<i64>) -> Read<Option<usize>> {
    let Some(given) = given else { return Ok(None) };
    let percentage = in_range("percentageOfNodesToScore", given, 0..=100)?;
    Ok(Some(usize::try_from(percentage).expect("the range was checked")))
}

fn read_profile(given: schema::Profile, mut profile: Profile) -> Read<NamedProfile> {
    let scheduler_name = given.scheduler_name.unwrap_or_else(|| DEFAULT_SCHEDULER.to_owned());
    if scheduler_name.is_empty() {
        return Err(Fault::new("schedulerName", "it is empty"));
    }
    if let Some(percentage) = percentage(given.percentage_of_nodes_to_score)? {
        profile.percentage_of_nodes_to_score = percentage;
    }
    // Arguments first: a plugin that is disabled has none that count.
    let configs = given.plugin_config.unwrap_or_default();
    check_distinct("pluginConfig", configs.iter().map(|config| &config.name))?;
    each("pluginConfig", Some(configs), |schema::PluginConfig { name, args }| {
        args::apply(&name, args, &mut profile)
    })?;
    if let Some(plugins) = given.plugins {
        plugins::apply(plugins, &mut profile).map_err(|fault| fault.within("plugins"))?;
    }
    Ok(NamedProfile { scheduler_name, profile })
}
