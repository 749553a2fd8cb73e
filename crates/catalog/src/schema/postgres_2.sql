-- With which version of the checksum the rows of a computation are sealed.
ALTER TABLE computations ADD COLUMN seal_version BIGINT NOT NULL DEFAULT 0;

-- What analyses other than the scorecard published: a text of exact numbers for each key.
CREATE TABLE analysis_results (
    experiment_id TEXT COLLATE "C" NOT NULL,
    computed_at   BIGINT NOT NULL,
    analysis      TEXT COLLATE "C" NOT NULL,
    key           TEXT COLLATE "C" NOT NULL,
    body          TEXT   NOT NULL,
    seal          BIGINT,
    PRIMARY KEY (experiment_id, computed_at, analysis, key)
);
