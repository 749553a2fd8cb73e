//! Implements the special functions of the estimators: tails and quantiles.
//!
//! Tails are computed as tails, never as 1 - cdf, and keep their *relative*
//! accuracy down to the smallest double. Written here because no crate at hand is
//! reliable for the degrees of freedom of experiments with millions of units.

mod beta;
mod gamma;
mod noncentral;
mod normal;
mod quadrature;
mod root;
mod student;

pub use beta::{BetaTails, beta_tails};
pub(crate) use beta::{
    LARGEST_SHAPE, density as beta_density, deviance, quantile as beta_quantile, stirling_error,
    tails as tails_of_beta,
};
pub use gamma::chi_squared_upper_tail;
pub(crate) use gamma::{chi_squared_tail, half_gamma_ratio};
pub(crate) use noncentral::two_sided_tail as noncentral_t_tail;
pub(crate) use normal::quantile as quantile_of_normal;
pub use normal::{
    normal_cdf, normal_critical, normal_quantile, normal_two_sided_tail, normal_upper_tail,
};
pub(crate) use quadrature::{integrate_together, nodes};
pub(crate) use root::last_below;
pub(crate) use student::{critical as student_critical, two_sided_tail as student_tail};
pub use student::{t_critical, t_quantile, t_two_sided_tail};
