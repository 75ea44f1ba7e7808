//! What is wrong with a configuration, and in which field.

use std::fmt::{Display, Write};

/// A field that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The field's path inside what was read: `args.resources[0].weight`.
    path: String,
    problem: String,
}

pub(super) type Read<T> = Result<T, Fault>;

impl Fault {
    pub(super) fn new(field: &str, problem: impl Display) -> Self {
        Self { path: field.to_owned(), problem: problem.to_string() }
    }

    /// The same, seen from the object that holds `field`.
    pub(super) fn within(mut self, field: &str) -> Self {
        if !self.path.is_empty() && !self.path.starts_with('[') {
            self.path.insert(0, '.');
        }
        self.path.insert_str(0, field);
        self
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { path, problem } = self;
        if !path.is_empty() {
            write!(f, "{}: ", path.escape_debug())?;
        }
        problem.chars().try_for_each(|c| f.write_char(if c.is_control() { ' ' } else { c }))
    }
}

/// Reads each item of a list.
pub(super) fn each<T, U>(
    field: &str,
    items: Option<Vec<T>>,
    mut read: impl FnMut(T) -> Read<U>,
) -> Read<Vec<U>> {
    let items = items.into_iter().flatten().enumerate();
    items
        .map(|(i, item)| read(item).map_err(|fault| fault.within(&format!("{field}[{i}]"))))
        .collect()
}

/// A number of a range.
pub(super) fn in_range(field: &str, value: i64, range: std::ops::RangeInclusive<i64>) -> Read<i64> {
    if range.contains(&value) {
        return Ok(value);
    }
    let (least, most) = range.into_inner();
    Err(Fault::new(
        field,
        match most {
            i64::MAX => format!("{value} is not at least {least}"),
            _ => format!("{value} is not in {least}..={most}"),
        },
    ))
}

/// That no two items of a list have the same key.
pub(super) fn check_distinct<T: Ord + Display>(
    field: &str,
    keys: impl IntoIterator<Item = T>,
) -> Read<()> {
    let mut seen = std::collections::BTreeSet::new();
    for (i, key) in keys.into_iter().enumerate() {
        let problem = format!("{key} was there before");
        if !seen.insert(key) {
            return Err(Fault::new(&format!("{field}[{i}]"), problem));
        }
    }
    Ok(())
}
