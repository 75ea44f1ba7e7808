//! Numbers as the page, the figures and the terminal write them.

/// A count with a comma after every three digits: `12,477`.
pub use fauxmaster::table::grouped as count;

/// A count and its noun, which takes an `s` unless the count is 1: `1 trial`, `11 trials`.
#[must_use]
pub fn counted(value: usize, noun: &str) -> String {
    let plural = if value == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(value))
}

/// A number with so many decimals, commas and a true minus sign: `−1,140.5`. No negative zero.
#[must_use]
pub fn decimal(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    // More digits than a usize holds are left as they are.
    let whole = whole.parse().map_or_else(|_| whole.to_owned(), count);
    let is_zero = text.chars().all(|c| c == '0' || c == '.');
    let sign = if value < 0.0 && !is_zero { "−" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{whole}{point}{fraction}")
}

/// Like [`decimal`], with a plus sign before what is above zero: `+8.5`.
#[must_use]
pub fn signed(value: f64, decimals: usize) -> String {
    let text = decimal(value, decimals);
    let is_zero = text.chars().all(|c| matches!(c, '0' | '.' | ','));
    if value > 0.0 && !is_zero { format!("+{text}") } else { text }
}

/// A fraction in percent: `percent(0.085, 1)` is `8.5 %`, with a space that does not break.
#[must_use]
pub fn percent(fraction: f64, decimals: usize) -> String {
    format!("{}\u{a0}%", decimal(fraction * 100.0, decimals))
}

/// A fraction in percent with its sign: `+8.5 %`.
#[must_use]
pub fn signed_percent(fraction: f64, decimals: usize) -> String {
    format!("{}\u{a0}%", signed(fraction * 100.0, decimals))
}

/// A fraction in percent with as many decimals as it needs, at most four: `27 %`, `0.2 %`.
#[must_use]
pub fn share(fraction: f64) -> String {
    format!("{}\u{a0}%", rounded(fraction * 100.0, 4))
}

/// A p-value: three decimals, and `< 0.001` below.
#[must_use]
pub fn p_value(p: f64) -> String {
    if p < 0.001 { "<\u{a0}0.001".to_owned() } else { format!("{p:.3}") }
}

/// Rounded to so many decimals, for results that must not depend on the last bit of a `libm`.
#[must_use]
pub fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10_f64.powi(decimals);
    // Adding zero turns a negative zero into a positive one.
    (value * scale).round() / scale + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_readers() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(12477), "12,477");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(counted(1, "trial"), "1 trial");
        assert_eq!(counted(11, "trial"), "11 trials");
        assert_eq!(decimal(-1140.46, 1), "−1,140.5");
        assert_eq!(decimal(-0.04, 1), "0.0");
        assert_eq!(decimal(1e20, 0), "100000000000000000000");
        assert_eq!(signed(8.54, 1), "+8.5");
        assert_eq!(signed(0.01, 1), "0.0");
        assert_eq!(signed(-2.0, 0), "−2");
        assert_eq!(percent(0.085, 1), "8.5\u{a0}%");
        assert_eq!(share(0.002), "0.2\u{a0}%");
        assert_eq!(share(0.007), "0.7\u{a0}%"); // 0.007 · 100 is 0.7000000000000001
        assert_eq!(share(1.0), "100\u{a0}%");
        assert_eq!(p_value(0.0004), "<\u{a0}0.001");
        assert_eq!(p_value(0.25), "0.250");
        assert!(rounded(-0.000_000_1, 3).is_sign_positive());
        assert_eq!(rounded(1.234_56, 3), 1.235);
    }
}
