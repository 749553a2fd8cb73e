"""What the end-to-end scripts share: checks, a server process, HTTP, SQLite copies.

Nothing here knows how Trialog works inside; everything goes through the
binary, its HTTP interface and its files.
"""

import contextlib
import http.client
import json
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.parse
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
BINARY = os.environ.get("TRIALOG_BIN") or os.path.expanduser("~/.cache/trialog/target/release/trialog")
START_SECONDS = 60


class Checks:
    """Prints one line per check: `passed`, `FAILED` or `skipped`."""

    def __init__(self):
        self.failed = 0

    def check(self, name, good, detail=""):
        if good:
            self._say(f"passed   {name}")
        else:
            self.failed += 1
            shown = detail if isinstance(detail, str) else json.dumps(detail, default=str)
            self._say(f"FAILED   {name}" + (f": {_one_line(shown)}" if shown else ""))
        return bool(good)

    def equal(self, name, actual, expected):
        return self.check(name, actual == expected, f"{actual!r} where {expected!r} was expected")

    def close(self, name, actual, expected, relative=1e-9):
        good = actual is not None and math.isclose(actual, expected, rel_tol=relative, abs_tol=1e-15)
        return self.check(name, good, f"{actual!r} where {expected!r} was expected")

    def attempt(self, part, *arguments):
        """Runs `part(checks, *arguments)`; an error in it is a failed check and does not stop what follows."""
        try:
            part(self, *arguments)
        except Exception as error:  # noqa: BLE001
            traceback.print_exc()
            self.check(f"{part.__name__} runs to its end", False, f"{type(error).__name__}: {error}")

    def skip(self, name, reason):
        self._say(f"skipped  {name}: {_one_line(reason)}")

    def note(self, text):
        self._say(f"         {text}")

    @staticmethod
    def _say(line):
        print(line, flush=True)


def _one_line(text):
    text = " ".join(str(text).split())
    return text if len(text) <= 700 else text[:700] + " ..."


def main(*parts):
    """Runs every part with the checks and a scratch directory of its own.

    A part that raises is a failed check; the parts after it still run.
    """
    checks = Checks()
    for part in parts:
        with scratch() as directory:
            checks.attempt(part, directory)
    sys.exit(1 if checks.failed else 0)


@contextlib.contextmanager
def scratch():
    directory = Path(tempfile.mkdtemp(prefix="trialog-e2e-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def poll(what, condition, seconds=30):
    """Waits until `condition()` gives something true, and gives it."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.01)


class Answer:
    """An HTTP answer."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def detail(self):
        """The text of a problem document, with its rejected events."""
        try:
            return json.dumps(self.json())
        except ValueError:
            return self.body.decode(errors="replace")

    def __repr__(self):
        return f"{self.status} {self.body[:400].decode(errors='replace')}"


class Client:
    """Requests to one address; each call on a connection of its own unless `keep`."""

    def __init__(self, url, keep=False, timeout=60):
        parts = urllib.parse.urlsplit(url)
        self.host, self.port, self.timeout, self.keep = parts.hostname, parts.port, timeout, keep
        self.connection = None

    def request(self, method, path, body=None, headers=None):
        headers = dict(headers or {})
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
        if isinstance(body, str):
            body = body.encode()
        if body is not None:
            headers.setdefault("content-type", "application/json")
        connection = self.connection or http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)
        try:
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            answer = Answer(response.status, response.headers, response.read())
        except BaseException:
            connection.close()
            self.connection = None
            raise
        if self.keep:
            self.connection = connection
        else:
            connection.close()
        return answer

    def get(self, path):
        return self.request("GET", path)

    def post(self, path, body=None, headers=None):
        return self.request("POST", path, body, headers)


class Server(Client):
    """A `trialog serve` process on a free port."""

    def __init__(self, data_dir, *arguments, before=(), timeout=60, wait=True, log="warn"):
        self.log = tempfile.NamedTemporaryFile(prefix="trialog-log-", suffix=".txt")
        command = [*before, BINARY, "--data-dir", str(data_dir), "--listen", "127.0.0.1:0", "--log", log]
        command += [*arguments, "serve"]
        # A group of its own, so that a tracer and what it traces end together.
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, start_new_session=True)
        self.url = None
        if wait:
            self.wait_until_listening()
            super().__init__(self.url, timeout=timeout)

    def wait_until_listening(self):
        lines = []
        reader = threading.Thread(target=lambda: lines.append(self.process.stdout.readline()), daemon=True)
        reader.start()
        reader.join(START_SECONDS)
        line = lines[0].decode() if lines else ""
        if not line.startswith("listening on http://"):
            self.kill()
            raise RuntimeError(f"the server did not start: stdout {line!r}, stderr {self.stderr()}")
        self.url = line.removeprefix("listening on ").strip()

    def stderr(self):
        return Path(self.log.name).read_text(errors="replace")

    def kill(self):
        """Ends the process at once, as `kill -9` does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def stop(self):
        """Asks the process to end and gives its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def stop_traced(self):
        """Asks a server that runs under a tracer to end."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        return self.process.wait(60)

    def peak_mib(self):
        """The most memory that the process ever had resident."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("no VmHWM in /proc")

    def run_now(self, full=False):
        """Aggregates and gives the answer's JSON; an error is raised."""
        answer = self.post(f"/v1/pipeline/run?full={str(full).lower()}")
        if answer.status != 200:
            raise RuntimeError(f"the run failed: {answer}")
        return answer.json()

    def results(self, experiment, query=""):
        path = f"/v1/experiments/{urllib.parse.quote(experiment, safe='')}/results"
        answer = self.get(f"{path}?{query}" if query else path)
        if answer.status != 200:
            raise RuntimeError(f"no results of {experiment}: {answer}")
        return answer.json()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.kill()


