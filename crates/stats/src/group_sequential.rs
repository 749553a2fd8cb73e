//! Computes group sequential boundaries for a fixed number of planned looks.
//!
//! At look k the statistic `Z_k` is compared with a boundary `z_k`; `Z_i` and `Z_j` are
//! normal with the correlation √(`t_i` / `t_j`) of their information fractions. The
//! density of the paths that have not crossed yet is carried from look to look by
//! numerical integration (Armitage, `McPherson` & Rowe 1969; Jennison & Turnbull 2000,
//! chapter 19).

use crate::special::{self, last_below, nodes};
use crate::{Alpha, StatsError};

/// The maximum number of looks of a plan.
pub const MAX_LOOKS: usize = 100;
/// The largest boundary that is computed: the probability of a larger one is below 1e-300.
const LARGEST_Z: f64 = 40.0;

/// How alpha is spent over the looks.
///
/// ```
/// use trialog_stats::{Alpha, group_sequential::Boundary};
/// // Half of the information has spent hardly anything.
/// assert!(Boundary::SpendingObrienFleming.spent(0.5, Alpha::P05).is_some_and(|a| a < 0.004));
/// assert_eq!(Boundary::ClassicalPocock.spent(0.5, Alpha::P05), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Boundary {
    /// Lan & `DeMets` (1983) in the manner of O'Brien & Fleming, alpha/2 on each side:
    /// A(t) = 4 (1 - Phi(z(1 - alpha/4) / √t)).
    SpendingObrienFleming,
    /// Lan & `DeMets` (1983) in the manner of Pocock: A(t) = alpha ln(1 + (e - 1) t).
    SpendingPocock,
    /// A(t) = alpha t^r, with r above 0 (Kim & `DeMets` 1987).
    SpendingPower(f64),
    /// O'Brien & Fleming (1979): `z_k` = C / √`t_k`.
    ClassicalObrienFleming,
    /// Pocock (1977): `z_k` = C.
    ClassicalPocock,
}

impl Boundary {
    /// Returns the part of `alpha` that may be spent up to the information fraction
    /// `t`; `None` for the classical designs, which have no such function.
    ///
    /// ```
    /// use trialog_stats::{Alpha, group_sequential::Boundary};
    /// assert_eq!(Boundary::SpendingPower(1.0).spent(0.5, Alpha::P05), Some(0.025));
    /// ```
    #[must_use]
    pub fn spent(self, t: f64, alpha: Alpha) -> Option<f64> {
        let total = alpha.get();
        match self {
            Self::SpendingObrienFleming => {
                let z = -special::quantile_of_normal(total / 4.0);
                Some(4.0 * special::normal_upper_tail(z / t.sqrt()))
            }
            Self::SpendingPocock => Some(total * libm::log1p((std::f64::consts::E - 1.0) * t)),
            Self::SpendingPower(r) => Some(total * t.powf(r)),
            Self::ClassicalObrienFleming | Self::ClassicalPocock => None,
        }
    }
}

/// The boundaries of a plan, look by look.
///
/// ```
/// use trialog_stats::{Alpha, group_sequential::{Boundary, group_sequential}};
/// let plan = group_sequential(Boundary::ClassicalPocock, &[0.5, 1.0], Alpha::P05)?;
/// assert!(plan.constant.is_some_and(|constant| (constant - 2.178).abs() < 1e-3));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct GroupSequential {
    /// |`Z_k`| at or beyond this ends the experiment.
    pub z_boundaries: Vec<f64>,
    /// The same as two-sided p-values.
    pub nominal_p: Vec<f64>,
    /// The probability, without an effect, to have crossed a boundary by each look.
    pub cumulative_alpha_spent: Vec<f64>,
    /// The constant C of the classical designs.
    pub constant: Option<f64>,
}

