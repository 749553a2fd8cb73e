//! Suggests known names for an unknown one: lists them and finds the nearest.

/// The maximum number of names that a message lists.
pub const MAX_LISTED: usize = 10;

/// The most characters of a name that are compared.
const LONGEST: usize = 64;

/// Finds the name in `known` that `name` most likely misspells; `None` if none is near.
///
/// ```
/// use trialog_model::nearest::nearest;
/// assert_eq!(nearest("gaet", ["shop", "gate"]), Some("gate"));
/// assert_eq!(nearest("welch", ["welch_t", "z_test"]), Some("welch_t"));
/// assert_eq!(nearest("pricing", ["shop", "gate"]), None);
/// ```
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = folded(name);
    let near = known.into_iter().filter_map(|known| {
        let candidate = folded(known);
        let edits = edits(&wanted, &candidate);
        let is_slip = edits <= most_edits(wanted.len().max(candidate.len()));
        (is_slip || is_part(&wanted, &candidate)).then_some((!is_slip, edits, known))
    });
    near.min_by_key(|(is_part, edits, _)| (*is_part, *edits))
        .map(|(_, _, known)| known)
}

/// Lists `known` for a message about `name`, which is not among them, and suggests the nearest.
/// The text is empty if `known` is. `more` says that there are other names beside `known`.
///
/// ```
/// use trialog_model::nearest::there_are;
/// let said = there_are("gaet", &["gate", "shop"], false);
/// assert_eq!(said, "; there are `gate`, `shop`; did you mean `gate`?");
/// assert_eq!(there_are::<&str>("gaet", &[], false), "");
/// ```
pub fn there_are<S: AsRef<str>>(name: &str, known: &[S], more: bool) -> String {
    let nearest = nearest(name, known.iter().map(AsRef::as_ref));
    format!("{}{}", listed(name, known, more), question(nearest))
}

/// Lists `known`, at most [`MAX_LISTED`] of them: those nearest to `name`, in their order. `more`
/// says that there are other names beside `known`.
///
/// ```
/// use trialog_model::nearest::listed;
/// assert_eq!(listed("x", &["gate", "shop"], false), "; there are `gate`, `shop`");
/// assert_eq!(listed("x", &["gate"], false), "; there is `gate`");
/// ```
pub fn listed<S: AsRef<str>>(name: &str, known: &[S], more: bool) -> String {
    let wanted = folded(name);
    let mut listed: Vec<(usize, &str)> = known.iter().map(AsRef::as_ref).enumerate().collect();
    if listed.len() > MAX_LISTED {
        listed.sort_by_cached_key(|(_, known)| edits(&wanted, &folded(known)));
        listed.truncate(MAX_LISTED);
        listed.sort_unstable();
    }
    let others = match (known.len() - listed.len(), more) {
        (0, false) => String::new(),
        (n_others, false) => format!(" and {n_others} more"),
        (_, true) => " and others".to_owned(),
    };
    let names: Vec<String> = (listed.iter())
        .map(|(_, known)| format!("`{known}`"))
        .collect();
    match (names.as_slice(), others.as_str()) {
        ([], _) => String::new(),
        ([only], "") => format!("; there is {only}"),
        (names, others) => format!("; there are {}{others}", names.join(", ")),
    }
}

/// Asks whether `nearest` is meant, as the end of a message.
pub fn question(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| {
        format!("; did you mean `{nearest}`?")
    })
}

fn folded(name: &str) -> Vec<char> {
    name.chars()
        .take(LONGEST)
        .flat_map(char::to_lowercase)
        .collect()
}

/// How many slips a name of `length` characters may have.
fn most_edits(length: usize) -> usize {
    match length {
        0..=3 => 1,
        4..=8 => 2,
        longer => longer / 4 + 1,
    }
}

/// Whether one of the two is a part of the other that is long enough to mean it.
fn is_part(wanted: &[char], known: &[char]) -> bool {
    let (short, long) = match wanted.len() < known.len() {
        true => (wanted, known),
        false => (known, wanted),
    };
    short.len() >= 3 && long.windows(short.len()).any(|window| window == short)
}

/// Counts the characters that have to be changed, added, left out or swapped with their
/// neighbour to make `b` of `a` (optimal string alignment).
fn edits(a: &[char], b: &[char]) -> usize {
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (row, from) in a.iter().enumerate() {
        let mut current = vec![row + 1; b.len() + 1];
        for (column, to) in b.iter().enumerate() {
            let replaced = last[column] + usize::from(from != to);
            let mut fewest = replaced.min(last[column + 1] + 1).min(current[column] + 1);
            let is_swap = row > 0 && column > 0 && *from == b[column - 1] && a[row - 1] == *to;
            if is_swap {
                fewest = fewest.min(before_last[column - 1] + 1);
            }
            current[column + 1] = fewest;
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_count_changes_additions_omissions_and_swaps() {
        let count = |a: &str, b: &str| edits(&folded(a), &folded(b));
        for (a, b, expected) in [
            ("", "", 0),
            ("abc", "", 3),
            ("", "abc", 3),
            ("gate", "gate", 0),
            ("gaet", "gate", 1),
            ("kitten", "sitting", 3),
            ("Gate", "gate", 0),
            ("ca", "abc", 3),
        ] {
            assert_eq!(count(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn of_many_names_the_nearest_ten_are_listed_in_their_order() {
        let known: Vec<String> = (0..100).map(|n| format!("exp_{n:03}")).collect();
        let said = there_are("exp_01", &known, false);
        assert_eq!(said.matches('`').count(), 2 * (MAX_LISTED + 1), "{said}");
        assert!(said.contains(" and 90 more"), "{said}");
        assert!(
            there_are("x", &known, true).contains(" and others"),
            "{said}"
        );
    }

    #[test]
    fn a_name_of_any_length_is_compared_in_bounded_time() {
        let long = "x".repeat(1_000_000);
        assert_eq!(nearest(&long, ["gate", &long]), Some(long.as_str()));
    }
}
