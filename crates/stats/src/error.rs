//! Lists what can be wrong with an input.

use thiserror::Error;

/// An input that no statistic can be computed from.
///
/// A *valid* input whose statistic does not exist (no spread, one unit) is not
/// an error: the field concerned is `None`.
///
/// ```
/// use trialog_stats::{Proportion, StatsError};
/// let error = Proportion::new(5, 4).unwrap_err();
/// assert_eq!(error, StatsError::ConversionsExceedUnits { conversions: 5, n: 4 });
/// assert_eq!(error.to_string(), "`5` conversions among `4` units");
/// ```
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum StatsError {
    /// The two-sided level is not strictly between 0 and 1.
    #[error("alpha must lie between 0 and 1, both excluded, but is `{0}`")]
    Alpha(f64),
    /// The probability of a quantile is not strictly between 0 and 1.
    #[error("the probability of a quantile must lie between 0 and 1, both excluded, but is `{0}`")]
    Probability(f64),
    /// The degrees of freedom are below the range of the function, or NaN.
    #[error("degrees of freedom are out of range: `{0}`")]
    DegreesOfFreedom(f64),
    /// An argument is NaN.
    #[error("`{argument}` is not a number")]
    NotANumber {
        /// Name of the argument.
        argument: &'static str,
    },
    /// An arm without units has neither mean nor rate.
    #[error("an arm needs at least one unit")]
    NoUnits,
    /// The mean is NaN, infinite or beyond 1e150.
    #[error("mean is out of range: `{0}`")]
    Mean(f64),
    /// The variance is NaN, negative, infinite or beyond 1e300.
    #[error("variance is out of range: `{0}`")]
    Variance(f64),
    /// Two units or more have a variance, a single unit has none.
    #[error("a variance is needed for two units or more and only then, but there are `{n}`")]
    VariancePresence {
        /// Units in the arm.
        n: u64,
    },
    /// No `n` numbers have this sum and this sum of squares.
    #[error("no `{n}` values have the sum `{sum}` and the sum of squares `{sum_of_squares}`")]
    InconsistentSums {
        /// Units in the arm.
        n: u64,
        /// Sum over units.
        sum: i128,
        /// Sum of squares over units.
        sum_of_squares: i128,
    },
    /// The unit of the integer sums is not a positive finite number.
    #[error("the scale of exact sums must be positive and finite, but is `{0}`")]
    Scale(f64),
    /// More units converted than there are.
    #[error("`{conversions}` conversions among `{n}` units")]
    ConversionsExceedUnits {
        /// Units that converted.
        conversions: u64,
        /// Units in the arm.
        n: u64,
    },
    /// Counts and weights do not pair up.
    #[error("`{n_counts}` counts but `{n_weights}` weights")]
    LengthMismatch {
        /// Number of counts.
        n_counts: usize,
        /// Number of weights.
        n_weights: usize,
    },
    /// A ratio needs at least two variants.
    #[error("a sample ratio needs at least two variants, but there are `{0}`")]
    TooFewVariants(usize),
    /// A weight, or the sum of the weights, is not a positive finite number.
    #[error("weights must be positive and finite, but one or their sum is `{0}`")]
    Weight(f64),
    /// A p-value is NaN or outside 0 to 1.
    #[error("p-value number `{index}` (from 0) is not between 0 and 1: `{value}`")]
    PValue {
        /// Position in the list, from 0.
        index: usize,
        /// The value found there.
        value: f64,
    },
    /// A shape of a beta distribution is not positive, or beyond 2e9.
    #[error("shapes must be positive and at most 2e9, but one is `{0}`")]
    Shape(f64),
    /// An argument is outside its range.
    #[error("`{argument}` must be {range}, but is `{value}`")]
    Range {
        /// Name of the argument.
        argument: &'static str,
        /// What it may be.
        range: &'static str,
        /// What it is.
        value: f64,
    },
    /// A list is too short or too long, or two lists do not pair up.
    #[error("`{argument}` {rule}")]
    List {
        /// Name of the argument.
        argument: &'static str,
        /// The rule that it breaks.
        rule: &'static str,
    },
}
