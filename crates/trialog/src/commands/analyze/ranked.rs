//! Users of a metric in order, in as many passes over the file as it takes.

use trialog_stats::{
    Moments, QuantileRank, QuantileSummary, RankSearch, RankTally, quantile_levels,
};

use super::question::{Metric, Winsorise};

/// Users of a variant after winsorising.
#[derive(Debug, Clone, Default)]
pub(super) struct Clipped {
    pub(super) moments: Moments,
    /// How many were set to an end.
    pub(super) users: u64,
}

/// What users are set to where they lie below or above it.
pub(super) type Ends = [Option<f64>; 2];

/// What is known of the order of one group's users.
#[derive(Debug, Clone)]
pub(super) struct Ranked {
    /// How a variant's users are looked for.
    search: RankSearch,
    /// For each variant; of winsorising only the first, for all variants together.
    searches: Vec<RankSearch>,
    tallies: Vec<RankTally>,
    /// What users are set to where they lie beyond, once it is known.
    ends: Option<Ends>,
    /// For each variant the winsorised users.
    clipped: Vec<Clipped>,
    /// Whether users whose value is 0 are left out of the order and keep it.
    without_zeros: bool,
    is_done: bool,
}

impl Ranked {
    /// Nothing is known yet of `metric`; `most_buckets` bounds the memory of a variant.
    pub(super) fn new(metric: &Metric, most_buckets: usize) -> Self {
        Self {
            search: RankSearch::with_buckets(most_buckets),
            searches: Vec::new(),
            tallies: Vec::new(),
            ends: None,
            clipped: Vec::new(),
            without_zeros: metric.winsorise.is_some_and(|winsorise| winsorise.nonzero),
            is_done: false,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    /// Adds a user of the variant number `variant`.
    pub(super) fn add(&mut self, variant: usize, value: f64) {
        if self.is_done {
            return;
        }
        while self.tallies.len() <= variant {
            self.searches.push(self.search.clone());
            self.tallies.push(self.search.tally());
            self.clipped.push(Clipped::default());
        }
        let keeps_zero = self.without_zeros && key(value) == 0;
        match self.ends {
            None if keeps_zero => {}
            None => self.tallies[variant].add(key(value)),
            Some(_) if keeps_zero => clip(&mut self.clipped[variant], 0.0, 1, [None; 2]),
            Some(ends) => clip(&mut self.clipped[variant], value, 1, ends),
        }
    }

    /// A pass over the file has ended.
    pub(super) fn end_pass(&mut self, metric: &Metric) {
        if self.is_done {
            return;
        }
        if self.ends.is_some() || self.tallies.is_empty() {
            self.is_done = true;
        } else if let Some(level) = metric.level {
            self.end_quantiles(level);
        } else if let Some(winsorise) = metric.winsorise {
            self.end_winsorised(winsorise);
        }
    }

    fn end_quantiles(&mut self, level: f64) {
        for (search, tally) in self.searches.iter_mut().zip(&mut self.tallies) {
            let n = search.n().unwrap_or(tally.n());
            let (low, high) = quantile_levels(n, level).unwrap_or((level, level));
            let ranks = ranks(n, [level, low, high].into_iter());
            if !search.is_done() {
                search.narrow(tally, &ranks);
            }
            *tally = search.tally();
        }
        self.is_done = self.searches.iter().all(RankSearch::is_done);
    }

    fn end_winsorised(&mut self, winsorise: Winsorise) {
        let search = &mut self.searches[0];
        let mut all = search.tally();
        self.tallies.iter().for_each(|tally| all.merge(tally));
        let n = search.n().unwrap_or(all.n());
        let levels = [winsorise.lower, winsorise.upper];
        search.narrow(&all, &ranks(n, levels.into_iter().flatten()));
        if !search.is_done() {
            let next = search.tally();
            self.tallies.fill(next);
            return;
        }
        let ends = levels.map(|level| at(search, level?));
        self.ends = Some(ends);
        // Where a pass has told every value apart, no other one is needed.
        // Those that are left out of it are still to be counted.
        let values: Option<Vec<_>> = self.tallies.iter().map(RankTally::values).collect();
        let Some(values) = values.filter(|_| !self.without_zeros) else {
            return;
        };
        for (clipped, values) in self.clipped.iter_mut().zip(values) {
            for (key, n) in values {
                clip(clipped, value(key), n, ends);
            }
        }
        self.is_done = true;
    }

    /// The quantile of a variant; `None` without users.
    pub(super) fn quantile(&self, variant: usize, level: f64) -> Option<QuantileSummary> {
        let search = self.searches.get(variant)?;
        let n = search.n()?;
        let (low, high) = quantile_levels(n, level).ok()?;
        Some(QuantileSummary {
            n,
            n_star: n,
            quantile: at(search, level)?,
            lower: at(search, low)?,
            upper: at(search, high)?,
            tied: search.most_tied(),
        })
    }

    /// What users were set to, and the winsorised users of a variant.
    pub(super) fn winsorised(&self, variant: usize) -> Option<(Ends, &Clipped)> {
        Some((self.ends?, self.clipped.get(variant)?))
    }
}

fn clip(clipped: &mut Clipped, value: f64, n: u64, ends: Ends) {
    let above = ends[0].map_or(value, |low| value.max(low));
    let set = ends[1].map_or(above, |high| above.min(high));
    if let Ok(same) = Moments::new(n, set, 0.0) {
        clipped.moments.merge(&same);
    }
    clipped.users += if set.total_cmp(&value).is_eq() { 0 } else { n };
}

fn ranks(n: u64, levels: impl Iterator<Item = f64>) -> Vec<u64> {
    levels
        .filter_map(|level| QuantileRank::of(n, level))
        .flat_map(|rank| [rank.low, rank.high])
        .collect()
}

/// The quantile at `level`, once its ranks are found.
fn at(search: &RankSearch, level: f64) -> Option<f64> {
    let rank = QuantileRank::of(search.n()?, level)?;
    let (low, high) = (search.value_at(rank.low)?, search.value_at(rank.high)?);
    Some(rank.between(value(low), value(high)))
}

/// An integer that is ordered as the numbers are: their bits, turned where negative.
fn key(value: f64) -> i128 {
    // Minus zero is no other number than zero.
    let bits = (value + 0.0).to_bits().cast_signed();
    i128::from(if bits < 0 { bits ^ i64::MAX } else { bits })
}

fn value(key: i128) -> f64 {
    let key = key as i64;
    let bits = if key < 0 { key ^ i64::MAX } else { key };
    f64::from_bits(bits.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use trialog_model::metric::{MetricKind, MetricRole};
    use trialog_model::metric_definition::Direction;

    use super::*;

    #[test]
    fn quantiles_over_values_that_are_not_0_leave_the_others_0() {
        let values = [0.0, 0.0, -0.0, 0.0, 0.0, 0.0, 10.0, 20.0, 30.0, 1000.0];
        let winsorised = |nonzero| {
            let metric = Metric {
                name: "spend".to_owned(),
                kind: MetricKind::Sum,
                role: MetricRole::Primary,
                direction: Some(Direction::Increase),
                margin: None,
                columns: "spend".to_owned(),
                value: 0,
                second: None,
                level: None,
                winsorise: Some(Winsorise {
                    lower: Some(0.25),
                    upper: Some(0.5),
                    nonzero,
                }),
            };
            let mut ranked = Ranked::new(&metric, 100);
            while !ranked.is_done() {
                (values.iter().enumerate()).for_each(|(at, value)| ranked.add(at % 2, *value));
                ranked.end_pass(&metric);
            }
            let arms = [0, 1].map(|variant| ranked.winsorised(variant).unwrap());
            let n: u64 = arms.iter().map(|(_, arm)| arm.moments.n()).sum();
            let total: f64 = (arms.iter())
                .map(|(_, arm)| arm.moments.mean().unwrap() * arm.moments.n() as f64)
                .sum();
            let n_set: u64 = arms.iter().map(|(_, arm)| arm.users).sum();
            assert_eq!(n, values.len() as u64);
            (arms[0].0, total, n_set)
        };
        // Type 7 by hand: of 10, 20, 30, 1000 the quartile is 17.5 and the median 25.
        let (ends, total, n_set) = winsorised(true);
        assert_eq!((ends, n_set), ([Some(17.5), Some(25.0)], 3));
        assert!(
            (total - (17.5 + 20.0 + 25.0 + 25.0)).abs() < 1e-9,
            "{total}"
        );
        // And of all ten both are 0.
        assert_eq!(winsorised(false), ([Some(0.0), Some(0.0)], 0.0, 4));
    }

    #[test]
    fn keys_are_ordered_as_the_numbers_are() {
        let numbers = [-1e140, -2.5, -1e-300, 0.0, 1e-300, 1.0, 1.5, 1e140];
        assert!(numbers.map(key).is_sorted());
        let back = numbers.map(|own| value(key(own)).to_bits());
        assert_eq!(back, numbers.map(f64::to_bits));
        assert_eq!(key(-0.0), key(0.0));
    }
}
