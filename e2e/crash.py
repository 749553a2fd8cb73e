"""kill -9 at random moments, again and again on one data directory.

Several threads send batches, a run is due every second, in some rounds more
runs are asked for and `trialog bench load` adds enough events that flushes and
merges are under way. Then the server is killed and started again, with no
repair between. Every batch that was answered 202 must be counted exactly once
from then on; a batch without an answer is sent again with the same ids, or the
same Idempotency-Key, and must be counted exactly once too.

    CRASH_ROUNDS    how many times, 20 unless given
    CRASH_SEED      repeats a random choice of moments; printed
"""

import json
import os
import random
import subprocess
import threading
import time
from collections import defaultdict

from harness import BINARY, Client, Server, database, main, must, poll, published, trialog

ROUNDS = int(os.environ.get("CRASH_ROUNDS") or 20)
SEED = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(1 << 32))
THREADS = 3
BATCH = 500
EXPERIMENTS = ("crash_a", "crash_b", "crash_c")
N_USERS = 60_000
# 2024-05-01; every exposure lies there and every metric event within the week after.
EXPOSED_MS = 1_714_521_600_000
TOTALS = """
SELECT variant, user_count, event_count, total_value, converted_users, squared_total, squared_events
FROM variant_metrics WHERE experiment_id = ? AND metric_name = 'buy' AND computed_at =
  (SELECT max(computed_at) FROM computations WHERE experiment_id = ?) ORDER BY variant
"""


class Batch:
    """A batch of either kind whose content follows from its number alone."""

    def __init__(self, number):
        self.number = number
        self.kind = "assignments" if number % 5 == 0 else "metrics"
        # Half of the batches name their events, half are named as a whole.
        self.has_ids = number % 2 == 0
        self.headers = {} if self.has_ids else {"Idempotency-Key": f"crash-{number}"}

    def rows(self):
        chance = random.Random(self.number)
        experiment = EXPERIMENTS[self.number % 3]
        for _ in range(BATCH):
            user = chance.randrange(N_USERS)
            yield experiment, user, chance.randrange(-5_000, 50_000)

    def body(self):
        events = []
        for index, (experiment, user, cents) in enumerate(self.rows()):
            event = {"user_id": user, "experiment_id": experiment}
            if self.kind == "assignments":
                event |= {"variant": "ab"[user % 2], "assigned_at": EXPOSED_MS, "context": {"n": user % 3}}
            else:
                event |= {"event_type": "buy", "value": f"{cents / 100:.2f}", "timestamp": EXPOSED_MS + 1 + (user * 7919 + index) % 600_000_000}
            if self.has_ids:
                event["event_id"] = f"{self.number}-{index}"
            events.append(event)
        return json.dumps(events).encode()


class Ledger:
    """Which batches were answered 202, and which have no answer yet."""

    def __init__(self):
        self.lock = threading.Lock()
        self.next = 0
        self.acknowledged, self.unanswered, self.wrong = [], [], []
        self.counted = 0
        self.users = {name: set() for name in EXPERIMENTS}
        self.totals = {name: defaultdict(int) for name in EXPERIMENTS}
        self.events = {name: defaultdict(int) for name in EXPERIMENTS}

    def take(self):
        with self.lock:
            self.next += 1
            return Batch(self.next)

    def note(self, batch, answer):
        with self.lock:
            if answer is None or answer.status == 429:
                self.unanswered.append(batch)
            elif answer.status == 202 and answer.json() == {"accepted": BATCH, "rejected": []}:
                self.acknowledged.append(batch)
            else:
                self.unanswered.append(batch)
                self.wrong.append(repr(answer))

    def expected(self):
        """The row of every experiment and variant over all acknowledged batches."""
        for batch in self.acknowledged[self.counted:]:
            for experiment, user, cents in batch.rows():
                if batch.kind == "assignments":
                    self.users[experiment].add(user)
                else:
                    self.totals[experiment][user] += cents * 100
                    self.events[experiment][user] += 1
        self.counted = len(self.acknowledged)
        return {name: [self.row(name, arm) for arm in (0, 1)] for name in EXPERIMENTS}

    def row(self, experiment, arm):
        users = [user for user in self.users[experiment] if user % 2 == arm]
        events = [self.events[experiment].get(user, 0) for user in users]
        totals = [self.totals[experiment].get(user, 0) for user in users]
        total = sum(totals)
        sign, whole, part = "-" if total < 0 else "", abs(total) // 10_000, abs(total) % 10_000
        converted = sum(1 for n in events if n)
        squares = sum(total * total for total in totals), sum(n * n for n in events)
        return ("ab"[arm], len(users), sum(events), f"{sign}{whole}.{part:04}", converted, str(squares[0]), str(squares[1]))


