//! Defines the families about counts and rates.

use serde_json::{Value, json};

use super::fields::Fields;
use super::output::{intervals, status};
use super::{CalcError, Family};
use crate::{
    Alpha, BetaPosterior, Interval, Proportion, chi_squared, choose_rate, fisher_exact,
    sample_ratio_mismatch, two_proportion_z,
};

pub(super) const TWO_PROPORTION: Family = Family {
    name: "two_proportion_z",
    summary: "difference of two conversion rates: z-test, Wald, Newcombe and Wilson intervals",
    example: r#"{"a": {"conversions": 100, "n": 1000}, "b": {"conversions": 130, "n": 1000}, "alphas": [0.05]}"#,
    compute: |input| {
        let fields = Fields::new(input, &["a", "b", "alphas"])?;
        let test = two_proportion_z(&proportion(&fields, "a")?, &proportion(&fields, "b")?);
        let alphas = fields.alphas()?;
        let pair = |interval: Interval| [interval.low, interval.high];
        let wilson = alphas.iter().map(|alpha| {
            let (a, b) = (test.a.wilson(*alpha), test.b.wilson(*alpha));
            json!({"alpha": alpha.get(), "a": pair(a), "b": pair(b)})
        });
        Ok(json!({
            "status": status(test.p_value),
            "diff": test.difference,
            "rate_a": test.a.rate(),
            "rate_b": test.b.rate(),
            "rate_pooled": test.rate_pooled,
            "se_pooled": test.standard_error_pooled,
            "se_unpooled": test.standard_error_unpooled,
            "z": test.z,
            "p_value": test.p_value,
            "ci_wald": intervals(&alphas, |alpha| Some(test.wald(alpha))),
            "ci_newcombe": intervals(&alphas, |alpha| Some(test.newcombe(alpha))),
            "ci_wilson_arms": wilson.collect::<Value>(),
        }))
    },
};

fn counts(fields: &Fields<'_>, name: &str) -> Result<(u64, u64), CalcError> {
    let arm = fields.object(name, &["conversions", "n"])?;
    let (conversions, n) = (arm.count("conversions")?, arm.count("n")?);
    if conversions > n {
        return Err(arm.fault("conversions", "is more than `n`"));
    }
    Ok((conversions, n))
}

fn proportion(fields: &Fields<'_>, name: &str) -> Result<Proportion, CalcError> {
    let (conversions, n) = counts(fields, name)?;
    Proportion::new(conversions, n)
        .map_err(|error| fields.fault(&format!("{name}.n"), &format!("is 0: {error}")))
}

pub(super) const CHI_SQUARED: Family = Family {
    name: "chi2_contingency",
    summary: "a table of variants by outcomes: Pearson's chi-squared test, with Yates' correction for 2x2",
    example: r#"{"table": [[20, 80], [35, 65]]}"#,
    compute: |input| {
        let fields = Fields::new(input, &["table"])?;
        let test = fields.check(chi_squared(&fields.table("table")?))?;
        let yates = test.and_then(|test| test.yates);
        Ok(json!({
            "status": status(test.map(|test| test.p_value)),
            "chi2": test.map(|test| test.chi_squared),
            "df": test.map(|test| test.df),
            "p_value": test.map(|test| test.p_value),
            "yates": yates.map(|(chi2, p_value)| json!({"chi2": chi2, "p_value": p_value})),
        }))
    },
};

pub(super) const FISHER: Family = Family {
    name: "fisher_exact",
    summary: "a 2x2 table with few units: Fisher's exact test, two-sided and one-sided",
    example: r#"{"table": [[3, 1], [1, 3]]}"#,
    compute: |input| {
        let fields = Fields::new(input, &["table"])?;
        let rows = fields.table("table")?;
        let [Ok(first), Ok(second)] = [0, 1].map(|row| {
            let cells = rows.get(row).map(Vec::as_slice).unwrap_or_default();
            <[u64; 2]>::try_from(cells)
        }) else {
            return Err(fields.fault("table", "must have two rows of two counts"));
        };
        if rows.len() > 2 {
            return Err(fields.fault("table", "must have two rows of two counts"));
        }
        let test = fields.check(fisher_exact(&[first, second]))?;
        Ok(json!({
            "status": "ok",
            "odds_ratio": test.odds_ratio,
            "p_value": test.p_value,
            "p_less": test.p_less,
            "p_greater": test.p_greater,
        }))
    },
};

pub(super) const SRM: Family = Family {
    name: "srm_chi2",
    summary: "sample ratio mismatch: do the variants have the sizes that their weights ask for?",
    example: r#"{"counts": [4900, 5100], "weights": [0.5, 0.5]}"#,
    compute: |input| {
        let fields = Fields::new(input, &["counts", "weights"])?;
        let (counts, weights) = (fields.counts("counts")?, fields.numbers("weights")?);
        let srm = fields.check(sample_ratio_mismatch(&counts, &weights))?;
        Ok(json!({
            "status": status(srm.p_value),
            "chi2": srm.chi_squared,
            "df": srm.df,
            "p_value": srm.p_value,
            "expected_counts": srm.expected_counts,
        }))
    },
};

pub(super) const BAYES_RATE: Family = Family {
    name: "bayesian_beta_binomial",
    summary: "two conversion rates as Beta posteriors: chance to win and expected loss",
    example: r#"{"a": {"conversions": 100, "n": 1000}, "b": {"conversions": 130, "n": 1000}, "prior_alpha": 1, "prior_beta": 1}"#,
    compute: |input| {
        let fields = Fields::new(input, &["a", "b", "prior_alpha", "prior_beta"])?;
        let shape = |name: &str| -> Result<f64, CalcError> {
            let shape = fields.optional(name)?.unwrap_or(1.0);
            match BetaPosterior::new(shape, 1.0) {
                Ok(_) => Ok(shape),
                Err(error) => Err(fields.fault(name, &format!("cannot be used: {error}"))),
            }
        };
        let prior = fields.check(BetaPosterior::new(
            shape("prior_alpha")?,
            shape("prior_beta")?,
        ))?;
        let posterior = |name: &str| -> Result<BetaPosterior, CalcError> {
            let (conversions, n) = counts(&fields, name)?;
            fields.check(prior.update(conversions, n))
        };
        let (a, b) = (posterior("a")?, posterior("b")?);
        let choice = choose_rate(&a, &b);
        Ok(json!({
            "status": "ok",
            "posterior_a": shown(&a),
            "posterior_b": shown(&b),
            "prob_b_beats_a": choice.chance_to_win,
            "expected_loss_choose_b": choice.expected_loss_choose_b,
            "expected_loss_choose_a": choice.expected_loss_choose_a,
        }))
    },
};

fn shown(posterior: &BetaPosterior) -> Value {
    let Interval { low, high } = posterior.interval(Alpha::P05);
    json!({
        "alpha": posterior.alpha(),
        "beta": posterior.beta(),
        "mean": posterior.mean(),
        "ci95": [low, high],
    })
}
