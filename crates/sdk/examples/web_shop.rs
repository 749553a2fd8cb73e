//! A web shop that tests the text of its buy button, on axum.
//!
//! ```console
//! cargo run -p trialog-sdk --example web_shop -- --server http://127.0.0.1:8080
//! ```
//!
//! `GET /?user=42` shows the page with the button of the user's variant and logs that they
//! saw it; `POST /buy?user=42` logs a purchase; `GET /metrics` shows the client's counters.
//! The experiment is `buy-button`, with the variants `plain` and `bold` and the metric
//! `purchase`.
#![expect(clippy::print_stdout, reason = "a program that says where it listens")]

use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::{get, post};
use serde::Deserialize;
use trialog_sdk::{Client, Context};

const EXPERIMENT: &str = "buy-button";
const PRICE: f64 = 19.99;

#[derive(Deserialize)]
struct Visitor {
    user: String,
    #[serde(default)]
    platform: Option<String>,
}

impl Visitor {
    fn context(&self) -> Context {
        match &self.platform {
            Some(platform) => Context::new().with("platform", platform.as_str()),
            None => Context::new(),
        }
    }
}

/// The page, whose button is what the experiment changes.
async fn front(State(trialog): State<Client>, Query(visitor): Query<Visitor>) -> Html<String> {
    let assignment = trialog.assign(&visitor.user, EXPERIMENT, &visitor.context());
    let (variant, button) = match assignment.variant() {
        Some("bold") => ("bold", "<b>Buy it now</b>"),
        _ => ("plain", "Buy"),
    };
    Html(format!(
        "<button data-variant=\"{variant}\">{button}</button>"
    ))
}

async fn buy(State(trialog): State<Client>, Query(visitor): Query<Visitor>) -> StatusCode {
    trialog.log_metric(&visitor.user, &visitor.context(), "purchase", PRICE);
    StatusCode::NO_CONTENT
}

async fn metrics(State(trialog): State<Client>) -> String {
    trialog.counters().to_prometheus()
}

/// The value after `name` among the arguments.
fn argument(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = argument("--server").unwrap_or_else(|| "http://127.0.0.1:8080".to_owned());
    let listen = argument("--listen").unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let mut builder = Client::builder().server(server);
    if let Some(key) = argument("--api-key") {
        builder = builder.api_key(key);
    }
    let trialog = builder.build()?;
    if !trialog.wait_until_ready(Duration::from_secs(5)) {
        println!("no configuration yet: everybody gets the plain button meanwhile");
    }
    let shop = Router::new()
        .route("/", get(front))
        .route("/buy", post(buy))
        .route("/metrics", get(metrics))
        .with_state(trialog.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(listen).await?;
        println!("listening on http://{}", listener.local_addr()?);
        let stop = async {
            // Where there is no signal to wait for, the shop goes on.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        axum::serve(listener, shop)
            .with_graceful_shutdown(stop)
            .await
    })?;
    let report = trialog.shutdown(Duration::from_secs(10));
    println!(
        "{} events delivered, {} dropped, {} not sent",
        report.delivered, report.dropped, report.queued
    );
    Ok(())
}
