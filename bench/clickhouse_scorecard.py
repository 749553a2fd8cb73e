"""The scorecard of all experiments as SQL in ClickHouse's engine, over the same rows.

    clickhouse_scorecard.py load FOLDER DIRECTORY    writes the Parquet files of `trialog bench generate` into tables
    clickhouse_scorecard.py score DIRECTORY ROUNDS   computes what a full recomputation computes, and how long it takes

The engine runs in this process (Python package `chdb`). Tables are MergeTree
with the warehouse's order as their sorting key, merged into one part each, the
layout that is read fastest; the time of loading is shown, not counted. The
scorecard is that of `duckdb_scorecard.py`. Every way of asking in `WAYS` is
tried, and the fastest counts; grouping by event id, as there, took two to
three times as long. Exposures are written to a table in memory first, since a
common table expression is computed wherever it is named; that is part of the
time. The digest of the answer has to be that of `digest.py`.
"""

import json
import sys
import time

import chdb
from chdb.session import Session

from ways import fastest, timed

TABLES = {
    "assignments": """(experiment_id LowCardinality(String), user_id Int64, assigned_at DateTime64(6, 'UTC'),
        variant LowCardinality(String), forced Bool, event_id UInt64)
        ENGINE = MergeTree ORDER BY (experiment_id, user_id, assigned_at)""",
    "metrics": """(experiment_id LowCardinality(String), user_id Int64, timestamp DateTime64(6, 'UTC'),
        event_type LowCardinality(String), units Int64, event_id UInt64)
        ENGINE = MergeTree ORDER BY (experiment_id, user_id, timestamp)""",
}
# Ids as 64-bit numbers, which is what the warehouse keeps of them too.
ID = "reinterpretAsUInt64(reverse(unhex(event_id)))"
COLUMNS = {
    "assignments": f"experiment_id, user_id, assigned_at, variant, forced, {ID}",
    "metrics": f"experiment_id, user_id, timestamp, event_type, toInt64(value * 10000), {ID}",
}

EXPOSURES = """
CREATE TABLE bench.exposures ENGINE = Memory AS
SELECT experiment_id, user_id, any(a.variant) AS variant, min(a.assigned_at) AS exposed_at
FROM (SELECT *, row_number() OVER (PARTITION BY experiment_id, user_id, event_id ORDER BY assigned_at, variant, forced) AS copy
      FROM bench.assignments) AS a
WHERE copy = 1
GROUP BY experiment_id, user_id
HAVING min(a.variant) = max(a.variant) AND NOT max(a.forced)
"""

# The sorting key gives the window function its users in order; only a user's own events are sorted.
WINDOWS = """
WITH sorted AS (
    SELECT experiment_id, user_id, timestamp, event_type, units, event_id,
           row_number() OVER history AS place,
           lagInFrame(event_id) OVER history AS before, lagInFrame(event_type) OVER history AS type_before
    FROM bench.metrics
    WINDOW history AS (PARTITION BY experiment_id, user_id ORDER BY event_id, event_type, timestamp, units
                       ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)
), per_user AS (
    SELECT m.experiment_id AS experiment_id, m.user_id AS user_id, m.event_type AS event_type,
           any(e.variant) AS variant, count() AS events, sum(m.units::Int128) AS total
    FROM sorted m JOIN bench.exposures e ON e.experiment_id = m.experiment_id AND e.user_id = m.user_id
    WHERE (place = 1 OR before != event_id OR type_before != event_type)
      AND m.timestamp >= e.exposed_at AND m.timestamp < e.exposed_at + INTERVAL 7 DAY
    GROUP BY experiment_id, user_id, event_type
)"""

# Events from the end of the window on can go before copies are looked for: where
# the first copy is within the window, it is the first of those that are left too.
ARRAYS = """
WITH histories AS (
    SELECT m.experiment_id AS experiment_id, m.user_id AS user_id, any(e.variant) AS variant, any(e.exposed_at) AS exposed_at,
           arraySort(groupArray((m.event_id, m.event_type, m.timestamp, m.units))) AS events
    FROM bench.metrics m JOIN bench.exposures e ON e.experiment_id = m.experiment_id AND e.user_id = m.user_id
    WHERE m.timestamp < e.exposed_at + INTERVAL 7 DAY
    GROUP BY experiment_id, user_id
), distinct_metrics AS (
    SELECT experiment_id, user_id, variant,
           arrayJoin(arrayFilter((event, place) -> event.3 >= exposed_at AND (place = 1 OR (events[place - 1].1, events[place - 1].2) != (event.1, event.2)),
                                 events, arrayEnumerate(events))) AS event
    FROM histories
), per_user AS (
    SELECT experiment_id, user_id, event.2 AS event_type, any(d.variant) AS variant, count() AS events, sum(event.4::Int128) AS total
    FROM distinct_metrics AS d GROUP BY experiment_id, user_id, event_type
)"""

SUMS = """, users AS (
    SELECT experiment_id, variant, count() AS users FROM bench.exposures GROUP BY experiment_id, variant
)
SELECT p.experiment_id, p.variant, p.event_type, any(u.users), count(), sum(p.events), sum(p.total), sum(p.total::Int256 * p.total::Int256)
FROM per_user p JOIN users u ON u.experiment_id = p.experiment_id AND u.variant = p.variant
GROUP BY p.experiment_id, p.variant, p.event_type
ORDER BY p.experiment_id, p.variant, p.event_type
SETTINGS """

# What does not fit into memory is spilled, not refused.
LIMITS = "max_threads = 2, max_memory_usage = 16000000000, max_bytes_before_external_group_by = 8000000000, max_bytes_before_external_sort = 4000000000"

WAYS = {
    "windows": WINDOWS + SUMS + LIMITS,
    "windows, aggregated in order": WINDOWS + SUMS + LIMITS + ", optimize_aggregation_in_order = 1",
    "arrays": ARRAYS + SUMS + LIMITS,
}


def load(folder: str, directory: str) -> dict:
    session = Session(directory)
    started = time.perf_counter()
    session.query("CREATE DATABASE bench")
    for table, definition in TABLES.items():
        session.query(f"CREATE TABLE bench.{table} {definition}")
        session.query(f"INSERT INTO bench.{table} SELECT {COLUMNS[table]} FROM file('{folder}/{table}.parquet') SETTINGS {LIMITS}")
        session.query(f"OPTIMIZE TABLE bench.{table} FINAL")
    return {"load_s": round(time.perf_counter() - started, 2)}


def ask(directory: str, way: str, n_times: int) -> dict:
    session = Session(directory)

    def rows() -> list[tuple]:
        session.query("DROP TABLE IF EXISTS bench.exposures")
        session.query(f"{EXPOSURES} SETTINGS {LIMITS}")
        return [tuple(line.split("\t")) for line in str(session.query(WAYS[way], "TSV")).splitlines()]

    return timed(f"ClickHouse {chdb.engine_version}", rows, n_times)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["load", folder, directory]:
            print(json.dumps(load(folder, directory)))
        case ["score", directory, rounds]:
            print(json.dumps(fastest(__file__, directory, list(WAYS), int(rounds))))
        case ["ask", directory, way, times]:
            print(json.dumps(ask(directory, way, int(times))))
        case _:
            sys.exit(__doc__)
