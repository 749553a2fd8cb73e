"""Two published data sets through import, aggregate and results.

The expected numbers are those of the data sets' own pages, written here with
all the digits that they state; a result agrees when it rounds to them. What no
report has (Mann-Whitney, posterior probabilities) is left out; what takes one row
per user and no time stands in analyze.py.
"""

import csv
import gzip
import json
import sqlite3
import subprocess

from harness import BINARY, Server, comparison, main, metric, must, poll, trialog, variant
from stated import EMAIL_ADJUSTED, EMAIL_NEWBIES, EMAIL_ROWS, check_numbers, check_row, found, numbers_of

ASSIGNED = ("--time", "2024-03-01T00:00:00Z")
HAPPENED = ("--time", "2024-03-03T00:00:00Z")


def results(data_dir, *arguments):
    return json.loads(must(trialog("results", *arguments, "--format", "json", data_dir=data_dir)).out)


def measured(report):
    """The metrics without what depends on when results were published."""
    return [{**own, "comparisons": [{**row, "sequential": None, "headline": None} for row in own["comparisons"]]} for own in report["metrics"]]


# --- Cookie Cats

GATE = {
    "experiment_id": "gate",
    "variants": [{"variant": "gate_30", "weight": 0.5}, {"variant": "gate_40", "weight": 0.5}],
    "metrics": {"primary": ["retention_7"], "secondary": ["sum_gamerounds"]},
}


def cookie_cats(checks, directory):
    folder = found(checks, "data/cookie_cats")
    if not folder:
        return
    data, source = directory / "data", folder / "cookie_cats.csv.gz"
    (directory / "gate.json").write_text(json.dumps(GATE))
    must(trialog("experiments", "apply", directory / "gate.json", data_dir=data))
    user = ("--user-column", "userid")
    assigned = ("import", "assignments", source, *user, "--variant-column", "version", *ASSIGNED, "--experiment", "gate")
    done = must(trialog(*assigned, data_dir=data))
    checks.check("cookie_cats: every row is an assignment", "90189 rows: 90189 assignments accepted" in done.out, done)
    for column in ("retention_1", "retention_7", "sum_gamerounds"):
        imported = ("import", "metrics", source, *user, "--event", column, "--value-column", column, "--skip-zero", *HAPPENED, "--experiment", "gate")
        done = must(trialog(*imported, data_dir=data))
    checks.check("cookie_cats: 3,994 players without a round hold no event", "3994 rows hold no event" in done.out, done)
    altered_cookie_cats(directory, data, source)
    must(trialog("aggregate", data_dir=data))
    check_cookie_cats(checks, results(data, "gate"))
    for name, stated in ALTERED.items():
        report = results(data, name)
        check_row(checks, f"cookie_cats: {name}", (report, "rounds", "sum", "gate_40"), stated["row"], relative=False)
        rows = metric(report, "rounds", "sum")["variants"]
        pairs = [(f"{arm} {field}", variant(rows, arm)[field], text) for arm, field, text in stated["moments"]]
        pairs.append(("relative", comparison(report, "rounds", "sum", "gate_40")["relative_difference"], stated["relative"]))
        check_numbers(checks, f"cookie_cats: {name}: moments", pairs)
    # Everything once more: nothing changes.
    before = measured(results(data, "gate"))
    again = must(trialog(*assigned, data_dir=data))
    must(trialog(*imported, data_dir=data))
    must(trialog("aggregate", "--full", data_dir=data))
    checks.equal("cookie_cats: imported again, the numbers are the same", measured(results(data, "gate")), before)
    checks.check("cookie_cats: the second import says that the rows were stored", "90189 of them were stored by an earlier import" in again.out, again)


ALTERED = {
    "without_outlier": {
        "row": "−0.043335034 −1.3835675 1.2968974 −0.063374263 90,183.298 0.94946862",
        "relative": "−0.0844%",
        "moments": [("gate_30", "users", "44,699"), ("gate_30", "mean", "51.342111"), ("gate_30", "variance", "10,415.753")],
    },
    "capped": {
        "row": "−0.28191820 −1.3811499 0.81731352 −0.50267557 90,136.312 0.61519361",
        "relative": "−0.5738%",
        "moments": [
            ("gate_30", "mean", "49.135839"),
            ("gate_40", "mean", "48.853921"),
            ("gate_30", "variance", "7,135.0833"),
            ("gate_40", "variance", "7,046.9131"),
        ],
    },
}


