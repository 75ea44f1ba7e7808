//! What a comparison runs: the flags as the user gave them, and the rows that follow from them.
//!
//! In: [`CompareFlags`], also as a manifest keeps them. Out: a [`Plan`] with a row for each policy and
//! accounting, or the first [`PlanError`]. Runs nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use fauxmaster::PENDING_ALLOWANCE;
use fauxmaster::args::RatioArg;
use scheduler::{Accounting, Policy, UnknownPolicy, UsageRatio};
use serde::{Deserialize, Serialize};

/// The most trials one comparison may have. Our own limit: a hundred times the paper's 11, beyond which
/// an interval narrows by less than a machine.
pub const TRIALS_MAX: usize = 1100;

/// Trials in Borg (EuroSys '15) §5.1.
pub const TRIALS_OF_THE_PAPER: usize = 11;

/// How many steps the sweep takes from the usage ratio to 1. Our choice: with the start, five points.
pub const SWEEP_STEPS: u32 = 4;

/// The flags that decide the results; `verify` reads them back from the manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, clap::Args)]
pub struct CompareFlags {
    /// The trace: a bundled name (google-2011-t0) or FORMAT:PATH
    #[arg(long, value_name = "TRACE")]
    pub trace: String,
    /// Policies to compare by limits, all with the same round-robin queue
    #[arg(long, value_name = "NAMES", value_delimiter = ',', required = true)]
    pub policies: Vec<String>,
    /// Policies to compare as systems, each with its own queue and accounting [default: --policies]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub systems: Option<Vec<String>>,
    /// Trials of cell compaction for each row; the Borg paper has 11
    #[arg(long, default_value_t = TRIALS_OF_THE_PAPER)]
    pub trials: usize,
    /// Seed of everything random; each trial's own is derived from it
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Reservation over limit, by resource
    #[arg(long, value_name = "cpu=R,ram=R", default_value_t = Ratio::from(UsageRatio::GOOGLE_2011_SAMPLE))]
    pub usage_ratio: Ratio,
    /// Also compare the systems at four more usage ratios, in equal steps up to 1
    #[arg(long)]
    pub sweep: bool,
    /// Share of the tasks that may stay pending in a compacted cell
    #[arg(long, value_name = "SHARE", default_value_t = PENDING_ALLOWANCE)]
    pub pending_allowance: f64,
    /// Skip and count bad rows of the trace instead of refusing it
    #[arg(long)]
    pub lenient: bool,
    /// Show how these cases of kube-scheduler come out (see fauxmaster kube-check); may be given again
    #[arg(long, value_name = "DIR")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kube_cases: Vec<String>,
    /// Show how this recorded run agrees (see fauxmaster kube-decisions); may be given again
    #[arg(long, value_name = "DIR")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kube_decisions: Vec<String>,
}

/// A [`UsageRatio`] as flags and files write it (as [`RatioArg`] reads it): `cpu=0.27,ram=0.79`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ratio(UsageRatio);

impl Ratio {
    /// The ratio.
    #[must_use]
    pub const fn get(self) -> UsageRatio {
        self.0
    }

    /// CPU, 0.001..=1.
    #[must_use]
    pub fn cpu(self) -> f64 {
        f64::from(self.0.cpu_permille) / 1000.0
    }

    /// RAM, 0.001..=1.
    #[must_use]
    pub fn ram(self) -> f64 {
        f64::from(self.0.ram_permille) / 1000.0
    }

    /// The points of a sweep: from this ratio in [`SWEEP_STEPS`] equal steps to 1, where a reservation
    /// is the limit and nothing is reclaimed. Both resources move together. No point is there twice.
    #[must_use]
    pub fn sweep(self) -> Vec<Self> {
        let step = |from: u32, k: u32| from + (k * (1000 - from) + SWEEP_STEPS / 2) / SWEEP_STEPS;
        let mut points: Vec<Self> = (0..=SWEEP_STEPS)
            .map(|k| {
                Self(UsageRatio {
                    cpu_permille: step(self.0.cpu_permille, k),
                    ram_permille: step(self.0.ram_permille, k),
                })
            })
            .collect();
        points.dedup();
        points
    }
}

impl From<UsageRatio> for Ratio {
    fn from(ratio: UsageRatio) -> Self {
        Self(ratio)
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        RatioArg(self.0).fmt(f)
    }
}

impl From<Ratio> for String {
    fn from(ratio: Ratio) -> Self {
        ratio.to_string()
    }
}

impl TryFrom<String> for Ratio {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|error| format!("{error:#}"))
    }
}

impl FromStr for Ratio {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        Ok(Self(text.parse::<RatioArg>()?.0))
    }
}

/// One of the two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TableKind {
    /// Every policy by limits, with one queue: a pure comparison of scores.
    Limits,
    /// Every policy as its system packs, with its own queue.
    Reclaimed,
}

