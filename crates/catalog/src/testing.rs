//! Opens catalogs for tests: SQLite, or PostgreSQL if `TRIALOG_TEST_CATALOG` says so.
//!
//! The same tests run on both: once as they are, once with the variable set to the
//! address of a database, in which every test gets a schema of its own.

#![cfg_attr(
    feature = "postgres",
    expect(clippy::disallowed_methods, reason = "the variable is the tests' own")
)]

use std::path::Path;

use crate::{Catalog, CatalogError};

/// Opens the catalog of the tests that work in `directory`. A second call opens the same one.
///
/// # Errors
///
/// As [`Catalog::open`].
pub fn open(directory: &Path) -> Result<Catalog, CatalogError> {
    #[cfg(feature = "postgres")]
    if let Ok(url) = std::env::var("TRIALOG_TEST_CATALOG") {
        let (hash, _) =
            trialog_model::murmur3::murmur3_x64_128(directory.as_os_str().as_encoded_bytes(), 0);
        let schema = format!("test_{}_{hash:016x}", std::process::id());
        let create = format!("CREATE SCHEMA IF NOT EXISTS {schema}");
        crate::postgres::execute(&url, &create)?;
        return Catalog::connect(&format!("{url}?options=-c%20search_path%3D{schema}"));
    }
    Catalog::open(directory)
}
