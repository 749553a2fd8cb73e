"""Bad input: every 4xx names the field and the reason, and memory stays bounded."""

import gzip
import http.client
import json
import os
import shutil
import socket
import subprocess
import time

from harness import Client, Server, main, metric, must, trialog

MIB = 1 << 20
GOOD = {"user_id": 1, "experiment_id": "x", "event_type": "click", "timestamp": "2026-01-05T00:00:00Z"}
ASSIGNED = {"user_id": 1, "experiment_id": "x", "variant": "a", "assigned_at": "2026-01-05T00:00:00Z"}
# What a small server may take at most for any of this.
PEAK_MIB = 400


def bad_input(checks, directory):
    with Server(directory / "data") as server:
        checks.attempt(fields, server)
        checks.attempt(bodies, server)
        checks.attempt(sizes, server)
        checks.attempt(paths, server)
        checks.attempt(queries, server)
        checks.attempt(definitions, server)
        checks.attempt(odd_contexts, server)
        checks.attempt(still_well, server)
        peak = server.peak_mib()
        checks.check(f"the server's memory stays below {PEAK_MIB} MiB", peak < PEAK_MIB, f"{peak:.0f} MiB")


def fields(checks, server):
    """Each bad field alone, beside a good event that is kept."""
    raw = json.dumps(GOOD)[:-1]
    cases = [
        ("an id of 65 characters", "experiment_id", {**GOOD, "experiment_id": "e" * 65}),
        ("an empty id", "experiment_id", {**GOOD, "experiment_id": ""}),
        ("an id with a control character", "experiment_id", {**GOOD, "experiment_id": "a\nb"}),
        ("an id that is a fraction", "experiment_id", {**GOOD, "experiment_id": 7.5}),
        ("no experiment", "experiment_id", {key: GOOD[key] for key in GOOD if key != "experiment_id"}),
        ("no user", "user_id", {key: GOOD[key] for key in GOOD if key != "user_id"}),
        ("a null user", "user_id", {**GOOD, "user_id": None}),
        ("a user that is an object", "user_id", {**GOOD, "user_id": {}}),
        ("a user that is a fraction", "user_id", {**GOOD, "user_id": 1.5}),
        ("a user beyond BIGINT", "user_id", {**GOOD, "user_id": 1 << 63}),
        ("an event type of 65 characters", "event_type", {**GOOD, "event_type": "é" * 65}),
        ("an event type that is a list", "event_type", {**GOOD, "event_type": ["click"]}),
        ("a value of 19 digits", "value", raw + ', "value": 1234567890123456789}'),
        ("a value of 19 digits as text", "value", {**GOOD, "value": "1234567890123456789"}),
        ("NaN as text", "value", {**GOOD, "value": "NaN"}),
        ("infinity as text", "value", {**GOOD, "value": "-Infinity"}),
        ("a huge exponent", "value", raw + ', "value": 1e999999999}'),
        ("a boolean value", "value", {**GOOD, "value": True}),
        ("year 9999", "timestamp", {**GOOD, "timestamp": "9999-12-31T23:59:59Z"}),
        ("year 1999", "timestamp", {**GOOD, "timestamp": "1999-12-31T23:59:59Z"}),
        ("a time without zone", "timestamp", {**GOOD, "timestamp": "2026-01-05T00:00:00"}),
        ("a day that does not exist", "timestamp", {**GOOD, "timestamp": "2026-02-30T00:00:00Z"}),
        ("a day alone", "timestamp", {**GOOD, "timestamp": "2026-01-05"}),
        ("seconds instead of milliseconds", "timestamp", {**GOOD, "timestamp": 1767571200}),
        ("a time beyond every calendar", "timestamp", raw.replace('"2026-01-05T00:00:00Z"', "1e300") + "}"),
        ("two days ahead", "timestamp", {**GOOD, "timestamp": int((time.time() + 2 * 86_400) * 1000)}),
        ("an event_id of 65 bytes", "event_id", {**GOOD, "event_id": "i" * 65}),
        ("an event_id that is a list", "event_id", {**GOOD, "event_id": []}),
        ("NaN as JSON", "event", raw + ', "value": NaN}'),
        ("a field given twice", "event", raw + ', "user_id": 2}'),
        ("text in place of an event", "event", '"click"'),
    ]
    judge(checks, server, "metrics", GOOD, cases)
    raw = json.dumps(ASSIGNED)[:-1]
    cases = [
        ("a variant of 33 characters", "variant", {**ASSIGNED, "variant": "v" * 33}),
        ("no variant", "variant", {key: ASSIGNED[key] for key in ASSIGNED if key != "variant"}),
        ("a context that is text", "context", {**ASSIGNED, "context": "ios"}),
        ("a context of 5,000 bytes", "context", {**ASSIGNED, "context": {"k": "v" * 5_000}}),
        ("a context of 65 keys", "context", {**ASSIGNED, "context": {f"k{n}": n for n in range(65)}}),
        ("forced that is text", "forced", {**ASSIGNED, "forced": "yes"}),
        ("an assignment without zone", "assigned_at", {**ASSIGNED, "assigned_at": "2026-01-05T00:00:00.123"}),
    ]
    judge(checks, server, "assignments", ASSIGNED, cases)


