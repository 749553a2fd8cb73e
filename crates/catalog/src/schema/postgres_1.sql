-- The catalog's tables in PostgreSQL, the same as in SQLite. Texts are ordered
-- by their bytes, as everywhere in Trialog. Times are microseconds since 1970,
-- UTC; sums that exceed 64 bits are decimal text. The columns `seal` are empty:
-- PostgreSQL has checksums of its own.

CREATE TABLE experiments (
    experiment_id     TEXT COLLATE "C" PRIMARY KEY,
    status            TEXT   NOT NULL,
    definition        TEXT   NOT NULL,
    created_at        BIGINT NOT NULL,
    updated_at        BIGINT NOT NULL,
    started_at        BIGINT,
    stopped_at        BIGINT,
    revision          BIGINT NOT NULL,
    computed_revision BIGINT NOT NULL,
    recompute_at      BIGINT,
    failure           TEXT,
    archived_at       BIGINT,
    owner             TEXT COLLATE "C",
    change            BIGINT NOT NULL DEFAULT 0,
    seal              BIGINT
);
CREATE INDEX experiments_by_status ON experiments (status, experiment_id);
CREATE INDEX experiments_changed ON experiments (experiment_id) WHERE revision <> computed_revision;
CREATE INDEX experiments_due ON experiments (recompute_at) WHERE recompute_at IS NOT NULL;
CREATE INDEX experiments_failed ON experiments (experiment_id) WHERE failure IS NOT NULL;
CREATE UNIQUE INDEX experiments_by_change ON experiments (change);
CREATE INDEX experiments_by_status_and_change ON experiments (status, change);
CREATE INDEX experiments_by_owner ON experiments (owner, status, experiment_id);
CREATE INDEX experiments_by_owner_and_change ON experiments (owner, status, change);

-- What SQLite's full-text index holds: the grams of each state of an experiment.
CREATE TABLE experiment_search (
    change BIGINT PRIMARY KEY,
    tokens TEXT[] NOT NULL
);
CREATE INDEX experiment_search_by_token ON experiment_search USING gin (tokens);

CREATE TABLE experiment_surfaces (
    surface       TEXT COLLATE "C" NOT NULL,
    experiment_id TEXT COLLATE "C" NOT NULL,
    seal          BIGINT,
    PRIMARY KEY (surface, experiment_id)
);

CREATE TABLE experiment_metrics (
    metric_name   TEXT COLLATE "C" NOT NULL,
    experiment_id TEXT COLLATE "C" NOT NULL,
    seal          BIGINT,
    PRIMARY KEY (metric_name, experiment_id)
);

CREATE TABLE metric_definitions (
    name       TEXT COLLATE "C" PRIMARY KEY,
    definition TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision   BIGINT NOT NULL,
    seal       BIGINT
);

CREATE TABLE layers (
    name       TEXT COLLATE "C" PRIMARY KEY,
    definition TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision   BIGINT NOT NULL,
    seal       BIGINT
);

CREATE TABLE layer_ranges (
    layer         TEXT COLLATE "C" NOT NULL,
    first         BIGINT NOT NULL,
    past          BIGINT NOT NULL,
    experiment_id TEXT COLLATE "C" NOT NULL,
    seal          BIGINT,
    PRIMARY KEY (layer, first)
);
CREATE INDEX layer_ranges_by_experiment ON layer_ranges (experiment_id);

CREATE TABLE holdouts (
    name       TEXT COLLATE "C" PRIMARY KEY,
    status     TEXT   NOT NULL,
    definition TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    started_at BIGINT,
    stopped_at BIGINT,
    revision   BIGINT NOT NULL,
    seal       BIGINT
);

CREATE TABLE configuration (version BIGINT NOT NULL);
INSERT INTO configuration (version) VALUES (1);

CREATE TABLE computations (
    experiment_id   TEXT COLLATE "C" NOT NULL,
    computed_at     BIGINT NOT NULL,
    run_id          BIGINT NOT NULL,
    fingerprint     TEXT   NOT NULL,
    forced_users    BIGINT NOT NULL,
    unknown_variant BIGINT NOT NULL,
    not_aggregated  BIGINT NOT NULL,
    checksum        BIGINT NOT NULL,
    PRIMARY KEY (experiment_id, computed_at)
);

CREATE TABLE variant_exposures (
    experiment_id   TEXT COLLATE "C" NOT NULL,
    computed_at     BIGINT NOT NULL,
    variant         TEXT COLLATE "C" NOT NULL,
    user_count      BIGINT NOT NULL,
    crossover_users BIGINT NOT NULL,
    PRIMARY KEY (experiment_id, computed_at, variant)
);

