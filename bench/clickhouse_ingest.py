"""Ingest of the load generator's bodies by ClickHouse's engine.

    clickhouse_ingest.py BODIES DIRECTORY SECONDS

BODIES is what `trialog bench bodies` wrote: one request body per line, the
bytes that `trialog bench load` sends. Each body is one
`INSERT INTO ... FORMAT JSONEachRow` into a MergeTree table with the same
columns and the warehouse's order; after the last the first comes again. An
insert has returned when its rows are in the table, like an answer of the
server. Two ways are tried for SECONDS each, `synced` (parts and their
directory reach the disk before an insert returns) and not: bodies one after
another, and asynchronous inserts, which ClickHouse gathers into common parts,
from as many threads as the load has connections.

The engine runs in this process: there is no HTTP and no other process to pay
for, and merges still due when the clock stops are not counted. The rows have
to be all there, with the values' exact sum.
"""

import itertools
import json
import pathlib
import resource
import shutil
import subprocess
import sys
import threading
import time
from decimal import Decimal

import chdb
from chdb.session import Session

N_THREADS = 8

TABLE = """
CREATE TABLE bench.metrics (
    user_id Int64, experiment_id LowCardinality(String), event_type LowCardinality(String),
    value Decimal(18, 4), timestamp DateTime64(6, 'UTC'), event_id String
) ENGINE = MergeTree ORDER BY (experiment_id, user_id, timestamp)
SETTINGS fsync_after_insert = {synced}, fsync_part_directory = {synced}
"""

# How long events are gathered: short, since these threads send nothing more while they wait.
ASYNCHRONOUS = "async_insert = 1, wait_for_async_insert = 1, async_insert_busy_timeout_min_ms = 5, async_insert_busy_timeout_max_ms = 50"
WAYS = ["one after another", "asynchronous"]


def inserting(session: Session, bodies: list[str], way: str, end: float) -> int:
    """Inserts bodies until `end`; gives how many."""
    turn = itertools.count()
    n_inserted = itertools.count()

    def one_after_another() -> None:
        while time.perf_counter() < end:
            with session.send_insert("INSERT INTO bench.metrics SETTINGS async_insert = 0", "JSONEachRow") as insert:
                insert.append(bodies[next(turn) % len(bodies)])
                insert.finish()
            next(n_inserted)

    def asynchronously() -> None:
        while time.perf_counter() < end:
            body = bodies[next(turn) % len(bodies)]
            session.query(f"INSERT INTO bench.metrics SETTINGS {ASYNCHRONOUS} FORMAT JSONEachRow {body}")
            next(n_inserted)

    if way == "one after another":
        one_after_another()
    else:
        threads = [threading.Thread(target=asynchronously) for _ in range(N_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return next(n_inserted)


def expected(bodies: list[str], n_inserted: int) -> tuple[int, Decimal]:
    """Rows, and the sum of their values, of the first `n_inserted` bodies in turn."""
    n_rows, total = 0, Decimal(0)
    rounds, rest = divmod(n_inserted, len(bodies))
    for number, body in enumerate(bodies):
        n_times = rounds + (number < rest)
        if n_times:
            values = [event["value"] for event in json.loads(body, parse_float=Decimal)]
            n_rows += n_times * len(values)
            total += n_times * sum(values)
    return n_rows, total


def measured(path: str, directory: str, seconds: float, way: str, synced: bool) -> dict:
    bodies = pathlib.Path(path).read_text().splitlines()
    session = Session(directory)
    session.query("CREATE DATABASE bench")
    session.query(TABLE.format(synced=int(synced)))
    started, cpu = time.perf_counter(), time.process_time()
    n_inserted = inserting(session, bodies, way, started + seconds)
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    found = str(session.query("SELECT count(), sum(value::Decimal(38, 4)) FROM bench.metrics", "TSV")).split()
    n_rows, total = expected(bodies, n_inserted)
    if (int(found[0]), Decimal(found[1])) != (n_rows, total):
        sys.exit(f"{n_rows} rows with the sum {total} were inserted, {found[0]} with {found[1]} are there: no ratio")
    return {
        "engine": f"ClickHouse {chdb.engine_version}",
        "way": way,
        "synced": synced,
        "events": n_rows,
        "events_per_second": n_rows / wall_s,
        "cpu_us": cpu_s / n_rows * 1e6,
        "peak_mb": peak_mb,
    }


def every_way(path: str, directory: str, seconds: str) -> list[dict]:
    """Each way in a process and a directory of its own."""
    runs = []
    for way, synced in itertools.product(WAYS, ["synced", "unsynced"]):
        shutil.rmtree(directory, ignore_errors=True)
        command = [sys.executable, __file__, "way", path, directory, seconds, way, synced]
        process = subprocess.run(command, stdout=subprocess.PIPE)
        if process.returncode != 0:
            sys.exit(f"inserting `{way}`, {synced}, failed with exit code {process.returncode}")
        runs.append(json.loads(process.stdout))
    shutil.rmtree(directory)
    return runs


if __name__ == "__main__":
    match sys.argv[1:]:
        case [path, directory, seconds]:
            print(json.dumps(every_way(path, directory, seconds)))
        case ["way", path, directory, seconds, way, synced]:
            print(json.dumps(measured(path, directory, float(seconds), way, synced == "synced")))
        case _:
            sys.exit(__doc__)
