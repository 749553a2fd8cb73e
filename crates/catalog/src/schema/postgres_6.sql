-- What happened to an experiment after its start, as JSON: the decision, the pauses, what it
-- was when it was stopped. `ship` is the variant that everybody gets now.
ALTER TABLE experiments ADD COLUMN ship TEXT COLLATE "C";
ALTER TABLE experiments ADD COLUMN life TEXT;
CREATE INDEX experiments_shipped ON experiments (experiment_id) WHERE ship IS NOT NULL;

-- The greatest number of a state among deleted experiments, so that none comes twice.
ALTER TABLE configuration ADD COLUMN deleted_change BIGINT NOT NULL DEFAULT 0;
