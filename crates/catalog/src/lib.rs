//! Stores everything that is small and must change atomically.
//!
//! Experiments and their definitions, published results, the position up to
//! which they were computed, and the history of runs. A published result and
//! its position are committed in one transaction, so readers see whole runs.
#![forbid(unsafe_code)]

pub mod audit;
pub mod configuration;
mod connection;
mod database;
pub mod documents;
pub mod dropped;
pub mod erasures;
mod error;
pub mod experiments;
mod facts;
mod generation;
pub mod holdouts;
mod inspect;
pub mod journal;
pub mod keys;
pub mod layers;
pub mod lease;
mod links;
pub mod metrics;
mod neighbours;
mod pin;

#[cfg(feature = "postgres")]
mod postgres;
pub mod results;
pub mod runs;
mod schema;
pub mod sequence;
pub mod surfaces;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod warnings;

pub use connection::Catalog;
pub use database::DatabaseError;
pub use error::CatalogError;
pub use inspect::{Inspected, inspect};
#[cfg(feature = "postgres")]
pub use postgres::inspect_server;
pub use trialog_sqlite::{RESTORE_ALL, SchemaVersions, sqlite_version};
