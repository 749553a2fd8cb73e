-- What the last run found wrong with each experiment, by code: what /metrics counts.
CREATE TABLE experiment_warnings (
    experiment_id TEXT NOT NULL,
    code          TEXT NOT NULL,
    PRIMARY KEY (experiment_id, code)
) WITHOUT ROWID;
