//! Finds order statistics of more values than fit into memory, in a few passes.
//!
//! A pass counts values in buckets, at first single ones, and where there are too
//! many different values coarser ones of 2, 4, 8 … neighbours. The next pass looks
//! only into the buckets in which a wanted rank lies. What is found is exact, and does
//! not depend on the order of the values nor on how they were split.

mod passes;

use std::collections::{BTreeMap, HashMap};

pub use passes::{RankGoal, RankPasses, WinsorisedSums};

/// The number of different values that a pass counts by default: about a megabyte.
const MOST_BUCKETS: usize = 16 * 1024;
/// Four buckets of 2^126 neighbours are every value that there is.
const WIDEST: u32 = 126;

/// The values from `low` to `high`, both included, of which `below` others are smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Window {
    low: i128,
    high: i128,
    below: u64,
}

/// A search for the values at some ranks among many.
///
/// ```
/// use trialog_stats::RankSearch;
/// let values = || (0..100_000_i128).map(|n| n * n);
/// let mut search = RankSearch::default();
/// while !search.is_done() {
///     let mut tally = search.tally();
///     values().for_each(|value| tally.add(value));
///     // The smallest value, and the greatest one.
///     let n = search.n().unwrap_or(tally.n());
///     search.narrow(&tally, &[0, n - 1]);
/// }
/// assert_eq!(search.value_at(99_999), Some(99_999 * 99_999));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankSearch {
    most_buckets: usize,
    n: Option<u64>,
    windows: Vec<Window>,
    /// The value at a rank, and how many values are as large.
    found: BTreeMap<u64, (i128, u64)>,
}

impl Default for RankSearch {
    fn default() -> Self {
        Self::with_buckets(MOST_BUCKETS)
    }
}

impl RankSearch {
    /// Returns a search whose passes count up to `most_buckets` different values, at least 16.
    /// Fewer buckets take less memory and more passes.
    ///
    /// ```
    /// let search = trialog_stats::RankSearch::with_buckets(1_000);
    /// assert!(!search.is_done());
    /// ```
    #[must_use]
    pub fn with_buckets(most_buckets: usize) -> Self {
        Self {
            most_buckets: most_buckets.max(16),
            n: None,
            windows: Vec::new(),
            found: BTreeMap::new(),
        }
    }

    /// Returns whether every wanted rank is found.
    ///
    /// ```
    /// assert!(!trialog_stats::RankSearch::default().is_done());
    /// ```
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.n.is_some() && self.windows.is_empty()
    }

    /// Returns how many values there are; `None` before the first pass.
    ///
    /// ```
    /// assert_eq!(trialog_stats::RankSearch::default().n(), None);
    /// ```
    #[must_use]
    pub const fn n(&self) -> Option<u64> {
        self.n
    }

    /// Returns the value that `rank` others come before, in order, if it was looked for
    /// and is found.
    ///
    /// ```
    /// use trialog_stats::RankSearch;
    /// let mut search = RankSearch::default();
    /// let mut tally = search.tally();
    /// [30, 10, 20].into_iter().for_each(|value| tally.add(value));
    /// search.narrow(&tally, &[1]);
    /// assert_eq!((search.value_at(1), search.value_at(2)), (Some(20), None));
    /// ```
    #[must_use]
    pub fn value_at(&self, rank: u64) -> Option<i128> {
        self.found.get(&rank).map(|(value, _)| *value)
    }

    /// Returns how many values share one of those that were found, at most; `None` where
    /// nothing was.
    ///
    /// ```
    /// use trialog_stats::RankSearch;
    /// let mut search = RankSearch::default();
    /// let mut tally = search.tally();
    /// [30, 10, 30].into_iter().for_each(|value| tally.add(value));
    /// search.narrow(&tally, &[0, 1]);
    /// assert_eq!(search.most_tied(), Some(2));
    /// ```
    #[must_use]
    pub fn most_tied(&self) -> Option<u64> {
        self.found.values().map(|(_, n)| *n).max()
    }

    /// Returns what the next pass counts in.
    ///
    /// ```
    /// assert_eq!(trialog_stats::RankSearch::default().tally().n(), 0);
    /// ```
    #[must_use]
    pub fn tally(&self) -> RankTally {
        let all = Window {
            low: i128::MIN,
            high: i128::MAX,
            below: 0,
        };
        let windows = if self.n.is_none() {
            vec![all]
        } else {
            self.windows.clone()
        };
        let counts = |window| Counts {
            window,
            shift: 0,
            n: 0,
            buckets: HashMap::new(),
        };
        RankTally {
            most_buckets: self.most_buckets / windows.len().max(1),
            n: 0,
            windows: windows.into_iter().map(counts).collect(),
        }
    }

    /// Narrows the search by the counts of a pass over all values. The wanted `ranks`, from 0,
    /// must be the same each time; those beyond the values are ignored.
    ///
    /// ```
    /// use trialog_stats::RankSearch;
    /// let mut search = RankSearch::default();
    /// let tally = search.tally();
    /// search.narrow(&tally, &[0]);
    /// assert!(search.is_done(), "there are no values");
    /// ```
    pub fn narrow(&mut self, tally: &RankTally, ranks: &[u64]) {
        self.n.get_or_insert(tally.n);
        let mut windows = Vec::new();
        for &rank in ranks {
            let holds = |counts: &&Counts| {
                (counts.window.below..counts.window.below + counts.n).contains(&rank)
            };
            let Some(counts) = tally.windows.iter().find(holds) else {
                continue;
            };
            match counts.at(rank) {
                Place::Value(value, n) => {
                    self.found.insert(rank, (value, n));
                }
                Place::Within(window) => windows.push(window),
            }
        }
        windows.sort_unstable();
        windows.dedup();
        self.windows = windows;
    }
}

