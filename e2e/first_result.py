"""From nothing to a result over HTTP, every number checked against Python."""

import gzip
import json
import shutil
import subprocess
from datetime import datetime, timedelta, timezone
from decimal import Decimal

from expected import sample_ratio, two_proportions, welch
from harness import Server, comparison, main, metric, poll, variant

START = datetime.now(timezone.utc).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=20)
DAY = timedelta(days=1)
N_USERS = 240


def text(time):
    return time.isoformat().replace("+00:00", "Z")


class Story:
    """240 users, half of them in each variant, with purchases; and what must come out."""

    def __init__(self):
        self.users = range(1, N_USERS + 1)
        # Events whose values come to 0 together.
        self.without_effect = {"control": 0, "one_page": 0}

    def variant(self, user):
        return "one_page" if user % 2 else "control"

    def platform(self, user):
        return "ios" if user % 3 == 0 else "android"

    def exposed_at(self, user):
        return START + (user % 4) * DAY

    def purchases(self, user):
        """Values within the window."""
        if user % 5 == 0:
            return []
        values = [Decimal(user % 17) + Decimal("0.25")]
        if user % 7 == 0:
            values.append(Decimal("-3.1"))
        if self.variant(user) == "one_page" and user % 11 == 0:
            values.append(Decimal("20.0001"))
        return values

    def assignment(self, user, **more):
        return {
            "user_id": user,
            "experiment_id": "checkout",
            "variant": self.variant(user),
            "assigned_at": text(self.exposed_at(user)),
            "context": {"platform": self.platform(user), "new": user % 2 == 0, "age": user},
            "event_id": f"assigned-{user}",
            **more,
        }

    def metrics(self):
        events = []
        for user in self.users:
            for n, value in enumerate(self.purchases(user)):
                time = self.exposed_at(user) + timedelta(hours=n)
                events.append(self.purchase(user, str(value), time, f"buy-{user}-{n}"))
            # Before the exposure, and at the very end of the window: neither counts.
            exposed = self.exposed_at(user)
            events.append(self.purchase(user, 1000, exposed - timedelta(milliseconds=1), f"early-{user}"))
            events.append(self.purchase(user, 1000, exposed + 7 * DAY, f"late-{user}"))
        return events

    @staticmethod
    def purchase(user, value, time, event_id):
        return {
            "user_id": user,
            "experiment_id": "checkout",
            "event_type": "purchase",
            "value": value,
            "timestamp": int(time.timestamp() * 1000),
            "event_id": event_id,
        }

    def totals(self, name, keep=lambda user: True):
        return [sum(self.purchases(user), Decimal(0)) for user in self.users if self.variant(user) == name and keep(user)]

    def converted(self, name, keep=lambda user: True):
        return sum(1 for user in self.users if self.variant(user) == name and keep(user) and self.purchases(user))


def first_result(checks, directory):
    story = Story()
    with Server(directory / "data") as server:
        # The schedule starts with a run; the ones below are asked for.
        poll("the first run", lambda: [run for run in server.get("/v1/pipeline").json()["runs"] if run["status"] == "succeeded"])
        register(checks, server)
        send_assignments(checks, server, story)
        send_metrics(checks, server, story)
        rejections(checks, server)
        idempotency(checks, server)
        before = server.results("checkout")
        codes = [warning["code"] for warning in before["health"]["warnings"]]
        checks.equal("before a run there are no results, and a warning", (before["computed_at"], codes), (None, ["no_results"]))
        run = server.run_now()
        checks.equal("a run computes the touched experiments, none failed", (run["experiments"], run["failed"]), (3, []))
        check_report(checks, "all users", server.results("checkout"), story)
        filters(checks, server, story)
        counted_once(checks, server)
        unregistered(checks, server)
        as_of(checks, server, story)
        code = server.stop()
        checks.equal("SIGTERM ends the server with exit code 0", code, 0)
    with Server(directory / "data") as server:
        check_report(checks, "after a restart", server.results("checkout"), story)


