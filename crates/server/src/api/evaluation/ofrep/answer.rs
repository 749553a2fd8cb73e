//! The answers of the OpenFeature remote evaluation protocol.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::api::evaluation::DECISIONS;

const REASONS: [&str; 5] = ["SPLIT", "STATIC", "TARGETING_MATCH", "DEFAULT", "DISABLED"];
const ERROR_CODES: [&str; 5] = [
    "PARSE_ERROR",
    "TARGETING_KEY_MISSING",
    "INVALID_CONTEXT",
    "FLAG_NOT_FOUND",
    "GENERAL",
];

/// An evaluation that was made.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Evaluation")]
pub(super) struct Success<'a> {
    /// The flag.
    pub(super) key: &'a str,
    /// Why.
    #[schemars(extend("enum" = REASONS))]
    pub(super) reason: &'a str,
    /// The variant; for a unit without one the decision. Absent for such a unit where the
    /// server is set to `omit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub(super) variant: Option<&'a str>,
    /// The variant's value, or its name; for a unit without a variant the control's. Absent
    /// where `variant` is: the code's default holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Value")]
    pub(super) value: Option<Text<'a>>,
    /// As the OpenTelemetry conventions have it.
    pub(super) metadata: Metadata<'a>,
}

/// The variant's value, or its name.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Text<'a> {
    Name(&'a str),
    Value(&'a Value),
}

impl<'a> Text<'a> {
    pub(super) fn new(variant: &'a str, value: Option<&'a Value>) -> Self {
        value.map_or(Self::Name(variant), Self::Value)
    }
}

/// What the OpenTelemetry conventions for feature flags ask for, and the decision.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub(super) struct Metadata<'a> {
    /// The unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub(super) context_id: Option<&'a str>,
    /// `trialog`.
    pub(super) flag_set_id: &'a str,
    /// Stands for the configuration.
    pub(super) version: &'a str,
    /// What became of the unit.
    #[schemars(extend("enum" = DECISIONS))]
    pub(super) decision: &'a str,
    /// The holdout that keeps the unit out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub(super) holdout: Option<&'a str>,
}

/// An evaluation that could not be made.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) details: String,
}

impl Failure {
    pub(super) fn bad(code: &'static str, details: impl Into<String>) -> Self {
        let status = StatusCode::BAD_REQUEST;
        Self {
            status,
            code,
            details: details.into(),
        }
    }

    pub(super) fn respond(self, key: Option<&str>) -> Response {
        let body = FailureBody {
            key,
            error_code: self.code,
            error_details: &self.details,
        };
        (self.status, Json(body)).into_response()
    }
}

/// A failure as it is sent.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "EvaluationFailure")]
pub(super) struct FailureBody<'a> {
    /// The flag.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    key: Option<&'a str>,
    /// What kind of failure it is.
    #[schemars(extend("enum" = ERROR_CODES))]
    error_code: &'a str,
    /// What is wrong, and how to mend it.
    error_details: &'a str,
}

/// The evaluations of every flag.
#[derive(Serialize, JsonSchema)]
pub(super) struct Evaluations<'a> {
    /// Every flag.
    flags: Vec<Success<'a>>,
    /// About all of them.
    metadata: VersionOnly<'a>,
}

/// What holds for all flags.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct VersionOnly<'a> {
    /// Stands for the configuration.
    version: &'a str,
}

impl<'a> Evaluations<'a> {
    pub(super) fn new(flags: Vec<Success<'a>>, version: &'a str) -> Self {
        let metadata = VersionOnly { version };
        Self { flags, metadata }
    }

    /// Writes the answer as JSON.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
