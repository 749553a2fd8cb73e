//! An empty database of ClickHouse for each test, where there is a server.

#![expect(clippy::disallowed_methods, reason = "the variable is the tests' own")]

use std::sync::atomic::{AtomicU64, Ordering};

use trialog_warehouse::clickhouse::{Address, ClickHouse};

/// Numbers the databases of this process.
static N_DATABASES: AtomicU64 = AtomicU64::new(0);

/// An empty database on the server that `TRIALOG_TEST_CLICKHOUSE` names; none without it.
pub(crate) fn database() -> Option<ClickHouse> {
    let url = std::env::var("TRIALOG_TEST_CLICKHOUSE").ok()?;
    let number = N_DATABASES.fetch_add(1, Ordering::Relaxed);
    let name = format!("pipeline_{}_{number}", std::process::id());
    let address: Address = url.parse().unwrap();
    let server = ClickHouse::connect(address).unwrap();
    server.execute_in_tests(&format!("CREATE DATABASE {name}"));
    let (server, _) = url.rsplit_once('/').unwrap();
    let address: Address = format!("{server}/{name}").parse().unwrap();
    Some(ClickHouse::connect(address).unwrap())
}
