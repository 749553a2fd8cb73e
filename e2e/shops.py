"""The two example shops with simulated visitors and a planted effect: the results find it.

One shop is in Rust with the SDK, the other in Node through OpenFeature. Visitors buy with
a probability that depends on the button they were shown; the seed is printed.
"""

import os
import random
import re
import shutil
import signal
import subprocess
from pathlib import Path

import packages
from harness import BINARY, CHECKOUT, Client, Server, comparison, main, metric, variant

N_VISITORS = 3_000
RATES = {"plain": 0.10, "bold": 0.20}
SEED = 20
PRICE = 19.99


def rust(checks, scratch):
    if not shutil.which("cargo"):
        return checks.skip("the shop in Rust", "cargo is not installed")
    target = Path(BINARY).parent.parent
    command = ["cargo", "build", "--release", "-p", "trialog-sdk", "--example", "web_shop", "--locked"]
    subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True, env={**os.environ, "CARGO_TARGET_DIR": str(target)})
    with Server(scratch / "data") as server:
        shop = [target / "release" / "examples" / "web_shop", "--server", server.url, "--listen", "127.0.0.1:0"]
        out = visit(checks, "the shop in Rust", server, shop)
        checks.check("the shop in Rust: everything was delivered", re.search(r"\d+ events delivered, 0 dropped, 0 not sent", out), out)


def node(checks, scratch):
    place = packages.npm(CHECKOUT / "examples" / "node-shop")
    if place is None:
        return checks.skip("the shop in Node", "npm is not installed")
    with Server(scratch / "data") as server:
        visit(checks, "the shop in Node", server, ["node", place / "shop.mjs", "--server", server.url, "--port", "0"])


def visit(checks, name, server, command):
    """Lets visitors come, and looks at what the results say."""
    experiment(server)
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)
    try:
        address = next(line for line in process.stdout if line.startswith("listening on "))
        shop = Client(address.removeprefix("listening on ").strip(), keep=True)
        seen = visitors(shop)
    finally:
        process.send_signal(signal.SIGINT)
    out = process.communicate(timeout=60)[0]
    checks.equal(f"{name}: it ends in order", process.returncode, 0)
    server.run_now()
    report = server.results("buy-button")
    for button, (n_visitors, n_buyers) in seen.items():
        own = variant(metric(report, "purchase", "conversion")["variants"], button)
        checks.equal(f"{name}: every visitor and buyer of `{button}` is counted (seed {SEED})",
                     (own["users"], own["converted_users"]), (n_visitors, n_buyers))
        total = f"{n_buyers * 1999 // 100}.{n_buyers * 1999 % 100:02}00"
        checks.equal(f"{name}: what they paid is exact", variant(metric(report, "purchase", "sum")["variants"], button)["total"], total)
    found = comparison(report, "purchase", "conversion", "bold")
    planted = RATES["bold"] - RATES["plain"]
    checks.check(f"{name}: the planted effect is found", found["flag"] == "significant" and found["ci"][0] < planted < found["ci"][1], found)
    page = server.get("/experiments/buy-button").body.decode()
    checks.check(f"{name}: the page shows it", "bold" in page and re.search(r"significant", page), page[:300])
    checks.equal(f"{name}: the sample ratio holds", report["health"]["srm"]["failed"], False)
    return out


def experiment(server):
    definition = {
        "experiment_id": "buy-button", "variants": [{"variant": "plain"}, {"variant": "bold"}],
        "metrics": {"primary": ["purchase"]},
    }
    for path, body in (("/v1/experiments", definition), ("/v1/experiments/buy-button/start", None)):
        answer = server.post(path, body)
        if answer.status not in (200, 201):
            raise RuntimeError(repr(answer))


def visitors(shop):
    """Each looks at the page twice and may buy; gives visitors and buyers by button."""
    draw = random.Random(SEED)
    seen = {button: [0, 0] for button in RATES}
    for user in range(N_VISITORS):
        for _ in range(2):
            page = shop.get(f"/?user=visitor-{user}").body.decode()
        button = re.search('data-variant="([a-z]+)"', page)[1]
        seen[button][0] += 1
        if draw.random() < RATES[button]:
            seen[button][1] += 1
            shop.post(f"/buy?user=visitor-{user}")
    return {button: tuple(counts) for button, counts in seen.items()}


if __name__ == "__main__":
    main(rust, node)
