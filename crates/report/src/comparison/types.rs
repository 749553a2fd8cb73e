//! Defines the comparison with the control as the API returns it.
//!
//! Doc comments of fields describe them to users of the API.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The words for the tests of a comparison.
const TESTS: [&str; 6] = [
    "two_proportion_z",
    "fisher_exact",
    "welch_t",
    "ratio_metric",
    "cuped",
    "quantile_metric",
];

/// The outcome of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(rename_all = "snake_case")]
pub enum Flag {
    /// The adjusted p-value is below alpha.
    Significant,
    /// The adjusted p-value is below 0.10.
    Trending,
    /// The adjusted p-value is 0.10 or more.
    NotSignificant,
}

/// The comparison of a treatment with the control.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// The variant that is compared with the control.
    pub treatment: String,
    /// The test: `two_proportion_z`, `fisher_exact` where an arm has fewer than 5 converted or 5
    /// unconverted users, `welch_t`, `ratio_metric`, `cuped` or `quantile_metric`.
    #[schemars(extend("enum" = TESTS))]
    pub test: String,
    /// Treatment minus control, in the metric's unit.
    pub difference: Option<f64>,
    /// The interval of the difference at level `1 - alpha`, low and high.
    pub ci: Option<[f64; 2]>,
    /// The difference divided by the absolute value of the control's mean.
    pub relative_difference: Option<f64>,
    /// The interval of the relative difference.
    pub relative_ci: Option<[f64; 2]>,
    /// Why there is no interval of the relative difference; absent where there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(with = "String")]
    pub relative_ci_reason: Option<String>,
    /// The statistic, z or t; null for the exact test.
    pub statistic: Option<f64>,
    /// The degrees of freedom of t; null for z.
    pub df: Option<f64>,
    /// The two-sided p-value of this look.
    #[schemars(range(min = 0, max = 1))]
    pub p_value: Option<f64>,
    /// The p-value adjusted within its family; null for undeclared event types.
    #[schemars(range(min = 0, max = 1))]
    pub adjusted_p_value: Option<f64>,
    /// The interval of the difference at level `1 - alpha / m` for the m tests of its
    /// family, so that all of them together hold the truth with a probability of
    /// `1 - alpha`; it may include 0 where Holm's p-value is below alpha.
    #[serde(default)]
    pub adjusted_ci: Option<[f64; 2]>,
    /// The difference in pooled standard deviations.
    pub cohens_d: Option<f64>,
    /// The outcome of the test of this one look; null where there is no test or it cannot be
    /// trusted, as `flag_reason` says.
    pub flag: Option<Flag>,
    /// Why there is no flag; null where there is one.
    #[serde(default)]
    pub flag_reason: Option<String>,
    /// Whether the variance within the arms, pooled, exceeds 1.5 times that of each arm by
    /// its own: too few units of an arm have a value for tests of its mean.
    #[serde(default)]
    pub sparse: bool,
    /// Whether a significant difference goes the way that is good; null where it is not
    /// significant.
    pub desirable: Option<bool>,
    /// The verdict to act on.
    #[serde(default)]
    pub headline: Headline,
    /// The always-valid test; null without spread and for quantiles.
    #[serde(default)]
    pub sequential: Option<Sequential>,
    /// The effect that the users so far can show; null without spread.
    #[serde(default)]
    pub power: Option<Power>,
    /// Whether a guardrail is kept; null for other metrics and without a margin.
    #[serde(default)]
    pub non_inferiority: Option<NonInferiority>,
}

/// The verdict to act on, and the test that gave it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Headline {
    /// The test: `always_valid` or `fixed_horizon`; null where there is none.
    #[schemars(extend("enum" = [Some("always_valid"), Some("fixed_horizon"), None::<&str>]))]
    pub test: Option<String>,
    /// Treatment minus control at the look of the test, in the metric's unit.
    #[serde(default)]
    pub difference: Option<f64>,
    /// The difference divided by the absolute value of the control's mean.
    #[serde(default)]
    pub relative_difference: Option<f64>,
    /// The p-value adjusted within its family.
    #[schemars(range(min = 0, max = 1))]
    pub p_value: Option<f64>,
    /// The level that the test spends: with a plan, 0.2 alpha for looks at any time and 0.8
    /// alpha for the planned look; without one, alpha.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1))]
    pub alpha: Option<f64>,
    /// The interval of the difference by the same test, at one minus that level.
    pub ci: Option<[f64; 2]>,
    /// The interval of the relative difference; null where the control may be 0.
    pub relative_ci: Option<[f64; 2]>,
    /// When the planned look was published, RFC 3339; null for other tests.
    #[serde(default)]
    #[schemars(extend("format" = "date-time"))]
    pub at: Option<String>,
    /// The outcome of the test; null where there is none.
    #[schemars(
        with = "Option<String>",
        extend("enum" = [Some(Flag::Significant), Some(Flag::NotSignificant), None::<Flag>])
    )]
    pub flag: Option<Flag>,
    /// Whether a significant difference goes the way that is good; null where it is not
    /// significant, where no direction is declared, and where the look that showed it had a
    /// difference of the other sign.
    pub desirable: Option<bool>,
    /// Why this test was taken, or why there is none.
    pub reason: String,
}

