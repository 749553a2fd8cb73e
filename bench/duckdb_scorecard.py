"""The scorecard of all experiments as SQL in DuckDB, over the same rows.

    duckdb_scorecard.py load FOLDER DATABASE    writes the Parquet files of `trialog bench generate` into a database
    duckdb_scorecard.py score DATABASE ROUNDS   computes what a full recomputation computes, and how long it takes

Tables are sorted like the warehouse; the time of loading is shown, not
counted. A scorecard: duplicates removed by event id (the copy with the
lowest time and content stays), users of several variants and testers
excluded, the seven-day window, and per experiment, variant and event type the
exact sums. Every way of asking in `WAYS` is tried, and the fastest counts.
The digest of the answer has to be that of `digest.py`.
"""

import json
import sys
import time

import duckdb

from ways import fastest, timed

EXPOSURES = """
WITH exposures AS MATERIALIZED (
    SELECT experiment_id, user_id, min(variant) AS variant, min(assigned_at) AS exposed_at
    FROM (SELECT * FROM assignments
          QUALIFY row_number() OVER (PARTITION BY experiment_id, user_id, event_id ORDER BY assigned_at, variant, forced) = 1)
    GROUP BY experiment_id, user_id
    HAVING min(variant) = max(variant) AND NOT bool_or(forced)
), users AS (
    SELECT experiment_id, variant, count(*) AS users FROM exposures GROUP BY ALL
), """

# Events from the end of the window on can go before copies are looked for: where
# the first copy is within the window, it is the first of those that are left too.
JOINED = """joined AS {materialized} (
    SELECT m.experiment_id, m.user_id, m.event_id, m.timestamp, m.event_type, m.units, e.variant, e.exposed_at
    FROM metrics m JOIN exposures e USING (experiment_id, user_id)
    WHERE m.timestamp < e.exposed_at + INTERVAL 7 DAY
), """

GROUPED = JOINED.format(materialized="NOT MATERIALIZED") + """distinct_metrics AS (
    SELECT experiment_id, user_id, any_value(variant) AS variant, any_value(exposed_at) AS exposed_at,
           min((timestamp, event_type, units)) AS first
    FROM joined GROUP BY experiment_id, user_id, event_id, event_type
), per_user AS (
    SELECT experiment_id, variant, first[2] AS event_type, user_id, count(*) AS events, sum(first[3]) AS total
    FROM distinct_metrics WHERE first[1] >= exposed_at GROUP BY ALL
)"""

NUMBERED = JOINED.format(materialized="NOT MATERIALIZED") + """distinct_metrics AS (
    SELECT * FROM joined
    QUALIFY row_number() OVER (PARTITION BY experiment_id, user_id, event_id, event_type ORDER BY timestamp, units) = 1
), per_user AS (
    SELECT experiment_id, variant, event_type, user_id, count(*) AS events, sum(units) AS total
    FROM distinct_metrics WHERE timestamp >= exposed_at GROUP BY ALL
)"""

COPIES_APART = JOINED.format(materialized="MATERIALIZED") + """repeated AS MATERIALIZED (
    SELECT experiment_id, user_id, event_id, event_type FROM joined GROUP BY ALL HAVING count(*) > 1
), distinct_metrics AS (
    SELECT * FROM joined ANTI JOIN repeated USING (experiment_id, user_id, event_id, event_type)
    UNION ALL
    SELECT * FROM joined SEMI JOIN repeated USING (experiment_id, user_id, event_id, event_type)
    QUALIFY row_number() OVER (PARTITION BY experiment_id, user_id, event_id, event_type ORDER BY timestamp, units) = 1
), per_user AS (
    SELECT experiment_id, variant, event_type, user_id, count(*) AS events, sum(units) AS total
    FROM distinct_metrics WHERE timestamp >= exposed_at GROUP BY ALL
)"""

SUMS = """
SELECT p.experiment_id, p.variant, p.event_type, any_value(u.users)::BIGINT AS users, count(*) AS converted,
       sum(p.events)::BIGINT AS events, sum(p.total)::HUGEINT AS total, sum(p.total::HUGEINT * p.total::HUGEINT) AS squared_total
FROM per_user p JOIN users u USING (experiment_id, variant)
GROUP BY p.experiment_id, p.variant, p.event_type
ORDER BY ALL
"""

WAYS = {"grouped": GROUPED, "numbered": NUMBERED, "copies apart": COPIES_APART}


def connected(database: str) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(database)
    connection.execute("SET threads = 2")
    connection.execute("SET memory_limit = '16GB'")
    return connection


def load(folder: str, database: str) -> dict:
    connection = connected(database)
    started = time.perf_counter()
    for table, order in [("assignments", "assigned_at"), ("metrics", "timestamp")]:
        units = ", (value * 10000)::BIGINT AS units" if table == "metrics" else ""
        # Ids as 64-bit numbers, which is what the warehouse keeps of them too.
        connection.execute(
            f"CREATE TABLE {table} AS SELECT * EXCLUDE (event_id), ('0x' || event_id)::UBIGINT AS event_id{units} "
            f"FROM read_parquet('{folder}/{table}.parquet') ORDER BY experiment_id, user_id, {order}"
        )
    connection.execute("CHECKPOINT")
    return {"load_s": round(time.perf_counter() - started, 2)}


def ask(database: str, way: str, n_times: int) -> dict:
    connection = connected(database)
    return timed(f"DuckDB {duckdb.__version__}", lambda: connection.execute(EXPOSURES + WAYS[way] + SUMS).fetchall(), n_times)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["load", folder, database]:
            print(json.dumps(load(folder, database)))
        case ["score", database, rounds]:
            print(json.dumps(fastest(__file__, database, list(WAYS), int(rounds))))
        case ["ask", database, way, times]:
            print(json.dumps(ask(database, way, int(times))))
        case _:
            sys.exit(__doc__)
