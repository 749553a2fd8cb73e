//! Reads numbers with a decimal comma, and with groups of three digits.

use std::borrow::Cow;

use clap::ValueEnum;

/// The decimal separator of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Decimal {
    Comma,
    Point,
}

impl Decimal {
    fn sign(self) -> char {
        match self {
            Self::Comma => ',',
            Self::Point => '.',
        }
    }
}

/// Evidence from the cells of a column about how its numbers are written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Evidence {
    has_comma: bool,
    has_point: bool,
    /// A number such as `1,234`, in which the comma may have either meaning.
    unclear_comma: Option<String>,
    /// A number such as `1.234`.
    unclear_point: Option<String>,
}

impl Evidence {
    /// Adds the evidence of a number.
    pub(crate) fn add(&mut self, text: &str) {
        if !text.contains([',', '.']) {
            return;
        }
        let body = unsigned(text);
        let is_other = |character: char| {
            !(character.is_ascii_digit()
                || matches!(character, ',' | '.' | 'e' | 'E' | '+' | '-')
                || is_space(character))
        };
        if body.contains(is_other) {
            return;
        }
        let (mantissa, exponent) = match body.find(['e', 'E']) {
            Some(at) => body.split_at(at),
            None => (body, ""),
        };
        let commas = mantissa.matches(',').count();
        let points = mantissa.matches('.').count();
        match (commas, points) {
            (1, 1..) if mantissa.rfind(',') > mantissa.rfind('.') => {
                self.has_comma |= has_groups(mantissa, '.', ',');
            }
            (1.., 1) if mantissa.rfind('.') > mantissa.rfind(',') => {
                self.has_point |= has_groups(mantissa, ',', '.');
            }
            (1, 0) if exponent.is_empty() && is_group(mantissa, ',') => {
                self.unclear_comma.get_or_insert_with(|| text.to_owned());
            }
            (0, 1) if exponent.is_empty() && is_group(mantissa, '.') => {
                self.unclear_point.get_or_insert_with(|| text.to_owned());
            }
            (1, 0) => self.has_comma = true,
            (0, 1) => self.has_point = true,
            (2.., 0) => self.has_point |= has_groups(mantissa, ',', '.'),
            (0, 2..) => self.has_comma |= has_groups(mantissa, '.', ','),
            _ => {}
        }
    }

    /// Decides how the numbers are written; `Err` is a number that could be read in two ways.
    pub(crate) fn decimal(&self, has_semicolons: bool) -> Result<Decimal, &str> {
        match (self.has_comma, self.has_point) {
            (true, false) => Ok(Decimal::Comma),
            (_, true) => Ok(Decimal::Point),
            (false, false) => {
                let point = self.unclear_point.as_deref().filter(|_| has_semicolons);
                match self.unclear_comma.as_deref().or(point) {
                    Some(unclear) => Err(unclear),
                    None => Ok(Decimal::Point),
                }
            }
        }
    }
}

/// Rewrites a number with a decimal point and without groups. A number that is not written with
/// `decimal` stays as it is, and is then not a number.
pub(crate) fn plain(text: &str, decimal: Decimal) -> Cow<'_, str> {
    let has_spaces = text.contains(is_space);
    if !text.contains(',') && !has_spaces && decimal == Decimal::Point {
        return Cow::Borrowed(text);
    }
    let (point, group) = match decimal {
        Decimal::Comma => (',', '.'),
        Decimal::Point => ('.', ','),
    };
    let body = unsigned(text);
    let mantissa = body.split(['e', 'E']).next().unwrap_or(body);
    let groups = [group, ' '];
    let without_spaces: String = (mantissa.chars())
        .map(|sign| if is_space(sign) { ' ' } else { sign })
        .collect();
    let whole = without_spaces.split(point).next().unwrap_or_default();
    let used: Vec<char> = groups
        .into_iter()
        .filter(|group| whole.contains(*group))
        .collect();
    let is_sound = match used.as_slice() {
        [] => !without_spaces.contains([group, ' ']),
        [one] => has_groups(&without_spaces, *one, point),
        _ => false,
    };
    if !is_sound {
        // A point where a comma is the decimal sign must not be read as one.
        return match decimal {
            Decimal::Comma => Cow::Owned(format!("{text},")),
            Decimal::Point => Cow::Borrowed(text),
        };
    }
    let digits: String = (text.chars())
        .filter(|sign| *sign != group && !is_space(*sign))
        .map(|sign| if sign == decimal.sign() { '.' } else { sign })
        .collect();
    Cow::Owned(digits)
}

