"""Trialog on Kafka, ClickHouse and PostgreSQL, with one process for each role.

The services are started once for a script; each `Cluster` has topics, databases
and processes of its own.
"""

import contextlib
import http.client
import json
import os
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import services
from harness import BINARY, Client, Server, database, poll
from services.proxy import HttpProxy, TcpProxy

ROWS = """
SELECT m.experiment_id, m.variant, m.metric_name, m.user_count, m.event_count, m.total_value, m.converted_users, m.squared_total, m.squared_events
FROM variant_metrics m
JOIN (SELECT experiment_id, max(computed_at) AS latest FROM computations GROUP BY experiment_id) c
  ON c.experiment_id = m.experiment_id AND c.latest = m.computed_at ORDER BY 1, 2, 3
"""
EXPOSURES = """
SELECT e.experiment_id, e.variant, e.user_count, e.crossover_users, k.forced_users, k.unknown_variant, k.not_aggregated
FROM variant_exposures e
JOIN (SELECT experiment_id, max(computed_at) AS latest FROM computations GROUP BY experiment_id) c
  ON c.experiment_id = e.experiment_id AND c.latest = e.computed_at
JOIN computations k ON k.experiment_id = e.experiment_id AND k.computed_at = e.computed_at ORDER BY 1, 2
"""


def embedded_rows(data_dir):
    """What is published in a data directory, as text."""
    with database(Path(data_dir) / "catalog.sqlite") as catalog:
        return [[tuple(map(str, row)) for row in catalog.execute(sql)] for sql in (ROWS, EXPOSURES)]


class Services:
    """The three services, with a proxy before each."""

    def __init__(self, directory, direct=False):
        directory = Path(directory)
        directory.chmod(0o755)
        # Clients go where the broker says, so the broker names the proxy.
        self.kafka_proxy = TcpProxy(0)
        self.kafka = services.Kafka(directory, advertised_port=None if direct else self.kafka_proxy.port)
        self.kafka_proxy.target_port = self.kafka.port
        self.postgres = services.PostgreSQL(directory)
        self.clickhouse = services.ClickHouse(directory)
        for service in (self.kafka, self.postgres, self.clickhouse):
            service.start()
        self.postgres_proxy = TcpProxy(self.postgres.port)
        self.clickhouse_proxy = HttpProxy(self.clickhouse.port)

    def stop(self):
        for service in (self.kafka, self.postgres, self.clickhouse):
            service.stop()

    def psql(self, sql, name="postgres"):
        url = self.postgres.address.rsplit("/", 1)[0] + f"/{name}"
        done = subprocess.run(["psql", url, "-qAtF", "|", "-c", sql], capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return [tuple(line.split("|")) for line in done.stdout.splitlines()]

    def ask_clickhouse(self, sql):
        connection = http.client.HTTPConnection("127.0.0.1", self.clickhouse.port, timeout=120)
        connection.request("POST", "/", body=sql, headers={"X-ClickHouse-User": "trialog", "X-ClickHouse-Key": "trialog"})
        answer = connection.getresponse()
        text = answer.read().decode()
        if answer.status != 200:
            raise RuntimeError(text)
        return text


class Cluster:
    """Topics, databases and processes by themselves."""

    n_made = 0

    def __init__(self, running, partitions=4, lease="2s", linger="1s", interval="1h"):
        Cluster.n_made += 1
        self.services, self.name = running, f"c{os.getpid()}_{Cluster.n_made}"
        running.psql(f"CREATE DATABASE {self.name}")
        running.ask_clickhouse(f"CREATE DATABASE {self.name}")
        self.directory = tempfile.TemporaryDirectory(prefix="trialog-cluster-")
        self.environment = {
            "TRIALOG_CATALOG": f"postgres://trialog:trialog@127.0.0.1:{running.postgres_proxy.port}/{self.name}",
            "TRIALOG_WAREHOUSE": f"clickhouse://trialog:trialog@127.0.0.1:{running.clickhouse_proxy.port}/{self.name}",
            "TRIALOG_EVENT_LOG": f"kafka://127.0.0.1:{running.kafka_proxy.port}?topic_prefix={self.name}.&group={self.name}",
            "TRIALOG_LEASE": lease,
            "TRIALOG_CONSUMER_LINGER": linger,
            "TRIALOG_INTERVAL": interval,
        }
        self.processes = []
        self.command("topics", "create", "--partitions", partitions)

    def command(self, *arguments, code=0, seconds=120, **more):
        """Runs a command and gives its output."""
        environment = {**os.environ, **self.environment, **more}
        command = [BINARY, "--data-dir", f"{self.directory.name}/none", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=seconds)
        if code is not None and done.returncode != code:
            raise RuntimeError(f"{arguments}: exit {done.returncode}: {done.stdout[-800:]} {done.stderr[-1500:]}")
        return done

    def start(self, roles, **more):
        """A process with these roles."""
        environment = {**self.environment, "TRIALOG_ROLES": roles, **more}
        process = Role(roles, environment, f"{self.directory.name}/none")
        self.processes.append(process)
        return process

    def lag(self):
        """Messages that are in the topics and not yet in the warehouse, as the brokers know the group."""
        lag = 0
        for process in self.processes:
            if "consumer" in process.roles and process.process.poll() is None:
                lag += process.lag()
        return lag

    def is_stored(self):
        """Whether the positions in the catalog have reached the ends of all partitions."""
        brokers = f"127.0.0.1:{self.services.kafka_proxy.port}"
        stored = dict(self.services.psql("SELECT source, position FROM sources WHERE source LIKE 'kafka:%'", self.name))
        for topic in (f"{self.name}.assignments", f"{self.name}.metrics"):
            for partition, end in self.services.kafka.ends(brokers, topic).items():
                if end > int(stored.get(f"kafka:{topic}/{partition}") or 0):
                    return False
        return True

    def rows(self):
        """What is published, as text."""
        return [self.services.psql(" ".join(sql.split()), self.name) for sql in (ROWS, EXPOSURES)]

    def close(self):
        for process in self.processes:
            process.close()
        self.directory.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Role(Server):
    """A process of a cluster."""

    def __init__(self, roles, environment, data_dir):
        self.roles = roles
        before = ["env", *(f"{name}={value}" for name, value in environment.items())]
        super().__init__(data_dir, before=before, log="info")

    def counts(self, name):
        """The sum of a metric over its labels."""
        text = self.get("/metrics").body.decode()
        values = [float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name)]
        return sum(values)

    def lag(self):
        return self.counts("trialog_consumer_lag_messages")

    def close(self):
        if self.process.poll() is None:
            self.kill()


