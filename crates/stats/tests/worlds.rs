//! What reports say in simulated worlds, without an effect and with one: splits from even to 99
//! to 1, rare and frequent conversions, heavy-tailed and mostly empty totals that grow for a week
//! after the exposure, arms from 10 to 100,000 units, looked at every day.
//!
//! Prints the tables of docs/statistics.md. `TRIALOG_SIMULATIONS=5` makes five times as many
//! experiments as a run of the tests has time for, and those of all sizes.

#![expect(clippy::print_stdout, reason = "prints the tables")]
#![expect(clippy::unwrap_used, reason = "simulated inputs are valid")]

#[path = "common/random.rs"]
mod random;

use random::{Random, times};
use trialog_stats::{
    Alpha, Better, Comparison, Guardrail, Interval, Proportion, QuantileSummary, Sample, Summary,
};

const SEED: u64 = 20_261_129;
const ALPHA: Alpha = Alpha::P05;
const DAYS: usize = 24;
/// The total of a user is complete this many days after the exposure.
const WINDOW: usize = 7;
/// Users come in on these days, and the last ones have a week more.
const ENROLS_FOR: usize = DAYS - WINDOW;
/// Units of both arms at which the sequential test of a report without a plan is sharpest.
const TUNING: f64 = 5_000.0;
/// What a plan asks of each arm, as a share of the users that the smaller arm can expect.
const PLANNED: f64 = 0.6;
/// Users of both arms with a value from which on the always-valid interval has to keep its level
/// of skewed totals too: a variance from fewer is no estimate.
const FEW: u64 = 5;
/// Metrics of one family, whose intervals have the level 1 - alpha / 3.
const METRICS: usize = 3;

/// What a user does.
#[derive(Clone, Copy)]
enum Outcome {
    /// Converts or not.
    Rate(f64),
    /// Everybody has a total: e to the power of a normal variable with this deviation.
    LogNormal(f64),
    /// A share of the users has a total of that kind, the others 0.
    ZeroInflated(f64, f64),
}

impl Outcome {
    /// Returns the expected total of a user without the treatment.
    fn mean(self) -> f64 {
        match self {
            Self::Rate(rate) => rate,
            Self::LogNormal(deviation) => (deviation * deviation / 2.0).exp(),
            Self::ZeroInflated(payers, deviation) => payers * Self::LogNormal(deviation).mean(),
        }
    }

    /// Returns the share of that total which users exposed by the end of `day` have by then.
    fn share_by(self, day: usize) -> f64 {
        let last = day.min(ENROLS_FOR - 1);
        let later = (0..=last).map(|exposed| (day - exposed + 1).min(WINDOW) as f64);
        let share = later.sum::<f64>() / (WINDOW * (last + 1)) as f64;
        match self {
            Self::Rate(_) => share,
            // One half comes in at once, on average.
            Self::LogNormal(_) | Self::ZeroInflated(..) => f64::midpoint(1.0, share),
        }
    }
}

/// Sums of one arm at one look.
#[derive(Clone, Copy, Default)]
struct Sums {
    n: u64,
    /// Users who have converted, or who have a total above 0.
    converted: u64,
    total: f64,
    squares: f64,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.n += other.n;
        self.converted += other.converted;
        self.total += other.total;
        self.squares += other.squares;
    }

    fn sample(&self, outcome: Outcome) -> Option<Sample> {
        if matches!(outcome, Outcome::Rate(_)) {
            return Proportion::new(self.converted, self.n)
                .ok()
                .map(Sample::Rate);
        }
        let n = self.n as f64;
        let mean = self.total / n;
        let variance = ((self.squares - n * mean * mean) / (n - 1.0)).max(0.0);
        let variance = (self.n >= 2).then_some(variance);
        Summary::new(self.n, mean, variance).ok().map(Sample::Mean)
    }
}

