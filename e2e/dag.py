"""The Airflow DAG, imported with Airflow and its task run against a cluster."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import packages
from cluster import Cluster, Stream, running
from harness import BINARY, CHECKOUT, Checks, poll

HERE = Path(__file__).resolve().parent

# Imports the file as a scheduler does, then runs the task and prints what it pushed.
RUN = """
import json, sys
from airflow.dag_processing.dagbag import DagBag

bag = DagBag(sys.argv[1], include_examples=False) if "include_examples" in DagBag.__init__.__code__.co_varnames else DagBag(sys.argv[1])
if bag.import_errors:
    sys.exit(f"import errors: {bag.import_errors}")
dag = bag.dags["trialog_aggregate"]
task = dag.get_task("aggregate")
print(json.dumps({"schedule": str(dag.schedule), "tasks": dag.task_ids, "retries": task.retries}))
if sys.argv[2] == "run":
    answer = task.execute(context={})
    print(json.dumps({"answer": answer}))
"""


def airflow(interpreter, home, action, **environment):
    own = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "TRIALOG_BIN": BINARY,
        **environment,
    }
    command = [interpreter, "-c", RUN, CHECKOUT / "deploy" / "airflow" / "trialog_aggregate.py", action]
    return subprocess.run(command, env=own, capture_output=True, text=True, timeout=300)


def last_json(text):
    return json.loads([line for line in text.splitlines() if line.startswith("{")][-1])


def dag(checks, up):
    interpreter = packages.python(HERE / "airflow" / "requirements.txt")
    with tempfile.TemporaryDirectory(prefix="airflow-") as home, Cluster(up) as cluster:
        imported = airflow(interpreter, home, "import")
        good = checks.check("Airflow imports the DAG without an error", imported.returncode == 0, imported.stderr[-1500:])
        if not good:
            return
        found = last_json(imported.stdout)
        checks.equal("with its one task, every hour, tried again", (found["tasks"], found["schedule"], found["retries"]), (["aggregate"], "5 * * * *", 3))
        api, _ = cluster.start("api"), cluster.start("consumer")
        Stream(6, n_batches=8).send_all(api.url).join(60)
        poll("everything in Kafka is stored", cluster.is_stored, 60)
        environment = {**cluster.environment, "TRIALOG_DATA_DIR": f"{home}/none"}
        ran = airflow(interpreter, home, "run", **environment)
        checks.check("its task runs and publishes", ran.returncode == 0, ran.stderr[-1500:])
        answer = last_json(ran.stdout)["answer"]
        report = answer if isinstance(answer, dict) else json.loads(answer)
        checks.check("its result is the run's report", report["experiments"] >= 7 and report["failed"] == [], report)
        checks.equal("which the API shows", api.get("/v1/pipeline").json()["published"]["run_id"], report["run_id"])
        broken = airflow(interpreter, home, "run", **{**environment, "TRIALOG_CATALOG": "postgres://127.0.0.1:1/none"})
        checks.check("a run that fails is a task that fails", broken.returncode != 0 and "catalog" in broken.stdout + broken.stderr, broken.stdout[-500:] + broken.stderr[-1500:])


def compose(checks):
    """The compose file names settings and roles that there are."""
    text = (CHECKOUT / "deploy" / "compose.yaml").read_text()
    listed = json.loads(subprocess.run([BINARY, "check", "--format", "json"], capture_output=True, text=True).stdout)
    known = {"TRIALOG_" + own["key"].upper() for own in listed["settings"]}
    named = {word.strip(" {}:,") for word in text.replace("{", " ").split() if word.strip(" {}:,").startswith("TRIALOG_")}
    checks.check("every variable in the compose file is a setting", named and named <= known, sorted(named - known))
    for role in ("api", "consumer", "aggregator"):
        checks.equal(f"there are two of the role {role}", sum(text.count(f"\n  {role}-{number}:") for number in (1, 2)), 2)
    for command in (["topics", "create", "--partitions", "12", "--replication", "1"], ["serve", "--listen", "0.0.0.0:8080", "--insecure-http"], ["keys", "create", "first", "--scope", "admin"]):
        done = subprocess.run([BINARY, *command, "--help"], capture_output=True, text=True)
        checks.check(f"`trialog {' '.join(command)}` is a command", done.returncode == 0, done.stderr)
        shown = all(part in text for part in command)
        checks.check("and stands in the compose file", shown, command)


def main():
    checks = Checks()
    compose(checks)
    with running(checks) as up:
        if up is not None:
            checks.attempt(dag, up)
    sys.exit(1 if checks.failed else 0)


if __name__ == "__main__":
    main()
