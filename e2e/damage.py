"""Damaged files, a directory in use or not writable, a full disk.

A damaged file has to be named by a clear error. What must never happen is a
number that differs from the one that was there before.
"""

import contextlib
import json
import os
import random
import shutil
import subprocess

from harness import Server, database, main, metric, must, poll, trialog, variant

SEED = int(os.environ.get("DAMAGE_SEED") or 1)
N_USERS = 4_000
FLIPS = 12


def event(user, number, **more):
    return {"user_id": user, "experiment_id": "kept", "event_type": "buy", "value": "2.5", "timestamp": "2026-01-06T00:00:00Z", "event_id": f"{user}-{number}", **more}


def fill(server, first, last):
    assigned = [
        {"user_id": user, "experiment_id": "kept", "variant": "ab"[user % 2], "assigned_at": "2026-01-05T00:00:00Z", "event_id": f"a{user}", "context": {"tier": f"t{user % 5}"}}
        for user in range(first, last)
    ]
    for kind, events in (("assignments", assigned), ("metrics", [event(user, n) for user in range(first, last) for n in range(3)])):
        answer = server.post(f"/v1/events/{kind}", events)
        assert answer.status == 202, answer


def make_data(directory):
    """A data directory with Parquet files, an inbox, and published results of both."""
    data = directory / "data"
    with Server(data) as server:
        definition = {"experiment_id": "kept", "variants": [{"variant": "a"}, {"variant": "b"}], "metrics": {"primary": ["buy"]}}
        assert server.post("/v1/experiments", definition).status == 201
        fill(server, 0, N_USERS)
        server.run_now()
        server.stop()
    must(trialog("bench", "settle", data_dir=data))
    with Server(data) as server:
        fill(server, N_USERS, N_USERS + 500)
        server.run_now()
        server.stop()
    return data


def answers(data):
    """Everything that a person can see: recomputed, published, filtered. The first error ends it."""
    seen = []
    for arguments in (
        ("aggregate", "--full", "--attempts", "1"),
        ("results", "kept", "--format", "json"),
        ("results", "kept", "--segment", "tier=t1", "--format", "json"),
    ):
        done = trialog(*arguments, data_dir=data)
        if done.code != 0:
            return done, seen
        if arguments[0] == "results":
            report = json.loads(done.out)
            seen.append((report["variants"], report["metrics"]))
    return None, seen


def flip(path, position, bit=1):
    with open(path, "r+b") as stream:
        stream.seek(position)
        byte = stream.read(1)[0]
        stream.seek(position)
        stream.write(bytes([byte ^ bit]))