/// The counts of one pass of a [`RankSearch`]. Parts of a pass can be merged.
///
/// ```
/// let mut tally = trialog_stats::RankSearch::default().tally();
/// tally.add(-5);
/// assert_eq!(tally.n(), 1);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankTally {
    most_buckets: usize,
    n: u64,
    windows: Vec<Counts>,
}

impl RankTally {
    /// Counts a value.
    ///
    /// ```
    /// let mut tally = trialog_stats::RankSearch::default().tally();
    /// tally.add(7);
    /// tally.add(7);
    /// assert_eq!(tally.values(), Some(vec![(7, 2)]));
    /// ```
    pub fn add(&mut self, value: i128) {
        self.add_many(value, 1);
    }

    /// Counts a value that occurs `n` times.
    ///
    /// ```
    /// let mut tally = trialog_stats::RankSearch::default().tally();
    /// tally.add_many(7, 3);
    /// assert_eq!(tally.values(), Some(vec![(7, 3)]));
    /// ```
    pub fn add_many(&mut self, value: i128, n: u64) {
        self.n += n;
        for counts in &mut self.windows {
            if (counts.window.low..=counts.window.high).contains(&value) {
                counts.n += n;
                *counts.buckets.entry(value >> counts.shift).or_default() += n;
                counts.coarsen_to(self.most_buckets);
                return;
            }
        }
    }

    /// Adds what another part of the same pass has counted.
    ///
    /// ```
    /// let mut left = trialog_stats::RankSearch::default().tally();
    /// let mut right = left.clone();
    /// right.add(7);
    /// left.merge(&right);
    /// assert_eq!(left.n(), 1);
    /// ```
    pub fn merge(&mut self, other: &Self) {
        self.n += other.n;
        for (counts, other) in self.windows.iter_mut().zip(&other.windows) {
            counts.n += other.n;
            counts.coarsen_by(other.shift.saturating_sub(counts.shift));
            let by = counts.shift - other.shift;
            for (bucket, count) in &other.buckets {
                *counts.buckets.entry(bucket >> by).or_default() += count;
            }
            counts.coarsen_to(self.most_buckets);
        }
    }

    /// Returns how many values were counted.
    ///
    /// ```
    /// assert_eq!(trialog_stats::RankSearch::default().tally().n(), 0);
    /// ```
    #[must_use]
    pub const fn n(&self) -> u64 {
        self.n
    }

