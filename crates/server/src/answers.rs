//! Counts large responses until they are sent.
//!
//! A client that asks and does not read lets its answer wait in memory. Answers of more than
//! [`SMALL_BYTES`] take of a budget that callers share ([`Budget`]) until the socket has taken
//! their last byte. Beyond the caller's share:
//!
//! - a list of rejections is cut to its first [`FEW`], since its events are stored already;
//! - what only reads is answered with 429 in place of its answer, which is dropped;
//! - what changes something is refused before it begins; an answer that is there is sent.
//!
//! Smaller answers are bounded by the number of connections, and those that are written while
//! they are sent (exports, verification) by their pieces. Bytes that all answers share are not
//! counted, see [`Shared`].

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::http::Method;
use axum::response::Response;
use bytes::Bytes;
use trialog_pipeline::ingest::Rejections;

use crate::budget::{Budget, Hold};
use crate::limits::Who;
use crate::problem::{Answer, Problem};

/// Answers up to this size are not counted.
const SMALL_BYTES: usize = 16 << 10;
/// Rejections that are listed where there is no room for all.
const FEW: usize = 10;
/// The size of a rejection in JSON beside its reason, in all the forms that it passes through.
const REJECTION_BYTES: usize = 96;

/// Marks a response whose bytes are held once, however many clients wait for them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shared;

/// The responses that wait to be sent.
pub(crate) struct Answers {
    budget: Arc<Budget>,
}

/// Bytes that are counted until they are dropped.
struct Counted {
    bytes: Bytes,
    _hold: Hold,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Answers {
    pub(crate) fn new(n_bytes: usize) -> Self {
        let budget = Budget::new(n_bytes);
        Self { budget }
    }

    /// Rejects a request before its work if the caller's unsent responses leave no room for one
    /// more.
    pub(crate) fn check(&self, who: &Who) -> Answer<()> {
        match self.budget.has_room(who, SMALL_BYTES) {
            true => Ok(()),
            false => Err(unread()),
        }
    }

    /// Shortens a list for which there is no room.
    pub(crate) fn fit(&self, who: &Who, rejected: &mut Rejections) {
        let listed = rejected.listed.iter();
        let n_bytes: usize = listed
            .map(|rejection| rejection.reason.len() + REJECTION_BYTES)
            .sum();
        if n_bytes > SMALL_BYTES && !self.budget.has_room(who, n_bytes) {
            rejected.listed.truncate(FEW);
        }
    }

    /// Counts `response` until it is sent. If there is no room, rejects it when `is_repeatable`
    /// says that nothing is lost.
    pub(crate) async fn count(&self, response: Response, is_repeatable: bool) -> Answer<Response> {
        let n_bytes = response.body().size_hint().exact().unwrap_or_default();
        let n_bytes = usize::try_from(n_bytes).unwrap_or(usize::MAX);
        if n_bytes <= SMALL_BYTES || response.extensions().get::<Shared>().is_some() {
            return Ok(response);
        }
        let who = response.extensions().get().cloned().unwrap_or(Who::Crowd);
        let mut hold = self.budget.hold(who);
        if !is_repeatable {
            hold.force_resize(n_bytes);
        } else if hold.resize(n_bytes).is_err() {
            return Err(unread());
        }
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, n_bytes).await.map_err(|error| {
            Problem::internal(format!("an answer could not be put together: {error}"))
        })?;
        // The body is gone when its last piece waits to be written, the bytes when it is written.
        let counted = Bytes::from_owner(Counted { bytes, _hold: hold });
        Ok(Response::from_parts(parts, Body::from(counted)))
    }
}

fn unread() -> Problem {
    Problem::busy(
        "answers to this caller take up their share of memory: read those that were sent, or ask for less at a time (a smaller `limit`), and send this again",
        1,
    )
}

/// Returns whether a request can be repeated safely, so that its response may be rejected after
/// its work. An evaluation that logs an exposure logs the same one again, which counts once.
pub(crate) fn is_repeatable(method: &Method, path: &str) -> bool {
    let evaluates = ["/ofrep/", "/v1/assign", "/v1/calc/"];
    [Method::GET, Method::HEAD].contains(method)
        || evaluates.iter().any(|prefix| path.starts_with(prefix))
}

/// Returns whether a request brings events. Events are accepted even if their caller does not read
/// its responses.
pub(crate) fn brings_events(path: &str) -> bool {
    path.starts_with("/v1/events/") || path == "/v1/track"
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use trialog_model::event::{EventError, Fault};

    use super::*;

    fn key(name: &str) -> Who {
        Who::Key(name.to_owned())
    }

    fn answer(who: &str, n_bytes: usize) -> Response {
        let mut response = Response::new(Body::from(vec![b'x'; n_bytes]));
        response.extensions_mut().insert(key(who));
        response
    }

    fn counted(answers: &Answers, response: Response, is_repeatable: bool) -> Answer<Response> {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        (runtime.unwrap()).block_on(answers.count(response, is_repeatable))
    }

    #[test]
    fn an_answer_counts_until_its_bytes_are_gone() {
        let answers = Answers::new(1 << 20);
        let (a, b) = (key("a"), key("b"));
        let first = counted(&answers, answer("a", 500_000), true).unwrap();
        let refused = counted(&answers, answer("a", 500_000), true).unwrap_err();
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(refused.retry_after_s(), Some(1));
        assert!(answers.check(&b).is_ok(), "others are not concerned");
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let bytes = axum::body::to_bytes(first.into_body(), usize::MAX);
        let bytes = runtime.unwrap().block_on(bytes).unwrap();
        assert!(
            !answers.budget.has_room(&a, 500_000),
            "it waits to be written"
        );
        drop(bytes);
        assert!(answers.budget.has_room(&a, 500_000));
    }

    #[test]
    fn what_was_done_is_answered_and_the_next_is_refused_before_it_begins() {
        let answers = Answers::new(1 << 20);
        let _first = counted(&answers, answer("a", 600_000), false).unwrap();
        assert!(answers.check(&key("a")).is_err());
        assert!(answers.check(&key("b")).is_ok());
        assert!(counted(&answers, answer("a", SMALL_BYTES), true).is_ok());
        let mut shared = answer("a", 600_000);
        shared.extensions_mut().insert(Shared);
        assert!(counted(&answers, shared, true).is_ok());
    }

    #[test]
    fn a_list_of_rejections_is_cut_where_it_finds_no_room() {
        let answers = Answers::new(1 << 20);
        let rejected = || {
            let mut rejected = Rejections::default();
            for index in 0..1_000 {
                let error = EventError {
                    field: "user_id",
                    fault: Fault::Missing,
                    reason: "is missing".repeat(10),
                };
                rejected.note(index, error);
            }
            rejected
        };
        let (mut whole, mut cut) = (rejected(), rejected());
        answers.fit(&key("a"), &mut whole);
        assert_eq!(whole.listed.len(), 1_000);
        let _unread = counted(&answers, answer("a", 500_000), true).unwrap();
        answers.fit(&key("a"), &mut cut);
        assert_eq!((cut.listed.len(), cut.total()), (FEW, 1_000));
        assert_eq!(cut.by_reason(), whole.by_reason());
    }
}
