//! `POST /v1/backup`: a backup while the server serves.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use trialog_model::document;
use trialog_pipeline::maintenance::backup::BackupReport;

use crate::app::App;
use crate::openapi::operation::Operation;
use crate::openapi::schema;
use crate::problem::{Answer, Problem};
use crate::work::Flag;

pub(super) fn operation() -> Operation {
    let request = schema::object([schema::field(
        "directory",
        schema::text(),
        "Where to, below the server's directory for backups.",
    )]);
    let path = "/v1/backup";
    Operation::new(
        Method::POST,
        path,
        "makeBackup",
        "Makes a backup while serving",
    )
    .tag("maintenance")
    .body(schema::closed(request), json!({ "directory": "nightly" }))
    .answers::<BackupReport>(StatusCode::OK, "It is made.")
    .problems(&[409])
}

/// What the body says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackupRequest {
    directory: String,
}

/// Makes a backup below the configured directory.
pub(crate) async fn backup(
    State(app): State<Arc<App>>,
    body: String,
) -> Answer<Json<BackupReport>> {
    let request: BackupRequest =
        document::from_slice(body.as_bytes()).map_err(Problem::unreadable)?;
    let (root, maintenance) = (
        app.settings.backup_dir.clone(),
        Arc::clone(&app.maintenance),
    );
    let backup = move |flag: &Flag| {
        let directory = backup_place(root.as_deref(), &request.directory)?;
        let report = maintenance.backup_until(flag, &directory, &mut |_, _| {})?;
        Ok(Json(report))
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