/// Returns the two-sided boundaries of looks at the information `fractions`.
///
/// # Errors
///
/// [`StatsError::List`] unless there are 1 to 100 fractions that increase up to 1 (the
/// classical designs: equally spaced); [`StatsError::Range`] for a power that is not
/// positive and finite.
///
/// ```
/// use trialog_stats::{Alpha, group_sequential::{Boundary, group_sequential}};
/// let plan = group_sequential(Boundary::ClassicalPocock, &[0.5, 1.0], Alpha::P05)?;
/// assert!((plan.z_boundaries[1] - 2.178).abs() < 1e-3);
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
pub fn group_sequential(
    boundary: Boundary,
    fractions: &[f64],
    alpha: Alpha,
) -> Result<GroupSequential, StatsError> {
    check(boundary, fractions)?;
    match boundary {
        Boundary::ClassicalObrienFleming | Boundary::ClassicalPocock => {
            Ok(classical(boundary, fractions, alpha))
        }
        _ => Ok(spending(boundary, fractions, alpha)),
    }
}

fn check(boundary: Boundary, fractions: &[f64]) -> Result<(), StatsError> {
    let refuse = |rule| {
        Err(StatsError::List {
            argument: "information_fractions",
            rule,
        })
    };
    if fractions.is_empty() || fractions.len() > MAX_LOOKS {
        return refuse("must have 1 to 100 looks");
    }
    let before = std::iter::once(&0.0).chain(fractions);
    // Nearer looks would ask for a grid without end.
    let is_later = |(before, next): (&f64, &f64)| *next - *before >= 1e-4;
    if !before.zip(fractions).all(is_later) {
        return refuse("must increase from above 0, by at least 1e-4 from look to look");
    }
    if fractions
        .last()
        .is_none_or(|last| (last - 1.0).abs() > 1e-12)
    {
        return refuse("must end with 1");
    }
    if let Boundary::SpendingPower(r) = boundary
        && !(r > 0.0 && r <= 1e3)
    {
        return Err(StatsError::Range {
            argument: "r",
            range: "positive and at most 1000",
            value: r,
        });
    }
    let is_classical = boundary.spent(1.0, Alpha::P05).is_none();
    let spacing = 1.0 / fractions.len() as f64;
    let is_even = (fractions.iter().enumerate())
        .all(|(index, t)| (t - (index + 1) as f64 * spacing).abs() < 1e-9);
    if is_classical && !is_even {
        return refuse("must be equally spaced for a classical design");
    }
    Ok(())
}

fn spending(boundary: Boundary, fractions: &[f64], alpha: Alpha) -> GroupSequential {
    let spent: Vec<f64> = (fractions.iter())
        .map(|t| {
            boundary
                .spent(*t, alpha)
                .unwrap_or_default()
                .min(alpha.get())
        })
        .collect();
    let mut paths = Paths::new();
    let mut z_boundaries = Vec::with_capacity(fractions.len());
    let mut before = 0.0;
    for (t, spent) in fractions.iter().zip(&spent) {
        let due = spent - before;
        let z = last_below(0.0, LARGEST_Z, |z| paths.crossing(*t, z) > due);
        paths.look(*t, z);
        z_boundaries.push(z);
        before = *spent;
    }
    plan(z_boundaries, spent, None)
}

fn classical(boundary: Boundary, fractions: &[f64], alpha: Alpha) -> GroupSequential {
    let z_at = |constant: f64, t: f64| match boundary {
        Boundary::ClassicalObrienFleming => constant / t.sqrt(),
        _ => constant,
    };
    let spent_with = |constant: f64| {
        let mut paths = Paths::new();
        let mut spent = Vec::with_capacity(fractions.len());
        let mut total = 0.0;
        for t in fractions {
            let z = z_at(constant, *t);
            total += paths.crossing(*t, z);
            spent.push(total);
            paths.look(*t, z);
        }
        spent
    };
    let total = |constant: f64| spent_with(constant).last().copied().unwrap_or(1.0);
    // The last look alone needs this; all of them together not more than Bonferroni.
    let (low, high) = (
        special::normal_critical(alpha),
        -special::quantile_of_normal(alpha.get() / 2.0 / fractions.len() as f64),
    );
    let constant = secant(low, high + 1e-9, |constant| total(constant) - alpha.get());
    let z_boundaries = fractions.iter().map(|t| z_at(constant, *t)).collect();
    plan(z_boundaries, spent_with(constant), Some(constant))
}

