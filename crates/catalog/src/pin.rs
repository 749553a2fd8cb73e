//! Pins the catalog at one moment, regardless of later writes.

use std::path::Path;

use trialog_model::ids::ExperimentId;
use trialog_model::time::UnixMicros;
use trialog_sqlite::pin;

use crate::connection::Catalog;
use crate::database::params;
use crate::error::CatalogError;
use crate::generation;
use crate::schema::MIGRATIONS;

impl Catalog {
    /// Returns the catalog as of now, for reading only. `meanwhile` runs while nothing can be
    /// published, so what it pins is of the same moment.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn pin<T>(&self, meanwhile: impl FnOnce() -> T) -> Result<(Self, T), CatalogError> {
        let file =
            self.file("copies and checks of it are PostgreSQL's own: pg_dump makes a backup")?;
        let _publishing = file.connection();
        let pinned = Self::pinned(file.path())?;
        Ok((pinned, meanwhile()))
    }

    /// Opens the catalog in `directory`, which no process has open, for reading only.
    ///
    /// # Errors
    ///
    /// The file is absent, damaged, or of another schema.
    pub fn open_pinned(directory: &Path) -> Result<Self, CatalogError> {
        let path = directory.join("catalog.sqlite");
        pin::check_log(&path)?;
        let told = generation::file(directory);
        let connection = pin::pin_reached(&path, MIGRATIONS, &generation::reach(&told))?;
        Ok(Self::pinned_to(connection, path))
    }

    fn pinned(path: &Path) -> Result<Self, CatalogError> {
        let connection = pin::pin(path, MIGRATIONS)?;
        Ok(Self::pinned_to(connection, path.to_owned()))
    }

    /// Copies what this pinned catalog sees to a new file, durably.
    ///
    /// # Errors
    ///
    /// The catalog is damaged, or the file cannot be written.
    pub fn copy_to(&self, path: &Path) -> Result<(), CatalogError> {
        let file = self.file("pg_dump makes a backup of it")?;
        Ok(pin::copy(&file.connection(), file.path(), path)?)
    }

    /// Removes what was deleted from the file, so that it holds no trace of it.
    pub(crate) fn scrub(&self) -> Result<(), CatalogError> {
        let file = self.file("VACUUM removes what was deleted")?;
        Ok(pin::scrub(&file.connection(), file.path())?)
    }

    /// Lists all damage in the file.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn find_damage(&self) -> Result<Vec<String>, CatalogError> {
        let file = self.file("pg_amcheck checks it")?;
        let found = pin::find_damage(&file.connection());
        found.map_err(|error| CatalogError::database("check", self.place())(error.into()))
    }

    /// Returns when results of `experiment` were published, from `from` on and before `to`.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn computation_times(
        &self,
        experiment: &ExperimentId,
        from: i64,
        to: i64,
    ) -> Result<Vec<UnixMicros>, CatalogError> {
        self.read("list results", |connection| {
            let sql = "SELECT computed_at FROM computations
                WHERE experiment_id = ?1 AND computed_at >= ?2 AND computed_at < ?3
                ORDER BY computed_at";
            (connection.prepare_cached(sql)?)
                .query_map(params![experiment.as_str(), from, to], |row| {
                    Ok(UnixMicros(row.get(0)?))
                })?
                .collect()
        })
    }

    /// Returns up to `limit` ids of experiments after `after`, in order.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn experiment_ids(
        &self,
        after: &str,
        limit: u32,
    ) -> Result<Vec<ExperimentId>, CatalogError> {
        self.read("list experiments", |connection| {
            let sql = "SELECT experiment_id FROM experiments
                WHERE experiment_id > ?1 ORDER BY experiment_id LIMIT ?2";
            (connection.prepare_cached(sql)?)
                .query_map(params![after, limit], crate::experiments::id)?
                .collect()
        })
    }
}
