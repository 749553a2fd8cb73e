"""Damage of every file after `kill -9`, one file gone or from a backup, and clocks that jump.

A start after damage is right, or is refused with the name of the file: never a
key more, never a revoked key, never a wrong number. After a clock was wrong
and is right again, results equal those of a server whose clock never was.

ATTACK_FLIPS says how many bits are flipped in each file, one at a time: 50 by
default, 500 for the full size. ATTACK_JUMPS says how often the clock jumps: 6
by default. ATTACK_SEED draws both. Jumps of the clock need Debian's faketime.
"""

import contextlib
import json
import os
import random
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import Server, main, must, poll, trialog

SEED = int(os.environ.get("ATTACK_SEED") or 15)
N_FLIPS = int(os.environ.get("ATTACK_FLIPS") or 50)
N_JUMPS = int(os.environ.get("ATTACK_JUMPS") or 6)
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
DEFINITION = {"experiment_id": "kept", "variants": [{"variant": "a"}, {"variant": "b"}], "metrics": {"primary": ["buy"]}}


def bearer(key):
    return {"authorization": f"Bearer {key}"} if key else {}


def events(first, last, day="2026-01-06"):
    assigned = [
        {"user_id": user, "experiment_id": "kept", "variant": "ab"[user % 2], "assigned_at": f"{day}T00:00:00Z", "event_id": f"a{user}", "context": {"tier": f"t{user % 5}"}}
        for user in range(first, last)
    ]
    bought = [
        {"user_id": user, "experiment_id": "kept", "event_type": "buy", "value": "2.5", "timestamp": f"{day}T01:00:00Z", "event_id": f"m{user}"}
        for user in range(first, last)
    ]
    return {"assignments": assigned, "metrics": bought}


def send(server, first, last, key=None, day="2026-01-06"):
    """Whether all was taken."""
    answers = [post(server, f"/v1/events/{kind}", batch, bearer(key)) for kind, batch in events(first, last, day).items()]
    return all(answer.status == 202 for answer in answers)


def patiently(ask, *arguments):
    """Asked again where a bucket is empty, as one is for a moment whose clock was set back."""
    while (answer := ask(*arguments)).status == 429:
        time.sleep(0.1)
    return answer


def post(server, path, body=None, headers=None):
    return patiently(server.post, path, body, headers)


def numbers(report):
    return [report["variants"], report["metrics"]]


def make_killed(data):
    """A directory with Parquet files, an inbox, a good key and a revoked one, as `kill -9` leaves it."""
    keys = {}
    with Server(data) as server:
        assert server.post("/v1/experiments", DEFINITION).status == 201
        assert send(server, 0, 2_000)
        server.run_now()
        server.stop()
    must(trialog("bench", "settle", data_dir=data))
    with Server(data) as server:
        assert send(server, 2_000, 2_300)
        server.run_now()
        for name in ("good", "bad"):
            made = server.request("POST", "/v1/keys", {"name": name, "scopes": ["admin"]}, bearer(keys.get("good")))
            keys[name] = made.json()["key"]
            keys[f"{name} id"] = made.json()["id"]
        assert send(server, 2_300, 2_310, keys["good"])
        gone = server.request("DELETE", f"/v1/keys/{keys['bad id']}", None, bearer(keys["good"]))
        assert gone.status == 200, gone
        ran = server.request("POST", "/v1/pipeline/run", None, bearer(keys["good"]))
        assert ran.status == 200, ran
        good = seen(server, keys)
        server.kill()
    return keys, good


def seen(server, keys):
    """What a client sees: who gets in, the keys, the results, and a filtered result, whose error may name a file."""
    statuses = {name: server.request("GET", "/v1/keys", None, bearer(keys.get(name))).status for name in ("good", "bad", "none")}
    listed = server.request("GET", "/v1/keys", None, bearer(keys["good"]))
    shown = sorted((own["id"], own["name"], own["revoked_at"] is None) for own in listed.json()["keys"]) if listed.status == 200 else None
    answers = {}
    for query in ("", "?segment.tier=t1"):
        answer = server.request("GET", f"/v1/experiments/kept/results{query}", None, bearer(keys["good"]))
        answers[query] = numbers(answer.json()) if answer.status == 200 else answer.detail()
    return {"statuses": statuses, "keys": shown, "results": answers}


