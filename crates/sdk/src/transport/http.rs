//! Sends events to a server over HTTP.

use std::time::Duration;

use serde::Deserialize;
use trialog_model::event::EventKind;
use trialog_model::text::without_passwords;
use ureq::Agent;
use ureq::http::{Response, StatusCode, header};

use super::{Batch, Delivery, Transport};

/// The most bytes of an answer that are read.
const MAX_ANSWER_BYTES: u64 = 4 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Posts events to `/v1/events/assignments` and `/v1/events/metrics` of a server.
pub struct HttpTransport {
    agent: Agent,
    server: String,
    api_key: Option<String>,
}

impl std::fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the key and a password.
        write!(f, "HttpTransport({})", without_passwords(&self.server))
    }
}

impl HttpTransport {
    /// Creates a transport to `server`, such as `https://trialog.example`, with a key that has the
    /// scope `sdk` or `ingest`.
    pub fn new(server: impl Into<String>, api_key: Option<String>) -> Self {
        let server = server.into().trim_end_matches('/').to_owned();
        Self {
            agent: agent(),
            server,
            api_key,
        }
    }
}

/// Creates an HTTP client with short timeouts that returns every status instead of failing.
pub(crate) fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_resolve(Some(CONNECT_TIMEOUT))
        .user_agent(concat!("trialog-sdk/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

impl Transport for HttpTransport {
    fn send(&mut self, kind: EventKind, batch: &Batch, timeout: Duration) -> Delivery {
        let address = format!("{}/v1/events/{}", self.server, kind.plural());
        let mut request =
            (self.agent.post(&address)).header(header::CONTENT_TYPE, "application/x-ndjson");
        if let Some(key) = &self.api_key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        let request = request.config().timeout_global(Some(timeout)).build();
        match request.send(batch.lines()) {
            Ok(mut answer) => classify(&without_passwords(&address), batch, &mut answer),
            Err(error) => {
                let reason = format!("cannot reach `{address}`: {error}");
                Delivery::failed(without_passwords(&reason).into_owned())
            }
        }
    }
}

/// The server's verdict on the events.
#[derive(Deserialize)]
struct Receipt {
    accepted: u64,
    #[serde(default)]
    rejected: Vec<Rejection>,
}

#[derive(Deserialize)]
struct Rejection {
    field: String,
    reason: String,
}

fn classify(address: &str, batch: &Batch, answer: &mut Response<ureq::Body>) -> Delivery {
    let status = answer.status();
    let wait = wait(answer);
    let body = answer
        .body_mut()
        .with_config()
        .limit(MAX_ANSWER_BYTES)
        .read_to_vec();
    let receipt = body
        .ok()
        .and_then(|body| serde_json::from_slice::<Receipt>(&body).ok());
    let n_events = batch.len() as u64;
    match (status, receipt) {
        // All of them bad is 422, with the same members.
        (StatusCode::ACCEPTED | StatusCode::UNPROCESSABLE_ENTITY, Some(receipt))
            if receipt.accepted + receipt.rejected.len() as u64 == n_events =>
        {
            let reason = (receipt.rejected.first())
                .map(|first| format!("`{}` {}", first.field, first.reason));
            let n_refused = receipt.rejected.len() as u64;
            Delivery::Taken {
                n_refused,
                reason: reason.unwrap_or_default(),
            }
        }
        (StatusCode::PAYLOAD_TOO_LARGE, _) => Delivery::TooLarge,
        (StatusCode::ACCEPTED, _) => Delivery::failed(format!(
            "`{address}` does not answer as a Trialog server does"
        )),
        (status, _) => Delivery::Failed {
            reason: format!("`{address}` answers {status}"),
            wait,
        },
    }
}

/// Returns the seconds of `Retry-After`. A date is ignored, since the clock may be wrong.
pub(crate) fn wait(answer: &Response<ureq::Body>) -> Option<Duration> {
    let seconds = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}
