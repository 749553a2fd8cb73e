//! Serves the HTTP interface: handlers and problem documents.
//!
//! A handler reads its request, asks the pipeline or the catalog on a
//! blocking thread, and writes the answer. Whatever can be decided without
//! HTTP is in `trialog_report`, which is pure.
#![forbid(unsafe_code)]

mod access;
mod answers;
mod api;
pub mod app;
mod body;
mod budget;
mod connection;
mod cors;
mod dashboard;
mod edit;
mod headers;
mod limits;
mod named;
mod names;
mod observe;
pub mod openapi;
mod page;
mod places;
mod pools;
mod problem;
mod process;
mod query;
mod routes;
mod rulesets;
pub mod serving;
mod stream;
mod telemetry;
pub mod tls;
mod turns;
mod unreadable;
mod work;

pub use access::{InProcess, Randomness};
pub use api::calc::no_family;
pub use api::evaluation::WithoutVariant;
pub use app::{App, Settings};
pub use dashboard::report_page;
pub use headers::RequestId;
pub use routes::{paths, router};
pub use serving::serve;
