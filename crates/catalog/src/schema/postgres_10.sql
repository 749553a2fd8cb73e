-- What experiments name, in one table: metrics and surfaces.
CREATE TABLE links (
    kind          TEXT COLLATE "C" NOT NULL,
    name          TEXT COLLATE "C" NOT NULL,
    experiment_id TEXT COLLATE "C" NOT NULL,
    seal          BIGINT,
    PRIMARY KEY (kind, name, experiment_id)
);
CREATE INDEX links_by_experiment ON links (experiment_id);
INSERT INTO links (kind, name, experiment_id)
SELECT 'metric', metric_name, experiment_id FROM experiment_metrics
UNION ALL
SELECT 'surface', surface, experiment_id FROM experiment_surfaces;
DROP TABLE experiment_metrics;
DROP TABLE experiment_surfaces;