    /// Returns every value with its number of occurrences, in order; `None` if the pass merged
    /// neighbouring values or did not see all of them.
    ///
    /// ```
    /// let mut tally = trialog_stats::RankSearch::default().tally();
    /// [3, 1].into_iter().for_each(|value| tally.add(value));
    /// assert_eq!(tally.values(), Some(vec![(1, 1), (3, 1)]));
    /// ```
    #[must_use]
    pub fn values(&self) -> Option<Vec<(i128, u64)>> {
        let [counts] = self.windows.as_slice() else {
            return None;
        };
        let is_whole = counts.shift == 0 && counts.n == self.n;
        is_whole.then(|| counts.in_order())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Counts {
    window: Window,
    /// A bucket is of 2^shift neighbours.
    shift: u32,
    n: u64,
    buckets: HashMap<i128, u64>,
}

/// What is known of the value at a rank.
enum Place {
    /// And how many are as large.
    Value(i128, u64),
    Within(Window),
}

impl Counts {
    fn coarsen_to(&mut self, most: usize) {
        while self.buckets.len() > most.max(2) && self.shift < WIDEST {
            self.coarsen_by(1);
        }
    }

    fn coarsen_by(&mut self, by: u32) {
        if by == 0 {
            return;
        }
        self.shift += by;
        let mut coarse = HashMap::with_capacity(self.buckets.len());
        for (bucket, count) in self.buckets.drain() {
            *coarse.entry(bucket >> by).or_default() += count;
        }
        self.buckets = coarse;
    }

    fn in_order(&self) -> Vec<(i128, u64)> {
        let mut ordered: Vec<_> = self.buckets.iter().map(|(at, n)| (*at, *n)).collect();
        ordered.sort_unstable();
        ordered
    }

    /// Where the value at `rank` lies, which is in this window.
    fn at(&self, rank: u64) -> Place {
        let mut below = self.window.below;
        for (bucket, n) in self.in_order() {
            if rank >= below + n {
                below += n;
                continue;
            }
            if self.shift == 0 {
                return Place::Value(bucket, n);
            }
            let low = bucket << self.shift;
            return Place::Within(Window {
                low,
                high: low.saturating_add((1_i128 << self.shift) - 1),
                below,
            });
        }
        Place::Within(self.window)
    }
}

/// The two ranks between which a quantile lies: linear interpolation, type 7.
///
/// ```
/// use trialog_stats::QuantileRank;
/// let median = QuantileRank::at_level(4, 0.5);
/// assert_eq!(median.map(|rank| (rank.low, rank.high, rank.share)), Some((1, 2, 0.5)));
/// assert_eq!(median.map(|rank| rank.between(10.0, 20.0)), Some(15.0));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuantileRank {
    /// How many values come before the lower of the two.
    pub low: u64,
    /// How many come before the upper one.
    pub high: u64,
    /// How far from the lower to the upper one, 0 to 1.
    pub share: f64,
}

impl QuantileRank {
    /// Returns the ranks of the quantile at `level`, 0 to 1, of `n` values; `None` for
    /// no values.
    ///
    /// ```
    /// assert_eq!(trialog_stats::QuantileRank::at_level(0, 0.5), None);
    /// ```
    #[must_use]
    pub fn at_level(n: u64, level: f64) -> Option<Self> {
        let last = n.checked_sub(1)?;
        let at = last as f64 * level.clamp(0.0, 1.0);
        let low = (at.floor() as u64).min(last);
        Some(Self {
            low,
            high: (low + 1).min(last),
            share: at - low as f64,
        })
    }

    /// Returns the quantile between the values at both ranks.
    ///
    /// ```
    /// let rank = trialog_stats::QuantileRank { low: 0, high: 1, share: 0.25 };
    /// assert_eq!(rank.between(10.0, 20.0), 12.5);
    /// ```
    #[must_use]
    pub fn between(&self, low: f64, high: f64) -> f64 {
        low + self.share * (high - low)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The values at `ranks` and the passes that it took, each split in two parts.
    fn search(values: &[i128], ranks: &[u64]) -> (Vec<Option<i128>>, usize) {
        let mut search = RankSearch::with_buckets(1_000);
        let mut n_passes = 0;
        while !search.is_done() {
            let (left, right) = values.split_at(values.len() / 3);
            let mut parts = [search.tally(), search.tally()];
            left.iter().for_each(|value| parts[0].add(*value));
            right.iter().for_each(|value| parts[1].add(*value));
            let [mut tally, other] = parts;
            tally.merge(&other);
            search.narrow(&tally, ranks);
            n_passes += 1;
        }
        (
            ranks.iter().map(|rank| search.value_at(*rank)).collect(),
            n_passes,
        )
    }

    #[test]
    fn a_wide_range_takes_a_few_passes_and_is_exact() {
        let mut values: Vec<i128> = (0..200_000_i128)
            .map(|n| (n * 7_919 % 200_003).pow(4) * if n % 2 == 0 { 1 } else { -1 })
            .collect();
        let ranks = [0, 100_000, 150_001, 199_999];
        let (found, n_passes) = search(&values, &ranks);
        values.sort_unstable();
        let expected: Vec<_> = ranks
            .iter()
            .map(|rank| Some(values[*rank as usize]))
            .collect();
        assert_eq!(found, expected);
        assert!((2..=8).contains(&n_passes), "{n_passes}");
    }

    #[test]
    fn few_values_are_known_after_one_pass() {
        let mut tally = RankSearch::default().tally();
        for value in [5, -3, 5] {
            tally.add(value);
        }
        assert_eq!(tally.values(), Some(vec![(-3, 1), (5, 2)]));
        assert_eq!(
            search(&[5, -3, 5], &[0, 1, 2, 3]),
            (vec![Some(-3), Some(5), Some(5), None], 1)
        );
        assert_eq!(search(&[], &[0]), (vec![None], 1));
        assert_eq!(
            search(&[i128::MIN, i128::MAX], &[0, 1]).0,
            [Some(i128::MIN), Some(i128::MAX)]
        );
    }

    proptest! {
        #[test]
        fn any_rank_of_any_values(values in prop::collection::vec(any::<i64>(), 1..300), at in any::<prop::sample::Index>()) {
            let rank = at.index(values.len()) as u64;
            let mut sorted: Vec<i128> = values.iter().map(|value| i128::from(*value)).collect();
            let (found, _) = search(&sorted, &[rank]);
            sorted.sort_unstable();
            prop_assert_eq!(found[0], Some(sorted[rank as usize]));
        }
    }
}
