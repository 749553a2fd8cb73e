"""Asks an engine for the scorecard in several ways and keeps the fastest.

Each way runs in a process of its own, so that its peak memory is its own: all
once, then the fastest for the remaining rounds.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

from digest import digest


def fastest(script: str, database: str, ways: list[str], n_rounds: int) -> dict:
    """The fastest way's figures, and the seconds of all; all have to give the same answer."""

    def asked(way: str, n_times: int) -> dict:
        command = [sys.executable, script, "ask", database, way, str(n_times)]
        process = subprocess.run(command, stdout=subprocess.PIPE)
        if process.returncode != 0:
            sys.exit(f"`{script}` failed on `{way}`, exit code {process.returncode}")
        return json.loads(process.stdout)

    found = {way: asked(way, 1) for way in ways}
    best = min(found, key=lambda way: found[way]["s"])
    if n_rounds > 1:
        again = asked(best, n_rounds - 1)
        found[best]["peak_mb"] = max(found[best]["peak_mb"], again["peak_mb"])
        if again["s"] < found[best]["s"]:
            found[best] |= {"s": again["s"], "cpu_s": again["cpu_s"]}
    digests = {one["digest"] for one in found.values()}
    if len(digests) != 1:
        sys.exit(f"the ways of `{script}` give different answers")
    return {**found[best], "way": best, "ways_s": {way: one["s"] for way, one in found.items()}}


def timed(engine: str, ask: Callable[[], list[tuple]], n_times: int) -> dict:
    """The least seconds of `n_times` askings, and the digest of the last answer."""
    runs = []
    for _ in range(n_times):
        started, cpu = time.perf_counter(), time.process_time()
        rows = ask()
        runs.append((round(time.perf_counter() - started, 3), round(time.process_time() - cpu, 3)))
    seconds, cpu_seconds = min(runs)
    return {
        "engine": engine,
        "s": seconds,
        "cpu_s": cpu_seconds,
        "rows": len(rows),
        "digest": digest(rows),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
