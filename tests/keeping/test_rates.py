import numpy as np
import pytest

from app.keeping.index import Cell
from app.keeping.rates import LiveRates, live_rates, useful_images

FALSE_POSITIVES, DETECTION, ANOMALIES = 0.03, 0.8, 0.1


def drawn_cells(
    random: np.random.Generator, images: int, probabilities: tuple[float, ...], labelled: tuple[float, float]
) -> list[Cell]:
    """A month of traffic with known rates.

    Args:
        images: In all.
        probabilities: Of being drawn; each holds for an equal part of the time.
        labelled: The shares of admitted and of refused images of the sample that somebody labels.
    """
    cells = []
    for probability in probabilities:
        for label, share, refused in (
            ("normal", 1 - ANOMALIES, FALSE_POSITIVES),
            ("anomaly", ANOMALIES, DETECTION),
        ):
            sampled = random.binomial(round(images * share / len(probabilities)), probability)
            by_verdict = random.binomial(sampled, refused)
            for verdict, count in ((True, by_verdict), (False, sampled - by_verdict)):
                seen = random.binomial(count, labelled[verdict])
                cells += [Cell(verdict, probability, None, count), Cell(verdict, probability, label, seen)]  # type: ignore[arg-type]
    return [cell for cell in cells if cell.images]


@pytest.mark.parametrize(
    ("probabilities", "labelled"),
    [
        ((0.02,), (1.0, 1.0)),
        ((0.05,), (0.5, 1.0)),  # refused images are labelled first
        ((0.05,), (1.0, 0.4)),
        ((0.01, 0.04), (1.0, 1.0)),  # the share was changed meanwhile
        ((0.02, 0.08), (0.5, 1.0)),
    ],
)
def test_intervals_hold_the_true_rates_as_often_as_they_say(
    probabilities: tuple[float, ...], labelled: tuple[float, float]
) -> None:
    random = np.random.default_rng(0)
    found: list[LiveRates] = [
        live_rates(drawn_cells(random, 20_000, probabilities, labelled), 0.01) for _ in range(120)
    ]
    for name, truth in (("false_positive_rate", FALSE_POSITIVES), ("detection_rate", DETECTION)):
        rates = [getattr(one, name) for one in found]
        known = [one for one in rates if one.estimate is not None]
        assert len(known) > 110
        # Of 120 draws with a coverage of 95%, fewer than 90% are covered once in a hundred times.
        assert np.mean([one.low <= truth <= one.high for one in known]) >= 0.9
        assert np.mean([one.estimate for one in known]) == pytest.approx(truth, rel=0.15)


def test_labels_of_refused_images_alone_tell_no_rate() -> None:
    cells = [Cell(True, 0.1, None, 5), Cell(False, 0.1, None, 500), Cell(True, 0.1, "normal", 5)]
    rate = live_rates(cells, 0.01).false_positive_rate
    assert (rate.estimate, rate.low, rate.high) == (None, 0.0, 1.0)


def test_with_everything_labelled_the_rate_is_the_plain_share() -> None:
    cells = [
        Cell(True, 0.1, None, 3),
        Cell(False, 0.1, None, 298),
        Cell(True, 0.1, "normal", 2),
        Cell(True, 0.1, "anomaly", 1),
        Cell(False, 0.1, "normal", 298),
    ]
    rates = live_rates(cells, 0.01)
    assert rates.sampled == rates.labelled == 301
    assert rates.false_positive_rate.estimate == pytest.approx(2 / 300)
    assert rates.false_positive_rate.low == pytest.approx(0.000809, abs=1e-5)  # Clopper-Pearson, 2 of 300
    assert rates.false_positive_rate.high == pytest.approx(0.02389, abs=1e-4)
    assert rates.detection_rate.estimate == 1.0


def test_what_is_missing_for_a_useful_figure_falls_with_each_label() -> None:
    cells = [Cell(False, 1.0, None, 100), Cell(False, 1.0, "normal", 100)]
    assert live_rates(cells, 0.01).false_positive_rate.missing == useful_images(0.01) - 100
    assert 700 < useful_images(0.01) < 850


def test_nothing_labelled_is_nothing_known() -> None:
    assert live_rates([], 0.01).false_positive_rate.estimate is None
