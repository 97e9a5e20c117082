"""The gate's own score: three views of an image and its reconstruction, and the largest of them counts.

Each view is scaled so that of held-out normal images the median is 0 and the oddest hundredth begins at 1:

- redrawn badly: the largest errors and the structural dissimilarity, after a slight blur of both pictures;
- unlike normal structure: how far the error lies from any way in which normal images are redrawn, given the latent;
- faint or empty: contrast far below that of normal images, which are the easiest of all to redraw.

Whatever is fitted (training.fit_views) is kept in buffers and weights, so that one checkpoint holds everything.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from app.artifact import Architecture, View
from app.images import PIXELS, SIDE
from training.scores import Redrawing, Scorer

TOP_PIXELS = 50
BLUR_SIGMA = 1.0
SSIM_WINDOW = 7
MEASUREMENTS = 9
# What is added to each measurement, but for the last, before its logarithm is taken. Nowhere less than 1e-7: the
# exporter takes a smaller summand for zero, and the logarithm of nothing is infinite.
_LEAST = (1e-6, 1e-4, 1e-5, 1e-6, 1e-6, 1e-2, 1e-4, 1e-6)

VIEWS = (
    View(
        name="redrawn_badly",
        meaning="Largest errors and loss of structure between the slightly blurred image and its reconstruction.",
        odd="The network cannot redraw this image: the reconstruction differs more than for normal images.",
        normal="The network redraws this image as well as normal ones.",
    ),
    View(
        name="unlike_normal_structure",
        meaning="Distance of the pattern of errors from those of normal images with the same latent.",
        odd="What is redrawn wrongly forms a pattern that normal images do not show.",
        normal="What little is redrawn wrongly looks as it does for normal images.",
    ),
    View(
        name="faint_or_empty",
        meaning="How far the contrast lies below that of normal images.",
        odd="The image is fainter or emptier than normal images.",
        normal="The image has about as much contrast as normal images, or more.",
    ),
)


class Measurements(nn.Module):
    """Nine plain numbers of each image and its reconstruction, mostly logarithms."""

    blur: Tensor
    window: Tensor
    median: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("blur", _blur_matrix(BLUR_SIGMA), persistent=False)
        self.register_buffer("window", _window_matrix(SSIM_WINDOW), persistent=False)
        self.register_buffer("median", torch.zeros(1, 1, SIDE, SIDE))

    def blurred(self, images: Tensor) -> Tensor:
        """The same shape; so that a stroke redrawn half a pixel off does not count as an error."""
        return self.blur @ images @ self.blur.T

    def dissimilarity(self, pairs: Tensor) -> Tensor:
        """(N, 1) 1 - SSIM over all 7x7 windows of the two pictures of each pair (N, 2, 28, 28)."""
        # Variances around each image's own level: around zero, those of a white paper would be lost in rounding.
        level = _mean(pairs[:, 0])[:, :, None]  # (N, 1, 1)
        first, second = pairs[:, 0] - level, pairs[:, 1] - level
        planes = torch.stack([first, second, first.square() + second.square(), first * second], dim=1)
        means = self.window @ planes @ self.window.T  # (N, 4, 22, 22)
        off_1, off_2, squares, product = means[:, 0], means[:, 1], means[:, 2], means[:, 3]
        variances = squares - off_1.square() - off_2.square()
        covariance = product - off_1 * off_2
        mean_1, mean_2 = off_1 + level, off_2 + level
        light = (2 * mean_1 * mean_2 + 0.01**2) / (mean_1.square() + mean_2.square() + 0.01**2)
        structure = (2 * covariance + 0.03**2) / (variances + 0.03**2)
        return 1 - _mean(light * structure)

    def forward(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """
        Args:
            images: (N, 1, 28, 28), grey levels in [0, 1].
            reconstructions: The same.

        Returns:
            (N, 9): blurred largest errors, blurred 1 - SSIM, blurred relative error, loss, contrast, energy against
            the median image, total variation, sharpness, mean grey level.
        """
        blurred = self.blurred(torch.cat([images, reconstructions], dim=1))  # (N, 2, 28, 28)
        errors = (blurred[:, 0] - blurred[:, 1]).square().flatten(1)  # (N, 784)
        energy = _sum((images - self.median).square())
        across = _mean((images[..., 1:] - images[..., :-1]).abs())
        down = _mean((images[:, :, 1:] - images[:, :, :-1]).abs())
        mean = _mean(images)
        columns = [
            _mean(errors.topk(TOP_PIXELS, dim=1, sorted=False).values),
            self.dissimilarity(blurred),
            _sum(errors) / (energy + 1),
            _mean((images - reconstructions).square()),
            _mean((images.flatten(1) - mean).square()),
            energy,
            across + down,
            _mean((images[:, 0] - blurred[:, 0]).square()),
        ]
        return torch.cat([_log(torch.cat(columns, dim=1), _LEAST), mean], dim=1)


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
        hidden = self.body(latents)
        # Bounded above: an odd latent must not excuse an odd error.
        return self.mean(hidden), self.log_variance(hidden).clamp(-4, 1)


class Features(nn.Module):
    """What describes an error: its principal components, the energy they leave over, and the measurements, all on the
    scale that the latent lets expect; and the latent itself.
    """

    residual_mean: Tensor
    basis: Tensor
    variances: Tensor
    plain_mean: Tensor
    plain_scale: Tensor
    latent_mean: Tensor
    latent_scale: Tensor
    latent_low: Tensor
    latent_high: Tensor

    def __init__(self, latent_size: int, components: int, hidden: int) -> None:
        super().__init__()
        plain = components + 1 + MEASUREMENTS
        self.size = plain + latent_size
        self.register_buffer("residual_mean", torch.zeros(PIXELS))
        self.register_buffer("basis", torch.zeros(PIXELS, components))
        self.register_buffer("variances", torch.ones(components))
        self.register_buffer("plain_mean", torch.zeros(plain))
        self.register_buffer("plain_scale", torch.ones(plain))
        self.register_buffer("latent_mean", torch.zeros(latent_size))
        self.register_buffer("latent_scale", torch.ones(latent_size))
        self.register_buffer("latent_low", torch.full((latent_size,), -math.inf))
        self.register_buffer("latent_high", torch.full((latent_size,), math.inf))
        self.expected = ExpectedErrors(latent_size, plain, hidden)

    def plain(self, residuals: Tensor, measurements: Tensor) -> Tensor:
        """(N, components + 10), before the latent is taken into account.

        Args:
            residuals: (N, 784), image minus reconstruction.
            measurements: (N, 9).
        """
        centred = residuals - self.residual_mean
        components = centred @ self.basis  # (N, components), each of variance 1
        explained = components.square() @ self.variances[:, None]
        left_over = _log(_sum(centred.square()) - explained, 1e-4)
        values = torch.cat([components, left_over, measurements], dim=1)
        return (values - self.plain_mean) / self.plain_scale

    def standardised(self, latents: Tensor) -> Tensor:
        """(N, latent) with mean 0 and variance 1 over the training images."""
        return (latents - self.latent_mean) / self.latent_scale

    def forward(self, residuals: Tensor, measurements: Tensor, latents: Tensor) -> Tensor:
        """(N, components + 10 + latent)."""
        places = self.standardised(latents)
        # Beyond the latents seen in training the small network would extrapolate, and might expect anything.
        known = torch.minimum(torch.maximum(places, self.latent_low), self.latent_high)
        mean, log_variance = self.expected(known)
        plain = self.plain(residuals, measurements)
        return torch.cat([(plain - mean) * torch.exp(-0.5 * log_variance), places], dim=1)


class NearestGaussian(nn.Module):
    """A few Gaussians, each fitted on one variant; the one that explains an image best judges it."""

    whitening: Tensor
    offsets: Tensor
    typical: Tensor
    spread: Tensor
    own: Tensor

    def __init__(self, size: int, gaussians: int) -> None:
        super().__init__()
        self.register_buffer("whitening", torch.zeros(size, gaussians * size))
        self.register_buffer("offsets", torch.zeros(gaussians * size))
        self.register_buffer("typical", torch.zeros(gaussians))
        self.register_buffer("spread", torch.ones(gaussians))
        # (gaussians * size, gaussians): which columns of the whitening are whose.
        self.register_buffer("own", torch.eye(gaussians).repeat_interleave(size, dim=0), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Features (N, size) -> (N,) logarithm of the squared Mahalanobis distance to the nearest Gaussian.

        Scaled for each: 0 is the median of its own variant on held-out images, 1 the 99% quantile.
        """
        white = features @ self.whitening - self.offsets  # (N, gaussians * size)
        squares = white.square() @ self.own  # (N, gaussians)
        distances = (_log(squares, 1e-3) - self.typical) / self.spread
        return distances.amin(dim=1)


