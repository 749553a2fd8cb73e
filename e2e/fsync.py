"""The order of writes that durability rests on, as `strace` sees it.

A 202 follows the sync of SQLite's log. A run of events is written under a
temporary name, synced, renamed, its directory synced; then the commit that
registers it is synced; then what it replaces is removed.
"""

import json
import re
import shutil
import subprocess

from harness import BINARY, Server, main, must, trialog

CALLS = "openat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,fsync,fdatasync,write,writev,pwrite64,sendto,sendmsg"
START = re.compile(r"^(\d+) +(\w+)\((.*)$")
RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$")


class Call:
    """A system call: when it was made and when it returned, as line numbers."""

    def __init__(self, name, text, begun):
        self.name, self.text, self.begun, self.ended = name, text, begun, None


def read_trace(path):
    calls, open_calls = [], {}
    for number, line in enumerate(path.read_text(errors="replace").splitlines()):
        if match := RESUMED.match(line):
            call = open_calls.pop(match[1], None)
            if call:
                call.text += match[3]
                call.ended = number
        elif match := START.match(line):
            call = Call(match[2], match[3], number)
            calls.append(call)
            if line.endswith("<unfinished ...>"):
                open_calls[match[1]] = call
            else:
                call.ended = number
    return calls


def is_sync(call):
    return call.name in ("fsync", "fdatasync") and call.ended is not None


def of_file(call, name):
    """Whether the call is on the open file whose path ends in `name`."""
    return re.match(r"\d+<[^>]*" + re.escape(name) + r">", call.text) is not None


def order(checks, directory):
    if not shutil.which("strace"):
        checks.skip("the order of writes", "there is no command `strace`")
        return
    trace = directory / "trace"
    before = ["strace", "-f", "-y", "-s", "48", "-e", f"trace={CALLS}", "-o", str(trace)]
    probe = subprocess.run([*before, "true"], capture_output=True, text=True)
    if probe.returncode != 0:
        checks.skip("the order of writes", f"strace cannot trace here: {probe.stderr}")
        return
    data = directory / "parent" / "data"
    with Server(data, before=before) as server:
        # Enough segments for flushes, and enough flushes for a merge.
        merged = lambda: [path for path in data.glob("events/metrics/*.parquet") if not path.stem.endswith("-0")]  # noqa: E731
        n_accepted = 0
        while not merged() and n_accepted < 300:
            n_accepted += send(server, n_accepted)
            server.run_now()
        server.stop_traced()
    calls = read_trace(trace)
    acknowledgements(checks, calls, n_accepted)
    runs_of_events(checks, calls, "serve")
    directories(checks, calls, data)
    settle(checks, directory, before)


def send(server, first):
    """One event of each kind."""
    for number in (first, first + 1):
        kind = "metrics" if number % 2 else "assignments"
        event = {"user_id": number, "experiment_id": "x", "event_id": str(number)}
        event |= {"event_type": "e", "timestamp": "2026-01-05T00:00:00Z"} if number % 2 else {"variant": "a", "assigned_at": "2026-01-05T00:00:00Z"}
        answer = server.post(f"/v1/events/{kind}", event)
        assert answer.status == 202, answer
    return 2


def acknowledgements(checks, calls, n_accepted):
    """Requests come one after the other, so each 202 has a sync of its own before it."""
    answered = [call for call in calls if call.name in ("write", "writev", "sendto", "sendmsg") and "HTTP/1.1 202" in call.text]
    syncs = [call for call in calls if is_sync(call) and of_file(call, "warehouse.sqlite-wal")]
    writes = [call for call in calls if call.name == "pwrite64" and of_file(call, "warehouse.sqlite-wal")]
    late, previous = [], -1
    for call in answered:
        written = [write for write in writes if previous < write.begun < call.begun]
        synced = [sync for sync in syncs if written and sync.begun > written[0].ended and sync.ended < call.begun]
        if not synced:
            late.append(call.begun)
        previous = call.begun
    checks.check(f"each of {len(answered)} answers 202 follows a write and a sync of the log", len(answered) >= n_accepted and not late, f"{len(answered)} answers, without a sync before lines {late[:5]}")


