//! Laws that hold for every input.

#![expect(
    clippy::unwrap_used,
    reason = "generated inputs are valid by construction"
)]

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use trialog_stats::special::{chi_squared_upper_tail, t_critical, t_quantile, t_two_sided_tail};
use trialog_stats::{
    Alpha, Correction, Proportion, Summary, adjust, effect_size, sample_ratio_mismatch,
    two_proportion_z, welch,
};

fn fixed_seed() -> ProptestConfig {
    ProptestConfig {
        cases: 512,
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Exponents spread evenly: as many small samples as large ones.
fn df() -> impl Strategy<Value = f64> {
    (0.0..12.0).prop_map(|exponent: f64| 10.0_f64.powf(exponent))
}

fn probability() -> impl Strategy<Value = f64> {
    (-250.0..-0.05).prop_map(|exponent: f64| 10.0_f64.powf(exponent))
}

fn arm() -> impl Strategy<Value = Summary> {
    (2_u64..1_000_000, -100.0..100.0, 0.01..1000.0)
        .prop_map(|(n, mean, variance)| Summary::new(n, mean, Some(variance)).unwrap())
}

fn proportion() -> impl Strategy<Value = Proportion> {
    (1_u64..1_000_000).prop_flat_map(|n| {
        (0..=n).prop_map(move |conversions| Proportion::new(conversions, n).unwrap())
    })
}

fn alpha() -> impl Strategy<Value = Alpha> {
    (1e-6..0.5).prop_map(|alpha| Alpha::new(alpha).unwrap())
}

/// The arm with every value x replaced by `factor * x + shift`.
fn transformed(arm: &Summary, factor: f64, shift: f64) -> Summary {
    let variance = arm.variance().map(|variance| variance * factor * factor);
    Summary::new(arm.n(), arm.mean() * factor + shift, variance).unwrap()
}

fn is_close(x: f64, y: f64, relative: f64) -> bool {
    (x - y).abs() <= relative * x.abs().max(y.abs())
}

fn are_close(x: Option<f64>, y: Option<f64>, relative: f64) -> bool {
    x.zip(y).map_or(x.is_none() && y.is_none(), |(x, y)| {
        is_close(x, y, relative)
    })
}

proptest! {
    #![proptest_config(fixed_seed())]

    #[test]
    fn swapping_the_arms_turns_the_sign_and_nothing_else(a in arm(), b in arm()) {
        let (test, swapped) = (welch(&a, &b), welch(&b, &a));
        prop_assert!(is_close(test.difference, -swapped.difference, 0.0));
        prop_assert!(are_close(test.t, swapped.t.map(|t| -t), 0.0));
        prop_assert!(are_close(test.df, swapped.df, 1e-14));
        prop_assert!(are_close(test.p_value, swapped.p_value, 1e-11));
        let (effect, opposite) = (effect_size(&a, &b), effect_size(&b, &a));
        prop_assert!(are_close(effect.hedges_g, opposite.hedges_g.map(|g| -g), 1e-14));
    }

    #[test]
    fn swapping_the_rates_mirrors_the_intervals(
        a in proportion(), b in proportion(), alpha in alpha(),
    ) {
        let (test, swapped) = (two_proportion_z(&a, &b), two_proportion_z(&b, &a));
        prop_assert!(is_close(test.difference, -swapped.difference, 0.0));
        prop_assert!(are_close(test.p_value, swapped.p_value, 1e-11));
        prop_assert!(is_close(test.newcombe(alpha).low, -swapped.newcombe(alpha).high, 1e-14));
        prop_assert!(is_close(test.wald(alpha).low, -swapped.wald(alpha).high, 1e-14));
    }

    #[test]
    fn a_power_of_two_scales_the_difference_and_keeps_the_test(
        a in arm(), b in arm(), exponent in -20_i32..20,
    ) {
        let factor = 2.0_f64.powi(exponent);
        let test = welch(&a, &b);
        let scaled = welch(&transformed(&a, factor, 0.0), &transformed(&b, factor, 0.0));
        prop_assert!(is_close(scaled.difference, test.difference * factor, 0.0));
        prop_assert!(are_close(scaled.p_value, test.p_value, 0.0));
        prop_assert!(are_close(
            scaled.relative.map(|relative| relative.standard_error),
            test.relative.map(|relative| relative.standard_error),
            1e-14,
        ));
    }

    #[test]
    fn a_shift_of_both_arms_keeps_the_test(a in arm(), b in arm(), shift in -1e3..1e3) {
        let test = welch(&a, &b);
        let shifted = welch(&transformed(&a, 1.0, shift), &transformed(&b, 1.0, shift));
        prop_assert!((shifted.difference - test.difference).abs() < 1e-12);
        prop_assert!(are_close(shifted.df, test.df, 0.0));
        prop_assert!(are_close(shifted.standard_error, test.standard_error, 0.0));
    }

    #[test]
    fn tails_fall_with_t(t in 0.0..40.0, step in 1e-6..5.0, df in df()) {
        let near = t_two_sided_tail(t, df).unwrap();
        let far = t_two_sided_tail(t + step, df).unwrap();
        prop_assert!(far < near || near <= 0.0, "{near:e} at {t}, {far:e} further out");
        prop_assert!((0.0..=1.0).contains(&near));
    }

    #[test]
    fn chi_squared_tails_fall_with_x(x in 0.0..2000.0, step in 1e-3..100.0, df in 1_u32..500) {
        let near = chi_squared_upper_tail(x, f64::from(df)).unwrap();
        let far = chi_squared_upper_tail(x + step, f64::from(df)).unwrap();
        prop_assert!(far <= near && (0.0..=1.0).contains(&near));
    }

    #[test]
    fn t_quantile_and_tail_are_inverse(p in probability(), df in df()) {
        let t = t_critical(Alpha::new(p).unwrap(), df).unwrap();
        let back = t_two_sided_tail(t, df).unwrap();
        prop_assert!(is_close(back, p, 1e-12), "{p:e} came back as {back:e} for df {df}");
        prop_assert!(is_close(t_quantile(p / 2.0, df).unwrap(), -t, 1e-15));
    }

    #[test]
    fn p_value_falls_with_the_difference(a in arm(), b in arm(), step in 0.01_f64..10.0) {
        let further = transformed(&b, 1.0, step.copysign(b.mean() - a.mean()));
        let (near, far) = (welch(&a, &b).p_value, welch(&a, &further).p_value);
        prop_assert!(far <= near);
    }

    #[test]
    fn interval_excludes_zero_exactly_when_p_is_below_alpha(
        a in arm(), b in arm(), alpha in alpha(), t in 0.01..8.0,
    ) {
        // Arms drawn freely are nearly always miles apart: bring them near the edge.
        let error = welch(&a, &b).standard_error.unwrap();
        let b = transformed(&b, 1.0, a.mean() + t * error - b.mean());
        let test = welch(&a, &b);
        let p_value = test.p_value.unwrap();
        prop_assume!(!is_close(p_value, alpha.get(), 1e-9));
        let excludes_zero = !test.interval(alpha).unwrap().contains(0.0);
        prop_assert_eq!(excludes_zero, p_value < alpha.get());
    }

    #[test]
    fn wilson_interval_holds_the_rate_and_stays_a_rate(arm in proportion(), alpha in alpha()) {
        let interval = arm.wilson(alpha);
        prop_assert!(0.0 <= interval.low && interval.high <= 1.0);
        prop_assert!(interval.contains(arm.rate()));
    }

    #[test]
    fn adjusted_p_values_are_larger_and_keep_the_order(
        p_values in prop::collection::vec(0.0..=1.0, 0..40),
    ) {
        for correction in [
            Correction::Bonferroni,
            Correction::Holm,
            Correction::BenjaminiHochberg,
            Correction::BenjaminiYekutieli,
        ] {
            let adjusted = adjust(correction, &p_values).unwrap();
            let mut pairs: Vec<(f64, f64)> = p_values.iter().copied().zip(adjusted).collect();
            prop_assert!(pairs.iter().all(|(raw, adjusted)| raw <= adjusted && *adjusted <= 1.0));
            pairs.sort_by(|x, y| x.0.total_cmp(&y.0));
            prop_assert!(pairs.windows(2).all(|pair| pair[0].1 <= pair[1].1));
        }
    }

    #[test]
    fn sample_ratio_depends_on_the_ratio_of_weights_only(
        arms in prop::collection::vec((0_u64..1_000_000, 1.0..100.0), 2..8),
    ) {
        let (counts, weights): (Vec<u64>, Vec<f64>) = arms.into_iter().unzip();
        let scaled: Vec<f64> = weights.iter().map(|weight| weight * 4.0).collect();
        prop_assert_eq!(
            sample_ratio_mismatch(&counts, &weights).unwrap(),
            sample_ratio_mismatch(&counts, &scaled).unwrap()
        );
    }

    #[test]
    fn exact_sums_agree_with_two_passes_over_the_values(
        values in prop::collection::vec(-100_000_i64..100_000, 1..60),
    ) {
        let summary = from_values(&values, 0);
        let n = values.len() as f64;
        let mean = values.iter().map(|x| *x as f64).sum::<f64>() / n;
        let squares: f64 = values.iter().map(|x| (*x as f64 - mean).powi(2)).sum();
        prop_assert!(is_close(summary.mean(), mean / 1e4, 1e-14));
        let expected = (values.len() >= 2).then(|| squares / (n - 1.0) / 1e8);
        prop_assert!(are_close(summary.variance(), expected, 1e-12));
    }

    #[test]
    fn exact_variance_does_not_move_with_the_mean(
        values in prop::collection::vec(-1000_i64..1000, 2..60),
        offset in -1_000_000_000_000_000_i64..1_000_000_000_000_000,
    ) {
        let (near, far) = (from_values(&values, 0), from_values(&values, offset));
        prop_assert!(are_close(near.variance(), far.variance(), 0.0));
    }
}

/// The summary of values in ten-thousandths, each moved by `offset`.
fn from_values(values: &[i64], offset: i64) -> Summary {
    let moved = values.iter().map(|x| i128::from(x + offset));
    let sum = moved.clone().sum();
    let sum_of_squares = moved.map(|x| x * x).sum();
    Summary::from_exact(values.len() as u64, sum, sum_of_squares, 1e-4).unwrap()
}

#[test]
fn impossible_sums_are_refused() {
    assert!(Summary::from_exact(2, 10, 49, 1.0).is_err());
    assert!(Summary::from_exact(1, 10, 101, 1.0).is_err());
    assert!(Summary::from_exact(2, 0, -1, 1.0).is_err());
    assert!(Summary::from_exact(0, 0, 0, 1.0).is_err());
    assert!(Summary::from_exact(2, 1, 1, 0.0).is_err());
    assert!(Summary::from_exact(2, 1, 1, f64::NAN).is_err());
}

#[test]
fn largest_sums_do_not_overflow() {
    let n = u64::MAX;
    let arm = Summary::from_exact(n, i128::MAX / (1 << 40), i128::MAX, 1e-4).unwrap();
    assert!(arm.variance().is_some_and(|variance| variance > 0.0));
    let all = Proportion::new(n, n).unwrap();
    let none = Proportion::new(0, n).unwrap();
    assert!(is_close(two_proportion_z(&none, &all).difference, 1.0, 0.0));
}
