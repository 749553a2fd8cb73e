//! Builds the reports of cohorts: users by the day of their exposure, and by the days since it.

mod days_since;
mod exposure_day;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trialog_model::experiment::MIN_ALPHA;
use trialog_stats::holm;

use crate::{Filter, Report};

pub use self::days_since::{
    ActiveUsers, CohortMetric, CohortSums, CohortUsers, DayComparison, DaysSinceExposure,
    FollowedMetric, FollowedVariant, Novelty, cohort_metrics, cohort_until,
};
pub use self::exposure_day::{DayResults, Drift, ExposureDay, ExposureDays, last_closed_day};

const DAY_MICROS: i64 = 86_400_000_000;

/// The words for what users are told apart by.
const BY: [&str; 2] = ["exposure_day", "days_since_exposure"];

/// The results of an experiment by the day of exposure or by the days since it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cohorts {
    /// The experiment.
    pub experiment_id: String,
    /// What users are told apart by: `exposure_day` or `days_since_exposure`.
    #[schemars(extend("enum" = BY))]
    pub by: String,
    /// When the numbers of the experiment were published; null before the first run.
    #[schemars(extend("format" = "date-time"))]
    pub computed_at: Option<String>,
    /// The position in the ingested events up to which the numbers hold.
    pub position: Option<u64>,
    /// The time up to which the numbers hold: later events wait for the next run.
    #[schemars(extend("format" = "date-time"))]
    pub data_time: Option<String>,
    /// The users that cohorts are chosen from; null for all exposed users.
    pub filter: Option<Filter>,
    /// The two-sided level of tests and intervals.
    #[schemars(extend("minimum" = MIN_ALPHA, "exclusiveMaximum" = 1))]
    pub alpha: f64,
    /// The variant that the others are compared with.
    pub control: Option<String>,
    /// The scorecard of each day of exposure; null by days since the exposure.
    pub exposure_days: Option<ExposureDays>,
    /// A fixed cohort on each day since its exposure; null by day of exposure.
    pub days_since_exposure: Option<DaysSinceExposure>,
}

impl Cohorts {
    /// Builds the report of users by the day of their exposure. `whole` is the report of all
    /// users.
    pub fn by_exposure_day(whole: Report, days: ExposureDays) -> Self {
        Self {
            exposure_days: Some(days),
            ..Self::from_report(whole, BY[0])
        }
    }

    /// Builds the report of a fixed cohort by the days since its exposure. `whole` is the report
    /// of all users.
    pub fn by_days_since_exposure(whole: Report, days: DaysSinceExposure) -> Self {
        Self {
            days_since_exposure: Some(days),
            ..Self::from_report(whole, BY[1])
        }
    }

    fn from_report(whole: Report, by: &str) -> Self {
        Self {
            experiment_id: whole.experiment_id,
            by: by.to_owned(),
            computed_at: whole.computed_at,
            position: whole.position,
            data_time: whole.data_time,
            filter: whole.filter,
            alpha: whole.alpha,
            control: whole.control,
            exposure_days: None,
            days_since_exposure: None,
        }
    }
}

/// Adjusts the p-values of a family (Holm 1979). A test that is not there rejects nothing, and its
/// place stays taken.
fn adjusted(p_values: &[Option<f64>]) -> Vec<Option<f64>> {
    let all: Vec<f64> = (p_values.iter())
        .map(|p_value| p_value.unwrap_or(1.0))
        .collect();
    let adjusted = holm(&all).unwrap_or(all);
    let pairs = p_values.iter().zip(adjusted);
    pairs
        .map(|(p_value, adjusted)| p_value.map(|_| adjusted))
        .collect()
}