class Views(Scorer):
    """The scorer of the default gate."""

    views = VIEWS
    error_mean: Tensor
    error_scale: Tensor
    typical: Tensor
    spread: Tensor

    def __init__(self, latent_size: int, components: int = 160, hidden: int = 64, gaussians: int = 1) -> None:
        """
        Args:
            latent_size: Of the network whose redrawings are judged.
            components: Principal components of the error that are looked at.
            hidden: Width of the network that expects errors.
            gaussians: How many ways of being normal there are.
        """
        super().__init__()
        self._arguments = {
            "latent_size": latent_size,
            "components": components,
            "hidden": hidden,
            "gaussians": gaussians,
        }
        self.measurements = Measurements()
        self.features = Features(latent_size, components, hidden)
        self.nearest = NearestGaussian(self.features.size, gaussians)
        self.register_buffer("error_mean", torch.zeros(2))
        self.register_buffer("error_scale", torch.ones(2))
        self.register_buffer("typical", torch.zeros(len(VIEWS)))
        self.register_buffer("spread", torch.ones(len(VIEWS)))

    @property
    def description(self) -> Architecture:
        return Architecture(name="views", arguments=self._arguments)

    def unscaled(self, redrawing: Redrawing) -> Tensor:
        """(N, views) before each is brought to its scale."""
        images, reconstructions, latents, _ = redrawing
        measurements = self.measurements(images, reconstructions)  # (N, 9)
        redrawn = ((measurements[:, :2] - self.error_mean) / self.error_scale).sum(dim=1)
        features = self.features((images - reconstructions).flatten(1), measurements, latents)
        return torch.stack([redrawn, self.nearest(features), -measurements[:, 4]], dim=1)

    def forward(self, redrawing: Redrawing) -> tuple[Tensor, Tensor]:
        """Scores (N,), the largest view of each image, and the views (N, views)."""
        views = (self.unscaled(redrawing) - self.typical) / self.spread
        return views.amax(dim=1), views


