//! Whether the tests keep their promises, by simulation: how often each rejects where
//! there is no effect, how often its interval holds the truth, how often it finds
//! an effect as planned, and what becomes of each when people look every hour.
//!
//! Prints the table of docs/statistics.md. `TRIALOG_SIMULATIONS=20` makes twenty
//! times as many experiments as a run of the tests has time for.

#![expect(clippy::print_stdout, reason = "prints the table")]
#![expect(clippy::unwrap_used, reason = "simulated inputs are valid")]

#[path = "common/random.rs"]
mod random;
#[path = "common/rates.rs"]
mod rates;

use random::{Random, times};
use rates::{Rate, about, at_most, head, line, rate};
use trialog_stats::group_sequential::{Boundary, group_sequential};
use trialog_stats::power::{Design, Metric, RateTest};
use trialog_stats::{
    Alpha, Cell, CoMoments, Correction, CovariateSummary, DifferenceType, Estimate, Moments,
    Proportion, QuantileSummary, RatioSums, Summary, adjust, anova_2x2, chi_squared,
    confidence_sequence, cuped, fisher_exact, msprt, normal_posterior, quantile_test, ratio_test,
    sample_ratio_mismatch, two_proportion_z, welch,
};

const SEED: u64 = 20_261_126;
const ALPHA: Alpha = Alpha::P05;

/// The random numbers of one simulation.
fn stream(stream: u64) -> Random {
    Random::new(SEED ^ (stream << 32))
}

impl Random {
    fn exponential(&mut self) -> f64 {
        -self.uniform().ln()
    }

    fn sample(&mut self, n: usize, mean: f64, sd: f64) -> Summary {
        let values = (0..n).map(|_| mean + sd * self.normal());
        values.collect::<Moments>().summary().unwrap()
    }

    fn proportion(&mut self, n: u64, rate: f64) -> Proportion {
        let conversions = (0..n).filter(|_| self.happens(rate)).count() as u64;
        Proportion::new(conversions, n).unwrap()
    }
}

/// The rate has to be `promised`, within the band.
fn exact(what: &str, promised: f64, rate: &Rate) {
    line(what, rate, &format!("{promised}"));
    assert!(
        (rate.share - promised).abs() <= rate.band,
        "{what}: {}",
        rate.share
    );
}

fn is_below(p_value: Option<f64>) -> bool {
    p_value.is_some_and(|p| p < ALPHA.get())
}

#[test]
fn without_an_effect_tests_reject_as_often_as_they_say() {
    const N: usize = 2_000;
    head("rejections without an effect, alpha 0.05");
    let mut random = stream(1);
    exact(
        "Welch's t, 30 and 60 units, sd 1 and 3",
        0.05,
        &rate(N, 0.05, || {
            let (a, b) = (random.sample(30, 5.0, 1.0), random.sample(60, 5.0, 3.0));
            is_below(welch(&a, &b).p_value)
        }),
    );
    about(
        "two-proportion z, 1,500 units at 10 %",
        0.05,
        &rate(N, 0.05, || {
            let (a, b) = (random.proportion(1_500, 0.1), random.proportion(1_500, 0.1));
            let p = two_proportion_z(&a, &b).p_value;
            is_below(p)
        }),
    );
    about(
        "chi-squared, 3 variants of 600 units at 30 %",
        0.05,
        &rate(N, 0.05, || {
            let row = |arm: Proportion| vec![arm.conversions(), arm.n() - arm.conversions()];
            let table: Vec<_> = (0..3).map(|_| row(random.proportion(600, 0.3))).collect();
            is_below(chi_squared(&table).unwrap().map(|test| test.p_value))
        }),
    );
    at_most(
        "Fisher's exact, 25 units at 30 %",
        0.05,
        &rate(N, 0.05, || {
            let row = |arm: Proportion| [arm.conversions(), arm.n() - arm.conversions()];
            let table = [
                row(random.proportion(25, 0.3)),
                row(random.proportion(25, 0.3)),
            ];
            is_below(Some(fisher_exact(&table).unwrap().p_value))
        }),
    );
}

