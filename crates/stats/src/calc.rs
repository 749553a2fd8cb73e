//! Computes every family with JSON as input and output, for `trialog calc` and `POST
//! /v1/calc/{family}`.
//!
//! Field names are those of the reference vectors. A value that does not exist for
//! its input is `null`, and `status` is then `undefined`; numbers are finite. An
//! input that cannot be computed from is a [`CalcError`] with the field and the
//! reason.

mod cost;
mod fields;
mod funnels;
mod holdouts;
mod interactions;
mod interleaving;
mod means;
mod multiple;
mod output;
mod over_time;
mod planning;
mod rates;
mod samples;
mod segments;
mod sequential;

use serde_json::Value;

pub use cost::cost_micros;
pub use fields::Fields;

/// A family of statistics.
///
/// ```
/// let family = &trialog_stats::calc::FAMILIES[0];
/// assert_eq!(family.name, "welch_t");
/// ```
pub struct Family {
    /// The name of the family.
    pub name: &'static str,
    /// The question that the family answers, in a line.
    pub summary: &'static str,
    /// An example of an input, as JSON.
    pub example: &'static str,
    compute: fn(&Value) -> Result<Value, CalcError>,
}

impl Family {
    /// Describes a family that another crate computes.
    ///
    /// ```
    /// use trialog_stats::calc::Family;
    /// let echo = Family::new("echo", "what was said", "{}", |input| Ok(input.clone()));
    /// assert_eq!(echo.name, "echo");
    /// ```
    #[must_use]
    pub const fn new(
        name: &'static str,
        summary: &'static str,
        example: &'static str,
        compute: fn(&Value) -> Result<Value, CalcError>,
    ) -> Self {
        Self {
            name,
            summary,
            example,
            compute,
        }
    }

    /// Computes `input`.
    ///
    /// # Errors
    ///
    /// [`CalcError::Field`] for an input that the family cannot be computed from.
    ///
    /// ```
    /// let family = &trialog_stats::calc::FAMILIES[0];
    /// let input = serde_json::from_str(family.example).unwrap();
    /// assert_eq!(family.compute(&input)?["status"], "ok");
    /// # Ok::<(), trialog_stats::calc::CalcError>(())
    /// ```
    pub fn compute(&self, input: &Value) -> Result<Value, CalcError> {
        (self.compute)(input)
    }
}

/// The reason why an input has no answer.
///
/// ```
/// use trialog_stats::calc::{CalcError, calc};
/// let error = calc("srm_chi2", &serde_json::json!({"counts": [1, 2]}));
/// assert!(matches!(error, Err(CalcError::Field { field, .. }) if field == "weights"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CalcError {
    /// There is no such family.
    #[error("there is no family `{0}`")]
    Family(String),
    /// A field is missing, unknown, or has a value that it cannot have.
    #[error("`{field}` {reason}")]
    Field {
        /// The field, with the way to it, such as `a.var` or `p_values[3]`.
        field: String,
        /// What is wrong, and what it has to be.
        reason: String,
    },
}

/// Every family, in the order of the documentation.
pub const FAMILIES: [Family; 32] = [
    means::WELCH,
    means::COHENS_D,
    means::NON_INFERIORITY,
    rates::TWO_PROPORTION,
    rates::CHI_SQUARED,
    rates::FISHER,
    rates::SRM,
    sequential::SRM,
    multiple::MULTIPLE_COMPARISONS,
    planning::POWER,
    sequential::MSPRT,
    sequential::CONFIDENCE_SEQUENCE,
    sequential::GUARDED,
    sequential::SPRT,
    sequential::GROUP,
    means::CUPED,
    means::RATIO,
    means::ANOVA,
    over_time::NOVELTY,
    over_time::STABILITY,
    segments::HETEROGENEITY,
    interactions::INTERACTION,
    holdouts::ACCOUNTING,
    samples::WINSORIZE,
    samples::QUANTILE,
    rates::BAYES_RATE,
    means::BAYES_MEAN,
    samples::MOMENTS,
    funnels::MATCH,
    funnels::FUNNEL,
    funnels::TIME_TO_STEP,
    interleaving::PREFERENCE,
];

/// Computes `input` by the family called `name`.
///
/// # Errors
///
/// [`CalcError::Family`] for a name that no family has; [`CalcError::Field`] for an
/// input that it cannot be computed from.
///
/// ```
/// use serde_json::json;
/// let input = json!({"counts": [4900, 5100], "weights": [0.5, 0.5]});
/// let srm = trialog_stats::calc::calc("srm_chi2", &input)?;
/// assert_eq!(srm["chi2"], 4.0);
/// # Ok::<(), trialog_stats::calc::CalcError>(())
/// ```
pub fn calc(name: &str, input: &Value) -> Result<Value, CalcError> {
    let Some(family) = FAMILIES.iter().find(|family| family.name == name) else {
        return Err(CalcError::Family(name.to_owned()));
    };
    family.compute(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_computes_and_says_what_it_is_for() {
        for family in &FAMILIES {
            let input: Value = serde_json::from_str(family.example).unwrap();
            let answer = calc(family.name, &input).unwrap();
            assert_eq!(answer["status"], "ok", "{}: {answer}", family.name);
            assert!(family.summary.len() > 20 && !family.summary.contains('\n'));
        }
    }

    #[test]
    fn a_family_that_does_not_exist_is_refused() {
        let error = calc("welch", &Value::Null).unwrap_err().to_string();
        assert_eq!(error, "there is no family `welch`");
    }

    #[test]
    fn errors_name_the_field_and_the_way_to_it() {
        let error = |family: &str, input: &str| {
            let input = serde_json::from_str(input).unwrap();
            calc(family, &input).unwrap_err().to_string()
        };
        let arms = r#""b": {"n": 10, "mean": 1, "var": 1}"#;
        let message = |a: &str| error("welch_t", &format!(r#"{{"a": {a}, {arms}}}"#));
        assert!(message(r#"{"n": 10, "mean": 1, "var": -1}"#).starts_with("`a.var` "));
        assert!(message(r#"{"n": 10, "mean": "1", "var": 1}"#).starts_with("`a.mean` "));
        assert!(message(r#"{"n": 10, "mean": 1}"#).starts_with("`a.var` is missing"));
        assert!(message(r#"{"n": 10, "mean": 1, "variance": 1}"#).starts_with("`a.variance` "));
        assert!(message("3").starts_with("`a` "));
        assert!(message(r#"{"n": 0, "mean": 1, "var": 1}"#).starts_with("`a` "));
        let p_values = error("multiple_comparisons", r#"{"p_values": [0.1, 1.5]}"#);
        assert!(p_values.starts_with("`p_values[1]` "), "{p_values}");
        let weights = error("srm_chi2", r#"{"counts": [1, 2], "weights": [0, 0]}"#);
        assert!(weights.starts_with("`weights` "), "{weights}");
    }
}
