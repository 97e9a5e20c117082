import platform

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from app.detection.artifact import Architecture
from app.detection.detector import MOST_AT_ONCE
from training.data.dataset import circle_dataset, decode_variants
from training.data.variants import parse_variants
from training.fitting.calibrate import run_in_batches, uncalibrated_detector
from training.fitting.fit import fit
from training.fitting.fit_gaussians import fit_gaussians, joined
from training.fitting.fit_views import fit_views
from training.model.autoencoders import build
from training.model.export import check_agreement, export_graph
from training.model.gaussians import NearestGaussian
from training.model.gradients import Prototypes
from training.model.scores import ScoredAutoencoder, Verdict, score_images
from training.model.views import VIEWS, Measurements, Views, _together
from training.plan import FitSettings


@pytest.fixture(scope="module")
def dataset():
    return circle_dataset(240, seed=0, calibration_count=100, test_count=1)


@pytest.fixture(scope="module")
def circles(dataset):
    """(3, 240, 28, 28) grey levels 0 to 255: circles in three variants."""
    variants = parse_variants("jpeg28,noise").variants
    return decode_variants(dataset.train.originals, variants, dataset.preprocessing, seed=0)


@pytest.fixture(scope="module")
def fitted(dataset, circles):
    """A small network and its views, fitted on most of the circles."""
    autoencoder = build(Architecture(name="gate", arguments={"latent_size": 8, "width": 64}))
    fit(autoencoder, circles[:, :200].reshape(-1, 28, 28), FitSettings(epochs=20, learning_rate=1e-3), seed=0)
    views = fit_views(autoencoder, circles[:, :200], circles[:, 200:], seed=0)
    return ScoredAutoencoder(autoencoder, views), dataset.calibration.images


def scores_of(model, images):
    return score_images(model, torch.as_tensor(np.asarray(images, np.float32))[:, None])


def test_views_are_taken_together_by_a_norm_of_the_fourth_order(fitted):
    model, normal = fitted
    verdict = scores_of(model, normal)
    assert verdict.views.shape == (100, 1, len(VIEWS))
    below = model.scorer.from_below
    raised = verdict.views + below
    together = raised.clamp(min=0).double().pow(4).sum(dim=2).pow(0.25) + raised.amax(dim=2).clamp(max=0) - below
    torch.testing.assert_close(verdict.score, together.float())
    largest = verdict.views.amax(dim=2)
    assert (verdict.score >= largest - 1e-6).all()
    assert (verdict.score <= (largest + below).clamp(min=0) * len(VIEWS) ** 0.25 - below + 1e-6).all()


def test_views_of_normal_images_are_around_nothing_and_few_reach_one(fitted):
    model, normal = fitted
    views = scores_of(model, normal).views
    assert views.median(dim=0).values.abs().max() < 1
    assert (views > 1).float().mean() < 0.2


def test_a_single_high_view_is_the_score_two_are_more_and_of_low_ones_the_largest_counts():
    views = torch.tensor([[[3.0, -1.0, 0.0]], [[1.0, 1.0, -2.0]], [[-0.5, -0.2, -3.0]]])  # (3, 1 class, 3 views)
    torch.testing.assert_close(_together(views, torch.tensor(0.0)), torch.tensor([[3.0], [2**0.25], [-0.2]]))


def test_counted_from_below_several_views_that_are_a_little_high_count_for_more():
    views = torch.tensor([[[1.0, 1.0, 1.0]], [[1.0, -1.0, -1.0]], [[-3.0, -2.0, -4.0]]])
    found = _together(views, torch.tensor(1.0))
    torch.testing.assert_close(found, torch.tensor([[2 * 3**0.25 - 1], [1.0], [-2.0]]))


def view_of(verdict, name):
    return verdict.views[..., [view.name for view in VIEWS].index(name)]


def test_noise_is_another_kind_of_picture_and_ink_in_a_corner_an_unusual_level(fitted):
    model, normal = fitted
    noise = np.random.default_rng(0).random((20, 28, 28))
    assert (view_of(scores_of(model, noise), "another_kind_of_picture") > 1.5).all()
    corners = normal[:20].copy()
    corners[:, :5, :5] = 0
    before, after = (view_of(scores_of(model, images), "unlike_normal_levels") for images in (normal[:20], corners))
    assert (after > 1).all()
    assert (before < 1).all()


