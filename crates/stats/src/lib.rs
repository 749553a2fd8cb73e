//! From sufficient statistics to inference: pure, no I/O.
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
mod effect;
mod error;
mod interval;
mod multiplicity;
mod proportion;
mod relative;
pub mod special;
mod srm;
mod summary;
mod two_proportion;
mod welch;
mod wide;

pub use alpha::Alpha;
pub use effect::{EffectSize, effect_size};
pub use error::StatsError;
pub use interval::Interval;
pub use multiplicity::{
    Correction, adjust, benjamini_hochberg, benjamini_yekutieli, bonferroni, holm,
};
pub use proportion::Proportion;
pub use relative::{Estimate, Relative, relative_difference};
pub use srm::{Srm, sample_ratio_mismatch};
pub use summary::Summary;
pub use two_proportion::{TwoProportion, two_proportion_z};
pub use welch::{Welch, welch};
