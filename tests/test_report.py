import json

import numpy as np
import pytest
from PIL import Image

from app.artifact import Architecture
from training.autoencoders import build
from training.calibrate import make_promise, uncalibrated_detector
from training.evaluate import evaluate
from training.export import export_graph
from training.report import Findings, model_card, write_report
from training.scores import LossScore, ScoredAutoencoder

PLOTS = {"losses.png", "scores.png", "reconstructions.png"}
LATENT_PLOTS = {"latent_histogram.png", "latent_radius.png", "latent_reconstructions.png"}


def model_of(latent_size):
    architecture = Architecture(name="gate", arguments={"latent_size": latent_size, "width": 8})
    return ScoredAutoencoder(build(architecture), LossScore()).eval()


def findings_of(detector, radii=(), families=("noise",)):
    images = np.random.default_rng(0).random((12, 28, 28), dtype=np.float32)
    anomalies = dict.fromkeys(families, 1 - images)
    return Findings(
        name="tiny",
        epoch_losses=[0.3, 0.2],
        promise=make_promise(99, 0.05),
        threshold=0.5,
        evaluation=evaluate(detector, 0.5, images, anomalies),
        data={"kind": "circles", "train": 5, "calibration": 99, "test": 12, "fingerprint": "sha256:ab"},
        training={"epochs": 2},
        test_images=images,
        test_radii=radii,
        anomalies=anomalies,
    )


@pytest.mark.parametrize(
    ("latent_size", "radii", "plots"),
    [
        (1, [0.1] * 12, PLOTS | LATENT_PLOTS),
        (1, [], PLOTS | LATENT_PLOTS - {"latent_radius.png"}),
        (3, [0.1] * 12, PLOTS),
    ],
)
def test_report_holds_the_tutorials_figures_where_they_have_a_meaning(tmp_path, latent_size, radii, plots):
    model = model_of(latent_size)
    detector = uncalibrated_detector(export_graph(model), LossScore.views)
    write_report(tmp_path / "report", findings_of(detector, radii), model.autoencoder, detector)
    assert {path.name for path in (tmp_path / "report").iterdir()} == plots | {"report.json", "model_card.md"}
    for plot in plots:
        with Image.open(tmp_path / "report" / plot) as image:
            assert min(image.size) > 100
            assert len(image.convert("L").getcolors()) > 5


def test_equal_findings_give_equal_files(tmp_path):
    model = model_of(1)
    detector = uncalibrated_detector(export_graph(model), LossScore.views)
    for run in ("first", "second"):
        write_report(tmp_path / run, findings_of(detector, [0.2] * 12), model.autoencoder, detector)
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()
        assert b"Matplotlib" not in path.read_bytes()
    numbers = json.loads((tmp_path / "first" / "report.json").read_text())
    assert numbers["epoch_losses"] == [0.3, 0.2]
    assert numbers["evaluation"]["test_images"] == 12


def test_model_card_names_the_promise_and_what_is_missed():
    detector = uncalibrated_detector(export_graph(model_of(1)), LossScore.views)
    findings = findings_of(detector, families=("seen", "unseen"))
    findings.evaluation["families"]["seen"]["detection_rate"] = 0.9
    findings.evaluation["families"]["unseen"]["detection_rate"] = 0.1
    card = model_card(findings)
    assert findings.promise.words in card
    assert "More than half of: unseen." in card
    assert "| seen |" in card
