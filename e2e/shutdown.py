"""SIGTERM at random moments: what was acknowledged is counted, and the process ends in order.

Clients send events with ids of their own and others ask for runs, then the
server is told to stop. It must end with 0, leave no run half done, and count
every event that was answered 202 after the next start. A second signal, and
`--shutdown-timeout`, end a server that waits for a client who does not finish.

    SHUTDOWN_ROUNDS    how many times, 8 unless given
    SHUTDOWN_SEED      repeats a random choice of moments; printed
"""

import os
import random
import signal
import socket
import threading
import time

from harness import Client, Server, database, main, metric, poll

ROUNDS = int(os.environ.get("SHUTDOWN_ROUNDS") or 8)
SEED = int(os.environ.get("SHUTDOWN_SEED") or random.SystemRandom().randrange(1 << 32))
CLIENTS = 4
BATCH = 200
ASSIGNED_MS = 1_714_521_600_000


class Ledger:
    """What was answered: users and the amounts of their events."""

    def __init__(self):
        self.lock = threading.Lock()
        self.next_user = 0
        self.unanswered, self.wrong = [], []
        self.n_users = self.n_events = 0
        self.answers = {}

    def take(self):
        with self.lock:
            first = self.next_user
            self.next_user += BATCH
            return first

    def note(self, first, kind, status, body):
        with self.lock:
            self.answers[status] = self.answers.get(status, 0) + 1
            if status == 202:
                if kind == "assignments":
                    self.n_users += BATCH
                else:
                    self.n_events += BATCH
            elif status in (None, 429, 503):
                self.unanswered.append((first, kind))
            else:
                self.wrong.append(f"{status} {body}")


def events(first, kind):
    """A batch whose content, ids included, follows from its first user."""
    batch = []
    for user in range(first, first + BATCH):
        event = {"user_id": user, "experiment_id": "stop", "event_id": f"{kind}-{user}"}
        if kind == "assignments":
            event |= {"variant": "ab"[user % 2], "assigned_at": ASSIGNED_MS}
        else:
            event |= {"event_type": "buy", "value": "1.25", "timestamp": ASSIGNED_MS + 1000}
        batch.append(event)
    return batch


def post(client, first, kind, ledger):
    """The status, or none where the server closed the connection without an answer."""
    try:
        answer = client.post(f"/v1/events/{kind}", events(first, kind))
    except Exception:  # noqa: BLE001
        ledger.note(first, kind, None, "")
        return None
    ledger.note(first, kind, answer.status, answer.body[:200])
    return answer.status


def ingest(url, ledger):
    client = Client(url, keep=True, timeout=30)
    status = 202
    while status is not None:
        first = ledger.take()
        status = post(client, first, "assignments", ledger)
        if status == 202:
            status = post(client, first, "metrics", ledger)
        else:
            # An event counts with its user's assignment, so it goes after it.
            ledger.unanswered.append((first, "metrics"))


def keep_running(url, answers):
    client = Client(url, timeout=30)
    while True:
        try:
            answers.append(client.post("/v1/pipeline/run?full=true").status)
        except Exception:  # noqa: BLE001
            return


def send_again(server, ledger):
    waiting, ledger.unanswered = ledger.unanswered, []
    for first, kind in waiting:
        poll("a batch to be taken", lambda: taken(server, first, kind), 30)
        if kind == "assignments":
            ledger.n_users += BATCH
        else:
            ledger.n_events += BATCH


def taken(server, first, kind):
    return server.post(f"/v1/events/{kind}", events(first, kind)).status == 202


def counted(server):
    """Users, events and total that the results state."""
    server.run_now()
    report = server.results("stop")
    rows = metric(report, "buy", "sum")["variants"]
    return (sum(row["users"] for row in rows), sum(row["events"] for row in rows), sum(float(row["total"]) for row in rows))


