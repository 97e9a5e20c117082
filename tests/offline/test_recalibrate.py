import json
import os
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from app.__main__ import main
from app.detection.artifact import load_artifact
from app.detection.detector import Detector
from app.detection.intervals import beta_below
from app.detection.promise import make_promise, with_rate
from app.errors import PromiseError
from app.keeping.store import KeptStore
from app.main import create_app
from app.offline.made_up import made_up_pictures
from app.offline.recalibrate import _distinct
from app.settings import Settings
from testing.artifacts import write_tiny_artifact
from testing.kept_images import add, record
from testing.pictures import picture


@pytest.fixture
def production(tmp_path: Path) -> Path:
    """120 images that are darker than those of the tiny artifact: losses of .04 to .3."""
    folder = tmp_path / "production"
    folder.mkdir()
    for number in range(120):  # of two widths, so that no two are copies
        (folder / f"{number:03}.png").write_bytes(picture(level=116 + number * 88 // 120, width=28 + number % 2))
    return folder


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return write_tiny_artifact(tmp_path / "tiny", threshold=0.1, evaluation={"false_positive_rate": 0.01})


def test_the_threshold_is_the_conformal_one_of_these_images(
    artifact: Path, production: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recalibrate", str(artifact), str(production), "--output", str(tmp_path / "new")]) == 0
    new, old = load_artifact(tmp_path / "new"), load_artifact(artifact)
    assert new.calibration.shape == (1, 120)
    assert new.manifest.promise.rank == 120  # ceil(121 * .99)
    assert new.manifest.threshold == new.calibration[0, 119]
    assert new.graph == old.graph
    assert new.manifest.recalibrated_from is not None
    assert new.manifest.recalibrated_from.version == old.version
    assert new.manifest.recalibrated_from.name == "tiny"
    assert new.manifest.evaluation == {}
    assert "as production sends them" in new.manifest.promise.words
    assert not (tmp_path / "new" / "report").exists()
    printed = capsys.readouterr().out
    assert "threshold 0.1, refuses" in printed
    assert new.version in printed
    assert "Made-up pictures found" in printed
    assert "is replaced" not in printed
    assert printed.endswith(
        f"tiny {new.version} is in {tmp_path / 'new'}\nServe it: GATE_ARTIFACT={tmp_path / 'new'} make run\n"
    )


def test_an_artifact_that_is_replaced_is_named_first(
    artifact: Path, production: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = write_tiny_artifact(tmp_path / "new", name="earlier")
    version = load_artifact(earlier).version
    assert main(["recalibrate", str(artifact), str(production), "--output", str(earlier)]) == 0
    said = f"{earlier} holds the artifact earlier {version}; it is replaced when this is done.\n"
    assert capsys.readouterr().out.startswith(said)
    assert load_artifact(earlier).version != version


def test_the_new_artifact_is_served_like_any_other(artifact: Path, production: Path, tmp_path: Path) -> None:
    dark = picture(level=120)
    assert main(["recalibrate", str(artifact), str(production), "--output", str(tmp_path / "new")]) == 0
    for folder, verdict in ((artifact, True), (tmp_path / "new", False)):
        with TestClient(create_app(Settings(artifact=folder, log_level="error"))) as client:
            assert client.post("/v1/predict", content=dark).json()["is_anomaly"] is verdict
            assert client.get("/v1/model").json()["promise"]["calibration_size"] == (99 if verdict else 120)


def test_too_few_images_leave_no_artifact_and_say_how_many_it_takes(
    artifact: Path, production: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["recalibrate", str(artifact), str(production), "--output", str(tmp_path / "new")]
    assert main([*command, "--target-false-positive-rate", "0.001"]) == 1
    assert "it takes at least 999" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert main([*command, "--target-false-positive-rate", "0.05"]) == 0
    assert load_artifact(tmp_path / "new").manifest.promise.target_false_positive_rate == 0.05


def test_files_that_cannot_be_judged_are_named_and_not_counted(
    artifact: Path, production: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (production / "letter.txt").write_text("Dear sir")
    assert main(["recalibrate", str(artifact), str(production), "--output", str(tmp_path / "new")]) == 0
    assert "letter.txt is not counted" in capsys.readouterr().err
    assert load_artifact(tmp_path / "new").manifest.promise.calibration_size == 120


def test_each_content_counts_once_and_that_is_said_in_one_line(
    artifact: Path, production: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(7):
        (production / f"copy-{number}.png").write_bytes((production / "003.png").read_bytes())
    (production / "gone.png").symlink_to("nowhere.png")
    assert main(["recalibrate", str(artifact), str(production), "--output", str(tmp_path / "new")]) == 0
    said = capsys.readouterr()
    assert "7 of 128 files are exact copies of others; each content counts once.\n" in said.out
    assert said.err.count("is not counted") == 1
    assert load_artifact(tmp_path / "new").manifest.promise.calibration_size == 120


def test_what_is_no_file_is_never_opened_to_be_compared(tmp_path: Path) -> None:
    """Opening a pipe waits for somebody who writes to it."""
    names = [os.fsencode(tmp_path / "pipe"), os.fsencode(tmp_path / "other"), bytes(tmp_path / "gone") + b"\xff"]
    for name in names[:2]:
        os.mkfifo(name)
    os.symlink("nowhere", names[2])
    os.symlink("nowhere", names[2] + b"\xfe")
    files = [os.fsdecode(name) for name in (*names, names[2] + b"\xfe")]
    found: list[list[str]] = []
    thread = Thread(target=lambda: found.append(_distinct(files)), daemon=True)
    thread.start()
    thread.join(5)
    assert found == [files]


def test_the_artifact_itself_and_other_folders_are_not_overwritten(artifact: Path, production: Path) -> None:
    before = load_artifact(artifact).version
    assert main(["recalibrate", str(artifact), str(production), "--output", str(artifact)]) == 1
    assert load_artifact(artifact).version == before
    assert main(["recalibrate", str(artifact), str(production), "--output", str(production)]) == 1


def test_images_that_need_another_training_are_warned_of(
    artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "black"
    folder.mkdir()
    for number in range(120):
        (folder / f"{number}.png").write_bytes(picture(level=number % 30, width=28 + number // 30))
    assert main(["recalibrate", str(artifact), str(folder), "--output", str(tmp_path / "new")]) == 0
    assert "another training is due" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["files", "--kept", "kept"]])
def test_there_is_one_source_of_images(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["recalibrate", "artifact", *arguments, "--output", "new"])
    assert caught.value.code == 2


def test_a_kept_folder_gives_its_random_sample_less_its_anomalies(artifact: Path, tmp_path: Path) -> None:
    store = KeptStore(tmp_path / "kept", 2**24)
    sampled = [record(minute, sampled=True, is_anomaly=False) for minute in range(110)]
    for number, one in enumerate(sampled):
        add(store, one, content=picture(level=140 + number))
    add(store, *(record(200 + number) for number in range(5)), content=picture(level=0))  # refused, not sampled
    odd = record(300, sampled=True)
    add(store, odd, content=picture(level=0))
    store.label(odd.id, "anomaly")
    command = ["recalibrate", str(artifact), "--kept", str(tmp_path / "kept"), "--output", str(tmp_path / "new")]
    assert main(command) == 0
    new = load_artifact(tmp_path / "new").manifest
    assert new.promise.calibration_size == 110
    assert new.data["source"] == "the random sample of a kept folder"
    assert new.threshold == pytest.approx((115 / 255) ** 2, abs=1e-4)


@pytest.mark.parametrize("by_others", [0, 30])
def test_images_that_another_artifact_judged_are_warned_of(
    artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], by_others: int
) -> None:
    store, version = KeptStore(tmp_path / "kept", 2**24), load_artifact(artifact).version
    for number in range(110):
        model = {"name": "tiny", "version": "sha256:earlier" if number < by_others else version}
        add(store, record(number, sampled=True, model=model), content=picture(level=140 + number))
    command = ["recalibrate", str(artifact), "--kept", str(tmp_path / "kept"), "--output", str(tmp_path / "new")]
    assert main(command) == 0
    said = capsys.readouterr().out
    line = f"30 of 110 images of the sample were judged by sha256:earlier, not by {version}, which is recalibrated.\n"
    assert (f"warning: {line}" in said) == ("were judged by" in said) == bool(by_others)


def test_a_kept_folder_that_is_not_there_is_said(artifact: Path, tmp_path: Path) -> None:
    command = ["recalibrate", str(artifact), "--kept", str(tmp_path / "none"), "--output", str(tmp_path / "new")]
    assert main(command) == 1


@pytest.mark.parametrize("rate", [0.01, 0.05])
def test_recalibrated_thresholds_keep_their_promise_on_new_images(rate: float) -> None:
    """1,000 draws of 500 production images: the mean rate, and its spread, are those of Beta(n + 1 - k, k)."""
    promise = make_promise(500, rate)
    scores = np.sort(np.random.default_rng(0).random((1000, 500)), axis=1)
    true_rates = 1 - scores[:, promise.rank - 1]  # of uniform scores, how many lie above the threshold
    assert true_rates.mean() <= rate * 1.03  # three standard errors at most
    within = (true_rates <= promise.rate_with_90_percent_confidence).mean()
    assert within == pytest.approx(0.9, abs=0.03)
    expected = beta_below(rate, 501 - promise.rank, promise.rank)
    assert (true_rates <= rate).mean() == pytest.approx(expected, abs=0.05)


def test_made_up_pictures_are_pictures_and_the_same_each_time() -> None:
    images = np.random.default_rng(0).random((5, 28, 28), np.float32)
    families = made_up_pictures(images)
    for name, pictures in families.items():
        assert pictures.shape == images.shape, name
        assert pictures.min() >= 0
        assert pictures.max() <= 1
        assert np.array_equal(pictures, made_up_pictures(images)[name])
    assert np.allclose(np.sort(families["shuffled blocks"].ravel()), np.sort(images.ravel()))


def test_another_rate_moves_the_threshold_along_the_calibration_scores(artifact: Path) -> None:
    loaded = load_artifact(artifact)
    moved = with_rate(loaded, 0.1)
    assert moved.manifest.threshold == pytest.approx(loaded.calibration[0, 89])
    assert moved.manifest.promise.target_false_positive_rate == 0.1
    assert moved.manifest.evaluation == {}
    assert moved.version == loaded.version
    assert with_rate(loaded, 0.01) is loaded
    with pytest.raises(PromiseError, match="at least 999"):
        with_rate(loaded, 0.001)


def test_the_dial_shows_in_answers_and_in_what_is_said_of_the_model(artifact: Path) -> None:
    settings: dict[str, Any] = {"artifact": artifact, "log_level": "error", "target_false_positive_rate": 0.1}
    with TestClient(create_app(Settings(**settings))) as client:
        model = client.get("/v1/model").json()
        answer = client.post("/v1/predict", content=picture(level=170)).json()
    threshold = with_rate(load_artifact(artifact), 0.1).manifest.threshold
    assert model["threshold"] == answer["threshold"] == threshold < 0.1
    assert model["target_false_positive_rate"] == model["promise"]["target_false_positive_rate"] == 0.1
    assert answer["is_anomaly"] is (answer["score"] > threshold)


def test_a_rate_that_cannot_be_promised_stops_the_start_in_one_line(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATE_ARTIFACT", str(artifact))
    monkeypatch.setenv("GATE_TARGET_FALSE_POSITIVE_RATE", "0.0001")
    assert main(["serve", "--port", "0"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "it takes at least 9999" in error


def test_a_manifest_without_recalibration_has_no_word_of_it(artifact: Path) -> None:
    assert "recalibrated_from" not in json.loads((artifact / "manifest.json").read_text())
    assert Detector(load_artifact(artifact)).threshold == 0.1
