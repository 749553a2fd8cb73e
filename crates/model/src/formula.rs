//! Escapes texts that a spreadsheet would compute, for CSV, and reads them again.
//!
//! A cell that begins with `=`, `+`, `-`, `@`, a tab or a carriage return is a formula to
//! spreadsheets, and a formula can send data away. Such a text gets an apostrophe in front,
//! by which spreadsheets know a text. Numbers stay as they are.

use std::borrow::Cow;

/// What spreadsheets put in front of a text.
const APOSTROPHE: char = '\'';

/// Returns `text` as a cell that no spreadsheet computes.
///
/// ```
/// use trialog_model::formula::{escaped, unescaped};
/// assert_eq!(escaped("=HYPERLINK(\"x\")"), "'=HYPERLINK(\"x\")");
/// assert_eq!(escaped("-12.5"), "-12.5");
/// assert_eq!(escaped("it's"), "it's");
/// assert_eq!(unescaped("'=HYPERLINK(\"x\")"), "=HYPERLINK(\"x\")");
/// ```
pub fn escaped(text: &str) -> Cow<'_, str> {
    match is_formula(text) {
        true => Cow::Owned(format!("{APOSTROPHE}{text}")),
        false => Cow::Borrowed(text),
    }
}

/// Reverts [`escaped`].
pub fn unescaped(cell: &str) -> &str {
    match cell.strip_prefix(APOSTROPHE) {
        Some(text) if is_formula(text) => text,
        _ => cell,
    }
}

/// Returns whether `text` begins like a formula and is not a number. Leading apostrophes are
/// skipped, so that escaping stays reversible.
fn is_formula(text: &str) -> bool {
    let begins = |letter: char| {
        matches!(
            letter,
            '=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '＝' | '＋' | '－' | '＠'
        )
    };
    let bare = text.trim_start_matches(APOSTROPHE);
    (bare.starts_with(begins) || bare.trim_start().starts_with(begins)) && !is_number(text)
}

/// Whether `text` is a decimal number with a minus or without.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let are_digits =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    are_digits(whole) && are_digits(fraction)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_spreadsheet_would_compute_is_a_text() {
        for text in [
            "=1+1", "+1", "-1+cmd", "@SUM(1)", "\t=1", "\r=1", " =1", "-", "＝1", "'=1",
        ] {
            assert_eq!(escaped(text), format!("'{text}"));
        }
        for text in ["", "a=1", "-7", "-12.5", "7", "{\"a\":1}", "'a", "a-b"] {
            assert_eq!(escaped(text), text);
        }
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in "['=+@\t -]{0,3}[a-z0-9.=]{0,4}") {
            let cell = escaped(&text);
            prop_assert_eq!(unescaped(&cell), text.as_str());
            prop_assert!(!cell.starts_with(['=', '+', '@', '\t']));
        }
    }
}
