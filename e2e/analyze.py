"""`trialog analyze` on published data sets, on files of every form, and on bad ones.

The expected numbers are those of the data sets' own pages; a result agrees when
it rounds to all digits that are stated.
"""

import csv
import gzip
import json
import re
import resource
import shutil
import subprocess
import time
from itertools import product
from statistics import NormalDist

from harness import BINARY, comparison, main, metric, must, trialog, variant
from stated import EMAIL_ADJUSTED, EMAIL_NEWBIES, EMAIL_ROWS, check_numbers, check_row, found, numbers_of


def analyze(*arguments):
    return json.loads(must(trialog("analyze", *arguments, "--format", "json")).out)


# --- Cookie Cats

COOKIES = ("--variant", "version", "--control", "gate_30", "--unit", "userid")
ROUNDS = ("--metric", "rounds:sum:sum_gamerounds")


def cookie_cats(checks, directory):
    folder = found(checks, "data/cookie_cats")
    if not folder:
        return
    source = folder / "cookie_cats.csv.gz"
    report = analyze(source, *COOKIES, "--metric", "retention_1:conversion", "--metric", "retention_7:conversion", *ROUNDS)
    for name, kind, stated in (
        ("retention_1", "conversion", "−0.0059051698 −0.012392439 0.00058209987 −1.7840862 0.074409655 −1.3176% −2.7554% 0.1203%"),
        ("retention_7", "conversion", "−0.0082012983 −0.013281552 −0.0031210442 −3.1643589 0.0015542500 −4.3119% −6.9245% −1.6993%"),
        ("rounds", "sum", "−1.1574885 −3.7197051 1.4047282 −0.88543743 58,595.481 0.37592438 −2.2066% −6.9981% 2.5850%"),
    ):
        check_row(checks, f"cookie_cats: {name}", (report, name, kind, "gate_40"), stated)
    pairs = []
    for arm, users, one, seven, mean, spread in (
        ("gate_30", "44,700", "20,034 0.44818792", "8,502 0.19020134", "52.456264", "65,903.322"),
        ("gate_40", "45,489", "20,119 0.44228275", "8,279 0.18200004", "51.298776", "10,669.736"),
    ):
        for name, stated in (("retention_1", one), ("retention_7", seven)):
            row = variant(metric(report, name, "conversion")["variants"], arm)
            count, rate = stated.split()
            pairs += [(f"{arm} n", row["users"], users), (f"{arm} {name}", row["converted_users"], count), (f"{arm} {name} rate", row["conversion_rate"], rate)]
        row = variant(metric(report, "rounds", "sum")["variants"], arm)
        pairs += [(f"{arm} mean", row["mean"], mean), (f"{arm} variance", row["variance"], spread)]
    srm = report["health"]["srm"]
    pairs += [("SRM chi-squared", srm["chi_squared"], "6.9024050"), ("SRM p", srm["p_value"], "0.0086079878")]
    check_numbers(checks, "cookie_cats: counts, moments, sample ratio", pairs)

    welch = analyze(source, *COOKIES, "--metric", "retention_1:sum", "--metric", "retention_7:sum")
    pairs = [(f"Welch on {name}", comparison(welch, name, "sum", "gate_40")["p_value"], p) for name, p in (("retention_1", "0.074414437"), ("retention_7", "0.0015565302"))]
    check_numbers(checks, "cookie_cats: Welch on 0/1", pairs)

    capped = analyze(source, *COOKIES, *ROUNDS, "--winsorise", "0.99")
    row = comparison(capped, "rounds", "sum", "gate_40")
    check_row(checks, "cookie_cats: winsorised at the 99th percentile", (capped, "rounds", "sum", "gate_40"), "−0.28191820 −1.3811499 0.81731352 −0.50267557 90,136.312 0.61519361", relative=False)
    rows = metric(capped, "rounds", "sum")["variants"]
    pairs = [(f"{arm} {field}", variant(rows, arm)[field], stated) for arm, field, stated in (("gate_30", "mean", "49.135839"), ("gate_40", "mean", "48.853921"), ("gate_30", "variance", "7,135.0833"), ("gate_40", "variance", "7,046.9131"))]
    pairs += [("relative", row["relative_difference"], "−0.5738%"), ("the cap", float(rows[0]["winsorised"]["upper"]), "493")]
    check_numbers(checks, "cookie_cats: winsorised moments", pairs)

    medians = analyze(source, *COOKIES, "--metric", "rounds:quantile:sum_gamerounds@0.5")
    rows = metric(medians, "rounds", "quantile")["variants"]
    check_numbers(checks, "cookie_cats: medians", [(arm, variant(rows, arm)["mean"], stated) for arm, stated in (("gate_30", "17"), ("gate_40", "16"))])

    outlier = directory / "without_outlier.csv"
    with gzip.open(source, "rt", newline="") as stream, open(outlier, "w", newline="") as copy:
        rows = csv.writer(copy)
        rows.writerows(row for row in csv.reader(stream) if row[2] != "49854")
    without = analyze(outlier, *COOKIES, *ROUNDS)
    check_row(checks, "cookie_cats: without the outlier", (without, "rounds", "sum", "gate_40"), "−0.043335034 −1.3835675 1.2968974 −0.063374263 90,183.298 0.94946862", relative=False)


