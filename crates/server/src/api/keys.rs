//! `/v1/keys`: create, list and revoke API keys.

use std::sync::Arc;

use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use axum::{Extension, Json};
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use trialog_catalog::audit::Actor;
use trialog_catalog::keys::{Key, Scope};
use trialog_model::text::is_hazardous;
use trialog_model::time::UnixMicros;

use super::types::Time;
use crate::access::secret;
use crate::app::App;
use crate::openapi::operation::Operation;
use crate::openapi::schema::{self, Schema};
use crate::pools;
use crate::problem::{Answer, Problem};

/// The longest name of a key.
const MAX_NAME_CHARS: usize = 64;

const PATH: &str = "/v1/keys";

pub(crate) fn operations() -> Vec<Operation> {
    let listed = Operation::new(Method::GET, PATH, "listKeys", "Lists all API keys")
        .answers::<Keys>(
            StatusCode::OK,
            "The keys, without their secrets, the oldest first.",
        );
    let example = json!({ "name": "warehouse job", "scopes": ["read"], "expires_at": "2035-01-01T00:00:00Z" });
    let created = Operation::new(Method::POST, PATH, "createKey", "Makes an API key")
        .describe("From the first key on, every request needs one. The answer is the only place where the key stands whole.")
        .body(schema::reference("WantedKey"), example)
        .answers::<NewKey>(StatusCode::CREATED, "The key.")
        .problems(&[409, 422]);
    let revoked = Operation::new(
        Method::DELETE,
        "/v1/keys/{id}",
        "revokeKey",
        "Ends an API key at once",
    )
    .segment("id", schema::text(), "0123456789ab", "The key's id.")
    .answers::<ShownKey>(
        StatusCode::OK,
        "The key; one that was revoked before stays as it was.",
    )
    .problems(&[404]);
    [listed, created, revoked]
        .map(|operation| operation.tag("keys"))
        .into()
}

pub(crate) fn schemas() -> Vec<(&'static str, Schema)> {
    let scopes = schema::list(schema::one_of(&Scope::ALL));
    let wanted = schema::object([
        schema::field("name", schema::name(MAX_NAME_CHARS), "Who will use it."),
        schema::field(
            "scopes",
            schema::with(scopes, "minItems", 1),
            "What it may do; `admin` may do all, `sdk` includes `ingest`.",
        ),
        schema::optional(
            "expires_at",
            schema::nullable(schema::time()),
            "From when on it is refused: a time to come.",
        ),
    ]);
    vec![("WantedKey", schema::closed(wanted))]
}

/// What a client says about a new key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    name: String,
    scopes: Vec<Scope>,
    expires_at: Option<String>,
}

impl Wanted {
    fn read(body: &[u8]) -> Answer<Self> {
        let mut wanted: Self = serde_json::from_slice(body).map_err(|error| {
            // The text of the body is not repeated: it could hold a secret.
            let (line, column) = (error.line(), error.column());
            Problem::bad_request(format!(
                "not a key, at line {line}, column {column}: send `name`, `scopes` (some of sdk, ingest, read, admin) and perhaps `expires_at`"
            ))
        })?;
        wanted.name = wanted.name.trim().to_owned();
        let n_chars = wanted.name.chars().count();
        let is_sound = !wanted.name.chars().any(is_hazardous);
        if !(1..=MAX_NAME_CHARS).contains(&n_chars) || !is_sound {
            let reason = format!(
                "has {n_chars} characters: give 1 to {MAX_NAME_CHARS}, none of them a control character or one that cannot be seen"
            );
            return Err(unprocessable("name", &reason));
        }
        if Actor::is_reserved(&wanted.name) {
            let reason = "is a word by which the audit trail means somebody without a key: give it the name of who will use the new one";
            return Err(unprocessable("name", reason));
        }
        if wanted.name.contains(secret::PREFIX) {
            return Err(unprocessable(
                "name",
                "looks like a key: give it the name of who will use the new one",
            ));
        }
        if wanted.scopes.is_empty() {
            return Err(unprocessable(
                "scopes",
                "is empty: give some of sdk, ingest, read, admin",
            ));
        }
        wanted.scopes.sort_unstable();
        wanted.scopes.dedup();
        Ok(wanted)
    }

