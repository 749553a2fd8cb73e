//! Shows the next step on empty pages, with a command that can be pasted.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use serde_json::json;
use trialog_model::experiment::{Definition, Status};

use crate::serving::Peer;
use trialog_model::percent;
use trialog_report::Report;

/// The next step, and the command for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NextStep {
    pub(crate) text: String,
    pub(crate) command: String,
}

impl NextStep {
    fn new(text: impl Into<String>, command: String) -> Self {
        Self {
            text: text.into(),
            command,
        }
    }
}

/// The address of the server as the browser knows it, and whether the browser sent a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    address: String,
    key: &'static str,
}

impl<S: Sync> FromRequestParts<S> for Origin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let is_tls = (parts.extensions.get::<Peer>()).is_some_and(|peer| peer.is_tls);
        Ok(Self::from_headers(&parts.headers, is_tls))
    }
}

impl Origin {
    /// From the headers of a request; a `Host` that does not look like one is
    /// not repeated. A command never holds the key itself.
    fn from_headers(headers: &HeaderMap, is_tls: bool) -> Self {
        let is_host = |text: &&str| {
            let sound = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
            !text.is_empty() && text.len() <= 255 && text.bytes().all(sound)
        };
        let host = headers
            .get(header::HOST)
            .and_then(|value| value.to_str().ok());
        let host = host.filter(is_host).unwrap_or("127.0.0.1:8080");
        // A proxy that ends TLS says so.
        let is_tls = is_tls
            || headers
                .get("x-forwarded-proto")
                .is_some_and(|scheme| scheme == "https");
        let scheme = if is_tls { "https" } else { "http" };
        Self {
            address: format!("{scheme}://{host}"),
            key: if headers.contains_key(header::AUTHORIZATION) {
                r#"-H "Authorization: Bearer $TRIALOG_KEY" "#
            } else {
                ""
            },
        }
    }

    fn post(&self, path: &str, body: Option<&serde_json::Value>) -> String {
        let Self { address, key } = self;
        match body {
            Some(body) => format!(
                "curl {key}'{address}{path}' -d {}",
                quoted(&body.to_string())
            ),
            None => format!("curl -X POST {key}'{address}{path}'"),
        }
    }

    /// Returns the step that registers a first experiment.
    pub(crate) fn first_experiment(&self) -> NextStep {
        let body = json!({"experiment_id": "checkout", "variants": [{"variant": "old"}, {"variant": "new"}],
                          "metrics": {"primary": ["purchase:conversion"]}});
        NextStep::new(
            "There are no experiments yet. Register one:",
            self.post("/v1/experiments", Some(&body)),
        )
    }

    /// Returns the next step towards results of an experiment, and the one after it; `None` while
    /// results come in.
    pub(crate) fn next_step(&self, definition: &Definition, report: &Report) -> Option<NextStep> {
        let id = definition.experiment_id.as_str();
        let users: u64 = report.variants.iter().map(|variant| variant.users).sum();
        if report.status == Status::Draft {
            let command = self.post(
                &format!("/v1/experiments/{}/start", percent::encode(id)),
                None,
            );
            return Some(NextStep::new(
                "It is a draft. Start it when it is complete:",
                command,
            ));
        }
        if report.filter.is_some() {
            return None;
        }
        if report.status == Status::Stopped
            && let Some(step) = self.after_stop(id, report)
        {
            return Some(step);
        }
        if report.computed_at.is_none() {
            let command = self.post("/v1/pipeline/run", None);
            return Some(NextStep::new(
                "Nothing was computed by then. Runs are made on a schedule; run now:",
                command,
            ));
        }
        if users == 0 {
            let variant = definition
                .variants
                .first()
                .map_or("control", |declared| declared.variant.as_str());
            let body = json!({"user_id": 1, "experiment_id": id, "variant": variant, "assigned_at": "2026-01-31T09:30:00Z"});
            let command = self.post("/v1/events/assignments", Some(&body));
            return Some(NextStep::new(
                "No user was assigned to a variant yet. Tell who saw what, then run the pipeline:",
                command,
            ));
        }
        if report
            .metrics
            .iter()
            .all(|metric| metric.variants.is_empty())
        {
            let body = json!({"user_id": 1, "experiment_id": id, "event_type": "purchase", "value": "19.99", "timestamp": "2026-01-31T09:45:00Z"});
            let command = self.post("/v1/events/metrics", Some(&body));
            return Some(NextStep::new(
                "No user did anything yet that counts. Tell what they do, then run the pipeline:",
                command,
            ));
        }
        None
    }

    /// What is to be done with a stopped experiment: decide it, then put it away.
    fn after_stop(&self, id: &str, report: &Report) -> Option<NextStep> {
        let path = |step: &str| format!("/v1/experiments/{}/{step}", percent::encode(id));
        let Some(decision) = &report.decision else {
            let body = json!({"ship": "VARIANT", "reason": "WHY"});
            return Some(NextStep::new(
                "It is stopped, so everybody sees the control, and nothing is decided. Say which variant everybody gets (null for none) and why; or resume it with POST …/resume:",
                self.post(&path("decide"), Some(&body)),
            ));
        };
        let variant = decision.ship.as_ref()?;
        Some(NextStep::new(
            format!(
                "Everybody gets `{variant}` until the experiment is archived. Archive it once the variant is in the code:"
            ),
            self.post(&path("archive"), None),
        ))
    }
}

/// `text` as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_pasted_whatever_the_id_and_the_host() {
        assert_eq!(quoted("it's"), r"'it'\''s'");
        let address = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            Origin::from_headers(&headers, false).address
        };
        assert_eq!(address("[::1]:8080"), "http://[::1]:8080");
        for bad in ["", "a'b", "$(reboot)", "a b"] {
            assert_eq!(address(bad), "http://127.0.0.1:8080", "{bad}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "trialog.example".parse().unwrap());
        let tls = Origin::from_headers(&headers, true).address;
        assert_eq!(tls, "https://trialog.example");
        headers.insert("x-forwarded-proto", "https".parse().unwrap());
        assert_eq!(Origin::from_headers(&headers, false).address, tls);
    }

    #[test]
    fn a_command_names_the_key_and_does_not_show_it() {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, "Bearer secret".parse().unwrap());
        let command = Origin::from_headers(&headers, false).post("/v1/pipeline/run", None);
        assert!(command.contains("$TRIALOG_KEY") && !command.contains("secret"));
    }
}