def send(client, batch):
    """The answer, or nothing where the connection broke."""
    try:
        return client.request("POST", f"/v1/events/{batch.kind}", batch.body(), batch.headers)
    except OSError:
        return None
    except Exception as error:  # noqa: BLE001 - http.client's own errors of a broken connection
        if type(error).__module__ != "http.client":
            raise
        return None


def ingest(url, ledger, stop):
    client = Client(url, keep=True, timeout=30)
    while not stop.is_set():
        batch = ledger.take()
        answer = send(client, batch)
        ledger.note(batch, answer)
        if answer is None:
            return


def keep_running(url, stop):
    """Asks for runs, each of which ends a segment, so that flushes and merges come soon."""
    client = Client(url, timeout=30)
    while not stop.is_set():
        try:
            client.post("/v1/pipeline/run")
        except Exception:  # noqa: BLE001
            return


def crash(checks, directory):
    chance = random.Random(SEED)
    checks.note(f"CRASH_SEED={SEED}")
    data, ledger, seen = directory / "data", Ledger(), defaultdict(int)
    wrong_totals, half_published = [], []
    for round_number in range(1, ROUNDS + 1):
        if round_number % 4 == 0:
            die_while_starting(data, chance, seen)
        with Server(data, "--interval", "1s") as server:
            problem = settle_accounts(server, data, ledger, resend_acknowledged=chance.random() < 0.3)
            if problem:
                wrong_totals.append(f"round {round_number}: {problem}")
            if round_number == 1:
                assign_bench_users(server)
            live(server, data, ledger, chance, round_number)
            note_moment(server, data, seen)
            server.kill()
        note_orphans(data, seen)
        half_published += [f"round {round_number}: {problem}" for problem in incomplete(data)]
    checks.check(f"{ROUNDS} kills: after each start every acknowledged event counts exactly once", not wrong_totals, "; ".join(wrong_totals[:3]))
    checks.check("no run is half published after any kill", not half_published, "; ".join(half_published[:5]))
    checks.check("nothing but 202 and 429 was answered", not ledger.wrong, ledger.wrong[:3])
    last_words(checks, data, ledger)
    checks.note("at the moments of the kills: " + ", ".join(f"{name} {n}" for name, n in sorted(seen.items())))
    if ROUNDS >= 20:
        checks.check("kills met flushes, merges and runs", seen["flush or merge under way"] + seen["files left behind"] > 0 and seen["merged runs"] > 0 and seen["a run under way"] > 0, dict(seen))


def die_while_starting(data, chance, seen):
    server = Server(data, "--interval", "1s", wait=False)
    time.sleep(chance.uniform(0.0, 0.25))
    seen["a start"] += 1
    server.kill()


def assign_bench_users(server):
    """Some of the users whom `bench load` makes up, so that its events reach results."""
    chance = random.Random(7)
    for experiment in range(20):
        events = [
            {"user_id": user, "experiment_id": f"exp_{experiment:04}", "variant": "ab"[user % 2], "assigned_at": int(time.time() * 1000) - 86_400_000}
            for user in chance.sample(range(1, 3_000_000), 5_000)
        ]
        answer = server.post("/v1/events/assignments", events)
        assert answer.status == 202, answer


