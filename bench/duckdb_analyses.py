"""A funnel and a breakdown by many keys as SQL in DuckDB, over the same rows.

    duckdb_analyses.py widen FOLDER N              gives every context of the assignments in FOLDER N more keys
    duckdb_analyses.py load FOLDER DATABASE N      writes the Parquet files into a database, contexts as columns
    duckdb_analyses.py funnel DATABASE STEPS       users of each step by variant
    duckdb_analyses.py breakdown DATABASE N        sums by value, variant and event type for each of N keys

The database has a column for every key and its tables are sorted like the warehouse; loading is not
counted. Copies of events are removed first, users of several variants and testers are left out, and
events count within seven days of the exposure, without an end for the funnel. `funnel` and
`breakdown` print JSON: the least seconds of three askings, the peak memory, and the answer.
"""

import json
import resource
import sys
import time
from pathlib import Path

import duckdb

N_TIMES = 3
EXPOSURES = """
exposures AS MATERIALIZED (
    SELECT user_id, min(variant) AS variant, min(assigned_at) AS exposed_at
    FROM (FROM assignments QUALIFY row_number() OVER (PARTITION BY user_id, event_id ORDER BY assigned_at, variant, forced) = 1)
    GROUP BY user_id HAVING min(variant) = max(variant) AND NOT bool_or(forced)
)"""


def key(number):
    return f"key_{number:02}"


def widen(folder, n_keys):
    """Every user has one of 2 to 50 values of each key."""
    file = Path(folder) / "assignments.parquet"
    wide = file.with_suffix(".wide")
    more = ", ".join(f"'{key(number)}', 'v' || hash(user_id, {number}) % {2 + number * 48 // max(1, n_keys - 1)}" for number in range(n_keys))
    duckdb.execute(
        f"""COPY (SELECT * REPLACE (json_merge_patch(context, json_object({more}))::VARCHAR AS context)
        FROM read_parquet('{file}')) TO '{wide}' (FORMAT parquet)"""
    )
    wide.rename(file)


def load(folder, database, n_keys):
    connection = duckdb.connect(database)
    keys = ", ".join(f"context->>'{key(number)}' AS {key(number)}" for number in range(n_keys))
    connection.execute(f"CREATE TABLE assignments AS SELECT * EXCLUDE (context, experiment_id), {keys} FROM read_parquet('{folder}/assignments.parquet') ORDER BY user_id, assigned_at")
    connection.execute(f"CREATE TABLE metrics AS SELECT user_id, event_type, (value * 10000)::BIGINT AS units, timestamp, event_id FROM read_parquet('{folder}/metrics.parquet') ORDER BY user_id, timestamp")


def funnel(connection, steps):
    parts = [EXPOSURES, "step_0 AS (SELECT user_id, variant, exposed_at AS reached FROM exposures)"]
    for number, step in enumerate(steps):
        parts.append(
            f"""step_{number + 1} AS MATERIALIZED (SELECT user_id, any_value(variant) AS variant, min(timestamp) AS reached
            FROM step_{number} JOIN metrics USING (user_id) WHERE event_type = '{step}' AND timestamp >= reached GROUP BY user_id)"""
        )
    counts = " UNION ALL ".join(f"SELECT {number}, variant, count(*) FROM step_{number} GROUP BY variant" for number in range(len(steps) + 1))
    return connection.execute(f"WITH {', '.join(parts)} {counts} ORDER BY ALL").fetchall()


def breakdown(connection, n_keys):
    # The value of a key is that of the first assignment.
    values = ", ".join(f"arg_min({key(number)}, assigned_at) AS {key(number)}" for number in range(n_keys))
    columns = ", ".join(key(number) for number in range(n_keys))
    parts = [
        EXPOSURES,
        f"""cells AS MATERIALIZED (SELECT user_id, {values} FROM assignments GROUP BY user_id)""",
        """distinct_metrics AS (SELECT m.user_id, event_type, event_id, min((timestamp, units)) AS first, any_value(variant) AS variant, any_value(exposed_at) AS exposed_at
            FROM metrics m JOIN exposures e USING (user_id) WHERE timestamp < exposed_at + INTERVAL 7 DAY GROUP BY m.user_id, event_type, event_id)""",
        f"""per_user AS MATERIALIZED (SELECT user_id, any_value(variant) AS variant, event_type, count(*) AS events, sum(first[2])::BIGINT AS total
            FROM distinct_metrics WHERE first[1] >= exposed_at GROUP BY user_id, event_type)""",
        f"""wide AS MATERIALIZED (SELECT variant, event_type, events, total, {columns} FROM per_user JOIN cells USING (user_id))""",
    ]
    sums = " UNION ALL ".join(
        f"""SELECT '{key(number)}', {key(number)}, variant, event_type, count(*), sum(events)::BIGINT, sum(total)::BIGINT
        FROM wide GROUP BY ALL"""
        for number in range(n_keys)
    )
    return connection.execute(f"WITH {', '.join(parts)} {sums} ORDER BY ALL").fetchall()


def asked(ask):
    seconds = []
    for _ in range(N_TIMES):
        started = time.perf_counter()
        answer = ask()
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"s": min(seconds), "peak_mb": peak, "answer": answer}, default=str))


def main():
    what, *arguments = sys.argv[1:]
    match what:
        case "widen":
            widen(arguments[0], int(arguments[1]))
        case "load":
            load(arguments[0], arguments[1], int(arguments[2]))
        case "funnel":
            connection = duckdb.connect(arguments[0], read_only=True)
            asked(lambda: funnel(connection, arguments[1].split(",")))
        case "breakdown":
            connection = duckdb.connect(arguments[0], read_only=True)
            asked(lambda: breakdown(connection, int(arguments[1])))
        case _:
            sys.exit(__doc__)


main()
