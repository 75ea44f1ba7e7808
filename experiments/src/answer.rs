//! The question's answer in words: how many machines under Borg's placement, and how many under
//! Kubernetes'?
//!
//! In: a table. Out: a sentence with the numbers, and its parts for the page. Names a winner only where
//! the paired difference allows it ([`Verdict`]); otherwise it says why not.

use fauxmaster::stats::Verdict;
use serde::Serialize;

use crate::number;
use crate::plan::{System, TableKind};
use crate::results::{Pair, RowResult, Table};

/// The answer that one table gives.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// Which table.
    #[serde(rename = "table")]
    pub kind: TableKind,
    /// The sentence.
    pub sentence: String,
    /// The rows it speaks of: Borg's best first, then Kubernetes' best under each accounting.
    pub rows: Vec<AnswerRow>,
}

/// A row that an answer speaks of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AnswerRow {
    /// Its name.
    pub row: String,
    /// Whose placement.
    pub system: System,
    /// What it packs, in the table of systems: "right-sized requests".
    pub detail: Option<&'static str>,
    /// Name of the policy.
    pub policy: String,
    /// 90th percentile of the machines needed.
    pub machines_p90: usize,
    /// This row against Borg's best, this row first; null in Borg's own row, or without one.
    pub against_borg: Option<Verdict>,
    /// The same in words.
    pub verdict: Option<String>,
}

impl Answer {
    /// The answer that a table gives.
    #[must_use]
    pub fn of(table: &Table) -> Self {
        let borg = best(table.rows.iter().filter(|row| row.system == System::Borg));
        let mut accountings: Vec<&str> = Vec::new();
        for row in table.rows.iter().filter(|row| row.system == System::Kubernetes) {
            if !accountings.contains(&row.accounting) {
                accountings.push(row.accounting);
            }
        }
        let kubernetes: Vec<&RowResult> = accountings
            .iter()
            .filter_map(|accounting| {
                best(table.rows.iter().filter(|row| {
                    row.system == System::Kubernetes && row.accounting == *accounting
                }))
            })
            .collect();
        let rows = borg
            .into_iter()
            .chain(kubernetes.iter().copied())
            .map(|row| {
                let pair = borg.and_then(|borg| table.pair(&row.id, &borg.id));
                AnswerRow {
                    row: row.id.clone(),
                    system: row.system,
                    detail: detail(table.kind, row),
                    policy: row.policy.clone(),
                    machines_p90: row.machines.p90,
                    against_borg: pair.as_ref().map(|pair| pair.verdict),
                    verdict: pair.as_ref().map(in_words),
                }
            })
            .collect();
        Self { kind: table.kind, sentence: sentence(table, borg, &kubernetes), rows }
    }
}

/// The row that needs the fewest machines, the first of several.
fn best<'a>(rows: impl Iterator<Item = &'a RowResult>) -> Option<&'a RowResult> {
    rows.min_by_key(|row| row.machines.p90)
}

/// What a row packs, where rows of one table differ in it: in the table of systems.
#[must_use]
pub fn detail(kind: TableKind, row: &RowResult) -> Option<&'static str> {
    match (kind, row.system, row.accounting) {
        (TableKind::Limits, _, _) => None,
        (TableKind::Reclaimed, System::Borg, "reclaimed") => Some("reclaiming"),
        (TableKind::Reclaimed, System::Kubernetes | System::Peer, "limits") => {
            Some("requests = limits")
        }
        (TableKind::Reclaimed, System::Kubernetes | System::Peer, "right-sized") => {
            Some("right-sized requests")
        }
        (TableKind::Reclaimed, System::Borg | System::Kubernetes | System::Peer, _) => None,
    }
}

fn sentence(table: &Table, borg: Option<&RowResult>, kubernetes: &[&RowResult]) -> String {
    let rules = match table.kind {
        TableKind::Limits => "By limits",
        TableKind::Reclaimed => "By their own rules",
    };
    let mut text = match borg {
        Some(borg) => format!(
            "{rules}, this workload needs {} under Borg’s placement ({})",
            number::counted(borg.machines.p90, "machine"),
            borg.policy
        ),
        None => format!("{rules}, no policy of Borg was compared"),
    };
    if kubernetes.is_empty() {
        text.push_str("; no policy of Kubernetes was compared");
    }
    let it = if borg.is_some() { "it" } else { "this workload" };
    for (index, row) in kubernetes.iter().enumerate() {
        let whose = match index {
            0 => format!("; under Kubernetes’ placement ({}) {it} needs", row.policy),
            _ if row.policy == kubernetes[0].policy => "; and".to_owned(),
            _ => format!("; and ({})", row.policy),
        };
        text.push_str(&format!("{whose} {}", number::count(row.machines.p90)));
        if let Some(detail) = detail(table.kind, row) {
            text.push_str(&format!(" with {detail}"));
        }
        if let Some(pair) = borg.and_then(|borg| table.pair(&row.id, &borg.id)) {
            text.push_str(&format!(", {}", in_words(&pair)));
        }
    }
    text.push('.');
    text
}

