//! `/v1/backup` and `/v1/verify`: care of the data while the server serves.

use std::io::Write;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::{App, blocking};
use crate::problem::{Answer, Problem};
use crate::stream;

/// Steps of a verification that are told.
const N_STEPS: u64 = 200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackupRequest {
    directory: String,
}

/// Makes a backup below the configured directory.
pub(crate) async fn backup(State(app): State<Arc<App>>, body: String) -> Answer<Json<Value>> {
    let request: BackupRequest = serde_json::from_str(&body).map_err(|error| {
        Problem::bad_request(format!(
            "the body is not `{{\"directory\": \"...\"}}`: {error}"
        ))
    })?;
    blocking(move || {
        let directory = backup_place(app.settings.backup_dir.as_deref(), &request.directory)?;
        Ok(Json(json!(app.care.backup(&directory, &mut |_, _| {})?)))
    })
    .await
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
pub(crate) async fn verify(State(app): State<Arc<App>>) -> Response {
    let body = stream::body(move |sender| {
        let mut told = 0;
        let report = app.care.verify(&mut |done, total| {
            let step = (done * N_STEPS).checked_div(total).unwrap_or_default();
            if step > told {
                told = step;
                // Whoever has gone away hears nothing; the verification ends soon.
                let _ = line(sender, &json!({"progress": {"done": done, "total": total}}));
            }
        });
        let last = match report {
            Ok(report) => json!({ "report": report }),
            Err(error) => json!({ "error": error.to_string() }),
        };
        line(sender, &last).map_err(|error| error.to_string())
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
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
