"""The report: what a run leaves for people to look at."""

import base64
import json
import re
from dataclasses import asdict, replace
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from app.detection.artifact import Architecture, PreprocessingRecord
from app.detection.images import Preprocessing
from app.detection.promise import make_promise
from training.data.oddest import OddFile
from training.data.variants import parse_variants
from training.fitting.calibrate import uncalibrated_detector
from training.fitting.evaluate import evaluate, one_limit, score_sets
from training.fitting.other_thresholds import Deciding, DecidingFile
from training.model.autoencoders import build
from training.model.export import export_graph
from training.model.scores import LossScore, ScoredAutoencoder
from training.model.views import Views
from training.report.facts import chance_words, gather_facts, model_card, percent
from training.report.judgements import YOUR_ANOMALIES, Findings, Judged, judge
from training.report.write import write_report

ALWAYS = {"report.json", "model_card.md", "index.html", "losses.png", "scores.png", "variants.png", "normal.png"}
ALWAYS |= {"worst_normal.png", "latent_reconstructions.png"}
WITH_ANOMALIES = {"roc.png", "families.png", "anomalies.png"}
ALWAYS_FOUND = {"roc.png", "families.png", "always_found.png"}
MOST_PIXELS_WIDE = 800


class Page(HTMLParser):
    """What a page refers to, and its visible words."""

    def __init__(self, html):
        super().__init__()
        self.references, self.alternatives, self.text, self._hidden = [], [], "", False
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.references += [attributes[name] for name in ("src", "href") if name in attributes]
        if tag == "img":
            self.alternatives.append(attributes["alt"])
        self._hidden = tag in ("style", "script")

    def handle_data(self, text):
        if not self._hidden:
            self.text += text


@pytest.fixture(scope="module")
def models():
    """A network and its detector by latent size; the one of size 3 has the gate's views."""
    made = {}
    for latent_size in (1, 3):
        network = build(Architecture(name="gate", arguments={"latent_size": latent_size, "width": 8}))
        scorer = LossScore() if latent_size == 1 else Views(latent_size, components=4, hidden=4)
        model = ScoredAutoencoder(network, scorer).eval()
        made[latent_size] = (network, uncalibrated_detector(export_graph(model), scorer.views))
    return made


def findings_of(model, radii=(), families=("noise",), kind="circles", name="tiny"):
    network, detector = model
    normal = np.random.default_rng(0).integers(0, 256, (12, 28, 28), np.uint8)
    tested = {"original": normal, "jpeg28": 255 - normal}
    anomalies = dict.fromkeys(families, (normal / 255).astype(np.float32)[:, ::-1].copy())
    limits = one_limit(0.5, (*tested, *anomalies))
    data = {"kind": kind, "circles": "smooth", "train": 5, "calibration": 99, "test": 12, "fingerprint": "sha256:ab"}
    views = list(detector.artifact.manifest.views)
    scores = [score_sets(detector, limits, sets) for sets in (tested, anomalies)]
    manifest = {
        "name": name,
        "architecture": Architecture(name="gate", arguments={"latent_size": network.encoder[-1].out_features}),
        "score": Architecture(name="views" if len(views) > 1 else "loss", arguments={}),
        "preprocessing": PreprocessingRecord(**asdict(Preprocessing(background=255 if kind == "circles" else 0))),
        "threshold": 0.5,
        "promise": make_promise(99, 0.05),
        "thresholds": {},
        "own_size": None,
        "kinds": {"jpeg28": "80..100"},
        "variants": list(tested),
        "views": views,
        "evaluation": evaluate(limits, *scores, apart=[YOUR_ANOMALIES]),
        "data": data if kind == "circles" else {**data, "skipped": 1, "duplicates": 2},
        "training": {"epochs": 2, "batch_size": 32, "learning_rate": 0.001, "one_cycle": True, "loss": "mse"},
        "seed": 7,
        "library_versions": {"python": "3.11"},
    }
    return Findings(manifest, [0.3, 0.2], tested, radii, anomalies)