def judge(checks, server, kind, good, cases):
    for name, field, event in cases:
        text = event if isinstance(event, str) else json.dumps(event)
        # As lines every event is judged alone, whatever is in it.
        answer = server.post(f"/v1/events/{kind}", f"{json.dumps(good)}\n{text}\n", {"content-type": "application/x-ndjson"})
        rejected = answer.json().get("rejected", []) if answer.status == 202 else []
        right = len(rejected) == 1 and rejected[0]["index"] == 1 and rejected[0]["field"] == field and len(rejected[0]["reason"]) > 5
        checks.check(f"{name}: one event rejected, index, field `{field}`, reason", right, answer)
        alone = server.post(f"/v1/events/{kind}", text, {"content-type": "application/x-ndjson"})
        named = alone.status == 422 and alone.json()["rejected"][0]["field"] == field and f"`{field}`" in alone.json()["detail"]
        checks.check(f"{name}, alone: 422 names the field", named, alone)


def bodies(checks, server):
    path = "/v1/events/metrics"
    for name, body in (
        ("an empty body", b""),
        ("white space", b" \n "),
        ("an unfinished object", b'{"user_id":'),
        ("an unfinished array", b'[{"user_id":1}'),
        ("a number", b"17"),
        ("text", b'"click"'),
        ("no JSON", b"user_id=1&event=click"),
        ("something after the array", b"[] []"),
    ):
        answer = server.post(path, body)
        problem = answer.headers["content-type"] == "application/problem+json" and len(answer.json().get("detail", "")) > 10
        checks.check(f"{name}: 400 as a problem document", answer.status == 400 and problem, answer)
    answer = server.post(path, b'{"user_id":1}\n\xff\xfe\n', {"content-type": "application/x-ndjson"})
    checks.check("lines that are not UTF-8 are rejected one by one", answer.status == 422 and len(answer.json()["rejected"]) == 2, answer)
    for name, element in (("NaN", b'{"value": NaN}'), ("bytes that are not UTF-8", b'{"user_id":"\xff\xfe"}')):
        answer = server.post(path, b"[" + element + b"," + json.dumps(GOOD).encode() + b"]")
        rejected = answer.json()["rejected"]
        checks.check(f"an array with {name}: that event is rejected and the other kept", answer.status == 202 and [own["index"] for own in rejected] == [0], answer)
    answer = server.post(path, b"[]")
    checks.equal("an empty array is 202 and nothing", (answer.status, answer.json()), (202, {"accepted": 0, "rejected": []}))
    for coding in ("br", "deflate", "gzip, gzip", "nonsense"):
        answer = server.post(path, b"[]", {"content-encoding": coding})
        checks.check(f"Content-Encoding {coding}: 415 names it and what is known", answer.status == 415 and coding.split(",")[0] in answer.detail() and "zstd" in answer.detail(), answer)
    whole = gzip.compress(json.dumps([GOOD]).encode())
    for name, coding, body in (
        ("gzip that is none", "gzip", b"[]"),
        ("gzip cut short", "gzip", whole[:-9]),
        ("gzip with a wrong checksum", "gzip", whole[:-8] + b"12345678"),
        ("zstd that is none", "zstd", b"[]"),
    ):
        answer = server.post(path, body, {"content-encoding": coding})
        checks.check(f"{name}: 400 says that it cannot be decompressed", answer.status == 400 and "decompress" in answer.detail(), answer)
    for name, key in (("an empty key", ""), ("a key of 256 bytes", "k" * 256)):
        answer = server.post(path, [GOOD], {"Idempotency-Key": key})
        checks.check(f"{name}: 400 names the header", answer.status == 400 and "Idempotency-Key" in answer.detail(), answer)


