//! The interface by method and path, with answers in JSON.

use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use serde_json::Value;
use trialog_pipeline::aggregation::Settings as Aggregation;

use crate::harness::{Api, settings};

/// An answer: its status, its headers, its body.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

/// The routes, and what is behind them.
pub(crate) struct Service(Api);

impl Service {
    pub(crate) fn new() -> Self {
        Self(Api::new())
    }

    /// Keeps every computation for so long, later ones of a day the last.
    pub(crate) fn keeping(keep_all_micros: i64) -> Self {
        let runs = Aggregation {
            keep_all_micros,
            ..Aggregation::default()
        };
        Self(Api::with_runs(settings(), runs))
    }

    /// The body at `path`, which has to be there.
    pub(crate) fn body(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
        answer.body
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, micros: i64) {
        self.0.time.fetch_add(micros, Ordering::Relaxed);
    }

    pub(crate) fn delete(&self, path: &str) -> Answer {
        self.send(Request::delete(path).body(Body::empty()).unwrap())
    }

    pub(crate) fn send(&self, request: Request<Body>) -> Answer {
        let answer = self.0.answer(request);
        let (status, headers) = (answer.status(), answer.headers().clone());
        Answer {
            status,
            headers,
            body: self.0.json(answer),
        }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap())
    }

    /// The text of a page.
    pub(crate) fn page(&self, path: &str) -> String {
        let answer = self
            .0
            .answer(Request::get(path).body(Body::empty()).unwrap());
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let body = axum::body::to_bytes(answer.into_body(), 1 << 24);
        let body = self.0.runtime.block_on(body).unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    pub(crate) fn post(&self, path: &str, body: impl std::fmt::Display) -> Answer {
        let body = Body::from(body.to_string());
        self.send(Request::post(path).body(body).unwrap())
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) -> Answer {
        let body = Body::from(body.to_string());
        self.send(Request::patch(path).body(body).unwrap())
    }
}
