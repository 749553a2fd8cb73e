//! Lists that two rankings share, item by item: team-draft interleaving.
//!
//! Contract: the same rankings and the same impression give the same list in every
//! version, process and SDK, because clicks are credited by it later. Radlinski, Kurup &
//! Joachims (2008).

use std::collections::HashSet;

use crate::murmur3::X86Hash32;

/// Names the ranking that an item was taken from.
///
/// ```
/// # use trialog_model::interleave::Team;
/// assert_eq!(Team::B.as_str(), "b");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Team {
    /// The first ranking, the control.
    A,
    /// The second one, the treatment.
    B,
}

impl Team {
    /// Returns `a` or `b`.
    ///
    /// ```
    /// # use trialog_model::interleave::Team;
    /// assert_eq!(Team::A.as_str(), "a");
    /// ```
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

/// Identifies the list that a unit is shown for a query, and tosses its coins.
///
/// ```
/// # use trialog_model::interleave::{Impression, Team};
/// let impression = Impression { unit: "42", salt: "ranker", query: "shoes" };
/// assert_eq!((impression.toss(0), impression.toss(1)), (Team::B, Team::A));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Impression<'a> {
    /// The user id as the caller gave it, in text.
    pub unit: &'a str,
    /// The experiment's salt.
    pub salt: &'a str,
    /// What was asked for; may be empty.
    pub query: &'a str,
}

impl Impression<'_> {
    /// Tosses the coin number `toss`, from 0.
    ///
    /// `MurmurHash3` x86 32 (seed 0) of the UTF-8 of `unit:interleave:salt:query:toss`; even
    /// is team a. Parts that contain `:` are not escaped. Does not allocate.
    ///
    /// ```
    /// # use trialog_model::interleave::{Impression, Team};
    /// # use trialog_model::murmur3::murmur3_x86_32;
    /// let impression = Impression { unit: "42", salt: "ranker", query: "shoes" };
    /// let hash = murmur3_x86_32(b"42:interleave:ranker:shoes:10", 0);
    /// assert_eq!(impression.toss(10) == Team::A, hash % 2 == 0);
    /// ```
    #[must_use]
    pub fn toss(&self, toss: u32) -> Team {
        let mut hasher = X86Hash32::new(0);
        for part in [self.unit, ":interleave:", self.salt, ":", self.query, ":"] {
            hasher.write(part.as_bytes());
        }
        let mut digits = [0; 10];
        let mut first = digits.len();
        let mut rest = toss;
        loop {
            first -= 1;
            digits[first] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        hasher.write(&digits[first..]);
        if hasher.finish().is_multiple_of(2) {
            Team::A
        } else {
            Team::B
        }
    }
}

/// Holds an interleaved list, with the team of each item.
///
/// ```
/// # use trialog_model::interleave::{Impression, Team, interleave};
/// let impression = Impression { unit: "42", salt: "ranker", query: "shoes" };
/// let list = interleave(&impression, &["a", "b", "c"], &["x", "y", "z"], Some(4));
/// assert_eq!(list.items, ["x", "a", "b", "y"]);
/// assert_eq!(list.teams, [Team::B, Team::A, Team::A, Team::B]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interleaved<'a> {
    /// The items, best first, each once.
    pub items: Vec<&'a str>,
    /// The team that picked each item, in the order of the items.
    pub teams: Vec<Team>,
    /// How often a coin was tossed.
    pub tosses: u32,
}

