//! Drives the passes that quantiles and winsorising need: what each one counts, and when they are
//! done.

use super::{QuantileRank, RankSearch, RankTally};
use crate::quantile::{QuantileSummary, quantile_levels};

/// The order statistics that a caller wants of the values of some groups.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RankGoal {
    /// The quantile at a level for each group, and the ends of its interval.
    Quantile(f64),
    /// The quantiles at a lower and an upper level of all groups together, and the sums of each
    /// group once values beyond them are set to them.
    Winsorised([Option<f64>; 2]),
}

/// Sums of values that are clipped to the two ends.
///
/// Values are integers in whatever order-preserving unit the caller counts in.
pub trait WinsorisedSums: Default {
    /// An end in the unit of the sums.
    type End: Copy;

    /// Returns the end at `rank`, between the values at its two ranks.
    fn end(rank: QuantileRank, low: i128, high: i128) -> Self::End;

    /// Adds `n` values that are the same; `None` where a sum leaves its range.
    fn add(&mut self, value: i128, n: u64, ends: [Option<Self::End>; 2]) -> Option<()>;
}

/// Drives the passes over the values of some groups until they reach a [`RankGoal`].
///
/// Each pass counts the values of a group in its [`RankPasses::tally`], or, once the ends are
/// known, adds them to sums.
///
/// ```
/// use trialog_stats::{QuantileRank, RankGoal, RankPasses, WinsorisedSums};
/// #[derive(Default)]
/// struct Total(i128);
/// impl WinsorisedSums for Total {
///     type End = i128;
///     fn end(_: QuantileRank, low: i128, _: i128) -> i128 { low }
///     fn add(&mut self, value: i128, n: u64, ends: [Option<i128>; 2]) -> Option<()> {
///         self.0 += ends[1].map_or(value, |high| value.min(high)) * i128::from(n);
///         Some(())
///     }
/// }
/// let mut passes = RankPasses::<Total>::new(RankGoal::Winsorised([None, Some(0.5)]), 2, 100);
/// let groups = [[1, 2, 90], [3, 4, 5]];
/// let tallies: Vec<_> = (groups.iter().enumerate())
///     .map(|(group, values)| {
///         let mut tally = passes.tally(group);
///         values.iter().for_each(|value| tally.add(*value));
///         tally
///     })
///     .collect();
/// // So few values are all counted separately, so one pass is enough.
/// passes.take_tallies(&tallies, true);
/// assert!(passes.is_done());
/// assert_eq!(passes.ends(), Some([None, Some(3)]));
/// assert_eq!(passes.sums().unwrap().iter().map(|sum| sum.0).collect::<Vec<_>>(), [6, 9]);
/// ```
#[derive(Debug, Clone)]
pub struct RankPasses<S: WinsorisedSums> {
    goal: RankGoal,
    most_buckets: usize,
    n_groups: usize,
    /// One for each group, or one for all of them together.
    searches: Vec<RankSearch>,
    ends: Option<[Option<S::End>; 2]>,
    sums: Option<Vec<S>>,
}

impl<S: WinsorisedSums> RankPasses<S> {
    /// Starts with `n_groups` groups; `most_buckets` bounds the memory of a group's tally.
    #[must_use]
    pub fn new(goal: RankGoal, n_groups: usize, most_buckets: usize) -> Self {
        let mut passes = Self {
            goal,
            most_buckets,
            n_groups: 0,
            searches: Vec::new(),
            ends: None,
            sums: None,
        };
        passes.grow_to(n_groups);
        passes
    }

    /// Adds groups that the first pass comes upon, until there are `n_groups`.
    pub fn grow_to(&mut self, n_groups: usize) {
        self.n_groups = self.n_groups.max(n_groups);
        let n_searches = match self.goal {
            RankGoal::Quantile(_) => self.n_groups,
            RankGoal::Winsorised(_) => 1,
        };
        let search = RankSearch::with_buckets(self.most_buckets);
        let n_searches = n_searches.max(self.searches.len());
        self.searches.resize(n_searches, search);
    }

    /// Returns how many groups there are.
    #[must_use]
    pub fn n_groups(&self) -> usize {
        self.n_groups
    }

    /// Returns whether no other pass is needed.
    #[must_use]
    pub fn is_done(&self) -> bool {
        match self.goal {
            RankGoal::Quantile(_) => self.searches.iter().all(RankSearch::is_done),
            RankGoal::Winsorised(_) => self.sums.is_some(),
        }
    }

    /// Returns what the next pass counts the values of `group` in.
    #[must_use]
    pub fn tally(&self, group: usize) -> RankTally {
        self.search(group)
            .map_or_else(|| RankSearch::default().tally(), RankSearch::tally)
    }

