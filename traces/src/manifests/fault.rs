//! What is wrong with an object: a field, by its path from the object's top, and why.

use std::fmt;

use crate::error::{one_line, quoted};

/// A step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// To the value of a key.
    Key(String),
    /// To an item of a list.
    Index(usize),
}

/// A wrong field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The path, innermost step first.
    path: Vec<Step>,
    /// What is wrong there.
    pub(super) problem: String,
}

impl Fault {
    /// A problem of the value at hand itself.
    pub(super) fn new(problem: impl fmt::Display) -> Self {
        Self { path: Vec::new(), problem: one_line(&problem.to_string()) }
    }

    /// A problem of the value at hand's own `key`.
    pub(super) fn of(key: &str, problem: impl fmt::Display) -> Self {
        Self::new(problem).within(key)
    }

    /// The same as seen from the map that holds the value under `key`; dots in it lead further.
    pub(super) fn within(mut self, key: &str) -> Self {
        self.path.extend(key.rsplit('.').map(|key| Step::Key(key.to_owned())));
        self
    }

    /// The same as seen from the map that holds the value under this very `key`.
    pub(super) fn under(mut self, key: &str) -> Self {
        self.path.push(Step::Key(key.to_owned()));
        self
    }

    /// The same as seen from the list that holds the value at `index`.
    pub(super) fn at(mut self, index: usize) -> Self {
        self.path.push(Step::Index(index));
        self
    }

    /// The path, outermost step first.
    pub(super) fn path(&self) -> impl Iterator<Item = &Step> {
        self.path.iter().rev()
    }

    /// The path as the API server writes it: `spec.containers[0].resources.requests[nvidia.com/gpu]`.
    pub(super) fn field(&self) -> String {
        let mut field = String::new();
        for step in self.path() {
            match step {
                Step::Key(key) if key.chars().all(char::is_alphanumeric) && !key.is_empty() => {
                    if !field.is_empty() {
                        field.push('.');
                    }
                    field.push_str(key);
                }
                Step::Key(key) => {
                    let shown = quoted(key);
                    field.push('[');
                    field.push_str(shown.trim_matches('"'));
                    field.push(']');
                }
                Step::Index(index) => field.push_str(&format!("[{index}]")),
            }
        }
        one_line(&field)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "field `{}`: {}", self.field(), self.problem)
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message)
    }

    // Without the texts, which may be whole files.
    fn invalid_type(found: serde::de::Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        if let serde::de::Unexpected::Str(text) = found {
            return Self::new(format_args!("the text {} is not {expected}", quoted(text)));
        }
        Self::new(format_args!("{found} is not {expected}"))
    }
}

/// Reads each item of a list that may be absent; a fault says which.
pub(super) fn each<'a, T, U>(
    key: &str,
    items: impl IntoIterator<Item = &'a T>,
    read: impl Fn(&'a T) -> Result<U, Fault>,
) -> Result<Vec<U>, Fault>
where
    T: 'a,
{
    items
        .into_iter()
        .enumerate()
        .map(|(index, item)| read(item).map_err(|fault| fault.at(index).within(key)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_the_api_server_writes_it() {
        let fault = Fault::new("bad").under("nvidia.com/gpu").within("resources.requests");
        let fault = fault.at(3).within("spec.containers");
        assert_eq!(fault.field(), "spec.containers[3].resources.requests[nvidia.com/gpu]");
        assert_eq!(Fault::new("a\nb").problem, "a b");
    }
}
