//! What novelty, stability, heterogeneity and interaction say in simulated worlds: weekday
//! cycles, activity that falls with the days, late events, heavy tails, unequal splits; without
//! an effect, with a constant one, and with one that changes.
//!
//! Prints the tables of docs/statistics.md. `TRIALOG_SIMULATIONS=20` makes 20 times as many
//! experiments as a run of the tests has time for.

#![expect(clippy::print_stdout, reason = "prints the tables")]
#![expect(clippy::unwrap_used, reason = "simulated inputs are valid")]

#[path = "common/random.rs"]
mod random;
#[path = "common/rates.rs"]
mod rates;

use random::{Random, times};
use rates::{Rate, about, at_most, head, line, rate};
use trialog_stats::special::{chi_squared_upper_tail, normal_cdf, normal_critical};
use trialog_stats::{
    Alpha, BinMoments, Cell, EffectTrend, Moments, SegmentDifference, StabilityLook, Summary,
    anova_2x2, heterogeneity, interaction, novelty, stability, welch,
};

const SEED: u64 = 20_261_130;
const ALPHA: Alpha = Alpha::P05;

/// The random numbers of one simulation.
fn stream(stream: u64) -> Random {
    Random::new(SEED ^ (stream << 32))
}

impl Random {
    fn log_normal(&mut self, deviation: f64) -> f64 {
        (deviation * self.normal()).exp()
    }

    /// Returns a count with this mean: by waiting times, and normal where these would be many.
    fn poisson(&mut self, mean: f64) -> f64 {
        if mean > 30.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0);
        }
        let limit = (-mean).exp();
        let mut product = self.uniform();
        let mut count = 0.0;
        while product > limit {
            product *= self.uniform();
            count += 1.0;
        }
        count
    }
}

/// The rate has to be at least `promised`, less the band.
fn at_least(what: &str, promised: f64, rate: &Rate) {
    line(what, rate, &format!("at least {promised:.2}"));
    assert!(rate.share >= promised - rate.band, "{what}: {}", rate.share);
}

/// Counts what happened in `n` experiments; a band of four standard errors about `expected`.
fn share(happened: usize, n: usize, expected: f64) -> Rate {
    Rate {
        share: happened as f64 / n as f64,
        band: 4.0 * (expected * (1.0 - expected) / n as f64).sqrt(),
    }
}

/// Activity on two days of a week is this many times that on others.
const WEEKEND: f64 = 1.5;

fn of_weekday(day: usize) -> f64 {
    if day % 7 < 5 { 1.0 } else { WEEKEND }
}

/// Bins of the days since the exposure.
const BINS: usize = 14;
/// Users are exposed on these days, and the data end when the last cohort is complete.
const ENROLS_FOR: usize = 14;

/// Experiments whose users are active on some days and not on others.
#[derive(Clone, Copy)]
struct Activity {
    what: &'static str,
    /// Users of both arms.
    users: usize,
    /// Share of them that sees the treatment.
    share: f64,
    /// Deviation of the logarithm of a user's usual activity.
    deviation: f64,
    /// Activity falls with the days to the power of -fall.
    fall: f64,
    /// Share of the events that come in later, by a day on average: some are not there yet.
    late: f64,
    /// Deviation of the logarithm of what an event is worth; `None` counts events.
    worth: Option<f64>,
    /// ln of treatment/control on the first day, and its change per unit of ln(day).
    lift: f64,
    slope: f64,
}

const CALM: Activity = Activity {
    what: "",
    users: 1_000,
    share: 0.5,
    deviation: 0.7,
    fall: 0.0,
    late: 0.0,
    worth: None,
    lift: 0.0,
    slope: 0.0,
};

