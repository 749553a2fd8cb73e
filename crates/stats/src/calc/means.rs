//! Defines the families about means: Welch, effect sizes, CUPED, ratios, factors, Bayes.

use serde_json::{Value, json};

use super::fields::Fields;
use super::output::{interval, relative, status, welch as welch_output, with};
use super::{CalcError, Family};
use crate::{
    Better, Cell, CovariateSummary, DifferenceType, Effects, FactorTest, Guardrail, Moments,
    NormalPrior, RatioSums, anova_2x2, cuped, effect_size, lift_interval, non_inferiority,
    normal_posterior, ratio_test, welch,
};

pub(super) const WELCH: Family = Family {
    name: "welch_t",
    summary: "difference of two means with unequal variances: Welch's t, absolute and relative intervals",
    example: r#"{"a": {"n": 1000, "mean": 10.0, "var": 25.0}, "b": {"n": 1000, "mean": 10.6, "var": 26.0}, "alphas": [0.05]}"#,
    compute: |input| {
        let fields = Fields::new(input, &["a", "b", "alphas"])?;
        let test = welch(&fields.summary("a")?, &fields.summary("b")?);
        Ok(welch_output(&test, &fields.alphas()?))
    },
};

pub(super) const NON_INFERIORITY: Family = Family {
    name: "non_inferiority",
    summary: "a guardrail: is the mean not worse by more than a fraction of the control? Linear test, Fieller's interval",
    example: r#"{"a": {"n": 5000, "mean": 200.0, "var": 2500.0}, "b": {"n": 5000, "mean": 202.0, "var": 2500.0}, "margin": 0.05, "direction": "decrease", "alpha": 0.05}"#,
    compute: |input| {
        let fields = Fields::new(input, &["a", "b", "margin", "direction", "alpha"])?;
        let (a, b) = (fields.summary("a")?, fields.summary("b")?);
        let better = fields.word("direction", &DIRECTIONS)?;
        let alpha = fields.alpha()?;
        let margin = fields.number("margin")?;
        let test = fields.check(non_inferiority(&a, &b, margin, better))?;
        let verdict = test.map_or(Guardrail::Inconclusive, |test| test.verdict(alpha));
        let is_positive = a.mean() > 0.0;
        let lift = is_positive.then(|| (b.mean() - a.mean()) / a.mean());
        let lift_ci = lift_interval(&a, &b, alpha).filter(|_| is_positive);
        Ok(json!({
            "status": status(test.map(|test| test.p_value)),
            "statistic": test.map(|test| test.statistic),
            "df": test.map(|test| test.df),
            "p_value": test.map(|test| test.p_value),
            "p_violated": test.map(|test| test.p_violated),
            "verdict": verdict.as_str(),
            "lift": lift.filter(|lift| lift.is_finite()),
            "lift_ci": interval(lift_ci),
        }))
    },
};

const DIRECTIONS: [(&str, Better); 2] = [("increase", Better::More), ("decrease", Better::Less)];

pub(super) const COHENS_D: Family = Family {
    name: "cohens_d",
    summary: "difference of two means in standard deviations: Cohen's d and Hedges' g",
    example: r#"{"a": {"n": 30, "mean": 1.0, "var": 4.0}, "b": {"n": 30, "mean": 2.0, "var": 4.0}}"#,
    compute: |input| {
        let fields = Fields::new(input, &["a", "b"])?;
        let effect = effect_size(&fields.summary("a")?, &fields.summary("b")?);
        Ok(json!({
            "status": status(effect.cohens_d),
            "pooled_sd": effect.pooled_sd,
            "cohens_d": effect.cohens_d,
            "hedges_g": effect.hedges_g,
            "hedges_g_exact": effect.hedges_g_exact,
        }))
    },
};

pub(super) const CUPED: Family = Family {
    name: "cuped",
    summary: "difference of two means after taking off what a covariate from before the exposure explains",
    example: r#"{"a": {"n": 1000, "mean_y": 5.0, "var_y": 4.0, "mean_x": 2.0, "var_x": 4.0, "cov_xy": 3.0}, "b": {"n": 1000, "mean_y": 5.2, "var_y": 4.0, "mean_x": 2.0, "var_x": 4.0, "cov_xy": 3.0}, "alphas": [0.05]}"#,
    compute: |input| {
        let fields = Fields::new(input, &["a", "b", "alphas"])?;
        let adjusted = cuped(&covariate(&fields, "a")?, &covariate(&fields, "b")?);
        let alphas = fields.alphas()?;
        let [mean_a, mean_b] = adjusted.adjusted_means;
        let [var_a, var_b] = adjusted.adjusted_variances;
        let output = welch_output(&adjusted.test, &alphas);
        Ok(with(
            output,
            json!({
                "theta": adjusted.theta,
                "adjusted_mean_a": mean_a,
                "adjusted_var_a": var_a,
                "adjusted_mean_b": mean_b,
                "adjusted_var_b": var_b,
                "relative": adjusted.test.p_value.map(|_| relative(&adjusted.test, &alphas)),
            }),
        ))
    },
};