/// Experiments of one kind.
#[derive(Clone, Copy)]
struct World {
    what: &'static str,
    outcome: Outcome,
    /// Half of the users of both arms.
    size: usize,
    /// The share of the users who see the treatment.
    share: f64,
    /// The rate or the totals of the treatment are 1 + `lift` times those of the control.
    lift: f64,
}

impl World {
    /// Lists the worlds without an effect: small ones for a run of the tests, else all.
    fn all() -> Vec<Self> {
        let sizes: &[usize] = if times() >= 5 {
            &[10, 100, 1_000, 10_000, 100_000]
        } else {
            &[10, 100, 1_000]
        };
        let mut worlds = Vec::new();
        for (what, outcome) in [
            ("0.1 % convert", Outcome::Rate(0.001)),
            ("1 % convert", Outcome::Rate(0.01)),
            ("10 % convert", Outcome::Rate(0.1)),
            ("50 % convert", Outcome::Rate(0.5)),
            ("lognormal, sd 1", Outcome::LogNormal(1.0)),
            ("20 % buy, sd 1", Outcome::ZeroInflated(0.2, 1.0)),
            ("3 % buy, sd 1.5", Outcome::ZeroInflated(0.03, 1.5)),
        ] {
            for &size in sizes {
                worlds.extend([0.5, 0.1, 0.01].map(|share| Self {
                    what,
                    outcome,
                    size,
                    share,
                    lift: 0.0,
                }));
            }
        }
        worlds
    }

    /// Returns the true difference of the totals so far, at the look at the end of `day`.
    fn difference(&self, day: usize) -> f64 {
        self.lift * self.outcome.mean() * self.outcome.share_by(day)
    }

    /// Returns the users that the plan asks of each arm.
    fn planned(&self) -> u64 {
        let smaller = self.share.min(1.0 - self.share) * (2 * self.size) as f64;
        (PLANNED * smaller).ceil() as u64
    }

    /// Simulates one experiment and returns its daily looks, control and treatment.
    fn looks(&self, random: &mut Random) -> Vec<[Sums; 2]> {
        let mut days = vec![[Sums::default(); 2]; DAYS];
        for _ in 0..2 * self.size {
            let arm = usize::from(random.happens(self.share));
            let times = if arm == 1 { 1.0 + self.lift } else { 1.0 };
            let exposed = random.0.usize(..ENROLS_FOR);
            let later = exposed + random.0.usize(..WINDOW);
            days[exposed][arm].n += 1;
            match self.outcome {
                Outcome::Rate(rate) => {
                    days[later][arm].converted += u64::from(random.happens(rate * times));
                }
                Outcome::LogNormal(deviation) | Outcome::ZeroInflated(_, deviation) => {
                    if matches!(self.outcome, Outcome::ZeroInflated(payers, _) if !random.happens(payers))
                    {
                        continue;
                    }
                    let whole = times * (deviation * random.normal()).exp();
                    days[exposed][arm].converted += 1;
                    // What came in at once, and all of it.
                    let first = whole * random.uniform();
                    days[exposed][arm].total += first;
                    days[exposed][arm].squares += first * first;
                    days[later][arm].total += whole - first;
                    days[later][arm].squares += whole * whole - first * first;
                }
            }
        }
        let mut so_far = [Sums::default(); 2];
        let cumulated = days.into_iter().map(|day| {
            for (arm, sums) in so_far.iter_mut().zip(&day) {
                arm.add(sums);
            }
            so_far
        });
        cumulated.collect()
    }

    fn compare(&self, [control, treatment]: &[Sums; 2]) -> Option<Comparison> {
        let (control, treatment) = (
            control.sample(self.outcome)?,
            treatment.sample(self.outcome)?,
        );
        Comparison::between(&control, &treatment).ok()
    }
}

/// Tests that were made, and those of them that rejected.
#[derive(Clone, Copy, Default)]
struct Tests {
    n: usize,
    rejected: usize,
}

