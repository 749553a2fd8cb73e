-- On a cluster the tables above are on each shard, and these stand before them.
-- All events of an experiment are on one shard.
CREATE TABLE IF NOT EXISTS assignments {on_cluster} AS {assignments}
ENGINE = Distributed({cluster}, {database}, {assignments}, cityHash64(experiment_id));

CREATE TABLE IF NOT EXISTS metric_events {on_cluster} AS {metric_events}
ENGINE = Distributed({cluster}, {database}, {metric_events}, cityHash64(experiment_id));
