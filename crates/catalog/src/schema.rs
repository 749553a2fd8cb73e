//! Defines the tables of `catalog.sqlite`, one step per schema version.
//!
//! Times are microseconds since 1970, UTC. Sums that exceed 64 bits are
//! decimal text, so that they stay exact. A table with a column `seal` has a
//! checksum in every row; a computation has one over all its rows.

use trialog_sqlite::{Migration, sql};

/// The steps from an empty file to the newest schema. A released step never changes.
pub(crate) const MIGRATIONS: &[Migration] = &[
    sql!(EXPERIMENTS_AND_RESULTS),
    sql!(SEALS),
    sql!(API_KEYS),
    sql!(ERASURES),
    sql!(DROPPED_EVENTS),
    sql!(LIFE_CYCLE),
    crate::experiments::create_index,
    crate::links::create_metrics,
    sql!(MORE_SUMS),
    crate::layers::create_tables,
    crate::holdouts::CREATE_TABLE,
    crate::links::create_surfaces,
    crate::configuration::CREATE_TABLE,
    sql!(include_str!("schema/sqlite_14.sql")),
    sql!(include_str!("schema/sqlite_15.sql")),
    sql!(include_str!("schema/sqlite_16.sql")),
    sql!(include_str!("schema/sqlite_17.sql")),
    sql!(include_str!("schema/sqlite_18.sql")),
    sql!(include_str!("schema/sqlite_19.sql")),
    sql!(include_str!("schema/sqlite_20.sql")),
    sql!(include_str!("schema/sqlite_21.sql")),
    sql!(include_str!("schema/sqlite_22.sql")),
    sql!(include_str!("schema/sqlite_23.sql")),
    sql!(include_str!("schema/sqlite_24.sql")),
];

const EXPERIMENTS_AND_RESULTS: &str = "
CREATE TABLE experiments (
    experiment_id     TEXT    PRIMARY KEY,
    status            TEXT    NOT NULL,
    definition        TEXT    NOT NULL,
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,
    started_at        INTEGER,
    stopped_at        INTEGER,
    revision          INTEGER NOT NULL,
    computed_revision INTEGER NOT NULL,
    recompute_at      INTEGER,
    failure           TEXT
) WITHOUT ROWID;
CREATE INDEX experiments_by_status ON experiments (status, experiment_id);
CREATE INDEX experiments_changed ON experiments (experiment_id) WHERE revision <> computed_revision;
CREATE INDEX experiments_due ON experiments (recompute_at) WHERE recompute_at IS NOT NULL;
CREATE INDEX experiments_failed ON experiments (experiment_id) WHERE failure IS NOT NULL;

CREATE TABLE computations (
    experiment_id   TEXT    NOT NULL,
    computed_at     INTEGER NOT NULL,
    run_id          INTEGER NOT NULL,
    fingerprint     TEXT    NOT NULL,
    forced_users    INTEGER NOT NULL,
    unknown_variant INTEGER NOT NULL,
    not_aggregated  INTEGER NOT NULL,
    checksum        INTEGER NOT NULL,
    PRIMARY KEY (experiment_id, computed_at)
) WITHOUT ROWID;

CREATE TABLE variant_exposures (
    experiment_id   TEXT    NOT NULL,
    computed_at     INTEGER NOT NULL,
    variant         TEXT    NOT NULL,
    user_count      INTEGER NOT NULL,
    crossover_users INTEGER NOT NULL,
    PRIMARY KEY (experiment_id, computed_at, variant)
) WITHOUT ROWID;

CREATE TABLE variant_metrics (
    experiment_id   TEXT    NOT NULL,
    variant         TEXT    NOT NULL,
    metric_name     TEXT    NOT NULL,
    computed_at     INTEGER NOT NULL,
    user_count      INTEGER NOT NULL,
    event_count     INTEGER NOT NULL,
    total_value     TEXT    NOT NULL,
    conversion_rate REAL    NOT NULL,
    mean_value      REAL    NOT NULL,
    variance        REAL,
    converted_users INTEGER NOT NULL,
    squared_total   TEXT    NOT NULL,
    squared_events  TEXT    NOT NULL,
    run_id          INTEGER NOT NULL,
    fingerprint     TEXT    NOT NULL,
    PRIMARY KEY (experiment_id, computed_at, variant, metric_name)
) WITHOUT ROWID;

