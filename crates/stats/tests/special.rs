//! Special functions against values computed with 60 digits (mpmath 1.4).

use trialog_stats::special::{
    chi_squared_upper_tail, f_upper_tail, normal_quantile, normal_upper_tail, t_critical,
    t_quantile, t_two_sided_tail,
};
use trialog_stats::{Alpha, StatsError};

/// t, df, P(|T| > t).
const T_TAILS: [[f64; 3]; 35] = [
    [0.01, 1.0, 0.9936340144701835],
    [1.4141, 1.0, 0.3918506520047958],
    [1.4143, 1.0, 0.39180821014386946],
    [5.0, 1.0, 0.12566591637800237],
    [37.0, 1.0, 0.017201752210866308],
    [0.01, 1.5, 0.99318548966292],
    [1.4141, 1.5, 0.32944252488103587],
    [1.4143, 1.5, 0.329395262925992],
    [5.0, 1.5, 0.06537576762115624],
    [37.0, 1.5, 0.0033489768919296695],
    [0.01, 3.0, 0.992649111412852],
    [1.4141, 3.0, 0.2522455511906984],
    [1.4143, 3.0, 0.2521926228045091],
    [5.0, 3.0, 0.015392438073302301],
    [37.0, 3.0, 4.3423488124979124e-05],
    [0.01, 29.3, 0.9920890669274491],
    [1.4141, 29.3, 0.16787105052571896],
    [1.4143, 29.3, 0.16781286419244212],
    [5.0, 29.3, 2.471650542192716e-05],
    [37.0, 29.3, 3.764165796989708e-26],
    [0.01, 10000.0, 0.9920214868493558],
    [1.4141, 10000.0, 0.15736367465309709],
    [1.4143, 10000.0, 0.15730496992970044],
    [5.0, 10000.0, 5.830326613662647e-07],
    [37.0, 10000.0, 5.622631235279516e-281],
    [0.01, 100000000.0, 0.992021287390685],
    [1.4141, 100000000.0, 0.15733254627290194],
    [1.4143, 100000000.0, 0.15727384008170744],
    [5.0, 100000000.0, 5.733041101267286e-07],
    [37.0, 100000000.0, 1.1504999776822916e-299],
    [0.01, 1000000000000.0, 0.9920212873707388],
    [1.4141, 1000000000000.0, 0.15733254315999043],
    [1.4143, 1000000000000.0, 0.15727383696864916],
    [5.0, 1000000000000.0, 5.733031438550245e-07],
    [37.0, 1000000000000.0, 1.1451147818207014e-299],
];

/// x, df, P(X > x).
const CHI_SQUARED_TAILS: [[f64; 3]; 17] = [
    [0.01, 1.0, 0.920344325445942],
    [1.0, 1.0, 0.3173105078629141],
    [3.0, 1.0, 0.0832645166635504],
    [0.02, 2.0, 0.9900498337491681],
    [2.0, 2.0, 0.36787944117144233],
    [6.0, 2.0, 0.049787068367863944],
    [0.05, 5.0, 0.999970790460001],
    [5.0, 5.0, 0.41588018699550794],
    [15.0, 5.0, 0.010362337915786437],
    [20.299999999999997, 50.0, 0.9999408486154656],
    [50.0, 50.0, 0.47339846855634937],
    [110.0, 50.0, 2.1335206103199464e-06],
    [170.0, 200.0, 0.9392559043485399],
    [206.0, 200.0, 0.3705827655190023],
    [666.6666666666666, 200.0, 1.522076615633295e-51],
    [985.5903020168238, 999.0, 0.6127221058463497],
    [1066.048489915881, 999.0, 0.06909949588494649],
];

/// p, quantile.
const NORMAL_QUANTILES: [[f64; 2]; 13] = [
    [2e-308, -37.52221956752407],
    [1e-200, -30.20559417957964],
    [1e-50, -14.933337534788489],
    [1e-12, -7.034483825301132],
    [1.3e-11, -6.667611456510741],
    [1e-08, -5.612001244174789],
    [0.0123, -2.247626755795138],
    [0.07, -1.4757910281791706],
    [0.0751, -1.43882539275254],
    [0.3, -0.5244005127080408],
    [0.50001, 2.506628274882086e-05],
    [0.93, 1.475791028179171],
    [0.999999, 4.753424308817087],
];

/// f, df1, df2, P(F > f).
const F_TAILS: [[f64; 4]; 17] = [
    [0.3, 2.0, 1.0, 0.7905694150420949],
    [0.01, 3.0, 4.5, 0.9984252127103681],
    [1.0, 3.0, 4.5, 0.47127149378516064],
    [40.0, 3.0, 4.5, 0.0011011532859368264],
    [0.9, 5.0, 37.25, 0.49131715833679523],
    [2.5, 5.0, 37.25, 0.0476357964282899],
    [60.0, 5.0, 37.25, 8.525673817518867e-17],
    [0.5, 49.0, 1200.5, 0.9985066784769914],
    [1.5, 49.0, 1200.5, 0.015507488132763324],
    [9.0, 49.0, 1200.5, 2.9482239291839946e-53],
    [1.7, 7.0, 1e6, 0.10389714295606195],
    [80.0, 7.0, 1e6, 1.0744270028112295e-116],
    [1.7, 7.0, 1e9, 0.10389575439606401],
    [80.0, 7.0, 1e9, 9.948977018991233e-117],
    [3.5, 2.0, 1e12, 0.03019738342268842],
    [0.98, 999.0, 5e4, 0.6668141634495981],
    [1.3, 999.0, 5e4, 6.24302057304072e-10],
];