impl Activity {
    /// Simulates what a user does in each bin.
    fn user(&self, random: &mut Random, is_treated: bool) -> [f64; BINS] {
        let exposed = random.0.usize(..ENROLS_FOR);
        let usual = 0.5 * random.log_normal(self.deviation);
        let mut bins = [0.0; BINS];
        for (bin, value) in bins.iter_mut().enumerate() {
            let ln_day = (bin as f64 + 1.0).ln();
            let lift = if is_treated {
                self.lift + self.slope * ln_day
            } else {
                0.0
            };
            let mean = usual * of_weekday(exposed + bin) * (lift - self.fall * ln_day).exp();
            let left = (ENROLS_FOR + BINS - exposed - bin) as f64;
            for _ in 0..random.poisson(mean) as usize {
                let waited = left - random.uniform();
                if self.late > 0.0 && random.happens(self.late) && -random.uniform().ln() > waited {
                    continue;
                }
                *value += self
                    .worth
                    .map_or(1.0, |deviation| random.log_normal(deviation));
            }
        }
        bins
    }

    /// Simulates one experiment: control and treatment.
    fn arms(&self, random: &mut Random) -> [BinMoments; 2] {
        let mut arms = [BinMoments::default(), BinMoments::default()];
        for _ in 0..self.users {
            let arm = usize::from(random.happens(self.share));
            let user = self.user(random, arm == 1);
            arms[arm].push(&user).unwrap();
        }
        arms
    }

    /// Counts the verdict `wanted`, and what of it was to be expected from each slope's error.
    fn found(&self, random: &mut Random, n: usize, wanted: EffectTrend) -> (usize, f64) {
        let (mut n_found, mut power) = (0, 0.0);
        for _ in 0..n {
            let [a, b] = self.arms(random);
            let found = novelty(&a, &b).unwrap();
            n_found += usize::from(found.verdict(ALPHA) == Some(wanted));
            let error = found
                .slope
                .map_or(f64::INFINITY, |slope| slope.standard_error);
            power += normal_cdf(self.slope.abs() / error - normal_critical(ALPHA));
        }
        (n_found, power / n as f64)
    }
}

#[test]
fn novelty_keeps_its_level_whatever_activity_does() {
    const N: usize = 100;
    head("a trend is found where there is none, alpha 0.05");
    let worlds = [
        Activity {
            what: "nothing happens, 300 users",
            users: 300,
            ..CALM
        },
        Activity {
            what: "a constant lift of 30 %, activity falls",
            lift: 0.26,
            fall: 0.6,
            ..CALM
        },
        Activity {
            what: "the same, 10 % of the events late",
            lift: 0.26,
            fall: 0.6,
            late: 0.1,
            ..CALM
        },
        Activity {
            what: "the same, a split of 90/10, 3,000 users",
            lift: 0.26,
            fall: 0.6,
            late: 0.1,
            share: 0.1,
            users: 3_000,
            ..CALM
        },
        Activity {
            what: "a few users do most of it (deviation 1.5)",
            deviation: 1.5,
            fall: 0.6,
            lift: 0.26,
            ..CALM
        },
        Activity {
            what: "sums of lognormal worth (deviation 1.5)",
            worth: Some(1.5),
            fall: 0.6,
            lift: 0.26,
            ..CALM
        },
        Activity {
            what: "all of these, 3,000 users at 90/10",
            worth: Some(1.5),
            deviation: 1.5,
            fall: 0.6,
            lift: 0.26,
            late: 0.1,
            share: 0.1,
            users: 3_000,
            ..CALM
        },
    ];
    for (index, world) in worlds.iter().enumerate() {
        let mut random = stream(index as u64);
        let rejected = rate(N, 0.05, || {
            let [a, b] = world.arms(&mut random);
            novelty(&a, &b).unwrap().verdict(ALPHA) != Some(EffectTrend::None)
        });
        if world.worth.is_none() {
            about(world.what, 0.05, &rejected);
            continue;
        }
        // Where a few events are worth most of it, the error of a mean is an approximation.
        line(world.what, &rejected, "-");
        assert!(rejected.share <= 0.09 + rejected.band, "{}", rejected.share);
    }
    let mut random = stream(20);
    let absolute = rate(N, 0.5, || differences_have_a_trend(&worlds[1], &mut random));
    line(
        "*differences* of the second line have a trend",
        &absolute,
        "-",
    );
    assert!(absolute.share > 0.5, "{}", absolute.share);
}