# --- Hillstrom

EMAIL = ("--variant", "segment", "--control", "No E-Mail")
METRICS = (("visit", "conversion"), ("conversion", "conversion"), ("spend", "sum"))
ASKED = tuple(word for name, kind in METRICS for word in ("--metric", f"{name}:{kind}"))
TREATMENTS = ("Mens E-Mail", "Womens E-Mail")


def hillstrom(checks, _):
    folder = found(checks, "data/hillstrom_email")
    if not folder:
        return
    source = folder / "hillstrom.csv.gz"
    report = analyze(source, *EMAIL, *ASKED)
    for arm, name, stated in EMAIL_ROWS:
        check_row(checks, f"hillstrom: {arm}, {name}", (report, name, dict(METRICS)[name], arm), stated)
    srm = report["health"]["srm"]
    check_numbers(checks, "hillstrom: sample ratio", [("chi-squared", srm["chi_squared"], "0.20253125"), ("p", srm["p_value"], "0.90369296")])
    checks.attempt(corrections, source)
    checks.attempt(covariate_and_ratio, source)
    checks.attempt(newbies, source)
    womens = analyze(source, *EMAIL[:2], "--control", "Womens E-Mail", *ASKED)
    spend, visit = (comparison(womens, name, dict(METRICS)[name], "Mens E-Mail") for name in ("spend", "visit"))
    pairs = [("spend", spend["difference"], "0.34541494"), ("low", spend["ci"][0], "0.032561450"), ("high", spend["ci"][1], "0.65826843"), ("p", spend["p_value"], "0.030468651"), ("visit", visit["difference"], "0.031356457"), ("visit p", visit["p_value"], "3.8021652e-18")]
    check_numbers(checks, "hillstrom: Mens against Womens", pairs)


def corrections(checks, source):
    for correction, texts in EMAIL_ADJUSTED.items():
        report = analyze(source, *EMAIL, *ASKED, "--correction", correction)
        rows = [(f"{arm} {name}", comparison(report, name, kind, arm)) for arm in TREATMENTS for name, kind in METRICS]
        check_numbers(checks, f"hillstrom: p adjusted by {correction}", [(label, row["adjusted_p_value"], text) for (label, row), text in zip(rows, texts.split())])
        # Six tests share the level, so that their intervals hold together.
        alone = analyze(source, *EMAIL, *ASKED, "--alpha", repr(0.05 / len(rows)))
        apart = [label for (label, row), (arm, (name, kind)) in zip(rows, product(TREATMENTS, METRICS)) if row["adjusted_ci"] != comparison(alone, name, kind, arm)["ci"]]
        checks.check(f"hillstrom: adjusted intervals are those at a sixth of the level ({correction})", not apart, apart)


