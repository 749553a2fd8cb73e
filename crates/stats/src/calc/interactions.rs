//! Families about experiments that share users.

use serde_json::{Value, json};

use super::fields::Fields;
use super::output::{interval, status};
use super::{CalcError, Family};
use crate::{InteractionContrast, Summary, WelchJames, interaction, sample_ratio_mismatch};

pub(super) const INTERACTION: Family = Family {
    name: "interaction",
    summary: "do two experiments that share users disturb each other? Welch-James tests of the cells, contrasts, counts",
    example: r#"{"cells": [[{"n": 1000, "mean": 10.0, "var": 25.0}, {"n": 1010, "mean": 10.5, "var": 26.0}], [{"n": 990, "mean": 10.4, "var": 24.0}, {"n": 1005, "mean": 10.2, "var": 27.0}]], "weights_a": [1, 1], "weights_b": [1, 1], "alpha": 0.05, "power": 0.8}"#,
    compute: |input| {
        let known = ["cells", "weights_a", "weights_b", "alpha", "power"];
        let fields = Fields::new(input, &known)?;
        let alpha = fields.alpha()?;
        let power = fields.optional("power")?.unwrap_or(0.8);
        if !(power > 0.0 && power < 1.0) {
            return Err(fields.fault("power", "must be between 0 and 1, both excluded"));
        }
        let cells = cells(&fields)?;
        let found = fields.check(interaction(&cells, alpha, power))?;
        let contrasts = found.contrasts.iter().map(contrast);
        Ok(json!({
            "status": status(found.interaction.map(|test| test.p_value)),
            "users": found.users(),
            "independence": {
                "chi2": found.independence.chi_squared,
                "df": found.independence.df,
                "p_value": found.independence.p_value,
            },
            "srm_a": sample_ratio(&fields, "weights_a", &found.users_a)?,
            "srm_b": sample_ratio(&fields, "weights_b", &found.users_b)?,
            "contrasts": contrasts.collect::<Value>(),
            "interaction": found.interaction.map(test),
            "main_a": found.main_a.map(test),
            "main_b": found.main_b.map(test),
        }))
    },
};

fn cells(fields: &Fields<'_>) -> Result<Vec<Vec<Option<Summary>>>, CalcError> {
    let rows = fields.object_rows("cells", &["n", "mean", "var"])?;
    let read = |row: &Vec<Fields<'_>>| row.iter().map(Fields::summary_or_nobody).collect();
    rows.iter().map(read).collect()
}

/// The shared users against the weights of an experiment; null where these are not given.
fn sample_ratio(fields: &Fields<'_>, weights: &str, users: &[u64]) -> Result<Value, CalcError> {
    if !fields.has(weights) {
        return Ok(Value::Null);
    }
    let srm = sample_ratio_mismatch(users, &fields.numbers(weights)?)
        .map_err(|error| fields.fault(weights, &format!("cannot be used: {error}")))?;
    Ok(json!({"chi2": srm.chi_squared, "df": srm.df, "p_value": srm.p_value}))
}

fn contrast(contrast: &InteractionContrast) -> Value {
    let test = contrast.test;
    json!({
        "a": contrast.a,
        "b": contrast.b,
        "estimate": contrast.estimate,
        "se": test.map(|test| test.standard_error),
        "df": test.map(|test| test.df),
        "p_value": test.map(|test| test.p_value),
        "ci": interval(test.and_then(|test| test.interval)),
        "detectable": test.map(|test| test.detectable),
    })
}

fn test(test: WelchJames) -> Value {
    json!({
        "statistic": test.statistic,
        "f": test.f,
        "df1": test.df1,
        "df2": test.df2,
        "p_value": test.p_value,
    })
}
