"""Numbers that a published page states, beside those that were computed.

The folder of the data sets is $TRIALOG_SHARED, or ../shared beside the checkout.
"""

import json
import os
import subprocess
from decimal import Decimal
from pathlib import Path

from harness import BINARY, CHECKOUT, comparison, metric, variant

SHARED = Path(os.environ.get("TRIALOG_SHARED") or CHECKOUT.parent / "shared")


def agrees(actual, stated):
    """Whether `actual` rounds to the digits that are stated (`%` is a hundredth)."""
    if actual is None:
        return False
    percent = stated.endswith("%")
    wanted = Decimal(stated.rstrip("%").replace("−", "-").replace(",", ""))
    last_digit = Decimal(1).scaleb(wanted.as_tuple().exponent)
    got = Decimal(repr(actual)) * (100 if percent else 1)
    return abs(got - wanted) <= last_digit * Decimal("0.51")


def check_numbers(checks, name, pairs):
    wrong = [f"{label} is {actual!r} where {stated} is stated" for label, actual, stated in pairs if not agrees(actual, stated)]
    checks.check(f"{name} ({len(pairs)} numbers)", not wrong, "; ".join(wrong))


def found(checks, name):
    folder = SHARED / name
    if folder.is_dir():
        return folder
    checks.skip(name, f"there is no folder {name} in $TRIALOG_SHARED or ../shared")
    return None


def family(name, **fields):
    """What `trialog calc` answers."""
    done = subprocess.run([BINARY, "calc", name], input=json.dumps(fields), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def numbers_of(report, name, kind, treatment, relative=True):
    """The numbers of a comparison as the pages have them: Wald's interval of rates and relative intervals by
    the delta method, which reports have better ones for, come from the sums by the families of `calc`."""
    row = comparison(report, name, kind, treatment)
    arms = [variant(metric(report, name, kind)["variants"], arm) for arm in (report["control"], treatment)]
    low, high = row["ci"]
    if kind == "conversion":
        a, b = ({"conversions": arm["converted_users"], "n": arm["users"]} for arm in arms)
        wald = family("two_proportion_z", a=a, b=b)["ci_wald"][0]
        low, high = wald["low"], wald["high"]
    named = [("difference", row["difference"]), ("low", low), ("high", high), ("statistic", row["statistic"])]
    if row["df"] is not None:
        named.append(("df", row["df"]))
    named.append(("p", row["p_value"]))
    if relative:
        own = (lambda arm: arm["mean"] * (1 - arm["mean"])) if kind == "conversion" else (lambda arm: arm["variance"])
        a, b = ({"n": arm["users"], "mean": arm["mean"], "var": own(arm)} for arm in arms)
        # With a flat prior the posterior of the lift is normal, with the error of the delta method.
        delta = family("bayesian_normal", a=a, b=b, difference_type="relative")["ci"]
        named += [("relative", row["relative_difference"]), ("relative low", delta["low"]), ("relative high", delta["high"])]
    return named


def check_row(checks, label, row, stated, relative=True):
    """`row` is a report with the metric, its kind and the treatment."""
    named = numbers_of(*row, relative)
    stated = stated.split()
    assert len(named) == len(stated), (label, named, stated)
    check_numbers(checks, label, [(name, actual, text) for (name, actual), text in zip(named, stated)])


# --- Hillstrom: each treatment against No E-Mail, as two scripts compute it.

# Arm, metric: difference, interval, statistic, degrees of freedom of means, p, relative difference and interval.
EMAIL_ROWS = (
    ("Mens E-Mail", "visit", "0.076589564 0.069953501 0.083225626 22.486041 5.6851655e-112 72.140% 63.842% 80.439%"),
    ("Mens E-Mail", "conversion", "0.0068050065 0.0050001714 0.0086098417 7.3851144 1.5232235e-13 118.84% 72.154% 165.53%"),
    ("Mens E-Mail", "spend", "0.76982716 0.48513973 1.0545146 5.3001404 36,671.158 1.1638150e-07 117.93% 54.431% 181.43%"),
    ("Womens E-Mail", "visit", "0.045233107 0.038893826 0.051572387 13.949181 3.1824032e-44 42.606% 35.440% 49.771%"),
    ("Womens E-Mail", "conversion", "0.0031110575 0.0014986778 0.0047234372 3.7795610 1.5710513e-04 54.331% 19.324% 89.339%"),
    ("Womens E-Mail", "spend", "0.42441222 0.16895679 0.67986764 3.2563716 40,064.884 1.1293971e-03 65.015% 14.913% 115.12%"),
)
# Correction: p of visit, conversion and spend, of Mens and then of Womens.
EMAIL_ADJUSTED = {
    "bonferroni": "3.4110993e-111 9.1393410e-13 6.9828898e-07 1.9094419e-43 9.4263077e-04 6.7763826e-03",
    "holm": "3.4110993e-111 6.0928940e-13 3.4914449e-07 1.5912016e-43 3.1421026e-04 1.1293971e-03",
    "bh": "3.4110993e-111 3.0464470e-13 1.7457225e-07 9.5472095e-44 1.8852616e-04 1.1293971e-03",
}
# Value of newbie, arm: users and visits of the control and of the arm, difference and interval of visits.
EMAIL_NEWBIES = (
    ("0", "Mens E-Mail", "10,611 1,419", "10,621 2,247", "0.077832851 0.067720011 0.087945690"),
    ("0", "Womens E-Mail", "10,611 1,419", "10,624 1,847", "0.040122508 0.030433734 0.049811282"),
    ("1", "Mens E-Mail", "10,695 843", "10,686 1,647", "0.075305016 0.066764136 0.083845895"),
    ("1", "Womens E-Mail", "10,695 843", "10,763 1,391", "0.050417180 0.042278040 0.058556321"),
)
