//! Requirements on labels, and the two kinds of conjunctions made of them.

use super::Labels;

/// How a requirement compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    /// Present, and one of the values.
    In,
    /// Absent, or none of the values.
    NotIn,
    /// Present.
    Exists,
    /// Absent.
    DoesNotExist,
    /// Present and an integer above the one value; for nodes alone.
    Gt,
    /// Present and an integer below the one value; for nodes alone.
    Lt,
}

impl Operator {
    /// The operator of this name, as the API spells it.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            "In" => Some(Self::In),
            "NotIn" => Some(Self::NotIn),
            "Exists" => Some(Self::Exists),
            "DoesNotExist" => Some(Self::DoesNotExist),
            "Gt" => Some(Self::Gt),
            "Lt" => Some(Self::Lt),
            _ => None,
        }
    }
}

/// A requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// How it is compared.
    pub operator: Operator,
    /// What it is compared with.
    pub values: Vec<String>,
}

impl Requirement {
    /// `key In values`.
    #[must_use]
    pub fn is_in<V: Into<String>>(key: &str, values: impl IntoIterator<Item = V>) -> Self {
        Self {
            key: key.to_owned(),
            operator: Operator::In,
            values: values.into_iter().map(Into::into).collect(),
        }
    }

    /// Whether a label with this value (`None`: absent) meets it.
    #[must_use]
    pub fn is_met(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|wanted| wanted == value);
        let against_bound = |holds: fn(&i64, &i64) -> bool| {
            let [bound] = self.values.as_slice() else { return false };
            let number = |text: &str| text.parse::<i64>().ok();
            number(bound)
                .zip(value.and_then(number))
                .is_some_and(|(bound, value)| holds(&value, &bound))
        };
        match self.operator {
            Operator::In => value.is_some_and(listed),
            Operator::NotIn => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt => against_bound(i64::gt),
            Operator::Lt => against_bound(i64::lt),
        }
    }
}

/// A label selector: all its requirements must be met, so that an empty one matches everything. Where
/// one may be absent, an absent one matches nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selector(pub Vec<Requirement>);

impl Selector {
    /// Whether labels match.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0
            .iter()
            .all(|requirement| requirement.is_met(labels.get(&requirement.key).map(String::as_str)))
    }

    /// Whether it has no requirements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A term of a node affinity: requirements on the node's labels and on its fields, of which there is one,
/// `metadata.name`. A term without any matches no node, and so does one with a value that is not valid.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeTerm {
    /// On labels.
    pub expressions: Vec<Requirement>,
    /// On fields.
    pub fields: Vec<Requirement>,
}

/// The only field of a node that a term may ask for.
pub const NODE_NAME_FIELD: &str = "metadata.name";

impl NodeTerm {
    /// Whether a node of this name with these labels matches.
    #[must_use]
    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        let expression = |requirement: &Requirement| {
            requirement.is_met(labels.get(&requirement.key).map(String::as_str))
        };
        let field = |requirement: &Requirement| {
            requirement.key == NODE_NAME_FIELD
                && !requirement.values.is_empty()
                && matches!(requirement.operator, Operator::In | Operator::NotIn)
                && requirement.is_met(Some(name))
        };
        !self.is_empty()
            && self
                .expressions
                .iter()
                .all(|requirement| requirement.is_valid() && expression(requirement))
            && self.fields.iter().all(field)
    }

    /// Whether it has no requirements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.expressions.is_empty() && self.fields.is_empty()
    }

    /// The node names that `metadata.name In …` leaves, if the term has such a requirement: the
    /// intersection over them.
    #[must_use]
    pub fn names(&self) -> Option<std::collections::BTreeSet<&str>> {
        self.fields
            .iter()
            .filter(|field| field.key == NODE_NAME_FIELD && field.operator == Operator::In)
            .map(|field| field.values.iter().map(String::as_str).collect())
            .reduce(|left: std::collections::BTreeSet<&str>, right| {
                left.intersection(&right).copied().collect()
            })
    }
}

