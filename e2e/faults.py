"""Kafka, ClickHouse and PostgreSQL that break, one test for each way.

A stream of events with copies, crossovers, forced users and late events goes
through the HTTP interface into Kafka, through consumers into ClickHouse, and is
aggregated. In the middle something breaks. Afterwards every count and every sum
must equal those of the same stream through the embedded path, exactly.

    FAULT_SECONDS    how long ClickHouse refuses insertions, 15 unless given
"""

import os
import signal
import sys
import time

from cluster import Cluster, Stream, embedded_rows, running
from harness import Checks, Server, poll, scratch

FAULT_SECONDS = int(os.environ.get("FAULT_SECONDS") or 15)
SEED = int(os.environ.get("FAULT_SEED") or 20_261_126)


def settle(cluster):
    """Waits until nothing waits in Kafka, as the brokers and the catalog say."""
    poll("everything in Kafka is stored", cluster.is_stored, 120)


def compare(checks, name, cluster, expected):
    settle(cluster)
    cluster.command("aggregate", "--attempts", 6)
    rows, exposures = cluster.rows()
    checks.equal(f"{name}: {len(expected[0])} rows of sums equal those of the embedded path", rows, expected[0])
    checks.equal(f"{name}: users, crossovers and forced ones, too", exposures, expected[1])


def broker_restarts(checks, up, stream, expected):
    with Cluster(up) as cluster:
        api, _ = cluster.start("api"), cluster.start("consumer")
        sending = stream.send_all(api.url, pause=0.05)
        time.sleep(2)
        up.kafka.stop()
        up.kafka_proxy.cut()
        time.sleep(3)
        up.kafka.start()
        sending.join(120)
        checks.check("the stream was taken whole after the broker came back", not sending.is_alive())
        compare(checks, "broker stopped and started again", cluster, expected)


def broker_is_killed(checks, up, stream, expected):
    with Cluster(up) as cluster:
        api, _ = cluster.start("api"), cluster.start("consumer")
        sending = stream.send_all(api.url, pause=0.05)
        time.sleep(2)
        up.kafka.kill()
        up.kafka_proxy.cut()
        up.kafka.start()
        sending.join(120)
        compare(checks, "broker killed with -9", cluster, expected)


def consumer_is_killed(checks, up, stream, expected):
    with Cluster(up) as cluster:
        api, consumer = cluster.start("api"), cluster.start("consumer")
        # Insertions take a while, so that a kill meets one.
        up.clickhouse_proxy.delay = 0.3
        sending = stream.send_all(api.url, pause=0.03)
        for _ in range(4):
            time.sleep(1.5)
            consumer.kill()
            consumer = cluster.start("consumer")
        sending.join(120)
        up.clickhouse_proxy.delay = 0.0
        compare(checks, "consumer killed four times with -9", cluster, expected)
        abandoned = cluster.services.psql("SELECT count(*) FROM batches WHERE state = 'abandoned'", cluster.name)
        checks.note(f"batches that were under way and abandoned: {abandoned[0][0]}")


def rebalances(checks, up, stream, expected):
    with Cluster(up) as cluster:
        api, first = cluster.start("api"), cluster.start("consumer")
        sending = stream.send_all(api.url, pause=0.05)
        others = []
        for _ in range(3):
            time.sleep(1)
            others.append(cluster.start("consumer"))
        shares = []

        def are_shared():
            shares[:] = [own.counts("trialog_consumer_partitions") for own in [first, *others]]
            return sum(shares) == 8 and all(share > 0 for share in shares)

        checks.check("partitions are shared by all four consumers", poll("a share for each", are_shared, 30), shares)
        for other in others:
            other.stop()
            time.sleep(1)
        sending.join(120)
        compare(checks, "consumers that come and go", cluster, expected)


def claims_are_taken(checks, up, stream, expected):
    """One that had partitions before and slept through losing them claims them when it wakes."""
    with Cluster(up) as cluster:
        api, _ = cluster.start("api"), cluster.start("consumer")
        sending = stream.send_all(api.url, pause=0.05)
        n_taken = 0
        while sending.is_alive():
            time.sleep(0.7)
            taken = up.psql("UPDATE sources SET epoch = epoch + 1 WHERE source LIKE 'kafka:%' RETURNING source", cluster.name)
            n_taken += len(taken)
        compare(checks, "claims taken from consumers that keep their partitions", cluster, expected)
        checks.check("claims were taken, and taken back", n_taken > 20, n_taken)


