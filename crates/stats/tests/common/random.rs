//! What simulations share: random numbers with a fixed seed, and how many experiments to make.

use trialog_stats::special::normal_quantile;

/// Returns how many times the usual number of experiments to make, `TRIALOG_SIMULATIONS`.
#[expect(
    clippy::disallowed_methods,
    reason = "the size of the simulation is a matter of the one who runs it"
)]
pub(crate) fn times() -> usize {
    let times = std::env::var("TRIALOG_SIMULATIONS").ok();
    times.and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Random numbers of the distributions that experiments have.
pub(crate) struct Random(pub(crate) fastrand::Rng);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// Returns a number between 0 and 1, never 0, which has no normal quantile.
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.0.f64() + 1e-17).min(1.0 - 1e-16)
    }

    pub(crate) fn normal(&mut self) -> f64 {
        normal_quantile(self.uniform()).unwrap()
    }

    pub(crate) fn happens(&mut self, rate: f64) -> bool {
        self.uniform() < rate
    }
}