/// The trend of absolute differences, which is none of ours: one score per user, Welch's test.
fn differences_have_a_trend(world: &Activity, random: &mut Random) -> bool {
    let logs: Vec<f64> = (1..=BINS).map(|day| (day as f64).ln()).collect();
    let middle = logs.iter().sum::<f64>() / BINS as f64;
    let mut arms = [Moments::default(); 2];
    for _ in 0..world.users {
        let arm = usize::from(random.happens(world.share));
        let user = world.user(random, arm == 1);
        arms[arm].push(user.iter().zip(&logs).map(|(y, x)| y * (x - middle)).sum());
    }
    let [a, b] = arms.map(|arm| arm.summary().unwrap());
    welch(&a, &b).p_value.is_some_and(|p| p < ALPHA.get())
}

#[test]
fn novelty_finds_what_fades_and_grows_with_the_power_of_its_error() {
    const N: usize = 50;
    head("a trend is found where there is one");
    let fading = Activity {
        what: "an effect of 60 % that fades",
        lift: 0.47,
        slope: -0.07,
        ..CALM
    };
    let worlds = [
        (fading, EffectTrend::Fading),
        (
            Activity {
                what: "the same, activity falls, late events, 90/10, 3,000 users",
                fall: 0.6,
                late: 0.1,
                share: 0.1,
                users: 3_000,
                slope: -0.1,
                ..fading
            },
            EffectTrend::Fading,
        ),
        (
            Activity {
                what: "an effect that grows from nothing",
                lift: 0.0,
                slope: 0.11,
                fall: 0.6,
                ..CALM
            },
            EffectTrend::Growing,
        ),
    ];
    for (index, (world, wanted)) in worlds.into_iter().enumerate() {
        let n = N * times();
        let (found, power) = world.found(&mut stream(30 + index as u64), n, wanted);
        let found = share(found, n, power);
        line(world.what, &found, &format!("about {power:.2}"));
        assert!(
            (found.share - power).abs() <= 0.02 + found.band,
            "{}",
            found.share
        );
    }
}

#[test]
fn conversions_that_happen_once_are_told_apart() {
    const N: usize = 25;
    head("conversions that happen once, twice as likely on each day");
    let mut random = stream(40);
    let mut arms = |likely: [f64; 2]| {
        likely.map(|likely| {
            let mut arm = BinMoments::default();
            for _ in 0..1_000 {
                let mut user = [0.0; BINS];
                if let Some(bin) = (0..BINS).find(|_| random.happens(likely)) {
                    user[bin] = 1.0;
                }
                arm.push(&user).unwrap();
            }
            arm
        })
    };
    let n = N * times();
    let (mut n_faded, mut n_refused) = (0, 0);
    for _ in 0..n {
        let [a, b] = arms([0.08, 0.16]);
        n_refused += usize::from(a.happens_once() && b.happens_once());
        let verdict = novelty(&a, &b).unwrap().verdict(ALPHA);
        n_faded += usize::from(verdict == Some(EffectTrend::Fading));
    }
    line("would be called fading", &share(n_faded, n, 0.5), "-");
    let refused = share(n_refused, n, 1.0);
    at_least("known by its moments, to be refused", 1.0, &refused);
    let mut random = stream(41);
    let rare = Activity {
        users: 400,
        fall: 1.0,
        ..CALM
    };
    let blamed = rate(N, 0.0, || {
        let arms = rare.arms(&mut random);
        arms.iter().any(BinMoments::happens_once)
    });
    at_most("activity that may come again, taken for it", 0.0, &blamed);
}

