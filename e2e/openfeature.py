"""OpenFeature's published clients against the running server: Node's, browsers', Python's, Go's and Java's.

What each of them resolves is compared with `POST /v1/assign`, for flags of every type of
value, for units that get no variant, and for every failure of the protocol. Where nothing
failed a client logs nothing, whether an experiment runs, was stopped or ships a variant.
"""

import json
import re
import subprocess
from collections import Counter
from pathlib import Path

import packages
from harness import CHECKOUT, Client, Server, main, must, trialog

CLIENTS = Path(__file__).resolve().parent / "clients"
KINDS = {
    "colour": ("string", "none", [{"variant": "red"}, {"variant": "blue"}]),
    "new-page": ("boolean", None, [{"variant": "off", "value": False}, {"variant": "on", "value": True}]),
    "limit": ("number", -1.5, [{"variant": "low", "value": 2.5}, {"variant": "high", "value": 7.25}]),
    "layout": ("object", {"none": True}, [{"variant": "a", "value": {"columns": 2}}, {"variant": "b", "value": {"columns": 3}}]),
}
DEFAULTS = {"boolean": False}


def run(command, question):
    """What a client answers, and what it wrote to its standard error."""
    done = subprocess.run([str(part) for part in command], input=json.dumps(question), capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stdout[-500:]} {done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1]), done.stderr


def ask(command, question):
    return run(command, question)[0]


def register(client, key, **definition):
    definition = {"experiment_id": key, **definition}
    for path, body in ((("/v1/experiments"), definition), (f"/v1/experiments/{key}/start", None)):
        answer = client.post(path, body)
        if answer.status not in (200, 201):
            raise RuntimeError(repr(answer))


def flags(client):
    for key, (_, _, variants) in KINDS.items():
        register(client, key, variants=variants)
    register(client, "ios-only", variants=[{"variant": "a"}], targeting=[{"key": "platform", "op": "eq", "value": "ios"}])
    register(client, "over", variants=[{"variant": "a"}])
    client.post("/v1/experiments/over/stop")


def expected(client, key, context):
    asked = {"user_id": context["targetingKey"], "experiment_id": key, "context": context}
    answer = client.post("/v1/assign", asked).json()
    return answer["value"], answer["variant"]


def questions():
    """Every flag for some units."""
    return [
        [kind, key, DEFAULTS.get(kind, default), {"targetingKey": f"unit-{unit}", "platform": "web"}]
        for unit in range(20)
        for key, (kind, default, _) in KINDS.items()
    ]


# What no client resolves: a question, the error code and the decision behind it.
FAILURES = [
    (["string", "no-such-flag", "default", {"targetingKey": "1"}], "FLAG_NOT_FOUND"),
    (["string", "colour", "default", {"platform": "web"}], "TARGETING_KEY_MISSING"),
    (["boolean", "colour", False, {"targetingKey": "1"}], "TYPE_MISMATCH"),
]
# The control's value, under the name of the decision.
WITHOUT_A_VARIANT = [
    (["string", "ios-only", "default", {"targetingKey": "1", "platform": "web"}], "not_targeted", "DEFAULT"),
    (["string", "over", "default", {"targetingKey": "1"}], "not_running", "DISABLED"),
]
# The client that calls every 400 an invalid context.
OTHER_CODES = {"dev.openfeature:sdk": {"TARGETING_KEY_MISSING": "INVALID_CONTEXT"}}
# The clients that take the default of the code wherever the reason is DISABLED.
DEFAULT_WHERE_DISABLED = {"go-sdk"}


