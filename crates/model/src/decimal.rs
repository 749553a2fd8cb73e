//! Stores exact decimal values: `DECIMAL(18,4)` as an integer of 1/10,000 units.
//!
//! Policy: no value passes through a binary float, and every digit of the text
//! takes part in rounding. A sum of values is an integer sum and so exact in
//! any order.

use std::fmt;

/// Units in the number one: four decimals.
const UNITS_PER_ONE: u64 = 10_000;

/// Decimals that a value keeps.
const N_DECIMALS: i64 = 4;

/// The first magnitude in units that 18 digits cannot hold.
const LIMIT: u64 = 10u64.pow(18);

/// Exponents are clamped to this: longer than any text, and safe to add to.
const EXPONENT_LIMIT: i64 = 1 << 56;

/// A metric value with four decimals, `-10^14 < value < 10^14`.
///
/// ```
/// # use trialog_model::decimal::Value;
/// let price = Value::parse("1.5e1")?;
/// assert_eq!(price.units(), 150_000);
/// assert_eq!(price.to_string(), "15.0000");
/// # Ok::<(), trialog_model::decimal::ValueError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(i64);

/// The reason why a text is not a metric value.
///
/// The message completes a sentence that names the field: it does not repeat
/// the text, which may be long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// Nothing, or only spaces.
    #[error("is empty: give a decimal number such as `12.34`")]
    Empty,
    /// `NaN`, `inf` or `Infinity` with any sign and in any case.
    #[error("is not finite: give a decimal number, or do not send the event")]
    NotFinite,
    /// Digits with a `0x` prefix.
    #[error("is hexadecimal: write it in decimal digits")]
    Hexadecimal,
    /// Digits grouped by, or a fraction set off with, something but a point.
    #[error("has a separator: write it without one and with a decimal point, such as `1234.56`")]
    Separator,
    /// Any other text.
    #[error("is not a number: write it in decimal digits, such as `-12.34` or `1.5e3`")]
    NotANumber,
    /// Not zero, and yet zero once rounded to four decimals.
    #[error(
        "would round to 0: four decimals are kept, so send it in a smaller unit, such as cents \
         or millionths, and define the metric in that unit"
    )]
    RoundsToZero,
    /// More than 14 digits before the point, after rounding.
    #[error("is out of range: at most 14 digits may stand before the point")]
    OutOfRange,
}

impl Value {
    /// The number one: the value of a metric event that has no value.
    pub const ONE: Self = Self(UNITS_PER_ONE as i64);

    /// Parses a decimal text, rounding half to even.
    ///
    /// Takes JSON numbers and what spreadsheets write into CSV: an optional
    /// sign (`+` too), digits with an optional point, at least one digit on
    /// either side of it (`.5` and `5.` are numbers), an optional exponent of any
    /// size, leading zeros, and white space around it all. Everything after the
    /// fourth decimal decides the rounding, however long: `0.00015` is 0.0002 and
    /// `0.000050…01` is 0.0001. What is not zero and would round to it is
    /// refused: many such values would add up to something. Time is linear in
    /// the length of the text.
    ///
    /// # Errors
    ///
    /// When the text is no such number, has more than 14 digits before the point
    /// once rounded, or is zero only because it was rounded.
    ///
    /// ```
    /// # use trialog_model::decimal::{Value, ValueError};
    /// assert_eq!(Value::parse("-2.00015"), Value::parse(b"-20002e-4"));
    /// assert_eq!(Value::parse("1e14"), Err(ValueError::OutOfRange));
    /// assert_eq!(Value::parse("NaN"), Err(ValueError::NotFinite));
    /// ```
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, ValueError> {
        parse_value(text.as_ref())
    }

    /// Converts `units` 1/10,000 to a value; `None` outside `-10^18 < units < 10^18`.
    ///
    /// ```
    /// # use trialog_model::decimal::Value;
    /// assert_eq!(Value::from_units(10_000), Some(Value::ONE));
    /// assert_eq!(Value::from_units(i64::MAX), None);
    /// ```
    pub const fn from_units(units: i64) -> Option<Self> {
        if units.unsigned_abs() < LIMIT {
            Some(Self(units))
        } else {
            None
        }
    }

