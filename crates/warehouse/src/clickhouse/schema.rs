//! Migrates the tables of ClickHouse step by step.
//!
//! ClickHouse has no transactions, so every step is written to be taken twice,
//! and the list of steps that were taken is only a hint at what is left to do.

use super::client::Client;
use super::sql::statements;
use crate::error::WarehouseError;

/// The steps from an empty database to the newest schema; one that was released
/// never changes. The second text is for a cluster.
const STEPS: &[(&str, &str)] = &[
    (
        include_str!("sql/schema_1.sql"),
        include_str!("sql/distributed_1.sql"),
    ),
    (
        include_str!("sql/schema_2.sql"),
        include_str!("sql/distributed_2.sql"),
    ),
];

/// Creates the tables, or brings them to the newest schema.
pub(super) fn migrate(client: &Client) -> Result<(), WarehouseError> {
    let names = Names::from_client(client);
    let action = "bring the tables";
    client.run(action, &names.fill(include_str!("sql/versions.sql")))?;
    let sql = "SELECT toUInt32(max(version)), argMax(trialog, version) FROM schema_versions FORMAT JSONCompactEachRow";
    let rows = client.rows::<(u32, String)>("read the schema's version", sql)?;
    let (found, needs) = rows.into_iter().next().unwrap_or_default();
    let known = STEPS.len() as u32;
    if found > known {
        return Err(WarehouseError::Server {
            action,
            place: client.place().to_owned(),
            what: format!(
                "it has schema version {found}, this binary knows up to {known}: run trialog {needs} or newer"
            ),
            is_transient: false,
        });
    }
    for (version, (tables, distributed)) in (1..).zip(STEPS).skip(found as usize) {
        let distributed = if names.cluster.is_some() {
            distributed
        } else {
            ""
        };
        for text in [tables, distributed] {
            for statement in statements(&names.fill(text)) {
                client.run(action, statement)?;
            }
        }
        let trialog = env!("CARGO_PKG_VERSION");
        let sql = format!(
            "INSERT INTO schema_versions (version, trialog) VALUES ({version}, '{trialog}')"
        );
        client.run(action, &sql)?;
    }
    Ok(())
}

/// Returns the schema version of the database, 0 for none, and the newest that this binary knows.
pub(super) fn inspect(client: &Client) -> Result<(u32, u32), WarehouseError> {
    let known = STEPS.len() as u32;
    let action = "inspect the tables";
    let sql = "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = 'schema_versions' FORMAT JSONCompactEachRow";
    if client.rows::<(u64,)>(action, sql)? == [(0,)] {
        return Ok((0, known));
    }
    let sql = "SELECT toUInt32(max(version)) FROM schema_versions FORMAT JSONCompactEachRow";
    let found = client.rows::<(u32,)>(action, sql)?;
    Ok((found.first().map_or(0, |row| row.0), known))
}

/// The names that are filled in in the statements of a step.
struct Names {
    cluster: Option<String>,
    database: String,
}

impl Names {
    fn from_client(client: &Client) -> Self {
        Self {
            cluster: client.address().cluster.clone(),
            database: client.address().database.clone(),
        }
    }

    fn fill(&self, text: &str) -> String {
        let (suffix, on_cluster, engine, settings) = match &self.cluster {
            None => (
                "",
                String::new(),
                "MergeTree".to_owned(),
                // How many insertions the server remembers the tokens of.
                "non_replicated_deduplication_window = 1000",
            ),
            Some(cluster) => (
                "_local",
                format!("ON CLUSTER {cluster}"),
                "ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')"
                    .to_owned(),
                "replicated_deduplication_window = 1000",
            ),
        };
        let text = text
            .replace("{assignments}", &format!("assignments{suffix}"))
            .replace("{metric_events}", &format!("metric_events{suffix}"))
            .replace("{on_cluster}", &on_cluster)
            .replace("{settings}", settings)
            .replace("{cluster}", self.cluster.as_deref().unwrap_or_default());
        // The engine last: what stands in braces in it is the server's to fill in.
        let text = text.replace("{database}", &self.database);
        text.replace("{engine}", &engine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(cluster: Option<&str>, text: &str) -> String {
        let cluster = cluster.map(str::to_owned);
        Names {
            cluster,
            database: "d".to_owned(),
        }
        .fill(text)
    }

    #[test]
    fn a_cluster_has_replicated_tables_on_each_shard_behind_distributed_ones() {
        let tables = filled(Some("c"), STEPS[0].0);
        assert!(
            tables.contains("assignments_local ON CLUSTER c ("),
            "{tables}"
        );
        assert!(
            tables.contains("{shard}"),
            "the server fills in its own names: {tables}"
        );
        let distributed = filled(Some("c"), STEPS[0].1);
        assert!(
            distributed
                .contains("Distributed(c, d, metric_events_local, cityHash64(experiment_id))"),
            "{distributed}"
        );
        let single = filled(None, STEPS[0].0);
        assert!(
            single.contains("= MergeTree\n") && !single.contains('{'),
            "{single}"
        );
        assert_eq!(statements(&single).count(), 2);
    }

    #[test]
    fn a_cluster_gets_a_new_column_on_each_shard_and_before_them() {
        let (tables, distributed) = STEPS[1];
        let tables = filled(Some("c"), tables);
        assert!(
            tables.contains("ALTER TABLE assignments_local ON CLUSTER c ADD COLUMN"),
            "{tables}"
        );
        let distributed = filled(Some("c"), distributed);
        assert!(
            distributed.contains("ALTER TABLE assignments ON CLUSTER c ADD COLUMN"),
            "{distributed}"
        );
    }
}
