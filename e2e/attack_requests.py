"""Requests that cost more than they weigh: products of two inputs, answers that nobody reads, bodies that never come, empty compression, one key for many bodies.

What is attacked is bounded before the work begins, and a quiet caller is served at once meanwhile.

    ATTACK_EXPERIMENTS   experiments that list the tracked event: 1000 unless given
    ATTACK_READERS       clients that do not read their rejections: 60 unless given
    ATTACK_KEYS          idempotency keys, each used by four bodies at once: 100 unless given
"""

import concurrent.futures
import gzip
import json
import os
import socket
import threading
import time

from harness import Client, Server, main, must, trialog

N_EXPERIMENTS = int(os.environ.get("ATTACK_EXPERIMENTS", "1000"))
N_READERS = int(os.environ.get("ATTACK_READERS", "60"))
N_KEYS = int(os.environ.get("ATTACK_KEYS", "100"))

METRICS = "/v1/events/metrics"
BODY_LIMIT = 16 << 20
# Memory of an idle server is about 50 MiB.
MAX_MIB = 300
# Until a request of a quiet caller is answered while others attack.
AT_ONCE_SECONDS = 0.5


class Caller(Client):
    """A client with a key."""

    def __init__(self, server, name, scope):
        super().__init__(server.url)
        answer = server.post("/v1/keys", {"name": name, "scopes": [scope]}, server.admin)
        self.header = {"Authorization": f"Bearer {answer.json()['key']}"}

    def request(self, method, path, body=None, headers=None):
        return super().request(method, path, body, {**self.header, **(headers or {})})


def started(directory):
    """A server that takes keys; `admin` is the header of one."""
    key = must(trialog("keys", "create", "admin", "--scope", "admin", data_dir=directory)).out.strip()
    server = Server(directory, "--min-free-disk", "0", "--requests-per-second", "0")
    server.admin = {"Authorization": f"Bearer {key}"}
    return server


def event(user, value=1, experiment="gate"):
    return {"user_id": user, "experiment_id": experiment, "event_type": "buy", "timestamp": "2026-01-06T00:00:00Z", "value": value}


class Reset:
    """In place of an answer: the server closed the connection while the body was still sent."""

    status = "reset"


def sent(caller, body, coding):
    try:
        return caller.request("POST", METRICS, body, {"Content-Encoding": coding})
    except OSError:
        return Reset()


def timed(work):
    begun = time.monotonic()
    return work(), time.monotonic() - begun


def head(caller, path, length, *more):
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: {caller.header['Authorization']}", f"Content-Length: {length}", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def connected(server, receive_bytes=None):
    """A socket; with `receive_bytes` one that takes little of an answer that nobody reads."""
    connection = socket.socket()
    if receive_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.connect((server.host, server.port))
    return connection


def quiet_is_served(checks, what, quiet):
    answer, seconds = timed(lambda: quiet.post(METRICS, [event(user) for user in range(20)]))
    checks.check(f"{what}: another key is served at once", answer.status == 202 and seconds < AT_ONCE_SECONDS, f"{answer} after {seconds:.2f} s")


def track_counts_before_it_makes(checks, directory):
    with started(directory) as server:
        admin = dict(server.admin)
        client = Client(server.url, keep=True)
        for number in range(N_EXPERIMENTS):
            definition = {"experiment_id": f"e{number:05}", "variants": [{"variant": "a"}, {"variant": "b"}], "metrics": {"primary": ["buy:sum"]}}
            made = client.request("POST", "/v1/experiments", definition, admin)
            begun = client.request("POST", f"/v1/experiments/e{number:05}/start", None, admin)
            if (made.status, begun.status) != (201, 200):
                raise RuntimeError(f"{made} {begun}")
        large_answers_are_counted(checks, server)
        sdk, quiet = Caller(server, "sdk", "sdk"), Caller(server, "quiet", "ingest")
        padding = "x" * 480
        tracked = [{"name": "buy", "context": {"targetingKey": f"u{number}", "note": padding}} for number in range(1_000)]
        body = json.dumps({"events": tracked})
        answer, seconds = timed(lambda: sdk.post("/v1/track", body))
        n_made = N_EXPERIMENTS * len(tracked)
        checks.equal(f"1,000 tracked events in {N_EXPERIMENTS} experiments", (answer.status, answer.json().get("logged")), (202, n_made))
        checks.note(f"{n_made} metric events in {seconds:.2f} s, {server.peak_mib():.0f} MiB")
        started_at = time.monotonic()
        answer = sdk.post("/v1/track", {"events": [{"name": "buy", "context": {"targetingKey": f"u{number}"}} for number in range(10_000)]})
        seconds = time.monotonic() - started_at
        most = 1_000_000 // N_EXPERIMENTS
        checks.equal("10,000 are counted first", answer.status, 202 if 10_000 <= most else 413)
        checks.check("and answered early", 10_000 <= most or seconds < 3, f"{seconds:.2f} s")
        checks.check("the answer says how many to send", 10_000 <= most or f"send at most {most} events" in answer.detail(), answer)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            attack = [pool.submit(sdk.post, "/v1/track", body) for _ in range(4)]
            while any(not own.done() for own in attack):
                quiet_is_served(checks, "during such requests", quiet)
                time.sleep(0.2)
        # Four at once also fill what the warehouse may hold in memory before it flushes.
        checks.check(f"memory stays below {MAX_MIB + 100} MiB", server.peak_mib() < MAX_MIB + 100, f"{server.peak_mib():.0f} MiB")