def sizes(checks, server):
    many = b"[" + b",".join([json.dumps(GOOD).encode()] * 100_001) + b"]"
    answer = server.post("/v1/events/metrics", many)
    checks.check("100,001 events: 413 names the limit", answer.status == 413 and "100000" in answer.detail(), answer)
    status, text, seconds, sent = upload(server, 100 * MIB, declared=True)
    checks.check("a 100 MB body: 413 at once, most of it never read", status == 413 and seconds < 2 and sent < 20 * MIB and "bytes" in text, f"{status} after {seconds:.2f} s and {sent} bytes: {text}")
    status, text, seconds, sent = upload(server, 100 * MIB, declared=False)
    checks.check("a 100 MB body of unknown length: 413 at the limit", status == 413 and seconds < 10 and sent < 40 * MIB and "bytes" in text, f"{status} after {seconds:.2f} s and {sent} bytes: {text}")
    bomb = gzip.compress(bytes(1 << 30), 6)
    started = time.monotonic()
    answer = server.post("/v1/events/metrics", bomb, {"content-encoding": "gzip"})
    checks.check(f"1 GiB in {len(bomb) >> 10} KiB of gzip: 413", answer.status == 413 and time.monotonic() - started < 5, answer)
    if shutil.which("zstd"):
        made = subprocess.run("head -c 1073741824 /dev/zero | zstd -c", shell=True, capture_output=True, check=True).stdout
        answer = server.post("/v1/events/metrics", made, {"content-encoding": "zstd"})
        checks.check(f"1 GiB in {len(made) >> 10} KiB of zstd: 413", answer.status == 413, answer)
    else:
        checks.skip("1 GiB in zstd", "there is no command `zstd` to compress with")
    bad = b"[" + b",".join([b"{}"] * 100_000) + b"]"
    answer = server.post("/v1/events/metrics", bad)
    told = answer.json()
    checks.check("100,000 bad events: 422 with the first 1,000 and how many there are", answer.status == 422 and len(told["rejected"]) == 1_000 and told["rejected_total"] == 100_000, f"{answer.status}, {len(answer.body)} bytes")
    crowd(checks, server)
    peak = server.peak_mib()
    checks.check(f"after these bodies the server's peak is below {PEAK_MIB} MiB", peak < PEAK_MIB, f"{peak:.0f} MiB")


def upload(server, length, declared):
    """Sends `length` bytes until an answer comes; gives it, the time, and how much was sent."""
    connection = socket.create_connection((server.host, server.port), timeout=20)
    head = "Content-Length: %d" % length if declared else "Transfer-Encoding: chunked"
    connection.sendall(f"POST /v1/events/metrics HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n".encode())
    piece = b" " * 65_536
    framed = piece if declared else b"10000\r\n" + piece + b"\r\n"
    started, sent = time.monotonic(), 0
    connection.setblocking(False)
    pending = framed
    while sent < length and time.monotonic() - started < 20:
        try:
            if connection.recv(1, socket.MSG_PEEK):
                break
        except BlockingIOError:
            pass
        except OSError:
            break
        try:
            n = connection.send(pending)
            sent += n
            pending = pending[n:] or framed
        except BlockingIOError:
            time.sleep(0.001)
        except OSError:
            break
    connection.settimeout(20)
    try:
        text = connection.recv(65_536).decode(errors="replace")
    except OSError as error:
        return 0, f"no answer could be read: {error}", time.monotonic() - started, sent
    finally:
        connection.close()
    return int(text.split()[1]), text, time.monotonic() - started, sent


