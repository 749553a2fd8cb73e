//! Classifies texts in tables and JSON: numbers, zero, missing values, placeholder ids.
//!
//! Every form that events are read from asks here, so that the same table
//! means the same events as CSV, NDJSON, Parquet or an HTTP body.

use std::borrow::Cow;

/// Digits of the longest whole number that is written out; BIGINT has 19.
const MAX_DIGITS: usize = 64;

/// Returns whether `text` is a number as JSON writes it.
///
/// An optional minus, digits without a leading zero, an optional fraction and
/// an optional exponent. Identifiers such as `0072` or `+1` are not numbers.
///
/// ```
/// # use trialog_model::cell::is_number;
/// assert!(is_number("1e+05") && is_number("-7.0"));
/// assert!(!is_number("0072") && !is_number("12e") && !is_number(""));
/// ```
pub fn is_number(text: &str) -> bool {
    Parts::from_text(text).is_some()
}

/// Parses a whole number and returns its shortest decimal form.
///
/// `None` where the text is not a JSON number, has a fraction other than zero,
/// or has more than 64 digits.
///
/// ```
/// # use trialog_model::cell::whole_number;
/// assert_eq!(whole_number("1e+05").as_deref(), Some("100000"));
/// assert_eq!(whole_number("-123.0").as_deref(), Some("-123"));
/// assert_eq!(whole_number("1.5"), None);
/// ```
pub fn whole_number(text: &str) -> Option<Cow<'_, str>> {
    let parts = Parts::from_text(text)?;
    let is_plain = text.bytes().skip(1).all(|byte| byte.is_ascii_digit());
    if is_plain && text != "-0" {
        return (parts.whole.len() <= MAX_DIGITS).then_some(Cow::Borrowed(text));
    }
    let digits = [parts.whole, parts.fraction].concat();
    let significant = digits.trim_end_matches('0');
    let leading = significant.len() - significant.trim_start_matches('0').len();
    if significant.len() == leading {
        return Some(Cow::Borrowed("0"));
    }
    // The decimal point stands after this many of the digits.
    let point = parts.whole.len() as i64 + parts.exponent;
    let n_digits = usize::try_from(point).ok()?.checked_sub(leading)?;
    if significant.len() as i64 > point || n_digits > MAX_DIGITS {
        return None;
    }
    let sign = if parts.is_negative { "-" } else { "" };
    let shown = &significant[leading..];
    Some(Cow::Owned(format!("{sign}{shown:0<n_digits$}")))
}

/// Parses `true` and `false`, whatever their case.
///
/// ```
/// # use trialog_model::cell::boolean;
/// assert_eq!([boolean("True"), boolean("FALSE")], [Some(true), Some(false)]);
/// assert_eq!([boolean("yes"), boolean("1")], [None, None]);
/// ```
pub fn boolean(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// Returns whether `text` writes zero, however it is spelled: `0`, `-0.00`, `.0`, `0e+00`.
///
/// ```
/// # use trialog_model::cell::is_zero;
/// assert!(is_zero("-0.0") && is_zero("0e+00"));
/// assert!(!is_zero("0.001") && !is_zero("") && !is_zero("0x0"));
/// ```
pub fn is_zero(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (
            mantissa,
            exponent.strip_prefix(['-', '+']).unwrap_or(exponent),
        ),
        None => (unsigned, "0"),
    };
    let zeros = mantissa.replacen('.', "", 1);
    let is_digits = !exponent.is_empty() && exponent.bytes().all(|byte| byte.is_ascii_digit());
    is_digits && !zeros.is_empty() && zeros.bytes().all(|byte| byte == b'0')
}

/// Words that programs write where they have no value; compared without case.
const NO_VALUE: &[&str] = &[
    "null",
    "(null)",
    "<null>",
    "undefined",
    "none",
    "nil",
    "nan",
    "<na>",
    "nat",
    "#n/a",
    "n/a",
    "\\n",
];

/// Returns whether `text` is what programs write for "no value": blank, `null`, `\N` and the like.
///
/// `NA` is one in capital letters only, as R writes it.
///
/// ```
/// # use trialog_model::cell::is_no_value;
/// assert!(is_no_value(" ") && is_no_value("NULL") && is_no_value("\\N") && is_no_value("NA"));
/// assert!(!is_no_value("nan-1") && !is_no_value("0"));
/// ```
pub fn is_no_value(text: &str) -> bool {
    let trimmed = text.trim_matches(is_blank);
    trimmed.is_empty()
        || trimmed == "NA"
        || NO_VALUE
            .iter()
            .any(|word| trimmed.eq_ignore_ascii_case(word))
}