def large_answers_are_counted(checks, server):
    """Clients that ask for the longest lists and do not read them."""
    reader, other = Caller(server, "reader", "read"), Caller(server, "other", "read")
    path = "/v1/experiments?limit=1000"
    n_bytes = len(reader.get(path).body)
    n_clients = 120
    lines = [f"GET {path} HTTP/1.1", "Host: x", f"Authorization: {reader.header['Authorization']}"]
    request = ("\r\n".join(lines) + "\r\n\r\n").encode()
    clients = []
    for _ in range(n_clients):
        client = connected(server, receive_bytes=4_096)
        client.sendall(request)
        clients.append(client)
    statuses = []
    for client in clients:
        client.settimeout(60)
        statuses.append(int(client.recv(12)[9:12]))
    checks.check(f"{n_clients} unread answers of {n_bytes} bytes take less than {MAX_MIB} MiB", server.peak_mib() < MAX_MIB, f"{server.peak_mib():.0f} MiB")
    checks.check("those beyond the caller's share are refused", set(statuses) == {200, 429}, f"{statuses.count(200)} sent, {statuses.count(429)} refused")
    checks.equal("another caller has an answer", other.get(path).status, 200)
    for client in clients:
        client.close()


def unread_rejections_are_counted(checks, directory):
    with started(directory) as server:
        sdk, quiet = Caller(server, "sdk", "sdk"), Caller(server, "quiet", "ingest")
        lines = b"{}\n" * 100_000
        body = gzip.compress(lines, 9)
        answer = sdk.request("POST", METRICS, body, {"Content-Encoding": "gzip", "Content-Type": "application/x-ndjson"})
        listed = answer.json()
        checks.equal("the first rejections are listed", (answer.status, len(listed["rejected"]), listed["rejected_total"]), (422, 1_000, 100_000))
        wide = gzip.compress(b'{"user_id":' + b"9" * (BODY_LIMIT - 100) + b"}", 9)
        answer = sdk.request("POST", METRICS, wide, {"Content-Encoding": "gzip"})
        checks.check("a long value makes no long answer", answer.status == 422 and len(answer.body) < 4_096, f"{answer.status}, {len(answer.body)} bytes")
        request = head(sdk, METRICS, len(body), "Content-Encoding: gzip", "Content-Type: application/x-ndjson") + body
        # Several requests on a connection wait for the first answer to be read.
        readers = []
        for _ in range(N_READERS):
            reader = connected(server, receive_bytes=4_096)
            reader.sendall(request)
            readers.append(reader)
        quiet_is_served(checks, f"{N_READERS} clients do not read their rejections", quiet)
        # All were worked on once the last has its first byte.
        for reader in readers:
            reader.settimeout(60)
            reader.recv(1)
        checks.check(f"{N_READERS} unread lists take less than {MAX_MIB} MiB", server.peak_mib() < MAX_MIB, f"{server.peak_mib():.0f} MiB")
        for reader in readers:
            reader.close()


def bodies_that_do_not_come_hold_nothing(checks, directory):
    with started(directory) as server:
        bad, quiet = Caller(server, "bad", "ingest"), Caller(server, "quiet", "ingest")
        # Eight of them are as much as all bodies together may take.
        length = BODY_LIMIT - 1
        silent = [connected(server) for _ in range(8)]
        for connection in silent:
            connection.sendall(head(bad, METRICS, length))
        time.sleep(0.2)
        quiet_is_served(checks, "eight connections announce bodies", quiet)
        answer, seconds = timed(lambda: bad.post(METRICS, [event(1)]))
        checks.check("and their own key as well", answer.status == 202 and seconds < AT_ONCE_SECONDS, f"{answer} after {seconds:.2f} s")
        for connection in silent:
            connection.settimeout(5)
        packed = [connected(server) for _ in range(8)]
        for connection in packed:
            connection.sendall(head(bad, METRICS, BODY_LIMIT, "Content-Encoding: gzip"))
        quiet_is_served(checks, "eight more announce compressed ones", quiet)
        for connection in silent:
            # All but the last byte; one for whom there is no room is answered instead.
            try:
                connection.sendall(b" " * (length - 1))
            except OSError:
                pass
        quiet_is_served(checks, "eight connections send all but the last byte", quiet)
        large = json.dumps([event(user, value=1.25) for user in range(8_000)])
        answer = quiet.post(METRICS, large)
        checks.equal("another key has room for a large body too", answer.status, 202)
        checks.check(f"memory stays below {MAX_MIB} MiB", server.peak_mib() < MAX_MIB, f"{server.peak_mib():.0f} MiB")
        for connection in silent + packed:
            connection.close()