fn covariate(fields: &Fields<'_>, name: &str) -> Result<CovariateSummary, CalcError> {
    let known = ["n", "mean_y", "var_y", "mean_x", "var_x", "cov_xy"];
    let arm = fields.object(name, &known)?;
    let metric = arm.summary_of("n", "mean_y", "var_y")?;
    let covariate = arm.summary_of("n", "mean_x", "var_x")?;
    let covariance = match metric.n() {
        1 => arm.optional("cov_xy")?,
        _ => Some(arm.number("cov_xy")?),
    };
    arm.check(CovariateSummary::new(metric, covariate, covariance))
}

pub(super) const RATIO: Family = Family {
    name: "ratio_metric",
    summary: "difference of two ratios of totals, such as clicks per session, by the delta method",
    example: r#"{"a": {"n": 3, "sum_m": 9, "sum_d": 12, "sum_mm": 35, "sum_dd": 56, "sum_md": 43}, "b": {"n": 3, "sum_m": 12, "sum_d": 12, "sum_mm": 56, "sum_dd": 50, "sum_md": 50}, "alphas": [0.05]}"#,
    compute: |input| {
        let fields = Fields::new(input, &["a", "b", "alphas"])?;
        let (a, b) = (sums(&fields, "a")?, sums(&fields, "b")?);
        let found = fields.check(ratio_test(&a, &b))?;
        let alphas = fields.alphas()?;
        let [ratio_a, ratio_b] = found.ratios;
        let [variance_a, variance_b] = found.unit_variances;
        let ratios = json!({
            "ratio_a": ratio_a,
            "unit_variance_a": variance_a,
            "ratio_b": ratio_b,
            "unit_variance_b": variance_b,
        });
        let Some(test) = found.test else {
            let nothing = json!({
                "status": "undefined", "diff": null, "se": null, "t": null, "df": null,
                "p_value": null, "ci": null, "relative": null,
            });
            return Ok(with(nothing, ratios));
        };
        let relative = test.p_value.map(|_| relative(&test, &alphas));
        let output = with(welch_output(&test, &alphas), ratios);
        Ok(with(output, json!({ "relative": relative })))
    },
};

fn sums(fields: &Fields<'_>, name: &str) -> Result<RatioSums, CalcError> {
    let known = ["n", "sum_m", "sum_d", "sum_mm", "sum_dd", "sum_md"];
    let arm = fields.object(name, &known)?;
    Ok(RatioSums {
        n: arm.count("n")?,
        m: arm.number("sum_m")?,
        d: arm.number("sum_d")?,
        mm: arm.number("sum_mm")?,
        dd: arm.number("sum_dd")?,
        md: arm.number("sum_md")?,
    })
}

pub(super) const ANOVA: Family = Family {
    name: "anova_2x2",
    summary: "two factors with two levels each and their interaction: analysis of variance, types II and III",
    example: r#"{"cells": [{"a": 0, "b": 0, "n": 50, "mean": 1.0, "var": 1.0}, {"a": 0, "b": 1, "n": 50, "mean": 1.2, "var": 1.1}, {"a": 1, "b": 0, "n": 50, "mean": 1.1, "var": 0.9}, {"a": 1, "b": 1, "n": 50, "mean": 1.9, "var": 1.0}]}"#,
    compute: |input| {
        let fields = Fields::new(input, &["cells"])?;
        let Some(anova) = fields.check(anova_2x2(&cells(&fields)?))? else {
            return Ok(
                json!({"status": "undefined", "type2": null, "type3": null, "residual": null}),
            );
        };
        Ok(json!({
            "status": status(anova.type3.interaction.p_value),
            "type2": effects(&anova.type2),
            "type3": effects(&anova.type3),
            "residual": {
                "ss": anova.residual_sum_of_squares,
                "df": anova.residual_df,
                "ms": anova.residual_mean_square,
            },
        }))
    },
};

