"""How far normal images reach given their latent."""

import torch

from training.fitting.fit_reach import QUANTILE, fit_reach
from training.model.reach import VIEWS, UsualReach


def drawn(count, seed, slope):
    """Latents of which the first decides how far all views reach."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn((count, 8), generator=generator)
    return hidden, slope * hidden[:, :1] + torch.randn((count, VIEWS), generator=generator)


def test_images_are_refused_alike_wherever_their_latent_lies():
    reach = fit_reach(*drawn(4000, 0, 3.0), *drawn(1000, 1, 3.0), seed=0)
    hidden, values = drawn(20_000, 2, 3.0)
    beyond = (values > reach(hidden)).float()
    for middle in (-1, 0, 1):
        region = (hidden[:, 0] - middle).abs() < 0.5
        assert (beyond[region].mean(dim=0) - (1 - QUANTILE)).abs().max() < 0.015


def test_what_other_images_do_not_confirm_is_not_believed():
    hidden, values = drawn(400, 0, 3.0)
    shuffled = values[torch.randperm(400, generator=torch.Generator().manual_seed(3))]
    assert not fit_reach(hidden, values, hidden, shuffled, seed=0).weights.any()
    assert fit_reach(hidden, values, *drawn(400, 1, 3.0), seed=0).weights.any()


def test_an_unusual_latent_excuses_no_more_than_normal_images_were_seen_to_reach():
    reach = fit_reach(*drawn(4000, 0, 3.0), *drawn(1000, 1, 3.0), seed=0)
    far = torch.tensor([[1e4] + [0.0] * 7])
    torch.testing.assert_close(reach(far)[0], reach.most)
    assert (reach.most < 20).all()


def test_fresh_reach_changes_nothing():
    torch.testing.assert_close(UsualReach(4)(torch.randn(3, 4)), torch.zeros(3, VIEWS))
