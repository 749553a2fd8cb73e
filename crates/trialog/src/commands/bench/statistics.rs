//! Runs `trialog bench statistics`: how long a whole comparison takes.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use trialog_stats::{
    Alpha, Comparison, Correction, CovariateSummary, Proportion, QuantileSummary, RatioSums,
    Sample, StatsError, Summary, adjust,
};

use crate::show::{Table, number};

/// Comparisons that are timed together, and corrected as one family.
const N: usize = 100_000;
/// Units of both arms together for always-valid inference.
const TUNING: f64 = 5_000.0;

pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let mut table = Table::new(&["comparison", "us each", "100,000 with Holm, s"]);
    for (name, make) in SAMPLES {
        let arms: Vec<[Sample; 2]> = (0..N)
            .map(|at| Ok([make(2 * at)?, make(2 * at + 1)?]))
            .collect::<Result<_, StatsError>>()?;
        let begun = Instant::now();
        let p_values: Vec<f64> = arms.iter().filter_map(whole).collect();
        let compared = begun.elapsed().as_secs_f64();
        black_box(adjust(Correction::Holm, &p_values)?);
        let all = begun.elapsed().as_secs_f64();
        let each = compared * 1e6 / N as f64;
        table.row([name.to_owned(), number(Some(each)), number(Some(all))]);
    }
    print!("{}", table.text());
    Ok(ExitCode::SUCCESS)
}

/// Computes everything that a report shows of a comparison.
fn whole([control, treatment]: &[Sample; 2]) -> Option<f64> {
    let comparison = Comparison::between(control, treatment).ok()?;
    let (interval, relative) = comparison.intervals(Alpha::P05);
    black_box((interval, relative.ok()));
    black_box(comparison.cohens_d());
    let valid = comparison.always_valid(Alpha::P05, TUNING);
    black_box(valid.and_then(|test| test.interval(Alpha::P05)));
    comparison.p_value()
}

type Make = fn(usize) -> Result<Sample, StatsError>;

/// Arms that differ from one to the next, so that no result can be reused.
const SAMPLES: [(&str, Make); 5] = [
    ("mean (Welch)", |at| {
        let summary = Summary::new(units(at), 5.0 + small(at), Some(9.0 + small(at)))?;
        Ok(Sample::Mean(summary))
    }),
    ("rate (z)", |at| {
        Ok(Sample::Rate(Proportion::new(units(at) / 10, units(at))?))
    }),
    ("ratio (delta method)", |at| {
        let (n, off) = (units(at), small(at));
        Ok(Sample::Ratio(RatioSums {
            n,
            m: n as f64 * (3.0 + off),
            d: n as f64 * 2.0,
            mm: n as f64 * 14.0,
            dd: n as f64 * 5.0,
            md: n as f64 * 7.0,
        }))
    }),
    ("mean with covariate (CUPED)", |at| {
        let summary = |mean| Summary::new(units(at), mean, Some(9.0));
        let arm = CovariateSummary::new(summary(5.0 + small(at))?, summary(4.0)?, Some(6.0))?;
        Ok(Sample::Adjusted(arm))
    }),
    ("quantile", |at| {
        let summary = QuantileSummary {
            n: units(at),
            n_star: units(at),
            quantile: 20.0 + small(at),
            lower: 19.5,
            upper: 20.5 + small(at),
            tied: Some(1),
        };
        Ok(Sample::Quantile(summary, 0.9))
    }),
];

fn units(at: usize) -> u64 {
    1_000 + (at as u64 * 7_919) % 100_000
}

fn small(at: usize) -> f64 {
    (at % 1_009) as f64 / 5_000.0
}