impl Tests {
    /// Counts the fixed-horizon test at level `alpha`; a sparse one has no verdict.
    fn add(&mut self, comparison: &Comparison, alpha: f64) -> bool {
        let p_value = comparison.p_value().filter(|_| !is_sparse(comparison));
        let is_rejected = p_value.is_some_and(|p_value| p_value < alpha);
        self.n += usize::from(p_value.is_some());
        self.rejected += usize::from(is_rejected);
        is_rejected
    }

    fn share(self) -> String {
        percent(self.rejected, self.n)
    }
}

/// Intervals that exist, and those of them that hold the truth.
#[derive(Clone, Copy, Default)]
struct Intervals {
    n: usize,
    held: usize,
}

impl Intervals {
    fn add(&mut self, interval: Option<Interval>, truth: f64) {
        if let Some(interval) = interval {
            self.n += 1;
            self.held += usize::from(interval.contains(truth));
        }
    }

    fn missed(self) -> usize {
        self.n - self.held
    }

    /// Returns the share that holds the truth, and where fewer than a half of `all` exist their
    /// number.
    fn share(self, all: usize) -> String {
        let share = percent(self.held, self.n);
        if self.n == 0 || 2 * self.n >= all {
            return share;
        }
        format!("{share} of {}", self.n)
    }
}

/// What an always-valid interval missed at any look.
#[derive(Default)]
struct EverMissed<T> {
    /// The difference of the totals so far.
    so_far: T,
    /// The same, at looks at which [`FEW`] users have a value.
    of_values: T,
    /// The difference of the complete totals.
    complete: T,
    /// The relative difference.
    lift: T,
}

/// How often something happened in the experiments of a world.
#[derive(Default)]
struct Seen {
    n: usize,
    /// The always-valid p-value was below alpha at any look.
    ever: usize,
    /// With a plan: it was below a fifth of alpha at any look, or the test of the planned look
    /// rejected at four fifths.
    planned_ever: usize,
    /// Fixed-horizon tests at the planned look and at the last one.
    planned: Tests,
    last: Tests,
    /// Intervals at the last look, the fixed ones where it is not sparse.
    difference: Intervals,
    lift: Intervals,
    valid_difference: Intervals,
    valid_lift: Intervals,
    ever_missed: EverMissed<usize>,
    /// Families of which a metric is not sparse, and those whose intervals all hold the truth.
    family: Intervals,
    sparse: usize,
}

impl Seen {
    fn simulate(world: &World, experiments: usize) -> Self {
        let mut random = Random::new(SEED ^ (world.size as u64) << 20);
        let mut seen = Self {
            n: experiments,
            ..Self::default()
        };
        let mut family = Intervals::default();
        for experiment in 1..=experiments {
            let looks = world.looks(&mut random);
            let compared: Vec<_> = looks.iter().map(|look| world.compare(look)).collect();
            seen.add_looks(world, &looks, &compared);
            seen.add_planned(world, &looks, &compared);
            if let Some(last) = &compared[DAYS - 1] {
                seen.add_last(world, last);
                if !is_sparse(last) {
                    let alpha = Alpha::new(ALPHA.get() / METRICS as f64).unwrap();
                    family.add(last.interval(alpha), world.difference(DAYS - 1));
                }
            }
            if experiment % METRICS == 0 {
                let family = std::mem::take(&mut family);
                seen.family.n += usize::from(family.n > 0);
                seen.family.held += usize::from(family.n > 0 && family.missed() == 0);
            }
        }
        seen
    }

