"""Settings and servers that are wrong: the message names the setting and the mend.

What cannot heal by itself is refused at the start; what can is tried again.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import services
from cluster import Cluster, Stream, embedded_rows, running
from harness import Checks, Server, poll, scratch

HEALS_SECONDS = 60


def refused(checks, name, cluster, *words, roles=None, command=("serve", "--listen", "127.0.0.1:0"), **changed):
    """`serve` ends at once, and says these words."""
    started = time.monotonic()
    environment = {**changed, **({"TRIALOG_ROLES": roles} if roles else {})}
    done = cluster.command(*command, code=None, seconds=60, **environment)
    text = done.stdout + done.stderr
    missing = [word for word in words if word not in text]
    checks.check(f"{name}: refused at the start, with {' and '.join(words)}", done.returncode == 1 and not missing, f"exit {done.returncode}: {text[-900:]}")
    checks.check(f"{name}: within 20 s, without a backtrace or a password", time.monotonic() - started < 20 and "RUST_BACKTRACE" not in text and "wrong-password" not in text, text[-500:])


def wrong_settings(checks, up):
    with Cluster(up) as cluster:
        own = cluster.environment
        catalog, warehouse, log = (own[f"TRIALOG_{name}"] for name in ("CATALOG", "WAREHOUSE", "EVENT_LOG"))
        dead = services.free_port()
        refused(checks, "nobody at the catalog's address", cluster, "`catalog`", "check that PostgreSQL runs", TRIALOG_CATALOG=f"postgres://trialog:x@127.0.0.1:{dead}/t")
        refused(checks, "a wrong password of the catalog", cluster, "password", "`catalog`", TRIALOG_CATALOG=catalog.replace("trialog:trialog", "trialog:wrong-password"))
        refused(checks, "a database that does not exist", cluster, "CREATE DATABASE", "`catalog`", TRIALOG_CATALOG=catalog + "_no")
        refused(checks, "a catalog of another kind", cluster, "`catalog`", "postgres://", TRIALOG_CATALOG="mysql://host/db")
        refused(checks, "nobody at the warehouse's address", cluster, "`warehouse`", "runs", TRIALOG_WAREHOUSE=f"clickhouse://trialog:x@127.0.0.1:{dead}/t")
        refused(checks, "a wrong password of the warehouse", cluster, "`warehouse`", "password", TRIALOG_WAREHOUSE=warehouse.replace("trialog:trialog", "trialog:wrong-password"))
        refused(checks, "a database of ClickHouse that does not exist", cluster, "`warehouse`", "CREATE DATABASE", TRIALOG_WAREHOUSE=warehouse + "_no")
        refused(checks, "a setting that ClickHouse does not know", cluster, "`warehouse`", "settings", TRIALOG_WAREHOUSE=warehouse + "?no_such_setting=1")
        refused(checks, "Kafka's port as ClickHouse's", cluster, "`warehouse`", TRIALOG_WAREHOUSE=f"clickhouse://trialog:trialog@127.0.0.1:{up.kafka.port}/t")
        refused(checks, "nobody at the brokers' address", cluster, "`event_log`", "brokers", TRIALOG_EVENT_LOG=f"kafka://127.0.0.1:{dead}")
        refused(checks, "topics that do not exist", cluster, "trialog topics create", "topic_prefix", TRIALOG_EVENT_LOG=log.replace(f"topic_prefix={cluster.name}.", "topic_prefix=no."))
        refused(checks, "a setting that librdkafka does not know", cluster, "no.such.setting", TRIALOG_EVENT_LOG=log + "&no.such.setting=1")
        refused(checks, "a wrong password of the event log", cluster, "`event_log`", "sasl.password", TRIALOG_EVENT_LOG=f"kafka://127.0.0.1:{up.kafka.sasl_port}?topic_prefix={cluster.name}.&security.protocol=SASL_PLAINTEXT&sasl.mechanism=PLAIN&sasl.username=trialog&sasl.password=wrong-password")
        refused(checks, "a role that is none", cluster, "`roles`", "aggregator", TRIALOG_ROLES="web")
        refused(checks, "a consumer without an event log", cluster, "`roles`", "`event_log`", roles="consumer", TRIALOG_EVENT_LOG="")
        refused(checks, "one role with files", cluster, "`roles`", "`warehouse`", roles="api", TRIALOG_WAREHOUSE="", TRIALOG_CATALOG="", TRIALOG_EVENT_LOG="")
        refused(checks, "one role with a file as the catalog", cluster, "`roles`", "`catalog`", roles="api", TRIALOG_CATALOG="")


def newer_schemas(checks, up):
    with Cluster(up) as cluster:
        cluster.command("pipeline")
        up.psql("INSERT INTO schema_versions VALUES (99, '9.9.9')", cluster.name)
        refused(checks, "a catalog of a newer version", cluster, "schema version 99", "run trialog 9.9.9 or newer")
        up.psql("DELETE FROM schema_versions WHERE version = 99", cluster.name)
        up.ask_clickhouse(f"INSERT INTO {cluster.name}.schema_versions (version, trialog) VALUES (99, '9.9.9')")
        refused(checks, "a warehouse of a newer version", cluster, "schema version 99", "run trialog 9.9.9 or newer")


def check_says_it(checks, up):
    with Cluster(up) as cluster:
        before = cluster.command("check", code=None)
        checks.check("check looks at empty servers and changes nothing", before.returncode == 0 and before.stdout.count("is empty") == 2, before.stdout)
        checks.equal("no table was made", up.psql("SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'", cluster.name), [("0",)])
        cluster.command("pipeline")
        good = cluster.command("check", code=None)
        words = ["good     catalog", "good     warehouse", "good     event_log", "with 4, "]
        checks.check("check names what is good", good.returncode == 0 and all(word in good.stdout for word in words), good.stdout)
        checks.check("check shows no password", "trialog:trialog" not in good.stdout, good.stdout)
        dead = services.free_port()
        bad = cluster.command("check", code=2, TRIALOG_CATALOG=f"postgres://127.0.0.1:{dead}/t", TRIALOG_WAREHOUSE=f"clickhouse://127.0.0.1:{dead}", TRIALOG_EVENT_LOG=f"kafka://127.0.0.1:{dead}")
        checks.check("check names each that has failed", all(f"FAILED   {name}" in bad.stdout for name in ("catalog", "warehouse", "event_log")), bad.stdout)


def keys_that_are_gone(checks, up):
    """An emptied catalog opens no door that keys had closed."""
    with Cluster(up) as cluster:
        key = cluster.command("keys", "create", "ops", "--scope", "admin").stdout.split()[0]
        first = cluster.start("api")

        def statuses(process):
            path = "/v1/experiments"
            with_key = process.request("GET", path, None, {"authorization": f"Bearer {key}"})
            return process.get(path).status, with_key.status

        checks.equal("PostgreSQL with a key: only it gets in", statuses(first), (401, 200))
        up.psql("DELETE FROM api_keys", cluster.name)
        checks.equal("the key is removed from the table: a new process lets nobody in", statuses(cluster.start("api")), (401, 401))
        up.psql("DELETE FROM facts", cluster.name)
        checks.equal("and the fact that there was one: nobody gets into the process that knew it", first.get("/v1/experiments").status, 401)


def what_is_not_there(checks, up):
    """What only files can do is refused with what to do instead."""
    with Cluster(up) as cluster:
        api = cluster.start("api")
        for method, path, word in (("POST", "/v1/backup", "pg_dump"), ("POST", "/v1/retention/apply", "DROP PARTITION"), ("DELETE", "/v1/users/1", "ALTER TABLE")):
            answer = api.request(method, path, {"directory": "x"} if method == "POST" else None)
            checks.check(f"{method} {path} is 501 and says what does it", answer.status == 501 and word in answer.detail(), answer)
        answer = api.request("GET", "/v1/export/metrics", None)
        checks.check("exports of events are read from ClickHouse", answer.status == 200 and answer.body[:4] == b"PAR1", answer.status)


        # Its answer is a stream, which begins before the work does.
        answer = api.get("/v1/verify")
        checks.check("GET /v1/verify says what does it", "CHECK TABLE" in answer.body.decode(), answer)


def sasl_works(checks, up):
    with Cluster(up) as cluster:
        log = f"kafka://127.0.0.1:{up.kafka.sasl_port}?topic_prefix={cluster.name}.&group={cluster.name}&security.protocol=SASL_PLAINTEXT&sasl.mechanism=PLAIN&sasl.username=trialog&sasl.password=trialog-secret"
        cluster.environment["TRIALOG_EVENT_LOG"] = log
        api, _ = cluster.start("api"), cluster.start("consumer")
        stream = Stream(3, n_batches=4)
        stream.send_all(api.url).join(60)
        poll("everything in Kafka is stored", cluster.is_stored, 60)
        checks.check("events go through a broker that asks for a password", True)


def tls_works(checks, up):
    with Cluster(up) as cluster:
        log = f"kafka://127.0.0.1:{up.kafka.tls_port}?topic_prefix={cluster.name}.&group={cluster.name}&security.protocol=SSL"
        listed = cluster.command("topics", "list", code=None, TRIALOG_EVENT_LOG=f"{log}&ssl.ca.location={up.kafka.certificate}")
        if "kafka-tls" in listed.stderr:
            checks.skip("events through a broker with TLS", "the binary was built without the feature kafka-tls")
            return
        refused(checks, "a broker whose certificate nobody vouches for", cluster, "`event_log`", "certificates", TRIALOG_EVENT_LOG=log)
        cluster.environment["TRIALOG_EVENT_LOG"] = f"{log}&ssl.ca.location={up.kafka.certificate}"
        api, _ = cluster.start("api"), cluster.start("consumer")
        Stream(4, n_batches=4).send_all(api.url).join(60)
        poll("everything in Kafka is stored", cluster.is_stored, 60)
        checks.check("events go through a broker with TLS", True)


def heals(checks, up):
    """What is away at first and comes back needs nobody."""
    with Cluster(up) as cluster:
        api, consumer = cluster.start("api"), cluster.start("consumer")
        up.clickhouse.stop()
        answer = api.get("/readyz")
        checks.check("readyz names what is away", answer.status == 503 and "clickhouse" in answer.detail(), answer)
        checks.equal("healthz does not", api.get("/healthz").status, 200)
        stream = Stream(5, n_batches=8)
        stream.send_all(api.url).join(60)
        poll("the consumer says what it waits for", lambda: "events wait in Kafka" in consumer.stderr() and "`warehouse` runs" in consumer.stderr(), 30)
        checks.check("the consumer says what it waits for", True)
        up.clickhouse.start()
        poll("everything in Kafka is stored", cluster.is_stored, HEALS_SECONDS)
        poll("the API is ready again", lambda: api.get("/readyz").status == 200, 10)
        checks.check("all is well again by itself", True)
        up.postgres.stop()
        up.postgres_proxy.cut()
        answer = api.get("/v1/experiments")
        checks.check("without the catalog the answer is 503 with Retry-After", answer.status == 503 and answer.headers.get("Retry-After"), answer)
        up.postgres.start()
        poll("the API is ready again", lambda: api.get("/v1/experiments").status == 200, 10)
        up.kafka_proxy.refusing = True
        up.kafka_proxy.cut()
        started = time.monotonic()
        answer = api.post("/v1/events/metrics", stream.batches[1][1])
        checks.check("without brokers the answer is 503 that names the event log", answer.status == 503 and "event_log" in answer.detail(), answer)
        checks.check("within the time of a delivery", time.monotonic() - started < 30)
        up.kafka_proxy.refusing = False
        poll("events are taken again", lambda: api.post("/v1/events/metrics", stream.batches[1][1]).status == 202, 60)
        checks.check("events are taken again", True)


def full_disk(checks, up):
    """The disk behind ClickHouse is full: events wait in Kafka until there is room."""
    with tempfile.TemporaryDirectory(prefix="trialog-disk-") as mount:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", mount], capture_output=True, text=True)
        if done.returncode != 0:
            checks.skip("a full disk behind ClickHouse", f"no tmpfs can be mounted here: {done.stderr}")
            return
        try:
            small = services.ClickHouse(mount)
            small.start()
            before = up.clickhouse
            try:
                fills_up(checks, up, small, Path(mount))
            finally:
                small.stop()
                up.clickhouse = before
        finally:
            subprocess.run(["umount", "-l", mount], capture_output=True)


def fills_up(checks, up, small, mount):
    with Cluster(up) as cluster, scratch() as directory:
        stream = Stream(8, n_batches=40, batch=2_000)
        with Server(directory / "embedded") as embedded:
            for number in range(len(stream.batches)):
                stream.send(embedded, number)
            embedded.run_now()
        expected = embedded_rows(directory / "embedded")
        up.clickhouse = small
        up.ask_clickhouse(f"CREATE DATABASE {cluster.name}")
        cluster.environment["TRIALOG_WAREHOUSE"] = f"clickhouse://trialog:trialog@127.0.0.1:{small.port}/{cluster.name}"
        api, consumer = cluster.start("api"), cluster.start("consumer")
        with (mount / "ballast").open("wb") as ballast:
            free = subprocess.run(["df", "--output=avail", "-B1", mount], capture_output=True, text=True).stdout.split()[-1]
            ballast.write(b"x" * max(0, int(free) - 200_000))
        stream.send_all(api.url).join(120)
        poll("the consumer says what it waits for", lambda: "events wait in Kafka" in consumer.stderr(), 60)
        line = next(line for line in consumer.stderr().splitlines() if "events wait in Kafka" in line)
        checks.check("a full disk behind ClickHouse: the message names the setting", "`warehouse`" in line and "space" in line.lower(), line)
        (mount / "ballast").unlink()
        poll("everything in Kafka is stored", cluster.is_stored, HEALS_SECONDS)
        cluster.command("aggregate", "--attempts", 5)
        checks.equal("after there is room again, everything is counted once", cluster.rows(), expected)


PARTS = [wrong_settings, newer_schemas, check_says_it, keys_that_are_gone, what_is_not_there, sasl_works, tls_works, heals, full_disk]


def main():
    checks = Checks()
    with running(checks) as up:
        if up is not None:
            for part in PARTS:
                checks.attempt(part, up)
    sys.exit(1 if checks.failed else 0)


if __name__ == "__main__":
    main()
