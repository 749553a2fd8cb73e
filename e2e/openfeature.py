"""OpenFeature's published clients against the running server: Node, browsers' and Python.

What each of them resolves is compared with `POST /v1/assign`, for flags of every type of
value, for units that get no variant, and for every failure of the protocol.
"""

import json
import subprocess
from pathlib import Path

import packages
from harness import Client, Server, main, must, trialog

CLIENTS = Path(__file__).resolve().parent / "clients"
KINDS = {
    "colour": ("string", "none", [{"variant": "red"}, {"variant": "blue"}]),
    "new-page": ("boolean", None, [{"variant": "off", "value": False}, {"variant": "on", "value": True}]),
    "limit": ("number", -1.5, [{"variant": "low", "value": 2.5}, {"variant": "high", "value": 7.25}]),
    "layout": ("object", {"none": True}, [{"variant": "a", "value": {"columns": 2}}, {"variant": "b", "value": {"columns": 3}}]),
}
DEFAULTS = {"boolean": False}


def ask(command, question):
    done = subprocess.run([str(part) for part in command], input=json.dumps(question), capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stdout[-500:]} {done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


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
    (["string", "no such flag", "default", {"targetingKey": "1"}], "FLAG_NOT_FOUND"),
    (["string", "colour", "default", {"platform": "web"}], "TARGETING_KEY_MISSING"),
    (["boolean", "colour", False, {"targetingKey": "1"}], "TYPE_MISMATCH"),
]
# A 200 without a value: the code's default holds. Clients of these versions call that an
# unexpected answer, and use the default all the same.
WITHOUT_A_VALUE = [
    ["string", "ios-only", "default", {"targetingKey": "1", "platform": "web"}],
    ["string", "over", "default", {"targetingKey": "1"}],
]


def dynamic(checks, name, client, answer):
    """A client that asks the server for every evaluation."""
    asked = questions()
    told = answer(asked)
    wrong = [(question, own) for question, own in zip(asked, told)
             if (own["value"], own["variant"]) != expected(client, question[1], question[3])]
    checks.check(f"{name}: {len(asked)} evaluations of four types are those of /v1/assign", not wrong, wrong[:2])
    checks.check(f"{name}: the reason is SPLIT", all("SPLIT" in own["reason"] for own in told), told[0])
    key = "flagMetadata" if "flagMetadata" in told[0] else "flag_metadata"
    checks.equal(f"{name}: the metadata says whom it is about", told[0][key]["contextId"], "unit-0")
    told = answer([question for question, _ in FAILURES])
    codes = [own.get("errorCode") or own.get("error_code") for own in told]
    codes = [str(code).removeprefix("ErrorCode.") for code in codes]
    checks.equal(f"{name}: failures have their codes", codes, [code for _, code in FAILURES])
    checks.equal(f"{name}: a failure gives the default", [own["value"] for own in told], ["default", "default", False])
    told = answer(WITHOUT_A_VALUE)
    checks.equal(f"{name}: no variant gives the default", [own["value"] for own in told], ["default"] * 2)


def node(checks, scratch):
    place = packages.npm(CLIENTS)
    if place is None:
        return checks.skip("the clients of Node and browsers", "npm is not installed")
    with Server(scratch / "data") as server:
        flags(server)
        run = lambda asked, headers=(): ask(["node", place / "server.mjs"], {"url": server.url, "headers": list(headers), "asked": asked})
        dynamic(checks, "@openfeature/server-sdk", server, run)
        run([["string", "colour", "none", {"targetingKey": "7", "platform": "web"}]], [["Trialog-Exposure", "log"]])
        server.run_now()
        users = sum(own["users"] for own in server.results("colour")["variants"])
        checks.equal("@openfeature/server-sdk: an evaluation is an exposure where its header says so", users, 1)
        browser(checks, place, server)


def browser(checks, place, server):
    """A client that asks for everything once, and again when the context changes."""
    context = {"targetingKey": "42", "platform": "ios"}
    asked = [[kind, key, DEFAULTS.get(kind, default)] for key, (kind, default, _) in KINDS.items()]
    asked += [["string", "ios-only", "default"], ["string", "no such flag", "default"]]
    question = {"url": server.url, "headers": [], "context": context, "next": {**context, "platform": "web"}, "asked": asked}
    told = ask(["node", place / "web.mjs"], question)
    if not checks.check("@openfeature/web-sdk: the provider is ready", "first" in told, told):
        return
    wrong = [(own, detail) for own, detail in zip(asked[:5], told["first"])
             if (detail["value"], detail["variant"]) != expected(server, own[1], context)]
    checks.check("@openfeature/web-sdk: every flag is that of /v1/assign", not wrong, wrong)
    checks.equal("@openfeature/web-sdk: a flag that is not there", told["first"][5]["errorCode"], "FLAG_NOT_FOUND")
    checks.equal("@openfeature/web-sdk: another context is another answer", told["next"][4]["value"], "default")
    checks.equal("@openfeature/web-sdk: the same context is a 304", told["statuses"], [200, 304, 200])
    checks.equal("@openfeature/web-sdk: which changes nothing", told["same"], told["first"])


def python(checks, scratch):
    interpreter = packages.python(CLIENTS / "requirements.txt")
    with Server(scratch / "data") as server:
        flags(server)
        run = lambda asked: ask([interpreter, CLIENTS / "remote.py"], {"url": server.url, "headers": [], "asked": asked})
        dynamic(checks, "openfeature-provider-ofrep", server, run)


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
    main(node, python, keys)
