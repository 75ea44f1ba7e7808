//! Quantities as people write them: `500m` or `0.5` cores, `512MiB`, `1.5 GiB`, `64Gi`.
//!
//! Read exactly (decimal arithmetic, no floats) and rounded **up** to the unit, so that a limit never
//! shrinks. Forms as in Kubernetes' quantities and the usual byte suffixes.

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use crate::resources::{Bytes, MilliCpu};

/// Why a text is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a number at all, not a finite one, or one with more digits than a decimal holds.
    #[error("{0:?} is not a finite number")]
    NotANumber(String),
    /// Below zero.
    #[error("{0:?} is negative")]
    Negative(String),
    /// Above what the unit can count.
    #[error("{0:?} is too large")]
    TooLarge(String),
    /// A suffix that we do not know.
    #[error("{0:?} has an unknown unit; known are {1}")]
    UnknownUnit(String, &'static str),
}

/// A decimal number, plain or in scientific notation, read exactly; never negative.
///
/// # Errors
/// If the text is no finite number, or is negative.
pub fn decimal(text: &str) -> Result<Decimal, QuantityError> {
    let trimmed = text.trim();
    let parsed = if trimmed.contains(['e', 'E']) {
        Decimal::from_scientific(trimmed)
    } else {
        trimmed.parse()
    };
    let number = parsed.map_err(|_| QuantityError::NotANumber(text.to_owned()))?;
    if number.is_sign_negative() && !number.is_zero() {
        return Err(QuantityError::Negative(text.to_owned()));
    }
    Ok(number)
}

/// `number · unit`, rounded up to an integer.
///
/// # Errors
/// If the result does not fit 53 bits, the most that the scheduler's scores keep exact.
pub fn scaled_up(number: Decimal, unit: u64) -> Result<u64, QuantityError> {
    let too_large = || QuantityError::TooLarge(number.to_string());
    number
        .checked_mul(Decimal::from(unit))
        .and_then(|product| product.ceil().to_u64())
        .filter(|&amount| amount < 1 << 53)
        .ok_or_else(too_large)
}

impl MilliCpu {
    /// Reads cores (`0.5`, `16`) or milli-cores (`500m`), rounded up to the milli-core.
    ///
    /// # Errors
    /// If the text is no such quantity.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        match text.trim().strip_suffix('m') {
            Some(milli) => scaled_up(decimal(milli)?, 1).map(Self),
            None => scaled_up(decimal(text)?, 1000).map(Self),
        }
    }
}

impl Bytes {
    /// Reads bytes (`1048576`) or a number with a unit: `k`, `M`, `G`, `T` are powers of 1000, `Ki`,
    /// `Mi`, `Gi`, `Ti` powers of 1024; a trailing `B` is allowed. Rounded up to the byte.
    ///
    /// # Errors
    /// If the text is no such quantity.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let trimmed = text.trim();
        let unit_at = trimmed
            .char_indices()
            // An `e` or `E` before a digit or sign belongs to the number (`1e9`).
            .find(|&(at, c)| {
                c.is_ascii_alphabetic()
                    && !(matches!(c, 'e' | 'E')
                        && trimmed[at + 1..].starts_with(|n: char| n.is_ascii_digit() || n == '-'))
            })
            .map_or(trimmed.len(), |(at, _)| at);
        let (number, unit) = trimmed.split_at(unit_at);
        let unit = match unit.trim_end_matches('B') {
            "" => 1,
            "k" | "K" => 1000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            "T" => 1_000_000_000_000,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            "Ti" => 1 << 40,
            _ if number.trim().is_empty() => {
                return Err(QuantityError::NotANumber(text.to_owned()));
            }
            _ => {
                return Err(QuantityError::UnknownUnit(
                    text.to_owned(),
                    "k, M, G, T, Ki, Mi, Gi, Ti, each with or without B",
                ));
            }
        };
        scaled_up(decimal(number)?, unit).map(Self)
    }
}

/// Reads a quantity that is a number or a text in YAML or JSON.
struct QuantityVisitor {
    expects: &'static str,
}

impl Visitor<'_> for QuantityVisitor {
    type Value = String;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.expects)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<String, E> {
        // The shortest text that reads back as this float is what the author wrote.
        Ok(number.to_string())
    }
}

impl<'de> Deserialize<'de> for MilliCpu {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expects = "cores (0.5) or milli-cores (\"500m\")";
        let text = deserializer.deserialize_any(QuantityVisitor { expects })?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expects = "bytes (1048576) or a size (\"1.5GiB\")";
        let text = deserializer.deserialize_any(QuantityVisitor { expects })?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

/// A value that may be written as a text, an integer or a boolean, and is kept as text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Scalar(pub String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;
        impl Visitor<'_> for ScalarVisitor {
            type Value = Scalar;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text, an integer or a boolean")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar(text.to_owned()))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
        }
        deserializer.deserialize_any(ScalarVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cpu_is_read_exactly_and_rounded_up() {
        let check = |text, milli| assert_eq!(MilliCpu::parse(text), Ok(MilliCpu(milli)), "{text}");
        check("2", 2000);
        check("0.1", 100); // 0.1 as a float times 1000 would be just above 100
        check("500m", 500);
        check("0.0001", 1); // 0.1 m, rounded up
        check("1e-3", 1);
        check("0", 0);
    }

    #[test]
    fn bytes_are_read_in_every_unit() {
        let check = |text, bytes| assert_eq!(Bytes::parse(text), Ok(Bytes(bytes)), "{text}");
        check("1048576", 1_048_576);
        check("1.5GiB", 1_610_612_736); // 1.5 · 2^30
        check("1.5 Gi", 1_610_612_736);
        check("2kB", 2000);
        check("1e9", 1_000_000_000);
        check("1e3Ki", 1_024_000);
        check("0.3", 1); // rounded up
    }

    #[test]
    fn bad_quantities_say_what_is_wrong_with_them() {
        let check = |text: &str, part: &str| {
            let message = Bytes::parse(text).unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        };
        check("-1", "negative");
        check("nan", "not a finite number");
        check("inf", "not a finite number");
        check("", "not a finite number");
        check("5 apples", "unknown unit");
        check("1e20", "too large");
        assert!(MilliCpu::parse("-0.5").is_err());
        assert!(MilliCpu::parse("NaN").is_err());
    }

    proptest! {
        #[test]
        fn a_number_of_units_reads_back(bytes in 0_u64..1 << 53) {
            prop_assert_eq!(Bytes::parse(&bytes.to_string()), Ok(Bytes(bytes)));
        }

        #[test]
        fn rounding_up_never_loses_and_adds_less_than_a_unit(nano in 0_u64..1_000_000_000_000) {
            let text = format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000);
            let MilliCpu(milli) = MilliCpu::parse(&text).unwrap();
            prop_assert!(milli * 1_000_000 >= nano);
            prop_assert!(milli * 1_000_000 < nano + 1_000_000);
        }
    }
}
