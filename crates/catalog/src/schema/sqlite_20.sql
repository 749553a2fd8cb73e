-- How many changes were committed: the number that `GENERATION` beside the file tells as well.
CREATE TABLE generation (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    generation INTEGER NOT NULL,
    seal       INTEGER
);
INSERT INTO generation (one, generation) VALUES (1, 1);

-- The tables whose rows are counted and their seals added up, so that a missing row is found.
CREATE TABLE sealed_tables (
    name   TEXT PRIMARY KEY,
    n_rows INTEGER NOT NULL,
    sum    INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO sealed_tables (name, n_rows, sum) VALUES
    ('api_keys', 0, 0),
    ('audit', 0, 0),
    ('dropped_events', 0, 0),
    ('erasures', 0, 0),
    ('experiments', 0, 0),
    ('facts', 0, 0),
    ('holdouts', 0, 0),
    ('layer_ranges', 0, 0),
    ('layers', 0, 0),
    ('metric_definitions', 0, 0),
    ('pipeline_state', 0, 0),
    ('sequence_breaks', 0, 0);

-- What was once so and stays so, such as that there were API keys.
CREATE TABLE facts (
    fact  TEXT PRIMARY KEY,
    since INTEGER NOT NULL,
    seal  INTEGER
) WITHOUT ROWID;
INSERT INTO facts (fact, since) SELECT 'api_keys', min(created_at) FROM api_keys HAVING count(*) > 0;

-- The last run before the break: looks of later runs count, whatever the clock said then. None
-- where it is not known, and the times tell.
ALTER TABLE sequence_breaks ADD COLUMN after_run INTEGER;
UPDATE sequence_breaks SET seal = NULL;
