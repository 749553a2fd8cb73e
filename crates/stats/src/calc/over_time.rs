//! Families about effects over time.

use serde_json::{Value, json};

use super::fields::Fields;
use super::output::{interval, status};
use super::{CalcError, Family};
use crate::{
    Alpha, BinMoments, DayEffect, Interval, NoveltySlope, StabilityLook, novelty, stability,
};

pub(super) const NOVELTY: Family = Family {
    name: "novelty",
    summary: "does the effect fade or grow with the days since the exposure? Trend of the log ratio over a fixed cohort",
    example: r#"{"a": {"n": 1000, "mean": [1.0, 0.8, 0.7], "cov": [[2.0, 0.5, 0.4], [0.5, 1.8, 0.5], [0.4, 0.5, 1.6]]}, "b": {"n": 1000, "mean": [1.4, 0.9, 0.7], "cov": [[2.2, 0.5, 0.4], [0.5, 1.8, 0.5], [0.4, 0.5, 1.6]]}, "alpha": 0.05}"#,
    compute: |input| {
        let fields = Fields::new(input, &["a", "b", "alpha"])?;
        let alpha = fields.alpha()?;
        let (a, b) = (bins(&fields, "a")?, bins(&fields, "b")?);
        if a.n_bins() != b.n_bins() {
            return Err(fields.fault("b", "must have as many bins as `a`"));
        }
        let found = fields.check(novelty(&a, &b))?;
        let days = found.days.iter().map(|effect| day(effect, alpha));
        Ok(json!({
            "status": status(found.slope.map(|slope| slope.p_value)),
            "days": days.collect::<Value>(),
            "overall_log_ratio": found.overall.map(|ratio| ratio.value),
            "overall_log_ratio_se": found.overall.map(|ratio| ratio.standard_error),
            "slope": found.slope.map(|trend| slope(&trend, alpha)),
            "omnibus": found.omnibus.map(|test| json!({
                "chi2": test.chi_squared,
                "df": test.df,
                "p_value": test.p_value,
            })),
            "verdict": found.verdict(alpha).map(|verdict| verdict.as_str()),
        }))
    },
};

/// An arm as `n`, `mean` and `cov`, or as `values` with a row for each user.
fn bins(fields: &Fields<'_>, name: &str) -> Result<BinMoments, CalcError> {
    let arm = fields.object(name, &["n", "mean", "cov", "values"])?;
    if !arm.has("values") {
        let n = arm.count("n")?;
        let covariances = match n {
            1 => Vec::new(),
            _ => arm.number_rows("cov")?,
        };
        return arm.check(BinMoments::new(n, arm.numbers("mean")?, &covariances));
    }
    let mut moments = BinMoments::default();
    for (index, user) in arm.number_rows("values")?.iter().enumerate() {
        let place = format!("values[{index}]");
        moments
            .push(user)
            .map_err(|error| arm.fault(&place, &format!("cannot be used: {error}")))?;
    }
    if moments.n() == 0 {
        return Err(arm.fault("values", "has no users"));
    }
    Ok(moments)
}

fn day(effect: &DayEffect, alpha: Alpha) -> Value {
    json!({
        "diff": effect.difference,
        "se": effect.standard_error,
        "ci": interval(effect.interval(alpha)),
        "log_ratio": effect.log_ratio.map(|ratio| ratio.value),
        "log_ratio_se": effect.log_ratio.map(|ratio| ratio.standard_error),
    })
}

fn slope(slope: &NoveltySlope, alpha: Alpha) -> Value {
    json!({
        "estimate": slope.estimate,
        "se": slope.standard_error,
        "z": slope.z,
        "p_value": slope.p_value,
        "ci": interval(slope.interval(alpha)),
        "per_doubling": slope.per_doubling(),
        "per_doubling_ci": interval(slope.per_doubling_interval(alpha)),
    })
}

pub(super) const STABILITY: Family = Family {
    name: "stability",
    summary: "do cumulative looks agree with one constant effect, and since when has the estimate been stable?",
    example: r#"{"looks": [{"a": {"n": 500, "mean": 10.0, "var": 25.0}, "b": {"n": 500, "mean": 10.4, "var": 26.0}}, {"a": {"n": 1000, "mean": 10.1, "var": 25.0}, "b": {"n": 1000, "mean": 10.6, "var": 26.0}}], "alpha": 0.05, "tuning_parameter": 5000, "mde": 0.9}"#,
    compute: |input| {
        let fields = Fields::new(input, &["looks", "alpha", "tuning_parameter", "mde"])?;
        let alpha = fields.alpha()?;
        let tuning = fields.optional("tuning_parameter")?.unwrap_or(5_000.0);
        let mde = fields.optional("mde")?;
        if mde.is_some_and(|mde| mde < 0.0) {
            return Err(fields.fault("mde", "must not be negative"));
        }
        let mut looks = Vec::new();
        for look in fields.objects("looks", &["a", "b"])? {
            let (a, b) = (look.summary("a")?, look.summary("b")?);
            looks.push(fields.check(StabilityLook::from_arms(&a, &b, alpha, tuning))?);
        }
        let found = stability(&looks, mde);
        let shown = looks.iter().map(|look| {
            json!({
                "estimate": look.estimate,
                "low": look.interval.map(|Interval { low, .. }| low),
                "high": look.interval.map(|Interval { high, .. }| high),
            })
        });
        Ok(json!({
            "status": if found.is_some() { "ok" } else { "undefined" },
            "looks": shown.collect::<Value>(),
            "intersection": interval(found.and_then(|found| found.intersection)),
            "constant_rejected": found.map(|found| found.is_constant_rejected()),
            "stable_since": found.and_then(|found| found.stable_since),
            "precise_since": found.and_then(|found| found.precise_since),
        }))
    },
};
