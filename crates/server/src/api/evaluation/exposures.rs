//! Exposures that the server logs for a client.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::json;
use trialog_model::assignment::{Context, Decision, Rules, Ruleset};
use trialog_model::event::{EventKind, RawEvent, RawField};
use trialog_model::time::UnixMicros;
use trialog_pipeline::ingest::Judged;

use crate::api::events::{keep, refused};
use crate::app::App;
use crate::problem::{Answer, Problem};

/// Who is evaluated.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) unit: &'a str,
    pub(super) context: &'a Context,
}

/// Logs what the evaluations let `subject` see; once it returns, that is durable. Whether there
/// was anything.
///
/// # Errors
///
/// An exposure breaks a rule of events, or cannot be written.
pub(super) async fn log(
    app: &Arc<App>,
    ruleset: &Ruleset,
    subject: Subject<'_>,
    evaluations: &[(&Rules, Decision<'_>)],
) -> Answer<bool> {
    let now = (app.clock)();
    let judged = judge(app, ruleset, subject, evaluations, now)?;
    let is_any = !judged.batch.is_empty();
    keep(app, judged, now).await?;
    Ok(is_any)
}

/// The exposures that [`log`] keeps: of each experiment and each holdout one, however many of
/// the evaluations it is part of.
///
/// # Errors
///
/// An exposure breaks a rule of events.
pub(super) fn judge(
    app: &App,
    ruleset: &Ruleset,
    subject: Subject<'_>,
    evaluations: &[(&Rules, Decision<'_>)],
    now: UnixMicros,
) -> Answer<Judged> {
    let context = serde_json::to_string(subject.context).unwrap_or_default();
    let mut seen = HashSet::new();
    let exposures = (evaluations.iter())
        .flat_map(|(rules, decision)| ruleset.exposures(rules, subject.unit, *decision))
        .filter(|exposure| seen.insert(exposure.experiment_id.as_str()));
    let events = exposures.map(|exposure| RawEvent {
        experiment_id: RawField::Text(exposure.experiment_id.as_str().into()),
        name: RawField::Text(exposure.variant.as_str().into()),
        value: RawField::Bool(exposure.forced),
        context: RawField::Object(Cow::Borrowed(&context)),
        ..blank(subject.unit, now)
    });
    let events = events.map(|event| (0, event));
    let judged = (app.ingest.judge_made(EventKind::Assignment, events, now))
        .map_err(|error| refused(&error))?;
    let Some(first) = judged.rejected.listed.first() else {
        return Ok(judged);
    };
    let detail = format!(
        "the exposure was not logged: `{}` {}",
        first.field, first.reason
    );
    Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
        .with("field", json!(first.field))
        .with("reason", json!(first.reason)))
}

/// An event of `unit` at `now` that says nothing yet.
pub(super) fn blank(unit: &str, now: UnixMicros) -> RawEvent<'_> {
    RawEvent {
        user_id: RawField::Text(unit.into()),
        experiment_id: RawField::Absent,
        name: RawField::Absent,
        timestamp: RawField::Time(now),
        value: RawField::Absent,
        event_id: RawField::Absent,
        event_fingerprint: RawField::Absent,
        context: RawField::Absent,
    }
}