CREATE TABLE variant_metrics (
    experiment_id   TEXT COLLATE "C" NOT NULL,
    variant         TEXT COLLATE "C" NOT NULL,
    metric_name     TEXT COLLATE "C" NOT NULL,
    computed_at     BIGINT NOT NULL,
    user_count      BIGINT NOT NULL,
    event_count     BIGINT NOT NULL,
    total_value     TEXT   NOT NULL,
    conversion_rate DOUBLE PRECISION NOT NULL,
    mean_value      DOUBLE PRECISION NOT NULL,
    variance        DOUBLE PRECISION,
    converted_users BIGINT NOT NULL,
    squared_total   TEXT   NOT NULL,
    squared_events  TEXT   NOT NULL,
    run_id          BIGINT NOT NULL,
    fingerprint     TEXT   NOT NULL,
    more            TEXT,
    PRIMARY KEY (experiment_id, computed_at, variant, metric_name)
);

CREATE TABLE pipeline_state (
    source    TEXT PRIMARY KEY,
    position  BIGINT NOT NULL,
    data_time BIGINT NOT NULL,
    run_id    BIGINT NOT NULL,
    seal      BIGINT,
    except_for TEXT  NOT NULL DEFAULT ''
);

CREATE TABLE pipeline_runs (
    run_id        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cause         TEXT   NOT NULL,
    attempt       BIGINT NOT NULL,
    status        TEXT   NOT NULL,
    started_at    BIGINT NOT NULL,
    finished_at   BIGINT,
    position      BIGINT,
    n_experiments BIGINT,
    n_failed      BIGINT,
    error         TEXT
);

CREATE TABLE api_keys (
    key_id       TEXT COLLATE "C" PRIMARY KEY,
    name         TEXT   NOT NULL,
    scopes       TEXT   NOT NULL,
    secret_hash  BYTEA  NOT NULL,
    created_at   BIGINT NOT NULL,
    created_by   TEXT   NOT NULL,
    expires_at   BIGINT,
    revoked_at   BIGINT,
    last_used_at BIGINT,
    seal         BIGINT
);
CREATE UNIQUE INDEX api_keys_by_name ON api_keys (name) WHERE revoked_at IS NULL;

CREATE TABLE erasures (
    erasure_id    BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    requested_at  BIGINT NOT NULL,
    finished_at   BIGINT,
    actor         TEXT   NOT NULL,
    salt          TEXT   NOT NULL,
    user_hash     TEXT   NOT NULL,
    experiment_id TEXT,
    n_events      BIGINT NOT NULL,
    n_experiments BIGINT NOT NULL,
    seal          BIGINT
);

CREATE TABLE dropped_events (
    experiment_id  TEXT COLLATE "C" PRIMARY KEY,
    dropped_before BIGINT NOT NULL,
    n_events       BIGINT NOT NULL,
    dropped_at     BIGINT NOT NULL,
    seal           BIGINT
);

CREATE TABLE audit (
    entry   BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      BIGINT NOT NULL,
    actor   TEXT   NOT NULL,
    subject TEXT   NOT NULL,
    name    TEXT   NOT NULL,
    action  TEXT   NOT NULL,
    before  TEXT,
    after   TEXT,
    seal    BIGINT
);
CREATE INDEX audit_by_subject ON audit (subject, name, entry);

-- Who may aggregate, and until when.
CREATE TABLE leases (
    name       TEXT PRIMARY KEY,
    holder     TEXT   NOT NULL,
    epoch      BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

-- The journal of a warehouse that has none: which batches were begun and not yet
-- taken over by a run, how far each source has come, which experiments were touched.
CREATE TABLE batches (
    batch    BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source   TEXT   NOT NULL,
    epoch    BIGINT NOT NULL,
    state    TEXT   NOT NULL,
    begun_at BIGINT NOT NULL
);
CREATE INDEX batches_by_source ON batches (source, state);
CREATE INDEX batches_by_state ON batches (state, batch);

CREATE TABLE sources (
    source     TEXT PRIMARY KEY,
    epoch      BIGINT NOT NULL,
    position   BIGINT,
    updated_at BIGINT NOT NULL
);

CREATE TABLE touched (
    experiment_id TEXT COLLATE "C" NOT NULL,
    source        TEXT COLLATE "C" NOT NULL,
    batch         BIGINT NOT NULL,
    PRIMARY KEY (experiment_id, source)
);