def clickhouse_refuses(checks, up, stream, expected):
    with Cluster(up) as cluster:
        api, consumer = cluster.start("api"), cluster.start("consumer")
        sending = stream.send_all(api.url, pause=0.03)
        time.sleep(1)
        up.clickhouse_proxy.refusing_inserts = True
        time.sleep(FAULT_SECONDS)
        checks.check("events wait in Kafka meanwhile", cluster.lag() > 0)
        checks.check("and the consumer stays in its group", consumer.counts("trialog_consumer_partitions") == 8)
        up.clickhouse_proxy.refusing_inserts = False
        sending.join(120)
        checks.check("insertions were refused", up.clickhouse_proxy.n_refused > 0)
        compare(checks, f"ClickHouse refuses insertions for {FAULT_SECONDS} s", cluster, expected)


def answers_are_lost(checks, up, stream, expected):
    with Cluster(up) as cluster:
        api, _ = cluster.start("api"), cluster.start("consumer")
        up.clickhouse_proxy.losing_answers = 0.5
        lost = up.clickhouse_proxy.n_lost
        stream.send_all(api.url, pause=0.03).join(120)
        settle(cluster)
        up.clickhouse_proxy.losing_answers = 0.0
        checks.check("answers were lost after the insertion was stored", up.clickhouse_proxy.n_lost > lost)
        compare(checks, "ClickHouse stores and does not answer", cluster, expected)


def clickhouse_restarts(checks, up, stream, expected):
    with Cluster(up) as cluster:
        api, _ = cluster.start("api"), cluster.start("consumer")
        sending = stream.send_all(api.url, pause=0.05)
        time.sleep(2)
        up.clickhouse.kill()
        time.sleep(2)
        up.clickhouse.start()
        sending.join(120)
        compare(checks, "ClickHouse killed with -9 and started again", cluster, expected)


def postgres_restarts(checks, up, stream, expected):
    with Cluster(up) as cluster:
        api, _ = cluster.start("api"), cluster.start("consumer")
        sending = stream.send_all(api.url, pause=0.05)
        for _ in range(2):
            time.sleep(1.5)
            up.postgres.stop()
            up.postgres_proxy.cut()
            time.sleep(1)
            up.postgres.start()
        sending.join(120)
        compare(checks, "PostgreSQL restarted twice", cluster, expected)
        answer = api.get("/v1/experiments/hot/results")
        checks.check("the API answers again by itself", answer.status == 200, answer)


def two_aggregators(checks, up, stream, expected):
    with Cluster(up, interval="1s") as cluster:
        api, _ = cluster.start("api"), cluster.start("consumer")
        aggregators = [cluster.start("aggregator") for _ in range(2)]
        sending = stream.send_all(api.url, pause=0.05)
        for turn in range(4):
            # Whoever is in the middle of a run or not: paused past the end of its lease, then woken.
            paused = aggregators[turn % 2]
            paused.process.send_signal(signal.SIGSTOP)
            time.sleep(3)
            paused.process.send_signal(signal.SIGCONT)
        sending.join(120)
        compare(checks, "two aggregators, each paused past its lease", cluster, expected)
        overlapping = up.psql(
            "SELECT count(*) FROM pipeline_runs a JOIN pipeline_runs b ON a.run_id < b.run_id AND b.started_at < a.finished_at AND a.status = 'succeeded' AND b.status = 'succeeded'",
            cluster.name,
        )
        checks.equal("no two runs that published overlap", overlapping, [("0",)])
        runs = up.psql("SELECT status, count(*) FROM pipeline_runs GROUP BY status ORDER BY 1", cluster.name)
        checks.note(f"runs by status: {runs}")


