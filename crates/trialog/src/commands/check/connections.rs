//! Checks the servers that the settings name, without changing them.

use trialog_model::time::UnixMicros;

use super::Finding;
use crate::storage::Storage;

/// Returns a finding for each server, and the number of API keys in a catalog that is not a file.
pub(super) fn inspect(storage: &Storage, now: UnixMicros) -> (Vec<Finding>, Option<u64>) {
    let mut findings = Vec::new();
    let mut n_keys = None;
    #[cfg(feature = "postgres")]
    if let Some(address) = storage.catalog_address() {
        findings.push(match trialog_catalog::inspect_server(address, now) {
            Ok(seen) => {
                n_keys = Some(seen.n_usable_keys);
                schema("catalog", seen.schema.found, seen.schema.known)
            }
            Err(error) => Finding::failed("catalog", error.to_string()),
        });
    }
    #[cfg(feature = "clickhouse")]
    if let Some(address) = &storage.warehouse {
        let seen = trialog_warehouse::clickhouse::ClickHouse::inspect(address.clone());
        findings.push(match seen {
            Ok((found, known)) => schema("warehouse", found.into(), known.into()),
            Err(error) => Finding::failed("warehouse", error.chain()),
        });
    }
    #[cfg(feature = "kafka")]
    if let Some(address) = &storage.event_log {
        findings.push(topics(address));
    }
    let _ = (storage, now, &mut n_keys);
    findings.push(Finding::good("roles", storage.roles.to_string()));
    (findings, n_keys)
}

#[cfg(any(feature = "clickhouse", feature = "postgres"))]
fn schema(check: &'static str, found: i64, known: i64) -> Finding {
    if found > known {
        let detail = format!(
            "it answers, but has schema version {found}, and this binary knows up to {known}: run a newer one"
        );
        return Finding::failed(check, detail);
    }
    Finding::good(
        check,
        match found {
            0 => "it answers, and is empty: `trialog serve` brings its tables".to_owned(),
            found if found < known => {
                format!(
                    "it answers, and has schema version {found}: `trialog serve` brings it to {known}"
                )
            }
            found => format!("it answers, and has schema version {found}"),
        },
    )
}

#[cfg(feature = "kafka")]
fn topics(address: &trialog_pipeline::kafka::KafkaAddress) -> Finding {
    match trialog_pipeline::kafka::topics::check(address) {
        Ok(topics) => {
            let shown: Vec<String> = (topics.iter())
                .map(|topic| format!("`{}` with {}", topic.topic, topic.partitions))
                .collect();
            Finding::good(
                "event_log",
                format!(
                    "it answers, and has the topics {} partitions",
                    shown.join(", ")
                ),
            )
        }
        Err(error) => Finding::failed("event_log", error.to_string()),
    }
}
