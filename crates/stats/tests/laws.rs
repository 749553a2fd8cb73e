//! Laws of the families beyond two means and two rates.

#![expect(
    clippy::unwrap_used,
    reason = "generated inputs are valid by construction"
)]

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use trialog_stats::group_sequential::{Boundary, group_sequential};
use trialog_stats::power::{Design, Metric, RateTest};
use trialog_stats::special::beta_tails;
use trialog_stats::{
    Alpha, BetaPosterior, BinMoments, Claim, Estimate, Moments, RatioSums, SegmentDifference,
    StabilityLook, Summary, chi_squared, choose_rate, confidence_sequence, fisher_exact,
    heterogeneity, holdout_accounting, interaction, msprt, novelty, ratio_test, stability,
    winsorize,
};

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn is_close(x: f64, y: f64, relative: f64) -> bool {
    (x - y).abs() <= relative * x.abs().max(y.abs()).max(1e-300)
}

fn arm() -> impl Strategy<Value = Summary> {
    (2_u64..1_000_000, -100.0..100.0, 0.01..1000.0)
        .prop_map(|(n, mean, variance)| Summary::new(n, mean, Some(variance)).unwrap())
}

fn alpha() -> impl Strategy<Value = Alpha> {
    (1e-6..0.5).prop_map(|alpha| Alpha::new(alpha).unwrap())
}

fn metric() -> impl Strategy<Value = Metric> {
    let test = prop::sample::select(vec![
        RateTest::Arcsine,
        RateTest::Pooled,
        RateTest::Unpooled,
    ]);
    prop_oneof![
        (0.1..100.0, any::<bool>()).prop_map(|(sd, is_normal)| Metric::Mean { sd, is_normal }),
        (0.01..0.6, test).prop_map(|(control, test)| Metric::Rate { control, test }),
    ]
}

