-- Keys that never leave the catalog: `erasures` is the one that users are hashed with in the
-- audit of erasures. `is_used` is 0 until the rows of that table were hashed with it.
CREATE TABLE hidden_keys (
    name    TEXT COLLATE "C" PRIMARY KEY,
    key     TEXT   NOT NULL,
    is_used BIGINT NOT NULL,
    seal    BIGINT
);
INSERT INTO hidden_keys (name, key, is_used)
VALUES ('erasures', replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 0);
