"""The registry from files, as a git repository keeps them: apply, diff, list, archive; decisions, resuming, deleting."""

import json

from harness import Server, main, must, trialog

GATE = {
    "experiment_id": "gate",
    "owner": "games",
    "hypothesis": "A later gate keeps players",
    "variants": [{"variant": "a"}, {"variant": "b"}],
    "metrics": {"primary": ["revenue"]},
}
REVENUE = {"name": "revenue", "kind": "sum", "event_type": "purchase", "window": "14d"}


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def in_a_directory(checks, directory):
    """Without a server: the commands have the data directory itself."""
    files_are_applied(checks, directory, data_dir=directory / "data")
    audit = json.loads(must(trialog("experiments", "list", "--format", "json", "--status", "archived", data_dir=directory / "data")).out)
    checks.equal("the archived experiment is listed when asked for", [own["experiment_id"] for own in audit], ["gate"])


def through_a_server(checks, directory):
    with Server(directory / "data") as server:
        files_are_applied(checks, directory, data_dir=directory / "data")
        actors = {entry["actor"] for entry in server.get("/v1/audit").json()["entries"]}
        checks.equal("the audit trail says who", actors, {"local"})


def files_are_applied(checks, directory, data_dir):
    files = directory / "files"
    write(files / "games/gate.json", GATE)
    write(files / "metrics.json", {"metrics": [REVENUE]})
    (files / ".git").mkdir(exist_ok=True)
    (files / ".git/broken.json").write_text("{")

    def run(*arguments):
        return trialog(*arguments, data_dir=data_dir)

    new = run("experiments", "diff", files)
    checks.check("diff: exit code 1, names what is new", new.code == 1 and "metric `revenue` is new" in new.out and "experiment `gate` is new" in new.out, new)
    must(run("experiments", "apply", files, "--dry-run"))
    listed = run("experiments", "list", "--format", "json")
    is_empty = json.loads(listed.out) == [] if listed.code == 0 else not data_dir.exists() and str(data_dir) in listed.err
    checks.check("a dry run applies nothing, and creates no directory", is_empty, listed)
    applied = must(run("experiments", "apply", files))
    checks.equal("apply: metrics first", applied.out.splitlines(), ["registered `revenue`", "registered `gate`"])
    checks.equal("diff: exit code 0 when nothing differs", (run("experiments", "diff", files).code, run("experiments", "diff", files).out), (0, ""))
    checks.check("metrics list shows the definition", "purchase" in must(run("metrics", "list")).out)

    write(files / "games/gate.json", {**GATE, "owner": None, "hypothesis": "other"})
    differs = run("experiments", "diff", files, "--format", "json")
    gate = next(own for own in json.loads(differs.out) if own["name"] == "gate")
    checks.equal("diff: the fields that differ", (differs.code, gate["from"]["owner"], gate["to"]), (1, "games", {"hypothesis": "other", "owner": None}))
    must(run("experiments", "apply", files))
    shown = json.loads(must(run("experiments", "show", "gate")).out)
    checks.equal("apply: a field left out has its default", (shown["owner"], shown["hypothesis"]), (None, "other"))

    must(run("experiments", "start", "gate"))
    write(files / "metrics.json", {"metrics": [{**REVENUE, "window": "1d"}]})
    write(files / "games/gate.json", {**GATE, "salt": "another"})
    refused = run("experiments", "apply", files)
    checks.check("apply: a frozen field is refused and named", refused.code == 1 and "salt" in refused.err and "gate" in refused.err, refused)
    checks.equal("and nothing before it is applied", json.loads(must(run("metrics", "show", "revenue")).out)["window"], "14d")
    checks.equal("diff: exit code 2 when it cannot be compared", run("experiments", "diff", files / "none.json").code, 2)

    write(files / "games/gate.json", {**GATE, "alpha": 0.1, "owner": None, "hypothesis": "other"})
    refused = run("experiments", "apply", files / "games")
    checks.check("apply: what results are tested with is locked after the start", refused.code == 1 and "alpha" in refused.err and "--confirm" in refused.err, refused)
    locked = run("experiments", "apply", files / "metrics.json")
    checks.check("apply: so is the definition of a primary metric", locked.code == 1 and "revenue.window" in locked.err and "gate" in locked.err, locked)
    must(run("experiments", "apply", files, "--confirm"))
    checks.equal("apply --confirm changes both", json.loads(must(run("experiments", "show", "gate")).out)["alpha"], 0.1)
    must(run("aggregate"))
    results = json.loads(must(run("results", "gate", "--format", "json")).out)
    checks.equal("results say what was changed", results["sequence"]["breaks"][0]["fields"], ["alpha", "revenue.window"])
    checks.check("results: it is an error until somebody confirms it", "error: alpha, revenue.window changed" in must(run("results", "gate")).out)
    must(run("experiments", "confirm", "gate"))
    checks.check("confirm: a second time there is nothing to confirm", run("experiments", "confirm", "gate").code == 1)
    checks.check("archive: a running one is refused with the mend", "stop it first" in run("experiments", "archive", "gate").err)
    found = must(run("experiments", "list", "--search", "OTHER ga", "--format", "json")).out
    checks.equal("list --search finds words in any case", [own["experiment_id"] for own in json.loads(found)], ["gate"])
    must(run("experiments", "stop", "gate"))
    checks.check("archive: says so", "`gate` is archived" in must(run("experiments", "archive", "gate")).out)
    checks.equal("an archived one is left out of the list", json.loads(must(run("experiments", "list", "--format", "json")).out), [])