impl TableKind {
    /// Its name in files: `limits` or `reclaimed`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Limits => "limits",
            Self::Reclaimed => "reclaimed",
        }
    }
}

/// Whose policy it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum System {
    /// Borg's.
    Borg,
    /// Kubernetes'.
    Kubernetes,
    /// Another system's or a paper's, which packs by requests as Kubernetes does.
    Peer,
}

impl System {
    fn of(policy: &Policy) -> Self {
        if policy.is_kubernetes() {
            Self::Kubernetes
        } else if policy.is_peer() {
            Self::Peer
        } else {
            Self::Borg
        }
    }
}

/// In which order tasks are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Queue {
    /// By priority, and round-robin over users inside one: the same for all policies.
    RoundRobin,
    /// The policy's own.
    Own,
}

/// A row of a table: a policy under an accounting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Name of the policy.
    pub policy: String,
    /// Whose it is.
    pub system: System,
    /// What is charged.
    pub accounting: Accounting,
    /// In which order.
    pub queue: Queue,
}

impl Row {
    /// Its name in files, unique in a table: `kube-default/right-sized`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}", self.policy, self.accounting.name())
    }
}

/// A table to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablePlan {
    /// Which one.
    pub kind: TableKind,
    /// Its rows, in the order of the flags.
    pub rows: Vec<Row>,
}

/// A point of the sweep to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweepPlan {
    /// The usage ratio.
    pub ratio: Ratio,
    /// The rows that depend on it.
    pub rows: Vec<Row>,
}

/// Everything that a comparison runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The flags it follows from.
    pub flags: CompareFlags,
    /// The two tables.
    pub tables: [TablePlan; 2],
    /// The sweep's points beyond the usage ratio itself; empty without `--sweep`.
    pub sweep: Vec<SweepPlan>,
}

/// Why there is no plan for these flags.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// No trials, or too many.
    #[error("--trials {0} is not in 1..={TRIALS_MAX}")]
    Trials(usize),
    /// The allowance is no share.
    #[error("--pending-allowance {0} is not in 0..1")]
    PendingAllowance(f64),
    /// A list without a policy in it.
    #[error("{flag} names no policy")]
    NoPolicy {
        /// Which list.
        flag: &'static str,
    },
    /// A policy that does not exist.
    #[error("{flag}")]
    UnknownPolicy {
        /// Which list.
        flag: &'static str,
        /// Its name, and the known ones.
        source: UnknownPolicy,
    },
    /// A policy named twice.
    #[error("{flag} names {policy} twice")]
    Twice {
        /// Which list.
        flag: &'static str,
        /// Its name.
        policy: String,
    },
}

impl Plan {
    /// The plan for these flags.
    ///
    /// # Errors
    /// If a flag is out of range, or a policy is unknown or named twice.
    pub fn new(flags: CompareFlags) -> Result<Self, PlanError> {
        if !(1..=TRIALS_MAX).contains(&flags.trials) {
            return Err(PlanError::Trials(flags.trials));
        }
        if !(0.0..1.0).contains(&flags.pending_allowance) {
            return Err(PlanError::PendingAllowance(flags.pending_allowance));
        }
        let policies = find_policies("--policies", &flags.policies)?;
        let systems = match &flags.systems {
            Some(names) => find_policies("--systems", names)?,
            None => policies.clone(),
        };
        let limits = policies
            .into_iter()
            .map(|(policy, system)| Row {
                policy,
                system,
                accounting: Accounting::Limits,
                queue: Queue::RoundRobin,
            })
            .collect();
        let limits = TablePlan { kind: TableKind::Limits, rows: limits };
        let reclaimed = TablePlan {
            kind: TableKind::Reclaimed,
            rows: system_rows(&systems, flags.usage_ratio, true),
        };
        let points = if flags.sweep { flags.usage_ratio.sweep() } else { Vec::new() };
        let sweep = points
            .into_iter()
            .skip(1) // the first point is the table itself
            .map(|ratio| SweepPlan { ratio, rows: system_rows(&systems, ratio, false) })
            .collect();
        Ok(Self { flags, tables: [limits, reclaimed], sweep })
    }

    /// Rows to compact, the sweep's included.
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.tables.iter().map(|table| table.rows.len()).sum::<usize>()
            + self.sweep.iter().map(|point| point.rows.len()).sum::<usize>()
    }
}

/// Rows of the systems: Borg reclaims; Kubernetes and peers pack by requests equal to limits
/// (`with_limits`), and by right-sized requests.
fn system_rows(systems: &[(String, System)], ratio: Ratio, with_limits: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    for (policy, system) in systems {
        let accountings = match system {
            System::Borg => vec![Accounting::Reclaimed(ratio.get())],
            System::Kubernetes | System::Peer if with_limits => {
                vec![Accounting::Limits, Accounting::RightSized(ratio.get())]
            }
            System::Kubernetes | System::Peer => vec![Accounting::RightSized(ratio.get())],
        };
        rows.extend(accountings.into_iter().map(|accounting| Row {
            policy: policy.clone(),
            system: *system,
            accounting,
            queue: Queue::Own,
        }));
    }
    rows
}

