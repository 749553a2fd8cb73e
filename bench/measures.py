"""What is measured of one build: load over HTTP, refreshes, full runs."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess

from trialog import aggregate, binary, measured


def least(runs: list[dict]) -> dict:
    return min(runs, key=lambda run: run["ms"])


def thread_seconds(pid: int) -> dict[str, float]:
    """CPU seconds of a process's threads, by their names."""
    seconds: dict[str, float] = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        name = (task / "comm").read_text().strip()
        fields = (task / "stat").read_text().rsplit(")", 1)[1].split()
        seconds[name] = seconds.get(name, 0) + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


def peak_mb(pid: int) -> float:
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


@contextlib.contextmanager
def serving(data_dir: pathlib.Path):
    """A server on a data directory: its process and its address."""
    environment = {**os.environ, "TRIALOG_DATA_DIR": str(data_dir), "TRIALOG_LOG": "error"}
    command = [binary(), "serve", "--listen", "127.0.0.1:0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, stderr=subprocess.DEVNULL)
    try:
        yield server.pid, server.stdout.readline().decode().split()[-1]
    finally:
        server.terminate()
        server.wait()


def load(work: pathlib.Path, seconds: int) -> dict:
    """Load over HTTP: events per second, and where the server's CPU goes."""
    with serving(work / "load") as (pid, address):
        run = measured([binary(), "bench", "load", "--seconds", str(seconds), "--server", address])
        report = json.loads(run["output"])
        threads = thread_seconds(pid)
        n_events = report["accepted"]

        def micros(name: str) -> float:
            return sum(s for thread, s in threads.items() if thread.startswith(name)) / n_events * 1e6

        return {
            **report,
            "generator_us": run["cpu_s"] / n_events * 1e6,
            "writer_us": micros("warehouse-write"),
            "flush_us": micros("warehouse-flush"),
            "compaction_us": micros("warehouse-compa"),
            "server_us": sum(threads.values()) / n_events * 1e6,
            "peak_mb": peak_mb(pid),
        }


def refresh(work: pathlib.Path, population: pathlib.Path, name: str, rounds: int) -> dict:
    """A refresh after new events, and the full recomputation right after it, in a running server."""
    pairs = []
    for _ in range(rounds):
        copy = work / name
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(work / "data", copy)
        os.sync()
        with serving(copy) as (_, address):
            # The run that the schedule starts with is over when this one is.
            measured([binary(), "aggregate", "--server", address])
            measured([binary(), "import", "metrics", str(population / f"{name}.parquet"), "--server", address])
            part = aggregate(copy, "--server", address)
            full = least([aggregate(copy, "--full", "--server", address) for _ in range(2)])
        pairs.append({"ms": part["ms"], "full_ms": full["ms"], "experiments": part["experiments"]})
        shutil.rmtree(copy)
    return least(pairs)