    /// Returns the value in 1/10,000, `-10^18 < units < 10^18`.
    ///
    /// ```
    /// # use trialog_model::decimal::Value;
    /// assert_eq!(Value::ONE.units(), 10_000);
    /// ```
    pub const fn units(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Value {
    /// Writes four decimals always, as in `-0.5000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let magnitude = self.0.unsigned_abs();
        write!(
            f,
            "{sign}{}.{:04}",
            magnitude / UNITS_PER_ONE,
            magnitude % UNITS_PER_ONE
        )
    }
}

/// Formats an exact sum given in 1/10,000, always with four decimals.
///
/// ```
/// # use trialog_model::decimal::format_units;
/// assert_eq!(format_units(-123_400), "-12.3400");
/// ```
pub fn format_units(units: i128) -> String {
    let sign = if units < 0 { "-" } else { "" };
    let magnitude = units.unsigned_abs();
    let one = u128::from(UNITS_PER_ONE);
    format!("{sign}{}.{:04}", magnitude / one, magnitude % one)
}

/// Parses an exact sum into 1/10,000: the inverse of [`format_units`].
///
/// Also takes fewer decimals, as databases drop trailing zeros: `12.34`, `12`.
/// Nothing is rounded. `None` for any other text, such as one with a fifth
/// decimal, an exponent, a `+` or spaces, and outside the range of `i128`.
///
/// ```
/// # use trialog_model::decimal::parse_units;
/// assert_eq!(parse_units("-12.34"), Some(-123_400));
/// assert_eq!(parse_units("0.00001"), None);
/// ```
pub fn parse_units(text: &str) -> Option<i128> {
    let (is_negative, magnitude) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, decimals) = match magnitude.split_once('.') {
        Some((whole, decimals)) if (1..=4).contains(&decimals.len()) => (whole, decimals),
        Some(_) => return None,
        None => (magnitude, ""),
    };
    if whole.is_empty() {
        return None;
    }
    // Summed below zero, where `i128` reaches one further than above.
    let mut negated: i128 = 0;
    let padding = &b"0000"[decimals.len()..];
    for &digit in whole
        .as_bytes()
        .iter()
        .chain(decimals.as_bytes())
        .chain(padding)
    {
        if !digit.is_ascii_digit() {
            return None;
        }
        negated = negated
            .checked_mul(10)?
            .checked_sub(i128::from(digit - b'0'))?;
    }
    if is_negative {
        Some(negated)
    } else {
        negated.checked_neg()
    }
}

fn parse_value(text: &[u8]) -> Result<Value, ValueError> {
    let text = text.trim_ascii();
    let (is_negative, body) = match text {
        [b'-', body @ ..] => (true, body),
        [b'+', body @ ..] => (false, body),
        body => (false, body),
    };
    let Some(number) = Number::scan(body) else {
        return Err(fault(text, body));
    };
    let magnitude = number.to_units().ok_or(ValueError::OutOfRange)? as i64;
    if magnitude == 0 && !number.is_zero() {
        return Err(ValueError::RoundsToZero);
    }
    Ok(Value(if is_negative { -magnitude } else { magnitude }))
}

/// An unsigned decimal number taken apart: `whole.fraction * 10^exponent`.
struct Number<'a> {
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

