"""Hostile names and texts, other users of the machine, and mistyped paths, as the binary
meets them.

Needs root for the parts about another user, who is `nobody`; they are skipped otherwise.
Ends within half a minute.
"""

import csv
import io
import json
import os
import shutil
import stat
import subprocess
import time

from harness import BINARY, Server, main, must, trialog

AT = "2026-01-05T12:00:00Z"
# What a terminal obeys, or nobody can see.
HOSTILE = ["\x1b", "\x07", "\x85", "\x9b", "\u202e", "\u2066", "\u200f", "\u2028", "\u200b", "\ufeff"]


def modes(checks, directory):
    data = directory / "data"
    environment = os.environ | {"TRIALOG_DATA_DIR": str(data)}
    rows = directory / "a.csv"
    rows.write_text("user_id,variant,assigned_at\n1,a,2026-01-01T00:00:00Z\n")
    os.chmod(rows, 0o644)
    commands = f"""umask 000
        {BINARY} keys create ops --scope admin
        {BINARY} import assignments {rows} --experiment e
        {BINARY} aggregate && {BINARY} backup {directory}/backups/one
        {BINARY} export assignments {directory}/out.csv"""
    subprocess.run(["sh", "-ec", commands], env=environment, check=True, capture_output=True)
    checks.equal("whatever the umask, nobody else reads the data, backups or exports", wide(data, directory / "backups", directory / "out.csv"), [])
    for path in [data, *data.rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)
    with Server(data) as server:
        checks.equal("a directory that was wider is served", server.get("/readyz").status, 200)
        checks.equal("what is wider is narrowed", wide(data), [])
        checks.check("and a line of the log says so", "now only its owner may" in server.stderr(), server.stderr())
        checks.equal("the server ends in order", server.stop(), 0)
    if os.geteuid() != 0 or not shutil.which("flock"):
        return checks.skip("another user's lock", "needs root and flock")
    foreign_lock(checks, directory, data)


def foreign_lock(checks, directory, data):
    """An open file survives the narrowing: `nobody` has LOCK from before."""
    for path in (directory, data):
        path.chmod(0o755)
    (data / "LOCK").chmod(0o644)
    command = ["setpriv", "--reuid=nobody", "--clear-groups", "flock", "-s", str(data / "LOCK"), "sleep", "60"]
    holder = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and subprocess.run(["flock", "-n", str(data / "LOCK"), "true"]).returncode == 0:
            time.sleep(0.05)
        with Server(data) as server:
            checks.equal("another user's lock does not stop the server", server.get("/readyz").status, 200)
            second = trialog("--listen", "127.0.0.1:0", "serve", data_dir=data)
            checks.check("which still keeps a second one away", second.code != 0 and "in use" in second.err, second)
    finally:
        holder.terminate()
        holder.wait()


def wide(*places):
    paths = [path for place in places for path in [place, *place.rglob("*")]]
    return [str(path) for path in paths if stat.S_IMODE(path.lstat().st_mode) & 0o077]


def texts(checks, directory):
    with Server(directory / "data", log="info") as server:
        taken = [server.post("/v1/events/assignments", assigned(1, f"e{letter}x", "a")).status for letter in HOSTILE]
        checks.equal("names with such characters are refused", taken, [422] * len(HOSTILE))
        text = "".join(HOSTILE) + "\nforged line"
        definition = {"experiment_id": "x", "hypothesis": text, "owner": text, "variants": [{"variant": "a"}, {"variant": "b"}]}
        checks.equal("free texts are taken", server.post("/v1/experiments", definition).status, 201)
        printed = [must(trialog("experiments", command, *rest, data_dir=directory / "data")) for command, *rest in (["list"], ["show", "x"])]
        printed.append(trialog("results", f"no{text}", data_dir=directory / "data"))
        printed.append(trialog("--log", text, "results", "x", data_dir=directory / "data"))
        raw = {letter for own in printed for letter in own.out + own.err if letter in HOSTILE}
        checks.equal("and no command prints them raw", raw, set())
        checks.equal("JSON is the same text after it", json.loads(printed[1].out)["hypothesis"], text)
        checks.check("a row of a table is a line", "\nforged" not in printed[0].out, printed[0])
        log_is_clean = not any(letter in server.stderr() for letter in HOSTILE)
        checks.check("nor does the log", log_is_clean, server.stderr()[-500:])


FORMULAS = ["=HYPERLINK(\"http://evil\")", "@SUM(1+1)", "+1+cmd", "-1+cmd", "'=1", "-42", "it's"]