@pytest.mark.parametrize(
    ("latent_size", "radii", "families", "plots"),
    [
        (1, [0.1] * 12, ["noise"], WITH_ANOMALIES | {"latent_histogram.png", "latent_radius.png"}),
        (1, [], ["noise"], WITH_ANOMALIES | {"latent_histogram.png"}),
        (3, [0.1] * 12, ["noise"], ALWAYS_FOUND | {"latent_map.png", "views.png"}),
        (3, [], [], {"latent_map.png"}),
    ],
)
def test_report_holds_the_figures_that_have_a_meaning(tmp_path, models, latent_size, radii, families, plots):
    network, detector = models[latent_size]
    write_report(tmp_path / "report", findings_of(models[latent_size], radii, families), network, detector)
    assert {path.name for path in (tmp_path / "report").iterdir()} == ALWAYS | plots
    for path in (tmp_path / "report").glob("*.png"):
        with Image.open(path) as image:
            assert image.mode == "P"  # small
            assert 100 < image.width <= MOST_PIXELS_WIDE
            assert len(image.convert("L").getcolors()) > 5


def test_page_opens_alone_and_shows_every_chart(tmp_path, models):
    network, detector = models[3]
    write_report(tmp_path / "report", findings_of(models[3], [0.1] * 12), network, detector)
    html = (tmp_path / "report" / "index.html").read_text()
    page = Page(html)
    assert all(reference.startswith("data:image/") for reference in page.references)
    assert "<script" not in html
    assert not re.search(r"url\(|@import", html)
    assert all(page.alternatives)
    embedded = {base64.b64decode(reference.split(",")[1]) for reference in page.references if ";base64," in reference}
    sheets = {"normal.png", "worst_normal.png", "anomalies.png", "always_found.png", "latent_reconstructions.png"}
    for path in (tmp_path / "report").glob("*.png"):
        assert (path.read_bytes() in embedded) == (path.name not in sheets)
    for png in embedded:
        Image.open(BytesIO(png)).verify()


def test_page_says_the_promise_the_variants_and_how_to_train_again(tmp_path, models):
    network, detector = models[3]
    findings = findings_of(models[3], kind="folder", families=("noise", YOUR_ANOMALIES))
    write_report(tmp_path / "report", findings, network, detector)
    text = Page((tmp_path / "report" / "index.html").read_text()).text
    assert findings.manifest["promise"].words in text
    assert parse_variants("jpeg28").variants[1].description in text
    assert "1 unreadable files and 2 copies" in text
    assert "of your 12 anomalies found" in text
    assert "python -m training --data FOLDER --output model_artifacts/tiny --model gate --latent-size 3" in text
    assert "--variants jpeg28=80..100" in text
    assert "--seed 7" in text
    assert "the drawn ones are inverted" in text
    assert not re.search(r"[a-z]\.[A-Z]", text), "a sentence runs into the next"


def test_the_oddest_files_are_shown_with_their_names(tmp_path, models):
    network, detector = models[1]
    odd = tuple(OddFile(f"letters/{row}<b>.png", np.full((28, 28), row / 9, np.float32), 3.0 - row) for row in range(2))
    findings = replace(findings_of(models[1], kind="folder"), oddest=odd)
    write_report(tmp_path / "report", findings, network, detector)
    html = (tmp_path / "report" / "index.html").read_text()
    assert "letters/0<b>.png (3.0)" in Page(html).text
    assert "letters/1&lt;b&gt;.png" in html
    assert (tmp_path / "report" / "oddest.png").is_file()


def test_own_anomalies_are_told_by_subfolder_and_the_missed_ones_by_name(tmp_path, models):
    network, detector = models[1]
    findings = findings_of(models[1], kind="folder", families=("noise", "dust", YOUR_ANOMALIES))
    scores = judge(findings, detector).families[YOUR_ANOMALIES].scores
    threshold = float(np.sort(scores)[2])  # three of twelve pass
    names = [f"{'dust' if row % 2 else 'scratch'}/{row}.png" for row in range(12)]
    findings = replace(findings, own_names=names, limits=one_limit(threshold, (*findings.tested, *findings.anomalies)))
    rate = {"images": 6, "detection_rate": 0.75, "detection_rate_interval": [0.4, 0.9]}
    subfolders = {"dust": rate, "scratch": rate}
    findings.manifest["evaluation"]["own_anomalies"] = {**rate, "images": 12, "subfolders": subfolders}
    write_report(tmp_path / "report", findings, network, detector)
    text = Page((tmp_path / "report" / "index.html").read_text()).text
    missed = [names[row] for row in np.argsort(scores, kind="stable")[:3]]
    assert "mean over 2 families" in text
    assert 'of each of 2 families; "your anomalies" are' in text
    assert "3 missed" in text
    assert re.search(r"\s+".join(map(re.escape, missed)), text)
    assert re.search(r"dust\s*6\s*75%", text)