def layers_and_holdouts(checks, directory):
    """Layers, holdouts and assignment from the command line, without a server and beside one."""
    data = directory / "data"

    def run(*arguments):
        return trialog(*arguments, data_dir=data)

    one = {"experiment_id": "one", "layer": "page", "allocation": 0.6, "variants": [{"variant": "a"}, {"variant": "b"}],
           "forced": [{"user_id": "qa", "variant": "b"}]}
    write(directory / "one.json", one)
    refused = run("experiments", "apply", directory / "one.json")
    checks.check("an experiment of a layer that is not there: the message says what to do", refused.code == 1 and "/v1/layers" in refused.err, refused)
    must(run("layers", "create", "page", "--owner", "shop"))
    must(run("experiments", "apply", directory / "one.json"))
    checks.equal("diff: nothing differs", run("experiments", "diff", directory / "one.json").code, 0)
    write(directory / "two.json", {**one, "experiment_id": "two", "allocation": 0.5, "forced": []})
    full = run("experiments", "apply", directory / "two.json")
    checks.check("one that does not fit: the free buckets are named", full.code == 1 and "6000 to below 10000" in full.err, full)
    shown = json.loads(must(run("layers", "show", "page")).out)
    checks.equal("layers show: what is free", (shown["free"], shown["free_share"]), ([[6000, 10000]], 0.4))
    must(run("experiments", "start", "one"))
    must(run("holdouts", "create", "q3", "--size", "0.3", "--metric", "purchase:sum"))
    started = must(run("holdouts", "start", "q3"))
    checks.check("holdouts start: warns of what runs", "`one` runs already" in started.err, started)
    for user in ("qa", "1", "2", "3"):
        alone = json.loads(must(run("assign", user, "one", "--why", "--format", "json")).out)
        with Server(data) as server:
            beside = server.post("/v1/assign", {"user_id": user, "experiment_id": "one", "why": True}).json()
        checks.equal(f"assign {user}: the same with and without a server", alone, beside)
    checks.check("a forced user", "`b`" in must(run("assign", "qa", "one", "--why")).out)
    write(directory / "one.json", {name: value for name, value in one.items() if name != "forced"})
    must(run("experiments", "apply", directory / "one.json"))
    checks.equal("apply: without `forced` nobody is", json.loads(must(run("experiments", "show", "one")).out)["forced"], [])
    must(run("holdouts", "stop", "q3"))
    checks.check("holdouts list", "stopped" in must(run("holdouts", "list")).out)


