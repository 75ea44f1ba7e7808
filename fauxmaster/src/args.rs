//! The command line's options, shared by its commands.

use std::str::FromStr;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use scheduler::{Accounting, Examine, Policy, QueueOrder, Speed, UsageRatio};
use traces::{FindingKind, ReadOptions, Trace};

use crate::cli::complain;
use crate::compact::{CompactOptions, PENDING_ALLOWANCE};
use crate::kube::config::policy_by_name;
use crate::pack::{PackOptions, QueueChoice, Start};

/// Which trace is read, and how.
#[derive(Args, Clone, Debug)]
pub struct TraceArgs {
    /// A bundled trace (google-2011-t0) or FORMAT:PATH, with FORMAT one of google-2011-t0, google-2011,
    /// openb (NODES,PODS), cell (a folder of machines and jobs), manifests (a folder of Kubernetes
    /// objects) and scaled (N:TRACE, copies of another trace's cell).
    #[arg(long, value_name = "TRACE", default_value = "google-2011-t0")]
    pub trace: String,
    /// A folder of Kubernetes objects, as `kubectl get -o yaml` writes them; short for
    /// --trace manifests:DIR.
    #[arg(long, value_name = "DIR", conflicts_with = "trace")]
    pub manifests: Option<String>,
    /// Skip and count wrong rows instead of ending at the first.
    #[arg(long)]
    pub lenient: bool,
}

impl TraceArgs {
    /// Reads the trace.
    ///
    /// # Errors
    /// If it cannot be read; the message names file, line and field.
    pub fn load(&self) -> anyhow::Result<Trace> {
        let options = ReadOptions { lenient: self.lenient };
        Ok(match &self.manifests {
            Some(folder) => traces::load(&format!("manifests:{folder}"), options)?,
            None => traces::load(&self.trace, options)?,
        })
    }

    /// Reads the trace; and says on stderr, as `program`, what of it was skipped (with `--lenient`), and
    /// what of a Kubernetes cluster is not read or not seen.
    ///
    /// # Errors
    /// If it cannot be read; the message names file, line and field.
    pub fn load_aloud(&self, program: &str) -> anyhow::Result<Trace> {
        let trace = self.load()?;
        for finding in &trace.doctor.findings {
            if trace.cell.kube.is_some()
                || matches!(finding.kind, FindingKind::SkippedRow | FindingKind::BrokenOffFile)
            {
                let (count, note) = (finding.count, finding.note);
                let said = anyhow::anyhow!("{count} {note}, the first {}", finding.example.detail);
                complain(program, &said);
            }
        }
        Ok(trace)
    }
}

/// What a task is charged for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccountingName {
    /// All limits must fit.
    Limits,
    /// Borg's rule: production's limits fit, and everyone's reservations fit.
    Reclaimed,
    /// Only reservations must fit: Kubernetes with right-sized requests.
    RightSized,
}

/// How tasks are placed.
#[derive(Args, Clone, Debug)]
pub struct PolicyArgs {
    /// One of those that `fauxmaster policies` lists, or kube:PATH or kube:PATH#SCHEDULER for a profile
    /// of a KubeSchedulerConfiguration file.
    #[arg(long, value_name = "POLICY", default_value = "borg-hybrid")]
    pub policy: String,
    /// What a task is charged for.
    #[arg(long, value_enum, default_value_t = AccountingName::Limits)]
    pub accounting: AccountingName,
    /// Reservation over limit, for the accountings that reclaim. The default is the mean usage over
    /// limit in the usage sample of clusterdata-2011-2.
    #[arg(long, value_name = "cpu=C,ram=R", default_value = "cpu=0.27,ram=0.79")]
    pub usage_ratio: RatioArg,
    /// The order of the queue inside a priority.
    #[arg(long, value_enum, default_value_t = QueueName::Policy)]
    pub queue: QueueName,
    /// Seeds everything random.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Score every task afresh instead of once for each equivalence class.
    #[arg(long)]
    pub no_equivalence: bool,
    /// Forget scores when the queue turns to another class.
    #[arg(long)]
    pub no_cache: bool,
    /// Look at every score to find the best.
    #[arg(long)]
    pub no_index: bool,
    /// Look at machines from a random one on until N are feasible (relaxed randomization), instead of
    /// at all of them or at as many as Kubernetes would.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub sample: Option<u32>,
}

/// The order of the queue inside a priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum QueueName {
    /// The policy's own.
    Policy,
    /// One task of each user in turn.
    RoundRobin,
    /// In the order of submission.
    Fifo,
}

impl PolicyArgs {
    /// The policy, looking at as many machines as is asked.
    ///
    /// # Errors
    /// If no policy has the name, or its configuration file is wrong.
    pub fn policy(&self) -> anyhow::Result<Policy> {
        let mut policy = policy_by_name(&self.policy)?;
        if let Some(enough) = self.sample {
            policy.examine = Examine::Relaxed { enough: enough as usize };
        }
        Ok(policy)
    }

    /// The accounting.
    #[must_use]
    pub fn accounting(&self) -> Accounting {
        match self.accounting {
            AccountingName::Limits => Accounting::Limits,
            AccountingName::Reclaimed => Accounting::Reclaimed(self.usage_ratio.0),
            AccountingName::RightSized => Accounting::RightSized(self.usage_ratio.0),
        }
    }

    /// The order of the queue.
    #[must_use]
    pub fn queue(&self) -> QueueChoice {
        match self.queue {
            QueueName::Policy => QueueChoice::Policy,
            QueueName::RoundRobin => QueueChoice::Order(QueueOrder::RoundRobin),
            QueueName::Fifo => QueueChoice::Order(QueueOrder::Fifo),
        }
    }

