"""Real services for the tests: Apache Kafka, PostgreSQL, ClickHouse's engine.

Each listens on loopback only, keeps everything in a directory of its own, and
is installed on first use: Kafka by Maven, the engine by pip, PostgreSQL by apt.
A service can be stopped, killed, paused and started again with the data that
it had, which is what the tests of faults do.
"""

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import packages  # noqa: E402

START_SECONDS = 90


class Unavailable(Exception):
    """A service that cannot be had on this machine, with the reason."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Service:
    """A process that is started in a directory, and its address."""

    name = ""

    def __init__(self, directory, port=None):
        self.directory = Path(directory) / self.name
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = port or self._kept("port", free_port)
        self.process = None

    def _kept(self, name, make):
        """What `make` gave the first time; kept in the directory."""
        file = self.directory / name
        if not file.exists():
            file.write_text(str(make()))
        kept = file.read_text()
        return int(kept) if kept.isdigit() else kept

    def command(self):
        raise NotImplementedError

    def is_ready(self):
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def start(self):
        log = (self.directory / "log").open("ab")
        self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.directory, start_new_session=True)
        (self.directory / "pid").write_text(str(self.process.pid))
        deadline = time.monotonic() + START_SECONDS
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                tail = (self.directory / "log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{self.name} did not start: {tail}")
            time.sleep(0.05)
        return self

    def pid(self):
        file = self.directory / "pid"
        return int(file.read_text()) if file.exists() else None

    def send(self, number):
        """Sends a signal to the process and its children; false where it is gone."""
        try:
            os.killpg(self.pid(), number)
            return True
        except (ProcessLookupError, TypeError):
            return False

    stop_signal = signal.SIGTERM

    def stop(self, number=None, seconds=60):
        if not self.send(number or self.stop_signal):
            return
        deadline = time.monotonic() + seconds
        while self.is_alive():
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL)
            time.sleep(0.02)
        self.process = None

    def is_alive(self):
        if self.process is not None:
            return self.process.poll() is None
        try:
            os.kill(self.pid(), 0)
            return True
        except (ProcessLookupError, TypeError):
            return False

    def kill(self):
        self.stop(signal.SIGKILL)

    def pause(self):
        self.send(signal.SIGSTOP)

    def resume(self):
        self.send(signal.SIGCONT)


class Kafka(Service):
    """Apache Kafka 4 in KRaft mode, one node."""

    name = "kafka"

    def __init__(self, directory, port=None, advertised_port=None):
        super().__init__(directory, port)
        self.advertised_port = advertised_port or self.port
        if not shutil.which("java") or not shutil.which("mvn"):
            raise Unavailable("Kafka needs Java 17 and Maven, and one of them is missing")
        self.controller_port = self._kept("controller_port", free_port)
        self.sasl_port = self._kept("sasl_port", free_port)
        self.tls_port = self._kept("tls_port", free_port)
        # The certificate of the TLS listener, which is its own authority.
        self.certificate = self.directory / "broker.pem"
        self.address = f"127.0.0.1:{self.advertised_port}"
        self.classpath = f"{packages.maven(HERE / 'pom.xml')}/*"
        self._kept("cluster", self._format)

    def _format(self):
        # What one that was cut short left.
        shutil.rmtree(self.directory / "data", ignore_errors=True)
        (self.directory / "broker.p12").unlink(missing_ok=True)
        store = ["-keystore", "broker.p12", "-storepass", "broker-store", "-alias", "broker"]
        made = ["-genkeypair", "-keyalg", "EC", "-storetype", "PKCS12", "-validity", "3650", "-dname", "CN=127.0.0.1", "-ext", "san=ip:127.0.0.1", *store]
        for arguments in (made, ["-exportcert", "-rfc", "-file", "broker.pem", *store]):
            subprocess.run(["keytool", *arguments], cwd=self.directory, check=True, capture_output=True, timeout=60)
        (self.directory / "server.properties").write_text(
            f"""process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{self.controller_port}
