-- What experiments name, in one table: metrics and surfaces.
CREATE TABLE links (
    kind          TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    experiment_id TEXT    NOT NULL,
    seal          INTEGER,
    PRIMARY KEY (kind, name, experiment_id)
) WITHOUT ROWID;
CREATE INDEX links_by_experiment ON links (experiment_id);
INSERT INTO links (kind, name, experiment_id)
SELECT 'metric', metric_name, experiment_id FROM experiment_metrics
UNION ALL
SELECT 'surface', surface, experiment_id FROM experiment_surfaces;
DROP TABLE experiment_metrics;
DROP TABLE experiment_surfaces;
