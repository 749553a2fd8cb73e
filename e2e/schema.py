"""The OpenAPI document against the running server: schemathesis sends what the
document allows and what it forbids, and compares every answer with it.

    SCHEMA_SECONDS=600 e2e/run schema     ten minutes instead of one
    SCHEMA_SEED=2 e2e/run schema          other requests

Objects in answers are closed first, so that a member which the document does
not name is found as well. Needs PyPI, or $SCHEMATHESIS with the path of the
command.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from harness import Server, main, must, trialog

VERSION = "4.32.5"
SECONDS = int(os.environ.get("SCHEMA_SECONDS", "60"))
SEED = os.environ.get("SCHEMA_SEED", "1")
# Where the environment is kept between runs.
KEPT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trialog" / f"schemathesis-{VERSION}"
# What a request may be refused with although every value of it has the
# documented form: rules between values, and what is not there.
RULES = ["2xx", 401, 403, 404, 409, 412, 413, 422, 503]

CONFIG = f"""
[checks.positive_data_acceptance]
expected-statuses = {json.dumps(RULES)}

[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 408, 409, 411, 412, 413, 415, 422, 428, 431]

# Each event is judged on its own, unknown members are passed over, and one
# good event makes the answer 202: a body may break the document and be taken.
[[operations]]
include-tag = "events"
checks.negative_data_rejection.enabled = false

[[operations]]
include-operation-id = "track"
checks.negative_data_rejection.enabled = false

# A list is written as lines here, which the operation takes.
[[operations]]
include-operation-id = "calculate"
checks.negative_data_rejection.enabled = false

# It sends members of `segment` under names that the document rules out.
[[operations]]
include-operation-id = "getResults"
checks.positive_data_acceptance.enabled = false

# Its form is that of its metaschema.
[[operations]]
include-operation-id = "getOpenApi"
checks.response_schema_conformance.enabled = false
"""


# One event per line, which schemathesis has no writer for.
HOOKS = """
import json
import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(context, value):
    events = value if isinstance(value, list) else [value]
    return "\\n".join(json.dumps(event) for event in events).encode()
