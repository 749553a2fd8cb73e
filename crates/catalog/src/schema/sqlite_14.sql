-- Who may aggregate, and until when.
CREATE TABLE leases (
    name       TEXT    PRIMARY KEY,
    holder     TEXT    NOT NULL,
    epoch      INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;

-- The journal of a warehouse that has none: which batches were begun and not yet
-- taken over by a run, how far each source has come, which experiments were touched.
CREATE TABLE batches (
    batch    INTEGER PRIMARY KEY AUTOINCREMENT,
    source   TEXT    NOT NULL,
    epoch    INTEGER NOT NULL,
    state    TEXT    NOT NULL,
    begun_at INTEGER NOT NULL
);
CREATE INDEX batches_by_source ON batches (source, state);
CREATE INDEX batches_by_state ON batches (state, batch);

CREATE TABLE sources (
    source     TEXT    PRIMARY KEY,
    epoch      INTEGER NOT NULL,
    position   INTEGER,
    updated_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE touched (
    experiment_id TEXT    NOT NULL,
    source        TEXT    NOT NULL,
    batch         INTEGER NOT NULL,
    PRIMARY KEY (experiment_id, source)
) WITHOUT ROWID;

-- The batches up to the position that the results do not cover.
ALTER TABLE pipeline_state ADD COLUMN except_for TEXT NOT NULL DEFAULT '';
UPDATE pipeline_state SET seal = NULL;