/// What a user of a stability or a segment world brings.
#[derive(Clone, Copy)]
enum Total {
    Rate(f64),
    /// A share of the users has a lognormal total with this deviation.
    Bought(f64, f64),
}

impl Total {
    fn draw(self, random: &mut Random, activity: f64) -> f64 {
        match self {
            Self::Rate(rate) => f64::from(u8::from(random.happens((rate * activity).min(1.0)))),
            Self::Bought(buyers, _) if !random.happens(buyers) => 0.0,
            Self::Bought(_, deviation) => activity * random.log_normal(deviation),
        }
    }

    fn deviation(self) -> f64 {
        match self {
            Self::Rate(rate) => (rate * (1.0 - rate)).sqrt(),
            Self::Bought(buyers, deviation) => {
                let mean = buyers * (deviation * deviation / 2.0).exp();
                let square = buyers * (2.0 * deviation * deviation).exp();
                (square - mean * mean).sqrt()
            }
        }
    }
}

/// Experiments that are looked at once a day.
#[derive(Clone, Copy)]
struct Looks {
    what: &'static str,
    total: Total,
    per_day: usize,
    share: f64,
    /// What is added to each treated user's total, in its deviations, before and after the turn.
    effect: [f64; 2],
}

const DAYS: usize = 28;
/// The day from which on an effect may be another one.
const TURN: usize = 14;

impl Looks {
    /// Simulates an experiment: later users are less active, weekends are busy, and a tenth of
    /// the totals comes in a day late.
    fn looks(&self, random: &mut Random) -> Vec<StabilityLook> {
        let mut arms = [Moments::default(); 2];
        let mut waiting: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
        let mut looks = Vec::with_capacity(DAYS);
        for day in 0..DAYS {
            for (arm, late) in arms.iter_mut().zip(&mut waiting) {
                late.drain(..).for_each(|value| arm.push(value));
            }
            let activity = of_weekday(day) / (1.0 + 0.03 * day as f64);
            let added = self.effect[usize::from(day >= TURN)] * self.total.deviation();
            for _ in 0..self.per_day {
                let arm = usize::from(random.happens(self.share));
                let value = self.total.draw(random, activity) + added * arm as f64;
                if random.happens(0.1) {
                    waiting[arm].push(value);
                } else {
                    arms[arm].push(value);
                }
            }
            if let [Ok(a), Ok(b)] = arms.map(|arm| arm.summary()) {
                looks.push(StabilityLook::from_arms(&a, &b, ALPHA, 5_000.0).unwrap());
            }
        }
        looks
    }
}

#[test]
fn a_constant_effect_is_called_constant_at_all_looks_together() {
    const N: usize = 100;
    head("28 daily looks at one constant effect");
    let world = |what, total, share, effect| Looks {
        what,
        total,
        per_day: 200,
        share,
        effect: [effect; 2],
    };
    let worlds = [
        world("10 % convert, no effect", Total::Rate(0.1), 0.5, 0.0),
        world("1 % convert, no effect, 90/10", Total::Rate(0.01), 0.1, 0.0),
        world(
            "everybody has a lognormal total, deviation 1.5",
            Total::Bought(1.0, 1.5),
            0.5,
            0.2,
        ),
        world(
            "3 % buy, deviation 1.5, 90/10",
            Total::Bought(0.03, 1.5),
            0.1,
            0.2,
        ),
        world(
            "3 % buy, deviation 1.5, 99/1",
            Total::Bought(0.03, 1.5),
            0.01,
            0.0,
        ),
    ];
    for (index, world) in worlds.iter().enumerate() {
        let mut random = stream(50 + index as u64);
        let n = N * times();
        let (mut n_rejected, mut n_held, mut n_found) = (0, 0, 0);
        for _ in 0..n {
            let looks = world.looks(&mut random);
            let Some(found) = stability(&looks, None) else {
                continue;
            };
            n_found += 1;
            n_rejected += usize::from(found.is_constant_rejected());
            let truth = world.effect[0] * world.total.deviation();
            let since = found.stable_since.and_then(|since| looks[since].interval);
            n_held += usize::from(since.is_none_or(|interval| interval.contains(truth)));
        }
        let what = world.what;
        at_most(
            &format!("{what}: rejected"),
            0.05,
            &share(n_rejected, n_found, 0.05),
        );
        let held = share(n_held, n_found, 0.95);
        at_least(&format!("{what}: `stable_since` holds it"), 0.95, &held);
    }
}

