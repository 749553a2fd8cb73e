//! Defines the families for looking more than once.

use serde_json::{Value, json};

use super::fields::Fields;
use super::means::TYPES;
use super::output::{interval, status};
use super::{CalcError, Family};
use crate::group_sequential::{Boundary, group_sequential};
use crate::{
    Alpha, DifferenceType, Estimate, GuardedVariance, Msprt, Running, SequentialSrm, Sprt, Summary,
    confidence_sequence, difference_of, msprt,
};

pub(super) const MSPRT: Family = Family {
    name: "sequential_msprt",
    summary: "difference of two means at any look: always-valid p-value and interval (mixture SPRT)",
    example: r#"{"a": {"n": 1000, "mean": 10.0, "var": 25.0}, "b": {"n": 1000, "mean": 10.6, "var": 26.0}, "tau2": 0.1, "alpha": 0.05, "theta0": 0}"#,
    compute: |input| {
        let fields = Fields::new(input, &["a", "b", "looks", "tau2", "alpha", "theta0"])?;
        let (tau2, alpha) = (fields.number("tau2")?, fields.alpha()?);
        let theta0 = fields.optional("theta0")?.unwrap_or_default();
        let test = |a: &Summary, b: &Summary| fields.check(msprt(a, b, tau2, theta0));
        if !fields.has("looks") {
            let test = test(&fields.summary("a")?, &fields.summary("b")?)?;
            let mut shown = look(&test, alpha);
            shown["status"] = json!(status(test.p_value));
            shown["diff"] = json!(test.difference);
            return Ok(shown);
        }
        let mut running = Running::default();
        let mut looks = Vec::new();
        for given in fields.objects("looks", &["a", "b"])? {
            let test = test(&given.summary("a")?, &given.summary("b")?)?;
            running.look(test.p_value, test.interval(alpha));
            let mut shown = look(&test, alpha);
            shown["p_running"] = json!(running.p_value);
            shown["ci_running"] = interval(running.interval());
            looks.push(shown);
        }
        Ok(json!({"status": if looks.is_empty() { "undefined" } else { "ok" }, "looks": looks}))
    },
};

fn look(test: &Msprt, alpha: Alpha) -> Value {
    json!({
        "variance_of_diff": test.variance_of_difference,
        "log_lambda": test.log_lambda,
        "p_value": test.p_value,
        "ci": interval(test.interval(alpha)),
        "half_width": test.half_width(alpha),
    })
}

pub(super) const CONFIDENCE_SEQUENCE: Family = Family {
    name: "sequential_asymptotic_cs",
    summary: "difference of two means at any look, absolute or relative: asymptotic confidence sequence",
    example: r#"{"a": {"n": 1000, "mean": 10.0, "var": 25.0}, "b": {"n": 1000, "mean": 10.6, "var": 26.0}, "alpha": 0.05, "tuning_parameter": 5000, "difference_type": "absolute"}"#,
    compute: |input| {
        let known = ["a", "b", "alpha", "tuning_parameter", "difference_type"];
        let fields = Fields::new(input, &known)?;
        let (a, b) = (fields.summary("a")?, fields.summary("b")?);
        let difference_type: DifferenceType = fields.word("difference_type", &TYPES)?;
        let tuning = fields.optional("tuning_parameter")?.unwrap_or(5_000.0);
        let alpha = fields.alpha()?;
        let Some(found) = difference_of(&a, &b, difference_type) else {
            return Ok(json!({
                "status": "undefined", "point_estimate": null, "rho": null,
                "half_width": null, "ci": null, "p_value": null,
            }));
        };
        let difference = Estimate {
            value: found.mean,
            variance: found.variance,
        };
        let n = a.n().saturating_add(b.n());
        let sequence = fields.check(confidence_sequence(&difference, n, alpha, tuning))?;
        Ok(json!({
            "status": status(sequence.p_value),
            "point_estimate": difference.value,
            "rho": sequence.rho,
            "half_width": sequence.half_width,
            "ci": interval(sequence.interval),
            "p_value": sequence.p_value,
        }))
    },
};

