"""Cohorts of a simulated shop: counts and sums are those that DuckDB finds in the exported events."""

import datetime
import json
import random
import subprocess
import sys

import packages
from harness import CHECKOUT, Server, main, must, trialog

N_USERS = 4_000
N_DAYS = 12
# A day of exposure has a closed window two days later.
WINDOW = "2d"
FOLLOWED = 5
SEED = 21
N_AT_ONCE = 10_000

# Users who count, with the moment and the variant of their exposure.
EXPOSED = """
WITH exposed AS (
    SELECT user_id, min(assigned_at) AS since, min(variant) AS variant
    FROM assignments GROUP BY user_id HAVING count(DISTINCT variant) = 1
),
happened AS (SELECT DISTINCT user_id, event_type, "timestamp" AS time, value, event_fingerprint FROM metrics)
"""
BY_DAY = EXPOSED + """,
per_user AS (
    SELECT exposed.user_id, variant, CAST(since AS DATE) AS day,
        count(*) FILTER (event_type = 'buy') AS buys,
        coalesce(sum(value) FILTER (event_type = 'buy'), 0) AS spent,
        count(*) FILTER (event_type = 'visit') AS visits
    FROM exposed LEFT JOIN happened
        ON happened.user_id = exposed.user_id AND time >= since AND time < since + INTERVAL 2 DAY
    GROUP BY ALL
)
SELECT day, variant, count(*), count(*) FILTER (buys > 0), sum(spent), sum(visits)
FROM per_user WHERE day + INTERVAL 3 DAY <= TIMESTAMP '{data_time}'
GROUP BY ALL ORDER BY day, variant
"""
SINCE = EXPOSED + """,
cohort AS (SELECT * FROM exposed WHERE since + INTERVAL {days} DAY <= TIMESTAMP '{data_time}'),
per_user AS (
    SELECT cohort.user_id, variant, CAST(floor(epoch_us(time - since) / 86400e6) AS INTEGER) + 1 AS day,
        count(*) FILTER (event_type = 'visit') AS visits,
        count(*) FILTER (event_type = 'buy') AS buys,
        coalesce(sum(value) FILTER (event_type = 'buy'), 0) AS spent
    FROM cohort JOIN happened ON happened.user_id = cohort.user_id
    WHERE time >= since AND time < since + INTERVAL {days} DAY
    GROUP BY ALL
)
SELECT variant, day, count(*) FILTER (visits > 0), sum(visits), count(*) FILTER (buys > 0), sum(spent)
FROM per_user GROUP BY ALL ORDER BY variant, day
"""
COHORT = EXPOSED + "SELECT variant, count(*) FILTER (since + INTERVAL {days} DAY <= TIMESTAMP '{data_time}') FROM exposed GROUP BY ALL ORDER BY variant"


def shop(checks, scratch):
    try:
        interpreter = packages.python(CHECKOUT / "e2e" / "duckdb" / "requirements.txt")
    except subprocess.CalledProcessError as error:
        return checks.skip("cohorts against DuckDB", f"duckdb cannot be installed: {error}")
    exported = scratch / "exported"
    exported.mkdir()
    data = scratch / "data"
    with Server(data) as server:
        fill(server)
        server.run_now()
        for table in ("assignments", "metrics"):
            answer = server.get(f"/v1/export/{table}")
            accepted(answer)
            (exported / f"{table}.parquet").write_bytes(answer.body)

        def ask(sql, **values):
            command = [interpreter, CHECKOUT / "e2e" / "duckdb" / "query.py", exported, sql.format(**values)]
            asked = subprocess.run([str(part) for part in command], capture_output=True, text=True)
            if asked.returncode != 0:
                raise RuntimeError(asked.stderr)
            return json.loads(asked.stdout)

        exposure_days(checks, server, ask)
        days_since(checks, server, ask)
        commands(checks, data)


def exposure_days(checks, server, ask):
    cohorts = cohorts_by(server, "exposure_day&metric=buy:sum")
    visits = cohorts_by(server, "exposure_day&metric=visit:count")
    data_time = cohorts["data_time"].rstrip("Z")
    found = []
    for day, of_visits in zip(cohorts["exposure_days"]["days"], visits["exposure_days"]["days"]):
        for bought, visited in zip(day["metrics"][0]["variants"], of_visits["metrics"][0]["variants"]):
            found.append([day["day"], bought["variant"], bought["users"], bought["converted_users"], bought["total"], visited["events"]])
    expected = [[day, name, users, buyers, str(spent), int(visits)] for day, name, users, buyers, spent, visits in ask(BY_DAY, data_time=data_time)]
    checks.equal(f"users and sums of {len(expected) // 2} days of exposure (seed {SEED})", found, expected)
    checks.check("there are several days, and users whose windows are open", len(expected) > 10 and cohorts["exposure_days"]["open_users"] > 0, cohorts["exposure_days"]["open_users"])