listeners=PLAINTEXT://127.0.0.1:{self.port},SASL://127.0.0.1:{self.sasl_port},TLS://127.0.0.1:{self.tls_port},CONTROLLER://127.0.0.1:{self.controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{self.advertised_port},SASL://127.0.0.1:{self.sasl_port},TLS://127.0.0.1:{self.tls_port}
listener.name.tls.ssl.keystore.location={self.directory}/broker.p12
listener.name.tls.ssl.keystore.password=broker-store
sasl.enabled.mechanisms=PLAIN
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="trialog" password="trialog-secret" user_trialog="trialog-secret";
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SSL
log.dirs={self.directory}/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
log.segment.bytes=67108864
"""
        )
        (self.directory / "log4j2.yaml").write_text(
            "Configuration:\n  Appenders:\n    Console:\n      name: C\n      PatternLayout: {pattern: '%d %p %m (%c)%n'}\n"
            "  Loggers:\n    Root: {level: WARN, AppenderRef: {ref: C}}\n"
        )
        cluster = "Trialog-tests-cluster-"[:22]
        subprocess.run(
            self._java("kafka.tools.StorageTool", "format", "-t", cluster, "-c", "server.properties"),
            cwd=self.directory, check=True, capture_output=True, timeout=120,
        )
        return cluster

    def _java(self, *arguments):
        logging = f"-Dlog4j2.configurationFile={self.directory}/log4j2.yaml"
        return ["java", "-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", logging, "-cp", self.classpath, *arguments]

    def command(self):
        return self._java("kafka.Kafka", "server.properties")

    def produce(self, brokers, topic, texts):
        """Produces messages with a client that is not ours, and gives their number."""
        lines = "".join(f"{json.dumps(text)}\n" for text in texts)
        self._client("produce", brokers, topic, lines=lines)
        return len(texts)

    def consume(self, brokers, topic, n):
        """The first messages of a topic with their headers, as lines."""
        return self._client("consume", brokers, topic, str(n)).splitlines()

    def ends(self, brokers, topic):
        """The offset at which each partition ends."""
        return {int(line.split()[0]): int(line.split()[1]) for line in self._client("ends", brokers, topic).splitlines()}

    @staticmethod
    def _client(*arguments, lines=""):
        interpreter = packages.python(HERE / "requirements.txt")
        done = subprocess.run([interpreter, HERE / "kafka_client.py", *arguments], input=lines, capture_output=True, text=True, timeout=90)
        if done.returncode != 0:
            raise RuntimeError(f"kafka_client.py {arguments}: {done.stderr}")
        return done.stdout


class PostgreSQL(Service):
    """PostgreSQL of Debian's packages."""

    name = "postgresql"
    # Ends sessions instead of waiting for them.
    stop_signal = signal.SIGINT

    def __init__(self, directory, port=None):
        super().__init__(directory, port)
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or self._install()
        self.binaries = found[-1]
        # PostgreSQL refuses to run as root.
        self.prefix = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        self.data = self.directory / "data"
        self._kept("cluster", self._create)
        self.address = f"postgres://trialog:trialog@127.0.0.1:{self.port}/postgres"

    @staticmethod
    def _install():
        if os.getuid() != 0 or not shutil.which("apt-get"):
            raise Unavailable("PostgreSQL is not installed, and only root can install it here")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(["apt-get", "update", "-q"], check=False, **quiet)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "install", "-qy", "postgresql"], check=False, env=environment, **quiet)
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not found:
            raise Unavailable("PostgreSQL is not installed and could not be")
        return found

    def _create(self):
        # What one that was cut short left.
        shutil.rmtree(self.data, ignore_errors=True)
        if self.prefix:
            user = pwd.getpwnam("postgres")
            os.chown(self.directory, user.pw_uid, user.pw_gid)
        password = self.directory / "password"
        password.write_text("trialog")
        password.chmod(0o644)
        made = subprocess.run(
            [*self.prefix, self.binaries / "initdb", "-D", self.data, "-U", "trialog", f"--pwfile={password}", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "--data-checksums"],
            capture_output=True, text=True, timeout=120, cwd="/",
        )
        if made.returncode != 0:
            raise RuntimeError(f"initdb: {made.stderr}")
        return "made"

    def command(self):
        return [*self.prefix, self.binaries / "postgres", "-D", self.data, "-p", str(self.port), "-c", "listen_addresses=127.0.0.1", "-k", self.data, "-c", "max_connections=200"]

    def is_ready(self):
        ready = [self.binaries / "pg_isready", "-h", "127.0.0.1", "-p", str(self.port), "-q"]
        return subprocess.run(ready, check=False).returncode == 0


class ClickHouse(Service):
    """ClickHouse's engine behind its HTTP interface; see clickhouse_http.py."""

    name = "clickhouse"

    def __init__(self, directory, port=None):
        super().__init__(directory, port)
        self.interpreter = packages.python(HERE / "requirements.txt")
        self.address = f"clickhouse://trialog:trialog@127.0.0.1:{self.port}/default"

    def command(self):
        return [self.interpreter, HERE / "clickhouse_http.py", str(self.port), self.directory / "data", "trialog", "trialog"]


ALL = {"KAFKA": Kafka, "POSTGRES": PostgreSQL, "CLICKHOUSE": ClickHouse}
