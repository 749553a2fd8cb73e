//! Families about segments of users.

use serde_json::{Value, json};

use super::Family;
use super::fields::Fields;
use super::output::interval;
use crate::{
    Alpha, CochranQ, Heterogeneity, SegmentDifference, SegmentEffect, SegmentTrend, heterogeneity,
};

pub(super) const HETEROGENEITY: Family = Family {
    name: "heterogeneity",
    summary: "is the effect the same in all segments, and which deviate? Welch's F, contrasts, shrunken effects",
    example: r#"{"segments": [{"segment": "ios", "a": {"n": 500, "mean": 10.0, "var": 25.0}, "b": {"n": 480, "mean": 11.0, "var": 30.0}, "score": 1}, {"segment": "android", "a": {"n": 900, "mean": 9.0, "var": 16.0}, "b": {"n": 300, "mean": 8.5, "var": 40.0}, "score": 2}, {"segment": "web", "a": {"n": 700, "mean": 9.5, "var": 20.0}, "b": {"n": 650, "mean": 9.9, "var": 22.0}, "score": 3}], "alpha": 0.05}"#,
    compute: |input| {
        let fields = Fields::new(input, &["segments", "alpha"])?;
        let alpha = fields.alpha()?;
        let (mut names, mut used, mut excluded) = (Vec::new(), Vec::new(), Vec::new());
        for segment in fields.objects("segments", &["segment", "a", "b", "score"])? {
            let name = segment.text("segment")?;
            let arms = segment
                .optional_summary("a")?
                .zip(segment.optional_summary("b")?);
            let score = segment.optional("score")?;
            match arms.and_then(|(a, b)| SegmentDifference::from_arms(&a, &b)) {
                Some(difference) => {
                    names.push(name);
                    used.push(SegmentDifference {
                        score,
                        ..difference
                    });
                }
                None => excluded.push(name),
            }
        }
        let Some(found) = fields.check(heterogeneity(&used, alpha))? else {
            return Ok(json!({
                "status": "undefined", "segments": [], "excluded": excluded, "pooled": null,
                "q": null, "f": null, "i_squared": null, "tau_squared": null,
                "tau_squared_dl": null, "trend": null, "named": [],
            }));
        };
        Ok(shown(&found, &names, &used, &excluded, alpha))
    },
};

fn shown(
    found: &Heterogeneity,
    names: &[&str],
    used: &[SegmentDifference],
    excluded: &[&str],
    alpha: Alpha,
) -> Value {
    let segments = found.segments.iter().zip(names.iter().zip(used));
    let named: Vec<&str> = found.named.iter().map(|index| names[*index]).collect();
    json!({
        "status": "ok",
        "segments": segments
            .map(|(effect, (name, difference))| segment(name, difference, effect, alpha))
            .collect::<Value>(),
        "excluded": excluded,
        "pooled": {"diff": found.pooled.difference, "se": found.pooled.standard_error},
        "q": chi_squared(&found.q),
        "f": {
            "f": found.f.f,
            "df1": found.f.df1,
            "df2": found.f.df2,
            "p_value": found.f.p_value,
        },
        "i_squared": found.i_squared,
        "tau_squared": found.tau_squared,
        "tau_squared_dl": found.tau_squared_dl,
        "trend": found.trend.map(|slope| trend(&slope, alpha)),
        "named": named,
    })
}

fn segment(
    name: &str,
    difference: &SegmentDifference,
    effect: &SegmentEffect,
    alpha: Alpha,
) -> Value {
    json!({
        "segment": name,
        "diff": difference.difference,
        "variance": difference.variance,
        "df": difference.df,
        "share": effect.share,
        "rest": effect.rest,
        "contrast": effect.contrast,
        "contrast_se": effect.standard_error,
        "contrast_df": effect.df,
        "contrast_p_value": effect.p_value,
        "contrast_adjusted_p_value": effect.adjusted_p_value,
        "differs": effect.adjusted_p_value < alpha.get(),
        "shrunk": effect.shrunk,
        "shrunk_sd": effect.shrunk_sd,
    })
}

fn trend(trend: &SegmentTrend, alpha: Alpha) -> Value {
    json!({
        "slope": trend.slope,
        "se": trend.standard_error,
        "z": trend.z,
        "p_value": trend.p_value,
        "ci": interval(trend.interval(alpha)),
        "residual": trend.residual.as_ref().map(chi_squared),
    })
}

fn chi_squared(test: &CochranQ) -> Value {
    json!({"chi2": test.chi_squared, "df": test.df, "p_value": test.p_value})
}