fn unsigned(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix(['-', '+']).unwrap_or(text)
}

/// Returns whether a character is a space that separates groups of digits.
fn is_space(character: char) -> bool {
    matches!(
        character,
        ' ' | '\u{a0}' | '\u{202f}' | '\u{2009}' | '\'' | '\u{2019}'
    )
}

/// Returns whether the digits before `point` are in groups of three separated by `group`, without
/// `group` after `point`.
fn has_groups(number: &str, group: char, point: char) -> bool {
    let (whole, fraction) = number.split_once(point).unwrap_or((number, ""));
    let mut parts = whole.split(group);
    let first = parts.next().unwrap_or_default();
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    (1..=3).contains(&first.len())
        && is_digits(first)
        && parts.all(|part| part.len() == 3 && is_digits(part))
        && is_digits(fraction)
}

/// Whether a number of one to three digits, `sign` and three digits may be a group.
fn is_group(number: &str, sign: char) -> bool {
    !number.starts_with('0')
        && number.split_once(sign).is_some_and(|(whole, rest)| {
            let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
            (1..=3).contains(&whole.len()) && rest.len() == 3 && is_digits(whole) && is_digits(rest)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(texts: &[&str], has_semicolons: bool) -> Result<Decimal, String> {
        let mut evidence = Evidence::default();
        for text in texts {
            evidence.add(text);
        }
        evidence.decimal(has_semicolons).map_err(str::to_owned)
    }

    #[test]
    fn a_column_tells_its_decimal_sign_where_one_number_does() {
        let comma: [&[&str]; 6] = [
            &["12,50"],
            &["1.234,56"],
            &["1,234", "0,5"],
            &["1.234.567"],
            &["1 234,5"],
            &["-3,14e2"],
        ];
        for texts in comma {
            assert_eq!(decided(texts, false), Ok(Decimal::Comma), "{texts:?}");
        }
        let point: [&[&str]; 6] = [
            &["12.50"],
            &["1,234.56"],
            &["1,234", "0.5"],
            &["1,234,567"],
            &["12", ""],
            &["1.234"],
        ];
        for texts in point {
            assert_eq!(decided(texts, false), Ok(Decimal::Point), "{texts:?}");
        }
        assert_eq!(decided(&["1,234"], false), Err("1,234".to_owned()));
        assert_eq!(decided(&["7", "1.234"], true), Err("1.234".to_owned()));
        assert_eq!(decided(&["2.5", "1.234"], true), Ok(Decimal::Point));
    }

    #[test]
    fn numbers_are_written_plainly() {
        for (text, expected) in [
            ("12,50", "12.50"),
            ("-1.234,56", "-1234.56"),
            ("1 234 567,8", "1234567.8"),
            ("1\u{202f}234", "1234"),
            ("7", "7"),
            ("1,5e3", "1.5e3"),
        ] {
            assert_eq!(plain(text, Decimal::Comma), expected, "{text}");
        }
        for (text, expected) in [
            ("1,234.56", "1234.56"),
            ("1,234,567", "1234567"),
            ("1 234.5", "1234.5"),
            ("12.5", "12.5"),
            // Not written with a decimal point, so it stays what is no number.
            ("12,50", "12,50"),
            ("1,23,456", "1,23,456"),
            ("1 23", "1 23"),
        ] {
            assert_eq!(plain(text, Decimal::Point), expected, "{text}");
        }
        for text in ["12.5", "1.23,4", "1,234.5", "1 2,3"] {
            let plain = plain(text, Decimal::Comma);
            assert!(
                trialog_model::decimal::Value::parse(plain.as_ref()).is_err(),
                "{text}"
            );
        }
    }
}
