//! Formats numbers and times: all rounding of the dashboard happens here.
//!
//! A number shows no more digits than are real. An estimate has as many
//! decimals as its uncertainty has to two significant digits, a count all of
//! its digits, a p-value three. What cannot be a number is [`NONE`], and a
//! zero has no sign.

/// The text in place of a missing number.
pub(crate) const NONE: &str = "n/a";

/// Beyond these many decimals, or digits before the point, powers of ten are shown.
const MOST_DECIMALS: i32 = 7;
const MOST_DIGITS: i32 = 15;

/// Whether a positive number shows its sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// Values: only a negative one has a sign.
    Minus,
    /// Differences: a plus as well.
    Both,
}

/// Formats a whole number with thousands separators: `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    grouped(&number.to_string())
}

/// Formats the exact decimal `text` with thousands separators and without trailing zeros:
/// `2,895.25`.
pub(crate) fn exact(text: &str) -> String {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("−", digits),
        None => ("", text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    let shown = format!("{}{point}{fraction}", grouped(whole));
    if shown == "0" {
        shown
    } else {
        format!("{sign}{shown}")
    }
}

/// Returns the decimals at which `uncertainty` has two significant digits; negative if digits
/// before the point are rounded.
pub(crate) fn decimals_of(uncertainty: f64) -> Option<i32> {
    (uncertainty.is_finite() && uncertainty > 0.0).then(|| 1 - magnitude(uncertainty, 2))
}

/// Returns the decimals at which `number` has `digits` significant digits.
pub(crate) fn decimals_for(number: f64, digits: i32) -> i32 {
    if number.is_finite() && number != 0.0 {
        digits - 1 - magnitude(number, digits)
    } else {
        0
    }
}

/// Formats `number` rounded to `decimals`.
pub(crate) fn rounded(number: f64, decimals: i32, sign: Sign) -> String {
    if !number.is_finite() {
        return NONE.to_owned();
    }
    if number != 0.0 && (decimals > MOST_DECIMALS || magnitude(number, 1) >= MOST_DIGITS) {
        let digits = (decimals + magnitude(number, 1)).clamp(0, 3);
        return power_of_ten(number, digits, sign);
    }
    let places = usize::try_from(decimals.clamp(0, MOST_DECIMALS)).unwrap_or(0);
    let unit = 10_f64.powi((-decimals).max(0));
    let text = format!(
        "{:.places$}",
        (number.abs() / unit).round_to(decimals) * unit
    );
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let point = if fraction.is_empty() { "" } else { "." };
    format!(
        "{}{}{point}{fraction}",
        prefix(number, &text, sign),
        grouped(whole)
    )
}

/// Formats `number` with `digits` significant digits, without trailing zeros.
pub(crate) fn significant(number: f64, digits: i32, sign: Sign) -> String {
    let shown = rounded(number, decimals_for(number, digits), sign);
    if shown.contains('.') && !shown.contains('×') {
        shown.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        shown
    }
}

/// Formats a p-value with three significant digits, with limits at both ends.
pub(crate) fn p_value(p_value: f64) -> String {
    if !p_value.is_finite() {
        NONE.to_owned()
    } else if p_value < 0.0001 {
        "< 0.0001".to_owned()
    } else if p_value > 0.999 {
        "> 0.999".to_owned()
    } else {
        rounded(p_value, decimals_for(p_value, 3), Sign::Minus)
    }
}

/// Formats `p = 0.0499`, or `p < 0.0001`.
pub(crate) fn p_is(p: f64) -> String {
    let shown = p_value(p);
    let equals = if shown.starts_with(['<', '>']) {
        ""
    } else {
        "= "
    };
    format!("p {equals}{shown}")
}

/// Formats the reached share of the planned sample in whole percent, rounded down so that 100 %
/// means all of it.
pub(crate) fn progress(share: f64) -> String {
    let percent = (share * 100.0).floor();
    if !percent.is_finite() {
        NONE.to_owned()
    } else if share > 0.0 && percent < 1.0 {
        "< 1 %".to_owned()
    } else {
        format!("{} %", rounded(percent, 0, Sign::Minus))
    }
}

/// Formats `2026-11-23T11:12:52.261697Z` as `2026-11-23 11:12 UTC`.
pub(crate) fn minute(rfc3339: &str) -> String {
    match (rfc3339.get(..10), rfc3339.get(11..16)) {
        (Some(day), Some(time)) if rfc3339.ends_with('Z') => format!("{day} {time} UTC"),
        _ => rfc3339.to_owned(),
    }
}

/// Formats how long ago something was: `5 min ago`.
pub(crate) fn ago(micros: i64) -> String {
    let minutes = micros / 60_000_000;
    match minutes {
        ..1 => "just now".to_owned(),
        1..120 => format!("{minutes} min ago"),
        120..2_880 => format!("{} h ago", minutes / 60),
        _ => format!("{} days ago", minutes / 1_440),
    }
}

/// The power of ten of the first digit, once `number` is rounded to `digits`.
fn magnitude(number: f64, digits: i32) -> i32 {
    let places = usize::try_from(digits - 1).unwrap_or(0);
    let text = format!("{number:.places$e}");
    let power = text
        .rsplit_once('e')
        .and_then(|(_, power)| power.parse().ok());
    power.unwrap_or(0)
}

fn prefix(number: f64, digits: &str, sign: Sign) -> &'static str {
    let is_zero = !digits.bytes().any(|digit| (b'1'..=b'9').contains(&digit));
    match (number < 0.0, sign) {
        _ if is_zero => "",
        (true, _) => "−",
        (false, Sign::Both) => "+",
        (false, Sign::Minus) => "",
    }
}

