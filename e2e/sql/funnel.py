"""Counts the users of each step of a funnel by joining its events step by step.

    funnel.py ASSIGNMENTS METRICS QUESTIONS     prints a list of {variant: [users, users of step 1, ...]}
"""

import json
import sys
from pathlib import Path

import duckdb

HOUR = 3_600_000_000


def main():
    assignments, metrics, questions = sys.argv[1:]
    connection = duckdb.connect()
    for question in json.loads(questions):
        print(json.dumps(answer(connection, assignments, metrics, question)))


def answer(connection, assignments, metrics, question):
    for table, file in (("assignments", assignments), ("metrics", metrics)):
        connection.execute(f"CREATE OR REPLACE TABLE {table} AS FROM read_parquet($1) WHERE experiment_id = $2", [file, question["experiment"]])
    connection.execute((Path(__file__).parent / "exposures.sql").read_text())
    users = dict(connection.execute("SELECT variant, count(*) FROM exposed GROUP BY variant").fetchall())
    counts = {variant: [number] for variant, number in users.items()}
    window = question["window_hours"]
    within = "true" if window is None else f"micros < exposed_at + {window * HOUR}"
    # Every chain so far: whose it is, when it ended, and the events that it took.
    connection.execute("CREATE OR REPLACE TABLE chains AS SELECT user_id, variant, micros, []::BIGINT[] AS taken FROM exposed")
    for step, limit in zip(question["steps"], question["limit_hours"]):
        in_time = "true" if limit is None else f"events.micros < chains.micros + {limit * HOUR}"
        connection.execute(
            f"""CREATE OR REPLACE TABLE chains AS
            SELECT DISTINCT user_id, chains.variant, events.micros, list_sort(list_append(chains.taken, events.id)) AS taken
            FROM chains JOIN (FROM counted WHERE event_type = $1 AND {within}) AS events USING (user_id)
            WHERE events.micros >= chains.micros AND {in_time} AND NOT list_contains(chains.taken, events.id)""",
            [step],
        )
        reached = dict(connection.execute("SELECT variant, count(DISTINCT user_id) FROM chains GROUP BY variant").fetchall())
        for variant, so_far in counts.items():
            so_far.append(reached.get(variant, 0))
    return counts


main()
