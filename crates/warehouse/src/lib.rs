//! Stores raw events in sorted Parquet runs, and folds over them.
//!
//! Events are many, immutable and columnar. They are kept in the order
//! `(experiment, user, time)`, so that a user's history in an experiment is
//! one contiguous stretch and every analysis is a fold over it.
#![forbid(unsafe_code)]

pub mod analysis;
mod background;
pub mod batch;
mod checked_file;
#[cfg(feature = "clickhouse")]
pub mod clickhouse;
mod codec;
mod cursor;
mod database;
pub mod disk;
pub mod embedded;
pub mod erase;
mod error;
pub mod export;
pub mod external_sort;
pub mod fold;
pub mod index;
pub mod lock;
mod merge;
pub mod once;
pub mod pin;
mod private;
mod run;
mod segment;
pub mod snapshot;
mod telemetry;
mod texts;
pub mod user_texts;
pub mod view;
mod writer;

pub use database::{SourceMark, inspect};
pub use error::{FoldError, WarehouseError};
pub use telemetry::Metrics;