#[test]
fn tests_of_more_than_two_numbers_reject_as_often_as_they_say() {
    const N: usize = 2_000;
    head("rejections without an effect, alpha 0.05, continued");
    let mut random = stream(7);
    about(
        "sample ratio mismatch, 5,000 units, weights 1 to 4",
        0.05,
        &rate(N, 0.05, || {
            let a = random.proportion(5_000, 0.2).conversions();
            is_below(
                sample_ratio_mismatch(&[a, 5_000 - a], &[1.0, 4.0])
                    .unwrap()
                    .p_value,
            )
        }),
    );
    at_most(
        "any of 10 metrics after Holm",
        0.05,
        &rate(N, 0.05, || {
            let p_values: Vec<f64> = (0..10)
                .filter_map(|_| {
                    welch(&random.sample(40, 0.0, 1.0), &random.sample(40, 0.0, 1.0)).p_value
                })
                .collect();
            adjust(Correction::Holm, &p_values)
                .unwrap()
                .iter()
                .any(|p| is_below(Some(*p)))
        }),
    );
    exact(
        "interaction of two factors, cells of 20 to 50",
        0.05,
        &rate(N, 0.05, || {
            let cells = [20, 30, 40, 50].map(|n| {
                let arm = random.sample(n, 1.0, 2.0);
                Cell {
                    n: arm.n(),
                    mean: arm.mean(),
                    variance: arm.variance().unwrap(),
                }
            });
            is_below(
                anova_2x2(&cells)
                    .unwrap()
                    .and_then(|test| test.type3.interaction.p_value),
            )
        }),
    );
}

/// An arm whose metric goes with a covariate (correlation 0.7).
fn with_covariate(random: &mut Random, n: usize, effect: f64) -> CovariateSummary {
    let pairs = (0..n).map(|_| {
        let x = random.normal();
        (x, effect + 0.7 * x + 0.51_f64.sqrt() * random.normal())
    });
    let moments: CoMoments = pairs.collect();
    let (x, y) = (
        moments.x().summary().unwrap(),
        moments.y().summary().unwrap(),
    );
    CovariateSummary::new(y, x, moments.covariance()).unwrap()
}

/// Clicks and sessions of users with rates of their own.
fn ratio_arm(random: &mut Random, n: u64) -> RatioSums {
    let mut sums = RatioSums {
        n,
        m: 0.0,
        d: 0.0,
        mm: 0.0,
        dd: 0.0,
        md: 0.0,
    };
    for _ in 0..n {
        let sessions = 1.0 + (4.0 * random.exponential()).floor();
        let own_rate = 0.1 + 0.4 * random.uniform();
        let clicks = (0..sessions as u32)
            .filter(|_| random.happens(own_rate))
            .count() as f64;
        sums.m += clicks;
        sums.d += sessions;
        sums.mm += clicks * clicks;
        sums.dd += sessions * sessions;
        sums.md += clicks * sessions;
    }
    sums
}

fn holds(interval: Option<trialog_stats::Interval>, truth: f64) -> bool {
    interval.is_some_and(|interval| interval.contains(truth))
}

#[test]
fn intervals_hold_the_truth_as_often_as_they_say() {
    const N: usize = 2_000;
    head("intervals of 95 % that hold the truth");
    let mut random = stream(2);
    exact(
        "Welch's t, difference of 0.3",
        0.95,
        &rate(N, 0.95, || {
            let test = welch(&random.sample(30, 1.0, 1.0), &random.sample(50, 1.3, 2.0));
            holds(test.interval(ALPHA), 0.3)
        }),
    );
    about(
        "Welch's t, lift of 30 % (delta method)",
        0.95,
        &rate(N, 0.95, || {
            let test = welch(&random.sample(400, 1.0, 1.0), &random.sample(400, 1.3, 1.0));
            holds(test.relative_interval(ALPHA), 0.3)
        }),
    );
    about(
        "Wald, 2,000 units at 10 and 12 %",
        0.95,
        &rate(N, 0.95, || {
            let test = two_proportion_z(
                &random.proportion(2_000, 0.1),
                &random.proportion(2_000, 0.12),
            );
            holds(Some(test.wald(ALPHA)), 0.02)
        }),
    );
    about(
        "Newcombe, 200 units at 10 and 12 %",
        0.95,
        &rate(N, 0.95, || {
            let test =
                two_proportion_z(&random.proportion(200, 0.1), &random.proportion(200, 0.12));
            holds(Some(test.newcombe(ALPHA)), 0.02)
        }),
    );
    about(
        "Wilson, 200 units at 10 %",
        0.95,
        &rate(N, 0.95, || {
            holds(Some(random.proportion(200, 0.1).wilson(ALPHA)), 0.1)
        }),
    );
}