fn plan(z_boundaries: Vec<f64>, spent: Vec<f64>, constant: Option<f64>) -> GroupSequential {
    let nominal_p = z_boundaries.iter();
    GroupSequential {
        nominal_p: nominal_p
            .map(|z| special::normal_two_sided_tail(*z))
            .collect(),
        z_boundaries,
        cumulative_alpha_spent: spent,
        constant,
    }
}

/// The root of a falling function between `low` and `high`: regula falsi in the
/// Illinois variant, as each evaluation is a whole recursion.
fn secant(mut low: f64, mut high: f64, f: impl Fn(f64) -> f64) -> f64 {
    const MOST_STEPS: u32 = 60;
    let (mut at_low, mut at_high) = (f(low), f(high));
    let mut root = low;
    for _ in 0..MOST_STEPS {
        if (high - low).abs() < 1e-13 || at_low <= 0.0 || at_high >= 0.0 {
            break;
        }
        root = (high * at_low - low * at_high) / (at_low - at_high);
        let value = f(root);
        if value.abs() < 1e-15 {
            break;
        }
        if value > 0.0 {
            (low, at_low) = (root, value);
            at_high *= 0.5;
        } else {
            (high, at_high) = (root, value);
            at_low *= 0.5;
        }
    }
    root
}

/// The paths that have not crossed yet: their positions on the scale of Z √t and their
/// probabilities (density times weight).
struct Paths {
    t: f64,
    standing: Vec<(f64, f64)>,
}

impl Paths {
    fn new() -> Self {
        Self {
            t: 0.0,
            standing: vec![(0.0, 1.0)],
        }
    }

    /// The probability to be at or beyond `z` at the look at `t`, and not before.
    fn crossing(&self, t: f64, z: f64) -> f64 {
        let step = (t - self.t).sqrt();
        let limit = z * t.sqrt();
        let beyond = |at: f64| {
            special::normal_upper_tail((limit - at) / step)
                + special::normal_upper_tail((limit + at) / step)
        };
        let terms = self.standing.iter();
        terms
            .map(|(at, probability)| probability * beyond(*at))
            .sum()
    }

    /// Moves on to the look at `t`, where paths at or beyond `z` end.
    fn look(&mut self, t: f64, z: f64) {
        const FARTHEST_SD: f64 = 9.0;
        let step = (t - self.t).sqrt();
        let limit = (z * t.sqrt()).min(FARTHEST_SD * t.sqrt());
        // A panel has 16 nodes: two steps wide is fine enough for a normal density.
        let n_panels = ((limit / step).ceil() as usize).clamp(2, 400);
        let scale = 1.0 / (step * (2.0 * std::f64::consts::PI).sqrt());
        let density = |at: f64| -> f64 {
            // Whatever stands farther away does not come here.
            let near = |far: f64| self.standing.partition_point(|(from, _)| *from < at + far);
            let reach = FARTHEST_SD * step;
            let terms = self.standing[near(-reach)..near(reach)].iter();
            let terms = terms.map(|(from, probability)| {
                let distance = (at - from) / step;
                probability * (-0.5 * distance * distance).exp()
            });
            terms.sum::<f64>() * scale
        };
        let nodes = nodes(-limit, limit, n_panels).into_iter();
        let mut standing: Vec<(f64, f64)> = nodes
            .map(|(at, weight)| (at, weight * density(at)))
            .collect();
        standing.sort_by(|x, y| x.0.total_cmp(&y.0));
        self.standing = standing;
        self.t = t;
    }
}
