"""The scorecard of all experiments as SQL in DuckDB, over the same rows.

Reads the Parquet files that `trialog bench generate` wrote, loads them into
DuckDB tables sorted like the warehouse (the time of loading is shown, not
counted), and computes what a full recomputation computes: duplicates removed
by event id, crossovers excluded, the seven-day window, and per experiment,
variant and event type the exact sums. Prints a digest of every sum, which
has to be the one that `digest.py` takes of `variant_metrics`.
"""

import hashlib
import json
import resource
import sys
import time

import duckdb

SCORECARD = """
WITH exposures AS (
    -- The earliest of a user's distinct assignments; users of several variants are crossovers.
    SELECT experiment_id, user_id,
           arg_min(variant, (assigned_at, variant, event_id)) AS variant,
           min(assigned_at) AS exposed_at,
           count(DISTINCT variant) AS n_variants
    FROM (SELECT * FROM assignments
          QUALIFY row_number() OVER (PARTITION BY experiment_id, user_id, event_id ORDER BY assigned_at, variant) = 1)
    GROUP BY experiment_id, user_id
), distinct_metrics AS (
    SELECT experiment_id, user_id, event_id,
           min((timestamp, event_type, units)) AS first
    FROM metrics
    GROUP BY experiment_id, user_id, event_id
), per_user AS (
    SELECT e.experiment_id, e.variant, m.first[2] AS event_type, e.user_id,
           count(*) AS events, sum(m.first[3]) AS total
    FROM exposures e JOIN distinct_metrics m USING (experiment_id, user_id)
    WHERE e.n_variants = 1 AND m.first[1] >= e.exposed_at AND m.first[1] < e.exposed_at + INTERVAL 7 DAY
    GROUP BY ALL
), users AS (
    SELECT experiment_id, variant, count(*) AS users FROM exposures WHERE n_variants = 1 GROUP BY ALL
)
SELECT p.experiment_id, p.variant, p.event_type, any_value(u.users)::BIGINT AS users, count(*) AS converted,
       sum(p.events)::BIGINT AS events, sum(p.total)::HUGEINT AS total, sum(p.total::HUGEINT * p.total::HUGEINT) AS squared_total
FROM per_user p JOIN users u USING (experiment_id, variant)
GROUP BY p.experiment_id, p.variant, p.event_type
ORDER BY ALL
"""


def main(folder: str, rounds: int) -> None:
    connection = duckdb.connect()
    connection.execute("SET threads = 2")
    started = time.perf_counter()
    for table, order in [("assignments", "assigned_at"), ("metrics", "timestamp")]:
        units = ", (value * 10000)::BIGINT AS units" if table == "metrics" else ""
        # Ids as 64-bit numbers, which is what the warehouse keeps of them too.
        connection.execute(
            f"CREATE TABLE {table} AS SELECT * EXCLUDE (event_id), ('0x' || event_id)::UBIGINT AS event_id{units} "
            f"FROM read_parquet('{folder}/{table}.parquet') ORDER BY experiment_id, user_id, {order}"
        )
    loaded = time.perf_counter() - started
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        rows = connection.execute(SCORECARD).fetchall()
        seconds.append(time.perf_counter() - started)
    digest = hashlib.sha256("\n".join("|".join(map(str, row)) for row in rows).encode()).hexdigest()
    print(json.dumps({
        "engine": f"DuckDB {duckdb.__version__}",
        "load_s": round(loaded, 2),
        "full_s": [round(second, 3) for second in seconds],
        "rows": len(rows),
        "digest": digest,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3)
