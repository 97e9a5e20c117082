"""Whether the traffic still looks like the calibration images: one conformal test martingale over the p-values.

Vovk's simple jumper (Vovk, Petej, Nouretdinov, Ahlberg, Carlsson, Gammerman: "Retrain or not retrain: conformal test
martingales for change-point detection", COPA 2021), betting on small p-values. A gambler starts with a capital of 1
and bets on every image that its p-value will be small, at odds that are fair or worse as long as the traffic is like
the calibration images. The capital is then unlikely to grow: how far it has grown is the evidence of a change.

Two departures from the textbook, both on the side of caution:
- The capital is lifted back to 1 whenever it falls below (the paper's CUSUM form), so that years of normal traffic do
  not have to be won back before a change is noticed. What it promises is then a mean time between false alarms: while
  nothing has changed, a capital of c is reached at most once in c images on average.
- That promise is for a calibration set drawn anew for every image. Ours is fixed, and its p-values are off by its
  sampling error, the same way for ever. Each p-value is therefore raised by `SPREADS` standard error first
  (compare Shaer, Bar, Prinster, Romano: "Testing for distribution shifts with conditional conformal test
  martingales", PMLR 306, 2026). benchmarks/detection/drift.py measures what that leaves of false alarms.
"""

import math

SPREADS = 1.0
JUMP_RATE = 0.01
MOST_EVIDENCE = 12.0
"""log10 of the capital is cut off here, so that it also comes down again when a change has passed."""


class Drift:
    """The gambler of one worker. Not safe to call from several threads at once.

    Attributes:
        evidence: log10 of the capital, from 0 (none) to `MOST_EVIDENCE`.
    """

    def __init__(self, calibration_size: int) -> None:
        """
        Args:
            calibration_size: Images behind each p-value.
        """
        self._calibration_size = calibration_size
        self.evidence = 0.0
        self._shares = _EVEN

    def update(self, p_value: float) -> None:
        """Bets on one image, admitted or refused alike.

        Args:
            p_value: In (0, 1]. That P(p_value <= t) <= t for normal images is what makes the odds fair or worse.
        """
        wins = bets(careful_p_value(p_value, self._calibration_size))
        capital = [(_STAY * share + _JUMP) * win for share, win in zip(self._shares, wins, strict=True)]
        growth = sum(capital)  # at least _JUMP, which is what the first bet holds: neither 0 nor infinite
        evidence = self.evidence + math.log10(growth)
        if evidence <= 0:
            self.evidence, self._shares = 0.0, _EVEN
        else:
            self.evidence = min(evidence, MOST_EVIDENCE)
            self._shares = [part / growth for part in capital]


def careful_p_value(p_value: float, calibration_size: int) -> float:
    """A p-value raised by the sampling error of the calibration set behind it; at most 1."""
    error = math.sqrt(p_value * (1 - p_value) / calibration_size)
    return min(1.0, p_value + SPREADS * error + SPREADS**2 / (3 * calibration_size))


def bets(p_value: float) -> tuple[float, float, float, float]:
    """What a capital of 1 becomes with each bet: at most 1 on average if the p-value is uniform, or larger."""
    return (
        1.0,  # held back: what a later change is met with
        1.5 - p_value,  # all p-values a little small
        0.8 + 0.05 * p_value**-0.75,  # now and then a tiny one: cheap to hold, for rare anomalies
        0.5 * p_value**-0.5,  # most of them tiny
    )


_STAY = 1 - JUMP_RATE
_JUMP = JUMP_RATE / 4
_EVEN = [0.25, 0.25, 0.25, 0.25]
