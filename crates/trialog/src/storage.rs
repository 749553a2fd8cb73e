//! Parses where the data is and which roles this process has: the settings `catalog`, `warehouse`,
//! `event_log` and `roles`, and their combinations.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

#[cfg(feature = "postgres")]
use anyhow::Context;
use anyhow::bail;
use trialog_catalog::Catalog;
#[cfg(feature = "kafka")]
use trialog_pipeline::kafka::KafkaAddress;

use crate::config::Values;

/// The roles of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Roles {
    /// Serves the API and the dashboard.
    pub(crate) api: bool,
    /// Takes events from the event log to the warehouse.
    pub(crate) consumer: bool,
    /// Aggregates on schedule.
    pub(crate) aggregator: bool,
}

impl Roles {
    const ALL: Self = Self {
        api: true,
        consumer: true,
        aggregator: true,
    };
}

impl FromStr for Roles {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut roles = Self {
            api: false,
            consumer: false,
            aggregator: false,
        };
        for role in text.split(',').map(str::trim) {
            match role {
                "api" => roles.api = true,
                "consumer" => roles.consumer = true,
                "aggregator" => roles.aggregator = true,
                other => bail!(
                    "`{other}` in `roles` is no role: give one or more of api, consumer, aggregator, separated by commas"
                ),
            }
        }
        Ok(roles)
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roles = [
            (self.api, "api"),
            (self.consumer, "consumer"),
            (self.aggregator, "aggregator"),
        ];
        let names: Vec<&str> = roles
            .iter()
            .filter(|role| role.0)
            .map(|role| role.1)
            .collect();
        f.write_str(&names.join(","))
    }
}

/// The places of all data.
#[derive(Clone)]
pub(crate) struct Storage {
    /// A PostgreSQL database; without one, a file in the data directory.
    catalog: Option<String>,
    /// ClickHouse; without it, files in the data directory.
    #[cfg(feature = "clickhouse")]
    pub(crate) warehouse: Option<trialog_warehouse::clickhouse::Address>,
    /// Kafka; without it, events go to the warehouse at once.
    #[cfg(feature = "kafka")]
    pub(crate) event_log: Option<KafkaAddress>,
    pub(crate) roles: Roles,
}

/// Addresses have passwords in them.
impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage")
            .field("roles", &self.roles)
            .finish_non_exhaustive()
    }
}

impl Storage {
    pub(crate) fn from_values(values: &Values) -> anyhow::Result<Self> {
        let storage = Self {
            catalog: catalog(values.text("catalog"))?,
            #[cfg(feature = "clickhouse")]
            warehouse: parsed(values.text("warehouse"))?,
            #[cfg(feature = "kafka")]
            event_log: parsed(values.text("event_log"))?,
            roles: values.text("roles").unwrap_or_default().parse()?,
        };
        #[cfg(not(feature = "clickhouse"))]
        without("clickhouse", "warehouse", values)?;
        #[cfg(not(feature = "kafka"))]
        without("kafka", "event_log", values)?;
        storage.check()?;
        Ok(storage)
    }

    /// Refuses what cannot go together, with the reason.
    fn check(&self) -> anyhow::Result<()> {
        let roles = self.roles;
        if roles != Roles::ALL && !self.has_clickhouse() {
            bail!(
                "`roles` is `{roles}`, but the embedded warehouse keeps all roles in one process: leave `roles` out, or give `warehouse` such as clickhouse://host:8123/trialog"
            );
        }
        if roles != Roles::ALL && self.catalog.is_none() {
            bail!(
                "`roles` is `{roles}`, but the catalog is a file, which one process with all roles holds: leave `roles` out, or give `catalog` such as postgres://host/trialog"
            );
        }
        if roles.consumer && roles != Roles::ALL && !self.has_kafka() {
            bail!(
                "`roles` is `{roles}`, but there is nothing to consume: give `event_log` such as kafka://broker:9092, or leave consumer out"
            );
        }
        Ok(())
    }

    pub(crate) fn has_clickhouse(&self) -> bool {
        #[cfg(feature = "clickhouse")]
        return self.warehouse.is_some();
        #[cfg(not(feature = "clickhouse"))]
        false
    }

    pub(crate) fn has_kafka(&self) -> bool {
        #[cfg(feature = "kafka")]
        return self.event_log.is_some();
        #[cfg(not(feature = "kafka"))]
        false
    }

    /// Returns whether anything is in the data directory, which one process holds at a time.
    pub(crate) fn needs_directory(&self) -> bool {
        self.catalog.is_none() || !self.has_clickhouse()
    }

    /// Returns whether the catalog is outside the data directory.
    pub(crate) fn has_shared_catalog(&self) -> bool {
        self.catalog.is_some()
    }

    /// Returns the address of the catalog, if it is outside the data directory.
    #[cfg(feature = "postgres")]
    pub(crate) fn catalog_address(&self) -> Option<&str> {
        self.catalog.as_deref()
    }

    /// Opens the catalog.
    pub(crate) fn open_catalog(&self, directory: &Path) -> anyhow::Result<Arc<Catalog>> {
        #[cfg(feature = "postgres")]
        if let Some(address) = &self.catalog {
            let catalog = Catalog::connect(address);
            return Ok(Arc::new(catalog.context("cannot use `catalog`")?));
        }
        Ok(Arc::new(Catalog::open(directory)?))
    }
}

fn catalog(text: Option<&str>) -> anyhow::Result<Option<String>> {
    let Some(text) = text else { return Ok(None) };
    if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        bail!(
            "`catalog` does not begin with postgres://: give an address such as postgres://user:password@host:5432/trialog, or leave it out for a file in the data directory"
        );
    }
    if cfg!(not(feature = "postgres")) {
        bail!(
            "`catalog` is set, but this binary was built without the feature `postgres`: build it with it, or leave `catalog` out"
        );
    }
    Ok(Some(text.to_owned()))
}

#[cfg(any(feature = "clickhouse", feature = "kafka"))]
fn parsed<T: FromStr<Err = String>>(text: Option<&str>) -> anyhow::Result<Option<T>> {
    text.map(|text| text.parse().map_err(anyhow::Error::msg))
        .transpose()
}

#[cfg(not(all(feature = "clickhouse", feature = "kafka")))]
fn without(feature: &str, key: &str, values: &Values) -> anyhow::Result<()> {
    if values.text(key).is_some() {
        bail!(
            "`{key}` is set, but this binary was built without the feature `{feature}`: build it with it, or leave `{key}` out"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_and_shown() {
        let roles: Roles = "aggregator, api".parse().unwrap();
        assert_eq!(
            (roles.api, roles.consumer, roles.aggregator),
            (true, false, true)
        );
        assert_eq!(roles.to_string(), "api,aggregator");
        assert!(
            "api,web"
                .parse::<Roles>()
                .unwrap_err()
                .to_string()
                .contains("`web`")
        );
    }
}
