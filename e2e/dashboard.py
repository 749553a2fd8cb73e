"""The dashboard in a browser: the numbers of the API, and pictures at several widths.

Opens the pages of the demo's experiments in Debian's `chromium`, without which
the checks in a browser are skipped. $TRIALOG_PICTURES names a directory that
keeps the pictures, so that somebody can look at them.
"""

import html.parser
import os
import re
import shutil
import struct
import subprocess
import urllib.parse
import zlib
from pathlib import Path

from harness import Server, main, must, scratch, trialog

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars"
).split()
BROWSER_SECONDS = 90
EXPERIMENTS = ("checkout_one_page", "homepage_aa", "search_ranking", "landing_redirect", "streak_badges", "trial_length")
DARK = "--blink-settings=preferredColorScheme=0"


class Browser:
    """One command per page, each with a profile of its own."""

    def __init__(self):
        self.command = next((path for path in map(shutil.which, BROWSERS) if path), None)

    def run(self, url, *flags):
        with scratch() as profile:
            command = [self.command, *FLAGS, f"--user-data-dir={profile}", *flags, url]
            done = subprocess.run(command, capture_output=True, timeout=BROWSER_SECONDS)
        if done.returncode != 0:
            raise RuntimeError(f"the browser failed on {url}: {done.stderr[-500:]!r}")
        return done.stdout.decode()

    def dom(self, url, *flags):
        return Dom(self.run(url, "--dump-dom", *flags))

    def picture(self, url, file, width, height, *flags):
        self.run(url, f"--screenshot={file}", f"--window-size={width},{height}", *flags)
        return Path(file).read_bytes()