    /// The switches.
    #[must_use]
    pub fn speed(&self) -> Speed {
        Speed { equivalence: !self.no_equivalence, cache: !self.no_cache, index: !self.no_index }
    }
}

/// What a packing starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StartName {
    /// Empty machines.
    Empty,
    /// The recorded state: running tasks stay, waiting ones are placed, preempting if need be.
    Recorded,
}

/// What to pack, how, and onto what.
#[derive(Args, Clone, Debug)]
pub struct PackShape {
    /// The trace.
    #[command(flatten)]
    pub trace: TraceArgs,
    /// How tasks are placed.
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Use so many machines, drawn at random.
    #[arg(long, value_name = "N")]
    pub machines: Option<usize>,
    /// Draw from so many copies of the cell's machines; the workload stays one.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = up_to::<64>)]
    pub clone: usize,
    /// What to start from.
    #[arg(long, value_enum, default_value_t = StartName::Empty)]
    pub start: StartName,
}

impl PackShape {
    /// The options that this asks for.
    ///
    /// # Errors
    /// If the policy is wrong.
    pub fn options(&self) -> anyhow::Result<PackOptions> {
        Ok(PackOptions {
            policy: self.policy.policy()?,
            accounting: self.policy.accounting(),
            queue: self.policy.queue(),
            seed: self.policy.seed,
            machines: self.machines,
            clones: self.clone,
            start: match self.start {
                StartName::Empty => Start::Empty,
                StartName::Recorded => Start::Recorded,
            },
            speed: self.policy.speed(),
        })
    }
}

/// What to compact, and how.
#[derive(Args, Clone, Debug)]
pub struct CompactShape {
    /// The trace.
    #[command(flatten)]
    pub trace: TraceArgs,
    /// How tasks are placed.
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Number of trials, each with its own random order of machines.
    #[arg(long, default_value_t = 11, value_parser = up_to::<1100>)]
    pub trials: usize,
    /// The share of tasks that may stay pending; 0 for none.
    #[arg(long, value_name = "SHARE", default_value_t = PENDING_ALLOWANCE)]
    pub pending_allowance: f64,
    /// Draw from so many copies of the cell's machines; without it from as many as are needed.
    #[arg(long, value_name = "N", value_parser = up_to::<64>)]
    pub clone: Option<usize>,
}

impl CompactShape {
    /// The options that this asks for.
    ///
    /// # Errors
    /// If the policy is wrong.
    pub fn options(&self) -> anyhow::Result<CompactOptions> {
        Ok(CompactOptions {
            policy: self.policy.policy()?,
            accounting: self.policy.accounting(),
            queue: self.policy.queue(),
            seed: self.policy.seed,
            trials: self.trials,
            clones: self.clone,
            pending_allowance: self.pending_allowance,
            speed: self.policy.speed(),
        })
    }
}

/// A count in 1..=MAX.
///
/// # Errors
/// If it is none.
pub fn up_to<const MAX: usize>(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=MAX).contains(&count) => Ok(count),
        _ => Err(format!("not a whole number in 1..={MAX}")),
    }
}

/// A usage ratio as it is written: `cpu=0.27,ram=0.79`, each above 0 and at most 1, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RatioArg(pub UsageRatio);

impl FromStr for RatioArg {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (mut cpu_permille, mut ram_permille) = (None, None);
        for part in text.split(',') {
            let (name, value) = part
                .split_once('=')
                .with_context(|| format!("{part:?} is not NAME=RATIO, as in cpu=0.27"))?;
            let slot = match name.trim() {
                "cpu" => &mut cpu_permille,
                "ram" => &mut ram_permille,
                other => bail!("{other:?} has no usage ratio; cpu and ram have"),
            };
            *slot = Some(permille(value)?);
        }
        match (cpu_permille, ram_permille) {
            (Some(cpu_permille), Some(ram_permille)) => {
                Ok(Self(UsageRatio { cpu_permille, ram_permille }))
            }
            _ => bail!("both cpu and ram are needed, as in cpu=0.27,ram=0.79"),
        }
    }
}

impl std::fmt::Display for RatioArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let part = |permille: u32| f64::from(permille) / 1000.0;
        write!(f, "cpu={},ram={}", part(self.0.cpu_permille), part(self.0.ram_permille))
    }
}

/// What is wrong with a command line, on one line.
#[must_use]
pub fn usage_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let said = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = said.trim_start_matches("error: ").split_whitespace().collect();
    format!("{} (see --help)", words.join(" "))
}

fn permille(text: &str) -> anyhow::Result<u32> {
    let exact = cell::quantity::decimal(text)
        .and_then(|ratio| cell::quantity::scaled_up(ratio, 1000))
        .with_context(|| format!("usage ratio {text:?}"))?;
    match u32::try_from(exact) {
        Ok(permille @ 1..=1000) => Ok(permille),
        _ => bail!("usage ratio {text:?} is not above 0 and at most 1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_ratios_are_read_exactly_and_checked() {
        let ratio: RatioArg = "cpu=0.27,ram=0.79".parse().unwrap();
        assert_eq!(ratio.0, UsageRatio::GOOGLE_2011_SAMPLE);
        assert_eq!(ratio.to_string(), "cpu=0.27,ram=0.79");
        let check = |text: &str, part: &str| {
            let error = format!("{:#}", text.parse::<RatioArg>().unwrap_err());
            assert!(error.contains(part), "{text}: {error}");
        };
        check("cpu=0.27", "both cpu and ram");
        check("cpu=0,ram=0.5", "not above 0");
        check("cpu=1.5,ram=0.5", "at most 1");
        check("cpu=-1,ram=0.5", "negative");
        check("cpu=nan,ram=0.5", "finite");
        check("gpu=1,ram=0.5", "gpu");
        check("cpu", "NAME=RATIO");
    }
}
