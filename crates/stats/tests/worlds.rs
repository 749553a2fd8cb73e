//! What reports say in worlds without an effect: splits from even to 99 to 1, rare and
//! frequent conversions, heavy-tailed and mostly empty totals that grow for a week after the
//! exposure, arms from 10 to 100,000 units, looked at every day.
//!
//! Prints the tables of docs/statistics.md. `TRIALOG_SIMULATIONS=5` makes five times as many
//! experiments as a run of the tests has time for, and those of all sizes.

#![expect(clippy::print_stdout, reason = "prints the tables")]
#![expect(clippy::unwrap_used, reason = "simulated inputs are valid")]
#![expect(
    clippy::disallowed_methods,
    reason = "the size of the simulation is a matter of the one who runs it"
)]

use trialog_stats::special::normal_quantile;
use trialog_stats::{
    Alpha, Better, Comparison, Guardrail, Proportion, QuantileSummary, Sample, Summary,
};

const SEED: u64 = 20_261_129;
const ALPHA: Alpha = Alpha::P05;
const DAYS: usize = 24;
/// Users come in on these days, and the last ones have a week more.
const ENROLS_FOR: usize = DAYS - 7;
/// Units of both arms at which the sequential test of a report is sharpest.
const TUNING: f64 = 5_000.0;

fn times() -> usize {
    let times = std::env::var("TRIALOG_SIMULATIONS").ok();
    times.and_then(|text| text.parse().ok()).unwrap_or(1)
}

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

/// Sums of one arm at one look.
#[derive(Clone, Copy, Default)]
struct Sums {
    n: u64,
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

/// The looks at an experiment of `n` users in both arms, of whom `share` see the treatment.
fn looks(rng: &mut fastrand::Rng, outcome: Outcome, n: usize, share: f64) -> Vec<[Sums; 2]> {
    let mut days = vec![[Sums::default(); 2]; DAYS];
    for _ in 0..n {
        let arm = usize::from(rng.f64() < share);
        let exposed = rng.usize(..ENROLS_FOR);
        let later = exposed + rng.usize(..7);
        days[exposed][arm].n += 1;
        match outcome {
            Outcome::Rate(rate) => days[later][arm].converted += u64::from(rng.f64() < rate),
            Outcome::LogNormal(deviation) | Outcome::ZeroInflated(_, deviation) => {
                if matches!(outcome, Outcome::ZeroInflated(payers, _) if rng.f64() >= payers) {
                    continue;
                }
                let uniform = rng.f64().clamp(1e-16, 1.0 - 1e-16);
                let whole = (deviation * normal_quantile(uniform).unwrap()).exp();
                // What came in at once, and all of it.
                let first = whole * rng.f64();
                days[exposed][arm].total += first;
                days[exposed][arm].squares += first * first;
                days[later][arm].total += whole - first;
                days[later][arm].squares += whole * whole - first * first;
            }
        }
    }
    let mut so_far = [Sums::default(); 2];
    let cumulated = days.into_iter().map(|day| {
        for (arm, own) in so_far.iter_mut().zip(&day) {
            arm.add(own);
        }
        so_far
    });
    cumulated.collect()
}

/// How often something happened in the experiments of a world.
#[derive(Default)]
struct Seen {
    n: usize,
    /// The always-valid p-value was below alpha at any look.
    ever: usize,
    /// The last look has a fixed-horizon test, it is not sparse, and it rejects.
    tested: usize,
    rejected: usize,
    /// Intervals at the last look, and those that hold the truth, 0.
    absolute: [usize; 2],
    relative: [usize; 2],
    sparse: usize,
}

impl Seen {
    fn of(outcome: Outcome, n_per_arm: usize, share: f64, experiments: usize) -> Self {
        let mut rng = fastrand::Rng::with_seed(SEED ^ (n_per_arm as u64) << 20);
        let mut seen = Self {
            n: experiments,
            ..Self::default()
        };
        for _ in 0..experiments {
            let looks = looks(&mut rng, outcome, 2 * n_per_arm, share);
            let compared = |look: &[Sums; 2]| {
                let [control, treatment] = look.map(|arm| arm.sample(outcome));
                Comparison::of(&control?, &treatment?).ok()
            };
            let is_valid = |own: Comparison| {
                let valid = own.always_valid(ALPHA, TUNING);
                valid
                    .and_then(|own| own.p_value)
                    .is_some_and(|p| p < ALPHA.get())
            };
            seen.ever += usize::from(looks.iter().filter_map(compared).any(is_valid));
            if let Some(last) = looks.last().and_then(compared) {
                seen.note(outcome, &last);
            }
        }
        seen
    }

