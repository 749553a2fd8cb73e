-- With which version of the checksum the rows of a computation are sealed.
ALTER TABLE computations ADD COLUMN seal_version INTEGER NOT NULL DEFAULT 0;

-- What analyses other than the scorecard published: a text of exact numbers for each key.
CREATE TABLE analysis_results (
    experiment_id TEXT    NOT NULL,
    computed_at   INTEGER NOT NULL,
    analysis      TEXT    NOT NULL,
    key           TEXT    NOT NULL,
    body          TEXT    NOT NULL,
    seal          INTEGER,
    PRIMARY KEY (experiment_id, computed_at, analysis, key)
) WITHOUT ROWID;