def decided_resumed_and_deleted(checks, directory):
    """The end of an experiment: without a server, and what SDKs see beside one."""
    data = directory / "data"

    def run(*arguments):
        return trialog(*arguments, data_dir=data)

    def decision_of(user):
        return json.loads(must(run("assign", user, "gate", "--format", "json")).out)

    write(directory / "gate.json", {**GATE, "metrics": {}, "allocation": 0.5})
    must(run("experiments", "apply", directory / "gate.json"))
    deleted = must(run("experiments", "delete", "gate"))
    checks.check("delete: a draft is gone", "`gate`, which was draft, is deleted" in deleted.out, deleted)
    checks.check("and is not found any more", run("experiments", "show", "gate").code == 1)
    must(run("experiments", "apply", directory / "gate.json"))
    must(run("experiments", "start", "gate"))
    running = run("decide", "gate", "--ship", "b", "--reason", "x")
    checks.check("decide: a running one is refused with the mend", running.code == 1 and "trialog experiments stop" in running.err, running)
    before = {user: decision_of(user) for user in ("1", "2", "3", "4")}
    must(run("experiments", "stop", "gate"))
    checks.equal("stop: nobody gets a variant", decision_of("1")["decision"], "not_running")
    results = must(run("results", "gate"))
    checks.check("results: say what to do with a stopped one", "trialog decide gate --ship" in results.out, results)
    must(run("experiments", "resume", "gate"))
    checks.equal("resume: everybody is where they were", {user: decision_of(user) for user in before}, before)
    paused = must(run("results", "gate"))
    checks.check("results: warn of the pause", "saw the control between" in paused.out, paused)
    refused = run("experiments", "delete", "gate")
    checks.check("delete: what was started is refused with the mend", refused.code == 1 and "archive it" in refused.err, refused)
    must(run("experiments", "stop", "gate"))
    checks.equal("decide: either a variant or none", run("decide", "gate", "--reason", "x").code, 2)
    unknown = run("decide", "gate", "--ship", "c", "--reason", "x")
    checks.check("decide: an unknown variant is refused with those that there are", "there are `a`, `b`" in unknown.err, unknown)
    shipped = must(run("decide", "gate", "--ship", "b", "--reason", "sells more"))
    checks.check("decide: says what happens", "everybody gets it until" in shipped.out, shipped)
    checks.equal("a shipped variant goes to everybody", {(own["decision"], own["variant"]) for own in map(decision_of, before)}, {("shipped", "b")})
    checks.check("list: shows what is shipped", "stopped, ships b" in must(run("experiments", "list")).out)
    checks.check("results: show the decision", "decision: ship `b` (local" in must(run("results", "gate")).out)
    checks.check("resume: not after a decision", "a decision about it is recorded" in run("experiments", "resume", "gate").err)
    with Server(data) as server:
        configuration = server.get("/v1/sdk/config").json()
        checks.equal("the configuration has it apart from what runs", (configuration["experiments"], configuration["shipped"][0]["ship"]), ([], "b"))
        logged = server.post("/v1/assign", {"user_id": "9", "experiment_id": "gate", "log_exposure": True}).json()
        checks.equal("no exposure is logged", (logged["variant"], logged["exposure_logged"]), ("b", False))
        page = server.get("/experiments/gate").body.decode()
        checks.check("the page shows the decision", "ship `b`: sells more" in page)
    must(run("decide", "gate", "--none", "--reason", "too slow after all"))
    checks.equal("decide again: nothing is shipped", decision_of("1")["decision"], "not_running")
    must(run("decide", "gate", "--ship", "b", "--reason", "mended"))
    must(run("experiments", "archive", "gate"))
    checks.equal("archive: the variant is shipped no more", decision_of("1")["decision"], "not_running")
    checks.check("and the decision stays known", "stopped" not in must(run("experiments", "list", "--status", "archived")).out and "shipped b" in must(run("experiments", "list", "--status", "archived")).out)


main(in_a_directory, through_a_server, layers_and_holdouts, decided_resumed_and_deleted)
