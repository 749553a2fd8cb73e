"""The other engines on the same rows: installed, checked for the same answers, measured."""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import venv

from trialog import HERE, aggregate, binary, generate, imported, measured, results_digest

PACKAGES = {
    "duckdb": ["duckdb==2.0.0"],
    "clickhouse": [
        "chdb==4.4.0",
        "chdb-core==26.9.0",
        "numpy==2.4.6",
        "pandas==3.1.1",
        "pyarrow==26.0.1",
        "python-dateutil==4.0.0",
        "tzdata==2026.6",
    ],
}


class Peers:
    """The other engines, in a virtual environment of their own."""

    def __init__(self, work: pathlib.Path, engines: list[str]):
        self.work, self.engines = work, engines
        venv.create(work / "venv", with_pip=True)
        self.python = str(work / "venv" / "bin" / "python")
        # DuckDB also writes the hard rows.
        packages = [package for engine in {"duckdb", *engines} for package in PACKAGES[engine]]
        command = [self.python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--only-binary", ":all:", *packages]
        if subprocess.run(command).returncode != 0:
            sys.exit(f"cannot install {' '.join(packages)}: leave a peer out with --no-duckdb or --no-clickhouse")

    def figures(self, script: str, *arguments: str | pathlib.Path | int):
        """What a script of this directory measured."""
        process = subprocess.run([self.python, str(HERE / script), *map(str, arguments)], stdout=subprocess.PIPE)
        if process.returncode != 0:
            sys.exit(f"bench/{script} {arguments[0]} failed with exit code {process.returncode}, see above; --no-duckdb, --no-clickhouse and --no-growthbook leave peers out")
        return json.loads(process.stdout)


def ready(options: argparse.Namespace, work: pathlib.Path) -> Peers | None:
    """The peers that are asked for, installed and found to give the right answers."""
    engines = [engine for engine in PACKAGES if not getattr(options, f"no_{engine}")]
    if not engines:
        return None
    peers = Peers(work, engines)
    check_hard_rows(peers)
    return peers


def check_hard_rows(peers: Peers) -> None:
    """Ends the run unless all give one answer where copies differ and users see several variants."""
    folder, data = peers.work / "hard", peers.work / "hard-data"
    generate(folder / "plain", 420_000, 30_000)
    peers.figures("hard_rows.py", folder / "plain", folder / "rows")
    imported(folder / "rows", data)
    aggregate(data, "--full")
    for engine in peers.engines:
        scorecard(peers, engine, folder / "rows", folder / engine, 1, results_digest(data))
    shutil.rmtree(folder)
    shutil.rmtree(data)


def scorecard(peers: Peers, engine: str, population: pathlib.Path, database: pathlib.Path, rounds: int, expected: str) -> dict:
    """The full recomputation as SQL; the run ends where the answer is another one."""
    script = f"{engine}_scorecard.py"
    loaded = peers.figures(script, "load", population, database)
    figures = peers.figures(script, "score", database, rounds)
    if figures["digest"] != expected:
        sys.exit(f"{figures['engine']} has another answer than Trialog, {figures['digest']} in place of {expected}: no ratio")
    return {**loaded, **figures}


def clickhouse_ingest(peers: Peers, n_bodies: int, seconds: int) -> list[dict]:
    bodies = peers.work / "bodies.ndjson"
    measured([binary(), "bench", "bodies", "--out", str(bodies), "--bodies", str(n_bodies)])
    return peers.figures("clickhouse_ingest.py", bodies, peers.work / "ingest", seconds)


def against_peers(peers: Peers, options: argparse.Namespace, expected: str) -> dict:
    """Every peer's figures; `expected` is the digest of Trialog's results."""
    work = peers.work
    figures: dict = {engine: scorecard(peers, engine, work / "population", work / engine, options.rounds, expected) for engine in peers.engines}
    if "duckdb" in figures and not options.no_growthbook:
        figures["growthbook"] = peers.figures("growthbook_style.py", work / "duckdb", work / "data", "--sample", options.growthbook_sample)
    if "clickhouse" in figures:
        n_bodies = max(50, int(1_000 * options.scale))
        figures["clickhouse_ingest"] = clickhouse_ingest(peers, n_bodies, min(30, options.load_seconds))
    return figures
