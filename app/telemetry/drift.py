"""Whether the traffic still looks like the calibration images: test martingales that hold for a fixed calibration set.

A gambler starts with a capital of 1 and bets on every image that it will be odd, at odds that are fair or worse as long
as the traffic is like the calibration images. The capital is then unlikely to grow: how far it has grown is the
evidence of a change (Vovk, Petej, Nouretdinov, Ahlberg, Carlsson, Gammerman: "Retrain or not retrain: conformal test
martingales for change-point detection", COPA 2021, whose simple jumper spreads the capital over several bets).

- **A fixed calibration set.** The p-values of one calibration set are off by its sampling error, the same way for ever.
  Each rank is therefore replaced by an upper confidence bound of the share of normal images that rank so high or
  higher; all bounds hold at once for `CONFIDENCE` of the calibration sets, and for those every bet is fair or worse (as
  in Shaer, Bar, Prinster, Romano: "Testing for distribution shifts with conditional conformal test martingales", arXiv
  2602.13848, which is valid given the calibration set). Few calibration images give wide bounds: changes are noticed
  later, or not at all, but false alarms are no more frequent.
- **CUSUM.** The capital is lifted back to 1 whenever it falls below, so that years of normal traffic do not have to be
  won back before a change is noticed. While nothing has changed, a capital of c is reached at most once in c images on
  average.
- **No single image wins much**: at most `MOST_WIN` times the capital, so that a few odd images of one client are no
  alarm. An image that was seen lately does not count again.

Three numbers come of it: for all images; for those that were admitted, whose p-values are judged given that they were;
and for sameness, which is what repeated or frozen pictures show, and which odd and ordinary scores can show alike.
"""

import math
from bisect import bisect_left
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.99
"""The share of calibration sets for which every bound holds."""
JUMP_RATE = 0.01
MOST_EVIDENCE = 12.0
"""Upper limit of the evidence (log10 of the capital), so that it falls again soon after a change has passed."""
MOST_WIN = 4.0
SAME_WIN = 1.2
REMEMBERED = 4096
"""Images that are known again when they come again."""
# Bets on the share of the oddest images, and what each pays: from many a little odder to now and then a very odd one.
_STEPS = ((0.5, 1.1), (0.5, 1.3), (0.25, 1.2), (0.25, 1.7), (0.1, 2.2), (0.03, 3.0), (0.01, MOST_WIN))
_CELLS = 16


class Drift:
    """The evidence of one worker, for one artifact. Not safe to call from several threads at once.

    Attributes:
        every: Evidence, log10 of a capital from 0 (none) to `MOST_EVIDENCE`, that images are odder than they were.
        admitted: The same of the images that were not refused.
        sameness: Evidence that scores repeat as those of different images do not.
    """

    def __init__(self, calibration: NDArray[np.float32], thresholds: float | NDArray[np.floating]) -> None:
        """
        Args:
            calibration: (variants, n) scores, each row sorted.
            thresholds: The largest score admitted, or that of each variant.
        """
        size = calibration.shape[1]
        self._bounds = rank_bounds(size)
        rows = zip(calibration, np.broadcast_to(thresholds, len(calibration)), strict=True)
        beyond = size - int(min(np.searchsorted(row, threshold, side="right") for row, threshold in rows))
        self._least_admitted = 1 - self._bounds[min(beyond, size)]
        self.every = Gambler(self._bounds[0])
        self.admitted = Gambler(min(1.0, self._bounds[0] / max(self._least_admitted, 1e-9)))
        self.sameness = Repetition(calibration)
        self._size = size
        self._seen: OrderedDict[tuple[float | None, float], None] = OrderedDict()

    def update(self, score: float, loss: float, p_value: float, is_anomaly: bool) -> None:
        """Bets on one image.

        Args:
            score: Of the image; with `loss` it tells whether the same image was seen lately.
            loss: Of the image.
            p_value: In (0, 1]: its rank, divided by n + 1.
            is_anomaly: Whether it was refused.
        """
        known = score if score == score else None  # NaN is not equal to itself
        self.sameness.update(score)
        if self._seen_lately((known, loss if loss == loss else 0.0)):
            return
        # p_value is the largest over the variants, so that the bound holds for whichever the client sent.
        bound = self._bounds[min(round(p_value * (self._size + 1)), self._size + 1) - 1]
        self.every.update(bound)
        if not is_anomaly and self._least_admitted > 0:
            # P(p <= t, given that it is admitted) <= P(p <= t) / P(admitted)
            self.admitted.update(min(1.0, bound / self._least_admitted))

    def _seen_lately(self, image: tuple[float | None, float]) -> bool:
        if image in self._seen:
            self._seen.move_to_end(image)
            return True
        self._seen[image] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return False


