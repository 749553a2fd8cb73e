//! Builds problem documents (RFC 9457): what happened, where, and how to fix it.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use trialog_catalog::CatalogError;
use trialog_catalog::audit::Subject;
use trialog_model::document::DocumentError;
use trialog_model::event::FieldError;
use trialog_model::experiment::Status;
use trialog_pipeline::PipelineError;
use trialog_pipeline::maintenance::MaintenanceError;

use trialog_model::percent;

/// An error that is about to be sent to the client.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: String,
    retry_after_s: Option<u32>,
    more: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// The members of a problem document that a response carries. The id of the request is added when
/// it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Document(pub(crate) Map<String, Value>);

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            retry_after_s: None,
            more: Map::new(),
            headers: Vec::new(),
        }
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// Builds the problem of a query parameter or field that cannot be used.
    pub(crate) fn bad_field(field: &str, reason: &str) -> Self {
        Self::bad_request(format!("`{field}` {reason}"))
            .with("field", json!(field))
            .with("reason", json!(reason))
    }

    /// Builds the problem of a field whose value could be parsed and breaks a rule about other
    /// fields.
    pub(crate) fn broken_rule(field: &str, reason: &str) -> Self {
        Self::bad_field(field, reason).with_status(StatusCode::UNPROCESSABLE_ENTITY)
    }

    pub(crate) fn busy(detail: impl Into<String>, retry_after_s: u32) -> Self {
        Self {
            retry_after_s: Some(retry_after_s),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, detail)
        }
    }

    pub(crate) fn unavailable(detail: impl Into<String>, retry_after_s: u32) -> Self {
        Self {
            retry_after_s: Some(retry_after_s),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        }
    }

    /// Builds the problem of an internal error, whose cause is logged and sent.
    pub(crate) fn internal(detail: impl Into<String>) -> Self {
        let detail = detail.into();
        tracing::error!("a request failed: {detail}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the problem with another status.
    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// Returns the problem with another detail.
    pub(crate) fn with_detail(self, detail: String) -> Self {
        Self { detail, ..self }
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// Returns the field or parameter that is wrong.
    pub(crate) fn field(&self) -> Option<&str> {
        self.more.get("field").and_then(Value::as_str)
    }

    pub(crate) fn retry_after_s(&self) -> Option<u32> {
        self.retry_after_s
    }

    /// Adds a header to the answer, beside others of its name.
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Returns the members of the document.
    pub(crate) fn document(&self) -> Map<String, Value> {
        let mut document = self.more.clone();
        let title = self.status.canonical_reason().unwrap_or_default();
        document.insert("type".into(), "about:blank".into());
        document.insert("title".into(), title.into());
        document.insert("status".into(), self.status.as_u16().into());
        document.insert("detail".into(), self.detail.as_str().into());
        document
    }

    /// Adds an extension member.
    pub(crate) fn with(mut self, member: &str, value: Value) -> Self {
        self.more.insert(member.to_owned(), value);
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = self.document();
        let mut response = (self.status, Json(&document)).into_response();
        response.extensions_mut().insert(Document(document));
        let headers = response.headers_mut();
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<FieldError> for Problem {
    fn from(error: FieldError) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("`{}` {}", error.field, error.reason),
        )
        .with("field", json!(error.field))
        .with("reason", json!(error.reason))
    }
}

/// A definition that breaks a rule.
impl From<DocumentError> for Problem {
    fn from(error: DocumentError) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()).about(&error)
    }
}

impl Problem {
    /// Builds the problem of a definition that cannot be parsed: a field is missing, unknown or of
    /// another type.
    #[expect(clippy::needless_pass_by_value, reason = "it is handed to `map_err`")]
    pub(crate) fn unreadable(error: DocumentError) -> Self {
        Self::bad_request(error.to_string()).about(&error)
    }

    fn about(self, error: &DocumentError) -> Self {
        let problem = self.with("reason", json!(error.reason));
        match error.field.as_str() {
            "" => problem,
            field => problem.with("field", json!(field)),
        }
    }
}

