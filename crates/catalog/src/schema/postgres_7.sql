-- What was once so and stays so, such as that there were API keys.
CREATE TABLE facts (
    fact  TEXT COLLATE "C" PRIMARY KEY,
    since BIGINT NOT NULL,
    seal  BIGINT
);
INSERT INTO facts (fact, since) SELECT 'api_keys', min(created_at) FROM api_keys HAVING count(*) > 0;

-- The last run before the break: looks of later runs count, whatever the clock said then. None
-- where it is not known, and the times tell.
ALTER TABLE sequence_breaks ADD COLUMN after_run BIGINT;
