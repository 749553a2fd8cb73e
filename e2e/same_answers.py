"""The same answers from Kafka, ClickHouse and PostgreSQL as from a data directory.

Experiments with metrics of every kind, filters by segment and by time of
exposure, changed definitions: every number of the results is compared as it is
in JSON, and exports of events byte by byte. Then what several processes have
to agree on: a change through one API process is in force in the other within
moments.
"""

import hashlib
import json
import sys
import time

from cluster import Cluster, Stream, running
from harness import Checks, Server, poll, scratch

METRICS = [
    {"name": "revenue", "kind": "sum", "event_type": "buy", "window": "3d", "winsorise": {"upper": 0.95}},
    {"name": "clicks_7d", "kind": "count", "event_type": "click"},
    {"name": "price", "kind": "ratio", "event_type": "buy", "denominator": "click", "window": "5d"},
    {"name": "came_back", "kind": "retention", "event_type": "click", "retention": {"from": "1d", "to": "4d"}},
    {"name": "median", "kind": "quantile", "event_type": "buy", "quantile": 0.5},
    {"name": "adjusted", "kind": "sum", "event_type": "buy", "covariate": {"event_type": "click", "period": "4d"}},
    {"name": "early_sales", "kind": "sum", "event_type": "buy", "min_value": "2.5", "delay": "-6h", "window": "3d", "covariate": {"period": "2d"}},
    {"name": "of_buyers", "kind": "sum", "event_type": "buy", "delay": "1d", "winsorise": {"upper": 0.9, "of": "users_with_event"}},
]
NAMES = [own["name"] for own in METRICS]
QUERIES = ["", "segment.platform=ios", "segment.platform=android&segment.n=1", "from=2025-10-09T10:00:00Z&to=2025-10-10T02:00:00Z", "kind=sum"]
IDS = ["hot", "cold-0", "cold-1", "cold-5"]


def experiment(name, **more):
    return {
        "experiment_id": name,
        "variants": [{"variant": "a"}, {"variant": "b"}],
        "metrics": {"primary": NAMES[:2], "secondary": NAMES[2:5], "guardrail": NAMES[5:]},
        **more,
    }


def define(client):
    for own in METRICS:
        answer = client.post("/v1/metrics", {"direction": "increase", **own})
        assert answer.status == 201, answer
    for own in (experiment("hot"), experiment("cold-0", start_at="2025-10-09T09:00:00Z", end_at="2025-10-10T03:00:00Z"), experiment("cold-1", attribution_window="none")):
        answer = client.post("/v1/experiments", own)
        assert answer.status == 201, answer


def change(client):
    answer = client.request("PATCH", "/v1/experiments/cold-1", {"attribution_window": "36h"})
    assert answer.status == 200, answer


# What differs between any two runs.
TIMES = {"computed_at", "data_time", "position", "created_at", "updated_at", "run_id", "since"}


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(own) for key, own in value.items() if key not in TIMES}
    if isinstance(value, list):
        return [without_times(own) for own in value]
    return value


def answers(client):
    """Every answer by experiment and query."""
    found = {}
    for name in IDS:
        for query in QUERIES:
            answer = client.get(f"/v1/experiments/{name}/results?{query}")
            found[name, query] = (answer.status, without_times(answer.json()))
        for keys in ("platform", "platform,n"):
            answer = client.get(f"/v1/experiments/{name}/breakdown?by={keys}")
            found[name, f"by={keys}"] = (answer.status, without_times(answer.json()))
    return found


def exports(client):
    """A digest of every export of events, by what was asked for."""
    found = {}
    for table in ("assignments", "metrics"):
        for query in ("format=csv", "format=parquet", "format=csv&experiment=cold-1&from=2025-10-09T10:00:00Z"):
            answer = client.get(f"/v1/export/{table}?{query}")
            found[table, query] = (answer.status, len(answer.body), hashlib.sha256(answer.body).hexdigest())
    return found