def settle_accounts(server, data, ledger, resend_acknowledged):
    """Sends what has no answer again, runs, and compares; gives what is wrong."""
    waiting, ledger.unanswered = ledger.unanswered, []
    for batch in waiting:
        poll("a batch to be taken", lambda: take_again(server, batch), 30)
        ledger.acknowledged.append(batch)
    if resend_acknowledged:
        for batch in ledger.acknowledged[-20:]:
            poll("a batch to be taken again", lambda: take_again(server, batch), 30)
    server.run_now()
    return differences(data, ledger)


def take_again(server, batch):
    answer = send(server, batch)
    if answer is not None and answer.status not in (202, 429):
        raise RuntimeError(f"a repeated batch: {answer}")
    return answer is not None and answer.status == 202


def differences(data, ledger):
    expected = ledger.expected()
    with database_of(data) as catalog:
        for name in EXPERIMENTS:
            actual = catalog.execute(TOTALS, (name, name)).fetchall()
            wanted = [row for row in expected[name] if ledger.events[name]]
            if actual != wanted and (actual or wanted[0][1]):
                return f"{name}: {actual} where {wanted} was acknowledged"
    return None


def database_of(data):
    return database(data / "catalog.sqlite")


def live(server, data, ledger, chance, round_number):
    """Load until a random moment."""
    stop = threading.Event()
    threads = [threading.Thread(target=ingest, args=(server.url, ledger, stop)) for _ in range(THREADS)]
    if round_number % 2 == 0:
        threads.append(threading.Thread(target=keep_running, args=(server.url, stop)))
    load = None
    if round_number % 5 in (2, 3):
        command = [BINARY, "--data-dir", data, "bench", "load", "--seconds", "3", "--clients", "3"]
        load = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for thread in threads:
        thread.start()
    time.sleep(chance.uniform(0.2, 3.2 if load else 1.6))
    if round_number % 4 == 2:
        wait_for_file(data, "*.parquet.tmp")
    if round_number % 8 == 4:
        wait_for_file(data, "*-[1-9]*.parquet*")
    # The server dies first; then its clients see it.
    server.process.kill()
    stop.set()
    for thread in threads:
        thread.join()
    if load:
        load.kill()
        load.wait()


def wait_for_file(data, pattern):
    """Until a flush (a temporary file) or a merge (a number after the last dash) is under way; at most 6 s."""
    before = {path.name for path in data.glob(f"events/*/{pattern}")}
    deadline = time.monotonic() + 6
    while time.monotonic() < deadline:
        if {path.name for path in data.glob(f"events/*/{pattern}")} - before:
            return
        time.sleep(0.0005)


def note_moment(server, data, seen):
    seen["kills"] += 1
    if list(data.glob("events/*/*.tmp")):
        seen["flush or merge under way"] += 1
    if [path for path in data.glob("events/*/*.parquet") if not path.stem.endswith("-0")]:  # the newest run that it replaced
        seen["merged runs"] += 1
    if any(path.is_file() for path in data.glob("events/*/*.parquet")):
        seen["flushed runs"] += 1
    with database(data / "catalog.sqlite") as catalog:
        seen["a run under way"] += catalog.execute("SELECT count(*) FROM pipeline_runs WHERE status = 'running'").fetchone()[0]


def note_orphans(data, seen):
    with database(data / "warehouse.sqlite") as warehouse:
        live = {f"{kind}/{file}" for kind, file in warehouse.execute("SELECT kind, file FROM runs")}
    files = {f"{path.parent.name}/{path.name}" for path in data.glob("events/*/*")}
    missing = live - files
    if missing:
        raise RuntimeError(f"registered files are missing: {missing}")
    if files - live:
        seen["files left behind"] += 1