def test_files_that_decide_the_threshold_are_shown_with_what_they_cost(tmp_path, models):
    network, detector = models[1]
    files = (DecidingFile("a<b>.png", np.zeros((28, 28), np.float32), 0.5, 0.9),)
    findings = replace(findings_of(models[1], kind="folder"), deciding=Deciding(files, 0.75, 0.25, 0.4, 0.95, False))
    write_report(tmp_path / "report", findings, network, detector)
    text = " ".join(Page((tmp_path / "report" / "index.html").read_text()).text.split())
    assert "a<b>.png (threshold 0.5 without); 90% found" in text
    assert "the threshold is 0.75 and 25% of made-up pictures" in text
    assert "0.4 and find 95%" in text
    assert "no image to spare" in text


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ([0.02, 0.03], "more than chance explains"),
        ([0.001, 0.03], "within chance of the promise"),
        ([0.0, 0.009], "less than promised"),
    ],
)
def test_a_rate_is_put_beside_the_promise_in_words(interval, words):
    assert chance_words(interval, 0.01) == words


def test_names_cannot_break_the_page(tmp_path, models):
    network, detector = models[1]
    findings = findings_of(models[1], families=("<script>alert(1)</script>",), name="<b>&")
    write_report(tmp_path / "report", findings, network, detector)
    html = (tmp_path / "report" / "index.html").read_text()
    assert "<script>" not in html
    assert "<b>&</title>" not in html


def test_equal_findings_give_equal_files(tmp_path, models):
    network, detector = models[3]
    for run in ("first", "second"):
        write_report(tmp_path / run, findings_of(models[3], [0.2] * 12), network, detector)
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()
        assert b"Matplotlib" not in path.read_bytes()
    numbers = json.loads((tmp_path / "first" / "report.json").read_text())
    assert numbers["epoch_losses"] == [0.3, 0.2]
    assert numbers["evaluation"]["test_images"] == 12


def test_model_card_names_the_promise_and_what_is_missed(models):
    findings = findings_of(models[1], families=("seen", "half seen", "unseen"))
    for family, rate in (("seen", 1.0), ("half seen", 0.6), ("unseen", 0.1)):
        findings.manifest["evaluation"]["families"][family]["detection_rate"] = rate
    facts = gather_facts(findings, judge(findings, models[1][1]))
    card = model_card(facts)
    assert findings.manifest["promise"].words in card
    assert "less than half of the time: unseen." in card
    assert "not reliably (below 95%): half seen." in card
    assert "| seen | 100% |" in card
    assert "| jpeg28 | resized to 28x28 by the client and sent as JPEG, quality 80 to 100 |" in card


@pytest.mark.parametrize(("low", "kept"), [(0.05, True), (0.06, False)])
def test_a_variant_wholly_above_the_target_is_called_out(models, low, kept):
    findings = findings_of(models[1])
    for rate in findings.manifest["evaluation"]["variants"].values():
        rate["false_positive_rate_interval"] = [0.0, 0.1]
    findings.manifest["evaluation"]["variants"]["jpeg28"]["false_positive_rate_interval"] = [low, 0.2]
    assert gather_facts(findings, judge(findings, models[1][1])).within_promise is kept


def test_what_is_not_a_number_is_refused_and_beyond():
    judged = Judged(np.zeros((3, 28, 28), np.float32), *(np.array(rows, np.float32) for rows in VALUES))
    assert judged.refused(1.0).tolist() == [True, True, False]
    assert judged.beyond(1.0).tolist() == [[True, False], [True, False], [False, False]]


VALUES = ([np.nan, np.inf, 1.0], [[np.nan, 0.0], [np.inf, 0.0], [1.0, 0.0]])


@pytest.mark.parametrize(
    ("rate", "text"),
    [(0, "0%"), (1, "100%"), (0.01, "1%"), (0.0129, "1.29%"), (0.5, "50%"), (0.982, "98.2%"), (0.9996, "99.96%")],
)
def test_percentages_read_well(rate, text):
    assert percent(rate) == text