def crowd(checks, server):
    """Twelve unfinished bodies of 16 MB each: some are refused with 429, memory stays bounded."""
    connections, statuses = [], []
    for _ in range(12):
        connection = http.client.HTTPConnection(server.host, server.port, timeout=20)
        connection.putrequest("POST", "/v1/events/metrics")
        connection.putheader("Content-Length", str(16 * MIB))
        connection.endheaders()
        connection.sock.setblocking(False)
        connections.append(connection)
    piece, deadline = b" " * 262_144, time.monotonic() + 5
    left = {connection: 12 * MIB for connection in connections}
    while left and time.monotonic() < deadline:
        for connection in list(left):
            try:
                if connection.sock.recv(12, socket.MSG_PEEK):
                    del left[connection]
                    continue
            except BlockingIOError:
                pass
            except OSError:
                del left[connection]
                continue
            try:
                left[connection] -= connection.sock.send(piece)
            except BlockingIOError:
                pass
            except OSError:
                pass
            if left[connection] <= 0:
                del left[connection]
    # What is refused is still taken from the client for two seconds, so that it reads the answer.
    deadline = time.monotonic() + 4
    for connection in connections:
        connection.sock.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            statuses.append(connection.sock.recv(12).split()[1].decode())
        except (OSError, IndexError):
            statuses.append("waits")
    checks.check("twelve bodies of 16 MB at a time: some get 429, none an error", "429" in statuses and set(statuses) <= {"429", "waits"}, statuses)
    alive = server.get("/healthz")
    checks.equal("meanwhile the server answers", alive.status, 200)
    for connection in connections:
        connection.close()


def paths(checks, server):
    for method, path, status in (
        ("GET", "/nothing", 404),
        ("GET", "/v1/events/clicks", 404),
        ("GET", "/v1/events/metrics", 405),
        ("DELETE", "/v1/experiments", 405),
        ("PUT", "/v1/pipeline/run", 405),
        ("POST", "/v1/experiments/x/results", 405),
        ("GET", "/v1/experiments/" + "x" * 65, 404),
        ("GET", "/v1/experiments/%00/results", 404),
        ("GET", "/v1/experiments/%FF", 400),
        ("POST", "/v1/experiments/never/start", 404),
        ("GET", "/../../etc/passwd", 404),
    ):
        answer = server.request(method, path)
        problem = answer.headers["content-type"] == "application/problem+json" and answer.json().get("status") == answer.status
        checks.check(f"{method} {path[:40]}: {status} as a problem document", answer.status == status and problem, answer)


def queries(checks, server):
    server.post("/v1/events/assignments", [ASSIGNED])
    server.run_now()
    for query, field in (
        ("metrik=click", "metrik"),
        ("kind=median", "kind"),
        ("alpha=0", "alpha"),
        ("alpha=1", "alpha"),
        ("alpha=NaN", "alpha"),
        ("alpha=-0.05", "alpha"),
        ("alpha=text", "alpha"),
        ("correction=sidak", "correction"),
        ("from=yesterday", "from"),
        ("from=2026-01-01T00:00:00", "from"),
        ("to=2026-13-01T00:00:00Z", "to"),
        ("from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z", "to"),
        ("as_of=now", "as_of"),
        ("control=nobody", "control"),
        ("control=" + "v" * 33, "control"),
        ("metric=nothing", "metric"),
        ("metric=" + "m" * 65, "metric"),
        ("segment.=x", "segment."),
        ("segment=x", "segment"),
    ):
        answer = server.get(f"/v1/experiments/x/results?{query}")
        told = answer.status in (400, 422) and answer.json().get("field") == field and answer.json().get("reason")
        checks.check(f"results?{query[:60]}: names `{field}` and the reason", told, answer)
    for path, field in (("/v1/pipeline/run?full=perhaps", "full"), ("/v1/pipeline/run?complete=true", "complete")):
        answer = server.post(path)
        checks.check(f"{path}: names `{field}`", answer.status == 400 and answer.json().get("field") == field, answer)
    for query, field in (("limit=0", "limit"), ("limit=ten", "limit"), ("status=paused", "status"), ("order=id", "order")):
        answer = server.get(f"/v1/experiments?{query}")
        checks.check(f"experiments?{query}: names `{field}`", answer.status == 400 and answer.json().get("field") == field, answer)