#[track_caller]
fn assert_close(got: f64, want: f64, relative: f64) {
    let error = (got / want - 1.0).abs();
    assert!(
        error <= relative,
        "{got:e} is not {want:e}: off by {error:e}"
    );
}

#[test]
fn t_tails_keep_their_digits_for_any_df() {
    for [t, df, p] in T_TAILS {
        assert_close(t_two_sided_tail(t, df).unwrap(), p, 2e-13);
        assert_close(t_two_sided_tail(-t, df).unwrap(), p, 2e-13);
    }
}

#[test]
fn t_critical_values_lead_back_to_t() {
    for [t, df, p] in T_TAILS {
        let got = t_critical(Alpha::new(p).unwrap(), df).unwrap();
        assert_close(got, t, if p > 0.9 { 1e-12 } else { 1e-14 });
    }
}

#[test]
fn chi_squared_tails_keep_their_digits() {
    for [x, df, p] in CHI_SQUARED_TAILS {
        assert_close(chi_squared_upper_tail(x, df).unwrap(), p, 1e-12);
    }
    assert_close(chi_squared_upper_tail(0.0, 3.0).unwrap(), 1.0, 0.0);
    assert!(chi_squared_upper_tail(f64::INFINITY, 3.0).unwrap() <= 0.0);
}

#[test]
fn f_tails_keep_their_digits() {
    for [f, df1, df2, p] in F_TAILS {
        assert_close(f_upper_tail(f, df1, df2).unwrap(), p, 1e-11);
    }
    // One degree of freedom above is the square of t, and a known denominator is chi-squared.
    assert_close(
        f_upper_tail(4.41, 1.0, 17.5).unwrap(),
        t_two_sided_tail(2.1, 17.5).unwrap(),
        1e-14,
    );
    for df2 in [1e14, 1e16, f64::INFINITY] {
        assert_close(
            f_upper_tail(2.5, 4.0, df2).unwrap(),
            chi_squared_upper_tail(10.0, 4.0).unwrap(),
            1e-12,
        );
    }
    assert_close(f_upper_tail(-1.0, 3.0, 5.0).unwrap(), 1.0, 0.0);
    assert!(f_upper_tail(f64::INFINITY, 3.0, 5.0).unwrap() <= 0.0);
    assert!((0.0..1e-300).contains(&f_upper_tail(f64::MAX, 3.0, 5.0).unwrap()));
}

#[test]
fn normal_quantiles_match_and_lead_back_to_p() {
    for [p, z] in NORMAL_QUANTILES {
        assert_close(normal_quantile(p).unwrap(), z, 1e-15);
        assert_close(normal_upper_tail(-z), p, 3e-13);
    }
}

#[test]
fn infinite_df_is_the_normal_distribution() {
    let normal = t_critical(Alpha::P05, f64::INFINITY).unwrap();
    assert_close(normal, -normal_quantile(0.025).unwrap(), 0.0);
    let far = t_two_sided_tail(8.0, f64::INFINITY).unwrap();
    assert_close(far, t_two_sided_tail(8.0, 1e18).unwrap(), 1e-13);
}

#[test]
fn extreme_arguments_stay_finite() {
    let smallest = Alpha::new(f64::MIN_POSITIVE).unwrap();
    assert_close(
        t_critical(smallest, 1.0).unwrap(),
        2.0 / std::f64::consts::PI / f64::MIN_POSITIVE,
        1e-12,
    );
    assert_close(
        t_two_sided_tail(1e300, 1.0).unwrap(),
        6.366197723675814e-301,
        1e-12,
    );
    assert!(t_two_sided_tail(f64::INFINITY, 5.0).unwrap() <= 0.0);
    assert!(t_two_sided_tail(1000.0, 1e9).unwrap() <= 0.0);
    assert_close(t_quantile(0.5, 7.0).unwrap() + 1.0, 1.0, 0.0);
    assert!(t_quantile(0.2, 7.0).unwrap() < 0.0);
}

#[test]
fn arguments_out_of_range_are_refused() {
    assert_eq!(
        t_critical(Alpha::P05, 0.5),
        Err(StatsError::DegreesOfFreedom(0.5))
    );
    assert!(t_two_sided_tail(1.0, f64::NAN).is_err());
    assert!(t_two_sided_tail(f64::NAN, 3.0).is_err());
    assert_eq!(t_quantile(1.0, 3.0), Err(StatsError::Probability(1.0)));
    assert!(t_quantile(f64::NAN, 3.0).is_err());
    assert_eq!(normal_quantile(0.0), Err(StatsError::Probability(0.0)));
    assert!(chi_squared_upper_tail(1.0, 0.0).is_err());
    assert!(chi_squared_upper_tail(f64::NAN, 1.0).is_err());
    for [f, df1, df2] in [[f64::NAN, 2.0, 2.0], [1.0, 0.5, 2.0], [1.0, 2.0, f64::NAN]] {
        assert!(f_upper_tail(f, df1, df2).is_err());
    }
}
