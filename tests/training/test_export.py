import numpy as np
import onnx
import pytest
import torch

from app.detection.artifact import Architecture
from training.errors import TrainingError
from training.fitting.calibrate import uncalibrated_detector
from training.fitting.scaling import round_weights
from training.model.autoencoders import build, describe
from training.model.export import check_agreement, export_graph, load_checkpoint, save_checkpoint
from training.model.scores import LossScore, ScoredAutoencoder, score_images

SMALL = Architecture(name="gate", arguments={"latent_size": 4, "width": 16})


def scored(architecture=SMALL, seed=0):
    return ScoredAutoencoder(build(architecture, seed), LossScore())


@pytest.fixture(scope="module")
def graph():
    return export_graph(scored())


def images_of(count):
    return np.random.default_rng(0).random((count, 28, 28), dtype=np.float32)


def test_graph_names_its_input_and_outputs_and_leaves_the_batch_open(graph):
    described = onnx.load_from_string(graph).graph
    shapes = {
        value.name: [dimension.dim_param or dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*described.input, *described.output)
    }
    assert shapes == {
        "image": ["batch", 1, 28, 28],
        "reconstruction": ["batch", 1, 28, 28],
        "loss": ["batch"],
        "score": ["batch"],
        "views": ["batch", 1],
    }


@pytest.mark.parametrize("count", [1, 2, 33])
def test_graph_agrees_with_the_model_at_any_batch_size(graph, count):
    check_agreement(scored(), uncalibrated_detector(graph, LossScore.views), images_of(count))


def test_graph_of_another_model_is_noticed(graph):
    with pytest.raises(TrainingError, match="disagree: reconstruction"):
        check_agreement(scored(seed=1), uncalibrated_detector(graph, LossScore.views), images_of(3))


def test_graph_scores_an_image_that_is_no_number_as_no_number(graph):
    images = images_of(2)
    images[1, 4, 4] = np.nan
    detections = uncalibrated_detector(graph, LossScore.views).detect(images)
    assert [detection.is_anomaly for detection in detections] == [False, True]


def test_same_weights_give_the_same_bytes_and_no_trace_of_the_machine(graph):
    assert export_graph(scored()) == graph
    for trace in (b"site-packages", b".py", b"/home", b"/root", b"/work", b"stack_trace"):
        assert trace not in graph


def test_checkpoint_rebuilds_the_model(tmp_path):
    model, path = scored(), tmp_path / "checkpoint"
    save_checkpoint(model, path)
    images = torch.from_numpy(images_of(2)[:, None])
    loaded = load_checkpoint(path, SMALL, model.scorer.description)
    assert torch.equal(score_images(loaded, images).score, score_images(model, images).score)
    first = path.read_bytes()
    save_checkpoint(loaded, path)
    assert path.read_bytes() == first


def test_tables_that_half_precision_can_hold_are_stored_in_it_without_a_loss(tmp_path):
    architecture = Architecture(name="gate", arguments={"latent_size": 2, "width": 32})
    model = scored(architecture)
    exact, exact_graph = tmp_path / "exact", export_graph(model)
    save_checkpoint(model, exact)
    with torch.no_grad():
        round_weights(model)
    save_checkpoint(model, tmp_path / "half")
    graph = export_graph(model)
    assert (tmp_path / "half").stat().st_size < 0.6 * exact.stat().st_size
    assert len(graph) < 0.7 * len(exact_graph)
    images = images_of(5)
    detector = uncalibrated_detector(graph, model.scorer.views)
    check_agreement(load_checkpoint(tmp_path / "half", architecture, model.scorer.description), detector, images)


def test_checkpoint_of_another_architecture_names_the_tensors(tmp_path):
    save_checkpoint(scored(), tmp_path / "checkpoint")
    with pytest.raises(RuntimeError, match=r"autoencoder\.encoder\.1\.weight"):
        load_checkpoint(tmp_path / "checkpoint", describe("gate", 4, "mse"), LossScore().description)
