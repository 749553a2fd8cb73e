//! Whether the numbers of a column have a decimal point or a decimal comma.

use std::borrow::Cow;

use anyhow::bail;

use crate::cli::DecimalMark;

/// What sets the fraction of a number off, and whether groups of digits may be
/// set apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Convention {
    /// `1234.56`, and nothing else: what numbers are read as unless told otherwise.
    Plain,
    /// `1,234.56`: the user has said so.
    Point,
    /// `1.234,56`.
    Comma,
}

/// What one cell shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// A whole number, or no number at all.
    Nothing,
    Point,
    Comma,
    /// `1.234`
    PointOrGroup,
    /// `1,234`
    CommaOrGroup,
}

/// Looks at every cell of a column of numbers to tell its decimal mark.
#[derive(Debug, Default)]
pub(crate) struct Decimals {
    given: Option<DecimalMark>,
    separator: Option<u8>,
    n_points: u64,
    n_commas: u64,
    doubtful_point: Option<String>,
    doubtful_comma: Option<String>,
}

impl Decimals {
    /// For a column of a file whose cells `separator` separates; `given` is
    /// what the user says about its numbers.
    pub(crate) fn new(given: Option<DecimalMark>, separator: Option<u8>) -> Self {
        Self {
            given,
            separator,
            ..Self::default()
        }
    }

    /// Takes the next trimmed cell.
    pub(crate) fn observe(&mut self, cell: &str) {
        match shown(cell) {
            Shown::Nothing => {}
            Shown::Point => self.n_points += 1,
            Shown::Comma => self.n_commas += 1,
            Shown::PointOrGroup => keep_first(&mut self.doubtful_point, cell),
            Shown::CommaOrGroup => keep_first(&mut self.doubtful_comma, cell),
        }
    }

    /// Says how the numbers of the column `name` are written.
    ///
    /// # Errors
    ///
    /// Where every fraction may be a group of three digits as well.
    pub(crate) fn decide(&self, name: &str) -> anyhow::Result<Convention> {
        match self.given {
            Some(DecimalMark::Comma) => return Ok(Convention::Comma),
            Some(DecimalMark::Point) => return Ok(Convention::Point),
            None => {}
        }
        if self.n_points > 0 {
            // Where both occur, the rows with commas are refused one by one.
            return Ok(Convention::Plain);
        }
        if self.n_commas > 0 {
            return Ok(Convention::Comma);
        }
        let is_semicolon = self.separator == Some(b';');
        let doubtful = match (&self.doubtful_comma, &self.doubtful_point) {
            (Some(cell), _) => cell,
            (None, Some(cell)) if is_semicolon => cell,
            _ => return Ok(Convention::Plain),
        };
        let digits: String = doubtful.chars().filter(|&c| c != ',' && c != '.').collect();
        bail!(
            "column `{name}` has `{doubtful}`, which may be {digits} or {}: say what its decimal mark is with --decimal comma or --decimal point",
            doubtful.replace(',', ".")
        )
    }
}

fn keep_first(first: &mut Option<String>, cell: &str) {
    if first.is_none() {
        *first = Some(cell.to_owned());
    }
}

impl Convention {
    /// The number `cell` as it is written in programs: without groups and with
    /// a decimal point.
    ///
    /// What the convention does not know stays what no number is.
    pub(crate) fn normalise(self, cell: &str) -> Cow<'_, str> {
        let (decimal, group) = match self {
            Self::Plain => return Cow::Borrowed(cell),
            Self::Point => ('.', ','),
            Self::Comma => (',', '.'),
        };
        if !cell.contains(|c: char| c == '.' || c == ',' || is_gap(c)) {
            return Cow::Borrowed(cell);
        }
        let number = Number::of(cell);
        let plain = number
            .as_ref()
            .and_then(|number| number.plain(decimal, group));
        match plain {
            Some(text) if text == cell => Cow::Borrowed(cell),
            Some(text) => Cow::Owned(text),
            // `12.50` where commas set off fractions: not to be read as 12.5.
            None if number.is_some() => Cow::Owned(cell.replace(group, "'")),
            None => Cow::Borrowed(cell),
        }
    }

    /// What the summary says, where a column is not read as numbers usually are.
    pub(super) fn note(self, name: &str) -> Option<String> {
        let says = || {
            format!(
                "`{name}`: numbers were read with a decimal comma; --decimal point reads them otherwise"
            )
        };
        (self == Self::Comma).then(says)
    }
}

/// Characters that set groups of digits apart and are no decimal marks.
fn is_gap(c: char) -> bool {
    matches!(
        c,
        ' ' | '\u{a0}' | '\u{202f}' | '\u{2009}' | '\'' | '\u{2019}'
    )
}

/// A number with marks among its digits.
struct Number<'t> {
    sign: &'t str,
    /// Digits, points, commas and gaps.
    body: &'t str,
    exponent: &'t str,
}

impl<'t> Number<'t> {
    fn of(cell: &'t str) -> Option<Self> {
        let unsigned = cell.strip_prefix(['-', '+']).unwrap_or(cell);
        let end = unsigned.find(['e', 'E']).unwrap_or(unsigned.len());
        let (body, exponent) = unsigned.split_at(end);
        let is_known = |c: char| c.is_ascii_digit() || c == '.' || c == ',' || is_gap(c);
        let is_sound = body.chars().all(is_known)
            && body.contains(|c: char| c.is_ascii_digit())
            && is_exponent(exponent);
        is_sound.then_some(Self {
            sign: &cell[..cell.len() - unsigned.len()],
            body,
            exponent,
        })
    }

