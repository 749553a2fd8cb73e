//! The routes that maintain the data while the server serves: backup, verification, erasure, retention.

use std::io::Write;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use trialog_model::document;
use trialog_model::event::MAX_USER_ID_BYTES;
use trialog_model::ids::ExperimentId;
use trialog_model::user_id::user_id_from_text;
use trialog_pipeline::maintenance::retention::Mode;

use crate::app::App;
use crate::pools;
use crate::problem::{Answer, Problem};
use crate::query::pairs;
use crate::stream;
use crate::work::Flag;
use trialog_catalog::audit::Actor;

/// Erasures that are shown.
const N_ERASURES: u32 = 1_000;
/// Steps of a verification that are told.
const N_STEPS: u64 = 200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackupRequest {
    directory: String,
}

/// Makes a backup below the configured directory.
pub(crate) async fn backup(State(app): State<Arc<App>>, body: String) -> Answer<Json<Value>> {
    let request: BackupRequest =
        document::from_slice(body.as_bytes()).map_err(Problem::unreadable)?;
    let own = Arc::clone(&app);
    let backup = move |flag: &Flag| {
        let directory = backup_place(own.settings.backup_dir.as_deref(), &request.directory)?;
        let report = own
            .maintenance
            .backup_until(flag, &directory, &mut |_, _| {})?;
        Ok(Json(json!(report)))
    };
    app.pools.maintenance.run(backup).await
}

/// Where a backup goes: nowhere but below the configured directory, so that
/// nobody can have files written over the rest of the machine.
fn backup_place(root: Option<&Path>, given: &str) -> Answer<PathBuf> {
    let Some(root) = root else {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "this server has no directory for backups: give it one with `backup_dir`",
        ));
    };
    let refused = || {
        Problem::bad_field(
            "directory",
            &format!(
                "`{given}` does not lie below the server's directory for backups: give a path below `{}`, or change the server's `backup_dir`",
                root.display()
            ),
        )
    };
    let place = root.join(given);
    let is_plain = |component| !matches!(component, Component::ParentDir);
    if !place.components().all(is_plain) {
        return Err(refused());
    }
    let below = place.strip_prefix(root).map_err(|_| refused())?;
    match below.as_os_str().is_empty() {
        true => Err(refused()),
        false => Ok(place),
    }
}

/// Verifies the data; one line of JSON for each step, the report as the last.
/// It ends soon after its client has gone away.
pub(crate) async fn verify(State(app): State<Arc<App>>) -> Answer<Response> {
    let turn = app.pools.verify.turn().await?;
    let body = stream::body(turn, move |sender, flag| {
        let mut told = 0;
        let report = app.maintenance.verify_until(flag, &mut |done, total| {
            let step = (done * N_STEPS).checked_div(total).unwrap_or_default();
            if step > told {
                told = step;
                // Whoever has gone away hears nothing: the flag is set then.
                let _ = line(sender, &json!({"progress": {"done": done, "total": total}}));
            }
        });
        let last = match report {
            Ok(report) => json!({ "report": report }),
            Err(error) => json!({ "error": error.to_string() }),
        };
        line(sender, &last).map_err(|error| error.to_string())
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// Removes every event of a user; the user id is text as in an event.
pub(crate) async fn forget(
    State(app): State<Arc<App>>,
    path: Result<axum::extract::Path<String>, PathRejection>,
    Extension(actor): Extension<Actor>,
    RawQuery(query): RawQuery,
) -> Answer<Json<Value>> {
    let axum::extract::Path(user) =
        path.map_err(|error| Problem::bad_request(error.body_text()))?;
    if user.len() > MAX_USER_ID_BYTES {
        return Err(Problem::bad_field("user", "is longer than any user id"));
    }
    let mut experiment = None;
    for (name, value) in pairs(query.as_deref().unwrap_or_default())? {
        if name != "experiment" {
            let reason = "is no parameter here: use experiment";
            return Err(Problem::bad_field(&name, reason));
        }
        let id = ExperimentId::new(value);
        experiment =
            Some(id.map_err(|error| Problem::bad_field("experiment", &error.to_string()))?);
    }
    let own = Arc::clone(&app);
    // What an erasure has begun it brings to its end, whoever waits for it.
    let forget = move |_: &Flag| {
        let user = user_id_from_text(user.trim());
        let report = own
            .maintenance
            .forget(user, experiment.as_ref(), actor.as_str())?;
        Ok(Json(json!(report)))
    };
    app.pools.maintenance.finish(forget).await
}

/// The audit of erasures; with `user`, those of this user.
pub(crate) async fn erasures(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Answer<Json<Value>> {
    let mut user = None;
    for (name, value) in pairs(query.as_deref().unwrap_or_default())? {
        match name.as_str() {
            "user" if value.len() <= MAX_USER_ID_BYTES => {
                user = Some(user_id_from_text(value.trim()));
            }
            "user" => return Err(Problem::bad_field("user", "is longer than any user id")),
            other => return Err(Problem::bad_field(other, "is no parameter here: use user")),
        }
    }
    let erasures = pools::query(&app, move |app| {
        Ok(app.catalog.erasures(user, N_ERASURES)?)
    })
    .await?;
    Ok(Json(json!({ "erasures": erasures })))
}

/// Drops old events now, or says which would go.
pub(crate) async fn retain(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Answer<Json<Value>> {
    let mut mode = Mode::Apply;
    for (name, value) in pairs(query.as_deref().unwrap_or_default())? {
        mode = match (name.as_str(), value.as_str()) {
            ("dry_run", "true") => Mode::DryRun,
            ("confirm", "true") if mode == Mode::Apply => Mode::Confirmed,
            ("dry_run" | "confirm", "false") => mode,
            ("confirm", "true") => mode,
            (name @ ("dry_run" | "confirm"), _) => {
                return Err(Problem::bad_field(name, "is neither true nor false"));
            }
            (other, _) => {
                return Err(Problem::bad_field(
                    other,
                    "is no parameter here: use dry_run or confirm",
                ));
            }
        };
    }
    let own = Arc::clone(&app);
    let retain = move |_: &Flag| Ok(Json(json!(own.maintenance.retain(mode)?)));
    app.pools.maintenance.finish(retain).await
}

fn line(sender: &mut stream::Sender, value: &Value) -> std::io::Result<()> {
    writeln!(sender, "{value}")?;
    sender.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_goes_nowhere_but_below_its_directory() {
        let root = Path::new("/srv/backups");
        for good in ["nightly", "a/b", "/srv/backups/x"] {
            let place = backup_place(Some(root), good).unwrap();
            assert!(place.starts_with(root), "{good}");
        }
        for bad in [
            "",
            ".",
            "/srv/backups",
            "/etc/x",
            "../x",
            "a/../../x",
            "/srv/backups/../x",
        ] {
            assert!(backup_place(Some(root), bad).is_err(), "{bad}");
        }
        assert!(backup_place(None, "x").is_err());
    }
}
