"""Events of experiments that nobody registered, by the hundred thousand: what a
client does that puts a random id where the experiment's belongs.

    MANY_IDS=1000000 e2e/run many_ids     a million of them

The server keeps the events, aggregates as many unregistered experiments as it
may, says how many it left out, and serves the others as before.
"""

import os
import time

from harness import Server, main

N_IDS = int(os.environ.get("MANY_IDS", "100000"))
BATCH = 10_000
LIMIT = 10_000
AT = "2026-01-05T12:00:00Z"


def many_ids(checks, directory):
    with Server(directory / "data", "--interval", "1d") as server:
        register(server)
        started = time.monotonic()
        refused = sum(send(server, first) for first in range(0, N_IDS, BATCH))
        checks.equal(f"{N_IDS:,} events of as many unregistered experiments are taken", refused, 0)
        first = server.run_now()
        checks.note(f"sent and aggregated in {time.monotonic() - started:.1f} s")
        checks.equal("the run says how many experiments it left out", first["left_out"], max(0, N_IDS - LIMIT))
        checks.equal("the registered experiment is computed", users(server), 2)
        again(checks, server)
        listed = server.get("/v1/experiments?status=unregistered&limit=1000")
        checks.equal("they are listed page by page", len(listed.json()["experiments"]), min(1000, N_IDS))
        late_registration(checks, server)
        page = server.get("/")
        checks.equal("the page with the list is shown", page.status, 200)
        slowest(checks, server)
        checks.check("memory stays bounded: below 600 MiB", server.peak_mib() < 600, f"{server.peak_mib():.0f} MiB")
        checks.note(f"peak memory {server.peak_mib():.0f} MiB")
        checks.equal("the server ends in order", server.stop(), 0)
    with Server(directory / "data") as server:
        checks.equal("and starts again with the same results", users(server), 4)


def register(server):
    server.post("/v1/experiments", {"experiment_id": "own", "variants": [{"variant": "a"}, {"variant": "b"}]})
    server.post("/v1/experiments/own/start")
    assigned(server, 1, 2)


def assigned(server, *user_ids):
    events = [{"user_id": user, "experiment_id": "own", "variant": "ab"[user % 2], "assigned_at": AT} for user in user_ids]
    assert server.post("/v1/events/assignments", events).status == 202


def send(server, first):
    """Sends a batch with an experiment id of its own per event; 1 where it was not taken."""
    events = [
        {"user_id": number, "experiment_id": name(number), "variant": "a", "assigned_at": AT}
        for number in range(first, min(first + BATCH, N_IDS))
    ]
    answer = server.post("/v1/events/assignments", events)
    return int(answer.status != 202 or answer.json()["rejected"] != [])


def name(number):
    return f"stray-{number:07}"


def users(server):
    return sum(own["users"] for own in server.results("own")["variants"])


def again(checks, server):
    """A later run does not pay for the stray ones again."""
    assigned(server, 3, 4)
    started = time.monotonic()
    run = server.run_now()
    checks.note(f"a run with one touched experiment takes {time.monotonic() - started:.2f} s")
    checks.equal("a later run computes what was touched only", run["experiments"], 1)
    checks.equal("and counts it", users(server), 4)


def late_registration(checks, server):
    """One that was left out is registered, and its events are found."""
    last = name(N_IDS - 1)
    server.post("/v1/experiments", {"experiment_id": last, "variants": [{"variant": "a"}, {"variant": "b"}]})
    server.run_now()
    counted = sum(own["users"] for own in server.results(last)["variants"])
    checks.equal("one that is registered later has its events", counted, 1)


def slowest(checks, server):
    paths = ["/v1/experiments/own/results", "/v1/experiments?limit=100", "/v1/experiments?q=stray&status=unregistered", "/healthz"]
    for path in paths:
        taken = []
        for _ in range(50):
            started = time.monotonic()
            assert server.get(path).status == 200, path
            taken.append((time.monotonic() - started) * 1e3)
        checks.note(f"{path}: median {sorted(taken)[25]:.1f} ms, slowest {max(taken):.1f} ms")


if __name__ == "__main__":
    main(many_ids)
