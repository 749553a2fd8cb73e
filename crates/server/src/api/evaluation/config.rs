//! `GET /v1/sdk/config`: what SDKs decide by.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::{has_tag, ruleset};
use crate::answers::Shared;
use crate::app::App;
use crate::problem::Answer;

pub(crate) async fn config(State(app): State<Arc<App>>, headers: HeaderMap) -> Answer<Response> {
    let prepared = ruleset(&app).await?;
    let tag = [(header::ETAG, format!("\"{}\"", prepared.version))];
    if has_tag(&headers, &prepared.version) {
        return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
    }
    let json = [(header::CONTENT_TYPE, "application/json")];
    Ok((tag, json, Extension(Shared), prepared.json.clone()).into_response())
}