def days_since(checks, server, ask):
    for days in (3, FOLLOWED):
        cohorts = [cohorts_by(server, f"days_since_exposure&days={days}&metric={metric}") for metric in ("visit:count", "buy:conversion", "buy:sum")]
        data_time = cohorts[0]["data_time"].rstrip("Z")
        since = cohorts[0]["days_since_exposure"]
        checks.equal(f"the users of the cohort of {days} days", sorted(since["users"].items()), [tuple(row) for row in ask(COHORT, days=days, data_time=data_time)])
        visits, buyers, spent = ([variant["days"] for variant in answer["days_since_exposure"]["metrics"][0]["variants"]] for answer in cohorts)
        found = [
            [name, visit["day"], visit["active_users"], visit["total"], buyer["active_users"], money["total"]]
            for name, *of_variant in zip(("a", "b"), visits, buyers, spent)
            for visit, buyer, money in zip(*of_variant)
        ]
        expected = [[name, day, active, f"{int(visits)}.0000", buyers, str(money)] for name, day, active, visits, buyers, money in ask(SINCE, days=days, data_time=data_time)]
        checks.equal(f"active users and sums of {days} days since the exposure", found, expected)


def commands(checks, data):
    printed = must(trialog("cohorts", "shop", "--by", "exposure_day", data_dir=data)).out
    checks.check("the command prints days of exposure and their drift", "drift over the calendar" in printed and "sample ratio" in printed, printed)
    printed = must(trialog("cohorts", "shop", "--by", "days_since_exposure", "--days", "4", data_dir=data)).out
    checks.check("the command prints the verdict of a cohort", "per doubling of the days" in printed, printed)
    printed = must(trialog("timeline", "shop", "--backfill", "all", data_dir=data)).out
    checks.check("the command prints past days and stability", "backfilled" in printed and "stable since" in printed, printed)
    slip = trialog("cohorts", "shop", "--by", "day", data_dir=data)
    checks.check("a slip in what users are told apart by is told", slip.code != 0 and "days_since_exposure" in slip.err, slip.err)


def cohorts_by(server, query):
    answer = server.get(f"/v1/experiments/shop/cohorts?by={query}")
    if answer.status != 200:
        raise RuntimeError(f"no cohorts by {query}: {answer}")
    return answer.json()


def fill(server):
    """Users come on each day; some come again, some get a second variant, and all events are sent twice."""
    draw = random.Random(SEED)
    definition = {
        "experiment_id": "shop", "variants": [{"variant": "a"}, {"variant": "b"}], "attribution_window": WINDOW,
        "metrics": {"primary": ["visit:count"], "secondary": ["buy:sum", "buy:conversion"]},
    }
    accepted(server.post("/v1/experiments", definition))
    start = datetime.datetime.now(datetime.UTC).replace(microsecond=0) - datetime.timedelta(days=N_DAYS)
    assignments, events = [], []
    for user in range(N_USERS):
        variant = draw.choice("ab")
        exposed = start + datetime.timedelta(microseconds=draw.randrange(N_DAYS * 86_400_000_000))
        assign(assignments, user, variant, exposed)
        if draw.random() < 0.3:
            other = "ab"[draw.random() < 0.5] if draw.random() < 0.05 else variant
            assign(assignments, user, other, exposed + datetime.timedelta(hours=draw.randrange(1, 50)))
        for number in range(draw.randrange(12)):
            at = exposed + datetime.timedelta(microseconds=draw.randrange(-86_400_000_000, 7 * 86_400_000_000))
            if at > start + datetime.timedelta(days=N_DAYS):
                continue
            event_type = "visit" if draw.random() < 0.8 else "buy"
            value = f"{draw.randrange(100_000) / 100:.2f}" if event_type == "buy" else "1"
            events.append({"experiment_id": "shop", "user_id": user, "event_type": event_type, "timestamp": text(at), "value": float(value), "event_id": f"{user} {number}"})
    for path, batch in (("assignments", assignments), ("metrics", events), ("metrics", events)):
        for first in range(0, len(batch), N_AT_ONCE):
            accepted(server.post(f"/v1/events/{path}", batch[first:first + N_AT_ONCE]))


def assign(assignments, user, variant, at):
    assignments.append({"experiment_id": "shop", "user_id": user, "variant": variant, "assigned_at": text(at)})


def text(time):
    return time.isoformat().replace("+00:00", "Z")


def accepted(answer):
    if answer.status not in (200, 201, 202):
        raise RuntimeError(f"{answer.status}: {answer.body[:500]}")


if sys.version_info < (3, 11):
    sys.exit("Python 3.11 or newer is needed")
main(shop)
