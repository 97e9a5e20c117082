"""What other thresholds would do."""

import numpy as np
import pytest

from app.detection.promise import make_promise
from app.detection.shown import CLASSES, class_thresholds
from training.fitting.calibrate import Calibration
from training.fitting.other_thresholds import Trial, at_rates, deciding_files, deciding_words, rate_words


def calibrated(scores, rate):
    """The scores of n images, sent as they are."""
    by_image = np.array([scores], np.float32)
    promise = make_promise(len(scores), rate)
    ranked = np.sort(by_image)
    thresholds = class_thresholds(ranked, [""], promise.rank)
    return Calibration(thresholds, ranked, np.zeros((1, 1, 1), np.float16), by_image, [""]), promise


def trial_of(made_up, normal=(0.0,), own=None):
    anomalies = {"made_up": {"noise": np.array(made_up, np.float32)}, "drawn": {}}
    if own:
        anomalies["own"] = {"your anomalies": np.array(own, np.float32)}
    return Trial(np.array(normal, np.float32), [CLASSES[0]] * len(normal), anomalies, CLASSES[0])


def test_one_odd_file_that_sets_the_threshold_is_named_with_what_it_costs():
    scores = [*np.linspace(0, 1, 98), 50.0, 0.5]
    calibration, promise = calibrated(scores, 0.01)
    names = [f"{row}.png" for row in range(100)]
    images = np.zeros((100, 28, 28), np.float32)
    deciding = deciding_files(calibration, promise, trial_of([2, 3, 60, np.nan]), names, images)
    assert deciding.threshold == 50
    assert deciding.found == 0.5
    assert deciding.files[0].name == "98.png"
    assert deciding.files[0].threshold == 1
    assert deciding.files[0].found == 1
    assert [file.threshold for file in deciding.files[1:]] == [50] * 4
    assert deciding.threshold_without_all < 1
    assert deciding.enough
    lines = deciding_words(deciding)
    assert "50 and finds 50.0%" in lines[0]
    assert lines[1] == "  1 (100.0% found) without 98.png"


def test_a_folder_without_an_image_to_spare_says_that_others_must_come():
    calibration, promise = calibrated(np.linspace(0, 1, 99), 0.01)
    deciding = deciding_files(
        calibration, promise, trial_of([2.0]), list(map(str, range(99))), np.zeros((99, 28, 28), np.float32)
    )
    assert not deciding.enough
    assert deciding.files[0].threshold == pytest.approx(np.linspace(0, 1, 99)[-2], abs=1e-4)
    assert deciding_words(deciding)[-1].endswith("with others added.")


def test_rates_that_calibration_cannot_promise_are_left_out():
    calibration, promise = calibrated(np.arange(60.0), 0.05)
    table = at_rates(calibration, promise, trial_of([57.0, 58.5, 90.0], normal=np.arange(50.0), own=[0.0, 70.0]))
    assert [row["rate"] for row in table] == [0.02, 0.05]
    assert [row["threshold"] for row in table] == [59, 57]
    assert [row["found"]["made_up"] for row in table] == [0.3333, 0.6667]
    assert [row["found"]["own"] for row in table] == [0.5, 0.5]
    assert [row["false_positive_rate"] for row in table] == [0, 0]
    assert "drawn" not in table[0]["found"]


def test_table_of_rates_is_readable_in_a_terminal():
    calibration, promise = calibrated(np.arange(60.0), 0.05)
    lines = rate_words(at_rates(calibration, promise, trial_of([57.0, 58.5, 90.0], own=[70.0])))
    assert lines[0].split("  ")[-1].strip() == "your anomalies found"
    assert lines[1].split() == ["2%", "0.00%", "33.3%", "100.0%"]
    assert len({len(line) for line in lines}) == 1
