"""Part 4: PyOD's detectors on the same circles, calibrated by the same rule."""

import warnings
from typing import Any

import numpy as np

from benchmarks.detection.measures import Score, measure, threshold_of
from benchmarks.detection.pictures import Images, Scale, calibration_circles, training_circles

# Nearest neighbours of every variant's circles would take hours; of a quarter of them minutes.
VARIANT_SHARE = 4


def run(scale: Scale) -> dict[str, Any]:
    train, calibration = training_circles(scale), calibration_circles(scale)
    results = {}
    for name in ("KNN", "KNN tuned", "AutoEncoder", "AutoEncoder tuned", "VAE", "VAE tuned"):
        for ways, own in (("original", train[:1]), ("variants", train[:, ::VARIANT_SHARE])):
            score = _fitted(_detector(name, scale), own)
            threshold = threshold_of(score, calibration[:1] if ways == "original" else calibration)
            results[f"{name}, {ways}"] = found = measure(score, threshold, scale, brief=True)
            print(f"{name}, {ways}: {found['groups']['all']['detection']['rate']}", flush=True)
    return results


def _detector(name: str, scale: Scale) -> Any:
    """By default as PyOD has it. Tuned: by what one may know without anomalies, a better fit to normal images."""
    from pyod.models.auto_encoder import AutoEncoder
    from pyod.models.knn import KNN
    from pyod.models.vae import VAE

    quick = {"epoch_num": 1} if scale.quick else {}
    wide = {"batch_size": 128, "epoch_num": 40, "dropout_rate": 0.0, "preprocessing": False, **quick}
    if name == "KNN":
        return KNN()
    if name == "KNN tuned":
        return KNN(n_neighbors=1)
    if name == "AutoEncoder":
        return AutoEncoder(verbose=0, **quick)
    if name == "AutoEncoder tuned":
        return AutoEncoder(verbose=0, hidden_neuron_list=[384, 128, 16], **wide)
    if name == "VAE":
        return VAE(verbose=0, **quick)
    encoder = [384, 128]
    return VAE(verbose=0, encoder_neuron_list=encoder, decoder_neuron_list=encoder[::-1], latent_dim=8, **wide)


def _fitted(detector: Any, images: Images) -> Score:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector.fit(_flat(images))

    def score(images: Images) -> Any:
        return np.asarray(detector.decision_function(_flat(images)), dtype=np.float32)

    return score


def _flat(images: Images) -> Any:
    return images.reshape(-1, 28 * 28).astype(np.float32) / 255