class Finished:
    """What a command left behind."""

    def __init__(self, code, out, err, peak_mib):
        self.code, self.out, self.err, self.peak_mib = code, out, err, peak_mib

    def __repr__(self):
        return f"exit {self.code}, stdout {self.out[-600:]!r}, stderr {self.err[-600:]!r}"


def trialog(*arguments, data_dir=None, seconds=300):
    """Runs the binary to its end."""
    command = [BINARY, *(["--data-dir", str(data_dir)] if data_dir else []), *map(str, arguments)]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(command, stdout=out, stderr=err)
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        texts = (stream.read().decode(errors="replace") for stream in (out, err))
        return Finished(process.returncode, *texts, usage.ru_maxrss / 1024)


def must(finished):
    """The same, unless the command failed."""
    if finished.code != 0:
        raise RuntimeError(repr(finished))
    return finished


def metric(report, name, kind):
    for found in report["metrics"]:
        if (found["metric"], found["kind"]) == (name, kind):
            return found
    raise KeyError(f"no {name}:{kind} in {[(own['metric'], own['kind']) for own in report['metrics']]}")


def variant(rows, name):
    return next(row for row in rows if row["variant"] == name)


def comparison(report, name, kind, treatment):
    for row in metric(report, name, kind)["comparisons"]:
        if row["treatment"] == treatment:
            return row
    raise KeyError(f"{name}:{kind} has no comparison of {treatment}; users: {report['variants']}")


@contextlib.contextmanager
def database(path):
    """A copy of a SQLite database with its log, so that looking changes nothing."""
    with scratch() as directory:
        for suffix in ("", "-wal"):
            source = Path(f"{path}{suffix}")
            if source.exists():
                shutil.copy(source, directory / source.name)
        connection = sqlite3.connect(directory / Path(path).name)
        try:
            yield connection
        finally:
            connection.close()


# The row of the latest computation of every experiment, without what differs between two runs.
LATEST = """
SELECT m.experiment_id, m.variant, m.metric_name, m.user_count, m.event_count, m.total_value, m.conversion_rate,
       m.mean_value, m.variance, m.converted_users, m.squared_total, m.squared_events, m.fingerprint
FROM variant_metrics m
JOIN (SELECT experiment_id, max(computed_at) AS latest FROM computations GROUP BY experiment_id) c
  ON c.experiment_id = m.experiment_id AND c.latest = m.computed_at
ORDER BY 1, 2, 3
"""
LATEST_EXPOSURES = """
SELECT e.experiment_id, e.variant, e.user_count, e.crossover_users
FROM variant_exposures e
JOIN (SELECT experiment_id, max(computed_at) AS latest FROM computations GROUP BY experiment_id) c
  ON c.experiment_id = e.experiment_id AND c.latest = e.computed_at
ORDER BY 1, 2
"""


def published(data_dir):
    """Every number that is published at present."""
    with database(Path(data_dir) / "catalog.sqlite") as catalog:
        return catalog.execute(LATEST).fetchall(), catalog.execute(LATEST_EXPOSURES).fetchall()
