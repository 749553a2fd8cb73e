//! Turns events into published numbers: ingest, aggregation, schedule.
//!
//! Ingest validates events and hands them to the warehouse, which makes them
//! durable. A run folds the experiments that were touched since the last
//! published position and publishes all of it in one catalog transaction.
#![forbid(unsafe_code)]

pub mod aggregation;
#[cfg(feature = "clickhouse")]
pub mod clickhouse;
pub mod clock;
mod compute;
pub mod decompress;
mod error;
pub mod ingest;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod lease;
mod look;
pub mod maintenance;
mod parallel;
mod retention;
pub mod retry;
pub mod schedule;
pub mod store;
mod subject;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
mod trust;

pub use compute::Limits;
pub use compute::by_cell::{Breakdown, Cell, MAX_VALUES};
pub use compute::cohorts::ByDay;
pub use compute::context::{ContextKeys, MAX_CONTEXT_KEYS};
pub use compute::funnel::FunnelUsers;
pub use compute::timeline::{MOST_DAYS, PastDay, PastMetric};
pub use error::PipelineError;
pub use subject::subject;