def dynamic(checks, name, client, answer):
    """A client that asks the server for every evaluation."""
    asked = questions()
    told = answer(asked)
    wrong = [(question, own) for question, own in zip(asked, told)
             if (own["value"], own["variant"]) != expected(client, question[1], question[3])]
    checks.check(f"{name}: {len(asked)} evaluations of four types are those of /v1/assign", not wrong, wrong[:2])
    checks.check(f"{name}: the reason is SPLIT", all(reason(own) == "SPLIT" for own in told), told[0])
    key = "flagMetadata" if "flagMetadata" in told[0] else "flag_metadata"
    checks.equal(f"{name}: the metadata says whom it is about", told[0][key]["contextId"], "unit-0")
    told = answer([question for question, _ in FAILURES])
    codes = [own.get("errorCode") or own.get("error_code") for own in told]
    codes = [str(code).removeprefix("ErrorCode.") for code in codes]
    others = OTHER_CODES.get(name, {})
    checks.equal(f"{name}: failures have their codes", codes, [others.get(code, code) for _, code in FAILURES])
    checks.equal(f"{name}: a failure gives the default", [own["value"] for own in told], ["default", "default", False])
    told = answer([question for question, _, _ in WITHOUT_A_VARIANT])
    values = ["a", "default" if name in DEFAULT_WHERE_DISABLED else "a"]
    checks.equal(f"{name}: without a variant it has the control's value", [own["value"] for own in told], values)
    checks.equal(f"{name}: and the decision in place of the variant", [(own["variant"], reason(own)) for own in told],
                 [(decision, why) for _, decision, why in WITHOUT_A_VARIANT])


def reason(details):
    return str(details["reason"]).removeprefix("Reason.")


def commands(checks):
    """Every server-side client that can be had here, by name."""
    place = packages.npm(CLIENTS)
    if place is None:
        checks.skip("@openfeature/server-sdk", "npm is not installed")
    else:
        yield "@openfeature/server-sdk", ["node", place / "server.mjs"]
    yield "openfeature-provider-ofrep", [packages.python(CLIENTS / "requirements.txt"), CLIENTS / "remote.py"]
    program = packages.go(CLIENTS / "go")
    if program is None:
        checks.skip("go-sdk", "go is not installed")
    else:
        yield "go-sdk", [program]
    classes = packages.java(CLIENTS / "java")
    if classes is None:
        checks.skip("dev.openfeature:sdk", "java or mvn is not installed")
    else:
        yield "dev.openfeature:sdk", ["java", "-cp", classes, "Remote"]


def server_side(checks, scratch):
    for name, command in commands(checks):
        with Server(scratch / name.replace("/", "-")) as server:
            flags(server)
            evaluate = lambda asked, headers=(): ask(command, {"url": server.url, "headers": list(headers), "asked": asked})
            dynamic(checks, name, server, evaluate)
            evaluate([["string", "colour", "none", {"targetingKey": "7", "platform": "web"}]], [["Trialog-Exposure", "log"]])
            server.run_now()
            users = sum(own["users"] for own in server.results("colour")["variants"])
            checks.equal(f"{name}: an evaluation is an exposure where its header says so", users, 1)


def web(checks, scratch):
    place = packages.npm(CLIENTS)
    if place is None:
        return checks.skip("@openfeature/web-sdk", "npm is not installed")
    with Server(scratch / "data") as server:
        flags(server)
        browser(checks, place, server)


def browser(checks, place, server):
    """A client that asks for everything once, and again when the context changes."""
    context = {"targetingKey": "42", "platform": "ios"}
    asked = [[kind, key, DEFAULTS.get(kind, default)] for key, (kind, default, _) in KINDS.items()]
    asked += [["string", "ios-only", "default"], ["string", "no such flag", "default"], ["string", "over", "default"]]
    question = {"url": server.url, "headers": [], "context": context, "next": {**context, "platform": "web"}, "asked": asked}
    told = ask(["node", place / "web.mjs"], question)
    if not checks.check("@openfeature/web-sdk: the provider is ready", "first" in told, told):
        return
    wrong = [(own, detail) for own, detail in zip(asked[:5], told["first"])
             if (detail["value"], detail["variant"]) != expected(server, own[1], context)]
    checks.check("@openfeature/web-sdk: every flag is that of /v1/assign", not wrong, wrong)
    checks.equal("@openfeature/web-sdk: a flag that is not there", told["first"][5]["errorCode"], "FLAG_NOT_FOUND")
    checks.equal("@openfeature/web-sdk: another context is another answer", [own[4]["variant"] for own in (told["first"], told["next"])], ["a", "not_targeted"])
    checks.equal("@openfeature/web-sdk: what was stopped has the control's value", [told["first"][6][field] for field in ("value", "variant", "reason")], ["a", "not_running", "DISABLED"])
    checks.equal("@openfeature/web-sdk: the same context is a 304", told["statuses"], [200, 304, 200])
    checks.equal("@openfeature/web-sdk: which changes nothing", told["same"], told["first"])


