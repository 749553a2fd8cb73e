//! Runs statements on PostgreSQL, and manages the connections to it.
//!
//! A few connections are shared. One that broke since it was used last is replaced
//! before anything is asked on it; one that breaks in the middle of a transaction is
//! told to its caller, who alone knows whether that may be repeated.

use std::cell::RefCell;
use std::collections::HashMap;
use std::error::Error as _;
use std::ops::ControlFlow;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use fallible_iterator::FallibleIterator;
use postgres::error::SqlState;
use postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use postgres::{Client, Config, Transaction};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use trialog_model::percent::decode;

use super::{DatabaseError, Result, Row, Value, unreadable};

/// Connections that are open at a time; more work waits for one of them.
const MAX_CONNECTIONS: usize = 8;
/// Statements that are kept prepared on each.
const MAX_STATEMENTS: usize = 256;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The time after which the server cancels a statement.
const STATEMENT_TIMEOUT: &str = "60s";

/// The isolation and permissions of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// It reads one state of the database.
    Read,
    /// It writes, and no other that holds the same lock does at the same time.
    Exclusive(i64),
    /// It writes rows that it locks one by one.
    Shared,
}

/// A connection with its prepared statements.
pub(crate) struct Pooled {
    client: Client,
    statements: HashMap<String, postgres::Statement>,
}

/// The connections to one database.
pub(crate) struct Pool {
    config: Config,
    tls: tokio_postgres_rustls::MakeRustlsConnect,
    /// As people are shown it, without a password.
    place: String,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<Pooled>,
    n_open: usize,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("place", &self.place).finish()
    }
}

/// `reason` without the parts of an address that it quotes, which may be of a password; words
/// such as `sslmode` stay.
fn without_parts(reason: &str) -> String {
    let is_word = |part: &str| {
        part.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    let shown = |(place, part): (usize, &str)| match place % 2 == 1 && !is_word(part) {
        true => "...".to_owned(),
        false => part.to_owned(),
    };
    let parts: Vec<String> = reason.split('`').enumerate().map(shown).collect();
    parts.join("`")
}

impl Pool {
    /// Creates a pool for the database at `url`, which is `postgres://user:password@host/name`;
    /// `sslrootcert=FILE` in its query names the authorities of its certificate.
    pub(crate) fn new(url: &str) -> std::result::Result<Self, String> {
        let (url, authorities) = without_authorities(url);
        let tls = tls(authorities.as_deref())?;
        let mut config: Config = url
            .parse()
            .map_err(|error: postgres::Error| without_parts(&chain(&error)))?;
        config.application_name("trialog");
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        config.keepalives_idle(Duration::from_secs(30));
        Ok(Self {
            place: place(&config),
            tls,
            config,
            state: Mutex::default(),
            freed: Condvar::new(),
        })
    }

    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// Opens a connection outside the pool.
    pub(crate) fn connect(&self) -> Result<Client> {
        let refused = |error: postgres::Error| match error.as_db_error() {
            // It answered, and its answer stays valid until a client changes something.
            Some(_) if !is_transient(&error) => DatabaseError::Postgres(error),
            Some(_) => DatabaseError::Unreachable(chain(&error)),
            None => DatabaseError::Unreachable(format!(
                "cannot connect: {}; check that PostgreSQL runs at the address in `catalog`",
                chain(&error)
            )),
        };
        let mut client = self.config.connect(self.tls.clone()).map_err(refused)?;
        client
            .batch_execute(&format!("SET statement_timeout = '{STATEMENT_TIMEOUT}'"))
            .map_err(DatabaseError::Postgres)?;
        Ok(client)
    }

    /// Runs `work` in a transaction, and commits it unless it fails.
    pub(crate) fn transact<T, E: From<DatabaseError>>(
        &self,
        access: Access,
        work: impl FnOnce(&super::Connection<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let mut lent = Lent {
            pool: self,
            pooled: Some(self.take(access)?),
        };
        match &mut lent.pooled {
            Some(pooled) => run(pooled, access, work),
            None => unreachable!("it was lent a line before"),
        }
    }

    /// A connection that works.
    fn take(&self, access: Access) -> Result<Pooled> {
        loop {
            let mut pooled = self.free_or_new()?;
            // Asked once before it is used, a connection that broke meanwhile costs nothing
            // but this: a restart of the database is not seen by what comes after it.
            match pooled.client.batch_execute(begin(access)) {
                Ok(()) => return Ok(pooled),
                Err(error) if pooled.client.is_closed() || is_transient(&error) => {
                    drop(pooled);
                    self.note_closed();
                }
                Err(error) => {
                    self.put_back(pooled);
                    return Err(DatabaseError::Postgres(error));
                }
            }
        }
    }

    fn free_or_new(&self) -> Result<Pooled> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(pooled) = state.idle.pop() {
                return Ok(pooled);
            }
            if state.n_open < MAX_CONNECTIONS {
                state.n_open += 1;
                drop(state);
                let connected = self.connect().inspect_err(|_| self.note_closed())?;
                return Ok(Pooled {
                    client: connected,
                    statements: HashMap::new(),
                });
            }
            state = (self.freed.wait(state)).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn put_back(&self, pooled: Pooled) {
        if pooled.client.is_closed() {
            self.note_closed();
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.idle.push(pooled);
        self.freed.notify_one();
    }

    fn note_closed(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.n_open -= 1;
        self.freed.notify_one();
    }
}

/// A connection until it is given back, also where the work on it panics.
struct Lent<'p> {
    pool: &'p Pool,
    pooled: Option<Pooled>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        match self.pooled.take() {
            // In the middle of a transaction that nobody ends any more.
            Some(_) if std::thread::panicking() => self.pool.note_closed(),
            Some(pooled) => self.pool.put_back(pooled),
            None => {}
        }
    }
}

fn begin(access: Access) -> &'static str {
    match access {
        Access::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        Access::Exclusive(_) | Access::Shared => "BEGIN",
    }
}