def covariate_and_ratio(checks, source):
    report = analyze(source, *EMAIL, "--metric", "spend:sum", "--covariate", "history", "--secondary", "per_visit:ratio:spend/visit")
    # t quantiles and the intervals give the standard errors back.
    pairs = []
    for arm, difference, se, p in (("Mens E-Mail", "0.76743850", "0.14521504", "1.2653145e-07"), ("Womens E-Mail", "0.42270092", "0.13030822", "1.1802047e-03")):
        row = comparison(report, "spend", "sum", arm)
        pairs += [(f"{arm} difference", row["difference"], difference), (f"{arm} se", row["difference"] / row["statistic"], se), (f"{arm} p", row["p_value"], p)]
    check_numbers(checks, "hillstrom: spend adjusted by history (CUPED)", pairs)
    pairs = [(f"{arm} ratio", variant(metric(report, "per_visit", "ratio")["variants"], arm)["mean"], stated) for arm, stated in (("No E-Mail", "6.1486870"), ("Mens E-Mail", "7.7842039"), ("Womens E-Mail", "7.1149197"))]
    # The page takes the normal distribution where the report takes t. It states 0.99853166 for the last
    # standard error; in exact arithmetic it is 0.998531705, which the p-value beside it goes with.
    for arm, difference, se, p in (("Mens E-Mail", "1.6355169", "0.98714052", "0.097555310"), ("Womens E-Mail", "0.96623270", "0.99853170", "0.33321745")):
        row = comparison(report, "per_visit", "ratio", arm)
        normal = 2 * NormalDist().cdf(-abs(row["statistic"]))
        pairs += [(f"{arm} difference", row["difference"], difference), (f"{arm} se", row["difference"] / row["statistic"], se), (f"{arm} p", normal, p)]
    check_numbers(checks, "hillstrom: spend per visit (ratio)", pairs)


def newbies(checks, source):
    reports = analyze(source, *EMAIL, "--metric", "visit:conversion", "--segment", "newbie")
    checks.equal("a report of all users and one of each segment", [own["filter"] and own["filter"]["segment"] for own in reports], [None, {"newbie": "0"}, {"newbie": "1"}])
    by_value = {own["filter"]["segment"]["newbie"]: own for own in reports[1:]}
    for newbie, arm, control, treatment, stated in EMAIL_NEWBIES:
        report = by_value[newbie]
        rows = metric(report, "visit", "conversion")["variants"]
        pairs = [(label, actual, text) for (label, actual), text in zip(numbers_of(report, "visit", "conversion", arm, relative=False), stated.split())]
        for name, counts in (("No E-Mail", control), (arm, treatment)):
            users, visits = counts.split()
            pairs += [(f"{name} n", variant(rows, name)["users"], users), (f"{name} visits", variant(rows, name)["converted_users"], visits)]
        check_numbers(checks, f"hillstrom: newbie={newbie}, {arm}", pairs)


# --- Forms

ROWS = [["user", "arm", "spend", "bought", "before"], *([f"u{n}", "AB"[n % 2], n % 7 + n % 2, n % 3 == 0, n % 5] for n in range(1000))]
SMALL = ("--variant", "arm", "--control", "A", "--unit", "user", "--metric", "spend:sum", "--metric", "bought:conversion", "--guardrail", "slow:quantile:before@0.9", "--margin", "0.1", "--decrease", "slow")


def small(directory):
    path = directory / "small.csv"
    with open(path, "w", newline="") as stream:
        csv.writer(stream).writerows(ROWS)
    return path


def forms(checks, directory):
    path = small(directory)
    report = analyze(path, *SMALL)
    with open(path, "rb") as plain, gzip.open(directory / "zipped.csv.gz", "wb") as zipped:
        shutil.copyfileobj(plain, zipped)
    zipped = analyze(directory / "zipped.csv.gz", *SMALL)
    checks.equal("a compressed file gives the same", zipped["metrics"], report["metrics"])
    parquet(checks, directory, report)
    text = must(trialog("analyze", path, *SMALL)).out
    checks.check("the table has the sample ratio, intervals as bars and the guardrail", "sample ratio: passed" in text and "├" in text and "no more than 10 % worse" in text, text)
    must(trialog("analyze", path, *SMALL, "--format", "html", "--output", directory / "report.html"))
    page = (directory / "report.html").read_text()
    checks.check("the page needs nothing else", "<svg" in page and "<style>" in page and not re.search(r"(src|href)=\"(?!#)", page), page[:500])
    shown = re.findall(r'<data value="([^"]+)" data-path="/metrics/0/comparisons/0/difference">', page)
    checks.equal("the page has the numbers of the report", [float(own) for own in shown], [report["metrics"][0]["comparisons"][0]["difference"]])


