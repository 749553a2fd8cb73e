//! Orders the users of a metric, in as many passes over the file as needed.

use trialog_stats::{
    Moments, QuantileRank, QuantileSummary, RankGoal, RankPasses, RankTally, WinsorisedSums,
};

use super::question::Metric;

/// Users of a variant after winsorising.
#[derive(Debug, Clone, Default)]
pub(super) struct Clipped {
    pub(super) moments: Moments,
    /// How many were set to an end.
    pub(super) users: u64,
}

/// The values to which users below and above them are set.
pub(super) type Ends = [Option<f64>; 2];

impl WinsorisedSums for Clipped {
    type End = f64;

    fn end(rank: QuantileRank, low: i128, high: i128) -> f64 {
        rank.between(value(low), value(high))
    }

    fn add(&mut self, key: i128, n: u64, ends: Ends) -> Option<()> {
        self.clip(value(key), n, ends);
        Some(())
    }
}

impl Clipped {
    /// Adds `n` users with this value.
    fn clip(&mut self, value: f64, n: u64, ends: Ends) {
        let above = ends[0].map_or(value, |low| value.max(low));
        let set = ends[1].map_or(above, |high| above.min(high));
        if let Ok(same) = Moments::new(n, set, 0.0) {
            self.moments.merge(&same);
        }
        self.users += if set.total_cmp(&value).is_eq() { 0 } else { n };
    }
}

/// The known part of the order of one group's users.
#[derive(Debug, Clone)]
pub(super) struct Ranked {
    passes: RankPasses<Clipped>,
    /// For each variant, what this pass counts.
    tallies: Vec<RankTally>,
    /// For each variant the winsorised users, in a pass that adds them.
    clipped: Vec<Clipped>,
    /// Whether users whose value is 0 are excluded from the order and keep it.
    without_zeros: bool,
    is_done: bool,
}

impl Ranked {
    /// Starts the order for `metric`. `most_buckets` bounds the memory of a variant.
    pub(super) fn new(metric: &Metric, most_buckets: usize) -> Self {
        let goal = match (metric.level, metric.winsorise) {
            (None, Some(winsorise)) => RankGoal::Winsorised([winsorise.lower, winsorise.upper]),
            (level, _) => RankGoal::Quantile(level.unwrap_or_default()),
        };
        Self {
            passes: RankPasses::new(goal, 0, most_buckets),
            tallies: Vec::new(),
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
        self.passes.grow_to(variant + 1);
        while self.tallies.len() <= variant {
            self.tallies.push(self.passes.tally(self.tallies.len()));
            self.clipped.push(Clipped::default());
        }
        let keeps_zero = self.without_zeros && key(value) == 0;
        match self.passes.ends() {
            None if keeps_zero => {}
            None => self.tallies[variant].add(key(value)),
            Some(_) if keeps_zero => self.clipped[variant].clip(0.0, 1, [None; 2]),
            Some(ends) => self.clipped[variant].clip(value, 1, ends),
        }
    }

    /// Ends a pass over the file.
    pub(super) fn end_pass(&mut self) {
        if self.is_done {
            return;
        }
        if self.passes.ends().is_some() {
            self.passes.take_sums(std::mem::take(&mut self.clipped));
        } else {
            // Moments do not overflow.
            let _ = (self.passes).take_tallies(&self.tallies, !self.without_zeros);
            for (variant, tally) in self.tallies.iter_mut().enumerate() {
                *tally = self.passes.tally(variant);
            }
        }
        self.is_done = self.passes.is_done() || self.tallies.is_empty();
    }

    /// Returns the quantile of a variant; `None` without users.
    pub(super) fn quantile(&self, variant: usize) -> Option<QuantileSummary> {
        self.passes.quantile(variant, value)
    }

    /// Returns the ends of winsorising, and the winsorised users of a variant.
    pub(super) fn winsorised(&self, variant: usize) -> Option<(Ends, &Clipped)> {
        Some((self.passes.ends()?, self.passes.sums()?.get(variant)?))
    }
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

    use super::super::question::Winsorise;
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
                ranked.end_pass();
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
        let back = numbers.map(|number| value(key(number)).to_bits());
        assert_eq!(back, numbers.map(f64::to_bits));
        assert_eq!(key(-0.0), key(0.0));
    }
}
