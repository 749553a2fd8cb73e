//! Writes the regular expressions of attribution windows and delays, exact to the second.

use super::{EARLIEST_SECONDS, LONGEST_SECONDS};

/// The units of a window, and how many seconds each has.
const UNITS: [(char, u64); 5] = [
    ('w', 604_800),
    ('d', 86_400),
    ('h', 3_600),
    ('m', 60),
    ('s', 1),
];

/// Returns the pattern of windows: a whole number and a unit, at most the longest window, or
/// `none`.
pub fn window() -> String {
    let longest = LONGEST_SECONDS.unsigned_abs();
    let lengths =
        UNITS.map(|(unit, seconds)| format!("0*({}){unit}", from_1_to(longest / seconds)));
    format!("^(none|{})$", lengths.join("|"))
}

/// Returns the pattern of delays: a signed whole number and a unit, from the earliest to the
/// longest delay.
pub fn delay() -> String {
    let up_to = |most: i64| {
        let lengths = UNITS.map(|(unit, seconds)| match most.unsigned_abs() / seconds {
            0 => format!("0+{unit}"),
            most => format!("0*(0|{}){unit}", from_1_to(most)),
        });
        lengths.join("|")
    };
    let (earlier, later) = (up_to(EARLIEST_SECONDS), up_to(LONGEST_SECONDS));
    format!("^(-({earlier})|[+]?({later}))$")
}

/// A pattern of the whole numbers from 1 to `most`, without zeros in front.
fn from_1_to(most: u64) -> String {
    let digits = most.to_string();
    let n_digits = digits.len();
    let mut choices = Vec::new();
    if n_digits > 1 {
        choices.push(format!("[1-9][0-9]{{0,{}}}", n_digits - 2));
    }
    // Numbers that agree with `most` up to a digit, which is smaller.
    for (at, digit) in digits.bytes().enumerate() {
        let least = if at == 0 { b'1' } else { b'0' };
        if digit > least {
            let (same, below) = (&digits[..at], char::from(digit - 1));
            let rest = n_digits - at - 1;
            choices.push(format!(
                "{same}[{}-{below}][0-9]{{{rest}}}",
                char::from(least)
            ));
        }
    }
    choices.push(digits);
    choices.join("|")
}

#[cfg(test)]
mod tests {
    use super::super::Window;
    use super::*;

    #[test]
    fn numbers_have_no_more_than_their_pattern_allows() {
        assert_eq!(from_1_to(7), "[1-6][0-9]{0}|7");
        assert_eq!(
            from_1_to(521),
            "[1-9][0-9]{0,1}|[1-4][0-9]{2}|5[0-1][0-9]{1}|52[0-0][0-9]{0}|521"
        );
    }

    #[test]
    fn the_longest_of_each_unit_is_a_window_and_one_more_is_none() {
        for (unit, seconds) in UNITS {
            let most = LONGEST_SECONDS.unsigned_abs() / seconds;
            assert!(Window::parse(&format!("{most}{unit}")).is_ok());
            assert!(Window::parse(&format!("{}{unit}", most + 1)).is_err());
        }
    }
}