impl Requirement {
    /// Whether the API machinery could parse it: the operators ask for none, one, or at least one value,
    /// `Gt` and `Lt` for an integer, and keys and values must be label keys and values.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let enough = match self.operator {
            Operator::In | Operator::NotIn => !self.values.is_empty(),
            Operator::Exists | Operator::DoesNotExist => self.values.is_empty(),
            Operator::Gt | Operator::Lt => {
                self.values.len() == 1 && self.values[0].parse::<i64>().is_ok()
            }
        };
        enough && is_label_key(&self.key) && self.values.iter().all(|value| is_label_value(value))
    }
}

/// Whether this is a label value: empty, or at most 63 letters, digits, `-`, `_` and `.`, with a letter or
/// digit at both ends.
#[must_use]
pub fn is_label_value(value: &str) -> bool {
    value.is_empty() || is_name(value)
}

/// Whether this is a label key: a name of at most 63 characters, perhaps behind a DNS subdomain and `/`.
#[must_use]
pub fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        None => is_name(key),
        Some((prefix, name)) => {
            let is_label = |label: &str| {
                !label.is_empty()
                    && label
                        .chars()
                        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
                    && !label.starts_with('-')
                    && !label.ends_with('-')
            };
            prefix.len() <= 253 && prefix.split('.').all(is_label) && is_name(name)
        }
    }
}

fn is_name(name: &str) -> bool {
    let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    name.len() <= 63
        && is_end(name.chars().next())
        && is_end(name.chars().last())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requirement(operator: Operator, values: &[&str]) -> Requirement {
        let values = values.iter().map(|&value| value.to_owned()).collect();
        Requirement { key: "k".to_owned(), operator, values }
    }

    #[test]
    fn every_operator_on_present_absent_and_odd_values() {
        let check = |operator, values: &[&str], value: Option<&str>, expected: bool| {
            let met = requirement(operator, values).is_met(value);
            assert_eq!(met, expected, "{operator:?} {values:?} on {value:?}");
        };
        check(Operator::In, &["a", "b"], Some("b"), true);
        check(Operator::In, &["a", "b"], Some("c"), false);
        check(Operator::In, &["a"], None, false);
        check(Operator::NotIn, &["a"], Some("a"), false);
        check(Operator::NotIn, &["a"], None, true);
        check(Operator::Exists, &[], Some(""), true);
        check(Operator::Exists, &[], None, false);
        check(Operator::DoesNotExist, &[], None, true);
        check(Operator::Gt, &["5"], Some("6"), true);
        check(Operator::Gt, &["5"], Some("5"), false);
        check(Operator::Gt, &["5"], Some("six"), false);
        check(Operator::Gt, &["5"], None, false);
        check(Operator::Lt, &["5"], Some("-4"), true);
        check(Operator::Lt, &["5", "6"], Some("4"), false);
    }

    #[test]
    fn an_empty_term_matches_nothing_and_an_empty_selector_everything() {
        assert!(!NodeTerm::default().matches("n", &Labels::new()));
        assert!(Selector::default().matches(&Labels::new()));
    }

    #[test]
    fn names_are_intersected_inside_a_term() {
        let field = |values: &[&str]| Requirement::is_in(NODE_NAME_FIELD, values.iter().copied());
        let term =
            NodeTerm { fields: vec![field(&["a", "b"]), field(&["b"])], ..NodeTerm::default() };
        assert_eq!(term.names(), Some(["b"].into()));
        assert_eq!(NodeTerm::default().names(), None);
    }

    #[test]
    fn an_invalid_value_spoils_its_term() {
        let labels: Labels = [("k".to_owned(), "v".to_owned())].into();
        let term = |r: Requirement| NodeTerm { expressions: vec![r], ..NodeTerm::default() };
        assert!(term(requirement(Operator::NotIn, &["w"])).matches("n", &labels));
        assert!(!term(requirement(Operator::NotIn, &["not a value!"])).matches("n", &labels));
        assert!(!term(requirement(Operator::NotIn, &[])).matches("n", &labels));
    }
}
