//! Families about effects over time.

use serde_json::{Value, json};

use super::Family;
use super::fields::Fields;
use super::output::interval;
use crate::{Interval, StabilityLook, stability};

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
