import numpy as np
import pytest
import torch

from app.detection.images import Preprocessing
from training.data.circles import draw_circles, random_circles
from training.data.dataset import decode
from training.fitting.fit_views import fit_normalisation
from training.model.normalise import Normalisation


@pytest.fixture(scope="module")
def circles():
    files = draw_circles(random_circles(50, np.random.default_rng(0)))
    return (decode(files, Preprocessing()) * 255).round().astype(np.uint8)


def seen(normalisation: Normalisation, images):
    return normalisation(torch.from_numpy(np.asarray(images, np.float32)).unsqueeze(1))


def test_darker_paper_gives_the_network_the_same_picture(circles):
    normalisation = fit_normalisation(circles)
    white = seen(normalisation, circles / 255)
    darker = seen(normalisation, circles / 255 * 0.96)
    torch.testing.assert_close(darker.images, white.images, atol=1e-5, rtol=0)
    assert darker.paper.flatten().tolist() == pytest.approx([0.96] * 50, abs=1e-5)


def test_a_picture_moved_by_whole_pixels_gives_the_network_the_same_picture(circles):
    normalisation = fit_normalisation(circles)
    usual = seen(normalisation, circles / 255)
    moved = seen(normalisation, np.roll(circles, (1, -1), axis=(1, 2)) / 255)
    # The highest wave is not moved.
    torch.testing.assert_close(moved.images, usual.images, atol=0.12, rtol=0)
    assert (moved.away - usual.away).mean(dim=0).tolist() == pytest.approx([-1, 1], abs=0.02)


def test_what_is_taken_out_is_put_back(circles):
    normalisation = fit_normalisation(circles)
    dimmed = torch.from_numpy(circles * np.float32(0.97 / 255)).unsqueeze(1)
    normalised = normalisation(dimmed)
    torch.testing.assert_close(normalisation.undo(normalised.images, normalised), dimmed, atol=0.01, rtol=0)


def test_pictures_without_an_even_border_are_left_alone():
    noise = np.random.default_rng(0).integers(0, 256, (50, 28, 28), np.uint8)
    normalisation = fit_normalisation(noise)
    normalised = seen(normalisation, noise / 255)
    torch.testing.assert_close(
        normalised.images[:, 0], torch.from_numpy(noise.astype(np.float32) / 255), atol=1e-5, rtol=0
    )
    assert normalised.paper.unique().tolist() == [1]
    assert normalised.away.unique().tolist() == [0]