def dynamic_blocks(n_bytes):
    """A gzip member of empty blocks, each with a table of codes of its own."""
    # 3 bits of head, HLIT 0, HDIST 0, HCLEN 14; lengths of the code of lengths: 18 -> 1, 1 -> 2, 0 -> 2;
    # 256 zeros, the end of block with one bit, one distance; then the end of block.
    bits = []

    def put(value, width):
        bits.extend((value >> place) & 1 for place in range(width))

    def code(value, width):
        bits.extend((value >> place) & 1 for place in reversed(range(width)))

    order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]
    lengths = {18: 1, 0: 2, 1: 2}
    while True:
        put(0, 1), put(2, 2), put(0, 5), put(0, 5), put(14, 4)
        for symbol in order[:18]:
            put(lengths.get(symbol, 0), 3)
        code(0, 1), put(138 - 11, 7), code(0, 1), put(118 - 11, 7)
        code(3, 2), code(3, 2)
        code(0, 1)
        if len(bits) % 8 == 0:
            break
    block = bytes(sum(bit << place for place, bit in enumerate(bits[at : at + 8])) for at in range(0, len(bits), 8))
    return b"\x1f\x8b\x08" + b"\0" * 6 + b"\xff" + block * (n_bytes // len(block))


def empty_compression_stalls_nobody(checks, directory):
    with started(directory) as server:
        bad, quiet = Caller(server, "bad", "ingest"), Caller(server, "quiet", "ingest")
        most = BODY_LIMIT - 1_024
        member = gzip.compress(b"")
        frame = bytes.fromhex("28b52ffd2000010000")
        bombs = {
            "empty members of gzip": ("gzip", member * (most // len(member))),
            "empty blocks of gzip": ("gzip", dynamic_blocks(most)),
            "spaces in gzip": ("gzip", gzip.compress(b" " * most)),
            "empty frames of zstd": ("zstd", frame * (most // len(frame))),
            "skipped frames of zstd": ("zstd", bytes.fromhex("502a4d1800000000") * (most // 8)),
            "empty blocks of zstd": ("zstd", bytes.fromhex("28b52ffd0058") + b"\0\0\0" * (most // 3)),
        }
        for name, (coding, body) in bombs.items():
            stop, longest = threading.Event(), [0.0]

            def probe():
                while not stop.is_set():
                    answer, seconds = timed(lambda: server.get("/healthz"))
                    longest[0] = max(longest[0], seconds if answer.status == 200 else 60)
                    time.sleep(0.02)

            prober = threading.Thread(target=probe)
            prober.start()
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                attack = [pool.submit(timed, lambda: sent(bad, body, coding)) for _ in range(8)]
                quiet_is_served(checks, name, quiet)
                answers = [own.result() for own in attack]
            stop.set()
            prober.join()
            statuses = {answer.status for answer, _ in answers}
            checks.check(f"16 MiB of {name} are refused", 400 in statuses and statuses <= {400, 429, "reset"}, statuses)
            checks.check(f"16 MiB of {name} stall /healthz for less than 500 ms", longest[0] < 0.5, f"{longest[0] * 1e3:.0f} ms; {statuses}, {max(own[1] for own in answers):.2f} s")
        small = gzip.compress(json.dumps([event(1)]).encode()) + member * 100
        checks.equal("some empty members are read over", quiet.request("POST", METRICS, small, {"Content-Encoding": "gzip"}).status, 202)


def one_key_is_for_one_body(checks, directory):
    with Server(directory, "--min-free-disk", "0") as server:
        n_events = 3

        def send(key, first):
            events = [event(first + place) for place in range(n_events)]
            return server.post(METRICS, events, {"Idempotency-Key": key}).status

        wrong = []
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for number in range(N_KEYS):
                firsts = [number * 100 + place * 10 for place in range(4)]
                statuses = [own.result() for own in [pool.submit(send, f"k{number}", first) for first in firsts]]
                if sorted(statuses) != [202, 422, 422, 422]:
                    wrong.append(statuses)
            same = [pool.submit(send, f"s{number}", 1_000_000 + number * 10) for number in range(N_KEYS) for _ in range(4)]
            same = {own.result() for own in same}
        checks.check("of several bodies with one key at once one is accepted", not wrong, wrong[:3])
        checks.equal("the same body is accepted every time", same, {202})
        rows = server.get("/v1/export/metrics?format=csv").body.decode().splitlines()[1:]
        checks.equal("what was accepted is stored, once", len(rows), 2 * N_KEYS * n_events)


if __name__ == "__main__":
    main(
        track_counts_before_it_makes,
        unread_rejections_are_counted,
        bodies_that_do_not_come_hold_nothing,
        empty_compression_stalls_nobody,
        one_key_is_for_one_body,
    )
