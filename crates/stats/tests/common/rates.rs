//! How often something happened in simulated experiments, and how often it should.

use crate::random::times;

/// How often something happened in `n` experiments, and within which band it should.
pub(crate) struct Rate {
    pub(crate) share: f64,
    pub(crate) band: f64,
}

/// Runs `n` experiments; a band of four standard errors about `expected`.
pub(crate) fn rate(n: usize, expected: f64, mut happened: impl FnMut() -> bool) -> Rate {
    let n = n * times();
    let share = (0..n).filter(|_| happened()).count() as f64 / n as f64;
    Rate {
        share,
        band: 4.0 * (expected * (1.0 - expected) / n as f64).sqrt(),
    }
}

/// Prints a line of the table.
pub(crate) fn line(what: &str, rate: &Rate, promised: &str) {
    println!(
        "| {what} | {promised} | {:.4} | ±{:.4} |",
        rate.share, rate.band
    );
}

/// The rate has to be about `promised`: an approximation may be a hundredth off.
pub(crate) fn about(what: &str, promised: f64, rate: &Rate) {
    line(what, rate, &format!("about {promised}"));
    assert!(
        (rate.share - promised).abs() <= 0.01 + rate.band,
        "{what}: {}",
        rate.share
    );
}

/// The rate has to be at most `promised`, plus the band.
pub(crate) fn at_most(what: &str, promised: f64, rate: &Rate) {
    line(what, rate, &format!("at most {promised}"));
    assert!(rate.share <= promised + rate.band, "{what}: {}", rate.share);
}

/// Prints the head of a table.
pub(crate) fn head(title: &str) {
    println!("\n| {title} | promised | measured | band |\n| --- | --- | --- | --- |");
}
