"""Runs the binary that is measured."""

import json
import os
import pathlib
import subprocess
import sys
import time

from digest import digest, results

HERE = pathlib.Path(__file__).resolve().parent


def binary() -> str:
    target = os.environ.get("CARGO_TARGET_DIR", str(HERE.parent / "target"))
    return os.environ.get("TRIALOG_BIN", f"{target}/release/trialog")


def measured(arguments: list[str], data_dir: pathlib.Path | None = None) -> dict:
    """Runs a command; gives its output, wall and CPU seconds and peak memory."""
    environment = {**os.environ, "TRIALOG_LOG": "error"}
    if data_dir:
        environment["TRIALOG_DATA_DIR"] = str(data_dir)
    started = time.perf_counter()
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, env=environment)
    output = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{' '.join(arguments)} failed: {output}")
    return {
        "output": output,
        "wall_s": time.perf_counter() - started,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss / 1024,
    }


def generate(out: pathlib.Path, n_metrics: int, n_assignments: int) -> str:
    """Writes a population; gives how many of what."""
    sizes = ["--metrics", str(n_metrics), "--assignments", str(n_assignments)]
    return measured([binary(), "bench", "generate", "--out", str(out), *sizes])["output"].split(" in ")[0]


def imported(population: pathlib.Path, data: pathlib.Path) -> dict:
    """Imports both files; gives what the metric events took."""
    measured([binary(), "import", "assignments", str(population / "assignments.parquet")], data)
    return measured([binary(), "import", "metrics", str(population / "metrics.parquet")], data)


def aggregate(data_dir: pathlib.Path, *flags: str) -> dict:
    run = measured([binary(), "aggregate", "--format", "json", *flags], data_dir)
    report = json.loads(run["output"])
    return {"ms": report["duration_ms"], "experiments": report["experiments"], "cpu_s": run["cpu_s"], "peak_mb": run["peak_mb"]}


def results_digest(data_dir: pathlib.Path) -> str:
    """The digest that another engine's answer has to have."""
    return digest(results(str(data_dir)))