/// Returns the list that `ranking_a` and `ranking_b` make for `impression`, of at most
/// `limit` items, all where it is `None`.
///
/// Where both teams have as many items, a coin says who picks, else the team with fewer.
/// A team picks its best item that is not in the list; one that has none leaves the pick
/// to the other. Later copies of an item in a ranking do not count.
///
/// ```
/// # use trialog_model::interleave::{Impression, Team, interleave};
/// let impression = Impression { unit: "42", salt: "ranker", query: "shoes" };
/// let list = interleave(&impression, &[], &["x", "y", "x"], None);
/// assert_eq!((list.items, list.teams), (vec!["x", "y"], vec![Team::B, Team::B]));
/// ```
#[must_use]
pub fn interleave<'a>(
    impression: &Impression<'_>,
    ranking_a: &[&'a str],
    ranking_b: &[&'a str],
    limit: Option<usize>,
) -> Interleaved<'a> {
    let most = ranking_a.len() + ranking_b.len();
    let n_items = limit.unwrap_or(most).min(most);
    let mut list = Interleaved {
        items: Vec::with_capacity(n_items),
        teams: Vec::with_capacity(n_items),
        tosses: 0,
    };
    let mut taken: HashSet<&str> = HashSet::with_capacity(n_items);
    let (mut rest_a, mut rest_b) = (ranking_a.iter(), ranking_b.iter());
    // How many items team a has more than team b.
    let mut ahead = 0_i64;
    while list.items.len() < n_items {
        let best = |rest: &mut std::slice::Iter<'_, &'a str>| {
            let n_taken = (rest
                .as_slice()
                .iter()
                .take_while(|item| taken.contains(**item)))
            .count();
            *rest = rest.as_slice()[n_taken..].iter();
            rest.as_slice().first().copied()
        };
        let (best_a, best_b) = (best(&mut rest_a), best(&mut rest_b));
        if best_a.is_none() && best_b.is_none() {
            break;
        }
        let picks = match ahead {
            0 => {
                list.tosses += 1;
                impression.toss(list.tosses - 1)
            }
            1.. => Team::B,
            _ => Team::A,
        };
        let (item, team) = match (picks, best_a, best_b) {
            (Team::A, Some(item), _) | (Team::B, Some(item), None) => (item, Team::A),
            (_, _, Some(item)) => (item, Team::B),
            (_, _, None) => break,
        };
        ahead += if team == Team::A { 1 } else { -1 };
        taken.insert(item);
        list.items.push(item);
        list.teams.push(team);
    }
    list
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::murmur3::murmur3_x86_32;

    fn rankings() -> impl Strategy<Value = [Vec<String>; 2]> {
        let ranking = || prop::collection::vec("[a-h]", 0..12);
        (ranking(), ranking()).prop_map(|(a, b)| [a, b])
    }

    fn borrowed(ranking: &[String]) -> Vec<&str> {
        ranking.iter().map(String::as_str).collect()
    }

    proptest! {
        #[test]
        fn coins_are_those_of_the_joined_text(
            unit: String, salt: String, query: String, toss: u32,
        ) {
            let joined = format!("{unit}:interleave:{salt}:{query}:{toss}");
            let impression = Impression { unit: &unit, salt: &salt, query: &query };
            let is_even = murmur3_x86_32(joined.as_bytes(), 0).is_multiple_of(2);
            prop_assert_eq!(impression.toss(toss) == Team::A, is_even);
        }

        #[test]
        fn lists_hold_every_item_once_and_a_limit_cuts_them(
            [a, b] in rankings(), unit in "[0-9]{1,4}", limit in 0_usize..16,
        ) {
            let impression = Impression { unit: &unit, salt: "s", query: "q" };
            let (a, b) = (borrowed(&a), borrowed(&b));
            let all = interleave(&impression, &a, &b, None);
            let known: HashSet<&str> = a.iter().chain(&b).copied().collect();
            let listed: HashSet<&str> = all.items.iter().copied().collect();
            prop_assert_eq!(all.items.len(), listed.len());
            prop_assert_eq!(known, listed);
            let cut = interleave(&impression, &a, &b, Some(limit));
            let n_items = limit.min(all.items.len());
            prop_assert_eq!(&cut.items[..], &all.items[..n_items]);
            prop_assert_eq!(&cut.teams[..], &all.teams[..n_items]);
        }
    }

    #[test]
    fn either_team_comes_first_for_half_of_the_units() {
        let n_units = 10_000;
        let n_first_a = (0..n_units)
            .filter(|unit| {
                let unit = unit.to_string();
                let impression = Impression {
                    unit: &unit,
                    salt: "ranker",
                    query: "shoes",
                };
                impression.toss(0) == Team::A
            })
            .count();
        // Binomial(10,000, 0.5): five standard deviations are 250.
        assert!(n_first_a.abs_diff(n_units / 2) < 250, "{n_first_a}");
    }
}