def definitions(checks, server):
    two = [{"variant": "a"}, {"variant": "b"}]
    for name, body, word in (
        ("no JSON", b"{", "JSON"),
        ("no variants", {"experiment_id": "d"}, "variants"),
        ("an empty list of variants", {"experiment_id": "d", "variants": []}, "variants"),
        ("one variant twice", {"experiment_id": "d", "variants": [{"variant": "a"}, {"variant": "a"}]}, "variants"),
        ("an id of 65 characters", {"experiment_id": "d" * 65, "variants": two}, "65"),
        ("a variant of 33 characters", {"experiment_id": "d", "variants": [{"variant": "v" * 33}]}, "33"),
        ("a weight of 0", {"experiment_id": "d", "variants": [{"variant": "a", "weight": 0}, {"variant": "b"}]}, "weight"),
        ("a negative weight", {"experiment_id": "d", "variants": [{"variant": "a", "weight": -1}, {"variant": "b"}]}, "weight"),
        ("an allocation of 2", {"experiment_id": "d", "variants": two, "allocation": 2}, "allocation"),
        ("an alpha of 1", {"experiment_id": "d", "variants": two, "alpha": 1}, "alpha"),
        ("a control that is no variant", {"experiment_id": "d", "variants": two, "control": "c"}, "control"),
        ("an unknown field", {"experiment_id": "d", "variants": two, "variantz": []}, "variantz"),
        ("a time without zone", {"experiment_id": "d", "variants": two, "start_at": "2026-01-01T00:00:00"}, "zone"),
        ("an end before the start", {"experiment_id": "d", "variants": two, "start_at": "2026-02-01T00:00:00Z", "end_at": "2026-01-01T00:00:00Z"}, "end_at"),
        ("a window of nonsense", {"experiment_id": "d", "variants": two, "attribution_window": "a while"}, "a while"),
        ("a metric of 65 characters", {"experiment_id": "d", "variants": two, "metrics": {"primary": ["m" * 65]}}, "metric"),
    ):
        answer = server.post("/v1/experiments", body)
        checks.check(f"an experiment with {name}: 4xx that says `{word}`", answer.status in (400, 422) and word in answer.detail(), answer)
    answer = server.get("/v1/experiments/d")
    checks.equal("none of them was registered", answer.status, 404)


def odd_contexts(checks, server):
    """A context that is accepted can be filtered by."""
    for name, value in (
        ("nested 2,000 deep", "[" * 1_900 + "]" * 1_900),
        ("with a number beyond a double", "1e999"),
        ("with half a surrogate pair", '"\\ud800"'),
        ("with a key given twice", '1, "x": 2'),
    ):
        event = json.dumps({**ASSIGNED, "experiment_id": f"odd {name}"})[:-1] + ', "context": {"platform": "ios", "x": ' + value + "}}"
        answer = server.post("/v1/events/assignments", event)
        if answer.status == 422:
            checks.check(f"a context {name} is rejected by its field", answer.json()["rejected"][0]["field"] == "context", answer)
            continue
        server.run_now()
        users = [row["users"] for row in server.results(f"odd {name}", "segment.platform=ios")["variants"]]
        checks.equal(f"a context {name} is accepted, so its user is found by another key", users, [1])


def still_well(checks, server):
    events = [{**GOOD, "experiment_id": "well", "event_id": str(n)} for n in range(10)]
    server.post("/v1/events/assignments", [{**ASSIGNED, "experiment_id": "well"}])
    server.post("/v1/events/metrics", events)
    server.run_now()
    row = metric(server.results("well"), "click", "sum")["variants"][0]
    checks.equal("after all of it the server counts as before", (row["users"], row["events"]), (1, 10))


# --- Files

# Set BAD_ROWS=10000000 for a longer look.
ROWS = int(os.environ.get("BAD_ROWS") or 2_000_000)


