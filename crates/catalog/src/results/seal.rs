//! Computes the checksum over all rows of a computation, in the version that it was written with.
//!
//! A row says which version its checksum has. A version that was released never changes:
//! a new field gets a new version, so that rows from before stay readable.

use std::fmt::Write;

use trialog_model::murmur3::murmur3_x64_128;
use trialog_model::published::{Computation, MoreSums, VariantExposures, VariantMetric};
use trialog_model::sequence::PastLook;

use super::arrivals;

/// The version that new rows are written with.
pub(super) const VERSION: u32 = 2;

/// Computes the checksum of `computation`, whose rows are in the order in which they are read
/// back, and of the time and run that published it; `None` for a version that this binary does not
/// know.
pub(super) fn checksum(version: u32, computation: &Computation, look: PastLook) -> Option<i64> {
    let bytes = match version {
        0 => text_of_version_0(computation).into_bytes(),
        1 => bytes_of_version_1(computation),
        // The run says which of several is the last one.
        2 => [
            &bytes_of_version_1(computation)[..],
            &look.run_id.to_le_bytes(),
            &look.at.0.to_le_bytes(),
        ]
        .concat(),
        _ => return None,
    };
    Some(murmur3_x64_128(&bytes, 0).0.cast_signed())
}

/// Every number as little-endian bytes, every text behind its length, every list behind its
/// number of elements, and 0 or 1 before what may be absent.
fn bytes_of_version_1(computation: &Computation) -> Vec<u8> {
    let mut bytes = Bytes(Vec::with_capacity(256));
    bytes.text(computation.experiment.as_str());
    bytes.text(&computation.fingerprint);
    bytes.count(computation.forced_users);
    bytes.count(computation.unknown_variant);
    bytes.count(computation.not_aggregated);
    bytes.count(computation.exposures.len() as u64);
    for row in &computation.exposures {
        bytes.text(&row.variant);
        bytes.count(row.user_count);
        bytes.count(row.crossover_users);
    }
    bytes.count(computation.metrics.len() as u64);
    for row in &computation.metrics {
        bytes.metric(row);
    }
    bytes.count(computation.arrivals.len() as u64);
    for row in &computation.arrivals {
        bytes.text(&row.event_type);
        for count in arrivals::counts(row) {
            bytes.count(count);
        }
    }
    bytes.0
}

struct Bytes(Vec<u8>);

impl Bytes {
    fn count(&mut self, count: u64) {
        self.0.extend(count.to_le_bytes());
    }

    fn sum(&mut self, sum: i128) {
        self.0.extend(sum.to_le_bytes());
    }

    fn real(&mut self, real: f64) {
        // A database gives -0 back as 0.
        self.0.extend((real + 0.0).to_bits().to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.count(text.len() as u64);
        self.0.extend(text.as_bytes());
    }

    fn metric(&mut self, row: &VariantMetric) {
        self.text(&row.variant);
        self.text(&row.metric_name);
        self.count(row.user_count);
        self.count(row.event_count);
        self.sum(row.total);
        self.real(row.conversion_rate);
        self.real(row.mean_value);
        match row.variance {
            None => self.0.push(0),
            Some(variance) => {
                self.0.push(1);
                self.real(variance);
            }
        }
        self.count(row.converted_users);
        self.sum(row.squared_total);
        self.0.extend(row.squared_events.to_le_bytes());
        match &row.more {
            None => self.0.push(0),
            Some(more) => {
                self.0.push(1);
                // This text is what the table holds, so the two cannot differ.
                self.text(&more.text());
            }
        }
    }
}

/// Writes the text that rows without a version were sealed with: all fields, without the words for
/// a row without more sums, wherever they occurred.
fn text_of_version_0(computation: &Computation) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "Computation {{ experiment: {:?}, fingerprint: {:?}, forced_users: {}, unknown_variant: {}, not_aggregated: {}, exposures: [",
        computation.experiment.as_str(),
        computation.fingerprint,
        computation.forced_users,
        computation.unknown_variant,
        computation.not_aggregated,
    );
    let exposures: Vec<String> = computation.exposures.iter().map(exposures_0).collect();
    let metrics: Vec<String> = computation.metrics.iter().map(metric_0).collect();
    let _ = write!(
        text,
        "{}], metrics: [{}] }}",
        exposures.join(", "),
        metrics.join(", ")
    );
    text.replace(", more: None", "")
}

fn exposures_0(row: &VariantExposures) -> String {
    format!(
        "VariantExposures {{ variant: {:?}, user_count: {}, crossover_users: {} }}",
        row.variant, row.user_count, row.crossover_users
    )
}