/// `digits` in groups of three from the right.
fn grouped(digits: &str) -> String {
    let mut shown = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

fn power_of_ten(number: f64, decimals: i32, sign: Sign) -> String {
    let places = usize::try_from(decimals).unwrap_or(0);
    let text = format!("{:.places$e}", number.abs());
    let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
    let raised = |sign: char| match sign {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        digit => char::from_u32(0x2070 + digit.to_digit(10).unwrap_or(0)).unwrap_or(digit),
    };
    let power: String = power.chars().map(raised).collect();
    format!("{}{digits} × 10{power}", prefix(number, digits, sign))
}

trait RoundTo {
    fn round_to(self, decimals: i32) -> Self;
}

impl RoundTo for f64 {
    /// Rounds to whole tens or more if `decimals` is negative; otherwise returns the number,
    /// because printing rounds it.
    fn round_to(self, decimals: i32) -> Self {
        if decimals < 0 { self.round() } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_exact_sums_keep_every_digit() {
        let counts = [0, 7, 999, 1_000, 1_234_567].map(count);
        assert_eq!(counts, ["0", "7", "999", "1,000", "1,234,567"]);
        let sums = [
            "0.0000",
            "-0.0000",
            "2895.2500",
            "-1234567.5000",
            "12.0000",
            "0.0001",
        ]
        .map(exact);
        assert_eq!(sums, ["0", "0", "2,895.25", "−1,234,567.5", "12", "0.0001"]);
    }

    #[test]
    fn an_estimate_has_the_digits_that_its_uncertainty_leaves() {
        for (number, uncertainty, shown) in [
            (0.0136544, 0.0060533, "0.0137"),
            (5.0, 3.6573, "5.0"),
            (-25.37, 20.5, "−25"),
            (1_234_567.8, 4_321.0, "1,234,600"),
            (-0.00001, 0.02, "0.000"),
            (0.9996, 0.03, "1.000"),
            (149.0, 870.0, "150"),
            (0.0, 0.0061, "0.0000"),
            (2.123, 0.999_999_9, "2.1"),
        ] {
            let decimals = decimals_of(uncertainty).unwrap();
            assert_eq!(
                rounded(number, decimals, Sign::Minus),
                shown,
                "{number} ± {uncertainty}"
            );
        }
        assert_eq!(decimals_of(0.0), None);
        assert_eq!(decimals_of(f64::NAN), None);
    }

    #[test]
    fn differences_show_their_sign_and_zero_has_none() {
        for (number, shown) in [
            (1.25, "+1.2"),
            (-1.26, "−1.3"),
            (0.0, "0.0"),
            (-0.0, "0.0"),
            (-0.04, "0.0"),
            (0.04, "0.0"),
        ] {
            assert_eq!(rounded(number, 1, Sign::Both), shown);
        }
    }

    #[test]
    fn what_is_no_number_is_said_to_be_none() {
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(rounded(number, 2, Sign::Both), NONE);
            assert_eq!(significant(number, 3, Sign::Minus), NONE);
            assert_eq!(p_value(number), NONE);
            assert_eq!(progress(number), NONE);
        }
    }

    #[test]
    fn very_large_and_very_small_numbers_are_powers_of_ten() {
        assert_eq!(significant(1.234e18, 3, Sign::Minus), "1.23 × 10¹⁸");
        assert_eq!(significant(-4.5e-10, 3, Sign::Both), "−4.50 × 10⁻¹⁰");
        assert_eq!(rounded(3.0e-9, 10, Sign::Both), "+3.0 × 10⁻⁹");
        assert_eq!(significant(f64::MAX, 3, Sign::Minus), "1.80 × 10³⁰⁸");
        assert_eq!(significant(5e-324, 3, Sign::Minus), "4.94 × 10⁻³²⁴");
    }

    #[test]
    fn significant_digits_have_no_zeros_at_their_end() {
        for (number, shown) in [
            (50.0, "50"),
            (33.333_333, "33.33"),
            (0.0, "0"),
            (0.000_123_45, "0.0001234"),
            (12_345.6, "12,350"),
        ] {
            assert_eq!(significant(number, 4, Sign::Minus), shown);
        }
    }

    #[test]
    fn p_values_have_three_digits_and_limits() {
        for (p, shown) in [
            (0.0, "< 0.0001"),
            (0.000_099, "< 0.0001"),
            (0.000_123_4, "0.000123"),
            (0.007_419_6, "0.00742"),
            (0.049_9, "0.0499"),
            (0.113_95, "0.114"),
            (0.999_5, "> 0.999"),
            (1.0, "> 0.999"),
        ] {
            assert_eq!(p_value(p), shown);
        }
        assert_eq!([0.05, 0.0].map(p_is), ["p = 0.0500", "p < 0.0001"]);
    }

    #[test]
    fn progress_is_rounded_down() {
        for (share, shown) in [
            (0.0, "0 %"),
            (0.004, "< 1 %"),
            (0.0613, "6 %"),
            (0.9999, "99 %"),
            (1.0, "100 %"),
            (12.5, "1,250 %"),
        ] {
            assert_eq!(progress(share), shown);
        }
    }

    #[test]
    fn times_are_shown_to_the_minute_and_as_an_age() {
        assert_eq!(
            minute("2026-11-23T11:12:52.261697Z"),
            "2026-11-23 11:12 UTC"
        );
        assert_eq!(minute("soon"), "soon");
        let minutes = [-5, 0, 1, 119, 120, 2_879, 2_880].map(|minutes| ago(minutes * 60_000_000));
        assert_eq!(
            minutes,
            [
                "just now",
                "just now",
                "1 min ago",
                "119 min ago",
                "2 h ago",
                "47 h ago",
                "2 days ago"
            ]
        );
    }
}