/// Returns whether a user id is a placeholder, a word that names no user in particular.
///
/// What [`is_no_value`] knows, and `[object Object]`, which JavaScript writes
/// where it was handed a whole object.
///
/// ```
/// # use trialog_model::cell::is_placeholder_id;
/// assert!(is_placeholder_id("undefined") && is_placeholder_id("[object Object]"));
/// assert!(!is_placeholder_id("anna"));
/// ```
pub fn is_placeholder_id(text: &str) -> bool {
    is_no_value(text)
        || text
            .trim_matches(is_blank)
            .eq_ignore_ascii_case("[object object]")
}

/// White space, and characters that show nothing.
fn is_blank(character: char) -> bool {
    character.is_whitespace()
        || character.is_control()
        || matches!(character, '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}')
}

/// A JSON number taken apart.
struct Parts<'t> {
    is_negative: bool,
    whole: &'t str,
    fraction: &'t str,
    /// Clamped to what no text can fill with digits.
    exponent: i64,
}

impl<'t> Parts<'t> {
    fn from_text(text: &'t str) -> Option<Self> {
        let (is_negative, unsigned) = match text.strip_prefix('-') {
            Some(unsigned) => (true, unsigned),
            None => (false, text),
        };
        let (whole, rest) = split_digits(unsigned);
        let (fraction, rest) = match rest.strip_prefix('.') {
            Some(rest) => split_digits(rest),
            None => ("", rest),
        };
        let has_point = unsigned.len() > whole.len() && unsigned.as_bytes()[whole.len()] == b'.';
        let is_sound = !whole.is_empty()
            && (whole == "0" || !whole.starts_with('0'))
            && (!has_point || !fraction.is_empty());
        is_sound.then_some(())?;
        Some(Self {
            is_negative,
            whole,
            fraction,
            exponent: exponent(rest)?,
        })
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    let n_digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at(n_digits)
}

fn exponent(text: &str) -> Option<i64> {
    if text.is_empty() {
        return Some(0);
    }
    let signed = text.strip_prefix(['e', 'E'])?;
    let digits = signed.strip_prefix(['-', '+']).unwrap_or(signed);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let size = digits.parse().unwrap_or(i64::MAX / 4).min(i64::MAX / 4);
    Some(if signed.starts_with('-') { -size } else { size })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn whole_numbers_are_recognised_however_written() {
        let table = [
            ("0", "0"),
            ("-0", "0"),
            ("0.000", "0"),
            ("0e99999999999999999999", "0"),
            ("-0.0e-5", "0"),
            ("3e3", "3000"),
            ("1e+05", "100000"),
            ("1.0", "1"),
            ("12.50e1", "125"),
            ("120e-1", "12"),
            ("9007199254740993.0", "9007199254740993"),
            ("18446744073709551615", "18446744073709551615"),
            ("-123.0", "-123"),
            ("0.01e2", "1"),
        ];
        for (text, expected) in table {
            assert_eq!(whole_number(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "1.5",
            "1e-1",
            "12e-1",
            "1e99",
            "0072",
            "+1",
            "1.",
            ".5",
            "",
            "-",
            "1e",
            "0x10",
            "NaN",
            "1e99999999999999999999",
        ] {
            assert_eq!(whole_number(text), None, "{text}");
        }
    }

    #[test]
    fn names_of_people_are_not_taken_for_nobody() {
        for text in [
            "nobody",
            "nil2",
            "na",
            "0",
            "nullius",
            "\\n1",
            "none@example.com",
        ] {
            assert!(!is_placeholder_id(text), "{text}");
        }
        for text in [
            "",
            " ",
            "\t",
            "\u{feff}",
            "Null",
            "UNDEFINED",
            "None",
            "NaN",
            "\\N",
            "[object Object]",
            "nil",
            "<NA>",
        ] {
            assert!(is_placeholder_id(text), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn an_integer_scaled_and_scaled_back_is_itself(number: i64, shift in 0usize..30) {
            let zeros = "0".repeat(shift);
            let expected = number.to_string();
            let spellings = [
                format!("{number}{zeros}e-{shift}"),
                format!("{number}.{zeros}0"),
                expected.clone(),
            ];
            for spelling in spellings {
                let whole = whole_number(&spelling);
                prop_assert_eq!(whole.as_deref(), Some(expected.as_str()));
            }
        }

        #[test]
        fn a_number_is_one_for_json_too(text in "[-+0-9.eE]{0,8}") {
            prop_assert_eq!(is_number(&text), serde_json::from_str::<serde_json::Number>(&text).is_ok() || is_huge(&text));
        }
    }

    /// JSON's grammar allows exponents that its numbers cannot hold.
    fn is_huge(text: &str) -> bool {
        serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok() && !text.is_empty()
    }
}
