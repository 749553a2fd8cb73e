//! Assigns variants in process and logs events without ever waiting.
//!
//! An application builds one [`Client`] and shares it. [`Client::assign`] decides from the
//! configuration alone, without I/O and without allocating, and queues one exposure event as
//! a side effect; [`Client::log_metric`] logs what a unit did, once for each experiment in
//! which that counts. Both put an event into a bounded buffer and return. One thread sends
//! batches, another one keeps the configuration fresh. Neither needs an asynchronous
//! runtime.
//!
//! What the client promises its host: no call blocks, fails or panics, whatever becomes
//! of the network, the disk or the clock. A full buffer drops the newest event and
//! counts it, and the [`Counters`] add up: `offered = delivered + dropped + queued`.
//!
//! ```
//! use trialog_sdk::{Client, Context, MemoryTransport};
//! let events = MemoryTransport::new();
//! let client = Client::builder()
//!     .configuration(br#"{"experiments": [{"experiment_id": "gate", "event_types": ["purchase"],
//!         "variants": [{"variant": "gate_30"}, {"variant": "gate_40"}]}]}"#)
//!     .transport(events.clone())
//!     .build()?;
//! let player = Context::new().with("platform", "ios");
//! match client.assign("42", "gate", &player).variant() {
//!     Some("gate_40") => { /* the later gate */ }
//!     _ => { /* as it always was */ }
//! }
//! client.log_metric("42", &player, "purchase", 4.99);
//! let report = client.shutdown(std::time::Duration::from_secs(5));
//! assert_eq!((report.delivered, report.queued), (2, 0));
//! assert_eq!(events.take()[1]["value"], "4.9900");
//! # Ok::<(), trialog_sdk::BuildError>(())
//! ```
//!
//! With a server: [`Builder::server`] and [`Builder::api_key`] in place of `configuration` and
//! `transport`.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod assignment;
mod backoff;
mod builder;
mod cache_file;
mod client;
mod clock;
mod configuration;
mod context;
mod counters;
mod event;
mod forced;
mod observer;
mod queue;
mod seen;
mod sender;
mod transport;
mod value;

pub use assignment::{Assignment, Outcome};
pub use builder::{BuildError, Builder};
pub use client::{Client, Report};
pub use clock::Clock;
pub use context::Context;
pub use counters::{Counters, Dropped};
pub use observer::Observer;
#[cfg(feature = "http")]
pub use transport::HttpTransport;
#[cfg(feature = "kafka")]
pub use transport::KafkaTransport;
pub use transport::{Batch, Delivery, FileTransport, MemoryTransport, Transport};
pub use trialog_model::assignment::Step;
pub use trialog_model::event::EventKind;
pub use trialog_model::ids::{ExperimentId, Variant};
pub use trialog_model::time::UnixMicros;
pub use trialog_model::user_id::user_id_from_text;
pub use value::MetricValue;