def parquet(checks, directory, report):
    """`trialog export` writes the one at hand: an event per row, here one per user."""
    data = directory / "data"
    now = int(time.time())
    with open(directory / "events.csv", "w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["user_id", "experiment_id", "event_type", "value", "timestamp"])
        rows.writerows([n, "AB"[n % 2], "spend", own[2], now * 1000] for n, own in enumerate(ROWS[1:]))
    must(trialog("import", "metrics", directory / "events.csv", data_dir=data))
    must(trialog("export", "metrics", directory / "events.parquet", data_dir=data))
    asked = ("--variant", "experiment_id", "--control", "A", "--unit", "user_id", "--metric", "spend:sum:value")
    own = comparison(analyze(directory / "events.parquet", *asked), "spend", "sum", "B")
    checks.equal("a Parquet file gives the same", own["p_value"], comparison(report, "spend", "sum", "B")["p_value"])


MOST_MEMORY_MB = 64


def large(checks, directory):
    """A file larger than the memory that the command may have."""
    path = directory / "large.csv"
    n_rows = 6_000_000
    with open(path, "w") as stream:
        stream.write("user,arm,spend,padding\n")
        for first in range(0, n_rows, 100_000):
            stream.writelines(f"{n},{'AB'[n % 2]},{n * 7919 % 1_000_003 / 100},0000000000\n" for n in range(first, first + 100_000))
    size = path.stat().st_size / 2**20
    limit = lambda: resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY_MB << 20,) * 2)
    command = [BINARY, "analyze", path, "--variant", "arm", "--control", "A", "--metric", "spend:sum", "--metric", "p95:quantile:spend@0.95", "--winsorise", "0.99", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)
    checks.check(f"{size:.0f} MB are analysed with {MOST_MEMORY_MB} MB of memory", done.returncode == 0 and size > 2 * MOST_MEMORY_MB, done.stderr[-500:])
    if done.returncode:
        return
    report = json.loads(done.stdout)
    for arm in "AB":
        values = sorted(n * 7919 % 1_000_003 / 100 for n in range(n_rows) if n % 2 == "AB".index(arm))
        at = (len(values) - 1) * 0.95
        low, high = values[int(at)], values[int(at) + 1]
        shown = variant(metric(report, "p95", "quantile")["variants"], arm)["mean"]
        checks.check(f"the quantile of {arm} is the one of all values", abs(shown - (low + (at - int(at)) * (high - low))) < 1e-9, shown)
    path.unlink()


# --- Mistakes

