//! Constraints on a machine's attributes, hard (must hold) or soft (a preference).
//!
//! Semantics as in Google's traces: `=`, `!=` and `in` compare strings, and an absent attribute
//! counts as the empty string; `<` and `>` compare integers, and do not hold where the attribute is
//! absent or not an integer. Source: Borg (EuroSys '15) §2.3; clusterdata-2011-2 `task_constraints`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A machine's attributes by name.
pub type Attributes = BTreeMap<String, String>;

/// What is asked of one attribute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Predicate {
    /// `=`: equal as strings.
    Equal(String),
    /// `!=`: not equal as strings.
    NotEqual(String),
    /// `<`: an integer below this one.
    Less(i64),
    /// `>`: an integer above this one.
    Greater(i64),
    /// `exists`: present, whatever its value.
    Exists,
    /// `in`: equal to one of these strings.
    In(BTreeSet<String>),
}

/// Whether a machine that breaks a constraint is ruled out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strength {
    /// Ruled out.
    Hard,
    /// Kept, but scored lower: the score's term is the weight of the soft constraints that hold,
    /// over the weight of all of them.
    Soft {
        /// 1..=1000, relative to the job's other soft constraints.
        weight: u32,
    },
}

/// One constraint of a job.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Constraint {
    /// The attribute's name.
    pub attribute: String,
    /// What is asked of it.
    pub predicate: Predicate,
    /// Hard or soft.
    pub strength: Strength,
}

impl Constraint {
    /// Whether a machine with these attributes satisfies it.
    #[must_use]
    pub fn holds(&self, attributes: &Attributes) -> bool {
        let value = attributes.get(&self.attribute);
        let text = value.map_or("", String::as_str);
        let number = || text.parse::<i64>().ok();
        match &self.predicate {
            Predicate::Equal(wanted) => text == wanted,
            Predicate::NotEqual(unwanted) => text != unwanted,
            Predicate::Less(bound) => number().is_some_and(|n| n < *bound),
            Predicate::Greater(bound) => number().is_some_and(|n| n > *bound),
            Predicate::Exists => value.is_some(),
            Predicate::In(wanted) => wanted.contains(text),
        }
    }

    /// Whether it is hard.
    #[must_use]
    pub fn is_hard(&self) -> bool {
        self.strength == Strength::Hard
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.attribute;
        match &self.predicate {
            Predicate::Equal(value) => write!(f, "{name} = {value}"),
            Predicate::NotEqual(value) => write!(f, "{name} != {value}"),
            Predicate::Less(bound) => write!(f, "{name} < {bound}"),
            Predicate::Greater(bound) => write!(f, "{name} > {bound}"),
            Predicate::Exists => write!(f, "{name} exists"),
            Predicate::In(values) => {
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                write!(f, "{name} in {{{}}}", values.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(predicate: Predicate, value: Option<&str>, expected: bool) {
        let attributes: Attributes =
            value.map(|v| ("a".to_owned(), v.to_owned())).into_iter().collect();
        let constraint =
            Constraint { attribute: "a".to_owned(), predicate, strength: Strength::Hard };
        assert_eq!(constraint.holds(&attributes), expected, "{constraint} on {value:?}");
    }

    #[test]
    fn every_operator_on_present_absent_and_odd_values() {
        let text = |s: &str| s.to_owned();
        check(Predicate::Equal(text("x")), Some("x"), true);
        check(Predicate::Equal(text("x")), Some("y"), false);
        check(Predicate::Equal(text("")), None, true); // absent counts as the empty string
        check(Predicate::NotEqual(text("x")), Some("y"), true);
        check(Predicate::NotEqual(text("x")), Some("x"), false);
        check(Predicate::NotEqual(text("x")), None, true);
        check(Predicate::Less(5), Some("4"), true);
        check(Predicate::Less(5), Some("5"), false);
        check(Predicate::Less(5), Some("-7"), true);
        check(Predicate::Less(5), Some("four"), false);
        check(Predicate::Less(5), None, false);
        check(Predicate::Greater(5), Some("6"), true);
        check(Predicate::Greater(5), Some("5"), false);
        check(Predicate::Greater(5), None, false);
        check(Predicate::Exists, Some(""), true);
        check(Predicate::Exists, None, false);
        let two = || Predicate::In([text("x"), text("y")].into());
        check(two(), Some("y"), true);
        check(two(), Some("z"), false);
        check(two(), None, false);
    }
}
