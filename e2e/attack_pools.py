"""Attacks on threads, connections, the log, the registry and the way to stop.

Each part does to the binary what somebody with a browser, a page's key or no
key at all would do, and then asks as a good client does: verifications whose
clients leave, calculations that take long, idle connections, keys that are
none, experiment ids that nobody registered, and signals while all of this is
under way.

    ATTACK_ABORTED       verifications whose clients leave, 600 unless given
    ATTACK_IDLE          idle connections, 1,030 unless given
    ATTACK_REFUSED       requests with a wrong key, 3,000 unless given
    ATTACK_USERS         users in the data that is verified, 100,000 unless given
"""

import json
import os
import signal
import socket
import threading
import time

from harness import Client, Server, main, must, poll, trialog

N_ABORTED = int(os.environ.get("ATTACK_ABORTED") or 600)
N_IDLE = int(os.environ.get("ATTACK_IDLE") or 1_030)
N_REFUSED = int(os.environ.get("ATTACK_REFUSED") or 3_000)
N_USERS = int(os.environ.get("ATTACK_USERS") or 100_000)
AT = "2026-01-05T00:00:00Z"
BATCH = 20_000
# What a good client waits for on two cores that others use as well.
SECONDS = 5


def fill(server, key=None):
    """Events of N_USERS users, so that a verification takes a while."""
    for first in range(0, N_USERS, BATCH):
        users = range(first, min(first + BATCH, N_USERS))
        events = [{"user_id": user, "experiment_id": f"x{user % 5}", "variant": "ab"[user // 5 % 2], "assigned_at": AT} for user in users]
        assert server.request("POST", "/v1/events/assignments", events, bearer(key)).status == 202
    assert server.request("POST", "/v1/pipeline/run", None, bearer(key)).status == 200


def bearer(key):
    return {"authorization": f"Bearer {key}"} if key else {}


def make_keys(server, data):
    """An admin key, and one of each scope that is given away more easily."""
    admin = must(trialog("keys", "create", "ops", "--scope", "admin", data_dir=data)).out.split()[0]
    made = [server.post("/v1/keys", {"name": scope, "scopes": [scope]}, bearer(admin)).json()["key"] for scope in ("read", "sdk")]
    return admin, *made


def raw(server, method, path, key=None, body=b"", media="application/json"):
    """A connection that has sent a request and has read nothing."""
    connection = socket.create_connection((server.host, server.port), timeout=SECONDS)
    auth = f"authorization: Bearer {key}\r\n" if key else ""
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n{auth}content-type: {media}\r\ncontent-length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def status_of(connection):
    """The status of an answer, or none where there is no answer."""
    connection.settimeout(30)
    try:
        first = connection.recv(64)
    except OSError:
        return None
    return int(first.split()[1]) if first.startswith(b"HTTP/1.1 ") else None


def threads(server):
    return len(os.listdir(f"/proc/{server.process.pid}/task"))


def answers(checks, server, what, key=None):
    """A good client's requests, each within SECONDS."""
    client = Client(server.url, timeout=SECONDS)
    event = [{"user_id": 1, "experiment_id": "x1", "event_type": "buy", "timestamp": AT} for _ in range(500)]
    asked = [("GET", "/healthz", None, 200), ("GET", "/readyz", None, 200), ("GET", "/v1/experiments", None, 200), ("POST", "/v1/events/metrics", event, 202)]
    for method, path, body, expected in asked:
        begun = time.monotonic()
        try:
            status = client.request(method, path, body, bearer(key)).status
        except OSError as error:
            status = type(error).__name__
        taken = time.monotonic() - begun
        checks.check(f"{what}, {method} {path} is answered {expected}", status == expected, f"{status} after {taken:.1f} s")


def aborted_verifications(checks, directory):
    with Server(directory / "data", "--interval", "1d") as server:
        fill(server)
        for _ in range(N_ABORTED):
            raw(server, "GET", "/v1/verify").close()
        answers(checks, server, f"after {N_ABORTED} verifications whose clients left")
        held = [raw(server, "GET", "/v1/verify") for _ in range(100)]
        answers(checks, server, "while 100 clients wait for a verification")
        checks.check("they take no more than a few threads", threads(server) < 64, threads(server))
        statuses = [status_of(connection) for connection in held]
        checks.check("each of them is served or told to come back", set(statuses) == {200, 429}, sorted(map(str, set(statuses))))
        busy = next(connection for connection, status in zip(held, statuses) if status == 429)
        told = busy.recv(4096).decode(errors="replace").lower()
        checks.check("with a time", "retry-after:" in told, told)
        for connection in held:
            connection.close()
        poll("a verification to be possible again", lambda: server.get("/v1/verify").status == 200)
        checks.equal("the server ends in order", server.stop(), 0)


def dear_calculations(checks, directory):
    data = directory / "data"
    with Server(data, "--interval", "1d") as server:
        admin, read, _ = make_keys(server, data)
        arm = {"conversions": 1_000_000_000, "n": 1_999_999_000}
        rates = json.dumps({"a": arm, "b": arm | {"conversions": 999_999_000}})
        looks = [(look + 1) / 100 for look in range(100)]
        plan = json.dumps({"type": "classical", "boundary": "pocock", "information_fractions": looks})
        ndjson = {"content-type": "application/x-ndjson"} | bearer(read)
        for family, line in (("bayesian_beta_binomial", rates), ("sequential_group", plan)):
            begun = time.monotonic()
            answer = server.post(f"/v1/calc/{family}", "\n".join([line] * 1_000), ndjson)
            taken = time.monotonic() - begun
            checks.check(f"1,000 objects of {family} are refused before they are computed", answer.status == 413 and taken < 2, f"{answer} after {taken:.1f} s")
            checks.check("and the answer says how long they would take", "s: send fewer" in answer.detail(), answer.detail())
            checks.equal(f"one object of {family} is computed", server.post(f"/v1/calc/{family}", line, ndjson).status, 200)
        body = "\n".join([rates] * 20).encode()
        held = [raw(server, "POST", "/v1/calc/bayesian_beta_binomial", read, body, "application/x-ndjson") for _ in range(200)]
        answers(checks, server, "while a key asks for 200 long calculations", admin)
        for connection in held:
            connection.close()
        one = lambda: server.post("/v1/calc/bayesian_beta_binomial", rates, bearer(read)).status == 200
        poll("a calculation to be possible again", one, SECONDS)
        checks.check("calculations end when their clients leave", True)


def idle_connections(checks, directory):
    data = directory / "data"
    with Server(data, "--interval", "1d") as server:
        admin, _, sdk = make_keys(server, data)
        for what, first in (("that asked for health", b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"), ("that said nothing", b"")):
            idle = [connect(server, first) for _ in range(N_IDLE)]
            answers(checks, server, f"beside {N_IDLE} idle connections {what}", admin)
            listed = trialog("experiments", "list", data_dir=data, seconds=30)
            checks.check("the command line works as well", listed.code == 0, listed)
            for connection in idle:
                connection.close()
        # One key keeps as many requests in work as it can.
        begun = b"POST /v1/events/metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\nauthorization: Bearer " + sdk.encode() + b"\r\n\r\n["
        busy = [connect(server, begun) for _ in range(N_IDLE)]
        answers(checks, server, f"beside {N_IDLE} requests of one key that do not end", admin)
        for connection in busy:
            connection.close()


def connect(server, first):
    connection = socket.create_connection((server.host, server.port), timeout=SECONDS)
    try:
        connection.sendall(first)
    except OSError:
        # The server gave its place to a later one.
        pass
    return connection


def wrong_keys(checks, directory):
    data = directory / "data"
    with Server(data, "--interval", "1d", log="info") as server:
        _, _, sdk = make_keys(server, data)
        before = len(server.stderr())
        client = Client(server.url, keep=True)
        statuses = set()
        for number in range(N_REFUSED):
            key = f"tlk_a_{number}" if number % 2 else sdk
            statuses.add(client.request("GET", "/v1/pipeline", None, bearer(key)).status)
        checks.equal("requests without a good key are refused", statuses, {401, 403})
        written = len(server.stderr()) - before
        checks.check(f"{N_REFUSED:,} of them write less than 2,000 bytes of log", written < 2_000, f"{written} bytes")
        checks.equal("the server ends in order", server.stop(), 0)
        told = [line for line in server.stderr().splitlines() if "refused" in line and "unknown keys" in line]
        checks.check("and the log has said how many there were", len(told) >= 1, server.stderr()[-500:])


def unregistered(checks, directory):
    data = directory / "data"
    with Server(data, "--interval", "1d", "--unregistered-experiments", "200", log="info") as server:
        admin, _, sdk = make_keys(server, data)
        junk = [{"user_id": 1, "experiment_id": f"junk{number:04}", "variant": "v", "assigned_at": AT} for number in range(200)]
        run = lambda: server.request("POST", "/v1/pipeline/run", None, bearer(admin)).json()
        server.request("POST", "/v1/events/assignments", junk, bearer(sdk))
        checks.equal("one key fills all places", run()["left_out"], 0)
        checks.check("and the log warns of it", "200 of 200 places" in server.stderr(), server.stderr()[-500:])
        legit = [{"user_id": user, "experiment_id": "legit", "variant": "a", "assigned_at": AT} for user in range(5)]
        server.request("POST", "/v1/events/assignments", legit, bearer(sdk))
        report = run()
        checks.equal("a newcomer takes the place of an old one", (report["left_out"], report["gave_way"]), (0, 1))
        found = server.request("GET", "/v1/experiments/legit/results", None, bearer(admin))
        checks.equal("and has results", (found.status, [row["users"] for row in found.json()["variants"]]), (200, [5]))
        gone = server.request("GET", "/v1/experiments/junk0000", None, bearer(admin)).status
        checks.equal("the one that gave way is not listed any more", gone, 404)
        more = [event | {"experiment_id": f"more{number:04}"} for number, event in enumerate(junk * 2)] + [event | {"user_id": event["user_id"] + 100} for event in legit]
        server.request("POST", "/v1/events/assignments", more, bearer(sdk))
        report = run()
        checks.equal("a flood of new ids leaves out those beyond the places", (report["left_out"], report["gave_way"]), (201, 199))
        found = server.request("GET", "/v1/experiments/legit/results", None, bearer(admin))
        checks.equal("and not the one that goes on having events", [row["users"] for row in found.json()["variants"]], [10])


def places_by_key(checks, directory):
    data = directory / "data"
    with Server(data, "--interval", "1d", "--unregistered-experiments", "100", log="info") as server:
        admin, _, page = make_keys(server, data)
        quiet = server.request("POST", "/v1/keys", {"name": "quiet", "scopes": ["ingest"]}, bearer(admin)).json()["key"]
        send = lambda key, ids: server.request("POST", "/v1/events/assignments", [{"user_id": 1, "experiment_id": name, "variant": "v", "assigned_at": AT} for name in ids], bearer(key)).status
        run = lambda: server.request("POST", "/v1/pipeline/run", None, bearer(admin)).json()
        few = [f"quiet{number}" for number in range(20)]
        checks.equal("a quiet key names 20 experiments", send(quiet, few), 202)
        run()
        for flood in range(5):
            send(page, [f"flood{flood}_{number:04}" for number in range(400)])
            run()
        found = [server.request("GET", f"/v1/experiments/{name}/results", None, bearer(admin)).status for name in few]
        checks.equal("it keeps its places while another key sends 2,000 new ids", set(found), {200})
        checks.equal("a newcomer of the quiet key finds one", send(quiet, ["late"]), 202)
        report = run()
        found = server.request("GET", "/v1/experiments/late/results", None, bearer(admin)).status
        checks.equal("and one of the other key gives way", (found, report["left_out"], report["gave_way"]), (200, 0, 1))
        checks.check("the log names the key", "named 80 of them" in server.stderr(), server.stderr()[-700:])


def stops_while_verifying(checks, directory):
    data = directory / "data"
    server = Server(data, "--interval", "1d", "--shutdown-timeout", "20s", log="info")
    with server:
        fill(server)
        held = [raw(server, "GET", "/v1/verify") for _ in range(50)]
        left = [raw(server, "GET", "/v1/verify") for _ in range(50)]
        for connection in left:
            connection.close()
        begun = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        code = server.process.wait(30)
        taken = time.monotonic() - begun
        checks.check("SIGTERM ends a server with verifications under way in order", code == 0, f"exit code {code} after {taken:.1f} s")
        checks.check("and soon", taken < 10, f"{taken:.1f} s")
        lines = server.stderr().splitlines()
        checks.check("the log ends with `stopped`", bool(lines) and lines[-1].endswith("stopped"), lines[-3:])
        for connection in held:
            connection.close()
    with Server(data) as again:
        checks.equal("the lock is free", again.get("/healthz").status, 200)
        # Health checks are a thread's work as well; none of them keeps the deadline from coming.
        stop = threading.Event()
        asking = threading.Thread(target=ask_until, args=(again, stop))
        asking.start()
        checks.equal("a server that is being asked ends in order", again.stop(), 0)
        stop.set()
        asking.join()


def ask_until(server, stop):
    client = Client(server.url, timeout=SECONDS)
    while not stop.is_set():
        try:
            client.get("/readyz")
        except OSError:
            return


if __name__ == "__main__":
    main(aborted_verifications, dear_calculations, idle_connections, wrong_keys, unregistered, places_by_key, stops_while_verifying)