/// The cells in the order 00, 01, 10, 11.
fn cells(fields: &Fields<'_>) -> Result<[Cell; 4], CalcError> {
    let known = ["a", "b", "n", "mean", "var", "values"];
    let mut found = [None; 4];
    for (index, given) in fields.objects("cells", &known)?.iter().enumerate() {
        let place = format!("cells[{index}]");
        let (a, b) = (given.count("a")?, given.count("b")?);
        let slot = (a < 2 && b < 2).then(|| &mut found[(2 * a + b) as usize]);
        match slot {
            Some(slot) if slot.is_none() => *slot = Some(cell(given)?),
            Some(_) => return Err(fields.fault(&place, "has the levels of a cell before it")),
            None => return Err(fields.fault(&place, "has another level than 0 or 1")),
        }
    }
    match found {
        [Some(c00), Some(c01), Some(c10), Some(c11)] => Ok([c00, c01, c10, c11]),
        _ => Err(fields.fault(
            "cells",
            "must have the four cells of both levels of a and b",
        )),
    }
}

fn cell(given: &Fields<'_>) -> Result<Cell, CalcError> {
    if !given.has("n") && given.has("values") {
        let moments: Moments = given.numbers("values")?.into_iter().collect();
        return Ok(Cell {
            n: moments.n(),
            mean: moments.mean().unwrap_or_default(),
            variance: moments.variance().unwrap_or_default(),
        });
    }
    let n = given.count("n")?;
    Ok(match n {
        0 => Cell {
            n,
            mean: 0.0,
            variance: 0.0,
        },
        1 => Cell {
            n,
            mean: given.number("mean")?,
            variance: 0.0,
        },
        _ => Cell {
            n,
            mean: given.number("mean")?,
            variance: given.number("var")?,
        },
    })
}

fn effects(effects: &Effects) -> Value {
    let test = |test: &FactorTest| json!({"ss": test.sum_of_squares, "df": 1, "F": test.f, "p_value": test.p_value});
    json!({
        "factor_a": test(&effects.factor_a),
        "factor_b": test(&effects.factor_b),
        "interaction": test(&effects.interaction),
    })
}

pub(super) const TYPES: [(&str, DifferenceType); 2] = [
    ("absolute", DifferenceType::Absolute),
    ("relative", DifferenceType::Relative),
];

pub(super) const BAYES_MEAN: Family = Family {
    name: "bayesian_normal",
    summary: "difference of two means as a normal posterior: chance to win and expected loss",
    example: r#"{"a": {"n": 1000, "mean": 10.0, "var": 25.0}, "b": {"n": 1000, "mean": 10.6, "var": 26.0}, "difference_type": "absolute", "alpha": 0.05, "prior": null}"#,
    compute: |input| {
        let fields = Fields::new(input, &["a", "b", "difference_type", "alpha", "prior"])?;
        let (a, b) = (fields.summary("a")?, fields.summary("b")?);
        let difference_type = fields.word("difference_type", &TYPES)?;
        let prior = prior(&fields)?;
        let alpha = fields.alpha()?;
        let posterior = fields.check(normal_posterior(&a, &b, difference_type, prior.as_ref()))?;
        let choice = posterior.map(|posterior| posterior.choice());
        Ok(json!({
            "status": status(posterior.map(|posterior| posterior.mean)),
            "posterior_mean": posterior.map(|posterior| posterior.mean),
            "posterior_sd": posterior.map(|posterior| posterior.variance.sqrt()),
            "chance_to_win": choice.map(|choice| choice.chance_to_win),
            "ci": interval(posterior.and_then(|choice| choice.interval(alpha))),
            "expected_loss_choose_b": choice.map(|choice| choice.expected_loss_choose_b),
            "expected_loss_choose_a": choice.map(|choice| choice.expected_loss_choose_a),
        }))
    },
};

fn prior(fields: &Fields<'_>) -> Result<Option<NormalPrior>, CalcError> {
    if !fields.has("prior") {
        return Ok(None);
    }
    let given = fields.object("prior", &["mean", "variance", "type"])?;
    let prior = NormalPrior {
        mean: given.number("mean")?,
        variance: given.number("variance")?,
        of: given.word("type", &TYPES)?,
    };
    if prior.variance <= 0.0 {
        return Err(given.fault("variance", "must be positive"));
    }
    Ok(Some(prior))
}
