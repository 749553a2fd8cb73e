"""What one query per experiment and metric costs, in the form that GrowthBook asks a database.

Each query reads the assignments of one experiment, takes every user's first
exposure, sets users of several variants apart, joins the events of one type
within the conversion window, adds up by user and then by variant. The
tables are those that `duckdb_scorecard.py load` wrote; sorted by experiment,
they let DuckDB skip what belongs to others. Queries run one after another,
each on both cores, as a scheduler that respects the database would send them.

Every answer is compared with the last results in Trialog's data directory.
A query that takes an event type's events only sees copies of an event that
have its type: cheaper than looking at all, and the same sums here, where
copies are equal.
"""

import argparse
import json
import resource
import sys
import time

import duckdb

from digest import results

QUERY = """
WITH assigned AS (
    SELECT user_id, variant, assigned_at, forced FROM assignments
    WHERE experiment_id = '{experiment}'
    QUALIFY row_number() OVER (PARTITION BY user_id, event_id ORDER BY assigned_at, variant, forced) = 1
), units AS (
    SELECT user_id, min(assigned_at) AS exposed_at,
           CASE WHEN count(DISTINCT variant) > 1 THEN '(several)' ELSE min(variant) END AS variant
    FROM assigned GROUP BY user_id HAVING NOT bool_or(forced)
), metric AS (
    SELECT user_id, timestamp, units FROM metrics
    WHERE experiment_id = '{experiment}' AND event_type = '{event_type}'
    QUALIFY row_number() OVER (PARTITION BY user_id, event_id ORDER BY timestamp, units) = 1
), per_user AS (
    SELECT u.variant, u.user_id, count(m.units) AS events, coalesce(sum(m.units), 0)::HUGEINT AS total
    FROM units u LEFT JOIN metric m
      ON m.user_id = u.user_id AND m.timestamp >= u.exposed_at AND m.timestamp < u.exposed_at + INTERVAL 7 DAY
    GROUP BY u.variant, u.user_id
)
SELECT variant, count(*) AS users, count(*) FILTER (events > 0) AS converted, sum(events)::BIGINT AS events,
       sum(total) AS total, sum(total * total) AS squared_total
FROM per_user WHERE variant <> '(several)' GROUP BY variant ORDER BY variant
"""

EVENT_TYPES = "SELECT DISTINCT event_type FROM metrics ORDER BY ALL"
BY_SIZE = "SELECT experiment_id, count(*) AS n FROM metrics GROUP BY ALL ORDER BY n DESC, experiment_id"


# Of a sample, one in so many are the largest experiments, each of which stands for itself alone.
LARGEST_ONE_IN = 5


def drawn(experiments: list[str], n_sample: int) -> dict[str, float]:
    """How many experiments each of the sample stands for; `experiments` are the largest first.

    A fifth are the largest, since few have most of the events; the others
    stand at even ranks of the rest.
    """
    if n_sample >= len(experiments):
        return dict.fromkeys(experiments, 1.0)
    n_largest = n_sample // LARGEST_ONE_IN
    rest, n_rest = experiments[n_largest:], n_sample - n_largest
    ranks = [(2 * number + 1) * len(rest) // (2 * n_rest) for number in range(n_rest)]
    return dict.fromkeys(experiments[:n_largest], 1.0) | {rest[rank]: len(rest) / n_rest for rank in ranks}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("database", help="what `duckdb_scorecard.py load` wrote")
    arguments.add_argument("data_dir", help="Trialog's data directory, aggregated")
    arguments.add_argument("--sample", type=int, help="so many experiments, drawn evenly by size; all if absent")
    options = arguments.parse_args()

    if options.sample is not None and options.sample < 1:
        arguments.error("--sample has to be at least 1")
    connection = duckdb.connect(options.database, read_only=True)
    connection.execute("SET threads = 2")
    event_types = [row[0] for row in connection.execute(EVENT_TYPES).fetchall()]
    every = [row[0] for row in connection.execute(BY_SIZE).fetchall()]
    weights = drawn(every, options.sample or len(every))

    answers, seconds, all_s = [], [], 0.0
    for experiment, weight in weights.items():
        for event_type in event_types:
            started = time.perf_counter()
            rows = connection.execute(QUERY.format(experiment=experiment, event_type=event_type)).fetchall()
            seconds.append(time.perf_counter() - started)
            all_s += weight * seconds[-1]
            answers += [(experiment, row[0], event_type, *row[1:]) for row in rows if row[3] > 0]

    expected = [row for row in results(options.data_dir) if row[0] in weights]
    wrong = sorted(set(answers) ^ set(expected))
    if wrong:
        sys.exit(f"{len(wrong)} rows differ from Trialog's results, the first is {wrong[0]}: no ratio")
    print(json.dumps({
        "engine": f"DuckDB {duckdb.__version__}",
        "experiments": len(weights),
        "largest": sum(weight == 1 for weight in weights.values()),
        "of_experiments": len(every),
        "queries": len(seconds),
        "all_queries": len(every) * len(event_types),
        "measured_s": round(sum(seconds), 3),
        "all_s": round(all_s, 3),
        "median_ms": round(sorted(seconds)[len(seconds) // 2] * 1e3, 2),
        "slowest_ms": round(max(seconds) * 1e3, 2),
        "rows": len(answers),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }))


if __name__ == "__main__":
    main()
