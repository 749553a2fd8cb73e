"""Runs SQL over exported files: `query.py FOLDER SQL` prints the rows as JSON.

The Parquet files of the folder are tables with the names of the files.
"""

import json
import sys
from pathlib import Path

import duckdb

folder, sql = Path(sys.argv[1]), sys.argv[2]
connection = duckdb.connect()
connection.execute("SET TimeZone = 'UTC'")
for file in folder.glob("*.parquet"):
    connection.execute(f"CREATE VIEW {file.stem} AS SELECT * FROM read_parquet('{file}')")
print(json.dumps(connection.execute(sql).fetchall(), default=str))