def runs_of_events(checks, calls, name):
    """Every Parquet file: written, synced, renamed, directory synced, committed."""
    renames = [call for call in calls if call.name.startswith("rename") and ".parquet.tmp" in call.text and call.ended is not None]
    problems = []
    for rename in renames:
        temporary, final = re.findall(r'"([^"]+)"', rename.text)[:2]
        folder = final.rsplit("/", 1)[0]
        written = [call for call in calls if call.name in ("write", "pwrite64") and of_file(call, temporary)]
        synced = [call for call in calls if is_sync(call) and of_file(call, temporary)]
        named = [call for call in calls if is_sync(call) and of_file(call, folder) and call.begun > rename.ended]
        if not written or not synced:
            problems.append(f"{final}: never written or never synced")
        elif not (max(call.ended for call in written) < synced[-1].begun and synced[-1].ended < rename.begun):
            problems.append(f"{final}: not synced between the last write and the rename")
        elif not named:
            problems.append(f"{final}: the directory is not synced after the rename")
        else:
            frames = [call for call in calls if call.name == "pwrite64" and of_file(call, "warehouse.sqlite-wal") and call.begun > named[0].ended]
            commit = [call for call in calls if frames and is_sync(call) and of_file(call, "warehouse.sqlite-wal") and call.begun > frames[0].ended]
            if not commit:
                problems.append(f"{final}: no commit is synced after the directory")
    checks.check(f"{name}: {len(renames)} files are written, synced, renamed, the directory synced, then committed", renames and not problems, "; ".join(problems[:3]) or "no file was written")
    removed_after_commit(checks, calls, name, renames)


def replaces(merged, removed):
    """Whether the file `merged` covers the sequences of the file `removed`."""
    span = re.compile(r"(.*/)(\d+)-(\d+)-\d+\.parquet")
    new, old = span.fullmatch(merged), span.fullmatch(removed)
    return merged != removed and new[1] == old[1] and int(new[2]) <= int(old[2]) and int(old[3]) <= int(new[3])


def removed_after_commit(checks, calls, name, renames):
    """A merged file is removed after the commit that replaced it was synced."""
    unlinks = [call for call in calls if call.name.startswith("unlink") and re.search(r'/events/[^"]+\.parquet"', call.text)]
    problems = []
    for unlink in unlinks:
        removed = re.findall(r'"([^"]+)"', unlink.text)[0]
        # A reader may hold the file for long, so later merges can lie in between.
        merged = [call for call in renames if call.ended < unlink.begun and replaces(re.findall(r'"([^"]+)"', call.text)[1], removed)]
        syncs = [call for call in calls if is_sync(call) and of_file(call, "warehouse.sqlite-wal") and merged and merged[0].ended < call.begun and call.ended < unlink.begun]
        if not syncs:
            problems.append(unlink.text)
    checks.check(f"{name}: {len(unlinks)} replaced files are removed after the commit was synced", not problems and unlinks, "; ".join(problems[:3]) or "no file was removed")


def directories(checks, calls, data):
    """What was made in a directory is lost with the power unless the directory is synced."""
    first_202 = next(call.begun for call in calls if "HTTP/1.1 202" in call.text)
    for made in (data.parent, data, data / "events", data / "events/assignments", data / "events/metrics"):
        made_at = [call.ended for call in calls if call.name.startswith("mkdir") and f'"{made}"' in call.text and "= 0" in call.text]
        synced = [call for call in calls if is_sync(call) and of_file(call, str(made.parent)) and made_at and call.begun > made_at[0] and call.ended < first_202]
        checks.check(f"{made.relative_to(data.parent.parent)}: made, and its directory synced before the first 202", made_at and synced, "it was never made" if not made_at else "never synced")
    for file in ("warehouse.sqlite", "catalog.sqlite"):
        opened = [call.begun for call in calls if call.name == "openat" and f'/{file}"' in call.text and "O_CREAT" in call.text]
        synced = [call for call in calls if is_sync(call) and of_file(call, str(data)) and opened and opened[0] < call.begun and call.ended < first_202]
        checks.check(f"{file}: made, and the data directory synced before the first 202", opened and synced)


def settle(checks, directory, before):
    data = directory / "settled"
    path = directory / "events.ndjson"
    for number in range(4):
        with open(path, "w") as stream:
            for n in range(2_000):
                stream.write(json.dumps({"user_id": n, "experiment_id": "x", "event_type": "e", "timestamp": "2026-01-05T00:00:00Z", "event_id": f"{number}-{n}"}) + "\n")
        must(trialog("import", "metrics", path, data_dir=data))
        done = subprocess.run([*before, BINARY, "--data-dir", data, "bench", "settle"], capture_output=True, text=True)
        assert done.returncode == 0, done
        calls = read_trace(directory / "trace")
        if [call for call in calls if call.name.startswith("unlink") and ".parquet" in call.text]:
            break
    runs_of_events(checks, calls, "bench settle")


main(order)