def register(checks, server):
    definition = {
        "experiment_id": "checkout",
        "variants": [{"variant": "control", "weight": 1}, {"variant": "one_page", "weight": 1}],
        "metrics": {"primary": ["purchase"]},
        "start_at": text(START - DAY),
    }
    created = server.post("/v1/experiments", definition)
    checks.equal("register: 201 and a draft", (created.status, created.json().get("status")), (201, "draft"))
    checks.equal("register: Location", created.headers["location"], "/v1/experiments/checkout")
    again = server.post("/v1/experiments", definition)
    checks.equal("register again: 409", again.status, 409)
    started = server.post("/v1/experiments/checkout/start")
    checks.equal("start: running", (started.status, started.json().get("status")), (200, "running"))
    known = server.get("/v1/experiments/checkout").json()
    checks.equal("read: what was registered", known["variants"], [{"variant": "control", "weight": 1.0}, {"variant": "one_page", "weight": 1.0}])
    frozen = server.request("PATCH", "/v1/experiments/checkout", {"variants": [{"variant": "control"}, {"variant": "other"}]})
    checks.check("variants are frozen after the start: 409 names the field", frozen.status == 409 and frozen.json().get("field") == "variants", frozen)


def send_assignments(checks, server, story):
    path = "/v1/events/assignments"
    events = [story.assignment(user) for user in story.users]
    accepted = lambda answer: (answer.status, answer.json())  # noqa: E731
    checks.equal("one object", accepted(server.post(path, events[0])), (202, {"accepted": 1, "rejected": []}))
    checks.equal("an array", accepted(server.post(path, events[1:60])), (202, {"accepted": 59, "rejected": []}))
    lines = "\n".join(json.dumps(event) for event in events[60:120])
    answer = server.post(path, lines, {"content-type": "application/x-ndjson"})
    checks.equal("NDJSON", accepted(answer), (202, {"accepted": 60, "rejected": []}))
    body = gzip.compress(json.dumps(events[120:180]).encode())
    answer = server.post(path, body, {"content-encoding": "gzip"})
    checks.equal("gzip", accepted(answer), (202, {"accepted": 60, "rejected": []}))
    body = json.dumps(events[180:]).encode()
    if shutil.which("zstd"):
        compressed = subprocess.run(["zstd", "-c"], input=body, capture_output=True, check=True).stdout
        answer = server.post(path, compressed, {"content-encoding": "zstd"})
        checks.equal("zstd", accepted(answer), (202, {"accepted": 60, "rejected": []}))
    else:
        server.post(path, body)
        checks.skip("zstd", "there is no command `zstd` to compress with")
    # The same assignments again, later ones of the same variant, and users that are left out.
    more = [story.assignment(user, event_id=f"again-{user}", assigned_at=text(START + 10 * DAY)) for user in story.users]
    more += events[:50]
    more += [story.assignment(900, variant="control"), story.assignment(900, variant="one_page", event_id="crossed")]
    more += [story.assignment(901, forced=True), story.assignment(902, assigned_at=text(START - 2 * DAY))]
    answer = server.post(path, more)
    checks.equal("repeated, crossing, forced and too early assignments are accepted", accepted(answer), (202, {"accepted": len(more), "rejected": []}))


def send_metrics(checks, server, story):
    events = story.metrics()
    # Newest first, every tenth one twice: neither order nor copies matter.
    batch = events[::-1] + events[::10]
    batch += [story.purchase(user, 5, START + 2 * DAY, f"other-{user}") for user in (900, 901, 902, 903)]
    answer = server.post("/v1/events/metrics", batch)
    checks.equal("metric events", (answer.status, answer.json()["accepted"]), (202, len(batch)))


def rejections(checks, server):
    good = {"user_id": "u-1", "experiment_id": "side", "event_type": "click", "timestamp": text(START)}
    batch = [good, {**good, "value": "1e400"}, 17, {**good, "timestamp": "2026-01-01T00:00:00"}, {**good, "user_id": 1.5}, good]
    answer = server.post("/v1/events/metrics", batch)
    found = [(row["index"], row["field"]) for row in answer.json()["rejected"]]
    checks.equal("good events of a batch are kept", (answer.status, answer.json()["accepted"]), (202, 2))
    checks.equal("each bad event: its index and field", found, [(1, "value"), (2, "event"), (3, "timestamp"), (4, "user_id")])
    checks.check("each bad event: a reason", all(len(row["reason"]) > 10 for row in answer.json()["rejected"]), answer)
    answer = server.post("/v1/events/metrics", batch[1:2])
    checks.check("nothing but bad events: 422", answer.status == 422 and answer.json()["rejected"][0]["index"] == 0, answer)