pub(super) const GUARDED: Family = Family {
    name: "always_valid_guarded",
    summary: "difference of two means at any look and any split: confidence sequence with the guarded variance",
    example: r#"{"a": {"n": 9000, "mean": 5.0, "var": 900.0}, "b": {"n": 1000, "mean": 4.0, "var": 100.0}, "alpha": 0.05, "tuning_parameter": 5000}"#,
    compute: |input| {
        let fields = Fields::new(input, &["a", "b", "alpha", "tuning_parameter"])?;
        let (a, b) = (fields.summary("a")?, fields.summary("b")?);
        let tuning = fields.optional("tuning_parameter")?.unwrap_or(5_000.0);
        let alpha = fields.alpha()?;
        let guarded = GuardedVariance::between(&a, &b);
        let difference = Estimate {
            value: b.mean() - a.mean(),
            variance: guarded.map_or(0.0, |guarded| guarded.value()),
        };
        let n = a.n().saturating_add(b.n());
        let sequence = fields.check(confidence_sequence(&difference, n, alpha, tuning))?;
        Ok(json!({
            "status": status(sequence.p_value),
            "diff": difference.value,
            "variance_own": guarded.map(|guarded| guarded.separate),
            "variance_together": guarded.map(|guarded| guarded.together),
            "variance": guarded.map(|guarded| guarded.value()),
            "half_width": sequence.half_width,
            "ci": interval(sequence.interval),
            "p_value": sequence.p_value,
            "sparse": guarded.filter(|guarded| guarded.value() > 0.0).map(|guarded| guarded.is_sparse()),
        }))
    },
};

pub(super) const SRM: Family = Family {
    name: "sequential_srm",
    summary: "sizes of arms against weights at every look: Dirichlet-multinomial e-process",
    example: r#"{"weights": [1, 1], "looks": [[90, 10], [1090, 1010]], "concentration": 1000, "level": 0.01}"#,
    compute: |input| {
        let known = ["weights", "looks", "concentration", "level"];
        let fields = Fields::new(input, &known)?;
        let weights = fields.numbers("weights")?;
        let test = match fields.optional("concentration")? {
            Some(concentration) => SequentialSrm::with_concentration(&weights, concentration),
            None => SequentialSrm::new(&weights),
        };
        let test = fields.check(test)?;
        let level = fields.optional("level")?.unwrap_or(0.01);
        if !(0.0..1.0).contains(&level) {
            return Err(fields.fault("level", "must be from 0 to 1, 1 excluded"));
        }
        let mut running = 1.0_f64;
        let mut before: Option<Vec<u64>> = None;
        let mut looks = Vec::new();
        for (index, counts) in fields.table("looks")?.into_iter().enumerate() {
            let place = format!("looks[{index}]");
            if counts.len() != weights.len() {
                return Err(fields.fault(&place, "must have a count for each weight"));
            }
            let falls = |before: &Vec<u64>| before.iter().zip(&counts).any(|(a, b)| a > b);
            if before.as_ref().is_some_and(falls) {
                return Err(fields.fault(
                    &place,
                    "has fewer than the look before: give all units up to each look",
                ));
            }
            let look = fields.check(test.look(&counts))?;
            running = running.min(look.p_value);
            looks.push(json!({
                "users": look.users,
                "log_bayes_factor": look.log_bayes_factor,
                "p_value": look.p_value,
                "p_running": running,
            }));
            before = Some(counts);
        }
        let status = if looks.is_empty() { "undefined" } else { "ok" };
        Ok(json!({"status": status, "looks": looks, "failed": running < level}))
    },
};

