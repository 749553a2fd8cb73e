-- What the last run found wrong with each experiment, by code: what /metrics counts.
CREATE TABLE experiment_warnings (
    experiment_id TEXT COLLATE "C" NOT NULL,
    code          TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (experiment_id, code)
);