    fn add_looks(&mut self, world: &World, sums: &[[Sums; 2]], looks: &[Option<Comparison>]) {
        let complete = world.difference(DAYS - 1);
        let (mut ever, mut missed) = (false, EverMissed::<bool>::default());
        for (day, (look, [control, treatment])) in looks.iter().zip(sums).enumerate() {
            let Some((look, test)) =
                look.and_then(|look| Some((look, look.always_valid(ALPHA, TUNING)?)))
            else {
                continue;
            };
            let misses = |interval: Option<Interval>, truth: f64| {
                interval.is_some_and(|interval| !interval.contains(truth))
            };
            let (interval, truth) = (test.interval(ALPHA), world.difference(day));
            let has_values = control.converted + treatment.converted >= FEW;
            ever |= test.p_value.is_some_and(|p_value| p_value < ALPHA.get());
            missed.so_far |= misses(interval, truth);
            missed.of_values |= misses(interval, truth) && has_values;
            missed.complete |= misses(interval, complete);
            missed.lift |= misses(look.always_valid_lift(&test, ALPHA), world.lift);
        }
        self.ever += usize::from(ever);
        self.ever_missed.so_far += usize::from(missed.so_far);
        self.ever_missed.of_values += usize::from(missed.of_values);
        self.ever_missed.complete += usize::from(missed.complete);
        self.ever_missed.lift += usize::from(missed.lift);
    }

    /// Counts the headline of an experiment with a plan, as a report makes it.
    fn add_planned(&mut self, world: &World, sums: &[[Sums; 2]], looks: &[Option<Comparison>]) {
        let users = world.planned();
        let is_early = |look: &Comparison| {
            let test = look.always_valid(ALPHA, 2.0 * users as f64);
            let p_value = test.and_then(|test| test.p_value);
            p_value.is_some_and(|p_value| p_value < ALPHA.get() / 5.0)
        };
        let mut is_significant = looks.iter().flatten().any(is_early);
        // The first look at which the totals of so many users are complete.
        let has_users = |look: &[Sums; 2]| look.iter().all(|arm| arm.n >= users);
        let day = sums.iter().position(has_users).map(|day| day + WINDOW);
        if let Some(look) = day.and_then(|day| looks.get(day)?.as_ref()) {
            is_significant |= self.planned.add(look, ALPHA.get() * 4.0 / 5.0);
        }
        self.planned_ever += usize::from(is_significant);
    }

    fn add_last(&mut self, world: &World, last: &Comparison) {
        let (difference, lift) = (world.difference(DAYS - 1), world.lift);
        self.sparse += usize::from(is_sparse(last));
        self.last.add(last, ALPHA.get());
        if !is_sparse(last) {
            let intervals = last.intervals(ALPHA);
            self.difference.add(intervals.0, difference);
            self.lift.add(intervals.1.ok(), lift);
        }
        if let Some(test) = last.always_valid(ALPHA, TUNING) {
            self.valid_difference.add(test.interval(ALPHA), difference);
            self.valid_lift
                .add(last.always_valid_lift(&test, ALPHA), lift);
        }
    }
}

/// Whether the mean has no verdict, as in a report: rates have a test that is exact.
fn is_sparse(comparison: &Comparison) -> bool {
    comparison.is_sparse() && !comparison.is_of_rates()
}

/// Returns the most of `n` that happen with a probability of 0.99 where each happens at `rate`.
fn bound(n: usize, rate: f64) -> usize {
    if n == 0 {
        return 0;
    }
    let mut probability = (n as f64 * (1.0 - rate).ln()).exp();
    let mut sum = probability;
    let mut k = 0;
    while sum < 0.99 {
        k += 1;
        probability *= (n + 1 - k) as f64 / k as f64 * rate / (1.0 - rate);
        sum += probability;
    }
    k
}

fn percent(part: usize, whole: usize) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    format!("{:.1} %", part as f64 / whole as f64 * 100.0)
}

/// Prints the first lines of a table of worlds.
fn head(columns: &[&str]) {
    println!(
        "\n| outcome | units an arm | split | {} |\n|{}",
        columns.join(" | "),
        " --- |".repeat(columns.len() + 3)
    );
}

/// Prints the line of a world, and returns what to call it.
fn line(world: &World, cells: &[String]) -> String {
    let World {
        what, size, share, ..
    } = *world;
    let split = format!("{:.0}/{:.0}", (1.0 - share) * 100.0, share * 100.0);
    println!("| {what} | {size} | {split} | {} |", cells.join(" | "));
    format!("{what}, {size}, {split}")
}