/// Returns the levels that the headlines of `comparisons` spend, each once, the smallest first;
/// `otherwise` if there are none.
pub fn headline_levels<'c>(
    comparisons: impl Iterator<Item = &'c Comparison>,
    otherwise: f64,
) -> Vec<f64> {
    let mut levels: Vec<f64> = comparisons
        .filter_map(|comparison| comparison.headline.alpha)
        .collect();
    levels.sort_unstable_by(f64::total_cmp);
    levels.dedup();
    if levels.is_empty() {
        levels.push(otherwise);
    }
    levels
}

/// The always-valid test: the mixture sequential probability ratio test with the guarded
/// variance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sequential {
    /// The test: `msprt`.
    #[schemars(extend("enum" = ["msprt"]))]
    pub test: String,
    /// The smallest always-valid p-value of the looks that count.
    #[schemars(range(min = 0, max = 1))]
    pub p_value: f64,
    /// The difference at the look with that p-value, in the metric's unit.
    #[serde(default)]
    pub difference: f64,
    /// The always-valid interval of the difference at this look.
    pub ci: Option<[f64; 2]>,
    /// The interval of the relative difference; null where the control may be 0.
    #[serde(default)]
    pub relative_ci: Option<[f64; 2]>,
    /// Whether the p-value is below alpha.
    pub significant: bool,
    /// The number of published looks that count, this one included.
    pub looks: u64,
    /// When the first of these looks was published, RFC 3339; null where none was.
    #[serde(default)]
    #[schemars(extend("format" = "date-time"))]
    pub since: Option<String>,
    /// The units of both arms together at which the test is sharpest: the planned ones, else
    /// 5,000.
    pub tuning: f64,
    /// Why the test is sharpest there.
    #[serde(default)]
    pub tuning_reason: String,
    /// The variance of the mixture at this look, in the square of the metric's unit.
    pub mixing_variance: f64,
}

/// The effect that the users so far can show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Power {
    /// The power of this test: one minus the planned chance to miss the effect, else 0.2, shared
    /// among it and the guardrails that have a margin.
    #[schemars(range(min = 0, max = 1))]
    pub power: f64,
    /// The level of this test: that of the planned look, else alpha, divided by the number of
    /// tests in its family.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1))]
    pub alpha: f64,
    /// The absolute difference that the users so far show with this power.
    pub detectable_effect: f64,
    /// The planned minimum detectable effect: `plan.mde` of the first primary metric,
    /// `plan.mdes` of others; null where nothing is planned.
    pub planned_mde: Option<f64>,
    /// Users of both arms together that are still needed for the planned effect; null where
    /// none is planned.
    pub users_needed: Option<u64>,
}

/// The test whether a guardrail is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NonInferiority {
    /// How much worse the metric may be, as a fraction of the control's value.
    #[schemars(range(min = 0, max = 1))]
    pub margin: f64,
    /// The one-sided p-value of "worse by the margin or more"; null where there is no test.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1))]
    pub p_value: Option<f64>,
    /// The one-sided p-value of "not worse by more than the margin"; null where there is no
    /// test.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1))]
    pub p_violated: Option<f64>,
    /// The verdict of the linear test at alpha/2 on each side; null where no direction is
    /// declared.
    pub verdict: Option<Guardrail>,
}

/// The verdict on a guardrail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(rename_all = "snake_case")]
pub enum Guardrail {
    /// Not worse by the margin or more.
    Kept,
    /// Worse by more than the margin.
    Violated,
    /// Neither is shown, or the comparison cannot be trusted.
    Inconclusive,
}

impl From<trialog_stats::Guardrail> for Guardrail {
    fn from(verdict: trialog_stats::Guardrail) -> Self {
        match verdict {
            trialog_stats::Guardrail::Kept => Self::Kept,
            trialog_stats::Guardrail::Violated => Self::Violated,
            trialog_stats::Guardrail::Inconclusive => Self::Inconclusive,
        }
    }
}