impl From<CatalogError> for Problem {
    fn from(error: CatalogError) -> Self {
        let status = match &error {
            CatalogError::NotFound { .. } => StatusCode::NOT_FOUND,
            CatalogError::UnknownLayer(..) => {
                return Self::new(StatusCode::UNPROCESSABLE_ENTITY, details(&error))
                    .with("field", json!("layer"));
            }
            CatalogError::LayerFull { free, n_free, .. } => {
                let free: Vec<_> = free.iter().map(|range| [range.start, range.end]).collect();
                return Self::new(StatusCode::CONFLICT, details(&error))
                    .with("field", json!("allocation"))
                    .with("free", json!(free))
                    .with("free_share", json!(f64::from(*n_free) / 10_000.0));
            }
            CatalogError::Locked { fields, .. } => {
                let fields = json!(fields);
                return Self::new(StatusCode::CONFLICT, details(&error))
                    .with("field", fields[0].clone())
                    .with("fields", fields);
            }
            CatalogError::NoVariant { .. } => {
                return Self::new(StatusCode::UNPROCESSABLE_ENTITY, details(&error))
                    .with("field", json!("ship"));
            }
            CatalogError::Exists { .. }
            | CatalogError::NothingToConfirm(_)
            | CatalogError::WrongStatus { .. }
            | CatalogError::NoResume { .. }
            | CatalogError::TooManyShipped(_)
            | CatalogError::TooManyKeys(_)
            | CatalogError::LayerInUse { .. }
            | CatalogError::HoldoutStatus { .. }
            | CatalogError::OfHoldout { .. }
            | CatalogError::MetricNamed { .. } => StatusCode::CONFLICT,
            CatalogError::Stale { .. } => StatusCode::PRECONDITION_FAILED,
            CatalogError::NotAFile { .. } => StatusCode::NOT_IMPLEMENTED,
            error if error.is_transient() => {
                return Self::unavailable(details(error), 5);
            }
            _ => return Self::internal(details(&error)),
        };
        Self::new(status, details(&error))
    }
}

/// An error of the catalog, with the route that does what it advises.
fn details(error: &CatalogError) -> String {
    match route(error) {
        Some(route) => format!("{error} ({route})"),
        None => error.to_string(),
    }
}

/// The route that does what `error` advises.
fn route(error: &CatalogError) -> Option<String> {
    let route = match error {
        CatalogError::Exists { subject, name } => {
            format!("PATCH {}/{}", collection(*subject)?, percent::encode(name))
        }
        CatalogError::NotFound {
            subject: Subject::Key,
            ..
        } => "GET /v1/keys lists them".to_owned(),
        CatalogError::UnknownLayer(..) => "POST /v1/layers".to_owned(),
        CatalogError::WrongStatus {
            status: Status::Unregistered,
            ..
        } => "POST /v1/experiments".to_owned(),
        CatalogError::Locked { experiment, .. } => {
            let id = percent::encode(experiment.as_str());
            format!("POST /v1/experiments/{id}/confirm")
        }
        CatalogError::OfHoldout { holdout, .. } => {
            format!("/v1/holdouts/{}", percent::encode(holdout))
        }
        _ => return None,
    };
    Some(route)
}

/// Where things of a kind are changed; keys are not.
fn collection(subject: Subject) -> Option<&'static str> {
    match subject {
        Subject::Experiment => Some("/v1/experiments"),
        Subject::Metric => Some("/v1/metrics"),
        Subject::Layer => Some("/v1/layers"),
        Subject::Holdout => Some("/v1/holdouts"),
        Subject::Key => None,
    }
}

impl From<PipelineError> for Problem {
    fn from(error: PipelineError) -> Self {
        match error {
            PipelineError::Catalog(error) => error.into(),
            error if error.is_stopping() => Self::unavailable(error.to_string(), 5),
            PipelineError::NotEmbedded { .. } => {
                Self::new(StatusCode::NOT_IMPLEMENTED, error.to_string())
            }
            PipelineError::Held { .. } => Self::unavailable(error.to_string(), 5),
            PipelineError::Clock(_) => Self::unavailable(error.to_string(), 30),
            error if error.is_transient() => Self::unavailable(error.to_string(), 5),
            PipelineError::EventsDropped { .. } => {
                Self::new(StatusCode::CONFLICT, error.to_string())
            }
            other => Self::internal(other.to_string()),
        }
    }
}

impl From<MaintenanceError> for Problem {
    fn from(error: MaintenanceError) -> Self {
        match error {
            MaintenanceError::Pipeline(error) => error.into(),
            MaintenanceError::Exists(_) | MaintenanceError::Unconfirmed(_) => {
                Self::new(StatusCode::CONFLICT, error.to_string())
            }
            other => Self::internal(other.to_string()),
        }
    }
}

/// The result of every handler.
pub(crate) type Answer<T> = Result<T, Problem>;