#[test]
fn the_headline_keeps_its_level_at_every_split_size_and_rate() {
    let experiments = 200 * times();
    head(&[
        "headline ever",
        "with a plan ever",
        "rejected at the planned look",
        "rejected at the last look",
        "difference holds 0",
        "relative holds 0",
        "three hold 0",
        "always-valid difference holds 0",
        "always-valid relative holds 0",
        "sparse",
    ]);
    for world in World::all() {
        let seen = Seen::simulate(&world, experiments);
        let at = line(
            &world,
            &[
                percent(seen.ever, seen.n),
                percent(seen.planned_ever, seen.n),
                seen.planned.share(),
                seen.last.share(),
                seen.difference.share(seen.n),
                seen.lift.share(seen.n),
                seen.family.share(seen.n / METRICS),
                seen.valid_difference.share(seen.n),
                seen.valid_lift.share(seen.n),
                percent(seen.sparse, seen.n),
            ],
        );
        let most = bound(experiments, ALPHA.get());
        assert!(seen.ever <= most, "{at}: {} of {experiments}", seen.ever);
        let ever = seen.planned_ever;
        assert!(ever <= most, "{at}: with a plan {ever} of {experiments}");
        // One look that was planned: the tests are approximations, and what they miss is sparse.
        for (tests, alpha) in [(seen.last, 1.0), (seen.planned, 0.8)] {
            let most = bound(tests.n, alpha * ALPHA.get() + 0.01);
            assert!(tests.rejected <= most, "{at}: rejected {}", tests.rejected);
        }
        // Newcombe's interval misses up to a tenth where an arm has a unit or two.
        let missed = seen.difference.missed();
        assert!(
            missed <= bound(seen.difference.n, 0.1),
            "{at}: missed {missed}"
        );
    }
}

#[test]
fn always_valid_intervals_hold_the_effect_at_every_look() {
    let experiments = 200 * times();
    head(&[
        "difference holds it",
        "relative holds it",
        "three hold it",
        "always-valid difference holds it",
        "always-valid relative holds it",
        "always-valid difference ever missed",
        "from five values on",
        "always-valid relative ever missed",
        "complete difference ever missed",
        "sparse",
    ]);
    for world in World::all() {
        let is_frequent = matches!(world.outcome, Outcome::Rate(rate) if rate > 0.2);
        let lift = if is_frequent { 0.1 } else { 0.2 };
        let world = World { lift, ..world };
        let seen = Seen::simulate(&world, experiments);
        let at = line(
            &world,
            &[
                seen.difference.share(seen.n),
                seen.lift.share(seen.n),
                seen.family.share(seen.n / METRICS),
                seen.valid_difference.share(seen.n),
                seen.valid_lift.share(seen.n),
                percent(seen.ever_missed.so_far, seen.n),
                percent(seen.ever_missed.of_values, seen.n),
                percent(seen.ever_missed.lift, seen.n),
                percent(seen.ever_missed.complete, seen.n),
                percent(seen.sparse, seen.n),
            ],
        );
        let most = bound(experiments, ALPHA.get());
        // One or two small purchases have hardly any variance, and the interval about them misses
        // the mean of what others will buy.
        let missed = match world.outcome {
            Outcome::ZeroInflated(..) => seen.ever_missed.of_values,
            Outcome::Rate(_) | Outcome::LogNormal(_) => seen.ever_missed.so_far,
        };
        assert!(missed <= most, "{at}: missed {missed} of {experiments}");
        // Where there is no relative interval the control may be 0, and nothing is claimed.
        let missed = seen.ever_missed.lift;
        assert!(
            missed <= most,
            "{at}: lift missed {missed} of {experiments}"
        );
        let missed = seen.difference.missed();
        assert!(
            missed <= bound(seen.difference.n, 0.1),
            "{at}: missed {missed}"
        );
    }
}