def paused_in_a_run(checks, up, stream, expected):
    """The aggregator that has the lease is stopped in the middle of its run."""
    with Cluster(up) as cluster:
        api, _ = cluster.start("api"), cluster.start("consumer")
        stream.send_all(api.url).join(120)
        settle(cluster)
        up.clickhouse_proxy.delay = 0.8
        first = cluster.start("aggregator", TRIALOG_INTERVAL="1s")
        poll("a run under way", lambda: up.psql("SELECT holder FROM leases WHERE expires_at > 0", cluster.name), 30)
        time.sleep(0.5)
        first.process.send_signal(signal.SIGSTOP)
        up.clickhouse_proxy.delay = 0.0
        started = time.monotonic()
        cluster.command("aggregate", "--attempts", 30)
        took = time.monotonic() - started
        checks.check("another process takes over when the lease has ended", took < 30, f"{took:.1f} s")
        first_rows = cluster.rows()
        marks = up.psql("SELECT run_id FROM pipeline_state", cluster.name)
        said = len(first.stderr())
        first.process.send_signal(signal.SIGCONT)

        def has_noticed():
            # It lost the lease, or its query was cut off meanwhile: its run has failed either way, or the next one is published.
            return "failed" in first.stderr()[said:] or up.psql("SELECT run_id FROM pipeline_state", cluster.name) != marks

        try:
            poll("the woken one notices", has_noticed, 60)
        except TimeoutError:
            checks.note(f"it says: {first.stderr()[said:]!r}, and ends with {first.process.poll()}")
            raise
        statuses = up.psql("SELECT run_id, status FROM pipeline_runs ORDER BY run_id", cluster.name)
        checks.check("and its run published nothing", statuses[0][1] in ("failed", "interrupted"), statuses)
        checks.equal("what was published meanwhile is right", first_rows, expected)
        compare(checks, "an aggregator stopped in its run", cluster, expected)


def slow_network(checks, up, stream, expected):
    with Cluster(up, lease="5s") as cluster:
        for proxy in (up.kafka_proxy, up.postgres_proxy):
            proxy.delay = 0.02
        up.clickhouse_proxy.delay = 0.2
        try:
            api, _ = cluster.start("api"), cluster.start("consumer")
            stream.send_all(api.url).join(180)
            settle(cluster)
        finally:
            up.kafka_proxy.delay = up.postgres_proxy.delay = up.clickhouse_proxy.delay = 0.0
        compare(checks, "a slow network to all three", cluster, expected)


def poison(checks, up, stream, expected):
    """Messages that are no events do not hold up those after them."""
    with Cluster(up) as cluster:
        api, _ = cluster.start("api"), cluster.start("consumer")
        producer = f"127.0.0.1:{up.kafka_proxy.port}"
        n_bad = up.kafka.produce(producer, f"{cluster.name}.metrics", ["", "nonsense", '{"user_id":1}', "[1,2", "\xff"])
        stream.send_all(api.url).join(120)
        compare(checks, "poison among the messages", cluster, expected)
        letters = up.kafka.consume(producer, f"{cluster.name}.dead_letters", n_bad)
        checks.check(f"{n_bad} dead letters, each with its reason and its place", len(letters) == n_bad and all("reason:" in own and "offset:" in own for own in letters), letters)


def files_behind_kafka(checks, up, stream, expected):
    """The embedded warehouse, all roles in one process, with Kafka in front of it, killed with -9."""
    with Cluster(up) as cluster, scratch() as directory:
        log = ("--event-log", cluster.environment["TRIALOG_EVENT_LOG"], "--consumer-linger", "1s")
        server = Server(directory / "data", *log)
        number = 0
        for _ in range(4):
            for number in range(number, min(number + 30, len(stream.batches))):
                stream.send(server, number)
            server.kill()
            server = Server(directory / "data", *log)
        for number in range(number, len(stream.batches)):
            stream.send(server, number)

        def is_equal():
            server.run_now()
            return embedded_rows(directory / "data") == expected

        poll("the sums of the stream", is_equal, 90)
        checks.check("files behind Kafka, killed four times with -9: sums and users equal those without Kafka", is_equal())
        server.stop()


FAULTS = [broker_restarts, broker_is_killed, consumer_is_killed, rebalances, claims_are_taken, clickhouse_refuses, answers_are_lost, clickhouse_restarts, postgres_restarts, two_aggregators, paused_in_a_run, slow_network, poison, files_behind_kafka]


def run():
    checks = Checks()
    chosen = os.environ.get("FAULTS", "").split(",") if os.environ.get("FAULTS") else [own.__name__ for own in FAULTS]
    with running(checks) as up:
        if up is not None:
            checks.note(f"seed {SEED}")
            stream = Stream(SEED)
            with scratch() as directory:
                expected = stream.in_embedded(directory / "embedded")
            checks.check("the embedded path publishes something to compare with", len(expected[0]) > 20, expected)
            for fault in FAULTS:
                if fault.__name__ in chosen:
                    started = time.monotonic()
                    checks.attempt(fault, up, stream, expected)
                    checks.note(f"{fault.__name__}: {time.monotonic() - started:.1f} s")
    sys.exit(1 if checks.failed else 0)


if __name__ == "__main__":
    run()