#[test]
fn intervals_of_adjusted_and_derived_metrics_hold_the_truth() {
    const N: usize = 2_000;
    head("intervals of 95 % that hold the truth, continued");
    let mut random = stream(8);
    about(
        "CUPED, correlation 0.7, effect 0.1",
        0.95,
        &rate(N, 0.95, || {
            let (a, b) = (
                with_covariate(&mut random, 200, 0.0),
                with_covariate(&mut random, 200, 0.1),
            );
            holds(cuped(&a, &b).test.interval(ALPHA), 0.1)
        }),
    );
    about(
        "ratio of clicks to sessions, 300 users",
        0.95,
        &rate(N, 0.95, || {
            let (a, b) = (ratio_arm(&mut random, 300), ratio_arm(&mut random, 300));
            holds(
                ratio_test(&a, &b)
                    .unwrap()
                    .test
                    .and_then(|test| test.interval(ALPHA)),
                0.0,
            )
        }),
    );
    about(
        "median of exponential values, 2,000 users",
        0.95,
        &rate(N / 2, 0.95, || {
            let mut arm = || {
                let mut values: Vec<f64> = (0..2_000).map(|_| random.exponential()).collect();
                values.sort_by(f64::total_cmp);
                QuantileSummary::from_sorted(&values, 0.5).unwrap()
            };
            let (a, b) = (arm(), arm());
            holds(quantile_test(&a, &b, 0.5).unwrap().interval(ALPHA), 0.0)
        }),
    );
    about(
        "posterior with a flat prior, 200 users",
        0.95,
        &rate(N, 0.95, || {
            let (a, b) = (random.sample(200, 0.0, 1.0), random.sample(200, 0.2, 1.0));
            let posterior = normal_posterior(&a, &b, DifferenceType::Absolute, None).unwrap();
            holds(
                posterior.and_then(|posterior| posterior.interval(ALPHA)),
                0.2,
            )
        }),
    );
}

#[test]
fn p_values_are_uniform_where_nothing_differs() {
    let mut random = stream(3);
    let n = 4_000 * times();
    let mut p_values: Vec<f64> = (0..n)
        .filter_map(|_| welch(&random.sample(40, 2.0, 1.0), &random.sample(60, 2.0, 1.5)).p_value)
        .collect();
    p_values.sort_by(f64::total_cmp);
    // Kolmogorov's distance from the diagonal; beyond 1.95/√n once in a thousand.
    let distance = (p_values.iter().enumerate())
        .map(|(index, p)| (p - (index as f64 + 0.5) / n as f64).abs())
        .fold(0.0, f64::max);
    println!("\np-values of {n} A/A tests: farthest from uniform {distance:.4}");
    assert!(distance < 1.95 / (n as f64).sqrt());
}

#[test]
fn planned_experiments_have_the_power_that_was_planned() {
    const N: usize = 1_500;
    head("effects found, as planned");
    let mut random = stream(4);
    let mean = Design::new(
        Metric::Mean {
            sd: 2.0,
            is_normal: false,
        },
        ALPHA,
        1.5,
    )
    .unwrap();
    let size = mean.sample_size(0.6, 0.8).unwrap().unwrap();
    let promised = mean.power(0.6, size.n_control_ceil as f64).unwrap();
    let (n_a, n_b) = (size.n_control_ceil as usize, size.n_treatment_ceil as usize);
    let found = rate(N, promised, || {
        is_below(welch(&random.sample(n_a, 1.0, 2.0), &random.sample(n_b, 1.6, 2.0)).p_value)
    });
    exact(
        "a mean, 0.3 standard deviations",
        (promised * 1e3).round() / 1e3,
        &found,
    );
    let metric = Metric::Rate {
        control: 0.2,
        test: RateTest::Pooled,
    };
    let design = Design::new(metric, ALPHA, 1.0).unwrap();
    let size = design.sample_size(0.05, 0.9).unwrap().unwrap();
    let n = size.n_control_ceil;
    let found = rate(N, 0.9, || {
        is_below(two_proportion_z(&random.proportion(n, 0.2), &random.proportion(n, 0.25)).p_value)
    });
    exact("a rate from 20 to 25 %", 0.9, &found);
}

/// What is tested at a look.
#[derive(Clone, Copy)]
enum Counted {
    /// Every user who was exposed, with what came in so far.
    All,
    /// Users whose attribution window has closed.
    Closed,
}

/// A running experiment without an effect: users come over two weeks, each with a
/// rate of purchases of their own through a window of three days; one event in ten
/// comes in up to a day late.
struct Hourly {
    /// For each hour: the arm of a user, the change of their total, and the total before.
    changes: Vec<Vec<(usize, f64, f64)>>,
    /// For each hour and arm: users that are first counted.
    joined: Vec<[u64; 2]>,
}

const HOURS: usize = 14 * 24;
const WINDOW: usize = 3 * 24;

