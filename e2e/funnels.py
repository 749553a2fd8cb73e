"""Funnels on the log of a simulated shop: the counts that an independent computation has.

The log has no arms, so its sessions, and then its users, are dealt out to two variants, and the
counts of both are added up. The expected counts are those of the data set's README and, with
limits, of shared/reference/analyses, where a search through every chain confirms them.
"""

import csv
import gzip
import json
import zlib

from harness import Server, main, must, trialog
from stated import found as folder_of

SHORT = ["product_view", "add_to_cart", "purchase"]
LONG = ["product_view", "add_to_cart", "cart", "shipping_details", "payment_details", "purchase"]
# By unit and steps: without limits, and with a limit between any two steps.
EXPECTED = {
    ("session_id", 3): {None: [2868, 944, 255], "1h": [2868, 944, 255], "10m": [2868, 820, 110]},
    ("user_id", 3): {None: [598, 517, 290], "1h": [598, 480, 207], "10m": [598, 452, 103]},
    ("session_id", 6): {None: [2868, 944, 477, 194, 72, 15], "1h": [2868, 944, 477, 194, 72, 15], "10m": [2868, 820, 340, 114, 45, 12]},
    ("user_id", 6): {None: [598, 517, 429, 329, 222, 114], "1h": [598, 480, 321, 167, 68, 15], "10m": [598, 452, 254, 103, 44, 12]},
}
N_AT_ONCE = 10_000


def shop(checks, scratch):
    folder = folder_of(checks, "data/shop_events")
    if folder is None:
        return
    with gzip.open(folder / "shop_events.csv.gz", "rt") as lines:
        rows = list(csv.DictReader(lines))
    data = scratch / "data"
    with Server(data) as server:
        for unit in ("session_id", "user_id"):
            store(server, unit, rows)
        server.run_now()
        for (unit, n_steps), counts in EXPECTED.items():
            steps = SHORT if n_steps == 3 else LONG
            for limit, expected in counts.items():
                limits = "" if limit is None else "&limits=" + ",".join([""] + [limit] * (n_steps - 1))
                answer = server.get(f"/v1/experiments/by-{unit[:4]}/funnel?steps={','.join(steps)}&window=none{limits}")
                funnel = answer.json() if answer.status == 200 else {"variants": []}
                found = [[step["users"] for step in variant["steps"]] for variant in funnel["variants"]]
                checks.equal(f"{n_steps} steps by {unit}, limit {limit}", [sum(users) for users in zip(*found)], expected)
        by_platform(checks, server)
        printed = must(trialog("funnel", "by-sess", "--steps", ",".join(SHORT), "--window", "none", data_dir=data)).out
        checks.check("the command prints each step", all(step in printed for step in SHORT) and "of exposed" in printed, printed)
        slip = trialog("funnel", "by-sess", "--steps", "product_view,purchases", data_dir=data)
        checks.check("a slip in a step is told", slip.code != 0 and "did you mean `purchase`?" in slip.err, slip.err)


def file(checks, scratch):
    """The same counts without a server, straight from the file."""
    folder = folder_of(checks, "data/shop_events")
    if folder is None:
        return
    log = folder / "shop_events.csv.gz"
    for (unit, n_steps), counts in EXPECTED.items():
        steps = SHORT if n_steps == 3 else LONG
        for limit, expected in counts.items():
            limits = [] if limit is None else ["--limits", ",".join([""] + [limit] * (n_steps - 1))]
            said = must(trialog("analyze", log, "--unit", unit, "--funnel", ",".join(steps), *limits, "--format", "json"))
            (variant,) = json.loads(said.out)["variants"]
            checks.equal(f"{n_steps} steps by {unit} of the file, limit {limit}", [step["users"] for step in variant["steps"]], expected)
    slip = trialog("analyze", log, "--funnel", "product_view,purchases")
    checks.check("a slip in a step of a file is told", slip.code != 0 and "did you mean `purchase`?" in slip.err, slip.err)


def by_platform(checks, server):
    """The sessions of each platform, as the data set's README counts them."""
    for platform, expected in (("desktop", [1494, 500, 147]), ("mobile", [1029, 327, 71]), ("tablet", [345, 117, 37])):
        funnel = server.get(f"/v1/experiments/by-sess/funnel?steps={','.join(SHORT)}&window=none&segment.platform={platform}").json()
        found = [[step["users"] for step in variant["steps"]] for variant in funnel["variants"]]
        checks.equal(f"sessions on {platform}", [sum(users) for users in zip(*found)], expected)


def store(server, unit, rows):
    """Sends the log with `unit` as the user; every unit is exposed before its events."""
    experiment = f"by-{unit[:4]}"
    definition = {"experiment_id": experiment, "variants": [{"variant": "a"}, {"variant": "b"}], "metrics": {"primary": ["purchase:conversion"]}}
    accepted(server.post("/v1/experiments", definition))
    platforms = {row[unit]: row["platform"] for row in rows}
    assignments = [
        {"experiment_id": experiment, "user_id": name, "variant": "ab"[zlib.crc32(name.encode()) % 2], "assigned_at": "2024-01-01T00:00:00Z", "context": {"platform": platform}}
        for name, platform in platforms.items()
    ]
    events = [
        {"experiment_id": experiment, "user_id": row[unit], "event_type": row["event"], "timestamp": row["timestamp"].replace(" ", "T") + "Z", "event_id": str(number)}
        for number, row in enumerate(rows)
    ]
    for path, batch in (("assignments", assignments), ("metrics", events)):
        for start in range(0, len(batch), N_AT_ONCE):
            accepted(server.post(f"/v1/events/{path}", batch[start:start + N_AT_ONCE]))


def accepted(answer):
    if answer.status not in (200, 201, 202):
        raise RuntimeError(f"{answer.status}: {answer.body[:500]}")


main(shop, file)