/// An effect that suits the metric: `share` of a deviation, or of what is left to 1.
fn effect(metric: Metric, share: f64) -> f64 {
    match metric {
        Metric::Mean { sd, .. } => sd * share,
        Metric::Rate { control, .. } => (1.0 - control) * share * 0.5,
    }
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn the_mixture_interval_excludes_zero_exactly_when_p_is_below_alpha(
        a in arm(), b in arm(), alpha in alpha(), z in 0.0..8.0, share in 1e-3..1e3,
    ) {
        let variance = a.estimate().unwrap().variance + b.estimate().unwrap().variance;
        let b = Summary::new(b.n(), a.mean() + z * variance.sqrt(), b.variance()).unwrap();
        let test = msprt(&a, &b, variance * share, 0.0).unwrap();
        let p_value = test.p_value.unwrap();
        prop_assume!(!is_close(p_value, alpha.get(), 1e-9));
        let excludes = !test.interval(alpha).unwrap().contains(0.0);
        prop_assert_eq!(excludes, p_value < alpha.get());
    }

    #[test]
    fn the_confidence_sequence_agrees_with_its_p_value_and_is_wider_than_a_fixed_interval(
        variance in 1e-6..1e3, z in 0.0..8.0, n in 2_u64..100_000_000, alpha in alpha(),
        tuning in 10.0..1e7,
    ) {
        let difference = Estimate { value: z * f64::sqrt(variance), variance };
        let look = confidence_sequence(&difference, n, alpha, tuning).unwrap();
        let (p_value, interval) = (look.p_value.unwrap(), look.interval.unwrap());
        prop_assume!(!is_close(p_value, alpha.get(), 1e-9));
        prop_assert_eq!(!interval.contains(0.0), p_value < alpha.get());
        let fixed = trialog_stats::special::normal_critical(alpha) * variance.sqrt();
        prop_assert!(look.half_width.unwrap() > fixed);
    }

    #[test]
    fn power_grows_with_units_and_effect_and_is_alpha_without_one(
        metric in metric(), alpha in 0.001..0.2, ratio in 0.2..5.0,
        n in 20.0..1e5, share in 0.01..0.9, more in 1.01..3.0,
    ) {
        let design = Design::new(metric, Alpha::new(alpha).unwrap(), ratio).unwrap();
        let power = |share: f64, n: f64| design.power(effect(metric, share), n).unwrap();
        prop_assert!(is_close(power(0.0, n), alpha, 1e-9));
        prop_assert!(power(share, n * more) >= power(share, n) - 1e-12);
        // The pooled approximation may turn near a rate of 1, where nobody plans.
        if matches!(metric, Metric::Mean { .. }) {
            prop_assert!(power(share * more, n) >= power(share, n) - 1e-12);
        }
    }

    #[test]
    fn sample_size_and_mde_are_inverse_to_power(
        metric in metric(), ratio in 0.2..5.0, share in 0.02..0.5, target in 0.3..0.99,
    ) {
        let design = Design::new(metric, Alpha::P05, ratio).unwrap();
        let effect = effect(metric, share);
        let size = design.sample_size(effect, target).unwrap().unwrap();
        let few = (1.0 + 1.0 / ratio).max(3.0);
        prop_assume!(size.n_control > few);
        prop_assert!(is_close(design.power(effect, size.n_control).unwrap(), target, 1e-7));
        let mde = design.mde(size.n_control, target).unwrap().unwrap();
        prop_assert!(is_close(mde, effect, 1e-6), "{mde} {effect}");
    }

    #[test]
    fn moments_merge_in_any_order_and_grouping(
        values in prop::collection::vec(-1e6..1e6, 1..80), cut in any::<prop::sample::Index>(),
        offset in -1e9..1e9,
    ) {
        let values: Vec<f64> = values.into_iter().map(|value: f64| value + offset).collect();
        let whole: Moments = values.iter().copied().collect();
        let (left, right) = values.split_at(cut.index(values.len()));
        let (left, right): (Moments, Moments) =
            (left.iter().copied().collect(), right.iter().rev().copied().collect());
        let (mut one, mut other) = (left, right);
        one.merge(&right);
        other.merge(&left);
        for merged in [one, other] {
            prop_assert_eq!(merged.n(), whole.n());
            prop_assert!(is_close(merged.mean().unwrap(), whole.mean().unwrap(), 1e-14));
            let slack = 1e-12 * whole.m2().unwrap() + 1e-6;
            prop_assert!((merged.m2().unwrap() - whole.m2().unwrap()).abs() <= slack);
        }
    }

    #[test]
    fn exact_tails_add_up_and_mirror(table in prop::array::uniform4(0_u64..60)) {
        let [a, b, c, d] = table;
        let test = fisher_exact(&[[a, b], [c, d]]).unwrap();
        let swapped = fisher_exact(&[[c, d], [a, b]]).unwrap();
        prop_assert!(is_close(test.p_value, swapped.p_value, 1e-9));
        prop_assert!(is_close(test.p_less, swapped.p_greater, 1e-9));
        prop_assert!(test.p_less + test.p_greater >= 1.0 - 1e-9);
        prop_assert!(test.p_value <= 1.0 && test.p_value >= test.p_less.min(test.p_greater) - 1e-9);
    }

    #[test]
    fn chi_squared_is_that_of_the_transposed_table(
        cells in prop::collection::vec(1_u64..10_000, 6),
    ) {
        let wide: Vec<Vec<u64>> = cells.chunks(3).map(<[u64]>::to_vec).collect();
        let tall: Vec<Vec<u64>> = (0..3).map(|column| vec![wide[0][column], wide[1][column]]).collect();
        let (wide, tall) = (chi_squared(&wide).unwrap().unwrap(), chi_squared(&tall).unwrap().unwrap());
        prop_assert_eq!(wide.df, tall.df);
        prop_assert!(is_close(wide.chi_squared, tall.chi_squared, 1e-9) || wide.chi_squared < 1e-9);
    }

    #[test]
    fn both_tails_of_beta_add_to_one_and_mirror(
        x in 0.0..1.0, a in -2.0..7.0, b in -2.0..7.0,
    ) {
        let (a, b) = (10_f64.powf(a), 10_f64.powf(b));
        let (tails, mirrored) = (beta_tails(x, a, b).unwrap(), beta_tails(1.0 - x, b, a).unwrap());
        prop_assert!((tails.lower + tails.upper - 1.0).abs() < 1e-12);
        prop_assert!((tails.lower - mirrored.upper).abs() < 1e-8, "{tails:?} {mirrored:?}");
    }

    #[test]
    fn a_ratio_scales_with_its_numerator(
        rows in prop::collection::vec((0_u32..50, 1_u32..50), 3..40), factor in 1_u32..20,
    ) {
        let sums = |factor: f64| {
            let mut sums = RatioSums { n: rows.len() as u64, m: 0.0, d: 0.0, mm: 0.0, dd: 0.0, md: 0.0 };
            for (m, d) in &rows {
                let (m, d) = (f64::from(*m) * factor, f64::from(*d));
                sums.m += m;
                sums.d += d;
                sums.mm += m * m;
                sums.dd += d * d;
                sums.md += m * d;
            }
            sums
        };
        let factor = f64::from(factor);
        let plain = ratio_test(&sums(1.0), &sums(1.0)).unwrap().unit_variances[0].unwrap();
        let scaled = ratio_test(&sums(factor), &sums(factor)).unwrap().unit_variances[0].unwrap();
        prop_assert!(is_close(scaled, plain * factor * factor, 1e-6) || scaled < 1e-9);
    }

    #[test]
    fn winsorising_keeps_values_within_the_thresholds(
        a in prop::collection::vec(-1e3..1e3, 2..40), b in prop::collection::vec(-1e3..1e3, 2..40),
        low in 0.0..0.4, high in 0.6..1.0,
    ) {
        let clipped = winsorize(&a, &b, Some(low), Some(high)).unwrap();
        let (low, high) = (clipped.lower_threshold.unwrap(), clipped.upper_threshold.unwrap());
        for arm in &clipped.arms {
            prop_assert!(low - 1e-9 <= arm.mean() && arm.mean() <= high + 1e-9);
        }
        let all = winsorize(&a, &b, None, None).unwrap();
        prop_assert_eq!((all.clipped_low, all.clipped_high), ([0, 0], [0, 0]));
    }
}

