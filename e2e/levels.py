"""How often the headline of an A/A experiment is ever significant, through the running service.

Series of 24 looks at 90/10, 5 % converted: users come in between the looks, every look is a
run, and what was ever significant stands in the last results. Half of the series have a plan,
whose look comes on the way. `TRIALOG_SERIES=1000 e2e/run levels` makes as many series as
docs/statistics.md tells of; without it a tenth.
"""

import json
import os
import random
from datetime import datetime, timedelta, timezone

from harness import Server, comparison, main

N_SERIES = int(os.environ.get("TRIALOG_SERIES", "100"))
SEED = 20261129
LOOKS = 24
USERS_PER_LOOK = 200
RATE = 0.05
SMALL = 0.1
# Users of the smaller arm at about half of the looks.
PLANNED = 240


def bound(n, level=0.05, sure=0.99):
    """The most rejections of `n` at `level` that chance explains: a binomial bound."""
    probability = (1 - level) ** n
    below, k = probability, 0
    while below < sure:
        k += 1
        probability *= (n - k + 1) / k * level / (1 - level)
        below += probability
    return k


def register(server, at, planned):
    plan = {"sample_size_per_variant": PLANNED} if planned else None
    definition = {
        "experiment_id": f"series-{at}", "plan": plan, "metrics": {"primary": ["buy:conversion"]},
        "variants": [{"variant": "a", "weight": 1 - SMALL}, {"variant": "b", "weight": SMALL}],
    }
    for path, body in (("/v1/experiments", definition), (f"/v1/experiments/series-{at}/start", None)):
        answer = server.post(path, body)
        if answer.status not in (200, 201):
            raise RuntimeError(repr(answer))


def send(server, kind, rows):
    for first in range(0, len(rows), 10_000):
        body = "\n".join(json.dumps(row) for row in rows[first : first + 10_000])
        answer = server.post(f"/v1/events/{kind}", body, {"content-type": "application/x-ndjson"})
        if answer.status != 202 or answer.json()["rejected"]:
            raise RuntimeError(repr(answer))


def look(server, chance, number, start):
    """The users of one look of all series, and the run."""
    exposed = (start + timedelta(hours=8 * number)).isoformat()
    bought = (start + timedelta(hours=8 * number + 1)).isoformat()
    assignments, purchases = [], []
    for at in range(N_SERIES):
        for user in range(USERS_PER_LOOK):
            own = {"user_id": number * USERS_PER_LOOK + user, "experiment_id": f"series-{at}"}
            variant = "b" if chance.random() < SMALL else "a"
            assignments.append({**own, "variant": variant, "assigned_at": exposed})
            if chance.random() < RATE:
                purchases.append({**own, "event_type": "buy", "timestamp": bought, "event_id": f"{at} {own['user_id']}"})
    send(server, "assignments", assignments)
    send(server, "metrics", purchases)
    server.run_now()


def levels(checks, scratch):
    chance = random.Random(SEED)
    # Long ago, so that windows have closed: the planned look waits for users only.
    start = datetime.now(timezone.utc) - timedelta(days=30)
    with Server(scratch / "data", timeout=300) as server:
        for at in range(N_SERIES):
            register(server, at, at % 2 == 1)
        for number in range(LOOKS):
            look(server, chance, number, start)
        reports = [server.results(f"series-{at}") for at in range(N_SERIES)]
    of = [comparison(report, "buy", "conversion", "b") for report in reports]
    looks = {report["sequence"]["looks"] for report in reports}
    checks.equal("every series has its looks", looks, {LOOKS})
    plain, planned = of[0::2], of[1::2]
    ever = sum(own["sequential"]["p_value"] < 0.05 for own in plain)
    most = bound(len(plain))
    checks.check(f"without a plan {ever} of {len(plain)} headlines were ever significant, at most {most} may be", ever <= most)
    taken = [report["sequence"]["planned"]["at"] for report in reports[1::2]]
    checks.check("every planned look was taken", all(taken), taken.count(None))
    fixed = [own for own in planned if own["headline"]["test"] == "fixed_horizon"]
    stands = sum(own["headline"]["flag"] == "significant" for own in planned)
    most = bound(len(planned))
    checks.check(f"with a plan {stands} of {len(planned)} headlines were ever significant, at most {most} may be", stands <= most)
    checks.check("the outcome of the planned look stands", len(fixed) >= len(planned) - most, len(fixed))
    ratio = sum(report["health"]["srm"]["failed"] for report in reports)
    most = bound(N_SERIES, 0.01)
    checks.check(f"the sample ratio of {ratio} of {N_SERIES} was ever called wrong, at most {most} may be", ratio <= most)


if __name__ == "__main__":
    print(f"{N_SERIES} series with the seed {SEED}", flush=True)
    main(levels)