def incomplete(data):
    """What a half published run would leave in the catalog."""
    queries = {
        "a computation whose run did not succeed": "SELECT c.run_id FROM computations c LEFT JOIN pipeline_runs r USING (run_id) WHERE r.status IS NOT 'succeeded'",
        "a run with fewer computations than it says": """
            SELECT r.run_id, r.n_experiments, r.n_failed, count(c.run_id) AS n FROM pipeline_runs r LEFT JOIN computations c USING (run_id)
            WHERE r.status = 'succeeded' GROUP BY r.run_id HAVING n <> r.n_experiments - r.n_failed""",
        "metrics without their computation": """
            SELECT m.experiment_id, m.computed_at FROM variant_metrics m LEFT JOIN computations c USING (experiment_id, computed_at)
            WHERE c.run_id IS NOT m.run_id OR c.fingerprint IS NOT m.fingerprint""",
        "exposures without their computation": """
            SELECT e.experiment_id, e.computed_at FROM variant_exposures e LEFT JOIN computations c USING (experiment_id, computed_at) WHERE c.run_id IS NULL""",
        "a metric that lacks variants": """
            SELECT m.experiment_id, m.computed_at, m.metric_name, count(*) AS n FROM variant_metrics m GROUP BY 1, 2, 3
            HAVING n <> (SELECT count(*) FROM variant_exposures e WHERE e.experiment_id = m.experiment_id AND e.computed_at = m.computed_at)""",
        "rows of one variant that differ in users": """
            SELECT m.experiment_id, m.computed_at, m.variant FROM variant_metrics m
            JOIN variant_exposures e USING (experiment_id, computed_at, variant) WHERE m.user_count <> e.user_count""",
        "a mark that is not the last published run's": """
            SELECT s.run_id, s.position FROM pipeline_state s WHERE NOT EXISTS
              (SELECT 1 FROM pipeline_runs r WHERE r.run_id = s.run_id AND r.status = 'succeeded' AND r.position = s.position)
            OR s.run_id <> (SELECT max(run_id) FROM pipeline_runs WHERE status = 'succeeded')""",
    }
    if not (data / "catalog.sqlite").exists():
        return []
    with database(data / "catalog.sqlite") as catalog:
        (sound,) = catalog.execute("PRAGMA integrity_check(1)").fetchone()
        problems = [] if sound == "ok" else [sound]
        if not catalog.execute("SELECT 1 FROM sqlite_master WHERE name = 'computations'").fetchone():
            return problems
        for name, query in queries.items():
            rows = catalog.execute(query).fetchmany(3)
            if rows:
                problems.append(f"{name}: {rows}")
        return problems


def last_words(checks, data, ledger):
    with Server(data, "--interval", "1h") as server:
        problem = settle_accounts(server, data, ledger, resend_acknowledged=True)
        checks.check(f"at the end {len(ledger.acknowledged) * BATCH} events count exactly once: users, events, totals, squares", not problem, problem or "")
        filtered = server.results("crash_a", "segment.n=0")
        users = sum(row["users"] for row in filtered["variants"])
        checks.equal("and a segment has its share of them", users, sum(1 for user in ledger.users["crash_a"] if user % 3 == 0))
        interrupted = [run["status"] for run in server.get("/v1/pipeline").json()["runs"]]
        checks.check("no run is left as running", "running" not in interrupted, interrupted)
        checks.equal("the server stops in order", server.stop(), 0)
    before = published(data)
    must(trialog("aggregate", "--full", data_dir=data))
    after = published(data)
    checks.check(f"aggregate --full gives identical numbers ({len(after[0])} rows)", before == after, first_difference(before, after))
    must(trialog("bench", "settle", data_dir=data))
    must(trialog("aggregate", "--full", data_dir=data))
    settled = published(data)
    checks.check("and again when everything is flushed and merged", before == settled, first_difference(before, settled))
    problems = incomplete(data)
    checks.check("the catalog is complete at the end", not problems, problems)


def first_difference(before, after):
    for old, new in zip(before, after):
        for left, right in zip(old, new):
            if left != right:
                return f"{left} became {right}"
        if len(old) != len(new):
            return f"{len(old)} rows became {len(new)}"
    return ""


main(crash)
