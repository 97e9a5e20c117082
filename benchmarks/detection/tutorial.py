"""Part 3: the tutorial's three models on the same circles, with the loss alone and with our views on top.

Each network is fitted once, on the originals, as the tutorial does.
"""

import copy
from typing import Any

from benchmarks.detection.gates import fit_network, graph_score, loss_score, split
from benchmarks.detection.measures import measure, remembered, threshold_of
from benchmarks.detection.pictures import Scale, calibration_circles, training_circles
from training.fitting.fit_views import fit_views

MODELS = ("ae", "vae", "cvae")


def run(scale: Scale) -> dict[str, Any]:
    results = {}
    for model in MODELS:
        for name, found in _rows(model, scale):
            print(f"{model}, {name}: {found['groups']['all']['detection']['rate']}", flush=True)
            results[f"{model}, {name}"] = found
    return results


def _rows(model: str, scale: Scale) -> list[tuple[str, dict[str, Any]]]:
    own, others = split(training_circles(scale))
    calibration = calibration_circles(scale)
    network = fit_network(model, own[:1], epochs=1 if scale.quick else None)
    score = remembered(loss_score(network))
    rows = [
        ("loss, original", measure(score, threshold_of(score, calibration[:1]), scale, brief=True)),
        ("loss, variants", measure(score, threshold_of(score, calibration), scale, brief=True)),
    ]
    for name, ways in (("original", slice(1)), ("variants", slice(None))):
        # Views round the weights of the network that they are fitted on.
        rounded = copy.deepcopy(network)
        score = graph_score(rounded, fit_views(rounded, own[ways], others[ways], 0))
        rows.append((f"views, {name}", measure(score, threshold_of(score, calibration[ways]), scale, brief=True)))
    return rows
