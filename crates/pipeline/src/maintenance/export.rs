//! Exports a consistent copy for other tools: events without duplicates or all published results,
//! as Parquet or CSV.

use std::fmt::Write as _;
use std::io::Write;
use std::ops::Range;

use trialog_catalog::{Catalog, CatalogError};
use trialog_model::event::EventKind;
use trialog_model::ids::ExperimentId;
use trialog_model::published::{MoreSums, Published};
use trialog_warehouse::batch::EventRow;
use trialog_warehouse::export::Selection;
use trialog_warehouse::view::View;

use super::table::{Cell, Columns, TableWriter, Type};
use super::{Flag, Maintenance, MaintenanceError, go_on};

/// The number of experiments whose ids are read at a time.
const CHUNK: u32 = 1_000;

/// The table that is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Events of one kind, each once.
    Events(EventKind),
    /// Published results with their history.
    Results,
}

/// The file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Parquet, compressed with zstd.
    Parquet,
    /// CSV with a header.
    Csv(Formulas),
}

/// The treatment of texts in CSV that a spreadsheet would compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Formulas {
    /// They get an apostrophe in front, see [`trialog_model::formula`].
    Escaped,
    /// They are not changed.
    Kept,
}

/// The content and the format of an export.
#[derive(Debug, Clone)]
pub struct ExportRequest {
    /// Which table.
    pub table: Table,
    /// In which form.
    pub form: Form,
    /// Only these experiments; all where it is empty.
    pub experiments: Vec<ExperimentId>,
    /// Only events, or results computed, within this range, in microseconds since 1970.
    pub within: Range<Option<i64>>,
}

/// An export that is pinned to one moment.
pub struct Export {
    request: ExportRequest,
    moment: Moment,
    /// Set when no client waits for the export any more.
    flag: Flag,
}

/// The exported data as of one moment.
enum Moment {
    Events(EventKind, View),
    Results(Catalog),
}

/// `user_id` is what was sent, `user_key` the number that it is stored and joined by.
const ASSIGNMENTS: &Columns = &[
    ("user_id", Type::Text),
    ("experiment_id", Type::Text),
    ("variant", Type::Text),
    ("assigned_at", Type::Time),
    ("forced", Type::Boolean),
    ("context", Type::Text),
    ("event_fingerprint", Type::Integer),
    ("user_key", Type::Integer),
];

const METRICS: &Columns = &[
    ("user_id", Type::Text),
    ("experiment_id", Type::Text),
    ("event_type", Type::Text),
    ("value", Type::Decimal(18)),
    ("timestamp", Type::Time),
    ("event_fingerprint", Type::Integer),
    ("user_key", Type::Integer),
];

const RESULTS: &Columns = &[
    ("experiment_id", Type::Text),
    ("computed_at", Type::Time),
    ("run_id", Type::Integer),
    ("variant", Type::Text),
    ("metric_name", Type::Text),
    ("user_count", Type::Integer),
    ("event_count", Type::Integer),
    ("total_value", Type::Decimal(38)),
    ("conversion_rate", Type::Float),
    ("mean_value", Type::Float),
    ("variance", Type::Float),
    ("converted_users", Type::Integer),
    // Squares of sums outgrow every decimal type, so they are exact text.
    ("squared_total", Type::Text),
    ("squared_events", Type::Text),
    ("more", Type::Text),
    ("fingerprint", Type::Text),
];

impl Maintenance {
    /// Pins an export to this moment.
    ///
    /// # Errors
    ///
    /// An experiment that nobody registered and no event named.
    pub fn export(&self, request: ExportRequest) -> Result<Export, MaintenanceError> {
        self.export_until(&Flag::default(), request)
    }

    /// Pins an export as [`Self::export`] does. Writing it ends with an error soon after `flag` is
    /// set.
    ///
    /// # Errors
    ///
    /// Those of [`Self::export`].
    pub fn export_until(
        &self,
        flag: &Flag,
        request: ExportRequest,
    ) -> Result<Export, MaintenanceError> {
        let view = self.store.view()?;
        for id in &request.experiments {
            self.check_experiment(id, &view)?;
        }
        let moment = match request.table {
            Table::Events(kind) => Moment::Events(kind, view.until(Flag::clone(flag))),
            Table::Results => Moment::Results(self.catalog.pin(|| ())?.0),
        };
        Ok(Export {
            request,
            moment,
            flag: Flag::clone(flag),
        })
    }

    /// Rejects an experiment that is neither registered nor named by an event.
    fn check_experiment(&self, id: &ExperimentId, view: &View) -> Result<(), MaintenanceError> {
        let error = match self.catalog.experiment(id) {
            Ok(_) => return Ok(()),
            Err(error @ CatalogError::NotFound { .. }) => error,
            Err(error) => return Err(error.into()),
        };
        for kind in EventKind::ALL {
            if !view.contents(kind, &[id.as_str()])?.is_empty() {
                return Ok(());
            }
        }
        Err(error.into())
    }
}