class Dom(html.parser.HTMLParser):
    """What the checks look for in a page as the browser understood it."""

    def __init__(self, text):
        super().__init__()
        self.text, self.numbers, self.sums, self.tags, self.classes, self.links = text, {}, [], {}, [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        own = dict(attributes)
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.classes.append(own.get("class") or "")
        if tag == "a":
            self.links.append(own.get("href"))
        if tag == "data" and "data-path" in own:
            self.numbers[own["data-path"]] = own["value"]
        elif tag == "data":
            self.sums.append(own["value"])


def pointer(document, path):
    for part in path.split("/")[1:]:
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


def differences(numbers, report):
    """The numbers of a page that are not those of the API, as doubles or as text."""
    wrong = []
    for path, shown in numbers.items():
        expected = pointer(report, path)
        same = shown == expected if isinstance(expected, str) else float(shown) == float(expected)
        if not same:
            wrong.append((path, shown, expected))
    return wrong


def page(experiment):
    return f"/experiments/{urllib.parse.quote(experiment, safe='')}"


def dashboard(checks, directory):
    must(trialog("demo", "--exit", "--listen", "127.0.0.1:0", data_dir=directory / "data"))
    browser = Browser()
    with Server(directory / "data") as server:
        contrast(checks, server)
        if not browser.command:
            checks.skip("the dashboard in a browser", "there is no chromium: apt-get install chromium")
            return
        checks.attempt(experiments, server, browser)
        checks.attempt(filters, server, browser)
        checks.attempt(listing, server, browser)
        checks.attempt(unusual, server, browser)
        checks.attempt(narrow, server, browser, directory)
        checks.attempt(pictures, server, browser, directory)
        checks.equal("the server ends in order", server.stop(), 0)


def experiments(checks, server, browser):
    for experiment in EXPERIMENTS:
        report = server.results(experiment)
        dom = browser.dom(server.url + page(experiment))
        wrong = differences(dom.numbers, report)
        checks.check(f"{experiment}: {len(dom.numbers)} numbers are those of the API", len(dom.numbers) > 25 and not wrong, wrong[:5])
        shown = {(metric, field) for metric in range(len(report["metrics"])) for field in ("difference", "p_value", "ci/0", "ci/1", "relative_ci/0")}
        missing = [own for own in shown if f"/metrics/{own[0]}/comparisons/0/{own[1]}" not in dom.numbers]
        checks.equal(f"{experiment}: every metric has its difference, interval and p-value", missing, [])
        roles = len({metric["role"] for metric in report["metrics"]})
        checks.equal(f"{experiment}: a forest plot per role", dom.classes.count("forest"), roles)
        bad = re.findall(r">\s*[-−]?(?:NaN|inf|-0(?:\.0+)?)\s*<", dom.text)
        checks.equal(f"{experiment}: no NaN, no infinity, no signed zero", bad, [])
        checks.equal(f"{experiment}: behind a warning where the sample ratio fails", "mismatch" in dom.classes, report["health"]["srm"]["failed"])


def filters(checks, server, browser):
    form = "metric=&kind=&segment=platform%3Dios&from=2026-01-01T00%3A00&to=&control=&alpha=0.1&correction=bh&as_of="
    query = "segment.platform=ios&from=2026-01-01T00%3A00%3A00Z&alpha=0.1&correction=bh"
    sent = server.get(f"{page('checkout_one_page')}?{form}")
    checks.equal("a form leads to the query of the API", (sent.status, sent.headers["location"]), (303, f"{page('checkout_one_page')}?{query}"))
    dom = browser.dom(f"{server.url}{page('checkout_one_page')}?{form}")
    report = server.results("checkout_one_page", query)
    checks.check("a filtered page has the filtered numbers of the API", len(dom.numbers) > 25 and not differences(dom.numbers, report), differences(dom.numbers, report)[:5])
    checks.check("it links to them", f"/v1/experiments/checkout_one_page/results?{query}" in dom.links, dom.links)


def listing(checks, server, browser):
    dom = browser.dom(server.url + "/")
    users = [sum(variant["users"] for variant in server.results(experiment)["variants"]) for experiment in sorted(EXPERIMENTS)]
    checks.equal("the list has the users of each experiment", [int(own) for own in dom.sums], users)
    dom = browser.dom(server.url + "/?q=PAYMENTS&status=running")
    checks.equal("the list is searched", [link for link in dom.links if link.startswith("/experiments/")], [page("checkout_one_page")])


def unusual(checks, server, browser):
    name = "<script>document.title='run'</script> a/b?c#d%\"'"
    created = server.post("/v1/experiments", {"experiment_id": name, "hypothesis": name, "owner": name, "variants": [{"variant": "<b>a"}, {"variant": "b"}]})
    checks.equal("an unusual id is registered", created.status, 201)
    dom = browser.dom(server.url + page(name))
    checks.check("it is shown as text", "script" not in dom.tags and "&lt;script&gt;" in dom.text, dom.tags)
    checks.check("its page tells the next step", f"{page(name)[12:]}/start" in dom.text, dom.text[-800:])
    checks.check("the list links to it", page(name) in browser.dom(server.url + "/").links)
    for path, status in (("/experiments/nobody", 404), (f"{page('homepage_aa')}?alpha=7", 400)):
        answer = server.get(path)
        text = answer.body.decode()
        checks.check(f"{path}: {status} as a page with a way back", answer.status == status and '<a href="/"' in text, answer)


def narrow(checks, server, browser, directory):
    """Nothing is wider than the narrowest screen: measured by a script in a copy of the page."""
    sheet = re.search(r'href="(/static/[^"]+\.css)"', server.get("/").body.decode()).group(1)
    (directory / "dashboard.css").write_bytes(server.get(sheet).body)
    measure = "<script>onload = () => parent.postMessage([document.documentElement.scrollWidth, innerWidth].join(), '*')</script>"
    frame = "<!doctype html><body><script>onmessage = event => document.body.dataset.width = event.data</script><iframe src=copy.html width={} height=900 frameborder=0></iframe>"
    for path in ("/", page("search_ranking"), page("landing_redirect"), page("trial_length") + "?kind=sum", "/experiments/nobody"):
        text = server.get(path).body.decode().replace(sheet, "dashboard.css").replace("<details", "<details open")
        (directory / "copy.html").write_text(text + measure)
        for width in (360, 768, 1280):
            (directory / "frame.html").write_text(frame.format(width))
            dom = browser.run(f"file://{directory}/frame.html", "--dump-dom", "--virtual-time-budget=3000")
            found = re.search(r'data-width="(\d+),(\d+)"', dom)
            wide, window = map(int, found.groups()) if found else (0, 0)
            checks.check(f"{path} fits {width} px", 0 < wide <= window == width, f"{wide} of {window}")


def pictures(checks, server, browser, directory):
    kept = Path(os.environ.get("TRIALOG_PICTURES") or directory / "pictures")
    kept.mkdir(parents=True, exist_ok=True)
    for name, path in (("list", "/"), ("results", page("search_ranking")), ("mismatch", page("landing_redirect"))):
        for look, width, flags in (("wide", 1280, ()), ("narrow", 360, ()), ("dark", 1280, (DARK,))):
            file = kept / f"{name}-{look}.png"
            light = first_pixel(browser.picture(server.url + path, file, width, 1600, *flags), width)
            checks.check(f"{file.name}: drawn, {'dark' if flags else 'light'}", light < 80 if flags else light > 180, light)


def first_pixel(png, width):
    """The brightness of the top left pixel of a picture of `width`."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">I", png[16:20])[0] == width, "not a picture of this width"
    data, at = b"", 8
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at : at + 8])
        data += png[at + 8 : at + 8 + size] if kind == b"IDAT" else b""
        at += size + 12
    # The filters of PNG change nothing at the first pixel of the first row.
    return sum(zlib.decompressobj().decompress(data, 4)[1:4]) / 3


def contrast(checks, server):
    """WCAG AA: text has a contrast of at least 4.5 in both colour schemes."""
    sheet = re.search(r'href="(/static/[^"]+\.css)"', server.get("/").body.decode()).group(1)
    answer = server.get(sheet)
    checks.check("the style sheet is kept by its version", "immutable" in (answer.headers["cache-control"] or ""), answer)
    blocks = re.findall(r":root \{([^}]*)\}", answer.body.decode())
    checks.equal("there is a light and a dark scheme", len(blocks), 2)
    pairs = [(text, back) for text in ("text", "quiet", "link", "good", "bad", "trend") for back in ("back",)]
    pairs += [("text", "raised"), ("link", "raised"), ("text", "warn-back"), ("text", "severe-back"), ("back", "link")]
    for scheme, block in zip(("light", "dark"), blocks):
        colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block))
        low = [(pair, round(ratio(*(colours[name] for name in pair)), 2)) for pair in pairs if ratio(*(colours[name] for name in pair)) < 4.5]
        checks.equal(f"{scheme}: every text can be read", low, [])


def ratio(first, second):
    def luminance(colour):
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


main(dashboard)