def test_a_filled_shape_is_unlike_any_normal_image_seen_as_a_whole(fitted):
    model, normal = fitted
    filled = np.ones((20, 28, 28))
    filled[:, 8:20, 8:20] = 0.4
    before, after = (view_of(scores_of(model, images), "unlike_any_normal_image") for images in (normal, filled))
    assert (after > 2).all()
    assert (before < 1).float().mean() > 0.9


def test_the_blurred_picture_is_of_the_image_however_it_is_redrawn(fitted):
    model, normal = fitted
    images = torch.from_numpy(normal[:5])[:, None]
    measure = model.scorer.measurements
    found = [measure(images, redrawn, images.new_zeros(5)).pictures for redrawn in (images, 1 - images)]
    for pictures in found:
        torch.testing.assert_close(pictures, 2 * measure.halved(images)[:, 0], rtol=0, atol=1e-5)


def test_the_distance_is_to_the_nearest_of_the_typical_vectors():
    generator = torch.Generator().manual_seed(0)
    vectors, features = (torch.randn((count, 12), generator=generator) + 5 for count in (7, 30))
    prototypes = Prototypes(12, 7)
    prototypes.set_vectors(vectors)
    wanted = torch.cdist(features, vectors).amin(dim=1, keepdim=True).square()
    torch.testing.assert_close(prototypes(features), wanted, rtol=0.01, atol=0.01)


def test_faint_images_among_the_fitted_ones_are_faint_no_more_though_none_is_held_out(fitted, circles):
    """The held-out images that scale the other views may happen to hold none of them."""
    model, _ = fitted
    faded = circles.copy()
    faded[:, :10] = 255 - (255 - faded[:, :10]) // 8
    views = fit_views(model.autoencoder, faded[:, :200], circles[:, 200:], seed=0)
    tolerant = ScoredAutoencoder(model.autoencoder, views)
    faint = faded[0, :10] / 255
    assert (view_of(scores_of(model, faint), "faint_or_empty") > 1).all()
    assert (view_of(scores_of(tolerant, faint), "faint_or_empty") <= 1).all()


@pytest.mark.parametrize("level", [0.0, 0.3, 0.5, 1.0])
def test_constant_images_are_far_odder_than_any_normal_one(fitted, level):
    model, normal = fitted
    constant = scores_of(model, np.full((1, 28, 28), level)).score
    assert constant > 2 * scores_of(model, normal).score.max()


def test_a_faint_copy_of_a_normal_image_is_odd_though_it_is_redrawn_well(fitted):
    model, normal = fitted
    faint = scores_of(model, 1 - 0.05 * (1 - normal))
    assert (faint.score > scores_of(model, normal).score.max()).float().mean() > 0.9


def test_an_image_that_is_no_number_gets_a_score_that_is_no_number(fitted):
    model, _ = fitted
    broken = np.ones((3, 28, 28), np.float32)
    broken[0, 3, 3], broken[1, 3, 3], broken[2, 3, 3] = np.nan, np.inf, -np.inf
    largest = np.finfo(np.float32).max
    assert not (scores_of(model, broken).score <= largest).any()  # minus infinity would pass any threshold
    # The graph too: ONNX Runtime's comparisons may lose what PyTorch's keep.
    graph_scores, _ = run_in_batches(uncalibrated_detector(export_graph(model), model.scorer.views), broken)
    assert not (graph_scores <= largest).any()


def test_graph_agrees_with_the_model(fitted):
    model, normal = fitted
    detector = uncalibrated_detector(export_graph(model), model.scorer.views)
    check_agreement(model, detector, normal)
    constant = np.stack([np.full((28, 28), level, np.float32) for level in (0, 0.5, 1)])
    assert np.isfinite(run_in_batches(detector, constant)[1]).all()
    assert run_in_batches(detector, normal)[1].shape == (100, len(VIEWS))


# Which instructions ONNX Runtime takes differs between processors; measured on x86-64 with AVX-512.
@pytest.mark.skipif(platform.machine() != "x86_64", reason="elsewhere the last bits may differ")
def test_the_graph_gives_an_image_the_same_bits_alone_and_in_a_batch(fitted):
    model, normal = fitted
    detector = uncalibrated_detector(export_graph(model), model.scorer.views)
    images = np.concatenate([normal[:20], np.random.default_rng(0).random((17, 28, 28), np.float32)])
    alone = [detector.run(image[np.newaxis]) for image in images]
    for size in (2, 3, 5, 16, MOST_AT_ONCE):
        places = np.random.default_rng(size).permutation(len(images))[:size]
        for name, batch, rows in zip(
            Verdict._fields, detector.run(images[places]), zip(*alone, strict=True), strict=True
        ):
            assert np.array_equal(batch, np.concatenate([rows[place] for place in places])), (size, name)