proptest! {
    #![proptest_config(config(40))]

    #[test]
    fn chances_of_two_rates_add_to_one_and_losses_differ_by_the_difference(
        k_a in 0_u64..2_000, k_b in 0_u64..2_000, more in 1_u64..200_000,
    ) {
        let prior = BetaPosterior::new(0.5, 0.5).unwrap();
        let (a, b) = (prior.update(k_a, k_a + more).unwrap(), prior.update(k_b, k_b + more).unwrap());
        let (forth, back) = (choose_rate(&a, &b), choose_rate(&b, &a));
        prop_assert!((forth.chance_to_win + back.chance_to_win - 1.0).abs() < 1e-9);
        let gain = forth.expected_loss_choose_a - forth.expected_loss_choose_b;
        prop_assert!((gain - (b.mean() - a.mean())).abs() < 1e-9, "{gain}");
    }

    #[test]
    fn plans_of_looks_spend_alpha_in_all(
        steps in prop::collection::vec(0.05..1.0, 1..8), alpha in 0.001..0.2, r in 0.5..4.0,
    ) {
        let total: f64 = steps.iter().sum();
        let mut sum = 0.0;
        let mut fractions: Vec<f64> = steps.iter().map(|step| { sum += step; sum / total }).collect();
        *fractions.last_mut().unwrap() = 1.0;
        let alpha = Alpha::new(alpha).unwrap();
        for boundary in [
            Boundary::SpendingObrienFleming,
            Boundary::SpendingPocock,
            Boundary::SpendingPower(r),
        ] {
            let plan = group_sequential(boundary, &fractions, alpha).unwrap();
            prop_assert!(is_close(*plan.cumulative_alpha_spent.last().unwrap(), alpha.get(), 1e-9));
            prop_assert!(plan.nominal_p.iter().all(|p| *p <= alpha.get() * (1.0 + 1e-9)));
        }
        let even: Vec<f64> = (1..=steps.len()).map(|look| look as f64 / steps.len() as f64).collect();
        for boundary in [Boundary::ClassicalPocock, Boundary::ClassicalObrienFleming] {
            let plan = group_sequential(boundary, &even, alpha).unwrap();
            prop_assert!(is_close(*plan.cumulative_alpha_spent.last().unwrap(), alpha.get(), 1e-9));
        }
    }
}

