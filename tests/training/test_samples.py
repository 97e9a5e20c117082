"""The images that an artifact carries for people."""

import numpy as np

from app.detection.artifact import load_artifact
from app.detection.detector import Detector
from testing.artifacts import write_tiny_artifact
from training.add_samples import main
from training.report.samples import choose_samples, write_samples


def images(*levels):
    return np.stack([np.full((28, 28), level, np.float32) for level in levels])


def test_only_images_that_pass_belong_and_only_refused_ones_are_odd(tmp_path):
    detector = Detector(load_artifact(write_tiny_artifact(tmp_path / "tiny", threshold=0.04)))
    families = {"white": images(1), "grey": images(0.9, 0.5), "duck": images(1, 0)}
    samples = choose_samples(detector, 0.04, images(1, 0.5, 0.9, 0), families)
    assert samples.normal[:, 0, 0].tolist() == [255, 230]
    assert samples.odd[:, 0, 0].tolist() == [0, 128]  # what people know comes first
    assert samples.normal.dtype == np.uint8


def test_there_may_be_none(tmp_path):
    detector = Detector(load_artifact(write_tiny_artifact(tmp_path / "tiny", threshold=0.04)))
    samples = choose_samples(detector, 0.04, images(0), {})
    assert samples.normal.shape == samples.odd.shape == (0, 28, 28)


def test_the_same_samples_give_the_same_bytes(tmp_path):
    detector = Detector(load_artifact(write_tiny_artifact(tmp_path / "tiny", threshold=0.04)))
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_samples(tmp_path / name, choose_samples(detector, 0.04, images(1, 0.9), {"duck": images(0)}))
    assert (tmp_path / "first/samples.npz").read_bytes() == (tmp_path / "second/samples.npz").read_bytes()


def test_an_older_artifact_gets_samples_and_keeps_everything_else(tmp_path, capsys):
    data = {"kind": "circles", "train": 1, "calibration": 1, "test": 12}
    old = write_tiny_artifact(tmp_path / "old", threshold=0.04, data=data, report={"index.html": b"words"})
    assert main([str(old), str(tmp_path / "new")]) == 0
    before, after = load_artifact(old), load_artifact(tmp_path / "new")
    assert after.version != before.version
    assert len(after.samples.normal) == 12
    assert len(after.samples.odd) == 8
    assert (after.graph, after.report, after.manifest.threshold) == (before.graph, before.report, 0.04)
    assert "12 images that belong, 8 that do not" in capsys.readouterr().out


def test_an_artifact_of_a_folder_needs_to_be_told_where_its_images_are(tmp_path, capsys):
    old = write_tiny_artifact(tmp_path / "old", data={"kind": "folder"})
    assert main([str(old), str(tmp_path / "new")]) == 1
    assert "--data" in capsys.readouterr().err
