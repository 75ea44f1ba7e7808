//! Kubernetes' quantities: `500m`, `1.5Gi`, `2`, `1e3`.
//!
//! In: the text of a quantity and the unit that is counted. Out: a whole number of that unit, rounded
//! **up**, as kube-scheduler rounds requests and allocatable alike.
//!
//! The grammar is that of `apimachinery/pkg/api/resource`: a sign, digits with perhaps a point, and one
//! suffix of `n u m k M G T P E` (powers of 1000), `Ki Mi Gi Ti Pi Ei` (powers of 1024) or `e`/`E` and an
//! integer. It differs from [`cell::quantity`], which is for people: there is no `B`, no `K` and no white
//! space. `1E` is an exa, `1E3` a thousand.
//!
//! Digits after the eighteenth that counts are not multiplied out: that something is there is enough to
//! round up.

use super::fault::Fault;
use crate::error::quoted;

/// The most that an amount may be, exclusive: what the scheduler's scores keep exact.
pub(super) const AMOUNT_END: i64 = 1 << 53;

/// Milli-cores for CPU.
pub(super) fn milli(text: &str) -> Result<i64, Fault> {
    read(text, 3)
}

/// Bytes, or whole units of anything else.
pub(super) fn whole(text: &str) -> Result<i64, Fault> {
    read(text, 0)
}

/// `text` times ten to the power of `shift`, rounded up.
fn read(text: &str, shift: i64) -> Result<i64, Fault> {
    let nonsense = || Fault::new(format_args!("{} is not a quantity", quoted(text)));
    let too_large = || Fault::new(format_args!("{} is too large", quoted(text)));
    let (is_negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(nonsense());
    }
    let (tens, twos) = exponents(suffix).ok_or_else(nonsense)?;
    // The value is `digits` · 10^`tens` · 2^`twos`, and a little more if `more`.
    let mut tens = tens + shift - i64::try_from(fraction.len()).map_err(|_| too_large())?;
    let (mut digits, mut more) = (0_u128, false);
    for digit in whole.bytes().chain(fraction.bytes()).map(|byte| u128::from(byte - b'0')) {
        if digits < 100_000_000_000_000_000 {
            digits = digits * 10 + digit;
        } else {
            more |= digit != 0;
            tens += 1;
        }
    }
    if digits == 0 {
        return Ok(0);
    }
    if is_negative {
        return Err(Fault::new(format_args!("{} is negative", quoted(text))));
    }
    // Below 10^18 · 2^60, which is below 2^120.
    let mut amount = digits << twos;
    while tens > 0 {
        amount = amount.checked_mul(10).ok_or_else(too_large)?;
        tens -= 1;
    }
    while tens < 0 {
        more |= amount % 10 != 0;
        amount /= 10;
        tens += 1;
        if amount == 0 {
            break;
        }
    }
    i64::try_from(amount + u128::from(more))
        .ok()
        .filter(|&amount| amount < AMOUNT_END)
        .ok_or_else(too_large)
}

/// The powers of ten and of two that a suffix stands for.
fn exponents(suffix: &str) -> Option<(i64, u32)> {
    Some(match suffix {
        "n" => (-9, 0),
        "u" => (-6, 0),
        "m" => (-3, 0),
        "" => (0, 0),
        "k" => (3, 0),
        "M" => (6, 0),
        "G" => (9, 0),
        "T" => (12, 0),
        "P" => (15, 0),
        "E" => (18, 0),
        "Ki" => (0, 10),
        "Mi" => (0, 20),
        "Gi" => (0, 30),
        "Ti" => (0, 40),
        "Pi" => (0, 50),
        "Ei" => (0, 60),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            // More than an i32 is as absurd as Kubernetes finds it.
            (i64::from(exponent.parse::<i32>().ok()?), 0)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantities_are_read_in_every_form_and_rounded_up() {
        let check = |text, amount| assert_eq!(whole(text), Ok(amount), "{text}");
        check("0", 0);
        check("-0", 0);
        check("+7", 7);
        check("5.", 5);
        check(".5", 1);
        check("0.3", 1);
        check("1n", 1);
        check("1000000000n", 1);
        check("1000000001n", 2);
        check("1500u", 1);
        check("1500m", 2);
        check("2k", 2000);
        check("3M", 3_000_000);
        check("4G", 4_000_000_000);
        check("5T", 5_000_000_000_000);
        check("6P", 6_000_000_000_000_000);
        check("0.001E", 1_000_000_000_000_000);
        check("1Ki", 1024);
        check("1.5Gi", 1_610_612_736);
        check("2Ti", 2_199_023_255_552);
        check("1Pi", 1_125_899_906_842_624);
        check("0.001Ei", 1_152_921_504_606_847); // 2^60 / 1000 = 1152921504606846.976
        check("1e3", 1000);
        check("1E3", 1000);
        check("1e+3", 1000);
        check("15e-1", 2);
        check("1e-400", 1);
        check("0e400", 0);
        check("000000000000000000000000000000007", 7);
        check("1.00000000000000000000000000000000001", 2);
        check("0.000000000000000000000000000000000000000000000000001", 1);
        check("9007199254740991", 9_007_199_254_740_991); // 2^53 - 1
        let check = |text, amount| assert_eq!(milli(text), Ok(amount), "{text}");
        check("2", 2000);
        check("0.1", 100);
        check("100m", 100);
        check("100500u", 101); // 100.5 m
        check("1n", 1);
    }

    #[test]
    fn nonsense_is_refused() {
        let check = |text: &str, part: &str| {
            let problem = whole(text).unwrap_err().problem;
            assert!(problem.contains(part), "{text}: {problem}");
        };
        for text in [
            "",
            " ",
            "1 ",
            " 1",
            "1 Gi",
            "m",
            ".",
            "-",
            "1..2",
            "1.2.3",
            "--1",
            "1K",
            "1KB",
            "1GiB",
            "1kB",
            "0x10",
            "1e",
            "1e1.5",
            "1ee3",
            "nan",
            "inf",
            "NaN",
            "1_000",
            "٣",
            "1m3",
            "1e99999999999",
        ] {
            check(text, "is not a quantity");
        }
        check("-1", "negative");
        check("-1m", "negative");
        check("9007199254740992", "too large");
        check("1E", "too large");
        check("8Ei", "too large");
        check("1e400", "too large");
        check("1e2147483647", "too large");
        check("99999999999999999999999999999999999999999999", "too large");
    }

    proptest! {
        #[test]
        fn rounding_up_never_loses_and_adds_less_than_a_unit(nano in 0_i64..1_000_000_000_000_000) {
            for (text, of) in [
                (format!("{nano}n"), 1),
                (format!("{nano}e-9"), 1),
                (format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000), 1),
                (format!("{nano}u"), 1000),
            ] {
                let amount = whole(&text).unwrap();
                prop_assert!(amount * (1_000_000_000 / of) >= nano, "{}", text);
                prop_assert!((amount - 1) * (1_000_000_000 / of) < nano, "{}", text);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-+]?[0-9.]{0,30}([eE][-+]?[0-9]{0,4}|[a-zA-Z]{0,2})") {
            let _ = whole(&text);
            let _ = milli(&text);
        }
    }
}