def formulas(checks, directory):
    data = directory / "data"
    with Server(data) as server:
        events = [assigned(text, "e", "ab"[n % 2]) for n, text in enumerate(FORMULAS)]
        checks.equal("formulas are names like others", server.post("/v1/events/assignments", events).status, 202)
        server.run_now()
        safe, kept = (server.get(f"/v1/export/assignments?format=csv&formulas={how}").body.decode() for how in ("escaped", "kept"))
    ids = lambda text: sorted(row["user_id"] for row in csv.DictReader(io.StringIO(text)))
    live = [own for own in ids(safe) if own[0] in "=+@\t" or (own[0] == "-" and own != "-42")]
    checks.equal("no cell of an export is computed", live, [])
    checks.check("numbers stay numbers", "-42" in ids(safe), ids(safe))
    checks.equal("unless that is switched off", ids(kept), sorted(FORMULAS))
    for name, content, option in (("safe", safe, "escaped"), ("kept", kept, "kept")):
        (directory / f"{name}.csv").write_text(content)
        must(trialog("import", "assignments", str(directory / f"{name}.csv"), "--formulas", option, data_dir=directory / name))
        must(trialog("export", "assignments", str(directory / f"{name}-again.csv"), "--formulas", option, data_dir=directory / name))
        checks.equal(f"an export ({option}) that is imported gives the same events", (directory / f"{name}-again.csv").read_text(), content)
    must(trialog("export", "assignments", str(directory / "x.parquet"), data_dir=data))
    must(trialog("import", "assignments", str(directory / "x.parquet"), data_dir=directory / "columnar"))
    must(trialog("export", "assignments", str(directory / "columnar.csv"), data_dir=directory / "columnar"))
    checks.equal("and so does one in Parquet, without a context too", (directory / "columnar.csv").read_text(), safe)


def assigned(user, experiment, variant):
    return {"user_id": user, "experiment_id": experiment, "variant": variant, "assigned_at": AT}


def documents(checks, directory):
    with Server(directory / "data") as server:
        nested = "[" * 123 + "]" * 123
        deep = '{"experiment_id":"d","variants":[{"variant":"a","value":%s},{"variant":"b"}]}' % nested
        private = '{"experiment_id":"m","variants":[{"variant":"a","value":{"$serde_json::private::RawValue":"[1]"}}]}'
        context = '[{"user_id":1,"experiment_id":"e","variant":"a","assigned_at":"%s","context":{"a":%s}}]' % (AT, nested)
        half = '[{"user_id":"\\ud800","experiment_id":"e","variant":"a","assigned_at":"%s"}]' % AT
        for what, path, body, expected in (
            ("a value nested 123 levels deep", "/v1/experiments", deep, 400),
            ("a key of the JSON library", "/v1/experiments", private, 400),
            ("a context that is nested as deep", "/v1/events/assignments", context, 422),
            ("half a character", "/v1/events/assignments", half, 422),
            ("a context in OFREP", "/ofrep/v1/evaluate/flags", '{"context":{"targetingKey":"u","a":%s}}' % nested, 400),
            ("half a character for assign", "/v1/assign", '{"user_id":"\\ud800"}', 400),
        ):
            checks.equal(f"{what} is refused", server.post(path, body.encode()).status, expected)
        for n, weights in enumerate(([1e308, 1e308], [5e-324, 5e-324])):
            variants = [{"variant": f"v{at}", "weight": weight} for at, weight in enumerate(weights)]
            answer = server.post("/v1/experiments", {"experiment_id": f"w{n}", "variants": variants})
            checks.equal(f"weights {weights} are refused", answer.status, 422)
        name = "tlk_" + "a" * 40
        server.post("/v1/experiments", {"experiment_id": name, "variants": [{"variant": "a"}]})
        checks.equal("an experiment named like a key is addressed", server.get(f"/v1/experiments/{name}").status, 200)
        checks.equal("and so is a user", server.request("DELETE", f"/v1/users/{name}").status, 200)
        checks.equal("the list stays readable", must(trialog("experiments", "list", data_dir=directory / "data")).code, 0)


def secrets(checks, directory):
    config = directory / "trialog.toml"
    config.write_text('interval = "1h"\nkey = tlk_ab_s3cret\n')
    said = [trialog("--config", str(config), "results", "x"), trialog("--config", str(config), "check")]
    server = "http://mia:s3cret@127.0.0.1:1"
    said += [trialog("--server", server, *command) for command in (["results", "x"], ["check"], ["verify"], ["export", "metrics", str(directory / "x.csv")])]
    shown = [own for own in said if "s3cret" in own.out + own.err]
    checks.equal("no message shows the secret of a setting or an address", shown, [])


def paths(checks, directory):
    missing = directory / "mistyped"
    commands = [["results", "x"], ["experiments", "list"], ["experiments", "show", "x"], ["pipeline"], ["keys", "list"]]
    commands += [["metrics", "list"], ["layers", "list"], ["holdouts", "list"], ["assign", "1"], ["verify"]]
    commands += [["forget", "1"], ["retention", "apply", "--dry-run"], ["backup", str(directory / "b")], ["export", "metrics", str(directory / "m.csv")]]
    for command in commands:
        finished = trialog(*command, data_dir=missing)
        good = finished.code != 0 and str(missing) in finished.err and not missing.exists()
        checks.check(f"{command[0]} of a mistyped path names it and creates nothing", good, finished)
        missing.exists() and shutil.rmtree(missing)
    declared = directory / "x.json"
    declared.write_text('{"experiment_id":"x","variants":[{"variant":"a"}]}')
    finished = trialog("experiments", "diff", str(declared), data_dir=missing)
    good = finished.code == 1 and str(missing) in finished.err and not missing.exists()
    checks.check("a comparison with it says that everything is new, and creates nothing", good, finished)
    must(trialog("keys", "create", "ops", "--scope", "admin", data_dir=directory / "data"))
    must(trialog("backup", str(directory / "backup"), data_dir=directory / "data"))
    must(trialog("restore", str(directory / "backup"), data_dir=missing))
    checks.check("a restore takes the path afterwards", (missing / "catalog.sqlite").exists())


if __name__ == "__main__":
    main(modes, texts, formulas, documents, secrets, paths)