CREATE TABLE pipeline_state (
    source    TEXT    PRIMARY KEY,
    position  INTEGER NOT NULL,
    data_time INTEGER NOT NULL,
    run_id    INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE pipeline_runs (
    run_id        INTEGER PRIMARY KEY AUTOINCREMENT,
    cause         TEXT    NOT NULL,
    attempt       INTEGER NOT NULL,
    status        TEXT    NOT NULL,
    started_at    INTEGER NOT NULL,
    finished_at   INTEGER,
    position      INTEGER,
    n_experiments INTEGER,
    n_failed      INTEGER,
    error         TEXT
);
";

const SEALS: &str = "
ALTER TABLE experiments ADD COLUMN seal INTEGER;
ALTER TABLE pipeline_state ADD COLUMN seal INTEGER;
";

const API_KEYS: &str = "
CREATE TABLE api_keys (
    key_id       TEXT    PRIMARY KEY,
    name         TEXT    NOT NULL,
    scopes       TEXT    NOT NULL,
    secret_hash  BLOB    NOT NULL,
    created_at   INTEGER NOT NULL,
    created_by   TEXT    NOT NULL,
    expires_at   INTEGER,
    revoked_at   INTEGER,
    last_used_at INTEGER,
    seal         INTEGER
) WITHOUT ROWID;
CREATE UNIQUE INDEX api_keys_by_name ON api_keys (name) WHERE revoked_at IS NULL;
";

const ERASURES: &str = "
CREATE TABLE erasures (
    erasure_id    INTEGER PRIMARY KEY AUTOINCREMENT,
    requested_at  INTEGER NOT NULL,
    finished_at   INTEGER,
    actor         TEXT    NOT NULL,
    salt          TEXT    NOT NULL,
    user_hash     TEXT    NOT NULL,
    experiment_id TEXT,
    n_events      INTEGER NOT NULL,
    n_experiments INTEGER NOT NULL,
    seal          INTEGER
);
";

const DROPPED_EVENTS: &str = "
CREATE TABLE dropped_events (
    experiment_id  TEXT    PRIMARY KEY,
    dropped_before INTEGER NOT NULL,
    n_events       INTEGER NOT NULL,
    dropped_at     INTEGER NOT NULL,
    seal           INTEGER
) WITHOUT ROWID;
";

/// What only some kinds of metrics have: a word and its numbers, exact, see `MoreSums`.
const MORE_SUMS: &str = "
ALTER TABLE variant_metrics ADD COLUMN more TEXT;
";

/// `change` numbers every state of every experiment in the order in which they were made. All rows
/// are sealed again, because seals cover all columns.
const LIFE_CYCLE: &str = "
ALTER TABLE experiments ADD COLUMN archived_at INTEGER;
ALTER TABLE experiments ADD COLUMN owner TEXT;
ALTER TABLE experiments ADD COLUMN change INTEGER NOT NULL DEFAULT 0;
UPDATE experiments SET owner = json_extract(definition, '$.owner'), change = numbered.change, seal = NULL
FROM (SELECT experiment_id AS id, row_number() OVER (ORDER BY updated_at, experiment_id) AS change FROM experiments) AS numbered
WHERE numbered.id = experiment_id;
CREATE UNIQUE INDEX experiments_by_change ON experiments (change);
CREATE INDEX experiments_by_status_and_change ON experiments (status, change);
CREATE INDEX experiments_by_owner ON experiments (owner, status, experiment_id);
CREATE INDEX experiments_by_owner_and_change ON experiments (owner, status, change);

CREATE TABLE audit (
    entry   INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    actor   TEXT    NOT NULL,
    subject TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    action  TEXT    NOT NULL,
    before  TEXT,
    after   TEXT,
    seal    INTEGER
);
CREATE INDEX audit_by_subject ON audit (subject, name, entry);
";