fn segments() -> impl Strategy<Value = Vec<SegmentDifference>> {
    let segment = (-10.0..10.0, 0.01..10.0, 1.0..1e6);
    let segment = segment.prop_map(|(difference, variance, df): (f64, f64, f64)| {
        let segment = SegmentDifference {
            difference,
            variance,
            df,
            score: None,
        };
        segment.with_score((7.0 * difference).sin())
    });
    prop::collection::vec(segment, 2..12)
}

/// Values of some users in the bins of three to six days, and the number of bins.
fn users() -> impl Strategy<Value = (Vec<Vec<f64>>, Vec<Vec<f64>>)> {
    (3_usize..7).prop_flat_map(|n_bins| {
        let user = || prop::collection::vec(0.0_f64..5.0, n_bins);
        (
            prop::collection::vec(user(), 5..30),
            prop::collection::vec(user(), 5..30),
        )
    })
}

fn bins(users: &[Vec<f64>]) -> BinMoments {
    let mut moments = BinMoments::default();
    users.iter().for_each(|user| moments.push(user).unwrap());
    moments
}

proptest! {
    #![proptest_config(config(500))]

    #[test]
    fn heterogeneity_depends_on_neither_order_nor_scale_nor_a_common_shift(
        segments in segments(),
        scale in 1e-6_f64..1e6,
        shift in -5.0_f64..5.0,
    ) {
        let moved = segments.iter().rev().map(|segment| SegmentDifference {
            difference: scale * (segment.difference + shift),
            variance: scale * scale * segment.variance,
            ..*segment
        });
        let moved: Vec<_> = moved.collect();
        let one = heterogeneity(&segments, Alpha::P05).unwrap().unwrap();
        let other = heterogeneity(&moved, Alpha::P05).unwrap().unwrap();
        prop_assert!(is_close(one.f.f, other.f.f, 1e-9));
        prop_assert!(is_close(one.f.p_value, other.f.p_value, 1e-8));
        let apart: f64 = one.tau_squared - other.tau_squared / scale / scale;
        prop_assert!(apart.abs() <= 1e-9 * (1.0 + one.tau_squared));
        for (index, effect) in one.segments.iter().enumerate() {
            let same = &other.segments[segments.len() - 1 - index];
            prop_assert!((effect.contrast - same.contrast / scale).abs() <= 1e-11);
            prop_assert!(is_close(effect.df, same.df, 1e-9));
        }
        let last = segments.len() - 1;
        let named: Vec<usize> = other.named.iter().map(|index| last - index).collect();
        prop_assert_eq!(&one.named, &named);
        // Shrinking goes towards the middle and never beyond the noise.
        for (segment, effect) in segments.iter().zip(&one.segments) {
            prop_assert!(effect.shrunk_sd <= segment.variance.sqrt() * (1.0 + 1e-12));
        }
    }

    #[test]
    fn two_segments_are_one_contrast(segments in segments()) {
        let found = heterogeneity(&segments[..2], Alpha::P05).unwrap().unwrap();
        let [first, second] = [&found.segments[0], &found.segments[1]];
        prop_assert!(is_close(found.f.p_value, first.p_value, 1e-9));
        prop_assert!(is_close(first.contrast, -second.contrast, 1e-12));
        prop_assert!(found.named.is_empty());
    }

    #[test]
    fn the_slope_has_the_error_of_one_score_per_user(
        (users_a, users_b) in users(),
        scale in 1e-3_f64..1e3,
    ) {
        let (a, b) = (bins(&users_a), bins(&users_b));
        let found = novelty(&a, &b).unwrap();
        prop_assume!(found.slope.is_some());
        let slope = found.slope.unwrap();
        let logs: Vec<f64> = (1..=a.n_bins()).map(|day| (day as f64).ln()).collect();
        let middle = logs.iter().sum::<f64>() / logs.len() as f64;
        let squares: f64 = logs.iter().map(|x| (x - middle) * (x - middle)).sum();
        let variance = |users: &[Vec<f64>], arm: &BinMoments| {
            let score = |user: &Vec<f64>| -> f64 {
                let days = user.iter().zip(arm.means()).zip(&logs);
                days.map(|((y, mean), x)| (x - middle) / squares * y / mean).sum()
            };
            let scores: Moments = users.iter().map(score).collect();
            scores.variance().unwrap() / users.len() as f64
        };
        let want = (variance(&users_a, &a) + variance(&users_b, &b)).sqrt();
        prop_assert!(is_close(slope.standard_error, want, 1e-9));
        // Neither the unit nor which arm is the control changes what it says.
        let scaled: Vec<Vec<f64>> = users_a
            .iter()
            .map(|user| user.iter().map(|y| scale * y).collect())
            .collect();
        let other = novelty(&b, &bins(&scaled)).unwrap().slope.unwrap();
        prop_assert!((slope.estimate + other.estimate).abs() < 1e-11);
        prop_assert!(is_close(slope.standard_error, other.standard_error, 1e-9));
    }

    #[test]
    fn what_all_looks_have_in_common_lies_in_each_of_them(
        arms in prop::collection::vec((arm(), arm()), 1..20),
    ) {
        let looks: Vec<StabilityLook> = (arms.iter())
            .map(|(a, b)| StabilityLook::from_arms(a, b, Alpha::P05, 5_000.0).unwrap())
            .collect();
        let found = stability(&looks, Some(1.0)).unwrap();
        if let Some(common) = found.intersection {
            for look in &looks {
                let interval = look.interval.unwrap();
                prop_assert!(interval.contains(common.low) && interval.contains(common.high));
            }
        }
        let since = found.stable_since.unwrap();
        let interval = looks[since].interval.unwrap();
        prop_assert!(looks[since..].iter().all(|look| interval.contains(look.estimate)));
    }

    #[test]
    fn two_variants_of_each_are_one_contrast(
        [first, second, third, fourth] in prop::array::uniform4(arm()),
    ) {
        let cells = [vec![Some(first), Some(second)], vec![Some(third), Some(fourth)]];
        let found = interaction(&cells, Alpha::P05, 0.8).unwrap();
        let (test, contrast) = (found.interaction.unwrap(), found.contrasts[0].test.unwrap());
        let t = contrast.estimate / contrast.standard_error;
        prop_assert!(is_close(test.f, t * t, 1e-9));
        prop_assert!(is_close(test.df2, contrast.df, 1e-9));
        prop_assert!(is_close(test.p_value, contrast.p_value, 1e-8));
    }

    #[test]
    fn claims_that_the_holdout_shows_leave_no_gap(
        (held_out, in_scope) in (arm(), arm()),
        share in 0.01_f64..1.0,
    ) {
        let difference = in_scope.mean() - held_out.mean();
        let claim = Claim { effect: difference / share, standard_error: 0.1, share };
        let found = holdout_accounting(Some(&held_out), Some(&in_scope), &[claim], None).unwrap();
        prop_assert!(found.gap.unwrap().p_value > 0.999);
        prop_assert!((found.kept.unwrap() - 1.0).abs() < 1e-9);
    }
}
