//! The HTTP interface: handlers and problem documents.
//!
//! A handler reads its request, asks the pipeline or the catalog on a
//! blocking thread, and writes the answer. Whatever can be decided without
//! HTTP stands in `trialog_report`, which is pure.
#![forbid(unsafe_code)]

mod access;
mod answers;
pub mod app;
mod audit;
mod body;
mod budget;
mod calc;
mod connection;
mod cors;
mod dashboard;
mod edit;
mod evaluation;
mod events;
mod experiments;
mod export;
mod headers;
mod health;
mod holdouts;
mod keys;
mod layers;
mod limits;
mod maintenance;
mod metric_definitions;
mod named;
mod names;
mod observe;
pub mod openapi;
mod page;
mod pipeline;
mod places;
mod pools;
mod problem;
mod process;
mod results;
mod rulesets;
mod segments;
pub mod serving;
mod stream;
mod telemetry;
pub mod tls;
mod turns;
mod unreadable;
mod work;

pub use access::{InProcess, Randomness};
pub use app::{App, Settings, router};
pub use calc::no_family;
pub use dashboard::report_page;
pub use evaluation::WithoutVariant;
pub use headers::RequestId;
pub use serving::serve;

/// `text` as one segment of a path or a value of a query.
pub fn percent_encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
