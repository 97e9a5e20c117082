"""Fits the gate's views to normal images: the statistics to training images, the scales to held-out images.

Large tables are rounded to half precision right after they are fitted, so that later steps use the same values as the
service. The artifact then stores them in half precision without loss.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from tqdm import trange

from app.detection.images import SIDE
from app.detection.shown import class_rows
from training.fitting.coverage import is_covered
from training.fitting.fit import to_grey_levels
from training.fitting.fit_gaussians import fit_gaussians
from training.fitting.fit_reach import fit_reach
from training.fitting.fit_scales import fit_scales
from training.fitting.scaling import round_weights, rounded
from training.model.autoencoders import Autoencoder
from training.model.gaussians import NearestGaussian
from training.model.gradients import Prototypes
from training.model.normalise import Normalisation
from training.model.scores import Redrawing, redraw
from training.model.views import LEAST_LEVELS, Features, Measurements, Views

MOST_OUTLINES, MOST_PICTURES = 192, 64
_BATCH_SIZE, _CHECK_EVERY = 256, 50
# Of images, for whatever is done to all of them at once.
_CHUNK = 4096
_ROUNDS, _MOST_ROWS = 8, 20_000


Known = tuple[Tensor, Tensor, Tensor]
"""Components (N, components), measurements (N, 8) and latents (N, latent) of N redrawn images."""


def fit_normalisation(originals: NDArray[np.uint8]) -> Normalisation:
    """What can be taken out of pictures, found on originals (n, 28, 28), grey levels 0 to 255."""
    normalisation = Normalisation()
    with torch.no_grad():
        normalisation.fit(to_grey_levels(torch.from_numpy(originals)).unsqueeze(1))
    return normalisation


def normalised(normalisation: Normalisation, images: NDArray[np.uint8]) -> NDArray[np.float16]:
    """(N, 28, 28), grey levels 0 to 255 -> what the network sees of them, about in [0, 1]."""
    chunks = torch.split(torch.from_numpy(images).unsqueeze(1), _CHUNK)
    with torch.no_grad():
        parts = [normalisation(to_grey_levels(chunk)).images[:, 0].half() for chunk in chunks]
    result: NDArray[np.float16] = torch.cat(parts).numpy()
    return result


def fit_views(
    autoencoder: Autoencoder,
    train: NDArray[np.uint8],
    held_out: NDArray[np.uint8],
    seed: int,
    normalisation: Normalisation | None = None,
    shown: Sequence[str] = (),
) -> Views:
    """Fits all views on top of a fitted network, whose weights are rounded to half precision.

    Args:
        autoencoder: In evaluation mode.
        train: (variants, n, 28, 28), grey levels 0 to 255; the first variant is the original.
        held_out: (variants, m, 28, 28), other images, which the network did not see.
        seed: Of the network that expects errors.
        normalisation: Fitted; None takes nothing out of the images.
        shown: The class of each variant's files, as `app.detection.shown.class_rows` takes it; none: one class.
    """
    normalisation = normalisation or Normalisation()
    rows = list(class_rows(shown).values()) if any(shown) else [list(range(len(train)))]
    with torch.no_grad():
        round_weights(autoencoder)
        fitted, others = (_redraw_all(autoencoder, normalisation, part) for part in (train, held_out))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        views = Views(fitted.latents.shape[1], classes=len(rows)).eval()
    own, other = _fit_measures(views, fitted, others, seed)
    with torch.no_grad():
        features, other_features = (_by_variant(views.features(*part)[0], len(train)) for part in (own, other))
        nearest = fit_gaussians(features, other_features, rows)
        covered = is_covered(views, _first(fitted, train.shape[1]), _first(others, held_out.shape[1]))
    if covered:
        both = (_by_latent(views, nearest, *part, rows) for part in ((fitted, own), (others, other)))
        views.reach = fit_reach(*next(both), *next(both), seed)
    with torch.no_grad():
        outlines, pictures = _fit_prototypes(views, fitted, seed)
        parts = {"nearest": nearest, "outlines": outlines, "pictures": pictures}
        complete = _assembled(views, {**parts, "normalisation": normalisation})
        faintness = torch.cat([_by_variant(-part[1][:, 3], len(train)) for part in (own, other)], dim=1)
        fit_scales(complete, others, faintness, rows, len(fitted.images), covered)
    return complete.requires_grad_(False)


def _fit_measures(views: Views, fitted: Redrawing, others: Redrawing, seed: int) -> tuple[Known, Known]:
    """Fits what is measured of single images, and returns it of both parts."""
    with torch.no_grad():
        _fit_components(views.measurements, (fitted.images - fitted.reconstructions).flatten(1))
        own, other = _measure(views, fitted), _measure(views, others)
        views.error_weights.copy_(1 / (own[1][:, :2].std(dim=0) + 1e-3))
        _fit_features(views.features, *own)
        views.levels.fit(fitted.images)
        views.statistics.fit(own[1])
    _fit_expected_errors(views.features, own, other, min(3_000, max(500, len(fitted.images) // 10)), seed)
    return own, other


def _assembled(views: Views, parts: Mapping[str, nn.Module]) -> Views:
    """The views with parts that were fitted apart, by name; the size of some of them is known only now."""
    state = views.state_dict()
    for name, module in parts.items():
        state.update({f"{name}.{key}": value for key, value in module.state_dict().items()})
    complete = Views(
        len(views.features.latent_mean),
        gaussians=len(state["nearest.typical"]),
        prototypes=len(state["outlines.squares"]),
        pictures=len(state["pictures.squares"]),
        classes=views.columns,
    ).eval()
    complete.load_state_dict(state)
    return complete


def _first(redrawing: Redrawing, count: int) -> Redrawing:
    """The originals, which come first."""
    return Redrawing(*(part[:count] for part in redrawing))


def _by_variant(values: Tensor, variants: int) -> Tensor:
    """(variants * n, ...) -> (variants, n, ...)"""
    return values.reshape(variants, -1, *values.shape[1:])


@torch.no_grad()
def _by_latent(
    views: Views, nearest: NearestGaussian, redrawing: Redrawing, known: Known, rows: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor]:
    """What the latents are known by (N, hidden), and the views that are judged by them (N, 3), nothing subtracted yet.

    Args:
        views: Their features are fitted.
        nearest: Fitted.
        redrawing: N images, variant after variant.
        known: Of the same.
        rows: The variants of each class.
    """
    features, hidden = views.features(*known)
    structure = _in_own_class(nearest(features), rows)
    chunks = torch.split(redrawing.images, _CHUNK)
    levels = torch.cat([(views.levels(chunk) + LEAST_LEVELS).log() for chunk in chunks])
    return hidden, torch.cat([views.redrawn(known[1]), structure, levels], dim=1)


def _in_own_class(distances: Tensor, rows: Sequence[Sequence[int]]) -> Tensor:
    """Distances (variants * n, classes) of images, variant after variant -> (variants * n, 1), as each is judged.

    A variant that counts in several classes is taken as the first of them.
    """
    variants = 1 + max(max(mine) for mine in rows)
    classes = [next(number for number, mine in enumerate(rows) if variant in mine) for variant in range(variants)]
    columns = torch.tensor(classes).repeat_interleave(len(distances) // variants)
    return distances.gather(1, columns[:, None])


def _fit_prototypes(views: Views, redrawing: Redrawing, seed: int) -> tuple[Prototypes, Prototypes]:
    """Typical outlines and typical pictures, from some of N redrawn images."""
    some = slice(None, None, 1 + len(redrawing.images) // _MOST_ROWS)
    needed = redrawing.images, redrawing.reconstructions, redrawing.losses
    chunks = list(zip(*(torch.split(part[some], 512) for part in needed), strict=True))
    outlines = torch.cat([views.histograms(chunk[0]) for chunk in chunks])
    pictures = torch.cat([views.measurements(*chunk).pictures for chunk in chunks])
    return _typical(outlines, MOST_OUTLINES, seed), _typical(pictures, MOST_PICTURES, seed)


def _typical(features: Tensor, most: int, seed: int) -> Prototypes:
    """The centres of at most `most` clusters of features (N, size), by a few rounds of k-means."""
    count = min(most, max(1, len(features) // 2))
    generator = Generator().manual_seed(seed)
    centres = features[torch.randperm(len(features), generator=generator)[:count]]
    for _ in range(_ROUNDS):
        nearest = (centres.square().sum(dim=1) - 2 * features @ centres.T).argmin(dim=1)
        sizes = torch.bincount(nearest, minlength=count)[:, None]
        sums = torch.zeros_like(centres).index_add_(0, nearest, features)
        centres = torch.where(sizes > 0, sums / sizes.clamp_min(1), centres)
    prototypes = Prototypes(features.shape[1], count)
    prototypes.set_vectors(centres)
    return prototypes


def _redraw_all(autoencoder: Autoencoder, normalisation: Normalisation, images: NDArray[np.uint8]) -> Redrawing:
    """(variants, n, 28, 28) bytes -> what the network makes of all of them, variant after variant."""
    flat = torch.from_numpy(images).reshape(-1, 1, SIDE, SIDE)
    parts = [redraw(autoencoder, to_grey_levels(chunk), normalisation) for chunk in torch.split(flat, _CHUNK)]
    return Redrawing(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def _measure(views: Views, redrawing: Redrawing) -> Known:
    chunks = zip(*(torch.split(tensor, _CHUNK) for tensor in redrawing), strict=True)
    parts = [views.measurements(images, redrawn, losses)[:2] for images, redrawn, _, losses, *_ in chunks]
    components, measurements = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return components, measurements, redrawing.latents


def _fit_components(measurements: Measurements, residuals: Tensor) -> None:
    """Sets `basis` and `variances` to the principal components of the residuals (N, 784), scaled to variance 1.

    The projection later does not subtract the mean residual: it is small, and later steps subtract their own means.
    """
    values, vectors = torch.linalg.eigh(torch.cov(residuals[:: 1 + len(residuals) // 20_000].T))
    count = measurements.basis.shape[1]
    variances = values.flip(0)[:count].clamp_min(1e-7)
    measurements.variances.copy_(variances)
    measurements.basis.copy_(rounded(vectors.flip(1)[:, :count] / variances.sqrt()))


def _fit_features(features: Features, components: Tensor, measurements: Tensor, latents: Tensor) -> None:
    """Sets the means, scales and ranges of the features; `_fit_expected_errors` fits the rest."""
    plain = features.plain(components, measurements)
    features.plain_mean.copy_(plain.mean(dim=0))
    features.plain_scale.copy_(plain.std(dim=0) + 1e-3)
    features.latent_mean.copy_(latents.mean(dim=0))
    features.latent_scale.copy_(latents.std(dim=0) + 1e-3)
    places = features.standardised(latents)
    features.latent_low.copy_(places.amin(dim=0))
    features.latent_high.copy_(places.amax(dim=0))


def _fit_expected_errors(features: Features, own: Known, other: Known, steps: int, seed: int) -> None:
    """Trains `ExpectedErrors`, and keeps the weights with the lowest loss on held-out images (early stopping).

    This prevents overfitting when there are few training images.
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
        # Noise on the latents makes the network smooth: near latents get similar expected errors.
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