def idempotency(checks, server):
    assigned = [{"user_id": n, "experiment_id": "keyed", "variant": "a", "assigned_at": text(START)} for n in range(5)]
    server.post("/v1/events/assignments", assigned)
    events = [{"user_id": n, "experiment_id": "keyed", "event_type": "click", "timestamp": text(START)} for n in range(5)]
    key = {"Idempotency-Key": "batch-1"}
    answers = [server.post("/v1/events/metrics", events, key) for _ in range(3)]
    checks.equal("a repeated Idempotency-Key gets the same answer", {(own.status, own.body) for own in answers}, {(202, b'{"accepted":5,"rejected":[]}')})
    other = server.post("/v1/events/metrics", events[:4], key)
    checks.check("a key with another body: 422 that says so", other.status == 422 and "Idempotency-Key" in other.detail(), other)
    kind = server.post("/v1/events/assignments", assigned, key)
    checks.check("a key with another kind of event: 422", kind.status == 422, kind)
    # Without a key and without ids these are new events.
    server.post("/v1/events/metrics", events[:2])


def counted_once(checks, server):
    row = variant(metric(server.results("keyed"), "click", "sum")["variants"], "a")
    checks.equal("five events with a key, sent three times, and two without", (row["users"], row["events"], row["total"]), (5, 7, "7.0000"))


def check_report(checks, name, report, story, keep=lambda user: True):
    rows = metric(report, "purchase", "sum")["variants"]
    for arm in ("control", "one_page"):
        totals = story.totals(arm, keep)
        row = variant(rows, arm)
        events = sum(len(story.purchases(user)) for user in story.users if story.variant(user) == arm and keep(user))
        events += story.without_effect[arm]
        expected = (len(totals), story.converted(arm, keep), events, f"{sum(totals, Decimal(0)):.4f}")
        checks.equal(f"{name}: {arm}: users, converted, events, total", (row["users"], row["converted_users"], row["events"], row["total"]), expected)
    a, b = ([float(total) for total in story.totals(arm, keep)] for arm in ("control", "one_page"))
    check_test(checks, f"{name}: Welch", comparison(report, "purchase", "sum", "one_page"), welch(a, b))
    counts = [(story.converted(arm, keep), len(story.totals(arm, keep))) for arm in ("control", "one_page")]
    check_test(checks, f"{name}: two proportions", comparison(report, "purchase", "conversion", "one_page"), two_proportions(*counts[0], *counts[1]))
    chi, p = sample_ratio([counts[0][1], counts[1][1]], [1, 1])
    srm = report["health"]["srm"]
    checks.check(f"{name}: sample ratio", abs(srm["chi_squared"] - chi) < 1e-9 and abs(srm["p_value"] - p) < 1e-9, srm)


def check_test(checks, name, row, expected):
    actual = {"difference": row["difference"], "low": row["ci"][0], "high": row["ci"][1], "statistic": row["statistic"], "p_value": row["p_value"], "df": row["df"], "cohens_d": row["cohens_d"]}
    for field, value in expected.items():
        checks.close(f"{name}: {field}", actual[field], value, 1e-8)