"""


def schema(checks, directory):
    command = tool(checks)
    if command is None:
        return
    with Server(
        directory / "data", "--backup-dir", str(directory / "backups"), log="warn"
    ) as server:
        prepared = prepare(server, directory)
        document = server.get("/openapi.json").json()
        printed = json.loads(must(trialog("openapi")).out)
        checks.equal("`trialog openapi` prints what the server answers", printed, document)
        kept = json.loads((Path(__file__).parent.parent / "docs" / "openapi.json").read_text())
        checks.equal("docs/openapi.json is what the server answers", kept, document)
        finished = run(command, server, document, prepared, directory)
        report(checks, finished, document)
        checks.equal("the server still answers", server.get("/healthz").status, 200)
        log = server.stderr()
        checks.check("nothing has panicked", "panicked" not in log, log[-700:])
        checks.equal("the server ends in order", server.stop(), 0)
    verified = trialog("verify", data_dir=directory / "data")
    checks.check("the data is sound afterwards", verified.code == 0, repr(verified))


def tool(checks):
    """The schemathesis command; none where it cannot be had."""
    if os.environ.get("SCHEMATHESIS"):
        return os.environ["SCHEMATHESIS"]
    command = KEPT / "bin" / "schemathesis"
    if command.exists():
        return str(command)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(KEPT)], check=True, capture_output=True)
    pip = [str(KEPT / "bin" / "pip"), "install", "--quiet", "--retries", "1", "--timeout", "20"]
    installed = subprocess.run([*pip, f"schemathesis=={VERSION}"], capture_output=True, text=True)
    if installed.returncode == 0:
        return str(command)
    if re.search(r"No matching distribution|Connection|Temporary failure|Timeout|timed out", installed.stderr):
        checks.skip("the server does what the document says", f"schemathesis {VERSION} cannot be had from PyPI")
    else:
        checks.check("schemathesis is installed", False, installed.stderr[-700:])
    return None


def prepare(server, directory):
    """An experiment with results, and the key that requests are sent with."""
    document = server.get("/openapi.json").json()
    for path in ["/v1/experiments", "/v1/events/assignments", "/v1/events/metrics"]:
        content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        answer = server.post(path, content["example"])
        assert answer.status in (201, 202), answer
    server.post("/v1/experiments/checkout/start")
    server.run_now()
    created = server.post("/v1/keys", {"name": "schema", "scopes": ["admin"]})
    assert created.status == 201, created
    return created.json()["key"]


def closed(document):
    """The document with every object of an answer closed, and one way to send a
    key: requests carry one already, and two keys are refused."""
    for item in document["paths"].values():
        for operation in item.values():
            if "security" in operation:
                operation["security"] = [own for own in operation["security"] if "bearer" in own or not own]
    schemes = document["components"]["securitySchemes"]
    document["components"]["securitySchemes"] = {"bearer": schemes["bearer"]}
    sent = {"ExperimentDefinition", "ExperimentChange"}
    for name, component in document["components"]["schemas"].items():
        if name not in sent and name not in requests(document):
            close(component)
    for item in document["paths"].values():
        for operation in item.values():
            for response in operation["responses"].values():
                close(response)
    return document


def requests(document):
    """The schemas that requests are made of."""
    found, waiting = set(), []
    for item in document["paths"].values():
        waiting += [operation.get("requestBody", {}) for operation in item.values()]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            name = value.get("$ref", "").rsplit("/", 1)[-1]
            if name and name not in found:
                found.add(name)
                waiting.append(document["components"]["schemas"][name])
            waiting += value.values()
    return found


def close(value):
    if isinstance(value, list):
        for item in value:
            close(item)
    elif isinstance(value, dict):
        if isinstance(value.get("properties"), dict) and value.get("type") in ("object", ["object", "null"]):
            value.setdefault("additionalProperties", False)
        for item in value.values():
            close(item)


def run(command, server, document, key, directory):
    """Runs schemathesis over everything that is not excluded here."""
    config, file = directory / "schemathesis.toml", directory / "closed.json"
    config.write_text(CONFIG)
    (directory / "lines.py").write_text(HOOKS)
    file.write_text(json.dumps(closed(json.loads(json.dumps(document)))))
    arguments = [command, "--config-file", str(config), "run", str(file), "--url", server.url]
    arguments += ["--header", f"Authorization: Bearer {key}", "--seed", SEED]
    arguments += ["--max-time", str(SECONDS), "--continue-on-failure", "--no-color"]
    arguments += ["--generation-database", "none", "--output-truncate", "false", "--request-timeout", "60"]
    # Every call would write a copy of the data to the disk.
    arguments += ["--exclude-operation-id", "makeBackup"]
    # It could revoke the key that the requests are sent with.
    arguments += ["--exclude-operation-id", "revokeKey"]
    return subprocess.run(
        arguments, capture_output=True, text=True, cwd=directory, timeout=SECONDS * 3 + 240,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "lines", "PYTHONPATH": str(directory)},
    )


def report(checks, finished, document):
    summary = finished.stdout[finished.stdout.rfind("SUMMARY") :]
    for line in summary.splitlines():
        if line.strip() and not line.startswith("="):
            checks.note(line.strip())
    if finished.returncode not in (0, 1):
        checks.check("schemathesis runs", False, (finished.stdout + finished.stderr)[-700:])
        return
    n_operations = sum(len(item) for item in document["paths"].values())
    checks.note(f"{n_operations} operations in the document, two of them are not called")
    failures = [part for part in re.split(r"^_{3,} .* _{3,}$", finished.stdout, flags=re.M)[1:]]
    checks.check("the server does what the document says", finished.returncode == 0, "\n".join(failures) or finished.stdout[-700:])
    if finished.returncode:
        print(finished.stdout, file=sys.stderr)


if __name__ == "__main__":
    main(schema)
