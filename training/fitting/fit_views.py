"""Fits the gate's views to normal images: statistics on training images, scales on others held out.

Large tables are rounded to half precision as soon as they are fitted, so that what is fitted next sees what will
serve; the artifact then stores them at half the size without a loss.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from tqdm import trange

from app.detection.images import SIDE
from training.fitting.fit import to_grey_levels
from training.model.autoencoders import Autoencoder
from training.model.scores import Redrawing, redraw
from training.model.views import Features, Measurements, NearestGaussian, Views

# Added to a covariance, relative to its mean variance.
REGULARISATION = 3e-4
# A variant's own covariance counts as n / (n + this), that of all variants as the rest.
SHRINKAGE_IMAGES = 50
MOST_GAUSSIANS = 8
# How much further out than the 99% quantile a view reaches 1: the further, the less it alarms by itself and the less it
# costs the others. Faintness is for images far fainter than normal ones; and a distance in many dimensions is trusted
# the less the fewer images it was fitted on.
ERROR_REACH, FAINT_REACH, IMAGES_PER_DIMENSION = 1.1, 1.6, 10
_BATCH_SIZE, _CHECK_EVERY = 256, 50
# Of images, for whatever is done to all of them at once.
_CHUNK = 4096


def fit_views(autoencoder: Autoencoder, train: NDArray[np.uint8], held_out: NDArray[np.uint8], seed: int) -> Views:
    """Fits all three views on top of a fitted network, whose weights are rounded to half precision.

    Args:
        autoencoder: In evaluation mode.
        train: (variants, n, 28, 28), grey levels 0 to 255; the first variant is the original.
        held_out: (variants, m, 28, 28), other images, which the network did not see.
        seed: Of the network that expects errors.
    """
    with torch.no_grad():
        round_weights(autoencoder)
        fitted, others = _redraw_all(autoencoder, train), _redraw_all(autoencoder, held_out)
    latent_size = fitted.latents.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        views = Views(latent_size).eval()
    with torch.no_grad():
        _fit_components(views.measurements, (fitted.images - fitted.reconstructions).flatten(1))
        own, other = _measure(views, fitted), _measure(views, others)
        views.error_weights.copy_(1 / (own[1][:, :2].std(dim=0) + 1e-3))
        _fit_features(views.features, *own)
    steps = min(3_000, max(500, len(fitted.images) // 10))
    _fit_expected_errors(views.features, own, other, steps, seed)
    with torch.no_grad():
        variants = train.shape[0]
        gaussians = _fit_gaussians(
            views.features(*own).reshape(variants, -1, views.features.size),
            views.features(*other).reshape(variants, -1, views.features.size),
        )
        complete = Views(latent_size, gaussians=len(gaussians.typical)).eval()
        state = {**views.state_dict(), **{f"nearest.{name}": value for name, value in gaussians.state_dict().items()}}
        complete.load_state_dict(state)
        _fit_scales(complete, others, variants, len(fitted.images))
    return complete.requires_grad_(False)


def round_weights(module: nn.Module) -> None:
    """Brings every weight to the nearest number of half precision."""
    for parameter in module.parameters():
        parameter.copy_(_rounded(parameter))


def _rounded(values: Tensor) -> Tensor:
    return values.half().float()


def _redraw_all(autoencoder: Autoencoder, images: NDArray[np.uint8]) -> Redrawing:
    """(variants, n, 28, 28) bytes -> what the network makes of all of them, variant after variant."""
    flat = torch.from_numpy(images).reshape(-1, 1, SIDE, SIDE)
    parts = [redraw(autoencoder, to_grey_levels(chunk)) for chunk in torch.split(flat, _CHUNK)]
    return Redrawing(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


Measured = tuple[Tensor, Tensor, Tensor]
"""Components (N, components), measurements (N, 8) and latents (N, latent) of N redrawn images."""


def _measure(views: Views, redrawing: Redrawing) -> Measured:
    chunks = zip(*(torch.split(tensor, _CHUNK) for tensor in redrawing), strict=True)
    parts = [views.measurements(images, redrawn, losses) for images, redrawn, _, losses in chunks]
    components, measurements = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return components, measurements, redrawing.latents


def _fit_components(measurements: Measurements, residuals: Tensor) -> None:
    """Principal directions of the residuals (N, 784).

    What is looked at is not centred: the mean is small, and whatever follows takes off its own.
    """
    values, vectors = torch.linalg.eigh(torch.cov(residuals[:: 1 + len(residuals) // 20_000].T))
    count = measurements.basis.shape[1]
    variances = values.flip(0)[:count].clamp_min(1e-7)
    measurements.variances.copy_(variances)
    measurements.basis.copy_(_rounded(vectors.flip(1)[:, :count] / variances.sqrt()))


def _fit_features(features: Features, components: Tensor, measurements: Tensor, latents: Tensor) -> None:
    """All but the network that expects errors."""
    plain = features.plain(components, measurements)
    features.plain_mean.copy_(plain.mean(dim=0))
    features.plain_scale.copy_(plain.std(dim=0) + 1e-3)
    features.latent_mean.copy_(latents.mean(dim=0))
    features.latent_scale.copy_(latents.std(dim=0) + 1e-3)
    places = features.standardised(latents)
    features.latent_low.copy_(places.amin(dim=0))
    features.latent_high.copy_(places.amax(dim=0))


def _fit_expected_errors(features: Features, own: Measured, other: Measured, steps: int, seed: int) -> None:
    """Teaches the small network, and keeps it as it was when it did best on images held out.

    So that few images teach it little, and not what holds for them alone.
    """
    network, generator = features.expected, Generator().manual_seed(seed)
    with torch.no_grad():
        places, wanted = features.standardised(own[2]), features.plain(own[0], own[1])
        some = slice(None, None, 1 + len(other[0]) // 4_000)
        check = features.standardised(other[2])[some], features.plain(other[0], other[1])[some]
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    best, kept = float("inf"), network.state_dict()
    for step in trange(steps + 1, desc="expected errors", unit="step", leave=False, disable=None):
        if step % _CHECK_EVERY == 0 or step == steps:
            with torch.no_grad():
                loss = _surprise(network, *check).item()
            if loss < best:
                best, kept = loss, {name: value.clone() for name, value in network.state_dict().items()}
        if step == steps:
            break
        chosen = torch.randint(len(places), (_BATCH_SIZE,), generator=generator)
        # Noise blurs the latent, so that neighbours share what they teach.
        near = places[chosen] + 0.1 * torch.randn((_BATCH_SIZE, places.shape[1]), generator=generator)
        optimizer.zero_grad()
        _surprise(network, near, wanted[chosen]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    network.load_state_dict(kept)
    with torch.no_grad():
        round_weights(network)


def _surprise(network: nn.Module, places: Tensor, wanted: Tensor) -> Tensor:
    """Negative log-likelihood of values (N, features) given latents (N, latent), with a plain error beside it."""
    mean, log_variance = network(places)
    squares = (wanted - mean).square().clamp(max=400)
    likelihood = 0.5 * (log_variance + squares * torch.exp(-log_variance)).mean()
    # The plain error keeps the mean learning where the variance has already grown.
    surprise: Tensor = likelihood + F.smooth_l1_loss(mean, wanted)
    return surprise


def _fit_gaussians(train: Tensor, held_out: Tensor) -> NearestGaussian:
    """As many Gaussians as the variants need, up to `MOST_GAUSSIANS`.

    Begins with the original's, then adds that of the variant which is explained worst, until that one has its own. (To
    stop earlier, at variants that are explained nearly as well, made one fit in three find a point less.)

    Args:
        train: (variants, n, features).
        held_out: (variants, m, features), which choose and scale.
    """
    common = torch.stack([torch.cov(features.T) for features in train]).mean(dim=0)
    own = [_fit_gaussian(features, others, common) for features, others in zip(train, held_out, strict=True)]
    distances = [gaussian(held_out.flatten(0, 1)).reshape(held_out.shape[:2]) for gaussian in own]  # each (variants, m)
    chosen = [0]
    while len(chosen) < min(MOST_GAUSSIANS, len(own)):
        nearest = torch.stack([distances[index] for index in chosen]).amin(dim=0)
        worst = int(torch.quantile(nearest, 0.99, dim=1).argmax())
        if worst in chosen:
            break
        chosen.append(worst)
    return joined([own[index] for index in chosen])


def joined(singles: Sequence[NearestGaussian]) -> NearestGaussian:
    """Several, each of one Gaussian, as one."""
    together = NearestGaussian(singles[0].size, len(singles))
    states = [single.state_dict() for single in singles]
    for name, buffer in together.state_dict().items():
        buffer.copy_(torch.cat([state[name] for state in states], dim=-1))
    return together


def _fit_gaussian(features: Tensor, held_out: Tensor, common: Tensor) -> NearestGaussian:
    """One variant's Gaussian.

    Args:
        features: (n, features) of training images.
        held_out: (m, features) of others, which set its scale.
        common: (features, features), the covariance of all variants, which fills in where n images say little.
    """
    count, size = features.shape
    weight = count / (count + SHRINKAGE_IMAGES)
    covariance = (weight * torch.cov(features.T) + (1 - weight) * common).double()
    covariance += REGULARISATION * covariance.trace() / size * torch.eye(size, dtype=torch.float64)
    gaussian = NearestGaussian(size, 1)
    whitening = torch.linalg.inv(torch.linalg.cholesky(covariance)).T.float()
    gaussian.set_whitening(_rounded(whitening), features.mean(dim=0))
    typical, spread = _median_and_reach(gaussian(held_out)[:, 0])
    gaussian.typical.fill_(typical)
    gaussian.spread.fill_(spread)
    return gaussian


def _fit_scales(views: Views, held_out: Redrawing, variants: int, fitted_on: int) -> None:
    """Median 0; and 1 at the 99% quantile or further out, of the variant that reaches highest."""
    chunks = zip(*(torch.split(tensor, _CHUNK) for tensor in held_out), strict=True)
    values = torch.cat([views.unscaled(Redrawing(*chunk)) for chunk in chunks])
    values = values.reshape(variants, -1, len(views.views))  # (variants, m, views)
    caution = 1 + IMAGES_PER_DIMENSION * views.features.size / fitted_on
    for view, reach in enumerate((ERROR_REACH, caution, FAINT_REACH)):
        scales = [_median_and_reach(variant) for variant in values[:, :, view]]
        typical, spread = max(scales, key=lambda scale: float(scale[0] + scale[1]))
        views.typical[view], views.spread[view] = typical, reach * spread


def _median_and_reach(values: Tensor) -> tuple[Tensor, Tensor]:
    """The median of (N,) values, and the way from it to their 99% quantile."""
    typical, high = torch.quantile(values, torch.tensor([0.5, 0.99]))
    return typical, (high - typical).clamp_min(1e-3)