#[test]
fn an_effect_that_ends_is_not_called_constant() {
    const N: usize = 100;
    head("an effect that ends after half of the users");
    let total = Total::Bought(1.0, 0.5);
    // The last look estimates half of what the one before the turn does. The intervals of these
    // two come apart with a probability of four fifths where half of the effect exceeds both
    // half widths by 0.84 errors of the difference of the estimates.
    let per_day = 400;
    let look = |n: usize| {
        let arm = || {
            let moments = Moments::new(n as u64 / 2, 1.0, (n / 2 - 1) as f64);
            moments.unwrap().summary().unwrap()
        };
        let look = StabilityLook::from_arms(&arm(), &arm(), ALPHA, 5_000.0).unwrap();
        (look.half_width.unwrap(), 4.0 / n as f64)
    };
    let ((early, variance_early), (late, variance_late)) =
        (look(TURN * per_day), look(DAYS * per_day));
    // Half of the users of the last look are those of the early one.
    let error = (variance_early - variance_late).sqrt();
    let effect = 2.0 * (early + late + 0.84 * error);
    let world = Looks {
        what: "",
        total,
        per_day,
        share: 0.5,
        effect: [effect, 0.0],
    };
    let mut random = stream(60);
    let found = rate(N, 0.8, || {
        let looks = world.looks(&mut random);
        stability(&looks, None).unwrap().is_constant_rejected()
    });
    at_least("rejected, sized for 0.8 by two of the looks", 0.8, &found);
}

/// Experiments whose users fall into segments.
struct Segments {
    what: &'static str,
    total: Total,
    /// Users of both arms in each segment.
    users: Vec<usize>,
    share: f64,
    /// The effect in the first segment, in deviations.
    deviates: f64,
    kind: Kind,
}

/// How active the segments are.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Alike,
    /// The last is three times as active as the first.
    Graded,
    /// Exposure days: weekends, falling activity, windows that are still open.
    Days,
}

impl Segments {
    /// Simulates one experiment: the effects by the guarded variance, and by each arm's own.
    fn differences(&self, random: &mut Random) -> [Vec<SegmentDifference>; 2] {
        let n_segments = self.users.len();
        let (mut guarded, mut plain) = (Vec::new(), Vec::new());
        for (index, users) in self.users.iter().enumerate() {
            let step = index as f64 / n_segments as f64;
            let activity = match self.kind {
                Kind::Alike => 1.0,
                Kind::Graded => 0.5 + step,
                // Of the last days windows are open, and late events are missing.
                Kind::Days => {
                    let open = (n_segments - index).min(4) as f64 / 4.0;
                    of_weekday(index) / (1.0 + 0.7 * step) * open
                }
            };
            let added = if index == 0 { self.deviates } else { 0.0 };
            let mut arms = [Moments::default(); 2];
            for _ in 0..*users {
                let arm = usize::from(random.happens(self.share));
                let value = self.total.draw(random, activity);
                arms[arm].push(value + added * self.total.deviation() * arm as f64);
            }
            let [Ok(a), Ok(b)] = arms.map(|arm| arm.summary()) else {
                continue;
            };
            let Some(difference) = SegmentDifference::from_arms(&a, &b) else {
                continue;
            };
            guarded.push(difference.with_score(index as f64));
            let error = welch(&a, &b).standard_error.unwrap_or_default();
            if error > 0.0 {
                plain.push(SegmentDifference {
                    variance: error * error,
                    ..difference
                });
            }
        }
        [guarded, plain]
    }