class Gambler:
    """One capital, spread over bets that values are small.

    Attributes:
        evidence: log10 of the capital.
    """

    def __init__(self, least: float) -> None:
        """
        Args:
            least: The smallest value that can come, in (0, 1]; a bet on a smaller one would never be won.
        """
        steps = [step for step in _STEPS if step[0] >= least]
        if least < 0.25:
            steps.append((least, min(MOST_WIN, 0.5 / least)))
        self._edges = sorted({share for share, _ in steps})
        middles = [*self._edges, 1.0]
        # By place among the edges: what a capital of 1 becomes with each bet. The first bet holds it back.
        self._wins = [[1.0, *(step_bet(middle, *step) for step in steps)] for middle in middles]
        self._even = [1 / (len(steps) + 1)] * (len(steps) + 1)
        # Most of the time nothing has been won, and the capital is spread evenly: these bets are worked out once.
        self._from_even = [_bet(self._even, wins) for wins in self._wins]
        self._shares = self._even
        self.evidence = 0.0

    def update(self, value: float) -> None:
        """Bets on one value in (0, 1]; P(value <= t) <= t is what makes the odds fair or worse."""
        place = bisect_left(self._edges, value)
        is_even = self._shares is self._even
        gained, shares = self._from_even[place] if is_even else _bet(self._shares, self._wins[place])
        self.evidence += gained
        if self.evidence <= 0:
            self.evidence, self._shares = 0.0, self._even
        else:
            self.evidence, self._shares = min(self.evidence, MOST_EVIDENCE), shares


class Repetition:
    """One capital, bet on each score falling where the last one fell.

    Places are cells between calibration scores. How many normal images of a variant fall into a cell is known up to the
    error of its distribution function (Dvoretzky, Kiefer, Wolfowitz, with Massart's constant): the odds are fair or
    worse for every way of sending, and for any mixture of them.

    Attributes:
        evidence: log10 of the capital.
    """

    def __init__(self, calibration: NDArray[np.float32]) -> None:
        """
        Args:
            calibration: (variants, n) scores, each row sorted.
        """
        variants, size = calibration.shape
        edges = np.unique(np.quantile(calibration, np.arange(1, _CELLS) / _CELLS))
        shares = np.stack([_cell_shares(row, edges) for row in calibration]).max(axis=0)
        error = math.sqrt(math.log(2 * variants / (1 - CONFIDENCE)) / (2 * size))
        self._edges = edges.tolist()
        most: list[float] = np.minimum(shares + 2 * error, 1.0).tolist()
        # By the cell of the last score: log10 of the growth if the next falls elsewhere, and if it falls there again.
        self._gains = [(math.log10(elsewhere), math.log10(again)) for elsewhere, again in map(_same_bet, most)]
        self._last = -1
        self.evidence = 0.0

    def update(self, score: float) -> None:
        """Bets on one score; what is not a number is the oddest."""
        cell = bisect_left(self._edges, score) if score == score else len(self._edges)
        if self._last >= 0:
            evidence = self.evidence + self._gains[self._last][cell == self._last]
            self.evidence = min(max(evidence, 0.0), MOST_EVIDENCE)
        self._last = cell


def rank_bounds(size: int) -> list[float]:
    """For each k from 1 to n + 1 a bound on the share of normal images with a p-value of at most k / (n + 1).

    With `CONFIDENCE` all of them hold at once: Chernoff's bound at ranks 1, 2, 3, 4, 6, 8, 12, 16 and so on, the error
    probability shared evenly; ranks between get the bound of the next.

    Args:
        size: Calibration images n.

    Returns:
        n + 1 bounds in (0, 1], which never fall.
    """
    ranks = sorted({step for power in range(size.bit_length() + 1) for step in (2**power, 3 * 2**power // 2)})
    ranks = [rank for rank in ranks if 1 <= rank <= size]
    room = math.log(len(ranks) / (1 - CONFIDENCE)) / size
    at_ranks = [_largest_share((rank - 1) / size, room) for rank in ranks]
    return [at_ranks[bisect_left(ranks, rank)] if rank <= ranks[-1] else 1.0 for rank in range(1, size + 2)]


def step_bet(value: float, share: float, win: float) -> float:
    """What a capital of 1 becomes: `win` if a value in (0, 1] is at most `share`, else what makes it fair."""
    return win if value <= share else (1 - win * share) / (1 - share)


def _bet(shares: list[float], wins: list[float]) -> tuple[float, list[float]]:
    """Bets a capital of 1 that is spread over some bets.

    Args:
        shares: How much of it lies on each bet.
        wins: What a capital of 1 becomes with each.

    Returns:
        log10 of what the capital becomes, and how that is spread.
    """
    jump = JUMP_RATE / len(wins)
    capital = [((1 - JUMP_RATE) * share + jump) * win for share, win in zip(shares, wins, strict=True)]
    growth = sum(capital)  # at least what the first bet holds: neither 0 nor infinite
    return math.log10(growth), [part / growth for part in capital]


def _same_bet(most: float) -> tuple[float, float]:
    """What a capital of 1 becomes if a score falls elsewhere, and if it falls into the cell that may hold `most`."""
    if SAME_WIN * most >= 0.9:  # where a cell may hold nearly all normal images, there is nothing to bet on
        return 1.0, 1.0
    return (1 - SAME_WIN * most) / (1 - most), SAME_WIN


def _largest_share(seen: float, room: float) -> float:
    """The largest u with kl(seen, u) <= room: a share u of which only `seen` was seen is less likely than exp(-n room).

    By bisection; the Kullback-Leibler divergence of two shares grows with u above `seen`.
    """
    low, high = seen, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _divergence(seen, middle) <= room else (low, middle)
    return high


def _divergence(seen: float, share: float) -> float:
    if share >= 1:
        return math.inf
    rest = (1 - seen) * math.log((1 - seen) / (1 - share))
    return rest + (seen * math.log(seen / share) if seen > 0 else 0.0)


def _cell_shares(row: NDArray[np.float32], edges: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """The share of a variant's scores in each cell; a score on an edge is in the cell below it."""
    places = np.searchsorted(edges, row, side="left")
    return np.bincount(places, minlength=len(edges) + 1) / len(row)
