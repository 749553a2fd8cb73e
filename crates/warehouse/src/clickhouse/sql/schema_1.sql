-- Raw events. Rows are only ever added; what was inserted twice is left to the
-- analyses, which count an event id once. `batch` is the number that the
-- journal gave the insertion: analyses read the batches that were finished by
-- a moment, and no others.
CREATE TABLE IF NOT EXISTS {assignments} {on_cluster} (
    experiment_id String CODEC(ZSTD(1)),
    user_id       Int64 CODEC(Delta, ZSTD(1)),
    assigned_at   DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    variant       LowCardinality(String),
    forced        UInt8,
    event_id      Int64,
    context       String CODEC(ZSTD(1)),
    attributes    Map(LowCardinality(String), String),
    batch         UInt64 CODEC(Delta, ZSTD(1))
) ENGINE = {engine}
PARTITION BY toYYYYMM(assigned_at)
ORDER BY (experiment_id, user_id, assigned_at)
SETTINGS {settings};

CREATE TABLE IF NOT EXISTS {metric_events} {on_cluster} (
    experiment_id String CODEC(ZSTD(1)),
    user_id       Int64 CODEC(Delta, ZSTD(1)),
    occurred_at   DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    event_type    LowCardinality(String),
    value         Decimal(18, 4),
    event_id      Int64,
    batch         UInt64 CODEC(Delta, ZSTD(1))
) ENGINE = {engine}
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (experiment_id, user_id, occurred_at)
SETTINGS {settings};
