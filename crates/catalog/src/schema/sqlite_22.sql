-- Which API key first named an experiment that nobody registered, so that places go by key.
CREATE TABLE experiment_senders (
    experiment_id TEXT    PRIMARY KEY,
    sender        TEXT    NOT NULL,
    noted_at      INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX experiment_senders_by_sender ON experiment_senders (sender);
