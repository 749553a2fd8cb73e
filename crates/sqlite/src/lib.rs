//! Opens SQLite files and detects every damage.
//!
//! The catalog and the warehouse both keep a SQLite file in WAL mode. This crate
//! has what they share: the check of the log before SQLite reads it ([`wal`]),
//! migrations ([`Migration`]), rows with a checksum each ([`seal`]), the last
//! acknowledged commit in a separate file, so that a lost commit is noticed at
//! opening ([`told`]), whether a file is still there ([`watch`]), and read-only
//! inspection ([`open_read_only`]). It contains no SQL of the catalog or the
//! warehouse.
#![forbid(unsafe_code)]

mod error;
mod inspect;
mod migrate;
mod open;
pub mod pin;
mod reader;
pub mod seal;
pub mod told;
mod wal;
pub mod watch;

pub use error::{OpenError, RESTORE_ALL};
pub use inspect::{SchemaVersions, open_read_only, schema_version, sqlite_version};
pub use migrate::Migration;
pub use open::{Opening, Reach, is_damage};
pub use reader::open_reader;
