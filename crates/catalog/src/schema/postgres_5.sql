-- Why past looks at an experiment no longer count, the last time of each reason; a changed
-- definition waits for somebody to confirm it.
CREATE TABLE sequence_breaks (
    experiment_id TEXT COLLATE "C" NOT NULL,
    reason        TEXT COLLATE "C" NOT NULL,
    at            BIGINT NOT NULL,
    actor         TEXT   NOT NULL,
    fields        TEXT   NOT NULL,
    confirmed_at  BIGINT,
    confirmed_by  TEXT,
    seal          BIGINT,
    PRIMARY KEY (experiment_id, reason)
);
-- The next run notes what the looks so far have come to.
UPDATE experiments SET recompute_at = 0;