    /// Counts what heterogeneity says in `n` experiments.
    fn count(&self, random: &mut Random, n: usize) -> SegmentCounts {
        let mut seen = SegmentCounts::default();
        let is_below = |p_value: f64| usize::from(p_value < ALPHA.get());
        for _ in 0..n {
            let [segments, plain] = self.differences(random);
            let found = heterogeneity(&segments, ALPHA).unwrap().unwrap();
            let plain = heterogeneity(&plain, ALPHA).unwrap().unwrap();
            seen.rejected += is_below(found.f.p_value);
            seen.named += usize::from(!found.named.is_empty());
            seen.trends += found.trend.map_or(0, |trend| is_below(trend.p_value));
            seen.q[0] += is_below(found.q.p_value);
            seen.q[1] += is_below(plain.q.p_value);
        }
        seen
    }
}

/// In how many experiments something was found.
#[derive(Default)]
struct SegmentCounts {
    /// Welch's F.
    rejected: usize,
    /// Any segment.
    named: usize,
    trends: usize,
    /// Cochran's Q by the guarded variances, and by each arm's own.
    q: [usize; 2],
}

#[test]
fn segments_with_the_same_effect_are_called_the_same() {
    const N: usize = 100;
    head("segments with the same effect, alpha 0.05");
    let unequal = || vec![2_400, 1_500, 900, 600, 360, 240];
    let world = |what, total, users: Vec<usize>, share| Segments {
        what,
        total,
        users,
        share,
        deviates: 0.0,
        kind: Kind::Graded,
    };
    let day = |what, total, share| Segments {
        kind: Kind::Days,
        ..world(what, total, vec![400; 14], share)
    };
    let worlds = [
        world("6 unequal, 10 % convert", Total::Rate(0.1), unequal(), 0.5),
        world(
            "6 unequal, 10 % convert, 90/10",
            Total::Rate(0.1),
            unequal(),
            0.1,
        ),
        world(
            "6 unequal, lognormal, deviation 1.5",
            Total::Bought(1.0, 1.5),
            unequal(),
            0.5,
        ),
        world(
            "6 unequal, 3 % buy, 90/10",
            Total::Bought(0.03, 1.5),
            unequal(),
            0.1,
        ),
        world(
            "50 of 30 users, lognormal, deviation 0.5",
            Total::Bought(1.0, 0.5),
            vec![30; 50],
            0.5,
        ),
        day("14 exposure days, 10 % convert", Total::Rate(0.1), 0.5),
        day(
            "14 exposure days, lognormal, 90/10",
            Total::Bought(1.0, 1.0),
            0.1,
        ),
    ];
    for (index, world) in worlds.iter().enumerate() {
        let n = N * times();
        let seen = world.count(&mut stream(70 + index as u64), n);
        let what = world.what;
        let measured = |happened| share(happened, n, 0.05);
        let at_most_about = |what: &str, rate: &Rate| {
            line(what, rate, "at most about 0.05");
            assert!(rate.share <= 0.06 + rate.band, "{what}: {}", rate.share);
        };
        at_most_about(&format!("{what}: F rejects"), &measured(seen.rejected));
        at_most(
            &format!("{what}: a segment is named"),
            0.05,
            &measured(seen.named),
        );
        if world.kind == Kind::Days {
            at_most_about(&format!("{what}: a trend"), &measured(seen.trends));
        }
        if world.users.len() == 50 {
            let [guarded, plain] = seen.q.map(measured);
            line(&format!("{what}: Cochran's Q rejects"), &guarded, "-");
            line(
                &format!("{what}: Q by each arm's own variance"),
                &plain,
                "-",
            );
        }
    }
}

/// P(noncentral chi-squared > x), a mixture over Poisson weights.
fn noncentral_tail(x: f64, df: f64, noncentrality: f64) -> f64 {
    let half = noncentrality / 2.0;
    let mut weight = (-half).exp();
    let mut tail = 0.0;
    for k in 0..200 {
        tail += weight * chi_squared_upper_tail(x, df + 2.0 * f64::from(k)).unwrap();
        weight *= half / (f64::from(k) + 1.0);
    }
    tail
}

