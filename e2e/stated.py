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
