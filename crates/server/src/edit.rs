//! Handles what changing requests have in common: actor, time, `If-Match`, PATCH.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use serde::Serialize;
use serde_json::{Map, Value};
use trialog_catalog::audit::{Actor, Edit};
use trialog_model::document;

use crate::app::App;
use crate::problem::{Answer, Problem};

/// The change of a request, by the [`Actor`] that the guard of access put among its extensions.
pub(crate) struct Editing(pub(crate) Edit);

impl FromRequestParts<Arc<App>> for Editing {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Answer<Self> {
        let actor = parts.extensions.get::<Actor>().cloned();
        Ok(Self(Edit {
            actor: actor.unwrap_or_else(Actor::anonymous),
            at: (app.clock)(),
            if_match: if_match(&parts.headers)?,
            confirmed: false,
        }))
    }
}

/// Returns the entity tag of the state with this number.
pub(crate) fn etag(number: i64) -> String {
    format!("\"{number}\"")
}

/// The states that `If-Match` names; all where it is absent or `*`. A tag that
/// we never gave, a weak one included, names none.
fn if_match(headers: &HeaderMap) -> Answer<Option<Vec<i64>>> {
    let mut named = None;
    for value in headers.get_all(header::IF_MATCH) {
        let text = value
            .to_str()
            .map_err(|_| Problem::bad_request("the header `If-Match` is not ASCII text"))?;
        if text.trim() == "*" {
            continue;
        }
        let numbers = text.split(',').filter_map(|tag| {
            tag.trim()
                .strip_prefix('"')?
                .strip_suffix('"')?
                .parse::<i64>()
                .ok()
        });
        named.get_or_insert_with(Vec::new).extend(numbers);
    }
    Ok(named)
}

/// Returns the fields that a body changes.
pub(crate) fn patch(body: &[u8]) -> Answer<Map<String, Value>> {
    let fields = document::value(body).and_then(document::from_value);
    fields.map_err(Problem::unreadable)
}

/// Removes `"confirm": true` from a body: it allows a change after the start.
pub(crate) fn take_confirmation(edit: &mut Edit, fields: &mut Map<String, Value>) -> Answer<()> {
    edit.confirmed = match fields.remove("confirm") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(confirm)) => confirm,
        Some(_) => return Err(Problem::bad_field("confirm", "is neither true nor false")),
    };
    Ok(())
}

/// Returns `known` with the fields of `patch`. A null removes a field.
pub(crate) fn merged(known: &impl Serialize, patch: Map<String, Value>) -> Answer<Value> {
    let mut merged =
        serde_json::to_value(known).map_err(|error| Problem::internal(error.to_string()))?;
    if let Value::Object(fields) = &mut merged {
        for (field, value) in patch {
            if value.is_null() && fields.contains_key(&field) {
                fields.remove(&field);
            } else {
                fields.insert(field, value);
            }
        }
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_match_names_the_states_whose_tags_we_gave() {
        let named = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_MATCH, text.parse().unwrap());
            if_match(&headers).unwrap()
        };
        assert_eq!(if_match(&HeaderMap::new()).unwrap(), None);
        assert_eq!(named("*"), None);
        assert_eq!(named(r#""3", "5""#), Some(vec![3, 5]));
        assert_eq!(named(r#"W/"3""#), Some(vec![]));
        assert_eq!(named("nonsense"), Some(vec![]));
    }
}