def filters(checks, server, story):
    report = server.results("checkout")
    checks.equal("crossovers and forced users are counted apart", (report["health"]["crossovers"], report["health"]["forced"]), (1, 1))
    in_platform = lambda name: lambda user: story.platform(user) == name  # noqa: E731
    check_report(checks, "segment platform=ios", server.results("checkout", "segment.platform=ios"), story, in_platform("ios"))
    both = lambda user: story.platform(user) == "android" and user % 2 == 0 and story.variant(user) == "control"  # noqa: E731
    rows = metric(server.results("checkout", "segment.platform=android&segment.new=true"), "purchase", "sum")["variants"]
    totals = [sum(story.purchases(user), Decimal(0)) for user in story.users if both(user)]
    checks.equal("two segments at once", (variant(rows, "control")["users"], variant(rows, "control")["total"], variant(rows, "one_page")["users"]), (len(totals), f"{sum(totals):.4f}", 0))
    rows = server.results("checkout", "segment.age=7")["variants"]
    checks.equal("a segment of a number", [(row["variant"], row["users"]) for row in rows], [("control", 0), ("one_page", 1)])
    rows = server.results("checkout", "segment.platform=none")["variants"]
    checks.equal("a segment of nobody", [row["users"] for row in rows], [0, 0])
    low, high = START + DAY, START + 3 * DAY
    within = lambda user: low <= story.exposed_at(user) < high  # noqa: E731
    query = f"from={text(low)}&to={text(high)}".replace("+", "%2B")
    check_report(checks, "exposed in two days", server.results("checkout", query), story, within)
    whole = server.results("checkout", f"from={text(START - 9 * DAY)}")
    for own in (own for row in whole["metrics"] + report["metrics"] for own in row["comparisons"]):
        # Looks were published, and nobody published what a filter chose.
        (own["sequential"] or {}).pop("since", None)
    checks.equal("a filter that keeps everybody gives the published numbers", whole["metrics"], report["metrics"])
    only = server.results("checkout", "metric=purchase:sum&correction=none&alpha=0.1")
    a, b = ([float(total) for total in story.totals(arm)] for arm in ("control", "one_page"))
    expected = welch(a, b, 0.1)
    row = only["metrics"][0]["comparisons"][0]
    checks.check("one metric at another alpha", len(only["metrics"]) == 1 and abs(row["ci"][0] - expected["low"]) < 1e-8, row)
    turned = comparison(server.results("checkout", "control=one_page"), "purchase", "sum", "control")
    straight = comparison(report, "purchase", "sum", "one_page")
    checks.check("the other variant as control turns the difference", abs(turned["difference"] + straight["difference"]) < 1e-12, turned)


def unregistered(checks, server):
    known = server.get("/v1/experiments/side").json()
    checks.equal("events make an experiment appear as unregistered", known["status"], "unregistered")
    report = server.results("keyed")
    checks.equal("an unregistered experiment has results and no SRM verdict", (report["status"], report["variants"], report["health"]["srm"]), ("unregistered", [{"variant": "a", "users": 5, "weight": None}], None))
    listed = server.get("/v1/experiments?status=unregistered").json()["experiments"]
    checks.equal("the list by status", sorted(own["experiment_id"] for own in listed), ["keyed", "side"])
    registered = server.post("/v1/experiments", {"experiment_id": "keyed", "variants": [{"variant": "a"}, {"variant": "b"}]})
    checks.equal("it can be registered later", (registered.status, registered.json().get("status")), (201, "draft"))
    server.run_now()
    checks.equal("and keeps its events", [(row["variant"], row["users"]) for row in server.results("keyed")["variants"]], [("a", 5), ("b", 0)])
    for path in ("/v1/experiments/never", "/v1/experiments/never/results", "/v1/experiments/never/results?segment.a=b"):
        answer = server.get(path)
        checks.check(f"an id never seen is 404 and named: {path}", answer.status == 404 and "never" in answer.detail(), answer)


def as_of(checks, server, story):
    old = server.results("checkout")
    later = Story.purchase(1, "100", START + DAY + timedelta(hours=5), "as-of")
    server.post("/v1/events/metrics", later)
    unpublished = server.results("checkout")
    checks.equal("an event shows after the next run only", unpublished["metrics"], old["metrics"])
    server.run_now()
    total = lambda report: Decimal(variant(metric(report, "purchase", "sum")["variants"], "one_page")["total"])  # noqa: E731
    new = server.results("checkout")
    checks.equal("the next run counts it", total(new) - total(old), Decimal(100))
    then = server.results("checkout", f"as_of={old['computed_at']}")
    checks.equal("as_of gives the results of then", (then["computed_at"], then["metrics"]), (old["computed_at"], old["metrics"]))
    never = server.results("checkout", f"as_of={text(START)}")
    checks.equal("as_of before the first run gives none", never["computed_at"], None)
    answer = server.get(f"/v1/experiments/checkout/results?as_of={old['computed_at']}&segment.a=b")
    checks.check("as_of with a filter is 422 and says why", answer.status == 422 and answer.json()["field"] == "as_of", answer)
    # Takes the event's effect away again for the checks after the restart.
    story.without_effect["one_page"] = 2
    back = Story.purchase(1, "-100", START + DAY + timedelta(hours=5), "as-of-back")
    server.post("/v1/events/metrics", back)
    server.run_now()


main(first_result)
