-- Keys that never leave the catalog: `erasures` is the one that users are hashed with in the
-- audit of erasures. `is_used` is 0 until the rows of that table were hashed with it.
CREATE TABLE hidden_keys (
    name    TEXT    PRIMARY KEY,
    key     TEXT    NOT NULL,
    is_used INTEGER NOT NULL,
    seal    INTEGER
) WITHOUT ROWID;
INSERT INTO hidden_keys (name, key, is_used) VALUES ('erasures', lower(hex(randomblob(32))), 0);
INSERT INTO sealed_tables (name, n_rows, sum) VALUES ('hidden_keys', 0, 0);
