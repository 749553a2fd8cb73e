"""What the analyses count on a simulated stream, against SQL over its export.

The demo's experiments have late events, copies, crossovers and forced users. `trialog export`
writes their events, DuckDB counts anew, and every count has to be the same.
"""

import json
import subprocess
import urllib.parse

import packages
from harness import CHECKOUT, Server, main, must, trialog

SQL = CHECKOUT / "e2e" / "sql"
SHOP = ["add_to_cart", "checkout_start", "purchase"]
FUNNELS = [
    {"experiment": "checkout_one_page", "steps": SHOP, "window_hours": 168, "limit_hours": [None] * 3},
    {"experiment": "checkout_one_page", "steps": SHOP, "window_hours": 24, "limit_hours": [None, 1, 2]},
    {"experiment": "checkout_one_page", "steps": ["add_to_cart", "add_to_cart", "purchase", "refund"], "window_hours": None, "limit_hours": [12, None, 30, None]},
    {"experiment": "homepage_aa", "steps": ["page_view", "page_view", "page_view", "signup"], "window_hours": 48, "limit_hours": [None, 5, 5, None]},
    {"experiment": "search_ranking", "steps": ["result_click", "result_click", "purchase"], "window_hours": 96, "limit_hours": [2, 24, None]},
    {"experiment": "search_ranking", "steps": ["search_abandon", "result_click"], "window_hours": 1, "limit_hours": [None, None]},
]


def demo(checks, scratch):
    data = scratch / "data"
    must(trialog("demo", "--exit", data_dir=data))
    files = []
    for table in ("assignments", "metrics"):
        files.append(scratch / f"{table}.parquet")
        must(trialog("export", table, files[-1], data_dir=data))
    python = packages.python(SQL / "requirements.txt")
    with Server(data) as server:
        funnels(checks, server, python, files)


def funnels(checks, server, python, files):
    for question, counts in zip(FUNNELS, counted(python, "funnel.py", files, FUNNELS)):
        steps = ",".join(question["steps"])
        limits = ",".join("" if limit is None else f"{limit}h" for limit in question["limit_hours"])
        window = "none" if question["window_hours"] is None else f"{question['window_hours']}h"
        query = urllib.parse.urlencode({"steps": steps, "window": window, "limits": limits})
        report = server.get(f"/v1/experiments/{question['experiment']}/funnel?{query}").json()
        found = {row["variant"]: [row["users"]] + [step["users"] for step in row["steps"]] for row in report["variants"]}
        name = f"the funnel {steps} of {question['experiment']} within {window}, limits {limits}"
        checks.equal(name, found, counts)
        checks.check(f"{name}: somebody takes the second step", all(row[2] > 0 for row in counts.values()), counts)


def counted(python, script, files, questions):
    """The answers of a script in DuckDB, one for each question."""
    command = [python, SQL / script, *files, json.dumps(questions)]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise RuntimeError(f"{script}: {done.stderr[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


main(demo)