def stop_in_the_middle(checks, directory):
    chance = random.Random(SEED)
    checks.note(f"SHUTDOWN_SEED={SEED}")
    data, ledger, run_answers, codes, logs = directory / "data", Ledger(), [], [], []
    wrong = []
    for round_number in range(1, ROUNDS + 1):
        with Server(data, "--interval", "1s") as server:
            if ledger.n_users:
                # Before anything is sent again: what had a 202 is there without it.
                users, counted_events, total = counted(server)
                if users < ledger.n_users or counted_events < ledger.n_events:
                    wrong.append(f"round {round_number}: {users} users, {counted_events} events of {ledger.n_users}, {ledger.n_events}")
                send_again(server, ledger)
                expected = (ledger.n_users, ledger.n_events, ledger.n_events * 1.25)
                if (found := counted(server)) != expected:
                    wrong.append(f"round {round_number}: {found} where {expected} was acknowledged")
            threads = [threading.Thread(target=ingest, args=(server.url, ledger)) for _ in range(CLIENTS)]
            threads.append(threading.Thread(target=keep_running, args=(server.url, run_answers)))
            for thread in threads:
                thread.start()
            time.sleep(chance.uniform(0.05, 1.2))
            codes.append(server.stop())
            for thread in threads:
                thread.join()
            logs.append(server.stderr())
        wrong += [f"round {round_number}: run {row}" for row in half_done(data)]
    with Server(data) as server:
        send_again(server, ledger)
        checks.equal("every acknowledged event counts exactly once", counted(server), (ledger.n_users, ledger.n_events, ledger.n_events * 1.25))
    checks.equal(f"{ROUNDS} servers that were told to stop ended with 0", codes, [0] * ROUNDS)
    checks.check("after each start everything acknowledged is counted, and no run is half done", not wrong, "; ".join(wrong[:3]))
    checks.check("clients met 202, 429, 503 or a closed connection, nothing else", not ledger.wrong, ledger.wrong[:3])
    checks.check("a run on request was answered 200, or 503 while stopping", set(run_answers) <= {200, 503} and 200 in run_answers, sorted(set(run_answers)))
    noisy = [line for log in logs for line in log.splitlines() if "ERROR" in line or "panic" in line]
    checks.check("stopping is no error in the log", not noisy, noisy[:3])
    checks.note(f"{ledger.n_users} users, {ledger.n_events} events; answers {ledger.answers}; runs {len(run_answers)}")


def half_done(data):
    """Runs that are neither published nor noted as failed."""
    with database(data / "catalog.sqlite") as catalog:
        return catalog.execute("SELECT run_id, status FROM pipeline_runs WHERE status NOT IN ('succeeded', 'failed')").fetchall()


def unfinished_request(server):
    """A connection whose request lacks the end of its body."""
    connection = socket.create_connection((server.host, server.port))
    connection.sendall(b"POST /v1/events/metrics HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n[")
    # The server has read the head once it answers somebody who came later.
    poll("the server to answer", lambda: server.get("/healthz").status == 200)
    return connection


def second_signal(checks, directory):
    with Server(directory / "data", "--shutdown-timeout", "600s", log="info") as server, unfinished_request(server):
        server.process.send_signal(signal.SIGTERM)
        poll("the server to say that it stops", lambda: "stopping: " in server.stderr())
        checks.equal("with a request under way the first signal does not end the process", server.process.poll(), None)
        server.process.send_signal(signal.SIGTERM)
        checks.equal("the second one ends it with 1", server.process.wait(30), 1)
        checks.check("and the log says why", "second signal" in server.stderr(), server.stderr())


def too_long(checks, directory):
    with Server(directory / "data", "--shutdown-timeout", "1s") as server, unfinished_request(server):
        server.process.send_signal(signal.SIGTERM)
        checks.equal("a request that does not end is given up after --shutdown-timeout", server.process.wait(30), 1)
        checks.check("and the log names the setting", "shutdown_timeout" in server.stderr(), server.stderr())


def request_under_way(checks, directory):
    with Server(directory / "data", log="info") as server:
        body = b'{"user_id": 1, "experiment_id": "late", "variant": "a", "assigned_at": 1714521600000}'
        connection = socket.create_connection((server.host, server.port))
        head = f"POST /v1/events/assignments HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body[:10])
        poll("the server to answer", lambda: server.get("/healthz").status == 200)
        server.process.send_signal(signal.SIGTERM)
        poll("the server to say that it stops", lambda: "stopping: " in server.stderr())
        connection.sendall(body[10:])
        answer = connection.recv(4096)
        checks.check("a request under way at the signal is answered 202", answer.startswith(b"HTTP/1.1 202"), answer[:200].decode())
        checks.equal("and then the process ends with 0", server.process.wait(60), 0)
    with Server(directory / "data") as server:
        server.run_now()
        users = [row["users"] for row in server.results("late")["variants"]]
        checks.equal("its event is counted after the next start", users, [1])


if __name__ == "__main__":
    main(stop_in_the_middle, request_under_way, second_signal, too_long)
