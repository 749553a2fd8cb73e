//! Implements the noncentral t distribution, as far as power needs it.

use std::f64::consts::{LN_2, PI};

use super::beta::{deviance_by, stirling_error};
use super::normal::normal_upper_tail;
use super::quadrature::{integrate, integrate_with_ends};

/// Returns the probability that |T| exceeds `critical`, where T is noncentral t.
///
/// T is (Z + noncentrality) / S with Z standard normal and df S² chi-squared; what is
/// integrated over the density of S is a sum of two normal tails. S is within the
/// window with probability 1 - 1e-19. For `df` of at least 1; infinite is normal.
pub(crate) fn two_sided_tail(critical: f64, df: f64, noncentrality: f64) -> f64 {
    let beyond = |s: f64| {
        let threshold = critical * s;
        normal_upper_tail(threshold - noncentrality) + normal_upper_tail(threshold + noncentrality)
    };
    if df.is_infinite() {
        return beyond(1.0);
    }
    const N_PANELS: usize = 24;
    const LEAST_LN: f64 = 45.0;
    let half_df = df / 2.0;
    // k (s² - 1 - ln s²) is at least k (s - 1)² above 1 and 2 k (1 - s)² below.
    // Distances of S from 1, which keep their digits however large df is.
    let low = -(LEAST_LN / (2.0 * half_df)).sqrt();
    let high = (LEAST_LN / half_df).sqrt();
    let constant = LN_2 + 0.5 * (half_df / (2.0 * PI)).ln() - stirling_error(half_df);
    let density = |w: f64, s: f64| {
        // s² - 1 - ln s², of the distance where that is small and of s where s is.
        let deviance = if w.abs() < 0.1 {
            deviance_by(1.0, -w * (2.0 + w))
        } else {
            s * s - 1.0 - 2.0 * s.ln()
        };
        (constant - s.ln() - half_df * deviance).exp()
    };
    let term = |w: f64, s: f64| density(w, s) * beyond(s);
    let integral = if low > -1.0 {
        integrate(low, high, N_PANELS, |w| term(w, 1.0 + w))
    } else {
        // Few degrees of freedom: at 0 the density is a power that need not be whole.
        integrate_with_ends(-1.0, high, |w, s, _| term(w, s))
    };
    integral.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::special::student;

    #[test]
    fn without_noncentrality_it_is_students_t() {
        for df in [1.0, 2.0, 3.5, 10.0, 1e3, 1e6, 1e12, f64::INFINITY] {
            for t in [0.1, 1.0, 2.5, 6.0] {
                let (got, want) = (two_sided_tail(t, df, 0.0), student::two_sided_tail(t, df));
                assert!((got - want).abs() < 1e-11, "{df} {t}: {got:e} {want:e}");
            }
        }
    }
}