    /// Returns the ends that values are set to, once they are known: the next pass adds values
    /// to sums then.
    #[must_use]
    pub fn ends(&self) -> Option<[Option<S::End>; 2]> {
        self.ends
    }

    /// Returns the sums of each group, once they are known.
    #[must_use]
    pub fn sums(&self) -> Option<&[S]> {
        self.sums.as_deref()
    }

    /// Adds the counts of a pass for each group. If the counts distinguish every value, the sums
    /// need no other pass, provided that the tallies `are_complete`: they left out no value that
    /// the sums need.
    ///
    /// `None` where a sum leaves its range.
    pub fn take_tallies(&mut self, tallies: &[RankTally], are_complete: bool) -> Option<()> {
        match self.goal {
            RankGoal::Quantile(level) => {
                for (search, tally) in self.searches.iter_mut().zip(tallies) {
                    narrow_quantile(search, tally, level);
                }
                Some(())
            }
            RankGoal::Winsorised(levels) => self.take_together(levels, tallies, are_complete),
        }
    }

    /// Adds the clipped sums of each group, which a pass with the ends has computed.
    pub fn take_sums(&mut self, sums: Vec<S>) {
        self.sums = Some(sums);
    }

    /// Returns the quantile of `group` in the unit of `value`; `None` without values, or before
    /// it is found.
    #[must_use]
    pub fn quantile(&self, group: usize, value: impl Fn(i128) -> f64) -> Option<QuantileSummary> {
        let RankGoal::Quantile(level) = self.goal else {
            return None;
        };
        let search = self.search(group)?;
        let n = search.n()?;
        let (low, high) = quantile_levels(n, level).ok()?;
        let at = |level: f64| {
            let (rank, low, high) = found(search, level)?;
            Some(rank.between(value(low), value(high)))
        };
        Some(QuantileSummary {
            n,
            n_star: n,
            quantile: at(level)?,
            lower: at(low)?,
            upper: at(high)?,
            tied: search.most_tied(),
        })
    }

    fn search(&self, group: usize) -> Option<&RankSearch> {
        match self.goal {
            RankGoal::Quantile(_) => self.searches.get(group),
            RankGoal::Winsorised(_) => self.searches.first(),
        }
    }

    /// Orders the values of all groups together, so that all are treated alike.
    fn take_together(
        &mut self,
        levels: [Option<f64>; 2],
        tallies: &[RankTally],
        are_complete: bool,
    ) -> Option<()> {
        let Some(search) = self.searches.first_mut() else {
            return Some(());
        };
        let mut all = search.tally();
        tallies.iter().for_each(|tally| all.merge(tally));
        let n = search.n().unwrap_or(all.n());
        search.narrow(&all, &ranks(n, levels.into_iter().flatten()));
        if !search.is_done() {
            return Some(());
        }
        let end = |level: f64| {
            let (rank, low, high) = found(search, level)?;
            Some(S::end(rank, low, high))
        };
        let ends = levels.map(|level| end(level?));
        self.ends = Some(ends);
        let values: Option<Vec<_>> = tallies.iter().map(RankTally::values).collect();
        let Some(values) = values.filter(|_| are_complete) else {
            return Some(());
        };
        let mut sums = Vec::with_capacity(values.len());
        for group in values {
            let mut sum = S::default();
            for (value, n) in group {
                sum.add(value, n, ends)?;
            }
            sums.push(sum);
        }
        self.sums = Some(sums);
        Some(())
    }
}

fn narrow_quantile(search: &mut RankSearch, tally: &RankTally, level: f64) {
    if search.is_done() {
        return;
    }
    let n = search.n().unwrap_or(tally.n());
    let levels = quantile_levels(n, level).map(|(low, high)| [level, low, high]);
    search.narrow(tally, &ranks(n, levels.into_iter().flatten()));
}

/// Returns the ranks of the values between which the quantiles of `n` values at `levels` lie.
fn ranks(n: u64, levels: impl Iterator<Item = f64>) -> Vec<u64> {
    levels
        .filter_map(|level| QuantileRank::at_level(n, level))
        .flat_map(|rank| [rank.low, rank.high])
        .collect()
}

/// The rank of the quantile at `level`, with the values at both of its ranks.
fn found(search: &RankSearch, level: f64) -> Option<(QuantileRank, i128, i128)> {
    let rank = QuantileRank::at_level(search.n()?, level)?;
    let (low, high) = (search.value_at(rank.low)?, search.value_at(rank.high)?);
    Some((rank, low, high))
}
