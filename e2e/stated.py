"""Numbers that a published page states, beside those that were computed.

The folder of the data sets is $TRIALOG_SHARED, or ../shared beside the checkout.
"""

import os
from decimal import Decimal
from pathlib import Path
from statistics import NormalDist

from expected import student_critical
from harness import CHECKOUT

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


def numbers_of(row, relative=True):
    named = [("difference", row["difference"]), ("low", row["ci"][0]), ("high", row["ci"][1]), ("statistic", row["statistic"])]
    if row["df"] is not None:
        named.append(("df", row["df"]))
    named.append(("p", row["p_value"]))
    if relative:
        low, high = relative_ends(row)
        named += [("relative", row["relative_difference"]), ("relative low", low), ("relative high", high)]
    return named


def relative_ends(row):
    """The relative interval as the pages state it: for means they take the normal quantile, the report takes t."""
    if row["df"] is None:
        return row["relative_ci"]
    scale = NormalDist().inv_cdf(0.975) / student_critical(0.05, row["df"])
    lift = row["relative_difference"]
    return [lift + (end - lift) * scale for end in row["relative_ci"]]


def check_row(checks, name, row, stated, relative=True):
    named = numbers_of(row, relative)
    stated = stated.split()
    assert len(named) == len(stated), (name, named, stated)
    check_numbers(checks, name, [(label, actual, text) for (label, actual), text in zip(named, stated)])


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