#[test]
fn a_segment_that_deviates_is_found_and_the_others_are_not_blamed() {
    const N: usize = 100;
    head("one of six segments deviates");
    let (n_segments, users) = (6, 600);
    // The contrast varies by V (1 + 1/5), V = 4/users deviations.
    let error = (4.0 / f64::from(users) * 1.2).sqrt();
    let critical = (0..).map(|step| 11.0 + 1e-4 * f64::from(step));
    let limit = critical
        .into_iter()
        .find(|x| chi_squared_upper_tail(*x, 5.0).unwrap() < 0.05);
    let power = |deviates: f64| noncentral_tail(limit.unwrap(), 5.0, (deviates / error).powi(2));
    let deviates = (0..)
        .map(|step| 1e-3 * f64::from(step))
        .find(|d| power(*d) >= 0.8)
        .unwrap();
    let holm = Alpha::new(ALPHA.get() / f64::from(n_segments)).unwrap();
    let contrast = normal_cdf(deviates / error - normal_critical(holm));
    let world = Segments {
        what: "",
        total: Total::Bought(1.0, 0.4),
        users: vec![users as usize; n_segments as usize],
        share: 0.5,
        deviates,
        kind: Kind::Alike,
    };
    let mut random = stream(90);
    let n = N * times();
    let (mut n_rejected, mut n_named, mut n_blamed, mut n_differ) = (0, 0, 0, 0);
    for _ in 0..n {
        let [segments, _] = world.differences(&mut random);
        let found = heterogeneity(&segments, ALPHA).unwrap().unwrap();
        n_rejected += usize::from(found.f.p_value < ALPHA.get());
        n_named += usize::from(found.named.contains(&0));
        n_blamed += usize::from(found.named.iter().any(|index| *index > 0));
        let differs = |index: usize| found.segments[index].adjusted_p_value < ALPHA.get();
        n_differ += usize::from((1..6).any(differs));
    }
    about("F rejects, sized for 0.8", 0.8, &share(n_rejected, n, 0.8));
    // Both F and the contrast have to reject: at least what both leave over.
    at_least("it is named", 0.8 + contrast - 1.0, &share(n_named, n, 0.6));
    at_most("another is named", 0.05, &share(n_blamed, n, 0.05));
    line("another `differs`", &share(n_differ, n, 0.05), "-");
}

/// Experiments that share users: how many are in each cell, and what they do there.
struct Cells {
    what: &'static str,
    users: Vec<Vec<usize>>,
    total: fn(&mut Random, usize) -> f64,
}

impl Cells {
    /// Simulates one pair of experiments; `total` is told how many users the cell has.
    fn draw(&self, random: &mut Random, added: f64) -> Vec<Vec<Option<Summary>>> {
        let cell = |users: usize, added: f64, random: &mut Random| {
            let values = (0..users).map(|_| (self.total)(random, users) + added);
            values.collect::<Moments>().summary().ok()
        };
        let mut cells = Vec::new();
        for (row, counts) in self.users.iter().enumerate() {
            let mut found = Vec::new();
            for (column, users) in counts.iter().enumerate() {
                let both = row == 1 && column == 1;
                found.push(cell(*users, if both { added } else { 0.0 }, random));
            }
            cells.push(found);
        }
        cells
    }
}

