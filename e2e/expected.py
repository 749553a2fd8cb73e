"""The tests of the results report, computed here from raw numbers.

Written from the textbook formulas and not from Trialog's code.
"""

import math
from statistics import NormalDist, fmean, variance

NORMAL = NormalDist()


def normal_two_sided(z):
    return math.erfc(abs(z) / math.sqrt(2))


def student_two_sided(t, df):
    """P(|T| > t), by the incomplete beta function."""
    return _incomplete_beta(df / 2, 0.5, df / (df + t * t))


def student_critical(level, df):
    """The t with P(|T| > t) = level."""
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if student_two_sided(middle, df) > level else (low, middle)
    return (low + high) / 2


def _incomplete_beta(a, b, x):
    if x in (0.0, 1.0):
        return x
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    tiny, c, d = 1e-300, 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d or tiny)
    fraction = d
    for m in range(1, 500):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / ((1 + numerator * d) or tiny)
            c = (1 + numerator / c) or tiny
            fraction *= c * d
        if abs(c * d - 1) < 1e-16:
            break
    return front * fraction


def welch(control, treatment, alpha=0.05):
    """Welch's t-test of two lists of numbers per user."""
    na, nb = len(control), len(treatment)
    a, b, va, vb = fmean(control), fmean(treatment), variance(control), variance(treatment)
    sa, sb = va / na, vb / nb
    error = math.sqrt(sa + sb)
    df = (sa + sb) ** 2 / (sa**2 / (na - 1) + sb**2 / (nb - 1))
    half = student_critical(alpha, df) * error
    pooled = math.sqrt(((na - 1) * va + (nb - 1) * vb) / (na + nb - 2))
    return {
        "difference": b - a,
        "low": b - a - half,
        "high": b - a + half,
        "statistic": (b - a) / error,
        "df": df,
        "p_value": student_two_sided((b - a) / error, df),
        "cohens_d": (b - a) / pooled,
    }


def wilson(k, n, alpha):
    """All rates p with (k/n - p)² <= z² p (1 - p) / n."""
    z = NORMAL.inv_cdf(1 - alpha / 2)
    centre = (k + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(k * (n - k) / n + z * z / 4)
    return centre - half, centre + half


def two_proportions(ka, na, kb, nb, alpha=0.05):
    """The z-test with pooled variance; Newcombe's interval from the Wilson intervals of both arms."""
    a, b = ka / na, kb / nb
    pooled = (ka + kb) / (na + nb)
    z = (b - a) / math.sqrt(pooled * (1 - pooled) * (1 / na + 1 / nb))
    (low_a, high_a), (low_b, high_b) = wilson(ka, na, alpha), wilson(kb, nb, alpha)
    return {
        "difference": b - a,
        "low": b - a - math.hypot(b - low_b, high_a - a),
        "high": b - a + math.hypot(high_b - b, a - low_a),
        "statistic": z,
        "p_value": normal_two_sided(z),
    }


def sample_ratio(counts, weights):
    """Chi-squared against the planned weights; its tail for one or two degrees of freedom."""
    total, share = sum(counts), sum(weights)
    chi = sum((n - total * w / share) ** 2 / (total * w / share) for n, w in zip(counts, weights))
    return chi, (math.erfc(math.sqrt(chi / 2)) if len(counts) == 2 else math.exp(-chi / 2))
