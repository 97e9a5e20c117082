"""False positives by region of the normal images."""

import numpy as np
import pytest

from training.fitting.regions import RADII, by_latent, by_radius, refused_by_region


def test_every_circle_lies_in_one_region():
    radii = np.random.default_rng(0).uniform(RADII[0], RADII[-1], 500)
    masks = np.stack(list(by_radius(radii.tolist()).values()))
    assert (masks.sum(axis=0) == 1).all()


def test_latents_are_ranked_from_the_middle_outwards():
    latents = np.random.default_rng(0).normal(5, [1, 100], (200, 2)).astype(np.float32)
    away = np.hypot(*((latents - latents.mean(axis=0)) / latents.std(axis=0)).T)
    middle, between, outermost = by_latent(latents).values()
    assert [mask.sum() for mask in (middle, between, outermost)] == [100, 80, 20]
    assert away[middle].max() < away[between].min()
    assert away[between].max() < away[outermost].min()


def test_a_region_that_is_refused_often_is_named_with_its_worst_variant():
    regions = {"easy": np.arange(10) < 6, "hard": np.arange(10) >= 6, "none": np.zeros(10, bool)}
    refused = {"original": np.arange(10) == 9, "jpeg": np.arange(10) >= 8}
    easy, hard = refused_by_region(regions, refused)
    assert (easy["region"], easy["images"], easy["original"], easy["worst"]) == ("easy", 6, 0, 0)
    assert (hard["original"], hard["worst"], hard["worst_variant"]) == (0.25, 0.5, "jpeg")
    assert hard["mean"] == pytest.approx(0.375)
    assert hard["original_interval"][0] < 0.25 < hard["original_interval"][1]
