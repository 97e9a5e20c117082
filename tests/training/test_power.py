import numpy as np

from training.fitting.power import DECISIVE, MADE_IMAGES, describe_power, made_images


def test_made_pictures_are_grey_levels_and_the_same_again():
    normal = np.random.default_rng(0).random((10, 28, 28), np.float32)
    first, again = made_images(normal), made_images(normal)
    assert set(DECISIVE) < set(first)
    for name, images in first.items():
        assert images.shape == (MADE_IMAGES, 28, 28), name
        assert (images.clip(0, 1) == images).all(), name
        np.testing.assert_array_equal(images, again[name])


def test_rearranged_images_hold_the_same_pixels_elsewhere():
    normal = np.arange(784, dtype=np.float32).reshape(1, 28, 28) / 784
    rearranged = made_images(normal)["rearranged"]
    np.testing.assert_array_equal(
        np.sort(rearranged.reshape(MADE_IMAGES, -1)), np.tile(normal.reshape(1, -1), (MADE_IMAGES, 1))
    )
    assert (rearranged != normal).any(axis=(1, 2)).mean() > 0.99


def test_one_kind_that_passes_is_said_loudly():
    rates = {**dict.fromkeys((*DECISIVE, "mirrored"), 1.0), "noise": 0.02}
    power = describe_power(rates)
    assert power["verdict"] == "finds little"
    assert power["words"].startswith("WARNING: this gate finds little. It lets 98% of")
    assert "noise" in power["words"]
    assert power["least"] == 0.02


def test_what_may_look_normal_decides_nothing():
    assert describe_power({**dict.fromkeys(DECISIVE, 1.0), "mirrored": 0.0})["verdict"] == "finds much"