N_UNITS = 1_000
# Each gives half of the units no variant, for a reason of its own: the kind, the default of
# the code, which no variant has, the control's name and value, and what else defines it.
QUIET = {
    "enrolled": ("string", "default", ("old", "old"), {
        "variants": [{"variant": "new"}, {"variant": "old"}], "control": "old", "allocation": 0.5}),
    "targeted": ("number", -1.0, ("off", 0.25), {
        "variants": [{"variant": "off", "value": 0.25}, {"variant": "on", "value": 0.75}],
        "targeting": [{"key": "platform", "op": "eq", "value": "ios"}]}),
    "in-scope": ("object", {"columns": 0}, ("two", {"columns": 2}), {
        "variants": [{"variant": "two", "value": {"columns": 2}}, {"variant": "three", "value": {"columns": 3}}]}),
}
SHIPPED = {"enrolled": "new", "targeted": "on", "in-scope": "three"}
NO_VARIANT = ("not_enrolled", "held_out", "not_targeted", "not_running")


def contexts():
    return [{"targetingKey": f"unit-{unit}", "platform": "ios" if unit % 2 else "web"} for unit in range(N_UNITS)]


def decided(client):
    """The decision and the variant of every unit in each of the experiments, as `/v1/assign` says."""
    keep = Client(client.url, keep=True)
    answers = {}
    for context in contexts():
        body = {"user_id": context["targetingKey"], "experiment_ids": list(QUIET), "context": context}
        for own in keep.post("/v1/assign", body).json()["assignments"]:
            answers[own["experiment_id"], context["targetingKey"]] = own
    return answers


def right(name, key, own):
    """What a client has to make of a decision: value, variant and reason."""
    _, default, (_, control), _ = QUIET[key]
    if own["variant"] is not None:
        return own["value"], own["variant"], "STATIC" if own["decision"] == "shipped" else "SPLIT"
    if own["decision"] == "not_running":
        return default if name in DEFAULT_WHERE_DISABLED else control, "not_running", "DISABLED"
    return control, own["decision"], "DEFAULT"


def evaluated(checks, name, phase, server, command, headers):
    """Lets a client evaluate every flag for every unit; gives what it said and what is right."""
    asked = [[QUIET[key][0], key, QUIET[key][1], context] for context in contexts() for key in QUIET]
    told, errors = run(command, {"url": server.url, "headers": headers, "asked": asked})
    decisions = decided(server)
    by_unit = [(key, context["targetingKey"]) for _, key, _, context in asked]
    wrong = [(place, own) for place, own in zip(by_unit, told)
             if (own["value"], own["variant"], reason(own)) != right(name, place[0], decisions[place])
             or own.get("errorCode") or own.get("error_code")]
    checks.check(f"{name}, {phase}: {len(asked)} decisions are right", not wrong, [len(wrong), *wrong[:2]])
    checks.equal(f"{name}, {phase}: nothing is on the standard error", errors, "")
    return dict(zip(by_unit, told)), decisions


def expected_users(decisions):
    """How many units each experiment has to count, by variant."""
    return Counter((key, own["variant"]) for (key, _), own in decisions.items() if own["decision"] == "assigned")