def test_same_seed_fits_the_same_views():
    dataset = circle_dataset(64, seed=0, calibration_count=1, test_count=1)
    images = decode_variants(dataset.train.originals, parse_variants("none").variants, dataset.preprocessing, seed=0)
    states = []
    for _ in range(2):
        autoencoder = build(Architecture(name="gate", arguments={"latent_size": 2, "width": 8})).eval()
        states.append(fit_views(autoencoder, images[:, :50], images[:, 50:], seed=3).state_dict())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def test_description_builds_the_same_module_again(fitted):
    views = fitted[0].scorer
    again = Views(**views.description.arguments)
    again.load_state_dict(views.state_dict())


def test_dissimilarity_is_that_of_the_textbook():
    first, second = torch.rand(2, 4, 1, 14, 14, dtype=torch.float64)
    measure = Measurements(components=1).double()
    taken = torch.tensor([0.0, 0.7], dtype=torch.float64).expand(4, 2)[:, :, None]
    found = measure.dissimilarity(torch.stack([first - second, first + second], dim=1).flatten(2) - taken, taken)

    def mean(pictures):
        return F.avg_pool2d(pictures, 4, stride=1)

    means = mean(first), mean(second)
    variances = mean(first * first) - means[0] ** 2 + mean(second * second) - means[1] ** 2
    covariance = mean(first * second) - means[0] * means[1]
    light = (2 * means[0] * means[1] + 1e-4) / (means[0] ** 2 + means[1] ** 2 + 1e-4)
    structure = (2 * covariance + 9e-4) / (variances + 9e-4)
    torch.testing.assert_close(found, 1 - (light * structure).flatten(1), atol=1e-6, rtol=0)


def test_halving_is_a_gaussian_blur_of_which_every_second_pixel_is_kept():
    steps = torch.arange(-8.5, 9)
    kernel = torch.exp(-(steps**2) / 2)
    kernel = kernel / kernel.sum()
    images = torch.zeros(1, 1, 28, 28)
    images[0, 0, 14, 11] = 1
    expected = F.conv2d(F.pad(images, (8, 8, 8, 8)), (kernel[:, None] * kernel)[None, None], stride=2)
    halved = Measurements(components=1).halved(images).reshape(1, 1, 14, 14)
    torch.testing.assert_close(halved.transpose(2, 3), expected, atol=1e-4, rtol=0)


def test_distance_is_that_of_mahalanobis_to_the_nearest_gaussian():
    generator = torch.Generator().manual_seed(0)
    features, means = torch.randn(5, 10, generator=generator), torch.randn(2, 10, generator=generator)
    precisions, singles = [], []
    for mean in means:
        whitening = torch.randn(10, 10, generator=generator).triu()
        precisions.append(whitening @ whitening.T)
        single = NearestGaussian(10, 1)
        single.set_whitening(whitening, mean)
        singles.append(single)
    off = features[:, None] - means  # (5, 2, 10)
    expected = torch.einsum("ngi,gij,ngj->ng", off, torch.stack(precisions), off).amin(dim=1).log()
    torch.testing.assert_close(joined(singles)(features)[:, 0], expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("different", "expected"), [(1, 1), (3, 3), (12, 12)])
def test_every_variant_that_is_unlike_the_others_gets_a_gaussian_of_its_own(different, expected):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(12, 400, 5, generator=generator)
    features[:different] += 30 * torch.randn(different, 1, 5, generator=generator)
    features[different:] += features[:1].mean(dim=1, keepdim=True)
    assert len(fit_gaussians(features[:, :200], features[:, 200:], [range(12)]).typical) == expected


def test_a_blank_picture_is_as_dissimilar_in_single_precision_as_in_double():
    """Near 1 the variance was a difference of nearly equal numbers, and graph and model disagreed by .002."""
    measure = Measurements(components=1)
    images = torch.ones((3, 1, 28, 28))
    images[1:, :, 10:12, 10:20] = 0.9
    redrawn = images + 0.003 * torch.rand((3, 1, 28, 28), generator=torch.Generator().manual_seed(0))
    losses = (images - redrawn).square().mean(dim=(1, 2, 3))
    single = measure(images, redrawn, losses).measurements[:, 1].double()
    double = measure.double()(images.double(), redrawn.double(), losses.double()).measurements[:, 1]
    torch.testing.assert_close(single, double, rtol=0, atol=8e-6)