/// A pair's verdict on its first row, in words, with the numbers that it rests on.
#[must_use]
pub fn in_words(pair: &Pair) -> String {
    let machines = number::decimal(pair.mean_difference.abs(), 0);
    match (pair.verdict, pair.interval) {
        (Verdict::TooFewTrials, _) | (_, None) => {
            "no winner: one trial gives no interval".to_owned()
        }
        (Verdict::NoDifference, _) => "no winner: the same in every trial".to_owned(),
        (Verdict::IntervalSpansZero, Some(interval)) => format!(
            "no winner: the 95 % interval of the difference, {} to {}, spans 0",
            number::signed(interval.low, 1),
            number::signed(interval.high, 1)
        ),
        (Verdict::NotAfterCorrection, Some(_)) => format!(
            "no winner: the difference does not survive the correction for the number of pairs, \
             p {}",
            p_in_words(pair.p_holm)
        ),
        (Verdict::FirstNeedsFewer | Verdict::SecondNeedsFewer, Some(interval)) => {
            let more = if pair.mean_difference < 0.0 { "fewer" } else { "more" };
            let (low, high) = (interval.low.abs(), interval.high.abs());
            if pair.constant {
                format!("{machines} {more} in every trial")
            } else {
                format!(
                    "on average {machines} {more} (95 % interval {} to {})",
                    number::decimal(low.min(high), 0),
                    number::decimal(low.max(high), 0)
                )
            }
        }
    }
}

fn p_in_words(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_owned() } else { format!("= {p:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::flags;
    use crate::results::Results;
    use crate::run::example;

    #[test]
    fn the_answer_names_both_numbers_and_the_interval() {
        let results = Results::of(&example::run());
        let [limits, systems] = results.answers.as_slice() else { panic!("two answers") };
        for (answer, count) in [(limits, 2), (systems, 3)] {
            assert_eq!(answer.rows.len(), count);
            for row in &answer.rows {
                let machines = number::count(row.machines_p90);
                assert!(answer.sentence.contains(&machines), "{}", answer.sentence);
            }
            assert!(answer.sentence.contains("more") && answer.sentence.contains("95 %"));
        }
        assert!(systems.sentence.contains("requests = limits"));
        assert!(systems.sentence.contains("right-sized"));
        assert_eq!(limits.rows[0].against_borg, None);
        assert_eq!(limits.rows[1].against_borg, Some(Verdict::SecondNeedsFewer));
    }

    #[test]
    fn one_trial_names_no_winner() {
        let mut flags = flags();
        flags.trials = 1;
        let results = Results::of(&example::run_with(flags));
        for answer in &results.answers {
            assert!(answer.sentence.contains("no winner"), "{}", answer.sentence);
            assert!(!answer.sentence.contains("more"), "{}", answer.sentence);
        }
    }

    #[test]
    fn one_side_alone_is_said_so() {
        let check = |policy: &str, part: &str| {
            let mut flags = flags();
            flags.policies = vec![policy.to_owned()];
            let results = Results::of(&example::run_with(flags));
            for answer in &results.answers {
                assert!(answer.sentence.contains(part), "{}", answer.sentence);
            }
        };
        check("borg-hybrid", "no policy of Kubernetes");
        check("kube-default", "no policy of Borg");
    }

    #[test]
    fn a_winner_is_refused_where_the_interval_spans_zero() {
        let pair = |verdict, low, high| Pair {
            first: "a".to_owned(),
            second: "b".to_owned(),
            mean_difference: (low + high) / 2.0,
            interval: Some(fauxmaster::stats::Interval { low, high }),
            constant: low == high,
            p: 0.01,
            p_holm: 0.06,
            verdict,
        };
        let check = |pair: &Pair, expected: &str| assert_eq!(in_words(pair), expected);
        check(
            &pair(Verdict::IntervalSpansZero, -2.0, 10.5),
            "no winner: the 95 % interval of the difference, −2.0 to +10.5, spans 0",
        );
        check(
            &pair(Verdict::NotAfterCorrection, 2.0, 10.0),
            "no winner: the difference does not survive the correction for the number of pairs, \
             p = 0.060",
        );
        check(
            &pair(Verdict::FirstNeedsFewer, -1200.0, -1000.0),
            "on average 1,100 fewer (95 % interval 1,000 to 1,200)",
        );
        check(&pair(Verdict::SecondNeedsFewer, 7.0, 7.0), "7 more in every trial");
    }
}