    /// The number in plain digits, where its fraction follows `decimal` and its
    /// groups are set apart by `group` or by gaps, one kind of them.
    fn plain(&self, decimal: char, group: char) -> Option<String> {
        let (whole, fraction) = match self.body.split_once(decimal) {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (self.body, None),
        };
        if fraction.is_some_and(|fraction| !is_digits(fraction)) {
            return None;
        }
        let digits = ungrouped(whole, group)?;
        let point = if fraction.is_some() { "." } else { "" };
        let fraction = fraction.unwrap_or_default();
        Some(format!(
            "{}{digits}{point}{fraction}{}",
            self.sign, self.exponent
        ))
    }
}

/// The digits of `whole` without what sets its groups of three apart.
fn ungrouped(whole: &str, group: char) -> Option<String> {
    let Some(mark) = whole.chars().find(|c| !c.is_ascii_digit()) else {
        return Some(whole.to_owned());
    };
    let mut groups = whole.split(mark);
    let first = groups.next()?;
    let is_sound = (mark == group || is_gap(mark))
        && (1..=3).contains(&first.len())
        && is_digits(first)
        && groups.all(|digits| digits.len() == 3 && is_digits(digits));
    is_sound.then(|| whole.replace(mark, ""))
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_exponent(text: &str) -> bool {
    let Some(signed) = text.strip_prefix(['e', 'E']) else {
        return text.is_empty();
    };
    let digits = signed.strip_prefix(['-', '+']).unwrap_or(signed);
    !digits.is_empty() && is_digits(digits)
}

fn shown(cell: &str) -> Shown {
    let Some(number) = Number::of(cell).filter(|number| number.body.contains(['.', ','])) else {
        return Shown::Nothing;
    };
    let with_point = number.plain('.', ',');
    let with_comma = number.plain(',', '.');
    match (with_point, with_comma) {
        (Some(_), None) => Shown::Point,
        (None, Some(_)) => Shown::Comma,
        (None, None) => Shown::Nothing,
        // One mark with three digits after it: a group as well as a fraction,
        // except after a zero or before an exponent.
        (Some(_), Some(_)) => {
            let is_comma = number.body.contains(',');
            let is_fraction = number.body.starts_with('0') || !number.exponent.is_empty();
            match (is_comma, is_fraction) {
                (true, true) => Shown::Comma,
                (false, true) => Shown::Point,
                (true, false) => Shown::CommaOrGroup,
                (false, false) => Shown::PointOrGroup,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(cells: &[&str], separator: u8) -> Result<Convention, String> {
        let mut decimals = Decimals::new(None, Some(separator));
        for cell in cells {
            decimals.observe(cell);
        }
        decimals.decide("value").map_err(|error| error.to_string())
    }

    #[test]
    fn a_column_is_read_by_the_cells_that_leave_no_doubt() {
        use Convention::{Comma, Plain};
        let table: [(&[&str], Convention); 12] = [
            (&["12,50", "3"], Comma),
            (&["1.234,56"], Comma),
            (&["1.234", "0,5"], Comma),
            (&["1,234", "7,5"], Comma),
            (&["1 234,5"], Comma),
            (&["1'234,567"], Comma),
            (&["1.234.567"], Comma),
            (&["0,123"], Comma),
            (&["12.50", "1,234"], Plain),
            (&["1,234.56"], Plain),
            (&["12.50", "12,50"], Plain),
            (&["7", "x", "1e5", "1.5e3"], Plain),
        ];
        for (cells, expected) in table {
            assert_eq!(decided(cells, b','), Ok(expected), "{cells:?}");
        }
        assert_eq!(decided(&["1.234", "5"], b','), Ok(Plain));
    }

    #[test]
    fn a_column_whose_every_fraction_may_be_thousands_is_asked_about() {
        let comma = decided(&["7", "1,234", "-22,500"], b',').unwrap_err();
        assert!(
            comma.contains("`1,234`, which may be 1234 or 1.234"),
            "{comma}"
        );
        let point = decided(&["1.234", "15"], b';').unwrap_err();
        assert!(
            point.contains("`1.234`, which may be 1234 or 1.234"),
            "{point}"
        );
        assert!(decided(&["1.234", "15.5"], b';').is_ok());
    }

    #[test]
    fn numbers_are_written_plainly_and_others_are_no_numbers() {
        let table = [
            (Convention::Comma, "12,50", "12.50"),
            (Convention::Comma, "-1.234,5", "-1234.5"),
            (Convention::Comma, "1\u{202f}234\u{202f}567", "1234567"),
            (Convention::Comma, "1.234", "1234"),
            (Convention::Comma, ",5", ".5"),
            (Convention::Comma, "1,5e3", "1.5e3"),
            (Convention::Comma, "12.50", "12'50"),
            (Convention::Comma, "nan", "nan"),
            (Convention::Comma, "0,00", "0.00"),
            (Convention::Point, "1,234", "1234"),
            (Convention::Point, "1,234.5", "1234.5"),
            (Convention::Point, "12,50", "12'50"),
            (Convention::Plain, "1,234", "1,234"),
        ];
        for (convention, cell, expected) in table {
            assert_eq!(
                convention.normalise(cell),
                expected,
                "{convention:?} {cell}"
            );
        }
    }
}