def altered_cookie_cats(directory, data, source):
    """The same players without the one outlier, and with rounds capped."""
    with gzip.open(source, "rt", newline="") as stream:
        players = list(csv.DictReader(stream))
    with open(directory / "altered.csv", "w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["user_id", "experiment_id", "variant", "event_type", "value"])
        for player in players:
            rounds = int(player["sum_gamerounds"])
            if rounds != 49854:
                rows.writerow([player["userid"], "without_outlier", player["version"], "rounds", rounds])
            rows.writerow([player["userid"], "capped", player["version"], "rounds", min(rounds, 493)])
    must(trialog("import", "assignments", directory / "altered.csv", *ASSIGNED, data_dir=data))
    must(trialog("import", "metrics", directory / "altered.csv", *HAPPENED, data_dir=data))


def check_cookie_cats(checks, report):
    def row(name, kind, arm):
        return variant(metric(report, name, kind)["variants"], arm)

    pairs = []
    for arm, users, one, one_rate, seven, seven_rate, mean, spread, without in (
        ("gate_30", "44,700", "20,034", "0.44818792", "8,502", "0.19020134", "52.456264", "65,903.322", None),
        ("gate_40", "45,489", "20,119", "0.44228275", "8,279", "0.18200004", "51.298776", "10,669.736", None),
    ):
        pairs += [
            (f"{arm} n", row("retention_1", "conversion", arm)["users"], users),
            (f"{arm} retention_1", row("retention_1", "conversion", arm)["converted_users"], one),
            (f"{arm} retention_1 rate", row("retention_1", "conversion", arm)["conversion_rate"], one_rate),
            (f"{arm} retention_7", row("retention_7", "conversion", arm)["converted_users"], seven),
            (f"{arm} retention_7 rate", row("retention_7", "conversion", arm)["conversion_rate"], seven_rate),
            (f"{arm} rounds mean", row("sum_gamerounds", "sum", arm)["mean"], mean),
            (f"{arm} rounds variance", row("sum_gamerounds", "sum", arm)["variance"], spread),
        ]
    idle = sum(row("sum_gamerounds", "sum", arm)["users"] - row("sum_gamerounds", "sum", arm)["converted_users"] for arm in ("gate_30", "gate_40"))
    pairs.append(("players without a round", idle, "3,994"))
    check_numbers(checks, "cookie_cats: counts, rates, moments", pairs)
    for name, kind, stated in (
        ("retention_1", "conversion", "−0.0059051698 −0.012392439 0.00058209987 −1.7840862 0.074409655 −1.3176% −2.7554% 0.1203%"),
        ("retention_7", "conversion", "−0.0082012983 −0.013281552 −0.0031210442 −3.1643589 0.0015542500 −4.3119% −6.9245% −1.6993%"),
        ("sum_gamerounds", "sum", "−1.1574885 −3.7197051 1.4047282 −0.88543743 58,595.481 0.37592438 −2.2066% −6.9981% 2.5850%"),
    ):
        check_row(checks, f"cookie_cats: {name} as {kind}", (report, name, kind, "gate_40"), stated)
    srm = report["health"]["srm"]
    pairs = [
        ("Welch on retention_1", comparison(report, "retention_1", "sum", "gate_40")["p_value"], "0.074414437"),
        ("Welch on retention_7", comparison(report, "retention_7", "sum", "gate_40")["p_value"], "0.0015565302"),
        ("SRM chi-squared", srm["chi_squared"], "6.9024050"),
        ("SRM p", srm["p_value"], "0.0086079878"),
        # As published elsewhere, to more digits.
        ("retention_1 z", comparison(report, "retention_1", "conversion", "gate_40")["statistic"], "-1.7840862247975"),
        ("retention_1 p", comparison(report, "retention_1", "conversion", "gate_40")["p_value"], "0.07440965529692"),
    ]
    check_numbers(checks, "cookie_cats: Welch on 0/1, SRM, published analyses", pairs)
    checks.check("cookie_cats: the sample ratio does not fail at 0.001", srm["failed"] is False, srm)


# --- Hillstrom

ARMS = ("No E-Mail", "Mens E-Mail", "Womens E-Mail")
METRICS = ("visit", "conversion", "spend")
EMAIL = {
    "experiment_id": "email",
    "variants": [{"variant": arm, "weight": 1} for arm in ARMS],
    "metrics": {"primary": ["visit:conversion", "conversion:conversion", "spend:sum"]},
}


def numbered_hillstrom(directory, folder):
    """A copy with row numbers as user ids."""
    path = directory / "hillstrom.csv"
    with gzip.open(folder / "hillstrom.csv.gz", "rt", newline="") as source, open(path, "w", newline="") as copy:
        rows = csv.writer(copy)
        for number, row in enumerate(csv.reader(source)):
            rows.writerow([number or "user_id", *row])
    return path


def email_imports(path):
    """The arguments of every import, assignments first."""
    yield ("import", "assignments", path, "--variant-column", "segment", *ASSIGNED, "--experiment", "email", "--context-column", "newbie", "--context-column", "channel")
    for column in (*METRICS, "history"):
        yield ("import", "metrics", path, "--event", column, "--value-column", column, "--skip-zero", *HAPPENED, "--experiment", "email")


def hillstrom(checks, directory):
    folder = found(checks, "data/hillstrom_email")
    if not folder:
        return
    data, path = directory / "data", numbered_hillstrom(directory, folder)
    (directory / "email.json").write_text(json.dumps([EMAIL]))
    must(trialog("experiments", "apply", directory / "email.json", data_dir=data))
    for arguments in email_imports(path):
        must(trialog(*arguments, data_dir=data))
    must(trialog("aggregate", data_dir=data))
    report = results(data, "email")
    checks.attempt(check_hillstrom, report)
    checks.attempt(check_adjusted, data)
    checks.attempt(check_newbies, data)
    checks.attempt(against_womens, data)
    checks.attempt(interrupted_import, directory, path, report)
    checks.attempt(interrupted_server, directory, path, report)


def check_hillstrom(checks, report):
    pairs = []
    for arm, users, counts, spend, history in (
        ("No E-Mail", "21,306", ("2,262 0.10616728", "122 0.0057260865"), "13,908.33 0.65278936 134.28637", "240.88265 63,877.185"),
        ("Mens E-Mail", "21,307", ("3,894 0.18275684", "267 0.012531093"), "30,311.69 1.4226165 315.21180", "242.83593 67,785.083"),
        ("Womens E-Mail", "21,387", ("3,238 0.15140038", "189 0.0088371441"), "23,038.11 1.0772016 228.49667", "242.53663 65,194.880"),
    ):
        for name, stated in zip(("visit", "conversion"), counts):
            row = variant(metric(report, name, "conversion")["variants"], arm)
            count, rate = stated.split()
            pairs += [(f"{arm} n", row["users"], users), (f"{arm} {name}", row["converted_users"], count), (f"{arm} {name} rate", row["conversion_rate"], rate)]
        row = variant(metric(report, "spend", "sum")["variants"], arm)
        total, mean, spread = spend.split()
        pairs += [(f"{arm} spend", float(row["total"]), total), (f"{arm} spend mean", row["mean"], mean), (f"{arm} spend variance", row["variance"], spread)]
        row = variant(metric(report, "history", "sum")["variants"], arm)
        mean, spread = history.split()
        pairs += [(f"{arm} history mean", row["mean"], mean), (f"{arm} history variance", row["variance"], spread)]
    srm = report["health"]["srm"]
    pairs += [("SRM chi-squared", srm["chi_squared"], "0.20253125"), ("SRM p", srm["p_value"], "0.90369296")]
    check_numbers(checks, "hillstrom: counts, moments, SRM", pairs)
    for arm, name, stated in EMAIL_ROWS:
        kind = "sum" if name == "spend" else "conversion"
        check_row(checks, f"hillstrom: {arm}, {name}", (report, name, kind, arm), stated)


def check_adjusted(checks, data):
    for correction, texts in EMAIL_ADJUSTED.items():
        report = results(data, "email", "--correction", correction)
        names = [(arm, name) for arm in ARMS[1:] for name in METRICS]
        rows = [comparison(report, name, "sum" if name == "spend" else "conversion", arm) for arm, name in names]
        pairs = [(f"{arm} {name}", row["adjusted_p_value"], text) for (arm, name), row, text in zip(names, rows, texts.split())]
        check_numbers(checks, f"hillstrom: p adjusted by {correction}", pairs)
    holm = results(data, "email")
    checks.equal("hillstrom: Holm unless asked otherwise", holm["correction"], "holm")


def check_newbies(checks, data):
    for newbie, arm, control, treatment, stated in EMAIL_NEWBIES:
        report = results(data, "email", "--segment", f"newbie={newbie}")
        rows = metric(report, "visit", "conversion")["variants"]
        named = numbers_of(report, "visit", "conversion", arm, relative=False)
        pairs = [(label, actual, text) for (label, actual), text in zip(named, stated.split())]
        for name, counts in ((ARMS[0], control), (arm, treatment)):
            users, visits = counts.split()
            pairs += [(f"{name} n", variant(rows, name)["users"], users), (f"{name} visits", variant(rows, name)["converted_users"], visits)]
        check_numbers(checks, f"hillstrom: newbie={newbie}, {arm}", pairs)


def against_womens(checks, data):
    report = results(data, "email", "--control", "Womens E-Mail")
    spend = comparison(report, "spend", "sum", "Mens E-Mail")
    visit = comparison(report, "visit", "conversion", "Mens E-Mail")
    pairs = [
        ("spend", spend["difference"], "0.34541494"),
        ("spend low", spend["ci"][0], "0.032561450"),
        ("spend high", spend["ci"][1], "0.65826843"),
        ("spend p", spend["p_value"], "0.030468651"),
        ("visit", visit["difference"], "0.031356457"),
        ("visit p", visit["p_value"], "3.8021652e-18"),
    ]
    check_numbers(checks, "hillstrom: Mens against Womens", pairs)


# --- Interruptions

def stored(data):
    """How far sources have been stored; changes with every batch."""
    connection = sqlite3.connect(f"file:{data}/warehouse.sqlite?mode=ro", uri=True, timeout=10)
    try:
        return connection.execute("SELECT count(*), total(position) FROM sources").fetchone()
    finally:
        connection.close()


def interrupted_import(checks, directory, path, expected):
    """Kills every import after its first batch became durable, then repeats it."""
    data = directory / "interrupted"
    must(trialog("experiments", "apply", directory / "email.json", data_dir=data))
    n_interrupted = 0
    for arguments in email_imports(path):
        for _ in range(3):
            # Whatever has been stored so far: the next batch ends the process.
            before = stored(data)
            process = subprocess.Popen([BINARY, "--data-dir", data, *arguments], stdout=subprocess.DEVNULL)
            poll("a batch or the end", lambda: process.poll() is not None or stored(data) != before)
            n_interrupted += process.poll() is None
            process.kill()
            process.wait()
        must(trialog(*arguments, data_dir=data))
    checks.check("an import is killed in the middle several times", n_interrupted >= 3, f"{n_interrupted} times")
    must(trialog("aggregate", data_dir=data))
    checks.equal("killed imports, repeated, give the same numbers", measured(results(data, "email")), measured(expected))


def interrupted_server(checks, directory, path, expected):
    """Imports to a server that is killed in the middle."""
    data = directory / "served"
    must(trialog("experiments", "apply", directory / "email.json", data_dir=data))
    n_failed, message = 0, ""
    for arguments in email_imports(path):
        with Server(data) as server:
            before = stored(data)
            process = subprocess.Popen([BINARY, "--data-dir", data, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            poll("a batch or the end", lambda: process.poll() is not None or stored(data) != before)
            server.kill()
            _, error = process.communicate()
            if process.returncode:
                n_failed, message = n_failed + 1, error
        with Server(data):
            must(trialog(*arguments, data_dir=data))
    checks.check("an import whose server dies fails and says how to go on", n_failed > 0 and "run the same command again" in message, f"{n_failed} failed; {message}")
    must(trialog("aggregate", data_dir=data))
    checks.equal("imports through a killed server, repeated, give the same numbers", measured(results(data, "email")), measured(expected))


main(cookie_cats, hillstrom)