def problem(data, keys, good, names):
    """Nothing where the start is right, or is refused with one of `names`; else what is wrong."""
    try:
        server = Server(data)
    except RuntimeError as refused:
        told = str(refused)
        return "" if any(name in told for name in names) and "panicked" not in told else told[-600:]
    with server:
        now = seen(server, keys)
        # The command ends with the server, whatever it holds.
        server.kill()
    for query, shown in now["results"].items():
        if isinstance(shown, str) and any(name in shown for name in names):
            now["results"][query] = good["results"][query]
    return "" if now == good else f"other answers: {json.dumps(now)[:600]}"


def files_of(data):
    return sorted(path.relative_to(data) for path in data.rglob("*") if path.is_file() and path.stat().st_size > 0)


def on_copies(directory, data, damages, keys, good):
    """The problems of `damages`, each on a copy of its own: the file, what is done, and the function that does it."""

    def one(number):
        file, what, spoil = damages[number]
        copy = directory / f"copy-{number}"
        shutil.copytree(data, copy)
        try:
            spoil(copy / file)
            # A log or a shared index belongs to its database.
            names = {file.name, file.name.removesuffix("-wal").removesuffix("-shm")}
            wrong = problem(copy, keys, good, names)
            return f"{file} {what}: {wrong}" if wrong else ""
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    with ThreadPoolExecutor(max_workers=4) as pool:
        return [wrong for wrong in pool.map(one, range(len(damages))) if wrong]