def same_numbers(checks, up):
    stream = Stream(99, n_batches=160, hot=0.4)
    with scratch() as directory, Server(directory / "embedded") as embedded, Cluster(up) as cluster:
        api = cluster.start("api")
        cluster.start("consumer")
        cluster.start("consumer")
        for client in (embedded, api):
            define(client)
        half = len(stream.batches) // 2
        for until in (half, len(stream.batches)):
            for number in range(until - half, until):
                stream.send(embedded, number)
                stream.send(api, number)
            poll("everything in Kafka is stored", cluster.is_stored, 120)
            embedded.run_now()
            cluster.command("aggregate")
            same(checks, f"after {until} batches", answers(api), answers(embedded))
        for client in (embedded, api):
            change(client)
        embedded.run_now()
        cluster.command("aggregate")
        same(checks, "after a definition changed", answers(api), answers(embedded))
        same(checks, "exports of events", exports(api), exports(embedded))
        # Another look at the same definitions, in both.
        embedded.run_now(full=True)
        cluster.command("aggregate", "--full")
        same(checks, "after a full recomputation", answers(api), answers(embedded))
        shown = cluster.command("results", "hot", "--format", "json").stdout
        checks.equal("the command reads the same", without_times(json.loads(shown)), answers(api)["hot", ""][1])


def same(checks, name, actual, expected):
    different = [key for key in expected if actual.get(key) != expected[key]]
    checks.check(f"{name}: {len(expected)} answers are the same", not different, [(key, actual.get(key), expected[key]) for key in different[:1]])
    checks.check(f"{name}: they are results", all(own[0] == 200 for own in expected.values()), {key: own for key, own in expected.items() if own[0] != 200})


def processes_agree(checks, up):
    with Cluster(up) as cluster:
        first, second = cluster.start("api"), cluster.start("api")
        made = first.post("/v1/experiments", {"experiment_id": "page", "variants": [{"variant": "a", "weight": 1}]})
        checks.equal("an experiment is registered at one", made.status, 201)
        started = time.monotonic()
        first.post("/v1/experiments/page/start")

        def decides():
            answer = second.post("/v1/assign", {"user_id": "1", "experiment_id": "page"})
            return answer.status == 200 and answer.json()["variant"] == "a"

        poll("the other one decides by it", decides, 5)
        checks.check("the other one decides by it within a second", time.monotonic() - started < 1, f"{time.monotonic() - started:.2f} s")
        key = json.loads(cluster.command("keys", "create", "ci", "--scope", "admin", "--format", "json").stdout)
        bearer = {"Authorization": f"Bearer {key['key']}"}
        poll("both ask for a key", lambda: all(own.get("/v1/experiments").status == 401 for own in (first, second)), 5)
        checks.check("a key that a command made opens both", all(own.request("GET", "/v1/experiments", None, bearer).status == 200 for own in (first, second)))
        revoked = first.request("DELETE", f"/v1/keys/{key['id']}", None, bearer)
        checks.equal("it is revoked at one", revoked.status, 200)
        poll("the other one refuses it", lambda: second.request("GET", "/v1/experiments", None, bearer).status == 401, 5)
        checks.check("the other one refuses it", True)


def roles_are_kept(checks, up):
    with Cluster(up, interval="1s") as cluster:
        consumer, aggregator = cluster.start("consumer"), cluster.start("aggregator")
        for process in (consumer, aggregator):
            checks.equal(f"{process.roles} serves no API", process.get("/v1/experiments").status, 404)
            checks.equal(f"{process.roles} tells that it is ready", process.get("/readyz").status, 200)
        poll("the aggregator runs by itself", lambda: up.psql("SELECT count(*) > 1 FROM pipeline_runs WHERE status = 'succeeded'", cluster.name) == [("t",)], 30)
        checks.check("the aggregator runs by itself", True)
        checks.equal("both end in order", [process.stop() for process in (consumer, aggregator)], [0, 0])


def main():
    checks = Checks()
    with running(checks) as up:
        if up is not None:
            for part in (same_numbers, processes_agree, roles_are_kept):
                checks.attempt(part, up)
    sys.exit(1 if checks.failed else 0)


if __name__ == "__main__":
    main()
