//! How many pods a disruption budget lets go.
//!
//! The status says, if there is one. If not, what the disruption controller would put there:
//! `healthy - desired`, at least 0, with desired as `minAvailable`, or as expected less `maxUnavailable`;
//! percentages are of the pods expected, rounded up. Healthy is a pod that is bound, stays, and does not
//! say that it is not ready; expected are the pods that the controllers of matching pods want.
//!
//! Source: `pkg/controller/disruption`, v1.36.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::dump::Protection;
use super::fault::Fault;
use crate::error::quoted;

/// What is counted of the pods that a budget selects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Health {
    /// How many are healthy.
    pub(super) healthy: i64,
    /// How many there should be.
    pub(super) expected: i64,
}

/// How many may go. The number or percentage has been checked.
pub(super) fn allowed(protection: &Protection, health: Health) -> i64 {
    let Health { healthy, expected } = health;
    let of = |bound: &IntOrString| scaled(bound, expected).unwrap_or(expected);
    let desired = match protection {
        Protection::Allowed(allowed) => return (*allowed).max(0),
        Protection::MinAvailable(min) => of(min),
        Protection::MaxUnavailable(max) => (expected - of(max)).max(0),
        Protection::Unsaid => return 0,
    };
    (healthy - desired).max(0)
}

/// A number as it is, or a percentage of `total`, rounded up.
pub(super) fn scaled(bound: &IntOrString, total: i64) -> Result<i64, Fault> {
    match bound {
        IntOrString::Int(number @ 0..) => Ok(i64::from(*number)),
        IntOrString::Int(number) => Err(Fault::new(format_args!("{number} is negative"))),
        IntOrString::String(text) => {
            let percent = text
                .strip_suffix('%')
                .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|digits| digits.parse::<u32>().ok())
                .filter(|&percent| percent <= 100)
                .ok_or_else(|| {
                    Fault::new(format_args!("{} is no number and no percentage", quoted(text)))
                })?;
            let hundredths = i128::from(percent) * i128::from(total);
            // Neither is negative.
            Ok(i64::try_from((hundredths + 99) / 100).unwrap_or(i64::MAX))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_budget_allows() {
        let check = |protection: Protection, healthy, expected, result| {
            let health = Health { healthy, expected };
            assert_eq!(allowed(&protection, health), result, "{protection:?} {health:?}");
        };
        let percent = |text: &str| IntOrString::String(text.to_owned());
        check(Protection::Allowed(3), 0, 0, 3);
        check(Protection::MinAvailable(IntOrString::Int(2)), 5, 5, 3);
        check(Protection::MinAvailable(IntOrString::Int(9)), 5, 5, 0);
        check(Protection::MinAvailable(percent("50%")), 5, 5, 2); // 5 - ceil(2.5)
        check(Protection::MaxUnavailable(IntOrString::Int(1)), 5, 5, 1);
        check(Protection::MaxUnavailable(IntOrString::Int(1)), 4, 5, 0); // one is away already
        check(Protection::MaxUnavailable(percent("25%")), 5, 5, 2); // 5 - (5 - ceil(1.25))
        check(Protection::Unsaid, 5, 5, 0);
    }

    #[test]
    fn a_bound_is_a_number_or_a_percentage() {
        for text in ["", "%", "5", "-5%", "101%", "x%", "1.5%", "+5%"] {
            assert!(scaled(&IntOrString::String(text.to_owned()), 10).is_err(), "{text}");
        }
        assert!(scaled(&IntOrString::Int(-1), 10).is_err());
    }
}
