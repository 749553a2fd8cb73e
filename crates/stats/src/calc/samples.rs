//! Defines the families that take values: winsorising, quantiles, moments.

use serde_json::{Value, json};

use super::fields::Fields;
use super::output::{interval, relative, status, welch as welch_output, with};
use super::{CalcError, Family};
use crate::{
    Alpha, CoMoments, Moments, QuantileSummary, StatsError, order_statistic_interval,
    quantile_levels, quantile_test, winsorize,
};

pub(super) const WINSORIZE: Family = Family {
    name: "winsorize",
    summary: "difference of two means after outliers are set to a quantile of both arms",
    example: r#"{"values_a": [1, 2, 3, 4], "values_b": [2, 3, 4, 1000], "lower_quantile": null, "upper_quantile": 0.85}"#,
    compute: |input| {
        let known = ["values_a", "values_b", "lower_quantile", "upper_quantile"];
        let fields = Fields::new(input, &known)?;
        let (a, b) = (values(&fields, "values_a")?, values(&fields, "values_b")?);
        let lower = fields.optional("lower_quantile")?;
        let upper = fields.optional("upper_quantile")?;
        let clipped = fields.check(winsorize(&a, &b, lower, upper))?;
        let [arm_a, arm_b] = clipped.arms;
        Ok(json!({
            "status": status(clipped.test.p_value),
            "lower_threshold": clipped.lower_threshold,
            "upper_threshold": clipped.upper_threshold,
            "mean_a": arm_a.mean(),
            "var_a": arm_a.variance(),
            "clipped_low_a": clipped.clipped_low[0],
            "clipped_high_a": clipped.clipped_high[0],
            "mean_b": arm_b.mean(),
            "var_b": arm_b.variance(),
            "clipped_low_b": clipped.clipped_low[1],
            "clipped_high_b": clipped.clipped_high[1],
            "diff": clipped.test.difference,
            "t": clipped.test.t,
            "df": clipped.test.df,
            "p_value": clipped.test.p_value,
            "ci95": interval(clipped.interval(Alpha::P05)),
        }))
    },
};

/// At least one value.
fn values(fields: &Fields<'_>, name: &str) -> Result<Vec<f64>, CalcError> {
    let values = fields.numbers(name)?;
    if values.is_empty() {
        return Err(fields.fault(name, "has no values"));
    }
    match values.iter().position(|value| value.abs() > 1e140) {
        Some(index) => Err(fields.fault(&format!("{name}[{index}]"), "is beyond 1e140")),
        None => Ok(values),
    }
}

pub(super) const QUANTILE: Family = Family {
    name: "quantile_metric",
    summary: "difference of a quantile, such as the median or the 95th percentile, between two arms",
    example: r#"{"form": "summary", "quantile_level": 0.5, "a": {"n": 5000, "n_star": 5000, "quantile": 211.7, "lower": 210.5, "upper": 213.2}, "b": {"n": 5000, "n_star": 5000, "quantile": 209.4, "lower": 208.3, "upper": 210.9}, "alphas": [0.05]}"#,
    compute: |input| {
        let known = [
            "form",
            "quantile_level",
            "a",
            "b",
            "values_a",
            "values_b",
            "alphas",
        ];
        let fields = Fields::new(input, &known)?;
        let level = fields.number("quantile_level")?;
        let alphas = fields.alphas()?;
        let is_raw = fields.word("form", &[("summary", false), ("raw", true)])?;
        let (a, b, more) = if is_raw {
            raw(&fields, level)?
        } else {
            (summary(&fields, "a")?, summary(&fields, "b")?, json!({}))
        };
        let test = fields.check(quantile_test(&a, &b, level))?;
        let output = welch_output(&test, &alphas);
        let quantiles = json!({
            "quantile_a": a.quantile, "lower_a": a.lower, "upper_a": a.upper,
            "unit_variance_a": a.unit_variance(),
            "quantile_b": b.quantile, "lower_b": b.lower, "upper_b": b.upper,
            "unit_variance_b": b.unit_variance(),
            "relative": test.p_value.map(|_| relative(&test, &alphas)),
        });
        Ok(with(with(output, quantiles), more))
    },
};

type Arms = (QuantileSummary, QuantileSummary, Value);

fn raw(fields: &Fields<'_>, level: f64) -> Result<Arms, CalcError> {
    let sorted = |name: &str| {
        let mut values = values(fields, name)?;
        values.sort_by(f64::total_cmp);
        Ok::<_, CalcError>(values)
    };
    let (a, b) = (sorted("values_a")?, sorted("values_b")?);
    let levels = |values: &[f64]| fields.check(quantile_levels(values.len() as u64, level));
    let ((lower_a, upper_a), (lower_b, upper_b)) = (levels(&a)?, levels(&b)?);
    let more = json!({
        "lower_level_a": lower_a, "upper_level_a": upper_a,
        "lower_level_b": lower_b, "upper_level_b": upper_b,
        "order_statistic_ci95_a": order_statistic_interval(&a, level),
        "order_statistic_ci95_b": order_statistic_interval(&b, level),
    });
    let summary = |values: &[f64]| fields.check(QuantileSummary::from_sorted(values, level));
    Ok((summary(&a)?, summary(&b)?, more))
}