class Stream:
    """Batches of events whose content follows from the seed."""

    def __init__(self, seed, n_batches=120, batch=250, hot=0.5):
        import random

        chance = random.Random(seed)
        self.batches = []
        for number in range(n_batches):
            kind = "assignments" if number % 4 == 0 else "metrics"
            events = []
            for index in range(batch):
                experiment = "hot" if chance.random() < hot else f"cold-{chance.randrange(6)}"
                user = chance.randrange(1_500)
                event = {"user_id": user, "experiment_id": experiment}
                if kind == "assignments":
                    variant = "ab"[user % 2] if chance.random() < 0.97 else "abc"[chance.randrange(3)]
                    event |= {"variant": variant, "assigned_at": 1_760_000_000_000 + chance.randrange(100_000_000)}
                    if chance.random() < 0.3:
                        event["context"] = {"platform": chance.choice(["ios", "android"]), "n": chance.randrange(3)}
                    if chance.random() < 0.002:
                        event["forced"] = True
                else:
                    event |= {"event_type": chance.choice(["buy", "click"]), "timestamp": 1_760_000_000_000 + chance.randrange(900_000_000), "value": f"{chance.randrange(-5_000, 90_000) / 100:.2f}"}
                if number % 2 == 0:
                    # Some ids occur again, also with other content.
                    event["event_id"] = f"{experiment}-{user}-{chance.randrange(40)}" if chance.random() < 0.2 else f"{number}-{index}"
                events.append(event)
            self.batches.append((kind, json.dumps(events).encode(), f"{seed}-{number}"))

    def send(self, client, number, patient=True):
        """Sends a batch until it is answered 202."""
        kind, body, key = self.batches[number]
        while True:
            try:
                answer = client.post(f"/v1/events/{kind}", body, {"Idempotency-Key": key})
                if answer.status == 202:
                    return
                if answer.status not in (429, 503) or not patient:
                    raise RuntimeError(f"batch {number}: {answer}")
            except (OSError, http.client.HTTPException):
                if not patient:
                    raise
            time.sleep(0.1)

    def send_all(self, url, pause=0.0, again=0.05):
        """Sends all of it, some batches twice; gives the thread."""
        import random

        chance = random.Random(1)

        def work():
            client = Client(url, timeout=60)
            for number in range(len(self.batches)):
                self.send(client, number)
                if chance.random() < again:
                    self.send(client, chance.randrange(number + 1))
                time.sleep(pause)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread

    def in_embedded(self, data_dir):
        """The rows that the embedded path publishes for it, and the number of different rows."""
        with Server(data_dir) as server:
            for number in range(len(self.batches)):
                self.send(server, number)
            server.run_now()
        return embedded_rows(data_dir)


@contextlib.contextmanager
def running(checks):
    """The services; nothing where they cannot be had, which is said."""
    with tempfile.TemporaryDirectory(prefix="trialog-services-") as directory:
        try:
            started = Services(directory)
        except services.Unavailable as reason:
            checks.skip("everything on Kafka, ClickHouse and PostgreSQL", reason)
            yield None
            return
        try:
            yield started
        finally:
            started.stop()
