//! Orders versions by Semantic Versioning 2.0.0.

use std::cmp::Ordering;

/// Compares two versions; `None` if one of them is not a version. A leading `v` and missing minor
/// and patch numbers are allowed; what follows `+` is ignored.
pub(crate) fn compare(a: &str, b: &str) -> Option<Ordering> {
    let (a, b) = (Version::parse(a)?, Version::parse(b)?);
    Some(a.core.cmp(&b.core).then_with(|| pre_releases(a.pre, b.pre)))
}

/// Returns whether `text` is a version.
pub(crate) fn is_version(text: &str) -> bool {
    Version::parse(text).is_some()
}

struct Version<'t> {
    core: [u64; 3],
    /// Dotted identifiers; empty for a release.
    pre: &'t str,
}

impl<'t> Version<'t> {
    fn parse(text: &'t str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let text = text.split_once('+').map_or(text, |(version, _)| version);
        let (core, pre) = match text.split_once('-') {
            Some((_, "")) => return None,
            Some((core, pre)) => (core, pre),
            None => (text, ""),
        };
        let is_identifier = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if !pre.is_empty() && !pre.split('.').all(is_identifier) {
            return None;
        }
        let mut numbers = [0; 3];
        for (at, number) in core.split('.').enumerate() {
            *numbers.get_mut(at)? = digits(number)?;
        }
        Some(Self { core: numbers, pre })
    }
}

/// The number that `text` is, without a sign.
fn digits(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// A release is later than its pre-releases; those go by their identifiers, numbers
/// before texts, and fewer before more.
fn pre_releases(a: &str, b: &str) -> Ordering {
    match (a.is_empty(), b.is_empty()) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) => match (digits(a), digits(b)) {
                (Some(a), Some(b)) => a.cmp(&b),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => a.cmp(b),
            },
        };
        if order.is_ne() {
            return order;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_the_standard() {
        // Its section 11, and what comes before and after.
        let ordered = [
            "0.9",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "v1",
            "1.0.1",
            "1.2",
            "1.10.0",
            "2.0.0",
        ];
        for (at, a) in ordered.iter().enumerate() {
            for (other, b) in ordered.iter().enumerate() {
                assert_eq!(compare(a, b), Some(at.cmp(&other)), "{a} {b}");
            }
        }
        assert_eq!(compare("1.0.0+a", "1+b"), Some(Ordering::Equal));
    }

    #[test]
    fn what_is_no_version_has_no_order() {
        for text in [
            "",
            "v",
            "1.",
            "1.2.3.4",
            "1.x",
            "-1",
            "+1",
            "1.0-",
            "1.0-a..b",
            "1.0-ä",
            "99999999999999999999",
        ] {
            assert_eq!(compare(text, "1.0.0"), None, "{text}");
        }
    }
}