fn summary(fields: &Fields<'_>, name: &str) -> Result<QuantileSummary, CalcError> {
    let arm = fields.object(name, &["n", "n_star", "quantile", "lower", "upper"])?;
    let n = arm.count("n")?;
    Ok(QuantileSummary {
        n,
        n_star: if arm.has("n_star") {
            arm.count("n_star")?
        } else {
            n
        },
        quantile: arm.number("quantile")?,
        lower: arm.number("lower")?,
        upper: arm.number("upper")?,
        tied: None,
    })
}

pub(super) const MOMENTS: Family = Family {
    name: "moments",
    summary: "count, mean, variance and covariance of values or of pieces, merged in any order",
    example: r#"{"form": "pieces", "pieces": [{"n": 3, "mean": 2.0, "m2": 2.0}, {"n": 2, "mean": 5.0, "m2": 0.5}]}"#,
    compute: |input| {
        let fields = Fields::new(input, &["form", "values", "piece_ends", "pieces"])?;
        match fields.text("form")? {
            "raw" => Ok(shown(&of_values(&fields)?)),
            "pieces" => Ok(shown(&of_pieces(&fields)?)),
            "covariance_pieces" => covariance(&fields),
            _ => Err(fields.fault("form", "is not known: use raw, pieces or covariance_pieces")),
        }
    },
};

fn shown(moments: &Moments) -> Value {
    json!({
        "status": status(moments.mean()),
        "n": moments.n(),
        "mean": moments.mean(),
        "m2": moments.m2(),
        "variance": moments.variance(),
    })
}

/// Computes the moments of each piece and merges them.
fn of_values(fields: &Fields<'_>) -> Result<Moments, CalcError> {
    let values = fields.numbers("values")?;
    if let Some(index) = values.iter().position(|value| value.abs() > 1e140) {
        return Err(fields.fault(&format!("values[{index}]"), "is beyond 1e140"));
    }
    let ends = if fields.has("piece_ends") {
        fields.counts("piece_ends")?
    } else {
        Vec::new()
    };
    let mut moments = Moments::default();
    let mut from = 0;
    for (index, end) in ends.into_iter().chain([values.len() as u64]).enumerate() {
        let end = usize::try_from(end).unwrap_or(usize::MAX);
        let Some(piece) = values.get(from..end) else {
            let reason = "is before the end of the piece before it, or beyond the values";
            return Err(fields.fault(&format!("piece_ends[{index}]"), reason));
        };
        moments.merge(&piece.iter().copied().collect());
        from = end;
    }
    Ok(moments)
}

fn of_pieces(fields: &Fields<'_>) -> Result<Moments, CalcError> {
    let mut moments = Moments::default();
    for piece in fields.objects("pieces", &["n", "mean", "m2"])? {
        moments.merge(&moments_of(&piece, "mean", "m2")?);
    }
    Ok(moments)
}

fn moments_of(piece: &Fields<'_>, mean: &str, m2: &str) -> Result<Moments, CalcError> {
    let n = piece.count("n")?;
    if n == 0 {
        return Ok(Moments::default());
    }
    let moments = Moments::new(n, piece.number(mean)?, piece.number(m2)?);
    moments.map_err(|error| match error {
        StatsError::Mean(_) => piece.fault(mean, &error.to_string()),
        _ => piece.fault(m2, "must be from 0 to 1e300, and 0 for a single value"),
    })
}

fn covariance(fields: &Fields<'_>) -> Result<Value, CalcError> {
    let known = ["n", "mean_x", "mean_y", "m2_x", "m2_y", "c_xy"];
    let mut joint = CoMoments::default();
    for piece in fields.objects("pieces", &known)? {
        let x = moments_of(&piece, "mean_x", "m2_x")?;
        let y = moments_of(&piece, "mean_y", "m2_y")?;
        let c = if x.n() == 0 {
            0.0
        } else {
            piece.number("c_xy")?
        };
        joint.merge(&piece.check(CoMoments::new(x, y, c))?);
    }
    let (x, y) = (joint.x(), joint.y());
    Ok(json!({
        "status": status(x.mean()),
        "n": x.n(),
        "mean_x": x.mean(),
        "mean_y": y.mean(),
        "m2_x": x.m2(),
        "m2_y": y.m2(),
        "c_xy": joint.c(),
        "var_x": x.variance(),
        "var_y": y.variance(),
        "cov_xy": joint.covariance(),
    }))
}
