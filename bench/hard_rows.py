"""Rewrites a population so that the rules about copies matter.

    hard_rows.py FOLDER OUT

The copies in the files of `trialog bench generate` equal one another, so any of
them may be kept. Here a fifth of the metric events have another under the same
id that differs in time, type or value: a copy where the type is the same, and an event
of its own where it is not. Some assignments have a copy in another variant, which must not make a crossover, and some users a second assignment
at the same moment, which must. Values are large enough for squares of sums to
need more than 64 bits. Which rows change follows from their event ids.
"""

import json
import pathlib
import sys

import duckdb

METRICS = """
SELECT * FROM source UNION ALL
SELECT user_id, experiment_id,
       CASE WHEN h // 7 % 3 = 0 THEN 'refund' ELSE event_type END,
       (CASE h // 23 % 3 WHEN 0 THEN value WHEN 1 THEN value * -7 ELSE value + 98765432.1234 END)::DECIMAL(18, 4),
       CASE WHEN h // 71 % 2 = 0 THEN "timestamp" ELSE "timestamp" + to_hours((h // 149 % 145)::BIGINT - 72) END,
       event_id
FROM (SELECT *, ('0x' || event_id)::UBIGINT AS h FROM source) WHERE h % 5 = 0
"""

ASSIGNMENTS = """
SELECT * FROM source UNION ALL
SELECT user_id, experiment_id,
       CASE variant WHEN 'control' THEN 'treatment' ELSE 'control' END,
       CASE WHEN h // 7 % 2 = 0 THEN assigned_at ELSE assigned_at + to_hours((h // 23 % 49)::BIGINT - 24) END,
       forced OR h // 71 % 3 = 0,
       context,
       CASE WHEN h // 149 % 3 = 0 THEN format('{:016x}', h // 2) ELSE event_id END
FROM (SELECT *, ('0x' || event_id)::UBIGINT AS h FROM source) WHERE h % 11 = 0
"""


def main(folder: str, out: str) -> None:
    pathlib.Path(out).mkdir(parents=True)
    connection = duckdb.connect()
    for table, rows in [("assignments", ASSIGNMENTS), ("metrics", METRICS)]:
        connection.execute(f"CREATE OR REPLACE VIEW source AS SELECT * FROM read_parquet('{folder}/{table}.parquet')")
        connection.execute(f"COPY ({rows}) TO '{out}/{table}.parquet' (FORMAT parquet)")
    print(json.dumps({"written": [f"{out}/assignments.parquet", f"{out}/metrics.parquet"]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
