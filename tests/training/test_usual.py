"""The two views that need no network."""

import pytest
import torch

from training.model.usual import UsualLevels, UsualStatistics

MEASUREMENTS = 8


@pytest.fixture(scope="module")
def frames():
    """200 white pictures with a grey frame of any level."""
    generator = torch.Generator().manual_seed(0)
    images = torch.ones((200, 1, 28, 28))
    images[:, :, 6:22, 6:22] = torch.rand((200, 1, 1, 1), generator=generator)
    images[:, :, 8:20, 8:20] = 1.0
    return images


def test_levels_that_normal_images_have_are_usual_and_others_are_not(frames):
    levels = UsualLevels()
    levels.fit(frames)
    usual = levels(frames)
    inside, outside = (torch.ones((1, 1, 28, 28)) for _ in range(2))
    inside[:, :, 6:8, 6:22] = 0.5
    outside[:, :, 2:4, 6:22] = 0.5  # as much ink, where there never is any
    assert usual.shape == (200, 1)
    assert levels(inside) <= usual.max()
    assert levels(outside) > 2 * usual.max()


def test_levels_are_what_half_precision_holds(frames):
    levels = UsualLevels()
    levels.fit(frames)
    for buffer in levels.buffers():
        torch.testing.assert_close(buffer, buffer.half().float(), rtol=0, atol=0)


def test_statistics_are_a_distance_of_contrast_edges_and_mean_together():
    generator = torch.Generator().manual_seed(1)
    common = torch.randn((4000, 1), generator=generator)
    plain = torch.randn((4000, MEASUREMENTS), generator=generator)
    plain[:, 4] = common[:, 0] + 0.1 * plain[:, 4]  # edges go with contrast
    plain[:, 3] = common[:, 0]
    statistics = UsualStatistics(MEASUREMENTS)
    statistics.fit(plain)
    # The mean of a squared Mahalanobis distance is the number of dimensions.
    torch.testing.assert_close(statistics(plain).mean(), torch.tensor(4.0), rtol=0.02, atol=0)
    # Edges without contrast, each of which alone is usual, are not.
    odd = torch.zeros((1, MEASUREMENTS))
    odd[0, 3], odd[0, 4] = -1.0, 1.0
    assert statistics(odd) > 100
    # What is no statistic counts for nothing.
    odd[0, 3:5] = 0
    odd[0, [0, 1, 2, 6]] = 50.0
    assert statistics(odd) < 1