def mistakes(checks, directory):
    path = small(directory)

    def refused(name, arguments, *words):
        done = trialog("analyze", *arguments)
        checks.check(f"{name}: says what to do", done.code == 1 and all(word in done.err for word in words), done)

    plain = ("--variant", "arm", "--control", "A")
    asked = ("--metric", "spend:sum")
    refused("no metric", (path, *plain), "--metric")
    refused("a column that is not there", (path, "--variant", "group", *asked), "no column `group`", "`user`, `arm`, `spend`")
    refused("no control", (path, "--variant", "arm", *asked), "--control", "A, B")
    refused("a control that is not there", (path, "--variant", "arm", "--control", "C", *asked), "no variant `C`", "A, B")
    refused("a weight for nobody", (path, *plain, *asked, "--weights", "A=1,C=1"), "no variant `C`")
    refused("a weight that is missing", (path, *plain, *asked, "--weights", "A=1"), "`B`")
    refused("users as variants", (path, "--variant", "user", "--control", "u1", *asked), "more than 100")
    refused("users as segments", (path, *plain, *asked, "--segment", "user"), "more than 100")
    refused("text as a number", (path, *plain, "--metric", "user:sum"), "row 1", "`u0`", "`user`")
    refused("a user twice", (path, *plain, *asked, "--unit", "arm"), "row 3", "one row per unit")
    refused("two adjustments", (path, *plain, *asked, "--covariate", "before", "--winsorise", "0.9"), "--winsorise")
    refused("a metric twice", (path, *plain, *asked, *asked), "twice")
    semicolons = directory / "semicolons.csv"
    semicolons.write_text("arm;spend\nA;1\nB;2\n")
    done = trialog("analyze", semicolons, *plain, *asked)
    checks.check("semicolons between cells are told from the header", done.code == 0 and "2 users" in done.out, done)
    refused("a separator that is another one", (semicolons, *plain, *asked, "--separator", "|"), "--separator")
    refused("no format", (shutil.copy(path, directory / "noext"), *plain, *asked), "--input-format")
    refused("no file", (directory / "absent.csv", *plain, *asked), "absent.csv")
    for name, rows, words in (
        ("an empty cell", "a,A,\n", ("row 1", "is empty")),
        ("a short row", "a,A\n", ("row 1", "2 cells")),
        ("an infinite number", "a,A,1\nb,B,inf\n", ("row 2", "`inf`")),
        ("one variant", "a,A,1\n", ("only the variant A",)),
        ("no rows", "", ("no rows",)),
    ):
        bad = directory / "bad.csv"
        bad.write_text("user,arm,spend\n" + rows)
        refused(name, (bad, *plain, *asked), *words)
    flat = directory / "flat.csv"
    flat.write_text("user,arm,spend\n" + "".join(f"{n},{'AB'[n % 2]},0\n" for n in range(4)))
    row = comparison(analyze(flat, *plain, *asked), "spend", "sum", "B")
    checks.check("no spread: a difference, no test and a reason", row["difference"] == 0 and row["p_value"] is None and row["relative_ci_reason"], row)


def planning(checks, _):
    def plan(*arguments):
        return json.loads(must(trialog("power", *arguments, "--format", "json")).out)

    size = plan("--rate", "0.1", "--mde", "0.01", "--daily-users", "2000")
    checks.check("10 % to 11 % takes 14,751 users per arm", (size["users_control"], size["users"]) == (14_751, 29_502), size)
    checks.check("2,000 users a day bring them in 14.8 days", abs(size["days"] - 14.751) < 1e-9, size)
    checks.check("percent is as good as a fraction", plan("--rate", "10%", "--mde", "1pp", "--alpha", "5%", "--power", "80%", "--daily-users", "2000") == size, size)
    relative = plan("--rate", "0.1", "--mde", "10%")
    checks.equal("an effect in percent is the same one", relative["users"], size["users"])
    found = plan("--rate", "0.1", "--users", "14751")
    checks.check("and so many find that effect", abs(found["mde"] - 0.01) < 1e-5, found)
    power = plan("--sd", "10", "--mean", "50", "--mde", "1", "--users", "1571")
    checks.check("power of a mean", abs(power["power"] - 0.8) < 1e-3, power)
    weeks = plan("--sd", "10", "--daily-users", "500")
    checks.check("effects by weeks fall", len(weeks) == 6 and all(a["mde"] > b["mde"] for a, b in zip(weeks, weeks[1:])), weeks)
    several = plan("--rate", "0.1", "--mde", "0.01", "--treatments", "3")
    checks.check("three treatments share alpha", abs(several["alpha"] - 0.05 / 3) < 1e-12 and several["users"] > 2 * size["users"], several)
    for arguments, word in ((("--rate", "0.1"), "--mde"), (("--rate", "1.5", "--mde", "0.1"), "0 and 1"), (("--mde", "0.1"), "--sd"), (("--sd", "1", "--mde", "5%"), "--mean"), (("--rate", "0.1", "--mde", "x"), "relative such as 5%")):
        done = trialog("power", *arguments)
        checks.check(f"power {' '.join(arguments)}: says what to do", done.code in (1, 2) and word in done.err, done)


main(cookie_cats, hillstrom, forms, large, mistakes, planning)