def counted(server):
    server.run_now()
    users, left_out = Counter(), 0
    for key in QUIET:
        report = server.results(key)
        users.update({(key, own["variant"]): own["users"] for own in report["variants"] if own["users"]})
        left_out += report["health"]["crossovers"]
    return users, left_out


def stay_quiet(checks, name, server, command, logs):
    """Half of the units have a variant, then nobody, then everybody: no decision is wrong and nothing is logged."""
    server.post("/v1/holdouts", {"name": "half", "size": 0.5, "experiments": ["in-scope"]})
    server.post("/v1/holdouts/half/start")
    for key, (_, _, _, more) in QUIET.items():
        register(server, key, **more)
    headers = [["Trialog-Exposure", "log"]] if logs else []
    told, decisions = evaluated(checks, name, "running", server, command, headers)
    exposed = expected_users(decisions)
    for key in QUIET:
        n_without = sum(own["decision"] in NO_VARIANT for (own_key, _), own in decisions.items() if own_key == key)
        checks.check(f"{name}: about half of the units have no variant of `{key}`", 400 < n_without < 600, n_without)
    if logs:
        checks.equal(f"{name}, running: exposures are those of units with a variant", counted(server), (exposed, 0))
    # A hook that logs whatever variant it is told, also of those units that get one later.
    events = [{"experiment_id": key, "user_id": unit, "variant": own["variant"], "timestamp": "2026-01-01T00:00:00Z"}
              for (key, unit), own in told.items() if own["variant"] in NO_VARIANT]
    events += [{"experiment_id": key, "user_id": unit, "variant": own["variant"]}
               for (key, unit), own in told.items()]
    answer = server.post("/v1/events/assignments", events)
    checks.equal(f"{name}: the events of such a hook are taken", answer.json()["accepted"], len(events))
    checks.equal(f"{name}: and none is an exposure of a unit without a variant", counted(server), (exposed, 0))
    for key in QUIET:
        server.post(f"/v1/experiments/{key}/stop")
    evaluated(checks, name, "stopped", server, command, headers)
    checks.equal(f"{name}, stopped: nothing is an exposure", counted(server), (exposed, 0))
    for key in QUIET:
        must(trialog("decide", key, "--ship", SHIPPED[key], "--reason", "it sells more", "--server", server.url))
    _, decisions = evaluated(checks, name, "shipped", server, command, headers)
    checks.equal(f"{name}, shipped: nobody is left out but by holdout and targeting",
                 {(key, own["decision"]) for (key, _), own in decisions.items()},
                 {("enrolled", "shipped"), ("targeted", "shipped"), ("targeted", "not_targeted"), ("in-scope", "shipped"), ("in-scope", "held_out")})
    checks.equal(f"{name}, shipped: nothing is an exposure", counted(server), (exposed, 0))


def quiet(checks, scratch):
    clients = [(name, command, True) for name, command in commands(checks)]
    place = packages.npm(CLIENTS)
    if place is not None:
        clients.append(("@openfeature/web-sdk", ["node", place / "units.mjs"], False))
    for name, command, logs in clients:
        with Server(scratch / name.replace("/", "-")) as server:
            stay_quiet(checks, name, server, command, logs)


def omitted(checks, scratch):
    """The setting that leaves value and variant out: the default of the code holds."""
    with Server(scratch / "data", "--openfeature-no-variant", "omit") as server:
        flags(server)
        for (_, key, _, context), decision, why in WITHOUT_A_VARIANT:
            answer = server.post(f"/ofrep/v1/evaluate/flags/{key}", {"context": context}).json()
            checks.equal(f"omit: {decision} has neither value nor variant",
                         (answer["reason"], answer["metadata"]["decision"], "value" in answer, "variant" in answer),
                         (why, decision, False, False))
        place = packages.npm(CLIENTS)
        if place is not None:
            told = ask(["node", place / "server.mjs"], {"url": server.url, "headers": [], "asked": [question for question, _, _ in WITHOUT_A_VARIANT]})
            checks.equal("omit: the default of the code holds", [own["value"] for own in told], ["default"] * 2)
        command = [packages.python(CLIENTS / "requirements.txt"), CLIENTS / "remote.py"]
        told, errors = run(command, {"url": server.url, "headers": [], "asked": [question for question, _, _ in WITHOUT_A_VARIANT]})
        checks.equal("omit: the default of the code holds in Python", [own["value"] for own in told], ["default"] * 2)
        checks.check("omit: Python's client logs an error for each evaluation", errors.count("ERROR") >= 2, errors)