    fn end(&self, now: UnixMicros) -> Answer<Option<UnixMicros>> {
        let Some(text) = &self.expires_at else {
            return Ok(None);
        };
        let end = UnixMicros::parse_rfc3339(text)
            .map_err(|error| unprocessable("expires_at", &error.to_string()))?;
        if end <= now {
            return Err(unprocessable(
                "expires_at",
                "is past: give a later time, or none",
            ));
        }
        Ok(Some(end))
    }
}

fn unprocessable(field: &str, reason: &str) -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        format!("`{field}` {reason}"),
    )
    .with("field", json!(field))
    .with("reason", json!(reason))
}

/// A key without its secret.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Key")]
pub(crate) struct ShownKey {
    /// The part of it that is no secret.
    id: String,
    /// Who uses it.
    name: String,
    /// What it may do.
    scopes: Vec<Scope>,
    /// When it was made.
    created_at: Time,
    /// Who made it.
    created_by: String,
    /// From when on it is refused; null for never.
    expires_at: Option<Time>,
    /// When it was revoked.
    revoked_at: Option<Time>,
    /// When it was used last.
    last_used_at: Option<Time>,
}

impl From<Key> for ShownKey {
    fn from(key: Key) -> Self {
        Self {
            id: key.id,
            name: key.name,
            scopes: key.scopes,
            created_at: key.created_at.into(),
            created_by: key.created_by,
            expires_at: key.expires_at.map(Time::from),
            revoked_at: key.revoked_at.map(Time::from),
            last_used_at: key.last_used_at.map(Time::from),
        }
    }
}

/// A key that was just made, with its secret.
#[derive(Serialize, JsonSchema)]
pub(crate) struct NewKey {
    #[serde(flatten)]
    shown: ShownKey,
    /// The key: keep it, it is not shown again.
    key: String,
}

/// All keys.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Keys {
    /// The keys.
    keys: Vec<ShownKey>,
}

/// Makes a key; this answer is the only place where it stands whole.
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<(StatusCode, Json<NewKey>)> {
    let body = body.map_err(|error| Problem::new(error.status(), "the body cannot be read"))?;
    let wanted = Wanted::read(&body)?;
    let now = (app.clock)();
    let expires_at = wanted.end(now)?;
    pools::change(&app, move |app| {
        let mut random = [0; secret::RANDOM_BYTES];
        (app.settings.randomness)(&mut random)
            .map_err(|error| Problem::internal(format!("no randomness for a key: {error}")))?;
        let (id, text) = secret::from_random(&random);
        let key = Key {
            id,
            name: wanted.name,
            scopes: wanted.scopes,
            secret_hash: secret::hash(&text),
            created_at: now,
            created_by: actor.to_string(),
            expires_at,
            revoked_at: None,
            last_used_at: None,
        };
        app.keyring
            .change(&app.catalog, || app.catalog.create_key(&key))?;
        tracing::info!(key.id, key.name, key.created_by, "created an API key");
        let made = NewKey {
            shown: key.into(),
            key: text,
        };
        Ok((StatusCode::CREATED, Json(made)))
    })
    .await
}

/// All keys, the oldest first, without their secrets.
pub(crate) async fn list(State(app): State<Arc<App>>) -> Json<Keys> {
    let keys = app.keyring.list().into_iter();
    Json(Keys {
        keys: keys.map(ShownKey::from).collect(),
    })
}

/// Ends a key at once; one that was revoked before stays as it was.
pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    path: Result<Path<String>, PathRejection>,
) -> Answer<Json<ShownKey>> {
    let Path(id) =
        path.map_err(|error| Problem::bad_request(format!("the path cannot be read: {error}")))?;
    let now = (app.clock)();
    pools::change(&app, move |app| {
        let key = (app.keyring).change(&app.catalog, || app.catalog.revoke_key(&id, now))?;
        tracing::info!(key.id, key.name, by = actor.as_str(), "revoked an API key");
        Ok(Json(key.into()))
    })
    .await
}