    fn note(&mut self, outcome: Outcome, last: &Comparison) {
        let is_rate = matches!(outcome, Outcome::Rate(_));
        let is_sparse = !is_rate && last.is_sparse();
        self.sparse += usize::from(is_sparse);
        if is_sparse {
            return;
        }
        if let Some(p_value) = last.p_value() {
            self.tested += 1;
            self.rejected += usize::from(p_value < ALPHA.get());
        }
        let (absolute, relative) = last.intervals(ALPHA);
        for (seen, interval) in [
            (&mut self.absolute, absolute),
            (&mut self.relative, relative.ok()),
        ] {
            if let Some(interval) = interval {
                seen[0] += 1;
                seen[1] += usize::from(interval.contains(0.0));
            }
        }
    }
}

/// The most of `n` that happen with a probability of 0.99 where each happens at `rate`.
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

#[test]
fn the_headline_keeps_its_level_at_every_split_size_and_rate() {
    let experiments = 200 * times();
    let sizes: &[usize] = if times() >= 5 {
        &[10, 100, 1_000, 10_000, 100_000]
    } else {
        &[10, 100, 1_000]
    };
    println!(
        "| outcome | units an arm | split | headline ever | rejected at the last look | difference holds 0 | relative holds 0 | sparse |\n| --- | --- | --- | --- | --- | --- | --- | --- |"
    );
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
            for share in [0.5, 0.1, 0.01] {
                let seen = Seen::of(outcome, size, share, experiments);
                println!(
                    "| {what} | {size} | {:.0}/{:.0} | {} | {} | {} | {} | {} |",
                    (1.0 - share) * 100.0,
                    share * 100.0,
                    percent(seen.ever, seen.n),
                    percent(seen.rejected, seen.tested),
                    percent(seen.absolute[1], seen.absolute[0]),
                    percent(seen.relative[1], seen.relative[0]),
                    percent(seen.sparse, seen.n),
                );
                let most = bound(experiments, ALPHA.get());
                let at = format!("{what}, {size}, {share}");
                assert!(seen.ever <= most, "{at}: {} of {experiments}", seen.ever);
                // One planned look: the tests are approximations, and what they miss is sparse.
                let most = bound(seen.tested, ALPHA.get() + 0.01);
                assert!(seen.rejected <= most, "{at}: rejected {}", seen.rejected);
                // Newcombe's interval misses up to a tenth where an arm has a unit or two.
                let missed = seen.absolute[0] - seen.absolute[1];
                assert!(
                    missed <= bound(seen.absolute[0], 0.1),
                    "{at}: missed {missed}"
                );
            }
        }
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
            let mut rng = fastrand::Rng::with_seed(SEED ^ users[1] ^ (rate * 1e4) as u64);
            let mut arm = |n: u64, rate: f64| {
                let converted = (0..n).filter(|_| rng.f64() < rate).count() as u64;
                Sample::Rate(Proportion::new(converted, n).unwrap())
            };
            let (mut kept, mut violated, mut few) = (0, 0, 0);
            for _ in 0..experiments {
                let (control, treatment) = (arm(users[0], rate), arm(users[1], rate * bound_of));
                let comparison = Comparison::of(&control, &treatment).unwrap();
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
            let mut rng = fastrand::Rng::with_seed(SEED ^ size);
            let mut arm = || {
                let mut values: Vec<f64> = (0..size)
                    .map(|_| {
                        if rng.f64() < zeros {
                            return 0.0;
                        }
                        let uniform = rng.f64().clamp(1e-16, 1.0 - 1e-16);
                        (normal_quantile(uniform).unwrap().exp() * grid).round() / grid
                    })
                    .collect();
                values.sort_by(f64::total_cmp);
                Sample::Quantile(QuantileSummary::from_sorted(&values, level).unwrap(), level)
            };
            let (mut refused, mut rejected) = (0, 0);
            for _ in 0..experiments {
                match Comparison::of(&arm(), &arm()).unwrap().p_value() {
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
