"""Gates that the benchmark fits itself, by training's own steps, on arrays rather than on files."""

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.detection.measures import Score, score_of
from benchmarks.detection.pictures import Images
from training.fitting.calibrate import uncalibrated_detector
from training.fitting.fit import fit
from training.fitting.fit_views import fit_normalisation, fit_views, normalised
from training.model.autoencoders import Autoencoder, build, describe
from training.model.export import export_graph
from training.model.scores import LossScore, ScoredAutoencoder, Scorer
from training.plan import DEFAULTS, FitSettings
from training.run import divided


def split(images: Images) -> tuple[Images, Images]:
    """As training does: what is fitted, and one in eight that sets the scales; (variants, n, 28, 28) both."""
    fitted, held_out = divided(range(images.shape[1]))
    return images[:, fitted], images[:, held_out]


def fit_network(model: str, images: Images | NDArray[np.float16], epochs: int | None = None) -> Autoencoder:
    """`gate` or one of the tutorial's, with the command line's defaults; images (variants, n, 28, 28), bytes, or what
    is left of them when light and place are taken out.
    """
    defaults = DEFAULTS[model]
    settings = FitSettings(
        epochs=epochs or defaults.epochs,
        batch_size=defaults.batch_size,
        learning_rate=defaults.learning_rate,
        one_cycle=model == "gate",
    )
    network = build(describe(model, defaults.latent_size, settings.loss), 0)
    fit(network, images.reshape(-1, *images.shape[2:]), settings, 0)
    return network


def fit_gate(images: Images, epochs: int | None = None) -> Score:
    """The default recipe on (variants, n, 28, 28), with one class of files for all."""
    own, others = split(images)
    normalisation = fit_normalisation(images[0])
    network = fit_network("gate", normalised(normalisation, own.reshape(-1, *own.shape[2:]))[None], epochs)
    return graph_score(network, fit_views(network, own, others, 0, normalisation))


def loss_score(network: Autoencoder) -> Score:
    return graph_score(network, LossScore())


def graph_score(network: Autoencoder, scorer: Scorer) -> Score:
    """Of the exported graph, as serving runs it."""
    with torch.no_grad():
        graph = export_graph(ScoredAutoencoder(network, scorer))
    return score_of(uncalibrated_detector(graph, scorer.views))