# ONNX Runtime gives an image the same bits alone and in any batch, as long as its graph keeps to two rules. Rows are
# added up by a matrix product, for the order in which a sum takes numbers depends on where their row lies in memory.
# And logarithms are taken of whole rows of sixteen, for what is left over at the end of a tensor is computed in
# another way. (tests/test_views.py compares.)
_LANES = 16


def _sum(values: Tensor) -> Tensor:
    """(N, ...) -> (N, 1)."""
    rows = values.flatten(1)
    return rows @ rows.new_ones(rows.shape[1], 1)


def _mean(values: Tensor) -> Tensor:
    """(N, ...) -> (N, 1)."""
    rows = values.flatten(1)
    return rows @ rows.new_full((rows.shape[1], 1), 1 / rows.shape[1])


def _log(values: Tensor, least: float | tuple[float, ...]) -> Tensor:
    """(N, k) -> (N, k), the logarithms of the values, but of none below zero, plus `least`: one, or one a column."""
    columns = values.shape[1]
    padded = F.pad(values.clamp_min(0) + values.new_tensor(least), (0, -columns % _LANES), value=1.0)
    return padded.log()[:, :columns]


def _blur_matrix(sigma: float) -> Tensor:
    """(28, 28): Gaussian blur along one axis; each row sums to one."""
    steps = torch.arange(SIDE, dtype=torch.float32)
    weights = torch.exp(-((steps[:, None] - steps[None]) ** 2) / (2 * sigma**2))
    return weights / weights.sum(dim=1, keepdim=True)


def _window_matrix(window: int) -> Tensor:
    """(29 - window, 28): moving average along one axis."""
    rows = torch.arange(SIDE - window + 1)[:, None]
    columns = torch.arange(SIDE)[None]
    return ((columns >= rows) & (columns < rows + window)).float() / window
