"""Whether the training images cover what normal images may be, and what follows from it."""

import numpy as np
import pytest
import torch
from PIL import Image

from training.__main__ import main
from training.data.dataset import circle_dataset
from training.errors import TrainingError
from training.fitting.fit_scales import FROM_BELOW_OF_VARIED
from training.fitting.fit_views import fit_normalisation, fit_views
from training.model.autoencoders import build, describe
from training.model.meanings import VIEWS
from training.model.scores import ScoredAutoencoder, score_images
from training.run import divided

PAPER = [view.name for view in VIEWS].index("on_other_paper")


@pytest.fixture(scope="module")
def autoencoder():
    """Not fitted: coverage is about the pictures."""
    return build(describe("gate", 8, "mse"), 0).eval()


def fitted(autoencoder, images):
    return fit_views(autoencoder, images[None, :-100], images[None, -100:], seed=0)


def test_circles_are_covered_and_are_judged_by_their_latent(autoencoder):
    circles = (255 * circle_dataset(600, 0, 1, 1).train.images).round().astype(np.uint8)
    views = fitted(autoencoder, circles)
    assert views.reach.weights.any()
    assert views.from_below == 0


def test_pictures_that_vary_in_many_ways_are_not_and_the_latent_excuses_nothing(autoencoder):
    """Eight strokes at random."""
    generator = np.random.default_rng(0)
    images = np.full((600, 28, 28), 255, np.uint8)
    for image in images:
        for row, column in generator.integers(2, 20, (8, 2)):
            image[row : row + 2, column : column + 6] = generator.integers(0, 128)
    views = fitted(autoencoder, images)
    assert not views.reach.weights.any()
    assert views.from_below == FROM_BELOW_OF_VARIED


def test_a_held_out_scene_counts_once_and_none_of_its_images_is_fitted():
    scenes = [*range(7), *[7] * 100, *range(8, 24)]
    fitted, held_out = divided(scenes)
    assert [scenes[row] for row in held_out] == [7, 15, 23]
    assert not {scenes[row] for row in fitted} & {7, 15, 23}
    assert len(fitted) == 21


def test_images_that_are_a_scene_each_are_held_out_one_by_one():
    fitted, held_out = divided(range(24))
    assert held_out == [7, 15, 23]
    assert sorted(fitted + held_out) == list(range(24))


def test_too_few_images_are_refused_before_anything_is_fitted():
    with pytest.raises(TrainingError, match="7 images to fit are too few; it takes 16"):
        divided(range(7))


def test_paper_that_is_lighter_by_two_grey_levels_is_no_other_paper(autoencoder):
    """Where all borders were equal to the last bit, a single level was: one normal image in 200 set the threshold."""
    circles = (255 * circle_dataset(600, 0, 1, 1).train.images).round().astype(np.uint8)
    normalisation = fit_normalisation(circles)
    views = fit_views(autoencoder, circles[None, :-100], circles[None, -100:], 0, normalisation)
    model = ScoredAutoencoder(autoencoder, views)
    sent = torch.from_numpy(circles[:20]).float()[:, None] / 255
    lighter, darker = (score_images(model, sent * share).views[:, 0, PAPER] for share in (253 / 255, 225 / 255))
    assert (lighter < 0.5).all()
    assert (darker > 1).all()


def test_equal_images_end_in_words_rather_than_in_an_artifact(tmp_path, capsys):
    folder = tmp_path / "blank"
    folder.mkdir()
    for width in range(28, 108):
        Image.new("L", (width, 28), 255).save(folder / f"{width}.png")
    arguments = ["--data", str(folder), "--output", str(tmp_path / "gate"), "--target-false-positive-rate", "0.05"]
    assert main([*arguments, "--variants", "none", "--group-by", "none", "--epochs", "1"]) != 0
    assert "differ too little: at 28x28 pixels nearly all are the same picture" in capsys.readouterr().err
    assert not (tmp_path / "gate").exists()