fn find_policies(flag: &'static str, names: &[String]) -> Result<Vec<(String, System)>, PlanError> {
    if names.is_empty() {
        return Err(PlanError::NoPolicy { flag });
    }
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for name in names {
        let policy =
            Policy::by_name(name).map_err(|source| PlanError::UnknownPolicy { flag, source })?;
        let system = System::of(&policy);
        if !seen.insert(policy.name().to_owned()) {
            return Err(PlanError::Twice { flag, policy: name.clone() });
        }
        found.push((policy.name().to_owned(), system));
    }
    Ok(found)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn flags() -> CompareFlags {
        CompareFlags {
            trace: "google-2011-t0".to_owned(),
            policies: vec!["borg-hybrid".to_owned(), "kube-default".to_owned()],
            systems: None,
            trials: 5,
            seed: 1,
            usage_ratio: Ratio(UsageRatio::GOOGLE_2011_SAMPLE),
            sweep: true,
            pending_allowance: 0.002,
            lenient: false,
            kube_cases: Vec::new(),
            kube_decisions: Vec::new(),
        }
    }

    #[test]
    fn a_ratio_is_written_as_it_is_read() {
        let ratio: Ratio = "cpu=0.27,ram=0.79".parse().unwrap();
        assert_eq!(ratio.get(), UsageRatio::GOOGLE_2011_SAMPLE);
        let json = serde_json::to_string(&ratio).unwrap();
        assert_eq!(json, "\"cpu=0.27,ram=0.79\"");
        assert_eq!(serde_json::from_str::<Ratio>(&json).unwrap(), ratio);
        assert!(serde_json::from_str::<Ratio>("\"cpu=2,ram=0.79\"").is_err());
    }

    #[test]
    fn the_sweep_goes_in_equal_steps_to_the_limit() {
        let ratio: Ratio = "cpu=0.27,ram=0.79".parse().unwrap();
        let points: Vec<String> = ratio.sweep().iter().map(Ratio::to_string).collect();
        // 0.27 + k · 0.1825 and 0.79 + k · 0.0525, to the nearest thousandth, halves up.
        let expected = [
            "cpu=0.27,ram=0.79",
            "cpu=0.453,ram=0.843",
            "cpu=0.635,ram=0.895",
            "cpu=0.818,ram=0.948",
            "cpu=1,ram=1",
        ];
        assert_eq!(points, expected);
        assert_eq!("cpu=1,ram=1".parse::<Ratio>().unwrap().sweep().len(), 1);
    }

    #[test]
    fn kubernetes_has_two_rows_among_the_systems_and_one_in_the_sweep() {
        let plan = Plan::new(flags()).unwrap();
        let ids = |rows: &[Row]| rows.iter().map(Row::id).collect::<Vec<_>>();
        assert_eq!(ids(&plan.tables[0].rows), ["borg-hybrid/limits", "kube-default/limits"]);
        assert_eq!(
            ids(&plan.tables[1].rows),
            ["borg-hybrid/reclaimed", "kube-default/limits", "kube-default/right-sized"]
        );
        assert_eq!(plan.sweep.len(), 4);
        assert_eq!(ids(&plan.sweep[0].rows), ["borg-hybrid/reclaimed", "kube-default/right-sized"]);
        assert!(plan.tables[0].rows.iter().all(|row| row.queue == Queue::RoundRobin));
        assert_eq!(plan.row_count(), 2 + 3 + 4 * 2);
    }

    #[test]
    fn a_peer_packs_by_requests() {
        let mut flags = flags();
        flags.policies = vec!["nomad-binpack".to_owned()];
        let plan = Plan::new(flags).unwrap();
        let ids: Vec<String> = plan.tables[1].rows.iter().map(Row::id).collect();
        assert_eq!(ids, ["nomad-binpack/limits", "nomad-binpack/right-sized"]);
        assert!(plan.tables[1].rows.iter().all(|row| row.system == System::Peer));
    }

    #[test]
    fn bad_flags_are_named() {
        let check = |change: fn(&mut CompareFlags), part: &str| {
            let mut flags = flags();
            change(&mut flags);
            let error = Plan::new(flags).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        };
        check(|flags| flags.trials = 0, "--trials 0");
        check(|flags| flags.trials = TRIALS_MAX + 1, "--trials");
        check(|flags| flags.pending_allowance = 1.0, "--pending-allowance 1");
        check(|flags| flags.pending_allowance = f64::NAN, "--pending-allowance NaN");
        check(|flags| flags.policies.clear(), "--policies");
        check(|flags| flags.policies.push("kube-default".to_owned()), "twice");
        check(|flags| flags.systems = Some(vec!["no-such".to_owned()]), "--systems");
    }
}
