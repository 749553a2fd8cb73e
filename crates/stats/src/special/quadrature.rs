//! Integrates smooth functions numerically.

/// Positive nodes and their weights of the 16-point Gauss-Legendre rule on [-1, 1]
/// (Abramowitz & Stegun, table 25.4).
const GAUSS: [(f64, f64); 8] = [
    (0.095_012_509_837_637_44, 0.189_450_610_455_068_5),
    (0.281_603_550_779_258_9, 0.182_603_415_044_923_58),
    (0.458_016_777_657_227_37, 0.169_156_519_395_002_54),
    (0.617_876_244_402_643_7, 0.149_595_988_816_576_73),
    (0.755_404_408_355_003, 0.124_628_971_255_533_87),
    (0.865_631_202_387_831_7, 0.095_158_511_682_492_78),
    (0.944_575_023_073_232_6, 0.062_253_523_938_647_89),
    (0.989_400_934_991_649_9, 0.027_152_459_411_754_095),
];

/// Returns the nodes and weights of Gauss's rule on `n_panels` equal parts of
/// [low, high].
pub(crate) fn nodes(low: f64, high: f64, n_panels: usize) -> Vec<(f64, f64)> {
    let half = (high - low) / (2.0 * n_panels as f64);
    let mut nodes = Vec::with_capacity(n_panels * 2 * GAUSS.len());
    for panel in 0..n_panels {
        let centre = low + half * (2 * panel + 1) as f64;
        for (node, weight) in GAUSS {
            nodes.push((centre - half * node, half * weight));
            nodes.push((centre + half * node, half * weight));
        }
    }
    nodes
}

/// Returns the integral of `f` over [low, high], by Gauss's rule on `n_panels` parts.
pub(crate) fn integrate(low: f64, high: f64, n_panels: usize, f: impl Fn(f64) -> f64) -> f64 {
    let terms = nodes(low, high, n_panels).into_iter();
    terms.map(|(x, weight)| weight * f(x)).sum()
}

/// Returns the integral of `f` over [low, high], whose values at the ends may be
/// infinite as long as the integral is not.
///
/// `f` is given a point with its distances from both ends, each with all its
/// digits. Double exponential rule (Takahasi & Mori 1974).
pub(crate) fn integrate_with_ends(low: f64, high: f64, f: impl Fn(f64, f64, f64) -> f64) -> f64 {
    let [sum] = integrate_together(low, high, |x, below, above| [f(x, below, above)]);
    sum
}

/// Integrates several functions that share their work at each point.
pub(crate) fn integrate_together<const N: usize>(
    low: f64,
    high: f64,
    f: impl Fn(f64, f64, f64) -> [f64; N],
) -> [f64; N] {
    const STEP: f64 = 1.0 / 32.0;
    const MOST: i32 = 192;
    let width = high - low;
    if width.is_nan() || width <= 0.0 {
        return [0.0; N];
    }
    let terms = |index: i32| {
        let t = f64::from(index) * STEP;
        let inner = std::f64::consts::PI * t.sinh();
        // The share of the width below the point, and above it.
        let below = 1.0 / (1.0 + (-inner).exp());
        let above = 1.0 / (1.0 + inner.exp());
        let weight = STEP * std::f64::consts::PI * t.cosh() * below * above * width;
        if weight < f64::MIN_POSITIVE {
            return [0.0; N];
        }
        let (from_low, from_high) = (below * width, above * width);
        let x = if below < 0.5 {
            low + from_low
        } else {
            high - from_high
        };
        f(x, from_low, from_high).map(|value| {
            let value = weight * value;
            if value.is_finite() { value } else { 0.0 }
        })
    };
    let mut sums = [0.0; N];
    for index in -MOST..=MOST {
        for (sum, term) in sums.iter_mut().zip(terms(index)) {
            *sum += term;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polynomials_are_exact_and_singular_ends_are_allowed() {
        let sixth = integrate(0.0, 2.0, 1, |x| x.powi(6));
        assert!((sixth - 128.0 / 7.0).abs() < 1e-13);
        let root = integrate_with_ends(0.0, 1.0, |_, from_low, _| 1.0 / from_low.sqrt());
        assert!((root - 2.0).abs() < 1e-12, "{root}");
        let both = integrate_with_ends(0.0, 1.0, |_, x, y| 1.0 / (x * y).sqrt());
        assert!((both - std::f64::consts::PI).abs() < 1e-12, "{both}");
    }
}