/// Runs `work` in the transaction that was begun on `pooled`, and ends it.
fn run<T, E: From<DatabaseError>>(
    pooled: &mut Pooled,
    access: Access,
    work: impl FnOnce(&super::Connection<'_>) -> std::result::Result<T, E>,
) -> std::result::Result<T, E> {
    let outcome = {
        let session = Session(RefCell::new(pooled));
        let locked = match access {
            Access::Exclusive(lock) => session
                .execute("SELECT pg_advisory_xact_lock(?1)", &[Value::Integer(lock)])
                .map(drop),
            _ => Ok(()),
        };
        let connection = super::Connection::Postgres(session);
        locked.map_err(E::from).and_then(|()| work(&connection))
    };
    let end = if outcome.is_ok() {
        "COMMIT"
    } else {
        "ROLLBACK"
    };
    match (pooled.client.batch_execute(end), outcome) {
        (Err(error), Ok(_)) => Err(DatabaseError::Postgres(error).into()),
        (_, outcome) => outcome,
    }
}

/// A connection inside a transaction.
pub struct Session<'a>(RefCell<&'a mut Pooled>);

impl Session<'_> {
    pub(super) fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<usize> {
        let mut pooled = self.0.borrow_mut();
        let statement = pooled.prepared(sql)?;
        let parameters: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        let changed =
            (pooled.client.execute(&statement, &parameters)).map_err(DatabaseError::Postgres)?;
        Ok(changed as usize)
    }

    /// Passes the rows to `each`. They are collected first, because `each` may use the connection.
    pub(super) fn each(
        &self,
        sql: &str,
        values: &[Value<'_>],
        mut each: impl FnMut(&Row<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let rows = {
            let mut pooled = self.0.borrow_mut();
            let statement = pooled.prepared(sql)?;
            let parameters = values.iter().map(|value| value as &(dyn ToSql + Sync));
            let rows: Vec<postgres::Row> = (pooled.client.query_raw(&statement, parameters))
                .and_then(FallibleIterator::collect)
                .map_err(DatabaseError::Postgres)?;
            rows
        };
        for row in &rows {
            if each(&Row::Postgres(row))?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl Pooled {
    fn prepared(&mut self, sql: &str) -> Result<postgres::Statement> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        if self.statements.len() >= MAX_STATEMENTS {
            self.statements.clear();
        }
        let statement = (self.client.prepare(&numbered(sql))).map_err(DatabaseError::Postgres)?;
        self.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

/// `sql` with `$1` for `?1`.
fn numbered(sql: &str) -> String {
    sql.replace('?', "$")
}

pub(super) fn value(row: &postgres::Row, column: usize) -> Result<Value<'_>> {
    let column_type = row.columns().get(column);
    let kind = column_type
        .ok_or_else(|| unreadable(column, "there is no such column"))?
        .type_();
    let read = match *kind {
        Type::INT8 => row
            .try_get::<_, Option<i64>>(column)
            .map(|found| found.map(Value::Integer)),
        Type::INT4 => (row.try_get::<_, Option<i32>>(column))
            .map(|found| found.map(|number| Value::Integer(number.into()))),
        Type::BOOL => (row.try_get::<_, Option<bool>>(column))
            .map(|found| found.map(|number| Value::Integer(number.into()))),
        Type::FLOAT8 => row
            .try_get::<_, Option<f64>>(column)
            .map(|found| found.map(Value::Real)),
        Type::BYTEA => row
            .try_get::<_, Option<&[u8]>>(column)
            .map(|found| found.map(Value::Bytes)),
        _ => row
            .try_get::<_, Option<&str>>(column)
            .map(|found| found.map(Value::Text)),
    };
    Ok(read
        .map_err(DatabaseError::Postgres)?
        .unwrap_or(Value::Null))
}

impl ToSql for Value<'_> {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut bytes::BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match (self, kind) {
            (Value::Null, _) => Ok(IsNull::Yes),
            (Value::Integer(number), &Type::INT4) => i32::try_from(*number)?.to_sql(kind, out),
            (Value::Integer(number), &Type::FLOAT8) => (*number as f64).to_sql(kind, out),
            (Value::Integer(number), _) => number.to_sql(kind, out),
            (Value::Real(number), _) => number.to_sql(kind, out),
            (Value::Text(text), _) => text.to_sql(kind, out),
            (Value::Bytes(bytes), _) => bytes.to_sql(kind, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// Returns whether the connection or the server is temporarily unavailable.
pub(super) fn is_transient(error: &postgres::Error) -> bool {
    // Class 08 is about connections, 57P0x a server that stops or starts, 40 a
    // transaction that lost against another, 53 a server out of a resource.
    let transient = ["08", "57P0", "40", "53"];
    match error.code() {
        Some(code) => transient.iter().any(|class| code.code().starts_with(class)),
        None => true,
    }
}

/// Formats an error with its causes: by itself, `postgres` says no more than "db error".
pub(super) fn describe(error: &postgres::Error) -> String {
    chain(error)
}

/// What a person can do about an error of the server.
fn remedy(code: &SqlState) -> Option<&'static str> {
    Some(match code.code() {
        "28P01" | "28000" => "check the user and the password in `catalog`",
        "3D000" => "create the database that `catalog` names: CREATE DATABASE trialog",
        "42501" => "give the user of `catalog` the right to create tables in its database",
        "53300" => "raise max_connections of PostgreSQL: each process of Trialog takes up to 9",
        "53100" => "free space on the disk of PostgreSQL",
        _ => return None,
    })
}

fn chain(error: &postgres::Error) -> String {
    if let Some(server_error) = error.as_db_error() {
        return match remedy(server_error.code()).or(server_error.hint()) {
            Some(remedy) => format!("{}; {remedy}", server_error.message()),
            None => server_error.message().to_owned(),
        };
    }
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Where the database is, for people.
fn place(config: &Config) -> String {
    let hosts: Vec<String> = (config.get_hosts().iter().enumerate())
        .map(|(at, host)| {
            let ports = config.get_ports();
            let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
            match host {
                postgres::config::Host::Tcp(name) => format!("{name}:{port}"),
                #[cfg(unix)]
                postgres::config::Host::Unix(path) => path.display().to_string(),
            }
        })
        .collect();
    let name = config
        .get_dbname()
        .or(config.get_user())
        .unwrap_or_default();
    format!("postgres://{}/{name}", hosts.join(","))
}

/// Returns `url` without `sslrootcert`, which libpq knows and the client does not, and its value.
fn without_authorities(url: &str) -> (String, Option<String>) {
    let Some((address, query)) = url.split_once('?') else {
        return (url.to_owned(), None);
    };
    let (authorities, rest): (Vec<&str>, Vec<&str>) =
        (query.split('&')).partition(|pair| pair.starts_with("sslrootcert="));
    let file = authorities
        .last()
        .and_then(|pair| decode(pair.split_once('=')?.1));
    let question = if rest.is_empty() { "" } else { "?" };
    (format!("{address}{question}{}", rest.join("&")), file)
}

/// TLS with the authorities in the PEM file `authorities`, else the public ones.
fn tls(
    authorities: Option<&str>,
) -> std::result::Result<tokio_postgres_rustls::MakeRustlsConnect, String> {
    let mut roots = rustls::RootCertStore::empty();
    match authorities {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(file) => {
            let wrong = |error: &dyn std::fmt::Display| format!("sslrootcert `{file}`: {error}");
            let certificates =
                CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| wrong(&error))?;
                roots.add(certificate).map_err(|error| wrong(&error))?;
            }
            if roots.is_empty() {
                return Err(wrong(&"it has no certificate"));
            }
        }
    }
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(tokio_postgres_rustls::MakeRustlsConnect::new(config))
}

/// Runs migrations in a transaction of the crate `postgres`.
pub(crate) fn migrate(
    client: &mut Client,
    steps: &[&str],
) -> std::result::Result<(), MigrateError> {
    let mut transaction: Transaction<'_> = client.transaction()?;
    // Several replicas may start at once.
    transaction.batch_execute(&format!("SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))?;
    transaction.batch_execute(
        "CREATE TABLE IF NOT EXISTS schema_versions (version BIGINT PRIMARY KEY, trialog TEXT NOT NULL)",
    )?;
    let row =
        transaction.query_one("SELECT coalesce(max(version), 0) FROM schema_versions", &[])?;
    let (found, known) = (row.get::<_, i64>(0), steps.len() as i64);
    if found > known {
        let row = transaction.query_one(
            "SELECT trialog FROM schema_versions WHERE version = $1",
            &[&found],
        )?;
        let needs = row.get(0);
        return Err(MigrateError::Newer {
            found,
            known,
            needs,
        });
    }
    for (version, step) in (1i64..).zip(steps).skip(found.unsigned_abs() as usize) {
        transaction.batch_execute(step)?;
        let trialog = env!("CARGO_PKG_VERSION");
        transaction.execute(
            "INSERT INTO schema_versions VALUES ($1, $2)",
            &[&version, &trialog],
        )?;
    }
    Ok(transaction.commit()?)
}

/// The advisory locks of a catalog: any numbers that no other program uses.
const MIGRATION_LOCK: i64 = 0x7472_6961_0001;
pub(crate) const REGISTRY_LOCK: i64 = 0x7472_6961_0002;
pub(crate) const JOURNAL_LOCK: i64 = 0x7472_6961_0003;

/// The reason why a migration failed.
#[derive(Debug)]
pub(crate) enum MigrateError {
    Database(postgres::Error),
    Newer {
        found: i64,
        known: i64,
        needs: String,
    },
}

impl From<postgres::Error> for MigrateError {
    fn from(error: postgres::Error) -> Self {
        Self::Database(error)
    }
}