def damage(checks, directory):
    data = make_data(directory)
    # One full run and one query first, so that what is compared comes from the same steps.
    failed, good = answers(data)
    checks.check("before any damage everything is answered", failed is None and len(good) == 2 and good[0][1] and good[1][1], failed or "")
    users = [[row["users"] for row in seen[0]] for seen in good]
    checks.equal("before any damage the segment has a fifth of the users", users, [[(N_USERS + 500) // 2] * 2, [(N_USERS + 500) // 10] * 2])
    with database(data / "warehouse.sqlite") as warehouse:
        (n_inbox,) = warehouse.execute("SELECT count(*) FROM inbox").fetchone()
    checks.check("there are Parquet files of both kinds and an inbox", n_inbox and all(list((data / "events" / kind).glob("*.parquet")) for kind in ("assignments", "metrics")))
    truth = [[row[1] for row in sorted((own["variant"], own["users"]) for own in seen[0])] for seen in good]
    checks.attempt(parquet, directory, data, good)
    checks.attempt(databases, directory, data, good)
    checks.attempt(beside_a_server, directory, data, good)
    checks.attempt(write_ahead_log, directory, truth)


def copied(directory, data):
    copy = directory / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(data, copy)
    return copy


def problem_with(copy, names, good, harmless=False):
    """Nothing where there is an error with exit code 1 that names the file; or, where `harmless`, the same answers."""
    failed, seen = answers(copy)
    other = [new for new, old in zip(seen, good) if new != old]
    if other:
        return f"other numbers: {other[0][0]} {json.dumps(other[0][1])[:300]}"
    if failed is None:
        return "" if harmless else "no error, the same numbers"
    told = failed.code == 1 and any(word in failed.err for word in names) and "panicked" not in failed.err
    return "" if told else repr(failed)


def check_damages(checks, name, damages, names, data, directory, good, harmless=False):
    """Each of `damages` on a copy of its own: what is done, and the function that does it."""
    problems = []
    for what, spoil in damages:
        copy = copied(directory, data)
        spoil(copy)
        problem = problem_with(copy, names, good, harmless)
        if problem:
            problems.append(f"{what}: {problem}")
    wanted = "an error that names the file, or the same numbers" if harmless else "an error that names the file"
    detail = f"{len(problems)} times not: {'; '.join(problems[:3])}"
    checks.check(f"{name}, {len(damages)} times: {wanted}", damages and not problems, detail)


def parquet(checks, directory, data, good):
    chance = random.Random(SEED)
    for kind in ("assignments", "metrics"):
        file = max((data / "events" / kind).glob("*.parquet"), key=lambda path: path.stat().st_size)
        inside, size = file.relative_to(data), file.stat().st_size
        positions = [0, 3, size - 1, size - 5, size // 2, *(chance.randrange(size) for _ in range(FLIPS))]
        flips = [(f"byte {at} of {size}", lambda copy, at=at, bit=1 << chance.randrange(8): flip(copy / inside, at, bit)) for at in positions]
        check_damages(checks, f"{kind} Parquet, a byte flipped", flips, [file.name], data, directory, good)
        lengths = [(f"{n} bytes of {size}", lambda copy, n=n: os.truncate(copy / inside, n)) for n in (size - 1, size // 2, 0, size + 4)]
        check_damages(checks, f"{kind} Parquet, another length", lengths, [file.name], data, directory, good)
        gone = [("removed", lambda copy: (copy / inside).unlink())]
        check_damages(checks, f"{kind} Parquet, the file gone", gone, [file.name], data, directory, good)


def find(path, pattern):
    """Where `pattern` lies in a file, every time."""
    content, found, at = path.read_bytes(), [], -1
    while (at := content.find(pattern, at + 1)) >= 0:
        found.append(at)
    return found


def databases(checks, directory, data, good):
    chance = random.Random(SEED + 1)
    for name in ("catalog.sqlite", "warehouse.sqlite"):
        size = (data / name).stat().st_size
        headers = [(f"byte {at}", lambda copy, at=at: flip(copy / name, at, 0x10)) for at in (0, 5, 16, 100)]
        check_damages(checks, f"{name}, a byte of a header flipped", headers, [name], data, directory, good)
        halved = [("half", lambda copy: os.truncate(copy / name, size // 2))]
        check_damages(checks, f"{name}, truncated to half", halved, [name], data, directory, good)
        # Free space is harmless, and a row may lead to a file that does not fit it.
        positions = [chance.randrange(size) for _ in range(3 * FLIPS)]
        flips = [(f"byte {at} of {size}", lambda copy, at=at, bit=1 << chance.randrange(8): flip(copy / name, at, bit)) for at in positions]
        names = [name, *(path.name for path in data.glob("events/*/*.parquet"))]
        check_damages(checks, f"{name}, a byte flipped anywhere", flips, names, data, directory, good, harmless=True)
    inbox_payload(checks, directory, data, good)
    stored_numbers(checks, directory, data)


def inbox_payload(checks, directory, data, good):
    with database(data / "warehouse.sqlite") as warehouse:
        payloads = [row[0] for row in warehouse.execute("SELECT payload FROM inbox")]
    flips = []
    for payload in payloads:
        for at in (10, len(payload) // 2, len(payload) - 64):
            places = find(data / "warehouse.sqlite", payload[at:at + 32])
            if len(places) == 1:
                flips.append((f"byte {at}", lambda copy, at=places[0]: flip(copy / "warehouse.sqlite", at, 4)))
    check_damages(checks, "warehouse.sqlite, a byte of an inbox payload flipped", flips, ["warehouse.sqlite"], data, directory, good)


def stored_numbers(checks, directory, data):
    """A digit of a published total: 16,875.0000 of three purchases of 2.5 by 2,250 users."""
    expected = json.loads(must(trialog("results", "kept", "--format", "json", data_dir=data)).out)["metrics"]
    places = find(data / "catalog.sqlite", b"16875.0000")
    wrong = 0
    for place in places:
        copy = copied(directory, data)
        flip(copy / "catalog.sqlite", place + 1, 1)
        done = trialog("results", "kept", "--format", "json", data_dir=copy)
        if done.code == 0 and json.loads(done.out)["metrics"] != expected:
            wrong += 1
    checks.check(f"catalog.sqlite: a flipped digit of a published total is not shown as a result ({len(places)} places)", places and not wrong, f"{wrong} times a total was shown that nobody computed, without an error")


def beside_a_server(checks, directory, data, good):
    """A file that is damaged while the server has it open."""
    copy = copied(directory, data)
    with Server(copy) as server:
        poll("the first run", lambda: [run for run in server.get("/v1/pipeline").json()["runs"] if run["status"] != "running"])
        before = server.results("kept")["metrics"]
        file = max((copy / "events/metrics").glob("*.parquet"), key=lambda path: path.stat().st_size)
        flip(file, file.stat().st_size // 2)
        run = server.post("/v1/pipeline/run?full=true")
        checks.check("a run over a file that was damaged meanwhile: 500 names the file", run.status == 500 and file.name in run.detail(), run)
        filtered = server.get("/v1/experiments/kept/results?segment.tier=t1")
        checks.check("filtered results over it: 500 names the file", filtered.status == 500 and file.name in filtered.detail(), filtered)
        last = server.get("/v1/pipeline").json()["runs"][0]
        checks.check("the run is noted as failed, with the file", last["status"] == "failed" and file.name in (last["error"] or ""), last)
        checks.equal("the results that were published stay as they were", server.results("kept")["metrics"], before)
        answer = server.post("/v1/events/metrics", [event(1, "during")])
        checks.equal("events are still taken in", answer.status, 202)


def write_ahead_log(checks, directory, truth):
    """Events that are in SQLite's log alone, after kill -9: one flipped byte."""
    data = directory / "logged"
    with Server(data) as server:
        poll("the first run", lambda: [run for run in server.get("/v1/pipeline").json()["runs"] if run["status"] == "succeeded"])
        for n in range(6):
            fill(server, n * 100, n * 100 + 100)
        server.kill()
    must(trialog("aggregate", data_dir=copied(directory, data)))
    whole = totals(directory / "copy")
    size = (data / "warehouse.sqlite-wal").stat().st_size
    chance = random.Random(SEED + 2)
    # The last bytes belong to the last commit, which SQLite alone takes for a torn end.
    positions = [int(size * share) for share in (0.3, 0.5, 0.7)] + [size - 1, size - 5_000] + [chance.randrange(size) for _ in range(FLIPS)]
    lost, untold = [], []
    for at in positions:
        copy = copied(directory, data)
        flip(copy / "warehouse.sqlite-wal", at)
        done = trialog("aggregate", "--attempts", "1", data_dir=copy)
        if done.code != 0 and "warehouse.sqlite" not in done.err:
            untold.append(repr(done))
        elif done.code == 0 and totals(copy) != whole:
            lost.append(totals(copy))
    checks.check(f"warehouse.sqlite-wal: a flipped byte loses no acknowledged event without a word ({len(positions)} places)", not lost, f"{len(lost)} times: {lost[:1]} where {whole} was acknowledged")
    checks.check("warehouse.sqlite-wal: the error names the file", not untold, untold[:1])
    copy = copied(directory, data)
    flip(copy / "POSITION", 2)
    done = trialog("aggregate", "--attempts", "1", data_dir=copy)
    checks.check("POSITION, a byte flipped: a warning names it and everything is counted", done.code == 0 and "POSITION" in done.err and totals(copy) == whole, done)


def totals(data):
    with contextlib.suppress(KeyError):
        report = json.loads(must(trialog("results", "kept", "--format", "json", data_dir=data)).out)
        return [(row["variant"], row["users"], row["total"]) for row in metric(report, "buy", "sum")["variants"]]
    return []


# --- Directories

def in_use(checks, directory):
    data = directory / "data"
    with Server(data) as server:
        for arguments in (("--listen", "127.0.0.1:0", "serve"), ("bench", "settle")):
            done = trialog(*arguments, data_dir=data)
            checks.check(f"{arguments[-1]} beside a server: exit code 1 with the server's address", done.code == 1 and server.url in done.err, done)
        done = trialog("aggregate", data_dir=data)
        checks.check("aggregate beside a server goes to it", done.code == 0 and "published run" in done.out, done)
        taken = trialog("--listen", server.url.removeprefix("http://"), "serve", data_dir=directory / "other")
        checks.check("a port in use: exit code 1 names the address and the mend", taken.code == 1 and server.url.removeprefix("http://") in taken.err and "--listen" in taken.err, taken)
        server.kill()
    with Server(data) as server:
        checks.equal("after kill -9 the directory is free again", server.get("/healthz").status, 200)


def not_writable(checks, directory):
    (directory / "file").write_text("")
    below = directory / "file" / "data"
    for arguments in (("--listen", "127.0.0.1:0", "serve"), ("aggregate",)):
        done = trialog(*arguments, data_dir=below)
        checks.check(f"{arguments[-1]} below a file: exit code 1 names the path", done.code == 1 and str(below) in done.err and "panicked" not in done.err, done)
    with mounted(checks, directory, "a directory that is read-only", "size=8m") as mount:
        if mount:
            data = mount / "data"
            must(trialog("aggregate", data_dir=data))
            subprocess.run(["mount", "-o", "remount,ro", mount], check=True, capture_output=True)
            for arguments in (("--listen", "127.0.0.1:0", "serve"), ("aggregate",)):
                done = trialog(*arguments, data_dir=data)
                checks.check(f"{arguments[-1]} on a read-only disk: exit code 1 names the directory and the reason", done.code == 1 and str(data) in done.err and "ead-only" in done.err, done)


@contextlib.contextmanager
def mounted(checks, directory, name, options):
    """A disk of its own in memory; nothing, and a skipped check, where that is not allowed."""
    mount = directory / "mount"
    mount.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", mount], capture_output=True, text=True)
    if done.returncode != 0:
        checks.skip(name, f"no tmpfs can be mounted here: {done.stderr or done.stdout}")
        yield None
        return
    try:
        yield mount
    finally:
        subprocess.run(["umount", "-l", mount], capture_output=True)


# --- A full disk

class Sender:
    """Sends batches whose content follows from their number, and remembers the answers."""

    def __init__(self, server):
        self.server, self.next, self.acknowledged, self.refused = server, 0, [], []
        self.first_refusal = None

    def send(self, number=None):
        if number is None:
            number, self.next = self.next, self.next + 1
        events = [event(number % 50, f"{number}-{n}", value="1.0001", note="x" * 20) for n in range(2_000)]
        answer = self.server.post("/v1/events/metrics", events)
        if answer.status == 202:
            self.acknowledged.append(number)
        else:
            self.refused.append(number)
            self.first_refusal = self.first_refusal or answer
        return answer


def disk_full(checks, directory):
    with mounted(checks, directory, "a full disk", "size=24m") as mount:
        if not mount:
            return
        data, ballast = mount / "data", mount / "ballast"
        ballast.write_bytes(bytes(12 << 20))
        with Server(data, "--min-free-disk", "0") as server:
            fill(server, 0, 50)
            server.run_now()
            sender = Sender(server)
            while not sender.refused and sender.next < 2_000:
                sender.send()
            for _ in range(5):
                sender.send()
            checks.check("events beyond the end of the disk are refused", sender.refused, f"{sender.next} batches were taken")
            told = sender.first_refusal
            checks.check("with 503, Retry-After, the file and the mend", told is not None and told.status == 503 and told.headers["retry-after"] and "warehouse.sqlite" in told.detail() and "free space" in told.detail(), told)
            run = server.post("/v1/pipeline/run")
            checks.check("a run on a full disk succeeds, or fails with a reason that names a file", run.status == 200 or run.status >= 500 and ".sqlite" in run.detail(), run)
            checks.equal("results are still shown", server.get("/v1/experiments/kept/results").status, 200)
            ballast.unlink()
            send_refused(sender)
            checks.check("once space is free the same events are taken, without a restart", not sender.refused, len(sender.refused))
            flush_on_full_disk(checks, server, sender, ballast)
            server.run_now()
            check_count(checks, "every acknowledged event is there, once", server, sender)
            # Full again, and killed.
            ballast.write_bytes(bytes(max(shutil.disk_usage(mount).free - (1 << 20), 0)))
            while not sender.refused:
                sender.send()
            server.kill()
        fill_up(ballast)
        done = trialog("results", "kept", data_dir=data)
        checks.check("a command on the full disk works, or names a file and the reason", done.code == 0 or str(data) in done.err and "space" in done.err, done)
        try:
            with Server(data) as server:
                checks.equal("a server on the full disk starts", server.get("/healthz").status, 200)
        except RuntimeError as error:
            checks.check("a server on the full disk starts, or names a file and the reason", str(data) in str(error) and "space" in str(error) and "panicked" not in str(error), str(error))
        ballast.unlink()
        with Server(data) as server:
            sender.server = server
            send_refused(sender)
            server.run_now()
            check_count(checks, "after kill -9 on the full disk every acknowledged event is there, once", server, sender)
            server.stop()


def fill_up(ballast):
    """Takes every page that is left."""
    with contextlib.suppress(OSError), open(ballast, "ab", buffering=0) as stream:
        while stream.write(bytes(4096)):
            pass


def send_refused(sender):
    again, sender.refused = sender.refused, []
    for number in again:
        poll("the disk to be used again", lambda: sender.send(number).status == 202, 60)
    sender.refused = []


def flush_on_full_disk(checks, server, sender, ballast):
    """Fills the disk again so that flushing has no room, then frees it."""
    free = shutil.disk_usage(ballast.parent).free
    ballast.write_bytes(bytes(max(free - (1 << 20), 0)))
    for _ in range(12):
        sender.send()
        server.post("/v1/pipeline/run")
    ready = server.get("/readyz")
    state = server.get("/v1/pipeline").json()["ingested"]["flush_failure"]
    checks.check("when flushing has no room /readyz and /v1/pipeline say so, or nothing needed it", (ready.status == 503) == bool(state), f"{ready} {state}")
    ballast.unlink()
    send_refused(sender)
    poll("flushing to succeed again", lambda: server.get("/readyz").status == 200, 60)


def check_count(checks, name, server, sender):
    rows = metric(server.results("kept"), "buy", "sum")["variants"]
    for arm in (0, 1):
        users = 25
        # Three purchases each from the start, then the batches.
        batches = [number for number in set(sender.acknowledged) if number % 50 % 2 == arm]
        expected = (users, users * 3 + 2_000 * len(batches), f"{users * 3 * 25_000 / 10_000 + 2_000 * len(batches) * 1.0001:.4f}")
        row = variant(rows, "ab"[arm])
        checks.equal(f"{name}: {'ab'[arm]} of {len(sender.acknowledged)} batches", (row["users"], row["events"], row["total"]), expected)


main(damage, in_use, not_writable, disk_full)