impl Export {
    /// Writes everything to `out`, and returns the number of rows.
    ///
    /// # Errors
    ///
    /// The warehouse or the catalog cannot be read, or `out` cannot be written.
    pub fn write(&self, out: impl Write + Send) -> Result<u64, MaintenanceError> {
        match &self.moment {
            Moment::Events(kind, view) => self.events(*kind, view, out),
            Moment::Results(catalog) => self.results(catalog, out),
        }
    }

    fn events(
        &self,
        kind: EventKind,
        view: &View,
        out: impl Write + Send,
    ) -> Result<u64, MaintenanceError> {
        let columns = match kind {
            EventKind::Assignment => ASSIGNMENTS,
            EventKind::Metric => METRICS,
        };
        let mut table = TableWriter::new(self.request.form, columns, out)?;
        let ids = self.request.experiments.iter();
        let selection = Selection {
            experiments: ids.map(ExperimentId::to_string).collect(),
            within: self.request.within.clone(),
        };
        let mut n_rows = 0;
        let mut number = String::new();
        view.each_event(kind, &selection, |event| -> Result<(), MaintenanceError> {
            n_rows += 1;
            let user = user_id(event, &mut number);
            match kind {
                EventKind::Assignment => table.row(&assignment(event, user)),
                EventKind::Metric => table.row(&metric(event, user)),
            }
        })?;
        table.finish()?;
        Ok(n_rows)
    }

    fn results(&self, catalog: &Catalog, out: impl Write + Send) -> Result<u64, MaintenanceError> {
        let mut table = TableWriter::new(self.request.form, RESULTS, out)?;
        let mut n_rows = 0;
        if !self.request.experiments.is_empty() {
            let mut ids = self.request.experiments.clone();
            ids.sort();
            ids.dedup();
            for id in &ids {
                n_rows += self.results_of(catalog, id, &mut table)?;
            }
        } else {
            let mut after = String::new();
            loop {
                let ids = catalog.experiment_ids(&after, CHUNK)?;
                let Some(last) = ids.last() else {
                    break;
                };
                after = last.to_string();
                for id in &ids {
                    n_rows += self.results_of(catalog, id, &mut table)?;
                }
            }
        }
        table.finish()?;
        Ok(n_rows)
    }

    fn results_of(
        &self,
        catalog: &Catalog,
        id: &ExperimentId,
        table: &mut TableWriter<impl Write + Send>,
    ) -> Result<u64, MaintenanceError> {
        let from = self.request.within.start.unwrap_or(i64::MIN);
        let to = self.request.within.end.unwrap_or(i64::MAX);
        let mut n_rows = 0;
        for time in catalog.computation_times(id, from, to)? {
            go_on(&self.flag)?;
            if let Some(published) = catalog.published_at(id, time)? {
                n_rows += result_rows(id, &published, table)?;
            }
        }
        Ok(n_rows)
    }
}

/// Returns the user as it was sent. `number` is the buffer for an integer.
fn user_id<'a>(event: &EventRow<'a>, number: &'a mut String) -> &'a str {
    if event.user_text.is_empty() {
        number.clear();
        // Writing to a string does not fail.
        let _ = write!(number, "{}", event.user);
        return number;
    }
    event.user_text
}

fn assignment<'a>(event: &EventRow<'a>, user: &'a str) -> [Cell<'a>; 8] {
    [
        Cell::Text(user),
        Cell::Text(event.experiment),
        Cell::Text(event.name),
        Cell::Time(event.timestamp),
        Cell::Boolean(event.value != 0),
        Cell::Text(event.context),
        Cell::Integer(event.event_id),
        Cell::Integer(event.user),
    ]
}

fn metric<'a>(event: &EventRow<'a>, user: &'a str) -> [Cell<'a>; 7] {
    [
        Cell::Text(user),
        Cell::Text(event.experiment),
        Cell::Text(event.name),
        Cell::Decimal(event.value.into()),
        Cell::Time(event.timestamp),
        Cell::Integer(event.event_id),
        Cell::Integer(event.user),
    ]
}

fn result_rows(
    id: &ExperimentId,
    published: &Published,
    table: &mut TableWriter<impl Write + Send>,
) -> Result<u64, MaintenanceError> {
    let computation = &published.computation;
    for row in &computation.metrics {
        let more = row.more.as_ref().map(MoreSums::text).unwrap_or_default();
        table.row(&[
            Cell::Text(id.as_str()),
            Cell::Time(published.computed_at.0),
            Cell::Integer(published.run_id),
            Cell::Text(&row.variant),
            Cell::Text(&row.metric_name),
            Cell::Integer(row.user_count.cast_signed()),
            Cell::Integer(row.event_count.cast_signed()),
            Cell::Decimal(row.total),
            Cell::Float(Some(row.conversion_rate)),
            Cell::Float(Some(row.mean_value)),
            Cell::Float(row.variance),
            Cell::Integer(row.converted_users.cast_signed()),
            Cell::Text(&row.squared_total.to_string()),
            Cell::Text(&row.squared_events.to_string()),
            Cell::Text(&more),
            Cell::Text(&computation.fingerprint),
        ])?;
    }
    Ok(computation.metrics.len() as u64)
}
