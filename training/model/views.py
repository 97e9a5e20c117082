"""The gate's own score: nine views of an image and its reconstruction, taken together so that the largest counts most.

Each view is scaled on held-out normal images: 0 is the median, and 1 lies about at the 99% quantile
(`training.fitting.fit_scales` says how far). The views are:

- redrawn badly: the squared errors and the structural dissimilarity, after a slight blur of both pictures;
- unlike normal structure: how far the error lies from any way in which normal images are redrawn, given the latent;
- faint or empty: contrast far below that of normal images, which are the easiest of all to redraw;
- unlike normal outlines: how far the directions of its edges are from those of the nearest normal images;
- unlike normal levels: dark or light where normal images never are;
- unlike any normal image: how far the blurred picture is from the nearest of a few typical normal ones;
- another kind of picture: contrast, edges and mean level that do not go together as in normal images, as noise has;
- on other paper, in another place: the light of the paper and the place of what is drawn on it, which are taken out of
  the picture before the network sees it.

Whatever is fitted (training.fitting.fit_views) is kept in buffers and weights, so that one checkpoint holds everything.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from app.detection.artifact import Architecture
from app.detection.images import PIXELS, SIDE
from training.model.arithmetic import log_of, mean_of
from training.model.gaussians import NearestGaussian
from training.model.gradients import SIZE as GRADIENTS
from training.model.gradients import GradientHistograms, Prototypes
from training.model.meanings import VIEWS
from training.model.normalise import Normalisation
from training.model.reach import UsualReach
from training.model.scores import Redrawing, Scorer
from training.model.usual import UsualLevels, UsualStatistics

BLUR_SIGMA = 1.0
# Side of the SSIM window, in pixels of the halved image (14x14).
SSIM_WINDOW = 4
MEASUREMENTS = 8
HALVED = (SIDE // 2) ** 2
# Added to each measurement, except the last, before its logarithm is taken. At least 1e-7: the exporter drops smaller
# constants as zero, and then the logarithm of 0 would be infinite.
_LEAST = (1e-6, 1e-4, 1e-6, 1e-6, 1e-4, 1e-6, 1e-4)
# The same for outlines and pictures, differences of large numbers that are exact to about 1e-6, and for levels.
LEAST_OUTLINES, LEAST_LEVELS, LEAST_PICTURES = 1e-2, 1e-3, 1e-2


class Measured(NamedTuple):
    """What is measured of an image and its reconstruction.

    Attributes:
        components: (N, components) of the error, each with variance 1 over the training images.
        measurements: (N, 8). The first seven are logarithms: of the loss after the blur, of 1 - SSIM after the blur,
            of the loss, of the contrast, of the mean absolute and the mean squared difference between horizontal
            neighbours (every second pair), and of the squared error that the components do not explain. The eighth is
            the mean grey level.
        pictures: (N, 196), twice the image, blurred and halved.
    """

    components: Tensor
    measurements: Tensor
    pictures: Tensor


class Measurements(nn.Module):
    """Computes `Measured`."""

    halving: Tensor
    windows: Tensor
    slopes: Tensor
    basis: Tensor
    variances: Tensor

    def __init__(self, components: int) -> None:
        super().__init__()
        self.register_buffer("halving", _halving_matrix(BLUR_SIGMA), persistent=False)
        self.register_buffer("windows", _window_matrix(SSIM_WINDOW), persistent=False)
        self.register_buffer("slopes", torch.eye(SIDE).diff(dim=1)[:, ::2], persistent=False)
        self.register_buffer("basis", torch.zeros(PIXELS, components))
        self.register_buffer("variances", torch.ones(components))

    def halved(self, images: Tensor) -> Tensor:
        """Blurs and halves images: (N, k, 28, 28) -> (N, k, 196), that is, 14x14 pixels each, transposed.

        After the blur, a stroke that is redrawn half a pixel off does not count as an error, and every second row and
        column suffices. The transposition does no harm, since all uses are symmetric in rows and columns.
        """
        return ((images @ self.halving).transpose(2, 3) @ self.halving).flatten(2)

    def dissimilarity(self, pairs: Tensor, taken: Tensor) -> Tensor:
        """(N, windows) 1 - SSIM of two pictures in each window.

        Args:
            pairs: (N, 2, 196), the difference and the sum of the two pictures. SSIM computed from these avoids
                subtracting nearly equal numbers, which would lose precision: var(x) + var(y) is
                (var(x - y) + var(x + y)) / 2, and likewise for squared means.
            taken: (N, 2, 1), the level that was subtracted from both: a variance is the more exact, the nearer its
                numbers lie to 0.
        """
        means = pairs @ self.windows  # (N, 2, windows)
        variances = (pairs * pairs) @ self.windows - means * means
        levels = means + taken
        light, structure = _share(levels * levels, 0.01**2), _share(variances, 0.03**2)
        return light + structure - light * structure  # 1 - (1 - light) * (1 - structure)

    def forward(self, images: Tensor, reconstructions: Tensor, losses: Tensor) -> Measured:
        """
        Args:
            images: (N, 1, 28, 28), grey levels in [0, 1].
            reconstructions: The same.
            losses: (N,), their mean squared errors.
        """
        residuals = images - reconstructions
        components = residuals.flatten(1) @ self.basis
        explained = (components * components) @ self.variances[:, None]
        pixels, slopes = images.flatten(1), (images @ self.slopes).flatten(1)
        mean, loss = mean_of(pixels), losses[:, None]
        twice = 2 * mean[:, :, None]  # (N, 1, 1)
        sums = (images + reconstructions).flatten(2) - twice
        pairs = self.halved(torch.cat([residuals, sums.reshape_as(residuals)], dim=1))  # (N, 2, 196)
        around = pixels - mean
        columns = [
            mean_of((pairs * pairs)[:, 0]),
            mean_of(self.dissimilarity(pairs, torch.cat([0 * twice, twice], dim=1))),
            loss,
            mean_of(around * around),
            mean_of(slopes.abs()),
            mean_of(slopes * slopes),
            PIXELS * loss - explained,
        ]
        measurements = torch.cat([log_of(torch.cat(columns, dim=1), _LEAST), mean], dim=1)
        return Measured(components, measurements, pairs[:, 0] + pairs[:, 1] + twice[:, 0])


class ExpectedErrors(nn.Module):
    """Mean and log-variance of each feature of a normal image, given its latent."""

    def __init__(self, latent_size: int, features: int, hidden: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(latent_size, hidden),  # (N, hidden)
            nn.LeakyReLU(),
            nn.Linear(hidden, hidden),  # (N, hidden)
            nn.LeakyReLU(),
        )
        self.mean = nn.Linear(hidden, features)
        self.log_variance = nn.Linear(hidden, features)
        for layer in (self.mean, self.log_variance):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Standardised latents (N, latent) -> means and log-variances in [-4, 1], (N, features) each."""
        return self.spread(self.body(latents))

    def spread(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The same from the last hidden layer (N, hidden)."""
        # The upper bound keeps an unusual latent from predicting a variance so large that any error looks normal.
        return self.mean(hidden), self.log_variance(hidden).clamp(-4, 1)


class Features(nn.Module):
    """The features of an image: the components of its error and the measurements, standardised with the mean and
    variance that `ExpectedErrors` predicts from the latent, and the standardised latent.
    """

    plain_mean: Tensor
    plain_scale: Tensor
    latent_mean: Tensor
    latent_scale: Tensor
    latent_low: Tensor
    latent_high: Tensor

    def __init__(self, latent_size: int, components: int, hidden: int) -> None:
        super().__init__()
        plain = components + MEASUREMENTS
        self.size = plain + latent_size
        self.register_buffer("plain_mean", torch.zeros(plain))
        self.register_buffer("plain_scale", torch.ones(plain))
        self.register_buffer("latent_mean", torch.zeros(latent_size))
        self.register_buffer("latent_scale", torch.ones(latent_size))
        self.register_buffer("latent_low", torch.full((latent_size,), -math.inf))
        self.register_buffer("latent_high", torch.full((latent_size,), math.inf))
        self.expected = ExpectedErrors(latent_size, plain, hidden)

    def plain(self, components: Tensor, measurements: Tensor) -> Tensor:
        """(N, components + 8), before the latent is taken into account."""
        return (torch.cat([components, measurements], dim=1) - self.plain_mean) / self.plain_scale

    def standardised(self, latents: Tensor) -> Tensor:
        """(N, latent) with mean 0 and variance 1 over the training images."""
        return (latents - self.latent_mean) / self.latent_scale

    def forward(self, components: Tensor, measurements: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        """The features (N, components + 8 + latent), and what the latent is known by (N, hidden)."""
        places = self.standardised(latents)
        # Clip latents to the range seen in training, so that `ExpectedErrors` does not extrapolate.
        known = torch.minimum(torch.maximum(places, self.latent_low), self.latent_high)
        hidden = self.expected.body(known)
        mean, log_variance = self.expected.spread(hidden)
        plain = self.plain(components, measurements)
        return torch.cat([(plain - mean) * torch.exp(-0.5 * log_variance), places], dim=1), hidden


class Views(Scorer):
    """The scorer of the default gate."""

    views = VIEWS
    error_weights: Tensor
    typical: Tensor
    spread: Tensor
    # How far below the median a view still adds to the others.
    from_below: Tensor

    def __init__(
        self,
        latent_size: int,
        components: int = 160,
        hidden: int = 64,
        gaussians: int = 1,
        prototypes: int = 1,
        pictures: int = 1,
        classes: int = 1,
    ) -> None:
        """
        Args:
            latent_size: Width of the autoencoder's bottleneck.
            components: Number of principal components of the error.
            hidden: Width of the hidden layers of `ExpectedErrors`.
            gaussians: Number of Gaussians in `NearestGaussian`.
            prototypes: How many typical outlines are kept.
            pictures: How many typical pictures are kept.
            classes: How many classes of files are told apart (`app.detection.shown`); each has scales of its own.
        """
        super().__init__()
        self._arguments = {
            "latent_size": latent_size,
            "components": components,
            "hidden": hidden,
            "gaussians": gaussians,
            "prototypes": prototypes,
            "pictures": pictures,
            "classes": classes,
        }
        self.normalisation: Normalisation = Normalisation()
        self.measurements = Measurements(components)
        self.features = Features(latent_size, components, hidden)
        self.nearest = NearestGaussian(self.features.size, gaussians, classes)
        self.reach = UsualReach(hidden)
        self.histograms = GradientHistograms()
        self.outlines = Prototypes(GRADIENTS, prototypes)
        self.pictures = Prototypes(HALVED, pictures)
        self.levels = UsualLevels()
        self.statistics = UsualStatistics(MEASUREMENTS)
        self.register_buffer("error_weights", torch.ones(2))
        self.register_buffer("typical", torch.zeros(classes, len(VIEWS)))
        self.register_buffer("spread", torch.ones(classes, len(VIEWS)))
        self.register_buffer("from_below", torch.zeros(()))

    @property
    def columns(self) -> int:
        return len(self.typical)

    @property
    def description(self) -> Architecture:
        return Architecture(name="views", arguments=self._arguments)

    def redrawn(self, measurements: Tensor) -> Tensor:
        """(N, 8) -> (N, 1), how badly it is redrawn."""
        return measurements[:, :2] @ self.error_weights[:, None]

    def unscaled(self, redrawing: Redrawing) -> Tensor:
        """(N, classes, views) before each is brought to its scale."""
        images, reconstructions, latents, losses, paper, away = redrawing
        components, measurements, pictures = self.measurements(images, reconstructions, losses)
        features, hidden = self.features(components, measurements, latents)
        plain = [
            self.outlines(self.histograms(images)),
            self.levels(images),
            self.pictures(pictures),
            self.statistics(measurements),
        ]
        logs = log_of(torch.cat(plain, dim=1), (LEAST_OUTLINES, LEAST_LEVELS, LEAST_PICTURES, 1.0))
        nearest = self.nearest(features)  # (N, classes)
        reach = self.reach(hidden)  # (N, 3)
        others = [
            self.redrawn(measurements) - reach[:, :1],
            -measurements[:, 3:4],
            logs[:, :1],
            logs[:, 1:2] - reach[:, 2:],
            logs[:, 2:],
            (paper - 1).abs(),
            self.normalisation.place.oddity(away),
        ]
        alike = torch.cat(others, dim=1)[:, None, :] + torch.zeros_like(nearest)[:, :, None]  # (N, classes, 8)
        return torch.cat([alike[:, :, :1], (nearest - reach[:, 1:2])[:, :, None], alike[:, :, 1:]], dim=2)

    def forward(self, redrawing: Redrawing) -> tuple[Tensor, Tensor]:
        """Scores (N, classes), and the views behind them (N, classes, views)."""
        views = (self.unscaled(redrawing) - self.typical) / self.spread
        return _together(views, self.from_below), views


def _together(views: Tensor, from_below: Tensor) -> Tensor:
    """(N, classes, views) -> (N, classes): the fourth root of the sum of the fourth powers, where any counts.

    Nearly the largest, which is what finds images that only one view tells apart; but two views that both are rather
    high count for more than either. Images that are low in all get the largest. All of it is counted from `from_below`
    under 0: the larger that is, the more do several views count that are a little high.
    """
    raised = views + from_below
    squares = raised.clamp(0.0, 1e6).square()
    powers = (squares * squares) @ views.new_ones((views.shape[2], 1))  # (N, classes, 1)
    return powers.squeeze(2).sqrt().sqrt() + raised.amax(dim=2).clamp(max=0.0) - from_below


def _share(pairs: Tensor, least: float) -> Tensor:
    """(N, 2, k) -> (N, k): the first value divided by the mean of both plus `least`."""
    first, second = pairs.flatten(1).chunk(2, dim=1)
    return 2 * first / (first + second + 2 * least)


def _halving_matrix(sigma: float) -> Tensor:
    """(28, 14): Gaussian blur along one axis, seen between every second and the next pixel; each column sums to one."""
    steps = torch.arange(SIDE)[:, None] - torch.arange(0.5, SIDE, 2)
    weights = torch.exp(-(steps**2) / (2 * sigma**2))
    return weights / weights.sum(dim=0)


def _window_matrix(window: int) -> Tensor:
    """(196, windows): means over square windows of a halved picture."""
    side = SIDE // 2
    pixels, starts = torch.arange(side)[:, None], torch.arange(side - window + 1)
    within = ((pixels >= starts) & (pixels < starts + window)).float() / window  # (14, windows along one axis)
    return torch.kron(within, within)
