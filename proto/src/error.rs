//! What is wrong with a message, by the path of its field.

use std::fmt::Display;

/// A field of a message is missing, out of its range, or too large.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}`: {problem}")]
pub struct WireError {
    /// The path of the field within the message, e.g. `report.tasks[3].state`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl WireError {
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }

    pub(crate) fn missing(field: impl Into<String>) -> Self {
        Self::new(field, "is missing")
    }

    /// The same, seen from one message further out.
    pub(crate) fn inside(self, outer: impl Display) -> Self {
        Self { field: format!("{outer}.{}", self.field), problem: self.problem }
    }
}

/// For what cannot be wrong.
impl From<std::convert::Infallible> for WireError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

impl From<WireError> for tonic::Status {
    fn from(error: WireError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

/// Puts the name of a part before the fields that are wrong in it.
pub(crate) trait Inside<T> {
    fn inside(self, outer: impl Display) -> Result<T, WireError>;
}

impl<T> Inside<T> for Result<T, WireError> {
    fn inside(self, outer: impl Display) -> Self {
        self.map_err(|error| error.inside(outer))
    }
}

/// A part that has to be there.
pub(crate) fn required<T>(field: &str, part: Option<T>) -> Result<T, WireError> {
    part.ok_or_else(|| WireError::missing(field))
}

/// A part that has to be there and is read in its turn.
pub(crate) fn part<W, T: TryFrom<W, Error = WireError>>(
    field: &str,
    part: Option<W>,
) -> Result<T, WireError> {
    T::try_from(required(field, part)?).inside(field)
}

/// A part that may be missing.
pub(crate) fn optional<W, T: TryFrom<W, Error = WireError>>(
    field: &str,
    part: Option<W>,
) -> Result<Option<T>, WireError> {
    part.map(|part| T::try_from(part).inside(field)).transpose()
}
