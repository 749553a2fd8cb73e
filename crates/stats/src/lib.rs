//! Computes inference from sufficient statistics: pure functions, no I/O.
//!
//! An arm comes in as a [`Summary`] (units, mean, variance) or a [`Proportion`]
//! (conversions, units); estimates, p-values and intervals come out as plain
//! structs. In a comparison `a` is the control, `b` the treatment, and every
//! difference is `b - a`. A value that does not exist for its input is `None`,
//! never NaN, an infinity or a sentinel number.
//!
//! ```
//! use trialog_stats::{Alpha, Summary, welch};
//! let control = Summary::new(15, 20.8, Some(7.9))?;
//! let treatment = Summary::new(15, 23.0, Some(3.8))?;
//! let test = welch(&control, &treatment);
//! assert!(test.p_value.is_some_and(|p| (p - 0.019756).abs() < 1e-6));
//! assert!(test.interval(Alpha::P05).is_some_and(|ci| ci.low > 0.0));
//! # Ok::<(), trialog_stats::StatsError>(())
//! ```

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod alpha;
mod anova;
mod bayes;
mod bins;
#[cfg(feature = "calc")]
pub mod calc;
mod comparison;
mod confidence_sequence;
mod contingency;
mod cuped;
mod dense;
mod effect;
mod error;
mod funnel;
mod funnel_match;
pub mod group_sequential;
mod guarded;
mod heterogeneity;
mod holdout_accounting;
mod interaction;
mod interleaving_preference;
mod interval;
mod moments;
mod msprt;
mod multiplicity;
mod non_inferiority;
mod novelty;
pub mod power;
mod proportion;
mod quantile;
mod ranks;
mod ratio;
mod relative;
mod sequential_srm;
pub mod special;
mod sprt;
mod srm;
mod stability;
mod summary;
mod time_to_step;
mod two_proportion;
mod welch;
mod wide;
mod winsorize;

pub use alpha::Alpha;
pub use anova::{Anova, Cell, Effects, FactorTest, anova_2x2};
pub use bayes::{
    BetaPosterior, Choice, DifferenceType, NormalPosterior, NormalPrior, choose_rate,
    difference_of, normal_posterior,
};
pub use bins::BinMoments;
pub use comparison::{Comparison, NoRelative, Sample};
pub use confidence_sequence::{ConfidenceSequence, confidence_sequence};
pub use contingency::{ChiSquared, Fisher, chi_squared, fisher_exact};
pub use cuped::{CovariateSummary, Cuped, cuped};
pub use effect::{EffectSize, effect_size};
pub use error::StatsError;
pub use funnel::{FunnelComparison, FunnelCounts, FunnelStep, compare_funnels};
pub use funnel_match::{FunnelMatcher, FunnelSteps, MAX_FUNNEL_STEPS};
pub use guarded::GuardedVariance;
pub use heterogeneity::{
    CochranQ, Heterogeneity, PooledEffect, SegmentDifference, SegmentEffect, SegmentTrend, WelchF,
    heterogeneity,
};
pub use holdout_accounting::{
    Claim, EffectPrior, HoldoutAccounting, HoldoutGap, holdout_accounting,
};
pub use interaction::{
    ContrastTest, Independence, Interaction, InteractionContrast, WelchJames, interaction,
};
pub use interleaving_preference::{DeltaTest, InterleavingPreference};
pub use interval::Interval;
pub use moments::{CoMoments, Moments};
pub use msprt::{Msprt, Running, msprt};
pub use multiplicity::{
    Correction, adjust, benjamini_hochberg, benjamini_yekutieli, bonferroni, holm,
};
pub use non_inferiority::{Better, Guardrail, NonInferiority, lift_interval, non_inferiority};
pub use novelty::{DayEffect, EffectTrend, LogRatio, Novelty, NoveltySlope, Omnibus, novelty};
pub use proportion::Proportion;
pub use quantile::{
    QuantileSummary, order_statistic_interval, quantile_levels, quantile_of_sorted, quantile_test,
};
pub use ranks::{QuantileRank, RankGoal, RankPasses, RankSearch, RankTally, WinsorisedSums};
pub use ratio::{RatioSums, RatioTest, ratio_test};
pub use relative::{Estimate, Relative, relative_difference};
pub use sequential_srm::{SequentialSrm, SrmLook};
pub use sprt::{Decision, Sprt};
pub use srm::{Srm, sample_ratio_mismatch};
pub use stability::{Stability, StabilityLook, stability};
pub use summary::Summary;
pub use time_to_step::{
    ReachedBy, ReachedDifference, StepQuantile, StepTimes, StepTimesScan, StepUserCounts,
    TimeToStep,
};
pub use two_proportion::{TwoProportion, two_proportion_z};
pub use welch::{Welch, welch};
pub use winsorize::{Winsorized, winsorize};