fn metric_0(row: &VariantMetric) -> String {
    let more = match &row.more {
        None => String::new(),
        Some(more) => format!(", more: Some({})", more_0(more)),
    };
    format!(
        "VariantMetric {{ variant: {:?}, metric_name: {:?}, user_count: {}, event_count: {}, total: {}, conversion_rate: {:?}, mean_value: {:?}, variance: {:?}, converted_users: {}, squared_total: {}, squared_events: {}{more} }}",
        row.variant,
        row.metric_name,
        row.user_count,
        row.event_count,
        row.total,
        row.conversion_rate,
        row.mean_value,
        row.variance,
        row.converted_users,
        row.squared_total,
        row.squared_events,
    )
}

fn more_0(more: &MoreSums) -> String {
    match more {
        MoreSums::Second {
            total,
            squared_total,
            product,
        } => format!(
            "Second {{ total: {total}, squared_total: {squared_total}, product: {product} }}"
        ),
        // Rows of this version are from before ties were counted.
        MoreSums::Quantile { quantile, ends, .. } => {
            format!("Quantile {{ quantile: {quantile:?}, ends: {ends:?} }}")
        }
        MoreSums::Winsorised {
            total,
            squared_total,
            ends,
            users,
        } => format!(
            "Winsorised {{ total: {total}, squared_total: {squared_total}, ends: {ends:?}, users: {users} }}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rusqlite::Connection;
    use trialog_model::ids::ExperimentId;
    use trialog_model::published::{Computation, Published};
    use trialog_model::time::UnixMicros;

    use crate::{Catalog, CatalogError};

    #[test]
    fn a_changed_run_or_time_is_found() {
        let computation = Computation {
            fingerprint: "f".to_owned(),
            forced_users: 1,
            unknown_variant: 2,
            not_aggregated: 3,
            ..Computation::empty(ExperimentId::new("gate").unwrap())
        };
        let mac_of = |run_id, at| {
            let look = super::PastLook {
                at: UnixMicros(at),
                run_id,
            };
            super::checksum(super::VERSION, &computation, look)
        };
        assert!(mac_of(1, 2).is_some() && mac_of(1, 2) == mac_of(1, 2));
        assert!(mac_of(1, 2) != mac_of(1 << 40 | 1, 2) && mac_of(1, 2) != mac_of(1, 3));
    }

    const FIXTURE: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../testdata/directories/schema_14/catalog.sqlite"
    );

    fn copy(directory: &Path) {
        std::fs::copy(FIXTURE, directory.join("catalog.sqlite")).unwrap();
    }

    fn read(catalog: &Catalog, id: &str, at: i64) -> Result<Option<Published>, CatalogError> {
        catalog.published(&ExperimentId::new(id).unwrap(), Some(UnixMicros(at)))
    }

    #[test]
    fn results_that_were_sealed_before_there_were_versions_are_read() {
        let directory = tempfile::tempdir().unwrap();
        copy(directory.path());
        let catalog = Catalog::open(directory.path()).unwrap();
        let all = [("gate", 14), ("empty", 0), ("none", 0)];
        for (id, n_rows) in all {
            let published = read(&catalog, id, i64::MAX).unwrap().unwrap();
            assert_eq!(published.computation.metrics.len(), n_rows, "{id}");
        }
        let first = read(&catalog, "gate", 1_795_933_938_492_070)
            .unwrap()
            .unwrap();
        assert_eq!(first.run_id, 2);
        assert_eq!(first.computation.metrics.len(), 14);
    }

    #[test]
    fn a_changed_digit_is_found_in_a_row_of_any_version() {
        for spoil in [
            "UPDATE computations SET forced_users = forced_users + 1",
            "UPDATE computations SET seal_version = 1",
            "UPDATE computations SET seal_version = 99",
            "UPDATE variant_exposures SET user_count = 31",
            "UPDATE variant_metrics SET mean_value = mean_value * 1.0000000000000002 WHERE metric_name = 'buy'",
            "UPDATE variant_metrics SET more = replace(more, '2', '3') WHERE metric_name = 'adjusted'",
            "UPDATE variant_metrics SET squared_events = '7' WHERE metric_name = 'back'",
            "DELETE FROM variant_metrics WHERE metric_name = 'visit'",
        ] {
            let directory = tempfile::tempdir().unwrap();
            copy(directory.path());
            drop(Catalog::open(directory.path()).unwrap());
            Connection::open(directory.path().join("catalog.sqlite"))
                .unwrap()
                .execute_batch(spoil)
                .unwrap();
            let catalog = Catalog::open(directory.path()).unwrap();
            let error = read(&catalog, "gate", i64::MAX).unwrap_err();
            assert!(error.to_string().contains("checksum"), "{spoil}: {error}");
        }
    }
}