impl<'a> Number<'a> {
    fn scan(text: &'a [u8]) -> Option<Self> {
        let (whole, rest) = split_digits(text);
        let (fraction, rest) = match rest {
            [b'.', rest @ ..] => split_digits(rest),
            rest => (&[][..], rest),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        Some(Self {
            whole,
            fraction,
            exponent: scan_exponent(rest)?,
        })
    }

    fn is_zero(&self) -> bool {
        let mut digits = self.whole.iter().chain(self.fraction);
        digits.all(|digit| *digit == b'0')
    }

    /// The number in 1/10,000, rounded half to even; `None` from `LIMIT` on.
    fn to_units(&self) -> Option<u64> {
        // How many of the digits, the first one included, stand at or above the
        // fourth decimal. May be negative, and may exceed the number of digits.
        let n_kept = self.whole.len() as i64 + N_DECIMALS + self.exponent;
        let n_digits = (self.whole.len() + self.fraction.len()) as i64;

        let mut units: u64 = 0;
        let mut first_dropped = 0;
        let mut is_rest_nonzero = false;
        for (idx, &digit) in (0..).zip(self.whole.iter().chain(self.fraction)) {
            let digit = digit - b'0';
            if idx < n_kept {
                units = append_digit(units, digit)?;
            } else if idx == n_kept {
                first_dropped = digit;
            } else {
                is_rest_nonzero |= digit != 0;
            }
        }
        if units != 0 {
            // At most 18 rounds: a nonzero number leaves the range after that.
            for _ in n_digits..n_kept {
                units = append_digit(units, 0)?;
            }
        }
        let rounds_up = match first_dropped {
            5 => is_rest_nonzero || units % 2 == 1,
            digit => digit > 5,
        };
        units += u64::from(rounds_up);
        (units < LIMIT).then_some(units)
    }
}

fn append_digit(units: u64, digit: u8) -> Option<u64> {
    // Units stay below 10^18, so ten times that fits.
    let units = units * 10 + u64::from(digit);
    (units < LIMIT).then_some(units)
}

/// Parses the exponent in `text`, clamped so that it never overflows; zero if there is none.
fn scan_exponent(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text {
        [] => return Some(0),
        [b'e' | b'E', b'-', digits @ ..] => (-1, digits),
        [b'e' | b'E', b'+', digits @ ..] | [b'e' | b'E', digits @ ..] => (1, digits),
        _ => return None,
    };
    if digits.is_empty() {
        return None;
    }
    let mut exponent: i64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        exponent = (exponent * 10 + i64::from(digit - b'0')).min(EXPONENT_LIMIT);
    }
    Some(sign * exponent)
}

/// Splits `text` after its leading ASCII digits.
fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    let n_digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    text.split_at(n_digits)
}

