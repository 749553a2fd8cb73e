//! Opens SQLite files and detects every damage.
//!
//! The catalog and the warehouse both keep a SQLite file in WAL mode. What
//! they share stands here: the check of the log before SQLite reads it
//! ([`wal`]), migrations ([`Migration`]), rows that carry a checksum of their
//! own ([`seal`]), how far a file had come ([`told`]), whether it is still there
//! ([`watch`]), and a look that changes nothing ([`open_read_only`]). No
//! statement of either of the two is here.
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
