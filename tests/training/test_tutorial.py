"""The tutorial's experiments, its page and its notebook, on a few circles and one epoch."""

import os
import re

import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from PIL import Image
from torch.nn import functional

from docs.tutorial.__main__ import make_page
from docs.tutorial.page import HERE, Page
from docs.tutorial.seeds import read_seeds
from testing.paths import ROOT
from training.tutorial import measures
from training.tutorial.lesson import (
    BRIEF,
    FULL,
    circle_places,
    decode_latents,
    layer_table,
    new_network,
    redraw_images,
    train_circles,
)

MARKDOWN = (ROOT / "docs" / "tutorial.md").read_text()
NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"


@pytest.fixture(scope="module")
def page():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield make_page(BRIEF)
    torch.set_num_threads(threads)


def test_page_of_a_brief_run_has_every_fact_and_shows_every_picture(page, tmp_path):
    page.write(tmp_path)
    written = (tmp_path / "tutorial.md").read_text()
    shown = re.findall(r"!\[[^\]]+\]\(tutorial/([a-z0-9-]+)\.png\)", written)
    assert sorted(shown) == sorted(path.stem for path in (tmp_path / "tutorial").glob("*.png"))
    for name in shown:
        with Image.open(tmp_path / "tutorial" / f"{name}.png") as picture:
            assert 300 <= picture.width <= 1500


def test_answers_over_http_are_about_the_images_of_the_page(page):
    answer = page.facts["seven_answer"]
    np.testing.assert_allclose(answer["image"], train_circles(BRIEF).images[7], atol=1e-6)
    # Clipped to grey levels, a reconstruction can only come nearer.
    assert 0 < answer["loss"] <= page.facts["seven_loss"]
    assert 0 < page.facts["duck_answer"]["loss"] <= page.facts["duck_loss"]


def test_writing_a_page_removes_pictures_that_it_no_longer_has(page, tmp_path):
    (tmp_path / "tutorial").mkdir()
    (tmp_path / "tutorial" / "old.png").write_bytes(b"")
    page.write(tmp_path)
    assert not (tmp_path / "tutorial" / "old.png").exists()


def test_a_fact_is_not_stated_twice():
    page = Page()
    page.state(loss=1)
    with pytest.raises(ValueError, match="loss"):
        page.state(loss=2)


def test_committed_page_shows_the_committed_pictures_and_is_of_the_full_lesson():
    shown = re.findall(r"\]\(tutorial/([a-z0-9-]+)\.png\)", MARKDOWN)
    assert sorted(shown) == sorted(path.stem for path in HERE.glob("*.png"))
    assert f"All experiments use seed {FULL.seed}." in MARKDOWN
    # Every heading of the template is one of the page's: the page was made after the template's last change.
    headings = re.findall(r"^#+ .*$", (HERE / "page.md.j2").read_text(), re.MULTILINE)
    assert headings == re.findall(r"^#+ .*$", MARKDOWN, re.MULTILINE)


def test_committed_losses_are_within_a_tenth_of_the_articles():
    rows = re.findall(r"^\| (\d+) \| (0\.\d+) \| (0\.\d+) \|$", MARKDOWN, re.MULTILINE)
    measured = {int(epoch): (float(article), float(ours)) for epoch, article, ours in rows}
    for epoch in (1, 9, 10):
        article, ours = measured[epoch]
        assert ours == pytest.approx(article, rel=0.1)


def test_notes_on_seeds_are_of_ten_seeds_and_ten_epochs():
    rows = read_seeds()
    assert [row["seed"] for row in rows] == list(range(10))
    assert {len(row["epoch_losses"]) for row in rows} == {FULL.epochs}
    assert sum(row["stayed"] for row in rows) in range(1, 10)


def test_notebook_runs_from_top_to_bottom():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    environment = {**os.environ, "TUTORIAL_BRIEF": "1", "OMP_NUM_THREADS": "1"}
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(ROOT)}})
    client.execute(env=environment)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output.output_type == "error"]


def test_circle_places_are_those_of_the_circles():
    assert tuple(circle.radius for circle in circle_places(BRIEF)) == train_circles(BRIEF).radii


def test_layer_table_gives_shapes_in_order_and_all_parameters():
    network = new_network("ae", seed=0)
    rows = layer_table(network.encoder, torch.zeros(2, 1, 28, 28))
    assert [shape for _, shape, _ in rows] == ["(N, 784)", *["(N, 2048)"] * 4, "(N, 1)"]
    assert sum(weights for _, _, weights in rows) == sum(weights.numel() for weights in network.encoder.parameters())


def test_redrawing_and_decoding_agree():
    network = new_network("ae", seed=0)
    redrawn = redraw_images(network, train_circles(BRIEF).images[:3])
    drawn = decode_latents(network, [float(latent) for latent in redrawn.latents[:, 0]])
    np.testing.assert_allclose(redrawn.reconstructions, drawn, atol=1e-5)


def test_rank_correlation_looks_at_order_alone():
    rising = np.array([1, 2, 3, 10, 1000], np.float32)
    assert measures.rank_correlation(rising, np.exp(-rising / 1000)) == pytest.approx(-1)
    assert abs(measures.rank_correlation(rising, np.array([3, 1, 5, 2, 4], np.float32))) < 0.5


def test_images_are_told_apart_only_if_their_reconstructions_differ():
    images = np.random.default_rng(0).random((6, 28, 28)).astype(np.float32)
    others = np.roll(np.arange(6), 1)
    assert measures.told_apart(images, images, others).all()
    same = np.broadcast_to(images.mean(axis=0), images.shape)
    assert not measures.told_apart(images, same, others).any()
    assert measures.mean_image_loss(images) == pytest.approx(measures.image_losses(images, same).mean())


def test_mean_image_entropy_is_the_cross_entropy_of_the_mean_image():
    images = np.random.default_rng(0).random((6, 28, 28)).astype(np.float32)
    targets = torch.from_numpy(images)
    expected = functional.binary_cross_entropy(targets.mean(dim=0).expand_as(targets), targets).item()
    assert measures.mean_image_entropy(images) == pytest.approx(expected, rel=1e-4)