#[test]
fn guardrails_at_their_margin_are_seldom_called_kept_or_violated() {
    let experiments = 1_000 * times();
    println!(
        "| users | rate of the control | good | kept | violated | inconclusive for few events |\n| --- | --- | --- | --- | --- | --- |"
    );
    for (users, rate) in [
        ([5_000, 5_000], 0.01),
        ([9_000, 1_000], 0.001),
        ([9_000, 1_000], 0.005),
        ([9_000, 1_000], 0.05),
        ([9_900, 100], 0.01),
        ([9_900, 100], 0.2),
    ] {
        for (better, bound_of) in [(Better::More, 0.9), (Better::Less, 1.1)] {
            let mut random = Random::new(SEED ^ users[1] ^ (rate * 1e4) as u64);
            let mut arm = |n: u64, rate: f64| {
                let converted = (0..n).filter(|_| random.happens(rate)).count() as u64;
                Sample::Rate(Proportion::new(converted, n).unwrap())
            };
            let (mut kept, mut violated, mut few) = (0, 0, 0);
            for _ in 0..experiments {
                let (control, treatment) = (arm(users[0], rate), arm(users[1], rate * bound_of));
                let comparison = Comparison::between(&control, &treatment).unwrap();
                if comparison.is_sparse() {
                    few += 1;
                    continue;
                }
                match comparison.non_inferiority(0.1, better).unwrap() {
                    Some(test) if test.verdict(ALPHA) == Guardrail::Kept => kept += 1,
                    Some(test) if test.verdict(ALPHA) == Guardrail::Violated => violated += 1,
                    _ => {}
                }
            }
            println!(
                "| {}/{} | {rate} | {better:?} | {} | {} | {} |",
                users[0],
                users[1],
                percent(kept, experiments),
                percent(violated, experiments),
                percent(few, experiments),
            );
            // A half of alpha on each side, and a hundredth for the approximation.
            let most = bound(experiments, ALPHA.get() / 2.0 + 0.01);
            let at = format!("{users:?} {rate} {better:?}");
            assert!(kept <= most, "{at}: kept {kept}");
            assert!(violated <= most, "{at}: violated {violated}");
        }
    }
}

#[test]
fn quantiles_keep_their_level_or_are_refused_where_values_are_tied() {
    let experiments = 200 * times();
    println!(
        "| values | level | units an arm | refused | rejected of all | of those that are tested |\n| --- | --- | --- | --- | --- | --- |"
    );
    // A share of 0, and the others on a grid of so many steps a unit.
    for (what, zeros, grid, level) in [
        ("90 % zeros", 0.9, 100.0, 0.9),
        ("88 % zeros", 0.88, 100.0, 0.9),
        ("80 % zeros", 0.8, 100.0, 0.9),
        ("50 % zeros", 0.5, 100.0, 0.5),
        ("no zeros, cents", 0.0, 100.0, 0.9),
        ("no zeros, counts", 0.0, 1.0, 0.5),
    ] {
        for size in [300, 2_000, 20_000] {
            let mut random = Random::new(SEED ^ size);
            let mut arm = || {
                let mut values: Vec<f64> = (0..size)
                    .map(|_| {
                        if random.happens(zeros) {
                            return 0.0;
                        }
                        (random.normal().exp() * grid).round() / grid
                    })
                    .collect();
                values.sort_by(f64::total_cmp);
                Sample::Quantile(QuantileSummary::from_sorted(&values, level).unwrap(), level)
            };
            let (mut refused, mut rejected) = (0, 0);
            for _ in 0..experiments {
                match Comparison::between(&arm(), &arm()).unwrap().p_value() {
                    None => refused += 1,
                    Some(p_value) => rejected += usize::from(p_value < ALPHA.get()),
                }
            }
            println!(
                "| {what} | {level} | {size} | {} | {} | {} |",
                percent(refused, experiments),
                percent(rejected, experiments),
                percent(rejected, experiments - refused),
            );
            // The variance is an approximation, which may be a hundredth off.
            let most = bound(experiments, ALPHA.get() + 0.01);
            assert!(
                rejected <= most,
                "{what}, {size}: {rejected} of {experiments}"
            );
        }
    }
}