#[test]
fn experiments_that_do_not_interact_are_found_to_do_so_as_often_as_promised() {
    const N: usize = 200;
    head("pairs of experiments that do not interact, alpha 0.05");
    // Small cells vary more.
    let unequal = |random: &mut Random, users: usize| 60.0 / users as f64 * random.normal();
    let converts = |random: &mut Random, users: usize| {
        let rate = if users < 500 { 0.05 } else { 0.02 };
        f64::from(u8::from(random.happens(rate)))
    };
    let rarely = |random: &mut Random, _: usize| f64::from(u8::from(random.happens(0.02)));
    let skewed = |random: &mut Random, _: usize| random.log_normal(1.0);
    let worlds = [
        Cells {
            what: "2x2, small cells vary more",
            users: vec![vec![90, 30], vec![60, 20]],
            total: unequal,
        },
        Cells {
            what: "4x3, small cells vary more",
            users: vec![
                vec![90, 30, 60],
                vec![60, 20, 40],
                vec![30, 25, 30],
                vec![80, 50, 20],
            ],
            total: unequal,
        },
        Cells {
            what: "3x2, lognormal totals, 90/10",
            users: vec![vec![900, 100], vec![900, 100], vec![450, 50]],
            total: skewed,
        },
        Cells {
            what: "2x2, 2 to 5 % convert, 90/10",
            users: vec![vec![2_000, 250], vec![2_000, 250]],
            total: converts,
        },
        Cells {
            what: "4x3, 2 % convert, 2 to be expected in each cell",
            users: vec![vec![100; 3]; 4],
            total: rarely,
        },
    ];
    for (index, world) in worlds.iter().enumerate() {
        let mut random = stream(100 + index as u64);
        let n = N * times();
        let (mut n_rejected, mut n_classic) = (0, 0);
        for _ in 0..n {
            let cells = world.draw(&mut random, 0.0);
            let found = interaction(&cells, ALPHA, 0.8).unwrap().interaction;
            n_rejected += usize::from(found.is_some_and(|test| test.p_value < ALPHA.get()));
            n_classic += usize::from(index == 0 && classic_rejects(&cells));
        }
        let rejected = share(n_rejected, n, 0.05);
        if index == 4 {
            // Below 5 converted users in a cell nothing is promised.
            line(world.what, &rejected, "-");
            continue;
        }
        about(world.what, 0.05, &rejected);
        if index == 0 {
            let classic = share(n_classic, n, 0.05);
            line("the same by `anova_2x2`", &classic, "-");
            assert!(classic.share > 0.1, "{}", classic.share);
        }
    }
}

#[test]
fn an_interaction_of_the_detectable_size_is_found_with_the_power() {
    const N: usize = 200;
    head("pairs of experiments that interact");
    let skewed = |random: &mut Random, _: usize| random.log_normal(1.0);
    let mut random = stream(110);
    let world = Cells {
        what: "",
        users: vec![vec![400, 200], vec![300, 150]],
        total: skewed,
    };
    let error = {
        let e = std::f64::consts::E;
        let variance = (e - 1.0) * e;
        let inverse: f64 = world.users.iter().flatten().map(|n| 1.0 / *n as f64).sum();
        (variance * inverse).sqrt()
    };
    let added = error * (normal_critical(ALPHA) + 0.841_621_233_572_914);
    let found = rate(N, 0.8, || {
        let cells = world.draw(&mut random, added);
        let found = interaction(&cells, ALPHA, 0.8).unwrap().interaction;
        found.is_some_and(|test| test.p_value < ALPHA.get())
    });
    line("one that is as large as `detectable`", &found, "about 0.8");
    assert!(
        (found.share - 0.8).abs() <= 0.04 + found.band,
        "{}",
        found.share
    );
}

fn classic_rejects(cells: &[Vec<Option<Summary>>]) -> bool {
    let cell = |row: usize, column: usize| {
        let summary = cells[row][column].unwrap();
        Cell {
            n: summary.n(),
            mean: summary.mean(),
            variance: summary.variance().unwrap(),
        }
    };
    let cells = [cell(0, 0), cell(0, 1), cell(1, 0), cell(1, 1)];
    let p_value = anova_2x2(&cells)
        .unwrap()
        .and_then(|test| test.type3.interaction.p_value);
    p_value.is_some_and(|p| p < ALPHA.get())
}
