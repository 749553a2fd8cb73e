//! Describes the problem documents: one response for each status.

use serde_json::{Map, Value, json};

use super::schema::{
    Schema, count, field, fraction, integer, list, object, optional, reference, text, with,
};

/// The problems of every request: it cannot be read, is too large or too slow, too many requests
/// are being handled, or the server fails.
pub(crate) const OF_EVERY_REQUEST: &[u16] = &[400, 408, 413, 415, 429, 500, 503];

/// The problems of a request that needs a key.
pub(crate) const OF_ACCESS: &[u16] = &[401, 403];

/// Status, name of the response, when.
const ALL: &[(u16, &str, &str)] = &[
    (
        400,
        "BadRequest",
        "The body, the query, the path or a header cannot be read or used.",
    ),
    (
        401,
        "Unauthorized",
        "The request takes an API key, and carries none that is good.",
    ),
    (
        403,
        "Forbidden",
        "The key has not the scope that this takes, or a page of another origin asks.",
    ),
    (404, "NotFound", "There is no such thing."),
    (408, "RequestTimeout", "The body did not arrive in time."),
    (
        409,
        "Conflict",
        "It exists already, or its state does not allow the step.",
    ),
    (
        412,
        "PreconditionFailed",
        "`If-Match` does not name the present state.",
    ),
    (
        413,
        "PayloadTooLarge",
        "The body or the number of events is too large.",
    ),
    (
        415,
        "UnsupportedMediaType",
        "A Content-Encoding other than gzip, zstd or identity.",
    ),
    (422, "UnprocessableContent", "The content breaks a rule."),
    (
        429,
        "TooManyRequests",
        "Too much is in work: send it again after Retry-After seconds.",
    ),
    (
        500,
        "InternalServerError",
        "A failure of the server, such as a damaged file, which `detail` names.",
    ),
    (
        503,
        "ServiceUnavailable",
        "Not possible now, as on a full disk or while shutting down; Retry-After says when to try again.",
    ),
];

/// Returns the name of the response among the components.
pub(crate) fn name(status: u16) -> &'static str {
    ALL.iter()
        .find(|(known, ..)| *known == status)
        .map_or("Problem", |(_, name, _)| name)
}

/// Returns all responses.
pub(crate) fn responses() -> Value {
    let response = |&(status, name, description): &(u16, &str, &str)| {
        let with_status = json!({ "properties": { "status": { "const": status } } });
        let mut response = json!({
            "description": description,
            "headers": super::operation::headers(),
            "content": { "application/problem+json": {
                "schema": { "allOf": [reference("Problem"), with_status] },
            } },
        });
        if [429, 503].contains(&status) {
            response["headers"]["Retry-After"] = json!({
                "required": true,
                "schema": integer(1),
                "description": "Seconds to wait.",
            });
        }
        (name.to_owned(), response)
    };
    Value::Object(ALL.iter().map(response).collect::<Map<_, _>>())
}

/// Returns the schema of a problem document (RFC 9457).
pub(crate) fn problem() -> Schema {
    let schema = object([
        field(
            "type",
            text(),
            "Always `about:blank`: the status says what kind it is.",
        ),
        field("title", text(), "The phrase of the status."),
        field("status", integer(400), "The status of the answer."),
        field("detail", text(), "What is wrong, and how to fix it."),
        optional("field", text(), "The field or parameter that is to blame."),
        optional("reason", text(), "What is wrong with it."),
        optional(
            "request_id",
            text(),
            "The answer's `X-Request-Id`; absent where the request could not be read.",
        ),
        optional("scope", text(), "The scope that the key lacks."),
        optional("accepted", count(), "Events that were accepted: 0."),
        optional(
            "index",
            count(),
            "Which object of the body it is about, from 0.",
        ),
        optional(
            "rejected",
            list(reference("Rejection")),
            "The first 1,000 of the events that were not.",
        ),
        optional(
            "rejected_total",
            count(),
            "How many events were not accepted.",
        ),
        optional(
            "rejected_by_reason",
            list(reference("RejectionCount")),
            "How many of them by field and kind of fault.",
        ),
        optional(
            "free",
            list(list(count())),
            "The buckets of the layer that no experiment owns, from the first on and before the second.",
        ),
        optional(
            "free_share",
            fraction(),
            "The largest allocation that fits into the layer.",
        ),
        optional("errorCode", text(), "As OFREP has it, below `/ofrep/`."),
        optional(
            "errorDetails",
            text(),
            "The same as `detail`, below `/ofrep/`.",
        ),
        optional("checks", list(reference("Check")), "What was looked at."),
    ]);
    let example = json!({
        "type": "about:blank", "title": "Unprocessable Entity", "status": 422,
        "detail": "`variants` has 0 entries: declare 1 to 100",
        "field": "variants", "reason": "has 0 entries: declare 1 to 100",
        "request_id": "64d3a5c0f2b80-1",
    });
    with(schema, "examples", json!([example]))
}