/// Describes what is wrong with `text`, whose part after the sign is `body`.
fn fault(text: &[u8], body: &[u8]) -> ValueError {
    let is = |word: &str| body.eq_ignore_ascii_case(word.as_bytes());
    if text.is_empty() {
        ValueError::Empty
    } else if is("nan") || is("inf") || is("infinity") {
        ValueError::NotFinite
    } else if let [b'0', b'x' | b'X', ..] = body {
        ValueError::Hexadecimal
    } else if body.first().is_some_and(u8::is_ascii_digit)
        && body.iter().all(|byte| b"0123456789.,_' ".contains(byte))
    {
        ValueError::Separator
    } else {
        ValueError::NotANumber
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_have_these_units() {
        let zeros = "0".repeat(1_000);
        let table = [
            ("0", 0),
            ("-0", 0),
            ("-0.0e5", 0),
            ("12.34", 123_400),
            ("-12.3456", -123_456),
            ("+1", 10_000),
            (".5", 5_000),
            ("5.", 50_000),
            (" 7\t", 70_000),
            ("007", 70_000),
            ("1E3", 10_000_000),
            ("1.5e+2", 1_500_000),
            ("12345e-4", 12_345),
            ("99999999999999.9999", 999_999_999_999_999_999),
            ("-99999999999999.9999", -999_999_999_999_999_999),
            ("99999999999999.99994", 999_999_999_999_999_999),
            ("9.99999999999999999e13", 999_999_999_999_999_999),
            // Half to even, with the deciding digit anywhere.
            ("0.00015", 2),
            ("0.00025", 2),
            ("-0.00015", -2),
            ("-0.00025", -2),
            ("0.000050000000000000000000000001", 1),
            (&format!("0.00005{zeros}1"), 1),
            (&format!("0.00014{}", "9".repeat(1_000)), 1),
            ("6e-5", 1),
            // Exponents that cancel a long mantissa, and absurd ones.
            (&format!("1{zeros}e-1000"), 10_000),
            (&format!("0.{zeros}1e1001"), 10_000),
            ("0e999999999999999999999999", 0),
        ];
        for (text, units) in table {
            assert_eq!(Value::parse(text).map(Value::units), Ok(units), "{text}");
        }
    }

    #[test]
    fn faults_are_told_apart() {
        use ValueError::*;
        let table = [
            ("", Empty),
            ("  ", Empty),
            ("NaN", NotFinite),
            ("-inf", NotFinite),
            ("+Infinity", NotFinite),
            ("0x1F", Hexadecimal),
            ("-0X1", Hexadecimal),
            ("1,234.50", Separator),
            ("1 000", Separator),
            ("1_000", Separator),
            ("-12,5", Separator),
            ("-", NotANumber),
            (".", NotANumber),
            ("e5", NotANumber),
            ("1e", NotANumber),
            ("1e+", NotANumber),
            ("1e1.5", NotANumber),
            ("--1", NotANumber),
            ("- 1", NotANumber),
            ("$5", NotANumber),
            ("12a", NotANumber),
            ("٣", NotANumber),
            ("null", NotANumber),
            ("0.00005", RoundsToZero),
            ("-0.00001", RoundsToZero),
            ("0.6e-5", RoundsToZero),
            ("1e-999999999999999999999999", RoundsToZero),
            ("1e14", OutOfRange),
            ("100000000000000", OutOfRange),
            ("-1234567890123456789", OutOfRange),
            ("99999999999999.99995", OutOfRange),
            ("1e999999999", OutOfRange),
            ("-1e99999999999999999999999", OutOfRange),
        ];
        for (text, error) in table {
            assert_eq!(Value::parse(text), Err(error), "{text}");
        }
        assert_eq!(Value::parse("1.2.3"), Err(Separator));
        assert_eq!(Value::parse(b"\xff"), Err(NotANumber));
    }

    #[test]
    fn sums_print_and_read_back_at_the_ends_of_their_range() {
        for units in [0, -1, 9_999, -10_000, i128::MAX, i128::MIN] {
            assert_eq!(parse_units(&format_units(units)), Some(units));
        }
        assert_eq!(
            parse_units("17014118346046923173168730371588410.5728"),
            None
        );
        for text in [
            "", "-", ".5", "5.", "+1", " 1", "1e3", "1.23456", "1.-2", "--1", "1.2.3",
        ] {
            assert_eq!(parse_units(text), None, "{text}");
        }
        assert_eq!(parse_units("-0.0000"), Some(0));
        assert_eq!(parse_units("7"), Some(70_000));
    }

    /// Rounds `mantissa * 10^exponent` to units by integer division.
    fn rounded_by_division(mantissa: i128, exponent: i32) -> i128 {
        let shift = exponent + 4;
        if shift >= 0 {
            return mantissa * 10i128.pow(shift.unsigned_abs());
        }
        let divisor = 10i128.pow(shift.unsigned_abs());
        let floor = mantissa.div_euclid(divisor);
        match (2 * mantissa.rem_euclid(divisor)).cmp(&divisor) {
            std::cmp::Ordering::Less => floor,
            std::cmp::Ordering::Greater => floor + 1,
            std::cmp::Ordering::Equal => floor + (floor & 1),
        }
    }

    proptest! {
        #[test]
        fn rounding_agrees_with_integer_division(mantissa: i64, exponent in -22i32..10) {
            let want = rounded_by_division(mantissa.into(), exponent);
            let got = Value::parse(format!("{mantissa}e{exponent}")).map(Value::units);
            if want == 0 && mantissa != 0 {
                prop_assert_eq!(got, Err(ValueError::RoundsToZero));
                return Ok(());
            }
            match i64::try_from(want).ok().and_then(Value::from_units) {
                Some(value) => prop_assert_eq!(got, Ok(value.units())),
                None => prop_assert_eq!(got, Err(ValueError::OutOfRange)),
            }
        }

        #[test]
        fn moving_the_point_into_the_exponent_changes_nothing(
            whole in "[0-9]{1,9}", fraction in "[0-9]{0,9}5{0,1}",
        ) {
            let plain = Value::parse(format!("{whole}.{fraction}"));
            let shifted = Value::parse(format!("{whole}{fraction}e-{}", fraction.len()));
            prop_assert_eq!(plain, shifted);
        }

        #[test]
        fn printed_values_read_back(units in -(LIMIT as i64) + 1..LIMIT as i64) {
            let value = Value::from_units(units).unwrap();
            prop_assert_eq!(Value::parse(value.to_string()), Ok(value));
            prop_assert_eq!(value.to_string(), format_units(units.into()));
        }

        #[test]
        fn printed_sums_read_back(units: i128) {
            prop_assert_eq!(parse_units(&format_units(units)), Some(units));
        }

        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>, near in "[-+.eE0-9 ,]{0,30}") {
            let _ = Value::parse(bytes);
            if let Ok(value) = Value::parse(near) {
                prop_assert!(value.units().unsigned_abs() < LIMIT);
            }
        }
    }
}