def bad_files(checks, directory):
    data = directory / "data"
    path = directory / "bad.csv"
    with open(path, "w") as stream:
        stream.write("user_id,experiment_id,event_type,timestamp,value\n")
        block = "1,x,click,2026-01-05T00:00:00,1\n2,x,click,2026-01-05T00:00:00Z,NaN\n" * 10_000
        for _ in range(ROWS // 20_000):
            stream.write(block)
        stream.write("3,x,click,2026-01-05T00:00:00Z,1\n")
    done = trialog("import", "metrics", path, data_dir=data)
    checks.equal(f"{ROWS:,} bad rows: exit code 3", done.code, 3)
    wanted = (f"{ROWS + 1} rows: 1 metrics accepted", f"{ROWS} rows rejected", f"{ROWS // 2} for `timestamp`", f"{ROWS // 2} for `value`", "row 1: timestamp")
    checks.check(f"{ROWS:,} bad rows: a summary by field, with examples", all(text in done.out for text in wanted), done)
    checks.check(f"{ROWS:,} bad rows: memory below 150 MiB", done.peak_mib < 150, f"{done.peak_mib:.0f} MiB")
    with Server(data) as server:
        done = trialog("import", "metrics", path, data_dir=data)
        checks.check(f"{ROWS:,} bad rows to a server: exit code 3, memory below 150 MiB", done.code == 3 and done.peak_mib < 150 and server.peak_mib() < 200, f"{done}, {done.peak_mib:.0f} and {server.peak_mib():.0f} MiB")
    unclosed_quote(checks, directory, data)
    wrong_arguments(checks, directory, data, path)


def unclosed_quote(checks, directory, data):
    """One quote too many makes the rest of a file one cell."""
    path = directory / "quote.csv"
    with open(path, "w") as stream:
        stream.write('user_id,experiment_id,event_type,timestamp\n1,x,"click,2026-01-05T00:00:00Z\n')
        block = "2,x,click,2026-01-05T00:00:00Z\n" * 100_000
        for _ in range(100):
            stream.write(block)
    done = trialog("import", "metrics", path, data_dir=data)
    checks.check("an unclosed quote before 300 MB: no success", done.code in (1, 3), done)
    checks.check("an unclosed quote before 300 MB: memory below 150 MiB", done.peak_mib < 150, f"{done.peak_mib:.0f} MiB")
    path = directory / "line.ndjson"
    with open(path, "wb") as stream:
        stream.write(b'{"user_id":1,"experiment_id":"x","event_type":"click","timestamp":"2026-01-05T00:00:00Z"}\n')
        stream.write(b'{"user_id":1,"x":"')
        for _ in range(200):
            stream.write(b"x" * MIB)
        stream.write(b'"}\n')
    done = trialog("import", "metrics", path, data_dir=data)
    checks.check("a line of 200 MB: rejected, memory below 150 MiB", done.code == 3 and "1 MiB" in done.out and done.peak_mib < 150, f"{done}, {done.peak_mib:.0f} MiB")


def wrong_arguments(checks, directory, data, path):
    (directory / "empty.csv").write_text("")
    (directory / "file.txt").write_text("user_id\n1\n")
    (directory / "broken.csv.gz").write_bytes(b"no gzip")
    (directory / "broken.parquet").write_bytes(b"PAR1 but not really PAR1")
    for name, arguments, words in (
        ("no such file", (directory / "none.csv",), ("none.csv", "cannot read")),
        ("no such column", (path, "--user-column", "player"), ("player", "user_id")),
        ("an unknown format", (directory / "file.txt",), ("--format",)),
        ("an empty file", (directory / "empty.csv",), ("user_id",)),
        ("gzip that is none", (directory / "broken.csv.gz",), ("broken.csv.gz",)),
        ("Parquet that is none", (directory / "broken.parquet",), ("broken.parquet",)),
        ("a zone that is none", (path, "--time-zone", "Mars"), ("Mars",)),
    ):
        done = trialog("import", "metrics", *arguments, data_dir=data)
        checks.check(f"import with {name}: exit code 1, says {words}", done.code == 1 and all(word in done.err for word in words), done)
    for arguments in (("results", "never"), ("experiments", "show", "never"), ("experiments", "start", "never")):
        done = trialog(*arguments, data_dir=data)
        checks.check(f"{' '.join(arguments)}: exit code 1, names it", done.code == 1 and "never" in done.err, done)
    for arguments, word in ((("--interval", "often", "aggregate"), "interval"), (("--threads", "0", "aggregate"), "threads"), (("--listen", "0.0.0.0:0", "serve"), "0.0.0.0")):
        done = trialog(*arguments, data_dir=data)
        checks.check(f"{' '.join(arguments)}: exit code 1, names {word}", done.code == 1 and word in done.err, done)


def second_columns(checks, directory):
    """Another column of the same file is another import, also the user's."""
    path = directory / "pairs.csv"
    path.write_text("buyer,seller,day\n" + "".join(f"{n},{n + 1000},2026-01-05T00:00:00Z\n" for n in range(10)))
    data = directory / "data"
    common = ("import", "metrics", path, "--time-column", "day", "--experiment", "x", "--event", "deal")
    must(trialog(*common, "--user-column", "buyer", data_dir=data))
    done = must(trialog(*common, "--user-column", "seller", data_dir=data))
    checks.check("a file imported for another user column is stored for it too", "10 metrics accepted" in done.out, done)


main(bad_input, bad_files, second_columns)