pub(super) const SPRT: Family = Family {
    name: "sequential_sprt_bernoulli",
    summary: "one rate, p0 against p1, unit by unit: Wald's sequential probability ratio test",
    example: r#"{"p0": 0.1, "p1": 0.2, "alpha": 0.05, "beta": 0.2, "successes": 30, "n": 100}"#,
    compute: |input| {
        let known = ["p0", "p1", "alpha", "beta", "successes", "n", "outcomes"];
        let fields = Fields::new(input, &known)?;
        let rate = |name: &str| fields.number(name);
        let test = Sprt::new(rate("p0")?, rate("p1")?, rate("alpha")?, rate("beta")?);
        let test = fields.check(test)?;
        let (slope, upper, lower) = test.lines();
        let mut shown = json!({
            "status": "ok",
            "upper_llr": test.upper_llr,
            "lower_llr": test.lower_llr,
            "llr_per_success": test.llr_per_success,
            "llr_per_failure": test.llr_per_failure,
            "line_slope": slope,
            "line_upper_intercept": upper,
            "line_lower_intercept": lower,
        });
        if fields.has("outcomes") {
            let (stopped_at, llr) = test.follow(&outcomes(&fields)?);
            shown["stopped_at"] = json!(stopped_at);
            shown["decision"] = json!(test.decide(llr).as_str());
            shown["llr_at_stop"] = json!(stopped_at.map(|_| llr));
        } else {
            let (successes, n) = (fields.count("successes")?, fields.count("n")?);
            if successes > n {
                return Err(fields.fault("successes", "is more than `n`"));
            }
            let llr = test.llr(successes, n);
            shown["llr"] = json!(llr);
            shown["decision"] = json!(test.decide(llr).as_str());
        }
        Ok(shown)
    },
};

fn outcomes(fields: &Fields<'_>) -> Result<Vec<bool>, CalcError> {
    let outcomes = fields.counts("outcomes")?.into_iter().enumerate();
    outcomes
        .map(|(index, outcome)| match outcome {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(fields.fault(&format!("outcomes[{index}]"), "is neither 0 nor 1")),
        })
        .collect()
}

pub(super) const GROUP: Family = Family {
    name: "sequential_group",
    summary: "a fixed number of planned looks: boundaries by O'Brien-Fleming or Pocock, spending or classical",
    example: r#"{"type": "spending", "boundary": "obrien_fleming", "information_fractions": [0.25, 0.5, 0.75, 1.0], "alpha": 0.05, "sides": 2}"#,
    compute: |input| {
        let known = [
            "type",
            "boundary",
            "information_fractions",
            "alpha",
            "sides",
        ];
        let fields = Fields::new(input, &known)?;
        if fields
            .optional("sides")?
            .is_some_and(|sides| (sides - 2.0).abs() > 0.0)
        {
            return Err(fields.fault("sides", "must be 2: boundaries are two-sided"));
        }
        let kind = fields.word("type", &[("spending", true), ("classical", false)])?;
        let name = fields.text("boundary")?;
        let power = name.strip_prefix("power_").and_then(|r| r.parse().ok());
        let boundary = match (kind, name) {
            (true, "obrien_fleming") => Boundary::SpendingObrienFleming,
            (true, "pocock") => Boundary::SpendingPocock,
            (false, "obrien_fleming") => Boundary::ClassicalObrienFleming,
            (false, "pocock") => Boundary::ClassicalPocock,
            (true, _) if let Some(r) = power => Boundary::SpendingPower(r),
            _ => {
                let reason = "is not known: use obrien_fleming, pocock, or for spending power_2 (t²) and the like";
                return Err(fields.fault("boundary", reason));
            }
        };
        let fractions = fields.numbers("information_fractions")?;
        let plan = fields.check(group_sequential(boundary, &fractions, fields.alpha()?))?;
        let mut shown = json!({
            "status": "ok",
            "z_boundaries": plan.z_boundaries,
            "nominal_p_two_sided": plan.nominal_p,
            "cumulative_alpha_spent": plan.cumulative_alpha_spent,
        });
        if let Some(constant) = plan.constant {
            shown["constant"] = json!(constant);
        }
        Ok(shown)
    },
};
