"""Confidence intervals of a share, exact (Clopper and Pearson, 1934), without SciPy."""

import math

CONFIDENCE = 0.95
_STEPS = 200
_TINY = 1e-300


def share_interval(hits: float, trials: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Returns the Clopper-Pearson interval of a share, which covers the true share with at least `confidence`.

    Args:
        hits: Number of successes. For weighted trials it need not be a whole number.
        trials: Number of trials.
        confidence: In (0, 1), for both sides together.

    Returns:
        (low, high) in [0, 1]; (0, 1) without a trial.
    """
    if trials <= 0:
        return 0.0, 1.0
    tail = (1 - confidence) / 2
    misses = max(trials - hits, 0.0)
    low = 0.0 if hits <= 0 else beta_quantile(tail, hits, misses + 1)
    high = 1.0 if misses <= 0 else beta_quantile(1 - tail, hits + 1, misses)
    return low, high


def beta_quantile(probability: float, a: float, b: float) -> float:
    """The value in [0, 1] below which Beta(a, b), with a and b above 0, lies with this probability."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if beta_below(middle, a, b) < probability else (low, middle)
    return high


def beta_below(x: float, a: float, b: float) -> float:
    """P(Beta(a, b) <= x): the regularised incomplete beta function, for x in [0, 1]."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    # The fraction converges quickly on this side of the mean, and the other side is its mirror image.
    if x < (a + 1) / (a + b + 2):
        return math.exp(log_front) * _fraction(x, a, b) / a
    return 1 - math.exp(log_front) * _fraction(1 - x, b, a) / b


def _fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of DLMF 8.17.22 by Lentz's method."""
    c, d = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1))
    value = d
    for step in range(1, _STEPS):
        even = step * (b - step) * x / ((a + 2 * step - 1) * (a + 2 * step))
        odd = -(a + step) * (a + b + step) * x / ((a + 2 * step) * (a + 2 * step + 1))
        for term in (even, odd):
            d = 1 / _not_zero(1 + term * d)
            c = _not_zero(1 + term / c)
            value *= c * d
        if abs(c * d - 1) < 1e-12:
            break
    return value


def _not_zero(number: float) -> float:
    return number if abs(number) > _TINY else _TINY