impl Hourly {
    fn new(random: &mut Random, counted: Counted) -> Self {
        let n_hours = HOURS + WINDOW + 24;
        let mut changes = vec![Vec::new(); n_hours + 1];
        let mut joined = vec![[0, 0]; n_hours + 1];
        for user in 0..1_200 {
            let arm = user % 2;
            let exposed = (random.uniform() * HOURS as f64) as usize;
            // A few buy much more than others, and go on to.
            let own_rate = 0.4 * random.exponential() * random.exponential();
            let mut arrivals: Vec<usize> = Vec::new();
            let mut at = random.exponential() / own_rate;
            while at < 3.0 {
                let late = if random.happens(0.1) {
                    24.0 * random.uniform()
                } else {
                    0.0
                };
                arrivals.push(exposed + (at * 24.0 + late) as usize);
                at += random.exponential() / own_rate;
            }
            let from = match counted {
                Counted::All => exposed,
                // Late events are waited for as well.
                Counted::Closed => exposed + WINDOW + 24,
            };
            joined[from][arm] += 1;
            arrivals
                .iter_mut()
                .for_each(|hour| *hour = (*hour).max(from).min(n_hours));
            arrivals.sort_unstable();
            for (index, hour) in arrivals.into_iter().enumerate() {
                changes[hour].push((arm, 1.0, index as f64));
            }
        }
        Self { changes, joined }
    }

    /// Both arms at every hour.
    fn looks(&self) -> impl Iterator<Item = [Summary; 2]> {
        let (mut n, mut sum, mut squares) = ([0_u64; 2], [0.0; 2], [0.0; 2]);
        (0..self.changes.len()).filter_map(move |hour| {
            for (arm, by, before) in &self.changes[hour] {
                sum[*arm] += by;
                squares[*arm] += by * (2.0 * before + by);
            }
            for arm in [0, 1] {
                n[arm] += self.joined[hour][arm];
            }
            let arm = |arm: usize| {
                let (units, mean) = (n[arm] as f64, sum[arm] / n[arm] as f64);
                let variance = (squares[arm] - units * mean * mean) / (units - 1.0);
                Summary::new(n[arm], mean, Some(variance.max(0.0))).ok()
            };
            // Before that an interval that rests on normality means nothing.
            (n[0] >= 50 && n[1] >= 50)
                .then(|| Some([arm(0)?, arm(1)?]))
                .flatten()
        })
    }
}

#[test]
fn hourly_looks_break_the_plain_test_and_not_the_sequential_ones() {
    const N: usize = 500;
    const TAU2: f64 = 0.05;
    head("rejections without an effect at any of some 400 hourly looks");
    let ever = |counted: Counted, is_rejected: &dyn Fn(&Summary, &Summary) -> bool| {
        let mut random = stream(5);
        rate(N, 0.05, || {
            let experiment = Hourly::new(&mut random, counted);
            experiment.looks().any(|[a, b]| is_rejected(&a, &b))
        })
    };
    let mixture = |a: &Summary, b: &Summary| is_below(msprt(a, b, TAU2, 0.0).unwrap().p_value);
    let sequence = |a: &Summary, b: &Summary| {
        let difference = Estimate {
            value: b.mean() - a.mean(),
            variance: a.estimate().unwrap().variance + b.estimate().unwrap().variance,
        };
        let look = confidence_sequence(&difference, a.n() + b.n(), ALPHA, 1_000.0);
        is_below(look.unwrap().p_value)
    };
    let plain = |a: &Summary, b: &Summary| is_below(welch(a, b).p_value);
    at_most(
        "mixture SPRT, users whose window has closed",
        0.05,
        &ever(Counted::Closed, &mixture),
    );
    at_most(
        "confidence sequence, users whose window has closed",
        0.05,
        &ever(Counted::Closed, &sequence),
    );
    at_most(
        "mixture SPRT, totals that still grow",
        0.05,
        &ever(Counted::All, &mixture),
    );
    at_most(
        "confidence sequence, totals that still grow",
        0.05,
        &ever(Counted::All, &sequence),
    );
    let naive = ever(Counted::All, &plain);
    line(
        "Welch's t, looked at every hour",
        &naive,
        "0.05 at one look",
    );
    assert!(naive.share > 0.15, "{}", naive.share);
}

#[test]
fn planned_looks_spend_what_they_may() {
    const N: usize = 4_000;
    head("rejections without an effect at any of 5 planned looks");
    let fractions = [0.2, 0.4, 0.6, 0.8, 1.0];
    for (what, boundary) in [
        ("O'Brien-Fleming spending", Boundary::SpendingObrienFleming),
        ("Pocock spending", Boundary::SpendingPocock),
        (
            "O'Brien-Fleming, classical",
            Boundary::ClassicalObrienFleming,
        ),
        ("Pocock, classical", Boundary::ClassicalPocock),
    ] {
        let plan = group_sequential(boundary, &fractions, ALPHA).unwrap();
        let mut random = stream(6);
        exact(
            what,
            0.05,
            &rate(N, 0.05, || {
                let (mut walk, mut t, mut crossed) = (0.0, 0.0, false);
                for (next, z) in fractions.iter().zip(&plan.z_boundaries) {
                    walk += (next - t).sqrt() * random.normal();
                    t = *next;
                    crossed |= (walk / t.sqrt()).abs() >= *z;
                }
                crossed
            }),
        );
    }
}