def tracking(checks, scratch):
    """The provider that docs/sdk.md shows for Python, whose published one does nothing in `track`."""
    text = (CHECKOUT / "docs" / "sdk.md").read_text()
    sample = next(body for body in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL) if "def track" in body)
    (scratch / "trialog_provider.py").write_text(sample)
    (scratch / "track.py").write_text(TRACK)
    interpreter = packages.python(CLIENTS / "requirements.txt")
    with Server(scratch / "data") as server:
        register(server, "page", variants=[{"variant": "a"}], metrics={"primary": ["purchase"]})
        for provider, n_logged in (("OFREPProvider", 0), ("TrialogProvider", 1)):
            done = subprocess.run([interpreter, scratch / "track.py", server.url, provider], capture_output=True, text=True, timeout=60)
            checks.equal(f"openfeature-provider-ofrep: `track` of {provider} ends well and logs nothing", (done.returncode, done.stderr), (0, ""))
            server.run_now()
            report = server.results("page")
            total = [row["total"] for metric in report["metrics"] if metric["kind"] == "sum" for row in metric["variants"]]
            checks.equal(f"openfeature-provider-ofrep: {provider} tracks {n_logged} purchases", total, [f"{19.99 * n_logged:.4f}"] if n_logged else total)


TRACK = """
import logging, sys
import trialog_provider
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.track import TrackingEventDetails

logging.basicConfig(level=logging.WARNING)
url, provider = sys.argv[1:]
headers = {"Trialog-Exposure": "log"}
api.set_provider(getattr(trialog_provider, provider)(url, headers_factory=lambda: headers))
client = api.get_client()
unit = EvaluationContext("42", {"platform": "ios"})
assert client.get_string_value("page", "default", unit) == "a"
client.track("purchase", unit, TrackingEventDetails(19.99))
client.track("nothing that counts", unit)
api.shutdown()
"""


def keys(checks, scratch):
    """A server that asks for keys: clients send them in the headers that the protocol names."""
    place = packages.npm(CLIENTS)
    if place is None:
        return checks.skip("clients with keys", "npm is not installed")
    with Server(scratch / "data") as server:
        flags(server)
        made = must(trialog("keys", "create", "app", "--scope", "sdk", "--format", "json", data_dir=scratch / "data"))
        key = json.loads(made.out)["key"]
        asked = [["string", "colour", "none", {"targetingKey": "1", "platform": "web"}]]
        for headers in ([["Authorization", f"Bearer {key}"]], [["X-API-Key", key]]):
            told = ask(["node", place / "server.mjs"], {"url": server.url, "headers": headers, "asked": asked})
            checks.check(f"the key in {headers[0][0]} is taken", told[0]["value"] in ("red", "blue"), told)
        told = ask(["node", place / "server.mjs"], {"url": server.url, "headers": [], "asked": asked})
        checks.check("without a key there is the default", told[0]["value"] == "none" and told[0]["errorCode"] == "GENERAL", told)
        refused = Client(server.url).post("/ofrep/v1/evaluate/flags/colour", {"context": {"targetingKey": "1"}})
        checks.check("401 says so in the protocol's member", refused.status == 401 and "key" in refused.json()["errorDetails"], refused)


if __name__ == "__main__":
    main(server_side, web, quiet, omitted, tracking, keys)