def flip(bit):
    def spoil(path):
        with open(path, "r+b") as stream:
            stream.seek(bit // 8)
            byte = stream.read(1)[0]
            stream.seek(bit // 8)
            stream.write(bytes([byte ^ (1 << bit % 8)]))

    return spoil


def killed_and_damaged(checks, directory):
    data = directory / "data"
    keys, good = make_killed(data)
    checks.equal("the good key gets in, the revoked one and none do not", good["statuses"], {"good": 200, "bad": 401, "none": 401})
    checks.check("results and filtered results are answered", all(isinstance(shown, list) for shown in good["results"].values()), good["results"])
    checks.equal("without damage the start after kill -9 is right", problem(copied(directory, data), keys, good, []), "")
    checks.note(f"seed {SEED}")
    chance = random.Random(SEED)
    for file in files_of(data):
        size = (data / file).stat().st_size
        bits = [chance.randrange(8 * size) for _ in range(N_FLIPS)]
        problems = on_copies(directory, data, [(file, f"bit {bit} of {8 * size}", flip(bit)) for bit in bits], keys, good)
        checks.check(f"{file}, {N_FLIPS} bits flipped one at a time: right, or refused with its name", not problems, "; ".join(problems[:2]))
    gone = [(file, "removed", lambda path: path.unlink()) for file in files_of(data)]
    cut = [(file, "cut to half", lambda path: os.truncate(path, path.stat().st_size // 2)) for file in files_of(data)]
    emptied = [(file, "emptied", lambda path: os.truncate(path, 0)) for file in files_of(data)]
    for name, damages in (("removed", gone), ("cut to half", cut), ("emptied", emptied)):
        problems = on_copies(directory, data, damages, keys, good)
        checks.check(f"each of {len(damages)} files {name}: right, or refused with its name", not problems, "; ".join(problems[:2]))


def copied(directory, data):
    copy = directory / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(data, copy)
    return copy


def refusal(data):
    try:
        with Server(data):
            return ""
    except RuntimeError as refused:
        return str(refused)


def one_file_of_a_backup(checks, directory):
    data = directory / "data"
    with Server(data) as server:
        assert server.post("/v1/experiments", DEFINITION).status == 201
        assert send(server, 0, 100)
        server.run_now()
        assert server.post("/v1/backup", {"directory": "b"}).status == 200
        for number in range(5):
            assert send(server, 100 + number * 40, 140 + number * 40)
        server.run_now()
        server.stop()
    backup = data / "backups" / "b"
    for name, guard in (("catalog.sqlite", "GENERATION"), ("warehouse.sqlite", "POSITION")):
        for without in (False, True):
            copy = copied(directory, data)
            shutil.copy(backup / name, copy / name)
            if without:
                (copy / guard).unlink()
            told = refusal(copy)
            # A catalog from before is no damage to anybody but to itself: only what is told finds it.
            wanted = name == "warehouse.sqlite" or not without
            if wanted:
                checks.check(f"{name} of a backup{f', without {guard}' if without else ''}: refused, and the mend is a whole backup", name in told and "restore a whole backup" in told, told)
    copy = directory / "restored"
    must(trialog("restore", backup, data_dir=copy))
    with Server(copy) as server:
        checks.equal("a whole backup starts", sum(row["users"] for row in server.results("kept")["variants"]), 100)
        server.stop()
    found = trialog("verify", "--format", "json", data_dir=copy)
    checks.equal("and is sound", (found.code, json.loads(found.out)["damage"]), (0, []))
    (copy / "catalog.sqlite").unlink()
    found = trialog("verify", "--format", "json", data_dir=copy)
    checks.check("verify reports a catalog that is gone", found.code == 2 and "catalog.sqlite" in found.out, found)


def beneath_a_server(checks, directory):
    def cut(path):
        os.truncate(path, 4_096)

    def replace(path):
        shutil.copy(path, f"{path}.new")
        os.rename(f"{path}.new", path)

    for name in ("catalog.sqlite", "warehouse.sqlite"):
        for what, spoil in (("removed", Path.unlink), ("cut short", cut), ("replaced", replace)):
            data = directory / f"{name}-{what}"
            with Server(data) as server:
                assert server.post("/v1/experiments", DEFINITION).status == 201
                server.stop()
            with Server(data) as server:
                ready = server.get("/readyz").status
                spoil(data / name)
                # A file's length is compared when nobody writes to it at that moment.
                told = poll("not ready", lambda: (answer := server.get("/readyz")).status == 503 and answer.detail(), 10)
                checks.check(f"{name} {what} under a running server: /readyz says so", ready == 200 and name in told and what in told, told)
                server.kill()


class FakeClock:
    """A server whose clock is what a file says."""

    def __init__(self, directory):
        self.file = directory / "clock"
        self.set("+0d")

    def set(self, offset):
        draft = Path(f"{self.file}.new")
        draft.write_text(f"{offset}\n")
        os.rename(draft, self.file)

    def before(self):
        return ("env", f"LD_PRELOAD={FAKETIME}", f"FAKETIME_TIMESTAMP_FILE={self.file}", "FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1", "NO_FAKE_STAT=1")


def jumps(checks, directory):
    if not FAKETIME.exists():
        checks.skip("clocks that jump", "install Debian's package faketime")
        return
    now = time.time()
    day = time.strftime("%Y-%m-%d", time.gmtime(now - 5 * 86_400))
    with Server(directory / "right") as server:
        assert server.post("/v1/experiments", DEFINITION).status == 201
        for number in range(N_JUMPS + 2):
            assert send(server, number * 100, number * 100 + 100, day=day)
        server.run_now()
        wanted = numbers(server.results("kept"))
    checks.attempt(jump_around, directory, wanted, day)
    checks.attempt(glitch_and_retention, directory)
    checks.attempt(odd_dates, directory)


def jump_around(checks, directory, wanted, day):
    clock, chance = FakeClock(directory), random.Random(SEED)
    data, told, again = directory / "jumping", [], []
    with Server(data, "--keep-events-for", "400d", "--interval", "1s", before=clock.before()) as server:
        assert server.post("/v1/experiments", DEFINITION).status == 201
        assert send(server, 0, 100, day=day)
        server.run_now()
        for number in range(1, N_JUMPS + 1):
            offset = chance.choice([-1, 1]) * chance.choice([2, 40, 200, 1_095])
            if chance.random() < 0.5:
                clock.set(f"{offset:+d}d")
            stored = send(server, number * 100, number * 100 + 100, day=day)
            clock.set(f"{offset:+d}d")
            if not stored:
                again.append(number)
            for path in ("/v1/pipeline/run", "/v1/retention/apply", "/v1/backup"):
                body = {"directory": f"b{number}"} if path.endswith("backup") else None
                answer = post(server, path, body)
                if answer.status not in (200, 201):
                    told.append((path, offset, answer.status, answer.detail()))
            clock.set("+0d")
        for number in (*again, N_JUMPS + 1):
            assert send(server, number * 100, number * 100 + 100, day=day)
        post(server, "/v1/pipeline/run")
        checks.equal(f"after {N_JUMPS} jumps (seed {SEED}) results are those of a clock that was right", numbers(server.results("kept")), wanted)
        mends = [detail for path, _, _, detail in told if "set the clock right" not in detail and "--confirm" not in detail]
        checks.check(f"{len(told)} refusals say what to do", told and not mends, mends[:2])
        panics = [line for line in server.stderr().splitlines() if "panicked" in line]
        checks.equal("nothing panicked", panics, [])
        assert server.stop() == 0
    found = trialog("verify", "--format", "json", data_dir=data)
    checks.equal("and everything is sound", (found.code, json.loads(found.out)["damage"]), (0, []))
    with Server(directory / "restored"):
        pass
    restored = directory / "from-backup"
    must(trialog("restore", data / "backups" / f"b{N_JUMPS}", data_dir=restored))
    with Server(restored) as server:
        send(server, 0, (N_JUMPS + 2) * 100, day=day)
        server.run_now()
        checks.equal("a backup that was made during a jump leads to the same", numbers(server.results("kept")), wanted)


def glitch_and_retention(checks, directory):
    clock = FakeClock(directory)
    old = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 10 * 86_400))
    with Server(directory / "glitch", "--keep-events-for", "400d", "--interval", "1s", before=clock.before()) as server:
        assert server.post("/v1/experiments", DEFINITION).status == 201
        assert send(server, 0, 1_000, day=old)
        server.run_now()
        rows = len(server.get("/v1/export/metrics?format=csv").body.splitlines())
        clock.set("+1095d")
        time.sleep(2.5)
        answer = post(server, "/v1/retention/apply?confirm=true")
        clock.set("+0d")
        post(server, "/v1/pipeline/run")
        time.sleep(1)
        kept = len(server.get("/v1/export/metrics?format=csv").body.splitlines())
        checks.equal("a clock three years ahead for seconds drops nothing", (kept, answer.status), (rows, 503))
        server.stop()


def odd_dates(checks, directory):
    clock = FakeClock(directory)
    with Server(directory / "odd", before=clock.before()) as server:
        seen = {}
        for offset in ("-60y", "+8100y", "+0d"):
            clock.set(offset)
            with contextlib.suppress(OSError):
                answer = server.get("/healthz")
                seen[offset] = (answer.status, patiently(server.get, "/").status, answer.headers["date"][12:16])
        wanted = {"-60y": (200, 200, "1970"), "+8100y": (200, 200, "9999"), "+0d": (200, 200, time.strftime("%Y", time.gmtime()))}
        checks.equal("requests are answered before 1970 and after 9999, with a date", seen, wanted)
        checks.check("nothing panicked", "panicked" not in server.stderr(), server.stderr()[-600:])
        server.kill()


if __name__ == "__main__":
    main(killed_and_damaged, one_file_of_a_backup, beneath_a_server, jumps)
