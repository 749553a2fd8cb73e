-- Which API key first named an experiment that nobody registered, so that places go by key.
CREATE TABLE experiment_senders (
    experiment_id TEXT COLLATE "C" PRIMARY KEY,
    sender        TEXT COLLATE "C" NOT NULL,
    noted_at      BIGINT NOT NULL
);
CREATE INDEX experiment_senders_by_sender ON experiment_senders (sender);
