-- Why past looks at an experiment no longer count, the last time of each reason; a changed
-- definition waits for somebody to confirm it.
CREATE TABLE sequence_breaks (
    experiment_id TEXT    NOT NULL,
    reason        TEXT    NOT NULL,
    at            INTEGER NOT NULL,
    actor         TEXT    NOT NULL,
    fields        TEXT    NOT NULL,
    confirmed_at  INTEGER,
    confirmed_by  TEXT,
    seal          INTEGER,
    PRIMARY KEY (experiment_id, reason)
) WITHOUT ROWID;
-- The next run notes what the looks so far have come to; the seals are made anew, as they
-- cover all columns.
UPDATE experiments SET recompute_at = 0, seal = NULL;
