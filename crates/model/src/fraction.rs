//! Parses fractions as people write them: `0.1`, or `10%`.

/// The reason why a text is not a fraction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("give a fraction such as 0.1, or a percentage such as 10%")]
pub struct NotAFraction;

/// Parses a fraction, plain or in percent: `10%` is 0.1.
///
/// # Errors
///
/// The text is neither, or not finite.
///
/// ```
/// use trialog_model::fraction::parse;
/// assert_eq!(parse("0.1"), Ok(0.1));
/// assert_eq!(parse("10%"), Ok(0.1));
/// assert_eq!(parse("-2.5 %"), Ok(-0.025));
/// assert!(parse("ten").is_err());
/// ```
pub fn parse(text: &str) -> Result<f64, NotAFraction> {
    let text = text.trim();
    match text.strip_suffix('%') {
        Some(percent) => hundredth(percent),
        None => number(text),
    }
}

/// A difference, absolute or relative.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// In the unit of the value, as `0.01` is and `1pp`, a percentage point.
    Absolute(f64),
    /// A fraction of the value, as `5%` is.
    Relative(f64),
}

/// The reason why a text is not a difference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("give a difference: absolute such as 0.01 or 1pp, or relative such as 5%")]
pub struct NotAChange;

/// Parses a difference: `0.01` and `1pp` are absolute, `5%` is relative.
///
/// # Errors
///
/// The text is none of them, or not finite.
///
/// ```
/// use trialog_model::fraction::{Change, parse_change};
/// assert_eq!(parse_change("0.01"), Ok(Change::Absolute(0.01)));
/// assert_eq!(parse_change("1pp"), Ok(Change::Absolute(0.01)));
/// assert_eq!(parse_change("5%"), Ok(Change::Relative(0.05)));
/// ```
pub fn parse_change(text: &str) -> Result<Change, NotAChange> {
    let text = text.trim();
    let change = match (text.strip_suffix("pp"), text.strip_suffix('%')) {
        (Some(points), _) => hundredth(points).map(Change::Absolute),
        (None, Some(percent)) => hundredth(percent).map(Change::Relative),
        (None, None) => number(text).map(Change::Absolute),
    };
    change.map_err(|_| NotAChange)
}

/// The decimal `text` shifted by two places, so that `10%` is the double nearest to 0.1.
fn hundredth(text: &str) -> Result<f64, NotAFraction> {
    let text = text.trim();
    number(text)?;
    match text.contains(['e', 'E']) {
        true => Ok(number(text)? / 100.0),
        false => number(&format!("{text}e-2")),
    }
}

fn number(text: &str) -> Result<f64, NotAFraction> {
    let number = text.parse().map_err(|_| NotAFraction)?;
    match f64::is_finite(number) {
        true => Ok(number),
        false => Err(NotAFraction),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_the_double_nearest_to_its_fraction() {
        for (percent, plain) in [
            ("0.7%", "0.007"),
            ("5 %", "0.05"),
            ("95%", "0.95"),
            ("1e1%", "0.1"),
        ] {
            assert_eq!(parse(percent), parse(plain), "{percent}");
        }
    }

    #[test]
    fn what_is_no_finite_number_is_refused() {
        for bad in [
            "",
            "%",
            "x%",
            "5%%",
            "inf",
            "NaN",
            "1e999",
            "5 percent",
            "pp",
        ] {
            assert_eq!(parse(bad), Err(NotAFraction), "{bad}");
            assert_eq!(parse_change(bad), Err(NotAChange), "{bad}");
        }
        assert_eq!(parse("1pp"), Err(NotAFraction));
    }
}
